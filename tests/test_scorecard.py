"""The scorecard: its numbers are those of the metrics, its verdicts never outrun their intervals."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from reclab import metrics, rank
from reclab.errors import ReclabError, SchemaError, UnknownNameError
from reclab.rank import lists_from_table, with_our_names
from reclab.scorecard import BETTER, UNCLEAR, WORSE, Evidence, jackknife, measure, scorecard

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


# Values and verdicts


def test_values_are_those_of_the_metrics():
    relevant, systems = world()
    card = full(systems, relevant, k=10)
    lists = systems["good"][:, :10]
    expected = {f"{name}@10": values for name, values in metrics.accuracy_at_k(lists, relevant).items()}
    expected["intra-list distance"] = metrics.intra_list_distance(lists, FEATURES)
    expected["novelty (bits)"] = metrics.novelty(lists, POPULARITY)
    expected["popularity lift"] = metrics.popularity_lift(lists, TRAIN, POPULARITY)
    expected["miscalibration"] = metrics.miscalibration(lists, TRAIN, FEATURES)
    for name, values in expected.items():
        row = cell(card.values, "good", name)
        np.testing.assert_allclose(row[["value", "low", "high"]].astype(float), metrics.bootstrap_interval(values))
    assert cell(card.values, "good", "NDCG@10")["n_users"] == 149
    shown = metrics.shown_matrix(lists, 40).sum(axis=0)
    assert cell(card.values, "good", "coverage")["value"] == pytest.approx((shown > 0).mean())
    assert cell(card.values, "good", "Gini")["value"] == pytest.approx(metrics.gini(shown))
    paired = cell(card.differences, "good", "NDCG@10")
    theirs = metrics.paired_difference(expected["NDCG@10"], metrics.ndcg_at_k(systems["guess"][:, :10], relevant))
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


def test_less_concentration_is_better_and_more_novelty_only_higher():
    relevant, systems = world()
    rare = np.tile(np.argsort(POPULARITY)[:10], (150, 1))
    card = full({"guess": systems["guess"], "rare": rare}, relevant)
    row = cell(card.differences, "rare", "Gini")
    assert row["difference"] > 0 and row["verdict"] == WORSE
    assert cell(card.differences, "rare", "coverage")["verdict"] == WORSE
    assert cell(card.differences, "rare", "novelty (bits)")["verdict"] == "higher"
    assert cell(card.differences, "rare", "popularity lift")["verdict"] == "lower"


def test_a_verdict_needs_its_interval_off_zero():
    relevant, systems = world()
    others = {f"guess {seed}": rank.top_k(np.random.default_rng(seed).random((150, 40)), 10) for seed in range(9)}
    rows = full(systems | others, relevant, n_bootstrap=200).differences
    crosses = (rows["low"] <= 0) & (rows["high"] >= 0)
    assert crosses.sum() > 50 and (~crosses).sum() > 10
    assert (rows.loc[crosses | (rows["p_holm"] >= 0.05), "verdict"] == UNCLEAR).all()
    assert (rows["p_holm"] >= rows["p_value"]).all()


def test_identical_systems_and_constant_differences_have_a_p_value():
    relevant = np.zeros((150, 40))
    relevant[:, 0] = 1
    hit, miss = np.tile(np.arange(10), (150, 1)), np.tile(np.arange(10, 20), (150, 1))
    card = scorecard({"miss": miss, "hit": hit, "again": miss}, relevant)
    assert cell(card.differences, "hit", "NDCG@10")["p_value"] == 0
    assert cell(card.differences, "hit", "NDCG@10")["verdict"] == BETTER
    assert cell(card.differences, "again", "NDCG@10")["p_value"] == 1
    assert cell(card.differences, "hit", "Gini")["verdict"] == UNCLEAR


def test_one_system_and_no_side_information_make_a_short_card():
    card = scorecard({"guess": world()[1]["guess"]}, world()[0])
    accuracy = [f"{name}@10" for name in ("NDCG", "recall", "precision", "MRR", "hit")]
    assert card.table.columns.tolist() == [*accuracy, "coverage", "Gini"]
    assert card.differences.empty and card.verdicts.empty and not card.alarms
    assert "better" not in repr(card) + card._repr_html_()


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


# What is no mean over users


def coverage(shown):
    return (shown > 0).mean()


def skewed(rng, n_users, n_items, k=5):
    taste = -np.log(rng.random((n_users, n_items))) * (np.arange(n_items) + 1) ** 1.5
    return metrics.shown_matrix(np.argsort(taste, axis=1)[:, :k], n_items).toarray()


@pytest.mark.parametrize("statistic", [coverage, metrics.gini])
def test_a_jackknife_of_few_users_leaves_out_each(statistic):
    shown = skewed(np.random.default_rng(10), 40, n_items=25)
    shown[3:12, 3:] = 0
    shown[5] = 0
    without = np.array([statistic(np.delete(shown, user, axis=0).sum(axis=0)) for user in range(40)])
    expected = statistic(shown.sum(axis=0)) + 39 * (without.mean() - without)
    np.testing.assert_allclose(jackknife(statistic, shown), expected, rtol=1e-9, atol=1e-12)


def test_a_jackknife_of_a_mean_has_its_standard_error():
    values = np.random.default_rng(0).gamma(1.0, size=(20_000, 1))
    sums = np.hstack([values, np.ones_like(values)])
    found = jackknife(lambda total: total[0] / total[1], sums)
    assert found.mean() == pytest.approx(values.mean())
    assert found.std() == pytest.approx(values.std(), rel=0.2)  # of 100 parts
    assert jackknife(metrics.gini, np.array([[1, 1, 0, 0], [0, 0, 0, 0]])).tolist() == pytest.approx([0.5, 0.5])


def test_provider_gap_by_hand():
    lists = np.array([[0, 1], [0, -1], [-1, -1]])
    _, found = measure(lists, Evidence(np.eye(3, 4), providers=["a", "b", None, "b"]), 2)
    # shown: a 2/3, b 1/3, unknown 0; in the catalogue 1/4, 1/2, 1/4
    assert found["provider gap"].mean() == pytest.approx((2 / 3 - 1 / 4 + 1 / 6 + 1 / 4) / 2)


def test_a_difference_is_that_of_the_values_though_some_have_no_list():
    relevant, systems = world()
    gaps = systems["good"].copy()
    gaps[20:60] = -1
    data = Evidence(relevant, providers=np.arange(40) % 3)
    card = scorecard({"good": systems["good"], "gaps": gaps}, data)
    coverage = cell(card.values, "good", "coverage")
    assert coverage["value"] == coverage["high"] == 1, "no interval goes beyond what is possible"
    for metric in ("coverage", "Gini", "provider gap"):
        good, less = (cell(card.values, system, metric)["value"] for system in ("good", "gaps"))
        assert cell(card.differences, "gaps", metric)["difference"] == pytest.approx(less - good)


# Tables


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


def small(**more):
    return pd.DataFrame({"user": ["u", "u", "v"], "item": ["x", "y", "z"], "rank": [1, 2, 1]} | more)


def measured(given, **known):
    evidence = Evidence(np.array([[1, 0, 0], [0, 1, 0]]), ["u", "v"], ["x", "y", "z"], **known)
    return measure(given, evidence, 2)[1]


def test_clicks_probabilities_and_explanations_are_measured_where_given():
    explained = ["PIXAR, Disney; dull", "Ghibli", " ; "]
    found = measured(
        small(clicked=[1, 0, 1], probability=[0.9, 0.4, 0.3], explanation=explained),
        texts=pd.Series(["Toy Story (Pixar, Walt Disney)", "A film", "no"], index=[2, 1, 0]),
    )
    assert found["click-through"].tolist() == [0.5, 1]
    np.testing.assert_allclose(found["explained by the text"], [(2 / 3 + 0) / 2, math.nan])
    ece = metrics.expected_calibration_error([1, 0, 0], [0.9, 0.4, 0.3])
    assert found["calibration error"].mean() == pytest.approx(ece)
    assert not {"click-through", "calibration error", "explained by the text"} & set(measured(small()))


@pytest.mark.parametrize("column", ["clicked", "probability"])
@pytest.mark.parametrize("bad", [-0.1, 1.5, "much"])
def test_what_is_no_probability_is_refused(column, bad):
    with pytest.raises(SchemaError, match=f"{column} in row 1 is {bad!r}, not a finite number from 0 to 1"):
        measured(small(**{column: pd.Series([0.5, bad, 0.5], dtype=object)}))


@pytest.mark.parametrize(
    "columns",
    [
        ["user", "item", "score"],
        ["user_id:token", "item_id:token", "score:float"],
        ["UserId", "MovieID", "Prediction"],
        ["q_id", "doc_id", "score"],
    ],
)
def test_names_of_other_libraries_are_known(columns):
    given = pd.DataFrame([("u", "x", 1.0), ("u", "z", 3.0), ("v", "y", 2.0)], columns=columns)
    assert lists_from_table(given, ["u", "v"], ["x", "y", "z"], 2).tolist() == [[2, 0], [1, -1]]
    assert given.columns.tolist() == columns


def test_our_names_come_first_and_two_that_mean_the_same_are_refused():
    given = pd.DataFrame(columns=["user_id", "user", "item", "rating", "score"])
    assert with_our_names(given).columns.tolist() == ["user_id", "user", "item_id", "rating", "score"]
    with pytest.raises(SchemaError, match="columns 'uid' and 'user' could both be the user_id: rename or drop one"):
        with_our_names(pd.DataFrame(columns=["uid", "user", "item"]))


# Evidence


def test_stability_is_the_overlap_of_all_pairs_of_runs():
    runs = [np.array([[0, 1], [2, 0]]), np.array([[1, 0], [1, 0]]), np.array([[0, 2], [1, 0]])]
    found = measured(runs)["stability"]
    pairs = list(itertools.combinations(runs, 2))
    slow = [[len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in zip(*pair, strict=True)] for pair in pairs]
    np.testing.assert_allclose(found, np.mean(slow, axis=0))
    assert "stability" not in measured(runs[:1])


def test_slices_by_warm_tail_and_cold_items():
    train = np.zeros((60, 4))
    train[:30, 0], train[:5, 1] = 1, 1
    relevant = np.zeros((60, 4))
    relevant[30:40, 0], relevant[40:44, 1], relevant[44:46, 2], relevant[46, 3] = 1, 1, 1, 1
    lists = np.tile([0, 2], (60, 1))
    evidence = Evidence(relevant, train=train)
    _, found = measure(lists, evidence, 2, evidence.most_popular(2))
    means = {name: np.nanmean(values) for name, values in found.items() if "items" in name}
    assert means == {"recall@2, cold items": pytest.approx(2 / 3), "recall@2, tail items": 0, "recall@2, warm items": 1}
    assert np.isfinite(found["recall@2, tail items"]).sum() == 4


def test_popularity_shows_what_is_popular_but_not_what_was_rated():
    train = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 1.0]])
    assert Evidence(1 - train, train=train).most_popular(2).tolist() == [[2, -1], [1, 2], [0, 2], [1, -1]]
    assert Evidence(train, train=train, rated=np.zeros((4, 3))).most_popular(9).tolist()[0] == [0, 1, 2]
    disliked = Evidence(np.array([[0, 0, 1], [0, 1, 0]]), ["u", "v"], ["x", "y", "z"], rated=LIKES)
    assert disliked.rated.toarray().tolist() == [[1, 0, 0], [1, 0, 0]]


def test_thirds_by_activity_and_a_profile_with_gaps():
    train = np.tri(9, 9)
    groups = Evidence(np.ones((9, 9)), train=train, profile={"gender": ["F", None, np.nan] * 3}).groups
    assert groups["activity"].tolist() == ["few"] * 3 + ["middle"] * 3 + ["many"] * 3
    assert groups["gender"][0] == "F"


LIKES = pd.DataFrame({"user_id": ["u", "v"], "item_id": ["x", "x"], "positive": [True, False]})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"train": np.ones((2, 4))}, r"train has the shape \(2, 4\), relevant \(2, 3\)"),
        ({"train": np.full((2, 3), np.nan)}, "train holds NaN"),
        ({"providers": ["a"]}, "providers has 1 values, one for each of 3"),
        ({"profile": {"age": [1]}}, "profile 'age' has 1 values, one for each of 2"),
        ({"train": LIKES[:1]}, "give users= and items="),
        ({"train": LIKES}, r"train holds rows that are not positive, so no likes: give train\[train\['positive'\]\]"),
        ({"rated": np.eye(2, 3)}, "rated holds 2 held-out likes"),
    ],
)
def test_evidence_that_does_not_fit_is_refused(options, says):
    with pytest.raises(SchemaError, match=says):
        Evidence(np.ones((2, 3)), **options)


# Groups and alarms


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
    systems["repeats"] = systems["honest"].copy()
    systems["repeats"][0, 3] = np.flatnonzero(train[0])[0]
    return systems, Evidence(relevant, train=train, profile={"gender": np.where(women, "F", "M")})


@pytest.fixture(scope="module")
def suspects():
    return scorecard(*planted())


def test_each_planted_fault_is_pointed_at_and_the_honest_system_is_not(suspects):
    said = {alarm.split(":")[0]: alarm for alarm in suspects.alarms}
    assert set(said) == {"leak", "gamer", "unfair", "unstable", "repeats"}
    assert "test set" in said["leak"] and "popular" in said["gamer"]
    assert "gender F" in said["unfair"] and "runs" in said["unstable"]
    assert said["repeats"] == "repeats: 1 of its places show what the user had rated"
    assert all(f"LOOK: {alarm}" in repr(suspects) for alarm in suspects.alarms)


def test_a_card_of_a_few_users_says_that_it_cannot_tell():
    relevant = np.zeros((150, 40))
    relevant[:19, 0] = 1
    profile = {"job": ["rare"] * 19 + ["usual"] * 131}
    data = Evidence(relevant, train=TRAIN * (relevant == 0), profile=profile)
    card = scorecard({"a": world()[1]["good"]}, data)
    assert card.slices.empty
    assert card.alarms == ("only 19 users have relevant items: too few for a verdict or an alarm",)


def test_groups_are_held_against_all_others(suspects):
    row = suspects.slices.query("system == 'unfair' and group == 'F'").iloc[0]
    systems, data = planted()
    values, women = metrics.ndcg_at_k(systems["unfair"], data.relevant), data.groups["gender"] == "F"
    a, b = values[women], values[~women]
    assert row["gap"] == pytest.approx(a.mean() - b.mean())
    error = math.sqrt(a.var() / len(a) + b.var() / len(b))
    assert row["gap_high"] - row["gap_low"] == pytest.approx(2 * 1.96 * error, rel=0.1)
    np.testing.assert_allclose(row[["value", "low", "high"]].astype(float), metrics.bootstrap_interval(a))
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


# The card


def test_files_hold_the_numbers_and_names_are_escaped(tmp_path):
    relevant, systems = world()
    card = full({"guess": systems["guess"], "<b>50%_&": systems["good"]}, relevant)
    assert card.verdicts.index.tolist() == ["<b>50%_&"]
    assert card.verdicts.loc["<b>50%_&", "NDCG@10"].startswith("+") and "] better" in card.verdicts.iloc[0, 0]
    assert "lists of 10 for 150 users (149 have relevant items) from 40 items; 95% intervals" in repr(card)
    numbers = pd.read_csv(card.save(tmp_path / "card.csv"))
    row = cell(numbers, "<b>50%_&", "NDCG@10")
    assert row["value"] == pytest.approx(cell(card.values, "<b>50%_&", "NDCG@10")["value"])
    said = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    assert card.table.loc["<b>50%_&", "NDCG@10"] == said
    assert row["verdict"] == BETTER and row["low_of_difference"] > 0
    page = card.save(tmp_path / "card.html").read_text("utf-8")
    assert "&lt;b&gt;50%_&amp;" in page and "<b>" not in page
    latex = card.save(tmp_path / "card.tex").read_text("utf-8")
    assert r"<b>50\%\_\&" in latex and latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") >= 2
    with pytest.raises(ReclabError, match=r"\.csv, \.tex or \.html, not as 'card.docx'"):
        card.save(tmp_path / "card.docx")


def test_a_trade_off_names_systems_and_follows_its_menus():
    relevant, systems = world()
    card = full(systems, relevant, measured={"seconds": {"good": 2.5}})
    picture = card.tradeoff("coverage", "NDCG@10")
    assert "good" in picture.alt and picture.png.startswith(b"\x89PNG")
    assert "good 2.500 and" in card.tradeoff("seconds", "NDCG@10").alt
    explorer = card.explore("coverage", "NDCG@10")
    before = explorer.drawn.png
    explorer.controls["across"].value = "Gini"
    assert explorer.drawn.png != before and "Gini" in explorer.drawn.alt
    with pytest.raises(UnknownNameError, match="no metric named 'fun'"):
        card.tradeoff("fun", "NDCG@10")


# Bad input


@pytest.mark.parametrize(
    ("systems", "options", "error", "says"),
    [
        ({}, {}, ReclabError, "needs a system"),
        ({"a": np.zeros((150, 10), dtype=int)}, {"k": 0}, ReclabError, "k = 0"),
        ({"a": np.zeros((150, 10), dtype=int)}, {}, SchemaError, "system 'a': item 0 stands twice"),
        ({"a": np.zeros((150, 3), dtype=int)}, {}, SchemaError, r"system 'a': lists must .* got \(150, 3\)"),
        ({"a": np.tile(np.arange(10), (9, 1))}, {}, SchemaError, "system 'a': lists are for 9 users"),
        ({"a": []}, {}, SchemaError, "system 'a': a system of several runs needs at least one"),
        ({"a": pd.DataFrame({"user_id": []})}, {}, SchemaError, "system 'a': a table names ids: give users="),
        ({"a": np.tile(np.arange(10), (150, 1))}, {"baseline": "b"}, UnknownNameError, "no system named 'b'"),
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
