"""From tables of ids to arrays of indices: interactions become a matrix as models read it, recommendations lists."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from .errors import ReclabError, SchemaError

_NAMES = {
    "user_id": ("user", "userid", "users", "uid", "u", "query_id", "q_id"),
    "item_id": ("item", "itemid", "items", "iid", "i", "movieid", "movie_id", "doc_id", "product_id"),
    "rank": ("position", "place"),
    "score": ("prediction", "pred", "predicted", "estimate", "est", "rating"),
    "probability": ("p", "prob", "proba"),
    "clicked": ("click", "clicks"),
}


def with_our_names(table: pd.DataFrame) -> pd.DataFrame:
    """A table of recommendations with ``user_id, item_id, rank, score`` for the names that other libraries write.

    Capitals and RecBole's types (``user_id:token``) do not matter. A column with our name is kept before any other.

    Raises SchemaError: two columns stand for the same thing.
    """
    ours = {alias: name for name, aliases in _NAMES.items() for alias in aliases}
    plain = {column: str(column).split(":")[0].strip().lower() for column in table.columns}
    there = {column: name for column, name in plain.items() if name in _NAMES}
    free = {column: ours[name] for column, name in plain.items() if ours.get(name) not in {None, *there.values()}}
    for name in _NAMES:
        both = [column for column, meant in (there | free).items() if meant == name]
        if len(both) > 1:
            raise SchemaError(f"columns {both[0]!r} and {both[1]!r} could both be the {name}: rename or drop one")
    return table.rename(columns=there | free)


def interaction_matrix(interactions: pd.DataFrame, users, items) -> sparse.csr_array:
    """Interactions as a sparse matrix of 0 and 1; a repeated (user, item) pair counts once.

    Parameters
    ----------
    interactions : columns ``user_id`` and ``item_id``; filter it first (say, to the positive ones).
    users, items : ids in the order of the rows and of the columns, every id once. Where these are text and
        the table's ids are numbers, they are compared as text.

    Returns: ``(n_users, n_items)`` float64.

    Raises SchemaError: a missing column, an id that occurs twice in users or items, or an id that is in neither.
    """
    rows = _positions(interactions, "user_id", users)
    columns = _positions(interactions, "item_id", items)
    matrix = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(users), len(items)))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def binary(X) -> sparse.csr_array:
    """X with 1 for every entry other than 0; never the caller's own matrix.

    Raises SchemaError: X holds NaN.
    """
    X = sparse.csr_array(X, dtype=float, copy=True)
    if (X.data != X.data).any():
        raise SchemaError("X holds NaN; an interaction is there or it is not")
    X.sum_duplicates()
    X.eliminate_zeros()
    X.data[:] = 1.0
    return X


def fitting(X, model: object, attribute: str, axis: int = -1) -> sparse.csr_array:
    """X as 0 and 1, once the model is fitted and has as many items.

    Parameters
    ----------
    model : an estimator.
    attribute : what ``fit`` sets on it, an array or a matrix.
    axis : which of its axes is that of the items.

    Raises ReclabError: the model is not fitted. SchemaError : X has other items, or holds NaN.
    """
    name = type(model).__name__
    if not hasattr(model, attribute):
        raise ReclabError(f"{name} is not fitted yet; call {name}(...).fit(X) first")
    X, n_items = binary(X), getattr(model, attribute).shape[axis]
    if X.shape[1] != n_items:
        raise SchemaError(f"X has {X.shape[1]} items, {name} was fitted on {n_items}: use the same items")
    return X


def lists_from_table(table: pd.DataFrame, users, items, k: int) -> np.ndarray:
    """The recommendations of any library, given as a table, as lists of item indices.

    Parameters
    ----------
    table : columns ``user_id``, ``item_id`` and ``rank`` (lowest first) or, without it, ``score`` (highest
        first, equal scores by the lower item index); one row for each recommended item.
    users, items : ids in the order of the rows and of the columns, as for `interaction_matrix`.
    k : length of the lists; what stands further down is left out.

    Returns: ``(n_users, k)`` item indices, -1 where the table has no item (for a user it lacks: everywhere).

    Raises ReclabError: k is below 1.
    Raises SchemaError: a missing column, an unknown id, a rank or score that is no finite number, a rank below 0, or
        the same item or the same rank twice for one user.
    """
    if k < 1:
        raise ReclabError(f"k must be 1 or more, got {k}")
    table = with_our_names(table)
    order = "rank" if "rank" in table else "score"
    rows, columns = _positions(table, "user_id", users), _positions(table, "item_id", items)
    best_first = _numbers(table, order) * (1 if order == "rank" else -1)
    _refuse_repeats(table, "item_id", rows, columns, "it would count twice: keep its best row")
    if order == "rank":
        _refuse_repeats(table, "rank", rows, best_first, "which comes first? Number the ranks from 1 up")
    if not _sorted(rows, best_first, columns):  # most libraries write their tables in this order
        sorting = np.lexsort((columns, best_first, rows))
        rows, columns = rows[sorting], columns[sorting]
    counts = np.bincount(rows, minlength=len(users))
    place = np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
    lists = np.full((len(users), k), -1, dtype=np.int64)
    kept = place < k
    lists[rows[kept], place[kept]] = columns[kept]
    return lists


def _positions(table: pd.DataFrame, column: str, known) -> np.ndarray:
    """Where each id of a column stands among the known ids."""
    ids, index = _column(table, column), pd.Index(known)
    if not index.is_unique:
        raise SchemaError(f"{column} {_said(index[index.duplicated()][0])} stands twice among the ids: keep one")
    if pd.api.types.is_string_dtype(index) and not pd.api.types.is_string_dtype(ids):
        ids = ids.astype(str)
    found = index.get_indexer(ids)
    if (found < 0).any():
        unknown = _said(ids.iloc[int((found < 0).argmax())])
        raise SchemaError(f"{column} {unknown} is none of the {len(index)} known ids: add it or drop its rows")
    return found


def _numbers(table: pd.DataFrame, column: str) -> np.ndarray:
    values = pd.to_numeric(_column(table, column), errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    bad = ~np.isfinite(values) | ((values < 0) if column == "rank" else False)
    if bad.any():
        row = int(bad.argmax())
        wanted = "a number" if np.isnan(values[row]) else "a finite number"
        wanted = "a rank of 0 or more" if np.isfinite(values[row]) else wanted
        value = _said(table[column].iloc[row])
        raise SchemaError(f"{column} in row {row} is {value}, not {wanted}: drop or repair it")
    return values


def _column(table: pd.DataFrame, column: str) -> pd.Series:
    if column not in table:
        raise SchemaError(f"the table needs a column {column!r}; it has {', '.join(map(str, table.columns))}")
    return table[column]


def _refuse_repeats(table: pd.DataFrame, column: str, users: np.ndarray, values: np.ndarray, remedy: str) -> None:
    codes, different = pd.factorize(values)
    pairs = users * len(different) + codes
    in_order = np.sort(pairs)
    if np.any(in_order[1:] == in_order[:-1]):  # quicker than to look each pair up
        row = int(pd.Series(pairs).duplicated().argmax())
        user, other = (_said(table[name].iloc[row]) for name in ("user_id", column))
        raise SchemaError(f"{column} {other} stands twice for user_id {user}; {remedy}")


def _sorted(*keys: np.ndarray) -> bool:
    """Whether rows stand in the order of the first key, equal ones in that of the next, and so on."""
    rising, equal = False, True
    for key in keys:
        rising, equal = rising | equal & (key[1:] > key[:-1]), equal & (key[1:] == key[:-1])
    return bool(np.all(rising | equal))


def _said(value) -> str:
    """A value as a student typed it: NumPy would write ``np.int64(2)``."""
    return repr(value.item() if isinstance(value, np.generic) else value)
