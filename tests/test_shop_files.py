"""The raw files of the shop: clean ones give the shop back, and every kind of dirt is found by its rule."""

import html
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reclab import data

KNOBS = {"n_users": 300, "n_items": 200, "missing": 0.1}
KINDS = {  # of dirt, by file
    "users.csv": "gender_spellings made_up_users",
    "metadata.jsonl": "price_ranges prices_blank prices_junk html_descriptions latin1_lines repeated_items",
    "ratings.csv": "ratings_off_scale unknown_items unknown_users outdated_ratings",
    "reviews.jsonl": "html_reviews reviews_without_text millisecond_stamps cut_lines repeated_reviews bot_reviews",
    "searches.tsv": "untidy_queries clocks_at_zero repeated_impressions crawler_rows",
    "pictures": "pictures_that_are_pages pictures_cut_off grey_placeholders",
}


@pytest.fixture(scope="module")
def shop():
    return data.shop(3, **KNOBS)


@pytest.fixture(scope="module")
def clean(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    assert data.write_shop_files(shop, folder, dirt=False) == {}
    return folder


@pytest.fixture(scope="module")
def dirty(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dirty")
    return folder, data.write_shop_files(shop, folder)


def table(folder, name):
    separator = "\t" if name.endswith("tsv") else ","
    return pd.read_csv(folder / name, sep=separator, dtype={"user_id": str}, keep_default_na=False)


def json_lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def assert_found(planted, **rules):
    """Each rule finds the rows of its kind of dirt and no others."""
    for kind, flags in rules.items():
        assert np.flatnonzero(flags).tolist() == planted[kind], kind


# Clean


def test_clean_files_give_the_tables_back(shop, clean):
    assert table(clean, "users.csv")[shop.users.columns].equals(shop.users)
    items = pd.DataFrame(json_lines(clean, "metadata.jsonl"))
    assert items["price"].str.removeprefix("$").astype(float).tolist() == shop.items["price"].tolist()
    for name, column in {"item_id": "item_id", "description": "text", "brand": "brand"}.items():
        assert items[name].fillna("").tolist() == shop.items[column].fillna("").tolist()
    found = table(clean, "searches.tsv").sort_values(["user_id", "item_id"], ignore_index=True)
    log = shop.interactions.sort_values(["user_id", "item_id"], ignore_index=True)
    assert (pd.to_datetime(found["time"], utc=True) == log["timestamp"]).all()
    assert (found["clicked"] == log["positive"]).all()
    assert found["propensity"].to_numpy() == pytest.approx(log["propensity"].to_numpy(), rel=1e-5)
    pictures, present = data.load_pictures(clean / "pictures", shop.items["item_id"].tolist())
    assert (pictures == shop.pictures).all() and (present == shop.present["picture"]).all()


def test_every_purchase_is_rated_and_half_are_reviewed(shop, clean):
    ratings, reviews = table(clean, "ratings.csv"), pd.DataFrame(json_lines(clean, "reviews.jsonl"))
    assert len(ratings) == shop.interactions["purchased"].sum() and set(ratings["rating"]) == {1, 2, 3, 4, 5}
    assert len(reviews.merge(ratings)) == len(reviews) == pytest.approx(len(ratings) / 2, rel=0.1)


def test_the_files_are_the_same_for_the_same_seed(shop, dirty, tmp_path):
    folder, planted = dirty
    assert data.write_shop_files(data.shop(shop.settings["seed"], **KNOBS), tmp_path) == planted
    for path in tmp_path.glob("*.*"):
        assert path.read_bytes() == (folder / path.name).read_bytes()


# Dirty


def test_dirt_of_users_and_ratings(shop, dirty):
    folder, planted = dirty
    users, ratings = table(folder, "users.csv"), table(folder, "ratings.csv")
    assert_found(
        planted,
        gender_spellings=~users["gender"].isin(["f", "m"]),
        made_up_users=~users["user_id"].isin(shop.users["user_id"]),
        ratings_off_scale=~ratings["rating"].isin([1, 2, 3, 4, 5]),
        unknown_items=~ratings["item_id"].isin(shop.items["item_id"]),
        unknown_users=~ratings["user_id"].isin(users["user_id"]),
        outdated_ratings=ratings.duplicated(["user_id", "item_id"], keep="last"),
    )


def test_dirt_of_metadata(dirty):
    folder, planted = dirty
    lines = (folder / "metadata.jsonl").read_bytes().splitlines()
    texts = [line.decode("utf-8", "replace") for line in lines]
    latin1 = np.array(["\ufffd" in text for text in texts])
    items = pd.DataFrame(json.loads(text) for text in texts)
    assert_found(
        planted,
        latin1_lines=latin1,
        repeated_items=pd.Series(lines).duplicated(),
        price_ranges=items["price"].str.contains(" - "),
        prices_blank=items["price"] == "",
        prices_junk=items["price"].str.startswith("."),
        html_descriptions=items["description"].str.contains("<|&", na=False),
    )
    assert html.unescape(items["description"][planted["html_descriptions"][0]]).endswith("Naïve & new.")
    assert lines[planted["latin1_lines"][0]].decode("latin-1").count("Crème de la crème") == 1
    assert items["item_id"].nunique() == KNOBS["n_items"]


def test_dirt_of_reviews_and_searches(dirty):
    folder, planted = dirty
    lines = (folder / "reviews.jsonl").read_text("utf-8").splitlines()
    cut = np.array([not line.endswith("}") for line in lines])
    reviews = pd.DataFrame([{} if is_cut else json.loads(line) for is_cut, line in zip(cut, lines, strict=True)])
    late = reviews["timestamp"] > 1e11
    hour = reviews["timestamp"].where(~late, reviews["timestamp"] / 1000) // 3600
    log = table(folder, "searches.tsv")
    searched = log.assign(hour=log["time"].str[:13]).groupby(["user_id", "hour"])["clicked"].transform("size")
    assert_found(
        planted,
        cut_lines=cut,
        repeated_reviews=pd.Series(lines).duplicated(),
        millisecond_stamps=late,
        reviews_without_text=reviews["text"] == "",
        html_reviews=reviews["text"].str.contains("<br />", na=False),
        bot_reviews=reviews.assign(hour=hour).groupby(["user_id", "hour"])["text"].transform("size") > 20,
        untidy_queries=log["query"] != log["query"].str.strip().str.lower(),
        clocks_at_zero=log["time"].str.startswith("1970"),
        repeated_impressions=log.duplicated(),
        crawler_rows=searched > 50,
    )


def test_dirt_of_pictures(shop, dirty):
    folder, planted = dirty
    ids = shop.items["item_id"].to_numpy()
    pictures, present = data.load_pictures(folder / "pictures", ids, broken="absent")
    broken = ids[~present & shop.present["picture"].to_numpy()]
    assert broken.tolist() == sorted(planted["pictures_that_are_pages"] + planted["pictures_cut_off"])
    assert ids[present & (np.ptp(pictures, axis=(1, 2, 3)) == 0)].tolist() == planted["grey_placeholders"]
    for item in planted["pictures_cut_off"]:
        with pytest.raises(OSError), Image.open(folder / "pictures" / f"{item}.png") as picture:
            picture.load()


def test_a_row_has_one_kind_of_dirt_at_most(dirty):
    _, planted = dirty
    assert sorted(planted) == sorted(" ".join(KINDS.values()).split())
    for kinds in KINDS.values():
        rows = [row for kind in kinds.split() for row in planted[kind]]
        assert all(planted[kind] for kind in kinds.split())
        assert len(rows) == len(set(rows))
