import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
import zmq
from jupyter_client import AsyncKernelManager
from small_notebooks import BANDS, CHECK, write

from reclab import runner
from reclab.errors import ReclabError, UnknownNameError
from reclab.profiles import get_profile
from reclab.runner import kernel_environment, run_notebook
from reclab.series import find_notebooks, notebooks_folder


@pytest.fixture
def env(tmp_path):
    profile = get_profile("laptop", seed=7)
    return kernel_environment(profile, derived=tmp_path / "derived", ledger=tmp_path / "ledger")


def printed(run, cell=0):
    return run.node.cells[cell].outputs[0].text


def test_a_run_has_its_outputs_results_and_costs(tmp_path, env):
    check = BANDS.format(bands="{'02.in': {'low': 0, 'high': 1}, '02.out': {'low': 0, 'high': 1}}")
    path = write(tmp_path, "02_a", check + "_ = check('02.in', 0.5), check('02.out', 2), check('02.new', 3)")
    before, start = path.read_bytes(), time.perf_counter()
    run = run_notebook(path, env=env)
    passed = time.perf_counter() - start
    assert (run.number, run.name, run.error) == ("02", "02_a", None)
    assert {key: r.verdict for key, r in run.results.items()} == {
        "02.in": "within",
        "02.out": "OUTSIDE",
        "02.new": "recorded",
    }
    assert [r.key for r in run.outside] == ["02.out"] and not run.ok
    assert 0.2 < run.seconds <= passed
    assert "02.out = 2  OUTSIDE its band [0, 1]" in printed(run)
    assert path.read_bytes() == before


def test_the_kernel_is_this_python_in_the_notebooks_folder(tmp_path, env, monkeypatch):
    # A kernel of another Python is registered under the usual name: it must not be started.
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = ["/no/such/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(spec.parent.parent))
    source = "import os, sys\nprint(sys.executable, os.getcwd(), sep='\\n')"
    run = run_notebook(write(tmp_path / "notebooks", "00_a", source), env=env)
    assert printed(run).split("\n")[:2] == [sys.executable, str(tmp_path / "notebooks")]


def test_the_kernel_gets_the_profile_seed_and_folders_and_this_process_does_not(tmp_path, env, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECLAB_DATA", "my/data")
    env = kernel_environment(get_profile("laptop", seed=7), derived=Path("d"), ledger=Path("l"))
    before = dict(os.environ)
    source = "import json, os\nprint(json.dumps({k: v for k, v in os.environ.items() if k[:7] == 'RECLAB_'}))"
    seen = json.loads(printed(run_notebook(write(tmp_path, "00_a", source), env=env)))
    assert seen == {
        "RECLAB_PROFILE": "laptop",
        "RECLAB_SEED": "7",
        "RECLAB_PRECISION": "no",
        "RECLAB_MODEL": "minilm-l6",
        "RECLAB_DERIVED": str(tmp_path / "d"),
        "RECLAB_LEDGER": str(tmp_path / "l"),
        "RECLAB_DATA": str(tmp_path / "my" / "data"),
    }
    assert dict(os.environ) == before


def test_the_users_ipython_folder_is_neither_used_nor_made(tmp_path, env, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    start_up = tmp_path / "home" / ".ipython" / "profile_default" / "startup"
    start_up.mkdir(parents=True)
    (start_up / "a.py").write_text("mine = 1")
    before = set((tmp_path / "home").rglob("*"))
    run = run_notebook(write(tmp_path, "00_a", "print('mine' in globals())"), env=env)
    assert printed(run) == "False\n"
    assert set((tmp_path / "home").rglob("*")) == before


@pytest.mark.skipif(
    not (hasattr(AsyncKernelManager, "transport_encryption") and zmq.has("curve")),
    reason="this jupyter_client or pyzmq cannot encrypt",
)
def test_what_goes_to_and_from_the_kernel_is_encrypted(tmp_path, env):
    source = "from ipykernel.kernelapp import IPKernelApp\nprint(IPKernelApp.instance().curve_secretkey is None)"
    assert printed(run_notebook(write(tmp_path, "00_a", source), env=env)) == "False\n"


def kernels() -> list[str]:
    """Kernels that are children of this process; other tests may have left helpers of their own."""
    lines = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    return [line for line in lines if "ipykernel" in line]


def test_peak_memory_counts_the_kernel_and_its_children(tmp_path, env, monkeypatch):
    # What takes memory holds it until the runner has looked twice: the first look may have begun before.
    look = runner._Memory._resident

    def look_and_tell(memory):
        seen = look(memory)
        with (tmp_path / "looks").open("a") as looks:
            looks.write(".")
        return seen

    monkeypatch.setattr(runner._Memory, "_resident", look_and_tell)
    hold = "from os.path import getsize as n; x = bytearray(b'1') * {} * 2**20; end = n('looks') + 2\n"
    hold += "import time\nwhile n('looks') < end: time.sleep(.05)"
    child = f"import subprocess, sys\n_ = subprocess.run([sys.executable, '-c', {hold.format(150)!r}])"
    small = run_notebook(write(tmp_path, "00_a", "1"), env=env).peak
    large = run_notebook(write(tmp_path, "00_b", hold.format(200)), env=env).peak
    both = run_notebook(write(tmp_path, "00_c", child), env=env).peak
    assert 20 < small < 150
    assert 190 < large - small < 260
    assert 145 < both - small < 200


def test_an_error_names_its_cell_and_says_why_in_one_line(tmp_path, env):
    cells = [
        "# Words",
        CHECK + "_ = check('02.a', 1)",
        "raise ValueError('two\\nlines')",
        "print('not reached')",
    ]
    run = run_notebook(write(tmp_path, "02_a", *cells), env=env)
    assert run.error == "cell [2]: ValueError: two lines"
    assert not run.ok
    assert list(run.results) == ["02.a"]
    assert run.node.cells[2].execution_count == 2
    assert run.node.cells[3].outputs == []


def test_an_error_that_a_cell_is_tagged_to_raise_is_no_failure(tmp_path, env):
    path = write(tmp_path, "02_a", "1 / 0", "print('reached')")
    node = nbformat.read(path, 4)
    node.cells[0].metadata.tags = ["raises-exception"]
    run = run_notebook(path, env=env, node=node)
    assert run.error is None and printed(run, 1) == "reached\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "cell [2]: the kernel died (killed by the system"),
        ("import os; os._exit(3)", "cell [2]: the kernel died (exit status 3)"),
        (
            "import os; os.write(2, b'out of luck\\n'); os._exit(4)",
            "cell [2]: the kernel died (exit status 4: out of luck)",
        ),
    ],
)
def test_a_dead_kernel_is_one_clear_line(tmp_path, env, source, reason):
    run = run_notebook(write(tmp_path, "02_a", "1", source, "2"), env=env)
    assert run.error.startswith(reason)
    assert "\n" not in run.error


def test_a_kernel_that_cannot_start_says_why(tmp_path, env):
    (tmp_path / "ipykernel_launcher.py").write_text("raise SystemExit('no kernel today')")
    run = run_notebook(write(tmp_path, "02_a", "1"), env=env | {"PYTHONPATH": str(tmp_path)})
    assert run.error == "the kernel did not start (no kernel today)"


def test_a_cell_that_takes_too_long_is_stopped(tmp_path, env):
    run = run_notebook(write(tmp_path, "02_a", "while True: pass", "open('reached', 'w')"), env=env, timeout=1)
    assert run.error == "cell [1]: took longer than 1 s"
    assert not kernels() and not (tmp_path / "reached").exists()


def test_nothing_is_printed_and_no_widget_state_is_stored(tmp_path, env):
    path = write(tmp_path, "02_a", "import ipywidgets\nipywidgets.IntSlider()")
    code = (
        "import json, sys; from reclab.runner import run_notebook\n"
        "run = run_notebook(sys.argv[1], env=json.loads(sys.argv[2]))\n"
        "assert run.error is None\n"
        "assert not set(run.node.metadata) - {'kernelspec', 'language_info'}, run.node.metadata\n"
        "outputs = run.node.cells[0].outputs\n"
        "assert [o.output_type for o in outputs] == ['execute_result'], outputs\n"
        "assert run.node.cells[0].metadata == {}, run.node.cells[0].metadata\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", code, str(path), json.dumps(env)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.stdout == ""


def test_results_of_an_earlier_run_do_not_count(tmp_path, env):
    path = write(tmp_path, "02_a", CHECK + "_ = check('02.a', 1)")
    assert list(run_notebook(path, env=env).results) == ["02.a"]
    assert run_notebook(write(tmp_path, "02_a", "1"), env=env).results == {}


@pytest.mark.parametrize("content", ["", "<html>", "{}", '{"cells": 3, "nbformat": 4}', None])
def test_a_file_that_is_no_notebook_is_one_clear_line(tmp_path, env, content):
    path = tmp_path / "02_a.ipynb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ReclabError, match=r"02_a\.ipynb is not a notebook that can be read") as caught:
        run_notebook(path, env=env)
    assert "\n" not in str(caught.value)


def test_notebooks_are_found_by_number_or_name(tmp_path):
    for name in ("00_start", "02_bert", "12_end"):
        write(tmp_path, name)
    (tmp_path / "scratch.ipynb").write_text("")

    def find(*names):
        return [path.stem for path in find_notebooks(list(names), tmp_path)]

    assert find() == ["00_start", "02_bert", "12_end"]
    assert find("12", "2", "02") == ["02_bert", "12_end"]
    assert find("0", "02_bert.ipynb", "notebooks/12_end.ipynb") == ["00_start", "02_bert", "12_end"]
    with pytest.raises(UnknownNameError, match="no notebook named '7'; choose one of: 00_start, 02_bert, 12_end"):
        find("02", "7")


def test_the_series_of_the_current_folder_comes_first(tmp_path, monkeypatch):
    import reclab.series

    monkeypatch.setattr(reclab.series, "__file__", str(tmp_path / "checkout" / "reclab" / "series.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReclabError, match="no notebooks here; change to the folder of your clone"):
        notebooks_folder()
    write(tmp_path / "checkout" / "notebooks", "00_a")
    assert notebooks_folder() == tmp_path / "checkout" / "notebooks"
    write(tmp_path / "notebooks", "00_a")
    assert notebooks_folder() == tmp_path / "notebooks"
