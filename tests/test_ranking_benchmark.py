"""The ranking benchmark's own arithmetic and its exit status."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.append(str(Path(__file__).parent / "benchmarks"))

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
