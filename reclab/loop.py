"""The closed loop: a system recommends, users click, the system learns, and the next day begins.

The log is the only state. Every draw of a batch comes from a generator of its own, made from the
seed, the day and the batch, and a system is what it learned from the log, so a run that was killed
takes up its days from the files and goes on to the same end.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .errors import ReclabError
from .results import write_atomically


@dataclass(frozen=True)
class World:
    """What a loop meets: who comes, what is on offer, who clicks, and what a click is worth.

    Parameters
    ----------
    chances : first day -> (n_users, n_items), the chance of a click on an item that is looked at,
        from that day on.
    worth : (n_items,) what a click brings, at least 0.
    looks : (n_places,) chance that a place of the page is looked at.
    opens : (n_items,) day on which an item comes on offer. comes : (n_users,) day from which on a
        user visits.
    budget : (n_items,) most that an item pays in all; infinite where it has no budget.
    visits : visits in a batch. batches : batches in a day; a system learns after each.

    Raises ReclabError: shapes that do not fit, chances outside [0, 1], or nothing to begin with.
    """

    chances: dict[int, np.ndarray]
    worth: np.ndarray
    looks: np.ndarray
    opens: np.ndarray
    comes: np.ndarray
    budget: np.ndarray
    visits: int = 100
    batches: int = 4

    def __post_init__(self):
        shape = (len(self.comes), len(self.worth))
        for day, table in self.chances.items():
            if table.shape != shape or not ((table >= 0) & (table <= 1)).all():
                raise ReclabError(
                    f"chances[{day}] must be {shape} numbers in [0, 1], got shape {table.shape}"
                )
        if not len(self.opens) == len(self.budget) == shape[1]:
            raise ReclabError(
                f"worth, opens and budget must have one number for each of {shape[1]} items"
            )
        few = min(self.comes) > 0 or (self.opens <= 0).sum() < len(self.looks)
        if few or 0 not in self.chances:
            raise ReclabError("day 0 needs chances, a user, and an item for each place")

    def chance(self, day: int) -> np.ndarray:
        """The chances of that day, (n_users, n_items)."""
        return self.chances[max(first for first in self.chances if first <= day)]


def run(
    world: World, system, *, days: int, seed: int = 0, folder: str | Path | None = None
) -> pd.DataFrame:
    """Let a system run for some days: recommend, click, update, and re-train at the end of each.

    Parameters
    ----------
    system : one that has learned nothing yet. ``recommend(users, offered, rng)`` returns the items
        for each visitor of a batch, best first, (n_visits, n_places); ``offered`` (n_items,) bool
        says what there is, and whatever it draws comes from ``rng``. ``update(rows)`` learns from a
        batch, right after it; ``retrain(log)`` from all days so far, at the end of each.
    seed : of who comes and who clicks.
    folder : where each finished day is kept. Days that are there already are learned from, not
        lived again.

    Returns: The log, one row a place: ``day, batch, visit`` (within the batch), ``user, item``
        (indices), ``place`` (from 0), ``clicked, reward``.

    Raises ReclabError: ``days`` is below 1, the folder holds another loop or a damaged day, or a
        list does not fit.
    """
    if days < 1:
        raise ReclabError(f"days must be 1 or more, got {days}")
    kept = None if folder is None else _claim(Path(folder), world, seed)
    log: list[pd.DataFrame] = []
    paid = np.zeros(len(world.worth))
    for day in range(days):
        path = kept and kept / f"day_{day:03d}.npz"
        before = _read(path) if path and path.is_file() else None
        for batch in range(world.batches):
            if before is None:
                rows = _serve(world, system, day, batch, seed, paid)
            else:
                rows = before[before["batch"] == batch].reset_index(drop=True)
            paid += np.bincount(rows["item"], rows["reward"], len(paid))
            system.update(rows)
            log.append(rows)
        if path and before is None:
            np.savez(buffer := io.BytesIO(), **pd.concat(log[-world.batches :]))
            write_atomically(path, buffer.getvalue())
        system.retrain(pd.concat(log, ignore_index=True))
    return pd.concat(log, ignore_index=True)


def _serve(world: World, system, day: int, batch: int, seed: int, paid: np.ndarray):
    """One batch: who comes, what they are shown, what they click, what that brings."""
    rng = np.random.default_rng([seed, day, batch])
    users = rng.choice(np.flatnonzero(world.comes <= day), world.visits)
    # before the system draws, so that rivals meet the same luck
    chance = rng.random((world.visits, len(world.looks)))
    offered = (world.opens <= day) & (paid < world.budget)
    items = _checked(system.recommend(users, offered, rng), offered, chance.shape, day)
    visit, place = np.indices(items.shape)
    columns = {
        "day": np.full(items.shape, day),
        "batch": np.full(items.shape, batch),
        "visit": visit,
        "user": users[visit],
        "item": items,
        "place": place,
        "clicked": chance < world.looks * world.chance(day)[users[:, None], items],
    }
    rows = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
    return rows.assign(reward=charges(rows["item"], rows["clicked"], world, paid))


def charges(items, clicked, world: World, paid=0.0) -> np.ndarray:
    """What each row brings, (n,): the worth of its click, as long as its item's budget lasts;
    ``paid`` (n_items,) is what the items have paid before.
    """
    items = np.asarray(items)
    full = np.where(clicked, world.worth[items], 0.0)
    spent = pd.Series(full).groupby(items).cumsum().to_numpy() - full  # by earlier rows of the item
    return np.clip((world.budget - paid)[items] - spent, 0.0, full)


def _checked(items, offered: np.ndarray, shape: tuple[int, int], day: int) -> np.ndarray:
    items = np.asarray(items)
    if items.shape != shape or items.dtype.kind not in "iu":
        raise ReclabError(
            f"day {day}: the system must recommend {shape} whole numbers, got {items.shape}"
        )
    if items.min() < 0 or items.max() >= len(offered) or not offered[items].all():
        raise ReclabError(
            f"day {day}: the system recommends an item that is not on offer; use `offered`"
        )
    if (np.diff(np.sort(items, axis=1), axis=1) == 0).any():
        raise ReclabError(f"day {day}: the system shows an item twice on one page")
    return items


def audit(world: World, log: pd.DataFrame) -> None:
    """Check the books of a loop: its rows, its rewards, and what was on offer to whom.

    Raises ReclabError: they do not add up; names the day.
    """
    rows = log.groupby("day").size()
    expected = world.visits * world.batches * len(world.looks)
    for day in range(int(log["day"].max()) + 1):
        if rows.get(day, 0) != expected:
            raise ReclabError(
                f"day {day}: {rows.get(day, 0)} rows where {expected} were served; was it logged "
                "twice?"
            )
    paid = charges(log["item"], log["clicked"], world)
    faults = {
        "the reward is not what the clicks are worth": ~(abs(paid - log["reward"]) <= 1e-6),
        "an item was shown before it was on offer": world.opens[log["item"]] > log["day"],
        "a user came before their first day": world.comes[log["user"]] > log["day"],
        "an item stands twice on one page": log.duplicated(["day", "batch", "visit", "item"]),
    }
    for fault, wrong in faults.items():
        if (bad := np.flatnonzero(wrong)).size:
            raise ReclabError(f"day {log['day'].iloc[bad[0]]}: {fault}, in {bad.size} rows")


def expected_reward(world: World, log: pd.DataFrame) -> np.ndarray:
    """What each day's pages were worth by the world's own chances, (n_days,), budgets left aside:
    the truth behind the clicks, with the mean of the rewards and less noise.
    """
    user, item = log["user"].to_numpy(), log["item"].to_numpy()
    value = np.empty(len(log))
    for day, rows in log.groupby("day").indices.items():
        value[rows] = world.chance(day)[user[rows], item[rows]]
    return np.bincount(log["day"], value * world.looks[log["place"]] * world.worth[item])


def _claim(folder: Path, world: World, seed: int) -> Path:
    """The folder, once it is sure that it belongs to this loop."""
    days = sorted(world.chances)
    digest = hashlib.sha256(repr((seed, world.visits, world.batches, days)).encode())
    arrays = (world.worth, world.looks, world.opens, world.comes, world.budget)
    for array in (*arrays, *(world.chances[day] for day in days)):
        digest.update(np.ascontiguousarray(array).tobytes())
    path, mark = folder / "loop.txt", digest.hexdigest()
    if path.is_file() and path.read_text("utf-8") != mark:
        raise ReclabError(
            f"{folder} holds the days of another world or seed; choose an empty folder"
        )
    write_atomically(path, mark)
    return folder


def _read(path: Path) -> pd.DataFrame:
    try:
        with np.load(path, allow_pickle=False) as kept:
            return pd.DataFrame(dict(kept))
    except Exception:  # a file that was cut short fails in many ways, one for each layer of it
        raise ReclabError(f"{path} is damaged; delete it, and that day is lived again") from None
