"""Baselines against brute force and golden values of other libraries; top-k against a full sort."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge

from reclab import metrics, rank
from reclab.assets import fetch
from reclab.errors import ReclabError, SchemaError
from reclab.tables import interaction_matrix, lists_from_table

sys.path.append(str(Path(__file__).parent / "benchmarks"))

from ranking import GOLDEN, MODELS


def example(n_users=80, n_items=30, seed=0):
    rng = np.random.default_rng(seed)
    return sparse.csr_array((rng.random((n_users, n_items)) < rng.random(n_items) * 0.4).astype(float))


# Golden values (tests/golden/make_golden.py makes them without reclab)


@pytest.fixture(scope="module")
def movielens():
    """Training positives, test items and all else that was rated, by leave-last-out."""
    table = pd.read_csv(fetch("movielens-100k")["ml-100k.inter"], sep="\t")
    table.columns = [name.partition(":")[0] for name in table.columns]
    liked = table[table["rating"] >= 4].sort_values("timestamp", kind="stable")
    last = liked.groupby("user_id").tail(1)
    test = last[last["user_id"].map(liked["user_id"].value_counts()) > 1]
    users, items = np.unique(table["user_id"]), np.unique(table["item_id"])
    parts = liked.drop(test.index), test, table.drop(test.index)
    return [interaction_matrix(part, users, items) for part in parts]


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_an_independent_implementation(name, movielens):
    train, test, rated = movielens
    golden = GOLDEN["systems"][name]
    scores = MODELS[name].fit(train).score(train)
    rng = np.random.default_rng(2024)
    projections = [float(rng.random(scores.shape[0]) @ scores @ rng.random(scores.shape[1])) for _ in range(4)]
    assert scores.dtype == np.float64
    assert scores.sum() == pytest.approx(golden["sum"], rel=1e-9)
    assert (scores**2).sum() == pytest.approx(golden["sum_of_squares"], rel=1e-9)
    assert projections == pytest.approx(golden["projections"], rel=1e-9)
    lists = rank.top_k(scores.round(9), 10, exclude=rated)
    assert np.nanmean(metrics.ndcg_at_k(lists, test)) == pytest.approx(golden["ndcg_at_10"], rel=1e-9)
    assert np.nanmean(metrics.recall_at_k(lists, test)) == pytest.approx(golden["recall_at_10"], rel=1e-9)


def test_golden_data_are_the_same_split(movielens):
    train, test, _ = movielens
    assert GOLDEN["data"] == {"users": train.shape[0], "items": train.shape[1], "test_users": test.nnz}


# Models


def brute_item_knn(X, k, shrink):
    X = X.toarray()
    n_items = X.shape[1]
    similar = np.zeros((n_items, n_items))
    for i in range(n_items):
        for j in range(n_items):
            norm = np.sqrt(X[:, i].sum() * X[:, j].sum())
            similar[i, j] = (X[:, i] * X[:, j]).sum() / (norm + shrink) if norm else 0
    scores = np.zeros(X.shape)
    for i in range(n_items):
        others = sorted((j for j in range(n_items) if j != i), key=lambda j: (-round(similar[i, j], 12), j))
        scores[:, i] = X[:, others[:k]] @ similar[i, others[:k]]
    return scores


@pytest.mark.parametrize(("k", "shrink"), [(1, 0), (4, 0), (4, 2.5), (29, 0)])
def test_item_knn_agrees_with_brute_force(k, shrink):
    X = example() @ sparse.diags_array((np.arange(30) != 3).astype(float))  # nobody has item 3
    scores = rank.ItemKNN(k, shrink).fit(X).score(X)
    np.testing.assert_allclose(scores, brute_item_knn(X, k, shrink), rtol=1e-12)
    assert not scores[:, 3].any()


def brute_user_knn(X, others, k):
    X, others = X.toarray(), others.toarray()
    scores = np.zeros(X.shape)
    for user, row in enumerate(X):
        similar = {}
        for v, other in enumerate(others):
            norm = np.sqrt(row.sum() * other.sum())
            similar[v] = row @ other / norm if norm and (row != other).any() else 0
        for v in sorted(similar, key=lambda v: (-round(similar[v], 12), v))[:k]:
            scores[user] += similar[v] * others[v]
    return scores


@pytest.mark.parametrize("k", [1, 6, 80])
def test_user_knn_agrees_with_brute_force(k):
    X = example().tolil()
    X[5], X[6] = X[4], 0  # a twin, and a user without history
    X, new = X.tocsr(), example(n_users=7, seed=1)
    model = rank.UserKNN(k).fit(X)
    for rows in (X, new):
        np.testing.assert_allclose(model.score(rows), brute_user_knn(rows, X, k), rtol=1e-12)
    assert not model.score(X)[6].any()
    assert model.score(new[:0]).shape == (0, 30)


def test_user_knn_blocks_do_not_change_the_result(monkeypatch):
    X = example()
    whole = rank.UserKNN(5).fit(X).score(X)
    monkeypatch.setattr(rank, "_BLOCK", 7)
    np.testing.assert_array_equal(rank.UserKNN(5).fit(X).score(X), whole)


def test_ease_is_the_ridge_regression_of_each_item_on_the_others():
    X = example()
    weights = rank.EASE(l2=3.0).fit(X).weights_
    dense = X.toarray()
    for item in (0, 7, 29):
        others = np.delete(np.arange(30), item)
        ridge = Ridge(alpha=3.0, fit_intercept=False).fit(dense[:, others], dense[:, item])
        np.testing.assert_allclose(weights[others, item], ridge.coef_, rtol=1e-8, atol=1e-10)
    assert not np.diag(weights).any()


def test_ease_says_where_l2_is_too_small():
    twins = sparse.csr_array(np.ones((4, 3)))
    with pytest.raises(ReclabError, match="l2 = 1e-17 is too small"):
        rank.EASE(l2=1e-17).fit(twins)


def test_popularity_counts_each_user_once():
    X = sparse.csr_array(np.array([[5.0, 0, 1], [1, 0, 0]]))
    np.testing.assert_array_equal(rank.Popularity().fit(X).score(X), [[2, 0, 1], [2, 0, 1]])


EVERY_MODEL = [
    rank.Popularity(),
    rank.ItemKNN(5),
    rank.UserKNN(5),
    rank.EASE(),
    rank.ALS(4),
    rank.BPR(4, epochs=2),
]


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_models_read_any_entry_as_one_and_leave_the_input_alone(model):
    X = example()
    ratings = X.copy()
    ratings.data = np.arange(1.0, ratings.nnz + 1)
    before = ratings.copy()
    np.testing.assert_array_equal(model.fit(ratings).score(ratings), model.fit(X).score(X))
    assert (ratings != before).nnz == 0


@pytest.mark.parametrize("model", [rank.Popularity(), rank.ItemKNN(5), rank.UserKNN(5), rank.EASE(), rank.ALS(4)])
def test_models_score_users_that_they_never_saw(model):
    X = example()
    scores = model.fit(X).score(X)
    np.testing.assert_allclose(model.score(X[[4, 9]]), scores[[4, 9]], rtol=1e-12)


@pytest.mark.parametrize("model", [rank.Popularity, rank.ItemKNN, rank.UserKNN, rank.EASE, rank.ALS, rank.BPR])
def test_models_refuse_what_they_were_not_fitted_for(model):
    X = example(n_users=120, n_items=60)
    with pytest.raises(ReclabError, match=rf"{model.__name__} is not fitted yet"):
        model().score(X)
    with pytest.raises(SchemaError, match=r"X has 10 items, .* fitted on 60"):
        model().fit(X).score(X[:, :10])
    X.data[3] = np.nan
    with pytest.raises(SchemaError, match="X holds NaN"):
        model().fit(X)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (rank.ItemKNN(k=0), r"k must be in 1\.\.29 .* got 0"),
        (rank.ItemKNN(k=30), r"k must be in 1\.\.29 .* got 30"),
        (rank.ItemKNN(k=3, shrink=-1), "shrink must be 0 or more"),
        (rank.UserKNN(k=0), r"k must be in 1\.\.80 .* got 0"),
        (rank.UserKNN(k=81), r"k must be in 1\.\.80 .* got 81"),
        (rank.EASE(l2=0), "l2 must be above 0"),
        (rank.EASE(l2=float("nan")), "l2 must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(model, says):
    with pytest.raises(ReclabError, match=says):
        model.fit(example())


# Top-k


def full_sort(scores, k, exclude):
    lists = np.full((len(scores), k), -1)
    for user, row in enumerate(scores):
        left = [i for i in range(len(row)) if not exclude[user, i] and row[i] > -np.inf]
        best = sorted(left, key=lambda i: (-row[i], i))[:k]
        lists[user, : len(best)] = best
    return lists


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_top_k_agrees_with_a_full_sort(k, decimals):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(50, 20)).round(decimals)
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    seen = rng.random(scores.shape) < rng.random((50, 1))
    lists = rank.top_k(scores, k, exclude=sparse.csr_array(seen.astype(float)))
    np.testing.assert_array_equal(lists, full_sort(scores, k, seen))
    assert lists.dtype == np.int64
    np.testing.assert_array_equal(rank.top_k(scores, k), full_sort(scores, k, np.zeros_like(seen)))


def test_a_stored_zero_excludes_nothing_and_the_scores_stay_as_they_were():
    scores = np.array([[1.0, 2.0]])
    stored = sparse.csr_array((np.array([0.0, 1.0]), (np.array([0, 0]), np.array([1, 0]))), shape=(1, 2))
    assert rank.top_k(scores, 2, exclude=stored).tolist() == [[1, -1]]
    assert scores.tolist() == [[1.0, 2.0]]


def test_no_users_give_no_lists():
    assert rank.top_k(np.empty((0, 5)), 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("scores", "k", "exclude", "says"),
    [
        (np.zeros((2, 3)), 0, None, r"k must be in 1\.\.3"),
        (np.zeros((2, 3)), 4, None, r"k must be in 1\.\.3"),
        (np.array([[0, 1.0], [np.nan, 0]]), 1, None, "user 1 hold NaN"),
        (np.zeros(3), 1, None, r"shape \(n_users, n_items\)"),
        (np.zeros((2, 3)), 1, sparse.csr_array((3, 2)), "must agree"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused(scores, k, exclude, says):
    with pytest.raises(ReclabError, match=says):
        rank.top_k(scores, k, exclude)


# Tables


def test_interaction_matrix_counts_a_pair_once():
    table = pd.DataFrame({"user_id": ["b", "a", "b", "b"], "item_id": ["y", "x", "y", "x"]})
    matrix = rank.interaction_matrix(table, ["a", "b", "c"], pd.Series(["x", "y"]))
    assert matrix.toarray().tolist() == [[1, 0], [1, 1], [0, 0]]
    assert matrix.dtype == np.float64 and matrix.nnz == 3


def test_numbers_and_text_are_compared_as_text():
    table = pd.DataFrame({"user_id": [7, 8], "item_id": ["x", "y"]})
    assert interaction_matrix(table, ["8", "7"], ["x", "y"]).toarray().tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("table", "users", "says"),
    [
        ({"user_id": ["a", "z", "q"], "item_id": ["x"] * 3}, ["a"], "user_id 'z' is none of the 1 known ids"),
        ({"user_id": ["a"], "item_id": ["w"]}, ["a"], "item_id 'w' is none of the 2 known ids"),
        ({"user_id": ["a"], "movie": ["x"]}, ["a"], "needs a column 'item_id'; it has user_id, movie"),
        ({"user_id": ["a"], "item_id": ["x"]}, ["a", "a"], "user_id 'a' stands twice"),
        ({"user_id": [3], "item_id": ["x"]}, [4, 5], "user_id 3 is none of the 2 known ids"),
        ({"user_id": [None], "item_id": ["x"]}, ["a"], "user_id .* is none of"),
    ],
)
def test_ids_that_do_not_fit_are_refused(table, users, says):
    with pytest.raises(SchemaError, match=says):
        interaction_matrix(pd.DataFrame(table), users, ["x", "y"])


def recommended(**changes):
    columns = {
        "user_id": ["b", "b", "a", "b"],
        "item_id": ["x", "z", "y", "y"],
        "score": [0.5, 0.9, 0.1, 0.5],
    }
    return pd.DataFrame(columns | changes)


def test_lists_from_scores_and_ranks():
    users, items = ["a", "b", "c"], ["x", "y", "z"]
    by_score = lists_from_table(recommended(), users, items, 2)
    assert by_score.tolist() == [[1, -1], [2, 0], [-1, -1]]
    by_rank = lists_from_table(recommended(rank=[3, 2, 1, 1]), users, items, 3)
    assert by_rank.tolist() == [[1, -1, -1], [1, 2, 0], [-1, -1, -1]]


@pytest.mark.parametrize(
    ("changes", "k", "says"),
    [
        ({"score": [1, 2, np.nan, 3]}, 2, "score in row 2 is nan, not a number"),
        ({"score": [1, 2, "high", 3]}, 2, "score in row 2 is 'high', not a number"),
        ({"score": [1, -np.inf, 2, 3]}, 2, "score in row 1 is -inf, not a finite number"),
        ({"rank": [1, np.inf, 1, 2]}, 2, "rank in row 1 is inf, not a finite number"),
        ({"rank": [1, -2, 1, 2]}, 2, "rank in row 1 is -2, not a rank of 0 or more"),
        (
            {"item_id": ["x", "x", "y", "y"]},
            2,
            "item_id 'x' stands twice for user_id 'b'; it would count twice",
        ),
        ({"rank": [1, 2, 1, 2]}, 2, "rank 2 stands twice for user_id 'b'; which comes first"),
        ({"user_id": ["b", "b", "q", "b"]}, 2, "user_id 'q' is none of the 2 known ids"),
        ({"item_id": ["x", "film", "y", "z"]}, 2, "item_id 'film' is none of the 3 known ids"),
        ({}, 0, "k must be 1 or more"),
    ],
)
def test_tables_that_make_no_lists_are_refused(changes, k, says):
    with pytest.raises(ReclabError, match=says):
        lists_from_table(recommended(**changes), ["a", "b"], ["x", "y", "z"], k)


def test_a_table_without_rank_and_score_is_refused():
    with pytest.raises(SchemaError, match="needs a column 'score'"):
        lists_from_table(recommended().drop(columns="score"), ["a", "b"], ["x", "y", "z"], 2)
