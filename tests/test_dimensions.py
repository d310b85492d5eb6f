"""Every dimension against a slow version of itself on random input, ties, gaps and users without likes included."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from reclab import metrics
from reclab.dimensions import Evidence, measure, provider_values, supported
from reclab.errors import SchemaError
from reclab.jackknife import difference_values, gap_values
from reclab.tables import lists_from_table, with_our_names

QUICK = settings(max_examples=60, deadline=None, derandomize=True)


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
