"""Measure the band of each number: run a notebook under many seeds, then try it on fresh seeds."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from pathlib import Path

from .errors import ReclabError
from .profiles import Profile
from .receipts import code_hash, source_hash, versions
from .results import Result, read_ledger, read_notebook, write_atomically

PROOF = 0.97  # the share of fresh results that has to lie inside
_CONFIDENCE = 0.999
_ROUNDING = 1e-3  # of the mean: another processor moves what is exact here by less
_OWN = 0.05  # of half a number's own interval: what cannot be told from nothing
_VERSIONS = ("reclab", "numpy", "torch", "transformers")


def band(
    values: list[float], own: float = 0.0, possible=(-math.inf, math.inf)
) -> tuple[float, float, float, float]:
    """The band that one more run should fall into: the 99.9% t prediction interval.

    ``mean +- t(0.9995, n - 1) * sd * sqrt(1 + 1/n)``, but never narrower than 0.1% of the mean
    either side, nor than a twentieth of half the number's own interval: room for another machine's
    rounding, which may turn a near tie. A whole number that every seed gives alike is a count,
    without room.

    Parameters
    ----------
    values : the number under each of at least two seeds.
    own : half the width of its own 95% interval, 0 where it has none.
    possible : the least and the greatest number that it can be; the band is cut there.

    Returns: mean, sd, low, high : the bounds are rounded outwards to four significant digits, save
        for a count.

    Raises ReclabError: a value is not finite.

    Source: Hahn and Meeker, Statistical Intervals (1991), section 4.8.

    >>> band([12.0, 12.0, 12.0])
    (12.0, 0.0, 12.0, 12.0)
    """
    from scipy.stats import t

    n = len(values)
    if not all(map(math.isfinite, values)):
        raise ReclabError("a band needs finite values, one is not a number or is infinite")
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    if len(set(values)) == 1:
        mean = values[0]  # a mean of equal numbers can miss them by a rounding
        if mean == int(mean) and not own:
            return mean, 0.0, mean, mean
    margin = t.ppf(1 - (1 - _CONFIDENCE) / 2, n - 1) * sd * math.sqrt(1 + 1 / n)
    margin = max(margin, _ROUNDING * abs(mean), _OWN * own, 1e-9)
    ends = [(mean - margin, ROUND_FLOOR), (mean + margin, ROUND_CEILING)]
    # Decimal rounds the digits that one sees: 0.001 stays 0.001 in both directions.
    low, high = (
        float(Context(prec=4, rounding=way).create_decimal(repr(float(end)))) for end, way in ends
    )
    return mean, sd, max(low, possible[0]), min(high, possible[1])


def calibrate(
    path: Path, profile: Profile, run_afresh: Callable, *, n_seeds: int, n_proof: int, runs: Path
) -> tuple[float, list[str]] | None:
    """Write ``expected/<profile>/NN.toml`` beside a notebook from seeds 1 to ``n_seeds``, then try
    it on ``n_proof`` fresh ones.

    Each run starts with an empty derived cache. Finished seeds are kept in ``runs`` and not run
    again while the notebook's code, the package and the libraries stay as they are.

    Parameters
    ----------
    run_afresh : `reclab.run.run_afresh`.
    n_seeds : runs behind each band, at least 2.
    runs : folder of what is kept between calls.

    Returns: what `prove` does; None where ``n_proof`` is 0.

    Raises ReclabError: the notebook failed under a seed, or a result was missing under one.
    """
    if n_seeds < 2:
        raise ReclabError(f"--seeds must be at least 2, got {n_seeds}")
    number, found = path.stem[:2], versions()
    code, source = code_hash(read_notebook(path)), source_hash()
    made_by = hashlib.sha256(json.dumps([code, source, found]).encode()).hexdigest()
    kept = runs / profile.name / f"{number}-{made_by[:12]}"
    target = path.parent / "expected" / profile.name / f"{number}.toml"
    meta = {
        "profile": profile.name,
        "seeds": list(range(1, n_seeds + 1)),
        "notebook": code,
        "source": source,
    }
    meta |= {f"version_{name}": version for name, version in found.items() if name in _VERSIONS}

    def measure(seed: int) -> dict[str, Result]:
        head, ledger = f"{path.stem}, seed {seed}", kept / str(seed)
        if (ledger / f"{number}.json").is_file():
            print(f"{head} ... kept from before")
            return read_ledger(number, ledger)
        run = run_afresh(path, replace(profile, seed=seed))
        if run.error:
            raise ReclabError(f"{head}: {run.error}")
        rows = [asdict(result) for result in run.results.values()]
        write_atomically(ledger / f"{number}.json", json.dumps(rows))
        print(f"{head} ... {run.seconds:.0f} s, {len(rows)} results")
        return run.results

    bands = make_bands(path.stem, {seed: measure(seed) for seed in meta["seeds"]})
    write_atomically(target, toml(meta, bands))
    print(f"{path.stem}: {len(bands)} bands from {n_seeds} seeds, in {target}")
    if not n_proof:
        return None
    fresh = {seed: measure(seed) for seed in range(n_seeds + 1, n_seeds + n_proof + 1)}
    inside, missed = prove(bands, fresh)
    meta |= {"proof_inside": round(inside, 4), "proof_seeds": list(fresh)}
    write_atomically(target, toml(meta, bands))
    return inside, missed


def make_bands(name: str, measured: dict[int, dict[str, Result]]) -> dict[str, tuple]:
    """The band of each key: ``mean, sd, low, high, n``.

    name : the notebook's, for messages. measured : seed -> key -> result.

    Raises ReclabError: a key is missing under some seed, or a value is not finite.
    """
    bands = {}
    for key in sorted(set().union(*measured.values())):
        if absent := [str(seed) for seed, found in measured.items() if key not in found]:
            where = f"under seed {', '.join(absent)}"
            raise ReclabError(f"{name}: {key} was not checked {where}; check it always")
        results = [found[key] for found in measured.values()]
        halves = [(r.interval[1] - r.interval[0]) / 2 if r.interval else 0.0 for r in results]
        own = statistics.fmean(half if math.isfinite(half) else 0.0 for half in halves)
        possible = results[0].possible or (-math.inf, math.inf)
        try:
            bands[key] = (*band([r.value for r in results], own, possible), len(results))
        except ReclabError as error:
            raise ReclabError(f"{name}: {key}: {error}") from None
    return bands


def prove(bands: dict[str, tuple], fresh: dict[int, dict[str, Result]]) -> tuple[float, list[str]]:
    """Try bands on seeds that they were not made from: the share inside, and a line for each result
    outside, as a missing one is.
    """
    missed = []
    for seed, found in fresh.items():
        for key, (_, _, low, high, _) in bands.items():
            value = found[key].value if key in found else math.nan
            if not low <= value <= high:
                place = f"lies outside [{low:.6g}, {high:.6g}]"
                missed.append(f"seed {seed}: {key} = {value:.6g} {place}")
    total = len(bands) * len(fresh)
    return 1 - len(missed) / total if total else 1.0, missed


def toml(meta: dict, bands: dict[str, tuple]) -> str:
    """The text of ``expected/<profile>/NN.toml``; JSON's strings, numbers and lists are TOML's."""
    lines = ["# Written by `reclab calibrate`; do not edit.", "", "[meta]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in meta.items()]
    for key, (mean, sd, low, high, n) in bands.items():
        lines += ["", f"[bands.{json.dumps(key)}]", f"mean = {mean!r}", f"sd = {sd!r}"]
        lines += [f"n = {n}", f"low = {low!r}", f"high = {high!r}"]
    return "\n".join(lines) + "\n"
