"""Files of any size, block by block: gzip, zip or plain; JSON lines and delimited tables.

Memory is bounded by one block and by the longest line that is allowed. Nothing is ever unpacked to the disk.
Taught in: 11_efficiency_and_scale.
"""

from __future__ import annotations

import gc
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from ..catalogue import stand_in
from ..errors import AssetError, ReclabError, SchemaError
from .schema import require_columns

BLOCK = 4 << 20  # bytes of text that are parsed at once
LONGEST = 16 << 20  # bytes of the longest line that is read
BOM = b"\xef\xbb\xbf"
_SCAN = json.JSONDecoder().scan_once  # one object from a place in a text: no copy of each line
_BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile, struct.error, ValueError, RuntimeError, pa.ArrowException)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn what a damaged or foreign file sets off into one line that names the file.

    Taught in: 11_efficiency_and_scale.
    """
    try:
        yield
    except ReclabError:
        raise
    except FileNotFoundError:
        raise AssetError(f"there is no file {path}; give its path, or fetch it with `reclab data fetch`") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise AssetError(f"{path} is cut off or damaged: {_first_line(error)}; fetch it anew") from None
    except _BROKEN as error:
        raise SchemaError(f"{path} cannot be read: {_first_line(error)}; look at it, or fetch it anew") from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")


def members(source: str | Path) -> list[str]:
    """Names of the files in a folder or a zip file, shortest first; of any other file its own name.

    Taught in: 11_efficiency_and_scale.
    """
    path = Path(source)
    with named(path):
        if path.is_dir():
            names = [str(file.relative_to(path).as_posix()) for file in path.rglob("*") if file.is_file()]
        elif _is_zip(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
        else:
            names = [path.name]
    return sorted(names, key=lambda name: (len(name), name))


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def find(source: str | Path, member: str) -> str:
    """The full name of a member, wherever the folder or the zip file holds it.

    Raises
    ------
    AssetError : it holds no such file.

    Taught in: 11_efficiency_and_scale.
    """
    names = members(source)
    for name in names:
        if name == member or name.endswith(f"/{member}"):
            return name
    raise AssetError(f"{source} holds no {member}; it holds {', '.join(names[:5]) or 'nothing'}")


@contextmanager
def opened(source: str | Path, member: str = "") -> Iterator[BinaryIO]:
    """A readable stream of a plain, gzip or zip file, or of a member of a zip file or a folder.

    Raises
    ------
    AssetError : the file is missing, empty, cut off, or an HTML page, a Git-LFS pointer or a server's error message.
    SchemaError : what reads it finds another format.

    Taught in: 11_efficiency_and_scale.
    """
    path = Path(source)
    if path.is_dir():
        path, member = path / find(path, member or "a file: name one of the folder's"), ""
    with named(path), ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        if _is_zip(path):
            archive = stack.enter_context(zipfile.ZipFile(stream))
            stream = stack.enter_context(archive.open(find(path, member or _only(path))))
        elif stream.peek(2)[:2] == b"\x1f\x8b":
            stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
        start = stream.peek(512)[:512]
        if not start:
            raise AssetError(f"{path} is empty; fetch it anew")
        if found := stand_in(start):
            raise AssetError(f"{path} is not the data: {found}; download the file itself")
        yield stream


def _only(path: Path) -> str:
    names = members(path)
    if len(names) != 1:
        raise AssetError(f"{path} holds {len(names)} files: {', '.join(names[:5])}; unpack it and give one of them")
    return names[0]


def blocks(stream: BinaryIO, name: str, size: int | None = None) -> Iterator[bytes]:
    """Blocks of whole lines, each ending in a newline; without a byte order mark.

    Raises
    ------
    SchemaError : a line is longer than `LONGEST`.

    Taught in: 11_efficiency_and_scale.
    """
    rest = stream.read(len(BOM)).removeprefix(BOM)
    while more := stream.read(size or BLOCK):
        cut = more.rfind(b"\n") + 1
        if cut:
            yield rest + more[:cut]
            rest = more[cut:]
        else:
            rest += more
        if len(rest) > LONGEST:
            raise SchemaError(f"{name}: a line is longer than {LONGEST >> 20} MiB; is this a file of lines?")
    if rest:
        yield rest + b"\n"


def refuse(bad: Counter | None, name: str, where: str, why: str, kind: str) -> None:
    """Count a bad row where the caller counts them, else stop at it.

    Taught in: 11_efficiency_and_scale.
    """
    if bad is None:
        raise SchemaError(f"{name}: {where}: {why}; mend it, or count and drop such rows with `bad=Counter()`")
    bad[kind] += 1


def json_tables(
    source: str | Path, make: Callable[[list[dict]], pd.DataFrame], bad: Counter | None = None
) -> Iterator[pd.DataFrame]:
    """The objects of a JSON-lines file as tables, a block at a time; the index is the line, counted from 1.

    Parameters
    ----------
    make : a table with one row for each of some objects.
    bad : counts the lines that are no object, which are then left out; without it the first one stops the reading.

    Raises
    ------
    AssetError, SchemaError : as in `opened`; a line that is not a JSON object.

    Taught in: 11_efficiency_and_scale.
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
            row, why = None, f"not JSON ({_first_line(error)})"
            if line.startswith((b"{'", b'{"')) and b"': " in line:
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

    Raises
    ------
    AssetError, SchemaError : as in `opened`; a column is missing; a row has another number of fields.

    Taught in: 11_efficiency_and_scale.
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


def keep(
    table: pd.DataFrame, ok: np.ndarray, name: str, kind: str, said: Callable[[int], str], bad: Counter | None
) -> pd.DataFrame:
    """The rows that are ok; the first other one stops the reading, or all are counted.

    Parameters
    ----------
    table : its index says where each row stands in the file.
    ok : bool (n_rows,).
    said : from a position in the table to what is wrong there.

    Taught in: 11_efficiency_and_scale.
    """
    ok = np.asarray(ok, bool)
    if ok.all():
        return table
    first = int((~ok).argmax())
    refuse(bad, name, f"{table.index.name or 'row'} {table.index[first]}", said(first), kind)
    if bad is not None:
        bad[kind] += int((~ok).sum()) - 1
    return table[ok]
