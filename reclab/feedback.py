"""When feedback counts and for how long: batches, delay, discounting, a sliding window.

Taught in: 06_thompson_sampling.
"""

from __future__ import annotations

from collections import deque

import numpy as np


class Memory:
    """What R replications of a bandit with K arms know: clicks (R, K) and misses (R, K).

    Parameters
    ----------
    replications, n_arms : R and K.
    delay : rounds by which feedback is late; 0: it counts in the next round.
    batch : feedback is counted only before rounds 0, batch, 2 batch, ...; 1: before each round.
    discount : what one round of feedback leaves of all that was counted before, in (0, 1].
    window : how many rounds of feedback are kept; None: all.

    Raises
    ------
    ValueError : one of them is out of range.

    Source: Garivier and Moulines, On Upper-Confidence Bound Policies for Switching Bandit Problems (2011).
    Taught in: 06_thompson_sampling.
    """

    def __init__(
        self,
        replications: int,
        n_arms: int,
        *,
        delay: int = 0,
        batch: int = 1,
        discount: float = 1.0,
        window: int | None = None,
    ):
        if delay < 0 or batch < 1:
            raise ValueError(f"delay must be >= 0 and batch >= 1, got {delay} and {batch}")
        if not 0 < discount <= 1:
            raise ValueError(f"discount must be in (0, 1], got {discount}")
        if window is not None and window < 1:
            raise ValueError(f"window must be >= 1 or None, got {window}")
        self.delay, self.batch, self.discount, self.window = delay, batch, discount, window
        self.counts = np.zeros((2, replications, n_arms))
        self._first = np.arange(replications) * n_arms
        self._waiting: deque[np.ndarray] = deque()
        self._kept: deque[np.ndarray] = deque()

    def arrive(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Count what has arrived before round t; returns clicks and misses, (R, K) each.

        Taught in: 06_thompson_sampling.
        """
        if t % self.batch == 0:
            while len(self._waiting) > self.delay:
                self._count(self._waiting.popleft())
        return self.counts[0], self.counts[1]

    def add(self, arms: np.ndarray, clicked: np.ndarray) -> np.ndarray:
        """Take the feedback of a round, arms (R,) and clicked (R,) bool; returns its places in a (2, R, K) table.

        Taught in: 06_thompson_sampling.
        """
        places = self._first + arms + np.where(clicked, 0, self.counts[0].size)
        self._waiting.append(places)
        return places

    def _count(self, places: np.ndarray) -> None:
        flat = self.counts.reshape(-1)
        if self.discount < 1:
            flat *= self.discount
        flat[places] += 1
        if self.window is not None:
            self._kept.append(places)
            if len(self._kept) > self.window:
                flat[self._kept.popleft()] -= self.discount**self.window
