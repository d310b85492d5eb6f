"""What a run's numbers rest on: hashes of code and data, versions, and the machine."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path

from . import __version__
from .profiles import Profile

SCHEMA = 1
LIBRARIES = (
    *("numpy", "scipy", "pandas", "scikit-learn", "gensim", "matplotlib"),
    *("torch", "transformers", "accelerate", "peft", "captum", "gguf"),
)
# These run notebooks and write about them; no number in a notebook comes out of them.
TOOLING = {
    *("calibrate.py", "cli.py", "compare.py", "receipts.py", "report.py", "runner.py", "series.py"),
    *("verdicts.py", "verify.py"),
}
PROBE = """
import json, numpy, torch
cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
blas = f"{blas.get('name')} {blas.get('version')}"
print(json.dumps([torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), cuda, blas]))
"""


def code_hash(node) -> str:
    """The sha256 of the code cells that results can rest on, in order.

    Outputs, prose and the set-up cell do not count, and of the exercises only those whose answer the lesson uses.
    """
    from .needs import binds, uses

    code = [c for c in node.cells if c.cell_type == "code" and "setup" not in c.metadata.get("tags", [])]
    lesson = "\n".join(c.source for c in code if "nbgrader" not in c.metadata)
    answers = uses(lesson) - binds(lesson)
    cells = [c for c in code if "nbgrader" not in c.metadata or binds(c.source) & answers]
    return hashlib.sha256(json.dumps([c.source for c in cells]).encode()).hexdigest()


def source_hashes() -> dict[str, str]:
    """The sha256 of each Python file of the package and of its list of pinned data, by path."""
    package = Path(__file__).parent
    return {
        path.relative_to(package).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted([*package.rglob("*.py"), package / "assets.toml"])
    }


def source_hash(sources: dict[str, str] | None = None) -> str:
    """One sha256 over the files that a notebook's numbers can come from.

    Parameters
    ----------
    sources : what `source_hashes` gave, here or in the receipt of another run; None: those of this package.
    """
    sources = source_hashes() if sources is None else sources
    hashes = {name: value for name, value in sources.items() if name not in TOOLING}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions of reclab, Python and the libraries that compute; "not installed" for one that is missing."""
    found = {"reclab": __version__, "python": platform.python_version()}
    return found | {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # a run is not lost for a library that none of its notebooks needed
        return "not installed"


@cache
def machine() -> dict:
    """What of the machine can change a last digit: system, processor, vector instructions, BLAS, threads, GPU."""
    # A process of its own, so that torch does not stay in memory beside the notebooks.
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    capability, threads, cuda, blas = json.loads(probe.stdout) if probe.returncode == 0 else [None] * 4
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "cpu_capability": capability,
        "blas": blas,
        "threads": threads,
        "gpu": cuda,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def receipt(runs, profile: Profile, *, started: str, complete: bool) -> dict:
    """Everything that another person needs to compare their run with this one.

    Parameters
    ----------
    runs : list of `reclab.runner.Run`.
    started : when the run began, as ISO 8601.
    complete : whether every notebook that was asked for ran to its end.
    """
    from .assets import ASSETS

    return {
        "schema": SCHEMA,
        "started": started,
        "complete": complete,
        "profile": profile.name,
        "seed": profile.seed,
        "versions": versions(),
        "machine": machine(),
        "sources": source_hashes(),
        "assets": {name: {short: m.sha256 for short, m in asset.members.items()} for name, asset in ASSETS.items()},
        "notebooks": [_notebook(run) for run in runs],
        "results": [_result(result) for run in runs for result in run.results.values()],
    }


def _notebook(run) -> dict:
    return {
        "name": run.name,
        "code": code_hash(run.node),
        "ok": run.ok,
        "error": run.error,
        "seconds": round(run.seconds, 2),
        "peak_mib": round(run.peak, 1),
    }


def _result(result) -> dict:
    return {key: _jsonable(value) for key, value in asdict(result).items()}


def _jsonable(value):
    """JSON has no NaN and no infinity: they are written as words."""
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
