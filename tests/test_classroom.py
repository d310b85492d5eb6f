"""The students' edition and the grading: what each kind of hand-in earns, and that nobody is lost on the way."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import psutil
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from exercise_answers import ANSWERS
from reclab import classroom
from reclab.errors import ReclabError
from reclab.run import main
from waiting import CEILING

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
MASTERS = classroom.read_masters(NOTEBOOKS)
(NINE,) = [master for master in MASTERS if master.name.startswith("09")]
FILE = f"{NINE.name}.ipynb"
SNIPS = "def snips(chances, propensities, rewards):\n    w = chances / propensities\n    return "
RIGHT = SNIPS + "(w * rewards).sum() / w.sum()"
IPS = SNIPS + "(w * rewards).mean()"
BLANK = SNIPS.replace("return ", "raise NotImplementedError()")
ENDLESS = SNIPS + "[0 for _ in iter(int, 1)]"
STUBBORN = "while True:\n    try:\n        print('x' * 999)\n    except BaseException:\n        pass"
LEFT_BEHIND = "import subprocess, sys\nsleep = [sys.executable, '-c', 'import time; time.sleep(900)']\n"
HALF = "import math as own\n\ndef half(x):\n    return own.fsum(x) / 2"
FORGED = (
    "from reclab import classroom\nentry = {'right': 'x', 'probes': []}\n"
    "classroom.fingerprint = lambda *_: 'x'\nclassroom.registry = lambda: {'09.1': entry}\n"
)
HOGS = "held = []\nwhile True:\n    held.append(np.ones(10**7))"


def cell(node, name):
    (found,) = [c for c in node.cells if c.metadata.get("nbgrader", {}).get("grade_id") == name]
    return found


def answered(source: str = RIGHT, name: str = "09-ex1", **changes) -> nbformat.NotebookNode:
    """The student's notebook 09 with one answer in it."""
    node = classroom.student_copy(NINE)
    cell(node, name).update(source=source, **changes)
    return node


def with_cells(*others: nbformat.NotebookNode, node=None) -> nbformat.NotebookNode:
    """A student's notebook with further cells below its first answer."""
    node = node or answered()
    at = node.cells.index(cell(node, "09-ex1"))
    node.cells[at + 1 : at + 1] = others
    return node


def copy_of(source: str) -> nbformat.NotebookNode:
    """A cell with the mark of the first answer."""
    return nbformat.from_dict(json.loads(json.dumps(cell(answered(source), "09-ex1"))))


def changed_check(change) -> nbformat.NotebookNode:
    node = answered(BLANK)
    cell(node, "09-ex1-check").source = change(cell(node, "09-ex1-check").source)
    return node


def without(node, *keys):
    for one in node.cells:
        for key in keys:
            one.pop(key, None)
            one.metadata.pop(key, None)
    return node


def hand_in(folder: Path, student: str, node, file: str = FILE) -> None:
    path = folder / student / file
    path.parent.mkdir(parents=True, exist_ok=True)
    content = node if isinstance(node, str | bytes) else json.dumps(node)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def scores(path: Path) -> dict[str, dict]:
    return {row["student"]: row for row in csv.DictReader(path.open(encoding="utf-8-sig"))}


def graded(folder: Path, masters: Path = NOTEBOOKS, **options) -> dict[str, dict]:
    classroom.grade(folder / "in", folder / "s.csv", masters, **options)
    return scores(folder / "s.csv")


# What is handed in, the points for 09.1, and words that the student reads there.
CASES = {
    "right": (answered(), 1, "right"),
    "blank": (answered(BLANK), 0, "not answered yet"),
    "ips": (answered(IPS), 0, f"Hint: {ANSWERS['09.1'].wrong[0][1]}"),
    "endless": (answered(ENDLESS), 0, "took longer than 5 s"),
    "stubborn": (answered(STUBBORN), 0, "took longer than 5 s"),
    "dead": (answered("import os\nos._exit(3)"), 0, "ended Python itself"),
    "dead in check": (answered(SNIPS + "__import__('os')._exit(0)"), 0, "ended Python itself"),
    "kills": (answered("import os\nos.kill(os.getppid(), 9)\nwhile True:\n    pass"), 0, "ended the program"),
    "leaves": (answered("import sys\nsys.exit()"), 0, "stopped with SystemExit"),
    "asks": (answered("input()"), 0, "stopped with EOFError"),
    "no python": (answered("def snips(:"), 0, "stopped with SyntaxError: invalid syntax"),
    "other name": (answered(RIGHT.replace("snips", "estimate")), 0, "name 'snips' is not defined"),
    "fails": (answered(SNIPS + "1 / 0"), 0, "stopped with ZeroDivisionError"),
    "no output": (answered(SNIPS + "None"), 0, "returns nothing yet"),
    "starts others": (answered(LEFT_BEHIND + "subprocess.Popen(sleep, start_new_session=True)\n" + RIGHT), 1, "right"),
    "prints": (answered("for _ in range(60):\n    print('x' * 10**6)\n" + RIGHT), 1, "right"),
    "writes": (answered("open('a', 'w').write('x' * 10**6)\n" + RIGHT), 1, "right"),
    # wherever the answer stands
    "markdown": (answered("```python\n" + RIGHT + "\n```", cell_type="markdown"), 1, "right"),
    "raw": (answered(cell_type="raw"), 1, "right"),
    "magic": (answered("%%time\n!pip list\n" + RIGHT + "\nsnips?"), 1, "right"),
    "tried below": (answered(RIGHT + "\n\ndisplay(snips(1, 2, rewards_of_the_lesson))\nassert False"), 1, "right"),
    "tried above": (answered("print(log.head())\n" + RIGHT), 1, "right"),
    "annotated": (answered(RIGHT.replace("rewards)", "rewards: torch.Tensor) -> Missing", 1)), 1, "right"),
    "fraction": (
        answered("from decimal import Decimal\n" + RIGHT.replace("return ", "return Decimal(") + ")"),
        1,
        "right",
    ),
    "package": (answered(RIGHT + " + 0 * ope.clopper_pearson(1, 2)[0]"), 1, "right"),
    "lesson": (answered(SNIPS + "mean_of_the_lesson(w)"), 0, "define in its cell what it uses"),
    "imports": (answered(RIGHT.replace("return", "norm.cdf(0.5)\n    return")), 1, "right"),
    "scratch below": (with_cells(copy_of(SNIPS + "w +"), copy_of(BLANK), copy_of("snips = ")), 1, "right"),
    "wrong below": (with_cells(copy_of(IPS)), 0, "Hint"),
    "right below": (with_cells(copy_of(RIGHT), node=answered(IPS)), 1, "right"),
    "split": (with_cells(copy_of(SNIPS + "half(w * rewards) / half(w)"), node=answered("half = sum")), 1, "right"),
    "helper": (with_cells(new_code_cell(HALF), node=answered(SNIPS + "half(w * rewards) / half(w)")), 1, "right"),
    "no marks": (without(answered(), "nbgrader"), 1, "right"),
    "no marks, no ids": (without(answered(), "nbgrader", "id"), 1, "right"),
    "elsewhere": (with_cells(new_code_cell(RIGHT), node=answered(BLANK)), 1, "right"),
    # nothing that changes the check earns a point
    "shadow": (answered("class classroom:\n    check = print\n\n" + BLANK), 0, "not answered yet"),
    "patch": (answered("from reclab import classroom\nclassroom.check = print\n" + BLANK), 0, "not answered yet"),
    "patch hash": (answered(FORGED + BLANK), 0, "not answered yet"),
    "blank line": (changed_check(lambda check: check + "\n  \n"), 0, "not answered yet"),
    "tampered": (changed_check(lambda check: "print('exercise 09.1: right')"), 0, "not answered yet"),
}


@pytest.fixture(scope="module")
def processes_before():
    """What other tests have started and left running, such as multiprocessing's own helper."""
    return set(psutil.Process().children(recursive=True))


@pytest.fixture(scope="module")
def a_class(processes_before, tmp_path_factory):
    """All cases, graded once: the rows of the table, and the folder."""
    folder = tmp_path_factory.mktemp("class")
    for student, (node, _, _) in CASES.items():
        hand_in(folder / "in", student, node)
    return graded(folder, names=["09"], timeout=5), folder


def page(folder: Path, student: str) -> BeautifulSoup:
    return BeautifulSoup((folder / "s_feedback" / f"{student}.html").read_text("utf-8"), "html.parser")


@pytest.mark.parametrize("student", CASES)
def test_each_kind_of_answer_earns_what_it_must(a_class, student):
    rows, folder = a_class
    _, points, words = CASES[student]
    text = page(folder, student).find("h2", string=lambda title: "09.1" in title).find_next("p").text
    assert words in " ".join(text.split())
    assert rows[student]["09.1"] == str(points)


def test_an_answer_that_takes_the_memory_is_stopped(tmp_path):
    hand_in(tmp_path / "in", "hogs", answered(HOGS))
    graded(tmp_path, timeout=CEILING)
    assert "took more than 2 GiB of memory" in page(tmp_path, "hogs").text


def test_every_student_gets_a_page_that_shows_points_hint_and_answer(a_class):
    assert {path.stem for path in (a_class[1] / "s_feedback").iterdir()} == set(a_class[0]) == set(CASES)
    shown = page(a_class[1], "ips")
    assert shown.html["lang"] == "en" and IPS in shown.pre.text
    assert "0 of 4 points" in " ".join(shown.text.split())
    assert not any(row["notes"] for row in a_class[0].values())


def test_no_process_is_left(a_class, processes_before):
    assert set(psutil.Process().children(recursive=True)) <= processes_before
    assert not [p for p in psutil.process_iter(["cmdline"]) if "time.sleep(900)" in (p.info["cmdline"] or [])]


def zipped(**members) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


WHOLE = json.dumps(answered())
SEVEN = "07_thompson_sampling.ipynb"
# Paths below the folder of hand-ins, and the student they belong to: each earns the point of 09.1.
FOUND = {
    "ann/homework (final) 2.ipynb": "ann",
    "nested/week1/deep/er/09.ipynb": "nested",
    "loose.ipynb": "loose",
    "phone.ipynb.txt": "phone",
    "browser (1).ipynb": "browser (1)",
    "json.ipynb.json": "json",
    "LOUD.IPYNB": "LOUD",
    "folder/09.ipynb (1)": "folder",
    "folder named 09.ipynb/a.ipynb": "folder named 09.ipynb",
    "李雷/作业.ipynb": "李雷",
    "Ольга.ipynb": "Ольга",
    "=1+1/a.ipynb": "'=1+1",
    "@sum.ipynb": "'@sum",
    f"leeann_4711_900017_{FILE}": "leeann_4711",
    f"kimbo_LATE_4712_900018_{FILE[:-6]}-1.ipynb": "kimbo_4712",
    f"Ann Lee_123_assignsubmission_file_/{FILE}": "Ann Lee_123",
    f"Week 1_a_lee_attempt_2026-05-01-12-00-00_{FILE}": "Week 1_a_lee",
    f"12-34 - Bo Lee - May 1, 2026 1200 PM - {FILE}": "12-34 - Bo Lee",
    f"Cy Lee - {FILE}": "Cy Lee",
    "exam_2026_0512_ann.ipynb": "exam_2026_0512_ann",
    "exam_2026_0512_bob.ipynb": "exam_2026_0512_bob",
    f"exam_{FILE[:-6]}_ann.ipynb": f"exam_{FILE[:-6]}_ann",
    f"exam_{FILE[:-6]}_bob.ipynb": f"exam_{FILE[:-6]}_bob",
    "utf16.ipynb": "utf16",
    "packed.zip": "packed",
    "packed twice/all.zip": "packed twice",
    "some cells are none.ipynb": "some cells are none",
    f"{'名' * 80}/a.ipynb": "名" * 80,
}
CONTENT = {
    "utf16.ipynb": WHOLE.encode("utf-16"),
    "packed.zip": zipped(**{"week/09.ipynb": WHOLE, "__MACOSX/week/._09.ipynb": "x"}),
    "packed twice/all.zip": zipped(**{"09.ipynb": WHOLE}),
    "some cells are none.ipynb": json.dumps(answered() | {"cells": [None, 3, *answered()["cells"]]}),
}
# What cannot be graded, and what is said of it.
NAMED = {
    "half/09.ipynb": (WHOLE[:5000], "09.ipynb is not a notebook that can be read"),
    "empty/09.ipynb": ("", "not a notebook that can be read"),
    "list.ipynb": ("[1, 2]", "list.ipynb is not a notebook that can be read"),
    "deep/09.ipynb": ("[" * 99999, "not a notebook that can be read"),
    "old/09.ipynb": ('{"worksheets": []}', "not a notebook that can be read"),
    "archive.7z": (b"7z\xbc\xaf", "archive.7z is not a notebook that can be read"),
    "broken.zip": (b"PK\x03\x04 and no more", "broken.zip is an archive that cannot be opened"),
    "essay.pdf": (b"%PDF-1.7", "essay.pdf is not a notebook that can be read"),
    "foreign/own.ipynb": ('{"cells": [{"source": 1}]}', "own.ipynb is none of the notebooks that are graded"),
    ".hidden/09.py": ("print(1)", "09.py is not a notebook that can be read"),
}


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory):
    """Every way to hand in, good and bad, graded once."""
    folder = tmp_path_factory.mktemp("folder")
    for name in FOUND:
        hand_in(folder / "in", "", CONTENT.get(name, WHOLE), name)
    for name, (content, _) in NAMED.items():
        hand_in(folder / "in", "", content, name)
    blank = classroom.student_copy(MASTERS[6])
    hand_in(folder / "in", "", blank, f"leeann_4711_900019_{SEVEN}")
    hand_in(folder / "in", "", blank, f"Cy Lee - {SEVEN}")
    hand_in(folder / "in", "Ann Lee_123_assignsubmission_onlinetext_", "<p>words</p>", "onlinetext.html")
    hand_in(folder / "in", "half", blank, SEVEN)
    hand_in(folder / "in", "ann", answered(IPS), "z.ipynb")
    hand_in(folder / "in", "ann", "{", ".ipynb_checkpoints/a.ipynb")
    (folder / "in" / "nothing").mkdir()
    (folder / "in" / ".DS_Store").write_bytes(b"x")
    (folder / "in" / "linked").mkdir()
    (folder / "in" / "linked" / "away").symlink_to(folder / "in" / "ann")
    if sys.platform == "linux":
        os.mkfifo(folder / "in" / "pipe.ipynb")
        hand_in(folder / "in", os.fsdecode(b"latin\xe9"), WHOLE)
    return graded(folder), folder


def test_nobody_is_lost(a_folder):
    rows, _ = a_folder
    assert {student for student in FOUND.values() if rows[student]["09.1"] != "1"} == set()
    others = {name.split("/")[0].removesuffix(".ipynb").removesuffix(".zip") for name in NAMED}
    more = {"nothing", "linked"} | ({"pipe", "latin\\udce9"} if sys.platform == "linux" else set())
    assert set(rows) == {*FOUND.values(), *others, *more}


@pytest.mark.parametrize("name", NAMED)
def test_what_cannot_be_read_is_named_and_the_rest_graded(a_folder, name):
    row = a_folder[0][name.split("/")[0].removesuffix(".ipynb").removesuffix(".zip")]
    assert NAMED[name][1] in row["notes"] and row["points"] == "0" and row["out_of"] == "8"


def test_what_is_unusual_about_files_is_noted(a_folder):
    notes = {student: row["notes"] for student, row in a_folder[0].items()}
    assert notes["nothing"] == "no notebook was handed in"
    assert "away is a link, a locked folder or a device, and was not read" in notes["linked"]
    assert "onlinetext.html is not a notebook" in notes["Ann Lee_123"]
    assert notes["leeann_4711"] == notes["Cy Lee"] == notes["packed"] == notes["李雷"] == ""


def test_the_table_opens_in_a_spreadsheet_and_names_in_any_script_have_a_page(a_folder):
    text = (a_folder[1] / "s.csv").read_bytes()
    assert text.startswith(b"\xef\xbb\xbf") and b"\n=" not in text
    assert page(a_folder[1], "李雷").title.text == "Feedback for 李雷"


# --- the run


def command_line(folder: Path, *more: str) -> dict:
    command = [sys.executable, "-m", "reclab.run", "grade", "in", "--out", "s.csv", *more]
    return {"args": command, "cwd": folder, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "text": True}


def test_the_command_grades_and_says_what_is_unusual(tmp_path):
    hand_in(tmp_path / "in", "ann", answered())
    hand_in(tmp_path / "in", "bob", "{")
    done = subprocess.run(**command_line(tmp_path), capture_output=True, check=True)
    said = done.stdout.splitlines()
    assert said[:2] == ["[1/2] ann: 1 of 4", "[2/2] bob: 0 of 4"]
    assert said[2].startswith("  bob: 09_off_policy_evaluation.ipynb is not a notebook that can be read")
    assert said[3].startswith("2 graded: s.csv; feedback: ")


@pytest.mark.parametrize("sent", [signal.SIGINT, getattr(signal, "SIGKILL", None)])
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_run_that_is_stopped_leaves_no_process(tmp_path, sent):
    for n in range(4):
        hand_in(tmp_path / "in", f"s{n}", answered(ENDLESS if n else RIGHT))
    seconds = CEILING if sent == signal.SIGINT else 2
    listen = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # the background ignores it
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(**command_line(tmp_path, "--timeout", str(seconds)), **pipes, **listen) as run:
        assert "[1/4] s0" in run.stdout.readline()
        started = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(sent)
        error = run.stderr.read()
    if sent == signal.SIGINT:
        assert (run.returncode, error) == (130, "reclab: stopped by Ctrl-C\n")
    assert started and not psutil.wait_procs(started, timeout=CEILING)[1]


def test_what_is_wrong_with_a_call_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "none").mkdir()
    calls = {
        f"grade {tmp_path / 'missing'}": "there is no folder",
        f"grade {tmp_path / 'none'}": "holds no submission",
        f"release {ROOT / 'notebooks'}": "has answers in it",
    }
    for call, words in calls.items():
        assert main(call.split()) != 0
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1


# --- masters of a teacher's own


def exercise_cell(source, name, tags=(), **more):
    given = {"schema_version": 3, "grade_id": name, "locked": False, "solution": False, "grade": False, "task": False}
    return new_code_cell(source, metadata={"nbgrader": given | more} | ({"tags": list(tags)} if tags else {}))


ADD = "def add(a, b):\n    ### BEGIN SOLUTION\n    return a + b\n    ### END SOLUTION"
TEST = "assert add(1, 2) == 3\n### BEGIN HIDDEN TESTS\nassert add(2, 2) == 4\n### END HIDDEN TESTS"


def masters_of(tmp_path, solution=ADD, test=TEST, tags=(), lesson="", names=("09-ex1", "09-ex1-check")) -> Path:
    cells = [
        new_markdown_cell("# Own\n\n## Exercise 09.1 · Add"),
        new_code_cell(lesson),
        exercise_cell(solution, names[0], tags, solution=True),
        exercise_cell(test, names[1], grade=True, locked=True, points=2),
    ]
    (tmp_path / "masters").mkdir()
    nbformat.write(new_notebook(cells=cells), tmp_path / "masters" / "09_own.ipynb")
    return tmp_path / "masters"


def blank_of(masters: Path) -> str:
    (master,) = classroom.read_masters(masters)
    return json.dumps(classroom.student_copy(master))


def test_hidden_tests_are_out_of_the_release_and_count_in_grading(tmp_path):
    masters = masters_of(tmp_path)
    text = blank_of(masters)
    assert "HIDDEN" not in text and "a + b" not in text and "add(1, 2)" in text
    hand_in(tmp_path / "in", "guess", text.replace("raise NotImplementedError()", "return 3"))
    hand_in(tmp_path / "in", "right", text.replace("raise NotImplementedError()", "return b + a"))
    hand_in(tmp_path / "in", "blank", text)
    rows = graded(tmp_path, masters)
    assert {student: row["points"] for student, row in rows.items()} == {"guess": "0", "right": "2", "blank": "0"}
    shown = page(tmp_path, "guess")
    assert "Exercise 09.1" in shown.text and "the check stopped with AssertionError" in shown.text


TENSORS = "a, b = torch.tensor(float(a)), torch.as_tensor(b)\n    return nn.ReLU()(F.relu(a + b))"


@pytest.mark.parametrize(
    ("tags", "lesson", "body"),
    [
        (["needs: torch"], "from torch import (\n    nn,\n)\nimport torch.nn.functional as F", TENSORS),
        (["needs: reclab"], "from reclab import results", "return a + b + results.SHARE[0]"),
        ([], "import math\nimport scipy.stats as st", "return math.fsum([a, b]) + st.norm.mean()"),
    ],
)
def test_an_answer_has_what_its_lesson_imports_and_its_exercise_needs(tmp_path, tags, lesson, body):
    masters = masters_of(tmp_path, ADD.replace("return a + b", body), tags=tags, lesson=lesson)
    hand_in(tmp_path / "in", "ann", (masters / "09_own.ipynb").read_text("utf-8"))
    assert graded(tmp_path, masters)["ann"]["points"] == "2"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test": "assert add(1, 1) == 3"}, "09-ex1-check: the teacher's own answer fails"),
        ({"solution": "def add(a, b):\n    return a + b"}, "09-ex1 holds no solution; this is a student's copy"),
        ({"solution": ADD.replace("### END SOLUTION", "")}, "09_own: BEGIN SOLUTION has no end"),
        ({"names": ("a", "a")}, "the grade_id a is none, or used twice"),
    ],
)
def test_a_master_that_is_not_whole_stops_the_grading(tmp_path, changes, words):
    masters = masters_of(tmp_path, **changes)
    hand_in(tmp_path / "in", "ann", (masters / "09_own.ipynb").read_text("utf-8"))
    with pytest.raises(ReclabError, match=words):
        graded(tmp_path, masters)


# --- the students' edition


@pytest.fixture(scope="module")
def edition(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edition") / "student"
    classroom.release(MASTERS, folder)
    return folder


def test_no_solution_and_no_output_is_in_the_release(edition):
    assert {path.name for path in edition.iterdir()} == {path.name for path in NOTEBOOKS.glob("*.ipynb")}
    for path in edition.iterdir():
        node = nbformat.read(path, as_version=4)
        nbformat.validate(node)
        assert "BEGIN" not in path.read_text("utf-8") and "raise NotImplementedError()" in path.read_text("utf-8")
        assert all(not c.outputs and c.execution_count is None for c in node.cells if c.cell_type == "code")
        assert all(not c.metadata["deletable"] for c in node.cells if "nbgrader" in c.metadata)


def test_the_students_edition_in_the_repository_is_the_masters(edition):
    kept = NOTEBOOKS / "student"
    if not kept.is_dir():
        pytest.skip("notebooks/student is not made yet: reclab release")
    assert {path.name for path in kept.glob("*.ipynb")} == {path.name for path in edition.iterdir()}
    stale = [
        path.name for path in edition.iterdir() if path.read_text("utf-8") != (kept / path.name).read_text("utf-8")
    ]
    assert not stale, "reclab release makes them anew"


def test_masters_earn_full_marks_the_release_none_and_answers_are_not_written_over(edition, tmp_path):
    for master in MASTERS:
        hand_in(tmp_path / "in", "teacher", (NOTEBOOKS / f"{master.name}.ipynb").read_bytes(), f"{master.name}.ipynb")
    classroom.release(MASTERS, tmp_path / "in" / "blank")
    classroom.release(MASTERS, tmp_path / "in" / "blank")  # a blank one is made anew
    rows = graded(tmp_path)
    everything = str(sum(len(master.tasks) for master in MASTERS))
    assert (rows["teacher"]["points"], rows["blank"]["points"]) == (everything, "0")
    hand_in(tmp_path / "in", "blank", answered())
    with pytest.raises(ReclabError, match="has answers in it"):
        classroom.release(MASTERS, tmp_path / "in" / "blank")
