"""What the series says of its time and memory is what the stored receipts of its runs say."""

import sys
from pathlib import Path

import pytest

from reclab import receipts
from reclab.results import read_notebook

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
    assert ran["peak_mib"] <= series.PEAK  # its seconds are held to a bar by series.py --check, on a quiet machine
