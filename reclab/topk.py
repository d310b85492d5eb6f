"""Exact lists of the k best items over the full catalogue, from scores or from vectors.

Equal scores are ordered by the lower item index, always. That rule is arbitrary: where many items tie (popularity
counts, say), shuffle the items to see how much hangs on it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import sparse

from .errors import ReclabError, SchemaError
from .tables import binary

_USERS, _WIDTH = 512, 64  # users scored at once, and items that share a maximum: the quickest of those tried
_NOBODY = np.empty(0, dtype=int)


def top_k(scores: np.ndarray, k: int, exclude: sparse.csr_array | None = None) -> np.ndarray:
    """The k best items of each user, best first.

    Parameters
    ----------
    scores : ``(n_users, n_items)``; minus infinity means never.
    k : length of the lists, in 1..n_items.
    exclude : ``(n_users, n_items)``, non-zero = not to be recommended (the items a user has seen).

    Returns: ``(n_users, k)`` item indices; places for which no item is left hold -1, at the end.

    Raises ReclabError: k out of range.
    Raises SchemaError: NaN among the scores, or shapes that do not fit.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2:
        raise SchemaError(f"scores must have the shape (n_users, n_items), got {scores.shape}")
    seen = _checked(k, scores.shape, exclude)
    if np.isnan(scores).any():
        raise SchemaError(f"scores of user {np.argwhere(np.isnan(scores))[0][0]} hold NaN: has the model diverged?")
    users = zip(scores, pairwise(seen.indptr), strict=True)
    lists = [_best(row, k, seen.indices[start:stop]) for row, (start, stop) in users]
    return np.array(lists, dtype=np.int64).reshape(len(scores), k)


def top_k_products(users: np.ndarray, items: np.ndarray, k: int, exclude: sparse.csr_array | None = None) -> np.ndarray:
    """The k best items of each user by the dot product of their vectors, best first, in bounded memory.

    The same lists as ``top_k(users @ items.T, k, exclude)``, without that matrix: `_USERS` rows of it exist at a time.
    Items are taken in groups; only the groups with the largest maxima can hold one of the k best. A row whose place k
    ties with place k + 1 is sorted as a whole, so rows full of ties are slow. Scores are compared as they were
    computed: products that are equal on paper may differ in their last bit.

    Parameters
    ----------
    users, items : ``(n_users, n_factors)`` and ``(n_items, n_factors)``; float32 where both are, else float64.
    k, exclude : as `top_k`.

    Returns: ``(n_users, k)`` item indices; places for which no item is left hold -1, at the end.

    Raises ReclabError: k out of range.
    Raises SchemaError: vectors that are not finite, whose products overflow, or whose shapes do not fit.
    """
    import torch

    users, items = _vectors("users", users), _vectors("items", items)
    if users.shape[1] != items.shape[1]:
        raise SchemaError(f"users have {users.shape[1]} factors and items {items.shape[1]}; they must agree")
    seen = _checked(k, (len(users), len(items)), exclude)
    if _longest(users) * _longest(items) > float(np.finfo(np.result_type(users, items)).max):
        raise SchemaError("products of users and items may overflow: scale the vectors down, or use float64")
    users, items = (torch.from_numpy(side.astype(np.result_type(users, items))) for side in (users, items))
    # One group more than is needed keeps room for a place k + 1; its padding is never the best.
    padded = torch.zeros((len(items) // _WIDTH + 1) * _WIDTH, items.shape[1], dtype=items.dtype)
    padded[: len(items)] = items
    scores = torch.empty(min(_USERS, len(users)), len(padded), dtype=items.dtype)
    lists = np.empty((len(users), k), dtype=np.int64)
    for start in range(0, len(users), _USERS):
        part = torch.mm(users[start : start + _USERS], padded.T, out=scores[: len(users) - start])
        part[:, len(items) :] = -torch.inf
        rows = seen[start : start + _USERS].tocoo()
        part[rows.coords[0], rows.coords[1]] = -torch.inf
        lists[start : start + _USERS] = _best_of_groups(part, k)
    return lists


def _best_of_groups(scores, k: int) -> np.ndarray:
    grouped = scores.unflatten(1, (-1, _WIDTH))
    maxima = grouped.amax(2)
    groups = maxima.topk(min(k + 1, maxima.shape[1]), sorted=False).indices
    candidates = grouped.gather(1, groups[:, :, None].expand(-1, -1, _WIDTH)).flatten(1)
    values, places = (found.numpy() for found in candidates.topk(k + 1))
    group = np.take_along_axis(groups.numpy(), places[:, :k] // _WIDTH, axis=1)
    lists, values, tied = group * _WIDTH + places[:, :k] % _WIDTH, values[:, :k], values[:, k - 1] == values[:, k]
    order = np.lexsort((lists, -values), axis=1)
    lists = np.take_along_axis(lists, order, axis=1)
    for row in np.flatnonzero(tied):
        lists[row] = _best(scores[row].numpy(), k, _NOBODY)
    return lists


def _best(row: np.ndarray, k: int, seen: np.ndarray) -> np.ndarray:
    row = row.copy()
    row[seen] = -np.inf
    threshold = np.partition(row, -k)[-k]
    candidates = np.flatnonzero(row >= threshold)  # all that tie for the last place, lower index first
    best = candidates[np.argsort(-row[candidates], kind="stable")][:k]
    best[row[best] == -np.inf] = -1
    return best


def _checked(k: int, shape: tuple[int, int], exclude) -> sparse.csr_array:
    """What each user has seen, once k and the shapes are found to fit."""
    if not 1 <= k <= shape[1]:
        raise ReclabError(f"k must be in 1..{shape[1]}, the size of the catalogue, got {k}")
    seen = binary(exclude if exclude is not None else sparse.csr_array(shape))
    if seen.shape != shape:
        raise SchemaError(f"exclude has the shape {seen.shape} and scores {shape}; they must agree")
    return seen


def _vectors(name: str, given) -> np.ndarray:
    vectors = np.asarray(given)
    if vectors.dtype != np.float32:
        vectors = vectors.astype(float)
    if vectors.ndim != 2 or vectors.shape[1] < 1:
        raise SchemaError(f"{name} must be vectors of the shape (n, n_factors), got {vectors.shape}")
    if not np.isfinite(vectors).all():
        row = np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0]
        raise SchemaError(f"{name}: the vector of row {row} is not finite: has the model diverged?")
    return vectors


def _longest(vectors: np.ndarray) -> float:
    return float(np.linalg.norm(vectors.astype(float), axis=1).max(initial=0.0))
