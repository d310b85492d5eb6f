"""Ranking metrics as functions of arrays, one value per user.

Lists are integer arrays ``(n_users, k)``, best item first; -1 marks a place without an item, never a hit.
A metric returns one value per user, so that intervals and paired comparisons can be taken over users; a user
for whom it is not defined (nothing relevant, too short a list) gets NaN and is left out of every mean.
Intervals, click metrics and those beyond accuracy are at hand here too.
Taught in: 08_multidimensional_evaluation.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .beyond import cells_of, checked_lists
from .beyond import coverage as coverage
from .beyond import exposure as exposure
from .beyond import gini as gini
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
    return _ndcg(*_hits(lists, relevant))


def recall_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """Share of each user's relevant items that stand in the list (not capped where more than k are relevant).

    Parameters, Returns, Raises: as `ndcg_at_k`.
    Taught in: 08_multidimensional_evaluation.
    """
    return _recall(*_hits(lists, relevant))


def precision_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """Share of the k places that hold a relevant item; an empty place (-1) counts as a miss.

    Parameters, Returns, Raises: as `ndcg_at_k`.
    Taught in: 08_multidimensional_evaluation.
    """
    return _precision(*_hits(lists, relevant))


def mrr_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """Reciprocal rank of the first relevant item in each list, 0 where the list holds none.

    Parameters, Returns, Raises: as `ndcg_at_k`.
    Taught in: 08_multidimensional_evaluation.
    """
    return _mrr(*_hits(lists, relevant))


def hit_at_k(lists: np.ndarray, relevant: sparse.csr_array) -> np.ndarray:
    """1 where at least one relevant item stands in the list, else 0.

    Parameters, Returns, Raises: as `ndcg_at_k`.
    Taught in: 08_multidimensional_evaluation.
    """
    return _hit(*_hits(lists, relevant))


def accuracy_at_k(lists: np.ndarray, relevant: sparse.csr_array, expected: np.ndarray | None = None) -> dict:
    """All of the above by name in one pass, and serendipity where ``expected`` is given.

    Serendipity is the share of the k places with a relevant item that nobody would have expected.

    Parameters
    ----------
    expected : ``(n_users, any)`` items that were to be expected, such as the most popular ones; -1 = no item.
    lists, relevant : as `ndcg_at_k`, Raises too.

    Source: Ge et al., RecSys 2010, doi 10.1145/1864708.1864761.
    Taught in: 08_multidimensional_evaluation.
    """
    hits, n_relevant = _hits(lists, relevant)
    found = {name: metric(hits, n_relevant) for name, metric in _FROM_HITS.items()}
    if expected is not None:
        shown = _marked(checked_lists(lists, relevant.shape[1]), _as_matrix(expected, relevant.shape[1]))
        found["serendipity"] = _precision(hits & ~shown, n_relevant)
    return found


def _ndcg(hits, n_relevant):
    discount = 1 / np.log2(np.arange(hits.shape[1]) + 2)
    ideal = np.concatenate([[np.nan], discount.cumsum()])
    users, places = np.nonzero(hits)
    gained = np.bincount(users, weights=discount[places], minlength=len(hits))
    return gained / ideal[np.minimum(n_relevant, hits.shape[1])]


def _recall(hits, n_relevant):
    return np.count_nonzero(hits, axis=1) / _or_nan(n_relevant)


def _precision(hits, n_relevant):
    return np.where(n_relevant > 0, np.count_nonzero(hits, axis=1) / hits.shape[1], np.nan)


def _mrr(hits, n_relevant):
    reciprocal = np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1), 0.0)
    return np.where(n_relevant > 0, reciprocal, np.nan)


def _hit(hits, n_relevant):
    return np.where(n_relevant > 0, hits.any(axis=1).astype(float), np.nan)


_FROM_HITS = {"NDCG": _ndcg, "recall": _recall, "precision": _precision, "MRR": _mrr, "hit": _hit}


def _hits(lists, relevant) -> tuple[np.ndarray, np.ndarray]:
    """Which places hold a relevant item ``(n_users, k)``, and how many items are relevant to each user."""
    relevant = sparse.csr_array(relevant).astype(bool)
    relevant.sum_duplicates()
    relevant.eliminate_zeros()
    lists = checked_lists(lists, relevant.shape[1])
    if len(lists) != relevant.shape[0]:
        raise SchemaError(f"lists are for {len(lists)} users, relevant for {relevant.shape[0]}; give the same")
    if relevant.nnz == 0:
        raise SchemaError("relevant is empty: no user has a relevant item, so there is nothing to measure")
    return _marked(lists, relevant), np.diff(relevant.indptr)


def _marked(lists: np.ndarray, matrix: sparse.csr_array) -> np.ndarray:
    """Whether each place holds an item of the user's row of the matrix: looked up, some users at a time."""
    marked, table = np.empty(lists.shape, dtype=bool), np.empty(0, dtype=bool)
    for start, cells, width in cells_of(lists, matrix.shape[1]):
        table = table if table.size else np.zeros(len(cells) * width, dtype=bool)
        counts = np.diff(matrix.indptr[start : start + len(cells) + 1])
        columns = matrix.indices[matrix.indptr[start] : matrix.indptr[start + len(cells)]]
        there = columns + np.repeat(np.arange(len(cells), dtype=np.int64) * width, counts)
        table[there] = True
        table.take(cells, mode="wrap", out=marked[start : start + len(cells)])
        table[there] = False
    return marked


def _as_matrix(lists, n_items: int) -> sparse.csr_array:
    rows, places = np.nonzero(np.asarray(lists) >= 0)
    there = (np.ones(len(rows), dtype=bool), (rows, np.asarray(lists)[rows, places]))
    return sparse.csr_array(there, (len(lists), n_items))


def _or_nan(count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, count, np.nan)
