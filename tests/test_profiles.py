"""Profiles and how one is chosen; the errors that every module raises."""

import sys
import types

import pytest

from reclab import errors
from reclab.profiles import PROFILES, get_profile


@pytest.fixture(autouse=True)
def _no_choice_made(monkeypatch):
    for name in ("RECLAB_PROFILE", "RECLAB_SEED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)


@pytest.fixture
def cuda(monkeypatch):
    """Lets a test say whether there is a GPU, without torch."""

    def say(available):
        fake = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: available))
        monkeypatch.setitem(sys.modules, "torch", fake)

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
    monkeypatch.setenv("RECLAB_PROFILE", "")
    monkeypatch.setenv("RECLAB_SEED", "")
    assert (get_profile().name, get_profile().seed) == ("laptop", 0)


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
    assert (laptop.mixed_precision, gpu.mixed_precision) == ("no", "fp16")
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
