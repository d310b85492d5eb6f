"""The generated shop: its truth against brute force, each knob against what it plants, the same bits everywhere."""

import numpy as np
import pandas as pd
import pytest

from reclab import data
from reclab.clicks import auc
from reclab.data.shop_rules import CONTENT, STRENGTHS
from reclab.data.truth import sigmoid
from reclab.errors import UnknownNameError

FINGERPRINT = "144134b277a7caf9a4f453d700c7af3cc19fe9316c44b9041e030996ec3d4d86"
SMALL = {"n_users": 120, "n_items": 160}


@pytest.fixture(scope="module")
def plain():
    return data.shop()


@pytest.fixture(scope="module")
def large():
    return data.shop(1, n_users=4000, n_items=2400)


# The same everywhere


def test_the_same_seed_gives_the_same_bits(plain):
    assert plain.fingerprint() == FINGERPRINT
    assert data.shop().fingerprint() == FINGERPRINT
    assert data.shop(1).fingerprint() != FINGERPRINT


def test_a_knob_leaves_alone_what_it_does_not_touch():
    before, after = data.shop(**SMALL), data.shop(**SMALL, strengths={"picture": 0})
    pd.testing.assert_frame_equal(before.items, after.items)
    pd.testing.assert_frame_equal(before.searches, after.searches)
    assert (before.pictures == after.pictures).all()
    assert (before.candidates == after.candidates).all()
    assert before.interactions["item_id"].equals(after.interactions["item_id"])
    assert not before.interactions["positive"].equals(after.interactions["positive"])


# It is a data set like the others


def test_splits_keep_their_promises(plain):
    log = plain.interactions
    for split in (data.temporal(log), data.leave_last_out(log), data.cold_items(log), data.cold_users(log)):
        data.check_leakage(split)


def test_no_word_gives_the_picture_away(plain):
    words = set().union(*(plain.truth.items[name] for name in CONTENT["picture"]))
    said = " ".join(plain.items["text"]) + " ".join(plain.items["category"] + plain.items["brand"])
    assert not words & set(said.lower().replace(".", " ").replace(",", " ").split())


# The truth


def test_shares_equal_those_of_drawn_clicks(large):
    """Clicks drawn anew from the true probability, scored with the true logit and with a component taken out."""
    rng, truth = np.random.default_rng(0), large.truth
    logit = truth.components.sum(axis=1)
    found = {name: [] for name in STRENGTHS}
    for _ in range(4):
        clicks = rng.random(len(logit)) < sigmoid(truth.base + logit)
        full = auc(clicks, logit)
        for name in STRENGTHS:
            found[name].append(full - auc(clicks, logit - truth.components[name]))
    for name, gains in found.items():
        assert np.mean(gains) == pytest.approx(truth.share(name), abs=0.0015)


def test_no_strength_no_share():
    for name in STRENGTHS:
        shop = data.shop(**SMALL, strengths={name: 0})
        assert shop.truth.share(name) == pytest.approx(0, abs=1e-9)
        assert shop.truth.components[name].abs().max() == 0


@pytest.mark.parametrize(("argument", "value"), [("noise", -0.1), ("unfairness", 1), ("drift", np.nan), ("missing", 2)])
def test_a_knob_out_of_range_is_refused(argument, value):
    with pytest.raises(ValueError, match=argument):
        data.shop(**SMALL, **{argument: value})


def test_an_unknown_modality_is_refused(plain):
    for call in (lambda: data.shop(strengths={"smell": 1}), lambda: plain.truth.share("smell")):
        with pytest.raises(UnknownNameError, match="no modality named 'smell'"):
            call()


def test_propensities_are_those_of_the_choice():
    shop = data.shop(n_items=400, confounding=1.0)
    assert shop.propensities.sum(axis=1) == pytest.approx(1)
    codes = pd.Index(shop.items["item_id"]).get_indexer(shop.interactions["item_id"])
    shown = shop.candidates == codes[:, None]
    assert (shown.sum(axis=1) == 1).all()
    assert (shop.propensities[shown] == shop.interactions["propensity"]).all()
    error = (shown - shop.propensities).sum(axis=0) / np.sqrt((shop.propensities * (1 - shop.propensities)).sum(axis=0))
    assert abs(error).max() < 4
