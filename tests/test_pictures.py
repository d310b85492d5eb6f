"""Pictures that are read are whole, absent or refused."""

import numpy as np
import pytest
from PIL import Image

from reclab import data
from reclab.errors import AssetError, SchemaError


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
    pictures, _ = data.load_pictures(tmp_path, ["a"])
    assert (pictures == want).all()


def test_a_turned_photograph_is_set_upright(tmp_path):
    left_dark = np.full((32, 32, 3), 255, np.uint8)
    left_dark[:, :16] = 0
    picture = Image.fromarray(left_dark)
    exif = picture.getexif()
    exif[274] = 6  # the camera lay on its side: turn right by a quarter
    picture.save(tmp_path / "a.png", exif=exif)
    pictures, _ = data.load_pictures(tmp_path, ["a"])
    assert (pictures[0, :16] == 0).all() and (pictures[0, 16:] == 255).all()


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"\x89PNG\r\n\x1a\n half", b"GIF89a"])
def test_a_file_that_is_no_picture_is_refused_or_absent(tmp_path, content):
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(AssetError, match=r"b\.png is no picture; replace or remove it"):
        data.load_pictures(tmp_path, ["a", "b"])
    pictures, present = data.load_pictures(tmp_path, ["a", "b"], broken="absent")
    assert present.tolist() == [True, False] and not pictures[1].any()


def test_a_picture_cut_off_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for ending in ("png", "jpg"):
        Image.fromarray(noise).save(tmp_path / f"a.{ending}")
        whole = (tmp_path / f"a.{ending}").read_bytes()
        (tmp_path / f"a.{ending}").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(AssetError, match="is no picture"):
            data.load_pictures(tmp_path, ["a"])
        (tmp_path / f"a.{ending}").unlink()


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
