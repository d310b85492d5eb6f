"""Verdicts follow from rules: each row names results that exist, and flips when one crosses its bar."""

import re

import pytest

from reclab import receipts, results, verdicts
from reclab.errors import ReclabError
from reclab.results import find_notebooks, notebooks_folder
from reclab.verdicts import Evidence, Rule

CLAIMS = verdicts.claims()
TESTED = [claim for claim in CLAIMS if claim.rules]
OUTCOMES = {"yes", "in_part", "no", "open"}
PAIRS = [(claim, rule) for claim in TESTED for rule in claim.rules]


@pytest.fixture(scope="module")
def found():
    notebooks = {rule.key[:2] for _, rule in PAIRS}
    return {key: one for notebook in notebooks for key, one in verdicts.committed(notebook).items()}


def test_every_claim_of_the_article_has_its_row():
    letters = {"A": 9, "C": 7, "T": 6, "O": 5, "Q": 5, "D": 3}
    ids = [f"{letter}{n}" for letter, most in letters.items() for n in range(1, most + 1)]
    assert [claim.id for claim in CLAIMS] == ids


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_each_row_can_be_judged_by_results_of_the_notebooks_that_it_names(claim):
    named = [name.strip() for name in claim.says["notebook"].split(",")]
    numbers = {path.stem[:2] for path in find_notebooks(named, notebooks_folder())}
    assert len(numbers) == len(named)
    for rule in claim.rules:
        assert rule.key[:2] in numbers and rule.sign in "<>"
        assert rule.key in results.bands(rule.key[:2]), f"{claim.id}: no band for {rule.key}"
    words = {0: {"untested"}, 1: OUTCOMES - {"in_part"}, 2: OUTCOMES}[len(claim.rules)]
    told = words | {"claim", "notebook"} | ({"test", "data"} if claim.rules else set())
    assert all(claim.says[name] for name in told) and set(claim.says) == told | {"test", "data"}


def moved(rule: Rule, met: bool) -> Evidence:
    """A result far beyond its bar, on the side where the rule is met or on the other."""
    shift = 1.0 if (rule.sign == ">") == met else -1.0
    return Evidence(rule.bar + shift, rule.bar + shift - 0.1, rule.bar + shift + 0.1)


@pytest.mark.parametrize(("claim", "rule"), PAIRS, ids=lambda value: getattr(value, "key", getattr(value, "id", None)))
def test_a_verdict_flips_when_its_result_crosses_the_bar(claim, rule, found):
    met, refuted = (claim.verdict(found | {rule.key: moved(rule, side)}) for side in (True, False))
    assert met != refuted
    assert met.split(":")[0] in ("yes", "in part") and refuted.split(":")[0] in ("no", "in part", "open")


@pytest.mark.parametrize("claim", TESTED, ids=lambda claim: claim.id)
def test_all_met_is_yes_all_refuted_is_no_and_bars_within_intervals_are_open(claim):
    for outcome, side in {"yes": True, "no": False}.items():
        assert claim.outcome({rule.key: moved(rule, side) for rule in claim.rules}) == outcome
    around = {rule.key: Evidence(rule.bar, rule.bar - 1, rule.bar + 1) for rule in claim.rules}
    assert claim.outcome(around) == "open"


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.1, 0.3, "yes"), (-0.3, -0.1, "no"), (-0.1, 0.1, "open"), (0.0, 0.2, "open"), (-0.2, 0.0, "open")],
)
def test_a_rule_is_met_by_the_whole_interval_or_not(low, high, outcome):
    assert Rule("01.x", ">", 0.0).decide(Evidence((low + high) / 2, low, high)) == outcome
    assert Rule("01.x", "<", 0.0).decide(Evidence(-(low + high) / 2, -high, -low)) == outcome


def test_committed_evidence_has_the_mean_over_seeds_and_the_wider_interval():
    key = "03.fall_named_minus_random"  # its stored run has an interval over reviews
    band, known = results.bands("03")[key], verdicts.committed("03")[key]
    row = next(row for row in receipts.published("03")["results"] if row["key"] == key)
    value, (low, high) = row["value"], row["interval"]
    assert known.value == band["mean"]
    nearly = 1 - 1e-9  # the half widths are differences of rounded numbers
    assert known.high - known.value >= (high - value) * nearly > 0
    assert known.value - known.low >= (value - low) * nearly > 0


def test_a_ledger_of_this_machine_takes_the_place_of_the_published_number(tmp_path, monkeypatch):
    monkeypatch.setenv("RECLAB_LEDGER", str(tmp_path))
    monkeypatch.setattr(results, "_ledger", {})
    claim = next(claim for claim in CLAIMS if claim.id == "A3")
    key = claim.rules[0].key
    assert verdicts.evidence([claim])[key].live is False
    results.check(key, (-0.5, -0.6, -0.4))
    here = verdicts.evidence([claim])[key]
    assert here == Evidence(-0.5, -0.6, -0.4, live=True)
    assert claim.outcome({key: here}) == "no"
    results.check(key, 0.9)  # no interval of its own: the published one moves along
    alone, known = verdicts.evidence([claim])[key], verdicts.committed("03")[key]
    assert (alone.value, alone.high - alone.low) == (0.9, pytest.approx(known.high - known.low))
    assert "here" in verdicts.table([claim], {key: here}).loc["A3", "numbers"]


def test_the_table_has_a_row_for_each_claim_and_says_why_not(found):
    table = verdicts.table(TESTED, found)
    assert list(table.index) == [claim.id for claim in TESTED]
    assert table["verdict"].str.match(r"(yes|in part|no|open): \w").all()
    assert table["numbers"].str.contains(r"= -?[\d.e+-]+ \[").all()
    reasons = [claim.verdict({}) for claim in CLAIMS if not claim.rules]
    assert all(re.match("not tested, because .{20}", reason) for reason in reasons)
    with pytest.raises(ReclabError, match=r"A3 needs the result 03\.fall"):
        next(claim for claim in CLAIMS if claim.id == "A3").outcome({})
