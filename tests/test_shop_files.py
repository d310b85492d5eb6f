"""The raw files of the shop: clean ones give the shop back, and every kind of dirt is found by its rule."""

import html
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reclab import data

KNOBS = {"n_users": 300, "n_items": 200, "missing": 0.1}
JSON_FILES = ("metadata.jsonl", "reviews.jsonl")


@pytest.fixture(scope="module", params=[3, 11])
def shop(request):
    return data.shop(request.param, **KNOBS)


@pytest.fixture(scope="module")
def clean(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    assert shop.write_files(folder, dirt=False) == {}
    return folder


@pytest.fixture(scope="module")
def dirty(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dirty")
    return folder, shop.write_files(folder)


def table(folder, name):
    separator = "\t" if name.endswith("tsv") else ","
    return pd.read_csv(folder / name, sep=separator, dtype={"user_id": str}, keep_default_na=False)


def json_lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def rows_where(flags) -> list[int]:
    return np.flatnonzero(flags).tolist()


# Clean


def test_clean_files_give_the_tables_back(shop, clean):
    users = table(clean, "users.csv")
    assert users[shop.users.columns].equals(shop.users)
    items = pd.DataFrame(json_lines(clean, "metadata.jsonl"))
    assert items["price"].str.removeprefix("$").astype(float).tolist() == shop.items["price"].tolist()
    assert items["item_id"].tolist() == shop.items["item_id"].tolist()
    for name, column in (("description", "text"), ("brand", "brand"), ("category", "category")):
        assert items[name].dropna().tolist() == shop.items[column].dropna().tolist()
        assert (items[name].isna() == shop.items[column].isna()).all()


def test_clean_searches_give_the_impressions_back(shop, clean):
    found = table(clean, "searches.tsv").sort_values(["user_id", "item_id"], ignore_index=True)
    log = shop.interactions.sort_values(["user_id", "item_id"], ignore_index=True)
    assert (pd.to_datetime(found["time"], utc=True) == log["timestamp"]).all()
    assert (found["clicked"] == log["positive"]).all()
    assert found["propensity"].to_numpy() == pytest.approx(log["propensity"].to_numpy(), rel=1e-5)
    queries = shop.searches.set_index("search_id")["query"]
    assert (found["query"] == found["search_id"].map(queries)).all()


def test_every_purchase_is_rated_and_half_are_reviewed(shop, clean):
    ratings = table(clean, "ratings.csv")
    assert len(ratings) == shop.interactions["purchased"].sum()
    assert set(ratings["rating"]) == {1, 2, 3, 4, 5}
    reviews = pd.DataFrame(json_lines(clean, "reviews.jsonl"))
    assert len(reviews) == pytest.approx(len(ratings) / 2, rel=0.1)
    assert reviews.merge(ratings).shape[0] == len(reviews)


def test_clean_pictures_give_the_pixels_back(shop, clean):
    pictures, present = data.load_pictures(clean / "pictures", shop.items["item_id"].tolist())
    assert (pictures == shop.pictures).all()
    assert (present == shop.present["picture"]).all()


def test_the_files_are_the_same_for_the_same_seed(shop, dirty, tmp_path):
    folder, planted = dirty
    assert data.shop(shop.settings["seed"], **KNOBS).write_files(tmp_path) == planted
    for name in ("users.csv", "metadata.jsonl", "ratings.csv", "reviews.jsonl", "searches.tsv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


# Dirty: one rule for each kind of dirt finds all of its rows and no others


def test_dirt_of_users_and_ratings(shop, dirty):
    folder, planted = dirty
    users, ratings = table(folder, "users.csv"), table(folder, "ratings.csv")
    assert rows_where(~users["gender"].isin(["f", "m"])) == planted["gender_spellings"]
    assert rows_where(~users["user_id"].isin(shop.users["user_id"])) == planted["made_up_users"]
    assert rows_where(~ratings["rating"].isin([1, 2, 3, 4, 5])) == planted["ratings_off_scale"]
    assert rows_where(~ratings["item_id"].isin(shop.items["item_id"])) == planted["unknown_items"]
    assert rows_where(~ratings["user_id"].isin(users["user_id"])) == planted["unknown_users"]
    assert rows_where(ratings.duplicated(["user_id", "item_id"], keep="last")) == planted["outdated_ratings"]


def test_dirt_of_metadata(dirty):
    folder, planted = dirty
    lines = (folder / "metadata.jsonl").read_bytes().splitlines()
    latin1 = []
    for number, line in enumerate(lines):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            latin1.append(number)
    assert latin1 == planted["latin1_lines"]
    assert rows_where(pd.Series(lines).duplicated()) == planted["repeated_items"]
    items = pd.DataFrame(json.loads(line.decode("latin-1" if n in latin1 else "utf-8")) for n, line in enumerate(lines))
    price = items["price"]
    assert rows_where(price.str.contains(" - ")) == planted["price_ranges"]
    assert rows_where(price == "") == planted["prices_blank"]
    assert rows_where(price.str.startswith(".")) == planted["prices_junk"]
    tags = items["description"].fillna("").map(lambda text: bool(re.search("<|&", text)))
    assert rows_where(tags) == planted["html_descriptions"]
    assert html.unescape(items["description"][planted["html_descriptions"][0]]).endswith("Naïve & new.")
    assert items["item_id"].nunique() == KNOBS["n_items"]


def test_dirt_of_reviews(dirty):
    folder, planted = dirty
    lines = (folder / "reviews.jsonl").read_text("utf-8").splitlines()
    cut = [number for number, line in enumerate(lines) if not line.endswith("}")]
    assert cut == planted["cut_lines"]
    assert rows_where(pd.Series(lines).duplicated()) == planted["repeated_reviews"]
    reviews = pd.DataFrame([{} if n in cut else json.loads(line) for n, line in enumerate(lines)])
    assert rows_where(reviews["timestamp"] > 1e11) == planted["millisecond_stamps"]
    assert rows_where(reviews["text"] == "") == planted["reviews_without_text"]
    assert rows_where(reviews["text"].str.contains("<br />", na=False)) == planted["html_reviews"]
    seconds = reviews["timestamp"].where(reviews["timestamp"] < 1e11, reviews["timestamp"] / 1000)
    hour = seconds // 3600
    often = reviews.assign(hour=hour).groupby(["user_id", "hour"])["text"].transform("size")
    assert rows_where(often > 20) == planted["bot_reviews"]


def test_dirt_of_searches(dirty):
    folder, planted = dirty
    log = table(folder, "searches.tsv")
    assert rows_where(log["query"] != log["query"].str.strip().str.lower()) == planted["untidy_queries"]
    assert rows_where(log["time"].str.startswith("1970")) == planted["clocks_at_zero"]
    assert rows_where(log.duplicated()) == planted["repeated_impressions"]
    often = log.assign(hour=log["time"].str[:13]).groupby(["user_id", "hour"])["clicked"].transform("size")
    assert rows_where(often > 50) == planted["crawler_rows"]


def test_dirt_of_pictures(shop, dirty):
    folder, planted = dirty
    broken, grey = [], []
    for path in sorted((folder / "pictures").iterdir()):
        try:
            with Image.open(path) as picture:
                pixels = np.asarray(picture)
            if pixels.min() == pixels.max():
                grey.append(path.stem)
        except OSError:
            broken.append(path.stem)
    assert grey == planted["grey_placeholders"]
    assert broken == sorted(planted["pictures_that_are_pages"] + planted["pictures_cut_off"])
    _, present = data.load_pictures(folder / "pictures", shop.items["item_id"].tolist(), broken="absent")
    assert present.sum() == shop.present["picture"].sum() - len(broken)


def test_a_row_has_one_kind_of_dirt_at_most(dirty):
    _, planted = dirty
    files = {
        "metadata": [
            "price_ranges",
            "prices_blank",
            "prices_junk",
            "html_descriptions",
            "latin1_lines",
            "repeated_items",
        ],
        "ratings": ["ratings_off_scale", "unknown_items", "unknown_users", "outdated_ratings"],
        "reviews": [
            "html_reviews",
            "reviews_without_text",
            "millisecond_stamps",
            "cut_lines",
            "repeated_reviews",
            "bot_reviews",
        ],
        "searches": ["untidy_queries", "clocks_at_zero", "repeated_impressions", "crawler_rows"],
        "pictures": ["pictures_that_are_pages", "pictures_cut_off", "grey_placeholders"],
        "users": ["gender_spellings", "made_up_users"],
    }
    assert sorted(planted) == sorted(kind for kinds in files.values() for kind in kinds)
    for kinds in files.values():
        rows = [row for kind in kinds for row in planted[kind]]
        assert all(planted[kind] for kind in kinds)
        assert len(rows) == len(set(rows))
