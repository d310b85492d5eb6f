"""`reclab verify` takes nothing on a receipt's word, names each planted cause, and loses no student of a class."""

import contextlib
import copy
import io
import json
import math
import re
import sys
from functools import cache, partial, reduce
from operator import getitem

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from reclab import receipts, results
from reclab.errors import ReclabError
from reclab.profiles import get_profile
from reclab.results import find_notebooks, notebooks_folder, read_notebook
from reclab.run import Run, main, write_index

STORED = {
    path.stem: receipts.read_receipt(path) for path in (results.expected_folder() / "laptop" / "receipts").glob("*")
}
BANDS = {key: band for number in STORED for key, band in results.bands(number, "laptop").items()}


def composed(*numbers) -> dict:
    """One receipt from the stored receipts of several notebooks."""
    made = copy.deepcopy(STORED[numbers[0]])
    for part in ("planned", "notebooks", "results"):
        made[part] = [copy.deepcopy(row) for number in numbers for row in STORED[number][part]]
    return made


def said(content, path, *more) -> tuple[int, str]:
    """Exit status and all output of `reclab verify` for a receipt written to a file."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return run(path, *more)


def run(*words) -> tuple[int, str]:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        status = main(["verify", *map(str, words)])
    return status, shown.getvalue()


def edited(change, *numbers) -> dict:
    made = composed(*(numbers or ("01", "09")))
    change(made)
    return made


def row_of(receipt, key) -> dict:
    return next(row for row in receipt["results"] if row["key"] == key)


# What is written


def test_a_receipt_is_what_its_schema_says():
    (path,) = find_notebooks(["09"], notebooks_folder())
    made = Run(path.stem, read_notebook(path))
    for key, band in results.bands("09", "laptop").items():
        made.results[key] = results.Result(key, band["mean"], band["low"], band["high"], results.WITHIN)
    mine = receipts.receipt([made], get_profile("laptop"), started="2026-01-01T00:00:00", complete=True)
    Draft202012Validator.check_schema(receipts.schema())
    assert not list(Draft202012Validator(receipts.schema()).iter_errors(mine))
    properties = receipts.schema()["properties"]
    assert set(properties) == set(mine), "each part of a receipt is documented"
    assert set(properties["notebooks"]["items"]["properties"]) == set(mine["notebooks"][0])
    assert set(properties["results"]["items"]["properties"]) >= set(mine["results"][0])
    assert set(properties["machine"]["properties"]) == set(mine["machine"])
    assert mine["planned"] == ["09_off_policy_evaluation"], "what ran, where nobody says what was asked for"


def test_a_receipt_records_the_threads_of_a_run(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more than the processor has would be cut to what it has
    assert receipts.machine.__wrapped__()["threads"] == 1  # it is asked once a process


# What is read

BAD = {
    "not JSON": ('{"schema": 2, "versions": ', "is not whole JSON"),
    "not even text": (b"\xff\xfe\xff", "is not whole JSON"),
    "of something else": ('{"name": "x"}', "is no receipt"),
    "another version": ('{"schema": 99}', "is a receipt of schema 99, this reclab reads 2"),
    "no version": ('{"results": []}', "is a receipt of schema None, this reclab reads 2"),
    "cut": ('{"schema": 2, "profile": "x"}', r"was changed or cut short, at \$: 'started' is a required property"),
    "deep lists": ("[" * 100_000 + "]" * 100_000, "is not whole JSON"),
    "deep parts": ('{"schema": 2, "planned": ' + "[" * 900 + "]" * 900 + "}", "not whole JSON|changed or cut short"),
    "a lone surrogate": ('{"schema": "\\ud800"}', "is a receipt of schema"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_what_is_no_receipt_is_refused(content, message, tmp_path):
    path = tmp_path / "receipt.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    status, shown = run(path)
    assert status == 1 and re.search(message, shown)


def test_a_word_for_a_number_is_named_by_place_and_key(tmp_path):
    status, shown = said(edited(lambda receipt: receipt["results"][3].update(value="high")), tmp_path / "receipt.json")
    assert status == 1 and rf"at $.results[3].value, which is {composed('01')['results'][3]['key']}" in shown


def test_a_file_that_is_not_there_says_what_to_give(tmp_path):
    with pytest.raises(ReclabError, match=r"cannot read .*give the receipt\.json in the folder of a run"):
        receipts.read_receipt(tmp_path / "nowhere.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_receipt_saved_in_another_encoding_is_read(encoding, tmp_path):
    path = tmp_path / "receipt.json"
    path.write_bytes(json.dumps(composed("01")).encode(encoding))
    assert run(path)[0] == 0


# What differs


PLANTED = {  # a cause: where it lies, what differs, and why
    "data": (("assets", "movielens-100k", "ml-100k.inter"), "movielens-100k/ml-100k.inter", "other data"),
    "notebook": (("notebooks", 0, "code"), "code of notebook 05", "notebook's code"),
    "package": (("sources", "rank.py"), "code of rank.py", "package's code"),
    "profile": (("profile",), "profile", "another profile"),
    "seed": (("seed",), "seed", "another seed"),
    "torch": (("versions", "torch"), "version of torch", "another version"),
    "threads": (("machine", "threads"), "threads", "number of threads"),
}


def planted(*names) -> dict:
    """The receipt of notebook 05 with other causes, and another first result."""
    made = composed("05")
    made["results"][0]["value"] += 1
    for name in names:
        *places, key = PLANTED[name][0]
        reduce(getitem, places, made)[key] = "another"
    return made


@pytest.mark.parametrize("name", PLANTED)
def test_the_planted_cause_is_named(name):
    _, what, why = PLANTED[name]
    found = receipts.differences(composed("05"), planted(name))
    assert list(found["what"]) == [what, composed("05")["results"][0]["key"]]
    assert found["likely why"].str.contains(why).all(), "the moved result is laid to the planted cause"


def test_of_two_causes_the_likelier_one_explains_the_results():
    found = receipts.differences(composed("05"), planted("torch", "data"))
    assert "other data" in found["likely why"].iloc[0] and "other data" in found["likely why"].iloc[-1]
    found = receipts.differences(composed("05"), planted())
    assert "nothing else differs" in found["likely why"].iloc[0]


def test_what_moves_no_number_is_no_difference():
    other = composed("05")
    other["notebooks"][0]["seconds"], other["sources"]["run.py"], other["machine"]["platform"] = 99.0, "other", "other"
    other["results"][0]["value"] *= 1 + 1e-12
    assert receipts.differences(composed("05"), other).empty


def test_of_several_receipts_each_difference_is_said_once_causes_first():
    found = receipts.differences(composed("05"), planted("threads"), planted("threads"), planted("torch"))
    assert list(found["what"])[:2] == ["version of torch", "threads"] and len(found) == 3


def test_two_receipts_are_compared_causes_first(tmp_path):
    def change(receipt):
        receipt["versions"]["torch"] = "2.6.0"
        receipt["results"][1]["value"] *= 1 + 1e-6
        receipt["results"].pop()

    other = tmp_path / "other.json"
    other.write_text(json.dumps(edited(change, "01")), "utf-8")
    status, shown = said(composed("01"), tmp_path / "mine.json", other)
    between = shown.split("What differs from " + str(other))[1]
    keys = [row["key"] for row in composed("01")["results"]]
    assert status == 0 and "What differs from the published run:\nnothing" in shown
    assert (
        between.index("version of torch")
        < between.index(keys[1])
        < between.index(f"In one of the two only: {keys[-1]}")
    )


# What a receipt is worth


def test_every_published_value_lies_within_its_band_and_its_own_interval(tmp_path):
    status, shown = said(composed(*sorted(STORED)), tmp_path / "receipt.json")
    assert status == 0
    assert f": all {len(BANDS)} results of {len(STORED)} notebooks are reproduced" in shown.splitlines()[0]


FAULTS = {
    "renamed": (
        lambda receipt: receipt["notebooks"][0].update(name="01_of_my_own"),
        ["01_of_my_own is no published notebook of profile laptop", "the receipt names no published notebook 01"],
    ),
    "unplanned": (lambda receipt: receipt["planned"].pop(), ["09_off_policy_evaluation ran and was not planned"]),
    "empty": (lambda receipt: receipt.update(notebooks=[], results=[]), ["the receipt is empty: no notebook is in it"]),
    "without results": (
        lambda receipt: receipt.update(results=[]),
        ["the receipt is empty: no result is in it", "09.click_rate_all_bts is missing"],
    ),
    "without an interval": (
        lambda receipt: row_of(receipt, "09.click_rate_all_bts").update(interval=None),
        ["09.click_rate_all_bts has no interval of its own"],
    ),
}


@pytest.mark.parametrize(("change", "lines"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named(change, lines, tmp_path):
    status, shown = said(edited(change), tmp_path / "receipt.json")
    assert status == 1 and "are reproduced" not in shown
    for line in lines:
        assert line in shown


def test_last_digits_that_two_computations_of_a_number_trade_are_no_exchange():
    assert receipts._exchanged({"a": (0.1 + 0.2, 0.3), "b": (0.3, 0.1 + 0.2)}) == []
    assert receipts._exchanged({"a": (0.31, 0.3), "b": (0.31, 0.31)}) == []


def test_only_a_run_of_the_published_seed_is_searched_for_exchanges():
    two = composed("09")
    a, b = two["results"][:2]
    a["value"], b["value"] = b["value"], a["value"]
    line = f"{a['key']} and {b['key']} look exchanged"
    assert line in receipts.verify(two)[0] and line not in receipts.verify(two | {"seed": 5})[0]


def test_what_a_terminal_obeys_or_cannot_show_is_escaped(tmp_path, monkeypatch):
    def change(receipt):
        receipt["notebooks"][0]["error"] = "\x1b[2J\ud800\nall is reproduced \u202e雪"
        receipt["versions"]["torch"] = "\ud800\n"

    evil = edited(change)
    (tmp_path / "receipt.json").write_text(json.dumps(evil), "utf-8")
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["verify", str(tmp_path / "receipt.json")]) == 1
    narrow.flush()
    shown = narrow.buffer.getvalue().decode("ascii")
    assert r"stopped: \x1b[2J\ud800 all is reproduced \u202e\u96ea" in shown and "\x1b" not in shown


# Whoever tampers is found; whoever ran it elsewhere is not accused


def some(draw, rows, fits=lambda row: True) -> dict:
    """A drawn row of those that fit."""
    fitting = [row for row in rows if fits(row)]
    return fitting[draw(st.integers(0, len(fitting) - 1))]


def scaled_out_of_its_band(receipt, draw):
    row = some(draw, receipt["results"])
    band, up = BANDS[row["key"]], draw(st.booleans())
    width = max(band["high"] - band["low"], 1e-3) * draw(st.floats(0.01, 1e6))
    row["value"] = band["high"] + width if up else band["low"] - width
    row |= {"low": row["value"] - 1, "high": row["value"] + 1, "interval": [row["value"] - 1, row["value"] + 1]}
    return row["key"]


def beyond_its_own_interval(receipt, draw):
    wide = {key for key, band in BANDS.items() if band["low"] < band["high"]}  # else there is no place in it
    row = some(draw, receipt["results"], lambda row: row["interval"] is not None and row["key"] in wide)
    band = BANDS[row["key"]]
    low = band["low"] + (band["high"] - band["low"]) * draw(st.floats(0.1, 0.9))
    step = (band["high"] - band["low"]) * draw(st.floats(0.001, 0.09))
    row |= {"value": low - step, "interval": [low, low + 10 * step]}
    return row["key"]


def no_number(receipt, draw):
    row = some(draw, receipt["results"])
    row["value"] = draw(st.sampled_from(["nan", "inf", "-inf", math.nan, math.inf, -math.inf, "0.5", None, 10**400]))
    return row["key"]


def a_notebook_dropped(receipt, draw):
    row = some(draw, receipt["notebooks"])
    receipt["notebooks"].remove(row)
    if draw(st.booleans()):
        receipt["results"] = [result for result in receipt["results"] if result["key"][:2] != row["name"][:2]]
    return row["name"]


def a_result_added(receipt, draw):
    row = copy.deepcopy(some(draw, receipt["results"]))
    row["key"] = draw(st.sampled_from([row["key"] + "_too", "99.value", "06.value"]))
    receipt["results"].insert(draw(st.integers(0, len(receipt["results"]))), row)
    return row["key"]


def one_there_twice(receipt, draw):
    kind, name = draw(st.sampled_from([("results", "key"), ("notebooks", "name")]))
    row = some(draw, receipt[kind])
    receipt[kind].append(copy.deepcopy(row))
    return row[name]


def near_values_exchanged(receipt, draw):
    """Where each value lies in the other's band and interval as well."""
    rows = receipt["results"]

    def fits(row, value):
        band, (low, high) = BANDS[row["key"]], row["interval"] or (-math.inf, math.inf)
        return band["low"] <= value <= band["high"] and low <= value <= high

    pairs = [
        (one, two)
        for i, one in enumerate(rows)
        for two in rows[:i]
        if not math.isclose(one["value"], two["value"]) and fits(one, two["value"]) and fits(two, one["value"])
    ]
    one, two = pairs[draw(st.integers(0, len(pairs) - 1))]
    one["value"], two["value"] = two["value"], one["value"]
    return one["key"], two["key"]


def verdict_flipped(receipt, draw):
    row = some(draw, receipt["results"])
    row["verdict"] = draw(st.sampled_from(["OUTSIDE", "recorded", "fine"]))
    return row["key"]


def another_profile(receipt, draw):
    receipt["profile"] = draw(st.sampled_from(["gpu", "", ".", "laptop/", "Laptop", "../expected/laptop"]))
    return "profile"


def notebook_stopped(receipt, draw):
    row = some(draw, receipt["notebooks"])
    row |= draw(st.sampled_from([{"ok": False}, {"error": "cell [3]: killed"}, {"ok": False, "error": "stopped"}]))
    return row["name"]


def in_another_order(receipt, draw):
    for kind in ("results", "notebooks", "planned"):
        receipt[kind] = draw(st.permutations(receipt[kind]))


def on_another_machine(receipt, draw):
    receipt["versions"] |= {"torch": draw(st.sampled_from(["2.6.0", "2.9.1"])), "python": "3.13.1"}
    receipt["machine"] |= {"threads": draw(st.integers(1, 64)), "gpu": "A GPU", "blas": None}
    receipt["started"] = draw(st.sampled_from(["2027-02-03T04:05:06", ""]))
    receipt["sources"]["rank.py"] = "0" * 64


def moved_within_band_and_interval(receipt, draw):
    row = some(draw, receipt["results"])
    band, interval = BANDS[row["key"]], row["interval"] or [-math.inf, math.inf]
    low, high = max(band["low"], interval[0]), min(band["high"], interval[1])
    row["value"] = min(max(low + (high - low) * draw(st.floats(0, 1)), low), high)


def rounded_otherwise(receipt, draw):
    factor = 1 + draw(st.sampled_from([-1e-14, 1e-14]))
    for row in receipt["results"]:
        row["value"] = min(max(row["value"] * factor, BANDS[row["key"]]["low"]), BANDS[row["key"]]["high"])


FOUND = [scaled_out_of_its_band, beyond_its_own_interval, no_number, a_notebook_dropped, a_result_added]
FOUND += [one_there_twice, near_values_exchanged, verdict_flipped, another_profile, notebook_stopped]
PASSED = [in_another_order, on_another_machine, moved_within_band_and_interval, rounded_otherwise]
# An example takes a tenth of a second, so to make a failing one smaller would take minutes.
settings.register_profile(
    "thorough",
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PUBLISHED = partial(receipts.verify, published=cache(receipts.published))  # read once for all examples


def name(rule):
    return rule.__name__


@pytest.mark.parametrize("rule", FOUND, ids=name)
@settings(settings.get_profile("thorough"), max_examples=20)
@given(data=st.data())
def test_whoever_tampers_is_found(tmp_path, monkeypatch, rule, data):
    monkeypatch.setattr(receipts, "verify", PUBLISHED)
    numbers = data.draw(st.sampled_from([("01", "09"), ("03", "11"), ("00", "10", "16"), ("02", "05"), ("07", "12")]))
    receipt = composed(*numbers)
    named = rule(receipt, data.draw)
    status, shown = said(receipt, tmp_path / "receipt.json")
    assert status == 1
    for word in [named] if isinstance(named, str) else named:
        assert word in shown


@pytest.mark.parametrize("rule", PASSED, ids=name)
@settings(settings.get_profile("thorough"), max_examples=25)
@given(data=st.data())
def test_whoever_ran_it_elsewhere_is_not_accused(tmp_path, monkeypatch, rule, data):
    monkeypatch.setattr(receipts, "verify", PUBLISHED)
    numbers = data.draw(st.sampled_from([("01", "09"), ("14",), ("00", "10")]))
    receipt = composed(*numbers)
    rule(receipt, data.draw)
    status, shown = said(receipt, tmp_path / "receipt.json")
    assert status == 0, shown
    assert f"all {len(receipt['results'])} results of {len(numbers)} notebook" in shown


# A class


def hand_in(folder, files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


def test_a_class_gets_a_line_for_each_receipt_and_what_is_passed_over_is_named(tmp_path):
    good = composed("01")
    whole = f"{len(good['results'])} results of 1 notebook are reproduced"
    few = edited(lambda receipt: receipt.update(results=receipt["results"][:1]), "01")
    run_folder = {"index.html": "", "01.html": "", "notebooks/01.ipynb": "{}", "ledger/01.json": "[]", "derived/x": ""}
    hand_in(
        tmp_path,
        {
            "ada.json": good,
            "bob/receipt.json": good,
            "eve/runs/2026-01-01/receipt.json": few,
            **{f"eve/runs/2026-01-01/{name}": content for name, content in run_folder.items()},
            "kim/receipt (1).json": good,
            "雪/RECEIPT.JSON": good,
            "lee.json": '{"schema": 2',
            "max/deep.json": '{"schema":' * 100_000,
            "ned/settings.json": '{"tabs": 4}',
            "ned/essay.txt": "x",
            "ned/ledger/01.json": "[]",
        },
    )
    (tmp_path / "zoe").mkdir()
    status, shown = run(tmp_path)
    lines = dict(line.split(": ", 1) for line in shown.splitlines() if not line.startswith("passed over"))
    assert status == 1
    for name in ("ada.json", "bob/receipt.json", "kim/receipt (1).json", "雪/RECEIPT.JSON"):
        assert whole in lines.pop(name)
    assert re.match(
        r"\d+ faults; .* is missing; .*; \d+ more, see `reclab verify", lines.pop("eve/runs/2026-01-01/receipt.json")
    )
    assert "not whole JSON" in lines.pop("lee.json") and "cannot be judged" in lines.pop("max/deep.json")
    assert not lines
    assert [line for line in shown.splitlines() if line.startswith("passed over")] == [
        "passed over: ned: a folder without a receipt",
        "passed over: ned/essay.txt: no .json file",
        "passed over: ned/ledger/01.json: JSON, but no receipt",
        "passed over: ned/settings.json: JSON, but no receipt",
        "passed over: zoe: a folder without a receipt",
    ]


def test_a_class_without_a_fault_is_fine_and_one_without_a_receipt_is_none(tmp_path):
    hand_in(tmp_path, {"ada.json": composed("01"), "bob/notes.txt": "x"})
    status, shown = run(tmp_path)
    assert status == 0 and "passed over: bob/notes.txt" in shown
    status, shown = run(tmp_path, tmp_path / "ada.json")
    assert status == 1 and "is a folder of receipts; to compare two, give one of them" in shown
    (tmp_path / "ada.json").unlink()
    status, shown = run(tmp_path)
    assert status == 1 and "no receipts in" in shown


def test_the_folder_of_a_run_is_read_as_its_receipt(tmp_path):
    made = Run("01_dataset_construction", new_notebook())
    planned = [made.name, "02_bert_finetuning"]
    write_index(tmp_path, [made], get_profile("laptop"), planned=planned, started="2026-01-01T00:00:00")
    hand_in(tmp_path, {"ledger/01.json": "[]"})
    assert run(tmp_path) == run(tmp_path / "receipt.json")
    status, shown = run(tmp_path)
    assert status == 1 and "02_bert_finetuning was planned and did not run" in shown
    assert "the run did not end: the receipt is not complete" in shown, "a run that was killed is seen"


# What is published


def test_what_is_published_is_the_stored_run_with_its_bands(monkeypatch, tmp_path):
    folder = tmp_path / "laptop"
    hand_in(folder, {"09.toml": '[meta]\n[bands."09.x"]\nlow = 0.0\nhigh = 1.0\n'})
    monkeypatch.setattr(results, "expected_folder", lambda: tmp_path)
    with pytest.raises(ReclabError, match="no run of notebook 09 is published for profile laptop"):
        receipts.published("09")
    row = {"key": "09.x", "value": 0.5, "low": 0.0, "high": 1.0, "verdict": "within", "interval": None}
    stored = edited(lambda receipt: receipt.update(results=[row]), "09")
    hand_in(folder, {"receipts/09.json": stored})
    assert receipts.published("09") == stored | {"bands": {"09.x": {"low": 0.0, "high": 1.0}}}
    assert receipts.verify(stored)[0] == []
    hand_in(folder, {"receipts/09.json": '{"schema"'})
    with pytest.raises(ReclabError, match="is not whole JSON"):
        receipts.published("09")


def test_a_notebooks_hash_is_that_of_its_code():
    node = new_notebook(cells=[new_markdown_cell("words"), new_code_cell("set up"), new_code_cell("x = 1")])
    node.cells[1].metadata.tags = ["setup"]
    before = receipts.code_hash(node)
    node.cells[0].source, node.cells[1].source, node.cells[2].outputs = "more", "other", ["a figure"]
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
    monkeypatch.setattr(receipts, "source_hashes", lambda: hashes | {"run.py": "changed"})
    assert receipts.source_hash() == before
    monkeypatch.setattr(receipts, "source_hashes", lambda: hashes | {"rank.py": "changed"})
    assert receipts.source_hash() != before
    assert set(hashes) >= receipts.TOOLING
