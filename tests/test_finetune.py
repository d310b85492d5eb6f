"""Fine-tuning on a toy task: against a plain loop of torch, resumed, saved, and fed with bad input."""

import copy
import dataclasses
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from reclab import finetune, text
from reclab.errors import ReclabError
from reclab.profiles import PROFILES

LIKED = ["lovely soft dress", "so soft", "lovely", "I love it, it fits well", "soft wool, lovely fit", "love love love"]
HATED = ["awful", "cheap and awful", "it shrank, I hate it", "hate the awful fit", "bad cheap cloth", "cheap cheap"]
TEXTS, LABELS = LIKED + HATED, [True] * 6 + [False] * 6
TOY = dataclasses.replace(PROFILES["laptop"], batch_size=4, max_length=16, epochs=4)
STEPS = 12


@pytest.fixture(scope="module")
def whole():
    """The uninterrupted run."""
    return finetune.fit(TEXTS, LABELS, TOY)


@pytest.fixture
def no_loading(monkeypatch, whole):
    """A ready network in place of the pretrained one: for tests of what happens around the training."""
    monkeypatch.setattr(finetune, "TextClassifier", lambda model: copy.deepcopy(whole.module))


def weights(model):
    return model.module.state_dict()


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


# Learning


def test_learns_a_separable_task(whole):
    losses = whole.history["loss"]
    assert len(losses) == STEPS
    assert losses.tail(3).mean() < 0.6 * losses.head(3).mean()
    p = whole.predict(TEXTS)
    assert roc_auc_score(LABELS, p) == 1
    assert p[:6].min() > 0.5 > p[6:].max()


def test_history_has_the_learning_rate_of_each_step_and_its_time(whole):
    # One step of warm-up (a tenth of 12, rounded), then a straight line that would reach 0 after the last step.
    expected = [5e-5, *(5e-5 * (STEPS - step) / (STEPS - 1) for step in range(1, STEPS))]
    np.testing.assert_allclose(whole.history["learning_rate"], expected)
    assert (whole.history["seconds"].diff().dropna() > 0).all()


def test_training_is_a_plain_loop_of_torch():
    steps, rates = 4, [1.0, 1.0, 10 / 11, 9 / 11]  # one epoch, and the first step of the next
    model = finetune.fit(TEXTS, LABELS, TOY, stop_after=steps)
    tokenizer = text.load_tokenizer(TOY.model)
    torch.manual_seed(TOY.seed)
    encoder = text.load_encoder(TOY.model, attention_probs_dropout_prob=0.0).train()
    before = copy.deepcopy(encoder.state_dict())
    head = torch.nn.Linear(384, 2)
    body = [p for name, p in encoder.named_parameters() if not name.startswith("embeddings.")]
    groups = [{"params": body, "lr": 5e-5}, {"params": head.parameters(), "lr": 1e-3}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    lengths = [len(ids) for ids in tokenizer(TEXTS)["input_ids"]]
    batches = [*text.length_groups(lengths, 4, seed=0), *text.length_groups(lengths, 4, seed=1)]
    for rate, rows in zip(rates, batches[:steps], strict=True):
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
    assert model.history["loss"].iloc[-1] == pytest.approx(loss.item(), abs=1e-5)
    for name, weight in encoder.state_dict().items():
        # The gradient of a key's bias is 0 but for rounding, which Adam blows up.
        if not name.endswith("key.bias"):
            apart = (weights(model)[f"encoder.{name}"] - weight).norm()
            assert apart <= 0.01 * (weight - before[name]).norm(), name
    torch.testing.assert_close(weights(model)["head.weight"], head.weight.data, atol=2e-6, rtol=0)


def test_the_embedding_table_stays_and_the_rest_moves(whole):
    before = text.load_encoder(TOY.model).state_dict()
    for name, weight in before.items():
        after = weights(whole)[f"encoder.{name}"]
        if name.startswith("embeddings."):
            assert torch.equal(weight, after), name
        elif name.endswith(".weight") and not name.startswith("pooler."):
            assert not torch.equal(weight, after), name


def test_a_seed_decides_the_weights_bit_for_bit():
    runs = [finetune.fit(TEXTS, LABELS, dataclasses.replace(TOY, seed=seed), stop_after=2) for seed in (1, 1, 2)]
    assert same(weights(runs[0]), weights(runs[1]))
    assert not same(weights(runs[0]), weights(runs[2]))
    heads = [weights(run)["head.weight"] for run in (runs[0], runs[2])]
    assert (heads[0] - heads[1]).abs().max() > 0.01, "two steps of 1e-3 apart: both heads started alike"


def test_a_second_fit_may_change_the_precision():
    assert TOY.mixed_precision == "no"
    bf16 = finetune.fit(TEXTS, LABELS, dataclasses.replace(TOY, mixed_precision="bf16"), stop_after=1)
    fp32 = finetune.fit(TEXTS, LABELS, TOY, stop_after=1)
    gap = abs(bf16.history["loss"][0] - fp32.history["loss"][0])
    assert 0 < gap < 0.05


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


def test_the_optimiser_holds_all_but_the_embeddings_at_two_learning_rates(whole):
    module = copy.deepcopy(whole.module).requires_grad_(True)
    body, head = finetune.make_optimizer(module).param_groups
    names = {id(p): name for name, p in module.named_parameters()}
    in_body, in_head = ([names[id(p)] for p in group["params"]] for group in (body, head))
    assert (body["lr"], head["lr"], body["weight_decay"], head["weight_decay"]) == (5e-5, 1e-3, 0.01, 0.01)
    assert in_head == ["head.weight", "head.bias"]
    left_out = set(names.values()) - {*in_body, *in_head}
    assert len(in_body) == len(set(in_body)) > 50
    assert left_out == {name for name in names.values() if name.startswith("encoder.embeddings.")}
    assert not any(p.requires_grad for p in module.encoder.embeddings.parameters())


def test_the_learning_rate_warms_up_and_decays_in_straight_lines():
    factors = [finetune.warm_up_then_decay(step, 20) for step in range(21)]
    assert factors == pytest.approx([1 / 2, 1, *((20 - step) / 18 for step in range(2, 20)), 0])
    assert finetune.warm_up_then_decay(0, 1) == 1
    assert [finetune.warm_up_then_decay(step, 100) for step in (0, 4, 9, 55)] == pytest.approx([0.1, 0.5, 1, 0.5])


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


def test_predict_takes_no_texts_and_odd_ones(whole):
    assert whole.predict([]).shape == (0,)
    odd = whole.predict(["", "😀", "wool " * 2_000])
    assert ((odd > 0) & (odd < 1)).all()
    with pytest.raises(ValueError, match=r"^texts\[1\] is None, not a text; drop that row"):
        whole.predict(["lovely", None])


# Checkpoints


def stopped(path, after=5):
    finetune.fit(TEXTS, LABELS, TOY, checkpoint=path, save_every=2, stop_after=after)
    return path


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(whole, tmp_path, monkeypatch):
    path = stopped(tmp_path / "new folder" / "run.pt")
    assert [p.name for p in path.parent.iterdir()] == ["run.pt"]
    torch.rand(1_000)  # whatever was drawn in between
    batches, pad = [], text.pad
    monkeypatch.setattr(text, "pad", lambda *given: batches.append(1) or pad(*given))
    resumed = finetune.fit(TEXTS, LABELS, TOY, checkpoint=path)
    assert len(batches) == STEPS - 4, "the steps before the checkpoint were trained again"
    assert same(weights(resumed), weights(whole))
    pd.testing.assert_frame_equal(resumed.history.drop(columns="seconds"), whole.history.drop(columns="seconds"))
    assert (resumed.history["seconds"].diff().dropna() > 0).all()


def test_a_finished_run_is_not_trained_again(no_loading, tmp_path):
    path = tmp_path / "run.pt"
    done = finetune.fit(TEXTS, LABELS, TOY, checkpoint=path, save_every=STEPS)
    again = finetune.fit(TEXTS, LABELS, TOY, checkpoint=path)
    assert same(weights(done), weights(again))
    assert again.history.equals(done.history)


@pytest.mark.parametrize(("stop_after", "steps"), [(0, 0), (3, 3), (99, STEPS)])
def test_stop_after_counts_steps(no_loading, stop_after, steps):
    assert len(finetune.fit(TEXTS, LABELS, TOY, stop_after=stop_after).history) == steps


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return stopped(tmp_path_factory.mktemp("checkpoint") / "run.pt", after=2).read_bytes()


OTHER_RUNS = {
    "texts": (TEXTS[::-1], LABELS, TOY),
    "labels": (TEXTS, LABELS[::-1], TOY),
    "epochs": (TEXTS, LABELS, dataclasses.replace(TOY, epochs=1)),
    "batch size": (TEXTS, LABELS, dataclasses.replace(TOY, batch_size=2)),
    "seed": (TEXTS, LABELS, dataclasses.replace(TOY, seed=1)),
}


@pytest.mark.parametrize("run", OTHER_RUNS)
def test_a_checkpoint_of_another_run_is_refused(no_loading, checkpoint, tmp_path, run):
    path = tmp_path / "run.pt"
    path.write_bytes(checkpoint)
    with pytest.raises(ReclabError, match=r"^checkpoint .*run.pt is of another run; delete it or give .*profile$"):
        finetune.fit(*OTHER_RUNS[run], checkpoint=path, stop_after=3)


@pytest.mark.parametrize("kept", [0, 3, 10_000, -10])
def test_a_torn_checkpoint_is_refused(no_loading, checkpoint, tmp_path, kept):
    path = tmp_path / "run.pt"
    path.write_bytes(checkpoint[:kept])
    with pytest.raises(ReclabError, match=r"^checkpoint .*run.pt is damaged; delete it to start from the first step$"):
        finetune.fit(TEXTS, LABELS, TOY, checkpoint=path, stop_after=3)


# Saving and loading


def test_a_saved_classifier_predicts_the_same(whole, tmp_path):
    whole.save(tmp_path / "new" / "folder")
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == {"model.safetensors", "classifier.json"}
    again = finetune.load(tmp_path / "new" / "folder")
    assert same(weights(again), weights(whole))
    assert np.array_equal(again.predict(TEXTS), whole.predict(TEXTS))
    assert (again.model, again.max_length) == (TOY.model, TOY.max_length)


def spoil(folder, how):
    network, about = folder / "model.safetensors", folder / "classifier.json"
    if how == "torn weights":
        network.write_bytes(network.read_bytes()[:1_000])
    elif how == "no weights":
        network.unlink()
    else:
        about.write_text({"not JSON": "{", "other JSON": "[1]", "no model": '{"max_length": 16}'}[how])


@pytest.mark.parametrize("how", ["torn weights", "no weights", "not JSON", "other JSON", "no model"])
def test_half_a_classifier_is_refused(whole, tmp_path, how):
    whole.save(tmp_path)
    spoil(tmp_path, how)
    with pytest.raises(ReclabError, match=r"^.* holds no whole classifier; give a folder that Classifier.save wrote$"):
        finetune.load(tmp_path)


def test_a_folder_without_a_classifier_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ReclabError, match=f"^{folder} holds no whole classifier"):
            finetune.load(folder)


# Bad input and silence


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (TEXTS, LABELS[:-1], r"texts and labels must be of one length, got 12 and shape \(11,\)"),
        (TEXTS, np.array(LABELS)[:, None], r"texts and labels must be of one length, got 12 and shape \(12, 1\)"),
        (TEXTS, [1] * 12, "labels holds only one class; a classifier needs examples of both"),
        ([], [], "labels holds only one class; a classifier needs examples of both"),
        (TEXTS, [1, np.nan] * 6, r"labels must be 0 or 1, labels\[1\] is nan; drop or correct it"),
        (TEXTS, [1, 0, None] * 4, r"labels must be 0 or 1, labels\[2\] is None; drop or correct it"),
        (TEXTS, pd.array([True, pd.NA] * 6), r"labels must be 0 or 1, labels\[1\] is <NA>; drop or correct it"),
        (TEXTS, [0, 1, 2] * 4, r"labels must be 0 or 1, labels\[2\] is 2; drop or correct it"),
        (TEXTS, ["0", "1"] * 6, r"labels must be 0 or 1, labels\[0\] is '0'; drop or correct it"),
        ([*TEXTS[:-1], None], LABELS, r"texts\[11\] is None, not a text; drop that row or mask it .*"),
    ],
)
def test_bad_texts_and_labels_are_refused(texts, labels, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        finetune.fit(texts, labels, TOY)


def test_labels_of_any_usual_type_mean_the_same(no_loading):
    kinds = [
        LABELS,
        np.array(LABELS, float),
        pd.Series(LABELS, index=range(12, 0, -1)),
        pd.array(LABELS, dtype="Int64"),
    ]
    losses = [finetune.fit(TEXTS, labels, TOY, stop_after=1).history["loss"][0] for labels in kinds]
    assert len(set(losses)) == 1


def test_training_prints_nothing(tmp_path):
    code = (
        "import dataclasses; from reclab import finetune, profiles\n"
        "toy = dataclasses.replace(profiles.PROFILES['laptop'], batch_size=2, max_length=16)\n"
        f"folder = {str(tmp_path)!r}\n"
        "keep = {'checkpoint': folder + '/c', 'save_every': 1}\n"
        "model = finetune.fit(['soft', 'lovely', 'bad', 'awful'], [1, 1, 0, 0], toy, **keep)\n"
        "model.predict(['soft']); model.save(folder); finetune.load(folder).predict(['soft'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
