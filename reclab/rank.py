"""Baselines of collaborative filtering and exact top-k lists over the full catalogue.

Each model follows ``fit(X)`` and ``score(X)``, where X is a sparse ``(n_users, n_items)`` matrix of
interactions; any entry other than 0 counts as 1. Rows given to ``score`` may be users never seen in ``fit``
(but for BPR, which learns a vector for each user).
"""

from __future__ import annotations

import numpy as np
from scipy import linalg, sparse

from .errors import ReclabError
from .factors import ALS as ALS
from .factors import BPR as BPR
from .tables import binary, fitting
from .tables import interaction_matrix as interaction_matrix
from .topk import top_k as top_k
from .topk import top_k_products as top_k_products

_BLOCK = 1024  # rows of X'X, or of similarities, held at once


class Popularity:
    """Scores every item by its number of interactions, for every user alike.

    Many items share a count, so the order in a list leans on `top_k`'s rule for ties.

    Attributes
    ----------
    counts_ : ``(n_items,)`` interactions of each item.
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
    """

    def __init__(self, l2: float = 250.0):
        self.l2 = l2

    def fit(self, X: sparse.csr_array) -> EASE:
        """Solve for the weights: time grows with n_items cubed, memory is one matrix of n_items squared.

        Raises ReclabError: l2 is not above 0, or too small for these items.
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
    """

    def __init__(self, k: int = 50, shrink: float = 0.0):
        self.k, self.shrink = k, shrink

    def fit(self, X: sparse.csr_array) -> ItemKNN:
        """Find the neighbours of each item; a block of items at a time, so memory stays bounded.

        Raises ReclabError: k is not in 1..n_items - 1, or shrink is negative.
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
    """

    def __init__(self, k: int = 100):
        self.k = k

    def fit(self, X: sparse.csr_array) -> UserKNN:
        """Keep the users; all the work is done by ``score``.

        Raises ReclabError: k is not in 1..n_users.
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
