"""Data sets of one shape: users, items, interactions and a card that says where they come from.

Taught in: 01_dataset_construction.
"""

from .bandit import open_bandit, production_prior
from .clothing import clothing
from .movies import join_on_title, movies
from .own import load_csv
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
    "join_on_title",
    "leave_last_out",
    "load_csv",
    "load_pictures",
    "movies",
    "open_bandit",
    "picture_urls",
    "production_prior",
    "shop",
    "temporal",
]
