"""Values per user for what is no mean over users: their mean is the statistic, their spread gives its interval.

Resampling users would show fewer different items than there are, so the bootstrap of coverage itself is biased. These
are jackknife values: what the statistic would be without each user. Their spread is, if anything, too wide.

Source: Efron and Stein, Annals of Statistics 1981, doi 10.1214/aos/1176345462.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from .metrics import coverage, exposure, gini


def coverage_values(lists: np.ndarray, n_items: int) -> np.ndarray:
    """Values per user of the coverage: what is lost without a user are the items that nobody else is shown."""
    alone = exposure(lists, n_items) == 1
    value = coverage(lists, n_items)
    return _jackknife(value, value - _sum_over_list(lists, alone) / n_items)


def gini_values(lists: np.ndarray, n_items: int) -> np.ndarray:
    """Values per user of the Gini index.

    The index without a user has a closed form: with items sorted by exposure, it hangs on the sum of place
    times exposure, and an item that loses one showing moves to the first place among its equals.
    """
    shown, value = exposure(lists, n_items), gini(exposure(lists, n_items))
    total, places = shown.sum(), np.arange(1, n_items + 1) @ np.sort(shown)
    lost = _sum_over_list(lists, stats.rankdata(shown, method="min"))
    exposures = np.where(lists >= 0, shown[lists], -1)
    for step in range(1, lists.shape[1]):  # the second of two equals finds the first place taken
        equal = exposures[:, step:] == exposures[:, :-step]
        lost += (equal & (exposures[:, step:] >= 0)).sum(axis=1)
    left = total - (lists >= 0).sum(axis=1)
    ratio = np.divide(places - lost, left, out=np.full(len(lists), places / total), where=left > 0)
    return _jackknife(value, 2 * ratio / n_items - (n_items + 1) / n_items)


def gap_values(sums: np.ndarray, sizes: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Values per user of how far shares are from a target: the sum over groups of ``|sums / sizes - target|``.

    Half of it is the total variation distance of exposure from the catalogue's shares; with ``sums`` the predicted
    less the observed clicks in each bin and a target of 0 it is the expected calibration error.

    Parameters
    ----------
    sums : ``(n_users, n_groups)`` what each user adds to each group.
    sizes : ``(n_users,)`` rows of each user; a user without rows gets NaN.
    target : ``(n_groups,)``.
    """
    some = sizes > 0
    total, size = sums.sum(axis=0), sizes.sum()
    value = np.abs(total / size - target).sum() if size else np.nan
    left = np.where(sizes < size, size - sizes, 1)[some, None]
    found = np.full(len(sizes), np.nan)
    found[some] = _jackknife(value, np.abs((total - sums[some]) / left - target).sum(axis=1))
    return found


def difference_values(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Values per user of the mean of a group less the mean of all others; NaN where there is no value."""
    there = ~np.isnan(values)
    inside, outside = there & group, there & ~group
    a, b = values[inside].mean(), values[outside].mean()
    found = np.where(there, a - b, np.nan)
    found[inside] += (values[inside] - a) * there.sum() / inside.sum()
    found[outside] -= (values[outside] - b) * there.sum() / outside.sum()
    return found


def _jackknife(value: float, without: np.ndarray) -> np.ndarray:
    """Pseudo-values around the measured value, from the values without each user."""
    return value + (len(without) - 1) * (without.mean() - without)


def _sum_over_list(lists, per_item) -> np.ndarray:
    return np.where(lists >= 0, per_item[lists], 0).sum(axis=1)
