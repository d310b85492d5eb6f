"""The kinds of error that a student meets: what was wrong, where, and what to do next."""

from __future__ import annotations

import re
import warnings
from difflib import get_close_matches
from pathlib import Path


class ReclabError(Exception):
    """Base of every error that reclab raises on purpose; the command line prints it as one line."""


class AssetError(ReclabError):
    """A data set or a model file is missing, damaged, or cannot be fetched."""


class SchemaError(ReclabError, ValueError):
    """A table does not have the columns, types or keys that its schema asks for."""


class LeakageError(ReclabError, AssertionError):
    """A split lets the model see what it is tested on."""


class UnknownNameError(ReclabError, KeyError):
    """A profile, asset, notebook, exercise or command of that name does not exist."""

    def __init__(self, kind: str, name: str, known):
        self.kind, self.name, self.known = kind, name, sorted(known)
        # A part is enough: fusion stands for 04_multimodal_fusion.
        parts = {part: whole for whole in self.known for part in [whole, *re.split("[_-]", whole)]}
        near = get_close_matches(str(name).lower(), parts, n=1)
        meant = f" (did you mean {parts[near[0]]!r}?)" if near else ""
        known = ", ".join(self.known)
        super().__init__(f"there is no {kind} named {name!r}; choose one of: {known}{meant}")

    def __str__(self) -> str:
        return self.args[0]


def warn_not_kept(folder: Path, variable: str) -> None:
    """Say that a result is there but not kept for the next time: its folder cannot be written.

    variable : the environment variable that chooses another folder.
    """
    warnings.warn(
        f"{folder} cannot be written, so what is computed is not kept for the next time; free some "
        f"space there, or set {variable} to a folder that can be written",
        stacklevel=3,
    )


def one_line(text: object, width: int = 200) -> str:
    """Any message as one line of at most ``width`` characters, without a terminal's colours."""
    line = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(text)).split())
    return line if len(line) <= width else line[: width - 3] + "..."
