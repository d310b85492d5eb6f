"""Lists from vectors against a full sort of all products, ties and padding included."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from reclab import topk
from reclab.errors import ReclabError, SchemaError


def whole_numbers(n_users, n_items, n_factors=3, largest=9, seed=0):
    """Vectors whose products are exact in any order of summing, and often equal."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-largest, largest + 1, (n, n_factors)).astype(np.float32) for n in (n_users, n_items)]


def full_sort(users, items, k, seen):
    scores = np.where(seen, -np.inf, users.astype(float) @ items.T.astype(float))
    lists = np.lexsort((np.tile(np.arange(len(items)), (len(users), 1)), -scores), axis=1)[:, :k]
    lists[np.take_along_axis(scores, lists, axis=1) == -np.inf] = -1
    return lists


@pytest.mark.parametrize("n_items", [1, 20, 63, 64, 65, 128, 700, 1000])
@pytest.mark.parametrize("largest", [1, 9, 1000])
def test_lists_are_those_of_a_full_sort(n_items, largest):
    users, items = whole_numbers(40, n_items, largest=largest)
    seen = np.random.default_rng(1).random((40, n_items)) < np.linspace(0, 1, 40)[:, None]
    for k in {1, min(10, n_items), n_items}:
        found = topk.top_k_products(users, items, k, exclude=sparse.csr_array(seen.astype(float)))
        np.testing.assert_array_equal(found, full_sort(users, items, k, seen))
        np.testing.assert_array_equal(topk.top_k_products(users, items, k), full_sort(users, items, k, seen & False))


def test_best_items_side_by_side_in_one_group_are_all_found():
    items = np.ones((900, 1))
    items[130:145, 0] = np.arange(15) + 2.0
    assert topk.top_k_products(np.ones((1, 1)), items, 10).tolist() == [list(range(144, 134, -1))]


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_blocks_of_users_do_not_change_the_lists(rows, monkeypatch):
    users, items = whole_numbers(50, 300)
    seen = sparse.csr_array(np.random.default_rng(2).random((50, 300)) < 0.3, dtype=float)
    whole = topk.top_k_products(users, items, 8, exclude=seen)
    monkeypatch.setattr(topk, "_USERS", rows)
    np.testing.assert_array_equal(topk.top_k_products(users, items, 8, exclude=seen), whole)


def test_double_precision_is_kept():
    items = np.array([[1.0], [1.0 + 1e-12], [1.0]])
    assert topk.top_k_products(np.ones((1, 1)), items, 1).tolist() == [[1]]
    assert topk.top_k_products(np.ones((1, 1), np.float32), items.astype(np.float32), 1).tolist() == [[0]]


def test_inputs_stay_as_they_were_and_no_users_give_no_lists():
    users, items = whole_numbers(5, 80)
    users.flags.writeable = items.flags.writeable = False
    assert topk.top_k_products(users, items, 3).shape == (5, 3)
    assert topk.top_k_products(users[:0], items, 3).shape == (0, 3)


def test_memory_outside_of_torch_is_that_of_the_lists():
    users, items = whole_numbers(5000, 2000)
    tracemalloc.start()
    topk.top_k_products(users, items, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6 < 5000 * 2000 * 4


@pytest.mark.parametrize(
    ("users", "items", "k", "says"),
    [
        (np.ones((2, 3)), np.ones((5, 3)), 0, r"k must be in 1\.\.5"),
        (np.ones((2, 3)), np.ones((5, 3)), 6, r"k must be in 1\.\.5, the size of the catalogue, got 6"),
        (np.ones((2, 3)), np.ones((5, 4)), 1, "users have 3 factors and items 4"),
        (np.ones(3), np.ones((5, 3)), 1, r"users must be vectors of the shape \(n, n_factors\)"),
        (np.array([[1.0], [np.nan]]), np.ones((5, 1)), 1, "users: the vector of row 1 is not finite"),
        (np.ones((1, 1)), np.array([[np.inf]]), 1, "items: the vector of row 0 is not finite"),
        (np.full((1, 2), 1e30, np.float32), np.full((2, 2), 1e30, np.float32), 1, "may overflow"),
    ],
)
def test_vectors_that_cannot_be_ranked_are_refused(users, items, k, says):
    with pytest.raises(ReclabError, match=says):
        topk.top_k_products(users, items, k)


def test_seen_items_of_other_users_are_refused():
    with pytest.raises(SchemaError, match="must agree"):
        topk.top_k_products(np.ones((2, 3)), np.ones((5, 3)), 1, exclude=sparse.csr_array((3, 5)))
