"""The scorecard: its numbers are those of the metrics, its verdicts never outrun their intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reclab import cards, metrics, rank
from reclab.errors import ReclabError, SchemaError, UnknownNameError
from reclab.jackknife import coverage_values, gini_values
from reclab.scorecard import BETTER, UNCLEAR, WORSE, Evidence, scorecard

USERS, ITEMS = [f"u{n}" for n in range(150)], [f"i{n}" for n in range(40)]
rng = np.random.default_rng(0)
TRAIN = (rng.random((150, 40)) < rng.random(40) / 2).astype(float)
POPULARITY = TRAIN.sum(axis=0)
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
    known = {name: options.pop(name) for name in ("users", "items") if name in options}
    data = Evidence(relevant, train=TRAIN, rated=np.zeros(TRAIN.shape), features=FEATURES, **known)
    return scorecard(systems, data, **options)


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
        np.testing.assert_allclose(row[["value", "low", "high"]].astype(float), metrics.bootstrap_interval(values))
    assert cell(card.values, "good", "NDCG@10")["n_users"] == 149
    assert cell(card.values, "good", "coverage")["value"] == pytest.approx(metrics.coverage(lists, 40))
    assert cell(card.values, "good", "Gini")["value"] == pytest.approx(metrics.gini(lists, 40))
    paired = cell(card.differences, "good", "NDCG@10")
    other = metrics.ndcg_at_k(systems["guess"][:, :10], relevant)
    theirs = metrics.paired_difference(expected["NDCG@10"], other)
    np.testing.assert_allclose(paired[["difference", "low", "high"]].astype(float), theirs)


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
    assert card.table.columns.tolist() == [
        *(f"{name}@10" for name in ("NDCG", "recall", "precision", "MRR", "hit")),
        "coverage",
        "Gini",
    ]
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


# Groups, alarms, files


def planted(seed=0):
    """Popular items first and a taste for a third of them; a system that knows it, and four with a fault."""
    rng = np.random.default_rng(seed)
    taste = rng.integers(3, size=(600, 1)) == np.arange(120) % 3
    chance = (0.15 + 0.85 * taste) / (np.arange(120) + 10)
    order = np.argsort(rng.exponential(size=chance.shape) / chance, axis=1)
    train, relevant = np.zeros((2, *chance.shape))
    np.put_along_axis(train, order[:, 1:16], 1.0, axis=1)
    np.put_along_axis(relevant, order[:, :1], 1.0, axis=1)
    women, noise, honest = rng.random(600) < 0.4, rng.random(chance.shape), np.log(chance)

    def lists(scores):
        return rank.top_k(scores, 10, exclude=train)

    systems = {"honest": lists(honest), "leak": lists(honest + 9 * relevant), "gamer": lists(train.sum(axis=0) + noise)}
    systems["unfair"] = lists(np.where(women[:, None], noise, honest))
    systems["unstable"] = [lists(honest + rng.normal(0, 4, honest.shape)) for _ in range(3)]
    return systems, Evidence(relevant, train=train, profile={"gender": np.where(women, "F", "M")})


@pytest.fixture(scope="module")
def suspects():
    return scorecard(*planted())


def test_each_planted_fault_is_pointed_at_and_the_honest_system_is_not(suspects):
    said = {alarm.split(":")[0]: alarm for alarm in suspects.alarms}
    assert set(said) == {"leak", "gamer", "unfair", "unstable"}
    assert "test set" in said["leak"] and "popular" in said["gamer"]
    assert "gender F" in said["unfair"] and "runs" in said["unstable"]
    assert all(f"LOOK: {alarm}" in repr(suspects) for alarm in suspects.alarms)


def test_groups_are_held_against_all_others(suspects):
    row = suspects.slices.query("system == 'unfair' and group == 'F'").iloc[0]
    systems, data = planted()
    values, women = metrics.ndcg_at_k(systems["unfair"], data.relevant), data.groups["gender"] == "F"
    assert row["gap"] == pytest.approx(values[women].mean() - values[~women].mean())
    np.testing.assert_allclose(row[["value", "low", "high"]].astype(float), metrics.bootstrap_interval(values[women]))
    assert row["verdict"] == WORSE and suspects.groups.loc["unfair", "gender: F"].endswith("worse")
    assert set(suspects.slices["profile"]) == {"gender"}  # all are alike in activity


def test_a_small_group_without_hits_is_not_called_worse():
    relevant = np.zeros((400, 50))
    relevant[:, 0] = 1
    lists = np.tile(np.arange(1, 11), (400, 1))
    lists[:40] = np.arange(10)  # a tenth of the users has a hit, none of them among the 20 of the group
    group = np.where(np.arange(400) >= 380, "few", "rest")
    card = scorecard({"a": lists}, Evidence(relevant, profile={"size": group}))
    row = card.slices.query("group == 'few'").iloc[0]
    assert row["value"] == 0 and row["gap_high"] < 0 and row["verdict"] == UNCLEAR


def test_groups_of_a_few_users_get_no_row():
    relevant, systems = world()
    profile = {"job": ["rare"] * 19 + ["usual"] * 131}
    assert scorecard({"a": systems["good"]}, Evidence(relevant, profile=profile)).slices.empty


def test_more_novelty_is_called_higher_not_better():
    relevant, systems = world()
    rare = np.tile(np.argsort(POPULARITY)[:10], (150, 1))
    card = full({"guess": systems["guess"], "rare": rare}, relevant)
    assert cell(card.differences, "rare", "novelty (bits)")["verdict"] == "higher"
    assert cell(card.differences, "rare", "popularity lift")["verdict"] == "lower"


def test_what_was_measured_elsewhere_joins_with_or_without_an_interval():
    relevant, systems = world()
    robust = {"guess": np.zeros(150), "good": np.linspace(0, 1, 150)}
    card = full(systems, relevant, measured={"seconds": {"good": 2.5}, "kept under typos": robust})
    assert card.table.loc["good", "seconds"] == "2.500" and card.table.loc["guess", "seconds"] == ""
    assert cell(card.differences, "good", "kept under typos")["verdict"] == BETTER
    assert "seconds" not in set(card.differences["metric"])
    with pytest.raises(UnknownNameError, match="no system named 'godo'"):
        full(systems, relevant, measured={"seconds": {"godo": 1}})
    with pytest.raises(SchemaError, match="system 'good': seconds must be one number, or finite numbers for 150 users"):
        full(systems, relevant, measured={"seconds": {"good": np.ones(3)}})


def test_files_hold_the_numbers_and_names_are_escaped(tmp_path):
    relevant, systems = world()
    card = full({"guess": systems["guess"], "<b>50%_&": systems["good"]}, relevant)
    numbers = pd.read_csv(card.save(tmp_path / "card.csv"))
    row = cell(numbers, "<b>50%_&", "NDCG@10")
    assert row["value"] == pytest.approx(cell(card.values, "<b>50%_&", "NDCG@10")["value"])
    assert row["verdict"] == BETTER and row["low_of_difference"] > 0
    page = card.save(tmp_path / "card.html").read_text("utf-8")
    assert "&lt;b&gt;50%_&amp;" in page and "<b>" not in page
    latex = card.save(tmp_path / "card.tex").read_text("utf-8")
    assert r"<b>50\%\_\&" in latex and latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") >= 2
    with pytest.raises(ReclabError, match=r"\.csv, \.tex or \.html, not as 'card.docx'"):
        card.save(tmp_path / "card.docx")


def test_a_trade_off_names_systems_and_follows_its_menus():
    relevant, systems = world()
    card = full(systems, relevant)
    picture = cards.tradeoff(card, "coverage", "NDCG@10")
    assert "good" in picture.alt and picture.png.startswith(b"\x89PNG")
    explorer = cards.explore(card, "coverage", "NDCG@10")
    before = explorer.drawn.png
    explorer.controls["across"].value = "Gini"
    assert explorer.drawn.png != before and "Gini" in explorer.drawn.alt
    with pytest.raises(UnknownNameError, match="no metric named 'fun'"):
        cards.tradeoff(card, "fun", "NDCG@10")


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
        scorecard({"theirs": table}, Evidence(world()[0], USERS, ITEMS))
