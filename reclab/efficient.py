"""Fine-tuning a small part of a BERT: frozen lower layers, bottleneck adapters, LoRA, AdaLoRA."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from . import text
from .profiles import Profile

_TRAINED_SHARE = 1 / 3  # of the layers, the upper ones, with the method "frozen"
BOTTLENECK, RANK, FIRST_RANK = 48, 8, 12
_ATTENTION = ["query", "value"]  # what LoRA's paper adapts


class Adapter(nn.Module):
    """A layer's output, plus a small change of it: down to a few numbers, GELU, up again.

    It starts as the identity, so the pretrained model is where training begins.

    Source: Houlsby et al., Parameter-Efficient Transfer Learning (2019), arXiv 1902.00751; one a
    layer, as in Pfeiffer et al., AdapterFusion (2021), arXiv 2005.00247.
    """

    def __init__(self, output: nn.Module, width: int):
        super().__init__()
        self.output = output
        self.down, self.up = nn.Linear(width, BOTTLENECK), nn.Linear(BOTTLENECK, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        hidden = self.output(hidden, residual)
        return hidden + self.up(nn.functional.gelu(self.down(hidden)))


@dataclass(frozen=True)
class Method:
    """A way to fine-tune: what it does to the encoder, given the number of steps, and its learning
    rate.
    """

    prepare: Callable[[nn.Module, int], nn.Module]
    lr: float


def freeze_embeddings(encoder: nn.Module, steps: int = 0) -> nn.Module:
    """Train all but the table of word vectors, which hardly moves in one pass."""
    encoder.embeddings.requires_grad_(False)
    return encoder


def freeze_lower(encoder: nn.Module, steps: int = 0) -> nn.Module:
    """Train the upper third of the layers only."""
    encoder.requires_grad_(False)
    encoder.encoder.layer[n_frozen(encoder) :].requires_grad_(True)
    return encoder


def add_adapters(encoder: nn.Module, steps: int = 0) -> nn.Module:
    """Freeze a BERT and give each layer an `Adapter`."""
    encoder.requires_grad_(False)
    for layer in encoder.encoder.layer:
        layer.output = Adapter(layer.output, encoder.config.hidden_size)
    return encoder


def add_lora(encoder: nn.Module, steps: int = 0) -> nn.Module:
    """Freeze an encoder and add a product of two thin matrices to its query and value weights.

    Source: Hu et al., LoRA (2022), arXiv 2106.09685.
    """
    from peft import LoraConfig

    return _with_peft(encoder, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=_ATTENTION))


def add_adalora(encoder: nn.Module, steps: int) -> nn.Module:
    """Freeze an encoder and add LoRA matrices whose ranks are cut, during training, where they
    matter least.

    Raises ValueError: there is only one step.

    Source: Zhang et al., AdaLoRA: Adaptive Budget Allocation (2023), arXiv 2303.10512.
    """
    from peft import AdaLoraConfig

    if steps < 2:
        raise ValueError(
            f"adalora needs at least 2 steps to weigh its ranks, got {steps}; give more texts or "
            "epochs"
        )
    ranks = {"init_r": FIRST_RANK, "target_r": RANK, "lora_alpha": 2 * RANK}
    config = AdaLoraConfig(
        **ranks, target_modules=_ATTENTION, tinit=steps // 10, tfinal=steps // 3, total_step=steps
    )
    encoder = _with_peft(encoder, config)
    encoder.importance = _Importance(encoder.base_model)
    return encoder


METHODS = {
    "full": Method(freeze_embeddings, 5e-5),
    "frozen": Method(freeze_lower, 3e-4),
    "adapter": Method(add_adapters, 1e-3),
    "lora": Method(add_lora, 3e-3),
    "adalora": Method(add_adalora, 1.5e-2),
}


def orthogonality(encoder: nn.Module) -> torch.Tensor:
    """AdaLoRA's penalty: how far its matrices are from having orthogonal directions, times its
    weight; a scalar.

    Source: Zhang et al. (2023), arXiv 2303.10512, equation 4.
    """
    squares = [p @ p.T for name, p in encoder.named_parameters() if "lora_A" in name]
    squares += [p.T @ p for name, p in encoder.named_parameters() if "lora_B" in name]
    gaps = [torch.linalg.matrix_norm(s - torch.eye(len(s), device=s.device)) for s in squares]
    return encoder.peft_config["default"].orth_reg_weight * torch.stack(gaps).mean()


def merged(encoder: nn.Module) -> nn.Module:
    """The encoder with LoRA's matrices added into its weights: the same answers, and a plain BERT
    again.
    """
    return encoder.merge_and_unload() if hasattr(encoder, "merge_and_unload") else encoder


def n_frozen(encoder: nn.Module) -> int:
    """How many of the lower layers the method "frozen" leaves as they are."""
    layers = encoder.config.num_hidden_layers
    return layers - max(1, round(_TRAINED_SHARE * layers))


def split(encoder: nn.Module, at: int | None = None) -> tuple[nn.Module, nn.Module]:
    """The lower part of a BERT, and the upper part, which takes the lower one's output as
    ``inputs_embeds``.

    Both share their layers with the whole: training the upper part trains the encoder.

    Parameters
    ----------
    at : layers of the lower part; None: those that the method "frozen" leaves as they are.
    """
    at = n_frozen(encoder) if at is None else at
    lower, upper = copy.copy(encoder), copy.copy(encoder)
    for part in (lower, upper):  # a copy of the shell; weights stay shared
        part._modules = dict(encoder._modules)
        part.encoder = copy.copy(encoder.encoder)
        part.encoder._modules = dict(encoder.encoder._modules)
    lower.encoder.layer = encoder.encoder.layer[:at]
    upper.encoder.layer = encoder.encoder.layer[at:]
    upper.embeddings = _PassOn()
    return lower, upper


def lower_output(
    lower: nn.Module, tokens: list[list[int]], pad_id: int, profile: Profile
) -> list[torch.Tensor]:
    """What the frozen layers make of each text, computed once: n tensors (tokens of the text,
    width) in half precision.

    They need 2 bytes a number: 2,000 reviews of 77 tokens and 384 numbers take 118 MB.
    """
    device = torch.device(profile.device)
    lower = lower.to(device).eval()
    kept: list[torch.Tensor] = [torch.empty(0)] * len(tokens)
    with torch.inference_mode(), text.autocast(device, profile.precision):
        for rows, batch in text.padded_batches(tokens, pad_id):
            hidden = (
                lower(**{name: part.to(device) for name, part in batch.items()})
                .last_hidden_state.half()
                .cpu()
            )
            for row, vectors in zip(rows, hidden, strict=True):
                kept[row] = vectors[: len(tokens[row])].clone()
    return kept


def pad_output(outputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch of `lower_output` for the upper part: ``inputs_embeds`` (n, length, width) and
    ``attention_mask``.
    """
    mask = text.pad([[0] * len(part) for part in outputs])["attention_mask"]
    embeds = torch.zeros(*mask.shape, outputs[0].shape[1])
    for row, part in enumerate(outputs):
        embeds[row, : len(part)] = part
    return {"inputs_embeds": embeds, "attention_mask": mask}


def trained_parameters(module: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _with_peft(encoder: nn.Module, config) -> nn.Module:
    from peft import get_peft_model

    with warnings.catch_warnings():
        # peft asks transformers for a name that is on its way out; no reader of a notebook can mend
        # that.
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
        return get_peft_model(encoder, config)


class _Importance(nn.Module):
    """What AdaLoRA remembers between steps apart from its weights: in the state of the model, so
    that it can resume.
    """

    def __init__(self, tuner: nn.Module):
        super().__init__()
        self.tuner = [tuner]  # a list hides it: a module must not be a part of its own part

    def get_extra_state(self) -> dict:
        allocator = self.tuner[0].rankallocator
        averages = {
            name: getattr(allocator, name) for name in ("ipt", "exp_avg_ipt", "exp_avg_unc")
        }
        return averages | {"rank_pattern": allocator.peft_config.rank_pattern}

    def set_extra_state(self, kept: dict) -> None:
        allocator = self.tuner[0].rankallocator
        device = next(self.tuner[0].parameters()).device
        allocator.peft_config.rank_pattern = kept.pop("rank_pattern")
        for name, averages in kept.items():
            setattr(allocator, name, {key: value.to(device) for key, value in averages.items()})


class _PassOn(nn.Module):
    """Stands where a BERT has its embeddings, and hands on what it is given."""

    def forward(self, inputs_embeds: torch.Tensor, **_) -> torch.Tensor:
        return inputs_embeds
