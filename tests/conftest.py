"""The same start for every run: nothing left over from an earlier one, nothing of the user's own touched."""

import gc
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

import reclab  # noqa: F401  (before torch, as in the notebooks: its threads then wait without taking the processor)
from waiting import CEILING

# The stored outputs are those of the laptop profile with seed 0; kernels inherit this environment.
_CLEARED = ("RECLAB_PROFILE", "RECLAB_SEED", "RECLAB_PRECISION", "RECLAB_MODEL")
_before = pytest.StashKey[dict]()
_scratch = pytest.StashKey[Path]()


def pytest_configure(config):
    names = (*_CLEARED, "RECLAB_DERIVED", "RECLAB_LEDGER")
    config.stash[_before] = {name: os.environ.get(name) for name in names}
    config.stash[_scratch] = scratch = Path(tempfile.mkdtemp(prefix="reclab-tests-"))
    for name in _CLEARED:
        os.environ.pop(name, None)
    os.environ.setdefault("RECLAB_DERIVED", str(scratch / "derived"))
    os.environ["RECLAB_LEDGER"] = str(scratch / "ledger")


def pytest_unconfigure(config):
    for name, value in config.stash.get(_before, {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if scratch := config.stash.get(_scratch, None):
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def what_is_imported_stays():
    """A fit, which collects garbage twice, need not look through every library each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def the_environment_stays():
    """The kernels of the notebooks inherit it: one thread, another way to wait or another allocator would be unseen."""

    def speed():
        return {name: os.environ[name] for name in os.environ if re.match("OMP_|.*(THREADS|MALLOC)", name)}

    before = speed()
    yield
    assert speed() == before, "a test of this module left variables behind that every later kernel inherits"


# A real browser

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def page():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, timeout=CEILING * 1000)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(CEILING * 1000)
        yield page
        browser.close()
