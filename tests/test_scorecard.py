"""The scorecard: its numbers are those of the metrics, its verdicts never outrun their intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reclab import metrics, rank
from reclab.errors import ReclabError, SchemaError, UnknownNameError
from reclab.scorecard import BETTER, UNCLEAR, WORSE, coverage_values, gini_values, scorecard

USERS, ITEMS = [f"u{n}" for n in range(150)], [f"i{n}" for n in range(40)]
rng = np.random.default_rng(0)
POPULARITY = rng.integers(0, 50, 40)
FEATURES = rng.random((40, 6))


def world(seed=0):
    """What each user wants, and three systems: one that knows half of it, one that guesses, its reverse."""
    rng = np.random.default_rng(seed)
    relevant = (rng.random((150, 40)) < 0.15).astype(float)
    relevant[0] = 0  # a user without anything relevant
    good = rank.top_k(relevant * (rng.random(relevant.shape) < 0.5) + rng.random(relevant.shape), 12)
    guess = rank.top_k(rng.random(relevant.shape), 12)
    return relevant, {"guess": guess, "good": good, "guess backwards": guess[:, 9::-1]}


def as_table(lists, *, column="rank"):
    place = np.tile(np.arange(lists.shape[1]), len(lists))
    table = {"user_id": np.repeat(USERS, lists.shape[1]), "item_id": np.array(ITEMS)[lists.ravel()]}
    return pd.DataFrame(table | {column: place + 1 if column == "rank" else -place / 7})


def full(systems, relevant, **options):
    return scorecard(systems, relevant, popularity=POPULARITY, features=FEATURES, **options)


def cell(frame, system, metric):
    return frame[(frame["system"] == system) & (frame["metric"] == metric)].iloc[0]


def test_values_are_those_of_the_metrics():
    relevant, systems = world()
    card = full(systems, relevant, k=10)
    lists = systems["good"][:, :10]
    expected = {
        "NDCG@10": metrics.ndcg_at_k(lists, relevant),
        "recall@10": metrics.recall_at_k(lists, relevant),
        "hit@10": metrics.hit_at_k(lists, relevant),
        "intra-list distance": metrics.intra_list_distance(lists, FEATURES),
        "novelty (bits)": metrics.novelty(lists, POPULARITY),
    }
    for name, values in expected.items():
        row = cell(card.values, "good", name)
        assert (row["value"], row["low"], row["high"]) == metrics.bootstrap_interval(values)
    assert cell(card.values, "good", "NDCG@10")["n_users"] == 149
    assert cell(card.values, "good", "coverage")["value"] == pytest.approx(metrics.coverage(lists, 40))
    assert cell(card.values, "good", "Gini")["value"] == pytest.approx(metrics.gini(lists, 40))
    paired = cell(card.differences, "good", "NDCG@10")
    other = metrics.ndcg_at_k(systems["guess"][:, :10], relevant)
    assert tuple(paired[["difference", "low", "high"]]) == metrics.paired_difference(expected["NDCG@10"], other)


def test_verdicts_name_the_better_system_and_the_same_items_get_none():
    relevant, systems = world()
    card = full(systems, relevant)
    assert cell(card.differences, "good", "NDCG@10")["verdict"] == BETTER
    for metric in ("recall@10", "hit@10", "novelty (bits)", "coverage", "Gini", "intra-list distance"):
        row = cell(card.differences, "guess backwards", metric)
        assert row["difference"] == pytest.approx(0, abs=1e-12)
        assert row["verdict"] == UNCLEAR
    against_good = full(systems, relevant, baseline="good")
    assert cell(against_good.differences, "guess", "NDCG@10")["verdict"] == WORSE
    assert set(against_good.differences["system"]) == {"guess", "guess backwards"}


def test_lower_concentration_is_better():
    relevant, systems = world()
    same = np.tile(np.arange(10), (150, 1))
    card = full({"same for all": same, "guess": systems["guess"]}, relevant)
    row = cell(card.differences, "guess", "Gini")
    assert row["difference"] < 0 and row["verdict"] == BETTER
    assert cell(card.differences, "guess", "coverage")["verdict"] == BETTER


def test_a_verdict_needs_its_interval_off_zero():
    rows = []
    for seed in range(25):
        relevant, systems = world(seed)
        systems["other guess"] = rank.top_k(np.random.default_rng(seed + 99).random((150, 40)), 10)
        rows.append(full(systems, relevant, n_bootstrap=200).differences)
    rows = pd.concat(rows)
    crosses = (rows["low"] <= 0) & (rows["high"] >= 0)
    assert crosses.sum() > 100
    assert set(rows.loc[crosses, "verdict"]) == {UNCLEAR}
    assert (rows.loc[rows["p_holm"] >= 0.05, "verdict"] == UNCLEAR).all()
    assert (rows["p_holm"] >= rows["p_value"]).all()
    # without the correction some of these guesses would pass for better or worse
    guesses = rows[rows["system"] == "other guess"]
    assert (~crosses[rows["system"] == "other guess"]).sum() > 0
    assert (guesses["verdict"] != UNCLEAR).mean() < 0.02


@pytest.mark.parametrize("column", ["rank", "score"])
def test_a_table_from_any_library_gives_the_same_card(column):
    relevant, systems = world()
    truth = pd.DataFrame([(USERS[u], ITEMS[i]) for u, i in np.argwhere(relevant)], columns=["user_id", "item_id"])
    tables = {name: as_table(lists, column=column) for name, lists in systems.items()}
    ours, theirs = full(systems, relevant), full(tables, truth, users=USERS, items=ITEMS)
    pd.testing.assert_frame_equal(ours.values, theirs.values)
    pd.testing.assert_frame_equal(ours.differences, theirs.differences)
    assert ours.note == theirs.note


def test_a_user_missing_from_a_table_counts_as_a_miss_and_is_said():
    relevant, systems = world()
    table = as_table(systems["good"])
    some = table[~table["user_id"].isin(USERS[1:11])]
    card = full({"guess": systems["guess"], "theirs": some}, relevant, users=USERS, items=ITEMS)
    whole = full(systems, relevant)
    lost = np.nansum(metrics.ndcg_at_k(systems["good"][:, :10], relevant)[1:11]) / 149
    before, after = cell(whole.values, "good", "NDCG@10"), cell(card.values, "theirs", "NDCG@10")
    assert after["value"] == pytest.approx(before["value"] - lost)
    assert after["n_users"] == 149 and cell(card.values, "theirs", "novelty (bits)")["n_users"] == 140
    assert "theirs has no list for 10 users" in card.note
    assert "no list" not in whole.note


def test_tables_of_words():
    relevant, systems = world()
    card = full({"a<b": systems["guess"], "good": systems["good"]}, relevant, k=5)
    row = cell(card.values, "good", "NDCG@5")
    assert card.table.loc["good", "NDCG@5"] == f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    assert card.table.columns.tolist()[-2:] == ["coverage", "Gini"]
    assert card.verdicts.index.tolist() == ["good"]
    assert card.verdicts.loc["good", "NDCG@5"].endswith("] better")
    assert card.verdicts.loc["good", "NDCG@5"].startswith("+")
    assert "lists of 5 for 150 users (149 have relevant items) from 40 items; 95% intervals" in repr(card)
    assert "a&lt;b" in card._repr_html_() and "a<b" not in card._repr_html_()


def test_one_system_and_no_side_information_make_a_short_card():
    relevant, systems = world()
    card = scorecard({"guess": systems["guess"]}, relevant)
    assert card.table.columns.tolist() == ["NDCG@10", "recall@10", "hit@10", "coverage", "Gini"]
    assert card.differences.empty and card.verdicts.empty
    assert "better" not in repr(card) + card._repr_html_()


def test_identical_systems_and_constant_differences_have_a_p_value():
    relevant = np.zeros((150, 40))
    relevant[:, 0] = 1
    hit, miss = np.tile(np.arange(10), (150, 1)), np.tile(np.arange(10, 20), (150, 1))
    card = scorecard({"miss": miss, "hit": hit, "again": miss}, relevant)
    assert cell(card.differences, "hit", "NDCG@10")["p_value"] == 0
    assert cell(card.differences, "hit", "NDCG@10")["verdict"] == BETTER
    assert cell(card.differences, "again", "NDCG@10")["p_value"] == 1
    assert cell(card.differences, "hit", "Gini")["verdict"] == UNCLEAR


# Intervals for what is no mean over users


def skewed_lists(rng, n_users, n_items=400, k=5):
    taste = -np.log(rng.random((n_users, n_items))) * (np.arange(n_items) + 1) ** 0.9
    return np.argsort(taste, axis=1)[:, :k]


@pytest.mark.parametrize(("values", "statistic"), [(coverage_values, metrics.coverage), (gini_values, metrics.gini)])
def test_jackknife_values_have_the_right_mean_and_spread(values, statistic):
    rng = np.random.default_rng(8)
    samples = [skewed_lists(rng, 120) for _ in range(150)]
    measured = np.array([statistic(lists, 400) for lists in samples])
    per_user = np.array([values(lists, 400) for lists in samples])
    np.testing.assert_allclose(per_user.mean(axis=1), measured, rtol=1e-9)
    standard_errors = per_user.std(axis=1, ddof=1) / np.sqrt(120)
    assert 0.9 < standard_errors.mean() / measured.std(ddof=1) < 1.6
    inside = np.abs(measured - measured.mean()) < 1.96 * standard_errors
    assert stats.binomtest(int(inside.sum()), 150, 0.95, alternative="less").pvalue > 0.01


def test_resampling_users_would_understate_coverage():
    lists = skewed_lists(np.random.default_rng(9), 120)
    draws = np.random.default_rng(0).integers(120, size=(200, 120))
    resampled = [metrics.coverage(lists[draw], 400) for draw in draws]
    assert np.quantile(resampled, 0.975) < metrics.coverage(lists, 400)


@pytest.mark.parametrize(("values", "statistic"), [(coverage_values, metrics.coverage), (gini_values, metrics.gini)])
def test_jackknife_values_agree_with_leaving_each_user_out(values, statistic):
    lists = skewed_lists(np.random.default_rng(10), 40, n_items=25)
    lists[3:12, 3:] = -1
    lists[5] = -1
    without = np.array([statistic(np.delete(lists, user, axis=0), 25) for user in range(40)])
    expected = statistic(lists, 25) + 39 * (without.mean() - without)
    np.testing.assert_allclose(values(lists, 25), expected, rtol=1e-9, atol=1e-12)


def test_a_gini_that_hangs_on_one_user_has_no_spread():
    assert gini_values(np.array([[0, 1], [-1, -1]]), 4).tolist() == pytest.approx([0.5, 0.5])


# Bad input


@pytest.mark.parametrize(
    ("systems", "options", "error", "says"),
    [
        ({}, {}, ReclabError, "needs a system"),
        ({"a": np.zeros((150, 10), dtype=int)}, {"k": 0}, ReclabError, "k = 0"),
        ({"a": np.zeros((150, 10), dtype=int)}, {}, SchemaError, "system 'a': item 0 stands twice"),
        ({"a": np.zeros((150, 3), dtype=int)}, {}, SchemaError, r"system 'a': lists must .* got \(150, 3\)"),
        ({"a": np.tile(np.arange(10), (9, 1))}, {}, SchemaError, "system 'a': lists are for 9 users"),
        ({"a": pd.DataFrame({"user_id": []})}, {}, SchemaError, "system 'a': a table names ids: give users="),
        ({"a": np.tile(np.arange(10), (150, 1))}, {"baseline": "b"}, UnknownNameError, "no system named 'b'"),
        ({"a": np.tile(np.arange(10), (150, 1))}, {"level": 2}, ReclabError, "level must lie"),
    ],
)
def test_cards_that_cannot_be_made_are_refused(systems, options, error, says):
    with pytest.raises(error, match=says):
        scorecard(systems, world()[0], **options)


def test_a_faulty_table_is_named_with_its_system():
    table = as_table(world()[1]["good"])
    table.loc[4, "item_id"] = "film"
    with pytest.raises(SchemaError, match="system 'theirs': item_id 'film' is none of the 40 known ids"):
        scorecard({"theirs": table}, world()[0], users=USERS, items=ITEMS)


def test_nothing_relevant_is_refused():
    with pytest.raises(SchemaError, match="relevant is empty"):
        scorecard({"a": np.tile(np.arange(10), (150, 1))}, np.zeros((150, 40)))
