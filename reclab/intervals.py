"""Bootstrap intervals over users, and paired differences between two systems."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .errors import ReclabError, SchemaError

CELLS = 2_000_000  # numbers held at once while resampling: 16 MiB of float64


class Interval(NamedTuple):
    """An estimate with its interval: unpacks as ``value, low, high``, prints as ``0.106 [0.091, 0.122]``."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_interval(values: np.ndarray, n: int = 1000, seed: int = 0, level: float = 0.95) -> Interval:
    """Mean over users with its percentile bootstrap interval; users are resampled, NaN values are left out.

    Parameters
    ----------
    values : ``(n_users,)``, one value per user.
    n : resamples.
    seed : of the resampling.
    level : of the interval, between 0 and 1.

    Raises SchemaError: fewer than two users have a value.
    Raises ReclabError: ``n`` or ``level`` out of range.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    values = np.asarray(values, dtype=float).ravel()
    values = values[~np.isnan(values)]
    if len(values) < 2:
        raise SchemaError(f"an interval over users needs a value for at least 2 of them, got {len(values)}")
    means = np.concatenate([values[draws].mean(axis=1) for draws in resamples(len(values), n, seed)])
    return percentile_interval(values.mean(), means, level)


def bootstrap_table(values: np.ndarray, n: int = 1000, seed: int = 0, level: float = 0.95) -> np.ndarray:
    """`bootstrap_interval` of every column, by one product of matrices: value, low and high, ``(3, n_columns)``.

    Columns whose values are missing for the same users share their resamples.

    Parameters
    ----------
    values : ``(n_users, n_columns)``.
    n, seed, level, Raises : as `bootstrap_interval`.
    """
    values = np.asarray(values, dtype=float)
    alike: dict[bytes, list[int]] = {}
    for column, there in enumerate(~np.isnan(values).T):
        alike.setdefault(there.tobytes(), []).append(column)
    found = np.empty((3, values.shape[1]))
    for columns in alike.values():
        kept = values[~np.isnan(values[:, columns[0]])][:, columns]
        if len(kept) < 2:
            raise SchemaError(f"an interval over users needs a value for at least 2 of them, got {len(kept)}")
        draws = resamples(len(kept), n, seed)
        means = np.concatenate([draw_counts(part).astype(float) @ kept for part in draws]) / len(kept)
        for column, samples in zip(columns, means.T, strict=True):
            found[:, column] = percentile_interval(0.0, samples, level)
        found[0, columns] = kept.mean(axis=0)
    return found


def t_interval(values, level: float = 0.95) -> Interval:
    """The mean of a few independent values, such as one a seed, with its interval by Student's t.

    Raises ReclabError: fewer than two values, or one that is not finite.
    """
    from scipy import stats

    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ReclabError(f"a t interval needs two or more finite values, got {values}")
    mean = float(values.mean())
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def interval_over(
    groups: Sequence, statistic: Callable[[np.ndarray], float] | np.ndarray, n: int = 300, seed: int = 0
) -> Interval:
    """Any statistic of rows with its 95% bootstrap interval, whole groups drawn, since rows of a group hang together.

    Parameters
    ----------
    groups : ``(n_rows,)``, the group of each row, such as the item that a review is about.
    statistic : called with row numbers, in which a row may stand several times, returns a number; or ``(n_rows,)``
        values, whose mean is taken.
    n, seed : resamples and their seed.

    Raises SchemaError: fewer than two groups, or a row without one.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8.
    """
    codes = group_codes(groups, len(groups))
    if not callable(statistic):
        values = np.asarray(statistic, dtype=float)
        return interval_over(groups, lambda rows: values[rows].mean(), n, seed)
    blocks = np.split(np.argsort(codes, kind="stable"), np.bincount(codes).cumsum()[:-1])
    draws = (draw for part in resamples(len(blocks), n, seed) for draw in part)
    samples = [statistic(np.concatenate([blocks[block] for block in draw])) for draw in draws]
    return percentile_interval(statistic(np.arange(len(codes))), np.array(samples))


def paired_difference(a, b, n: int = 1000, seed: int = 0, level: float = 0.95) -> Interval:
    """Mean of ``a - b`` with its bootstrap interval, over the users for whom both are defined.

    Pairing takes out what users have in common (some are easy for every system), so it sees differences
    that two overlapping intervals hide.

    Parameters
    ----------
    a, b : ``(n_users,)`` values of two systems for the same users in the same order.
    n, seed, level : as `bootstrap_interval`.

    Raises SchemaError: different lengths, or fewer than two users with both values.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise SchemaError(f"paired values must belong to the same users, got shapes {a.shape} and {b.shape}")
    return bootstrap_interval(a - b, n, seed, level)


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values corrected for the number of tests: the chance of any false alarm among all stays bounded.

    Source: Holm, Scandinavian Journal of Statistics 1979, volume 6, pages 65-70.
    """
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return corrected


def group_codes(groups, n_rows: int) -> np.ndarray:
    """The number of each row's group, ``(n_rows,)``, counted from 0 in the order in which groups appear.

    Raises SchemaError: not one group for each row, a row without one, or fewer than two groups.
    """
    import pandas as pd

    codes = pd.factorize(np.asarray(groups))[0]
    if len(codes) != n_rows or not n_rows or codes.min() < 0 or codes.max() < 1:
        raise SchemaError(f"groups must name at least 2 groups, one name for each of the {n_rows} rows")
    return codes


def resamples(size: int, n: int, seed: int) -> Iterator[np.ndarray]:
    """Bootstrap draws of indices below size: n rows in all, in chunks ``(rows, size)`` of bounded memory.

    Raises ReclabError: n is below 1.
    """
    if n < 1:
        raise ReclabError(f"n must be 1 resample or more, got {n}")
    rng = np.random.default_rng(seed)
    chunk = max(1, CELLS // size)
    for done in range(0, n, chunk):
        yield rng.integers(size, size=(min(chunk, n - done), size))


def draw_counts(draws: np.ndarray) -> np.ndarray:
    """How often each index stands in each draw, ``(rows, size)`` like the draws themselves."""
    rows, size = draws.shape
    offsets = np.arange(rows)[:, None] * size
    return np.bincount((draws + offsets).ravel(), minlength=rows * size).reshape(rows, size)


def percentile_interval(value: float, samples: np.ndarray, level: float = 0.95) -> Interval:
    """An estimate with the middle ``level`` of its resampled values; NaN samples are left out.

    Raises ReclabError: level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ReclabError(f"level must lie between 0 and 1, got {level}")
    low, high = np.nanquantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))
