"""Judge all prompts of notebooks 11 and 12 from none, and store the judgements or try the stored ones.

    python tests/benchmarks/judgements.py [--check]

The notebooks run with neither store nor cache, which takes minutes. Without ``--check`` what they judged becomes the
store; with it, the exit status is 1 where the store says otherwise, or where a bar of time or memory is missed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from reclab.profiles import get_profile
from reclab.results import write_atomically
from reclab.run import kernel_environment, run_notebook

ROOT = Path(__file__).parents[2]
STORE = ROOT / "notebooks" / "expected" / "judgements"
HEAD = "# key, log-probability of each answer, of the likeliest token, check"
TOLERANCE = 2e-3  # of a log-probability: another processor rounds otherwise
SECONDS = 600  # of each notebook
PEAK = {"11": 1.6 * 1024, "12": 1.8 * 1024}  # MiB; 12 holds a BERT beside the judge's weights, and a Binder 2 GB


def judge_all(scratch: Path) -> tuple[dict[str, str], list[str]]:
    """The lines of each store that the notebooks fill from none, and what is wrong with the runs."""
    copy = scratch / "copy"  # a checkout without the store, which a notebook looks for beside the package
    for part in ("reclab", "notebooks"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("judgements", "__pycache__"))
    env = kernel_environment(get_profile("laptop", seed=0), derived=scratch / "derived", ledger=scratch / "ledger")
    wrong = []
    for path in sorted((copy / "notebooks").glob("*_*.ipynb")):
        if (most := PEAK.get(path.stem[:2])) is None:
            continue
        run = run_notebook(path, env=env | {"PYTHONPATH": str(copy)})
        figures = f"{run.seconds:.0f} s (bar {SECONDS}), peak {run.peak:.0f} MiB (bar {most:.0f})"
        print(f"{path.stem} from none: {figures}", flush=True)
        wrong += [run.error] if run.error else [f"{result.key} is outside its band" for result in run.outside]
        wrong += ["too slow"] * (run.seconds > SECONDS) + ["too much memory"] * (run.peak > most)
    made = (scratch / "derived" / "judgements").glob("*.txt")
    return {path.name: "\n".join(sorted(filter(None, path.read_text("utf-8").split("\n")))) for path in made}, wrong


def numbers(store: str) -> dict[str, list[float]]:
    """The numbers of each key."""
    rows = [line.split() for line in store.splitlines() if line and not line.startswith("#")]
    return {key: [float(number) for number in row] for key, *row, _ in rows}


def differences(made: str, kept: str) -> list[str]:
    """How two stores differ; prints the largest difference."""
    one, two = numbers(made), numbers(kept)
    both = one.keys() & two.keys()
    gap = max((abs(a - b) for key in both for a, b in zip(one[key], two[key], strict=True)), default=0.0)
    print(f"{len(both)} judgements compared, largest difference {gap:.5f} (bar {TOLERANCE})")
    alone = len(one.keys() ^ two.keys())
    return [f"{alone} judgements stand in one store only"] * bool(alone) + ["too far apart"] * (gap > TOLERANCE)


def main(argv: list[str]) -> int:
    """Store the judgements, or with ``--check`` return 1 where something is wrong with them."""
    parser = argparse.ArgumentParser(description="Make or try the stored judgements.")
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args(argv).check
    with tempfile.TemporaryDirectory(prefix="judgements-", ignore_cleanup_errors=True) as folder:
        made, wrong = judge_all(Path(folder))
    wrong += ["nothing was judged"] * (not made)
    for name, lines in made.items():
        if check:
            wrong += differences(lines, (STORE / name).read_text("utf-8"))
        elif not wrong:
            write_atomically(STORE / name, f"{HEAD}\n{lines}\n")
    print("\n".join(wrong) or "the judgements hold")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
