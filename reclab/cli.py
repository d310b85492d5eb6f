"""The command line: ``reclab run``, ``data``, ``calibrate``, ``verify``, ``release``, ``grade``."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from pathlib import Path

from . import __version__
from .errors import ReclabError, UnknownNameError
from .profiles import Profile, get_profile
from .series import find_notebooks, notebooks_folder

DATA = ("movielens-100k", "wikidata-films", "clothing-reviews", "open-bandit-small", "minilm-l6")
_FAILED, _MISUSED, _STOPPED = 1, 2, 130


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit status: 0, 1 for a failure, 2 for a wrong name, 130 for Ctrl-C.

    argv : the words after ``reclab``; those of the command line where None.
    """
    args = parser().parse_args(argv)
    try:
        return args.command(args)
    except UnknownNameError as error:
        return _complain(error, _MISUSED)
    except ReclabError as error:
        return _complain(error, _FAILED)
    except KeyboardInterrupt:
        return _complain("stopped by Ctrl-C", _STOPPED)


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="reclab", description="Run the series, and fetch and check what it needs.")
    top.add_argument("--version", action="version", version=f"reclab {__version__}")
    commands = top.add_subparsers(required=True, metavar="command")

    run = commands.add_parser("run", help="execute the series and write a report")
    run.add_argument("notebooks", nargs="*", metavar="NN", help="notebooks, such as 02 07 (default: all)")
    run.add_argument("--profile", help="laptop or gpu (default: RECLAB_PROFILE, else laptop)")
    run.add_argument("--keep-going", action="store_true", help="go on after a notebook that failed")
    run.add_argument("--fresh", action="store_true", help="compute everything anew, with an empty derived cache")
    run.add_argument("--out", type=Path, help="write the report here (default: runs/<time> in this folder)")
    run.set_defaults(command=_run_command)

    data = commands.add_parser("data", help="list, fetch or verify the data sets and models")
    data.add_argument("action", choices=["list", "fetch", "verify"])
    data.add_argument("names", nargs="*", metavar="NAME", help="data sets or models (default: all)")
    data.set_defaults(command=_command_of("assets"))

    calibrate = commands.add_parser("calibrate", help="measure the bands of the results over many seeds")
    calibrate.add_argument("notebooks", nargs="*", metavar="NN", help="notebooks (default: all)")
    calibrate.add_argument("--profile", help="laptop or gpu")
    calibrate.add_argument("--seeds", type=int, default=10, help="how many seeds (default: 10)")
    calibrate.add_argument("--prove", type=int, default=5, help="fresh seeds to try the bands on (default: 5)")
    calibrate.set_defaults(command=_calibrate_command)

    release = commands.add_parser("release", help="make the student's series: without solutions and hidden tests")
    release.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="where (default: notebooks/student)")
    release.add_argument("notebooks", nargs="*", metavar="NN", help="notebooks (default: all)")
    release.set_defaults(command=_command_of("classroom", "release_command"))

    grade = commands.add_parser("grade", help="grade what students handed in; runs their code with your rights")
    grade.add_argument("submissions", type=Path, metavar="SUBMISSIONS", help="holds a folder for each student")
    grade.add_argument("--out", type=Path, default=Path("scores.csv"), help="the table (default: scores.csv)")
    grade.add_argument("--notebooks", nargs="+", metavar="NN", help="those that were set (default: those handed in)")
    grade.add_argument("--timeout", type=float, default=20, help="seconds that an answer may take (default: 20)")
    grade.add_argument("--kernels", type=int, help="students at the same time (default: one a processor, at most 4)")
    grade.set_defaults(command=_command_of("classroom", "grade_command"))

    verify = commands.add_parser(
        "verify",
        help="hold the receipt of a run to what is published",
        description="Judge every value of a receipt by the published bands and its own interval, name each fault, and "
        "say what differs. Exit status 0: all published results of its notebooks are there and within. A receipt is "
        "text: one that was copied passes. Only a rerun proves.",
    )
    verify.add_argument("receipt", type=Path, metavar="RECEIPT", help="receipt.json of a run, or a folder of receipts")
    verify.add_argument("other", type=Path, nargs="?", metavar="OTHER", help="say what differs from this receipt, too")
    verify.set_defaults(command=_command_of("receipts"))
    return top


def _command_of(module: str, name: str = "command") -> Callable[[argparse.Namespace], int]:
    """A module's command; the module is imported when it is called, so that the help shows in a blink."""
    return lambda args: getattr(import_module(f".{module}", __package__), name)(args)


def _run_command(args: argparse.Namespace) -> int:
    """Execute notebooks, and keep the report up to date after each."""
    profile = get_profile(args.profile)
    folder = notebooks_folder()
    paths = find_notebooks(args.notebooks, folder)
    _fetch_assets(profile)
    out = _new_folder(args.out)
    derived = out / "derived" if args.fresh else None
    try:
        return _run_all(paths, profile, out, derived, keep_going=args.keep_going)
    finally:
        if derived:
            shutil.rmtree(derived, ignore_errors=True)


def _run_all(paths: list[Path], profile: Profile, out: Path, derived: Path | None, *, keep_going: bool) -> int:
    from . import assets, report
    from .runner import Interrupted, kernel_environment, run_notebook

    env = kernel_environment(profile, derived=derived or assets.derived_folder(), ledger=out / "ledger")
    index = {"planned": [path.stem for path in paths], "started": datetime.now().isoformat(timespec="seconds")}
    runs, status, note = [], 0, ""
    report.write_index(out, runs, profile, **index)
    for path in paths:
        print(f"{path.stem} ... ", end="", flush=True)
        try:
            run = run_notebook(path, env=env)
        except Interrupted as stop:
            run, status, note = stop.run, _STOPPED, f"Stopped by Ctrl-C in {path.stem}."
        runs.append(run)
        print(summary(run), flush=True)
        report.write_notebook(run, out, path.parent)
        if not run.ok and status != _STOPPED:
            status = _FAILED
        if status == _FAILED and not keep_going:
            note = f"Stopped after {path.stem}, which failed."
        report.write_index(out, runs, profile, **index, note=note)
        if note:
            break
    print(f"{note} The report is {out / 'index.html'}".strip())
    return status


def summary(run) -> str:
    """What to say of a run: time, memory, results, and ok, or why not: its error, its numbers OUTSIDE."""
    results = f"{len(run.results)} result{'' if len(run.results) == 1 else 's'}"
    faults = ([run.error] if run.error else []) + [str(result) for result in run.outside]
    return f"{run.seconds:.0f} s, {run.peak:,.0f} MiB, {results}, " + "\n  ".join(faults or ["ok"])


def _calibrate_command(args: argparse.Namespace) -> int:
    """Measure bands, and try them on fresh seeds."""
    from .calibrate import PROOF, calibrate

    profile = get_profile(args.profile)
    paths = find_notebooks(args.notebooks, notebooks_folder())
    _fetch_assets(profile)
    status = 0
    for path in paths:
        proof = calibrate(
            path, profile, n_seeds=args.seeds, n_proof=args.prove, runs=Path("runs", "calibrate").absolute()
        )
        if proof is None:
            continue
        print(f"{path.stem}: {proof.inside:.1%} of the results of {len(proof.seeds)} fresh seeds inside")
        print("".join(f"  {line}\n" for line in proof.missed), end="")
        if proof.inside < PROOF:
            status = _complain(f"{path.stem}: fewer than {PROOF:.0%} inside; measure more seeds", _FAILED)
    return status


def _fetch_assets(profile: Profile) -> None:
    """Fetch what the series needs before it starts, so that licences and progress are said here."""
    from . import assets

    for name in dict.fromkeys([*DATA, profile.model]):
        assets.fetch(name, verbose=True)


def _new_folder(chosen: Path | None) -> Path:
    """Make the folder of a report: the chosen one, which must be new or empty, else ``runs/<time>``."""
    out = (chosen or Path("runs", datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))).absolute()
    try:
        out.mkdir(parents=True, exist_ok=bool(chosen))
        if any(out.iterdir()):
            raise ReclabError(f"{out} is not empty; name a new folder after --out")
    except OSError as error:
        raise ReclabError(f"cannot make the folder {out} ({error.strerror}); name another after --out") from None
    return out


def _complain(error: object, status: int) -> int:
    print(f"reclab: {error}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
