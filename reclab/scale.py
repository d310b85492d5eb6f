"""Work on partitioned Parquet that several processes or machines can share: construct, encode and
score, part by part.

Each step reads the files of a part and writes one, whole or not at all. So a step may run anywhere,
twice, or again after the process that ran it has died, and what comes out is the same.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from .rank import interaction_matrix, top_k_products
from .results import write_atomically


@contextmanager
def workers(n: int = 2, address: str | None = None, **environment: str) -> Iterator:
    """A Dask client of ``n`` processes on this machine, or of the cluster at ``address``.

    With workers on this machine, the variables of this process are at the end what they were at the
    start.

    Parameters
    ----------
    address : of a running scheduler, such as ``tcp://10.0.0.5:8786``; its machines need this
        package and the files.
    environment : variables of local workers; a worker that is started again has them too.

    Source: Rocklin, Dask (2015), doi 10.25080/Majora-7b98e3ed-013.
    """
    from distributed import Client, LocalCluster

    if address:
        with Client(address) as client:
            yield client
        return
    calm = {"silence_logs": logging.CRITICAL, "dashboard_address": None, "memory_limit": None}
    calm["scheduler_kwargs"] = {
        "dashboard_address": ":0"
    }  # any free port: the usual one may be another user's
    one = {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }  # a process a core: more threads would only queue
    with (
        _environment_put_back(),
        LocalCluster(n_workers=n, threads_per_worker=1, env=one | environment, **calm) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(n)
        yield client


@contextmanager
def _environment_put_back() -> Iterator[None]:
    """Dask sets in this process what its workers are to inherit; every later process would be slow
    by it.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def construct(part: str | Path, folder: str | Path) -> dict[str, int]:
    """Hold out the last interaction of each user of a part, and keep the part with a column
    ``held_out``.

    Interactions of one moment are put in an order by a hash of user and item: a draw would hang on
    how the rows were shared out.

    Returns: ``rows``, ``users`` and ``held_out`` of the part.
    """
    log = pd.read_parquet(part)
    order = pd.util.hash_pandas_object(log[["user_id", "item_id"]].astype(str), index=False)
    log = log.assign(order=order).sort_values(["user_id", "timestamp", "order"], ignore_index=True)
    user = log["user_id"]
    log["held_out"] = (user != user.shift(-1)) & (user == user.shift(1))  # the last of at least two
    write_atomically(
        Path(folder, Path(part).name), log.drop(columns="order").to_parquet(index=False)
    )
    return {"rows": len(log), "users": user.nunique(), "held_out": int(log["held_out"].sum())}


def encode(part: str | Path, folder: str | Path, model: str = "minilm-l6") -> int:
    """Encode the ``text`` of a part's items to ``item_id`` and ``vector``; returns how many."""
    from . import text

    items = pd.read_parquet(part)
    vectors = text.encode(list(items["text"]), model)
    write_atomically(
        Path(folder, Path(part).name),
        pd.DataFrame({"item_id": items["item_id"], "vector": list(vectors)}).to_parquet(
            index=False
        ),
    )
    return len(items)


def score(part: str | Path, vectors: str | Path, folder: str | Path, k: int = 10) -> dict[str, int]:
    """Lists of the ``k`` best new items of each user of a part, and how many hold what was held
    out.

    A user's vector is the mean over the liked items that were not held out; a score is its product
    with an item's.

    Parameters
    ----------
    part : from `construct`. vectors : folder that `encode` wrote.

    Returns: ``users`` with a list, and ``hits``: those whose held-out item is on it.
    """
    log, items = (
        pd.read_parquet(part),
        pd.read_parquet(vectors).sort_values("item_id"),
    )  # however they were shared out
    log = log[log["item_id"].isin(items["item_id"])]
    known, of_items = log[~log["held_out"]], np.stack(items["vector"].to_numpy())
    liked = known[known["positive"]]
    users = pd.Index(liked["user_id"].unique())
    profile = interaction_matrix(liked, users, items["item_id"]).astype(np.float32) @ of_items
    profile /= np.linalg.norm(profile, axis=1, keepdims=True)
    shown = interaction_matrix(known[known["user_id"].isin(users)], users, items["item_id"])
    lists = top_k_products(profile, of_items, k, shown)
    names = np.append(items["item_id"].to_numpy(), None)[
        lists
    ]  # -1, a place without an item, has no name
    write_atomically(
        Path(folder, Path(part).name),
        pd.DataFrame({"user_id": users, "items": list(names)}).to_parquet(index=False),
    )
    wanted = log[log["held_out"]].set_index("user_id")["item_id"].reindex(users)
    hits = (names == wanted.to_numpy()[:, None]).any(axis=1)
    return {"users": len(users), "hits": int(hits.sum())}


def latencies(
    answer: Callable[[str], object],
    requests: Sequence[str],
    clients: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> np.ndarray:
    """Seconds from asking to the answer, of each request; ``clients`` share them out, and ask again
    once answered.

    Requests are answered one after the other, as by one process that serves: who comes at the same
    time waits.

    Parameters
    ----------
    clock : `time.process_time` shows what a core of one's own would, where other programs are at
        work.

    Raises ValueError: fewer requests than clients.
    """
    if not 1 <= clients <= len(requests):
        raise ValueError(
            f"clients must be in 1..{len(requests)}, the number of requests, got {clients}"
        )
    turn, start = threading.Lock(), threading.Barrier(clients)
    queue: deque[threading.Event] = deque()

    def ask(mine: Sequence[str]) -> list[float]:
        seconds = []
        start.wait()
        for request in mine:
            asked = clock()
            with _in_order(turn, queue):
                answer(request)
            seconds.append(clock() - asked)
        return seconds

    with ThreadPoolExecutor(clients) as pool:
        return np.concatenate(list(pool.map(ask, [requests[n::clients] for n in range(clients)])))


@contextmanager
def _in_order(turn: threading.Lock, queue: deque) -> Iterator[None]:
    """First come, first served; a plain lock lets its holder take it again before others wake."""
    ticket = threading.Event()
    with turn:
        queue.append(ticket)
        if len(queue) == 1:
            ticket.set()
    ticket.wait()
    try:
        yield
    finally:
        with turn:
            queue.popleft()
            if queue:
                queue[0].set()
