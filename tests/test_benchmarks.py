"""The benchmarks can be imported, which changes nothing, and what they print decides the exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "benchmarks"))

import measures


def test_importing_the_benchmarks_leaves_the_number_of_threads_alone():
    # Tests import them, and the kernels of the notebooks inherit what they set.
    folder = Path(measures.__file__).parent
    scripts = ", ".join(sorted(path.stem for path in folder.glob("*.py")))
    code = f"import os, sys; sys.path.append(sys.argv[1])\nimport {scripts}\n"
    code += "print([name for name in os.environ if name.endswith('_NUM_THREADS')])"
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    found = subprocess.run([sys.executable, "-c", code, folder], env=plain, capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr


def test_check_decides_the_exit_status(capsys):
    rows = [measures.row("a", 1.0, "times", least=2), measures.row("b", 1.0, "times")]
    assert [measures.report(rows, True), measures.report(rows, False), measures.report(rows[1:], True)] == [1, 0, 0]
    assert json.loads(capsys.readouterr().out.splitlines()[0])["bar"] == 2
