"""Exercises that check themselves, the students' edition, and the grading of what is handed in.

An exercise is a function of numbers, texts and arrays that returns the same. Its cells carry
nbgrader's marks (schema 3), so a school that has nbgrader uses the same files. Only fingerprints of
right and of known wrong answers are stored; ``tests/make_exercises.py`` makes them.

An answer is graded in a process of its own, under a clock and a limit of memory, with NumPy, pandas
and what its lesson imports. A tag ``needs: torch`` or ``needs: reclab`` has that imported once for
the class. The check is judged in another process, by what the answer's functions returned, so no
answer can change how it is judged. Students' code runs with the rights of whoever grades.
"""

from __future__ import annotations

import argparse
import ast
import copy
import csv
import ctypes
import hashlib
import io
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import resources
from pathlib import Path

import numpy as np
import psutil

from .errors import ReclabError, UnknownNameError, one_line
from .results import find_notebooks, notebooks_folder, read_notebook, write_atomically

STUB = ("# YOUR CODE HERE", "raise NotImplementedError()")
TIMEOUT = 20
_BLANK = f"not answered yet; write your answer in place of {STUB[-1]}"
_START = 120  # seconds in which a process has to start and to import
_MEMORY = 2  # GiB that an answer may hold
_LARGEST = 256  # MiB of a file that is read, or of what an answer returns
_MOST_TRIES = 5  # answers of one exercise in one notebook
# A fork has what was imported before it. Elsewhere (on macOS it may crash) a fresh process imports.
_PROCESSES = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


class NotYet(ReclabError, AssertionError):
    """An answer that is not right yet: its hint. In a notebook it shows without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def check(exercise: str, function: Callable) -> None:
    """Call a student's function on the inputs of ``NN.n``; say that it is right, or still blank.

    Raises NotYet: the answer fails or is wrong; says which hint applies.
    Raises UnknownNameError: no such exercise.
    """
    known = registry()
    if exercise not in known:
        raise UnknownNameError("exercise", exercise, known)
    entry = known[exercise]
    try:
        found = fingerprint(exercise, function, entry["probes"])
    except NotImplementedError:
        if "NBGRADER_EXECUTION" in os.environ:  # there, a cell that does not fail earns its points
            raise NotYet(f"exercise {exercise}: {_BLANK}") from None
        print(f"exercise {exercise}: {_BLANK}, then run this cell again")
        return
    if found != entry["right"]:
        hint = entry["wrong"].get(found, entry["hint"])
        raise NotYet(f"exercise {exercise}: not yet. Hint: {hint}")
    print(f"exercise {exercise}: right")


def registry() -> dict[str, dict]:
    """All exercises: inputs, the right answer's fingerprint, hints by wrong ones', and a hint."""
    return json.loads(resources.files(__package__).joinpath("exercises.json").read_text("utf-8"))


def fingerprint(exercise: str, function: Callable, probes: list[list]) -> str:
    """Hash of what a function returns on the inputs, numbers rounded to six significant digits.

    Raises NotYet: the function raised, or returned nothing, or what is no number, text or array.
    Raises NotImplementedError: the function is still blank.
    """
    outputs = []
    for probe in probes:
        arguments = [np.array(part) if isinstance(part, list) else part for part in probe]
        try:
            output = function(*arguments)
            outputs.append(None if output is None else _plain(output, _rounded))
        except NotImplementedError:
            raise
        except Exception as error:
            why = f"your function stopped with {type(error).__name__}: {error}"
            raise NotYet(f"exercise {exercise}: {why}") from None
        if output is None:
            why = "your function returns nothing yet; write its body and return the answer"
            raise NotYet(f"exercise {exercise}: {why}")
    return hashlib.sha256(json.dumps([exercise, outputs]).encode()).hexdigest()


def _plain(output, of_part: Callable):
    """Lists and dicts of what ``of_part`` makes of each number, truth value or text."""
    if isinstance(output, dict):
        return dict(sorted((str(key), _plain(value, of_part)) for key, value in output.items()))
    if isinstance(output, list | tuple) or np.ndim(output):
        return [_plain(part, of_part) for part in output]
    return of_part(output)


def _rounded(part) -> str:
    if isinstance(part, str | bool | np.bool_):
        return str(part)
    return f"{float(part):.5e}".replace("-0.00000e+00", "0.00000e+00")


# The teacher's notebooks, and the students' edition


@dataclass(frozen=True, eq=False)
class Task:
    """An exercise: a cell with the teacher's solution, and the check below it."""

    name: str  # 09.1
    points: float
    answer: dict
    check: dict
    functions: list[str]  # those of the solution that the check calls
    imports: list[str]  # the lesson's statements that import
    needs: set[str]  # packages that are imported once for all

    @property
    def signs(self) -> set[str]:
        """What tells a cell that answers it: its mark, or a function that it defines."""
        return {_mark(self.answer), *(f"def {one}" for one in self.functions)}


@dataclass(frozen=True, eq=False)
class Master:
    """A notebook with the teacher's solutions, such as ``09_off_policy_evaluation``."""

    name: str
    node: dict
    tasks: list[Task]

    @cached_property
    def given(self) -> set[str]:
        """The texts of the cells that students get."""
        return {_bare(cell.source) for cell in student_copy(self).cells}


def read_masters(folder: Path, names: list[str] | None = None) -> list[Master]:
    """The masters of a folder, or those named.

    Raises ReclabError: an exercise has no solution, no cell to answer in, or no name of its own.
    """
    found = []
    for path in find_notebooks(names or [], folder):
        node = read_notebook(path)
        found.append(Master(path.stem, node, _tasks(path.stem, node.cells)))
    return found


def _tasks(notebook: str, cells: list) -> list[Task]:
    found, answer, marks = [], None, set()
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    imports = re.findall(r"(?m)^(?:import|from) [^(\n]*(?:\([^)]*\))?", code)
    for cell in cells:
        given, mark = cell.metadata.get("nbgrader", {}), _mark(cell)
        if cell.cell_type != "code" or not (given.get("solution") or given.get("grade")):
            continue
        if mark is None or mark in marks:
            raise ReclabError(f"{notebook}: the grade_id {mark} is none, or used twice; rename it")
        marks.add(mark)
        if given.get("solution"):
            if "BEGIN SOLUTION" not in cell.source:
                why = "holds no solution; this is a student's copy, no master"
                raise ReclabError(f"{notebook}: {mark} {why}")
            answer = cell
        elif answer is None:
            raise ReclabError(f"{notebook}: {mark} has no cell to answer in above it")
        else:
            found.append(_task(answer, cell, imports))
    return found


def _task(answer: dict, check: dict, imports: list[str]) -> Task:
    name = re.sub(r"^(\d\d)-ex(\w+)-check$", r"\1.\2", _mark(check))
    points = float(check.metadata["nbgrader"].get("points", 0))
    defined = re.findall(r"(?m)^def (\w+)", answer.source)
    functions = [one for one in defined if re.search(rf"\b{one}\b", check.source)]
    needs = set(re.findall(r"needs\W+(\w+)", str([answer.metadata, check.metadata])))
    imports = [*imports, *(f"import {need}" for need in needs)]
    return Task(name, points, answer, check, functions, imports, needs)


def _package(statement: str) -> str:
    """The package that a statement imports, or imports from."""
    return re.split(r"\W", statement)[1]


def _mark(cell: dict) -> str | None:
    """nbgrader's name for a cell, in whatever state that is; None where it has none."""
    try:
        name = cell["metadata"]["nbgrader"]["grade_id"]
    except (KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None


def _bare(source: str) -> str:
    """A text without the blanks that editors add and take away."""
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def release(masters: list[Master], folder: Path) -> list[Path]:
    """Write the students' edition, cell for cell as nbgrader's release does; replace a blank one.

    Raises ReclabError: a notebook there has answers in it, or a mark is opened and not closed.
    """
    import nbformat

    made = {Path(folder) / f"{master.name}.ipynb": student_copy(master) for master in masters}
    for path in made:
        for cell in read_notebook(path).cells if path.exists() else []:
            if cell.metadata.get("nbgrader", {}).get("solution") and STUB[-1] not in cell.source:
                raise ReclabError(f"{path} has answers in it; name another folder for the students")
    for path, node in made.items():
        write_atomically(path, nbformat.writes(node).rstrip("\n") + "\n")
    return list(made)


def student_copy(master: Master):
    """A master without its solutions and hidden tests, its cells locked as nbgrader locks them.

    Raises ReclabError: a mark is opened and not closed.
    """
    node = copy.deepcopy(master.node)
    for cell in node.cells:
        cell.source = _released(cell.source, master.name)
        given = cell.metadata.get("nbgrader", {})
        solution, grade = bool(given.get("solution")), bool(given.get("grade"))
        locked = not solution and (grade or bool(given.get("locked")))
        if not (solution or locked):
            continue
        cell.metadata["deletable"] = False
        if locked:
            cell.metadata["editable"] = False
        signed = [cell.source, cell.cell_type, grade, solution, locked, given["grade_id"]]
        signed += [float(given["points"])] if grade else []
        text = "".join(map(str, signed)).encode()
        given["checksum"] = hashlib.md5(text, usedforsecurity=False).hexdigest()
        given["cell_type"] = cell.cell_type
    return node


def _released(source: str, master: str) -> str:
    """A cell's text as students get it."""
    source += "\n"
    for mark, stub in [("SOLUTION", STUB), ("HIDDEN TESTS", ())]:
        part = rf"(?ms)^([ \t]*)[^\n]*BEGIN {mark}.*?END {mark}[^\n]*\n"
        source = re.sub(part, "".join(rf"\1{line}\n" for line in stub), source)
        if f"BEGIN {mark}" in source:
            raise ReclabError(f"{master}: BEGIN {mark} has no end; add a line ### END {mark}")
    return source[:-1]


def release_command(args: argparse.Namespace) -> int:
    """Run ``reclab release [DIR]``; without a folder it writes ``notebooks/student``."""
    masters = notebooks_folder()
    made = release(read_masters(masters), args.folder or masters / "student")
    print(f"{len(made)} notebooks for students in {made[0].parent}")
    return 0


# What was handed in

_OF_THE_SYSTEM = re.compile(
    r"(?i)\.DS_Store|\._.*|__MACOSX|\.ipynb_checkpoints|\.git|Thumbs\.db|desktop\.ini"
)

# Moodle, Blackboard and Brightspace put whose it is before what was handed in.
_PLATFORMS = re.compile(
    r"(.+?_\d+)_assignsubmission_|(.+?)_attempt_\d{4}-\d\d-\d\d|(\d+-\d+ - .+?) - "
)


@dataclass
class Mark:
    """One exercise of one student: what it earned, what is said, and the answer."""

    task: Task
    points: float
    message: str
    answer: str = ""


@dataclass
class Report:
    """One student's work: the notebooks, what was unusual about the files, and the marks."""

    student: str
    # Each with the texts that its lesson does not have, and their signs.
    copies: list[tuple[Master, list[tuple[str, set[str]]]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    @property
    def points(self) -> float:
        """The points that it earned."""
        return sum(mark.points for mark in self.marks)

    @property
    def out_of(self) -> float:
        """The points that there were."""
        return sum(mark.task.points for mark in self.marks)


def _reports(folder: Path, masters: list[Master], titles: list[str]) -> list[Report]:
    """A report for each student who has an entry in a folder; each file is read, or noted."""
    what = "a folder, or a notebook, for each student"
    if not folder.is_dir():
        raise ReclabError(f"there is no folder {folder}; name the one that holds {what}")
    found: dict[str, Report] = {}
    for entry in sorted(folder.iterdir()):
        if _OF_THE_SYSTEM.fullmatch(entry.name):
            continue
        student = _student(entry, titles)
        report = found.setdefault(student, Report(student))
        for name, content in _files(entry):
            fault = content if isinstance(content, str) else _read(report, content, masters)
            if fault:
                report.notes.append(f"{_printable(name)} {fault}")
    if not found:
        raise ReclabError(f"{folder} holds no submission; it needs {what}")
    for report in found.values():
        if not report.copies:
            report.notes.append("no notebook was handed in")
    return list(found.values())


def _printable(text: str) -> str:
    """A text that a file can hold: names and cells may have bytes that are no characters."""
    return text.encode("utf-8", "backslashreplace").decode()


def _student(entry: Path, titles: list[str]) -> str:
    """Whose an entry is: its name, or what learning platforms put before a notebook's title.

    Canvas puts two numbers there: that of the student stays, that of the file goes.
    """
    name = unicodedata.normalize("NFC", _printable(entry.name))
    if not entry.is_dir():
        name = re.sub(r"(?i)(\.(ipynb|txt|json|zip))+$", "", name) or name
    if match := _PLATFORMS.match(name):
        return match[match.lastindex]
    for title in titles:
        put = rf"(.+?)(?:(?:_LATE)?(_\d+)_\d+)?[ _-]+{re.escape(title)}[-_ (]*\d*\)?"
        match = re.fullmatch(put, name)
        if match and match[1].lower() != "copy of":
            return match[1] + (match[2] or "")
    return name


def _files(entry: Path) -> Iterator[tuple[str, bytes | str]]:
    """Each file of an entry, at any depth and in zip archives: its content, or why not."""
    large = f"is larger than {_LARGEST} MiB, and was not read"
    for path in sorted(entry.rglob("*")) if entry.is_dir() else [entry]:
        parts = path.relative_to(entry).parts or [entry.name]
        open_folder = path.is_dir() and not path.is_symlink() and os.access(path, os.R_OK)
        if open_folder or any(map(_OF_THE_SYSTEM.fullmatch, parts)):
            continue
        name = "/".join(parts)
        try:
            if not path.is_file():
                yield name, "is a link, a locked folder or a device, and was not read"
            elif path.stat().st_size > _LARGEST * 2**20:
                yield name, large
            elif path.suffix.lower() != ".zip":
                yield name, path.read_bytes()
            else:
                with zipfile.ZipFile(path) as archive:
                    for one in archive.infolist():
                        system = any(map(_OF_THE_SYSTEM.fullmatch, one.filename.split("/")))
                        if not one.is_dir() and not system:
                            is_large = one.file_size > _LARGEST * 2**20
                            yield f"{name}/{one.filename}", large if is_large else archive.read(one)
        except OSError as error:
            yield name, f"cannot be read ({error.strerror}); hand it in again"
        except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:  # or it is locked
            yield name, f"is an archive that cannot be opened ({one_line(error, 100)})"


def _read(report: Report, content: bytes, masters: list[Master]) -> str:
    """Add a notebook to a student's work; what is wrong with the file, or nothing."""
    try:
        cells = [_cell(cell) for cell in json.loads(content)["cells"] if isinstance(cell, dict)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        why = one_line(f"{type(error).__name__}: {error}", 100)
        return f"is not a notebook that can be read ({why}); hand it in again"
    told = set().union(*(signs for _, signs in cells))
    likeness = [sum(len(task.signs & told) for task in master.tasks) for master in masters]
    if not max(likeness):
        return "is none of the notebooks that are graded"
    master = masters[likeness.index(max(likeness))]
    own = [(text, signs) for text, signs in cells if _bare(text) not in master.given]
    report.copies.append((master, own))
    return ""


def _cell(raw: dict) -> tuple[str, set[str]]:
    """A cell's text, and its signs: its mark, and the functions that it defines."""
    source = raw.get("source", "")
    text = _printable("".join(map(str, source)) if isinstance(source, list) else str(source))
    return text, {_mark(raw), *re.findall(r"(?m)^def \w+", text)} - {None}


# Answers, each in a process of its own


def _space(imports: list[str], code: str) -> dict:
    """What code starts with: NumPy, the check, and what it names of pandas and the imports."""
    space = {"__name__": "__main__", "display": print, "np": np}
    space["classroom"], words = sys.modules[__name__], set(re.findall(r"\w+", code))
    for statement in ["import pandas as pd", *imports]:
        bound = set(re.findall(r"\w+", statement.partition("import")[2])) - {"as", "classroom"}
        if words & bound:
            with suppress(ImportError):
                exec(statement, space)
    return space


def _run(part: str, space: dict) -> BaseException | None:
    """Run a cell statement by statement, past those that fail; returns the first failure.

    Below an answer there often stands a trial of it, with names that only the lesson has.
    """
    failure = None
    try:
        tree = ast.parse(part, "your answer")
    except (SyntaxError, ValueError) as error:
        try:  # without magics, commands, questions, and the fences of a text cell
            bare = re.sub(r"(?m)^(\s*)(?:[%!?].*|```.*|[\w.]+\?+)$", r"\1pass", part)
            tree = ast.parse(bare, "your answer")
        except (SyntaxError, ValueError):
            return error
    for statement in tree.body:
        try:
            exec(compile(ast.Module([statement], []), "your answer", "exec"), space)
        except BaseException as error:
            failure = failure or error
    return failure


def _sent(part):
    """A number, truth value or text as JSON has it."""
    if isinstance(part, str | bool | int | float):
        return part
    return part.item() if hasattr(part, "item") else float(part)


def _answer(pipe, folder: str, job: dict) -> None:
    """The life of an answer's process: run it, then its check, and send what its functions gave."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it dies with its parent
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    space = _space(job["imports"], "\n".join([*job["parts"], job["check"]]))
    checking = dict(space)
    pipe.send_bytes(b"ready")
    gave, why = [], _BLANK

    def noted(name, *arguments, **keywords):
        output = space[name](*arguments, **keywords)
        if output is not None:
            output = _plain(output, _sent)
            gave.append(output)
        return output

    try:
        for part in job["parts"]:
            failure = _run(part, space)
        if missing := set(job["functions"]) - space.keys():
            raise failure or NameError(f"name {missing.pop()!r} is not defined")
        exec(job["check"], checking | {name: partial(noted, name) for name in job["functions"]})
    except NotYet as error:
        why = str(error)
    except BaseException as error:
        why = f"your answer stopped with {type(error).__name__}: {one_line(error)}"
    pipe.send_bytes(json.dumps([gave, why]).encode())


def _outputs(job: dict) -> tuple[list, str]:
    """What an answer's functions give when its check calls them, and why they then give no more."""
    with tempfile.TemporaryDirectory(prefix="reclab-", ignore_cleanup_errors=True) as folder:
        pipe, theirs = _PROCESSES.Pipe(duplex=False)
        student = _PROCESSES.Process(target=_answer, args=(theirs, folder, job))
        student.start()
        theirs.close()
        try:
            for seconds in (_START, job["timeout"]):
                deadline = time.monotonic() + seconds
                while not pipe.poll(0.05):
                    if time.monotonic() > deadline:
                        late = f"your answer took longer than {seconds:g} s and was stopped"
                        return [], f"{late}; does a loop never end?"
                    with suppress(psutil.Error):
                        if psutil.Process(student.pid).memory_info().rss > _MEMORY * 2**30:
                            return [], f"your answer took more than {_MEMORY} GiB of memory"
                said = pipe.recv_bytes(_LARGEST * 2**20)
            return json.loads(said)
        except (EOFError, OSError, ValueError):
            return [], "your answer ended Python itself; leave out exit calls, and use less memory"
        finally:
            left = psutil.Process().children(recursive=True)
            student.kill()
            student.join()
            _kill(left)


class _Stopped(BaseException):
    """Why an answer gives no more; no Exception, so that no check takes it for one of its own."""


def _tried(job: dict) -> tuple[str, str]:
    """Whether an answer is ``right``, ``wrong`` or ``stopped``, and what is said of it."""
    gave, why = _outputs(job)

    def again(*arguments, **keywords):
        if not gave:
            raise _Stopped(why)
        return gave.pop(0)

    try:
        with redirect_stdout(io.StringIO()):
            space = _space(job["imports"], job["check"])
            exec(job["check"], space | dict.fromkeys(job["functions"], again))
        return "right", "right"
    except _Stopped as said:
        return "stopped", one_line(said, 500)
    except NotYet as said:
        return "wrong", one_line(said, 500)
    except Exception as error:
        return "wrong", f"the check stopped with {type(error).__name__}: {one_line(error)}"


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


def _serve() -> None:
    """The life of a process that tries answers: a job a line comes, a verdict a line goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    if sys.platform == "linux":  # what answers leave behind becomes a child of this process
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    for statement in ["import pandas", *json.loads(sys.stdin.readline())]:
        with suppress(ImportError):
            exec(statement, {})
    for line in sys.stdin:
        print(json.dumps(_tried(json.loads(line))), flush=True)


class _Trier:
    """A process that tries one answer at a time, replaced when it is lost."""

    def __init__(self, statements: list[str], timeout: float):
        self.statements = statements  # imports that it does once, for all its answers
        self.timeout = timeout
        self.process, self.closed = None, False

    def tries(self, task: Task, text: str, helpers: list[str] | None = None) -> tuple[str, str]:
        """What `_tried` says of an answer, alone, or below helpers and with all its lesson imports.

        This package takes seconds to import: alone, an answer has it only if it needs it.
        """
        skipped = {"reclab"} - task.needs if helpers is None else set()
        job = {
            "imports": [one for one in task.imports if _package(one) not in skipped],
            "parts": [*(helpers or []), text],
            "check": task.check.source,
            "functions": task.functions,
            "timeout": self.timeout,
        }
        if self.process is None:
            self._start()
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            verdict, said = json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            self.end()
            return "stopped", "your answer ended the program that tried it"
        return verdict, said

    def _start(self) -> None:
        if self.closed:
            raise ReclabError("the grading was stopped")
        own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        own |= {"RECLAB_LEDGER": "ledger", "MPLBACKEND": "agg"}  # for what an answer calls
        command = [sys.executable, "-P", "-c", "from reclab.classroom import _serve; _serve()"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, env=os.environ | own, **pipes)
        self.process.stdin.write(json.dumps(self.statements) + "\n")

    def end(self, for_good: bool = False) -> None:
        """End the process, and all that it started."""
        self.closed = self.closed or for_good
        process, self.process = self.process, None
        if process is not None:
            with suppress(psutil.Error):
                own = psutil.Process(process.pid)
                _kill([*own.children(recursive=True), own])


# Grading


def grade(
    submissions: Path,
    out: Path,
    masters_folder: Path,
    *,
    names: list[str] | None = None,
    timeout: float = TIMEOUT,
) -> list[Report]:
    """Grade every submission; write ``out`` and, in ``<out>_feedback``, a page for each student.

    Parameters
    ----------
    submissions : holds a folder, or a notebook, for each student.
    out : the CSV to write: a row for each student, a column for each exercise.
    names : the notebooks that were set; those that anybody handed in where None.
    timeout : seconds that an answer may take.

    Raises ReclabError: there is nothing to grade, or a master fails its own check.
    """
    from jinja2 import Environment

    masters = read_masters(masters_folder, names)
    reports = _reports(submissions, masters, [p.stem for p in find_notebooks([], masters_folder)])
    handed_in = {master for report in reports for master, _ in report.copies}
    tasks = [task for master in masters if names or master in handed_in for task in master.tasks]
    needed = {one for task in tasks for one in task.imports if _package(one) in task.needs}
    page = resources.files(__package__).joinpath("feedback.html.j2").read_text("utf-8")
    template = Environment(autoescape=True).from_string(page)
    here, triers = threading.local(), []

    def begin() -> None:
        here.trier = _Trier(sorted(needed), timeout)
        triers.append(here.trier)

    def prove(task: Task) -> None:
        verdict, said = here.trier.tries(task, task.answer.source)
        if verdict != "right":
            raise ReclabError(f"{_mark(task.check)}: the teacher's own answer fails ({said})")

    def mark(report: Report) -> Report:
        report.marks = [_marked(here.trier, task, report.copies) for task in tasks]
        return report

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), initializer=begin) as pool:
        try:
            list(pool.map(prove, tasks))
            for number, report in enumerate(pool.map(mark, reports), 1):
                write_atomically(_page(out, report.student), template.render(report=report))
                points = f"{report.points:g} of {report.out_of:g}"
                print(f"[{number}/{len(reports)}] {report.student}: {points}", flush=True)
        finally:
            for trier in triers:
                trier.end(for_good=True)
    write_atomically(out, _table(reports, tasks))
    return reports


def _marked(trier: _Trier, task: Task, copies: list[tuple[Master, list]]) -> Mark:
    """What an exercise earns in the best copy of its notebook, by its last answer that runs."""
    best = Mark(task, 0.0, "the notebook was not handed in")
    for master, cells in copies:
        if task not in master.tasks or best.points:
            continue
        best = Mark(task, 0.0, _BLANK)
        answers = [(text, signs) for text, signs in cells if signs & task.signs]
        answers.sort(key=lambda answer: _mark(task.answer) in answer[1])  # with its mark come last
        for text, _ in reversed(answers[-_MOST_TRIES:]):
            verdict, said = trier.tries(task, text)
            if "NameError" in said:  # a helper may stand in another cell
                helpers = [own for own, _ in cells if own != text]
                verdict, said = trier.tries(task, text, helpers)
            if "NameError" in said:
                said += "; an answer is tried without its lesson: define in its cell what it uses"
            if verdict != "stopped" or not best.answer:
                best = Mark(task, task.points if verdict == "right" else 0.0, said, text)
            if verdict != "stopped":
                break
    return best


def feedback_folder(out: Path) -> Path:
    """Where the pages of feedback lie, beside the table."""
    return out.with_name(f"{out.stem}_feedback")


def _page(out: Path, student: str) -> Path:
    """A student's page; a long name is cut, as a file's name has 255 bytes at most."""
    if len(student.encode()) > 200:
        student = f"{student[:50]}-{hashlib.sha256(student.encode()).hexdigest()[:8]}"
    return feedback_folder(out) / f"{student}.html"


def _table(reports: list[Report], tasks: list[Task]) -> str:
    """The scores as CSV for spreadsheets: with the sign of UTF-8, and without formulas."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["student", "points", "out_of", *(task.name for task in tasks), "notes"])
    for report in reports:
        points = [report.points, report.out_of, *(mark.points for mark in report.marks)]
        row = [report.student, *(f"{one:g}" for one in points), "; ".join(report.notes)]
        formula = tuple("=+-@\t\r\n＝＋－＠")
        table.writerow([f"'{text}" if text.startswith(formula) else text for text in row])
    return "\ufeff" + stream.getvalue()


def grade_command(args: argparse.Namespace) -> int:
    """Run ``reclab grade SUBMISSIONS``."""
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack the letters of a name
    reports = grade(
        args.submissions, args.out, notebooks_folder(), names=args.notebooks, timeout=args.timeout
    )
    for report in reports:
        if report.notes:
            print(f"  {report.student}: {'; '.join(report.notes)}")
    print(f"{len(reports)} graded: {args.out}; feedback: {feedback_folder(args.out)}")
    return 0
