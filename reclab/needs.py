"""What a cell needs of the cells above it, so that grading need not run the whole lesson.

Names decide: a statement is needed where it binds, or changes in place, a name that is used further down. It is a
reading of the text alone, so it can be wrong; `reclab.grader` tries it on the teacher's own answer first.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from dataclasses import dataclass
from functools import cache

from IPython.core.inputtransformer2 import TransformerManager

_COMPREHENSIONS = {"listcomp", "setcomp", "dictcomp", "genexpr"}  # as symtable names them
_BUILT_IN = frozenset(dir(builtins)) | {"get_ipython", "display"}


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


def binds(source: str) -> frozenset[str]:
    """The names that a cell defines."""
    return frozenset().union(*(statement.binds for statement in statements(source)))


def uses(source: str) -> frozenset[str]:
    """The names that a cell takes from cells above it."""
    needed: set[str] = set()
    for statement in reversed(statements(source)):
        needed = (needed - statement.binds) | statement.uses
    return frozenset(needed - _BUILT_IN)


def imports(source: str) -> frozenset[str]:
    """The names that a cell imports; calling a module's function does not change the module."""
    found = [statement.binds for statement in statements(source) if statement.source.startswith(("import ", "from "))]
    return frozenset().union(*found)


def slice_of(source: str, needed: set[str], imported: frozenset[str] = frozenset()) -> tuple[str, set[str]]:
    """The part of a cell that binds or changes ``needed`` names, and what is needed above the cell then.

    Parameters
    ----------
    imported : names that statements bind but never change in place.
    """
    kept = []
    for statement in reversed(statements(source)):
        if needed & (statement.binds | (statement.changes - imported)):
            kept.append(statement.source)
            # A name that is bound inside a branch or a loop may have been bound before it, too.
            plain = statement.binds if _is_plain(statement.source) else frozenset()
            needed = (needed - plain) | (statement.uses - _BUILT_IN)
    return "\n".join(reversed(kept)), needed


def _is_plain(source: str) -> bool:
    simple = ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    return isinstance(ast.parse(source).body[0], simple)


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
