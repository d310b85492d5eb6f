"""Ranking and beyond-accuracy metrics as functions of arrays, one value per user.

Lists are integer arrays ``(n_users, k)``, best item first; -1 marks a place without an item, never a hit.
A metric returns one value per user, so that intervals and paired comparisons can be taken over users; a user
for whom it is not defined (nothing relevant, too short a list) gets NaN and is left out of every mean.
Intervals and click metrics are at hand here too.
Taught in: 08_multidimensional_evaluation.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .clicks import auc as auc
from .clicks import auc_interval as auc_interval
from .clicks import expected_calibration_error as expected_calibration_error
from .clicks import paired_auc_difference as paired_auc_difference
from .errors import SchemaError
from .intervals import Interval as Interval
from .intervals import bootstrap_interval as bootstrap_interval
from .intervals import holm as holm
from .intervals import paired_difference as paired_difference


def ndcg_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """Normalised discounted cumulative gain of each user's list, for binary relevance.

    The item at rank r (from 1) is discounted by 1 / log2(r + 1); the sum is divided by that of a list which
    puts ``min(k, number of relevant items)`` relevant items first.

    Parameters
    ----------
    lists : ``(n_users, k)`` item indices, -1 = no item.
    relevant : ``(n_users, n_items)`` sparse or dense, non-zero = relevant.

    Returns
    -------
    ``(n_users,)`` values in 0..1, NaN for a user without a relevant item.

    Raises
    ------
    SchemaError : shapes that do not fit, an index outside the catalogue, an item twice in one list, or no
        user with a relevant item.

    Source: Jarvelin and Kekalainen, ACM TOIS 2002, doi 10.1145/582415.582418.
    Taught in: 08_multidimensional_evaluation.
    """
    hits, n_relevant = _hits(lists, relevant)
    discount = 1 / np.log2(np.arange(hits.shape[1]) + 2)
    ideal = np.concatenate([[np.nan], discount.cumsum()])
    return hits @ discount / ideal[np.minimum(n_relevant, hits.shape[1])]


def recall_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """Share of each user's relevant items that stand in the list (not capped where more than k are relevant).

    Parameters, Returns, Raises: as `ndcg_at_k`.
    Taught in: 08_multidimensional_evaluation.
    """
    hits, n_relevant = _hits(lists, relevant)
    return hits.sum(axis=1) / _or_nan(n_relevant)


def precision_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """Share of the k places that hold a relevant item; an empty place (-1) counts as a miss.

    Parameters, Returns, Raises: as `ndcg_at_k`.
    Taught in: 08_multidimensional_evaluation.
    """
    hits, n_relevant = _hits(lists, relevant)
    return np.where(n_relevant > 0, hits.mean(axis=1), np.nan)


def mrr_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """Reciprocal rank of the first relevant item in each list, 0 where the list holds none.

    Parameters, Returns, Raises: as `ndcg_at_k`.
    Taught in: 08_multidimensional_evaluation.
    """
    hits, n_relevant = _hits(lists, relevant)
    reciprocal = np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1), 0.0)
    return np.where(n_relevant > 0, reciprocal, np.nan)


def hit_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """1 where at least one relevant item stands in the list, else 0.

    Parameters, Returns, Raises: as `ndcg_at_k`.
    Taught in: 08_multidimensional_evaluation.
    """
    hits, n_relevant = _hits(lists, relevant)
    return np.where(n_relevant > 0, hits.any(axis=1).astype(float), np.nan)


def novelty(lists: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """Mean self-information of each user's items in bits: -log2 of an item's share of all interactions.

    An item that has no interaction counts as having one, so that cold items stay finite.

    Parameters
    ----------
    lists : as in `ndcg_at_k`.
    popularity : ``(n_items,)`` interactions of each item in the training data.

    Returns
    -------
    ``(n_users,)`` bits, NaN for an empty list.

    Raises
    ------
    SchemaError : lists that do not fit the catalogue, or counts that are negative or all zero.

    Source: Zhou et al., PNAS 2010, doi 10.1073/pnas.1000488107.
    Taught in: 08_multidimensional_evaluation.
    """
    counts = np.asarray(popularity, dtype=float)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or counts.sum() == 0:
        raise SchemaError("popularity must be one count per item, none negative and not all zero")
    lists = _checked(lists, len(counts))
    bits = -np.log2(np.maximum(counts, 1) / counts.sum())
    shown = lists >= 0
    return (bits[lists] * shown).sum(axis=1) / _or_nan(shown.sum(axis=1))


def intra_list_distance(lists: np.ndarray, features: np.ndarray | sparse.csr_array) -> np.ndarray:
    """Diversity: mean cosine distance over all pairs of items in each user's list.

    Items whose features are all zero have no direction: they are left out, not called distant. Use features
    that the ranking was not made from.

    Parameters
    ----------
    lists : ``(n_users, k)`` item indices, -1 = no item.
    features : ``(n_items, n_features)`` dense or sparse.

    Returns
    -------
    ``(n_users,)`` in 0..2 (0..1 for non-negative features), NaN with fewer than two items that have features.

    Raises
    ------
    SchemaError : lists of one item, lists that do not fit the features, or features that are not finite.

    Source: Ziegler et al., WWW 2005, doi 10.1145/1060745.1060754.
    Taught in: 08_multidimensional_evaluation.
    """
    unit, known = _unit_rows(features)
    lists = _checked(lists, len(known))
    if lists.shape[1] < 2:
        raise SchemaError("a list of one item has no pairs: intra_list_distance needs k of 2 or more")
    used = (lists >= 0) & known[lists]
    count = used.sum(axis=1)
    rows, columns = np.nonzero(used)
    shown = sparse.csr_array((np.ones(len(rows)), (rows, lists[rows, columns])), (len(lists), len(known)))
    # for unit vectors all pairwise cosines add up to the squared length of their sum, less the ones of i = j
    square = np.concatenate([_row_squares(shown[i : i + 4096] @ unit) for i in range(0, len(lists), 4096)])
    return np.maximum(1 - (square - count) / _or_nan(count * (count - 1)), 0)


def coverage(lists: np.ndarray, n_items: int) -> float:
    """Share of the catalogue that is shown to at least one user; it grows with the number of users.

    Raises
    ------
    SchemaError : lists that do not fit a catalogue of ``n_items``.

    Taught in: 08_multidimensional_evaluation.
    """
    return float((exposure(lists, n_items) > 0).mean())


def gini(lists: np.ndarray, n_items: int) -> float:
    """Gini index of exposure over the whole catalogue: 0 when all items are shown alike, near 1 when few are.

    Raises
    ------
    SchemaError : lists that do not fit a catalogue of ``n_items``, or no item shown at all.

    Taught in: 08_multidimensional_evaluation.
    """
    shown = np.sort(exposure(lists, n_items))
    if shown.sum() == 0:
        raise SchemaError("no item is shown in any list, so exposure has no Gini index")
    return float((2 * np.arange(1, n_items + 1) - n_items - 1) @ shown / (n_items * shown.sum()))


def exposure(lists: np.ndarray, n_items: int) -> np.ndarray:
    """Number of lists that show each item, ``(n_items,)``.

    Taught in: 08_multidimensional_evaluation.
    """
    lists = _checked(lists, n_items)
    return np.bincount(lists[lists >= 0], minlength=n_items)


def _hits(lists, relevant) -> tuple[np.ndarray, np.ndarray]:
    """Which places hold a relevant item ``(n_users, k)``, and how many items are relevant to each user."""
    relevant = sparse.csr_array(relevant).astype(bool)
    relevant.sum_duplicates()
    relevant.eliminate_zeros()
    lists = _checked(lists, relevant.shape[1])
    if len(lists) != relevant.shape[0]:
        raise SchemaError(f"lists are for {len(lists)} users, relevant for {relevant.shape[0]}; give the same")
    if relevant.nnz == 0:
        raise SchemaError("relevant is empty: no user has a relevant item, so there is nothing to measure")
    rows, columns = relevant.nonzero()
    n_items = relevant.shape[1]
    keys = np.arange(len(lists), dtype=np.int64)[:, None] * n_items + lists
    hits = np.isin(keys, rows.astype(np.int64) * n_items + columns) & (lists >= 0)
    return hits, np.diff(relevant.indptr)


def _checked(lists, n_items: int) -> np.ndarray:
    lists = np.asarray(lists)
    if lists.ndim != 2 or lists.shape[1] < 1 or not np.issubdtype(lists.dtype, np.integer):
        raise SchemaError(f"lists must be integers (n_users, k) with k >= 1, got {lists.dtype} {lists.shape}")
    if lists.size and (lists.min() < -1 or lists.max() >= n_items):
        raise SchemaError(
            f"lists hold item {lists.min()}..{lists.max()}; the catalogue has 0..{n_items - 1} (-1 = no item)"
        )
    ordered = np.sort(lists, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        user, place = np.argwhere(twice)[0]
        raise SchemaError(f"item {ordered[user, place]} stands twice in the list of user {user}: drop one")
    return lists.astype(np.int64, copy=False)


def _or_nan(count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, count, np.nan)


def _unit_rows(features) -> tuple[np.ndarray | sparse.csr_array, np.ndarray]:
    """Rows of length 1, and which rows had a length at all."""
    dense = not sparse.issparse(features)
    features = np.asarray(features, dtype=float) if dense else sparse.csr_array(features).astype(float)
    if features.ndim != 2 or not np.isfinite(features if dense else features.data).all():
        raise SchemaError(f"features must be finite, of shape (n_items, n_features), got {features.shape}")
    norm = np.sqrt(_row_squares(features))
    scale = np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)
    return (features * scale[:, None] if dense else sparse.diags_array(scale) @ features), norm > 0


def _row_squares(rows) -> np.ndarray:
    return (np.square(rows) if isinstance(rows, np.ndarray) else rows.power(2)).sum(axis=1)
