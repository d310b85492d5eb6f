"""Mutated files: every loader reads them or refuses them in one line, in time, and writes to the cache alone."""

import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import fuzz_loaders
import raw_files

from reclab.errors import SchemaError


def test_mutated_files_are_read_or_refused(tmp_path):
    results = fuzz_loaders.fuzz(tmp_path / "fuzz", 400, start=7)
    assert sum(results.values()) >= 400
    assert min(results["read"], results["refused"]) > 40  # both happen, so the mutations reach beyond the first bytes


@pytest.mark.parametrize(("name", "content", "read"), fuzz_loaders.TARGETS, ids=[t[0] for t in fuzz_loaders.TARGETS])
def test_the_files_that_are_mutated_are_sound(name, content, read, tmp_path):
    whole = raw_files.zipped(content) if isinstance(content, dict) else content
    (tmp_path / name).write_bytes(whole)
    if name == "old.json":  # it is there to be told apart
        with pytest.raises(SchemaError, match="2014"):
            read(tmp_path / name, None)
    else:
        read(tmp_path / name, None)


def quiet(path, bad):
    """A loader that is content with anything."""


def case(tmp_path, read):
    (tmp_path / "cache").mkdir()
    return fuzz_loaders.read_one(tmp_path, "a.csv", b"x", read, False)


def test_the_harness_sees_a_stray_write(tmp_path):
    assert case(tmp_path, quiet) == "read"
    with pytest.raises(AssertionError, match="written outside the cache"):
        fuzz_loaders.read_one(tmp_path, "a.csv", b"x", lambda path, bad: (path.parent / "b").write_text("y"), False)


def test_the_harness_sees_a_changed_file_another_error_and_a_hang(tmp_path, monkeypatch):
    def crash(path, bad):
        raise KeyError("column")

    with pytest.raises(KeyError):
        case(tmp_path, crash)
    monkeypatch.setattr(fuzz_loaders, "LIMIT", 1)
    with pytest.raises(fuzz_loaders.Slow):
        fuzz_loaders.read_one(tmp_path, "a.csv", b"x", lambda path, bad: time.sleep(600), False)


def test_a_fault_in_a_loader_is_found(tmp_path, monkeypatch):
    """A loader that breaks on one kind of input, as a planted fault."""

    def fragile(path, bad):
        if b"NaN" in path.read_bytes():
            raise ZeroDivisionError

    monkeypatch.setattr(fuzz_loaders, "TARGETS", [("own.csv", raw_files.OWN, fragile)])
    with pytest.raises(ZeroDivisionError):
        fuzz_loaders.fuzz(tmp_path / "fuzz", 3000)
