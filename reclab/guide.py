"""A teacher's guide, made from the notebooks that students work in: plan, objectives, rubric, what goes wrong.

Minutes are a rule of thumb, the same for every notebook: reading at `WORDS_A_MINUTE`, `CODE` for a code cell, `PREDICT`
for a prediction that students write down before they run, and `EXERCISE` or `LAB` for an exercise.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ReclabError
from .exercises import registry
from .masters import Master, Task, is_check, is_solution, read_masters
from .results import write_atomically
from .series import notebooks_folder

WORDS_A_MINUTE, CODE, PREDICT, EXERCISE, LAB = 150, 0.75, 2, 8, 12

# Minutes for each notebook, in the order of the lesson; what does not fit is what to skip.
PLANS: dict[str, list[tuple[str, int]]] = {
    "90 minutes": [("00", 15), ("01", 20), ("02", 20), ("06", 20), ("08", 15)],
    "3 hours": [
        *[("00", 15), ("01", 25), ("02", 25), ("05", 30)],
        *[("06", 30), ("07", 20), ("08", 25), ("12", 10)],
    ],
    "6 weeks": [
        *[("00", 30), ("01", 95), ("02", 75), ("03", 95), ("04", 95), ("05", 90), ("06", 110)],
        *[("07", 105), ("08", 80), ("09", 95), ("10", 90), ("11", 105), ("12", 90)],
    ],
}
WEEKS = {
    1: ["00", "01", "02"],
    2: ["03", "04"],
    3: ["05", "06"],
    4: ["07", "08"],
    5: ["09", "10"],
    6: ["11", "12"],
}

CLOSING = "What you should have seen"
# The sections that a lesson is about, taken first when time is short.
CORE = {
    "00": ["Step 4 · A list ranked", "Step 6 · Feedback, and an honest evaluation"],
    "01": ["Splitting without leakage"],
    "02": ["Fine-tune", "Is it any good?", "What padding costs"],
    "05": ["Part two: rank the whole catalogue"],
    "06": ["A posterior for each option", "Against its rivals"],
    "07": ["A policy to value, and inverse propensity scoring"],
    "08": ["The scorecard", "Accuracy, with intervals"],
    "12": ["The verdict on the article", "E-commerce (D1)"],
}


@dataclass
class Section:
    """A part of a notebook under one heading, with the minutes that it takes."""

    title: str
    minutes: float = 0.0
    tasks: list[Task] = field(default_factory=list)


@dataclass(frozen=True)
class Lesson:
    """What the guide says of one notebook."""

    title: str
    number: str
    objectives: list[str]
    prerequisites: str
    time: str
    sections: list[Section]
    master: Master


def lesson(master: Master) -> Lesson:
    """Read a notebook's plan from its own cells."""
    first = master.cells[0].source
    learn = re.search(r"(?s)\*\*What you will learn\*\*\s*(.*?)\n\n(?!-)", first + "\n\n")
    bullets = re.findall(r"(?ms)^- (.*?)(?=^- |\Z)", learn[1]) if learn else []
    return Lesson(
        title=re.search(r"(?m)^# (.*)", first)[1],
        number=master.name[:2],
        objectives=[" ".join(bullet.split()) for bullet in bullets],
        prerequisites=_said(first, "Prerequisites"),
        time=_said(first, "Time and memory"),
        sections=sections(master),
        master=master,
    )


def _said(source: str, label: str) -> str:
    """What a paragraph says after its bold or slanted label; empty where there is none."""
    found = re.search(rf"(?ms)^\*+{label}:?\*+:?\s*(.*?)(?=\n\n|\n<|\n\*|\Z)", source)
    return " ".join(found[1].split()) if found else ""


def sections(master: Master) -> list[Section]:
    """The parts of a notebook in order; an exercise is a part of its own."""
    parts = [Section("Opening")]
    tasks = {task.position: task for task in master.tasks}
    for position, cell in enumerate(master.cells):
        if cell.cell_type == "markdown":
            for text in re.split(r"(?m)^(?=## )", cell.source):
                if text.startswith("## "):
                    parts.append(Section(text.splitlines()[0].lstrip("# ")))
                words = len(re.sub(r"(?s)<details>.*?</details>|```.*?```", "", text).split())
                parts[-1].minutes += words / WORDS_A_MINUTE
                parts[-1].minutes += PREDICT * len(re.findall(r"(?i)\*\*[^*]*predict[^*]*\*\*", text))
        elif is_check(cell):
            task = tasks[position]
            parts[-1].tasks.append(task)
            parts[-1].minutes += LAB if "break it" in task.title.lower() else EXERCISE
        elif not is_solution(cell):
            parts[-1].minutes += CODE
    return parts


def instructions(task: Task) -> str:
    """The Markdown cell that sets an exercise, from its heading on; empty where there is none."""
    for cell in reversed(task.master.cells[: task.position]):
        if cell.cell_type == "markdown" and (at := cell.source.find(f"## {task.title}")) >= 0:
            return cell.source[at:]
    return ""


def hints(text: str) -> list[str]:
    """The hints that a student may open one after the other."""
    found = re.findall(r"(?s)<details><summary>[^<]*</summary>\s*(.*?)\s*</details>", text)
    return [" ".join(hint.split()) for hint in found]


def chosen(parts: list[Section], minutes: float, core: list[str]) -> tuple[list[Section], list[Section]]:
    """Which sections fit into some minutes, and which to skip: the core first, then all in order.

    Parameters
    ----------
    core : titles of the sections that the lesson is about; the first one comes before the exercise.
    """
    exercise, closing = [part for part in parts if part.tasks][:1], [part for part in parts if part.title == CLOSING]
    kept, left = [], minutes
    middle = sorted((part for part in parts if part.title in core), key=lambda part: core.index(part.title))
    for part in [parts[0], *middle[:1], *exercise, *closing, *middle, *parts]:
        if part not in kept and (part.minutes <= left or part is parts[0]):
            kept.append(part)
            left -= part.minutes
    return [part for part in parts if part in kept], [part for part in parts if part not in kept]


def guide(masters: list[Master]) -> str:
    """The guide as Markdown."""
    lessons = [lesson(master) for master in masters]
    lines = ["# Teacher's guide", "", _opening(), "", *_plans(lessons)]
    for one in lessons:
        lines += _lesson_lines(one)
    return "\n".join(lines).rstrip() + "\n"


def _opening() -> str:
    return (
        f"Made from the notebooks themselves. Minutes are a rule of thumb: {WORDS_A_MINUTE} words a minute, "
        f"{CODE:g} for a code cell, {PREDICT} for a prediction, {EXERCISE} for an exercise, {LAB} for a lab. "
        "An exercise is right or not; the hint for a wrong answer is what the check says to the student."
    )


def _plans(lessons: list[Lesson]) -> list[str]:
    by_number = {one.number: one for one in lessons}
    lines = ["## What to skip", ""]
    for name, plan in PLANS.items():
        lines += [f"### {name}", "", "| notebook | minutes | exercises | skip |", "|---|---|---|---|"]
        for number, minutes in plan:
            if one := by_number.get(number):
                kept, skipped = chosen(one.sections, minutes, CORE.get(number, []))
                tasks = ", ".join(task.name for part in kept for task in part.tasks) or "none"
                lines.append(f"| {number} | {minutes} | {tasks} | {_titles(skipped)} |")
        lines.append("")
    weeks = [f"week {week}: {', '.join(numbers)}" for week, numbers in WEEKS.items()]
    return [*lines, f"Over six weeks: {'; '.join(weeks)}. Exercises that are skipped make the homework.", ""]


def _titles(skipped: list[Section]) -> str:
    names = [part.title for part in skipped if not part.tasks]
    tasks = ", ".join(task.name for part in skipped for task in part.tasks)
    return "; ".join([*names, *([f"exercises {tasks}"] if tasks else [])]) or "nothing"


def _lesson_lines(one: Lesson) -> list[str]:
    total = sum(part.minutes for part in one.sections)
    lines = [f"## {one.title}", "", f"**In class:** about {total:.0f} minutes. **To run:** {one.time}", ""]
    lines += [f"**Prerequisites:** {one.prerequisites}", "", "**Objectives**", ""]
    lines += [f"- {objective}" for objective in one.objectives]
    lines += ["", "| section | minutes |", "|---|---|"]
    lines += [f"| {part.title} | {max(1, round(part.minutes))} |" for part in one.sections]
    for part in one.sections:
        for task in part.tasks:
            lines += ["", *_rubric(task)]
    return [*lines, ""]


def _rubric(task: Task) -> list[str]:
    text, known = instructions(task), registry().get(task.name, {"hint": "", "wrong": {}})
    lines = [f"### {task.title}", "", f"- **Points:** {task.points:g}, for an answer that passes the check."]
    lines += [f"- **Objective:** {said}" for said in [_said(text, "You practise")] if said]
    lines += [f"- **Misconception:** {said}" for said in [_said(text, "Often believed")] if said]
    lines += ["", *(f"{n}. Hint: {hint}" for n, hint in enumerate(hints(text), 1))]
    lines += ["", f"Any other wrong answer: {known['hint']}.", "", "Known wrong answers, and what is said to each:", ""]
    return [*lines, *(f"- {hint}" for hint in known["wrong"].values())]


def write(masters: list[Master], path: Path) -> Path:
    """Write the guide as ``.md`` or ``.html``.

    Raises
    ------
    ReclabError : the name has another ending.
    """
    text = guide(masters)
    if path.suffix == ".html":
        from nbconvert.filters.markdown_mistune import markdown2html_mistune

        from .report import plain_page

        text = plain_page("Teacher's guide", markdown2html_mistune(text))
    elif path.suffix != ".md":
        raise ReclabError(f"a guide is written as .md or .html, not as {path.name!r}")
    write_atomically(path, text)
    return path


def command(args: argparse.Namespace) -> int:
    """Run ``reclab guide FILE [NN...]``."""
    print(f"The guide is {write(read_masters(notebooks_folder(), args.notebooks), args.file)}")
    return 0
