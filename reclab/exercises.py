"""Exercises that check themselves: right answers pass, known wrong ones get their hint.

Only fingerprints of answers are stored, so that no answer lies in plain sight: an exercise is a function, called on
fixed inputs, and the hash of what it returns is compared. ``tests/make_exercises.py`` makes them from the teacher's
solutions and from wrong answers that students give.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import resources

import numpy as np

from .errors import ReclabError, UnknownNameError


class NotYet(ReclabError, AssertionError):
    """An answer that is not right yet; the message is its hint. In a notebook it shows without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def check(exercise: str, function: Callable) -> None:
    """Call a student's function on the exercise's inputs; print that it is right, or raise `NotYet` with a hint.

    Parameters
    ----------
    exercise : ``NN.n``, as the notebook names it.
    function : the answer; it gets numbers and numpy arrays and returns a number, a text, or a list or array of them.

    Raises NotYet: the answer is blank, fails, or is wrong; says which hint applies.
    Raises UnknownNameError: no such exercise.
    """
    known = registry()
    if exercise not in known:
        raise UnknownNameError("exercise", exercise, known)
    entry = known[exercise]
    print_ = fingerprint(exercise, function, entry["probes"])
    if print_ == entry["right"]:
        print(f"exercise {exercise}: right")
        return
    raise NotYet(f"exercise {exercise}: not yet. Hint: {entry['wrong'].get(print_, entry['hint'])}")


def registry() -> dict[str, dict]:
    """All exercises: inputs, fingerprint of the right answer, hints by fingerprint of wrong ones, a first hint."""
    return json.loads(resources.files(__package__).joinpath("exercises.json").read_text("utf-8"))


def fingerprint(exercise: str, function: Callable, probes: list[list]) -> str:
    """Hash of what a function returns on the inputs, numbers rounded to six significant digits.

    Raises NotYet: the function raised, or returned nothing.
    """
    outputs = []
    for probe in probes:
        arguments = [np.array(part) if isinstance(part, list) else part for part in probe]
        try:
            output = function(*arguments)
        except NotImplementedError:
            output = None
        except Exception as error:
            raise NotYet(f"exercise {exercise}: your function stopped with {type(error).__name__}: {error}") from None
        if output is None:
            raise NotYet(
                f"exercise {exercise}: your function returns nothing yet; write its body and return the answer"
            )
        outputs.append(_plain(output))
    return hashlib.sha256(json.dumps([exercise, outputs]).encode()).hexdigest()


def _plain(output):
    if isinstance(output, str | bool | np.bool_):
        return str(output)
    if isinstance(output, dict):
        return {str(key): _plain(value) for key, value in sorted(output.items())}
    if np.ndim(output):
        return [_plain(part) for part in output]
    return f"{float(output):.5e}".replace("-0.00000e+00", "0.00000e+00")
