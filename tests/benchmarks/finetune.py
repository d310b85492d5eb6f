"""Measure fine-tuning and prediction side by side with the published listing's way, in CPU seconds of one thread.

    python tests/benchmarks/finetune.py [--check]

All ways read the same reviews with the same seed, take turns, and count by their median. Prints one JSON object a line;
``bar`` is the least that is asked of a ratio, a share or an AUC, and the most that is allowed of a difference. With
``--check`` the exit status is 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import listing
import numpy as np
import one_fit
import pandas as pd
import quality
import torch
from accelerate.tracking import GeneralTracker
from measures import forward_flops, gemm_peak, operators, report, row

from reclab import data, finetune, get_profile, text
from reclab.profiles import Profile, cpu_has_bf16

REVIEWS, TEST_REVIEWS, EVERY, ROUNDS, PREDICTED_AT_ONCE = 2_000, 2_560, 10, 3, 16
PROFILE = dataclasses.replace(get_profile("laptop", seed=0), mixed_precision="no")
BF16 = dataclasses.replace(PROFILE, mixed_precision="bf16")
LISTING, TRAINER = "the listing's way", "transformers.Trainer, its defaults"
CACHED = "lower layers' output cached, bf16"
BARS = {"ours, float32": 1.6, "ours, bf16": 2.8, CACHED: 7.0}
INFERENCE_RATIO, INFERENCE_APART, PROCESSES_APART = 2.0, 1e-3, 1e-5


# --- training


class Clock(GeneralTracker):
    """A tracker that notes the CPU seconds at the end of each step."""

    name, requires_logging_directory, tracker = "clock", False, None

    def __init__(self):
        super().__init__()
        self.ends: list[float] = []

    def log(self, values: dict, step: int | None = None, **options) -> None:
        self.ends.append(time.process_time())


class Bench:
    """The reviews, a pretrained encoder and a tokenizer, loaded once so that no way is charged for loading."""

    def __init__(self, every: int = EVERY):
        self.tokenizer = text.load_tokenizer(PROFILE.model)
        reviews = data.clothing().interactions.sample(REVIEWS + TEST_REVIEWS, random_state=0)
        chosen = self.typical(reviews[:REVIEWS], PROFILE.batch_size, every)
        self.texts, self.labels = list(chosen["text"]), list(chosen["positive"])
        self.test = list(self.typical(reviews[REVIEWS:], PREDICTED_AT_ONCE, every)["text"])
        self.encoder = text.load_encoder(PROFILE.model, attention_probs_dropout_prob=0.0)
        self.heads = {n_labels: listing.load(n_labels) for n_labels in (1, 2)}
        self.lengths = self.tokens_of(self.texts)
        self.classifier: finetune.Classifier | None = None

    def tokens_of(self, texts: Sequence[str]) -> list[int]:
        """Real tokens of each text."""
        return [len(ids) for ids in text.tokenise(texts, self.tokenizer, PROFILE.max_length)]

    def typical(self, reviews: pd.DataFrame, batch_size: int, every: int) -> pd.DataFrame:
        """Every so many-th batch, from short to long: as much padding as all the reviews have, at less cost."""
        batches = text.length_groups(self.tokens_of(list(reviews["text"])), batch_size)
        return reviews.iloc[np.concatenate(batches[every // 2 :: every])].sample(frac=1, random_state=0)

    def listing(self) -> dict[str, float]:
        module = copy.deepcopy(self.heads[1])
        start = time.process_time()
        listing.train(self.texts, np.float32(self.labels), PROFILE.seed, module, self.tokenizer)
        return {LISTING: time.process_time() - start}

    def trainer(self) -> dict[str, float]:
        """Its defaults but for the batch size, the sequence limit and whatever prints or saves."""
        from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

        module = copy.deepcopy(self.heads[2])
        start = time.process_time()
        tokens = text.tokenise(self.texts, self.tokenizer, PROFILE.max_length)
        rows = [{"input_ids": ids, "labels": int(label)} for ids, label in zip(tokens, self.labels, strict=True)]
        quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "no"}
        with tempfile.TemporaryDirectory(prefix="trainer-") as folder, open(os.devnull, "w") as nowhere:
            arguments = TrainingArguments(
                folder,
                per_device_train_batch_size=PROFILE.batch_size,
                num_train_epochs=PROFILE.epochs,
                use_cpu=True,
                dataloader_pin_memory=False,
                **quiet,
            )
            collator = DataCollatorWithPadding(self.tokenizer)
            with contextlib.redirect_stdout(nowhere):
                Trainer(module, arguments, data_collator=collator, train_dataset=rows).train()
        return {TRAINER: time.process_time() - start}

    def ours(self, name: str, profile: Profile, method: str = "full") -> dict[str, float]:
        """CPU seconds of a whole fit; of cached layers also those of the training steps alone."""
        clock, encoder = Clock(), copy.deepcopy(self.encoder)
        start = time.process_time()
        loaded = {"encoder": encoder, "tokenizer": self.tokenizer}
        classifier = finetune.fit(self.texts, self.labels, profile, method=method, trackers=[clock], **loaded)
        seconds = {name: time.process_time() - start}
        if method == "full" and profile is PROFILE:
            self.classifier = classifier
        if method == "frozen":
            steps = len(clock.ends)
            seconds = {f"{name}, caching included": seconds[name]}
            seconds[name] = (clock.ends[-1] - clock.ends[0]) * steps / (steps - 1)
        return seconds

    def ways(self) -> list[Callable[[], dict[str, float]]]:
        """Every way to train, each of which returns the CPU seconds of one epoch."""
        ways = [self.listing, self.trainer, lambda: self.ours("ours, float32", PROFILE)]
        if cpu_has_bf16():
            ways += [
                lambda: self.ours("ours, bf16", BF16),
                lambda: self.ours("LoRA, bf16", BF16, "lora"),
                lambda: self.ours(CACHED, BF16, "frozen"),
            ]
        return ways


def take_turns(ways: Sequence[Callable[[], dict[str, float]]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median CPU seconds of each way, all measured in turn."""
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for way in ways:
            for name, value in way().items():
                seconds.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure_training(bench: Bench) -> Iterator[dict]:
    """Real tokens a CPU second of every way, its ratio to the listing's, and its share of what the CPU can multiply."""
    seconds, tokens = take_turns(bench.ways()), sum(bench.lengths)
    for name, value in seconds.items():
        yield row(f"training: {name}", tokens / value, "real tokens / CPU s")
    yield from ratio_rows(seconds)
    yield from peak_rows(bench, seconds)


def ratio_rows(seconds: dict[str, float]) -> Iterator[dict]:
    """How many times as fast as the listing's way, and as Trainer, each way is; skipped where it was not measured."""
    for name in dict.fromkeys([*seconds, *BARS]):
        if name not in seconds:
            yield row(f"training: {name} / {LISTING} (skipped: no bf16 instructions)", None, "times", least=BARS[name])
        elif name != LISTING:
            yield row(f"training: {name} / {LISTING}", seconds[LISTING] / seconds[name], "times", least=BARS.get(name))
    for name in [name for name in seconds if name.startswith("ours")]:
        yield row(f"training: {name} / {TRAINER}", seconds[TRAINER] / seconds[name], "times")


# --- how much of the CPU is used


def peak_rows(bench: Bench, seconds: dict[str, float]) -> Iterator[dict]:
    """Share of the measured peak that training reaches; backward takes twice the products of forward."""
    config = bench.encoder.config
    padded = [
        -(-max(bench.lengths[i] for i in rows) // text.ROUND_TO) * text.ROUND_TO
        for rows in text.length_groups(bench.lengths, PROFILE.batch_size, seed=PROFILE.seed)
        for _ in rows
    ]
    everything = {LISTING: [PROFILE.max_length] * len(bench.lengths), "ours, float32": padded, "ours, bf16": padded}
    peaks = {kind: gemm_peak(config, kind) for kind in (torch.float32, *[torch.bfloat16] * cpu_has_bf16())}
    for kind, peak in peaks.items():
        yield row(f"peak of matrix products, {str(kind).removeprefix('torch.')}", peak / 1e9, "GFLOP / CPU s")
    for name, lengths in everything.items():
        if name in seconds:
            peak = peaks[torch.bfloat16 if "bf16" in name else torch.float32]
            for what, counted in (("padding counted", lengths), ("real tokens", bench.lengths)):
                share = 3 * forward_flops(config, counted) / seconds[name] / peak
                yield row(f"share of that peak in training, {what}: {name}", share, "share")


# --- prediction


def measure_prediction(bench: Bench) -> Iterator[dict]:
    """Reviews a CPU second with equal weights, and how far the probabilities lie apart."""
    found: dict[str, np.ndarray] = {}

    def timed(name: str, predict: Callable[[], np.ndarray]) -> dict[str, float]:
        start = time.process_time()
        found[name] = predict()
        return {name: time.process_time() - start}

    model, texts = bench.classifier, bench.test
    ways = {
        LISTING: lambda: listing.probabilities(model.module, texts, bench.tokenizer),
        "ours, float32": lambda: model.predict(texts),
    }
    if cpu_has_bf16():
        ways["ours, bf16"] = lambda: model.predict(texts, precision="bf16")
    seconds = take_turns([lambda name=name, way=way: timed(name, way) for name, way in ways.items()])
    for name, value in seconds.items():
        yield row(f"prediction: {name}", len(texts) / value, "reviews / CPU s")
    for name in [name for name in seconds if name != LISTING]:
        bars = {"least": INFERENCE_RATIO} if name == "ours, float32" else {}
        ratio = row(f"prediction: {name} / {LISTING}", seconds[LISTING] / seconds[name], "times", **bars)
        yield ratio
        bars = {"most": INFERENCE_APART} if bars else {}
        apart = float(np.abs(found[name] - found[LISTING]).max())
        # Few steps leave the probabilities flat: bf16 lies further off with the weights of a whole run.
        about = f"largest difference of probabilities, weights after {len(model.history)} steps"
        yield row(f"prediction: {name}, {about}", apart, "probability", **bars)
        if not ratio["ok"]:
            print(operators(ways[name]), file=sys.stderr)
    yield prediction_ceiling(bench, seconds[LISTING])


def prediction_ceiling(bench: Bench, seconds: float) -> dict:
    """How fast float32 could be at most: no padding at all, and nothing but matrix products at their peak."""
    config = bench.encoder.config
    best = forward_flops(config, bench.tokens_of(bench.test)) / gemm_peak(config, torch.float32)
    return row(f"prediction: float32 at the peak of matrix products, no padding / {LISTING}", seconds / best, "times")


# --- killed and started again, and two processes


def measure_robustness() -> Iterator[dict]:
    """Weights of a run killed in the middle, and of two processes, against one process that was left in peace."""
    with tempfile.TemporaryDirectory(prefix="fits-") as scratch:
        whole, killed, parts, two = (Path(scratch, name) for name in ("whole", "killed", "parts", "two"))
        expected = one_fit.finish(whole)
        was_killed = one_fit.kill(killed)
        alike = was_killed and one_fit.largest_difference(expected, one_fit.finish(killed)) == 0
        name = "killed (SIGKILL) in the middle and started again: bit-identical weights"
        yield row(name, int(alike), "1 yes, 0 no", least=1)
        expected = one_fit.finish(parts, parts=2)
        apart = one_fit.largest_difference(expected, one_fit.finish(two, parts=2, processes=2))
        yield row("torchrun: processes that worked together", int((two / "world").read_text()), "processes", least=2)
        name = "two processes against one with two micro-batches: largest difference of weights"
        yield row(name, apart, "weight", most=PROCESSES_APART)


# --- the command


def measure() -> Iterator[dict]:
    """Everything, training last."""
    yield from quality.measure()
    yield from measure_robustness()
    bench = Bench()
    bench.ours("ours, float32", PROFILE)
    yield from measure_prediction(bench)  # before many fits have left gaps in this process's memory
    yield from measure_training(bench)


def main(argv: list[str]) -> int:
    """Print the measurements; with ``--check``, return 1 where one misses its bar."""
    parser = argparse.ArgumentParser(description="Measure fine-tuning against the published listing's way.")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    check = parser.parse_args(argv).check
    torch.set_num_threads(1)
    return report(measure(), check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
