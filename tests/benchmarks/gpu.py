"""Measure fine-tuning on a GPU: the published listing's way beside the gpu profile's, by the clock.

    RECLAB_MODEL=minilm-l6 python tests/benchmarks/gpu.py [--seeds N]

Prints one JSON object a line. Speed is measured on the named encoder and on a BERT of bert-base-cased's size with
random weights, which take as long as trained ones; quality on the named encoder only. Exits 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import listing
import numpy as np
import torch
from measures import row
from scipy import stats
from torch import nn

from reclab import data, finetune, get_profile, metrics, text

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
ROUNDS, STEPS, LARGE, TEST = 3, 40, 256, 1_500
LISTING = "the listing's way"


class OnDevice(nn.Module):
    """A model whose inputs follow it: the listing leaves its batches on the CPU."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, **batch):
        device = next(self.parameters()).device
        return self.module(**{name: values.to(device) for name, values in batch.items()})


def encoders(name: str) -> dict[str, tuple[nn.Module, nn.Module]]:
    """For each size, an encoder for our way, and the listing's model of the same size."""
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    tokenizer = text.load_tokenizer(name)
    config = BertConfig(vocab_size=len(tokenizer), attention_probs_dropout_prob=0.0, num_labels=1, **BASE)
    return {
        name: (text.load_encoder(name, attention_probs_dropout_prob=0.0), listing.load(1)),
        "BERT-base, random weights": (BertModel(config), BertForSequenceClassification(config)),
    }


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and the most GPU memory that was taken, in MiB."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() / 2**20


def speed(name: str) -> Iterator[dict]:
    """Real tokens a second in training: each way reads the same reviews, warmed up, in turns."""
    profile = replace(get_profile("gpu", seed=0), epochs=1)
    tokenizer = text.load_tokenizer(name)
    reviews = data.clothing().interactions.sample(STEPS * profile.batch_size, random_state=0)
    texts, labels = list(reviews["text"]), list(reviews["positive"])
    tokens = sum(map(len, text.tokenise(texts, tokenizer, profile.max_length)))
    for size, (encoder, whole) in encoders(name).items():
        whole = OnDevice(whole.to("cuda"))

        def ours(encoder=encoder, **changes) -> None:
            finetune.fit(
                texts, labels, replace(profile, **changes), encoder=copy.deepcopy(encoder), tokenizer=tokenizer
            )

        ways = {
            LISTING: lambda whole=whole: listing.train(texts, np.float32(labels), 0, whole, tokenizer),
            "ours, float32": lambda ours=ours: ours(mixed_precision="no"),
            f"ours, {profile.precision}": ours,
            f"ours, {profile.precision}, batches in two parts": lambda ours=ours: ours(micro_batches=2),
            f"ours, {profile.precision}, batches of {LARGE}": lambda ours=ours: ours(batch_size=LARGE),
        }
        found: dict[str, list] = {way: [] for way in ways}
        for turn in range(ROUNDS + 1):
            for way, work in ways.items():
                measured = timed(work)
                if turn:  # the first one warms up
                    found[way].append(measured)
        seconds = {way: statistics.median(time for time, _ in runs) for way, runs in found.items()}
        for way, runs in found.items():
            yield row(f"{size}, training: {way}", tokens / seconds[way], "real tokens / s")
            yield row(
                f"{size}, training: {way}, memory at its peak", max(memory for _, memory in runs), "MiB of the GPU"
            )
            if way != LISTING:
                yield row(f"{size}, training: {way} / {LISTING}", seconds[LISTING] / seconds[way], "times")


def quality(n_seeds: int) -> Iterator[dict]:
    """AUC on reviews of other items by the number of labelled reviews, and the seconds of a fit."""
    split = data.cold_items(data.clothing().interactions, folds=10)
    test = split.test.sample(TEST, random_state=0)
    for n in (2_000, 4_000, len(split.train)):
        aucs, seconds = [], []
        for seed in range(n_seeds):
            train = split.train.sample(n, random_state=seed)
            profile = get_profile("gpu", seed=seed)
            start = time.perf_counter()
            model = finetune.fit(list(train["text"]), train["positive"], profile)
            seconds.append(time.perf_counter() - start)
            p = model.predict(list(test["text"]), 256, precision=profile.precision)
            aucs.append(metrics.auc(test["positive"], p))
        half = stats.t.ppf(0.975, n_seeds - 1) * statistics.stdev(aucs) / n_seeds**0.5
        what = f"{profile.model}, {n:,} reviews, {profile.epochs} epochs"
        yield row(f"{what}: AUC, mean over {n_seeds} seeds", statistics.mean(aucs), "AUC")
        yield row(f"{what}: half of its 95% interval over seeds", half, "AUC")
        yield row(f"{what}: one fit", statistics.median(seconds), "s")


def main() -> int:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description="Measure fine-tuning on a GPU.")
    parser.add_argument("--seeds", type=int, default=5, help="seeds behind each AUC, 0 for none (default: 5)")
    seeds = parser.parse_args().seeds
    if not torch.cuda.is_available():
        print("there is no GPU here that PyTorch can use", file=sys.stderr)
        return 2
    print(json.dumps({"device": torch.cuda.get_device_name(), "torch": torch.__version__}))
    for part in (speed(get_profile("gpu").model), quality(seeds) if seeds else ()):
        for line in part:
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
