"""What students handed in: whose it is, which notebook it is, and where its answers stand.

Answers are found in whatever state a notebook comes back: renamed, edited, without its marks.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from .errors import ReclabError, one_line
from .masters import STUB, Master, is_check, marks, student_copy
from .needs import binds

_SKIPPED = (".", "__MACOSX")


@dataclass(frozen=True)
class Submission:
    """One student's notebooks."""

    student: str
    paths: tuple[Path, ...]

    def digest(self) -> str:
        """A hash of all that was handed in."""
        parts = hashlib.sha256()
        for path in self.paths:
            content = _bytes(path) if os.access(path, os.R_OK) else b""
            parts.update(path.name.encode() + b"\0" + hashlib.sha256(content).digest())
        return parts.hexdigest()


@dataclass
class Answers:
    """The answers of one notebook of one student.

    Attributes
    ----------
    by_cell : source of the answer, by the ``grade_id`` of its cell; a cell that was not found is absent.
    extra : sources of the student's other code cells that the series does not have: helpers may stand there.
    notes : what was unusual, for the student and the teacher.
    """

    by_cell: dict[str, str] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_submissions(folder: Path) -> list[Submission]:
    """One submission for each folder and each notebook that lies directly in ``folder``, by name.

    A student's folder may hold folders (as nbgrader's ``submitted/ann/week1`` does).

    Raises ReclabError: there is no such folder, or nothing in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReclabError(f"there is no folder {folder}; name the one that holds a folder for each student")
    found: dict[str, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(_SKIPPED):
            continue
        if entry.is_dir():
            inside = sorted(entry.rglob("*.ipynb"))
            found.setdefault(entry.name, []).extend(path for path in inside if not _skipped(path, entry))
        elif entry.suffix == ".ipynb":
            found.setdefault(entry.stem, []).append(entry)
    if not found:
        raise ReclabError(f"{folder} holds no submission; it needs a folder, or a notebook, for each student")
    return [Submission(student, tuple(paths)) for student, paths in found.items()]


def _skipped(path: Path, top: Path) -> bool:
    return any(part.startswith(_SKIPPED) for part in path.relative_to(top).parts)


def read_cells(path: Path) -> list[dict]:
    """The cells of a notebook in whatever state: each with ``cell_type``, ``source``, ``id`` and its ``grade_id``.

    Raises ReclabError: the file is no JSON, or holds no cells.
    """
    try:
        raw = json.loads(_bytes(path).decode("utf-8-sig"))
        return [_cell(cell) for cell in raw["cells"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = one_line(f"{type(error).__name__}: {error}", 100)
        raise ReclabError(f"{path.name} is not a notebook that can be read ({why}); hand it in again") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReclabError(f"{path.name} cannot be read ({error.strerror}); hand it in again") from None


def _cell(raw: dict) -> dict:
    source, name = raw.get("source", ""), marks({"metadata": raw.get("metadata") or {}}).get("grade_id")
    return {
        "cell_type": raw.get("cell_type", "code"),
        "source": source if isinstance(source, str) else "".join(source),
        "metadata": {"nbgrader": {"grade_id": name}} if isinstance(name, str) else {},
        "id": str(raw.get("id")),
    }


def which_master(path: Path, cells: list[dict], masters: list[Master]) -> Master | None:
    """The master that a notebook was made from: by its marks, its cells' ids, its functions, then its name."""
    given = {marks(cell).get("grade_id") for cell in cells}
    ids = {cell["id"] for cell in cells}
    defined = frozenset().union(*(binds(cell["source"]) for cell in cells if cell["cell_type"] == "code"))

    def likeness(master: Master) -> tuple[int, ...]:
        return (
            len(given & set(master.solutions)),
            len(ids & {cell.id for cell in master.solutions.values()}),
            sum(bool(names & defined) for names in master.functions.values()),
            int(path.name.startswith(master.name[:3])),
        )

    best = max(masters, key=likeness, default=None)
    return best if best is not None and any(likeness(best)) else None


def answers_of(cells: list[dict], master: Master) -> Answers:
    """Find every answer by its mark, else by its cell's id, else by the name of its function.

    A cell that was split or copied is read as one, without the parts that were left blank.
    """
    found = Answers()
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    used = []
    for name, solution in master.solutions.items():
        ways = {
            "": [cell for cell in code if marks(cell).get("grade_id") == name],
            "its mark is missing; found by the cell's id": [cell for cell in code if cell["id"] == solution.id],
            "its cell is missing; found by the function's name": [
                cell for cell in code if binds(cell["source"]) & master.functions[name]
            ],
        }
        how, mine = next(((how, mine) for how, mine in ways.items() if mine), ("no answer was found", []))
        if how:
            found.notes.append(f"{name}: {how}")
        if mine:
            found.by_cell[name] = "\n\n".join(cell["source"] for cell in _without_blanks(mine))
        used += mine
    found.notes += _changed_checks(code, master)
    theirs = {cell.source for cell in _released(master)}
    found.extra = [cell["source"] for cell in code if cell not in used and cell["source"] not in theirs]
    return found


@cache
def _released(master: Master) -> list:
    return student_copy(master).cells


def _without_blanks(cells: list[dict]) -> list[dict]:
    return [cell for cell in cells if STUB[-1] not in cell["source"]] or cells[:1]


def _changed_checks(code: list[dict], master: Master) -> list[str]:
    notes = []
    for cell in _released(master):
        if is_check(cell):
            name = marks(cell)["grade_id"]
            handed_in = [other["source"] for other in code if marks(other).get("grade_id") == name]
            if handed_in and any(source != cell.source for source in handed_in):
                notes.append(f"{name}: this check was changed; the teacher's was used")
    return notes
