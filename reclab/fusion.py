"""A click predictor over named modalities, fused in one of six ways, whichever an example has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from .metrics import valid_labels

KINDS = ("concat", "fixed", "weighted", "gated", "attention", "two-tower")
_BATCH = 8192  # examples at once when nothing is learned, so that memory stays bounded


class Lookup(NamedTuple):
    """A modality given once for each user or item.

    ``table`` : ``(n_rows, width)``; ``rows`` : ``(n_examples,)`` integers, the row of the table
    that each example reads; -1: none, so the modality is missing.
    """

    table: np.ndarray
    rows: np.ndarray


Inputs = Mapping[str, np.ndarray | Lookup]
Masks = Mapping[str, np.ndarray] | None


@dataclass(eq=False, repr=False)
class FusedClassifier:
    """A click predictor over fused modalities: ``fit``, ``predict``, ``gates``, ``features``.

    Parameters
    ----------
    hidden : width of the fused vector.
    epochs, batch_size, learning_rate, weight_decay : of AdamW.
    modality_dropout : chance that training hides a present modality, which teaches the model to do
        without it.
    seed : of the weights, the order and the dropout.
    kind : ``concat`` (side by side), ``fixed`` (weights that you give), ``weighted`` (weights that
        it learns), ``gated`` (weights that depend on the example), ``attention`` (modalities that
        look at each other) or ``two-tower`` (a dot product of user and item); the formulas stand at
        `_Fusion`.
    weights : of the kind ``fixed``: modality name -> its weight, 0 or more; None: equal ones.
    user, layers : of the kind ``two-tower``: names of the user's modalities, all others being the
        item's; and layers of each tower, 2 or 1. With 1 the score is a sum of products of one
        number of the user's and one of the item's, as in a factorisation machine.

    All methods take ``inputs``, modality name -> ``(n, width)`` floats or a `Lookup`, and
    ``present``, modality name -> ``(n,)`` bool; a modality not named there is always present. They
    raise a ValueError that names the modality, label or setting which does not fit.
    """

    hidden: int = 32
    epochs: int = 6
    batch_size: int = 512
    learning_rate: float = 3e-3
    modality_dropout: float = 0.0
    seed: int = 0
    _: KW_ONLY
    kind: str = "gated"
    weights: Mapping[str, float] | None = None
    user: Collection[str] = ()
    layers: int = 2
    weight_decay: float = 0.0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not 0 <= self.modality_dropout <= 1:
            raise ValueError(f"modality_dropout must be in [0, 1], got {self.modality_dropout}")
        if (self.weights and self.kind != "fixed") or (self.user and self.kind != "two-tower"):
            raise ValueError(f"only fixed takes weights and two-tower user, not {self.kind!r}")

    def __repr__(self) -> str:
        sizes = f"hidden={self.hidden}, epochs={self.epochs}, seed={self.seed}"
        return f"FusedClassifier(kind={self.kind!r}, {sizes})"

    def fit(self, inputs: Inputs, labels: np.ndarray, present: Masks = None) -> FusedClassifier:
        """Learn from n examples and their labels, ``(n,)`` of 0 and 1."""
        targets = torch.from_numpy(valid_labels(labels, len(labels), both=False)).float()
        parts = _checked(inputs, present, len(targets))
        torch.manual_seed(self.seed)
        widths = {name: part.table.shape[1] for name, part in parts.items()}
        self.fusion = _Fusion(widths, self.hidden, self.kind, self.weights, self.user, self.layers)
        if self.kind == "two-tower":
            self.head = nn.Sequential(_Sum())
        else:
            last = nn.Linear(self.hidden, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 1)
            self.head = nn.Sequential(*last)
        self.names, self.scale = list(parts), {name: part.scale() for name, part in parts.items()}
        parts, mask = self._scaled(parts)
        weights, rate, decay = self._parameters(), self.learning_rate, self.weight_decay
        optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=decay)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(targets)).split(self.batch_size):
                kept = mask[rows] & (torch.rand(len(rows), mask.shape[1]) >= self.modality_dropout)
                logits = self.head(self._fuse(parts, kept, rows)[0]).squeeze(1)
                loss = nn.functional.binary_cross_entropy_with_logits(logits, targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return self

    def predict(self, inputs: Inputs, present: Masks = None) -> np.ndarray:
        """Click probabilities: ``(n,)``.

        A modality may be missing that never was in training: concatenation and towers then read its
        mean in training, the other kinds share its gate out over the modalities present. How much
        is lost is learned only with ``modality_dropout``.
        """
        return self._infer(inputs, present)[0].squeeze(1).sigmoid().numpy().astype(float)

    def gates(self, inputs: Inputs, present: Masks = None) -> dict[str, np.ndarray]:
        """How much each modality counts: name -> ``(n,)``, summing to 1 over those present."""
        gates = self._infer(inputs, present)[1]
        if gates is None:
            remedy = "leave modalities out to see what each is worth"
            raise ValueError(f"the kind {self.kind!r} has no gates; {remedy}")
        return dict(zip(self.names, gates.numpy().T, strict=True))

    def features(self, inputs: Inputs, present: Masks = None) -> np.ndarray:
        """What the last linear layer reads, ``(n, hidden)``, of two towers ``(n, hidden + 2)``."""
        return self._infer(inputs, present, upto=-1)[0].numpy().astype(float)

    @property
    def n_parameters(self) -> int:
        """How many numbers ``fit`` learned."""
        return sum(p.numel() for p in self._parameters())

    def _parameters(self) -> list[nn.Parameter]:
        if not hasattr(self, "fusion"):
            raise ValueError("call fit before predict or gates")
        return [*self.fusion.parameters(), *self.head.parameters()]

    @torch.inference_mode()
    def _infer(self, inputs: Inputs, present: Masks, upto: int | None = None):
        """What the head, or its layers up to one, makes of the fused vectors; and the gates."""
        self._parameters()
        if list(inputs) != self.names:
            names = f"the modalities {self.names}, in that order; got {list(inputs)}"
            remedy = "Mark one that is missing as absent in present"
            raise ValueError(f"inputs must have {names}. {remedy}")
        first = inputs[self.names[0]]
        parts = _checked(inputs, present, len(first.rows if isinstance(first, Lookup) else first))
        parts, mask = self._scaled(parts)
        found, gates = [], []
        for rows in torch.arange(len(mask)).split(_BATCH):
            h, gate = self._fuse(parts, mask[rows], rows)
            found.append(self.head[:upto](h))
            gates.append(gate)
        return torch.cat(found), None if gates[0] is None else torch.cat(gates)

    def _scaled(self, parts: dict[str, _Part]) -> tuple[list[_Part], torch.Tensor]:
        """Tables less their mean in training over their deviation; who is present, ``(n, K)``."""
        scaled = []
        for name, part in parts.items():
            (mean, deviation), width = self.scale[name], part.table.shape[1]
            if width != len(mean):  # a width of 1 would spread over all columns without a word
                raise ValueError(f"modality {name!r} had width {len(mean)} in fit, now {width}")
            scaled.append(part._replace(table=(part.table - mean) / deviation))
        return scaled, torch.stack([part.present for part in scaled], dim=1)

    def _fuse(self, parts: list[_Part], present: torch.Tensor, rows: torch.Tensor):
        read = [part.table[part.rows[rows]] for part in parts]
        # A choice, not a product: zero times NaN is NaN.
        x = [torch.where(present[:, [m]], one, 0.0) for m, one in enumerate(read)]
        return self.fusion(x, present)


class _Part(NamedTuple):
    """A modality: float32 table, the row that each example reads, and who has it, (n,) bool."""

    table: torch.Tensor
    rows: torch.Tensor
    present: torch.Tensor

    def scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean of each column and one deviation for all, over examples that have the modality."""
        used = torch.bincount(self.rows[self.present], minlength=len(self.table)).double()
        share = (used / used.sum().clamp(min=1)).unsqueeze(1)
        mean = (share * self.table).sum(0)
        deviation = (share * (self.table - mean) ** 2).sum(0).mean().sqrt()
        # What never varies, or never occurs, in training must not be blown up when it does later.
        return mean.float(), deviation.float() if deviation > 1e-6 else torch.ones(())


def _checked(inputs: Inputs, present: Masks, n: int) -> dict[str, _Part]:
    """The modalities as tensors, for n examples each."""
    if not inputs:
        raise ValueError("inputs holds no modality; give at least one, name -> (n, width)")
    present = present or {}
    if unknown := sorted(set(present) - set(inputs)):
        known = f"which inputs does not have; it has {list(inputs)}"
        raise ValueError(f"present names {unknown}, {known}")
    return {name: _part(name, given, present.get(name), n) for name, given in inputs.items()}


def _part(name: str, given: np.ndarray | Lookup, present: np.ndarray | None, n: int) -> _Part:
    looked_up = isinstance(given, Lookup)
    table, rows = given if looked_up else (given, np.arange(n))
    try:
        table = np.array(table, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"modality {name!r} must hold numbers, (n, width)") from None
    mask = np.ones(n, dtype=bool) if present is None else np.array(present, dtype=bool)
    if table.ndim != 2 or mask.shape != (n,) or (not looked_up and len(table) != n):
        wanted = f"must be ({n}, width) with a mask of ({n},), got {table.shape} and {mask.shape}"
        raise ValueError(f"modality {name!r} {wanted}")
    rows = np.asarray(rows)
    least, most = rows.min(initial=0), rows.max(initial=0)
    whole = rows.shape == (n,) and np.issubdtype(rows.dtype, np.integer)
    if looked_up and not (whole and -1 <= least <= most < len(table)):
        wanted = f"needs {n} whole numbers of rows, -1 (none) to {len(table) - 1}"
        got = f"{rows.dtype} of shape {rows.shape}, {least} to {most}"
        raise ValueError(f"modality {name!r} {wanted}; got {got}")
    mask &= rows >= 0
    unread = np.ones(len(table), dtype=bool)
    unread[rows[mask]] = False
    table[unread] = 0.0  # what nobody reads may be anything, also NaN
    if not np.isfinite(table).all():
        row = f"row {np.isfinite(table).all(axis=1).argmin()}"
        raise ValueError(
            f"modality {name!r} has a NaN or infinity in {row}; mark it absent or fill it"
        )
    rows = rows.clip(min=0).astype(np.int64)
    return _Part(torch.from_numpy(table), torch.from_numpy(rows), torch.from_numpy(mask))


class _Fusion(nn.Module):
    """The vectors x_m of K modalities, zeros where one is absent, to one vector h and the gates.

    Called with a list of ``(n, width)`` and with ``present``, ``(n, K)`` bool; gives h, ``(n,
    hidden)``, and gates, ``(n, K)``, that sum to 1 over the modalities present, and are 0 where
    there is none. With v_m = tanh(W_m x_m):

    concat : h = tanh(W [x_1, ..., x_K]); no gates.
    fixed, weighted : h = sum_m g_m v_m, g = w over the sum of those present, given or learned from
        equal ones on.
    gated : h = sum_m g_m v_m, g = softmax over those present of u_m x_m.
        Source: Arevalo et al. (2017), arXiv 1702.01992, with a softmax over more than two
            modalities.
    attention : h = mean over those present of v_m + sum_l a_ml V v_l, a_m = softmax_l (Q v_m . K
        v_l / sqrt(hidden)); the gate of a modality is the attention that it gets, averaged over the
        modalities present.
        Source: Vaswani et al. (2017), arXiv 1706.03762, equation 1, over modalities in place of
            words.
    two-tower : h = [u * v / sqrt(hidden), a, b], ``(n, hidden + 2)``: its sum is the dot product of
        user and item with a bias of each; no gates. What describes the pair fits neither tower.
        Source: Yi et al., RecSys 2019, doi 10.1145/3298689.3346996.
    """

    def __init__(self, widths: dict[str, int], hidden: int, kind: str, weights, user, layers: int):
        super().__init__()
        self.kind = kind
        if kind == "concat":
            self.project = nn.Linear(sum(widths.values()), hidden)
        elif kind == "two-tower":
            if not 0 < len(set(user)) < len(widths) or not set(user) <= set(widths):
                some = f"some, not all, of the modalities {list(widths)}"
                raise ValueError(f"user must name {some}, got {list(user)}")
            if layers not in (1, 2):
                raise ValueError(f"a tower has 1 or 2 layers, got {layers}")
            self.of_user = [m for m, name in enumerate(widths) if name in user]
            self.of_item = [m for m, name in enumerate(widths) if name not in user]
            of_user = sum(widths[name] for name in widths if name in user)
            self.user = _tower(of_user, hidden, layers)
            self.item = _tower(sum(widths.values()) - of_user, hidden, layers)
        else:
            # A list, because a ModuleDict refuses names such as "items" or "type".
            self.project = nn.ModuleList(nn.Linear(width, hidden) for width in widths.values())
        if kind == "fixed":
            weights = weights or dict.fromkeys(widths, 1.0)
            if set(weights) != set(widths):
                each = f"one for each of {list(widths)}"
                raise ValueError(f"weights must be {each}, got {list(weights)}")
            fixed = torch.tensor([float(weights[name]) for name in widths])
            if not (fixed >= 0).all() or not 0 < fixed.sum() < torch.inf:
                raise ValueError(f"weights must be 0 or more, and one above 0, got {dict(weights)}")
            self.register_buffer("log_weights", fixed.log())
        elif kind == "weighted":
            self.log_weights = nn.Parameter(torch.zeros(len(widths)))
        elif kind == "gated":
            self.score = nn.ModuleList(nn.Linear(width, 1) for width in widths.values())
        elif kind == "attention":
            self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))

    def forward(self, x: list[torch.Tensor], present: torch.Tensor):
        if self.kind == "concat":
            return self.project(torch.cat(x, dim=1)).tanh(), None
        if self.kind == "two-tower":
            user = self.user(torch.cat([x[m] for m in self.of_user], dim=1))
            item = self.item(torch.cat([x[m] for m in self.of_item], dim=1))
            dot = user[:, :-1] * item[:, :-1] / (user.shape[1] - 1) ** 0.5
            return torch.cat([dot, user[:, -1:], item[:, -1:]], dim=1), None
        v = [layer(part).tanh() for layer, part in zip(self.project, x, strict=True)]
        v = torch.stack(v, dim=1)
        if self.kind == "attention":
            scores = self.query(v) @ self.key(v).mT / v.shape[-1] ** 0.5
            attention = _over_present(scores, present.unsqueeze(1))
            share = present / present.sum(1, keepdim=True).clamp(min=1)
            h = (share.unsqueeze(-1) * (v + attention @ self.value(v))).sum(1)
            return h, (share.unsqueeze(1) @ attention).squeeze(1)
        if self.kind == "gated":
            scores = [layer(part) for layer, part in zip(self.score, x, strict=True)]
            gates = _over_present(torch.cat(scores, dim=1), present)
        else:
            gates = _over_present(self.log_weights.expand(present.shape), present)
        return (gates.unsqueeze(-1) * v).sum(1), gates


def _over_present(scores: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Softmax over the last axis and the modalities present; zeros where there is none."""
    return scores.masked_fill(~present, -torch.inf).softmax(dim=-1).nan_to_num(0.0)


def _tower(width: int, hidden: int, layers: int) -> nn.Sequential:
    below = [nn.Linear(width, hidden), nn.ReLU()] if layers == 2 else []
    return nn.Sequential(*below, nn.Linear(hidden if below else width, hidden + 1))


class _Sum(nn.Module):
    """The head of two towers: the numbers of h added up, and one bias."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h.sum(1, keepdim=True) + self.bias
