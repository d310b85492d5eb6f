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


def test_a_named_index_becomes_the_first_column():
    write(frame=FRAME.set_index("encoder"))
    assert list(results.table("02_toy").frame) == list(FRAME)


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


def test_a_table_without_rows_or_with_another_name_is_refused(folder):
    refused(lambda: write(frame=FRAME.head(0)), "02_toy", COMMAND)
    for name in ("../02_toy", "toy", "02_toy.csv", "02"):
        refused(lambda name=name: measures.store(name, FRAME, command=COMMAND, seeds=[0], seconds=1), repr(name))
        refused(lambda name=name: results.table(name), repr(name))
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


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"sha256": "0"}'])
def test_a_damaged_receipt_names_the_command(folder, content):
    write()
    (folder / "02_toy.json").write_text(content, "utf-8")
    refused(lambda: results.table("02_toy"), "02_toy.json is damaged", f"`{COMMAND}`")


# --- what is shown


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(receipts, "machine", lambda: MACHINE)
    write()
    return results.table("02_toy")


def test_the_caption_says_command_seeds_time_device_and_versions(shown):
    found = receipts.versions()
    assert shown.caption.startswith(f"Made by `{COMMAND}` with seeds 0 to 2 in 61 s on EPYC, 1 thread; reclab ")
    assert f"torch {found['torch']}, transformers {found['transformers']}" in shown.caption


def test_a_missing_library_does_not_lose_a_receipt(monkeypatch):
    monkeypatch.setattr(receipts, "LIBRARIES", ("numpy", "no-such-library"))
    assert receipts.versions()["no-such-library"] == "not installed"


@pytest.mark.parametrize(
    ("seeds", "said"),
    [([7], "with seed 7 in"), ([0, 2, 4], "with seeds 0, 2, 4 in"), ([], "with no seed in"), ([3, 4], "seeds 3 to 4")],
)
def test_the_caption_counts_seeds(seeds, said):
    write(seeds=seeds)
    assert said in results.table("02_toy").caption


def test_the_caption_names_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(receipts, "machine", lambda: MACHINE | {"gpu": "A GPU"})
    write()
    assert " on A GPU; " in results.table("02_toy").caption


def test_numbers_are_rounded_for_reading(shown):
    words = shown.words
    assert list(words) == ["encoder", "auc", "reviews", "parameters", "seconds", "rate", "best"]
    assert list(words["auc"]) == ["0.901 [0.880, 0.920]", "0.300 [0.250, 0.350]"]
    assert list(words["reviews"]) == ["2,000", "1,500"]
    assert list(words["parameters"]) == ["–", "22,713,216"]
    assert list(words["seconds"]) == ["0.012", "1,235"]
    assert list(words["rate"]) == ["5e-05", "1.00"]
    assert list(words["best"]) == ["True", "False"]


def test_an_interval_across_zero_keeps_its_signs_and_a_missing_one_is_a_dash():
    frame = pd.DataFrame({"what": ["a", "b"], "d": [-0.012, np.nan], "d_low": [-0.031, np.nan], "d_high": [0.004, 1.0]})
    write(frame=frame)
    assert list(results.table("02_toy").words["d"]) == ["-0.012 [-0.031, 0.004]", "–"]


def test_one_end_alone_is_a_column_of_its_own():
    write(frame=pd.DataFrame({"what": ["a"], "price": [1.5], "price_low": [0.5], "very_high": [2.25]}))
    assert list(results.table("02_toy").words) == ["what", "price", "price_low", "very_high"]


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
