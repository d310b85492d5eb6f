"""What the benchmarks share: rows of results, CPU seconds, how fast this CPU multiplies matrices, stored tables."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:  # loaded where it is used: workers of a cluster import the script that started them
    import torch

from reclab import receipts, results
from reclab.errors import ReclabError


def row(name: str, value: float | None, unit: str, *, least: float | None = None, most: float | None = None) -> dict:
    """One measurement, with the least or the most that is asked of it; a value of None was not measured here."""
    bar = least if most is None else most
    missed = value is not None and ((least is not None and value < least) or (most is not None and value > most))
    rounded = None if value is None else float(f"{value:.4g}")
    return {"name": name, "value": rounded, "unit": unit, "bar": bar, "ok": not missed}


def report(lines: Iterable[dict], check: bool) -> int:
    """Print each measurement as a JSON object; returns 1 where ``check`` is asked for and a bar is missed, else 0."""
    missed = 0
    for line in lines:
        print(json.dumps(line), flush=True)
        missed += not line["ok"]
    return int(check and missed > 0)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def take_turns(*ways: Callable[[], object], rounds: int, repeats: int = 1) -> np.ndarray:
    """CPU seconds of one call of each way, (rounds, ways): what else the machine does meets them all alike."""

    def seconds(way: Callable[[], object]) -> float:
        return cpu_seconds(lambda: [way() for _ in range(repeats)]) / repeats

    return np.array([[seconds(way) for way in ways] for _ in range(rounds)])


def peak_mib() -> float:
    """The largest resident memory that this process has had, in MiB; NaN where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text("utf-8").splitlines() if status.is_file() else []
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else float("nan")


def forward_flops(config, lengths: Sequence[int]) -> float:
    """Floating-point operations of matrix products of a BERT over texts of these (padded) lengths."""
    width, inner = config.hidden_size, config.intermediate_size
    n = np.asarray(lengths, float)
    linear = 2 * n * (4 * width * width + 2 * width * inner)
    attention = 2 * 2 * n * n * width
    return float(config.num_hidden_layers * (linear + attention).sum())


def gemm_peak(config, kind: torch.dtype, rows: int = 1024, repeats: int = 20) -> float:
    """FLOP a CPU second of the model's own matrix products, each at its fastest of some runs."""
    import torch

    width, inner = config.hidden_size, config.intermediate_size
    flops = seconds = 0.0
    with torch.inference_mode():
        for out, into in ((width, width), (inner, width), (width, inner)):
            inputs, weights = torch.randn(rows, into).to(kind), torch.randn(out, into).to(kind)
            seconds += min(cpu_seconds(lambda a=inputs, w=weights: a @ w.T) for _ in range(repeats))
            flops += 2 * rows * out * into
    return flops / seconds


def operators(work: Callable[[], object], most: int = 12) -> str:
    """The operators that take most of the CPU's time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as found:
        work()
    table = found.key_averages().table(sort_by="self_cpu_time_total", row_limit=most, max_name_column_width=48)
    return "operators by their own CPU time\n" + table


def store(name: str, frame: pd.DataFrame, *, command: str, seeds: Iterable[int], seconds: float) -> None:
    """Store a table of at least one row, the first column of which names the rows, with its receipt.

    name : such as ``02_methods``: the notebook's number first. seconds : wall time of making it.
    """
    csv, receipt_path = results.table_files(name)
    if frame.empty:
        raise ReclabError(f"the table {name!r} has no row to store; see why `{command}` made none")
    content = frame.to_csv(index=False, lineterminator="\n").encode("utf-8")
    machine = receipts.machine()
    # What of the machine matters to seconds and last digits; not the machine's own name or kernel.
    device = {key: machine[key] for key in ("processor", "processors", "threads", "gpu")}
    receipt = {
        "command": command,
        "seeds": [int(seed) for seed in seeds],
        "seconds": round(float(seconds), 1),
        "device": {"system": f"{platform.system()} {platform.machine()}"} | device,
        "versions": receipts.versions(),
        "source": receipts.source_hash(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    results.write_atomically(csv, content)  # the receipt last: cut off in between, the two do not match
    results.write_atomically(receipt_path, json.dumps(receipt, indent=1) + "\n")
