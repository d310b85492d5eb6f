"""Data sets of one shape: users, items, interactions and a card that says where they come from."""

from .files import load_pictures
from .full import gather, open_bandit_log, to_parquet
from .own import load_csv, to_recbole
from .schema import (
    Card,
    Dataset,
    Split,
    check_leakage,
    cold_items,
    cold_users,
    leave_last_out,
    temporal,
    warm,
    without_templates,
)
from .shop import Shop, shop
from .shop_files import write_shop_files
from .sources import clothing, movies, open_bandit, production_prior
