"""Masked language modelling: what a BERT is pre-trained on. Words are hidden, and the network
guesses them.

Source: Devlin et al., BERT (2019), arXiv 1810.04805, section 3.1 and appendix A.1.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn

from . import text, training
from .profiles import Profile

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MASKED, _REPLACED = 0.8, 0.1  # of the chosen tokens; the rest is shown as it is
_IGNORED = -100  # target of a token that is not to be guessed, as cross-entropy knows it


class MaskedLanguageModel(nn.Module):
    """An encoder that guesses hidden tokens: its head is one layer and the encoder's own table of
    word vectors.

    The table is used twice, for reading and for guessing, so a head adds few weights and fits any
    BERT, also one whose checkpoint has none. Logits are computed for the hidden tokens only: they
    are the costly part.

    Parameters
    ----------
    encoder : a BERT of transformers; it is trained in place, and is what a later fine-tune starts
        from.
    seed : draws the head.

    Source: Press and Wolf, Using the Output Embedding to Improve Language Models (2017), arXiv
        1608.05859.
    """

    def __init__(self, encoder: nn.Module, seed: int = 0):
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(encoder.config.vocab_size))

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """Mean cross-entropy of the guesses in nats, a scalar; 0 where nothing is hidden.

        Parameters
        ----------
        input_ids, attention_mask, targets : (n, length); ``targets`` is -100 where nothing is to be
            guessed.
        """
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        chosen = targets != _IGNORED
        table = self.encoder.get_input_embeddings().weight
        logits = nn.functional.linear(self.transform(hidden[chosen]), table, self.bias)
        return nn.functional.cross_entropy(
            logits.float(), targets[chosen], reduction="sum"
        ) / chosen.sum().clamp(min=1)


def mask_tokens(
    ids: torch.Tensor, tokenizer, share: float = 0.15, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide some tokens of a batch, and say what they were.

    Each ordinary token is chosen with probability ``share``. Of the chosen ones 80% become the mask
    token, 10% some other ordinary token, 10% stay: a fine-tune never shows a mask, so the network
    may not rely on seeing one. Special tokens and padding are never chosen.

    Parameters
    ----------
    ids : token ids (n, length).
    share : of the ordinary tokens, above 0 and at most 1.
    generator : of the draws; None takes torch's own, which `reclab.training.train` seeds.

    Returns: Inputs and targets, both (n, length); a target is the token that was there, -100 where
        none is to be guessed.

    Raises ValueError: ``share`` is outside its range.

    Source: Devlin et al. (2019), appendix A.1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    special = torch.tensor(tokenizer.all_special_ids)
    ordinary = torch.tensor(sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids)))
    chosen = (torch.rand(ids.shape, generator=generator) < share) & ~torch.isin(ids, special)
    fate = torch.rand(ids.shape, generator=generator)
    others = ordinary[torch.randint(len(ordinary), ids.shape, generator=generator)]
    inputs = ids.masked_fill(chosen & (fate < _MASKED), tokenizer.mask_token_id)
    inputs = torch.where(chosen & (fate >= _MASKED) & (fate < _MASKED + _REPLACED), others, inputs)
    return inputs, ids.masked_fill(~chosen, _IGNORED)


def train_vocabulary(texts: Sequence[str], size: int = 8000):
    """A word-piece tokenizer in lower case, learnt from the texts; the same texts give the same
    one.

    Parameters
    ----------
    size : tokens at most, the five special ones included. A ValueError says how many the letters
        alone need.

    Source: Wu et al., Google's Neural Machine Translation System (2016), arXiv 1609.08144, section
        4.1.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizerFast

    texts = _checked(texts)
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = (
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
    )
    # The trainer numbers the letters inside a word in an order that changes from run to run, and
    # breaks ties by these
    # numbers: given first and sorted, they make the vocabulary the same every time.
    inside = [f"##{letter}" for letter in _letters_inside(texts, learner)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[*SPECIAL, *inside], show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    vocabulary = learner.get_vocab()
    if len(vocabulary) > size:
        raise ValueError(
            f"size must be at least {len(vocabulary)} to hold every letter of the texts, got {size}"
        )
    return BertTokenizerFast(
        vocab={token: vocabulary[token] for token in sorted(vocabulary, key=vocabulary.get)}
    )


def small_bert(
    vocab_size: int,
    *,
    layers: int = 2,
    width: int = 256,
    heads: int = 4,
    max_length: int = 128,
    seed: int = 0,
):
    """A small BERT with random weights: an encoder like any other of transformers.

    Parameters
    ----------
    width : numbers that describe a token, a multiple of ``heads``.
    max_length : tokens of the longest text that it can read.
    seed : draws the weights.

    Source: Turc et al., Well-Read Students Learn Better (2019), arXiv 1908.08962.
    """
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=-(-max_length // text.ROUND_TO) * text.ROUND_TO,
        attention_probs_dropout_prob=0.0,  # above zero it keeps the CPU off its fast attention
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertModel(config, add_pooling_layer=False)


def pretrain(
    model: MaskedLanguageModel,
    tokenizer,
    texts: Sequence[str],
    profile: Profile,
    *,
    epochs: int = 1,
    lr: float = 1e-3,
    share: float = 0.15,
    **options,
) -> pd.DataFrame:
    """Train a model to guess hidden tokens, in place; every pass over the texts hides others.

    Weights that need no gradient stay as they are: freeze ``model.encoder`` to learn the head
    alone.

    Parameters
    ----------
    lr : highest learning rate; 1e-3 suits a small network from random weights, 5e-5 to 2e-4 one
        that is pre-trained.
    share : of the tokens that are hidden.
    options : of `reclab.training.train`, such as ``checkpoint``.

    Returns the history of `reclab.training.train`, one row a step; ``loss`` in nats a hidden token.

    Raises ValueError: there is no text, one is missing, or ``share`` is outside its range.
    """
    tokens = text.tokenise(_checked(texts), tokenizer, profile.max_length)
    batches = text.epochs_of_batches(
        [len(t) for t in tokens], profile.batch_size, epochs, profile.seed
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.01, fused=True)

    def loss(module: nn.Module, rows: np.ndarray) -> torch.Tensor:
        return module(
            **training.to_device(_batch(tokens, rows, tokenizer, share), model.bias.device)
        )

    about = profile.precision, profile.seed, lr, share, tokens, [rows.tolist() for rows in batches]
    run = hashlib.sha256(repr(about).encode()).hexdigest()
    return training.train(model, batches, loss, optimizer, profile, run=run, **options)


def perplexity(
    model: MaskedLanguageModel,
    tokenizer,
    texts: Sequence[str],
    *,
    max_length: int = 128,
    seed: int = 0,
) -> float:
    """Between how many equally likely tokens the model still hesitates: exp of its mean loss on
    hidden tokens.

    A model that knows nothing scores the size of its vocabulary, a perfect one 1. The same seed
    hides the same tokens, so models that share a tokenizer can be compared; models that do not,
    cannot.

    Source: Jelinek et al., Perplexity - a measure of the difficulty of speech recognition tasks
        (1977).
    """
    tokens = text.tokenise(_checked(texts), tokenizer, max_length)
    generator = torch.Generator().manual_seed(seed)
    total, hidden = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for rows in text.length_groups([len(t) for t in tokens], 32):
            batch = _batch(tokens, rows, tokenizer, generator=generator)
            n = int((batch["targets"] != _IGNORED).sum())
            total += n * float(model(**training.to_device(batch, model.bias.device)))
            hidden += n
    return math.exp(total / hidden) if hidden else math.nan


def _batch(
    tokens, rows: Iterable[int], tokenizer, share=0.15, generator=None
) -> dict[str, torch.Tensor]:
    batch = text.pad([tokens[row] for row in rows], tokenizer.pad_token_id)
    batch["input_ids"], batch["targets"] = mask_tokens(
        batch["input_ids"], tokenizer, share, generator
    )
    return batch


def _letters_inside(texts: Sequence[str], learner) -> list[str]:
    """Letters that some word has after its first one, sorted."""
    normalise, split = learner.normalizer.normalize_str, learner.pre_tokenizer.pre_tokenize_str
    words = {word for one in texts for word, _ in split(normalise(one))}
    return sorted({letter for word in words for letter in word[1:]})


def _checked(texts: Sequence[str]) -> list[str]:
    text.check_texts(texts)
    if not len(texts):
        raise ValueError("texts is empty; there is nothing to learn from, or to judge by")
    return list(texts)
