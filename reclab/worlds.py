"""Three worlds for the closed loop: a generated shop, films with fitted tastes, advertisements at
real click rates.

In each, new items come on day ``NEW_ITEMS``, new users on day ``_NEW_USERS``, and on day ``TURN``
the world turns. None of them was observed: each says what it was made from, and how far it can be
trusted.
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
_SEEN = (
    "material",
    "style",
    "category",
    "brand",
    "price_level",
)  # what a learner knows of the shop's items
OLD = 1980  # films made before are in fashion after the turn
_EVEN = 0.03  # penalty on long vectors of tastes


def shop_world(
    seed: int, n_users: int = 400, n_items: int = 300
) -> tuple[World, np.ndarray, np.ndarray]:
    """The generated shop; on the turn every liking moves on to the next value.

    Returns: The world; what is known of the users, their age group, (n_users, 4); and of the items,
        their material, style, category, brand and price, (n_items, 27). Pictures and shelves, which
        move clicks too, are not known.
    """
    rules = Rules(seed, n_users, n_items, drift=1.0)
    who, what = np.arange(n_users), np.tile(np.arange(n_items), (n_users, 1))
    middle = np.full(n_users, 2)  # the place at which the shop's own effect of places is zero
    parts = [
        rules.components(what, who, np.full(n_users, day), middle)
        for day in (0, rules.days)
    ]
    before, after = (expit(BASE + sum(part.values())) for part in parts)
    content = [np.eye(rules.codes[name].max() + 1)[rules.codes[name]] for name in _SEEN]
    opens, comes = NEW_ITEMS * (rules.created > 0), _NEW_USERS * (who % 4 == 3)
    free = np.full(n_items, np.inf)
    world = World({0: before, TURN: after}, np.ones(n_items), LOOKS, opens, comes, free, visits=80)
    return world, np.eye(4)[rules.age], np.column_stack([np.ones(n_items), *content])


def film_world(seed: int, logits: np.ndarray, year: np.ndarray) -> World:
    """Films with fitted tastes: the newest fifth opens later, a quarter of the users comes later,
    old films rise.

    Parameters
    ----------
    logits : (n_users, n_films) of a like, as `fit_likes` returns them. year : (n_films,) in which a
        film was made.
    """
    rng, (n_users, n_films) = np.random.default_rng(seed), logits.shape
    opens = NEW_ITEMS * (np.argsort(np.argsort(-year, kind="stable")) < n_films // 5)
    comes = _NEW_USERS * (rng.random(n_users) < 0.25)
    chances = {0: expit(logits), TURN: expit(logits + np.where(year < OLD, 1.0, -0.5))}
    return World(
        chances, np.ones(n_films), LOOKS, opens, comes, np.full(n_films, np.inf), visits=80
    )


def ad_world(seed: int, rates: np.ndarray) -> World:
    """Advertisements with bids and budgets; visitors are not told apart, and on the turn half of
    them grow stale.

    Parameters
    ----------
    rates : (n_ads,) click rates, such as the means of `reclab.data.production_prior`.
    """
    rng, n = np.random.default_rng(seed), len(rates)
    stale = rates * np.where(rng.random(n) < 0.5, 0.4, 1.2)
    bids, opens = np.exp(rng.normal(0, 0.6, n)).round(2), NEW_ITEMS * (rng.random(n) < 0.2)
    budget = np.where(rng.random(n) < 0.3, np.inf, 100 * bids)
    looks = np.array([1.0, 0.7, 0.5])
    return World(
        {0: rates[None], TURN: stale[None]},
        bids,
        looks,
        opens,
        np.zeros(1, int),
        budget,
        visits=3_000,
    )


def fit_likes(
    movies: data.Dataset, rows: np.ndarray, *, width: int = 8, seed: int = 0
) -> np.ndarray:
    """Logits of a like of every user for every film, by logistic matrix factorisation on some of
    the ratings.

    Parameters
    ----------
    rows : of ``movies.interactions`` that are learned from. width : numbers in a taste.

    Returns: (n_users, n_films) float32.
    """
    import torch

    user, film = indices(movies)
    user, film, liked = (
        values[rows]
        for values in (user, film, movies.interactions["positive"].to_numpy(np.float32))
    )
    torch.manual_seed(seed)
    a, b = (
        (0.1 * torch.randn(len(t), width + 1)).requires_grad_()
        for t in (movies.users, movies.items)
    )
    adam, loss = torch.optim.Adam([a, b], lr=0.02), torch.nn.BCEWithLogitsLoss()
    for part in (part.numpy() for _ in range(12) for part in torch.randperm(len(rows)).split(4096)):
        u, v = a[user[part]], b[film[part]]
        value = loss(
            u[:, 0] + v[:, 0] + (u[:, 1:] * v[:, 1:]).sum(1), torch.from_numpy(liked[part])
        )
        adam.zero_grad()
        (value + _EVEN * ((u**2).sum(1).mean() + (v**2).sum(1).mean())).backward()
        adam.step()
    return (a[:, :1] + b[:, 0] + a[:, 1:] @ b[:, 1:].T).detach().numpy()


def film_facts(movies: data.Dataset, least: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a learner knows of films and their users.

    Returns: The rows of the films with at least ``least`` ratings and a year, (n_films,); the
        users' gender and age group, (n_users, 4); the films' genres, decade and ten directions of
        their texts, (n_films, q). Each has a constant first.
    """
    from .text import encode

    items, users = movies.items, movies.users
    words = encode(items["text"].fillna("").tolist())
    often = np.flatnonzero(
        (np.bincount(indices(movies)[1], minlength=len(items)) >= least) & items["year"].notna()
    )
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
