"""Matrix factorisation for likes and nothing else: by alternating least squares, and by pairs of items."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from .errors import ReclabError, SchemaError
from .tables import binary, fitting


class ALS:
    """A vector for each user and item whose dot product is near 1 for a like, and near 0, less firmly, otherwise.

    Minimises ``sum c(u, i) (x(u, i) - p(u) q(i))^2 + l2 (sum |p(u)|^2 + sum |q(i)|^2)`` over all users u and items i,
    by turns for the users and the items; c is ``weight`` where x is 1, and 1 where it is 0.

    Parameters
    ----------
    factors : length of the vectors.
    l2 : strength of the ridge penalty, above 0.
    weight : how much a like counts against the absence of one.
    epochs : turns.
    seed : of the item vectors to begin with.

    Attributes
    ----------
    items_ : ``(n_items, factors)``.

    Source: Hu, Koren and Volinsky, ICDM 2008, doi 10.1109/ICDM.2008.22.
    """

    def __init__(self, factors: int = 64, l2: float = 50.0, weight: float = 10.0, epochs: int = 10, seed: int = 0):
        self.factors, self.l2, self.weight, self.epochs, self.seed = factors, l2, weight, epochs, seed

    def fit(self, X: sparse.csr_array) -> ALS:
        """Solve for the users and the items by turns; time grows with the likes and the square of ``factors``.

        Raises ReclabError: a setting out of range.
        """
        _refuse_settings(self, l2=self.l2, weight=self.weight)
        X = binary(X)
        by_item = X.T.tocsr()
        start = np.random.default_rng(self.seed).standard_normal((X.shape[1], self.factors))
        self.items_ = 0.1 * start / np.sqrt(self.factors)
        for _ in range(self.epochs):
            self.items_ = self._solve(by_item, self._solve(X, self.items_))
        return self

    def vectors(self, X: sparse.csr_array) -> np.ndarray:
        """The best vectors of users with these likes, ``(n_users, factors)``; 0 for a user without any."""
        return self._solve(fitting(X, self, "items_", axis=0), self.items_)

    def score(self, X: sparse.csr_array) -> np.ndarray:
        """Scores ``(n_users, n_items)``.

        A user without history has zeros only: such a list is all ties, so show popular items instead.
        """
        return self.vectors(X) @ self.items_.T

    def _solve(self, X: sparse.csr_array, fixed: np.ndarray) -> np.ndarray:
        """For each row of X, the ridge regression of its entries on the vectors of the other side."""
        everywhere = fixed.T @ fixed + self.l2 * np.eye(self.factors)
        found = np.zeros((X.shape[0], self.factors))
        with threadpool_limits(1, user_api="blas"):  # for products so small, threads would mostly wait for each other
            for row in np.flatnonzero(np.diff(X.indptr)):
                liked = fixed[X.indices[X.indptr[row] : X.indptr[row + 1]]]
                lhs = everywhere + (self.weight - 1) * (liked.T @ liked)
                found[row] = np.linalg.solve(lhs, self.weight * liked.sum(axis=0))
        return found


class BPR:
    """A vector for each user and item, learned from pairs: what a user likes should score above what they do not.

    Minimises ``-log sigmoid(p(u) q(i) - p(u) q(j))`` over likes i of user u and items j drawn evenly from the others.

    Parameters
    ----------
    factors : length of the vectors.
    epochs, batch_size, learning_rate, weight_decay : of AdamW.
    seed : of the vectors to begin with, the order and the draws.

    Attributes
    ----------
    users_, items_ : ``(n_users, factors)`` and ``(n_items, factors)``.

    Source: Rendle et al., UAI 2009, arXiv 1205.2618.
    """

    def __init__(
        self,
        factors: int = 64,
        epochs: int = 60,
        batch_size: int = 2048,
        learning_rate: float = 0.01,
        weight_decay: float = 0.5,
        seed: int = 0,
    ):
        self.factors, self.epochs, self.batch_size, self.seed = factors, epochs, batch_size, seed
        self.learning_rate, self.weight_decay = learning_rate, weight_decay

    def fit(self, X: sparse.csr_array) -> BPR:
        """Learn the vectors.

        Raises ReclabError: a setting out of range, or no user with both a like and an item that is not liked.
        """
        import torch

        _refuse_settings(self, learning_rate=self.learning_rate, batch_size=self.batch_size)
        self.X_ = binary(X)
        torch.manual_seed(self.seed)
        users, items = (torch.nn.Embedding(n, self.factors) for n in X.shape)
        parameters = [users.weight, items.weight]
        with torch.no_grad():
            for weight in parameters:
                weight.mul_(0.1)
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
        for batch in self._pairs():
            user, liked, other = map(torch.from_numpy, batch)
            margin = (users(user) * (items(liked) - items(other))).sum(1)
            loss = torch.nn.functional.softplus(-margin).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.users_, self.items_ = (weight.detach().numpy().astype(float) for weight in parameters)
        self.users_[np.diff(self.X_.indptr) == 0] = 0.0
        return self

    def _pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Batches of users, an item that each likes and one that each does not, for all epochs."""
        rng, X = np.random.default_rng(self.seed), self.X_
        user = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        choice = np.flatnonzero(np.diff(X.indptr)[user] < X.shape[1])
        if not len(choice):
            raise ReclabError("there are no pairs to learn from: no user likes some items and not others")
        for _ in range(self.epochs):
            order = rng.permutation(choice)
            other = unliked(X, user[order], rng)
            for start in range(0, len(order), self.batch_size):
                rows = slice(start, start + self.batch_size)
                yield user[order[rows]], X.indices[order[rows]].astype(np.int64), other[rows]

    def score(self, X: sparse.csr_array) -> np.ndarray:
        """Scores ``(n_users, n_items)`` of the users of ``fit``; X has to be the matrix of ``fit``.

        A user without history has zeros only: such a list is all ties, so show popular items instead.

        Raises SchemaError: other users or likes: no vector has been learned for them.
        """
        X = fitting(X, self, "items_", axis=0)
        if X.shape != self.X_.shape or (X != self.X_).nnz:
            raise SchemaError("BPR has vectors for the users and likes of fit only: fit it again with these rows")
        return self.users_ @ self.items_.T


def unliked(X: sparse.csr_array, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each user, one item drawn evenly from those without an entry in X.

    Parameters
    ----------
    X : ``(n_users, n_items)``, its indices sorted within rows, as `reclab.tables.binary` returns it.
    users : ``(n,)`` rows of X; none of them may have an entry for every item.

    Returns: ``(n,)`` item indices.
    """
    starts, n_items = X.indptr[:-1].astype(np.int64), X.shape[1]
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    # The r-th free item is r plus the entries before it; an entry's number of free items before it rises along a row.
    free_before = rows * n_items + X.indices - (np.arange(X.nnz) - starts[rows])
    drawn = rng.integers(n_items - np.diff(X.indptr)[users])
    return drawn + np.searchsorted(free_before, users * n_items + drawn, side="right") - starts[users]


def _refuse_settings(model, **above_zero: float) -> None:
    name = type(model).__name__
    for setting, value in {"factors": model.factors, "epochs": model.epochs, **above_zero}.items():
        if not value > 0:
            raise ReclabError(f"{name}: {setting} must be above 0, got {value}")
