"""A click predictor over several modalities, fused in one of six ways, whichever of them an example has.

Source: Arevalo et al., Gated Multimodal Units (2017), arXiv 1702.01992.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import nn

from .combine import AttentionFusion as AttentionFusion
from .combine import ConcatFusion as ConcatFusion
from .combine import GatedFusion as GatedFusion
from .combine import TwoTower as TwoTower
from .combine import WeightedFusion as WeightedFusion
from .finetune import valid_labels
from .modalities import Lookup as Lookup
from .modalities import Part, checked, n_examples
from .modalities import lookup as lookup

KINDS = ("concat", "fixed", "weighted", "gated", "attention", "two-tower")
BATCH = 8192  # examples at once when nothing is learned, so that memory stays bounded

Inputs = Mapping[str, np.ndarray | Lookup]
Masks = Mapping[str, np.ndarray] | None


class _Sum(nn.Module):
    """The head of two towers: the numbers of a fused vector added up, and one bias."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, fused: torch.Tensor) -> torch.Tensor:
        """(n, width) to (n, 1)."""
        return fused.sum(1, keepdim=True) + self.bias


class FusedClassifier:
    """A click predictor over fused modalities: ``fit``, ``predict``, ``gates``.

    Parameters
    ----------
    hidden : width of the fused vector.
    epochs, batch_size, learning_rate, weight_decay : of AdamW.
    modality_dropout : chance that training hides a present modality, which teaches the model to do without it.
    seed : of the weights, the order and the dropout.
    kind : ``concat`` (side by side), ``fixed`` (weights that you give), ``weighted`` (weights that it learns),
        ``gated`` (weights that depend on the example), ``attention`` (modalities that look at each other) or
        ``two-tower`` (a dot product of user and item); see the layers in `reclab.combine`.
    weights : of the kind ``fixed``: modality name -> weight; None: equal ones.
    user, layers : of the kind ``two-tower``: names of the user's modalities, all others being the item's, and layers of
        each tower, 2 or 1.

    Raises
    ------
    ValueError : an unknown kind, ``modality_dropout`` is not in [0, 1], or an argument of another kind.
    """

    def __init__(
        self,
        hidden: int = 32,
        epochs: int = 6,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        modality_dropout: float = 0.0,
        seed: int = 0,
        *,
        kind: str = "gated",
        weights: Mapping[str, float] | None = None,
        user: Collection[str] = (),
        layers: int = 2,
        weight_decay: float = 0.0,
    ):
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if not 0 <= modality_dropout <= 1:
            raise ValueError(f"modality_dropout must be in [0, 1], got {modality_dropout}")
        for name, given, owner in (("weights", weights, "fixed"), ("user", user, "two-tower")):
            if given and kind != owner:
                raise ValueError(f"{name} belongs to the kind {owner!r}, not to {kind!r}")
        self.hidden, self.epochs, self.batch_size = hidden, epochs, batch_size
        self.learning_rate, self.modality_dropout, self.seed = learning_rate, modality_dropout, seed
        self.kind, self.weights, self.user, self.layers, self.weight_decay = kind, weights, user, layers, weight_decay

    def __repr__(self) -> str:
        return f"FusedClassifier(kind={self.kind!r}, hidden={self.hidden}, epochs={self.epochs}, seed={self.seed})"

    def fit(self, inputs: Inputs, labels: np.ndarray, present: Masks = None) -> FusedClassifier:
        """Learn from n examples.

        Parameters
        ----------
        inputs : modality name -> ``(n, width)`` float array, or a `Lookup` of one vector for each user or item.
        labels : (n,) of 0 and 1.
        present : modality name -> (n,) bool; a modality not named is always present, but for rows -1 of a `Lookup`.

        Raises
        ------
        ValueError : a modality's rows, type or values do not fit, names it; or a label is not 0 or 1.
        """
        targets = torch.from_numpy(valid_labels(labels, len(labels), both=False)).float()
        parts = checked(inputs, present, len(targets))
        torch.manual_seed(self.seed)
        widths = {name: part.table.shape[1] for name, part in parts.items()}
        self.fusion = self._layer(widths)
        self.head = _Sum() if self.kind == "two-tower" else self._mlp()
        self.names, self.scale = list(inputs), {name: part.scale() for name, part in parts.items()}
        parts, mask = self._scaled(parts), self._mask(parts)
        optimizer = torch.optim.AdamW(self._parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(targets)).split(self.batch_size):
                kept = mask[rows] & (torch.rand(len(rows), mask.shape[1]) >= self.modality_dropout)
                logits, _ = self._logits(parts, kept, rows)
                loss = nn.functional.binary_cross_entropy_with_logits(logits, targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return self

    @property
    def n_parameters(self) -> int:
        """How many numbers ``fit`` learned."""
        self._need_fit()
        return sum(p.numel() for p in self._parameters())

    def predict(self, inputs: Inputs, present: Masks = None) -> np.ndarray:
        """Click probabilities: (n,).

        A modality may be missing that never was in training: concatenation and towers then read its mean in training,
        the other kinds share its gate out over the modalities present. How much is lost is learned only with
        ``modality_dropout``.

        Raises
        ------
        ValueError : as in `fit`; or the modalities or their widths are not those of `fit`; or there was no `fit`.
        """
        return self._infer(inputs, present)[0].sigmoid().numpy().astype(float)

    def gates(self, inputs: Inputs, present: Masks = None) -> dict[str, np.ndarray]:
        """How much each modality counts in each example: name -> (n,), summing to 1 over those present.

        Raises
        ------
        ValueError : as in `predict`; or the kind has no gates.
        """
        gates = self._infer(inputs, present)[1]
        if gates is None:
            raise ValueError(f"the kind {self.kind!r} has no gates; leave modalities out to see what each is worth")
        return dict(zip(self.names, gates.numpy().T, strict=True))

    def features(self, inputs: Inputs, present: Masks = None) -> np.ndarray:
        """What the last linear layer reads, (n, hidden), or (n, hidden + 2) of two towers: features for another model.

        Raises
        ------
        ValueError : as in `predict`.
        """
        return self._infer(inputs, present, last=False)[0].numpy().astype(float)

    def _layer(self, widths: dict[str, int]) -> nn.Module:
        if self.kind == "fixed":
            return WeightedFusion(widths, self.hidden, self.weights or dict.fromkeys(widths, 1.0))
        if self.kind == "two-tower":
            return TwoTower(widths, self.hidden, self.user, self.layers)
        layers = {"concat": ConcatFusion, "weighted": WeightedFusion, "gated": GatedFusion}
        return layers.get(self.kind, AttentionFusion)(widths, self.hidden)

    def _mlp(self) -> nn.Module:
        return nn.Sequential(nn.Linear(self.hidden, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 1))

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.fusion.parameters(), *self.head.parameters()]

    def _need_fit(self) -> None:
        if not hasattr(self, "names"):
            raise ValueError("call fit before predict or gates")

    def _infer(self, inputs: Inputs, present: Masks, last: bool = True) -> tuple[torch.Tensor, torch.Tensor | None]:
        self._need_fit()
        if list(inputs) != self.names:
            raise ValueError(
                f"inputs must have the modalities {self.names}, in that order; got {list(inputs)}. "
                "Mark one that is missing as absent in present"
            )
        parts = checked(inputs, present, n_examples(next(iter(inputs.values()))))
        for name, part in parts.items():
            # A width of 1 would otherwise spread over all columns without a word.
            if part.table.shape[1] != len(self.scale[name][0]):
                raise ValueError(
                    f"modality {name!r} had width {len(self.scale[name][0])} in fit, now {part.table.shape[1]}"
                )
        parts, mask = self._scaled(parts), self._mask(parts)
        with torch.inference_mode():
            found = [self._logits(parts, mask[rows], rows, last) for rows in torch.arange(len(mask)).split(BATCH)]
        logits, gates = zip(*found, strict=True)
        return torch.cat(logits), None if gates[0] is None else torch.cat(gates)

    def _scaled(self, parts: dict[str, Part]) -> dict[str, Part]:
        scale = self.scale
        return {n: part._replace(table=(part.table - scale[n][0]) / scale[n][1]) for n, part in parts.items()}

    def _mask(self, parts: dict[str, Part]) -> torch.Tensor:
        return torch.stack([part.present for part in parts.values()], dim=1)

    def _logits(self, parts: dict[str, Part], mask: torch.Tensor, rows: torch.Tensor, last: bool = True):
        fused, gates = self.fusion({name: part.take(rows) for name, part in parts.items()}, mask)
        if last:
            return self.head(fused).squeeze(1), gates
        return (fused if self.kind == "two-tower" else self.head[:-1](fused)), gates
