"""Run students' answers in kernels of their own, one exercise at a time, against the teacher's checks.

An exercise needs its check, the student's answers that the check names, and the statements of the lesson that these
name (`reclab.needs`); nothing else runs, so grading costs seconds where a lesson costs a minute. Whether that is enough
is tried on the teacher's own answer: where it does not earn its points this way, the whole lesson above the check runs.
A kernel serves one student, is emptied between exercises, and is replaced when it dies or runs over its time.

Grading runs students' code with the rights of whoever grades.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

import psutil
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat.v4 import new_code_cell, new_notebook

from .errors import ReclabError, one_line
from .masters import Master, Task, is_check, is_solution, marks
from .needs import binds, slice_of, uses
from .submissions import Answers

TIMEOUT = 900

_LESSON, ANSWER, _HELPER, CHECK = "the lesson's own code", "your answer", "your own code", "the check"
# As %reset does, without its collection of garbage, which takes longer than most exercises; uses no name that a
# student may have bound to something else.
_EMPTY = """\
for _ in [*get_ipython().user_ns]:
    if _[0] != "_" and _ not in get_ipython().user_ns_hidden:
        del get_ipython().user_ns[_]
"""
_MOST_OUTPUT = 100_000  # characters of a cell's output that are kept


@dataclass(frozen=True)
class Step:
    """A piece of code to run, and whose it is."""

    source: str
    whose: str


def _steps_of(task: Task, answers: Answers, *, whole: bool = False) -> list[Step]:
    """What has to run for an exercise, in order, the check last; of the whole lesson all code and answers above it."""
    cells = task.master.cells
    check = cells[task.position].source
    needed = set(uses(check))
    # A name that the check imports is imported again: an answer may have bound it to something else.
    imported = task.master.imported
    lesson = [cell.source for cell in cells[: task.position] if _is_lesson(cell)]
    again = [slice_of(source, needed & imported, imported)[0] for source in lesson]
    steps = [Step("\n".join([*filter(None, again), check]), CHECK)]
    for cell in reversed(cells[: task.position]):
        if cell.cell_type != "code" or is_check(cell):
            continue
        if is_solution(cell):
            name = marks(cell)["grade_id"]
            answer = answers.by_cell.get(name, "")
            if whole or needed & (task.master.functions[name] | binds(answer)):
                steps.append(Step(answer, ANSWER))
                needed = (needed - binds(answer)) | uses(answer)
        else:
            source, needed = (cell.source, needed) if whole else slice_of(cell.source, needed, imported)
            steps.append(Step(source, _LESSON))
    helpers = _helpers(answers, needed, task.master)
    steps.reverse()
    first = next((n for n, step in enumerate(steps) if step.whose == ANSWER), len(steps) - 1)
    return [step for step in [*steps[:first], Step(helpers, _HELPER), *steps[first:]] if step.source.strip()]


def _is_lesson(cell) -> bool:
    return cell.cell_type == "code" and not is_check(cell) and not is_solution(cell)


def _helpers(answers: Answers, needed: set[str], master: Master) -> str:
    """What the student defined in other cells and the series does not have."""
    kept = []
    for source in reversed(answers.extra):
        part, needed = slice_of(source, needed, master.imported)
        kept.append(part)
    return "\n".join(part for part in reversed(kept) if part)


class _Client(NotebookClient):
    """Keeps no more of a cell's output than a person would read."""

    kept = 0

    def output(self, outs, msg, display_id, cell_index):
        self.kept += len(str(msg["content"]))
        return super().output(outs, msg, display_id, cell_index) if self.kept < _MOST_OUTPUT else None


class Kernel:
    """A kernel in an empty folder of its own, started when it is needed, and replaced when it is lost.

    Parameters
    ----------
    timeout : seconds that a student's cell, or a check, may take.
    """

    def __init__(self, timeout: float):
        self.timeout = timeout
        self._client: _Client | None = None
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Kernel:
        return self

    async def __aexit__(self, *exception) -> None:
        await self.close()

    async def run(self, steps: list[Step]) -> tuple[bool, str]:
        """Run some code in an emptied kernel; returns whether all of it ran, and what was printed or went wrong."""
        printed = ""
        opening = steps[0].source if steps[0].whose == _LESSON else ""
        for step in [Step(_EMPTY + opening, _LESSON), *(steps[1:] if opening else steps)]:
            fault, printed = await self._run_one(step)
            if fault:
                return False, fault
        return True, printed

    async def _run_one(self, step: Step) -> tuple[str | None, str]:
        client = self._client or await self._start()
        client.kept, client.timeout = 0, TIMEOUT if step.whose == _LESSON else self.timeout
        cell = new_code_cell(step.source)
        client.nb.cells = [cell]
        try:
            await client.async_execute_cell(cell, 0, store_history=False)
        except CellExecutionError as error:
            return _said(step, error), ""
        except CellTimeoutError:
            await self.close()
            return f"{step.whose} took longer than {client.timeout:g} s and was stopped; does a loop never end?", ""
        except RuntimeError:  # nbclient's DeadKernelError among them
            await self.close()
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError from None  # nbclient takes a Ctrl-C for a dead kernel
            return f"{step.whose} ended Python itself; leave out exit calls, and use less memory", ""
        return None, "".join(output.get("text", "") for output in cell.outputs)

    async def _start(self) -> _Client:
        scratch = self._open.enter_context(tempfile.TemporaryDirectory(prefix="reclab-", ignore_cleanup_errors=True))
        folder = Path(scratch, "work")
        folder.mkdir()
        manager = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
        threads = dict.fromkeys(["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1")
        own = {"IPYTHONDIR": scratch, "RECLAB_LEDGER": str(folder / "ledger")}
        history = ["--HistoryManager.hist_file=:memory:"]
        self._open.push_async_callback(_stop, manager)
        await manager.start_kernel(
            cwd=str(folder), env=os.environ | threads | own, extra_arguments=history, stdout=DEVNULL, stderr=DEVNULL
        )
        options = {"startup_timeout": TIMEOUT, "record_timing": False, "coalesce_streams": True}
        client = _Client(new_notebook(), km=manager, **options)
        client.log.disabled = True
        try:
            await client.async_start_new_kernel_client()
        except RuntimeError as error:
            raise ReclabError(f"no kernel starts here ({one_line(error)}); try `reclab run 00` first") from None
        self._open.callback(client.kc.stop_channels)
        self._client = client
        return client

    async def close(self) -> None:
        """End the kernel and all that it started; the next run gets a new one."""
        self._client = None
        opened, self._open = self._open, contextlib.AsyncExitStack()
        await opened.aclose()


async def _stop(manager) -> None:
    """Shut a kernel down with every process that it started."""
    children = []
    with contextlib.suppress(psutil.Error, AttributeError):  # it may be dead, or never have lived
        children = psutil.Process(manager.provisioner.pid).children(recursive=True)
    if manager.has_kernel:
        await manager.shutdown_kernel(now=True)
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()


def _said(step: Step, error: CellExecutionError) -> str:
    if error.ename == "NotYet":
        return one_line(error.evalue, 500)
    if step.whose == CHECK and error.ename == "NameError":
        return f"{one_line(error.evalue)}; define it in the answer's own cell, under the name that is asked for"
    message = re.sub(r"\(\d+\.py, ", "(", error.evalue)  # IPython's name for a cell says nothing
    return f"{step.whose} stopped with {error.ename}: {one_line(message)}"


async def score(kernel: Kernel, task: Task, answers: Answers, *, whole: bool = False) -> tuple[float, str]:
    """Grade one exercise: the points that it earned, and what is said about it."""
    right, said = await kernel.run(_steps_of(task, answers, whole=whole))
    return task.points if right else 0.0, one_line(said, 500) or "right"


async def needs_whole(kernel: Kernel, task: Task) -> bool:
    """Whether an exercise runs only in its whole lesson, tried with the teacher's own answer.

    Raises ReclabError: the teacher's answer does not earn its points either way.
    """
    own = Answers({name: cell.source for name, cell in task.master.solutions.items()})
    for whole in (False, True):
        points, said = await score(kernel, task, own, whole=whole)
        if points == task.points:
            return whole
    raise ReclabError(f"{task.check_id}: the teacher's own answer fails ({said}); repair {task.master.name}")
