"""What one system's recommendations are measured by, along every dimension for which there is evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import sparse

from . import metrics
from .errors import SchemaError
from .jackknife import coverage_values, gap_values, gini_values
from .rank import interaction_matrix, lists_from_table, top_k, with_our_names

_TAIL = 20  # training likes below which an item counts as tail
_BINS = 10  # of probabilities, for the calibration error


@dataclass(frozen=True)
class Evidence:
    """What systems are held against: held-out likes, and whatever else is known of users and items.

    Parameters
    ----------
    relevant : ``(n_users, n_items)`` non-zero = liked and held out, or a table ``user_id, item_id`` of those.
    users, items : ids in the order of rows and columns; needed where a table is given.
    train : likes that systems learnt from, as a matrix or a table: for novelty, calibration, serendipity, popularity,
        slices by activity and by warm, tail and cold items.
    rated : what was not to be recommended, as a matrix or a table; ``train`` if None.
    features : ``(n_items, n_genres)``, best not those used for ranking: for diversity and calibration.
    providers : ``(n_items,)`` who made or sells each item: for the fairness of exposure.
    profile : name -> ``(n_users,)`` group of each user, None or NaN = unknown: for fairness to users.
    texts : ``(n_items,)`` what is known of each item: for explanations.

    Raises SchemaError: a table without ids, unknown ids, or arrays that do not fit the users and items.
    """

    relevant: sparse.csr_array | pd.DataFrame
    users: object = None
    items: object = None
    train: sparse.csr_array | pd.DataFrame | None = None
    rated: sparse.csr_array | pd.DataFrame | None = None
    features: np.ndarray | sparse.csr_array | None = None
    providers: object = None
    profile: dict = field(default_factory=dict)
    texts: object = None

    def __post_init__(self):
        for name in ("relevant", "train", "rated"):
            given = getattr(self, name)
            matrix = self._matrix(given) if isinstance(given, pd.DataFrame) else given
            matrix = matrix if matrix is None else sparse.csr_array(matrix).astype(bool).astype(float)
            object.__setattr__(self, name, matrix)
        n_users, n_items = self.relevant.shape
        for name in ("train", "rated"):
            if getattr(self, name) is not None and getattr(self, name).shape != (n_users, n_items):
                raise SchemaError(f"{name} has the shape {getattr(self, name).shape}, relevant {n_users, n_items}")
        sizes = {f"profile {name!r}": (groups, n_users) for name, groups in self.profile.items()}
        sizes |= {name: (getattr(self, name), n_items) for name in ("providers", "texts")}
        for name, (values, size) in sizes.items():
            if values is not None and len(values) != size:
                raise SchemaError(f"{name} has {len(values)} values, one for each of {size} is needed")

    def _matrix(self, table: pd.DataFrame) -> sparse.csr_array:
        self.need_ids()
        return interaction_matrix(table, self.users, self.items)

    def need_ids(self) -> None:
        """Raise `SchemaError` where a table cannot be read, since nobody said which users and items there are."""
        if self.users is None or self.items is None:
            raise SchemaError("a table names ids: give users= and items=, the ids of relevant's rows and columns")

    @cached_property
    def popularity(self) -> np.ndarray:
        """Training likes of each item."""
        return self.train.sum(axis=0)

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """The profile's groups of users, and thirds by how much they liked in training."""
        groups = {name: np.asarray(values, dtype=object) for name, values in self.profile.items()}
        if self.train is None:
            return groups
        likes = self.train.sum(axis=1)
        judged = likes[self.relevant.sum(axis=1) > 0]
        low, high = np.quantile(judged, [1 / 3, 2 / 3]) if len(judged) else (0, 0)
        return groups | {"activity": np.where(likes <= low, "few", np.where(likes > high, "many", "middle"))}

    def most_popular(self, k: int) -> np.ndarray:
        """What popularity alone would show each user: lists ``(n_users, k)``."""
        scores = np.broadcast_to(self.popularity, self.train.shape)
        return top_k(scores, min(k, scores.shape[1]), exclude=self.train if self.rated is None else self.rated)


def _read(given, evidence: Evidence, k: int) -> np.ndarray:
    if isinstance(given, pd.DataFrame):
        evidence.need_ids()
        return lists_from_table(given, evidence.users, evidence.items, k)
    given = np.asarray(given)
    if given.ndim != 2 or given.shape[1] < k:
        raise SchemaError(f"lists must have the shape (n_users, {k} or more), got {given.shape}")
    return given[:, :k]


def measure(given, evidence: Evidence, k: int, expected: np.ndarray | None = None) -> tuple[np.ndarray, dict]:
    """The lists, and each metric's values per user; the mean over users is the metric.

    Parameters
    ----------
    given : lists or a table, or a list of several runs, of which the first is measured.
    expected : `Evidence.most_popular`, where training likes are known.
    """
    given = given if isinstance(given, (list, tuple)) else [given]
    if not given:
        raise SchemaError("a system of several runs needs at least one")
    first, runs = given[0], [_read(run, evidence, k) for run in given]
    lists, n_items = runs[0], evidence.relevant.shape[1]
    accuracy = metrics.accuracy_at_k(lists, evidence.relevant, expected)
    found = {f"{name}@{k}": values for name, values in accuracy.items()}
    if evidence.features is not None and k > 1:
        found["intra-list distance"] = metrics.intra_list_distance(lists, evidence.features)
    if evidence.train is not None:
        found |= _against_training(lists, evidence, k, expected)
    found |= {"coverage": coverage_values(lists, n_items), "Gini": gini_values(lists, n_items)}
    if evidence.providers is not None:
        found["provider gap"] = provider_values(lists, evidence.providers)
    if len(runs) > 1:
        overlaps = [metrics.overlap_at_k(a, b) for a, b in combinations(runs, 2)]
        found["stability"] = np.mean(overlaps, axis=0)
    return lists, found | (_from_columns(with_our_names(first), evidence) if isinstance(first, pd.DataFrame) else {})


def _against_training(lists, evidence: Evidence, k: int, expected) -> dict[str, np.ndarray]:
    found = {"novelty (bits)": metrics.novelty(lists, evidence.popularity)}
    found["popularity lift"] = metrics.popularity_lift(lists, evidence.train, evidence.popularity)
    found["overlap with popularity"] = metrics.overlap_at_k(lists, expected)
    if evidence.features is not None:
        found["miscalibration"] = metrics.miscalibration(lists, evidence.train, evidence.features)
    counts = evidence.popularity
    slices = {"cold": counts == 0, "tail": (counts > 0) & (counts < _TAIL), "warm": counts >= _TAIL}
    for name, kept in slices.items():
        wanted = evidence.relevant.multiply(kept[None, :]).tocsr()
        if (wanted.sum(axis=1) > 0).sum() >= 2:
            found[f"recall@{k}, {name} items"] = metrics.recall_at_k(lists, wanted)
    return found


def provider_values(lists: np.ndarray, providers) -> np.ndarray:
    """Per user, the share of exposure that would have to move for every provider to get its catalogue share."""
    codes, names = pd.factorize(np.asarray(providers, dtype=object), use_na_sentinel=False)
    shown, sums = lists >= 0, np.zeros((len(lists), len(names)))
    for place in range(lists.shape[1]):
        there = shown[:, place]
        sums[np.flatnonzero(there), codes[lists[there, place]]] += 1
    return gap_values(sums, shown.sum(axis=1), np.bincount(codes) / len(codes)) / 2


def _from_columns(table: pd.DataFrame, evidence: Evidence) -> dict[str, np.ndarray]:
    """What further columns of a table say: clicks, probabilities and explanations."""
    found, n_users = {}, len(evidence.users)
    users = pd.Index(evidence.users).get_indexer(table["user_id"].astype(pd.Index(evidence.users).dtype))
    items = pd.Index(evidence.items).get_indexer(table["item_id"].astype(pd.Index(evidence.items).dtype))
    rows = np.bincount(users, minlength=n_users)
    if "clicked" in table:
        clicks = _within_0_and_1(table, "clicked")
        found["click-through"] = np.bincount(users, clicks, n_users) / np.where(rows, rows, np.nan)
    if "probability" in table:
        p, sums = _within_0_and_1(table, "probability"), np.zeros((n_users, _BINS))
        bins = np.clip(np.ceil(p * _BINS).astype(int) - 1, 0, _BINS - 1)
        np.add.at(sums, (users, bins), p - evidence.relevant[users, items])
        found["calibration error"] = gap_values(sums, rows, np.zeros(_BINS))
    if "explanation" in table and evidence.texts is not None:
        texts = [str(evidence.texts[item]).casefold() for item in items]
        shares = [supported(said, text) for said, text in zip(table["explanation"], texts, strict=True)]
        sums = pd.Series(shares).groupby(users).mean()
        found["explained by the text"] = sums.reindex(range(n_users)).to_numpy()
    return found


def supported(explanation: str, text: str) -> float:
    """Share of an explanation's facts (parted by commas or semicolons) that stand in a text; NaN without a fact."""
    facts = [fact.strip().casefold() for fact in str(explanation).replace(";", ",").split(",") if fact.strip()]
    return float(np.mean([fact in text.casefold() for fact in facts])) if facts else np.nan


def _within_0_and_1(table: pd.DataFrame, column: str) -> np.ndarray:
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        raise SchemaError(f"{column} must hold numbers from 0 to 1; in row {int(bad.argmax())} it does not")
    return values
