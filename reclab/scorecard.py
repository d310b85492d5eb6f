"""Systems side by side along many dimensions, with intervals over users and verdicts that a test backs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from . import metrics
from .cards import Scorecard as Scorecard
from .dimensions import Evidence as Evidence
from .dimensions import measure
from .errors import ReclabError, SchemaError, UnknownNameError
from .jackknife import difference_values
from .metrics import bootstrap_table

BETTER, WORSE, _HIGHER, _LOWER, UNCLEAR = "better", "worse", "higher", "lower", "no clear difference"
_LOWER_IS_BETTER = ("Gini", "miscalibration", "provider gap", "calibration error")
_FOR_THE_READER = ("novelty (bits)", "popularity lift", "overlap with popularity", "intra-list distance")
_FEW = 20  # users with a value below which a group gets no row
_LEAP, _FAR = 1.5, 3  # times the accuracy of every other system, and of popularity, that looks like a leak
_UNSTEADY, _CROWD = 0.5, 0.5  # Jaccard overlap of runs below which, and with popularity above which, there is an alarm


def scorecard(
    systems: dict,
    data: Evidence,
    *,
    k: int = 10,
    baseline: str | None = None,
    measured: Mapping[str, Mapping[str, float | np.ndarray]] | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Scorecard:
    """Compare systems by what they showed to the same users.

    A system is called better where the paired interval excludes zero and Holm's correction keeps the difference. Where
    more is not simply better (novelty, diversity, popularity) the verdict says higher or lower.

    Parameters
    ----------
    systems : name -> lists ``(n_users, k or more)`` of item indices (-1 = no item); or a table with user, item and rank
        or score, as any library writes it (see `reclab.tables.with_our_names`); or a list of several runs of a
        system, of which the first is measured and all are compared for stability. A table may also have ``clicked``,
        ``probability`` and ``explanation``. A user without a list counts with an empty one.
    data : the evidence; what it lacks is left out of the card. A bare matrix of held-out likes will do.
    k : length of the lists compared.
    baseline : the system that the others are compared with; the first one if None.
    measured : metric -> system -> what was measured elsewhere: seconds, memory, robustness, privacy. One number, which
        gets no interval and no verdict, or ``(n_users,)`` values.
    n_bootstrap, seed, level : as `reclab.metrics.bootstrap_interval`.

    Raises ReclabError: no systems, or k below 1.
    Raises UnknownNameError: the baseline, or a system of ``measured``, is none of the systems.
    Raises SchemaError: a table or an array that does not fit; names the system.
    """
    if not systems or k < 1:
        raise ReclabError(f"a scorecard needs a system and k of 1 or more, got {len(systems)} and k = {k}")
    data = data if isinstance(data, Evidence) else Evidence(data)
    baseline = next(iter(systems)) if baseline is None else baseline
    expected = None if data.train is None else data.most_popular(k)
    both = {name: _named(name, measure, given, data, k, expected) for name, given in systems.items()}
    found, lists = (
        {name: values for name, (_, values) in both.items()},
        {name: shown for name, (shown, _) in both.items()},
    )
    for metric, values in (measured or {}).items():
        for system, value in values.items():
            _known(system, systems)
            n_users = data.relevant.shape[0]
            found[system][metric] = _named(system, _per_user, value, n_users, metric)
    _known(baseline, systems)
    options = {"n": n_bootstrap, "seed": seed, "level": level}
    differences = _differences(found, baseline, options)
    slices = _slices({name: values[f"NDCG@{k}"] for name, values in found.items()}, data.groups, options)
    values = _values(found, options)
    note = _note(lists, data, baseline, level)
    popular = None if expected is None else metrics.ndcg_at_k(expected, data.relevant)
    alarms = _alarms(found, slices, f"NDCG@{k}", popular, options)
    return Scorecard(values, differences, slices, note, alarms)


def _named(name: str, work, *arguments):
    try:
        return work(*arguments)
    except SchemaError as error:
        raise SchemaError(f"system {name!r}: {error}") from None


def _known(name: str, systems) -> None:
    if name not in systems:
        raise UnknownNameError("system", name, systems)


def _per_user(value, n_users: int, metric: str) -> np.ndarray | float:
    values = np.asarray(value, dtype=float)
    if (values.ndim and values.shape != (n_users,)) or np.isinf(values).any():
        raise SchemaError(f"{metric} must be one number, or finite numbers for {n_users} users, got {values.shape}")
    return values if values.ndim else float(values)


def _values(found: dict, options: dict) -> pd.DataFrame:
    keys = [(system, metric) for system, values in found.items() for metric in values]
    columns = [found[system][metric] for system, metric in keys]
    rows = pd.DataFrame(keys, columns=["system", "metric"])
    rows[["value", "low", "high"]] = _intervals(columns, options).T
    rows["n_users"] = [0 if np.ndim(column) == 0 else int(np.isfinite(column).sum()) for column in columns]
    return rows


def _intervals(columns: list, options: dict) -> np.ndarray:
    """Value, low and high of each column, ``(3, n_columns)``; one number, or one user, has no interval."""
    found = np.full((3, len(columns)), np.nan)
    found[0] = [
        column if np.ndim(column) == 0 else np.nanmean(column) if np.isfinite(column).any() else np.nan
        for column in columns
    ]
    many = [n for n, column in enumerate(columns) if np.ndim(column) and np.isfinite(column).sum() >= 2]
    if many:
        found[:, many] = bootstrap_table(np.stack([columns[n] for n in many], axis=1), **options)
    return found


def _differences(found: dict, baseline: str, options: dict) -> pd.DataFrame:
    names = ["system", "metric", "difference", "low", "high", "p_value", "p_holm", "verdict"]
    base = found[baseline]
    keys = [(s, m) for s, values in found.items() if s != baseline for m in values if _paired(values[m], base.get(m))]
    if not keys:
        return pd.DataFrame(columns=names)
    columns = [found[system][metric] - base[metric] for system, metric in keys]
    rows = pd.DataFrame(keys, columns=names[:2])
    rows[["difference", "low", "high"]] = _intervals(columns, options).T
    rows["p_value"] = [_p_value(column) for column in columns]
    rows["p_holm"] = metrics.holm(rows["p_value"].to_numpy())
    rows["verdict"] = [_verdict(*row, 1 - options["level"]) for row in rows[["metric", *names[2:5], "p_holm"]].values]
    return rows


def _paired(a, b) -> bool:
    return bool(np.ndim(a) and np.ndim(b) and np.isfinite(a - b).sum() >= 2)


def _slices(found: dict, groups: dict, options: dict) -> pd.DataFrame:
    rows, own, gaps, p_values = [], [], [], []
    for system, values in found.items():
        for profile, labels in groups.items():
            for group in sorted({label for label in labels if not pd.isna(label)}, key=str):
                mask = labels == group
                n_users, others = (int(np.isfinite(values[kept]).sum()) for kept in (mask, ~mask))
                if min(n_users, others) >= _FEW:
                    rows.append((system, profile, str(group), n_users))
                    own.append(np.where(mask, values, np.nan))
                    gaps.append(difference_values(values, mask))
                    p_values.append(_group_p_value(values, mask))
    table = pd.DataFrame(rows, columns=["system", "profile", "group", "n_users"])
    table[["value", "low", "high"]] = _intervals(own, options).T
    table[["gap", "gap_low", "gap_high"]] = _intervals(gaps, options).T
    table["p_holm"] = metrics.holm(np.array(p_values))
    columns = ["gap", "gap_low", "gap_high", "p_holm"]
    table["verdict"] = [_verdict("NDCG", *row, 1 - options["level"]) for row in table[columns].to_numpy()]
    return table


def _group_p_value(values: np.ndarray, mask: np.ndarray) -> float:
    """Student's t-test with the spread of all users: a small group without any hit has none of its own."""
    a, b = (values[kept & np.isfinite(values)] for kept in (mask, ~mask))
    freedom, difference = len(a) + len(b) - 2, abs(a.mean() - b.mean())
    error = np.sqrt((a.var() * len(a) + b.var() * len(b)) / freedom * (1 / len(a) + 1 / len(b)))
    if error < 1e-12:
        return float(difference < 1e-12)
    return float(2 * stats.t.sf(difference / error, freedom))


def _p_value(difference: np.ndarray) -> float:
    difference = difference[~np.isnan(difference)]
    if np.ptp(difference) < 1e-12:  # the t-test divides by the spread
        return float(abs(difference[0]) < 1e-12)
    return float(stats.ttest_1samp(difference, 0).pvalue)


def _verdict(metric: str, difference: float, low: float, high: float, p_holm: float, alpha: float) -> str:
    if low <= 0 <= high or p_holm >= alpha:
        return UNCLEAR
    if metric in _FOR_THE_READER:
        return _HIGHER if difference > 0 else _LOWER
    return BETTER if (difference > 0) != (metric in _LOWER_IS_BETTER) else WORSE


def _alarms(found: dict, slices: pd.DataFrame, accuracy: str, popular: np.ndarray | None, options) -> tuple[str, ...]:
    """What looks like a leak, a copy of popularity, a system that serves a group worse, or chance."""
    alarms, unfair = [], slices[(slices["verdict"] == WORSE) & (slices["profile"] != "activity")]
    for name, values in found.items():
        others = [other[accuracy] for system, other in found.items() if system != name]
        rivals = [_LEAP * other for other in others] + ([] if popular is None else [_FAR * popular])
        if popular is not None and all(_surely(values[accuracy] - rival, 0, options) for rival in rivals):
            alarms.append(f"{name}: {accuracy} is far above all others and above popularity; has it seen the test set?")
        if "overlap with popularity" in values and _surely(values["overlap with popularity"], _CROWD, options):
            alarms.append(f"{name}: most of what it shows is what is popular")
        if "stability" in values and _surely(-values["stability"], -_UNSTEADY, options):
            alarms.append(f"{name}: its runs share less than half of their items")
        groups = [f"{row.profile} {row.group}" for row in unfair[unfair["system"] == name].itertuples()]
        if groups:
            alarms.append(f"{name}: serves some worse than all others: {', '.join(groups)}")
    return tuple(alarms)


def _surely(values: np.ndarray, bar: float, options: dict) -> bool:
    return bool(_intervals([values], options)[1, 0] > bar)


def _note(lists: dict, data: Evidence, baseline: str, level: float) -> str:
    (n_users, n_items), k = data.relevant.shape, lists[baseline].shape[1]
    judged = int((data.relevant.sum(axis=1) > 0).sum())
    empty = {name: int((array < 0).all(axis=1).sum()) for name, array in lists.items()}
    missing = "".join(f"; {name} has no list for {count} users" for name, count in empty.items() if count)
    return (
        f"lists of {k} for {n_users:,} users ({judged:,} have relevant items) from {n_items:,} items; "
        f"{level:.0%} intervals over users; "
        f"differences are paired, against {baseline}, verdicts corrected for all tests (Holm){missing}"
    )
