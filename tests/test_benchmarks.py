"""The benchmarks' own arithmetic, and that the listing they compare with has the faults it is there for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from reclab import finetune as ours

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import finetune
import listing
import measures
import one_fit
import quality

TEXTS = ["lovely soft dress", "awful", "cheap and awful, it shrank", "so soft", ""] * 4


# The environment


def test_importing_the_benchmarks_leaves_the_number_of_threads_alone():
    # Tests import them, and the kernels of the notebooks inherit what they set.
    folder = Path(measures.__file__).parent
    scripts = ", ".join(sorted(path.stem for path in folder.glob("*.py")))
    code = f"import os, sys; sys.path.append(sys.argv[1])\nimport {scripts}\n"
    code += "print([name for name in os.environ if name.endswith('_NUM_THREADS')])"
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    found = subprocess.run([sys.executable, "-c", code, folder], env=plain, capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr


# Rows


@pytest.mark.parametrize(
    ("value", "bars", "ok"),
    [
        (1.6, {"least": 1.6}, True),
        (1.59, {"least": 1.6}, False),
        (1e-3, {"most": 1e-3}, True),
        (2e-3, {"most": 1e-3}, False),
        (0.0, {"least": 1}, False),
        (9.0, {}, True),
        (None, {"least": 1.6}, True),
    ],
)
def test_a_row_says_whether_its_bar_is_met(value, bars, ok):
    found = measures.row("x", value, "times", **bars)
    assert found == {"name": "x", "value": value, "unit": "times", "bar": next(iter(bars.values()), None), "ok": ok}


def test_a_row_just_below_its_bar_is_not_rounded_up_to_it():
    assert not measures.row("x", 1.59999999, "times", least=1.6)["ok"]


def test_ratios_are_of_the_listings_seconds_and_of_trainers():
    seconds = {finetune.LISTING: 30.0, finetune.TRAINER: 24.0, "ours, float32": 15.0, "ours, bf16": 12.0}
    rows = {line["name"]: line for line in finetune.ratio_rows(seconds)}
    over = f" / {finetune.LISTING}"
    found = rows[f"training: ours, float32{over}"]
    assert (found["value"], found["bar"], found["ok"]) == (2.0, 1.6, True)
    found = rows[f"training: ours, bf16{over}"]
    assert (found["value"], found["bar"], found["ok"]) == (2.5, 2.8, False)
    assert rows[f"training: {finetune.TRAINER}{over}"]["value"] == 1.25
    assert rows[f"training: ours, bf16 / {finetune.TRAINER}"]["value"] == 2.0
    skipped = [line for name, line in rows.items() if "skipped" in name]
    assert [(line["value"], line["bar"], line["ok"]) for line in skipped] == [(None, 7.0, True)]


def test_ways_take_turns_and_count_by_their_median():
    order, seconds = [], {"a": iter([1.0, 9.0, 2.0]), "b": iter([3.0, 3.0, 3.0])}

    def way(name):
        order.append(name)
        return {name: next(seconds[name])}

    assert finetune.take_turns([lambda: way("a"), lambda: way("b")]) == {"a": 2.0, "b": 3.0}
    assert order == ["a", "b"] * 3


def test_what_is_compared_takes_turns(monkeypatch):
    order, clock = [], iter(range(100))
    monkeypatch.setattr(measures.time, "process_time", lambda: next(clock) / 2)
    turns = measures.take_turns(lambda: order.append("a"), lambda: order.append("b"), rounds=3, repeats=2)
    assert order == ["a", "a", "b", "b"] * 3
    assert turns.tolist() == [[0.25, 0.25]] * 3  # half a second for two calls


def test_check_decides_the_exit_status(monkeypatch, capsys):
    rows = [measures.row("a", 1.0, "times", least=2), measures.row("b", 1.0, "times")]
    monkeypatch.setattr(finetune, "measure", lambda: iter(rows))
    threads = torch.get_num_threads()
    try:
        assert [finetune.main(["--check"]), finetune.main([])] == [1, 0]
        rows.pop(0)
        assert finetune.main(["--check"]) == 0
    finally:
        torch.set_num_threads(threads)
    assert json.loads(capsys.readouterr().out.splitlines()[0])["bar"] == 2


def test_every_stored_auc_is_read_with_its_interval_and_its_bar():
    rows = list(quality.measure())
    assert [line["bar"] for line in rows if line["bar"]] == [0.94, 0.95]
    for middle, low, high in (rows[0:3], rows[3:6]):
        assert low["value"] < middle["value"] < high["value"] < 1


def test_the_largest_difference_is_over_all_weights():
    a = {"x": torch.zeros(3), "y": torch.tensor([1.0, 2.0])}
    b = {"x": torch.zeros(3), "y": torch.tensor([1.0, 1.5])}
    assert one_fit.largest_difference(a, b) == 0.5
    with pytest.raises(ValueError, match="different weights"):
        one_fit.largest_difference(a, {"x": torch.zeros(3)})


# Floating-point operations


def test_flops_are_those_that_torch_counts():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3}
    config = BertConfig(vocab_size=50, attn_implementation="eager", **sizes)
    model, ids = BertModel(config, add_pooling_layer=False), torch.ones(4, 24, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids).last_hidden_state.sum().backward()
    assert 3 * measures.forward_flops(config, [24] * 4) == counter.get_total_flops()


def test_the_peak_is_that_of_a_real_cpu():
    config = BertConfig(hidden_size=64, intermediate_size=128)
    assert 1e8 < measures.gemm_peak(config, torch.float32, rows=256, repeats=3) < 1e13


# The listing


def test_the_listing_predicts_class_0_whatever_the_text():
    logits = listing.predict(listing.load(), TEXTS)
    assert logits.shape == (20, 1) and np.ptp(logits) > 0
    assert (listing.classes(logits) == 0).all()


def test_the_listing_fits_labels_by_squared_error():
    model, labels = listing.load().eval(), torch.tensor([0.0, 1.0])
    out = model(input_ids=torch.tensor([[101, 2204, 102], [101, 2919, 102]]), labels=labels)
    assert out.loss.item() == pytest.approx(((out.logits.squeeze() - labels) ** 2).mean().item())


def test_the_listing_tokenises_a_text_each_time_it_is_asked_for_and_pads_it_to_128():
    calls, tokenizer = [], listing.text.load_tokenizer(listing.MODEL)

    def counting(*args, **options):
        calls.append(args)
        return tokenizer(*args, **options)

    items = listing.ReviewDataset(TEXTS, [1.0] * 20, counting)
    assert not calls
    assert [len(items[0]["input_ids"]) for _ in range(2)] == [128, 128] and len(calls) == 2


def test_the_listing_trains_every_weight_and_a_seed_decides():
    module = listing.load()
    before = {name: weights.clone() for name, weights in module.named_parameters()}
    listing.train(TEXTS[:4], [1.0, 0.0, 0.0, 1.0], 0, module)
    assert not any(torch.equal(weights, before[name]) for name, weights in module.named_parameters())


# Side by side


@pytest.fixture(scope="module")
def bench():
    return finetune.Bench(80)


def test_both_predict_the_same_with_equal_weights(bench):
    module = ours.TextClassifier(bench.encoder)
    classifier = ours.Classifier(module, bench.tokenizer, listing.MAX_LENGTH)
    expected = listing.probabilities(module, bench.test)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(classifier.predict(bench.test), expected, atol=1e-5)


def test_every_way_to_train_is_measured(bench):
    seconds = finetune.take_turns(bench.ways(), rounds=1)
    assert {finetune.LISTING, finetune.TRAINER, "ours, float32"} <= set(seconds)
    assert min(seconds.values()) > 0
    if finetune.cpu_has_bf16():
        assert seconds[finetune.CACHED] < seconds[f"{finetune.CACHED}, caching included"]
    assert bench.classifier.history["loss"].size == 2
    shares = [line["value"] for line in finetune.peak_rows(bench, seconds) if line["unit"] == "share"]
    assert shares and all(0 < share < 1.2 for share in shares)
