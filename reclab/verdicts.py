"""The verdict on each claim of the article that the series follows: a rule over checked results, not an opinion.

Claims stand in ``verdicts.toml``, each with the results that decide it. The numbers are those of the committed files of
bands, with the interval of the stored run; what ran on this machine takes their place.
"""

from __future__ import annotations

import json
import operator
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
from scipy.stats import t

from . import results
from .errors import ReclabError
from .profiles import get_profile

FILE = Path(__file__).with_name("verdicts.toml")
_OUTCOMES = ("yes", "in part", "no", "open")
_SIGNS = {">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Evidence:
    """A result with its 95% interval, and whether it was measured on this machine."""

    value: float
    low: float
    high: float
    live: bool = False

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]{' here' if self.live else ''}"


@dataclass(frozen=True)
class Rule:
    """What a result has to be for a claim: above or below a bar, with its whole interval."""

    key: str
    sign: str
    bar: float

    @classmethod
    def read(cls, text: str) -> Rule:
        found = re.fullmatch(r"(\d\d\.\S+) ([<>]) (-?[\d.]+)", text)
        if not found:
            raise ReclabError(f"a rule of verdicts.toml looks like '05.gain > 0', got {text!r}")
        return cls(found[1], found[2], float(found[3]))

    def decide(self, evidence: Evidence) -> str:
        """``yes``, ``no``, or ``open`` where the interval holds the bar."""
        inside = [_SIGNS[self.sign](end, self.bar) for end in (evidence.low, evidence.high)]
        return "yes" if all(inside) else "open" if any(inside) or self.bar in (evidence.low, evidence.high) else "no"

    def __str__(self) -> str:
        return f"{self.key} {self.sign} {self.bar:g}"


@dataclass(frozen=True)
class Claim:
    """One claim: what the article says in our words, what was tested on which data, and what each outcome means.

    Attributes
    ----------
    id : such as ``A1``. rules : one or two; none where it was not tested.
    untested : the reason for that.
    says : outcome -> the verdict in words.
    """

    id: str
    claim: str
    test: str
    data: str
    notebook: str
    rules: tuple[Rule, ...]
    says: dict[str, str]
    untested: str = ""

    def outcome(self, found: dict[str, Evidence]) -> str:
        """``yes``, ``in part``, ``no``, ``open`` or ``not tested``.

        All rules met: yes. Some met: in part. None met and one refuted: no. Else open.

        Raises
        ------
        ReclabError : a result is missing.
        """
        if not self.rules:
            return "not tested"
        if missing := [rule.key for rule in self.rules if rule.key not in found]:
            raise ReclabError(f"{self.id} needs the result {missing[0]}, which no notebook has; run `reclab calibrate`")
        decided = [rule.decide(found[rule.key]) for rule in self.rules]
        if "yes" in decided:
            return "yes" if set(decided) == {"yes"} else "in part"
        return "no" if "no" in decided else "open"

    def verdict(self, found: dict[str, Evidence]) -> str:
        """The outcome and what it means, in words."""
        outcome = self.outcome(found)
        return f"not tested, because {self.untested}" if outcome == "not tested" else f"{outcome}: {self.says[outcome]}"


def claims(file: Path = FILE) -> list[Claim]:
    """The claims in their order.

    Raises
    ------
    ReclabError : an entry has no rule and no reason, too many rules, or an outcome without words.
    """
    found = []
    for name, entry in tomllib.loads(file.read_text("utf-8")).items():
        rules = tuple(Rule.read(text) for text in entry.get("rules", []))
        says = {key.replace("_", " "): words for key, words in entry.items() if key.replace("_", " ") in _OUTCOMES}
        wanted = [outcome for outcome in _OUTCOMES if outcome != "in part" or len(rules) == 2] if rules else []
        if len(rules) > 2 or bool(rules) == ("untested" in entry) or set(says) != set(wanted):
            raise ReclabError(f"{name} in verdicts.toml needs one or two rules and words for {wanted}, or a reason")
        told = {key: entry.get(key, "") for key in ("claim", "test", "data", "notebook", "untested")}
        found.append(Claim(id=name, rules=rules, says=says, **told))
    return found


@cache
def committed(notebook: str) -> dict[str, Evidence]:
    """The published results of a notebook: the mean over seeds, with the wider of two intervals around it.

    One is that of the mean over seeds; the other is that of the stored run, over users or rows, where it has one.
    """
    stored, found = _stored(notebook), {}
    for key, band in results.bands(notebook).items():
        below = above = float(t.ppf(0.975, band["n"] - 1) * band["sd"] / band["n"] ** 0.5)
        if key in stored:
            value, low, high = stored[key]
            below, above = max(below, value - low), max(above, high - value)
        found[key] = Evidence(band["mean"], band["mean"] - below, band["mean"] + above)
    return found


def _stored(notebook: str) -> dict[str, tuple[float, float, float]]:
    """Estimates with their intervals in the stored receipt of a notebook."""
    path = results.expected_folder() / get_profile().name / "receipts" / f"{notebook}.json"
    rows = json.loads(path.read_text("utf-8"))["results"] if path.is_file() else []
    return {row["key"]: (row["value"], *row["interval"]) for row in rows if row["interval"]}


def evidence(wanted: list[Claim]) -> dict[str, Evidence]:
    """What is known of every result that the claims need: committed, overlaid by what ran here."""
    found: dict[str, Evidence] = {}
    for notebook in sorted({rule.key[:2] for claim in wanted for rule in claim.rules}):
        known, here = committed(notebook), results.read_ledger(notebook, results.ledger_folder())
        found |= known | {key: _measured(result, known.get(key)) for key, result in here.items()}
    return found


def _measured(result: results.Result, known: Evidence | None) -> Evidence:
    """A result of this machine; where it brings no interval of its own, it has that of the published one."""
    value = result.value
    if result.interval is not None:
        return Evidence(value, *result.interval, live=True)
    if known is None:
        return Evidence(value, value, value, live=True)
    return Evidence(value, value + known.low - known.value, value + known.high - known.value, live=True)


def table(wanted: list[Claim], found: dict[str, Evidence]) -> pd.DataFrame:
    """The verdicts by claim: ``claim, test, data, numbers, verdict, notebook``."""
    rows = {}
    for claim in wanted:
        verdict = claim.verdict(found)  # names a result that is missing
        numbers = "; ".join(f"{rule.key} = {found[rule.key]}" for rule in claim.rules) or "none"
        told = {"claim": claim.claim, "test": claim.test, "data": claim.data}
        rows[claim.id] = told | {"numbers": numbers, "verdict": verdict, "notebook": claim.notebook}
    return pd.DataFrame.from_dict(rows, orient="index")
