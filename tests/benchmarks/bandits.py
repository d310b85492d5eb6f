"""Measure bandits: speed side by side with MABWiser, memory, and regret.

    python -m pip install --no-deps mabwiser==2.7.4
    python tests/benchmarks/bandits.py [--check]

Times are CPU seconds of one thread; what is compared takes turns and the median counts. MABWiser plays one replication
round by round, because it can play no more at once. The floor is the Beta draws alone, after the same counts. Prints
one JSON object a line; ``bar`` is the least or the most that is asked. With ``--check`` the exit status is 1 where a
bar is missed.
"""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Iterator
from types import ModuleType

if __name__ == "__main__":  # two threads of BLAS would wait for one another, in CPU time too
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from measures import report, row, take_turns

from reclab import bandits, data

ROUNDS = 5
FASTER = {10: 150, 80: 60}  # times as fast as MABWiser, by arms
ABOVE_FLOOR, BYTES = 1.5, 64
TEN_ARMS = np.array([0.5] + [0.4] * 9)
FALLING = np.array([0.1] + [0.05] * 3 + [0.02] * 3 + [0.01] * 3)
SHOP, WORTH = np.array([0.3, 0.2, 0.1, 0.05]), np.array([1.0, 2.0, 5.0, 1.0])


# Speed


class Run:
    """Thompson sampling over K arms: ours, MABWiser's, and the Beta draws alone after the counts of our run."""

    def __init__(self, mab: ModuleType, n_arms: int, replications: int, horizon: int, peer_rounds: int = 100):
        self.rates = np.random.default_rng(0).uniform(0.01, 0.1, n_arms)
        self.replications, self.horizon, self.peer_rounds = replications, horizon, peer_rounds
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []
        self.peer = mab.MAB(list(range(n_arms)), mab.LearningPolicy.ThompsonSampling())
        self.peer.fit(np.arange(n_arms), np.zeros(n_arms))
        self.rng = np.random.default_rng(1)

    def ours(self) -> None:
        options = {"horizon": self.horizon, "replications": self.replications}
        bandits.simulate(bandits.thompson(), self.rates, **options)

    def keep_counts(self, every: int) -> None:
        """Counts of some rounds of our run, for the floor."""

        def watch(clicks, misses, weights, rng):
            rounds = int(clicks[0].sum() + misses[0].sum())
            if rounds % every == 0:
                self.seen.append((1 + clicks, 1 + misses))
            return bandits.thompson()(clicks, misses, weights, rng)

        bandits.simulate(watch, self.rates, horizon=self.horizon, replications=self.replications)

    def floor(self) -> None:
        """As many Beta draws as our run makes, after the counts that were kept."""
        for _ in range(self.horizon // len(self.seen)):
            for alpha, beta in self.seen:
                self.rng.beta(alpha, beta)

    def theirs(self) -> None:
        for _ in range(self.peer_rounds):
            arm = self.peer.predict()
            self.peer.partial_fit([arm], [int(self.rng.random() < self.rates[arm])])


def speed() -> Iterator[dict]:
    from mabwiser import mab

    for n_arms, faster in FASTER.items():
        run = Run(mab, n_arms, replications=500, horizon=2_400 // n_arms)
        run.keep_counts(every=max(run.horizon // 10, 1))
        ours, floor, theirs = np.median(take_turns(run.ours, run.floor, run.theirs, rounds=ROUNDS), axis=0)
        rounds = run.horizon * run.replications
        ours, floor, theirs = ours / rounds, floor / rounds, theirs / run.peer_rounds
        yield row(f"Thompson sampling, K = {n_arms}, MABWiser", theirs * 1e6, "CPU us a round")
        yield row(f"Thompson sampling, K = {n_arms}, ours", ours * 1e6, "CPU us a round and replication")
        yield row(f"K = {n_arms}, times as fast as MABWiser", theirs / ours, "times", least=faster)
        yield row(f"K = {n_arms}, over the Beta draws alone", ours / floor, "times", most=ABOVE_FLOOR)


def bytes_a_cell(replications: int = 200, n_arms: int = 1_000) -> float:
    """Peak memory of a simulation, by replications times arms."""
    tracemalloc.start()
    try:
        bandits.simulate(bandits.thompson(), np.full(n_arms, 0.1), horizon=5, replications=replications)
        return tracemalloc.get_traced_memory()[1] / (replications * n_arms)
    finally:
        tracemalloc.stop()


# Regret


# What was measured before: mean, half of its interval; bands where the mean is known between two bounds only.
KNOWN = [  # name, world, policy, rates, weights, rounds, replications, mean, half
    ("Thompson", "ten arms", bandits.thompson(), TEN_ARMS, None, 2_000, 2_000, 100.4, 2.7),
    ("uniform", "ten arms", bandits.uniform(), TEN_ARMS, None, 2_000, 500, 180.0, 0.5),
    ("greedy", "ten arms", bandits.greedy(), TEN_ARMS, None, 2_000, 2_000, 128.0, 8.0),
    ("Thompson", "ten arms, long", bandits.thompson(), TEN_ARMS, None, 100_000, 200, 249.0, 7.0),
    ("Thompson", "falling rates", bandits.thompson(), FALLING, None, 20_000, 500, 91.7, 1.5),
    ("Thompson", "weights", bandits.thompson(), SHOP, WORTH, 20_000, 500, 96.0, 7.0),
]


def regret() -> Iterator[dict]:
    for name, world, policy, rates, weights, horizon, replications, known, half in KNOWN:
        found = bandits.simulate(policy, rates, weights, horizon=horizon, replications=replications)
        mean, low, _ = found.interval()
        # Both means have an error; 1.96 standard errors are half an interval.
        off = abs(mean - known) / np.hypot(half, mean - low)
        yield row(f"regret of {name}, {world}, {horizon:,} rounds", mean, "clicks")
        yield row(f"regret of {name}, {world}, off the known {known}", off, "halves of the joint interval", most=1)
        if horizon == 100_000:
            slope = (found.curve[-1] - found.curve[horizon // 10 - 1]) / np.log(10)
            yield row("slope over the last decade", slope, "clicks a unit of ln T")
            ratio = slope / bandits.lai_robbins(rates)
            yield row("slope over Lai and Robbins' constant, least", ratio, "times", least=0.5)
            yield row("slope over Lai and Robbins' constant, most", ratio, "times", most=1.5)
    yield from real_rates()


def real_rates() -> Iterator[dict]:
    """34 items with real click rates and 200,000 impressions: exploring has not paid off."""
    alpha, beta = data.production_prior("men")
    rates, found = alpha / (alpha + beta), {}
    for name, policy in (("Thompson", bandits.thompson()), ("greedy", bandits.greedy())):
        found[name] = bandits.simulate(policy, rates, horizon=200_000, replications=50).interval()
        yield row(f"regret of {name}, 34 real rates, 200,000 impressions", found[name][0], "clicks")
    expected = 200_000 * (rates.max() - rates.mean())
    yield row("regret of uniform play, the same", expected, "clicks")
    yield row("Thompson less greedy: interval apart by", found["Thompson"][1] - found["greedy"][2], "clicks", least=0)
    yield row("uniform less Thompson: interval apart by", expected - found["Thompson"][2], "clicks", least=0)


def measure() -> Iterator[dict]:
    """Everything, the quick parts first."""
    yield from speed()
    yield row("a simulation's peak memory", bytes_a_cell(), "bytes a replication and arm", most=BYTES)
    yield from regret()


if __name__ == "__main__":
    sys.exit(report(measure(), "--check" in sys.argv))
