"""May this log say anything about that policy? Checks of propensities, weights, support and impossible values.

Nothing is dropped or mended here: what is wrong is counted and reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest

from .errors import ReclabError
from .intervals import Interval
from .logged import Case, Log

_ALARM_LEVEL = 0.999  # of the intervals behind an alarm: one false alarm in a thousand
_FEW_ROWS = 100  # an effective sample size below which normal intervals are not to be trusted
_UNSEEN = 0.01  # share of the policy's probability on what the log never shows, above which there is an alarm


def clopper_pearson(clicks: int, shown: int, level: float = 0.95) -> Interval:
    """A click rate with its exact interval, which covers at least ``level`` of the time, also for very few clicks.

    Raises
    ------
    ReclabError : more clicks than shown, nothing shown, or ``level`` not between 0 and 1.

    Source: Clopper and Pearson, Biometrika 1934, doi 10.1093/biomet/26.4.404.
    """
    if not 0 <= clicks <= shown or shown < 1 or not 0 < level < 1:
        raise ReclabError(f"needs 0 <= clicks <= shown and a level in (0, 1), got {clicks}, {shown} and {level}")
    found = binomtest(clicks, shown).proportion_ci(level)
    return Interval(clicks / shown, float(found.low), float(found.high))


def effective_sample_size(weights: np.ndarray) -> float:
    """How many equally weighted rows would say as much: ``sum(w)**2 / sum(w**2)``.

    Raises
    ------
    ReclabError : a weight is below 0 or not finite, or all are 0.

    Source: Kish, Survey Sampling, 1965, section 11.7.
    """
    weights = np.asarray(weights, float)
    if not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
        raise ReclabError("weights must be finite numbers of at least 0, and not all of them 0")
    return float(weights.sum() ** 2 / (weights**2).sum())


@dataclass(frozen=True)
class Propensities:
    """What the propensities of a log say about themselves.

    Attributes
    ----------
    smallest, largest : of all rows.
    mean_inverse : mean of 1 / propensity with its interval; n_arms if each arm can be shown everywhere.
    n_arms : of the log.
    sums : (n_positions,) the harmonic mean of an arm's propensities, summed over the arms shown at a position. About 1;
        clearly below it where rows of an arm are missing, a little above it where arms have few rows.
    """

    smallest: float
    largest: float
    mean_inverse: Interval
    n_arms: int
    sums: np.ndarray

    @property
    def alarms(self) -> list[str]:
        """What does not add up, one line each."""
        low, high = self.mean_inverse.low * (1 - 1e-9), self.mean_inverse.high * (1 + 1e-9)
        if low <= self.n_arms <= high:
            return []
        return [f"the mean of 1 / propensity is {self.mean_inverse.value:.4g}, not the number of arms, {self.n_arms}"]


def check_propensities(log: Log) -> Propensities:
    """Range, sum and mean inverse of a log's propensities. Two of them have to come out right whatever was shown."""
    inverse = 1 / log.propensities
    shape = (log.n_arms, int(log.positions.max()) + 1)
    cells = np.ravel_multi_index((log.arms, log.positions), shape)
    counts, totals = (np.bincount(cells, w, minlength=np.prod(shape)).reshape(shape) for w in (None, inverse))
    sums = np.divide(counts, totals, out=np.zeros(shape), where=counts > 0).sum(axis=0)
    p = log.propensities
    return Propensities(float(p.min()), float(p.max()), _mean(inverse), log.n_arms, sums)


@dataclass(frozen=True)
class Overlap:
    """How much of a log speaks about a policy.

    Attributes
    ----------
    rows : of the log.
    used : rows whose arm the policy plays at all.
    effective : effective sample size of the weights.
    largest : weight.
    mean_weight : with its interval; 1 if policy, propensities and rows belong together.
    unseen : share of the policy's probability on arms that the log never shows at that position.
    """

    rows: int
    used: int
    effective: float
    largest: float
    mean_weight: Interval
    unseen: float

    @property
    def alarms(self) -> list[str]:
        """What stands against an estimate, one line each."""
        found = []
        if not self.mean_weight.low <= 1 <= self.mean_weight.high:
            found.append(f"the mean weight is {self.mean_weight.value:.3g}, not 1: propensities or policy are wrong")
        if self.unseen > _UNSEEN:
            found.append(f"{self.unseen:.1%} of what the policy plays is never shown: nothing is known of its reward")
        if self.effective < _FEW_ROWS:
            found.append(f"the {self.rows:,} rows say as much as {self.effective:.0f}: do not trust normal intervals")
        return found

    def __str__(self) -> str:
        mean = self.mean_weight
        return (
            f"{self.rows:,} rows, {self.used:,} of an arm that the policy plays; effective sample size "
            f"{self.effective:,.0f}; weights: mean {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}], largest "
            f"{self.largest:.3g}; {self.unseen:.2%} of what the policy plays is never shown"
        )


def check_overlap(case: Case) -> Overlap:
    """Support, weights and effective sample size of a log for a policy."""
    w = case.weights
    used, unseen = int((w > 0).sum()), float(case.unseen.mean())
    return Overlap(len(w), used, effective_sample_size(w), float(w.max()), _mean(w), unseen)


def impossible(intervals: dict[str, Interval], low: float = 0.0, high: float = 1.0) -> list[str]:
    """An alarm for each estimate that lies, or whose interval reaches, where no reward can be.

    Parameters
    ----------
    intervals : by name of the estimator.
    low, high : smallest and largest reward that there is; 0 and 1 for clicks.
    """
    alarms = []
    for name, (value, lower, upper) in intervals.items():
        if not low <= value <= high:
            alarms.append(f"{name}: {value:.4g} is impossible, rewards lie in [{low:g}, {high:g}]")
        elif lower < low or upper > high:
            alarms.append(f"{name}: its interval [{lower:.4g}, {upper:.4g}] reaches out of [{low:g}, {high:g}]")
    return alarms


def _mean(values: np.ndarray) -> Interval:
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.inf
    half = ndtri((1 + _ALARM_LEVEL) / 2) * error
    return Interval(float(mean), float(mean - half), float(mean + half))
