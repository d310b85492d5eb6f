"""Mutated files for every loader of full-size data: each must be read, or refused by a `ReclabError`.

An input is one of the small files in the public formats, changed in up to four places, and maybe packed or packed and
then changed. A run also fails where a loader takes longer than its limit, or writes anything outside the cache.
"""

from __future__ import annotations

import gzip
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import raw_files
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from reclab import data
from reclab.data import amazon, mind, movielens
from reclab.errors import ReclabError

LIMIT = 20  # seconds of the clock for one input, on a machine that may be busy

TOKENS = [
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n", b'"', b'""', b"\\", b"\\ud800", b"\\u0000", b"&#xD800;"),
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"9" * 30, b"9" * 5000, b"1e18", b"1_0", b"0x1", b"-1"),
    *(b"null", b"true", b"{}", b"[]", b"[" * 3000, b'{"a":' * 3000, b"{", b"}", b"[", b"]", b",", b":", b"::", b"|"),
    *(b"\t", b"<!doctype html>", b"version https://git-lfs", b"404", b"<", b"<br", b"&amp;", b"../../x", b"-1-0"),
    *(b"\xe2\x80\xa8", b"\xed\xa0\x80", b"2019-13-45", b"99999-01-01 00:00:00", b"13/13/2019 9:05:58 AM"),
    *(b"PK", b"\x1f\x8b"),
]


def _reviews(path: Path, bad: Counter | None) -> None:
    data.to_parquet(amazon.reviews(path, bad=bad), path.parent / "cache" / "parts", parts=3)


def _all(*loaders: Callable) -> Callable:
    def read(path: Path, bad: Counter | None) -> None:
        for loader in loaders:
            for _ in loader(path, bad=bad):
                pass

    return read


def _movielens(path: Path, bad: Counter | None) -> None:
    movielens.items(path)
    for loader in (movielens.ratings, movielens.tags):
        for _ in loader(path, bad=bad):
            pass


def _people(path: Path, bad: Counter | None) -> None:
    movielens.users(path)
    _all(movielens.ratings)(path, bad)


def _own(path: Path, bad: Counter | None) -> None:
    for _ in data.stream_csv(path):
        pass


def _own_whole(path: Path, bad: Counter | None) -> None:
    data.load_csv(path)


_LATEST, _OLD, _1M = (raw_files.MOVIELENS[size] for size in ("ml-latest-small", "ml-100k", "ml-1m"))
# name of the file, its content or the members of a zip file, the reader
TARGETS: list[tuple[str, bytes | dict[str, bytes], Callable]] = [
    ("reviews.jsonl", raw_files.lines(raw_files.reviews_2023(6)), _reviews),
    ("reviews.json", raw_files.lines(raw_files.REVIEWS_2018), _reviews),
    ("items.jsonl", raw_files.lines(raw_files.ITEMS_2023), _all(amazon.items)),
    ("items.json", raw_files.lines(raw_files.ITEMS_2018), _all(amazon.items)),
    ("old.json", raw_files.OLD_ITEM * 2, _all(amazon.items)),
    ("latest.zip", _LATEST, _movielens),
    ("100k.zip", _OLD, _people),
    ("1m.zip", _1M, _people),
    ("ratings.dat", _1M["ratings.dat"], _all(movielens.ratings)),
    ("ratings.csv", _LATEST["ratings.csv"], _all(movielens.ratings)),
    ("mind.zip", raw_files.MIND, _all(mind.news, mind.impressions)),
    ("behaviors.tsv", raw_files.MIND_TEST["behaviors.tsv"], _all(mind.impressions)),
    ("log.csv", raw_files.OPEN_BANDIT, _all(data.open_bandit_log)),
    ("obd.zip", {"random/all/all.csv": raw_files.OPEN_BANDIT}, _all(data.open_bandit_log)),
    ("own.csv", raw_files.OWN, _own),
    ("own.csv", raw_files.OWN, _own_whole),
    ("own.parquet", raw_files.own_parquet(), _own),
    ("own.parquet", raw_files.own_parquet(), _own_whole),
]

change = st.tuples(
    st.sampled_from(["flip", "delete", "repeat", "insert", "replace", "cut", "swap"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 200),
    st.sampled_from(TOKENS),
)


def mutated(content: bytes, changes: list[tuple]) -> bytes:
    """The content after some changes: (what, where as a share of the length, how many bytes, a token)."""
    for what, where, length, token in changes:
        at = int(where * len(content))
        before, here, after = content[:at], content[at : at + length], content[at + length :]
        match what:
            case "flip":
                content = before + bytes(byte ^ (1 << length % 8) for byte in here[:1]) + content[at + 1 :]
            case "delete":
                content = before + after
            case "repeat":
                content = before + here * 3 + after
            case "insert":
                content = before + token + content[at:]
            case "replace":
                content = before + token + after
            case "cut":
                content = before
            case "swap":
                content = content[at:] + before
    return content


@st.composite
def inputs(draw) -> tuple[str, bytes, Callable, bool]:
    """A file's name and content, its reader, and whether bad rows are to be counted."""
    name, content, read = draw(st.sampled_from(TARGETS))
    changes = draw(st.lists(change, min_size=1, max_size=4))
    inside = draw(st.sampled_from([True, True, True, False]))  # before it is packed, or after
    if isinstance(content, dict):
        member = draw(st.sampled_from(sorted(content)))
        text = mutated(content[member], changes) if inside else content[member]
        packed = raw_files.zipped({**content, member: text}, draw(st.sampled_from(["", "folder"])))
        content = packed if inside else mutated(packed, changes)
    elif name.endswith("parquet") or draw(st.booleans()):
        content = mutated(content, changes)
    else:
        packed = gzip.compress(mutated(content, changes) if inside else content, mtime=0)
        content = packed if inside else mutated(packed, changes)
    return name, content, read, draw(st.booleans())


class Slow(BaseException):
    """A loader took longer than its limit; no Exception, so that no loader can catch it."""


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise `Slow` after so many seconds of the clock, where the system has such an alarm."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_):
        raise Slow(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Writes:
    """Every path that Python opens for writing, makes, renames or removes, while it is watched."""

    def __init__(self):
        self.paths, self.watching = [], False
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple) -> None:
        if not self.watching:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.paths.append(os.fsdecode(path))
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"):
            self.paths += [os.fsdecode(part) for part in arguments[:2] if isinstance(part, str | os.PathLike)]


_WRITES: list[Writes] = []  # a hook cannot be taken away again, so there is one


def outside(paths: list[str], cache: Path) -> list[str]:
    """Those of the paths that do not lie in the cache."""
    return [path for path in paths if not Path(path).absolute().is_relative_to(cache)]


def read_one(folder: Path, name: str, content: bytes, read: Callable, count: bool) -> str:
    """Read one input: "read", or "refused"; raises what no loader may raise.

    Raises
    ------
    AssertionError : something was written outside the cache, or the message has several lines.
    """
    for old in (folder / "cache").rglob("*.parquet"):
        old.unlink()
    for part in (folder / "cache").iterdir():
        part.rmdir()
    (folder / name).write_bytes(content)
    if not _WRITES:
        _WRITES.append(Writes())
    writes = _WRITES[0]
    writes.paths, writes.watching, before = [], True, sorted(os.listdir(folder))
    try:
        with limited(LIMIT), warnings.catch_warnings(action="ignore"):
            read(folder / name, Counter() if count else None)
        result = "read"
    except ReclabError as error:
        assert "\n" not in str(error), f"a message of several lines: {error}"
        result = "refused"
    finally:
        writes.watching = False
    strays = outside(writes.paths, folder / "cache")
    assert not strays, f"{name}: written outside the cache: {strays[:3]}"
    assert sorted(os.listdir(folder)) == before, f"{name}: files beside the cache: {sorted(os.listdir(folder))}"
    assert (folder / name).read_bytes() == content, f"{name} was changed"
    (folder / name).unlink()
    return result


def fuzz(folder: Path, examples: int, start: int = 0) -> Counter:
    """Read that many mutated inputs; returns how many were read and how many refused.

    Parameters
    ----------
    folder : an empty one.
    start : seed of the inputs.

    Raises
    ------
    Whatever a loader raises that is no `ReclabError`, with the smallest input that hypothesis finds for it.
    """
    (folder / "cache").mkdir(parents=True)
    results = Counter()

    @seed(start)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(inputs())
    def run(case):
        results[read_one(folder, *case)] += 1

    run()
    return results
