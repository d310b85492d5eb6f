"""Metrics against brute force, closed forms and other libraries; intervals against theory."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from sklearn.metrics import pairwise_distances, roc_auc_score

from reclab import metrics
from reclab.errors import ReclabError, SchemaError

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("golden.json").read_text("utf-8"))
QUICK = settings(max_examples=60, deadline=None, derandomize=True)


def example(n_users=200, n_items=60, k=10):
    """The lists and relevant items that tests/golden/make_golden.py gave to ranx."""
    rng = np.random.default_rng(7)
    lists = rng.random((n_users, n_items)).argsort(axis=1)[:, :k]
    lists[np.arange(k) >= k - (rng.random((n_users, 1)) * 3).astype(int)] = -1
    relevant = rng.random((n_users, n_items)) < rng.random((n_users, 1)) * 0.3
    relevant[:, 0] |= ~relevant.any(axis=1)
    return lists, sparse.csr_array(relevant)


@st.composite
def cases(draw):
    """Lists with empty places and empty lists, k beyond the catalogue too; likes, with users who have none."""
    n_users, n_items, k = draw(st.integers(1, 6)), draw(st.integers(1, 7)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lists = np.full((n_users, k), -1)
    for row in lists:
        shown = rng.permutation(n_items)[: rng.integers(0, k + 1)]
        row[np.sort(rng.permutation(k)[: len(shown)])] = shown
    relevant, train = (rng.random((2, n_users, n_items)) < 0.4).astype(float)
    relevant[rng.integers(n_users), rng.integers(n_items)] = 1
    return lists, relevant, train, rng


# Ranked lists: their hits


def test_accuracy_agrees_with_ranx():
    names = {"ndcg": "NDCG", "recall": "recall", "precision": "precision", "mrr": "MRR", "hit_rate": "hit"}
    values = metrics.accuracy_at_k(*example())
    assert {theirs: values[ours].mean() for theirs, ours in names.items()} == pytest.approx(
        GOLDEN["generated_lists"], rel=1e-9
    )


def slow_accuracy(row, liked, unexpected):
    """NDCG, recall, precision, MRR, hit and serendipity of one list, place by place."""
    if not liked:
        return [math.nan] * 6
    k, hits = len(row), [place for place, item in enumerate(row, 1) if item in liked]
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(liked)) + 1))
    ndcg = sum(1 / math.log2(place + 1) for place in hits) / ideal
    surprises = [item for item in row if item in liked and item in unexpected]
    first = 1 / hits[0] if hits else 0
    return [ndcg, len(hits) / len(liked), len(hits) / k, first, float(bool(hits)), len(surprises) / k]


@QUICK
@given(cases())
def test_accuracy_is_that_of_the_slow_way(case):
    lists, relevant, _, rng = case
    n_items = relevant.shape[1]
    expected = rng.permuted(np.tile(np.arange(n_items), (len(lists), 1)), axis=1)[:, : rng.integers(1, n_items + 1)]
    found = metrics.accuracy_at_k(lists, sparse.csr_array(relevant), expected)
    for user, row in enumerate(lists):
        liked = set(np.flatnonzero(relevant[user]))
        slow = slow_accuracy(row, liked, set(range(n_items)) - set(expected[user]))
        assert [values[user] for values in found.values()] == pytest.approx(slow, abs=1e-9, nan_ok=True)
    assert list(found) == ["NDCG", "recall", "precision", "MRR", "hit", "serendipity"]
    np.testing.assert_array_equal(metrics.ndcg_at_k(lists, relevant), found["NDCG"])


def test_hits_of_many_users():
    lists, relevant = example(n_users=1100, n_items=30)
    slow = [[item >= 0 and liked[item] for item in row] for row, liked in zip(lists, relevant.toarray(), strict=True)]
    assert (metrics.hits(lists, relevant) == slow).all()
    lists[900, [0, -1]] = 7
    with pytest.raises(SchemaError, match="item 7 stands twice in the list of user 900"):
        metrics.hits(lists, relevant)


def test_stored_zeros_and_repeated_entries_do_not_count_as_relevant():
    data = (np.array([1.0, 1.0, 0.0]), (np.array([0, 0, 0]), np.array([1, 1, 2])))
    relevant = sparse.csr_array(sparse.coo_array(data, shape=(1, 4)))
    found = metrics.accuracy_at_k(np.array([[1, 2]]), relevant)
    assert (found["recall"].item(), found["precision"].item()) == (1, 0.5)
    assert relevant.nnz == 2, "the caller's matrix is left as it was"


@pytest.mark.parametrize(
    ("lists", "relevant", "says"),
    [
        (np.array([[0, 3]]), np.eye(1, 3), "the catalogue has 0..2"),
        (np.array([[0, 1]]), np.eye(2, 3), "for 1 users, relevant for 2"),
        (np.array([[0, 1]]), np.zeros((1, 3)), "relevant is empty"),
        (np.array([[0, 1]]), np.array([[1, np.nan, 0]]), "relevant holds NaN: write 0"),
        (np.array([[0.0, 1.0]]), np.eye(1, 3), "must be integers"),
        (np.empty((1, 0), dtype=int), np.eye(1, 3), "k >= 1"),
    ],
)
def test_lists_that_do_not_fit_are_refused(lists, relevant, says):
    with pytest.raises(SchemaError, match=says):
        metrics.ndcg_at_k(lists, relevant)


# Ranked lists: beyond their hits


def test_novelty_is_the_mean_of_minus_log2_shares():
    counts = np.array([8, 4, 4, 0])
    values = metrics.novelty(np.array([[0, 1], [1, -1], [3, 0], [-1, -1]]), counts)
    np.testing.assert_allclose(values, [1.5, 2, 2.5, np.nan])


@pytest.mark.parametrize("counts", [[0, 0], [1, -1], [1, np.nan]])
def test_popularity_that_is_no_count_is_refused(counts):
    with pytest.raises(SchemaError, match="popularity"):
        metrics.novelty(np.array([[0, 1]]), np.array(counts))


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_intra_list_distance_agrees_with_all_pairs(kind):
    rng = np.random.default_rng(1)
    lists, _ = example()
    features = rng.random((60, 5)) - 0.3
    features[:6] = 0
    distance = pairwise_distances(features, metric="cosine")
    expected = []
    for row in lists:
        known = [i for i in row if i >= 6]
        expected.append(np.mean([distance[i, j] for i in known for j in known if i != j]))
    np.testing.assert_allclose(metrics.intra_list_distance(lists, kind(features)), expected, rtol=1e-9)


def test_intra_list_distance_needs_two_items_with_finite_features():
    features = np.array([[1.0, 0], [0, 2.0], [0, 0]])
    values = metrics.intra_list_distance(np.array([[0, 1], [0, 2], [1, -1]]), features)
    np.testing.assert_allclose(values, [1, np.nan, np.nan])
    with pytest.raises(SchemaError, match="k of 2 or more"):
        metrics.intra_list_distance(np.array([[0]]), np.eye(2))
    with pytest.raises(SchemaError, match="finite"):
        metrics.intra_list_distance(np.array([[0, 1]]), np.array([[1, np.nan], [0, 1]]))


@QUICK
@given(cases())
def test_beyond_accuracy_is_that_of_the_slow_way(case):
    lists, _, train, rng = case
    n_items = train.shape[1]
    genres = (rng.random((n_items, 3)) < 0.5).astype(float)
    counts = rng.integers(0, 9, n_items) + 1
    other = rng.permuted(lists, axis=1)
    other[:, -1] = -1
    found = metrics.miscalibration(lists, train, genres), metrics.popularity_lift(lists, train, counts)
    overlap = metrics.overlap_at_k(lists, other)

    def mix(items):
        shares = [genres[item] / genres[item].sum() for item in items if genres[item].any()]
        return np.mean(shares, axis=0) if shares else np.full(3, math.nan)

    for user, row in enumerate(lists):
        shown, liked = [item for item in row if item >= 0], np.flatnonzero(train[user])
        p, q = mix(liked), mix(shown)
        kl = sum(a * math.log(a / (0.99 * b + 0.01 * a)) for a, b in zip(p, q, strict=True) if a > 0)
        slow = math.nan if np.isnan(p).any() or np.isnan(q).any() else max(kl, 0)
        assert found[0][user] == pytest.approx(slow, abs=1e-9, nan_ok=True)
        lift = np.mean(counts[shown]) / np.mean(counts[liked]) - 1 if shown and len(liked) else math.nan
        assert found[1][user] == pytest.approx(lift, abs=1e-9, nan_ok=True)
        a, b = set(shown), {item for item in other[user] if item >= 0}
        assert overlap[user] == pytest.approx(len(a & b) / len(a | b) if a | b else math.nan, nan_ok=True)


def test_genres_below_zero_and_lists_of_other_users_are_refused():
    with pytest.raises(SchemaError, match="features of 0 or more"):
        metrics.miscalibration(np.array([[0, 1]]), np.eye(1, 2), -np.eye(2))
    with pytest.raises(SchemaError, match="same users, got 1 and 2"):
        metrics.overlap_at_k(np.array([[0, 1]]), np.array([[0], [1]]))


def test_coverage_and_gini():
    lists = np.array([[0, 1], [0, -1], [0, 2]])
    shown = metrics.shown_matrix(lists, 5).sum(axis=0)
    assert shown.tolist() == [3, 1, 1, 0, 0]
    assert metrics.coverage(lists, 5) == pytest.approx(3 / 5)
    differences = np.abs(shown[:, None] - shown[None, :]).sum()
    assert metrics.gini(shown) == pytest.approx(differences / (2 * 5 * shown.sum()))
    assert metrics.gini(np.ones(4)) == pytest.approx(0)
    assert metrics.gini(np.array([0, 2, 0, 0])) == pytest.approx(1 - 1 / 4)
    with pytest.raises(SchemaError, match="no item is shown"):
        metrics.gini(np.zeros(3))


# Click predictions


def clicks(n=400, seed=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    return labels, (labels + rng.normal(size=n)).round(1), (labels + 2 * rng.normal(size=n)).round(1)


def test_auc_agrees_with_scikit_learn_with_ties():
    labels, a, _ = clicks()
    a[a > 2] = np.inf
    assert len(np.unique(a)) < 100
    assert metrics.auc(labels, a) == pytest.approx(roc_auc_score(labels, a.clip(max=9)), rel=1e-12)


def test_auc_interval_agrees_with_resampling_by_hand():
    labels, a, b = clicks()
    draws = np.concatenate(list(metrics.resamples(400, 60, seed=9)))
    of_a = [roc_auc_score(labels[d], a[d]) for d in draws]
    of_b = [roc_auc_score(labels[d], b[d]) for d in draws]
    interval = metrics.auc_interval(labels, a, n=60, seed=9)
    np.testing.assert_allclose(interval[1:], np.quantile(of_a, [0.025, 0.975]), rtol=1e-12)
    paired = metrics.paired_auc_difference(labels, a, b, n=60, seed=9)
    assert paired.value == pytest.approx(roc_auc_score(labels, a) - roc_auc_score(labels, b))
    np.testing.assert_allclose(paired[1:], np.quantile(np.subtract(of_a, of_b), [0.025, 0.975]), rtol=1e-9)
    both = metrics.resampled_aucs(labels, [a, b], n=60, seed=9)
    np.testing.assert_allclose(both, np.stack([of_a, of_b], axis=1), rtol=1e-9)


def test_groups_are_resampled_whole():
    labels, a, b = clicks()
    four = np.repeat(np.arange(400), 4)
    rows = metrics.auc_interval(labels, a)
    groups = metrics.auc_interval(labels[four], a[four], groups=four.astype(str))
    assert groups == pytest.approx(rows, rel=1e-12)
    pretended = metrics.auc_interval(labels[four], a[four])
    assert pretended.high - pretended.low < 0.6 * (rows.high - rows.low)
    paired = metrics.paired_auc_difference(labels[four], a[four], b[four], groups=four)
    assert paired == pytest.approx(metrics.paired_auc_difference(labels, a, b), rel=1e-9)


@pytest.mark.parametrize(
    ("labels", "scores", "groups", "says"),
    [
        ([1, 1, 1], [0.1, 0.2, 0.3], None, "only one class"),
        ([0, 1, 2], [0.1, 0.2, 0.3], None, r"labels must be 0 or 1, labels\[2\] is 2"),
        ([0, np.nan, 1], [0.1, 0.2, 0.3], None, r"labels must be 0 or 1, labels\[1\] is nan"),
        ([0, 1, 1], [0.1, np.nan, 0.3], None, "scores hold 1 NaN"),
        ([0, 1], [0.1, 0.2, 0.3], None, r"one for each of 3 examples, got shape \(2,\)"),
        ([[0, 1]], [[0.1, 0.2]], None, "one row of numbers"),
        ([0, 1, 1], [0.1, 0.2, 0.3], ["a", "a", "a"], "at least 2 groups"),
        ([0, 1, 1], [0.1, 0.2, 0.3], ["b", None, "a"], "one name for each of the 3 rows"),
    ],
)
def test_clicks_that_cannot_be_measured_are_refused(labels, scores, groups, says):
    with pytest.raises(SchemaError, match=says):
        metrics.auc_interval(np.array(labels), np.array(scores), groups)


def test_calibration_error_by_hand_and_at_the_bins_edges():
    rng = np.random.default_rng(6)
    p = np.concatenate([rng.random(200), np.arange(11) / 10])
    labels = (rng.random(211) < p).astype(int)
    expected = 0
    for low, high in zip(np.linspace(0, 1, 11)[:-1], np.linspace(0, 1, 11)[1:], strict=True):
        rows = (p > low) & (p <= high) | ((low == 0) & (p == 0))
        if rows.any():
            expected += rows.mean() * abs(p[rows].mean() - labels[rows].mean())
    assert metrics.expected_calibration_error(labels, p) == pytest.approx(expected)
    assert metrics.expected_calibration_error([0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]) == pytest.approx(0)
    assert metrics.expected_calibration_error([1, 1], [0.2, 0.2]) == pytest.approx(0.8)
    assert metrics.probability_bins(np.array([0, 0.25, 0.3, 1]), 4).tolist() == [0, 0, 1, 3]
    with pytest.raises(SchemaError, match="sigmoid"):
        metrics.expected_calibration_error([0, 1], [0.2, 1.2])


# Intervals


def test_a_table_of_intervals_is_resampling_by_hand_without_the_missing_users():
    rng = np.random.default_rng(0)
    values = rng.random((30, 4))
    values[rng.random(30) < 0.3, 1:3] = np.nan
    found = metrics.bootstrap_table(values, n=50, seed=3)
    for column, theirs in zip(values.T, found.T, strict=True):
        kept = column[~np.isnan(column)]
        means = [kept[draw].mean() for draw in np.concatenate(list(metrics.resamples(len(kept), 50, seed=3)))]
        np.testing.assert_allclose(theirs, [kept.mean(), *np.quantile(means, [0.025, 0.975])], rtol=1e-12)
        assert metrics.bootstrap_interval(column, n=50, seed=3) == pytest.approx(theirs, rel=1e-12)
    alone = metrics.bootstrap_table(np.array([[1.0, 2.0, np.nan], [np.nan, 3.0, np.nan]]))  # one value: no interval
    np.testing.assert_array_equal(np.isnan(alone), [[0, 0, 1], [1, 0, 1], [1, 0, 1]])


def test_resampling_is_done_in_parts_of_bounded_memory_and_parts_change_nothing():
    parts = list(metrics.resamples(500_000, 9, seed=0))
    assert [len(part) for part in parts] == [4, 4, 1]
    assert all(part.min() >= 0 and part.max() < 500_000 for part in parts)
    wide = list(metrics.resamples(50, 9, seed=0, width=500_000))
    assert [len(part) for part in wide] == [4, 4, 1]
    assert (np.concatenate(wide) == next(metrics.resamples(50, 9, seed=0))).all()


@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        ([1.0, np.nan], {}, "needs 2 of them with a value, got 1"),
        ([1.0, 2.0], {"n": 0}, "n must be 1"),
    ],
)
def test_intervals_that_cannot_be_taken_are_refused(values, options, says):
    with pytest.raises(ReclabError, match=says):
        metrics.bootstrap_interval(np.array(values), **options)


def test_paired_difference_uses_users_with_both_values():
    a, b = np.array([1.0, np.nan, 3, 5, 4]), np.array([0.0, 1, np.nan, 2, 3])
    assert metrics.paired_difference(a, b) == metrics.bootstrap_interval(np.array([1.0, 3, 1]))
    with pytest.raises(SchemaError, match="same users"):
        metrics.paired_difference(a, b[:3])


def test_an_interval_over_groups_is_that_of_the_other_bootstraps():
    rng = np.random.default_rng(2)
    values = rng.normal(size=40)
    expected = metrics.bootstrap_interval(values, n=200, seed=5)
    for statistic in (values, lambda rows: values[rows].mean()):
        found = metrics.interval_over(np.arange(40), statistic, n=200, seed=5)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    groups = rng.permutation(np.repeat(["a", "b", "c", "d", "e", "f"], [4, 9, 3, 7, 12, 5]))
    labels, scores = np.tile([0, 1], 20), rng.normal(size=40).round(1)
    found = metrics.interval_over(groups, lambda rows: metrics.auc(labels[rows], scores[rows]), n=60, seed=3)
    np.testing.assert_allclose(found, metrics.auc_interval(labels, scores, groups, n=60, seed=3), rtol=1e-9)
    with pytest.raises(SchemaError, match="at least 2 groups"):
        metrics.interval_over(np.array(["a", "a"]), len)


def test_t_interval_is_scipys_and_covers_as_promised():
    values = [0.3, 0.5, 0.1, 0.4]
    mean, low, high = metrics.t_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((0.325, expected.low, expected.high))
    assert str(metrics.t_interval(values)) == "0.325 [0.053, 0.597]"
    draws = np.random.default_rng(0).normal(2.0, 3.0, size=(2000, 5))
    held = np.mean([low <= 2.0 <= high for _, low, high in map(metrics.t_interval, draws)])
    assert 0.935 < held < 0.965


@pytest.mark.parametrize("values", [[1.0], [1.0, np.nan]])
def test_t_interval_needs_two_finite_values(values):
    with pytest.raises(ReclabError, match="two or more finite values"):
        metrics.t_interval(values)


def test_holm_by_hand():
    corrected = metrics.holm(np.array([0.04, 0.01, 0.03, 0.5]))
    np.testing.assert_allclose(corrected, [0.09, 0.04, 0.09, 0.5])
    assert metrics.holm(np.array([])).size == 0


def test_metrics_and_scorecards_need_no_torch():
    code = "import sys, reclab.scorecard, reclab.rank; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
