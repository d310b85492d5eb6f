"""Measure what the series costs: seconds and peak memory of each notebook, and of ``import reclab``.

    python tests/benchmarks/series.py [--check] [--store] [NN...]
    python tests/benchmarks/series.py [--check] --busy [NN...]

Each notebook runs on the laptop profile with an empty derived cache. Prints one JSON object a line; with
``--check`` the exit status is 1 where a bar is missed. ``--store`` keeps the outputs of each run in its notebook, the
receipt in ``notebooks/expected/laptop/receipts/``, and its seconds and MiB in the README's table: use a quiet machine.
``--busy`` runs notebooks, 02 and 05 where none is named, alone and then beside two busy loops, as on a server that a
class shares: use a quiet machine with two processors here, too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from measures import report, row

sys.path.append(str(Path(__file__).parents[1]))

import refresh_notebooks
from reclab import receipts
from reclab.errors import ReclabError
from reclab.profiles import get_profile
from reclab.results import find_notebooks, write_atomically
from reclab.run import Run, run_afresh

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
RECEIPTS = Path("expected", "laptop", "receipts")  # in the folder of the notebooks
README = NOTEBOOKS.parent / "README.md"
# Seconds on two quiet cores; each notebook is allowed half as much again.
BUDGETS = {"00": 60, "01": 30, "02": 150, "03": 90, "04": 90, "05": 120, "07": 60}
BUDGETS |= {"09": 45, "10": 75, "11": 90, "12": 120, "14": 120, "16": 120}
SLACK = 1.5
PEAK = 1.6 * 1024
IMPORT_SECONDS = 0.3
# Beside as many busy loops as there are processors, twice the quiet seconds would be a fair share.
BUSY, LOOPS, BUSY_BAR = ("02", "05"), 2, 3
# Asks now and then whether whoever started it is still there, so that a kill leaves no loop behind.
LOOP = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    sum(range(100_000))"
HEAVY = ("torch", "pandas")
IMPORT = f"""
import json, sys, time
start = time.perf_counter()
import reclab
print(json.dumps([time.perf_counter() - start, [name for name in {HEAVY} if name in sys.modules]]))
"""


def measure_import(processes: int = 5) -> Iterator[dict]:
    """Seconds of ``import reclab`` in fresh processes (their median), and the heavy modules that it loads."""
    done = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        for _ in range(processes)
    ]
    seconds, heavy = zip(*(json.loads(process.stdout) for process in done), strict=True)
    yield row("import reclab", statistics.median(seconds), "s", most=IMPORT_SECONDS)
    yield row(f"import reclab loads {' or '.join(HEAVY)}", len(set().union(*heavy)), "modules", most=0)


def measure_notebook(path: Path, store: bool = False) -> Iterator[dict]:
    """Seconds, peak MiB and failures of one notebook; keeps its outputs and its receipt where asked to."""
    started, profile = datetime.now(UTC).isoformat(timespec="seconds"), get_profile("laptop", seed=0)
    run = run_afresh(path, profile, refresh_notebooks.prepared(path) if store else None)
    budget = BUDGETS.get(run.number)
    yield row(f"{run.name} time", run.seconds, "s", most=budget and budget * SLACK)
    yield row(f"{run.name} peak memory", run.peak, "MiB", most=PEAK)
    yield row(f"{run.name} failures", bool(run.error) + len(run.outside), "failures", most=0)
    if store and run.ok:
        refresh_notebooks.store(path, run)
        keep(run, receipts.receipt([run], profile, started=started, complete=True), path.parent)


@contextmanager
def busy_loops(n: int = LOOPS) -> Iterator[None]:
    """Keep n processors busy, as other programs do; however the block ends, no loop is left."""
    loops = []
    try:
        for _ in range(n):
            loops.append(subprocess.Popen([sys.executable, "-c", LOOP, str(os.getpid())]))
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()


def measure_busy(path: Path) -> Iterator[dict]:
    """How many times a notebook's quiet seconds it takes beside busy loops, and whether it still gives its results."""
    profile = get_profile("laptop", seed=0)
    quiet = run_afresh(path, profile)
    yield row(f"{quiet.name} time", quiet.seconds, "s")
    with busy_loops():
        busy = run_afresh(path, profile)
    beside = f"{busy.name} beside {LOOPS} busy loops"
    yield row(f"{beside}: time", busy.seconds, "s")
    yield row(f"{beside}: share of its quiet time", busy.seconds / quiet.seconds, "times", most=BUSY_BAR)
    failures = sum(bool(run.error) + len(run.outside) for run in (quiet, busy))
    yield row(f"{beside}: failures", failures, "failures", most=0)


def keep(run: Run, receipt: dict, folder: Path, readme: Path = README) -> None:
    """Store the receipt of a run beside the bands, and say its seconds and MiB in the README."""
    file = folder / RECEIPTS / f"{run.number}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(receipt, indent=1) + "\n")
    write_atomically(readme, told(readme.read_text("utf-8"), receipt["notebooks"][0]))


def told(readme: str, notebook: dict) -> str:
    """The README with a notebook's budget, and the seconds and MiB of its receipt, in its row of the table."""
    name, budget = notebook["name"], BUDGETS.get(notebook["name"][:2], "")
    found = re.search(rf"(?m)^(\| \*\*{name}\*\* \|.*\|) *\d* \| *\d*( \(.*\))? \| [\d,]* *\|$", readme)
    if not found:
        raise ReclabError(f"the README's table has no row | **{name}** | ... | budget | seconds | MiB |")
    measured = f"{notebook['seconds']:.0f}{found[2] or ''} | {notebook['peak_mib']:,.0f}"
    return readme.replace(found[0], f"{found[1]} {budget} | {measured} |")


# What the first cell of a notebook may say of its time, and the seconds that it may take then.
SAID = {
    "under a minute": 60,
    "about a minute": 75,
    "under two minutes": 120,
    "under three minutes": 180,
    "about three minutes": 225,
    "under four minutes": 240,
    "under five minutes": 300,
}


def promised(first_cell: str) -> tuple[float, float]:
    """The seconds and MiB on the laptop profile that a notebook's first cell states, in words of `SAID`."""
    line = re.search(r"(?m)^\*\*Time and memory:\*\* ([a-z ]+?) and ([\d.]+) GiB", first_cell)
    if not line or line[1] not in SAID:
        raise ReclabError(f"the first cell has to say '**Time and memory:** {' / '.join(SAID)} and N GiB'")
    return SAID[line[1]], float(line[2]) * 1024


def main(argv: list[str], folder: Path = NOTEBOOKS) -> int:
    """Print the measurements; with ``--check``, return 1 where one misses its bar."""
    parser = argparse.ArgumentParser(description="Measure what the series costs.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--store", action="store_true", help="keep outputs and receipts, and say it in the README")
    parser.add_argument("--busy", action="store_true", help="measure notebooks beside busy loops instead")
    parser.add_argument("notebooks", nargs="*", metavar="NN")
    args = parser.parse_args(argv)
    if args.busy and args.store:
        parser.error("--store keeps what a quiet machine takes; leave out --busy")
    paths = find_notebooks(args.notebooks or (list(BUSY) if args.busy else []), folder)
    if not paths:
        parser.error(f"there are no notebooks in {folder}")
    if args.busy:
        measurements = [measure_busy(path) for path in paths]
    else:
        measurements = [measure_import(), *(measure_notebook(path, args.store) for path in paths)]
    return report(chain.from_iterable(measurements), args.check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
