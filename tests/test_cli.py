import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from bs4 import BeautifulSoup
from small_notebooks import BANDS, CHECK, write
from waiting import CEILING, wait_for

from reclab import __version__, assets, cli
from reclab.errors import AssetError
from reclab.profiles import PROFILES


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with notebooks to run, whose assets are there already; returns it and what was fetched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECLAB_LEDGER", raising=False)
    monkeypatch.setenv("RECLAB_DERIVED", str(tmp_path / "cache"))
    fetched = []
    monkeypatch.setattr(assets, "fetch", lambda name, verbose=False: fetched.append((name, verbose)))
    return tmp_path, fetched


def only_run(folder):
    (run,) = (folder / "runs").iterdir()
    return run


OUTSIDE = BANDS.format(bands="{'02.b': {'low': 0, 'high': 1}}") + "check('02.b', 7)"


def test_run_executes_the_series_and_writes_its_report(checkout, capsys):
    folder, fetched = checkout
    write(folder / "notebooks", "00_start", "# Words", CHECK + "check('00.a', 0.5)\ncheck('00.b', 2)")
    write(folder / "notebooks", "02_bert", "print('hello')")
    assert cli.main(["run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"00_start \.\.\. \d+ s, \d+ MiB, 2 results, ok", said[0])
    assert re.fullmatch(r"02_bert \.\.\. \d+ s, \d+ MiB, 0 results, ok", said[1])
    run = only_run(folder)
    assert said[2] == f"The report is {run / 'index.html'}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", run.name)
    names = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert names == {
        "index.html",
        "receipt.json",
        "00.html",
        "02.html",
        "notebooks/00.ipynb",
        "notebooks/02.ipynb",
        "ledger/00.json",
    }
    assert "hello" in (run / "02.html").read_text("utf-8")
    assert json.loads((run / "receipt.json").read_text("utf-8"))["complete"] is True
    assert [name for name, _ in fetched] == [
        "movielens-100k",
        "wikidata-films",
        "clothing-reviews",
        "open-bandit-small",
        "minilm-l6",
    ]
    assert all(verbose for _, verbose in fetched)
    assert {p.name for p in folder.iterdir()} == {"notebooks", "runs"}


def test_run_takes_names_a_folder_a_profile_and_a_seed(checkout, monkeypatch):
    folder, fetched = checkout
    monkeypatch.setenv("RECLAB_SEED", "5")
    source = "import os\nprint(os.environ['RECLAB_PROFILE'], os.environ['RECLAB_SEED'])"
    for name in ("00_start", "02_bert", "04_fusion"):
        write(folder / "notebooks", name, source)
    assert cli.main(["run", "4", "02_bert", "--out", "mine", "--profile", "gpu"]) == 0
    assert {p.name for p in (folder / "mine" / "notebooks").iterdir()} == {"02.ipynb", "04.ipynb"}
    assert "gpu 5" in (folder / "mine" / "02.html").read_text("utf-8")
    receipt = json.loads((folder / "mine" / "receipt.json").read_text("utf-8"))
    assert (receipt["profile"], receipt["seed"]) == ("gpu", 5)
    assert fetched[-1][0] == PROFILES["gpu"].model and len(fetched) == 6


def test_fresh_starts_with_an_empty_derived_cache_and_leaves_the_users_alone(checkout):
    folder, _ = checkout
    (folder / "cache").mkdir()
    (folder / "cache" / "old").write_text("kept")
    source = (
        "import os, pathlib\nderived = pathlib.Path(os.environ['RECLAB_DERIVED'])\n"
        "print('found', [p.name for p in derived.glob('*')])\n"
        "derived.mkdir(exist_ok=True)\n_ = (derived / 'new').write_text('x')"
    )
    write(folder / "notebooks", "00_start", source)
    assert cli.main(["run", "--fresh", "--out", "a"]) == 0
    assert "found []" in (folder / "a" / "00.html").read_text("utf-8")
    assert not (folder / "a" / "derived").exists()
    assert [p.name for p in (folder / "cache").iterdir()] == ["old"]
    assert cli.main(["run", "--out", "b"]) == 0
    html = BeautifulSoup((folder / "b" / "00.html").read_text("utf-8"), "html.parser")
    assert "found ['old']" in html.text


def test_run_fails_on_a_number_outside_its_band_and_stops_there(checkout, capsys):
    folder, _ = checkout
    write(folder / "notebooks", "02_bert", OUTSIDE)
    write(folder / "notebooks", "04_fusion", "1")
    assert cli.main(["run"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("1 result, 02.b = 7  OUTSIDE its band [0, 1]")
    assert said[1].startswith("Stopped after 02_bert, which failed. The report is ")
    index = (only_run(folder) / "index.html").read_text("utf-8")
    assert "This report is partial." in index and "Not run: 04_fusion." in index


def test_keep_going_runs_the_rest_and_still_fails(checkout, capsys):
    folder, _ = checkout
    write(folder / "notebooks", "00_start", "raise ValueError('no\\nluck')")
    write(folder / "notebooks", "02_bert", OUTSIDE)
    write(folder / "notebooks", "04_fusion", "1")
    assert cli.main(["run", "--keep-going"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("0 results, cell [1]: ValueError: no luck")
    assert "OUTSIDE" in said[1] and said[2].endswith("ok") and said[3].startswith("The report is ")
    assert (only_run(folder) / "04.html").is_file()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "7"], "there is no notebook named '7'; choose one of: 00_start"),
        (["run", "--profile", "huge"], "there is no profile named 'huge'; choose one of: gpu, laptop"),
        (["calibrate", "bert"], "there is no notebook named 'bert'; choose one of: 00_start"),
        (["data", "fetch", "netflix"], "there is no asset named 'netflix'; choose one of: "),
        (["data", "verify", "netflix"], "there is no asset named 'netflix'; choose one of: "),
    ],
)
def test_an_unknown_name_is_one_line_and_status_2(checkout, capsys, argv, message):
    folder, fetched = checkout
    write(folder / "notebooks", "00_start", "1")
    assert cli.main(argv) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"reclab: {message}") and said.err.count("\n") == 1
    assert said.out == "" and fetched == []
    assert not (folder / "runs").exists()


def test_an_asset_that_cannot_be_fetched_stops_the_run_before_it_starts(checkout, capsys, monkeypatch):
    folder, _ = checkout
    write(folder / "notebooks", "00_start", "1")

    def fail(name, verbose=False):
        raise AssetError(f"{name} cannot be fetched")

    monkeypatch.setattr(assets, "fetch", fail)
    assert cli.main(["run"]) == 1
    assert capsys.readouterr().err == "reclab: movielens-100k cannot be fetched\n"
    assert not (folder / "runs").exists()


def test_a_folder_in_use_is_refused(checkout, capsys):
    folder, _ = checkout
    write(folder / "notebooks", "00_start", "1")
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("precious")
    assert cli.main(["run", "--out", "mine"]) == 1
    assert "is not empty; name a new folder after --out" in capsys.readouterr().err
    assert [p.name for p in (folder / "mine").iterdir()] == ["thesis.txt"]
    assert cli.main(["run", "--out", "mine/thesis.txt"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


INTERRUPTIBLE = """
import signal, sys
from reclab import assets, cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with Ctrl-C ignored
assets.fetch = lambda name, verbose=False: None
sys.exit(cli.main(["run", "--fresh"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_leaves_a_usable_partial_report(checkout):
    folder, _ = checkout
    write(folder / "notebooks", "00_start", CHECK + "check('00.a', 3)")
    slow = CHECK + "check('02.a', 4)\nopen('started', 'w').close()\nimport time; time.sleep(3600)"
    write(folder / "notebooks", "02_bert", slow)
    write(folder / "notebooks", "04_fusion", "1")
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    started = folder / "notebooks" / "started"
    wait_for("the second notebook", lambda: started.exists() or process.poll() is not None)
    kernels = psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=CEILING)
    assert process.returncode == 130, err
    assert err == ""
    run = only_run(folder)
    said = out.splitlines()
    assert said[0].endswith("1 result, ok") and said[1].endswith("1 result, stopped by Ctrl-C")
    assert said[2] == f"Stopped by Ctrl-C in 02_bert. The report is {run / 'index.html'}"
    text = " ".join(BeautifulSoup((run / "index.html").read_text("utf-8"), "html.parser").text.split())
    assert "This report is partial. Stopped by Ctrl-C in 02_bert. Not run: 04_fusion." in text
    assert "00.a" in text and "02.a" in text
    assert (run / "00.html").is_file() and (run / "02.html").is_file()
    assert not (run / "derived").exists()
    assert kernels and not any(kernel.is_running() for kernel in kernels)


def test_data_passes_on_what_was_asked_and_its_status(monkeypatch):
    asked = []
    monkeypatch.setattr(assets, "command", lambda args: asked.append((args.action, args.names)) or 1)
    assert cli.main(["data", "fetch", "minilm-l6", "movielens-100k"]) == 1
    assert cli.main(["data", "list"]) == 1
    assert asked == [("fetch", ["minilm-l6", "movielens-100k"]), ("list", [])]


def test_calibrate_writes_bands_and_judges_the_proof(checkout, capsys):
    folder, fetched = checkout
    seed = "import os\nseed = int(os.environ['RECLAB_SEED'])\n" + CHECK
    write(folder / "notebooks", "00_start", seed + "check('00.a', 5)")
    write(folder / "notebooks", "02_bert", seed + "check('02.a', 5 if seed < 3 else 6)")
    assert cli.main(["calibrate", "0", "--seeds", "2", "--prove", "1"]) == 0
    assert "00_start: 100.0% of the results of 1 fresh seeds inside" in capsys.readouterr().out
    assert (folder / "notebooks" / "expected" / "laptop" / "00.toml").is_file()
    assert not (folder / "notebooks" / "expected" / "laptop" / "02.toml").exists()
    assert len(fetched) == 5
    assert cli.main(["calibrate", "2", "--seeds", "2", "--prove", "1"]) == 1
    said = capsys.readouterr()
    assert "  seed 3: 02.a = 6 lies outside [5, 5]\n" in said.out
    assert said.err == "reclab: 02_bert: fewer than 97% inside; measure more seeds\n"


@pytest.mark.parametrize("argv", [[], ["fly"], ["data", "burn"], ["calibrate", "--seeds", "many"]])
def test_what_the_command_line_does_not_know_has_status_2(argv, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(argv)
    assert end.value.code == 2 and "usage: reclab" in capsys.readouterr().err


def test_help_loads_nothing_heavy():
    code = (
        "import sys, reclab.cli\nreclab.cli.parser().format_help()\n"
        "print({'torch', 'pandas', 'nbclient', 'nbconvert', 'nbformat', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_command_is_installed():
    reclab = Path(sys.executable).with_name("reclab")
    done = subprocess.run([reclab, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"reclab {__version__}\n"
