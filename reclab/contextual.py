"""Thompson sampling on features: a linear model for all arms, and a logistic one.

All draws of vectors go through Cholesky's factor, which is unique. A singular value decomposition is not: its signs
and the order within equal values differ between linear algebra libraries, and with them the same seed's draws.

Source: Agrawal and Goyal, ICML 2013, arXiv 1209.3352; Chapelle and Li (2011), algorithm 3; Riquelme, Tucker and Snoek,
ICLR 2018, arXiv 1802.09127 (neural-linear: a linear model on a network's last layer).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

_NEWTON = 50  # steps at most; a handful is enough
_HALVINGS = 30  # of a step that goes too far
_CLOSE = 1e-10  # a step that gains no more than this is the last


def _cholesky(precision: np.ndarray, width: int) -> np.ndarray:
    if precision.shape != (width, width):
        raise ValueError(f"precision must be ({width}, {width}), got {precision.shape}")
    try:
        return np.linalg.cholesky(precision)
    except np.linalg.LinAlgError:
        raise ValueError("precision must be positive definite; is the ridge above 0?") from None


class LinearTS:
    """Thompson sampling with one theta for all arms: reward = vector of the arm . theta + noise.

    Parameters
    ----------
    width : d, numbers in the vector of an arm (or of a user and an arm).
    ridge : prior precision of theta, above 0, in units of the noise.
    noise : standard deviation of the reward's noise, and so how widely theta is drawn; 0: greedy.
    mean, precision : (d,) and (d, d), a prior in place of mean 0 and ``ridge`` times the identity: a warm start.
    seed : of the draws.

    Raises
    ------
    ValueError : ``ridge`` or ``noise`` is out of range, or the prior does not fit.

    Source: Agrawal and Goyal, ICML 2013, arXiv 1209.3352.
    """

    def __init__(self, width: int, *, ridge: float = 1.0, noise: float = 1.0, mean=None, precision=None, seed: int = 0):
        if not ridge > 0 or not noise >= 0:
            raise ValueError(f"ridge must be above 0 and noise at least 0, got {ridge} and {noise}")
        self.noise, self.rng = noise, np.random.default_rng(seed)
        self.precision = ridge * np.eye(width) if precision is None else np.array(precision, float)
        self.mean = np.zeros(width) if mean is None else np.array(mean, float)
        if self.mean.shape != (width,):
            raise ValueError(f"mean must be {width} numbers, got shape {self.mean.shape}")
        self._factor = _cholesky(self.precision, width)
        self._pull = self.precision @ self.mean

    def draw(self, n: int = 1) -> np.ndarray:
        """Draw n thetas from the posterior, (n, d): mean + noise L^-T z, precision = L L^T, z standard normal."""
        z = self.rng.standard_normal((len(self.mean), n))
        return self.mean + self.noise * solve_triangular(self._factor, z, lower=True, trans="T", check_finite=False).T

    def choose(self, vectors: np.ndarray, n: int | None = None) -> np.ndarray:
        """The arm with the largest score under a fresh theta each time.

        Parameters
        ----------
        vectors : (K, d), the same arms n times (once where left out); or (n, K, d), arms of their own each time.

        Returns: (n,) whole numbers. Raises: ValueError where the vectors do not fit.
        """
        vectors = np.asarray(vectors, float)
        if vectors.ndim not in (2, 3) or vectors.shape[-1] != len(self.mean):
            raise ValueError(f"vectors must be (K, {len(self.mean)}) or (n, K, {len(self.mean)}), got {vectors.shape}")
        if vectors.ndim == 2:
            return (self.draw(n or 1) @ vectors.T).argmax(1)
        return (vectors @ self.draw(len(vectors))[:, :, None])[:, :, 0].argmax(1)

    def update(self, vectors: np.ndarray, rewards: np.ndarray) -> None:
        """Learn from vectors that were shown, (n, d), and their rewards, (n,).

        Raises
        ------
        ValueError : they do not fit, or are not finite.
        """
        vectors, rewards = _rows(vectors, rewards, len(self.mean))
        self.precision += vectors.T @ vectors
        self._pull += vectors.T @ rewards
        self._factor = np.linalg.cholesky(self.precision)
        self.mean = cho_solve((self._factor, True), self._pull, check_finite=False)


class LogisticTS(LinearTS):
    """Thompson sampling with P(click) = sigmoid(vector . theta), and a normal posterior by Laplace's approximation.

    Parameters, Raises: as `LinearTS`; ``noise`` only widens (above 1) or narrows (below 1, 0: greedy) the draws.
    Source: Chapelle and Li (2011), algorithm 3, with the full precision in place of its diagonal.
    """

    def update(self, vectors: np.ndarray, rewards: np.ndarray) -> None:
        """Learn from vectors that were shown, (n, d), and whether they were clicked, (n,) of 0 and 1.

        The posterior so far is the prior: theta moves to the most likely one, the precision gains the curvature there.
        Raises: ValueError where they do not fit, or a reward is not 0 or 1.
        """
        vectors, clicks = _rows(vectors, rewards, len(self.mean))
        if not np.isin(clicks, (0, 1)).all():
            raise ValueError("a logistic model learns from clicks: rewards must be 0 or 1")
        theta = self._most_likely(vectors, clicks)
        p = _sigmoid(vectors @ theta)
        self.mean, self.precision = theta, self.precision + (vectors.T * (p * (1 - p))) @ vectors
        self._factor = np.linalg.cholesky(self.precision)

    def _most_likely(self, vectors: np.ndarray, clicks: np.ndarray) -> np.ndarray:
        theta, loss = self.mean, self._loss(self.mean, vectors, clicks)
        for _ in range(_NEWTON):
            p = _sigmoid(vectors @ theta)
            slope = self.precision @ (theta - self.mean) + vectors.T @ (p - clicks)
            step = np.linalg.solve(self.precision + (vectors.T * (p * (1 - p))) @ vectors, slope)
            for _ in range(_HALVINGS):
                if (further := self._loss(theta - step, vectors, clicks)) <= loss:
                    break
                step = step / 2
            if loss - further < _CLOSE:
                break
            theta, loss = theta - step, further
        return theta

    def _loss(self, theta: np.ndarray, vectors: np.ndarray, clicks: np.ndarray) -> float:
        logits, off = vectors @ theta, theta - self.mean
        return np.logaddexp(0, logits).sum() - logits @ clicks + off @ self.precision @ off / 2


def _rows(vectors, rewards, width: int) -> tuple[np.ndarray, np.ndarray]:
    vectors, rewards = np.asarray(vectors, float), np.asarray(rewards, float)
    if vectors.ndim != 2 or vectors.shape[1] != width or rewards.shape != (len(vectors),):
        raise ValueError(f"vectors must be (n, {width}) and rewards (n,), got {vectors.shape} and {rewards.shape}")
    if not (np.isfinite(vectors).all() and np.isfinite(rewards).all()):
        raise ValueError("vectors and rewards must be finite")
    return vectors, rewards


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(logits / 2)) / 2
