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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .rank import interaction_matrix, top_k_products
from .results import write_atomically

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def workers(n: int = 2, address: str | None = None, **environment: str) -> Iterator[Client]:
    """A Dask client of ``n`` processes on this machine, or of the cluster at ``address``.

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
    # a process a core: more threads would only queue
    one = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    settings = {
        "threads_per_worker": 1,
        "silence_logs": logging.CRITICAL,
        "dashboard_address": None,
        "scheduler_kwargs": {"dashboard_address": ":0"},  # the usual port may be another user's
        "memory_limit": None,
    }
    before = dict(os.environ)
    try:
        with (
            LocalCluster(n_workers=n, env=one | environment, **settings) as cluster,
            Client(cluster) as client,
        ):
            client.wait_for_workers(n)
            yield client
    finally:  # Dask sets here what its workers are to inherit, and every later process would
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def construct(part: str | Path, folder: str | Path) -> dict[str, int]:
    """Hold out the last interaction of each user of a part, and keep the part with a column
    ``held_out``; returns how many ``rows``, ``users`` and ``held_out`` it has.

    Interactions of one moment are put in an order by a hash of user and item: a draw would hang on
    how the rows were shared out.
    """
    log = pd.read_parquet(part)
    order = pd.util.hash_pandas_object(log[["user_id", "item_id"]].astype(str), index=False)
    log = log.assign(order=order).sort_values(["user_id", "timestamp", "order"], ignore_index=True)
    user = log["user_id"]
    log["held_out"] = (user != user.shift(-1)) & (user == user.shift(1))  # the last of at least two
    _write(log.drop(columns="order"), part, folder)
    return {"rows": len(log), "users": user.nunique(), "held_out": int(log["held_out"].sum())}


def encode(part: str | Path, folder: str | Path, model: str = "minilm-l6") -> int:
    """Encode the ``text`` of a part's items to ``item_id`` and ``vector``; returns how many."""
    from . import text

    items = pd.read_parquet(part)
    vectors = text.encode(list(items["text"]), model)
    _write(pd.DataFrame({"item_id": items["item_id"], "vector": list(vectors)}), part, folder)
    return len(items)


def score(part: str | Path, vectors: str | Path, folder: str | Path, k: int = 10) -> dict[str, int]:
    """Lists of the ``k`` best new items of each user of a part: how many ``users`` have one, and
    ``hits``, how many lists hold what was held out.

    A user's vector is the mean over the liked items that were not held out; a score is its product
    with an item's. ``part`` : from `construct`. ``vectors`` : folder that `encode` wrote.
    """
    log = pd.read_parquet(part)
    items = pd.read_parquet(vectors).sort_values("item_id")  # however they were shared out
    log = log[log["item_id"].isin(items["item_id"])]
    known, of_items = log[~log["held_out"]], np.stack(items["vector"].to_numpy())
    liked = known[known["positive"]]
    users = pd.Index(liked["user_id"].unique())
    profile = interaction_matrix(liked, users, items["item_id"]).astype(np.float32) @ of_items
    profile /= np.linalg.norm(profile, axis=1, keepdims=True)
    shown = interaction_matrix(known[known["user_id"].isin(users)], users, items["item_id"])
    lists = top_k_products(profile, of_items, k, shown)
    # -1, a place without an item, has no name
    names = np.append(items["item_id"].to_numpy(), None)[lists]
    _write(pd.DataFrame({"user_id": users, "items": list(names)}), part, folder)
    wanted = log[log["held_out"]].set_index("user_id")["item_id"].reindex(users)
    hits = (names == wanted.to_numpy()[:, None]).any(axis=1)
    return {"users": len(users), "hits": int(hits.sum())}


def _write(table: pd.DataFrame, part: str | Path, folder: str | Path) -> None:
    """The table under the name of the part that it was made of, whole or not at all."""
    write_atomically(Path(folder, Path(part).name), table.to_parquet(index=False))


def latencies(
    answer: Callable[[str], object],
    requests: Sequence[str],
    clients: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> np.ndarray:
    """Seconds from asking to the answer, of each request; ``clients`` share them out, and ask again
    once answered.

    Requests are answered one after the other, first come, first served, as by one process that
    serves. ``clock`` : `time.process_time` shows what a core of one's own would take, where other
    programs are at work.
    """
    if not 1 <= clients <= len(requests):
        raise ValueError(
            f"clients must be in 1..{len(requests)}, the number of requests, got {clients}"
        )
    start = threading.Barrier(clients)

    def ask(mine: Sequence[str]) -> list[float]:
        seconds = []
        start.wait()
        for request in mine:
            asked = clock()
            server.submit(answer, request).result()
            seconds.append(clock() - asked)
        return seconds

    with ThreadPoolExecutor(1) as server, ThreadPoolExecutor(clients) as pool:
        return np.concatenate(list(pool.map(ask, [requests[n::clients] for n in range(clients)])))
