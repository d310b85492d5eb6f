"""A classifier of texts: an encoder with one linear layer on it, that predicts, is saved and is loaded."""

from __future__ import annotations

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
from .errors import ReclabError
from .results import write_atomically

_MANY = 500  # predictions after which memory is given back


class TextClassifier(nn.Module):
    """An encoder, the mean over its tokens, and one linear layer: token ids in, two logits a text out.

    Parameters
    ----------
    encoder : name of a model in `reclab.assets`, or an encoder of transformers.
    """

    def __init__(self, encoder: str | nn.Module):
        super().__init__()
        # Attention dropout of zero keeps the CPU's fast attention kernel; hidden dropout still regularises.
        named = isinstance(encoder, str)
        self.encoder = text.load_encoder(encoder, attention_probs_dropout_prob=0.0) if named else encoder
        self.encoder.pooler = None  # a layer over the first token only, which the mean does without
        self.head = nn.Linear(self.encoder.config.hidden_size, 2)

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None) -> torch.Tensor:
        inputs = {"input_ids": input_ids} if inputs_embeds is None else {"inputs_embeds": inputs_embeds}
        hidden = self.encoder(attention_mask=attention_mask, **inputs).last_hidden_state
        return self.head(text.mean_pool(hidden, attention_mask))


class Classifier:
    """A fine-tuned classifier: ``predict``, ``save``, and ``history``, one row a training step."""

    def __init__(
        self, module: TextClassifier, tokenizer, max_length: int, method: str = "full", base_rate: float = 0.5
    ):
        self.module, self.tokenizer, self.max_length = module, tokenizer, max_length
        self.method, self.base_rate, self.history = method, base_rate, pd.DataFrame()

    def predict(self, texts: Sequence[str], batch_size: int = 8, *, precision: str = "no") -> np.ndarray:
        """Probability of the positive class for each text: (n,) float64.

        A text without any word says nothing: it gets ``base_rate``, the share of positives among the training texts. A
        text beyond ``max_length`` tokens is cut there.

        Parameters
        ----------
        precision : ``no`` (float32) or ``bf16``, which is faster where the CPU or GPU has it and moves the third digit.
        """
        tokens = text.tokenise(texts, self.tokenizer, self.max_length)
        probabilities = predict_tokens(self.module, tokens, self.tokenizer.pad_token_id, batch_size, precision)
        special = self.tokenizer.num_special_tokens_to_add()
        probabilities[[len(ids) <= special for ids in tokens]] = self.base_rate
        return probabilities

    def save(self, folder: str | Path) -> None:
        """Write all that `load` needs: weights (safetensors), configuration and tokenizer."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "classifier.json").unlink(missing_ok=True)  # without it the folder counts as unfinished
        self.module.encoder.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        temporary = folder / "model.safetensors.part"
        save_file(self.module.state_dict(), temporary)
        temporary.replace(folder / "model.safetensors")
        settings = {"max_length": self.max_length, "method": self.method, "base_rate": self.base_rate}
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
        raise ReclabError(f"{folder} holds no whole classifier; give a folder that Classifier.save wrote") from None
    return classifier


def predict_tokens(
    module: TextClassifier, tokens: list[list[int]], pad_id: int, batch_size: int = 8, precision: str = "no"
) -> np.ndarray:
    """Probability of the positive class for tokenised texts: (n,) float64; the module is left in evaluation mode.

    Small batches of texts of like length: on a CPU what a layer works on stays in its cache, and little is padded.
    """
    probabilities = np.zeros(len(tokens))
    device = next(module.parameters()).device
    module.eval()
    round_to = 8 if precision == "no" else text.ROUND_TO  # each length more costs memory, most so in bf16
    with torch.inference_mode(), text.autocast(device, precision):
        for rows, batch in text.padded_batches(tokens, pad_id, batch_size, round_to):
            probabilities[rows] = module(**training.to_device(batch, device)).float().softmax(-1)[:, 1].cpu().numpy()
    if len(tokens) > _MANY:
        training.return_memory()
    return probabilities
