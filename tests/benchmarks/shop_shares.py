"""The table 04_shop: is every modality of the generated shop found to be worth what was planted?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.feature_extraction.text import CountVectorizer

from reclab import data
from reclab.data.shop import BASE, expected_auc, sigmoid
from reclab.fusion import FusedClassifier, Lookup
from reclab.looks import PictureNamer

# What is shuffled of each planted modality; a user's liking of shelves shows in searches.
PARTS = {
    "picture": ["picture"],
    "text": ["text"],
    "tags": ["tags"],
    "price": ["price"],
    "profile": ["profile"],
    "history": ["searches", "shelf"],
    "position": ["place"],
}
OF_USER = ("age", "profile", "searches", "place")
# Popularity shows in nothing but clicks, so nobody can know it of an item that was never seen: here it has no effect.
PLANTED = {"popularity": 0.0}
SIZE = {"n_users": 1500, "n_items": 2400}


def shop_shares(seeds: Iterable[int]) -> pd.DataFrame:
    """What each modality of a shop was planted to be worth, and what a fused model finds; a shop a seed.

    The planted share is the best possible AUC on items that were never seen, less that without the modality; the one
    found, a model's AUC less that of one whose modality belongs to another user, item or place, so that it has as many
    numbers to learn. Intervals are t intervals over the shops.
    """
    shops = [shares_of_a_shop(seed) for seed in seeds]
    rows = []
    for name in shops[0]:
        planted, found = np.array([shares[name] for shares in shops]).T
        rows.append({"modality": name, "shops": len(shops)})
        for column, values in (("planted", planted), ("found", found), ("found_minus_planted", found - planted)):
            half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
            mean = values.mean()
            rows[-1] |= {column: mean, f"{column}_low": mean - half, f"{column}_high": mean + half}
    return pd.DataFrame(rows)


def one_hot(*columns: pd.Series) -> np.ndarray:
    """A column for each value: (n, n_values)."""
    return np.hstack([pd.get_dummies(column) for column in columns]).astype(float)


def modalities(shop: data.Shop, namer: PictureNamer) -> dict[str, Lookup]:
    """What is known before a click, by modality, for each impression."""
    log, goods, buyers = shop.interactions, shop.items, shop.users
    user = pd.Index(buyers["user_id"]).get_indexer(log["user_id"])
    item = pd.Index(goods["item_id"]).get_indexer(log["item_id"])
    earlier = shop.searches[shop.searches["timestamp"] < log["timestamp"].min()]
    searched = pd.crosstab(earlier["user_id"], earlier["query"].str.split().str[0]).reindex(buyers["user_id"])
    of_user = {
        "age": one_hot(buyers["age_group"]),
        "profile": one_hot(buyers["gender"], buyers["region"]),
        "searches": (searched.rank(axis=1, method="first") > 3).to_numpy(float),
    }
    of_item = {
        "picture": namer.describe(shop.pictures),
        "text": CountVectorizer(binary=True, stop_words="english").fit_transform(goods["text"]).toarray(),
        "tags": one_hot(goods["category"], goods["brand"]),
        "price": one_hot(pd.qcut(goods["price"], 5)),
        "shelf": one_hot(goods["shelf"]),
    }
    found = {name: Lookup(table, user) for name, table in of_user.items()}
    found |= {name: Lookup(table, item) for name, table in of_item.items()}
    places = log["place"].to_numpy() - 1
    return found | {"place": Lookup(np.eye(places.max() + 1), places)}


def found_auc(shop: data.Shop, inputs: dict[str, Lookup], shuffled=(), seed: int = 0) -> float:
    """Expected AUC of a fused model on impressions of items that it never saw."""
    split = data.cold_items(shop.interactions)
    rng = np.random.default_rng(seed)
    inputs = inputs | {name: shuffle(inputs[name], rng) for name in shuffled}
    train, test = (
        {name: part._replace(rows=part.rows[rows.index]) for name, part in inputs.items()}
        for rows in (split.train, split.test)
    )
    model = FusedClassifier(16, 4, 1024, 6e-3, seed=seed, kind="two-tower", user=OF_USER, layers=1, weight_decay=0.3)
    p = model.fit(train, split.train["positive"]).predict(test)
    return expected_auc(p, shop.truth.click_probability[split.test.index])


def shuffle(part: Lookup, rng: np.random.Generator) -> Lookup:
    """Each user or item gets the vector of another one; each impression the place of another one."""
    if len(part.table) < 10:  # the places
        return part._replace(rows=rng.permutation(part.rows))
    return part._replace(table=rng.permutation(part.table))


def planted_auc(shop: data.Shop, without: Sequence[str] = ()) -> float:
    """Expected AUC of the best possible prediction of the same impressions."""
    rows = data.cold_items(shop.interactions).test.index
    return expected_auc(best_prediction(shop, without)[rows], shop.truth.click_probability[rows])


def best_prediction(shop: data.Shop, without: str | Sequence[str] = ()) -> np.ndarray:
    """The best click prediction, ``(n_rows,)``, of a model that knows all likings but not some modalities.

    It is the average over what they could be: E[sigmoid(rest + C)], where C has the distribution of the missing
    component. That is alike for all age groups, so the average is the same rising function of the rest for every row,
    and needs no model. A row whose item lacks its picture, text or tags is predicted without them in any case.
    """
    hidden = {without} if isinstance(without, str) else set(without)
    components, grid = shop.truth.components, np.arange(-20, 20, 0.01)
    item = pd.Index(shop.items["item_id"]).get_indexer(shop.interactions["item_id"])
    absent = (~shop.present).iloc[item].reset_index(drop=True)
    absent = absent.assign(**dict.fromkeys(hidden & set(absent), True))
    predicted = np.empty(len(absent))
    for pattern, rows in absent.groupby(list(absent)).indices.items():
        gone = hidden | {name for name, is_gone in zip(absent, pattern, strict=True) if is_gone}
        logits = BASE + components.drop(columns=list(gone)).to_numpy()[rows].sum(axis=1)
        curve = sigmoid(grid)
        for name in sorted(gone):
            values, counts = np.unique(components[name].to_numpy().round(6), return_counts=True)
            shifted = [np.interp(grid + value, grid, curve) for value in values]
            curve = sum(weight * part for weight, part in zip(counts / counts.sum(), shifted, strict=True))
        noise = shop.settings["noise"]
        predicted[rows] = np.interp(logits, grid, (1 - noise) * curve + noise * sigmoid(BASE))
    return predicted


def shares_of_a_shop(seed: int) -> dict[str, tuple[float, float]]:
    """Modality -> its planted share and the share that is found."""
    labelled = data.shop(seed + 1000, n_users=8, n_items=600)
    namer = PictureNamer(seed=seed).fit(labelled.pictures, labelled.truth.items[["silhouette", "colour", "pattern"]])
    shop = data.shop(seed, strengths=PLANTED, **SIZE)
    shares = _shares(shop, namer, PARTS, seed)
    for name in ("picture", "text"):
        without_effect = data.shop(seed, strengths=PLANTED | {name: 0.0}, **SIZE)
        shares |= {f"{name}, no effect": _shares(without_effect, namer, {name: PARTS[name]}, seed)[name]}
    return shares


def _shares(shop, namer, parts, seed) -> dict[str, tuple[float, float]]:
    inputs = modalities(shop, namer)
    found, planted = found_auc(shop, inputs, seed=seed), planted_auc(shop)
    return {
        name: (planted - planted_auc(shop, [name]), found - found_auc(shop, inputs, shuffled, seed))
        for name, shuffled in parts.items()
    }
