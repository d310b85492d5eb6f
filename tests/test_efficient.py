"""Fine-tuning a part of a BERT: what changes, what stays, and that the cheap way computes what the long way does."""

import copy
import dataclasses
import warnings

import numpy as np
import pytest
import torch

import tiny_bert
from reclab import efficient, finetune, text
from reclab.finetune import predict_tokens
from tiny_bert import LAYERS, STEPS, TEXTS, TOY, WIDE, WIDTH

BLOCK = 4 * (WIDTH**2 + WIDTH) + 2 * WIDTH * WIDE + WIDE + WIDTH + 4 * WIDTH  # attention, two dense layers, two norms
HEAD = 2 * WIDTH + 2
MATRICES = 2 * LAYERS  # query and value
LONG = dataclasses.replace(TOY, epochs=10)
# Random weights need larger steps than pretrained ones.
RATES = {"full": 3e-3, "frozen": 3e-3, "adapter": 1e-2, "lora": 1e-2, "adalora": 1e-1}


@pytest.fixture(scope="module")
def tokens():
    return text.tokenise(TEXTS, tiny_bert.tokenizer(), 16)


@pytest.fixture(scope="module")
def fitted():
    """A classifier of each method, fitted to the twelve texts."""
    return {method: tiny_bert.fit(method, LONG, lr=RATES[method]) for method in efficient.METHODS}


def prepared(method, steps=STEPS):
    """A classifier ready for training by some method, and one batch of all the texts."""
    module = finetune.TextClassifier(tiny_bert.encoder())
    module.encoder = efficient.METHODS[method].prepare(module.encoder, steps)
    return module.eval()


def hidden(encoder, tokens):
    return encoder(**text.pad(tokens)).last_hidden_state


def shaken(encoder):
    """The encoder with LoRA's matrices away from zero, as after training."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if "lora_" in name:
                weight.copy_(0.3 * torch.randn_like(weight))
    return encoder


# All methods


@pytest.mark.parametrize("method", efficient.METHODS)
def test_training_starts_from_the_pretrained_model(tokens, method):
    with torch.no_grad():
        torch.testing.assert_close(hidden(prepared(method).encoder, tokens), hidden(tiny_bert.encoder(), tokens))


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ("full", LAYERS * BLOCK),
        ("frozen", BLOCK),
        ("adapter", LAYERS * (2 * WIDTH * efficient.BOTTLENECK + efficient.BOTTLENECK + WIDTH)),
        ("lora", MATRICES * efficient.RANK * 2 * WIDTH),
        ("adalora", MATRICES * efficient.FIRST_RANK * (2 * WIDTH + 1)),  # and a singular value a rank
    ],
)
def test_as_many_numbers_are_trained_as_the_sizes_say(method, count):
    module = prepared(method)
    assert efficient.trained_parameters(module) == count + HEAD
    in_optimizer = sum(p.numel() for group in finetune.make_optimizer(module).param_groups for p in group["params"])
    assert in_optimizer == count + HEAD


CHANGES = {
    "full": {f"{name}.{layer}" for layer in range(LAYERS) for name in ("attention", "intermediate", "output")},
    "frozen": {f"{name}.{LAYERS - 1}" for name in ("attention", "intermediate", "output")},
    "adapter": {f"adapter.{layer}" for layer in range(LAYERS)},
    "lora": {f"attention.{layer}" for layer in range(LAYERS)},
    "adalora": {f"attention.{layer}" for layer in range(LAYERS)},
}


@pytest.mark.parametrize("method", efficient.METHODS)
def test_only_what_the_method_trains_changes(fitted, method):
    before = finetune.TextClassifier(tiny_bert.encoder()).state_dict()
    changed = set()
    for name, weight in tiny_bert.weights(fitted[method]).items():
        part, _, rest = name.removeprefix("encoder.encoder.layer.").partition(".")
        name = name.replace("output.output", "output")
        if ".down." in name or ".up." in name:
            changed.add(f"adapter.{part}")
        elif not name.startswith("head.") and not torch.equal(weight, before[name]):
            assert name.startswith("encoder.encoder.layer."), f"{name} changed"
            assert method not in ("lora", "adalora") or rest in (
                "attention.self.query.weight",
                "attention.self.value.weight",
            )
            changed.add(f"{rest.partition('.')[0]}.{part}")
    assert changed == CHANGES[method]


@pytest.mark.parametrize("method", efficient.METHODS)
def test_every_method_learns(fitted, method):
    losses = fitted[method].history["loss"]
    untrained = finetune.Classifier(finetune.TextClassifier(tiny_bert.encoder()), tiny_bert.tokenizer(), 16)
    assert len(losses) == 30
    assert losses.tail(6).mean() < losses.head(6).mean()
    gap = [p[:6].mean() - p[6:].mean() for p in (fitted[method].predict(TEXTS), untrained.predict(TEXTS))]
    assert gap[0] > 0.3 + gap[1], gap


@pytest.mark.parametrize("method", efficient.METHODS)
def test_a_saved_classifier_predicts_the_same(fitted, tmp_path, method):
    fitted[method].save(tmp_path)
    again = finetune.load(tmp_path)
    assert tiny_bert.same(tiny_bert.weights(again), tiny_bert.weights(fitted[method]))
    assert np.array_equal(again.predict(TEXTS), fitted[method].predict(TEXTS))
    assert again.method == ("adapter" if method == "adapter" else "full")


@pytest.mark.parametrize("stop", [3, 10])  # AdaLoRA has settled its ranks by step 8 of 12
@pytest.mark.parametrize("method", efficient.METHODS)
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(tmp_path, method, stop):
    whole = tiny_bert.fit(method)
    tiny_bert.fit(method, checkpoint=tmp_path / "run.pt", save_every=1, stop_after=stop)
    resumed = tiny_bert.fit(method, checkpoint=tmp_path / "run.pt")
    assert tiny_bert.same(tiny_bert.weights(resumed), tiny_bert.weights(whole))
    assert resumed.history["loss"].equals(whole.history["loss"])


# Frozen lower layers


def test_a_third_of_the_layers_is_trained_and_at_least_one():
    encoder, frozen = tiny_bert.encoder(), []
    for layers in (1, 2, 3, 6, 12):
        encoder.config.num_hidden_layers = layers
        frozen.append(efficient.n_frozen(encoder))
    assert frozen == [0, 1, 2, 4, 8]


def gradients(module, inputs):
    module.zero_grad()
    logits = module(**inputs)
    torch.nn.functional.cross_entropy(logits, torch.tensor(tiny_bert.LABELS).long()).backward()
    trained = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return logits.detach(), trained


def test_the_upper_part_over_the_lower_ones_output_is_the_whole(tokens):
    module = prepared("frozen")
    logits, whole = gradients(module, text.pad(tokens))
    lower, upper = efficient.split(module.encoder)
    with torch.no_grad():
        rows = hidden(lower.eval(), tokens)
    kept = efficient.pad_output([vectors[: len(ids)] for vectors, ids in zip(rows, tokens, strict=True)])
    head = copy.copy(module)
    head._modules = {"encoder": upper, "head": module.head}
    again, part = gradients(head, kept)
    torch.testing.assert_close(again, logits, atol=1e-6, rtol=0)
    renamed = {name.replace("layer.0.", f"layer.{LAYERS - 1}."): grad for name, grad in part.items()}
    assert renamed.keys() == whole.keys()
    assert len(whole) == 16 + 2
    for name, grad in whole.items():
        torch.testing.assert_close(renamed[name], grad, atol=1e-6, rtol=0)
        assert grad.abs().max() > 1e-4 or name.endswith("key.bias"), name


def test_kept_output_is_the_lower_layers_for_each_texts_own_tokens(tokens):
    lower, _ = efficient.split(prepared("frozen").encoder)
    kept = efficient.lower_output(lower, tokens, 0, TOY)
    assert [tuple(part.shape) for part in kept] == [(len(ids), WIDTH) for ids in tokens]
    assert {part.dtype for part in kept} == {torch.float16}
    for part, ids in zip(kept, tokens, strict=True):
        with torch.no_grad():
            alone = hidden(lower, [ids])[0, : len(ids)]
        torch.testing.assert_close(part.float(), alone, atol=2e-3, rtol=0)
    assert sum(part.untyped_storage().nbytes() for part in kept) == 2 * WIDTH * sum(map(len, tokens)), "padding is kept"


# Adapter


def test_an_adapter_is_a_bottleneck_after_the_layer():
    encoder = prepared("adapter").encoder
    for layer in encoder.encoder.layer:
        assert isinstance(layer.output, efficient.Adapter)
        assert (layer.output.down.out_features, layer.output.up.in_features) == (48, 48)
    adapter, plain = encoder.encoder.layer[0].output, tiny_bert.encoder().encoder.layer[0].output
    torch.manual_seed(3)
    torch.nn.init.normal_(adapter.up.weight)
    wide, residual = torch.randn(2, 5, WIDE), torch.randn(2, 5, WIDTH)
    with torch.no_grad():
        before = plain(wide, residual)
        thin = before @ adapter.down.weight.T + adapter.down.bias
        thin = thin * 0.5 * (1 + torch.erf(thin / 2**0.5))
        torch.testing.assert_close(adapter(wide, residual), before + thin @ adapter.up.weight.T)
        assert (adapter(wide, residual) - before).abs().max() > 0.1


# LoRA and AdaLoRA


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_merged_it_answers_the_same_and_is_a_plain_bert(tokens, method):
    module = prepared(method)
    encoder = shaken(module.encoder)
    plain = tiny_bert.encoder()
    plain.pooler = None
    with torch.no_grad():
        before = hidden(encoder, tokens)
        assert (before - hidden(plain, tokens)).abs().max() > 0.01, "LoRA must make a difference for this to tell"
        for name, weight in plain.named_parameters():  # not touched before merging
            name = name.replace("query.", "query.base_layer.").replace("value.", "value.base_layer.")
            assert torch.equal(encoder.get_base_model().get_parameter(name), weight), name
        after = efficient.merged(encoder)
        torch.testing.assert_close(hidden(after, tokens), before, atol=1e-5, rtol=0)
    assert type(after) is type(plain)
    assert after.state_dict().keys() == plain.state_dict().keys()
    assert efficient.merged(after) is after


def test_loras_weights_are_the_product_of_two_thin_matrices():
    encoder = shaken(prepared("lora").encoder)
    query = encoder.get_base_model().encoder.layer[1].attention.self.query
    a, b = query.lora_A["default"].weight, query.lora_B["default"].weight
    assert (a.shape, b.shape) == ((8, WIDTH), (WIDTH, 8))
    expected = (query.base_layer.weight + 16 / 8 * b @ a).detach()  # alpha over rank, Hu et al. section 4.1
    torch.testing.assert_close(efficient.merged(encoder).encoder.layer[1].attention.self.query.weight.data, expected)


def ranks(encoder):
    return [int((p != 0).sum()) for name, p in encoder.named_parameters() if "lora_E" in name]


def test_adalora_cuts_twelve_ranks_to_eight_on_average(monkeypatch):
    seen, allocate = [], efficient.add_adalora

    def watched(encoder, steps):
        encoder = allocate(encoder, steps)
        tuner = encoder.base_model
        update = tuner.update_and_allocate
        tuner.update_and_allocate = lambda step: (update(step), seen.append(ranks(encoder)))
        return encoder

    method = dataclasses.replace(efficient.METHODS["adalora"], prepare=watched)
    monkeypatch.setitem(efficient.METHODS, "adalora", method)
    tiny_bert.fit("adalora", LONG)
    assert len(seen) == 30
    assert seen[0] == seen[2] == [12] * MATRICES, "a tenth of the steps passes before any rank is cut"
    assert (np.diff([sum(now) for now in seen]) <= 0).all(), "a rank that was cut came back"
    assert sum(seen[19]) == sum(seen[-1]) == 8 * MATRICES, "the last third keeps the ranks"
    assert seen[19] == seen[-1]
    assert len(set(seen[-1])) > 1, "some matrices keep more than others"


def test_orthogonality_is_pefts_own_penalty(tokens):
    from peft import AdaLoraConfig
    from peft.tuners.adalora import AdaLoraModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class WithLoss(torch.nn.Module):
        """What peft adds its penalty to: an encoder whose output has a loss, of zero."""

        def __init__(self):
            super().__init__()
            self.bert, self.config = tiny_bert.encoder(), {"model_type": "bert"}

        def forward(self, **inputs):
            return SequenceClassifierOutput(loss=self.bert(**inputs).last_hidden_state.sum() * 0)

    config = AdaLoraConfig(init_r=12, target_r=8, lora_alpha=16, target_modules=["query", "value"], total_step=12)
    theirs = shaken(AdaLoraModel(WithLoss(), {"default": config}, "default"))
    ours = shaken(prepared("adalora").encoder)
    expected = theirs(**text.pad(tokens)).loss
    assert expected > 0.1
    torch.testing.assert_close(efficient.orthogonality(ours), expected)


def test_the_penalty_is_part_of_what_adalora_trains():
    first = {method: tiny_bert.fit(method, stop_after=1).history["loss"][0] for method in ("full", "adalora")}
    torch.manual_seed(TOY.seed)
    penalty = efficient.orthogonality(prepared("adalora").encoder).item()
    assert first["adalora"] - first["full"] == pytest.approx(penalty, abs=0.05)
    assert penalty > 0.5


def test_adalora_needs_two_steps():
    with pytest.raises(ValueError, match=r"^adalora needs at least 2 steps to weigh its ranks, got 1; give more texts"):
        tiny_bert.fit("adalora", dataclasses.replace(TOY, batch_size=12, epochs=1))
    assert len(tiny_bert.fit("adalora", dataclasses.replace(TOY, batch_size=12, epochs=2)).history) == 2


@pytest.mark.parametrize("method", efficient.METHODS)
def test_no_method_warns(method):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_bert.fit(method, stop_after=1)


def test_many_texts_are_predicted_as_one_by_one(tokens):
    module, many = prepared("full"), list(tokens) * 30
    together = predict_tokens(module, many, 0)
    alone = np.concatenate([predict_tokens(module, [ids], 0) for ids in many])
    np.testing.assert_allclose(together, alone, atol=1e-6)
