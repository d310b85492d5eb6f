"""Results: the printed line, the verdict, the ledger, what the notebook test masks, and writing whole files only."""

import configparser
import errno
import os
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from reclab import __version__, results
from reclab.errors import ReclabError, UnknownNameError
from reclab.metrics import Interval
from reclab.results import (
    CORRELATION,
    OUTSIDE,
    RECORDED,
    SHARE,
    WITHIN,
    Result,
    check,
    find_notebooks,
    ledger,
    notebooks_folder,
    read_ledger,
    read_notebook,
    show,
    write_atomically,
)
from small_notebooks import write

NAN, INF = float("nan"), float("inf")
BANDS = """
[meta]
seeds = 20

[bands]
"02.auc" = { low = 0.9, high = 0.95 }
"02.count" = { low = 3, high = 3 }
"02.gap" = { low = -0.5, high = -0.25 }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Bands of notebook 02 on the laptop profile, an empty ledger, and all of it in ``tmp_path``."""
    expected = tmp_path / "expected" / "laptop"
    expected.mkdir(parents=True)
    expected.joinpath("02.toml").write_text(BANDS, "utf-8")
    monkeypatch.setattr(results, "expected_folder", lambda: tmp_path / "expected")
    monkeypatch.setattr(results, "_ledger", {})
    monkeypatch.setenv("RECLAB_LEDGER", str(tmp_path / "ledger"))
    monkeypatch.delenv("RECLAB_PROFILE", raising=False)
    return tmp_path


@pytest.fixture
def displayed(monkeypatch):
    """What cells displayed."""
    found = []
    monkeypatch.setattr("IPython.display.display", found.append)
    return found


# The line and the verdict

LINES = [
    ("02.auc", 0.93, WITHIN, "02.auc = 0.93"),
    ("02.auc", 0.950001, OUTSIDE, "02.auc = 0.95  OUTSIDE its band [0.9, 0.95]"),
    ("02.auc", NAN, OUTSIDE, "02.auc = nan  OUTSIDE its band [0.9, 0.95]"),
    ("02.auc", INF, OUTSIDE, "02.auc = inf  OUTSIDE its band [0.9, 0.95]"),
    ("02.count", 3, WITHIN, "02.count = 3"),
    ("02.auc", (0.931239, 0.92, 0.94), WITHIN, "02.auc = 0.9312 [0.92, 0.94]"),
    ("02.auc", Interval(0.8, 0.7, 0.92), OUTSIDE, "02.auc = 0.8 [0.7, 0.92]  OUTSIDE its band [0.9, 0.95]"),
    ("02.new", 0.5, RECORDED, "02.new = 0.5"),
    ("02.new", (12345.678, -1, 1e20), RECORDED, "02.new = 1.235e+04 [-1, 1e+20]"),
    ("03.auc", 0.93, RECORDED, "03.auc = 0.93"),  # another notebook's
]


@pytest.mark.parametrize(("key", "value", "verdict", "line"), LINES)
def test_check_prints_the_value_and_its_own_interval_and_never_raises(key, value, verdict, line, capsys, folder):
    check(key, value)
    assert capsys.readouterr().out == line + "\n"
    assert read_ledger(key[:2], folder / "ledger")[key].verdict == verdict


@pytest.mark.parametrize("value", [(1.0, 2.0), (1.0,) * 4, []])
def test_a_value_of_another_form_is_refused(value):
    with pytest.raises(ReclabError, match=r"^02\.auc: a result is a number or \(value, low, high\), got \W"):
        check("02.auc", value)


def test_the_interval_of_a_share_ends_where_shares_end_and_that_of_a_difference_does_not(folder):
    check("02.auc", (0.98, 0.9, 1.02), SHARE)
    check("02.count", (-0.99, -1.3, 0.2), CORRELATION)
    check("02.gap", (-0.98, -1.3, 0.2))
    found = read_ledger("02", folder / "ledger")
    assert found["02.auc"].interval == (0.9, 1.0) and found["02.auc"].possible == SHARE
    assert found["02.count"].interval == (-1.0, 0.2)
    assert found["02.gap"].interval == (-1.3, 0.2) and found["02.gap"].possible is None
    check("02.auc", 1 + 1e-15, SHARE)
    check("02.count", 1.01, SHARE)
    found = read_ledger("02", folder / "ledger")
    assert found["02.auc"].value == 1.0 and found["02.count"].value == 1.01, "a rounding is cut, a fault is not"


# The table of a question

ROWS = [
    ("02.auc", "AUC of <b> & co", (0.931239, 0.92, 0.94)),
    ("02.count", "films", 1682),
    ("02.new", "click rate", (0.0038, 0.00269, 0.005212), SHARE),
    ("02.gap", "regret", (-56.98, -58.83, -55.16)),
]


def shown(capsys, rows, **options):
    show("How <well>?", rows, **options)
    return capsys.readouterr().out.splitlines()


def table_of(html):
    soup = BeautifulSoup(html, "html.parser")
    return [[cell.text for cell in row(["th", "td"])] for row in soup("tr")], soup


def test_a_table_reads_in_words_with_two_or_three_digits_and_marks_only_what_is_outside(capsys):
    assert shown(capsys, ROWS) == [
        "How <well>?",
        "  AUC of <b> & co = 0.931 [0.920, 0.940]",
        "  films = 1,682  OUTSIDE its band",
        "  click rate = 0.0038 [0.0027, 0.0052]",
        "  regret = -57.0 [-58.8, -55.2]  OUTSIDE its band",
    ]


def test_the_same_table_as_html(displayed):
    show("How <well>?", ROWS)
    rows, soup = table_of(displayed[0]._repr_html_())
    assert soup.caption.text == "How <well>?" and not soup.b
    assert rows == [
        ["result", "value", "95% interval"],
        ["AUC of <b> & co", "0.931", "[0.920, 0.940]"],
        ["films", "1,682", "", "OUTSIDE its band"],
        ["click rate", "0.0038", "[0.0027, 0.0052]"],
        ["regret", "-57.0", "[-58.8, -55.2]", "OUTSIDE its band"],
    ]
    show("How many?", [ROWS[1]])
    assert table_of(displayed[1]._repr_html_())[0][0] == ["result", "value"], "no interval, no column of them"


def test_an_interval_of_another_level_says_so(displayed, folder):
    show("How sure?", ROWS[:1], level=0.99)
    assert repr(displayed[0]).splitlines()[0] == "How sure? (99% intervals)"
    assert table_of(displayed[0]._repr_html_())[0][0][2] == "99% interval"
    assert read_ledger("02", folder / "ledger")["02.auc"].level == 0.99
    ledger("02")
    assert "[0.92, 0.94] at 99%" in displayed[1]._repr_html_()


@pytest.mark.parametrize("key", ["auc", "2.auc", "02.", "02", "x2.auc", "002.auc"])
def test_a_key_without_a_notebook_number_is_refused(key, folder):
    with pytest.raises(ReclabError) as refused:
        show("How well?", [(key, "AUC", 1.0)])
    assert str(refused.value) == f"a result's key looks like '02.auc_finetuned', got {key!r}"
    assert not (folder / "ledger").exists()


# The ledger


def test_ledger_round_trip(folder):
    check("02.auc", (0.93, 0.92, 0.94))
    check("02.gap", NAN)
    check("02.new", 0.1 + 0.2)
    check("03.other", 4)
    back = read_ledger("02", folder / "ledger")
    assert list(back) == ["02.auc", "02.gap", "02.new"]
    assert back["02.auc"] == Result("02.auc", 0.93, 0.9, 0.95, WITHIN, (0.92, 0.94))
    assert back["02.new"] == Result("02.new", 0.1 + 0.2, None, None, RECORDED)
    assert back["02.gap"].value != back["02.gap"].value
    assert read_ledger("03", folder / "ledger") == {"03.other": Result("03.other", 4.0, None, None, RECORDED)}
    assert read_ledger("04", folder / "ledger") == {}
    assert sorted(path.name for path in (folder / "ledger").iterdir()) == ["02.json", "03.json"]


def test_a_result_checked_again_replaces_the_first(folder, capsys):
    check("02.auc", 0.8)
    check("02.auc", 0.93)
    capsys.readouterr()
    ledger("02")
    assert capsys.readouterr().out == "02: 1 results, 1 within their bands, 0 outside, 0 without a band\n"
    assert read_ledger("02", folder / "ledger")["02.auc"].value == 0.93


def test_the_ledger_folds_every_key_with_its_band(displayed):
    show("How well?", ROWS)
    check("02.gap", NAN)
    check("03.other", 1)
    ledger("02")
    line = "02: 4 results, 1 within their bands, 2 outside, 1 without a band"
    assert repr(displayed[1]).splitlines() == [line, "  OUTSIDE: 02.count", "  OUTSIDE: 02.gap"]
    rows, soup = table_of(displayed[1]._repr_html_())
    assert soup.details.summary.text == line
    assert rows == [
        ["key", "result", "value", "interval", "band", "verdict"],
        ["02.auc", "AUC of <b> & co", "0.9312", "[0.92, 0.94]", "[0.9, 0.95]", "within"],
        ["02.count", "films", "1682", "", "[3, 3]", "OUTSIDE"],
        ["02.new", "click rate", "0.0038", "[0.00269, 0.005212]", "none", "recorded"],
        ["02.gap", "", "nan", "", "[-0.5, -0.25]", "OUTSIDE"],
    ]


def test_ledgers_of_profiles_lie_apart_in_the_cache_unless_a_folder_is_given(folder, monkeypatch):
    assert results.ledger_folder() == folder / "ledger"
    monkeypatch.delenv("RECLAB_LEDGER")
    assert results.ledger_folder().parts[-4:] == ("reclab", "ledger", __version__, "laptop")
    monkeypatch.setenv("RECLAB_PROFILE", "gpu")
    assert results.ledger_folder().parts[-4:] == ("reclab", "ledger", __version__, "gpu")


# Bands


def test_bands_are_read_for_a_profile():
    assert results.bands("02")["02.count"] == {"low": 3, "high": 3}
    assert results.bands("02", "laptop").keys() == {"02.auc", "02.count", "02.gap"}
    assert results.bands("02", "gpu") == {}
    assert results.bands("05") == {}


def test_bands_lie_beside_the_notebooks_of_a_checkout_or_in_the_package(tmp_path, monkeypatch):
    monkeypatch.undo()
    assert results.expected_folder() == Path(results.__file__).parents[1] / "notebooks" / "expected"
    installed = tmp_path / "site-packages" / "reclab"
    monkeypatch.setattr(results, "__file__", str(installed / "results.py"))
    assert results.expected_folder() == installed / "expected"


# What the notebook test masks


@pytest.fixture(scope="module")
def mask():
    config = configparser.ConfigParser()
    assert config.read(Path(__file__).with_name("nbval_sanitize.cfg"))
    rules = [(config[name]["regex"], config[name]["replace"]) for name in config.sections()]

    def apply(text):
        for regex, replace in rules:
            text = re.sub(regex, replace, text)
        return text

    return apply


def test_the_mask_hides_every_finite_value_and_its_interval(mask, capsys, displayed):
    seen = set()
    for exponent in range(-12, 22):
        for sign in (1, -1):
            value = sign * 1.23456 * 10.0**exponent
            for own in ((), (value - 1, value + 1)):
                check("02.gap", (value, *own))
                show("How?", [("02.gap", "a = b", (value, *own))])
                ledger("02")
                said = [capsys.readouterr().out, *map(repr, displayed[-2:]), *(d._repr_html_() for d in displayed[-2:])]
                seen.add(tuple(map(mask, said)))
    assert len(seen) == 2, "one with an interval, and one without"
    for line, table, book, html, folded in seen:
        own = " [INTERVAL]" in line
        assert line.startswith("02.gap = VALUE") and table.splitlines()[1].startswith("  a = b = VALUE")
        assert book.startswith("02: 1 results") and html.count(">VALUE<") == 1 + own == folded.count(">VALUE<")


def test_the_mask_tells_marks_keys_and_nan_apart(mask):
    lines = [
        "02.auc = 0.93",
        "02.auc = 0.93  OUTSIDE its band [0.9, 0.95]",
        "02.auc = nan",
        "02.map = 0.93",
        "  AUC = 0.93",
        "  AUC = 0.93  OUTSIDE its band",
        "  AUC = nan",
        "  MAP = 0.93",
        '<td class="number">0.93</td>',
        '<td class="number">nan</td>',
        '<td class="number">0.93</td><td><strong>OUTSIDE its band</strong></td>',
    ]
    assert len({mask(line) for line in lines}) == len(lines)
    for line in (lines[0], lines[4]):
        own = line.replace("0.93", "0.93 [0.1, 2]")
        assert mask(line) == mask(line.replace("0.93", "-1.5e-07")) != mask(own)
        assert mask(own) == mask(line.replace("0.93", "-1,234.5 [-1,300.0, 2.0]"))


@pytest.mark.parametrize("text", ["learning rate = 0.93", "a = 3  b = 4", "<td>0.93</td>", "{'auc': 0.93}"])
def test_mask_leaves_other_numbers_alone(mask, text):
    assert mask(text) == text


# Writing whole files only


def test_write_makes_folders_and_replaces_the_file(tmp_path):
    path = tmp_path / "new" / "folder" / "a.json"
    write_atomically(path, "Größe\n")
    assert path.read_bytes() == "Größe\n".encode()
    write_atomically(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert list(path.parent.iterdir()) == [path]


FAULTS = [errno.ENOSPC, errno.EROFS, errno.EACCES]


@pytest.mark.parametrize("error", [*(OSError(code, os.strerror(code)) for code in FAULTS), KeyboardInterrupt()])
@pytest.mark.parametrize("method", ["mkdir", "write_bytes", "replace"])
def test_a_full_disk_or_an_interrupt_leaves_the_old_file(tmp_path, monkeypatch, method, error):
    path, write_bytes = tmp_path / "out" / "a.json", Path.write_bytes
    write_atomically(path, "old")

    def fail(self, *arguments, **options):
        if method == "write_bytes":
            write_bytes(self, b"half")
        raise error

    monkeypatch.setattr(Path, method, fail)
    with pytest.raises((ReclabError, KeyboardInterrupt)) as refused:
        write_atomically(path, "new and longer")
    if isinstance(error, OSError):
        assert str(refused.value) == f"cannot write {path} ({error.strerror}); free some space or choose another folder"
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_the_users_own_ledger_is_done_without_and_that_of_a_run_is_not(folder, monkeypatch, capsys):
    (folder / "file").write_text("")
    monkeypatch.setenv("RECLAB_LEDGER", str(folder / "file"))
    with pytest.raises(ReclabError, match=r"^cannot write .*02\.json \("):
        check("02.auc", 0.93)
    monkeypatch.delenv("RECLAB_LEDGER")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: folder / "file")
    with pytest.warns(UserWarning, match="file/ledger/.* cannot be written.* set RECLAB_LEDGER to"):
        check("02.auc", 0.93)
    assert "02.auc = 0.93" in capsys.readouterr().out


# --- the notebooks of the series


@pytest.mark.parametrize("content", ["", "<html>", "{}", '{"cells": 3, "nbformat": 4}', None])
def test_a_file_that_is_no_notebook_is_one_clear_line(tmp_path, content):
    path = tmp_path / "02_a.ipynb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ReclabError, match=r"02_a\.ipynb is not a notebook that can be read") as caught:
        read_notebook(path)
    assert "\n" not in str(caught.value)


def test_notebooks_are_found_by_number_or_name(tmp_path):
    for name in ("00_start", "02_bert", "12_end"):
        write(tmp_path, name)
    (tmp_path / "scratch.ipynb").write_text("")

    def find(*names):
        return [path.stem for path in find_notebooks(list(names), tmp_path)]

    assert find() == ["00_start", "02_bert", "12_end"]
    assert find("12", "2", "02") == ["02_bert", "12_end"]
    assert find("0", "02_bert.ipynb", "notebooks/12_end.ipynb") == ["00_start", "02_bert", "12_end"]
    with pytest.raises(UnknownNameError, match="no notebook named '7'; choose one of: 00_start, 02_bert, 12_end"):
        find("02", "7")


def test_the_series_of_the_current_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "__file__", str(tmp_path / "checkout" / "reclab" / "results.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReclabError, match="no notebooks here; change to the folder of your clone"):
        notebooks_folder()
    write(tmp_path / "checkout" / "notebooks", "00_a")
    assert notebooks_folder() == tmp_path / "checkout" / "notebooks"
    write(tmp_path / "notebooks", "00_a")
    assert notebooks_folder() == tmp_path / "notebooks"
