"""The next item from the order of those before: a small transformer that reads behaviour as text is
read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from .errors import ReclabError, SchemaError

_BATCH = 256  # sequences scored at once


class SASRec:
    """Self-attention over a user's items, each place asked for the item that comes next.

    Every window of a sequence begins with a sign for "what came before is not shown", so the model
    also says what comes first: that is its answer for a user without history. All items of the
    catalogue compete in the loss. The vectors of the items that are read are those that are
    predicted.

    Parameters
    ----------
    n_items : size of the catalogue.
    width : of the vectors, a multiple of ``heads``.
    blocks, heads, dropout : of the transformer.
    length : items read at most, the latest ones.
    epochs, batch_size, learning_rate, weight_decay : of AdamW; the learning rate falls to 0 in a
        straight line.
    seed : of the weights, the order and the dropout.

    Source: Kang and McAuley, ICDM 2018, arXiv 1808.09781, with the loss of Klenitskiy and Vasilev,
    RecSys 2023, arXiv 2309.07602.
    """

    def __init__(
        self,
        n_items: int,
        *,
        width: int = 64,
        blocks: int = 1,
        heads: int = 2,
        dropout: float = 0.3,
        length: int = 50,
        epochs: int = 8,
        batch_size: int = 32,
        learning_rate: float = 0.01,
        weight_decay: float = 0.01,
        seed: int = 0,
    ):
        sizes = {
            "n_items": n_items,
            "width": width,
            "blocks": blocks,
            "heads": heads,
            "length": length,
        }
        for setting, value in {**sizes, "epochs": epochs, "batch_size": batch_size}.items():
            if value < 1:
                raise ReclabError(f"{setting} must be 1 or more, got {value}")
        if width % heads:
            raise ReclabError(f"width must be a multiple of heads ({heads}), got {width}")
        self.n_items, self.length, self.epochs, self.batch_size = (
            n_items,
            length,
            epochs,
            batch_size,
        )
        self.learning_rate, self.weight_decay, self.seed = learning_rate, weight_decay, seed
        self.sizes = {
            "d_model": width,
            "nhead": heads,
            "dim_feedforward": 2 * width,
            "dropout": dropout,
        }
        self.blocks = blocks

    def fit(self, sequences: Sequence[Sequence[int]]) -> SASRec:
        """Learn from the items of each user, earliest first; sequences longer than ``length`` are
        cut into windows.

        Raises SchemaError: an item outside the catalogue, or no sequence has any item.
        """
        windows = [window for items in self._checked(sequences) for window in self._windows(items)]
        if not windows:
            raise SchemaError("there is nothing to learn from: every sequence is empty")
        torch.manual_seed(self.seed)
        self.network = _Network(self.n_items, self.length, self.blocks, self.sizes)
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
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

    def score(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Scores ``(n_users, n_items)`` of what comes next; a user's own items are scored too, as
        they may come again.

        Raises ReclabError: not fitted yet. SchemaError : an item outside the catalogue.
        """
        if not hasattr(self, "network"):
            raise ReclabError("SASRec is not fitted yet; call SASRec(...).fit(sequences) first")
        latest = [
            items[len(items) - min(len(items), self.length) :] for items in self._checked(sequences)
        ]
        found = [
            self._next(latest[start : start + _BATCH]) for start in range(0, len(latest), _BATCH)
        ]
        return np.concatenate(found or [np.empty((0, self.n_items))])

    @torch.inference_mode()
    def _next(self, batch: list[np.ndarray]) -> np.ndarray:
        inputs, _ = self._padded(
            [np.append(items, 0) for items in batch]
        )  # the item to come is not read
        last = torch.tensor([len(items) for items in batch])
        hidden = self.network(inputs)[torch.arange(len(batch)), last]
        return self.network.logits(hidden).double().numpy()

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
                raise SchemaError(
                    f"sequence {user} holds item {wrong[0]}; the catalogue has "
                    f"0..{self.n_items - 1}"
                )
        return sequences


class _Network(nn.Module):
    """Items and their places, through blocks that look back only."""

    def __init__(self, n_items: int, length: int, blocks: int, sizes: dict):
        super().__init__()
        width = sizes["d_model"]
        self.items, self.places = nn.Embedding(n_items + 1, width), nn.Embedding(length + 1, width)
        for table in (self.items, self.places):
            nn.init.normal_(table.weight, std=width**-0.5)
        options = {"batch_first": True, "norm_first": True, "activation": "gelu"}
        layer = nn.TransformerEncoderLayer(**sizes, **options)
        self.encoder = nn.TransformerEncoder(
            layer, blocks, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.dropout = nn.Dropout(sizes["dropout"])
        self.bias = nn.Parameter(torch.zeros(n_items))

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
