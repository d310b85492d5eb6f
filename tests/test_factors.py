"""ALS against the closed form and its own objective; BPR against its definition on data with a known answer."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import chisquare

from reclab import factors, rank
from reclab.errors import ReclabError, SchemaError
from reclab.tables import binary


def example(n_users=40, n_items=25, seed=0):
    rng = np.random.default_rng(seed)
    return sparse.csr_array((rng.random((n_users, n_items)) < 0.25).astype(float))


def two_camps(n=30):
    """Users of two camps; each likes most items of their own and none of the other's."""
    rng = np.random.default_rng(0)
    own = np.kron(np.eye(2), np.ones((n, 20)))
    return sparse.csr_array(own * (rng.random(own.shape) < 0.6)), own


def objective(X, users, items, l2, weight):
    error = (1 + (weight - 1) * X) * (X - users @ items.T) ** 2
    return error.sum() + l2 * ((users**2).sum() + (items**2).sum())


def test_als_users_are_weighted_ridge_regressions():
    X = example()
    model = rank.ALS(4, l2=3.0, weight=7.0, epochs=2).fit(X)
    for user, likes in enumerate(X.toarray()):
        weights = np.diag(1 + 6 * likes)
        lhs = model.items_.T @ weights @ model.items_ + 3.0 * np.eye(4)
        expected = np.linalg.solve(lhs, model.items_.T @ weights @ likes)
        np.testing.assert_allclose(model.vectors(X)[user], expected, rtol=1e-9)


def test_als_lowers_its_objective_until_neither_side_can_improve():
    X = example()
    dense, found = X.toarray(), []
    for epochs in (1, 2, 5, 400):
        model = rank.ALS(4, l2=3.0, weight=7.0, epochs=epochs).fit(X)
        found.append(objective(dense, model.vectors(X), model.items_, 3.0, 7.0))
    assert found == sorted(found, reverse=True) and found[0] > found[-1]
    rng = np.random.default_rng(1)
    for _ in range(20):
        nudged = model.items_ + 1e-3 * rng.standard_normal(model.items_.shape)
        assert objective(dense, model.vectors(X), nudged, 3.0, 7.0) > found[-1]


@pytest.mark.parametrize("model", [rank.ALS(4, epochs=15), rank.BPR(8, epochs=60, batch_size=256)])
def test_unseen_items_of_the_own_camp_come_first(model):
    X, own = two_camps()
    scores = np.where(X.toarray() > 0, np.nan, model.fit(X).score(X))
    ours, theirs = (np.nanmean(np.where(side, scores, np.nan), axis=1) for side in (own > 0, own == 0))
    assert (ours > theirs).mean() > 0.95


@pytest.mark.parametrize("model", [rank.ALS, rank.BPR])
def test_the_seed_decides(model):
    X = example()
    scores = [model(4, epochs=2, seed=seed).fit(X).score(X) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[2])


# Drawing what a user does not like


def test_every_unliked_item_is_drawn_equally_often_and_no_liked_one():
    X = binary(np.array([[1, 0, 1, 0, 0, 1.0], [0, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0]]))
    users = np.tile(np.arange(4), 4000)
    drawn = factors.unliked(X, users, np.random.default_rng(0))
    for user in range(4):
        counts = np.bincount(drawn[users == user], minlength=6)
        free = X.toarray()[user] == 0
        assert not counts[~free].any()
        assert free.sum() == 1 or chisquare(counts[free]).pvalue > 0.001


def test_bpr_pairs_are_a_like_and_an_item_that_is_none():
    X = example()
    model = rank.BPR(4, epochs=3, batch_size=50)
    model.X_ = binary(X)
    dense, batches = X.toarray(), list(model._pairs())
    users, liked, other = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert (dense[users, liked] == 1).all() and not dense[users, other].any()
    assert len(users) == 3 * X.nnz and max(len(batch[0]) for batch in batches) == 50
    assert set(zip(users, liked, strict=True)) == set(zip(*X.nonzero(), strict=True))


# Bad input


def test_bpr_ranks_users_without_history_nowhere_and_learns_beside_users_who_like_all():
    X = example().toarray()
    X[0], X[1] = 0, 1
    model = rank.BPR(4, epochs=2).fit(X)
    assert not model.score(X)[0].any() and np.isfinite(model.score(X)).all()


def test_bpr_refuses_users_that_it_has_no_vectors_for():
    X = example()
    model = rank.BPR(4, epochs=1).fit(X)
    for others in (X[:5], X[::-1]):
        with pytest.raises(SchemaError, match="users and likes of fit only"):
            model.score(others)


@pytest.mark.parametrize("X", [np.zeros((3, 4)), np.ones((3, 4))])
def test_bpr_needs_somebody_who_likes_some_and_not_all(X):
    with pytest.raises(ReclabError, match="no pairs to learn from"):
        rank.BPR().fit(X)


def test_als_of_nothing_scores_nothing():
    assert not rank.ALS(4).fit(example()).score(sparse.csr_array((2, 25))).any()
    assert not rank.ALS(4).fit(np.zeros((3, 4))).score(np.zeros((3, 4))).any()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (rank.ALS(factors=0), "ALS: factors must be above 0, got 0"),
        (rank.ALS(l2=0), "ALS: l2 must be above 0, got 0"),
        (rank.ALS(weight=-1), "ALS: weight must be above 0"),
        (rank.ALS(epochs=0), "ALS: epochs must be above 0"),
        (rank.BPR(batch_size=0), "BPR: batch_size must be above 0"),
        (rank.BPR(learning_rate=float("nan")), "BPR: learning_rate must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(model, says):
    with pytest.raises(ReclabError, match=says):
        model.fit(example())
