"""Your own data: a table in memory or a file of nearly any form becomes a `Dataset`.

Every choice (separator, encoding, day or month first, unit of time) rests on the whole file and is
said in one line, which is printed and kept on the card. Where two readings hold, or none, nothing
is guessed: the error names file, line and column, and the argument that settles it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import is_datetime64_any_dtype, is_float_dtype, is_numeric_dtype

from ..errors import AssetError, SchemaError
from ..profiles import memory
from .files import members, named, opened
from .schema import Card, Dataset, Split, listed

_KEYS = {"interactions": ("user_id", "item_id"), "items": ("item_id",), "users": ("user_id",)}
_HINTS = {  # how other files name these columns
    "user_id": "user|customer|member|reviewer|visitor|uid|who",
    "item_id": "item|movie|film|product|book|song|track|article|asin|isbn|iid|what",
    "rating": "rat|star|score|overall",
    "positive": "like|click|label",
    "timestamp": "time|date|when|^ts$",
}
_RECBOLE = re.compile(r":(token|float)(_seq)?$")  # the types in its atomic files
_BLOCK = 50_000  # rows that are Python objects at a time
_GROWTH = 4  # bytes of memory for a byte of a file
_LONGEST = 16 << 20  # characters of a field: a longer one is an open quote
_FIELD = "\x1f"  # stands for a separator of several characters
_BLANK = " \t\r\n\v\f\xa0\u3000\ufeff\u200b"
_NOTHING = ["NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None", "\\N"]
_FLAGS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TYPES = {  # of columns without a type; what has zeros before it, or is longer, may be an id
    r"-?(?:0|[1-9]\d{0,14})": "int64",
    r"-?(?:0|[1-9]\d{0,14})(?:\.\d+)?(?:[eE]-?\d\d?)?": "float64",
}
_LIKE_A_VALUE = re.compile(r"[-+\d][-+\d.,:/ TZ]*|true|false", re.IGNORECASE)
_MERGED = re.compile(r"-?\d(\.\d+)?[eE]\+?\d\d+|.*\ufffd.*", re.DOTALL)

_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a second
_DAYS_OF = {"D": "1970-01-01", "excel": "1899-12-30"}  # their first day
_KEPT = pd.Timestamp("1678-01-01", tz="UTC"), pd.Timestamp("2261-12-31", tz="UTC")
_NO_ZONE = "no zone, taken as UTC"
_ISO = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[-+]\d\d(:?\d\d)?)?)?"
_DAYS = "%Y/%m/%d %d/%m/%Y %m/%d/%Y %d/%m/%y %m/%d/%y %y/%m/%d %d/%b/%Y %b/%d/%Y %d/%B/%Y %B/%d/%Y"
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_FORMS = ["%Y%m%d", "%Y%m%d%H%M%S", *map("".join, product(_DAYS.split(), _CLOCKS, ("", "%z")))]
_parsed = partial(pd.to_datetime, utc=True, errors="coerce")  # NaT where a text has another form
_WHEN = (
    "; say unit='s', 'ms', 'us', 'ns', 'D' (days since 1970), 'excel' (days of a spreadsheet) or a "
    "format such as unit='%d.%m.%y %H:%M'"
)


def load_csv(
    interactions,
    items=None,
    users=None,
    *,
    rename: dict | list[str] | None = None,
    positive_from: float | str | None = None,
    licence: str = "yours; say it here",
    sep: str | dict | None = None,
    encoding: str | dict | None = None,
    quote: str | dict | None = None,
    decimal: str | None = None,
    dayfirst: bool | None = None,
    unit: str | None = None,
    na: str | list[str] | dict | None = None,
) -> Dataset:
    """Read interactions and, if there are any, items and users; print what was read, in one line.

    Each is a table in memory (pandas, Polars, Arrow) or the path of a CSV file with any separator,
    of JSON lines, Parquet or RecBole's atomic files, plain or as gzip, bzip2 or zip; or a folder or
    zip file of such parts. What is not given below is found out from the whole file. ``rename``,
    ``sep``, ``encoding``, ``quote`` and ``na`` may differ from file to file:
    ``{"interactions": ..., "items": ...}``.

    Parameters
    ----------
    interactions : needs ``user_id, item_id`` and ``positive`` (0/1, true/false) or ``rating``;
        ``timestamp`` is wanted by the splits by time.
    items : needs ``item_id``; ``text`` is what a language model reads. Left out: the items seen.
    users : needs ``user_id``. Left out: the users seen.
    rename : from the file's column names to these; for a file without a header a list of its names.
    positive_from : lowest rating that counts as positive (4 on a scale that ends at 5), or "all":
        every row is positive, as in a log of purchases.
    quote : character around fields; '' if quotes are plain characters, '\\\\"' if a backslash
        stands before a quote within quotes.
    decimal : "." or ",". dayfirst : whether 05/06/2024 is 5 June.
    unit : of times that are numbers ("s", "ms", "us", "ns", "D", "excel"), or the format of dates.
    na : words that stand for nothing. Left out: an empty field only.

    Raises AssetError: a file is missing, damaged, or is an HTML page or a Git-LFS pointer.
    Raises SchemaError: a column or value is missing, cannot be read, or can be read in two ways;
        lines are counted from 1, with the header and blank ones, rows of a table from 0.
    """
    sources = {"interactions": interactions, "items": items, "users": users}
    given = {"rename": rename, "sep": sep, "encoding": encoding, "quote": quote, "na": na}
    tables = {}
    for kind, source in sources.items():
        if source is not None or kind == "interactions":
            options = {name: _for(kind, option) for name, option in given.items()}
            tables[kind] = _read(source, kind, options)
    _refuse_unused(rename, [name for table in tables.values() for name in table.found])
    for key in ("user_id", "item_id"):
        _tidy_ids([table for table in tables.values() if key in _KEYS[table.kind]], key)
    log = tables["interactions"]
    if "rating" in log.frame:
        log.frame["rating"], decimal = _ratings(log, decimal)
    positive, liked = _positive(log, positive_from)
    times, span = _times(log, unit, dayfirst)
    ids = log.frame[["user_id", "item_id"]]
    n_users, n_items = ids.nunique()
    counts = f"{len(ids):,} rows, {n_users:,} users, {n_items:,} items"
    log.notes[:0] = [counts, span, liked, f"{ids.duplicated().sum():,} repeated pairs"]
    for table in tables.values():
        _type_the_rest(table, decimal)
    log.frame = log.frame.assign(positive=positive, timestamp=times)
    users, items = _with_all(tables, log, "users"), _with_all(tables, log, "items")
    if "text" not in items:
        items["text"] = None
    said = ". ".join(f"{table.name}: {'; '.join(table.notes)}" for table in tables.values())
    print(said)
    source = ", ".join(table.name for table in tables.values())
    card = Card(title="your data", source=source, licence=licence, read=said)
    return Dataset(users, items, log.frame.reset_index(drop=True), card)


def _for(kind: str, option):
    """What an option says of one of the files."""
    by_file = isinstance(option, dict) and set(option) <= set(_KEYS)
    if by_file and not _HINTS.keys() & set(map(str, option.values())):
        return option.get(kind)
    return option


@dataclass
class _Table:
    """A table under our names; its index says where each row stands.

    Attributes
    ----------
    found : the names of its columns as they were.
    word : what its rows are called; a file's lines are counted from 1, other rows from 0.
    typed : whether its columns have types; without, all are text.
    """

    name: str
    kind: str
    frame: pd.DataFrame
    found: list[str]
    word: str = "line"
    typed: bool = False
    notes: list[str] = field(default_factory=list)
    na_is_known: bool = False

    def refuse(self, column: str, bad, why: str) -> None:
        """Stop at the first bad row."""
        bad = np.asarray(bad, bool)
        if not bad.any():
            return
        row = int(bad.argmax())
        value = self.frame[column].iloc[row]
        value = value.item() if hasattr(value, "item") else value
        shown = "missing" if pd.isna(value) else repr(value)[:80]
        place = self.frame.index[row]
        file, line = place if isinstance(place, tuple) else ("", place)
        where = f"{self.word} {line}" + (f" of {file}" if file else "")
        raise SchemaError(f"{self.name}: {column} in {where} is {shown}{why}")


def _read(source, kind: str, options: dict) -> _Table:
    if isinstance(options["rename"], list) and kind != "interactions":
        options["rename"] = None
    if isinstance(source, str | Path):
        path = Path(source)
        with named(path):
            parts = [_read_part(path, part, kind, options) for part in _parts(path)]
        table = parts[0] if len(parts) == 1 else _together(path.name, parts)
    else:
        table = _from_memory(source, kind, options["rename"])
    if table.frame.empty:
        raise SchemaError(
            f"{table.name}: there are no rows below the header; give a file with data"
        )
    na = options["na"]
    nothing = [na] if isinstance(na, str) else list(map(str, na or []))
    if na is not None:
        table.na_is_known = True
        table.notes.append(f"na={nothing}")
    for name, column in table.frame.items():
        if nothing or pd.api.types.is_string_dtype(column):
            table.frame[name] = column.mask(_texts(column).isin(["", *nothing]))
    table.notes += [f"{name} has no name" for name in table.frame if name.startswith("column ")]
    table.notes += ["RecBole's types cut off"] if any(map(_RECBOLE.search, table.found)) else []
    return table


def _together(name: str, parts: list[_Table]) -> _Table:
    """The parts of one table, one after the other."""
    first = parts[0]
    for part in parts:
        if set(part.frame) != set(first.frame) or part.typed != first.typed:
            raise SchemaError(
                f"{name} holds two tables: {first.name} with {listed(first.frame)}, "
                f"{part.name} with {listed(part.frame)}; give one of them"
            )
    notes = [f"{len(parts)} parts", *(note for part in parts for note in part.notes)]
    frame = pd.concat([part.frame for part in parts], keys=[part.name for part in parts])
    if first.typed:
        frame = frame.apply(_plain_type)
    return replace(first, name=name, frame=frame, notes=list(dict.fromkeys(notes)))


# Names of columns


def _our_names(header: list[str], rename: dict[str, str] | list[str] | None) -> list[str]:
    """Our names for those of a file; a column without a name gets one."""
    if isinstance(rename, list):
        raise SchemaError("rename=[...] names the columns of text without a header; give a dict")
    ours, rename = [], rename or {}
    for number, name in enumerate(map(_tidy, header), 1):
        plain = _RECBOLE.sub("", name)
        ours.append(rename.get(name, rename.get(plain, plain)) or f"column {number}")
    return ours


def _tidy(text: str) -> str:
    """A name or an id without blanks around, in one Unicode form."""
    return unicodedata.normalize("NFC", text).strip(_BLANK)


def _check_names(names: list[str], kind: str, where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise SchemaError(
                f"{where}: two columns are named {name!r}; rename or drop one of them"
            )
    if missing := [key for key in _KEYS[kind] if key not in names]:
        hint = _missing(missing, names)
        raise SchemaError(f"{where}: {hint}, or rename=[all names] where the first line is data")


def _missing(missing: list[str], names: list[str]) -> str:
    like = {}
    for wanted in missing:
        free = [name for name in names if name not in like and name not in _HINTS]
        like |= {name: wanted for name in free if re.search(_HINTS[wanted], name.lower())}
    return (
        f"no column {' or '.join(map(repr, missing))}; it has {listed(map(repr, names))}; "
        f"say rename={like or {'its name there': missing[0]}}"
    )


def _refuse_unused(rename, found: list[str]) -> None:
    """A name that no file has is a typing error, for which a column would be missed."""
    found = set(map(_tidy, found))
    found |= {_RECBOLE.sub("", name) for name in found}
    for names in (_for(kind, rename) for kind in _KEYS):
        for old in names if isinstance(names, dict) else ():
            if old not in found:
                raise SchemaError(f"rename: no column {old!r}; there are {listed(sorted(found))}")


# Files


def _parts(path: Path) -> list[str]:
    """Names of the files in a folder or a zip file but for hidden and empty ones; else no name."""
    if not path.exists():
        raise AssetError(f"there is no file {path}; give the path of a file, or a table")
    inside = sorted(name for name in members(path) if not re.search(r"(^|/)[._]", name))
    if "xl/workbook.xml" in inside:
        raise SchemaError(f"{path.name} is a workbook; save it as CSV, or give the table of pandas")
    files = [path]
    if path.is_dir():
        inside = [name for name in inside if (path / name).stat().st_size]
        files = [path / name for name in inside]
        if by_value := [name for name in inside if "=" in name]:
            raise SchemaError(
                f"{path.name} holds {by_value[0]}, whose name is a value; give the table that "
                "pandas.read_parquet makes of the folder"
            )
    if not inside:
        raise AssetError(f"{path.name} holds no file; give the path of a file, or a table")
    need, free = _GROWTH * sum(file.stat().st_size for file in files), memory()[1]
    if need > free:
        raise SchemaError(
            f"{path.name} needs {need / 2**30:.1f} GiB of memory, of which {free / 2**30:.1f} are "
            "free; give the rows of some users, or the columns that you need"
        )
    return inside if inside != [path.name] else [""]


def _read_part(path: Path, part: str, kind: str, options: dict) -> _Table:
    name = part or path.name
    with opened(path, part) as stream:
        head = stream.peek(512)[:512]
        if head.startswith(b"PAR1"):
            frame = pq.ParquetFile(stream).read().to_pandas(ignore_metadata=True)
            return _typed(frame, name, kind, options["rename"])
        encoding = _encoding(head, options["encoding"], name)
        text = io.TextIOWrapper(stream, encoding, newline="")
        try:
            first = [*islice((line for line in text if line.strip(_BLANK)), 2), "", ""]
            text.seek(0)
            if re.match(r"\s*(\{|\[\s*(\{|$))", first[0]):
                lines = _objects(text, name)
                blocks = iter(lambda: dict(islice(lines, _BLOCK)), {})
                frame = pd.concat(
                    [pd.DataFrame(list(block.values()), list(block)) for block in blocks]
                )
                table = _typed(frame, name, kind, options["rename"], "line")
            else:
                table = _from_text(text, first, name, kind, options)
        except UnicodeDecodeError:
            stream.seek(0)
            text = io.TextIOWrapper(stream, encoding, "replace", newline="")
            line, content = next((n, line) for n, line in enumerate(text, 1) if "\ufffd" in line)
            raise SchemaError(
                f"{name}: line {line} is not {encoding} ({content.strip()[:60]!r}); say encoding="
                "'cp1252' (Western Europe), 'cp1251' (Cyrillic), 'gb18030' (Chinese) or other"
            ) from None
    if not encoding.startswith("utf-8"):
        table.notes.append(f"encoding {encoding}")
    return table


def _encoding(head: bytes, said: str | None, name: str) -> str:
    """The encoding that was said, or that a mark tells; else UTF-8."""
    mark = "utf-8-sig" if head.startswith(codecs.BOM_UTF8) else ""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        mark = "utf-16"
    if not said and not mark and b"\0" in head:
        raise SchemaError(
            f"{name} is no text: the file of some program, or UTF-16 without its mark; say "
            "encoding='utf-16-le' or 'utf-16-be', or give a table"
        )
    if mark and codecs.lookup(said or "utf-8").name == "utf-8":
        return mark
    return said or "utf-8"


# Text with separators


def _from_text(text, first: list[str], name: str, kind: str, options: dict) -> _Table:
    """All rows as text; what needs another ``quote``, ``sep`` or ``encoding`` is refused."""
    sep, quote, skip = options["sep"], options["quote"], 0
    if told := re.fullmatch(r'"?sep=(.)"?\s*', first[0]):  # a line for spreadsheets
        sep, skip, first = sep or told[1], 1, first[1:]
    sep, header, names = _header(first[0], name, kind, options["rename"], sep, quote)
    table = _Table(name, kind, pd.DataFrame(), header)
    table.notes += [f"separator {sep!r}"] if sep != "," and len(names) > 1 else []
    table.notes += [f"quote={quote!r}"] if quote is not None else []
    has_header = not isinstance(options["rename"], list)
    rows = _rows(_records(text, sep, quote), table, names, sep, skip + has_header, has_header)
    schema = pa.schema([*((name, pa.string()) for name in names), ("", pa.int64())])
    blocks = [schema.empty_table()]
    for lines, fields in rows:
        columns = [*list(zip(*fields, strict=True))[: len(names)], lines]
        blocks.append(pa.table(list(map(pa.array, columns)), schema=schema))
    whole = pa.concat_tables(blocks)
    blocks.clear()
    table.frame = whole.to_pandas(split_blocks=True, self_destruct=True).set_index("")
    for column, values in table.frame.items():
        foreign = values.str.contains("[\0\u0a00]")  # the latter is a line's end, bytes swapped
        table.refuse(column, foreign, ", with a character of no text; say encoding=")
        if quote is None:
            apart = values.str.fullmatch(' +".*" *')
            table.refuse(column, apart, f", a blank before the quote; say sep={sep + ' '!r}")
            single = values.str.fullmatch("'.*'")
            table.refuse(column, single & single.all(), ', in single quotes; say quote="\'"')
    if quote is None:
        _refuse_swallowed_rows(table, sep)
    return table


def _records(lines, sep: str, quote: str | None):
    """A reader of the csv module: it gives fields, and knows how many lines it has read."""
    mark = quote or '"'
    if quote == '\\"':
        mark, lines = '"', (line.replace('\\"', '""') for line in lines)
    if len(sep) > 1:
        lines = (line.replace(sep, _FIELD) for line in lines)
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
    how = csv.QUOTE_NONE if quote == "" else csv.QUOTE_MINIMAL
    delimiter = sep if len(sep) == 1 else _FIELD
    return csv.reader(lines, delimiter=delimiter, quotechar=mark, quoting=how, strict=True)


def _header(first: str, name: str, kind: str, rename, sep, quote) -> tuple[str, list, list]:
    """The separator under which the first line holds the keys, or as many fields as names; the
    fields of that line, and our names for them.
    """
    found = []
    for candidate in [sep] if sep else (",", ";", "\t", "::", "|", " "):
        with suppress(csv.Error):
            header = next(_records([first], candidate, quote), [])
            names = rename if isinstance(rename, list) else _our_names(header, rename)
            if len(names) == len(header):
                found.append((candidate, header, names))
    fitting = [form for form in found if set(_KEYS[kind]) <= set(form[2])]
    if len(fitting) > 1:  # a blank separates only where nothing else does
        several = [form for form in fitting if form[0] != " " and len(form[1]) > 1]
        fitting = several or fitting[:1]
    if len(fitting) > 1 or not found:
        raise SchemaError(
            f"{name}: the first line is {first.strip()[:80]!r}, which tells no separator; say "
            "sep=, quote=, or rename= with as many names as it has fields"
        )
    form = max(fitting or found, key=lambda form: len(form[1]))
    _check_names(form[2], kind, name)
    return form


def _rows(records, table: _Table, names: list[str], sep: str, skip: int, has_header: bool):
    """Lines and fields of some rows at a time: all of one length, none of them the header again."""
    size, width, start, lines, rows = len(names), 0, 1, [], []
    try:
        for row in records:
            line, start = start, records.line_num + 1
            if not row or (len(row) == 1 and row[0].isspace()):
                continue
            if skip:
                skip -= 1
                continue
            if not width:
                width = max(size, min(len(row), size + 1))
                table.notes += ["a separator after each row"] if width > size else []
            if len(row) != width or (width > size and row[-1]):
                raise SchemaError(
                    f"{table.name}: line {line} has {len(row)} fields for {size} names; put quotes "
                    f"around one that holds {sep!r}, or say sep="
                )
            if has_header and row == table.found:
                raise SchemaError(f"{table.name}: line {line} repeats the header; delete that line")
            lines.append(line)
            rows.append(row)
            if len(rows) == _BLOCK:  # of Python objects, which need much memory
                yield lines, rows
                lines, rows = [], []
    except csv.Error as error:
        raise SchemaError(
            f"{table.name}: a quote in the row that begins in line {start} is closed wrongly or "
            f"never ({error}); fix it, or say quote='' if quotes are plain characters, or "
            "quote='\\\\\"' if a backslash stands before those within"
        ) from None
    if rows:
        yield lines, rows


def _refuse_swallowed_rows(table: _Table, sep: str) -> None:
    """Stop at a line within quotes that looks as rows do: numbers and ids where these stand."""
    several = table.frame.apply(lambda values: values.str.contains("[\r\n]")).any(axis=1)
    if not several.any():
        return
    ids = {key: list(map(_tidy, table.frame[key].unique())) for key in _KEYS[table.kind]}
    kinds = {key: set(map(_kinds, ids[key])) for key in ids}
    sizes = {key: set(map(len, ids[key])) for key in ids}
    for first, *fields in table.frame[several].itertuples():
        for line, content in enumerate(re.split("\r\n|\r|\n", sep.join(fields)), first):
            cut = [text.strip(_BLANK + '"') for text in content.split(sep)]
            if line == first or len(cut) != len(fields):
                continue
            row = dict(zip(table.frame, cut, strict=True))
            values = [row[name] for name in ("rating", "positive", "timestamp") if name in row]
            if all(map(_LIKE_A_VALUE.fullmatch, values)) and all(
                _kinds(row[key]) in kinds[key]
                and min(sizes[key]) <= len(row[key]) <= max(sizes[key])
                for key in ids
            ):
                raise SchemaError(
                    f"{table.name}: line {line} stands within quotes and looks like a row: fix the "
                    "quotes, or say quote='\"' if they are right, quote='' if they are plain "
                    "characters"
                )


def _kinds(text: str) -> frozenset[str]:
    """The kinds of characters of a text: digits, letters, and every other one."""
    return frozenset(re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", text)))


# JSON lines, and tables with types


def _objects(text: io.TextIOWrapper, name: str) -> Iterator[tuple[int, dict]]:
    """Line and object of each line that is not blank."""
    for line, content in enumerate(text, 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content, object_pairs_hook=_once)
            if "\\u" in content:  # may be half a surrogate pair, which is no text
                json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            row = error
        if not isinstance(row, dict):
            raise SchemaError(
                f"{name}: line {line} is no JSON object ({str(row)[:80]}); write one a line, or "
                "give the table that pandas.read_json makes"
            )
        yield line, row


def _once(pairs: list[tuple]) -> dict:
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"a name twice in {listed(name for name, _ in pairs)}")
    return dict(pairs)


def _from_memory(source, kind: str, rename) -> _Table:
    name = f"the table of {kind}"
    with named(name):
        if isinstance(source, pd.DataFrame):
            levels = [level for level in source.index.names if level not in (None, *source)]
            source = (source.reset_index(levels) if levels else source).reset_index(drop=True)
            return _typed(source, name, kind, rename)
        if hasattr(source, "__arrow_c_stream__"):
            return _typed(pa.table(source).to_pandas(ignore_metadata=True), name, kind, rename)
    raise SchemaError(
        f"{name}: {type(source).__name__} is no table; give a path, or a table of pandas, Polars "
        "or Arrow"
    )


def _typed(frame: pd.DataFrame, name: str, kind: str, rename, word: str = "row") -> _Table:
    frame = frame.loc[:, [not str(old).startswith("__index_level_") for old in frame]]
    found = list(map(str, frame))
    frame = frame.set_axis(_our_names(found, rename), axis=1)
    _check_names(list(frame), kind, name)
    return _Table(name, kind, frame.apply(_plain_type), found, word, typed=True)


def _plain_type(column: pd.Series) -> pd.Series:
    """Numbers, times and texts as they are, and anything else as text."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    known = is_numeric_dtype(column) or is_datetime64_any_dtype(column)
    if known or isinstance(column.dtype, pd.StringDtype):
        return column
    return pd.Series(map(_as_text, column), column.index, dtype="str")


def _as_text(value) -> str | None:
    """A value of any type as the text that stands for it in a file."""
    if isinstance(value, dict | list | np.ndarray):
        return json.dumps(value, ensure_ascii=False, default=str)
    if pd.isna(value):
        return None
    return value.decode() if isinstance(value, bytes) else str(value)


def _texts(column: pd.Series) -> pd.Series:
    """A column without gaps as text; of numbers, 12.0 is 12 where all are whole."""
    if is_float_dtype(column) and (column % 1 == 0).all() and column.abs().max() < 2**63:
        column = column.astype("int64")
    return column if pd.api.types.is_string_dtype(column) else column.astype("str")


def _distinct(column: pd.Series) -> tuple[np.ndarray, pd.Series]:
    """A number for each row, and the text, without blanks around, for which each number stands."""
    codes, texts = pd.factorize(_texts(column))
    return codes, pd.Series(texts, dtype="str").str.strip(_BLANK)


def _numbers(texts: pd.Series, dtype: str) -> pd.Series:
    """Texts as numbers, each as exact as its text."""
    numbers = pa.array(texts, pa.large_string()).cast(dtype)
    return pd.Series(numbers.to_numpy(zero_copy_only=False), texts.index)


# What the columns mean


def _tidy_ids(tables: list[_Table], key: str) -> None:
    """Ids as text without blanks around, in one Unicode form; 12.0 is 12 where all are whole."""
    found = []
    for table in tables:
        table.refuse(key, table.frame[key].isna(), "; drop that row or give it an id")
        codes, raw = pd.factorize(_texts(table.frame[key]))
        ids = np.array(list(map(_tidy, raw)), dtype=object)
        table.refuse(key, (ids == "")[codes], ", a blank; give that row an id")
        if not table.na_is_known:
            words = np.isin(ids, _NOTHING)[codes]
            table.refuse(key, words, ": is that an id? say na=[], or na= that word if it is none")
        found.append((table, codes, raw, ids))
    whole = all(re.fullmatch(r"-?\d+(\.0+)?", id) for *_, ids in found for id in ids)
    for table, codes, raw, ids in found:
        if whole:
            ids = [id.partition(".")[0] for id in ids]
        table.frame[key] = pd.Series(ids, dtype="str").take(codes).set_axis(table.frame.index)
        pairs = zip(raw, ids, strict=True)
        if changed := [f"{old[:40]!r} to {new[:40]!r}" for old, new in pairs if old != new]:
            fewer = len(ids) - len(set(ids))
            same = f", {fewer} now as another" if fewer else ""
            table.notes.append(f"{key}: {len(changed):,} tidied (as {changed[0]}{same})")
        if merged := [id for id in raw if _looks_merged(id)]:
            table.notes.append(
                f"{key}: {len(merged):,} look merged (beyond 2^53, in exponent form or with a lost "
                f"character, as {merged[0][:40]})"
            )


def _looks_merged(id: str) -> bool:
    long = len(id) > 15 and id.isascii() and id.isdigit() and int(id) > 2**53
    return long or _MERGED.fullmatch(id) is not None


def _ratings(log: _Table, decimal: str | None) -> tuple[np.ndarray, str | None]:
    """The ratings as numbers, and the mark between whole and decimal places."""
    if decimal not in (None, ".", ","):
        raise SchemaError(f"decimal is '.' or ',', got {decimal!r}")
    column = log.frame["rating"]
    log.refuse("rating", column.isna(), ", not a number; drop that row or give it a rating")
    codes, texts = _distinct(column)
    commas = texts.str.fullmatch(r"[-+]?\d+,\d+")
    if commas.any() and decimal is None:
        thousands = texts.str.fullmatch(r"[-+]?\d{1,3},\d{3}")
        if commas.equals(thousands) or texts.str.contains(".", regex=False).any():
            log.refuse("rating", commas[codes], "; say decimal=',' or decimal='.'")
        decimal = ","
        log.notes.append("decimal comma")
    if decimal == ",":
        texts = texts.str.replace(".", "?").str.replace(",", ".")
    log.refuse("rating", ~texts.str.fullmatch(_NUMBER)[codes], ", not a number")
    number = int if texts.str.fullmatch(r"[-+]?\d+").all() else float
    return np.array(list(map(number, texts)))[codes], decimal


def _positive(log: _Table, positive_from) -> tuple[np.ndarray, str]:
    """Which rows are positive, and how that was decided."""
    if positive_from == "all":
        return np.ones(len(log.frame), bool), "every row positive"
    if "positive" in log.frame:
        log.refuse("positive", log.frame["positive"].isna(), ", not 0 or 1")
        codes, texts = _distinct(log.frame["positive"])
        flags = texts.str.lower().map(_FLAGS)[codes]
        log.refuse("positive", flags.isna(), ", not 0 or 1")
        return flags.to_numpy(bool), f"positive as given ({flags.mean():.1%})"
    if "rating" not in log.frame:
        hint = _missing(["rating", "positive"], list(log.frame))
        raise SchemaError(f"{log.name}: {hint}, or positive_from='all' if every row is positive")
    ratings, start = log.frame["rating"], 4.0 if positive_from is None else positive_from
    if not isinstance(start, int | float):
        raise SchemaError(f"positive_from is a number or 'all', got {start!r}")
    positive = (ratings >= start).to_numpy()
    low, high, share = ratings.min(), ratings.max(), positive.mean()
    if positive_from is None and not (low > 0 and high <= 5 and 0 < share <= 0.95):
        raise SchemaError(
            f"{log.name}: ratings {low:g} to {high:g}, of which {share:.1%} reach 4: say "
            "positive_from=, the lowest that counts as positive (and first drop the rows where a "
            "number means no rating)"
        )
    return positive, f"ratings {low:g} to {high:g}, positive from {start:g} up ({share:.1%})"


def _times(log: _Table, unit: str | None, dayfirst: bool | None) -> tuple[pd.Series, str]:
    """Times in UTC, and from when to when they go."""
    column = log.frame.get("timestamp")
    if column is None or column.isna().all():
        like = [name for name in log.frame if re.search(_HINTS["timestamp"], name.lower())]
        none = pd.Series(pd.NaT, log.frame.index, dtype="datetime64[ns, UTC]")
        return none, "no times" + (f" (is it {like[0]!r}? say rename=)" if like else "")
    log.refuse("timestamp", column.isna(), "; drop that row or give it a time")
    if unit and "%" not in unit and unit not in _UNITS | _DAYS_OF:
        raise SchemaError(f"there is no unit {unit!r}{_WHEN}")
    early = pd.Timestamp("1980-01-01", tz="UTC")  # no log is older, nor from the future
    late = pd.Timestamp.now("UTC") + pd.Timedelta(days=366)
    with named(f"timestamp of {log.name}"):
        times, how = _as_times(log, column, unit, dayfirst, (early, late))
    if unit is not None:
        early, late = _KEPT
        how.append(f"unit={unit!r}")
    log.refuse("timestamp", ~times.between(early, late), f", no time of a log since 1980{_WHEN}")
    first, last = times.min(), times.max()
    if first == last and len(times) > 1:
        how.append("all at one time")
    times = times.astype("datetime64[ns, UTC]")
    return times, ", ".join([f"{first:%Y-%m-%d} to {last:%Y-%m-%d}", *how])


def _as_times(log: _Table, column, unit, dayfirst, within) -> tuple[pd.Series, list[str]]:
    """Times, NaT where a number is none, and the choices that were made."""
    if is_datetime64_any_dtype(column):
        if column.dt.tz is None:
            return column.dt.tz_localize("UTC"), [_NO_ZONE]
        return column.dt.tz_convert("UTC"), []
    texts = _texts(column).str.strip(_BLANK)
    if (unit and "%" in unit) or not texts.str.fullmatch(_NUMBER).all():
        return _from_dates(log, texts, unit, dayfirst)
    if texts.str.contains("[eE]").any():
        digits = texts.str.extract(r"\.?(\d*)[eE]\+?(\d+)$")
        rounded = digits[0].str.len() < digits[1].astype(float)
        log.refuse("timestamp", rounded, f", rounded by a spreadsheet{_WHEN}")
    whole = texts.str.fullmatch(r"-?[0-8]?\d{1,18}").all()
    numbers = _numbers(texts, "int64" if whole else "float64")
    how = []
    if unit is None:
        if any(numbers.between(19_800_101 * k, 21_001_231.9 * k).all() for k in (1, 10**6)):
            return _from_dates(log, numbers.astype("int64").astype("str"), unit, dayfirst)
        early, late = (moment.timestamp() for moment in within)
        near = [name for name in _UNITS if early < numbers.median() / _UNITS[name] < late]
        unit = near[0] if near else "s"
        how = [f"{unit} since 1970"] if unit != "s" else []
    code, step = ("D", 86_400 * 10**9) if unit in _DAYS_OF else (unit, 10**9 // _UNITS[unit])
    start = pd.Timestamp(_DAYS_OF.get(unit, "1970-01-01"))
    if whole:
        return _parsed(numbers, unit=code, origin=start), how
    floor = np.floor(numbers).clip(-(2**62), 2**62).astype("int64")
    times = _parsed(floor, unit=code, origin=start)
    times = times.where(times.between(*_KEPT))  # of what nanoseconds can hold
    return times + pd.to_timedelta(np.rint(numbers % 1 * step), unit="ns"), how


def _from_dates(log: _Table, texts, unit, dayfirst) -> tuple[pd.Series, list[str]]:
    """Dates of the one form that fits all of them."""
    zoned = texts.str.contains(r":\d\d.*(?:Z|UTC|GMT|[-+]\d\d:?\d*)$")
    if zoned.any():
        log.refuse("timestamp", ~zoned, " without a zone, which others have; give all of them one")
    plain, forms = texts, [unit or "ISO8601"]
    if unit is None and zoned.any():
        plain = texts.str.replace(r" ?(?:Z|UTC|GMT)$", "+00:00", regex=True)
        plain = plain.str.replace(r" ([-+]\d\d:?\d\d)$", r"\1", regex=True)
    if unit is None and not plain.str.fullmatch(_ISO).all():
        parts = r"^(\w+)(?:[-/.]|,? )(\w+)(?:[-/.]|,? )(\d+)(?:T| *)"
        plain = plain.str.replace(parts, r"\1/\2/\3 ", regex=True).str.strip()
        forms = [form for form in _FORMS if _parsed(plain[:1], format=form).notna().all()]
        if dayfirst is not None:
            other = "%m/%d" if dayfirst else "%d/%m"
            forms = [form for form in forms if not form.startswith(other)]
    found = {form: _parsed(plain, format=form) for form in forms}
    fitting = {form: times for form, times in found.items() if times.notna().all()}
    if not fitting:
        nearest = max(found.values(), key=pd.Series.count, default=pd.Series(pd.NaT, texts.index))
        log.refuse("timestamp", nearest.isna(), f", not a time of one form with the others{_WHEN}")
    (form, times), *others = fitting.items()
    for other, times_there in others:
        differ = times != times_there
        log.refuse("timestamp", differ, f": {form} or {other}? say dayfirst=True or =False{_WHEN}")
    how = [f"dates {form}"] if unit is None and form != "ISO8601" else []
    return times, how if zoned.any() or "%z" in form else [*how, _NO_ZONE]


# The tables of the data set


def _type_the_rest(table: _Table, decimal: str | None) -> None:
    """Texts without blank ones; other columns of an untyped file as numbers where all are."""
    for name in [name for name in table.frame if name not in _HINTS]:
        column = table.frame[name]
        if name == "text":
            column = _texts(column)
            column = column.mask(column.str.strip(_BLANK) == "")
            table.notes.append(f"{column.isna().mean():.1%} of texts blank")
        elif not table.typed and column.notna().any():
            points = column
            if decimal == ",":
                points = column.str.replace(r"^([-+]?\d+),(\d+)$", r"\1.\2", regex=True)
            for form, dtype in _TYPES.items():
                if points.dropna().str.fullmatch(form).all():
                    column = _numbers(points, dtype)
                    break
        if pd.api.types.is_string_dtype(column):
            words = column[column.isin(_NOTHING)]
            if len(words) and not table.na_is_known:
                table.notes.append(f"{len(words):,} of {name} are {words.iloc[0]!r} (na= drops it)")
        table.frame[name] = column


def _with_all(tables: dict[str, _Table], log: _Table, kind: str) -> pd.DataFrame:
    """The table of users or items; the few of the log that it lacks come last."""
    key = _KEYS[kind][0]
    seen = pd.Series(log.frame[key].unique(), name=key)
    if kind not in tables:
        return seen.to_frame()
    table, known = tables[kind], tables[kind].frame[key]
    table.refuse(key, known.duplicated(), " for the second time; keep one row an id")
    unknown = seen[~seen.isin(known)]
    if len(unknown) > 0.05 * len(seen):
        shares = f"{len(unknown):,} of {len(seen):,} {key}s (there: {listed(known, 3)})"
        why = f", not in {table.name}, as {shares}; add them or drop them"
        log.refuse(key, log.frame[key].isin(unknown), why)
    if unknown.empty:
        return table.frame.reset_index(drop=True)
    table.notes.append(f"{len(unknown):,} {key}s of {log.name} missing")
    return pd.concat([table.frame, unknown.to_frame()], ignore_index=True)


def to_recbole(split: Split, folder: str | Path, name: str = "own") -> list[Path]:
    """Write ``name.train.inter`` and ``name.test.inter``, the atomic files of RecBole.

    RecBole reads them with ``benchmark_filename: [train, test, test]``, `load_csv` by their paths.
    They hold ids, ``positive``, and ``rating`` and ``timestamp`` (seconds) where these are known.

    Raises SchemaError: an id holds a tab, a quote or a line's end.
    """
    folder, paths = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    for side, rows in (("train", split.train), ("test", split.test)):
        table = pd.DataFrame(index=rows.index)
        for key in ("user_id", "item_id"):
            ids = table[f"{key}:token"] = rows[key].astype("str")
            odd = ids[ids.str.contains('[\t\r\n"]')]
            if len(odd):
                raise SchemaError(f"{side}: {key} {odd.iloc[0]!r} does not fit in a line")
        for column in rows.columns.intersection(["rating", "positive"]):
            table[f"{column}:float"] = rows[column].astype("float64")
        if "timestamp" in rows and rows["timestamp"].notna().all():
            since = rows["timestamp"].astype("datetime64[ns, UTC]").astype("int64")
            table["timestamp:float"] = since // 10**9 + since % 10**9 / 10**9
        paths.append(folder / f"{name}.{side}.inter")
        table.to_csv(paths[-1], sep="\t", index=False)
    return paths
