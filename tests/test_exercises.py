"""Every exercise proves itself: solution right, blank none, wrong answers their hint, other right answers right."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from exercise_answers import ANSWERS
from make_exercises import blank, entry, function_of, solution_cell
from reclab import classroom
from reclab.errors import UnknownNameError

MASTERS = classroom.read_masters(Path(__file__).parent.parent / "notebooks")
# Each of these closes with four exercises or more, one of them a function to repair.
WITH_A_LAB = [master for master in MASTERS if master.name[:2] not in ("00", "16")]

WRONG = [(name, *wrong) for name, exercise in ANSWERS.items() for wrong in exercise.wrong]
ALTERNATIVES = [(name, function) for name, exercise in ANSWERS.items() for function in exercise.alternatives]


def test_registry_is_up_to_date():
    assert classroom.registry() == {name: entry(name) for name in ANSWERS}, "run python tests/make_exercises.py"


@pytest.mark.parametrize("name", ANSWERS)
def test_solution_is_right_and_a_blank_says_so_and_goes_on(name, capsys, monkeypatch):
    classroom.check(name, function_of(solution_cell(name)))
    assert capsys.readouterr().out == f"exercise {name}: right\n"
    untouched = function_of(blank(solution_cell(name)))
    classroom.check(name, untouched)
    assert capsys.readouterr().out.startswith(f"exercise {name}: not answered yet; write your answer")
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(classroom.NotYet, match="not answered yet"):  # nbgrader gives points to what does not fail
        classroom.check(name, untouched)


@pytest.mark.parametrize(("name", "function", "hint"), WRONG)
def test_wrong_answer_gets_its_hint(name, function, hint):
    with pytest.raises(classroom.NotYet) as refused:
        classroom.check(name, function)
    assert str(refused.value).endswith(f"Hint: {hint}")


@pytest.mark.parametrize(("name", "function"), ALTERNATIVES)
def test_another_right_answer_is_right(name, function, capsys):
    classroom.check(name, function)
    assert "right" in capsys.readouterr().out


def test_each_exercise_knows_three_wrong_answers():
    few = [name for name, known in classroom.registry().items() if len(known["wrong"]) < 3]
    assert not few  # two wrong answers with one fingerprint would be one


@pytest.mark.parametrize("master", WITH_A_LAB, ids=lambda master: master.name)
def test_each_lesson_closes_with_exercises_in_steps_and_a_lab(master):
    text = "\n".join(cell.source for cell in master.node.cells if cell.cell_type == "markdown")
    sections = dict(zip(master.tasks, re.split(r"\n## Exercise ", text)[1:], strict=True))
    assert len(sections) >= 4
    for task, section in sections.items():
        assert section.count("<details><summary>") >= 3, f"{task.name} has no hints in steps"
        assert "**You practise:**" in section and "**Often believed:**" in section, task.name
    ((task, lab),) = [found for found in sections.items() if "Break it" in found[1].splitlines()[0]]
    (broken,) = re.findall(r"(?s)```python\n(.*?)```", lab)
    with pytest.raises(classroom.NotYet, match="Hint: this is the broken function"):
        classroom.check(task.name, function_of(broken))


@pytest.mark.parametrize("master", MASTERS, ids=lambda master: master.name)
def test_run_all_goes_on_where_an_answer_is_missing(master):
    """A cell of the lesson that calls a student's function has to catch what a blank one raises."""
    functions = "|".join(name for task in master.tasks for name in task.functions)
    for cell in master.node.cells:
        calls = re.search(rf"(?<![.\w])({functions})\(", cell.source)
        if cell.cell_type == "code" and "nbgrader" not in cell.metadata and calls:
            assert "NotImplementedError" in cell.source, f"{cell.id} calls {calls[1]}"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda policy, weights, rates: 0.123, "Hint: each option contributes"),
        (lambda policy, weights, rates: 1 / 0, "stopped with ZeroDivisionError"),
        (lambda policy, weights, rates: None, "returns nothing yet"),
        (lambda policy, weights, rates: (n for n in rates), "stopped with TypeError"),
        (lambda policy, weights, rates: [[1, 2], [3]], "Hint: each option contributes"),
        (lambda policy, weights: 0, "stopped with TypeError"),
    ],
)
def test_any_other_answer_is_told_what_is_wrong(function, words):
    with pytest.raises(classroom.NotYet, match=words):
        classroom.check("07.1", function)


def test_unknown_exercise_is_named():
    with pytest.raises(UnknownNameError, match=r"no exercise named '99.9'"):
        classroom.check("99.9", lambda: 0)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (lambda a: a * 3, lambda a: a + a + a, True),  # they differ in the last bit
        (lambda a: a * 3, lambda a: a * 3.001, False),
        (lambda a: np.zeros(2), lambda a: [0, -0.0], True),
        (lambda a: pd.Series([1, 2]), lambda a: (1.0, np.float32(2)), True),
        (lambda a: {np.int64(10): 1, 2: True}, lambda a: {"2": np.True_, "10": 1.0}, True),
        (lambda a: ["a", ["b"]], lambda a: (np.str_("a"), np.array(["b"])), True),
        (lambda a: True, lambda a: 1, False),
    ],
)
def test_answers_are_alike_by_value(one, other, alike):
    found = [classroom.fingerprint("x", function, [[0.1]]) for function in (one, other)]
    assert (found[0] == found[1]) == alike
