"""Explorers: sliders that redraw a figure, and the figure alone where no kernel runs.

Taught in: 06_thompson_sampling.
"""

from __future__ import annotations

import html
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
