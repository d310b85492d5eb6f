"""The publishers' full-size files, by the names that `reclab.assets.fetch` takes.

``movielens-1m`` to ``-32m``, ``-latest`` and ``-latest-small``; ``open-bandit-full``; ``mind-small`` and ``-large``;
``amazon-2023-CATEGORY``, ``amazon-2018-CATEGORY`` and ``amazon-2018-5core-CATEGORY``, as in ``amazon-2023-All_Beauty``.
Taught in: 11_efficiency_and_scale.
"""

from __future__ import annotations

from pathlib import Path

from .catalogue import Asset, Member, read_catalogue

_BOTH = """
    All_Beauty Appliances Arts_Crafts_and_Sewing Automotive Books CDs_and_Vinyl Cell_Phones_and_Accessories
    Clothing_Shoes_and_Jewelry Digital_Music Electronics Gift_Cards Grocery_and_Gourmet_Food Home_and_Kitchen
    Industrial_and_Scientific Kindle_Store Magazine_Subscriptions Movies_and_TV Musical_Instruments Office_Products
    Patio_Lawn_and_Garden Pet_Supplies Software Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games
    Video_Games
"""
_NEW = """
    Amazon_Fashion Baby_Products Beauty_and_Personal_Care Handmade_Products Health_and_Household
    Health_and_Personal_Care Subscription_Boxes Unknown
"""
CATEGORIES = {
    2018: sorted([*_BOTH.split(), "AMAZON_FASHION", "Luxury_Beauty", "Prime_Pantry"]),
    2023: sorted([*_BOTH.split(), *_NEW.split()]),
}

# What a publisher gives as (address, reviews, metadata) of a category.
_AMAZON = {
    "2023": (2023, "amazon_2023/raw", "review_categories/{}.jsonl.gz", "meta_categories/meta_{}.jsonl.gz"),
    "2018": (2018, "amazon_v2", "categoryFiles/{}.json.gz", "metaFiles2/meta_{}.json.gz"),
    "2018-5core": (2018, "amazon_v2", "categoryFilesSmall/{}_5.json.gz", "metaFiles2/meta_{}.json.gz"),
}
_PAGES = {2018: "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/", 2023: "https://amazon-reviews-2023.github.io/"}


def _amazon(edition: str, category: str) -> Asset:
    year, folder, reviews, items = _AMAZON[edition]
    return Asset(
        name=f"amazon-{edition}-{category}",
        title=f"Amazon Reviews {year}, {category.replace('_', ' ')}: reviews and the items' metadata",
        licence="none stated: never pass the files on",
        source=_PAGES[year],
        redistributable=False,
        url=f"https://mcauleylab.ucsd.edu/public_datasets/data/{folder}",
        members={"reviews.gz": Member(reviews.format(category)), "items.gz": Member(items.format(category))},
    )


OFFICIAL: dict[str, Asset] = read_catalogue(Path(__file__).with_name("official.toml"))
OFFICIAL |= {
    asset.name: asset
    for edition, (year, *_) in _AMAZON.items()
    for asset in (_amazon(edition, category) for category in CATEGORIES[year])
}
