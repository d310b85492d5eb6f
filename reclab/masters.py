"""The teacher's notebooks: their exercises, and the student's series made from them.

Cells are marked as nbgrader marks them (schema 3), so that a school that has nbgrader uses the same files.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat

from .errors import ReclabError
from .needs import binds, imports
from .results import find_notebooks, notebooks_folder, read_notebook, write_atomically

STUB = ("# YOUR CODE HERE", "raise NotImplementedError()")
_SOLUTION, _HIDDEN, _SCHEME = "SOLUTION", "HIDDEN TESTS", "MARK SCHEME"


def marks(cell: dict) -> dict:
    """What nbgrader's metadata say of a cell; empty where it has none."""
    found = cell.get("metadata", {}).get("nbgrader", {})
    return found if isinstance(found, dict) else {}


def is_solution(cell: dict) -> bool:
    """The student answers in this cell."""
    return cell["cell_type"] == "code" and bool(marks(cell).get("solution"))


def is_check(cell: dict) -> bool:
    """This cell earns points by running without an error."""
    return cell["cell_type"] == "code" and bool(marks(cell).get("grade")) and not marks(cell).get("solution")


@dataclass(frozen=True)
class Task:
    """An exercise: the position of its check cell in the master, its points, and what it is called."""

    master: Master
    position: int
    points: float
    name: str
    title: str

    @property
    def check_id(self) -> str:
        """The check cell's ``grade_id``."""
        return marks(self.master.cells[self.position])["grade_id"]


@dataclass(frozen=True, eq=False)
class Master:
    """A notebook with the teacher's solutions.

    Attributes
    ----------
    name : ``09_off_policy_evaluation``.
    node : the notebook, without outputs.
    """

    name: str
    node: nbformat.NotebookNode

    @property
    def cells(self) -> list:
        """Its cells, in order."""
        return self.node.cells

    @cached_property
    def solutions(self) -> dict[str, nbformat.NotebookNode]:
        """The cells in which students answer, by ``grade_id``."""
        return {marks(cell)["grade_id"]: cell for cell in self.cells if is_solution(cell)}

    @cached_property
    def functions(self) -> dict[str, frozenset[str]]:
        """The names that each solution defines, by ``grade_id``."""
        return {name: binds(cell.source) for name, cell in self.solutions.items()}

    @cached_property
    def imported(self) -> frozenset[str]:
        """The names that its cells import."""
        return frozenset().union(*(imports(cell.source) for cell in self.cells if cell.cell_type == "code"))

    @cached_property
    def tasks(self) -> list[Task]:
        """Its exercises, in order."""
        found = []
        for position, cell in enumerate(self.cells):
            if is_check(cell):
                name = re.sub(r"^(\d\d)-ex(\w+)-check$", r"\1.\2", marks(cell)["grade_id"])
                points = float(marks(cell).get("points", 0))
                found.append(Task(self, position, points, name, self._title(name, position)))
        return found

    def _title(self, name: str, position: int) -> str:
        for cell in reversed(self.cells[:position]):
            heading = re.search(rf"(?m)^#+ .*\b{re.escape(name)}\b.*$", cell.source)
            if cell.cell_type == "markdown" and heading:
                return heading[0].lstrip("# ")
        return f"Exercise {name}"


def read_masters(folder: Path, names: list[str] | None = None) -> list[Master]:
    """The masters of a folder, or those named.

    Raises ReclabError: a notebook has a check without an answer; two cells share a name.
    """
    found = [Master(path.stem, read_notebook(path)) for path in find_notebooks(names or [], folder)]
    for master in found:
        graded = [marks(cell).get("grade_id") for cell in master.cells if is_solution(cell) or is_check(cell)]
        if len(set(graded)) < len(graded) or None in graded:
            raise ReclabError(f"{master.name}: two exercise cells share a grade_id, or one has none; rename one")
        for name, cell in master.solutions.items():
            if "BEGIN SOLUTION" not in cell.source:
                raise ReclabError(f"{master.name}: {name} holds no solution; this is a student's copy, no master")
    return found


def release(masters: list[Master], folder: Path) -> list[Path]:
    """Write the student's series into a new or empty folder, cell for cell as nbgrader's release does.

    Raises ReclabError: the folder is not empty, or a mark is opened and not closed.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ReclabError(f"{folder} is there already and not empty; name a new folder for the student's series")
    made = {folder / f"{master.name}.ipynb": student_copy(master) for master in masters}
    for path, node in made.items():
        write_atomically(path, nbformat.writes(node).rstrip("\n") + "\n")
    return list(made)


def command(args: argparse.Namespace) -> int:
    """Run ``reclab release DIR [NN...]``."""
    made = release(read_masters(notebooks_folder(), args.notebooks), args.folder)
    print(f"{len(made)} notebook{'' if len(made) == 1 else 's'} for students in {args.folder}")
    return 0


def student_copy(master: Master) -> nbformat.NotebookNode:
    """A master without its solutions and hidden tests.

    Raises ReclabError: a mark is opened and not closed.
    """
    node = copy.deepcopy(master.node)
    for number, cell in enumerate(node.cells, 1):
        try:
            cell.source = without(cell.source, _SOLUTION, STUB if cell.cell_type == "code" else ("YOUR ANSWER HERE",))
            cell.source = without(without(cell.source, _HIDDEN), _SCHEME)
        except ReclabError as error:
            raise ReclabError(f"{master.name}, cell {number}: {error}") from None
        _lock(cell)
    return node


def without(source: str, mark: str, stub: tuple[str, ...] = ()) -> str:
    """A cell's text without what stands between ``BEGIN mark`` and ``END mark``; a stub takes its place.

    Raises ReclabError: a mark is opened and not closed, or opened twice.
    """
    kept, inside = [], False
    for line in source.split("\n"):
        if f"BEGIN {mark}" in line:
            if inside:
                raise ReclabError(f"BEGIN {mark} stands twice; end the first one with ### END {mark}")
            inside = True
            indent = line[: len(line) - len(line.lstrip())]
            kept += [indent + part for part in stub]
        elif f"END {mark}" in line:
            inside = False
        elif not inside:
            kept.append(line)
    if inside:
        raise ReclabError(f"BEGIN {mark} has no end; add a line ### END {mark}")
    return "\n".join(kept)


def _lock(cell) -> None:
    """Mark a cell as undeletable, a check as not to be edited, and stamp nbgrader's checksum."""
    given = marks(cell)
    solution, grade = bool(given.get("solution")), bool(given.get("grade"))
    locked = not solution and (grade or bool(given.get("locked")))
    if not (solution or locked):
        return
    cell.metadata["deletable"] = False
    if locked:
        cell.metadata["editable"] = False
    parts = [cell.source, cell.cell_type, str(grade), str(solution), str(locked), given["grade_id"]]
    parts += [str(float(given["points"]))] if grade else []
    given["checksum"] = hashlib.md5("".join(parts).encode(), usedforsecurity=False).hexdigest()
    given["cell_type"] = cell.cell_type
