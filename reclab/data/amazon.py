"""Amazon Reviews 2018 and 2023: reviews and item metadata of any size, as a stream of tables of one schema.

Source: Hou et al. (2024), arXiv 2403.03952 (2023); Ni, Li and McAuley (2019), doi 10.18653/v1/D19-1018 (2018).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ..errors import SchemaError
from .fields import as_number, as_text, as_whole, column_of, unmarked
from .files import keep
from .lines import json_tables
from .schema import listed

TRAPS = (
    "No licence is stated: never pass the files on, nor rows made from them.",
    "2023 joins reviews to items on parent_asin; some items have no metadata.",
    "A user may have reviewed an item several times, and '5-core' files are not exactly that.",
    "In some categories most prices are missing, and the categories of every item are empty.",
)
_EARLIEST, _LATEST = 631_152_000, 4_102_444_800  # seconds since 1970: the years 1990 and 2100

# column -> (name in 2018, name in 2023, type)
_REVIEW = {
    "user_id": ("reviewerID", "user_id", pa.string()),
    "item_id": ("asin", "parent_asin", pa.string()),
    "variant": ("asin", "asin", pa.string()),
    "rating": ("overall", "rating", pa.float64()),
    "timestamp": ("unixReviewTime", "timestamp", pa.int64()),
    "title": ("summary", "title", pa.string()),
    "text": ("reviewText", "text", pa.string()),
    "verified": ("verified", "verified_purchase", pa.bool_()),
}
_AMOUNT = r"\$?\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_PRICE = re.compile(rf"\s*(?:from\s+)?{_AMOUNT}(?:\s*-\s*{_AMOUNT})?\s*", re.IGNORECASE)


def reviews(source: str | Path, *, positive_from: float = 4, bad: Counter | None = None) -> Iterator[pd.DataFrame]:
    """The reviews of a file of either edition (found by its first row), some thousands at a time.

    Each table has ``user_id``, ``item_id`` (2023: parent_asin), ``variant`` (asin), ``rating`` (0 to 5), ``positive``,
    ``timestamp`` (UTC), ``title`` and ``text`` (plain: no tags, no entities; may be missing), ``verified`` (may be
    missing), ``helpful_vote``, ``n_images`` and, in 2018, ``style`` ("Color: red; Size: M"). Its index is the line of
    the file, counted from 1.

    Parameters
    ----------
    source : JSON lines, plain, gzip or zip.
    positive_from : the lowest rating that counts as positive.
    bad : counts what is left out, by its kind; without it the first bad line stops the reading.

    Raises AssetError, SchemaError: as in `files.opened`; a line is no review; names the line and the field.
    """
    name, editions = Path(source).name, []

    def make(rows: list[dict]) -> pd.DataFrame:
        if not editions:
            editions.append(_edition(rows[0], name))
        return _review_table(rows, editions[0])

    for table in json_tables(source, make, bad):
        yield _checked(table, editions[0], positive_from, name, bad)


def _edition(row: dict, name: str) -> int:
    for year, keys in ((2018, {"reviewerID", "asin"}), (2023, {"user_id", "parent_asin"})):
        if keys <= row.keys():
            return year
    raise SchemaError(f"{name}: the first row is no review of the 2018 or the 2023 edition; it has {listed(row, 8)}")


def _review_table(rows: list[dict], edition: int) -> pd.DataFrame:
    old = edition == 2018
    fields = [names[0] if old else names[1] for *names, _ in _REVIEW.values()]
    fields += ("vote", "image") if old else ("helpful_vote", "images")
    *fields, votes, images = ([row.get(name) for row in rows] for name in fields)
    columns = {}
    for (column, (*_, kind)), values in zip(_REVIEW.items(), fields, strict=True):
        said = list(map(_plain, values)) if column in ("title", "text") else values
        columns[column] = column_of(said, kind)
    counts = [_count(vote) if isinstance(vote, str) else vote or 0 for vote in votes]
    columns["helpful_vote"] = column_of(counts, pa.int64())
    columns["n_images"] = pa.array([len(value) if isinstance(value, list) else 0 for value in images], pa.int64())
    if old:
        columns["style"] = pa.array([_style(row.get("style")) for row in rows], pa.string())
    table = pa.table(columns).to_pandas()
    if old and table["timestamp"].isna().any():
        table["timestamp"] = table["timestamp"].fillna(_days([row.get("reviewTime") for row in rows]))
    return table


def _days(texts: list) -> pd.Series:
    """Seconds since 1970 of dates as 2018 writes them: "12 31, 2015"."""
    texts = pd.Series([text if isinstance(text, str) else None for text in texts], dtype=object)
    days = pd.to_datetime(texts, format="%m %d, %Y", utc=True, errors="coerce")
    return (days - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)


def _checked(table: pd.DataFrame, edition: int, positive_from: float, name: str, bad: Counter | None) -> pd.DataFrame:
    """Only rows with ids, a rating and a time in which reviews were written; types as in the schema."""

    def only(ok: pd.Series, column: str, wanted: str) -> pd.DataFrame:
        return keep(table, ok, name, column, f"{column} is not {wanted}", bad)

    for column in ("user_id", "item_id"):
        table = only(table[column].fillna("") != "", column, "an id")
    table = only(table["rating"].between(0, 5), "rating", "a number from 0 to 5")
    unit, scale = ("s", 1) if edition == 2018 else ("ms", 1000)
    plausible = table["timestamp"].between(_EARLIEST * scale, _LATEST * scale)
    table = only(plausible, "timestamp", f"a time from 1990 to 2100 in {'seconds' if unit == 's' else 'milliseconds'}")
    table["timestamp"] = pd.to_datetime(table["timestamp"].astype("int64"), unit=unit, utc=True)
    table["verified"] = table["verified"].astype("boolean")
    table.insert(4, "positive", table["rating"] >= positive_from)
    return table


def _count(text: str) -> int:
    """A number of votes as 2018 writes it: "1,234"."""
    return as_whole(text.replace(",", "")) or 0


def _style(value) -> str | None:
    """{"Color:": " red"} as "Color: red"."""
    if not isinstance(value, dict):
        return None
    return as_text("; ".join(f"{key.strip().rstrip(':')}: {str(said).strip()}" for key, said in value.items())) or None


def _plain(value) -> str | None:
    return (unmarked(value) or None) if isinstance(value, str) else None


def items(source: str | Path, *, bad: Counter | None = None) -> Iterator[pd.DataFrame]:
    """The items' metadata of either edition, some thousands at a time.

    Each table has ``item_id`` (2023: parent_asin), ``title``, ``text`` (title, features and description, plain; may be
    missing), ``price`` and ``price_to`` (US dollars; the ends of a range; missing where there is no number),
    ``main_category``, ``brand`` (2023: store), ``categories`` and ``rank`` (lists of str), ``average_rating``,
    ``rating_number`` (2023), ``n_images``, and ``details`` (dict of str).

    Raises AssetError, SchemaError: as in `reviews`.
    """
    name = Path(source).name
    for table in json_tables(source, lambda rows: pd.DataFrame(list(map(_item, rows))), bad):
        ok = table["item_id"].notna()
        yield keep(table, ok, name, "item_id", "neither parent_asin nor asin is an id", bad)


def _item(row: dict) -> dict:
    title = _line(row.get("title"))
    about = [title, *_texts(row.get("features") or row.get("feature")), *_texts(row.get("description"))]
    low, high = price(row.get("price"))
    return {
        "item_id": as_text(row.get("parent_asin")) or as_text(row.get("asin")) or None,
        "title": title,
        "text": "\n".join(filter(None, about)) or None,
        "price": low,
        "price_to": high,
        "main_category": _line(row.get("main_category") or row.get("main_cat")),
        "brand": _line(row.get("store") or row.get("brand")),
        "categories": _texts(row.get("categories") or row.get("category")),
        "rank": _texts(row.get("rank")),
        "average_rating": np.nan if (mean := as_number(row.get("average_rating"))) is None else mean,
        "rating_number": as_whole(row.get("rating_number")) or 0,
        "n_images": len(pictures) if isinstance(pictures := row.get("images") or row.get("image"), list) else 0,
        "details": _details(row.get("details")),
    }


def _line(value) -> str | None:
    return unmarked(as_text(value) or "").strip() or None


def _details(value) -> dict[str, str]:
    """2018 has line breaks around its keys, and a colon behind them."""
    if not isinstance(value, dict):
        return {}
    return {unmarked(as_text(key)).strip().rstrip(": "): unmarked(as_text(str(said))) for key, said in value.items()}


def _texts(value) -> list[str]:
    """A str, a list of str or nothing, as a list of plain texts."""
    values = value if isinstance(value, list) else [value]
    return [said for text in values if isinstance(text, str) and (said := _line(text))]


def price(value) -> tuple[float, float]:
    """Both ends of a price in dollars, NaN for none: 25, "$25.00", "$9.99 - $19.99", "from 5.99", "", CSS."""
    if isinstance(value, str):
        found = _PRICE.fullmatch(value) if len(value) < 60 else None
        ends = [float(end.replace(",", "")) for end in found.groups() if end] if found else []
    else:
        number = as_number(value)
        ends = [] if number is None else [number]
    return (ends[0], ends[-1]) if ends else (np.nan, np.nan)
