"""Make the stored tables of the notebooks: comparisons that take too long for a notebook.

    python tests/benchmarks/tables.py NAME... [--seeds N]

Each is written to notebooks/expected/published with a receipt. Set OMP_NUM_THREADS=1 where a table gives seconds.
"""

from __future__ import annotations

import argparse
import copy
import functools
import multiprocessing
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import smaller
from cross_encoder import cross_encoder
from measures import peak_mib, store
from repairs import repairs
from shop_shares import shop_shares
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reclab import data, get_profile, metrics, results
from reclab.assets import ASSETS
from reclab.metrics import percentile_interval
from reclab.profiles import cpu_has_bf16
from reclab.results import write_atomically

NONE = (np.nan, np.nan, np.nan)  # an interval where there is nothing to compare

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
    model = vector_head()
    model.fit(text.encode(list(part.train["text"]), name), part.train["positive"])
    start = time.process_time()
    p = model.predict_proba(text.encode(list(part.test["text"]), name))[:, 1]
    seconds = time.process_time() - start
    encoder = text.load_encoder(name)
    parameters = sum(weights.numel() for weights in encoder.parameters()) + encoder.config.hidden_size + 1
    return Measured(p, parameters, sum(member.size for member in ASSETS[name].members.values()) / 1e6, seconds)


def vector_head() -> GridSearchCV:
    """A logistic regression over vectors, whose strength the training reviews choose."""
    grid = {"logisticregression__C": np.logspace(-4, 0, 5)}
    return GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)), grid, scoring="roc_auc")


def encoders(seeds: range) -> pd.DataFrame:
    """Counted words, an encoder that reads and a decoder that writes: what each is worth frozen, and what it costs.

    ``disk_mb`` is what is downloaded (the decoder at four bits a weight) or, for counted words, the pickled model.
    """
    del seeds  # nothing is drawn
    part = reviews()
    # Nothing that an earlier run kept is read, here or in the processes started here.
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, RECLAB_DERIVED=folder):
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
    difference = NONE
    if measured.p is not reference:
        difference = metrics.paired_auc_difference(labels, measured.p, reference, items)
    return {
        "encoder": name,
        **_interval("auc", metrics.auc_interval(labels, measured.p, items)),
        **_interval("auc_minus_minilm", difference),
        "parameters": measured.parameters,
        "disk_mb": measured.disk_mb,
        "cpu_seconds_per_1000": measured.cpu_seconds / len(test) * 1000,
        "peak_mib": peak,
    }


def _interval(name: str, interval: tuple[float, float, float]) -> dict:
    """Three columns, which a published table shows as one."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))


# --- 02_methods and 02_labels

# Labels (None: all): epochs, and the most seeds; one reading of everything costs as much as ten of 2,000 reviews.
SIZES = {500: (4, 3), 1_000: (2, 3), 2_000: (1, 3), 4_000: (1, 5), None: (1, 1)}


earlier_seconds: list[float] = []  # of results that an earlier call left in runs/tables; a receipt counts them too


def seeded(name: str, seeds: Iterable[int], function: Callable, *args) -> list:
    """``function(seed, *args)`` for each seed, in a fresh process each; finished ones are kept in runs/tables."""
    from reclab.receipts import source_hash

    kept = []
    for seed in seeds:
        file = Path("runs/tables", source_hash()[:12], f"{name}-{seed}.pkl")
        if file.is_file():
            result, seconds = pickle.loads(file.read_bytes())
            earlier_seconds.append(seconds)
        else:
            start = time.perf_counter()
            result = alone(function, seed, *args)
            write_atomically(file, pickle.dumps((result, time.perf_counter() - start)))
            print(f"{name}, seed {seed}: done", flush=True)
        kept.append(result)
    return kept


def precision() -> str:
    """What the fine-tunes of the tables compute in: bf16 where the CPU has it."""
    return "bf16" if cpu_has_bf16() else "no"


def fine_tuned(seed: int, part: Reviews, epochs: int, method: str) -> tuple[np.ndarray, float, int]:
    """Probabilities of the test reviews, CPU seconds of training, and numbers trained in the encoder."""
    from reclab import efficient, finetune

    profile = replace(get_profile("laptop", seed=seed), epochs=epochs, mixed_precision=precision())
    start = time.process_time()
    model = finetune.fit(list(part.train["text"]), part.train["positive"], profile, method=method)
    seconds = time.process_time() - start
    probe = efficient.METHODS[method].prepare(finetune.TextClassifier(profile.model).encoder, len(model.history))
    p = model.predict(list(part.test["text"]), precision=profile.precision)
    return p, seconds, efficient.trained_parameters(probe)


def methods(seeds: range) -> pd.DataFrame:
    """Fine-tune everything, or a small part, on the training reviews of notebook 02: quality, size and cost."""
    from reclab.efficient import METHODS

    part, rows, found = reviews(), [], {}
    for method in METHODS:
        runs = seeded(f"02_methods-{method}", seeds, fine_tuned, part, 1, method)
        found[method] = [p for (p, _, _), _ in runs]
        difference = NONE if method == "full" else auc_over_seeds(part.test, found[method], found["full"])
        rows.append(
            {
                "method": method,
                "trained_parameters": runs[0][0][2],
                **_interval("auc", auc_over_seeds(part.test, found[method])),
                **_interval("auc_minus_full", difference),
                "cpu_seconds": np.median([seconds for (_, seconds, _), _ in runs]),
                "peak_mib": np.median([peak for _, peak in runs]),
            }
        )
    return pd.DataFrame(rows)


def labels(seeds: range) -> pd.DataFrame:
    """Counted words, frozen vectors and a fine-tune, by the number of labelled reviews; each seed draws its own.

    Small samples are read more than once, so that every fine-tune has at least 125 steps.
    """
    from reclab import text

    train = data.cold_items(data.clothing().interactions, folds=10).train
    test = reviews().test
    vectors = text.encode(list(train["text"])), text.encode(list(test["text"]))
    rows = [_labels_row(size, n, seeds[:most], train, test, vectors) for size, (n, most) in SIZES.items()]
    return pd.DataFrame(rows)


def _labels_row(size: int | None, epochs: int, seeds: range, train, test, vectors) -> dict:
    found: dict[str, list] = {"tfidf": [], "frozen": [], "finetuned": []}
    cost = []
    for seed in seeds:
        part = Reviews(train.sample(size, random_state=seed) if size else train, test)
        head = vector_head().fit(vectors[0][train.index.get_indexer(part.train.index)], part.train["positive"])
        found["tfidf"].append(counted_words(part).p)
        found["frozen"].append(head.predict_proba(vectors[1])[:, 1])
        [((p, seconds, _), _)] = seeded(f"02_labels-{len(part.train)}", [seed], fine_tuned, part, epochs, "full")
        found["finetuned"].append(p)
        cost.append(seconds)
    row = {"labels": size or len(train), "seeds": len(seeds)}
    for name, predictions in found.items():
        row |= _interval(name, auc_over_seeds(test, predictions))
    row |= _interval("finetuned_minus_tfidf", auc_over_seeds(test, found["finetuned"], found["tfidf"]))
    return row | {"cpu_seconds": np.median(cost)}


def auc_over_seeds(
    test: pd.DataFrame, predictions: list[np.ndarray], less: list[np.ndarray] | None = None
) -> tuple[float, float, float]:
    """Mean AUC over seeds, or its paired difference to other predictions, with a 95% bootstrap interval.

    Items and seeds are both resampled: the interval speaks of other reviews and of another training run.
    """
    truth, items = test["positive"], test["item_id"]
    samples = metrics.resampled_aucs(truth, [*predictions, *(less or [])], items)
    value = np.mean([metrics.auc(truth, p) for p in predictions])
    n = len(predictions)
    draws = np.random.default_rng(0).integers(n, size=(len(samples), n))
    spread = np.take_along_axis(samples[:, :n], draws, 1).mean(1)
    if less:
        value -= np.mean([metrics.auc(truth, p) for p in less])
        spread -= np.take_along_axis(samples[:, n:], draws, 1).mean(1)
    return tuple(percentile_interval(value, spread))


# --- 02_pretraining

FEW, MANY, VALIDATION = 500, 2_000, 500  # labels of a fine-tune, and further ones that choose its learning rate
PASSES = {FEW: 8, MANY: 4}
PRETRAINING_PASSES, LOOKS_A_PASS = 6, 2
RATES = (2e-4, 1e-3)
READ_ON = 2_000  # reviews on which MiniLM goes on learning its language
SEEDS_OF_MINILM = 2  # a pass of MiniLM costs several of the small BERT's
RANDOM, PRETRAINED = "small BERT, random weights", "small BERT, pre-trained"
DOWNLOADED, ADAPTED = "MiniLM as downloaded", "MiniLM, pre-trained further"


class Prepared(NamedTuple):
    """What a seed found out about one start; ``p`` by the number of labels, ``cpu_seconds`` of the pre-training."""

    p: dict[int, np.ndarray]
    perplexity: float
    cpu_seconds: float
    curve: dict[float, float]  # perplexity after so many passes


def small_berts(seed: int, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Prepared]:
    """A small BERT with random weights, and the same one after six passes of masked language modelling.

    It has read no text but the training reviews: its vocabulary is theirs too.
    """
    from reclab import masked_lm

    profile = replace(get_profile("laptop", seed=seed), mixed_precision=precision())
    tokenizer, found = masked_lm.train_vocabulary(list(train["text"])), {}
    for start in (RANDOM, PRETRAINED):
        encoder = masked_lm.small_bert(len(tokenizer), width=128, heads=2, seed=seed)
        model = masked_lm.MaskedLanguageModel(encoder, seed)
        curve = {0.0: masked_lm.perplexity(model, tokenizer, list(test["text"]))}
        seconds = 0.0
        if start == PRETRAINED:
            learnt, seconds = learn_language(model, tokenizer, train, test, profile)
            curve |= learnt
        p = {size: best_fit(encoder, tokenizer, train, size, profile).predict(list(test["text"])) for size in PASSES}
        found[start] = Prepared(p, curve[max(curve)], seconds, curve)
    return found


def learn_language(model, tokenizer, train: pd.DataFrame, test: pd.DataFrame, profile) -> tuple[dict, float]:
    """Pre-train a model in place; its perplexity by the number of passes, and CPU seconds without those looks."""
    from reclab import masked_lm

    steps = -(-len(train) // profile.batch_size)
    curve, looking = {}, 0.0

    def look(step: int) -> None:
        nonlocal looking
        if step % (steps // LOOKS_A_PASS) == 0:
            begin = time.process_time()
            curve[round(step / steps * LOOKS_A_PASS) / LOOKS_A_PASS] = masked_lm.perplexity(
                model, tokenizer, list(test["text"])
            )
            looking += time.process_time() - begin

    begin = time.process_time()
    masked_lm.pretrain(model, tokenizer, list(train["text"]), profile, epochs=PRETRAINING_PASSES, after_step=look)
    return curve, time.process_time() - begin - looking


def best_fit(encoder, tokenizer, train: pd.DataFrame, size: int, profile):
    """Fine-tune at each learning rate, and keep the one that ranks further training reviews best."""
    from reclab import efficient, finetune

    # The table of word vectors learns too: that of a random start would stay random otherwise.
    efficient.METHODS["everything"] = efficient.Method(lambda whole, steps: whole, RATES[0])
    drawn = train.sample(MANY + VALIDATION, random_state=profile.seed)
    part, further = drawn.head(size), drawn.tail(VALIDATION)
    settings = {"method": "everything", "tokenizer": tokenizer, "profile": replace(profile, epochs=PASSES[size])}
    fits = [
        finetune.fit(list(part["text"]), part["positive"], encoder=copy.deepcopy(encoder), lr=lr, **settings)
        for lr in RATES
    ]
    return max(fits, key=lambda model: metrics.auc(further["positive"], model.predict(list(further["text"]))))


def minilms(seed: int, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Prepared]:
    """MiniLM as downloaded, and after a pass of masked language modelling on reviews.

    Its checkpoint has no head that guesses words. So a new one learns alone first, the encoder kept as it is: the
    perplexity before. Then head and encoder read the reviews once more, together and slowly: the perplexity after.
    """
    from reclab import finetune, masked_lm, text

    profile = replace(get_profile("laptop", seed=seed), mixed_precision=precision())
    tokenizer, found = text.load_tokenizer(profile.model), {}
    unlabelled = list(train["text"].sample(READ_ON, random_state=seed))
    part = train.sample(MANY + VALIDATION, random_state=seed).head(MANY)
    encoder = text.load_encoder(profile.model, attention_probs_dropout_prob=0.0)
    model = masked_lm.MaskedLanguageModel(encoder, seed)
    for start, lr in ((DOWNLOADED, 1e-3), (ADAPTED, 5e-5)):
        encoder.requires_grad_(start == ADAPTED)
        begin = time.process_time()
        masked_lm.pretrain(model, tokenizer, unlabelled, profile, lr=lr)
        seconds = time.process_time() - begin if start == ADAPTED else 0.0
        perplexity = masked_lm.perplexity(model, tokenizer, list(test["text"].head(500)))
        given = {"encoder": copy.deepcopy(encoder).requires_grad_(True), "tokenizer": tokenizer}
        tuned = finetune.fit(list(part["text"]), part["positive"], profile, **given)
        p = tuned.predict(list(test["text"]), precision=profile.precision)
        found[start] = Prepared({MANY: p}, perplexity, seconds, {})
    return found


def pretraining(seeds: range) -> pd.DataFrame:
    """What masked language modelling is worth: a small BERT with and without it, and MiniLM with more of it.

    Each seed draws the weights, masks and labelled reviews; a pair shares them all. Perplexities of the two models
    cannot be compared: their vocabularies differ. Seconds are those of pre-training.
    """
    train, test = data.cold_items(data.clothing().interactions, folds=10).train, reviews().test
    small = [found for found, _ in seeded("02_pretraining-small", seeds, small_berts, train, test)]
    further = [found for found, _ in seeded("02_pretraining-minilm", seeds[:SEEDS_OF_MINILM], minilms, train, test)]
    kinds = ((small, RANDOM, PRETRAINED, PASSES), (further, DOWNLOADED, ADAPTED, (MANY,)))
    rows = [
        _pretraining_row(found, start, plain, size, test)
        for found, plain, prepared, sizes in kinds
        for size in sizes
        for start in (plain, prepared)
    ]
    return pd.DataFrame(rows)


def perplexities(seeds: range) -> pd.DataFrame:
    """Perplexity of the small BERT on reviews of other items, by passes over the training reviews.

    Beside it that of a model which knows how frequent each word piece is, and nothing else.
    """
    from reclab import masked_lm, text

    train, test = data.cold_items(data.clothing().interactions, folds=10).train, reviews().test
    curves = [found[PRETRAINED].curve for found, _ in seeded("02_pretraining-small", seeds, small_berts, train, test)]
    tokenizer = masked_lm.train_vocabulary(list(train["text"]))
    read, unseen = (np.concatenate(text.tokenise(part["text"], tokenizer)) for part in (train, test))
    counts = np.bincount(read, minlength=len(tokenizer)) + 0.5
    counts[tokenizer.all_special_ids] = 0
    ordinary = unseen[~np.isin(unseen, tokenizer.all_special_ids)]
    frequencies = np.exp(-np.log(counts[ordinary] / counts.sum()).mean())
    rows = []
    for passes in curves[0]:
        reached = [curve[passes] for curve in curves]
        row = {"passes": passes, "seeds": len(curves), "perplexity": np.mean(reached)}
        rows.append(row | {"least": min(reached), "most": max(reached), "of_frequencies_alone": frequencies})
    return pd.DataFrame(rows)


def _pretraining_row(found: list[dict[str, Prepared]], start: str, plain: str, size: int, test: pd.DataFrame) -> dict:
    predictions, without = ([run[name].p[size] for run in found] for name in (start, plain))
    return {
        "start": start,
        "labels": size,
        "seeds": len(found),
        **_interval("auc", auc_over_seeds(test, predictions)),
        **_interval("auc_minus_without", NONE if start == plain else auc_over_seeds(test, predictions, without)),
        "perplexity": np.mean([run[start].perplexity for run in found]),
        "cpu_seconds": np.median([run[start].cpu_seconds for run in found]),
    }


# --- 14_smaller


def smaller_models(seeds: range) -> pd.DataFrame:
    """What smaller models lose against their teacher, on reviews of items never seen; costs stand in 14_costs.

    A seed draws the teacher's training, and the further reviews that students read without their labels.
    ``share_read`` is the mean share of the layers that a text goes through.
    """
    part = reviews()
    everything = data.cold_items(data.clothing().interactions, folds=10).train
    further = list(everything.drop(part.train.index)["text"])
    given = part.train, further, list(part.test["text"]), precision()
    found = [run for run, _ in seeded("14_smaller", seeds, smaller.learned, *given)]
    return pd.DataFrame([_smaller_row(name, found, part.test) for name in found[0].p])


def _smaller_row(name: str, found: list[smaller.Learned], test: pd.DataFrame) -> dict:
    answers, teachers = ([run.p[which] for run in found] for which in (name, smaller.TEACHER))
    lost = NONE if name == smaller.TEACHER else auc_over_seeds(test, answers, teachers)
    return {
        "system": name,
        "seeds": len(found),
        **_interval("auc", auc_over_seeds(test, answers)),
        **_interval("auc_minus_teacher", lost),
        "share_read": np.mean([run.read.get(name, 1.0) for run in found]),
        "cpu_seconds_to_make": np.median([run.cpu_seconds.get(name, np.nan) for run in found]),
    }


def costs(seeds: range) -> pd.DataFrame:
    """Size, speed, latency and memory of each system of 14_smaller, on one core of its own.

    Latencies are those of single reviews: alone, and with 8 clients that ask again as soon as they are answered. All
    seconds are CPU seconds, which a clock shows where nothing else is at work. ``speed`` is the throughput over the
    teacher's, measured in turns: the median, between the least and the most of the turns.
    """
    del seeds  # nothing is drawn
    learned = results.table("14_smaller").frame.set_index("system")["share_read"]
    names = [smaller.TEACHER, smaller.COMPILED, *learned.index.drop([smaller.TEACHER, smaller.CONTROL])]
    texts, rows = list(reviews().train["text"]), []
    for name in names:
        measured, _ = alone(smaller.cost, name, learned.get(name, 1.0), texts)
        rows.append({"system": name} | measured._asdict())
        print(f"{name}: done", flush=True)
    return pd.DataFrame(rows)


# --- the command

# Name -> the function that makes the table, given the seeds, and how many seeds it takes (0: it draws nothing).
TABLES: dict[str, tuple[Callable[[range], pd.DataFrame], int]] = {
    "02_encoders": (encoders, 0),
    "02_labels": (labels, 5),
    "02_methods": (methods, 3),
    "02_perplexity": (perplexities, 3),
    "02_pretraining": (pretraining, 3),
    "04_shop": (shop_shares, 10),
    "05_cross_encoder": (cross_encoder, 3),
    "12_repairs": (repairs, 3),
    "14_costs": (costs, 0),
    "14_smaller": (smaller_models, 3),
}


def main(argv: list[str] | None = None) -> None:
    """Make, store and print the named tables."""
    parser = argparse.ArgumentParser(description="Make the stored tables of the notebooks.")
    parser.add_argument("names", nargs="+", choices=sorted(TABLES), metavar="NAME", help=", ".join(sorted(TABLES)))
    parser.add_argument("--seeds", type=int, help="how many seeds, for tables that draw (default: each table's own)")
    args = parser.parse_args(argv)
    for name in args.names:
        function, default = TABLES[name]
        seeds = range(default if args.seeds is None else args.seeds)
        command = f"python tests/benchmarks/tables.py {name}"
        if len(seeds) != default:
            command += f" --seeds {len(seeds)}"
        start = time.perf_counter()
        earlier_seconds.clear()
        frame = function(seeds)
        seconds = time.perf_counter() - start + sum(earlier_seconds)
        store(name, frame, command=command, seeds=seeds, seconds=seconds)
        print(f"{results.table(name)!r}\n", flush=True)


if __name__ == "__main__":
    main()
