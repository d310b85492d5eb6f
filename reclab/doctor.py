"""``reclab doctor``: what would keep the series from running here, and what to do about it.

Each look gives what was found, and its remedy, which is empty where there is no trouble.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from . import __version__, assets
from .errors import one_line
from .profiles import PROFILES, cores_granted, cores_seen, memory

NAME = "reclab-kit"  # our distribution; what others install under the package's name is not ours
PYTHONS = (3, 11), (3, 14)  # the first that will do, the first that will not
MEMORY = 1.6 * 2**30  # bytes that the largest notebook takes
DISK = 1.5 * 2**30  # bytes of data, models and computed results
CHECKOUT = Path(__file__).parent.parent


def command(args: argparse.Namespace) -> int:
    """Print a table of what is here; 1 where there is trouble."""
    status = 0
    for what, found, remedy in examine():
        print(f"{what:<15} {'TROUBLE' if remedy else 'ok':<8} {found}")
        if remedy:
            print(f"{'':<24} -> {remedy}")
            status = 1
    return status


def examine() -> Iterator[tuple[str, str, str]]:
    """Look at everything that a run of the series needs: name, what was found, remedy."""
    fits = PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]
    remedy = "make a virtual environment with Python 3.11, 3.12 or 3.13"
    yield "Python", f"{platform.python_version()}, {sys.executable}", "" if fits else remedy
    yield "package", *_package()
    yield "libraries", *_libraries(CHECKOUT / "requirements.lock")
    total, free = memory()
    remedy = "close other programs, or ask for more; a notebook takes up to 1.6 GiB"
    yield "memory", f"{_gib(total)}, {_gib(free)} free", remedy if free < MEMORY else ""
    yield "processors", *_processors()
    yield "GPU", *_gpu()
    yield "data", *_data()
    elsewhere = "set RECLAB_DERIVED to another folder"
    yield "computed", *_folder(assets.derived_folder(), elsewhere)
    elsewhere = "start reclab in another folder, or name one after --out"
    yield "reports", *_folder(Path.cwd(), elsewhere)


def _package() -> tuple[str, str]:
    owners = {_normal(name) for name in metadata.packages_distributions().get("reclab", [])}
    others = " ".join(sorted(owners - {NAME}))
    found = f"reclab {__version__}, {Path(__file__).parent}"
    if not others:
        return found, ""
    remedy = f"python -m pip uninstall {others}, then install this one again as the README says"
    return f"{found}; {others} installs another one of that name", remedy


def _libraries(lock: Path) -> tuple[str, str]:
    """What is installed, held to what is needed, and to the tested versions where a lock says."""
    installed = {}
    for each in metadata.distributions():
        if each.name:  # a folder that pip left half removed has none
            installed[_normal(each.name)] = each.version.partition("+")[0]
    if NAME not in installed:
        return f"{NAME} is not installed", "install it as the README says"
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
        return "; ".join(faults), f"python -m {install}, in the folder of your clone"
    versions = "at their tested versions" if tested else "(no lock here says at which versions)"
    return f"all {len(needed)} are there, {versions}", ""


def _normal(requirement: str) -> str:
    """The name of a distribution, as indexes compare names."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def _processors() -> tuple[str, str]:
    seen, granted = cores_seen(), cores_granted()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    found = f"{seen} seen, {granted:g} granted" + (f", {threads} threads" if threads else "")
    if threads.isdecimal() and int(threads) > max(1, granted):
        return found, "unset OMP_NUM_THREADS: so many wait for each other"
    if granted < 1:
        return found, "ask for a whole one, or give cells more --timeout"
    return found, ""


def _gpu() -> tuple[str, str]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return one_line(error), "install PyTorch as pytorch.org says"
    if torch.cuda.is_available():
        precision = PROFILES["gpu"].precision
        return f"{torch.cuda.get_device_name()}, {precision} on --profile gpu", ""
    if shutil.which("nvidia-smi"):
        remedy = "install a PyTorch with CUDA, as pytorch.org says, or look at the driver"
        return f"one that PyTorch {torch.__version__} does not see", remedy
    if os.environ.get("RECLAB_PROFILE") == "gpu":
        return "none, but RECLAB_PROFILE is gpu", "unset RECLAB_PROFILE"
    return "none; profile laptop needs none", ""


def _data() -> tuple[str, str]:
    """Data and models; a folder that cannot be written will do where all is there."""
    status = {row["name"]: row["status"] for row in assets.listing()}
    damaged = [name for name, each in status.items() if each == "damaged"]
    here = [name for name, each in status.items() if each == "cached"]
    folder, remedy = _folder(assets.assets_folder(), "set RECLAB_DATA to another folder")
    found = f"{folder}; {len(here)} of {len(status)} are there"
    if damaged:
        fetch = f"delete its folder and run reclab data fetch {damaged[0]}"
        return f"{found}; {damaged[0]} is damaged", fetch
    return found, "" if len(here) == len(status) else remedy


def _folder(folder: Path, elsewhere: str) -> tuple[str, str]:
    """Whether a folder, or the nearest above it that is there, can be written, and has room."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror})", elsewhere
    remedy = f"free some space there, or {elsewhere}" if free < DISK else ""
    return f"{folder}, {_gib(free)} free", remedy


def _gib(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
