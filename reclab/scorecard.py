"""Systems side by side along many dimensions, with intervals over users and tested verdicts."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, cycle
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse, stats

from . import metrics, plots
from .errors import ReclabError, SchemaError, UnknownNameError
from .rank import interaction_matrix, lists_from_table, numbers, positions, top_k, with_our_names
from .results import write_atomically

BETTER, WORSE, UNCLEAR = "better", "worse", "no clear difference"
_LOWER_IS_BETTER = ("Gini", "miscalibration", "provider gap", "calibration error")
_HIGHER_OR_LOWER = {  # more of these is not simply better
    "novelty (bits)",
    "popularity lift",
    "overlap with popularity",
    "intra-list distance",
}
_SHARES = ("coverage", "Gini", "provider gap", "calibration error")  # neither below 0 nor above 1
_TAIL = 20  # training likes below which an item counts as tail
_BINS = 10  # of probabilities, for the calibration error
_PARTS = 100  # of the users, each left out once by the jackknife
_SMALLEST_GROUP = 20  # users with a value; a smaller group gets no row, and so few users no alarm
_OVER_OTHERS, _OVER_POPULARITY = 1.5, 3  # times their accuracy: more than both looks like a leak
_MOSTLY_POPULAR = 0.5  # overlap with popularity above which there is an alarm
_STEADY = 0.5  # overlap of a system's runs below which there is an alarm


@dataclass
class Evidence:
    """What systems are held against: held-out likes, and whatever else is known of users and items.

    Attributes
    ----------
    relevant : ``(n_users, n_items)`` non-zero = liked, held out; or a table ``user_id, item_id``.
    users, items : ids in the order of rows and columns; needed where a table is given.
    train : likes that systems learnt from, as a matrix or a table: for novelty, calibration,
        serendipity, popularity, and slices by activity and by warm, tail and cold items.
    rated : what was not to be recommended, as a matrix or a table; ``train`` if None.
    features : ``(n_items, n_genres)``, best not those used for ranking: for diversity, calibration.
    providers : ``(n_items,)`` who made or sells each item: for the fairness of exposure.
    profile : name -> ``(n_users,)`` group of each user, None or NaN = unknown: for fairness.
    texts : ``(n_items,)`` what is known of each item: for explanations.
    """

    relevant: sparse.csr_array | pd.DataFrame
    users: object = None
    items: object = None
    train: sparse.csr_array | pd.DataFrame | None = None
    rated: sparse.csr_array | pd.DataFrame | None = None
    features: np.ndarray | sparse.csr_array | None = None
    providers: object = None
    profile: dict = field(default_factory=dict)
    texts: object = None

    def __post_init__(self):
        for name in ("relevant", "train", "rated"):
            given = getattr(self, name)
            if isinstance(given, pd.DataFrame):
                if name != "rated" and "positive" in given and not given["positive"].all():
                    remedy = f"so no likes: give {name}[{name}['positive']]"
                    raise SchemaError(f"{name} holds rows that are not positive, {remedy}")
                given = interaction_matrix(given, *self.ids)
            if given is not None:
                setattr(self, name, metrics.binary(given, name))
        shape = n_users, n_items = self.relevant.shape
        for name in ("train", "rated"):
            matrix = getattr(self, name)
            if matrix is not None and matrix.shape != shape:
                raise SchemaError(f"{name} has the shape {matrix.shape}, relevant {shape}")
        sizes = {f"profile {name!r}": (groups, n_users) for name, groups in self.profile.items()}
        for name in ("features", "providers", "texts"):
            sizes[name] = getattr(self, name), n_items
        for name, (values, size) in sizes.items():
            if values is not None and (n := np.shape(values)[0]) != size:
                raise SchemaError(f"{name} has {n} values, one for each of {size} is needed")
        if self.rated is not None and (n := self.rated.multiply(self.relevant).nnz):
            remedy = "which no system may show then: take them out of rated"
            raise SchemaError(f"rated holds {n} held-out likes, {remedy}")
        self.rated = self.train if self.rated is None else self.rated

    @property
    def ids(self) -> tuple:
        """The users and items, once both are given; a table cannot be read without."""
        if self.users is None or self.items is None:
            needed = "give users= and items=, the ids of relevant's rows and columns"
            raise SchemaError(f"a table names ids: {needed}")
        return self.users, self.items

    @cached_property
    def popularity(self) -> np.ndarray:
        """Training likes of each item."""
        return self.train.sum(axis=0)

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """The profile's groups of users, and thirds by how much they liked in training."""
        groups = {name: np.asarray(values, dtype=object) for name, values in self.profile.items()}
        if self.train is None:
            return groups
        likes = self.train.sum(axis=1)
        judged = likes[self.relevant.sum(axis=1) > 0]
        low, high = np.quantile(judged, [1 / 3, 2 / 3]) if len(judged) else (0, 0)
        thirds = np.where(likes <= low, "few", np.where(likes > high, "many", "middle"))
        return groups | {"activity": thirds}

    def most_popular(self, k: int) -> np.ndarray:
        """What popularity alone would show each user: lists ``(n_users, k)``."""
        scores = np.broadcast_to(self.popularity, self.train.shape)
        return top_k(scores, min(k, scores.shape[1]), exclude=self.rated)


# Each dimension of one system


def measure(given, evidence: Evidence, k: int, expected=None) -> tuple[np.ndarray, dict]:
    """A system's lists ``(n_users, k)``, and metric -> values per user, whose mean is the metric.

    ``given`` is lists or a table, or several runs, of which the first is measured; ``expected`` is
    `Evidence.most_popular`, where training likes are known.
    """
    given = given if isinstance(given, (list, tuple)) else [given]
    if not given:
        raise SchemaError("a system of several runs needs at least one")
    runs = [_lists(run, evidence, k) for run in given]
    lists = runs[0]
    accuracy = metrics.accuracy_at_k(lists, evidence.relevant, expected)
    found = {f"{name}@{k}": values for name, values in accuracy.items()}
    if evidence.features is not None and k > 1:
        found["intra-list distance"] = metrics.intra_list_distance(lists, evidence.features)
    if evidence.train is not None:
        found |= _against_training(lists, evidence, k, expected)
    shown = metrics.shown_matrix(lists, evidence.relevant.shape[1])
    found["coverage"] = jackknife(lambda exposure: (exposure > 0).mean(), shown)
    found["Gini"] = jackknife(metrics.gini, shown)
    if evidence.providers is not None:
        found["provider gap"] = _provider_gap(shown, evidence.providers)
    if len(runs) > 1:
        overlaps = [metrics.overlap_at_k(*two) for two in combinations(runs, 2)]
        found["stability"] = np.mean(overlaps, axis=0)
    if isinstance(given[0], pd.DataFrame):
        found |= _from_columns(with_our_names(given[0]), evidence)
    return lists, found


def _lists(given, evidence: Evidence, k: int) -> np.ndarray:
    if isinstance(given, pd.DataFrame):
        return lists_from_table(given, *evidence.ids, k)
    given = np.asarray(given)
    if given.ndim != 2 or given.shape[1] < k:
        raise SchemaError(f"lists must have the shape (n_users, {k} or more), got {given.shape}")
    return given[:, :k]


def _against_training(lists, evidence: Evidence, k: int, expected) -> dict[str, np.ndarray]:
    counts = evidence.popularity
    found = {
        "novelty (bits)": metrics.novelty(lists, counts),
        "popularity lift": metrics.popularity_lift(lists, evidence.train, counts),
        "overlap with popularity": metrics.overlap_at_k(lists, expected),
    }
    if evidence.features is not None:
        genres = evidence.features
        found["miscalibration"] = metrics.miscalibration(lists, evidence.train, genres)
    slices = {"cold": counts == 0, "tail": (counts > 0) & (counts < _TAIL), "warm": counts >= _TAIL}
    for name, kept in slices.items():
        wanted = evidence.relevant.multiply(kept[None, :]).tocsr()
        if (wanted.sum(axis=1) > 0).sum() >= 2:
            found[f"recall@{k}, {name} items"] = metrics.accuracy_at_k(lists, wanted)["recall"]
    return found


def jackknife(statistic: Callable[[np.ndarray], float], sums) -> np.ndarray:
    """Values per user of a statistic of totals, with its mean and its standard error.

    The delete-a-group jackknife: users fall at random into 100 parts, the same for every system, or
    into parts of one; a value tells what the statistic would be without the user's part. (Users
    drawn with replacement show fewer different items.) Where most items are shown, the error of
    coverage comes out too large. ``statistic`` is called with totals ``(n,)`` over users; ``sums``
    is what each user adds to them, ``(n_users, n)`` dense or sparse.
    Source: Kott, Journal of Official Statistics 2001, volume 17, pages 521-526; parts of unequal
    size: Busing et al., Statistics and Computing 1999, doi 10.1023/A:1008800423698.
    """
    n_users = sums.shape[0]
    part = np.random.default_rng(0).permutation(n_users) % _PARTS
    sizes = np.bincount(part)
    members = sparse.csr_array((np.ones(n_users), (part, np.arange(n_users))))
    of_parts = (members @ sparse.csr_array(sums)).toarray()
    total = of_parts.sum(axis=0)
    value = statistic(total)
    without = [statistic(rest) if rest.any() else value for rest in total - of_parts]
    change = np.sqrt(sizes) * (n_users / sizes - 1) * (np.mean(without) - without)
    return value + change[part] - change[part].mean()


def _provider_gap(shown: sparse.csr_array, providers) -> np.ndarray:
    """Share of exposure that would have to move for each provider to get its catalogue share."""
    codes = pd.factorize(np.asarray(providers, dtype=object), use_na_sentinel=False)[0]
    made_by = sparse.csr_array((np.ones(len(codes)), (np.arange(len(codes)), codes)))
    target = np.bincount(codes) / len(codes)

    def gap(exposure):
        return np.abs(exposure / (exposure.sum() or np.nan) - target).sum() / 2

    return jackknife(gap, shown @ made_by)


def _from_columns(table: pd.DataFrame, evidence: Evidence) -> dict[str, np.ndarray]:
    """What further columns of a table say: clicks, probabilities and explanations."""
    found, n_users = {}, len(evidence.users)
    users = positions(table, "user_id", evidence.users)
    items = positions(table, "item_id", evidence.items)
    rows = np.bincount(users, minlength=n_users)
    if "clicked" in table:
        clicks = np.bincount(users, numbers(table, "clicked", 0, 1), n_users)
        found["click-through"] = clicks / np.where(rows, rows, np.nan)
    if "probability" in table:
        p, sums = numbers(table, "probability", 0, 1), np.zeros((n_users, _BINS + 1))
        gaps = p - evidence.relevant[users, items]
        np.add.at(sums, (users, metrics.probability_bins(p, _BINS)), gaps)
        sums[:, -1] = rows
        found["calibration error"] = jackknife(_calibration_error, sums)
    if "explanation" in table and evidence.texts is not None:
        texts = np.asarray(evidence.texts, dtype=object)[items]
        shares = [_supported(*pair) for pair in zip(table["explanation"], texts, strict=True)]
        means = pd.Series(shares).groupby(users).mean()
        found["explained by the text"] = means.reindex(range(n_users)).to_numpy()
    return found


def _calibration_error(total: np.ndarray) -> float:
    """From totals: predicted less observed likes in each bin; the number of rows comes last."""
    return np.abs(total[:-1]).sum() / (total[-1] or np.nan)


def _supported(explanation, text) -> float:
    """Share of an explanation's facts, parted by commas or semicolons, that stand in the text."""
    facts = str(explanation).casefold().replace(";", ",").split(",")
    facts = [fact.strip() for fact in facts if fact.strip()]
    return float(np.mean([fact in str(text).casefold() for fact in facts])) if facts else np.nan


# Systems compared


def scorecard(
    systems: dict,
    data: Evidence,
    *,
    k: int = 10,
    baseline: str | None = None,
    measured: Mapping[str, Mapping[str, float | np.ndarray]] | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Scorecard:
    """Compare systems by what they showed to the same users.

    A system is called better where the paired interval excludes zero and Holm's correction keeps
    the difference. Where more is not simply better (novelty, diversity, popularity), the verdict
    says higher or lower. Errors name the system that does not fit.

    Parameters
    ----------
    systems : name -> lists ``(n_users, k or more)`` of item indices (-1 = no item); or a table with
        user, item and rank or score, as any library writes it; or a list of several runs, of which
        the first is measured and all are compared for stability. A table may also have ``clicked``,
        ``probability`` and ``explanation``. A user without a list counts with an empty one.
    data : the evidence, or a bare matrix of held-out likes; what it lacks is left out of the card.
    baseline : the system that the others are compared with; the first one if None.
    measured : metric -> system -> what was measured elsewhere, such as seconds or robustness: one
        number, which gets no interval and no verdict, or ``(n_users,)`` values.
    n_bootstrap, seed : of the 95% intervals over users.
    """
    if not systems or k < 1:
        got = f"{len(systems)} and k = {k}"
        raise ReclabError(f"a scorecard needs a system and k of 1 or more, got {got}")
    data = data if isinstance(data, Evidence) else Evidence(data)
    baseline = next(iter(systems)) if baseline is None else baseline
    for name in [baseline, *(name for values in (measured or {}).values() for name in values)]:
        if name not in systems:
            raise UnknownNameError("system", name, systems)
    expected = None if data.train is None else data.most_popular(k)
    lists, found = {}, {}
    for name, given in systems.items():
        try:
            lists[name], found[name] = measure(given, data, k, expected)
            for metric, values in (measured or {}).items():
                if name in values:
                    found[name][metric] = _per_user(values[name], len(lists[name]), metric)
        except SchemaError as error:
            raise SchemaError(f"system {name!r}: {error}") from None
    options = {"n": n_bootstrap, "seed": seed}
    values, differences = _values(found, options), _differences(found, baseline, options)
    slices = _slices({name: of[f"NDCG@{k}"] for name, of in found.items()}, data.groups, options)
    alarms = _alarms(lists, found, slices, data, k, expected, options)
    return Scorecard(values, differences, slices, _note(lists, data, baseline), tuple(alarms))


def _per_user(value, n_users: int, metric: str) -> np.ndarray:
    """One number becomes the value of one user, so that it has neither an interval nor a pair."""
    values = np.asarray(value, dtype=float)
    if values.shape not in ((), (n_users,)) or np.isinf(values).any():
        needed = f"one number, or finite numbers for {n_users} users, got {values.shape}"
        raise SchemaError(f"{metric} must be {needed}")
    return values if values.ndim else np.append(values, np.full(n_users - 1, np.nan))


def _intervals(columns: list[np.ndarray], options: dict) -> np.ndarray:
    """Value, low and high of each column, ``(n_columns, 3)``."""
    if not columns:
        return np.empty((0, 3))
    return metrics.bootstrap_table(np.stack(columns, axis=1), **options).T


def _values(found: dict, options: dict) -> pd.DataFrame:
    keys = [(system, metric) for system, values in found.items() for metric in values]
    columns = [found[system][metric] for system, metric in keys]
    table = pd.DataFrame(keys, columns=["system", "metric"])
    table[["value", "low", "high"]] = _intervals(columns, options)
    shares = table["metric"].isin(_SHARES)
    table.loc[shares, ["low", "high"]] = table.loc[shares, ["low", "high"]].clip(0, 1)
    table["n_users"] = np.isfinite(columns).sum(axis=1)
    return table


def _differences(found: dict, baseline: str, options: dict) -> pd.DataFrame:
    keys, columns = [], []
    for system, values in found.items():
        for metric in values if system != baseline else []:
            gap = values[metric] - found[baseline].get(metric, np.nan)
            if np.isfinite(gap).sum() >= 2:
                keys.append((system, metric))
                columns.append(gap)
    table = pd.DataFrame(keys, columns=["system", "metric"])
    table[["difference", "low", "high"]] = _intervals(columns, options)
    p_values = [_p_value(column[np.isfinite(column)]) for column in columns]
    table["p_value"] = np.array(p_values, dtype=float)
    table["p_holm"] = metrics.holm(table["p_value"].to_numpy())
    tests = table[["metric", "difference", "low", "high", "p_holm"]].itertuples(index=False)
    table["verdict"] = [_verdict(*test) for test in tests]
    return table


def _slices(ndcg: dict, groups: dict, options: dict) -> pd.DataFrame:
    rows, own, gaps, p_values = [], [], [], []
    for system, values in ndcg.items():
        judged = np.isfinite(values)
        for profile, labels in groups.items():
            for group in sorted({label for label in labels if not pd.isna(label)}, key=str):
                mask = labels == group
                inside, outside = values[judged & mask], values[judged & ~mask]
                if min(len(inside), len(outside)) >= _SMALLEST_GROUP:
                    rows.append((system, profile, str(group), len(inside)))
                    own.append(np.where(mask, values, np.nan))
                    gaps.append(_gap_values(values, mask, inside, outside))
                    p_values.append(_p_value(inside, outside))
    table = pd.DataFrame(rows, columns=["system", "profile", "group", "n_users"])
    table[["value", "low", "high"]] = _intervals(own, options)
    table[["gap", "gap_low", "gap_high"]] = _intervals(gaps, options)
    table["p_holm"] = metrics.holm(np.array(p_values))
    tests = table[["gap", "gap_low", "gap_high", "p_holm"]].itertuples(index=False)
    table["verdict"] = [_verdict("NDCG", *test) for test in tests]
    return table


def _gap_values(values: np.ndarray, mask: np.ndarray, inside, outside) -> np.ndarray:
    """Values per user with the mean and the standard error of the difference of two means."""
    a, b = inside.mean(), outside.mean()
    spread = np.where(mask, (values - a) / len(inside), (b - values) / len(outside))
    return a - b + (len(inside) + len(outside)) * spread


def _p_value(a: np.ndarray, b: np.ndarray | None = None) -> float:
    """Student's t-test of the mean of a against 0, or against b's with pooled spreads.

    Pooled, since a small group without any hit has no spread of its own.
    """
    others = np.zeros(1) if b is None else b
    if max(np.ptp(a), np.ptp(others)) < 1e-12:  # the test divides by the spread
        return float(abs(a[0] - others[0]) < 1e-12)
    test = stats.ttest_1samp(a, 0) if b is None else stats.ttest_ind(a, b)
    return float(test.pvalue)


def _verdict(metric: str, difference, low, high, p_holm) -> str:
    if not (low > 0 or high < 0) or not p_holm < 0.05:  # NaN is unclear, too
        return UNCLEAR
    if metric in _HIGHER_OR_LOWER:
        return "higher" if difference > 0 else "lower"
    return BETTER if (difference > 0) != (metric in _LOWER_IS_BETTER) else WORSE


def _alarms(lists, found, slices, data: Evidence, k: int, expected, options: dict) -> list[str]:
    """What looks like a leak, a copy of popularity, chance, or a group that is served worse."""

    def surely_above(values, bar: float) -> bool:
        return bool(_intervals([values], options)[0, 1] > bar)

    judged = int((data.relevant.sum(axis=1) > 0).sum())
    if judged < _SMALLEST_GROUP:
        return [f"only {judged} users have relevant items: too few for a verdict or an alarm"]
    alarms, ndcg = [], f"NDCG@{k}"
    unfair = slices[(slices["verdict"] == WORSE) & (slices["profile"] != "activity")]
    popular = None if expected is None else metrics.ndcg_at_k(expected, data.relevant)
    for name, values in found.items():
        if popular is not None:
            rivals = [_OVER_OTHERS * of[ndcg] for other, of in found.items() if other != name]
            rivals.append(_OVER_POPULARITY * popular)
            if all(surely_above(values[ndcg] - rival, 0) for rival in rivals):
                far = f"{ndcg} is far above all others and above popularity"
                alarms.append(f"{name}: {far}; has it seen the test set?")
            if surely_above(values["overlap with popularity"], _MOSTLY_POPULAR):
                alarms.append(f"{name}: most of what it shows is what is popular")
        if data.rated is not None and (n := metrics.hits(lists[name], data.rated).sum()):
            alarms.append(f"{name}: {n:,} of its places show what the user had rated")
        if "stability" in values and surely_above(-values["stability"], -_STEADY):
            alarms.append(f"{name}: its runs share less than half of their items")
        mine = unfair[unfair["system"] == name]
        if len(mine):
            groups = ", ".join(mine["profile"] + " " + mine["group"])
            alarms.append(f"{name}: serves some worse than all others: {groups}")
    return alarms


def _note(lists: dict, data: Evidence, baseline: str) -> str:
    (n_users, n_items), k = data.relevant.shape, lists[baseline].shape[1]
    judged = int((data.relevant.sum(axis=1) > 0).sum())
    note = (
        f"lists of {k} for {n_users:,} users ({judged:,} have relevant items) "
        f"from {n_items:,} items; 95% intervals over users; "
        f"differences are paired, against {baseline}, verdicts corrected for all tests (Holm)"
    )
    for name, array in lists.items():
        if empty := int((array < 0).all(axis=1).sum()):
            note += f"; {name} has no list for {empty} users"
    return note


# The card


@dataclass(frozen=True)
class Scorecard:
    """The numbers of a comparison, and tables of words made from them.

    ``differences`` holds the paired t-test's ``p_value``, ``p_holm`` corrected for all tests there,
    and the ``verdict``; ``slices`` NDCG by group of users, the ``gap`` to all other users, and its
    ``verdict``, corrected for all groups and systems.
    """

    values: pd.DataFrame  # a row for each system and metric
    differences: pd.DataFrame  # a row for each system but the baseline and each metric
    slices: pd.DataFrame  # a row for each system and group of users
    note: str  # what was measured on whom
    alarms: tuple[str, ...] = ()  # what a reader should look into before believing the card

    @property
    def table(self) -> pd.DataFrame:
        """Systems by metrics, each cell like ``0.106 [0.091, 0.122]``."""
        return _words(self.values, ["value", "low", "high"], "{:.3f} [{:.3f}, {:.3f}]")

    @property
    def verdicts(self) -> pd.DataFrame:
        """Systems by metrics, cells like ``+0.056 [0.043, 0.070] better``, against the baseline."""
        columns = ["difference", "low", "high", "verdict"]
        return _words(self.differences, columns, "{:+.3f} [{:.3f}, {:.3f}] {}")

    @property
    def groups(self) -> pd.DataFrame:
        """Systems by groups of users, cells like ``-0.056 [-0.070, -0.043] worse``: their gaps."""
        rows = self.slices.assign(metric=self.slices["profile"] + ": " + self.slices["group"])
        columns = ["gap", "gap_low", "gap_high", "verdict"]
        return _words(rows, columns, "{:+.3f} [{:.3f}, {:.3f}] {}")

    def tradeoff(self, across: str, up: str) -> plots.Picture:
        """Every system by two metrics, with its intervals."""
        by_metric = dict(list(self.values.groupby("metric")))
        for metric in (across, up):
            if metric not in by_metric:
                raise UnknownNameError("metric", metric, by_metric)
        both = by_metric[across].merge(by_metric[up], on="system", suffixes=("", "_up"))
        fig, axes = plots.figure(title=f"{up} against {across}")
        for row, color in zip(both.itertuples(), cycle(plots.PALETTE), strict=False):
            axes.plot([row.low, row.high], [row.value_up] * 2, color=color)
            axes.plot([row.value] * 2, [row.low_up, row.high_up], color=color)
            axes.plot(row.value, row.value_up, "o", color=color)
            name, point = row.system.replace("$", r"\$"), (row.value, row.value_up)
            axes.annotate(name, point, xytext=(5, 5), textcoords="offset points")
        axes.set(xlabel=across, ylabel=up)
        axes.margins(x=0.15, y=0.12)
        said = [f"{row.system} {row.value:.3f} and {row.value_up:.3f}" for row in both.itertuples()]
        return plots.show(fig, f"Systems by {across} and {up}: {'; '.join(said)}.")

    def explore(self, across: str, up: str):
        """The trade-off with menus for both metrics; the first one alone where no kernel runs."""
        from ipywidgets import Dropdown

        names = list(self.values["metric"].unique())
        menus = {"across": Dropdown(options=names, value=across, description="across")}
        menus["up"] = Dropdown(options=names, value=up, description="up")
        return plots.Explorer(self.tradeoff, **menus)

    def save(self, path: str | Path) -> Path:
        """Write the numbers to a ``.csv``, or the tables to a ``.tex`` or ``.html`` file."""
        path = Path(path)
        if path.suffix == ".csv":
            keys, suffixes = ["system", "metric"], ("", "_of_difference")
            both = self.values.merge(self.differences, "left", keys, suffixes=suffixes)
            content = both.to_csv(index=False, lineterminator="\n")
        elif path.suffix == ".tex":
            content = "\n".join(table.T.to_latex(escape=True) for table in self._tables())
        elif path.suffix == ".html":
            content = self._repr_html_()
        else:
            raise ReclabError(f"a card is saved as .csv, .tex or .html, not as {path.name!r}")
        write_atomically(path, content)
        return path

    def __repr__(self) -> str:
        tables = [table.T.to_string() for table in self._tables()]
        return "\n\n".join([self.note, *tables, *self._warnings()])

    def _repr_html_(self) -> str:
        said = [f"<p>{html.escape(line)}</p>" for line in (self.note, *self._warnings())]
        return "".join(said + [table.T.to_html() for table in self._tables()])

    def _tables(self) -> list[pd.DataFrame]:
        return [table for table in (self.table, self.verdicts, self.groups) if not table.empty]

    def _warnings(self) -> list[str]:
        return [f"LOOK: {alarm}" for alarm in self.alarms]


def _words(rows: pd.DataFrame, columns: list[str], form: str) -> pd.DataFrame:
    cells = [form.format(*row) for row in rows[columns].itertuples(index=False)]
    cells = [cell.replace(" [nan, nan]", "") for cell in cells]
    index = [rows["system"], rows["metric"]]
    table = pd.Series(cells, index=index, dtype=object).unstack(fill_value="")
    table = table.loc[rows["system"].unique(), rows["metric"].unique()]
    return table.rename_axis(index=None, columns=None)
