"""Texts turned into tokens, batches and vectors, each step done once."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from . import assets
from .errors import ReclabError, warn_not_kept
from .profiles import get_profile
from .results import write_atomically

ROUND_TO = (
    16  # padded lengths are rounded up to this: fewer distinct shapes keep the CPU's memory bounded
)


def load_tokenizer(name: str):
    """The tokenizer of a pretrained model in `reclab.assets`."""
    quiet()
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(assets.model_folder(name), local_files_only=True)


def load_encoder(name: str, **config):
    """A pretrained encoder in float32, in evaluation mode, from safetensors only.

    A model that writes, such as ``smollm2-135m-instruct``, comes without its output layer:
    ``last_hidden_state`` holds a vector a token, which has read the tokens before it only.

    Parameters
    ----------
    name : a model in `reclab.assets`.
    config : settings that replace those of the checkpoint, such as
        ``attention_probs_dropout_prob=0.0``.
    """
    quiet()
    from transformers import AutoModel

    settings = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32}
    encoder = AutoModel.from_pretrained(assets.model_folder(name), **settings, **config)
    encoder.config.use_cache = False  # keys and values kept for writing on would only cost memory
    return encoder


def tokenise(texts: Sequence[str], tokenizer, max_length: int = 128) -> list[list[int]]:
    """Token ids of every text, once and without padding.

    Parameters
    ----------
    max_length : tokens kept of each text, the two special ones included; at least 3.

    Raises ValueError: a text is missing or not a str, names its row; ``texts`` is one str;
        ``max_length`` is below 3. An empty text is allowed: it has special tokens only.
    """
    check_texts(texts)
    if max_length < 3:  # the tokenizer takes 0 and 1 to mean no limit
        raise ValueError(f"max_length must be at least 3, got {max_length}")
    if not len(texts):
        return []
    tokens = tokenizer(
        list(texts), truncation=True, max_length=max_length, return_attention_mask=False
    )["input_ids"]
    return [
        ids or [tokenizer.eos_token_id] for ids in tokens
    ]  # a decoder adds none, and a mean over none is no number


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what is not a list of texts; an empty list, and empty texts, are left to the caller.

    Raises ValueError: ``texts`` is one str, or one of them is missing or not a str, names its row.
    """
    if isinstance(texts, str):
        raise ValueError("texts must be a list of texts, got one str; write [text]")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(
                f"texts[{row}] is {text!r}, not a text; drop that row or mask it as a missing "
                "modality"
            )


def length_groups(
    lengths: Sequence[int], batch_size: int, *, seed: int | None = None, round_to: int = ROUND_TO
) -> list[np.ndarray]:
    """Rows of texts of like length, batch by batch, so that little of a padded batch is padding.

    Parameters
    ----------
    lengths : tokens of each text.
    seed : draws the order of equal lengths and of the batches; None keeps batches from short to
        long.
    round_to : lengths count as equal up to the next multiple of this.

    Returns: Arrays of row numbers; every row stands in exactly one.

    Raises ValueError: ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    lengths = np.asarray(lengths)
    rng = None if seed is None else np.random.default_rng(seed)
    rows = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    rounded = -(-lengths // round_to)
    rows = rows[np.argsort(rounded[rows], kind="stable")]
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]


def epochs_of_batches(
    lengths: Sequence[int], batch_size: int, epochs: int, seed: int
) -> list[np.ndarray]:
    """The batches of a training run: `length_groups`, drawn anew for each pass over the texts.

    Parameters
    ----------
    lengths : tokens of each text.
    seed : of the run; each of its epochs has its own draw.
    """
    groups = [
        length_groups(lengths, batch_size, seed=1000 * seed + epoch) for epoch in range(epochs)
    ]
    return [batch for epoch in groups for batch in epoch]


def padded_batches(
    tokens: Sequence[list[int]], pad_id: int, batch_size: int = 16, round_to: int = ROUND_TO
) -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor]]]:
    """Row numbers and the padded batch of each length group, from short to long, for reading
    without training.

    Parameters
    ----------
    round_to : padded lengths are a multiple of this.
    """
    for rows in length_groups([len(ids) for ids in tokens], batch_size, round_to=round_to):
        yield rows, pad([tokens[row] for row in rows], pad_id, round_to)


def pad(
    tokens: Sequence[list[int]], pad_id: int = 0, round_to: int = ROUND_TO
) -> dict[str, torch.Tensor]:
    """A batch for the model: ``input_ids`` and ``attention_mask``, both (n, length rounded up to
    ``round_to``).
    """
    width = -(-max(map(len, tokens)) // round_to) * round_to
    ids = torch.full((len(tokens), width), pad_id)
    mask = torch.zeros((len(tokens), width), dtype=torch.long)
    for row, text in enumerate(tokens):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over a text's own tokens: (n, length, width) and (n, length) give (n, width); padding
    does not count.
    """
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def autocast(device: torch.device, precision: str):
    """A context that computes in ``no`` (float32), ``bf16`` or ``fp16``."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    return torch.autocast(device.type, kind, enabled=precision != "no")


def encode(
    texts: Sequence[str], model: str = "minilm-l6", *, max_length: int = 128, batch_size: int = 16
) -> np.ndarray:
    """Vectors of texts from a frozen encoder: (n, width) float32, the mean over each text's tokens.

    The result is kept in the derived cache under a hash of the model and of the texts themselves,
    so that any change to either computes it anew. A damaged file of that cache is computed anew
    too, with a warning.

    Raises ValueError: a text is missing; names its row.

    Source: Reimers and Gurevych, Sentence-BERT (2019), arXiv 1908.10084.
    """
    tokenizer = load_tokenizer(model)
    tokens = tokenise(texts, tokenizer, max_length)
    path = assets.derived_folder() / f"encode-{_key(model, tokens)}.npy"
    if (kept := _read(path)) is not None:
        return kept
    device = torch.device(get_profile().device)
    encoder = load_encoder(model).to(device)
    vectors = np.zeros((len(tokens), encoder.config.hidden_size), np.float32)
    with torch.inference_mode():
        for rows, batch in padded_batches(tokens, tokenizer.pad_token_id, batch_size):
            batch = {name: values.to(device) for name, values in batch.items()}
            vectors[rows] = (
                mean_pool(encoder(**batch).last_hidden_state, batch["attention_mask"]).cpu().numpy()
            )
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    try:
        write_atomically(path, buffer.getvalue())
    except ReclabError:
        warn_not_kept(path.parent, "RECLAB_DERIVED")
    return vectors


@cache
def quiet() -> None:
    """Keep transformers' bars and load reports out of notebooks; warnings of errors still show."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _read(path: Path) -> np.ndarray | None:
    """Vectors kept earlier; None where there are none, or where the file was cut short."""
    if not path.is_file():
        return None
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError):
        warnings.warn(f"{path} is damaged; its vectors are computed anew", stacklevel=3)
        return None


def _key(model: str, tokens: list[list[int]]) -> str:
    asset = assets.ASSETS[model]
    digest = hashlib.sha256(repr((model, asset.version or asset.revision)).encode())
    for text in tokens:
        digest.update(np.asarray(text, np.int32).tobytes() + b"|")
    return digest.hexdigest()[:32]
