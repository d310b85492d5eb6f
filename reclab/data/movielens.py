"""MovieLens of every size, from the publisher's zip file or its folder, as a stream of tables of one schema.

100K, 1M, 10M, 20M, 25M, 32M, latest and latest-small; the files come from https://grouplens.org/datasets/movielens/.
Source: Harper and Konstan (2015), doi 10.1145/2827872.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import AssetError, SchemaError
from .files import keep, members
from .lines import delimited
from .movies import item_texts

_NAMES = {"userId": "user_id", "movieId": "item_id", "imdbId": "imdb_id", "tmdbId": "tmdb_id"}
_OLD_GENRES = [
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
]
# file -> how `delimited` reads it; the ones with names have no header
_RATING = ["user_id", "item_id", "rating", "timestamp"]
_PLAIN = {"quotes": False, "separator": "::"}
_PIPES = {"quotes": False, "separator": "|", "encoding": "latin-1"}
_LAYOUT = {
    "ratings.csv": {"need": ("userId", "movieId", "rating", "timestamp")},
    "ratings.dat": {"names": _RATING, **_PLAIN},
    "u.data": {"names": _RATING, **_PLAIN, "separator": "\t"},
    "movies.csv": {"need": ("movieId", "title", "genres")},
    "movies.dat": {"names": ["item_id", "title", "genres"], **_PLAIN, "encoding": "latin-1"},
    "u.item": {"names": ["item_id", "title", "released", "video", "imdb", *_OLD_GENRES], **_PIPES},
    "users.dat": {"names": ["user_id", "gender", "age", "occupation", "zip_code"], **_PLAIN},
    "u.user": {"names": ["user_id", "age", "gender", "occupation", "zip_code"], **_PIPES},
    "tags.csv": {"need": ("userId", "movieId", "tag", "timestamp")},
    "tags.dat": {"names": ["user_id", "item_id", "tag", "timestamp"], **_PLAIN},
    "links.csv": {"need": ("movieId", "imdbId", "tmdbId")},
}


def ratings(source: str | Path, *, positive_from: float = 4, bad: Counter | None = None) -> Iterator[pd.DataFrame]:
    """The ratings, some 100,000 at a time: ``user_id, item_id, rating`` (0.5 to 5), ``positive``, ``timestamp`` (UTC).

    Parameters
    ----------
    source : the zip file, its folder, or the file of ratings itself.
    positive_from : the lowest rating that counts as positive.
    bad : counts what is left out, by its kind; without it the first bad row stops the reading.

    Raises AssetError, SchemaError: as in `files.opened`; a rating or a time is none.
    """
    for table, name in _tables(source, ("ratings.csv", "ratings.dat", "u.data"), bad):
        table = _with_ids(table, name, bad)
        table["rating"] = pd.to_numeric(table["rating"], errors="coerce")
        table = keep(table, table["rating"].between(0.5, 5), name, "rating", "rating is not 0.5 to 5", bad)
        table = _timed(table, name, bad)
        table.insert(3, "positive", table["rating"] >= positive_from)
        yield table


def items(source: str | Path) -> pd.DataFrame:
    """The films: ``item_id, title`` (without the year), ``year`` (may be missing), ``genres`` (list of str), ``text``
    (as in `movies.movies`), and ``imdb_id, tmdb_id`` (str, zeros kept) where the size has them.

    Raises AssetError, SchemaError: as in `ratings`.
    """
    films = _whole(source, ("movies.csv", "movies.dat", "u.item"))
    if "genres" in films:
        genres = films["genres"].str.split("|")
        films["genres"] = genres.map(lambda names: [name for name in names if name != "(no genres listed)"])
    else:
        films["genres"] = [[genre for genre in _OLD_GENRES if row[genre] == "1"] for _, row in films.iterrows()]
    titles = films["title"].str.strip()
    films["year"] = pd.to_numeric(titles.str.extract(r"\((\d{4})\)$")[0])
    films["title"] = titles.where(films["year"].isna(), titles.str[:-6].str.strip())
    films["text"] = pd.Series(item_texts(films), index=films.index).where(films["year"].notna(), None)
    table = films[["item_id", "title", "year", "genres", "text"]]
    if "links.csv" in _present(source):
        links = _whole(source, ("links.csv",))[["item_id", "imdb_id", "tmdb_id"]]
        table = table.merge(links, on="item_id", how="left", validate="one_to_one")
    return table


def users(source: str | Path) -> pd.DataFrame:
    """The people of 100K and 1M: ``user_id, age`` (years; in 1M the lower end of a class), ``gender``, ``occupation``
    (in 1M a code), ``zip_code`` (str). The later sizes have none.

    Raises AssetError, SchemaError: as in `ratings`.
    """
    table = _whole(source, ("users.dat", "u.user"))
    table["age"] = pd.to_numeric(table["age"], errors="coerce")
    return table


def tags(source: str | Path, *, bad: Counter | None = None) -> Iterator[pd.DataFrame]:
    """The tags, some 100,000 at a time: ``user_id, item_id, tag`` ("NA" and "null" are words), ``timestamp`` (UTC).

    Raises AssetError, SchemaError: as in `ratings`.
    """
    for table, name in _tables(source, ("tags.csv", "tags.dat"), bad):
        yield _timed(_with_ids(table, name, bad), name, bad)


def _present(source: str | Path) -> set[str]:
    return {name.rsplit("/", 1)[-1].removesuffix(".gz") for name in members(source)}


def _tables(source: str | Path, candidates: tuple[str, ...], bad: Counter | None) -> Iterator[tuple]:
    """The tables of the first candidate that is there, and its name."""
    here = _present(source)
    for name in candidates:
        if name in here:
            for table in delimited(source, name, bad=bad, **_LAYOUT[name]):
                yield table.rename(columns=_NAMES), name
            return
    raise AssetError(f"{source} holds none of {', '.join(candidates)}; give a MovieLens zip file or its folder")


def _whole(source: str | Path, candidates: tuple[str, ...]) -> pd.DataFrame:
    """A small file as one table, each id once."""
    tables = [(_with_ids(table, name, None), name) for table, name in _tables(source, candidates, None)]
    if not tables:
        raise SchemaError(f"{source}: {candidates[0]} has no rows; fetch it anew")
    table = pd.concat([part for part, _ in tables], ignore_index=True)
    ids = "user_id" if "user_id" in table else "item_id"
    return keep(table, ~table[ids].duplicated(), tables[0][1], ids, f"{ids} stands there twice", None)


def _with_ids(table: pd.DataFrame, name: str, bad: Counter | None) -> pd.DataFrame:
    for column in ("user_id", "item_id"):
        if column in table:
            table = keep(table, table[column] != "", name, column, f"{column} is not an id", bad)
    return table


def _timed(table: pd.DataFrame, name: str, bad: Counter | None) -> pd.DataFrame:
    seconds = pd.to_numeric(table["timestamp"], errors="coerce")
    ok = seconds.between(0, 2**32)  # up to the year 2106
    table = keep(table, ok, name, "timestamp", "timestamp is not in seconds since 1970", bad)
    return table.assign(timestamp=pd.to_datetime(np.asarray(seconds[ok], "int64"), unit="s", utc=True))
