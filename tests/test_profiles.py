"""Profiles, their precision, and how one is chosen; the errors that every module raises."""

import dataclasses
import sys
import types
import warnings

import pytest

from reclab import errors, profiles
from reclab.profiles import PROFILES, get_profile


@pytest.fixture(autouse=True)
def _no_choice_made(monkeypatch):
    for name in ("RECLAB_PROFILE", "RECLAB_SEED", "RECLAB_PRECISION", "RECLAB_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)


@pytest.fixture
def cuda(monkeypatch):
    """Lets a test say whether there is a GPU, without torch."""

    def say(available, bf16=True):
        fake = types.SimpleNamespace(
            is_available=lambda: available, is_bf16_supported=lambda including_emulation: bf16 or including_emulation
        )
        monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=fake))

    return say


def test_the_laptop_is_the_default_and_seed_zero():
    assert (get_profile().name, get_profile().seed) == ("laptop", 0)


def test_argument_before_variable_before_default(monkeypatch):
    monkeypatch.setenv("RECLAB_PROFILE", "gpu")
    monkeypatch.setenv("RECLAB_SEED", "7")
    assert (get_profile().name, get_profile().seed) == ("gpu", 7)
    assert (get_profile("laptop").name, get_profile("laptop", seed=3).seed) == ("laptop", 3)
    assert get_profile(seed=0).seed == 0


def test_empty_variables_count_as_unset(monkeypatch):
    for name in ("RECLAB_PROFILE", "RECLAB_SEED", "RECLAB_PRECISION"):
        monkeypatch.setenv(name, "")
    assert (get_profile().name, get_profile().seed, get_profile().mixed_precision) == ("laptop", 0, "no")


@pytest.mark.parametrize(
    ("colab", "gpu", "want"), [(1, 1, "gpu"), (1, 0, "laptop"), (0, 1, "laptop"), (0, 0, "laptop")]
)
def test_only_colab_with_cuda_takes_gpu_by_itself(colab, gpu, want, cuda, monkeypatch):
    cuda(bool(gpu))
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    assert get_profile().name == want
    assert get_profile("laptop").name == "laptop"


@pytest.mark.parametrize(
    ("name", "gpu", "want"), [("gpu", 1, "cuda"), ("gpu", 0, "cpu"), ("laptop", 1, "cpu"), ("laptop", 0, "cpu")]
)
def test_the_laptop_profile_stays_on_the_cpu(name, gpu, want, cuda):
    cuda(bool(gpu))
    assert get_profile(name).device == want


def test_the_seed_changes_nothing_else():
    assert get_profile("gpu", seed=5) == PROFILES["gpu"].__class__(**vars(PROFILES["gpu"]) | {"seed": 5})
    assert PROFILES["gpu"].seed == 0
    assert all(name == profile.name for name, profile in PROFILES.items())


def test_gpu_is_the_larger_run():
    laptop, gpu = PROFILES["laptop"], PROFILES["gpu"]
    for size in ("n_reviews", "n_reviews_quick", "batch_size", "epochs", "replications", "horizon", "bootstrap"):
        assert getattr(gpu, size) > getattr(laptop, size), size
    assert laptop.n_reviews <= 2000
    assert (laptop.mixed_precision, gpu.mixed_precision) == ("no", "auto")
    assert (laptop.model, gpu.model) == ("minilm-l6", "bert-base-cased")


def test_profile_says_its_sizes():
    assert str(get_profile("laptop")) == (
        "profile laptop: minilm-l6, up to 2,000 reviews of 128 tokens, batches of 16, 1 epoch(s), mixed precision no"
    )


@pytest.mark.parametrize("name", ["lapto", "LAPTOP", "cpu"])
def test_an_unknown_profile_is_named_with_those_there_are(name, monkeypatch):
    message = f"there is no profile named '{name}'; choose one of: gpu, laptop"
    with pytest.raises(errors.UnknownNameError) as refused:
        get_profile(name)
    assert str(refused.value) == message
    monkeypatch.setenv("RECLAB_PROFILE", name)
    with pytest.raises(errors.UnknownNameError) as refused:
        get_profile()
    assert str(refused.value) == message


@pytest.mark.parametrize("seed", ["x", "-1", "1.5", "1e3", " 3", "²", "4294967296", "9" * 5000])
def test_a_seed_that_is_no_whole_number_is_refused(seed, monkeypatch):
    monkeypatch.setenv("RECLAB_SEED", seed)
    with pytest.raises(errors.ReclabError) as refused:
        get_profile()
    assert str(refused.value) == f"RECLAB_SEED must be a whole number from 0 to 4294967295, got {seed!r}"


@pytest.mark.parametrize("seed", [0, 1, 4294967295])
def test_every_seed_in_range_is_taken(seed, monkeypatch):
    monkeypatch.setenv("RECLAB_SEED", str(seed))
    assert get_profile().seed == seed


# Precision


@pytest.fixture
def cpu(monkeypatch, cuda):
    """Lets a test say whether the CPU computes in bf16, on a machine without a GPU."""

    def say(bf16):
        cuda(False)
        monkeypatch.setattr(profiles, "cpu_has_bf16", lambda: bf16)

    return say


def precision(name, asked):
    return dataclasses.replace(PROFILES[name], mixed_precision=asked).precision


@pytest.mark.parametrize(
    ("asked", "bf16", "want"),
    [("auto", True, "bf16"), ("auto", False, "fp16"), ("no", True, "no"), ("fp16", True, "fp16"), ("bf16", 0, "bf16")],
)
def test_a_gpu_takes_bf16_by_itself_where_it_has_it(asked, bf16, want, cuda):
    cuda(True, bool(bf16))
    assert precision("gpu", asked) == want
    assert PROFILES["gpu"].mixed_precision == "auto"


@pytest.mark.parametrize("name", ["laptop", "gpu"])
@pytest.mark.parametrize(
    ("asked", "bf16", "want"),
    [("auto", 1, "bf16"), ("auto", 0, "no"), ("no", 1, "no"), ("no", 0, "no"), ("bf16", 1, "bf16")],
)
def test_a_cpu_takes_bf16_by_itself_where_it_has_it(name, asked, bf16, want, cpu):
    cpu(bool(bf16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert precision(name, asked) == want


@pytest.mark.parametrize("asked", ["bf16", "fp16"])
def test_a_cpu_without_bf16_says_that_it_computes_in_float32(asked, cpu):
    cpu(False)
    message = f"^this CPU has no bf16 instructions: {asked} is replaced by float32$"
    with pytest.warns(UserWarning, match=message):
        assert precision("laptop", asked) == "no"


@pytest.mark.parametrize("asked", ["no", "bf16", "fp16", "auto"])
def test_the_environment_may_set_the_precision(asked, monkeypatch):
    assert (get_profile("laptop").mixed_precision, get_profile("gpu").mixed_precision) == ("no", "auto")
    monkeypatch.setenv("RECLAB_PRECISION", asked)
    for name in PROFILES:
        assert get_profile(name) == dataclasses.replace(PROFILES[name], mixed_precision=asked)


def test_the_environment_may_set_the_encoder(monkeypatch):
    assert get_profile("gpu").model == "bert-base-cased"
    monkeypatch.setenv("RECLAB_MODEL", "minilm-l6")
    assert get_profile("gpu") == dataclasses.replace(PROFILES["gpu"], model="minilm-l6")
    monkeypatch.setenv("RECLAB_MODEL", "")
    assert get_profile("gpu") == PROFILES["gpu"]


@pytest.mark.parametrize("asked", ["fp32", "BF16", "half"])
def test_an_unknown_precision_is_refused(asked, monkeypatch):
    monkeypatch.setenv("RECLAB_PRECISION", asked)
    with pytest.raises(errors.ReclabError) as refused:
        get_profile()
    assert str(refused.value) == f"RECLAB_PRECISION must be one of no, bf16, fp16, auto, got {asked!r}"


def test_bf16_of_the_cpu_is_read_from_its_flags():
    flags = cpu_flags()
    if flags is None:
        pytest.skip("the CPU's flags can be read on Linux only")
    assert profiles.cpu_has_bf16() == bool({"avx512_bf16", "amx_tile"} & flags)


def cpu_flags():
    try:
        with open("/proc/cpuinfo") as file:
            lines = [line for line in file if line.startswith("flags")]
    except OSError:
        return None
    return set(lines[0].split()) if lines else None


# Errors


def test_every_error_is_a_reclab_error_and_what_python_calls_it():
    for kind, builtin in {
        errors.AssetError: Exception,
        errors.SchemaError: ValueError,
        errors.LeakageError: AssertionError,
        errors.UnknownNameError: KeyError,
    }.items():
        assert issubclass(kind, errors.ReclabError)
        assert issubclass(kind, builtin)


def test_an_unknown_name_lists_the_known_ones_in_order():
    error = errors.UnknownNameError("asset", "film", {"movies": 1, "clothing": 2})
    assert str(error) == "there is no asset named 'film'; choose one of: clothing, movies"  # no quotes of a KeyError
    assert (error.kind, error.name, error.known) == ("asset", "film", ["clothing", "movies"])
