"""The notebooks of the series: where they lie, their names, and how one is read."""

from __future__ import annotations

import re
from pathlib import Path

from .errors import ReclabError, UnknownNameError


def notebooks_folder() -> Path:
    """The series: ``notebooks`` of the current folder, else of the checkout that this package lies in.

    Raises ReclabError: neither holds a notebook.
    """
    for folder in (Path.cwd() / "notebooks", Path(__file__).parent.parent / "notebooks"):
        if any(folder.glob("[0-9][0-9]_*.ipynb")):
            return folder
    raise ReclabError("no notebooks here; change to the folder of your clone, the one that holds notebooks/")


def find_notebooks(names: list[str], folder: Path) -> list[Path]:
    """The notebooks of those names in the series' order; all of them where no name is given.

    Parameters
    ----------
    names : ``2``, ``02``, ``02_bert_finetuning`` or ``02_bert_finetuning.ipynb``.
    folder : holds ``NN_name.ipynb``.

    Raises UnknownNameError: no such notebook.
    """
    paths = {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    by_name = paths | {stem[:2]: path for stem, path in paths.items()}
    wanted = set()
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        stem = stem.zfill(2) if stem.isdecimal() else stem
        if stem not in by_name:
            raise UnknownNameError("notebook", name, paths)
        wanted.add(by_name[stem])
    return [path for path in paths.values() if path in wanted or not names]


def read_notebook(path: Path):
    """Read a notebook as nbformat 4, without its outputs.

    Raises ReclabError: the file cannot be read, or is no notebook.
    """
    import nbformat

    try:
        node = nbformat.read(path, as_version=4)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, nbformat.ValidationError) as error:
        # Other people's JSON trips nbformat over in all these ways.
        raise ReclabError(f"{path} is not a notebook that can be read ({one_line(error)})") from None
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return node


def one_line(text: object, width: int = 200) -> str:
    """Any message as one line of at most ``width`` characters."""
    line = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(text)).split())
    return line if len(line) <= width else line[: width - 3] + "..."
