"""The cells of a notebook that some results need, so that a fault can be tried without running the whole notebook."""

from __future__ import annotations

import ast
import copy
import fnmatch
import re
import symtable
from typing import NamedTuple

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

COMPREHENSIONS = {"listcomp", "setcomp", "dictcomp", "genexpr"}  # as symtable names them
SHOWN = {"check", "show", "results.check", "results.show"}  # what notes results in the ledger
WHOLE = ast.Assign, ast.AnnAssign, ast.For, ast.With, ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom


class Names(NamedTuple):
    """What a cell does with names: those it reads that it has not set before, those that its functions read when
    called, those it sets or changes, those of them that it sets whatever they were, and the results it checks.
    """

    loads: set[str]
    later: set[str]
    sets: set[str]
    wholly: set[str]
    keys: list[str]


def cells_for(node: nbformat.NotebookNode, patterns: list[str]) -> nbformat.NotebookNode:
    """The notebook with only those code cells that the results of some patterns, as ``10.ndcg_*``, rest on.

    Raises ValueError: no cell checks such a key.
    """
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    sources = [TransformerManager().transform_cell(cell.source) for cell in code]  # magics become calls
    imported = set().union(*(imports(source) for source in sources))
    known = [names_of(source, imported) for source in sources]
    wanted = {n for n, names in enumerate(known) if any(meet(key, want) for key in names.keys for want in patterns)}
    if not wanted:
        raise ValueError(f"no cell checks {', '.join(patterns)}")
    last, kept, open_ = max(wanted), set(), sorted(wanted)
    while open_:
        here = open_.pop()
        if here in kept:
            continue
        kept.add(here)
        for name in known[here].loads | known[here].later:
            open_ += _makers(name, here, known)
        for name in known[here].later:  # read when the function is called, which is no later than the last cell
            open_ += _makers(name, last + 1, known)
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


def imports(source: str) -> set[str]:
    """The names that a cell imports; calling a module's function does not change the module."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {(alias.asname or alias.name).split(".")[0] for node in nodes for alias in node.names}


def names_of(source: str, imported: set[str]) -> Names:
    """What a cell's code loads, sets and checks; calling a function of an imported module does not change it."""
    found, tree = Names(set(), set(), set(), set(), []), ast.parse(source)
    for node in _in_order(tree.body):
        table = symtable.symtable(ast.unparse(node), "cell", "exec")
        binds = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
        now, later = _globals_within(table)
        uses = {s.get_name() for s in table.get_symbols() if s.is_referenced()} | now
        changes = _changed(node) - imported
        found.loads.update((uses | later) - found.wholly)
        found.later.update(later)
        found.sets.update(binds | changes)
        if isinstance(node, WHOLE):
            found.wholly.update(binds - changes - (uses - later))
    if any(ast.unparse(call.func) in SHOWN for call in ast.walk(tree) if isinstance(call, ast.Call)):
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr)]
        found.keys.extend(key for key in map(_pattern, texts) if re.match(r"\d\d\.[^\d\s]", key))
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


def _globals_within(table: symtable.SymbolTable) -> tuple[set[str], set[str]]:
    """What comprehensions read at once, and what functions read when they are called."""
    now, later = set(), set()
    for child in table.get_children():
        own = {s.get_name() for s in child.get_symbols() if s.is_global()}
        at_once, when_called = _globals_within(child)
        if child.get_name() in COMPREHENSIONS:
            now, later = now | own | at_once, later | when_called
        else:
            later |= own | at_once | when_called
    return now, later


def _changed(node: ast.stmt) -> set[str]:
    """Names whose objects a statement may change: ``x[0] = 1``, ``x.a = 1``, ``x.append(1)``."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return set()
    parts = []
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute | ast.Subscript) and not isinstance(part.ctx, ast.Load):
            parts.append(part)
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            parts.append(part.value.func)
    bases = set()
    for part in parts:
        inner = part
        while isinstance(inner, ast.Attribute | ast.Subscript):
            inner = inner.value
        if inner is not part and isinstance(inner, ast.Name):
            bases.add(inner.id)
    return bases


def _pattern(text: ast.Constant | ast.JoinedStr) -> str:
    """A text as the cell writes it; a star for what it fills in."""
    if isinstance(text, ast.Constant):
        return str(text.value)
    return "".join(part.value if isinstance(part, ast.Constant) else "*" for part in text.values)
