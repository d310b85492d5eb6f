"""The figure helper: its look, its alt text, the same bytes each time; explorers that follow their controls."""

import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from reclab import plots
from reclab.profiles import get_profile
from reclab.run import run_afresh
from small_notebooks import write

ALT = "A line that rises from one to three."


@pytest.fixture(autouse=True)
def _no_figure_left():
    plt.close("all")
    yield
    plt.close("all")


def line(**options):
    fig, ax = plots.figure(title="A line rises", **options)
    ax.plot([1, 2, 3], label="line")
    ax.set(xlabel="day", ylabel="likes")
    ax.legend()
    return fig, ax


def pixels(picture):
    return plt.imread(io.BytesIO(picture.png), format="png")


def test_alt_stands_in_the_text_and_in_the_metadata():
    picture = plots.show(line()[0], ALT)
    bundle, metadata = picture._repr_mimebundle_()
    assert bundle == {"image/png": picture.png, "text/plain": f"Figure: {ALT}"}
    assert metadata == {"image/png": {"alt": ALT}}
    assert repr(picture) == f"Figure: {ALT}"


@pytest.mark.parametrize("alt", ["", "   ", "A figure.", "one two three four"])
def test_an_alt_text_that_says_nothing_is_refused(alt):
    with pytest.raises(ValueError, match="alt must say in a sentence what the figure shows") as refused:
        plots.show(line()[0], alt)
    assert repr(alt) in str(refused.value)
    assert plots.show(line()[0], "one two three four five").alt == "one two three four five"


def test_picture_is_a_png_of_seven_inches_that_is_not_blank_and_not_drawn_twice():
    picture = plots.show(line(height=2.0)[0], ALT)
    assert not plt.get_fignums()
    assert picture.png.startswith(b"\x89PNG\r\n\x1a\n")
    image = pixels(picture)
    assert image.shape[:2] == (220, 770)  # 2 and 7 inches of 110 dots
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 10


def test_the_same_figure_is_the_same_bytes_whatever_the_user_has_set():
    first = plots.show(line()[0], ALT).png
    with plt.rc_context({"figure.dpi": 50, "axes.grid": False, "axes.spines.top": True, "legend.frameon": True}):
        assert plots.show(line()[0], ALT).png == first
    assert matplotlib.__version__.encode() not in first


def test_figure_has_the_house_style_and_leaves_the_user_s_own_alone():
    before = dict(matplotlib.rcParams)
    fig, ax = line()
    assert dict(matplotlib.rcParams) == before
    assert fig.get_suptitle() == "A line rises"
    assert not ax.spines["top"].get_visible()
    assert not ax.spines["right"].get_visible()
    assert ax.spines["left"].get_visible()
    assert to_hex(ax.lines[0].get_color()).upper() == plots.PALETTE[0]
    fig.canvas.draw()
    assert ax.xaxis.get_gridlines()[0].get_visible()


# --- explorers


EXPLORER = """
import ipywidgets
from reclab import plots
def draw(n):
    return plots.Picture(b"png", f"fewer than <b>{n}</b> & p < 0.5")
explorer = plots.Explorer(draw, n=ipywidgets.IntSlider(1, 0, 5))
explorer"""
TEXTS = """
import html
reader = plots.text_explorer(lambda typed: f"<p><b>{len(typed)}</b> letters: {html.escape(typed)}</p>", "so <soft>")
reader"""


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """The outputs of two explorers that were moved in later cells."""
    move = "explorer.controls['n'].value = 2\nreader.controls['text'].value = 'wool'"
    path = write(tmp_path_factory.mktemp("explorers"), "00_a", EXPLORER, TEXTS, move)
    run = run_afresh(path, get_profile("laptop"))
    assert run.error is None
    return [cell.outputs for cell in run.node.cells]


def test_controls_stand_above_a_picture_that_follows_them_as_an_output_of_its_own(moved):
    controls, picture, words = moved[0]
    assert plots.VIEW in controls.data
    assert controls.data["text/plain"] == "Controls: n. Run this cell to use them."
    alt = "fewer than <b>2</b> & p < 0.5"
    assert set(picture.data) == {"image/png", "text/plain"} and picture.metadata == {"image/png": {"alt": alt}}
    assert words.data["text/plain"] == alt
    assert words.data["text/html"].startswith("<p>fewer than &lt;b&gt;2&lt;/b&gt; &amp; p &lt; 0.5</p><style>")
    assert moved[2] == []


def test_a_text_is_read_at_the_start_and_when_it_changes(moved):
    controls, page = moved[1]
    assert plots.VIEW in controls.data and page.data["text/plain"] == "4 letters: wool"
    assert page.data["text/html"].startswith("<p><b>4</b> letters: wool</p><style>")
    reader = plots.text_explorer(lambda typed: f"<p>{typed}</p>", "so soft")
    assert repr(reader.drawn) == "so soft"
    assert reader.controls["text"].continuous_update is False, "a key stroke is too often"
    assert reader.box.children[0] is reader.controls["text"]
