"""Ways to make one vector of several modalities, whichever of them an example has: h(x, y) = A(f(x), e(y)).

Every layer is called with ``inputs``, name -> ``(n, width)``, and ``present``, ``(n, n_modalities)`` bool in the order
of its ``widths``, and returns the fused vectors ``(n, hidden)`` and the gates ``(n, n_modalities)``: how much each
modality counts, summing to 1 over those present (None where a layer has none). What stands in an absent modality is
never read, and where nothing is present gates are 0.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import nn

Fused = tuple[torch.Tensor, torch.Tensor | None]


def _absent_is_zero(names: list[str], inputs: dict[str, torch.Tensor], present: torch.Tensor) -> list[torch.Tensor]:
    # A choice, not a product: zero times NaN is NaN.
    return [torch.where(present[:, [i]], inputs[name], 0.0) for i, name in enumerate(names)]


def _over_present(scores: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Softmax over the last axis and the modalities present; zeros where there is none."""
    return scores.masked_fill(~present, -torch.inf).softmax(dim=-1).nan_to_num(0.0)


class ConcatFusion(nn.Module):
    """h = tanh(W [x_1, ..., x_K]), an absent modality as zeros: with scaled inputs, as its mean in training.

    Parameters
    ----------
    widths : modality name -> width of its vectors.
    hidden : width of the fused vector.
    """

    def __init__(self, widths: Mapping[str, int], hidden: int = 32):
        super().__init__()
        self.names = list(widths)
        self.project = nn.Linear(sum(widths.values()), hidden)

    def forward(self, inputs: dict[str, torch.Tensor], present: torch.Tensor) -> Fused:
        """Fuse a batch; there are no gates."""
        return self.project(torch.cat(_absent_is_zero(self.names, inputs, present), dim=1)).tanh(), None


class _Projected(nn.Module):
    """Each modality as a vector of the same width, v_m = tanh(W_m x_m); subclasses say how much each one counts."""

    def __init__(self, widths: Mapping[str, int], hidden: int = 32):
        super().__init__()
        # Lists, because a ModuleDict refuses names such as "items" or "type".
        self.names = list(widths)
        self.project = nn.ModuleList(nn.Linear(width, hidden) for width in widths.values())

    def values(self, masked: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([layer(part).tanh() for layer, part in zip(self.project, masked, strict=True)], dim=1)


class WeightedFusion(_Projected):
    """h = sum over the modalities present of w_m tanh(W_m x_m), with the same weights for every example.

    Parameters
    ----------
    widths, hidden : as `ConcatFusion`.
    weights : modality name -> its weight, 0 or more, kept fixed; those present are divided by their sum. None: learned,
        from equal ones on.

    Raises
    ------
    ValueError : the weights are not one for each modality, or one is negative, or none is above 0.
    """

    def __init__(self, widths: Mapping[str, int], hidden: int = 32, weights: Mapping[str, float] | None = None):
        super().__init__(widths, hidden)
        if weights is None:
            self.log_weights = nn.Parameter(torch.zeros(len(widths)))
            return
        if set(weights) != set(widths):
            raise ValueError(f"weights must be one for each of {list(widths)}, got {list(weights)}")
        fixed = torch.tensor([float(weights[name]) for name in widths])
        if not (fixed >= 0).all() or not 0 < fixed.sum() < torch.inf:
            raise ValueError(f"weights must be 0 or more, and one above 0, got {dict(weights)}")
        self.register_buffer("log_weights", fixed.log())

    def forward(self, inputs: dict[str, torch.Tensor], present: torch.Tensor) -> Fused:
        """Fuse a batch; the gates are the weights, shared out over the modalities present."""
        gates = _over_present(self.log_weights.expand(present.shape), present)
        values = self.values(_absent_is_zero(self.names, inputs, present))
        return (gates.unsqueeze(-1) * values).sum(1), gates


class GatedFusion(_Projected):
    """h = sum over modalities m of gate_m * tanh(W_m x_m), with gates that sum to 1 over the modalities present.

    A gate depends on its example: gate = softmax over the modalities present of u_m x_m.

    Parameters
    ----------
    widths, hidden : as `ConcatFusion`.

    Source: Arevalo et al. (2017), arXiv 1702.01992, with a softmax over more than two modalities.
    """

    def __init__(self, widths: Mapping[str, int], hidden: int = 32):
        super().__init__(widths, hidden)
        self.score = nn.ModuleList(nn.Linear(width, 1) for width in widths.values())

    def forward(self, inputs: dict[str, torch.Tensor], present: torch.Tensor) -> Fused:
        """Fuse a batch; both results are 0 where nothing is present."""
        masked = _absent_is_zero(self.names, inputs, present)
        scores = torch.cat([layer(part) for layer, part in zip(self.score, masked, strict=True)], dim=1)
        gates = _over_present(scores, present)
        return (gates.unsqueeze(-1) * self.values(masked)).sum(1), gates


class AttentionFusion(_Projected):
    """h = mean over the modalities present of v_m + sum_l a_ml V v_l, where modality m attends to each l present.

    ``v_m = tanh(W_m x_m)`` and ``a_m = softmax_l (Q v_m . K v_l / sqrt(hidden))``. The gate of a modality is the
    attention that it gets, averaged over the modalities present.

    Parameters
    ----------
    widths, hidden : as `ConcatFusion`.

    Source: Vaswani et al. (2017), arXiv 1706.03762, equation 1, over modalities in place of words.
    """

    def __init__(self, widths: Mapping[str, int], hidden: int = 32):
        super().__init__(widths, hidden)
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))

    def forward(self, inputs: dict[str, torch.Tensor], present: torch.Tensor) -> Fused:
        """Fuse a batch; both results are 0 where nothing is present."""
        values = self.values(_absent_is_zero(self.names, inputs, present))
        scores = self.query(values) @ self.key(values).mT / values.shape[-1] ** 0.5
        attention = _over_present(scores, present.unsqueeze(1))
        share = present / present.sum(1, keepdim=True).clamp(min=1)
        fused = (share.unsqueeze(-1) * (values + attention @ self.value(values))).sum(1)
        return fused, (share.unsqueeze(1) @ attention).squeeze(1)


class TwoTower(nn.Module):
    """A vector for the user and one for the item, from the modalities of each; their dot product is the score.

    The fused vector is ``[u * v / sqrt(hidden), a, b]``: its sum is the dot product with a bias of the user and one of
    the item. A tower reads its modalities side by side, an absent one as zeros.

    Parameters
    ----------
    widths, hidden : as `ConcatFusion`; ``hidden`` is the width of both towers, inside and out.
    user : names of the user's modalities; all others are the item's. What describes the pair fits neither tower.
    layers : of each tower: 2, or 1, which makes the score a sum of products of one number of the user's and one of the
        item's, as in a factorisation machine: less to learn where such products are the truth.

    Raises
    ------
    ValueError : a name that is no modality, a tower without one, or another number of layers.

    Source: Yi et al., RecSys 2019, doi 10.1145/3298689.3346996.
    """

    def __init__(self, widths: Mapping[str, int], hidden: int = 32, user: Collection[str] = (), layers: int = 2):
        super().__init__()
        if not 0 < len(set(user)) < len(widths) or not set(user) <= set(widths):
            raise ValueError(f"user must name some, not all, of the modalities {list(widths)}, got {list(user)}")
        if layers not in (1, 2):
            raise ValueError(f"a tower has 1 or 2 layers, got {layers}")
        self.names, self.hidden, self.layers = list(widths), hidden, layers
        self.of_user = torch.tensor([name in user for name in widths])
        self.user, self.item = (self._tower(widths, side) for side in (self.of_user, ~self.of_user))

    def _tower(self, widths: Mapping[str, int], side: torch.Tensor) -> nn.Sequential:
        width = sum(w for w, here in zip(widths.values(), side, strict=True) if here)
        below = [nn.Linear(width, self.hidden), nn.ReLU()] if self.layers == 2 else []
        return nn.Sequential(*below, nn.Linear(self.hidden if below else width, self.hidden + 1))

    def vectors(self, inputs: dict[str, torch.Tensor], present: torch.Tensor, *, of_user: bool) -> torch.Tensor:
        """Vectors of one side, ``(n, hidden + 1)``, the last number its bias; reads the modalities of that side only.

        ``present`` is ``(n, n_modalities of that side)``.
        """
        names = [name for name, here in zip(self.names, self.of_user == of_user, strict=True) if here]
        side = self.user if of_user else self.item
        return side(torch.cat(_absent_is_zero(names, inputs, present), dim=1))

    def forward(self, inputs: dict[str, torch.Tensor], present: torch.Tensor) -> Fused:
        """Fuse a batch into ``(n, hidden + 2)``; there are no gates."""
        user = self.vectors(inputs, present[:, self.of_user], of_user=True)
        item = self.vectors(inputs, present[:, ~self.of_user], of_user=False)
        dot = user[:, :-1] * item[:, :-1] / self.hidden**0.5
        return torch.cat([dot, user[:, -1:], item[:, -1:]], dim=1), None
