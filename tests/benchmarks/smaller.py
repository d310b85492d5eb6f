"""The tables 11_smaller and 11_costs: what smaller models lose against their teacher, and what each of them costs."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from reclab import distil, efficient, finetune, get_profile, text

TEACHER, INT8, BF16 = "6 layers, the teacher", "6 layers, int8", "6 layers, bf16"
CONTROL = "2 layers, from the labels alone"
STUDENTS = {3: (0, 2, 5), 2: (0, 5), 1: (0,)}  # layers of the teacher that a student starts from
TRANSFER, PASSES = 8_000, 1  # reviews that a student reads with the teacher's answers, the labelled ones among them
EXIT, SURE = 2, (0.9, 0.97)  # an early exit after so many layers, for answers at least so sure


class Learned(NamedTuple):
    """What a seed found out: probabilities of the test reviews by system, and shares of what had to be read."""

    p: dict[str, np.ndarray]
    read: dict[str, float]  # share of the layers that is read, where not every text reads them all
    cpu_seconds: dict[str, float]  # of making the model, without its teacher


def student_name(layers: int) -> str:
    return f"{layers} layer{'s' * (layers > 1)}, distilled"


def exit_name(sure: float) -> str:
    return f"6 layers, exit after {EXIT} if {sure:.0%} sure"


def learned(seed: int, train: pd.DataFrame, unlabelled: list[str], test: list[str], precision: str) -> Learned:
    """A teacher, and all that can be made of it; training computes in ``precision``, the answers in float32."""
    profile = replace(get_profile("laptop", seed=seed), mixed_precision=precision)
    texts = list(train["text"])
    p, read, seconds = {}, {}, {}

    def timed(name: str, make: Callable):
        start = time.process_time()
        model = make()
        seconds[name] = time.process_time() - start
        return model

    teacher = timed(TEACHER, lambda: finetune.fit(texts, train["positive"], profile))
    p[TEACHER], p[BF16] = teacher.predict(test), teacher.predict(test, precision="bf16")
    for sure, (answers, share) in early_exits(teacher, texts, train["positive"], test, p[TEACHER]).items():
        p[exit_name(sure)], read[exit_name(sure)] = answers, share
    rng = np.random.default_rng(seed)
    transfer = texts + list(rng.choice(unlabelled, TRANSFER - len(texts), replace=False))
    answers = timed("answers", lambda: teacher.predict(transfer, precision=precision))
    for n, layers in STUDENTS.items():
        kind = {"layers": layers, "profile": replace(profile, epochs=PASSES), "answers": answers}
        student = timed(student_name(n), lambda kind=kind: distil.distil(teacher, transfer, **kind))
        p[student_name(n)] = student.predict(test)
        p[f"{student_name(n)}, int8"] = quantised(student).predict(test)
    p[INT8] = quantised(teacher).predict(test)
    kept = text.load_encoder(profile.model, attention_probs_dropout_prob=0.0)
    same = {"encoder": distil.keep_layers(kept, STUDENTS[2]), "tokenizer": teacher.tokenizer}
    alone = replace(profile, epochs=2)
    control = timed(CONTROL, lambda: finetune.fit(texts, train["positive"], alone, lr=distil.LR, **same))
    p[CONTROL] = control.predict(test)
    return Learned(p, read, seconds)


def quantised(model: finetune.Classifier) -> finetune.Classifier:
    """The same classifier with the weights of its linear layers as 8-bit integers."""
    from torch.ao.quantization import quantize_dynamic

    small = copy.copy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its successor, torchao, is one more package
        small.module = quantize_dynamic(model.module.eval(), {nn.Linear}, torch.qint8)
    return small


def early_exits(
    teacher, texts: list[str], labels, test: list[str], late: np.ndarray
) -> dict[float, tuple[np.ndarray, float]]:
    """By how sure an answer has to be to leave early: probabilities, and the share of the layers that was read."""
    lower, _ = efficient.split(teacher.module.encoder, EXIT)
    head = LogisticRegression(max_iter=1000).fit(pooled(lower, texts, teacher), labels)
    early = head.predict_proba(pooled(lower, test, teacher))[:, 1]
    found, layers = {}, teacher.module.encoder.config.num_hidden_layers
    for sure in SURE:
        leaves = np.maximum(early, 1 - early) >= sure
        found[sure] = np.where(leaves, early, late), 1 - leaves.mean() * (1 - EXIT / layers)
    return found


def pooled(lower: nn.Module, texts: list[str], teacher) -> np.ndarray:
    """Mean vectors of texts after the lower layers: (n, width)."""
    tokens = text.tokenise(texts, teacher.tokenizer, teacher.max_length)
    vectors = np.zeros((len(tokens), lower.config.hidden_size), np.float32)
    with torch.inference_mode():
        for rows, batch in text.padded_batches(tokens, teacher.tokenizer.pad_token_id):
            vectors[rows] = text.mean_pool(lower(**batch).last_hidden_state, batch["attention_mask"]).numpy()
    return vectors
