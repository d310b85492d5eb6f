"""Bernoulli bandits whose arms have different worths, many replications at once.

Source: Thompson (1933); Chapelle and Li, An Empirical Evaluation of Thompson Sampling (2011).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .policies import Policy as Policy
from .policies import bernoulli_kl as bernoulli_kl
from .policies import check_rates
from .policies import epsilon_greedy as epsilon_greedy
from .policies import greedy as greedy
from .policies import kl_ucb as kl_ucb
from .policies import lai_robbins as lai_robbins
from .policies import thompson as thompson
from .policies import ucb1 as ucb1
from .policies import uniform as uniform

# Click rates: (K,), or (R, K) where each replication has its own, or a function of the round that returns either.
Rates = np.ndarray | Callable[[int], np.ndarray]


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
        """Mean final regret and its 95% normal interval over replications."""
        mean, error = self.regret.mean(), self.regret.std(ddof=1) / np.sqrt(len(self.regret))
        return mean, mean - 1.96 * error, mean + 1.96 * error


def simulate(
    policy: Policy,
    rates: Rates,
    weights: np.ndarray | None = None,
    *,
    horizon: int,
    replications: int = 100,
    seed: int = 0,
    delay: int = 0,
    batch: int = 1,
    discount: float = 1.0,
    window: int | None = None,
    on_offer: Callable[[int], np.ndarray] | None = None,
) -> Simulation:
    """Let a policy play a world of known click rates, in many independent replications at once.

    The reward of a click on arm k is ``weights[k]``; regret is counted against the arm of the largest
    ``weights * rates`` of its round and is pseudo-regret: expected, not realised, reward.

    Parameters
    ----------
    policy : see `Policy`.
    rates : click probabilities in [0, 1]: (K,), or (R, K), or a function of the round that returns either.
    weights : (K,) worth of a click, at least 0; all 1 where left out.
    horizon : rounds T. replications : R, at least 2.
    delay, batch, discount, window : what the policy knows of its feedback; see `Memory`.
    on_offer : a function of the round that returns (K,) bool, the arms there are; the policy sees these alone. None:
        all, always.

    Raises
    ------
    ValueError : a rate, weight, horizon, number of replications or of memory is out of range; no arm is on offer; or
        the policy plays no such arm.

    Source: Lattimore and Szepesvari, Bandit Algorithms (2020), chapters 4 and 36.
    """
    if horizon < 1 or replications < 2:
        raise ValueError(f"horizon must be >= 1 and replications >= 2, got {horizon} and {replications}")
    world = _World(rates, weights, on_offer, replications)
    n_arms = len(world.weights)
    memory = Memory(replications, n_arms, delay=delay, batch=batch, discount=discount, window=window)
    rng, totals = np.random.default_rng(seed), np.zeros((2, replications, n_arms), np.int32)
    regret, curve = np.zeros(replications), np.empty(horizon)
    for t in range(horizon):
        world.go_to(t)
        arms = world.play(policy, *memory.arrive(t), rng)
        clicked = rng.random(replications) < world.of(world.rates, arms)
        totals.reshape(-1)[memory.add(arms, clicked)] += 1
        regret += world.of(world.loss, arms)
        curve[t] = regret.mean()
    return Simulation(regret, curve, *totals)


class Memory:
    """What R replications of a bandit with K arms know: clicks (R, K) and misses (R, K).

    Parameters
    ----------
    replications, n_arms : R and K.
    delay : rounds by which feedback is late; 0: it counts in the next round.
    batch : feedback is counted only before rounds 0, batch, 2 batch, ...; 1: before each round.
    discount : what one round of feedback leaves of all that was counted before, in (0, 1].
    window : how many rounds of feedback are kept; None: all.

    Raises
    ------
    ValueError : one of them is out of range.

    Source: Garivier and Moulines, On Upper-Confidence Bound Policies for Switching Bandit Problems (2011).
    """

    def __init__(
        self,
        replications: int,
        n_arms: int,
        *,
        delay: int = 0,
        batch: int = 1,
        discount: float = 1.0,
        window: int | None = None,
    ):
        if delay < 0 or batch < 1:
            raise ValueError(f"delay must be >= 0 and batch >= 1, got {delay} and {batch}")
        if not 0 < discount <= 1:
            raise ValueError(f"discount must be in (0, 1], got {discount}")
        if window is not None and window < 1:
            raise ValueError(f"window must be >= 1 or None, got {window}")
        self.delay, self.batch, self.discount, self.window = delay, batch, discount, window
        self.counts = np.zeros((2, replications, n_arms))
        self._first = np.arange(replications) * n_arms
        self._waiting: deque[np.ndarray] = deque()
        self._kept: deque[np.ndarray] = deque()

    def arrive(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Count what has arrived before round t; returns clicks and misses, (R, K) each."""
        if t % self.batch == 0:
            while len(self._waiting) > self.delay:
                self._count(self._waiting.popleft())
        return self.counts[0], self.counts[1]

    def add(self, arms: np.ndarray, clicked: np.ndarray) -> np.ndarray:
        """Take the feedback of a round, arms (R,) and clicked (R,) bool; returns its places in a (2, R, K) table."""
        places = self._first + arms + np.where(clicked, 0, self.counts[0].size)
        self._waiting.append(places)
        return places

    def _count(self, places: np.ndarray) -> None:
        flat = self.counts.reshape(-1)
        if self.discount < 1:
            flat *= self.discount
        flat[places] += 1
        if self.window is not None:
            self._kept.append(places)
            if len(self._kept) > self.window:
                flat[self._kept.popleft()] -= self.discount**self.window


class _World:
    """Rates and losses of the present round, (K,) or (R, K), and the arms on offer."""

    def __init__(self, rates: Rates, weights, on_offer, replications: int):
        self.given, self.on_offer, self.row = rates, on_offer, np.arange(replications)
        self.offered, self.weights = None, weights
        self._set(rates(0) if callable(rates) else rates)

    def _set(self, rates: np.ndarray) -> None:
        rates = np.asarray(rates, float)
        if rates.ndim == 2 and len(rates) == len(self.row):
            check_rates(rates.reshape(-1))
        else:
            check_rates(rates)
        n_arms = rates.shape[-1]
        weights = np.ones(n_arms) if self.weights is None else np.asarray(self.weights, float)
        if weights.shape != (n_arms,) or not ((weights >= 0) & np.isfinite(weights)).all():
            raise ValueError(f"weights must be {n_arms} numbers of at least 0, one an arm, got {weights}")
        worth = weights * rates
        best = worth if self.offered is None else worth[..., self.offered]
        self.rates, self.weights, self.loss = rates, weights, best.max(-1, keepdims=True) - worth

    def go_to(self, t: int) -> None:
        if self.on_offer is not None:
            offered = np.asarray(self.on_offer(t))
            if offered.shape != self.weights.shape or offered.dtype != bool or not offered.any():
                raise ValueError(f"on_offer must say of {len(self.weights)} arms which there are, got {offered}")
            self.offered = np.flatnonzero(offered)
        if callable(self.given) or self.on_offer is not None:
            self._set(self.given(t) if callable(self.given) else self.given)

    def play(self, policy: Policy, clicks, misses, rng) -> np.ndarray:
        if self.offered is None:
            arms = np.asarray(policy(clicks, misses, self.weights, rng))
            _check_arms(arms, len(self.row), len(self.weights))
            return arms
        there = self.offered
        arms = np.asarray(policy(clicks[:, there], misses[:, there], self.weights[there], rng))
        _check_arms(arms, len(self.row), len(there))
        return there[arms]

    def of(self, values: np.ndarray, arms: np.ndarray) -> np.ndarray:
        return values[arms] if values.ndim == 1 else values[self.row, arms]


def _check_arms(arms: np.ndarray, n: int, n_arms: int) -> None:
    if arms.shape != (n,) or arms.dtype.kind not in "iu":
        raise ValueError(f"the policy must return {n} whole numbers, got shape {arms.shape} of {arms.dtype}")
    if arms.min() < 0 or arms.max() >= n_arms:
        raise ValueError(f"the policy must play arms in 0..{n_arms - 1}, got {arms.min()}..{arms.max()}")
