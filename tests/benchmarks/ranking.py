"""Measure ranking: agreement with what was published, exact lists from vectors, EASE on 20,000 items, training times.

    python tests/benchmarks/ranking.py [--check] [--items N]
    python tests/benchmarks/ranking.py --tune

The published values are those of RecBole's quick start. Seconds are CPU seconds of one thread. Prints one JSON object a
line; ``bar`` is the least that is asked of a number or the most that is allowed of it. With ``--check`` the exit status
is 1 where a bar is missed. ``--items`` makes EASE's largest catalogue smaller. ``--tune`` prints, instead, NDCG@10 of
each model at settings around its default, on a validation draw that holds no like which notebook 05 may test on.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from measures import cpu_seconds, report, row, take_turns
from scipy import sparse

from reclab import data, metrics, rank
from reclab.fusion import FusedClassifier
from reclab.rank import interaction_matrix
from reclab.sequence import SASRec

USERS, ITEMS, FACTORS, K = 100_000, 50_000, 64, 10
TIMED, TURNS, CHECKED = 16_384, 7, 200  # users in a turn, turns, and users whose list is compared with a full sort
SLOWER, MEMORY = 1.8, 1024  # times the matrix product, MiB over the inputs
EASE_ITEMS, EASE_USERS, LIKES_A_USER = 20_000, 20_000, 40
# NDCG@10 on ML-100K, every rating a positive, 80/10/10 at random. BPR is RecBole 1.2's own number.
PUBLISHED = {"popularity": 0.139, "item-kNN": 0.283, "EASE": 0.323, "BPR": 0.2768}
SEQUENCE_SECONDS, MODEL_SECONDS = 40, 10


# --- agreement


def at_random(ratings: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """RecBole's quick start: a tenth of each user's ratings to validate, a tenth to test, the rest to train."""
    drawn = ratings.sample(frac=1, random_state=seed)
    place = drawn.groupby("user_id").cumcount()
    tenth = (drawn["user_id"].map(drawn["user_id"].value_counts()) * 0.1).astype(int)
    return drawn[place >= 2 * tenth], drawn[(place >= tenth) & (place < 2 * tenth)], drawn[place < tenth]


def measure_published(movies: data.Dataset) -> Iterator[dict]:
    """NDCG@10 of four systems, and how far they lie from what was published, in widths of our interval."""
    parts = at_random(movies.interactions)
    train, valid, test = (interaction_matrix(part, movies.users["user_id"], movies.items["item_id"]) for part in parts)
    models = {"popularity": rank.Popularity(), "item-kNN": rank.ItemKNN(100), "EASE": rank.EASE(250)}
    models["BPR"] = rank.BPR(epochs=60, weight_decay=0.3)
    for name, model in models.items():
        lists = rank.top_k(model.fit(train).score(train), K, exclude=train + valid)
        value, low, high = metrics.bootstrap_interval(metrics.ndcg_at_k(lists, test))
        yield row(f"{name}: NDCG@10 as RecBole's quick start measures it", value, "NDCG")
        off = (value - PUBLISHED[name]) / (high - value if value < PUBLISHED[name] else value - low)
        bars = {"least": -1} if name == "BPR" else {"most": 1}
        yield row(f"{name}: less the published value", off if name == "BPR" else abs(off), "half intervals", **bars)


# --- lists from vectors


def measure_top_k(users: int = USERS) -> Iterator[dict]:
    """Time beside that of the matrix product alone, in turns; memory over the inputs; agreement with a full sort."""
    rng = np.random.default_rng(0)
    of_users = rng.standard_normal((users, FACTORS), dtype=np.float32)
    of_items = rng.standard_normal((ITEMS, FACTORS), dtype=np.float32)
    timed = of_users[:TIMED]
    out, left, right = torch.empty(512, ITEMS), torch.from_numpy(timed), torch.from_numpy(of_items)

    def product() -> None:
        for start in range(0, len(timed), 512):
            torch.mm(left[start : start + 512], right.T, out=out[: len(timed) - start])

    ways = (product, lambda: rank.top_k_products(timed, of_items, K))
    alone, ours = np.median(take_turns(*ways, rounds=TURNS), axis=0)
    yield row("matrix product alone, blocks of 512 users", alone / TIMED * 1e6, "CPU us a user")
    yield row("exact lists of 10", ours / TIMED * 1e6, "CPU us a user")
    yield row("exact lists of 10: times the matrix product", ours / alone, "times", most=SLOWER)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: list[np.ndarray] = []
    seconds = cpu_seconds(lambda: found.append(rank.top_k_products(of_users, of_items, K)))
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    yield row(f"exact lists of {users:,} users from {ITEMS:,} items", seconds, "CPU s")
    yield row("exact lists: peak memory over the inputs", peak + out.nbytes / 2**20, "MiB", most=MEMORY)
    some = rng.choice(users, CHECKED, replace=False)
    sorted_in_full = np.argsort(-(of_users[some].astype(float) @ of_items.T.astype(float)), axis=1)[:, :K]
    wrong = int((found[0][some] != sorted_in_full).any(axis=1).sum())
    name = f"exact lists: of {CHECKED}, those that differ from a full sort in double precision"
    yield row(name, wrong, "lists", most=0)


# --- cost


def measure_ease(largest: int = EASE_ITEMS) -> Iterator[dict]:
    """Time and memory of EASE by the size of the catalogue."""
    for n_items in (largest // 8, largest // 4, largest // 2, largest):
        rng = np.random.default_rng(0)
        columns = rng.integers(n_items, size=EASE_USERS * LIKES_A_USER)
        rows = np.repeat(np.arange(EASE_USERS), LIKES_A_USER)
        X = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(EASE_USERS, n_items))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = cpu_seconds(lambda X=X: rank.EASE().fit(X))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        yield row(f"EASE on {n_items:,} items", seconds, "CPU s")
        bars = {"most": 1.5 * n_items**2 * 8 / 2**20} if n_items == largest else {}
        yield row(f"EASE on {n_items:,} items: growth of the peak", grown, "MiB", **bars)


def measure_training(movies: data.Dataset) -> Iterator[dict]:
    """ALS, BPR and the sequence model on the likes of ML-100K, and the two towers of notebook 05 on its ratings."""
    ids = movies.users["user_id"], movies.items["item_id"]
    likes = movies.interactions[movies.interactions["positive"]]
    X, read = interaction_matrix(likes, *ids), sequences(likes, *ids, seed=0)
    yield row("ALS on ML-100K", cpu_seconds(lambda: rank.ALS().fit(X)), "CPU s", most=MODEL_SECONDS)
    yield row("BPR on ML-100K", cpu_seconds(lambda: rank.BPR().fit(X)), "CPU s", most=MODEL_SECONDS)
    seconds = cpu_seconds(lambda: SASRec(X.shape[1]).fit(read))
    yield row("sequence model on ML-100K", seconds, "CPU s", most=SEQUENCE_SECONDS)
    inputs, clicked = tower_inputs(movies)
    tower = FusedClassifier(
        kind="two-tower", user=("habits", "taste", "person"), batch_size=2048, learning_rate=6e-3, epochs=3
    )
    seconds = cpu_seconds(lambda: tower.fit(inputs, clicked))
    yield row(f"two towers on {len(clicked):,} ratings, 3 epochs", seconds, "CPU s", most=MODEL_SECONDS)


def tower_inputs(movies: data.Dataset) -> tuple[dict, np.ndarray]:
    """As many inputs as in notebook 05, and as wide; their values are noise, which takes as long."""
    train = movies.interactions.drop(movies.interactions.sample(20_000, random_state=0).index)
    rng = np.random.default_rng(0)
    widths = {"habits": 2, "taste": 84, "reception": 2, "person": 24, "content": 84}
    inputs = {name: rng.standard_normal((len(train), width), dtype=np.float32) for name, width in widths.items()}
    return inputs, train["positive"].to_numpy()


# --- the choice of settings

TUNED: dict[str, tuple[Callable, list[dict]]] = {
    "EASE": (rank.EASE, [{"l2": l2} for l2 in (100, 250, 500, 1000)]),
    "item-kNN": (rank.ItemKNN, [{"k": k} for k in (50, 100, 200)]),
    "user-kNN": (rank.UserKNN, [{"k": k} for k in (50, 100, 200)]),
    "ALS": (
        rank.ALS,
        [{"factors": f, "l2": l2, "weight": w} for f in (32, 64) for l2 in (5, 20, 50) for w in (3, 5, 10)],
    ),
    "BPR": (
        rank.BPR,
        [{"epochs": epochs, "weight_decay": decay} for epochs in (40, 60, 80) for decay in (0.2, 0.5, 1.0)],
    ),
    "SASRec": (
        SASRec,
        [
            {},
            *({"epochs": epochs} for epochs in (5, 12)),
            *({"dropout": dropout} for dropout in (0.1, 0.5)),
            *({"learning_rate": rate} for rate in (5e-3, 2e-2)),
            *({"batch_size": size} for size in (16, 64)),
            *({"width": width} for width in (32, 128)),
            {"blocks": 2},
            {"length": 100},
        ],
    ),
}


def validation_split(likes: pd.DataFrame, seed: int) -> data.Split:
    """Leave-last-out among the likes before the second of each user's last one, which any draw may test on."""
    last = likes.groupby("user_id")["timestamp"].transform("max")
    return data.leave_last_out(likes[likes["timestamp"] < last], seed=seed)


def sequences(likes: pd.DataFrame, users, items, seed: int) -> list[list[int]]:
    """The items of each user in the order of time; those of the same second in an order drawn by seed."""
    rows = likes.sample(frac=1, random_state=seed).sort_values("timestamp", kind="stable")
    by_user = pd.Series(pd.Index(items).get_indexer(rows["item_id"])).groupby(rows["user_id"].to_numpy()).agg(list)
    return [by_user.get(user, []) for user in users]


def tune(movies: data.Dataset) -> Iterator[dict]:
    """NDCG@10 of each setting on the validation likes."""
    ids = movies.users["user_id"], movies.items["item_id"]
    split = validation_split(movies.interactions[movies.interactions["positive"]], 0)
    X, test = interaction_matrix(split.train, *ids), interaction_matrix(split.test, *ids)
    hidden = interaction_matrix(movies.interactions.drop(split.test.index), *ids)
    read = sequences(split.train, *ids, seed=0)
    for name, (model, grid) in TUNED.items():
        for settings in grid:
            given = read if model is SASRec else X
            fitted = model(X.shape[1], **settings) if model is SASRec else model(**settings)
            start = time.process_time()
            scores = fitted.fit(given).score(given)
            seconds = time.process_time() - start
            value = np.nanmean(metrics.ndcg_at_k(rank.top_k(scores, K, exclude=hidden), test))
            yield row(f"{name} {settings}", float(value), "NDCG") | {"cpu_seconds": round(seconds, 1)}


# --- the command


def measure(largest: int) -> Iterator[dict]:
    """Everything, the slowest last."""
    yield from measure_top_k()
    movies = data.movies()
    yield from measure_published(movies)
    yield from measure_training(movies)
    yield from measure_ease(largest)


def main(argv: list[str]) -> int:
    """Print the measurements; with ``--check``, return 1 where one misses its bar."""
    parser = argparse.ArgumentParser(description="Measure ranking.")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    parser.add_argument("--tune", action="store_true", help="measure settings on a validation draw, nothing else")
    parser.add_argument("--items", type=int, default=EASE_ITEMS, help="EASE's largest catalogue")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    return report(tune(data.movies()) if args.tune else measure(args.items), args.check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
