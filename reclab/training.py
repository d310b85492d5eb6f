"""One training loop on Accelerate for the language models: it resumes, and runs on any number of
processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from .errors import ReclabError
from .profiles import Profile

_WARM_UP, _CLIP = 0.1, 1.0
_DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)


def train(
    module: nn.Module,
    batches: Sequence[np.ndarray],
    loss: Callable[[nn.Module, np.ndarray], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    profile: Profile,
    *,
    run: str = "",
    checkpoint: str | Path | None = None,
    save_every: int = 50,
    stop_after: int | None = None,
    after_step: Callable[[int], dict[str, float] | None] | None = None,
    trackers: Sequence = (),
) -> pd.DataFrame:
    """Train a module in place: linear warm-up and decay, gradients clipped, one optimiser step a
    batch.

    A batch is computed in ``profile.micro_batches`` parts whose gradients add up, so that it needs
    the memory of one part only. Under ``torchrun`` the processes share the parts out. Dropout is
    drawn anew for each part from the seed, the step and the part, so neither an interruption nor
    the number of processes changes what is drawn.

    Parameters
    ----------
    batches : row numbers of each step's batch.
    loss : mean loss of the module over some rows, a scalar; called in the profile's precision.
    run : what this run is made of; a checkpoint of another one is refused.
    checkpoint : file to resume from and to save to every ``save_every`` steps. The one before it is
        kept as ``<name>.previous`` and taken, with a warning, where the newest was cut short.
    stop_after : stop after this step, as if interrupted; None goes to the end.
    after_step : called with the number of steps done, before gradients are cleared; what it returns
        joins the history.
    trackers : trackers of `accelerate.tracking`, such as ``TensorBoardTracker``; each gets the
        history row by row.

    Returns: One row a step: ``loss`` (mean over the batch), ``learning_rate``, ``seconds`` since
        the start, and what ``after_step`` gave.

    Raises ReclabError: no checkpoint can be read or it is of another run; or the parts cannot be
        shared out evenly.

    Source: Micikevicius et al., Mixed Precision Training (2018), arXiv 1710.03740.
    """
    return_memory()
    accelerator = _accelerator(profile, trackers)
    n_parts = _parts(profile, accelerator.num_processes)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warm_up_then_decay(step, len(batches))
    )
    prepared, optimizer = accelerator.prepare(module, optimizer)
    state = {"module": module, "optimizer": optimizer, "scheduler": scheduler}
    if accelerator.scaler is not None:
        state["scaler"] = accelerator.scaler
    history = restore(checkpoint, run, state)
    start = time.perf_counter() - (history[-1]["seconds"] if history else 0.0)
    for step in range(
        len(history), len(batches) if stop_after is None else min(stop_after, len(batches))
    ):
        prepared.train()  # whatever looked at the model in between
        row = {
            "loss": _backward(
                accelerator, prepared, loss, batches[step], n_parts, (profile.seed, step)
            )
        }
        accelerator.clip_grad_norm_(prepared.parameters(), _CLIP)
        optimizer.step()
        row |= {"learning_rate": scheduler.get_last_lr()[0], "seconds": time.perf_counter() - start}
        scheduler.step()
        row |= (after_step and after_step(step + 1)) or {}
        optimizer.zero_grad()
        history.append(row)
        if trackers:
            accelerator.log(_numbers(row), step=step + 1)
        if checkpoint and (step + 1) % save_every == 0 and accelerator.is_main_process:
            save(checkpoint, run, state, history)
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    return_memory()
    return pd.DataFrame([_numbers(row) for row in history])


def return_memory() -> None:
    """Give memory that nothing uses any more back to the system; without glibc, only what Python
    itself gives back.

    Tensors of many sizes leave gaps that glibc keeps: several fits in one notebook would add up.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # macOS, Windows, musl
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def warm_up_then_decay(step: int, steps: int) -> float:
    """Factor of the learning rate: up over the first tenth of the steps, then down to 0 in a
    straight line.
    """
    warm = max(1, round(_WARM_UP * steps))
    return (step + 1) / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))


def _accelerator(profile: Profile, trackers: Sequence = ()):
    """Accelerate's view of this process: device, precision, the other processes of a ``torchrun``,
    and the trackers.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # Accelerate keeps a process's first settings: without this, a second fit could change neither
    # precision nor device.
    AcceleratorState._reset_state(reset_partial_state=True)
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if asked > 1 and not os.environ.keys() >= {
        "RANK",
        "LOCAL_RANK",
        "MASTER_ADDR",
    }:  # else it waits for the others
        raise ReclabError(
            f"{asked} processes were asked for, but not started; start them with torchrun "
            "--nproc_per_node"
        )
    options = {"log_with": list(trackers)} if trackers else {}
    accelerator = Accelerator(
        mixed_precision=profile.precision, cpu=profile.device == "cpu", **options
    )
    accelerator.init_trackers("reclab")
    return accelerator


def to_device(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """A batch on the device; to a GPU through pinned memory, so that the copy runs beside the
    computation.
    """
    if device.type != "cuda":
        return {name: part.to(device) for name, part in batch.items()}
    return {name: part.pin_memory().to(device, non_blocking=True) for name, part in batch.items()}


def save(path: str | Path, run: str, state: dict, history: list[dict]) -> None:
    """Write a checkpoint under a temporary name, keep the one before it as ``<name>.previous``,
    then rename.
    """
    path, temporary = Path(path), Path(f"{path}.part")
    history[:] = [_numbers(row) for row in history]
    parts = {name: part.state_dict() for name, part in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("wb") as file:
        torch.save(parts | {"run": run, "history": history}, file)
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileNotFoundError):
        path.replace(f"{path}.previous")
    temporary.replace(path)


def restore(path: str | Path | None, run: str, state: dict) -> list[dict]:
    """Load the newest whole checkpoint into ``state`` and return its history; an empty one where
    there is none.

    Raises ReclabError: every file is damaged, or the checkpoint is of another run.
    """
    files = (
        []
        if path is None
        else [file for file in (Path(path), Path(f"{path}.previous")) if file.is_file()]
    )
    kept, damaged = None, None
    for file in files:
        try:
            kept = _read(file)
            break
        except _DAMAGE:
            if file == files[-1]:
                raise ReclabError(
                    f"checkpoint {path} is damaged; delete it to start from the first step"
                ) from None
            warnings.warn(
                f"checkpoint {file} is damaged; going on from the one before it", stacklevel=3
            )
            damaged = file
    if kept is None:
        return []
    if not isinstance(kept, dict) or kept.get("run") != run:
        raise ReclabError(
            f"checkpoint {path} is of another run; delete it or give that run's texts and settings"
        )
    for name, part in state.items():
        part.load_state_dict(kept[name])
    if damaged:  # else the next save would put it in the place of the whole one
        damaged.unlink(missing_ok=True)
    return kept["history"]


def _read(file: Path) -> dict:
    """A checkpoint whose checksums are right; torch writes them, but does not look at them when it
    loads.
    """
    with zipfile.ZipFile(file) as parts:
        if name := parts.testzip():
            raise zipfile.BadZipFile(f"{name} in {file} is damaged")
    return torch.load(file, map_location="cpu", weights_only=True)


def _numbers(row: dict) -> dict[str, float]:
    """A row of the history off the device, where its loss stays until somebody asks."""
    return {name: float(value) for name, value in row.items()}


def _parts(profile: Profile, processes: int) -> int:
    parts = max(profile.micro_batches, processes)
    if parts % processes:
        raise ReclabError(
            f"{profile.micro_batches} micro-batches cannot be shared out evenly among {processes} "
            "processes; "
            "make one a multiple of the other"
        )
    return parts


def _backward(
    accelerator, module, loss, batch: np.ndarray, n_parts: int, draw: tuple[int, int]
) -> torch.Tensor:
    """Gradients of one batch, part by part; returns its mean loss, on the device."""
    total = torch.zeros((), device=accelerator.device)
    parts = list(enumerate(np.array_split(batch, n_parts)))[
        accelerator.process_index :: accelerator.num_processes
    ]
    for number, rows in parts:
        torch.manual_seed(int(np.random.SeedSequence([*draw, number]).generate_state(1)[0]))
        # A small last batch may leave a part empty; its process still has to meet the others in the
        # gradient.
        share = len(rows) / len(batch)
        waits = contextlib.nullcontext() if number == parts[-1][0] else accelerator.no_sync(module)
        with waits:
            with accelerator.autocast():
                mean = loss(module, rows if len(rows) else batch[:1])
            # Accelerate averages gradients over the processes, so each one's share counts once for
            # every process.
            accelerator.backward(mean * share * accelerator.num_processes)
        total += mean.detach() * share
    return accelerator.reduce(total, reduction="sum") if accelerator.num_processes > 1 else total
