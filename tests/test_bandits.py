"""Bandits against closed forms, quadrature, a slow loop of plain Python, and published and measured regrets."""

import random

import numpy as np
import pytest
from scipy import integrate, special, stats

from reclab import bandits

TEN_ARMS = np.array([0.5] + [0.4] * 9)
SHOP, WORTH = np.array([0.3, 0.2, 0.1, 0.05]), np.array([1.0, 2.0, 5.0, 1.0])
POLICIES = {
    "thompson": bandits.thompson(),
    "greedy": bandits.greedy(),
    "epsilon-greedy": bandits.epsilon_greedy(0.1),
    "uniform": bandits.uniform(),
}

# Which arm is played after given clicks and misses

N = 100_000
TOLERANCE = 4 * 0.5 / np.sqrt(N)  # four standard errors of a frequency


def frequencies(policy, clicks, misses, weights=None, seed=0):
    """How often each arm is played after the same counts, in N draws."""
    counts = [np.tile(np.asarray(part, float), (N, 1)) for part in (clicks, misses)]
    weights = np.ones(len(clicks)) if weights is None else np.asarray(weights, float)
    arms = policy(*counts, weights, np.random.default_rng(seed))
    return np.bincount(arms, minlength=len(clicks)) / N


def chance_of_first(a1, b1, a2, b2):
    """P(theta_1 > theta_2) of Beta(a1, b1) and Beta(a2, b2), a1 whole: a finite sum of Beta functions."""
    i = np.arange(a1)
    logs = special.betaln(a2 + i, b1 + b2) - np.log(b1 + i) - special.betaln(1 + i, b1) - special.betaln(a2, b2)
    return np.exp(logs).sum()


def chances(clicks, misses, weights, alpha=1.0, beta=1.0):
    """P(w_k theta_k is the largest) of every arm k, by quadrature over theta_k."""
    a, b, w = np.asarray(clicks) + alpha, np.asarray(misses) + beta, np.asarray(weights, float)

    def density(x, k):
        others = [stats.beta.cdf(w[k] * x / w[j], a[j], b[j]) for j in range(len(w)) if j != k]
        return stats.beta.pdf(x, a[k], b[k]) * np.prod(others)

    return np.array([integrate.quad(density, 0, 1, args=(k,), limit=200, points=[0.05, 0.2])[0] for k in range(len(w))])


CASES = [([0, 0], [0, 0]), ([3, 1], [2, 5]), ([1, 0], [0, 0]), ([100, 1], [0, 0]), ([30, 28], [70, 72])]


@pytest.mark.parametrize(("clicks", "misses"), CASES)
def test_thompson_plays_an_arm_as_often_as_it_is_the_best(clicks, misses):
    exact = chance_of_first(clicks[0] + 1, misses[0] + 1, clicks[1] + 1, misses[1] + 1)
    assert exact == pytest.approx(chances(clicks, misses, [1, 1])[0], abs=1e-6)
    assert frequencies(bandits.thompson(), clicks, misses)[0] == pytest.approx(exact, abs=TOLERANCE)


WEIGHTED = [
    ([3, 1], [2, 5], [1, 2]),
    ([0, 0], [0, 0], [1, 3]),
    ([6, 5, 2, 1], [14, 20, 18, 19], [1, 2, 5, 1]),
    ([2, 9, 4], [8, 31, 40], [3, 2.5, 4]),
]


@pytest.mark.parametrize(("clicks", "misses", "weights"), WEIGHTED)
def test_thompson_with_weights_follows_the_quadrature(clicks, misses, weights):
    exact = chances(clicks, misses, weights)
    assert exact.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(frequencies(bandits.thompson(), clicks, misses, weights), exact, atol=TOLERANCE)


@pytest.mark.parametrize("alpha", [2.0, np.array([2.0, 0.5])])
def test_thompson_starts_from_its_prior(alpha):
    exact = chances([1, 2], [4, 3], [1, 1], alpha, beta=3.0)
    np.testing.assert_allclose(frequencies(bandits.thompson(alpha, 3.0), [1, 2], [4, 3]), exact, atol=TOLERANCE)
    assert abs(exact - chances([1, 2], [4, 3], [1, 1])).max() > 5 * TOLERANCE, "the prior must matter here"


def forgets_weights(clicks, misses, weights, rng):
    return bandits.thompson()(clicks, misses, np.ones(len(weights)), rng)


def folds_weights_into_counts(clicks, misses, weights, rng):
    return bandits.thompson()(clicks * weights, misses, np.ones(len(weights)), rng)


def punishes_the_unseen(clicks, misses, weights, rng):
    rounds = (clicks + misses).sum(1, keepdims=True)
    return bandits.thompson()(clicks, rounds - clicks, weights, rng)


def mixes_up_clicks_and_misses(clicks, misses, weights, rng):
    return bandits.thompson()(misses, clicks, weights, rng)


def draws_from_exponentials(clicks, misses, weights, rng):
    logits = np.exp(rng.random(clicks.shape))
    return (logits.cumsum(1) > rng.random((len(clicks), 1)) * logits.sum(1, keepdims=True)).argmax(1)


IMPOSTORS = {
    "greedy": bandits.greedy(),
    "forgets weights": forgets_weights,
    "folds weights into counts": folds_weights_into_counts,
    "punishes the unseen": punishes_the_unseen,
    "mixes up clicks and misses": mixes_up_clicks_and_misses,
    "draws from exponentials": draws_from_exponentials,
    "uniform": bandits.uniform(),
}


@pytest.mark.parametrize("name", IMPOSTORS)
def test_the_quadrature_tells_impostors_from_thompson(name):
    clicks, misses, weights = WEIGHTED[2]
    apart = abs(frequencies(IMPOSTORS[name], clicks, misses, weights) - chances(clicks, misses, weights)).max()
    assert apart > 5 * TOLERANCE


def test_greedy_plays_the_largest_weight_times_posterior_mean():
    # Posterior means 4/7, 2/8, 1/4; worth 4/7, 6/8, 2/4.
    counts = [3, 1, 0], [2, 5, 2]
    assert list(frequencies(bandits.greedy(), *counts)) == [1, 0, 0]
    assert list(frequencies(bandits.greedy(), *counts, [1, 3, 2])) == [0, 1, 0]
    # With a prior of Beta(1, 20) the means are 4/26, 2/27, 1/23; with alpha 50 for the last arm alone it leads.
    assert list(frequencies(bandits.greedy(1, 20), *counts, [1, 3, 2])) == [0, 1, 0]
    assert list(frequencies(bandits.greedy(np.array([1, 1, 50]), 20), *counts)) == [0, 0, 1]


def test_greedy_breaks_ties_by_chance():
    np.testing.assert_allclose(frequencies(bandits.greedy(), [0, 0, 0], [0, 0, 0]), 1 / 3, atol=TOLERANCE)
    half = frequencies(bandits.greedy(), [1, 0, 1], [1, 3, 1])
    np.testing.assert_allclose(half, [0.5, 0, 0.5], atol=TOLERANCE)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_epsilon_greedy_explores_all_arms_alike(epsilon):
    expected = np.array([0, 1 - epsilon, 0, 0]) + epsilon / 4
    got = frequencies(bandits.epsilon_greedy(epsilon), [1, 9, 1, 1], [9, 1, 9, 9])
    np.testing.assert_allclose(got, expected, atol=TOLERANCE)


def test_uniform_plays_all_arms_alike_whatever_was_learnt():
    got = frequencies(bandits.uniform(), [90, 0, 0, 0, 0], [0, 9, 9, 9, 9], [9, 1, 1, 1, 1])
    assert stats.chisquare(got * N).pvalue > 1e-3


# The simulation


def always(arm):
    return lambda clicks, misses, weights, rng: np.full(len(clicks), arm)


@pytest.mark.parametrize("name", POLICIES)
def test_counts_add_up_and_regret_follows_from_the_pulls(name):
    simulation = bandits.simulate(POLICIES[name], SHOP, WORTH, horizon=200, replications=50)
    assert (simulation.pulls.sum(1) == 200).all()
    assert (simulation.clicks >= 0).all()
    assert (simulation.misses >= 0).all()
    # Pseudo-regret: what the arms are worth on average, not what they happened to pay.
    loss = 0.5 - np.array([0.3, 0.4, 0.5, 0.05])
    np.testing.assert_allclose(simulation.regret, simulation.pulls @ loss, atol=1e-9)
    assert simulation.curve.shape == (200,)
    assert (np.diff(simulation.curve, prepend=0) >= -1e-12).all(), "pseudo-regret never falls"
    assert simulation.curve[-1] == pytest.approx(simulation.regret.mean())


def test_the_arm_that_is_asked_for_is_the_one_that_is_played():
    rates = [0.0, 1.0, 0.5]
    for arm in range(3):
        simulation = bandits.simulate(always(arm), rates, horizon=50, replications=200)
        assert (simulation.pulls == 50 * np.eye(3)[arm]).all()
        rate = simulation.clicks[:, arm].mean() / 50
        assert rate == rates[arm] if arm < 2 else rate == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(10_000))


def test_a_policy_sees_the_counts_of_the_rounds_before():
    seen = []

    def watch(clicks, misses, weights, rng):
        seen.append((clicks.sum(), misses.sum(), weights.tolist()))
        return [0] * len(clicks)  # a list will do

    bandits.simulate(watch, [1.0, 0.0], [2.0, 3.0], horizon=3, replications=4)
    assert seen == [(0, 0, [2, 3]), (4, 0, [2, 3]), (8, 0, [2, 3])]


@pytest.mark.parametrize("weights", [None, WORTH])
def test_the_posterior_mean_tends_to_the_click_rate_whatever_a_click_is_worth(weights):
    simulation = bandits.simulate(bandits.uniform(), SHOP, weights, horizon=4_000, replications=20)
    mean = (1 + simulation.clicks.sum(0)) / (2 + simulation.pulls.sum(0))
    error = np.sqrt(SHOP * (1 - SHOP) / simulation.pulls.sum(0))
    assert (abs(mean - SHOP) < 4 * error).all()


def test_clicks_are_bernoulli_and_replications_independent():
    simulation = bandits.simulate(always(0), [0.3], horizon=100, replications=4_000)
    counts = np.histogram(simulation.clicks[:, 0], [-0.5, 22.5, 25.5, 28.5, 31.5, 34.5, 37.5, 100.5])[0]
    law = np.diff(stats.binom.cdf([-1, 22, 25, 28, 31, 34, 37, 100], 100, 0.3))
    assert stats.chisquare(counts, 4_000 * law).pvalue > 1e-3
    # If replications shared their draws, the mean over them would vary far more from seed to seed.
    means = [bandits.simulate(always(0), [0.3], horizon=20, replications=50, seed=s).clicks.mean() for s in range(300)]
    assert np.var(means) == pytest.approx(20 * 0.3 * 0.7 / 50, rel=0.4)


@pytest.mark.parametrize("name", POLICIES)
def test_replications_differ_and_a_seed_decides_them(name):
    first, again, other = (
        bandits.simulate(POLICIES[name], TEN_ARMS, horizon=100, replications=30, seed=seed) for seed in (1, 1, 2)
    )
    assert first.regret.std() > 0
    assert len(np.unique(first.pulls, axis=0)) > 20
    for part in ("regret", "curve", "clicks", "misses"):
        assert np.array_equal(getattr(first, part), getattr(again, part))
    assert not np.array_equal(first.clicks, other.clicks)


def test_the_interval_is_normal_and_covers():
    simulation = bandits.simulate(bandits.uniform(), TEN_ARMS, horizon=20, replications=40)
    expected = stats.norm.interval(0.95, simulation.regret.mean(), stats.sem(simulation.regret))
    assert simulation.interval()[0] == simulation.regret.mean()
    assert simulation.interval()[1:] == pytest.approx(expected, abs=1e-4)
    intervals = [
        bandits.simulate(bandits.uniform(), TEN_ARMS, horizon=20, replications=40, seed=s).interval()
        for s in range(400)
    ]
    covered = np.mean([low <= 20 * 0.09 <= high for _, low, high in intervals])
    assert 0.90 < covered < 0.98


# Regret


def plain_thompson(rates, weights, horizon, rng):
    """One replication in plain Python."""
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
    fast = bandits.simulate(bandits.thompson(), rates, weights, horizon=100, replications=6_000).regret
    error = np.hypot(stats.sem(slow), stats.sem(fast))
    assert np.mean(slow) == pytest.approx(fast.mean(), abs=4 * error)
    assert stats.ks_2samp(slow, fast).pvalue > 1e-3


def final_regret(policy, rates, weights=None, horizon=2_000, replications=200):
    return bandits.simulate(policy, rates, weights, horizon=horizon, replications=replications)


def assert_near(simulation, expected, error):
    """Within four standard errors: of this mean and of the anchor's."""
    assert simulation.regret.mean() == pytest.approx(expected, abs=4 * np.hypot(stats.sem(simulation.regret), error))


def test_regret_on_ten_arms_is_the_known_one():
    played = {name: final_regret(policy, TEN_ARMS) for name, policy in POLICIES.items()}
    # 2,000 rounds that lose 0.1 in nine cases of ten; the pulls are multinomial.
    assert_near(played["uniform"], 180, 0)
    assert np.var(played["uniform"].regret) == pytest.approx(2_000 * 0.9 * 0.1 * 0.01, rel=0.4)
    # Means of 500 replications of another implementation, with their errors.
    assert_near(played["thompson"], 100.4, 1.4)
    assert_near(played["greedy"], 128, 4)
    means = {name: simulation.interval() for name, simulation in played.items()}
    assert means["thompson"][2] < min(means["greedy"][1], means["uniform"][1])


def test_epsilon_of_one_is_uniform_play():
    ours, uniform = (
        final_regret(p, TEN_ARMS, replications=500) for p in (bandits.epsilon_greedy(1), bandits.uniform())
    )
    assert_near(ours, 180, 0)
    assert stats.ks_2samp(ours.regret, uniform.regret).pvalue > 1e-3


WHERE_IT_HURTS = {
    "forgets weights": (SHOP, WORTH),
    "folds weights into counts": (SHOP, WORTH),
    "punishes the unseen": (TEN_ARMS, None),
    "mixes up clicks and misses": (TEN_ARMS, None),
    "draws from exponentials": (TEN_ARMS, None),
}


@pytest.mark.parametrize("name", WHERE_IT_HURTS)
def test_impostors_lose_more_than_thompson(name):
    impostor, honest = (final_regret(p, *WHERE_IT_HURTS[name]) for p in (IMPOSTORS[name], bandits.thompson()))
    assert impostor.interval()[1] > honest.interval()[2]


def test_only_weights_lead_to_the_arm_that_pays_most():
    late = [np.diff(final_regret(p, SHOP, WORTH).curve[-200:]).mean() for p in (bandits.thompson(), forgets_weights)]
    # Without them the arm that is clicked most is played, which is worth 0.3 and not 0.5 a round.
    assert late[0] < 0.05
    assert late[1] == pytest.approx(0.2, abs=0.03)


# Bad input


def simulate(**changes):
    world = {"policy": bandits.uniform(), "rates": [0.5, 0.4], "weights": None, "horizon": 10, "replications": 5}
    return bandits.simulate(**(world | changes))


@pytest.mark.parametrize("rates", [[], [0.5, 1.1], [-0.1, 0.5], [np.nan, 0.5], [[0.5, 0.4]], 0.5])
def test_rates_that_are_no_probabilities_are_refused(rates):
    with pytest.raises(ValueError, match=r"^rates must be a list of click probabilities in \[0, 1\], got .*$"):
        simulate(rates=rates)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [[1.0, 1.0]], 1.0])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match=r"^weights must be 2 numbers of at least 0, one an arm, got .*$"):
        simulate(weights=weights)


@pytest.mark.parametrize(("horizon", "replications"), [(0, 5), (-1, 5), (10, 1), (10, 0)])
def test_a_world_without_rounds_or_replications_is_refused(horizon, replications):
    message = rf"^horizon must be >= 1 and replications >= 2, got {horizon} and {replications}$"
    with pytest.raises(ValueError, match=message):
        simulate(horizon=horizon, replications=replications)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (np.zeros(4, int), r"the policy must return 5 whole numbers, got shape \(4,\) of int64"),
        (np.zeros((5, 2), int), r"the policy must return 5 whole numbers, got shape \(5, 2\) of int64"),
        (np.zeros(5), r"the policy must return 5 whole numbers, got shape \(5,\) of float64"),
        (np.zeros(5, bool), r"the policy must return 5 whole numbers, got shape \(5,\) of bool"),
        (None, r"the policy must return 5 whole numbers, got shape \(\) of object"),
        (np.full(5, 2), r"the policy must play arms in 0\.\.1, got 2\.\.2"),
        (np.full(5, -1), r"the policy must play arms in 0\.\.1, got -1\.\.-1"),
    ],
)
def test_a_policy_that_plays_no_such_arm_is_refused(arms, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        simulate(policy=lambda clicks, misses, weights, rng: arms)


@pytest.mark.parametrize("make", [bandits.thompson, bandits.greedy])
@pytest.mark.parametrize(("alpha", "beta"), [(0, 1), (1, -1), (np.nan, 1), (np.array([1.0, 0.0]), 1)])
def test_a_prior_that_is_not_above_zero_is_refused(make, alpha, beta):
    with pytest.raises(ValueError, match=r"^alpha and beta must be above 0, got .* and .*$"):
        make(alpha, beta)


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, np.nan])
def test_an_epsilon_that_is_no_probability_is_refused(epsilon):
    with pytest.raises(ValueError, match=rf"^epsilon must be in \[0, 1\], got {epsilon}$"):
        bandits.epsilon_greedy(epsilon)
