"""The shop: a generated marketplace with known truth, for what no free data set has.

Nothing in it was observed: people, items, pictures, searches and clicks come from the rules below and a seed. A result
on it says whether a method finds what was planted, never how people behave.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from . import shop_tables as tables
from .schema import Card, Dataset
from .shop_rules import BASE, STRENGTHS, Rules, Settings, uniform
from .truth import Truth, sigmoid

_PLACES, OLD, _NEW = 5, 6, 2  # places on a page; candidates for each place, old items and items that arrive meanwhile
_VISITS = 15  # most visits of a user
TRAPS = (
    "Generated: it shows what a method finds of what was planted, never how people behave.",
    "The truth (`truth`) and a purchase are not known before the click: never features.",
    "The picture's attributes stand in no text and no tag; `truth.items` names them, also where the picture is absent.",
    "An item's id or click rate gives away part of its picture, text and tags: measure shares without them.",
    "With confounding, popular items are shown more and clicked more: weigh by 1 / propensity.",
)


@dataclass(frozen=True, repr=False)
class Shop(Dataset):
    """A `Dataset` whose interactions are impressions, with pictures, searches, the logging policy and the truth.

    Parameters
    ----------
    users : ``age_group, gender, region``. items : ``text`` (material and style), ``category, brand`` (the tags),
        ``price`` (dollars), ``shelf``, ``seller_id, seller_group, created`` (UTC).
    interactions : one row an impression: ``search_id, place`` (1 to 5), ``propensity, positive`` (a click),
        ``purchased, timestamp``; a user meets an item at most once.
    pictures : ``(n_items, 32, 32, 3)`` uint8, zero where absent.
    present : ``picture, text, tags`` (bool) of each item, in the order of ``items``.
    searches : ``search_id, user_id, query, timestamp``, also from before the first day.
    candidates : ``(n_rows, 8)`` rows of ``items`` that could have been shown in that place, and ``propensities``, with
        which chance each; they sum to 1, and are 0 before an item is on sale.
    truth : see `Truth`.
    settings : what `shop` was called with.
    """

    pictures: np.ndarray
    present: pd.DataFrame
    searches: pd.DataFrame
    candidates: np.ndarray
    propensities: np.ndarray
    truth: Truth
    settings: dict

    def write_files(self, folder: str | Path, *, dirt: bool = True) -> dict[str, list]:
        """Write the raw files that this shop would leave behind, for somebody to clean.

        ``users.csv``; ``metadata.jsonl`` (an item a line); ``ratings.csv`` (a rating of every purchase, seconds since
        1970); ``reviews.jsonl`` (those with words); ``searches.tsv`` (an impression a row); ``pictures/<item_id>.png``.

        Parameters
        ----------
        folder : made if need be; files of these names are written over.
        dirt : False writes the same files clean.

        Returns: Kind of dirt -> its row numbers, counted from 0 below the header, or the ids of its items for pictures.
            A row has one kind of dirt at most; of a repeated row the later copy counts. Empty without dirt.
        """
        from .shop_files import write_files

        return write_files(self, folder, dirt=dirt)

    def fingerprint(self) -> str:
        """SHA-256 of all tables, pictures and the truth, numbers rounded to six decimals: the same on every machine."""
        digest = hashlib.sha256(self.pictures.tobytes())
        tables = [self.users, self.items, self.interactions, self.searches, self.present]
        arrays = [self.candidates, self.propensities, self.truth.click_probability, self.truth.candidate_probability]
        for column in [t[name] for t in tables for name in t] + [self.truth.components[m] for m in STRENGTHS] + arrays:
            digest.update(_plain(column))
        return digest.hexdigest()


def _plain(column) -> bytes:
    values = column.to_numpy() if isinstance(column, pd.Series) else column
    if isinstance(getattr(column, "dtype", None), pd.DatetimeTZDtype):
        values = column.dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
    if values.dtype.kind in "biu":
        return values.astype("<i8").tobytes()
    if values.dtype.kind == "f":
        return np.nan_to_num(np.rint(values * 1e6), nan=-1).astype("<i8").tobytes()
    return "\n".join("" if pd.isna(value) else value for value in values).encode()


def shop(
    seed: int = 0,
    *,
    n_users: int = 1000,
    n_items: int = 600,
    days: int = 28,
    strengths: dict[str, float] | None = None,
    noise: float = 0.0,
    missing: float | dict[str, float] = 0.0,
    unfairness: float = 0.0,
    confounding: float = 0.0,
    drift: float = 0.0,
) -> Shop:
    """Generate a marketplace whose truth is known; the same arguments give the same shop on every machine.

    Parameters
    ----------
    seed : 0 or more. What a knob does not touch stays as it is when the knob turns.
    n_users, n_items : at least 8 and 80; a user visits up to 15 times, or ``n_items // 40``. A quarter of the items
        arrives during the period.
    days : length of the log.
    strengths : modality -> standard deviation of its part of the click's logit; 0 plants no effect. The others keep
        those of ``STRENGTHS``. ``picture, text, tags, price``: each age group likes the values in an order of its own.
        ``profile``: gender and region. ``history``: every user likes half of the shelves, and mostly searches there.
        ``popularity``: of the item, seen only in what is clicked. ``position``: the place on the page.
    noise : share of clicks that are accidents, as likely for every item.
    missing : share of items whose picture, text and tags are absent, each at random; or one share for each.
    unfairness : 0 to below 1; lowers the odds that a small seller's item is shown by this share, at equal relevance.
    confounding : how much popularity moves what is shown: odds go with exp(confounding * popularity).
    drift : how often tastes turn during the period: each turn moves every liking on to the next value, for each age
        group, attribute and user on a day of their own. Prices are liked as before.

    Raises ValueError: a knob is out of range. UnknownNameError : no such modality.
    """
    settings = Settings(seed, n_users, n_items, days, strengths or {}, noise, missing, unfairness, confounding, drift)
    rules = Rules.draw(settings)
    shown, candidates, on_sale = _visits(settings, rules)
    odds = rules.odds(candidates) * on_sale
    propensities = odds / odds.sum(axis=1, keepdims=True)
    chance = uniform(seed, "chosen", len(shown), 1) * odds.sum(axis=1, keepdims=True)
    choice = (chance < odds.cumsum(axis=1)).argmax(axis=1)
    parts = rules.components(candidates, shown["user"].to_numpy(), shown["day"].to_numpy(), shown["place"].to_numpy())
    probability = (1 - settings.noise) * sigmoid(BASE + sum(parts.values())) + settings.noise * sigmoid(BASE)
    rows = np.arange(len(shown))
    shown["item"], shown["propensity"] = candidates[rows, choice], propensities[rows, choice]
    absent = rules.absent()
    truth = Truth(
        components=pd.DataFrame({name: part[rows, choice] for name, part in parts.items()}),
        absent=absent.iloc[shown["item"]].reset_index(drop=True),
        base=BASE,
        noise=settings.noise,
        click_probability=probability[rows, choice],
        candidate_probability=np.where(on_sale, probability, np.nan),
        items=tables.true_items(rules),
        tastes=tables.taste_table(rules),
    )
    return Shop(
        users=tables.user_table(rules),
        items=tables.item_table(rules, absent),
        interactions=tables.impression_table(rules, shown, truth),
        card=Card(
            "shop: a generated marketplace", "generated by reclab.data.shop", "MIT, as this package", traps=TRAPS
        ),
        pictures=tables.picture_array(rules, absent),
        present=~absent,
        searches=tables.search_table(rules, shown),
        candidates=candidates,
        propensities=propensities,
        truth=truth,
        settings=asdict(settings),
    )


def _visits(settings: Settings, rules: Rules) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """One row a place on a page, the items that could stand there, and which of them are on sale."""
    seed, n_users, most = settings.seed, settings.n_users, min(_VISITS, settings.n_items // (_PLACES * (OLD + _NEW)))
    often = np.minimum(2 + np.floor(uniform(seed, "visits", n_users) ** 2 * (2 * most)), most)
    day = np.sort(np.floor(uniform(seed, "day", n_users, most) * settings.days).astype(int), axis=1)
    second = np.floor(uniform(seed, "second", n_users, most) * 86_000).astype(int)
    order = np.argsort(day * 86_400 + second, axis=1, kind="stable")
    pages = {
        "user": np.repeat(np.arange(n_users), most),
        "visit": np.arange(n_users * most),
        "day": day.ravel(),
        "second": np.take_along_axis(second, order, axis=1).ravel(),
    }
    kept = np.repeat((np.arange(most) < often[:, None]).ravel(), _PLACES)
    shown = pd.DataFrame({name: np.repeat(values, _PLACES)[kept] for name, values in pages.items()})
    shown["place"] = np.tile(np.arange(_PLACES), n_users * most)[kept]
    candidates = _candidates(seed, n_users, most * _PLACES, rules.created == 0)[kept]
    return shown, candidates, rules.created[candidates] <= shown["day"].to_numpy()[:, None]


def _candidates(seed: int, n_users: int, slots: int, old: np.ndarray) -> np.ndarray:
    """``(n_users * slots, 8)`` items that could be shown; no item is a candidate of a user twice."""
    parts = []
    for name, items, width in (("old", np.flatnonzero(old), OLD), ("new", np.flatnonzero(~old), _NEW)):
        order = np.argsort(uniform(seed, f"{name} candidates", n_users, len(items)), axis=1, kind="stable")
        parts.append(items[order[:, : slots * width]].reshape(n_users * slots, width))
    return np.concatenate(parts, axis=1).astype(np.int32)
