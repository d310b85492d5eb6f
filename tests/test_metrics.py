"""Metrics against brute force, closed forms and other libraries; intervals against theory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse, stats
from sklearn.metrics import pairwise_distances, roc_auc_score

from reclab import metrics
from reclab.errors import ReclabError, SchemaError
from reclab.intervals import group_codes, resamples, t_interval

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("golden.json").read_text("utf-8"))


def example(n_users=200, n_items=60, k=10):
    """The lists and relevant items that tests/golden/make_golden.py gave to ranx."""
    rng = np.random.default_rng(7)
    lists = rng.random((n_users, n_items)).argsort(axis=1)[:, :k]
    lists[np.arange(k) >= k - (rng.random((n_users, 1)) * 3).astype(int)] = -1
    relevant = rng.random((n_users, n_items)) < rng.random((n_users, 1)) * 0.3
    relevant[:, 0] |= ~relevant.any(axis=1)
    return lists, sparse.csr_array(relevant)


def test_accuracy_agrees_with_ranx():
    names = {"ndcg": "ndcg_at_k", "recall": "recall_at_k", "precision": "precision_at_k"}
    names |= {"mrr": "mrr_at_k", "hit_rate": "hit_at_k"}
    found = {name: getattr(metrics, function)(*example()).mean() for name, function in names.items()}
    assert found == pytest.approx(GOLDEN["generated_lists"], rel=1e-9)


def test_closed_forms():
    relevant = np.array([[1, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]])
    lists = np.array([[0, 2, 1], [2, 3, -1], [1, 2, 3]])
    gain = 1 / np.log2([2, 3, 4])
    expected = [(gain[0] + gain[2]) / (gain[0] + gain[1]), gain[1], 0]
    np.testing.assert_allclose(metrics.ndcg_at_k(lists, relevant), expected)
    np.testing.assert_allclose(metrics.recall_at_k(lists, relevant), [1, 1, 0])
    np.testing.assert_allclose(metrics.precision_at_k(lists, relevant), [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(metrics.mrr_at_k(lists, relevant), [1, 1 / 2, 0])
    np.testing.assert_allclose(metrics.hit_at_k(lists, relevant), [1, 1, 0])


@pytest.mark.parametrize("name", ["ndcg_at_k", "recall_at_k", "precision_at_k", "mrr_at_k", "hit_at_k"])
def test_a_user_without_relevant_items_is_nan(name):
    values = getattr(metrics, name)(np.array([[0, 1], [0, 1]]), np.array([[1, 0], [0, 0]]))
    assert np.isnan(values).tolist() == [False, True]


def test_stored_zeros_and_repeated_entries_do_not_count_as_relevant():
    data = (np.array([1.0, 1.0, 0.0]), (np.array([0, 0, 0]), np.array([1, 1, 2])))
    relevant = sparse.csr_array(sparse.coo_array(data, shape=(1, 4)))
    assert metrics.recall_at_k(np.array([[1, 2]]), relevant).tolist() == [1]
    assert metrics.precision_at_k(np.array([[1, 2]]), relevant).tolist() == [0.5]


@pytest.mark.parametrize(
    ("lists", "relevant", "says"),
    [
        (np.array([[0, 0]]), np.eye(1, 3), "item 0 stands twice in the list of user 0"),
        (np.array([[0, 3]]), np.eye(1, 3), "the catalogue has 0..2"),
        (np.array([[0, -2]]), np.eye(1, 3), "the catalogue has 0..2"),
        (np.array([[0, 1]]), np.eye(2, 3), "for 1 users, relevant for 2"),
        (np.array([[0, 1]]), np.zeros((1, 3)), "relevant is empty"),
        (np.array([[0.0, 1.0]]), np.eye(1, 3), "must be integers"),
        (np.array([0, 1]), np.eye(1, 3), "must be integers"),
        (np.empty((1, 0), dtype=int), np.eye(1, 3), "k >= 1"),
    ],
)
def test_lists_that_do_not_fit_are_refused(lists, relevant, says):
    with pytest.raises(SchemaError, match=says):
        metrics.ndcg_at_k(lists, relevant)


def test_empty_places_may_repeat():
    assert metrics.hit_at_k(np.array([[-1, -1, 2]]), np.eye(1, 3, 2)).tolist() == [1]


# Beyond accuracy


def test_novelty_is_the_mean_of_minus_log2_shares():
    counts = np.array([8, 4, 4, 0])
    values = metrics.novelty(np.array([[0, 1], [1, -1], [3, 0], [-1, -1]]), counts)
    np.testing.assert_allclose(values, [1.5, 2, 2.5, np.nan])


@pytest.mark.parametrize("counts", [[0, 0], [1, -1], [1, np.nan], [[1, 2]]])
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


def test_intra_list_distance_of_one_known_item_is_nan():
    features = np.array([[1.0, 0], [0, 2.0], [0, 0]])
    values = metrics.intra_list_distance(np.array([[0, 1], [0, 2], [1, -1]]), features)
    np.testing.assert_allclose(values, [1, np.nan, np.nan])


def test_intra_list_distance_refuses_what_has_no_pairs_or_no_numbers():
    with pytest.raises(SchemaError, match="k of 2 or more"):
        metrics.intra_list_distance(np.array([[0]]), np.eye(2))
    with pytest.raises(SchemaError, match="finite"):
        metrics.intra_list_distance(np.array([[0, 1]]), np.array([[1, np.nan], [0, 1]]))


def test_coverage_and_gini():
    lists = np.array([[0, 1], [0, -1], [0, 2]])
    shown = metrics.exposure(lists, 5)
    assert shown.tolist() == [3, 1, 1, 0, 0]
    assert metrics.coverage(lists, 5) == pytest.approx(3 / 5)
    differences = np.abs(shown[:, None] - shown[None, :]).sum()
    assert metrics.gini(lists, 5) == pytest.approx(differences / (2 * 5 * shown.sum()))
    assert metrics.gini(np.array([[0, 1], [2, 3]]), 4) == pytest.approx(0)
    assert metrics.gini(np.array([[0], [0]]), 4) == pytest.approx(1 - 1 / 4)
    with pytest.raises(SchemaError, match="no item is shown"):
        metrics.gini(np.array([[-1]]), 3)


# Intervals over users


def test_bootstrap_agrees_with_the_normal_approximation():
    values = np.random.default_rng(2).gamma(1.0, size=800)
    mean, low, high = metrics.bootstrap_interval(values, n=4000)
    half = 1.96 * values.std(ddof=1) / np.sqrt(800)
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - half, abs=0.12 * half)
    assert high == pytest.approx(mean + half, abs=0.12 * half)


def test_bootstrap_is_repeatable_leaves_nan_out_and_narrows_with_level():
    values = np.array([0.0, 1, 2, 3, np.nan])
    assert metrics.bootstrap_interval(values) == metrics.bootstrap_interval(values[:4])
    assert metrics.bootstrap_interval(values, seed=1) != metrics.bootstrap_interval(values, seed=2)
    wide, narrow = (
        metrics.bootstrap_interval(values, level=0.95),
        metrics.bootstrap_interval(values, level=0.5),
    )
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_resampling_is_done_in_chunks_of_bounded_memory():
    parts = list(resamples(500_000, 9, seed=0))
    assert [len(part) for part in parts] == [4, 4, 1]
    assert all(part.min() >= 0 and part.max() < 500_000 for part in parts)


@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        ([1.0, np.nan], {}, "at least 2"),
        ([], {}, "at least 2"),
        ([1.0, 2.0], {"n": 0}, "n must be 1"),
        ([1.0, 2.0], {"level": 1.0}, "level must lie"),
        ([1.0, 2.0], {"level": 95}, "level must lie"),
    ],
)
def test_intervals_that_cannot_be_taken_are_refused(values, options, says):
    with pytest.raises(ReclabError, match=says):
        metrics.bootstrap_interval(np.array(values), **options)


def test_paired_difference_sees_what_separate_intervals_hide():
    rng = np.random.default_rng(4)
    easy = rng.random(300)
    a, b = easy + 0.02 + rng.normal(0, 0.02, 300), easy
    separate = metrics.bootstrap_interval(a), metrics.bootstrap_interval(b)
    assert separate[0].low < separate[1].high
    paired = metrics.paired_difference(a, b)
    assert paired.low > 0.015 and paired.high < 0.025


def test_paired_difference_uses_users_with_both_values():
    a, b = np.array([1.0, np.nan, 3, 5]), np.array([0.0, 1, np.nan, 2])
    assert metrics.paired_difference(a, b).value == pytest.approx(2.0)
    with pytest.raises(SchemaError, match="same users"):
        metrics.paired_difference(a, b[:3])


def test_interval_reads_as_words():
    assert str(metrics.Interval(0.1064, 0.0912, 0.1217)) == "0.106 [0.091, 0.122]"


def test_holm_by_hand():
    corrected = metrics.holm(np.array([0.04, 0.01, 0.03, 0.5]))
    np.testing.assert_allclose(corrected, [0.09, 0.04, 0.09, 0.5])
    assert metrics.holm(np.array([])).size == 0


# Click predictions


def clicks(n=400, seed=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    return labels, (labels + rng.normal(size=n)).round(1), (labels + 2 * rng.normal(size=n)).round(1)


def test_auc_agrees_with_scikit_learn_with_ties():
    labels, a, _ = clicks()
    assert len(np.unique(a)) < 100
    assert metrics.auc(labels, a) == pytest.approx(roc_auc_score(labels, a), rel=1e-12)


def test_auc_interval_agrees_with_resampling_by_hand():
    labels, a, b = clicks()
    draws = np.concatenate(list(resamples(400, 60, seed=9)))
    of_a = [roc_auc_score(labels[d], a[d]) for d in draws]
    of_b = [roc_auc_score(labels[d], b[d]) for d in draws]
    interval = metrics.auc_interval(labels, a, n=60, seed=9)
    np.testing.assert_allclose(interval[1:], np.quantile(of_a, [0.025, 0.975]), rtol=1e-12)
    paired = metrics.paired_auc_difference(labels, a, b, n=60, seed=9)
    assert paired.value == pytest.approx(roc_auc_score(labels, a) - roc_auc_score(labels, b))
    np.testing.assert_allclose(paired[1:], np.quantile(np.subtract(of_a, of_b), [0.025, 0.975]), rtol=1e-9)


def test_groups_are_numbered_as_they_appear():
    assert group_codes(["b", "a", "b", "c"], 4).tolist() == [0, 1, 0, 2]
    for groups, n_rows in (["b", "b"], 2), (["b", "a"], 3), (["b", None, "a"], 3), ([], 0):
        with pytest.raises(SchemaError, match=f"at least 2 groups, one name for each of the {n_rows} rows"):
            group_codes(groups, n_rows)


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
        ([1, 1, 1], [0.1, 0.2, 0.3], None, "one class only"),
        ([0, 1, 2], [0.1, 0.2, 0.3], None, "labels must be 0 or 1"),
        ([0, 1, 1], [0.1, np.nan, 0.3], None, "scores hold 1 NaN"),
        ([0, 1], [0.1, 0.2, 0.3], None, "one row of numbers each"),
        ([], [], None, "one row of numbers each"),
        ([0, 1, 1], [0.1, 0.2, 0.3], ["a", "a", "a"], "at least 2 groups"),
    ],
)
def test_clicks_that_cannot_be_measured_are_refused(labels, scores, groups, says):
    with pytest.raises(SchemaError, match=says):
        metrics.auc_interval(np.array(labels), np.array(scores), groups)


def test_infinite_scores_tie_with_each_other():
    scores = np.array([-np.inf, -np.inf, 0, np.inf, np.inf])
    labels = np.array([0, 1, 1, 0, 1])
    draws = metrics.auc_interval(labels, scores, n=200)
    assert draws.value == pytest.approx((0.5 + 1 + 1 + 0 + 0 + 0.5) / 6)
    assert 0 <= draws.low <= draws.high <= 1


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


def test_calibration_refuses_what_is_no_probability():
    with pytest.raises(SchemaError, match="sigmoid"):
        metrics.expected_calibration_error([0, 1], [0.2, 1.2])
    with pytest.raises(ReclabError, match="bins"):
        metrics.expected_calibration_error([0, 1], [0.2, 0.9], bins=0)


def test_the_module_needs_no_torch():
    code = "import sys, reclab.scorecard, reclab.rank; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_t_interval_is_scipys_and_covers_as_promised():
    values = [0.3, 0.5, 0.1, 0.4]
    mean, low, high = t_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((0.325, expected.low, expected.high))
    draws = np.random.default_rng(0).normal(2.0, 3.0, size=(2000, 5))
    held = np.mean([low <= 2.0 <= high for _, low, high in map(t_interval, draws)])
    assert 0.935 < held < 0.965


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan], [[1.0, 2.0]]])
def test_t_interval_needs_two_finite_values(values):
    with pytest.raises(ReclabError, match="two or more finite values"):
        t_interval(values)
