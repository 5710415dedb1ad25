"""Runs that are to be continued: `--agentperf-resume RUN_DIR`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.config.recorded import check_unchanged
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.dataset import open_dataset
from pytest_agentperf.dataset.default import make_available
from pytest_agentperf.plugin.options import values
from pytest_agentperf.results.journal import JOURNAL, read_journal
from pytest_agentperf.software import software_versions

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.journal import RunBegun


class InterruptedRun(NamedTuple):
    """A run directory, and the settings with which the run began."""

    folder: Path
    begun: RunBegun

    @property
    def system(self) -> str:
        """Return the name of the system."""
        name: str = self.begun.system["name"]
        return name

    @property
    def id(self) -> str:
        """Return what names the run: suite and system."""
        return f"{self.begun.suite['name']}-{self.system}"

    def settle(self, settings: RunSettings, *, check_dataset: bool) -> RunSettings:
        """Return today's settings with the run's own nonce; raises ConfigError naming what has changed."""
        digest = None
        if check_dataset:
            # A declared digest, where there is one: reading everything follows when it is encoded.
            digest = open_dataset(make_available(settings.dataset_path)).digest
        check_unchanged(
            self.begun,
            settings,
            software=software_versions(),
            dataset_digest=digest,
            readers=False,
            where=str(self.folder),
        )
        return replace(settings, nonce=self.begun.nonce)


def interrupted_runs(config: pytest.Config, systems: Iterable[str]) -> dict[str, InterruptedRun]:
    """Return the runs that the command line names, by suite and system; raises ConfigError."""
    found: dict[str, InterruptedRun] = {}
    for argument in values(config, "resume"):
        folder = (config.invocation_params.dir / argument).resolve()
        run = InterruptedRun(folder, read_journal(folder / JOURNAL).begun)
        if run.system not in systems:
            raise ConfigError(
                f"it is a run of the system {run.system}, which this session does not measure",
                where=str(folder),
                remedy=f"give the command line that began it, here with --system={run.system}",
            )
        if found.setdefault(run.id, run) != run:
            raise ConfigError(
                f"two runs of {run.begun.suite['name']} on {run.system} are to be resumed at once",
                where="--agentperf-resume",
                remedy="resume one of them",
            )
    return found
