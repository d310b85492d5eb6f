"""Explorers: controls that redraw a figure or a page, and the first one alone where no kernel runs.

Taught in: 06_thompson_sampling.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import ipywidgets

from .plots import Picture

VIEW = "application/vnd.jupyter.widget-view+json"


class Explorer:
    """Controls above a picture that follows them; shows as its first picture where there is no kernel.

    Parameters
    ----------
    draw : called with the value of every control by name; returns what `reclab.plots.show` returns.
    controls : name -> an ipywidgets control with a ``value``, such as ``ipywidgets.IntSlider``.

    Taught in: 06_thompson_sampling.
    """

    def __init__(self, draw: Callable[..., Picture], **controls: ipywidgets.ValueWidget):
        self.draw, self.controls = draw, controls
        self.first = self._picture()
        self.image = ipywidgets.Image(value=self.first.png, format="png", layout={"max_width": "100%"})
        self.words = ipywidgets.HTML(value=html.escape(self.first.alt))
        self.box = ipywidgets.VBox([*controls.values(), self.image, self.words])
        for control in controls.values():
            control.observe(self._redraw, names="value")

    def _picture(self) -> Picture:
        return self.draw(**{name: control.value for name, control in self.controls.items()})

    def _redraw(self, change) -> None:
        picture = self._picture()
        self.image.value, self.words.value = picture.png, html.escape(picture.alt)

    def _repr_mimebundle_(self, include=None, exclude=None):
        data, metadata = self.first._repr_mimebundle_()
        return data | {VIEW: self.box._repr_mimebundle_()[VIEW]}, metadata


class TextExplorer:
    """A box to type a text in, above a page that is made from it; shows as its first page where there is no kernel.

    Parameters
    ----------
    read : called with the text; returns HTML in which whatever was typed is escaped.
    first : the text to start with.

    Taught in: 03_semantic_understanding.
    """

    def __init__(self, read: Callable[[str], str], first: str):
        self.read, self.first = read, read(first)
        wide = {"width": "100%", "height": "80px"}
        self.entry = ipywidgets.Textarea(first, continuous_update=False, layout=wide)  # a key stroke is too often
        self.page = ipywidgets.HTML(self.first)
        hint = ipywidgets.HTML("<small>Type a text, then click outside of the box.</small>")
        self.box = ipywidgets.VBox([self.entry, hint, self.page])
        self.entry.observe(self._redraw, names="value")

    def _redraw(self, change) -> None:
        self.page.value = self.read(change["new"])

    def _repr_mimebundle_(self, include=None, exclude=None):
        words = html.unescape(re.sub(r"<[^>]*>", " ", self.first))
        page = {"text/html": self.first, "text/plain": " ".join(words.split())}
        return page | {VIEW: self.box._repr_mimebundle_()[VIEW]}
