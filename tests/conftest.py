"""How much is tried and where it runs; workplaces like a user's, since tests run pytest inside pytest."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chromium import Chromium
    from plugin_support import Workplace

pytest_plugins = ["pytester"]

# `tox -e thorough` looks longer: HYPOTHESIS_PROFILE=thorough.
settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure() -> None:
    """Let the hundreds of processes that tests start share what is compiled: compiling took each most of its start.

    And let them be interrupted, and leave out what nothing here uses: numpy's pool of BLAS threads, which costs more
    than the rest of its import, and a search of all installed packages for pydantic's plugins.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # What a shell starts in the background ignores Ctrl-C, and so would the processes that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Distribute files in our own way, unless another one is asked for."""
    if config.getoption("dist") != "load":
        return None
    from distribution import SpreadFiles

    return SpreadFiles(config, log)


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        # Under CI pytest writes whole messages into its short summary.
        if name.startswith("AGENTPERF_") or name in ("CI", "BUILD_NUMBER"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _temporary_files_apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    # Locks on systems lie in the temporary folder, and tests would leave one per endpoint behind.
    folder = str(tmp_path_factory.getbasetemp())
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from plugin_support import write_tiny_dataset

    return write_tiny_dataset(tmp_path_factory.mktemp("data") / "four")


@pytest.fixture
def place(pytester: pytest.Pytester, tiny_dataset: Path) -> Workplace:
    """A workplace that is pytester's folder and the current one."""
    from plugin_support import Workplace

    workplace = Workplace(pytester.path, tiny_dataset)
    workplace.system("box")
    return workplace


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One headless Chromium for all tests of pages; without one they skip."""
    import chromium

    if chromium.BROWSER is None:
        pytest.skip("there is no Chromium (apt-get install chromium)")
    started = chromium.Chromium(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()
