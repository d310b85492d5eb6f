"""A BERT fine-tuned to classify texts, on any device: all of its weights or a small part of them.

Source: Devlin et al., BERT (2019), arXiv 1810.04805.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from . import efficient, speed, text, training
from .classifier import Classifier, TextClassifier, load, predict_tokens
from .errors import UnknownNameError
from .metrics import valid_labels
from .profiles import Profile

__all__ = ["Classifier", "TextClassifier", "fit", "load", "make_optimizer"]

_HEAD_LR, _WEIGHT_DECAY = 1e-3, 0.01
LOOKS = 3  # how often a fit looks at its validation texts


def fit(
    texts: Sequence[str],
    labels: Sequence[bool],
    profile: Profile,
    *,
    method: str = "full",
    encoder: nn.Module | None = None,
    tokenizer=None,
    lr: float | None = None,
    validation: tuple[Sequence[str], Sequence[bool]] | None = None,
    **training_options,
) -> Classifier:
    """Fine-tune the profile's encoder to tell positive from negative texts.

    Length-grouped batches, the embedding table frozen, AdamW with a larger learning rate for the new head, linear
    warm-up and decay, gradients clipped; everything drawn at random follows ``profile.seed``.

    Parameters
    ----------
    texts, labels : n texts and their n labels, both classes present.
    method : ``full``, or a cheaper one of `reclab.efficient.METHODS`.
    encoder, tokenizer : take the place of the profile's model; give both or neither.
    lr : learning rate of what is trained in the encoder; None: the method's own.
    validation : texts and labels that the fit looks at three times on its way; their ``validation_loss`` and
        ``validation_auc`` join the history. They must not be the test texts.
    training_options : ``checkpoint``, ``save_every``, ``stop_after`` and ``trackers`` of `reclab.training.train`.

    Raises ValueError: lengths differ, a text or label is missing, or there is only one class.
    Raises UnknownNameError: no such method.
    Raises ReclabError: the checkpoint is damaged or of another run.

    Source: Devlin et al. (2019), arXiv 1810.04805.
    """
    if method not in efficient.METHODS:
        raise UnknownNameError("method", method, efficient.METHODS)
    targets = torch.as_tensor(valid_labels(labels, len(texts)))
    tokenizer = tokenizer or text.load_tokenizer(profile.model)
    tokens = text.tokenise(texts, tokenizer, profile.max_length)
    lengths = [len(ids) for ids in tokens]
    batches = text.epochs_of_batches(lengths, profile.batch_size, profile.epochs, profile.seed)
    torch.manual_seed(profile.seed)
    module = TextClassifier(encoder or profile.model)
    whole = module.encoder
    module.encoder = efficient.METHODS[method].prepare(whole, len(batches))
    lr = lr or efficient.METHODS[method].lr
    optimizer = make_optimizer(module, lr)
    trained, collate = _inputs(module, tokens, tokenizer.pad_token_id, profile, method)

    def loss(network, rows):
        device = next(network.parameters()).device
        logits = network(**training.to_device(collate(rows), device))
        mean = nn.functional.cross_entropy(logits, targets[rows].to(device))
        return mean + efficient.orthogonality(module.encoder) if method == "adalora" else mean

    def after_step(step):
        if method == "adalora":
            module.encoder.base_model.update_and_allocate(step)
        return look(step) if look else None

    look = validation and _validator(module, tokenizer, profile, len(batches), *validation)
    run = _fingerprint(profile, (method, lr), batches, tokens, targets, whole)
    with speed.quick(whole, profile.device):
        history = training.train(
            trained, batches, loss, optimizer, profile, run=run, after_step=after_step, **training_options
        )
    module.encoder = efficient.merged(module.encoder)
    kept = "adapter" if method == "adapter" else "full"  # every other method ends in a plain BERT
    classifier = Classifier(module, tokenizer, profile.max_length, kept, float(targets.float().mean()))
    classifier.history = history
    return classifier


def make_optimizer(module: TextClassifier, lr: float = efficient.METHODS["full"].lr) -> torch.optim.Optimizer:
    """AdamW over what is trained in the encoder, and over the head at its own learning rate.

    Source: Loshchilov and Hutter, Decoupled Weight Decay (2019), arXiv 1711.05101.
    """
    body = [p for p in module.encoder.parameters() if p.requires_grad]
    groups = [{"params": body, "lr": lr}, {"params": list(module.head.parameters()), "lr": _HEAD_LR}]
    return torch.optim.AdamW(groups, weight_decay=_WEIGHT_DECAY, fused=True)


def _inputs(module: TextClassifier, tokens, pad_id: int, profile: Profile, method: str):
    """What is trained, and the function that makes its batch of some rows."""
    if method != "frozen":
        return module, lambda rows: text.pad([tokens[row] for row in rows], pad_id)
    lower, upper = efficient.split(module.encoder)
    outputs = efficient.lower_output(lower, tokens, pad_id, profile)
    trained = copy.copy(module)
    trained._modules = {"encoder": upper, "head": module.head}
    return trained, lambda rows: efficient.pad_output([outputs[row] for row in rows])


def _validator(module: TextClassifier, tokenizer, profile: Profile, steps: int, texts, labels):
    """Function of the step that looks at validation texts now and then."""
    from sklearn.metrics import log_loss, roc_auc_score

    labels = valid_labels(labels, len(texts))
    tokens = text.tokenise(texts, tokenizer, profile.max_length)
    when = set(np.linspace(0, steps, LOOKS + 1).round().astype(int)[1:].tolist())

    def look(step: int) -> dict[str, float] | None:
        if step not in when:
            return None
        p = predict_tokens(module, tokens, tokenizer.pad_token_id, precision=profile.precision)
        return {"validation_loss": float(log_loss(labels, p)), "validation_auc": float(roc_auc_score(labels, p))}

    return look


def _fingerprint(profile: Profile, method: tuple[str, float], batches, tokens, targets, encoder: nn.Module) -> str:
    """What makes two runs the same one: settings, order, texts, labels, and the weights that they start from."""
    about = profile.model, profile.precision, profile.seed, profile.micro_batches, method, tokens, targets.tolist()
    digest = hashlib.sha256(repr((about, [rows.tolist() for rows in batches])).encode())
    for weights in encoder.parameters():
        digest.update(weights.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
