"""Lists of several places: a click needs a look at the place, and a place far down is looked at less often.

Source: the position-based click model; Lagree, Vernade and Cappe, NeurIPS 2016, arXiv 1606.02448.
"""

from __future__ import annotations

import numpy as np

from .bandits import Simulation
from .policies import check_rates


def thompson_slate(clicks, looks, weights, length, rng) -> np.ndarray:
    """Draw a click rate for every item, show the largest weights times rates, best first: (R, length).

    theta_k ~ Beta(1 + clicks_k, 1 + looks_k - clicks_k), where looks count no less than clicks.

    Parameters
    ----------
    clicks, looks : (R, K) clicks on each item, and how often it was looked at, which may be an expectation.
    weights : (K,) worth of a click. length : places of the list. rng : a random generator.
    """
    theta = rng.beta(1 + clicks, 1 + np.maximum(looks - clicks, 0))
    top = np.argpartition(-weights * theta, length - 1, axis=1)[:, :length]
    order = np.argsort(-np.take_along_axis(weights * theta, top, axis=1), axis=1)
    return np.take_along_axis(top, order, axis=1)


def simulate_slates(
    rates: np.ndarray,
    looked_at: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    horizon: int,
    replications: int = 100,
    seed: int = 0,
    believed: np.ndarray | None = None,
) -> Simulation:
    """Let Thompson sampling show lists under the position-based click model, in R replications at once.

    The item at place l is looked at with chance ``looked_at[l]``, and clicked with chance ``rates[k]`` if it is. Only
    the click is seen. Each showing at place l counts ``believed[l]`` looks. Regret is counted against the list of the
    largest weights times rates, best first, in expectation.

    Parameters
    ----------
    rates : (K,) chance of a click on an item that is looked at, in [0, 1].
    looked_at : (L,) chance of a look at each place, in [0, 1]; L <= K.
    weights : (K,) worth of a click, at least 0; all 1 where left out.
    believed : (L,) what the policy takes ``looked_at`` for, in [0, 1]; the truth where left out. All ones: it counts a
        place that nobody looked at as a refusal.
    horizon : rounds T. replications : R, at least 2.

    Returns
    -------
    Simulation : its misses are showings without a click, looked at or not.

    Raises
    ------
    ValueError : a chance is outside [0, 1], a weight is negative, or the places are more than the items.
    """
    rates, looked_at = np.asarray(rates, float), np.asarray(looked_at, float)
    believed = looked_at if believed is None else np.asarray(believed, float)
    weights = np.ones(rates.shape) if weights is None else np.asarray(weights, float)
    _check(rates, looked_at, believed, weights, horizon, replications)
    rng, n_places = np.random.default_rng(seed), len(looked_at)
    clicks, shown, looks = (np.zeros((replications, len(rates))) for _ in range(3))
    row, regret, curve = np.arange(replications)[:, None], np.zeros(replications), np.empty(horizon)
    worth = weights * rates
    best = np.sort(worth)[::-1][:n_places] @ np.sort(looked_at)[::-1]
    for t in range(horizon):
        slate = thompson_slate(clicks, looks, weights, n_places, rng)
        clicks[row, slate] += rng.random(slate.shape) < looked_at * rates[slate]
        shown[row, slate] += 1
        looks[row, slate] += believed
        regret += best - worth[slate] @ looked_at
        curve[t] = regret.mean()
    return Simulation(regret, curve, clicks, shown - clicks)


def _check(rates, looked_at, believed, weights, horizon, replications) -> None:
    check_rates(rates)
    for name, chances in (("looked_at", looked_at), ("believed", believed)):
        if chances.shape != looked_at.shape or chances.ndim != 1 or not ((chances >= 0) & (chances <= 1)).all():
            raise ValueError(f"{name} must be a chance in [0, 1] for each place, got {chances}")
    if not 1 <= len(looked_at) <= len(rates):
        raise ValueError(f"a list needs 1 to {len(rates)} places, as many as there are items, got {len(looked_at)}")
    if weights.shape != rates.shape or not ((weights >= 0) & np.isfinite(weights)).all():
        raise ValueError(f"weights must be {len(rates)} numbers of at least 0, one an item, got {weights}")
    if horizon < 1 or replications < 2:
        raise ValueError(f"horizon must be >= 1 and replications >= 2, got {horizon} and {replications}")
