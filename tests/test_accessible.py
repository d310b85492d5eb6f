"""axe-core, in a real browser, finds no serious fault on the pages that the package writes."""

import shutil
from pathlib import Path

import nbformat
import pytest

from reclab import classroom, results
from reclab.profiles import get_profile
from reclab.run import Run, main, write_index, write_notebook

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
GRAVE = {"serious", "critical"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Every kind of page: the report of a run with faults in it, a feedback."""
    folder, runs = tmp_path_factory.mktemp("pages"), []
    for path in results.find_notebooks(["03", "05", "10", "16"], NOTEBOOKS):  # all kinds of outputs are among them
        run = Run(path.stem, nbformat.read(path, as_version=4), seconds=1, peak=100)
        for key, band in results.bands(run.number, "laptop").items():
            run.results[key] = results.Result(key, band["mean"], band["low"], band["high"], results.WITHIN)
        runs.append(run)
        write_notebook(run, folder, NOTEBOOKS)
    runs[0].results["03.x"] = results.Result("03.x", 99.0, 0.0, 1.0, results.OUTSIDE)
    runs[-1].error = "cell [3]: MemoryError"
    planned = [*(run.name for run in runs), "99_missing"]
    write_index(folder, runs, get_profile("laptop"), planned=planned, started="2026-01-01", note="stopped")
    (series,) = classroom.read_masters(NOTEBOOKS, ["00"])
    classroom.release([series], folder / "in" / "ada")
    assert main(["grade", str(folder / "in"), "--out", str(folder / "scores.csv")]) == 0
    shutil.copy(folder / "scores_feedback" / "ada.html", folder / "feedback.html")
    return folder


# The contrast of a coloured word of code hangs on its kind, its colour and what it stands on: the longest of each kind
# stands for all.
ONE_OF_EACH_KIND = """() => {
    const kept = {};
    for (const word of document.querySelectorAll(".highlight span")) {
        const under = [];
        for (let box = word; box; box = box.parentElement) under.push(getComputedStyle(box).backgroundColor);
        const kind = [word.className, getComputedStyle(word).color, ...under].join();
        (kept[kind] ??= []).push(word);
    }
    for (const words of Object.values(kept)) {
        words.sort((a, b) => b.textContent.length - a.textContent.length);  // axe does not judge a single letter
        for (const word of words.slice(1)) word.replaceWith(...word.childNodes);
    }
}"""


def faults(page, path: Path) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page.goto(path.as_uri())
    page.evaluate(ONE_OF_EACH_KIND)
    found = axe.Axe().run(page).response
    assert found["passes"], "axe looked at nothing"
    return [
        f"{path.name}: {fault['help']}: {node['html'][:200]}"
        for fault in found["violations"]
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]


def test_no_page_has_a_serious_fault(page, written):
    paths = sorted(written.glob("*.html"))
    assert {"index.html", "feedback.html", "03.html"} <= {path.name for path in paths}
    assert not [fault for path in paths for fault in faults(page, path)]
