"""What only a generated shop has: the true click probabilities, and what each modality is worth.

The logit of a click is a sum of components, one a modality, that are drawn independently of each other:
``logit = base + picture + text + tags + price + profile + history + popularity + position``. Whoever lacks one of them
predicts best with its average over what it could be: E[sigmoid(rest + C)], where C has the distribution of the missing
component. Every age group likes the same set of values in an order of its own, so C is distributed alike in all of
them, and the average is the same rising function of the rest for every row. It keeps the order, so the AUC of the best
prediction without a modality is that of the sum of the others, and needs no model to compute.

Two limits. A shop has few items, so components correlate a little by chance; over seeds this averages out. And the
best prediction knows every liking; a model has to learn them, those of single users from a few searches each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import UnknownNameError

_GRID = np.arange(-20, 20, 0.01)  # logits at which a missing component is averaged out; linear in between


@dataclass(frozen=True)
class Truth:
    """The planted truth of a shop; rows are those of its ``interactions``.

    Parameters
    ----------
    components : ``(n_rows,)`` each, the logit that each modality adds.
    absent : ``(n_rows,)`` each, whether the item shown lacks its picture, text or tags.
    base : logit of an item about which nothing is known. noise : share of clicks that are accidents.
    click_probability : ``(n_rows,)`` of the item shown.
    candidate_probability : ``(n_rows, n_candidates)`` of each item that could have been shown; NaN where an item was
        not yet on sale.
    items : the true attributes of every item, also where its picture, text or tags are absent.
    tastes : ``(n_users, n_shelves)``, +1 where a user likes a shelf and -1 elsewhere, on the first day.
    """

    components: pd.DataFrame
    absent: pd.DataFrame
    base: float
    noise: float
    click_probability: np.ndarray
    candidate_probability: np.ndarray
    items: pd.DataFrame
    tastes: pd.DataFrame

    def predict(self, without: str | Sequence[str] = ()) -> np.ndarray:
        """The best possible click prediction, ``(n_rows,)``, of a model that does not see some modalities.

        A row whose item lacks its picture, text or tags is predicted without them in any case.

        Parameters
        ----------
        without : modality or modalities left out.

        Raises UnknownNameError: no such modality.
        """
        hidden = _names(without, self.components)
        absent = self.absent.assign(**{name: True for name in hidden if name in self.absent})
        predicted = np.empty(len(absent))
        for pattern, rows in absent.groupby(list(absent)).indices.items():
            gone = hidden | {name for name, is_gone in zip(absent, pattern, strict=True) if is_gone}
            logits = self.base + self.components.drop(columns=list(gone)).to_numpy()[rows].sum(axis=1)
            predicted[rows] = np.interp(logits, _GRID, self._averaged_over(gone))
        return predicted

    def bayes_auc(self, without: str | Sequence[str] = ()) -> float:
        """The AUC that no model without these modalities can exceed on average; parameters as `predict`."""
        return expected_auc(self.predict(without), self.click_probability)

    def share(self, modality: str) -> float:
        """What a modality, a column of ``components``, is worth: the Bayes-optimal AUC less that without it."""
        return self.bayes_auc() - self.bayes_auc(modality)

    def _averaged_over(self, hidden: set[str]) -> np.ndarray:
        curve = sigmoid(_GRID)
        for name in sorted(hidden):
            values, counts = np.unique(self.components[name].to_numpy().round(6), return_counts=True)
            weights = counts / counts.sum()
            curve = sum(w * np.interp(_GRID + v, _GRID, curve) for v, w in zip(values, weights, strict=True))
        return (1 - self.noise) * curve + self.noise * sigmoid(self.base)


def sigmoid(logit):
    """The probability that belongs to a logit."""
    return 1 / (1 + np.exp(-np.asarray(logit, float)))


def expected_auc(scores: np.ndarray, probability: np.ndarray) -> float:
    """AUC of scores when row i is a click with probability p_i: expected wins over expected pairs.

    Parameters
    ----------
    scores, probability : ``(n,)``. Scores closer than a billionth count as equal, so that rounding breaks no tie.
    """
    _, place = np.unique(np.asarray(scores).round(9), return_inverse=True)
    clicks = np.bincount(place, weights=probability)
    others = np.bincount(place, weights=1 - probability)
    below = np.cumsum(others) - others / 2
    return float((clicks * below).sum() / (clicks.sum() * others.sum()))


def _names(wanted: str | Sequence[str], known: pd.DataFrame) -> set[str]:
    names = {wanted} if isinstance(wanted, str) else set(wanted)
    for name in sorted(names - set(known)):
        raise UnknownNameError("modality", name, known)
    return names
