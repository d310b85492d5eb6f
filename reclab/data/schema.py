"""The one schema that every data set follows, and the card that travels with it.

====================  =========================================================================================
table                 columns (others may follow)
====================  =========================================================================================
``users``             ``user_id`` str, unique
``items``             ``item_id`` str, unique; ``text`` str, what a language model reads (missing where unknown)
``interactions``      ``user_id``, ``item_id`` str, both known; ``positive`` bool; ``timestamp`` UTC (may be missing)
====================  =========================================================================================
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field

import pandas as pd

from ..errors import SchemaError

_REQUIRED = {"users": ("user_id",), "items": ("item_id", "text"), "interactions": ("user_id", "item_id", "positive")}


@dataclass(frozen=True)
class Card:
    """What a reader must know before using a data set: its source, licence, hashes and known traps."""

    title: str
    source: str
    licence: str
    citation: str = ""
    sha256: dict[str, str] = field(default_factory=dict)
    traps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Users, items, interactions and their card; checked against the schema when it is made.

    Parameters
    ----------
    users, items, interactions : tables as in this module's docstring.
    card : source, licence, hashes and traps.

    Raises SchemaError: a column is missing, an id is not text, repeated or unknown; names the table, column and row.
    """

    users: pd.DataFrame
    items: pd.DataFrame
    interactions: pd.DataFrame
    card: Card

    def __post_init__(self):
        for table, columns in _REQUIRED.items():
            require_columns(getattr(self, table), columns, table)
        _unique_ids(self.users, "users", "user_id")
        _unique_ids(self.items, "items", "item_id")
        _known_ids(self.interactions, "user_id", self.users["user_id"], "users")
        _known_ids(self.interactions, "item_id", self.items["item_id"], "items")
        positive = self.interactions["positive"]
        if not pd.api.types.is_bool_dtype(positive):
            raise SchemaError(f"interactions: column 'positive' must be True or False, its type is {positive.dtype}")
        if positive.isna().any():
            row = positive.isna().to_numpy().argmax()
            raise SchemaError(f"interactions: positive is missing in row {row}; drop that row or say True or False")

    def counts(self) -> dict[str, int | float]:
        """Rows of each table, the positive share, and the share of items with text."""
        return {
            "users": len(self.users),
            "items": len(self.items),
            "interactions": len(self.interactions),
            "positive share": round(float(self.interactions["positive"].mean()), 4),
            "items with text": int(self.items["text"].notna().sum()),
        }

    def _card_rows(self) -> list[tuple[str, str]]:
        card = self.card
        rows = [("source", card.source), ("licence", card.licence), ("cite", card.citation)]
        rows += [(name, f"{count:,}") for name, count in self.counts().items()]
        rows += [(f"sha256 of {name}", digest[:16] + "…") for name, digest in card.sha256.items()]
        rows += [(f"trap {number}", trap) for number, trap in enumerate(card.traps, start=1)]
        return [(name, value) for name, value in rows if value]

    def __repr__(self) -> str:
        lines = [f"{name:>18}  {value}" for name, value in self._card_rows()]
        return "\n".join([self.card.title, *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(value)}</td></tr>'
            for name, value in self._card_rows()
        )
        return f'<table><caption style="text-align:left">{html.escape(self.card.title)}</caption>{rows}</table>'


def listed(names, most: int = 40) -> str:
    """Names of a file's own on one line, for a message."""
    names = [" ".join(str(name).split())[:60] for name in names]
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])]) or "nothing"


def require_columns(table: pd.DataFrame, columns, name: str) -> None:
    """Raise `SchemaError` naming the table and the missing columns, and what it has instead."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise SchemaError(
            f"{name}: no column {', '.join(map(repr, missing))}; it has {listed(table.columns)}; rename one or add it"
        )


def _unique_ids(table: pd.DataFrame, name: str, column: str) -> None:
    ids = table[column]
    _text_ids(ids, name, column)
    repeated = ids.duplicated().to_numpy()
    if repeated.any():
        row = repeated.argmax()
        raise SchemaError(f"{name}: {column} {ids.iloc[row]!r} in row {row} stands there twice; keep one row an id")


def _known_ids(table: pd.DataFrame, column: str, known: pd.Series, other: str) -> None:
    _text_ids(table[column], "interactions", column)
    unknown = ~table[column].isin(known).to_numpy()
    if unknown.any():
        row = unknown.argmax()
        raise SchemaError(
            f"interactions: {column} {table[column].iloc[row]!r} in row {row} is not in the {other} table; "
            f"add it there or drop the {int(unknown.sum())} such rows"
        )


def _text_ids(ids: pd.Series, name: str, column: str) -> None:
    if ids.isna().any():
        row = ids.isna().to_numpy().argmax()
        raise SchemaError(f"{name}: {column} is missing in row {row}; drop that row or give it an id")
    if not pd.api.types.is_string_dtype(ids):
        raise SchemaError(f"{name}: {column} must be text, its type is {ids.dtype}; use .astype(str)")
