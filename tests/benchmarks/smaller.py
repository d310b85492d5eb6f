"""The tables 14_smaller and 14_costs: what smaller models lose against their teacher, and what each of them costs."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import measures
import numpy as np
import pandas as pd
import torch
from scipy.special import expit, logit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from torch import nn

from reclab import distil, efficient, finetune, get_profile, scale, text

MEASURED, TURNS = 96, 5  # reviews that are read at once, and one by one; turns with the teacher
COMPILED = "6 layers, torch.compile"
TEACHER, INT8, BF16 = "6 layers, the teacher", "6 layers, int8", "6 layers, bf16"
WORDS, BOTH = "counted words, distilled", "2 layers and counted words, distilled"
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
    words = timed(WORDS, lambda: counted_words(transfer, answers))
    p[WORDS] = expit(words.predict(test))
    p[BOTH] = expit((logit(p[student_name(2)]) + logit(p[WORDS])) / 2)
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
        warnings.simplefilter("ignore")  # deprecated, but its successor, torchao, is one more package
        small.module = quantize_dynamic(model.module.eval(), {nn.Linear}, torch.qint8)
    return small


def counted_words(texts: list[str], answers: np.ndarray) -> Pipeline:
    """A linear model of counted words that learns the logits of a teacher's answers; it predicts logits."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    return make_pipeline(words, Ridge(alpha=0.2)).fit(texts, np.clip(logit(answers), -6, 6))


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


# --- 14_costs


class Cost(NamedTuple):
    """What a system costs on one core, measured in CPU seconds of a process of its own."""

    parameters: float
    disk_mb: float
    reviews_per_cpu_second: float
    speed: float  # throughput over the teacher's, in turns: the median, the least and the most
    speed_low: float
    speed_high: float
    alone_p50_ms: float
    alone_p95_ms: float
    of_8_p50_ms: float
    of_8_p95_ms: float
    compile_seconds: float
    peak_mib: float


class EarlyExit:
    """A classifier that answers after its lower layers where a head on them is sure enough."""

    def __init__(self, model: finetune.Classifier, head: nn.Linear, sure: float):
        self.model, self.head, self.sure = model, head, sure
        self.lower, upper = efficient.split(model.module.encoder.eval(), EXIT)
        self.rest = copy.copy(model.module)
        self.rest._modules = {"encoder": upper, "head": model.module.head}

    @torch.inference_mode()
    def predict(self, texts: list[str]) -> np.ndarray:
        tokens = text.tokenise(texts, self.model.tokenizer, self.model.max_length)
        p = np.zeros(len(tokens))
        for rows, batch in text.padded_batches(tokens, self.model.tokenizer.pad_token_id, 8, round_to=1):
            p[rows] = self.answer(**batch).numpy()
        return p

    def answer(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Probabilities of one batch."""
        hidden = self.lower(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        answers = self.head(text.mean_pool(hidden, attention_mask)).softmax(-1)[:, 1]
        unsure = torch.maximum(answers, 1 - answers) < self.sure
        if unsure.any():
            rest = self.rest(inputs_embeds=hidden[unsure], attention_mask=attention_mask[unsure])
            answers[unsure] = rest.softmax(-1)[:, 1]
        return answers


def untrained(layers: Sequence[int] = range(6)) -> finetune.Classifier:
    """A model of the right shape; its costs do not hang on what it has learned."""
    name = get_profile("laptop").model
    encoder = text.load_encoder(name, attention_probs_dropout_prob=0.0)
    module = finetune.TextClassifier(distil.keep_layers(encoder, layers))
    return finetune.Classifier(module.eval(), text.load_tokenizer(name), 128)


def exits(share_read: float, texts: list[str]) -> EarlyExit:
    """An untrained early exit that is just sure enough to read this share of the layers."""
    model = untrained()
    system = EarlyExit(model, nn.Linear(model.module.encoder.config.hidden_size, 2), 0.0)
    p = system.predict(texts)  # all leave
    leaving = (1 - share_read) / (1 - EXIT / model.module.encoder.config.num_hidden_layers)
    system.sure = float(np.quantile(np.maximum(p, 1 - p), 1 - leaving))
    return system


def system(name: str, share_read: float, texts: list[str]) -> tuple[Callable, int, float]:
    """What answers texts, its parameters and its MB on the disk."""
    if name == WORDS:
        words = counted_words(texts, np.random.default_rng(0).uniform(0.1, 0.9, len(texts)))
        return words.predict, len(words[-1].coef_), len(pickle.dumps(words)) / 1e6
    if name == BOTH:
        parts = [system(which, 1.0, texts) for which in (student_name(2), WORDS)]
        return lambda given: [part[0](given) for part in parts], *(sum(part[i] for part in parts) for i in (1, 2))
    layers = next((kept for n, kept in STUDENTS.items() if name.startswith(f"{n} layer")), range(6))
    model = untrained(layers)
    count = sum(p.numel() for p in model.module.parameters())
    if "int8" in name:
        model = quantised(model)
    file = io.BytesIO()
    torch.save(model.module.state_dict(), file)
    if name == COMPILED:
        model.module.encoder = torch.compile(model.module.encoder, dynamic=True)
    answer = exits(share_read, texts[:320]).predict if "exit" in name else model.predict
    if name == BF16:
        answer = functools.partial(model.predict, precision="bf16")
    return answer, count, len(file.getvalue()) / 1e6


def cost(name: str, share_read: float, texts: list[str]) -> Cost:
    """Measure one system on texts; called in a fresh process, with one thread."""
    torch.set_num_threads(1)
    answer, parameters, megabytes = system(name, share_read, texts)
    batch, start = texts[:MEASURED], time.process_time()
    answer(batch)
    first = time.process_time() - start
    single = functools.partial(scale.latencies, lambda request: answer([request]), clock=time.process_time)
    single(batch[:20])
    alone, of_8 = single(batch), single(batch, 8)
    quantiles = [1e3 * np.quantile(found, q) for found in (alone, of_8) for q in (0.5, 0.95)]
    peak = measures.peak_mib()  # before the teacher comes
    teacher = untrained()
    teacher.predict(batch)
    ways = functools.partial(answer, batch), functools.partial(teacher.predict, batch)
    seconds, teachers = measures.take_turns(*ways, rounds=TURNS).T
    ratios = teachers / seconds
    spread = np.median(ratios), ratios.min(), ratios.max()
    waited = first - np.median(seconds) if name == COMPILED else np.nan
    return Cost(parameters, megabytes, len(batch) / np.median(seconds), *spread, *quantiles, waited, peak)
