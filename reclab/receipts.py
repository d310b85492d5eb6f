"""What a run's numbers rest on, written as a receipt; and what a receipt is worth, held to the
published run.

A receipt is evidence and not a verdict: `verify` judges each value by the published bands and by
its own interval, and takes nothing on the receipt's word.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from . import __version__, results
from .assets import ASSETS
from .errors import ReclabError, one_line
from .profiles import Profile, get_profile
from .results import OUTSIDE, WITHIN

SCHEMA = 2
LIBRARIES = (
    *("numpy", "scipy", "pandas", "scikit-learn", "gensim", "matplotlib"),
    *("torch", "transformers", "accelerate", "peft", "captum", "gguf"),
)
# These run notebooks and write about them; no number in a notebook comes out of them.
TOOLING = {"calibrate.py", "classroom.py", "doctor.py", "receipts.py", "run.py", "verdicts.py"}
TOLERANCE = 1e-9  # relative, below which two values are the same number
# What can differ between two runs, the most likely cause of another result first.
CAUSES = {
    "assets": "other data: fetch the pinned files anew with `reclab data verify`",
    "notebooks": "the notebook's code was changed",
    "sources": "the package's code was changed",
    "profile": "another profile: other sizes, so other numbers",
    "seed": "another seed: every draw differs, yet results should lie in their bands",
    "versions": "another version of a library: the same steps in another order, or other draws",
    "machine": "another machine or number of threads: other sums, which training amplifies",
}
OF_THE_MACHINE = ("processor", "cpu_capability", "blas", "threads", "gpu")
# What `reclab run` writes beside a receipt.json.
_OF_A_REPORT = re.compile(
    r"(index|\d\d)\.html|notebooks/\d\d\.ipynb|ledger/\d\d\.json|derived/.*", re.DOTALL
)
PROBE = """
import json, numpy, torch
blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
print(json.dumps({
    "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    "blas": f"{blas.get('name')} {blas.get('version')}",
    "threads": torch.get_num_threads(),
    "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
}))
"""


def code_hash(node) -> str:
    """The sha256 of the code cells that results can rest on, in order.

    Outputs, prose and the set-up cell do not count, and of the exercises only those whose answer
    the lesson uses.
    """
    code = [c for c in node.cells if c.cell_type == "code"]
    code = [c for c in code if "setup" not in c.metadata.get("tags", [])]
    lesson = "\n".join(c.source for c in code if "nbgrader" not in c.metadata)
    called = set(re.findall(r"(?<![.\w])(\w+)\(", lesson)) - _functions(lesson)
    cells = [c for c in code if "nbgrader" not in c.metadata or _functions(c.source) & called]
    return hashlib.sha256(json.dumps([c.source for c in cells]).encode()).hexdigest()


def _functions(source: str) -> set[str]:
    return set(re.findall(r"(?m)^def (\w+)", source))


def source_hashes() -> dict[str, str]:
    """The sha256 of each Python file of the package and of its list of pinned data, by path."""
    package = Path(__file__).parent
    return {
        path.relative_to(package).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted([*package.rglob("*.py"), package / "assets.toml"])
    }


def source_hash() -> str:
    """One sha256 over the files of this package that a notebook's numbers can come from."""
    hashes = {name: value for name, value in source_hashes().items() if name not in TOOLING}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions of reclab, Python and the libraries that compute; "not installed" for one that
    is missing.
    """
    found = {"reclab": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # none of the notebooks that ran needed it
            found[name] = "not installed"
    return found


@cache
def machine() -> dict:
    """What of the machine can change a last digit."""
    # A process of its own, so that torch does not stay in memory beside the notebooks.
    probe = [sys.executable, "-c", PROBE]
    found = json.loads(subprocess.run(probe, capture_output=True, text=True, check=True).stdout)
    processor = platform.processor() or platform.machine()
    with suppress(OSError):  # only Linux has it, where `platform` does not know the name
        names = re.findall(r"(?m)^model name\s*: *(.*)", Path("/proc/cpuinfo").read_text("utf-8"))
        processor = names[0] if names else platform.machine()
    about = {"platform": platform.platform(), "processor": processor, "processors": os.cpu_count()}
    return about | found


class NoReceiptError(ReclabError):
    """A file is whole JSON, and no receipt."""


def receipt(
    runs, profile: Profile, *, started: str, complete: bool, planned: list[str] | None = None
) -> dict:
    """Everything that another person needs to compare their run with this one.

    Parameters
    ----------
    runs : list of `reclab.run.Run`.
    started : when the run began, as ISO 8601.
    complete : whether every notebook that was asked for ran to its end.
    planned : names of the notebooks that were asked for; None: those that ran.
    """
    return {
        "schema": SCHEMA,
        "started": started,
        "planned": [run.name for run in runs] if planned is None else planned,
        "complete": complete,
        "profile": profile.name,
        "seed": profile.seed,
        "versions": versions(),
        "machine": machine(),
        "sources": source_hashes(),
        "assets": {
            name: {short: m.sha256 for short, m in asset.members.items()}
            for name, asset in ASSETS.items()
        },
        "notebooks": [
            {
                "name": run.name,
                "code": code_hash(run.node),
                "ok": run.ok,
                "error": run.error,
                "seconds": round(run.seconds, 2),
                "peak_mib": round(run.peak, 1),
            }
            for run in runs
        ],
        "results": [_jsonable(asdict(result)) for run in runs for result in run.results.values()],
    }


def _jsonable(value):
    """JSON has no NaN and no infinity: they are written as words."""
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_jsonable(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def schema() -> dict:
    """The JSON schema of a receipt."""
    return json.loads(Path(__file__).with_name("receipt.schema.json").read_text("utf-8"))


def read_receipt(path: Path) -> dict:
    """A receipt as `reclab run` wrote it, in whatever Unicode encoding it was saved since.

    path : the file, or the folder of a run, which holds ``receipt.json``.

    Raises NoReceiptError: the file is whole JSON and holds something else.
    Raises ReclabError: the file cannot be read, is cut short, was changed, or is of another version
        of the format.
    """
    path = path / "receipt.json" if path.is_dir() else path
    try:
        # A whole number of hundreds of digits is beyond all floats, where it is read as infinite.
        found = json.loads(
            path.read_bytes(), parse_int=lambda text: int(text) if len(text) < 300 else float(text)
        )
        fault = best_match(Draft202012Validator(schema()).iter_errors(found))
    except OSError as error:
        remedy = "give the receipt.json in the folder of a run"
        raise ReclabError(f"cannot read {path} ({error.strerror}); {remedy}") from None
    except (ValueError, RecursionError) as error:  # cut short, or nested a thousand deep
        remedy = "copy it again, or run the series again"
        raise ReclabError(f"{path} is not whole JSON ({error}); {remedy}") from None
    if not isinstance(found, dict) or not found.keys() & {"schema", "results"}:
        raise NoReceiptError(f"{path} is no receipt; give the receipt.json that `reclab run` wrote")
    if found.get("schema") != SCHEMA:
        other = f"{path} is a receipt of schema {str(found.get('schema'))[:40]}"
        remedy = "use the reclab that wrote it, or run the series again"
        raise ReclabError(f"{other}, this reclab reads {SCHEMA}; {remedy}")
    if fault:
        place = fault.json_path
        with suppress(LookupError, TypeError, ValueError):  # where it lies in a result
            part, row, *_ = fault.absolute_path
            place += f", which is {str(found[part][row]['key'])[:80]}"
        raise ReclabError(f"{path} was changed or cut short, at {place}: {fault.message[:120]}")
    return found


def differences(mine: dict, *theirs: dict) -> pd.DataFrame:
    """What differs between a receipt and others: ``what, mine, theirs, likely why``, causes first,
    then results.

    mine, theirs : as `read_receipt` gives them; only what both hold is compared.
    """
    others = [_causes(each) for each in theirs]
    rows = [
        (what, text[:40], other[kind, what][:40], CAUSES[kind])
        for (kind, what), text in _causes(mine).items()
        for other in others
        if text != other.get((kind, what), text)
    ]
    unexplained = "nothing else differs: it may rest on chance within one library call"
    likely = rows[0][3] if rows else unexplained
    ours = {row["key"]: float(row["value"]) for row in mine["results"]}
    for row in (row for each in theirs for row in each["results"] if row["key"] in ours):
        value, other = ours[row["key"]], float(row["value"])
        if not np.isclose(value, other, rtol=TOLERANCE, atol=0, equal_nan=True):
            rows.append((row["key"], f"{value:.6g}", f"{other:.6g}", likely))
    # Objects, since a damaged receipt may hold half a character, which a column of strings refuses.
    columns = ["what", "mine", "theirs", "likely why"]
    return pd.DataFrame(list(dict.fromkeys(rows)), columns=columns, dtype=object)


def _causes(receipt: dict) -> dict[tuple[str, str], str]:
    """All of a receipt that can move a number, by kind and name; the likeliest cause first."""
    found = {}
    for name, files in receipt["assets"].items():
        found |= {("assets", f"{name}/{file}"): sha[:12] for file, sha in files.items()}
    for row in receipt["notebooks"]:
        found["notebooks", f"code of notebook {row['name'][:2]}"] = row["code"][:12]
    for name, sha in receipt["sources"].items():
        if name not in TOOLING:
            found["sources", f"code of {name}"] = sha[:12]
    found |= {(kind, kind): str(receipt[kind]) for kind in ("profile", "seed")}
    for name, version in receipt["versions"].items():
        found["versions", f"version of {name}"] = version
    return found | {("machine", name): str(receipt["machine"][name]) for name in OF_THE_MACHINE}


def published(notebook: str, profile: str | None = None) -> dict:
    """What is published of the run of a notebook: its stored receipt, and its ``bands`` by key.

    notebook : its number. profile : its name; None: the profile of this process.

    Raises ReclabError: no run of it is stored for this profile, or the stored receipt is damaged.
    """
    profile = profile or get_profile().name
    stored = results.expected_folder() / profile / "receipts" / f"{notebook}.json"
    if not stored.is_file():
        raise ReclabError(f"no run of notebook {notebook} is published for profile {profile}")
    return read_receipt(stored) | {"bands": results.bands(notebook, profile)}


def verify(
    mine: dict, published: Callable[[str, str], dict] = published
) -> tuple[list[str], dict[str, dict]]:
    """Hold a receipt, as `read_receipt` gives it, to what is published of the notebooks it names.

    published : gives what is published of a notebook, by its number and profile.

    Returns: A line for each fault, none where all published results of those notebooks are there,
        within their bands and their own intervals; and what is published of each notebook, by its
        number.

    Raises ReclabError: nothing is published for the receipt's profile, or what is published is
        damaged.
    """
    stored: dict[str, set[str]] = {}
    for path in sorted(results.expected_folder().glob("*/receipts/[0-9][0-9].json")):
        stored.setdefault(path.parts[-3], set()).add(path.stem)
    profile = mine["profile"]
    if profile not in stored:
        only = f"only for {', '.join(stored) or 'none'}; run the series on a published profile"
        raise ReclabError(f"no results are published for profile {profile[:40]!r}, {only}")
    names, found, theirs = [row["name"] for row in mine["notebooks"]], [], {}
    if not names or not mine["results"]:
        lacking = "no notebook" if not names else "no result"
        found.append(f"the receipt is empty: {lacking} is in it; run the series with `reclab run`")
    if not mine["complete"]:
        found.append("the run did not end: the receipt is not complete")
    planned = mine["planned"]
    found += [f"{name} was planned and did not run" for name in planned if name not in names]
    found += [f"{name} ran and was not planned" for name in names if name not in planned]
    found += _repeated(names)
    for row in mine["notebooks"]:
        if row["error"]:
            found.append(f"{row['name']} stopped: {row['error']}")
        elif not row["ok"]:
            found.append(f"{row['name']} is not ok, the receipt says itself")
    for name in dict.fromkeys(names):
        known = published(name[:2], profile) if name[:2] in stored[profile] else None
        if known and known["notebooks"][0]["name"] == name:
            theirs[name[:2]] = known
        else:
            found.append(f"{name} is no published notebook of profile {profile}")

    bands = {key: band for known in theirs.values() for key, band in known["bands"].items()}
    twins = {row["key"]: row for known in theirs.values() for row in known["results"]}
    keys = [row["key"] for row in mine["results"]]
    found += [f"{key} is missing" for key in bands if key not in keys]
    found += _repeated(keys)
    pairs = {}
    for row in mine["results"]:
        key, number = row["key"], row["key"][:2]
        if key in bands:
            found += _result_faults(row, bands[key], twins.get(key))
        elif number in theirs:
            found.append(f"{key} is extra: no such result is published")
        else:
            found.append(f"{key} is extra: the receipt names no published notebook {number}")
        # Among shares with few possible values an honest run of another seed may look like an
        # exchange by chance.
        if key in twins and theirs[number]["seed"] == mine["seed"]:
            pairs[key] = float(row["value"]), float(twins[key]["value"])
    found += _exchanged(pairs)
    return [one_line(fault, 300) for fault in found], theirs


def _repeated(names: list[str]) -> list[str]:
    counts = Counter(names)
    return [f"{name} is there {count} times" for name, count in counts.items() if count > 1]


def _result_faults(row: dict, band: dict, twin: dict | None) -> list[str]:
    """What is wrong with a result by its published band, its interval, and the published result."""
    key, value, found = row["key"], float(row["value"]), []
    if not math.isfinite(value):
        return [f"{key} = {value} is no finite number"]
    within = band["low"] <= value <= band["high"]
    published = f"its published band [{band['low']:.6g}, {band['high']:.6g}]"
    place = f"{'within' if within else 'outside'} {published}"
    if row["verdict"] != (WITHIN if within else OUTSIDE):
        found.append(f"{key} = {value:.6g} lies {place}, but the receipt says {row['verdict']!r}")
    elif not within:
        found.append(f"{key} = {value:.6g} lies {place}")
    if row["interval"] is not None:
        low, high = (float(end) for end in row["interval"])
        rounding = TOLERANCE * abs(value)  # without width, another machine's last digit is outside
        if not low - rounding <= value <= high + rounding:
            own = f"its own interval [{low:.6g}, {high:.6g}]"
            found.append(f"{key} = {value:.6g} lies outside {own}")
    elif twin and twin["interval"] is not None:
        found.append(f"{key} has no interval of its own, and the published result has one")
    return found


def _exchanged(values: dict[str, tuple[float, float]]) -> list[str]:
    """Pairs of results that seem to have changed places: exchanged back, they deviate a thousand
    times less.

    values : by key, the value here and the published one.
    """
    keys = [key for key, pair in values.items() if np.isfinite(pair).all()]
    here, there = np.array([values[key] for key in keys]).reshape(-1, 2).T
    with np.errstate(over="ignore"):
        across, straight = np.abs(here[:, None] - there), np.abs(here - there)
        # Two computations of the same number may trade their last digits on another machine.
        unequal = ~np.isclose(there[:, None], there, rtol=TOLERANCE, atol=0)
        found = unequal & (across + across.T < 1e-3 * (straight[:, None] + straight))
    return [f"{keys[i]} and {keys[j]} look exchanged" for i, j in np.argwhere(np.triu(found))]


def command(args: argparse.Namespace) -> int:
    """Print what `verify` finds and what differs; returns 1 where a receipt has a fault or cannot
    be read.

    args : ``receipt``, a receipt, the folder of a run, or a folder of receipts; ``other``, a
        receipt or None.

    Raises ReclabError: as `read_receipt` and `verify`, or the folder holds no receipt.
    """
    path = args.receipt
    if path.is_dir():
        files = _handed_in(path)
        if [file for file in files if _is_json(file)] != [path / "receipt.json"]:
            if args.other:
                remedy = "to compare two, give one of them and the other"
                raise ReclabError(f"{path} is a folder of receipts; {remedy}")
            return _class(path, files)
    mine, other = read_receipt(path), read_receipt(args.other) if args.other else None
    found, theirs = verify(mine)
    head = f"Receipt of {one_line(mine['started'])}, profile {mine['profile']}, seed {mine['seed']}"
    _say("\n  ".join([f"{head}: {_in_words(mine, found)}", *found]))
    compared = {}
    if theirs:
        compared["the published run"] = differences(mine | {"results": []}, *theirs.values())
    if other:
        compared[args.other] = differences(mine, other)
    for what, differ in compared.items():
        lines = differ.to_string(index=False) if len(differ) else "nothing"
        _say(f"What differs from {what}:\n{lines}")
    if other:
        ours, others = ({row["key"] for row in each["results"]} for each in (mine, other))
        if alone := sorted(ours ^ others):
            _say(one_line(f"In one of the two only: {', '.join(alone)}"))
    return int(bool(found))


def _in_words(mine: dict, found: list[str]) -> str:
    if found:
        return f"{len(found)} fault{'s' * (len(found) > 1)}"
    count = len(mine["notebooks"])
    results = f"all {len(mine['results'])} results of {count} notebook{'s' * (count > 1)}"
    return f"{results} are reproduced, each within its published band and its own interval"


def _say(text: str) -> None:
    """Print other people's words: what a terminal obeys or cannot show is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in text.split("\n"):
        signs = [c if c.isprintable() else c.encode("unicode_escape").decode() for c in line]
        print("".join(signs).encode(encoding, "backslashreplace").decode(encoding))


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _handed_in(folder: Path) -> list[Path]:
    """The files at any depth, without the other parts of a run's report."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    reports = {path.parent for path in files if path.name.lower() == "receipt.json"}
    parts = {
        path
        for path in files
        for report in reports.intersection(path.parents)
        if _OF_A_REPORT.fullmatch(path.relative_to(report).as_posix())
    }
    return [path for path in files if path not in parts]


def _class(folder: Path, files: list[Path]) -> int:
    """Print a line for each receipt among the files, and what is passed over; a bad receipt hides
    no other.
    """
    passed, status, students = {}, 0, set()
    look_up = cache(published)  # what is published is the same for every student
    for path in files:
        if not _is_json(path):
            passed[path] = "no .json file"
            continue
        name = path.relative_to(folder)
        try:
            mine = read_receipt(path)
            found, _ = verify(mine, look_up)
            line = _in_words(mine, found)
        except NoReceiptError:
            passed[path] = "JSON, but no receipt"
            continue
        except ReclabError as error:
            found, line = [str(error)], "cannot be judged"
        students.add(name.parts[0])
        status |= bool(found)
        more = [f"{len(found) - 3} more, see `reclab verify {path}`"] if len(found) > 3 else []
        _say(one_line(f"{name.as_posix()}: {'; '.join([line, *found[:3], *more])}", 2000))
    for path in folder.iterdir():
        if path.is_dir() and path.name not in students:
            passed[path] = "a folder without a receipt"
    for path, why in sorted(passed.items()):
        _say(one_line(f"passed over: {path.relative_to(folder).as_posix()}: {why}", 2000))
    if not students:
        lacking = "it should hold NAME.json or NAME/receipt.json for each student"
        raise ReclabError(f"no receipts in {folder}; {lacking}")
    return int(status)
