"""The shop: a generated marketplace with known truth, for what no free data set has.

Nothing in it was observed: people, items, pictures, searches and clicks come from the rules below
and a seed. A result on it says whether a method finds what was planted, never how people behave.
All draws are uniform numbers, a stream for each name: turning one knob leaves all other draws
alone, and no draw depends on how a library makes its normal or discrete numbers.

The logit of a click is a sum of components, one a modality, drawn independently of each other:
``logit = base + picture + text + tags + price + profile + history + popularity + position``.
Every age group likes the same set of values in an order of its own, so a component is distributed
alike in all of them. A shop has few items, so components correlate a little by chance; over seeds
this averages out.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd

from ..errors import UnknownNameError
from .schema import Card, Dataset

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
CONTENT = {
    "picture": ("silhouette", "colour", "pattern"),
    "text": ("material", "style"),
    "tags": ("category", "brand"),
    "price": ("price_level",),
}
COLOURS = {
    "red": (200, 50, 45),
    "orange": (235, 140, 30),
    "green": (50, 150, 70),
    "blue": (50, 90, 190),
    "purple": (130, 60, 160),
    "yellow": (230, 210, 60),
}
WORDS = {
    "silhouette": ("disc", "block", "cone", "cross"),
    "colour": tuple(COLOURS),
    "pattern": ("plain", "stripes", "dots", "checks"),
    "material": ("oak", "steel", "linen", "glass", "cork"),
    "style": ("rustic", "modern", "classic", "playful", "minimal"),
    "category": ("lamp", "bag", "clock", "bottle", "blanket", "stool"),
    "brand": ("Arvo", "Belmin", "Corda", "Dunoe", "Elska", "Fennor", "Gryt", "Halden"),
    "price_level": ("8", "15", "28", "50", "90"),  # dollars
}
AGES, GENDERS = ("18-24", "25-39", "40-59", "60+"), ("f", "m")
REGIONS = ("city", "suburb", "country")
SHELVES = ("kitchen", "garden", "travel", "sport", "music", "office")
START = pd.Timestamp("2026-01-01", tz="UTC")
PICTURE_SIZE = 32  # pixels a side
_TEXTS = (
    "A {style} piece made of {material}. It arrives in two days.",
    "Made of {material}, with a {style} look that lasts.",
    "If you like it {style}: {material}, finished by hand.",
    "A {style} design in solid {material}. Wipe it with a damp cloth.",
    "Our favourite of the season, {style} and made from {material}.",
    "It is {material} throughout. The look is {style}, the box is recycled.",
)
_MAY_LACK = ("picture", "text", "tags")
_SELLERS, _SMALL = 40, 16  # sellers, and how many of them are small
_PLACES = 5  # on a page
_OLD, _NEW = 6, 2  # candidates for each place: old items, and those that arrive
_VISITS, _EARLIER = 15, 30  # most visits of a user; searches of a user before the first day
_DAY = 86_400  # seconds


@dataclass(frozen=True, repr=False)
class Shop(Dataset):
    """A `Dataset` whose interactions are impressions, with pictures, searches and the truth.

    Parameters
    ----------
    users : ``age_group, gender, region``. items : ``text`` (material and style), ``category,
        brand`` (the tags), ``price`` (dollars), ``shelf, seller_id, seller_group, created`` (UTC).
    interactions : one row an impression: ``search_id, place`` (1 to 5), ``propensity, positive`` (a
        click), ``purchased, timestamp``; a user meets an item at most once.
    pictures : ``(n_items, 32, 32, 3)`` uint8, zero where absent.
    present : ``picture, text, tags`` (bool) of each item, in the order of ``items``.
    searches : ``search_id, user_id, query, timestamp``, also from before the first day.
    candidates : ``(n_rows, 8)`` rows of ``items`` that could have been shown in that place, and
        ``propensities``, how likely each; they sum to 1, and are 0 before an item is on sale.
    settings : what `shop` was called with.
    """

    pictures: np.ndarray
    present: pd.DataFrame
    searches: pd.DataFrame
    candidates: np.ndarray
    propensities: np.ndarray
    truth: Truth
    settings: dict


@dataclass(frozen=True)
class Truth:
    """The planted truth of a shop; rows are those of its ``interactions``.

    Parameters
    ----------
    components : ``(n_rows,)`` each, the logit that each modality adds to ``BASE``.
    click_probability : ``(n_rows,)`` of the item shown.
    candidate_probability : ``(n_rows, 8)`` of each item that could have been shown; NaN where an
        item was not yet on sale.
    items : the true attributes of every item, also where its picture, text or tags are absent.
    """

    components: pd.DataFrame
    click_probability: np.ndarray
    candidate_probability: np.ndarray
    items: pd.DataFrame


def sigmoid(logit):
    """The probability that belongs to a logit."""
    return 1 / (1 + np.exp(-np.asarray(logit, float)))


def expected_auc(scores: np.ndarray, probability: np.ndarray) -> float:
    """AUC of scores ``(n,)`` when row i is a click with probability p_i: expected wins over
    expected pairs. Scores closer than a billionth count as equal: rounding breaks no tie.
    """
    _, place = np.unique(np.asarray(scores).round(9), return_inverse=True)
    clicks = np.bincount(place, weights=probability)
    others = np.bincount(place, weights=1 - probability)
    below = np.cumsum(others) - others / 2
    return float((clicks * below).sum() / (clicks.sum() * others.sum()))


def shop(seed: int = 0, **knobs) -> Shop:
    """Generate a marketplace whose truth is known; equal arguments give an equal shop everywhere.

    Parameters
    ----------
    seed : 0 or more. What a knob does not touch stays as it is when the knob turns.
    n_users, n_items : at least 8 and 80 (1000 and 600); a user visits up to 15 times, or
        ``n_items // 40``. A quarter of the items arrives during the period.
    days : length of the log (28).
    strengths : modality -> standard deviation of its part of the click's logit; 0 plants no effect.
        The others keep those of ``STRENGTHS``. ``picture, text, tags, price``: each age group likes
        the values in an order of its own. ``profile``: gender and region. ``history``: every user
        likes half of the shelves, and mostly searches there. ``popularity``: of the item, seen only
        in what is clicked. ``position``: the place on the page.
    noise : share of clicks that are accidents, as likely for every item.
    missing : share of items whose picture, text and tags are absent, each at random; or one share
        for each.
    unfairness : 0 to 0.99; lowers the odds that a small seller's item is shown by this share, at
        equal relevance.
    confounding : how much popularity moves what is shown: odds go with
        exp(confounding * popularity).
    drift : how often tastes turn during the period: each turn moves every liking on to the next
        value, for each age group, attribute and user on a day of their own. Prices are liked as
        before.

    Raises ValueError: a knob is out of range. UnknownNameError : no such modality.
    """
    rules = Rules(seed, **knobs)
    shown, candidates, on_sale = _visits(rules)
    odds = rules.odds[candidates] * on_sale
    total = odds.sum(axis=1, keepdims=True)
    propensities = odds / total
    drawn = uniform(seed, "chosen", len(shown), 1) * total
    choice = (drawn < odds.cumsum(axis=1)).argmax(axis=1)
    parts = rules.components(candidates, *shown[["user", "day", "place"]].to_numpy().T)
    clicked_on_purpose = (1 - rules.noise) * sigmoid(BASE + sum(parts.values()))
    probability = clicked_on_purpose + rules.noise * sigmoid(BASE)
    rows = np.arange(len(shown))
    shown["item"], shown["propensity"] = candidates[rows, choice], propensities[rows, choice]
    truth = Truth(
        components=pd.DataFrame({name: part[rows, choice] for name, part in parts.items()}),
        click_probability=probability[rows, choice],
        candidate_probability=np.where(on_sale, probability, np.nan),
        items=pd.DataFrame(
            {"item_id": rules.item_ids} | rules.named | {"popularity": rules.popularity}
        ),
    )
    profile = {
        "age_group": _pick(AGES, rules.age),
        "gender": _pick(GENDERS, rules.gender),
        "region": _pick(REGIONS, rules.region),
    }
    return Shop(
        users=pd.DataFrame({"user_id": rules.user_ids} | profile),
        items=_items(rules),
        interactions=_impressions(rules, shown, truth),
        card=Card(
            title="shop: a generated marketplace",
            source="generated by reclab.data.shop",
            licence="MIT, as this package",
            traps=(
                "Generated: it shows what a method finds of what was planted, "
                "never how people behave.",
                "`truth` and a purchase are not known before the click: never features.",
                "The picture's attributes stand in no text and no tag; `truth.items` names them, "
                "also where the picture is absent.",
                "An item's id or click rate gives away part of its picture, text and tags: "
                "measure shares without them.",
                "With confounding, popular items are shown more and clicked more: "
                "weigh by 1 / propensity.",
            ),
        ),
        pictures=_pictures(rules),
        present=~rules.absent,
        searches=_searches(rules, shown),
        candidates=candidates,
        propensities=propensities,
        truth=truth,
        settings=asdict(rules),
    )


# The rules: who and what there is, who likes what, and what is shown.


@dataclass
class Rules:
    """Everything of a shop that does not happen in time, drawn from the knobs of `shop`.

    ``age`` is the place in ``AGES`` of each user, and so on; ``codes`` attribute -> ``(n_items,)``
    places in ``WORDS``; ``likings`` attribute -> ``(levels, age groups)``; ``turns`` attribute ->
    ``(age groups,)`` and "history" -> ``(n_users,)``: how far into a turn of tastes each starts;
    ``created`` a day; ``odds``, how readily the logging policy shows an item.
    """

    seed: int = 0
    n_users: int = 1000
    n_items: int = 600
    days: int = 28
    strengths: dict[str, float] = field(default_factory=dict)
    noise: float = 0.0
    missing: float | dict[str, float] = 0.0
    unfairness: float = 0.0
    confounding: float = 0.0
    drift: float = 0.0

    def __post_init__(self):
        self._check()
        seed, n_users, n_items = self.seed, self.n_users, self.n_items
        self.user_ids, self.item_ids = ids("u", n_users), ids("i", n_items)
        self.age = _balanced(seed, "age", n_users, len(AGES))
        self.gender = _balanced(seed, "gender", n_users, len(GENDERS))
        self.region = _balanced(seed, "region", n_users, len(REGIONS))
        shelves = np.argsort(uniform(seed, "tastes", n_users, len(SHELVES)), axis=1)
        self.tastes = np.where(np.argsort(shelves, axis=1) < len(SHELVES) // 2, 1, -1)
        self.likings = {name: _liking(seed, name) for name in WORDS}
        self.turns = {name: uniform(seed, f"turn of {name}", len(AGES)) for name in WORDS}
        self.turns["history"] = uniform(seed, "turn of history", n_users)

        self.codes = {name: _balanced(seed, name, n_items, len(WORDS[name])) for name in WORDS}
        self.named = {name: _pick(WORDS[name], codes) for name, codes in self.codes.items()}
        self.shelf = _balanced(seed, "shelf", n_items, len(SHELVES))
        self.seller = _balanced(seed, "seller", n_items, _SELLERS)
        arrives = _balanced(seed, "new", n_items, 4) == 3
        day = 1 + np.floor(uniform(seed, "created", n_items) * 0.9 * (self.days - 1)).astype(int)
        self.created = np.where(arrives, day, 0)
        order = np.argsort(uniform(seed, "popularity", n_items), kind="stable")
        popularity = -np.log1p(-(np.argsort(order, kind="stable") + 0.5) / n_items)
        self.popularity = (popularity - popularity.mean()) / popularity.std()
        fairly = np.exp(self.confounding * self.popularity)
        self.odds = fairly * np.where(self.seller < _SMALL, 1 - self.unfairness, 1)
        drawn = {name: uniform(seed, f"absent {name}", n_items) for name in _MAY_LACK}
        self.absent = pd.DataFrame({name: drawn[name] < self.missing[name] for name in drawn})

    def _check(self) -> None:
        for name, low in (("seed", 0), ("n_users", 8), ("n_items", 80), ("days", 2)):
            value = getattr(self, name)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not whole or value < low:
                raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}")
        for name, high in (("noise", 1), ("unfairness", 0.99), ("confounding", 5), ("drift", 100)):
            _require_share(name, getattr(self, name), high)
        if not isinstance(self.missing, dict):
            self.missing = dict.fromkeys(_MAY_LACK, self.missing)
        none = dict.fromkeys(_MAY_LACK, 0.0)
        self.strengths = _of_modalities("strengths", self.strengths, STRENGTHS, 10)
        self.missing = _of_modalities("missing", self.missing, none, 1)

    def steps(self, name: str, who, day) -> np.ndarray:
        """How often a liking has turned by that day; that of prices never does."""
        if name == "price_level":
            return np.zeros(np.broadcast_shapes(np.shape(who), np.shape(day)), int)
        passed = self.drift * np.maximum(day, 0) / self.days
        return np.floor(passed + self.turns[name][who]).astype(int)

    def content(self, modality: str, items: np.ndarray, age, day) -> np.ndarray:
        """What a modality of the items adds to the logit of that age group on that day."""
        attributes, total = CONTENT[modality], 0.0
        for name in attributes:
            liking, codes = self.likings[name], self.codes[name][items]
            total = total + liking[(codes + self.steps(name, age, day)) % len(liking), age]
        return self.strengths[modality] / np.sqrt(len(attributes)) * total

    def components(
        self, items: np.ndarray, user: np.ndarray, day: np.ndarray, place: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Modality -> what it adds to the logit of a click, ``(n_rows, n_candidates)`` as are
        ``items``; the others are ``(n_rows,)``.
        """
        user, day, place = user[:, None], day[:, None], place[:, None]
        shelf = (self.shelf[items] + self.steps("history", user, day)) % len(SHELVES)
        profile = (
            _spread(len(GENDERS))[self.gender[user]] + _spread(len(REGIONS))[self.region[user]]
        )
        others = {
            "profile": profile / np.sqrt(2),
            "history": self.tastes[user, shelf],
            "popularity": self.popularity[items],
            "position": -_spread(_PLACES)[place],
        }
        parts = {name: self.content(name, items, self.age[user], day) for name in CONTENT}
        for name, part in others.items():
            parts[name] = self.strengths[name] * np.broadcast_to(part, items.shape)
        return parts


def _of_modalities(knob: str, given: dict, default: dict[str, float], high: float) -> dict:
    for name, value in given.items():
        if name not in default:
            raise UnknownNameError("modality", name, default)
        _require_share(f"{knob}[{name!r}]", value, high)
    return default | {name: float(value) for name, value in given.items()}


def _require_share(name: str, value: float, high: float) -> None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 <= value <= high:
        raise ValueError(f"{name} must be from 0 to {high}, got {value!r}")


def uniform(seed: int, name: str, *shape: int) -> np.ndarray:
    """Uniform numbers in [0, 1) of that shape from the stream of that name."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())]).random(shape)


def _balanced(seed: int, name: str, n: int, levels: int) -> np.ndarray:
    """``(n,)`` codes below ``levels``, each as often as the others, in a random order."""
    codes = np.empty(n, int)
    codes[np.argsort(uniform(seed, name, n), kind="stable")] = np.arange(n) % levels
    return codes


def _spread(levels: int) -> np.ndarray:
    """``levels`` evenly spaced values with mean 0 and standard deviation 1."""
    values = np.linspace(-1, 1, levels)
    return values / values.std()


def _liking(seed: int, name: str) -> np.ndarray:
    """``(levels, age groups)``: the same values, in an order for each group; prices up or down."""
    values = _spread(len(WORDS[name]))
    if name == "price_level":
        up = _balanced(seed, "likes high prices", len(AGES), 2) == 1
        return np.where(up, values[:, None], -values[:, None])
    drawn = uniform(seed, f"liking of {name}", len(values), len(AGES))
    return values[np.argsort(drawn, axis=0, kind="stable")]


def _visits(rules: Rules) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """One row a place on a page, the items that could stand there, and which are on sale."""
    seed, n_users = rules.seed, rules.n_users
    most = min(_VISITS, rules.n_items // (_PLACES * (_OLD + _NEW)))
    visits = np.minimum(2 + np.floor(uniform(seed, "visits", n_users) ** 2 * (2 * most)), most)
    day = np.floor(uniform(seed, "day", n_users, most) * rules.days).astype(int)
    day = np.sort(day, axis=1)
    second = np.floor(uniform(seed, "second", n_users, most) * 86_000).astype(int)
    order = np.argsort(day * _DAY + second, axis=1, kind="stable")
    second = np.take_along_axis(second, order, axis=1)
    slots = pd.DataFrame(
        {
            "user": np.repeat(np.arange(n_users), most * _PLACES),
            "visit": np.repeat(np.arange(n_users * most), _PLACES),
            "day": np.repeat(day, _PLACES),
            "second": np.repeat(second, _PLACES),
            "place": np.tile(np.arange(_PLACES), n_users * most),
        }
    )
    slots["search_id"] = [f"q{visit:06d}" for visit in slots["visit"]]
    parts = []  # no item is a candidate of a user twice
    for name, of_kind, width in (
        ("old", rules.created == 0, _OLD),
        ("new", rules.created > 0, _NEW),
    ):
        items = np.flatnonzero(of_kind)
        drawn = uniform(seed, f"{name} candidates", n_users, len(items))
        chosen = np.argsort(drawn, axis=1, kind="stable")[:, : most * _PLACES * width]
        parts.append(items[chosen].reshape(len(slots), width))
    candidates = np.concatenate(parts, axis=1).astype(np.int32)
    kept = (slots["visit"] % most < visits[slots["user"]]).to_numpy()
    shown, candidates = slots[kept].reset_index(drop=True), candidates[kept]
    return shown, candidates, rules.created[candidates] <= shown["day"].to_numpy()[:, None]


# The tables and pictures, written from the rules.


def ids(letter: str, n: int) -> list[str]:
    """``n`` ids of equal length, as u000 to u999."""
    return [f"{letter}{number:0{len(str(n - 1))}d}" for number in range(n)]


def _pick(words, codes: np.ndarray) -> np.ndarray:
    return np.array(words, dtype=object)[codes]


def _moments(day, second) -> pd.Series:
    seconds = np.asarray(day) * _DAY + np.asarray(second)
    return pd.Series(START + pd.to_timedelta(seconds, unit="s"))


def _items(rules: Rules) -> pd.DataFrame:
    """What the shop says of its items."""
    seed, n, named, absent = rules.seed, rules.n_items, rules.named, rules.absent
    templates = _pick(_TEXTS, _balanced(seed, "template", n, len(_TEXTS)))
    filled = [
        text.format(material=material, style=style)
        for text, material, style in zip(templates, named["material"], named["style"], strict=True)
    ]
    dollars = named["price_level"].astype(float) * (0.8 + 0.4 * uniform(seed, "price", n))
    return pd.DataFrame(
        {
            "item_id": rules.item_ids,
            "text": np.where(absent["text"], None, np.array(filled, dtype=object)),
            "category": np.where(absent["tags"], None, named["category"]),
            "brand": np.where(absent["tags"], None, named["brand"]),
            "price": np.floor(dollars) + 0.99,
            "shelf": _pick(SHELVES, rules.shelf),
            "seller_id": _pick(ids("s", _SELLERS), rules.seller),
            "seller_group": _pick(("large", "small"), (rules.seller < _SMALL).astype(int)),
            "created": _moments(rules.created, 0),
        }
    )


def _impressions(rules: Rules, shown: pd.DataFrame, truth: Truth) -> pd.DataFrame:
    """The log: what was shown to whom, when, where, how likely, and what came of it."""
    seed, n = rules.seed, len(shown)
    clicked = uniform(seed, "click", n) < truth.click_probability
    keen = sigmoid(truth.components.sum(axis=1).to_numpy() / 2 - 1)
    return pd.DataFrame(
        {
            "user_id": _pick(rules.user_ids, shown["user"]),
            "item_id": _pick(rules.item_ids, shown["item"]),
            "positive": clicked,
            "timestamp": _moments(shown["day"], shown["second"] + shown["place"]),
            "search_id": shown["search_id"],
            "place": shown["place"] + 1,
            "propensity": shown["propensity"],
            "purchased": clicked & (uniform(seed, "purchase", n) < keen),
        }
    )


def _searches(rules: Rules, shown: pd.DataFrame) -> pd.DataFrame:
    """What users typed, on visits and before the log begins: nine in ten on a shelf they like."""
    seed, n_users = rules.seed, rules.n_users
    visits, n_earlier, month = shown.drop_duplicates("visit"), n_users * _EARLIER, 28 * _DAY
    user = np.concatenate([np.repeat(np.arange(n_users), _EARLIER), visits["user"]])
    earlier = np.floor(uniform(seed, "earlier", n_users, _EARLIER) * month)
    earlier = np.sort(earlier, axis=1).ravel() - month + _DAY  # of the day before the first
    day = np.concatenate([np.full(n_earlier, -1), visits["day"]])
    second = np.concatenate([earlier, visits["second"] - 5])
    third = np.floor(uniform(seed, "searched shelf", len(user)) * 3).astype(int)
    liked = uniform(seed, "likes what is searched", len(user)) < 0.9
    by_liking = np.argsort(-rules.tastes, axis=1, kind="stable")
    place = by_liking[user, np.where(liked, third, third + 3)]
    shelf = (place - rules.steps("history", user, day)) % len(SHELVES)
    endings = [f" {word}" for word in WORDS["category"]] + [""] * len(WORDS["category"])
    ending = np.floor(uniform(seed, "searched category", len(user)) * len(endings)).astype(int)
    table = pd.DataFrame(
        {
            "search_id": [*ids("e", n_earlier), *visits["search_id"]],
            "user_id": _pick(rules.user_ids, user),
            "query": (_pick(SHELVES, shelf) + _pick(endings, ending)).tolist(),
            "timestamp": _moments(day, second),
        }
    )
    return table.sort_values(["timestamp", "search_id"], ignore_index=True)


def _pictures(rules: Rules) -> np.ndarray:
    """``(n_items, 32, 32, 3)`` uint8, zero where absent; whole numbers only, so that every machine
    draws the same pixels. Each item is moved, scaled, lit and grained by chance."""
    seed, n = rules.seed, rules.n_items
    silhouette, colour, pattern = (rules.codes[name] for name in CONTENT["picture"])
    camera = np.floor(uniform(seed, "camera", n, 4) * [3, 3, 4, 41]).astype(int)
    grain = np.floor(uniform(seed, "grain", n, PICTURE_SIZE, PICTURE_SIZE) * 11).astype(int)
    column, row, size, light = camera.T[:, :, None, None]
    y, x = np.mgrid[:PICTURE_SIZE, :PICTURE_SIZE]
    x, y, size = x - 15 - column, y - 15 - row, size + 8
    near, far = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    disc, block = x * x + y * y <= size * size, far < size
    cone = (2 * abs(x) <= y + size) & (y < size)
    cross = (near < size // 3 + 1) & (far <= size)
    shape = np.choose(silhouette[:, None, None], [disc, block, cone, cross])
    plain, stripes = np.zeros(shape.shape, bool), np.broadcast_to(x % 6 < 3, shape.shape)
    dots, checks = (x % 5 < 2) & (y % 5 < 2), (x // 4 + y // 4) % 2 == 0
    dark = shape & np.choose(pattern[:, None, None], [plain, stripes, dots, checks])
    paint = np.array(list(COLOURS.values()))[colour][:, None, None, :]
    painted = np.where(dark[..., None], paint // 3, paint)
    pixels = np.where(shape[..., None], painted, 190 + light[..., None])
    pixels = (pixels + grain[..., None] - 5).clip(0, 255).astype(np.uint8)
    pixels[rules.absent["picture"]] = 0
    return pixels
