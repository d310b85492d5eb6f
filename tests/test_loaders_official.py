"""The publishers' full-size files: what is known of them, and how they are fetched, checked and refused."""

import functools
import hashlib
import http.server
import re
import sys
import threading
from argparse import Namespace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import raw_files

from reclab import assets, catalogue
from reclab.catalogue import CATEGORIES, OFFICIAL
from reclab.data import amazon, movielens
from reclab.errors import AssetError, UnknownNameError

ZIP = raw_files.zipped(raw_files.MOVIELENS["ml-1m"], "ml-1m")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A publisher on this machine with MovieLens 1M (in small) and a category of Amazon; an empty cache."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "ml-1m.zip").write_bytes(ZIP)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("RECLAB_DATA", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache")
    served = f"http://127.0.0.1:{server.server_address[1]}"
    md5 = hashlib.md5(ZIP).hexdigest()
    change(monkeypatch, "movielens-1m", served, {"ml-1m.zip": catalogue.Member(md5=md5)})
    change(monkeypatch, "amazon-2023-All_Beauty", served)
    yield folder
    server.shutdown()
    server.server_close()


def change(monkeypatch, name, url, members=None):
    from dataclasses import replace

    members = members or OFFICIAL[name].members
    monkeypatch.setitem(OFFICIAL, name, replace(OFFICIAL[name], url=url, members=members))


def refused(name: str) -> str:
    with pytest.raises(AssetError) as caught:
        assets.fetch(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_fetched_once_and_read(served, tmp_path):
    path = assets.fetch("movielens-1m")["ml-1m.zip"]
    assert path == tmp_path / "cache" / "assets" / "movielens-1m" / "ml-1m.zip"
    assert sum(map(len, movielens.ratings(path))) == 3
    (served / "ml-1m.zip").unlink()
    assert assets.fetch("movielens-1m")["ml-1m.zip"].read_bytes() == ZIP
    assert assets.verify() == [("movielens-1m", "ml-1m.zip", True, "")]


def test_a_file_of_another_md5_is_refused(served, tmp_path):
    (served / "ml-1m.zip").write_bytes(ZIP + b"x")
    said = refused("movielens-1m")
    assert f"the publisher's is {hashlib.md5(ZIP).hexdigest()}" in said
    assert "By hand: download ml-1m.zip from https://grouplens.org/datasets/movielens/1m/ and put" in said
    assert not (tmp_path / "cache" / "assets" / "movielens-1m" / "ml-1m.zip").exists()


def test_a_file_put_there_by_hand_is_taken_or_named(served, tmp_path):
    folder = tmp_path / "cache" / "assets" / "movielens-1m"
    folder.mkdir(parents=True)
    (folder / "ml-1m.zip").write_bytes(ZIP)
    (served / "ml-1m.zip").unlink()
    assert assets.fetch("movielens-1m")["ml-1m.zip"].read_bytes() == ZIP
    (folder / "ml-1m.zip").write_bytes(ZIP[:-1])
    assert [row[2] for row in assets.verify(["movielens-1m"])] == [False]


@pytest.mark.parametrize("content", [b"<!doctype html>", b"404: Not Found", b"<?xml version='1.0'?><Error/>"])
def test_a_page_in_place_of_the_file_is_refused(served, content):
    (served / "ml-1m.zip").write_bytes(content)
    assert "in place of the file" in refused("movielens-1m")


def test_without_network_it_says_what_to_do_by_hand(served, monkeypatch):
    (served / "ml-1m.zip").unlink()
    assert "answered 404 for ml-1m.zip" in refused("movielens-1m")
    change(monkeypatch, "movielens-1m", "http://127.0.0.1:9")
    assert "cannot be reached for ml-1m.zip" in refused("movielens-1m")


def test_where_no_checksum_is_published_the_first_fetch_counts(served, tmp_path):
    for path, rows in (
        ("review_categories/All_Beauty.jsonl.gz", raw_files.reviews_2023(5)),
        ("meta_categories/meta_All_Beauty.jsonl.gz", raw_files.ITEMS_2023),
    ):
        (served / path).parent.mkdir()
        (served / path).write_bytes(raw_files.lines(rows))
    files = assets.fetch("amazon-2023-All_Beauty")
    assert sum(map(len, amazon.reviews(files["reviews.gz"]))) == 5
    assert sum(map(len, amazon.items(files["items.gz"]))) == 3
    (served / "review_categories/All_Beauty.jsonl.gz").write_bytes(raw_files.lines(raw_files.reviews_2023(6)))
    files["reviews.gz"].unlink()
    assert "reviews.gz has changed since its first fetch; to accept it, delete" in refused("amazon-2023-All_Beauty")


def test_the_list_knows_those_that_are_here_and_those_asked_for(served, capsys):
    assert "movielens-1m" not in {row["name"] for row in assets.listing()}
    assets.fetch("movielens-1m")
    assert {row["name"]: row["status"] for row in assets.listing()}["movielens-1m"] == "cached"
    assert assets.command(Namespace(action="list", names=["mind-small"])) == 0
    assert "mind-small         missing     size ?  MIND, small: " in capsys.readouterr().out


def test_mind_is_to_be_fetched_by_hand(served, tmp_path):
    said = refused("mind-small")
    assert "its publisher asks you to accept terms first" in said
    assert "download MINDsmall_train.zip, MINDsmall_dev.zip from https://msnews.github.io/ and put them into" in said


def test_names_that_are_none():
    with pytest.raises(UnknownNameError, match=r"no asset named 'movielens-99m'.*movielens-25m"):
        assets.fetch("movielens-99m")
    with pytest.raises(UnknownNameError, match=r"no category named 'amazon-2018-Beauty'.*amazon-2018-5core-All_Beauty"):
        assets.fetch("amazon-2018-Beauty")


@pytest.mark.parametrize("name", OFFICIAL)
def test_what_is_known_of_a_file_is_whole(name):
    asset = OFFICIAL[name]
    assert asset.title and asset.licence
    assert asset.source.startswith("https://")
    assert not asset.url or re.fullmatch(r"https://[\w./-]+[\w]", asset.url)
    assert all(not member.md5 or re.fullmatch("[0-9a-f]{32}", member.md5) for member in asset.members.values())
    assert name not in assets.ASSETS


def test_addresses_of_amazon():
    new, old, core = (OFFICIAL[f"amazon-{edition}-Video_Games"].members for edition in ("2023", "2018", "2018-5core"))
    assert new["reviews.gz"].path == "review_categories/Video_Games.jsonl.gz"
    assert old["items.gz"].path == core["items.gz"].path == "metaFiles2/meta_Video_Games.json.gz"
    assert (old["reviews.gz"].path, core["reviews.gz"].path) == (
        "categoryFiles/Video_Games.json.gz",
        "categoryFilesSmall/Video_Games_5.json.gz",
    )
    assert (len(CATEGORIES[2018]), len(CATEGORIES[2023])) == (29, 34)
