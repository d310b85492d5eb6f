"""A finished scorecard: as tables of words, as files, as a plot of a trade-off, and to explore."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from . import plots
from .errors import ReclabError, UnknownNameError
from .results import write_atomically


@dataclass(frozen=True)
class Scorecard:
    """The numbers of a comparison, and tables of words made from them.

    Attributes
    ----------
    values : one row for each system and metric: ``value, low, high, n_users``.
    differences : one row for each system but the baseline and each metric: ``difference, low, high``, the
        paired t-test's ``p_value``, ``p_holm`` corrected for all tests on the card, and ``verdict``.
    slices : one row for each system and group of users: NDCG with its interval, the ``gap`` to all other users with
        its interval, and the ``verdict``, corrected for all groups of all systems.
    note : what was measured on whom.
    alarms : what a reader should look into before believing the card.
    """

    values: pd.DataFrame
    differences: pd.DataFrame
    slices: pd.DataFrame
    note: str
    alarms: tuple[str, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """Systems by metrics, each cell like ``0.106 [0.091, 0.122]``."""
        return _words(self.values, ["value", "low", "high"], "{:.3f} [{:.3f}, {:.3f}]")

    @property
    def verdicts(self) -> pd.DataFrame:
        """Systems by metrics, each cell like ``+0.056 [0.043, 0.070] better``, against the baseline."""
        return _words(self.differences, ["difference", "low", "high", "verdict"], "{:+.3f} [{:.3f}, {:.3f}] {}")

    @property
    def groups(self) -> pd.DataFrame:
        """Systems by groups of users, each cell like ``-0.056 [-0.070, -0.043] worse``: the gap to all others."""
        rows = self.slices.assign(metric=self.slices["profile"] + ": " + self.slices["group"])
        return _words(rows, ["gap", "gap_low", "gap_high", "verdict"], "{:+.3f} [{:.3f}, {:.3f}] {}")

    def _shown(self) -> list[pd.DataFrame]:
        return [table for table in (self.table, self.verdicts, self.groups) if not table.empty]

    def save(self, path: str | Path) -> Path:
        """Write the tables of words to a ``.csv`` (the numbers instead), ``.tex`` (with booktabs) or ``.html`` file.

        Raises ReclabError: the name has another ending.
        """
        path = Path(path)
        write = {".csv": self._csv, ".tex": self._latex, ".html": self._repr_html_}.get(path.suffix)
        if write is None:
            raise ReclabError(f"a card is saved as .csv, .tex or .html, not as {path.name!r}")
        write_atomically(path, write())
        return path

    def _csv(self) -> str:
        both = self.values.merge(self.differences, "left", ["system", "metric"], suffixes=("", "_of_difference"))
        return both.to_csv(index=False, lineterminator="\n")

    def _latex(self) -> str:
        return "\n".join(table.T.to_latex(escape=True) for table in self._shown())

    def __repr__(self) -> str:
        alarms = [f"LOOK: {alarm}" for alarm in self.alarms]
        return "\n\n".join([self.note, *(table.T.to_string() for table in self._shown()), *alarms])

    def _repr_html_(self) -> str:
        said = [self.note, *(f"LOOK: {alarm}" for alarm in self.alarms)]
        return "".join(
            [f"<p>{html.escape(line)}</p>" for line in said] + [table.T.to_html() for table in self._shown()]
        )


def _words(rows: pd.DataFrame, columns: list[str], form: str) -> pd.DataFrame:
    cells = [form.format(*row).replace(" [nan, nan]", "") for row in rows[columns].itertuples(index=False)]
    index = [rows["system"], rows["metric"]]
    table = pd.Series(cells, index=index, dtype=object).unstack(fill_value="")
    return table.loc[rows["system"].unique(), rows["metric"].unique()].rename_axis(index=None, columns=None)


def tradeoff(card: Scorecard, across: str, up: str) -> plots.Picture:
    """Every system by two metrics, with its intervals.

    Raises UnknownNameError: a metric that is not on the card.
    """
    rows = {metric: card.values[card.values["metric"] == metric].set_index("system") for metric in (across, up)}
    for metric, found in rows.items():
        if found.empty:
            raise UnknownNameError("metric", metric, card.values["metric"].unique())
    fig, axes = plots.figure(title=f"{up} against {across}")
    said = []
    for system in rows[across].index.intersection(rows[up].index):
        x, y = (found.loc[system] for found in rows.values())
        errors = {"xerr": _arms(x), "yerr": _arms(y)}
        axes.errorbar(x["value"], y["value"], **errors, fmt="o", capsize=2)
        name = system.replace("$", r"\$")
        axes.annotate(name, (x["value"], y["value"]), xytext=(5, 5), textcoords="offset points")
        said.append(f"{system} {x['value']:.3f} and {y['value']:.3f}")
    axes.set(xlabel=across, ylabel=up)
    axes.margins(x=0.15, y=0.12)
    return plots.show(fig, f"Systems by {across} and {up}: {'; '.join(said)}.")


def explore(card: Scorecard, across: str, up: str):
    """The trade-off with menus for both metrics; the first one alone where no kernel runs."""
    import ipywidgets

    names = list(card.values["metric"].unique())
    controls = {
        name: ipywidgets.Dropdown(options=names, value=first, description=name)
        for name, first in {"across": across, "up": up}.items()
    }
    return plots.Explorer(lambda across, up: tradeoff(card, across, up), **controls)


def _arms(row) -> list | None:
    arms = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
    return None if pd.isna(row["low"]) else [[max(arm[0], 0)] for arm in arms]
