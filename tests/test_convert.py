"""A GGUF model becomes one that transformers loads: once, whole, and with the same numbers."""

import os

import numpy as np
import pytest
import torch
from gguf import GGUFWriter, LlamaFileType, TokenType

from reclab import assets, catalogue, convert, text
from reclab.errors import ReclabError

SMALL = "smollm2-135m-instruct"
WIDTH, HEADS, LAYERS, INNER = 16, 2, 2, 32
TEXTS = ["Soft wool, and it fits.", "", "ok", "Too small 😀👗!", "The colour is nothing like the picture. " * 9]


def pieces() -> list[str]:
    """Three special tokens, one for each byte as GPT-2 writes them, and one word."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [256 + n for n in range(256 - len(printable))]
    return ["<unk>", "<start>", "<end>", *map(chr, printable + others), "ok"]


def write_gguf(path, seed=0):
    """A Llama of random weights, small enough to write in a moment; returns its tensors by name."""
    tokens, rng = pieces(), np.random.default_rng(seed)
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * 257)
    writer.add_token_merges(["o k"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    shapes = {"token_embd": (len(tokens), WIDTH), "output_norm": (WIDTH,)}
    for layer in range(LAYERS):
        names = {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH)}
        names |= {"attn_output": (WIDTH, WIDTH), "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}
        names |= {"ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in names.items()}
    tensors = {f"{name}.weight": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A model asset that holds a GGUF file only; returns its tensors and the folder of the derived cache."""
    folder = tmp_path_factory.mktemp("toy")
    tensors = write_gguf(folder / "toy.gguf")
    asset = catalogue.Asset(
        name="toy",
        title="Toy",
        licence="CC0 1.0",
        source="https://example.org",
        redistributable=True,
        members={"toy.gguf": catalogue.Member(sha256="ab" * 32)},
        version="1",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(assets.ASSETS, "toy", asset)
        patch.setattr(assets, "fetch", lambda name: {"toy.gguf": folder / "toy.gguf"})
        patch.setenv("RECLAB_DERIVED", str(folder / "derived"))
        left = folder / "derived" / f"toy-{'ab' * 8}.part"  # by a process that was killed
        left.mkdir(parents=True)
        (left / "half of a shard").write_text("half")
        text.load_encoder("toy")
        yield tensors, folder / "derived"


def encoded_alone(model: str) -> np.ndarray:
    """Each text alone through the model, never padded."""
    tokenizer, encoder = text.load_tokenizer(model), text.load_encoder(model)
    with torch.inference_mode():
        hidden = [encoder(torch.tensor([ids])).last_hidden_state[0] for ids in text.tokenise(TEXTS, tokenizer)]
    return np.array([one.numpy().mean(0) for one in hidden])


# First, because the toy below stands in for every asset until the module is done.
@pytest.mark.skipif(
    os.environ.get("CI") != "true" and not (assets.assets_folder() / SMALL).is_dir(),
    reason=f"`reclab data fetch {SMALL}` (93 MB) makes this test run",
)
def test_the_real_one_agrees_with_itself_and_knows_likeness():
    vectors = text.encode(TEXTS, SMALL)
    alone = encoded_alone(SMALL)
    np.testing.assert_allclose(vectors, alone, atol=2e-4)  # components reach thirty
    one, other, far = text.encode(["The dress is lovely.", "A beautiful gown!", "def f(x): return x + 1"], SMALL)
    assert np.linalg.norm(one - other) < np.linalg.norm(one - far)


def test_the_weights_are_those_of_the_file(toy):
    encoder = text.load_encoder("toy")
    assert encoder.dtype == torch.float32 and not encoder.training
    weights = encoder.state_dict()
    # llama.cpp interleaves the rows of queries and keys; the others stand as they are.
    pairs = {"embed_tokens": "token_embd", "norm": "output_norm", "layers.1.mlp.down_proj": "blk.1.ffn_down"}
    for ours, theirs in pairs.items():
        np.testing.assert_array_equal(weights[f"{ours}.weight"], toy[0][f"{theirs}.weight"])


def test_it_is_converted_once_and_in_silence(toy, monkeypatch, capfd):
    (folder,) = (path for path in toy[1].iterdir() if path.is_dir())
    assert folder.name == "toy-" + "ab" * 8
    assert not list(toy[1].glob("*.part"))

    def again(*args, **kwargs):
        raise AssertionError("converted again")

    monkeypatch.setattr(convert.subprocess, "run", again)
    text.load_encoder("toy")
    assert capfd.readouterr() == ("", "")


def test_texts_of_a_decoder_are_encoded_alike_alone_and_in_a_padded_batch(toy):
    vectors = text.encode(TEXTS, "toy")
    assert vectors.shape == (len(TEXTS), WIDTH) and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, encoded_alone("toy"), atol=1e-5)
    assert len(np.unique(vectors, axis=0)) == len(TEXTS)


def test_an_empty_text_is_one_special_token_for_a_decoder(toy):
    tokenizer = text.load_tokenizer("toy")
    assert text.tokenise(["", "ok"], tokenizer) == [[2], [tokenizer.convert_tokens_to_ids("ok")]]


def test_what_a_killed_process_left_is_cleared_away(toy):
    (folder,) = (path for path in toy[1].iterdir() if path.is_dir())
    assert folder.suffix != ".part" and not (folder / "half of a shard").exists()


def test_a_file_that_is_no_gguf_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RECLAB_DERIVED", str(tmp_path / "derived"))
    (tmp_path / "toy.gguf").write_text("<html>")
    with pytest.raises(ReclabError) as caught:
        convert.converted(tmp_path / "toy.gguf", "d" * 64)
    message = str(caught.value)
    assert message.startswith(f"cannot convert {tmp_path / 'toy.gguf'} (") and "\n" not in message
    assert not [path for path in (tmp_path / "derived").iterdir() if path.suffix != ".lock"]
