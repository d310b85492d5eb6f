"""Full-size files, in small: each format with its quirks, bad rows named or counted, and what a stream keeps."""

import codecs
import gzip
import json
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import raw_files

from reclab import data
from reclab.data import files, full
from reclab.errors import AssetError, ReclabError, SchemaError, UnknownNameError


@pytest.fixture(autouse=True)
def _in_a_folder_and_warnings_are_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(action="error"):
        yield


def write(content: bytes, name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def whole(tables) -> pd.DataFrame:
    return pd.concat(list(tables))


def refused_and_counted(read, path: Path, why: str, line: int) -> pd.DataFrame:
    """One bad row stops the reading; where such rows are counted, the others are left."""
    with pytest.raises(SchemaError) as caught:
        whole(read(path))
    said = str(caught.value)
    assert said.startswith(f"{path.name}: line {line}: {why}") and "\n" not in said
    assert said.endswith("; fix it, or count and drop such rows with `bad=Counter()`")
    table = whole(read(path, bad=(bad := Counter())))
    assert bad == {why: 1}
    return table


def utc(*texts) -> list:
    return [pd.Timestamp(text, tz="UTC") for text in texts]


# Amazon


def test_reviews_of_2023():
    rows = list(raw_files.reviews_2023(50))
    rows[0] |= {"text": "Lovely<br /><br />Tea &amp; cake, 2 < 3", "timestamp": 1588687728923, "title": ""}
    table = whole(full.amazon_reviews(write(gzip.compress(raw_files.lines(rows)), "r.jsonl.gz")))
    names = {"item_id": "parent_asin", "variant": "asin", "verified": "verified_purchase"}
    for name in ("user_id", "item_id", "variant", "rating", "helpful_vote", "verified"):
        assert table[name].tolist() == [row[names.get(name, name)] for row in rows]
    assert table["positive"].tolist() == [row["rating"] >= 4 for row in rows]
    assert table["n_images"].tolist() == [len(row["images"]) for row in rows]
    assert table["timestamp"].iloc[0] == pd.Timestamp("2020-05-05 14:08:48.923", tz="UTC")
    assert table["text"].iloc[0] == "Lovely Tea & cake, 2 < 3"
    assert pd.isna(table["title"].iloc[0])
    assert table.index.tolist() == list(range(1, 51))


def test_reviews_of_2014_and_2018():
    old = {"reviewerID": "A1", "asin": "0001", "helpful": [2, 5], "reviewText": "Fine", "overall": 5.0}
    old |= {"summary": "Yes", "unixReviewTime": 1252800000, "reviewTime": "09 13, 2009"}
    table = whole(full.amazon_reviews(write(raw_files.lines([*raw_files.REVIEWS_2018, old]), "r.json")))
    first, second, third = table.to_dict("records")
    assert (first["user_id"], first["item_id"], first["rating"]) == ("A3CIUOJXQ5VDQ2", "B0000530HU", 5.0)
    assert table["helpful_vote"].tolist() == [1234, pd.NA, 2]  # nothing is said of the second; of five who voted
    assert first["text"] == "As advertised. Tea & cake <3"
    assert table["n_images"].tolist() == [2, 0, 0]
    assert table["timestamp"].tolist() == utc("2016-09-01", "2013-11-14", "2009-09-13")  # the second by reviewTime
    assert second["item_id"] == "0005019281"
    assert pd.isna(second["text"]) and pd.isna(second["title"]) and pd.isna(third["verified"])
    assert table["positive"].tolist() == [True, False, True]
    some = whole(full.amazon_reviews("r.json", positive_from=2))
    assert some["positive"].all()


def test_items_of_2023():
    table = whole(full.amazon_items(write(gzip.compress(raw_files.lines(raw_files.ITEMS_2023)), "m.jsonl.gz")))
    first, second, third = table.to_dict("records")
    assert first["title"] == "Howard LC0008 & more"
    assert first["text"] == "Howard LC0008 & more\nSoft\nClean\nA leather cleaner."
    assert table["price"].tolist()[::2] == [14.99, 12.0]
    assert np.isnan(second["price"])
    assert (first["average_rating"], first["rating_number"], first["brand"]) == (4.8, 10, "Howard")
    assert (first["categories"], second["main_category"]) == ([], "All Beauty")
    assert third["item_id"] == "0007"
    assert all(map(pd.isna, (first["main_category"], third["title"], third["text"], third["rating_number"])))


def test_items_of_2018_and_prices():
    table = whole(full.amazon_items(write(raw_files.lines(raw_files.ITEMS_2018), "m.json")))
    assert table["price_to"].tolist()[0] == 1019.99
    assert table["price"].isna().tolist() == [False, True, True]
    assert table["text"].iloc[0] == "Loud\nLoud 'N Clear"
    assert (table["categories"].iloc[0], table["brand"].iloc[0]) == (["Beauty", "Hair"], "Mine")
    said = [25, 9.5, "$25.00", "$1,299.00", "$9.99 - $19.99", "from 5.99", "5 - 3"]
    low, high = [25, 9.5, 25, 1299, 9.99, 5.99, 3], [25, 9.5, 25, 1299, 19.99, 5.99, 5]
    junk = ["", "—", None, True, [], ".a{color:#fff}", "$5 off", "1,2", "9" * 400, -3]
    rows = [{"parent_asin": "B", "price": price} for price in [*said, *junk]]
    table = whole(full.amazon_items(write(raw_files.lines(rows), "m.jsonl")))
    assert table["price"].tolist()[: len(low)] == low and table["price_to"].tolist()[: len(low)] == high
    assert table[["price", "price_to"]].tail(len(junk)).isna().all(axis=None)


def test_blocks_of_any_size_give_the_same(monkeypatch):
    path = write(codecs.BOM_UTF8 + raw_files.lines(raw_files.reviews_2023(60)).rstrip(b"\n"), "r.jsonl")
    want = whole(full.amazon_reviews(path))
    assert len(want) == 60
    for size in (100, 1000, 7919):
        monkeypatch.setattr(files, "BLOCK", size)
        found = whole(full.amazon_reviews(path))
        pd.testing.assert_frame_equal(found, want, check_index_type=False)


DEEP = b"[" * 90_000
TIME = "timestamp is not a time from 1990 to 2100 in milliseconds (before 2023: in seconds)"


def broken(between: bytes = b"", **changes) -> bytes:
    """Three reviews, the second of them changed or behind another line."""
    first, second, third = raw_files.reviews_2023(3)
    second = {key: value for key, value in (second | changes).items() if value != "drop"}
    return raw_files.lines([first]) + between + raw_files.lines([second, third])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        *((broken(rating=value), "rating is not a number from 0 to 5") for value in ("good", 50, float("nan"), True)),
        *((broken(user_id=value), "user_id is not an id") for value in (None, "")),
        (broken(parent_asin="drop"), "item_id is not an id"),
        (broken(timestamp=1588687728), TIME),
        (broken(b'{"a":\n'), "not a JSON object"),
        (broken(b"[1]\n"), "not a JSON object"),
        (broken(b"null\n"), "not a JSON object"),
        (broken(DEEP + b"\n"), "not a JSON object"),
        (broken(b"\xff\n"), "not UTF-8"),
    ],
)
def test_a_bad_review_is_named_or_counted(content, why):
    table = refused_and_counted(full.amazon_reviews, write(content, "r.jsonl"), why, 2)
    assert len(table) == content.count(b"\n") - 1


def test_numbers_as_text_and_half_characters_are_read():
    changes = {"user_id": 12, "text": "\ud83d\ude00 \ud83d!", "timestamp": 1.5e12, "helpful_vote": None}
    row = whole(full.amazon_reviews(write(broken(**changes), "r"))).iloc[1]
    assert (row["user_id"], row["text"]) == ("12", "\U0001f600 !")
    assert pd.isna(row["helpful_vote"])
    assert row["timestamp"] == pd.Timestamp(1.5e12, unit="ms", tz="UTC")


def test_metadata_of_2014_and_files_of_another_kind_are_told_apart():
    with pytest.raises(SchemaError, match="a Python literal, as in the metadata of 2014, not JSON: take the files of"):
        whole(full.amazon_items(write(raw_files.OLD_ITEM, "m.json")))
    with pytest.raises(SchemaError, match="line 1: user_id is not an id in"):
        whole(full.amazon_reviews(write(raw_files.lines(raw_files.ITEMS_2023), "m.jsonl")))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a &#233;<p class='x'>b</p>", "a é b"),
        ("1 < 2 and 3 > 2, a<b and c>d", "1 < 2 and 3 > 2, a<b and c>d"),
        ("&#" + "9" * 5000 + ";", "&#" + "9" * 5000 + ";"),
        ("<a" * 200_000, "<a" * 200_000),
        ("&" * 200_000, "&" * 200_000),
    ],
    ids=["entities", "signs", "digits", "tags", "ands"],
)
def test_texts_of_any_kind_lose_their_markup_in_a_moment(text, want):
    path, start = write(broken(text=text), "r.jsonl"), time.process_time()
    assert whole(full.amazon_reviews(path))["text"].iloc[1] == want
    assert time.process_time() - start < 2


# MovieLens


@pytest.mark.parametrize("kind", ["zip", "folder"])
@pytest.mark.parametrize("size", ["ml-100k", "ml-1m", "ml-latest-small"])
def test_movielens(size, kind):
    source, content = Path(size), raw_files.MOVIELENS[size]
    if kind == "zip":
        source = write(raw_files.zipped(content, size), f"{size}.zip")
    for name, text in content.items() if kind == "folder" else ():
        write(text, f"{size}/{name}")
    log = whole(full.movielens_ratings(source))
    want = {
        "ml-100k": [["196", "242", 3.0, False], ["186", "302", 5.0, True]],
        "ml-1m": [["1", "1193", 5.0, True], ["1", "661", 3.0, False], ["6040", "3952", 4.0, True]],
        "ml-latest-small": [["1", "1", 4.0, True], ["1", "3", 0.5, False]],
    }
    assert log[["user_id", "item_id", "rating", "positive"]].values.tolist() == want[size]
    moments = {
        "ml-100k": "1997-12-04 15:55:49",
        "ml-1m": "2000-12-31 22:12:40",
        "ml-latest-small": "2000-07-30 18:45:03",
    }
    assert log["timestamp"].tolist()[:1] == utc(moments[size])
    if size == "ml-100k":
        with pytest.raises(AssetError, match=r"ml-100k(\.zip)? holds none of movies\.csv, movies\.dat"):
            full.movielens_items(source)
        return
    films = full.movielens_items(source)
    if size == "ml-1m":
        assert films["title"].tolist() == ["Toy Story", "Misérables, Les"]
        assert films["genres"][0] == ["Animation", "Children's", "Comedy"]
        assert films["text"].tolist()[1] == "Misérables, Les (1995). Drama"
    else:
        lost = "City of Lost Children, The (Cité des enfants perdus, La)"
        assert films["title"].tolist()[1:] == [lost, 'Say "Anything"']
        assert films["genres"].tolist()[2] == []
        assert films["text"].tolist()[2] == 'Say "Anything". '
        assert films["year"].tolist()[:2] == [1995, 1995] and pd.isna(films["year"][2])


@pytest.mark.parametrize(
    ("rows", "why", "line"),
    [
        ("1,2,9,5\n", "rating is not 0.5 to 5", 3),
        ("1,2,x,5\n", "rating is not 0.5 to 5", 3),
        (",2,4,5\n", "user_id is not an id", 3),
        ("1,2,4,soon\n", "timestamp is not in seconds since 1970", 3),
        ("1,2,4,1588687728923\n", "timestamp is not in seconds since 1970", 3),
        ("1,2\n", "not 4 fields", 3),
        ("1,2,4,5,6\n", "not 4 fields", 3),
        ('1,"2,4,5\n', "double quotes do not enclose a whole field", 3),
        ('"1"2,2,4,5\n', "double quotes do not enclose a whole field", 3),
        ("\n\n1,2,x,5\n", "rating is not 0.5 to 5", 5),
    ],
)
def test_a_bad_rating_is_named_or_counted(rows, why, line):
    path = write(f"userId,movieId,rating,timestamp\n1,1,4,5\n{rows}2,2,3,6\n".encode(), "ratings.csv")
    table = refused_and_counted(full.movielens_ratings, path, why, line)
    assert table["item_id"].tolist() == ["1", "2"]  # the rows beside it, with their lines
    assert table.index.tolist() == [2, 3 + rows.count("\n")]


def test_two_open_quotes_do_not_swallow_what_lies_between():
    path = write(b'userId,movieId,rating,timestamp\n1,"1,4,5\n2,2,3,6\n3,3,3,7\n4,4",3,8\n5,5,3,9\n', "ratings.csv")
    with pytest.raises(SchemaError, match=r"ratings\.csv: line 2: double quotes do not enclose a whole field"):
        whole(full.movielens_ratings(path))
    assert whole(full.movielens_ratings(path, bad=(bad := Counter())))["user_id"].tolist() == ["2", "3", "5"]
    assert bad == {"double quotes do not enclose a whole field": 2}


def test_a_file_of_bad_rows_is_no_file_of_this_format():
    rows = b"1;1;4;5\n2;2;3;6\n3;3;3;7\n"
    with pytest.raises(SchemaError, match=r"0 rows are sound and 3 are not: \{'not 4 fields': 3\}; look at the file"):
        whole(full.movielens_ratings(write(b"userId,movieId,rating,timestamp\n" + rows, "ratings.csv"), Counter()))
    for content in (b"userId,movieId,rating,timestamp\n", b"userId,movieId,rating,timestamp\n\n \n"):
        with pytest.raises(SchemaError, match="there are no rows; give a file with data"):
            whole(full.movielens_ratings(write(content, "ratings.csv")))


def test_films_of_10m_are_in_another_encoding_than_those_of_1m():
    for encoding in ("utf-8", "latin-1"):
        content = "73::Misérables, Les (1995)::Drama\n".encode(encoding)
        assert full.movielens_items(write(content, "movies.dat"))["title"].tolist() == ["Misérables, Les"]
    with pytest.raises(SchemaError, match=r"movies\.csv: line 2: not UTF-8; fix it"):
        full.movielens_items(write("movieId,title,genres\n73,Misérables,Drama\n".encode("latin-1"), "movies.csv"))
    with pytest.raises(SchemaError, match=r"movies\.dat: the film 73 stands there twice; remove one"):
        full.movielens_items(write(content * 2, "movies.dat"))


def test_a_title_of_a_million_blanks_takes_no_time():
    title = b"a" + b" " * 1_000_000 + b"b (1999)"
    films = full.movielens_items(write(b"movieId,title,genres\n1," + title + b",Drama\n", "movies.csv"))
    assert films["year"].tolist() == [1999]


def test_a_header_without_its_names_is_refused_and_one_of_odd_names_is_read():
    with pytest.raises(SchemaError, match=r"ratings\.csv: no column 'userId'"):
        whole(full.movielens_ratings(write(b"user,movieId,rating,timestamp\n1,1,4,5\n", "ratings.csv")))
    with pytest.raises(SchemaError, match="two columns are named 'userId'"):
        whole(full.movielens_ratings(write(b"userId,movieId,rating,timestamp,userId\n1,1,4,5,1\n", "ratings.csv")))
    odd = b'userId,it\'s,movieId,"x""",rating,,timestamp\n1,,2,,4,,5\n'
    assert whole(full.movielens_ratings(write(odd, "ratings.csv")))["item_id"].tolist() == ["2"]


def test_rows_are_counted_over_blocks_of_bounded_length(monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 64)
    rows = "".join(f"{number}::{number}::4::5\n" for number in range(50)) + "50::1::bad::5\n"
    assert max(map(len, full.movielens_ratings(write(rows.encode(), "ratings.dat"), Counter()))) == 6
    with pytest.raises(SchemaError, match=r"ratings\.dat: line 51: rating is not 0\.5 to 5 in '50::1::bad::5'"):
        whole(full.movielens_ratings(write(rows.encode(), "ratings.dat")))


# MIND


NO_LABEL = "something shown has no label -0 or -1 (the test file has none: labels=False)"


@pytest.mark.parametrize("folder", ["", "MINDsmall_train"])
def test_mind(folder):
    source = write(raw_files.zipped(raw_files.MIND, folder), "train.zip")
    news = whole(full.mind_news(source))
    assert news["title"].tolist() == ['He said "so', "No quote"]  # a quote is a character like any other
    assert news["text"].tolist() == ['He said "so\nAn abstract', "No quote"]
    rows = whole(full.mind_impressions(source))
    assert rows["item_id"].tolist() == ["N1", "N2", "N2"]
    assert rows["positive"].tolist() == [True, False, False]
    assert rows["place"].tolist() == [1, 2, 1]
    assert rows["history"].tolist() == [["N9", "N8"], ["N9", "N8"], []]
    assert rows["timestamp"].tolist() == utc("2019-11-11 09:05:58", "2019-11-11 09:05:58", "2019-11-12 18:11:30")


def test_mind_of_the_test_has_no_labels():
    source = write(raw_files.zipped(raw_files.MIND_TEST), "test.zip")
    with pytest.raises(SchemaError, match=r"behaviors\.tsv: line 1: something shown has no label -0 or -1"):
        whole(full.mind_impressions(source))
    rows = whole(full.mind_impressions(source, labels=False))
    assert rows["item_id"].tolist() == ["N1", "N2", "N2"]
    assert rows["positive"].isna().all()
    assert rows["timestamp"].iloc[2] == pd.Timestamp("2019-11-19 00:00:01", tz="UTC")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"11/12/2019 6:11:30 PM", b"2019-11-12", "timestamp is not like 11/9/2019 9:05:58 AM"),
        (b"\tU7\t", b"\t\t", "user_id is not an id"),
        (b"\tN2-0\n", b"\t \n", "nothing was shown"),
        (b"\tN2-0\n", b"\tN2 N3-0\n", NO_LABEL),
        (b"\t\tN2-0\n", b"\tN2-0\n", "not 5 fields"),
    ],
)
def test_a_bad_impression_is_named_or_counted(old, new, why):
    path = write(raw_files.MIND["behaviors.tsv"].replace(old, new), "behaviors.tsv")
    table = refused_and_counted(full.mind_impressions, path, why, 2)
    assert table["impression_id"].tolist() == ["1", "1"]


# Open Bandit


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_open_bandit_log(kind, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    inner = {"bts/men/men.csv": raw_files.OPEN_BANDIT, "random/men/men.csv": b"no"}
    if kind == "zip":
        source = write(raw_files.zipped(inner, "open_bandit_dataset"), "obd.zip")
    else:
        source = write(raw_files.OPEN_BANDIT, "open_bandit_dataset/bts/men/men.csv").parents[2]
    log = whole(full.open_bandit_log(source, "men", "bts"))
    assert log["item_id"].tolist() == ["1", "0"]
    assert log["positive"].tolist() == [False, True]
    assert log["position"].tolist() == [3, 1]
    assert log["timestamp"].tolist() == utc("2019-11-24 00:00:00.000018", "2019-11-23 15:00:03.800821")
    assert log["user_id"].nunique() == 1
    with pytest.raises(UnknownNameError, match="there is no campaign named 'kids'"):
        full.open_bandit_log(source, "kids")
    with pytest.raises(AssetError, match=r"holds none of random/women/women\.csv"):
        whole(full.open_bandit_log(source, "women"))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b",0,1,1,", b",0,4,1,", "position is not 1, 2 or 3"),
        (b",0,1,1,", b",0,1,2,", "click is not 0 or 1"),
        (b"1,1,0.0125", b"1,1,0", "propensity_score is not in (0, 1]"),
        (b"1,1,0.0125", b"1,1,1.5", "propensity_score is not in (0, 1]"),
        (b"2019-11-24 00:00:03.800821+09:00", b"then", "timestamp is not a time such as 2019-11-24 00:00:00+00:00"),
        (b",0,1,1,", b",,1,1,", "item_id is not an id"),
        (b"1,2019", b'1,"2019', "double quotes do not enclose a whole field"),
        (b",0,1,1,", b",0,1,", "not 12 fields"),
    ],
)
def test_a_bad_impression_of_the_log_is_named_or_counted(old, new, why):
    path = write(raw_files.OPEN_BANDIT.replace(old, new), "all.csv")
    assert len(refused_and_counted(full.open_bandit_log, path, why, 3)) == 1


def test_the_stream_of_the_small_log_is_the_small_log():
    from reclab import assets

    member = assets.fetch("open-bandit-small")["random/men.csv"]
    stream, want = whole(full.open_bandit_log(member, "men")), data.open_bandit("men").interactions
    for column in ("user_id", "item_id", "positive", "timestamp", "position", "propensity"):
        assert stream[column].tolist() == want[column].tolist()


# What a stream keeps


def log(*rows) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "rating"])
    times = pd.to_datetime(table["timestamp"], unit="s", utc=True)
    return table.assign(timestamp=times, positive=table["rating"] >= 4)


def test_the_latest_of_a_repeated_pair_stays():
    stream = [log(("a", "x", 5, 1), ("a", "y", 1, 5), ("b", "x", 2, 2)), log(("a", "x", 4, 5), ("b", "x", 2, 3))]
    kept = data.to_parquet(stream, "out", parts=4)
    assert (kept.rows, kept.repeated, len(kept.parts)) == (5, 2, 4)
    table = whole(kept).sort_values(["user_id", "item_id"])
    assert table[["user_id", "item_id", "rating"]].values.tolist() == [["a", "x", 1], ["a", "y", 5], ["b", "x", 3]]
    assert str(table["timestamp"].dt.tz) == "UTC"


def test_a_first_table_without_a_value_does_not_fix_the_type(monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 1 << 12)
    rows = list(raw_files.reviews_2023(60))
    for row in rows[:40]:
        row |= {"verified_purchase": None, "title": None}
    kept = data.to_parquet(full.amazon_reviews(write(raw_files.lines(rows), "r.jsonl")), "out", parts=2)
    table = whole(kept).sort_values("timestamp")
    assert table["verified"].notna().tolist() == table["title"].notna().tolist() == [False] * 40 + [True] * 20


def test_a_user_is_in_one_part_and_in_the_same_one_always():
    stream = [log(*((f"u{n % 97}", f"i{n}", n, 5) for n in range(start, start + 200))) for start in range(0, 2000, 200)]
    first = data.to_parquet(stream, "first", parts=8)
    second = data.to_parquet(reversed(stream), "second", parts=8)
    users = [set(part["user_id"]) for part in first]
    assert sum(map(len, users)) == 97
    assert [set(part["user_id"]) for part in second] == users
    assert min(map(len, users)) > 3


def test_a_folder_is_complete_or_not_there(tmp_path):
    def breaks():
        yield log(("a", "x", 1, 5))
        raise SchemaError("row 1 is bad")

    with pytest.raises(SchemaError, match="row 1 is bad"):
        data.to_parquet(breaks(), "out")
    assert list(tmp_path.iterdir()) == []
    data.to_parquet([log(("a", "x", 1, 5))], "out")
    with pytest.raises(ReclabError, match="out is not empty"):
        data.to_parquet([log(("a", "x", 1, 5))], "out")
    with pytest.raises(SchemaError, match="the stream holds no table"):
        data.to_parquet([], "other")
    with pytest.raises(SchemaError, match=r"parts must be in 1\.\.999"):
        data.to_parquet([], "other", parts=0)
    with pytest.raises(SchemaError, match="no column 'timestamp'"):
        data.to_parquet([log(("a", "x", 1, 5)).drop(columns="timestamp")], "other")


def test_a_stream_becomes_a_dataset():
    reviews = write(raw_files.lines(raw_files.reviews_2023(30)), "r.jsonl")
    wanted = sorted({json.loads(line)["parent_asin"] for line in reviews.read_text().splitlines()})
    items = [{"parent_asin": item, "title": f"item {item}"} for item in [*wanted[:-1], wanted[0], "other"]]
    card = data.Card("reviews", "made up", "none")
    mine = data.gather(full.amazon_reviews(reviews), card, full.amazon_items(write(raw_files.lines(items), "m.jsonl")))
    assert len(mine.interactions) == 30
    assert sorted(mine.items["item_id"]) == wanted
    assert mine.items["text"].isna().sum() == 1  # some items have no metadata
    assert len(data.gather(full.amazon_reviews(reviews), card).items) == len(wanted)
    with pytest.raises(SchemaError, match="holds no table"):
        data.gather([], card)
