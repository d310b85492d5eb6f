"""What the benchmarks compare with and count: the listing's faults, a bar, operations, the cross-encoder's inputs."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from reclab import finetune as ours
from reclab import text

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import cross_encoder
import finetune
import listing
import measures

TEXTS = ["lovely soft dress", "awful", "cheap and awful, it shrank", "so soft", ""] * 4


def test_importing_the_benchmarks_leaves_the_number_of_threads_alone():
    # Tests import them, and the kernels of the notebooks inherit what they set.
    folder = Path(measures.__file__).parent
    scripts = ", ".join(sorted(path.stem for path in folder.glob("*.py")))
    code = f"import os, sys; sys.path.append(sys.argv[1])\nimport {scripts}\n"
    code += "print([name for name in os.environ if name.endswith('_NUM_THREADS')])"
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    found = subprocess.run([sys.executable, "-c", code, folder], env=plain, capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr


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


def test_flops_are_those_that_torch_counts():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3}
    config = BertConfig(vocab_size=50, attn_implementation="eager", **sizes)
    model, ids = BertModel(config, add_pooling_layer=False), torch.ones(4, 24, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids).last_hidden_state.sum().backward()
    assert 3 * measures.forward_flops(config, [24] * 4) == counter.get_total_flops()


# The listing


def test_the_listing_predicts_class_0_whatever_the_text():
    logits = listing.predict(listing.load(), TEXTS)
    assert logits.shape == (20, 1) and np.ptp(logits) > 0
    assert (listing.classes(logits) == 0).all()


def test_the_listing_fits_labels_by_squared_error():
    model, labels = listing.load().eval(), torch.tensor([0.0, 1.0])
    out = model(input_ids=torch.tensor([[101, 2204, 102], [101, 2919, 102]]), labels=labels)
    assert out.loss.item() == pytest.approx(((out.logits.squeeze() - labels) ** 2).mean().item())


def test_both_predict_the_same_with_equal_weights():
    module = ours.TextClassifier(text.load_encoder(listing.MODEL))
    classifier = ours.Classifier(module, text.load_tokenizer(listing.MODEL), listing.MAX_LENGTH)
    texts = [*filter(None, TEXTS), "lovely soft wool " * 60]  # without a word ours answers by the base rate
    expected = listing.probabilities(module, texts)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(classifier.predict(texts), expected, atol=1e-5)


# The cross-encoder


def ratings(n_users=4, n_items=25):
    rows = [(f"{u}", f"{i}", i % 3 > 0, u * 100 + i) for u in range(1, n_users + 1) for i in range(n_items)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "positive", "timestamp"])


def test_the_pairs_of_the_cross_encoder_never_give_away_the_film():
    users = pd.DataFrame({"user_id": ["1", "2", "3", "4"], "gender": "F", "age": 30, "occupation": "writer"})
    ids = [f"{i}" for i in range(25)]
    titles = [f"film {i}" for i in ids]
    items = pd.DataFrame({"item_id": ids, "title": titles, "text": [f"{title}. Drama" for title in titles]})
    movies = types.SimpleNamespace(users=users, items=items, interactions=ratings())
    liked = movies.interactions[movies.interactions["positive"]]
    texts = cross_encoder.pair_texts(movies, liked, movies.interactions, seed=0)
    for pair, item in zip(texts, movies.interactions["item_id"], strict=True):
        user, film = pair.split(" [SEP] ")
        assert film == f"film {item}. Drama" and f"film {item};" not in f"{user};"
        assert user.count("film") == cross_encoder.LIKED and user.startswith("F, 30, writer. Liked: ")


def test_the_four_numbers_leave_out_the_row_itself():
    table = ratings(n_users=2, n_items=3)  # items 1 and 2 are liked, by both
    found = cross_encoder.four_numbers(table, table.iloc[:2])
    mean = 2 / 3
    np.testing.assert_allclose(found[0], [(2 + 5 * mean) / 7, np.log(3) / 5, 5 * mean / 6, np.log(2) / 5])
    np.testing.assert_allclose(found[1], [(1 + 5 * mean) / 7, np.log(3) / 5, (1 + 5 * mean) / 6, np.log(2) / 5])
    new = table.iloc[:1].set_index(pd.Index([99]))  # a row that training does not have
    np.testing.assert_allclose(cross_encoder.four_numbers(table, new)[0, 0], (2 + 5 * mean) / 8)
