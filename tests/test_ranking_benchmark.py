"""The ranking benchmark's own arithmetic and its exit status."""

import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from reclab import clicks

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import cross_encoder
import measures
import ranking


def ratings(n_users=4, n_items=25):
    rows = [(f"{u}", f"{i}", i % 3 > 0, u * 100 + i) for u in range(1, n_users + 1) for i in range(n_items)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "positive", "timestamp"])


def test_a_tenth_of_each_user_is_for_testing_and_one_for_validation():
    table = ratings()
    parts = ranking.at_random(table)
    assert [set(part["user_id"].value_counts()) for part in parts] == [{21}, {2}, {2}]
    assert sorted(np.concatenate([part.index for part in parts])) == list(table.index)


def test_the_last_like_is_left_out_of_the_golden_split():
    X = ranking.golden_split(ratings(), ["2", "1", "3", "4"], [f"{i}" for i in range(25)])
    assert X.shape == (4, 25) and X.sum() == 4 * (16 - 1)
    # Of the likes 1, 2, 4, 5, ..., 22, 23 the last is for testing; 0, 3, ..., 24 are not liked.
    assert X.toarray()[:, 22].all() and not X.toarray()[:, 23:].any() and not X.toarray()[:, 0].any()


def test_lists_are_compared_with_a_full_sort_and_memory_is_counted(monkeypatch):
    monkeypatch.setattr(ranking, "ITEMS", 3000)
    monkeypatch.setattr(ranking, "TIMED", 600)
    monkeypatch.setattr(ranking.rank, "top_k_products", lambda users, items, k: np.zeros((len(users), k), int))
    rows = list(ranking.measure_top_k(1000))
    assert not rows[-1]["ok"] and rows[-1]["value"] == ranking.CHECKED
    monkeypatch.undo()
    monkeypatch.setattr(ranking, "ITEMS", 3000)
    monkeypatch.setattr(ranking, "TIMED", 600)
    rows = list(ranking.measure_top_k(1000))
    assert rows[-1]["ok"] and rows[-1]["value"] == 0 and rows[2]["value"] > 1


def test_ease_is_measured_at_four_sizes():
    rows = list(ranking.measure_ease(800))
    assert [line["name"] for line in rows[::2]] == [f"EASE on {n} items" for n in (100, 200, 400, 800)]


def test_check_decides_the_exit_status(monkeypatch):
    rows = [measures.row("a", 1.0, "times", least=2), measures.row("b", 1.0, "times")]
    monkeypatch.setattr(ranking, "measure", lambda largest: iter(rows))
    threads = torch.get_num_threads()
    try:
        assert [ranking.main(["--check"]), ranking.main([])] == [1, 0]
        rows.pop(0)
        assert ranking.main(["--check"]) == 0
    finally:
        torch.set_num_threads(threads)


def test_no_like_of_a_users_last_second_takes_part_in_the_choice_of_settings():
    likes = ratings()[lambda table: table["positive"]]
    likes["timestamp"] = pd.to_datetime(likes["timestamp"].where(likes["item_id"] != "22", likes["timestamp"] + 1))
    split = ranking.validation_split(likes, 0)  # items 22 and 23 now share the last second
    assert set(split.test["item_id"]) == {"20"} and not split.train["item_id"].isin(["20", "22", "23"]).any()


def test_sequences_keep_the_order_of_time_and_draw_within_a_second():
    likes = pd.DataFrame({"user_id": ["u"] * 4, "item_id": list("dcba"), "timestamp": [2, 1, 1, 0]})
    drawn = [ranking.sequences(likes, ["u", "v"], list("abcd"), seed) for seed in range(10)]
    assert {tuple(user) for user, _ in drawn} == {(0, 1, 2, 3), (0, 2, 1, 3)} and all(new == [] for _, new in drawn)


def test_the_pairs_of_the_cross_encoder_never_give_away_the_film():
    movies = movies_of(ratings())
    liked = movies.interactions[movies.interactions["positive"]]
    texts = cross_encoder.pair_texts(movies, liked, movies.interactions, seed=0)
    for text, item in zip(texts, movies.interactions["item_id"], strict=True):
        user, film = text.split(" [SEP] ")
        assert film == f"film {item}. Drama" and f"film {item};" not in f"{user};"
        assert user.count("film") == cross_encoder.LIKED and user.startswith("F, 30, writer. Liked: ")


def test_the_four_numbers_leave_out_the_row_itself():
    table = ratings(n_users=2, n_items=3)  # items 1 and 2 are liked, by both
    found = cross_encoder.four_numbers(table, table.iloc[:2])
    mean = 2 / 3
    np.testing.assert_allclose(found[0], [(2 + 5 * mean) / 7, np.log(3) / 5, 5 * mean / 6, np.log(2) / 5])
    np.testing.assert_allclose(found[1], [(1 + 5 * mean) / 7, np.log(3) / 5, (1 + 5 * mean) / 6, np.log(2) / 5])
    new = table.iloc[:1].set_index(pd.Index([99]))  # a row that training does not have
    np.testing.assert_allclose(cross_encoder.four_numbers(table, new)[0, 0], (2 + 5 * mean) / 8)


def test_a_difference_over_seeds_is_that_of_the_means():
    test = pd.DataFrame({"positive": [True, False, True, False] * 10, "user_id": np.arange(40) // 2})
    right, noise = test["positive"].to_numpy(float), np.random.default_rng(0).random((2, 40))
    found = cross_encoder.over_seeds("auc_minus_other", test, [right, right], list(noise))
    aucs = [clicks.auc(test["positive"], p) for p in noise]
    assert np.isclose(found["auc_minus_other"], 1 - np.mean(aucs))
    assert found["auc_minus_other_low"] < found["auc_minus_other"] < found["auc_minus_other_high"]
    assert np.isnan(list(cross_encoder.over_seeds("auc_minus_other", test, [right]).values())).all()


def movies_of(interactions):
    users = pd.DataFrame({"user_id": ["1", "2", "3", "4"], "gender": "F", "age": 30, "occupation": "writer"})
    ids = [f"{i}" for i in range(25)]
    titles = [f"film {i}" for i in ids]
    items = pd.DataFrame({"item_id": ids, "title": titles, "text": [f"{title}. Drama" for title in titles]})
    return types.SimpleNamespace(users=users, items=items, interactions=interactions)
