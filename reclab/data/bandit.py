"""The small Open Bandit Dataset: a real log of what a fashion shop showed, with its propensities and clicks.

Source: Saito et al., Open Bandit Dataset and Pipeline (2020), arXiv 2008.07146; CC BY 4.0.
Taught in: 01_dataset_construction and 06_thompson_sampling.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import yaml

from .. import assets
from ..errors import UnknownNameError
from .schema import Card, Dataset

CAMPAIGNS = ("all", "men", "women")
POLICIES = ("random", "bts")

TRAPS = (
    "No user id and no slate id: a user here is a combination of four hashed features, not a person.",
    "10,000 rows with a few dozen clicks: too few to tell the two logging policies apart.",
    "Propensities are marginal, per position, and only for the action that was shown.",
    "'bts' kept learning while it logged: its click rate is not the value of the frozen prior.",
)


def open_bandit(campaign: str = "all", policy: str = "random") -> Dataset:
    """10,000 logged impressions of one campaign under one logging policy; positive means a click.

    ``interactions`` has ``position`` (1 to 3), ``propensity`` (in (0, 1]), ``timestamp``; ``items`` has the four item
    features; ``users`` the four hashed user features.

    Raises
    ------
    UnknownNameError : no such campaign or policy.
    AssetError : the files are neither cached nor can they be fetched.

    Source: Saito et al. (2020), arXiv 2008.07146.
    Taught in: 01_dataset_construction.
    """
    for kind, name, known in (("campaign", campaign, CAMPAIGNS), ("policy", policy, POLICIES)):
        if name not in known:
            raise UnknownNameError(kind, name, known)
    files = assets.fetch("open-bandit-small")
    member = f"{policy}/{campaign}.csv"
    features = [f"user_feature_{number}" for number in range(4)]
    keep = ["timestamp", "item_id", "position", "click", "propensity_score", *features]
    log = pd.read_csv(files[member], usecols=keep, dtype={"item_id": str})
    log["timestamp"] = pd.to_datetime(log["timestamp"], utc=True, format="ISO8601")
    log["positive"] = log.pop("click") == 1
    log = log.rename(columns={"propensity_score": "propensity"})
    users = log[features].drop_duplicates(ignore_index=True)
    users.insert(0, "user_id", [f"segment-{row}" for row in range(len(users))])
    log = log.merge(users, on=features, how="left").drop(columns=features)
    items = pd.read_csv(files[f"{policy}/{campaign}/item_context.csv"], index_col=0, dtype={"item_id": str})
    items["text"] = None
    card = Card(
        title=f"open bandit: campaign {campaign}, logged by the policy {policy}",
        source="ZOZO, Open Bandit Dataset (small version), as packaged in obp",
        licence="CC BY 4.0",
        citation="Saito et al. (2020), arXiv 2008.07146",
        sha256={member: assets.ASSETS["open-bandit-small"].members[member].sha256},
        traps=TRAPS,
    )
    return Dataset(users, items, log, card)


def production_prior(campaign: str = "all") -> tuple[np.ndarray, np.ndarray]:
    """Beta parameters of each item from about a month of production traffic: ``alpha (n_items,), beta (n_items,)``.

    Their means ``alpha / (alpha + beta)`` are click rates at a realistic scale: a simulator with a known truth.

    Raises
    ------
    UnknownNameError : no such campaign.

    Source: prior of the BTS policy of Saito et al. (2020), arXiv 2008.07146; Apache-2.0.
    Taught in: 06_thompson_sampling.
    """
    if campaign not in CAMPAIGNS:
        raise UnknownNameError("campaign", campaign, CAMPAIGNS)
    prior = yaml.safe_load(assets.fetch("open-bandit-small")["prior_bts.yaml"].read_text("utf-8"))[campaign]
    return np.array(prior["alpha"], float), np.array(prior["beta"], float)
