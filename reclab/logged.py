"""Logged feedback: which arm was shown, with which chance, what it earned, and how another policy sees the same rows.

A policy is a table of probabilities and is never copied out for every row and position: ``(n_arms,)`` is the same
everywhere, ``(n_arms, n_positions)`` has a column for each position, ``(n, n_arms)`` a row for each row of the log.
A reward model, the reward that is expected of each arm, has one of the same shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .errors import ReclabError, SchemaError

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-6  # how far probabilities may be from summing to 1


@dataclass
class Log:
    """What a policy showed and what it earned; checked when it is made.

    Attributes
    ----------
    arms : (n,) whole numbers, the arm shown: 0 .. n_arms - 1.
    rewards : (n,) what it earned, such as 1 for a click.
    propensities : (n,) probability with which the logging policy showed this arm here: above 0, at most 1.
    n_arms : how many arms could be shown.
    positions : (n,) whole numbers from 0, the place on the page; all 0 where left out.

    Raises
    ------
    SchemaError : no rows, unequal lengths, an unknown arm, a propensity that is missing, 0 or above 1, a reward that is
        not finite; names the row.
    """

    arms: np.ndarray
    rewards: np.ndarray
    propensities: np.ndarray
    n_arms: int
    positions: np.ndarray | None = None

    def __post_init__(self):
        self.arms = np.asarray(self.arms)
        self.rewards, self.propensities = np.asarray(self.rewards, float), np.asarray(self.propensities, float)
        self.positions = np.zeros(self.arms.shape, int) if self.positions is None else np.asarray(self.positions)
        self._check_lengths()
        last = self.n_arms - 1
        _check_rows(self.arms, (self.arms < 0) | (self.arms > last), f"arm {{}}, but arms are 0..{last}")
        _check_rows(self.positions, self.positions < 0, "position {}; count positions from 0")
        _check_rows(self.rewards, ~np.isfinite(self.rewards), "reward {}; drop the row or say what it earned")
        p = self.propensities
        _check_rows(p, np.isnan(p), "no propensity; without the chance of what was shown it cannot be weighed")
        _check_rows(p, p == 0, "propensity 0, yet it was shown; the log and its propensities do not belong together")
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
                raise SchemaError(f"{name} must be whole numbers, got {parts[name].dtype}; number the arms from 0")


def read_log(interactions: pd.DataFrame, arms: Sequence[str]) -> Log:
    """A log from a table with ``item_id``, ``positive`` or ``reward``, ``propensity``, and perhaps ``position`` from 1.

    Parameters
    ----------
    interactions : one row an impression.
    arms : ids of all that could be shown, in the order in which policies number them.

    Raises
    ------
    SchemaError : a column is missing, an item is not among ``arms``, or the rows are no log (see `Log`).
    """
    import pandas as pd

    reward = "reward" if "reward" in interactions else "positive"
    missing = [name for name in ("item_id", reward, "propensity") if name not in interactions]
    if missing:
        raise SchemaError(f"interactions: no column {', '.join(missing)}; a log says what was shown, with which chance")
    codes = pd.Index(arms).get_indexer(interactions["item_id"])
    if (codes < 0).any():
        row = int((codes < 0).argmax())
        raise SchemaError(f"row {row}: item {interactions['item_id'].iloc[row]!r} is not among the {len(arms)} arms")
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

        Raises
        ------
        SchemaError : shapes or positions do not fit; a probability lies outside [0, 1] or they do not sum to 1.
        ReclabError : the log never shows what the policy plays, so that it says nothing about it.
        """
        self.log, self.policy = log, _fit("policy", policy, log)
        _check_probabilities(self.policy, log)
        self.policy_of_shown = _of_shown(self.policy, log)
        self.weights = self.policy_of_shown / log.propensities
        if not self.weights.any():
            raise ReclabError("the log never shows an arm that the policy plays: it says nothing about this policy")
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
        """Probability in each row that the policy plays an arm that the log never shows at that position, (n,)."""
        never = np.ones((self.log.n_arms, self.log.positions.max() + 1))
        never[self.log.arms, self.log.positions] = 0
        return _mean_over_arms(self.policy, never, self.log)

    def _needed_model(self) -> np.ndarray:
        if self.model is None:
            raise ReclabError("this estimator needs a reward model; give one: Case(log, policy, model)")
        return self.model


def _fit(name: str, values, log: Log) -> np.ndarray:
    """A policy or model as a table (n_arms, n_positions), or as (n, n_arms) where each row of the log has its own."""
    values, positions = np.asarray(values, float), int(log.positions.max()) + 1
    if values.shape == (log.n_arms,):
        values = np.broadcast_to(values[:, None], (log.n_arms, positions))
    is_table = values.ndim == 2 and len(values) == log.n_arms and values.shape[1] >= positions
    if not (is_table or _by_row(values, log)):
        raise SchemaError(
            f"{name} must be ({log.n_arms},), ({log.n_arms}, n_positions >= {positions}) or ({len(log)}, {log.n_arms}) "
            f"for a log of {len(log)} rows, {log.n_arms} arms and {positions} positions, got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise SchemaError(f"{name} has a value that is missing or not finite")
    return values


def _by_row(values: np.ndarray, log: Log) -> bool:
    return values.shape == (len(log), log.n_arms)


def _of_shown(values: np.ndarray, log: Log) -> np.ndarray:
    return values[np.arange(len(log)), log.arms] if _by_row(values, log) else values[log.arms, log.positions]


def _mean_over_arms(policy: np.ndarray, values: np.ndarray, log: Log) -> np.ndarray:
    """Sum over arms of policy times values in each row, (n,)."""
    if not (_by_row(policy, log) or _by_row(values, log)):
        positions = min(policy.shape[1], values.shape[1])
        return (policy[:, :positions] * values[:, :positions]).sum(axis=0)[log.positions]
    rows = [part if _by_row(part, log) else part.T[log.positions] for part in (policy, values)]
    return np.einsum("nk,nk->n", *rows)


def _check_probabilities(policy: np.ndarray, log: Log) -> None:
    if not ((policy >= 0) & (policy <= 1)).all():
        raise SchemaError(f"a policy holds probabilities in [0, 1], got {policy.min():g} to {policy.max():g}")
    sums = policy.sum(axis=1 if _by_row(policy, log) else 0)
    worst = int(np.abs(sums - 1).argmax())
    if abs(sums[worst] - 1) > TOLERANCE:
        kind = "row" if _by_row(policy, log) else "position"
        raise SchemaError(
            f"the policy's probabilities must sum to 1 over the arms, at {kind} {worst} they sum to {sums[worst]:g}"
        )


def _check_rows(values: np.ndarray, bad: np.ndarray, message: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise SchemaError(f"row {row} of the log: " + message.format(values[row]))
