"""``reclab verify``: why one run's numbers differ from another's, and a report on the receipts of a class."""

from __future__ import annotations

import argparse
import html
import json
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

import pandas as pd
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from . import compare, receipts
from .errors import ReclabError
from .report import plain_page
from .results import OUTSIDE, write_atomically

Published = Callable[[str], dict]


def command(args: argparse.Namespace) -> int:
    """Print the comparison; returns 1 where a result lies outside its band, or no receipt of a folder can be read.

    Parameters
    ----------
    args : ``receipt``, a receipt or a folder of them; ``other``, a receipt or None; ``html``, a file to write or None.
    """
    other = read_receipt(args.other) if args.other else None
    if args.receipt.is_dir() and not (args.receipt / "receipt.json").is_file():  # else it is the folder of one run
        table = class_report(args.receipt, other)
        title, status = f"Receipts in {args.receipt.name}", int(not (table["trouble"] == "").any())
        parts = {"": table}
    else:
        mine = read_receipt(args.receipt)
        outside = [result for result in mine["results"] if result["verdict"] == OUTSIDE]
        stopped = [row for row in mine["notebooks"] if row.get("error")]
        title, status = f"Receipt of {mine.get('started', 'an unknown time')}", int(bool(outside))
        parts = {
            "What differs": against(mine, other),
            "Results outside their bands": pd.DataFrame(outside, columns=["key", "value", "low", "high"]),
            "Notebooks that stopped": pd.DataFrame(stopped, columns=["name", "error"]),
        }
    for heading, part in parts.items():
        print(*([heading] if heading else []), part.to_string(index=False) if len(part) else "nothing", "", sep="\n")
    if args.html:
        write_atomically(args.html, page(title, parts))
        print(f"written: {args.html}")
    return status


def read_receipt(path: Path) -> dict:
    """A receipt as `reclab run` wrote it.

    Raises
    ------
    ReclabError : the file cannot be read, is cut short, is no receipt, or is of another version of the format.
    """
    path = path / "receipt.json" if path.is_dir() else path
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ReclabError(
            f"cannot read {path} ({error.strerror}); give the receipt.json in the folder of a run"
        ) from None
    except ValueError as error:
        raise ReclabError(f"{path} is not whole JSON ({error}); copy it again, or run the series again") from None
    if not isinstance(found, dict) or "schema" not in found:
        raise ReclabError(f"{path} is no receipt; give the receipt.json that `reclab run` wrote")
    if found["schema"] != receipts.SCHEMA:
        raise ReclabError(
            f"{path} is a receipt of schema {found['schema']}, this reclab reads {receipts.SCHEMA}; "
            "use the reclab that wrote it, or run the series again"
        )
    if fault := best_match(Draft202012Validator(schema()).iter_errors(found)):
        raise ReclabError(f"{path} was changed or cut short, at {fault.json_path}: {fault.message[:120]}")
    return found


def schema() -> dict:
    """The JSON schema of a receipt, which says what each part means."""
    return json.loads(resources.files(__package__).joinpath("receipt.schema.json").read_text("utf-8"))


def against(mine: dict, other: dict | None = None, published: Published = compare.published) -> pd.DataFrame:
    """What differs from another receipt, or from what was published: ``what, mine, theirs, likely why``.

    Parameters
    ----------
    mine, other : receipts; None compares each notebook with its published run.
    published : gives what is published of a notebook, by its number.

    Raises
    ------
    ReclabError : no bands are published for a notebook and profile of the receipt.
    """
    if other:
        return compare.differences(mine, other)
    own = mine | {"sources": {"of the package": receipts.source_hash(mine["sources"])}}
    parts = [pd.DataFrame(columns=compare.COLUMNS)]
    for notebook in mine["notebooks"]:
        found = published(notebook["name"][:2])
        theirs = found | {"notebooks": [found["notebooks"][0] | {"name": notebook["name"]}]}
        parts.append(compare.differences(own | {"notebooks": [notebook]}, theirs))
    order = list(compare.CAUSES.values())
    return (
        pd.concat(parts)
        .drop_duplicates()
        .sort_values("likely why", key=lambda why: why.map(order.index), kind="stable", ignore_index=True)
    )


def class_report(folder: Path, other: dict | None = None) -> pd.DataFrame:
    """A line for each receipt in a folder, or in its folders: results, what differs, the likely why, and trouble.

    A receipt that cannot be read gets a line that says so; the others are compared.

    Raises
    ------
    ReclabError : there is no receipt in the folder.
    """
    paths = sorted([*folder.glob("*.json"), *folder.glob("*/receipt.json")])
    if not paths:
        raise ReclabError(f"no receipts in {folder}; it should hold NAME.json or NAME/receipt.json for each student")
    published = cache(compare.published)  # the files of bands are the same for every student
    return pd.DataFrame([_line(path, other, published) for path in paths]).astype(object).fillna("")


def _line(path: Path, other: dict | None, published: Published) -> dict:
    name = path.parent.name if path.name == "receipt.json" else path.stem
    try:
        mine = read_receipt(path)
        differ = against(mine, other, published)
    except ReclabError as error:
        return {"name": name, "trouble": str(error)}
    return {
        "name": name,
        "notebooks": len(mine["notebooks"]),
        **compare.summary({result["key"]: result["verdict"] for result in mine["results"]}, differ),
        "trouble": "; ".join(f"{row['name']}: {row['error']}" for row in mine["notebooks"] if row.get("error")),
    }


def page(title: str, parts: dict[str, pd.DataFrame]) -> str:
    """The tables as one page that opens offline; everything in them is escaped."""
    body = "".join(
        (f"<h2>{html.escape(heading)}</h2>" if heading else "")
        + (part.to_html(index=False, border=0) if len(part) else "<p>nothing</p>")
        for heading, part in parts.items()
    )
    return plain_page(title, f"<h1>{html.escape(title)}</h1>{body}")
