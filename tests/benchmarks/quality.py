"""Quality of the fine-tune, read from what was calibrated and published: nothing is trained here."""

from __future__ import annotations

from collections.abc import Iterator

from measures import row
from scipy import stats

from reclab import results

LEAST = {2_000: 0.94, 4_000: 0.95}


def measure() -> Iterator[dict]:
    """AUC with its 95% interval at 2,000 reviews (over seeds, float32) and at 4,000, and what bf16 changes."""
    band = results.bands("02", "laptop")["02.auc_finetuned"]
    half = stats.t.ppf(0.975, band["n"] - 1) * band["sd"] / band["n"] ** 0.5
    mean = band["mean"]
    yield from auc_rows(f"2,000 reviews, mean over {band['n']} seeds", 2_000, mean, mean - half, mean + half)
    stored = auc_of("02_labels", "finetuned", labels=4_000)
    yield from auc_rows("4,000 reviews, table 02_labels", 4_000, *stored)
    made = (results.expected_folder() / "published" / "02_methods.csv").is_file()
    bf16 = auc_of("02_methods", "auc", method="full")[0] if made else None
    name = "AUC at 2,000 reviews, table 02_methods (bf16 where its CPU has it) less that in float32"
    yield row(name, None if bf16 is None else bf16 - mean, "AUC")


def auc_rows(name: str, reviews: int, mean: float, low: float, high: float) -> Iterator[dict]:
    """A mean against its bar, and the ends of its interval."""
    yield row(f"AUC at {name}", mean, "AUC", least=LEAST[reviews])
    yield row(f"AUC at {name}: 95% interval from", low, "AUC")
    yield row(f"AUC at {name}: 95% interval to", high, "AUC")


def auc_of(table: str, column: str, **where) -> tuple[float, float, float]:
    """An AUC of a stored table, and the ends of its interval."""
    frame = results.table(table).frame
    ((key, value),) = where.items()
    found = frame[frame[key] == value].iloc[0]
    return tuple(float(found[name]) for name in (column, f"{column}_low", f"{column}_high"))
