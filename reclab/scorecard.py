"""Systems side by side along several dimensions, with intervals over users and verdicts that a test backs.

Taught in: 08_multidimensional_evaluation.
"""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse, stats

from . import metrics
from .errors import ReclabError, SchemaError, UnknownNameError
from .tables import interaction_matrix, lists_from_table

BETTER, WORSE, UNCLEAR = "better", "worse", "no clear difference"
LOWER_IS_BETTER = ("Gini",)


@dataclass(frozen=True)
class Scorecard:
    """The numbers of a comparison, and two tables of words made from them.

    Attributes
    ----------
    values : one row for each system and metric: ``value, low, high, n_users``.
    differences : one row for each system but the baseline and each metric: ``difference, low, high``, the
        paired t-test's ``p_value``, ``p_holm`` corrected for all tests on the card, and ``verdict``.
    note : what was measured on whom.

    Taught in: 08_multidimensional_evaluation.
    """

    values: pd.DataFrame
    differences: pd.DataFrame
    note: str

    @property
    def table(self) -> pd.DataFrame:
        """Systems by metrics, each cell like ``0.106 [0.091, 0.122]``."""
        return _words(self.values, ["value", "low", "high"], "{:.3f} [{:.3f}, {:.3f}]")

    @property
    def verdicts(self) -> pd.DataFrame:
        """Systems by metrics, each cell like ``+0.056 [0.043, 0.070] better``, against the baseline."""
        return _words(self.differences, ["difference", "low", "high", "verdict"], "{:+.3f} [{:.3f}, {:.3f}] {}")

    def __repr__(self) -> str:
        tables = [self.table] if self.differences.empty else [self.table, self.verdicts]
        return "\n\n".join([self.note, *(table.T.to_string() for table in tables)])

    def _repr_html_(self) -> str:
        tables = [self.table] if self.differences.empty else [self.table, self.verdicts]
        return "".join([f"<p>{html.escape(self.note)}</p>", *(table.T.to_html() for table in tables)])


def scorecard(
    systems: dict[str, np.ndarray | pd.DataFrame],
    relevant: sparse.csr_array | pd.DataFrame,
    *,
    k: int = 10,
    users=None,
    items=None,
    popularity: np.ndarray | None = None,
    features: np.ndarray | sparse.csr_array | None = None,
    baseline: str | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Scorecard:
    """Compare systems by what they showed to the same users.

    Accuracy is NDCG, recall and hit rate at k; diversity is the intra-list distance; then novelty, coverage
    of the catalogue, and concentration (Gini). A system is called better where the paired interval excludes
    zero and Holm's correction keeps the difference. Better means higher, for Gini lower: whether more novelty
    or diversity is wanted is for the reader to say.

    Parameters
    ----------
    systems : name -> lists ``(n_users, k or more)`` of item indices (-1 = no item), or a table with
        ``user_id, item_id`` and ``rank`` or ``score``, as any library can write it. A user without a list
        counts with an empty one.
    relevant : ``(n_users, n_items)`` non-zero = relevant, or a table ``user_id, item_id``.
    k : length of the lists compared.
    users, items : ids in the order of relevant's rows and columns; needed where a table is given.
    popularity : ``(n_items,)`` training interactions of each item; without it novelty is left out.
    features : ``(n_items, n_features)`` for diversity, best not those used for ranking; without it, left out.
    baseline : the system that the others are compared with; the first one if None.
    n_bootstrap, seed, level : as `reclab.metrics.bootstrap_interval`.

    Raises
    ------
    ReclabError : no systems, or k below 1.
    UnknownNameError : the baseline is none of the systems.
    SchemaError : a table or an array that does not fit; names the system.

    Taught in: 08_multidimensional_evaluation.
    """
    if not systems or k < 1:
        raise ReclabError(f"a scorecard needs a system and k of 1 or more, got {len(systems)} and k = {k}")
    baseline = next(iter(systems)) if baseline is None else baseline
    if baseline not in systems:
        raise UnknownNameError("system", baseline, systems)
    if isinstance(relevant, pd.DataFrame):
        _need_ids(users, items)
        relevant = interaction_matrix(relevant, users, items)
    options = {"n": n_bootstrap, "seed": seed, "level": level}
    lists, measured = {}, {}
    for name, given in systems.items():
        try:
            lists[name] = _lists(given, users, items, k)
            measured[name] = _measure(lists[name], relevant, popularity, features)
        except SchemaError as error:
            raise SchemaError(f"system {name!r}: {error}") from None
    values = [_value_row(n, m, v, options) for n, found in measured.items() for m, v in found.items()]
    note = _note(lists, relevant, baseline, level)
    return Scorecard(pd.DataFrame(values), _differences(measured, baseline, options), note)


def _lists(given, users, items, k: int) -> np.ndarray:
    if isinstance(given, pd.DataFrame):
        _need_ids(users, items)
        return lists_from_table(given, users, items, k)
    given = np.asarray(given)
    if given.ndim != 2 or given.shape[1] < k:
        raise SchemaError(f"lists must have the shape (n_users, {k} or more), got {given.shape}")
    return given[:, :k]


def _need_ids(users, items) -> None:
    if users is None or items is None:
        raise SchemaError("a table names ids: give users= and items=, the ids of relevant's rows and columns")


def _measure(lists, relevant, popularity, features) -> dict[str, np.ndarray]:
    """Each metric's values per user; the mean over users is the metric."""
    k, n_items = lists.shape[1], relevant.shape[1]
    found = {
        f"NDCG@{k}": metrics.ndcg_at_k(lists, relevant),
        f"recall@{k}": metrics.recall_at_k(lists, relevant),
        f"hit@{k}": metrics.hit_at_k(lists, relevant),
    }
    if features is not None:
        found["intra-list distance"] = metrics.intra_list_distance(lists, features)
    if popularity is not None:
        found["novelty (bits)"] = metrics.novelty(lists, popularity)
    return found | {"coverage": coverage_values(lists, n_items), "Gini": gini_values(lists, n_items)}


def coverage_values(lists: np.ndarray, n_items: int) -> np.ndarray:
    """Values per user whose mean is the coverage and whose spread gives its interval over users.

    Resampling users would show fewer different items than there are, so the bootstrap of coverage itself is
    biased. These are jackknife values: what is lost without a user are the items that nobody else is shown.
    Their spread is, if anything, too wide.

    Source: Efron and Stein, Annals of Statistics 1981, doi 10.1214/aos/1176345462.
    Taught in: 08_multidimensional_evaluation.
    """
    alone = metrics.exposure(lists, n_items) == 1
    value = metrics.coverage(lists, n_items)
    return _jackknife(value, value - _sum_over_list(lists, alone) / n_items)


def gini_values(lists: np.ndarray, n_items: int) -> np.ndarray:
    """Values per user whose mean is the Gini index and whose spread gives its interval, as `coverage_values`.

    The index without a user has a closed form: with items sorted by exposure, it hangs on the sum of place
    times exposure, and an item that loses one showing moves to the first place among its equals.

    Taught in: 08_multidimensional_evaluation.
    """
    shown, value = metrics.exposure(lists, n_items), metrics.gini(lists, n_items)
    total, places = shown.sum(), np.arange(1, n_items + 1) @ np.sort(shown)
    lost = _sum_over_list(lists, stats.rankdata(shown, method="min"))
    exposures = np.where(lists >= 0, shown[lists], -1)
    for step in range(1, lists.shape[1]):  # the second of two equals finds the first place taken
        equal = exposures[:, step:] == exposures[:, :-step]
        lost += (equal & (exposures[:, step:] >= 0)).sum(axis=1)
    left = total - (lists >= 0).sum(axis=1)
    ratio = np.divide(places - lost, left, out=np.full(len(lists), places / total), where=left > 0)
    return _jackknife(value, 2 * ratio / n_items - (n_items + 1) / n_items)


def _jackknife(value: float, without: np.ndarray) -> np.ndarray:
    """Pseudo-values around the measured value, from the values without each user."""
    return value + (len(without) - 1) * (without.mean() - without)


def _sum_over_list(lists, per_item) -> np.ndarray:
    return np.where(lists >= 0, per_item[lists], 0).sum(axis=1)


def _value_row(system: str, metric: str, values: np.ndarray, options: dict) -> dict:
    interval = metrics.bootstrap_interval(values, **options)
    return {"system": system, "metric": metric} | interval._asdict() | {"n_users": int(np.isfinite(values).sum())}


def _differences(measured: dict, baseline: str, options: dict) -> pd.DataFrame:
    rows = []
    for system, found in measured.items():
        for metric, values in found.items() if system != baseline else ():
            difference = values - measured[baseline][metric]
            value, low, high = metrics.bootstrap_interval(difference, **options)
            row = {"system": system, "metric": metric, "difference": value, "low": low, "high": high}
            rows.append(row | {"p_value": _p_value(difference)})
    table = pd.DataFrame(rows, columns=["system", "metric", "difference", "low", "high", "p_value"])
    table["p_holm"] = metrics.holm(table["p_value"].to_numpy())
    table["verdict"] = [_verdict(row, 1 - options["level"]) for row in table.itertuples()]
    return table


def _p_value(difference: np.ndarray) -> float:
    difference = difference[~np.isnan(difference)]
    if np.ptp(difference) == 0:  # the t-test divides by the spread
        return float(difference[0] == 0)
    return float(stats.ttest_1samp(difference, 0).pvalue)


def _verdict(row, alpha: float) -> str:
    if row.low <= 0 <= row.high or row.p_holm >= alpha:
        return UNCLEAR
    return BETTER if (row.difference > 0) != (row.metric in LOWER_IS_BETTER) else WORSE


def _words(rows: pd.DataFrame, columns: list[str], form: str) -> pd.DataFrame:
    cells = [form.format(*row) for row in rows[columns].itertuples(index=False)]
    index = [rows["system"], rows["metric"]]
    table = pd.Series(cells, index=index, dtype=object).unstack()
    return table.loc[rows["system"].unique(), rows["metric"].unique()].rename_axis(index=None, columns=None)


def _note(lists: dict, relevant, baseline: str, level: float) -> str:
    (n_users, n_items), k = relevant.shape, lists[baseline].shape[1]
    judged = np.isfinite(metrics.hit_at_k(lists[baseline], relevant)).sum()
    empty = {name: int((array < 0).all(axis=1).sum()) for name, array in lists.items()}
    missing = "".join(f"; {name} has no list for {count} users" for name, count in empty.items() if count)
    return (
        f"lists of {k} for {n_users:,} users ({judged:,} have relevant items) from {n_items:,} items; "
        f"{level:.0%} intervals over users; "
        f"differences are paired, against {baseline}, verdicts corrected for all tests (Holm){missing}"
    )
