"""Linear and logistic Thompson sampling against closed forms, direct inverses and scikit-learn."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression, Ridge

from reclab import contextual
from reclab.contextual import LinearTS, LogisticTS

ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(0)
D = 4
X, NOISE = RNG.standard_normal((60, D)), RNG.standard_normal(60)
THETA = np.array([1.0, -2.0, 0.5, 0.0])
REWARDS = X @ THETA + 0.3 * NOISE
CLICKS = (RNG.random(60) < 1 / (1 + np.exp(-X @ THETA))).astype(float)

# Draws


def draw(mean, precision, seed, n):
    return LinearTS(len(mean), mean=mean, precision=precision, seed=seed).draw(n)


def test_draws_have_the_law_of_their_precision():
    precision = X.T @ X / 20 + np.eye(D)
    drawn = draw(THETA, precision, 1, 200_000)
    np.testing.assert_allclose(drawn.mean(0), THETA, atol=4 / np.sqrt(200_000))
    np.testing.assert_allclose(np.cov(drawn.T), np.linalg.inv(precision), atol=0.01)
    assert stats.kstest((drawn[:, 0] - THETA[0]) / np.linalg.inv(precision)[0, 0] ** 0.5, "norm").pvalue > 1e-3


def no_svd(*args, **options):
    raise AssertionError("a singular value decomposition was asked for")


def forbid_svd(monkeypatch):
    import scipy.linalg

    for module in (np.linalg, scipy.linalg):
        for name in ("svd", "eigh", "eig", "pinv"):
            monkeypatch.setattr(module, name, no_svd)


def models():
    return [LinearTS(D, seed=3), LogisticTS(D, seed=3)]


def learn(model):
    model.update(X, CLICKS)
    return model.draw(5).ravel()


def test_no_draw_goes_through_a_singular_value_decomposition(monkeypatch):
    before = [learn(model) for model in models()]
    forbid_svd(monkeypatch)
    for model, expected in zip(models(), before, strict=True):
        assert np.array_equal(learn(model), expected), "and a seed decides"


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


def svd_draw(mean, precision, seed, n):
    return np.random.default_rng(seed).multivariate_normal(mean, np.linalg.inv(precision), size=n)


def test_a_draw_through_svd_is_refused_by_these_tests(monkeypatch):
    precision = np.eye(D) + X.T @ X
    ours, other = (way(THETA, precision, 7, 2) for way in (draw, svd_draw))
    assert abs(ours - other).max() > 0.01, "the same law, but other draws of the same seed"
    assert svd_draws("rng.multivariate_normal(mean, cov)") == ["rng.multivariate_normal(mean, cov)"]
    assert svd_draws("rng.multivariate_normal(mean, cov, method='cholesky')") == []


def svd_draws(source):
    """Calls that draw vectors by numpy's default, a singular value decomposition, and decompositions themselves."""
    calls = re.findall(r"\w+\.multivariate_normal\([^()]*(?:\([^()]*\)[^()]*)*\)", source)
    return [call for call in calls if "cholesky" not in call]


def test_no_module_and_no_notebook_draws_through_svd():
    for path in [*ROOT.glob("reclab/**/*.py"), *ROOT.glob("notebooks/*.ipynb")]:
        assert not svd_draws(path.read_text("utf-8")), f"{path.name} draws through SVD"
    for name in ("contextual", "bandits", "policies", "slates"):
        assert not re.search(r"\b(svd|eigh|pinv)\b", (ROOT / "reclab" / f"{name}.py").read_text("utf-8"))


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        (np.eye(3), r"precision must be \(4, 4\), got \(3, 3\)"),
        (np.zeros((4, 4)), "precision must be positive definite; is the ridge above 0?"),
        (-np.eye(4), "precision must be positive definite; is the ridge above 0?"),
    ],
)
def test_a_precision_that_is_none_is_refused(precision, message):
    with pytest.raises(ValueError, match=f"^{message}".rstrip("?")):
        draw(THETA, precision, 0, 1)


# One theta for all arms


def test_the_posterior_is_ridge_regressions():
    model = LinearTS(D, ridge=2.0)
    for rows in np.array_split(np.arange(60), 7):
        model.update(X[rows], REWARDS[rows])
    ridge = Ridge(alpha=2.0, fit_intercept=False).fit(X, REWARDS)
    np.testing.assert_allclose(model.mean, ridge.coef_, atol=1e-10)
    np.testing.assert_allclose(model.precision, 2 * np.eye(D) + X.T @ X, atol=1e-10)


def test_an_arm_is_chosen_as_often_as_it_is_the_best():
    model = LinearTS(D, noise=0.7, seed=1)
    model.update(X[:8], REWARDS[:8])
    pair = np.array([[0.4, 0.1, 0.2, 1.0], [0.3, -0.2, 0.1, -0.5]])
    apart = pair[0] - pair[1]
    spread = 0.7 * np.sqrt(apart @ np.linalg.inv(model.precision) @ apart)
    exact = stats.norm.cdf(apart @ model.mean / spread)
    n = 200_000
    for chosen in (model.choose(pair, n), model.choose(np.tile(pair, (n, 1, 1)))):
        z = (np.mean(chosen == 0) - exact) / np.sqrt(exact * (1 - exact) / n)
        assert abs(z) < 4
    assert 0.1 < exact < 0.9


def test_without_noise_it_is_greedy():
    model = LinearTS(D, noise=0.0)
    model.update(X, REWARDS)
    assert (model.choose(X, 50) == (X @ model.mean).argmax()).all()


@pytest.mark.parametrize("kind", [LinearTS, LogisticTS])
def test_a_warm_start_goes_on_where_another_stopped(kind):
    whole, first = kind(D), kind(D)
    first.update(X[:30], CLICKS[:30])
    second = kind(D, mean=first.mean, precision=first.precision)
    for model, rows in ((whole, slice(0, 30)), (whole, slice(30, 60)), (second, slice(30, 60))):
        model.update(X[rows], CLICKS[rows])
    np.testing.assert_allclose(second.mean, whole.mean, atol=1e-8)
    np.testing.assert_allclose(second.precision, whole.precision, atol=1e-8)
    given = first.precision.copy()
    assert np.array_equal(first.precision, given), "the prior that was given is not changed"


# Logistic


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
    model.update(np.array([[-30.0], [-20.0], [25.0], [40.0]]), [0, 0, 1, 1])
    assert 0 < model.mean[0] < 10
    model.update(np.array([[30.0]] * 50), [0] * 50)
    assert np.isfinite(model.mean).all()


def test_after_many_clicks_the_truth_is_inside():
    rng, model = np.random.default_rng(2), LogisticTS(D)
    for _ in range(60):
        rows = rng.standard_normal((50, D))
        model.update(rows, (rng.random(50) < 1 / (1 + np.exp(-rows @ THETA))).astype(float))
    errors = (model.mean - THETA) / np.sqrt(np.diag(np.linalg.inv(model.precision)))
    assert abs(errors).max() < 4


# Bad input


@pytest.mark.parametrize(("ridge", "noise"), [(0, 1), (-1, 1), (np.nan, 1), (1, -1), (1, np.nan)])
def test_a_prior_out_of_range_is_refused(ridge, noise):
    message = f"^ridge must be above 0 and noise at least 0, got {ridge} and {noise}$"
    for make in (LinearTS, LogisticTS):
        with pytest.raises(ValueError, match=message):
            make(D, ridge=ridge, noise=noise)


def test_what_does_not_fit_is_refused():
    model = LinearTS(D)
    cases = [
        (lambda: LinearTS(D, mean=[1.0]), r"mean must be 4 numbers, got shape \(1,\)"),
        (lambda: model.choose(np.ones((5, 3))), r"vectors must be \(K, 4\) or \(n, K, 4\), got \(5, 3\)"),
        (lambda: model.update(np.ones((2, 3)), [1, 0]), r"vectors must be \(n, 4\) and rewards \(n,\), got .*"),
        (lambda: model.update(np.ones((2, 4)), [1]), r"vectors must be \(n, 4\) and rewards \(n,\), got .*"),
        (lambda: model.update(np.full((1, 4), np.nan), [1]), "vectors and rewards must be finite"),
        (lambda: LogisticTS(D).update(X[:1], [0.5]), "a logistic model learns from clicks: rewards must be 0 or 1"),
    ]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=f"^{message}$"):
            wrong()


def test_the_sigmoid_does_not_overflow():
    assert contextual._sigmoid(np.array([-1e4, 0, 1e4])).tolist() == [0, 0.5, 1]
