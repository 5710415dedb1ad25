"""Tests of the plugin run pytest inside pytest, in workplaces like a user's."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from plugin_support import Workplace

pytest_plugins = ["pytester"]


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
