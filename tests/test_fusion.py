"""Every way to fuse against plain numpy; absent modalities; vectors looked up by id; learning; bad input."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.metrics import log_loss, roc_auc_score

from reclab.fusion import (
    KINDS,
    AttentionFusion,
    ConcatFusion,
    FusedClassifier,
    GatedFusion,
    Lookup,
    TwoTower,
    WeightedFusion,
    lookup,
)

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
def test_gated_fusion_is_the_closed_form(n_modalities):
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


def numbers(module):
    """Weight and bias of every linear layer, as numpy."""
    return [p.detach().numpy() for p in module.parameters()]


def values(fusion, inputs, present):
    """tanh(W_m x_m + b_m) of the modalities that are there, row -> {modality number: vector}."""
    names, layers = list(inputs), [numbers(layer) for layer in fusion.project]
    return [
        {m: np.tanh(layers[m][0] @ inputs[names[m]][row] + layers[m][1]) for m in np.flatnonzero(there)}
        for row, there in enumerate(present)
    ]


def fuse(layer, inputs, present):
    fused, gates = layer(tensors(inputs), torch.tensor(present))
    return fused.detach().numpy(), None if gates is None else gates.detach().numpy()


def test_concatenation_is_the_closed_form():
    inputs, present = batch()
    fusion = ConcatFusion(WIDTHS, hidden=5)
    side_by_side = np.hstack([np.where(present[:, [m]], part, 0) for m, part in enumerate(inputs.values())])
    weight, bias = numbers(fusion.project)
    fused, gates = fuse(fusion, inputs, present)
    np.testing.assert_allclose(fused, np.tanh(side_by_side @ weight.T + bias), atol=1e-6)
    assert gates is None


@pytest.mark.parametrize("weights", [None, dict(zip(WIDTHS, (3, 0, 1, 0.5), strict=True))])
def test_weighted_fusion_is_the_closed_form(weights):
    inputs, present = batch()
    fusion = WeightedFusion(WIDTHS, 5, weights)
    if weights is None:
        fusion.log_weights.data = torch.tensor([0.3, -1.0, 2.0, 0.0])
        plain = np.exp([0.3, -1.0, 2.0, 0.0])
    else:
        plain = np.array(list(weights.values()))
    fused, gates = fuse(fusion, inputs, present)
    for row, there in enumerate(values(fusion, inputs, present)):
        total = sum(plain[m] for m in there)
        share = {m: plain[m] / total if total else 0.0 for m in there}
        np.testing.assert_allclose(gates[row], [share.get(m, 0.0) for m in range(4)], atol=1e-6)
        expected = sum((share[m] * there[m] for m in there), np.zeros(5))
        np.testing.assert_allclose(fused[row], expected, atol=1e-6)


def test_fixed_weights_do_not_learn_and_others_do():
    assert "log_weights" not in dict(WeightedFusion(WIDTHS, 5, dict.fromkeys(WIDTHS, 1)).named_parameters())
    fusion = WeightedFusion(WIDTHS, 5)
    inputs, present = batch()
    fusion(tensors(inputs), torch.tensor(present))[0].pow(2).sum().backward()
    assert (fusion.log_weights.grad != 0).all()


def test_attention_is_the_closed_form():
    inputs, present = batch()
    fusion = AttentionFusion(WIDTHS, hidden=5)
    (q, qb), (k, kb), (v, vb) = (numbers(layer) for layer in (fusion.query, fusion.key, fusion.value))
    fused, gates = fuse(fusion, inputs, present)
    for row, there in enumerate(values(fusion, inputs, present)):
        expected, expected_gates = np.zeros(5), np.zeros(4)
        for m in there:
            scores = softmax([(q @ there[m] + qb) @ (k @ there[other] + kb) / np.sqrt(5) for other in there])
            read = sum(a * (v @ there[other] + vb) for a, other in zip(scores, there, strict=True))
            expected += (there[m] + read) / len(there)
            expected_gates[list(there)] += scores / len(there)
        np.testing.assert_allclose(fused[row], expected, atol=1e-6)
        np.testing.assert_allclose(gates[row], expected_gates, atol=1e-6)
    np.testing.assert_allclose(gates.sum(1), present.any(1), atol=1e-6)


def tower(module, parts):
    *below, weight, bias = numbers(module)
    inside = np.hstack(parts)
    if below:
        inside = np.maximum(inside @ below[0].T + below[1], 0)
    return inside @ weight.T + bias


@pytest.mark.parametrize("layers", [1, 2])
def test_two_towers_are_a_dot_product_with_two_biases(layers):
    inputs, present = batch()
    fusion = TwoTower(WIDTHS, hidden=5, user=("items", "a.b"), layers=layers)
    there = {name: np.where(present[:, [m]], part, 0) for m, (name, part) in enumerate(inputs.items())}
    user = tower(fusion.user, [there["items"], there["a.b"]])
    item = tower(fusion.item, [there["text"], there["type"]])
    fused, gates = fuse(fusion, inputs, present)
    expected = (user[:, :5] * item[:, :5]).sum(1) / np.sqrt(5) + user[:, 5] + item[:, 5]
    np.testing.assert_allclose(fused.sum(1), expected, atol=1e-5)
    assert gates is None
    alone = fusion.vectors(
        tensors({n: inputs[n] for n in ("text", "type")}), torch.tensor(present[:, [0, 2]]), of_user=False
    )
    np.testing.assert_allclose(alone.detach().numpy(), item, atol=1e-6)


def test_another_number_of_layers_is_refused():
    with pytest.raises(ValueError, match=r"^a tower has 1 or 2 layers, got 3$"):
        TwoTower(WIDTHS, 5, ("text",), layers=3)


LAYERS = {
    "concat": ConcatFusion,
    "fixed": lambda widths, hidden: WeightedFusion(widths, hidden, dict.fromkeys(widths, 2.0)),
    "weighted": WeightedFusion,
    "gated": GatedFusion,
    "attention": AttentionFusion,
    "two-tower": lambda widths, hidden: TwoTower(widths, hidden, ("text", "type")),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("content", [np.nan, np.inf, 1e30])
def test_the_content_of_an_absent_modality_is_never_read(content, kind):
    inputs, present = batch()
    fusion, mask = LAYERS[kind](WIDTHS, hidden=5), torch.tensor(present)
    other = {name: part.copy() for name, part in inputs.items()}
    for m, part in enumerate(other.values()):
        part[~present[:, m]] = content
    for ours, theirs in zip(fusion(tensors(inputs), mask), fusion(tensors(other), mask), strict=True):
        assert theirs is None if ours is None else torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_are_finite_where_nothing_is_present(kind):
    inputs, present = batch()
    fusion = LAYERS[kind](WIDTHS, hidden=5)
    fused, _ = fusion(tensors(inputs), torch.tensor(present))
    fused.pow(2).sum().backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())
    assert all(p.grad.abs().max() > 0 for name, p in fusion.named_parameters() if "key.bias" not in name)


@pytest.mark.parametrize(
    "weights", [{"text": 1}, dict.fromkeys(WIDTHS, 0), dict.fromkeys(WIDTHS, -1), dict.fromkeys(WIDTHS, np.nan)]
)
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ValueError, match=r"^weights must be (one for each of|0 or more, and one above 0)"):
        WeightedFusion(WIDTHS, 5, weights)


@pytest.mark.parametrize("user", [(), tuple(WIDTHS), ("text", "image"), "text"])
def test_a_tower_without_modalities_or_with_unknown_ones_is_refused(user):
    with pytest.raises(
        ValueError, match=r"^user must name some, not all, of the modalities \['text', 'items', 'type', 'a.b'\]"
    ):
        TwoTower(WIDTHS, 5, user)


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


# Every kind of fusion, through the classifier

OPTIONS = {kind: {"kind": kind} for kind in KINDS} | {"two-tower": {"kind": "two-tower", "user": ["noise"]}}


def fit_kind(kind, inputs, labels, present=None, **options):
    settings = {"hidden": 8, "epochs": 30, "batch_size": 64, "learning_rate": 1e-2}
    return FusedClassifier(**(settings | options), **OPTIONS[kind]).fit(inputs, labels, present)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_the_modality_that_decides(kind):
    inputs, labels, _ = task()
    test, truth, present = task(seed=1)
    model = fit_kind(kind, inputs, labels)
    assert roc_auc_score(truth, model.predict(test)) > 0.97
    there = present["signal"]
    p = model.predict(test, {"signal": there})
    assert roc_auc_score(truth[there], p[there]) > 0.97
    assert roc_auc_score(truth[~there], p[~there]) < 0.65, "the label cannot be known without the modality"


@pytest.mark.parametrize("layers", [1, 2])
def test_two_towers_learn_what_no_side_knows_alone(layers):
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=(4000, 3)) for name in ("user", "item")}
    labels = (inputs["user"] * inputs["item"]).sum(1) > 0
    options = {"hidden": 8, "epochs": 30, "batch_size": 128, "learning_rate": 1e-2}
    model = FusedClassifier(**options, kind="two-tower", user=["user"], layers=layers).fit(inputs, labels)
    test = {name: rng.normal(size=(2000, 3)) for name in ("user", "item")}
    truth = (test["user"] * test["item"]).sum(1) > 0
    assert roc_auc_score(truth, model.predict(test)) > 0.95
    nobody = {"user": np.zeros(2000, bool)}
    assert abs(roc_auc_score(truth, model.predict(test, nobody)) - 0.5) < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_a_linear_layer_on_the_features_is_the_prediction(kind):
    inputs, labels, present = task(300)
    model = fit_kind(kind, inputs, labels, present, epochs=3)
    features = model.features(inputs, present)
    weights = np.ones(features.shape[1]) if kind == "two-tower" else model.head[-1].weight.detach().numpy()[0]
    bias = (model.head if kind == "two-tower" else model.head[-1]).bias.item()
    np.testing.assert_allclose(expit(features @ weights + bias), model.predict(inputs, present), atol=1e-5)
    with pytest.raises(ValueError, match="call fit before"):
        FusedClassifier().features(inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_counted(kind):
    inputs, labels, _ = task(40)
    hidden, head = 4, 4 * 4 + 4 + 4 + 1
    project = 3 * hidden + hidden + 5 * hidden + hidden
    expected = {
        "concat": 8 * hidden + hidden + head,
        "fixed": project + head,
        "weighted": project + 2 + head,
        "gated": project + 3 + 1 + 5 + 1 + head,
        "attention": project + 3 * (hidden * hidden + hidden) + head,
        "two-tower": sum(w * hidden + hidden + hidden * (hidden + 1) + hidden + 1 for w in (3, 5)) + 1,
    }
    assert fit_kind(kind, inputs, labels, hidden=hidden, epochs=1).n_parameters == expected[kind]


@pytest.mark.parametrize("kind", ["concat", "two-tower"])
def test_what_was_never_missing_in_training_counts_as_its_mean(kind):
    inputs, labels, _ = task(200)
    model = fit_kind(kind, inputs, labels, epochs=2)
    gone = {"signal": np.zeros(200, bool)}
    mean = np.repeat(inputs["signal"].mean(0, keepdims=True, dtype=float), 200, axis=0)
    np.testing.assert_allclose(model.predict(inputs, gone), model.predict({**inputs, "signal": mean}), atol=1e-5)


@pytest.mark.parametrize("kind", ["fixed", "weighted", "gated", "attention"])
def test_what_was_never_missing_in_training_leaves_its_gate_to_the_others(kind):
    inputs, labels, _ = task(200)
    model = fit_kind(kind, inputs, labels, epochs=2)
    gone = {"signal": np.zeros(200, bool)}
    gates = model.gates(inputs, gone)
    assert (gates["signal"] == 0).all()
    np.testing.assert_allclose(gates["noise"], 1, atol=1e-6)
    assert np.isfinite(model.predict(inputs, gone)).all()


def test_fixed_weights_are_kept_and_equal_ones_are_the_default():
    inputs, labels, _ = task(200)
    given = FusedClassifier(4, 2, kind="fixed", weights={"noise": 1, "signal": 3}).fit(inputs, labels).gates(inputs)
    np.testing.assert_allclose(given["signal"], 0.75, atol=1e-6)
    equal = FusedClassifier(4, 2, kind="fixed").fit(inputs, labels).gates(inputs)
    np.testing.assert_allclose(equal["signal"], 0.5, atol=1e-6)


def test_learned_weights_move_towards_what_decides(fitted):
    inputs, labels, _ = task()
    gates = fit_kind("weighted", inputs, labels).gates(inputs)
    assert np.ptp(gates["signal"]) < 1e-6, "the same for all examples"
    assert gates["signal"][0] > 0.6


def test_weight_decay_shrinks_the_weights():
    inputs, labels, _ = task(200)
    free, held = (fit_kind("concat", inputs, labels, weight_decay=decay) for decay in (0.0, 1.0))
    assert sum(p.pow(2).sum() for p in held.fusion.parameters()) < 0.5 * sum(
        p.pow(2).sum() for p in free.fusion.parameters()
    )


# Vectors looked up by id


def by_id(n=600, seed=0):
    """The task as vectors of 40 users and of 30 items, and the ids of each example."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(40, size=n), rng.integers(30, size=n)
    vectors = {"signal": rng.normal(5, 3, (40, 3)).astype(np.float32), "noise": rng.normal(size=(30, 5))}
    labels = vectors["signal"][users, 0] > 5
    return vectors, {"signal": users, "noise": items}, labels


@pytest.mark.parametrize("kind", KINDS)
def test_looked_up_vectors_are_the_same_as_repeated_ones(kind):
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


def test_an_unknown_id_is_a_missing_modality():
    vectors, _, labels = by_id()
    known = {"signal": [f"u{n}" for n in range(40)], "noise": [f"i{n}" for n in range(30)]}
    model = fit_kind("gated", {n: Lookup(v, np.arange(600) % len(v)) for n, v in vectors.items()}, labels)
    wanted = {"signal": ["u3", "u99", "u3", None], "noise": ["i1", "i1", "nobody", "i2"]}
    found = {name: lookup(vectors[name], known[name], wanted[name]) for name in vectors}
    assert found["signal"].rows.tolist() == [3, -1, 3, -1]
    assert found["noise"].rows.tolist() == [1, 1, -1, 2]
    gates = model.gates(found)
    assert [g == 0 for g in gates["signal"]] == [False, True, False, True]
    assert [g == 0 for g in gates["noise"]] == [False, False, True, False]
    repeated = {name: vectors[name][part.rows] for name, part in found.items()}
    masks = {name: part.rows >= 0 for name, part in found.items()}
    np.testing.assert_allclose(model.predict(found), model.predict(repeated, masks), atol=1e-6)


def test_a_known_id_stands_once_and_has_one_vector():
    with pytest.raises(ValueError, match=r"^the id 'b' stands twice among the known ids: keep one$"):
        lookup(np.zeros((3, 2)), ["a", "b", "b"], ["a"])
    with pytest.raises(ValueError, match=r"^the id 7 stands twice among the known ids: keep one$"):
        lookup(np.zeros((2, 2)), np.array([7, 7]), [7])
    with pytest.raises(ValueError, match=r"^there must be one known id for each vector, got 2 ids for 3 vectors$"):
        lookup(np.zeros((3, 2)), ["a", "b"], ["a"])


def test_rows_of_the_table_that_nobody_reads_may_hold_anything():
    vectors, rows, labels = by_id()
    present = {"noise": rows["noise"] != 4}
    inputs = {name: Lookup(vectors[name], rows[name]) for name in vectors}
    model = fit_kind("gated", inputs, labels, present, epochs=1)
    holed = vectors["noise"].copy()
    holed[4] = np.nan
    other = inputs | {"noise": Lookup(holed, rows["noise"])}
    assert same(fit_kind("gated", other, labels, present, epochs=1), model)
    assert np.array_equal(model.predict(other, present), model.predict(inputs, present))
    assert np.isnan(holed[4]).all(), "the caller's array changed"
    with pytest.raises(
        ValueError, match=r"^modality 'noise' has a NaN or infinity in row 4; mark it absent or fill it$"
    ):
        model.predict(other)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros(599, int), r"modality 'noise' needs 600 whole row numbers, got int64 of shape \(599,\)"),
        (np.zeros(600), r"modality 'noise' needs 600 whole row numbers, got float64 of shape \(600,\)"),
        (np.full(600, 30), r"modality 'noise' has a table of 30 rows, but is asked for rows 0 to 30; -1 means none"),
        (np.full(600, -2), r"modality 'noise' has a table of 30 rows, but is asked for rows -2 to 0; -1 means none"),
    ],
)
def test_rows_that_do_not_fit_the_table_are_refused(rows, message):
    vectors, given, labels = by_id()
    inputs = {"signal": Lookup(vectors["signal"], given["signal"]), "noise": Lookup(vectors["noise"], rows)}
    with pytest.raises(ValueError, match=f"^{message}$"):
        fit_kind("gated", inputs, labels)


def test_many_examples_are_read_in_pieces_that_do_not_show():
    vectors, rows, labels = by_id()
    inputs = {name: Lookup(vectors[name], rows[name]) for name in vectors}
    model = fit_kind("attention", inputs, labels, epochs=1)
    many = {name: Lookup(vectors[name], np.tile(rows[name], 20)) for name in vectors}
    np.testing.assert_allclose(model.predict(many), np.tile(model.predict(inputs), 20), atol=1e-6)
    nobody = {name: Lookup(vectors[name], np.zeros(0, int)) for name in vectors}
    assert model.predict(nobody).shape == (0,)


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
    remedy = r"\. Mark one that is missing as absent in present"
    message = r"^inputs must have the modalities \['signal', 'noise'\], in that order; got {}" + remedy + "$"
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
    with pytest.raises(ValueError, match=r"^call fit before predict or gates$"):
        _ = FusedClassifier().n_parameters
    for dropout in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match=rf"^modality_dropout must be in \[0, 1\], got {dropout}$"):
            FusedClassifier(modality_dropout=dropout)


def test_an_unknown_kind_or_an_argument_of_another_kind_is_refused():
    kinds = "concat, fixed, weighted, gated, attention, two-tower"
    with pytest.raises(ValueError, match=rf"^kind must be one of {kinds}, got 'gate'$"):
        FusedClassifier(kind="gate")
    with pytest.raises(ValueError, match=r"^weights belongs to the kind 'fixed', not to 'weighted'$"):
        FusedClassifier(kind="weighted", weights={"text": 1})
    with pytest.raises(ValueError, match=r"^user belongs to the kind 'two-tower', not to 'gated'$"):
        FusedClassifier(user=["profile"])


@pytest.mark.parametrize("kind", ["concat", "two-tower"])
def test_a_kind_without_gates_says_so(kind):
    inputs, labels, _ = task(40)
    with pytest.raises(ValueError, match=rf"^the kind '{kind}' has no gates; "):
        fit_kind(kind, inputs, labels, epochs=1).gates(inputs)


def test_a_notebook_shows_what_a_classifier_is_and_no_address():
    shown = repr(FusedClassifier(kind="concat", hidden=8, epochs=2, seed=3))
    assert shown == "FusedClassifier(kind='concat', hidden=8, epochs=2, seed=3)"
