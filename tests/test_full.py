"""Full-size files, in small: each format with its quirks, what stands in a file's place, and what a stream keeps."""

import codecs
import gzip
import json
import sys
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import raw_files

from reclab import data
from reclab.data import files, full
from reclab.errors import AssetError, MissingPackageError, ReclabError, SchemaError, UnknownNameError


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


def refused_and_counted(read, path: Path, kind: str) -> tuple[str, pd.DataFrame]:
    """What one bad row stops the reading with, and the rows that are left where such rows are counted."""
    with pytest.raises(SchemaError) as caught:
        whole(read(path))
    table = whole(read(path, bad=(bad := Counter())))
    assert bad == {kind: 1}
    return str(caught.value), table


def utc(*texts) -> list:
    return [pd.Timestamp(text, tz="UTC") for text in texts]


# Amazon


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.zip"])
def test_reviews_of_2023(name):
    rows = list(raw_files.reviews_2023(50))
    rows[0] |= {"text": "Lovely<br /><br />Tea &amp; cake, 2 < 3", "timestamp": 1588687728923, "title": ""}
    content = raw_files.lines(rows)
    wrapped = {
        "r.jsonl": content,
        "r.jsonl.gz": gzip.compress(content),
        "r.zip": raw_files.zipped({"r.jsonl": content}),
    }
    table = whole(full.amazon_reviews(write(wrapped[name], name)))
    assert table["item_id"].tolist() == [row["parent_asin"] for row in rows]  # the join to items is on parent_asin
    assert table["variant"].tolist() == [row["asin"] for row in rows]
    assert table["user_id"].tolist() == [row["user_id"] for row in rows]
    assert table["positive"].tolist() == [row["rating"] >= 4 for row in rows]
    assert table["helpful_vote"].tolist() == [row["helpful_vote"] for row in rows]
    assert table["n_images"].tolist() == [len(row["images"]) for row in rows]
    assert table["timestamp"].iloc[0] == pd.Timestamp("2020-05-05 14:08:48.923", tz="UTC")
    assert table["text"].iloc[0] == "Lovely Tea & cake, 2 < 3"
    assert pd.isna(table["title"].iloc[0])
    assert table.index.tolist() == list(range(1, 51))


def test_reviews_of_2018():
    table = whole(full.amazon_reviews(write(raw_files.lines(raw_files.REVIEWS_2018), "r.json")))
    first, second = table.to_dict("records")
    assert (first["user_id"], first["item_id"], first["rating"]) == ("A3CIUOJXQ5VDQ2", "B0000530HU", 5.0)
    assert table["helpful_vote"].tolist() == [1234, pd.NA]  # nothing is said of the second
    assert first["style"] == "Size: 7.0 oz; Flavor: Classic"
    assert first["text"] == "As advertised. Tea & cake <3"
    assert first["n_images"] == 2
    assert table["timestamp"].tolist() == utc("2016-09-01", "2013-11-14")  # the second has only its reviewTime
    assert second["item_id"] == "0005019281"
    assert pd.isna(second["text"]) and pd.isna(second["title"]) and pd.isna(second["style"])
    assert table["positive"].tolist() == [True, False]


def test_items_of_2023():
    table = whole(full.amazon_items(write(gzip.compress(raw_files.lines(raw_files.ITEMS_2023)), "m.jsonl.gz")))
    first, second, third = table.to_dict("records")
    assert first["title"] == "Howard LC0008 & more"
    assert first["text"] == "Howard LC0008 & more\nSoft\nClean\nA leather cleaner."
    assert table["price"].tolist()[::2] == [14.99, 12.0]
    assert np.isnan(second["price"])
    assert first["details"] == {"Package Dimensions": "7 x 5 in", "UPC": "617390882781"}
    assert (first["categories"], second["main_category"]) == ([], "All Beauty")
    assert third["item_id"] == "0007"
    assert all(map(pd.isna, (first["main_category"], third["title"], third["text"])))


def test_items_of_2018():
    table = whole(full.amazon_items(write(raw_files.lines(raw_files.ITEMS_2018), "m.json")))
    assert table["price"].tolist()[0] == 9.99
    assert table["price_to"].tolist()[0] == 1019.99
    assert table["price"].isna().tolist() == [False, True, True]
    assert table["rank"].tolist() == [["2,938,573 in Beauty & Personal Care ("], [], [">#1 in Toys", "#2 in Games"]]
    assert table["details"].iloc[0] == {"Package Dimensions": "8 x 7 in", "ASIN": "6546546450"}
    assert table["text"].iloc[0] == "Loud\nLoud 'N Clear"


def test_reviews_of_2014_are_told_from_2018():
    row = {"reviewerID": "A1", "asin": "0001", "helpful": [2, 5], "reviewText": "Fine", "overall": 5.0}
    rows = [row | {"summary": "Yes", "unixReviewTime": 1252800000, "reviewTime": "09 13, 2009"}] * 2
    table = whole(full.amazon_reviews(write(raw_files.lines(rows), "r.json")))
    assert table["helpful_vote"].tolist() == [2, 2]  # of five who voted
    assert table["verified"].isna().all() and table["timestamp"].tolist() == utc("2009-09-13", "2009-09-13")


def test_prices():
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


def broken(**changes) -> bytes:
    rows = list(raw_files.reviews_2023(3))
    rows[1] |= changes
    return raw_files.lines({key: value for key, value in row.items() if value != "drop"} for row in rows)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (broken(rating="good"), "rating", "r.jsonl: line 2: rating is not a number from 0 to 5; "),
        (broken(rating=50), "rating", "r.jsonl: line 2: rating is not a number from 0 to 5; "),
        (broken(rating=float("nan")), "rating", "r.jsonl: line 2: rating is not a number from 0 to 5; "),
        (broken(rating=True), "rating", "r.jsonl: line 2: rating is not a number from 0 to 5; "),
        (broken(user_id=1.5), "user_id", "r.jsonl: line 2: user_id is not an id; "),
        (broken(user_id=None), "user_id", "r.jsonl: line 2: user_id is not an id; "),
        (broken(user_id=""), "user_id", "r.jsonl: line 2: user_id is not an id; "),
        (broken(parent_asin="drop"), "item_id", "r.jsonl: line 2: item_id is not an id; "),
        (broken(timestamp=1588687728), "timestamp", "r.jsonl: line 2: timestamp is not a time from 1990 to 2100 in "),
        (broken().replace(b"}\n", b'}\n{"a":\n', 1), "not JSON", "r.jsonl: line 2: not JSON"),
        (broken().replace(b"}\n", b"}\n[1]\n", 1), "not JSON", "r.jsonl: line 2: a value in place of a JSON object; "),
        (broken().replace(b"}\n", b"}\nnull\n", 1), "not JSON", "r.jsonl: line 2: a value in place of a JSON object; "),
        (broken().replace(b"}\n", b"}\n\xff\n", 1), "not UTF-8", "r.jsonl: line 2: not UTF-8; "),
        (broken().replace(b"}\n", b"} " + DEEP + b"\n", 1), "not JSON", "r.jsonl: line 1: not JSON (Extra data"),
        (broken().replace(b"}\n", b"}\n" + DEEP + b"\n", 1), "not JSON", "r.jsonl: line 2: not JSON ("),
    ],
)
def test_a_bad_line_is_named_or_counted(content, kind, message):
    path = write(content, "r.jsonl")
    said, table = refused_and_counted(full.amazon_reviews, path, kind)
    assert said.startswith(message)
    assert said.endswith("fix it, or count and drop such rows with `bad=Counter()`")
    assert "\n" not in said
    assert len(table) == len(content.strip().split(b"\n")) - 1


def test_numbers_as_text_and_half_characters_are_read():
    path = write(broken(user_id=12, text="\ud83d!", timestamp=1.5e12, helpful_vote=None, verified_purchase="yes"), "r")
    row = whole(full.amazon_reviews(path)).iloc[1]
    assert (row["user_id"], row["text"]) == ("12", "\ufffd!")
    assert pd.isna(row["helpful_vote"])
    assert row["timestamp"] == pd.Timestamp(1.5e12, unit="ms", tz="UTC")
    assert pd.isna(row["verified"])


def test_metadata_of_2014_and_files_of_another_kind_are_told_apart():
    with pytest.raises(SchemaError, match="Python literal, as in the metadata of 2014"):
        whole(full.amazon_items(write(raw_files.OLD_ITEM, "m.json")))
    with pytest.raises(
        SchemaError, match="the first row is no review of 2014, 2018 or 2023; it has main_category, title"
    ):
        whole(full.amazon_reviews(write(raw_files.lines(raw_files.ITEMS_2023), "m.jsonl")))


def test_a_line_without_end_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(files, "LONGEST", 1 << 20)
    with pytest.raises(SchemaError, match="a line is longer than 1 MiB"):
        whole(full.amazon_reviews(write(gzip.compress(b"a" * (30 << 20)), "bomb.gz")))


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
    start = time.process_time()
    assert full._unmarked(text) == want
    assert time.process_time() - start < 2


def test_a_title_of_a_million_blanks_takes_no_time():
    title = b"a" + b" " * 1_000_000 + b"b (1999)"
    films = full.movielens_items(write(b"movieId,title,genres\n1," + title + b",Drama\n", "movies.csv"))
    assert films["year"].tolist() == [1999]


# What stands in a file's place

PAGE, POINTER = b"<!DOCTYPE html><html>Sign in</html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
LOADERS = [
    *(full.amazon_reviews, full.amazon_items, full.movielens_ratings, full.movielens_tags),
    *(full.mind_news, full.mind_impressions, data.open_bandit_log, data.stream_csv),
]


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.__name__)
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (PAGE, "an HTML page"),
        (b"\n " + PAGE.lower(), "an HTML page"),
        (POINTER, "a Git-LFS pointer"),
        (b"404: Not Found", "a server's error message"),
        (b"Not Found\n", "a server's error message"),
        (b'<?xml version="1.0"?><Error><Code>PublicAccessNotPermitted</Code></Error>', "a server's error message"),
        (b"", "is empty"),
    ],
)
@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_a_stand_in_is_refused_by_name(loader, content, fault, wrap):
    path = write(wrap(content), "ratings.csv" if loader is not full.movielens_tags else "tags.csv")
    with pytest.raises(AssetError, match=fault):
        list(loader(path))


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.__name__)
def test_a_missing_file_is_one_line(loader):
    with pytest.raises(AssetError, match="there is no file"):
        list(loader(Path("nowhere.zip")))


def test_ids_that_look_like_an_error_message_are_data():
    table = whole(data.stream_csv(write(b"user_id,item_id,rating\n404,404,5\n", "log.csv")))
    assert table["user_id"].tolist() == ["404"]
    assert len(whole(full.movielens_ratings(write(b"404\t403\t3\t881250949\n", "u.data")))) == 1


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off_says_so(keep):
    content = gzip.compress(raw_files.lines(raw_files.reviews_2023(400)))
    path = write(content[: int(len(content) * keep)], "r.jsonl.gz")
    with pytest.raises(AssetError, match=r"r\.jsonl\.gz is cut off or damaged"):
        whole(full.amazon_reviews(path, bad=Counter()))


def test_a_zip_file_is_read_where_it_lies(tmp_path):
    evil = {"../../evil.txt": b"x", "ml-1m/ratings.dat": raw_files.MOVIELENS["ml-1m"]["ratings.dat"]}
    assert len(whole(full.movielens_ratings(write(raw_files.zipped(evil), "a.zip")))) == 3
    assert [path.name for path in tmp_path.rglob("*")] == ["a.zip"]
    with pytest.raises(AssetError, match=r"a\.zip holds none of movies\.csv, movies\.dat, u\.item"):
        full.movielens_items("a.zip")
    (tmp_path / "two").mkdir()
    for name in ("b", "c"):
        (tmp_path / "two" / name).write_bytes(b"x")
    with pytest.raises(AssetError, match="two holds 2 files: b, c; give one of them"):
        whole(full.amazon_reviews("two"))
    with pytest.raises(AssetError, match="holds 2 files"):
        whole(full.amazon_reviews("a.zip"))
    damaged = bytearray(raw_files.zipped(raw_files.MOVIELENS["ml-1m"], "ml-1m"))
    damaged[60] ^= 255
    with pytest.raises(AssetError, match=r"b\.zip is cut off or damaged"):
        whole(full.movielens_ratings(write(bytes(damaged), "b.zip")))
    with pytest.raises(AssetError, match="is cut off or damaged"):
        whole(full.movielens_ratings(write(bytes(damaged[:200]), "c.zip")))


# MovieLens


def movielens_source(size: str, kind: str) -> Path:
    content = raw_files.MOVIELENS[size]
    if kind == "zip":
        return write(raw_files.zipped(content, size), f"{size}.zip")
    for name, text in content.items():
        write(text, f"{size}/{name}")
    return Path(size)


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_movielens_100k(kind):
    source = movielens_source("ml-100k", kind)
    log = whole(full.movielens_ratings(source))
    assert log[["user_id", "item_id", "rating"]].values.tolist() == [["196", "242", 3.0], ["186", "302", 5.0]]
    assert log["timestamp"].tolist() == utc("1997-12-04 15:55:49", "1998-04-04 19:22:22")
    films = full.movielens_items(source)
    assert films["title"].tolist() == ["Misérables, Les", "unknown"]
    assert films["genres"].tolist() == [["Action", "Drama"], ["unknown"]]
    assert films["text"].tolist()[0] == "Misérables, Les (1995). Action, Drama"
    assert films["text"][1] == "unknown. unknown" and pd.isna(films["year"][1])
    assert full.movielens_users(source)["zip_code"].tolist() == ["05201", "V0R2M"]


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_movielens_1m(kind):
    source = movielens_source("ml-1m", kind)
    log = whole(full.movielens_ratings(source))
    assert log["item_id"].tolist() == ["1193", "661", "3952"]
    assert log["positive"].tolist() == [True, False, True]
    assert full.movielens_items(source)["title"].tolist() == ["Toy Story", "Misérables, Les"]
    assert full.movielens_items(source)["genres"][0] == ["Animation", "Children's", "Comedy"]
    assert full.movielens_users(source)["zip_code"].tolist() == ["48067", "01002"]


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_movielens_with_headers(kind):
    source = movielens_source("ml-latest-small", kind)
    log = whole(full.movielens_ratings(source))
    assert log[["user_id", "item_id", "rating"]].values.tolist() == [["1", "1", 4.0], ["1", "3", 0.5]]
    films = full.movielens_items(source)
    assert films["title"].tolist()[1:] == ["City of Lost Children, The (Cité des enfants perdus, La)", 'Say "Anything"']
    assert films["imdb_id"].tolist() == ["0114709", "0112682", "0000012"]  # zeros are part of the id
    assert films["genres"].tolist()[2] == []
    assert whole(full.movielens_tags(source))["tag"].tolist() == ["NA", "null", "a, b"]
    with pytest.raises(AssetError, match="holds none of users"):
        full.movielens_users(source)


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ("1,2,9,5\n", "rating", "ratings.csv: line 3: rating is not 0.5 to 5; "),
        ("1,2,x,5\n", "rating", "ratings.csv: line 3: rating is not 0.5 to 5; "),
        (",2,4,5\n", "user_id", "ratings.csv: line 3: user_id is not an id; "),
        ("1,2,4,soon\n", "timestamp", "ratings.csv: line 3: timestamp is not in seconds since 1970; "),
        ("1,2,4,1588687728923\n", "timestamp", "ratings.csv: line 3: timestamp is not in seconds since 1970; "),
        ("1,2\n", "number of fields", "ratings.csv: line 3: 2 fields, not 4; "),
        ("1,2,4,5,6\n", "number of fields", "ratings.csv: line 3: 5 fields, not 4; "),
        ('1,"2,4,5\n', "open quote", "ratings.csv: line 3: double quotes do not enclose a whole field; "),
        ('"1"2,2,4,5\n', "open quote", "ratings.csv: line 3: double quotes do not enclose a whole field; "),
        ("\n\n1,2,x,5\n", "rating", "ratings.csv: line 5: rating is not 0.5 to 5; "),
    ],
)
def test_a_bad_rating_is_named_or_counted(rows, kind, message):
    path = write(f"userId,movieId,rating,timestamp\n1,1,4,5\n{rows}2,2,3,6\n".encode(), "ratings.csv")
    said, table = refused_and_counted(full.movielens_ratings, path, kind)
    assert said.startswith(message)
    assert table["item_id"].tolist() == ["1", "2"]  # the rows beside it, with their lines
    assert table.index.tolist() == [2, 3 + rows.count("\n")]


def test_two_open_quotes_do_not_swallow_what_lies_between():
    path = write(b'userId,movieId,rating,timestamp\n1,"1,4,5\n2,2,3,6\n3,3,3,7\n4,4",3,8\n5,5,3,9\n', "ratings.csv")
    with pytest.raises(SchemaError, match=r"ratings\.csv: line 2: double quotes do not enclose a whole field"):
        whole(full.movielens_ratings(path))
    assert whole(full.movielens_ratings(path, bad=(bad := Counter())))["user_id"].tolist() == ["2", "3", "5"]
    assert bad == {"open quote": 2}


def test_a_file_of_bad_rows_is_no_file_of_this_format():
    rows = b"1;1;4;5\n2;2;3;6\n3;3;3;7\n"
    with pytest.raises(SchemaError, match=r"0 rows are sound and 3 are not: \{'number of fields': 3\}"):
        whole(full.movielens_ratings(write(b"userId,movieId,rating,timestamp\n" + rows, "ratings.csv"), Counter()))
    with pytest.raises(SchemaError, match="there are no rows; give a file with data"):
        whole(full.movielens_ratings(write(b"userId,movieId,rating,timestamp\n", "ratings.csv")))
    with pytest.raises(SchemaError, match="there are no rows"):
        whole(full.amazon_reviews(write(b"\n\n", "r.jsonl")))


def test_films_of_10m_are_in_another_encoding_than_those_of_1m():
    for encoding in ("utf-8", "latin-1"):
        content = "73::Misérables, Les (1995)::Drama\n".encode(encoding)
        assert full.movielens_items(write(content, "movies.dat"))["title"].tolist() == ["Misérables, Les"]
    with pytest.raises(SchemaError, match=r"movies\.csv: line 2: not UTF-8"):
        full.movielens_items(write("movieId,title,genres\n73,Misérables,Drama\n".encode("latin-1"), "movies.csv"))


def test_without_duckdb_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingPackageError, match=r'python -m pip install "reclab-kit\[full\]"'):
        next(full.movielens_ratings(write(b"1\t2\t3\t5\n", "u.data")))


def test_a_header_without_its_names_is_refused():
    with pytest.raises(SchemaError, match=r"ratings\.csv: no column 'userId'"):
        whole(full.movielens_ratings(write(b"user,movieId,rating,timestamp\n1,1,4,5\n", "ratings.csv")))
    with pytest.raises(SchemaError, match="two columns are named 'userId'"):
        whole(full.movielens_ratings(write(b"userId,movieId,rating,timestamp,userId\n1,1,4,5,1\n", "ratings.csv")))


def test_rows_are_counted_over_blocks(monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 64)
    rows = "".join(f"{number}::{number}::4::5\n" for number in range(50)) + "50::1::bad::5\n"
    with pytest.raises(SchemaError, match=r"ratings\.dat: line 51: rating"):
        whole(full.movielens_ratings(write(rows.encode(), "ratings.dat")))


# MIND


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
    rows = whole(full.mind_impressions(write(raw_files.zipped(raw_files.MIND_TEST), "test.zip")))
    assert rows["item_id"].tolist() == ["N1", "N2", "N2"]
    assert rows["positive"].isna().all()
    assert rows["timestamp"].iloc[2] == pd.Timestamp("2019-11-19 00:00:01", tz="UTC")


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (b"11/12/2019 6:11:30 PM", b"2019-11-12", "timestamp"),
        (b"\tU7\t", b"\t\t", "user_id"),
        (b"\tN2-0\n", b"\t \n", "shown"),
        (b"\tN2-0\n", b"\tN2\n", "label"),
        (b"\t\tN2-0\n", b"\tN2-0\n", "number of fields"),
    ],
)
def test_a_bad_impression_is_named_or_counted(old, new, kind):
    path = write(raw_files.MIND["behaviors.tsv"].replace(old, new), "behaviors.tsv")
    said, table = refused_and_counted(full.mind_impressions, path, kind)
    assert "behaviors.tsv: line 2: " in said
    assert table["impression_id"].tolist() == ["1", "1"]


# Open Bandit


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_open_bandit_log(kind):
    inner = {"bts/men/men.csv": raw_files.OPEN_BANDIT, "random/men/men.csv": b"no"}
    if kind == "zip":
        source = write(raw_files.zipped(inner, "open_bandit_dataset"), "obd.zip")
    else:
        source = write(raw_files.OPEN_BANDIT, "open_bandit_dataset/bts/men/men.csv").parents[2]
    log = whole(data.open_bandit_log(source, "men", "bts"))
    assert log["item_id"].tolist() == ["1", "0"]
    assert log["positive"].tolist() == [False, True]
    assert log["position"].tolist() == [3, 1]
    assert log["affinity"].tolist() == [1.5, 2.0]  # of the item that was shown
    assert log["timestamp"].tolist() == utc("2019-11-24 00:00:00.000018", "2019-11-23 15:00:03.800821")
    assert log["user_id"].nunique() == 1
    with pytest.raises(UnknownNameError, match="there is no campaign named 'kids'"):
        next(data.open_bandit_log(source, "kids"))


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (b",0,1,1,", b",0,4,1,", "position"),
        (b",0,1,1,", b",0,1,2,", "click"),
        (b"1,1,0.0125", b"1,1,0", "propensity_score"),
        (b"1,1,0.0125", b"1,1,1.5", "propensity_score"),
        (b"2019-11-24 00:00:03.800821+09:00", b"then", "timestamp"),
    ],
)
def test_a_bad_impression_of_the_log_is_named_or_counted(old, new, kind):
    path = write(raw_files.OPEN_BANDIT.replace(old, new), "all.csv")
    said, table = refused_and_counted(data.open_bandit_log, path, kind)
    assert f"row 1: {kind} is not " in said
    assert len(table) == 1


def test_the_log_refuses_what_would_hide_or_shift_rows(monkeypatch):
    header, first, second = raw_files.OPEN_BANDIT.splitlines(keepends=True)
    said, table = refused_and_counted(
        data.open_bandit_log, write(header + first + b"1,2\n" + second, "a.csv"), "number of fields"
    )
    assert "row 1: 2 fields, not 12" in said and table.index.tolist() == [0, 2]
    for content, message in (
        (header + first.replace(b"0,2019", b'0,"2019') + second, "row 0: a double quote is not closed"),
        (header + first + b"\xff\n", "row 1 is not UTF-8"),
        (header.replace(b"click", b"clicks") + first, "no column 'click'"),
        (header.replace(b"user-item_affinity_1", b"click") + first, "two columns are named 'click'"),
    ):
        with pytest.raises(SchemaError, match=message):
            whole(data.open_bandit_log(write(content, "a.csv"), bad=Counter()))
    monkeypatch.setattr(files, "BLOCK", 64)
    content = header + first * 9 + second.replace(b",0,1,1,", b",0,9,1,")
    with pytest.raises(SchemaError, match="row 9: position"):
        whole(data.open_bandit_log(write(content, "a.csv")))


def test_the_stream_of_the_small_log_is_the_small_log():
    from reclab import assets

    member = assets.fetch("open-bandit-small")["random/men.csv"]
    stream, want = whole(data.open_bandit_log(member, "men")), data.open_bandit("men").interactions
    for column in ("item_id", "positive", "timestamp", "position", "propensity"):
        assert stream[column].tolist() == want[column].tolist()
    assert stream["user_id"].nunique() == want["user_id"].nunique()


# Own files


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
    found = whole(pieces).astype({"rating": "int64"})
    pd.testing.assert_frame_equal(found, want, check_dtype=False, check_index_type=False)


def test_ids_keep_their_zeros_behind_a_thousand_columns():
    names = ",".join(f"column_{number}" for number in range(2000))
    row = ",".join(["1"] * 2000)
    content = f"{names},user_id,item_id,rating\n{row},007,08,5\n".encode()
    table = whole(data.stream_csv(write(content, "wide.csv")))
    assert table[["user_id", "item_id"]].values.tolist() == [["007", "08"]]


def test_own_rows_are_counted_over_the_whole_file(monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 64)
    rows = "".join(f"u{number},i,4,5\n" for number in range(40))
    for bad, message in (("u,,4,5\n", "item_id is missing in row 40"), ("u,i,x,5\n", "rating in row 40 is 'x', not a")):
        with pytest.raises(SchemaError, match=message):
            whole(data.stream_csv(write(f"user_id,item_id,rating,timestamp\n{rows}{bad}".encode(), "log.csv")))


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
        whole(data.stream_csv(write(content, "log.csv")))


@pytest.mark.parametrize("load", [data.load_csv, lambda path: whole(data.stream_csv(path))])
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
        whole(data.stream_csv(write(b"PAR1" + bytes(200), "log.parquet")))


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


def test_a_user_is_in_one_part_and_in_the_same_one_always(monkeypatch):
    stream = [log(*((f"u{n % 97}", f"i{n}", n, 5) for n in range(start, start + 200))) for start in range(0, 2000, 200)]
    first = data.to_parquet(stream, "first", parts=8)
    monkeypatch.setattr("reclab.data.chunks.GROUP", 100)
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


def test_memory_does_not_grow_with_the_file():
    """The largest table of a stream is bounded by a block, however long the file."""
    path = Path("r.jsonl.gz")
    raw_files.write_reviews(path, 30_000)
    sizes = [len(table) for table in full.amazon_reviews(path)]
    assert sum(sizes) == 30_000
    assert max(sizes) < 15_000


def test_zip_files_that_need_a_password_are_refused():
    content = bytearray(raw_files.zipped({"ratings.csv": b"userId,movieId,rating,timestamp\n1,1,4,5\n"}))
    with zipfile.ZipFile(write(bytes(content), "plain.zip")) as archive:
        start = archive.start_dir
    content[6] |= 1  # the flag in the file's own header, and in the directory
    content[start + 8] |= 1
    with pytest.raises(SchemaError, match=r"locked\.zip cannot be read: File 'ratings\.csv' is encrypted"):
        whole(full.movielens_ratings(write(bytes(content), "locked.zip")))
