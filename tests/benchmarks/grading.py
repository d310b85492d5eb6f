"""Measure the grading of a class: seconds, points that are as they must be, and that nobody is lost and nothing left.

    python tests/benchmarks/grading.py [--check]

Thirty students hand in ten notebooks each, with right, wrong and blank answers; then two hundred hand in one, and a
fifth of these hold endless loops, kill their process, cannot be read, or come with 60 MB of output.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
from measures import report, row

from reclab import classroom

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SECONDS = 60  # for the class of thirty, on two quiet cores
CORES = 2
TIMEOUT = 4  # of each answer of the two hundred
NAME = "09_off_policy_evaluation"
ENDLESS = "while True:\n    pass"
DEAD = "import os\nos._exit(1)"
LOUD = {"output_type": "stream", "name": "stdout", "text": ["x" * 79 + "\n"] * 750_000}  # 60 MB


def notebook(master: classroom.Master, answers: dict[str, str], output: dict | None = None) -> str:
    """A student's copy with answers in some of its cells, by their mark."""
    node = classroom.student_copy(master)
    for cell in node.cells:
        mark = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = answers.get(mark, cell.source)
        if output and mark in answers:
            cell.outputs = [output]
    return json.dumps(node)


def graded(folder: Path, **options) -> tuple[dict[str, classroom.Report], float, float]:
    """Reports by student, seconds by the clock, and seconds of the processor, that of all processes together."""
    clock, used = time.perf_counter(), sum(os.times()[:4])
    with contextlib.redirect_stdout(io.StringIO()):
        found = classroom.grade(folder / "in", folder / "scores.csv", NOTEBOOKS, **options)
    return {one.student: one for one in found}, time.perf_counter() - clock, sum(os.times()[:4]) - used


def of_thirty(folder: Path) -> list[dict]:
    """Student n answers all exercises but every (n + 2)nd, which stays blank, and one that is wrong."""
    masters = classroom.read_masters(NOTEBOOKS)[:10]
    tasks = [task for master in masters for task in master.tasks]
    expected = {}
    for n in range(30):
        solved = {task.answer.metadata["nbgrader"]["grade_id"]: task for k, task in enumerate(tasks) if k % (n + 2)}
        answers = {mark: task.answer.source for mark, task in solved.items()}
        mark, task = list(solved.items())[n % len(solved)]
        answers[mark] = f"def {task.functions[0]}(*given):\n    return 0.5"
        expected[f"s{n:02}"] = len(solved) - 1
        for master in masters:
            path = folder / "in" / f"s{n:02}" / f"{master.name}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(notebook(master, answers), "utf-8")
    reports, seconds, processor = graded(folder)
    wrong = sum(reports[student].points != points for student, points in expected.items())
    return [
        row("30 students x 10 notebooks, processor's seconds over two cores", processor / CORES, "s", most=SECONDS),
        row("30 students x 10 notebooks, by the clock", seconds, "s"),
        row("students of the thirty with other points than they earned", wrong, "", most=0),
    ]


def of_two_hundred(folder: Path) -> list[dict]:
    """Four of five hand in the right answer; the fifth is a loop, a dead process, a torn file or 60 MB of output."""
    (master,) = classroom.read_masters(NOTEBOOKS, ["09"])
    right = {task.answer.metadata["nbgrader"]["grade_id"]: task.answer.source for task in master.tasks}
    first = next(iter(right))
    whole, of = notebook(master, right), len(right)
    bad = [
        (notebook(master, right | {first: ENDLESS}), of - 1),
        (notebook(master, right | {first: DEAD}), of - 1),
        (whole[: len(whole) // 2], 0),
        (notebook(master, right, LOUD), of),
    ]
    expected = {}
    for n in range(200):
        text, expected[f"s{n:03}"] = bad[n // 5 % 4] if n % 5 == 0 else (whole, of)
        path = folder / "in" / f"s{n:03}" / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(text, "utf-8")
    reports, seconds, processor = graded(folder, timeout=TIMEOUT)
    wrong = sum(student not in reports or reports[student].points != expected[student] for student in expected)
    left = len(psutil.Process().children(recursive=True))
    return [
        row("200 hand-ins, a fifth of them bad, by the clock", seconds, "s"),
        row("200 hand-ins, processor's seconds", processor, "s"),
        row("of the 200: lost, or with other points than they earned", wrong, "", most=0),
        row("processes left behind", left, "", most=0),
    ]


def main(argv: list[str]) -> int:
    """Print the measurements; with ``--check``, return 1 where one misses its bar."""
    parser = argparse.ArgumentParser(description="Measure the grading of a class.")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    check = parser.parse_args(argv).check
    rows = []
    for measure in (of_thirty, of_two_hundred):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(Path(folder))
    return report(rows, check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
