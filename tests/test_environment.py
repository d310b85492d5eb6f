"""The set-up files agree: pyproject.toml, lock, conda files, Binder, the CI script and the README."""

import ast
import functools
import importlib.metadata
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from reclab.assets import ASSETS
from reclab.run import DATA

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LINE_ONE = "python -m pip install -c requirements.lock -e . && reclab run"
LINE_TWO = 'python -m pip install -c requirements.lock -e ".[test]" && python -m pytest'
CONDA_NAMES = {
    "torch": "pytorch-cpu",
    "duckdb": "python-duckdb",  # the name alone is that of its command line there
    "matplotlib": "matplotlib-base",
    "huggingface-hub": "huggingface_hub",
    "jupyter-client": "jupyter_client",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(*groups: str) -> dict[str, SpecifierSet]:
    """Name -> range, of the dependencies and of the named extras."""
    lines = list(PROJECT["project"]["dependencies"])
    for group in groups:
        lines += PROJECT["project"]["optional-dependencies"][group]
    return {normal(r.name): r.specifier for r in map(Requirement, lines)}


def conda_specs() -> list[str]:
    return yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]


def locked() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {normal(r.name): r for r in found}


# --- conda and Binder


def test_binder_has_the_same_environment():
    assert (ROOT / "binder" / "environment.yml").read_text("utf-8") == (ROOT / "environment.yml").read_text("utf-8")


def test_conda_ranges_are_pyprojects():
    specs = [re.fullmatch(r"([\w.-]+?)([<>=!].*)?", spec).groups() for spec in conda_specs()]
    conda = {name: SpecifierSet(range_ or "") for name, range_ in specs if name not in ("python", "hatchling")}
    wanted = {CONDA_NAMES.get(name, name): range_ for name, range_ in requirements().items()}
    wanted |= {name: requirements("test")[name] for name in ("pytest", "nbval", "hypothesis")}
    assert conda == wanted
    builder = Requirement(PROJECT["build-system"]["requires"][0])
    assert f"{builder.name}{builder.specifier}" in conda_specs()


def test_binder_fetches_what_may_go_into_an_image():
    script = (ROOT / "binder" / "postBuild").read_text("utf-8")
    assert "python -m pip install --no-deps --no-build-isolation --no-cache-dir ." in script.splitlines()
    fetched = re.search(r"(?m)^reclab data fetch (.+)$", script)[1].split()
    assert sorted(fetched) == sorted(name for name in DATA if ASSETS[name].redistributable)


# --- the lock


def test_lock_holds_every_dependency_within_its_range():
    pins = locked()
    for name, range_ in requirements("test").items():
        if name == "pip":  # the tool that reads the lock is not pinned by it
            continue
        assert name in pins, f"{name} is in pyproject.toml but not in requirements.lock; renew the lock"
        (pin,) = pins[name].specifier
        assert pin.version in range_, f"{name} {pin.version} is outside {range_}"


@pytest.mark.skipif(sys.platform != "linux", reason="the lock leaves what one system needs to its parents")
def test_lock_is_closed():
    """What the locked packages need is locked as well, but for torch's own CUDA libraries."""
    pins, queue, missing = locked(), list(requirements("test")), set()
    seen = {"pip", "triton"}
    while queue:
        name = queue.pop()
        if name in seen or name.startswith(("nvidia-", "cuda-")):
            continue
        seen.add(name)
        if name not in pins:
            missing.add(name)
        needs = map(Requirement, importlib.metadata.requires(name) or [])
        queue += [normal(need.name) for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
    assert not missing, f"needed but not in requirements.lock: {', '.join(sorted(missing))}; renew the lock"


# --- what is imported


def imported(source: str) -> set[str]:
    """The top-level modules that a source imports, but for the standard library and this package."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"reclab"}


packages_of_modules = functools.cache(importlib.metadata.packages_distributions)  # it reads every package's list


def undeclared(modules: set[str], declared: set[str]) -> set[str]:
    owners = packages_of_modules()
    return {module for module in modules if not declared & {normal(name) for name in owners.get(module, [])}}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem[:2])
def test_what_a_notebook_imports_is_declared(path):
    code = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    for cell in code:
        source = re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", "".join(cell["source"]))
        assert not undeclared(imported(source), set(requirements())), cell["id"]


def test_what_the_package_imports_is_declared():
    """By name: what comes only with another package may be gone with that package's next version."""
    for path in (ROOT / "reclab").rglob("*.py"):
        assert undeclared(imported(path.read_text("utf-8")), set(requirements())) == set(), path.name


# --- scripts and README


def test_readme_and_ci_say_the_same_lines():
    readme = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert readme.count(LINE_ONE) == 1
    assert readme.count(LINE_TWO) == 1
    script = [line.strip() for line in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()]
    assert LINE_TWO in script
