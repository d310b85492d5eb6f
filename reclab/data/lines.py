"""JSON lines and delimited tables of any size, as tables, a block at a time.

Memory is bounded by one block, its table, and the longest line that is allowed.
"""

from __future__ import annotations

import gc
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from ..errors import SchemaError
from .files import blocks, first_line, opened, refuse
from .schema import require_columns

_SCAN = json.JSONDecoder().scan_once  # one object from a place in a text: no copy of each line


def json_tables(
    source: str | Path, make: Callable[[list[dict]], pd.DataFrame], bad: Counter | None = None
) -> Iterator[pd.DataFrame]:
    """The objects of a JSON-lines file as tables, a block at a time; the index is the line, counted from 1.

    Parameters
    ----------
    make : a table with one row for each of some objects.
    bad : counts the lines that are no object, which are then left out; without it the first one stops the reading.

    Raises AssetError, SchemaError: as in `opened`; a line that is not a JSON object.
    """
    name, first = Path(source).name, 1
    with opened(source) as stream:
        for block in blocks(stream, name):
            count = block.count(b"\n")
            with _uncollected():
                table = _table(block, count, name, first, make, bad)
            if table is not None:
                yield table
            first += count


@contextmanager
def _uncollected() -> Iterator[None]:
    # Parsed JSON has no cycles, and looking for them would take a fifth of the time.
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _table(block: bytes, count: int, name: str, first: int, make, bad: Counter | None) -> pd.DataFrame | None:
    rows, numbers = _scanned(block, count), range(first, first + count)
    if not rows:
        rows, numbers = _line_by_line(block, name, first, bad)
    return make(rows).set_axis(pd.Index(numbers, name="line")) if rows else None


def _scanned(block: bytes, count: int) -> list[dict]:
    """All objects of a block, or nothing where a line is not exactly one object."""
    rows, at = [], 0
    try:
        text = block.decode("utf-8")
        while at < len(text):
            row, at = _SCAN(text, at)
            if text[at] != "\n":
                return []
            rows.append(row)
            at += 1
    except (ValueError, StopIteration, RecursionError):
        return []
    return rows if len(rows) == count and set(map(type, rows)) <= {dict} else []


def _line_by_line(block: bytes, name: str, first: int, bad: Counter | None) -> tuple[list[dict], list[int]]:
    rows, numbers = [], []
    for number, line in enumerate(block.split(b"\n")[:-1], first):
        if not (line := line.strip()):
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            row, why = None, f"not JSON ({first_line(error)})"
            if line.startswith((b"{'", b"{u'")):
                why = "not JSON but a Python literal, as in the metadata of 2014; take the files of 2018 or 2023"
        else:
            why = f"{type(row).__name__} in place of an object"
        if isinstance(row, dict):
            rows.append(row)
            numbers.append(number)
        else:
            refuse(bad, name, f"line {number}", why, "not JSON")
    return rows, numbers


def delimited(
    source: str | Path,
    member: str = "",
    *,
    names: Sequence[str] | None = None,
    need: Sequence[str] = (),
    separator: str = ",",
    quotes: bool = True,
    encoding: str = "utf-8",
    bad: Counter | None = None,
) -> Iterator[pd.DataFrame]:
    """A delimited file as tables of text, a block at a time; the index is the row, counted from 0 after any header.

    Parameters
    ----------
    names : of the columns where the file has no header.
    need : columns that the header must name.
    separator : one or two characters; of ``::`` the file must hold no tab.
    quotes : whether double quotes enclose fields; they must close within a block.
    bad : counts the rows with too few or too many fields, which are then left out.

    Raises AssetError, SchemaError: as in `opened`; a column is missing; a row has another number of fields.
    """
    name, first = member.rsplit("/", 1)[-1] or Path(source).name, 0
    with opened(source, member) as stream:
        for block in blocks(stream, name):
            if len(separator) > 1:
                block = block.replace(separator.encode(), b"\t")
            single = separator if len(separator) == 1 else "\t"
            if names is None:
                names, block = _header(block, single, name, need)
            if not block.strip():
                continue
            if encoding == "utf-8":
                _check_text(block, name, first)
            table, count = _fields(block, names, single, quotes, encoding, name, first, bad)
            yield table
            first += count


def _header(block: bytes, separator: str, name: str, need: Sequence[str]) -> tuple[list[str], bytes]:
    line, _, rest = block.partition(b"\n")
    names = [part.strip().strip('"') for part in line.decode("utf-8").strip("\r").split(separator)]
    names = [part or f"unnamed {place}" for place, part in enumerate(names)]
    require_columns(pd.DataFrame(columns=names), need, name)
    for twice in {part for part in names if names.count(part) > 1}:
        raise SchemaError(f"{name}: two columns are named {twice!r}; rename or drop one of them")
    return names, rest


def _check_text(block: bytes, name: str, first: int) -> None:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        row = first + block.count(b"\n", 0, error.start)
        raise SchemaError(f"{name}: row {row} is not UTF-8; save the file as UTF-8, or fetch it anew") from None


def _fields(block, names, separator, quotes, encoding, name, first, bad) -> tuple[pd.DataFrame, int]:
    """A block as a table of text, and the number of its rows; those of another length are left out or refused."""
    refused = []

    def other_length(row) -> str:
        refused.append((row.number - 1, row.actual_columns, "\n" in row.text))
        return "skip"

    table = pyarrow.csv.read_csv(
        io.BytesIO(block),
        pyarrow.csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names, encoding=encoding),
        pyarrow.csv.ParseOptions(
            delimiter=separator, quote_char='"' if quotes else False, invalid_row_handler=other_length
        ),
        pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    for row, fields, lines in refused:
        if lines:  # the rest of the block is gone: no count of rows would be true
            raise SchemaError(f"{name}: row {first + row}: a double quote is not closed; close it, or remove it")
        refuse(bad, name, f"row {first + row}", f"{fields} fields, not {len(names)}", "number of fields")
    count = table.num_rows + len(refused)
    places = np.delete(np.arange(first, first + count), [row for row, *_ in refused])
    return table.to_pandas().set_axis(places), count
