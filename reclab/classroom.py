"""Exercises that check themselves, the students' edition, and the grading of what is handed in.

An exercise is a function of numbers, texts and arrays that returns the same. Its cells carry
nbgrader's marks (schema 3), so a school that has nbgrader uses the same files. Only fingerprints of
right and of known wrong answers are stored; ``tests/make_exercises.py`` makes them.

An answer is graded in a process of its own, in an empty folder, under a clock and a limit of
memory, with NumPy, pandas and what its lesson imports, and nothing else of the lesson. If its cell
or its check has the tag ``needs: torch`` or ``needs: reclab``, that is imported once for the whole
class. The check is judged in another process, by what the answer's functions returned, so no answer
can change how it is judged. Students' code runs with the rights of whoever grades.
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
import queue
import re
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
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
    """Call a student's function on the exercise's inputs; say that it is right, or still blank.

    Parameters
    ----------
    exercise : ``NN.n``, as the notebook names it.
    function : the answer; it gets numbers and arrays and returns numbers, texts, or lists, arrays
        or dicts of them.

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
    """An exercise: a cell with the teacher's solution, and the check below it.

    Attributes
    ----------
    name, title : ``09.1``, and the heading above.
    functions : those of the solution that the check calls.
    signs : what tells a cell that answers it: its mark, its id, its functions.
    imports : the lesson's statements that import. needs : packages that are imported once for all.
    """

    name: str
    title: str
    points: float
    answer: dict
    check: dict
    functions: list[str]
    signs: set[str]
    imports: list[str]
    needs: set[str]


@dataclass(frozen=True, eq=False)
class Master:
    """A notebook with the teacher's solutions, such as ``09_off_policy_evaluation``."""

    name: str
    node: dict
    tasks: list[Task]


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
    found, answer, above, marks = [], None, "", set()
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    imports = re.findall(r"(?m)^(?:import|from) [^(\n]*(?:\([^)]*\))?", code)
    for cell in cells:
        role, mark = _role(cell), _mark(cell)
        if cell.cell_type == "markdown":
            above = f"{cell.source}\n{above}"  # the nearest heading is found first
        if not role:
            continue
        if mark is None or mark in marks:
            raise ReclabError(f"{notebook}: the grade_id {mark} is none, or used twice; rename it")
        marks.add(mark)
        if role == "answer" and "BEGIN SOLUTION" not in cell.source:
            why = "holds no solution; this is a student's copy, no master"
            raise ReclabError(f"{notebook}: {mark} {why}")
        if role == "answer":
            answer = cell
        elif answer is None:
            raise ReclabError(f"{notebook}: {mark} has no cell to answer in above it")
        else:
            found.append(_task(answer, cell, above, imports))
    return found


def _task(answer: dict, check: dict, above: str, imports: list[str]) -> Task:
    name = re.sub(r"^(\d\d)-ex(\w+)-check$", r"\1.\2", _mark(check))
    heading = re.search(rf"(?m)^#+ (.*\b{re.escape(name)}\b.*)$", above)
    title = heading[1] if heading else f"Exercise {name}"
    points = float(check.metadata["nbgrader"].get("points", 0))
    defined = re.findall(r"(?m)^def (\w+)", answer.source)
    functions = [one for one in defined if re.search(rf"\b{one}\b", check.source)]
    signs = {_mark(answer), str(answer.get("id")), *(f"def {one}" for one in functions)}
    tags = str([answer.metadata, check.metadata])
    needs = set(re.findall(r"needs\W+(\w+)", tags))
    imports = [*imports, *(f"import {need}" for need in needs)]
    return Task(name, title, points, answer, check, functions, signs, imports, needs)


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


def _role(cell) -> str:
    """``answer`` or ``check``; empty for a cell of the lesson."""
    given = cell.metadata.get("nbgrader", {}) if cell.cell_type == "code" else {}
    return "answer" if given.get("solution") else "check" if given.get("grade") else ""


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
        old = read_notebook(path).cells if path.exists() else []
        if any(_role(cell) == "answer" and STUB[-1] not in cell.source for cell in old):
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
    """Run ``reclab release [DIR] [NN...]``; without a folder it writes ``notebooks/student``."""
    masters = notebooks_folder()
    made = release(read_masters(masters, args.notebooks), args.folder or masters / "student")
    print(f"{len(made)} notebook{'' if len(made) == 1 else 's'} for students in {made[0].parent}")
    return 0


# What was handed in

# Learning platforms put whose it is first: Moodle, Blackboard, Brightspace; and Canvas, which goes
# on with the numbers of the student and of the file.
_PLATFORMS = re.compile(
    r"(.+?_\d+)_assignsubmission_|(.+?)_attempt_\d{4}-\d\d-\d\d|(\d+-\d+ - .+?) - "
)
_CANVAS = re.compile(r"(.+?)(?:_LATE)?_(\d+)_(\d+)_")
_OF_THE_SYSTEM = re.compile(
    r"(?i)\.DS_Store|\._.*|__MACOSX|\.ipynb_checkpoints|\.git|Thumbs\.db|desktop\.ini"
)


@dataclass
class Notebook:
    """A notebook that was handed in.

    Attributes
    ----------
    answers : by exercise, the texts that may answer it but for blank ones; with its mark come last.
    own : the texts that the lesson does not have, since helpers may stand there.
    """

    file: str
    master: Master
    answers: dict[Task, list[str]]
    own: list[str]


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
    notebooks: list[Notebook] = field(default_factory=list)
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


def find_submissions(folder: Path, masters: list[Master], titles: list[str]) -> list[Report]:
    """A report for each student who has an entry in a folder; each file is read, or noted.

    titles : the names of all notebooks; a platform puts the student's before them.

    Raises ReclabError: there is no such folder, or nothing in it.
    """
    folder, what = Path(folder), "a folder, or a notebook, for each student"
    if not folder.is_dir():
        raise ReclabError(f"there is no folder {folder}; name the one that holds {what}")
    entries = sorted(path for path in folder.iterdir() if not _OF_THE_SYSTEM.fullmatch(path.name))
    if not entries:
        raise ReclabError(f"{folder} holds no submission; it needs {what}")
    numbers = Counter(match[3] for path in entries if (match := _CANVAS.match(path.name)))
    found: dict[str, Report] = {}
    for entry in entries:
        student = _student(entry, titles, numbers)
        report = found.setdefault(student, Report(student))
        for name, content in _files(entry):
            _read(report, _printable(name), content, masters)
    for report in found.values():
        for master in masters:
            copies = [one.file for one in report.notebooks if one.master is master]
            if len(copies) > 1:
                report.notes.append(f"{', '.join(copies)} are one notebook; the best answers count")
        if not report.notebooks:
            report.notes.append("no notebook was handed in")
    return list(found.values())


def _printable(text: str) -> str:
    """A text that a file can hold: names and cells may have bytes that are no characters."""
    return text.encode("utf-8", "backslashreplace").decode()


def _student(entry: Path, titles: list[str], numbers: Counter) -> str:
    """Whose an entry is: what a platform says, what stands before a notebook's name, or its name.

    numbers : how often each number stands where Canvas puts that of a file: once, if it is Canvas.
    """
    name = unicodedata.normalize("NFC", _printable(entry.name))
    if not entry.is_dir():
        name = re.sub(r"(?i)(\.(ipynb|txt|json|zip))+$", "", name) or name
    if match := _PLATFORMS.match(name):
        return match[match.lastindex]
    match = _CANVAS.match(name)
    if match and numbers[match[3]] == 1:
        return f"{match[1]}_{match[2]}"
    for title in titles:
        before = name.partition(title)[0].strip(" _-")
        if title in name and before.lower() not in ("", "copy of"):
            return before
    return name


def _files(entry: Path) -> Iterator[tuple[str, bytes | str]]:
    """Each file of an entry, at any depth and in zip archives: its content, or why not."""
    paths, large = [], f"is larger than {_LARGEST} MiB, and was not read"
    for folder, folders, names in os.walk(entry, onerror=lambda e: paths.append(Path(e.filename))):
        folders[:] = sorted(name for name in folders if not _OF_THE_SYSTEM.fullmatch(name))
        names += [name for name in folders if Path(folder, name).is_symlink()]
        paths.extend(Path(folder, name) for name in sorted(names))
    for path in paths if entry.is_dir() else [entry]:
        name = path.relative_to(entry).as_posix() if entry.is_dir() else entry.name
        if _OF_THE_SYSTEM.fullmatch(path.name):
            continue
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


def _read(report: Report, file: str, content: bytes | str, masters: list[Master]) -> None:
    """Add a file to a student's notebooks, or to the notes."""
    if isinstance(content, str):
        report.notes.append(f"{file} {content}")
        return
    try:
        cells = [_cell(cell) for cell in json.loads(content)["cells"] if isinstance(cell, dict)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        why = one_line(f"{type(error).__name__}: {error}", 100)
        report.notes.append(f"{file} is not a notebook that can be read ({why}); hand it in again")
        return
    told = set().union(*(signs for _, signs in cells))
    likeness = [sum(len(task.signs & told) for task in master.tasks) for master in masters]
    if not max(likeness):
        report.notes.append(f"{file} is none of the notebooks that are graded")
        return
    master, answers = masters[likeness.index(max(likeness))], {}
    lesson = {_bare(cell.source) for cell in master.node.cells}
    own = [(text, signs) for text, signs in cells if _bare(text) not in lesson]
    for task in master.tasks:
        blank, shown = (_bare(_released(c.source, master.name)) for c in (task.answer, task.check))
        marked = [text for text, signs in cells if _mark(task.answer) in signs]
        alike = [text for text, signs in own if signs & task.signs and text not in marked]
        answers[task] = [text for text in alike + marked if _bare(text) != blank]
        if not marked:
            how = "was found without its mark" if alike else "has no cell"
            report.notes.append(f"{file}: {task.name} {how}")
        checks = {_bare(text) for text, signs in own if _mark(task.check) in signs}
        if checks - {shown}:
            report.notes.append(f"{file}: {_mark(task.check)} was changed; the teacher's counts")
    report.notebooks.append(Notebook(file, master, answers, [text for text, _ in own]))


def _cell(raw: dict) -> tuple[str, set[str]]:
    """A cell's text, and its signs: its mark, its id, the functions that it defines."""
    source = raw.get("source", "")
    text = _printable("".join(map(str, source)) if isinstance(source, list) else str(source))
    signs = {str(_mark(raw)), str(raw.get("id")), *re.findall(r"(?m)^def \w+", text)}
    return text, signs - {"None"}


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


def _outputs(job: dict, timeout: float) -> tuple[list, str]:
    """What an answer's functions give when its check calls them, and why they then give no more."""
    with tempfile.TemporaryDirectory(prefix="reclab-", ignore_cleanup_errors=True) as folder:
        pipe, theirs = _PROCESSES.Pipe(duplex=False)
        student = _PROCESSES.Process(target=_answer, args=(theirs, folder, job))
        student.start()
        theirs.close()
        try:
            for seconds in (_START, timeout):
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


def _tried(job: dict, timeout: float) -> tuple[str, str]:
    """Whether an answer is ``right``, ``wrong`` or ``stopped``, and what is said of it."""
    gave, why = _outputs(job, timeout)

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
        print(json.dumps(_tried(*json.loads(line))), flush=True)


class _Trier:
    """A process that tries one answer at a time, replaced when it is lost.

    statements : imports that it does once, for all its answers.
    """

    def __init__(self, statements: list[str]):
        self.statements, self.process, self.closed = statements, None, False

    def tries(
        self, task: Task, text: str, timeout: float, helpers: list[str] | None = None
    ) -> tuple[str, str]:
        """What `_tried` says of an answer, alone, or below helpers and with all its lesson imports.

        This package takes seconds to import: alone, an answer has it only if it needs it.
        """
        skipped = {"reclab"} - task.needs if helpers is None else set()
        job = {"imports": [one for one in task.imports if _package(one) not in skipped]}
        job |= {"parts": [*(helpers or []), text]}
        job |= {"check": task.check.source, "functions": task.functions}
        if self.process is None:
            self._start()
        try:
            self.process.stdin.write(json.dumps([job, timeout]) + "\n")
            self.process.stdin.flush()
            verdict, said = json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            self.end()
            return "stopped", "your answer ended the program that tried it"
        return verdict, said

    def _start(self) -> None:
        if self.closed:
            raise ReclabError("the grading was stopped")
        own = dict.fromkeys(["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1")
        own["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        own |= {"RECLAB_LEDGER": "ledger", "MPLBACKEND": "agg"}  # for what an answer calls
        command = [sys.executable, "-P", "-c", "from reclab.classroom import _serve; _serve()"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, env=os.environ | own, **pipes)
        self.process.stdin.write(json.dumps(self.statements) + "\n")

    def end(self) -> None:
        """End the process, and all that it started."""
        process, self.process = self.process, None
        if process is not None:
            with suppress(psutil.Error):
                own = psutil.Process(process.pid)
                _kill([*own.children(recursive=True), own])

    def close(self) -> None:
        """End it for good."""
        self.closed = True
        self.end()


# Grading


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
    """Grade every submission; write ``out`` and, in ``<out>_feedback``, a page for each student.

    Parameters
    ----------
    submissions : holds a folder, or a notebook, for each student.
    out : the CSV to write: a row for each student, a column for each exercise.
    masters_folder : holds the notebooks with the teacher's solutions.
    names : the notebooks that were set; those that anybody handed in where None.
    timeout : seconds that an answer may take.
    kernels : students graded at the same time; one for each processor where None, at most four.
    say : told of each student who is done.

    Raises ReclabError: there is nothing to grade, or a master fails its own check.
    """
    from jinja2 import Environment

    if not 0 < timeout < float("inf"):
        raise ReclabError(f"the time for an answer has to be more than 0 seconds, got {timeout:g}")
    if kernels is not None and kernels < 1:
        raise ReclabError(f"at least one student has to be graded at a time, got {kernels}")
    masters = read_masters(masters_folder, names)
    titles = [path.stem for path in find_notebooks([], masters_folder)]
    reports = find_submissions(submissions, masters, titles)
    handed_in = {notebook.master for report in reports for notebook in report.notebooks}
    tasks = [task for master in masters if names or master in handed_in for task in master.tasks]
    page = resources.files(__package__).joinpath("feedback.html.j2").read_text("utf-8")
    template = Environment(autoescape=True).from_string(page)
    needed = {one for task in tasks for one in task.imports if _package(one) in task.needs}
    at_once, idle = kernels or min(4, os.cpu_count() or 1), queue.SimpleQueue()

    def lend(work: Callable, given):
        trier = idle.get()
        try:
            return work(trier, given)
        finally:
            idle.put(trier)

    def prove(trier: _Trier, task: Task) -> None:
        verdict, said = trier.tries(task, task.answer.source, timeout)
        if verdict != "right":
            raise ReclabError(f"{_mark(task.check)}: the teacher's own answer fails ({said})")

    def mark(trier: _Trier, report: Report) -> Report:
        report.marks = [_marked(trier, task, report.notebooks, timeout) for task in tasks]
        return report

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(at_once))
        for _ in range(at_once):
            trier = _Trier(sorted(needed))
            stack.callback(trier.close)
            idle.put(trier)
        list(pool.map(partial(lend, prove), tasks))
        for number, report in enumerate(pool.map(partial(lend, mark), reports), 1):
            write_atomically(_page(out, report.student), template.render(report=report))
            points = f"{report.points:g} of {report.out_of:g}"
            say(f"[{number}/{len(reports)}] {report.student}: {points}")
    write_atomically(out, _table(reports, tasks))
    return reports


def _marked(trier: _Trier, task: Task, notebooks: list[Notebook], timeout: float) -> Mark:
    """What an exercise earns in the best copy of its notebook, by its last answer that runs."""
    best = Mark(task, 0.0, "the notebook was not handed in")
    for notebook in notebooks:
        if task not in notebook.answers or best.points:
            continue
        best = Mark(task, 0.0, _BLANK)
        for text in reversed(notebook.answers[task][-_MOST_TRIES:]):
            verdict, said = trier.tries(task, text, timeout)
            if "NameError" in said:  # a helper may stand in another cell
                helpers = [own for own in notebook.own if own != text]
                verdict, said = trier.tries(task, text, timeout, helpers)
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
    with suppress(AttributeError):  # a terminal may lack the letters of a name
        sys.stdout.reconfigure(errors="backslashreplace")
    options = {"names": args.notebooks, "timeout": args.timeout, "kernels": args.kernels}
    reports = grade(args.submissions, args.out, notebooks_folder(), **options)
    for report in reports:
        if report.notes:
            print(f"  {report.student}: {'; '.join(report.notes)}")
    print(f"{len(reports)} graded: {args.out}; feedback: {feedback_folder(args.out)}")
    return 0
