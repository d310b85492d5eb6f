"""What lists are like beyond their hits: diversity, novelty, calibration, serendipity, popularity and coverage.

Lists are integer arrays ``(n_users, k)``, best item first; -1 marks a place without an item.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .errors import SchemaError

_PLACES = 2_500_000  # cells of a table of users by items, a byte each: more leaves the cache, less is more calls


def novelty(lists: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """Mean self-information of each user's items in bits: -log2 of an item's share of all interactions.

    An item that has no interaction counts as having one, so that cold items stay finite.

    Parameters
    ----------
    lists : as in `ndcg_at_k`.
    popularity : ``(n_items,)`` interactions of each item in the training data.

    Returns: ``(n_users,)`` bits, NaN for an empty list.

    Raises SchemaError: lists that do not fit the catalogue, or counts that are negative or all zero.

    Source: Zhou et al., PNAS 2010, doi 10.1073/pnas.1000488107.
    """
    counts = np.asarray(popularity, dtype=float)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or counts.sum() == 0:
        raise SchemaError("popularity must be one count per item, none negative and not all zero")
    lists = _checked_lists(lists, len(counts))
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

    Returns: ``(n_users,)`` in 0..2 (0..1 for non-negative features), NaN with fewer than two items that have features.

    Raises SchemaError: lists of one item, lists that do not fit the features, or features that are not finite.

    Source: Ziegler et al., WWW 2005, doi 10.1145/1060745.1060754.
    """
    unit, known = _unit_rows(features)
    lists = _checked_lists(lists, len(known))
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

    Raises SchemaError: lists that do not fit a catalogue of ``n_items``.
    """
    return float((exposure(lists, n_items) > 0).mean())


def gini(lists: np.ndarray, n_items: int) -> float:
    """Gini index of exposure over the whole catalogue: 0 when all items are shown alike, near 1 when few are.

    Raises SchemaError: lists that do not fit a catalogue of ``n_items``, or no item shown at all.
    """
    shown = np.sort(exposure(lists, n_items))
    if shown.sum() == 0:
        raise SchemaError("no item is shown in any list, so exposure has no Gini index")
    return float((2 * np.arange(1, n_items + 1) - n_items - 1) @ shown / (n_items * shown.sum()))


def exposure(lists: np.ndarray, n_items: int) -> np.ndarray:
    """Number of lists that show each item, ``(n_items,)``."""
    lists = _checked_lists(lists, n_items)
    return np.bincount(lists[lists >= 0], minlength=n_items)


def miscalibration(lists: np.ndarray, history, features, alpha: float = 0.01) -> np.ndarray:
    """How far the genres of a list are from those of the user's history: Kullback-Leibler divergence, 0 = the same.

    Each item shares its weight among its genres; ``alpha`` of the history is mixed into the list, so that a genre
    which it lacks costs much but not infinitely much.

    Parameters
    ----------
    lists : ``(n_users, k)`` item indices, -1 = no item.
    history : ``(n_users, n_items)`` non-zero = liked in training.
    features : ``(n_items, n_genres)`` none negative.

    Returns: ``(n_users,)`` nats, NaN for a user whose history or list has no genre.

    Raises SchemaError: lists that do not fit, or a feature below 0 or not finite.

    Source: Steck, RecSys 2018, doi 10.1145/3240323.3240372.
    """
    features = features.toarray() if sparse.issparse(features) else np.asarray(features, dtype=float)
    if features.ndim != 2 or not np.isfinite(features).all() or (features < 0).any():
        raise SchemaError("calibration needs features of 0 or more, finite, of shape (n_items, n_genres)")
    shares = np.nan_to_num(features / _or_nan(features.sum(axis=1, keepdims=True)))
    wanted, shown = (_rows_to_one(part @ shares) for part in (sparse.csr_array(history), _shown(lists, len(shares))))
    mixed = (1 - alpha) * shown + alpha * wanted
    ratio = np.divide(wanted, mixed, out=np.ones_like(wanted), where=wanted > 0)
    return np.maximum((wanted * np.log(ratio)).sum(axis=1), 0)


def popularity_lift(lists: np.ndarray, history, popularity: np.ndarray) -> np.ndarray:
    """How much more popular a user's list is than their own history: 0 = alike, 1 = twice as popular, on average.

    Parameters
    ----------
    history : ``(n_users, n_items)`` non-zero = liked in training.
    popularity : ``(n_items,)`` training interactions.

    Returns: ``(n_users,)``, NaN without a history or a list.

    Source: Abdollahpouri et al., RMSE workshop 2019, arXiv 1907.13286.
    """
    counts, history = np.asarray(popularity, dtype=float), sparse.csr_array(history).astype(bool).astype(float)
    shown = _shown(lists, len(counts))
    own, listed = (part @ counts / _or_nan(part.sum(axis=1)) for part in (history, shown))
    return listed / _or_nan(own) - 1


def overlap_at_k(lists: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Jaccard overlap of two lists of each user: items in both, by items in either; NaN where both are empty."""
    if np.shape(lists)[0] != np.shape(others)[0]:
        raise SchemaError(f"lists to compare must be of the same users, got {len(lists)} and {len(others)}")
    n_items = max(np.max(lists, initial=0), np.max(others, initial=0)) + 1
    a, b = _shown(lists, n_items), _shown(others, n_items)
    both = a.multiply(b).sum(axis=1)
    return both / _or_nan(a.sum(axis=1) + b.sum(axis=1) - both)


def _checked_lists(lists, n_items: int) -> np.ndarray:
    """The lists as integers, once they are found to fit a catalogue of ``n_items``."""
    lists = integer_lists(lists)
    for _ in tables_of_places(lists, n_items):
        pass  # each user's list is checked on the way
    return lists


def integer_lists(lists) -> np.ndarray:
    """The lists as an array of integers ``(n_users, k)``.

    Raises SchemaError: they are something else.
    """
    lists = np.asarray(lists)
    if lists.ndim != 2 or lists.shape[1] < 1 or not np.issubdtype(lists.dtype, np.integer):
        raise SchemaError(f"lists must be integers (n_users, k) with k >= 1, got {lists.dtype} {lists.shape}")
    return lists


def tables_of_places(lists: np.ndarray, n_items: int):
    """Some users at a time: where they start, and a flat table of them by items with each item's place in the list.

    A row has ``n_items + 1`` cells, the last of them for -1. An item that is in no place has ``k``.

    Raises SchemaError: an item outside the catalogue, or an item twice in one list.
    """
    n_users, k = lists.shape
    width = n_items + 1
    step = max(1, min(_PLACES // width, n_users))
    starts = np.arange(step, dtype=np.int64)[:, None] * width
    places = np.tile(np.arange(k, dtype=np.min_scalar_type(k)), (step, 1))
    nowhere = np.full_like(places, k)  # NumPy is quicker where nothing has to be broadcast
    table = np.full(step * width, k, dtype=places.dtype)
    for first in range(0, n_users, step):
        part = np.ascontiguousarray(lists[first : first + step])  # to read it thrice from the cache
        if part.min() < -1 or part.max() >= n_items:
            raise SchemaError(
                f"lists hold item {lists.min()}..{lists.max()}; the catalogue has 0..{n_items - 1} (-1 = no item)"
            )
        cells = part + starts[: len(part)]
        table[cells] = places[: len(part)]  # of two equal items, the later place remains
        twice = table.take(cells, mode="wrap") != places[: len(part)]
        if twice.any() and (twice := twice & (part >= 0)).any():
            user, place = np.argwhere(twice)[0]
            raise SchemaError(f"item {part[user, place]} stands twice in the list of user {first + user}: drop one")
        yield first, table[: len(part) * width]
        if width < 64 * k:  # then to write everything in one go is quicker than to write some cells one by one
            table.fill(k)
        else:
            table[cells] = nowhere[: len(part)]


def _shown(lists, n_items: int) -> sparse.csr_array:
    lists = _checked_lists(lists, n_items)
    rows, places = np.nonzero(lists >= 0)
    return sparse.csr_array((np.ones(len(rows)), (rows, lists[rows, places])), (len(lists), n_items))


def _rows_to_one(rows: np.ndarray) -> np.ndarray:
    return rows / _or_nan(rows.sum(axis=1, keepdims=True))


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
