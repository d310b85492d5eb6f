"""One look for every figure, with the words that say what it shows."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
from cycler import cycler

# Okabe and Ito's palette, which holds for colour-blind readers (https://jfly.uni-koeln.de/color/).
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]

_STYLE = {
    "figure.figsize": (7.0, 3.6),
    "figure.dpi": 110,
    "font.size": 10,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}


class Picture:
    """A finished figure: a PNG and its alt text, which is also what a text-only reader (and a test) sees."""

    def __init__(self, png: bytes, alt: str):
        self.png, self.alt = png, alt

    def __repr__(self) -> str:
        return f"Figure: {self.alt}"

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"image/png": self.png, "text/plain": repr(self)}, {"image/png": {"alt": self.alt}}


def figure(columns: int = 1, *, title: str, height: float = 3.6, **options):
    """A new figure in the house style; returns ``(figure, axes)`` as `matplotlib.pyplot.subplots` does.

    Parameters
    ----------
    columns : panels side by side.
    title : the figure's one message.
    height : inches; the width is 7.
    options : passed on to `matplotlib.pyplot.subplots`.
    """
    with plt.rc_context(_STYLE):
        fig, axes = plt.subplots(1, columns, figsize=(7.0, height), layout="constrained", **options)
        fig.suptitle(title, fontsize=11)
    return fig, axes


def show(fig, alt: str) -> Picture:
    """Close a figure and hand it to the notebook with its alt text; make this a cell's last expression.

    Parameters
    ----------
    fig : a matplotlib figure.
    alt : one or two sentences that tell a reader who cannot see it what the figure shows.

    Raises ValueError: the alt text is missing or too short to say anything.
    """
    if len(alt.split()) < 5:
        raise ValueError(f"alt must say in a sentence what the figure shows, got {alt!r}")
    for axes in fig.axes:
        if legend := axes.get_legend():  # made after `figure`, so outside its style
            legend.set_frame_on(False)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(fig)
    return Picture(buffer.getvalue(), alt)
