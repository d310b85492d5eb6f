"""How large a run is, and on what it runs: ``laptop`` for two cores, ``gpu`` for a Colab T4 and up.

Code takes its sizes from the profile, so the same notebook runs in both places without a branch.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from .errors import ReclabError, UnknownNameError

_PRECISIONS = ("no", "bf16", "fp16", "auto")


@dataclass(frozen=True)
class Profile:
    """The sizes of a run; those of ``laptop`` stand here."""

    name: str = "laptop"
    model: str = "minilm-l6"  # the pretrained encoder, by its name in `reclab.assets`
    n_reviews: int = 2_000  # labelled reviews for the fine-tune
    n_reviews_quick: int = 1_500  # the same under the frozen encoder of notebook 00
    max_length: int = 128  # tokens kept of each text
    batch_size: int = 16  # texts in a training batch
    micro_batches: int = 2  # parts that a batch is computed in, one by one, to save memory
    epochs: int = 1  # passes over the training texts
    replications: int = 500  # independent repetitions of each bandit simulation
    horizon: int = 2_000  # rounds of each bandit simulation
    bootstrap: int = 1_000  # resamples behind each interval
    mixed_precision: str = "no"  # or bf16, fp16, or auto: what the device is good at
    seed: int = 0  # of everything drawn at random, except the splits, which belong to the data

    @property
    def device(self) -> str:
        """``cuda`` on the gpu profile where there is one, else ``cpu``.

        The laptop profile stays on the CPU, so that its stored outputs hold beside a GPU too.
        """
        if self.name != "gpu":
            return "cpu"
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def precision(self) -> str:
        """The mixed precision to train in, with ``auto`` resolved for this device.

        A CPU without bf16 instructions computes in float32, with a warning: bf16 is slower there.
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
            warnings.warn(
                f"this CPU has no bf16 instructions: {wanted} is replaced by float32", stacklevel=2
            )
        return "no"

    def __str__(self) -> str:
        return (
            f"profile {self.name}: {self.model}, up to {self.n_reviews:,} reviews of "
            f"{self.max_length} tokens, batches of {self.batch_size}, {self.epochs} epoch(s), "
            f"mixed precision {self.mixed_precision}"
        )


PROFILES = {
    "laptop": Profile(),
    "gpu": Profile(
        name="gpu",
        model="bert-base-cased",
        n_reviews=18_000,
        n_reviews_quick=2_000,
        batch_size=32,
        micro_batches=1,
        epochs=2,
        replications=2_000,
        horizon=10_000,
        bootstrap=4_000,
        mixed_precision="auto",
    ),
}


def get_profile(name: str | None = None, *, seed: int | None = None) -> Profile:
    """The profile in force: the argument, else ``RECLAB_PROFILE``, else gpu on Colab, else laptop.

    Colab takes gpu by itself only where CUDA is at hand. ``RECLAB_PRECISION`` and ``RECLAB_MODEL``,
    an encoder's name in `reclab.assets`, replace the profile's own.

    seed : overrides ``RECLAB_SEED``, a whole number from 0 to 4294967295, whose default is 0.

    Raises UnknownNameError: no such profile.
    Raises ReclabError: ``RECLAB_SEED`` or ``RECLAB_PRECISION`` has another value than these.
    """
    name = name or os.environ.get("RECLAB_PROFILE") or ("gpu" if _colab_with_cuda() else "laptop")
    if name not in PROFILES:
        raise UnknownNameError("profile", name, PROFILES)
    if seed is None:
        text = os.environ.get("RECLAB_SEED") or "0"
        if not (text.isdecimal() and len(text) <= 10 and int(text) < 2**32):  # what numpy takes
            why = f"must be a whole number from 0 to 4294967295, got {text!r}"
            raise ReclabError(f"RECLAB_SEED {why}")
        seed = int(text)
    precision = os.environ.get("RECLAB_PRECISION") or PROFILES[name].mixed_precision
    if precision not in _PRECISIONS:
        why = f"must be one of {', '.join(_PRECISIONS)}, got {precision!r}"
        raise ReclabError(f"RECLAB_PRECISION {why}")
    model = os.environ.get("RECLAB_MODEL") or PROFILES[name].model
    return replace(PROFILES[name], seed=seed, mixed_precision=precision, model=model)


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 matrices in hardware (avx512_bf16 or amx)."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _colab_with_cuda() -> bool:
    if "google.colab" not in sys.modules:
        return False
    import torch

    return torch.cuda.is_available()


def cores_seen() -> int:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_granted(root: Path = Path("/")) -> float:
    """How many processors' time this process gets: a container's share may be less than it sees.

    root : holds ``proc`` and ``sys``, where Linux keeps the limits of control groups, old and new.
    """
    granted = float(cores_seen())
    for group in _control_groups("cpu", root):
        with suppress(OSError, ValueError):  # no such limit, or the word max
            if (group / "cpu.max").is_file():
                quota, period = (group / "cpu.max").read_text().split()
            else:
                quota = (group / "cpu.cfs_quota_us").read_text()
                period = (group / "cpu.cfs_period_us").read_text()
            if int(quota) > 0:
                granted = min(granted, int(quota) / int(period))
    return granted


def memory_granted(root: Path = Path("/")) -> int | None:
    """The bytes that this process's control groups may take together; None where nothing says."""
    limits = []
    for group in _control_groups("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):
                limits.append(int((group / name).read_text()))
    return min(limits, default=None)


def memory() -> tuple[int, int]:
    """The bytes that this process may take in all, and how many of them are free."""
    import psutil

    seen = psutil.virtual_memory()
    total = min(seen.total, memory_granted() or seen.total)
    return total, min(seen.available, total)


def _control_groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of the control groups that this process lies in; a limit of each counts."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            top = root / "sys/fs/cgroup" / (controller if controllers else "")
            for group in (PurePosixPath(path), *PurePosixPath(path).parents):
                yield top / group.relative_to("/")
