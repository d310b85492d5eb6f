"""Run one notebook in a fresh kernel, and measure what it took."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil
import zmq
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from .profiles import Profile
from .results import OUTSIDE, Result, read_ledger
from .series import one_line, read_notebook

TIMEOUT = 900
_POLL = 0.2
_MIB = 2**20


@dataclass
class Run:
    """What one run of a notebook left.

    Attributes
    ----------
    number, name : ``02`` and ``02_bert_finetuning``.
    node : the notebook with its outputs, as far as it got.
    seconds : wall-clock time, the kernel's start included.
    peak : MiB, the largest sum of resident memory of the kernel and its children.
    error : one line that says why it stopped; None where every cell ran.
    results : its ledger, by key.
    """

    number: str
    name: str
    node: nbformat.NotebookNode
    seconds: float = 0.0
    peak: float = 0.0
    error: str | None = None
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def outside(self) -> list[Result]:
        """The results that lie outside their bands."""
        return [r for r in self.results.values() if r.verdict == OUTSIDE]

    @property
    def ok(self) -> bool:
        """Every cell ran and no result lies outside its band."""
        return self.error is None and not self.outside


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; ``run`` holds what the notebook had done by then."""

    def __init__(self, run: Run):
        super().__init__(run.error)
        self.run = run


def kernel_environment(profile: Profile, *, derived: Path, ledger: Path) -> dict[str, str]:
    """The variables that tell a kernel its profile, its seed, and where to keep things.

    A notebook's kernel runs in the notebook's folder, so every path is made absolute here.
    """
    env = {
        "RECLAB_PROFILE": profile.name,
        "RECLAB_SEED": str(profile.seed),
        "RECLAB_PRECISION": profile.mixed_precision,
        "RECLAB_MODEL": profile.model,
        "RECLAB_DERIVED": str(Path(derived).resolve()),
        "RECLAB_LEDGER": str(Path(ledger).resolve()),
    }
    if data := os.environ.get("RECLAB_DATA"):
        env["RECLAB_DATA"] = str(Path(data).resolve())
    return env


def run_notebook(path: Path, *, env: dict[str, str], timeout: float = TIMEOUT, node=None) -> Run:
    """Run a notebook from top to bottom in a fresh kernel of this Python, in the notebook's own folder.

    Parameters
    ----------
    path : ``NN_name.ipynb``; it is read and not written.
    env : variables added to this process's own; see `kernel_environment`.
    timeout : seconds that one cell may take.
    node : run this instead of what the file holds.

    Raises Interrupted: Ctrl-C; no kernel is left behind.
    Raises ReclabError: the file is no notebook.
    """
    path = Path(path).resolve()
    run = Run(path.stem[:2], path.stem, node if node is not None else read_notebook(path))
    ledger = env.get("RECLAB_LEDGER")
    if ledger:
        (Path(ledger) / f"{run.number}.json").unlink(missing_ok=True)
    start = time.perf_counter()
    try:
        asyncio.run(_execute(run, path.parent, env, timeout))
    except KeyboardInterrupt:
        run.error = "stopped by Ctrl-C"
        raise Interrupted(run) from None
    finally:
        run.seconds = time.perf_counter() - start
        run.results = read_ledger(run.number, Path(ledger)) if ledger else {}
    return run


class _ThisPython(KernelSpecManager):
    """Offers this interpreter alone: a kernel registered under the same name may belong to another one."""

    def get_kernel_spec(self, kernel_name):
        from ipykernel.kernelspec import get_kernel_dict

        return KernelSpec(**get_kernel_dict())


def kernel_manager(scratch: Path) -> AsyncKernelManager:
    """A manager for one kernel of this Python, whose connection file lies in ``scratch``."""
    manager = AsyncKernelManager(kernel_spec_manager=_ThisPython(), connection_file=str(scratch / "connection.json"))
    # Newer kernels can hide their traffic from other users of the machine, and warn where it is in the open.
    if manager.has_trait("transport_encryption") and zmq.has("curve"):
        manager.transport_encryption = "auto"
    return manager


async def _execute(run: Run, folder: Path, env: dict[str, str], timeout: float) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="reclab-", ignore_cleanup_errors=True) as scratch,
        open(Path(scratch) / "log", "w+", encoding="utf-8", errors="replace") as log,
    ):
        manager = kernel_manager(Path(scratch))
        # Away from the user's own IPython folder: its start-up files stay out, its history stays as it is.
        variables = {**os.environ, **env, "IPYTHONDIR": scratch}
        history = "--HistoryManager.hist_file=:memory:"
        finished = False
        try:
            await manager.start_kernel(
                cwd=str(folder), env=variables, extra_arguments=[history], stdout=log, stderr=log
            )
            with _Memory(manager.provisioner.pid, run):
                run.error = await _run_cells(run.node, manager, timeout, log)
            finished = run.error is None
        finally:
            await manager.shutdown_kernel(now=not finished)


async def _run_cells(node, manager: AsyncKernelManager, timeout: float, log) -> str | None:
    """Run the cells in order; returns one line on what went wrong, or None."""
    # A kernel that dies is noticed at once; one that only starts slowly, on a busy machine, is waited for.
    options = {"timeout": timeout, "startup_timeout": TIMEOUT, "record_timing": False, "coalesce_streams": True}
    client = NotebookClient(node, km=manager, **options)
    client.log.disabled = True
    cell, number = None, 0
    try:
        await client.async_start_new_kernel_client()
        for index, cell in enumerate(node.cells):
            number = client.code_cells_executed + 1
            # Cell by cell rather than `execute`, which would take over Ctrl-C and store widget state.
            await client.async_execute_cell(cell, index, execution_count=number)
    except CellExecutionError as error:
        return f"cell [{number}]: {error.ename}: {one_line(error.evalue)}"
    except CellTimeoutError:
        return f"cell [{number}]: took longer than {timeout:g} s"
    except DeadKernelError:
        if asyncio.current_task().cancelling():
            raise asyncio.CancelledError from None  # nbclient takes a Ctrl-C for a dead kernel
        return f"cell [{number}]: the kernel died{await _cause(manager, log)}"
    except RuntimeError as error:
        return f"the kernel did not start ({_last_line(log) or one_line(error)})"
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
    return None


async def _cause(manager: AsyncKernelManager, log) -> str:
    code = await manager.provisioner.poll()
    if code == -9:
        return " (killed by the system, most often for want of memory: close other programs and run it again)"
    last = _last_line(log)
    return f" (exit status {code}{': ' if last else ''}{last})"


def _last_line(log) -> str:
    log.seek(0)
    lines = log.read().split("\n")
    return one_line(next((line for line in reversed(lines) if line.strip()), ""))


class _Memory:
    """Watches the resident memory of a process and its children from a thread, into ``run.peak``."""

    def __init__(self, pid: int, run: Run):
        self._process, self._run = psutil.Process(pid), run
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self._run.peak = max(self._run.peak, self._resident() / _MIB)
            if self._done.wait(_POLL):
                return

    def _resident(self) -> int:
        total = 0
        with contextlib.suppress(psutil.Error):
            for process in [self._process, *self._process.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):  # a child may end while we look
                    total += process.memory_info().rss
        return total
