"""The verdict on each claim of the article that the series follows: a rule over checked results,
not an opinion.

Claims stand in ``verdicts.toml``, each with the results that decide it. The numbers are those of
the committed files of bands, with the interval of the stored run; what ran on this machine takes
their place.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from scipy.stats import t

from . import receipts, results
from .errors import ReclabError

_FILE = Path(__file__).with_name("verdicts.toml")
_OUTCOMES = ("yes", "in part", "no", "open")


class Evidence(NamedTuple):
    """A result with its 95% interval, and whether it was measured on this machine."""

    value: float
    low: float
    high: float
    live: bool = False

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]{' here' if self.live else ''}"


class Rule(NamedTuple):
    """What a result has to be for a claim: above or below a bar, with its whole interval."""

    key: str
    sign: str
    bar: float

    def decide(self, evidence: Evidence) -> str:
        """``yes``, ``no``, or ``open`` where the interval holds the bar."""
        sides = {">": evidence.low > self.bar, "<": evidence.high < self.bar}
        if sides.pop(self.sign):
            return "yes"
        return "no" if any(sides.values()) else "open"


@dataclass(frozen=True)
class Claim:
    """One claim: what the article says in our words, what was tested on which data, and what each
    outcome means.
    """

    id: str
    claim: str
    test: str
    data: str
    notebook: str
    rules: tuple[Rule, ...]  # one or two; none where it was not tested
    says: dict[str, str]  # outcome -> the verdict in words
    untested: str = ""  # the reason

    def outcome(self, found: dict[str, Evidence]) -> str:
        """All rules met: yes. Some met: in part. None met and one refuted: no. No rules: not
        tested. Else open.
        """
        if not self.rules:
            return "not tested"
        if missing := [rule.key for rule in self.rules if rule.key not in found]:
            raise ReclabError(
                f"{self.id} needs the result {missing[0]}, which no notebook has; run `reclab "
                "calibrate`"
            )
        decided = {rule.decide(found[rule.key]) for rule in self.rules}
        if "yes" in decided:
            return "yes" if decided == {"yes"} else "in part"
        return "no" if "no" in decided else "open"

    def verdict(self, found: dict[str, Evidence]) -> str:
        """The outcome and what it means, in words."""
        outcome = self.outcome(found)
        return (
            f"not tested, because {self.untested}"
            if outcome == "not tested"
            else f"{outcome}: {self.says[outcome]}"
        )


def claims(file: Path = _FILE) -> list[Claim]:
    """The claims in their order; a ReclabError names an entry that cannot be judged."""
    found = []
    for name, entry in tomllib.loads(file.read_text("utf-8")).items():
        rules = tuple(_rule(text) for text in entry.pop("rules", []))
        says = {
            key: entry.pop(key.replace(" ", "_"))
            for key in _OUTCOMES
            if key.replace(" ", "_") in entry
        }
        wanted = (
            [outcome for outcome in _OUTCOMES if outcome != "in part" or len(rules) == 2]
            if rules
            else []
        )
        if len(rules) > 2 or bool(rules) == ("untested" in entry) or list(says) != wanted:
            raise ReclabError(
                f"{name} in verdicts.toml needs one or two rules and words for {wanted}, or a "
                "reason"
            )
        found.append(
            Claim(
                id=name,
                rules=rules,
                says=says,
                **dict.fromkeys(("test", "data", "notebook"), "") | entry,
            )
        )
    return found


def _rule(text: str) -> Rule:
    found = re.fullmatch(r"(\d\d\.\S+) ([<>]) (-?[\d.]+)", text)
    if not found:
        raise ReclabError(f"a rule of verdicts.toml looks like '05.gain > 0', got {text!r}")
    return Rule(found[1], found[2], float(found[3]))


@cache
def committed(notebook: str) -> dict[str, Evidence]:
    """The published results of a notebook: the mean over seeds, with the wider of two intervals
    around it.

    One is that of the mean over seeds; the other is that of the stored run, over users or rows,
    where it has one.
    """
    bands, found = results.bands(notebook), {}
    stored = receipts.published(notebook)["results"] if bands else []
    intervals = {row["key"]: (row["value"], *row["interval"]) for row in stored if row["interval"]}
    for key, band in bands.items():
        mean, around = (
            band["mean"],
            float(t.ppf(0.975, band["n"] - 1) * band["sd"] / band["n"] ** 0.5),
        )
        value, low, high = intervals.get(key, (0.0, 0.0, 0.0))
        found[key] = Evidence(
            mean, mean - max(around, value - low), mean + max(around, high - value)
        )
    return found


def evidence(wanted: list[Claim]) -> dict[str, Evidence]:
    """What is known of every result that the claims need: committed, overlaid by what ran here.

    A result of this machine that brings no interval of its own has that of the published one.
    """
    found: dict[str, Evidence] = {}
    for notebook in sorted({rule.key[:2] for claim in wanted for rule in claim.rules}):
        known = committed(notebook)
        found |= known
        for key, result in results.read_ledger(notebook, results.ledger_folder()).items():
            value, low, high, _ = known.get(key, Evidence(0.0, 0.0, 0.0))
            ends = result.interval or (result.value + low - value, result.value + high - value)
            found[key] = Evidence(result.value, *ends, live=True)
    return found


def table(wanted: list[Claim], found: dict[str, Evidence]) -> pd.DataFrame:
    """The verdicts by claim: ``claim, test, data, numbers, verdict, notebook``."""
    rows = {}
    for claim in wanted:
        verdict = claim.verdict(found)  # names a result that is missing
        numbers = "; ".join(f"{rule.key} = {found[rule.key]}" for rule in claim.rules) or "none"
        told = {"claim": claim.claim, "test": claim.test, "data": claim.data}
        rows[claim.id] = told | {"numbers": numbers, "verdict": verdict, "notebook": claim.notebook}
    return pd.DataFrame.from_dict(rows, orient="index")
