"""Explorers: controls that redraw a figure or a page, and the first one alone where no kernel runs."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence

import ipywidgets

from . import plots
from .plots import Picture

VIEW = "application/vnd.jupyter.widget-view+json"


class Explorer:
    """Controls above a picture that follows them; shows as its first picture where there is no kernel.

    Parameters
    ----------
    draw : called with the value of every control by name; returns what `reclab.plots.show` returns.
    controls : name -> an ipywidgets control with a ``value``, such as ``ipywidgets.IntSlider``.
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


def fusion_explorer(
    rank: Callable[[dict[str, float]], tuple[Sequence[str], Sequence[float], float]],
    weights: Mapping[str, float],
    truth: str,
) -> Explorer:
    """A slider for the weight of each modality, above the list that the weights make, with the truth of each item.

    Parameters
    ----------
    rank : called with modality -> weight; returns titles, best first, a number for each that says how good it truly
        is, and the quality of the weights over all users.
    weights : modality -> the weight to start with, from 0 to 3.
    truth : what the numbers are, such as ``share of users who liked it``.

    Raises ValueError: a weight is not in 0..3.
    """
    for name, weight in weights.items():
        if not 0 <= weight <= 3:
            raise ValueError(f"the weight of {name!r} must be in 0..3, got {weight}")

    def draw(**chosen: float) -> Picture:
        titles, values, quality = rank(chosen)
        said = ", ".join(f"{name} {weight:g}" for name, weight in chosen.items())
        fig, axes = plots.figure(title=f"NDCG@{len(titles)} of all users: {quality:.3f}\n{said}", height=3.9)
        places = range(len(titles), 0, -1)  # the best at the top
        axes.barh(places, values, color=plots.PALETTE[0])
        axes.set(xlabel=truth, yticks=places, yticklabels=titles)
        return plots.show(fig, f"With weights {said}, the list and the {truth}: {_listed(titles, values)}.")

    sliders = {
        name: ipywidgets.FloatSlider(weight, min=0, max=3, step=0.25, description=name, continuous_update=False)
        for name, weight in weights.items()
    }
    return Explorer(draw, **sliders)


def _listed(titles: Sequence[str], values: Sequence[float]) -> str:
    return "; ".join(
        f"{n}. {title} ({value:.2f})" for n, (title, value) in enumerate(zip(titles, values, strict=True), 1)
    )
