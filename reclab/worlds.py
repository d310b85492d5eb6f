"""Three worlds for the closed loop: a generated shop, films with fitted tastes, advertisements at
real click rates. None of them was observed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

from . import data
from .data.shop import BASE, Rules
from .loop import World

NEW_ITEMS, _NEW_USERS, TURN = 5, 8, 10  # days, counted from 0
EVENTS = {"new items": NEW_ITEMS, "new users": _NEW_USERS, "the world turns": TURN}
LOOKS = np.array([1.0, 0.8, 0.6, 0.5, 0.4])  # chance of a look at each place of a page
# what a learner knows of the shop's items
_SEEN = ("material", "style", "category", "brand", "price_level")
OLD = 1980  # films made before are in fashion after the turn
_WIDTH, _EVEN = 8, 0.03  # numbers in a taste; penalty on long vectors of tastes


def shop_world(
    seed: int, n_users: int = 400, n_items: int = 300
) -> tuple[World, np.ndarray, np.ndarray]:
    """The generated shop; on the turn every liking moves on to the next value.

    Returns: The world; what is known of the users, their age group, (n_users, 4); and of the items,
        a constant, material, style, category, brand and price, (n_items, 30). Pictures and shelves,
        which move clicks too, are not known.
    """
    rules = Rules(seed, n_users, n_items, drift=1.0)
    who, what = np.arange(n_users), np.tile(np.arange(n_items), (n_users, 1))
    middle = np.full(n_users, 2)  # the place at which the shop's own effect of places is zero
    before, after = (
        expit(BASE + sum(rules.components(what, who, np.full(n_users, day), middle).values()))
        for day in (0, rules.days)
    )
    content = [np.eye(rules.codes[name].max() + 1)[rules.codes[name]] for name in _SEEN]
    opens, comes = NEW_ITEMS * (rules.created > 0), _NEW_USERS * (who % 4 == 3)
    free = np.full(n_items, np.inf)
    world = World({0: before, TURN: after}, np.ones(n_items), LOOKS, opens, comes, free, visits=80)
    return world, np.eye(4)[rules.age], np.column_stack([np.ones(n_items), *content])


def film_world(seed: int, logits: np.ndarray, year: np.ndarray) -> World:
    """Films with fitted tastes: the newest fifth opens later, a quarter of the users comes later,
    and on the turn old films rise; ``logits`` (n_users, n_films) of a like, as from `fit_likes`.
    """
    rng, (n_users, n_films) = np.random.default_rng(seed), logits.shape
    opens = NEW_ITEMS * (np.argsort(np.argsort(-year, kind="stable")) < n_films // 5)
    comes = _NEW_USERS * (rng.random(n_users) < 0.25)
    chances = {0: expit(logits), TURN: expit(logits + np.where(year < OLD, 1.0, -0.5))}
    free = np.full(n_films, np.inf)
    return World(chances, np.ones(n_films), LOOKS, opens, comes, free, visits=80)


def ad_world(seed: int, rates: np.ndarray) -> World:
    """Advertisements with bids and budgets at click rates (n_ads,), such as the means of
    `data.production_prior`; visitors are not told apart, and on the turn half of them grow stale.
    """
    rng, n = np.random.default_rng(seed), len(rates)
    stale = rates * np.where(rng.random(n) < 0.5, 0.4, 1.2)
    bids, opens = np.exp(rng.normal(0, 0.6, n)).round(2), NEW_ITEMS * (rng.random(n) < 0.2)
    budget = np.where(rng.random(n) < 0.3, np.inf, 100 * bids)
    chances, looks = {0: rates[None], TURN: stale[None]}, np.array([1.0, 0.7, 0.5])
    return World(chances, bids, looks, opens, np.zeros(1, int), budget, visits=3_000)


def fit_likes(movies: data.Dataset, rows: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Logits of a like of every user for every film, (n_users, n_films) float32, by logistic matrix
    factorisation on some rows of ``movies.interactions``.
    """
    import torch

    liked = movies.interactions["positive"].to_numpy(np.float32)
    user, film, liked = (values[rows] for values in (*indices(movies), liked))
    torch.manual_seed(seed)
    a, b = (
        (0.1 * torch.randn(len(table), _WIDTH + 1)).requires_grad_()
        for table in (movies.users, movies.items)
    )
    adam, loss = torch.optim.Adam([a, b], lr=0.02), torch.nn.BCEWithLogitsLoss()
    for _ in range(12):
        for part in torch.randperm(len(rows)).split(4096):
            u, v = a[user[part]], b[film[part]]
            logits = u[:, 0] + v[:, 0] + (u[:, 1:] * v[:, 1:]).sum(1)
            penalty = _EVEN * ((u**2).sum(1).mean() + (v**2).sum(1).mean())
            adam.zero_grad()
            (loss(logits, torch.from_numpy(liked[part])) + penalty).backward()
            adam.step()
    return (a[:, :1] + b[:, 0] + a[:, 1:] @ b[:, 1:].T).detach().numpy()


def film_facts(movies: data.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a learner knows of films and their users.

    Returns: The rows of the films with 20 ratings or more and a year, (n_films,); the users' gender
        and age group, (n_users, 4); the films' genres, decade and ten directions of their texts,
        (n_films, q). Each of these has a constant first.
    """
    from .text import encode

    items, users = movies.items, movies.users
    words = encode(items["text"].fillna("").tolist())
    n_ratings = np.bincount(indices(movies)[1], minlength=len(items))
    often = np.flatnonzero((n_ratings >= 20) & items["year"].notna())
    genres = items["genres"].str.join("|").str.get_dummies().to_numpy(float)[often]
    decade = (items["year"].to_numpy()[often] - 1990) / 10
    centred = words[often].astype(float) - words[often].mean(axis=0)
    meaning = centred @ np.linalg.svd(centred, full_matrices=False)[2][:10].T
    person = [np.ones(len(users)), users["gender"] == "F", users["age"] < 25, users["age"] >= 40]
    content = [np.ones(len(often)), genres, decade, meaning / meaning.std(axis=0)]
    return often, np.column_stack(person).astype(float), np.column_stack(content)


def indices(movies: data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The row of the user and of the film of each rating."""
    tables = ((movies.users, "user_id"), (movies.items, "item_id"))
    return tuple(
        pd.Index(table[name]).get_indexer(movies.interactions[name]) for table, name in tables
    )
