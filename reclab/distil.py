"""A small model that learns from a large one: fewer layers, taught by the large one's answers."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from . import efficient, text, training
from .finetune import Classifier, TextClassifier, make_optimizer, predict_tokens
from .profiles import Profile

LR, _TEMPERATURE, _SUREST = 3e-4, 2.0, 1e-6


def keep_layers(encoder: nn.Module, layers: Sequence[int]) -> nn.Module:
    """A copy of a BERT with some of its layers only, by their numbers from 0, in the given order.

    Source: Sanh et al., DistilBERT (2019), arXiv 1910.01108, section 3.
    """
    n = len(encoder.encoder.layer)
    if not len(layers) or not set(layers) <= set(range(n)):
        raise ValueError(f"layers must name some of 0 to {n - 1}, got {list(layers)}")
    small = copy.deepcopy(encoder)
    small.encoder.layer = nn.ModuleList([small.encoder.layer[i] for i in layers])
    small.config.num_hidden_layers = len(layers)
    return small


def distillation_loss(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float = _TEMPERATURE
) -> torch.Tensor:
    """Cross-entropy between the softened answers of two models, logits (n, 2), times the square of
    the temperature, above 1 so that sure answers still differ; a scalar.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network (2015), arXiv 1503.02531,
    section 2.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    target = (teacher / temperature).softmax(-1)
    return nn.functional.cross_entropy(student / temperature, target) * temperature**2


def distil(
    teacher: Classifier,
    texts: Sequence[str],
    profile: Profile,
    *,
    layers: Sequence[int] = (0, 5),
    answers: np.ndarray | None = None,
    lr: float = LR,
) -> Classifier:
    """Train a copy of some of the teacher's layers to answer as the teacher does; the texts need no
    labels.

    Parameters
    ----------
    texts : n texts of the task; the teacher reads each of them once.
    profile : sizes of the training, and its seed; the teacher answers in its precision.
    layers : of the teacher, which the student starts from.
    answers : the teacher's probabilities of the texts (n,), for several students of one teacher;
        None: it reads them.
    lr : learning rate of the layers.

    Source: Hinton et al. (2015), arXiv 1503.02531; Sanh et al. (2019), arXiv 1910.01108.
    """
    if not len(texts):
        raise ValueError("texts is empty; give texts of the task, with or without labels")
    tokens = text.tokenise(texts, teacher.tokenizer, teacher.max_length)
    pad_id = teacher.tokenizer.pad_token_id
    if answers is None:
        answers = predict_tokens(teacher.module, tokens, pad_id, precision=profile.precision)
    if np.shape(answers) != (len(texts),):
        raise ValueError(
            f"answers must be {len(texts)} probabilities, one for each text, got "
            f"{np.shape(answers)}"
        )
    answers = np.clip(answers, _SUREST, 1 - _SUREST)  # a certainty has no logit
    targets = torch.as_tensor(np.log([1 - answers, answers]).T, dtype=torch.float32)
    torch.manual_seed(profile.seed)
    module = TextClassifier(keep_layers(teacher.module.encoder, layers))
    module.head = copy.deepcopy(teacher.module.head)
    efficient.freeze_embeddings(module.encoder)
    batches = text.epochs_of_batches(
        [len(ids) for ids in tokens], profile.batch_size, profile.epochs, profile.seed
    )

    def loss(network, rows):
        device = next(network.parameters()).device
        batch = training.to_device(text.pad([tokens[row] for row in rows], pad_id), device)
        return distillation_loss(network(**batch), targets[rows].to(device))

    history = training.train(module, batches, loss, make_optimizer(module, lr), profile)
    student = Classifier(module, teacher.tokenizer, teacher.max_length, "full", teacher.base_rate)
    student.history = history
    return student
