"""One look for every figure, with the words that say what it shows; explorers that redraw one."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from cycler import cycler

if TYPE_CHECKING:
    import ipywidgets

# Okabe and Ito's palette, which holds for colour-blind readers (https://jfly.uni-koeln.de/color/).
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
VIEW = "application/vnd.jupyter.widget-view+json"
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
# A notebook that is opened without its kernel has no controls: JupyterLab shows an error's text in
# their place, with nothing inside it. This says what to do instead.
_NO_KERNEL = """<style>
.jp-OutputArea-output.jupyter-widgets:not(:has(*)) { font-size: 0; }
.jp-OutputArea-output.jupyter-widgets:not(:has(*))::after { font-size: var(--jp-ui-font-size1);
  content: "Run this cell, and controls stand here." }
</style>"""


class Picture:
    """A finished figure: a PNG and its alt text, which is also what a text-only reader sees."""

    def __init__(self, png: bytes, alt: str):
        self.png, self.alt = png, alt

    def __repr__(self) -> str:
        return f"Figure: {self.alt}"

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"image/png": self.png, "text/plain": repr(self)}, {"image/png": {"alt": self.alt}}


class Page:
    """Some HTML, in which whatever was typed is escaped, and its words for a text-only reader."""

    def __init__(self, source: str):
        self.source = source

    def __repr__(self) -> str:
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", self.source)).split())

    def _repr_html_(self) -> str:
        return self.source + _NO_KERNEL


def figure(columns: int = 1, *, title: str, height: float = 3.6, **options):
    """A new figure in the house style, its panels side by side, 7 inches wide.

    Returns ``(figure, axes)``, as `matplotlib.pyplot.subplots`, to which the options are passed on.
    """
    with plt.rc_context(_STYLE):
        size = (7.0, height)
        fig, axes = plt.subplots(1, columns, figsize=size, layout="constrained", **options)
        fig.suptitle(title, fontsize=11)
    return fig, axes


def show(fig, alt: str) -> Picture:
    """Close a figure and hand it to the notebook; make this a cell's last expression.

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


class Explorer:
    """Controls above a picture, or a page, that follows them; it is saved as it was left.

    The picture is an output of its own, as any figure's is, so that it keeps its size and stays
    where there is no kernel.

    draw : called with the value of every control by name; returns what `show` returns, or a `Page`.
    controls : ipywidgets with a ``value``, such as ``ipywidgets.IntSlider``, by name.
    """

    def __init__(self, draw: Callable[..., Picture | Page], **controls: ipywidgets.ValueWidget):
        import ipywidgets

        self.draw, self.controls, self._shown = draw, controls, []
        self.box = ipywidgets.VBox([*controls.values()])
        self.drawn = self._draw()
        for control in controls.values():
            control.observe(self._redraw, names="value")

    def _draw(self) -> Picture | Page:
        return self.draw(**{name: control.value for name, control in self.controls.items()})

    def _parts(self) -> list[Picture | Page]:
        """What is shown: a picture is followed by its words."""
        if isinstance(self.drawn, Picture):
            return [self.drawn, Page(f"<p>{html.escape(self.drawn.alt)}</p>")]
        return [self.drawn]

    def _redraw(self, change) -> None:
        self.drawn = self._draw()
        for handle, part in zip(self._shown, self._parts(), strict=False):
            handle.update(part)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        words = f"Controls: {', '.join(self.controls)}. Run this cell to use them."
        display({VIEW: self.box._repr_mimebundle_()[VIEW], "text/plain": words}, raw=True)
        self._shown = [display(part, display_id=True) for part in self._parts()]


def text_explorer(read: Callable[[str], str], first: str) -> Explorer:
    """A box to type a text in, above a page that is made from it.

    read : called with the text; returns HTML in which whatever was typed is escaped.
    """
    import ipywidgets

    size = {"width": "100%", "height": "80px"}
    # A key stroke is too often: the text counts when its box is left.
    box = ipywidgets.Textarea(first, continuous_update=False, layout=size)
    explorer = Explorer(lambda text: Page(read(text)), text=box)
    hint = ipywidgets.HTML("<small>Type a text, then click outside of the box.</small>")
    explorer.box.children = (box, hint)
    return explorer
