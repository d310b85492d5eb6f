"""What the series says of its time and memory is what the stored receipts of its runs say."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from reclab import receipts
from reclab.profiles import get_profile
from reclab.results import read_notebook
from reclab.run import Run
from small_notebooks import CHECK, write
from waiting import CEILING

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import series

README = series.README.read_text("utf-8")
PATHS = sorted(series.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def kept(path: Path) -> dict:
    file = series.NOTEBOOKS / series.RECEIPTS / f"{path.stem[:2]}.json"
    assert file.is_file(), f"no receipt; run python tests/benchmarks/series.py --store {path.stem[:2]}"
    return receipts.read_receipt(file)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem[:2])
def test_stated_time_and_memory_come_from_the_receipt(path):
    node, receipt = read_notebook(path), kept(path)
    (ran,) = receipt["notebooks"]
    assert (ran["name"], ran["ok"], receipt["profile"]) == (path.stem, True, "laptop")
    again = f"the lesson has changed; run python tests/benchmarks/series.py --store {path.stem[:2]}"
    assert ran["code"] == receipts.code_hash(node), again
    assert series.told(README, ran) == README, again
    seconds, mib = series.promised(node.cells[0].source)
    assert ran["seconds"] <= seconds and ran["peak_mib"] <= mib, "the first cell promises less than it took"
    assert ran["peak_mib"] <= series.PEAK  # its seconds are held to a bar by series.py --check, on a quiet machine


def test_a_stored_receipt_is_one_and_tells_the_readme(tmp_path):
    path, readme = PATHS[0], tmp_path / "README.md"
    run = Run(path.stem, read_notebook(path), seconds=1.4, peak=99.6)
    readme.write_text(README, "utf-8")
    receipt = receipts.receipt([run], get_profile("laptop"), started="2026-01-01T00:00:00", complete=True)
    series.keep(run, receipt, tmp_path, readme)
    assert receipts.read_receipt(tmp_path / series.RECEIPTS / f"{run.number}.json") == json.loads(json.dumps(receipt))
    (line,) = [line for line in readme.read_text("utf-8").splitlines() if path.stem in line]
    assert line.endswith("| 1 | 100 |")


# --- beside busy loops


def loops() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if series.LOOP in child.cmdline()]


def test_busy_loops_end_with_their_block_however_it_ends():
    with pytest.raises(KeyboardInterrupt), series.busy_loops(2):
        started = loops()
        assert len(started) == 2 and all(loop.is_running() for loop in started)
        raise KeyboardInterrupt
    assert not any(loop.is_running() for loop in started) and not loops()


KILLED = """
import os, psutil, signal, sys
sys.path.append(sys.argv[1])
import series
with series.busy_loops():
    print(*(child.pid for child in psutil.Process().children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_busy_loops_end_with_a_process_that_is_killed():
    command = [sys.executable, "-c", KILLED, str(Path(series.__file__).parent)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    started = [int(pid) for pid in done.stdout.split()]
    assert done.returncode < 0 and len(started) == 2
    for pid in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(timeout=CEILING)


def test_a_notebook_is_measured_alone_and_then_beside_the_loops(tmp_path, capsys):
    """The notebook says how many loops run beside it: none, then two."""
    beside = "import psutil\nbeside = psutil.Process().parent().children()\n"
    beside += "n = sum('getppid' in ' '.join(child.cmdline()) for child in beside)\n"
    write(tmp_path, "02_a", CHECK + beside + "open('loops', 'a').write(str(n))")
    assert series.main(["--busy", "02"], tmp_path) == 0
    assert (tmp_path / "loops").read_text() == "02"
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    busy = "02_a beside 2 busy loops"
    assert list(rows) == ["02_a time", f"{busy}: time", f"{busy}: share of its quiet time", f"{busy}: failures"]
    assert rows[f"{busy}: failures"]["value"] == 0 and rows["02_a time"]["value"] > 0
