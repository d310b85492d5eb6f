"""Every exercise proves itself: solution right, blank none, wrong answers their hint, other right answers right."""

import re
from pathlib import Path

import numpy as np
import pytest
from exercise_answers import ANSWERS
from make_exercises import blank, entry, function_of, solution_cell

from reclab import exercises
from reclab.errors import UnknownNameError
from reclab.masters import Task, read_masters

MASTERS = read_masters(Path(__file__).parent.parent / "notebooks")

WRONG = [(name, *wrong) for name, exercise in ANSWERS.items() for wrong in exercise.wrong]
ALTERNATIVES = [(name, function) for name, exercise in ANSWERS.items() for function in exercise.alternatives]


def test_registry_is_up_to_date():
    assert exercises.registry() == {name: entry(name) for name in ANSWERS}, "run python tests/make_exercises.py"


@pytest.mark.parametrize("name", ANSWERS)
def test_solution_is_right(name, capsys):
    exercises.check(name, function_of(solution_cell(name)))
    assert capsys.readouterr().out == f"exercise {name}: right\n"


@pytest.mark.parametrize("name", ANSWERS)
def test_blank_gets_nothing(name):
    with pytest.raises(exercises.NotYet, match="returns nothing yet"):
        exercises.check(name, function_of(blank(solution_cell(name))))


@pytest.mark.parametrize(("name", "function", "hint"), WRONG)
def test_wrong_answer_gets_its_hint(name, function, hint):
    with pytest.raises(exercises.NotYet) as refused:
        exercises.check(name, function)
    assert str(refused.value).endswith(f"Hint: {hint}")


@pytest.mark.parametrize("name", ANSWERS)
def test_each_exercise_knows_three_wrong_answers(name):
    assert len(exercises.registry()[name]["wrong"]) >= 3  # two wrong answers with one fingerprint would be one


@pytest.mark.parametrize(("name", "function"), ALTERNATIVES)
def test_another_right_answer_is_right(name, function, capsys):
    exercises.check(name, function)
    assert "right" in capsys.readouterr().out


def instructions(task: Task) -> str:
    """The Markdown cell that sets an exercise, from its heading on."""
    for cell in reversed(task.master.cells[: task.position]):
        if cell.cell_type == "markdown" and (at := cell.source.find(f"## {task.title}")) >= 0:
            return cell.source[at:]
    raise AssertionError(f"no cell sets {task.title}")


WITH_A_LAB = {master.name[:2] for master in MASTERS} - {"00", "16"}
LABS = [
    task for master in MASTERS if master.name[:2] in WITH_A_LAB for task in master.tasks if "Break it" in task.title
]


@pytest.mark.parametrize("task", LABS, ids=lambda task: task.name)
def test_the_broken_code_of_a_lab_is_known(task):
    (broken,) = re.findall(r"(?s)```python\n(.*?)```", instructions(task))
    with pytest.raises(exercises.NotYet, match="Hint: this is the broken function"):
        exercises.check(task.name, function_of(broken))


@pytest.mark.parametrize("master", MASTERS, ids=lambda master: master.name)
def test_each_notebook_has_exercises_in_steps_and_a_lab(master):
    if master.name[:2] in WITH_A_LAB:
        assert sum("Break it" in task.title for task in master.tasks) == 1
        assert len(master.tasks) >= 4
    for task in master.tasks if master.name[:2] in WITH_A_LAB | {"00"} else []:
        text = instructions(task)
        assert text.count("<details><summary>") >= 3, f"{task.name} has no hints in steps"
        assert "**You practise:**" in text and "**Often believed:**" in text, task.name


def test_other_wrong_answers_get_the_first_hint():
    with pytest.raises(exercises.NotYet, match="Hint: each option contributes"):
        exercises.check("07.1", lambda policy, weights, rates: 0.123)


def test_a_failing_answer_says_how_it_failed():
    with pytest.raises(exercises.NotYet, match="ZeroDivisionError"):
        exercises.check("07.1", lambda policy, weights, rates: 1 / 0)


def test_unknown_exercise_is_named():
    with pytest.raises(UnknownNameError, match=r"no exercise named '99.9'"):
        exercises.check("99.9", lambda: 0)


def test_fingerprints_hold_the_last_bits_of_a_float_loosely():
    one = exercises.fingerprint("x", lambda a: a * 3, [[0.1]])
    assert one == exercises.fingerprint("x", lambda a: a + a + a, [[0.1]])
    assert one != exercises.fingerprint("x", lambda a: a * 3.001, [[0.1]])
    assert exercises.fingerprint("x", lambda a: np.zeros(2), [[0.1]]) == exercises.fingerprint(
        "x", lambda a: [0, -0.0], [[0.1]]
    )


def test_no_answer_lies_in_plain_sight():
    text = str(exercises.registry())
    assert "lambda" not in text and "def " not in text


def test_a_notebook_shows_the_hint_without_a_traceback():
    assert exercises.NotYet("hint")._render_traceback_() == ["hint"]
