"""Opening files of any size: plain, gzip or zip, and pictures; what stands in their place is refused by name.

Nothing is ever unpacked to the disk.
"""

from __future__ import annotations

import csv
import gzip
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa

from ..assets import stand_in
from ..errors import AssetError, ReclabError, SchemaError
from .schema import listed

BLOCK = 4 << 20  # bytes of text that are parsed at once
LONGEST = 16 << 20  # bytes of the longest line that is read
_BOM = b"\xef\xbb\xbf"
_BROKEN = (
    *(OSError, EOFError, zlib.error, zipfile.BadZipFile, struct.error, csv.Error),
    *(ValueError, RuntimeError, pa.ArrowException),
)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn what a damaged or foreign file sets off into one line that names the file."""
    try:
        yield
    except ReclabError:
        raise
    except FileNotFoundError:
        raise AssetError(f"there is no file {path}; give its path, or fetch it with `reclab data fetch`") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise AssetError(f"{path} is cut off or damaged: {first_line(error)}; fetch it anew") from None
    except _BROKEN as error:
        raise SchemaError(f"{path} cannot be read: {first_line(error)}; look at it, or fetch it anew") from None


def first_line(error: BaseException) -> str:
    """The reason in one short line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")


def members(source: str | Path) -> list[str]:
    """Names of the files in a folder or a zip file, shortest first; of any other file its own name."""
    path = Path(source)
    with named(path):
        if path.is_dir():
            names = [str(file.relative_to(path).as_posix()) for file in path.rglob("*") if file.is_file()]
        elif _is_zip(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
        else:
            names = [path.name]
    return sorted(names, key=lambda name: (len(name), name))


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def find(source: str | Path, member: str) -> str:
    """The full name of a member, wherever the folder or the zip file holds it.

    Raises AssetError: it holds no such file.
    """
    names = members(source)
    for name in names:
        if name == member or name.endswith(f"/{member}"):
            return name
    raise AssetError(f"{source} holds no {member}; it holds {listed(names, 5)}")


@contextmanager
def opened(source: str | Path, member: str = "") -> Iterator[BinaryIO]:
    """A readable stream of a plain, gzip or zip file, or of a member of a zip file or a folder.

    Raises AssetError: the file is missing, empty, cut off, or an HTML page, a Git-LFS pointer or a server's error
        message.
    Raises SchemaError: what reads it finds another format.
    """
    path = Path(source)
    if path.is_dir():
        path, member = path / (find(path, member) if member else _only(path)), ""
    with named(path), ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        if _is_zip(path):
            archive = stack.enter_context(zipfile.ZipFile(stream))
            stream = stack.enter_context(archive.open(find(path, member or _only(path))))
        elif stream.peek(2)[:2] == b"\x1f\x8b":
            stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
        start = stream.peek(512)[:512]
        if not start:
            raise AssetError(f"{path} is empty; fetch it anew")
        if found := stand_in(start):
            raise AssetError(f"{path} is not the data: {found}; download the file itself")
        yield stream


def _only(path: Path) -> str:
    names = members(path)
    if len(names) != 1:
        raise AssetError(f"{path} holds {len(names)} files: {listed(names, 5)}; give one of them")
    return names[0]


def blocks(stream: BinaryIO, name: str, size: int | None = None) -> Iterator[bytes]:
    """Blocks of whole lines, each ending in a newline; without a byte order mark.

    Raises SchemaError: a line is longer than `LONGEST`.
    """
    rest = stream.read(len(_BOM)).removeprefix(_BOM)
    while more := stream.read(size or BLOCK):
        cut = more.rfind(b"\n") + 1
        if cut:
            yield rest + more[:cut]
            rest = more[cut:]
        else:
            rest += more
        if len(rest) > LONGEST:
            raise SchemaError(f"{name}: a line is longer than {LONGEST >> 20} MiB; is this a file of lines?")
    if rest:
        yield rest + b"\n"


def refuse(bad: Counter | None, name: str, where: str, why: str, kind: str) -> None:
    """Count a bad row where the caller counts them, else stop at it."""
    if bad is None:
        raise SchemaError(f"{name}: {where}: {why}; fix it, or count and drop such rows with `bad=Counter()`")
    bad[kind] += 1


def keep(table: pd.DataFrame, ok: np.ndarray, name: str, kind: str, why: str, bad: Counter | None) -> pd.DataFrame:
    """The rows that are ok; the first other one stops the reading, or all are counted.

    Parameters
    ----------
    table : its index says where each row stands in the file.
    ok : bool (n_rows,).
    why : what is wrong with the other rows.
    """
    ok = np.asarray(ok, bool)
    if ok.all():
        return table
    first = int((~ok).argmax())
    refuse(bad, name, f"{table.index.name or 'row'} {table.index[first]}", why, kind)
    if bad is not None:
        bad[kind] += int((~ok).sum()) - 1
    return table[ok]


def load_pictures(
    folder: str | Path, item_ids: Sequence[str], *, size: int = 32, broken: str = "refuse"
) -> tuple[np.ndarray, np.ndarray]:
    """Read real photographs: one file an item, named by its id, with any ending that Pillow reads.

    Parameters
    ----------
    folder : holds ``<item_id>.png``, ``.jpg`` and so on; other files are left alone.
    item_ids : wanted items, in the order of the result.
    size : pixels a side; a photograph is cut to its central square and scaled.
    broken : ``"refuse"`` raises at a file that is no picture; ``"absent"`` counts its item as one without a picture.

    Returns: ``(n_items, size, size, 3)`` uint8, zero where there is no picture, and ``(n_items,)`` bool: which items
        have one.

    Raises AssetError: there is no such folder; none of the items has a file; or a file is no picture.
    Raises SchemaError: an item has two files. ValueError : ``size`` or ``broken`` is out of range.
    """
    if size < 1 or broken not in ("refuse", "absent"):
        raise ValueError(f"size must be 1 or more and broken 'refuse' or 'absent', got {size} and {broken!r}")
    files = _picture_files(Path(folder))
    if not any(item in files for item in item_ids):
        raise AssetError(f"{folder} has no picture of any of the {len(item_ids)} items; name the files <item_id>.png")
    pictures = np.zeros((len(item_ids), size, size, 3), np.uint8)
    present = np.zeros(len(item_ids), bool)
    for row, item in enumerate(item_ids):
        if item in files:
            pixels = _pixels(files[item], size, refuse=broken == "refuse")
            if pixels is not None:
                pictures[row], present[row] = pixels, True
    return pictures, present


def _picture_files(folder: Path) -> dict[str, Path]:
    from PIL import Image

    if not folder.is_dir():
        raise AssetError(f"there is no folder {folder}; give the one that holds the pictures")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in Image.registered_extensions():
            if path.stem in found:
                raise SchemaError(
                    f"{folder}: item {path.stem!r} has two pictures, {found[path.stem].name} and {path.name}"
                )
            found[path.stem] = path
    return found


def _pixels(path: Path, size: int, refuse: bool) -> np.ndarray | None:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
            return np.asarray(ImageOps.fit(upright, (size, size)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        if refuse:
            raise AssetError(
                f"{path} is no picture; replace or remove it, or call with broken='absent' to go on without"
            ) from None
        return None
