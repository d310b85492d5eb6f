"""The generated shop: its truth against brute force, each knob against what it plants, the same bits everywhere."""

import copy
import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reclab import data
from reclab.data.shop import BASE, COLOURS, CONTENT, SHELVES, START, STRENGTHS, WORDS, Rules, expected_auc, sigmoid
from reclab.errors import UnknownNameError

sys.path.append(str(Path(__file__).parent / "benchmarks"))

from shop_shares import best_prediction

FINGERPRINT = "d12b5d9da260d05717686066d0845de122ede188d1dea28a8ad3f492a1e2764c"
SMALL = {"n_users": 120, "n_items": 160}


@pytest.fixture(scope="module")
def plain():
    return data.shop()


@pytest.fixture(scope="module")
def large():
    return data.shop(1, n_users=2000, n_items=2400)


def bayes_auc(shop, without=()):
    """The AUC that no model without these modalities exceeds on average."""
    return expected_auc(best_prediction(shop, without), shop.truth.click_probability)


def share(shop, modality):
    """What a modality is worth."""
    return bayes_auc(shop) - bayes_auc(shop, modality)


# The same everywhere


def fingerprint(shop):
    """SHA-256 of all tables, pictures and the truth, numbers rounded to six decimals."""
    digest = hashlib.sha256(shop.pictures.tobytes())
    tables = [shop.users, shop.items, shop.interactions, shop.searches, shop.present]
    columns = [table[name] for table in tables for name in table]
    columns += [shop.truth.components[name] for name in STRENGTHS]
    columns += [shop.candidates, shop.propensities, shop.truth.click_probability, shop.truth.candidate_probability]
    for column in columns:
        values = np.asarray(column)
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            values = column.dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
        if values.dtype.kind in "biu":
            digest.update(values.astype("<i8").tobytes())
        elif values.dtype.kind == "f":
            digest.update(np.nan_to_num(np.rint(values * 1e6), nan=-1).astype("<i8").tobytes())
        else:
            digest.update("\n".join("" if pd.isna(value) else value for value in values).encode())
    return digest.hexdigest()


def test_the_same_seed_gives_the_same_bits(plain):
    assert fingerprint(plain) == FINGERPRINT
    assert fingerprint(data.shop(1)) != FINGERPRINT


def test_another_processor_gives_the_same_bits():
    """Without its vector instructions, numpy rounds exp and log as an older processor does."""
    features = "X86_V4 X86_V3 AVX512_ICL AVX512_SKX AVX512F AVX2 FMA3"  # names of numpy 2.4 and before
    code = "import test_shop; print(test_shop.fingerprint(test_shop.data.shop()))"
    plain = os.environ | {"NPY_DISABLE_CPU_FEATURES": features, "OMP_NUM_THREADS": "1"}
    here, command = Path(__file__).parent, [sys.executable, "-c", code]
    done = subprocess.run(command, env=plain, cwd=here, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [FINGERPRINT]


def test_a_knob_leaves_alone_what_it_does_not_touch():
    before, after = data.shop(**SMALL), data.shop(**SMALL, strengths={"picture": 0})
    pd.testing.assert_frame_equal(before.items, after.items)
    pd.testing.assert_frame_equal(before.searches, after.searches)
    assert (before.pictures == after.pictures).all()
    assert (before.candidates == after.candidates).all()
    assert before.interactions["item_id"].equals(after.interactions["item_id"])
    assert not before.interactions["positive"].equals(after.interactions["positive"])


def test_a_shop_is_a_data_set_like_the_others(plain):
    log, items = plain.interactions, plain.items.set_index("item_id")
    for split in (data.temporal(log), data.leave_last_out(log), data.cold_items(log), data.cold_users(log)):
        data.check_leakage(split)
    assert (log["timestamp"] >= log["item_id"].map(items["created"])).all()  # nothing is shown before it is on sale
    assert (items["created"] > START).mean() == pytest.approx(0.25, abs=0.01)
    assert 0 < log["purchased"].sum() < log["positive"].sum()
    assert log.loc[log["purchased"], "positive"].all()
    words = set().union(*(plain.truth.items[name] for name in CONTENT["picture"]))
    said = " ".join(items["text"]) + " ".join(items["category"] + items["brand"])
    assert not words & set(said.lower().replace(".", " ").replace(",", " ").split())


def test_a_picture_shows_its_attributes_and_nothing_else():
    shop = data.shop(n_users=8, n_items=1000)
    painted = {}
    for look, picture in zip(shop.truth.items.itertuples(), shop.pictures.astype(int), strict=True):
        edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert np.ptp(edge) <= 10  # the grain of a grey background: no item leaves its picture
        near = {name: (abs(picture - rgb) <= 5).all(axis=-1) for name, rgb in COLOURS.items()}
        assert {name for name, pixels in near.items() if pixels.sum() > 30} == {look.colour}
        painted.setdefault((look.silhouette, look.pattern), near[look.colour])
    assert len(painted) == 16
    for one, other in itertools.combinations(painted.values(), 2):
        assert (one != other).sum() > 20


# The truth


def test_a_click_hangs_on_the_sum_of_the_components_and_on_nothing_else(plain):
    truth = plain.truth
    assert truth.click_probability == pytest.approx(sigmoid(BASE + truth.components.sum(axis=1).to_numpy()))
    assert truth.components.std().to_numpy() == pytest.approx([STRENGTHS[name] for name in truth.components], rel=0.25)
    assert truth.components["position"].groupby(plain.interactions["place"]).mean().is_monotonic_decreasing
    assert (data.shop(**SMALL, strengths={"history": 0}).truth.components["history"] == 0).all()


def test_propensities_are_those_of_the_choice():
    shop = data.shop(n_items=400, confounding=1.0)
    assert shop.propensities.sum(axis=1) == pytest.approx(1)
    codes = pd.Index(shop.items["item_id"]).get_indexer(shop.interactions["item_id"])
    shown = shop.candidates == codes[:, None]
    assert (shown.sum(axis=1) == 1).all()
    assert (shop.propensities[shown] == shop.interactions["propensity"]).all()
    error = (shown - shop.propensities).sum(axis=0) / np.sqrt((shop.propensities * (1 - shop.propensities)).sum(axis=0))
    assert abs(error).max() < 4


def test_predictions_without_a_modality_equal_brute_force(large):
    """The mean click probability over every picture that an item could have, written out."""
    truth, log = large.truth, large.interactions
    rules = Rules(**large.settings)
    age = rules.age[pd.Index(large.users["user_id"]).get_indexer(log["user_id"].head(40))]
    pictures = itertools.product(*(range(len(WORDS[name])) for name in CONTENT["picture"]))
    looks = [
        sum(rules.likings[name][code, age] for name, code in zip(CONTENT["picture"], codes, strict=True))
        for codes in pictures
    ]
    rest = BASE + truth.components.drop(columns="picture").sum(axis=1).to_numpy()[:40]
    expected = np.mean([sigmoid(rest + STRENGTHS["picture"] / np.sqrt(3) * look) for look in looks], axis=0)
    assert best_prediction(large, "picture")[:40] == pytest.approx(expected, abs=0.004)
    assert best_prediction(large)[:40] == pytest.approx(truth.click_probability[:40], abs=1e-4)


def test_the_auc_counts_expected_pairs():
    p, scores = np.array([0.9, 0.2, 0.5, 0.4]), np.array([3.0, 1.0, 1.0, 2.0])
    pairs = [(i, j) for i in range(4) for j in range(4)]
    wins = sum(p[i] * (1 - p[j]) * (0.5 if scores[i] == scores[j] else scores[i] > scores[j]) for i, j in pairs)
    assert expected_auc(scores, p) == pytest.approx(wins / (p.sum() * (1 - p).sum()))


# The knobs


def test_with_noise_only_every_click_is_an_accident():
    shop = data.shop(**SMALL, noise=1)
    assert shop.truth.click_probability == pytest.approx(sigmoid(BASE))
    assert bayes_auc(shop) == pytest.approx(0.5)
    assert bayes_auc(data.shop(**SMALL, noise=0.3)) < bayes_auc(data.shop(**SMALL)) - 0.03


def test_what_is_missing_is_gone_from_the_tables_and_from_the_share():
    shares = []
    for missing in (0, 0.5, 1):
        shop = data.shop(n_users=300, missing={"picture": missing, "tags": 0.25})
        gone = ~shop.present["picture"].to_numpy()
        assert gone.mean() == pytest.approx(missing, abs=0.06)
        assert (shop.pictures.any(axis=(1, 2, 3)) == ~gone).all()
        assert (shop.items["brand"].isna() == ~shop.present["tags"]).all()
        assert shop.items["text"].notna().all() and shop.truth.items["colour"].notna().all()
        shares.append(share(shop, "picture"))
    assert shares[0] > shares[1] + 0.01 > shares[2] + 0.02
    assert shares[2] == pytest.approx(0, abs=1e-9)


def test_unfairness_lowers_the_odds_of_small_sellers_by_that_share():
    shop = data.shop(**SMALL, unfairness=0.4)
    is_small = shop.items["seller_group"] == "small"
    small = is_small.to_numpy()[shop.candidates]
    sold = shop.propensities > 0
    both = (small & sold).any(axis=1) & (~small & sold).any(axis=1)
    best = [np.where(group & sold, shop.propensities, 0).max(axis=1)[both] for group in (small, ~small)]
    assert best[0] / best[1] == pytest.approx(0.6)
    before, after = (
        s.interactions["item_id"].isin(s.items.loc[is_small, "item_id"]) for s in (data.shop(**SMALL), shop)
    )
    assert after.mean() < before.mean() - 0.05


def test_confounding_shows_the_popular_more_and_the_propensity_undoes_it():
    shop = data.shop(n_items=400, confounding=0.7)
    popularity = shop.truth.items["popularity"].to_numpy()[shop.candidates]
    odds = np.log(shop.propensities[:, 0] / shop.propensities[:, 1])
    assert odds == pytest.approx(0.7 * (popularity[:, 0] - popularity[:, 1]))
    sold = shop.propensities > 0
    uniform = np.nanmean(np.nansum(np.where(sold, shop.truth.candidate_probability, 0), axis=1) / sold.sum(axis=1))
    log = shop.interactions
    weighted = (log["positive"] / log["propensity"] / sold.sum(axis=1)).mean()
    assert log["positive"].mean() > uniform + 0.03
    assert weighted == pytest.approx(uniform, abs=0.01)


def test_drift_turns_tastes_on_to_the_next_value():
    still, turned = Rules(**SMALL), Rules(**SMALL, drift=3)
    for name in WORDS:
        assert (turned.steps(name, np.arange(4), still.days) == (0 if name == "price_level" else 3)).all()
        assert (still.steps(name, np.arange(4), 27) == 0).all()
    items, age, moved = np.arange(160), np.zeros(160, int), copy.copy(still)
    moved.codes = {name: (code + 3) % len(WORDS[name]) for name, code in still.codes.items()}
    assert turned.content("text", items, age, turned.days) == pytest.approx(moved.content("text", items, age, 0))


@pytest.mark.parametrize("drift", [0, 2])
def test_users_search_where_they_like_it(drift):
    shop = data.shop(drift=drift)
    rules, searches = Rules(**shop.settings), shop.searches
    user = pd.Index(shop.users["user_id"]).get_indexer(searches["user_id"])
    day = (searches["timestamp"] - START).dt.days.to_numpy()
    shelf = pd.Index(SHELVES).get_indexer(searches["query"].str.split().str[0])
    likes = rules.tastes[user, (shelf + rules.steps("history", user, day)) % len(SHELVES)]
    assert (likes == 1).mean() == pytest.approx(0.9, abs=0.01)
    assert (day < 0).sum() == 30 * len(shop.users)


# Bad input


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("seed", 1.5, "seed must be a whole number of at least 0, got 1.5"),
        ("n_items", 79, "n_items must be a whole number of at least 80, got 79"),
        ("days", True, "days must be a whole number of at least 2, got True"),
        ("unfairness", 1, r"unfairness must be from 0 to 0\.99, got 1"),
        ("confounding", "much", "confounding must be from 0 to 5, got 'much'"),
        ("drift", float("nan"), "drift must be from 0 to 100, got nan"),
        ("missing", 2, r"missing\['picture'\] must be from 0 to 1, got 2"),
        ("strengths", {"text": -1}, r"strengths\['text'\] must be from 0 to 10, got -1"),
    ],
)
def test_a_knob_out_of_range_is_refused(argument, value, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        data.shop(**{**SMALL, argument: value})


@pytest.mark.parametrize("argument", ["strengths", "missing"])
def test_an_unknown_modality_is_refused(argument):
    with pytest.raises(UnknownNameError, match="no modality named 'smell'; choose one of: "):
        data.shop(**{argument: {"smell": 1}})
