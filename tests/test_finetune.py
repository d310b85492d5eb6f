"""Fine-tuning on a toy task: against a plain loop of torch, resumed, watched, saved, and fed with bad input."""

import copy
import dataclasses
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

import tiny_bert
from reclab import assets, finetune, text
from reclab.errors import ReclabError, UnknownNameError
from tiny_bert import LABELS, TEXTS, TOY, same, weights


@pytest.fixture(scope="module")
def whole():
    """The uninterrupted run of the laptop profile's own encoder."""
    return finetune.fit(TEXTS, LABELS, TOY)


@pytest.fixture(scope="module")
def small():
    """The uninterrupted run of a tiny encoder."""
    return tiny_bert.fit()


# Learning


def test_training_is_a_plain_loop_of_torch():
    steps, rates = 4, [1.0, 1.0, 10 / 11, 9 / 11]  # one epoch, and the first step of the next
    still = dataclasses.replace(TOY, seed=3)
    encoder = text.load_encoder(TOY.model, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    tokenizer = text.load_tokenizer(TOY.model)
    options = {"encoder": copy.deepcopy(encoder), "tokenizer": tokenizer}
    model = finetune.fit(TEXTS, LABELS, still, stop_after=steps, **options)
    torch.manual_seed(3)
    head = torch.nn.Linear(384, 2)
    before = copy.deepcopy(encoder.state_dict())
    body = [p for name, p in encoder.named_parameters() if not name.startswith(("embeddings.", "pooler."))]
    groups = [{"params": body, "lr": 5e-5}, {"params": head.parameters(), "lr": 1e-3}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    lengths = [len(ids) for ids in tokenizer(TEXTS)["input_ids"]]
    batches = [*text.length_groups(lengths, 4, seed=3000), *text.length_groups(lengths, 4, seed=3001)]
    for step, (rate, rows) in enumerate(zip(rates, batches[:steps], strict=True)):
        for group, lr in zip(optimizer.param_groups, (5e-5, 1e-3), strict=True):
            group["lr"] = rate * lr
        chosen = [TEXTS[row] for row in rows]
        batch = tokenizer(chosen, return_tensors="pt", padding=True, pad_to_multiple_of=16, return_token_type_ids=False)
        hidden, mask = encoder(**batch).last_hidden_state, batch["attention_mask"].bool()
        means = torch.stack([tokens[own].mean(0) for tokens, own in zip(hidden, mask, strict=True)])
        loss = -head(means).log_softmax(-1)[range(4), [int(LABELS[row]) for row in rows]].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*body, *head.parameters()], 1.0)
        optimizer.step()
        assert model.history["loss"][step] == pytest.approx(loss.item(), abs=1e-5)
    assert not any("pooler" in name for name in weights(model)), "a layer that nothing reads is kept"
    for name, weight in encoder.state_dict().items():
        # The gradient of a key's bias is 0 but for rounding, which Adam blows up.
        if not name.endswith("key.bias") and not name.startswith("pooler."):
            apart = (weights(model)[f"encoder.{name}"] - weight).norm()
            assert apart <= 0.01 * (weight - before[name]).norm(), name
    torch.testing.assert_close(weights(model)["head.weight"], head.weight.data, atol=2e-6, rtol=0)


def test_a_seed_decides_the_weights_bit_for_bit():
    runs = [tiny_bert.fit(profile=dataclasses.replace(TOY, seed=seed), stop_after=2) for seed in (1, 1, 2)]
    assert same(weights(runs[0]), weights(runs[1]))
    assert not same(weights(runs[0]), weights(runs[2]))
    heads = [weights(run)["head.weight"] for run in (runs[0], runs[2])]
    assert (heads[0] - heads[1]).abs().max() > 0.01, "two steps of 1e-3 apart: both heads started alike"


def test_a_second_fit_may_change_the_precision(monkeypatch):
    monkeypatch.setattr("reclab.profiles.cpu_has_bf16", lambda: True)
    assert TOY.mixed_precision == "no"
    bf16 = tiny_bert.fit(profile=dataclasses.replace(TOY, mixed_precision="bf16"), stop_after=1)
    fp32 = tiny_bert.fit(stop_after=1)
    gap = abs(bf16.history["loss"][0] - fp32.history["loss"][0])
    assert 0 < gap < 0.05
    assert {weight.dtype for weight in weights(bf16).values()} == {torch.float32}


def test_a_fit_looks_at_validation_texts_three_times(small):
    shown = ([*TEXTS[3:9], "cheap soft", "lovely awful"], [*LABELS[3:9], 0, 1])
    looked = tiny_bert.fit(validation=shown)
    assert same(weights(looked), weights(small)), "looking must not change the training"
    history = looked.history
    steps = [row + 1 for row in np.flatnonzero(history["validation_loss"].notna())]
    assert steps == [4, 8, 12]
    p = looked.predict(shown[0])
    last = history.iloc[-1]
    assert last["validation_loss"] == pytest.approx(log_loss(shown[1], p), abs=1e-6)
    assert last["validation_auc"] == pytest.approx(roc_auc_score(shown[1], p))


# The network and its optimiser


def test_logits_are_a_line_over_the_mean_of_a_texts_tokens(whole):
    batch = text.pad(text.tokenise(TEXTS[:3], whole.tokenizer))
    module = whole.module.eval()
    with torch.inference_mode():
        logits = module(**batch).numpy()
        hidden = module.encoder(**batch).last_hidden_state.numpy()
    own = batch["attention_mask"].numpy().sum(1)
    means = np.array([hidden[i, :n].mean(0) for i, n in enumerate(own)])
    expected = means @ module.head.weight.detach().numpy().T + module.head.bias.detach().numpy()
    assert logits.shape == (3, 2)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert module.encoder.config.attention_probs_dropout_prob == 0
    assert module.encoder.config.hidden_dropout_prob > 0


def test_a_classifier_takes_an_encoder_in_place_of_a_name():
    encoder = tiny_bert.encoder()
    module = finetune.TextClassifier(encoder)
    assert module.encoder is encoder
    assert module.head.weight.shape == (2, tiny_bert.WIDTH)
    batch = text.pad([[101, 2204, 102]])
    with torch.inference_mode():
        embeds = encoder.embeddings.word_embeddings(batch["input_ids"])
        by_vectors = module(inputs_embeds=embeds, attention_mask=batch["attention_mask"])
        torch.testing.assert_close(by_vectors, module(**batch))


def test_a_fit_takes_another_learning_rate():
    history = tiny_bert.fit(lr=1e-4, stop_after=2).history
    np.testing.assert_allclose(history["learning_rate"], [1e-4, 1e-4])
    np.testing.assert_allclose(tiny_bert.fit(stop_after=1).history["learning_rate"], [5e-5])


# Prediction


def test_predictions_are_the_networks_whatever_order_and_batch(whole):
    p = whole.predict(TEXTS)
    alone = []
    for one in TEXTS:
        with torch.inference_mode():
            logits = whole.module(**whole.tokenizer(one, return_tensors="pt", return_token_type_ids=False))[0].numpy()
        alone.append(1 / (1 + np.exp(logits[0] - logits[1])))
    np.testing.assert_allclose(p, alone, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = whole.predict([TEXTS[i] for i in order], batch_size=5)
    np.testing.assert_allclose(shuffled, p[order], atol=1e-5)
    assert p.dtype == np.float64
    assert p.std() > 0.1, "predictions must differ for this test to tell rows apart"


def test_half_precision_moves_predictions_a_little(whole):
    gap = np.abs(whole.predict(TEXTS, precision="bf16") - whole.predict(TEXTS)).max()
    assert 0 < gap < 0.02


def test_a_text_without_words_gets_the_base_rate():
    labels = [1] * 9 + [0] * 3
    classifier = tiny_bert.fit(labels=labels, stop_after=1)
    p = classifier.predict(["", "lovely", "   \n\t", "\u200b"])
    assert classifier.base_rate == 0.75
    assert p[0] == p[2] == p[3] == 0.75
    assert p[1] != 0.75


@pytest.mark.parametrize("odd", ["😀", "😀" * 50, "ß漢字", "a\x00b", "?!"])
def test_an_odd_text_gets_a_probability(small, odd):
    p = small.predict([odd, "lovely"])
    assert np.isfinite(p).all()
    assert ((p > 0) & (p < 1)).all()


def test_a_long_text_counts_as_its_first_tokens(small):
    long = ("lovely soft wool dress " * 500)[:10_000]
    assert len(long) == 10_000
    first = " ".join(long.split()[: TOY.max_length - 2])
    p = small.predict([long, first, first[: len(first) // 2]])
    assert p[0] == p[1] != p[2]
    whole_text = tiny_bert.fit(texts=[long, *TEXTS[1:]], stop_after=1).history["loss"][0]
    assert whole_text == tiny_bert.fit(texts=[first, *TEXTS[1:]], stop_after=1).history["loss"][0]


def test_predict_takes_no_texts_and_refuses_other_things(small):
    assert small.predict([]).shape == (0,)
    with pytest.raises(ValueError, match=r"^texts\[1\] is None, not a text; drop that row"):
        small.predict(["lovely", None])
    with pytest.raises(ValueError, match=r"^texts must be a list of texts, got one str; write \[text\]$"):
        small.predict("lovely")


# Checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "run.pt"
    tiny_bert.fit(checkpoint=path, save_every=2, stop_after=2)
    return path.read_bytes()


def another_encoder():
    encoder = tiny_bert.encoder()
    with torch.no_grad():
        encoder.embeddings.word_embeddings.weight[0, 0] += 1
    return encoder


OTHER_RUNS = {
    "texts": {"texts": TEXTS[::-1]},
    "labels": {"labels": LABELS[::-1]},
    "epochs": {"profile": dataclasses.replace(TOY, epochs=1)},
    "batch size": {"profile": dataclasses.replace(TOY, batch_size=2)},
    "micro-batches": {"profile": dataclasses.replace(TOY, micro_batches=2)},
    "length": {"profile": dataclasses.replace(TOY, max_length=5)},
    "seed": {"profile": dataclasses.replace(TOY, seed=1)},
    "method": {"method": "frozen"},
    "learning rate": {"lr": 1e-4},
    "first weights": {"encoder": another_encoder()},
}


@pytest.mark.parametrize("other", OTHER_RUNS)
def test_a_checkpoint_of_another_run_is_refused(checkpoint, tmp_path, other):
    path = tmp_path / "run.pt"
    path.write_bytes(checkpoint)
    assert len(tiny_bert.fit(checkpoint=path, stop_after=3).history) == 3
    with pytest.raises(ReclabError, match=r"^checkpoint .*run.pt is of another run; delete it or give .*settings$"):
        tiny_bert.fit(**OTHER_RUNS[other], checkpoint=path, stop_after=3)


# Saving and loading


def test_a_saved_classifier_needs_no_asset(small, tmp_path, monkeypatch):
    classifier = finetune.Classifier(small.module, small.tokenizer, small.max_length, base_rate=0.25)
    classifier.save(tmp_path)
    monkeypatch.setattr(assets, "fetch", lambda name: pytest.fail(f"{name} was fetched"))
    again = finetune.load(tmp_path)
    assert again.max_length == TOY.max_length
    p = again.predict(["lovely", ""])
    assert np.array_equal(p, classifier.predict(["lovely", ""]))
    assert p[1] == 0.25


def spoil(folder, how):
    network, about = folder / "model.safetensors", folder / "classifier.json"
    if how == "torn weights":
        network.write_bytes(network.read_bytes()[:1_000])
    elif how == "other weights":
        finetune.Classifier(finetune.TextClassifier(other_shape()), tiny_bert.tokenizer(), 16).save(folder / "other")
        network.write_bytes((folder / "other" / "model.safetensors").read_bytes())
    elif how.startswith("no "):
        (folder / how.removeprefix("no ")).unlink()
    else:
        about.write_text({"not JSON": "{", "other JSON": "[1]", "half of it": '{"max_length": 16}'}[how])


def other_shape():
    encoder = tiny_bert.encoder()
    encoder.encoder.layer = encoder.encoder.layer[:1]
    return encoder


MISSING = ["no model.safetensors", "no classifier.json", "no config.json"]
SPOILT = ["torn weights", "other weights", *MISSING, "not JSON", "other JSON", "half of it"]


@pytest.mark.parametrize("how", SPOILT)
def test_half_a_classifier_is_refused(small, tmp_path, how):
    small.save(tmp_path)
    spoil(tmp_path, how)
    with pytest.raises(ReclabError, match=r"^.* holds no whole classifier; give a folder that Classifier.save wrote$"):
        finetune.load(tmp_path)


# Bad input and silence


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (TEXTS, LABELS[:-1], r"labels must be one for each of 12 examples, got shape \(11,\)"),
        (TEXTS, np.array(LABELS)[:, None], r"labels must be one for each of 12 examples, got shape \(12, 1\)"),
        (TEXTS, [1] * 12, "labels holds only one class; examples of both are needed"),
        ([], [], "labels holds only one class; examples of both are needed"),
        (TEXTS, [1, np.nan] * 6, r"labels must be 0 or 1, labels\[1\] is nan; drop or correct it"),
        (TEXTS, [1, 0, None] * 4, r"labels must be 0 or 1, labels\[2\] is None; drop or correct it"),
        (TEXTS, pd.array([True, pd.NA] * 6), r"labels must be 0 or 1, labels\[1\] is <NA>; drop or correct it"),
        (TEXTS, [0, 1, 2] * 4, r"labels must be 0 or 1, labels\[2\] is 2; drop or correct it"),
        (TEXTS, ["0", "1"] * 6, r"labels must be 0 or 1, labels\[0\] is '0'; drop or correct it"),
        ([*TEXTS[:-1], None], LABELS, r"texts\[11\] is None, not a text; drop that row or mask it .*"),
        ("lovely awful", LABELS, r"texts must be a list of texts, got one str; write \[text\]"),
    ],
)
def test_bad_texts_and_labels_are_refused(texts, labels, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        tiny_bert.fit(texts=texts, labels=labels)


def test_bad_validation_is_refused_before_training():
    with pytest.raises(ValueError, match=r"^labels holds only one class"):
        tiny_bert.fit(validation=(TEXTS[:3], LABELS[:3]), trackers=1 / 2)


def test_an_unknown_method_is_named_with_those_there_are():
    with pytest.raises(UnknownNameError, match=r"^there is no method named 'lore'; choose one of: adalora, adapter, "):
        tiny_bert.fit("lore")


def test_labels_of_any_usual_type_mean_the_same():
    kinds = [
        LABELS,
        np.array(LABELS, float),
        pd.Series(LABELS, index=range(12, 0, -1)),
        pd.array(LABELS, dtype="Int64"),
    ]
    losses = [tiny_bert.fit(labels=labels, stop_after=1).history["loss"][0] for labels in kinds]
    assert len(set(losses)) == 1


def test_encoding_and_training_print_nothing(tmp_path):
    code = (
        "import dataclasses; from reclab import finetune, profiles, text\n"
        "text.encode(['soft wool'])\n"
        "toy = dataclasses.replace(profiles.PROFILES['laptop'], batch_size=2, max_length=16)\n"
        f"folder = {str(tmp_path)!r}\n"
        "data = ['soft', 'lovely', 'bad', 'awful'], [1, 1, 0, 0]\n"
        "keep = {'checkpoint': folder + '/c', 'save_every': 1, 'validation': data}\n"
        "model = finetune.fit(*data, toy, method='adalora', **keep)\n"
        "model.predict(['soft']); model.save(folder); finetune.load(folder).predict(['soft'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"RECLAB_DERIVED": str(tmp_path / "derived")},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
