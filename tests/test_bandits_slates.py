"""Lists under the position-based click model, against quadrature, closed forms and a policy that forgets places."""

import numpy as np
import pytest
from scipy import stats

from reclab import slates

RATES, LOOKED_AT = np.array([0.6, 0.5, 0.4, 0.3, 0.2, 0.1]), np.array([1.0, 0.5, 0.2])
WORTH = np.array([1.0, 1.0, 1.0, 1.0, 6.0, 1.0])


def run(**changes):
    return slates.simulate_slates(
        **({"rates": RATES, "looked_at": LOOKED_AT, "horizon": 60, "replications": 40} | changes)
    )


def test_a_slate_is_the_order_of_the_draws():
    n, clicks, looks = 200_000, np.array([3.0, 1.0, 9.0]), np.array([5.0, 6.0, 9.0])
    shown = slates.thompson_slate(
        np.tile(clicks, (n, 1)), looks, np.array([1.0, 2.0, 0.7]), 2, np.random.default_rng(0)
    )
    theta = np.random.default_rng(1).beta(1 + clicks, 1 + looks - clicks, (n, 3)) * [1.0, 2.0, 0.7]
    order = np.argsort(-theta, axis=1)[:, :2]
    counts = [np.bincount(s[:, 0] * 3 + s[:, 1], minlength=9)[[1, 2, 3, 5, 6, 7]] for s in (shown, order)]
    assert stats.chi2_contingency(counts).pvalue > 1e-3
    assert (shown[:, 0] != shown[:, 1]).all()


def test_looks_fewer_than_clicks_count_as_many():
    clicks, looks = np.full((50_000, 1), 4.0), np.full((50_000, 1), 0.5)
    two = slates.thompson_slate(
        np.hstack([clicks, clicks]), np.hstack([looks, clicks]), np.ones(2), 1, np.random.default_rng(0)
    )
    assert two.mean() == pytest.approx(0.5, abs=0.01)


def test_counts_add_up_and_regret_follows():
    found = run()
    assert (found.pulls.sum(1) == 60 * 3).all()
    assert (found.misses >= 0).all()
    assert (np.diff(found.curve, prepend=0) > -1e-12).all()
    everything = run(rates=RATES[:3])  # the three items in any order
    assert (everything.pulls == 60).all()


def test_clicks_need_a_look():
    blind = run(looked_at=[1.0, 0.0, 0.0], rates=np.ones(6))
    assert (blind.clicks.sum(1) == 60).all()
    sure = run(looked_at=np.ones(3), rates=np.ones(6))
    assert (sure.clicks.sum(1) == 180).all()
    assert sure.regret.max() == pytest.approx(0)


def test_places_that_are_looked_at_most_get_the_best_items():
    late = run(horizon=1_500, replications=20, weights=WORTH)
    assert np.diff(late.curve[-300:]).mean() < 0.15 * (1.2 + 0.3 + 0.1)
    turned = run(horizon=1_500, replications=20, weights=WORTH, looked_at=LOOKED_AT[::-1])
    assert (turned.regret >= 0).all()


def test_counting_unseen_places_as_refusals_costs():
    honest, naive = (run(horizon=3_000, replications=60, believed=b) for b in (None, np.ones(3)))
    assert honest.interval()[2] < naive.interval()[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rates": [0.5, 1.5, 0.1]}, r"rates must be a list of click probabilities in \[0, 1\], got .*"),
        ({"looked_at": [1.0, 1.2]}, r"looked_at must be a chance in \[0, 1\] for each place, got .*"),
        ({"believed": [1.0, 0.5]}, r"believed must be a chance in \[0, 1\] for each place, got .*"),
        ({"looked_at": np.ones(7)}, "a list needs 1 to 6 places, as many as there are items, got 7"),
        ({"looked_at": []}, "a list needs 1 to 6 places, as many as there are items, got 0"),
        ({"weights": -WORTH}, "weights must be 6 numbers of at least 0, one an item, got .*"),
        ({"horizon": 0}, "horizon must be >= 1 and replications >= 2, got 0 and 40"),
    ],
)
def test_a_page_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=f"(?s)^{message}$"):
        run(**wrong)
