"""Measure notebook 14's promises: a distilled model's speed and loss, two processes that fit as one, linear costs.

    python tests/benchmarks/scale.py [--check]

Prints one JSON object a line; ``bar`` is the least that is asked of a number or the most that is allowed of it. With
``--check`` the exit status is 1 where a bar is missed. The AUC is read from the stored table 14_smaller, whose receipt
says how it was made: training a teacher and its students under three seeds takes half an hour. Speeds are measured
here, in CPU seconds, each model in turns with the teacher.
"""

from __future__ import annotations

import sys
import tempfile
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
APART = 1e-5  # of weights
SIZES, GROWTH, PARTS = (200_000, 400_000, 800_000), 1.25, 8
TURNS, READ = 5, 64


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
        yield row("torchrun: largest difference of weights from one process", apart, "weight", most=APART)


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
                for part in kept.parts:
                    scale.construct(part, folder / "log")
                for part in (folder / "log").glob("*"):
                    scale.score(part, folder / "vectors", folder / "lists")

            costs.append(min(cpu_seconds(work) for _ in range(3)) / size * 1e6)
            yield row(f"construct and score, {size:,} rows", costs[-1], "CPU µs a row")
    yield row("cost a row, largest size / smallest", costs[-1] / costs[0], "times", most=GROWTH)


# --- the command


def measure() -> Iterator[dict]:
    """Everything."""
    yield from measure_growth()
    yield from measure_processes()
    yield from measure_frontier()


if __name__ == "__main__":
    sys.exit(report(measure(), "--check" in sys.argv))
