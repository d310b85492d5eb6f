"""``reclab doctor``: what would keep the series from running here, and what to do about it."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from . import __version__, assets
from .errors import ReclabError, one_line
from .profiles import PROFILES, cores_granted, cores_seen, get_profile, memory
from .results import notebooks_folder

NAME = "reclab-kit"  # our distribution; what others install under the package's name is not ours
PYTHONS = (3, 11), (3, 14)  # the first that will do, the first that will not
MEMORY = 1.6 * 2**30  # bytes that the largest notebook takes
DISK = 1.5 * 2**30  # bytes of data, models and computed results
CHECKOUT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Finding:
    """One line of the table; a remedy where it is a trouble."""

    what: str
    found: str
    remedy: str = ""


def command(args: argparse.Namespace) -> int:
    """Print a table of what is here; 1 where there is trouble."""
    findings = list(examine())
    for each in findings:
        print(f"{each.what:<15} {'TROUBLE' if each.remedy else 'ok':<8} {each.found}")
        if each.remedy:
            print(f"{'':<24} -> {each.remedy}")
    return int(any(each.remedy for each in findings))


def examine() -> Iterator[Finding]:
    """Look at everything that a run of the series needs."""
    fits = PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]
    remedy = "make a virtual environment with Python 3.11, 3.12 or 3.13"
    found = f"{platform.python_version()}, {sys.executable}"
    yield Finding("Python", found, "" if fits else remedy)
    yield _package()
    yield _series()
    yield _libraries(CHECKOUT / "requirements.lock")
    yield _settings()
    yield _memory()
    yield _processors()
    yield _gpu()
    yield _data()
    yield _folder("computed", assets.derived_folder(), "set RECLAB_DERIVED to another folder")
    yield _folder("reports", Path.cwd(), "start reclab in another folder, or name one after --out")


def _package() -> Finding:
    owners = {_normal(name) for name in metadata.packages_distributions().get("reclab", [])}
    others = " ".join(sorted(owners - {NAME}))
    found = f"reclab {__version__}, {Path(__file__).parent}"
    if not others:
        return Finding("package", found)
    remedy = f"python -m pip uninstall {others}, then install this one again as the README says"
    return Finding("package", f"{found}; {others} installs another one of that name", remedy)


def _series() -> Finding:
    try:
        folder = notebooks_folder()
    except ReclabError as error:
        return Finding("notebooks", "none", str(error))
    return Finding("notebooks", f"{len([*folder.glob('[0-9][0-9]_*.ipynb')])} in {folder}")


def _libraries(lock: Path) -> Finding:
    """What is installed, held to what is needed, and to the tested versions where a lock says."""
    installed = {}
    for each in metadata.distributions():
        if each.name:  # a folder that pip left half removed has none
            installed[_normal(each.name)] = each.version.partition("+")[0]
    if NAME not in installed:
        return Finding("libraries", f"{NAME} is not installed", "install it as the README says")
    needed = {_normal(need) for need in metadata.requires(NAME) or [] if ";" not in need}
    faults = [f"{name} is missing" for name in sorted(needed - installed.keys())]
    text = lock.read_text("utf-8") if lock.is_file() else ""
    tested = {}  # on some Pythons another version than on others
    for name, version in re.findall(r"(?m)^([\w.-]+)==([\w.]+)", text):
        tested.setdefault(_normal(name), []).append(version)
    for name, versions in tested.items():
        if name in installed and installed[name] not in versions:
            faults.append(f"{name} {installed[name]}, tested {' or '.join(versions)}")
    if faults:
        install = f"pip install {'-c requirements.lock ' if tested else ''}-e ."
        remedy = f"python -m {install}, in the folder of your clone"
        return Finding("libraries", "; ".join(faults), remedy)
    versions = "at their tested versions" if tested else "(no lock here says at which versions)"
    return Finding("libraries", f"all {len(needed)} are there, {versions}")


def _normal(requirement: str) -> str:
    """The name of a distribution, as indexes compare names."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def _settings() -> Finding:
    own = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("RECLAB_")]
    try:
        return Finding("settings", "; ".join([str(get_profile()), *sorted(own)]))
    except ReclabError as error:
        return Finding("settings", "; ".join(sorted(own)), str(error))


def _memory() -> Finding:
    total, free = memory()
    remedy = "close other programs, or ask for more; a notebook takes up to 1.6 GiB"
    found = f"{_gib(total)}, {_gib(free)} free"
    return Finding("memory", found, remedy if free < MEMORY else "")


def _processors() -> Finding:
    seen, granted = cores_seen(), cores_granted()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    found = f"{seen} seen, {granted:g} granted" + (f", {threads} threads" if threads else "")
    if threads.isdecimal() and int(threads) > max(1, granted):
        return Finding("processors", found, "unset OMP_NUM_THREADS: so many wait for each other")
    if granted < 1:
        return Finding("processors", found, "ask for a whole one, or give cells more --timeout")
    return Finding("processors", found)


def _gpu() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("GPU", one_line(error), "install PyTorch as pytorch.org says")
    if torch.cuda.is_available():
        precision = PROFILES["gpu"].precision
        return Finding("GPU", f"{torch.cuda.get_device_name()}, {precision} on --profile gpu")
    if shutil.which("nvidia-smi"):
        remedy = "install a PyTorch with CUDA, as pytorch.org says, or look at the driver"
        return Finding("GPU", f"one that PyTorch {torch.__version__} does not see", remedy)
    if os.environ.get("RECLAB_PROFILE") == "gpu":
        return Finding("GPU", "none, but RECLAB_PROFILE is gpu", "unset RECLAB_PROFILE")
    return Finding("GPU", "none; profile laptop needs none")


def _data() -> Finding:
    """Data and models; a folder that cannot be written will do where all is there."""
    status = {row["name"]: row["status"] for row in assets.listing()}
    damaged = [name for name, each in status.items() if each == "damaged"]
    here = [name for name, each in status.items() if each == "cached"]
    folder = _folder("data", assets.assets_folder(), "set RECLAB_DATA to another folder")
    found = f"{folder.found}; {len(here)} of {len(status)} are there"
    if damaged:
        fetch = f"delete its folder and run reclab data fetch {damaged[0]}"
        return Finding("data", f"{found}; {damaged[0]} is damaged", fetch)
    return Finding("data", found, "" if len(here) == len(status) else folder.remedy)


def _folder(what: str, folder: Path, elsewhere: str) -> Finding:
    """Whether a folder, or the nearest above it that is there, can be written, and has room."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        return Finding(what, f"{folder} cannot be written ({error.strerror})", elsewhere)
    remedy = f"free some space there, or {elsewhere}" if free < DISK else ""
    return Finding(what, f"{folder}, {_gib(free)} free", remedy)


def _gib(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
