"""The sequence model on sequences whose continuation is known, and what each place may see."""

import numpy as np
import pytest
import torch

from reclab.errors import ReclabError, SchemaError
from reclab.sequence import SASRec

ITEMS = 12
SMALL = {"width": 16, "epochs": 15, "batch_size": 16, "learning_rate": 0.02, "length": 8, "dropout": 0.0}


def cycles(n=120, seed=0):
    """After item i comes i + 1, and after the last the first; half of them begin with item 3."""
    rng = np.random.default_rng(seed)
    starts = np.where(rng.random(n) < 0.5, 3, rng.integers(ITEMS, size=n))
    return [(start + np.arange(rng.integers(3, 14))) % ITEMS for start in starts]


@pytest.fixture(scope="module")
def model():
    return SASRec(ITEMS, **SMALL).fit(cycles())


def test_it_learns_what_comes_next(model):
    histories = [[3], [3, 4], [10, 11], [5, 6, 7, 8, 9, 10]]
    assert model.score(histories).argmax(axis=1).tolist() == [4, 5, 0, 11]
    assert model.score([[5, 4, 3]]).argmax() != 6, "order counts"


def test_a_user_without_history_gets_what_comes_first(model):
    chance = torch.tensor(model.score([[]])[0]).softmax(0).numpy()
    assert chance.argmax() == 3 and 0.3 < chance[3] < 0.7


def test_a_place_sees_none_of_the_items_to_come(model):
    inputs = torch.tensor([[ITEMS, 3, 4, 5, 6], [ITEMS, 3, 4, 9, 1]])
    with torch.inference_mode():
        hidden = model.network(inputs)
    torch.testing.assert_close(hidden[0, :3], hidden[1, :3])
    assert not torch.allclose(hidden[0, 3], hidden[1, 3])


def test_neither_padding_nor_company_changes_a_score(model):
    histories = [[3], [], [5, 6, 7, 8, 9], [1, 2]]
    alone = np.concatenate([model.score([history]) for history in histories])
    np.testing.assert_allclose(model.score(histories), alone, atol=1e-5)


def test_only_the_latest_items_are_read(model):
    long = list(range(12)) * 2
    np.testing.assert_array_equal(model.score([long]), model.score([long[-8:]]))
    assert not np.allclose(model.score([long]), model.score([long[-7:]]))


def test_the_loss_is_the_cross_entropy_over_the_whole_catalogue(model):
    inputs, targets = model._padded([np.array([3, 4, 5]), np.array([7])])
    with torch.inference_mode():
        logits = model.network.logits(model.network(inputs)).double().numpy()
        loss = model.network.loss(inputs, targets).item()
    chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    asked = [chances[0, 0, 3], chances[0, 1, 4], chances[0, 2, 5], chances[1, 0, 7]]
    assert logits.shape[-1] == ITEMS and loss == pytest.approx(-np.log(asked).mean(), rel=1e-5)


def test_the_seed_decides():
    scores = [SASRec(ITEMS, **SMALL | {"epochs": 1, "seed": seed}).fit(cycles()).score([[3]]) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[2])


def test_empty_sequences_are_skipped_and_no_users_give_no_scores(model):
    kept = [[3, 4, 5], [1, 2]]
    options = SMALL | {"epochs": 1}
    found = [SASRec(ITEMS, **options).fit(given).score([[3]]) for given in (kept, [[], *kept, []])]
    np.testing.assert_array_equal(*found)
    assert model.score([]).shape == (0, ITEMS)


@pytest.mark.parametrize(
    ("sequences", "says"),
    [
        ([[1], [2, 12]], r"sequence 1 holds item 12; the catalogue has 0\.\.11"),
        ([[], []], "every sequence is empty"),
    ],
)
def test_sequences_that_teach_nothing_are_refused(sequences, says):
    with pytest.raises(SchemaError, match=says):
        SASRec(ITEMS, **SMALL).fit(sequences)


def test_unfitted_models_and_unknown_items_are_refused(model):
    with pytest.raises(ReclabError, match="SASRec is not fitted yet"):
        SASRec(ITEMS).score([[1]])
    with pytest.raises(SchemaError, match="sequence 0 holds item 99"):
        model.score([[99]])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n_items": 0}, "n_items must be 1 or more, got 0"),
        ({"n_items": 5, "epochs": 0}, "epochs must be 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(ReclabError, match=says):
        SASRec(**settings)
