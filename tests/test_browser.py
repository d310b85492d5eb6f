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
from nbformat.v4 import new_code_cell, new_notebook

from waiting import CEILING, wait_for

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "09_off_policy_evaluation.ipynb"


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
    stop_kernels(server)


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
    root = lab[0]
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    name = secrets.token_hex(4)  # a workspace of its own: the page opens no tab of another test
    nbformat.write(node, root / f"{name}.ipynb")
    n_code = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in node.cells)
    open_notebook(page, lab, name)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()

    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    numbered = [f"[{n}]:" for n in range(1, n_code + 1)]
    # JupyterLab shows errors and stderr alike; a lesson has neither.
    errors = page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']")

    def finished():
        return errors.count() or [p.strip() for p in prompts.all_inner_texts() if p.strip() != "[ ]:"] == numbered

    wait_for("every cell's number", finished)
    words = page.locator(".jp-OutputArea-output").all_inner_texts()
    return {"name": name, "errors": errors.all_inner_texts(), "text": "\n".join(words)}


def open_notebook(page, lab, name: str) -> None:
    """Open a notebook that lies there, and wait for its kernel."""
    _, address, token = lab
    wait_for("the server", lambda: ask(f"{address}/api/status", token))
    page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb?token={token}")
    page.locator(".jp-Notebook").wait_for()

    # Until the kernel is idle and the page is connected to it, Run All would open a dialog instead.
    def idle():
        kernels = [session["kernel"] for session in ask(f"{address}/api/sessions", token) or []]
        return any(k["execution_state"] == "idle" and k["connections"] > 0 for k in kernels)

    wait_for("an idle kernel", idle)
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()


def stop_kernels(lab) -> None:
    _, address, token = lab
    for session in ask(f"{address}/api/sessions", token) or []:
        ask(f"{address}/api/sessions/{session['id']}", token, method="DELETE")


def notebook(*sources: str):
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return new_notebook(cells=[new_code_cell(source) for source in sources], metadata=kernel)


def test_a_notebook_of_the_series_runs_in_a_browser(page, lab):
    node = nbformat.read(NOTEBOOK, as_version=4)
    stored = sum("image/png" in o.get("data", {}) for c in node.cells for o in c.get("outputs", []))
    seen = run_all(page, lab, node)
    assert not seen["errors"], seen["errors"]
    figures = page.locator(".jp-RenderedImage img")
    assert stored > 0
    wait_for("the last figure", lambda: figures.count() >= stored)
    assert figures.count() == stored
    assert "OUTSIDE" not in seen["text"]


RISE = """
import ipywidgets
from reclab import plots

def rise(top):
    fig, ax = plots.figure(title="A line")
    ax.plot([0, top])
    return plots.show(fig, "A line that rises from zero to " + str(top))

plots.Explorer(rise, top=%s)"""
EXPLORERS = {
    ".noUi-handle": RISE % "ipywidgets.IntSlider(1, 0, 5)",
    "select": RISE % "ipywidgets.Dropdown(options=[1, 2, 3])",
    "textarea": """
from reclab import plots
plots.text_explorer(lambda typed: f"<p>{len(typed)} letters</p>", "four")""",
}


def shown(cell) -> list:
    """What a cell shows: the address of its picture, which is new for each picture, and its words."""
    images = cell.locator(".jp-RenderedImage img")
    return [images.nth(n).get_attribute("src") for n in range(images.count())] + words(cell)


def words(cell) -> list[str]:
    return cell.locator(".jp-RenderedHTML").all_inner_texts()


def use(page, control: str, handle) -> None:
    """Change a control by keys alone."""
    handle.focus()
    if control == "textarea":
        page.keyboard.press("Control+End")
        page.keyboard.type("teen")
        page.keyboard.press("Tab")  # the text counts once its box is left
    elif control == "select":  # JupyterLab takes the arrows up and down for itself, to go from cell to cell
        page.keyboard.press("End")
    else:
        page.keyboard.press("ArrowRight")


def test_explorers_follow_the_keyboard_and_stay_without_their_kernel(page, lab):
    seen = run_all(page, lab, notebook(*EXPLORERS.values()))
    assert not seen["errors"], seen["errors"]
    cells = [page.locator(".jp-CodeCell").nth(place) for place in range(len(EXPLORERS))]

    def follows(cell, control):
        cell.scroll_into_view_if_needed()
        handle = cell.locator(control).first
        handle.wait_for()
        before = wait_for("the explorer to show all of itself", lambda: shown(cell))
        use(page, control, handle)
        wait_for("the explorer to follow", lambda: shown(cell)[-1] != before[-1] and shown(cell)[0] != before[0])
        return shown(cell)

    left = [follows(*each) for each in zip(cells, EXPLORERS, strict=True)]
    rises = "A line that rises from zero to"
    assert [said[-1] for said in left] == [f"{rises} 2", f"{rises} 3", "8 letters"]
    image = cells[0].locator(".jp-RenderedImage img")
    assert image.evaluate("image => [image.clientWidth, image.naturalWidth]") == [770, 770], "it is stretched"

    page.keyboard.press("Control+s")
    file = lab[0] / f"{seen['name']}.ipynb"
    wait_for("the notebook to be saved", lambda: "8 letters" in file.read_text("utf-8"))
    stop_kernels(lab)
    open_notebook(page, lab, seen["name"])  # with a kernel that knows nothing of the controls

    def stays(cell, before):
        cell.scroll_into_view_if_needed()
        wait_for("what was left", lambda: shown(cell) == before)
        lost = cell.locator(".jp-OutputArea-output.jupyter-widgets")
        lost.wait_for()
        assert lost.evaluate("lost => getComputedStyle(lost).fontSize") == "0px", "an error is seen"
        assert "Run this cell" in lost.evaluate("lost => getComputedStyle(lost, '::after').content")

    for each in zip(cells, left, strict=True):
        stays(*each)
