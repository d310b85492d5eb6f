"""Interests read from texts: how sure they are, how coherent topics are, and which words moved a
classifier's answer.

Source: Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks (2017), arXiv
    1703.01365.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from . import text
from .errors import SchemaError
from .finetune import Classifier, TextClassifier
from .plots import PALETTE

_FOR, _AGAINST = (
    ", ".join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5)) for colour in PALETTE[:2]
)


def coherence(words: Sequence[int], present: np.ndarray) -> float:
    """Mean normalised pointwise mutual information of the pairs of a topic's words, from -1 to 1.

    ``log(p(a, b) / (p(a) p(b))) / -log p(a, b)``: 1 where both words only occur together, 0 where
    they occur together as often as by chance, -1 where they never do.

    Parameters
    ----------
    words : at least two columns of ``present``.
    present : ``(n_texts, n_words)``, true where a text has a word; texts that the topics were not
        found in.

    Raises SchemaError: fewer than two words.

    Source: Bouma, Normalized (Pointwise) Mutual Information in Collocation Extraction, GSCL 2009.
    """
    if len(words) < 2:
        raise SchemaError(f"a topic needs at least 2 words to be coherent, got {len(words)}")
    has = np.asarray(present)[:, words].astype(float)
    both, single = has.T @ has / len(has), has.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(both / np.outer(single, single)) / -np.log(both)
    value = np.where(both == 0, -1.0, np.where(both == 1, 1.0, value))  # the limits of the formula
    return float(value[np.triu_indices(len(words), 1)].mean())


@dataclass(frozen=True)
class Attribution:
    """How much each word of a text moved a classifier's log-odds of the positive class.

    Attributes
    ----------
    text : what was given.
    spans : start and end of each word in ``text``, in characters.
    scores : ``(n_words,)`` in units of log-odds, above 0 where the word speaks for the positive
        class.
    gap : sum of the scores less the difference of the log-odds between the text and its baseline;
        near 0.
    probability : of the positive class.
    left_out : word pieces beyond the classifier's ``max_length``, which it did not read.
    """

    text: str
    spans: list[tuple[int, int]]
    scores: np.ndarray
    gap: float
    probability: float
    left_out: int = 0

    @property
    def tokens(self) -> list[str]:
        """The words as they stand in the text: pieces joined, a punctuation mark being a word."""
        return [self.text[start:end] for start, end in self.spans]

    def top(self, k: int, sign: int = 1) -> list[int]:
        """Positions of the k words that speak most for the positive class (``sign=-1``: against
        it), most first.
        """
        return np.argsort(-sign * self.scores, kind="stable")[:k].tolist()

    def without(self, hidden: Sequence[int], mask: str) -> str:
        """The text with the words at some positions replaced by ``mask``."""
        return " ".join(mask if place in hidden else word for place, word in enumerate(self.tokens))

    def __repr__(self) -> str:
        words = " ".join(
            f"{word}({score:+.2f})" for word, score in zip(self.tokens, self.scores, strict=True)
        )
        return f"{_verdict(self, ('negative', 'positive'))} {words}"

    def to_html(self, names: tuple[str, str] = ("negative", "positive")) -> str:
        """The verdict and the words, marked blue where they speak for it being positive and orange
        where against.

        Everything that comes from the text is escaped.
        """
        parts, at, largest = [], 0, max(np.abs(self.scores).max(), 1e-9)
        for (start, end), score in zip(self.spans, self.scores, strict=True):
            parts += [
                html.escape(self.text[at:start]),
                _mark(self.text[start:end], score, abs(score) / largest),
            ]
            at = end
        dots = " …" if self.left_out else ""
        return (
            f"<p><b>{html.escape(_verdict(self, names))}</b></p>"
            '<p style="line-height:1.9;white-space:pre-wrap;overflow-wrap:anywhere">'
            f"{''.join(parts)}{dots}</p>"
            f"<p><small>{_mark('blue', 1, 1)} words speak for {html.escape(names[1])}, "
            f"{_mark('orange', -1, 1)} underlined ones for {html.escape(names[0])}; the stronger, "
            "the darker.</small>"
            "</p>"
        )


def attribute(classifier: Classifier, review: str, steps: int = 20) -> Attribution:
    """Integrated gradients of a classifier's log-odds, from a text of padding to the text itself.

    The baseline keeps the frame and the length and replaces each word piece by the padding token,
    which is not masked out. The gradients run along the straight line between the word vectors of
    both; pieces are summed to words.

    Parameters
    ----------
    steps : points on that line; more make the gap smaller, and cost one forward and one backward
        pass each.

    Raises ValueError: the text is missing, or has no word in it; ``steps`` is below 1.

    Source: Sundararajan, Taly and Yan (2017), arXiv 1703.01365, equation 3; Captum's
        LayerIntegratedGradients.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    tokenizer, module = classifier.tokenizer, classifier.module.eval()
    (kept,) = text.tokenise([review], tokenizer, classifier.max_length)
    pieces = tokenizer(review, add_special_tokens=False, return_offsets_mapping=True)
    if not pieces["input_ids"]:
        raise ValueError(
            "the text has no word in it, so there is nothing to attribute; answer with the base "
            "rate"
        )
    device = next(module.parameters()).device
    ids = torch.tensor([kept], device=device)
    hidden = torch.full_like(ids, tokenizer.pad_token_id)
    hidden[:, [0, -1]] = ids[:, [0, -1]]
    with torch.no_grad():
        low, high = _log_odds(module, torch.cat([hidden, ids])).tolist()
    scores = _integrated_gradients(module, ids, hidden, steps)[1:-1]
    words = pieces.word_ids()[: len(scores)]
    spans, joined = _join(words, pieces["offset_mapping"], scores)
    gap, probability = float(scores.sum() - (high - low)), float(1 / (1 + np.exp(-high)))
    return Attribution(
        review, spans, joined, gap, probability, len(pieces["input_ids"]) - len(scores)
    )


def read(classifier: Classifier, review: str, names: tuple[str, str], steps: int = 20) -> str:
    """What a classifier makes of a text, as HTML for `reclab.plots.text_explorer`.

    A text without a word is not sent to the classifier: the answer is its ``base_rate``, and says
    so.

    Parameters
    ----------
    names : of the negative and the positive class.
    """
    if classifier.tokenizer.tokenize(review):
        return attribute(classifier, review, steps).to_html(names)
    answer = f"{classifier.base_rate:.2f} {html.escape(names[1])}"
    return (
        f"<p>There is no word to read. Without one, the best answer is the base rate: {answer}.</p>"
    )


def _log_odds(module: TextClassifier, ids: torch.Tensor) -> torch.Tensor:
    logits = module(ids, torch.ones_like(ids))
    return logits[:, 1] - logits[:, 0]


def _integrated_gradients(
    module: TextClassifier, ids: torch.Tensor, hidden: torch.Tensor, steps: int
) -> np.ndarray:
    """Score of every word piece, (n_pieces,) float64; exactly 0 where text and baseline agree."""
    from captum.attr import LayerIntegratedGradients

    layer = module.encoder.get_input_embeddings()
    method = LayerIntegratedGradients(lambda batch: _log_odds(module, batch), layer)
    parts = method.attribute(
        ids, baselines=hidden, n_steps=steps, internal_batch_size=max(steps, 2)
    )
    return parts[0].sum(-1).detach().double().cpu().numpy()


def _join(words: list[int], offsets: list[tuple[int, int]], scores: np.ndarray):
    """Spans and summed scores of whole words, from those of their pieces."""
    starts = np.flatnonzero(np.diff(words, prepend=-1))
    ends = np.append(starts[1:], len(words)) - 1
    spans = [(offsets[a][0], offsets[b][1]) for a, b in zip(starts, ends, strict=True)]
    return spans, np.add.reduceat(scores, starts)


def _verdict(found: Attribution, names: tuple[str, str]) -> str:
    p = found.probability
    cut = (
        f" It read the beginning only: {found.left_out} word pieces were left out."
        if found.left_out
        else ""
    )
    return f"{names[int(p >= 0.5)]}, with a confidence of {max(p, 1 - p):.2f}.{cut}"


def _mark(word: str, score: float, strength: float) -> str:
    colour, line = (_FOR, "") if score > 0 else (_AGAINST, ";text-decoration:underline")
    style = f"background:rgba({colour}, {0.6 * strength:.2f}){line if strength > 0.2 else ''}"
    return f'<span style="{style}" title="{score:+.2f}">{html.escape(word)}</span>'
