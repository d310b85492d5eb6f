"""The cells of a notebook that some results need, so that a fault can be tried without running the whole notebook."""

from __future__ import annotations

import ast
import copy
import fnmatch
import re
import symtable
from dataclasses import dataclass
from functools import cache

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

_COMPREHENSIONS = {"listcomp", "setcomp", "dictcomp", "genexpr"}  # as symtable names them


@dataclass(frozen=True)
class Statement:
    """A statement at the top level of a cell: the names that it binds, uses, and changes in place.

    ``later`` are those among the used ones that its functions read when they are called.
    """

    source: str
    binds: frozenset[str]
    uses: frozenset[str]
    changes: frozenset[str]
    later: frozenset[str]


@cache
def statements(source: str) -> tuple[Statement, ...]:
    """The statements of a cell, imports one name each; empty where it is no Python."""
    try:
        tree = ast.parse(TransformerManager().transform_cell(source))  # magics become calls
        return tuple(_statement(node) for top in tree.body for node in _one_name_each(top))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # students write all of these
        return ()


def imports(source: str) -> frozenset[str]:
    """The names that a cell imports; calling a module's function does not change the module."""
    found = [statement.binds for statement in statements(source) if statement.source.startswith(("import ", "from "))]
    return frozenset().union(*found)


def _one_name_each(node: ast.stmt) -> list[ast.stmt]:
    if isinstance(node, ast.Import):
        return [ast.Import([alias]) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [ast.ImportFrom(node.module, [alias], node.level) for alias in node.names]
    return [node]


def _statement(node: ast.stmt) -> Statement:
    source = ast.unparse(node)
    table = symtable.symtable(source, "cell", "exec")
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    now, later = _globals_within(table)
    used = {s.get_name() for s in table.get_symbols() if s.is_referenced()} | now | later
    return Statement(source, frozenset(bound), frozenset(used), frozenset(_changed(node)), frozenset(later))


def _globals_within(table: symtable.SymbolTable) -> tuple[set[str], set[str]]:
    """What comprehensions read at once, and what functions read when they are called."""
    now, later = set(), set()
    for child in table.get_children():
        own = {s.get_name() for s in child.get_symbols() if s.is_global()}
        at_once, when_called = _globals_within(child)
        if child.get_name() in _COMPREHENSIONS:
            now, later = now | own | at_once, later | when_called
        else:
            later |= own | at_once | when_called
    return now, later


def _changed(node: ast.stmt) -> set[str]:
    """Names whose objects a statement may change: ``x[0] = 1``, ``x.a = 1``, ``x.append(1)``."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return set()
    parts = []
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute | ast.Subscript) and not isinstance(part.ctx, ast.Load):
            parts.append(part)
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            parts.append(part.value.func)
    return {base for part in parts if isinstance(part, ast.Attribute | ast.Subscript) and (base := _base(part))}


def _base(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


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
    imported = frozenset().union(*(imports(cell.source) for cell in code))
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
        for part in statements(ast.unparse(node)):
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
