"""Your own data: one to three CSV or Parquet files become a `Dataset`.

Taught in: 01_dataset_construction.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ..errors import AssetError, SchemaError
from .schema import Card, Dataset, require_columns


def load_csv(
    interactions: str | Path,
    items: str | Path | None = None,
    users: str | Path | None = None,
    *,
    rename: dict[str, str] | None = None,
    positive_from: float = 4,
    licence: str = "yours; say it here",
) -> Dataset:
    """Read interactions and, if there are any, items and users from CSV or Parquet files (by their ending).

    Parameters
    ----------
    interactions : needs ``user_id, item_id`` and either ``positive`` (0/1) or ``rating``; ``timestamp`` (seconds since
        1970, or a date) is wanted by the temporal splits.
    items : needs ``item_id``; ``text`` is what a language model reads. Left out: the items seen, without text.
    users : needs ``user_id``. Left out: the users seen.
    rename : from the files' column names to these.
    positive_from : the lowest rating that counts as positive.

    Raises
    ------
    AssetError : a file is missing, or is an HTML page or a Git-LFS pointer.
    SchemaError : a column is missing or a value cannot be read; names the file, the column and the row.

    Taught in: 01_dataset_construction.
    """
    table = _read(interactions, rename or {}, ("user_id", "item_id"))
    table["positive"] = _positive(table, interactions, positive_from)
    table["timestamp"] = _timestamp(table, interactions)
    item_table = _read(items, rename or {}, ("item_id",)) if items else _seen(table, "item_id")
    if "text" not in item_table:
        item_table["text"] = None
    user_table = _read(users, rename or {}, ("user_id",)) if users else _seen(table, "user_id")
    names = ", ".join(Path(path).name for path in (interactions, items, users) if path)
    return Dataset(user_table, item_table, table, Card(title="your data", source=names, licence=licence))


def _read(path: str | Path, rename: dict[str, str], columns: tuple[str, ...]) -> pd.DataFrame:
    path = Path(path)
    if not path.is_file():
        raise AssetError(f"there is no file {path}; give the path of a CSV or Parquet file")
    start = path.read_bytes()[:64].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        raise AssetError(f"{path} is an HTML page, not a table; download the file itself, not the page about it")
    if start.startswith(b"version https://git-lfs"):
        raise AssetError(f"{path} is a Git-LFS pointer, not the file; run `git lfs pull` where it came from")
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, dtype={name: str for name in _id_names(rename)}, encoding="utf-8")
    except (ValueError, OSError) as error:
        raise SchemaError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None
    table = table.rename(columns=rename)
    require_columns(table, columns, path.name)
    for column in columns:
        missing = table[column].isna().to_numpy()
        if missing.any():
            raise SchemaError(
                f"{path.name}: {column} is missing in row {missing.argmax()}; drop that row or give it an id"
            )
        table[column] = table[column].astype(str)
    return table


def _id_names(rename: dict[str, str]) -> list[str]:
    ids = {"user_id", "item_id"}
    return [*ids, *(old for old, new in rename.items() if new in ids)]


def _seen(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table[[column]].drop_duplicates(ignore_index=True)


def _positive(table: pd.DataFrame, path, positive_from: float) -> pd.Series:
    name = Path(path).name
    if "positive" in table:
        values, kind = pd.to_numeric(table["positive"], errors="coerce"), "positive"
        bad = ~values.isin([0, 1]).to_numpy()
    else:
        require_columns(table, ("rating",), f"{name} (needs 'positive' or 'rating')")
        values, kind = pd.to_numeric(table["rating"], errors="coerce"), "rating"
        bad = values.isna().to_numpy()
    if bad.any():
        row = bad.argmax()
        wanted = "0 or 1" if kind == "positive" else "a number"
        raise SchemaError(f"{name}: {kind} in row {row} is {table[kind].iloc[row]!r}, not {wanted}")
    return values == 1 if kind == "positive" else values >= positive_from


def _timestamp(table: pd.DataFrame, path) -> pd.Series:
    if "timestamp" not in table:
        return pd.Series(pd.NaT, index=table.index, dtype="datetime64[ns, UTC]")
    numeric = pd.api.types.is_numeric_dtype(table["timestamp"])
    stamps = pd.to_datetime(table["timestamp"], unit="s" if numeric else None, utc=True, errors="coerce")
    if stamps.isna().any():
        row = stamps.isna().to_numpy().argmax()
        raise SchemaError(
            f"{Path(path).name}: timestamp in row {row} is {table['timestamp'].iloc[row]!r}; "
            "give seconds since 1970 or a date such as 2024-05-31 12:00"
        )
    return stamps
