"""A click predictor over named modalities, fused in one of six ways, whichever of them an example
has.
"""

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
    """A modality given once for each user or item: ``table``, ``(n_rows, width)``; and the row that
    each example reads.

    ``rows`` : ``(n_examples,)`` integers, a row of the table for each example; -1: none, so the
        modality is missing.
    """

    table: np.ndarray
    rows: np.ndarray


Inputs = Mapping[str, np.ndarray | Lookup]
Masks = Mapping[str, np.ndarray] | None
_Fused = tuple[torch.Tensor, torch.Tensor | None]  # vectors, and gates where there are any


@dataclass(eq=False)
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
        item's, and layers of each tower: 2, or 1, which makes the score a sum of products of one
        number of the user's and one of the item's, as in a factorisation machine: less to learn
        where such products are the truth.

    Raises ValueError: an unknown kind, ``modality_dropout`` is not in [0, 1], or an argument of
        another kind.
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
        for name, given, owner in (
            ("weights", self.weights, "fixed"),
            ("user", self.user, "two-tower"),
        ):
            if given and self.kind != owner:
                raise ValueError(f"{name} belongs to the kind {owner!r}, not to {self.kind!r}")

    def __repr__(self) -> str:
        sizes = f"hidden={self.hidden}, epochs={self.epochs}, seed={self.seed}"
        return f"FusedClassifier(kind={self.kind!r}, {sizes})"

    def fit(self, inputs: Inputs, labels: np.ndarray, present: Masks = None) -> FusedClassifier:
        """Learn from n examples.

        Parameters
        ----------
        inputs : modality name -> ``(n, width)`` float array, or a `Lookup` of one vector for each
            user or item.
        labels : (n,) of 0 and 1.
        present : modality name -> (n,) bool; a modality not named is always present, but for rows
            -1 of a `Lookup`.

        Raises ValueError: a modality's rows, type or values do not fit, names it; a label is not 0
            or 1; or ``weights``, ``user`` or ``layers`` do not fit.
        """
        targets = torch.from_numpy(valid_labels(labels, len(labels), both=False)).float()
        parts = _checked(inputs, present, len(targets))
        torch.manual_seed(self.seed)
        widths = {name: part.table.shape[1] for name, part in parts.items()}
        self.fusion = _Fusion(widths, self.hidden, self.kind, self.weights, self.user, self.layers)
        if self.kind == "two-tower":
            self.head = nn.Sequential(_Sum())
        else:
            self.head = nn.Sequential(
                nn.Linear(self.hidden, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 1)
            )
        self.names, self.scale = list(parts), {name: part.scale() for name, part in parts.items()}
        parts, mask = self._scaled(parts)
        optimizer = torch.optim.AdamW(
            self._parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
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
        """Click probabilities: (n,).

        A modality may be missing that never was in training: concatenation and towers then read its
        mean in training, the other kinds share its gate out over the modalities present. How much
        is lost is learned only with ``modality_dropout``.

        Raises ValueError: as in `fit`; or the modalities or their widths are not those of `fit`; or
            there was no `fit`.
        """
        return self._infer(inputs, present)[0].squeeze(1).sigmoid().numpy().astype(float)

    def gates(self, inputs: Inputs, present: Masks = None) -> dict[str, np.ndarray]:
        """How much each modality counts in each example: name -> (n,), summing to 1 over those
        present.

        Raises ValueError: as in `predict`; or the kind has no gates.
        """
        gates = self._infer(inputs, present)[1]
        if gates is None:
            raise ValueError(
                f"the kind {self.kind!r} has no gates; leave modalities out to see what each is "
                "worth"
            )
        return dict(zip(self.names, gates.numpy().T, strict=True))

    def features(self, inputs: Inputs, present: Masks = None) -> np.ndarray:
        """What the last linear layer reads, (n, hidden), of two towers (n, hidden + 2): features
        for another model.
        """
        return self._infer(inputs, present, upto=-1)[0].numpy().astype(float)

    @property
    def n_parameters(self) -> int:
        """How many numbers ``fit`` learned."""
        self._need_fit()
        return sum(p.numel() for p in self._parameters())

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.fusion.parameters(), *self.head.parameters()]

    def _need_fit(self) -> None:
        if not hasattr(self, "names"):
            raise ValueError("call fit before predict or gates")

    def _infer(self, inputs: Inputs, present: Masks, upto: int | None = None) -> _Fused:
        """What the head, or the part of it up to a layer, makes of the fused vectors; and the
        gates.
        """
        self._need_fit()
        if list(inputs) != self.names:
            raise ValueError(
                f"inputs must have the modalities {self.names}, in that order; got {list(inputs)}. "
                "Mark one that is missing as absent in present"
            )
        first = inputs[self.names[0]]
        parts = _checked(inputs, present, len(first.rows if isinstance(first, Lookup) else first))
        parts, mask = self._scaled(parts)
        found, gates = [], []
        with torch.inference_mode():
            for rows in torch.arange(len(mask)).split(_BATCH):
                h, gate = self._fuse(parts, mask[rows], rows)
                found.append(self.head[:upto](h))
                gates.append(gate)
        return torch.cat(found), None if gates[0] is None else torch.cat(gates)

    def _scaled(self, parts: dict[str, _Part]) -> tuple[list[_Part], torch.Tensor]:
        """Each modality less its mean in training and over its deviation there; and which are
        present, ``(n, K)``.
        """
        scaled = []
        for name, part in parts.items():
            (mean, deviation), width = self.scale[name], part.table.shape[1]
            if width != len(
                mean
            ):  # a width of 1 would otherwise spread over all columns without a word
                raise ValueError(f"modality {name!r} had width {len(mean)} in fit, now {width}")
            scaled.append(part._replace(table=(part.table - mean) / deviation))
        return scaled, torch.stack([part.present for part in scaled], dim=1)

    def _fuse(self, parts: list[_Part], present: torch.Tensor, rows: torch.Tensor) -> _Fused:
        # A choice, not a product: zero times NaN is NaN.
        x = [
            torch.where(present[:, m, None], part.table[part.rows[rows]], 0.0)
            for m, part in enumerate(parts)
        ]
        return self.fusion(x, present)


class _Part(NamedTuple):
    """A checked modality: float32 table, its row for each example, and a bool mask of the examples
    that have it.
    """

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
    """The modalities as tensors, for n examples each; a ValueError names what does not fit."""
    if not inputs:
        raise ValueError("inputs holds no modality; give at least one, name -> (n, width)")
    present = present or {}
    if unknown := sorted(set(present) - set(inputs)):
        raise ValueError(
            f"present names {unknown}, which inputs does not have; it has {list(inputs)}"
        )
    return {
        name: _part(name, given, present.get(name, np.ones(n)), n) for name, given in inputs.items()
    }


def _part(name: str, given: np.ndarray | Lookup, present: np.ndarray, n: int) -> _Part:
    looked_up = isinstance(given, Lookup)
    table, rows = given if looked_up else (given, np.arange(n))
    try:
        table = np.array(table, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"modality {name!r} must hold numbers, (n, width)") from None
    rows, mask = np.asarray(rows), np.array(present, dtype=bool)
    if rows.shape != (n,) or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(
            f"modality {name!r} needs {n} whole row numbers, got {rows.dtype} of shape {rows.shape}"
        )
    least, most = rows.min(initial=0), rows.max(initial=0)
    if looked_up and not -1 <= least <= most < len(table):
        asked = f"is asked for rows {least} to {most}; -1 means none"
        raise ValueError(f"modality {name!r} has a table of {len(table)} rows, but {asked}")
    if table.ndim != 2 or mask.shape != (n,) or (not looked_up and len(table) != n):
        shapes = f"{table.shape} and {mask.shape}"
        raise ValueError(
            f"modality {name!r} must be ({n}, width) with a mask of ({n},), got {shapes}"
        )
    mask &= rows >= 0
    unread = np.ones(len(table), dtype=bool)
    unread[rows[mask]] = False
    table[unread] = 0.0  # what nobody reads may be anything, also NaN
    if not np.isfinite(table).all():
        row = int((~np.isfinite(table)).any(1).argmax())
        raise ValueError(
            f"modality {name!r} has a NaN or infinity in row {row}; mark it absent or fill it"
        )
    return _Part(
        torch.from_numpy(table),
        torch.from_numpy(rows.clip(min=0).astype(np.int64)),
        torch.from_numpy(mask),
    )


class _Fusion(nn.Module):
    """The vectors x_m of K modalities, zeros where one is absent, to one vector h and the gates:
    how much each counts.

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

    def __init__(
        self,
        widths: dict[str, int],
        hidden: int,
        kind: str,
        weights,
        user: Collection[str],
        layers: int,
    ):
        super().__init__()
        self.kind = kind
        if kind == "concat":
            self.project = nn.Linear(sum(widths.values()), hidden)
        elif kind == "two-tower":
            if not 0 < len(set(user)) < len(widths) or not set(user) <= set(widths):
                raise ValueError(
                    f"user must name some, not all, of the modalities {list(widths)}, got "
                    f"{list(user)}"
                )
            if layers not in (1, 2):
                raise ValueError(f"a tower has 1 or 2 layers, got {layers}")
            self.of_user = [name in user for name in widths]
            of_users = sum(width for name, width in widths.items() if name in user)
            self.user = _tower(of_users, hidden, layers)
            self.item = _tower(sum(widths.values()) - of_users, hidden, layers)
        else:
            # A list, because a ModuleDict refuses names such as "items" or "type".
            self.project = nn.ModuleList(nn.Linear(width, hidden) for width in widths.values())
        if kind == "fixed":
            weights = weights or dict.fromkeys(widths, 1.0)
            if set(weights) != set(widths):
                raise ValueError(
                    f"weights must be one for each of {list(widths)}, got {list(weights)}"
                )
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

    def forward(self, x: list[torch.Tensor], present: torch.Tensor) -> _Fused:
        if self.kind == "concat":
            return self.project(torch.cat(x, dim=1)).tanh(), None
        if self.kind == "two-tower":
            user = self.user(
                torch.cat([part for part, here in zip(x, self.of_user, strict=True) if here], dim=1)
            )
            item = self.item(
                torch.cat(
                    [part for part, here in zip(x, self.of_user, strict=True) if not here], dim=1
                )
            )
            dot = user[:, :-1] * item[:, :-1] / (user.shape[1] - 1) ** 0.5
            return torch.cat([dot, user[:, -1:], item[:, -1:]], dim=1), None
        v = torch.stack(
            [layer(part).tanh() for layer, part in zip(self.project, x, strict=True)], dim=1
        )
        if self.kind == "attention":
            attention = _over_present(
                self.query(v) @ self.key(v).mT / v.shape[-1] ** 0.5, present.unsqueeze(1)
            )
            share = present / present.sum(1, keepdim=True).clamp(min=1)
            h = (share.unsqueeze(-1) * (v + attention @ self.value(v))).sum(1)
            return h, (share.unsqueeze(1) @ attention).squeeze(1)
        if self.kind == "gated":
            scores = torch.cat(
                [layer(part) for layer, part in zip(self.score, x, strict=True)], dim=1
            )
        else:
            scores = self.log_weights.expand(present.shape)
        gates = _over_present(scores, present)
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
