"""Numbers that a notebook stands for: shown in words, held to measured bands, kept in a ledger; and
stored tables.

Bands are written by ``reclab calibrate`` over many seeds, never by hand. A table that takes too
long for a notebook is two files in ``notebooks/expected/published``: ``NAME.csv``, and
``NAME.json``, which says how it was made. The notebooks themselves are found and read here, too.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import os
import tomllib
import uuid
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from . import __version__
from .errors import ReclabError, UnknownNameError, one_line, warn_not_kept
from .profiles import get_profile

if TYPE_CHECKING:
    import pandas as pd

WITHIN, OUTSIDE, RECORDED = "within", "OUTSIDE", "recorded"
SHARE, CORRELATION = (0.0, 1.0), (-1.0, 1.0)  # what is possible for a share or rate, for the other
_VERSIONS_SHOWN = ("reclab", "python", "torch", "transformers", "scikit-learn")
_NO_VALUE = "–"
_NUMBER = '<td class="number">{}</td>'  # what the notebooks' test masks
_LEFT = '<th style="text-align: left">'


@dataclass(frozen=True)
class Result:
    """One number of a notebook, with the verdict of its band.

    Attributes
    ----------
    key : ``NN.name``, where NN is the notebook's number. label : the same in a reader's words.
    low, high : its band; None where none was measured for the profile.
    interval : its own, at ``level``; None where it has none.
    possible : the least and the greatest number that it can be; None: any.
    """

    key: str
    value: float
    low: float | None
    high: float | None
    verdict: str
    interval: tuple[float, float] | None = None
    label: str = ""
    level: float = 0.95
    possible: tuple[float, float] | None = None

    def __str__(self) -> str:
        own = f" {_ends(*self.interval)}" if self.interval else ""
        mark = f"  OUTSIDE its band {_ends(self.low, self.high)}" if self.verdict == OUTSIDE else ""
        return f"{self.key} = {_short(self.value)}{own}{mark}"


class _Shown:
    """What a cell shows, as text and as HTML."""

    def __init__(self, text: str, html: str):
        self.text, self.html = text, html

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


_ledger: dict[str, Result] = {}


def show(question: str, rows: Iterable[tuple], *, level: float = 0.95) -> None:
    """Show the results that answer a question as a table in words, and note them in the ledger.

    A value outside its band is marked, and nothing is raised: the notebooks' tests and ``reclab
    run`` catch the mark.

    rows : ``(key, label, value)`` each, or ``(key, label, value, possible)`` with `SHARE` or
        `CORRELATION`. ``value`` is a number, or an estimate with its interval ``(value, low,
        high)``; only the value is held to its band.

    Raises ReclabError: a key or a value of another form.
    """
    from IPython.display import display

    percent = f"{100 * level:g}%"
    lines = [question if level == 0.95 else f"{question} ({percent} intervals)"]
    cells = []
    for row in rows:
        key, label, value, *possible = row
        result = _note(key, value, *possible, label=label, level=level)
        number, interval = _rounded(result.value, *(result.interval or ()))
        mark = "OUTSIDE its band" if result.verdict == OUTSIDE else ""
        lines.append(f"  {label} = {number}{interval and ' ' + interval}{mark and '  ' + mark}")
        cells.append((html.escape(label), number, interval, mark))
    heads = [f"{_LEFT}result</th>", "<th>value</th>"]
    with_intervals = any(interval for _, _, interval, _ in cells)
    if with_intervals:
        heads.append(f"<th>{percent} interval</th>")
    body = []
    for label, number, interval, mark in cells:
        numbers = [number, interval] if with_intervals else [number]
        marked = f"<td><strong>{mark}</strong></td>" if mark else ""
        body.append(f"{_LEFT}{label}</th>{''.join(map(_NUMBER.format, numbers))}{marked}")
    caption = f'<caption style="text-align: left">{html.escape(question)}</caption>'
    display(_Shown("\n".join(lines), _html(caption, heads, body)))


def check(key: str, value: float | tuple, possible: tuple[float, float] | None = None) -> None:
    """Print a number by its key, with its own interval, and note it in the ledger."""
    print(_note(key, value, possible))


def _note(key: str, value, possible=None, *, label: str = "", level: float = 0.95) -> Result:
    notebook, _, name = str(key).partition(".")
    if not (len(notebook) == 2 and notebook.isdecimal() and name):
        raise ReclabError(f"a result's key looks like '02.auc_finetuned', got {key!r}")
    numbers = list(map(float, value if isinstance(value, (tuple, list)) else (value,)))
    if len(numbers) not in (1, 3):
        raise ReclabError(f"{key}: a result is a number or (value, low, high), got {value!r}")
    number, *own = numbers
    if possible:
        least, most = possible
        own = [min(max(end, least), most) for end in own]
        nearest = min(max(number, least), most)
        if abs(number - nearest) < 1e-9:  # a correlation of 1 may come out a bit above
            number = nearest
    band = bands(notebook).get(key)
    low, high = (float(band["low"]), float(band["high"])) if band else (None, None)
    verdict = RECORDED if band is None else WITHIN if low <= number <= high else OUTSIDE
    own = tuple(own) or None
    _ledger[key] = Result(key, number, low, high, verdict, own, label, level, possible)
    rows = [asdict(r) for r in _ledger.values() if r.key.startswith(f"{notebook}.")]
    try:
        write_atomically(ledger_folder() / f"{notebook}.json", json.dumps(rows, indent=1))
    except ReclabError:
        if os.environ.get("RECLAB_LEDGER"):  # `reclab run` reads it there
            raise
        warn_not_kept(ledger_folder(), "RECLAB_LEDGER")
    return _ledger[key]


def ledger(notebook: str) -> None:
    """Show how many results of a notebook were noted in this session, and, folded, each key with
    its band.
    """
    from IPython.display import display

    mine = [r for r in _ledger.values() if r.key.startswith(f"{notebook}.")]
    count = Counter(r.verdict for r in mine)
    line = (
        f"{notebook}: {len(mine)} results, {count[WITHIN]} within their bands, "
        f"{count[OUTSIDE]} outside, {count[RECORDED]} without a band"
    )
    body = []
    for r in mine:
        own = _ends(*r.interval) if r.interval else ""
        if own and r.level != 0.95:
            own += f" at {100 * r.level:g}%"
        numbers = _NUMBER.format(_short(r.value)) + _NUMBER.format(own)
        band = "none" if r.low is None else _ends(r.low, r.high)
        words = f'<td style="text-align: left">{html.escape(r.label)}</td>'
        body.append(f"{_LEFT}{r.key}</th>{words}{numbers}<td>{band}</td><td>{r.verdict}</td>")
    names = ("result", "value", "interval", "band", "verdict")
    heads = [f"{_LEFT}key</th>", *(f"<th>{name}</th>" for name in names)]
    text = "\n".join([line, *(f"  OUTSIDE: {r.key}" for r in mine if r.verdict == OUTSIDE)])
    display(_Shown(text, f"<details><summary>{line}</summary>{_html('', heads, body)}</details>"))


def read_ledger(notebook: str, folder: Path) -> dict[str, Result]:
    """The ledger that a notebook left in ``folder``, by key; empty where it left none."""
    path = folder / f"{notebook}.json"
    if not path.is_file():
        return {}
    found = {}
    for row in json.loads(path.read_text("utf-8")):
        pairs = {name: row[name] and tuple(row[name]) for name in ("interval", "possible")}
        found[row["key"]] = Result(**row | pairs)
    return found


def bands(notebook: str, profile: str | None = None) -> dict[str, dict]:
    """The measured bands of a notebook, by key; empty where this profile has none."""
    path = expected_folder() / (profile or get_profile().name) / f"{notebook}.toml"
    return tomllib.loads(path.read_text("utf-8")).get("bands", {}) if path.is_file() else {}


def expected_folder() -> Path:
    """Where bands lie: beside the notebooks of a checkout, else inside the installed package."""
    package = Path(__file__).parent
    beside = package.parent / "notebooks" / "expected"
    return beside if beside.is_dir() else package / "expected"


def ledger_folder() -> Path:
    """Where ledgers are written: ``RECLAB_LEDGER``, else the user's cache, one folder a version
    (another may have other keys) and profile.
    """
    if chosen := os.environ.get("RECLAB_LEDGER"):
        return Path(chosen)
    return platformdirs.user_cache_path("reclab") / "ledger" / __version__ / get_profile().name


def notebooks_folder() -> Path:
    """The series: ``notebooks`` of the current folder, else of the checkout that this lies in.

    Raises ReclabError: neither holds a notebook.
    """
    for folder in (Path.cwd() / "notebooks", Path(__file__).parent.parent / "notebooks"):
        if any(folder.glob("[0-9][0-9]_*.ipynb")):
            return folder
    raise ReclabError(
        "no notebooks here; change to the folder of your clone, the one that holds notebooks/"
    )


def find_notebooks(names: list[str], folder: Path) -> list[Path]:
    """The ``NN_name.ipynb`` of a folder in the series' order; only those named, where some are.

    names : ``2``, ``02``, ``02_bert_finetuning`` or ``02_bert_finetuning.ipynb``.

    Raises UnknownNameError: no such notebook.
    """
    paths = {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    by_name = paths | {stem[:2]: path for stem, path in paths.items()}
    wanted = set()
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        stem = stem.zfill(2) if stem.isdecimal() else stem
        if stem not in by_name:
            raise UnknownNameError("notebook", name, paths)
        wanted.add(by_name[stem])
    return [path for path in paths.values() if path in wanted or not names]


def read_notebook(path: Path):
    """Read a notebook as nbformat 4, without its outputs.

    Raises ReclabError: the file cannot be read, or is no notebook.
    """
    import nbformat

    try:
        node = nbformat.read(path, as_version=4)
    except Exception as error:  # other people's JSON trips nbformat over in many ways
        why = f"{path} is not a notebook that can be read ({one_line(error)})"
        raise ReclabError(why) from None
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return node


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name and rename it, so that no reader ever sees half of it.

    Raises ReclabError: the folder is read-only or the disk is full; nothing is left behind.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        remedy = "free some space or choose another folder"
        raise ReclabError(f"cannot write {path} ({error.strerror}); {remedy}") from None
    finally:
        with suppress(OSError):  # long gone, or the folder itself is read-only or no folder
            temporary.unlink()


@dataclass(frozen=True, repr=False)
class StoredTable:
    """A stored table, its numbers unrounded: as the last line of a cell it shows itself with how it
    was made.
    """

    name: str
    frame: pd.DataFrame
    receipt: dict

    @property
    def caption(self) -> str:
        """One line: the command, its seeds and seconds, the device and the versions."""
        device, seeds = self.receipt["device"], self.receipt["seeds"]
        said = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else "no seed"
        if len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1)):
            said = f"seeds {seeds[0]} to {seeds[-1]}"
        threads = f"{device['threads']} thread{'s' * (device['threads'] != 1)}"
        machine = device["gpu"] or f"{device['processor']}, {threads}"
        found = self.receipt["versions"]
        versions = ", ".join(f"{name} {found[name]}" for name in _VERSIONS_SHOWN if name in found)
        seconds = f"{self.receipt['seconds']:,.0f} s"
        made = f"Made by `{self.receipt['command']}` with {said} in {seconds}"
        return f"{made} on {machine}; {versions}"

    @property
    def words(self) -> pd.DataFrame:
        """The table as text, rounded; ``x``, ``x_low`` and ``x_high`` become one column ``0.93
        [0.91, 0.95]``.
        """
        import pandas as pd

        ends = {name: [f"{name}_low", f"{name}_high"] for name in self.frame}
        ends = {name: pair for name, pair in ends.items() if set(pair) <= set(self.frame)}
        within = {end for pair in ends.values() for end in pair}
        columns = {}
        for name in self.frame.columns.drop(list(within)):
            if name in ends:
                rows = self.frame[[name, *ends[name]]].to_numpy(float)
                columns[name] = list(map(_with_interval, rows))
            else:
                columns[name] = _cells(self.frame[name])
        return pd.DataFrame(columns, dtype=object)

    def __repr__(self) -> str:
        return f"{self.caption}\n\n{self.words.to_string(index=False)}"

    def _repr_html_(self) -> str:
        import pandas as pd

        first = self.frame.columns[0]  # heads the rows
        rows = self.words.set_index(first).rename_axis(index=None, columns=first)
        with pd.option_context("display.max_colwidth", None):
            table = rows.to_html(border=0).replace("_", "_<wbr>")  # a long name may be broken there
        head, mark, rest = table.partition(">")
        return f"{head}{mark}\n  <caption>{html.escape(self.caption)}</caption>{rest}"


def table(name: str) -> StoredTable:
    """A stored table, such as ``02_methods``, checked against its receipt.

    Raises ReclabError: there is no such table, or its file is not the one that its receipt
        describes; says which command makes it.
    """
    import pandas as pd

    csv, receipt_path = table_files(name)
    for path in (receipt_path, csv):
        if not path.is_file():
            why = f"there is no stored table {name!r} ({path.name} is missing)"
            raise ReclabError(f"{why}; `python tests/benchmarks/tables.py {name}` makes it")
    receipt = json.loads(receipt_path.read_text("utf-8"))
    if hashlib.sha256(csv.read_bytes()).hexdigest() != receipt["sha256"]:
        remedy = f"`{receipt['command']}` makes it anew"
        raise ReclabError(f"{csv} is not the table that its receipt describes; {remedy}")
    return StoredTable(name, pd.read_csv(csv, keep_default_na=False, na_values=[""]), receipt)


def table_files(name: str) -> tuple[Path, Path]:
    """The csv of a stored table, and its receipt."""
    folder = expected_folder() / "published"
    return folder / f"{name}.csv", folder / f"{name}.json"


def _rounded(value: float, *interval: float, digits: int | None = None) -> tuple[str, str]:
    """A number and its interval, if any, with as many decimals as the largest asks for."""
    numbers = [value, *interval]
    if not all(map(math.isfinite, numbers)):
        return _short(value), _ends(*interval) if interval else ""
    largest = max(map(abs, numbers))
    if digits is None:
        digits = 0 if all(number == int(number) for number in numbers) else _decimals(largest)
    form = ".2g" if 0 < largest < 1e-3 else f",.{digits}f"
    first, *ends = (format(number, form) for number in numbers)
    return first, f"[{', '.join(ends)}]" if ends else ""


def _decimals(number: float) -> int:
    """Decimals that leave three digits, or two below a twentieth."""
    if abs(number) >= 1 or number == 0:
        return max(0, 3 - len(str(int(abs(number)))))
    return max(3, 1 - math.floor(math.log10(abs(number))))


def _with_interval(row) -> str:
    if not all(map(math.isfinite, row)):
        return _NO_VALUE
    # Three decimals, where `_decimals` would give a small number more: a column reads as one.
    return " ".join(_rounded(*row, digits=_decimals(max(0.05, *map(abs, row)))))


def _cells(values: pd.Series) -> list[str]:
    """A column as text: counts whole, other numbers rounded, all else as it is."""
    if values.dtype.kind not in "iuf":
        return [_NO_VALUE if value is None or value != value else str(value) for value in values]
    whole = (values.dropna() % 1 == 0).all()
    return [
        _NO_VALUE if math.isnan(v) else _rounded(v, digits=0 if whole else _decimals(v))[0]
        for v in values
    ]


def _html(caption: str, heads: list[str], rows: list[str]) -> str:
    head, body = "".join(heads), "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _ends(low: float, high: float) -> str:
    return f"[{_short(low)}, {_short(high)}]"


def _short(value: float) -> str:
    """A number to four digits; whole ones whole."""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.4g}"
