"""Measure ranking: agreement with other libraries, exact lists from vectors, EASE on 20,000 items, and training times.

    python tests/benchmarks/ranking.py [--check] [--items N]

Golden values of LensKit, implicit and Cornac come from tests/golden, the published ones from RecBole's quick start.
Seconds are CPU seconds of one thread. Prints one JSON object a line; ``bar`` is the least that is asked of a number or
the most that is allowed of it. With ``--check`` the exit status is 1 where a bar is missed. ``--items`` makes EASE's
largest catalogue smaller.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measures import cpu_seconds, row
from scipy import sparse

from reclab import data, metrics, rank
from reclab.sequence import SASRec
from reclab.tables import interaction_matrix

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "golden.json").read_text("utf-8"))
USERS, ITEMS, FACTORS, K = 100_000, 50_000, 64, 10
TIMED, TURNS, CHECKED = 16_384, 3, 200  # users in a turn, turns, and users whose list is compared with a full sort
SLOWER, MEMORY = 1.6, 1024  # times the matrix product, MiB over the inputs
EASE_ITEMS, EASE_USERS, LIKES_A_USER = 20_000, 20_000, 40
# NDCG@10 on ML-100K, every rating a positive, 80/10/10 at random. BPR is RecBole 1.2's own number.
PUBLISHED = {"popularity": 0.139, "item-kNN": 0.283, "EASE": 0.323, "BPR": 0.2768}
MODELS = {
    "popularity": rank.Popularity(),
    "item_knn": rank.ItemKNN(k=GOLDEN["settings"]["neighbours"]),
    "user_knn": rank.UserKNN(k=GOLDEN["settings"]["neighbours"]),
    "ease": rank.EASE(l2=GOLDEN["settings"]["l2"]),
    "als": rank.ALS(**GOLDEN["als"]),
}
SEQUENCE_SECONDS, BPR_SECONDS = 40, 10


# --- agreement


def golden_split(ratings: pd.DataFrame, users, items) -> sparse.csr_array:
    """Training likes of the golden values: all but the last line of each user's, by time."""
    liked = ratings[ratings["positive"]].sort_values("timestamp", kind="stable")
    last = liked.groupby("user_id").tail(1)
    last = last[last["user_id"].map(liked["user_id"].value_counts()) > 1]
    # ids in the order of numbers, as the golden script sorts them
    return interaction_matrix(liked.drop(last.index), sorted(users, key=int), sorted(items, key=int))


def measure_golden(movies: data.Dataset) -> Iterator[dict]:
    """Relative difference of sums over all scores, which weigh every user and item."""
    X = golden_split(movies.interactions, movies.users["user_id"], movies.items["item_id"])
    for name, model in MODELS.items():
        scores, golden = model.fit(X).score(X), GOLDEN["systems"][name]
        rng = np.random.default_rng(2024)
        found = [float(rng.random(scores.shape[0]) @ scores @ rng.random(scores.shape[1])) for _ in range(4)]
        apart = np.abs(np.array(found) / golden["projections"] - 1).max()
        yield row(f"{name}: relative difference to the golden values", float(apart), "share", most=1e-9)


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
    turns = [[cpu_seconds(way) for way in ways] for _ in range(TURNS)]
    alone, ours = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
    yield row("matrix product alone, blocks of 512 users", alone / TIMED * 1e6, "CPU us a user")
    yield row("exact lists of 10", ours / TIMED * 1e6, "CPU us a user")
    ratio = statistics.median(ours / alone for alone, ours in turns)
    yield row("exact lists of 10: times the matrix product", ratio, "times", most=SLOWER)
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
    """BPR and the sequence model on the likes of ML-100K."""
    likes = movies.interactions[movies.interactions["positive"]]
    X = interaction_matrix(likes, movies.users["user_id"], movies.items["item_id"])
    yield row("BPR on ML-100K", cpu_seconds(lambda: rank.BPR().fit(X)), "CPU s", most=BPR_SECONDS)
    items = pd.Index(movies.items["item_id"]).get_indexer(likes.sort_values("timestamp")["item_id"])
    by_user = pd.Series(items).groupby(likes.sort_values("timestamp")["user_id"].to_numpy()).agg(list)
    seconds = cpu_seconds(lambda: SASRec(X.shape[1], epochs=8).fit(list(by_user)))
    yield row("sequence model on ML-100K, 8 epochs", seconds, "CPU s", most=SEQUENCE_SECONDS)


# --- the command


def measure(largest: int) -> Iterator[dict]:
    """Everything, the slowest last."""
    yield from measure_top_k()
    movies = data.movies()
    yield from measure_golden(movies)
    yield from measure_published(movies)
    yield from measure_training(movies)
    yield from measure_ease(largest)


def main(argv: list[str]) -> int:
    """Print the measurements; with ``--check``, return 1 where one misses its bar."""
    parser = argparse.ArgumentParser(description="Measure ranking.")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    parser.add_argument("--items", type=int, default=EASE_ITEMS, help="EASE's largest catalogue")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    missed = 0
    for line in measure(args.items):
        print(json.dumps(line), flush=True)
        missed += not line["ok"]
    return int(args.check and missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
