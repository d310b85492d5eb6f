"""Splits against brute force, and every promise of the leakage check against a planted leak."""

import collections

import numpy as np
import pandas as pd
import pytest

from reclab import data
from reclab.data import Split, check_leakage
from reclab.errors import LeakageError, ReclabError, SchemaError


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


def assert_parts(split, table):
    """Both sides hold the table's rows, each once, unchanged and in the table's order."""
    train, test = set(split.train.index), set(split.test.index)
    assert not train & test
    assert train | test == set(table.index)
    for part in (split.train, split.test):
        pd.testing.assert_frame_equal(part, table[table.index.isin(part.index)])


SPLITS = {
    "temporal": data.temporal,
    "leave-last-out": data.leave_last_out,
    "cold items": data.cold_items,
    "cold users": data.cold_users,
}


@pytest.mark.parametrize("kind", SPLITS)
@pytest.mark.parametrize("seed", range(3))
def test_every_split_is_clean_names_its_kind_and_keeps_the_rows(kind, seed):
    table = log(seed=seed)
    before = table.copy(deep=True)
    split = SPLITS[kind](table)
    assert split.kind == kind
    check_leakage(split)
    assert_parts(split, table)
    pd.testing.assert_frame_equal(table, before)


# By time


@pytest.mark.parametrize("at", [0.05, 0.3, 0.5, 0.7, 0.999])
@pytest.mark.parametrize("n_moments", [3, 60, 5000])
def test_temporal_is_the_largest_past_within_the_share(at, n_moments):
    table = log(n_moments=n_moments, seed=4)
    split = data.temporal(table, at=at)
    sizes = [(table["timestamp"] < moment).sum() for moment in table["timestamp"].unique()]
    assert len(split.train) == max(size for size in sizes if size <= at * len(table))
    assert split.train["timestamp"].max() < split.test["timestamp"].min() or not len(split.train)


def test_temporal_keeps_equal_times_together_on_the_test_side():
    table = log(6).assign(timestamp=pd.to_datetime([1, 2, 3, 3, 3, 4], unit="s", utc=True))
    for at in (0.4, 0.5, 0.8):  # each cuts among the three rows of second 3
        assert data.temporal(table, at=at).train["timestamp"].tolist() == table["timestamp"].tolist()[:2]


def test_temporal_takes_seventy_percent_unless_told():
    table = log(100, n_users=10).assign(timestamp=pd.to_datetime(np.arange(100)[::-1], unit="s", utc=True))
    assert len(data.temporal(table).train) == 70
    assert data.temporal(table).test["timestamp"].tolist() == table["timestamp"].tolist()[:30]


@pytest.mark.parametrize("at", [0, 1, -0.5, 1.5, float("nan")])
def test_temporal_refuses_a_share_out_of_range(at):
    with pytest.raises(ValueError, match=f"^at must be between 0 and 1, got {at}$"):
        data.temporal(log(), at=at)


# The last of each user


@pytest.mark.parametrize("seed", range(5))
def test_leave_last_out_holds_out_one_latest_row_of_each_user_who_has_two(seed):
    table = log(60, n_users=30, n_items=10, n_moments=8, seed=seed)
    split = data.leave_last_out(table, seed=seed)
    held_out = collections.Counter()
    for row in split.test.itertuples():
        held_out[row.user_id] += 1
        assert row.timestamp == max(table["timestamp"][table["user_id"] == row.user_id])
    rows = collections.Counter(table["user_id"])
    assert 1 in rows.values()
    assert held_out == {user: 1 for user, count in rows.items() if count > 1}


def test_leave_last_out_draws_evenly_among_equal_times():
    """Of four rows at the last moment, each is held out in a quarter of 400 draws, give or take four deviations."""
    table = pd.DataFrame(
        {
            "user_id": ["ann"] * 5 + ["bob"] * 2,
            "item_id": list("abcdeab"),
            "timestamp": pd.to_datetime([9, 9, 1, 9, 9, 5, 5], unit="s", utc=True),
        }
    )
    tests = [data.leave_last_out(table, seed=seed).test["item_id"].tolist() for seed in range(400)]
    ann, bob = (collections.Counter(test[row] for test in tests) for row in (0, 1))
    assert set(ann) == set("abde")
    assert all(abs(count - 100) < 4 * np.sqrt(400 * 0.25 * 0.75) for count in ann.values())
    assert all(abs(count - 200) < 4 * np.sqrt(400 * 0.5 * 0.5) for count in bob.values())
    again = [data.leave_last_out(table, seed=seed).test["item_id"].tolist() for seed in range(400)]
    assert tests == again


def test_leave_last_out_counts_positions_where_the_index_repeats():
    table = log(60, n_users=30, n_items=10, n_moments=5000)
    doubled = table.set_axis(np.arange(60) // 3)
    want = data.leave_last_out(table)
    got = data.leave_last_out(doubled)
    for one, other in ((want.train, got.train), (want.test, got.test)):
        pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True))


# Cold items and users


@pytest.mark.parametrize(("cold", "column"), [(data.cold_items, "item_id"), (data.cold_users, "user_id")])
@pytest.mark.parametrize("folds", [2, 5, 7])
def test_cold_folds_share_out_the_ids(cold, column, folds):
    table = log()
    groups = [set(cold(table, fold=fold, folds=folds).test[column]) for fold in range(folds)]
    ids = set(table[column])
    assert sum(map(len, groups)) == len(ids)
    assert set.union(*groups) == ids
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    for fold, group in enumerate(groups):
        assert not group & set(cold(table, fold=fold, folds=folds).train[column])


@pytest.mark.parametrize(("cold", "column"), [(data.cold_items, "item_id"), (data.cold_users, "user_id")])
def test_cold_groups_depend_on_the_seed_and_not_on_the_order_of_rows(cold, column):
    table = log()
    groups = [frozenset(cold(table, seed=seed).test[column]) for seed in range(6)]
    assert len(set(groups)) == 6
    assert frozenset(cold(table.iloc[::-1]).test[column]) == groups[0]
    assert frozenset(cold(table, fold=0, folds=5, seed=0).test[column]) == groups[0]


@pytest.mark.parametrize("cold", [data.cold_items, data.cold_users])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 5}, r"fold must be in 0\.\.4, got 5"),
        ({"fold": -1}, r"fold must be in 0\.\.4, got -1"),
        ({"folds": 1}, "folds must be at least 2, got 1"),
    ],
)
def test_cold_refuses_a_fold_that_is_not_there(cold, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        cold(log(), **options)


def test_cold_refuses_more_folds_than_ids():
    with pytest.raises(ValueError, match=r"^folds must be at most the number of distinct user_id \(20\), got 21$"):
        data.cold_users(log(), folds=21)


# Bad times


@pytest.mark.parametrize("split", [data.temporal, data.leave_last_out])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda table: table.drop(columns="timestamp"),
            "interactions: no column 'timestamp'; it has user_id, item_id, positive; rename one or add it",
        ),
        (
            lambda table: table.assign(timestamp=table["timestamp"].mask(table["positive"])),
            "interactions: some rows have no timestamp; drop them, or use a split that needs no time",
        ),
        (
            lambda table: table.assign(timestamp=table["timestamp"].astype(str)),
            "interactions: timestamp is text, which sorts '10' before '9'; use pd.to_datetime",
        ),
        (
            lambda table: table[:0],
            "interactions: there are no rows to split; check the filter that came before",
        ),
    ],
)
def test_splits_by_time_refuse_bad_times(split, spoil, message):
    with pytest.raises(SchemaError) as refused:
        split(spoil(log()))
    assert str(refused.value) == message


def test_numbers_are_times_too():
    table = log()
    seconds = table.assign(timestamp=table["timestamp"].astype("int64"))
    assert data.temporal(seconds).test.index.tolist() == data.temporal(table).test.index.tolist()
    assert data.leave_last_out(seconds).test.index.tolist() == data.leave_last_out(table).test.index.tolist()


# Leaks


def assert_leak(split, message):
    with pytest.raises(LeakageError) as refused:
        check_leakage(split)
    assert str(refused.value) == message
    assert isinstance(refused.value, AssertionError)
    assert isinstance(refused.value, ReclabError)


AGAIN = "split again, by time or by group, and check before you train"


@pytest.mark.parametrize("kind", SPLITS)
def test_a_row_on_both_sides_is_a_leak(kind):
    split = SPLITS[kind](log())
    leaked = split.test.iloc[[3, 1]]
    train = pd.concat([split.train, leaked])
    first = split.test.index[1]
    assert_leak(Split(kind, train, split.test), f"2 row(s) stand in train and in test, first at index {first}; {AGAIN}")


@pytest.mark.parametrize("kind", SPLITS)
def test_a_pair_on_both_sides_is_a_leak(kind):
    split = SPLITS[kind](log())
    copied = split.test.iloc[[2]].set_axis([10_000])
    assert_leak(
        Split(kind, pd.concat([split.train, copied]), split.test),
        f"1 (user, item) pair(s) stand in train and in test, first at index {split.test.index[2]}; {AGAIN}",
    )


@pytest.mark.parametrize("kind", SPLITS)
def test_one_side_without_rows_is_refused(kind):
    split = SPLITS[kind](log())
    n_train, n_test = len(split.train), len(split.test)
    assert_leak(Split(kind, split.train[:0], split.test), f"{kind}: one side is empty (train 0, test {n_test} rows)")
    assert_leak(Split(kind, split.train, split.test[:0]), f"{kind}: one side is empty (train {n_train}, test 0 rows)")


TEXT = "It fits like a glove, and I wore it to work."  # 44 letters


@pytest.mark.parametrize("kind", SPLITS)
def test_a_long_text_on_both_sides_is_a_leak(kind):
    split = SPLITS[kind](log())
    texts = [f"review number {row}, of its own and long enough" for row in range(300)]
    train, test = split.train.assign(text=texts[: len(split.train)]), split.test.assign(text=texts[len(split.train) :])
    check_leakage(Split(kind, train, test))
    train.iloc[0, -1] = test.iloc[1, -1] = TEXT
    message = f"1 text(s) stand word for word in train and in test, first at index {test.index[1]}; {AGAIN}"
    assert_leak(Split(kind, train, test), message)
    test.iloc[1, -1] = TEXT.upper()
    check_leakage(Split(kind, train, test))


def test_short_missing_or_unread_texts_are_no_leak():
    split = data.cold_items(log())
    for value in (TEXT[:40], None, np.nan, 3.5):
        check_leakage(Split(split.kind, split.train.assign(text=value), split.test.assign(text=value)))
    assert_leak(
        Split(split.kind, split.train.assign(text=TEXT[:41]), split.test.assign(text=TEXT[:41])),
        f"{len(split.test)} text(s) stand word for word in train and in test, "
        f"first at index {split.test.index[0]}; {AGAIN}",
    )
    check_leakage(Split(split.kind, split.train, split.test.assign(text=TEXT)))


def test_a_train_row_as_late_as_the_test_is_a_leak_of_a_temporal_split():
    split = data.temporal(log())
    first = split.test["timestamp"].min()
    for later, leaks in ((0, split.test["timestamp"] == first), (10_000, split.test["timestamp"] >= first)):
        train = split.train.copy()
        train.iloc[0, train.columns.get_loc("timestamp")] = first + pd.Timedelta(seconds=later)
        message = f"{leaks.sum()} test row(s) are not later than train, first at index {leaks.idxmax()}; {AGAIN}"
        assert_leak(Split("temporal", train, split.test), message)
        check_leakage(Split("any other", train, split.test))


def test_a_later_train_row_of_the_same_user_is_a_leak_of_leave_last_out():
    split = data.leave_last_out(log(n_moments=5000))
    test, train = split.test, split.train.copy()
    column = train.columns.get_loc("timestamp")
    row = 7
    mine = np.flatnonzero(train["user_id"] == test["user_id"].iloc[row])[0]
    train.iloc[mine, column] = test["timestamp"].iloc[row]
    check_leakage(Split("leave-last-out", train, test))  # as late is a draw, which the split allows
    train.iloc[mine, column] += pd.Timedelta(seconds=1)
    message = f"1 test row(s) are earlier than a train row of their user, first at index {test.index[row]}; {AGAIN}"
    assert_leak(Split("leave-last-out", train, test), message)
    check_leakage(Split("any other", train, test))


@pytest.mark.parametrize(("cold", "column"), [(data.cold_items, "item_id"), (data.cold_users, "user_id")])
def test_a_known_id_is_a_leak_of_a_cold_split(cold, column):
    split = cold(log())
    leaked = split.test[column].iloc[4]
    other = "user_id" if column == "item_id" else "item_id"
    known = split.train.iloc[[0]].assign(**{column: leaked, other: "someone new"}).set_axis([10_000])
    leaks = split.test[column] == leaked
    seen = f"{leaks.sum()} test row(s) hold a value of {column} that train has seen"
    message = f"{seen}, first at index {leaks.idxmax()}; {AGAIN}"
    train = pd.concat([split.train, known])
    assert_leak(Split(split.kind, train, split.test), message)
    check_leakage(Split("any other", train, split.test))


def test_splits_of_the_films_are_clean():
    """942 people like at least two films; a share of 0.7 cuts 100,000 ratings within one second."""
    ratings = data.movies().interactions
    likes = ratings[ratings["positive"]]
    last, cut = data.leave_last_out(likes), data.temporal(ratings)
    for split in (last, cut):
        check_leakage(split)
    assert len(last.test) == 942 == (likes["user_id"].value_counts() > 1).sum()
    assert 0 <= 70_000 - len(cut.train) < 100
