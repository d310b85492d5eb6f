"""How good click predictions are: AUC with bootstrap intervals, calibration; and the labels that they learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from .errors import ReclabError, SchemaError
from .intervals import CELLS, Interval, draw_counts, group_codes, percentile_interval, resamples


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    Raises SchemaError: labels that are not 0 and 1 with both present, or scores that are NaN or too many or few.

    Source: Hanley and McNeil, Radiology 1982, doi 10.1148/radiology.143.1.7063747.
    """
    labels, scores = _labelled(labels, scores)
    positives = int(labels.sum())
    ranks = rankdata(scores)[labels == 1].sum() - positives * (positives + 1) / 2
    return float(ranks / (positives * (len(labels) - positives)))


def auc_interval(labels, scores, groups=None, n: int = 1000, seed: int = 0, level: float = 0.95) -> Interval:
    """AUC with its bootstrap interval over rows, or over groups where rows of one group hang together.

    Parameters
    ----------
    labels, scores : ``(n_rows,)``; labels are 0 or 1.
    groups : ``(n_rows,)`` the user or item of each row; whole groups are resampled. None: rows are.
    n, seed, level : as `bootstrap_interval`.

    Raises SchemaError: as `auc`; or fewer than two groups.
    """
    samples = resampled_aucs(labels, [scores], groups, n, seed)[:, 0]
    return percentile_interval(auc(labels, scores), samples, level)


def paired_auc_difference(
    labels, score_a, score_b, groups=None, n: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """AUC of ``score_a`` less that of ``score_b`` on the same rows, with its paired bootstrap interval.

    Parameters, Raises: as `auc_interval`.
    """
    samples = resampled_aucs(labels, [score_a, score_b], groups, n, seed)
    return percentile_interval(auc(labels, score_a) - auc(labels, score_b), samples[:, 0] - samples[:, 1], level)


def expected_calibration_error(labels: np.ndarray, p: np.ndarray, bins: int = 10) -> float:
    """Mean gap between the predicted and the observed rate over bins of equal width, weighted by their rows.

    Parameters
    ----------
    labels : ``(n_rows,)`` 0 or 1.
    p : ``(n_rows,)`` predicted probabilities; bin m holds ``((m - 1) / bins, m / bins]``, the first also 0.
    bins : number of bins; the value depends on it.

    Raises SchemaError: labels that are not 0 or 1, or probabilities outside 0..1.

    Source: Guo et al., ICML 2017, arXiv 1706.04599, equation 3.
    """
    labels, p = _labelled(labels, p, both=False)
    if bins < 1:
        raise ReclabError(f"bins must be 1 or more, got {bins}")
    if (p < 0).any() or (p > 1).any():
        raise SchemaError("p must hold probabilities from 0 to 1; pass a score through a sigmoid first")
    index = np.digitize(p, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    return float(np.abs(np.bincount(index, weights=p - labels)).sum() / len(p))


def valid_labels(labels: Sequence[bool], n: int, *, both: bool = True) -> np.ndarray:
    """Labels as (n,) int64.

    Parameters
    ----------
    n : how many there must be.
    both : whether each class has to occur.

    Raises ValueError: not one label an example, a label that is missing or not 0 or 1, names its row; or only one
        class.
    """
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels must be one for each of {n} examples, got shape {labels.shape}")
    bad = pd.isna(labels)
    bad[~bad] = ~np.isin(labels[~bad], [0, 1])
    if bad.any():
        row = bad.argmax()
        raise ValueError(f"labels must be 0 or 1, labels[{row}] is {labels.tolist()[row]!r}; drop or correct it")
    if both and len(np.unique(labels)) < 2:
        raise ValueError("labels holds only one class; a classifier needs examples of both")
    return labels.astype(np.int64)


def _labelled(labels, scores, both: bool = True) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
    if labels.ndim != 1 or labels.shape != scores.shape or not len(labels):
        raise SchemaError(f"labels and scores must be one row of numbers each, got {labels.shape} and {scores.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise SchemaError("labels must be 0 or 1")
    if np.isnan(scores).any():
        raise SchemaError(f"scores hold {np.isnan(scores).sum()} NaN; drop those rows or repair the model")
    if both and labels.min() == labels.max():
        raise SchemaError("labels hold one class only, so AUC is not defined")
    return labels, scores


def resampled_aucs(labels, scores: list, groups=None, n: int = 1000, seed: int = 0) -> np.ndarray:
    """AUC of each score in each bootstrap resample, the same rows for all: ``(n, len(scores))``.

    A value is NaN where a resample misses a class.

    Parameters
    ----------
    scores : a list of ``(n_rows,)`` scores.
    labels, groups, n, seed : as `auc_interval`.

    Raises SchemaError: as `auc_interval`.
    """
    labels, _ = _labelled(labels, scores[0])
    codes = np.arange(len(labels)) if groups is None else group_codes(groups, len(labels))
    blocks = [_tie_blocks(_labelled(labels, s)[1]) for s in scores]
    found, step = [], max(1, CELLS // len(labels))
    for draws in resamples(codes.max() + 1, n, seed):
        for start in range(0, len(draws), step):
            weights = draw_counts(draws[start : start + step])[:, codes]
            found.append(np.stack([_weighted_aucs(labels, weights, *b) for b in blocks], axis=1))
    return np.concatenate(found)


def _tie_blocks(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows in ascending order of score, and where each run of equal scores begins."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    return order, np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _weighted_aucs(labels, weights, order, starts) -> np.ndarray:
    weights = weights[:, order].astype(float)
    positive = np.add.reduceat(weights * labels[order], starts, axis=1)
    negative = np.add.reduceat(weights, starts, axis=1) - positive
    below = negative.cumsum(axis=1) - negative / 2
    with np.errstate(invalid="ignore"):
        return (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
