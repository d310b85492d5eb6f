"""What another policy would have earned from the same log: estimators and their intervals.

Each estimator takes a `Case`, a log seen through the policy in question, and returns an `Estimate`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from .errors import ReclabError, SchemaError
from .intervals import Interval, percentile_interval, resamples
from .logged import Case


@dataclass(frozen=True)
class Estimate:
    """An estimated value, ``mean(direct) + sum(gain) / sum(share)``, kept by rows so that it can get an interval.

    Attributes
    ----------
    direct : (n,) what the reward model expects; zeros where there is none.
    gain : (n,) weighted rewards, or weighted errors of the reward model.
    share : (n,) what the gains are divided by: weights where the estimator normalises itself, else ones.
    """

    direct: np.ndarray
    gain: np.ndarray
    share: np.ndarray

    @property
    def value(self) -> float:
        return float(self.direct.mean() + self.gain.sum() / self.share.sum())

    def normal(self, level: float = 0.95) -> Interval:
        """The value with its normal interval; a ratio is linearised.

        Raises
        ------
        ReclabError : ``level`` is not between 0 and 1, or there is only one row.
        """
        if not 0 < level < 1 or len(self.gain) < 2:
            raise ReclabError(f"needs a level between 0 and 1 and 2 rows or more, got {level} and {len(self.gain)}")
        rows = self.direct + (self.gain - self.gain.sum() / self.share.sum() * self.share) / self.share.mean()
        half = ndtri((1 + level) / 2) * rows.std(ddof=1) / np.sqrt(len(rows))
        return Interval(self.value, float(self.value - half), float(self.value + half))


def ips(case: Case) -> Estimate:
    """Inverse propensity scoring: mean of weight times reward. Unbiased where the log can show all that is played.

    Source: Horvitz and Thompson (1952); Strehl et al. (2010), arXiv 1003.0120.
    """
    return Estimate(case.zeros, case.weights * case.log.rewards, case.ones)


def clipped_ips(case: Case, most: float = 10.0) -> Estimate:
    """IPS with weights cut to ``most``: less spread, and too low wherever a cut row earned something.

    Raises
    ------
    ReclabError : ``most`` is not above 0.

    Source: Ionides, Journal of Computational and Graphical Statistics 2008, doi 10.1198/106186008X320456.
    """
    if not most > 0:
        raise ReclabError(f"most, the largest weight kept, must be above 0, got {most}")
    return Estimate(case.zeros, np.minimum(case.weights, most) * case.log.rewards, case.ones)


def snips(case: Case) -> Estimate:
    """Self-normalised IPS, divided by the sum of the weights: it never leaves the range of the rewards seen.

    Source: Swaminathan and Joachims, NeurIPS 2015.
    """
    return Estimate(case.zeros, case.weights * case.log.rewards, case.weights)


def dm(case: Case) -> Estimate:
    """Direct method: believe the reward model. Its interval knows nothing of the model's bias.

    Raises
    ------
    ReclabError : the case has no reward model.

    Source: Dudik et al., Statistical Science 2014, arXiv 1503.02834.
    """
    return Estimate(case.expected, case.zeros, case.ones)


def dr(case: Case) -> Estimate:
    """Doubly robust: the model's value plus its weighted errors. Unbiased if the propensities or the model are right.

    Raises
    ------
    ReclabError : the case has no reward model.

    Source: Dudik et al., Statistical Science 2014, arXiv 1503.02834.
    """
    return Estimate(case.expected, case.weights * case.errors, case.ones)


def sndr(case: Case) -> Estimate:
    """Doubly robust with its correction divided by the sum of the weights.

    Raises
    ------
    ReclabError : the case has no reward model.

    Source: Kallus and Uehara, NeurIPS 2019, arXiv 1906.03735.
    """
    return Estimate(case.expected, case.weights * case.errors, case.weights)


def switch_dr(case: Case, tau: float = 10.0) -> Estimate:
    """Doubly robust, but in rows whose weight is above ``tau`` the model alone is believed.

    Raises
    ------
    ReclabError : ``tau`` is below 0, or the case has no reward model.

    Source: Wang, Agarwal and Dudik, ICML 2017, arXiv 1612.01205.
    """
    if not tau >= 0:
        raise ReclabError(f"tau, the largest weight to trust, must be at least 0, got {tau}")
    return Estimate(case.expected, np.where(case.weights <= tau, case.weights, 0.0) * case.errors, case.ones)


def dros(case: Case, shrinkage: float = 100.0) -> Estimate:
    """Doubly robust with weights shrunk to ``shrinkage * w / (w**2 + shrinkage)``: at 0 it is DM, towards infinity DR.

    Raises
    ------
    ReclabError : ``shrinkage`` is below 0 or not finite, or the case has no reward model.

    Source: Su et al., ICML 2020, arXiv 1907.09623.
    """
    if not 0 <= shrinkage < np.inf:
        raise ReclabError(f"shrinkage must be a finite number of at least 0, got {shrinkage}; for none, use dr")
    weights = case.weights
    kept = shrinkage * weights / np.where(weights > 0, weights**2 + shrinkage, 1)  # 0 / 0 where both are 0
    return Estimate(case.expected, kept * case.errors, case.ones)


def replay(case: Case) -> Estimate:
    """Mean reward of the rows in which a policy without chance would have shown the same arm.

    Raises
    ------
    ReclabError : the policy draws, or the log did not show all arms alike: the rows that match would not be typical.

    Source: Li et al., WSDM 2011, arXiv 1003.5956.
    """
    if not np.isin(case.policy, (0, 1)).all():
        raise ReclabError("replay needs a policy without chance, each probability 0 or 1; use snips for this one")
    low, high = case.log.propensities.min(), case.log.propensities.max()
    if not np.allclose([low, high], 1 / case.log.n_arms, rtol=1e-6):
        raise ReclabError(f"replay needs a log that showed all arms alike, got propensities {low:g} to {high:g}")
    matches = (case.weights > 0).astype(float)
    return Estimate(case.zeros, matches * case.log.rewards, matches)


def estimate_all(case: Case, *, most: float = 10.0, tau: float = 10.0, shrinkage: float = 100.0) -> dict[str, Estimate]:
    """Every estimator but replay, by name; those that need a reward model only where there is one.

    Raises
    ------
    ReclabError : see `clipped_ips`, `switch_dr` and `dros`.
    """
    found = {"IPS": ips(case), "clipped IPS": clipped_ips(case, most), "SNIPS": snips(case)}
    if case.model is None:
        return found
    found |= {"DM": dm(case), "DR": dr(case), "SNDR": sndr(case)}
    return found | {"Switch-DR": switch_dr(case, tau), "DRos": dros(case, shrinkage)}


def bootstrap(estimates: dict[str, Estimate], n: int = 1000, seed: int = 0, level: float = 0.95) -> dict[str, Interval]:
    """Percentile bootstrap intervals: rows are redrawn, the same ones for all estimates, and ratios formed anew.

    Parameters
    ----------
    estimates : by name, all of one log.
    n, seed, level : as `intervals.bootstrap_interval`.

    Raises
    ------
    SchemaError : no estimates, or of different numbers of rows.
    ReclabError : ``n`` or ``level`` out of range.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    sizes = {len(estimate.gain) for estimate in estimates.values()}
    if len(sizes) != 1:
        raise SchemaError(f"needs estimates of one log, got {len(estimates)} of {sorted(sizes)} rows")
    size = sizes.pop()
    columns = {id(part): part for e in estimates.values() for part in (e.direct, e.gain, e.share)}
    table = np.stack(list(columns.values()), axis=1)
    totals = [np.bincount(drawn, minlength=size) @ table for draws in resamples(size, n, seed) for drawn in draws]
    total = dict(zip(columns, np.transpose(totals), strict=True))
    intervals = {}
    for name, e in estimates.items():
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw in which every weight is 0 has no value
            samples = total[id(e.direct)] / size + total[id(e.gain)] / total[id(e.share)]
        intervals[name] = percentile_interval(e.value, samples, level)
    return intervals
