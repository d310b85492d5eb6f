"""The stored notebooks keep what strict nbval does not see.

A rule takes a notebook, as nbformat reads it, and its number, and yields what is wrong with the cell's position.
"""

import ast
import json
import re
import tomllib
from pathlib import Path

import nbformat
import pytest

import refresh_notebooks
from reclab import results
from refresh_notebooks import MARK, repository, setup_source

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LEDGER_ROW = re.compile(r"<tr><th[^>]*>(\d\d\.\S+)</th>.*?<td>(within|OUTSIDE|recorded)</td></tr>")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def cells(node, kind: str):
    return ((n, cell) for n, cell in enumerate(node.cells, 1) if cell["cell_type"] == kind)


def outputs(node):
    return ((n, output) for n, cell in cells(node, "code") for output in cell["outputs"])


def words(output: dict) -> str:
    """All that an output says in words: streams, and all representations that are text."""
    parts = [output.get("text", ""), *output.get("traceback", [])]
    for kind, value in output.get("data", {}).items():
        if not kind.startswith("image/") or kind == "image/svg+xml":
            parts.append(value if isinstance(value, str) else str(value))
    return "\n".join("".join(part) for part in parts)


# --- the rules


def executed_in_order(node, number):
    for expected, (n, cell) in enumerate(cells(node, "code"), 1):
        if cell["execution_count"] != expected:
            yield f"cell {n}: execution count {cell['execution_count']}, should be {expected}; store its outputs anew"


def no_stored_errors(node, number):
    for n, cell in cells(node, "code"):
        # A lesson may show an error on purpose; the tag says so to nbval too.
        if "raises-exception" not in cell["metadata"].get("tags", []):
            for output in cell["outputs"]:
                if output["output_type"] == "error":
                    yield f"cell {n}: stored error {output.get('ename')}"


def no_stderr_and_no_warnings(node, number):
    for n, output in outputs(node):
        if output.get("name") == "stderr":
            yield f"cell {n}: writes to stderr"
        if found := re.search(r"\b\w*Warning\b", words(output)):
            yield f"cell {n}: output has a {found.group()}"


def no_machine_paths(node, number):
    folders = r"(?<![\w.])/(?:home|root|tmp|work|opt|usr|var|mnt|Users|private)(?=/|\s|$)"
    for n, output in outputs(node):
        if found := re.search(rf"{folders}|\b[A-Z]:\\\w|site-packages", words(output)):
            yield f"cell {n}: output shows a path of this machine ({found.group()})"


def figures_have_alt_text(node, number):
    for n, output in outputs(node):
        if "image/png" in output.get("data", {}):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            if len(alt.split()) < 5:
                yield f"cell {n}: a figure without alt text; end the cell with plots.show(figure, alt)"
            if not "".join(output["data"].get("text/plain", "")).startswith("Figure: "):
                yield f"cell {n}: a figure whose text does not begin with 'Figure: '"


def badges_and_setup_are_stamped(node, number):
    url, tag = repository(ROOT / "pyproject.toml")
    first = node.cells[0]["source"]
    if MARK not in first.splitlines():
        yield f"cell 1: no line {MARK}"
    elif refresh_notebooks.stamp_badges(first, refresh_notebooks.badges(number, url, tag)) != first:
        yield "cell 1: the launch badges are not this repository's; store its outputs anew"
    tagged = [n for n, cell in cells(node, "code") if "setup" in cell["metadata"].get("tags", [])]
    if tagged != [2]:
        yield f"the one cell tagged 'setup' has to be cell 2, found {tagged}"
    elif node.cells[1]["source"] != setup_source(url, tag):
        yield "cell 2: not the set-up cell of every notebook; store its outputs anew"


def ends_with_the_ledger(node, number):
    last = [cell for _, cell in cells(node, "code")][-1]
    if not re.search(rf"\bledger\(\"{number}\"\)", last["source"]):
        yield f'the last code cell does not call results.ledger("{number}")'


def checks_and_bands_agree(node, number):
    file = ROOT / "notebooks" / "expected" / "laptop" / f"{number}.toml"
    bands = set(tomllib.loads(file.read_text("utf-8"))["bands"])
    literal, shown = set(), {}
    for _, cell in cells(node, "code"):
        literal |= set(_literal_keys(cell["source"]))
    for n, output in outputs(node):
        for key, verdict in LEDGER_ROW.findall(words(output)):
            shown[key] = verdict
            if verdict != "within":
                yield f"cell {n}: {key} is stored as {verdict}"
    for what, keys in {
        "belongs to another notebook": {key for key in literal | set(shown) if not key.startswith(f"{number}.")},
        "checked in the code, not in the outputs": literal - set(shown),
        f"no band in expected/laptop/{number}.toml": set(shown) - bands,
        "a band without a check": bands - set(shown),
    }.items():
        if keys:
            yield f"{what}: {', '.join(sorted(keys))}"


def _literal_keys(source: str):
    tree = ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if called & {"check", "results.check", "show", "results.show"}:
        inside = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and node not in inside else None
            if isinstance(text, str) and re.fullmatch(r"\d\d\.[^\d\s]\S*", text):
                yield text


def no_movielens_rows(node, number):
    secret = r"(rating|zip_code)"
    for n, output in outputs(node):
        text = words(output)
        head = re.findall(r"(?s)<th[^>]*>(.*?)</th>", text)
        table = "user_id" in head and any(re.fullmatch(secret, cell) for cell in head)
        # In plain text, a line that names both columns is a table's head only if a row of numbers comes next.
        both = rf"(?m)^(?=.*\buser_id\b)(?=.*\b{secret}\b).*\n.*\d+\s+\S*\d"
        if table or re.search(both, text):
            yield f"cell {n}: shows people with their ratings or profiles; MovieLens may not be redistributed"


RULES = [
    executed_in_order,
    no_stored_errors,
    no_stderr_and_no_warnings,
    no_machine_paths,
    figures_have_alt_text,
    badges_and_setup_are_stamped,
    ends_with_the_ledger,
    checks_and_bands_agree,
    no_movielens_rows,
]


@each_notebook
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_notebook_keeps_the_rule(rule, path):
    broken = list(rule(read(path), path.stem[:2]))
    assert not broken, f"{path.name} breaks {rule.__name__}:\n  " + "\n  ".join(broken)


@pytest.mark.parametrize("table", ["<th>user_id</th><th>rating</th>", "user_id zip_code\n1 85711"])
def test_movielens_rows_would_be_seen(table):
    output = nbformat.v4.new_output("display_data", {"text/html": table})
    node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("ratings", outputs=[output])])
    assert list(no_movielens_rows(node, "03"))


@each_notebook
def test_a_notebook_is_valid(path):
    nbformat.validate(read(path))
    ids = [cell.get("id") for cell in json.loads(path.read_text("utf-8"))["cells"]]
    assert all(ids) and len(set(ids)) == len(ids)


# --- every claim of the article has its place

# Notebook -> the claims that a cell of it names: steps S, models M, the listing L, advantages A, costs C, questions Q,
# trends T, outlook O, domains D.
CLAIMS = {
    "01": "S1 C2",
    "02": "S2 L1 L2 L3 L9 L10 L12 L13 L14 L15 L16 C1 A9",
    "03": "S3 A3 A7",
    "04": "S4 M2 O3 A4",
    "05": "M4 M5 A1 A2 A6 A8",
    "07": "S5 M3 L4 L5 L6 L7 L8 L11 L17 A5",
    "09": "S6 C6",
    "10": "S6 T2",
    "11": "Q1",
    "12": "C2 C3 C5 C7 Q3 Q5 O4 O5",
    "14": "C1 C4 Q2 Q4 T3 O1 O2",
    "16": "D1 D2 D3 T1 T4 T5 T6 A8",
}


@pytest.mark.parametrize("number", CLAIMS)
def test_every_claim_is_named_by_a_cell(number):
    (path,) = (path for path in NOTEBOOKS if path.stem.startswith(number))
    text = "\n".join(cell.source for cell in read(path).cells)
    missing = [claim for claim in CLAIMS[number].split() if not re.search(rf"\b{claim}\b", text)]
    assert not missing, f"{path.name} names no {', '.join(missing)}"


# --- what one run tells and other seeds may turn

# Results whose own interval excludes zero while their band over seeds holds it. A lesson that shows one says so in
# words, or draws again what it generalises over; then its keys leave this list.
UNSETTLED = """
    00.text_minus_alone 00.ndcg_model_minus_genres
    03.fall_without_named_words 03.fall_without_random_words 03.fall_named_minus_random
    04.freebase_minus_shuffled 04.year_over_placebo 04.warm_fixed_minus_concat 04.warm_weighted_minus_concat
    04.warm_attention_minus_concat 04.warm_two_tower_minus_concat 04.cold_attention_minus_concat
    04.cold_two_tower_minus_concat 04.cold_gated_dropout_minus_concat 04.cold_two_tower_dropout_minus_concat
    04.cold_loss_taste_removed 04.cold_loss_profile_removed 04.dropout_gain_without_crowd 04.dropout_gain_without_graph
    04.clothing_fused_minus_text_all_there
    05.gain_cold_gated 05.warm_ease_minus_SASRec 05.equal_text_on_ease_all
    07.factors_minus_like_rate_held_out 07.cold_100_thompson_minus_greedy_4000
    07.warm_thompson_minus_warm_greedy_first_500 07.warm_thompson_minus_warm_greedy_all
    07.cold_thompson_minus_cold_greedy_first_500 07.warm_thompson_minus_cold_thompson_first_500
    07.warm_thompson_minus_cold_thompson_all 07.linear_thompson_minus_cold_thompson_first_500
    10.ndcg_random 10.ease_minus_item_knn 10.temporal_ndcg_random
    12.augmented_words_minus_plain_clean 12.user_gap_planted_0_tenths 12.exposure_gap_even_record
    12.masking_minus_plain
    16.films_forgetting_minus_never 16.ab_one_test
"""


@each_notebook
def test_a_lesson_says_which_of_its_numbers_other_seeds_may_turn(path):
    number = path.stem[:2]
    receipt = json.loads((path.parent / "expected" / "laptop" / "receipts" / f"{number}.json").read_text("utf-8"))
    bands, found = results.bands(number, "laptop"), set()
    for row in receipt["results"]:
        band, own = bands[row["key"]], row["interval"]
        if own and band["low"] <= 0 <= band["high"] and not own[0] <= 0 <= own[1]:
            found.add(row["key"])
    listed = {key for key in UNSETTLED.split() if key.startswith(number)}
    assert found <= listed, f"not listed: {sorted(found - listed)}; resample what it generalises over, or say it"
    assert listed <= set(bands), "a key of the list is gone; take it off"
    prose = "\n".join(cell.source for _, cell in cells(read(path), "markdown"))
    assert not found or re.search(r"band\b[^.]*\bover seeds\b[^.]*\bholds zero", prose), "no words say so"


# --- the package


@pytest.mark.parametrize("path", sorted((ROOT / "reclab").rglob("*.py")), ids=lambda path: path.stem)
def test_public_functions_say_what_they_do(path):
    named = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)]
    silent = [node.name for node in named if not node.name.startswith("_") and not ast.get_docstring(node)]
    assert not silent, f"{path.name}: no docstring in {', '.join(silent)}"
