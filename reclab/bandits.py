"""Bernoulli bandits whose arms have different worths, many replications at once.

Source: Thompson (1933); Chapelle and Li, An Empirical Evaluation of Thompson Sampling (2011).
Taught in: 06_thompson_sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# A policy is a function of what was counted so far: clicks (R, K), misses (R, K), weights (K,), a random generator.
# It returns the arm that each of the R replications plays: (R,) int.
Policy = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def thompson(alpha: float | np.ndarray = 1.0, beta: float | np.ndarray = 1.0) -> Policy:
    """Thompson sampling: draw a click rate for every arm from its posterior, play the largest weight times rate.

    theta_k ~ Beta(alpha + clicks_k, beta + misses_k); the arm played is argmax_k w_k theta_k. The weight never enters
    the counts: only clicks and misses update the posterior.

    Parameters
    ----------
    alpha, beta : prior, one number or one an arm (K,), above 0.

    Raises
    ------
    ValueError : ``alpha`` or ``beta`` is not above 0.

    Source: Thompson (1933); Chapelle and Li (2011).
    Taught in: 06_thompson_sampling.
    """
    _check_prior(alpha, beta)

    def choose(clicks, misses, weights, rng):
        return (weights * rng.beta(alpha + clicks, beta + misses)).argmax(1)

    return choose


def greedy(alpha: float | np.ndarray = 1.0, beta: float | np.ndarray = 1.0) -> Policy:
    """Play the arm of the largest weight times posterior mean; equal ones by chance. It never explores on purpose.

    Raises
    ------
    ValueError : ``alpha`` or ``beta``, the prior, is not above 0.

    Taught in: 06_thompson_sampling.
    """
    _check_prior(alpha, beta)

    def choose(clicks, misses, weights, rng):
        worth = weights * (alpha + clicks) / (alpha + beta + clicks + misses)
        return np.where(worth == worth.max(1, keepdims=True), rng.random(worth.shape), -1).argmax(1)

    return choose


def epsilon_greedy(epsilon: float = 0.1) -> Policy:
    """Greedy, but with chance ``epsilon`` any arm, all alike.

    Raises
    ------
    ValueError : ``epsilon`` is not in [0, 1].

    Taught in: 06_thompson_sampling.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
    exploit = greedy()

    def choose(clicks, misses, weights, rng):
        arms = exploit(clicks, misses, weights, rng)
        explore = rng.random(len(arms)) < epsilon
        return np.where(explore, rng.integers(clicks.shape[1], size=len(arms)), arms)

    return choose


def uniform() -> Policy:
    """Any arm, all alike, whatever was learnt.

    Taught in: 06_thompson_sampling.
    """
    return lambda clicks, misses, weights, rng: rng.integers(clicks.shape[1], size=len(clicks))


@dataclass(frozen=True)
class Simulation:
    """What R replications of T rounds left: cumulative pseudo-regret (R,), its mean by round (T,), pulls (R, K)."""

    regret: np.ndarray
    curve: np.ndarray
    clicks: np.ndarray
    misses: np.ndarray

    @property
    def pulls(self) -> np.ndarray:
        return self.clicks + self.misses

    def interval(self) -> tuple[float, float, float]:
        """Mean final regret and its 95% normal interval over replications.

        Taught in: 06_thompson_sampling.
        """
        mean, error = self.regret.mean(), self.regret.std(ddof=1) / np.sqrt(len(self.regret))
        return mean, mean - 1.96 * error, mean + 1.96 * error


def simulate(
    policy: Policy,
    rates: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    horizon: int,
    replications: int = 100,
    seed: int = 0,
) -> Simulation:
    """Let a policy play a world of known click rates, in many independent replications at once.

    The reward of a click on arm k is ``weights[k]``; regret is counted against the arm of the largest
    ``weights * rates`` and is pseudo-regret: expected, not realised, reward.

    Parameters
    ----------
    policy : see `Policy`.
    rates : (K,) click probabilities in [0, 1].
    weights : (K,) worth of a click, at least 0; all 1 where left out.
    horizon : rounds T. replications : R, at least 2.

    Raises
    ------
    ValueError : a rate, weight, horizon or number of replications is out of range; or the policy plays no such arm.

    Source: Lattimore and Szepesvari, Bandit Algorithms (2020), chapters 4 and 36.
    Taught in: 06_thompson_sampling.
    """
    rates = np.asarray(rates, float)
    weights = np.ones(rates.shape) if weights is None else np.asarray(weights, float)
    _check_world(rates, weights, horizon, replications)
    rng = np.random.default_rng(seed)
    loss = (weights * rates).max() - weights * rates
    clicks = np.zeros((replications, len(rates)))
    misses = np.zeros((replications, len(rates)))
    row, regret, curve = np.arange(replications), np.zeros(replications), np.empty(horizon)
    for t in range(horizon):
        arms = np.asarray(policy(clicks, misses, weights, rng))
        _check_arms(arms, replications, len(rates))
        clicked = rng.random(replications) < rates[arms]
        clicks[row, arms] += clicked
        misses[row, arms] += ~clicked
        regret += loss[arms]
        curve[t] = regret.mean()
    return Simulation(regret, curve, clicks, misses)


def _check_prior(alpha, beta) -> None:
    if not (np.all(np.asarray(alpha) > 0) and np.all(np.asarray(beta) > 0)):
        raise ValueError(f"alpha and beta must be above 0, got {alpha} and {beta}")


def _check_arms(arms: np.ndarray, n: int, n_arms: int) -> None:
    if arms.shape != (n,) or arms.dtype.kind not in "iu":
        raise ValueError(f"the policy must return {n} whole numbers, got shape {arms.shape} of {arms.dtype}")
    if arms.min() < 0 or arms.max() >= n_arms:
        raise ValueError(f"the policy must play arms in 0..{n_arms - 1}, got {arms.min()}..{arms.max()}")


def _check_world(rates: np.ndarray, weights: np.ndarray, horizon: int, replications: int) -> None:
    if rates.ndim != 1 or not len(rates) or not ((rates >= 0) & (rates <= 1)).all():
        raise ValueError(f"rates must be a list of click probabilities in [0, 1], got {rates}")
    if weights.shape != rates.shape or not ((weights >= 0) & np.isfinite(weights)).all():
        raise ValueError(f"weights must be {len(rates)} numbers of at least 0, one an arm, got {weights}")
    if horizon < 1 or replications < 2:
        raise ValueError(f"horizon must be >= 1 and replications >= 2, got {horizon} and {replications}")
