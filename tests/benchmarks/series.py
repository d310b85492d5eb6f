"""Measure what the series costs: seconds and peak memory of each notebook, and of ``import reclab``.

    python tests/benchmarks/series.py [--check] [NN...]

Each notebook runs on the laptop profile with an empty derived cache. Prints one JSON object a line; with
``--check`` the exit status is 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reclab.profiles import get_profile
from reclab.runner import find_notebooks, kernel_environment, run_notebook

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
# Seconds on two quiet cores; each notebook is allowed half as much again.
BUDGETS = {"00": 60, "01": 45, "02": 150, "03": 90, "04": 90, "05": 120, "06": 60}
BUDGETS |= {"07": 45, "08": 75, "09": 90, "11": 120, "12": 120}
SLACK = 1.5
PEAK = 1.6 * 1024
IMPORT_SECONDS = 0.3
HEAVY = ("torch", "pandas")
IMPORT = f"""
import json, sys, time
start = time.perf_counter()
import reclab
print(json.dumps([time.perf_counter() - start, [name for name in {HEAVY} if name in sys.modules]]))
"""


def row(name: str, value: float, unit: str, bar: float | None) -> dict:
    """One measurement; ``bar`` is the most that is allowed (None: nothing is asked)."""
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "bar": bar,
        "ok": bar is None or value <= bar,
    }


def measure_import(processes: int = 5) -> Iterator[dict]:
    """Seconds of ``import reclab`` in fresh processes (their median), and the heavy modules that it loads."""
    done = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        for _ in range(processes)
    ]
    seconds, heavy = zip(*(json.loads(process.stdout) for process in done), strict=True)
    yield row("import reclab", statistics.median(seconds), "s", IMPORT_SECONDS)
    yield row(f"import reclab loads {' or '.join(HEAVY)}", len(set().union(*heavy)), "modules", 0)


def measure_notebook(path: Path) -> Iterator[dict]:
    """Seconds, peak MiB and failures of one notebook."""
    with tempfile.TemporaryDirectory(prefix="series-", ignore_cleanup_errors=True) as scratch:
        profile = get_profile("laptop", seed=0)
        env = kernel_environment(profile, derived=Path(scratch, "derived"), ledger=Path(scratch, "ledger"))
        run = run_notebook(path, env=env)
    budget = BUDGETS.get(run.number)
    yield row(f"{run.name} time", run.seconds, "s", budget and budget * SLACK)
    yield row(f"{run.name} peak memory", run.peak, "MiB", PEAK)
    yield row(f"{run.name} failures", bool(run.error) + len(run.outside), "failures", 0)


def main(argv: list[str], folder: Path = NOTEBOOKS) -> int:
    """Print the measurements; with ``--check``, return 1 where one misses its bar."""
    parser = argparse.ArgumentParser(description="Measure what the series costs.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("notebooks", nargs="*", metavar="NN")
    args = parser.parse_args(argv)
    ok = True
    paths = find_notebooks(args.notebooks, folder)
    if not paths:
        parser.error(f"there are no notebooks in {folder}")
    for measured in (measure_import(), *map(measure_notebook, paths)):
        for line in measured:
            ok &= line["ok"]
            print(json.dumps(line), flush=True)
    return int(args.check and not ok)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
