"""Who is shown what: interactions as a matrix, collaborative filtering, exact lists of the best.

Each model follows ``fit(X)`` and ``score(X)``, where X is a sparse ``(n_users, n_items)`` matrix of
interactions; any entry other than 0 counts as 1. Scores are dense, of the same shape. Rows given to
``score`` may be users never seen in ``fit`` (but for BPR, which learns a vector for each user). A
user without history has zeros only, except by popularity: show popular items instead. All refuse
settings out of range, other items than those of ``fit``, and what memory cannot hold.

Equal scores are ordered by the lower item index, always: where many tie, shuffle the items to see
how much hangs on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import linalg, sparse
from threadpoolctl import threadpool_limits

from .errors import ReclabError, SchemaError
from .metrics import binary
from .profiles import memory

_BLOCK = 512  # rows of a large product that are held at once
_ALIASES = {  # how other libraries name the columns of their recommendations
    "user_id": "user userid users uid u query_id q_id",
    "item_id": "item itemid items iid i movieid movie_id doc_id product_id",
    "rank": "position place",
    "score": "prediction pred predicted estimate est rating",
    "probability": "p prob proba",
    "clicked": "click clicks",
}


def interaction_matrix(interactions: pd.DataFrame, users, items) -> sparse.csr_array:
    """Interactions as a sparse matrix ``(n_users, n_items)`` of 0 and 1; repeats count once.

    interactions : columns ``user_id`` and ``item_id``; filter it first (say, to the positive ones).
    users, items : ids in the order of the rows and of the columns, every id once. Where these are
        text and the table's ids are numbers, they are compared as text.
    """
    rows = positions(interactions, "user_id", users)
    columns = positions(interactions, "item_id", items)
    shape = len(users), len(items)
    return binary(sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape))


def with_our_names(table: pd.DataFrame) -> pd.DataFrame:
    """Recommendations with ``user_id, item_id, rank, score`` for the names of other libraries.

    Capitals and RecBole's types (``user_id:token``) do not matter; our own name goes first.
    """
    plain = [(column, str(column).split(":")[0].strip().lower()) for column in table.columns]
    renamed = {}
    for ours, aliases in _ALIASES.items():
        own = [column for column, name in plain if name == ours]
        found = own or [column for column, name in plain if name in aliases.split()]
        if len(found) > 1:
            both = f"columns {found[0]!r} and {found[1]!r}"
            raise SchemaError(f"{both} could both be the {ours}: rename or drop one")
        renamed |= dict.fromkeys(found, ours)
    return table.rename(columns=renamed)


def lists_from_table(table: pd.DataFrame, users, items, k: int) -> np.ndarray:
    """Recommendations of any library as item indices ``(n_users, k)``, -1 where there is no item.

    The table has a row for each recommended item, with names that `with_our_names` knows: the user,
    the item, and the rank (lowest first) or, without it, the score (highest first, equal ones by
    the lower item index). Users and items are those of `interaction_matrix`.
    """
    if k < 1:
        raise ReclabError(f"k must be 1 or more, got {k}")
    table = with_our_names(table)
    rows = pd.DataFrame({"user_id": positions(table, "user_id", users)})
    rows["item_id"] = positions(table, "item_id", items)
    remedies = {"item_id": "it would count twice: keep its best row"}
    if "rank" in table:
        rows["rank"] = numbers(table, "rank", least=0)
        remedies["rank"] = "which comes first? Number the ranks from 1 up"
    else:
        rows["rank"] = -numbers(table, "score")
    for column, remedy in remedies.items():
        twice = rows.duplicated(["user_id", column]).to_numpy()
        if twice.any():
            user, value = (table[name][twice].tolist()[0] for name in ("user_id", column))
            raise SchemaError(f"{column} {value!r} stands twice for user_id {user!r}; {remedy}")
    rows = rows.sort_values(["user_id", "rank", "item_id"])
    rows["place"] = rows.groupby("user_id").cumcount()
    rows = rows[rows["place"] < k]
    lists = np.full((len(users), k), -1, dtype=np.int64)
    lists[rows["user_id"], rows["place"]] = rows["item_id"]
    return lists


def positions(table: pd.DataFrame, column: str, known) -> np.ndarray:
    """Where each id of a column stands among the known ids."""
    ids, index = _column(table, column), pd.Index(known)
    twice = index[index.duplicated()].tolist()
    if twice:
        raise SchemaError(f"{column} {twice[0]!r} stands twice among the ids: keep one")
    if pd.api.types.is_string_dtype(index) and not pd.api.types.is_string_dtype(ids):
        ids = ids.astype(str)
    found = index.get_indexer(ids)
    unknown = ids[found < 0].tolist()
    if unknown:
        which = f"{column} {unknown[0]!r} is none of the {len(index)} known ids"
        raise SchemaError(f"{which}: add it or drop its rows")
    return found


def numbers(table: pd.DataFrame, column: str, least=-np.inf, most=np.inf) -> np.ndarray:
    """A column as finite numbers from least to most."""
    values = pd.to_numeric(_column(table, column), errors="coerce")
    values = values.to_numpy(dtype=float, na_value=np.nan)
    bad = ~np.isfinite(values) | (values < least) | (values > most)
    if bad.any():
        place, value = f"{column} in row {bad.argmax()}", table[column][bad].tolist()[0]
        bounds = "" if least == -np.inf else f" from {least} to {most}"
        raise SchemaError(f"{place} is {value!r}, not a finite number{bounds}: drop or repair it")
    return values


def _column(table: pd.DataFrame, column: str) -> pd.Series:
    if column not in table:
        there = ", ".join(map(str, table.columns))
        raise SchemaError(f"the table needs a column {column!r}; it has {there}")
    return table[column]


# --- the best items


def top_k(scores: np.ndarray, k: int, exclude: sparse.csr_array | None = None) -> np.ndarray:
    """The k best items of each user, best first.

    scores : ``(n_users, n_items)``; minus infinity means never, NaN is refused.
    exclude : ``(n_users, n_items)``, non-zero = not to be recommended (the items a user has seen).

    Returns: ``(n_users, k)`` item indices; places for which no item is left hold -1, at the end.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise SchemaError(f"scores must have the shape (n_users, n_items), got {scores.shape}")
    seen = _seen(k, scores.shape, exclude)
    lists = np.empty((len(scores), k), dtype=np.int64)
    for user, row in enumerate(scores):
        row = row.astype(float)  # a copy
        if np.isnan(row).any():
            raise SchemaError(f"scores of user {user} hold NaN: has the model diverged?")
        row[seen.indices[seen.indptr[user] : seen.indptr[user + 1]]] = -np.inf
        lists[user] = _best(row, k)
    return lists


def top_k_products(users, items, k: int, exclude: sparse.csr_array | None = None) -> np.ndarray:
    """``top_k(users @ items.T, k, exclude)``, without holding all these scores at once.

    ``(n_users, n_factors)`` and ``(n_items, n_factors)`` vectors; float32 where both are, else
    float64. Products that are equal on paper may differ in their last bit.
    """
    users, items = np.asarray(users), np.asarray(items)
    if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
        shapes = f"{users.shape} and {items.shape}"
        raise SchemaError(f"users and items must be vectors of as many factors, got {shapes}")
    seen = _seen(k, (len(users), len(items)), exclude)
    dtype = np.float32 if users.dtype == items.dtype == np.float32 else np.float64
    largest = float(abs(users).max(initial=0)) * float(abs(items).max(initial=0))
    if not largest * users.shape[1] <= float(np.finfo(dtype).max):  # true of NaN as well
        remedy = "has the model diverged? Else scale the vectors down, or use float64"
        raise SchemaError(f"vectors hold NaN, or their products may overflow: {remedy}")
    users, items = users.astype(dtype), items.astype(dtype)
    lists = np.empty((len(users), k), dtype=np.int64)
    buffer = np.empty((_BLOCK, len(items)), dtype)
    for start in range(0, len(users), _BLOCK):
        part = users[start : start + _BLOCK]
        scores = np.matmul(part, items.T, out=buffer[: len(part)])
        scores[seen[start : start + _BLOCK].nonzero()] = -np.inf
        lists[start : start + _BLOCK] = [_best(row, k) for row in scores]
    return lists


def _seen(k: int, shape: tuple[int, int], exclude) -> sparse.csr_array:
    """What each user has seen, once k and the shapes are found to fit."""
    if not 1 <= k <= shape[1]:
        raise ReclabError(f"k must be in 1..{shape[1]}, the size of the catalogue, got {k}")
    seen = binary(sparse.csr_array(shape) if exclude is None else exclude)
    if seen.shape != shape:
        raise SchemaError(f"exclude has the shape {seen.shape} and scores {shape}; they must agree")
    return seen


def _best(row: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k largest, largest first, equal ones by the lower; -1 for minus infinity."""
    n_groups = min(len(row), max(4 * k, len(row) // 64))
    whole = len(row) // n_groups * n_groups
    maxima = row[:whole].reshape(-1, n_groups).max(axis=0)
    bound = np.partition(maxima, -k)[-k]  # k groups reach it, so none of the k best lies below
    candidates = np.flatnonzero(row >= bound)
    best = candidates[np.argsort(-row[candidates], kind="stable")[:k]]
    best[row[best] == -np.inf] = -1
    return best


# --- models


class Popularity:
    """Scores every item by ``counts_``, its number of interactions, for every user alike."""

    def fit(self, X) -> Popularity:
        self.counts_ = binary(X).sum(axis=0)
        self.n_items_ = len(self.counts_)
        return self

    def score(self, X) -> np.ndarray:
        """The counts, seen once for each user: read only, and no larger than one row."""
        X = _histories(self, X)
        return np.broadcast_to(self.counts_, X.shape)


@dataclass
class EASE:
    """Linear item-to-item model with a zero diagonal, solved in closed form.

    ``P = inverse(X'X + l2 I)``, ``B = I - P / diag(P)`` column by column, ``scores = X B``; they
    may be negative. ``weights_`` is B, ``(n_items, n_items)``: column j holds what each item adds
    to the score of item j. Time grows with n_items cubed; memory is one matrix of n_items squared.

    Source: Steck, WWW 2019, arXiv 1905.03375, equation 8.
    """

    l2: float = 250.0  # strength of the ridge penalty, above 0

    def fit(self, X) -> EASE:
        _refuse_settings(self, "l2")
        X = binary(X)
        n_items = X.shape[1]
        _refuse_size("weights", (n_items, n_items), "drop rare items, or take ItemKNN or ALS")
        by_item, gram = X.T.tocsr(), np.empty((n_items, n_items))
        for start in range(0, n_items, _BLOCK):  # as a sparse matrix it could be larger
            gram[start : start + _BLOCK] = (by_item[start : start + _BLOCK] @ X).toarray()
        gram[np.diag_indices(n_items)] += self.l2
        try:  # .T is the same matrix, in the order that LAPACK reads, so none is copied
            weights = linalg.inv(gram.T, overwrite_a=True, assume_a="pos", lower=True).T
        except linalg.LinAlgError:
            why = f"l2 = {self.l2} is too small to tell the items apart"
            raise ReclabError(f"{why}: raise it") from None
        weights /= -np.diag(weights)
        np.fill_diagonal(weights, 0.0)
        self.weights_, self.n_items_ = weights, n_items
        return self

    def score(self, X) -> np.ndarray:
        return _histories(self, X, dense=True) @ self.weights_


@dataclass
class ItemKNN:
    """Scores an item by the user's items among its k nearest neighbours.

    ``score(u, i) = sum of s(i, j) over the items j of user u that are among the k nearest of i``,
    where ``s(i, j) = c(i, j) / sqrt(c(i) c(j))``: c(i) users have item i, c(i, j) have both. An
    item is never its own neighbour. Similarities that agree to 12 decimals tie, and the lower index
    is kept. ``weights_`` is sparse, ``(n_items, n_items)``; column i holds i's neighbours.

    Source: Sarwar et al., WWW 2001, doi 10.1145/371920.372071, with a sum for implicit feedback.
    """

    k: int = 50  # neighbours kept of each item; all where there are fewer

    def fit(self, X) -> ItemKNN:
        _refuse_settings(self, "k")
        X = binary(X)
        by_item, blocks = X.T.tocsr(), []
        for start, similar in _cosines(by_item, by_item):
            np.fill_diagonal(similar[:, start:], 0.0)  # an item beside itself
            blocks.append(_nearest(similar, self.k))
        self.weights_ = sparse.vstack(blocks, format="csr").T.tocsr()
        self.n_items_ = X.shape[1]
        return self

    def score(self, X) -> np.ndarray:
        return (_histories(self, X, dense=True) @ self.weights_).toarray()


@dataclass
class UserKNN:
    """Scores an item by the k users nearest to the user who have it.

    ``score(u, i) = sum of s(u, v) over the k nearest users v of u that have item i``, where
    ``s(u, v) = c(u, v) / sqrt(c(u) c(v))``: user u has c(u) items, users u and v share c(u, v).
    Someone with the very same items (the user's own row, for one) is no neighbour, having nothing
    new to show. Similarities that agree to 12 decimals tie, and the lower index is kept.

    Source: Resnick et al., CSCW 1994, doi 10.1145/192844.192905, with cosine and a sum for implicit
    feedback.
    """

    k: int = 100  # neighbours of each user; all where there are fewer

    def fit(self, X) -> UserKNN:
        _refuse_settings(self, "k")
        self.users_ = binary(X)
        self.n_items_ = X.shape[1]
        return self

    def score(self, X) -> np.ndarray:
        X = _histories(self, X, dense=True)
        scores = np.empty(X.shape)
        for start, similar in _cosines(X, self.users_):
            similar[similar == 1] = 0.0  # the very same items
            near = _nearest(similar, self.k)
            scores[start : start + _BLOCK] = (near @ self.users_).toarray()
        return scores


@dataclass
class ALS:
    """Vectors of users and items whose product is near 1 for a like and, less firmly, near 0 else.

    Minimises ``sum c(u, i) (x(u, i) - p(u) q(i))^2 + l2 (sum |p(u)|^2 + sum |q(i)|^2)`` over all
    users u and items i, by turns for the users and the items; c is ``weight`` where x is 1, and 1
    where it is 0. ``items_`` are the items' vectors, ``(n_items, factors)``. Time grows with the
    likes and the square of ``factors``.

    Source: Hu, Koren and Volinsky, ICDM 2008, doi 10.1109/ICDM.2008.22.
    """

    factors: int = 64  # length of the vectors
    l2: float = 50.0  # strength of the ridge penalty, above 0
    weight: float = 10.0  # how much a like counts against the absence of one
    epochs: int = 10  # turns
    seed: int = 0  # of the item vectors to begin with

    def fit(self, X) -> ALS:
        _refuse_settings(self, "factors", "epochs", "l2", "weight")
        X = binary(X)
        by_item = X.T.tocsr()
        start = np.random.default_rng(self.seed).standard_normal((X.shape[1], self.factors))
        self.items_ = 0.1 * start / np.sqrt(self.factors)
        for _ in range(self.epochs):
            self.items_ = self._solve(by_item, self._solve(X, self.items_))
        self.n_items_ = X.shape[1]
        return self

    def vectors(self, X) -> np.ndarray:
        """The best vectors of users with these likes, ``(n_users, factors)``; 0 without any."""
        return self._solve(_histories(self, X), self.items_)

    def score(self, X) -> np.ndarray:
        return self._solve(_histories(self, X, dense=True), self.items_) @ self.items_.T

    def _solve(self, X: sparse.csr_array, fixed: np.ndarray) -> np.ndarray:
        """For each row of X, the ridge regression of its entries on the other side's vectors."""
        everywhere = fixed.T @ fixed + self.l2 * np.eye(self.factors)
        found = np.zeros((X.shape[0], self.factors))
        with threadpool_limits(1, user_api="blas"):  # for products so small, threads mostly wait
            for row in np.flatnonzero(np.diff(X.indptr)):
                liked = fixed[X.indices[X.indptr[row] : X.indptr[row + 1]]]
                lhs = everywhere + (self.weight - 1) * (liked.T @ liked)
                found[row] = np.linalg.solve(lhs, self.weight * liked.sum(axis=0))
        return found


@dataclass
class BPR:
    """Vectors of users and items, learned from pairs: what a user likes should score above others.

    Minimises ``-log sigmoid(p(u) q(i) - p(u) q(j))`` over likes i of user u and items j drawn
    evenly from the others, by AdamW. ``users_`` and ``items_`` are the vectors, ``(n, factors)``.
    Only the matrix of ``fit`` can be scored: nobody else has a vector.

    Source: Rendle et al., UAI 2009, arXiv 1205.2618.
    """

    factors: int = 64  # length of the vectors
    epochs: int = 60
    batch_size: int = 2048
    learning_rate: float = 0.01
    weight_decay: float = 0.5
    seed: int = 0  # of the vectors to begin with, the order and the draws

    def fit(self, X) -> BPR:
        import torch

        _refuse_settings(self, "factors", "epochs", "learning_rate", "batch_size")
        self.X_ = X = binary(X)
        user = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        choice = np.flatnonzero(np.diff(X.indptr)[user] < X.shape[1])
        if not len(choice):
            raise ReclabError("no pairs to learn from: no user likes some items and not others")
        rng = np.random.default_rng(self.seed)
        torch.manual_seed(self.seed)
        users, items = (torch.nn.Embedding(n, self.factors) for n in X.shape)
        tables = [users.weight, items.weight]
        with torch.no_grad():
            for table in tables:
                table.mul_(0.1)
        adam = torch.optim.AdamW(tables, lr=self.learning_rate, weight_decay=self.weight_decay)
        for _ in range(self.epochs):
            order = rng.permutation(choice)
            triples = user[order], X.indices[order].astype(np.int64), unliked(X, user[order], rng)
            parts = [torch.from_numpy(each).split(self.batch_size) for each in triples]
            for who, liked, other in zip(*parts, strict=True):
                margin = (users(who) * (items(liked) - items(other))).sum(1)
                loss = torch.nn.functional.softplus(-margin).mean()
                adam.zero_grad()
                loss.backward()
                adam.step()
        self.users_, self.items_ = (table.detach().numpy().astype(float) for table in tables)
        self.users_[np.diff(X.indptr) == 0] = 0.0
        self.n_items_ = X.shape[1]
        return self

    def score(self, X) -> np.ndarray:
        X = _histories(self, X, dense=True)
        if X.shape != self.X_.shape or (X != self.X_).nnz:
            known = "BPR has vectors for the users and likes of fit only"
            raise SchemaError(f"{known}: fit it again with these rows")
        return self.users_ @ self.items_.T


def unliked(X: sparse.csr_array, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each of the users, one item drawn evenly from those without an entry in its row of X."""
    starts, n_items = X.indptr[:-1].astype(np.int64), X.shape[1]
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    # The r-th free item is r plus the number of entries before it. Before an entry there are as
    # many free items as its index less the entries before it: a number that rises along a row.
    free_before = rows * n_items + X.indices - (np.arange(X.nnz) - starts[rows])
    drawn = rng.integers(n_items - np.diff(X.indptr)[users])
    entries = np.searchsorted(free_before, users * n_items + drawn, side="right") - starts[users]
    return drawn + entries


# --- what models share


def _histories(model, X, dense: bool = False) -> sparse.csr_array:
    """X as 0 and 1, once the model is fitted, items agree and dense scores would fit in memory."""
    name = type(model).__name__
    if not hasattr(model, "n_items_"):
        raise ReclabError(f"{name} is not fitted yet; call {name}(...).fit(X) first")
    X = binary(X)
    if X.shape[1] != model.n_items_:
        other = f"X has {X.shape[1]} items, {name} was fitted on {model.n_items_}"
        raise SchemaError(f"{other}: use the same items")
    if dense:
        _refuse_size("scores", X.shape, "take fewer users at a time, or top_k_products of vectors")
    return X


def _cosines(rows, others) -> Iterator[tuple[int, np.ndarray]]:
    """Cosines of rows and others, dense, and the first row of each block; 0 for a row of zeros."""
    sizes = others.sum(axis=1)
    for start in range(0, rows.shape[0], _BLOCK):
        part = rows[start : start + _BLOCK]
        scale = np.sqrt(np.outer(part.sum(axis=1), sizes))
        shared = (part @ others.T).toarray()
        yield start, np.divide(shared, scale, out=shared, where=scale > 0)


def _nearest(similar: np.ndarray, k: int) -> sparse.csr_array:
    """The k largest similarities of each row, sparse; those that agree to 12 decimals tie."""
    k = min(k, similar.shape[1])
    nearest = top_k(similar.round(12), k).ravel()
    rows = np.repeat(np.arange(len(similar)), k)
    kept = sparse.csr_array((similar[rows, nearest], (rows, nearest)), shape=similar.shape)
    kept.eliminate_zeros()
    return kept


def _refuse_settings(model, *names: str) -> None:
    for name in names:
        if not getattr(model, name) > 0:
            value = f"{name} must be above 0, got {getattr(model, name)}"
            raise ReclabError(f"{type(model).__name__}: {value}")


def _refuse_size(what: str, shape: tuple[int, int], remedy: str) -> None:
    needed = 8 * shape[0] * shape[1] / 2**30
    free = memory()[1] / 2**30
    if needed > free:
        size = f"{what} of {shape[0]:,} x {shape[1]:,} need {needed:,.1f} GiB of memory"
        raise ReclabError(f"{size}, and {free:,.1f} GiB are free: {remedy}")
