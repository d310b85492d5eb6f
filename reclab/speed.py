"""The same numbers, but for the last bits, in less time on a CPU: attention, products, weights in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from .profiles import quick_products


def attend(module: nn.Module, query, key, value, mask, scaling: float, dropout: float = 0.0, **_):
    """Attention as plain matrix products: (n, heads, length, d) each give (n, length, heads, d), and no weights.

    Scaling the queries costs less than scaling their products with the keys, of which there are more.

    Source: Vaswani et al., Attention Is All You Need (2017), arXiv 1706.03762, equation 1.
    """
    scores = (query * scaling) @ key.transpose(2, 3)
    weights = (scores if mask is None else scores.add_(mask)).softmax(-1)
    return (nn.functional.dropout(weights, dropout, module.training) @ value).transpose(1, 2), None


@contextmanager
def quick_attention(encoder: nn.Module, device: str) -> Iterator[None]:
    """Let a BERT on the CPU attend by `attend`: the same but for rounding, at a fraction of the time.

    PyTorch's fused kernel took a third of a prediction there, and a fifth to a quarter of a fit. A fit keeps the
    weights of its attention, which the fused kernel computes again: some 60 MiB more for texts of 128 tokens. An
    encoder that is not from transformers is left as it is.

    Parameters
    ----------
    device : ``cpu`` or ``cuda``, where the encoder is.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    if not hasattr(encoder, "set_attn_implementation"):
        yield
        return
    AttentionInterface.register("products", attend)
    AttentionMaskInterface.register("products", eager_mask)
    before = encoder.config._attn_implementation
    encoder.set_attn_implementation("products" if device == "cpu" else before)
    try:
        yield
    finally:
        encoder.set_attn_implementation(before)


@contextmanager
def quick(encoder: nn.Module, device: str) -> Iterator[None]:
    """Let an encoder on the CPU attend and multiply in the quicker way: `quick_attention`, `quick_products`."""
    with quick_attention(encoder, device), quick_products(device):
        yield


@contextmanager
def turned_weights(module: nn.Module) -> Iterator[None]:
    """Let the linear layers of a module read their weights as a product wants them: equal but for the last bits.

    A weight lies as (out, in), and each product with it reads it crosswise. Here a layer multiplies by a copy that lies
    as (in, out), and adds its bias to the product in place. That is a tenth quicker for float32 on a CPU, and holds
    each weight twice. The copies do not follow the weights: for predicting, not for training.
    """
    layers = [layer for layer in module.modules() if type(layer) is nn.Linear]
    for layer in layers:
        layer.forward = partial(_product, layer.weight.detach().t().contiguous(), layer.bias)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _product(weight: torch.Tensor, bias: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    return x @ weight if bias is None else (x @ weight).add_(bias)
