"""Planted faults: their text is there, a band catches them, and honest cells are not accused."""

import sys
from pathlib import Path

import nbformat
import pytest

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import mutants
import slices

from reclab import results

QUICK = [
    next(m for m in mutants.MUTANTS if m.name == name)
    for name in (
        "propensities are inverted",
        "titles keep their article at the end",
        "the judge's answers change places",
    )
]


def page(*cells):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def kept(keys, *cells):
    return [cell.source for cell in slices.cells_for(page(*cells), keys).cells]


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


def test_faults_are_in_every_notebook_and_their_results_have_bands():
    assert len(mutants.MUTANTS) >= 20
    without = {path.name[:2] for path in mutants.results.find_notebooks([], mutants.HERE / "notebooks")} - {
        m.notebook for m in mutants.MUTANTS
    }
    assert without == {"14"}, "what 14 shows is mostly stored"
    for mutant in mutants.MUTANTS:
        bands = results.bands(mutant.notebook, "laptop")
        assert all(any(slices.meet(band, key) for band in bands) for key in mutant.keys), mutant.name


@pytest.mark.parametrize("mutant", QUICK, ids=lambda m: m.name)
def test_a_band_catches_a_fault(mutant, tmp_path):
    line = mutants.caught(mutant, tmp_path, 0)
    assert line["bands"], "no band caught it"


def test_cells_without_a_fault_are_not_accused(tmp_path):
    line = mutants.honest("09", [m for m in mutants.MUTANTS if m.notebook == "09"], tmp_path)
    assert line["ok"]
    assert not line["bands"]


def test_a_fault_that_is_not_there_is_named():
    fault = mutants.Mutant("gone", "09", ("09.mean_weight",), "ope.py", "no such text", "")
    with pytest.raises(ValueError, match=r"'gone': its text stands 0 times in ope\.py"):
        mutants.replaced("source", fault)


# Which cells a result rests on


def test_only_what_a_result_rests_on_is_kept():
    cells = ["x = 1", "y = 2", 'check("00.x", x)', 'check("00.y", y)']
    assert kept(["00.x"], *cells) == ["x = 1", 'check("00.x", x)']
    assert kept(["00.*"], *cells) == cells


def test_changes_are_kept_and_what_was_overwritten_is_not():
    cells = ["x = [0]", "x = [1]", "x.append(2)", "x[0] = 3", "print(x)", 'check("00.x", sum(x))']
    assert kept(["00.x"], *cells) == ["x = [1]", "x.append(2)", "x[0] = 3", 'check("00.x", sum(x))']


def test_names_of_loops_functions_and_comprehensions_are_their_own():
    cells = [
        "name, n, row = 1, 2, 3",
        'for name in "ab":\n    n = 1\n    check(f"00.{name}", sum(row for row in [n]))',
    ]
    assert kept(["00.a"], *cells) == cells[1:]
    cells = ["z = 1", "def f(z):\n    y = z\n    return y", "f = lambda z: z", 'check("00.f", f(1))']
    assert kept(["00.f"], *cells) == cells[2:]


def test_what_a_function_reads_later_is_kept():
    cells = ["def f():\n    return g() + z", "def g():\n    return 1", "z = 5", 'check("00.f", f())']
    assert kept(["00.f"], *cells) == cells


def test_a_key_that_nothing_checks_is_named():
    with pytest.raises(ValueError, match=r"no cell checks 00\.z"):
        kept(["00.z"], 'check("00.x", 1)')
