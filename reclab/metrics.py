"""Ranking metrics as functions of arrays, one value per user.

Lists are integer arrays ``(n_users, k)``, best item first; -1 marks a place without an item, never a hit.
A metric returns one value per user, so that intervals and paired comparisons can be taken over users; a user
for whom it is not defined (nothing relevant, too short a list) gets NaN and is left out of every mean.
Intervals, click metrics and those beyond accuracy are at hand here too.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .beyond import coverage as coverage
from .beyond import exposure as exposure
from .beyond import gini as gini
from .beyond import integer_lists, tables_of_places
from .beyond import intra_list_distance as intra_list_distance
from .beyond import miscalibration as miscalibration
from .beyond import novelty as novelty
from .beyond import overlap_at_k as overlap_at_k
from .beyond import popularity_lift as popularity_lift
from .clicks import auc as auc
from .clicks import auc_interval as auc_interval
from .clicks import expected_calibration_error as expected_calibration_error
from .clicks import paired_auc_difference as paired_auc_difference
from .errors import SchemaError
from .intervals import Interval as Interval
from .intervals import bootstrap_interval as bootstrap_interval
from .intervals import holm as holm
from .intervals import paired_difference as paired_difference

_USERS = 4096  # whose values are brought together at once: in a core's cache, and without an array for each metric


def ndcg_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """Normalised discounted cumulative gain of each user's list, for binary relevance.

    The item at rank r (from 1) is discounted by 1 / log2(r + 1); the sum is divided by that of a list which
    puts ``min(k, number of relevant items)`` relevant items first.

    Parameters
    ----------
    lists : ``(n_users, k)`` item indices, -1 = no item.
    relevant : ``(n_users, n_items)`` sparse or dense, non-zero = relevant.

    Returns: ``(n_users,)`` values in 0..1, NaN for a user without a relevant item.

    Raises SchemaError: shapes that do not fit, an index outside the catalogue, an item twice in one list, or no user
        with a relevant item.

    Source: Jarvelin and Kekalainen, ACM TOIS 2002, doi 10.1145/582415.582418.
    """
    return _ndcg(*_places(lists, relevant))


def recall_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """Share of each user's relevant items that stand in the list (not capped where more than k are relevant).

    Parameters, Returns, Raises: as `ndcg_at_k`.
    """
    places, relevant, k = _places(lists, relevant)
    return _recall(_hits(places, relevant, k), relevant)


def precision_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """Share of the k places that hold a relevant item; an empty place (-1) counts as a miss.

    Parameters, Returns, Raises: as `ndcg_at_k`.
    """
    places, relevant, k = _places(lists, relevant)
    return _hits(places, relevant, k) / k


def mrr_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """Reciprocal rank of the first relevant item in each list, 0 where the list holds none.

    Parameters, Returns, Raises: as `ndcg_at_k`.
    """
    places, relevant, k = _places(lists, relevant)
    return _reciprocal(_over_users(np.minimum, places, relevant), k)


def hit_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """1 where at least one relevant item stands in the list, else 0.

    Parameters, Returns, Raises: as `ndcg_at_k`.
    """
    return np.sign(mrr_at_k(lists, relevant))


def accuracy_at_k(lists: np.ndarray, relevant: sparse.csr_array, expected: np.ndarray | None = None) -> dict:
    """All of the above by name in one pass, and serendipity where ``expected`` is given.

    Serendipity is the share of the k places with a relevant item that nobody would have expected.

    Parameters
    ----------
    expected : ``(n_users, any)`` items that were to be expected, such as the most popular ones; -1 = no item.
    lists, relevant : as `ndcg_at_k`, Raises too.

    Source: Ge et al., RecSys 2010, doi 10.1145/1864708.1864761.
    """
    places, relevant, k = _places(lists, relevant)
    hits, first = _hits(places, relevant, k), _over_users(np.minimum, places, relevant)
    found = {"NDCG": _ndcg(places, relevant, k), "recall": _recall(hits, relevant)}
    found |= {"precision": hits / k, "MRR": _reciprocal(first, k)}
    found["hit"] = np.sign(found["MRR"])
    if expected is not None:
        shown, n_items = np.asarray(expected), relevant.shape[1]
        rows, columns = np.nonzero(shown >= 0)
        users = np.repeat(np.arange(len(shown), dtype=np.int64), np.diff(relevant.indptr))
        known = np.isin(users * n_items + relevant.indices, rows * n_items + shown[rows, columns])
        found["serendipity"] = _hits(np.where(known, k, places), relevant, k) / k
    return found


def _ndcg(places, relevant, k):
    gain = 1 / np.log2(np.arange(k) + 2)
    ideal = np.append(np.nan, gain.cumsum())
    return _over_users(np.add, places, relevant, np.append(gain, 0.0)) / ideal[np.minimum(np.diff(relevant.indptr), k)]


def _hits(places, relevant, k):
    return _over_users(np.add, (places < k).astype(places.dtype), relevant)  # at most k, which the type can hold


def _recall(hits, relevant):
    return hits / _or_nan(np.diff(relevant.indptr))


def _reciprocal(first, k):
    return np.where(first == k, 0.0, 1 / (first + 1))


def _over_users(reduce: np.ufunc, values: np.ndarray, relevant: sparse.csr_array, worth=None) -> np.ndarray:
    """Values of relevant items, ``(relevant.nnz,)``, or ``worth`` at them, brought together by user; else NaN."""
    total = np.full(relevant.shape[0], np.nan)
    for first in range(0, len(total), _USERS):
        starts = relevant.indptr[first : first + _USERS + 1]
        part = values[starts[0] : starts[-1]]
        there = np.flatnonzero(np.diff(starts))
        if len(there):
            part = part if worth is None else worth.take(part)
            total[first + there] = reduce.reduceat(part, starts[there] - starts[0], dtype=part.dtype)
    return total


def _places(lists, relevant) -> tuple[np.ndarray, sparse.csr_array, int]:
    """Where each relevant item stands in its user's list, ``(relevant.nnz,)`` from 0, k where it does not; both, k."""
    relevant, lists = _each_once(relevant), integer_lists(lists)
    if len(lists) != relevant.shape[0]:
        raise SchemaError(f"lists are for {len(lists)} users, relevant for {relevant.shape[0]}; give the same")
    if relevant.nnz == 0:
        raise SchemaError("relevant is empty: no user has a relevant item, so there is nothing to measure")
    counts, width, k = np.diff(relevant.indptr), relevant.shape[1] + 1, lists.shape[1]
    places = np.empty(relevant.nnz, dtype=np.min_scalar_type(k))
    for first, table in tables_of_places(lists, relevant.shape[1]):
        rows = np.arange(0, len(table), width, dtype=np.int64)
        mine = slice(*relevant.indptr[[first, first + len(rows)]])
        cells = np.repeat(rows, counts[first : first + len(rows)])
        cells += relevant.indices[mine]
        table.take(cells, mode="wrap", out=places[mine])  # all are inside; "raise" would copy what it has taken
    return places, relevant, k


def _each_once(relevant) -> sparse.csr_array:
    """Each user's relevant items, each once: the matrix itself where it is in order, which is quicker than a copy."""
    relevant = sparse.csr_array(relevant)
    if relevant.has_canonical_format and relevant.data.all():
        return relevant
    relevant = relevant.astype(bool)
    relevant.sum_duplicates()
    relevant.eliminate_zeros()
    return relevant


def _or_nan(count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, count, np.nan)
