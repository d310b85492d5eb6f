"""Off-policy evaluation: what another policy would have earned from a log, and whether the log can
say so.

A policy is a table of probabilities and is never copied out for every row and position:
``(n_arms,)`` is the same everywhere, ``(n_arms, n_positions)`` has a column for each position,
``(n, n_arms)`` a row for each row of the log. A reward model, the reward that is expected of each
arm, has one of the same shapes.

Each estimator takes a `Case`, a log seen through the policy in question, and returns an `Estimate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import binomtest

from .errors import ReclabError, SchemaError
from .metrics import Interval, percentile_interval, resamples

_TOLERANCE = 1e-6  # how far probabilities may be from summing to 1
_ALARM_LEVEL = 0.999  # of the intervals behind an alarm: one false alarm in a thousand
_FEW_ROWS = 100  # an effective sample size below which normal intervals are not to be trusted
_UNSEEN = 0.01  # share of the policy on what the log never shows, above which there is an alarm


@dataclass
class Log:
    """What a policy showed and what it earned; a SchemaError names the row that cannot be."""

    arms: np.ndarray  # (n,) whole numbers, the arm shown: 0 .. n_arms - 1
    rewards: np.ndarray  # (n,) what it earned, such as 1 for a click
    propensities: np.ndarray  # (n,) chance in (0, 1] that the logging policy gave it here
    n_arms: int  # how many could be shown
    positions: np.ndarray | None = None  # (n,) whole numbers from 0; all 0 where left out

    def __post_init__(self):
        self.arms, self.rewards = np.asarray(self.arms), np.asarray(self.rewards, float)
        self.propensities = p = np.asarray(self.propensities, float)
        if self.positions is None:
            self.positions = np.zeros(self.arms.shape, int)
        self.positions = np.asarray(self.positions)
        shapes = [part.shape for part in (self.arms, self.rewards, p, self.positions)]
        if self.arms.ndim != 1 or len(set(shapes)) > 1:
            raise SchemaError(f"a log needs one number a row in each column, got shapes {shapes}")
        if not len(self.arms):
            raise SchemaError("the log is empty: there is nothing to learn from it")
        for name, part in (("arms", self.arms), ("positions", self.positions)):
            if part.dtype.kind not in "iu":
                raise SchemaError(f"{name} must be whole numbers from 0, got {part.dtype}")
        among = (self.arms >= 0) & (self.arms < self.n_arms)
        _check_rows("arm", self.arms, among, f"arms are 0..{self.n_arms - 1}")
        _check_rows("position", self.positions, self.positions >= 0, "count positions from 0")
        given = np.isfinite(self.rewards)
        _check_rows("reward", self.rewards, given, "drop the row or say what it earned")
        possible = (p > 0) & (p <= 1)
        _check_rows("propensity", p, possible, "the chance of what was shown lies in (0, 1]")

    def __len__(self) -> int:
        return len(self.arms)


def _check_rows(name: str, values: np.ndarray, fine: np.ndarray, remedy: str) -> None:
    if not fine.all():
        row = int(fine.argmin())
        raise SchemaError(f"row {row} of the log: {name} {values[row]}; {remedy}")


def read_log(interactions: pd.DataFrame, arms: Sequence[str]) -> Log:
    """A log from a table with a row per impression: ``item_id``, ``positive`` or ``reward``,
    ``propensity``, and perhaps ``position`` from 1.

    ``arms`` : ids of all that could be shown, in the order in which policies number them.
    """
    reward = "reward" if "reward" in interactions else "positive"
    missing = [name for name in ("item_id", reward, "propensity") if name not in interactions]
    if missing:
        needed = "a log says what was shown, with which chance"
        raise SchemaError(f"interactions: no column {', '.join(missing)}; {needed}")
    codes = pd.Index(arms).get_indexer(interactions["item_id"])
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        item = interactions["item_id"].iloc[row]
        raise SchemaError(f"row {row}: item {item!r} is not among the {len(arms)} arms")
    positions = interactions["position"].to_numpy() - 1 if "position" in interactions else None
    return Log(codes, interactions[reward], interactions["propensity"], len(arms), positions)


class Case:
    """A log seen through another policy, and through a reward model if there is one.

    ``weights`` : (n,) probability of the arm shown under the policy, divided by its propensity.

    Raises SchemaError: the policy or the model does not fit the log, or holds no probabilities.
    Raises ReclabError: the log never shows what the policy plays.
    """

    def __init__(self, log: Log, policy: np.ndarray, model: np.ndarray | None = None):
        self.log, self.policy = log, _fit("policy", policy, log)
        _check_probabilities(self.policy, log)
        self.weights = _of_shown(self.policy, log) / log.propensities
        if not self.weights.any():
            raise ReclabError(
                "the log never shows an arm that the policy plays: it says nothing of this policy"
            )
        self.zeros, self.ones = np.zeros(len(log)), np.ones(len(log))
        self.model = None if model is None else _fit("model", model, log)

    @cached_property
    def expected(self) -> np.ndarray:
        """Reward that the model expects of the policy in each row, (n,)."""
        return _mean_over_arms(self.policy, self._needed_model(), self.log)

    @cached_property
    def errors(self) -> np.ndarray:
        """Reward less what the model expects of the arm that was shown, (n,)."""
        return self.log.rewards - _of_shown(self._needed_model(), self.log)

    def _needed_model(self) -> np.ndarray:
        if self.model is None:
            raise ReclabError(
                "this estimator needs a reward model; give one: Case(log, policy, model)"
            )
        return self.model


def _fit(name: str, values, log: Log) -> np.ndarray:
    """A policy or model as a table (n_arms, n_positions), or (n, n_arms): each row has its own."""
    values, positions = np.asarray(values, float), int(log.positions.max()) + 1
    if values.shape == (log.n_arms,):
        values = np.broadcast_to(values[:, None], (log.n_arms, positions))
    is_table = values.ndim == 2 and len(values) == log.n_arms and values.shape[1] >= positions
    if not (is_table or _by_row(values, log)):
        raise SchemaError(
            f"{name} must be ({log.n_arms},), ({log.n_arms}, n_positions >= {positions}) or "
            f"({len(log)}, {log.n_arms}), got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise SchemaError(f"{name} has a value that is missing or not finite")
    return values


def _by_row(values: np.ndarray, log: Log) -> bool:
    return values.shape == (len(log), log.n_arms)


def _of_shown(values: np.ndarray, log: Log) -> np.ndarray:
    if _by_row(values, log):
        return values[np.arange(len(log)), log.arms]
    return values[log.arms, log.positions]


def _mean_over_arms(policy: np.ndarray, values: np.ndarray, log: Log) -> np.ndarray:
    """Sum over arms of policy times values in each row, (n,)."""
    if not (_by_row(policy, log) or _by_row(values, log)):
        positions = min(policy.shape[1], values.shape[1])
        return (policy[:, :positions] * values[:, :positions]).sum(axis=0)[log.positions]
    rows = [part if _by_row(part, log) else part.T[log.positions] for part in (policy, values)]
    return np.einsum("nk,nk->n", *rows)


def _check_probabilities(policy: np.ndarray, log: Log) -> None:
    if not ((policy >= 0) & (policy <= 1)).all():
        raise SchemaError(
            f"a policy holds probabilities in [0, 1], got {policy.min():g} to {policy.max():g}"
        )
    kind, axis = ("row", 1) if _by_row(policy, log) else ("position", 0)
    sums = policy.sum(axis=axis)
    worst = int(np.abs(sums - 1).argmax())
    if abs(sums[worst] - 1) > _TOLERANCE:
        raise SchemaError(
            f"the policy's probabilities must sum to 1 over the arms, at {kind} {worst} they sum "
            f"to {sums[worst]:g}"
        )


@dataclass(frozen=True)
class Estimate:
    """An estimated value, ``mean(direct) + sum(gain) / sum(share)``, kept by rows so that it can
    get an interval.
    """

    direct: np.ndarray  # (n,) what the reward model expects; zeros where there is none
    gain: np.ndarray  # (n,) weighted rewards, or weighted errors of the reward model
    share: np.ndarray  # (n,) weights where the estimator normalises itself, else ones

    @property
    def value(self) -> float:
        return float(self.direct.mean() + self.gain.sum() / self.share.sum())

    def normal(self, level: float = 0.95) -> Interval:
        """The value with its normal interval; a ratio is linearised."""
        if not 0 < level < 1:
            raise ReclabError(f"level must lie between 0 and 1, got {level}")
        apart = self.gain - self.gain.sum() / self.share.sum() * self.share
        rows = self.direct + apart / self.share.mean()
        half = ndtri((1 + level) / 2) * rows.std(ddof=1) / np.sqrt(len(rows))
        return Interval(self.value, float(self.value - half), float(self.value + half))


def ips(case: Case) -> Estimate:
    """Inverse propensity scoring: mean of weight times reward. Unbiased where the log can show all
    that is played. Source: Horvitz and Thompson (1952); Strehl et al. (2010), arXiv 1003.0120.
    """
    return Estimate(case.zeros, case.weights * case.log.rewards, case.ones)


def clipped_ips(case: Case, most: float = 10.0) -> Estimate:
    """IPS with weights cut to ``most``, above 0: less spread, and too low wherever a cut row earned
    something. Source: Ionides (2008), doi 10.1198/106186008X320456.
    """
    if not most > 0:
        raise ReclabError(f"most, the largest weight kept, must be above 0, got {most}")
    return Estimate(case.zeros, np.minimum(case.weights, most) * case.log.rewards, case.ones)


def snips(case: Case) -> Estimate:
    """Self-normalised IPS, divided by the sum of the weights: it never leaves the range of the
    rewards seen. Source: Swaminathan and Joachims, NeurIPS 2015.
    """
    return Estimate(case.zeros, case.weights * case.log.rewards, case.weights)


def dm(case: Case) -> Estimate:
    """Direct method: believe the reward model. Its interval knows nothing of the model's bias.
    Source: Dudik et al., Statistical Science 2014, arXiv 1503.02834.
    """
    return Estimate(case.expected, case.zeros, case.ones)


def dr(case: Case) -> Estimate:
    """Doubly robust: the model's value plus its weighted errors. Unbiased if the propensities or
    the model are right. Source: as `dm`.
    """
    return Estimate(case.expected, case.weights * case.errors, case.ones)


def sndr(case: Case) -> Estimate:
    """Doubly robust with its correction divided by the sum of the weights.
    Source: Kallus and Uehara, NeurIPS 2019, arXiv 1906.03735.
    """
    return Estimate(case.expected, case.weights * case.errors, case.weights)


def switch_dr(case: Case, tau: float = 10.0) -> Estimate:
    """Doubly robust, but in rows whose weight is above ``tau``, at least 0, the model alone is
    believed. Source: Wang, Agarwal and Dudik, ICML 2017, arXiv 1612.01205.
    """
    if not tau >= 0:
        raise ReclabError(f"tau, the largest weight to trust, must be at least 0, got {tau}")
    trusted = np.where(case.weights <= tau, case.weights, 0.0)
    return Estimate(case.expected, trusted * case.errors, case.ones)


def dros(case: Case, shrinkage: float = 100.0) -> Estimate:
    """Doubly robust with weights shrunk to ``shrinkage * w / (w**2 + shrinkage)``: towards 0 it is
    DM, towards infinity DR. Source: Su et al., ICML 2020, arXiv 1907.09623.
    """
    if not 0 < shrinkage < np.inf:
        raise ReclabError(f"shrinkage must be a finite number above 0, got {shrinkage}; or use dr")
    shrunk = shrinkage * case.weights / (case.weights**2 + shrinkage)
    return Estimate(case.expected, shrunk * case.errors, case.ones)


def replay(case: Case) -> Estimate:
    """Mean reward of the rows in which a policy without chance would have shown the same arm.

    Raises ReclabError: the policy draws, or the log did not show all arms alike: the rows that
        match would not be typical.
    Source: Li et al., WSDM 2011, arXiv 1003.5956.
    """
    if not np.isin(case.policy, (0, 1)).all():
        raise ReclabError(
            "replay needs a policy without chance, each probability 0 or 1; use snips for this one"
        )
    low, high = case.log.propensities.min(), case.log.propensities.max()
    if not np.allclose([low, high], 1 / case.log.n_arms, rtol=1e-6):
        raise ReclabError(
            f"replay needs a log that showed all arms alike, got propensities {low:g} to {high:g}"
        )
    matches = (case.weights > 0).astype(float)
    return Estimate(case.zeros, matches * case.log.rewards, matches)


def estimate_all(case: Case) -> dict[str, Estimate]:
    """Every estimator but replay, by name; those that need a reward model where there is one."""
    found = {"IPS": ips(case), "clipped IPS": clipped_ips(case), "SNIPS": snips(case)}
    if case.model is None:
        return found
    found |= {"DM": dm(case), "DR": dr(case), "SNDR": sndr(case)}
    return found | {"Switch-DR": switch_dr(case), "DRos": dros(case)}


def bootstrap(
    estimates: dict[str, Estimate], n: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of estimates of one log, by name: rows are redrawn n times,
    the same ones for all estimates, and ratios formed anew.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    sizes = {len(estimate.gain) for estimate in estimates.values()}
    if len(sizes) != 1:
        raise SchemaError(
            f"needs estimates of one log, got {len(estimates)} of {sorted(sizes)} rows"
        )
    size = sizes.pop()
    # estimates share columns: each is redrawn once
    columns = {id(part): part for e in estimates.values() for part in (e.direct, e.gain, e.share)}
    table = np.stack(list(columns.values()), axis=1)
    totals = [
        np.bincount(drawn, minlength=size) @ table
        for draws in resamples(size, n, seed)
        for drawn in draws
    ]
    total = dict(zip(columns, np.transpose(totals), strict=True))
    intervals = {}
    for name, e in estimates.items():
        # a draw in which every weight is 0 has no value
        with np.errstate(divide="ignore", invalid="ignore"):
            samples = total[id(e.direct)] / size + total[id(e.gain)] / total[id(e.share)]
        intervals[name] = percentile_interval(e.value, samples, level)
    return intervals


def clopper_pearson(clicks: int, shown: int, level: float = 0.95) -> Interval:
    """A click rate with its exact interval, which covers at least ``level`` of the time, also for
    very few clicks. Source: Clopper and Pearson, Biometrika 1934, doi 10.1093/biomet/26.4.404.
    """
    found = binomtest(clicks, shown).proportion_ci(level)
    return Interval(clicks / shown, float(found.low), float(found.high))


def effective_sample_size(weights: np.ndarray) -> float:
    """How many equally weighted rows would say as much: ``sum(w)**2 / sum(w**2)`` of weights of at
    least 0. Source: Kish, Survey Sampling, 1965, section 11.7.
    """
    weights = np.asarray(weights, float)
    if not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
        raise ReclabError("weights must be finite numbers of at least 0, and not all of them 0")
    return float(weights.sum() ** 2 / (weights**2).sum())


@dataclass(frozen=True)
class Propensities:
    """What the propensities of a log say about themselves.

    ``sums`` : (n_positions,) the harmonic mean of an arm's propensities, summed over the arms shown
    at a position. About 1; clearly below it where rows of an arm are missing, a little above it
    where arms have few rows.
    """

    smallest: float
    largest: float
    mean_inverse: Interval  # of 1 / propensity: n_arms if each arm can be shown everywhere
    sums: np.ndarray
    alarms: list[str]  # what does not add up, one line each


def check_propensities(log: Log) -> Propensities:
    """Range, sums and mean inverse of a log's propensities; the last two are known beforehand."""
    p, inverse = log.propensities, 1 / log.propensities
    shape = (log.n_arms, int(log.positions.max()) + 1)
    counts, totals = np.zeros((2, *shape))
    np.add.at(counts, (log.arms, log.positions), 1)
    np.add.at(totals, (log.arms, log.positions), inverse)
    sums = np.divide(counts, totals, out=np.zeros(shape), where=counts > 0).sum(axis=0)
    mean, alarms = _mean(inverse), []
    if not mean.low * (1 - 1e-9) <= log.n_arms <= mean.high * (1 + 1e-9):
        alarms.append(
            f"the mean of 1 / propensity is {mean.value:.4g}, not the number of arms, {log.n_arms}"
        )
    return Propensities(float(p.min()), float(p.max()), mean, sums, alarms)


@dataclass(frozen=True)
class Overlap:
    """How much of a log speaks about a policy."""

    rows: int
    used: int  # rows whose arm the policy plays at all
    effective: float  # effective sample size of the weights
    largest: float  # weight
    mean_weight: Interval  # 1 if policy, propensities and rows belong together
    unseen: float  # share of the policy on arms that the log never shows at that position
    alarms: list[str]  # what stands against an estimate, one line each

    def __str__(self) -> str:
        mean = self.mean_weight
        return (
            f"{self.rows:,} rows, {self.used:,} of an arm that the policy plays; "
            f"effective sample size {self.effective:,.0f}; "
            f"weights: mean {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}], "
            f"largest {self.largest:.3g}; {self.unseen:.2%} of what the policy plays is never shown"
        )


def check_overlap(case: Case) -> Overlap:
    """Support, weights and effective sample size of a log for a policy."""
    log, weights = case.log, case.weights
    never = np.ones((log.n_arms, log.positions.max() + 1))
    never[log.arms, log.positions] = 0
    unseen = float(_mean_over_arms(case.policy, never, log).mean())
    effective, mean, alarms = effective_sample_size(weights), _mean(weights), []
    if not mean.low <= 1 <= mean.high:
        alarms.append(
            f"the mean weight is {mean.value:.3g}, not 1: propensities or policy are wrong"
        )
    if unseen > _UNSEEN:
        alarms.append(
            f"{unseen:.1%} of what the policy plays is never shown: nothing is known of its reward"
        )
    if effective < _FEW_ROWS:
        alarms.append(
            f"the {len(log):,} rows say as much as {effective:.0f}: do not trust normal intervals"
        )
    used, largest = int((weights > 0).sum()), float(weights.max())
    return Overlap(len(log), used, effective, largest, mean, unseen, alarms)


def impossible(intervals: dict[str, Interval], low: float = 0.0, high: float = 1.0) -> list[str]:
    """An alarm for each estimate that lies, or whose interval reaches, where no reward can be.

    ``low, high`` : smallest and largest reward that there is; 0 and 1 for clicks.
    """
    alarms = []
    for name, (value, lower, upper) in intervals.items():
        if not low <= value <= high:
            alarms.append(f"{name}: {value:.4g} is impossible, rewards lie in [{low:g}, {high:g}]")
        elif lower < low or upper > high:
            reach = f"[{lower:.4g}, {upper:.4g}] reaches out of [{low:g}, {high:g}]"
            alarms.append(f"{name}: its interval {reach}")
    return alarms


def _mean(values: np.ndarray) -> Interval:
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    half = ndtri((1 + _ALARM_LEVEL) / 2) * error
    return Interval(float(mean), float(mean - half), float(mean + half))
