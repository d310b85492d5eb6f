"""Two receipts side by side: what differs between two runs, and the likely why."""

from __future__ import annotations

import numpy as np
import pandas as pd

from . import receipts, results
from .errors import ReclabError
from .profiles import get_profile
from .results import OUTSIDE, WITHIN
from .series import find_notebooks, notebooks_folder, read_notebook

TOLERANCE = 1e-9  # relative, below which two results are the same number
# What can differ, the most likely cause of another result first.
CAUSES = {
    "assets": "other data: fetch the pinned files anew with `reclab data verify`",
    "notebooks": "the notebook's code was changed",
    "sources": "the package's code was changed",
    "profile": "another profile: other sizes, so other numbers",
    "seed": "another seed: every draw differs, yet results should lie in their bands",
    "versions": "another version of a library: the same steps in another order, or other draws",
    "machine": "another machine or number of threads: sums in another order, which training can amplify",
}
OF_THE_MACHINE = ("processor", "cpu_capability", "blas", "threads", "gpu")
COLUMNS = ["what", "mine", "theirs", "likely why"]


def differences(mine: dict, theirs: dict) -> pd.DataFrame:
    """What differs between two receipts: ``what, mine, theirs, likely why``, causes first, then results.

    Parameters
    ----------
    mine, theirs : receipts, as `reclab.receipts.receipt` makes them; only what both hold is compared.

    Raises
    ------
    ReclabError : a receipt of another schema, or none at all.
    """
    for receipt in (mine, theirs):
        if not isinstance(receipt, dict) or receipt.get("schema") != receipts.SCHEMA:
            raise ReclabError(f"needs two receipts of schema {receipts.SCHEMA}, as `reclab run` writes them")
    rows = []
    for kind, why in CAUSES.items():
        ours, others = _flat(kind, mine.get(kind)), _flat(kind, theirs.get(kind))
        rows += [
            (what, ours[what], others[what], why) for what in ours if what in others and ours[what] != others[what]
        ]
    likely = rows[0][3] if rows else "nothing else differs: it may rest on chance within one library call"
    ours, others = ({r["key"]: float(r["value"]) for r in receipt.get("results", [])} for receipt in (mine, theirs))
    for key in sorted(set(ours) & set(others)):
        if not np.isclose(ours[key], others[key], rtol=TOLERANCE, atol=0, equal_nan=True):
            rows.append((key, f"{ours[key]:.6g}", f"{others[key]:.6g}", likely))
    return pd.DataFrame(rows, columns=COLUMNS)


def _flat(kind: str, part) -> dict[str, str]:
    """One part of a receipt as name -> text, for as much of it as can move a number."""
    if part is None:
        return {}
    if kind == "notebooks":
        return {f"code of {each['name']}": each["code"][:12] for each in part}
    if kind == "assets":
        return {f"{name}/{member}": sha[:12] for name, members in part.items() for member, sha in members.items()}
    if not isinstance(part, dict):
        return {kind: str(part)}
    kept = {"machine": OF_THE_MACHINE, "sources": [name for name in part if name not in receipts.TOOLING]}.get(
        kind, part
    )
    return {
        f"{kind[:-1] if kind == 'versions' else kind} {name}": str(part[name])[:40] for name in kept if name in part
    }


def published(notebook: str) -> dict:
    """What is published of the run of one notebook, as a receipt without results.

    That is the stored receipt of its latest run, ``receipts/NN.json`` beside the file of bands, or, for a profile
    without one, what the file of bands says of the runs that it was measured in.

    Raises
    ------
    ReclabError : there is no such file for this profile, or the stored receipt is damaged.
    """
    from .verify import read_receipt  # which compares by this module

    meta, profile = results.meta(notebook), get_profile().name
    if not meta:
        raise ReclabError(f"no bands are published for notebook {notebook} on profile {profile}")
    stored = results.expected_folder() / profile / "receipts" / f"{notebook}.json"
    if stored.is_file():
        kept = read_receipt(stored)
        code, source, versions = kept["notebooks"][0]["code"], receipts.source_hash(kept["sources"]), kept["versions"]
    else:
        start = "version_"
        versions = {name[len(start) :]: value for name, value in meta.items() if name.startswith(start)}
        code, source = meta["notebook"], meta["source"]
    return {
        "schema": receipts.SCHEMA,
        "profile": meta["profile"],
        "versions": versions,
        "notebooks": [{"name": notebook, "code": code}],
        "sources": {"of the package": source},
    }


def present(notebook: str) -> dict:
    """What would be written of one notebook here and now: its code, the package, the libraries."""
    (path,) = find_notebooks([notebook], notebooks_folder())
    return {
        "schema": receipts.SCHEMA,
        "profile": get_profile().name,
        "versions": receipts.versions(),
        "notebooks": [{"name": notebook, "code": receipts.code_hash(read_notebook(path))}],
        "sources": {"of the package": receipts.source_hash()},
    }


def certificate(notebooks: list[str]) -> pd.DataFrame:
    """A line for each notebook, by its number: how many results were reproduced here, what differs from the
    publication, and why.

    Returns
    -------
    By notebook: ``published`` (results with a band), ``run`` (results found here), ``within``, ``outside``, ``differs``
    and, where something lies outside, the ``likely why``.

    Raises
    ------
    ReclabError : as `published`.
    """
    return pd.DataFrame.from_dict({number: _line(number) for number in notebooks}, orient="index")


def _line(number: str) -> dict:
    found = results.read_ledger(number, results.ledger_folder())
    differ = differences(present(number), published(number))
    summed = summary({key: result.verdict for key, result in found.items()}, differ)
    return {"published": len(results.bands(number)), "run": len(found), **summed}


def summary(verdicts: dict[str, str], differ: pd.DataFrame) -> dict:
    """A run in a line: ``within`` and ``outside`` of its bands, what ``differs``, and the ``likely why``.

    Parameters
    ----------
    verdicts : the verdict on each result, by key. differ : as `differences` gives it; the why is that of its first
        row, and asked for where a result lies outside its band or is not the other run's.
    """
    moved, outside = differ["what"].isin(list(verdicts)), sum(verdict == OUTSIDE for verdict in verdicts.values())
    why = differ["likely why"].iloc[0] if len(differ) else "nothing that a receipt holds: run it again, then ask"
    return {
        "within": sum(verdict == WITHIN for verdict in verdicts.values()),
        "outside": outside,
        "differs": ", ".join(differ["what"][~moved]) or ("results alone" if moved.any() else "nothing"),
        "likely why": why if outside or moved.any() else "",
    }
