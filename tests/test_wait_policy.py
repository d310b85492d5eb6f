"""OpenMP's threads sleep while they wait for each other, wherever the package computes; the user's own choice stays."""

import os
import re
import subprocess
import sys

import pytest
from refresh_notebooks import SETUP

NAME = "OMP_WAIT_POLICY"


def python(code: str, **variables) -> subprocess.CompletedProcess:
    """Run some code in a fresh process, whose environment does not have the variable yet."""
    plain = {name: value for name, value in os.environ.items() if name != NAME}
    return subprocess.run(
        [sys.executable, "-c", code], env=plain | variables, capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize("first", ["import reclab", SETUP], ids=["the package", "the set-up cell"])
@pytest.mark.parametrize(("own", "policy"), [({}, "PASSIVE"), ({NAME: "ACTIVE"}, "ACTIVE")])
def test_every_openmp_library_that_is_loaded_after_it_has_the_policy(first, own, policy):
    done = python(first + "\nimport torch\nimport sklearn.linear_model", OMP_DISPLAY_ENV="true", **own)
    told = re.findall(rf"{NAME} ?= ?'(\w+)'", done.stderr)
    assert told and set(told) == {policy}


CHILDREN = f"""
import os, sys
from pathlib import Path
sys.path[:0] = [{os.path.dirname(__file__)!r}]
from small_notebooks import write
from reclab import runner, scale

if __name__ == "__main__":
    code = "import os\\nprint(os.environ['{NAME}'], end='')"
    run = runner.run_notebook(write(Path(sys.argv[1]), "00_a", code), env={{}})
    print(run.node.cells[0].outputs[0].text)
    with scale.workers(1) as client:
        print(client.submit(os.environ.get, "{NAME}").result())
"""


@pytest.mark.parametrize(("own", "policy"), [({}, "PASSIVE"), ({NAME: "ACTIVE"}, "ACTIVE")])
def test_kernels_of_a_run_and_workers_have_the_policy(tmp_path, own, policy):
    script = tmp_path / "script.py"
    script.write_text(CHILDREN)
    plain = {name: value for name, value in os.environ.items() if name != NAME}
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, env=plain | own, capture_output=True, text=True)
    assert done.stdout.split() == [policy] * 2, done.stderr
