"""Off-policy evaluation: what another policy would have earned from a log, and whether the log can
say so.

A policy is a table of probabilities and is never copied out for every row and position:
``(n_arms,)`` is the same everywhere, ``(n_arms, n_positions)`` has a column for each position,
``(n, n_arms)`` a row for each row of the log. A reward model, the reward that is expected of each
arm, has one of the same shapes.

Each estimator takes a `Case`, a log seen through the policy in question, and returns an `Estimate`;
those that need a reward model raise a ReclabError where the case has none. The checks drop and mend
nothing: what is wrong is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest

from .errors import ReclabError, SchemaError
from .metrics import Interval, percentile_interval, resamples

if TYPE_CHECKING:
    import pandas as pd

_TOLERANCE = 1e-6  # how far probabilities may be from summing to 1
_ALARM_LEVEL = 0.999  # of the intervals behind an alarm: one false alarm in a thousand
_FEW_ROWS = 100  # an effective sample size below which normal intervals are not to be trusted
# share of the policy's probability on what the log never shows, above which there is an alarm
_UNSEEN = 0.01


@dataclass
class Log:
    """What a policy showed and what it earned; checked when it is made.

    Attributes
    ----------
    arms : (n,) whole numbers, the arm shown: 0 .. n_arms - 1.
    rewards : (n,) what it earned, such as 1 for a click.
    propensities : (n,) probability with which the logging policy showed this arm here: above 0, at
        most 1.
    n_arms : how many arms could be shown.
    positions : (n,) whole numbers from 0, the place on the page; all 0 where left out.

    Raises SchemaError: no rows, unequal lengths, an unknown arm, a propensity that is missing, 0 or
        above 1, a reward that is not finite; names the row.
    """

    arms: np.ndarray
    rewards: np.ndarray
    propensities: np.ndarray
    n_arms: int
    positions: np.ndarray | None = None

    def __post_init__(self):
        self.arms = np.asarray(self.arms)
        self.rewards, self.propensities = (
            np.asarray(self.rewards, float),
            np.asarray(self.propensities, float),
        )
        self.positions = (
            np.zeros(self.arms.shape, int) if self.positions is None else np.asarray(self.positions)
        )
        self._check_lengths()
        last = self.n_arms - 1
        _check_rows(
            self.arms, (self.arms < 0) | (self.arms > last), f"arm {{}}, but arms are 0..{last}"
        )
        _check_rows(self.positions, self.positions < 0, "position {}; count positions from 0")
        _check_rows(
            self.rewards,
            ~np.isfinite(self.rewards),
            "reward {}; drop the row or say what it earned",
        )
        p = self.propensities
        _check_rows(
            p,
            np.isnan(p),
            "no propensity; without the chance of what was shown it cannot be weighed",
        )
        _check_rows(
            p,
            p == 0,
            "propensity 0, yet it was shown; the log and its propensities do not belong together",
        )
        _check_rows(p, (p < 0) | (p > 1), "propensity {}; a probability lies in (0, 1]")

    def __len__(self) -> int:
        return len(self.arms)

    def _check_lengths(self) -> None:
        parts = {"arms": self.arms, "rewards": self.rewards, "propensities": self.propensities}
        parts["positions"] = self.positions
        shapes = {name: part.shape for name, part in parts.items()}
        if self.arms.ndim != 1 or len(set(shapes.values())) > 1:
            raise SchemaError(f"a log needs one number a row in each column, got {shapes}")
        if not len(self.arms):
            raise SchemaError("the log is empty: there is nothing to learn from it")
        for name in ("arms", "positions"):
            if parts[name].dtype.kind not in "iu":
                raise SchemaError(
                    f"{name} must be whole numbers, got {parts[name].dtype}; number the arms from 0"
                )


def read_log(interactions: pd.DataFrame, arms: Sequence[str]) -> Log:
    """A log from a table with ``item_id``, ``positive`` or ``reward``, ``propensity``, and perhaps
    ``position`` from 1.

    Parameters
    ----------
    interactions : one row an impression.
    arms : ids of all that could be shown, in the order in which policies number them.

    Raises SchemaError: a column is missing, an item is not among ``arms``, or the rows are no log
        (see `Log`).
    """
    import pandas as pd

    reward = "reward" if "reward" in interactions else "positive"
    missing = [name for name in ("item_id", reward, "propensity") if name not in interactions]
    if missing:
        raise SchemaError(
            f"interactions: no column {', '.join(missing)}; a log says what was shown, with which "
            "chance"
        )
    codes = pd.Index(arms).get_indexer(interactions["item_id"])
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        raise SchemaError(
            f"row {row}: item {interactions['item_id'].iloc[row]!r} is not among the {len(arms)} "
            "arms"
        )
    positions = interactions["position"].to_numpy() - 1 if "position" in interactions else None
    return Log(codes, interactions[reward], interactions["propensity"], len(arms), positions)


class Case:
    """A log seen through another policy, and through a reward model if there is one.

    Attributes
    ----------
    log, policy, model : as given.
    weights : (n,) probability of the arm shown under the policy, divided by its propensity.
    """

    def __init__(self, log: Log, policy: np.ndarray, model: np.ndarray | None = None):
        """Check the policy and the model against the log, and weigh its rows.

        Raises SchemaError: shapes or positions do not fit; a probability lies outside [0, 1] or
            they do not sum to 1.
        Raises ReclabError: the log never shows what the policy plays, so that it says nothing about
            it.
        """
        self.log, self.policy = log, _fit("policy", policy, log)
        _check_probabilities(self.policy, log)
        self.policy_of_shown = _of_shown(self.policy, log)
        self.weights = self.policy_of_shown / log.propensities
        if not self.weights.any():
            raise ReclabError(
                "the log never shows an arm that the policy plays: it says nothing about this "
                "policy"
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

    @cached_property
    def unseen(self) -> np.ndarray:
        """Probability in each row that the policy plays an arm that the log never shows at that
        position, (n,).
        """
        never = np.ones((self.log.n_arms, self.log.positions.max() + 1))
        never[self.log.arms, self.log.positions] = 0
        return _mean_over_arms(self.policy, never, self.log)

    def _needed_model(self) -> np.ndarray:
        if self.model is None:
            raise ReclabError(
                "this estimator needs a reward model; give one: Case(log, policy, model)"
            )
        return self.model


def _fit(name: str, values, log: Log) -> np.ndarray:
    """A policy or model as a table (n_arms, n_positions), or as (n, n_arms) where each row of the
    log has its own.
    """
    values, positions = np.asarray(values, float), int(log.positions.max()) + 1
    if values.shape == (log.n_arms,):
        values = np.broadcast_to(values[:, None], (log.n_arms, positions))
    is_table = values.ndim == 2 and len(values) == log.n_arms and values.shape[1] >= positions
    if not (is_table or _by_row(values, log)):
        raise SchemaError(
            f"{name} must be ({log.n_arms},), ({log.n_arms}, n_positions >= {positions}) or "
            f"({len(log)}, {log.n_arms}) "
            f"for a log of {len(log)} rows, {log.n_arms} arms and {positions} positions, got "
            f"{values.shape}"
        )
    if not np.isfinite(values).all():
        raise SchemaError(f"{name} has a value that is missing or not finite")
    return values


def _by_row(values: np.ndarray, log: Log) -> bool:
    return values.shape == (len(log), log.n_arms)


def _of_shown(values: np.ndarray, log: Log) -> np.ndarray:
    return (
        values[np.arange(len(log)), log.arms]
        if _by_row(values, log)
        else values[log.arms, log.positions]
    )


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
    sums = policy.sum(axis=1 if _by_row(policy, log) else 0)
    worst = int(np.abs(sums - 1).argmax())
    if abs(sums[worst] - 1) > _TOLERANCE:
        kind = "row" if _by_row(policy, log) else "position"
        raise SchemaError(
            f"the policy's probabilities must sum to 1 over the arms, at {kind} {worst} they sum "
            f"to {sums[worst]:g}"
        )


def _check_rows(values: np.ndarray, bad: np.ndarray, message: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise SchemaError(f"row {row} of the log: " + message.format(values[row]))


@dataclass(frozen=True)
class Estimate:
    """An estimated value, ``mean(direct) + sum(gain) / sum(share)``, kept by rows so that it can
    get an interval.

    Attributes
    ----------
    direct : (n,) what the reward model expects; zeros where there is none.
    gain : (n,) weighted rewards, or weighted errors of the reward model.
    share : (n,) what the gains are divided by: weights where the estimator normalises itself, else
        ones.
    """

    direct: np.ndarray
    gain: np.ndarray
    share: np.ndarray

    @property
    def value(self) -> float:
        return float(self.direct.mean() + self.gain.sum() / self.share.sum())

    def normal(self, level: float = 0.95) -> Interval:
        """The value with its normal interval; a ratio is linearised.

        Raises ReclabError: ``level`` is not between 0 and 1, or there is only one row.
        """
        if not 0 < level < 1 or len(self.gain) < 2:
            raise ReclabError(
                f"needs a level between 0 and 1 and 2 rows or more, got {level} and "
                f"{len(self.gain)}"
            )
        rows = (
            self.direct
            + (self.gain - self.gain.sum() / self.share.sum() * self.share) / self.share.mean()
        )
        half = ndtri((1 + level) / 2) * rows.std(ddof=1) / np.sqrt(len(rows))
        return Interval(self.value, float(self.value - half), float(self.value + half))


def ips(case: Case) -> Estimate:
    """Inverse propensity scoring: mean of weight times reward. Unbiased where the log can show all
    that is played.

    Source: Horvitz and Thompson (1952); Strehl et al. (2010), arXiv 1003.0120.
    """
    return Estimate(case.zeros, case.weights * case.log.rewards, case.ones)


def clipped_ips(case: Case, most: float = 10.0) -> Estimate:
    """IPS with weights cut to ``most``: less spread, and too low wherever a cut row earned
    something.

    Raises ReclabError: ``most`` is not above 0.

    Source: Ionides, Journal of Computational and Graphical Statistics 2008, doi
        10.1198/106186008X320456.
    """
    if not most > 0:
        raise ReclabError(f"most, the largest weight kept, must be above 0, got {most}")
    return Estimate(case.zeros, np.minimum(case.weights, most) * case.log.rewards, case.ones)


def snips(case: Case) -> Estimate:
    """Self-normalised IPS, divided by the sum of the weights: it never leaves the range of the
    rewards seen.

    Source: Swaminathan and Joachims, NeurIPS 2015.
    """
    return Estimate(case.zeros, case.weights * case.log.rewards, case.weights)


def dm(case: Case) -> Estimate:
    """Direct method: believe the reward model. Its interval knows nothing of the model's bias.

    Source: Dudik et al., Statistical Science 2014, arXiv 1503.02834.
    """
    return Estimate(case.expected, case.zeros, case.ones)


def dr(case: Case) -> Estimate:
    """Doubly robust: the model's value plus its weighted errors. Unbiased if the propensities or
    the model are right.

    Source: Dudik et al., Statistical Science 2014, arXiv 1503.02834.
    """
    return Estimate(case.expected, case.weights * case.errors, case.ones)


def sndr(case: Case) -> Estimate:
    """Doubly robust with its correction divided by the sum of the weights.

    Source: Kallus and Uehara, NeurIPS 2019, arXiv 1906.03735.
    """
    return Estimate(case.expected, case.weights * case.errors, case.weights)


def switch_dr(case: Case, tau: float = 10.0) -> Estimate:
    """Doubly robust, but in rows whose weight is above ``tau`` the model alone is believed.

    Raises ReclabError: ``tau`` is below 0.

    Source: Wang, Agarwal and Dudik, ICML 2017, arXiv 1612.01205.
    """
    if not tau >= 0:
        raise ReclabError(f"tau, the largest weight to trust, must be at least 0, got {tau}")
    return Estimate(
        case.expected, np.where(case.weights <= tau, case.weights, 0.0) * case.errors, case.ones
    )


def dros(case: Case, shrinkage: float = 100.0) -> Estimate:
    """Doubly robust with weights shrunk to ``shrinkage * w / (w**2 + shrinkage)``: at 0 it is DM,
    towards infinity DR.

    Raises ReclabError: ``shrinkage`` is below 0 or not finite.

    Source: Su et al., ICML 2020, arXiv 1907.09623.
    """
    if not 0 <= shrinkage < np.inf:
        raise ReclabError(
            f"shrinkage must be a finite number of at least 0, got {shrinkage}; for none, use dr"
        )
    weights = case.weights
    kept = (
        shrinkage * weights / np.where(weights > 0, weights**2 + shrinkage, 1)
    )  # 0 / 0 where both are 0
    return Estimate(case.expected, kept * case.errors, case.ones)


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


def estimate_all(
    case: Case, *, most: float = 10.0, tau: float = 10.0, shrinkage: float = 100.0
) -> dict[str, Estimate]:
    """Every estimator but replay, by name; those that need a reward model only where there is one.

    Raises ReclabError: see `clipped_ips`, `switch_dr` and `dros`.
    """
    found = {"IPS": ips(case), "clipped IPS": clipped_ips(case, most), "SNIPS": snips(case)}
    if case.model is None:
        return found
    found |= {"DM": dm(case), "DR": dr(case), "SNDR": sndr(case)}
    return found | {"Switch-DR": switch_dr(case, tau), "DRos": dros(case, shrinkage)}


def bootstrap(
    estimates: dict[str, Estimate], n: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Percentile bootstrap intervals: rows are redrawn, the same ones for all estimates, and ratios
    formed anew.

    Parameters
    ----------
    estimates : by name, all of one log.
    n, seed, level : as `intervals.bootstrap_interval`.

    Raises SchemaError: no estimates, or of different numbers of rows.
    Raises ReclabError: ``n`` or ``level`` out of range.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    sizes = {len(estimate.gain) for estimate in estimates.values()}
    if len(sizes) != 1:
        raise SchemaError(
            f"needs estimates of one log, got {len(estimates)} of {sorted(sizes)} rows"
        )
    size = sizes.pop()
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
        with np.errstate(
            divide="ignore", invalid="ignore"
        ):  # a draw in which every weight is 0 has no value
            samples = total[id(e.direct)] / size + total[id(e.gain)] / total[id(e.share)]
        intervals[name] = percentile_interval(e.value, samples, level)
    return intervals


def clopper_pearson(clicks: int, shown: int, level: float = 0.95) -> Interval:
    """A click rate with its exact interval, which covers at least ``level`` of the time, also for
    very few clicks.

    Raises ReclabError: more clicks than shown, nothing shown, or ``level`` not between 0 and 1.

    Source: Clopper and Pearson, Biometrika 1934, doi 10.1093/biomet/26.4.404.
    """
    if not 0 <= clicks <= shown or shown < 1 or not 0 < level < 1:
        raise ReclabError(
            f"needs 0 <= clicks <= shown and a level in (0, 1), got {clicks}, {shown} and {level}"
        )
    found = binomtest(clicks, shown).proportion_ci(level)
    return Interval(clicks / shown, float(found.low), float(found.high))


def effective_sample_size(weights: np.ndarray) -> float:
    """How many equally weighted rows would say as much: ``sum(w)**2 / sum(w**2)``.

    Raises ReclabError: a weight is below 0 or not finite, or all are 0.

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
    mean_inverse : mean of 1 / propensity with its interval; n_arms if each arm can be shown
        everywhere.
    n_arms : of the log.
    sums : (n_positions,) the harmonic mean of an arm's propensities, summed over the arms shown at
        a position. About 1; clearly below it where rows of an arm are missing, a little above it
        where arms have few rows.
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
        return [
            f"the mean of 1 / propensity is {self.mean_inverse.value:.4g}, not the number of arms, "
            f"{self.n_arms}"
        ]


def check_propensities(log: Log) -> Propensities:
    """Range, sum and mean inverse of a log's propensities. Two of them have to come out right
    whatever was shown.
    """
    inverse = 1 / log.propensities
    shape = (log.n_arms, int(log.positions.max()) + 1)
    cells = np.ravel_multi_index((log.arms, log.positions), shape)
    counts, totals = (
        np.bincount(cells, w, minlength=np.prod(shape)).reshape(shape) for w in (None, inverse)
    )
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
            found.append(
                f"the mean weight is {self.mean_weight.value:.3g}, not 1: propensities or policy "
                "are wrong"
            )
        if self.unseen > _UNSEEN:
            found.append(
                f"{self.unseen:.1%} of what the policy plays is never shown: nothing is known of "
                "its reward"
            )
        if self.effective < _FEW_ROWS:
            found.append(
                f"the {self.rows:,} rows say as much as {self.effective:.0f}: do not trust normal "
                "intervals"
            )
        return found

    def __str__(self) -> str:
        mean = self.mean_weight
        return (
            f"{self.rows:,} rows, {self.used:,} of an arm that the policy plays; effective sample "
            "size "
            f"{self.effective:,.0f}; weights: mean {mean.value:.3f} [{mean.low:.3f}, "
            f"{mean.high:.3f}], largest "
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
            alarms.append(
                f"{name}: its interval [{lower:.4g}, {upper:.4g}] reaches out of [{low:g}, "
                f"{high:g}]"
            )
    return alarms


def _mean(values: np.ndarray) -> Interval:
    mean, error = (
        values.mean(),
        values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.inf,
    )
    half = ndtri((1 + _ALARM_LEVEL) / 2) * error
    return Interval(float(mean), float(mean - half), float(mean + half))
