"""Files as others write them: plain, gzip, bzip2 or zip, and pictures.

Nothing is unpacked to the disk, and what stands in a file's place is refused by name.
"""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..assets import stand_in
from ..errors import AssetError, ReclabError, SchemaError
from .schema import listed

BLOCK = 4 << 20  # bytes of lines that are handed on at once
LONGEST = 16 << 20  # bytes of the longest line that is read
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn what a damaged or foreign file sets off into one line that names the file."""
    try:
        yield
    except ReclabError:
        raise
    except FileNotFoundError:
        raise AssetError(
            f"there is no file {path}; give its path, or fetch it with `reclab data fetch`"
        ) from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        if isinstance(error, _DAMAGED):
            raise AssetError(f"{path} is cut off or damaged: {reason}; fetch it anew") from None
        raise SchemaError(
            f"{path} cannot be read: {reason}; look at it, or fetch it anew"
        ) from None


def members(source: str | Path) -> list[str]:
    """Full names of the files in a folder or a zip file, shortest first; else the file's name."""
    path = Path(source)
    with named(path):
        if path.is_dir():
            found = [file for file in path.rglob("*") if file.is_file()]
            names = [file.relative_to(path).as_posix() for file in found]
        elif _is_zip(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
            names = [name for name in names if "__MACOSX" not in name]
        else:
            names = [path.name]
    return sorted(names, key=lambda name: (len(name), name))


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _only(path: Path) -> str:
    """The name of the only file that a folder or a zip file holds."""
    names = members(path)
    if len(names) != 1:
        raise AssetError(f"{path} holds {len(names)} files: {listed(names, 5)}; give one of them")
    return names[0]


@contextmanager
def opened(source: str | Path, member: str = "") -> Iterator[BinaryIO]:
    """A readable stream of a plain, gzip, bzip2 or zip file, or a member of a zip file or folder,
    by its name of `members`; without one, of the only one.

    Raises AssetError: the file is missing, empty, cut off, or an HTML page, a Git-LFS pointer or a
        server's error message.
    Raises SchemaError: what reads it finds another format.
    """
    path = Path(source)
    if path.is_dir():
        path, member = path / (member or _only(path)), ""
    with named(path), ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        if _is_zip(path):
            archive = stack.enter_context(zipfile.ZipFile(stream))
            stream = stack.enter_context(archive.open(member or _only(path)))
        elif stream.peek(2)[:2] == b"\x1f\x8b":
            stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
        elif stream.peek(3)[:3] == b"BZh":
            stream = stack.enter_context(io.BufferedReader(bz2.BZ2File(stream)))
        start = stream.peek(512)[:512]
        if not start:
            raise AssetError(f"{path} is empty; fetch it anew")
        if found := stand_in(start):
            raise AssetError(f"{path} is not the data: {found}; download the file itself")
        yield stream


def blocks(stream: BinaryIO, name: str) -> Iterator[list[bytes]]:
    """The lines, some MiB at a time.

    Raises SchemaError: a line is longer than `LONGEST`.
    """
    lines, size = [], 0
    while line := stream.readline(LONGEST):
        if len(line) == LONGEST:
            raise SchemaError(
                f"{name}: a line is longer than {LONGEST >> 20} MiB; is this a file of lines?"
            )
        lines.append(line)
        size += len(line)
        if size >= BLOCK:
            yield lines
            lines, size = [], 0
    if lines:
        yield lines


def load_pictures(
    folder: str | Path, item_ids: Sequence[str], *, size: int = 32, broken: str = "refuse"
) -> tuple[np.ndarray, np.ndarray]:
    """Read photographs: one file an item, named by its id, with any ending that Pillow reads.

    Parameters
    ----------
    folder : holds ``<item_id>.png``, ``.jpg`` and so on; other files are left alone.
    size : pixels a side; a photograph is cut to its central square and scaled.
    broken : ``"refuse"`` raises at a file that is no picture; ``"absent"`` counts its item as one
        without a picture.

    Returns: ``(n_items, size, size, 3)`` uint8, zero where there is no picture, and ``(n_items,)``
        bool: which items have one.

    Raises AssetError: no such folder; none of the items has a file; or a file is no picture.
    Raises SchemaError: an item has two files. ValueError : ``size`` or ``broken`` is out of range.
    """
    from PIL import Image, ImageOps

    if size < 1 or broken not in ("refuse", "absent"):
        raise ValueError(
            f"size must be 1 or more and broken 'refuse' or 'absent', got {size} and {broken!r}"
        )
    files = _pictures_by_item(Path(folder), set(Image.registered_extensions()))
    if files.keys().isdisjoint(item_ids):
        raise AssetError(
            f"{folder} has no picture of any of the {len(item_ids)} items; "
            "name the files <item_id>.png"
        )
    pictures = np.zeros((len(item_ids), size, size, 3), np.uint8)
    present = np.zeros(len(item_ids), bool)
    for row, item in enumerate(item_ids):
        if item not in files:
            continue
        try:
            with Image.open(files[item]) as picture:
                upright = ImageOps.exif_transpose(picture).convert("RGB")
                pictures[row] = ImageOps.fit(upright, (size, size))
            present[row] = True
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            if broken == "refuse":
                raise AssetError(
                    f"{files[item]} is no picture; replace or remove it, "
                    "or call with broken='absent' to go on without"
                ) from None
    return pictures, present


def _pictures_by_item(folder: Path, endings: set[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise AssetError(f"there is no folder {folder}; give the one that holds the pictures")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in endings:
            if path.stem in found:
                both = f"{found[path.stem].name} and {path.name}"
                raise SchemaError(f"{folder}: item {path.stem!r} has two pictures, {both}")
            found[path.stem] = path
    return found
