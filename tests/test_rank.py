"""Models against brute force, closed forms and golden values of other libraries; lists against a full sort."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import chisquare

from reclab import metrics, rank
from reclab.assets import fetch
from reclab.errors import ReclabError, SchemaError

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("golden.json").read_text("utf-8"))
MODELS = {
    "popularity": rank.Popularity(),
    "item_knn": rank.ItemKNN(k=GOLDEN["settings"]["neighbours"]),
    "user_knn": rank.UserKNN(k=GOLDEN["settings"]["neighbours"]),
    "ease": rank.EASE(l2=GOLDEN["settings"]["l2"]),
    "als": rank.ALS(**GOLDEN["als"]),
}


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
    return [rank.interaction_matrix(part, users, items) for part in parts]


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_an_independent_implementation(name, movielens):
    train, test, rated = movielens
    assert GOLDEN["data"] == {"users": train.shape[0], "items": train.shape[1], "test_users": test.nnz}
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
    assert np.nanmean(metrics.accuracy_at_k(lists, test)["recall"]) == pytest.approx(golden["recall_at_10"], rel=1e-9)


# Models


def brute_similarities(rows, others, k, never):
    """Of each row to its k nearest others, 0 to the rest, pair by pair."""
    similar = np.zeros((len(rows), len(others)))
    for i, row in enumerate(rows):
        for j, other in enumerate(others):
            norm = np.sqrt(row.sum() * other.sum())
            if norm and not never(i, j):
                similar[i, j] = row @ other / norm
        similar[i, sorted(range(len(others)), key=lambda j: (-similar[i, j].round(12), j))[k:]] = 0
    return similar


@pytest.mark.parametrize("k", [1, 4, 29, 500])
def test_item_knn_agrees_with_brute_force(k):
    X = example().toarray()
    X[:, 3], X[:, 8] = 0, X[:, 7]  # nobody has item 3; items 7 and 8 are twins
    similar = brute_similarities(X.T, X.T, k, lambda i, j: i == j)
    scores = rank.ItemKNN(k).fit(X).score(X)
    np.testing.assert_allclose(scores, X @ similar.T, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 6, 80, 500])
def test_user_knn_agrees_with_brute_force(k):
    X, new = example().toarray(), example(n_users=7, seed=1).toarray()
    X[5], X[6] = X[4], 0  # a twin, and a user without history
    model = rank.UserKNN(k).fit(X)
    for rows in (X, new):
        similar = brute_similarities(rows, X, k, lambda i, j, rows=rows: (rows[i] == X[j]).all())
        np.testing.assert_allclose(model.score(rows), similar @ X, rtol=1e-12)


def test_als_users_are_weighted_ridge_regressions():
    X = example()
    model = rank.ALS(4, l2=3.0, weight=7.0, epochs=2).fit(X)
    for user, likes in enumerate(X.toarray()):
        weights = np.diag(1 + 6 * likes)
        lhs = model.items_.T @ weights @ model.items_ + 3.0 * np.eye(4)
        expected = np.linalg.solve(lhs, model.items_.T @ weights @ likes)
        np.testing.assert_allclose(model.vectors(X)[user], expected, rtol=1e-9)


def test_every_unliked_item_is_drawn_equally_often_and_no_liked_one():
    X = metrics.binary(np.array([[1, 0, 1, 0, 0, 1.0], [0, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0]]))
    users = np.tile(np.arange(4), 4000)
    drawn = rank.unliked(X, users, np.random.default_rng(0))
    for user in range(4):
        counts = np.bincount(drawn[users == user], minlength=6)
        free = X.toarray()[user] == 0
        assert not counts[~free].any()
        assert free.sum() == 1 or chisquare(counts[free]).pvalue > 0.001


def test_bpr_ranks_users_without_history_nowhere_and_learns_beside_users_who_like_all():
    X = example(40, 25).toarray()
    X[0], X[1] = 0, 1
    scores = rank.BPR(4, epochs=2).fit(X).score(X)
    assert np.isfinite(scores).all() and not scores[0].any()


@pytest.mark.parametrize("model", [rank.ALS(4, epochs=15), rank.BPR(8, epochs=60, batch_size=256)])
def test_unseen_items_of_the_own_camp_come_first(model):
    own = np.kron(np.eye(2), np.ones((30, 20)))  # users of two camps, who like nothing of the other's
    X = own * (np.random.default_rng(0).random(own.shape) < 0.6)
    scores = np.where(X > 0, np.nan, model.fit(X).score(X))
    ours, theirs = (np.nanmean(np.where(side, scores, np.nan), axis=1) for side in (own > 0, own == 0))
    assert (ours > theirs).mean() > 0.95


@pytest.mark.parametrize("model", [rank.ALS, rank.BPR])
def test_the_seed_decides(model):
    X = example()
    scores = [model(4, epochs=2, seed=seed).fit(X).score(X) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[2])


OF_ANY_USER = [rank.Popularity(), rank.ItemKNN(5), rank.UserKNN(5), rank.EASE(), rank.ALS(4)]
EVERY_MODEL = [*OF_ANY_USER, rank.BPR(4, epochs=2)]


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_models_read_any_entry_as_one_and_leave_the_input_alone(model):
    X = example()
    ratings = X.copy()
    ratings.data = np.arange(1.0, ratings.nnz + 1)
    before = ratings.copy()
    np.testing.assert_array_equal(model.fit(ratings).score(ratings), model.fit(X).score(X))
    assert (ratings != before).nnz == 0


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_neither_blocks_nor_company_change_a_score(model, monkeypatch):
    X = example()
    whole = model.fit(X).score(X)
    monkeypatch.setattr(rank, "_BLOCK", 7)
    np.testing.assert_array_equal(model.fit(X).score(X), whole)
    if model in OF_ANY_USER:
        np.testing.assert_allclose(model.score(X[[4, 9]]), whole[[4, 9]], rtol=1e-12)
        assert model.score(X[:0]).shape == (0, 30)


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_models_refuse_what_they_were_not_fitted_for(model):
    name, X = type(model).__name__, example()
    with pytest.raises(ReclabError, match=f"{name} is not fitted yet"):
        type(model)().score(X)
    with pytest.raises(SchemaError, match=r"X has 10 items, .* fitted on 30"):
        model.fit(X).score(X[:, :10])
    X.data[3] = np.nan
    with pytest.raises(SchemaError, match="X holds NaN"):
        model.fit(X)


def test_bpr_refuses_users_that_it_has_no_vectors_for():
    X = example()
    with pytest.raises(SchemaError, match="users and likes of fit only"):
        rank.BPR(4, epochs=1).fit(X).score(X[::-1])


@pytest.mark.parametrize(
    ("model", "X", "says"),
    [
        (rank.ItemKNN(k=0), example(), "ItemKNN: k must be above 0, got 0"),
        (rank.UserKNN(k=0), example(), "UserKNN: k must be above 0, got 0"),
        (rank.EASE(l2=float("nan")), example(), "EASE: l2 must be above 0, got nan"),
        (rank.EASE(l2=1e-17), np.ones((4, 3)), "l2 = 1e-17 is too small"),
        (rank.EASE(), sparse.csr_array((2, 2_000_000)), r"2,000,000 x 2,000,000 need 29,802\.3 GiB of memory"),
        (rank.ALS(weight=-1), example(), "ALS: weight must be above 0"),
        (rank.BPR(batch_size=0), example(), "BPR: batch_size must be above 0"),
        (rank.BPR(), np.ones((3, 4)), "no pairs to learn from"),
    ],
)
def test_what_cannot_be_fitted_is_refused(model, X, says):
    with pytest.raises(ReclabError, match=says):
        model.fit(X)


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_scores_that_memory_cannot_hold_are_refused(model, monkeypatch):
    X = example()
    model.fit(X)
    monkeypatch.setattr(rank, "memory", lambda: (8 * X.size, 8 * X.size - 1))
    if isinstance(model, rank.Popularity):  # one row, whatever the number of users
        assert model.score(sparse.csr_array((1_000_000, 30))).shape == (1_000_000, 30)
    else:
        with pytest.raises(ReclabError, match=r"scores of 80 x 30 need 0\.0 GiB of memory"):
            model.score(X)


# Lists


def full_sort(scores, k, exclude):
    lists = np.full((len(scores), k), -1)
    for user, row in enumerate(scores):
        left = [i for i in range(len(row)) if not exclude[user, i] and row[i] > -np.inf]
        best = sorted(left, key=lambda i: (-row[i], i))[:k]
        lists[user, : len(best)] = best
    return lists


@pytest.mark.parametrize("n_items", [1, 20, 63, 64, 129, 700])
@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_top_k_agrees_with_a_full_sort(n_items, decimals):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(40, n_items)).round(decimals)
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    seen = rng.random(scores.shape) < np.linspace(0, 1, 40)[:, None]
    scores[0, ::8] = 9  # the best at regular distances
    for k in {1, min(10, n_items), n_items}:
        lists = rank.top_k(scores, k, exclude=sparse.csr_array(seen.astype(float)))
        np.testing.assert_array_equal(lists, full_sort(scores, k, seen))
        assert lists.dtype == np.int64
        np.testing.assert_array_equal(rank.top_k(scores, k), full_sort(scores, k, seen & False))


@pytest.mark.parametrize("n_items", [1, 64, 700])
@pytest.mark.parametrize("block", [1, 7, 512])
def test_lists_from_vectors_are_those_of_their_products(n_items, block, monkeypatch):
    rng = np.random.default_rng(0)  # whole numbers: products are exact in any order of summing, and often equal
    users, items = (rng.integers(-9, 10, (n, 3)).astype(np.float32) for n in (40, n_items))
    users.flags.writeable = items.flags.writeable = False
    seen = sparse.csr_array(rng.random((40, n_items)) < np.linspace(0, 1, 40)[:, None], dtype=float)
    monkeypatch.setattr(rank, "_BLOCK", block)
    for k in {1, min(10, n_items), n_items}:
        for exclude in (None, seen):
            found = rank.top_k_products(users, items, k, exclude)
            np.testing.assert_array_equal(found, rank.top_k(users @ items.T, k, exclude))
    assert rank.top_k_products(users[:0], items, 1).shape == rank.top_k(np.empty((0, 5)), 1).shape == (0, 1)


def test_double_precision_is_kept():
    items = np.array([[1.0], [1.0 + 1e-12], [1.0]])
    assert rank.top_k_products(np.ones((1, 1)), items, 1).tolist() == [[1]]
    assert rank.top_k_products(np.ones((1, 1), np.float32), items.astype(np.float32), 1).tolist() == [[0]]


def test_a_stored_zero_excludes_nothing_and_the_scores_stay_as_they_were():
    scores = np.array([[1.0, 2.0]])
    stored = sparse.csr_array((np.array([0.0, 1.0]), (np.array([0, 0]), np.array([1, 0]))), shape=(1, 2))
    assert rank.top_k(scores, 2, exclude=stored).tolist() == [[1, -1]]
    assert scores.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("of_vectors", [False, True])
def test_lists_need_no_memory_for_all_scores(of_vectors):
    rng = np.random.default_rng(0)
    users, items = (rng.random((n, 4), dtype=np.float32) for n in (5_000, 2_000))
    popular = np.broadcast_to(rng.random(2_000), (5_000, 2_000))
    tracemalloc.start()
    rank.top_k_products(users, items, 10) if of_vectors else rank.top_k(popular, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e7 < popular.size * 4


@pytest.mark.parametrize(
    ("scores", "k", "exclude", "says"),
    [
        (np.zeros((2, 3)), 4, None, r"k must be in 1\.\.3, the size of the catalogue, got 4"),
        (np.array([[0, 1.0], [np.nan, 0]]), 1, None, "user 1 hold NaN"),
        (np.zeros(3), 1, None, r"shape \(n_users, n_items\)"),
        (np.zeros((2, 3)), 1, sparse.csr_array((3, 2)), "must agree"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused(scores, k, exclude, says):
    with pytest.raises(ReclabError, match=says):
        rank.top_k(scores, k, exclude)


@pytest.mark.parametrize(
    ("users", "items", "k", "says"),
    [
        (np.ones((2, 3)), np.ones((5, 3)), 6, r"k must be in 1\.\.5"),
        (np.ones((2, 3)), np.ones((5, 4)), 1, r"as many factors, got \(2, 3\) and \(5, 4\)"),
        (np.ones(3), np.ones((5, 3)), 1, "must be vectors"),
        (np.array([[1.0], [np.nan]]), np.ones((5, 1)), 1, "vectors hold NaN, or their products may overflow"),
        (np.ones((1, 1)), np.array([[np.inf]]), 1, "products may overflow"),
        (np.full((1, 2), 1e30, np.float32), np.full((2, 2), 1e30, np.float32), 1, "products may overflow"),
    ],
)
def test_vectors_that_cannot_be_ranked_are_refused(users, items, k, says):
    with pytest.raises(ReclabError, match=says):
        rank.top_k_products(users, items, k)


# Tables


def test_binary_reads_any_entry_as_one_and_a_repeated_one_once():
    repeated = sparse.csr_array(([2.0, -3.0, 0.0], [1, 1, 0], [0, 3]), shape=(1, 3))
    found = metrics.binary(repeated)
    assert found.toarray().tolist() == [[0, 1, 0]] and found.nnz == 1


def test_interaction_matrix_counts_a_pair_once():
    table = pd.DataFrame({"user_id": ["b", "a", "b", "b"], "item_id": ["y", "x", "y", "x"]})
    matrix = rank.interaction_matrix(table, ["a", "b", "c"], pd.Series(["x", "y"]))
    assert matrix.toarray().tolist() == [[1, 0], [1, 1], [0, 0]]
    assert matrix.dtype == np.float64 and matrix.nnz == 3
    numbers = pd.DataFrame({"user_id": [7, 8], "item_id": ["x", "y"]})  # compared as text
    assert rank.interaction_matrix(numbers, ["8", "7"], ["x", "y"]).toarray().tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("table", "users", "says"),
    [
        ({"user_id": ["a", "z", "q"], "item_id": ["x"] * 3}, ["a"], "user_id 'z' is none of the 1 known ids"),
        ({"user_id": ["a"], "movie": ["x"]}, ["a"], "needs a column 'item_id'; it has user_id, movie"),
        ({"user_id": ["a"], "item_id": ["x"]}, ["a", "a"], "user_id 'a' stands twice"),
        ({"user_id": [3], "item_id": ["x"]}, [4, 5], "user_id 3 is none of the 2 known ids"),
        ({"user_id": [None], "item_id": ["x"]}, ["a"], "user_id .* is none of"),
    ],
)
def test_ids_that_do_not_fit_are_refused(table, users, says):
    with pytest.raises(SchemaError, match=says):
        rank.interaction_matrix(pd.DataFrame(table), users, ["x", "y"])


def recommended(**changes):
    columns = {"user_id": ["b", "b", "a", "b"], "item_id": ["x", "z", "y", "y"], "score": [0.5, 0.9, 0.1, 0.5]}
    return pd.DataFrame(columns | changes)


def test_lists_from_scores_and_ranks():
    users, items = ["a", "b", "c"], ["x", "y", "z"]
    by_score = rank.lists_from_table(recommended(), users, items, 2)
    assert by_score.tolist() == [[1, -1], [2, 0], [-1, -1]]
    by_rank = rank.lists_from_table(recommended(rank=[3, 2, 1, 1]), users, items, 3)
    assert by_rank.tolist() == [[1, -1, -1], [1, 2, 0], [-1, -1, -1]]
    by_item = rank.lists_from_table(recommended(score=0.5).sort_values("user_id"), users, items, 2)
    assert by_item.tolist() == [[1, -1], [0, 1], [-1, -1]]


@pytest.mark.parametrize(
    ("changes", "k", "says"),
    [
        ({"score": [1, 2, np.nan, 3]}, 2, "score in row 2 is nan, not a finite number"),
        ({"score": [1, -np.inf, "high", 3]}, 2, "score in row 1 is -inf, not a finite number"),
        ({"rank": [1, -2, 1, 2]}, 2, "rank in row 1 is -2, not a finite number from 0 to inf"),
        ({"item_id": ["x", "x", "y", "y"]}, 2, "item_id 'x' stands twice for user_id 'b'; it would count twice"),
        ({"rank": [1, 2, 1, 2]}, 2, "rank 2 stands twice for user_id 'b'; which comes first"),
        ({"user_id": ["b", "b", "q", "b"]}, 2, "user_id 'q' is none of the 2 known ids"),
        ({}, 0, "k must be 1 or more"),
        ({"score": None}, 2, "needs a column 'score'"),
    ],
)
def test_tables_that_make_no_lists_are_refused(changes, k, says):
    table = recommended(**changes).dropna(axis="columns", how="all")
    with pytest.raises(ReclabError, match=says):
        rank.lists_from_table(table, ["a", "b"], ["x", "y", "z"], k)
