"""Profiles, their precision, and how one is chosen; threads and limits; the errors that every module raises."""

import dataclasses
import os
import re
import subprocess
import sys
import types
import warnings

import pytest

from reclab import errors, profiles
from reclab.profiles import PROFILES, cores_granted, get_profile, memory_granted
from refresh_notebooks import SETUP

VARIABLES = ("RECLAB_PROFILE", "RECLAB_SEED", "RECLAB_PRECISION", "RECLAB_MODEL")


@pytest.fixture(autouse=True)
def _no_choice_made(monkeypatch):
    for name in VARIABLES:
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


def test_argument_before_variable_before_default(monkeypatch):
    assert (get_profile().name, get_profile().seed) == ("laptop", 0)
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    assert get_profile() == PROFILES["laptop"], "an empty variable counts as unset"
    monkeypatch.setenv("RECLAB_PROFILE", "gpu")
    monkeypatch.setenv("RECLAB_SEED", "7")
    monkeypatch.setenv("RECLAB_MODEL", "minilm-l6")
    monkeypatch.setenv("RECLAB_PRECISION", "fp16")
    changed = {"seed": 7, "model": "minilm-l6", "mixed_precision": "fp16"}
    assert get_profile() == dataclasses.replace(PROFILES["gpu"], **changed)
    assert (get_profile("laptop").name, get_profile("laptop", seed=0).seed) == ("laptop", 0)


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


@pytest.mark.parametrize("seed", ["x", "-1", "1.5", "²", "4294967296", "9" * 5000])
def test_a_seed_that_is_no_whole_number_is_refused(seed, monkeypatch):
    monkeypatch.setenv("RECLAB_SEED", seed)
    with pytest.raises(errors.ReclabError) as refused:
        get_profile()
    assert str(refused.value) == f"RECLAB_SEED must be a whole number from 0 to 4294967295, got {seed!r}"


# Precision


@pytest.mark.parametrize(
    ("name", "gpu", "asked", "bf16", "want"),
    [
        ("gpu", 1, "auto", True, "bf16"),
        ("gpu", 1, "auto", False, "fp16"),
        ("gpu", 1, "no", True, "no"),
        ("gpu", 1, "bf16", False, "bf16"),
        ("gpu", 0, "auto", True, "bf16"),
        ("laptop", 0, "auto", True, "bf16"),
        ("laptop", 0, "auto", False, "no"),
        ("laptop", 0, "no", True, "no"),
        ("laptop", 0, "bf16", True, "bf16"),
    ],
)
def test_auto_takes_bf16_where_the_device_has_it(name, gpu, asked, bf16, want, cuda, monkeypatch):
    cuda(bool(gpu), bf16)
    monkeypatch.setattr(profiles, "cpu_has_bf16", lambda: bf16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dataclasses.replace(PROFILES[name], mixed_precision=asked).precision == want


@pytest.mark.parametrize("asked", ["bf16", "fp16"])
def test_a_cpu_without_bf16_says_that_it_computes_in_float32(asked, cuda, monkeypatch):
    cuda(False)
    monkeypatch.setattr(profiles, "cpu_has_bf16", lambda: False)
    with pytest.warns(UserWarning, match=f"^this CPU has no bf16 instructions: {asked} is replaced by float32$"):
        assert dataclasses.replace(PROFILES["laptop"], mixed_precision=asked).precision == "no"


@pytest.mark.parametrize("asked", ["fp32", "BF16"])
def test_an_unknown_precision_is_refused(asked, monkeypatch):
    monkeypatch.setenv("RECLAB_PRECISION", asked)
    with pytest.raises(errors.ReclabError) as refused:
        get_profile()
    assert str(refused.value) == f"RECLAB_PRECISION must be one of no, bf16, fp16, auto, got {asked!r}"


# What a container is granted


def control_group(root, lines, **files):
    """The files in which Linux keeps the limits of control groups."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text("\n".join(lines) + "\n")
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name.replace("-", ".")).write_text(text + "\n")


NEW = ["0::/docker/ab"]
OLD = ["9:name=systemd:/x", "4:memory:/docker/ab", "1:cpu,cpuacct:/docker/ab", "0::/"]
GROUPS = {
    "no files": ([], {}, 8, None),
    "no limit": (NEW, {"docker__ab__cpu-max": "max 100000", "docker__ab__memory-max": "max"}, 8, None),
    "its own": (NEW, {"docker__ab__cpu-max": "150000 100000", "docker__ab__memory-max": "2048"}, 1.5, 2048),
    "the one around it": (NEW, {"docker__cpu-max": "200000 100000", "docker__ab__cpu-max": "max 100000"}, 2, None),
    "the smaller": (NEW, {"docker__memory-max": "10", "docker__ab__memory-max": "20"}, 8, 10),
    "its own as the root": (NEW, {"cpu-max": "50000 100000", "memory-max": "4096"}, 0.5, 4096),
    "more than is seen": (NEW, {"cpu-max": "900000 100000"}, 8, None),
    "damaged": (NEW, {"cpu-max": "many", "memory-max": ""}, 8, None),
    "old": (
        OLD,
        {
            "cpu__docker__ab__cpu-cfs_quota_us": "300000",
            "cpu__docker__ab__cpu-cfs_period_us": "100000",
            "memory__docker__ab__memory-limit_in_bytes": "512",
        },
        3,
        512,
    ),
    "old without a limit": (OLD, {"cpu__cpu-cfs_quota_us": "-1", "cpu__cpu-cfs_period_us": "100000"}, 8, None),
}


@pytest.mark.parametrize("name", GROUPS)
def test_limits_of_control_groups_are_read(tmp_path, monkeypatch, name):
    lines, files, cores, memory = GROUPS[name]
    monkeypatch.setattr(profiles, "cores_seen", lambda: 8)
    if lines:
        control_group(tmp_path, lines, **files)
    assert (cores_granted(tmp_path), memory_granted(tmp_path)) == (cores, memory)


# What `import reclab` sets before a library asks: threads that sleep while they wait, and no more than are granted

POLICY, THREADS = "OMP_WAIT_POLICY", "OMP_NUM_THREADS"


def python(code: str, **variables) -> subprocess.CompletedProcess:
    """Run some code in a fresh process, whose environment does not have the variables yet."""
    plain = {name: value for name, value in os.environ.items() if name not in (POLICY, THREADS)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=plain | variables, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("first", ["import reclab", SETUP], ids=["the package", "the set-up cell"])
@pytest.mark.parametrize(("own", "policy"), [({}, "PASSIVE"), ({POLICY: "ACTIVE"}, "ACTIVE")])
def test_every_openmp_library_that_is_loaded_after_it_has_the_policy(first, own, policy):
    done = python(first + "\nimport torch\nimport sklearn.linear_model", OMP_DISPLAY_ENV="true", **own)
    told = re.findall(rf"{POLICY} ?= ?'(\w+)'", done.stderr)
    assert told and set(told) == {policy}


@pytest.mark.parametrize(
    ("granted", "own", "threads"),
    [("8", {}, None), ("2.5", {}, "2"), ("0.3", {}, "1"), ("2.5", {THREADS: "4"}, "4")],
)
def test_threads_follow_what_is_granted_unless_the_user_chose(granted, own, threads):
    code = (
        "import importlib, os, reclab\nfrom reclab import profiles\n"
        f"profiles.cores_seen, profiles.cores_granted = lambda: 8, lambda: {granted}\n"
        f"importlib.reload(reclab)\n"
        f"print(os.environ.get({THREADS!r}))"
    )
    assert python(code, **own).stdout.strip() == str(threads)


# Errors


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fusoin", " (did you mean '04_multimodal_fusion'?)"),
        ("BERT", " (did you mean '02_bert'?)"),
        ("4_multimodal_fuson", " (did you mean '04_multimodal_fusion'?)"),
        ("netflix", ""),
        (7, ""),
    ],
)
def test_an_unknown_name_lists_the_known_ones_in_order_and_the_one_that_was_meant(name, hint):
    error = errors.UnknownNameError("notebook", name, {"04_multimodal_fusion": 1, "02_bert": 2})
    assert str(error) == f"there is no notebook named {name!r}; choose one of: 02_bert, 04_multimodal_fusion{hint}"
    assert (error.kind, error.name, error.known) == ("notebook", name, ["02_bert", "04_multimodal_fusion"])


def test_any_message_is_one_line():
    assert errors.one_line("two\n  lines\x1b[31m red\x1b[0m") == "two lines red"
    assert errors.one_line("x" * 300, 10) == "xxxxxxx..." and errors.one_line(None) == "None"
