"""Collaborative filtering by nearest neighbours: of the items, or of the users.

Taught in: 05_click_prediction_and_ranking, 08_multidimensional_evaluation.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .errors import ReclabError
from .matrices import binary, fitting
from .topk import top_k

_BLOCK = 1024  # rows of similarities held at once


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
        X = binary(X)
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
        return (fitting(X, self, "weights_") @ self.weights_).toarray()


class UserKNN:
    """Scores an item by the k users nearest to the user who have it.

    ``score(u, i) = sum of s(u, v) over the k nearest users v of u that have item i``, where ``s(u, v) = c(u, v) /
    sqrt(c(u) c(v))``: user u has c(u) items, users u and v share c(u, v). Someone with the very same items (the user's
    own row, for one) is no neighbour, having nothing new to show. Similarities that agree to 12 decimals tie, and
    the lower index is kept. The sum is not divided by anything.

    Parameters
    ----------
    k : neighbours of each user.

    Attributes
    ----------
    users_ : ``(n_users, n_items)`` sparse, the users of ``fit``.

    Source: Resnick et al., CSCW 1994, doi 10.1145/192844.192905, with cosine and a sum for implicit feedback.
    Taught in: 05_click_prediction_and_ranking.
    """

    def __init__(self, k: int = 100):
        self.k = k

    def fit(self, X: sparse.csr_array) -> UserKNN:
        """Keep the users; all the work is done by ``score``.

        Raises
        ------
        ReclabError : k is not in 1..n_users.
        """
        if not 1 <= self.k <= X.shape[0]:
            raise ReclabError(f"k must be in 1..{X.shape[0]} for {X.shape[0]} users, got {self.k}")
        self.users_ = binary(X)
        return self

    def score(self, X: sparse.csr_array) -> np.ndarray:
        """Scores ``(n_users, n_items)``, 0 where no neighbour has the item.

        A user without history has zeros only: such a list is all ties, so show popular items instead.
        """
        X = fitting(X, self, "users_")
        blocks = [self._near(X[start : start + _BLOCK]) @ self.users_ for start in range(0, X.shape[0], _BLOCK)]
        return np.concatenate([block.toarray() for block in blocks] or [np.empty(X.shape)])

    def _near(self, X: sparse.csr_array) -> sparse.csr_array:
        shared, own, others = (X @ self.users_.T).toarray(), X.sum(axis=1), self.users_.sum(axis=1)
        scale = np.sqrt(np.outer(own, others))
        similar = np.divide(shared, scale, out=np.zeros_like(shared), where=scale > 0)
        similar[(shared == own[:, None]) & (shared == others)] = 0.0
        nearest = top_k(similar.round(12), self.k)
        rows = np.repeat(np.arange(len(similar)), self.k)
        return sparse.csr_array((similar[rows, nearest.ravel()], (rows, nearest.ravel())), shape=similar.shape)
