"""Notebooks that the tests write themselves."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CHECK = "from reclab.results import check\n"
# Bands that a test chooses, in place of the measured ones.
BANDS = "import reclab.results\nreclab.results.bands = lambda *a, **k: {bands}\n" + CHECK


def write(folder: Path, name: str, *cells: str) -> Path:
    """Write ``NN_name.ipynb``; a cell that starts with ``#`` and a blank is Markdown, any other is code."""
    make = [new_markdown_cell(c) if c.startswith("# ") else new_code_cell(c) for c in cells]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=make), path)
    return path
