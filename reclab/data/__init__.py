"""Data sets of one shape: users, items, interactions and a card that says where they come from."""

from .bandit import open_bandit_log
from .chunks import gather, to_parquet
from .files import load_pictures
from .own import load_csv, stream_csv
from .schema import (
    Card,
    Dataset,
    Split,
    check_leakage,
    cold_items,
    cold_users,
    leave_last_out,
    temporal,
)
from .shop import Shop, Truth, shop
from .sources import clothing, movies, open_bandit, production_prior
