"""The command ``reclab``: run the notebooks, write their report, and call what the topics offer.

Heavy libraries are imported where they are used, so that the help shows in a blink.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path

from . import __version__, assets, results
from .errors import ReclabError, UnknownNameError, one_line
from .profiles import Profile, get_profile

TIMEOUT = 900  # seconds that a cell may take
DATA = ("movielens-100k", "wikidata-films", "clothing-reviews", "open-bandit-small", "minilm-l6")
COMMANDS = ("run", "data", "calibrate", "verify", "release", "grade", "doctor")
_FAILED, _MISUSED, _STOPPED = 1, 2, 130
_VARIABLES = """
environment variables:
  RECLAB_PROFILE    laptop or gpu, where --profile does not say it
  RECLAB_SEED       seed of all that is drawn at random, 0 to 4294967295 (default: 0)
  RECLAB_PRECISION  no, bf16, fp16 or auto, in place of the profile's
  RECLAB_MODEL      another encoder, by its name in `reclab data list`
  RECLAB_DATA       folder of data and models (default: in your user cache)
  RECLAB_DERIVED    folder of computed results (default: there, too)
  RECLAB_LEDGER     folder of what notebooks that you run yourself find (default: there, too)
"""
# What a page shows of an output, the first that there is: a widget's view would need a kernel.
_SHOWN = ["text/html", "text/markdown", "image/svg+xml", "text/latex", "image/png", "image/jpeg"]
_SHOWN += ["text/plain", "application/vnd.jupyter.widget-view+json", "application/javascript"]


@dataclass
class Run:
    """What one run of a notebook left."""

    name: str  # 02_bert_finetuning
    node: dict  # nbformat's, with its outputs, as far as it got
    seconds: float = 0.0  # wall-clock time, the kernel's start included
    peak: float = 0.0  # MiB, the largest resident memory of the kernel with its children
    error: str | None = None  # one line that says why it stopped
    results: dict[str, results.Result] = field(default_factory=dict)  # its ledger, by key

    @property
    def number(self) -> str:
        """``02``."""
        return self.name[:2]

    @property
    def outside(self) -> list[results.Result]:
        """The results that lie outside their bands."""
        return [each for each in self.results.values() if each.verdict == results.OUTSIDE]

    @property
    def ok(self) -> bool:
        """Every cell ran and no result lies outside its band."""
        return self.error is None and not self.outside

    def __str__(self) -> str:
        count = f"{len(self.results)} result{'' if len(self.results) == 1 else 's'}"
        faults = ([self.error] if self.error else []) + [str(result) for result in self.outside]
        said = "\n  ".join(faults or ["ok"])
        return f"{self.seconds:.0f} s, {self.peak:,.0f} MiB, {count}, {said}"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; ``run`` holds what the notebook had done by then."""

    def __init__(self, run: Run):
        super().__init__(run.error)
        self.run = run


def kernel_environment(profile: Profile, *, derived: Path, ledger: Path) -> dict[str, str]:
    """The variables that tell a kernel its profile and its folders, which are made absolute."""
    env = {
        "RECLAB_PROFILE": profile.name,
        "RECLAB_SEED": str(profile.seed),
        "RECLAB_PRECISION": profile.mixed_precision,
        "RECLAB_MODEL": profile.model,
        "RECLAB_DERIVED": str(derived.resolve()),
        "RECLAB_LEDGER": str(ledger.resolve()),
    }
    if data := os.environ.get("RECLAB_DATA"):
        env["RECLAB_DATA"] = str(Path(data).resolve())
    return env


def run_afresh(path: Path, profile: Profile, node: dict | None = None) -> Run:
    """`run_notebook` with an empty derived cache and a ledger of its own."""
    with tempfile.TemporaryDirectory(prefix="reclab-", ignore_cleanup_errors=True) as scratch:
        folders = {"derived": Path(scratch, "derived"), "ledger": Path(scratch, "ledger")}
        return run_notebook(path, env=kernel_environment(profile, **folders), node=node)


def run_notebook(
    path: Path, *, env: dict[str, str], timeout: float = TIMEOUT, node: dict | None = None
) -> Run:
    """Run a notebook from top to bottom in a fresh kernel of this Python, in its own folder.

    Parameters
    ----------
    env : what `kernel_environment` gives, added to this process's own variables.
    timeout : seconds that one cell may take.
    node : run this instead of what the file holds.

    Raises Interrupted: Ctrl-C; no kernel is left behind.
    Raises ReclabError: the file is no notebook.
    """
    run = Run(path.stem, node or results.read_notebook(path))
    ledger = Path(env["RECLAB_LEDGER"])
    (ledger / f"{run.number}.json").unlink(missing_ok=True)
    start = time.perf_counter()
    try:
        run.error = asyncio.run(_execute(run, path.resolve().parent, env, timeout))
    except KeyboardInterrupt:
        run.error = "stopped by Ctrl-C"
        raise Interrupted(run) from None
    finally:
        run.seconds = time.perf_counter() - start
        run.results = results.read_ledger(run.number, ledger)
    return run


async def _execute(run: Run, folder: Path, env: dict[str, str], timeout: float) -> str | None:
    """Run the cells in order; one line on what went wrong, or None."""
    import zmq
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    # No folders to look in: a kernel that is registered as python3 may belong to another Python.
    manager = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    # Newer kernels warn where others on the machine can read their traffic.
    if manager.has_trait("transport_encryption") and zmq.has("curve"):
        manager.transport_encryption = "auto"
    options = {"timeout": timeout, "startup_timeout": TIMEOUT}  # a busy machine starts slowly
    options |= {"record_timing": False, "coalesce_streams": True}
    client = NotebookClient(run.node, km=manager, **options)
    client.log.disabled = True
    number, finished = 0, False
    with (
        tempfile.TemporaryDirectory(prefix="reclab-", ignore_cleanup_errors=True) as scratch,
        open(Path(scratch, "log"), "w+", encoding="utf-8", errors="replace") as log,
    ):
        # The user's own IPython folder is left alone: its start-up files, its history.
        env = os.environ | env | {"IPYTHONDIR": scratch}
        try:
            await client.async_start_new_kernel(cwd=str(folder), env=env, stdout=log, stderr=log)
            watch = asyncio.create_task(_watch_memory(manager.provisioner.pid, run))
            await client.async_start_new_kernel_client()
            for index, cell in enumerate(run.node.cells):
                number = client.code_cells_executed + 1
                # Not `execute`, which takes over Ctrl-C and stores the state of widgets.
                await client.async_execute_cell(cell, index, execution_count=number)
            watch.cancel()
            finished = True
        except CellExecutionError as error:
            return f"cell [{number}]: {error.ename}: {one_line(error.evalue)}"
        except CellTimeoutError:
            return f"cell [{number}]: took longer than {timeout:g} s; --timeout gives it more"
        except RuntimeError as error:  # nbclient's DeadKernelError is one
            if asyncio.current_task().cancelling():  # a Ctrl-C, which it takes for a dead kernel
                raise asyncio.CancelledError from None
            log.seek(0)
            last = [line for line in log if line.strip()][-1:]
            if not number:
                return f"the kernel did not start ({one_line(last[0] if last else error)})"
            code = await manager.provisioner.poll()
            why = one_line(": ".join([f"exit status {code}", *last]))
            if code == -9:
                remedy = "close other programs and run it again"
                why = f"killed by the system, most often for want of memory: {remedy}"
            return f"cell [{number}]: the kernel died ({why})"
        finally:
            if client.kc is not None:
                client.kc.stop_channels()
            await manager.shutdown_kernel(now=not finished)
    return None


async def _watch_memory(pid: int, run: Run) -> None:
    """Keep the largest resident memory of a process with its children, in MiB, in ``run.peak``."""
    import psutil

    while True:
        total = 0
        with suppress(psutil.Error):  # a child may end while we look
            kernel = psutil.Process(pid)
            for process in [kernel, *kernel.children(recursive=True)]:
                total += process.memory_info().rss
        run.peak = max(run.peak, total / 2**20)
        await asyncio.sleep(0.2)


def mathml(tex: str, display: str = "inline") -> str | None:
    """TeX as MathML, ``inline`` or ``block``, which browsers show without any script.

    Returns None where it is not understood.
    """
    from latex2mathml.converter import convert

    try:
        made = convert(re.sub(r"(begin|end)\{aligned\}", r"\1{align*}", tex), display=display)
    except Exception:  # the converter has a dozen kinds and no base for them
        return None
    understood = "<mi>\\" not in made and "<mi>&</mi>" not in made
    return made if understood else None


def page(run: Run, folder: Path) -> str:
    """A notebook as one HTML file that loads nothing; ``folder`` holds the images of its prose."""
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
    from traitlets.config import Config

    class Renderer(IPythonRenderer):
        def inline_math(self, body: str) -> str:
            return mathml(body) or super().inline_math(body)

        def block_math(self, body: str) -> str:
            return mathml(body, "block") or super().block_math(body)

        def latex_environment(self, name: str, body: str) -> str:
            tex = f"\\begin{{{name}}}{body}\\end{{{name}}}"
            return mathml(tex, "block") or super().latex_environment(name, body)

        def link(self, text: str, url: str, title: str | None = None) -> str:
            return super().link(text, re.sub(r"^(\d\d)_\w+\.ipynb", r"index.html#\1", url), title)

    def markdown2html(source: str) -> str:
        renderer = Renderer(escape=False, embed_images=True, path=str(folder))
        return MarkdownWithMath(renderer=renderer).render(source)

    exporter = HTMLExporter(
        config=Config({"NbConvertBase": {"display_data_priority": _SHOWN}}),
        raw_template=Path(__file__).with_name("page.html.j2").read_text("utf-8"),
        filters={"markdown2html": markdown2html, "alt_text": _alt_text},
    )
    return exporter.from_notebook_node(run.node, {"metadata": {"name": run.name}})[0]


def _alt_text(output) -> str:
    """The words that stand for an output's image: its alt text, else its plain text."""
    alt = output.metadata.get("image/png", {}).get("alt")
    return alt or output.data.get("text/plain", "")


def write_notebook(run: Run, folder: Path, source: Path) -> None:
    """Write ``notebooks/NN.ipynb`` and the page ``NN.html`` of a run into the report's folder."""
    import nbformat

    node = nbformat.writes(run.node) + "\n"
    results.write_atomically(folder / "notebooks" / f"{run.number}.ipynb", node)
    results.write_atomically(folder / f"{run.number}.html", page(run, source))


def write_index(
    folder: Path,
    runs: list[Run],
    profile: Profile,
    planned: list[str],
    started: str,
    note: str = "",
) -> None:
    """Write ``index.html`` and ``receipt.json`` of what has run so far into the report's folder.

    Parameters
    ----------
    planned : names of the notebooks that were asked for; until all ran through, it is partial.
    started : when the run began, as ISO 8601.
    note : one line on why the run ended early.
    """
    import jinja2

    from . import receipts

    complete = [run.name for run in runs if run.error is None] == planned
    record = receipts.receipt(runs, profile, started=started, complete=complete, planned=planned)
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    results.write_atomically(folder / "receipt.json", text)

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["alt_text"] = _alt_text
    environment.filters["number"] = lambda x: f"{x:.4g}" if x % 1 else f"{int(x):,}"
    found = [(run, result) for run in runs for result in run.results.values()]
    template = Path(__file__).with_name("report.html.j2").read_text("utf-8")
    html = environment.from_string(template).render(
        runs={run.name: run for run in runs},
        planned=planned,
        results=sorted(found, key=lambda pair: pair[1].verdict != results.OUTSIDE),
        profile=profile,
        versions=receipts.versions(),
        machine=receipts.machine(),
        started=started,
        note=note,
    )
    results.write_atomically(folder / "index.html", html)


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit status: 0, 1 a failure, 2 a wrong name, 130 Ctrl-C."""
    words = sys.argv[1:] if argv is None else argv
    try:
        if words and not words[0].startswith("-") and words[0] not in COMMANDS:
            raise UnknownNameError("command", words[0], COMMANDS)
        args = parser().parse_args(words)
        return args.command(args)
    except UnknownNameError as error:
        return _complain(error, _MISUSED)
    except ReclabError as error:
        return _complain(error, _FAILED)
    except KeyboardInterrupt:
        return _complain("stopped by Ctrl-C", _STOPPED)


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(
        prog="reclab",
        description="Run the series, and fetch and check what it needs.",
        epilog=_VARIABLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"reclab {__version__}")
    commands = top.add_subparsers(required=True, metavar="command")

    def command(name: str, function, help: str):
        made = commands.add_parser(name, help=help, description=help)
        made.set_defaults(command=function)
        return made.add_argument

    option = command("run", _run, "execute the series and write a report")
    option("notebooks", nargs="*", metavar="NN", help="notebooks, such as 02 07 (default: all)")
    option("--profile", help="laptop or gpu (default: RECLAB_PROFILE, else laptop)")
    option("--keep-going", action="store_true", help="go on after a notebook that failed")
    option("--fresh", action="store_true", help="compute everything anew, nothing from the cache")
    option("--timeout", type=_seconds, default=TIMEOUT, help="seconds a cell may take (900)")
    option("--out", type=Path, help="folder of the report (default: runs/<time> in this folder)")

    option = command("data", _of("assets"), "list, fetch or verify the data sets and models")
    option("action", choices=["list", "fetch", "verify"])
    option("names", nargs="*", metavar="NAME", help="data sets or models (default: all)")

    option = command("calibrate", _calibrate, "measure the bands of the results over many seeds")
    option("notebooks", nargs="*", metavar="NN", help="notebooks (default: all)")
    option("--profile", help="laptop or gpu")
    option("--seeds", type=int, default=10, help="how many seeds (default: 10)")
    option("--prove", type=int, default=5, help="fresh seeds to try the bands on (default: 5)")

    option = command("verify", _of("receipts"), "hold the receipt of a run to what is published")
    option("receipt", type=Path, metavar="RECEIPT", help="of a run, or a folder of them")
    option("other", type=Path, nargs="?", metavar="OTHER", help="say what differs from it, too")

    release = _of("classroom", "release_command")
    option = command("release", release, "make the students' series: without solutions")
    option("folder", type=Path, nargs="?", metavar="DIR", help="where (default: notebooks/student)")

    grade = _of("classroom", "grade_command")
    option = command("grade", grade, "grade answers; runs them with your rights")
    option("submissions", type=Path, metavar="SUBMISSIONS", help="holds a folder for each student")
    option("--out", type=Path, default=Path("scores.csv"), help="the table (default: scores.csv)")
    option("--notebooks", nargs="+", metavar="NN", help="those set (default: those handed in)")
    option("--timeout", type=_seconds, default=20, help="seconds that an answer may take (20)")

    command("doctor", _of("doctor"), "look for what keeps the series from running here")
    return top


def _of(module: str, name: str = "command"):
    """A module's command; the module is imported when it is called."""
    return lambda args: getattr(import_module(f".{module}", __package__), name)(args)


def _seconds(text: str) -> float:
    if not 0 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"must be more than 0 seconds, got {text}")
    return float(text)


def _run(args: argparse.Namespace) -> int:
    """Execute notebooks, and keep the report up to date after each."""
    profile = get_profile(args.profile)
    paths = results.find_notebooks(args.notebooks, results.notebooks_folder())
    _fetch_assets(profile)
    if profile.name == "gpu" and profile.device == "cpu":
        print("No GPU is found, so profile gpu takes hours: `reclab doctor` says more")
    out = _new_folder(args.out)
    derived = out / "derived" if args.fresh else assets.derived_folder()
    env = kernel_environment(profile, derived=derived, ledger=out / "ledger")
    about = [path.stem for path in paths], datetime.now().isoformat(timespec="seconds")
    runs, status, note = [], 0, ""
    write_index(out, runs, profile, *about)
    for path in paths:
        print(f"{path.stem} ... ", end="", flush=True)
        try:
            runs.append(run_notebook(path, env=env, timeout=args.timeout))
        except Interrupted as stop:
            runs.append(stop.run)
            status, note = _STOPPED, f"Stopped by Ctrl-C in {path.stem}."
        if not note and not runs[-1].ok:
            status = _FAILED
            note = "" if args.keep_going else f"Stopped after {path.stem}, which failed."
        write_notebook(runs[-1], out, path.parent)
        write_index(out, runs, profile, *about, note)
        print(runs[-1], flush=True)
        if note:
            break
    if args.fresh:
        shutil.rmtree(derived, ignore_errors=True)
    print(f"{note} The report is {out / 'index.html'}".strip())
    return status


def _calibrate(args: argparse.Namespace) -> int:
    """Measure bands, and try them on fresh seeds."""
    from .calibrate import PROOF, calibrate

    profile = get_profile(args.profile)
    paths = results.find_notebooks(args.notebooks, results.notebooks_folder())
    _fetch_assets(profile)
    status, kept = 0, Path("runs", "calibrate").absolute()
    for path in paths:
        seeds = {"n_seeds": args.seeds, "n_proof": args.prove}
        proof = calibrate(path, profile, run_afresh, **seeds, runs=kept)
        if proof is None:
            continue
        inside, missed = proof
        count = f"{inside:.1%} of the results of {args.prove} fresh seeds"
        print("\n  ".join([f"{path.stem}: {count} inside", *missed]))
        if inside < PROOF:
            few = f"{path.stem}: fewer than {PROOF:.0%} inside; measure more seeds"
            status = _complain(few, _FAILED)
    return status


def _fetch_assets(profile: Profile) -> None:
    """Fetch what the series needs before it starts, so that licences and progress are said here."""
    for name in dict.fromkeys([*DATA, profile.model]):
        assets.fetch(name, verbose=True)


def _new_folder(chosen: Path | None) -> Path:
    """Make a report's folder: the chosen one, which must be new or empty, else ``runs/<time>``."""
    out = (chosen or Path("runs", datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))).absolute()
    try:
        out.mkdir(parents=True, exist_ok=bool(chosen))
        if any(out.iterdir()):
            raise ReclabError(f"{out} is not empty; name a new folder after --out")
    except OSError as error:
        why = f"cannot make the folder {out} ({error.strerror})"
        raise ReclabError(f"{why}; name another after --out") from None
    return out


def _complain(error: object, status: int) -> int:
    print(f"reclab: {error}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
