"""Measure off-policy estimators side by side with obp (Open Bandit Pipeline), in CPU seconds of one thread.

    python -m pip install --no-deps obp==0.4.1 mypy-extensions seaborn
    python tests/benchmarks/ope.py [--check]

Both get the same log and take turns; counted by the median. obp's inputs, which hold the policy and the reward model
once for every row, arm and position, are made beforehand and not charged. Prints one JSON object a line; ``bar`` is the
least that is asked of a ratio and the most that is allowed of a difference or of memory. With ``--check`` the exit
status is 1 where a bar is missed.
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

from reclab import ope
from reclab.ope import Case, Log

ROWS, ARMS, POSITIONS = 10_000, 80, 3
TAU, SHRINKAGE = 10.0, 100.0  # as the defaults of ours
ROUNDS, RESAMPLES = 7, 100
FASTER, BOOTSTRAP_FASTER, APART, BYTES_A_ROW = 10, 5, 1e-12, 300


def make_rows(n: int = ROWS, seed: int = 0) -> dict[str, np.ndarray]:
    """A log of a policy that draws unevenly, the policy to value and a reward model, both (ARMS, POSITIONS)."""
    rng = np.random.default_rng(seed)
    logging = rng.dirichlet(np.ones(ARMS))
    arms = rng.choice(ARMS, size=n, p=logging)
    return {
        "arms": arms,
        "rewards": (rng.random(n) < 0.1).astype(int),
        "propensities": logging[arms],
        "positions": rng.integers(POSITIONS, size=n),
        "policy": rng.dirichlet(np.ones(ARMS), size=POSITIONS).T,
        "model": rng.random((ARMS, POSITIONS)) / 5,
    }


def ours(rows: dict[str, np.ndarray]) -> dict[str, ope.Estimate]:
    """The estimators from the raw columns on: checks included."""
    log = Log(rows["arms"], rows["rewards"], rows["propensities"], ARMS, rows["positions"])
    found = ope.estimate_all(Case(log, rows["policy"], rows["model"]))
    del found["clipped IPS"]  # obp has none
    return found


class Peer:
    """The same with obp."""

    def __init__(self, obp: ModuleType, rows: dict[str, np.ndarray]):
        n = len(rows["arms"])
        self.inputs = {"action": rows["arms"], "reward": rows["rewards"], "pscore": rows["propensities"]}
        self.inputs |= {"position": rows["positions"], "action_dist": np.tile(rows["policy"], (n, 1, 1))}
        self.inputs["estimated_rewards_by_reg_model"] = np.tile(rows["model"], (n, 1, 1))
        self.estimators = {
            "IPS": obp.InverseProbabilityWeighting(),
            "SNIPS": obp.SelfNormalizedInverseProbabilityWeighting(),
            "DM": obp.DirectMethod(),
            "DR": obp.DoublyRobust(),
            "SNDR": obp.SelfNormalizedDoublyRobust(),
            "Switch-DR": obp.SwitchDoublyRobust(tau=TAU),
            "DRos": obp.DoublyRobustWithShrinkage(lambda_=SHRINKAGE),
        }

    def values(self) -> dict[str, float]:
        return {name: e.estimate_policy_value(**self.inputs) for name, e in self.estimators.items()}

    def intervals(self, n: int) -> None:
        for estimator in self.estimators.values():
            estimator.estimate_interval(n_bootstrap_samples=n, random_state=0, **self.inputs)


def bytes_a_row(n: int) -> float:
    """Peak memory of our seven estimates, by rows of the log, beside the log itself."""
    rows = make_rows(n)
    tracemalloc.start()
    try:
        ours(rows)
        return tracemalloc.get_traced_memory()[1] / n
    finally:
        tracemalloc.stop()


def measure() -> Iterator[dict]:
    """Agreement, speed of the estimators and of their bootstrap, memory."""
    import obp.ope

    rows = make_rows()
    peer, estimates = Peer(obp.ope, rows), ours(rows)
    apart = max(abs(value - estimates[name].value) for name, value in peer.values().items())
    yield row("largest difference from obp of seven estimates", apart, "reward", most=APART)
    fast, slow = np.median(take_turns(lambda: ours(rows), peer.values, rounds=ROUNDS, repeats=5), axis=0)
    yield row(f"seven estimates of {ROWS:,} rows, obp", slow * 1e3, "CPU ms")
    yield row(f"seven estimates of {ROWS:,} rows, ours", fast * 1e3, "CPU ms")
    yield row("seven estimates, times as fast as obp", slow / fast, "times", least=FASTER)
    ways = (lambda: ope.bootstrap(estimates, RESAMPLES), lambda: peer.intervals(RESAMPLES))
    fast, slow = np.median(take_turns(*ways, rounds=3), axis=0) / RESAMPLES
    yield row("one bootstrap resample of all seven, obp", slow * 1e6, "CPU us")
    yield row("one bootstrap resample of all seven, ours", fast * 1e6, "CPU us")
    yield row("bootstrap, times as fast as obp", slow / fast, "times", least=BOOTSTRAP_FASTER)
    tiled = peer.inputs["action_dist"].nbytes * 2 / ROWS
    yield row("policy and model as obp takes them", tiled, "bytes a row")
    yield row("seven estimates, ours: peak memory", bytes_a_row(ROWS), "bytes a row", most=BYTES_A_ROW)


if __name__ == "__main__":
    sys.exit(report(measure(), "--check" in sys.argv))
