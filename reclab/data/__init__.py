"""Data sets of one shape: users, items, interactions and a card that says where they come from."""

from .bandit import open_bandit, open_bandit_log, production_prior
from .chunks import gather, to_parquet
from .clothing import clothing
from .movies import join_on_title, movies
from .own import load_csv, stream_csv
from .pictures import load_pictures
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
from .shop import Shop, shop
from .truth import Truth
