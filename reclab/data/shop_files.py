"""The raw files that a shop would leave behind, clean or with planted dirt of named kinds."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..results import write_atomically
from .shop import SHELVES, START, Shop, uniform

_OPINIONS = {
    1: ("It broke in a week.", "Not what the page had promised.", "I sent it back."),
    2: ("Smaller than I had thought.", "It wobbles.", "The colour came off."),
    3: ("It does what it should.", "Fine for the price.", "Good enough, no more."),
    4: ("Well made, I use it daily.", "A good buy.", "It looks fine beside the window."),
    5: ("I would buy it again at once.", "My sister wants one too.", "Better than on the picture."),
}
_WHERE = ("Bought for the hall.", "A gift.", "For the summer house.")
_WHERE += ("It came on time.", "For my desk.", "My second one.")
_DAY = 86_400  # seconds


def write_shop_files(shop: Shop, folder: str | Path, *, dirt: bool = True) -> dict[str, list]:
    """Write the raw files that a shop would leave behind, for somebody to clean.

    ``users.csv``; ``metadata.jsonl`` (an item a line); ``ratings.csv`` (a rating of every purchase,
    seconds since 1970); ``reviews.jsonl`` (those with words); ``searches.tsv`` (an impression a
    row); ``pictures/<item_id>.png``.

    Without ``dirt`` the same files are clean. Files of these names are written over.

    Returns: Kind of dirt -> its row numbers, counted from 0 below the header, or the ids of its
        items for pictures. A row has one kind of dirt at most; of a repeated row the later copy
        counts. Empty without dirt.
    """
    folder = Path(folder)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    users = shop.users[["age_group", "gender", "region", "user_id"]]
    metadata = shop.items.rename(columns={"text": "description"})
    metadata["price"] = metadata["price"].map("${:.2f}".format)
    metadata["created"] = metadata["created"].dt.strftime("%Y-%m-%d")
    ratings = _ratings(shop)
    files = {  # name -> rows, the column that they are ordered by, what soils them
        "users.csv": (users, "user_id", _soil_users),
        "metadata.jsonl": (metadata, "item_id", _soil_metadata),
        "ratings.csv": (ratings.drop(columns="text"), "timestamp", _soil_ratings),
        "reviews.jsonl": (ratings[ratings["text"] != ""], "timestamp", _soil_reviews),
        "searches.tsv": (_searches(shop), "time", _soil_searches),
    }
    planted = {}
    for name, (rows, order, soil) in files.items():
        table = _Table(rows, shop.settings["seed"], order)
        if dirt:
            soil(table)
        rows, kinds = table.in_order()
        write_atomically(folder / name, _encoded(name, rows, kinds))
        planted |= kinds
    return planted | _write_pictures(shop, folder / "pictures", dirt)


def _ratings(shop: Shop) -> pd.DataFrame:
    """A rating of every purchase, a week later; half of them with words."""
    seed, log = shop.settings["seed"], shop.interactions
    liked = shop.truth.components.sum(axis=1) + 2 * uniform(seed, "mood", len(log)) - 1
    bought = log[log["purchased"]]
    stars = np.digitize(liked, [-1.5, -0.5, 0.5, 1.5])[log["purchased"]] + 1
    opinion, where, says = (
        np.floor(uniform(seed, f"words {n}", len(stars)) * n).astype(int)
        for n in (3, len(_WHERE), 2)
    )
    texts = [
        f"{_OPINIONS[s][a]} {_WHERE[b]}" for s, a, b in zip(stars, opinion, where, strict=True)
    ]
    seconds = (bought["timestamp"] - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)
    return bought[["user_id", "item_id"]].assign(
        rating=stars.astype(float),
        text=np.where(says, texts, "").astype(object),
        timestamp=seconds + 7 * _DAY,
    )


def _searches(shop: Shop) -> pd.DataFrame:
    log, queries = shop.interactions, shop.searches.set_index("search_id")["query"]
    return log[["search_id", "user_id", "item_id", "place", "propensity"]].assign(
        query=log["search_id"].map(queries),
        clicked=log["positive"].astype(int),
        time=log["timestamp"],
    )


class _Table:
    """Rows of one file while dirt is worked into them; every row gets one kind at most."""

    def __init__(self, rows: pd.DataFrame, seed: int, order: str):
        self.rows, self.seed, self.kinds = rows.reset_index(drop=True), seed, {}
        self.rows["_order"] = self.rows[order]
        self.clean = np.arange(len(self.rows))

    def draw(self, kind: str, share: float) -> np.ndarray:
        """Rows that are still clean, drawn by chance; from now on they are not."""
        count = max(1, round(share * len(self.rows)))
        order = np.argsort(uniform(self.seed, kind, len(self.clean)), kind="stable")
        chosen = np.sort(self.clean[order[:count]])
        self.clean = np.setdiff1d(self.clean, chosen)
        return chosen

    def alter(self, kind: str, share: float, column: str, change) -> None:
        self.kinds[kind] = self.draw(kind, share)
        values = self.rows.loc[self.kinds[kind], column]
        self.rows.loc[self.kinds[kind], column] = [change(value) for value in values]

    def add(self, kind: str, rows: pd.DataFrame) -> None:
        added = np.arange(len(self.rows), len(self.rows) + len(rows))
        self.kinds[kind] = [*self.kinds.get(kind, ()), *added]
        self.rows = pd.concat([self.rows, rows], ignore_index=True)

    def repeat(self, kind: str, share: float) -> None:
        self.add(kind, self.rows.loc[self.draw(kind, share)])

    def in_order(self) -> tuple[pd.DataFrame, dict[str, list[int]]]:
        """The rows in their order in the file, and the row numbers of each kind of dirt."""
        order = np.argsort(self.rows["_order"].to_numpy(), kind="stable")
        place = np.argsort(order, kind="stable")
        kinds = {kind: sorted(place[rows].tolist()) for kind, rows in self.kinds.items()}
        return self.rows.drop(columns="_order").iloc[order].reset_index(drop=True), kinds


def _soil_users(table: _Table) -> None:
    table.alter("gender_spellings", 0.05, "gender", {"f": "Female", "m": "M"}.get)
    names = [f"u{number}" for number in range(9001, 9005)]
    profile = {"age_group": "25-39", "gender": "m", "region": "city"}
    table.add("made_up_users", pd.DataFrame({"user_id": names, **profile, "_order": names}))


def _soil_metadata(table: _Table) -> None:
    def to_range(price):
        return f"{price} - ${float(price[1:]) + 10:.2f}"

    def to_html(text):
        return f"<p>{'' if pd.isna(text) else text}</p>&nbsp;Naïve &amp; new."

    def to_latin1(text):  # the accents: `_encoded` writes these lines in Latin-1
        return f"{'' if pd.isna(text) else text} Crème de la crème."

    table.alter("price_ranges", 0.03, "price", to_range)
    table.alter("prices_blank", 0.02, "price", lambda price: "")
    table.alter("prices_junk", 0.01, "price", lambda price: ".a-box-inner{background-color:#fff}")
    table.alter("html_descriptions", 0.03, "description", to_html)
    table.alter("latin1_lines", 0.02, "description", to_latin1)
    table.repeat("repeated_items", 0.02)


def _soil_ratings(table: _Table) -> None:
    table.alter("ratings_off_scale", 0.01, "rating", {1: -1, 2: 0, 3: 6, 4: 10, 5: 55}.get)
    table.alter("unknown_items", 0.005, "item_id", lambda item: f"x{item[1:]}")
    table.alter("unknown_users", 0.005, "user_id", lambda user: f"guest-{user[1:]}")
    old = table.rows.loc[table.draw("outdated_ratings", 0.02)]
    earlier = old["timestamp"] - _DAY
    old = old.assign(rating=6 - old["rating"], timestamp=earlier, _order=earlier)
    table.add("outdated_ratings", old)


def _soil_reviews(table: _Table) -> None:
    def to_html(text):
        return text.replace(". ", ".<br />") + " It&#39;s tea &amp; cake"

    table.alter("html_reviews", 0.03, "text", to_html)
    table.alter("reviews_without_text", 0.02, "text", lambda text: "")
    table.alter("millisecond_stamps", 0.1, "timestamp", lambda seconds: seconds * 1000)
    table.kinds["cut_lines"] = table.draw("cut_lines", 0.002)  # `_encoded` cuts them
    table.repeat("repeated_reviews", 0.02)
    items = table.rows["item_id"].drop_duplicates().head(60)
    start = int(table.rows["_order"].median()) // 3600 * 3600 + 600  # within an hour of the clock
    advert = {"rating": 5.0, "text": "BEST SHOP EVER!!! visit our page for more"}
    for number in range(3):
        stamps = start + 3 * np.arange(len(items)) + number
        rows = pd.DataFrame({"user_id": f"u{9001 + number}", "item_id": items, **advert})
        table.add("bot_reviews", rows.assign(timestamp=stamps, _order=stamps))


def _soil_searches(table: _Table) -> None:
    table.alter("untidy_queries", 0.02, "query", lambda query: f"  {query.upper()} ")
    table.alter("clocks_at_zero", 0.001, "time", lambda time: pd.Timestamp(0, tz="UTC"))
    table.repeat("repeated_impressions", 0.01)
    items = table.rows["item_id"].drop_duplicates().head(500)
    n = np.arange(len(items))
    when = START + pd.to_timedelta(3 * _DAY + n, unit="s")
    crawled = {
        "search_id": [f"c{page:06d}" for page in n // 5],
        "user_id": "u9004",
        "item_id": items,
        "place": n % 5 + 1,
        "propensity": 0.125,
        "query": [SHELVES[page % 6] for page in n // 5],
        "clicked": 0,
        "time": when,
        "_order": when,
    }
    table.add("crawler_rows", pd.DataFrame(crawled))


def _encoded(name: str, rows: pd.DataFrame, kinds: dict[str, list[int]]) -> bytes:
    if not name.endswith("jsonl"):
        if "time" in rows:
            rows = rows.assign(time=rows["time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
        separator = "\t" if name.endswith("tsv") else ","
        text = rows.to_csv(index=False, sep=separator, float_format="%.6g", lineterminator="\n")
        return text.encode()
    latin1, cut = set(kinds.get("latin1_lines", ())), set(kinds.get("cut_lines", ()))
    lines = []
    for number, row in enumerate(rows.astype(object).where(rows.notna(), None).to_dict("records")):
        text = json.dumps(row, ensure_ascii=False)
        line = text.encode("latin-1" if number in latin1 else "utf-8")
        lines.append(line[: len(line) // 2] if number in cut else line)
    return b"\n".join(lines) + b"\n"


def _write_pictures(shop: Shop, folder: Path, dirt: bool) -> dict[str, list]:
    from PIL import Image

    names, rows = shop.items["item_id"].to_numpy(), np.flatnonzero(shop.present["picture"])
    drawn = uniform(shop.settings["seed"], "soiled pictures", len(rows))
    several = max(1, len(rows) // 100) if dirt else 0
    pages, cut, grey = np.split(rows[np.argsort(drawn, kind="stable")][: 3 * several], 3)
    for row in rows:
        pixels = np.full_like(shop.pictures[row], 128) if row in grey else shop.pictures[row]
        Image.fromarray(pixels).save(buffer := io.BytesIO(), format="png")
        content = buffer.getvalue()
        if row in pages:
            content = b"<!DOCTYPE html><title>404</title>"
        if row in cut:
            content = content[:200]
        write_atomically(folder / f"{names[row]}.png", content)
    soiled = {"pictures_that_are_pages": pages, "pictures_cut_off": cut, "grey_placeholders": grey}
    return {kind: sorted(names[rows]) for kind, rows in soiled.items() if dirt}
