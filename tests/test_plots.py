"""The figure helper: its look, its alt text, and the same bytes each time."""

import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from reclab import plots

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


def test_show_closes_the_figure_so_that_it_is_not_drawn_twice():
    fig, _ = line()
    assert plt.get_fignums()
    plots.show(fig, ALT)
    assert not plt.get_fignums()


def test_picture_is_a_png_of_seven_inches_that_is_not_blank():
    picture = plots.show(line(height=2.0)[0], ALT)
    assert picture.png.startswith(b"\x89PNG\r\n\x1a\n")
    image = pixels(picture)
    assert image.shape[:2] == (220, 770)  # 2 and 7 inches of 110 dots
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 10


def test_the_same_figure_is_the_same_bytes_whatever_the_user_has_set():
    first = plots.show(line()[0], ALT).png
    with plt.rc_context({"figure.dpi": 50, "axes.grid": False, "axes.spines.top": True, "legend.frameon": True}):
        assert plots.show(line()[0], ALT).png == first
    fig, ax = line()
    ax.plot([3, 2, 1])
    assert plots.show(fig, ALT).png != first


def test_no_trace_of_a_version_in_the_bytes():
    assert matplotlib.__version__.encode() not in plots.show(line()[0], ALT).png


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


def test_legends_have_no_frame():
    fig, axes = plots.figure(2, title="Two lines")
    legends = []
    for ax in axes:
        ax.plot([1, 2], label="line")
        legends.append(ax.legend())
    plots.show(fig, ALT)
    assert not any(legend.get_frame_on() for legend in legends)


def test_panels_stand_side_by_side_and_options_reach_matplotlib():
    fig, axes = plots.figure(3, title="Three", sharey=True)
    axes[0].set_ylim(0, 7)
    assert len(axes) == 3
    assert axes[2].get_ylim() == (0, 7)
    assert (fig.get_figwidth(), fig.get_figheight()) == (7.0, 3.6)


def luminance(colour):
    """Relative luminance of WCAG 2."""
    channels = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_palette_is_okabe_and_ito_s_and_its_first_colours_stand_out_from_white():
    published = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"}
    assert set(plots.PALETTE) == published
    assert len(plots.PALETTE) == len(published)
    for colour in plots.PALETTE[:3]:
        assert 1.05 / (luminance(colour) + 0.05) > 3  # WCAG 2, 1.4.11: graphical objects
