"""Full-size public files as streams of tables of one schema, and streams kept as Parquet by user.

Amazon Reviews, MovieLens, MIND and the Open Bandit log are read with DuckDB. Get the files from
their publishers, whose terms are yours to accept: https://amazon-reviews-2023.github.io (no licence
is stated: never pass on the files or rows made from them),
https://grouplens.org/datasets/movielens, https://msnews.github.io and
https://research.zozo.com/data.html.

Every ``path`` is a plain, gzip, bzip2 or zip file or a folder, read where it lies with memory for
some MiB of lines. DuckDB gets whole lines: so each row knows its line (the index, from 1), and a
bad line can neither move nor swallow another. The first one stops the reading with the file, the
line and what is wrong; ``bad=Counter()`` counts such rows by what is wrong and leaves them out,
unless they are the most. ``positive_from`` is the lowest rating that counts as positive.

AssetError: a file is missing, cut off or empty, or an HTML page, a Git-LFS pointer or a server's
error message. SchemaError: it holds something else than its format says.

Source: McAuley et al. (2015), arXiv 1506.04757 (Amazon 2014); Ni, Li and McAuley (2019), doi
10.18653/v1/D19-1018 (2018); Hou et al. (2024), arXiv 2403.03952 (2023); Harper and Konstan (2015),
doi 10.1145/2827872 (MovieLens); Wu et al. (2020), doi 10.18653/v1/2020.acl-main.331 (MIND); Saito
et al. (2020), arXiv 2008.07146 (Open Bandit).
"""

from __future__ import annotations

import codecs
import csv
import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from ..errors import AssetError, ReclabError, SchemaError
from .files import LONGEST, blocks, members, named, opened
from .schema import Card, Dataset, require_columns
from .sources import USER_FEATURES, item_texts, require_campaign

# One thread, as a block at a time is little work; no extension is fetched, nothing put on the disk.
_SETTINGS = {"threads": 1, "memory_limit": "1GB", "temp_directory": ""}
_SETTINGS |= {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
_SEPARATORS = {".csv": ",", ".dat": "::", ".data": "\t", ".tsv": "\t"}

_REVIEW_KEYS = (
    "user_id reviewerID parent_asin asin rating overall timestamp unixReviewTime reviewTime title "
    "summary text reviewText verified_purchase verified helpful_vote vote helpful images image"
)
_AMOUNT = r"\$?\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_PRICE = re.compile(rf"\s*(?:from\s+)?{_AMOUNT}(?:\s*-\s*{_AMOUNT})?\s*", re.IGNORECASE)
# Attributes have values: of "a<b and c>d" nothing is a tag.
_VALUE = r"""(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>]+)"""
_TAG = re.compile(rf"<(?:/?[a-zA-Z][a-zA-Z0-9]*(?:\s+[\w-]+\s*=\s*{_VALUE})*\s*/?|![^<>]*)>")

_OBJECT = {
    "a Python literal, as in the metadata of 2014, not JSON: take the files of 2018 or 2023": (
        r"NOT regexp_matches(line, '^\s*\{u?''')"
    ),
    "not a JSON object": "r IS NOT NULL",
}
_ITEM = {"item_id is not an id": "item_id <> ''"}
_IDS = {"user_id is not an id": "user_id <> ''"} | _ITEM


def amazon_reviews(
    path: str | Path, bad: Counter | None = None, *, positive_from: float = 4
) -> Iterator[pd.DataFrame]:
    """The reviews of 2014, 2018 or 2023, some thousands at a time.

    Columns: ``user_id``, ``item_id`` (2023: parent_asin, which joins reviews and items),
    ``variant`` (asin) str; ``rating`` float (0 to 5); ``positive`` bool; ``timestamp`` UTC;
    ``title``, ``text`` str (plain: no tags, no entities; may be missing); ``verified`` boolean
    (missing in 2014); ``helpful_vote`` Int64 (missing where the file says nothing, as 2018 does of
    most); ``n_images`` int.

    A user may have reviewed an item several times, and '5-core' files are not exactly that.
    """
    milliseconds = (
        "CASE WHEN r.timestamp IS NOT NULL THEN TRY_CAST(r.timestamp AS DOUBLE) ELSE coalesce("
        "1000 * TRY_CAST(r.unixReviewTime AS DOUBLE), "
        "epoch_ms(try_strptime(r.reviewTime, '%m %d, %Y'))) END"
    )
    votes = r"replace(r.vote, ',', ''), regexp_extract(r.helpful, '^\[(\d+)', 1)"
    columns = {
        "user_id": "coalesce(r.user_id, r.reviewerID)",
        "item_id": "CASE WHEN r.user_id IS NULL THEN r.asin ELSE r.parent_asin END",
        "variant": "r.asin",
        "rating": "TRY_CAST(coalesce(r.rating, r.overall) AS DOUBLE)",
        "positive": f"rating >= {float(positive_from)}",
        "_ms": milliseconds,
        "timestamp": "CASE WHEN _ms BETWEEN 631152000000 AND 4102444800000 AND _ms % 1 = 0 "
        "THEN make_timestamp((_ms * 1000)::BIGINT) END",
        "title": "coalesce(r.title, r.summary)",
        "text": "coalesce(r.text, r.reviewText)",
        "verified": "TRY_CAST(coalesce(r.verified_purchase, r.verified) AS BOOLEAN)",
        "helpful_vote": f"TRY_CAST(coalesce(r.helpful_vote, {votes}) AS BIGINT)",
        "n_images": "coalesce(len(r.images), len(r.image), 0)",
    }
    rules = _IDS | {
        "rating is not a number from 0 to 5": "rating BETWEEN 0 AND 5",
        "timestamp is not a time from 1990 to 2100 in milliseconds (before 2023: in seconds)": (
            "timestamp IS NOT NULL"
        ),
    }
    keys = dict.fromkeys(_REVIEW_KEYS.split(), "VARCHAR") | {"images": "JSON[]", "image": "JSON[]"}
    for table in _tables(path, "", _json_record(keys), columns, _OBJECT | rules, bad):
        for name in ("title", "text"):
            plain = table[name].map(_unmarked, na_action="ignore").astype("str")
            table[name] = plain.mask(plain == "")
        yield table.astype({"verified": "boolean", "helpful_vote": "Int64"})


def amazon_items(path: str | Path, bad: Counter | None = None) -> Iterator[pd.DataFrame]:
    """The items' metadata of 2018 or 2023, some thousands at a time.

    Columns: ``item_id`` (2023: parent_asin), ``title``, ``text`` str (title, features and
    description, plain; may be missing); ``price``, ``price_to`` float (US dollars; the ends of a
    range; missing where there is no number, as for most items of some categories);
    ``main_category``, ``brand`` str (2023: store); ``categories`` list of str;
    ``average_rating`` float; ``rating_number`` Int64 (missing in 2018).
    """
    keys = ("parent_asin", "asin", "average_rating", "rating_number")
    columns = {
        "item_id": "coalesce(r.parent_asin, r.asin)",
        "average_rating": "TRY_CAST(r.average_rating AS DOUBLE)",
        "rating_number": "TRY_CAST(r.rating_number AS BIGINT)",
        "json": "line",
    }
    rules = _OBJECT | {"neither parent_asin nor asin is an id": "item_id <> ''"}
    record = _json_record(dict.fromkeys(keys, "VARCHAR"))
    for table in _tables(path, "", record, columns, rules, bad):
        rows = [_item(json.loads(row, parse_int=float)) for row in table.pop("json")]
        table = table.astype({"rating_number": "Int64"})
        yield table[["item_id"]].join([pd.DataFrame(rows, table.index), table.iloc[:, 1:]])


def _item(row: dict) -> dict:
    title = _line(row.get("title"))
    about = _lines_of(row.get("features") or row.get("feature"))
    about += _lines_of(row.get("description"))
    price = str(row.get("price"))
    found = _PRICE.fullmatch(price) if len(price) < 60 else None
    ends = [float(end.replace(",", "")) for end in found.groups() if end] if found else [np.nan]
    return {
        "title": title,
        "text": "\n".join(filter(None, [title, *about])) or None,
        "price": min(ends),
        "price_to": max(ends),
        "main_category": _line(row.get("main_category") or row.get("main_cat")),
        "brand": _line(row.get("store") or row.get("brand")),
        "categories": _lines_of(row.get("categories") or row.get("category")),
    }


def _line(value) -> str | None:
    """A str as a plain text; of anything else nothing."""
    return _unmarked(value).strip() or None if isinstance(value, str) else None


def _lines_of(value) -> list[str]:
    """A str, a list of str or nothing, as a list of plain texts."""
    values = value if isinstance(value, list) else [value]
    return [line for line in map(_line, values) if line]


def _unmarked(text: str) -> str:
    """A text without tags and entities: "Tea<br />&amp; cake" gives "Tea & cake"."""
    if "<" not in text and "&" not in text:
        return text
    bare = _TAG.sub(" ", text)
    with suppress(ValueError):  # a numbered entity of thousands of digits
        bare = html.unescape(bare)
    return " ".join(bare.split())


def movielens_ratings(
    path: str | Path, bad: Counter | None = None, *, positive_from: float = 4
) -> Iterator[pd.DataFrame]:
    """The ratings of any size (100K to 32M, latest), some 100,000 at a time.

    Columns: ``user_id``, ``item_id`` str; ``rating`` float (0.5 to 5); ``positive`` bool;
    ``timestamp`` UTC.
    """
    columns = {
        "user_id": "r.userId",
        "item_id": "r.movieId",
        "rating": "TRY_CAST(r.rating AS DOUBLE)",
        "positive": f"rating >= {float(positive_from)}",
        "_seconds": "TRY_CAST(r.timestamp AS BIGINT)",
        "timestamp": "CASE WHEN _seconds BETWEEN 0 AND 4294967296 "
        "THEN make_timestamp(_seconds * 1000000) END",
    }
    rules = _IDS | {
        "rating is not 0.5 to 5": "rating BETWEEN 0.5 AND 5",
        "timestamp is not in seconds since 1970": "timestamp IS NOT NULL",
    }
    files = ("ratings.csv", "ratings.dat", "u.data")
    return _delimited(path, files, "userId movieId rating timestamp", columns, rules, bad)


def movielens_items(path: str | Path) -> pd.DataFrame:
    """The films of 1M to 32M and latest, as one table; those of 100K are in `movies`.

    Columns: ``item_id``, ``title`` str (without the year); ``year`` float (may be missing);
    ``genres`` list of str; ``text`` str ("Title (year). Genre, genre").
    """
    columns = {"item_id": "r.movieId", "title": "trim(r.title)", "genres": "r.genres"}
    tables = _delimited(
        path, ("movies.csv", "movies.dat"), "movieId title genres", columns, _ITEM, None
    )
    films = pd.concat(tables, ignore_index=True)
    for twice in films["item_id"][films["item_id"].duplicated()]:
        raise SchemaError(f"{path}: the film {twice} stands there twice; remove one")
    genres = films["genres"].str.replace("(no genres listed)", "").str.split("|")
    films["genres"] = [[name for name in names if name] for names in genres]
    year = films["title"].str.extract(r"\((\d{4})\)$")[0]
    films["title"] = films["title"].where(year.isna(), films["title"].str[:-6].str.strip())
    films.insert(2, "year", pd.to_numeric(year))
    films["text"] = [text.replace(" (nan).", ".") for text in item_texts(films)]
    return films


def mind_news(path: str | Path, bad: Counter | None = None) -> Iterator[pd.DataFrame]:
    """The news, some thousands at a time; some have no abstract.

    Columns, all str: ``item_id, category, subcategory, title, abstract, url``; ``text`` (title and
    abstract; may be missing).
    """
    names = ("category", "subcategory", "title", "abstract", "url")
    columns = {"item_id": "r.id"} | {name: f"r.{name}" for name in names}
    columns["text"] = r"NULLIF(trim(r.title || chr(10) || r.abstract, E' \n'), '')"
    fields = "id category subcategory title abstract url e1 e2"
    return _delimited(path, ("news.tsv",), fields, columns, _ITEM, bad)


def mind_impressions(
    path: str | Path, bad: Counter | None = None, *, labels: bool = True
) -> Iterator[pd.DataFrame]:
    """What was shown, a row each, some 100,000 at a time.

    Columns: ``impression_id``, ``user_id``, ``item_id`` str; ``timestamp`` (no zone is given; read
    as UTC); ``place`` int (from 1); ``positive`` bool (clicked); ``history`` list of item ids (one
    list for all rows of an impression; may be empty).

    Parameters
    ----------
    labels : False for the test file, which has none, and leaves ``positive`` missing.
    """
    columns = {
        "impression_id": "r.impression",
        "user_id": "r.user",
        "timestamp": "try_strptime(r.time, '%m/%d/%Y %I:%M:%S %p')",
        "history": "r.history",
        "shown": "trim(r.shown)",
    }
    rules = {
        "user_id is not an id": "user_id <> ''",
        "timestamp is not like 11/9/2019 9:05:58 AM": "timestamp IS NOT NULL",
        "nothing was shown": "shown <> ''",
    }
    if labels:
        why = "something shown has no label -0 or -1 (the test file has none: labels=False)"
        rules[why] = r"regexp_full_match(shown, '(\S+-[01](\s+|$))+')"
    fields = "impression user time history shown"
    for table in _delimited(path, ("behaviors.tsv",), fields, columns, rules, bad):
        history, shown = table["history"].str.split(), table["shown"].str.split()
        places = [range(1, len(items) + 1) for items in shown]
        table = table.assign(history=history, shown=shown, place=places)
        rows = table.explode(["shown", "place"]).astype({"place": "int64"})
        items = rows["shown"].astype(rows["user_id"].dtype)
        rows = rows.assign(item_id=items, positive=pd.array([pd.NA] * len(rows), "boolean"))
        if labels:
            rows = rows.assign(item_id=items.str[:-2], positive=items.str[-1] == "1")
        names = ["impression_id", "user_id", "item_id", "timestamp", "place", "positive", "history"]
        yield rows[names]


def open_bandit_log(
    path: str | Path, campaign: str = "all", policy: str = "random", *, bad: Counter | None = None
) -> Iterator[pd.DataFrame]:
    """The log of the full data set, some 10,000 impressions at a time.

    Columns: ``user_id`` (the four hashed features, joined by "-"), ``item_id`` str; ``positive``
    bool (a click); ``timestamp`` UTC; ``position`` int (1 to 3); ``propensity`` float (in (0, 1]).

    Raises UnknownNameError: no such campaign or policy.
    """
    require_campaign(campaign, policy)
    columns = {
        "user_id": f"concat_ws('-', {', '.join(f'r.{name}' for name in USER_FEATURES)})",
        "item_id": "r.item_id",
        "_click": "TRY_CAST(r.click AS DOUBLE)",
        "positive": "_click = 1",
        "timestamp": "TRY_CAST(r.timestamp AS TIMESTAMPTZ)::TIMESTAMP",
        "_position": "TRY_CAST(r.position AS DOUBLE)",
        "position": "TRY_CAST(_position AS BIGINT)",
        "propensity": "TRY_CAST(r.propensity_score AS DOUBLE)",
    }
    rules = _ITEM | {
        "click is not 0 or 1": "_click IN (0, 1)",
        "timestamp is not a time such as 2019-11-24 00:00:00+00:00": "timestamp IS NOT NULL",
        "position is not 1, 2 or 3": "_position IN (1, 2, 3)",
        "propensity_score is not in (0, 1]": "propensity > 0 AND propensity <= 1",
    }
    fields = f"timestamp item_id position click propensity_score {' '.join(USER_FEATURES)}"
    file = f"{policy}/{campaign}/{campaign}.csv"
    return _delimited(path, (file,), fields, columns, rules, bad)


def _delimited(
    path: str | Path,
    files: tuple[str, ...],
    fields: str,
    columns: dict[str, str],
    rules: dict[str, str],
    bad: Counter | None,
) -> Iterator[pd.DataFrame]:
    """The first of the files that a folder or a zip file holds, as `_tables`.

    ``fields`` are those of a line; of a .csv file, which has a header, those that are needed.
    """
    here = {f"/{name}".removesuffix(".gz"): name for name in members(path)}
    held = [(file, here[name]) for file in files for name in here if name.endswith(f"/{file}")]
    file, member = held[0] if held else (None, None)
    if list(here.values()) == [Path(path).name] and len(files) == 1:  # by whatever name
        file, member = files[0], Path(path).name
    if file is None:
        wanted = ", ".join(files)
        raise AssetError(f"{path} holds none of {wanted}; give the publisher's zip file or folder")
    header, separator = file.endswith(".csv"), _SEPARATORS[Path(file).suffix]
    names = _header(path, member, fields.split()) if header else fields.split()
    whole = {
        "double quotes do not enclose a whole field": "f IS NOT NULL",
        f"not {len(names)} fields": f"len(f) = {len(names)}",
    }
    record = ", ".join(f'"{name}": f[{names.index(name) + 1}]' for name in fields.split())
    split = _split(separator, quotes=header)
    split = f"SELECT *, {split} AS f FROM lines WHERE number > {int(header)}"
    record = f"SELECT *, {{{record}}} AS r FROM ({split})"
    encoding = "latin-1" if file == "movies.dat" else ""  # so in 1M; in 10M it is UTF-8
    return _tables(path, member, record, columns, whole | rules, bad, encoding)


def _header(path: str | Path, member: str, needed: list[str]) -> list[str]:
    """The names of a file's columns; those that are needed are there, and none of them twice."""
    with opened(path, member) as stream:
        line = stream.readline(LONGEST).decode("utf-8-sig", "replace")
    names, file = [name.strip() for name in next(csv.reader([line]), [])], Path(member).name
    require_columns(pd.DataFrame(columns=names), needed, file)
    for name in needed:
        if names.count(name) > 1:
            raise SchemaError(f"{file}: two columns are named {name!r}; rename or drop one of them")
    return names


def _split(separator: str, *, quotes: bool) -> str:
    """SQL of a line's fields, NULL where a double quote does not enclose a whole one."""
    plain = f"string_split(line, '{separator}')"
    if not quotes:
        return plain
    field = """("(?:[^"]|"")*"|[^",]*),"""  # with the comma behind it
    found, parts = (f"regexp_extract_all(line || ',', '{field}', {group})" for group in (0, 1))
    bare = """CASE WHEN p[1] = '"' THEN replace(p[2:-2], '""', '"') ELSE p END"""
    whole = f"array_to_string({found}, '') = line || ','"
    quoted = f"CASE WHEN {whole} THEN [{bare} FOR p IN {parts}] END"
    return f"CASE WHEN contains(line, '\"') THEN {quoted} ELSE {plain} END"


def _json_record(keys: dict[str, str]) -> str:
    """SQL of lines with the JSON object ``r`` of each, NULL where it is none; ``keys`` have types.

    Half a character, with which a text that was cut off may end, is left out.
    """
    pair, half = r"(\\u[dD][89abAB]..\\u[dD][c-fC-F]..)", r"\\u[dD][89a-fA-F].."
    whole = rf"regexp_replace(line, '{pair}|{half}', '\1', 'g')"
    whole = f"CASE WHEN json_valid(line) THEN line ELSE {whole} END"
    record = f"CASE WHEN json_type(line) = 'OBJECT' THEN from_json(line, '{json.dumps(keys)}') END"
    record = f"CASE WHEN json_valid(line) THEN {record} END"
    return f"SELECT *, {record} AS r FROM (SELECT number, {whole} AS line FROM lines)"


def _tables(
    path: str | Path,
    member: str,
    record: str,
    columns: dict[str, str],
    rules: dict[str, str],
    bad: Counter | None,
    encoding: str = "",
) -> Iterator[pd.DataFrame]:
    """A file as tables with the number of each row's line as index, some MiB of lines at a time.

    Parameters
    ----------
    record : SQL of the record ``r`` of each of ``lines``, which have ``number`` and ``line``.
    columns : column -> SQL of ``r`` or columns before it; those with "_" are left out.
    rules : what may be wrong with a row -> SQL that holds where it is not.
    encoding : of lines that are not UTF-8.
    """
    import duckdb  # here, as it takes 14 MiB

    file, rows, left = Path(member or path).name, 0, Counter()
    rules = {"not UTF-8": "line IS NOT NULL"} | rules
    names = [column for column in columns if not column.startswith("_")]
    made = ", ".join(f"{sql} AS {column}" for column, sql in columns.items())
    cases = " ".join(f"WHEN ({sql}) IS NOT TRUE THEN '{why}'" for why, sql in rules.items())
    query = f"""
        WITH lines AS (FROM block WHERE regexp_full_match(line, '\\s*') IS NOT TRUE),
        rows AS (SELECT *, {made} FROM ({record}))
        SELECT number, {", ".join(names)}, CASE {cases} END AS wrong,
               CASE WHEN wrong IS NOT NULL THEN left(line, 80) END AS said FROM rows
    """
    with duckdb.connect(config=_SETTINGS) as db:
        db.execute("SET TimeZone = 'UTC'")
        for block in _lines(path, member, file, encoding):
            db.register("block", block)
            found = db.sql(query).to_arrow_table()
            is_wrong = pc.is_valid(found["wrong"])
            for row in found.filter(is_wrong).to_pylist():
                if bad is None:
                    said = "" if row["said"] is None else f" in {row['said']!r}"
                    raise SchemaError(
                        f"{file}: line {row['number']}: {row['wrong']}{said}; "
                        "fix it, or count and drop such rows with `bad=Counter()`"
                    )
                bad[row["wrong"]] += 1
                left[row["wrong"]] += 1
            table = found.filter(pc.invert(is_wrong)).drop(["wrong", "said"]).to_pandas()
            if "timestamp" in table:
                table["timestamp"] = table["timestamp"].dt.tz_localize("UTC")
            rows += len(table)
            if len(table):
                yield table.set_index("number").rename_axis("line")
    if not rows and not left:
        raise SchemaError(f"{file}: there are no rows; give a file with data")
    if left.total() > rows:
        raise SchemaError(
            f"{file}: {rows:,} rows are sound and {left.total():,} are not: {dict(left)}; "
            "look at the file"
        )


def _lines(path: str | Path, member: str, file: str, encoding: str) -> Iterator[pa.Table]:
    """Blocks as tables of ``number`` (from 1) and ``line``, missing where it is no text."""
    first = 1
    with opened(path, member) as stream:
        for block in blocks(stream, file):
            lines = pa.array([_decoded(line, encoding) for line in block], pa.string())
            yield pa.table({"number": np.arange(first, first + len(lines)), "line": lines})
            first += len(lines)


def _decoded(line: bytes, encoding: str) -> str | None:
    line = line.removeprefix(codecs.BOM_UTF8).removesuffix(b"\n").removesuffix(b"\r")
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode(encoding) if encoding else None


@dataclass(frozen=True)
class Kept:
    """What became of a stream: its ``folder``, how many rows came, and how many were ``repeated``,
    which were left out as a later one is of the same user and item.
    """

    folder: Path
    rows: int
    repeated: int

    @property
    def parts(self) -> list[Path]:
        """The files, in order."""
        return sorted(self.folder.glob("part-*.parquet"))

    def __iter__(self) -> Iterator[pd.DataFrame]:
        return (pd.read_parquet(part) for part in self.parts)


def to_parquet(tables: Iterable[pd.DataFrame], folder: str | Path, *, parts: int = 16) -> Kept:
    """Write a stream of interactions as Parquet files, each with all rows of some of the users.

    Of a repeated (user, item) the latest stays. Whoever works a part at a time (a worker, a loop)
    needs no other part. Memory: one table, then one part; the disk holds the stream twice.

    Parameters
    ----------
    tables : with ``user_id, item_id, timestamp`` (UTC; of equal times the later row is the latest).
    folder : made anew, and complete or not there at all.
    parts : how many files; 1 to 999. The order within a part is that of the stream.

    Raises ReclabError: the folder holds something, or cannot be written.
    Raises SchemaError: a column is missing, a table has other columns than the first, or there is
        no table.
    """
    folder = Path(folder)
    if not 1 <= parts <= 999:
        raise SchemaError(f"parts must be in 1..999, got {parts}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ReclabError(f"{folder} is not empty; give a new folder, or delete that one")
    with named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as scratch:
            made, n_kept = Path(scratch, "parts"), 0
            made.mkdir()
            n_rows = _scatter(tables, Path(scratch), parts)
            for part in range(parts):
                with pa.ipc.open_stream(Path(scratch, f"{part}.arrow")) as stream:
                    table = _latest(stream.read_all())
                pq.write_table(table, made / f"part-{part:03}.parquet")
                n_kept += len(table)
            if folder.exists():
                folder.rmdir()
            made.replace(folder)
    return Kept(folder, n_rows, n_rows - n_kept)


def _scatter(tables: Iterable[pd.DataFrame], folder: Path, parts: int) -> int:
    """Write each row to the file of its user's part, the same one in every run and process."""
    n_rows, schema, writers = 0, None, []
    with ExitStack() as stack:
        for table in tables:
            require_columns(table, ("user_id", "item_id", "timestamp"), "the stream")
            arrow = pa.Table.from_pandas(table, schema, preserve_index=False)
            if schema is None:
                schema = arrow.schema
                files = [str(folder / f"{part}.arrow") for part in range(parts)]
                writers = [stack.enter_context(pa.ipc.new_stream(file, schema)) for file in files]
            part_of = pd.util.hash_array(table["user_id"].to_numpy(object)) % parts
            for part, writer in enumerate(writers):
                writer.write_table(arrow.filter(part_of == part))
            n_rows += len(table)
    if schema is None:
        raise SchemaError("the stream holds no table; is its file empty?")
    return n_rows


def _latest(table: pa.Table) -> pa.Table:
    """The rows of a part without those of which a later one is of the same user and item."""
    keys = table.select(["user_id", "item_id", "timestamp"]).to_pandas()
    later = keys.sort_values("timestamp", kind="stable", na_position="first")
    last = later.index[~later.duplicated(["user_id", "item_id"], keep="last")]
    return table.take(np.sort(last))


def gather(
    tables: Iterable[pd.DataFrame], card: Card, items: Iterable[pd.DataFrame] = ()
) -> Dataset:
    """A stream that fits into memory as a `Dataset`; items without metadata stay, without text.

    ``items`` are tables with ``item_id`` and ``text``; of a repeated item the first stays.

    Raises SchemaError: there is no table, or what `Dataset` refuses.
    """
    pieces = list(tables)
    if not pieces:
        raise SchemaError("the stream holds no table; is its file empty?")
    log = pd.concat(pieces, ignore_index=True)
    seen = log[["item_id"]].drop_duplicates(ignore_index=True)
    known = [table[table["item_id"].isin(seen["item_id"])] for table in items]
    if known:
        seen = seen.merge(pd.concat(known).drop_duplicates("item_id"), on="item_id", how="left")
    else:
        seen["text"] = None
    return Dataset(log[["user_id"]].drop_duplicates(ignore_index=True), seen, log, card)
