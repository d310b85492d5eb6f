"""The raw files that a shop would leave behind, clean or with planted dirt of named kinds."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..results import write_atomically
from .shop_rules import SHELVES, uniform
from .shop_tables import START

_OPINIONS = {
    1: ("It broke in a week.", "Not what the page had promised.", "I sent it back."),
    2: ("Smaller than I had thought.", "It wobbles.", "The colour came off."),
    3: ("It does what it should.", "Fine for the price.", "Good enough, no more."),
    4: ("Well made, I use it daily.", "A good buy.", "It looks fine beside the window."),
    5: ("I would buy it again at once.", "My sister wants one too.", "Better than on the picture."),
}
_WHERE = (
    "Bought for the hall.",
    "A gift.",
    "For the summer house.",
    "It came on time.",
    "For my desk.",
    "My second one.",
)
_JUNK = ".a-box-inner{background-color:#fff}"
_ADVERT = "BEST SHOP EVER!!! visit our page for more"


class _Table:
    """Rows of one file while dirt is worked into them; every row gets one kind of dirt at most."""

    def __init__(self, rows: pd.DataFrame, seed: int, order: str):
        self.rows, self.seed, self.kinds = rows.reset_index(drop=True), seed, {}
        self.rows["_order"] = self.rows[order]
        self.clean = np.arange(len(self.rows))

    def pick(self, kind: str, share: float, mark: bool = True) -> np.ndarray:
        """Rows that are still clean, drawn by chance; they now count as dirt of that kind."""
        count = max(1, round(share * len(self.rows)))
        chosen = self.clean[np.argsort(uniform(self.seed, kind, len(self.clean)), kind="stable")[:count]]
        self.clean = np.setdiff1d(self.clean, chosen)
        if mark:
            self.kinds[kind] = chosen
        return np.sort(chosen)

    def add(self, kind: str, rows: pd.DataFrame) -> None:
        """More rows, all dirt of that kind."""
        self.kinds[kind] = np.arange(len(self.rows), len(self.rows) + len(rows))
        self.rows = pd.concat([self.rows, rows], ignore_index=True)

    def repeat(self, kind: str, share: float, **changes) -> None:
        """Copies of clean rows, with some columns changed."""
        self.add(kind, self.rows.loc[self.pick(kind, share, mark=False)].assign(**changes))

    def alter(self, kind: str, share: float, column: str, change) -> None:
        """Put ``change(value)`` in the place of some values."""
        rows = self.pick(kind, share)
        self.rows.loc[rows, column] = [change(value) for value in self.rows.loc[rows, column]]

    def finish(self) -> tuple[pd.DataFrame, dict[str, list[int]]]:
        """The rows in their order in the file, and the row numbers of each kind of dirt."""
        order = np.argsort(self.rows["_order"].to_numpy(), kind="stable")
        place = np.argsort(order, kind="stable")
        kinds = {kind: sorted(place[labels].tolist()) for kind, labels in self.kinds.items()}
        return self.rows.drop(columns="_order").iloc[order].reset_index(drop=True), kinds


def write_files(shop, folder: str | Path, *, dirt: bool = True) -> dict[str, list]:
    """Write the shop as the raw files that somebody would have to clean; see `Shop.write_files`."""
    folder = Path(folder)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    ratings = _ratings(shop)
    planted: dict[str, list] = {}
    makers = {
        "users.csv": (_users(shop), _soil_users),
        "metadata.jsonl": (_metadata(shop), _soil_metadata),
        "ratings.csv": (ratings.drop(columns="text"), _soil_ratings),
        "reviews.jsonl": (ratings[ratings["text"] != ""], _soil_reviews),
        "searches.tsv": (_searches(shop), _soil_searches),
    }
    for name, (rows, soil) in makers.items():
        table = _Table(rows, shop.settings["seed"], "item_id" if name == "metadata.jsonl" else rows.columns[-1])
        if dirt:
            soil(table)
        rows, kinds = table.finish()
        planted |= kinds
        write_atomically(folder / name, _encoded(name, rows, kinds))
    return planted | _write_pictures(shop, folder / "pictures", dirt)


def _users(shop) -> pd.DataFrame:
    return shop.users[["age_group", "gender", "region", "user_id"]]


def _metadata(shop) -> pd.DataFrame:
    rows = shop.items.rename(columns={"text": "description"})
    return rows.assign(price=rows["price"].map("${:.2f}".format), created=rows["created"].dt.strftime("%Y-%m-%d"))


def _seconds(times: pd.Series) -> pd.Series:
    return (times - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)


def _ratings(shop) -> pd.DataFrame:
    """A rating of every purchase, a week later; half of them with words."""
    seed, log = shop.settings["seed"], shop.interactions
    liked = shop.truth.components.sum(axis=1) + 2 * uniform(seed, "mood", len(log)) - 1
    bought = log["purchased"]
    stars = (np.digitize(liked, [-1.5, -0.5, 0.5, 1.5]) + 1)[bought]
    which = [np.floor(uniform(seed, f"words {k}", len(stars)) * k).astype(int) for k in (3, len(_WHERE), 2)]
    words = [f"{_OPINIONS[s][a]} {_WHERE[b]}" if c else "" for s, a, b, c in zip(stars, *which, strict=True)]
    rows = log.loc[bought, ["user_id", "item_id"]].assign(rating=stars.astype(float), text=words)
    return rows.assign(timestamp=_seconds(log.loc[bought, "timestamp"]) + 7 * 86_400)


def _searches(shop) -> pd.DataFrame:
    queries = shop.searches.set_index("search_id")["query"]
    log = shop.interactions
    shown = log[["search_id", "user_id", "item_id", "place", "propensity"]]
    return shown.assign(query=log["search_id"].map(queries), clicked=log["positive"].astype(int), time=log["timestamp"])


def _soil_users(table: _Table) -> None:
    table.alter("gender_spellings", 0.05, "gender", {"f": "Female", "m": "M"}.get)
    extra = pd.DataFrame({"user_id": [f"u{number}" for number in range(9001, 9005)]})
    extra = extra.assign(age_group="25-39", gender="m", region="city", _order=extra["user_id"])
    table.add("made_up_users", extra)


def _soil_metadata(table: _Table) -> None:
    table.alter("price_ranges", 0.03, "price", lambda price: f"{price} - ${float(price[1:]) + 10:.2f}")
    table.alter("prices_blank", 0.02, "price", lambda price: "")
    table.alter("prices_junk", 0.01, "price", lambda price: _JUNK)
    table.alter("html_descriptions", 0.03, "description", lambda text: f"<p>{_said(text)}</p>&nbsp;Naïve &amp; new.")
    table.alter("latin1_lines", 0.02, "description", lambda text: f"{_said(text)} Crème de la crème.")
    table.repeat("repeated_items", 0.02)


def _said(text) -> str:
    return "" if pd.isna(text) else text


def _soil_ratings(table: _Table) -> None:
    table.alter("ratings_off_scale", 0.01, "rating", lambda stars: {1: -1, 2: 0, 3: 6, 4: 10, 5: 55}[int(stars)])
    table.alter("unknown_items", 0.005, "item_id", lambda item: f"x{item[1:]}")
    table.alter("unknown_users", 0.005, "user_id", lambda user: f"guest-{user[1:]}")
    again = table.rows.loc[table.pick("outdated_ratings", 0.02, mark=False)]
    earlier = again["timestamp"] - 86_400
    table.add("outdated_ratings", again.assign(rating=6 - again["rating"], timestamp=earlier, _order=earlier))


def _soil_reviews(table: _Table) -> None:
    table.alter("html_reviews", 0.03, "text", lambda text: text.replace(". ", ".<br />") + " It&#39;s tea &amp; cake")
    table.alter("reviews_without_text", 0.02, "text", lambda text: "")
    table.alter("millisecond_stamps", 0.1, "timestamp", lambda seconds: seconds * 1000)
    table.pick("cut_lines", 0.002)
    table.repeat("repeated_reviews", 0.02)
    items = table.rows["item_id"].drop_duplicates().head(60)
    start = int(table.rows["_order"].median()) // 3600 * 3600 + 600  # within one hour of the clock
    for number in range(3):
        stamps = start + 3 * np.arange(len(items)) + number
        rows = {"user_id": f"u{9001 + number}", "item_id": items, "rating": 5.0, "text": _ADVERT, "timestamp": stamps}
        table.add(f"bot_{number}", pd.DataFrame(rows).assign(_order=stamps))
    table.kinds["bot_reviews"] = np.concatenate([table.kinds.pop(f"bot_{number}") for number in range(3)])


def _soil_searches(table: _Table) -> None:
    table.alter("untidy_queries", 0.02, "query", lambda query: f"  {query.upper()} ")
    table.alter("clocks_at_zero", 0.001, "time", lambda time: pd.Timestamp(0, tz="UTC"))
    table.repeat("repeated_impressions", 0.01)
    items = table.rows["item_id"].drop_duplicates().head(500)
    n = np.arange(len(items))
    when = START + pd.to_timedelta(3 * 86_400 + n, unit="s")
    rows = {"search_id": [f"c{k:06d}" for k in n // 5], "user_id": "u9004", "item_id": items, "place": n % 5 + 1}
    more = {"propensity": 0.125, "query": [SHELVES[k // 5 % 6] for k in n], "clicked": 0, "time": when, "_order": when}
    table.add("crawler_rows", pd.DataFrame(rows | more))


def _encoded(name: str, rows: pd.DataFrame, kinds: dict[str, list[int]]) -> bytes:
    if name.endswith("jsonl"):
        return _json_lines(rows, set(kinds.get("latin1_lines", ())), set(kinds.get("cut_lines", ())))
    if "time" in rows:
        rows = rows.assign(time=rows["time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    separator = "\t" if name.endswith("tsv") else ","
    return rows.to_csv(index=False, sep=separator, float_format="%.6g", lineterminator="\n").encode()


def _json_lines(rows: pd.DataFrame, latin1: set[int], cut: set[int]) -> bytes:
    lines = []
    for number, row in enumerate(rows.astype(object).where(rows.notna(), None).to_dict("records")):
        line = json.dumps(row, ensure_ascii=False).encode("latin-1" if number in latin1 else "utf-8")
        lines.append(line[: len(line) // 2] if number in cut else line)
    return b"\n".join(lines) + b"\n"


def _write_pictures(shop, folder: Path, dirt: bool) -> dict[str, list]:
    from PIL import Image

    rows = np.flatnonzero(shop.present["picture"])
    order = rows[np.argsort(uniform(shop.settings["seed"], "soiled pictures", len(rows)), kind="stable")]
    several = max(1, len(rows) // 100)
    html, cut, grey = np.split(order[: 3 * several], 3) if dirt else ([], [], [])
    for row in rows:
        pixels = np.full_like(shop.pictures[row], 128) if row in grey else shop.pictures[row]
        Image.fromarray(pixels).save(buffer := io.BytesIO(), format="png")
        content = b"<!DOCTYPE html><title>404</title>" if row in html else buffer.getvalue()
        write_atomically(folder / f"{shop.items['item_id'][row]}.png", content[:200] if row in cut else content)
    if not dirt:
        return {}
    kinds = {"pictures_that_are_pages": html, "pictures_cut_off": cut, "grey_placeholders": grey}
    return {kind: sorted(shop.items["item_id"].iloc[rows]) for kind, rows in kinds.items()}
