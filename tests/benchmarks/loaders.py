"""Measure the loaders of full-size files: speed, memory and growth on a million reviews.

    python tests/benchmarks/loaders.py [--check] [--rows N]

The reviews are generated in the format of Amazon Reviews 2023. "Plain" is a loop over the lines of the gzip file with
``json.loads``. Seconds are CPU seconds of one process; memory is the peak of a process that does nothing else. Prints
one JSON object a line; ``bar`` is the least that is asked of a number or the most that is allowed of it. With
``--check`` the exit status is 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import raw_files
from measures import report, row

ROWS, TURNS = 1_000_000, 3
SHARES = (0.25, 0.5, 1)
PEAK, SPEED, GROWTH = 1024, 0.45, 1.2  # MiB, share of the plain parse, cost a row at the largest over the smallest

# What a process of its own does with its arguments; it prints a JSON object, with its CPU seconds and its peak.
PLAIN = "rows = sum(1 for line in gzip.open(sys.argv[1]) if json.loads(line))"
STREAM = "rows = sum(map(len, full.amazon_reviews(sys.argv[1])))"
PARTS = "rows = data.to_parquet(full.amazon_reviews(sys.argv[1]), sys.argv[2]).rows"
OTHERS = {
    "ratings.csv": "rows = sum(map(len, full.movielens_ratings(sys.argv[1])))",
    "ratings.dat": "rows = sum(map(len, full.movielens_ratings(sys.argv[1])))",
    "own.csv": "rows = len(data.load_csv(sys.argv[1]).interactions)",
    "all.csv": "rows = sum(map(len, data.open_bandit_log(sys.argv[1])))",
    "behaviors.tsv": "rows = sum(map(len, full.mind_impressions(sys.argv[1])))",
}
PROCESS = """
import faulthandler, gzip, json, resource, sys, time
from pathlib import Path
faulthandler.enable()
from reclab import data
from reclab.data import full
start = time.process_time()
{work}
seconds = time.process_time() - start
status = Path("/proc/self/status")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
if status.is_file():  # the other number may be that of the process which started this one
    peak = int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({{"rows": rows, "seconds": seconds, "peak": peak}}))
"""


def alone(work: str, *arguments: object) -> dict:
    """Rows, CPU seconds and peak MiB of a process that does only this."""
    code = PROCESS.format(work=work)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def write_sizes(folder: Path, rows: int) -> list[tuple[int, Path]]:
    """The same reviews in three gzip files, of which each is the start of the next."""
    rng = random.Random(0)
    sizes = [(int(rows * share), folder / f"reviews-{share}.jsonl.gz") for share in SHARES]
    with ExitStack() as stack:
        files = [(size, stack.enter_context(gzip.open(path, "wb", compresslevel=5))) for size, path in sizes]
        for number in range(rows):
            line = json.dumps(raw_files.review_2023(rng, number)).encode() + b"\n"
            for size, file in files:
                if number < size:
                    file.write(line)
    return sizes


def measure_reviews(folder: Path, rows: int) -> Iterator[dict]:
    """Speed against the plain parse, peak memory, and growth over three sizes."""
    sizes = write_sizes(folder, rows)
    largest = sizes[-1][1]
    plain, stream = zip(*[(alone(PLAIN, largest), alone(STREAM, largest)) for _ in range(TURNS)], strict=True)
    assert {run["rows"] for run in (*plain, *stream)} == {rows}
    seconds = [statistics.median(run["seconds"] for run in runs) for runs in (plain, stream)]
    yield row("reviews", rows, "rows") | {"bytes": largest.stat().st_size}
    yield row("plain gzip + JSON parse", seconds[0], "CPU s")
    yield row("full.amazon_reviews", seconds[1], "CPU s")
    yield row("speed of full.amazon_reviews / plain parse", seconds[0] / seconds[1], "times", least=SPEED)
    yield row("peak memory of full.amazon_reviews", max(run["peak"] for run in stream), "MiB", most=PEAK)
    smaller = [(size, [alone(STREAM, path) for _ in range(TURNS)]) for size, path in sizes[:-1]]
    yield from growth("full.amazon_reviews", [*smaller, (rows, list(stream))], 1.2)
    kept = [(size, [alone(PARTS, path, folder / f"parts-{size}")]) for size, path in sizes]
    yield from growth("data.to_parquet", kept, 2)  # a sixteenth of the rows is in memory at once
    yield row("peak memory of data.to_parquet", kept[-1][1][0]["peak"], "MiB", most=PEAK)


def growth(name: str, runs: list[tuple[int, list[dict]]], memory: float) -> Iterator[dict]:
    """CPU microseconds a row at each size, and how cost and memory of the largest compare with the smallest."""
    costs = [min(run["seconds"] for run in turns) / size * 1e6 for size, turns in runs]
    peaks = [min(run["peak"] for run in turns) for _, turns in runs]
    for (size, _), cost, peak in zip(runs, costs, peaks, strict=True):
        yield row(f"{name}, {size:,} rows", cost, "CPU µs a row") | {"peak_MiB": round(peak)}
    yield row(f"{name}: cost a row, largest / smallest", costs[-1] / costs[0], "times", most=GROWTH)
    yield row(f"{name}: peak memory, largest / smallest", peaks[-1] / peaks[0], "times", most=memory)


def measure_others(folder: Path, rows: int) -> Iterator[dict]:
    """Rows a CPU second of the other formats, and their peak."""
    rng = random.Random(1)
    rated = [
        f"{rng.randrange(9_999)},{rng.randrange(9_999)},{rng.randrange(1, 11) / 2},{10**9 + n}" for n in range(rows)
    ]
    own, csv, dat = folder / "own.csv", folder / "ratings.csv", folder / "ratings.dat"
    csv.write_text("userId,movieId,rating,timestamp\n" + "\n".join(rated) + "\n")
    own.write_text("user_id,item_id,rating,timestamp\n" + "\n".join(rated) + "\n")
    dat.write_text("\n".join(rated).replace(",", "::") + "\n")
    header, *log = raw_files.OPEN_BANDIT.splitlines(keepends=True)
    (folder / "all.csv").write_bytes(header + b"".join(log) * (rows // 10))
    (folder / "behaviors.tsv").write_bytes(raw_files.MIND["behaviors.tsv"] * (rows // 10))
    for name, work in OTHERS.items():
        run = alone(work, folder / name)
        yield row(f"{name}, {run['rows']:,} rows", run["rows"] / run["seconds"], "rows a CPU s") | {
            "peak_MiB": round(run["peak"])
        }
        yield row(f"{name}: peak memory", run["peak"], "MiB", most=PEAK)


def main(argv: list[str]) -> int:
    """Print the measurements; with ``--check``, return 1 where one misses its bar."""
    parser = argparse.ArgumentParser(description="Measure the loaders of full-size files.")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    parser.add_argument("--rows", type=int, default=ROWS, help="reviews that are generated")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="loaders-", ignore_cleanup_errors=True) as scratch:
        rows = chain(measure_others(Path(scratch), args.rows), measure_reviews(Path(scratch), args.rows))
        return report(rows, args.check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
