"""Your own data: what a file gives, and one line for each way in which it can be wrong."""

import codecs
import datetime
import gzip
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reclab import data
from reclab.data import files
from reclab.errors import AssetError, SchemaError

HEADER = "user_id,item_id,rating,timestamp\n"


@pytest.fixture(autouse=True)
def _in_a_folder_and_warnings_are_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(action="error"):
        yield


def write(text, name="ratings.csv"):
    with open(name, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
    return name


def load(text, **options):
    return data.load_csv(write(text), **options)


# What a file gives


def test_one_csv_becomes_a_dataset():
    mine = load(HEADER + "007,1,5,881250949\n8,b,3,881250950\n007,b,4,881250951\n", licence="CC0")
    log = mine.interactions
    assert log["user_id"].tolist() == ["007", "8", "007"]  # ids are text: no zero is lost
    assert log["item_id"].tolist() == ["1", "b", "b"]
    assert log["positive"].tolist() == [True, False, True]
    assert log["rating"].tolist() == [5, 3, 4]
    first = datetime.datetime(1997, 12, 4, 15, 55, 49, tzinfo=datetime.UTC)
    assert log["timestamp"].tolist() == [first + datetime.timedelta(seconds=second) for second in range(3)]
    assert mine.users["user_id"].tolist() == ["007", "8"]
    assert mine.items.to_dict("list") == {"item_id": ["1", "b"], "text": [None, None]}
    assert (mine.card.title, mine.card.source, mine.card.licence) == ("your data", "ratings.csv", "CC0")
    data.check_leakage(data.temporal(log, at=0.5))


def test_without_timestamps_the_times_are_missing_and_known_as_such():
    log = load("user_id,item_id,rating\n1,2,5\n").interactions
    assert log["timestamp"].isna().all()
    assert str(log["timestamp"].dt.tz) == "UTC"
    with pytest.raises(SchemaError, match="some rows have no timestamp"):
        data.temporal(log)


def test_columns_are_renamed_in_every_file():
    write("who,stars,what\na,5,x\nb,1,x\n")
    write("what,blurb\nx,a hat\n03,a shirt\n", "items.csv")
    write("who,age\na,20\nb,30\n", "users.csv")
    names = {"who": "user_id", "what": "item_id", "stars": "rating", "blurb": "text"}
    mine = data.load_csv("ratings.csv", "items.csv", "users.csv", rename=names)
    assert mine.items.to_dict("list") == {"item_id": ["x", "03"], "text": ["a hat", "a shirt"]}
    assert mine.users.to_dict("list") == {"user_id": ["a", "b"], "age": [20, 30]}
    assert mine.card.source == "ratings.csv, items.csv, users.csv"


@pytest.mark.parametrize(
    ("threshold", "want"), [(4, [False, False, True]), (3.5, [False, True, True]), (6, [False] * 3)]
)
def test_positive_from(threshold, want):
    log = load("user_id,item_id,rating\n1,1,3\n1,2,3.5\n1,3,4\n", positive_from=threshold).interactions
    assert log["positive"].tolist() == want


@pytest.mark.parametrize("flags", ["1 0 1", "True False True", "true FALSE TRUE", "1.0 0.0 1.0"])
def test_positive_as_numbers_or_words(flags):
    rows = "".join(f"u,{number},{flag}\n" for number, flag in enumerate(flags.split()))
    log = load("user_id,item_id,positive\n" + rows).interactions
    assert log["positive"].tolist() == [True, False, True]


def test_positive_goes_before_rating():
    assert load("user_id,item_id,positive,rating\nu,1,0,5\n").interactions["positive"].tolist() == [False]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("0", "86400.5"),
        ("1970-01-01", "1970-01-02 00:00:00.5"),
        ("1970-01-01 00:00:00", "1970-01-02T00:00:00.500Z"),
        ("1970-01-01 02:00:00+02:00", "1970-01-02 00:00:00.5+00:00"),
        ("01/01/1970 00:00:00.0", "01/02/1970 00:00:00.5"),
    ],
)
def test_times_in_seconds_or_as_dates(first, second):
    log = load(HEADER + f"u,1,5,{first}\nu,2,5,{second}\n").interactions
    start = pd.Timestamp("1970-01-01", tz="UTC")
    assert log["timestamp"].tolist() == [start, start + pd.Timedelta(days=1, seconds=0.5)]


@pytest.mark.parametrize("kind", ["datetime", "date", "integer", "zoned"])
def test_parquet(kind):
    dates = pd.to_datetime(["2024-05-31", "2024-06-01"])
    times = {
        "datetime": dates,
        "date": [stamp.date() for stamp in dates],
        "integer": [1_717_113_600, 1_717_200_000],
        "zoned": dates.tz_localize("UTC").tz_convert("Asia/Tokyo"),
    }
    table = pd.DataFrame({"user_id": [1, 2], "item_id": [30, 30], "positive": [True, False], "timestamp": times[kind]})
    table.set_axis([7, 7]).to_parquet("log.parquet")
    mine = data.load_csv("log.parquet")
    assert mine.interactions["user_id"].tolist() == ["1", "2"]
    assert mine.interactions["positive"].tolist() == [True, False]
    assert mine.interactions["timestamp"].tolist() == list(dates.tz_localize("UTC"))
    assert mine.interactions.index.tolist() == [0, 1]
    assert mine.items["item_id"].tolist() == ["30"]


def test_a_byte_order_mark_is_no_part_of_a_name():
    assert load(codecs.BOM_UTF8 + b"user_id,item_id,rating\n1,2,5\n").users["user_id"].tolist() == ["1"]


def test_files_are_only_read():
    before = (HEADER + "a,x,5,1\n").encode()
    load(before)
    with open("ratings.csv", "rb") as file:
        assert file.read() == before


# Bad input

WHEN = "give seconds since 1970 or a date such as 2024-05-31 12:00"
ASIDE = "give a CSV (UTF-8) or Parquet file"
TWICE = "ratings.csv: with `rename` two columns are named {!r}; rename or drop one of them"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "user;item_id;rating\n1;2;5\n",
            "ratings.csv: no column 'user_id', 'item_id'; it has user;item_id;rating; rename one or add it",
        ),
        (
            "user_id,item_id\n1,2\n",
            "ratings.csv (needs 'positive' or 'rating'): no column 'rating'; it has user_id, item_id; "
            "rename one or add it",
        ),
        (HEADER, "ratings.csv: there are no rows below the header; give a file with data"),
        ("", f"ratings.csv cannot be read as a table: No columns to parse from file; {ASIDE}"),
        (
            "user_id,item_id,rating\n1,2,5,9\n1,3,4,9\n",
            f"ratings.csv cannot be read as a table: the rows have more fields than the header has names; {ASIDE}",
        ),
        (
            HEADER + "a,x,5,1\nb,NaN,4,2\n",
            "ratings.csv: item_id is missing in row 1; drop that row or give it an id",
        ),
        (HEADER + "a,x,5,1\na,y,good,2\n", "ratings.csv: rating in row 1 is 'good', not a number"),
        (HEADER + "a,x,5,1\na,y,,2\n", "ratings.csv: rating in row 1 is nan, not a number"),
        ("user_id,item_id,positive\na,x,1\na,y,2\n", "ratings.csv: positive in row 1 is 2, not 0 or 1"),
        ("user_id,item_id,positive\na,x,True\na,y,maybe\n", "ratings.csv: positive in row 1 is 'maybe', not 0 or 1"),
        ("user_id,item_id,positive\na,x,1\na,y,\n", "ratings.csv: positive in row 1 is nan, not 0 or 1"),
        (HEADER + "a,x,5,881250949\na,y,5,yesterday\n", f"ratings.csv: timestamp in row 1 is 'yesterday'; {WHEN}"),
        (HEADER + "a,x,5,2024-05-31\na,y,5,soon\n", f"ratings.csv: timestamp in row 1 is 'soon'; {WHEN}"),
        (HEADER + "a,x,5,05/31/2024\na,y,5,31/05/2024\n", f"ratings.csv: timestamp in row 1 is '31/05/2024'; {WHEN}"),
        (HEADER + "a,x,5,soon\na,y,5,later\n", f"ratings.csv: timestamp in row 0 is 'soon'; {WHEN}"),
        (HEADER + "a,x,5,1\na,y,5,\n", f"ratings.csv: timestamp in row 1 is nan; {WHEN}"),
        # Milliseconds, which would otherwise be the year 52,670.
        (
            HEADER + "a,x,5,1600000000\na,y,5,1600000000000\n",
            f"ratings.csv: timestamp in row 1 is 1600000000000; {WHEN}",
        ),
        (HEADER + "a,x,5,1e30\n", f"ratings.csv: timestamp in row 0 is 1e+30; {WHEN}"),
    ],
)
def test_a_wrong_csv_is_one_line_with_file_column_and_row(text, message):
    with pytest.raises(SchemaError) as refused:
        load(text)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("user_id,item_id,rating\n1,2,5\n1,2,3,4\n", "Expected 3 fields in line 3, saw 4"),
        ("user_id,item_id,rating\né,2,5\n".encode("latin-1"), "'utf-8' codec can't decode byte 0xe9"),
    ],
)
def test_an_unreadable_csv_is_one_line_with_the_reason(text, why):
    with pytest.raises(SchemaError) as refused:
        load(text)
    message = str(refused.value)
    assert message.startswith("ratings.csv cannot be read as a table: ")
    assert why in message
    assert message.endswith(f"; {ASIDE}")
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"", b"not parquet at all", b"PAR1 cut short"])
def test_an_unreadable_parquet_file_is_one_line(content):
    with pytest.raises(
        SchemaError, match=r"^log\.parquet cannot be read as a table: .+[^.]; give a CSV \(UTF-8\)"
    ) as bad:
        data.load_csv(write(content, "log.parquet"))
    assert "\n" not in str(bad.value)


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.parquet"])
@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><title>Sign in</title>",
        b"\n\n  <HTML><body>404</body>",
        codecs.BOM_UTF8 + b"<!doctype html>",
        b"<!-- made by a shop --><html>",
    ],
)
def test_an_html_page_is_named_as_such(name, content):
    with pytest.raises(AssetError) as refused:
        data.load_csv(write(content, name))
    assert str(refused.value) == (
        f"{name} is not the data: an HTML page (of a login or an error) in place of the file; download the file itself"
    )


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.parquet"])
def test_a_git_lfs_pointer_is_named_as_such(name):
    with pytest.raises(AssetError) as refused:
        data.load_csv(write("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 14\n", name))
    pointer = "a Git-LFS pointer in place of the file (run `git lfs pull` where it came from)"
    assert str(refused.value) == f"{name} is not the data: {pointer}; download the file itself"


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_a_file_that_is_not_there(name):
    with pytest.raises(AssetError) as refused:
        data.load_csv(name)
    assert str(refused.value) == f"there is no file {name}; give the path of a CSV or Parquet file"


def test_a_file_that_may_not_be_read_is_one_line(monkeypatch):
    write(HEADER + "a,x,5,1\n")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", "ratings.csv")

    monkeypatch.setattr(pd, "read_csv", refuse)
    with pytest.raises(SchemaError, match=r"^ratings\.csv cannot be read as a table: .*Permission denied"):
        data.load_csv("ratings.csv")


@pytest.mark.parametrize(
    ("header", "rename", "name"),
    [
        ("user,user_id,item_id,rating", {"user": "user_id"}, "user_id"),
        ("user_id,item_id,stars,rating", {"stars": "rating"}, "rating"),
    ],
)
def test_two_columns_of_one_name_are_refused(header, rename, name):
    with pytest.raises(SchemaError) as refused:
        load(header + "\n1,2,3,4\n", rename=rename)
    assert str(refused.value) == TWICE.format(name)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"items": "item_id,text\nx,a hat\n"},
            "interactions: item_id 'y' in row 1 is not in the items table; add it there or drop the 1 such rows",
        ),
        (
            {"users": "user_id\nb\n"},
            "interactions: user_id 'a' in row 0 is not in the users table; add it there or drop the 2 such rows",
        ),
        (
            {"items": "item_id,text\nx,1\n,2\n"},
            "items.csv: item_id is missing in row 1; drop that row or give it an id",
        ),
        (
            {"items": "id,text\nx,1\n"},
            "items.csv: no column 'item_id'; it has id, text; rename one or add it",
        ),
    ],
)
def test_items_and_users_must_fit(files, message):
    write(HEADER + "a,x,5,1\na,y,5,2\n")
    paths = {kind: write(text, f"{kind}.csv") for kind, text in files.items()}
    with pytest.raises(SchemaError) as refused:
        data.load_csv("ratings.csv", **paths)
    assert str(refused.value) == message


def test_parquet_rows_that_miss_a_value_are_named():
    table = pd.DataFrame(
        {"user_id": [1.0, np.nan], "item_id": ["x", "y"], "positive": pd.array([1, None], dtype="Int64")}
    )
    table.to_parquet("log.parquet")
    with pytest.raises(SchemaError, match=r"^log\.parquet: user_id is missing in row 1;"):
        data.load_csv("log.parquet")
    table.assign(user_id="u").to_parquet("log.parquet")
    with pytest.raises(SchemaError, match=r"^log\.parquet: positive in row 1 is nan, not 0 or 1$"):
        data.load_csv("log.parquet")


# Streams


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.parquet"])
def test_a_stream_of_own_rows_is_what_load_csv_gives(name, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 1 << 12)
    rng = np.random.default_rng(0)
    who, what = rng.integers(99, size=900).astype(str), rng.integers(50, size=900).astype(str)
    table = pd.DataFrame({"who": who, "what": what})
    table = table.assign(stars=rng.integers(1, 6, 900), timestamp=rng.integers(1e9, size=900))
    text = table.to_csv(index=False).encode()
    if name.endswith("parquet"):
        table.to_parquet(name, row_group_size=100)
    else:
        write(gzip.compress(text) if name.endswith("gz") else text, name)
    names = {"who": "user_id", "what": "item_id", "stars": "rating"}
    pieces = list(data.stream_csv(name, rename=names, positive_from=3))
    assert len(pieces) > 3
    want = data.load_csv(write(text, "whole.csv"), rename=names, positive_from=3).interactions
    found = pd.concat(pieces).astype({"rating": "int64"})
    pd.testing.assert_frame_equal(found, want, check_dtype=False, check_index_type=False)


def test_ids_keep_their_zeros_behind_a_thousand_columns():
    names = ",".join(f"column_{number}" for number in range(2000))
    row = ",".join(["1"] * 2000)
    content = f"{names},user_id,item_id,rating\n{row},007,08,5\n".encode()
    table = pd.concat(data.stream_csv(write(content, "wide.csv")))
    assert table[["user_id", "item_id"]].values.tolist() == [["007", "08"]]


def test_own_rows_are_counted_over_the_whole_file(monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 64)
    rows = "".join(f"u{number},i,4,5\n" for number in range(40))
    for bad, message in (("u,,4,5\n", "item_id is missing in row 40"), ("u,i,x,5\n", "rating in row 40 is 'x', not a")):
        with pytest.raises(SchemaError, match=message):
            pd.concat(data.stream_csv(write(f"user_id,item_id,rating,timestamp\n{rows}{bad}".encode(), "log.csv")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"user_id,item_id,rating\n", "there are no rows below the header"),
        (b"user_id,rating\n1,2\n", "no column 'item_id'"),
        (b"user_id,item\r_id,rating\n1,2,3\n", "cannot be read"),
        (b'user_id,"' + b"x" * 200_000 + b'",rating\n1,2,3\n', "no column 'item_id'|field larger"),
        (b"user_id,item_id,rating\n1,2,5,6\n", "Expected 3 columns, got 4"),
        (b"user_id,item_id,rating\n\xff,2,5\n", "cannot be read"),
    ],
)
def test_own_rows_that_are_none(content, message):
    with pytest.raises(SchemaError, match=message):
        pd.concat(data.stream_csv(write(content, "log.csv")))


@pytest.mark.parametrize("load", [data.load_csv, lambda path: pd.concat(data.stream_csv(path))])
def test_what_pandas_noted_in_a_parquet_file_is_not_needed(load):
    table = pd.DataFrame({"user_id": ["a"], "item_id": ["b"], "rating": [5.0]}).set_axis([7])
    table.to_parquet("log.parquet", index=True)
    content = Path("log.parquet").read_bytes()
    assert b"numpy_type" in content
    write(content.replace(b"numpy_type", b"numpy_typo"), "log.parquet")
    found = load("log.parquet")
    found = found.interactions if isinstance(found, data.Dataset) else found
    assert list(found.columns) == ["user_id", "item_id", "rating", "positive", "timestamp"]
    assert found["user_id"].tolist() == ["a"]


def test_a_parquet_file_that_is_none():
    with pytest.raises(SchemaError, match=r"log\.parquet cannot be read"):
        pd.concat(data.stream_csv(write(b"PAR1" + bytes(200), "log.parquet")))
