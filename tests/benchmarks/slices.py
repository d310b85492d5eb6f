"""The cells of a notebook that some results need, so that a fault can be tried without running the whole notebook."""

from __future__ import annotations

import ast
import copy
import fnmatch
import re
from dataclasses import dataclass

import nbformat

from reclab import needs


@dataclass
class Names:
    """What a cell does with names.

    Attributes
    ----------
    loads : names it reads that it has not set itself before. later : names that its functions read when called.
    sets : names it sets or changes. wholly : those among them that it sets whatever they were.
    keys : patterns of the results that it checks.
    """

    loads: set[str]
    later: set[str]
    sets: set[str]
    wholly: set[str]
    keys: list[str]


def cells_for(node: nbformat.NotebookNode, patterns: list[str]) -> nbformat.NotebookNode:
    """The notebook with only those code cells that the results of some patterns rest on.

    Parameters
    ----------
    patterns : keys such as ``09.mean_weight``, or patterns such as ``10.ndcg_*``.

    Raises
    ------
    ValueError : no cell checks such a key.
    """
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    imported = frozenset().union(*(needs.imports(cell.source) for cell in code))
    known = [names_of(cell.source, imported) for cell in code]
    wanted = {n for n, names in enumerate(known) if any(meet(key, want) for key in names.keys for want in patterns)}
    if not wanted:
        raise ValueError(f"no cell checks {', '.join(patterns)}")
    last, kept, open_ = max(wanted), set(), sorted(wanted)
    while open_:
        here = open_.pop()
        if here in kept:
            continue
        kept.add(here)
        for name in known[here].loads:
            open_ += _makers(name, here, known)
        for name in known[here].later:  # read when the function is called, which is no later than the last cell
            open_ += _makers(name, here, known) + _makers(name, last + 1, known)
    found = copy.deepcopy(node)
    found.cells = [copy.deepcopy(cell) for n, cell in enumerate(code) if n in kept]
    return found


def _makers(name: str, before: int, known: list[Names]) -> list[int]:
    """The cells that a name's value at a cell comes from: the last that sets it, and those that change it since."""
    makers = []
    for n in range(before - 1, -1, -1):
        if name in known[n].sets:
            makers.append(n)
        if name in known[n].wholly:
            break
    return makers


def meet(key: str, wanted: str) -> bool:
    """Whether a key, or the pattern of a cell, is the one that is wanted."""
    return fnmatch.fnmatch(wanted, key) or fnmatch.fnmatch(key, wanted)


def names_of(source: str, imported: frozenset[str] = frozenset()) -> Names:
    """What a cell's code loads, sets and checks; calling a function of an imported module does not change it."""
    found = Names(set(), set(), set(), set(), [])
    tree = ast.parse(source)
    for node in _in_order(tree.body):
        for part in needs.statements(ast.unparse(node)):
            found.loads |= part.uses - found.wholly
            found.later |= part.later
            found.sets |= part.binds | (part.changes - imported)
            if isinstance(node, WHOLE):
                found.wholly |= part.binds - part.changes - (part.uses - part.later)
    if any(ast.unparse(call.func) in SHOWN for call in ast.walk(tree) if isinstance(call, ast.Call)):
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr)]
        found.keys = [key for key in map(_pattern, texts) if re.match(r"\d\d\.[^\d\s]", key)]
    return found


def _in_order(statements: list[ast.stmt]):
    """Statements with those inside loops and blocks, as they run; every loop is taken to run at least once."""
    for statement in statements:
        if isinstance(statement, ast.For | ast.With):
            inside, statement = statement.body, copy.copy(statement)
            statement.body = [ast.Pass()]
            yield statement
            yield from _in_order(inside)
        else:
            yield statement


WHOLE = ast.Assign, ast.AnnAssign, ast.For, ast.With, ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom


SHOWN = {"check", "show", "results.check", "results.show"}  # what notes results in the ledger


def _pattern(text: ast.Constant | ast.JoinedStr) -> str:
    """A text as the cell writes it; a star for what it fills in."""
    if isinstance(text, ast.Constant):
        return str(text.value)
    return "".join(part.value if isinstance(part, ast.Constant) else "*" for part in text.values)
