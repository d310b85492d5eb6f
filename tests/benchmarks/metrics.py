"""Measure ranking metrics side by side with ranx, in CPU seconds of one thread, and judge the scorecard itself.

    python -m pip install --target FOLDER ranx && PYTHONPATH=FOLDER python tests/benchmarks/metrics.py [--check]

Both get the same lists and take turns; counted by the median. ranx's functions are compiled beforehand, on a few users,
and take the arrays that they are made for; making those is not charged. The whole way is from one table of (user, item,
score) and one of likes to the values of every user, on a tenth of the users. Prints one JSON object a line; ``bar`` is
the least that is asked of a ratio and the most that is allowed of a difference, a time or memory. With ``--check`` the
exit status is 1 where a bar is missed. It is 2 where ranx is not installed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tracemalloc
from collections.abc import Iterator
from types import ModuleType

if __name__ == "__main__":
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from measures import cpu_seconds, report, row, take_turns
from scipy import sparse

from reclab import metrics, rank
from reclab.rank import interaction_matrix, lists_from_table
from reclab.scorecard import BETTER, UNCLEAR, Evidence, scorecard

USERS, ITEMS, K, LIKED = 200_000, 5_000, 100, 20
FASTER, WHOLE_FASTER, APART, CARD_SECONDS, MEMORY = 2, 2, 1e-9, 10, 1.0
REPEATS, SWAPS = 1000, 1000
TURNS = 7
NAMES = {"NDCG": "ndcg", "recall": "recall", "precision": "precision", "MRR": "reciprocal_rank", "hit": "hit_rate"}
INSTALL = "python -m pip install --target FOLDER ranx, and put FOLDER on PYTHONPATH"


def make(n_users: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Lists ``(n_users, K)`` without repeats, and liked items ``(n_users, LIKED)`` of which some stand in the lists."""
    rng = np.random.default_rng(seed)
    step = rng.integers(1, ITEMS // (K + LIKED), size=(n_users, 1))
    ids = rng.permutation(ITEMS)  # else a user's ids would lie close together, which ranx is quick about
    places = ids[(rng.integers(ITEMS, size=(n_users, 1)) + step * np.arange(K + LIKED)) % ITEMS]
    return np.ascontiguousarray(places[:, :K]), places[:, K - LIKED // 2 : K + LIKED - LIKED // 2]


def matrix(liked: np.ndarray) -> sparse.csr_array:
    rows = np.repeat(np.arange(len(liked)), liked.shape[1])
    return sparse.csr_array((np.ones(rows.size, bool), (rows, liked.ravel())), (len(liked), ITEMS))


class Peer:
    """ranx's compiled metrics on its own arrays, users by rows of (item, score), best first."""

    def __init__(self, ranx: ModuleType, lists: np.ndarray, liked: np.ndarray):
        from ranx import metrics as compiled

        self.functions = {ours: getattr(compiled, theirs) for ours, theirs in NAMES.items()}
        scores = np.broadcast_to(np.arange(K, 0, -1.0), lists.shape)
        self.run = np.stack([lists.astype(float), scores], axis=2)
        self.qrels = np.stack([liked.astype(float), np.ones(liked.shape)], axis=2)

    def values(self) -> dict[str, np.ndarray]:
        return {name: function(self.qrels, self.run, K) for name, function in self.functions.items()}


def tables(lists: np.ndarray, liked: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a library hands over: (user, item, score) rows, and (user, item) rows of likes."""
    users, items = (np.array([f"{mark}{n}" for n in range(size)]) for mark, size in (("u", len(lists)), ("i", ITEMS)))
    shown = {"user_id": np.repeat(users, K), "item_id": items[lists.ravel()]}
    shown["score"] = np.tile(np.arange(K, 0, -1.0), len(lists))
    wanted = {"user_id": np.repeat(users, LIKED), "item_id": items[liked.ravel()]}
    return tuple(pd.DataFrame(columns).astype(dict.fromkeys(wanted, object)) for columns in (shown, wanted))


def our_way(shown: pd.DataFrame, wanted: pd.DataFrame) -> dict[str, np.ndarray]:
    users, items = pd.unique(shown["user_id"]), pd.unique(pd.concat([shown["item_id"], wanted["item_id"]]))
    return metrics.accuracy_at_k(lists_from_table(shown, users, items, K), interaction_matrix(wanted, users, items))


def their_way(ranx: ModuleType, shown: pd.DataFrame, wanted: pd.DataFrame) -> dict[str, np.ndarray]:
    names = {"q_id_col": "user_id", "doc_id_col": "item_id"}
    run = ranx.Run.from_df(shown, score_col="score", **names)
    qrels = ranx.Qrels.from_df(wanted.assign(score=1), score_col="score", **names)
    return ranx.evaluate(
        qrels, run, [f"{name}@{K}" for name in ("ndcg", "recall", "precision", "mrr", "hit_rate")], return_mean=False
    )


def speed(ranx: ModuleType) -> Iterator[dict]:
    """Agreement, speed and memory of five metrics."""
    Peer(ranx, *make(50)).values()
    lists, liked = make(USERS)
    relevant, peer = matrix(liked), Peer(ranx, lists, liked)
    turns = take_turns(peer.values, lambda: metrics.accuracy_at_k(lists, relevant), rounds=TURNS)
    slow, fast = np.median(turns, axis=0)
    ours = metrics.accuracy_at_k(lists, relevant)
    apart = max(np.abs(ours[name] - values).max() for name, values in peer.values().items())
    yield row("largest difference from ranx, five metrics", apart, "per user", most=APART)
    yield row(f"five metrics, {USERS:,} users x top-{K}, ranx's compiled functions", slow, "CPU s")
    yield row(f"five metrics, {USERS:,} users x top-{K}, ours", fast, "CPU s")
    yield row("five metrics, times as fast as ranx", slow / fast, "times", least=FASTER)
    yield row("five metrics, ours: peak memory by that of the lists", memory(lists, relevant), "times", most=MEMORY)


def whole_way(ranx: ModuleType) -> Iterator[dict]:
    """From tables to the values of every user."""
    their_way(ranx, *tables(*make(50)))
    shown, wanted = tables(*make(USERS // 10))
    ways = (lambda: their_way(ranx, shown, wanted), lambda: our_way(shown, wanted))
    slow, fast = np.median(take_turns(*ways, rounds=3), axis=0)
    yield row(f"from tables, {USERS // 10:,} users x top-{K}, ranx", slow, "CPU s")
    yield row(f"from tables, {USERS // 10:,} users x top-{K}, ours", fast, "CPU s")
    yield row("from tables, times as fast as ranx", slow / fast, "times", least=WHOLE_FASTER)


def memory(lists: np.ndarray, relevant: sparse.csr_array) -> float:
    tracemalloc.start()
    try:
        metrics.accuracy_at_k(lists, relevant)
        return tracemalloc.get_traced_memory()[1] / lists.nbytes
    finally:
        tracemalloc.stop()


def world(n_users: int = 600, n_items: int = 300, seed: int = 0):
    """Users with a taste for a third of the items, popular items first; training likes and one held-out like each."""
    rng = np.random.default_rng(seed)
    taste = rng.integers(3, size=(n_users, 1)) == np.arange(n_items) % 3
    chance = (0.15 + 0.85 * taste) / (np.arange(n_items) + 10)
    order = np.argsort(rng.exponential(size=chance.shape) / chance, axis=1)
    train, relevant = np.zeros(chance.shape), np.zeros(chance.shape)
    np.put_along_axis(train, order[:, 1:16], 1.0, axis=1)
    np.put_along_axis(relevant, order[:, :1], 1.0, axis=1)
    return rng, train, relevant


def coverage_of_intervals(n_users: int) -> Iterator[dict]:
    """How often the 95% interval of NDCG@10 holds the mean over very many users."""
    _, train, relevant = world(20_000)
    shown = rank.top_k(np.broadcast_to(train.sum(axis=0), train.shape), 10, exclude=train)
    everyone = metrics.ndcg_at_k(shown, relevant)
    rng, inside = np.random.default_rng(1), 0
    for seed in range(REPEATS):
        _, low, high = metrics.bootstrap_interval(rng.choice(everyone, n_users), n=1000, seed=seed)
        inside += low <= everyone.mean() <= high
    name = f"95% intervals that hold the truth, {n_users} users"
    yield row(name, inside / REPEATS, "of 1,000", least=0.93)
    yield row(f"{name}, at most", inside / REPEATS, "of 1,000", most=0.97)


def coverage_of_jackknife(n_users: int, n_items: int, skew: float, most: float) -> Iterator[dict]:
    """How often a card's 95% intervals hold what the same statistics of as many other users are on average."""
    rng, k, measured = np.random.default_rng(4), 10, {}
    items, users = [f"i{n}" for n in range(n_items)], [f"u{n}" for n in range(n_users)]
    providers, weight = rng.integers(0, 12, n_items) ** 2 // 12, np.arange(1, n_items + 1) ** skew
    for seed in range(REPEATS):
        lists = np.argpartition(-np.log(rng.random((n_users, n_items))) * weight, k)[:, :k]
        p = rng.beta(2, 3, lists.shape)
        liked = rng.random(p.shape) < np.clip(p**1.3 + rng.normal(0, 0.1, (n_users, 1)), 0, 1)
        relevant = np.zeros((n_users, n_items))
        np.put_along_axis(relevant, lists, liked.astype(float), axis=1)
        table = pd.DataFrame({"user_id": np.repeat(users, k), "item_id": np.array(items)[lists.ravel()]})
        table = table.assign(rank=np.tile(np.arange(k), n_users), probability=p.ravel())
        evidence = Evidence(relevant, users, items, providers=providers)
        card = scorecard({"a": table}, evidence, k=k, n_bootstrap=400, seed=seed).values.set_index("metric")
        for name in ("coverage", "Gini", "provider gap", "calibration error"):
            measured.setdefault(name, []).append(card.loc[name, ["value", "low", "high"]].to_numpy(float))
    for name, intervals in measured.items():
        value, low, high = np.array(intervals).T
        inside = ((low <= value.mean()) & (value.mean() <= high)).mean()
        said = f"95% intervals of {name} that hold it, {n_users} users, {n_items:,} items, value {value.mean():.2f}"
        yield row(said, inside, "of 1,000", least=0.93)
        yield row(f"{said}, at most", inside, "of 1,000", most=most if name == "coverage" else 0.97)


def null_comparison() -> Iterator[dict]:
    """Lists of two systems swapped by a coin for each user: how often a card with all tests calls them different."""
    _, train, relevant = world()
    data = Evidence(relevant, train=train, features=np.eye(3)[np.arange(train.shape[1]) % 3])
    a = rank.top_k(rank.EASE(l2=50).fit(train).score(train), 10, exclude=train)
    b = rank.top_k(rank.ItemKNN(k=50).fit(train).score(train), 10, exclude=train)
    rng, different = np.random.default_rng(2), 0
    for _ in range(SWAPS):
        swap = rng.random((len(a), 1)) < 0.5
        card = scorecard({"a": np.where(swap, a, b), "b": np.where(swap, b, a)}, data, n_bootstrap=400)
        different += (card.differences["verdict"] != UNCLEAR).any()
    most = 0.05 + 2 * np.sqrt(0.05 * 0.95 / SWAPS)
    yield row("null comparisons called different", different / SWAPS, "of 1,000", most=most)
    told = scorecard({"b": b, "a": a}, data).differences["verdict"]
    yield row("the same systems, not swapped: metrics called better", (told == BETTER).sum(), "metrics")


def card_time() -> Iterator[dict]:
    """The bootstrap of all cells and of all differences, 10,000 users x 10 systems."""
    _, train, relevant = world(10_000)
    rng = np.random.default_rng(3)
    data = Evidence(relevant, train=train, features=np.eye(3)[np.arange(train.shape[1]) % 3])
    score = train.sum(axis=0)
    systems = {f"system {n}": rank.top_k(score * rng.random(train.shape), 10, exclude=train) for n in range(10)}
    found = {}
    seconds = cpu_seconds(lambda: found.update(card=scorecard(systems, data)))
    yield row(
        f"a card of {len(found['card'].values)} cells, 10,000 users x 10 systems", seconds, "CPU s", most=CARD_SECONDS
    )


def peer() -> ModuleType | None:
    """ranx; None where it is not installed."""
    try:
        import ranx
    except ImportError:
        return None
    return ranx


def measure(ranx: ModuleType) -> Iterator[dict]:
    """All measurements."""
    yield from speed(ranx)
    yield from whole_way(ranx)
    yield from card_time()
    for n_users in (200, 1000):
        yield from coverage_of_intervals(n_users)
    yield from coverage_of_jackknife(400, 2000, skew=1.5, most=0.97)
    yield from coverage_of_jackknife(600, 400, skew=0.9, most=1.0)  # nearly all is shown: coverage's are too wide
    yield from null_comparison()


def main(argv: list[str]) -> int:
    """Print the measurements; with ``--check``, return 1 where one misses its bar."""
    parser = argparse.ArgumentParser(description="Measure ranking metrics and the scorecard.")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    check = parser.parse_args(argv).check
    ranx = peer()
    if ranx is None:
        print(f"there is nothing to compare with: ranx is not installed; {INSTALL}", file=sys.stderr)
        return 2
    return report(measure(ranx), check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
