"""Tokens, batches and vectors of texts, against the tokenizer and the model themselves."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from reclab import assets, text
from reclab.errors import ReclabError, UnknownNameError

MODEL = "minilm-l6"
TEXTS = [
    "Soft wool, and it fits.",
    "",
    "Too small 😀👗!",
    "It shrank in the wash after only one day, so I sent it back and asked for my money.",
    "ok",
    "The colour is nothing like the picture. " * 4,
    "Soft wool, and it fits.",
]


@pytest.fixture(scope="module")
def tokenizer():
    return text.load_tokenizer(MODEL)


@pytest.fixture(scope="module")
def encoder():
    return text.load_encoder(MODEL)


@pytest.fixture
def derived(tmp_path, monkeypatch):
    monkeypatch.setenv("RECLAB_DERIVED", str(tmp_path / "derived"))
    return tmp_path / "derived"


@pytest.fixture
def loaded(monkeypatch, tokenizer, encoder):
    """The tokenizer and the encoder without loading them again."""
    monkeypatch.setattr(text, "load_tokenizer", lambda name: tokenizer)
    monkeypatch.setattr(text, "load_encoder", lambda name: encoder)


def no_model(name):
    raise AssertionError("the model was loaded")


@pytest.fixture(scope="module")
def one_by_one(tokenizer, encoder):
    """Each text alone through the model, never padded; the mean is numpy's."""
    vectors = []
    for one in TEXTS:
        batch = tokenizer(one, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            vectors.append(encoder(**batch).last_hidden_state[0].numpy().mean(0))
    return np.array(vectors)


# Length groups


def lengths_of(n, seed=0):
    return np.random.default_rng(seed).lognormal(4, 0.7, n).astype(int).clip(2, 128)


def padded_tokens(lengths, groups):
    """Tokens that a model computes, with each batch as wide as its longest text rounded up to 16."""
    return sum(len(rows) * int(np.ceil(lengths[rows].max() / 16)) * 16 for rows in groups)


@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize(("n", "batch_size"), [(1, 16), (16, 16), (101, 16), (101, 1), (5, 100)])
def test_every_row_stands_in_one_group(n, batch_size, seed):
    groups = text.length_groups(lengths_of(n), batch_size, seed=seed)
    assert sorted(np.concatenate(groups)) == list(range(n))
    sizes = sorted(map(len, groups))
    assert sizes[1:] == [batch_size] * (len(groups) - 1)
    assert 1 <= sizes[0] <= batch_size


def test_groups_without_a_seed_go_from_short_to_long_in_the_given_order():
    assert [list(rows) for rows in text.length_groups([90, 3, 17, 16, 40, 1], 2)] == [[1, 3], [5, 2], [4, 0]]


def test_a_seed_decides_the_groups_and_their_order():
    lengths = lengths_of(200)
    first, again, other = (text.length_groups(lengths, 8, seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert {frozenset(rows) for rows in first} != {frozenset(rows) for rows in other}
    widths = [np.ceil(lengths[rows].max() / 16) for rows in first]
    assert widths != sorted(widths), "seeded batches must not come from short to long"


def test_groups_compute_little_more_than_the_texts_themselves():
    lengths = lengths_of(2_000)
    floor = padded_tokens(lengths, np.arange(len(lengths))[:, None])
    random = np.array_split(np.random.default_rng(0).permutation(len(lengths)), len(lengths) // 16)
    assert padded_tokens(lengths, text.length_groups(lengths, 16, seed=0)) < 1.03 * floor
    assert padded_tokens(lengths, random) > 1.3 * floor


def test_each_epoch_draws_its_own_groups_of_every_row():
    lengths = np.random.default_rng(0).integers(2, 128, size=50)
    batches = text.epochs_of_batches(lengths, 8, epochs=3, seed=4)
    alone = [text.length_groups(lengths, 8, seed=seed) for seed in (4000, 4001, 4002)]
    for found, expected in zip(batches, [batch for epoch in alone for batch in epoch], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(np.concatenate(alone[0]), np.concatenate(alone[1]))
    assert text.epochs_of_batches(lengths, 8, epochs=0, seed=4) == []


def test_padded_batches_hold_the_tokens_of_their_rows():
    tokens = [list(range(1, n + 1)) for n in (5, 40, 3, 17, 16)]
    seen = []
    for rows, batch in text.padded_batches(tokens, 99, 2):
        assert len(rows) <= 2
        for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
            assert ids[mask.bool()].tolist() == tokens[row] and (ids[~mask.bool()] == 99).all()
            seen.append(row)
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_no_texts_make_no_groups():
    assert text.length_groups([], 16, seed=0) == []


def test_a_batch_size_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"^batch_size must be at least 1, got 0$"):
        text.length_groups([3, 4], 0)


# Padding and pooling


def test_pad_agrees_with_the_tokenizers_own_padding(tokenizer):
    tokens = text.tokenise(TEXTS, tokenizer)
    ours = text.pad(tokens, tokenizer.pad_token_id)
    theirs = tokenizer.pad({"input_ids": tokens}, pad_to_multiple_of=16, return_tensors="pt")
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(ours[name], theirs[name])


def test_mean_pool_is_the_mean_over_a_texts_own_tokens():
    rng = np.random.default_rng(0)
    hidden, own = rng.normal(size=(4, 6, 3)).astype(np.float32), [6, 1, 3, 4]
    mask = torch.tensor([[int(t < n) for t in range(6)] for n in own])
    expected = [sum(hidden[i, t] for t in range(n)) / n for i, n in enumerate(own)]
    pooled = text.mean_pool(torch.tensor(hidden), mask)
    np.testing.assert_allclose(pooled, expected, atol=1e-6)
    hidden[mask.numpy() == 0] = 1e9
    assert torch.equal(text.mean_pool(torch.tensor(hidden), mask), pooled)


# Tokens


@pytest.mark.parametrize("max_length", [3, 16, 128])
def test_tokens_are_those_of_each_text_alone(tokenizer, max_length):
    texts = [*TEXTS, "wool " * 2_000, "😀" * 50, "\n\t", "日本語"]
    assert len(texts[7]) == 10_000
    tokens = text.tokenise(texts, tokenizer, max_length)
    for one, ids in zip(texts, tokens, strict=True):
        whole = [tokenizer.cls_token_id, *tokenizer.encode(one, add_special_tokens=False), tokenizer.sep_token_id]
        assert ids == (whole if len(whole) <= max_length else [*whole[: max_length - 1], tokenizer.sep_token_id])


def test_an_empty_text_is_two_special_tokens_and_no_texts_are_no_tokens(tokenizer):
    assert text.tokenise([""], tokenizer) == [[tokenizer.cls_token_id, tokenizer.sep_token_id]]
    assert text.tokenise([], tokenizer) == []


def test_a_series_is_read_by_position(tokenizer):
    series = pd.Series(["wool", "silk"], index=[7, 0])
    assert text.tokenise(series, tokenizer) == text.tokenise(["wool", "silk"], tokenizer)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, 3])
def test_a_missing_text_is_refused_with_its_row(tokenizer, missing):
    with pytest.raises(ValueError, match=r"^texts\[1\] is .*, not a text; drop that row or mask it .*$"):
        text.tokenise(["wool", missing, "silk", None], tokenizer)


def test_one_bare_str_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"^texts must be a list of texts, got one str; write \[text\]$"):
        text.tokenise("wool", tokenizer)


def test_a_max_length_without_room_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"^max_length must be at least 3, got 1$"):
        text.tokenise(["wool"], tokenizer, 1)


# Models


def test_the_encoder_is_float32_in_evaluation_mode_and_takes_settings(encoder):
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert not encoder.training
    assert encoder.config.attention_probs_dropout_prob > 0
    assert text.load_encoder(MODEL, attention_probs_dropout_prob=0.0).config.attention_probs_dropout_prob == 0


def test_a_name_that_is_no_model_is_refused(monkeypatch, tmp_path):
    with pytest.raises(UnknownNameError, match=r"^there is no asset named 'nope'; choose one of: "):
        text.load_encoder("nope")
    monkeypatch.setattr(assets, "fetch", lambda name: {"clicks.csv": tmp_path / "clicks.csv"})
    with pytest.raises(ReclabError, match=r"^asset 'clicks' is no model, it holds clicks.csv; try 'minilm-l6'$"):
        text.load_tokenizer("clicks")


# Encode


@pytest.mark.parametrize("options", [{}, {"batch_size": 1}, {"batch_size": 3}])
def test_vectors_are_those_of_each_text_alone_in_any_order_and_batch(derived, loaded, one_by_one, options):
    order = [5, 2, 0, 6, 1, 4, 3]
    vectors = text.encode([TEXTS[i] for i in order], MODEL, **options)
    assert vectors.dtype == np.float32
    assert one_by_one.std(axis=0).max() > 0.05, "the texts must differ for this test to tell rows apart"
    np.testing.assert_allclose(vectors, one_by_one[order], atol=1e-5)


def test_a_second_call_reads_the_cache(derived, loaded, monkeypatch):
    first = text.encode(TEXTS[:3], MODEL)
    assert [path.suffix for path in derived.iterdir()] == [".npy"]
    monkeypatch.setattr(text, "load_encoder", no_model)
    assert np.array_equal(text.encode(TEXTS[:3], MODEL), first)


def test_whatever_changes_the_vectors_changes_the_key(derived, loaded, tokenizer, monkeypatch):
    long = TEXTS[3]
    text.encode([long, "wool silk"], MODEL)
    monkeypatch.setattr(text, "load_encoder", no_model)
    others = [[long, "wool wool"], [long, "wool silk."], [long, "wool silk", ""], [long], ["wool silk", long]]
    others.append([long + " wool", "silk"])
    for texts in others:
        with pytest.raises(AssertionError, match="the model was loaded"):
            text.encode(texts, MODEL)
    with pytest.raises(AssertionError, match="the model was loaded"):
        text.encode([long, "wool silk"], MODEL, max_length=8)
    newer = dataclasses.replace(assets.ASSETS[MODEL], version="of another day")
    monkeypatch.setitem(assets.ASSETS, MODEL, newer)
    with pytest.raises(AssertionError, match="the model was loaded"):
        text.encode([long, "wool silk"], MODEL)


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def damage(path, how, tmp_path):
    content = path.read_bytes()
    if how == "pickle":
        np.save(path, np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(
            {"empty": b"", "header": content[:20], "half": content[:-400], "text": b"<html>no</html>"}[how]
        )


@pytest.mark.parametrize("how", ["empty", "header", "half", "text", "pickle"])
def test_a_damaged_cache_file_is_computed_anew_and_said_so(derived, loaded, monkeypatch, tmp_path, how):
    first = text.encode(TEXTS[:2], MODEL)
    (path,) = derived.iterdir()
    damage(path, how, tmp_path)
    with pytest.warns(UserWarning, match=f"{path.name} is damaged; its vectors are computed anew"):
        again = text.encode(TEXTS[:2], MODEL)
    assert np.array_equal(again, first)
    assert not (tmp_path / "sprung").exists()
    monkeypatch.setattr(text, "load_encoder", no_model)
    assert np.array_equal(text.encode(TEXTS[:2], MODEL), first), "the damaged file was not replaced"


def test_no_texts_are_no_vectors(derived, loaded):
    assert text.encode([], MODEL).shape == (0, 384)


def test_a_cache_that_cannot_be_written_is_said_and_texts_are_encoded(tmp_path, monkeypatch, loaded):
    kept = text.encode(["wool"], MODEL)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RECLAB_DERIVED", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"file cannot be written, .*; free some .*set RECLAB_DERIVED to"):
        assert np.array_equal(text.encode(["wool"], MODEL), kept)
