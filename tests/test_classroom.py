"""The student's series and its grading: what each kind of submission earns, and that nothing is lost on the way."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest
from bs4 import BeautifulSoup
from exercise_answers import ANSWERS
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from waiting import CEILING

from reclab import classroom, masters, needs
from reclab.errors import ReclabError
from reclab.profiles import get_profile
from reclab.run import kernel_environment, main, run_notebook
from reclab.submissions import find_submissions

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
SNIPS = "def snips(chances, propensities, rewards):\n    w = chances / propensities\n    return "
RIGHT = SNIPS + "(w * rewards).sum() / w.sum()"
IPS = SNIPS + "(w * rewards).mean()"
STUBBORN = "while True:\n    try:\n        print('x' * 999)\n    except BaseException:\n        pass"
SHADOW = (
    "class exercises:\n    check = print\n\ndef snips(chances, propensities, rewards):\n    raise NotImplementedError"
)
ENDLESS = SNIPS + "[0 for _ in iter(int, 1)]"


def released(number: str = "09") -> nbformat.NotebookNode:
    (master,) = masters.read_masters(NOTEBOOKS, [number])
    return masters.student_copy(master)


def cell(node, name):
    (found,) = [c for c in node.cells if c.metadata.get("nbgrader", {}).get("grade_id") == name]
    return found


def answered(source: str = RIGHT, name: str = "09-ex1") -> nbformat.NotebookNode:
    """The student's notebook 09 with one answer in it."""
    node = released()
    cell(node, name).source = source
    return node


def hand_in(folder: Path, student: str, node, file: str = "09_off_policy_evaluation.ipynb") -> None:
    (folder / student).mkdir(parents=True, exist_ok=True)
    text = node if isinstance(node, str) else json.dumps(node)
    (folder / student / file).write_text(text, "utf-8")


def tampered():
    node = released()
    cell(node, "09-ex1-check").source = "print('exercise 09.1: right')"
    return node


def without_marks(*, ids: bool):
    node = answered()
    for c in node.cells:
        c.metadata.pop("nbgrader", None)
        if not ids:
            c.pop("id")
    return node


def moved():
    """The answer stands in a cell of the student's own, and the cell for it is gone."""
    node = released()
    node.cells.remove(cell(node, "09-ex1"))
    node.cells.insert(3, new_code_cell(RIGHT))
    return node


def deleted():
    node = released()
    node.cells = [
        c for c in node.cells if "nbgrader" not in c.metadata or c.metadata["nbgrader"]["grade_id"] > "09-ex2"
    ]
    return node


def with_helper():
    node = answered(
        SNIPS.replace("chances / propensities", "ratio(chances, propensities)") + "own.fsum(w * rewards) / own.fsum(w)"
    )
    node.cells.insert(2, new_code_cell("import math as own\n\ndef ratio(a, b):\n    return a / b"))
    return node


def split():
    node = answered("half = 2\n" + RIGHT)
    position = node.cells.index(cell(node, "09-ex1"))
    second = json.loads(json.dumps(node.cells[position]))
    blank = json.loads(json.dumps(cell(released(), "09-ex1")))
    second["source"] = "# the same again\n" + RIGHT
    node.cells[position + 1 : position + 1] = [nbformat.from_dict(second), nbformat.from_dict(blank)]
    return node


# What is handed in, the points for 07.1, and words that the student reads there.
CASES = {
    "right": (answered(), 1, "right"),
    "blank": (released(), 0, "returns nothing yet"),
    "ips": (answered(IPS), 0, f"Hint: {ANSWERS['09.1'].wrong[0][1]}"),
    "endless": (answered(ENDLESS), 0, "the check took longer than 20 s"),
    "endless_at_once": (answered(STUBBORN), 0, "your answer took longer"),
    "dead": (answered("import os\nos._exit(3)"), 0, "your answer ended Python itself"),
    "dead_in_check": (answered(SNIPS + "__import__('os')._exit(0)"), 0, "the check ended Python itself"),
    "leaves": (answered("import sys\nsys.exit()"), 0, "your answer stopped with SystemExit"),
    "asks": (answered("input()"), 0, "your answer stopped with StdinNotImplementedError"),
    "no_python": (answered("def snips(:"), 0, "your answer stopped with SyntaxError: invalid syntax (line 1)"),
    "other_name": (answered(RIGHT.replace("snips", "estimate")), 0, "name 'snips' is not defined"),
    "fails": (answered(SNIPS + "1 / 0"), 0, "ZeroDivisionError"),
    "tampered": (tampered(), 0, "returns nothing yet"),
    "no_marks": (without_marks(ids=True), 1, "right"),
    "no_marks_no_ids": (without_marks(ids=False), 1, "right"),
    "moved": (moved(), 1, "right"),
    "shadow": (answered(SHADOW), 0, "returns nothing yet"),
    "deleted": (deleted(), 0, "name 'snips' is not defined"),
    "helper": (with_helper(), 1, "right"),
    "split": (split(), 1, "right"),
}


def processor_seconds() -> float:
    """What this process and its children that have ended took of the processor; other programs do not change it."""
    return sum(os.times()[:4])


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class of thirty, graded once: its reports by student, the table's rows, the folder, the processor's seconds."""
    top = tmp_path_factory.mktemp("class")
    for student, (node, _, _) in CASES.items():
        hand_in(top / "in", student, node)
    hand_in(top / "in", "renamed", answered(), "homework (final) 2.ipynb")
    (top / "in" / "nested" / "week1").mkdir(parents=True)
    (top / "in" / "nested" / "week1" / "09.ipynb").write_text(json.dumps(answered()), "utf-8")
    (top / "in" / "loose.ipynb").write_text(json.dumps(answered()), "utf-8")
    solved = json.loads((NOTEBOOKS / "09_off_policy_evaluation.ipynb").read_text("utf-8"))
    hand_in(top / "in", "teacher", solved)
    hand_in(top / "in", "copies", released())
    hand_in(top / "in", "copies", answered(), "07 (1).ipynb")
    hand_in(top / "in", "half", json.dumps(answered())[:5000])
    hand_in(top / "in", "half", released("07"), "07.ipynb")
    for student, text in {"empty": "", "list": "[1, 2]", "odd": '{"cells": [null, 3]}', "deep": "[" * 99999}.items():
        hand_in(top / "in", student, text)
    hand_in(top / "in", "foreign", {"cells": [{"cell_type": "code", "source": "1"}]}, "own.ipynb")
    (top / "in" / "nothing").mkdir()
    (top / "in" / ".hidden").mkdir()
    said, start = [], processor_seconds()
    out = top / "marks" / "scores.csv"
    reports = classroom.grade(top / "in", out, NOTEBOOKS, say=said.append)
    seconds = processor_seconds() - start
    rows = {row["student"]: row for row in csv.DictReader(out.open(encoding="utf-8"))}
    return {report.student: report for report in reports}, rows, top, seconds, said


def mark(graded, student, name="09.1"):
    (found,) = [m for m in graded[0][student].marks if m.name == name]
    return found


@pytest.mark.parametrize("student", CASES)
def test_each_kind_of_answer_earns_what_it_must(graded, student):
    _, points, words = CASES[student]
    assert mark(graded, student).points == points
    assert words in mark(graded, student).message
    assert graded[1][student]["09.1"] == str(points)


def test_a_class_of_thirty_takes_less_than_two_minutes_of_two_processors(graded):
    assert len(graded[1]) >= 30
    assert 2 * classroom.TIMEOUT < graded[3] < 2 * 120  # two answers never end


@pytest.mark.parametrize("student", ["renamed", "nested", "loose", "teacher", "copies"])
def test_a_notebook_is_known_wherever_it_lies(graded, student):
    assert mark(graded, student).points == 1


def test_the_master_earns_full_marks_and_the_release_none(graded):
    row = graded[1]["teacher"]
    assert [row[name] for name in ("09.1", "09.2")] == ["1", "1"]
    assert graded[1]["blank"]["points"] == "0"


@pytest.mark.parametrize("student", ["half", "empty", "list", "odd", "deep"])
def test_what_cannot_be_read_is_named_and_the_rest_graded(graded, student):
    assert "09_off_policy_evaluation.ipynb is not a notebook that can be read" in graded[1][student]["notes"]
    assert mark(graded, student).message == "the notebook was not handed in"
    assert graded[1][student]["points"] == "0"
    assert "07.1" in graded[1][student], "the other notebook that was handed in has its column"


def test_unusual_submissions_are_noted(graded):
    notes = {student: row["notes"] for student, row in graded[1].items()}
    assert "this check was changed" in notes["tampered"]
    assert "09-ex1: no answer was found" in notes["deleted"]
    assert "found by the cell's id" in notes["no_marks"]
    assert "found by the function's name" in notes["moved"]
    assert notes["nothing"] == "no notebook was handed in"
    assert notes["foreign"] == "own.ipynb is none of the notebooks that are graded"
    assert ".hidden" not in notes and notes["right"] == ""


def test_a_lost_kernel_costs_one_exercise_only(tmp_path):
    node = answered("import os\nos._exit(1)")
    cell(node, "09-ex2").source = "def cuped(y, x):\n    return y - np.polyfit(x, y, 1)[0] * (x - x.mean())"
    hand_in(tmp_path / "in", "ann", node)
    (report,) = classroom.grade(tmp_path / "in", tmp_path / "s.csv", NOTEBOOKS, say=lambda _: None)
    assert [m.points for m in report.marks][:2] == [0, 1]


def test_no_kernel_is_left_behind(graded):
    left = [p for p in psutil.Process().children(recursive=True) if "ipykernel" in " ".join(p.cmdline())]
    assert not left


def test_every_student_gets_a_page_that_shows_points_hint_and_answer(graded):
    folder = classroom.feedback_folder(graded[2] / "marks" / "scores.csv")
    assert {path.stem for path in folder.glob("*.html")} == set(graded[1])
    page = BeautifulSoup((folder / "ips.html").read_text("utf-8"), "html.parser")
    assert page.html["lang"] == "en"
    assert ANSWERS["09.1"].wrong[0][1] in page.text and IPS in page.pre.text
    assert "0 of 1" in " ".join(page.text.split())


def test_a_second_run_grades_only_what_changed(graded):
    top, said = graded[2], []
    out = top / "marks" / "scores.csv"
    before = out.read_text("utf-8")
    hand_in(top / "in", "blank", answered())
    try:
        classroom.grade(top / "in", out, NOTEBOOKS, say=said.append)
    finally:
        hand_in(top / "in", "blank", released())
    total = len(graded[1])
    assert said[0] == f"{total - 1} of {total} were graded before and have not changed"
    assert said[1:] == [f"[{total}/{total}] blank: 1 of {graded[1]['blank']['out_of']}"]
    changed = set(before.splitlines()) ^ set(out.read_text("utf-8").splitlines())
    assert len(changed) == 2 and all(line.startswith("blank,") for line in changed)


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path):
    for n in range(4):
        hand_in(tmp_path / "in", f"s{n}", answered())
    command = [sys.executable, "-m", "reclab.run", "grade", "in", "--out", "s.csv", "--kernels", "1"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as run:
        lines = [run.stdout.readline() for _ in range(2)]
        started = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGKILL)
    assert "[2/4]" in lines[1]
    _, alive = psutil.wait_procs(started, timeout=CEILING)
    assert not alive, "a kernel outlived the run"
    again = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout
    done = int(again.split(" of 4 were graded before")[0])
    assert done >= 2 and f"[{done + 1}/4]" in again and "4 graded: s.csv" in again
    rows = list(csv.DictReader((tmp_path / "s.csv").open(encoding="utf-8")))
    assert [(row["student"], row["09.1"]) for row in rows] == [(f"s{n}", "1") for n in range(4)]


def test_ctrl_c_ends_in_one_line_and_leaves_no_kernel(tmp_path):
    for n in range(3):
        hand_in(tmp_path / "in", f"s{n}", answered(ENDLESS if n else RIGHT))
    command = [sys.executable, "-m", "reclab.run", "grade", "in", "--out", "s.csv", "--kernels", "2"]
    command += ["--timeout", str(CEILING)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    listen = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # a job in the background ignores it
    with subprocess.Popen(command, cwd=tmp_path, env=env, **pipes, **listen) as run:
        assert "[1/3] s0" in run.stdout.readline()
        started = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGINT)
        error = run.stderr.read()
    assert (run.returncode, error) == (130, "reclab: stopped by Ctrl-C\n")
    assert not psutil.wait_procs(started, timeout=CEILING)[1]


def test_a_damaged_record_is_graded_anew(tmp_path):
    hand_in(tmp_path / "in", "ann", answered())
    for _ in range(2):
        said = []
        classroom.grade(tmp_path / "in", tmp_path / "s.csv", NOTEBOOKS, say=said.append)
        assert len(said) == 1 and said[0].startswith("[1/1] ann: 1 of ")
        (tmp_path / "s_feedback" / ".graded" / "ann.json").write_text('{"key": ', "utf-8")


# --- bad input


def test_what_is_wrong_with_a_call_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "none").mkdir()
    calls = {
        f"grade {tmp_path / 'missing'}": "there is no folder",
        f"grade {tmp_path / 'none'}": "holds no submission",
        f"grade {tmp_path / 'none'} --timeout 0": "more than 0 seconds, got 0",
        f"release {ROOT / 'notebooks'}": "not empty",
        f"release {tmp_path / 'new'} 77": "there is no notebook named '77'",
    }
    for call, words in calls.items():
        assert main(call.split()) != 0
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1


def master_of(tmp_path, *cells):
    folder = tmp_path / "masters"
    folder.mkdir()
    nbformat.write(new_notebook(cells=list(cells)), folder / "09_own.ipynb")
    return folder


def exercise_cell(source, name, **more):
    given = {"schema_version": 3, "grade_id": name, "locked": False, "solution": False, "grade": False, "task": False}
    return new_code_cell(source, metadata={"nbgrader": given | more})


ADD = "def add(a, b):\n    ### BEGIN SOLUTION\n    return a + b\n    ### END SOLUTION"
TEST = "assert add(1, 2) == 3\n### BEGIN HIDDEN TESTS\nassert add(2, 2) == {} + zero[0]\n### END HIDDEN TESTS"


def small_master(tmp_path, total=4):
    check = {"grade": True, "locked": True, "points": 2}
    return master_of(
        tmp_path,
        new_markdown_cell("# Own\n\n## Exercise 09.1 · Add"),
        new_code_cell("import time\nzero = [1]\nglobals()['zero'][0] = 0"),
        exercise_cell(ADD, "09-ex1", solution=True),
        exercise_cell(TEST.format(total), "09-ex1-check", **check),
    )


def test_hidden_tests_are_out_of_the_release_and_count_in_grading(tmp_path):
    folder = small_master(tmp_path)
    cli_free = masters.release(masters.read_masters(folder), tmp_path / "out")
    text = cli_free[0].read_text("utf-8")
    assert "HIDDEN" not in text and "a + b" not in text and "add(1, 2)" in text
    hand_in(tmp_path / "in", "guess", text.replace('raise NotImplementedError()"', 'return 3"'))
    (report,) = classroom.grade(tmp_path / "in", tmp_path / "s.csv", folder, say=lambda _: None)
    assert report.points == 0 and "the check stopped with AssertionError" in report.marks[0].message


def test_a_lesson_that_reading_does_not_understand_runs_whole(tmp_path):
    """`globals()['zero'][0] = 0` names nothing, so only the whole lesson gives the teacher's answer its points."""
    folder = small_master(tmp_path)
    hand_in(tmp_path / "in", "ann", (folder / "09_own.ipynb").read_text("utf-8"))
    (report,) = classroom.grade(tmp_path / "in", tmp_path / "s.csv", folder, say=lambda _: None)
    assert (report.points, report.marks[0].out_of, report.marks[0].title) == (2, 2, "Exercise 09.1 · Add")


def test_a_master_that_fails_its_own_check_stops_the_grading(tmp_path):
    folder = small_master(tmp_path, total=5)
    hand_in(tmp_path / "in", "ann", (folder / "09_own.ipynb").read_text("utf-8"))
    with pytest.raises(ReclabError, match="09-ex1-check: the teacher's own answer fails"):
        classroom.grade(tmp_path / "in", tmp_path / "s.csv", folder, say=lambda _: None)


def test_a_students_copy_is_no_master(tmp_path):
    masters.release(masters.read_masters(NOTEBOOKS, ["09"]), tmp_path / "out")
    with pytest.raises(ReclabError, match="09-ex1 holds no solution"):
        masters.read_masters(tmp_path / "out")


def test_an_open_mark_is_named():
    with pytest.raises(ReclabError, match="BEGIN SOLUTION has no end"):
        masters.without("### BEGIN SOLUTION\n1", "SOLUTION")
    with pytest.raises(ReclabError, match="stands twice"):
        masters.without("### BEGIN SOLUTION\n### BEGIN SOLUTION\n", "SOLUTION")


# --- what a cell needs


@pytest.mark.parametrize(
    ("above", "needed", "kept"),
    [
        ("import a, b\nx = 1", {"b"}, "import b"),
        ("x = []\nx.append(1)\ny = 2", {"x"}, "x = []\nx.append(1)"),
        ("x = {}\nx['a'] = 1\nlog(x)", {"x"}, "x = {}\nx['a'] = 1"),
        ("y = 1\nx = y\nx = 2", {"x"}, "x = 2"),
        ("x = 1\nif y:\n    x = 2", {"x"}, "x = 1\nif y:\n    x = 2"),
        ("%matplotlib inline\nx = 1", {"x"}, "x = 1"),
        ("def f():\n    return [g(k) for k in h]\ng = h = 1", {"f"}, "def f():\n    return [g(k) for k in h]"),
        ("def broken(:", {"broken"}, ""),
    ],
)
def test_slices_hold_what_binds_or_changes_a_name(above, needed, kept):
    assert needs.slice_of(above, needed)[0] == kept


def test_a_module_is_not_changed_by_calling_its_functions():
    source = "import numpy as np\nnp.fill_diagonal(heavy(), 0)"
    assert needs.slice_of(source, {"np"}, needs.imports(source))[0] == "import numpy as np"


def test_uses_are_the_free_names():
    assert needs.uses("import a\ndef f(x):\n    y = x + k\n    return a.b(y)\nf(z)") == {"k", "z"}


# --- the release


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release") / "series"
    masters.release(masters.read_masters(NOTEBOOKS), folder)
    return folder


def test_no_solution_and_no_output_is_in_the_release(series):
    names = sorted(path.name for path in series.iterdir())
    assert names == sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
    for path in series.iterdir():
        node = nbformat.read(path, as_version=4)
        nbformat.validate(node)
        text = path.read_text("utf-8")
        assert "BEGIN SOLUTION" not in text and "raise NotImplementedError()" in text
        assert all(not c.outputs and c.execution_count is None for c in node.cells if c.cell_type == "code")
        assert all(not c.metadata["deletable"] for c in node.cells if "nbgrader" in c.metadata)


def test_the_release_runs_to_the_first_exercise(series, tmp_path):
    env = kernel_environment(get_profile("laptop"), derived=tmp_path / "derived", ledger=tmp_path / "ledger")
    path = series / "09_off_policy_evaluation.ipynb"
    run = run_notebook(path, env=env)
    code = [c for c in run.node.cells if c.cell_type == "code"]
    first = next(n for n, c in enumerate(code, 1) if c.metadata.get("nbgrader", {}).get("grade"))
    assert run.error.startswith(f"cell [{first}]: NotYet: exercise 09.1: your function returns nothing yet")


# --- nbgrader's own release and grading of the same masters

needs_nbgrader = pytest.mark.skipif(importlib.util.find_spec("nbgrader") is None, reason="nbgrader is not installed")


def nbgrader(course, *words):
    command = [sys.executable, "-m", "nbgrader", *words, f"--CourseDirectory.root={course}"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # nbgrader calls alembic
    env = os.environ | {"PATH": path}
    done = subprocess.run(command, cwd=course, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]


@needs_nbgrader
def test_release_is_cell_for_cell_nbgraders(series, tmp_path):
    source = tmp_path / "source" / "series"
    source.mkdir(parents=True)
    for path in NOTEBOOKS.glob("*.ipynb"):
        (source / path.name).write_bytes(path.read_bytes())
    nbgrader(tmp_path, "generate_assignment", "series")
    for path in series.iterdir():
        theirs = nbformat.read(tmp_path / "release" / "series" / path.name, as_version=4)
        ours = nbformat.read(path, as_version=4)
        assert ours.cells == theirs.cells, path.name


@needs_nbgrader
def test_nbgrader_grades_the_same(tmp_path):
    folder = small_master(tmp_path)
    source = tmp_path / "source" / "week"
    source.mkdir(parents=True)
    master = (folder / "09_own.ipynb").read_text("utf-8")
    (source / "own.ipynb").write_text(master, "utf-8")
    nbgrader(tmp_path, "generate_assignment", "week")
    blank = (tmp_path / "release" / "week" / "own.ipynb").read_text("utf-8")
    answers = {"ann": "return a + b", "bob": "raise NotImplementedError()", "guess": "return 3"}
    for student, answer in answers.items():
        text = blank.replace("raise NotImplementedError()", answer)
        (tmp_path / "submitted" / student / "week").mkdir(parents=True)
        (tmp_path / "submitted" / student / "week" / "own.ipynb").write_text(text, "utf-8")
    nbgrader(tmp_path, "autograde", "week")
    nbgrader(tmp_path, "export", f"--to={tmp_path / 'grades.csv'}")
    theirs = {row["student_id"]: float(row["score"]) for row in csv.DictReader((tmp_path / "grades.csv").open())}
    reports = classroom.grade(tmp_path / "submitted", tmp_path / "s.csv", folder, say=lambda _: None)
    assert {report.student: report.points for report in reports} == theirs == {"ann": 2, "bob": 0, "guess": 0}


def test_submissions_are_found_by_student(tmp_path):
    hand_in(tmp_path, "ann", "{}")
    hand_in(tmp_path, "ann", "{}", ".ipynb_checkpoints")
    assert [(s.student, len(s.paths)) for s in find_submissions(tmp_path)] == [("ann", 1)]
