"""The schema against bad tables, splits against brute force, the leakage check against planted leaks."""

import collections
import html
import re
import unicodedata
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest

from reclab import data
from reclab.data import Split, check_leakage
from reclab.errors import LeakageError, SchemaError, UnknownNameError

# The schema


def tables(**changes):
    parts = {
        "users": pd.DataFrame({"user_id": ["ann", "bob"], "age": [20, 30]}),
        "items": pd.DataFrame({"item_id": ["p", "q", "r"], "text": ["a shirt", None, "a hat"]}),
        "interactions": pd.DataFrame(
            {"user_id": ["ann", "bob", "bob"], "item_id": ["p", "p", "q"], "positive": [True, False, True]}
        ),
        "card": data.Card("shop", "a till", "CC0"),
    }
    return parts | changes


def changed(table, column, values):
    return {table: tables()[table].assign(**{column: values})}


def test_a_right_dataset_is_taken_and_counted():
    counts = {"users": 2, "items": 3, "interactions": 3, "positive share": 0.6667, "items with text": 2}
    assert data.Dataset(**tables()).counts() == counts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"users": tables()["users"].rename(columns={"user_id": "user"})}, "users: no column 'user_id'; it has user"),
        ({"interactions": tables()["interactions"][["user_id"]]}, "interactions: no column 'item_id', 'positive'"),
        (changed("users", "user_id", [1, 2]), "users: user_id must be text, its type is int64"),
        (changed("items", "item_id", pd.Series(["p", "q", 3], dtype=object)), "items: item_id must be text"),
        (changed("users", "user_id", ["ann", "ann"]), "users: user_id 'ann' in row 1 stands there twice"),
        ({"users": tables()["users"].assign(user_id="ann").set_axis(["x", "y"])}, "user_id 'ann' in row 1 stands"),
        (changed("interactions", "user_id", ["ann", np.nan, "bob"]), "interactions: user_id is missing in row 1"),
        (changed("interactions", "user_id", ["ann", "eve", "eve"]), "user_id 'eve' in row 1 .* drop the 2 such rows"),
        (changed("interactions", "item_id", ["p", "q", "z"]), "interactions: item_id 'z' in row 2 is not in the items"),
        (changed("interactions", "positive", [1, 0, 1]), "interactions: column 'positive' must be True or False, its"),
        (changed("interactions", "positive", pd.array([True, None, True], "boolean")), "positive is missing in row 1"),
    ],
)
def test_a_wrong_table_is_refused_by_name_column_and_row(changes, message):
    with pytest.raises(SchemaError, match=message):
        data.Dataset(**tables(**changes))


# The card


def test_the_card_shows_the_same_rows_as_text_and_as_an_escaped_table_and_no_empty_one():
    card = data.Card(
        title="shop <b>& co</b>",
        source="a till",
        licence="CC0",
        citation="Till (2020)",
        sha256={"log.csv": "0123456789abcdef" * 4},
        traps=("prices < 0", "no people"),
    )
    rows = [("source", "a till"), ("licence", "CC0"), ("cite", "Till (2020)"), ("users", "2,000"), ("items", "3")]
    rows += [("interactions", "3"), ("positive share", "0.6667"), ("items with text", "2")]
    rows += [("sha256 of log.csv", "0123456789abcdef…"), ("trap 1", "prices < 0"), ("trap 2", "no people")]
    users = pd.DataFrame({"user_id": ["ann", "bob", *map(str, range(1998))]})
    dataset = data.Dataset(**tables(card=card, users=users))
    title, *lines = repr(dataset).splitlines()
    assert title == card.title
    assert [tuple(line.strip().split("  ", 1)) for line in lines] == rows
    page = dataset._repr_html_()
    for word in (card.title, *(word for row in rows for word in row)):
        assert f">{html.escape(word)}</" in page
    assert page.count("<tr>") == len(rows)
    assert "cite" not in repr(data.Dataset(**tables()))


# Splits


def log(n_rows=300, n_users=20, n_items=40, n_moments=60, seed=0):
    """Random interactions, each (user, item) pair at most once, with many equal times and an index out of order."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice(n_users * n_items, n_rows, replace=False)
    return pd.DataFrame(
        {
            "user_id": [f"u{pair // n_items}" for pair in pairs],
            "item_id": [f"i{pair % n_items}" for pair in pairs],
            "positive": rng.random(n_rows) < 0.5,
            "timestamp": pd.to_datetime(rng.integers(0, n_moments, n_rows), unit="s", utc=True),
        },
        index=rng.permutation(n_rows),
    )


SPLITS = {
    "temporal": data.temporal,
    "leave-last-out": data.leave_last_out,
    "cold items": data.cold_items,
    "cold users": data.cold_users,
}
COLD = [(data.cold_items, "item_id"), (data.cold_users, "user_id")]


@pytest.mark.parametrize("kind", SPLITS)
@pytest.mark.parametrize("seed", range(3))
def test_every_split_is_clean_names_its_kind_and_keeps_the_rows_in_order(kind, seed):
    table = log(seed=seed)
    before = table.copy(deep=True)
    split = SPLITS[kind](table)
    assert split.kind == kind
    check_leakage(split)
    check_leakage(Split(kind, *(part.reset_index(drop=True) for part in (split.train, split.test))))  # each from 0
    assert len(split.train) + len(split.test) == len(table)
    for part in (split.train, split.test):
        pd.testing.assert_frame_equal(part, table[table.index.isin(part.index)])
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("at", [0.05, 0.3, 0.5, 0.7, 0.999])
@pytest.mark.parametrize("n_moments", [3, 60, 5000])
def test_temporal_is_the_largest_past_within_the_share(at, n_moments):
    table = log(n_moments=n_moments, seed=4)
    split = data.temporal(table, at=at)
    sizes = [(table["timestamp"] < moment).sum() for moment in table["timestamp"].unique()]
    assert len(split.train) == max(size for size in sizes if size <= at * len(table))
    assert split.train["timestamp"].max() < split.test["timestamp"].min() or not len(split.train)
    assert len(data.temporal(table).train) == len(data.temporal(table, at=0.7).train)


@pytest.mark.parametrize("seed", range(5))
def test_leave_last_out_holds_out_one_latest_row_of_each_user_who_has_two(seed):
    table = log(60, n_users=30, n_items=10, n_moments=8, seed=seed)
    split = data.leave_last_out(table, seed=seed)
    held_out = collections.Counter(split.test["user_id"])
    for row in split.test.itertuples():
        assert row.timestamp == max(table["timestamp"][table["user_id"] == row.user_id])
    rows = collections.Counter(table["user_id"])
    assert 1 in rows.values()
    assert held_out == {user: 1 for user, count in rows.items() if count > 1}
    doubled = data.leave_last_out(table.set_axis(np.arange(60) // 3), seed=seed)  # an index that repeats
    assert doubled.test["item_id"].tolist() == split.test["item_id"].tolist()


def test_leave_last_out_draws_evenly_among_equal_times():
    """Of four rows at the last moment, each is held out in a quarter of 400 draws, give or take four deviations."""
    times = pd.to_datetime([9, 9, 1, 9, 9], unit="s", utc=True)
    table = pd.DataFrame({"user_id": "ann", "item_id": list("abcde"), "timestamp": times})
    held_out = collections.Counter(data.leave_last_out(table, seed=seed).test["item_id"].item() for seed in range(400))
    assert set(held_out) == set("abde")
    assert all(abs(count - 100) < 4 * np.sqrt(400 * 0.25 * 0.75) for count in held_out.values())


@pytest.mark.parametrize(("cold", "column"), COLD)
@pytest.mark.parametrize("folds", [2, 5, 7])
def test_cold_folds_share_out_the_ids_by_seed_whatever_the_order_of_rows(cold, column, folds):
    table = log()
    groups = [set(cold(table, fold=fold, folds=folds).test[column]) for fold in range(folds)]
    ids = set(table[column])
    assert sum(map(len, groups)) == len(ids)
    assert set.union(*groups) == ids
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert set(cold(table.iloc[::-1], folds=folds).test[column]) == groups[0]
    assert set(cold(table, folds=folds, seed=1).test[column]) != groups[0]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (lambda table: data.temporal(table, at=0), "at must be between 0 and 1, got 0"),
        (lambda table: data.temporal(table, at=float("nan")), "at must be between 0 and 1, got nan"),
        (lambda table: data.warm(table, share=1), "share must be between 0 and 1, got 1"),
        (lambda table: data.cold_items(table, fold=5), "fold must be in 0..4, got 5"),
        (lambda table: data.cold_users(table, fold=-1), "fold must be in 0..4, got -1"),
        (lambda table: data.cold_items(table, folds=1), "folds must be at least 2, got 1"),
        (lambda table: data.cold_users(table, folds=21), "folds must be at most the number of distinct user_id (20)"),
    ],
)
def test_an_argument_out_of_range_is_refused(split, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        split(log())


BAD_TIMES = [
    (lambda t: t.drop(columns="timestamp"), "no column 'timestamp'; it has user_id, item_id, positive"),
    (lambda t: t.assign(timestamp=t["timestamp"].mask(t["positive"])), "some rows have no timestamp"),
    (lambda t: t.assign(timestamp=t["timestamp"].astype(str)), "timestamp must be times or numbers, its type is str"),
    (lambda t: t[:0], "there are no rows to split"),
]


@pytest.mark.parametrize("split", [data.temporal, data.leave_last_out])
@pytest.mark.parametrize(("spoil", "message"), BAD_TIMES)
def test_splits_by_time_refuse_bad_times(split, spoil, message):
    with pytest.raises(SchemaError, match=f"^interactions: {message}"):
        split(spoil(log()))


@pytest.mark.parametrize("split", [data.temporal, data.leave_last_out])
def test_numbers_are_times_too(split):
    table = log()
    seconds = split(table.assign(timestamp=table["timestamp"].astype("int64")))
    assert seconds.test.index.tolist() == split(table).test.index.tolist()
    check_leakage(seconds)


# Leaks


def assert_leak(message, kind, train, test):
    with pytest.raises(LeakageError, match="^" + re.escape(message)):
        check_leakage(Split(kind, train, test))


@pytest.mark.parametrize("kind", [*SPLITS, "random"])
@pytest.mark.parametrize("index", ["its own", "another"])
def test_a_pair_on_both_sides_is_a_leak_whatever_its_index(kind, index):
    split = SPLITS.get(kind, data.cold_items)(log())
    leaked = split.test.iloc[[3, 1]]
    train = pd.concat([split.train, leaked if index == "its own" else leaked.set_axis([10_000, 10_001])])
    first = f"first at index {split.test.index[1]}; split with repeats='latest'"
    assert_leak(f"2 (user, item) pair(s) stand in train and in test, {first}", kind, train, split.test)


COMBINED, SIGNS = "café", unicodedata.normalize("NFD", "café")


@pytest.mark.parametrize(("kind", "column"), [("random", "user_id"), ("cold items", "item_id")])
@pytest.mark.parametrize(
    ("one", "other"), [("12", 12), ("12", 12.0), (12, 12.0), ("12.0", "12"), ("12", " 12"), (COMBINED, SIGNS)]
)
def test_an_id_is_the_same_however_it_is_written(kind, column, one, other):
    same = {"user_id": "ann", "item_id": "hat"}
    train, test = (pd.DataFrame([same | {column: value}]) for value in (one, other))
    with pytest.raises(LeakageError, match=r"^1 \(user, item\) pair"):
        check_leakage(Split(kind, train, test))
    with pytest.raises(LeakageError) if kind == "cold items" else nullcontext():
        check_leakage(Split(kind, train, test.assign(user_id="bob")))
    check_leakage(Split(kind, train, test.assign(**{column: "012"})))


def test_one_side_without_rows_is_refused():
    split = data.temporal(log())
    assert_leak("temporal: one side is empty (train 0, test ", "temporal", split.train[:0], split.test)
    assert_leak("random: one side is empty (train ", "random", split.train, split.test[:0])


TEXT = "It fits like a glove, and I wore it to work."  # 44 letters


@pytest.mark.parametrize("kind", SPLITS)
def test_a_long_text_on_both_sides_is_a_leak(kind):
    split = SPLITS[kind](log())
    texts = [f"review {'ab'[row % 2]}{'c' * (row // 2)}, of its own and long enough for all" for row in range(300)]
    train, test = split.train.assign(text=texts[: len(split.train)]), split.test.assign(text=texts[len(split.train) :])
    check_leakage(Split(kind, train, test))
    train.iloc[0, -1] = test.iloc[1, -1] = TEXT
    said = f"1 text(s) stand word for word in train and in test, first at index {test.index[1]}; split again, by time"
    assert_leak(said, kind, train, test)
    test.iloc[1, -1] = TEXT.upper()
    check_leakage(Split(kind, train, test))


def test_short_missing_or_unread_texts_are_no_leak():
    split = data.cold_items(log())
    for value in (TEXT[:40], None, np.nan, 3.5):
        check_leakage(Split(split.kind, split.train.assign(text=value), split.test.assign(text=value)))
    with pytest.raises(LeakageError, match=f"{len(split.test)} text"):
        check_leakage(Split(split.kind, split.train.assign(text=TEXT[:41]), split.test.assign(text=TEXT[:41])))
    check_leakage(Split(split.kind, split.train, split.test.assign(text=TEXT)))


def test_a_train_row_as_late_as_the_test_is_a_leak_of_a_temporal_split():
    split = data.temporal(log())
    first = split.test["timestamp"].min()
    for later, leaks in ((0, split.test["timestamp"] == first), (10_000, split.test["timestamp"] >= first)):
        train = split.train.copy()
        train.iloc[0, train.columns.get_loc("timestamp")] = first + pd.Timedelta(seconds=later)
        said = f"{leaks.sum()} test row(s) are not later than train, first at index {leaks.idxmax()}"
        assert_leak(said, "temporal", train, split.test)
        check_leakage(Split("random", train, split.test))


def test_a_later_train_row_of_the_same_user_is_a_leak_of_leave_last_out():
    split = data.leave_last_out(log(n_moments=5000))
    test, train = split.test, split.train.copy()
    column, row = train.columns.get_loc("timestamp"), 7
    mine = np.flatnonzero(train["user_id"] == test["user_id"].iloc[row])[0]
    train.iloc[mine, column] = test["timestamp"].iloc[row]
    check_leakage(Split("leave-last-out", train, test))  # as late is a draw, which the split allows
    train.iloc[mine, column] += pd.Timedelta(seconds=1)
    said = f"1 test row(s) are earlier than a train row of their user, first at index {test.index[row]}"
    assert_leak(said, "leave-last-out", train, test)
    assert_leak(said, "leave-last-out", train, test.assign(timestamp=test["timestamp"].dt.as_unit("ns")))
    check_leakage(Split("random", train, test))


@pytest.mark.parametrize(("cold", "column"), COLD)
def test_a_known_id_is_a_leak_of_a_cold_split(cold, column):
    split = cold(log())
    leaked = split.test[column].iloc[4]
    other = "user_id" if column == "item_id" else "item_id"
    known = split.train.iloc[[0]].assign(**{column: leaked, other: "someone new"}).set_axis([10_000])
    leaks, train = split.test[column] == leaked, pd.concat([split.train, known])
    said = f"{leaks.sum()} test row(s) hold a value of {column} that train has seen, first at index {leaks.idxmax()}"
    assert_leak(said, split.kind, train, split.test)
    check_leakage(Split("random", train, split.test))


@pytest.mark.parametrize("kind", ["temporal", "leave-last-out"])
@pytest.mark.parametrize("side", ["train", "test"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        *BAD_TIMES[1:3],
        (lambda t: t.assign(timestamp=t["timestamp"].dt.tz_localize(None)), "timestamp must be times or numbers"),
        (lambda t: t.assign(timestamp=t["timestamp"].astype("int64")), "timestamp must be times or numbers"),
    ],
)
def test_a_split_by_time_with_a_bad_or_another_time_on_one_side_is_refused(kind, side, spoil, message):
    parts = {"train": SPLITS[kind](log()).train, "test": SPLITS[kind](log()).test}
    parts[side] = spoil(parts[side])
    with pytest.raises(SchemaError, match=f"^{kind}: " + message.split(",")[0]):
        check_leakage(Split(kind, **parts))


def test_a_kind_that_promises_nothing_known_is_refused():
    split = data.cold_items(log())
    with pytest.raises(UnknownNameError, match="no kind of split named 'cold item'; choose one of: cold items"):
        check_leakage(Split("cold item", split.train, split.test))


# What repeats, templates, and data without times


def bought(*rows):
    """A log of (user, item, day, rating), read in this order."""
    table = pd.DataFrame(rows, range(7, 7 + len(rows)), columns=["user_id", "item_id", "day", "rating"])
    times = pd.to_datetime("2024-05-01", utc=True) + pd.to_timedelta(table.pop("day"), unit="D")
    return table.assign(positive=table["rating"] >= 4, timestamp=times)


AGAIN_AND_AGAIN = [
    *[("a", "x", 3, 5.0), ("a", "x", 1, 2.0), ("b", "x", 1, 4.0), (" a", "x", 2, 5.0), ("a", "y", 5, 1.0)],
    *[("b", "x", 6, 1.0), ("c", "x", 2, 3.0), ("c", "y", 7, 5.0)],
]


@pytest.mark.parametrize(
    ("repeats", "rows", "ratings", "positive"),
    [
        ("allow", list(range(8)), [5, 2, 4, 5, 1, 1, 3, 5], [1, 0, 1, 1, 0, 0, 0, 1]),
        ("error", list(range(8)), [5, 2, 4, 5, 1, 1, 3, 5], [1, 0, 1, 1, 0, 0, 0, 1]),
        ("latest", [0, 4, 5, 6, 7], [5, 1, 1, 3, 5], [1, 0, 0, 0, 1]),
        ("first", [1, 2, 4, 6, 7], [2, 4, 1, 3, 5], [0, 1, 0, 0, 1]),
        ("mean", [0, 4, 5, 6, 7], [4, 1, 2.5, 3, 5], [1, 0, 1, 0, 1]),  # of one for and one against: positive
    ],
)
@pytest.mark.parametrize("split", [data.temporal, data.leave_last_out, data.warm])
def test_repeats_are_resolved_before_the_split(split, repeats, rows, ratings, positive):
    table = bought(*AGAIN_AND_AGAIN)
    found = split(table, repeats=repeats)
    both = pd.concat([found.train, found.test]).sort_index()
    assert both.index.tolist() == [7 + row for row in rows]
    assert both["rating"].tolist() == ratings and both["positive"].tolist() == list(map(bool, positive))
    assert found.repeats == repeats and table.equals(bought(*AGAIN_AND_AGAIN))


def test_a_log_of_purchases_is_split_by_time_as_its_owner_says():
    table = bought(*((f"u{n % 5}", f"i{n % 4}", n, 4.0) for n in range(60)))
    with pytest.raises(LeakageError, match="split with repeats='latest', 'first' or 'mean', or 'allow'"):
        check_leakage(data.temporal(table, at=0.5))
    for repeats in ("latest", "mean", "allow"):
        assert check_leakage(data.temporal(table, at=0.5, repeats=repeats)) == 0


def test_without_times_the_later_row_is_the_latest():
    table = bought(*AGAIN_AND_AGAIN).drop(columns="timestamp")
    kept = data.warm(table, repeats="latest")
    assert sorted([*kept.train.index, *kept.test.index]) == [10, 11, 12, 13, 14]
    with pytest.raises(UnknownNameError, match="there is no way to treat repeats named 'drop'"):
        data.warm(table, repeats="drop")


@pytest.mark.parametrize("seed", range(3))
def test_a_warm_split_leaves_every_user_and_item_in_training(seed, capsys):
    table = log(seed=seed)
    split = data.warm(table, share=0.3, seed=seed)
    assert len(split.test) == 90 and sorted([*split.train.index, *split.test.index]) == list(range(300))
    for column in ("user_id", "item_id"):
        assert set(split.train[column]) == set(table[column])
    latest = split.test["user_id"].map(split.train.groupby("user_id")["timestamp"].max())
    later = split.test["user_id"][split.test["timestamp"] < latest].nunique()
    assert check_leakage(split) == later > 0
    said = f"{later} of {split.test['user_id'].nunique()} test users have training rows later than a test row"
    assert said in capsys.readouterr().out
    assert data.warm(table, share=0.3, seed=seed + 1).test.index.tolist() != split.test.index.tolist()
    assert check_leakage(data.warm(table.drop(columns="timestamp"), seed=seed)) is None
    assert "nobody can say whether training is older" in capsys.readouterr().out
    assert len(data.warm(table, share=0.99).test) < 297


def test_a_warm_split_of_nothing_to_spare_is_refused():
    with pytest.raises(SchemaError, match="no other row"):
        data.warm(pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "x"]}))


def test_templates_across_a_split_are_named_and_can_be_dropped():
    split = data.cold_items(log())
    own = [f"{'ab'[row % 2] * (row // 2 + 1)} is what I thought of this one, all in all" for row in range(300)]
    train = split.train.assign(text=own[: len(split.train)])
    test = split.test.assign(text=own[len(split.train) :])
    users = [train.index[train["user_id"] == user][0] for user in sorted(set(train["user_id"]))[:2]]
    alike = ["Bought 2 of them, and I am VERY happy with it!!", "Bought 14 of them and i am very happy  with it"]
    train.loc[users, "text"] = alike
    asked = test.index[~test["user_id"].isin(train.loc[users, "user_id"])][3]
    test.loc[asked, "text"] = "bought 1 of them; and I am very happy with it."
    split = Split("cold items", train, test)
    words = rf"^1 text\(s\) .*'bought 1 of them; .*first at index {asked}; drop .*without_templates"
    with pytest.raises(LeakageError, match=words):
        check_leakage(split)
    kept = data.without_templates(split)
    assert kept.test.index.tolist() == [row for row in test.index if row != asked] and len(kept.train) == len(train)
    check_leakage(kept)
    train.loc[users[0], "text"] = "Two users are too few for a template of any kind"
    check_leakage(Split("cold items", train, test))
