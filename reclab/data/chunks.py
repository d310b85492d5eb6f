"""A stream of tables kept as partitioned Parquet: all rows of a user in one part, each item once.

A part holds some of the users, so that whoever works a part at a time (a worker, a process, a loop) needs no other.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ReclabError, SchemaError
from .files import named
from .schema import Card, Dataset, require_columns

GROUP = 2 << 20  # bytes of a part that wait in memory before they are written


@dataclass(frozen=True)
class Kept:
    """What became of a stream.

    Attributes
    ----------
    folder : holds ``part-000.parquet`` and so on.
    rows, repeated : rows that came, and those left out because a later one is of the same user and item.
    """

    folder: Path
    rows: int
    repeated: int

    @property
    def parts(self) -> list[Path]:
        """The files, in order."""
        return sorted(self.folder.glob("part-*.parquet"))

    def __iter__(self) -> Iterator[pd.DataFrame]:
        return (pd.read_parquet(part) for part in self.parts)


def to_parquet(tables: Iterable[pd.DataFrame], folder: str | Path, *, parts: int = 16) -> Kept:
    """Write a stream of interactions as ``parts`` Parquet files by user; of a repeated (user, item) the latest stays.

    Memory: one table, some MiB a part, and then one part at a time. The order within a part is that of the stream.

    Parameters
    ----------
    tables : with ``user_id``, ``item_id`` and ``timestamp`` (UTC; of equal times the later row counts as the latest).
    folder : made anew, and complete or not there at all.
    parts : how many files; 1 to 999.

    Raises ReclabError: the folder holds something, or cannot be written.
    Raises SchemaError: a column is missing, a table has other columns than the first, or there is no table.
    """
    folder = Path(folder)
    if not 1 <= parts <= 999:
        raise SchemaError(f"parts must be in 1..999, got {parts}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ReclabError(f"{folder} is not empty; give a new folder, or delete that one")
    with _made(folder) as fresh:
        rows = _scatter(tables, fresh, parts)
        kept = sum(_latest(part) for part in sorted(fresh.glob("part-*.parquet")))
    return Kept(folder, rows, rows - kept)


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one, which takes its place when all is done."""
    fresh = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with named(folder):
            fresh.mkdir(parents=True)
            yield fresh
            if folder.exists():
                folder.rmdir()
            fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _scatter(tables: Iterable[pd.DataFrame], folder: Path, parts: int) -> int:
    rows, waiting, writers, schema = 0, [[] for _ in range(parts)], {}, None
    try:
        for table in tables:
            require_columns(table, ("user_id", "item_id", "timestamp"), "the stream")
            arrow = pa.Table.from_pandas(table, schema, preserve_index=False)
            schema = schema or arrow.schema
            rows += len(table)
            for part, rows_of in enumerate(_places(table["user_id"], parts)):
                waiting[part].append(arrow.take(rows_of))
                if sum(piece.nbytes for piece in waiting[part]) > GROUP:
                    _write(writers, waiting, part, folder, schema)
        if schema is None:
            raise SchemaError("the stream holds no table; is its file empty?")
        for part in range(parts):
            _write(writers, waiting, part, folder, schema)
    finally:
        for writer in writers.values():
            writer.close()
    return rows


def _places(users: pd.Series, parts: int) -> list[np.ndarray]:
    """The rows of each part; the part of a user is the same in every run and process."""
    part = pd.util.hash_array(users.to_numpy(object), categorize=True) % parts
    order = np.argsort(part, kind="stable")
    return np.split(order, np.searchsorted(part[order], np.arange(1, parts)))


def _write(writers: dict, waiting: list[list], part: int, folder: Path, schema: pa.Schema) -> None:
    if part not in writers:
        writers[part] = pq.ParquetWriter(folder / f"part-{part:03}.parquet", schema)
    if waiting[part]:
        writers[part].write_table(pa.concat_tables(waiting[part]))
        waiting[part].clear()


def _latest(part: Path) -> int:
    """Leave the latest row of each user and item in a part; returns how many are left."""
    keys = pd.read_parquet(part, columns=["user_id", "item_id", "timestamp"])
    later = keys.sort_values("timestamp", kind="stable", na_position="first")
    last = ~later.duplicated(["user_id", "item_id"], keep="last")
    if not last.all():
        stay = np.sort(later.index[last])
        whole = pq.read_table(part)
        pq.write_table(whole.take(stay), part.with_suffix(".new"))
        part.with_suffix(".new").replace(part)
    return int(last.sum())


def gather(tables: Iterable[pd.DataFrame], card: Card, items: Iterable[pd.DataFrame] = ()) -> Dataset:
    """A stream that fits into memory as a `Dataset`; items without metadata stay, without text.

    Parameters
    ----------
    tables : interactions, as `to_parquet` gives or takes them.
    items : tables with ``item_id`` and ``text``; of a repeated item the first stays.

    Raises SchemaError: there is no table, or what `Dataset` refuses.
    """
    pieces = list(tables)
    if not pieces:
        raise SchemaError("the stream holds no table; is its file empty?")
    log = pd.concat(pieces, ignore_index=True)
    seen = log[["item_id"]].drop_duplicates(ignore_index=True)
    known = [table[table["item_id"].isin(seen["item_id"])] for table in items]
    if known:
        seen = seen.merge(pd.concat(known).drop_duplicates("item_id"), on="item_id", how="left")
    else:
        seen["text"] = None
    return Dataset(log[["user_id"]].drop_duplicates(ignore_index=True), seen, log, card)
