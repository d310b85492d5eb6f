"""The pages of a run: one per notebook, and an index with results, timings and figures; all open offline."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

import jinja2
import nbformat
from bs4 import BeautifulSoup
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

from .profiles import Profile
from .receipts import machine, receipt, versions
from .results import OUTSIDE, write_atomically
from .runner import Run

# JupyterLab's own page, without what it loads from the network, with the alt text that it drops, and with colours that
# stand out from their ground by the 4.5 to 1 that WCAG asks for.
_TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block html_head_css -%}
{{ super() }}
<style>:root {
--jp-cell-prompt-not-active-opacity: 1;
--jp-mirror-editor-operator-color: #8a1be0; --jp-mirror-editor-number-color: #007000;
--jp-mirror-editor-comment-color: #2f6868;
}</style>
{%- endblock -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block data_png scoped -%}
<div class="jp-RenderedImage jp-OutputArea-output">
<img src="data:image/png;base64,{{ output.data['image/png'] | trim }}" alt="{{ output | alt_text | escape }}">
</div>
{%- endblock -%}
{%- block data_javascript scoped -%}{%- endblock -%}
{%- block data_widget_view scoped -%}{%- endblock -%}
{%- block data_latex scoped -%}
<div class="jp-RenderedLatex jp-OutputArea-output">{{ output.data['text/latex'] | markdown2html }}</div>
{%- endblock -%}
"""
# A widget's view needs a kernel, so it shows its text; scripts come last and are empty.
SHOWN = ["text/html", "text/markdown", "image/svg+xml", "text/latex", "image/png", "image/jpeg", "text/plain"]
SHOWN += ["application/vnd.jupyter.widget-view+json", "application/javascript"]
_PLAIN = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }}
th, td {{ text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top; border-bottom: 1px solid #767676; }}
.anchor-link {{ display: none; }}</style></head><body><main>{body}</main></body></html>
"""
_REMOTE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
_IMPORTED = re.compile(r"@import[^;]*;|url\(\s*['\"]?\s*(https?:)?//[^)]*\)", re.IGNORECASE)


def mathml(tex: str, display: str = "inline") -> str | None:
    """TeX as MathML, which browsers show without any script; None where the TeX is not understood.

    Parameters
    ----------
    tex : what stands between the dollar signs.
    display : ``inline`` or ``block``.
    """
    tex = re.sub(r"\\(begin|end)\{aligned\}", r"\\\1{align*}", tex)
    try:
        made = convert(tex, display=display)
    except Exception:  # the converter has a dozen kinds and no base for them
        return None
    understood = "<mi>\\" not in made and "<mi>&</mi>" not in made
    return made if understood else None


class _Renderer(IPythonRenderer):
    """Markdown whose maths is MathML; the Markdown parser decides what is code and what is maths."""

    def inline_math(self, body: str) -> str:
        return mathml(body) or super().inline_math(body)

    def block_math(self, body: str) -> str:
        return mathml(body, "block") or super().block_math(body)

    def latex_environment(self, name: str, body: str) -> str:
        tex = f"\\begin{{{name}}}{body}\\end{{{name}}}"
        return mathml(tex, "block") or super().latex_environment(name, body)


class _Exporter(HTMLExporter):
    """JupyterLab's page, offline."""

    @pass_context
    def markdown2html(self, context, source: str) -> str:
        """Render Markdown with local images embedded."""
        renderer = _Renderer(
            escape=False,
            embed_images=True,
            path=context.get("resources", {}).get("metadata", {}).get("path", ""),
            attachments=context.get("cell", {}).get("attachments", {}),
            anchor_link_text=self.anchor_link_text,
        )
        return MarkdownWithMath(renderer=renderer).render(source)


def page(run: Run, folder: Path | None = None) -> str:
    """A notebook as one HTML file that loads nothing from anywhere.

    Parameters
    ----------
    run : the notebook with its outputs.
    folder : where the images lie that its prose shows.
    """
    config = Config({"NbConvertBase": {"display_data_priority": SHOWN}})
    exporter = _Exporter(config=config, raw_template=_TEMPLATE, filters={"alt_text": _alt_text})
    resources = {"metadata": {"name": run.name, "path": str(folder or "")}}
    html, _ = exporter.from_notebook_node(run.node, resources)
    return _offline(html)


def _alt_text(output) -> str:
    """The words that stand for an output's image: its alt text, else its plain text."""
    return output.metadata.get("image/png", {}).get("alt") or output.data.get("text/plain", "")


def _offline(html: str) -> str:
    """Put words in place of what would come from the network, and send links to notebooks to the index."""
    soup = BeautifulSoup(html, "html.parser")
    for tag in [*soup("script"), *soup("link", href=_REMOTE)]:
        tag.decompose()
    for attribute in ("src", "srcset", "poster", "data"):
        for tag in soup.find_all(attrs={attribute: _REMOTE}):
            tag.replace_with(tag.get("alt", ""))
    for style in soup("style"):
        style.string = _IMPORTED.sub("", style.string or "")
    for link in soup("a", href=re.compile(r"^(\./)?\d\d_\w+\.ipynb")):
        link["href"] = f"index.html#{link['href'].removeprefix('./')[:2]}"
    return str(soup)


@dataclass(frozen=True)
class Figure:
    """A figure for the gallery: PNG as base64, its alt text, and the cell that drew it."""

    number: str
    name: str
    png: str
    alt: str
    cell: str


def figures(run: Run) -> list[Figure]:
    """The figures among a notebook's outputs, in order."""
    return [
        Figure(run.number, run.name, output.data["image/png"].strip(), _alt_text(output), cell.get("id", ""))
        for cell in run.node.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def write_notebook(run: Run, folder: Path, source: Path) -> None:
    """Write ``notebooks/NN.ipynb`` and ``NN.html`` of one run.

    Parameters
    ----------
    folder : the report's folder.
    source : the folder that the notebook came from.
    """
    write_atomically(folder / "notebooks" / f"{run.number}.ipynb", nbformat.writes(run.node) + "\n")
    write_atomically(folder / f"{run.number}.html", page(run, source))


def write_index(
    folder: Path, runs: list[Run], profile: Profile, *, planned: list[str], started: str, note: str = ""
) -> None:
    """Write ``index.html`` and ``receipt.json`` for what has run so far.

    Parameters
    ----------
    folder : the report's folder.
    planned : names of the notebooks that were asked for; the report is partial until all of them ran through.
    started : when the run began, as ISO 8601.
    note : one line on why the run ended early.
    """
    complete = [run.name for run in runs if run.error is None] == planned
    record = receipt(runs, profile, started=started, complete=complete, planned=planned)
    write_atomically(folder / "receipt.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    write_atomically(folder / "index.html", index(runs, profile, planned=planned, started=started, note=note))


def index(runs: list[Run], profile: Profile, *, planned: list[str], started: str = "", note: str = "") -> str:
    """The index page as HTML; see `write_index`."""
    results = [(run, result) for run in runs for result in run.results.values()]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    template = environment.from_string((Path(__file__).parent / "report.html.j2").read_text("utf-8"))
    return template.render(
        runs={run.name: run for run in runs},
        planned=planned,
        missing=[name for name in planned if name not in {run.name for run in runs}],
        failed=[run for run in runs if run.error],
        results=sorted(results, key=lambda pair: pair[1].verdict != OUTSIDE),
        n_outside=sum(result.verdict == OUTSIDE for _, result in results),
        figures=[figure for run in runs for figure in figures(run)],
        profile=profile,
        versions=versions(),
        machine=machine(),
        started=started,
        note=note,
    )


def _number(value: float) -> str:
    return f"{value:.4g}" if value % 1 else f"{int(value):,}"


def plain_page(title: str, body: str) -> str:
    """A page of headings, text and tables that opens offline.

    Parameters
    ----------
    title : plain text. body : HTML in which everything that needs it is escaped.
    """
    return _PLAIN.format(title=escape(title), body=body)
