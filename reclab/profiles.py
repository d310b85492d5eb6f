"""How large a run is: the laptop profile for two cores, the gpu profile for a Colab T4 and up.

Code takes its sizes from the profile, so the same notebook runs in both places without a branch.
"""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass, replace

from .errors import ReclabError, UnknownNameError

_PRECISIONS = ("no", "bf16", "fp16", "auto")


@dataclass(frozen=True)
class Profile:
    """The sizes of a run.

    Attributes
    ----------
    name : ``laptop`` or ``gpu``.
    model : name of the pretrained encoder in `reclab.assets`.
    n_reviews : labelled reviews for the fine-tune.
    n_reviews_quick : labelled reviews for the two-minute loop of notebook 00.
    max_length : tokens kept of each text.
    batch_size : texts in a training batch.
    micro_batches : parts that a batch is computed in, one after the other, to save memory.
    epochs : passes over the training texts.
    replications : independent repetitions of each bandit simulation.
    horizon : rounds of each bandit simulation.
    bootstrap : bootstrap resamples behind each interval.
    mixed_precision : ``no``, ``bf16`` or ``fp16``, as Accelerate names them, or ``auto``: what the device is good at.
    seed : seed of everything that is drawn at random, except the splits, which belong to the data.
    """

    name: str
    model: str
    n_reviews: int
    n_reviews_quick: int
    max_length: int
    batch_size: int
    epochs: int
    replications: int
    horizon: int
    bootstrap: int
    micro_batches: int = 1
    mixed_precision: str = "no"
    seed: int = 0

    @property
    def device(self) -> str:
        """``cuda`` on the gpu profile where there is one, else ``cpu``; the laptop profile stays on the CPU,
        so that its stored outputs hold on a machine with a GPU too."""
        if self.name != "gpu":
            return "cpu"
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def precision(self) -> str:
        """The mixed precision to train in, ``no``, ``bf16`` or ``fp16``, with ``auto`` resolved for this device.

        A CPU without bf16 instructions would be many times slower in bf16: it computes in float32, with a warning.
        """
        import torch

        wanted = self.mixed_precision
        if self.device == "cuda":
            if wanted != "auto":
                return wanted
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        if wanted == "no":
            return "no"
        if cpu_has_bf16():
            return "bf16"
        if wanted != "auto":
            warnings.warn(f"this CPU has no bf16 instructions: {wanted} is replaced by float32", stacklevel=2)
        return "no"

    def __str__(self) -> str:
        return (
            f"profile {self.name}: {self.model}, up to {self.n_reviews:,} reviews of {self.max_length} tokens, "
            f"batches of {self.batch_size}, {self.epochs} epoch(s), mixed precision {self.mixed_precision}"
        )


PROFILES = {
    "laptop": Profile(
        name="laptop",
        model="minilm-l6",
        n_reviews=2_000,
        n_reviews_quick=320,
        max_length=128,
        batch_size=16,
        micro_batches=2,
        epochs=1,
        replications=500,
        horizon=2_000,
        bootstrap=1_000,
    ),
    "gpu": Profile(
        name="gpu",
        model="bert-base-cased",
        n_reviews=18_000,
        n_reviews_quick=2_000,
        max_length=128,
        batch_size=32,
        epochs=2,
        replications=2_000,
        horizon=10_000,
        bootstrap=4_000,
        mixed_precision="auto",
    ),
}


def get_profile(name: str | None = None, *, seed: int | None = None) -> Profile:
    """The profile in force: the argument, else ``RECLAB_PROFILE``, else gpu on Colab with CUDA, else laptop.

    ``RECLAB_PRECISION`` (``no``, ``bf16``, ``fp16`` or ``auto``) replaces the profile's precision. ``RECLAB_MODEL``,
    an encoder's name in `reclab.assets`, replaces its model: for the gpu profile where the hub cannot be reached, say.

    Parameters
    ----------
    name : a key of `PROFILES`.
    seed : overrides ``RECLAB_SEED`` (an integer from 0 to 4294967295), whose default is 0.

    Raises UnknownNameError: no such profile.
    Raises ReclabError: ``RECLAB_SEED`` is no whole number from 0 to 4294967295, or ``RECLAB_PRECISION`` is unknown.
    """
    name = name or os.environ.get("RECLAB_PROFILE") or ("gpu" if _colab_with_cuda() else "laptop")
    if name not in PROFILES:
        raise UnknownNameError("profile", name, PROFILES)
    if seed is None:
        text = os.environ.get("RECLAB_SEED") or "0"
        if not (text.isdecimal() and len(text) <= 10 and int(text) < 2**32):  # what numpy and pandas take
            raise ReclabError(f"RECLAB_SEED must be a whole number from 0 to 4294967295, got {text!r}")
        seed = int(text)
    precision = os.environ.get("RECLAB_PRECISION") or PROFILES[name].mixed_precision
    if precision not in _PRECISIONS:
        raise ReclabError(f"RECLAB_PRECISION must be one of {', '.join(_PRECISIONS)}, got {precision!r}")
    model = os.environ.get("RECLAB_MODEL") or PROFILES[name].model
    return replace(PROFILES[name], seed=seed, mixed_precision=precision, model=model)


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 matrices in hardware (avx512_bf16 or amx), else float32 is faster."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _colab_with_cuda() -> bool:
    if "google.colab" not in sys.modules:
        return False
    import torch

    return torch.cuda.is_available()
