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
from reclab.data.sources import FACTS, join_on_title, normalise_title, read_wikidata
from reclab.errors import UnknownNameError


def rows_of(path, delimiter="\t"):
    """A file's rows as dicts of text, read without pandas; ``name:type`` in a header gives ``name``."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(
            file, delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
        )
        names = [name.split(":")[0] for name in next(reader)]
        return [dict(zip(names, row, strict=True)) for row in reader]


# Films


@pytest.fixture(scope="module")
def movies():
    return data.movies()


@pytest.fixture(scope="module")
def films():
    return read_wikidata(fetch("wikidata-films")["movies.db"])


def test_movies_have_the_published_counts(movies):
    """GroupLens' README, u.info and u.genre of MovieLens 100K; the ratings 1 to 5 as its users gave them."""
    assert (len(movies.users), len(movies.items), len(movies.interactions)) == (943, 1682, 100_000)
    given = movies.interactions["rating"].value_counts().to_dict()
    assert given == {1: 6_110, 2: 11_370, 3: 27_145, 4: 34_174, 5: 21_201}
    assert movies.interactions["positive"].sum() == 34_174 + 21_201
    assert movies.interactions["user_id"].value_counts().min() == 20
    assert not movies.interactions.duplicated(["user_id", "item_id"]).any()
    assert movies.users["gender"].value_counts().to_dict() == {"M": 670, "F": 273}
    assert movies.users["occupation"].nunique() == 21
    genres = movies.items["genres"].explode().value_counts()
    assert (len(genres), genres["Drama"], genres["Comedy"], genres["Film-Noir"]) == (19, 725, 505, 24)


def test_movies_times_span_the_published_months(movies):
    times = movies.interactions["timestamp"]
    assert str(times.dt.tz) == "UTC"
    assert (times.min().strftime("%Y-%m-%d"), times.max().strftime("%Y-%m-%d")) == ("1997-09-20", "1998-04-22")


def test_movies_keep_every_rating_and_person_in_order(movies):
    raw = rows_of(fetch("movielens-100k")["ml-100k.inter"])
    log = movies.interactions
    assert log["user_id"].tolist() == [row["user_id"] for row in raw]
    assert log["item_id"].tolist() == [row["item_id"] for row in raw]
    assert log["rating"].tolist() == [float(row["rating"]) for row in raw]
    assert log["positive"].tolist() == [int(row["rating"]) >= 4 for row in raw]
    seconds = (log["timestamp"] - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)
    assert seconds.tolist() == [int(row["timestamp"]) for row in raw]
    people = rows_of(fetch("movielens-100k")["ml-100k.user"])
    assert movies.users["zip_code"].tolist() == [row["zip_code"] for row in people]  # text: "05201" keeps its 0
    assert movies.users["age"].tolist() == [int(row["age"]) for row in people]


def test_movies_keep_every_item_in_order_with_its_text(movies):
    raw = rows_of(fetch("movielens-100k")["ml-100k.item"])
    assert movies.items["item_id"].tolist() == [row["item_id"] for row in raw]
    want = [
        f"{row['movie_title']} ({row['release_year']}). {', '.join(row['class'].split())}"
        if row["release_year"].isdigit()
        else None
        for row in raw
    ]
    assert movies.items["text"].fillna("none").tolist() == [text or "none" for text in want]
    assert movies.items.loc[movies.items["text"].isna(), "item_id"].tolist() == ["267", "1412"]
    assert movies.items["text"].iloc[0] == "Toy Story (1995). Animation, Children's, Comedy"


def test_some_titles_stand_under_two_ids_as_the_card_says(movies):
    twice = movies.items[movies.items.duplicated(["title", "year"])]
    assert len(twice) == 18
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

    def split(text):
        return [part for part in (text or "").split(", ") if part]

    matched = 0
    for item in movies.items.itertuples():
        near = [row for row in by_key[simple_key(item.title)] if abs(row[2] - item.year) <= 1]
        best = min(near, key=lambda row: (abs(row[2] - item.year), row[0]), default=None)
        matched += best is not None
        assert item.matched == (best is not None), item.title
        facts = [split(text) for text in best[3:]] if best else [[], [], [], []]
        assert [item.directors, item.cast, item.countries, item.companies] == facts, item.title
    assert matched == movies.items["matched"].sum() == 1378
    known = movies.items.set_index("item_id")["matched"][movies.interactions["item_id"]]
    assert known.mean() == pytest.approx(0.93, abs=0.005)  # what is rated much is matched more often than 82%


def test_wikidata_is_read_whole_without_empty_names(films):
    assert len(films) == 17_472
    assert films["film_id"].is_unique
    assert set(FACTS.values()) < set(films.columns)
    for column in FACTS.values():
        assert films[column].map(lambda names: isinstance(names, list) and all(names)).all(), column
    assert films["directors"].map(len).max() > 1


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("Godfather, The", "thegodfather"),
        ("The Godfather", "thegodfather"),
        ("Shanghai Triad (Yao a yao yao dao waipo qiao)", "shanghaitriad"),
        ("City of Lost Children, The (Cité des enfants perdus, La)", "thecityoflostchildren"),
        ("Misérables, Les", "lesmiserables"),
        ("Enfer, L'", "lenfer"),
        ("Jean de Florette, El", "eljeandeflorette"),
        ("Romy & Michele's High School Reunion", "romyandmicheleshighschoolreunion"),
        ("Good, The Bad", "goodthebad"),  # no article at the end: nothing moves
        ("Me, Myself, A", "amemyself"),
        ("8½", "812"),
        ("Amélie", "amelie"),
        ("東京物語", "東京物語"),
    ],
)
def test_titles_are_normalised(title, key):
    assert normalise_title(title) == key


def small_films(**changes):
    columns = {
        "film_id": [9, 3, 5, 7, 8],
        "title": ["Ran", "Ran", "Ran", "The Big Heat", "Ran!"],
        "year": [1986, 1984, 1985, 1953, 1985],
    }
    table = pd.DataFrame(columns | changes)
    for name in FACTS.values():
        table[name] = [[f"{name} of {film}"] for film in table["film_id"]]
    return table


def small_items(*rows):
    return pd.DataFrame(
        [(str(number), *row, ["Drama"]) for number, row in enumerate(rows)],
        columns=["item_id", "title", "year", "genres"],
    )


def people(joined):
    return [names[0].split()[-1] if names else None for names in joined["directors"]]


def test_join_takes_the_nearest_year_then_the_lowest_id():
    items = small_items(("Ran", 1985), ("Ran", 1987), ("Ran", 1983), ("Ran", 1988), ("Big Heat, The", 1954))
    joined = join_on_title(items, small_films())
    assert people(joined) == ["5", "9", "3", None, "7"]
    assert joined["matched"].tolist() == [True, True, True, False, True]
    both_near = small_films(film_id=[9, 3, 4, 7, 8], year=[1986, 1984, 1980, 1953, 1980])
    assert people(join_on_title(items[:1], both_near)) == ["3"]  # 1984 and 1986 are equally near


def test_join_keeps_every_item_once_and_in_order():
    items = small_items(("Unheard Of", 1990), ("Ran", 1985), ("Ran", None), ("Ran", 1985)).iloc[::-1]
    joined = join_on_title(items, pd.concat([small_films(), small_films()]))
    assert joined["item_id"].tolist() == ["3", "2", "1", "0"]
    assert joined["title"].tolist() == items["title"].tolist()
    assert joined["matched"].tolist() == [True, False, True, False]
    assert list(joined.columns) == [*items.columns, *FACTS.values(), "matched"]
    assert joined.loc[~joined["matched"], [*FACTS.values()]].map(lambda names: names == []).all(axis=None)


# Clothing


@pytest.fixture(scope="module")
def clothing():
    return data.clothing()


@pytest.fixture(scope="module")
def raw_reviews():
    return pd.read_parquet(fetch("clothing-reviews")["reviews.parquet"]).to_dict("records")


@pytest.fixture(scope="module")
def first_of_each_text(raw_reviews):
    first = {}
    for row in raw_reviews:
        if isinstance(row["Review Text"], str):
            first.setdefault(row["Review Text"], row)
    return list(first.values())


def test_clothing_has_every_text_once_in_order(clothing, raw_reviews, first_of_each_text):
    assert len(raw_reviews) == 23_486
    log, first = clothing.interactions, first_of_each_text
    assert log["text"].tolist() == [row["Review Text"] for row in first]
    assert log["item_id"].tolist() == [str(row["Clothing ID"]) for row in first]
    assert log["rating"].tolist() == [row["Rating"] for row in first]
    assert log["positive"].tolist() == [row["Recommended IND"] == 1 for row in first]
    assert log["helpful_votes"].tolist() == [row["Positive Feedback Count"] for row in first]
    assert clothing.users["age"].tolist() == [row["Age"] for row in first]
    assert clothing.interactions["positive"].mean() == pytest.approx(0.82, abs=0.005)


def test_every_review_is_its_own_user(clothing):
    assert clothing.interactions["user_id"].is_unique
    assert clothing.interactions["user_id"].tolist() == clothing.users["user_id"].tolist()
    assert any("no reviewer id" in trap.lower() for trap in clothing.card.traps)


def test_clothing_items_say_their_class(clothing, first_of_each_text):
    kinds = {}
    for row in first_of_each_text:
        names = [row[f"{level} Name"] for level in ("Division", "Department", "Class")]
        text = ", ".join(name for name in names if isinstance(name, str))
        kinds.setdefault(str(row["Clothing ID"]), text or None)
    texts = {row.item_id: None if pd.isna(row.text) else row.text for row in clothing.items.itertuples()}
    assert texts == kinds
    assert texts["1080"] == "General, Dresses, Dresses"
    assert None in texts.values()


# The bandit log

# Clicks in 10,000 rows, and items.
LOGS = {
    ("all", "random"): (38, 80),
    ("all", "bts"): (42, 80),
    ("men", "random"): (46, 34),
    ("men", "bts"): (69, 34),
    ("women", "random"): (46, 46),
    ("women", "bts"): (46, 46),
}


@pytest.fixture(scope="module")
def logs():
    return {key: data.open_bandit(*key) for key in LOGS}


@pytest.mark.parametrize("key", LOGS)
def test_bandit_logs_have_the_known_rows_clicks_and_items(logs, key):
    log, (clicks, items) = logs[key].interactions, LOGS[key]
    assert (len(log), log["positive"].sum(), len(logs[key].items)) == (10_000, clicks, items)
    assert sorted(log["position"].unique()) == [1, 2, 3]
    assert log["propensity"].between(0, 1, inclusive="right").all()
    assert logs[key].items["text"].isna().all()
    assert {f"item_feature_{number}" for number in range(4)} < set(logs[key].items.columns)


@pytest.mark.parametrize("campaign", ["all", "men", "women"])
def test_random_propensities_are_one_in_k(logs, campaign):
    dataset = logs[campaign, "random"]
    np.testing.assert_allclose(dataset.interactions["propensity"], 1 / len(dataset.items), rtol=1e-12)


@pytest.mark.parametrize("key", [("men", "bts"), ("all", "random")])
def test_bandit_rows_are_those_of_the_file(logs, key):
    campaign, policy = key
    raw = rows_of(fetch("open-bandit-small")[f"{policy}/{campaign}.csv"], ",")
    dataset, names = logs[key], [f"user_feature_{number}" for number in range(4)]
    log = dataset.interactions
    assert log["item_id"].tolist() == [row["item_id"] for row in raw]
    assert log["position"].tolist() == [int(row["position"]) for row in raw]
    assert log["positive"].tolist() == [row["click"] == "1" for row in raw]
    np.testing.assert_allclose(log["propensity"], [float(row["propensity_score"]) for row in raw], rtol=1e-12)
    assert log["timestamp"].tolist() == [pd.Timestamp(row["timestamp"]) for row in raw]
    assert log["user_id"].tolist() == ["-".join(row[name] for name in names) for row in raw]
    segments = dataset.users.set_index("user_id")[names]
    assert segments.index.tolist() == log["user_id"].drop_duplicates().tolist()
    assert ["-".join(features) for features in segments.to_numpy()] == segments.index.tolist()


def test_a_user_is_the_same_in_both_logs_and_an_item_feature_may_not_be(logs):
    random, bts = logs["all", "random"], logs["all", "bts"]
    users = random.users.merge(bts.users, on="user_id")
    assert len(users) == 213
    assert (users.filter(like="_x").to_numpy(str) == users.filter(like="_y").to_numpy(str)).all()
    items = random.items.merge(bts.items, on="item_id")
    same = [(items[f"item_feature_{n}_x"] == items[f"item_feature_{n}_y"]).mean() for n in range(4)]
    assert same == [1, 0, 0, 0]
    assert any("Item features 1 to 3" in trap for trap in random.card.traps)


# Impressions of about a month, in millions; number of items.
@pytest.mark.parametrize(("campaign", "millions", "items"), [("all", 1.59, 80), ("men", 0.41, 34), ("women", 1.26, 46)])
def test_prior_counts_a_month_of_traffic(campaign, millions, items):
    alpha, beta = data.production_prior(campaign)
    assert alpha.shape == beta.shape == (items,)
    assert (alpha + beta).sum() / 1e6 == pytest.approx(millions, abs=0.005)
    rates = alpha / (alpha + beta)
    assert 0.0008 < rates.min() < rates.max() < 0.0052
    raw = yaml.safe_load(fetch("open-bandit-small")["prior_bts.yaml"].read_text("utf-8"))[campaign]
    assert (alpha.tolist(), beta.tolist()) == (raw["alpha"], raw["beta"])


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (lambda: data.open_bandit("kids"), "there is no campaign named 'kids'; choose one of: all, men, women"),
        (lambda: data.open_bandit("men", "ucb"), "there is no policy named 'ucb'; choose one of: bts, random"),
        (lambda: data.production_prior("kids"), "there is no campaign named 'kids'; choose one of: all, men, women"),
    ],
)
def test_unknown_campaign_or_policy_is_named(load, message):
    with pytest.raises(UnknownNameError) as refused:
        load()
    assert str(refused.value) == message


def test_cards_carry_the_hashes_licences_and_sources(movies, clothing, logs):
    def pinned(asset, name):
        return ASSETS[asset].members[name].sha256

    assert movies.card.sha256 == {
        "ml-100k.inter": pinned("movielens-100k", "ml-100k.inter"),
        "movies.db": pinned("wikidata-films", "movies.db"),
    }
    assert clothing.card.sha256 == {"reviews.parquet": pinned("clothing-reviews", "reviews.parquet")}
    assert logs["men", "bts"].card.sha256 == {"bts/men.csv": pinned("open-bandit-small", "bts/men.csv")}
    assert "no redistribution" in movies.card.licence
    assert "CC0" in clothing.card.licence
    assert logs["all", "random"].card.licence == "CC BY 4.0"
    for dataset in (movies, clothing, logs["all", "random"]):
        assert len(dataset.card.traps) >= 4
        assert dataset.card.source
