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
from dataclasses import asdict
from functools import cache
from importlib import metadata, resources
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
cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
blas = f"{blas.get('name')} {blas.get('version')}"
print(json.dumps([torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), cuda, blas]))
"""


def code_hash(node) -> str:
    """The sha256 of the code cells that results can rest on, in order.

    Outputs, prose and the set-up cell do not count, and of the exercises only those whose answer
    the lesson uses.
    """
    code = [
        c for c in node.cells if c.cell_type == "code" and "setup" not in c.metadata.get("tags", [])
    ]
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


def source_hash(sources: dict[str, str] | None = None) -> str:
    """One sha256 over the files that a notebook's numbers can come from.

    Parameters
    ----------
    sources : what `source_hashes` gave, here or in a receipt; None: those of this package.
    """
    sources = source_hashes() if sources is None else sources
    hashes = {name: value for name, value in sources.items() if name not in TOOLING}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions of reclab, Python and the libraries that compute; "not installed" for one that
    is missing.
    """
    found = {"reclab": __version__, "python": platform.python_version()}
    return found | {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except (
        metadata.PackageNotFoundError
    ):  # a run is not lost for a library that none of its notebooks needed
        return "not installed"


@cache
def machine() -> dict:
    """What of the machine can change a last digit: system, processor, vector instructions, BLAS,
    threads, GPU.
    """
    # A process of its own, so that torch does not stay in memory beside the notebooks.
    probe = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False
    )
    capability, threads, cuda, blas = (
        json.loads(probe.stdout) if probe.returncode == 0 else [None] * 4
    )
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "cpu_capability": capability,
        "blas": blas,
        "threads": threads,
        "gpu": cuda,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


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
        "notebooks": [_notebook(run) for run in runs],
        "results": [_jsonable(asdict(result)) for run in runs for result in run.results.values()],
    }


def _notebook(run) -> dict:
    return {
        "name": run.name,
        "code": code_hash(run.node),
        "ok": run.ok,
        "error": run.error,
        "seconds": round(run.seconds, 2),
        "peak_mib": round(run.peak, 1),
    }


def _jsonable(value):
    """JSON has no NaN and no infinity: they are written as words."""
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def schema() -> dict:
    """The JSON schema of a receipt, which says what each part means."""
    return json.loads(
        resources.files(__package__).joinpath("receipt.schema.json").read_text("utf-8")
    )


def read_receipt(path: Path) -> dict:
    """A receipt as `reclab run` wrote it, in whatever Unicode encoding it was saved since.

    Parameters
    ----------
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
        if not isinstance(found, dict) or not found.keys() & {"schema", "results"}:
            raise NoReceiptError(
                f"{path} is no receipt; give the receipt.json that `reclab run` wrote"
            )
        if found.get("schema") != SCHEMA:
            raise ReclabError(
                f"{path} is a receipt of schema {str(found.get('schema'))[:40]}, this reclab reads "
                f"{SCHEMA}; "
                "use the reclab that wrote it, or run the series again"
            )
        fault = best_match(Draft202012Validator(schema()).iter_errors(found))
    except OSError as error:
        raise ReclabError(
            f"cannot read {path} ({error.strerror}); give the receipt.json in the folder of a run"
        ) from None
    except ValueError as error:
        raise ReclabError(
            f"{path} is not whole JSON ({error}); copy it again, or run the series again"
        ) from None
    except RecursionError:
        raise ReclabError(f"{path} is nested too deeply to be a receipt; copy it again") from None
    if fault:
        part, row, *_ = [*fault.absolute_path, None, None]
        entry = found[part][row] if isinstance(row, int) else None
        name = (entry.get("key") or entry.get("name")) if isinstance(entry, dict) else None
        place = f"{fault.json_path}, which is {str(name)[:80]}" if name else fault.json_path
        raise ReclabError(f"{path} was changed or cut short, at {place}: {fault.message[:120]}")
    return found


def differences(mine: dict, *theirs: dict) -> pd.DataFrame:
    """What differs between a receipt and others: ``what, mine, theirs, likely why``, causes first,
    then results.

    Parameters
    ----------
    mine, theirs : as `read_receipt` gives them, or parts of them; only what both hold is compared.
    """
    others = [_causes(each) for each in theirs]
    rows = [
        (what, text[:40], other[kind, what][:40], CAUSES[kind])
        for (kind, what), text in _causes(mine).items()
        for other in others
        if text != other.get((kind, what), text)
    ]
    likely = (
        rows[0][3]
        if rows
        else "nothing else differs: it may rest on chance within one library call"
    )
    ours = {row["key"]: float(row["value"]) for row in mine["results"]}
    for row in (row for each in theirs for row in each["results"] if row["key"] in ours):
        value, other = ours[row["key"]], float(row["value"])
        if not np.isclose(value, other, rtol=TOLERANCE, atol=0, equal_nan=True):
            rows.append((row["key"], f"{value:.6g}", f"{other:.6g}", likely))
    # Objects, since a damaged receipt may hold half a character, which a column of strings refuses.
    return pd.DataFrame(
        list(dict.fromkeys(rows)), columns=["what", "mine", "theirs", "likely why"], dtype=object
    )


def _causes(receipt: dict) -> dict[tuple[str, str], str]:
    """All of a receipt that can move a number, by kind and name; the likeliest cause first."""
    assets, code, machine = (
        receipt.get("assets", {}),
        receipt.get("sources", {}),
        receipt.get("machine", {}),
    )
    found = {
        ("assets", f"{name}/{file}"): sha[:12]
        for name, files in assets.items()
        for file, sha in files.items()
    }
    found |= {
        ("notebooks", f"code of notebook {row['name'][:2]}"): row["code"][:12]
        for row in receipt["notebooks"]
    }
    found |= {
        ("sources", f"code of {name}"): sha[:12]
        for name, sha in code.items()
        if name not in TOOLING
    }
    found |= {(kind, kind): str(receipt[kind]) for kind in ("profile", "seed") if kind in receipt}
    found |= {
        ("versions", f"version of {name}"): version for name, version in receipt["versions"].items()
    }
    return found | {
        ("machine", name): str(machine[name]) for name in OF_THE_MACHINE if name in machine
    }


def published(notebook: str, profile: str | None = None) -> dict:
    """What is published of the run of one notebook: its stored receipt, and its measured ``bands``
    by key.

    Parameters
    ----------
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
    """Hold a receipt to what is published of the notebooks that it names.

    Parameters
    ----------
    mine : as `read_receipt` gives it.
    published : gives what is published of a notebook, by its number and profile.

    Returns: A line for each fault, none where all published results of those notebooks are there,
        within their bands and their own intervals; and what is published of each notebook, by its
        number.

    Raises ReclabError: nothing is published for the receipt's profile, or what is published is
        damaged.
    """
    profiles = sorted(
        {path.parts[-3] for path in results.expected_folder().glob("*/receipts/[0-9][0-9].json")}
    )
    if mine["profile"] not in profiles:
        raise ReclabError(
            f"no results are published for profile {mine['profile'][:40]!r}, only for "
            f"{', '.join(profiles) or 'none'}; "
            "run the series on a published profile"
        )
    names, found, theirs = [row["name"] for row in mine["notebooks"]], [], {}
    if not names or not mine["results"]:
        lacking = "no notebook" if not names else "no result"
        found.append(f"the receipt is empty: {lacking} is in it; run the series with `reclab run`")
    if not mine["complete"]:
        found.append("the run did not end: the receipt is not complete")
    found += [
        f"{name} was planned and did not run" for name in mine["planned"] if name not in names
    ]
    found += [f"{name} ran and was not planned" for name in names if name not in mine["planned"]]
    found += [
        f"{name} is there {count} times" for name, count in Counter(names).items() if count > 1
    ]
    for row in mine["notebooks"]:
        if row["error"]:
            found.append(f"{row['name']} stopped: {row['error']}")
        elif not row["ok"]:
            found.append(f"{row['name']} is not ok, the receipt says itself")
    stored = results.expected_folder() / mine["profile"] / "receipts"
    numbers = {path.stem for path in stored.glob("[0-9][0-9].json")}
    for name in dict.fromkeys(names):
        known = published(name[:2], mine["profile"]) if name[:2] in numbers else None
        if known and known["notebooks"][0]["name"] == name:
            theirs[name[:2]] = known
        else:
            found.append(f"{name} is no published notebook of profile {mine['profile']}")

    bands = {key: band for known in theirs.values() for key, band in known["bands"].items()}
    twins = {row["key"]: row for known in theirs.values() for row in known["results"]}
    counts = Counter(row["key"] for row in mine["results"])
    found += [f"{key} is missing" for key in bands if key not in counts]
    found += [f"{key} is there {count} times" for key, count in counts.items() if count > 1]
    for row in mine["results"]:
        if row["key"] in bands:
            found += _result_faults(row, bands[row["key"]], twins.get(row["key"]))
        elif row["key"][:2] in theirs:
            found.append(f"{row['key']} is extra: no such result is published")
        else:
            found.append(
                f"{row['key']} is extra: the receipt names no published notebook {row['key'][:2]}"
            )
    # Among shares with few possible values an honest run of another seed may look like an exchange
    # by chance.
    same_seed = {number for number, known in theirs.items() if known["seed"] == mine["seed"]}
    pairs = {
        row["key"]: float(row["value"]) for row in mine["results"] if row["key"][:2] in same_seed
    }
    found += _exchanged(
        {key: (value, float(twins[key]["value"])) for key, value in pairs.items() if key in twins}
    )
    return [one_line(fault, 300) for fault in found], theirs


def _result_faults(row: dict, band: dict, twin: dict | None) -> list[str]:
    """What is wrong with one result, by its published band, its own interval, and the published
    result.
    """
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
        rounding = TOLERANCE * abs(
            value
        )  # an interval of no width is a last digit away on another machine
        if not low - rounding <= value <= high + rounding:
            found.append(
                f"{key} = {value:.6g} lies outside its own interval [{low:.6g}, {high:.6g}]"
            )
    elif twin and twin["interval"] is not None:
        found.append(f"{key} has no interval of its own, and the published result has one")
    return found


def _exchanged(values: dict[str, tuple[float, float]]) -> list[str]:
    """Pairs of results that seem to have changed places: exchanged back, they deviate a thousand
    times less.

    Parameters
    ----------
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
    if args.receipt.is_dir() and _handed_in(args.receipt)[0] != [args.receipt / "receipt.json"]:
        if args.other:
            raise ReclabError(
                f"{args.receipt} is a folder of receipts; to compare two, give one of them and the "
                "other"
            )
        return _class(args.receipt)
    mine, other = read_receipt(args.receipt), read_receipt(args.other) if args.other else None
    found, theirs = verify(mine)
    head = f"Receipt of {one_line(mine['started'])}, profile {mine['profile']}, seed {mine['seed']}"
    _say("\n  ".join([f"{head}: {_in_words(mine, found)}", *found]))
    bands = {key: band for known in theirs.values() for key, band in known["bands"].items()}
    rows = [row for row in mine["results"] if row["key"] in bands]
    stale = [
        r["key"]
        for r in rows
        if (r["low"], r["high"]) != (bands[r["key"]]["low"], bands[r["key"]]["high"])
    ]
    if stale:
        _say(
            one_line(
                "Judged by the published bands, not by the others in the receipt: "
                f"{', '.join(stale)}"
            )
        )
    compared = (
        {"the published run": differences(mine | {"results": []}, *theirs.values())}
        if theirs
        else {}
    )
    compared |= {args.other: differences(mine, other)} if other else {}
    for what, differ in compared.items():
        _say(
            "What differs from "
            f"{what}:\n{differ.to_string(index=False) if len(differ) else 'nothing'}"
        )
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
    """Print lines that other people's files have a part in: what a terminal obeys or cannot show is
    escaped.
    """
    encoding = sys.stdout.encoding or "utf-8"
    for line in text.split("\n"):
        shown = "".join(
            sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line
        )
        print(shown.encode(encoding, "backslashreplace").decode(encoding))


def _handed_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """The .json files at any depth, and all others; without the other parts of a run's report."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    reports = {path.parent for path in files if path.name.lower() == "receipt.json"}
    kept = [
        path
        for path in files
        if not any(
            _OF_A_REPORT.fullmatch(path.relative_to(r).as_posix())
            for r in reports.intersection(path.parents)
        )
    ]
    return [p for p in kept if p.suffix.lower() == ".json"], [
        p for p in kept if p.suffix.lower() != ".json"
    ]


def _class(folder: Path) -> int:
    """Print a line for each receipt in a folder, and what is passed over; a bad receipt hides no
    other.
    """
    paths, others = _handed_in(folder)
    passed = {path: "no .json file" for path in others}
    look_up = cache(published)  # what is published is the same for every student
    status, students = 0, set()
    for path in paths:
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
    for path in sorted(
        path for path in folder.iterdir() if path.is_dir() and path.name not in students
    ):
        passed[path] = "a folder without a receipt"
    for path, why in sorted(passed.items()):
        _say(one_line(f"passed over: {path.relative_to(folder).as_posix()}: {why}", 2000))
    if not students:
        raise ReclabError(
            f"no receipts in {folder}; it should hold NAME.json or NAME/receipt.json for each "
            "student"
        )
    return int(status)
