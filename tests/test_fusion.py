"""Every way to fuse against plain numpy; absent modalities; vectors looked up by row; learning; bad input."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.metrics import roc_auc_score
from torch import nn

from reclab import fusion
from reclab.fusion import KINDS, FusedClassifier, Lookup

WIDTHS = {"text": 4, "items": 3, "type": 1, "a.b": 2}  # three of these names are attributes of a torch module, or odd


def batch(n=50, widths=WIDTHS, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {name: rng.normal(size=(n, width)).astype(np.float32) for name, width in widths.items()}
    present = rng.random((n, len(widths))) < 0.6
    present[0], present[1] = False, True
    return inputs, present


def named(present, names=WIDTHS):
    return dict(zip(names, present.T, strict=True))


# The label follows one modality; the scales of the two are far from each other and from 1.
TASK = {"signal": 3, "noise": 5}


def task(n=600, seed=0):
    inputs, present = batch(n, TASK, seed)
    labels = inputs["signal"][:, 0] > 0
    inputs["signal"] = 100 + 20 * inputs["signal"]
    inputs["noise"] *= 0.01
    return inputs, labels, named(present, TASK)


OPTIONS = {kind: {"kind": kind} for kind in KINDS} | {"two-tower": {"kind": "two-tower", "user": ["noise"]}}


def fit_kind(kind, inputs, labels, present=None, **options):
    settings = {"hidden": 8, "epochs": 30, "batch_size": 64, "learning_rate": 1e-2}
    return FusedClassifier(**(settings | options), **OPTIONS[kind]).fit(inputs, labels, present)


def same(a, b):
    states = ([*model.fusion.state_dict().values(), *model.head.state_dict().values()] for model in (a, b))
    return all(torch.equal(x, y) for x, y in zip(*states, strict=True))


@pytest.fixture(scope="module")
def fitted():
    inputs, labels, _ = task()
    return fit_kind("gated", inputs, labels)


# Every kind against its formula, one example at a time in numpy: h and the gates of those that are there


def linear(module):
    weight, bias = (p.detach().numpy() for p in module.parameters())
    return lambda x: weight @ x + bias


def concat(fusion, x, there):
    return np.tanh(linear(fusion.project)(np.concatenate(x))), None


def shared(fusion, x, there):
    weights = np.exp(fusion.log_weights.detach().numpy())[there]
    gates = weights / (weights.sum() or 1)
    return sum(g * np.tanh(linear(fusion.project[m])(x[m])) for g, m in zip(gates, there, strict=True)), gates


def gated(fusion, x, there):
    gates = softmax([linear(fusion.score[m])(x[m])[0] for m in there])
    return sum(g * np.tanh(linear(fusion.project[m])(x[m])) for g, m in zip(gates, there, strict=True)), gates


def attention(fusion, x, there):
    query, key, value = (linear(module) for module in (fusion.query, fusion.key, fusion.value))
    v = [np.tanh(linear(fusion.project[m])(x[m])) for m in there]
    a = [softmax([query(one) @ key(other) / np.sqrt(len(one)) for other in v]) for one in v]
    read = [sum(share * value(other) for share, other in zip(row, v, strict=True)) for row in a]
    return np.mean(np.add(v, read), axis=0), np.mean(a, axis=0)


def two_tower(fusion, x, there):
    def tower(net, inside):
        *below, last = (linear(part) for part in net if isinstance(part, nn.Linear))
        return last(np.maximum(below[0](inside), 0) if below else inside)

    user, item = tower(fusion.user, np.r_[x[1], x[3]]), tower(fusion.item, np.r_[x[0], x[2]])
    return np.r_[user[:-1] * item[:-1] / np.sqrt(5), user[-1], item[-1]], None


TOWERS = {"kind": "two-tower", "user": ("items", "a.b")}
FORMULAS = {
    "concat": (concat, {"kind": "concat"}),
    "fixed": (shared, {"kind": "fixed", "weights": dict(zip(WIDTHS, (3, 0, 1, 0.5), strict=True))}),
    "fixed, equal": (shared, {"kind": "fixed"}),
    "weighted": (shared, {"kind": "weighted"}),
    "gated": (gated, {}),
    "attention": (attention, {"kind": "attention"}),
    "two-tower": (two_tower, TOWERS),
    "two-tower, one layer": (two_tower, TOWERS | {"layers": 1}),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_predictions_gates_and_features_follow_the_formula(name):
    formula, options = FORMULAS[name]
    train, present = batch(200)
    labels = train["text"][:, 0] > train["type"][:, 0]
    model = FusedClassifier(5, 6, 32, 3e-2, 0.2, **options).fit(train, labels, named(present))
    inputs, present = batch(seed=1)
    p, features = model.predict(inputs, named(present)), model.features(inputs, named(present))
    if formula in (concat, two_tower):
        gates = None
        with pytest.raises(
            ValueError, match=rf"^the kind '{options['kind']}' has no gates; leave modalities out to see"
        ):
            model.gates(inputs)
    else:
        gates = model.gates(inputs, named(present))
    learned = sum(p.numel() for module in (model.fusion, model.head) for p in module.parameters())
    assert model.n_parameters == learned
    for row, here in enumerate(present):
        scaled = [(inputs[n][row] - mean.numpy()) / deviation.numpy() for n, (mean, deviation) in model.scale.items()]
        x, there = [part * mask for part, mask in zip(scaled, here, strict=True)], np.flatnonzero(here)
        nothing = gates is not None and not len(there)
        h, expected = (np.zeros(5), []) if nothing else formula(model.fusion, x, there)
        if gates is not None:
            full = np.zeros(len(WIDTHS))
            full[there] = expected
            np.testing.assert_allclose([gates[n][row] for n in WIDTHS], full, atol=1e-5)
        read = h if formula is two_tower else np.maximum(linear(model.head[0])(h), 0)
        logit = h.sum() + model.head[-1].bias.item() if formula is two_tower else linear(model.head[-1])(read)[0]
        np.testing.assert_allclose(features[row], read, atol=1e-5)
        assert p[row] == pytest.approx(expit(logit), abs=1e-5)


def test_fit_is_adam_on_the_log_loss_over_shuffled_batches_with_modalities_hidden():
    inputs, labels, _ = task(100)
    model = FusedClassifier(4, 3, 32, 1e-2, 0.3, seed=5, weight_decay=0.1).fit(inputs, labels)
    x = [torch.tensor((part - part.mean(0)) / np.sqrt(part.var(0).mean())) for part in inputs.values()]
    torch.manual_seed(5)
    project, score = ([nn.Linear(width, out) for width in TASK.values()] for out in (4, 1))
    head = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    weights = nn.ModuleList([*project, *score, head]).parameters()
    adam, y = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.1), torch.tensor(labels).float()
    for _ in range(3):
        for rows in torch.randperm(100).split(32):
            there = torch.rand(len(rows), 2) >= 0.3
            masked = [part[rows] * mask[:, None] for part, mask in zip(x, there.T, strict=True)]
            scores = torch.cat([one(part) for one, part in zip(score, masked, strict=True)], dim=1).exp() * there
            gates = scores / scores.sum(1, keepdim=True).clamp(min=1e-30)
            values = [one(part).tanh() for one, part in zip(project, masked, strict=True)]
            h = sum(gate[:, None] * value for gate, value in zip(gates.T, values, strict=True))
            loss = nn.functional.binary_cross_entropy_with_logits(head(h)[:, 0], y[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()
    for ours, theirs in zip(model.head.parameters(), head.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=1e-4)


# What it learns, and what is absent


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


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_the_modality_that_decides(kind):
    inputs, labels, _ = task()
    test, truth, present = task(seed=1)
    model = fit_kind(kind, inputs, labels)
    assert roc_auc_score(truth, model.predict(test)) > 0.97
    there = present["signal"]
    p = model.predict(test, {"signal": there})  # noise is not named, so it is present
    assert np.array_equal(p, model.predict(test, {"signal": there, "noise": np.ones(600, bool)}))
    assert roc_auc_score(truth[there], p[there]) > 0.97
    assert roc_auc_score(truth[~there], p[~there]) < 0.65, "the label cannot be known without the modality"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_never_missing_in_training_counts_as_its_mean_or_leaves_its_gate_to_the_others(kind):
    inputs, labels, _ = task(200)
    model, gone = fit_kind(kind, inputs, labels, epochs=2), {"signal": np.zeros(200, bool)}
    if kind in ("concat", "two-tower"):
        mean = np.repeat(inputs["signal"].mean(0, keepdims=True, dtype=float), 200, axis=0)
        np.testing.assert_allclose(model.predict(inputs, gone), model.predict({**inputs, "signal": mean}), atol=1e-5)
    else:
        gates = model.gates(inputs, gone)
        assert (gates["signal"] == 0).all()
        np.testing.assert_allclose(gates["noise"], 1, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [np.nan, np.inf, 1e30])
def test_what_is_absent_is_never_read(content, kind):
    inputs, labels, present = task(200)  # some examples have nothing at all
    other = {name: np.where(present[name][:, None], part, np.float32(content)) for name, part in inputs.items()}
    kept = copy.deepcopy(other)
    models = [fit_kind(kind, x, labels, present, epochs=2) for x in (inputs, other)]
    assert same(*models)
    p = models[0].predict(other, present)
    assert np.array_equal(models[0].predict(inputs, present), p) and np.isfinite(p).all()
    assert all(np.array_equal(other[name], kept[name], equal_nan=True) for name in TASK), "the caller's array changed"


# Vectors looked up by id


def by_id(n=600, seed=0):
    """The task as vectors of 40 users and of 30 items, and the ids of each example."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(40, size=n), rng.integers(30, size=n)
    vectors = {"signal": rng.normal(5, 3, (40, 3)).astype(np.float32), "noise": rng.normal(size=(30, 5))}
    labels = vectors["signal"][users, 0] > 5
    return vectors, {"signal": users, "noise": items}, labels


@pytest.mark.parametrize("kind", KINDS)
def test_looked_up_vectors_are_the_same_as_repeated_ones(kind, monkeypatch):
    monkeypatch.setattr(fusion, "_BATCH", 250)
    vectors, rows, labels = by_id()
    present = {"noise": np.arange(600) % 3 > 0}
    looked_up = {name: Lookup(vectors[name], rows[name]) for name in vectors}
    repeated = {name: vectors[name][rows[name]] for name in vectors}
    models = [fit_kind(kind, inputs, labels, present, epochs=3) for inputs in (looked_up, repeated)]
    for name in vectors:
        for ours, theirs in zip(models[0].scale[name], models[1].scale[name], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    p = models[0].predict(looked_up, present)
    np.testing.assert_allclose(p, models[1].predict(repeated, present), atol=1e-3)
    assert np.array_equal(p, models[0].predict(looked_up, present))


def test_a_row_of_minus_one_is_a_missing_modality():
    vectors, rows, labels = by_id()
    model = fit_kind("gated", {name: Lookup(vectors[name], rows[name]) for name in vectors}, labels, epochs=1)
    found = {"signal": Lookup(vectors["signal"], np.array([3, -1, 3, -1])), "noise": vectors["noise"][[1, 1, 5, 2]]}
    assert (model.gates(found)["signal"] == 0).tolist() == [False, True, False, True]
    repeated = found | {"signal": vectors["signal"][[3, 8, 3, 8]]}
    masked = {"signal": np.array([True, False, True, False])}
    np.testing.assert_allclose(model.predict(found), model.predict(repeated, masked), atol=1e-6)


@pytest.mark.parametrize("rows", [np.zeros(599, int), np.zeros(600), np.full(600, 30), np.full(600, -2)])
def test_rows_that_do_not_fit_the_table_are_refused(rows):
    vectors, given, labels = by_id()
    inputs = {"signal": Lookup(vectors["signal"], given["signal"]), "noise": Lookup(vectors["noise"], rows)}
    message = r"modality 'noise' needs 600 whole numbers of rows, -1 \(none\) to 29; got "
    with pytest.raises(ValueError, match=message):
        fit_kind("gated", inputs, labels)


# Bad input


THIRD = np.arange(20) == 3
NOISE = np.zeros((20, 5), np.float32)
LABELS = (np.arange(20) % 2).astype(float)


@pytest.mark.parametrize(
    ("inputs", "present", "message"),
    [
        ({"noise": np.where(THIRD[:, None], np.nan, NOISE)}, {}, "modality 'noise' has a NaN or infinity in row 3"),
        ({"noise": NOISE[:, 0]}, {}, r"modality 'noise' must be \(20, width\) with a mask of \(20,\), got \(20,\) and"),
        ({"noise": NOISE[1:]}, {}, r"modality 'noise' must be \(20, width\) with a mask of \(20,\), got \(19, 5\)"),
        ({"noise": np.full((20, 5), "soft")}, {}, r"modality 'noise' must hold numbers, \(n, width\)"),
        ({}, {"image": THIRD}, r"present names \['image'\], which inputs does not have; it has \['signal', 'noise'\]"),
        ({}, {"noise": np.ones((20, 1))}, r"modality 'noise' must be .* got \(20, 5\) and \(20, 1\)"),
    ],
)
def test_bad_examples_are_refused(fitted, inputs, present, message):
    inputs = {"signal": np.zeros((20, 3)), "noise": NOISE} | inputs
    with pytest.raises(ValueError, match=f"^{message}"):
        FusedClassifier(4, 1).fit(inputs, LABELS, present)
    with pytest.raises(ValueError, match=f"^{message}"):
        fitted.gates(inputs, present)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.where(THIRD, np.nan, LABELS), r"labels must be 0 or 1, labels\[3\] is nan; drop or correct it"),
        (LABELS[:, None], r"labels must be one for each of 20 examples, got shape \(20, 1\)"),
    ],
)
def test_bad_labels_and_no_inputs_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        FusedClassifier(4, 1).fit({"noise": NOISE}, labels)
    with pytest.raises(ValueError, match=r"^inputs holds no modality; give at least one"):
        FusedClassifier(4, 1).fit({}, LABELS)


@pytest.mark.parametrize("names", [["noise", "signal"], ["signal"], []])
def test_other_modalities_than_those_of_fit_are_refused(fitted, names):
    inputs, _, _ = task(20)
    with pytest.raises(ValueError, match=r"^inputs must have the modalities \['signal', 'noise'\], in that order; "):
        fitted.predict({name: inputs[name] for name in names})


@pytest.mark.parametrize("width", [1, 6])
def test_another_width_than_that_of_fit_is_refused(fitted, width):
    inputs = task(20)[0] | {"noise": np.zeros((20, width))}
    with pytest.raises(ValueError, match=rf"^modality 'noise' had width 5 in fit, now {width}$"):
        fitted.predict(inputs)


def test_nothing_is_told_before_fit():
    model = FusedClassifier()
    for ask in (model.predict, model.gates, model.features, lambda _: model.n_parameters):
        with pytest.raises(ValueError, match=r"^call fit before predict or gates$"):
            ask(task(20)[0])


NAMES = r"\['signal', 'noise'\]"
SOME = f"user must name some, not all, of the modalities {NAMES}, got "


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("gate", {}, "kind must be one of concat, fixed, weighted, gated, attention, two-tower, got 'gate'"),
        ("gated", {"modality_dropout": np.nan}, r"modality_dropout must be in \[0, 1\], got nan"),
        ("weighted", {"weights": {"noise": 1}}, "only fixed takes weights and two-tower user, not 'weighted'"),
        ("gated", {"user": ["noise"]}, "only fixed takes weights and two-tower user, not 'gated'"),
        ("fixed", {"weights": {"noise": 1}}, rf"weights must be one for each of {NAMES}, got \['noise'\]"),
        ("fixed", {"weights": {"signal": 0, "noise": 0}}, "weights must be 0 or more, and one above 0"),
        ("fixed", {"weights": {"signal": np.nan, "noise": 1}}, "weights must be 0 or more, and one above 0"),
        ("two-tower", {}, SOME + r"\[\]"),
        ("two-tower", {"user": ("signal", "noise")}, SOME + NAMES),
        ("two-tower", {"user": ("noise", "image")}, SOME + r"\['noise', 'image'\]"),
        ("two-tower", {"user": ["noise"], "layers": 3}, "a tower has 1 or 2 layers, got 3"),
    ],
)
def test_impossible_settings_are_refused(kind, options, message):
    inputs, labels, _ = task(20)
    with pytest.raises(ValueError, match=f"^{message}"):
        FusedClassifier(kind=kind, **options).fit(inputs, labels)


def test_a_notebook_shows_what_a_classifier_is_and_no_address():
    shown = repr(FusedClassifier(kind="concat", hidden=8, epochs=2, seed=3))
    assert shown == "FusedClassifier(kind='concat', hidden=8, epochs=2, seed=3)"
