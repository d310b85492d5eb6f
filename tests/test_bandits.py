"""Policies and their simulation against closed forms, quadrature, slow loops of plain Python, and known regrets."""

import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, optimize, stats

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import bandits as benchmark

from reclab import bandits
from reclab.bandits import thompson

TEN_ARMS = np.array([0.5] + [0.4] * 9)
SHOP, WORTH = np.array([0.3, 0.2, 0.1, 0.05]), np.array([1.0, 2.0, 5.0, 1.0])
POLICIES = {
    "thompson": thompson(),
    "greedy": bandits.greedy(),
    "epsilon-greedy": bandits.epsilon_greedy(0.1),
    "uniform": bandits.uniform(),
    "UCB1": bandits.ucb1(),
    "KL-UCB": bandits.kl_ucb(),
}
DRAWS = 200_000
TOLERANCE = 4 * 0.5 / np.sqrt(DRAWS)  # four standard errors of a frequency


def always(arm):
    return lambda clicks, misses, weights, rng: np.full(len(clicks), arm)


# Which arm is played after given clicks, misses and weights

PAIRS = [([3, 1], [2, 5]), ([1, 100], [0, 0]), ([30, 28], [70, 72])]
WEIGHTED = [([6, 5, 2, 1], [14, 20, 18, 19], [1, 2, 5, 1]), ([2, 9, 4], [8, 31, 40], [3, 2.5, 4])]


def winners(clicks, misses, weights):
    """P(w_k theta_k is the largest) of every arm, by quadrature over theta_k."""
    a, b, w = np.add(clicks, 1), np.add(misses, 1), np.asarray(weights, float)

    def density(x, k):
        others = [stats.beta.cdf(w[k] * x / w[j], a[j], b[j]) for j in range(len(w)) if j != k]
        return stats.beta.pdf(x, a[k], b[k]) * np.prod(others)

    return np.array([integrate.quad(density, 0, 1, args=(k,), limit=200, points=[0.05, 0.2])[0] for k in range(len(w))])


def frequencies(policy, clicks, misses, weights):
    """How often each arm is played after the same counts."""
    counts = [np.tile(np.asarray(part, float), (DRAWS, 1)) for part in (clicks, misses)]
    arms = policy(*counts, np.asarray(weights, float), np.random.default_rng(0))
    return np.bincount(arms, minlength=len(clicks)) / DRAWS


@pytest.fixture(scope="module")
def exact():
    """Cases of clicks, misses and weights, with the probability of each arm."""
    cases = [(clicks, misses, [1, 1]) for clicks, misses in PAIRS] + WEIGHTED
    return [(case, winners(*case)) for case in cases]


def largest_z(policy, exact):
    """How many standard errors the frequencies of a policy are off, at most."""
    return max((abs(frequencies(policy, *case) - p) / np.sqrt(p * (1 - p) / DRAWS)).max() for case, p in exact)


def test_thompson_plays_an_arm_as_often_as_it_is_the_best(exact):
    assert largest_z(thompson(), exact) < 4
    assert exact[1][1][0] == pytest.approx(2 / 103, abs=1e-6)  # Beta(2, 1) above Beta(101, 1), in closed form


def one_draw_for_all(clicks, misses, weights, rng):
    theta = rng.beta(1 + clicks[:1], 1 + misses[:1])
    return np.broadcast_to((weights * theta).argmax(1), len(clicks))


def normal_draws(clicks, misses, weights, rng):
    shown = 2 + clicks + misses
    mean = (1 + clicks) / shown
    return (weights * (mean + np.sqrt(mean * (1 - mean) / shown) * rng.standard_normal(mean.shape))).argmax(1)


MISTAKES = {
    "keeps the click rate, not successes and failures": lambda c, m, w, rng: thompson()(
        c / (c + m), m / (c + m), w, rng
    ),
    "adds the arm's own weight as its reward": lambda c, m, w, rng: thompson()(w * (c + m), m, w, rng),
    "plays the highest estimate": bandits.greedy(),
    "forgets the weights": lambda c, m, w, rng: thompson()(c, m, np.ones(len(w)), rng),
    "folds the weights into the counts": lambda c, m, w, rng: thompson()(c * w, m, np.ones(len(w)), rng),
    "uses the weights twice": lambda c, m, w, rng: thompson()(c, m, w**2, rng),
    "counts what was not shown as a failure": lambda c, m, w, rng: thompson()(
        c, (c + m).sum(1, keepdims=True) - c, w, rng
    ),
    "mixes up clicks and misses": lambda c, m, w, rng: thompson()(m, c, w, rng),
    "starts from another prior": thompson(2.0, 2.0),
    "counts each click twice": lambda c, m, w, rng: thompson()(2 * c, 2 * m, w, rng),
    "draws one theta for all replications": one_draw_for_all,
    "draws from a normal of the same mean": normal_draws,
    "explores one round in ten": bandits.epsilon_greedy(0.1),
    "an upper bound in place of a draw": bandits.ucb1(),
    "plays uniformly": bandits.uniform(),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_common_mistake_is_told_from_thompson_sampling(name, exact):
    assert largest_z(MISTAKES[name], exact) > 4


@pytest.mark.parametrize("alpha", [2.0, np.array([2.0, 0.5])])
def test_thompson_starts_from_its_prior(alpha):
    exact = winners(np.add(alpha, [0, 1]), [6, 5], [1, 1])  # less the prior of 1 that it adds
    found = frequencies(thompson(alpha, 3.0), [1, 2], [4, 3], [1, 1])
    np.testing.assert_allclose(found, exact, atol=TOLERANCE)
    assert abs(exact - winners([1, 2], [4, 3], [1, 1])).max() > 5 * TOLERANCE, "the prior must matter here"


@pytest.mark.parametrize(
    ("clicks", "misses", "weights", "expected"),
    [
        ([3, 1, 0], [2, 5, 2], [1, 1, 1], [1, 0, 0]),  # posterior means 4/7, 2/8, 1/4
        ([3, 1, 0], [2, 5, 2], [1, 3, 2], [0, 1, 0]),  # worth 4/7, 6/8, 2/4
        ([1, 0, 1], [1, 3, 1], [1, 1, 1], [0.5, 0, 0.5]),
    ],
)
def test_greedy_plays_the_largest_weight_times_posterior_mean_and_breaks_ties(clicks, misses, weights, expected):
    found = frequencies(bandits.greedy(), clicks, misses, weights)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_epsilon_greedy_explores_all_arms_alike(epsilon):
    found = frequencies(bandits.epsilon_greedy(epsilon), [1, 9, 1, 1], [9, 1, 9, 9], [1] * 4)
    np.testing.assert_allclose(found, np.array([0, 1 - epsilon, 0, 0]) + epsilon / 4, atol=TOLERANCE)


def test_uniform_plays_all_arms_alike_whatever_was_learnt():
    found = frequencies(bandits.uniform(), [90, 0, 0, 0, 0], [0, 9, 9, 9, 9], [9, 1, 1, 1, 1])
    assert stats.chisquare(found * DRAWS).pvalue > 1e-3


# Bounds


def kl(p, q):
    """Relative entropy of two coins by the definition."""
    return sum(a * math.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0)


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.4), (0.0, 0.3), (1.0, 0.3), (0.01, 0.99), (0.2, 0.2)])
def test_relative_entropy_is_the_textbooks(p, q):
    assert bandits.bernoulli_kl(p, q) == pytest.approx(kl(p, q), abs=1e-12)


@pytest.mark.parametrize(("rates", "constant"), [(TEN_ARMS, 44.70), (benchmark.FALLING, 17.45)])
def test_lai_robbins_constants_are_the_known_ones(rates, constant):
    assert round(bandits.lai_robbins(rates), 2) == constant
    assert bandits.lai_robbins([*rates, max(rates)]) == pytest.approx(bandits.lai_robbins(rates))


def one(policy, clicks, misses, weights, seed=0):
    counts = (np.array([part], float) for part in (clicks, misses))
    return policy(*counts, np.array(weights, float), np.random.default_rng(seed))[0]


def ucb1_index(c, m, t):
    return c / (c + m) + math.sqrt(2 * math.log(t) / (c + m))


def kl_index(c, m, t):
    """The root of n kl(rate, q) = ln t by Brent's method."""
    n, rate = c + m, c / (c + m)
    return optimize.brentq(lambda q: n * kl(rate, q) - math.log(t), rate + 1e-12, 1 - 1e-12)


@pytest.mark.parametrize(("policy", "index"), [(bandits.ucb1(), ucb1_index), (bandits.kl_ucb(), kl_index)])
def test_a_bound_is_the_one_of_a_slow_root_finder(policy, index):
    rng = np.random.default_rng(5)
    for _ in range(30):
        clicks, misses, weights = rng.integers(0, 9, 5), rng.integers(1, 40, 5), rng.integers(1, 6, 5)
        t = 1 + clicks.sum() + misses.sum()
        bounds = [w * index(c, m, t) for c, m, w in zip(clicks, misses, weights, strict=True)]
        assert one(policy, clicks, misses, weights) == np.argmax(bounds)


@pytest.mark.parametrize("policy", [bandits.ucb1(), bandits.kl_ucb()])
def test_what_was_never_shown_comes_first_and_what_is_worth_nothing_never(policy):
    assert one(policy, [3, 0, 2], [4, 0, 9], [1, 1, 1]) == 1
    assert one(policy, [3, 0, 2], [4, 0, 9], [1, 0, 1]) != 1
    first = {one(policy, [0, 0, 0], [0, 0, 0], [1, 1, 1], seed) for seed in range(40)}
    assert first == {0, 1, 2}, "ties are broken by chance"


# The simulation


@pytest.mark.parametrize("name", POLICIES)
def test_counts_add_up_regret_follows_from_the_pulls_and_a_seed_decides(name):
    world = {"rates": SHOP, "weights": WORTH, "horizon": 200, "replications": 50}
    found, again, other = (bandits.simulate(POLICIES[name], **world, seed=seed) for seed in (1, 1, 2))
    assert (found.pulls.sum(1) == 200).all()
    assert min(found.clicks.min(), found.misses.min()) >= 0
    # Pseudo-regret: what the arms are worth on average, not what they happened to pay.
    np.testing.assert_allclose(found.regret, found.pulls @ (0.5 - WORTH * SHOP), atol=1e-9)
    assert found.curve.shape == (200,)
    assert (np.diff(found.curve, prepend=0) >= -1e-12).all(), "pseudo-regret never falls"
    assert found.curve[-1] == pytest.approx(found.regret.mean())
    assert len(np.unique(found.clicks, axis=0)) > 20
    assert np.array_equal(found.clicks, again.clicks) and np.array_equal(found.curve, again.curve)
    assert not np.array_equal(found.clicks, other.clicks)


def test_a_policy_sees_the_counts_of_the_rounds_before_without_weights():
    seen = []

    def watch(clicks, misses, weights, rng):
        seen.append((clicks.sum(), misses.sum(), weights.tolist()))
        return [0] * len(clicks)  # a list will do

    bandits.simulate(watch, [1.0, 0.0], [2.0, 3.0], horizon=3, replications=4)
    assert seen == [(0, 0, [2, 3]), (4, 0, [2, 3]), (8, 0, [2, 3])]


def test_clicks_are_bernoulli_and_replications_independent():
    found = bandits.simulate(always(0), [0.3], horizon=100, replications=4_000)
    counts = np.histogram(found.clicks[:, 0], [-0.5, 22.5, 25.5, 28.5, 31.5, 34.5, 37.5, 100.5])[0]
    law = np.diff(stats.binom.cdf([-1, 22, 25, 28, 31, 34, 37, 100], 100, 0.3))
    assert stats.chisquare(counts, 4_000 * law).pvalue > 1e-3
    # If replications shared their draws, the mean over them would vary far more from seed to seed.
    means = [bandits.simulate(always(0), [0.3], horizon=20, replications=50, seed=s).clicks.mean() for s in range(300)]
    assert np.var(means) == pytest.approx(20 * 0.3 * 0.7 / 50, rel=0.4)


def test_the_interval_is_the_normal_one():
    found = bandits.simulate(bandits.uniform(), TEN_ARMS, horizon=20, replications=40)
    mean, low, high = found.interval()
    assert mean == found.regret.mean()
    assert (low, high) == pytest.approx(stats.norm.interval(0.95, mean, stats.sem(found.regret)), abs=1e-4)


def plain_thompson(rates, weights, horizon, rng):
    """The regret of one replication in plain Python."""
    clicks, misses, regret = [0] * len(rates), [0] * len(rates), 0.0
    best = max(w * p for w, p in zip(weights, rates, strict=True))
    for _ in range(horizon):
        draws = [w * rng.betavariate(1 + c, 1 + m) for w, c, m in zip(weights, clicks, misses, strict=True)]
        arm = draws.index(max(draws))
        regret += best - weights[arm] * rates[arm]
        if rng.random() < rates[arm]:
            clicks[arm] += 1
        else:
            misses[arm] += 1
    return regret


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 2.0, 4.0]])
def test_thompson_agrees_with_a_slow_loop(weights):
    rates, rng = [0.5, 0.3, 0.1], random.Random(0)
    slow = [plain_thompson(rates, weights, 100, rng) for _ in range(600)]
    fast = bandits.simulate(thompson(), rates, weights, horizon=100, replications=6_000).regret
    assert np.mean(slow) == pytest.approx(fast.mean(), abs=4 * np.hypot(stats.sem(slow), stats.sem(fast)))
    assert stats.ks_2samp(slow, fast).pvalue > 1e-3


def test_a_simulations_memory_is_bounded():
    assert benchmark.bytes_a_cell(replications=200, n_arms=500) <= benchmark.BYTES


# What is remembered


def slow_counts(rounds, now, delay=0, batch=1, discount=1.0, window=None):
    """Clicks and misses of two arms before round ``now``, from all rounds (arm, clicked), one replication."""
    seen = now - now % batch  # the last time that anything was counted
    counts = np.zeros((2, 2))
    for age, (arm, clicked) in enumerate(reversed(rounds[: max(seen - delay, 0)])):
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
def test_what_is_remembered_is_what_a_slow_loop_remembers(settings):
    rng = np.random.default_rng(1)
    arms, clicked = rng.integers(0, 2, (30, 3)), rng.integers(0, 2, (30, 3))
    known = []

    def watch(clicks, misses, weights, _):
        known.append((clicks.copy(), misses.copy()))
        return arms[len(known) - 1]

    rates = lambda t: np.tile(clicked[t][:, None], 2)  # noqa: E731  rates of 0 and 1 decide every click
    found = bandits.simulate(watch, rates, horizon=30, replications=3, **settings)
    for r in range(3):
        rounds = list(zip(arms[:, r], clicked[:, r], strict=True))
        for t, counts in enumerate(known):
            np.testing.assert_allclose(np.array(counts)[:, r], slow_counts(rounds[:t], t, **settings), atol=1e-12)
        assert np.array_equal([found.clicks[r], found.misses[r]], slow_counts(rounds, 30)), (
            "nothing played is forgotten"
        )


# Worlds that change


def test_regret_is_counted_against_the_best_arm_of_the_round():
    rates = lambda t: [0.9, 0.1] if t < 10 else [0.2, 0.6]  # noqa: E731
    found = bandits.simulate(always(0), rates, horizon=25, replications=400)
    np.testing.assert_allclose(found.regret, 15 * 0.4)
    assert found.clicks[:, 0].mean() == pytest.approx(10 * 0.9 + 15 * 0.2, abs=4 * 2 / 20)


def test_replications_may_have_rates_of_their_own():
    found = bandits.simulate(always(0), [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], horizon=10, replications=3)
    assert list(found.clicks[:2, 0]) == [10, 0]
    assert list(found.regret) == [0, 10, 0]


def test_only_arms_on_offer_are_seen_and_played():
    offered = lambda t: np.array([t >= 5, True, t < 5])  # noqa: E731
    seen = []

    def last(clicks, misses, weights, rng):
        seen.append((clicks.shape, weights.tolist()))
        return np.full(len(clicks), clicks.shape[1] - 1)

    found = bandits.simulate(last, [0.9, 0.2, 0.7], [1, 2, 3], horizon=8, replications=4, on_offer=offered)
    assert seen == [((4, 2), [2, 3])] * 5 + [((4, 2), [1, 2])] * 3
    assert found.pulls.tolist() == [[0, 3, 5]] * 4
    np.testing.assert_allclose(found.regret, 3 * (0.9 - 0.4))


# Bad input

NO_RATES = "rates must be a list of probabilities"
NO_ARMS = r"the policy must return 5 whole numbers in 0\.\.1, got"
TWO_D = [[[0.5, 0.4]], [[0.5, 0.4]] * 3, [[0.5, 2.0]] * 5]


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        *[(NO_RATES, {"rates": rates}) for rates in ([], [0.5, 1.1], [-0.1, 0.5], [np.nan, 0.5], 0.5, *TWO_D)],
        (NO_RATES, {"rates": lambda t: [0.5, 1.0 + t]}),
        *[("weights must be 2 finite numbers", {"weights": w}) for w in ([1.0], [1.0, -1.0], [1.0, np.nan], 1.0)],
        ("horizon must be >= 1 and replications >= 2, got 0 and 5", {"horizon": 0}),
        ("horizon must be >= 1 and replications >= 2, got 10 and 1", {"replications": 1}),
        *[("delay must be >= 0, batch >= 1", late) for late in ({"delay": -1}, {"batch": 0}, {"window": 0})],
        *[(r"discount in \(0, 1\].*, got 0, 1,", {"discount": kept}) for kept in (0.0, 1.1, math.nan)],
        *[("on_offer must mark some of 2", {"on_offer": lambda t, o=o: o}) for o in ([True], [False] * 2, [1, 0])],
    ],
)
def test_a_run_that_cannot_be_is_refused(message, changes):
    world = {"policy": bandits.uniform(), "rates": [0.5, 0.4], "horizon": 10, "replications": 5}
    with pytest.raises(ValueError, match=message):
        bandits.simulate(**(world | changes))


@pytest.mark.parametrize(
    "arms",
    [np.zeros(4, int), np.zeros((5, 2), int), np.zeros(5), np.zeros(5, bool), None, np.full(5, 2), np.full(5, -1)],
)
def test_a_policy_that_plays_no_such_arm_is_refused(arms):
    with pytest.raises(ValueError, match=NO_ARMS):
        bandits.simulate(lambda *known: arms, [0.5, 0.4], horizon=10, replications=5)


def test_an_arm_that_is_not_on_offer_is_refused():
    with pytest.raises(ValueError, match=r"whole numbers in 0\.\.0, got"):
        bandits.simulate(always(1), [0.5, 0.4], horizon=10, on_offer=lambda t: np.array([True, False]))


@pytest.mark.parametrize(("alpha", "beta"), [(0, 1), (1, -1), (np.nan, 1), (np.array([1.0, 0.0]), 1)])
def test_a_prior_that_is_not_above_zero_is_refused(alpha, beta):
    with pytest.raises(ValueError, match="alpha and beta must be above 0, got"):
        thompson(alpha, beta)


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=NO_RATES):
        bandits.lai_robbins([0.5, 1.5])
    for epsilon in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=rf"epsilon must be in \[0, 1\], got {epsilon}"):
            bandits.epsilon_greedy(epsilon)
