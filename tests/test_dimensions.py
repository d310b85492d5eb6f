"""Every dimension against a slow version of itself on random input, ties, gaps and users without likes included."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from reclab import beyond, metrics
from reclab.dimensions import Evidence, measure, provider_values, supported
from reclab.errors import SchemaError
from reclab.intervals import bootstrap_interval, bootstrap_table
from reclab.jackknife import difference_values, gap_values
from reclab.rank import lists_from_table, with_our_names

QUICK = settings(max_examples=60, deadline=None, derandomize=True)


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


def slow_accuracy(row, liked, unexpected):
    """NDCG, recall, precision, MRR, hit and serendipity of one list, place by place."""
    if not liked:
        return [math.nan] * 6
    k = len(row)
    hits = [place for place, item in enumerate(row, 1) if item in liked]
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(liked)) + 1))
    ndcg = sum(1 / math.log2(place + 1) for place in hits) / ideal
    surprises = [item for item in row if item in liked and item in unexpected]
    return [
        ndcg,
        len(hits) / len(liked),
        len(hits) / k,
        1 / hits[0] if hits else 0,
        float(bool(hits)),
        len(surprises) / k,
    ]


@QUICK
@given(cases(), st.sampled_from([1, 20, 4_000_000]))
def test_accuracy_is_that_of_the_slow_way(case, cells):
    lists, relevant, _, rng = case
    n_items = relevant.shape[1]
    expected = rng.permuted(np.tile(np.arange(n_items), (len(lists), 1)), axis=1)[:, : rng.integers(1, n_items + 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beyond, "_PLACES", cells)  # so few users at a time that their tables follow one another
        found = metrics.accuracy_at_k(lists, sparse.csr_array(relevant), expected)
    for user, row in enumerate(lists):
        liked = set(np.flatnonzero(relevant[user]))
        slow = slow_accuracy(row, liked, set(range(n_items)) - set(expected[user]))
        assert [values[user] for values in found.values()] == pytest.approx(slow, abs=1e-9, nan_ok=True)
    assert list(found) == ["NDCG", "recall", "precision", "MRR", "hit", "serendipity"]


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


@QUICK
@given(cases(), st.integers(0, 3))
def test_an_item_twice_in_a_list_is_refused_wherever_it_stands(case, far):
    lists, relevant, _, _ = case
    twice = np.concatenate([lists, np.full((len(lists), far + 2), -1)], axis=1)
    twice[-1] = -1
    twice[-1, [0, far + 1]] = 0
    with pytest.raises(SchemaError, match=f"item 0 stands twice in the list of user {len(lists) - 1}"):
        metrics.accuracy_at_k(twice, relevant)


@QUICK
@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
def test_a_table_of_intervals_is_that_of_each_column(seed, n_users):
    rng = np.random.default_rng(seed)
    values = rng.random((n_users, 4))
    values[rng.random(n_users) < 0.3, 1:3] = np.nan
    values[:2] = rng.random((2, 4))
    found = bootstrap_table(values, n=50, seed=3, level=0.9)
    for column, theirs in zip(values.T, found.T, strict=True):
        np.testing.assert_allclose(theirs, bootstrap_interval(column, n=50, seed=3, level=0.9), rtol=1e-9)


def test_a_column_without_two_users_has_no_interval():
    with pytest.raises(SchemaError, match="at least 2 of them, got 1"):
        bootstrap_table(np.array([[1.0, 2.0], [np.nan, 3.0]]))


# Values per user of what is no mean


def test_a_gap_agrees_with_leaving_each_user_out():
    rng = np.random.default_rng(0)
    sums, sizes, target = rng.integers(0, 4, (30, 5)).astype(float), rng.integers(1, 9, 30), np.full(5, 0.3)
    sums[3], sizes[3] = 0, 0

    def gap(kept):
        return np.abs(sums[kept].sum(axis=0) / sizes[kept].sum() - target).sum()

    found, some = gap_values(sums, sizes, target), np.flatnonzero(sizes)
    without = np.array([gap(np.delete(some, place)) for place in range(29)])
    assert np.isnan(found[3])
    np.testing.assert_allclose(found[some], gap(some) + 28 * (without.mean() - without), rtol=1e-9)


def test_provider_gap_by_hand():
    lists = np.array([[0, 1], [0, -1], [-1, -1]])
    values = provider_values(lists, ["a", "b", None, "b"])
    # shown: a 2/3, b 1/3, unknown 0; in the catalogue 1/4, 1/2, 1/4
    assert np.nanmean(values) == pytest.approx((2 / 3 - 1 / 4 + 1 / 6 + 1 / 4) / 2)
    assert np.isnan(values).tolist() == [False, False, True]


def test_values_of_a_difference_have_its_mean_and_its_standard_error():
    rng = np.random.default_rng(1)
    values, group = rng.random(400), np.arange(400) < 70
    values[5] = np.nan
    found, (a, b) = difference_values(values, group), (values[kept & ~np.isnan(values)] for kept in (group, ~group))
    assert np.nanmean(found) == pytest.approx(a.mean() - b.mean())
    error = math.sqrt(a.var() / len(a) + b.var() / len(b))
    assert np.nanstd(found) / math.sqrt(399) == pytest.approx(error)


# What a table may also hold

USERS, ITEMS = ["u", "v"], ["x", "y", "z"]


def table(**more):
    return pd.DataFrame({"user": ["u", "u", "v"], "item": ["x", "y", "z"], "rank": [1, 2, 1]} | more)


def measured(given, **known):
    evidence = Evidence(np.array([[1, 0, 0], [0, 1, 0]]), USERS, ITEMS, **known)
    return measure(given, evidence, 2)[1]


def test_clicks_probabilities_and_explanations_are_measured_where_given():
    explained = ["Pixar; dull", "Ghibli", ""]
    found = measured(
        table(clicked=[1, 0, 1], probability=[0.9, 0.4, 0.3], explanation=explained),
        texts=["Toy Story by Pixar", "A film", "no"],
    )
    assert found["click-through"].tolist() == [0.5, 1]
    assert found["explained by the text"][0] == pytest.approx((0.5 + 0) / 2) and np.isnan(
        found["explained by the text"][1]
    )
    # bins of a tenth: .9 (liked), .4 and .3 (not): gaps of .1, .4 and .3, a third of the rows each
    assert found["calibration error"].mean() == pytest.approx((0.1 + 0.4 + 0.3) / 3)
    ece = metrics.expected_calibration_error([1, 0, 0], [0.9, 0.4, 0.3])
    assert found["calibration error"].mean() == pytest.approx(ece)
    assert not {"click-through", "calibration error", "explained by the text"} & set(measured(table()))


@pytest.mark.parametrize("column", ["clicked", "probability"])
@pytest.mark.parametrize("bad", [-0.1, 1.5, np.nan, np.inf, "much"])
def test_what_is_no_probability_is_refused(column, bad):
    with pytest.raises(SchemaError, match=f"{column} must hold numbers from 0 to 1; in row 1"):
        measured(table(**{column: pd.Series([0.5, bad, 0.5], dtype=object)}))


def test_facts_are_parted_by_commas_and_semicolons():
    assert supported("PIXAR, Disney; talking toys", "Toy Story (Pixar, Walt Disney)") == pytest.approx(2 / 3)
    assert math.isnan(supported(" ; ", "anything"))


def test_stability_is_the_overlap_of_all_pairs_of_runs():
    runs = [np.array([[0, 1], [2, 0]]), np.array([[1, 0], [1, 0]]), np.array([[0, 2], [1, 0]])]
    found = measured(runs)["stability"]
    pairs = list(itertools.combinations(range(3), 2))
    slow = [
        [len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in zip(runs[i], runs[j], strict=True)] for i, j in pairs
    ]
    np.testing.assert_allclose(found, np.mean(slow, axis=0))
    assert "stability" not in measured(runs[:1])


def test_slices_by_warm_tail_and_cold_items():
    train = np.zeros((60, 4))
    train[:30, 0], train[:5, 1] = 1, 1
    relevant = np.zeros((60, 4))
    relevant[30:40, 0], relevant[40:44, 1], relevant[44:46, 2], relevant[46, 3] = 1, 1, 1, 1
    lists = np.tile([0, 2], (60, 1))
    evidence = Evidence(relevant, train=train, rated=train)
    _, found = measure(lists, evidence, 2, evidence.most_popular(2))
    means = {name: np.nanmean(values) for name, values in found.items() if "items" in name}
    assert means == {"recall@2, cold items": pytest.approx(2 / 3), "recall@2, tail items": 0, "recall@2, warm items": 1}
    assert np.isfinite(found["recall@2, tail items"]).sum() == 4


def test_popularity_shows_what_is_popular_but_not_what_was_rated():
    train = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 1.0]])
    assert Evidence(train, train=train).most_popular(2).tolist() == [[2, -1], [1, 2], [0, 2], [1, -1]]
    assert Evidence(train, train=train, rated=np.zeros((4, 3))).most_popular(9).tolist()[0] == [0, 1, 2]


def test_thirds_by_activity_and_a_profile_with_gaps():
    train = np.tri(9, 9)
    groups = Evidence(np.ones((9, 9)), train=train, profile={"gender": ["F", None, np.nan] * 3}).groups
    assert groups["activity"].tolist() == ["few"] * 3 + ["middle"] * 3 + ["many"] * 3
    assert groups["gender"][0] == "F"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"train": np.ones((2, 4))}, r"train has the shape \(2, 4\), relevant \(2, 3\)"),
        ({"providers": ["a"]}, "providers has 1 values, one for each of 3"),
        ({"texts": ["a"] * 4}, "texts has 4 values, one for each of 3"),
        ({"profile": {"age": [1]}}, "profile 'age' has 1 values, one for each of 2"),
        ({"train": pd.DataFrame({"user_id": ["u"], "item_id": ["x"]})}, "give users= and items="),
    ],
)
def test_evidence_that_does_not_fit_is_refused(options, says):
    with pytest.raises(SchemaError, match=says):
        Evidence(np.ones((2, 3)), **options)


# Tables of other libraries


@pytest.mark.parametrize(
    "columns",
    [
        ["user_id", "item_id", "score"],
        ["user", "item", "score"],
        ["user_id:token", "item_id:token", "score:float"],
        ["UserId", "MovieID", "Prediction"],
        ["q_id", "doc_id", "score"],
    ],
)
def test_names_of_other_libraries_are_known(columns):
    given = pd.DataFrame([("u", "x", 1.0), ("u", "z", 3.0), ("v", "y", 2.0)], columns=columns)
    assert lists_from_table(given, USERS, ITEMS, 2).tolist() == [[2, 0], [1, -1]]
    assert given.columns.tolist() == columns


def test_our_names_come_first_and_two_that_mean_the_same_are_refused():
    given = pd.DataFrame(columns=["user_id", "user", "item", "rating", "score"])
    assert with_our_names(given).columns.tolist() == ["user_id", "user", "item_id", "rating", "score"]
    with pytest.raises(SchemaError, match="columns 'uid' and 'user' could both be the user_id: rename or drop one"):
        with_our_names(pd.DataFrame(columns=["uid", "user", "item"]))
