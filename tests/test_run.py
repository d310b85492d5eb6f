"""Running notebooks: outputs, results, costs and faults; the pages and the index; the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import reclab.run
from reclab import __version__, assets, calibrate, receipts
from reclab.errors import AssetError
from reclab.profiles import PROFILES, get_profile
from reclab.results import Result
from reclab.run import Run, kernel_environment, main, mathml, run_notebook, write_index, write_notebook
from small_notebooks import BANDS, CHECK, write
from waiting import CEILING, wait_for

# --- one notebook


@pytest.fixture
def env(tmp_path):
    profile = get_profile("laptop", seed=7)
    return kernel_environment(profile, derived=tmp_path / "derived", ledger=tmp_path / "ledger")


def printed(run, cell=0):
    return run.node.cells[cell].outputs[0].text


def test_a_run_has_its_outputs_results_and_costs(tmp_path, env):
    check = BANDS.format(bands="{'02.in': {'low': 0, 'high': 1}, '02.out': {'low': 0, 'high': 1}}")
    path = write(tmp_path, "02_a", check + "_ = check('02.in', 0.5), check('02.out', 2), check('02.new', 3)")
    before, start = path.read_bytes(), time.perf_counter()
    run = run_notebook(path, env=env)
    passed = time.perf_counter() - start
    assert (run.number, run.name, run.error) == ("02", "02_a", None)
    verdicts = {key: result.verdict for key, result in run.results.items()}
    assert verdicts == {"02.in": "within", "02.out": "OUTSIDE", "02.new": "recorded"}
    assert [r.key for r in run.outside] == ["02.out"] and not run.ok
    assert 0.2 < run.seconds <= passed
    assert "02.out = 2  OUTSIDE its band [0, 1]" in printed(run)
    assert str(run).endswith(" MiB, 3 results, 02.out = 2  OUTSIDE its band [0, 1]")
    assert path.read_bytes() == before
    assert run_notebook(write(tmp_path, "02_a", "1"), env=env).results == {}, "those of an earlier run count"


ABOUT = """
import json, os, sys
settings = {k: v for k, v in os.environ.items() if k[:7] == "RECLAB_"}
policy = os.environ["OMP_WAIT_POLICY"]
print(json.dumps([sys.executable, os.getcwd(), settings, "mine" in globals(), policy]))
"""


def test_the_kernel_is_this_python_with_its_own_settings_and_leaves_the_users_alone(tmp_path, monkeypatch):
    # A kernel of another Python is registered under the usual name: it must not be started.
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = ["/no/such/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    start_up = tmp_path / "home" / ".ipython" / "profile_default" / "startup"
    start_up.mkdir(parents=True)
    (start_up / "a.py").write_text("mine = 1")
    monkeypatch.setenv("JUPYTER_PATH", str(spec.parent.parent))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RECLAB_DATA", "my/data")
    monkeypatch.chdir(tmp_path)
    before, files = dict(os.environ), set(start_up.parent.rglob("*"))
    env = kernel_environment(get_profile("laptop", seed=7), derived=Path("d"), ledger=Path("l"))
    run = run_notebook(write(tmp_path / "notebooks", "00_a", ABOUT), env=env)
    python, folder, settings, mine, policy = json.loads(printed(run))
    assert (python, folder, mine) == (sys.executable, str(tmp_path / "notebooks"), False)
    assert policy == os.environ["OMP_WAIT_POLICY"]
    assert settings == {
        "RECLAB_PROFILE": "laptop",
        "RECLAB_SEED": "7",
        "RECLAB_PRECISION": "no",
        "RECLAB_MODEL": "minilm-l6",
        "RECLAB_DERIVED": str(tmp_path / "d"),
        "RECLAB_LEDGER": str(tmp_path / "l"),
        "RECLAB_DATA": str(tmp_path / "my" / "data"),
    }
    assert dict(os.environ) == before and set(start_up.parent.rglob("*")) == files


def kernels() -> list[str]:
    """Kernels that are children of this process; other tests may have left helpers of their own."""
    lines = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    return [line for line in lines if "ipykernel" in line]


def test_peak_memory_counts_the_kernel_and_its_children(tmp_path, env, monkeypatch):
    # What takes memory holds it until the runner begins its second look: the first has then seen it.
    look = psutil.Process.children

    def tell_and_look(process, **options):
        with (tmp_path / "looks").open("a") as looks:
            looks.write(".")
        return look(process, **options)

    monkeypatch.setattr(psutil.Process, "children", tell_and_look)
    hold = "from os.path import getsize as n; x = bytearray(b'1') * {} * 2**20; end = n('looks') + 2\n"
    hold += "import time\nwhile n('looks') < end: time.sleep(.05)"
    child = f"import subprocess, sys\n_ = subprocess.run([sys.executable, '-c', {hold.format(150)!r}])"
    small = run_notebook(write(tmp_path, "00_a", "1"), env=env).peak
    large = run_notebook(write(tmp_path, "00_b", hold.format(200)), env=env).peak
    both = run_notebook(write(tmp_path, "00_c", child), env=env).peak
    assert 20 < small < 150
    assert 190 < large - small < 260
    assert 145 < both - small < 200


def test_an_error_names_its_cell_and_says_why_in_one_line(tmp_path, env):
    cells = ["# Words", CHECK + "_ = check('02.a', 1)", "1 / 0", "raise ValueError('two\\nlines')", "print(1)"]
    path = write(tmp_path, "02_a", *cells)
    node = nbformat.read(path, 4)
    node.cells[2].metadata.tags = ["raises-exception"]  # a lesson may show an error on purpose
    run = run_notebook(path, env=env, node=node)
    assert run.error == "cell [3]: ValueError: two lines" and not run.ok
    assert list(run.results) == ["02.a"]
    assert run.node.cells[3].execution_count == 3
    assert run.node.cells[4].outputs == []


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "cell [2]: the kernel died (killed by the system"),
        ("import os; os._exit(3)", "cell [2]: the kernel died (exit status 3)"),
        (
            "import os; os.write(2, b'out of luck\\n'); os._exit(4)",
            "cell [2]: the kernel died (exit status 4: out of luck)",
        ),
        ("while True: pass", "cell [2]: took longer than 1 s; --timeout gives it more"),
    ],
)
def test_a_kernel_that_dies_or_hangs_is_one_clear_line(tmp_path, env, source, reason):
    timeout = 1 if "while" in source else CEILING
    run = run_notebook(write(tmp_path, "02_a", "1", source, "open('reached', 'w')"), env=env, timeout=timeout)
    assert run.error.startswith(reason) and "\n" not in run.error
    assert not kernels() and not (tmp_path / "reached").exists()


def test_a_kernel_that_cannot_start_says_why(tmp_path, env):
    (tmp_path / "ipykernel_launcher.py").write_text("raise SystemExit('no kernel today')")
    run = run_notebook(write(tmp_path, "02_a", "1"), env=env | {"PYTHONPATH": str(tmp_path)})
    assert run.error == "the kernel did not start (no kernel today)"


def test_nothing_is_printed_and_no_widget_state_is_stored(tmp_path, env):
    path = write(tmp_path, "02_a", "import ipywidgets\nipywidgets.IntSlider()")
    code = (
        "import json, pathlib, sys; from reclab.run import run_notebook\n"
        "run = run_notebook(pathlib.Path(sys.argv[1]), env=json.loads(sys.argv[2]))\n"
        "assert run.error is None\n"
        "assert not set(run.node.metadata) - {'kernelspec', 'language_info'}, run.node.metadata\n"
        "outputs = run.node.cells[0].outputs\n"
        "assert [o.output_type for o in outputs] == ['execute_result'], outputs\n"
        "assert run.node.cells[0].metadata == {}, run.node.cells[0].metadata\n"
    )
    strict = ["-X", "dev", "-W", "error::ResourceWarning"]
    command = [sys.executable, *strict, "-c", code, str(path), json.dumps(env)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.stdout == ""


# --- its page

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ALT = 'Clicks "rise" & fall <slowly>'


def shown(mime, value, **data):
    return new_output("display_data", {mime: value, **data})


def figure(alt=ALT):
    data = {"image/png": PNG + "\n", "text/plain": f"Figure: {alt}"}
    return new_output("display_data", data, metadata={"image/png": {"alt": alt}})


def run_of(*cells, number="02", **options):
    made = [new_markdown_cell(c) if isinstance(c, str) else new_code_cell("1", outputs=list(c)) for c in cells]
    return Run(f"{number}_name", new_notebook(cells=made), **options)


def page_of(*cells, folder=Path()):
    return BeautifulSoup(reclab.run.page(run_of(*cells), folder), "html.parser")


RUN = "document.title = 'ran'"
HOSTILE = [
    "[![Binder](http://localhost/badge.svg)](https://a.org) ![remote](//localhost/x.png) $x$",
    "```mermaid\ngraph TD;\n```",
    f"<img src='http://localhost/y.png' alt='words for it' onerror=\"{RUN}\"><style>@import 'http://localhost/f';</style>",
    f"<script src='http://localhost/s.js'></script><iframe srcdoc=\"<script>parent.{RUN}</script>\"></iframe>",
    f'<iframe src="http://localhost"></iframe><svg onload="{RUN}"></svg>',
    [
        shown("application/javascript", RUN),
        shown("text/html", "<style>b {background: url(http://localhost/b.png)} i {color: red}</style><b>bold</b>"),
        shown("text/html", f"<script type='module'>import x from 'http://localhost/m.js'; {RUN}</script><i>kept</i>"),
        shown("text/vnd.mermaid", "graph TD;", **{"text/plain": "a diagram"}),
    ],
]


def test_a_policy_that_lets_nothing_be_loaded_or_run_comes_before_all_else():
    soup = page_of(*HOSTILE)
    first = soup.head.find(["script", "link", "style", "base", lambda tag: "http-equiv" in tag.attrs])
    assert first["http-equiv"] == "Content-Security-Policy"
    allowed = dict(part.split(maxsplit=1) for part in first["content"].split("; "))
    assert allowed == {"default-src": "'none'", "img-src": "data:", "style-src": "'unsafe-inline'", "font-src": "data:"}
    for words in ("words for it", "remote"):
        assert soup.find("img", alt=words)
    assert "bold" in soup.text and "kept" in soup.text and "a diagram" in soup.text
    assert soup.find("a", href="https://a.org")  # a link is followed only on a click


def test_figures_are_embedded_with_their_words_and_so_are_the_images_of_the_prose(tmp_path):
    (tmp_path / "x.png").write_bytes(b"png")
    plain = shown("image/png", PNG, **{"text/plain": "<Figure size 640x480>"})
    soup = page_of([figure(), plain], "![a picture](x.png)", folder=tmp_path)
    data = f"data:image/png;base64,{PNG}"
    found = [(image["alt"], image["src"]) for image in soup("img")]
    assert found == [
        (ALT, data),
        ("<Figure size 640x480>", data),
        ("a picture", "data:image/png;base64,cG5n"),
    ]


def test_maths_shows_without_a_script_and_code_stays_code():
    prose = "Reward $\\sum_k \\pi_k w_k$ of `$5$`.\n\n$$\\frac{a}{b}$$\n\n```\n$$c$$\n```\n\nCosts \\$3."
    latex = shown("text/latex", "$\\displaystyle \\frac{1}{2}$", **{"text/plain": "1/2"})
    soup = page_of(prose, "$$\\begin{aligned} a &= b \\end{aligned}$$", [latex])
    inline, block, aligned, output = soup("math")
    assert inline["display"] == "inline" and inline.find("mo").text == "∑"
    assert block["display"] == "block" and block.find("mfrac")
    assert aligned.find("mtable") and output.find("mfrac")
    cell = soup.find(class_="jp-RenderedMarkdown")
    assert cell.find("code").text == "$5$" and cell.find("pre").text.strip() == "$$c$$"
    assert "Costs $3." in cell.text


@pytest.mark.parametrize("tex", ["\\foo{x}", "x_{", "\\begin{gather} a & b \\end{gather}"])
def test_maths_that_is_not_understood_stays_as_typed(tex):
    assert mathml(tex) is None
    soup = page_of(f"So ${tex}$ it is")
    assert soup("math") == [] and f"${tex}$" in soup.find(class_="jp-RenderedMarkdown").text


def test_a_widget_shows_its_picture_or_its_words():
    view = {"model_id": "abc", "version_major": 2, "version_minor": 0}
    mime = "application/vnd.jupyter.widget-view+json"
    soup = page_of([shown(mime, view, **{"text/plain": "Slider 3"})], [shown(mime, view, **figure().data)])
    assert "Slider 3" in soup.text and soup.find("img") and "abc" not in str(soup)


# --- the index

PLANNED = ["02_name", "04_name", "06_name"]


@pytest.fixture
def runs():
    results = [
        Result("02.n", 1234567, None, None, "recorded"),
        Result("02.auc", 0.9471, 0.92, 0.96, "within", (0.93, 0.9612), "AUC of the fine-tuned"),
        Result("02.regret", 7, 1, 5, "OUTSIDE"),
    ]
    table = shown("text/html", "<b>1</b>", **{"text/plain": "Which?\n  AUC of the fine-tuned = 0.95"})
    first = run_of([figure()], [table], seconds=93.2, peak=1310.4, results={each.key: each for each in results})
    first.node.cells += [new_code_cell("check(f'02.{name}', 7)", outputs=[new_output("stream", text="02.regret = 7")])]
    second = run_of([figure("Another <b>figure</b>")], number="04", seconds=5, peak=50, error="cell [2]: KeyError: 'x'")
    return [first, second]


def index(folder, runs, planned=PLANNED, note="", started="2026-01-02T03:04:05"):
    write_index(folder, runs, get_profile("laptop", seed=3), planned, started, note)
    return BeautifulSoup((folder / "index.html").read_text("utf-8"), "html.parser")


def rows(table):
    return [[cell.get_text(" ", strip=True) for cell in row(["th", "td"])] for row in table("tr")[1:]]


def test_the_index_says_what_ran_where_how_and_what_came_out(runs, tmp_path):
    soup = index(tmp_path, runs)
    header = soup.find("header").text
    for words in (
        "laptop, seed 3",
        "2026-01-02T03:04:05",
        f"numpy {receipts.versions()['numpy']}",
        "1 OUTSIDE its band",
    ):
        assert words in header
    assert receipts.machine()["platform"] in header
    assert rows(soup("table")[0]) == [
        ["02_name", "93", "1,310", "3", "1 OUTSIDE"],
        ["04_name", "5", "50", "0", "cell [2]: KeyError: 'x'"],
        ["06_name", "–", "–", "–", "not run"],
    ]
    assert rows(soup("table")[1]) == [  # what is outside comes first
        ["02.regret", "7", "[1, 5]", "OUTSIDE"],
        ["02.n", "1,234,567", "–", "recorded, no band for laptop"],
        ["AUC of the fine-tuned 02.auc", "0.9471 [0.93, 0.9612]", "[0.92, 0.96]", "within"],
    ]
    assert soup("table")[1]("tr")[1]["class"] == ["outside"]
    assert soup("script") == [] and not re.search(r"(src|url\()=?\W*https?:", str(soup))
    first, second = soup("figure")
    assert first.find("img")["alt"] == ALT and ALT in first.find("figcaption").text
    assert first.find("img")["src"] == f"data:image/png;base64,{PNG}"
    assert second.find("img")["alt"] == "Another <b>figure</b>" and second.find("b") is None


def test_every_link_of_a_report_leads_somewhere_and_each_page_back_to_the_index(runs, tmp_path):
    runs[0].node.cells.append(new_markdown_cell("[later](06_name.ipynb) [me](#top)"))
    for run in runs:
        write_notebook(run, tmp_path, tmp_path)
    index(tmp_path, runs)
    pages = {path.name: BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in tmp_path.glob("*.html")}
    assert set(pages) == {"02.html", "04.html", "index.html"}
    links = [a["href"] for page in pages.values() for a in page("a", href=True) if not a["href"].startswith("#")]
    assert len(links) > 6 and "index.html#06" in links
    for link in links:
        file, _, anchor = link.partition("#")
        assert file in pages and (not anchor or pages[file].find(id=anchor)), link
    assert pages["02.html"].find("nav").find("a")["href"] == "index.html"
    assert (tmp_path / "notebooks" / "02.ipynb").read_text("utf-8").endswith("}\n")


def test_a_report_says_whether_it_is_partial(runs, tmp_path):
    notice = index(tmp_path, runs, note="Stopped by Ctrl-C in 04_name.").find(class_="notice").text
    assert "This report is partial." in notice
    assert "Stopped by Ctrl-C in 04_name." in notice and "Not run: 06_name." in notice
    assert "partial" not in index(tmp_path, runs[:1], ["02_name"]).text
    assert json.loads((tmp_path / "receipt.json").read_text("utf-8"))["complete"] is True
    empty = index(tmp_path, []).text
    assert "0 of 3 notebooks, 0 results" in empty and "Not run: 02_name, 04_name, 06_name." in empty


def test_the_receipt_holds_what_another_run_is_compared_with(runs, tmp_path):
    runs[0].results["02.bad"] = Result("02.bad", float("nan"), 0, 1, "OUTSIDE", (float("-inf"), 1.0))
    index(tmp_path, runs)
    text = (tmp_path / "receipt.json").read_text("utf-8")
    kept = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert kept["schema"] == 2 and kept["complete"] is False and kept["planned"] == PLANNED
    assert (kept["profile"], kept["seed"], kept["started"]) == ("laptop", 3, "2026-01-02T03:04:05")
    assert (kept["results"][0]["key"], kept["results"][0]["value"]) == ("02.n", 1234567)
    assert kept["results"][-1]["value"] == "nan" and kept["results"][-1]["interval"] == ["-inf", 1.0]
    assert kept["notebooks"][0]["seconds"] == 93.2 and kept["notebooks"][0]["peak_mib"] == 1310.4
    assert kept["notebooks"][1]["error"] == "cell [2]: KeyError: 'x'"


# --- the command line


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with notebooks to run, whose assets are there already; returns it and what was fetched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECLAB_LEDGER", raising=False)
    monkeypatch.setenv("RECLAB_DERIVED", str(tmp_path / "cache"))
    fetched = []
    monkeypatch.setattr(assets, "fetch", lambda name, verbose=False: fetched.append((name, verbose)))
    return tmp_path, fetched


def only_run(folder):
    (run,) = (folder / "runs").iterdir()
    return run


OUTSIDE = BANDS.format(bands="{'02.b': {'low': 0, 'high': 1}}") + "check('02.b', 7)"


def test_run_executes_the_series_and_writes_its_report(checkout, capsys):
    folder, fetched = checkout
    write(folder / "notebooks", "00_start", "# Words", CHECK + "check('00.a', 0.5)\ncheck('00.b', 2)")
    write(folder / "notebooks", "02_bert", "print('hello')")
    assert main(["run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"00_start \.\.\. \d+ s, \d+ MiB, 2 results, ok", said[0])
    assert re.fullmatch(r"02_bert \.\.\. \d+ s, \d+ MiB, 0 results, ok", said[1])
    run = only_run(folder)
    assert said[2] == f"The report is {run / 'index.html'}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", run.name)
    names = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    executed = {"notebooks/00.ipynb", "notebooks/02.ipynb", "ledger/00.json"}
    assert names == executed | {"index.html", "receipt.json", "00.html", "02.html"}
    assert "hello" in (run / "02.html").read_text("utf-8")
    assert json.loads((run / "receipt.json").read_text("utf-8"))["complete"] is True
    assert fetched == [(name, True) for name in reclab.run.DATA]
    assert {p.name for p in folder.iterdir()} == {"notebooks", "runs"}


def test_run_takes_names_a_folder_a_profile_and_a_seed(checkout, monkeypatch, capsys):
    folder, fetched = checkout
    monkeypatch.setenv("RECLAB_SEED", "5")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    source = "import os\nprint(os.environ['RECLAB_PROFILE'], os.environ['RECLAB_SEED'])"
    for name in ("00_start", "02_bert", "04_fusion"):
        write(folder / "notebooks", name, source)
    assert main(["run", "4", "02_bert", "--out", "mine", "--profile", "gpu"]) == 0
    assert capsys.readouterr().out.startswith("No GPU is found, so profile gpu takes hours")
    assert {p.name for p in (folder / "mine" / "notebooks").iterdir()} == {"02.ipynb", "04.ipynb"}
    assert "gpu 5" in (folder / "mine" / "02.html").read_text("utf-8")
    receipt = json.loads((folder / "mine" / "receipt.json").read_text("utf-8"))
    assert (receipt["profile"], receipt["seed"]) == ("gpu", 5)
    assert fetched[-1][0] == PROFILES["gpu"].model and len(fetched) == 6


def test_fresh_starts_with_an_empty_derived_cache_and_leaves_the_users_alone(checkout):
    folder, _ = checkout
    (folder / "cache").mkdir()
    (folder / "cache" / "old").write_text("kept")
    source = (
        "import os, pathlib\nderived = pathlib.Path(os.environ['RECLAB_DERIVED'])\n"
        "print('found', [p.name for p in derived.glob('*')])\n"
        "derived.mkdir(exist_ok=True)\n_ = (derived / 'new').write_text('x')"
    )
    write(folder / "notebooks", "00_start", source)
    assert main(["run", "--fresh", "--out", "a"]) == 0
    assert "found []" in (folder / "a" / "00.html").read_text("utf-8")
    assert not (folder / "a" / "derived").exists()
    assert [p.name for p in (folder / "cache").iterdir()] == ["old"]
    assert main(["run", "--out", "b"]) == 0
    html = BeautifulSoup((folder / "b" / "00.html").read_text("utf-8"), "html.parser")
    assert "found ['old']" in html.text


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_run_fails_on_an_error_or_a_number_outside_and_goes_on_only_where_asked(checkout, capsys, keep_going):
    folder, _ = checkout
    write(folder / "notebooks", "02_bert", OUTSIDE)
    write(folder / "notebooks", "04_fusion", "raise ValueError('no\\nluck')")
    write(folder / "notebooks", "05_click", "import time; time.sleep(3600)")
    assert main(["run", "--timeout", "1", *["--keep-going"] * keep_going]) == 1
    said = capsys.readouterr().out.splitlines()
    index = (only_run(folder) / "index.html").read_text("utf-8")
    assert said[0].endswith("1 result, 02.b = 7  OUTSIDE its band [0, 1]")
    if not keep_going:
        assert said[1].startswith("Stopped after 02_bert, which failed. The report is ")
        assert "This report is partial." in index and "Not run: 04_fusion, 05_click." in index
        return
    assert said[1].endswith("0 results, cell [1]: ValueError: no luck")
    assert "cell [1]: took longer than 1 s" in said[2] and said[3].startswith("The report is ")
    assert (only_run(folder) / "05.html").is_file() and "Not run" not in index


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "7"], "there is no notebook named '7'; choose one of: 00_start"),
        (["run", "strat"], "there is no notebook named 'strat'; choose one of: 00_start (did you mean '00_start'?)"),
        (["run", "--profile", "huge"], "there is no profile named 'huge'; choose one of: gpu, laptop"),
        (["calibrate", "bert"], "there is no notebook named 'bert'; choose one of: 00_start"),
        (["data", "fetch", "netflix"], "there is no asset named 'netflix'; choose one of: "),
        (["data", "verify", "netflix"], "there is no asset named 'netflix'; choose one of: "),
        (["rnu"], "there is no command named 'rnu'; choose one of: calibrate, data, doctor, grade, release, run, "),
    ],
)
def test_an_unknown_name_is_one_line_and_status_2(checkout, capsys, argv, message):
    folder, fetched = checkout
    write(folder / "notebooks", "00_start", "1")
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"reclab: {message}") and said.err.count("\n") == 1
    assert said.out == "" and fetched == []
    assert not (folder / "runs").exists()


def test_an_asset_that_cannot_be_fetched_stops_the_run_before_it_starts(checkout, capsys, monkeypatch):
    folder, _ = checkout
    write(folder / "notebooks", "00_start", "1")

    def fail(name, verbose=False):
        raise AssetError(f"{name} cannot be fetched")

    monkeypatch.setattr(assets, "fetch", fail)
    assert main(["run"]) == 1
    assert capsys.readouterr().err == "reclab: movielens-100k cannot be fetched\n"
    assert not (folder / "runs").exists()


def test_a_folder_in_use_is_refused(checkout, capsys):
    folder, _ = checkout
    write(folder / "notebooks", "00_start", "1")
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("precious")
    assert main(["run", "--out", "mine"]) == 1
    assert "is not empty; name a new folder after --out" in capsys.readouterr().err
    assert [p.name for p in (folder / "mine").iterdir()] == ["thesis.txt"]
    assert main(["run", "--out", "mine/thesis.txt"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


SERIES = """
import signal, sys
from reclab import assets, run
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with Ctrl-C ignored
assets.fetch = lambda name, verbose=False: None
sys.exit(run.main(["run", "--fresh"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_leaves_a_usable_partial_report(checkout):
    folder, _ = checkout
    write(folder / "notebooks", "00_start", CHECK + "check('00.a', 3)")
    slow = CHECK + "check('02.a', 4)\nopen('started', 'w').close()\nimport time; time.sleep(3600)"
    write(folder / "notebooks", "02_bert", slow)
    write(folder / "notebooks", "04_fusion", "1")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", SERIES], **pipes)
    started = folder / "notebooks" / "started"
    wait_for("the second notebook", lambda: started.exists() or process.poll() is not None)
    kernels = psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=CEILING)
    assert process.returncode == 130, err
    assert err == ""
    run = only_run(folder)
    said = out.splitlines()
    assert said[0].endswith("1 result, ok") and said[1].endswith("1 result, stopped by Ctrl-C")
    assert said[2] == f"Stopped by Ctrl-C in 02_bert. The report is {run / 'index.html'}"
    text = " ".join(BeautifulSoup((run / "index.html").read_text("utf-8"), "html.parser").text.split())
    assert "This report is partial. Stopped by Ctrl-C in 02_bert. Not run: 04_fusion." in text
    assert "00.a" in text and "02.a" in text
    assert (run / "00.html").is_file() and (run / "02.html").is_file()
    assert not (run / "derived").exists()
    assert kernels and not any(kernel.is_running() for kernel in kernels)


def test_calibrate_writes_bands_and_judges_the_proof(checkout, capsys, monkeypatch):
    folder, fetched = checkout
    for name in ("00_start", "02_bert"):
        write(folder / "notebooks", name, "1")

    def run_afresh(path, profile):  # notebook 02 changes with the third seed
        key = f"{path.stem[:2]}.a"
        value = 6 if key == "02.a" and profile.seed > 2 else 5
        return Run(path.stem, None, results={key: Result(key, value, None, None, "recorded")})

    monkeypatch.setattr(reclab.run, "run_afresh", run_afresh)
    monkeypatch.setattr(calibrate, "code_hash", lambda node: "code")
    assert main(["calibrate", "0", "--seeds", "2", "--prove", "1"]) == 0
    assert "00_start: 100.0% of the results of 1 fresh seeds inside" in capsys.readouterr().out
    assert (folder / "notebooks" / "expected" / "laptop" / "00.toml").is_file()
    assert not (folder / "notebooks" / "expected" / "laptop" / "02.toml").exists()
    assert len(fetched) == 5
    assert main(["calibrate", "2", "--seeds", "2", "--prove", "1"]) == 1
    said = capsys.readouterr()
    assert "  seed 3: 02.a = 6 lies outside [5, 5]\n" in said.out
    assert said.err == "reclab: 02_bert: fewer than 97% inside; measure more seeds\n"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["data", "burn"],
        ["calibrate", "--seeds", "many"],
        *(["run", "--timeout", n] for n in ("0", "inf", "nan")),
    ],
)
def test_what_the_command_line_does_not_know_has_status_2(argv, capsys):
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2 and "usage: reclab" in capsys.readouterr().err


def test_the_help_names_every_command_and_variable_and_loads_nothing_heavy():
    code = (
        "import sys, reclab.run\nprint(reclab.run.parser().format_help())\n"
        "print({'torch', 'pandas', 'nbclient', 'nbconvert', 'nbformat', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
    package = Path(reclab.run.__file__).parent
    read = {name for path in package.rglob("*.py") for name in re.findall(r"\bRECLAB_[A-Z]+", path.read_text("utf-8"))}
    assert read and read == set(re.findall(r"(?m)^  (RECLAB_\w+)", done.stdout))
    assert set(re.findall(r"(?m)^    (\w+)", done.stdout)) == set(reclab.run.COMMANDS)


def test_the_command_is_installed():
    command = Path(sys.executable).with_name("reclab")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"reclab {__version__}\n"
