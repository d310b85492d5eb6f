"""Planted faults: their text is there, a band catches one, and only the cells that a result rests on are run."""

import sys
from pathlib import Path

import nbformat
import pytest

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import mutants
import slices

from reclab import results


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda m: f"{m.notebook}: {m.name}")
def test_a_fault_can_be_planted(mutant):
    cells = mutants.planted(mutant, mutants.notebook(mutant.notebook)).cells
    assert any("check(" in cell.source or "show(" in cell.source for cell in cells)
    if mutant.where != mutants.NOTEBOOK:
        source = (mutants.HERE / "reclab" / mutant.where).read_text("utf-8")
        compile(mutants.replaced(source, mutant), mutant.where, "exec")
    else:
        assert sum(mutant.new in cell.source for cell in cells) >= 1
        [compile(cell.source, "cell", "exec") for cell in cells]
    bands = results.bands(mutant.notebook, "laptop")
    assert all(any(slices.meet(band, key) for band in bands) for key in mutant.keys)


def test_faults_are_in_every_notebook():
    numbers = {path.name[:2] for path in results.find_notebooks([], mutants.HERE / "notebooks")}
    assert numbers - {m.notebook for m in mutants.MUTANTS} == {"14"}, "what 14 shows is mostly stored"


def test_a_band_catches_a_fault(tmp_path):
    (mutant,) = [m for m in mutants.MUTANTS if m.name == "propensities are inverted"]
    line = mutants.caught(mutant, tmp_path, 0)
    assert line["bands"], "no band caught it"


def test_a_fault_that_is_not_there_is_named():
    fault = mutants.Mutant("gone", "09", ("09.mean_weight",), "ope.py", "no such text", "")
    with pytest.raises(ValueError, match=r"'gone': its text stands 0 times in ope\.py"):
        mutants.replaced("source", fault)


CHANGED = ["x = [0]", "x = [1]", "x.append(2)", "x[0] = 3", "print(x)", 'check("00.x", sum(x))']
LATER = ["def f():\n    return g() + z", "def g():\n    return 1", "z = 5", 'check("00.f", f())']


@pytest.mark.parametrize(
    ("cells", "keys", "kept"),
    [
        (["x = 1", "y = 2", 'check("00.x", x)', 'check("00.y", y)'], ["00.x"], [0, 2]),
        (["x = 1", "y = 2", 'check("00.x", x)', 'check("00.y", y)'], ["00.*"], [0, 1, 2, 3]),
        (CHANGED, ["00.x"], [1, 2, 3, 5]),
        (LATER, ["00.f"], [0, 1, 2, 3]),
    ],
)
def test_only_what_a_result_rests_on_is_kept(cells, keys, kept):
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    assert [cell.source for cell in slices.cells_for(page, keys).cells] == [cells[n] for n in kept]
