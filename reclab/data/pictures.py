"""Product pictures: drawn from attributes by whole-number arithmetic, or read from a folder of photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import AssetError, SchemaError

SIZE = 32  # pixels a side
SILHOUETTES = ("disc", "block", "cone", "cross")
COLOURS = {
    "red": (200, 50, 45),
    "orange": (235, 140, 30),
    "green": (50, 150, 70),
    "blue": (50, 90, 190),
    "purple": (130, 60, 160),
    "yellow": (230, 210, 60),
}
PATTERNS = ("plain", "stripes", "dots", "checks")


def draw_pictures(
    silhouette: np.ndarray, colour: np.ndarray, pattern: np.ndarray, chance: np.ndarray, grain: np.ndarray
) -> np.ndarray:
    """One picture an item; whole numbers only, so that every machine draws the same pixels.

    Parameters
    ----------
    silhouette, colour, pattern : ``(n,)`` positions in ``SILHOUETTES``, ``COLOURS`` and ``PATTERNS``.
    chance : ``(n, 4)`` uniform in [0, 1): moves, scales and lights each item, so that no two pictures are the same.
    grain : ``(n, 32, 32)`` uniform in [0, 1): the noise of the camera.

    Returns: ``(n, 32, 32, 3)`` uint8.
    """
    column, row, size, light = (
        np.floor(chance[:, i] * k).astype(int)[:, None, None] for i, k in enumerate((3, 3, 4, 41))
    )
    y, x = np.mgrid[:SIZE, :SIZE]
    x, y, size = x - 15 - column, y - 15 - row, size + 8
    shape = np.choose(silhouette[:, None, None], _silhouettes(x, y, size))
    dark = shape & np.choose(pattern[:, None, None], _patterns(x, y))
    paint = np.array(list(COLOURS.values()))[colour][:, None, None, :]
    pixels = np.where(shape[..., None], np.where(dark[..., None], paint // 3, paint), 190 + light[..., None])
    pixels = pixels + np.floor(grain * 11).astype(int)[..., None] - 5
    return pixels.clip(0, 255).astype(np.uint8)


def _silhouettes(x, y, size) -> list[np.ndarray]:
    return [
        x * x + y * y <= size * size,
        np.maximum(abs(x), abs(y)) < size,
        (2 * abs(x) <= y + size) & (y < size),
        (np.minimum(abs(x), abs(y)) < size // 3 + 1) & (np.maximum(abs(x), abs(y)) <= size),
    ]


def _patterns(x, y) -> list[np.ndarray]:
    return [
        np.zeros(np.broadcast_shapes(x.shape, y.shape), bool),
        (x + 0 * y) % 6 < 3,
        (x % 5 < 2) & (y % 5 < 2),
        (x // 4 + y // 4) % 2 == 0,
    ]


def load_pictures(
    folder: str | Path, item_ids: Sequence[str], *, size: int = SIZE, broken: str = "refuse"
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
    files = _files(Path(folder))
    if not any(item in files for item in item_ids):
        raise AssetError(f"{folder} has no picture of any of the {len(item_ids)} items; name the files <item_id>.png")
    pictures = np.zeros((len(item_ids), size, size, 3), np.uint8)
    present = np.zeros(len(item_ids), bool)
    for row, item in enumerate(item_ids):
        if item in files:
            pixels = _read(files[item], size, refuse=broken == "refuse")
            if pixels is not None:
                pictures[row], present[row] = pixels, True
    return pictures, present


def _files(folder: Path) -> dict[str, Path]:
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


def _read(path: Path, size: int, refuse: bool) -> np.ndarray | None:
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
