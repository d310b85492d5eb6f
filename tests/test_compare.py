"""Two receipts side by side: each planted cause is named, and nothing is named without one."""

import json
from copy import deepcopy

import nbformat
import pytest

from reclab import compare, receipts, results
from reclab.errors import ReclabError


def receipt(**changes) -> dict:
    plain = {
        "schema": receipts.SCHEMA,
        "profile": "laptop",
        "seed": 0,
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
        "machine": {"processor": "A", "cpu_capability": "AVX2", "threads": 2, "gpu": None, "platform": "x"},
        "sources": {"rank.py": "aa", "cli.py": "bb"},
        "assets": {"movielens-100k": {"ml-100k.inter": "cc"}},
        "notebooks": [{"name": "05_click", "code": "dd", "seconds": 3.0}],
        "results": [{"key": "05.auc", "value": 0.75}, {"key": "05.nan", "value": "nan"}],
    }
    return deepcopy(plain) | changes


PLANTED = {
    "threads": ({"machine": receipt()["machine"] | {"threads": 8}}, "machine threads", "number of threads"),
    "torch": ({"versions": receipt()["versions"] | {"torch": "2.0"}}, "version torch", "another version"),
    "data": ({"assets": {"movielens-100k": {"ml-100k.inter": "zz"}}}, "movielens-100k/ml-100k.inter", "other data"),
    "notebook": ({"notebooks": [{"name": "05_click", "code": "zz"}]}, "code of 05_click", "notebook's code"),
    "package": ({"sources": {"rank.py": "zz", "cli.py": "bb"}}, "sources rank.py", "package's code"),
    "profile": ({"profile": "gpu"}, "profile", "another profile"),
    "seed": ({"seed": 1}, "seed", "another seed"),
}
MOVED = [{"key": "05.auc", "value": 0.76}, {"key": "05.nan", "value": "nan"}]


def test_equal_receipts_do_not_differ():
    assert compare.differences(receipt(), receipt()).empty


@pytest.mark.parametrize("name", PLANTED)
def test_the_planted_cause_is_named(name):
    changes, what, why = PLANTED[name]
    found = compare.differences(receipt(), receipt(**changes, results=MOVED))
    assert list(found["what"]) == [what, "05.auc"]
    assert found["likely why"].str.contains(why).all()


def test_of_two_causes_the_likelier_one_explains_the_results():
    both = PLANTED["torch"][0] | PLANTED["data"][0]
    found = compare.differences(receipt(), receipt(**both, results=MOVED))
    assert "other data" in found["likely why"].iloc[0] and "other data" in found["likely why"].iloc[-1]


def test_what_moves_no_number_is_no_difference():
    slower = [{"name": "05_click", "code": "dd", "seconds": 99.0}]
    tool = {"rank.py": "aa", "cli.py": "zz"}
    other = receipt(notebooks=slower, sources=tool, machine=receipt()["machine"] | {"platform": "y"})
    assert compare.differences(receipt(), other).empty
    rounding = [{"key": "05.auc", "value": 0.75 * (1 + 1e-12)}]
    assert compare.differences(receipt(), receipt(results=rounding)).empty


def test_results_that_differ_without_a_cause_say_so():
    found = compare.differences(receipt(), receipt(results=MOVED))
    assert "nothing else differs" in found["likely why"].iloc[0]


@pytest.mark.parametrize("other", [{}, {"schema": 99}, [], None])
def test_what_is_no_receipt_is_refused(other):
    with pytest.raises(ReclabError, match="two receipts of schema 1"):
        compare.differences(receipt(), other)


def certificate(monkeypatch, tmp_path, value, edit=False):
    monkeypatch.setenv("RECLAB_LEDGER", str(tmp_path))
    monkeypatch.setattr(results, "_ledger", {})
    results.check("09.fisher_p_men", value)
    published = compare.published("09")
    monkeypatch.setattr(compare, "present", lambda number: deepcopy(published))
    if edit:
        edited = deepcopy(published) | {"notebooks": [{"name": "09", "code": "edited"}]}
        monkeypatch.setattr(compare, "present", lambda number: edited)
    return compare.certificate(["09"]).loc["09"]


def test_a_certificate_counts_what_was_reproduced(monkeypatch, tmp_path):
    line = certificate(monkeypatch, tmp_path, 0.0392)
    assert (line["run"], line["within"], line["outside"]) == (1, 1, 0)
    assert line["published"] == len(results.bands("09"))
    assert (line["differs"], line["likely why"]) == ("nothing", "")


def test_a_certificate_says_why_a_result_lies_outside(monkeypatch, tmp_path):
    line = certificate(monkeypatch, tmp_path, 0.9, edit=True)
    assert line["outside"] == 1 and line["differs"] == "code of 07"
    assert "notebook's code was changed" in line["likely why"]


def test_an_edited_notebook_differs_from_the_published_one(monkeypatch, tmp_path):
    from reclab.series import find_notebooks, notebooks_folder

    (path,) = find_notebooks(["09"], notebooks_folder())
    node = nbformat.read(path, as_version=4)
    next(cell for cell in node.cells if cell.cell_type == "code" and "norm" in cell.source).source += "\nx = 1"
    (tmp_path / "notebooks").mkdir()
    nbformat.write(node, tmp_path / "notebooks" / path.name)
    before = compare.present("09")
    monkeypatch.chdir(tmp_path)
    assert compare.differences(before, compare.present("09"))["what"].to_list() == ["code of 07"]


def test_a_notebook_without_bands_has_no_certificate(monkeypatch):
    monkeypatch.setattr(results, "meta", lambda number: {})
    with pytest.raises(ReclabError, match="no bands are published for notebook 07"):
        compare.published("09")


@pytest.mark.parametrize("with_receipt", [True, False])
def test_what_is_published_is_the_stored_run_or_else_the_runs_of_the_bands(monkeypatch, tmp_path, with_receipt):
    bands = 'notebook = "of the bands"\nprofile = "laptop"\nsource = "of the bands"\nversion_torch = "1.0"\n'
    (tmp_path / "laptop" / "receipts").mkdir(parents=True)
    (tmp_path / "laptop" / "09.toml").write_text(f"[meta]\n{bands}", "utf-8")
    file, sources, code = tmp_path / "laptop" / "receipts" / "09.json", {"a.py": "1" * 64}, "2" * 64
    stored = json.loads((results.expected_folder() / "laptop" / "receipts" / "09.json").read_text("utf-8"))
    stored |= {"sources": sources, "versions": {"torch": "2.0"}}
    stored["notebooks"][0]["code"] = code
    if with_receipt:
        file.write_text(json.dumps(stored), "utf-8")
    monkeypatch.setattr(results, "expected_folder", lambda: tmp_path)
    found = compare.published("09")
    source = receipts.source_hash(sources)
    wanted = (code, source, "2.0") if with_receipt else ("of the bands", "of the bands", "1.0")
    assert (found["notebooks"], found["sources"], found["versions"]) == (
        [{"name": "09", "code": wanted[0]}],
        {"of the package": wanted[1]},
        {"torch": wanted[2]},
    )
    file.write_text('{"schema"', "utf-8")
    with pytest.raises(ReclabError, match="is not whole JSON"):
        compare.published("09")
