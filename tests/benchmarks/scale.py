"""Measure notebook 14's promises: a distilled model's speed and loss, work spread over processes, and linear costs.

    python tests/benchmarks/scale.py [--check]

Prints one JSON object a line; ``bar`` is the least that is asked of a number or the most that is allowed of it. With
``--check`` the exit status is 1 where a bar is missed. The AUC is read from the stored table 14_smaller, whose receipt
says how it was made: training a teacher and its students under three seeds takes half an hour. Speeds are measured
here, in CPU seconds, each model in turns with the teacher.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import one_fit
import pandas as pd
from measures import cpu_seconds, report, row, take_turns

from reclab import data, results, scale

FASTER, LOST = 2.0, -0.01  # throughput over the teacher's, and AUC less the teacher's
CHOSEN = "3 layers, distilled, int8"  # the student of the bar; the others are the frontier
APART, PROCESSES_APART = 1e-5, 1e-5  # of vectors and of weights
SIZES, GROWTH, PARTS = (200_000, 400_000, 800_000), 1.25, 8
TURNS, READ, PATIENCE = 5, 64, 120


# --- smaller models


def measure_frontier() -> Iterator[dict]:
    """For each system its throughput over the teacher's, measured now, and its loss, as stored over three seeds."""
    import smaller
    import torch
    from tables import reviews

    torch.set_num_threads(1)
    stored = results.table("14_smaller").frame.set_index("system")
    texts = list(reviews().train["text"])
    teacher = smaller.untrained()
    yield row("seeds behind each AUC (stored table)", int(stored["seeds"].min()), "seeds", least=3)
    for name in stored.index.drop([smaller.TEACHER, smaller.CONTROL]):
        answer, _, _ = smaller.system(name, stored.loc[name, "share_read"], texts)
        chosen = name == CHOSEN
        speed = throughput_ratio(answer, teacher.predict, texts[:READ])
        yield row(f"{name}: throughput / fp32 teacher", speed, "times", **({"least": FASTER} if chosen else {}))
        lost = stored.loc[name, "auc_minus_teacher"]
        bars = {"least": LOST} if chosen else {}
        ends = {end: float(f"{stored.loc[name, f'auc_minus_teacher_{end}']:.3g}") for end in ("low", "high")}
        yield row(f"{name}: AUC less the teacher's, mean over 3 seeds (stored table)", lost, "AUC", **bars) | ends


def throughput_ratio(answer: Callable, teacher: Callable, texts: list[str]) -> float:
    """How many times as many texts a CPU second: the median over turns."""
    ways = partial(answer, texts), partial(teacher, texts)
    for way in ways:
        way()
    ours, theirs = take_turns(*ways, rounds=TURNS).T
    return float(np.median(theirs / ours))


# --- two processes


def measure_processes() -> Iterator[dict]:
    """The same fine-tune on one process and on two gloo processes under torchrun."""
    with tempfile.TemporaryDirectory(prefix="scale-") as scratch:
        one, two = Path(scratch, "one"), Path(scratch, "two")
        expected = one_fit.finish(one, parts=2)
        apart = one_fit.largest_difference(expected, one_fit.finish(two, parts=2, processes=2))
        yield row("torchrun: world size", int((two / "world").read_text()), "processes", least=2)
        yield row("torchrun: largest difference of weights from one process", apart, "weight", most=PROCESSES_APART)


# --- a cluster, with a worker killed from outside


def write_films(folder: Path, parts: int) -> None:
    """The films thread as partitioned Parquet: interactions by user, and texts."""
    films = data.movies()
    log = films.interactions[["user_id", "item_id", "timestamp", "positive"]]
    data.to_parquet([log], folder / "raw", parts=parts)
    texts = films.items.loc[films.items["text"].notna(), ["item_id", "text"]]
    (folder / "texts").mkdir()
    for part in range(parts):
        texts.iloc[part::parts].to_parquet(folder / "texts" / f"part-{part:03}.parquet")


def pipeline(run: Callable, folder: Path) -> dict[str, int]:
    """Construct, encode and score with ``run(function, parts, **options)``; sums over parts."""
    made = run(scale.construct, sorted((folder / "raw").glob("*")), folder=folder / "log")
    encoded = run(scale.encode, sorted((folder / "texts").glob("*")), folder=folder / "vectors")
    both = {"vectors": folder / "vectors", "folder": folder / "lists"}
    scored = run(scale.score, sorted((folder / "log").glob("*")), **both)
    return pd.concat([pd.DataFrame(made).sum(), pd.DataFrame(scored).sum()]).to_dict() | {"items": sum(encoded)}


def in_a_loop(step: Callable, parts: list[Path], **options) -> list:
    return [step(part, **options) for part in parts]


def kill_when(folder: Path, pid: int, done: list[int]) -> None:
    """SIGKILL a process as soon as the first part of the vectors is there; notes the pid."""
    deadline = time.monotonic() + PATIENCE
    while not list(folder.glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    done.append(pid)


def measure_cluster() -> Iterator[dict]:
    """The pipeline on two workers, one of which is killed while it encodes, against a loop over one part."""
    with tempfile.TemporaryDirectory(prefix="scale-") as scratch:
        spread, whole = Path(scratch, "spread"), Path(scratch, "whole")
        write_films(spread, PARTS)
        write_films(whole, 1)
        with scale.workers(2, RECLAB_DERIVED=f"{scratch}/cache") as client:
            pids, killed = list(client.run(os.getpid).values()), []
            yield row("Dask: workers in processes of their own", len({*pids, os.getpid()}) - 1, "workers", least=2)
            killer = threading.Thread(target=kill_when, args=(spread / "vectors", pids[0], killed))
            killer.start()
            found = pipeline(lambda f, parts, **given: client.gather(client.map(f, parts, **given)), spread)
            killer.join()
            client.wait_for_workers(2, timeout=PATIENCE)
            gone = pids[0] not in client.run(os.getpid).values()
            yield row("Dask: workers killed (SIGKILL) during the run", len(killed) * gone, "workers", least=1)
        os.environ["RECLAB_DERIVED"] = f"{scratch}/other"
        expected = pipeline(in_a_loop, whole)
        differing = sum(found[name] != expected[name] for name in expected)
        yield row("Dask: counts that differ from one process", differing, f"of {len(expected)} counts", most=0)
        vectors = [stacked(folder, "vectors", "item_id") for folder in (spread, whole)]
        apart = float(np.abs(np.stack(vectors[0]) - np.stack(vectors[1])).max())
        yield row("Dask: largest difference of vectors from one process", apart, "vector", most=APART)
        lists = [stacked(folder, "lists", "user_id").map(list) for folder in (spread, whole)]
        yield row("Dask: lists that differ from one process", int((lists[0] != lists[1]).sum()), "lists", most=0)


def stacked(folder: Path, step: str, key: str) -> pd.Series:
    table = pd.read_parquet(folder / step)
    return table.set_index(key)[table.columns.drop(key)[0]].sort_index()


# --- cost by size


def measure_growth() -> Iterator[dict]:
    """CPU microseconds a row of construction and scoring, part by part, at three sizes of generated interactions."""
    rng, costs = np.random.default_rng(0), []
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="scale-") as scratch:
            folder = Path(scratch)
            log = pd.DataFrame(
                {
                    "user_id": rng.integers(size // 50, size=size).astype(str),
                    "item_id": rng.integers(1_000, size=size).astype(str),
                    "timestamp": pd.to_datetime(rng.integers(10**9, size=size), unit="s", utc=True),
                    "positive": rng.random(size) < 0.5,
                }
            )
            items = pd.DataFrame({"item_id": [str(n) for n in range(1_000)]})
            (folder / "vectors").mkdir()
            items.assign(vector=list(rng.normal(size=(1_000, 64)))).to_parquet(folder / "vectors" / "part-000.parquet")
            kept = data.to_parquet([log], folder / "raw", parts=PARTS)

            def work(folder=folder, kept=kept) -> None:
                in_a_loop(scale.construct, kept.parts, folder=folder / "log")
                made = sorted((folder / "log").glob("*"))
                in_a_loop(scale.score, made, vectors=folder / "vectors", folder=folder / "lists")

            costs.append(min(cpu_seconds(work) for _ in range(3)) / size * 1e6)
            yield row(f"construct and score, {size:,} rows", costs[-1], "CPU µs a row")
    yield row("cost a row, largest size / smallest", costs[-1] / costs[0], "times", most=GROWTH)


# --- the command


def measure() -> Iterator[dict]:
    """Everything."""
    yield from measure_growth()
    yield from measure_processes()
    yield from measure_cluster()
    yield from measure_frontier()


if __name__ == "__main__":
    sys.exit(report(measure(), "--check" in sys.argv))
