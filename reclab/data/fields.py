"""Fields of JSON objects whose types are not what they should be."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable
from contextlib import suppress

import pyarrow as pa

_TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")


def column_of(values: list, kind: pa.DataType) -> pa.Array:
    """Values as one type; where some are of another, those that say the same in it, and the rest missing."""
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        if kind == pa.bool_():
            return pa.array([value if isinstance(value, bool) else None for value in values], kind)
        mend: Callable = {pa.string(): as_text, pa.int64(): as_whole}.get(kind, as_number)
        return pa.array([mend(value) for value in values], kind)


def as_text(value) -> str | None:
    """A str without half characters, or a whole number as text; of anything else nothing."""
    if isinstance(value, str):  # half of a surrogate pair is no character
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def as_number(value) -> float | None:
    """A finite number, also of a str such as "4.5"; of anything else nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_whole(value) -> int | None:
    """A whole number of 64 bits, also of a str or of 4.0; of anything else nothing."""
    number = as_number(value)
    return int(number) if number is not None and number == int(number) and abs(number) < 2**63 else None


def unmarked(text: str) -> str:
    """A text without tags and entities: "Tea<br />&amp; cake" gives "Tea & cake"."""
    if "<" not in text and "&" not in text:
        return text
    bare = _TAG.sub(" ", text)
    with suppress(ValueError):  # a numbered entity of thousands of digits
        bare = html.unescape(bare)
    return " ".join(bare.split())
