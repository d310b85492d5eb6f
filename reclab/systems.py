"""Systems for `loop.run`: by chance, by counts, by profile and content, and two in an A/B test."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .bandits import LogisticTS
from .loop import World
from .metrics import Interval

DRAWS = 25  # of the posterior in a batch, shared out among its visitors
_NOISE = 0.3  # of a learner's draws


def best(scores: np.ndarray, offered: np.ndarray, k: int) -> np.ndarray:
    """The k best items on offer in each row, best first, (n, k).

    ``scores`` is (n, n_items), ``offered`` (n_items,) bool, at least k of them True.
    """
    scores = np.where(offered, scores, -np.inf)
    top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, 1), axis=1), 1)


class Random:
    """Shows anything on offer, all alike, and learns nothing."""

    def __init__(self, world: World):
        self.looks, self.worth = world.looks, world.worth

    def recommend(self, users, offered, rng):
        return best(rng.random((len(users), len(offered))), offered, len(self.looks))

    def update(self, rows):
        pass

    def retrain(self, log):
        pass


class Counts(Random):
    """Thompson sampling on the clicks of each item, the same for all users: worth times a drawn
    click rate.

    A showing counts as many looks as its place gets; see `reclab.bandits.simulate_slates`.
    ``prior`` are the Beta parameters of each item; ``greedy`` plays the posterior's mean.
    """

    def __init__(self, world: World, prior: tuple[float, float] = (1, 4), greedy: bool = False):
        super().__init__(world)
        self.greedy = greedy
        self.counts = np.tile(np.array(prior, float)[:, None], len(world.worth))

    def recommend(self, users, offered, rng):
        clicks, misses = self.counts
        if self.greedy:
            rates = (clicks / (clicks + misses))[None]
        else:
            rates = rng.beta(clicks, misses, (DRAWS, len(clicks)))
        lists = best(rates * self.worth, offered, len(self.looks))
        return lists[rng.integers(len(lists), size=len(users))]

    def update(self, rows):
        n, looks = len(self.worth), self.looks[rows["place"]]
        clicks = np.bincount(rows["item"], rows["clicked"], n)
        self.counts += clicks, np.maximum(np.bincount(rows["item"], looks, n) - clicks, 0)


class Learner(Random):
    """Logistic Thompson sampling on all products of profile and content; it learns each night from
    the day.

    P(click) = sigmoid(x' Theta y + c log(look)): last night's posterior is the prior, so that no
    row is read twice.

    Parameters
    ----------
    person : (n_users, p) what is known of each user. content : (n_items, q) of each item, a
        constant among it.
    keep : share of the certainty that is left each morning, the rest being the first prior again;
        1: it never forgets.
    until : day from which on it learns no more.
    """

    def __init__(
        self,
        world: World,
        person: np.ndarray,
        content: np.ndarray,
        *,
        keep: float = 0.75,
        until: float = np.inf,
    ):
        super().__init__(world)
        self.person, self.content = np.asarray(person, float), np.asarray(content, float)
        self.keep, self.until = keep, until
        self.model = LogisticTS(self.person.shape[1] * self.content.shape[1] + 1, noise=_NOISE)

    def scores(self, users: np.ndarray, theta: np.ndarray | None = None) -> np.ndarray:
        """Logits of a click, (n, n_items), under theta, or under the posterior's mean."""
        theta = self.model.mean if theta is None else theta
        return self.person[users] @ theta[:-1].reshape(self.person.shape[1], -1) @ self.content.T

    def recommend(self, users, offered, rng):
        self.model.rng = rng
        parts = zip(np.array_split(users, DRAWS), self.model.draw(DRAWS), strict=True)
        logits = np.concatenate([self.scores(part, theta) for part, theta in parts])
        chances = 1 / (1 + np.exp(-logits))
        return best(chances * self.worth, offered, len(self.looks))

    def vectors(self, rows: pd.DataFrame) -> np.ndarray:
        """What the model reads of each row, (n, p q + 1)."""
        pairs = self.person[rows["user"]][:, :, None] * self.content[rows["item"]][:, None]
        return np.column_stack([pairs.reshape(len(rows), -1), np.log(self.looks)[rows["place"]]])

    def retrain(self, log):
        today = log["day"].max()
        if today >= self.until:
            return
        rows, (mean, precision) = log[log["day"] == today], (self.model.mean, self.model.precision)
        precision = self.keep * precision + (1 - self.keep) * np.eye(len(mean))
        self.model = LogisticTS(len(mean), noise=_NOISE, mean=mean, precision=precision)
        self.model.update(self.vectors(rows), rows["clicked"].to_numpy(float))


class Halves:
    """An A/B test: even users meet A, odd users B; each learns from its own, or both from all."""

    def __init__(self, a: Random, b: Random, *, shared: bool = False):
        self.arms, self.shared = (a, b), shared

    def recommend(self, users, offered, rng):
        parts = [
            arm.recommend(users[users % 2 == half], offered, rng)
            for half, arm in enumerate(self.arms)
        ]
        lists = np.empty((len(users), parts[0].shape[1]), int)
        for half, part in enumerate(parts):
            lists[users % 2 == half] = part
        return lists

    def update(self, rows):
        for arm, mine in self._seen(rows):
            arm.update(mine)

    def retrain(self, log):
        for arm, mine in self._seen(log):
            arm.retrain(mine)

    def _seen(self, rows: pd.DataFrame):
        return zip(self.arms, (rows, rows) if self.shared else halves(rows), strict=True)


def halves(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of even users and those of odd ones."""
    odd = rows["user"] % 2 == 1
    return rows[~odd], rows[odd]


def difference(log: pd.DataFrame) -> Interval:
    """Clicks per visit of odd users less those of even ones, with its 95% interval over users."""
    visits = log.groupby(["user", "day", "batch", "visit"])["clicked"].sum().groupby("user").mean()
    a, b = (visits[visits.index % 2 == half] for half in (0, 1))
    gap, half = float(b.mean() - a.mean()), 1.96 * float(np.hypot(a.sem(), b.sem()))
    return Interval(gap, gap - half, gap + half)
