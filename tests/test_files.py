"""Files as others write them: read where they lie, or refused by the name of what is wrong."""

import bz2
import codecs
import gzip
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import raw_files

from reclab import data
from reclab.data import files, full
from reclab.errors import AssetError, SchemaError

RATINGS = b"userId,movieId,rating,timestamp\n1,1,4,5\n"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(content: bytes, name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read(source, member="") -> bytes:
    with files.opened(source, member) as stream:
        return stream.read()


# Opened


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.bz2", "a.zip", "folder"])
def test_a_file_is_read_where_it_lies(name, tmp_path):
    if name == "folder":
        write(b"1,2\n", "folder/deep/a.csv")
    else:
        content = {
            "a.csv": b"1,2\n",
            "a.csv.gz": gzip.compress(b"1,2\n"),
            "a.csv.bz2": bz2.compress(b"1,2\n"),
            "a.zip": raw_files.zipped({"x/a.csv": b"1,2\n"}),
        }
        write(content[name], name)
    before = sorted(tmp_path.rglob("*"))
    assert read(name) == b"1,2\n"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_of_several_files_one_is_found_by_its_name(kind):
    held = {"a/one.csv": b"1", "a/b/one.csv": b"2", "two.csv": b"3", "__MACOSX/two.csv": b"4"}
    if kind == "zip":
        source = write(raw_files.zipped(held), "all.zip")
    else:
        source = Path("all")
        for name, content in list(held.items())[:3]:
            write(content, f"all/{name}")
    assert files.members(source) == ["two.csv", "a/one.csv", "a/b/one.csv"]
    assert [read(source, name) for name in files.members(source)] == [b"3", b"1", b"2"]
    with pytest.raises(AssetError, match=r"holds 3 files: two\.csv, a/one\.csv, a/b/one\.csv; give one of them"):
        read(source)


PAGE, POINTER = b"<!DOCTYPE html><html>Sign in</html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
LOADERS = [
    *(full.amazon_reviews, full.amazon_items, full.movielens_ratings, full.mind_news, full.mind_impressions),
    *(full.open_bandit_log, data.load_csv, lambda path: [full.movielens_items(path)]),
]
NAMES = dict.fromkeys(LOADERS, "ratings.csv") | {LOADERS[-1]: "movies.csv"}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (codecs.BOM_UTF8 + b"\n " + PAGE.lower(), "an HTML page"),
        (POINTER, "a Git-LFS pointer"),
        (b"404: Not Found", "a server's error message"),
        (b'<?xml version="1.0"?><Error><Code>PublicAccessNotPermitted</Code></Error>', "a server's error message"),
        (b"", "is empty"),
    ],
)
@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_a_stand_in_is_refused_by_name(loader, content, fault, wrap):
    with pytest.raises(AssetError, match=fault):
        list(loader(write(wrap(content), NAMES[loader])))


@pytest.mark.parametrize("loader", LOADERS)
def test_a_missing_file_is_one_line(loader):
    with pytest.raises(AssetError, match="there is no file"):
        list(loader(Path("nowhere.zip")))


def test_ids_that_look_like_an_error_message_are_data():
    log = data.load_csv(write(b"user_id,item_id,positive\n404,404,1\n", "log.csv")).interactions
    assert log["user_id"].tolist() == ["404"]
    assert len(pd.concat(full.movielens_ratings(write(b"404\t403\t3\t881250949\n", "u.data")))) == 1


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off_says_so(keep):
    content = gzip.compress(raw_files.lines(raw_files.reviews_2023(400)))
    path = write(content[: int(len(content) * keep)], "r.jsonl.gz")
    with pytest.raises(AssetError, match=r"r\.jsonl\.gz is cut off or damaged: .*; fetch it anew"):
        list(full.amazon_reviews(path, bad=Counter()))


def test_a_damaged_or_locked_zip_file_says_so():
    content = bytearray(raw_files.zipped({"ratings.csv": RATINGS}))
    with zipfile.ZipFile(write(bytes(content), "whole.zip")) as archive:
        start = archive.start_dir
    locked = bytearray(content)
    locked[6] |= 1  # the flag in the file's own header, and in the directory
    locked[start + 8] |= 1
    with pytest.raises(SchemaError, match=r"locked\.zip cannot be read: File 'ratings\.csv' is encrypted"):
        list(full.movielens_ratings(write(bytes(locked), "locked.zip")))
    content[50] ^= 255
    for damaged in (content, content[:40]):
        with pytest.raises(AssetError, match=r"b\.zip is cut off or damaged"):
            list(full.movielens_ratings(write(bytes(damaged), "b.zip")))


def test_blocks_are_whole_lines_of_bounded_length(monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 5)
    monkeypatch.setattr(files, "LONGEST", 1 << 10)
    with files.opened(write(b"a\nbb\n\ncccccccccccc\nd", "a.txt")) as stream:
        assert list(files.blocks(stream, "a.txt")) == [[b"a\n", b"bb\n"], [b"\n", b"cccccccccccc\n"], [b"d"]]
    with pytest.raises(SchemaError, match="a line is longer than 0 MiB; is this a file of lines"):
        list(full.amazon_reviews(write(gzip.compress(b"a" * (1 << 20)), "bomb.gz")))


# Pictures


def save(path, colour=(200, 10, 10), size=(32, 32), mode="RGB", **options):
    Image.new(mode, size, colour).save(path, **options)


def test_photographs_are_cut_to_a_square_and_scaled(tmp_path):
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = (0, 200, 0)
    Image.fromarray(wide).save(tmp_path / "a.png")
    save(tmp_path / "b.JPG", (250, 250, 250), size=(300, 200))
    (tmp_path / "notes.txt").write_text("not for us")
    pictures, present = data.load_pictures(tmp_path, ["b", "c", "a"], size=16)
    assert pictures.shape == (3, 16, 16, 3) and pictures.dtype == np.uint8
    assert present.tolist() == [True, False, True]
    assert (pictures[2][:, 2:-2] == (0, 200, 0)).all() and not pictures[1].any() and (pictures[0] == 250).all()


@pytest.mark.parametrize(("mode", "colour", "want"), [("L", 90, 90), ("RGBA", (9, 9, 9, 255), 9), ("1", 1, 255)])
def test_every_mode_becomes_three_colours(tmp_path, mode, colour, want):
    save(tmp_path / "a.png", colour, mode=mode)
    assert (data.load_pictures(tmp_path, ["a"])[0] == want).all()


def test_a_turned_photograph_is_set_upright(tmp_path):
    left_dark = np.full((32, 32, 3), 255, np.uint8)
    left_dark[:, :16] = 0
    picture = Image.fromarray(left_dark)
    exif = picture.getexif()
    exif[274] = 6  # the camera lay on its side: turn right by a quarter
    picture.save(tmp_path / "a.png", exif=exif)
    pictures, _ = data.load_pictures(tmp_path, ["a"])
    assert (pictures[0, :16] == 0).all() and (pictures[0, 16:] == 255).all()


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"\x89PNG\r\n\x1a\n half", b"GIF89a", "a.png", "a.jpg"])
def test_a_file_that_is_no_picture_or_cut_off_is_refused_or_absent(tmp_path, content):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("a.png", "a.jpg"):
        Image.fromarray(noise).save(tmp_path / name)
    if isinstance(content, str):
        content = (tmp_path / content).read_bytes()
        content = content[: len(content) // 2]
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(AssetError, match=r"b\.png is no picture; replace or remove it"):
        data.load_pictures(tmp_path, ["a", "b"])
    pictures, present = data.load_pictures(tmp_path, ["a", "b"], broken="absent")
    assert present.tolist() == [True, False] and not pictures[1].any()


def test_bad_calls(tmp_path):
    with pytest.raises(AssetError, match="there is no folder"):
        data.load_pictures(tmp_path / "none", ["a"])
    with pytest.raises(AssetError, match="has no picture of any of the 1 items"):
        data.load_pictures(tmp_path, ["a"])
    save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="size must be 1 or more"):
        data.load_pictures(tmp_path, ["a"], size=0)
    with pytest.raises(ValueError, match="broken 'refuse' or 'absent'"):
        data.load_pictures(tmp_path, ["a"], broken="ignore")
    save(tmp_path / "a.jpg")
    with pytest.raises(SchemaError, match=r"item 'a' has two pictures, a\.jpg and a\.png"):
        data.load_pictures(tmp_path, ["a"])
