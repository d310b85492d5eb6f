"""Gated fusion against a plain numpy implementation; absent modalities; learning; bad input."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.metrics import log_loss, roc_auc_score

from reclab.fusion import FusedClassifier, GatedFusion

WIDTHS = {"text": 4, "items": 3, "type": 1, "a.b": 2}  # three of these names are attributes of a torch module, or odd


def batch(n=50, widths=WIDTHS, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {name: rng.normal(size=(n, width)).astype(np.float32) for name, width in widths.items()}
    present = rng.random((n, len(widths))) < 0.6
    present[0], present[1] = False, True
    return inputs, present


def tensors(inputs):
    return {name: torch.tensor(part) for name, part in inputs.items()}


def plain_fusion(fusion, inputs, present):
    """h = sum g_m tanh(W_m x_m + b_m), row by row over the modalities that are there."""
    n, hidden = len(present), fusion.project[0].out_features
    fused, gates = np.zeros((n, hidden)), np.zeros(present.shape)
    project, score = ([[p.detach().numpy() for p in m.parameters()] for m in s] for s in (fusion.project, fusion.score))
    names = list(inputs)
    for row in range(n):
        there = np.flatnonzero(present[row])
        if len(there):
            x = {m: inputs[names[m]][row] for m in there}
            gates[row, there] = softmax([(score[m][0] @ x[m] + score[m][1]).item() for m in there])
            fused[row] = sum(gates[row, m] * np.tanh(project[m][0] @ x[m] + project[m][1]) for m in there)
    return fused, gates


# The layer


@pytest.mark.parametrize("n_modalities", [1, 2, 4])
def test_fusion_is_the_closed_form(n_modalities):
    inputs, present = batch(widths=dict(list(WIDTHS.items())[:n_modalities]))
    torch.manual_seed(0)
    fusion = GatedFusion({name: part.shape[1] for name, part in inputs.items()}, hidden=5)
    fused, gates = (part.detach().numpy() for part in fusion(tensors(inputs), torch.tensor(present)))
    expected, expected_gates = plain_fusion(fusion, inputs, present)
    np.testing.assert_allclose(gates, expected_gates, atol=1e-6)
    np.testing.assert_allclose(fused, expected, atol=1e-6)
    np.testing.assert_allclose(gates.sum(1), present.any(1), atol=1e-6)
    assert (gates[~present] == 0).all()
    assert (fused[0] == 0).all(), "nothing is present in row 0"


@pytest.mark.parametrize("content", [np.nan, np.inf, 1e30])
def test_the_content_of_an_absent_modality_is_never_read(content):
    inputs, present = batch()
    fusion, mask = GatedFusion(WIDTHS, hidden=5), torch.tensor(present)
    other = {name: part.copy() for name, part in inputs.items()}
    for m, part in enumerate(other.values()):
        part[~present[:, m]] = content
    for ours, theirs in zip(fusion(tensors(inputs), mask), fusion(tensors(other), mask), strict=True):
        assert torch.equal(ours, theirs)


def test_gradients_are_finite_where_nothing_is_present():
    inputs, present = batch()
    fusion = GatedFusion(WIDTHS, hidden=5)
    fused, _ = fusion(tensors(inputs), torch.tensor(present))
    fused.pow(2).sum().backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())
    assert all(p.grad.abs().max() > 0 for layer in fusion.project for p in layer.parameters())


# The classifier

TASK = {"signal": 3, "noise": 5}


def task(n=600, seed=0):
    """The label follows one modality; the scales of the two are far from each other and from 1."""
    inputs, present = batch(n, TASK, seed)
    labels = inputs["signal"][:, 0] > 0
    inputs["signal"] = 100 + 20 * inputs["signal"]
    inputs["noise"] *= 0.01
    return inputs, labels, {name: present[:, m] for m, name in enumerate(TASK)}


def state(model):
    return [*model.fusion.state_dict().values(), *model.head.state_dict().values()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(state(a), state(b), strict=True))


@pytest.fixture(scope="module")
def fitted():
    inputs, labels, _ = task()
    return FusedClassifier(hidden=8, epochs=30, batch_size=64, learning_rate=1e-2).fit(inputs, labels)


def test_learns_the_modality_that_decides(fitted):
    inputs, labels, _ = task(seed=1)
    p = fitted.predict(inputs)
    assert p.shape == (600,)
    assert roc_auc_score(labels, p) > 0.98
    gates = fitted.gates(inputs)
    assert gates["signal"].mean() > gates["noise"].mean() + 0.2


def test_prediction_and_gates_are_plain_numpy(fitted):
    train, _, _ = task()
    inputs, _, present = task(seed=2)
    mask = np.stack(list(present.values()), axis=1)
    scaled = {}
    for name, part in train.items():
        mean = part.mean(0, dtype=float)
        scaled[name] = (inputs[name] - mean) / np.sqrt(((part - mean) ** 2).mean())
    fused, gates = plain_fusion(fitted.fusion, scaled, mask)
    w1, b1, w2, b2 = (part.numpy() for part in fitted.head.state_dict().values())
    expected = expit(np.maximum(fused @ w1.T + b1, 0) @ w2[0] + b2[0])
    p = fitted.predict(inputs, present)
    np.testing.assert_allclose(p, expected, atol=1e-5)
    for m, (name, gate) in enumerate(fitted.gates(inputs, present).items()):
        assert name == list(TASK)[m]
        np.testing.assert_allclose(gate, gates[:, m], atol=1e-5)
    assert p[~mask.any(1)] == pytest.approx(p[0]), "an example with nothing gets one and the same probability"


def test_a_modality_that_is_not_named_is_present(fitted):
    inputs, _, present = task(seed=1)
    everywhere = {name: np.ones(600, bool) for name in TASK}
    assert np.array_equal(fitted.predict(inputs), fitted.predict(inputs, everywhere))
    partly = {"noise": present["noise"]}
    assert np.array_equal(fitted.predict(inputs, partly), fitted.predict(inputs, {**everywhere, **partly}))
    assert not np.array_equal(fitted.predict(inputs, partly), fitted.predict(inputs))


@pytest.mark.parametrize("content", [np.nan, np.inf, 1e30])
def test_fit_and_predict_never_read_what_is_absent(content):
    inputs, labels, present = task(200)
    other = {name: np.where(present[name][:, None], part, np.float32(content)) for name, part in inputs.items()}
    kept = copy.deepcopy(other)
    models = [FusedClassifier(hidden=4, epochs=2, batch_size=32).fit(x, labels, present) for x in (inputs, other)]
    assert same(*models)
    assert np.array_equal(models[0].predict(inputs, present), models[0].predict(other, present))
    assert np.isfinite(models[0].predict(other, present)).all()
    assert all(np.array_equal(other[name], kept[name], equal_nan=True) for name in TASK), "the caller's array changed"


def test_the_scale_is_that_of_the_present_examples():
    inputs, labels, present = task(200)
    model = FusedClassifier(hidden=4, epochs=1).fit(inputs, labels, present)
    for name, part in inputs.items():
        rows = part[present[name]].astype(float)
        mean, deviation = model.scale[name]
        np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-4, atol=1e-6)
        assert float(deviation) == pytest.approx(np.sqrt(((rows - rows.mean(0)) ** 2).mean()), rel=1e-4)


@pytest.mark.parametrize("how", ["constant", "never present"])
def test_what_training_never_saw_vary_is_not_blown_up(how):
    inputs, labels, _ = task(200)
    inputs["noise"][:] = 2.0
    hidden = {"noise": np.zeros(200, bool)} if how == "never present" else None
    model = FusedClassifier(hidden=4, epochs=2, batch_size=32).fit(inputs, labels, hidden)
    offset = 0.0 if how == "never present" else 2.0
    here, moved = ({**inputs, "noise": np.full((200, 5), offset + step)} for step in (0, 1e-3))
    np.testing.assert_allclose(model.predict(moved), model.predict(here), atol=0.01)


def test_modality_dropout_changes_the_weights_and_teaches_to_do_without():
    inputs, labels, _ = task(800)
    # A second, weaker view of the label, which a model that always has the first one hardly uses.
    rng = np.random.default_rng(5)
    inputs["noise"] = (labels[:, None] + 0.5 * rng.normal(size=(800, 5))).astype(np.float32)
    gone = {"signal": np.zeros(400, bool)}
    train, test = ({name: part[rows] for name, part in inputs.items()} for rows in (slice(400), slice(400, 800)))
    models = [FusedClassifier(8, 20, 64, 1e-2, dropout).fit(train, labels[:400]) for dropout in (0.0, 0.5)]
    assert not same(*models)
    without, with_dropout = (log_loss(labels[400:], model.predict(test, gone)) for model in models)
    assert with_dropout < 0.8 * without


def test_with_everything_hidden_only_the_base_rate_is_learnt():
    inputs, labels, _ = task(400)
    labels = np.arange(400) % 4 == 0
    model = FusedClassifier(8, 40, 64, 1e-2, modality_dropout=1.0).fit(inputs, labels)
    torch.manual_seed(0)
    untrained = GatedFusion(TASK, 8).state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(model.fusion.state_dict().values(), untrained, strict=True))
    nothing = {name: np.zeros(400, bool) for name in TASK}
    np.testing.assert_allclose(model.predict(inputs, nothing), 0.25, atol=0.03)


def test_a_seed_decides_the_model():
    inputs, labels, present = task(200)
    models = [FusedClassifier(4, 2, 32, 3e-3, 0.3, seed).fit(inputs, labels, present) for seed in (1, 1, 2)]
    assert same(models[0], models[1])
    assert not same(models[0], models[2])
    assert np.array_equal(models[0].predict(inputs), models[1].predict(inputs))


def test_read_only_arrays_and_lists_are_taken():
    inputs, labels, _ = task(60)
    expected = FusedClassifier(4, 1).fit(inputs, labels)
    for part in (*inputs.values(), labels):
        part.flags.writeable = False
    assert same(FusedClassifier(4, 1).fit(inputs, labels), expected)
    listed = {name: part.tolist() for name, part in inputs.items()}
    assert same(FusedClassifier(4, 1).fit(listed, labels.astype(int).tolist()), expected)


# Bad input


def bad_inputs(what):
    inputs, labels, present = task(20)
    labels = labels.astype(float)
    if what == "nan":
        inputs["noise"][7, 2] = np.nan
    elif what == "1-d":
        inputs["noise"] = inputs["noise"][:, 0]
    elif what == "rows":
        inputs["noise"] = inputs["noise"][:19]
    elif what == "words":
        inputs["noise"] = np.full((20, 5), "soft")
    elif what == "unknown mask":
        present["image"] = present["noise"]
    elif what == "long mask":
        present["noise"] = np.ones(21, bool)
    elif what == "wide mask":
        present["noise"] = np.ones((20, 1), bool)
    elif what == "nothing":
        inputs, present = {}, None
    elif what == "nan label":
        labels[3] = np.nan
    elif what == "label of 2":
        labels[3] = 2
    elif what == "wide labels":
        labels = labels[:, None]
    return inputs, labels, None if what == "nan" else present


MESSAGES = {
    "nan": "modality 'noise' has a NaN or infinity in row 7; mark it absent or fill it",
    "1-d": r"modality 'noise' must be \(20, width\) with a mask of \(20,\), got \(20,\) and \(20,\)",
    "rows": r"modality 'noise' must be \(20, width\) with a mask of \(20,\), got \(19, 5\) and \(20,\)",
    "words": r"modality 'noise' must hold numbers, \(n, width\)",
    "unknown mask": r"present names \['image'\], which inputs does not have; it has \['signal', 'noise'\]",
    "long mask": r"modality 'noise' must be \(20, width\) with a mask of \(20,\), got \(20, 5\) and \(21,\)",
    "wide mask": r"modality 'noise' must be \(20, width\) with a mask of \(20,\), got \(20, 5\) and \(20, 1\)",
    "nothing": r"inputs holds no modality; give at least one, name -> \(n, width\)",
    "nan label": r"labels must be 0 or 1, labels\[3\] is nan; drop or correct it",
    "label of 2": r"labels must be 0 or 1, labels\[3\] is 2.0; drop or correct it",
    "wide labels": r"labels must be one for each of 20 examples, got shape \(20, 1\)",
}


@pytest.mark.parametrize("what", MESSAGES)
def test_bad_examples_are_refused_by_fit(what):
    with pytest.raises(ValueError, match=f"^{MESSAGES[what]}$"):
        FusedClassifier(4, 1).fit(*bad_inputs(what))


@pytest.mark.parametrize("what", ["nan", "1-d", "rows", "words", "unknown mask", "long mask", "wide mask"])
def test_bad_examples_are_refused_by_predict_and_gates(fitted, what):
    inputs, _, present = bad_inputs(what)
    for ask in (fitted.predict, fitted.gates):
        with pytest.raises(ValueError, match=f"^{MESSAGES[what]}$"):
            ask(inputs, present)


def test_other_modalities_than_those_of_fit_are_refused(fitted):
    inputs, _, _ = task(20)
    swapped = {"noise": inputs["noise"], "signal": inputs["signal"]}
    message = r"^inputs must have the modalities \['signal', 'noise'\], in that order; got {}$"
    for other, names in (
        (swapped, r"\['noise', 'signal'\]"),
        ({"signal": inputs["signal"]}, r"\['signal'\]"),
        ({}, r"\[\]"),
    ):
        with pytest.raises(ValueError, match=message.format(names)):
            fitted.predict(other)


@pytest.mark.parametrize("width", [1, 6])
def test_another_width_than_that_of_fit_is_refused(fitted, width):
    inputs, _, _ = task(20)
    inputs["noise"] = np.zeros((20, width))
    with pytest.raises(ValueError, match=rf"^modality 'noise' had width 5 in fit, now {width}$"):
        fitted.predict(inputs)


def test_predict_before_fit_and_an_impossible_dropout_are_refused():
    inputs, _, _ = task(20)
    with pytest.raises(ValueError, match=r"^call fit before predict or gates$"):
        FusedClassifier().predict(inputs)
    for dropout in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match=rf"^modality_dropout must be in \[0, 1\], got {dropout}$"):
            FusedClassifier(modality_dropout=dropout)
