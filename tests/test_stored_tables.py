"""Stored tables: written whole, checked against their receipts, and shown with what the receipts say."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import measures

from reclab import receipts, results
from reclab.errors import ReclabError

COMMAND = "python tests/benchmarks/tables.py 02_toy"
STORED = results.expected_folder() / "published"
FRAME = pd.DataFrame(
    {
        "encoder": ["TF-IDF <1,2>", "MiniLM, mean of every token that is not padding, then logistic regression"],
        "auc": [0.9012345678901234, 0.1 + 0.2],
        "auc_low": [0.88, 0.25],
        "auc_high": [0.92, 0.35],
        "reviews": [2000, 1500],
        "parameters": [np.nan, 22713216.0],
        "seconds": [0.0123, 1234.5678],
        "rate": [5e-5, 1.0],
        "best": [True, False],
    }
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "expected_folder", lambda: tmp_path / "expected")
    return tmp_path / "expected" / "published"


def write(**changes):
    measures.store("02_toy", **{"frame": FRAME, "command": COMMAND, "seeds": range(3), "seconds": 61.26} | changes)


def refused(call, *words):
    with pytest.raises(ReclabError) as caught:
        call()
    message = str(caught.value)
    assert all(word in message for word in words) and "\n" not in message, message


# --- what is stored


def test_a_table_comes_back_as_it_was(folder):
    write()
    assert {path.name for path in folder.iterdir()} == {"02_toy.csv", "02_toy.json"}
    pd.testing.assert_frame_equal(results.table("02_toy").frame, FRAME, rtol=1e-14)


def test_the_words_na_and_none_stay_words():
    write(frame=pd.DataFrame({"encoder": ["NA", "None", "none"], "auc": [0.5, np.nan, 0.7]}))
    assert list(results.table("02_toy").frame["encoder"]) == ["NA", "None", "none"]


def test_the_receipt_says_how_and_where(monkeypatch):
    monkeypatch.setattr(receipts, "machine", lambda: MACHINE)
    write(seeds=np.arange(3))
    receipt = results.table("02_toy").receipt
    assert (receipt["command"], receipt["seeds"], receipt["seconds"]) == (COMMAND, [0, 1, 2], 61.3)
    assert receipt["versions"] == receipts.versions() and receipt["source"] == receipts.source_hash()
    assert receipt["device"]["processor"] == "EPYC" and receipt["device"]["threads"] == 1
    assert "my-laptop" not in json.dumps(receipt)


MACHINE = {
    "platform": "Linux-6.1-my-laptop",
    "processor": "EPYC",
    "processors": 2,
    "cpu_capability": "AVX2",
    "threads": 1,
    "gpu": None,
}


def test_a_table_without_rows_is_refused(folder):
    refused(lambda: write(frame=FRAME.head(0)), "02_toy", COMMAND)
    assert not folder.exists()


# --- what is damaged


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_missing_file_names_the_command(folder, suffix):
    refused(lambda: results.table("02_toy"), "02_toy", f"`{COMMAND}`")
    write()
    (folder / f"02_toy.{suffix}").unlink()
    refused(lambda: results.table("02_toy"), f"02_toy.{suffix} is missing", f"`{COMMAND}`")


def test_a_table_edited_by_hand_is_refused_with_the_command_of_its_receipt(folder):
    write(command="python tests/benchmarks/other.py --seeds 3")
    path = folder / "02_toy.csv"
    path.write_bytes(path.read_bytes().replace(b"0.88", b"0.89"))
    refused(lambda: results.table("02_toy"), str(path), "`python tests/benchmarks/other.py --seeds 3`")


# --- what is shown


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(receipts, "machine", lambda: MACHINE)
    write()
    return results.table("02_toy")


@pytest.mark.parametrize(
    ("seeds", "said"),
    [([7], "with seed 7 in"), ([0, 2, 4], "with seeds 0, 2, 4 in"), ([], "with no seed in"), ([3, 4], "seeds 3 to 4")],
)
def test_the_caption_counts_seeds_and_names_the_gpu(seeds, said, monkeypatch):
    monkeypatch.setattr(receipts, "machine", lambda: MACHINE | {"gpu": "A GPU"})
    write(seeds=seeds)
    caption = results.table("02_toy").caption
    assert said in caption and " on A GPU; " in caption


def test_the_caption_says_how_it_was_made_and_numbers_are_rounded_for_reading(shown):
    found, words = receipts.versions(), shown.words
    assert shown.caption.startswith(f"Made by `{COMMAND}` with seeds 0 to 2 in 61 s on EPYC, 1 thread; reclab ")
    assert f"torch {found['torch']}, transformers {found['transformers']}" in shown.caption
    assert list(words) == ["encoder", "auc", "reviews", "parameters", "seconds", "rate", "best"]
    assert list(words["auc"]) == ["0.901 [0.880, 0.920]", "0.300 [0.250, 0.350]"]
    assert list(words["reviews"]) == ["2,000", "1,500"]
    assert list(words["parameters"]) == ["–", "22,713,216"]
    assert list(words["seconds"]) == ["0.012", "1,235"]
    assert list(words["rate"]) == ["5e-05", "1.00"]
    assert list(words["best"]) == ["True", "False"]


def test_an_interval_keeps_its_signs_a_missing_one_is_a_dash_and_one_end_alone_a_column():
    frame = pd.DataFrame({"what": ["a", "b"], "d": [-0.012, np.nan], "d_low": [-0.031, np.nan], "d_high": [0.004, 1.0]})
    write(frame=frame.assign(price=1.5, price_low=0.5, very_high=2.25))
    words = results.table("02_toy").words
    assert list(words["d"]) == ["-0.012 [-0.031, 0.004]", "–"]
    assert list(words) == ["what", "d", "price", "price_low", "very_high"]


def test_html_has_a_caption_row_heads_and_no_tag_of_the_data(shown):
    said = shown._repr_html_()
    assert f"<caption>{shown.caption}</caption>" in said
    assert "<th>TF-IDF &lt;1,2&gt;</th>" in said and "<th>encoder</th>" in said
    assert FRAME["encoder"][1] in said, "a long text was cut"
    assert " id=" not in said and said == results.table("02_toy")._repr_html_()


def test_text_has_the_caption_and_no_html(shown):
    said = repr(shown)
    assert said.splitlines()[0] == shown.caption and "0.901 [0.880, 0.920]" in said
    assert "<table" not in said and FRAME["encoder"][1] in said


# --- what the project stores


@pytest.mark.parametrize("path", sorted(STORED.glob("*")), ids=lambda path: path.name)
def test_every_stored_file_belongs_to_a_whole_table(path, monkeypatch):
    monkeypatch.undo()
    assert path.suffix in {".csv", ".json"}
    found = results.table(path.stem)
    assert found.receipt["command"].startswith("python tests/benchmarks/")
    script = found.receipt["command"].split()[1]
    assert (STORED.parents[2] / script).is_file(), f"{script} is not there"
