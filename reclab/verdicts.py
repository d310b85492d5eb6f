"""The verdict on each claim of the article that the series follows: a rule over checked results,
not an opinion.

Claims stand in ``verdicts.toml``, each with the results that decide it. The numbers are those of
the committed files of bands, with the interval of the stored run; what ran on this machine takes
their place.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from scipy.stats import t

from . import receipts, results
from .errors import ReclabError


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
        above, below = evidence.low > self.bar, evidence.high < self.bar
        if not above and not below:
            return "open"
        return "yes" if above == (self.sign == ">") else "no"


class Claim(NamedTuple):
    """One claim: its one or two rules, none where it was not tested, and what ``verdicts.toml``
    says of it: ``claim, test, data, notebook``, and the words of each outcome.
    """

    id: str
    rules: tuple[Rule, ...]
    says: dict[str, str]

    def outcome(self, found: dict[str, Evidence]) -> str:
        """All rules met: yes. Some met: in part. None met and one refuted: no. Else open."""
        for rule in self.rules:
            if rule.key not in found:
                raise ReclabError(
                    f"{self.id} needs the result {rule.key}, which no notebook has; run `reclab "
                    "calibrate`"
                )
        decided = {rule.decide(found[rule.key]) for rule in self.rules}
        if "yes" in decided:
            return "yes" if decided == {"yes"} else "in part"
        return "no" if "no" in decided else "open"

    def verdict(self, found: dict[str, Evidence]) -> str:
        """The outcome and what it means, in words."""
        if not self.rules:
            return f"not tested, because {self.says['untested']}"
        outcome = self.outcome(found)
        return f"{outcome}: {self.says[outcome.replace(' ', '_')]}"


def claims() -> list[Claim]:
    """The claims in their order."""
    found = []
    file = Path(__file__).with_name("verdicts.toml")
    for name, says in tomllib.loads(file.read_text("utf-8")).items():
        parts = [text.split() for text in says.pop("rules", [])]
        rules = tuple(Rule(key, sign, float(bar)) for key, sign, bar in parts)
        found.append(Claim(name, rules, says))
    return found


@cache
def committed(notebook: str) -> dict[str, Evidence]:
    """The published results of a notebook: the mean over seeds, with the wider of two intervals
    around it: that of the mean, and that of the stored run, over users or rows, where it has one.
    """
    bands, found = results.bands(notebook), {}
    stored = receipts.published(notebook)["results"] if bands else []
    intervals = {row["key"]: (row["value"], *row["interval"]) for row in stored if row["interval"]}
    for key, band in bands.items():
        mean = band["mean"]
        around = float(t.ppf(0.975, band["n"] - 1) * band["sd"] / band["n"] ** 0.5)
        value, low, high = intervals.get(key, (0.0, 0.0, 0.0))
        ends = mean - max(around, value - low), mean + max(around, high - value)
        found[key] = Evidence(mean, *ends)
    return found


def evidence(wanted: list[Claim]) -> dict[str, Evidence]:
    """What is known of every result that the claims need: committed, overlaid by what ran here.

    A result of this machine that brings no interval of its own has that of the published one.
    """
    found = {}
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
        told = {name: claim.says[name] for name in ("claim", "test", "data")}
        told |= {"numbers": numbers, "verdict": verdict, "notebook": claim.says["notebook"]}
        rows[claim.id] = told
    return pd.DataFrame.from_dict(rows, orient="index")
