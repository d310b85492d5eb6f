"""MIND: news, and what people were shown and clicked, as a stream of tables of one schema.

The files come from https://msnews.github.io/, which asks you to accept terms.
Source: Wu et al. (2020), doi 10.18653/v1/2020.acl-main.331.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from .files import keep
from .lines import delimited

_NEWS = ["item_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities"]
_BEHAVIORS = ["impression_id", "user_id", "timestamp", "history", "shown"]
TRAPS = (
    "Times carry no zone; they are read as UTC.",
    "The history is the same in all rows of a user, and may be empty.",
    "Impressions of the test file carry no label: positive is missing there.",
    "Abstracts are missing for some news; entities are those of a tagger, in JSON.",
)


def news(source: str | Path, *, bad: Counter | None = None) -> Iterator[pd.DataFrame]:
    """The news: ``item_id, category, subcategory, title, abstract, url, title_entities, abstract_entities`` (JSON), and
    ``text`` (title and abstract).

    Parameters
    ----------
    source : the zip file, its folder, or ``news.tsv``.
    bad : counts what is left out, by its kind; without it the first bad row stops the reading.

    Raises AssetError, SchemaError: as in `files.opened`.
    """
    for table in delimited(source, "news.tsv", names=_NEWS, separator="\t", quotes=False, bad=bad):
        table = keep(table, table["item_id"] != "", "news.tsv", "item_id", "item_id is empty", bad)
        text = (table["title"] + "\n" + table["abstract"]).str.strip()
        yield table.assign(text=text.mask(text == ""))


def impressions(source: str | Path, *, bad: Counter | None = None) -> Iterator[pd.DataFrame]:
    """What was shown, a row each: ``impression_id, user_id, item_id``, ``timestamp`` (UTC), ``place`` (from 1),
    ``positive`` (clicked; in the test file all missing), ``history`` (list of item ids, one for
    all rows of an impression).

    Raises AssetError, SchemaError: as in `files.opened`; a time is none, an impression is empty, or only some have a
        label.
    """
    for table in delimited(source, "behaviors.tsv", names=_BEHAVIORS, separator="\t", quotes=False, bad=bad):
        times = pd.to_datetime(table["timestamp"], format="%m/%d/%Y %I:%M:%S %p", utc=True, errors="coerce")
        table["timestamp"], name = times, "behaviors.tsv"
        table = keep(table, times.notna(), name, "timestamp", "the time is not like 11/9/2019 9:05:58 AM", bad)
        table = keep(table, table["user_id"] != "", name, "user_id", "user_id is empty", bad)
        table["shown"] = table["shown"].str.split()
        table = keep(table, table["shown"].str.len() > 0, name, "shown", "nothing was shown", bad)
        table["history"] = table["history"].str.split()
        if len(table):
            yield _exploded(table, name, bad)


def _exploded(table: pd.DataFrame, name: str, bad: Counter | None) -> pd.DataFrame:
    place = np.concatenate([np.arange(1, count + 1) for count in table["shown"].str.len()])
    rows = table.explode("shown").rename(columns={"shown": "item_id"}).assign(place=place)
    parts = rows["item_id"].str.extract(r"^(?P<item_id>.+?)(?:-(?P<label>[01]))?$")
    labels = parts["label"].notna()
    unlike = labels.to_numpy() != bool(labels.iloc[0])  # all rows of a file have labels, or none
    rows["item_id"] = parts["item_id"]
    rows["positive"] = (parts["label"] == "1") if labels.iloc[0] else pd.Series(pd.NA, rows.index, dtype="boolean")
    rows = keep(rows, ~unlike, name, "label", "only some impressions have a label -0 or -1", bad)
    return rows[["impression_id", "user_id", "item_id", "timestamp", "place", "positive", "history"]]
