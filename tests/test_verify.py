"""`reclab verify` names the planted cause, refuses what is no receipt, and loses no student of a class."""

import copy
import json
import re
import subprocess
import sys
from importlib import metadata

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from jsonschema import Draft202012Validator

from reclab import cli, compare, receipts, results, verify
from reclab.errors import ReclabError
from reclab.profiles import get_profile
from reclab.runner import Run
from reclab.series import find_notebooks, notebooks_folder, read_notebook

NAMES = ("09", "10")


@pytest.fixture(scope="module")
def mine():
    """A receipt as `reclab run` makes it, with results inside their bands."""
    runs = []
    for path in find_notebooks(list(NAMES), notebooks_folder()):
        number = path.stem[:2]
        made = Run(number, path.stem, read_notebook(path))
        for key, band in results.bands(number, "laptop").items():
            made.results[key] = results.Result(key, band["mean"], band["low"], band["high"], results.WITHIN)
        runs.append(made)
    return receipts.receipt(runs, get_profile("laptop"), started="2026-01-01T00:00:00", complete=True)


def changed(mine, change):
    other = copy.deepcopy(mine)
    change(other)
    return other


def threads(receipt):
    receipt["machine"]["threads"] = 16


def torch(receipt):
    receipt["versions"]["torch"] = "2.6.0"


def data_file(receipt):
    receipt["assets"]["movielens-100k"]["ml-100k.inter"] = "0" * 64


def notebook(receipt):
    receipt["notebooks"][0]["code"] = "0" * 64


def profile(receipt):
    receipt["profile"] = "gpu"


PLANTED = {
    threads: ("machine threads", "number of threads"),
    torch: ("version torch", "version of a library"),
    data_file: ("movielens-100k/ml-100k.inter", "other data"),
    notebook: ("code of 09_off_policy_evaluation", "notebook's code was changed"),
    profile: ("profile", "another profile"),
}


@pytest.mark.parametrize("change", PLANTED, ids=lambda change: change.__name__)
def test_the_planted_cause_is_named(mine, change, tmp_path, capsys):
    other = changed(mine, change)
    other["results"][0]["value"] += 1
    for name, content in {"mine": mine, "other": other}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    page = tmp_path / "report.html"
    assert cli.main(["verify", *(str(tmp_path / f"{n}.json") for n in ("mine", "other")), "--html", str(page)]) == 0
    what, why = PLANTED[change]
    table = verify.against(mine, other)
    assert table["what"].tolist() == [what, mine["results"][0]["key"]]
    assert table["likely why"].str.contains(why).all(), "the moved result is laid to the planted cause"
    shown = capsys.readouterr().out
    assert what in shown
    assert why in shown
    cells = [cell.get_text() for cell in BeautifulSoup(page.read_text("utf-8"), "html.parser").select("td")]
    assert what in cells


def test_a_receipt_records_the_threads_the_torch_the_profile_and_the_code_that_ran(mine, monkeypatch):
    """The planted causes once more, as they arise: in what surrounds the run, not in its receipt."""
    (path,) = find_notebooks(["09"], notebooks_folder())
    node, version = read_notebook(path), metadata.version
    next(cell for cell in node.cells if cell.cell_type == "code" and "check(" in cell.source).source += "\nx = 1"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more than the processor has would be cut to what it has
    monkeypatch.setattr(receipts, "machine", receipts.machine.__wrapped__)  # it is asked once a process
    monkeypatch.setattr(metadata, "version", lambda name: "2.6.0" if name == "torch" else version(name))
    runs = [Run("09", path.stem, node), Run("10", mine["notebooks"][1]["name"], read_notebook(path))]
    other = receipts.receipt(runs, get_profile("gpu"), started="", complete=True)
    assert other["machine"]["threads"] == 1
    named = set(verify.against(changed(mine, threads), other)["what"])
    assert named >= {"machine threads", "version torch", "profile", f"code of {path.stem}"}


def test_a_receipt_is_what_its_schema_says(mine):
    Draft202012Validator.check_schema(verify.schema())
    assert not list(Draft202012Validator(verify.schema()).iter_errors(mine))
    properties = verify.schema()["properties"]
    assert set(properties) == set(mine), "each part of a receipt is documented"
    assert set(properties["notebooks"]["items"]["properties"]) == set(mine["notebooks"][0])
    assert set(properties["results"]["items"]["properties"]) == set(mine["results"][0])
    assert set(properties["machine"]["properties"]) == set(mine["machine"])


def test_the_same_run_differs_in_nothing(mine):
    assert verify.against(mine, copy.deepcopy(mine)).empty


def test_against_what_is_published_an_edited_notebook_is_named(mine):
    before = set(verify.against(mine)["what"])
    after = set(verify.against(changed(mine, notebook))["what"])
    assert "code of 09_off_policy_evaluation" in after
    assert after >= before
    renamed = changed(mine, lambda receipt: receipt["sources"].update({"ope.py": "0" * 64}))
    assert "sources of the package" in set(verify.against(renamed)["what"])


def test_a_result_outside_its_band_is_said_and_sets_the_status(mine, tmp_path, capsys):
    def outside(receipt):
        receipt["results"][3] |= {"verdict": results.OUTSIDE, "value": 99.0}
        receipt["notebooks"][1] |= {"error": "MemoryError: none left", "ok": False}

    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(changed(mine, outside)))
    assert cli.main(["verify", str(path)]) == 1
    shown = capsys.readouterr().out
    assert mine["results"][3]["key"] in shown
    assert "MemoryError: none left" in shown


BAD = {
    "not JSON": ('{"schema": 1, "versions": ', "is not whole JSON"),
    "a list": ("[1, 2]", "is no receipt"),
    "another version": ('{"schema": 99}', "is a receipt of schema 99, this reclab reads 1"),
    "cut": ('{"schema": 1, "profile": "laptop"}', r"was changed or cut short, at \$: 'started' is a required property"),
    "a word for a number": ("a word", r"at \$\.results\[0\]"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_what_is_no_receipt_is_refused(content, message, mine, tmp_path, capsys):
    path = tmp_path / "receipt.json"
    word = changed(mine, lambda receipt: receipt["results"][0].update(value="high"))
    path.write_text(json.dumps(word) if content == "a word" else content)
    assert cli.main(["verify", str(path)]) == 1
    assert re.search(message, capsys.readouterr().err)
    with pytest.raises(ReclabError, match="cannot read"):
        verify.read_receipt(tmp_path / "nowhere.json")


def test_a_class_gets_a_line_for_each_and_bad_receipts_hide_none(mine, tmp_path, capsys):
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "receipt.json").write_text(json.dumps(mine))
    (tmp_path / "bob.json").write_text(json.dumps(changed(mine, torch)))
    (tmp_path / "<b>eve.json").write_text('{"schema": 1')
    table = verify.class_report(tmp_path, mine).set_index("name")
    assert sorted(table.index) == ["<b>eve", "ada", "bob"]
    assert table.loc["ada", "differs"] == "nothing"
    assert table.loc["ada", "within"] == len(mine["results"])
    assert table.loc["bob", "differs"] == "version torch"
    assert "not whole JSON" in table.loc["<b>eve", "trouble"]
    page = tmp_path / "class.html"
    assert cli.main(["verify", str(tmp_path), "--html", str(page)]) == 0
    assert "<b>eve" not in page.read_text("utf-8")
    assert "bob" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReclabError, match="no receipts in"):
        verify.class_report(tmp_path / "empty")


def test_a_moved_result_is_no_cause_of_its_own(mine, tmp_path):
    moved = changed(changed(mine, torch), lambda receipt: receipt["results"][0].update(value=-7.0))
    only = changed(mine, lambda receipt: receipt["results"][0].update(value=-7.0))
    for name, content in {"moved": moved, "same": mine, "only": only, "torch": changed(mine, torch)}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    table = verify.class_report(tmp_path, mine).set_index("name")[["differs", "likely why"]]
    assert table.loc["moved"].tolist() == ["version torch", compare.CAUSES["versions"]]
    assert table.loc["same"].tolist() == ["nothing", ""]
    assert table.loc["torch"].tolist() == ["version torch", ""], "no result moved, so none asks for a reason"
    assert table.loc["only", "differs"] == "results alone"
    assert "nothing else differs" in table.loc["only", "likely why"]


def test_the_bands_of_a_notebook_are_read_once_for_a_class(mine, tmp_path, monkeypatch):
    asked, published = [], compare.published
    monkeypatch.setattr(compare, "published", lambda number: asked.append(number) or published(number))
    for name in "abc":
        (tmp_path / f"{name}.json").write_text(json.dumps(mine))
    assert len(verify.class_report(tmp_path)) == 3
    assert asked == list(NAMES)


def test_each_notebook_is_compared_with_the_run_of_its_own_bands(mine):
    def published(number):
        return compare.published(number) | {"versions": {"torch": f"2.{number}"}}

    table = verify.against(changed(mine, notebook), published=published)
    assert table.loc[table["what"] == "version torch", "theirs"].tolist() == ["2.07", "2.08"]
    assert table["what"].iloc[0] == "code of 09_off_policy_evaluation"
    assert verify.against(changed(mine, lambda receipt: receipt["notebooks"].clear())).empty


def test_the_folder_of_a_run_is_read_as_its_receipt(mine, tmp_path, capsys):
    shown = []
    (tmp_path / "receipt.json").write_text(json.dumps(mine))
    for given in (tmp_path, tmp_path / "receipt.json"):
        assert cli.main(["verify", str(given)]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "What differs" in shown[0]


def test_causes_come_in_the_order_of_their_likelihood(mine):
    other = changed(changed(mine, threads), notebook)
    assert verify.against(mine, other)["likely why"].tolist() == [
        compare.CAUSES["notebooks"],
        compare.CAUSES["machine"],
    ]
    assert isinstance(verify.against(mine, other), pd.DataFrame)


def test_the_command_line_does_not_load_tables_before_it_needs_them():
    code = "import sys, reclab.cli; sys.exit('pandas' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
