"""The tables and pictures of a shop, written from its rules."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .pictures import SIZE, draw_pictures
from .shop_rules import AGES, CONTENT, GENDERS, REGIONS, SELLERS, SHELVES, WORDS, Rules, balanced, uniform
from .truth import Truth, sigmoid

START = pd.Timestamp("2026-01-01", tz="UTC")
_EARLIER = 30  # searches of each user before the first day
TEXTS = (
    "A {style} piece made of {material}. It arrives in two days.",
    "Made of {material}, with a {style} look that lasts.",
    "If you like it {style}: {material}, finished by hand.",
    "A {style} design in solid {material}. Wipe it with a damp cloth.",
    "Our favourite of the season, {style} and made from {material}.",
    "It is {material} throughout. The look is {style}, the box is recycled.",
)


def ids(letter: str, n: int) -> list[str]:
    """``n`` ids of equal length, as u000 to u999."""
    return [f"{letter}{number:0{len(str(n - 1))}d}" for number in range(n)]


def _pick(words, codes: np.ndarray) -> np.ndarray:
    return np.array(words, dtype=object)[codes]


def _when(day, second) -> pd.Series:
    return pd.Series(START + pd.to_timedelta(np.asarray(day) * 86_400 + np.asarray(second), unit="s"))


def user_table(rules: Rules) -> pd.DataFrame:
    """Ids and observed profiles."""
    profile = {
        "age_group": _pick(AGES, rules.age),
        "gender": _pick(GENDERS, rules.gender),
        "region": _pick(REGIONS, rules.region),
    }
    return pd.DataFrame({"user_id": ids("u", len(rules.age)), **profile})


def item_table(rules: Rules, absent: pd.DataFrame) -> pd.DataFrame:
    """What the shop says of its items: text, tags, price, shelf and seller."""
    seed, n = rules.settings.seed, rules.settings.n_items
    named = {name: _pick(words, rules.codes[name]) for name, words in WORDS.items()}
    template = balanced(seed, "template", n, len(TEXTS))
    words = zip(template, named["material"], named["style"], strict=True)
    filled = [TEXTS[t].format(material=material, style=style) for t, material, style in words]
    dollars = np.array(WORDS["price_level"], float)[rules.codes["price_level"]]
    return pd.DataFrame(
        {
            "item_id": ids("i", n),
            "text": np.where(absent["text"], None, np.array(filled, dtype=object)),
            "category": np.where(absent["tags"], None, named["category"]),
            "brand": np.where(absent["tags"], None, named["brand"]),
            "price": np.floor(dollars * (0.8 + 0.4 * uniform(seed, "price", n))) + 0.99,
            "shelf": _pick(SHELVES, rules.shelf),
            "seller_id": _pick(ids("s", SELLERS), rules.seller),
            "seller_group": np.where(rules.small, "small", "large").astype(object),
            "created": _when(rules.created, 0),
        }
    )


def true_items(rules: Rules) -> pd.DataFrame:
    """The attributes that the items were made from."""
    named = {name: _pick(WORDS[name], rules.codes[name]) for names in CONTENT.values() for name in names}
    return pd.DataFrame({"item_id": ids("i", rules.settings.n_items), **named, "popularity": rules.popularity})


def taste_table(rules: Rules) -> pd.DataFrame:
    """User by shelf: 1 for liked, -1 for not."""
    return pd.DataFrame(rules.tastes, pd.Index(ids("u", len(rules.age)), name="user_id"), list(SHELVES))


def picture_array(rules: Rules, absent: pd.DataFrame) -> np.ndarray:
    """``(n_items, 32, 32, 3)`` uint8, zero where absent."""
    seed, n = rules.settings.seed, rules.settings.n_items
    codes = [rules.codes[name] for name in CONTENT["picture"]]
    pictures = draw_pictures(*codes, uniform(seed, "camera", n, 4), uniform(seed, "grain", n, SIZE, SIZE))
    pictures[absent["picture"].to_numpy()] = 0
    return pictures


def impression_table(rules: Rules, shown: pd.DataFrame, truth: Truth) -> pd.DataFrame:
    """The log: what was shown to whom, when, where, with which chance, and what came of it."""
    seed, n = rules.settings.seed, len(shown)
    clicked = uniform(seed, "click", n) < truth.click_probability
    keen = sigmoid(truth.components.sum(axis=1).to_numpy() / 2 - 1)
    return pd.DataFrame(
        {
            "user_id": _pick(ids("u", rules.settings.n_users), shown["user"]),
            "item_id": _pick(ids("i", rules.settings.n_items), shown["item"]),
            "positive": clicked,
            "timestamp": _when(shown["day"], shown["second"] + shown["place"]),
            "search_id": _search_ids(shown["visit"].to_numpy()),
            "place": shown["place"].to_numpy() + 1,
            "propensity": shown["propensity"].to_numpy(),
            "purchased": clicked & (uniform(seed, "purchase", n) < keen),
        }
    )


def _search_ids(visits: np.ndarray) -> np.ndarray:
    return np.array([f"q{visit:06d}" for visit in visits], dtype=object)


def search_table(rules: Rules, shown: pd.DataFrame) -> pd.DataFrame:
    """What users typed, on their visits and before the log begins: nine in ten searches are on a shelf they like."""
    seed, n_users = rules.settings.seed, rules.settings.n_users
    visits = shown.drop_duplicates("visit")
    user = np.concatenate([np.repeat(np.arange(n_users), _EARLIER), visits["user"]])
    seconds = np.sort(np.floor(uniform(seed, "earlier", n_users, _EARLIER) * 28 * 86_400), axis=1) - 28 * 86_400
    day = np.concatenate([np.full(n_users * _EARLIER, -1), visits["day"]])
    second = np.concatenate([seconds.ravel() + 86_400, visits["second"] - 5])
    which = np.floor(uniform(seed, "searched shelf", len(user)) * 3).astype(int)
    liked = uniform(seed, "likes what is searched", len(user)) < 0.9
    by_liking = np.argsort(-rules.tastes, axis=1, kind="stable")
    place = by_liking[user, np.where(liked, which, which + 3)]
    shelf = (place - rules.steps("history", user, day)) % len(SHELVES)
    kind = np.floor(uniform(seed, "searched category", len(user)) * 2 * len(WORDS["category"])).astype(int)
    named = [f" {word}" for word in WORDS["category"]] + [""] * len(WORDS["category"])
    queries = [SHELVES[s] + named[k] for s, k in zip(shelf, kind, strict=True)]
    table = pd.DataFrame(
        {
            "search_id": np.concatenate([ids("e", n_users * _EARLIER), _search_ids(visits["visit"].to_numpy())]).astype(
                object
            ),
            "user_id": _pick(ids("u", n_users), user),
            "query": queries,
            "timestamp": _when(day, second),
        }
    )
    return table.sort_values(["timestamp", "search_id"], ignore_index=True)
