import json
import math
import tomllib

import pytest

from reclab import calibrate as cal
from reclab import receipts
from reclab.errors import ReclabError
from reclab.profiles import get_profile
from reclab.results import CORRELATION, SHARE, Result
from reclab.run import run_afresh
from small_notebooks import CHECK, write

SEED = "import os, pathlib\nseed = int(os.environ['RECLAB_SEED'])\n" + CHECK
# Notes each run in a file beside the notebook, with what the derived cache held.
COUNT = (
    "derived = pathlib.Path(os.environ['RECLAB_DERIVED'])\n"
    "with open('runs.txt', 'a') as file: print(seed, derived.exists(), file=file)\n"
    "derived.mkdir(parents=True)\n"
)


def test_a_band_is_the_prediction_interval_worked_out_by_hand():
    # sd = sqrt(2.5), sqrt(1 + 1/5) = sqrt(1.2), their product is sqrt(3); t(0.9995, 4) = 8.610 in any table.
    mean, sd, low, high = cal.band([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3 and sd == pytest.approx(math.sqrt(2.5))
    margin = 8.6103 * math.sqrt(3)  # 14.9134
    assert (low, high) == (-11.92, 17.92)
    assert low <= 3 - margin and high >= 3 + margin
    # t(0.9995, 1) = 636.62, sd = 0.01 / sqrt(2), sqrt(1 + 1/2): a margin of 5.5133.
    assert cal.band([0.50, 0.51])[2:] == (-5.009, 6.019)


def test_a_count_that_never_varies_has_no_room():
    assert cal.band([943123.0] * 3) == (943123.0, 0.0, 943123.0, 943123.0)
    assert cal.band([0.0, 0.0]) == (0.0, 0.0, 0.0, 0.0)
    low, high = cal.band([10.0, 10.0, 11.0])[2:]
    assert low < 10 and high > 11


def test_a_number_that_hardly_varies_has_room_for_rounding_outwards_to_four_digits():
    assert cal.band([0.5] * 10) == (0.5, 0.0, 0.4995, 0.5005)
    assert cal.band([-0.5] * 10)[2:] == (-0.5005, -0.4995)
    assert cal.band([0.95, 0.95 + 1e-12])[2:] == (0.949, 0.951)
    assert cal.band([1e-12] * 2)[2:] == (-9.99e-10, 1.002e-09)  # 1e-9 to each side
    assert cal.band([0.1] * 3)[0] == 0.1
    assert cal.band([123456.5] * 2)[2:] == (123300.0, 123600.0)
    assert cal.band([0.94] * 2)[2:] == (0.939, 0.941)  # 0.93906 and 0.94094


def test_a_number_with_an_interval_has_room_for_what_that_cannot_tell():
    assert cal.band([0.08] * 10, own=0.06)[2:] == pytest.approx((0.077, 0.083), abs=1.1e-5)  # a twentieth of 0.06
    zero = cal.band([0.0] * 10, own=0.2)[2:]
    assert zero == pytest.approx((-0.01, 0.01), abs=1.1e-5), "a correlation of nought is no count"
    wide = [0.1, 0.2, 0.3, 0.4]
    assert cal.band(wide, own=0.1) == cal.band(wide)  # the seeds vary more


def test_calibrate_reads_the_interval_of_a_number_and_leaves_a_broken_one_out(tmp_path, profile):
    path = write(tmp_path, "02_a", SEED + "check('02.x', (0.5, 0.3, 0.7))\ncheck('02.y', (0.5, float('nan'), 0.7))")
    calibrate(path, profile, tmp_path, n_seeds=2)
    written = tomllib.loads((tmp_path / "expected" / "laptop" / "02.toml").read_text("utf-8"))["bands"]
    assert [written["02.x"][end] for end in ("low", "high")] == [0.49, 0.51]
    assert [written["02.y"][end] for end in ("low", "high")] == [0.4995, 0.5005]


def test_a_band_holds_the_share_that_it_promises():
    # 99.9% of new draws from a normal distribution; over 1,000 bands the standard error is 0.1 points.
    import numpy as np

    draws = np.random.default_rng(0).normal(10, 1, size=(1000, 6))
    inside = [low <= new <= high for *old, new in draws.tolist() for _, _, low, high in [cal.band(old)]]
    assert np.mean(inside) >= 0.996


def result(value, **fields):
    return Result("02.a", value, None, None, "recorded", **fields)


def test_the_band_of_a_share_ends_where_shares_end_and_that_of_a_difference_does_not():
    values = [0.9, 0.99, 0.95]
    _, _, low, high = cal.band(values)
    assert high > 1
    assert cal.band(values, possible=SHARE)[2:] == (max(low, 0.0), 1.0)
    assert cal.band([-0.99, 0.99], possible=CORRELATION)[2:] == (-1.0, 1.0)
    measured = {seed: {"02.a": result(value, possible=SHARE)} for seed, value in enumerate(values, 1)}
    assert cal.make_bands("02_a", measured)["02.a"][2:4] == (max(low, 0.0), 1.0)


@pytest.fixture
def profile():
    return get_profile("laptop", seed=0)


def calibrate(path, profile, tmp_path, *, n_seeds=3, n_proof=0):
    kept = tmp_path / "runs" / "calibrate"
    return cal.calibrate(path, profile, run_afresh, n_seeds=n_seeds, n_proof=n_proof, runs=kept)


def test_calibrate_writes_bands_from_seeds_with_an_empty_cache_and_does_not_repeat_them(tmp_path, profile, capsys):
    path = write(tmp_path, "02_a", SEED + COUNT + "check('02.x', seed / 10)\ncheck('02.n', 5)")
    assert calibrate(path, profile, tmp_path) is None
    said = capsys.readouterr().out.splitlines()
    assert (tmp_path / "runs.txt").read_text().split("\n")[:-1] == ["1 False", "2 False", "3 False"]
    target = tmp_path / "expected" / "laptop" / "02.toml"
    text = target.read_text("utf-8")
    assert text.startswith("# Written by `reclab calibrate`; do not edit.\n")
    written = tomllib.loads(text)
    mean, sd, low, high = cal.band([0.1, 0.2, 0.3])
    assert written["bands"] == {
        "02.n": {"mean": 5.0, "sd": 0.0, "n": 3, "low": 5.0, "high": 5.0},
        "02.x": {"mean": mean, "sd": sd, "n": 3, "low": low, "high": high},
    }
    meta = written["meta"]
    assert meta["seeds"] == [1, 2, 3] and meta["profile"] == "laptop"
    assert meta["source"] == receipts.source_hash() and len(meta["notebook"]) == 64
    assert meta["version_numpy"] == receipts.versions()["numpy"] and "version_reclab" in meta
    assert "proof_inside" not in meta
    assert "02_a, seed 1 ... " in said[0] and said[0].endswith(" s, 2 results")

    calibrate(path, profile, tmp_path)
    assert capsys.readouterr().out.splitlines()[0] == "02_a, seed 1 ... kept from before"
    assert len((tmp_path / "runs.txt").read_text().splitlines()) == 3
    assert target.read_text("utf-8") == text
    left = {p.name for p in (tmp_path / "runs" / "calibrate" / "laptop").glob("02-*/*")}
    assert left == {"1", "2", "3"}


def test_new_code_is_measured_anew(tmp_path, profile):
    calibrate(write(tmp_path, "02_a", SEED + COUNT + "check('02.x', 1)"), profile, tmp_path, n_seeds=2)
    calibrate(write(tmp_path, "02_a", SEED + COUNT + "check('02.x', 2)"), profile, tmp_path, n_seeds=2)
    assert len((tmp_path / "runs.txt").read_text().splitlines()) == 4
    written = tomllib.loads((tmp_path / "expected" / "laptop" / "02.toml").read_text("utf-8"))
    assert written["bands"]["02.x"]["mean"] == 2


def test_the_proof_runs_fresh_seeds_and_is_written_down(tmp_path, profile):
    # From seed 3 on the count is another: the band of seeds 1 and 2 must miss it.
    source = SEED + "check('02.n', 5 if seed < 3 else 6)\ncheck('02.m', 4)"
    proof = calibrate(write(tmp_path, "02_a", source), profile, tmp_path, n_seeds=2, n_proof=2)
    assert proof == (0.5, [f"seed {s}: 02.n = 6 lies outside [5, 5]" for s in (3, 4)])
    meta = tomllib.loads((tmp_path / "expected" / "laptop" / "02.toml").read_text("utf-8"))["meta"]
    assert meta["proof_inside"] == 0.5 and meta["proof_seeds"] == [3, 4] and meta["seeds"] == [1, 2]


def test_a_missing_result_counts_as_outside_in_the_proof():
    bands = {"02.a": (1.0, 0.0, 1.0, 1.0, 2)}
    assert cal.prove(bands, {3: {"02.a": result(1.0)}})[0] == 1
    assert cal.prove(bands, {3: {}})[0] == 0
    assert cal.prove(bands, {3: {"02.a": result(math.nan)}})[0] == 0


def test_a_notebook_that_fails_stops_with_the_reason_and_writes_no_bands(tmp_path, profile):
    path = write(tmp_path, "02_a", SEED + "check('02.x', 1)\nassert seed < 2, 'no luck'")
    with pytest.raises(ReclabError, match=r"^02_a, seed 2: cell \[1\]: AssertionError: no luck$"):
        calibrate(path, profile, tmp_path)
    assert not (tmp_path / "expected").exists()
    kept = list((tmp_path / "runs" / "calibrate" / "laptop").glob("02-*/*"))
    assert [p.name for p in kept] == ["1"]  # what was measured stays, nothing half-done does


def test_a_result_that_one_seed_lacks_is_named():
    one = result(1.0)
    measured = {1: {"02.a": one, "02.b": one}, 2: {"02.a": one}, 3: {"02.a": one}}
    with pytest.raises(ReclabError, match=r"02_a: 02\.b was not checked under seed 2, 3"):
        cal.make_bands("02_a", measured)
    with pytest.raises(ReclabError, match=r"02_a: 02\.a: a band needs finite values"):
        cal.make_bands("02_a", {1: {"02.a": one}, 2: {"02.a": result(math.nan)}})


def test_one_seed_is_too_few(tmp_path, profile):
    with pytest.raises(ReclabError, match="--seeds must be at least 2, got 1"):
        calibrate(write(tmp_path, "02_a", "1"), profile, tmp_path, n_seeds=1)


def test_the_file_of_bands_is_toml_for_any_number():
    numbers = (1e-12, 0.0, -1.5e300, 12.0)
    text = cal.toml({"profile": "laptop", "seeds": [1, 2]}, {'02."odd" \\ key': (*numbers, 2)})
    read = tomllib.loads(text)
    assert list(read["bands"]['02."odd" \\ key'].values()) == [1e-12, 0.0, 2, -1.5e300, 12.0]
    assert read["meta"] == json.loads('{"profile": "laptop", "seeds": [1, 2]}')
