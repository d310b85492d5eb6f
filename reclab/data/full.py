"""Full-size public files as streams of tables of one schema: Amazon Reviews, MovieLens and MIND, read with DuckDB.

They need one more package: ``python -m pip install "reclab-kit[full]"``. Get the files from their publishers, whose
terms are yours to accept: https://amazon-reviews-2023.github.io (no licence is stated: never pass on the files or rows
made from them), https://grouplens.org/datasets/movielens and https://msnews.github.io.

Every ``path`` is a plain, gzip or zip file or a folder. Nothing is unpacked to the disk, and memory is needed for some
MiB of lines, however long the file. Python hands whole lines to DuckDB, which takes them apart: so each row knows its
line (the index, from 1), and a bad line can neither move nor swallow another. The first one stops the reading with the
file, the line, the column and what to do; ``bad=Counter()`` counts such rows by their kind and leaves them out, unless
they are the most. ``positive_from`` is the lowest rating that counts as positive.

AssetError: a file is missing, cut off or empty, or an HTML page, a Git-LFS pointer or a server's error message.
SchemaError: it holds something else than its format says. MissingPackageError: DuckDB is not installed.

Source: McAuley et al. (2015), arXiv 1506.04757 (Amazon 2014); Ni, Li and McAuley (2019), doi 10.18653/v1/D19-1018
(2018); Hou et al. (2024), arXiv 2403.03952 (2023); Harper and Konstan (2015), doi 10.1145/2827872 (MovieLens); Wu et
al. (2020), doi 10.18653/v1/2020.acl-main.331 (MIND).
"""

from __future__ import annotations

import csv
import html
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import AssetError, MissingPackageError, SchemaError
from .files import LONGEST, blocks, first_line, keep, members, opened, refuse
from .schema import listed, require_columns
from .sources import item_texts

# One thread, as a block at a time is little work; no extension is fetched, and nothing is put on the disk.
_SETTINGS = {"threads": 1, "memory_limit": "1GB", "temp_directory": ""}
_SETTINGS |= {"autoinstall_known_extensions": False, "autoload_known_extensions": False}

# What a field of an object is read as, and the JSON types that are one; a field of another type is missing.
_ID = ("VARCHAR", "VARCHAR", "UBIGINT", "BIGINT")
_TEXT = ("VARCHAR", "VARCHAR")
_NUMBER = ("DOUBLE", "DOUBLE", "UBIGINT", "BIGINT", "VARCHAR")
_COUNT = ("VARCHAR", "VARCHAR", "UBIGINT", "BIGINT", "DOUBLE")  # such as "1,234"
_FLAG, _LENGTH, _PART = ("BOOLEAN", "BOOLEAN"), ("JSON[]", "ARRAY"), ("JSON", "ARRAY", "OBJECT")
_VALUES = {_COUNT: "TRY_CAST(replace(r.{}, ',', '') AS DOUBLE)", _LENGTH: "len(r.{})", _PART: "r.{}::VARCHAR"}
# column -> (name in 2014 and 2018, name in 2023, type)
_REVIEW = {
    "user_id": ("reviewerID", "user_id", _ID),
    "item_id": ("asin", "parent_asin", _ID),
    "variant": ("asin", "asin", _ID),
    "rating": ("overall", "rating", _NUMBER),
    "timestamp": ("unixReviewTime", "timestamp", _NUMBER),
    "title": ("summary", "title", _TEXT),
    "text": ("reviewText", "text", _TEXT),
    "verified": ("verified", "verified_purchase", _FLAG),
    "helpful_vote": ("vote", "helpful_vote", _COUNT),
    "n_images": ("image", "images", _LENGTH),
    "day": ("reviewTime", "", _TEXT),
    "helpful": ("helpful", "", _PART),
    "style": ("style", "", _PART),
}
_JSON_LINES = "FROM block WHERE trim(text, ' ' || chr(9) || chr(13)) <> ''"
_AMOUNT = r"\$?\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_PRICE = re.compile(rf"\s*(?:from\s+)?{_AMOUNT}(?:\s*-\s*{_AMOUNT})?\s*", re.IGNORECASE)
# Attributes have values: of "a<b and c>d" nothing is a tag.
_VALUE = r"""(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>]+)"""
_TAG = re.compile(rf"<(?:/?[a-zA-Z][a-zA-Z0-9]*(?:\s+[\w-]+\s*=\s*{_VALUE})*\s*/?|![^<>]*)>")

_RATING, _FILM, _TAG_GIVEN = "user_id item_id rating timestamp", "item_id title genres", "user_id item_id tag timestamp"
_GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical "
    "Mystery Romance Sci-Fi Thriller War Western"
)
# file -> separator and columns; a .csv file has a header, with the names of `_THEIRS`
_LAYOUT = {
    "ratings.csv": (",", _RATING),
    "ratings.dat": ("::", _RATING),
    "u.data": ("\t", _RATING),
    "movies.csv": (",", _FILM),
    "movies.dat": ("::", _FILM),
    "u.item": ("|", f"item_id title released video imdb {_GENRES}"),
    "links.csv": (",", "item_id imdb_id tmdb_id"),
    "users.dat": ("::", "user_id gender age occupation zip_code"),
    "u.user": ("|", "user_id age gender occupation zip_code"),
    "tags.csv": (",", _TAG_GIVEN),
    "tags.dat": ("::", _TAG_GIVEN),
    "news.tsv": ("\t", "item_id category subcategory title abstract url title_entities abstract_entities"),
    "behaviors.tsv": ("\t", "impression_id user_id timestamp history shown"),
}
_THEIRS = {"userId": "user_id", "movieId": "item_id", "imdbId": "imdb_id", "tmdbId": "tmdb_id"}
_FIELD = """("(?:[^"]|"")*"|[^",]*),"""  # of a .csv file, with the comma behind it


def amazon_reviews(path: str | Path, bad: Counter | None = None, *, positive_from: float = 4) -> Iterator[pd.DataFrame]:
    """The reviews of an edition (2014, 2018 or 2023, told by the first row), some thousands at a time.

    Columns: ``user_id``, ``item_id`` (2023: parent_asin, which joins reviews and items), ``variant`` (asin) str;
    ``rating`` float (0 to 5); ``positive`` bool; ``timestamp`` UTC; ``title``, ``text`` str (plain: no tags, no
    entities; may be missing); ``verified`` boolean (missing in 2014); ``helpful_vote`` Int64 (missing where the file
    says nothing, as 2018 does of most); ``n_images`` int; before 2023 also ``style`` str ("Color: red; Size: M").

    A user may have reviewed an item several times, and '5-core' files are not exactly that.
    """
    new = _is_2023(path)
    unit, scale = ("milliseconds", 1000) if new else ("seconds", 1)

    def clean(table: pd.DataFrame, name: str) -> pd.DataFrame:
        table["helpful_vote"] = _whole(table["helpful_vote"])
        if not new:
            days = pd.to_datetime(table.pop("day"), format="%m %d, %Y", errors="coerce")  # "12 31, 2015"
            table["timestamp"] = table["timestamp"].fillna((days - pd.Timestamp(0)) // pd.Timedelta(seconds=1))
            votes = table.pop("helpful").str.extract(r"^\[(\d+)")[0]  # 2014: [those who say so, all who voted]
            table["helpful_vote"] = table["helpful_vote"].fillna(_whole(votes))
            table["style"] = table["style"].map(_style).astype(table["text"].dtype)
        for column in ("user_id", "item_id"):
            table = keep(table, table[column].fillna("") != "", name, column, f"{column} is not an id", bad)
        ok = table["rating"].between(0, 5)
        table = keep(table, ok, name, "rating", "rating is not a number from 0 to 5", bad)
        times = table["timestamp"]
        ok = times.between(631_152_000 * scale, 4_102_444_800 * scale) & (times % 1 == 0)
        table = keep(table, ok, name, "timestamp", f"timestamp is not a time from 1990 to 2100 in {unit}", bad)
        times = pd.to_datetime(table["timestamp"].astype("int64"), unit="ms" if new else "s", utc=True)
        table.insert(4, "positive", table["rating"] >= positive_from)
        title, text = _plain(table["title"]), _plain(table["text"])
        images, verified = table["n_images"].fillna(0).astype("int64"), table["verified"].astype("boolean")
        return table.assign(timestamp=times, title=title, text=text, verified=verified, n_images=images)

    fields = {column: (names[new], kind) for column, (*names, kind) in _REVIEW.items() if names[new]}
    return _tables(path, "", _objects(fields), clean, bad)


def _is_2023(path: str | Path) -> bool:
    """Whether the first object of a file is a review of 2023; if not, it must be one of 2014 or 2018."""
    with opened(path) as stream:
        for line in next(blocks(stream, Path(path).name), b"").split(b"\n"):
            row = None
            with suppress(ValueError, RecursionError):  # `_tables` says what is wrong with this line
                row = json.loads(line)
            if isinstance(row, dict):
                if {"user_id", "parent_asin"} <= row.keys() or {"reviewerID", "asin"} <= row.keys():
                    return "parent_asin" in row
                said = f"is no review of 2014, 2018 or 2023; it has {listed(row, 8)}"
                raise SchemaError(f"{Path(path).name}: the first row {said}")
    return True


def _style(text: str | None) -> str | None:
    """'{"Color:": " red"}' as "Color: red"."""
    if not isinstance(text, str) or not text.startswith("{"):
        return None
    said = json.loads(text).items()
    return "; ".join(f"{key.strip().rstrip(':')}: {str(value).strip()}" for key, value in said) or None


def amazon_items(path: str | Path, bad: Counter | None = None) -> Iterator[pd.DataFrame]:
    """The items' metadata of 2018 or 2023, some thousands at a time.

    Columns: ``item_id`` (2023: parent_asin), ``title``, ``text`` str (title, features and description, plain; may be
    missing); ``price``, ``price_to`` float (US dollars; the ends of a range; missing where there is no number, as for
    most items of some categories); ``main_category``, ``brand`` str (2023: store); ``categories``, ``rank`` lists of
    str; ``average_rating`` float; ``rating_number`` Int64 (missing in 2018); ``n_images`` int; ``details`` dict of str.
    """

    def clean(table: pd.DataFrame, name: str) -> pd.DataFrame:
        items = pd.DataFrame([_item(json.loads(text)) for text in table["text"]], table.index)
        items["average_rating"] = pd.to_numeric(items["average_rating"], errors="coerce").astype(float)
        items["rating_number"] = _whole(items["rating_number"])
        why = "neither parent_asin nor asin is an id"
        return keep(items, items["item_id"].notna(), name, "item_id", why, bad)

    query = f"SELECT line, json_type(text) AS root, text {_JSON_LINES}"
    return _tables(path, "", query, clean, bad)


def _item(row: dict) -> dict:
    title, images = _line(row.get("title")), row.get("images") or row.get("image")
    about = [title, *_texts(row.get("features") or row.get("feature")), *_texts(row.get("description"))]
    price, details = str(row.get("price")), row.get("details")
    found = _PRICE.fullmatch(price) if len(price) < 60 else None
    ends = [float(end.replace(",", "")) for end in found.groups() if end] if found else [np.nan]
    return {
        "item_id": _line(row.get("parent_asin")) or _line(row.get("asin")),
        "title": title,
        "text": "\n".join(filter(None, about)) or None,
        "price": min(ends),
        "price_to": max(ends),
        "main_category": _line(row.get("main_category") or row.get("main_cat")),
        "brand": _line(row.get("store") or row.get("brand")),
        "categories": _texts(row.get("categories") or row.get("category")),
        "rank": _texts(row.get("rank")),
        "average_rating": row.get("average_rating"),
        "rating_number": row.get("rating_number"),
        "n_images": len(images) if isinstance(images, list) else 0,
        "details": _details(details) if isinstance(details, dict) else {},
    }


def _details(said: dict) -> dict[str, str]:
    """2018 has line breaks around its keys, and a colon behind them."""
    return {_unmarked(key).strip().rstrip(": "): _unmarked(str(value)) for key, value in said.items()}


def _line(value) -> str | None:
    """A str or a whole number as a plain text; of anything else nothing."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return _unmarked(str(value)).strip() or None if whole or isinstance(value, str) else None


def _texts(value) -> list[str]:
    """A str, a list of str or nothing, as a list of plain texts."""
    values = value if isinstance(value, list) else [value]
    return [said for text in values if isinstance(text, str) and (said := _line(text))]


def _plain(texts: pd.Series) -> pd.Series:
    """Texts without markup; missing where there is none."""
    marked = texts.str.contains("[<&]", na=False)
    texts = texts.mask(marked, texts[marked].map(_unmarked))
    return texts.mask(texts == "")


def _unmarked(text: str) -> str:
    """A text without tags and entities: "Tea<br />&amp; cake" gives "Tea & cake"."""
    if "<" not in text and "&" not in text:
        return text
    bare = _TAG.sub(" ", text)
    with suppress(ValueError):  # a numbered entity of thousands of digits
        bare = html.unescape(bare)
    return " ".join(bare.split())


def _whole(values: pd.Series) -> pd.Series:
    """Int64, missing where a value is no whole number."""
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    return numbers.where((numbers % 1 == 0) & (numbers.abs() < 2**53)).astype("Int64")


def movielens_ratings(
    path: str | Path, bad: Counter | None = None, *, positive_from: float = 4
) -> Iterator[pd.DataFrame]:
    """The ratings of any size (100K to 32M, latest), some 100,000 at a time.

    Columns: ``user_id``, ``item_id`` str; ``rating`` float (0.5 to 5); ``positive`` bool; ``timestamp`` UTC.
    """

    def clean(table: pd.DataFrame, name: str) -> pd.DataFrame:
        table["rating"] = pd.to_numeric(table["rating"], errors="coerce").astype(float)
        table = keep(table, table["rating"].between(0.5, 5), name, "rating", "rating is not 0.5 to 5", bad)
        table.insert(3, "positive", table["rating"] >= positive_from)
        return _timed(table, name, bad)

    return _delimited(path, ("ratings.csv", "ratings.dat", "u.data"), clean, bad)


def movielens_items(path: str | Path) -> pd.DataFrame:
    """The films, as one table.

    Columns: ``item_id``, ``title`` str (without the year); ``year`` float (may be missing); ``genres`` list of str;
    ``text`` str (as in `movies.movies`); and ``imdb_id``, ``tmdb_id`` str (zeros kept) where the size has them.
    """
    films = _once(path, ("movies.csv", "movies.dat", "u.item"))
    if "genres" in films:
        genres = films["genres"].str.split("|")
        films["genres"] = genres.map(lambda names: [name for name in names if name != "(no genres listed)"])
    else:
        films["genres"] = [[genre for genre in _GENRES.split() if row[genre] == "1"] for _, row in films.iterrows()]
    titles = films["title"].str.strip()
    films["year"] = pd.to_numeric(titles.str.extract(r"\((\d{4})\)$")[0])
    films["title"] = titles.where(films["year"].isna(), titles.str[:-6].str.strip())
    films["text"] = pd.Series(item_texts(films), index=films.index).str.replace(" (nan).", ".", regex=False)
    films = films[["item_id", "title", "year", "genres", "text"]]
    if "links.csv" in _by_name(path):
        films = films.merge(_once(path, ("links.csv",)), on="item_id", how="left", validate="one_to_one")
    return films


def movielens_users(path: str | Path) -> pd.DataFrame:
    """The people of 100K and 1M, as one table; the later sizes have none.

    Columns: ``user_id`` str; ``age`` int (years; in 1M the lower end of a class); ``gender``, ``occupation`` (in 1M a
    code), ``zip_code`` str.
    """
    table = _once(path, ("users.dat", "u.user"))
    return table.assign(age=pd.to_numeric(table["age"], errors="coerce"))


def movielens_tags(path: str | Path, bad: Counter | None = None) -> Iterator[pd.DataFrame]:
    """The tags, some 100,000 at a time.

    Columns: ``user_id``, ``item_id``, ``tag`` str ("NA" and "null" are words); ``timestamp`` UTC.
    """
    return _delimited(path, ("tags.csv", "tags.dat"), lambda table, name: _timed(table, name, bad), bad)


def _once(path: str | Path, candidates: tuple[str, ...]) -> pd.DataFrame:
    """A small file as one table, each id once."""
    table = pd.concat(_delimited(path, candidates, lambda table, name: table.assign(file=name), None))
    ids = "user_id" if "user_id" in table else "item_id"
    name = table.pop("file").iloc[0]
    return keep(table, ~table[ids].duplicated(), name, ids, f"{ids} stands there twice", None).reset_index(drop=True)


def _timed(table: pd.DataFrame, name: str, bad: Counter | None) -> pd.DataFrame:
    seconds = pd.to_numeric(table["timestamp"], errors="coerce")
    ok = seconds.between(0, 2**32)  # up to the year 2106
    table = keep(table, ok, name, "timestamp", "timestamp is not in seconds since 1970", bad)
    return table.assign(timestamp=pd.to_datetime(seconds[ok].astype("int64"), unit="s", utc=True))


def mind_news(path: str | Path, bad: Counter | None = None) -> Iterator[pd.DataFrame]:
    """The news, some thousands at a time; some have no abstract.

    Columns, all str: ``item_id, category, subcategory, title, abstract, url``; ``title_entities``,
    ``abstract_entities`` (JSON, by a tagger); ``text`` (title and abstract; may be missing).
    """

    def clean(table: pd.DataFrame, name: str) -> pd.DataFrame:
        text = (table["title"] + "\n" + table["abstract"]).str.strip()
        return table.assign(text=text.mask(text == ""))

    return _delimited(path, ("news.tsv",), clean, bad)


def mind_impressions(path: str | Path, bad: Counter | None = None) -> Iterator[pd.DataFrame]:
    """What was shown, a row each, some 100,000 at a time.

    Columns: ``impression_id``, ``user_id``, ``item_id`` str; ``timestamp`` (no zone is given; read as UTC); ``place``
    int (from 1); ``positive`` bool (clicked; boolean and missing in the test file, which has no labels); ``history``
    list of item ids (one list for all rows of an impression, the same in all of a user; may be empty).
    """
    labelled = []  # whether this file has labels: by its first row, for all

    def clean(table: pd.DataFrame, name: str) -> pd.DataFrame:
        times = pd.to_datetime(table["timestamp"], format="%m/%d/%Y %I:%M:%S %p", utc=True, errors="coerce")
        shown = table["shown"].str.split()
        table = table.assign(timestamp=times, history=table["history"].str.split(), shown=shown)
        table = keep(table, times.notna(), name, "timestamp", "timestamp is not like 11/9/2019 9:05:58 AM", bad)
        table = keep(table, table["shown"].str.len() > 0, name, "shown", "nothing was shown", bad)
        if table.empty:
            return table
        rows = table.assign(place=[range(1, len(items) + 1) for items in table["shown"]]).explode(["shown", "place"])
        parts = rows.pop("shown").astype(table["user_id"].dtype).str.extract(r"^(.+?)(?:-([01]))?$")
        has_label = parts[1].notna()
        if not labelled:
            labelled.append(has_label.iloc[0])
        positive = parts[1] == "1" if labelled[0] else pd.Series(pd.NA, rows.index, dtype="boolean")
        rows = rows.assign(item_id=parts[0], positive=positive, place=rows["place"].astype("int64"))
        ok = has_label == labelled[0]
        rows = keep(rows, ok, name, "label", "only some impressions have a label -0 or -1", bad)
        return rows[["impression_id", "user_id", "item_id", "timestamp", "place", "positive", "history"]]

    return _delimited(path, ("behaviors.tsv",), clean, bad)


def _by_name(path: str | Path) -> dict[str, str]:
    """File -> its full name in a folder or a zip file; of several the shortest."""
    return {full.rsplit("/", 1)[-1].removesuffix(".gz"): full for full in reversed(members(path))}


def _delimited(
    path: str | Path, candidates: tuple[str, ...], clean: Callable, bad: Counter | None
) -> Iterator[pd.DataFrame]:
    """The tables of text of the first candidate that is there, cleaned; each row has its fields and its ids."""
    here = _by_name(path)
    file = next((file for file in candidates if file in here), None)
    if file is None and len(here) == len(candidates) == 1:  # the file itself, by whatever name
        file, here = candidates[0], {candidates[0]: next(iter(here.values()))}
    if file is None:
        raise AssetError(f"{path} holds none of {', '.join(candidates)}; give the publisher's zip file or its folder")
    separator, columns = _LAYOUT[file][0], _LAYOUT[file][1].split()
    header = file.endswith(".csv")
    names = _header(path, here[file], file, columns) if header else columns

    def whole(table: pd.DataFrame, name: str) -> pd.DataFrame:
        fields = table.pop("fields").fillna(0)
        table = keep(table, fields > 0, name, "open quote", "double quotes do not enclose a whole field", bad)
        ok, wrong = fields[table.index] == len(names), fields[(fields > 0) & (fields != len(names))]
        table = keep(table, ok, name, "number of fields", f"{next(iter(wrong), 0):.0f} fields, not {len(names)}", bad)
        for column in table.columns.intersection(["user_id", "item_id"]):
            table = keep(table, table[column] != "", name, column, f"{column} is not an id", bad)
        return clean(table, name)

    query = _split(separator, {column: names.index(column) + 1 for column in columns}, header)
    return _tables(path, here[file], query, whole, bad, _encoding(path, here[file], file))


def _header(path: str | Path, member: str, name: str, columns: list[str]) -> list[str]:
    """The names of all columns, as here; those that are asked for are there, and none is there twice."""
    with opened(path, member) as stream:
        line = stream.readline(LONGEST).decode("utf-8-sig", "replace")
    theirs = [said.strip() for said in next(csv.reader([line]), [])]
    wanted = [said for said, ours in _THEIRS.items() if ours in columns]
    require_columns(pd.DataFrame(columns=theirs), [*wanted, *(c for c in columns if c not in _THEIRS.values())], name)
    for twice in {said for said in theirs if theirs.count(said) > 1}:
        raise SchemaError(f"{name}: two columns are named {twice!r}; rename or drop one of them")
    return [_THEIRS.get(said, said) for said in theirs]


def _encoding(path: str | Path, member: str, file: str) -> str:
    """Films and people of 100K and 1M are in Latin-1, those of 10M in UTF-8; one of them for a whole file."""
    if file in ("movies.dat", "u.item", "u.user"):
        with opened(path, member) as stream, suppress(UnicodeDecodeError):
            for block in blocks(stream, file):
                block.decode("utf-8")
            return "utf-8"
        return "latin-1"
    return "utf-8"


def _split(separator: str, places: dict[str, int], quotes: bool) -> str:
    """The query that splits lines into fields and counts them, none where a double quote is not closed."""
    fields = f"string_split(t, '{separator}')"
    if quotes:
        whole, parts = (f"regexp_extract_all(t || ',', '{_FIELD}', {group})" for group in (0, 1))
        bare = f"""[CASE WHEN p[1] = '"' THEN replace(p[2:-2], '""', '"') ELSE p END FOR p IN {parts}]"""
        bare = f"CASE WHEN array_to_string({whole}, '') = t || ',' THEN {bare} END"
        fields = f"CASE WHEN contains(t, '\"') THEN {bare} ELSE {fields} END"
    columns = ", ".join(f'f[{place}] AS "{column}"' for column, place in places.items())
    lines = f"SELECT line, rtrim(text, chr(13)) AS t FROM block WHERE line > {int(quotes)}"  # below the header
    return f"SELECT line, len(f) AS fields, {columns} FROM (SELECT line, {fields} AS f FROM ({lines}) WHERE t <> '')"


def _objects(fields: dict[str, tuple[str, tuple]]) -> str:
    """The query that takes fields out of JSON objects; ``fields`` is column -> (name, type)."""
    structure = json.dumps({name: kind for name, (kind, *_) in fields.values()})
    columns = []
    for place, (column, (name, kind)) in enumerate(fields.items(), 2):
        value = _VALUES.get(kind, "r.{}").format(name)
        columns.append(f"CASE WHEN list_contains({list(kind[1:])}, kinds[{place}]) THEN {value} END AS {column}")
    paths = ["$", *(f"$.{name}" for name, _ in fields.values())]
    rows = f"SELECT line, json_type(text, {paths}) AS kinds, from_json(text, '{structure}') AS r {_JSON_LINES}"
    return f"SELECT line, kinds[1] AS root, {', '.join(columns)} FROM ({rows})"


def _tables(
    path: str | Path, member: str, query: str, clean: Callable, bad: Counter | None, encoding: str = "utf-8"
) -> Iterator[pd.DataFrame]:
    """What a query makes of a file's lines, a block at a time, cleaned by ``clean(table, name)``."""
    try:
        import duckdb
    except ImportError:
        said = 'full-size files are read with DuckDB; run: python -m pip install "reclab-kit[full]"'
        raise MissingPackageError(said) from None
    name, rows = (member or Path(path).name).rsplit("/", 1)[-1], 0
    before = Counter(bad)
    with duckdb.connect(config=_SETTINGS) as db:
        for lines in _lines(path, member, name, encoding, bad):
            try:
                table = _run(db, query, lines)
            except duckdb.Error:  # a line that is not JSON
                table = _run(db, query, _json_only(db, name, bad))
            if "root" in table:
                ok = table.pop("root") == "OBJECT"
                table = keep(table, ok, name, "not JSON", "a value in place of a JSON object", bad)
            table = table if table.empty else clean(table, name)
            rows += len(table)
            if len(table):
                yield table
    left = Counter(bad) - before
    if not rows and not left:
        raise SchemaError(f"{name}: there are no rows; give a file with data")
    if left.total() > rows:
        raise SchemaError(
            f"{name}: {rows:,} rows are sound and {left.total():,} are not: {dict(left)}; look at the file"
        )


def _run(db, query: str, lines: pa.Table) -> pd.DataFrame:
    db.register("block", lines)
    return db.sql(query).to_arrow_table().to_pandas().set_index("line")


def _lines(path: str | Path, member: str, name: str, encoding: str, bad: Counter | None) -> Iterator[pa.Table]:
    """Blocks of a file as tables of ``line`` (from 1) and ``text``, which is missing where it is not text."""
    first = 1
    with opened(path, member) as stream:
        for block in blocks(stream, name):
            try:
                texts = pc.split_pattern(pa.array([block[:-1].decode(encoding)]), "\n").flatten()
            except UnicodeDecodeError:
                texts = [line.decode(encoding, "replace") for line in block[:-1].split(b"\n")]
                for place, line in enumerate(block[:-1].split(b"\n")):
                    if texts[place].encode(encoding) != line:
                        refuse(bad, name, f"line {first + place}", "not UTF-8", "not UTF-8")
                        texts[place] = None
            yield pa.table({"line": np.arange(first, first + len(texts)), "text": pa.array(texts, pa.string())})
            first += len(texts)


def _json_only(db, name: str, bad: Counter | None) -> pa.Table:
    """The block again, without lines that are not JSON; a half of a character, which is not either, as a sign."""
    lines = db.sql("SELECT line, text, json_valid(text) OR trim(text, ' ' || chr(9) || chr(13)) = '' FROM block")
    numbers, texts, sound = map(list, zip(*lines.fetchall(), strict=True))
    for place, (number, text, ok) in enumerate(zip(numbers, texts, sound, strict=True)):
        if ok or text is None:
            continue
        texts[place], why = None, "not JSON"
        try:
            whole = json.dumps(json.loads(text), ensure_ascii=False)
            whole = whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            if db.execute("SELECT json_valid(?)", [whole]).fetchall() == [(True,)]:
                texts[place] = whole
        except (ValueError, RecursionError) as error:
            why = f"not JSON ({first_line(error)})"
            if text.lstrip().startswith(("{'", "{u'")):
                why = "not JSON but a Python literal, as in the metadata of 2014; take the files of 2018 or 2023"
        if texts[place] is None:
            refuse(bad, name, f"line {number}", why, "not JSON")
    return pa.table({"line": pa.array(numbers, pa.int64()), "text": pa.array(texts, pa.string())})
