"""Baselines of collaborative filtering and exact top-k lists over the full catalogue.

Each model follows ``fit(X)`` and ``score(X)``, where X is a sparse ``(n_users, n_items)`` matrix of
interactions; any entry other than 0 counts as 1. Rows given to ``score`` may be users never seen in ``fit``.
Taught in: 08_multidimensional_evaluation.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import sparse

from .errors import ReclabError, SchemaError
from .tables import interaction_matrix as interaction_matrix

_BLOCK = 1024  # rows of a dense score block held at once


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
        self.counts_ = _binary(X).sum(axis=0)
        return self

    def score(self, X: sparse.csr_array) -> np.ndarray:
        """Scores ``(n_users, n_items)``, the same for each user."""
        X = _fitting(X, self, "counts_")
        return np.tile(self.counts_, (X.shape[0], 1))


class ItemKNN:
    """Scores an item by the user's items among its k nearest neighbours.

    ``score(u, i) = sum of s(i, j) over the items j of user u that are among the k nearest of i``, where
    ``s(i, j) = c(i, j) / (sqrt(c(i) c(j)) + shrink)``: c(i) users have item i, c(i, j) have both.
    An item is never its own neighbour. Similarities that agree to 12 decimals tie, and the lower index is
    kept. The sum is not divided by anything.

    Parameters
    ----------
    k : neighbours kept of each item.
    shrink : added to the denominator; pulls similarities that rest on few users towards 0.

    Attributes
    ----------
    weights_ : ``(n_items, n_items)`` sparse; column i holds the similarities of i's neighbours.

    Source: Sarwar et al., WWW 2001, doi 10.1145/371920.372071, with a sum for implicit feedback.
    Taught in: 08_multidimensional_evaluation.
    """

    def __init__(self, k: int = 50, shrink: float = 0.0):
        self.k, self.shrink = k, shrink

    def fit(self, X: sparse.csr_array) -> ItemKNN:
        """Find the neighbours of each item; a block of items at a time, so memory stays bounded.

        Raises
        ------
        ReclabError : k is not in 1..n_items - 1, or shrink is negative.
        """
        X = _binary(X)
        n_items = X.shape[1]
        if not 1 <= self.k < n_items:
            raise ReclabError(f"k must be in 1..{n_items - 1} for {n_items} items, got {self.k}")
        if self.shrink < 0:
            raise ReclabError(f"shrink must be 0 or more, got {self.shrink}")
        by_item, count = X.T.tocsr(), X.sum(axis=0)
        blocks = [self._neighbours(by_item, count, start) for start in range(0, n_items, _BLOCK)]
        self.weights_ = sparse.vstack(blocks, format="csr").T.tocsr()
        self.weights_.eliminate_zeros()
        return self

    def _neighbours(self, by_item, count: np.ndarray, start: int) -> sparse.csr_array:
        similar = (by_item[start : start + _BLOCK] @ by_item.T).toarray()
        scale = np.sqrt(np.outer(count[start : start + _BLOCK], count)) + self.shrink
        np.divide(similar, scale, out=similar, where=scale > 0)
        own = np.arange(len(similar))
        similar[own, own + start] = -np.inf
        nearest = top_k(similar.round(12), self.k)
        rows, columns = np.repeat(own, self.k), nearest.ravel()
        return sparse.csr_array((similar[rows, columns], (rows, columns)), shape=similar.shape)

    def score(self, X: sparse.csr_array) -> np.ndarray:
        """Scores ``(n_users, n_items)``, 0 where none of the user's items is a neighbour.

        A user without history has zeros only: such a list is all ties, so show popular items instead.
        """
        return (_fitting(X, self, "weights_") @ self.weights_).toarray()


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
        """Solve for the weights: time grows with n_items cubed, memory with n_items squared.

        Raises
        ------
        ReclabError : l2 is not above 0.
        """
        if not self.l2 > 0:
            raise ReclabError(f"l2 must be above 0, got {self.l2}")
        X = _binary(X)
        gram = (X.T @ X).toarray()
        gram[np.diag_indices_from(gram)] += self.l2
        inverse = np.linalg.inv(gram)
        self.weights_ = -inverse / np.diag(inverse)
        np.fill_diagonal(self.weights_, 0.0)
        return self

    def score(self, X: sparse.csr_array) -> np.ndarray:
        """Scores ``(n_users, n_items)``; they may be negative.

        A user without history has zeros only: such a list is all ties, so show popular items instead.
        """
        return _fitting(X, self, "weights_") @ self.weights_


def top_k(scores: np.ndarray, k: int, exclude: sparse.csr_array | None = None) -> np.ndarray:
    """The k best items of each user over the full catalogue, best first.

    Equal scores are ordered by the lower item index, always. That rule is arbitrary: where many items tie
    (popularity counts, say), shuffle the items to see how much hangs on it.

    Parameters
    ----------
    scores : ``(n_users, n_items)``; minus infinity means never.
    k : length of the lists, in 1..n_items.
    exclude : ``(n_users, n_items)``, non-zero = not to be recommended (the items a user has seen).

    Returns
    -------
    ``(n_users, k)`` item indices; places for which no item is left hold -1, at the end.

    Raises
    ------
    ReclabError : k out of range.
    SchemaError : NaN among the scores, or shapes that do not fit.

    Taught in: 08_multidimensional_evaluation.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2:
        raise SchemaError(f"scores must have the shape (n_users, n_items), got {scores.shape}")
    if not 1 <= k <= scores.shape[1]:
        raise ReclabError(f"k must be in 1..{scores.shape[1]}, the size of the catalogue, got {k}")
    if np.isnan(scores).any():
        raise SchemaError(f"scores of user {np.argwhere(np.isnan(scores))[0][0]} hold NaN: has the model diverged?")
    seen = _binary(exclude if exclude is not None else sparse.csr_array(scores.shape))
    if seen.shape != scores.shape:
        raise SchemaError(f"exclude has the shape {seen.shape} and scores {scores.shape}; they must agree")
    users = zip(scores, pairwise(seen.indptr), strict=True)
    lists = [_best(row, k, seen.indices[start:stop]) for row, (start, stop) in users]
    return np.array(lists, dtype=np.int64).reshape(len(scores), k)


def _best(row: np.ndarray, k: int, seen: np.ndarray) -> np.ndarray:
    row = row.copy()
    row[seen] = -np.inf
    threshold = np.partition(row, -k)[-k]
    candidates = np.flatnonzero(row >= threshold)  # all that tie for the last place, lower index first
    best = candidates[np.argsort(-row[candidates], kind="stable")][:k]
    best[row[best] == -np.inf] = -1
    return best


def _binary(X) -> sparse.csr_array:
    """X with 1 for every entry other than 0; never the caller's own matrix."""
    X = sparse.csr_array(X, dtype=float, copy=True)
    if np.isnan(X.data).any():
        raise SchemaError("X holds NaN; an interaction is there or it is not")
    X.sum_duplicates()
    X.eliminate_zeros()
    X.data[:] = 1.0
    return X


def _fitting(X, model, attribute: str) -> sparse.csr_array:
    """X as 0 and 1, once the model is fitted and has as many items."""
    name = type(model).__name__
    if not hasattr(model, attribute):
        raise ReclabError(f"{name} is not fitted yet; call {name}(...).fit(X) first")
    X, n_items = _binary(X), getattr(model, attribute).shape[-1]
    if X.shape[1] != n_items:
        raise SchemaError(f"X has {X.shape[1]} items, {name} was fitted on {n_items}: use the same items")
    return X
