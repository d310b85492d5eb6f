"""Your own data: each file of the zoo comes out as its rows, or is refused with the words that help."""

import bz2
import codecs
import datetime
import gzip
import io
import itertools
import json
import random
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest

from reclab import data
from reclab.errors import AssetError, SchemaError

HEADER = ["user_id", "item_id", "rating", "timestamp"]
ROWS = [
    ("007", "é", 5.0, "1997-12-04 15:55:49"),
    ("7", "中文", 3.5, "2020-02-29 00:00:00"),
    ("7", "b c", 1.0, "2019-06-30 23:59:59"),
]


@pytest.fixture(autouse=True)
def _in_a_folder_and_warnings_are_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(action="error"):
        yield


def write(content, name="r.csv"):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def seconds(text):
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp())


def table(time=str, rows=ROWS, number=str):
    """The rows as a file may hold them: names, then text with times and numbers of some form."""
    return [HEADER, *([user, item, number(rating), time(when)] for user, item, rating, when in rows)]


def joined(lines, sep=",", end="\n", quote=""):
    return "".join(sep.join(f"{quote}{field}{quote}" for field in line) + end for line in lines)


def rows_of(found):
    log = found.interactions
    when = log["timestamp"].dt.round("s").dt.strftime("%Y-%m-%d %H:%M:%S")
    return list(zip(log["user_id"], log["item_id"], log["rating"], when, strict=True))


def read(content, name="r.csv", **options):
    if not isinstance(content, str | bytes):
        return data.load_csv(content, **options)
    return data.load_csv(write(content, name), **options)


def refused(error, words, content, name="r.csv", **options):
    with pytest.raises(error) as raised:
        read(content, name, **options)
    message = str(raised.value)
    assert "\n" not in message
    for word in [words] if isinstance(words, str) else words:
        assert word in message, message


def zipped(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def parquet(frame, **options):
    packed = io.BytesIO()
    frame.to_parquet(packed, **options)
    return packed.getvalue()


def objects(lines):
    return "".join(json.dumps(dict(zip(HEADER, line, strict=True))) + "\n" for line in lines[1:])


FRAME = pd.DataFrame(ROWS, columns=HEADER)
PLAIN = joined(table())
LIST = {"rename": HEADER}
UTC = "no zone, taken as UTC"
US = "%m/%d/%Y %I:%M:%S %p"


def as_time(form):
    return lambda when: datetime.datetime.fromisoformat(when).strftime(form)


# One table in many forms: name, options, and what the line must say.
FORMS = {
    "plain": (PLAIN, {}, [UTC]),
    "windows": (joined(table(), end="\r\n"), {}, []),
    "old mac": (joined(table(), end="\r"), {}, []),
    "blank lines": ("\n\n" + joined(table(), end="\n \n"), {}, []),
    "no newline at the end": (PLAIN[:-1], {}, []),
    "a mark before UTF-8": (codecs.BOM_UTF8 + PLAIN.encode(), {}, []),
    "UTF-8 said, with a mark": (codecs.BOM_UTF8 + PLAIN.encode(), {"encoding": "UTF8"}, []),
    "UTF-16": (PLAIN.encode("utf-16"), {}, ["encoding utf-16"]),
    "UTF-16, big end first": (codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"), {}, ["encoding utf-16"]),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), {"encoding": "utf-16-le"}, ["encoding utf-16-le"]),
    "GB 18030": (PLAIN.encode("gb18030"), {"encoding": "gb18030"}, ["encoding gb18030"]),
    "quoted": (joined(table(), quote='"'), {}, []),
    "quoted names": (joined(table()[:1], quote='"') + joined(table()[1:]), {}, []),
    "a name with a blank": (PLAIN.replace("item_id", " item_id "), {}, []),
    "single quotes": (joined(table(), quote="'"), {"quote": "'"}, ['quote="\'"']),
    "blank after the separator": (joined(table(), sep=", ", quote='"'), {"sep": ", "}, ["separator ', '"]),
    "a line for spreadsheets": ("sep=;\n" + joined(table(), sep=";"), {}, ["separator ';'"]),
    "a separator after each row": (
        joined(table()[:1]) + joined(table()[1:], end=",\n"),
        {},
        ["separator after each row"],
    ),
    "row names": (
        joined([["", *HEADER], *([str(n), *row] for n, row in enumerate(table()[1:]))]),
        {},
        ["column 1 has no name"],
    ),
    "no header": (joined(table()[1:], sep="\t"), LIST, ["separator '\\t'"]),
    "no header, two colons": (joined(table()[1:], sep="::"), LIST, ["separator '::'"]),
    "decimal comma": (
        joined(table(number=lambda r: str(r).replace(".", ",")), sep=";"),
        {},
        ["decimal comma", "separator ';'"],
    ),
    "seconds": (joined(table(time=lambda t: str(seconds(t)))), {}, []),
    "seconds with a point": (joined(table(time=lambda t: f"{seconds(t)}.0")), {}, []),
    "milliseconds": (joined(table(time=lambda t: f"{seconds(t)}000")), {}, ["ms since 1970"]),
    "microseconds": (joined(table(time=lambda t: f"{seconds(t)}000000")), {}, ["us since 1970"]),
    "nanoseconds": (joined(table(time=lambda t: f"{seconds(t)}000000000")), {}, ["ns since 1970"]),
    "seconds, said": (joined(table(time=lambda t: str(seconds(t)))), {"unit": "s"}, ["unit='s'"]),
    "days of a spreadsheet": (
        joined(table(time=lambda t: f"{seconds(t) / 86400 + 25569:.9f}")),
        {"unit": "excel"},
        ["unit='excel'"],
    ),
    "digits": (joined(table(time=as_time("%Y%m%d%H%M%S"))), {}, ["dates %Y%m%d%H%M%S", UTC]),
    "T and Z": (joined(table(time=lambda t: t.replace(" ", "T") + "Z")), {}, []),
    "a zone": (joined(table(time=lambda t: t + "+00:00")), {}, []),
    "a zone behind a blank": (joined(table(time=lambda t: t + " +0000")), {}, []),
    "a zone by its name": (joined(table(time=lambda t: t + " UTC")), {}, []),
    "slashes": (joined(table(time=as_time("%Y/%m/%d %H:%M:%S"))), {}, ["dates %Y/%m/%d", UTC]),
    "day first": (joined(table(time=as_time("%d.%m.%Y %H:%M:%S"))), {}, ["dates %d/%m/%Y", UTC]),
    "month first, AM and PM": (joined(table(time=as_time(US))), {}, ["dates %m/%d/%Y %I:%M:%S %p"]),
    "names of months": (joined(table(time=as_time("%d %b %Y %H:%M:%S"))), {}, ["dates %d/%b/%Y"]),
    "a format, said": (
        joined(table(time=as_time("%H:%M:%S am %d.%m.%y"))),
        {"unit": "%H:%M:%S am %d.%m.%y"},
        ["unit="],
    ),
    "JSON lines": (objects(table()), {}, []),
    "JSON lines with blank ones and text for numbers": (objects(table()).replace("\n", "\n\n"), {}, []),
    "RecBole": (
        joined(
            [
                ["user_id:token", "item_id:token", "rating:float", "timestamp:float"],
                *table(time=lambda t: str(seconds(t)))[1:],
            ],
            sep="\t",
        ),
        {},
        ["RecBole's types", "separator '\\t'"],
    ),
    "Parquet": (parquet(FRAME), {}, []),
    "Parquet with times": (parquet(FRAME.assign(timestamp=pd.to_datetime(FRAME["timestamp"]))), {}, [UTC]),
    "Parquet with an index": (parquet(FRAME.set_index("user_id")), {}, []),
    "pandas": (FRAME, {}, []),
    "pandas, by user": (FRAME.set_index(["user_id", "item_id"]), {}, []),
    "pandas, categories": (FRAME.astype("category"), {}, []),
    "pandas, objects": (FRAME.astype(object), {}, []),
    "pandas, times": (
        FRAME.assign(timestamp=pd.to_datetime(FRAME["timestamp"]).dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
        {},
        [],
    ),
    "Arrow": (pa.Table.from_pandas(FRAME), {}, []),
    "zip": (zipped({"a/r.csv": PLAIN, "__MACOSX/a/._r.csv": b"\0", "a/": ""}), {}, []),
    "parts in a zip": (
        zipped({"1.csv": joined(table()[:2]), "2.csv": joined([HEADER, *table()[2:]])}),
        {},
        ["2 parts"],
    ),
}
for packing, (kind, pack) in itertools.product(
    ["plain", "day first", "JSON lines", "Parquet"], [("gzip", gzip.compress), ("bzip2", bz2.compress)]
):
    content, options, said = FORMS[packing]
    FORMS[f"{packing}, {kind}"] = (pack(content if isinstance(content, bytes) else content.encode()), options, said)
for sep in ";\t|":
    FORMS[f"separator {sep!r}"] = (joined(table(), sep=sep), {}, [f"separator {sep!r}"])


@pytest.mark.parametrize("form", FORMS)
def test_a_table_comes_out_of_every_form(form, capsys):
    content, options, said = FORMS[form]
    found = read(content, **options)
    assert rows_of(found) == ROWS
    line = capsys.readouterr().out.removesuffix("\n")
    always = ["3 rows, 2 users, 3 items", "1997-12-04 to 2020-02-29", "ratings 1 to 5, positive from 4 up (33.3%)"]
    for word in [*always, "0 repeated pairs", *said]:
        assert word in line
    assert line in repr(found)
    for word in [
        "separator",
        "encoding",
        "unit",
        "dates",
        "since",
        "comma",
        "tidied",
        "merged",
        "part",
        "na=",
        "quote",
    ]:
        assert word not in line or any(word in choice for choice in said), line


# What is refused, and the words that help

R = "user_id,item_id,rating\n"
T = "user_id,item_id,rating,timestamp\n"
X = "user_id,item_id,rating,text\n"


def times(*when, **options):
    """Two rows or more whose times are these, in quotes."""
    lines = "".join(f'u{n},i{n},{3 + n % 3},"{time}"\n' for n, time in enumerate(when))
    return T + lines, options


def ratings(*values, **options):
    return R + "".join(f'u{n},i{n},"{value}"\n' for n, value in enumerate(values)), options


def of(content, **options):
    return content, options


REFUSED = {
    # Quotes and columns
    "a stray quote": (of(X + 'a,x,5,"good\nb,y,3,bad\n'), ["begins in line 2", "never", "quote=''"]),
    "a stray quote in a long file": (of(R + "a,x,5\n" * 60_000 + '"a,x,5\n' + "a,x,5\n" * 9), "begins in line 60002"),
    "two stray quotes, last column": (of(X + 'u1,i1,5,"good\nu2,i2,4,fine\nu3,i3,2,bad"\n'), ["line 3", "quote="]),
    "two stray quotes, first column": (of(R + '"u1,i1,5\nu2",i2,4\nu3,i3,2\n'), ["line 3", "quote="]),
    "two stray quotes, another separator": (
        of((X + 'u1,i1,5,"good\nu2,i2,4,bad"\nu3,i3,2,x\n').replace(",", ";")),
        "line 3",
    ),
    "two stray quotes around lines with blank ones": (of(X + '\nu1,i1,5,"good\n\nu2,i2,4,bad"\nu3,i3,2,x\n'), "line 5"),
    "a word after a quoted field": (of(X + 'a,x,5,"5" nail\nb,y,3,ok\n'), ["line 2", "quote=''"]),
    "a backslash before a quote": (of(X + 'a,x,5,"say \\"hi\\""\nb,y,3,ok\n'), ["line 2", "quote='\\\\\"'"]),
    "a blank before a quote": (of('user_id, item_id, rating\n"u1", "i1", 5\n'), ["line 2", "sep=', '"]),
    "single quotes": (of(R + "'u1','i1',5\n'u2','i2',3\n"), "quote="),
    "a field too many in all rows": (of(R + "1,2,5,9\n3,4,3,9\n"), ["line 2", "4 fields for 3 names"]),
    "a field too many in one": (of(R + "1,2,5\n\n3,4,3,9\n"), ["line 4", "4 fields for 3"]),
    "an empty field too many in one": (of(R + "1,2,5\n3,4,3,\n"), ["line 3", "4 fields for 3"]),
    "a field too few": (of(R + "1,2\n3,4,3\n"), ["line 2", "2 fields for 3"]),
    "a name twice": (of("user_id,item_id,user_id,rating\na,x,b,5\n"), "two columns are named 'user_id'"),
    "a name twice by rename": (of("who,user_id,item_id,rating\na,b,x,5\n", rename={"who": "user_id"}), "two columns"),
    "two files in one": (of(R + "a,x,5\n" + R + "b,y,3\n"), ["line 3", "repeats the header"]),
    "no header": (of("1\t2\t5\n3\t4\t2\n"), ["no column 'user_id' or 'item_id'", "rename=[all names]"]),
    "other names": (of("userId,movieId,stars\n1,2,5\n"), "rename={'userId': 'user_id', 'movieId': 'item_id'}"),
    "too few names": (of("1,2,5,9\n", rename=["user_id", "item_id", "rating"]), ["sep=", "rename="]),
    "names that fit twice": (of("1,2;3\n", rename=["user_id", "item_id"]), "sep="),
    "a name with blanks, misspelt": (of(" who ,item_id,rating\na,x,5\n", rename={"whom": "user_id"}), "no column"),
    "a rename that renames nothing": (of(R + "a,x,5\n", rename={"time": "timestamp"}), "no column 'time'"),
    "another separator": (of("user_id:item_id:rating\n1:2:5\n"), "no column 'user_id'"),
    "a header alone": (of(R), "no rows below the header"),
    # Encodings and files
    "latin-1": (of(R.encode() + "a,x,5\nb,é,3\n".encode("latin-1")), ["line 3", "not utf-8", "encoding='cp1252'"]),
    "latin-1 far below": (of(R.encode() + b"a,x,5\n" * 9000 + b"b,\xe9,3\n"), ["line 9002", "encoding="]),
    "UTF-16 without a mark": (of(PLAIN.encode("utf-16-be")), "encoding='utf-16-le' or 'utf-16-be'"),
    "no such encoding": (of(PLAIN, encoding="utf-99"), "unknown encoding"),
    "the wrong encoding": (of(PLAIN, encoding="ascii"), ["line 2", "not ascii"]),
    "a picture": (of(b"\x89PNG\0\0"), "no text"),
    "a zero byte": (of(R + "c,z,1\n" * 200 + "a,x\0,5\nb,y,3\n"), "item_id in line 202"),
    "a workbook": (of(zipped({"xl/workbook.xml": "x"})), "workbook"),
    "two tables in a zip": (
        of(zipped({"1.csv": R + "a,x,5\n", "2.csv": X + "a,x,5,t\n"})),
        ["two tables", "1.csv", "2.csv"],
    ),
    "damaged Parquet": (of(parquet(FRAME)[:-9]), "cannot be read"),
    "a JSON list": (of('[{"user_id": 1}]'), ["line 1", "read_json"]),
    "JSON over lines": (of('{\n"user_id": 1}'), ["line 1", "no JSON object"]),
    "a name twice in JSON": (of('{"user_id":1,"user_id":2,"item_id":3,"rating":4}'), ["line 1", "a name twice"]),
    "a column that JSON lacks": (
        of('{"user_id":1,"item_id":2,"rating":4}\n\n{"user_id":1,"rating":3}'),
        "item_id in line 3 is missing",
    ),
    "half a surrogate pair": (of('{"user_id":1,"item_id":2,"rating":4,"text":"\\ud83d"}'), ["line 1", "surrogate"]),
    "no table": (of([1, 2]), "list is no table"),
    "a generator": (of(iter(())), "is no table"),
    # Ids
    "no id": (of(R + "a,x,5\n\nb,,3\n"), ["item_id in line 4 is missing", "drop that row"]),
    "a blank id": (of(R + '" ",x,5\nb,y,3\n'), "user_id in line 2"),
    "NA": (of(R + "a,x,5\nNA,y,3\n"), ["user_id in line 3 is 'NA'", "na=[]"]),
    "nan in a table": (of(FRAME.assign(user_id=["nan", "b", "c"])), ["user_id in row 0 is 'nan'", "na=[]"]),
    "NA, said": (of(R + "a,x,5\nNA,y,3\n", na="NA"), "user_id in line 3 is missing"),
    "a gap in a table": (of(FRAME.assign(user_id=[1, None, 2])), "user_id in row 1 is missing"),
    # Ratings
    "words": (ratings(5, "good"), ["rating in line 3 is 'good', not a number"]),
    "no rating": (ratings(5, ""), "rating in line 3 is missing"),
    "infinite": (ratings(5, "inf"), "rating in line 3"),
    "thousands or decimals": (ratings("4,500", "3,250"), ["line 2", "decimal=','"]),
    "both marks": (ratings("4.5", "3,5"), ["line 3", "decimal="]),
    "a comma where points are said": (ratings("4,5", 3, decimal="."), "rating in line 2 is '4,5'"),
    "a point where commas are said": (ratings("4.5", 3, decimal=","), "rating in line 2 is '4.5'"),
    "neither rating nor positive": (of("user_id,item_id\na,x\n"), ["'rating' or 'positive'", "positive_from='all'"]),
    "no flag": (of("user_id,item_id,positive\na,x,1\nb,y,2\n"), "positive in line 3 is '2', not 0 or 1"),
    "names for what has names": (of(FRAME, rename=HEADER), "rename=[...]"),
    "names for lines that have names": (of(objects(table()), rename=HEADER), "rename=[...]"),
    "no such decimal": (ratings(1, 5, decimal=";"), "decimal is"),
    "no number from which on": (ratings(1, 5, positive_from="four"), "positive_from is a number"),
    # Times
    "one after another, then none": (times("2024-05-31", ""), "timestamp in line 3 is missing"),
    "a word": (times("2024-05-31", "yesterday"), ["timestamp in line 3 is 'yesterday'", "unit="]),
    "days and months in turn": (times("31/05/2024", "05/31/2024"), ["line", "one form"]),
    "seconds, then milliseconds": (times(1600000000, 1600000001, 1600000000000), "timestamp in line 4"),
    "rounded": (times("1.60E+09", "1.61E+09"), ["line 2", "rounded"]),
    "with a zone and without": (times("2020-01-01T10:00Z", "2020-01-01T10:00"), ["line 3", "zone"]),
    "AM here, none there": (times("12/31/2020 01:30 PM", "12/31/2020 01:30"), "line 3"),
    "an unknown zone": (times(*["2020-01-01 10:00 EST"] * 2), ["line 2", "unit="]),
    "a day that is not": (times("2023-02-28", "2023-02-29"), "line 3"),
    "an hour that is not": (times("2023-02-28 23:00", "2023-02-28 24:00"), "line 3"),
    "dates among seconds": (times(1600000000, "2020-01-01"), "timestamp in line"),
    "another form than said": (times(*["2020-01-31"] * 2, unit="%d.%m.%Y"), ["line 2", "unit="]),
    "no such unit": (times(1600000000, 1600000001, unit="fortnights"), "fortnights"),
    "infinite times": (of(FRAME.assign(timestamp=[np.inf, 1.6e9, 1.6e9])), ["timestamp in row 0", "unit="]),
    "zones mixed in objects": (
        of(
            FRAME.assign(
                timestamp=pd.Series(
                    [datetime.datetime(2020, 1, 1), *[datetime.datetime.now(datetime.UTC)] * 2], dtype=object
                )
            )
        ),
        ["row 0", "zone"],
    ),
    "lengths of time": (of(FRAME.assign(timestamp=pd.to_timedelta([1, 2, 3]))), "row 0"),
}
DAYS = "05/06/2024, 07/08/2024; 05-06-24, 07-08-24; 5.6.2024 10:00, 12.12.2024 11:00; 13/02/20, 14/03/21"
for pair in [days.split(", ") for days in f"{DAYS}; 01/02/2024 01:30 PM, 03/04/2024 02:30 AM".split("; ")]:
    REFUSED[f"which is the day, {pair[0]}"] = (times(*pair), ["line 2", "dayfirst=True", "unit="])
NO_TIMES = ["2020-01", "2024-W05", "12:30:00", "1970-01-01", "1900-01-01", "9999-12-31", "NaT"]
for what in (2020, 44000, 0, -1, 202001, 20200230, 2001011230, 2020010112, 10**20, 5, 1e8, *NO_TIMES):
    REFUSED[f"no time: {what}"] = (times(what, what), ["timestamp in line 2", "unit="])
    REFUSED[f"no time: {what}, among others"] = (times(what, 1600000000), "timestamp in line")
SCALES = [(0, 1), (-1, 1), (1, 10, 4, 7), (0, 5, 3, 4), (99, -3.5, 4), (1, 2, 3), (5, 5, 5), (1, *[4] * 30)]
for scale in (*SCALES, (10, 20, 100)):
    REFUSED[f"scale {min(scale)} to {max(scale)}"] = (
        ratings(*scale),
        [f"ratings {min(scale)} to {max(scale)}", "positive_from="],
    )


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_be_read_in_two_ways_or_none_is_refused_with_the_way_out(case):
    (content, options), words = REFUSED[case]
    words = [words] if isinstance(words, str) else words
    of_an_argument = any(word in case for word in ("rename that", "from which", "such ", "names for"))
    if isinstance(content, str | bytes) and not of_an_argument:
        words = ["r.csv", *words]
    refused(SchemaError, words, content, **options)


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (codecs.BOM_UTF8 + b"\n <HTML>", "r.parquet", "an HTML page"),
        (gzip.compress(PLAIN.encode())[:-9], "r.csv.gz", "cut off or damaged"),
        (bz2.compress(PLAIN.encode())[:-9], "r.csv.bz2", "cut off or damaged"),
        (zipped({}), "r.zip", "holds no file"),
    ],
)
def test_what_stands_in_a_files_place_is_named(content, name, words):
    with pytest.raises(AssetError, match=words):
        read(content, name)


@pytest.mark.parametrize("seed", range(8))
def test_a_quote_too_few_never_loses_a_row(seed):
    rng = random.Random(seed)
    lines = [
        [f"u{n % 50}", f"i{n}", str(1 + n % 5), rng.choice(["ok", "so, so", "two\nlines", "", '5"'])]
        for n in range(300)
    ]
    quoted = [[line[0], line[1], line[2], '"' + line[3].replace('"', '""') + '"'] for line in lines]
    whole = joined([X.strip().split(","), *quoted])
    assert read(whole).interactions["text"].fillna("").tolist() == [line[3] for line in lines]
    places = [place for place, character in enumerate(whole) if character == '"']
    for place in rng.sample(places, 60):
        try:
            found = read(whole[:place] + whole[place + 1 :])
        except SchemaError as error:
            assert "quote" in str(error) or "fields for 4 names" in str(error)
        else:  # a quote fewer in a text is another text, and no more
            assert found.interactions["item_id"].tolist() == [line[1] for line in lines]


# Decisions rest on the whole file


@pytest.mark.parametrize("last", ["31/01/2020", "01/31/2020"])
def test_one_row_decides_for_all(last):
    lines = [[f"u{n % 99}", f"i{n % 77}", str(1 + n % 5), f"0{1 + n % 9}/0{1 + n % 7}/2020"] for n in range(60_000)]
    found = read(joined([HEADER, *lines, ["u", "i", "4,5", last]], sep=";")).interactions
    form = "%d/%m/%Y" if last.startswith("31") else "%m/%d/%Y"
    want = pd.to_datetime([line[3] for line in [*lines, [last] * 4]], format=form, utc=True)
    assert (found["timestamp"].to_numpy() == want.to_numpy()).all()
    assert found["rating"].tolist() == [1 + n % 5 for n in range(60_000)] + [4.5]


@pytest.mark.parametrize(("dayfirst", "want"), [(True, "2024-06-05"), (False, "2024-05-06")])
def test_day_first_is_said(dayfirst, want):
    content, options = times("05/06/2024", "07/08/2024", dayfirst=dayfirst)
    assert str(read(content, **options).interactions["timestamp"][0])[:10] == want


@pytest.mark.parametrize("digits", [0, 3, 6, 9])
def test_no_digit_of_a_time_is_lost(digits):
    numbers = [1_600_000_000_123_456_789 // 10 ** (9 - digits) + n for n in range(2)]
    found = (
        read(times(*numbers)[0]).interactions["timestamp"].dt.tz_convert(None).to_numpy().astype("M8[ns]").astype(int)
    )
    assert found.tolist() == [number * 10 ** (9 - digits) for number in numbers]


def folder(files):
    Path("parts").mkdir()
    for name, content in files.items():
        write(content, f"parts/{name}")
    return "parts"


def test_a_folder_of_parts_is_one_table(capsys):
    late = T + "u2,i2,3,13/02/2020\n"
    hidden = {"_SUCCESS": "", ".part-0.csv.crc": b"\0", "part-2.csv": ""}
    folder(hidden | {"part-0.csv": T + "u1,i1,5,01/02/2020\n", "part-1.csv": late})
    assert data.load_csv("parts").interactions["timestamp"].dt.month.tolist() == [2, 2]
    assert "parts: 2 rows" in (line := capsys.readouterr().out) and "2 parts" in line
    write(late.replace("3,13", "good,13"), "parts/part-3.csv")
    refused(SchemaError, "rating in line 2 of part-3.csv", Path("parts"))
    write(R + "a,x,5\n", "parts/part-3.csv")
    refused(SchemaError, "holds two tables: part-0.csv", Path("parts"))


def test_types_of_parts_are_decided_together():
    one = pd.DataFrame({"user_id": [1, 2], "item_id": [5, 6], "rating": [5, 3]})
    other = pd.DataFrame({"user_id": ["x", "1"], "item_id": [5.0, 7.0], "rating": [1.5, 2.0]})
    folder({"0.parquet": parquet(one), "1.pq": parquet(other)})
    log = data.load_csv("parts").interactions
    assert log[["user_id", "item_id"]].values.tolist() == [["1", "5"], ["2", "6"], ["x", "5"], ["1", "7"]]


# Ids, ratings, texts and other columns


@pytest.mark.parametrize(
    ("ids", "options", "want", "said"),
    [
        (["12", "12.0", "7"], {}, ["12", "12", "7"], "user_id: 1 tidied (as '12.0' to '12', 1 now as another)"),
        (["1.0", "1.5", "2.0"], {}, ["1.0", "1.5", "2.0"], ""),
        (["é", "e\u0301", "x"], {}, ["é", "é", "x"], "tidied"),
        ([" a", "a\u00a0", "\ufeffb"], {}, ["a", "a", "b"], "user_id: 3 tidied"),
        (["007", "7", "07"], {}, ["007", "7", "07"], ""),
        (["9.78E+12", "x", "1e+20"], {}, ["9.78E+12", "x", "1e+20"], "user_id: 2 look merged"),
        (["9007199254740993", "5", "6"], {}, ["9007199254740993", "5", "6"], "user_id: 1 look merged"),
        (["a\ufffd", "b", "c"], {}, ["a\ufffd", "b", "c"], "user_id: 1 look merged"),
        (["NA", "None", "null"], {"na": []}, ["NA", "None", "null"], "na=[]"),
        (["A", "a", "1e5"], {}, ["A", "a", "1e5"], ""),
    ],
)
def test_ids(ids, options, want, said, capsys):
    found = read(R + "".join(f'"{user}",x{n},{3 + n}\n' for n, user in enumerate(ids)), **options)
    assert found.interactions["user_id"].tolist() == want
    line = capsys.readouterr().out
    assert said in line
    assert said or not any(word in line for word in ("tidied", "merged", "na="))


@pytest.mark.parametrize("dtype", ["float64", "Int64", "object"])
def test_numbers_are_the_same_ids_in_every_type(dtype):
    items = pd.DataFrame({"item_id": ["5", "6"], "text": ["a", "b"]})
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [5, 6], "rating": [5, 3]}).astype(dtype)
    assert data.load_csv(frame, items).interactions[["user_id", "item_id"]].values.tolist() == [["1", "5"], ["2", "6"]]


@pytest.mark.parametrize(
    ("threshold", "values", "want", "said"),
    [
        (None, (4, 3.5, 5), [True, False, True], "ratings 3.5 to 5, positive from 4 up (66.7%)"),
        (3.5, (4, 3.5, 1), [True, True, False], "positive from 3.5 up"),
        (8, (10, 7, 8), [True, False, True], "ratings 7 to 10, positive from 8 up"),
        (6, (4, 5, 1), [False] * 3, "positive from 6 up (0.0%)"),
        ("all", (1, 2, 3), [True] * 3, "every row positive"),
    ],
)
def test_positive_from(threshold, values, want, said, capsys):
    content, options = ratings(*values, positive_from=threshold)
    assert read(content, **options).interactions["positive"].tolist() == want
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("flags", ["1 0 1", "True False True", "true FALSE TRUE", "1.0 0.0 1.0"])
def test_flags_go_before_ratings(flags, capsys):
    rows = "".join(f"u,{number},{flag},1\n" for number, flag in enumerate(flags.split()))
    found = read("user_id,item_id,positive,rating\n" + rows)
    assert found.interactions["positive"].tolist() == [True, False, True]
    assert "positive as given (66.7%)" in capsys.readouterr().out
    assert data.load_csv(found.interactions).interactions["positive"].tolist() == [True, False, True]


@pytest.mark.parametrize(("decimal", "value"), [(",", "4,500"), (".", "4.500"), (None, "4.500")])
def test_decimal_is_said(decimal, value):
    content, options = ratings(value, 1, decimal=decimal)
    assert read(content, **options).interactions["rating"].tolist() == [4.5, 1]


def test_quotes_as_they_are_said():
    found = read(X + 'a,x,5,"5\nb,y,3,6"\n', quote="")
    assert found.interactions["text"].tolist() == ['"5', '6"']
    found = read(X + 'a,x,5,"say \\"hi\\", C:\\x"\nb,y,3,ok\n', quote='\\"')
    assert found.interactions["text"].tolist() == ['say "hi", C:\\x', "ok"]
    found = read(X + 'u1,i1,5,"good\nu2,i2,4,fine"\nu3,i3,2,bad\n', quote='"')
    assert found.interactions["text"].tolist() == ["good\nu2,i2,4,fine", "bad"]


def test_lines_of_a_text_that_only_look_like_fields_are_text():
    texts = ["red, blue, green, grey", "1, 2, 3, 4", "a, b, 5, c", "so,\r\nwell, then, that, too"]
    lines = [[f"u{n}", f"i{n}", str(1 + n), f'"first\n{text}"'] for n, text in enumerate(texts)]
    found = read(X + joined(lines))
    assert found.interactions["text"].tolist() == [f"first\n{text}" for text in texts]


def test_other_columns_are_numbers_only_where_all_are(capsys):
    names = [*R.strip().split(","), "price", "age", "zip", "code", "flag", "region", "gap", "title"]
    lines = [
        ["a", "x", "5", "1.50", "20", "01234", "12", "true", "NA", "3", "1984"],
        ["b", "y", "3", "2", "3", "99999", "x", "FALSE", "EU", "", "Up"],
    ]
    log = read(joined([names, *lines])).interactions
    assert log["price"].tolist() == [1.5, 2] and log["age"].tolist() == [20, 3] and log["gap"].tolist()[0] == 3
    assert log["zip"].tolist() == ["01234", "99999"] and log["code"].tolist() == ["12", "x"]
    assert log["title"].tolist() == ["1984", "Up"] and log["region"].tolist() == ["NA", "EU"]
    assert "1 of region are 'NA' (na= drops it)" in capsys.readouterr().out
    assert read(joined([names, *lines]), na="NA").interactions["region"].isna().tolist() == [True, False]
    commas = read("user_id;item_id;rating;price\na;x;4,5;1,25\nb;y;3;2\n").interactions
    assert commas["price"].tolist() == [1.25, 2]


def test_repeats_equal_times_and_missing_ones_are_said(capsys):
    read(T + "a,x,5,1600000000\na,x,3,1600000000\na,y,3,1600000000\n")
    assert "1 repeated pairs" in (line := capsys.readouterr().out) and "all at one time" in line
    log = read("user_id,item_id,rating,date\na,x,5,2020-01-01\nb,y,3,2020-01-02\n").interactions
    assert log["timestamp"].isna().all() and str(log["timestamp"].dt.tz) == "UTC"
    assert "no times (is it 'date'? say rename=)" in capsys.readouterr().out


# Items and users


def test_names_separators_and_encodings_may_differ_from_file_to_file(capsys):
    write("who,stars,id\na,5,x\nb,1,03\n", "r.csv")
    write("id;blurb\nx;hüte\n03; \n".encode("cp1252"), "items.csv")
    write("who::age\na::20\nb::NA\n", "users.csv")
    rename = {"interactions": {"who": "user_id", "id": "item_id", "stars": "rating"}, "users": {"who": "user_id"}}
    rename["items"] = {"id": "item_id", "blurb": "text"}
    options = {"encoding": {"items": "cp1252"}, "sep": {"users": "::"}, "na": {"users": ["NA"]}}
    mine = data.load_csv("r.csv", "items.csv", "users.csv", rename=rename, licence="CC0", **options)
    assert mine.items["item_id"].tolist() == ["x", "03"] and mine.items["text"].fillna("").tolist() == ["hüte", ""]
    assert mine.users["age"].fillna(0).tolist() == [20, 0]
    assert (mine.card.title, mine.card.source, mine.card.licence) == ("your data", "r.csv, items.csv, users.csv", "CC0")
    line = capsys.readouterr().out
    assert "items.csv: separator ';'; encoding cp1252; 50.0% of texts blank" in line
    assert "users.csv: separator '::'; na=['NA']" in line


def test_items_without_metadata_stay_where_they_are_few(capsys):
    log = pd.DataFrame({"user_id": "u", "item_id": range(100), "rating": [1, 5] * 50})
    items = pd.DataFrame({"item_id": np.arange(1.0, 100), "text": "a"})
    mine = data.load_csv(log, items)
    assert len(mine.items) == 100 and mine.items["text"].isna().tolist() == [False] * 99 + [True]
    assert "1 item_ids of the table of interactions missing" in capsys.readouterr().out
    refused(SchemaError, ["item_id in row 0 is '0'", "as 11 of 100", "there: 11"], log, items=items[10:])
    refused(SchemaError, "user_id in row 0 is 'u'", log, users=pd.DataFrame({"user_id": ["v"]}))


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ("item_id,text\nx,a\n\ny,b\nx,c\n", ["items.csv", "item_id in line 5 is 'x' for the second time"]),
        ("item_id,text\nx,a\n,b\n", "item_id in line 3 is missing"),
        ("id,text\nx,a\n", ["no column 'item_id'", "rename="]),
        ('item_id,text\nx,"a hat\ny,a shirt"\n', ["items.csv", "line 3"]),
        ("item_id,text\nx,a,b\ny,c\n", ["line 2", "3 fields for 2 names"]),
    ],
)
def test_items_are_read_as_strictly(items, words):
    write(items, "items.csv")
    refused(SchemaError, words, R + "a,x,5\nb,y,3\n", items="items.csv")


def test_a_long_text_and_a_column_of_ids_alone_are_read():
    write("user_id\na\nb\n", "users.csv")
    found = read(X + "a,x,5," + "word " * 60_000 + "\nb,y,3,ok\n", users="users.csv")
    assert len(found.interactions["text"][0]) == 300_000
    assert found.users["user_id"].tolist() == ["a", "b"]


# What it costs, and what it leaves


def test_a_file_that_does_not_fit_is_refused_before_it_is_read(monkeypatch):
    free = type("Memory", (), {"total": 1000, "available": 100})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    refused(SchemaError, ["r.csv needs", "GiB of memory"], PLAIN)


def test_neither_file_nor_table_is_changed():
    frame = FRAME.copy()
    data.load_csv(frame, rename={"interactions": {}})
    pd.testing.assert_frame_equal(frame, FRAME)
    read(PLAIN)
    assert Path("r.csv").read_text() == PLAIN


def test_what_is_read_can_be_split_by_time():
    lines = [[f"u{n % 7}", f"i{n}", str(1 + n % 5), str(1_600_000_000 + n)] for n in range(70)]
    split = data.temporal(read(joined([HEADER, *lines])).interactions, at=0.5)
    data.check_leakage(split)
    assert (len(split.train), len(split.test)) == (35, 35)


@pytest.mark.parametrize("lacking", [[], ["rating"], ["timestamp"]])
def test_a_split_written_for_recbole_is_read_back(lacking, capsys):
    lines = [[f"u{n % 7}", f"é {n % 9}", str(1 + n % 5 / 2), str(1_600_000_000.25 + n)] for n in range(70)]
    log = read(joined([HEADER, *lines]), positive_from=2).interactions.drop(columns=lacking)
    split = data.temporal(log, at=0.5) if "timestamp" in log else data.warm(log, repeats="allow")
    paths = data.to_recbole(split, "out/own")
    assert [path.name for path in paths] == ["own.train.inter", "own.test.inter"]
    for path, side in zip(paths, (split.train, split.test), strict=True):
        found = data.load_csv(path).interactions[side.columns]
        pd.testing.assert_frame_equal(found, side.reset_index(drop=True))
    assert "RecBole's types cut off" in capsys.readouterr().out
    with pytest.raises(SchemaError, match=r"train: user_id 'u.*t' does not fit"):
        data.to_recbole(data.Split("random", split.train.assign(user_id="u\tt"), split.test), "out")
