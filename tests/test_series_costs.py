"""What the series says of its time and memory is what the stored receipts of its runs say."""

import json
import sys
from pathlib import Path

import pytest

from reclab import receipts
from reclab.errors import ReclabError
from reclab.profiles import get_profile
from reclab.runner import Run
from reclab.series import read_notebook

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import series

README = series.README.read_text("utf-8")
PATHS = sorted(series.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def kept(path: Path) -> dict:
    file = series.NOTEBOOKS / series.RECEIPTS / f"{path.stem[:2]}.json"
    assert file.is_file(), f"no receipt; run python tests/benchmarks/series.py --store {path.stem[:2]}"
    return receipts.read_receipt(file)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem[:2])
def test_stated_time_and_memory_come_from_the_receipt(path):
    node, receipt = read_notebook(path), kept(path)
    (ran,) = receipt["notebooks"]
    assert (ran["name"], ran["ok"], receipt["profile"]) == (path.stem, True, "laptop")
    again = f"the lesson has changed; run python tests/benchmarks/series.py --store {path.stem[:2]}"
    assert ran["code"] == receipts.code_hash(node), again
    assert series.told(README, ran) == README, again
    seconds, mib = series.promised(node.cells[0].source)
    assert ran["seconds"] <= seconds and ran["peak_mib"] <= mib, "the first cell promises less than it took"
    assert ran["seconds"] <= series.SLACK * series.BUDGETS[path.stem[:2]] and ran["peak_mib"] <= series.PEAK


ROW = "| **01_a** | count | 9 | 8 (from a cache) | 1,509 |"


def test_a_row_of_the_readme_is_written_from_the_receipt(monkeypatch):
    monkeypatch.setitem(series.BUDGETS, "01", 45)
    ran = {"name": "01_a", "seconds": 7.6, "peak_mib": 1510.4}
    assert series.told(f"x\n{ROW}\ny", ran) == "x\n| **01_a** | count | 45 | 8 (from a cache) | 1,510 |\ny"
    assert series.told("| **01_a** | count | 45 | | |", ran) == "| **01_a** | count | 45 | 8 | 1,510 |"
    with pytest.raises(ReclabError, match="no row"):
        series.told(ROW, ran | {"name": "02_b"})


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("under two minutes and 1.6 GiB on the laptop profile.", (120, 1638.4)),
        ("about a minute and 1 GiB.", (75, 1024)),
        ("under a while and 1 GiB.", None),
        ("some.", None),
    ],
)
def test_a_promise_is_read_from_the_first_cell(said, found):
    if found:
        assert series.promised(f"# T\n\n**Time and memory:** {said}\n") == pytest.approx(found)
    else:
        with pytest.raises(ReclabError, match="first cell has to say"):
            series.promised(f"# T\n\n**Time and memory:** {said}\n")


def test_a_stored_receipt_is_one_and_tells_the_readme(tmp_path):
    path, readme = PATHS[0], tmp_path / "README.md"
    run = Run(path.stem[:2], path.stem, read_notebook(path), seconds=1.4, peak=99.6)
    readme.write_text(README, "utf-8")
    receipt = receipts.receipt([run], get_profile("laptop"), started="2026-01-01T00:00:00", complete=True)
    series.keep(run, receipt, tmp_path, readme)
    assert receipts.read_receipt(tmp_path / series.RECEIPTS / f"{run.number}.json") == json.loads(json.dumps(receipt))
    (line,) = [line for line in readme.read_text("utf-8").splitlines() if path.stem in line]
    assert line.endswith("| 1 | 100 |")
