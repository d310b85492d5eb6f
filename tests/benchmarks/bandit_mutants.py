"""Common mistakes about Thompson sampling, each as code that runs, and the checks that tell them from the real thing.

A check returns True where what it is given behaves as it should. ``caught`` says by which checks a mistake is found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import integrate, special, stats

from reclab import bandits
from reclab.bandits import LinearTS, simulate_slates

DRAWS, ALLOWED = 200_000, 4.0  # draws behind each frequency, and how many standard errors it may be off

# Clicks, misses and weights after which an arm is chosen; two arms of equal worth have a closed form.
PAIRS = [([3, 1], [2, 5]), ([1, 100], [0, 0]), ([30, 28], [70, 72])]
WEIGHTED = [([6, 5, 2, 1], [14, 20, 18, 19], [1, 2, 5, 1]), ([2, 9, 4], [8, 31, 40], [3, 2.5, 4])]


def first_wins(clicks, misses) -> float:
    """P(theta_1 > theta_2) after clicks and misses of two arms, priors Beta(1, 1): a finite sum of Beta functions."""
    (a1, a2), (b1, b2) = np.add(clicks, 1), np.add(misses, 1)
    i = np.arange(a1)
    logs = special.betaln(a2 + i, b1 + b2) - np.log(b1 + i) - special.betaln(1 + i, b1) - special.betaln(a2, b2)
    return float(np.exp(logs).sum())


def winners(clicks, misses, weights) -> np.ndarray:
    """P(w_k theta_k is the largest) of every arm, by quadrature over theta_k."""
    a, b, w = np.add(clicks, 1), np.add(misses, 1), np.asarray(weights, float)

    def density(x, k):
        others = [stats.beta.cdf(w[k] * x / w[j], a[j], b[j]) for j in range(len(w)) if j != k]
        return stats.beta.pdf(x, a[k], b[k]) * np.prod(others)

    return np.array([integrate.quad(density, 0, 1, args=(k,), limit=200, points=[0.05, 0.2])[0] for k in range(len(w))])


def frequencies(policy, clicks, misses, weights, seed: int = 0) -> np.ndarray:
    """How often each arm is played after the same counts."""
    counts = [np.tile(np.asarray(part, float), (DRAWS, 1)) for part in (clicks, misses)]
    arms = policy(*counts, np.asarray(weights, float), np.random.default_rng(seed))
    return np.bincount(arms, minlength=len(clicks)) / DRAWS


def z_scores(found, exact) -> np.ndarray:
    """How many standard errors frequencies are off; one that can not be is infinitely far off."""
    error = np.sqrt(exact * (1 - exact) / DRAWS)
    return np.abs(found - exact) / error


def worst_z_closed_form(policy) -> float:
    """Largest |z| over the pairs of arms that have a closed form."""
    found = [frequencies(policy, *pair, [1, 1])[0] for pair in PAIRS]
    return float(z_scores(np.array(found), np.array([first_wins(*pair) for pair in PAIRS])).max())


def worst_z_quadrature(policy) -> float:
    """Largest |z| over arms of different worths."""
    return float(max(z_scores(frequencies(policy, *case), winners(*case)).max() for case in WEIGHTED))


# Policies


def _ones(weights):
    return np.ones(len(weights))


def _exponentials(clicks, misses, weights, rng):
    chances = np.exp(np.full(clicks.shape[1], 1 / clicks.shape[1]))
    return rng.choice(clicks.shape[1], size=len(clicks), p=chances / chances.sum())


def _only_the_rate(clicks, misses, weights, rng):
    shown = clicks + misses
    return bandits.thompson()(clicks / shown, misses / shown, weights, rng)


def _own_weight_as_reward(clicks, misses, weights, rng):
    return bandits.thompson()(weights * (clicks + misses), misses, weights, rng)


def _punishes_the_unseen(clicks, misses, weights, rng):
    rounds = (clicks + misses).sum(1, keepdims=True)
    return bandits.thompson()(clicks, rounds - clicks, weights, rng)


def _one_draw_for_all(clicks, misses, weights, rng):
    theta = rng.beta(1 + clicks[:1], 1 + misses[:1])
    return np.broadcast_to((weights * theta).argmax(1), len(clicks))


def _normal_draws(clicks, misses, weights, rng):
    shown = 2 + clicks + misses
    mean = (1 + clicks) / shown
    return (weights * (mean + np.sqrt(mean * (1 - mean) / shown) * rng.standard_normal(mean.shape))).argmax(1)


POLICIES = {
    "draws from exp() of equal probabilities": _exponentials,
    "keeps the click rate, not successes and failures": _only_the_rate,
    "adds the arm's own weight as its reward": _own_weight_as_reward,
    "plays the highest estimate": bandits.greedy(),
    "forgets the weights": lambda c, m, w, rng: bandits.thompson()(c, m, _ones(w), rng),
    "folds the weights into the counts": lambda c, m, w, rng: bandits.thompson()(c * w, m, _ones(w), rng),
    "uses the weights twice": lambda c, m, w, rng: bandits.thompson()(c, m, w**2, rng),
    "counts what was not shown as a failure": _punishes_the_unseen,
    "mixes up clicks and misses": lambda c, m, w, rng: bandits.thompson()(m, c, w, rng),
    "starts from another prior": bandits.thompson(2.0, 2.0),
    "counts each click twice": lambda c, m, w, rng: bandits.thompson()(2 * c, 2 * m, w, rng),
    "draws one theta for all replications": _one_draw_for_all,
    "draws from a normal of the same mean": _normal_draws,
    "explores one round in ten": bandits.epsilon_greedy(0.1),
    "an upper bound in place of a draw": bandits.ucb1(),
    "plays uniformly": bandits.uniform(),
}


def policy_passes(policy) -> bool:
    """Frequencies against the closed form and the quadrature."""
    return max(worst_z_closed_form(policy), worst_z_quadrature(policy)) < ALLOWED


# Worlds: a simulate() with a mistake of its own


def _plays_another_arm(policy, rates, weights=None, **options):
    def other(clicks, misses, weights, rng):
        policy(clicks, misses, weights, rng)
        return rng.integers(clicks.shape[1], size=len(clicks))

    return bandits.simulate(other, rates, weights, **options)


def _realised_regret(policy, rates, weights=None, *, horizon, replications, seed=0):
    rng, clicks, curve = np.random.default_rng(seed), np.zeros((replications, len(rates))), np.empty(horizon)
    misses, regret, row = np.zeros_like(clicks), np.zeros(replications), np.arange(replications)
    weights = np.ones(len(rates)) if weights is None else np.asarray(weights, float)
    for t in range(horizon):
        arms = policy(clicks, misses, weights, rng)
        clicked = rng.random(replications) < np.asarray(rates)[arms]
        clicks[row, arms] += clicked
        misses[row, arms] += ~clicked
        regret = regret + (weights * rates).max() - weights[arms] * clicked
        curve[t] = regret.mean()
    return bandits.Simulation(regret, curve, clicks, misses)


def _one_seed_for_all(policy, rates, weights=None, *, replications, **options):
    found = bandits.simulate(policy, rates, weights, replications=2, **options)
    rows = np.zeros(replications, int)
    return bandits.Simulation(found.regret[rows], found.curve, found.clicks[rows], found.misses[rows])


def _loses_a_round(policy, rates, weights=None, *, horizon, **options):
    return bandits.simulate(policy, rates, weights, horizon=horizon - 1, **options)


WORLDS = {
    "an arm is asked for, another is played": _plays_another_arm,
    "realised in place of expected regret": _realised_regret,
    "one seed for all replications": _one_seed_for_all,
    "a round is lost": _loses_a_round,
}


def world_passes(simulate) -> bool:
    """The arm asked for is played; counts add up; regret never falls; replications differ."""
    stay = simulate(lambda c, m, w, rng: np.zeros(len(c), int), [0.0, 0.9], horizon=50, replications=20)
    found = simulate(bandits.thompson(), [0.6, 0.5, 0.2], horizon=200, replications=20)
    total = (found.pulls.sum(1) == 200).all()
    rises = (np.diff(found.curve) > -1e-12).all() and (np.diff(stay.curve) > -1e-12).all()
    return bool(stay.clicks.sum() == 0 and total and rises and np.ptp(found.regret) > 1e-9)


# Lists: how looks are counted


def orders_well(believed) -> bool:
    """Under the position-based model the list that is shown most at last is the best one, best first."""
    rates, looked_at = np.array([0.5, 0.4, 0.3, 0.2, 0.1]), np.array([1.0, 0.3, 0.1])
    truth = None if believed is None else believed(looked_at)
    found = simulate_slates(rates, looked_at, horizon=6_000, replications=40, believed=truth)
    return bool(np.diff(found.curve[-500:]).mean() < 0.02)


LISTS = {"places nobody looked at count as refusals": np.ones_like}

# Linear models: a posterior or a draw with a mistake


class _UpsideDown(LinearTS):
    def draw(self, n=1):
        z = self.rng.standard_normal((len(self.mean), n))
        return self.mean + self.noise * (np.linalg.cholesky(self.precision) @ z).T


class _DiagonalOnly(LinearTS):
    def draw(self, n=1):
        z = self.rng.standard_normal((n, len(self.mean)))
        return self.mean + self.noise * z / np.sqrt(np.diag(self.precision))


class _OneNormalForAll(LinearTS):
    def draw(self, n=1):
        z = np.repeat(self.rng.standard_normal((1, n)), len(self.mean), axis=0)
        return self.mean + self.noise * np.linalg.solve(np.linalg.cholesky(self.precision).T, z).T


class _VarianceAsSpread(LinearTS):
    def draw(self, n=1):
        z = self.rng.standard_normal((len(self.mean), n))
        return self.mean + self.noise * np.linalg.solve(self.precision, z).T


class _GreedyLinear(LinearTS):
    def draw(self, n=1):
        return np.tile(self.mean, (n, 1))


LINEAR = {
    "a precision taken for a covariance": _UpsideDown,
    "only the diagonal of the precision": _DiagonalOnly,
    "one normal number for all features": _OneNormalForAll,
    "a variance taken for a standard deviation": _VarianceAsSpread,
    "the linear model without a draw": _GreedyLinear,
}


def worst_z_linear(kind, draws: int = 20_000) -> float:
    """|z| of how often the first of two arms is chosen, against the normal distribution."""
    rng = np.random.default_rng(3)
    model, rows = kind(3, noise=0.5, seed=1), rng.standard_normal((24, 3)) @ [[1, 0.8, 0], [0, 0.6, 0], [0, 0, 2]]
    model.update(rows, rows @ [0.4, 0.2, 0.1] + 0.5 * rng.standard_normal(24))
    pair = np.array([[1.0, -0.6, 0.2], [0.5, 0.4, -0.3]])
    apart = pair[0] - pair[1]
    exact = stats.norm.cdf(apart @ model.mean / (0.5 * np.sqrt(apart @ np.linalg.inv(model.precision) @ apart)))
    found = np.mean(model.choose(pair, draws) == 0)
    return float(abs(found - exact) / np.sqrt(exact * (1 - exact) / draws))


def linear_passes(kind) -> bool:
    return worst_z_linear(kind) < ALLOWED


GROUPS: list[tuple[Callable, object, dict]] = [
    (policy_passes, bandits.thompson(), POLICIES),
    (world_passes, bandits.simulate, WORLDS),
    (orders_well, None, LISTS),
    (linear_passes, LinearTS, LINEAR),
]


def survivors() -> tuple[list[str], list[str], int]:
    """Mistakes that pass every check, honest code that does not, and how many mistakes there are."""
    alive = [name for passes, _, mutants in GROUPS for name, mutant in mutants.items() if passes(mutant)]
    accused = [passes.__name__ for passes, honest, _ in GROUPS if not passes(honest)]
    return alive, accused, sum(len(mutants) for _, _, mutants in GROUPS)
