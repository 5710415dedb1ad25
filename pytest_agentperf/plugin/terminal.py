"""What a session shows while it measures, and at its end."""

from __future__ import annotations

import contextlib
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.counts import agents_count
from pytest_agentperf.core.leaderboard import merge_entries
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.results.phase_text import dataset_text, result_text, status_text
from pytest_agentperf.results.power_text import power_lines
from pytest_agentperf.results.tables import notes, summary_table

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.plugin.session import AgentPerfSession

_QUIET_LINE_EVERY_NS = 60 * NS_PER_S


class Progress(Protocol):
    """Shows how a run goes."""

    def dataset_progress(self, done: int, total: int) -> None:
        """Every two seconds while the dataset is encoded."""

    def server_progress(self, text: str) -> None:
        """Every few seconds while a server that was launched starts."""

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """A phase begins."""

    def phase_status(self, status: PhaseStatus) -> None:
        """Several times a second."""

    def phase_finished(self, result: PhaseResult) -> None:
        """A phase has ended."""

    def interrupted(self, grace_s: float) -> None:
        """The run was asked to end, and a phase is ending."""

    def end(self) -> None:
        """Nothing more for now: leave the terminal tidy."""


class NoProgress:
    """For `-q`."""

    def dataset_progress(self, done: int, total: int) -> None:
        """Show nothing."""

    def server_progress(self, text: str) -> None:
        """Show nothing."""

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Show nothing."""

    def phase_status(self, status: PhaseStatus) -> None:
        """Show nothing."""

    def phase_finished(self, result: PhaseResult) -> None:
        """Show nothing."""

    def interrupted(self, grace_s: float) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""


class TerminalProgress:
    """A live line on a terminal, a line per phase (and per minute of one) elsewhere."""

    def __init__(
        self, reporter: pytest.TerminalReporter, config: pytest.Config, system: str, *, rehearsal: bool
    ) -> None:
        self._reporter = reporter
        self._pace = Pace() if rehearsal else None
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._system = f"{system} SIMULATED" if rehearsal else system
        self._live = reporter.isatty
        self._last_line_ns = -_QUIET_LINE_EVERY_NS
        self._line_open = False
        self._begun = False

    def dataset_progress(self, done: int, total: int) -> None:
        """Update the live line; elsewhere write one a minute."""
        self._show(dataset_text(done, total))

    def server_progress(self, text: str) -> None:
        """Update the live line; elsewhere write one a minute."""
        self._show(text)

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Remember when."""
        self._last_line_ns = monotonic_ns()
        if self._pace is not None:
            self._pace.start()
        if self._live:
            self._rewrite(f"agentperf {self._system}: {kind}, {agents_count(n_agents)}")

    def phase_status(self, status: PhaseStatus) -> None:
        """Update the live line; elsewhere write one a minute."""
        pace = "" if self._pace is None else self._pace.now(status.elapsed_s)
        self._show(status_text(status) + pace)

    def _show(self, what: str) -> None:
        text = f"agentperf {self._system}: {what}"
        if self._live:
            self._rewrite(text)
        elif monotonic_ns() - self._last_line_ns > _QUIET_LINE_EVERY_NS:
            self._last_line_ns = monotonic_ns()
            self._write(text)

    def phase_finished(self, result: PhaseResult) -> None:
        """Write the phase's line."""
        if result.kind != "warmup":
            pace = "" if self._pace is None else self._pace.end()
            self._write(f"agentperf {self._system}: {result_text(result)}{pace}")

    def interrupted(self, grace_s: float) -> None:
        """Say what happens now."""
        self._write(f"agentperf {self._system}: {_ending(grace_s)}; Ctrl-C again stops now")

    def end(self) -> None:
        """Close the live line."""
        with self._uncaptured():
            self._erase()
        self._begun = False

    def _uncaptured(self) -> contextlib.AbstractContextManager[None]:
        if self._capture is None:
            return contextlib.nullcontext()
        disabled: contextlib.AbstractContextManager[None] = self._capture.global_and_fixture_disabled()
        return disabled

    def _erase(self) -> None:
        if self._line_open:
            self._reporter.rewrite("", erase=True)
            # Back to the first column, where the next text belongs.
            self._reporter.rewrite("")
            self._line_open = False

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._reporter.ensure_newline()

    def _write(self, text: str) -> None:
        with self._uncaptured():
            self._begin()
            self._erase()
            self._reporter.write_line(text)
            self._reporter.flush()

    def _rewrite(self, text: str) -> None:
        with self._uncaptured():
            self._begin()
            self._reporter.rewrite(text[: shutil.get_terminal_size().columns - 1], erase=True)
            self._reporter.flush()
            self._line_open = True


class Pace:
    """How fast virtual time goes by."""

    def start(self) -> None:
        """A phase begins."""
        self._begun_ns = monotonic_ns()

    def now(self, virtual_s: float) -> str:
        """Return how many virtual seconds a real one is worth, to stand at a line's end."""
        wall_s = (monotonic_ns() - self._begun_ns) / NS_PER_S
        return f" · {virtual_s / wall_s:,.0f} times real time" if wall_s > 0 else ""

    def end(self) -> str:
        """Return what the phase really took."""
        return f", rehearsed in {(monotonic_ns() - self._begun_ns) / NS_PER_S:.1f} s"


class LogProgress:
    """For xdist's workers, whose output nobody sees: lines in the run directory, to follow with `tail -f`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last_line_ns = monotonic_ns()

    def dataset_progress(self, done: int, total: int) -> None:
        """Wait for something to tell."""

    def server_progress(self, text: str) -> None:
        """Write a line a minute."""
        if monotonic_ns() - self._last_line_ns > _QUIET_LINE_EVERY_NS:
            self._write(text)

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Wait for something to tell."""

    def phase_status(self, status: PhaseStatus) -> None:
        """Write a line a minute."""
        if monotonic_ns() - self._last_line_ns > _QUIET_LINE_EVERY_NS:
            self._write(status_text(status))

    def phase_finished(self, result: PhaseResult) -> None:
        """Write the phase's line."""
        self._write(result_text(result))

    def interrupted(self, grace_s: float) -> None:
        """Write what happens now."""
        self._write(_ending(grace_s))

    def end(self) -> None:
        """Write nothing more."""

    def _write(self, text: str) -> None:
        self._last_line_ns = monotonic_ns()
        # A display is not the result: a full disk shows itself where the records are written.
        with contextlib.suppress(OSError):
            # The directory comes with the first records.
            if self._folder.is_dir():
                path = self._folder / "progress.log"
                with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")


def _ending(grace_s: float) -> str:
    return f"ending: no new requests are sent, those in flight may end within {grace_s:g} s"


def make_progress(session: AgentPerfSession, settings: RunSettings) -> Progress:
    """Return the display that fits the session."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if session.is_worker:
        return LogProgress(session.run_folder(settings))
    if reporter is None or session.config.get_verbosity() < 0:
        return NoProgress()
    return TerminalProgress(reporter, session.config, settings.system.name, rehearsal=settings.rehearsal)


def write_summary(reporter: pytest.TerminalReporter, session: AgentPerfSession) -> None:
    """Write the summary section; with `-q` only the table and the paths."""
    for problem in session.problems:
        reporter.write_line(f"agentperf: {problem}", red=True)
    if session.is_worker or not session.entries:
        return
    entries = merge_entries(session.entries)
    if reporter.verbosity >= 0:
        reporter.section("agentperf, SIMULATED" if session.options.rehearse else "agentperf")
    for suite in dict.fromkeys(entry.suite["name"] for entry in entries):
        chosen = [entry for entry in entries if entry.suite["name"] == suite]
        first = chosen[0]
        reporter.write_line(
            f"{first.suite['title']} · edition {first.edition} · ruleset {first.ruleset.id}"
            f" · dataset {first.dataset.name} ({first.dataset.trajectories} trajectories)"
            + (" · REHEARSAL, SIMULATED" if first.rehearsal else "")
        )
        reporter.write_line(summary_table(chosen))
        if reporter.verbosity >= 0:
            for entry in chosen:
                for line in power_lines(entry):
                    reporter.write_line(line)
                for note in notes(entry):
                    reporter.write_line(note)
    for path in session.written:
        reporter.write_line(f"results: {path}")
    for path in session.reports:
        reporter.write_line(f"report: {path}")
