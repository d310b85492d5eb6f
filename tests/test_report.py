import hashlib
import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from reclab import receipts, report
from reclab.profiles import get_profile
from reclab.results import Result
from reclab.runner import Run

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ALT = 'Clicks "rise" & fall <slowly>'
REMOTE = re.compile(r"(https?:)?//")


def figure(alt=ALT):
    data = {"image/png": PNG + "\n", "text/plain": f"Figure: {alt}"}
    return new_output("display_data", data, metadata={"image/png": {"alt": alt}})


def shown(mime, value, **data):
    return new_output("display_data", {mime: value, **data})


def run_of(*cells, number="02", **options):
    made = [new_markdown_cell(c) if isinstance(c, str) else new_code_cell("1", outputs=list(c)) for c in cells]
    return Run(number, f"{number}_name", new_notebook(cells=made), **options)


def result(key, value, low=None, high=None, verdict="recorded", interval=None):
    return key, Result(key, value, low, high, verdict, interval)


def from_network(html):
    """All that a browser would load for this page."""
    soup = BeautifulSoup(html, "html.parser")
    found = [
        tag[name]
        for tag in soup.find_all(True)
        for name in ("src", "srcset", "data", "poster", "background", "xlink:href")
        if REMOTE.match(tag.get(name, ""))
    ]
    found += [tag["href"] for tag in soup.find_all(["link", "image", "use", "base"], href=REMOTE)]
    for script in soup("script"):
        found += re.findall(r"""(?:import|from|fetch\(|src\s*=)\s*['"](?:https?:)?//[^'"]+""", script.text)
    for style in [*soup("style"), *soup.find_all(style=True)]:
        css = style.get("style") or style.text
        found += re.findall(r"@import[^;]+", css) + re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]+", css)
    return found


HOSTILE = run_of(
    "[![Binder](https://a.org/badge.svg)](https://a.org) ![remote](//a.org/x.png) $x$",
    "```mermaid\ngraph TD;\n```",
    "<img src='https://a.org/y.png' alt='words for it'><style>@import 'https://a.org/f.css';</style>",
    "<script src='https://a.org/s.js'></script><iframe src='https://a.org'></iframe>",
    [
        shown("application/javascript", "alert(1)"),
        shown("text/html", "<style>b {background: url(https://a.org/b.png)} i {color: red}</style><b>bold</b>"),
        shown("text/html", "<script type='module'>import x from 'https://a.org/m.js'</script><i>kept</i>"),
        shown("text/vnd.mermaid", "graph TD;", **{"text/plain": "a diagram"}),
    ],
)


def test_a_page_loads_nothing_from_the_network():
    plain, _ = HTMLExporter().from_notebook_node(HOSTILE.node)
    assert len(from_network(plain)) > 8  # what the test would catch
    html = report.page(HOSTILE)
    assert from_network(html) == []
    soup = BeautifulSoup(html, "html.parser")
    assert soup("script") == []
    text = soup.text
    assert "Binder" in text and "remote" in text and "words for it" in text and "a diagram" in text
    assert "bold" in text and "kept" in text
    assert any("color: red" in style.text for style in soup("style"))
    assert soup.find("a", href="https://a.org").text == "Binder"  # a link is followed only on a click


def test_figures_are_embedded_with_their_alt_text():
    image = BeautifulSoup(report.page(run_of([figure()])), "html.parser").find("img")
    assert image["alt"] == ALT
    assert image["src"] == f"data:image/png;base64,{PNG}"


def test_a_figure_without_alt_text_keeps_its_plain_text():
    image = shown("image/png", PNG, **{"text/plain": "<Figure size 640x480>"})
    soup = BeautifulSoup(report.page(run_of([image])), "html.parser")
    assert soup.find("img")["alt"] == "<Figure size 640x480>"


def test_local_images_of_the_prose_are_embedded(tmp_path):
    (tmp_path / "x.png").write_bytes(b"png")
    html = report.page(run_of("![a picture](x.png)"), tmp_path)
    image = BeautifulSoup(html, "html.parser").find("img")
    assert image["src"] == "data:image/png;base64,cG5n" and image["alt"] == "a picture"


def test_maths_shows_without_a_script_and_code_stays_code():
    prose = "Reward $\\sum_k \\pi_k w_k$ of `$5$`.\n\n$$\\frac{a}{b}$$\n\n```\n$$c$$\n```\n\nCosts \\$3."
    soup = BeautifulSoup(report.page(run_of(prose)), "html.parser")
    inline, block = soup("math")
    assert inline["display"] == "inline" and inline.find("mo").text == "∑"
    assert block["display"] == "block" and block.find("mfrac")
    cell = soup.find(class_="jp-RenderedMarkdown")
    assert cell.find("code").text == "$5$"
    assert cell.find("pre").text.strip() == "$$c$$"
    assert "Costs $3." in cell.text


@pytest.mark.parametrize("tex", ["\\foo{x}", "x_{", "\\begin{gather} a & b \\end{gather}"])
def test_maths_that_is_not_understood_stays_as_typed(tex):
    assert report.mathml(tex) is None
    soup = BeautifulSoup(report.page(run_of(f"So ${tex}$ it is")), "html.parser")
    assert soup("math") == []
    assert f"${tex}$" in soup.find(class_="jp-RenderedMarkdown").text


def test_aligned_maths_and_latex_outputs_are_mathml():
    latex = shown("text/latex", "$\\displaystyle \\frac{1}{2}$", **{"text/plain": "1/2"})
    soup = BeautifulSoup(report.page(run_of("$$\\begin{aligned} a &= b \\end{aligned}$$", [latex])), "html.parser")
    assert soup.find(class_="jp-RenderedMarkdown").find("mtable")
    assert soup.find(class_="jp-RenderedLatex").find("mfrac")


def test_a_widget_shows_its_words():
    view = {"model_id": "abc", "version_major": 2, "version_minor": 0}
    html = report.page(run_of([shown("application/vnd.jupyter.widget-view+json", view, **{"text/plain": "Slider 3"})]))
    assert "Slider 3" in BeautifulSoup(html, "html.parser").text
    assert "abc" not in html


def test_links_to_other_notebooks_lead_to_the_index():
    soup = BeautifulSoup(report.page(run_of("[next](04_fusion.ipynb) [me](#top)")), "html.parser")
    assert soup.find("a", string="next")["href"] == "index.html#04"
    assert soup.find("a", string="me")["href"] == "#top"


@pytest.fixture
def runs():
    inside = result("02.auc", 0.9471, 0.92, 0.96, "within", [0.93, 0.9612])
    outside = result("02.regret", 7, 1, 5, "OUTSIDE")
    first = run_of([figure()], seconds=93.2, peak=1310.4, results=dict([result("02.n", 1234567), inside, outside]))
    second = run_of([figure("Another <b>figure</b>")], number="04", seconds=5, peak=50, error="cell [2]: KeyError: 'x'")
    return [first, second]


PLANNED = ["02_name", "04_name", "06_name"]


def index(runs, **options):
    html = report.index(runs, get_profile("laptop", seed=3), planned=PLANNED, **options)
    return html, BeautifulSoup(html, "html.parser")


def test_the_index_says_what_ran_where_and_how(runs):
    html, soup = index(runs, started="2026-01-02T03:04:05")
    header = soup.find("header").text
    assert "laptop, seed 3" in header and "2026-01-02T03:04:05" in header
    assert f"numpy {receipts.versions()['numpy']}" in header
    assert receipts.machine()["platform"] in header
    rows = [[cell.get_text(" ", strip=True) for cell in row(["th", "td"])] for row in soup("table")[0]("tr")[1:]]
    assert rows == [
        ["02_name", "93", "1,310", "3", "1 OUTSIDE"],
        ["04_name", "5", "50", "0", "cell [2]: KeyError: 'x'"],
        ["06_name", "–", "–", "–", "not run"],
    ]
    assert from_network(html) == [] and soup("script") == []


def test_the_index_puts_what_is_outside_first(runs):
    _, soup = index(runs)
    rows = [[cell.get_text(" ", strip=True) for cell in row(["th", "td"])] for row in soup("table")[1]("tr")[1:]]
    assert rows == [
        ["02.regret", "7", "[1, 5]", "OUTSIDE"],
        ["02.n", "1,234,567", "–", "recorded, no band for laptop"],
        ["02.auc", "0.9471 [0.93, 0.9612]", "[0.92, 0.96]", "within"],
    ]
    assert soup("table")[1]("tr")[1]["class"] == ["outside"]
    assert "1 OUTSIDE its band" in soup.find("header").text


def test_the_index_shows_each_figure_with_its_words_and_its_notebook(runs):
    _, soup = index(runs)
    first, second = soup("figure")
    assert first.find("img")["alt"] == ALT and ALT in first.find("figcaption").text
    assert first.find("img")["src"] == f"data:image/png;base64,{PNG}"
    assert first.find("a")["href"] == f"02.html#cell-id={runs[0].node.cells[0].id}"
    assert second.find("img")["alt"] == "Another <b>figure</b>" and second.find("b") is None


def test_every_link_of_a_report_leads_somewhere(runs, tmp_path):
    runs[0].node.cells.append(new_markdown_cell("[later](06_name.ipynb)"))
    for run in runs:
        report.write_notebook(run, tmp_path, tmp_path)
    report.write_index(tmp_path, runs, get_profile("laptop"), planned=PLANNED, started="now")
    pages = {path.name: BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in tmp_path.glob("*.html")}
    assert set(pages) == {"02.html", "04.html", "index.html"}
    links = [a["href"] for page in pages.values() for a in page("a", href=True) if not a["href"].startswith("#")]
    assert len(links) > 6
    for link in links:
        file, _, anchor = link.partition("#")
        assert file in pages, link
        assert not anchor or pages[file].find(id=anchor), link
    assert (tmp_path / "notebooks" / "02.ipynb").read_text("utf-8").endswith("}\n")


def test_a_report_says_whether_it_is_partial(runs, tmp_path):
    _, soup = index(runs, note="Stopped by Ctrl-C in 04_name.")
    notice = soup.find(class_="notice").text
    assert "This report is partial." in notice
    assert "Stopped by Ctrl-C in 04_name." in notice and "Not run: 06_name." in notice
    whole = report.index(runs[:1], get_profile("laptop"), planned=["02_name"])
    assert "partial" not in whole
    empty = BeautifulSoup(report.index([], get_profile("laptop"), planned=PLANNED), "html.parser")
    assert "0 of 3 notebooks, 0 results" in empty.text and "Not run: 02_name, 04_name, 06_name." in empty.text


def test_the_receipt_holds_what_another_run_is_compared_with(runs, tmp_path):
    runs[0].results["02.bad"] = Result("02.bad", float("nan"), 0, 1, "OUTSIDE", (float("-inf"), 1.0))
    profile = get_profile("laptop", seed=3)
    report.write_index(tmp_path, runs, profile, planned=PLANNED, started="2026-01-02T03:04:05")
    text = (tmp_path / "receipt.json").read_text("utf-8")
    kept = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert kept["schema"] == 2 and kept["complete"] is False and kept["planned"] == PLANNED
    assert (kept["profile"], kept["seed"], kept["started"]) == ("laptop", 3, "2026-01-02T03:04:05")
    package = Path(report.__file__).parent
    assert kept["sources"]["results.py"] == hashlib.sha256((package / "results.py").read_bytes()).hexdigest()
    assert set(kept["sources"]) >= {"cli.py", "data/splits.py", "assets.toml"}
    assert len(kept["assets"]["movielens-100k"]["ml-100k.inter"]) == 64
    assert kept["machine"]["cpu_capability"] and kept["machine"]["threads"] >= 1
    assert kept["versions"]["python"].startswith("3.")
    assert kept["results"][0] == {
        "key": "02.n",
        "value": 1234567,
        "low": None,
        "high": None,
        "verdict": "recorded",
        "interval": None,
        "label": "",
        "level": 0.95,
        "possible": None,
    }
    assert kept["results"][-1]["value"] == "nan" and kept["results"][-1]["interval"] == ["-inf", 1.0]
    assert kept["notebooks"][0]["seconds"] == 93.2 and kept["notebooks"][0]["peak_mib"] == 1310.4
    assert kept["notebooks"][1]["error"] == "cell [2]: KeyError: 'x'"
    report.write_index(tmp_path, runs[:1], profile, planned=PLANNED[:1], started="")
    assert json.loads((tmp_path / "receipt.json").read_text("utf-8"))["complete"] is True


def test_a_notebooks_hash_is_that_of_its_code():
    node = new_notebook(cells=[new_markdown_cell("words"), new_code_cell("set up"), new_code_cell("x = 1")])
    node.cells[1].metadata.tags = ["setup"]
    before = receipts.code_hash(node)
    node.cells[0].source, node.cells[1].source, node.cells[2].outputs = "more", "other", [figure()]
    assert receipts.code_hash(node) == before
    node.cells[2].source = "x = 2"
    assert receipts.code_hash(node) != before


def test_an_exercise_counts_only_where_the_lesson_uses_its_answer():
    def exercise(source):
        return new_code_cell(source, metadata={"nbgrader": {"solution": True}})

    lesson = [new_code_cell("def mean(x):\n    return sum(x) / len(x)"), new_code_cell("print(mean([1]), share(2))")]
    plain = receipts.code_hash(new_notebook(cells=lesson))
    idle, used = exercise("def half(x):\n    return x / 2"), exercise("def share(x):\n    return x")
    assert receipts.code_hash(new_notebook(cells=[*lesson, idle])) == plain
    with_answer = receipts.code_hash(new_notebook(cells=[used, *lesson]))
    assert with_answer != plain
    used.source = "def share(x):\n    return 2 * x"
    assert receipts.code_hash(new_notebook(cells=[used, *lesson])) != with_answer


def test_the_source_hash_ignores_what_only_runs_and_reports(monkeypatch):
    hashes = receipts.source_hashes()
    before = receipts.source_hash()
    monkeypatch.setattr(receipts, "source_hashes", lambda: hashes | {"report.py": "changed"})
    assert receipts.source_hash() == before
    monkeypatch.setattr(receipts, "source_hashes", lambda: hashes | {"data/splits.py": "changed"})
    assert receipts.source_hash() != before
    assert set(hashes) >= receipts.TOOLING
