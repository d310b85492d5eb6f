"""How good ranked lists and click predictions are, and how surely one can say so.

A metric of lists returns one value per user, so that intervals and paired comparisons can be taken
over users; NaN where it is not defined (nothing relevant, an empty list), left out of every mean.
All functions take these forms, and raise a SchemaError that says what does not fit:

- ``lists (n_users, k)`` integers: items, best first; -1 is a place without an item, never a hit
- ``relevant``, ``history (n_users, n_items)`` sparse or dense, non-zero = held out, liked before
- ``popularity (n_items,)`` training interactions; ``features (n_items, n_features)``, also sparse
- ``labels (n_rows,)`` 0 or 1; ``scores (n_rows,)``; ``groups (n_rows,)`` user or item of a row
- ``n`` resamples drawn with ``seed``; intervals are of 95% where nothing else is said
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse, stats

from .errors import ReclabError, SchemaError

_USERS = 512  # of whom all items are laid out at once
_CELLS = 2_000_000  # numbers held at once while resampling: 16 MiB of float64


# Ranked lists: their hits


def hits(lists: np.ndarray, relevant) -> np.ndarray:
    """Which places hold a relevant item, ``(n_users, k)`` bool: ranking metrics follow from it."""
    relevant = binary(relevant, "relevant", bool)
    lists = checked_lists(lists, relevant.shape[1])
    if len(lists) != relevant.shape[0]:
        users = f"{len(lists)} users, relevant for {relevant.shape[0]}"
        raise SchemaError(f"lists are for {users}; give the same")
    found = np.empty(lists.shape, dtype=bool)
    for start in range(0, len(lists), _USERS):
        part = slice(start, start + _USERS)
        found[part] = np.take_along_axis(relevant[part].toarray(), lists[part], axis=1)
    return found & (lists >= 0)


def accuracy_at_k(lists: np.ndarray, relevant, expected=None) -> dict[str, np.ndarray]:
    """``NDCG``, ``recall``, ``precision``, ``MRR`` and ``hit``, each ``(n_users,)``.

    NDCG discounts a hit at rank r by 1 / log2(r + 1) and divides by the sum of the best list, with
    ``min(k, n_relevant)`` hits at its head. An empty place lowers precision as a miss does. MRR is
    one over the rank of the first hit. ``serendipity`` is the share of places with a relevant item
    that is not ``expected (n_users, any)``, such as the most popular ones.

    Source: Jarvelin and Kekalainen, ACM TOIS 2002, doi 10.1145/582415.582418 (NDCG); Ge et al.,
    RecSys 2010, doi 10.1145/1864708.1864761 (serendipity).
    """
    relevant = binary(relevant, "relevant", bool)
    if relevant.nnz == 0:
        raise SchemaError("relevant is empty: no user has a relevant item, nothing can be measured")
    found, n_relevant = hits(lists, relevant), np.diff(relevant.indptr)
    k, (users, places) = found.shape[1], np.nonzero(found)
    gain = 1 / np.log2(np.arange(k) + 2)
    ideal = gain.cumsum()[np.clip(n_relevant, 1, k) - 1]
    n_hits, is_hit = np.bincount(users, minlength=len(found)), found.any(axis=1)
    values = {
        "NDCG": np.bincount(users, gain[places], len(found)) / ideal,
        "recall": n_hits / np.maximum(n_relevant, 1),
        "precision": n_hits / k,
        "MRR": is_hit / (found.argmax(axis=1) + 1),
        "hit": is_hit,
    }
    if expected is not None:
        surprising = found & ~hits(lists, shown_matrix(expected, relevant.shape[1]))
        values["serendipity"] = surprising.mean(axis=1)
    return {name: np.where(n_relevant > 0, value, np.nan) for name, value in values.items()}


def ndcg_at_k(lists: np.ndarray, relevant) -> np.ndarray:
    """Normalised discounted cumulative gain of each list, as in `accuracy_at_k`."""
    return accuracy_at_k(lists, relevant)["NDCG"]


def binary(matrix, name: str = "X", dtype=float) -> sparse.csr_array:
    """A copy with 1 for every entry other than 0, once each, indices sorted; NaN is refused."""
    matrix = sparse.csr_array(matrix)
    if np.isnan(matrix.data).any():
        raise SchemaError(f"{name} holds NaN: write 0 where an item does not belong to a user")
    matrix = matrix.astype(dtype)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    matrix.data[:] = 1
    return matrix


def checked_lists(lists, n_items: int) -> np.ndarray:
    """The lists as an array, once they are found to fit a catalogue of ``n_items``."""
    lists = np.asarray(lists)
    if lists.ndim != 2 or lists.shape[1] < 1 or not np.issubdtype(lists.dtype, np.integer):
        got = f"{lists.dtype} {lists.shape}"
        raise SchemaError(f"lists must be integers (n_users, k) with k >= 1, got {got}")
    low, high = lists.min(initial=0), lists.max(initial=-1)
    if low < -1 or high >= n_items:
        catalogue = f"the catalogue has 0..{n_items - 1} (-1 = no item)"
        raise SchemaError(f"lists hold item {low}..{high}; {catalogue}")
    for start in range(0, len(lists), _USERS):
        ordered = np.sort(lists[start : start + _USERS], axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        if twice.any():
            row, place = np.argwhere(twice)[0]
            where = f"twice in the list of user {start + row}"
            raise SchemaError(f"item {ordered[row, place]} stands {where}: drop one")
    return lists


def shown_matrix(lists: np.ndarray, n_items: int) -> sparse.csr_array:
    """Lists as a sparse matrix ``(n_users, n_items)``: 1 where a user is shown an item."""
    lists = checked_lists(lists, n_items)
    users, places = np.nonzero(lists >= 0)
    cells = users, lists[users, places]
    return sparse.csr_array((np.ones(len(users)), cells), (len(lists), n_items))


# Ranked lists: beyond their hits


def novelty(lists: np.ndarray, popularity) -> np.ndarray:
    """Mean of -log2(share of all interactions) over a list's items, in bits.

    An item without an interaction counts as having one, so that cold items stay finite.
    Source: after Zhou et al., PNAS 2010, doi 10.1073/pnas.1000488107, who take the share of users.
    """
    counts = _counts(popularity)
    bits = -np.log2(np.maximum(counts, 1) / counts.sum())
    return _mean_over(shown_matrix(lists, len(counts)), bits)


def popularity_lift(lists: np.ndarray, history, popularity) -> np.ndarray:
    """How much more popular than the history a list is: 0 = alike, 1 = twice as popular.

    Source: Abdollahpouri et al., RMSE workshop 2019, arXiv 1907.13286.
    """
    counts = _counts(popularity)
    own = _mean_over(binary(history, "history"), counts)
    return _mean_over(shown_matrix(lists, len(counts)), counts) / _or_nan(own) - 1


def intra_list_distance(lists: np.ndarray, features) -> np.ndarray:
    """Diversity: mean cosine distance over all pairs of items in a list, 0 to 2.

    Items whose features are all zero have no direction: they are left out, not called distant. Use
    features that the ranking was not made from.
    Source: Ziegler et al., WWW 2005, doi 10.1145/1060745.1060754.
    """
    features = _finite(features)
    shown = shown_matrix(lists, len(features))
    if np.shape(lists)[1] < 2:
        raise SchemaError("a list of one item has no pairs: its distance needs k of 2 or more")
    length = np.linalg.norm(features, axis=1)
    unit = features / np.where(length > 0, length, 1)[:, None]
    count = shown @ (length > 0)
    # The cosines of all pairs add up to the squared length of the sum, less the ones of i = j.
    square = ((shown @ unit) ** 2).sum(axis=1)
    return np.maximum(1 - (square - count) / _or_nan(count * (count - 1)), 0)


def miscalibration(lists: np.ndarray, history, features, alpha: float = 0.01) -> np.ndarray:
    """Kullback-Leibler divergence, in nats, of a list's genres from those of the history.

    Features are genres, none below 0; an item shares its weight among them. ``alpha`` of the
    history is mixed into the list, so that a genre which it lacks costs much but not infinitely.
    Source: Steck, RecSys 2018, doi 10.1145/3240323.3240372.
    """
    features = _finite(features)
    if (features < 0).any():
        raise SchemaError("calibration needs features of 0 or more, such as genres")
    shares = np.nan_to_num(_rows_to_one(features))
    wanted = _rows_to_one(binary(history, "history") @ shares)
    shown = _rows_to_one(shown_matrix(lists, len(shares)) @ shares)
    mixed = (1 - alpha) * shown + alpha * wanted
    ratio = np.divide(wanted, mixed, out=np.ones_like(wanted), where=wanted > 0)
    return np.maximum((wanted * np.log(ratio)).sum(axis=1), 0)


def overlap_at_k(lists: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Jaccard overlap of two lists of each user: items in both, by items in either."""
    if len(lists) != len(others):
        got = f"{len(lists)} and {len(others)}"
        raise SchemaError(f"lists to compare must be of the same users, got {got}")
    n_items = max(np.max(lists, initial=0), np.max(others, initial=0)) + 1
    a, b = shown_matrix(lists, n_items), shown_matrix(others, n_items)
    both = a.multiply(b).sum(axis=1)
    return both / _or_nan(a.sum(axis=1) + b.sum(axis=1) - both)


def coverage(lists: np.ndarray, n_items: int) -> float:
    """Share of the catalogue that somebody is shown; it grows with the number of users."""
    return float((shown_matrix(lists, n_items).sum(axis=0) > 0).mean())


def gini(shown: np.ndarray) -> float:
    """Gini index of how often each item is shown, ``(n_items,)``: 0 all alike, near 1 only few."""
    n_items, total = len(shown), np.sum(shown)
    if total == 0:
        raise SchemaError("no item is shown in any list, so exposure has no Gini index")
    weights = 2 * np.arange(1, n_items + 1) - n_items - 1
    return float(weights @ np.sort(shown) / (n_items * total))


def _counts(popularity) -> np.ndarray:
    counts = np.asarray(popularity, dtype=float)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
        raise SchemaError("popularity must be one count per item, none negative and not all zero")
    return counts


def _finite(features) -> np.ndarray:
    if sparse.issparse(features):
        features = features.toarray()
    features = np.asarray(features, dtype=float)
    if features.ndim != 2 or not np.isfinite(features).all():
        got = f"(n_items, n_features), got {features.shape}"
        raise SchemaError(f"features must be finite, of shape {got}")
    return features


def _mean_over(items: sparse.csr_array, values: np.ndarray) -> np.ndarray:
    return items @ values / _or_nan(items.sum(axis=1))


def _rows_to_one(rows: np.ndarray) -> np.ndarray:
    return rows / _or_nan(rows.sum(axis=1, keepdims=True))


def _or_nan(count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, count, np.nan)


# Click predictions


def auc(labels, scores) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties half.

    Source: Hanley and McNeil, Radiology 1982, doi 10.1148/radiology.143.1.7063747.
    """
    labels, scores = _labelled(labels, scores)
    return float(_weighted_aucs(labels, scores, np.ones((1, len(labels))))[0])


def auc_interval(labels, scores, groups=None, n=1000, seed=0) -> Interval:
    """AUC with its bootstrap interval over rows; over groups, where rows of one hang together."""
    samples = resampled_aucs(labels, [scores], groups, n, seed)[:, 0]
    return percentile_interval(auc(labels, scores), samples)


def paired_auc_difference(labels, a, b, groups=None, n=1000, seed=0) -> Interval:
    """AUC of scores ``a`` less that of ``b`` on the same rows, as `auc_interval`."""
    samples = resampled_aucs(labels, [a, b], groups, n, seed)
    difference = auc(labels, a) - auc(labels, b)
    return percentile_interval(difference, samples[:, 0] - samples[:, 1])


def resampled_aucs(labels, scores: Sequence, groups=None, n=1000, seed=0) -> np.ndarray:
    """AUC of each of several scores in each resample, the same rows for all: ``(n, len(scores))``.

    NaN where a resample misses a class.
    """
    checked = [_labelled(labels, each) for each in scores]
    n_rows = len(checked[0][0])
    codes = np.arange(n_rows) if groups is None else _group_codes(groups, n_rows)
    found = []
    for draws in resamples(codes.max() + 1, n, seed, width=n_rows):
        weights = _times_drawn(draws)[:, codes]
        found.append(np.stack([_weighted_aucs(*each, weights) for each in checked], axis=1))
    return np.concatenate(found)


def expected_calibration_error(labels, p) -> float:
    """Mean gap of predicted and observed rate over ten bins of equal width, weighted by their rows.

    Source: Guo et al., ICML 2017, arXiv 1706.04599, equation 3.
    """
    labels, p = _labelled(labels, p, both=False)
    if (p < 0).any() or (p > 1).any():
        raise SchemaError("p must hold probabilities, 0 to 1; pass scores through a sigmoid first")
    gaps = np.bincount(probability_bins(p), weights=p - labels)
    return float(np.abs(gaps).sum() / len(p))


def probability_bins(p: np.ndarray, bins: int = 10) -> np.ndarray:
    """The bin of each probability: bin m holds ``(m / bins, (m + 1) / bins]``, the first also 0."""
    return np.digitize(p, np.linspace(0, 1, bins + 1)[1:-1], right=True)


def valid_labels(labels, n: int, *, both: bool = True) -> np.ndarray:
    """Labels as ``(n,)`` int64, once all are 0 or 1 and, where ``both``, each class occurs."""
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise SchemaError(f"labels must be one for each of {n} examples, got shape {labels.shape}")
    bad = pd.isna(labels)
    bad[~bad] = ~np.isin(labels[~bad], [0, 1])
    if bad.any():
        found = f"labels[{bad.argmax()}] is {labels.tolist()[bad.argmax()]!r}"
        raise SchemaError(f"labels must be 0 or 1, {found}; drop or correct it")
    if both and len(np.unique(labels)) < 2:
        raise SchemaError("labels holds only one class; examples of both are needed")
    return labels.astype(np.int64)


def _labelled(labels, scores, both: bool = True) -> tuple[np.ndarray, np.ndarray]:
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 1 or not len(scores):
        raise SchemaError(f"scores must be one row of numbers, got the shape {scores.shape}")
    labels, missing = valid_labels(labels, len(scores), both=both), np.isnan(scores)
    if missing.any():
        raise SchemaError(f"scores hold {missing.sum()} NaN; drop those rows or repair the model")
    return labels, scores


def _weighted_aucs(labels, scores, weights: np.ndarray) -> np.ndarray:
    """AUC with row i counted ``weights[:, i]`` times: ``(n_samples,)`` from as many weights."""
    order = np.argsort(scores, kind="stable")
    labels, scores, weights = labels[order], scores[order], weights[:, order]
    ties = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))  # where equal scores begin
    positive = np.add.reduceat(weights * labels, ties, axis=1)
    negative = np.add.reduceat(weights, ties, axis=1) - positive
    below = negative.cumsum(axis=1) - negative / 2
    with np.errstate(invalid="ignore"):
        return (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))


# Intervals


class Interval(NamedTuple):
    """An estimate with its interval: unpacks as ``value, low, high``."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_interval(values, n: int = 1000, seed: int = 0) -> Interval:
    """Mean of ``values (n_users,)`` with its percentile bootstrap interval: users are resampled.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    column = np.asarray(values, dtype=float).reshape(-1, 1)
    if (n_users := np.isfinite(column).sum()) < 2:
        raise SchemaError(f"an interval over users needs 2 of them with a value, got {n_users}")
    return Interval(*bootstrap_table(column, n, seed)[:, 0].tolist())


def bootstrap_table(values, n: int = 1000, seed: int = 0) -> np.ndarray:
    """`bootstrap_interval` of each column of ``(n_users, n_columns)``: value, low, high by columns.

    NaN where there is no value, and no interval of a single one.
    """
    values = np.asarray(values, dtype=float)
    alike: dict[bytes, list[int]] = {}  # columns that the same users lack share their resamples
    for column, there in enumerate(~np.isnan(values).T):
        alike.setdefault(there.tobytes(), []).append(column)
    found = np.full((3, values.shape[1]), np.nan)
    for columns in alike.values():
        kept = values[~np.isnan(values[:, columns[0]])][:, columns]
        if len(kept) >= 2:
            draws = resamples(len(kept), n, seed)
            means = np.concatenate([_times_drawn(part) @ kept for part in draws]) / len(kept)
            for place, column in enumerate(columns):
                value = kept[:, place].mean()
                found[:, column] = percentile_interval(value, means[:, place])
        elif len(kept):
            found[0, columns] = kept[0]
    return found


def paired_difference(a, b, n: int = 1000, seed: int = 0) -> Interval:
    """Mean of ``a - b (n_users,)`` with its interval, over the users for whom both are defined."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        shapes = f"{a.shape} and {b.shape}"
        raise SchemaError(f"paired values must belong to the same users, got shapes {shapes}")
    return bootstrap_interval(a - b, n, seed)


def interval_over(groups, statistic: Callable | np.ndarray, n=300, seed=0) -> Interval:
    """Any statistic of rows with its 95% interval, whole groups drawn: rows of one hang together.

    ``statistic`` is called with row numbers, in which a row may stand several times, and returns a
    number; or it is ``(n_rows,)`` values, whose mean is taken.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8.
    """
    if not callable(statistic):
        values = np.asarray(statistic, dtype=float)
        return interval_over(groups, lambda rows: values[rows].mean(), n, seed)
    codes = _group_codes(groups, len(groups))
    rows_of = np.split(np.argsort(codes, kind="stable"), np.bincount(codes).cumsum()[:-1])
    draws = (draw for part in resamples(len(rows_of), n, seed) for draw in part)
    samples = [statistic(np.concatenate([rows_of[group] for group in draw])) for draw in draws]
    return percentile_interval(statistic(np.arange(len(codes))), np.array(samples))


def t_interval(values) -> Interval:
    """The mean of a few independent values, such as one per seed, with Student's 95% interval."""
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ReclabError(f"a t interval needs two or more finite values, got {values}")
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def percentile_interval(value: float, samples, level: float = 0.95) -> Interval:
    """An estimate with the middle ``level`` of its resampled values; NaN samples are left out."""
    if not 0 < level < 1:
        raise ReclabError(f"level must lie between 0 and 1, got {level}")
    low, high = np.nanquantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values corrected for the number of tests, so that any false alarm among all stays rare.

    Source: Holm, Scandinavian Journal of Statistics 1979, volume 6, pages 65-70.
    """
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return corrected


def resamples(size: int, n: int, seed: int, width: int = 0) -> Iterator[np.ndarray]:
    """Bootstrap draws of indices below ``size``: n in all, in parts ``(rows, size)``.

    A part fits memory; ``width`` : numbers that the caller makes of a draw, if above ``size``.
    """
    if n < 1:
        raise ReclabError(f"n must be 1 resample or more, got {n}")
    rng = np.random.default_rng(seed)
    rows = max(1, _CELLS // max(size, width))
    for done in range(0, n, rows):
        yield rng.integers(size, size=(min(rows, n - done), size))


def _times_drawn(draws: np.ndarray) -> np.ndarray:
    """How often each index stands in each draw, ``(rows, size)`` like the draws themselves."""
    rows, size = draws.shape
    cells = draws + np.arange(rows)[:, None] * size
    return np.bincount(cells.ravel(), minlength=rows * size).reshape(rows, size).astype(float)


def _group_codes(groups, n_rows: int) -> np.ndarray:
    """The number of each row's group, ``(n_rows,)``, from 0 in the order in which groups appear."""
    codes = pd.factorize(np.asarray(groups))[0]
    if len(codes) != n_rows or not n_rows or codes.min() < 0 or codes.max() < 1:
        needed = f"at least 2 groups, one name for each of the {n_rows} rows"
        raise SchemaError(f"groups must name {needed}")
    return codes
