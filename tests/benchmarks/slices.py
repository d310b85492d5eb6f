"""The cells of a notebook that some results need, so that a fault can be tried without running the whole notebook."""

from __future__ import annotations

import ast
import copy
import fnmatch
from collections.abc import Callable
from dataclasses import dataclass

import nbformat


@dataclass
class Names:
    """What a cell does with names.

    Attributes
    ----------
    loads : names it reads that it has not set itself before. later : names that its functions read when called.
    sets : names it sets or changes. wholly : those among them that it sets whatever they were.
    keys : patterns of the results that it checks. called : names of the functions and classes that it calls.
    """

    loads: set[str]
    later: set[str]
    sets: set[str]
    wholly: set[str]
    keys: list[str]
    called: set[str]


def cells_for(node: nbformat.NotebookNode, patterns: list[str]) -> nbformat.NotebookNode:
    """The notebook with only those code cells that the results of some patterns rest on.

    Parameters
    ----------
    patterns : keys such as ``07.mean_weight``, or patterns such as ``08.ndcg_*``.

    Raises
    ------
    ValueError : no cell checks such a key.
    """
    return _only(node, lambda names: any(meet(key, want) for key in names.keys for want in patterns), patterns)


def cells_with(node: nbformat.NotebookNode, word: str) -> nbformat.NotebookNode:
    """The notebook with only those code cells that the cells which use a name rest on.

    Raises
    ------
    ValueError : no cell uses it.
    """
    return _only(node, lambda names: word in names.called, [word])


def _only(node: nbformat.NotebookNode, is_wanted: Callable[[Names], bool], said: list[str]) -> nbformat.NotebookNode:
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    known = [names_of(cell.source) for cell in code]
    wanted = {n for n, names in enumerate(known) if is_wanted(names)}
    if not wanted:
        raise ValueError(f"no cell checks or calls {', '.join(said)}")
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


def names_of(source: str) -> Names:
    """What a cell's code loads, sets and checks."""
    found = Names(set(), set(), set(), set(), [], set())
    for statement in _in_order(ast.parse(source).body):
        reader = _Reader()
        reader.visit(statement)
        found.loads |= reader.loads - found.wholly
        found.later |= reader.later
        found.sets |= reader.stores | reader.changed
        if isinstance(statement, WHOLE):
            found.wholly |= reader.stores - reader.changed - reader.loads
        found.keys += reader.keys
        found.called |= reader.called
    return found


def _in_order(statements: list[ast.stmt]):
    """Statements with those inside loops and blocks, as they run; every loop is taken to run at least once."""
    for statement in statements:
        if isinstance(statement, (ast.For, ast.With)):
            inside, statement = statement.body, copy.copy(statement)
            statement.body = []
            yield statement
            yield from _in_order(inside)
        else:
            yield statement


WHOLE = (ast.Assign, ast.AnnAssign, ast.For, ast.With, ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
CHANGERS = {"add", "append", "extend", "fit", "setdefault", "update"}  # methods that change what they belong to


class _Reader(ast.NodeVisitor):
    """Sorts the names of one statement by what is done with them."""

    def __init__(self):
        self.loads, self.later, self.stores, self.changed, self.called = set(), set(), set(), set(), set()
        self.keys: list[str] = []
        self.own: list[set[str]] = []  # names of the functions and comprehensions around
        self.functions = 0

    def visit_Name(self, node):
        if any(node.id in names for names in self.own):
            return
        if isinstance(node.ctx, ast.Load):
            (self.later if self.functions else self.loads).add(node.id)
        elif not self.functions:
            self.stores.add(node.id)

    def _within(self, node, names: set[str], function: bool):
        self.own.append(names)
        self.functions += function
        self.generic_visit(node)
        self.functions -= function
        self.own.pop()

    def _function(self, node):
        if not self.functions and not isinstance(node, ast.Lambda):
            self.stores.add(node.name)
        inside = [part for part in ast.walk(node) if part is not node]
        names = {part.arg for part in inside if isinstance(part, ast.arg)}
        self._within(node, names | {n.id for n in inside if isinstance(n, ast.Name) and not _loaded(n)}, True)

    visit_FunctionDef = visit_Lambda = visit_ClassDef = _function

    def _comprehension(self, node):
        targets = [name for part in node.generators for name in ast.walk(part.target)]
        self._within(node, {name.id for name in targets if isinstance(name, ast.Name)}, False)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_Import(self, node):
        self.stores.update((alias.asname or alias.name).split(".")[0] for alias in node.names)

    visit_ImportFrom = visit_Import

    def visit_AugAssign(self, node):
        if not self.functions:
            self.changed |= _base(node.target)
        self.generic_visit(node)

    def _part(self, node):
        if not _loaded(node) and not self.functions:
            self.changed |= _base(node)
        self.generic_visit(node)

    visit_Subscript = visit_Attribute = _part

    def visit_Call(self, node):
        if isinstance(node.func, ast.Attribute) and node.func.attr in CHANGERS and not self.functions:
            self.changed |= _base(node.func)
        self.called.add(getattr(node.func, "attr", getattr(node.func, "id", "")))
        if getattr(node.func, "id", "") == "check":
            self.keys.append(_pattern(node.args[0]))
        self.generic_visit(node)


def _base(node) -> set[str]:
    """The name that ``name.part[0].part`` starts from; none where it starts from a call."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _loaded(node) -> bool:
    return isinstance(node.ctx, ast.Load)


def _pattern(key: ast.expr) -> str:
    """A key as the cell writes it; a star for what it fills in."""
    if isinstance(key, ast.Constant):
        return str(key.value)
    parts = key.values if isinstance(key, ast.JoinedStr) else []
    return "".join(part.value if isinstance(part, ast.Constant) else "*" for part in parts) or "*"
