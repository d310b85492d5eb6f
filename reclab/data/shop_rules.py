"""The rules by which a shop is generated: who likes what, and what is shown.

Everything is drawn from uniform numbers, a stream for each name, so that turning one knob leaves all other draws alone
and no draw depends on how a library makes its normal or discrete numbers.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import UnknownNameError
from .pictures import COLOURS, PATTERNS, SILHOUETTES

BASE = -1.6  # logit of a click on an item about which nothing is known
STRENGTHS = {
    "picture": 0.8,
    "text": 0.8,
    "tags": 0.6,
    "price": 0.4,
    "profile": 0.4,
    "history": 0.8,
    "popularity": 0.4,
    "position": 0.4,
}
_MODALITIES = ("picture", "text", "tags")  # what an item may lack
AGES, GENDERS, REGIONS = ("18-24", "25-39", "40-59", "60+"), ("f", "m"), ("city", "suburb", "country")
SHELVES = ("kitchen", "garden", "travel", "sport", "music", "office")
SELLERS, _SMALL = 40, 16  # sellers, and how many of them are small
WORDS = {
    "silhouette": SILHOUETTES,
    "colour": tuple(COLOURS),
    "pattern": PATTERNS,
    "material": ("oak", "steel", "linen", "glass", "cork"),
    "style": ("rustic", "modern", "classic", "playful", "minimal"),
    "category": ("lamp", "bag", "clock", "bottle", "blanket", "stool"),
    "brand": ("Arvo", "Belmin", "Corda", "Dunoe", "Elska", "Fennor", "Gryt", "Halden"),
    "price_level": ("8", "15", "28", "50", "90"),  # dollars
}
CONTENT = {
    "picture": ("silhouette", "colour", "pattern"),
    "text": ("material", "style"),
    "tags": ("category", "brand"),
    "price": ("price_level",),
}


@dataclass(frozen=True)
class Settings:
    """The knobs of a shop, checked; see `reclab.data.shop`."""

    seed: int
    n_users: int
    n_items: int
    days: int
    strengths: dict[str, float]
    noise: float
    missing: float | dict[str, float]
    unfairness: float
    confounding: float
    drift: float

    def __post_init__(self):
        for name, low in (("seed", 0), ("n_users", 8), ("n_items", 80), ("days", 2)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
                raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}")
        for name, high in (("noise", 1), ("unfairness", 1), ("confounding", 5), ("drift", 100)):
            _within(name, getattr(self, name), high, open_end=name == "unfairness")
        object.__setattr__(self, "strengths", STRENGTHS | _of(self.strengths, STRENGTHS, "strengths", 10))
        shares = self.missing if isinstance(self.missing, dict) else dict.fromkeys(_MODALITIES, self.missing)
        object.__setattr__(self, "missing", dict.fromkeys(_MODALITIES, 0.0) | _of(shares, _MODALITIES, "missing", 1))


def _of(values: dict[str, float], known, argument: str, high: float) -> dict[str, float]:
    for name, value in values.items():
        if name not in known:
            raise UnknownNameError("modality", name, known)
        _within(f"{argument}[{name!r}]", value, high)
    return {name: float(value) for name, value in values.items()}


def _within(name: str, value: float, high: float, open_end: bool = False) -> None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (number and 0 <= value <= high and not (open_end and value == high)):
        raise ValueError(f"{name} must be from 0 to {'below ' if open_end else ''}{high}, got {value!r}")


def uniform(seed: int, name: str, *shape: int) -> np.ndarray:
    """Uniform numbers in [0, 1) of that shape from the stream of that name."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())]).random(shape)


def balanced(seed: int, name: str, n: int, levels: int) -> np.ndarray:
    """``(n,)`` codes below ``levels``, each as often as the others, in a random order."""
    codes = np.empty(n, int)
    codes[np.argsort(uniform(seed, name, n), kind="stable")] = np.arange(n) % levels
    return codes


def spread(levels: int) -> np.ndarray:
    """``levels`` evenly spaced values with mean 0 and standard deviation 1."""
    values = np.linspace(-1, 1, levels)
    return values / values.std()


@dataclass(frozen=True)
class Rules:
    """Who and what there is, and who likes what: codes of users and items, and tables of likings."""

    settings: Settings
    age: np.ndarray
    gender: np.ndarray
    region: np.ndarray
    codes: dict[str, np.ndarray]  # attribute -> (n_items,)
    shelf: np.ndarray
    seller: np.ndarray
    created: np.ndarray  # day
    popularity: np.ndarray
    likings: dict[str, np.ndarray]  # attribute -> (levels, age groups)
    turns: dict[str, np.ndarray]  # attribute -> (age groups,), and "history" -> (n_users,): when in a turn each starts
    tastes: np.ndarray  # (n_users, shelves)

    @classmethod
    def draw(cls, settings: Settings) -> Rules:
        """Draw everything that does not happen in time."""
        seed, n_users, n_items = settings.seed, settings.n_users, settings.n_items
        rank = np.argsort(np.argsort(uniform(seed, "popularity", n_items), kind="stable"), kind="stable")
        popularity = -np.log1p(-(rank + 0.5) / n_items)
        new = balanced(seed, "new", n_items, 4) == 3
        day = 1 + np.floor(uniform(seed, "created", n_items) * 0.9 * (settings.days - 1)).astype(int)
        likes = np.argsort(np.argsort(uniform(seed, "tastes", n_users, len(SHELVES)), axis=1), axis=1)
        return cls(
            settings,
            age=balanced(seed, "age", n_users, len(AGES)),
            gender=balanced(seed, "gender", n_users, len(GENDERS)),
            region=balanced(seed, "region", n_users, len(REGIONS)),
            codes={name: balanced(seed, name, n_items, len(words)) for name, words in WORDS.items()},
            shelf=balanced(seed, "shelf", n_items, len(SHELVES)),
            seller=balanced(seed, "seller", n_items, SELLERS),
            created=np.where(new, day, 0),
            popularity=(popularity - popularity.mean()) / popularity.std(),
            likings={name: _liking(seed, name, len(words)) for name, words in WORDS.items()},
            turns={name: uniform(seed, f"turn of {name}", len(AGES)) for name in WORDS}
            | {"history": uniform(seed, "turn of history", n_users)},
            tastes=np.where(likes < len(SHELVES) // 2, 1, -1),
        )

    @property
    def small(self) -> np.ndarray:
        """``(n_items,)`` bool: sold by a small seller."""
        return self.seller < _SMALL

    def odds(self, items: np.ndarray) -> np.ndarray:
        """How readily the logging policy shows each item, relative to the others."""
        fair = np.exp(self.settings.confounding * self.popularity)
        return (fair * np.where(self.small, 1 - self.settings.unfairness, 1))[items]

    def absent(self) -> pd.DataFrame:
        """Which items lack their picture, text or tags."""
        seed, missing, n = self.settings.seed, self.settings.missing, self.settings.n_items
        return pd.DataFrame({name: uniform(seed, f"absent {name}", n) < missing[name] for name in _MODALITIES})

    def steps(self, name: str, who, day) -> np.ndarray:
        """How often a liking has turned by that day."""
        if name == "price_level":
            return np.zeros(np.broadcast_shapes(np.shape(who), np.shape(day)), int)
        passed = self.settings.drift * np.maximum(day, 0) / self.settings.days
        return np.floor(passed + self.turns[name][who]).astype(int)

    def content(self, modality: str, items: np.ndarray, age, day) -> np.ndarray:
        """What a modality of the items adds to the logit of users of that age group on that day."""
        attributes = CONTENT[modality]
        total = 0.0
        for name in attributes:
            liking = self.likings[name]
            total = total + liking[(self.codes[name][items] + self.steps(name, age, day)) % len(liking), age]
        return self.settings.strengths[modality] / np.sqrt(len(attributes)) * total

    def components(self, items: np.ndarray, user: np.ndarray, day: np.ndarray, place: np.ndarray) -> dict:
        """Modality -> ``(n_rows, n_candidates)``, what each adds to the logit of a click.

        Parameters
        ----------
        items : ``(n_rows, n_candidates)``. user, day, place : ``(n_rows,)``.
        """
        strengths, column = self.settings.strengths, (lambda values: np.asarray(values)[:, None])
        age, day = column(self.age[user]), column(day)
        shelf = (self.shelf[items] + self.steps("history", column(user), day)) % len(SHELVES)
        profile = (spread(2)[self.gender[user]] + spread(3)[self.region[user]]) / np.sqrt(2)
        rest = {
            "profile": column(profile),
            "history": self.tastes[column(user), shelf],
            "popularity": self.popularity[items],
            "position": column(-spread(5)[place]),
        }
        parts = {name: self.content(name, items, age, day) for name in CONTENT}
        parts |= {name: strengths[name] * np.broadcast_to(part, items.shape) for name, part in rest.items()}
        return parts


def _liking(seed: int, name: str, levels: int) -> np.ndarray:
    """``(levels, age groups)``: the same values for every group, in an order of its own; prices up or down."""
    values = spread(levels)
    if name == "price_level":
        up = balanced(seed, "likes high prices", len(AGES), 2) == 1
        return np.where(up, values[:, None], -values[:, None])
    order = np.argsort(uniform(seed, f"liking of {name}", levels, len(AGES)), axis=0, kind="stable")
    return values[order]
