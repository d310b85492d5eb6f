"""Interaction matrices as the models read them: 0 or 1, and with the items that a model knows.

Taught in: 05_click_prediction_and_ranking.
"""

from __future__ import annotations

from scipy import sparse

from .errors import ReclabError, SchemaError


def binary(X) -> sparse.csr_array:
    """X with 1 for every entry other than 0; never the caller's own matrix.

    Raises
    ------
    SchemaError : X holds NaN.

    Taught in: 05_click_prediction_and_ranking.
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

    Raises
    ------
    ReclabError : the model is not fitted. SchemaError : X has other items, or holds NaN.

    Taught in: 05_click_prediction_and_ranking.
    """
    name = type(model).__name__
    if not hasattr(model, attribute):
        raise ReclabError(f"{name} is not fitted yet; call {name}(...).fit(X) first")
    X, n_items = binary(X), getattr(model, attribute).shape[axis]
    if X.shape[1] != n_items:
        raise SchemaError(f"X has {X.shape[1]} items, {name} was fitted on {n_items}: use the same items")
    return X
