"""`reclab doctor` finds each trouble that is made here on purpose, and no other, and says what to do about it."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from reclab import assets, doctor, profiles
from reclab.run import main
from refresh_notebooks import SETUP

GIB = 2**30


def memory(patch, free):
    patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=8 * GIB, available=free * GIB))


@pytest.fixture
def patch(tmp_path, monkeypatch):
    """A machine without trouble, whatever the real one is like; gives what plants one."""
    for name in [name for name in os.environ if name.startswith(("RECLAB_", "OMP_NUM"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "CHECKOUT", tmp_path)
    for name in ("assets", "derived"):
        monkeypatch.setattr(assets, f"{name}_folder", lambda name=name: tmp_path / "cache" / name)
    status = [{"name": name, "status": "missing"} for name in ("movies", "clothing")]
    monkeypatch.setattr(assets, "listing", lambda: status)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=50 * GIB))
    monkeypatch.setattr(profiles, "memory_granted", lambda: None)
    monkeypatch.setattr(doctor, "cores_seen", lambda: 4)
    monkeypatch.setattr(doctor, "cores_granted", lambda: 4.0)
    memory(monkeypatch, 6)
    return monkeypatch


def lines(capsys) -> dict[str, tuple[str, str]]:
    """What is said of each thing, and the remedy, which is empty where there is no trouble."""
    said, found = capsys.readouterr().out.splitlines(), {}
    for line, after in zip(said, [*said[1:], ""], strict=True):
        if not line.startswith(" "):
            what, verdict, words = line.split(maxsplit=2)
            assert (verdict == "TROUBLE") == after.startswith(" "), "a trouble without a remedy"
            found[what] = words, after.partition("-> ")[2]
    return found


def test_a_machine_without_trouble_exits_0(patch, capsys):
    assert main(["doctor"]) == 0
    found = lines(capsys)
    names = "Python package libraries memory processors GPU data computed reports"
    assert list(found) == names.split()
    assert not [what for what, (_, remedy) in found.items() if remedy]
    assert "no lock here" in found["libraries"][0] and "8.0 GiB, 6.0 GiB free" in found["memory"][0]
    assert not (Path("cache")).exists(), "a doctor leaves things as they are"


def other_package(patch):
    patch.setattr(importlib.metadata, "packages_distributions", lambda: {"reclab": ["reclab_kit", "reclab-sim"]})


def without(name):
    def plant(patch):
        there = [each for each in importlib.metadata.distributions() if each.name != name]
        patch.setattr(importlib.metadata, "distributions", lambda: there)

    return plant


def moved(patch):
    Path("requirements.lock").write_text("# tested\nnumpy==1.0\nnever-installed==1\n")


def no_room(patch):
    real = shutil.disk_usage
    patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=GIB) if path == Path.cwd() else real(path))
    Path("cache").mkdir()


def unwritable(name):
    """A file in the place of a folder; the root user could write into one that is read-only."""

    def plant(patch):
        Path("file").write_text("")
        patch.setattr(assets, f"{name}_folder", lambda: Path("file").absolute())

    return plant


def damaged(patch):
    assets.listing()[0].update(status="damaged")


def no_torch(patch):
    patch.setitem(sys.modules, "torch", None)


TROUBLES = {
    "Python": (lambda patch: patch.setattr(sys, "version_info", (3, 14, 0)), "", "Python 3.11, 3.12 or 3.13"),
    "package": (other_package, "reclab-sim installs another one", "pip uninstall reclab-sim, then install this one"),
    "libraries": (without("reclab-kit"), "reclab-kit is not installed", "as the README says"),
    "libraries ": (without("captum"), "captum is missing", "python -m pip install -e ."),
    "libraries  ": (moved, ", tested 1.0", "python -m pip install -c requirements.lock -e ."),
    "memory": (lambda patch: memory(patch, 1.5), "8.0 GiB, 1.5 GiB free", "close other programs"),
    "memory ": (
        lambda patch: patch.setattr(profiles, "memory_granted", lambda: GIB),
        "1.0 GiB, 1.0 GiB free",
        "ask for",
    ),
    "processors": (lambda patch: patch.setattr(doctor, "cores_granted", lambda: 0.5), "0.5 granted", "--timeout"),
    "processors ": (lambda patch: patch.setenv("OMP_NUM_THREADS", "8"), "8 threads", "unset OMP_NUM_THREADS"),
    "GPU": (lambda patch: patch.setenv("RECLAB_PROFILE", "gpu"), "RECLAB_PROFILE is gpu", "unset RECLAB_PROFILE"),
    "GPU ": (lambda patch: patch.setattr(shutil, "which", lambda name: name), "does not see", "with CUDA"),
    "GPU  ": (no_torch, "torch", "install PyTorch"),
    "data": (unwritable("assets"), "file cannot be written", "RECLAB_DATA"),
    "data ": (damaged, "movies is damaged", "reclab data fetch movies"),
    "computed": (unwritable("derived"), "file cannot be written", "RECLAB_DERIVED"),
    "reports": (no_room, "1.0 GiB free", "another folder, or name one after --out"),
}


@pytest.mark.parametrize("what", TROUBLES)
def test_each_trouble_is_found_with_its_remedy(patch, capsys, what):
    plant, words, remedy = TROUBLES[what]
    plant(patch)
    assert main(["doctor"]) == 1
    found = lines(capsys)
    assert [each for each, (_, remedy) in found.items() if remedy] == [what.strip()]
    said, do = found[what.strip()]
    assert words in said and remedy in do


def test_a_folder_of_data_that_cannot_be_written_will_do_where_all_is_there(patch, capsys):
    unwritable("assets")(patch)
    for row in assets.listing():
        row.update(status="cached")
    assert main(["doctor"]) == 0
    assert "cannot be written" in lines(capsys)["data"][0]


# --- the first cell of every notebook, where the doctor cannot be asked


@pytest.mark.parametrize("init", ["", "raise ImportError('no gym')", "get_profile = None"])
def test_the_first_cell_names_another_package_of_that_name(tmp_path, init):
    site = tmp_path / "site"
    (site / "reclab").mkdir(parents=True)
    (site / "reclab" / "__init__.py").write_text(init)
    info = site / "reclab_sim-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: reclab-sim\nVersion: 1\n")
    (info / "RECORD").write_text("reclab/__init__.py,,\n")
    done = cell(tmp_path, str(site))
    if "get_profile" in init:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    said = "ModuleNotFoundError: another reclab is in its place: pip uninstall reclab-sim; the README says how"
    assert said in done.stderr


def test_the_first_cell_says_where_reclab_is_not_installed(tmp_path):
    done = cell(tmp_path, str(tmp_path))
    assert (
        done.returncode == 1 and "ModuleNotFoundError: reclab is not installed here; the README says how" in done.stderr
    )


def cell(folder: Path, path: str) -> subprocess.CompletedProcess:
    """Run the first cell where only ``path`` holds packages; -S leaves out this environment's own."""
    command = [sys.executable, "-S", "-P", "-c", SETUP]
    return subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
