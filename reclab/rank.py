"""Baselines of collaborative filtering and exact top-k lists over the full catalogue.

Each model follows ``fit(X)`` and ``score(X)``, where X is a sparse ``(n_users, n_items)`` matrix of
interactions; any entry other than 0 counts as 1. Rows given to ``score`` may be users never seen in ``fit``
(but for BPR, which learns a vector for each user).
Taught in: 05_click_prediction_and_ranking, 08_multidimensional_evaluation.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import linalg, sparse

from .errors import ReclabError, SchemaError
from .factors import ALS as ALS
from .factors import BPR as BPR
from .matrices import binary, fitting
from .neighbours import ItemKNN as ItemKNN
from .neighbours import UserKNN as UserKNN
from .tables import interaction_matrix as interaction_matrix
from .topk import top_k as top_k
from .topk import top_k_products as top_k_products

_BLOCK = 1024  # rows of X'X computed at once


class Popularity:
    """Scores every item by its number of interactions, for every user alike.

    Many items share a count, so the order in a list leans on `top_k`'s rule for ties.

    Attributes
    ----------
    counts_ : ``(n_items,)`` interactions of each item.

    Taught in: 08_multidimensional_evaluation.
    """

    def fit(self, X: sparse.csr_array) -> Popularity:
        """Count the interactions of each item."""
        self.counts_ = binary(X).sum(axis=0)
        return self

    def score(self, X: sparse.csr_array) -> np.ndarray:
        """Scores ``(n_users, n_items)``, the same for each user."""
        X = fitting(X, self, "counts_")
        return np.tile(self.counts_, (X.shape[0], 1))


class EASE:
    """Linear item-to-item model with a zero diagonal, solved in closed form.

    ``P = inverse(X'X + l2 I)``, ``B = I - P / diag(P)`` column by column, ``scores = X B``.

    Parameters
    ----------
    l2 : strength of the ridge penalty, above 0.

    Attributes
    ----------
    weights_ : ``(n_items, n_items)`` dense B; column j holds what each item adds to the score of item j.

    Source: Steck, WWW 2019, arXiv 1905.03375, equation 8.
    Taught in: 08_multidimensional_evaluation.
    """

    def __init__(self, l2: float = 250.0):
        self.l2 = l2

    def fit(self, X: sparse.csr_array) -> EASE:
        """Solve for the weights: time grows with n_items cubed, memory is one matrix of n_items squared.

        Raises
        ------
        ReclabError : l2 is not above 0, or too small for these items.
        """
        if not self.l2 > 0:
            raise ReclabError(f"l2 must be above 0, got {self.l2}")
        self.weights_ = _inverse(_gram(binary(X)), self.l2)
        self.weights_ /= -np.diag(self.weights_).copy()
        np.fill_diagonal(self.weights_, 0.0)
        return self

    def score(self, X: sparse.csr_array) -> np.ndarray:
        """Scores ``(n_users, n_items)``; they may be negative.

        A user without history has zeros only: such a list is all ties, so show popular items instead.
        """
        return fitting(X, self, "weights_") @ self.weights_


def recent_popularity(interactions: pd.DataFrame, items, half_life: float) -> np.ndarray:
    """Interactions of each item, each counting half as much for every half-life that it lies back.

    Parameters
    ----------
    interactions : columns ``item_id`` and ``timestamp``; filter it first (say, to the positive ones of training).
    items : ids in the order of the result, every id once.
    half_life : days; counted back from the last interaction.

    Returns
    -------
    ``(n_items,)``; tile it for scores of many users.

    Raises
    ------
    ReclabError : half_life is not above 0.
    SchemaError : a time is missing, or an item is none of those.

    Taught in: 05_click_prediction_and_ranking.
    """
    if not half_life > 0:
        raise ReclabError(f"half_life must be above 0 days, got {half_life}")
    found = pd.Index(items).get_indexer(interactions["item_id"])
    if (found < 0).any():
        unknown = interactions["item_id"].iloc[int((found < 0).argmax())]
        raise SchemaError(f"item_id {unknown!r} is none of the {len(items)} known ids: add it or drop its rows")
    if interactions["timestamp"].isna().any():
        raise SchemaError("some interactions have no timestamp: drop them, or use Popularity")
    days = (interactions["timestamp"].max() - interactions["timestamp"]) / pd.Timedelta(days=1)
    return np.bincount(found, weights=0.5 ** (days.to_numpy() / half_life), minlength=len(items))


def _gram(X: sparse.csr_array) -> np.ndarray:
    """X'X, a block of rows at a time: as a sparse matrix it would be larger than as a dense one."""
    by_item, gram = X.T.tocsr(), np.empty((X.shape[1], X.shape[1]))
    for start in range(0, X.shape[1], _BLOCK):
        gram[start : start + _BLOCK] = (by_item[start : start + _BLOCK] @ X).toarray()
    return gram


def _inverse(gram: np.ndarray, l2: float) -> np.ndarray:
    """The inverse of ``gram + l2 I``, in the place of gram: Cholesky's factor takes half the work of LU's."""
    gram[np.diag_indices_from(gram)] += l2
    lower, failed = linalg.lapack.dpotrf(gram.T, lower=1, overwrite_a=1)  # .T: in columns, as LAPACK reads
    if failed:
        raise ReclabError(f"l2 = {l2} is too small to tell the items apart: raise it")
    inverse, _ = linalg.lapack.dpotri(lower, lower=1, overwrite_c=1)
    for start in range(0, len(inverse), _BLOCK):
        stop = start + _BLOCK
        corner = np.tril(inverse[start:stop, start:stop])
        inverse[start:stop, start:stop] = corner + np.tril(corner, -1).T
        inverse[start:stop, stop:] = inverse[stop:, start:stop].T
    return inverse
