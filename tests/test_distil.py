"""Distillation: the loss against its closed form, which layers are kept, and a student that comes to answer alike."""

import dataclasses

import numpy as np
import pytest
import torch

import tiny_bert
from reclab import distil, finetune
from tiny_bert import TEXTS, TOY, same


@pytest.fixture(scope="module")
def teacher():
    return tiny_bert.fit()


def test_the_loss_is_cross_entropy_of_softened_answers():
    student, teacher = torch.tensor([[0.2, -0.4], [1.0, 3.0]]), torch.tensor([[2.0, -2.0], [0.0, 0.5]])
    for temperature in (1.0, 2.0, 5.0):
        target, log_p = (teacher / temperature).softmax(-1), (student / temperature).log_softmax(-1)
        expected = -(target * log_p).sum(-1).mean() * temperature**2
        assert torch.isclose(distil.distillation_loss(student, teacher, temperature), expected)

    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        distil.distillation_loss(torch.zeros(1, 2), torch.zeros(1, 2), 0)


def test_kept_layers_are_copies_in_the_given_order():
    encoder = tiny_bert.encoder()
    small = distil.keep_layers(encoder, (2, 0))
    assert small.config.num_hidden_layers == 2 and encoder.config.num_hidden_layers == 3
    for new, old in enumerate((2, 0)):
        assert same(small.encoder.layer[new].state_dict(), encoder.encoder.layer[old].state_dict())
    with torch.no_grad():
        next(small.encoder.layer[0].parameters()).add_(1)
    assert not same(small.encoder.layer[0].state_dict(), encoder.encoder.layer[2].state_dict())
    # What is left runs as those layers alone do.
    ids = torch.tensor([[101, 2000, 102]])
    whole = distil.keep_layers(encoder, (0, 1, 2))
    assert torch.equal(whole(ids).last_hidden_state, encoder(ids).last_hidden_state)


@pytest.mark.parametrize("layers", [(), (0, 3), (-1,)])
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(ValueError, match="layers must name some of 0 to 2"):
        distil.keep_layers(tiny_bert.encoder(), layers)


def gap(student, teacher):
    return np.abs(student.predict(TEXTS) - teacher.predict(TEXTS)).mean()


def test_a_student_comes_to_answer_as_its_teacher(teacher):
    before = {name: value.clone() for name, value in tiny_bert.weights(teacher).items()}
    longer = dataclasses.replace(TOY, epochs=15)
    untrained = distil.distil(teacher, TEXTS, TOY, layers=(0, 2), lr=1e-12)
    student = distil.distil(teacher, TEXTS, longer, layers=(0, 2), lr=3e-3)
    assert gap(student, teacher) < 0.5 * gap(untrained, teacher)
    assert np.corrcoef(student.predict(TEXTS), teacher.predict(TEXTS))[0, 1] > 0.9
    assert student.module.encoder.config.num_hidden_layers == 2
    assert len(student.history) == 45
    assert same(before, tiny_bert.weights(teacher))  # the teacher stays as it was


def test_given_answers_take_the_place_of_the_teachers(teacher, tmp_path):
    own = distil.distil(teacher, TEXTS, TOY, layers=(0, 2))
    own.save(tmp_path)
    assert np.array_equal(finetune.load(tmp_path).predict(TEXTS), own.predict(TEXTS))
    given = distil.distil(teacher, TEXTS, TOY, layers=(0, 2), answers=teacher.predict(TEXTS))
    assert np.allclose(own.predict(TEXTS), given.predict(TEXTS), atol=1e-5)
    certain = distil.distil(teacher, TEXTS, TOY, layers=(0,), answers=np.float64([1] * 6 + [0] * 6))
    assert np.isfinite(certain.history["loss"]).all()
    turned = distil.distil(teacher, TEXTS, TOY, layers=(0, 2), answers=1 - teacher.predict(TEXTS))
    assert not np.allclose(own.predict(TEXTS), turned.predict(TEXTS), atol=1e-3)


def test_bad_texts_and_answers_are_refused(teacher):
    with pytest.raises(ValueError, match="texts is empty"):
        distil.distil(teacher, [], TOY, layers=(0,))
    with pytest.raises(ValueError, match=r"answers must be 12 probabilities, one for each text, got \(2,\)"):
        distil.distil(teacher, TEXTS, TOY, layers=(0,), answers=np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match=r"texts\[1\] is None"):
        distil.distil(teacher, ["a", None], TOY, layers=(0,))
