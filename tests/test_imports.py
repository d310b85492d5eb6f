"""The house of modules: one way up, few floors, no circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import reclab

FOLDER = Path(reclab.__file__).parent
# From the ground up: a module imports only what stands above it in this list.
ORDER = """
    errors profiles reclab plots assets results receipts verdicts classroom calibrate run doctor
    metrics data.schema data.files data.sources data.own data.full data.shop data.shop_files data
    text training efficient finetune masked_lm distil understand fusion looks sequence
    rank scorecard bandits ope judge stress scale loop systems worlds
"""
FLOORS = 8


def imports(path: Path, modules: set[str]) -> set[str]:
    """The modules of the package that a module imports, also inside of functions."""
    folder = path.parent.relative_to(FOLDER).parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*folder[: len(folder) - node.level + 1], *(node.module or "").split(".")]
            base = ".".join(filter(None, base))
            names = {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
            found |= {name if name in modules else base or "reclab" for name in names}
    return found


def test_a_module_imports_only_what_stands_above_it():
    order = ORDER.split()
    paths = {".".join(path.relative_to(FOLDER).with_suffix("").parts): path for path in FOLDER.rglob("*.py")}
    paths = {name.removesuffix(".__init__").replace("__init__", "reclab"): path for name, path in paths.items()}
    assert sorted(paths) == sorted(order), "a module has no place in the list, or is gone"
    floor = {}
    graph = {name: imports(path, set(paths)) - {name} for name, path in paths.items()}
    for name in TopologicalSorter(graph).static_order():  # which raises a CycleError where there is a circle
        upwards = {other for other in graph[name] if order.index(other) > order.index(name)}
        assert not upwards, f"{name} imports {upwards}, which stand below it"
        floor[name] = 1 + max((floor[other] for other in graph[name]), default=0)
    assert max(floor.values()) <= FLOORS, {name: n for name, n in floor.items() if n > FLOORS}
