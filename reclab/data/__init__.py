"""Data sets of one shape: users, items, interactions and a card that says where they come from.

Taught in: 01_dataset_construction.
"""

from .bandit import open_bandit, open_bandit_log, production_prior
from .chunks import gather, to_parquet
from .clothing import clothing
from .movies import join_on_title, movies
from .own import load_csv, stream_csv
from .pictures import load_pictures, picture_urls
from .schema import Card, Dataset
from .shop import Shop, shop
from .splits import Split, check_leakage, cold_items, cold_users, leave_last_out, temporal
from .truth import Truth

__all__ = [
    "Card",
    "Dataset",
    "Shop",
    "Split",
    "Truth",
    "check_leakage",
    "clothing",
    "cold_items",
    "cold_users",
    "gather",
    "join_on_title",
    "leave_last_out",
    "load_csv",
    "load_pictures",
    "movies",
    "open_bandit",
    "open_bandit_log",
    "picture_urls",
    "production_prior",
    "shop",
    "stream_csv",
    "temporal",
    "to_parquet",
]
