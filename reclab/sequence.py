"""The next item from the order of those before, by a small transformer that reads items as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch import nn

from .errors import ReclabError, SchemaError

_BATCH = 256  # sequences scored at once


@dataclass(eq=False)
class SASRec:
    """Self-attention over a user's items, each place asked for the item that comes next.

    Every window of a sequence begins with a sign for "what came before is not shown", so the model
    also says what comes first: that is its answer for a user without history. All items of the
    catalogue compete in the loss. The vectors of the items that are read are those that are
    predicted. The learning rate of AdamW falls to 0 in a straight line.

    Source: Kang and McAuley, ICDM 2018, arXiv 1808.09781, with the loss of Klenitskiy and Vasilev,
    RecSys 2023, arXiv 2309.07602.
    """

    n_items: int  # size of the catalogue
    _: KW_ONLY
    width: int = 64  # of the vectors, a multiple of heads
    blocks: int = 1
    heads: int = 2
    dropout: float = 0.3
    length: int = 50  # items read at most, the latest ones
    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 0.01
    weight_decay: float = 0.01
    seed: int = 0  # of the weights, the order and the dropout

    def __post_init__(self):
        for name in ("n_items", "width", "blocks", "heads", "length", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ReclabError(f"{name} must be 1 or more, got {getattr(self, name)}")

    def fit(self, sequences: Sequence[Sequence[int]]) -> SASRec:
        """Learn from the items of each user, earliest first; long sequences are cut into windows.

        Raises SchemaError: an item outside the catalogue, or no sequence has any item.
        """
        windows = [window for items in self._checked(sequences) for window in self._windows(items)]
        if not windows:
            raise SchemaError("there is nothing to learn from: every sequence is empty")
        torch.manual_seed(self.seed)
        self.network = _Network(self)
        weights, rate, decay = self.network.parameters(), self.learning_rate, self.weight_decay
        optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=decay)
        steps = self.epochs * -(-len(windows) // self.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(windows)).split(self.batch_size):
                loss = self.network.loss(*self._padded([windows[row] for row in rows]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        self.network.eval()
        return self

    @torch.inference_mode()
    def score(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Scores ``(n_users, n_items)`` of what comes next; a user's own items may come again."""
        if not hasattr(self, "network"):
            raise ReclabError("SASRec is not fitted yet; call SASRec(...).fit(sequences) first")
        scores = [np.empty((0, self.n_items))]
        latest = [items[-self.length :] for items in self._checked(sequences)]
        for start in range(0, len(latest), _BATCH):
            batch = latest[start : start + _BATCH]
            inputs, _ = self._padded([np.append(items, 0) for items in batch])  # 0 is not read
            last = torch.tensor([len(items) for items in batch])
            hidden = self.network(inputs)[torch.arange(len(batch)), last]
            scores.append(self.network.logits(hidden).double().numpy())
        return np.concatenate(scores)

    def _windows(self, items: np.ndarray) -> list[np.ndarray]:
        return [items[start : start + self.length] for start in range(0, len(items), self.length)]

    def _padded(self, windows: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """What is read, shifted by one place, and what is asked for; -100 asks for nothing."""
        inputs = torch.full((len(windows), max(map(len, windows))), self.n_items)
        targets = torch.full_like(inputs, -100)
        for row, items in enumerate(windows):
            items = torch.tensor(items)
            inputs[row, 1 : len(items)], targets[row, : len(items)] = items[:-1], items
        return inputs, targets

    def _checked(self, sequences) -> list[np.ndarray]:
        sequences = [np.asarray(items, dtype=np.int64).ravel() for items in sequences]
        for user, items in enumerate(sequences):
            wrong = items[(items < 0) | (items >= self.n_items)]
            if len(wrong):
                catalogue = f"the catalogue has 0..{self.n_items - 1}"
                raise SchemaError(f"sequence {user} holds item {wrong[0]}; {catalogue}")
        return sequences


class _Network(nn.Module):
    """Items and their places, through blocks that look back only."""

    def __init__(self, model: SASRec):
        super().__init__()
        width = model.width
        self.items = nn.Embedding(model.n_items + 1, width)
        self.places = nn.Embedding(model.length + 1, width)
        for table in (self.items, self.places):
            nn.init.normal_(table.weight, std=width**-0.5)
        options = {"batch_first": True, "norm_first": True, "activation": "gelu"}
        layer = nn.TransformerEncoderLayer(width, model.heads, 2 * width, model.dropout, **options)
        last = nn.LayerNorm(width)
        self.encoder = nn.TransformerEncoder(layer, model.blocks, last, enable_nested_tensor=False)
        self.dropout = nn.Dropout(model.dropout)
        self.bias = nn.Parameter(torch.zeros(model.n_items))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``(n, length)`` items to ``(n, length, width)``."""
        n = inputs.shape[1]
        vectors = self.items(inputs) + self.places.weight[:n]
        mask = nn.Transformer.generate_square_subsequent_mask(n)
        return self.encoder(self.dropout(vectors), mask=mask, is_causal=True)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ self.items.weight[:-1].T + self.bias

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        asked = targets >= 0
        return nn.functional.cross_entropy(self.logits(self(inputs)[asked]), targets[asked])
