"""Tables that took too long to make in a notebook: stored with a receipt, and shown with what it says.

A table is two files in ``notebooks/expected/published``: ``NAME.csv``, and ``NAME.json``, its receipt, which says by
which command, code, seeds, versions and device it was made, and the sha256 of the csv.
"""

from __future__ import annotations

import hashlib
import html
import json
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from . import results
from .errors import ReclabError

SHOWN = ("reclab", "python", "torch", "transformers", "scikit-learn")  # versions that a caption names
FIELDS = ("command", "seeds", "seconds", "device", "versions", "source", "sha256")
NO_VALUE = "–"


@dataclass(frozen=True, repr=False)
class Published:
    """A stored table: as the last line of a cell it shows itself with a caption that says how it was made.

    Attributes
    ----------
    name : as given to `table`.
    frame : the numbers as they were stored, unrounded.
    receipt : ``command, seeds, seconds, device, versions``, ``source``: the hash of the package's code, ``sha256``.
    """

    name: str
    frame: pd.DataFrame
    receipt: dict

    @property
    def caption(self) -> str:
        """One line: the command, its seeds and seconds, the device and the versions."""
        device, found = self.receipt["device"], self.receipt["versions"]
        threads = f"{device['threads']} thread{'s' * (device['threads'] != 1)}"
        machine = device["gpu"] or f"{device['processor']}, {threads}"
        return (
            f"Made by `{self.receipt['command']}` with {_seeds(self.receipt['seeds'])} in "
            f"{self.receipt['seconds']:,.0f} s on {machine}; "
            + ", ".join(f"{name} {found[name]}" for name in SHOWN if name in found)
        )

    @property
    def words(self) -> pd.DataFrame:
        """The table as text, rounded; ``x``, ``x_low`` and ``x_high`` become one column ``0.93 [0.91, 0.95]``."""
        ends = {name: [f"{name}_low", f"{name}_high"] for name in self.frame}
        ends = {name: pair for name, pair in ends.items() if set(pair) <= set(self.frame)}
        within = {end for pair in ends.values() for end in pair}
        columns = {
            name: _intervals(self.frame[[name, *ends[name]]]) if name in ends else _cells(self.frame[name])
            for name in self.frame
            if name not in within
        }
        return pd.DataFrame(columns, dtype=object)

    def __repr__(self) -> str:
        return f"{self.caption}\n\n{self.words.to_string(index=False)}"

    def _repr_html_(self) -> str:
        first, words = self.frame.columns[0], self.words
        rows = words.set_index(first).rename_axis(index=None, columns=first)  # the first column heads its rows
        with pd.option_context("display.max_colwidth", None):
            table = rows.to_html(border=0).replace("_", "_<wbr>")  # long names of columns may be broken there
        head, mark, rest = table.partition(">")
        return f"{head}{mark}\n  <caption>{html.escape(self.caption)}</caption>{rest}"


def table(name: str) -> Published:
    """A stored table, checked against its receipt.

    Parameters
    ----------
    name : such as ``02_methods``.

    Raises
    ------
    ReclabError : there is no such table, or its file is not the one that its receipt describes; says which
        command makes it.
    """
    csv, receipt_path = _paths(name)
    makes_it = f"python tests/benchmarks/tables.py {name}"
    if not csv.is_file() or not receipt_path.is_file():
        missing = csv if receipt_path.is_file() else receipt_path
        raise ReclabError(f"there is no stored table {name!r} ({missing.name} is missing); `{makes_it}` makes it")
    try:
        receipt = json.loads(receipt_path.read_text("utf-8"))
        fields = {key: receipt[key] for key in FIELDS}
    except (ValueError, KeyError, TypeError):
        raise ReclabError(f"{receipt_path} is damaged; `{makes_it}` makes the table and its receipt anew") from None
    if hashlib.sha256(csv.read_bytes()).hexdigest() != fields["sha256"]:
        remedy = f"`{fields['command']}` makes it anew"
        raise ReclabError(f"{csv} is not the table that its receipt describes; {remedy}")
    frame = pd.read_csv(csv, keep_default_na=False, na_values=[""])
    return Published(name, frame, fields)


def write(name: str, frame: pd.DataFrame, *, command: str, seeds: Iterable[int], seconds: float) -> None:
    """Store a table and its receipt; the device is the machine that this runs on.

    Parameters
    ----------
    name : such as ``02_methods``: the notebook's number first.
    frame : at least one row; the first column names the rows. A named index becomes the first column.
    command : what made it, as typed in the folder of the project.
    seeds : every seed that it used.
    seconds : wall time of making it.

    Raises
    ------
    ReclabError : the name has another form, the table has no row, or a file cannot be written.
    """
    from .receipts import source_hash, versions

    csv, receipt_path = _paths(name)
    if frame.empty:
        raise ReclabError(f"the table {name!r} has no row to store; see why `{command}` made none")
    named = frame.index.name is not None
    content = frame.to_csv(index=named, lineterminator="\n").encode("utf-8")
    receipt = {
        "command": command,
        "seeds": [int(seed) for seed in seeds],
        "seconds": round(float(seconds), 1),
        "device": _device(),
        "versions": versions(),
        "source": source_hash(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    results.write_atomically(csv, content)  # the receipt last: cut off in between, the two do not match
    results.write_atomically(receipt_path, json.dumps(receipt, indent=1) + "\n")


def _paths(name: str) -> tuple[Path, Path]:
    if not re.fullmatch(r"\d\d_\w+", name):
        raise ReclabError(f"a stored table's name looks like '02_methods', got {name!r}")
    folder = results.expected_folder() / "published"
    return folder / f"{name}.csv", folder / f"{name}.json"


def _device() -> dict:
    """What of the machine matters to seconds and last digits; not the machine's own name or kernel."""
    from .receipts import machine

    found = machine()
    kept = {key: found[key] for key in ("processor", "processors", "threads", "gpu")}
    return {"system": f"{platform.system()} {platform.machine()}"} | kept


def _seeds(seeds: list[int]) -> str:
    if len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else "no seed"


def _intervals(values: pd.DataFrame) -> list[str]:
    """A column of estimates, each with its two ends, to as many decimals as the largest of the three asks for."""
    cells = []
    for row in values.to_numpy(float):
        digits = 0 if np.isnan(row).any() else _digits(abs(row).max())
        value, low, high = (f"{number:,.{digits}f}" for number in row)
        cells.append(NO_VALUE if np.isnan(row).any() else f"{value} [{low}, {high}]")
    return cells


def _cells(values: pd.Series) -> list[str]:
    """A column as text: counts whole, other numbers to three digits or three decimals, all else as it is."""
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return [NO_VALUE if pd.isna(value) else str(value) for value in values]
    whole = (values.dropna() % 1 == 0).all()
    return [NO_VALUE if pd.isna(value) else _number(value, 0 if whole else _digits(value)) for value in values]


def _number(value: float, digits: int) -> str:
    return f"{value:.2g}" if 0 < abs(value) < 0.001 else f"{value:,.{digits}f}"


def _digits(value: float) -> int:
    """Decimals that leave three significant digits, or three decimals below one."""
    return max(0, 3 - len(str(int(abs(value))))) if abs(value) >= 1 else 3
