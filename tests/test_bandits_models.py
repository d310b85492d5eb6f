"""Lists against a slow loop; linear and logistic Thompson sampling against closed forms and scikit-learn."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression, Ridge

from reclab.bandits import LinearTS, LogisticTS, simulate_slates

ROOT = Path(__file__).parent.parent

# Lists under the position-based click model

RATES, LOOKED_AT = np.array([0.6, 0.5, 0.4, 0.3, 0.2, 0.1]), np.array([1.0, 0.5, 0.2])
WORTH = np.array([1.0, 1.0, 1.0, 1.0, 6.0, 1.0])


def run(**changes):
    return simulate_slates(**({"rates": RATES, "looked_at": LOOKED_AT, "horizon": 60, "replications": 40} | changes))


def plain_slates(looked_at, believed, weights, horizon, rng):
    """The regret of one replication in plain Python."""
    n = len(RATES)
    clicks, looks, regret = [0.0] * n, [0.0] * n, 0.0
    worth = sorted(weights * RATES, reverse=True)
    best = sum(w * look for w, look in zip(worth, sorted(looked_at, reverse=True), strict=False))
    for _ in range(horizon):
        drawn = [w * rng.betavariate(1 + c, 1 + max(s - c, 0)) for w, c, s in zip(weights, clicks, looks, strict=True)]
        shown = sorted(range(n), key=lambda k: -drawn[k])[: len(looked_at)]
        regret += best
        for item, look, counted in zip(shown, looked_at, believed, strict=True):
            regret -= weights[item] * RATES[item] * look
            looks[item] += counted
            clicks[item] += rng.random() < look and rng.random() < RATES[item]
    return regret


@pytest.mark.parametrize(
    ("looked_at", "believed", "weights"),
    [
        (LOOKED_AT, None, WORTH),
        (LOOKED_AT[::-1], None, WORTH),
        (LOOKED_AT, np.ones(3), np.ones(6)),
        (LOOKED_AT, LOOKED_AT / 10, np.ones(6)),  # fewer looks than clicks: they count as many
    ],
)
def test_lists_agree_with_a_slow_loop(looked_at, believed, weights):
    rng, counted = random.Random(0), looked_at if believed is None else believed
    slow = [plain_slates(looked_at, counted, weights, 60, rng) for _ in range(400)]
    fast = run(looked_at=looked_at, believed=believed, weights=weights, replications=4_000).regret
    assert np.mean(slow) == pytest.approx(fast.mean(), abs=4 * np.hypot(stats.sem(slow), stats.sem(fast)))
    assert stats.ks_2samp(slow, fast).pvalue > 1e-3


def test_counts_of_lists_add_up():
    found = run()
    assert (found.pulls.sum(1) == 60 * 3).all()
    assert (found.misses >= 0).all()
    assert (np.diff(found.curve, prepend=0) > -1e-12).all()
    assert found.curve[-1] == pytest.approx(found.regret.mean())
    assert (run(rates=RATES[:3]).pulls == 60).all(), "as many positions as items: each is shown in every round"


def test_clicks_need_a_look():
    blind = run(looked_at=[1.0, 0.0, 0.0], rates=np.ones(6))
    assert (blind.clicks.sum(1) == 60).all()
    sure = run(looked_at=np.ones(3), rates=np.ones(6))
    assert (sure.clicks.sum(1) == 180).all()
    assert sure.regret.max() == pytest.approx(0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rates": [0.5, 1.5, 0.1]}, "rates must be a list of probabilities"),
        ({"looked_at": [1.0, 1.2]}, "looked_at must be a list of probabilities"),
        ({"believed": [1.0, 0.5]}, "one chance for each of at most 6 positions, got 3 and 2"),
        ({"looked_at": np.ones(7)}, "one chance for each of at most 6 positions, got 7 and 7"),
        ({"looked_at": []}, "looked_at must be a list of probabilities"),
        ({"weights": -WORTH}, "weights must be 6 finite numbers of at least 0"),
        ({"horizon": 0}, "horizon must be >= 1 and replications >= 2, got 0 and 40"),
    ],
)
def test_a_page_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        run(**wrong)


# Linear Thompson sampling

RNG = np.random.default_rng(0)
D = 4
X, NOISE = RNG.standard_normal((60, D)), RNG.standard_normal(60)
THETA = np.array([1.0, -2.0, 0.5, 0.0])
REWARDS = X @ THETA + 0.3 * NOISE
CLICKS = (RNG.random(60) < 1 / (1 + np.exp(-X @ THETA))).astype(float)


def test_draws_have_the_law_of_their_precision():
    precision = X.T @ X / 20 + np.eye(D)
    drawn = LinearTS(D, mean=THETA, precision=precision, seed=1).draw(200_000)
    np.testing.assert_allclose(drawn.mean(0), THETA, atol=4 / np.sqrt(200_000))
    np.testing.assert_allclose(np.cov(drawn.T), np.linalg.inv(precision), atol=0.01)
    assert stats.kstest((drawn[:, 0] - THETA[0]) / np.linalg.inv(precision)[0, 0] ** 0.5, "norm").pvalue > 1e-3


def test_a_seed_gives_the_draws_that_cholesky_defines():
    """The factor is written out here: what any linear algebra library has to give, to rounding."""
    model = LinearTS(D, seed=7)
    model.update(X, REWARDS)
    precision, factor = np.eye(D) + X.T @ X, np.zeros((D, D))
    for i in range(D):
        for j in range(i + 1):
            rest = precision[i, j] - factor[i, :j] @ factor[j, :j]
            factor[i, j] = np.sqrt(rest) if i == j else rest / factor[j, j]
    z = np.random.default_rng(7).standard_normal((D, 2))
    expected = np.linalg.inv(precision) @ X.T @ REWARDS + np.linalg.solve(factor.T, z).T
    np.testing.assert_allclose(model.draw(2), expected, atol=1e-12)


def test_no_module_and_no_notebook_draws_through_svd():
    """numpy's default for vectors is a singular value decomposition, whose draws differ from machine to machine."""
    for path in [*ROOT.glob("reclab/**/*.py"), *ROOT.glob("notebooks/*.ipynb")]:
        calls = re.findall(r"\w+\.multivariate_normal\([^()]*(?:\([^()]*\)[^()]*)*\)", path.read_text("utf-8"))
        assert not [call for call in calls if "cholesky" not in call], f"{path.name} draws through SVD"


def test_the_posterior_is_ridge_regressions():
    model = LinearTS(D, ridge=2.0)
    for rows in np.array_split(np.arange(60), 7):
        model.update(X[rows], REWARDS[rows])
    ridge = Ridge(alpha=2.0, fit_intercept=False).fit(X, REWARDS)
    np.testing.assert_allclose(model.mean, ridge.coef_, atol=1e-10)
    np.testing.assert_allclose(model.precision, 2 * np.eye(D) + X.T @ X, atol=1e-10)


def test_an_arm_is_chosen_as_often_as_it_is_the_best():
    model, n = LinearTS(D, noise=0.7, seed=1), 200_000
    model.update(X[:8], REWARDS[:8])
    pair = np.array([[0.4, 0.1, 0.2, 1.0], [0.3, -0.2, 0.1, -0.5]])
    apart = pair[0] - pair[1]
    spread = 0.7 * np.sqrt(apart @ np.linalg.inv(model.precision) @ apart)
    exact = stats.norm.cdf(apart @ model.mean / spread)
    assert 0.1 < exact < 0.9
    for chosen in (model.choose(pair, n), model.choose(np.tile(pair, (n, 1, 1)))):
        assert np.mean(chosen == 0) == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / n))


def test_without_noise_it_is_greedy():
    model = LinearTS(D, noise=0.0)
    model.update(X, REWARDS)
    assert (model.choose(X, 50) == (X @ model.mean).argmax()).all()


@pytest.mark.parametrize("kind", [LinearTS, LogisticTS])
def test_a_warm_start_goes_on_where_another_stopped(kind):
    whole, first = kind(D), kind(D)
    first.update(X[:30], CLICKS[:30])
    given = first.mean.copy(), first.precision.copy()
    second = kind(D, mean=first.mean, precision=first.precision)
    for model, rows in ((whole, slice(0, 30)), (whole, slice(30, 60)), (second, slice(30, 60))):
        model.update(X[rows], CLICKS[rows])
    np.testing.assert_allclose(second.mean, whole.mean, atol=1e-8)
    np.testing.assert_allclose(second.precision, whole.precision, atol=1e-8)
    assert np.array_equal(first.mean, given[0]), "the prior that was given is not changed"
    assert np.array_equal(first.precision, given[1]), "the prior that was given is not changed"


# Logistic Thompson sampling


def test_the_logistic_mean_is_the_penalised_regressions():
    model = LogisticTS(D, ridge=0.5)
    model.update(X, CLICKS)
    fitted = LogisticRegression(C=1 / 0.5, fit_intercept=False, tol=1e-10, max_iter=1000).fit(X, CLICKS)
    np.testing.assert_allclose(model.mean, fitted.coef_[0], atol=1e-4)
    p = fitted.predict_proba(X)[:, 1]
    np.testing.assert_allclose(model.precision, 0.5 * np.eye(D) + (X.T * p * (1 - p)) @ X, atol=1e-3)


def test_in_one_dimension_the_approximation_is_laplaces():
    x, clicks, m, q = np.array([1.0, 2.0, -1.0, 0.5]), np.array([1, 1, 0, 0]), 0.3, 1.5

    def loss(theta):
        return (np.log1p(np.exp(x * theta)) - clicks * x * theta).sum() + q * (theta - m) ** 2 / 2

    best = minimize_scalar(loss, options={"xtol": 1e-10}).x
    step = 1e-4
    curvature = (loss(best + step) - 2 * loss(best) + loss(best - step)) / step**2
    model = LogisticTS(1, mean=[m], precision=[[q]])
    model.update(x[:, None], clicks)
    assert model.mean[0] == pytest.approx(best, abs=1e-6)
    assert model.precision[0, 0] == pytest.approx(curvature, rel=1e-4)


def test_newton_holds_where_clicks_are_separable_and_the_prior_is_weak():
    model = LogisticTS(1, ridge=1e-4)
    with np.errstate(over="raise", invalid="raise"):
        model.update(np.array([[-30.0], [-20.0], [25.0], [40.0]]), [0, 0, 1, 1])
        assert 0 < model.mean[0] < 10
        model.update(np.array([[30.0]] * 50), [0] * 50)
        model.update(np.array([[1e4]]), [1])
    assert np.isfinite(model.mean).all()


# Bad input

RANGE, ROWS, BAD = (
    "ridge must be above 0 and noise at",
    r"vectors must be \(n, 4\) and rewards \(n,\)",
    [[1, 1, np.nan, 1]],
)


@pytest.mark.parametrize("kind", [LinearTS, LogisticTS])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        *[(lambda kind, ridge=ridge: kind(D, ridge=ridge), RANGE) for ridge in (0, -1, np.nan)],
        *[(lambda kind, noise=noise: kind(D, noise=noise), RANGE) for noise in (-1, np.nan)],
        (lambda kind: kind(D, mean=[1.0]), r"mean must be \(4,\) and precision \(4, 4\), got \(1,\)"),
        (lambda kind: kind(D, precision=np.eye(3)), r"got \(4,\) and \(3, 3\)"),
        (lambda kind: kind(D, precision=-np.eye(4)), "not positive definite"),
        (lambda kind: kind(D).choose(np.ones((5, 3))), r"vectors must be .*K, 4\), got \(5, 3\)"),
        (lambda kind: kind(D).choose([[1] * D, *BAD]), "must be finite, those of arm 1 are not; leave it out"),
        (lambda kind: kind(D).update(np.ones((2, 3)), [1, 0]), ROWS),
        (lambda kind: kind(D).update(np.ones((2, 4)), [1]), ROWS),
        (lambda kind: kind(D).update(BAD, [1]), "vectors and rewards must be finite"),
        (lambda kind: LogisticTS(D).update(X[:1], [0.5]), "rewards must be 0 or 1"),
    ],
)
def test_what_does_not_fit_is_refused(kind, wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(kind)
