"""Several modalities fused into one vector, whichever of them an example has.

Source: Arevalo et al., Gated Multimodal Units (2017), arXiv 1702.01992.
Taught in: 04_multimodal_fusion.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .finetune import valid_labels


class GatedFusion(nn.Module):
    """h = sum over modalities m of gate_m * tanh(W_m x_m), with gates that sum to 1 over the modalities present.

    Parameters
    ----------
    widths : modality name -> width of its vectors.
    hidden : width of the fused vector.

    Source: Arevalo et al. (2017), arXiv 1702.01992, with a softmax over more than two modalities.
    Taught in: 04_multimodal_fusion.
    """

    def __init__(self, widths: dict[str, int], hidden: int = 32):
        super().__init__()
        # Lists, because a ModuleDict refuses names such as "items" or "type".
        self.names = list(widths)
        self.project = nn.ModuleList(nn.Linear(width, hidden) for width in widths.values())
        self.score = nn.ModuleList(nn.Linear(width, 1) for width in widths.values())

    def forward(self, inputs: dict[str, torch.Tensor], present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fuse a batch.

        Parameters
        ----------
        inputs : name -> (n, width).
        present : (n, n_modalities) bool, in the order of ``widths``; the content of an absent one is never read.

        Returns
        -------
        (n, hidden) fused vectors and (n, n_modalities) gates; both are 0 where nothing is present.
        """
        # A choice, not a product: zero times NaN is NaN.
        masked = [torch.where(present[:, [i]], inputs[name], 0.0) for i, name in enumerate(self.names)]
        values = torch.stack([layer(part).tanh() for layer, part in zip(self.project, masked, strict=True)], dim=1)
        scores = torch.cat([layer(part) for layer, part in zip(self.score, masked, strict=True)], dim=1)
        gates = scores.masked_fill(~present, -torch.inf).softmax(dim=1).nan_to_num(0.0)
        return (gates.unsqueeze(-1) * values).sum(1), gates


class FusedClassifier:
    """A click predictor over fused modalities: ``fit``, ``predict``, ``gates``.

    Parameters
    ----------
    hidden : width of the fused vector.
    epochs, batch_size, learning_rate : of Adam.
    modality_dropout : chance that training hides a present modality, which teaches the model to do without it.
    seed : of the weights, the order and the dropout.

    Raises
    ------
    ValueError : ``modality_dropout`` is not in [0, 1].

    Taught in: 04_multimodal_fusion.
    """

    def __init__(
        self,
        hidden: int = 32,
        epochs: int = 6,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        modality_dropout: float = 0.0,
        seed: int = 0,
    ):
        if not 0 <= modality_dropout <= 1:
            raise ValueError(f"modality_dropout must be in [0, 1], got {modality_dropout}")
        self.hidden, self.epochs, self.batch_size = hidden, epochs, batch_size
        self.learning_rate, self.modality_dropout, self.seed = learning_rate, modality_dropout, seed

    def fit(self, inputs: dict[str, np.ndarray], labels: np.ndarray, present: dict[str, np.ndarray] | None = None):
        """Learn from n examples.

        Parameters
        ----------
        inputs : modality name -> (n, width) float array.
        labels : (n,) of 0 and 1.
        present : modality name -> (n,) bool; a modality not named is always present.

        Raises
        ------
        ValueError : a modality's rows, type or values do not fit, names it; or a label is not 0 or 1.

        Taught in: 04_multimodal_fusion.
        """
        targets = torch.from_numpy(valid_labels(labels, len(labels), both=False)).float()
        tensors, mask = _check(inputs, present, len(targets))
        self.names = list(inputs)
        self.scale = {name: _scale(part, mask[:, i]) for i, (name, part) in enumerate(tensors.items())}
        torch.manual_seed(self.seed)
        self.fusion = GatedFusion({name: part.shape[1] for name, part in tensors.items()}, self.hidden)
        self.head = nn.Sequential(nn.Linear(self.hidden, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 1))
        parameters = [*self.fusion.parameters(), *self.head.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=self.learning_rate)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(targets)).split(self.batch_size):
                kept = mask[rows] & (torch.rand(len(rows), mask.shape[1]) >= self.modality_dropout)
                logits, _ = self._logits({name: part[rows] for name, part in tensors.items()}, kept)
                loss = nn.functional.binary_cross_entropy_with_logits(logits, targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return self

    def predict(self, inputs: dict[str, np.ndarray], present: dict[str, np.ndarray] | None = None) -> np.ndarray:
        """Click probabilities: (n,).

        Raises
        ------
        ValueError : as in `fit`; or the modalities or their widths are not those of `fit`; or there was no `fit`.

        Taught in: 04_multimodal_fusion.
        """
        return self._infer(inputs, present)[0].sigmoid().numpy().astype(float)

    def gates(
        self, inputs: dict[str, np.ndarray], present: dict[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """How much each modality counts in each example: name -> (n,), summing to 1 over those present.

        Taught in: 04_multimodal_fusion.
        """
        return dict(zip(self.names, self._infer(inputs, present)[1].numpy().T, strict=True))

    def _infer(self, inputs, present):
        if not hasattr(self, "names"):
            raise ValueError("call fit before predict or gates")
        if list(inputs) != self.names:
            raise ValueError(f"inputs must have the modalities {self.names}, in that order; got {list(inputs)}")
        tensors, mask = _check(inputs, present, len(next(iter(inputs.values()))))
        for name, part in tensors.items():
            # A width of 1 would otherwise spread over all columns without a word.
            if part.shape[1] != len(self.scale[name][0]):
                raise ValueError(f"modality {name!r} had width {len(self.scale[name][0])} in fit, now {part.shape[1]}")
        with torch.inference_mode():
            return self._logits(tensors, mask)

    def _logits(self, tensors, mask):
        scaled = {name: (part - self.scale[name][0]) / self.scale[name][1] for name, part in tensors.items()}
        fused, gates = self.fusion(scaled, mask)
        return self.head(fused).squeeze(1), gates


def _check(inputs, present, n: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    if not inputs:
        raise ValueError("inputs holds no modality; give at least one, name -> (n, width)")
    present = present or {}
    unknown = set(present) - set(inputs)
    if unknown:
        raise ValueError(f"present names {sorted(unknown)}, which inputs does not have; it has {list(inputs)}")
    tensors, masks = {}, []
    for name, part in inputs.items():
        try:
            part = np.array(part, dtype=np.float32)
        except (TypeError, ValueError):
            raise ValueError(f"modality {name!r} must hold numbers, (n, width)") from None
        mask = np.array(present.get(name, np.ones(n)), dtype=bool)
        if part.ndim != 2 or len(part) != n or mask.shape != (n,):
            raise ValueError(
                f"modality {name!r} must be ({n}, width) with a mask of ({n},), got {part.shape} and {mask.shape}"
            )
        part[~mask] = 0.0
        if not np.isfinite(part).all():
            row = int((~np.isfinite(part)).any(1).argmax())
            raise ValueError(f"modality {name!r} has a NaN or infinity in row {row}; mark it absent or fill it")
        tensors[name] = torch.from_numpy(part)
        masks.append(mask)
    return tensors, torch.from_numpy(np.stack(masks, axis=1))


def _scale(part: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and one common standard deviation of a modality, over the examples that have it."""
    rows = part[mask] if mask.any() else part
    mean = rows.mean(0)
    deviation = (rows - mean).pow(2).mean().sqrt()
    # A modality that never varies, or never occurs, in training must not be blown up when it does later.
    return mean, deviation if deviation > 1e-6 else torch.ones(())
