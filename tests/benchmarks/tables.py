"""Make the stored tables of the notebooks: comparisons that take too long for a notebook.

    python tests/benchmarks/tables.py NAME... [--seeds N]

Each is written to notebooks/expected/published with a receipt, and shown by `reclab.published.table`. Set
OMP_NUM_THREADS=1 where a table gives seconds: the receipt says how many threads there were.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reclab import clicks, data, get_profile, published
from reclab.assets import ASSETS

# --- what tables share


class Reviews(NamedTuple):
    """The reviews of notebook 02, of different items in the two parts."""

    train: pd.DataFrame
    test: pd.DataFrame


def reviews() -> Reviews:
    """The training and test reviews of notebook 02 on the laptop profile."""
    split = data.cold_items(data.clothing().interactions, folds=10)
    data.check_leakage(split)
    train = split.train.sample(get_profile("laptop").n_reviews, random_state=0)
    return Reviews(train, split.test.sample(1500, random_state=0))


def alone(function: Callable, *args):
    """Run a function of this module in a fresh process; returns what it returns, and the process's peak MiB."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result(), pool.submit(peak_mib).result()


def peak_mib() -> float:
    """The largest resident memory that this process has had, in MiB; NaN where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text("utf-8").splitlines() if status.is_file() else []
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else float("nan")


@contextmanager
def empty_derived_cache() -> Iterator[None]:
    """Nothing that an earlier run kept is read in here, or in processes started in here."""
    before = os.environ.get("RECLAB_DERIVED")
    with tempfile.TemporaryDirectory(prefix="tables-", ignore_cleanup_errors=True) as folder:
        os.environ["RECLAB_DERIVED"] = folder
        try:
            yield
        finally:
            os.environ.pop("RECLAB_DERIVED")
            if before is not None:
                os.environ["RECLAB_DERIVED"] = before


# --- 02_encoders


class Measured(NamedTuple):
    """What a process found out about one encoder; ``p`` are the probabilities of the test reviews."""

    p: np.ndarray
    parameters: int
    disk_mb: float
    cpu_seconds: float


def counted_words(part: Reviews) -> Measured:
    """TF-IDF and a logistic regression, as in notebook 02."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    model = make_pipeline(words, LogisticRegression(C=10, max_iter=1000))
    model.fit(part.train["text"], part.train["positive"])
    start = time.process_time()
    p = model.predict_proba(part.test["text"])[:, 1]
    seconds = time.process_time() - start
    return Measured(p, model[-1].coef_.size + 1, len(pickle.dumps(model)) / 1e6, seconds)


def frozen_mean(part: Reviews, name: str) -> Measured:
    """The mean vector of a frozen encoder, and a logistic regression whose strength the training reviews choose."""
    from reclab import text

    # Loaded once, so that the seconds are those of reading reviews.
    text.load_tokenizer, text.load_encoder = functools.cache(text.load_tokenizer), functools.cache(text.load_encoder)
    grid = {"logisticregression__C": np.logspace(-4, 0, 5)}
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model = GridSearchCV(head, grid, scoring="roc_auc")
    model.fit(text.encode(list(part.train["text"]), name), part.train["positive"])
    start = time.process_time()
    p = model.predict_proba(text.encode(list(part.test["text"]), name))[:, 1]
    seconds = time.process_time() - start
    encoder = text.load_encoder(name)
    parameters = sum(weights.numel() for weights in encoder.parameters()) + encoder.config.hidden_size + 1
    return Measured(p, parameters, sum(member.size for member in ASSETS[name].members.values()) / 1e6, seconds)


def encoders(seeds: range) -> pd.DataFrame:
    """Counted words, an encoder that reads and a decoder that writes: what each is worth frozen, and what it costs.

    ``disk_mb`` is what is downloaded (the decoder at four bits a weight) or, for counted words, the pickled model.
    """
    del seeds  # nothing is drawn
    part = reviews()
    with empty_derived_cache():
        found = {
            "TF-IDF": alone(counted_words, part),
            "MiniLM-L6, a BERT": alone(frozen_mean, part, "minilm-l6"),
            "SmolLM2-135M, a GPT": alone(frozen_mean, part, "smollm2-135m-instruct"),
        }
    reference = found["MiniLM-L6, a BERT"][0].p
    rows = [_encoder_row(name, measured, peak, reference, part.test) for name, (measured, peak) in found.items()]
    return pd.DataFrame(rows)


def _encoder_row(name: str, measured: Measured, peak: float, reference: np.ndarray, test: pd.DataFrame) -> dict:
    labels, items = test["positive"], test["item_id"]
    auc = clicks.auc_interval(labels, measured.p, items)
    row = {"encoder": name} | _interval("auc", auc)
    if measured.p is reference:
        row |= _interval("auc_minus_minilm", (np.nan, np.nan, np.nan))
    else:
        row |= _interval("auc_minus_minilm", clicks.paired_auc_difference(labels, measured.p, reference, items))
    return row | {
        "parameters": measured.parameters,
        "disk_mb": measured.disk_mb,
        "cpu_seconds_per_1000": measured.cpu_seconds / len(test) * 1000,
        "peak_mib": peak,
    }


def _interval(name: str, interval: tuple[float, float, float]) -> dict:
    """Three columns, which a published table shows as one."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))


# --- the command

# Name -> the function that makes the table, given the seeds, and how many seeds it takes (0: it draws nothing).
TABLES: dict[str, tuple[Callable[[range], pd.DataFrame], int]] = {
    "02_encoders": (encoders, 0),
}


def make(name: str, n_seeds: int | None) -> None:
    """Make a table, store it and print it."""
    function, default = TABLES[name]
    seeds = range(default if n_seeds is None else n_seeds)
    command = f"python tests/benchmarks/tables.py {name}" + (f" --seeds {len(seeds)}" if len(seeds) != default else "")
    start = time.perf_counter()
    frame = function(seeds)
    published.write(name, frame, command=command, seeds=seeds, seconds=time.perf_counter() - start)
    print(f"{published.table(name)!r}\n", flush=True)


def main(argv: list[str] | None = None) -> None:
    """Make the named tables."""
    parser = argparse.ArgumentParser(description="Make the stored tables of the notebooks.")
    parser.add_argument("names", nargs="+", choices=sorted(TABLES), metavar="NAME", help=", ".join(sorted(TABLES)))
    parser.add_argument("--seeds", type=int, help="how many seeds, for tables that draw (default: each table's own)")
    args = parser.parse_args(argv)
    for name in args.names:
        make(name, args.seeds)


if __name__ == "__main__":
    main()
