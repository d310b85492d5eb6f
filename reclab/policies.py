"""Policies for Bernoulli bandits whose arms have different worths: which arm to play after what was counted.

Source: Thompson (1933); Chapelle and Li, An Empirical Evaluation of Thompson Sampling (2011).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# A policy is a function of what was counted so far: clicks (R, K), misses (R, K), weights (K,), a random generator.
# It returns the arm that each of the R replications plays: (R,) int.
Policy = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
HALVINGS = 20  # of the interval that KL-UCB searches: a millionth is left
_NEVER = 1e-9  # showings of an arm that was never shown: its bound is as high as a bound can be


def thompson(alpha: float | np.ndarray = 1.0, beta: float | np.ndarray = 1.0) -> Policy:
    """Thompson sampling: draw a click rate for every arm from its posterior, play the largest weight times rate.

    theta_k ~ Beta(alpha + clicks_k, beta + misses_k); the arm played is argmax_k w_k theta_k. The weight never enters
    the counts: only clicks and misses update the posterior.

    Parameters
    ----------
    alpha, beta : prior, above 0: one number, or one an arm (K,), or (R, K).

    Raises
    ------
    ValueError : ``alpha`` or ``beta`` is not above 0.

    Source: Thompson (1933); Chapelle and Li (2011).
    """
    _check_prior(alpha, beta)

    def choose(clicks, misses, weights, rng):
        _check_prior_fits(alpha, beta, clicks)
        return (weights * rng.beta(alpha + clicks, beta + misses)).argmax(1)

    return choose


def greedy(alpha: float | np.ndarray = 1.0, beta: float | np.ndarray = 1.0) -> Policy:
    """Play the arm of the largest weight times posterior mean; equal ones by chance. It never explores on purpose.

    Raises
    ------
    ValueError : ``alpha`` or ``beta``, the prior, is not above 0.
    """
    _check_prior(alpha, beta)

    def choose(clicks, misses, weights, rng):
        _check_prior_fits(alpha, beta, clicks)
        return _largest(weights * (alpha + clicks) / (alpha + beta + clicks + misses), rng)

    return choose


def epsilon_greedy(epsilon: float = 0.1) -> Policy:
    """Greedy, but with chance ``epsilon`` any arm, all alike.

    Raises
    ------
    ValueError : ``epsilon`` is not in [0, 1].
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
    exploit = greedy()

    def choose(clicks, misses, weights, rng):
        arms = exploit(clicks, misses, weights, rng)
        explore = rng.random(len(arms)) < epsilon
        return np.where(explore, rng.integers(clicks.shape[1], size=len(arms)), arms)

    return choose


def ucb1() -> Policy:
    """Play the arm of the largest weight times (click rate + sqrt(2 ln t / n)), n being how often it was shown.

    What was never shown is played first. Equal ones by chance.

    Source: Auer, Cesa-Bianchi and Fischer, Machine Learning 2002, doi 10.1023/A:1013689704352.
    """

    def choose(clicks, misses, weights, rng):
        shown, log_t = _shown(clicks, misses)
        return _largest(weights * (clicks / shown + np.sqrt(2 * log_t / shown)), rng)

    return choose


def kl_ucb() -> Policy:
    """Play the arm of the largest weight times q, the largest rate with n kl(click rate, q) <= ln t.

    What was never shown has q = 1. Equal ones by chance.

    Source: Garivier and Cappe, COLT 2011, arXiv 1102.2490, with c = 0.
    """

    def choose(clicks, misses, weights, rng):
        shown, log_t = _shown(clicks, misses)
        rate = clicks / shown
        low, high = rate, np.ones(rate.shape)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            inside = shown * bernoulli_kl(rate, middle) <= log_t
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return _largest(weights * high, rng)

    return choose


def bernoulli_kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Relative entropy p ln(p/q) + (1-p) ln((1-p)/(1-q)) of Bernoulli rates, in nats; 0 ln 0 is 0."""
    from scipy.special import rel_entr

    return rel_entr(p, q) + rel_entr(1 - np.asarray(p), 1 - np.asarray(q))


def lai_robbins(rates: np.ndarray) -> float:
    """The least slope of regret over ln T that any consistent policy can have: sum of (p* - p_k) / kl(p_k, p*).

    Parameters
    ----------
    rates : (K,) click probabilities; arms as good as the best add nothing.

    Raises
    ------
    ValueError : ``rates`` are no click probabilities.

    Source: Lai and Robbins (1985), doi 10.1016/0196-8858(85)90002-8.

    >>> round(lai_robbins([0.5] + [0.4] * 9), 2)
    44.7
    """
    rates = np.asarray(rates, float)
    check_rates(rates)
    below = rates[rates < rates.max()]
    return float(((rates.max() - below) / bernoulli_kl(below, rates.max())).sum())


def uniform() -> Policy:
    """Any arm, all alike, whatever was learnt."""
    return lambda clicks, misses, weights, rng: rng.integers(clicks.shape[1], size=len(clicks))


def check_rates(rates: np.ndarray) -> None:
    """Refuse what is no list of click probabilities, (K,).

    Raises
    ------
    ValueError : a value is missing or outside [0, 1], or there is none.
    """
    if rates.ndim != 1 or not len(rates) or not ((rates >= 0) & (rates <= 1)).all():
        raise ValueError(f"rates must be a list of click probabilities in [0, 1], got {rates}")


def _shown(clicks: np.ndarray, misses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each arm was shown, a little above 0 where never, and the logarithm of the round that comes, (R, 1)."""
    shown = clicks + misses
    return np.maximum(shown, _NEVER), np.log1p(shown.sum(1, keepdims=True))


def _largest(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The column of the largest score in each row, (R,); equal ones by chance."""
    return np.where(scores == scores.max(1, keepdims=True), rng.random(scores.shape), -1).argmax(1)


def _check_prior(alpha, beta) -> None:
    if not (np.all(np.asarray(alpha) > 0) and np.all(np.asarray(beta) > 0)):
        raise ValueError(f"alpha and beta must be above 0, got {alpha} and {beta}")


def _check_prior_fits(alpha, beta, clicks: np.ndarray) -> None:
    for prior in (alpha, beta):
        if np.ndim(prior) and np.shape(prior)[-1:] != clicks.shape[-1:]:
            raise ValueError(f"the prior is for arms of shape {np.shape(prior)}, but {clicks.shape[-1]} are on offer")
