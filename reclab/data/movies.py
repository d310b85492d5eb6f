"""MovieLens 100K, joined to the facts that Wikidata holds about its films.

Source: Harper and Konstan (2015), doi 10.1145/2827872; Wikidata, CC0.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from .. import assets
from .schema import Card, Dataset

_ARTICLES = ("The", "A", "An", "Les", "La", "Le", "L'", "Il", "Das", "El")
FACTS = {
    "Genre": "wikidata_genres",
    "Director": "directors",
    "Writer": "writers",
    "Cast": "cast",
    "Language": "languages",
    "Country": "countries",
    "Production": "companies",
}

TRAPS = (
    "A user's ratings fall within minutes: most share their second with another, so 'the last one' is partly a draw.",
    "Some titles stand under two ids, and one item is 'unknown' with blanks.",
    "Films that Wikidata does not match are kept and marked: matched = False, no people.",
    "Ratings may not be redistributed: show aggregates, never rows.",
)


def movies() -> Dataset:
    """The films thread of the series: 943 users, 1,682 films, 100,000 ratings; positive means a rating of 4 or 5.

    ``items`` has ``title``, ``year`` (missing for two), ``genres`` (list of str), ``text`` ("Title (year). Genres";
    missing without a year),
    ``matched`` (found in Wikidata) and, as lists of str, ``directors, writers, cast, languages,
    countries, companies, wikidata_genres``.
    ``users`` has ``age`` (years), ``gender``, ``occupation``, ``zip_code`` (str).

    Raises AssetError: the files are neither cached nor can they be fetched.

    Source: Harper and Konstan, The MovieLens Datasets (2015), doi 10.1145/2827872.
    """
    files = assets.fetch("movielens-100k")
    films = read_wikidata(assets.fetch("wikidata-films")["movies.db"])
    items = join_on_title(_read(files["ml-100k.item"]), films)
    interactions = _read(files["ml-100k.inter"])
    interactions["rating"] = interactions["rating"].astype(float)
    interactions["timestamp"] = pd.to_datetime(interactions["timestamp"].astype("int64"), unit="s", utc=True)
    interactions["positive"] = interactions["rating"] >= 4
    users = _read(files["ml-100k.user"])
    users["age"] = users["age"].astype(int)
    card = Card(
        title="movies: MovieLens 100K with Wikidata's facts",
        source="GroupLens (ratings, profiles, titles, genres); Wikidata (people, languages, countries, companies)",
        licence="ratings: research use, no redistribution; Wikidata: CC0",
        citation="Harper and Konstan (2015), doi 10.1145/2827872",
        sha256={
            name: assets.ASSETS[asset].members[name].sha256
            for asset, name in (("movielens-100k", "ml-100k.inter"), ("wikidata-films", "movies.db"))
        },
        traps=TRAPS,
    )
    return Dataset(users, items, interactions, card)


def join_on_title(items: pd.DataFrame, films: pd.DataFrame) -> pd.DataFrame:
    """Join items to films on the normalised title and a year at most one apart; items without a film are kept.

    Parameters
    ----------
    items : columns ``item_id, title, year, genres`` as MovieLens writes them.
    films : columns ``film_id, title, year`` and those of Wikidata's facts.

    Returns: One row an item, in order, with ``matched`` and the facts of the film whose year is nearest (then the
        lowest id).
    """
    left = items.assign(key=items["title"].map(normalise_title))
    pairs = left[["item_id", "key", "year"]].merge(
        films.assign(key=films["title"].map(normalise_title)), on="key", suffixes=("", "_film")
    )
    pairs["apart"] = (pairs["year"] - pairs["year_film"]).abs()
    pairs = pairs[pairs["apart"] <= 1].sort_values(["apart", "film_id"]).drop_duplicates("item_id")
    joined = items.merge(pairs[["item_id", "film_id", *FACTS.values()]], on="item_id", how="left")
    joined["matched"] = joined.pop("film_id").notna()
    for column in FACTS.values():
        joined[column] = joined[column].map(lambda value: value if isinstance(value, list) else [])
    return joined


def normalise_title(title: str) -> str:
    """Letters and digits in lower case, no accents, no "(other title)": "Godfather, The" gives "thegodfather"."""
    title = title.split("(")[0].strip()
    head, comma, article = title.rpartition(", ")
    if comma and article in _ARTICLES:
        title = f"{article} {head}"
    plain = unicodedata.normalize("NFKD", title.lower().replace("&", "and"))
    return "".join(letter for letter in plain if letter.isalnum())


def read_wikidata(path: Path) -> pd.DataFrame:
    """Films of the Wikidata file: ``film_id, title, year`` and lists of names."""
    columns = ", ".join(f'"{column}"' for column in FACTS)
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        query = f"select ID as film_id, Title as title, Year as year, {columns} from omdb left join tomatoes using (ID)"
        films = pd.read_sql(query, database)
    for column, name in FACTS.items():
        films[name] = films.pop(column).fillna("").map(lambda text: [part for part in text.split(", ") if part])
    return films


def _read(path) -> pd.DataFrame:
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8", quoting=3)
    table.columns = [column.split(":")[0] for column in table.columns]
    if "movie_title" not in table:
        return table
    table = table.rename(columns={"movie_title": "title", "release_year": "year", "class": "genres"})
    table["year"] = pd.to_numeric(table["year"], errors="coerce")
    table["genres"] = table["genres"].map(str.split)
    table["text"] = np.where(table["year"].notna(), item_texts(table), None)
    return table


def item_texts(items: pd.DataFrame) -> list[str]:
    """What a language model reads of a film: ``Title (year). Genre, genre``."""
    rows = zip(items["title"], items["year"], items["genres"], strict=True)
    return [f"{title} ({year:.0f}). {', '.join(genres)}" for title, year, genres in rows]
