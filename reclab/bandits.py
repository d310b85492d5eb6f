"""Bandits whose clicks have different worths: policies, their simulation in many replications,
lists, and features.

A policy is a plain function of what was counted so far: clicks (R, K), misses (R, K), weights (K,),
a random generator. It returns the arm that each of the R replications plays, (R,) int.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.special import rel_entr

Policy = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
_NEVER = 1e-9  # showings of an arm that was never shown: its bound is as high as a bound can be
_KL_HALVINGS = 20  # of the interval that KL-UCB searches: a millionth is left
_NEWTON_STEPS = 50  # at most; a handful is enough
_STEP_HALVINGS = 30  # of a Newton step that goes too far
_CLOSE = 1e-10  # a Newton step that gains no more than this is the last


def thompson(alpha: float | np.ndarray = 1.0, beta: float | np.ndarray = 1.0) -> Policy:
    """Draw theta_k ~ Beta(alpha + clicks_k, beta + misses_k) for every arm, play argmax_k w_k
    theta_k: the weight never enters the counts.

    ``alpha, beta`` : the prior, above 0: one number, or one per arm (K,), or (R, K).
    Source: Thompson (1933); Chapelle and Li, An Empirical Evaluation of Thompson Sampling (2011).
    """
    if not (np.min(alpha) > 0 and np.min(beta) > 0):
        raise ValueError(f"alpha and beta must be above 0, got {alpha} and {beta}")

    def choose(clicks, misses, weights, rng):
        return (weights * rng.beta(alpha + clicks, beta + misses)).argmax(1)

    return choose


def greedy() -> Policy:
    """Play the largest weight times posterior mean under a prior of Beta(1, 1); ties by chance."""

    def choose(clicks, misses, weights, rng):
        return _largest(weights * (1 + clicks) / (2 + clicks + misses), rng)

    return choose


def epsilon_greedy(epsilon: float = 0.1) -> Policy:
    """Greedy, but with probability ``epsilon``, in [0, 1], any arm, all alike."""
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
    exploit = greedy()

    def choose(clicks, misses, weights, rng):
        arms = exploit(clicks, misses, weights, rng)
        explore = rng.random(len(arms)) < epsilon
        return np.where(explore, rng.integers(clicks.shape[1], size=len(arms)), arms)

    return choose


def uniform() -> Policy:
    """Any arm, all alike, whatever was learnt."""
    return lambda clicks, misses, weights, rng: rng.integers(clicks.shape[1], size=len(clicks))


def ucb1() -> Policy:
    """Play the arm of the largest weight times (click rate + sqrt(2 ln t / n)), n being how often
    it was shown; what was never shown comes first, ties by chance.

    Source: Auer, Cesa-Bianchi and Fischer, Machine Learning 2002, doi 10.1023/A:1013689704352.
    """

    def choose(clicks, misses, weights, rng):
        shown, log_t = _shown(clicks, misses)
        return _largest(weights * (clicks / shown + np.sqrt(2 * log_t / shown)), rng)

    return choose


def kl_ucb() -> Policy:
    """Play the arm of the largest weight times q, the largest rate with n kl(click rate, q) <= ln
    t; what was never shown has q = 1, ties by chance.

    Source: Garivier and Cappe, COLT 2011, arXiv 1102.2490, with c = 0.
    """

    def choose(clicks, misses, weights, rng):
        shown, log_t = _shown(clicks, misses)
        rate = clicks / shown
        low, high = rate, np.ones(rate.shape)
        for _ in range(_KL_HALVINGS):
            middle = (low + high) / 2
            inside = shown * bernoulli_kl(rate, middle) <= log_t
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return _largest(weights * high, rng)

    return choose


def bernoulli_kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Relative entropy p ln(p/q) + (1-p) ln((1-p)/(1-q)) of click rates, in nats; 0 ln 0 is 0."""
    return rel_entr(p, q) + rel_entr(1 - np.asarray(p), 1 - np.asarray(q))


def lai_robbins(rates: np.ndarray) -> float:
    """The least slope of regret over ln T that any consistent policy can have: sum of (p* - p_k) /
    kl(p_k, p*) over the arms below the best. ``rates`` : (K,) click probabilities.

    Source: Lai and Robbins (1985), doi 10.1016/0196-8858(85)90002-8.

    >>> round(lai_robbins([0.5] + [0.4] * 9), 2)
    44.7
    """
    rates = _chances("rates", rates)
    below = rates[rates < rates.max()]
    return float(((rates.max() - below) / bernoulli_kl(below, rates.max())).sum())


@dataclass(frozen=True)
class Simulation:
    """What R replications of T rounds left."""

    regret: np.ndarray  # (R,) cumulative pseudo-regret
    curve: np.ndarray  # (T,) its mean over replications by round
    clicks: np.ndarray  # (R, K)
    misses: np.ndarray  # (R, K)

    @property
    def pulls(self) -> np.ndarray:
        return self.clicks + self.misses

    def interval(self) -> tuple[float, float, float]:
        """Mean final regret and its 95% normal interval over replications."""
        mean, error = self.regret.mean(), self.regret.std(ddof=1) / np.sqrt(len(self.regret))
        return mean, mean - 1.96 * error, mean + 1.96 * error


def simulate(
    policy: Policy,
    rates: np.ndarray | Callable[[int], np.ndarray],
    weights: np.ndarray | None = None,
    *,
    horizon: int,
    replications: int = 100,
    seed: int = 0,
    delay: int = 0,
    batch: int = 1,
    discount: float = 1.0,
    window: int | None = None,
    on_offer: Callable[[int], np.ndarray] | None = None,
) -> Simulation:
    """Let a policy play a world of known click rates, in many independent replications at once.

    Regret is counted against the arm of the largest ``weights * rates`` of its round and is
    pseudo-regret: expected, not realised, reward.

    Parameters
    ----------
    rates : click probabilities: (K,), or (R, K), or a function of the round that returns either.
    weights : (K,) reward of a click, at least 0; all 1 where left out.
    horizon, replications : rounds T, at least 1, and R, at least 2.
    delay : rounds by which feedback is late; 0: it counts in the next round.
    batch : feedback is counted only before rounds 0, batch, 2 batch, ...
    discount : what one round of feedback leaves of all that was counted before, in (0, 1].
    window : how many rounds of feedback are kept; None: all.
    on_offer : a function of the round that returns (K,) bool, the arms that the policy sees and may
        play; None: all.

    Raises ValueError: an argument is out of range, or the policy plays no arm on offer.
    Source: Lattimore and Szepesvari, Bandit Algorithms (2020), chapters 4 and 36; discount and
    window: Garivier and Moulines, ALT 2011, arXiv 0805.3415.
    """
    _check_sizes(horizon, replications)
    if delay < 0 or batch < 1 or not 0 < discount <= 1 or (window is not None and window < 1):
        raise ValueError(
            "delay must be >= 0, batch >= 1, discount in (0, 1] and window >= 1 or None, got "
            f"{delay}, {batch}, {discount} and {window}"
        )
    p, loss, weights, there = _round(0, rates, weights, on_offer, replications)
    rng, row = np.random.default_rng(seed), np.arange(replications)
    known = np.zeros((2, *p.shape))  # clicks and misses that the policy knows of
    totals = np.zeros(known.shape, np.int32)
    waiting, kept = deque(), deque()  # rounds of feedback, as indices of both tables
    regret, curve = np.zeros(replications), np.empty(horizon)
    for t in range(horizon):
        while t % batch == 0 and len(waiting) > delay:
            feedback = waiting.popleft()
            known *= discount
            known[feedback] += 1
            if window is not None:
                kept.append(feedback)
                if len(kept) > window:
                    known[kept.popleft()] -= discount**window
        if t and (callable(rates) or on_offer is not None):
            p, loss, weights, there = _round(t, rates, weights, on_offer, replications)
        clicks, misses = known[:, :, there]
        arms = np.asarray(policy(clicks, misses, weights[there], rng))
        _check_arms(arms, clicks.shape)
        if on_offer is not None:
            arms = there[arms]
        clicked = rng.random(replications) < p[row, arms]
        waiting.append((np.where(clicked, 0, 1), row, arms))
        totals[waiting[-1]] += 1
        regret += loss[row, arms]
        curve[t] = regret.mean()
    return Simulation(regret, curve, *totals)


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
    """Let Thompson sampling show lists under the position-based click model.

    The item at position l is looked at with probability ``looked_at[l]``, its examination
    probability, and clicked with probability ``rates[k]`` if it is. Only the click is seen. Each
    showing at position l counts ``believed[l]`` looks: theta_k ~ Beta(1 + clicks_k, 1 + looks_k -
    clicks_k), where looks count no less than clicks, and the list shows the largest w_k theta_k,
    best first. Misses are showings without a click; regret is counted against the best list.

    Parameters
    ----------
    rates : (K,) probability of a click on an item that is looked at.
    looked_at : (L,) probability of a look at each position; L <= K.
    weights, horizon, replications : as in `simulate`, whose errors it raises.
    believed : (L,) what the policy takes ``looked_at`` for; the truth where left out. All ones: it
        counts a position that nobody looked at as a refusal.

    Source: Lagree, Vernade and Cappe, NeurIPS 2016, arXiv 1606.02448.
    """
    _check_sizes(horizon, replications)
    rates, looked_at = _chances("rates", rates), _chances("looked_at", looked_at)
    believed = looked_at if believed is None else _chances("believed", believed)
    length = len(looked_at)
    if length > len(rates) or len(believed) != length:
        raise ValueError(
            f"looked_at and believed need one chance for each of at most {len(rates)} positions, "
            f"got {length} and {len(believed)}"
        )
    weights = _weights(weights, len(rates))
    rng, row = np.random.default_rng(seed), np.arange(replications)[:, None]
    clicks, shown, looks = np.zeros((3, replications, len(rates)))
    regret, curve = np.zeros(replications), np.empty(horizon)
    worth = weights * rates
    best = np.sort(worth)[::-1][:length] @ np.sort(looked_at)[::-1]
    for t in range(horizon):
        drawn = weights * rng.beta(1 + clicks, 1 + np.maximum(looks - clicks, 0))
        slate = np.argsort(-drawn, axis=1)[:, :length]
        clicks[row, slate] += rng.random(slate.shape) < looked_at * rates[slate]
        shown[row, slate] += 1
        looks[row, slate] += believed
        regret += best - worth[slate] @ looked_at
        curve[t] = regret.mean()
    return Simulation(regret, curve, clicks, shown - clicks)


class LinearTS:
    """Thompson sampling with one theta for all arms: reward = vector of the arm . theta + noise.

    Parameters
    ----------
    width : d, numbers in the vector of an arm (or of a user and an arm).
    ridge : prior precision of theta, above 0, in units of the noise.
    noise : standard deviation of the reward's noise, and so how widely theta is drawn; 0: greedy.
    mean, precision : (d,) and (d, d), a prior in place of mean 0 and ``ridge`` times the identity:
        a warm start.

    Draws go through Cholesky's factor, which is unique, so that a seed gives the same ones with
    every linear algebra library; those of a singular value decomposition differ.
    Source: Agrawal and Goyal, ICML 2013, arXiv 1209.3352; on the last layer of a network
    (neural-linear): Riquelme, Tucker and Snoek, ICLR 2018, arXiv 1802.09127.
    """

    def __init__(
        self,
        width: int,
        *,
        ridge: float = 1.0,
        noise: float = 1.0,
        mean: np.ndarray | None = None,
        precision: np.ndarray | None = None,
        seed: int = 0,
    ):
        if not ridge > 0 or not noise >= 0:
            raise ValueError(f"ridge must be above 0 and noise at least 0, got {ridge} and {noise}")
        self.noise, self.rng = noise, np.random.default_rng(seed)
        self.precision = ridge * np.eye(width) if precision is None else np.array(precision, float)
        self.mean = np.zeros(width) if mean is None else np.array(mean, float)
        if self.mean.shape != (width,) or self.precision.shape != (width, width):
            raise ValueError(
                f"mean must be ({width},) and precision ({width}, {width}), got "
                f"{self.mean.shape} and {self.precision.shape}"
            )
        self._factor = np.linalg.cholesky(self.precision)
        self._pull = self.precision @ self.mean

    def draw(self, n: int = 1) -> np.ndarray:
        """n thetas from the posterior, (n, d): mean + noise L^-T z, where precision = L L^T."""
        z = self.rng.standard_normal((len(self.mean), n))
        return self.mean + self.noise * solve_triangular(self._factor, z, lower=True, trans="T").T

    def choose(self, vectors: np.ndarray, n: int = 1) -> np.ndarray:
        """The arm with the largest score under a fresh theta each time, (n,) int.

        ``vectors`` : (K, d), the same arms n times; or (n, K, d), arms of their own each time.
        """
        vectors, width = np.asarray(vectors, float), len(self.mean)
        if vectors.ndim not in (2, 3) or vectors.shape[-1] != width:
            raise ValueError(f"vectors must be (..., K, {width}), got {vectors.shape}")
        if not np.isfinite(vectors).all():
            arm = int(np.argwhere(~np.isfinite(vectors))[0][-2])
            raise ValueError(f"vectors must be finite, those of arm {arm} are not; leave it out")
        if vectors.ndim == 2:
            return (self.draw(n) @ vectors.T).argmax(1)
        return (vectors @ self.draw(len(vectors))[:, :, None])[:, :, 0].argmax(1)

    def update(self, vectors: np.ndarray, rewards: np.ndarray) -> None:
        """Learn from vectors that were shown, (n, d), and their rewards, (n,)."""
        vectors, rewards = self._rows(vectors, rewards)
        self.precision += vectors.T @ vectors
        self._pull += vectors.T @ rewards
        self._factor = np.linalg.cholesky(self.precision)
        self.mean = cho_solve((self._factor, True), self._pull)

    def _rows(self, vectors: np.ndarray, rewards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        vectors, rewards = np.asarray(vectors, float), np.asarray(rewards, float)
        n, width = len(vectors), len(self.mean)
        if vectors.shape != (n, width) or rewards.shape != (n,):
            shapes = f"{vectors.shape} and {rewards.shape}"
            raise ValueError(f"vectors must be (n, {width}) and rewards (n,), got {shapes}")
        if not (np.isfinite(vectors).all() and np.isfinite(rewards).all()):
            raise ValueError("vectors and rewards must be finite")
        return vectors, rewards


class LogisticTS(LinearTS):
    """`LinearTS` with P(click) = sigmoid(vector . theta), and a normal posterior by Laplace's
    approximation; ``noise`` only widens (above 1) or narrows (below 1, 0: greedy) the draws.

    Source: Chapelle and Li (2011), algorithm 3, with the full precision in place of its diagonal.
    """

    def update(self, vectors: np.ndarray, rewards: np.ndarray) -> None:
        """Learn from vectors that were shown, (n, d), and whether they were clicked, (n,) of 0 and
        1: theta moves to the most likely one, the precision gains the curvature there.
        """
        vectors, clicks = self._rows(vectors, rewards)
        if not np.isin(clicks, (0, 1)).all():
            raise ValueError("a logistic model learns from clicks: rewards must be 0 or 1")
        theta, loss = self.mean, self._loss(self.mean, vectors, clicks)
        for _ in range(_NEWTON_STEPS):
            p = _sigmoid(vectors @ theta)
            slope = self.precision @ (theta - self.mean) + vectors.T @ (p - clicks)
            step = np.linalg.solve(self._curvature(p, vectors), slope)
            for _ in range(_STEP_HALVINGS):
                if (further := self._loss(theta - step, vectors, clicks)) <= loss:
                    break
                step = step / 2
            if loss - further < _CLOSE:
                break
            theta, loss = theta - step, further
        self.precision = self._curvature(_sigmoid(vectors @ theta), vectors)
        self.mean, self._factor = theta, np.linalg.cholesky(self.precision)

    def _loss(self, theta: np.ndarray, vectors: np.ndarray, clicks: np.ndarray) -> float:
        """Minus the log of the posterior, up to a constant."""
        logits, off = vectors @ theta, theta - self.mean
        return np.logaddexp(0, logits).sum() - logits @ clicks + off @ self.precision @ off / 2

    def _curvature(self, p: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """The Hessian of the loss, (d, d), where the vectors are clicked with probabilities p."""
        return self.precision + (vectors.T * (p * (1 - p))) @ vectors


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(logits / 2)) / 2


def _round(t: int, rates, weights, on_offer, replications: int):
    """Rates and losses of round t, (R, K), weights (K,), and which columns are on offer."""
    rates = _chances("rates", rates(t) if callable(rates) else rates, replications)
    weights, there = _weights(weights, rates.shape[-1]), slice(None)
    if on_offer is not None:
        offered = np.asarray(on_offer(t))
        if offered.shape != weights.shape or offered.dtype != bool or not offered.any():
            raise ValueError(f"on_offer must mark some of {len(weights)} arms, got {offered}")
        there = np.flatnonzero(offered)
    worth = weights * rates
    loss = worth[..., there].max(-1, keepdims=True) - worth
    shape = replications, len(weights)  # a view: rates (K,) are not copied for each replication
    return np.broadcast_to(rates, shape), np.broadcast_to(loss, shape), weights, there


def _shown(clicks: np.ndarray, misses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each arm was shown, a little above 0 where never; log of the next round, (R, 1)."""
    shown = clicks + misses
    return np.maximum(shown, _NEVER), np.log1p(shown.sum(1, keepdims=True))


def _largest(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The column of the largest score in each row, (R,); ties by chance."""
    return np.where(scores == scores.max(1, keepdims=True), rng.random(scores.shape), -1).argmax(1)


def _chances(name: str, values, replications: int | None = None) -> np.ndarray:
    """Probabilities as an array: (K,), or (R, K) for R replications."""
    values = np.asarray(values, float)
    fits = values.ndim == 1 or (values.ndim == 2 and len(values) == replications)
    if not fits or not values.size or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"{name} must be a list of probabilities in [0, 1], got {values}")
    return values


def _weights(weights, n: int) -> np.ndarray:
    weights = np.ones(n) if weights is None else np.asarray(weights, float)
    if weights.shape != (n,) or not ((weights >= 0) & np.isfinite(weights)).all():
        raise ValueError(f"weights must be {n} finite numbers of at least 0, got {weights}")
    return weights


def _check_sizes(horizon: int, replications: int) -> None:
    if horizon < 1 or replications < 2:
        raise ValueError(
            f"horizon must be >= 1 and replications >= 2, got {horizon} and {replications}"
        )


def _check_arms(arms: np.ndarray, shape: tuple[int, int]) -> None:
    n, n_arms = shape
    whole = arms.shape == (n,) and arms.dtype.kind in "iu"
    if not whole or arms.min() < 0 or arms.max() >= n_arms:
        raise ValueError(
            f"the policy must return {n} whole numbers in 0..{n_arms - 1}, got {arms} of shape "
            f"{arms.shape}"
        )
