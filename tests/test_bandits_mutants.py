"""Common mistakes about bandits are caught, honest code is not accused, and the benchmark needs its peer."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import bandit_mutants as mutants
import bandits as benchmark

CASES = [(passes, name, mutant) for passes, _, group in mutants.GROUPS for name, mutant in group.items()]


@pytest.mark.parametrize(("passes", "name", "mutant"), CASES, ids=[name for _, name, _ in CASES])
def test_a_mistake_is_caught(passes, name, mutant):
    assert not passes(mutant), f"nothing tells apart code that {name}"


@pytest.mark.parametrize(("passes", "honest"), [group[:2] for group in mutants.GROUPS])
def test_honest_code_is_not_accused(passes, honest):
    assert passes(honest)


def test_the_closed_form_is_the_quadrature():
    for clicks, misses in mutants.PAIRS:
        exact = mutants.winners(clicks, misses, [1, 1])
        assert mutants.first_wins(clicks, misses) == pytest.approx(exact[0], abs=1e-6)
        assert exact.sum() == pytest.approx(1, abs=1e-6)


def test_the_floor_draws_as_often_as_our_run():
    run = benchmark.Run(None, 4, replications=6, horizon=20)
    run.keep_counts(every=2)
    assert len(run.seen) == 10
    assert [int((a + b - 2)[0].sum()) for a, b in run.seen] == list(range(0, 20, 2)), "counts of the rounds themselves"
    drawn = []
    run.rng = type("Count", (), {"beta": lambda self, a, b: drawn.append(np.size(a))})()
    run.floor()
    assert sum(drawn) == 20 * 6 * 4
