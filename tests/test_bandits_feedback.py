"""UCB policies, worlds that change and feedback that is late, against closed forms and slow loops of plain Python."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from reclab import bandits, policies
from reclab.bandits import Memory

TEN_ARMS = np.array([0.5] + [0.4] * 9)


def one(policy, clicks, misses, weights=None, seed=0):
    counts = (np.array([part], float) for part in (clicks, misses))
    weights = np.ones(len(clicks)) if weights is None else np.array(weights, float)
    return policy(*counts, weights, np.random.default_rng(seed))[0]


# Bounds


def kl(p, q):
    """Relative entropy of two coins by the definition, arms of rate 0 and 1 apart."""
    terms = [a * math.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0]
    return sum(terms)


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.4), (0.0, 0.3), (1.0, 0.3), (0.01, 0.99), (0.2, 0.2)])
def test_relative_entropy_is_the_textbooks(p, q):
    assert policies.bernoulli_kl(p, q) == pytest.approx(kl(p, q), abs=1e-12)


@pytest.mark.parametrize(
    ("rates", "constant"), [(TEN_ARMS, 44.70), ([0.1] + [0.05] * 3 + [0.02] * 3 + [0.01] * 3, 17.45)]
)
def test_lai_robbins_constants_are_the_known_ones(rates, constant):
    assert round(bandits.lai_robbins(rates), 2) == constant
    assert bandits.lai_robbins([*rates, max(rates)]) == pytest.approx(bandits.lai_robbins(rates))


def test_lai_robbins_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"^rates must be a list of click probabilities in \[0, 1\], got .*$"):
        bandits.lai_robbins([0.5, 1.5])


RNG = np.random.default_rng(5)
COUNTS = [(RNG.integers(0, 9, 5), RNG.integers(1, 40, 5), RNG.integers(1, 6, 5)) for _ in range(30)]


def ucb1_index(c, m, t):
    return c / (c + m) + math.sqrt(2 * math.log(t) / (c + m))


def kl_index(c, m, t):
    """The root of n kl(rate, q) = ln t by Brent's method."""
    n, rate = c + m, c / (c + m)
    over = [lambda q: n * kl(rate, q) - math.log(t)][0]
    return optimize.brentq(over, rate + 1e-12, 1 - 1e-12)


@pytest.mark.parametrize(("policy", "index"), [(bandits.ucb1(), ucb1_index), (bandits.kl_ucb(), kl_index)])
def test_a_bound_is_the_one_of_a_slow_root_finder(policy, index):
    chosen = []
    for clicks, misses, weights in COUNTS:
        t = 1 + clicks.sum() + misses.sum()
        bounds = [w * index(c, m, t) for c, m, w in zip(clicks, misses, weights, strict=True)]
        chosen.append(one(policy, clicks, misses, weights) == int(np.argmax(bounds)))
    assert all(chosen)


@pytest.mark.parametrize("policy", [bandits.ucb1(), bandits.kl_ucb()])
def test_what_was_never_shown_comes_first_and_what_is_worth_nothing_never(policy):
    assert one(policy, [3, 0, 2], [4, 0, 9]) == 1
    assert one(policy, [3, 0, 2], [4, 0, 9], [1, 0, 1]) != 1
    first = {one(policy, [0, 0, 0], [0, 0, 0], seed=seed) for seed in range(40)}
    assert first == {0, 1, 2}, "equal bounds are told apart by chance"


@pytest.mark.parametrize("make", [bandits.ucb1, bandits.kl_ucb])
def test_bounds_find_the_best_arm_and_kl_ucb_is_the_tighter_one(make):
    found = bandits.simulate(make(), [0.7, 0.3, 0.2], horizon=2_000, replications=50)
    assert (found.pulls.argmax(1) == 0).all()


def test_kl_ucb_loses_less_than_ucb1():
    played = [bandits.simulate(p, TEN_ARMS, horizon=2_000, replications=60) for p in (bandits.kl_ucb(), bandits.ucb1())]
    assert played[0].interval()[2] < played[1].interval()[1]


# What is remembered


def slow_counts(rounds, now, delay=0, batch=1, discount=1.0, window=None):
    """Clicks and misses of two arms before round ``now``, from all rounds (arm, clicked), one replication."""
    seen = now - now % batch  # the last time that anything was counted
    arrived = rounds[: max(seen - delay, 0)]
    counts = np.zeros((2, 2))
    for age, (arm, clicked) in enumerate(reversed(arrived)):
        if window is None or age < window:
            counts[0 if clicked else 1, arm] += discount**age
    return counts


SETTINGS = [
    {},
    {"delay": 3},
    {"batch": 4},
    {"delay": 2, "batch": 5},
    {"discount": 0.9},
    {"window": 4},
    {"window": 1},
    {"delay": 3, "discount": 0.5, "window": 6},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_memory_is_that_of_a_slow_loop(settings):
    rng = np.random.default_rng(1)
    memory, rounds = Memory(3, 2, **settings), []
    for t in range(30):
        clicks, misses = memory.arrive(t)
        expected = [slow_counts([(a[r], c[r]) for a, c in rounds], t, **settings) for r in range(3)]
        np.testing.assert_allclose(clicks, [e[0] for e in expected], atol=1e-12)
        np.testing.assert_allclose(misses, [e[1] for e in expected], atol=1e-12)
        rounds.append((rng.integers(0, 2, 3), rng.random(3) < 0.5))
        memory.add(*rounds[-1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delay": -1}, "delay must be >= 0 and batch >= 1, got -1 and 1"),
        ({"batch": 0}, "delay must be >= 0 and batch >= 1, got 0 and 0"),
        ({"discount": 0.0}, r"discount must be in \(0, 1\], got 0.0"),
        ({"discount": 1.1}, r"discount must be in \(0, 1\], got 1.1"),
        ({"discount": math.nan}, r"discount must be in \(0, 1\], got nan"),
        ({"window": 0}, "window must be >= 1 or None, got 0"),
    ],
)
def test_a_memory_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        bandits.simulate(bandits.uniform(), [0.5, 0.4], horizon=5, **settings)


@pytest.mark.parametrize("settings", SETTINGS)
def test_what_was_played_is_counted_whatever_is_remembered(settings):
    found = bandits.simulate(bandits.thompson(), TEN_ARMS, horizon=57, replications=20, **settings)
    assert (found.pulls.sum(1) == 57).all()
    np.testing.assert_allclose(found.regret, found.pulls @ (0.5 - TEN_ARMS), atol=1e-9)


def arms_of(policy, **settings):
    """The arms of each round, (T, R)."""
    played = []

    def watch(*known):
        played.append(policy(*known))
        return played[-1]

    bandits.simulate(watch, TEN_ARMS, horizon=60, replications=30, **settings)
    return np.array(played)


def test_inside_a_batch_thompson_varies_and_a_bound_repeats_itself():
    last = {name: arms_of(p, batch=20)[40:] for name, p in (("ucb", bandits.ucb1()), ("ts", bandits.thompson()))}
    distinct = {name: np.mean([len(set(column)) for column in arms.T]) for name, arms in last.items()}
    assert distinct["ucb"] < 2.5, "a bound changes only with its counts, but for ties"
    assert distinct["ts"] > 4


# Worlds that change


def test_regret_is_counted_against_the_best_arm_of_the_round():
    rates = lambda t: [0.9, 0.1] if t < 10 else [0.2, 0.6]  # noqa: E731
    stay = lambda clicks, misses, weights, rng: np.zeros(len(clicks), int)  # noqa: E731
    found = bandits.simulate(stay, rates, horizon=25, replications=400)
    np.testing.assert_allclose(found.regret, 15 * 0.4)
    assert found.clicks[:, 0].mean() == pytest.approx(10 * 0.9 + 15 * 0.2, abs=4 * 2 / 20)


def test_replications_may_have_rates_of_their_own():
    rates = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    stay = lambda clicks, misses, weights, rng: np.zeros(len(clicks), int)  # noqa: E731
    found = bandits.simulate(stay, rates, horizon=10, replications=3)
    assert list(found.clicks[:2, 0]) == [10, 0]
    assert list(found.regret) == [0, 10, 0]


def test_only_arms_on_offer_are_seen_and_played():
    offered = lambda t: np.array([t >= 5, True, t < 5])  # noqa: E731
    widths, last = [], lambda c, m, w, rng: widths.append((c.shape[1], len(w))) or np.full(len(c), c.shape[1] - 1)
    found = bandits.simulate(last, [0.9, 0.2, 0.7], [1, 2, 3], horizon=8, replications=4, on_offer=offered)
    assert widths == [(2, 2)] * 8
    assert found.pulls.tolist() == [[0, 3, 5]] * 4
    np.testing.assert_allclose(found.regret, 3 * (0.9 - 0.4))


def test_forgetting_follows_a_change_that_plain_thompson_misses():
    change = lambda t: [0.6, 0.3] if t < 1_000 else [0.3, 0.6]  # noqa: E731
    run = dict(rates=change, horizon=2_000, replications=60)
    plain = bandits.simulate(bandits.thompson(), **run)
    for settings in ({"discount": 0.99}, {"window": 200}):
        assert bandits.simulate(bandits.thompson(), **run, **settings).interval()[2] < plain.interval()[1]


@pytest.mark.parametrize("rates", [[[0.5, 0.4]] * 3, [[0.5, 2.0]] * 5, lambda t: [0.5, 1.0 + t]])
def test_rates_of_a_changing_world_are_checked(rates):
    with pytest.raises(ValueError, match=r"^rates must be a list of click probabilities"):
        bandits.simulate(bandits.uniform(), rates, horizon=5, replications=5)


@pytest.mark.parametrize("offered", [[True], [False, False], [1, 0]])
def test_an_offer_that_is_none_is_refused(offered):
    with pytest.raises(ValueError, match=r"^on_offer must say of 2 arms which there are, got "):
        bandits.simulate(bandits.uniform(), [0.5, 0.4], horizon=5, on_offer=lambda t: offered)


@pytest.mark.parametrize("make", [bandits.thompson, bandits.greedy])
def test_a_prior_for_other_arms_is_refused(make):
    with pytest.raises(ValueError, match=r"^the prior is for arms of shape \(3,\), but 2 are on offer$"):
        bandits.simulate(make(np.ones(3), 1.0), [0.5, 0.4], horizon=5)


def test_the_floor_of_memory_holds():
    import tracemalloc

    n_replications, n_arms = 200, 500
    tracemalloc.start()
    try:
        bandits.simulate(bandits.thompson(), np.full(n_arms, 0.1), horizon=5, replications=n_replications)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak / (n_replications * n_arms) <= 64


def test_tests_of_bounds_can_fail():
    """A bound with the logarithm of the arm's own showings, a common mistake, picks other arms."""
    wrong = sum(
        one(bandits.ucb1(), c, m, w) != int(np.argmax(w * [ucb1_index(a, b, a + b) for a, b in zip(c, m, strict=True)]))
        for c, m, w in COUNTS
    )
    assert wrong > 0


def test_uniform_over_arms_on_offer_is_uniform():
    offered = np.array([True, False, True, True])
    found = bandits.simulate(
        bandits.uniform(), [0.5] * 4, horizon=200, replications=200, on_offer=lambda t: offered
    ).pulls.sum(0)
    assert found[1] == 0
    assert stats.chisquare(found[offered]).pvalue > 1e-3


def test_replications_may_have_priors_of_their_own():
    prior = np.array([[900.0, 1.0], [1.0, 900.0]])
    found = bandits.simulate(bandits.thompson(prior, 901.0 - prior), [0.5, 0.5], horizon=20, replications=2)
    assert found.pulls.tolist() == [[20, 0], [0, 20]]
