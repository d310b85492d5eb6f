"""The Open Bandit Dataset, small and full: a real log of what a fashion shop showed, with its propensities and clicks.

Source: Saito et al., Open Bandit Dataset and Pipeline (2020), arXiv 2008.07146; CC BY 4.0.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from ..errors import SchemaError
from .files import blocks, keep, opened, refuse
from .schema import require_columns
from .sources import USER_FEATURES, require_campaign

def open_bandit_log(
    source: str | Path, campaign: str = "all", policy: str = "random", *, bad: Counter | None = None
) -> Iterator[pd.DataFrame]:
    """The log of the full data set, some 10,000 impressions at a time, from its zip file or its folder.

    Each table has ``user_id`` (the four hashed features, joined by "-"), ``item_id``, ``positive`` (a click),
    ``timestamp`` (UTC), ``position`` (1 to 3), ``propensity`` (in (0, 1]) and, where the file has them,
    ``affinity`` (that of the item shown with this user).

    Parameters
    ----------
    bad : counts what is left out, by its kind; without it the first bad row stops the reading.

    Raises UnknownNameError: no such campaign or policy.
    Raises AssetError, SchemaError: as in `files.opened`; a value is none of those above; names the row and the column.

    Source: Saito et al. (2020), arXiv 2008.07146.
    """
    require_campaign(campaign, policy)
    member = f"{policy}/{campaign}/{campaign}.csv"
    names, first = [], 0
    with opened(source, member) as stream:
        for block in blocks(stream, member):
            if not names:
                names, block = _header(block, member)
            if block.strip():
                table, count = _rows(block, names, member, first, bad)
                first += count
                yield _logged(table, member, bad)


def _header(block: bytes, name: str) -> tuple[list[str], bytes]:
    line, _, rest = block.partition(b"\n")
    names = [part.strip().strip('"') for part in line.decode("utf-8").strip("\r").split(",")]
    names = [part or f"unnamed {place}" for place, part in enumerate(names)]
    need = ("timestamp", "item_id", "position", "click", "propensity_score", *USER_FEATURES)
    require_columns(pd.DataFrame(columns=names), need, name)
    for twice in {part for part in names if names.count(part) > 1}:
        raise SchemaError(f"{name}: two columns are named {twice!r}; rename or drop one of them")
    return names, rest


def _rows(block: bytes, names: list[str], name: str, first: int, bad: Counter | None) -> tuple[pd.DataFrame, int]:
    """A block as a table of text by row, and how many rows it has; those of another length are left out or refused."""
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        row = first + block.count(b"\n", 0, error.start)
        raise SchemaError(f"{name}: row {row} is not UTF-8; save the file as UTF-8, or fetch it anew") from None
    refused = []

    def other_length(row) -> str:
        refused.append((row.number - 1, row.actual_columns, "\n" in row.text))
        return "skip"

    table = pyarrow.csv.read_csv(
        io.BytesIO(block),
        pyarrow.csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
        pyarrow.csv.ParseOptions(invalid_row_handler=other_length),
        pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    for row, fields, lines in refused:
        if lines:  # the rest of the block is gone: no count of rows would be true
            raise SchemaError(f"{name}: row {first + row}: a double quote is not closed; close it, or remove it")
        refuse(bad, name, f"row {first + row}", f"{fields} fields, not {len(names)}", "number of fields")
    count = table.num_rows + len(refused)
    places = np.delete(np.arange(first, first + count), [row for row, *_ in refused])
    return table.to_pandas().set_axis(places), count


def _logged(table: pd.DataFrame, name: str, bad: Counter | None) -> pd.DataFrame:
    number = {key: pd.to_numeric(table[key], errors="coerce") for key in ("position", "click", "propensity_score")}
    times = pd.to_datetime(table["timestamp"], utc=True, format="ISO8601", errors="coerce")
    log = pd.DataFrame(
        {
            "user_id": table[USER_FEATURES[0]].str.cat(table[USER_FEATURES[1:]], sep="-"),
            "item_id": table["item_id"],
            "positive": number["click"] == 1,
            "timestamp": times,
            "position": number["position"],
            "propensity": number["propensity_score"],
        }
    )
    if (affinities := _affinity(table)) is not None:
        log["affinity"] = affinities
    rules = {
        "item_id": (table["item_id"] != "", "an id"),
        "click": (number["click"].isin([0, 1]), "0 or 1"),
        "timestamp": (times.notna(), "a time such as 2019-11-24 00:00:00+00:00"),
        "position": (number["position"].isin([1, 2, 3]), "1, 2 or 3"),
        "propensity_score": ((number["propensity_score"] > 0) & (number["propensity_score"] <= 1), "in (0, 1]"),
    }
    for column, (ok, wanted) in rules.items():
        log = keep(log, ok.loc[log.index], name, column, f"{column} is not {wanted}", bad)
    return log.astype({"position": "int64"})


def _affinity(table: pd.DataFrame) -> np.ndarray | None:
    """The value of the column ``user-item_affinity_k`` whose k is the row's item; NaN where there is none."""
    columns = [column for column in table.columns if column.startswith("user-item_affinity_")]
    if not columns:
        return None
    values = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    place = pd.Index(columns).get_indexer("user-item_affinity_" + table["item_id"])
    return np.where(place >= 0, values[np.arange(len(values)), place], np.nan)
