"""Grade a class offline: one table of scores, and a page of feedback for each student.

What was graded is kept beside the table, so a run that was stopped goes on where it was, and a second run grades only
what changed. Students who hand in something unreadable are graded on the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path

import jinja2
import pandas as pd

from . import __version__
from .errors import ReclabError
from .exercises import registry
from .grader import Kernel, needs_whole, score
from .masters import Master, Task, is_solution, marks, read_masters
from .results import notebooks_folder, write_atomically
from .submissions import Answers, Submission, answers_of, find_submissions, read_cells, which_master

TIMEOUT = 20
_MOST_KERNELS = 4


@dataclass
class Mark:
    """One exercise of one student."""

    name: str
    title: str
    points: float
    out_of: float
    message: str
    answer: str = ""


@dataclass
class Report:
    """All that is known of one student's work, and a key that changes when the work or the series does."""

    student: str
    key: str
    marks: list[Mark] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def points(self) -> float:
        """The sum of the student's points."""
        return sum(mark.points for mark in self.marks)


@dataclass(frozen=True)
class Handed:
    """A notebook that was handed in: its name, the master that it belongs to, and its answers."""

    file: str
    master: Master
    answers: Answers


def grade(
    submissions: Path,
    out: Path,
    masters_folder: Path,
    *,
    names: list[str] | None = None,
    timeout: float = TIMEOUT,
    kernels: int | None = None,
    say: Callable[[str], None] = print,
) -> list[Report]:
    """Grade every submission and write ``out`` and, in ``<out>_feedback``, a page for each student.

    Parameters
    ----------
    submissions : holds a folder, or a notebook, for each student.
    out : the CSV to write: a row for each student, a column for each exercise.
    masters_folder : holds the notebooks with the teacher's solutions.
    names : the notebooks that were set; those that anybody handed in where None.
    timeout : seconds that a student's cell, or a check, may take.
    kernels : students graded at the same time; one for each processor where None, at most four.
    say : told of each student who is done.

    Raises ReclabError: there is nothing to grade, a master fails its own check, or no kernel starts.
    """
    if timeout <= 0:
        raise ReclabError(f"the time for a cell has to be more than 0 seconds, got {timeout:g}")
    found, masters = find_submissions(submissions), read_masters(masters_folder, names)
    handed = {submission.student: _read(submission, masters) for submission in found}
    if not names:
        wanted = {one.master for ones, _ in handed.values() for one in ones}
        masters = [master for master in masters if master in wanted]
    run = _Run(masters, feedback_folder(out), timeout, len(found), say)
    reports = asyncio.run(run.all(found, handed, kernels or min(_MOST_KERNELS, os.cpu_count() or 1)))
    write_atomically(out, _table(reports, masters))
    return reports


def command(args: argparse.Namespace) -> int:
    """Run ``reclab grade SUBMISSIONS``; what was graded is kept, so that a run that stopped goes on where it was."""
    options = {"names": args.notebooks, "timeout": args.timeout, "kernels": args.kernels}
    reports = grade(args.submissions, args.out, notebooks_folder(), say=partial(print, flush=True), **options)
    for report in reports:
        if report.notes:
            print(f"  {report.student}: {'; '.join(report.notes)}")
    print(f"{len(reports)} graded: {args.out}; feedback: {feedback_folder(args.out)}")
    return 0


def feedback_folder(out: Path) -> Path:
    """Where the pages of feedback lie, beside the table."""
    return out.with_name(f"{out.stem}_feedback")


def _read(submission: Submission, masters: list[Master]) -> tuple[list[Handed], list[str]]:
    """What a student handed in, and notes on what cannot be graded."""
    handed, notes = [], [] if submission.paths else ["no notebook was handed in"]
    for path in submission.paths:
        try:
            cells = read_cells(path)
        except ReclabError as error:
            notes.append(str(error))
            continue
        master = which_master(path, cells, masters)
        if master is None:
            notes.append(f"{path.name} is none of the notebooks that are graded")
        else:
            handed.append(Handed(path.name, master, answers_of(cells, master)))
    return handed, notes


class _Run:
    """One run of grading: several students at a time, each in a kernel of their own."""

    def __init__(self, masters: list[Master], folder: Path, timeout: float, total: int, say: Callable):
        self.tasks = [task for master in masters for task in master.tasks]
        self.folder, self.timeout, self.total, self.say = folder, timeout, total, say
        self.done, self.whole = 0, dict.fromkeys(self.tasks, False)
        parts = [__version__, f"{timeout:g}", *(cell.source for master in masters for cell in master.cells)]
        parts.append(json.dumps(registry()))
        self.key = hashlib.sha256("\0".join(parts).encode()).hexdigest()

    async def all(self, found: list[Submission], handed: dict, kernels: int) -> list[Report]:
        keys = {one.student: hashlib.sha256((self.key + one.digest()).encode()).hexdigest() for one in found}
        reports = {student: report for student, key in keys.items() if (report := _kept(self.folder, student, key))}
        left = [one.student for one in found if one.student not in reports]
        if reports:
            self.say(f"{len(reports)} of {self.total} were graded before and have not changed")
        self.done = len(reports)
        if left:
            async with Kernel(self.timeout) as kernel:
                self.whole = {task: await needs_whole(kernel, task) for task in self.tasks}
        queue = iter(left)

        async def work() -> None:
            for student in queue:  # one iterator for all: each takes the next student
                reports[student] = await self._one(Report(student, keys[student]), *handed[student])

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(kernels, len(left))):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [reports[one.student] for one in found]

    async def _one(self, report: Report, handed: list[Handed], notes: list[str]) -> Report:
        report.notes = notes + [f"{one.file}: {note}" for one in handed for note in one.answers.notes]
        async with Kernel(self.timeout) as kernel:
            for task in self.tasks:
                report.marks.append(await self._mark(kernel, task, handed))
        _keep(report, self.folder)
        self.done += 1
        out_of = sum(mark.out_of for mark in report.marks)
        self.say(f"[{self.done}/{self.total}] {report.student}: {report.points:g} of {out_of:g}")
        return report

    async def _mark(self, kernel: Kernel, task: Task, handed: list[Handed]) -> Mark:
        """The best mark of all copies of the notebook that the student handed in."""
        best = Mark(task.name, task.title, 0.0, task.points, "the notebook was not handed in")
        for one in (one for one in handed if one.master is task.master):
            points, message = await score(kernel, task, one.answers, whole=self.whole[task])
            if points > best.points or not best.answer:
                best.points, best.message, best.answer = points, message, _answer(task, one.answers)
        return best


def _answer(task: Task, answers: Answers) -> str:
    """The answer that stands nearest above the check."""
    above = [marks(cell)["grade_id"] for cell in task.master.cells[: task.position] if is_solution(cell)]
    return answers.by_cell.get(above[-1], "") if above else ""


def _table(reports: list[Report], masters: list[Master]) -> str:
    """The scores as CSV."""
    tasks = [task for master in masters for task in master.tasks]
    out_of = f"{sum(task.points for task in tasks):g}"
    rows = [
        [one.student, f"{one.points:g}", out_of, *(f"{mark.points:g}" for mark in one.marks), "; ".join(one.notes)]
        for one in reports
    ]
    columns = ["student", "points", "out_of", *(task.name for task in tasks), "notes"]
    return pd.DataFrame(rows, columns=columns).to_csv(index=False, lineterminator="\n")


def _keep(report: Report, folder: Path) -> None:
    """Write a student's page, and then what a later run needs to go on."""
    source = resources.files(__package__).joinpath("feedback.html.j2").read_text("utf-8")
    page = jinja2.Environment(autoescape=True).from_string(source).render(report=report)
    write_atomically(folder / f"{report.student}.html", page)
    write_atomically(folder / ".graded" / f"{report.student}.json", json.dumps(asdict(report), indent=1))


def _kept(folder: Path, student: str, key: str) -> Report | None:
    """What an earlier run found of the same work; None where there is none, or it is damaged."""
    path = folder / ".graded" / f"{student}.json"
    try:
        content = json.loads(path.read_text("utf-8"))
        report = Report(student, content["key"], [Mark(**mark) for mark in content["marks"]], content["notes"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return report if report.key == key and (folder / f"{student}.html").is_file() else None
