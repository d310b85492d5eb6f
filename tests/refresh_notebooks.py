"""Make the stored outputs of the notebooks: one clean run each, on the laptop profile with seed 0.

    python tests/refresh_notebooks.py [NN...]

Also writes what must be the same in every notebook: the set-up cell and the launch badges, from the address
of the repository in pyproject.toml. A notebook is only written where every cell ran and nothing was
printed to stderr; two refreshes give the same bytes.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from urllib.parse import quote

import nbformat

from reclab.errors import ReclabError, one_line
from reclab.profiles import get_profile
from reclab.results import find_notebooks, read_notebook, write_atomically
from reclab.run import run_afresh

ROOT = Path(__file__).parent.parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_METADATA = {"tags", "nbgrader", "slideshow"}
WIDGET = "application/vnd.jupyter.widget-view+json"
MARK = "<!-- badges -->"

SETUP = """\
import importlib.metadata

try:  # before torch, whose threads then sleep while they wait for each other, and do not spin
    from reclab import get_profile  # noqa: F401
except ImportError:
    other = " ".join(importlib.metadata.packages_distributions().get("reclab", []))
    why = "reclab is not installed here"
    if other:
        why = f"another reclab is in its place: pip uninstall {other}"
    raise ModuleNotFoundError(f"{why}; the README says how to install this one") from None"""

# What the notebooks import and Colab does not bring; without dependencies, so that nothing there is replaced.
COLAB_LACKS = "captum fairlearn gensim smart_open"

SETUP_COLAB = """\
import importlib.metadata
import sys

try:  # before torch, whose threads then sleep while they wait for each other, and do not spin
    from reclab import get_profile  # noqa: F401
except ImportError:
    other = " ".join(importlib.metadata.packages_distributions().get("reclab", []))
    if other or "google.colab" not in sys.modules:
        why = "reclab is not installed here"
        if other:
            why = f"another reclab is in its place: pip uninstall {{other}}"
        raise ModuleNotFoundError(f"{{why}}; the README says how to install this one") from None
    %pip install -q --no-deps {lacking} git+{url}@{tag}
    import reclab  # noqa: F401"""


def repository(pyproject: Path) -> tuple[str | None, str]:
    """The repository's address (None while pyproject.toml has none) and the tag that launch links name."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    url = project.get("urls", {}).get("Repository")
    return url and url.removesuffix("/").removesuffix(".git"), f"v{project['version']}"


def setup_source(url: str | None, tag: str) -> str:
    """The text of the set-up cell."""
    return SETUP_COLAB.format(url=url, tag=tag, lacking=COLAB_LACKS) if url else SETUP


def badges(name: str, url: str | None, tag: str) -> str:
    """The launch badges of a notebook as one line of Markdown; empty without a repository on GitHub."""
    github = url.removeprefix("https://github.com/") if url else ""
    if not github or github == url:
        return ""
    path = f"notebooks/{name}.ipynb"
    binder = f"https://mybinder.org/v2/gh/{github}/{tag}?urlpath={quote(f'lab/tree/{path}', safe='')}"
    colab = f"https://colab.research.google.com/github/{github}/blob/{tag}/{path}"
    return (
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder}) "
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})"
    )


def stamp_badges(source: str, line: str) -> str:
    """Put ``line`` under the mark of a first cell, in place of the badges that stand there."""
    before, mark, after = source.partition(MARK)
    if not mark:
        raise ReclabError(f"the first Markdown cell has no line {MARK}")
    rest = after.removeprefix("\n")
    if rest.startswith("[!["):
        rest = rest.partition("\n")[2]
    parts = [before + mark, line, rest]
    return "\n".join(part for part in parts if part)


def clean(node) -> None:
    """Keep only metadata that belongs to the content, and outputs that need no kernel."""
    node.metadata = nbformat.from_dict(METADATA)
    for cell in node.cells:
        kept = {key: value for key, value in cell.metadata.items() if key in CELL_METADATA}
        cell.metadata = nbformat.from_dict(kept)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)  # its model lives in a kernel, under a random id


def refusal(run) -> str | None:
    """Why a run's outputs may not be stored, in one line; None where they may."""
    if run.error:
        return run.error
    for cell in run.node.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                return f"cell [{cell.execution_count}] printed to stderr: {one_line(output.text)}"
    return None


def prepared(path: Path, pyproject: Path = ROOT / "pyproject.toml") -> nbformat.NotebookNode:
    """A notebook as it is to be run: without outputs, with the set-up cell and the badges of every notebook."""
    node, (url, tag) = read_notebook(path), repository(pyproject)
    markdown = [cell for cell in node.cells if cell.cell_type == "markdown"]
    setup = [cell for cell in node.cells if "setup" in cell.metadata.get("tags", [])]
    if len(setup) != 1 or not markdown:
        raise ReclabError(f"{path.stem}: needs a first Markdown cell and exactly one cell tagged 'setup'")
    markdown[0].source = stamp_badges(markdown[0].source, badges(path.stem, url, tag))
    setup[0].source = setup_source(url, tag)
    clean(node)
    return node


def store(path: Path, run) -> None:
    """Write a run's outputs into the notebook's file, which stays as it is where the run is not clean."""
    if reason := refusal(run):
        raise ReclabError(f"{path.name} is not stored: {reason}")
    clean(run.node)
    nbformat.validate(run.node)
    write_atomically(path, nbformat.writes(run.node).rstrip("\n") + "\n")


def main(argv: list[str], folder: Path = ROOT / "notebooks", pyproject: Path = ROOT / "pyproject.toml") -> int:
    """Refresh the named notebooks, or all; returns 1 where one could not be stored."""
    status = 0
    try:
        for path in find_notebooks(argv, folder):
            run = run_afresh(path, get_profile("laptop", seed=0), prepared(path, pyproject))
            store(path, run)
            print(f"{path.name}: {run}", flush=True)
    except ReclabError as error:
        print(error, file=sys.stderr)
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
