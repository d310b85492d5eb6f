"""Notebooks as a student meets them: a real JupyterLab, a real browser, Run > Run All Cells, widgets by keyboard."""

import json
import os
import secrets
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import nbformat
import pytest
from waiting import CEILING, wait_for

sys.path.append(str(Path(__file__).parent / "benchmarks"))

from slices import cells_with

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "00_start_here.ipynb"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A JupyterLab that knows nothing of the user's own settings; gives its folder, address and token."""
    tmp_path = tmp_path_factory.mktemp("lab")
    root = tmp_path / "root"
    root.mkdir()
    settings = tmp_path / "settings" / "@jupyterlab"
    _settings(settings / "notebook-extension" / "tracker.jupyterlab-settings", windowingMode="none")
    news = {"fetchNews": "false", "checkForUpdates": False}
    _settings(settings / "apputils-extension" / "notification.jupyterlab-settings", **news)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token, folder = secrets.token_hex(16), {k: str(tmp_path / k) for k in ("config", "data", "runtime")}
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *(f"--ServerApp.root_dir={root}", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"),
        *("--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"),
        *("--LabApp.extension_manager=readonly", f"--LabApp.user_settings_dir={tmp_path / 'settings'}"),
        f"--LabApp.workspaces_dir={tmp_path / 'workspaces'}",
    ]
    own = {f"JUPYTER_{kind.upper()}_DIR": path for kind, path in folder.items()}
    log = (tmp_path / "lab.log").open("w")
    process = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield root, f"http://127.0.0.1:{port}", token
    finally:
        process.terminate()
        try:
            process.wait(CEILING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


@pytest.fixture
def lab(server):
    """The server without a kernel, before and after."""
    yield server
    _, address, token = server
    for session in ask(f"{address}/api/sessions", token) or []:
        ask(f"{address}/api/sessions/{session['id']}", token, method="DELETE")


def _settings(path: Path, **values):
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(values), "utf-8")


def ask(url: str, token: str, method: str = "GET"):
    """The server's answer, or None where it has none, or while it does not answer yet."""
    request = urllib.request.Request(url, headers={"Authorization": f"token {token}"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=CEILING) as answer:
            return json.loads(answer.read() or "null")
    except OSError:
        return None


def run_all(page, lab, node) -> dict:
    """Open a notebook without its outputs in the browser, run all of it, and say what the page then shows."""
    root, address, token = lab
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    name = secrets.token_hex(4)  # a workspace of its own: the page opens no tab of another test
    nbformat.write(node, root / f"{name}.ipynb")
    n_code = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in node.cells)

    wait_for("the server", lambda: ask(f"{address}/api/status", token))
    page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb?token={token}")
    page.locator(".jp-Notebook").wait_for()

    # Until the kernel is idle and the page is connected to it, Run All would open a dialog instead.
    def idle():
        kernels = [session["kernel"] for session in ask(f"{address}/api/sessions", token) or []]
        return any(k["execution_state"] == "idle" and k["connections"] > 0 for k in kernels)

    wait_for("an idle kernel", idle)
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()

    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    numbered = [f"[{n}]:" for n in range(1, n_code + 1)]
    # JupyterLab shows errors and stderr alike; a lesson has neither.
    errors = page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']")

    def finished():
        return errors.count() or [p.strip() for p in prompts.all_inner_texts() if p.strip() != "[ ]:"] == numbered

    wait_for("every cell's number", finished)
    return {
        "errors": errors.all_inner_texts(),
        "text": "\n".join(page.locator(".jp-OutputArea-output").all_inner_texts()),
    }


def test_the_first_notebook_runs_in_a_browser(page, lab):
    if not NOTEBOOK.is_file():
        pytest.skip("notebook 00 is not there")
    node = nbformat.read(NOTEBOOK, as_version=4)
    stored = sum("image/png" in o.get("data", {}) for c in node.cells for o in c.get("outputs", []))
    seen = run_all(page, lab, node)
    assert not seen["errors"], seen["errors"]
    figures = page.locator(".jp-RenderedImage img")
    assert stored > 0
    wait_for("the last figure", lambda: figures.count() >= stored)
    assert figures.count() == stored
    assert "OUTSIDE" not in seen["text"]


def test_an_error_in_a_cell_is_seen(page, lab):
    cells = [nbformat.v4.new_code_cell("1 + 1"), nbformat.v4.new_code_cell("1 / 0")]
    node = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    seen = run_all(page, lab, node)
    assert "ZeroDivisionError" in seen["errors"][0]


# What makes the widget of a notebook, and the control of it that is used by keyboard.
WIDGETS = {
    "03": ("TextExplorer", "textarea"),
    "04": ("fusion_explorer", ".noUi-handle"),
    "05": ("Explorer", "select"),
    "07": ("Explorer", ".noUi-handle"),
    "10": ("explore", "select"),
}
# A widget follows the keyboard whatever its models have learnt: a few reviews, one pass over the likes.
QUICK = """
from dataclasses import replace
from functools import partialmethod
from reclab import data, profiles, rank, sequence

few = data.clothing()
few = replace(few, interactions=few.interactions.head(2_000))
data.clothing = lambda: few
profiles.PROFILES["laptop"] = replace(profiles.PROFILES["laptop"], n_reviews=320, bootstrap=50)
for model in (rank.ALS, rank.BPR, sequence.SASRec):
    model.__init__ = partialmethod(model.__init__, epochs=1)
"""


def shown(box) -> tuple:
    """What a widget shows: the address of its picture, which is new for each picture, and its words."""
    image = box.locator("img")
    words = box.locator(".widget-html-content").all_inner_texts()
    return (image.first.get_attribute("src") if image.count() else None), words


def at_rest(page, box) -> tuple | None:
    """What a widget shows, once it shows something and has not changed for a second; its parts come one by one."""
    before = shown(box)
    page.wait_for_timeout(1000)
    return before if any(before) and shown(box) == before else None


def use(page, control: str, handle) -> None:
    """Change a control by keys alone."""
    handle.focus()
    if control == "textarea":
        page.keyboard.press("Control+End")
        page.keyboard.type(" I love it and wear it all the time.")
        page.keyboard.press("Tab")  # the text counts once its box is left
    elif control == "select":  # JupyterLab takes the arrows up and down for itself, to go from cell to cell
        at_end = handle.evaluate("menu => menu.selectedIndex == menu.options.length - 1")
        page.keyboard.press("Home" if at_end else "End")
    else:
        page.keyboard.press("ArrowRight")


@pytest.mark.parametrize("number", WIDGETS)
def test_a_widget_follows_the_keyboard(page, lab, number):
    maker, control = WIDGETS[number]
    (path,) = NOTEBOOK.parent.glob(f"{number}_*.ipynb")
    node = cells_with(nbformat.read(path, as_version=4), maker)
    node.cells.insert(0, nbformat.v4.new_code_cell(QUICK))
    seen = run_all(page, lab, node)
    assert not seen["errors"], seen["errors"]
    box = page.locator(".jp-OutputArea-output .widget-vbox").last
    box.scroll_into_view_if_needed()
    handle = box.locator(control).first
    handle.wait_for()
    before = wait_for("the widget to show all of itself", lambda: at_rest(page, box))
    use(page, control, handle)
    wait_for("the widget to follow", lambda: shown(box) != before)
