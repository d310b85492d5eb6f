"""The table 05_cross_encoder: a BERT that reads user and film together, beside a regression on four numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from reclab import data, finetune, get_profile, metrics
from reclab.metrics import percentile_interval

PAIRS, PASSES, TESTED = 2_000, 3, 3_000  # ratings to learn from, how often, and ratings of the warm test of notebook 05
LIKED, TOKENS = 5, 96  # films named of each user, and tokens read of a pair
NUMBERS, READER, STRANGER = "four numbers", "cross-encoder", "cross-encoder, text of another user"


def cross_encoder(seeds: Iterable[int]) -> pd.DataFrame:
    """AUC on ratings held out at random, of models that learn from the same pairs; a draw of pairs a seed.

    The four numbers of a row are the like rate and the count of its user and of its film, in all other ratings of
    training. The control reads the same film with the text of another user. Users and seeds are resampled.
    """
    movies = data.movies()
    test = movies.interactions.sample(20_000, random_state=0)  # the split of notebook 05
    train, test = movies.interactions.drop(test.index), test.head(TESTED)
    runs = [one_seed(seed, movies, train, test) for seed in seeds]
    rows = []
    for name in (NUMBERS, READER, STRANGER):
        predictions = [run[name] for run in runs]
        rows.append({"model": name, "pairs": PAIRS, "seeds": len(runs)} | over_seeds("auc", test, predictions))
        less = None if name == NUMBERS else [run[NUMBERS] for run in runs]
        rows[-1] |= over_seeds("auc_minus_four_numbers", test, predictions, less)
    return pd.DataFrame(rows)


def one_seed(seed: int, movies: data.Dataset, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, np.ndarray]:
    """Chances of the test ratings by each model, learned from the pairs of this seed."""
    pairs = train.sample(PAIRS, random_state=seed)
    numbers = LogisticRegression().fit(four_numbers(train, pairs), pairs["positive"])
    found = {NUMBERS: numbers.predict_proba(four_numbers(train, test))[:, 1]}
    profile = replace(get_profile("laptop", seed=seed), max_length=TOKENS, epochs=PASSES)
    liked = train[train["positive"]]
    model = finetune.fit(pair_texts(movies, liked, pairs, seed), pairs["positive"], profile)
    found[READER] = model.predict(pair_texts(movies, liked, test, seed))
    people = np.random.default_rng(seed).permutation(test["user_id"].to_numpy())
    found[STRANGER] = model.predict(pair_texts(movies, liked, test, seed, people))
    return found


def four_numbers(train: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """Like rate and log count of the user and of the film, without the row itself where it is one of train's."""
    mean, own, columns = train["positive"].mean(), rows.index.isin(train.index), []
    for name in ("user_id", "item_id"):
        groups = train.groupby(name)["positive"]
        likes = rows[name].map(groups.sum()).fillna(0) - own * rows["positive"]
        counts = rows[name].map(groups.size()).fillna(0) - own
        columns += [(likes + 5 * mean) / (counts + 5), np.log1p(counts) / 5]
    return np.stack(columns, axis=1).astype(float)


def pair_texts(movies: data.Dataset, liked: pd.DataFrame, rows: pd.DataFrame, seed: int, people=None) -> list[str]:
    """ "user text [SEP] item text"; the user's liked films are drawn by seed, and never name the film itself."""
    users, items = movies.users.set_index("user_id"), movies.items.set_index("item_id")
    films = liked.sample(frac=1, random_state=seed).groupby("user_id")["item_id"].agg(list)
    texts = []
    for user, item in zip(rows["user_id"] if people is None else people, rows["item_id"], strict=True):
        of = users.loc[user]
        named = [items["title"][film] for film in films.get(user, []) if film != item][:LIKED]
        texts.append(
            f"{of['gender']}, {of['age']}, {of['occupation']}. Liked: {'; '.join(named)} [SEP] {items['text'][item]}"
        )
    return texts


def over_seeds(name: str, test: pd.DataFrame, predictions: list, less: list | None = None) -> dict[str, float]:
    """Mean AUC over seeds, or its difference to others, with the ends of its 95% bootstrap interval."""
    if "minus" in name and less is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan)
    truth, n = test["positive"].to_numpy(), len(predictions)
    samples = metrics.resampled_aucs(truth, [*predictions, *(less or [])], test["user_id"].to_numpy())
    values = np.array([metrics.auc(truth, p) for p in [*predictions, *(less or [])]])
    draws = np.random.default_rng(0).integers(n, size=(len(samples), n))
    spread, value = np.take_along_axis(samples[:, :n], draws, 1).mean(1), values[:n].mean()
    if less:
        value -= values[n:].mean()
        spread = spread - np.take_along_axis(samples[:, n:], draws, 1).mean(1)
    return dict(zip((name, f"{name}_low", f"{name}_high"), percentile_interval(value, spread), strict=True))
