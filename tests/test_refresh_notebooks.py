import json
import sys

import nbformat
import pytest

import refresh_notebooks as refresh
from small_notebooks import CHECK, write

URL = "https://github.com/someone/reclab"
TITLE = "# Title\n\n<!-- badges -->\n\nWords."


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    monkeypatch.setenv("RECLAB_SEED", "9")
    return tmp_path / "notebooks"


def make(folder, *cells, name="02_a", title=TITLE):
    path = write(folder, name, title, "setup", *cells)
    node = json.loads(path.read_text("utf-8"))
    node["cells"][1]["metadata"]["tags"] = ["setup"]
    path.write_text(json.dumps(node))
    return path


def change(path, **updates):
    """Set keys of cell 2, the first after the set-up, in the file itself."""
    node = json.loads(path.read_text("utf-8"))
    node["cells"][2] |= updates
    node["metadata"] = {
        "kernelspec": {"name": "venv", "display_name": "V", "language": "python"},
        "widgets": {},
    }
    path.write_text(json.dumps(node))


def run(folder, *names):
    return refresh.main(list(names), folder, folder.parent / "pyproject.toml")


def test_two_refreshes_give_the_same_bytes(folder, capsys):
    cells = [
        CHECK + "import os\nprint(os.environ['RECLAB_SEED'], os.environ['RECLAB_PROFILE'])\ncheck('02.a', 0.25)",
        "import ipywidgets\nipywidgets.IntSlider()",
        "from reclab import plots\nfig, ax = plots.figure(title='A')\n"
        "_ = ax.plot([1, 2])\nplots.show(fig, 'A line that rises from one to two.')",
    ]
    path = make(folder, *cells)
    change(path, metadata={"collapsed": True, "tags": ["keep"], "execution": {"x": 1}})
    assert run(folder) == 0
    assert "02_a.ipynb: " in capsys.readouterr().out
    first = path.read_bytes()
    assert run(folder, "02") == 0
    assert path.read_bytes() == first
    assert first.endswith(b"}\n") and not first.endswith(b"\n\n")

    node = nbformat.read(path, 4)
    nbformat.validate(node)
    assert node.metadata == refresh.METADATA
    assert node.cells[2].outputs[0].text == "0 laptop\n02.a = 0.25\n"
    assert node.cells[2].metadata == {"tags": ["keep"]}
    assert [cell.execution_count for cell in node.cells[1:]] == [1, 2, 3, 4]
    (slider,) = node.cells[3].outputs
    assert set(slider.data) == {"text/plain"}
    (picture,) = node.cells[4].outputs
    assert picture.metadata["image/png"]["alt"] == "A line that rises from one to two."
    assert {p.name for p in folder.iterdir()} == {"02_a.ipynb"}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise KeyError('x')", "cell [2]: KeyError: 'x'"),
        ("import sys\nprint('look', file=sys.stderr)", "cell [2] printed to stderr: look"),
        ("import warnings\nwarnings.warn('old')", "cell [2] printed to stderr: "),
    ],
)
def test_a_run_that_is_not_clean_is_not_stored(folder, capsys, source, reason):
    path = make(folder, source)
    before = path.read_bytes()
    assert run(folder) == 1
    assert f"02_a.ipynb is not stored: {reason}" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_the_set_up_cell_installs_only_on_colab(folder, monkeypatch):
    from IPython.core.inputtransformer2 import TransformerManager

    pyproject = folder.parent / "pyproject.toml"
    assert refresh.repository(pyproject) == (None, "v1.2.3")
    assert "%pip" not in refresh.setup_source(None, "v1.2.3")
    pyproject.write_text(f'[project]\nversion = "1.2.3"\n[project.urls]\nRepository = "{URL}.git"\n')
    assert refresh.repository(pyproject) == (URL, "v1.2.3")
    source = refresh.setup_source(*refresh.repository(pyproject))
    code = compile(TransformerManager().transform_cell(source), "setup", "exec")
    real = sys.modules["reclab"]

    def magics(installed, colab):
        """What is asked of pip, which puts the package there."""
        called = []

        class Shell:
            def run_line_magic(self, *words):
                called.append(" ".join(words))
                sys.modules["reclab"] = real

        monkeypatch.setattr("importlib.metadata.packages_distributions", dict)
        monkeypatch.setitem(sys.modules, "reclab", real if installed else None)
        monkeypatch.setitem(sys.modules, "google.colab", object())
        if not colab:
            monkeypatch.delitem(sys.modules, "google.colab")
        exec(code, {"get_ipython": Shell})
        return called

    assert magics(installed=True, colab=True) == [] == magics(installed=True, colab=False)
    assert magics(installed=False, colab=True) == [f"pip install -q --no-deps {refresh.COLAB_LACKS} git+{URL}@v1.2.3"]
    with pytest.raises(ModuleNotFoundError, match="reclab is not installed here; the README says how"):
        magics(installed=False, colab=False)


def test_a_notebook_without_its_places_to_stamp_is_refused(folder, capsys):
    path = make(folder, "1", title="# Title")
    before = path.read_bytes()
    assert run(folder) == 1 and "no line <!-- badges -->" in capsys.readouterr().err
    write(folder, "02_a", TITLE, "1")
    assert run(folder) == 1 and "exactly one cell tagged 'setup'" in capsys.readouterr().err
    assert before != path.read_bytes() and run(folder, "9") == 1
