"""Splits into train and test rows, and the check that the one does not give the other away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import LeakageError, SchemaError
from .schema import require_columns


@dataclass(frozen=True)
class Split:
    """Train and test rows of an interactions table; ``kind`` says which promise `check_leakage` holds it to."""

    kind: str
    train: pd.DataFrame
    test: pd.DataFrame


def temporal(interactions: pd.DataFrame, at: float = 0.7) -> Split:
    """Train on what came before one moment, test on what came from then on: the split that a live system meets.

    Parameters
    ----------
    interactions : has ``timestamp``.
    at : share of rows before the cut, in (0, 1); rows of the same moment stay together, on the test side.

    Raises SchemaError: no timestamps. ValueError : ``at`` is out of range.
    """
    if not 0 < at < 1:
        raise ValueError(f"at must be between 0 and 1, got {at}")
    _need_time(interactions)
    cut = interactions["timestamp"].sort_values(ignore_index=True).iloc[int(at * len(interactions))]
    before = interactions["timestamp"] < cut
    return Split("temporal", interactions[before], interactions[~before])


def leave_last_out(interactions: pd.DataFrame, *, seed: int = 0) -> Split:
    """Test on the last interaction of every user who has at least two, train on all others.

    Rows of one user with the same timestamp are put in an order drawn by ``seed``: results should be averaged over
    several such draws.

    Raises SchemaError: no timestamps.
    """
    _need_time(interactions)
    rows = interactions.reset_index(drop=True)  # an index may repeat, as after pd.concat
    order = np.random.default_rng(seed).permutation(len(rows))
    last = rows.iloc[order].sort_values("timestamp", kind="stable").groupby("user_id").tail(1)
    often = rows["user_id"].value_counts()
    last = last[last["user_id"].map(often) >= 2]
    held_out = rows.index.isin(last.index)
    return Split("leave-last-out", interactions[~held_out], interactions[held_out])


def cold_items(interactions: pd.DataFrame, *, fold: int = 0, folds: int = 5, seed: int = 0) -> Split:
    """Test on items that training never sees: one of ``folds`` random groups of items."""
    return _cold(interactions, "item_id", fold, folds, seed)


def cold_users(interactions: pd.DataFrame, *, fold: int = 0, folds: int = 5, seed: int = 0) -> Split:
    """Test on users whom training never sees: one of ``folds`` random groups of users."""
    return _cold(interactions, "user_id", fold, folds, seed)


def check_leakage(split: Split) -> None:
    """Raise if a split breaks its promise: the first thing to call on any split.

    All splits: no row, no (user, item) pair and no long text stands on both sides. ``temporal``: nothing in train is
    as late as the first test row. ``leave-last-out``: no train row of a user is later than that user's test row.
    ``cold items`` and ``cold users``: none of them is in train.

    Raises LeakageError: says which promise is broken, how often, and names the first case.
    """
    train, test = split.train, split.test
    if not len(train) or not len(test):
        raise LeakageError(f"{split.kind}: one side is empty (train {len(train)}, test {len(test)} rows)")
    _refuse(test.index.isin(train.index), test, "row(s) stand in train and in test")
    pairs = pd.MultiIndex.from_frame(train[["user_id", "item_id"]])
    both = pd.MultiIndex.from_frame(test[["user_id", "item_id"]]).isin(pairs)
    _refuse(both, test, "(user, item) pair(s) stand in train and in test")
    if "text" in test and "text" in train:
        long = np.array([isinstance(text, str) and len(text) > 40 for text in test["text"]])
        _refuse(
            (test["text"].isin(train["text"]) & long).to_numpy(),
            test,
            "text(s) stand word for word in train and in test",
        )
    if split.kind == "temporal":
        _refuse(
            (test["timestamp"] <= train["timestamp"].max()).to_numpy(),
            test,
            "test row(s) are not later than train",
        )
    elif split.kind == "leave-last-out":
        latest = test["user_id"].map(train.groupby("user_id")["timestamp"].max())
        _refuse(
            (latest > test["timestamp"]).to_numpy(),
            test,
            "test row(s) are earlier than a train row of their user",
        )
    elif split.kind.startswith("cold "):
        column = split.kind.removeprefix("cold ")[:-1] + "_id"
        _refuse(
            test[column].isin(train[column]).to_numpy(),
            test,
            f"test row(s) hold a value of {column} that train has seen",
        )


def _refuse(leaks: np.ndarray, test: pd.DataFrame, what: str) -> None:
    if leaks.any():
        raise LeakageError(
            f"{int(leaks.sum())} {what}, first at index {test.index[leaks.argmax()]}; "
            "split again, by time or by group, and check before you train"
        )


def _cold(interactions: pd.DataFrame, column: str, fold: int, folds: int, seed: int) -> Split:
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}")
    if not 0 <= fold < folds:
        raise ValueError(f"fold must be in 0..{folds - 1}, got {fold}")
    ids = np.sort(interactions[column].unique())
    if len(ids) < folds:
        raise ValueError(f"folds must be at most the number of distinct {column} ({len(ids)}), got {folds}")
    held_out = np.random.default_rng(seed).permutation(ids)[fold::folds]
    cold = interactions[column].isin(held_out)
    kind = "cold items" if column == "item_id" else "cold users"
    return Split(kind, interactions[~cold], interactions[cold])


def _need_time(interactions: pd.DataFrame) -> None:
    require_columns(interactions, ("timestamp",), "interactions")
    if interactions.empty:
        raise SchemaError("interactions: there are no rows to split; check the filter that came before")
    if pd.api.types.is_string_dtype(interactions["timestamp"]):
        raise SchemaError("interactions: timestamp is text, which sorts '10' before '9'; use pd.to_datetime")
    if interactions["timestamp"].isna().any():
        raise SchemaError("interactions: some rows have no timestamp; drop them, or use a split that needs no time")
