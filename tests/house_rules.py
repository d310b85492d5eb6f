"""The house rules for stored notebooks: what strict nbval does not see.

Each rule takes a `Page` and yields what is wrong, with the cell; no message means that the rule holds.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import refresh_notebooks

RULES: dict[str, Callable[[Page], Iterator[str]]] = {}


# Numbers in prose that name a thing; every other decimal or percentage is a result, for a cell to print.
NOT_RESULTS = [
    r"\d+(\.\d+)?\s?% ([\w-]+ )?intervals?",  # a method
    r"(?i)exercise \d\d\.\d+",
    r"(?m)^\W*Time and memory.*(\n.+)*",  # the budget, in the first cell
]


@dataclass
class Page:
    """A notebook with its name and the keys that its file of bands holds."""

    name: str
    cells: list
    metadata: dict = field(default_factory=dict)
    bands: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> Page:
        node = nbformat.read(path, as_version=4)
        file = path.parent / "expected" / "laptop" / f"{path.stem[:2]}.toml"
        bands = tomllib.loads(file.read_text("utf-8")).get("bands", {}) if file.is_file() else {}
        return cls(path.stem, node.cells, node.metadata, set(bands))

    @property
    def number(self) -> str:
        return self.name[:2]

    def of_type(self, kind: str) -> Iterator[tuple[int, dict]]:
        """Position (from 1) and cell of every cell of that type."""
        return ((n, cell) for n, cell in enumerate(self.cells, 1) if cell["cell_type"] == kind)

    def code(self):
        return self.of_type("code")

    def markdown(self):
        return self.of_type("markdown")

    def outputs(self) -> Iterator[tuple[int, dict]]:
        return ((n, output) for n, cell in self.code() for output in cell["outputs"])

    def printed(self) -> Iterator[tuple[int, str]]:
        """Position and text of every output that is words: streams, and all representations that are text."""
        for n, output in self.outputs():
            yield n, words(output)


def words(output: dict) -> str:
    """All that an output says in words."""
    parts = [output.get("text", ""), *output.get("traceback", [])]
    for kind, value in output.get("data", {}).items():
        if not kind.startswith("image/") or kind == "image/svg+xml":
            parts.append(value if isinstance(value, str) else str(value))
    return "\n".join("".join(part) for part in parts)


def prose(source: str) -> str:
    """Markdown without what is not prose: code, maths, links, HTML tags."""
    patterns = [
        r"(?ms)^(```|~~~).*?^\1",  # fenced code
        r"(?s)\$\$.*?\$\$",
        r"`[^`\n]*`",
        r"(?s)(?<!\\)\$[^$]*?(?<!\\)\$",
        r"!?\[[^\]]*\]\([^)]*\)",
        r"https?://\S+",
        r"<[^>]+>",
    ]
    for pattern in patterns:
        source = re.sub(pattern, " ", source)
    return source


def rule(function: Callable[[Page], Iterator[str]]):
    RULES[function.__name__] = function
    return function


@rule
def executed_in_order(page):
    if all(cell["execution_count"] is None for _, cell in page.code()):
        yield "was never executed; refresh the notebook"
        return
    for expected, (n, cell) in enumerate(page.code(), 1):
        count = cell["execution_count"]
        if count != expected:
            yield f"cell {n}: execution count {count}, should be {expected}; refresh the notebook"


@rule
def no_stored_errors(page):
    for n, cell in page.code():
        # A lesson may show an error on purpose; the tag says so to nbval too.
        if "raises-exception" not in cell["metadata"].get("tags", []):
            for output in cell["outputs"]:
                if output["output_type"] == "error":
                    yield f"cell {n}: stored error {output.get('ename')}"


@rule
def no_stderr_and_no_warnings(page):
    for n, output in page.outputs():
        if output.get("name") == "stderr":
            yield f"cell {n}: writes to stderr"
    for n, text in page.printed():
        if found := re.search(r"\b\w*Warning\b", text):
            yield f"cell {n}: output has a {found.group()}"


@rule
def no_machine_paths(page):
    folders = r"(?<![\w.])/(?:home|root|tmp|work|opt|usr|var|mnt|Users|private)(?=/|\s|$)"
    for n, text in page.printed():
        if found := re.search(rf"{folders}|\b[A-Z]:\\\w|site-packages", text):
            yield f"cell {n}: output shows a path of this machine ({found.group()})"


@rule
def figures_have_alt_text(page):
    for n, output in page.outputs():
        if "image/png" not in output.get("data", {}):
            continue
        alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
        if len(alt.split()) < 5:
            yield f"cell {n}: a figure without alt text; end the cell with plots.show(figure, alt)"
        if not "".join(output["data"].get("text/plain", "")).startswith("Figure: "):
            yield f"cell {n}: a figure whose text does not begin with 'Figure: '"


@rule
def not_too_short(page):
    if len(page.cells) < 15:
        yield f"{len(page.cells)} cells; a lesson has 15 to 45"


@rule
def code_cells_are_short(page):
    lengths = []
    for n, cell in page.code():
        lines = [line for line in cell["source"].splitlines() if line.strip() and not line.strip().startswith("###")]
        lengths.append(len(lines))
        if len(lines) > 15:
            yield f"cell {n}: {len(lines)} lines of code, at most 15"
    longer = sum(length > 12 for length in lengths)
    if longer > len(lengths) / 10:
        yield f"{longer} of {len(lengths)} code cells are longer than 12 lines, at most a tenth"


@rule
def prose_leads_to_code(page):
    run = 0
    for n, cell in enumerate(page.cells, 1):
        run = run + 1 if cell["cell_type"] == "code" else 0
        if n == run == 1:
            yield "cell 1: code before any words"
        if run == 4:
            yield f"cell {n}: the fourth code cell in a row; say in between what to look for"


@rule
def first_cell_sets_out(page):
    first = page.cells[0]["source"] if page.cells and page.cells[0]["cell_type"] == "markdown" else ""
    wanted = {
        "what the student will learn": r"will learn|able to|learning outcomes",
        "the prerequisites": r"prerequisite",
        "the time": r"\btime\b",
        "the memory": r"\bmemory\b",
    }
    for name, pattern in wanted.items():
        if not re.search(pattern, first, re.IGNORECASE):
            yield f"cell 1: does not name {name}"


@rule
def badges_and_setup_are_stamped(page):
    url, tag = refresh_notebooks.repository(refresh_notebooks.ROOT / "pyproject.toml")
    first = page.cells[0]["source"]
    if refresh_notebooks.MARK not in first.splitlines():
        yield f"cell 1: no line {refresh_notebooks.MARK}"
    elif refresh_notebooks.stamp_badges(first, refresh_notebooks.badges(page.name, url, tag)) != first:
        yield "cell 1: the launch badges are not this repository's; refresh the notebook"
    tagged = [n for n, cell in page.code() if "setup" in cell["metadata"].get("tags", [])]
    if tagged != [2]:
        yield f"the one cell tagged 'setup' has to be cell 2, found {tagged}"
    elif page.cells[1]["source"] != refresh_notebooks.setup_source(url, tag):
        yield "cell 2: not the set-up cell of every notebook; refresh the notebook"


@rule
def ends_with_the_ledger(page):
    code = [(n, cell) for n, cell in page.code()]
    if not code or not re.search(rf"\bledger\(\"{page.number}\"\)", code[-1][1]["source"]):
        yield f'the last code cell does not call results.ledger("{page.number}")'


LEDGER_ROW = re.compile(r"<tr><th[^>]*>(\d\d\.\S+)</th>.*?<td>(within|OUTSIDE|recorded)</td></tr>")


@rule
def checks_and_bands_agree(page):
    literal, shown = set(), {}
    for _, cell in page.code():
        literal |= set(_literal_keys(cell["source"]))
    for n, text in page.printed():
        for key, verdict in LEDGER_ROW.findall(text):
            shown[key] = verdict
            if verdict != "within":
                yield f"cell {n}: {key} is stored as {verdict}"
    for key in sorted(literal | set(shown)):
        if not key.startswith(f"{page.number}."):
            yield f"key {key} belongs to another notebook"
    if unrun := sorted(literal - set(shown)):
        yield f"checked in the code, not in the outputs: {', '.join(unrun)}"
    if unbanded := sorted(set(shown) - page.bands):
        yield f"no band in expected/laptop/{page.number}.toml: {', '.join(unbanded)}"
    if unchecked := sorted(page.bands - set(shown)):
        yield f"a band without a check: {', '.join(unchecked)}"


def _literal_keys(source: str) -> Iterator[str]:
    tree = ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if called & {"check", "results.check", "show", "results.show"}:
        inside = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and node not in inside else None
            if isinstance(text, str) and re.fullmatch(r"\d\d\.[^\d\s]\S*", text):
                yield text


@rule
def metadata_is_plain(page):
    for n, cell in enumerate(page.cells, 1):
        if extra := set(cell["metadata"]) - {"tags", "nbgrader", "slideshow"}:
            yield f"cell {n}: metadata {', '.join(sorted(extra))}"
    if "widgets" in page.metadata:
        yield "stored widget state"
    if page.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel has to be python3"


@rule
def cell_ids_are_unique(page):
    seen = set()
    for n, cell in enumerate(page.cells, 1):
        if not cell.get("id") or cell["id"] in seen:
            yield f"cell {n}: id {cell.get('id')!r} is missing or used twice"
        seen.add(cell.get("id"))


@rule
def no_numbers_typed_by_hand(page):
    for n, cell in page.markdown():
        text = prose(cell["source"])
        for name in NOT_RESULTS:
            text = re.sub(name, "", text)
        if found := re.search(r"\d+\.\d+\s?%?|\d+\s?%|\d+ per ?cent", text):
            yield f"cell {n}: the number {found.group().strip()} is typed by hand; let a cell print it"


@rule
def no_boasting(page):
    for n, cell in page.markdown():
        if found := re.search(r"\bsignificantly\b|\boutperform\w*", prose(cell["source"]), re.IGNORECASE):
            yield f"cell {n}: says {found.group()!r}; say what the interval shows"


@rule
def has_an_exercise(page):
    graders = [
        (n, cell["metadata"]["nbgrader"], cell["source"]) for n, cell in page.code() if "nbgrader" in cell["metadata"]
    ]
    solutions = [n for n, mark, _ in graders if mark.get("solution")]
    tests = [
        n for n, mark, _ in graders if mark.get("grade") and not mark.get("solution") and mark.get("points", 0) > 0
    ]
    for n, mark, source in graders:
        if mark.get("schema_version") != 3:
            yield f"cell {n}: nbgrader schema_version has to be 3"
        if mark.get("solution") and not ("### BEGIN SOLUTION" in source and "### END SOLUTION" in source):
            yield f"cell {n}: a solution cell without ### BEGIN SOLUTION and ### END SOLUTION"
    names = [mark.get("grade_id") for _, mark, _ in graders]
    if len(set(names)) < len(names):
        yield "a grade_id is used twice"
    if not solutions or not tests or tests[-1] < solutions[0]:
        yield "no exercise: a solution cell and, after it, a graded check cell"


@rule
def no_movielens_rows(page):
    secret = r"(rating|zip_code)"
    for n, text in page.printed():
        head = re.findall(r"(?s)<th[^>]*>(.*?)</th>", text)
        table = "user_id" in head and any(re.fullmatch(secret, cell) for cell in head)
        # In plain text, a line that names both columns is a table's head only if a row of numbers comes next.
        both = rf"(?m)^(?=.*\buser_id\b)(?=.*\b{secret}\b).*\n.*\d+\s+\S*\d"
        if table or re.search(both, text):
            yield f"cell {n}: shows people with their ratings or profiles; MovieLens may not be redistributed"
