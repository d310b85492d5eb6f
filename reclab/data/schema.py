"""The one schema of every data set, the card that travels with it, and splits without leakage.

================  =================================================================================
table             columns (others may follow)
================  =================================================================================
``users``         ``user_id`` str, unique
``items``         ``item_id`` str, unique; ``text`` str, what a language model reads (or missing)
``interactions``  ``user_id``, ``item_id`` str, both known; ``positive`` bool; ``timestamp`` UTC
                  (or missing)
================  =================================================================================
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from ..errors import LeakageError, SchemaError, UnknownNameError

_REQUIRED = {
    "users": ("user_id",),
    "items": ("item_id", "text"),
    "interactions": ("user_id", "item_id", "positive"),
}
_BY_TIME = ("temporal", "leave-last-out")
_COLD = {"cold items": "item_id", "cold users": "user_id"}
KINDS = (*_BY_TIME, *_COLD, "random")
_LONG = 40  # characters; that two write the same shorter text is no leak
REPEATS = ("error", "latest", "first", "mean", "allow")


@dataclass(frozen=True)
class Card:
    """What a reader must know before using a data set: source, licence, hashes and known traps."""

    title: str
    source: str
    licence: str
    citation: str = ""
    sha256: dict[str, str] = field(default_factory=dict)
    traps: tuple[str, ...] = ()
    read: str = ""  # what a file was read as


@dataclass(frozen=True)
class Dataset:
    """Users, items, interactions and their card; checked against the schema when it is made.

    Raises SchemaError: a column is missing, an id is not text, repeated or unknown; names the
        table, the column and the row.
    """

    users: pd.DataFrame
    items: pd.DataFrame
    interactions: pd.DataFrame
    card: Card

    def __post_init__(self):
        for name, columns in _REQUIRED.items():
            require_columns(getattr(self, name), columns, name)
        for name, column in (("users", "user_id"), ("items", "item_id")):
            known, used = getattr(self, name)[column], self.interactions[column]
            _require_text(known, name, column)
            _require_text(used, "interactions", column)
            if known.duplicated().any():
                row = _first(known.duplicated())
                raise SchemaError(
                    f"{name}: {column} {known.iloc[row]!r} in row {row} stands there twice; "
                    "keep one row an id"
                )
            unknown = ~used.isin(known)
            if unknown.any():
                row = _first(unknown)
                raise SchemaError(
                    f"interactions: {column} {used.iloc[row]!r} in row {row} is not in the {name} "
                    f"table; add it there or drop the {unknown.sum()} such rows"
                )
        positive = self.interactions["positive"]
        if not pd.api.types.is_bool_dtype(positive):
            raise SchemaError(
                "interactions: column 'positive' must be True or False, "
                f"its type is {positive.dtype}"
            )
        if positive.isna().any():
            raise SchemaError(
                f"interactions: positive is missing in row {_first(positive.isna())}; "
                "drop that row or say True or False"
            )

    def counts(self) -> dict[str, int | float]:
        """Rows of each table, the positive share, and the number of items with text."""
        return {
            "users": len(self.users),
            "items": len(self.items),
            "interactions": len(self.interactions),
            "positive share": round(float(self.interactions["positive"].mean()), 4),
            "items with text": int(self.items["text"].notna().sum()),
        }

    def _card_rows(self) -> list[tuple[str, str]]:
        card = self.card
        rows = [("source", card.source), ("read", card.read)]
        rows += [("licence", card.licence), ("cite", card.citation)]
        rows += [(name, f"{count:,}") for name, count in self.counts().items()]
        rows += [(f"sha256 of {name}", digest[:16] + "…") for name, digest in card.sha256.items()]
        rows += [(f"trap {number}", trap) for number, trap in enumerate(card.traps, start=1)]
        return [(name, value) for name, value in rows if value]

    def __repr__(self) -> str:
        lines = [f"{name:>18}  {value}" for name, value in self._card_rows()]
        return "\n".join([self.card.title, *lines])

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'
        rows = "".join(
            f"<tr><th {left}>{html.escape(name)}</th><td {left}>{html.escape(value)}</td></tr>"
            for name, value in self._card_rows()
        )
        return f"<table><caption {left}>{html.escape(self.card.title)}</caption>{rows}</table>"


def listed(names, most: int = 40) -> str:
    """Names of a file's own on one line, for a message."""
    names = [" ".join(str(name).split())[:60] for name in names]
    if len(names) > most:
        names[most:] = ["..."]
    return ", ".join(names) or "nothing"


def require_columns(table: pd.DataFrame, columns, name: str) -> None:
    """Raise `SchemaError` with the table's missing columns and what it has instead."""
    missing = ", ".join(repr(column) for column in columns if column not in table.columns)
    if missing:
        found = listed(table.columns)
        raise SchemaError(f"{name}: no column {missing}; it has {found}; rename one or add it")


def _require_text(ids: pd.Series, name: str, column: str) -> None:
    if ids.isna().any():
        row = _first(ids.isna())
        raise SchemaError(
            f"{name}: {column} is missing in row {row}; drop that row or give it an id"
        )
    if not pd.api.types.is_string_dtype(ids):
        raise SchemaError(
            f"{name}: {column} must be text, its type is {ids.dtype}; use .astype(str)"
        )


def _first(wrong: pd.Series) -> int:
    return int(wrong.to_numpy().argmax())


@dataclass(frozen=True)
class Split:
    """Train and test rows of an interactions table.

    ``kind`` says which promise `check_leakage` holds it to: ``temporal``, ``leave-last-out``,
    ``cold items``, ``cold users``, or ``random``, which promises nothing but separate rows.
    ``repeats`` says what became of a (user, item) pair with several rows: ``"latest"``, ``"first"``
    or ``"mean"`` left one (of the mean rating, positive where most are); ``"allow"`` keeps all, as
    in a log of purchases, on both sides; ``"error"`` keeps all for `check_leakage` to refuse.
    """

    kind: str
    train: pd.DataFrame
    test: pd.DataFrame
    repeats: str = "error"


def temporal(interactions: pd.DataFrame, at: float = 0.7, *, repeats: str = "error") -> Split:
    """Train on what came before one moment, test on the rest: the split that a live system meets.

    ``at`` is the share of rows before the cut; rows of the same moment stay together, in test.

    Raises SchemaError: no timestamps. ValueError : ``at`` is not between 0 and 1.
    """
    _require_share("at", at)
    rows = _resolve(interactions, repeats, by_time=True)
    times = rows["timestamp"]
    cut = times.sort_values(ignore_index=True).iloc[int(at * len(times))]
    return _split("temporal", rows, times >= cut, repeats)


def leave_last_out(interactions: pd.DataFrame, *, seed: int = 0, repeats: str = "error") -> Split:
    """Test on the last interaction of every user who has at least two, train on all others.

    Rows of one user with the same timestamp are put in an order drawn by ``seed``: results should
    be averaged over several such draws.

    Raises SchemaError: no timestamps.
    """
    kept = _resolve(interactions, repeats, by_time=True)
    rows = kept.reset_index(drop=True)  # an index may repeat, as after pd.concat
    shuffled = rows.iloc[np.random.default_rng(seed).permutation(len(rows))]
    last = shuffled.sort_values("timestamp", kind="stable").groupby("user_id").tail(1)
    last = last[last["user_id"].map(rows["user_id"].value_counts()) >= 2]
    return _split("leave-last-out", kept, rows.index.isin(last.index), repeats)


def warm(
    interactions: pd.DataFrame, *, share: float = 0.2, seed: int = 0, repeats: str = "error"
) -> Split:
    """Test on random rows whose user and whose item training has too: for data without times.

    It cannot promise that training rows are older than test rows, as those of a live system are;
    `check_leakage` says how often they are not.

    ``share`` of the rows are in test; fewer where no more users and items have a row left. Without
    times, a later row counts as the later one of a repeat.

    Raises SchemaError: no row can be spared. ValueError : ``share`` is not between 0 and 1.
    """
    _require_share("share", share)
    rows = _resolve(interactions, repeats)
    order = np.random.default_rng(seed).permutation(len(rows))
    drawn = rows.iloc[order]
    spare = order[(drawn.duplicated("user_id") & drawn.duplicated("item_id")).to_numpy()]
    if not len(spare):
        raise SchemaError("interactions: in every row the user or the item has no other row")
    held_out = np.zeros(len(rows), bool)
    held_out[spare[: max(1, int(share * len(rows)))]] = True
    return _split("random", rows, held_out, repeats)


def _require_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")


def _split(kind: str, rows: pd.DataFrame, held_out, repeats: str = "error") -> Split:
    return Split(kind, rows[~held_out], rows[held_out], repeats)


def _resolve(interactions: pd.DataFrame, repeats: str, by_time: bool = False) -> pd.DataFrame:
    """One row for each (user, item) pair, or all of them, in their order; as in `Split`."""
    if by_time:
        _require_times(interactions, "interactions")
    if repeats not in REPEATS:
        raise UnknownNameError("way to treat repeats", repeats, REPEATS)
    if repeats in ("error", "allow"):
        return interactions
    pairs = _ids_as_text(interactions, "interactions").groupby(["user_id", "item_id"]).ngroup()
    order = np.arange(len(pairs))
    if "timestamp" in interactions:
        order = interactions["timestamp"].reset_index(drop=True).sort_values(kind="stable").index
    drop = pairs[order].duplicated(keep="first" if repeats == "first" else "last").to_numpy()
    stay = np.sort(order[~drop])
    kept = interactions.iloc[stay]
    if repeats == "mean":
        for column in kept.columns.intersection(["rating", "positive"]):
            means = interactions[column].groupby(pairs.to_numpy()).transform("mean").iloc[stay]
            kept = kept.assign(**{column: means >= 0.5 if column == "positive" else means})
    return kept


def cold_items(
    interactions: pd.DataFrame, *, fold: int = 0, folds: int = 5, seed: int = 0
) -> Split:
    """Test on items that training never sees: one of ``folds`` random groups of items."""
    return _cold("cold items", interactions, fold, folds, seed)


def cold_users(
    interactions: pd.DataFrame, *, fold: int = 0, folds: int = 5, seed: int = 0
) -> Split:
    """Test on users whom training never sees: one of ``folds`` random groups of users."""
    return _cold("cold users", interactions, fold, folds, seed)


def _cold(kind: str, interactions: pd.DataFrame, fold: int, folds: int, seed: int) -> Split:
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}")
    if not 0 <= fold < folds:
        raise ValueError(f"fold must be in 0..{folds - 1}, got {fold}")
    column = _COLD[kind]
    ids = np.sort(interactions[column].unique())
    if len(ids) < folds:
        raise ValueError(
            f"folds must be at most the number of distinct {column} ({len(ids)}), got {folds}"
        )
    cold = np.random.default_rng(seed).permutation(ids)[fold::folds]
    return _split(kind, interactions, interactions[column].isin(cold))


def without_templates(split: Split) -> Split:
    """The split without the test rows whose text is a template that training holds too: one of more
    than 40 characters that three users or more wrote, but for case, digits, blanks and punctuation.
    """
    return replace(split, test=split.test[~_templates(split)])


def _templates(split: Split) -> np.ndarray:
    """``(n_test,)`` bool: which test rows have a text that is a template in training."""
    sides = [split.train[["user_id", "text"]], split.test[["user_id", "text"]]]
    texts = pd.concat(sides, ignore_index=True)
    long = _long(texts["text"])
    letters = texts["text"].where(long).astype("str").str.casefold()
    letters = letters.str.replace(r"[\W\d_]+", "", regex=True).where(long)
    authors = texts["user_id"].groupby(letters).nunique()
    train, test = letters[: len(split.train)], letters[len(split.train) :]
    return test.isin(authors.index[authors >= 3].intersection(train)).to_numpy()


def _long(texts: pd.Series) -> np.ndarray:
    return np.array([isinstance(text, str) and len(text) > _LONG for text in texts])


def check_leakage(split: Split) -> int | None:
    """Raise if a split breaks its promise: the first thing to call on any split.

    All splits: no (user, item) pair (unless ``repeats="allow"``), no long text and no template of
    `without_templates` stands on both sides. ``temporal``: nothing in train is as late as the first
    test row. ``leave-last-out``: no train row of a user is later than that user's test row. ``cold
    items`` and ``cold users``: none of them is in train. Ids are compared as text, and rows by what
    they hold, so both sides may count their rows from 0.

    Returns: how many test users have a training row later than a test row of theirs, which a live
        system would not have; None without times. Of a random split it is printed.

    Raises LeakageError: says which promise is broken, how often, and names the first case.
    Raises SchemaError: a column or a time is missing. UnknownNameError : no such kind of split.
    """
    kind, train, test = split.kind, split.train, split.test
    if kind not in KINDS:
        raise UnknownNameError("kind of split", kind, KINDS)
    if not len(train) or not len(test):
        sizes = f"(train {len(train)}, test {len(test)} rows)"
        raise LeakageError(f"{kind}: one side is empty {sizes}")
    past, asked = _ids_as_text(train, "train"), _ids_as_text(test, "test")
    if split.repeats != "allow":
        repeated = pd.MultiIndex.from_frame(asked).isin(pd.MultiIndex.from_frame(past))
        choices = (
            "split with repeats='latest', 'first' or 'mean', or 'allow' for a log of purchases"
        )
        _refuse(repeated, test, "(user, item) pair(s) stand in train and in test", choices)
    if "text" in test and "text" in train:
        template = _templates(split)
        first = f"(as {test['text'].iloc[template.argmax()]!r:.80})"
        drop = "drop them with data.without_templates(split)"
        _refuse(template, test, f"text(s) are a template of three users or more {first}", drop)
        copied = _long(test["text"]) & test["text"].isin(train["text"]).to_numpy()
        _refuse(copied, test, "text(s) stand word for word in train and in test")
    if kind in _COLD:
        column = _COLD[kind]
        seen = asked[column].isin(past[column])
        _refuse(seen, test, f"test row(s) hold a value of {column} that train has seen")
    later = _later(split, past, asked)
    if later is None:
        if kind == "random":
            print("random split without times: nobody can say whether training is older than test")
        return None
    if kind == "temporal":
        late = test["timestamp"] <= train["timestamp"].max()
        _refuse(late, test, "test row(s) are not later than train")
    if kind == "leave-last-out":
        _refuse(later, test, "test row(s) are earlier than a train row of their user")
    users, of = asked["user_id"][later].nunique(), asked["user_id"].nunique()
    if kind == "random":
        have = "test users have training rows later than a test row"
        print(f"random split: {users:,} of {of:,} {have}")
    return users


def _later(split: Split, past: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray | None:
    """``(n_test,)`` bool: whose user has a later training row; None where a time is missing."""
    try:
        _require_times(pd.concat([split.train, split.test]), split.kind)
    except SchemaError:
        if split.kind in _BY_TIME:
            raise
        return None
    latest = split.train["timestamp"].groupby(past["user_id"].to_numpy()).max()
    times = split.test["timestamp"].reset_index(drop=True)
    return (times < asked["user_id"].map(latest)).to_numpy()


def _ids_as_text(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Ids as they are compared: 12, 12.0 and " 12" are one id, as are both ways to write é."""
    columns = ("user_id", "item_id")
    require_columns(table, columns, name)
    found = {}
    for column in columns:
        codes, values = pd.factorize(table[column], use_na_sentinel=False)
        texts = [unicodedata.normalize("NFC", str(value)).strip() for value in values]
        texts = [re.sub(r"^(-?\d+)\.0+$", r"\1", text) for text in texts]
        found[column] = np.array(texts, dtype=object)[codes]
    return pd.DataFrame(found)


def _refuse(leaks, test: pd.DataFrame, what: str, remedy: str = "") -> None:
    leaks = np.asarray(leaks, bool)
    if leaks.any():
        first = test.index[leaks.argmax()]
        remedy = remedy or "split again, by time or by group, and check before you train"
        raise LeakageError(f"{leaks.sum()} {what}, first at index {first}; {remedy}")


def _require_times(table: pd.DataFrame, name: str) -> None:
    require_columns(table, ("timestamp",), name)
    times = table["timestamp"]
    if table.empty:
        raise SchemaError(f"{name}: there are no rows to split; check the filter that came before")
    if times.isna().any():
        raise SchemaError(
            f"{name}: some rows have no timestamp; drop them, or use a split that needs no time"
        )
    if times.dtype.kind not in "Miuf":
        raise SchemaError(
            f"{name}: timestamp must be times or numbers, its type is {times.dtype} (text sorts "
            "'10' before '9', and no zone is not UTC); use pd.to_datetime(..., utc=True)"
        )
