"""A BERT fine-tuned to classify texts, on any device: all of its weights or a small part of them.

Source: Devlin et al., BERT (2019), arXiv 1810.04805.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from . import efficient, text, training
from .errors import ReclabError, UnknownNameError
from .metrics import valid_labels
from .profiles import Profile
from .results import write_atomically

_HEAD_LR, _WEIGHT_DECAY = 1e-3, 0.01
_MANY = 500  # predictions after which memory is given back
LOOKS = 3  # how often a fit looks at its validation texts


class TextClassifier(nn.Module):
    """An encoder, the mean over its tokens, and one linear layer: token ids in, two logits a text
    out.

    Parameters
    ----------
    encoder : name of a model in `reclab.assets`, or an encoder of transformers.
    """

    def __init__(self, encoder: str | nn.Module):
        super().__init__()
        # Attention dropout of zero keeps the CPU's fast attention kernel; hidden dropout still
        # regularises.
        named = isinstance(encoder, str)
        self.encoder = (
            text.load_encoder(encoder, attention_probs_dropout_prob=0.0) if named else encoder
        )
        self.encoder.pooler = None  # a layer over the first token only, which the mean does without
        self.head = nn.Linear(self.encoder.config.hidden_size, 2)

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None) -> torch.Tensor:
        inputs = (
            {"input_ids": input_ids} if inputs_embeds is None else {"inputs_embeds": inputs_embeds}
        )
        hidden = self.encoder(attention_mask=attention_mask, **inputs).last_hidden_state
        return self.head(text.mean_pool(hidden, attention_mask))


class Classifier:
    """A fine-tuned classifier: ``predict``, ``save``, and ``history``, one row a training step."""

    def __init__(
        self,
        module: TextClassifier,
        tokenizer,
        max_length: int,
        method: str = "full",
        base_rate: float = 0.5,
    ):
        self.module, self.tokenizer, self.max_length = module, tokenizer, max_length
        self.method, self.base_rate, self.history = method, base_rate, pd.DataFrame()

    def predict(
        self, texts: Sequence[str], batch_size: int = 8, *, precision: str = "no"
    ) -> np.ndarray:
        """Probability of the positive class for each text: (n,) float64.

        A text without any word says nothing: it gets ``base_rate``, the share of positives among
        the training texts. A text beyond ``max_length`` tokens is cut there.

        Parameters
        ----------
        precision : ``no`` (float32) or ``bf16``, which is faster where the CPU or GPU has it and
            moves the third digit.
        """
        tokens = text.tokenise(texts, self.tokenizer, self.max_length)
        probabilities = predict_tokens(
            self.module, tokens, self.tokenizer.pad_token_id, batch_size, precision
        )
        special = self.tokenizer.num_special_tokens_to_add()
        probabilities[[len(ids) <= special for ids in tokens]] = self.base_rate
        return probabilities

    def save(self, folder: str | Path) -> None:
        """Write all that `load` needs: weights (safetensors), configuration and tokenizer."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "classifier.json").unlink(
            missing_ok=True
        )  # without it the folder counts as unfinished
        self.module.encoder.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        temporary = folder / "model.safetensors.part"
        save_file(self.module.state_dict(), temporary)
        temporary.replace(folder / "model.safetensors")
        settings = {
            "max_length": self.max_length,
            "method": self.method,
            "base_rate": self.base_rate,
        }
        write_atomically(folder / "classifier.json", json.dumps(settings))


def load(folder: str | Path) -> Classifier:
    """Read a classifier that `Classifier.save` wrote.

    Raises ReclabError: the folder does not hold one, or holds only a part of one.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    folder = Path(folder)
    try:
        settings = json.loads((folder / "classifier.json").read_text())
        weights = load_file(folder / "model.safetensors")
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        module = TextClassifier(AutoModel.from_config(config))
        if settings["method"] == "adapter":
            module.encoder = efficient.add_adapters(module.encoder)
        module.load_state_dict(weights)
        classifier = Classifier(module, tokenizer, **settings)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError):
        raise ReclabError(
            f"{folder} holds no whole classifier; give a folder that Classifier.save wrote"
        ) from None
    return classifier


def predict_tokens(
    module: TextClassifier,
    tokens: list[list[int]],
    pad_id: int,
    batch_size: int = 8,
    precision: str = "no",
) -> np.ndarray:
    """Probability of the positive class for tokenised texts: (n,) float64; the module is left in
    evaluation mode.

    Small batches of texts of like length: on a CPU what a layer works on stays in its cache, and
    little is padded.
    """
    probabilities = np.zeros(len(tokens))
    device = next(module.parameters()).device
    module.eval()
    round_to = (
        8 if precision == "no" else text.ROUND_TO
    )  # each length more costs memory, most so in bf16
    with torch.inference_mode(), text.autocast(device, precision):
        for rows, batch in text.padded_batches(tokens, pad_id, batch_size, round_to):
            probabilities[rows] = (
                module(**training.to_device(batch, device)).float().softmax(-1)[:, 1].cpu().numpy()
            )
    if len(tokens) > _MANY:
        training.return_memory()
    return probabilities


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

    Length-grouped batches, the embedding table frozen, AdamW with a larger learning rate for the
    new head, linear warm-up and decay, gradients clipped; everything drawn at random follows
    ``profile.seed``.

    Parameters
    ----------
    texts, labels : n texts and their n labels, both classes present.
    method : ``full``, or a cheaper one of `reclab.efficient.METHODS`.
    encoder, tokenizer : take the place of the profile's model; give both or neither.
    lr : learning rate of what is trained in the encoder; None: the method's own.
    validation : texts and labels that the fit looks at three times on its way; their
        ``validation_loss`` and ``validation_auc`` join the history. They must not be the test
        texts.
    training_options : ``checkpoint``, ``save_every``, ``stop_after`` and ``trackers`` of
        `reclab.training.train`.

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
    attention = whole.config._attn_implementation
    if profile.device == "cpu" and profile.precision == "bf16":
        whole.set_attn_implementation(
            "eager"
        )  # the fused one takes a quarter more of such a fit, the same answers
    history = training.train(
        trained,
        batches,
        loss,
        optimizer,
        profile,
        run=run,
        after_step=after_step,
        **training_options,
    )
    whole.set_attn_implementation(attention)
    module.encoder = efficient.merged(module.encoder)
    kept = "adapter" if method == "adapter" else "full"  # every other method ends in a plain BERT
    classifier = Classifier(
        module, tokenizer, profile.max_length, kept, float(targets.float().mean())
    )
    classifier.history = history
    return classifier


def make_optimizer(
    module: TextClassifier, lr: float = efficient.METHODS["full"].lr
) -> torch.optim.Optimizer:
    """AdamW over what is trained in the encoder, and over the head at its own learning rate.

    Source: Loshchilov and Hutter, Decoupled Weight Decay (2019), arXiv 1711.05101.
    """
    body = [p for p in module.encoder.parameters() if p.requires_grad]
    groups = [
        {"params": body, "lr": lr},
        {"params": list(module.head.parameters()), "lr": _HEAD_LR},
    ]
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
        return {
            "validation_loss": float(log_loss(labels, p)),
            "validation_auc": float(roc_auc_score(labels, p)),
        }

    return look


def _fingerprint(
    profile: Profile, method: tuple[str, float], batches, tokens, targets, encoder: nn.Module
) -> str:
    """What makes two runs the same one: settings, order, texts, labels, and the weights that they
    start from.
    """
    about = (
        profile.model,
        profile.precision,
        profile.seed,
        profile.micro_batches,
        method,
        tokens,
        targets.tolist(),
    )
    digest = hashlib.sha256(repr((about, [rows.tolist() for rows in batches])).encode())
    for weights in encoder.parameters():
        digest.update(weights.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
