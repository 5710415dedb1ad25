"""A pytest session that measures: its settings, the run that is open, and the results on their way out."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.config.run import RunOptions, RunSettings, resolve
from pytest_agentperf.config.secrets import secrets_of
from pytest_agentperf.config.system import load_system
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.leaderboard import Entry
from pytest_agentperf.plugin.command_line import (
    check_workers_are_here,
    check_writable,
    new_stamp,
    suites_on_command_line,
    systems_of,
)
from pytest_agentperf.plugin.options import grace_s, one_of, results_folder, run_options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import Leaderboard
    from pytest_agentperf.plugin.case import Case, MeasuredCapacity
    from pytest_agentperf.plugin.measuring import Measuring
    from pytest_agentperf.plugin.resuming import InterruptedRun

_payload_key = pytest.StashKey[str]()


class AgentPerfSession:
    """Registered as a plugin when a system is named; the controller of an xdist run has one, its workers too."""

    def __init__(
        self,
        config: pytest.Config,
        options: RunOptions,
        systems: dict[str, Path],
        results: Path,
        stamp: str,
        nonce: str,
        interrupted: Mapping[str, InterruptedRun],
    ) -> None:
        self.config = config
        self.options = options
        self.systems = systems
        self.results = results
        self.stamp = stamp
        self.nonce = nonce
        self.grace_s = grace_s(config)
        self.skips_inconclusive = one_of(config, "inconclusive", ("fail", "skip")) == "skip"
        self.is_worker = hasattr(config, "workerinput")
        self.entries: list[Entry] = []
        self._suite_properties: list[tuple[str, str]] = []
        self.written: list[Path] = []
        self.reports: list[Path] = []
        self.problems: list[str] = []
        self._interrupted_runs = interrupted
        self._settings: dict[tuple[Path, Path], RunSettings] = {}
        self._runs: dict[str, Measuring] = {}
        self._open: Measuring | None = None

    @classmethod
    def from_config(cls, config: pytest.Config) -> AgentPerfSession:
        """Read the options and every YAML file that the command line leads to; raises ConfigError."""
        systems = systems_of(config)
        check_workers_are_here(config)
        results = results_folder(config)
        if not config.getoption("collectonly"):
            check_writable(results)
        workerinput = getattr(config, "workerinput", {})
        options = run_options(config)
        stamp = workerinput.get("agentperf_stamp") or new_stamp(results, rehearsal=options.rehearse)
        # A rehearsal can be repeated to the bit: nobody's cache is there to be kept out of.
        fresh = f"rehearsal {options.seed or 0}" if options.rehearse else secrets.token_hex(16)
        nonce = workerinput.get("agentperf_nonce") or fresh
        from pytest_agentperf.plugin.resuming import interrupted_runs

        interrupted = interrupted_runs(config, systems)
        if interrupted and options.rehearse:
            raise ConfigError(
                "a rehearsal has no journal, and never goes on with a measurement",
                where="--agentperf-resume",
                remedy="leave out --agentperf-rehearse, or rehearse anew",
            )
        session = cls(config, options, systems, results, stamp, nonce, interrupted)
        for suite in suites_on_command_line(config):
            session.settings_for(suite)
        return session

    def settings_for(self, suite: Path) -> list[RunSettings]:
        """Return the settings of a suite on every system of the command line; raises ConfigError."""
        found = []
        for path in self.systems.values():
            key = (suite.resolve(), path)
            if key not in self._settings:
                settings = resolve(suite, path, self.options, start=self.config.invocation_params.dir)
                twin = next((known for known in self._settings.values() if known.id == settings.id), None)
                if twin is not None:
                    raise ConfigError(
                        f"another suite of this session is named {settings.suite.name!r} too: {twin.suite_path}",
                        where=str(settings.suite_path),
                        remedy="give each suite a name of its own: results are kept by it",
                    )
                resumed = self._interrupted_runs.get(settings.id)
                if resumed is None:
                    settings = replace(settings, nonce=self._nonce_of(settings.id))
                else:
                    # Workers need not look again: their controller did.
                    settings = resumed.settle(settings, check_dataset=not self.is_worker)
                self._settings[key] = settings
            found.append(self._settings[key])
        return found

    def _nonce_of(self, run_id: str) -> str:
        """Return a run's nonce; as every worker of the session derives it, results show whose they are."""
        return hashlib.sha256(f"{self.nonce} {run_id}".encode()).hexdigest()[:32]

    def secrets(self) -> set[str]:
        """Return the secrets of all systems of this session, to keep them out of texts."""
        return {
            secret for settings in self._settings.values() for secret in secrets_of(settings.system).values()
        }

    def run_folder(self, settings: RunSettings) -> Path:
        """Return the directory of a suite on a system; it is created with the first phase."""
        return self._folder_of(settings.id)

    def _folder_of(self, run_id: str) -> Path:
        resumed = self._interrupted_runs.get(run_id)
        return self.results / f"{run_id}-{self.stamp}" if resumed is None else resumed.folder

    def measure(self, case: Case, item: pytest.Item) -> MeasuredCapacity:
        """Measure the case's tier; skips, or raises where no capacity can be stated."""
        from pytest_agentperf.plugin.measuring import Measuring

        assert case.tier is not None
        run = self._runs.get(case.settings.id)
        if run is None:
            run = self._runs[case.settings.id] = Measuring(self, case.settings)
        if run is not self._open and not run.knows(case.tier):
            # One system at a time: what another one has running would take its CPU.
            self.close()
            self._open = run
        return run.measure(case.tier, item)

    def keep_payload(self, item: pytest.Item, entry: Entry) -> None:
        """Put an entry where the item's report takes it from."""
        item.stash[_payload_key] = entry.model_dump_json()

    def take_payload(self, item: pytest.Item) -> str | None:
        """Return the entry for the item's report, as JSON: it also crosses from xdist's workers."""
        payload = item.stash.get(_payload_key, None)
        if payload is not None:
            del item.stash[_payload_key]
        return payload

    def pytest_collection_finish(self) -> None:
        """Refuse a run to resume that no test of this session belongs to."""
        settled = {settings.id for settings in self._settings.values()}
        for run_id, run in self._interrupted_runs.items():
            if run_id not in settled and not self.is_worker:
                raise pytest.UsageError(
                    f"agentperf: {run.folder}: no test of this session is of the suite {run.begun.suite['name']}"
                    "\n  → give the command line that began the run"
                )

    def interrupted(self, item: pytest.Item) -> None:
        """Keep the item's entry here: there may be no report for it to ride on."""
        payload = item.stash.get(_payload_key, None)
        if payload is not None:
            self.entries.append(Entry.model_validate_json(payload))

    def close(self) -> None:
        """End the run that is open."""
        run, self._open = self._open, None
        if run is not None:
            run.close()

    # pytest hooks

    def pytest_report_header(self) -> str:
        """Name version, systems, mode and power source."""
        from pytest_agentperf import __version__

        names = []
        for name, path in self.systems.items():
            sources = {d.power.source for d in load_system(path).deployments.values()}
            power = "modelled" if self.options.rehearse else ", ".join(sorted(sources))
            rules = sorted({s.ruleset.id for s in self._settings.values() if s.system_path == path})
            names.append(f"{name} ({'; '.join([*rules, f'power: {power}'])})")
        gate = "gate, " if self.options.gate is not None else ""
        mode = "REHEARSAL in virtual time, everything SIMULATED, " if self.options.rehearse else ""
        return f"agentperf: {__version__}, {gate}{mode}systems: {', '.join(names)}, results: {self.results}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the results that ride on reports; the controller alone keeps them."""
        payload = getattr(report, "agentperf", None)
        if payload is not None and not self.is_worker:
            self.entries.append(Entry.model_validate_json(payload))
            self._tell_junit(self.entries[-1])

    def _tell_junit(self, entry: Entry) -> None:
        """Give the JUnit file the properties of the whole suite, each once; the controller writes it."""
        from pytest_agentperf.results.junit import suite_properties

        new = [one for one in suite_properties(entry) if one not in self._suite_properties]
        self._suite_properties += new
        for plugin in self.config.pluginmanager.get_plugins():
            # What `record_testsuite_property` calls; pytest has no other public name for it.
            if hasattr(plugin, "add_global_property"):
                for name, value in new:
                    plugin.add_global_property(name, value)

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: object) -> None:
        """Keep secrets out of the traceback of whatever broke, before anybody writes it."""
        from pytest_agentperf.plugin.redaction import redact_internal_error

        redact_internal_error(excrepr, self.secrets())

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Close what is open, then write the leaderboards; last, when xdist's workers have ended."""
        self.close()
        if self.is_worker:
            return
        from pytest_agentperf.core.leaderboard import Leaderboard, merge_entries
        from pytest_agentperf.results.artifact import write_leaderboard

        self._read_what_workers_left()
        boards = []
        for entry in merge_entries(self.entries):
            leaderboard = Leaderboard(
                created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
                entries=(entry,),
            )
            run_id = f"{entry.suite['name']}-{entry.system['name']}"
            try:
                path = write_leaderboard(
                    self._folder_of(run_id), leaderboard, replace=run_id in self._interrupted_runs
                )
                self.written.append(path)
                boards.append((path, leaderboard))
            except OSError as error:
                self.problems.append(f"the leaderboard was not written: {error}")
                if session.exitstatus == pytest.ExitCode.OK:
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED
        # When all results are safe: a report can be made again.
        self._write_reports(boards)

    def _write_reports(self, boards: list[tuple[Path, Leaderboard]]) -> None:
        from pytest_agentperf.results.report import report_beside, write_report

        for path, board in boards:
            try:
                self.reports.append(write_report(report_beside(path), board, folder=path.parent))
            except OSError as error:
                self.problems.append(f"the report was not written (agentperf report {path} does): {error}")

    def _read_what_workers_left(self) -> None:
        """Add what journals tell of runs whose workers were interrupted or killed: they sent no last report."""
        from pytest_agentperf.recovery import recover
        from pytest_agentperf.results.journal import JOURNAL, read_journal

        ours = {run.folder: run.begun.nonce for run in self._interrupted_runs.values()}
        for folder in sorted({*self.results.glob(f"*-{self.stamp}"), *ours}):
            if not (folder / JOURNAL).is_file():
                continue
            try:
                journal = read_journal(folder / JOURNAL)
                begun = journal.begun
                run_id = f"{begun.suite['name']}-{begun.system['name']}"
                # Another session may have begun in the same second.
                if begun.nonce not in (ours.get(folder), self._nonce_of(run_id)):
                    continue
                found = recover(folder, journal)
            except ConfigError as error:
                self.problems.append(f"a run is left out here: {error}")
                continue
            known = {
                tier.tier.name
                for entry in self.entries
                if f"{entry.suite['name']}-{entry.system['name']}" == run_id
                for tier in entry.tiers
            }
            if found is not None and {tier.tier.name for tier in found.entry.tiers} - known:
                self.entries.insert(0, found.entry)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table and where the artifacts are."""
        from pytest_agentperf.plugin.terminal import write_summary

        write_summary(terminalreporter, self)

    def pytest_unconfigure(self) -> None:
        """Leave nothing running, however the session ended."""
        with contextlib.suppress(OSError):
            self.close()
