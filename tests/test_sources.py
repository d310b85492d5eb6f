"""The data sets against their raw files, published counts and an independent join."""

import collections
import csv
import re
import sqlite3
import unicodedata

import numpy as np
import pandas as pd
import pytest
import yaml

from reclab import data
from reclab.assets import ASSETS, fetch
from reclab.data.sources import FACTS, join_on_title, normalise_title
from reclab.errors import UnknownNameError


def rows_of(path, delimiter="\t"):
    """A file's rows as dicts of text, read without pandas; ``name:type`` in a header gives ``name``."""
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting)
        names = [name.split(":")[0] for name in next(reader)]
        return [dict(zip(names, row, strict=True)) for row in reader]


# Films


@pytest.fixture(scope="module")
def movies():
    return data.movies()


def test_movies_have_the_published_counts(movies):
    """GroupLens' README, u.info and u.genre of MovieLens 100K; the ratings 1 to 5 as its users gave them."""
    log, users = movies.interactions, movies.users
    assert (len(users), len(movies.items), len(log)) == (943, 1682, 100_000)
    given = {1: 6_110, 2: 11_370, 3: 27_145, 4: 34_174, 5: 21_201}
    assert log["rating"].value_counts().to_dict() == given
    assert users["gender"].value_counts().to_dict() == {"M": 670, "F": 273}
    genres = movies.items["genres"].explode().value_counts()
    assert (len(genres), genres["Drama"], genres["Comedy"], genres["Film-Noir"]) == (19, 725, 505, 24)


def test_movies_keep_every_rating_person_and_item_in_order(movies):
    files = fetch("movielens-100k")
    ratings, people, films = (pd.DataFrame(rows_of(files[f"ml-100k.{name}"])) for name in ("inter", "user", "item"))
    log, items = movies.interactions, movies.items
    assert log[["user_id", "item_id"]].equals(ratings[["user_id", "item_id"]].astype("str"))
    assert (log["rating"] == ratings["rating"].astype(float)).all() and (log["positive"] == (log["rating"] >= 4)).all()
    seconds = (log["timestamp"] - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)
    assert seconds.tolist() == ratings["timestamp"].astype(int).tolist()
    assert movies.users["zip_code"].tolist() == people["zip_code"].tolist()  # text: "05201" keeps its 0
    assert movies.users["age"].tolist() == people["age"].astype(int).tolist()
    assert items["item_id"].tolist() == films["item_id"].tolist()
    genres = films["class"].str.split().str.join(", ")
    texts = (films["movie_title"] + " (" + films["release_year"] + "). " + genres)[films["release_year"].str.isdigit()]
    assert items["text"].dropna().tolist() == texts.tolist()
    assert items.loc[items["text"].isna(), "item_id"].tolist() == ["267", "1412"]
    assert items.duplicated(["title", "year"]).sum() == 18
    assert any("two ids" in trap for trap in movies.card.traps)


def simple_key(title):
    """`normalise_title` written another way."""
    title = re.sub(r"\(.*", "", title).strip()
    title = re.sub(r"^(.*), (The|A|An|Les|La|Le|L'|Il|Das|El)$", r"\2 \1", title)
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKD", title.casefold().replace("&", "and")))


def test_join_agrees_with_a_search_film_by_film(movies):
    with sqlite3.connect(fetch("wikidata-films")["movies.db"]) as database:
        columns = 'omdb.ID, Title, Year, Director, "Cast", Country, Production'
        rows = database.execute(f"select {columns} from omdb, tomatoes where omdb.ID = tomatoes.ID").fetchall()
    database.close()
    by_key = collections.defaultdict(list)
    for row in rows:
        by_key[simple_key(row[1])].append(row)
    for item in movies.items.itertuples():
        near = [row for row in by_key[simple_key(item.title)] if abs(row[2] - item.year) <= 1]
        best = min(near, key=lambda row: (abs(row[2] - item.year), row[0]), default=None)
        assert item.matched == (best is not None), item.title
        facts = [[part for part in (text or "").split(", ") if part] for text in best[3:]] if best else [[]] * 4
        assert [item.directors, item.cast, item.countries, item.companies] == facts, item.title
    assert movies.items["matched"].sum() == 1378


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("Godfather, The", "thegodfather"),
        ("City of Lost Children, The (Cité des enfants perdus, La)", "thecityoflostchildren"),
        ("Misérables, Les", "lesmiserables"),
        ("Good & The Bad", "goodandthebad"),  # no article at the end: nothing moves
        ("8½", "812"),
        ("東京物語", "東京物語"),
    ],
)
def test_titles_are_normalised(title, key):
    assert normalise_title(title) == key


def test_join_takes_the_nearest_year_then_the_lowest_id_and_keeps_every_item_once():
    titles, years = ["Ran", "Ran", "Ran", "The Big Heat", "Ran!"], [1986, 1984, 1985, 1953, 1985]
    films = pd.DataFrame({"film_id": [9, 3, 5, 7, 8], "title": titles, "year": years})
    films = films.assign(**{name: [[str(film)] for film in films["film_id"]] for name in FACTS.values()})
    rows = [("Ran", 1985), ("Ran", 1987), ("Ran", 1983), ("Ran", 1988), ("Big Heat, The", 1954), ("Ran", None)]
    items = pd.DataFrame(rows, columns=["title", "year"]).assign(item_id=list("abcdef"), genres="").iloc[::-1]
    joined = join_on_title(items, pd.concat([films, films]))
    assert joined["item_id"].tolist() == list("fedcba")
    assert joined["directors"].tolist() == [[], ["7"], [], ["3"], ["9"], ["5"]]
    assert joined["matched"].tolist() == [False, True, False, True, True, True]
    apart = films.iloc[:2]  # 1986 and 1984 are equally near to 1985
    assert join_on_title(items[items["item_id"] == "a"], apart)["cast"].tolist() == [["3"]]


# Clothing


def test_clothing_has_every_text_once_in_order_and_items_say_their_class():
    raw = pd.read_parquet(fetch("clothing-reviews")["reviews.parquet"])
    assert len(raw) == 23_486
    first = raw.loc[raw["Review Text"].drop_duplicates().dropna().index]
    clothing = data.clothing()
    log = clothing.interactions
    names = {"text": "Review Text", "rating": "Rating", "helpful_votes": "Positive Feedback Count"}
    for ours, theirs in names.items():
        assert log[ours].tolist() == first[theirs].tolist()
    assert log["item_id"].tolist() == first["Clothing ID"].astype(str).tolist()
    assert log["positive"].tolist() == (first["Recommended IND"] == 1).tolist()
    assert clothing.users["age"].tolist() == first["Age"].tolist()
    assert log["user_id"].is_unique and log["user_id"].tolist() == clothing.users["user_id"].tolist()
    texts = dict(zip(clothing.items["item_id"], clothing.items["text"], strict=True))
    for item, row in first.drop_duplicates("Clothing ID").set_index("Clothing ID").iterrows():
        names = row[["Division Name", "Department Name", "Class Name"]].dropna()
        text = texts.pop(str(item))
        assert ("" if pd.isna(text) else text) == ", ".join(names)
    assert not texts


# The bandit log


@pytest.mark.parametrize("campaign", ["all", "men", "women"])
@pytest.mark.parametrize("policy", ["random", "bts"])
def test_bandit_logs_are_the_rows_of_their_files(campaign, policy):
    raw = pd.DataFrame(rows_of(fetch("open-bandit-small")[f"{policy}/{campaign}.csv"], ","))
    dataset, names = data.open_bandit(campaign, policy), [f"user_feature_{number}" for number in range(4)]
    log, features = dataset.interactions, dataset.users.set_index("user_id")[names]
    assert len(log) == 10_000 and log["positive"].sum() > 30
    assert log["item_id"].tolist() == raw["item_id"].tolist()
    assert log["position"].tolist() == raw["position"].astype(int).tolist()
    assert log["positive"].tolist() == (raw["click"] == "1").tolist()
    np.testing.assert_allclose(log["propensity"], raw["propensity_score"].astype(float), rtol=1e-12)
    assert log["timestamp"].tolist() == [pd.Timestamp(moment) for moment in raw["timestamp"]]
    assert log["user_id"].tolist() == raw[names].agg("-".join, axis=1).tolist()
    assert features.index.tolist() == log["user_id"].drop_duplicates().tolist()
    assert features.agg("-".join, axis=1).tolist() == features.index.tolist()
    assert dataset.items["text"].isna().all()


def test_a_user_is_the_same_in_both_logs_and_an_item_feature_may_not_be():
    random, bts = (data.open_bandit("all", policy) for policy in ("random", "bts"))
    assert random.users["user_id"].isin(bts.users["user_id"]).sum() == 213  # of 240
    items = random.items.merge(bts.items, on="item_id")
    same = [(items[f"item_feature_{n}_x"] == items[f"item_feature_{n}_y"]).mean() for n in range(4)]
    assert same == [1, 0, 0, 0]
    assert any("Item features 1 to 3" in trap for trap in random.card.traps)


@pytest.mark.parametrize(("campaign", "items"), [("all", 80), ("men", 34), ("women", 46)])
def test_prior_counts_a_month_of_traffic(campaign, items):
    alpha, beta = data.production_prior(campaign)
    assert alpha.shape == beta.shape == (items,)
    raw = yaml.safe_load(fetch("open-bandit-small")["prior_bts.yaml"].read_text("utf-8"))[campaign]
    assert (alpha.tolist(), beta.tolist()) == (raw["alpha"], raw["beta"])


@pytest.mark.parametrize("load", [data.open_bandit, data.production_prior])
def test_unknown_campaign_or_policy_is_named(load):
    with pytest.raises(UnknownNameError, match="there is no campaign named 'kids'; choose one of: all, men, women"):
        load("kids")
    with pytest.raises(UnknownNameError, match="there is no policy named 'ucb'; choose one of: bts, random"):
        data.open_bandit("men", "ucb")


@pytest.mark.parametrize(
    ("load", "licence", "pins"),
    [
        (data.movies, "no redistribution", {"ml-100k.inter": "movielens-100k", "movies.db": "wikidata-films"}),
        (data.clothing, "CC0", {"reviews.parquet": "clothing-reviews"}),
        (lambda: data.open_bandit("men", "bts"), "CC BY 4.0", {"bts/men.csv": "open-bandit-small"}),
    ],
)
def test_cards_carry_the_hashes_licences_and_sources(load, licence, pins):
    card = load().card
    assert card.sha256 == {name: ASSETS[asset].members[name].sha256 for name, asset in pins.items()}
    assert licence in card.licence and card.source and len(card.traps) >= 4
