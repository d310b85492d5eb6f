"""Write reclab/exercises.json: fingerprints of the teacher's solutions and of the known wrong answers.

    python tests/make_exercises.py

Run it after a solution in a notebook or an entry of exercise_answers.py has changed.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from exercise_answers import ANSWERS
from reclab.classroom import fingerprint
from reclab.results import write_atomically

ROOT = Path(__file__).parent.parent
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


def solution_cell(exercise: str) -> str:
    """The source of an exercise's solution cell: ``NN.n`` has the grade_id ``NN-exn``."""
    number, _, n = exercise.partition(".")
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    cells = json.loads(path.read_text("utf-8"))["cells"]
    (cell,) = [c for c in cells if c["metadata"].get("nbgrader", {}).get("grade_id") == f"{number}-ex{n}"]
    return "".join(cell["source"])


def blank(source: str) -> str:
    """A solution cell as the student gets it: what stands between the marks is taken out."""
    before, _, rest = source.partition(BEGIN)
    return before + "raise NotImplementedError" + rest.partition(END)[2]


def function_of(source: str):
    """The one function that a cell defines."""
    space = {"np": np, "pd": pd}
    exec(source, space)
    (function,) = [value for value in space.values() if callable(value)]
    return function


def entry(exercise: str) -> dict:
    answers = ANSWERS[exercise]
    right = fingerprint(exercise, function_of(solution_cell(exercise)), answers.probes)
    wrong = {fingerprint(exercise, function, answers.probes): hint for function, hint in answers.wrong}
    return {"probes": answers.probes, "right": right, "wrong": wrong, "hint": answers.hint}


def main() -> None:
    text = json.dumps({exercise: entry(exercise) for exercise in ANSWERS}, indent=1)
    write_atomically(ROOT / "reclab" / "exercises.json", text + "\n")


if __name__ == "__main__":
    main()
