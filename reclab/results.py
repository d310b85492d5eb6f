"""Numbers that a notebook stands for: each is checked against a measured band and kept in a ledger.

Bands are written by ``reclab calibrate`` over many seeds, never by hand.
"""

from __future__ import annotations

import json
import math
import os
import tomllib
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from .errors import ReclabError
from .profiles import get_profile

WITHIN, OUTSIDE, RECORDED = "within", "OUTSIDE", "recorded"


@dataclass(frozen=True)
class Result:
    """One checked number: its key (``NN.name``), value, band, verdict, and its own interval where it has one."""

    key: str
    value: float
    low: float | None
    high: float | None
    verdict: str
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        own = "" if self.interval is None else f" [{_number(self.interval[0])}, {_number(self.interval[1])}]"
        head = f"{self.key} = {_number(self.value)}{own}  "
        if self.verdict == RECORDED:
            return head + f"recorded, no band for {get_profile().name}"
        return head + f"{self.verdict} its band [{_number(self.low)}, {_number(self.high)}]"


_ledger: dict[str, Result] = {}


def check(key: str, value: float | tuple[float, float, float]) -> None:
    """Print a number beside its band and note it in the ledger.

    Never raises on a number outside its band: the line says ``OUTSIDE``, which the tests and ``reclab run`` catch.

    Parameters
    ----------
    key : ``NN.name``, where NN is the notebook's number.
    value : a number, or an estimate with its interval ``(value, low, high)``, whose value is held to the band. NaN
        counts as outside any band.

    Raises
    ------
    ReclabError : the key does not start with a notebook's number.
    """
    notebook, _, name = key.partition(".")
    if not (len(notebook) == 2 and notebook.isdecimal() and name):
        raise ReclabError(f"a result's key looks like '02.auc_finetuned', got {key!r}")
    band = bands(notebook).get(key)
    number, *interval = map(float, value if isinstance(value, tuple) else (value,))
    own = tuple(interval) if interval else None
    if band is None:
        result = Result(key, number, None, None, RECORDED, own)
    else:
        low, high = float(band["low"]), float(band["high"])
        result = Result(key, number, low, high, WITHIN if low <= number <= high else OUTSIDE, own)
    _ledger[key] = result
    _save(notebook)
    print(result)


def ledger(notebook: str) -> None:
    """Print how many results of a notebook were checked in this session, and which lie outside their bands."""
    mine = [r for r in _ledger.values() if r.key.startswith(f"{notebook}.")]
    outside = [r.key for r in mine if r.verdict == OUTSIDE]
    unbanded = sum(r.verdict == RECORDED for r in mine)
    inside = len(mine) - len(outside) - unbanded
    print(
        f"{notebook}: {len(mine)} results, {inside} within their bands, {len(outside)} outside, "
        f"{unbanded} without a band"
    )
    for key in outside:
        print(f"  OUTSIDE: {key}")


def bands(notebook: str, profile: str | None = None) -> dict[str, dict]:
    """The measured bands of a notebook, by key; empty where none were calibrated for this profile.

    Raises
    ------
    ReclabError : the file of bands cannot be read as TOML.
    """
    return _expected(notebook, profile).get("bands", {})


def meta(notebook: str, profile: str | None = None) -> dict:
    """Which code, versions and seeds a notebook's bands were measured with; empty where there are none.

    Raises
    ------
    ReclabError : as `bands`.
    """
    return _expected(notebook, profile).get("meta", {})


def _expected(notebook: str, profile: str | None) -> dict:
    path = expected_folder() / (profile or get_profile().name) / f"{notebook}.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:  # not TOML, or not UTF-8
        raise ReclabError(
            f"{path} is not valid TOML ({error}); run `reclab calibrate {notebook}` to write it anew"
        ) from None


def expected_folder() -> Path:
    """Where bands lie: beside the notebooks of a checkout, else inside the installed package."""
    package = Path(__file__).parent
    beside = package.parent / "notebooks" / "expected"
    return beside if beside.is_dir() else package / "expected"


def ledger_folder() -> Path:
    """Where ledgers are written: ``RECLAB_LEDGER``, else a folder of the user's cache."""
    chosen = os.environ.get("RECLAB_LEDGER")
    return Path(chosen) if chosen else platformdirs.user_cache_path("reclab") / "ledger" / get_profile().name


def read_ledger(notebook: str, folder: Path) -> dict[str, Result]:
    """The ledger that a notebook left in ``folder``, by key; empty where it left none."""
    path = folder / f"{notebook}.json"
    if not path.is_file():
        return {}
    rows = json.loads(path.read_text("utf-8"))
    return {row["key"]: Result(**row | {"interval": row["interval"] and tuple(row["interval"])}) for row in rows}


def _save(notebook: str) -> None:
    rows = [asdict(r) for r in _ledger.values() if r.key.startswith(f"{notebook}.")]
    write_atomically(ledger_folder() / f"{notebook}.json", json.dumps(rows, indent=1))


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name and rename it, so that no reader ever sees half of it.

    Raises
    ------
    ReclabError : the folder is read-only or the disk is full; nothing is left behind.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise ReclabError(f"cannot write {path} ({error.strerror}); free some space or choose another folder") from None
    finally:
        with suppress(OSError):  # long gone, or the folder itself is read-only or no folder
            temporary.unlink()


def _number(value: float) -> str:
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.4g}"
