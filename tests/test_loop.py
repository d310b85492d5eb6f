"""The closed loop: its books, its resumption after a kill, and the systems and worlds that run in it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reclab import data, loop, worlds
from reclab.data.shop import expected_auc
from reclab.errors import ReclabError
from reclab.loop import World
from reclab.metrics import auc
from reclab.systems import Counts, Halves, Learner, Random, best, difference, halves

DAYS = 8


def small_world(**changes) -> World:
    rng = np.random.default_rng(0)
    table = rng.random((12, 20))
    settings = dict(
        chances={0: table, 4: table[::-1].copy()},
        worth=rng.random(20).round(2) + 0.5,
        looks=np.array([1.0, 0.5, 0.25]),
        opens=np.where(np.arange(20) < 15, 0, 3),
        comes=np.where(np.arange(12) < 9, 0, 2),
        budget=np.where(np.arange(20) % 5, np.inf, 4.0),
        visits=30,
        batches=3,
    )
    return World(**settings | changes)


def learner(world: World) -> Learner:
    rng = np.random.default_rng(1)
    return Learner(world, rng.random((12, 3)), np.column_stack([np.ones(20), rng.random((20, 2))]))


MAKERS = {
    "random": Random,
    "counts": Counts,
    "greedy": lambda world: Counts(world, greedy=True),
    "learner": learner,
    "halves": lambda world: Halves(Counts(world), learner(world)),
}


# The books


@pytest.mark.parametrize("name", MAKERS)
def test_counts_are_conserved_and_rewards_are_those_of_the_log(name):
    world = small_world()
    log = loop.run(world, MAKERS[name](world), days=DAYS, seed=3)
    loop.audit(world, log)
    assert len(log) == DAYS * 3 * 30 * 3
    assert (log.groupby(["day", "batch", "visit"]).size() == 3).all()
    paid = np.bincount(log["item"], log["reward"], 20)
    assert (paid <= world.budget + 1e-9).all()
    assert (log.loc[~log["clicked"], "reward"] == 0).all()
    unlimited = log[np.isinf(world.budget[log["item"]]) & log["clicked"]]
    np.testing.assert_array_equal(unlimited["reward"], world.worth[unlimited["item"]])


def test_charges_are_what_a_loop_row_by_row_would_take():
    world, rng = small_world(), np.random.default_rng(5)
    items, clicked, paid = rng.integers(20, size=400), rng.random(400) < 0.5, np.full(20, 0.75)
    left, expected = world.budget - paid, []
    for item, click in zip(items, clicked, strict=True):
        expected.append(min(world.worth[item] * click, left[item]))
        left[item] -= expected[-1]
    np.testing.assert_allclose(loop.charges(items, clicked, world, paid), expected, atol=1e-12)


def day_0(log):
    return log["day"] == 0


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (lambda log: log.index == 100, {"reward": 9.0}, "the reward is not"),
        (lambda log: ~log["clicked"] & (log["item"] % 5 > 0), {"clicked": True}, "the reward is not"),
        (lambda log: day_0(log) & (log["item"] == 1), {"item": 19, "clicked": False, "reward": 0}, "an item was shown"),
        (day_0, {"user": 11}, "a user came before"),
        (lambda log: day_0(log) & (log["visit"] == 0), {"item": 7, "clicked": False, "reward": 0}, "an item stands"),
    ],
)
def test_the_audit_finds_what_was_spoiled(rows, changes, message):
    world = small_world()
    log = loop.run(world, Random(world), days=3)
    loop.audit(world, log)
    log.loc[rows(log), list(changes)] = list(changes.values())
    with pytest.raises(ReclabError, match=rf"^day \d: {message}"):
        loop.audit(world, log)


@pytest.mark.parametrize("kept", [[], [slice(-1)], [slice(None)] * 2], ids=["gone", "short", "twice"])
def test_the_audit_names_the_day_whose_rows_do_not_add_up(kept):
    world = small_world()
    log = loop.run(world, Random(world), days=4)
    day = log[log["day"] == 2]
    with pytest.raises(ReclabError, match=r"^day 2: .* rows where 270 were served"):
        loop.audit(world, pd.concat([log.drop(day.index), *(day[part] for part in kept)]))


def test_expected_reward_is_the_mean_of_rewards():
    world = small_world(budget=np.full(20, np.inf), visits=4000)
    log = loop.run(world, Random(world), days=6)
    earned = np.bincount(log["day"], log["reward"])
    np.testing.assert_allclose(earned, loop.expected_reward(world, log), rtol=0.03)


def test_rivals_meet_the_same_visitors_and_the_same_luck():
    world = small_world()
    logs = [loop.run(world, MAKERS[name](world), days=2, seed=4) for name in ("random", "counts")]
    np.testing.assert_array_equal(logs[0]["user"], logs[1]["user"])
    same = logs[0]["item"] == logs[1]["item"]
    assert same.any() and (logs[0]["clicked"] == logs[1]["clicked"])[same].all()


# Killed and resumed


class Killed(Exception):
    pass


def dying(system, day, batch):
    """The system, killed while it learns from that batch."""

    def update(rows, learn=system.update):
        if rows["day"].iloc[0] == day and rows["batch"].iloc[0] == batch:
            raise Killed
        learn(rows)

    system.update = update
    return system


@pytest.mark.parametrize(("name", "batch"), [("random", 0), ("counts", 2), ("learner", 0), ("halves", 2)])
def test_a_run_killed_on_day_5_goes_on_to_the_same_end(name, batch, tmp_path):
    world, make = small_world(), MAKERS[name]
    whole = loop.run(world, make(world), days=DAYS, seed=7)
    with pytest.raises(Killed):
        loop.run(world, dying(make(world), 5, batch), days=DAYS, seed=7, folder=tmp_path)
    assert len(list(tmp_path.glob("day_*.npz"))) == 5
    resumed = loop.run(world, make(world), days=DAYS, seed=7, folder=tmp_path)
    pd.testing.assert_frame_equal(resumed, whole)
    loop.audit(world, resumed)


def test_a_finished_run_is_read_back_and_can_go_on(tmp_path):
    world = small_world()
    short = loop.run(world, Counts(world), days=3, folder=tmp_path)
    again = loop.run(world, Counts(world), days=3, folder=tmp_path)
    pd.testing.assert_frame_equal(short, again)
    longer = loop.run(world, Counts(world), days=6, folder=tmp_path)
    pd.testing.assert_frame_equal(longer, loop.run(world, Counts(world), days=6))


def test_a_folder_of_another_loop_is_refused(tmp_path):
    world = small_world()
    loop.run(world, Random(world), days=1, folder=tmp_path)
    for other, seed in ((world, 1), (small_world(visits=31), 0), (replace(world, worth=world.worth * 2), 0)):
        with pytest.raises(ReclabError, match="another world or seed"):
            loop.run(other, Random(other), days=1, seed=seed, folder=tmp_path)


def test_a_damaged_day_is_named(tmp_path):
    world = small_world()
    loop.run(world, Random(world), days=2, folder=tmp_path)
    path = tmp_path / "day_001.npz"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ReclabError, match=r"day_001\.npz is damaged; delete it"):
        loop.run(world, Random(world), days=2, folder=tmp_path)


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chances": {0: np.full((12, 19), 0.5)}}, r"chances\[0\] must be \(12, 20\)"),
        ({"chances": {0: np.full((12, 20), 1.5)}}, r"in \[0, 1\]"),
        ({"chances": {1: np.full((12, 20), 0.5)}}, "day 0 needs"),
        ({"opens": np.full(20, 1)}, "day 0 needs"),
        ({"comes": np.full(12, 1)}, "day 0 needs"),
        ({"budget": np.ones(3)}, "each of 20 items"),
    ],
)
def test_an_impossible_world_is_refused(changes, message):
    with pytest.raises(ReclabError, match=message):
        small_world(**changes)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (lambda n: np.zeros((n, 3), int), "twice on one page"),
        (lambda n: np.tile([0, 1, 19], (n, 1)), "not on offer"),
        (lambda n: np.tile([0, 1, 20], (n, 1)), "not on offer"),
        (lambda n: np.tile([0, 1], (n, 1)), r"must recommend \(30, 3\)"),
        (lambda n: np.tile([0.0, 1, 2], (n, 1)), "whole numbers"),
    ],
)
def test_an_impossible_list_is_refused(lists, message):
    world = small_world()
    system = Random(world)
    system.recommend = lambda users, offered, rng: lists(len(users))
    with pytest.raises(ReclabError, match=f"^day 0: .*{message}"):
        loop.run(world, system, days=1)


def test_no_days_is_refused():
    with pytest.raises(ReclabError, match="days must be 1 or more"):
        loop.run(small_world(), Random(small_world()), days=0)


# Systems


def test_best_is_the_head_of_a_full_sort():
    rng = np.random.default_rng(0)
    scores, offered = rng.random((50, 30)), rng.random(30) < 0.6
    full = np.argsort(np.where(offered, -scores, np.inf), axis=1)[:, :4]
    np.testing.assert_array_equal(best(scores, offered, 4), full)


def test_learning_beats_chance_and_counting_finds_worth():
    worth = np.where(np.arange(20) % 2, 3.0, 0.3)
    world = small_world(chances={0: small_world().chances[0]}, budget=np.full(20, np.inf), visits=100, worth=worth)
    earned = {name: loop.expected_reward(world, loop.run(world, MAKERS[name](world), days=DAYS))[-1] for name in MAKERS}
    assert earned["counts"] > 1.15 * earned["random"]
    blind = Counts(replace(world, worth=np.ones(20)))
    assert earned["counts"] > loop.expected_reward(world, loop.run(world, blind, days=DAYS))[-1]


def test_a_learner_that_stops_learns_no_more_and_one_that_forgets_is_less_sure():
    world = small_world()
    log = loop.run(world, Random(world), days=6)
    stopped, keeps, forgets = learner(world), learner(world), learner(world)
    stopped.until, keeps.keep, forgets.keep = 3, 1, 0.5
    for day in range(6):
        for system in (stopped, keeps, forgets):
            system.retrain(log[log["day"] <= day])
        if day == 2:
            then = stopped.model
    assert stopped.model is then
    assert np.linalg.slogdet(forgets.model.precision)[1] < np.linalg.slogdet(keeps.model.precision)[1]


def test_the_arms_of_a_test_see_their_own_users_only_unless_they_share():
    world = small_world()
    for shared in (False, True):
        arms = Counts(world, prior=(1, 1)), Counts(world, prior=(1, 1))
        log = loop.run(world, Halves(*arms, shared=shared), days=3)
        for half, arm in enumerate(arms):
            mine = log if shared else log[log["user"] % 2 == half]
            np.testing.assert_allclose(arm.counts[0] - 1, np.bincount(mine["item"], mine["clicked"], 20))


# Worlds


def test_the_shops_tastes_turn_and_its_learner_can_see_them():
    world, person, content = worlds.shop_world(0, n_users=80, n_items=120)
    old, new = world.chance(worlds.TURN - 1), world.chance(worlds.TURN)
    assert abs(np.corrcoef(old.ravel(), new.ravel())[0, 1]) < 0.3
    log = loop.run(world, Random(world), days=9)
    system = Learner(world, person, content, keep=1)
    for day in range(9):
        system.retrain(log[log["day"] <= day])
    guess = system.scores(np.arange(80)).ravel()
    assert expected_auc(guess, old.ravel()) > 0.62 > expected_auc(guess, new.ravel())


def test_films_and_advertisements_have_their_stated_days():
    rng = np.random.default_rng(0)
    year = rng.integers(1950, 1998, 200)
    films = worlds.film_world(0, rng.normal(size=(50, 200)), year)
    assert year[films.opens == worlds.NEW_ITEMS].min() >= year[films.opens == 0].max()
    rise = films.chance(worlds.TURN) - films.chance(0)
    assert (rise[:, year < worlds.OLD] > 0).all() and (rise[:, year >= worlds.OLD] < 0).all()
    ads = worlds.ad_world(0, np.full(200, 0.004))
    assert set((ads.chance(worlds.TURN) / ads.chance(0)).round(6).ravel()) == {0.4, 1.2}
    assert (ads.opens == worlds.NEW_ITEMS).any() and np.isinf(ads.budget).any()


def test_fitted_likes_order_ratings_they_never_saw():
    movies = data.movies()
    liked = movies.interactions["positive"].to_numpy()
    held_out = np.random.default_rng(0).random(len(liked)) < 0.2
    user, film = worlds.indices(movies)

    def found(table):
        logits = worlds.fit_likes(replace(movies, interactions=table), np.flatnonzero(~held_out))
        return auc(liked[held_out], logits[user[held_out], film[held_out]])

    assert 0.76 < found(movies.interactions) < 0.82
    mixed = np.random.default_rng(1).permutation(liked)
    assert found(movies.interactions.assign(positive=mixed)) < 0.55


def test_the_difference_of_two_arms_is_that_of_their_clicks():
    world = small_world(budget=np.full(20, np.inf), visits=200)
    log = loop.run(world, Halves(Random(world), Counts(world)), days=4)
    found = difference(log)
    even, odd = halves(log)
    assert len(even) + len(odd) == len(log) and (even["user"] % 2 == 0).all() and (odd["user"] % 2 == 1).all()
    by_user = log.groupby("user")["clicked"].mean() * 3
    assert found.value == pytest.approx(by_user[1::2].mean() - by_user[::2].mean())
    assert found.low < found.value < found.high
    swapped = difference(log.assign(user=log["user"] ^ 1))
    assert swapped.value == pytest.approx(-found.value)
