"""The teacher's guide says what the notebooks say, and its plans fit their minutes."""

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from reclab import cli, guide
from reclab.exercises import registry
from reclab.masters import read_masters

ROOT = Path(__file__).parent.parent
MASTERS = read_masters(ROOT / "notebooks")


@pytest.fixture(scope="module")
def text():
    return guide.guide(MASTERS)


@pytest.mark.parametrize("master", MASTERS, ids=lambda master: master.name)
def test_each_notebook_has_objectives_prerequisites_and_a_plan(master, text):
    one = guide.lesson(master)
    assert len(one.objectives) >= 3 and one.prerequisites and one.time
    assert all(f"- {objective}" in text for objective in one.objectives)
    assert all(f"| {part.title} | " in text for part in one.sections)
    assert 15 < sum(part.minutes for part in one.sections) < 200


@pytest.mark.parametrize("name", registry())
def test_each_exercise_has_its_rubric(name, text):
    entry = registry()[name]
    (task,) = [task for master in MASTERS for task in master.tasks if task.name == name]
    assert f"### {task.title}\n\n- **Points:** {task.points:g}" in text
    assert all(f"- {hint}" in text for hint in entry["wrong"].values())
    assert guide.instructions(task).startswith(f"## {task.title}")


@pytest.mark.parametrize("name", guide.PLANS)
def test_a_plan_keeps_to_its_time_and_has_exercises(name):
    by_number = {master.name[:2]: guide.sections(master) for master in MASTERS}
    tasks = 0
    for number, minutes in guide.PLANS[name]:
        kept, skipped = guide.chosen(by_number[number], minutes, guide.CORE.get(number, []))
        assert [*kept, *skipped] and not set(map(id, kept)) & set(map(id, skipped))
        assert sum(part.minutes for part in kept) <= max(minutes, by_number[number][0].minutes)
        tasks += sum(len(part.tasks) for part in kept)
    assert tasks >= len(guide.PLANS[name]) // 2


@pytest.mark.parametrize("number", guide.CORE)
def test_the_core_of_a_lesson_is_never_skipped(number):
    (master,) = [master for master in MASTERS if master.name.startswith(number)]
    parts, core = guide.sections(master), guide.CORE[number]
    assert set(core) <= {part.title for part in parts}
    for plan in guide.PLANS.values():
        for _, minutes in (row for row in plan if row[0] == number):
            assert set(core[:1]) <= {part.title for part in guide.chosen(parts, minutes, core)[0]}


def test_plans_fill_what_they_are_called():
    totals = {name: sum(minutes for _, minutes in plan) for name, plan in guide.PLANS.items()}
    assert totals["90 minutes"] == 90 and totals["3 hours"] == 180
    assert sorted(number for numbers in guide.WEEKS.values() for number in numbers) == [
        number for number, _ in guide.PLANS["6 weeks"]
    ]


def test_the_readme_tells_the_plan_of_the_guide():
    rows = re.findall(r"(?m)^\| (\d+)-(\d+) \| (\d\d) \|", (ROOT / "README.md").read_text("utf-8"))
    starts = [0, *(int(end) for _, end, _ in rows)]
    assert [int(start) for start, _, _ in rows] == starts[:-1], "each part begins where the one before it ends"
    assert [(number, int(end) - int(start)) for start, end, number in rows] == guide.PLANS["90 minutes"]


def test_the_command_writes_html_and_markdown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert cli.main(["guide", str(tmp_path / "guide.html"), "07"]) == 0
    page = BeautifulSoup((tmp_path / "guide.html").read_text("utf-8"), "html.parser")
    assert page.h1.text.startswith("Teacher's guide") and len(page.find_all("table")) >= 3
    assert cli.main(["guide", str(tmp_path / "guide.md")]) == 0
    assert (tmp_path / "guide.md").read_text("utf-8") == guide.guide(MASTERS)
    assert cli.main(["guide", str(tmp_path / "guide.doc")]) == 1
    assert "as .md or .html, not as 'guide.doc'" in capsys.readouterr().err
