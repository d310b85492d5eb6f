"""Your own data: one to three CSV or Parquet files become a `Dataset`, or one of any size a stream
of tables.
"""

from __future__ import annotations

import codecs
import csv
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ..assets import stand_in
from ..errors import AssetError, SchemaError
from . import files
from .schema import Card, Dataset, require_columns

_FAR_FUTURE = 1e11  # seconds since 1970: the year 5138, or as milliseconds the year 1973


def load_csv(
    interactions: str | Path,
    items: str | Path | None = None,
    users: str | Path | None = None,
    *,
    rename: dict[str, str] | None = None,
    positive_from: float = 4,
    licence: str = "yours; say it here",
) -> Dataset:
    """Read interactions and, if there are any, items and users from CSV or Parquet files (by their
    ending).

    Parameters
    ----------
    interactions : needs ``user_id, item_id`` and either ``positive`` (0/1, true/false) or
        ``rating``; ``timestamp`` (seconds since 1970, or a date) is wanted by the temporal splits.
    items : needs ``item_id``; ``text`` is what a language model reads. Left out: the items seen,
        without text.
    users : needs ``user_id``. Left out: the users seen.
    rename : from the files' column names to these.
    positive_from : the lowest rating that counts as positive.

    Raises AssetError: a file is missing, or is an HTML page or a Git-LFS pointer.
    Raises SchemaError: a column is missing or a value cannot be read; names the file, the column
        and the row, counted from 0 after the header.
    """
    table = _read(interactions, rename or {}, ("user_id", "item_id"))
    table["positive"] = _positive(table, interactions, positive_from)
    table["timestamp"] = _timestamp(table, interactions)
    item_table = _read(items, rename or {}, ("item_id",)) if items else _seen(table, "item_id")
    if "text" not in item_table:
        item_table["text"] = None
    user_table = _read(users, rename or {}, ("user_id",)) if users else _seen(table, "user_id")
    names = ", ".join(Path(path).name for path in (interactions, items, users) if path)
    return Dataset(
        user_table, item_table, table, Card(title="your data", source=names, licence=licence)
    )


def stream_csv(
    interactions: str | Path, *, rename: dict[str, str] | None = None, positive_from: float = 4
) -> Iterator[pd.DataFrame]:
    """Interactions of any size, some 10,000 at a time: the columns and the checks of `load_csv`.

    Of a CSV file (plain, gzip or zip), columns that the schema does not know come as text.

    Parameters
    ----------
    interactions, rename, positive_from : as in `load_csv`.

    Raises AssetError, SchemaError: as in `load_csv`; the row is counted over the whole file.
    """
    path, first = Path(interactions), 0
    if not path.is_file():
        raise AssetError(f"there is no file {path}; give the path of a CSV or Parquet file")
    with files.named(path):
        for table in _parquet_batches(path) if path.suffix == ".parquet" else _csv_batches(path):
            table = _with_names(
                table.set_axis(range(first, first + len(table))), rename or {}, path.name
            )
            table = _with_ids(table, ("user_id", "item_id"), path.name)
            table["positive"] = _positive(table, path, positive_from)
            table["timestamp"] = _timestamp(table, path)
            first += len(table)
            yield table
    if not first:
        raise SchemaError(f"{path.name}: there are no rows below the header; give a file with data")


def _parquet_batches(path: Path) -> Iterator[pd.DataFrame]:
    if not path.stat().st_size:
        raise AssetError(f"{path} is empty; fetch it anew")
    _refuse_stand_in(path)
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(files.BLOCK >> 8):
            if batch.num_rows:
                yield _plain_table(pa.Table.from_batches([batch]))


def _plain_table(table: pa.Table) -> pd.DataFrame:
    # What pandas once noted in the file (types, an index) may be damaged, and the columns say
    # enough.
    table = table.to_pandas(ignore_metadata=True)
    return table[[column for column in table if not column.startswith("__index_level_")]]


def _csv_batches(path: Path) -> Iterator[pd.DataFrame]:
    with files.opened(
        path
    ) as file:  # every column is named to the parser, so that no id loses its zeros
        head = file.readline(files.LONGEST).removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
    names = next(csv.reader(head.splitlines()[:1]), [])
    with files.opened(path) as file:
        reader = pyarrow.csv.open_csv(
            file,
            pyarrow.csv.ReadOptions(use_threads=False, block_size=files.BLOCK),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True
            ),
        )
        for batch in reader:
            if batch.num_rows:
                yield batch.to_pandas()


def _read(path: str | Path, rename: dict[str, str], columns: tuple[str, ...]) -> pd.DataFrame:
    path = Path(path)
    if not path.is_file():
        raise AssetError(f"there is no file {path}; give the path of a CSV or Parquet file")
    try:
        _refuse_stand_in(path)
        table = _parse(path, rename)
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise SchemaError(
            f"{path} cannot be read as a table: {reason}; give a CSV (UTF-8) or Parquet file"
        ) from None
    table = _with_names(table.reset_index(drop=True), rename, path.name)
    require_columns(table, columns, path.name)
    if table.empty:
        raise SchemaError(f"{path.name}: there are no rows below the header; give a file with data")
    return _with_ids(table, columns, path.name)


def _with_names(table: pd.DataFrame, rename: dict[str, str], name: str) -> pd.DataFrame:
    table = table.rename(columns=rename)
    for column in table.columns[table.columns.duplicated()]:
        raise SchemaError(
            f"{name}: with `rename` two columns are named {column!r}; rename or drop one of them"
        )
    return table


def _with_ids(table: pd.DataFrame, columns: tuple[str, ...], name: str) -> pd.DataFrame:
    require_columns(table, columns, name)
    for column in columns:
        missing = table[column].isna().to_numpy()
        if missing.any():
            row = table.index[missing.argmax()]
            raise SchemaError(
                f"{name}: {column} is missing in row {row}; drop that row or give it an id"
            )
        table[column] = table[column].astype(str)
    return table


def _refuse_stand_in(path: Path) -> None:
    with path.open("rb") as file:
        found = stand_in(file.read(512))
    if found:
        raise AssetError(f"{path} is not the data: {found}; download the file itself")


def _parse(path: Path, rename: dict[str, str]) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return _plain_table(pq.read_table(path))
    table = pd.read_csv(path, dtype={name: str for name in _id_names(rename)}, encoding="utf-8")
    if not isinstance(
        table.index, pd.RangeIndex
    ):  # pandas took the first column for row names and shifted the rest
        raise ValueError("the rows have more fields than the header has names")
    return table


def _id_names(rename: dict[str, str]) -> list[str]:
    ids = {"user_id", "item_id"}
    return [*ids, *(old for old, new in rename.items() if new in ids)]


def _seen(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table[[column]].drop_duplicates(ignore_index=True)


def _positive(table: pd.DataFrame, path, positive_from: float) -> pd.Series:
    name = Path(path).name
    if "positive" in table:
        flags = table["positive"].map(
            lambda flag: {"true": 1, "false": 0}.get(str(flag).lower(), flag)
        )
        values, kind = pd.to_numeric(flags, errors="coerce"), "positive"
        bad = ~values.isin([0, 1]).to_numpy()
    else:
        require_columns(table, ("rating",), f"{name} (needs 'positive' or 'rating')")
        values, kind = pd.to_numeric(table["rating"], errors="coerce"), "rating"
        bad = values.isna().to_numpy()
    if bad.any():
        row = table.index[bad.argmax()]
        wanted = "0 or 1" if kind == "positive" else "a number"
        raise SchemaError(
            f"{name}: {kind} in row {row} is {_shown(table[kind].loc[row])}, not {wanted}"
        )
    return values == 1 if kind == "positive" else values >= positive_from


def _timestamp(table: pd.DataFrame, path) -> pd.Series:
    if "timestamp" not in table:
        return pd.Series(pd.NaT, index=table.index, dtype="datetime64[ns, UTC]")
    stamps = _moments(table["timestamp"])
    if stamps.isna().any():
        row = table.index[stamps.isna().to_numpy().argmax()]
        raise SchemaError(
            f"{Path(path).name}: timestamp in row {row} is {_shown(table['timestamp'].loc[row])}; "
            "give seconds since 1970 or a date such as 2024-05-31 12:00"
        )
    return stamps


def _moments(values: pd.Series) -> pd.Series:
    """UTC times; NaT where a value is neither a date nor plausible as seconds, as milliseconds are
    not.
    """
    if not pd.api.types.is_datetime64_any_dtype(values):
        seconds = pd.to_numeric(values, errors="coerce")
        if seconds.notna().any():
            plausible = seconds.where(seconds < _FAR_FUTURE)
            return pd.to_datetime(plausible, unit="s", utc=True, errors="coerce")
    stamps = pd.to_datetime(values, format="ISO8601", utc=True, errors="coerce")
    if stamps.notna().any():
        return stamps
    with warnings.catch_warnings(
        action="ignore"
    ):  # that no one format fits: the caller names the row instead
        return pd.to_datetime(values, utc=True, errors="coerce")


def _shown(value) -> str:
    return repr(value.item() if hasattr(value, "item") else value)
