"""Small fine-tunes in processes of their own: one that is killed and started again, and one of two processes.

    python tests/benchmarks/one_fit.py FOLDER PARTS

fits, each batch in so many parts. It leaves ``checkpoint.pt`` in the folder every two steps, and at the end
``weights.safetensors`` and ``world``, the number of processes that worked together.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

REVIEWS, BATCH_SIZE, PATIENCE = 96, 8, 120


def fit(folder: Path, parts: int) -> None:
    """Fine-tune, and leave what came out."""
    import torch
    from safetensors.torch import save_file

    from reclab import data, finetune, get_profile

    torch.set_num_threads(1)
    sizes = {"batch_size": BATCH_SIZE, "micro_batches": parts, "max_length": 64, "mixed_precision": "no"}
    profile = dataclasses.replace(get_profile("laptop", seed=0), **sizes)
    reviews = data.clothing().interactions.sample(REVIEWS, random_state=0)
    checkpoint = {"checkpoint": folder / "checkpoint.pt", "save_every": 2}
    classifier = finetune.fit(list(reviews["text"]), list(reviews["positive"]), profile, **checkpoint)
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    if os.environ.get("RANK", "0") == "0":
        save_file(classifier.module.state_dict(), folder / "weights.safetensors")
        (folder / "world").write_text(str(world))
    if world > 1:
        torch.distributed.destroy_process_group()


def start(folder: Path, parts: int = 1, processes: int = 1) -> subprocess.Popen:
    """A fit in a process of its own, or in several that torchrun starts."""
    folder.mkdir(exist_ok=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(torchrun if processes > 1 else []), __file__, str(folder), str(parts)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})


def finish(folder: Path, parts: int = 1, processes: int = 1) -> dict:
    """The weights of a fit that went to its end.

    Raises
    ------
    subprocess.CalledProcessError : it failed.
    """
    from safetensors.torch import load_file

    process = start(folder, parts, processes)
    if code := process.wait():
        raise subprocess.CalledProcessError(code, process.args)
    return load_file(folder / "weights.safetensors")


def kill(folder: Path) -> bool:
    """Start a fit and kill it as soon as it has left a checkpoint; whether it was killed before its end."""
    process, deadline = start(folder), time.monotonic() + PATIENCE
    while process.poll() is None and not (folder / "checkpoint.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    return process.wait() == -signal.SIGKILL and (folder / "checkpoint.pt").is_file()


def largest_difference(a: dict, b: dict) -> float:
    """Over all weights of two fits."""
    if a.keys() != b.keys():
        raise ValueError("the two fits hold different weights")
    return max(float((a[name] - b[name]).abs().max()) for name in a)


if __name__ == "__main__":
    fit(Path(sys.argv[1]), int(sys.argv[2]))
