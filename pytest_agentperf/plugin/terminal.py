"""What a session shows while it measures, and at its end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from pytest_agentperf.clock import NS_PER_S, monotonic_ns
from pytest_agentperf.core.leaderboard import merge_entries
from pytest_agentperf.core.phase import Stage
from pytest_agentperf.results.tables import notes, number, summary_table

if TYPE_CHECKING:
    import pytest

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseKind
    from pytest_agentperf.deployed import PhaseStatus
    from pytest_agentperf.plugin.session import AgentPerfSession

_QUIET_LINE_EVERY_NS = 60 * NS_PER_S


class Progress(Protocol):
    """Shows how phases go."""

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """A phase begins."""

    def phase_status(self, status: PhaseStatus) -> None:
        """Several times a second."""

    def phase_finished(self, result: PhaseResult) -> None:
        """A phase has ended."""

    def end(self) -> None:
        """Nothing more for now: leave the terminal tidy."""


class NoProgress:
    """For xdist's workers, whose output nobody sees, and for `-q`."""

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Show nothing."""

    def phase_status(self, status: PhaseStatus) -> None:
        """Show nothing."""

    def phase_finished(self, result: PhaseResult) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""


class TerminalProgress:
    """A live line on a terminal, a line per phase (and per minute of one) elsewhere."""

    def __init__(self, reporter: pytest.TerminalReporter, config: pytest.Config, system: str) -> None:
        self._reporter = reporter
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._system = system
        self._live = reporter.isatty
        self._last_line_ns = 0
        self._line_open = False
        self._begun = False

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        """Remember when."""
        self._last_line_ns = monotonic_ns()
        if self._live:
            self._rewrite(f"agentperf {self._system}: {kind}, {_agents(n_agents)}")

    def phase_status(self, status: PhaseStatus) -> None:
        """Update the live line; elsewhere write one a minute."""
        text = f"agentperf {self._system}: {status_text(status)}"
        if self._live:
            self._rewrite(text)
        elif monotonic_ns() - self._last_line_ns > _QUIET_LINE_EVERY_NS:
            self._last_line_ns = monotonic_ns()
            self._write(text)

    def phase_finished(self, result: PhaseResult) -> None:
        """Write the phase's line."""
        if result.kind != "warmup":
            self._write(f"agentperf {self._system}: {result_text(result)}")

    def end(self) -> None:
        """Close the live line."""
        if self._line_open:
            with self._uncaptured():
                self._reporter.rewrite("", erase=True)
            self._line_open = False
        self._begun = False

    def _uncaptured(self) -> contextlib.AbstractContextManager[None]:
        if self._capture is None:
            return contextlib.nullcontext()
        disabled: contextlib.AbstractContextManager[None] = self._capture.global_and_fixture_disabled()
        return disabled

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._reporter.ensure_newline()

    def _write(self, text: str) -> None:
        with self._uncaptured():
            self._begin()
            if self._line_open:
                self._reporter.rewrite("", erase=True)
                self._line_open = False
            self._reporter.write_line(text)
            self._reporter.flush()

    def _rewrite(self, text: str) -> None:
        with self._uncaptured():
            self._begin()
            width = self._reporter._screen_width if hasattr(self._reporter, "_screen_width") else 80
            self._reporter.rewrite(text[: width - 1], erase=True)
            self._reporter.flush()
            self._line_open = True


def make_progress(session: AgentPerfSession, settings: RunSettings) -> Progress:
    """Return the display that fits the session."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if session.is_worker or reporter is None or session.config.get_verbosity() < 0:
        return NoProgress()
    return TerminalProgress(reporter, session.config, settings.system.name)


def status_text(status: PhaseStatus) -> str:
    """Return a running phase on one line: where it stands against the stop rule, and the current percentiles."""
    parts = [f"{status.kind}, {_agents(status.n_agents)}, {status.stage} {status.elapsed_s:.0f} s"]
    if status.stage in (Stage.WINDOW, Stage.DRAIN):
        parts.append(f"window {status.window_s:.1f}/{status.window_min_s:g} s")
        parts.append(f"trajectories {status.trajectories}/{status.trajectories_min}")
        if status.agents_short:
            parts.append(f"{_agents(status.agents_short)} still short")
    if status.stage is Stage.DRAIN:
        parts.append(f"{status.in_flight} in flight")
    if status.output_speed_p25_tok_s is not None:
        parts.append(f"P25 {number(status.output_speed_p25_tok_s)} tok/s")
    if status.ttft_p95_s is not None:
        parts.append(f"P95 TTFT {number(status.ttft_p95_s, 2)} s")
    if status.failures:
        parts.append(f"{status.failures} failed")
    return ", ".join(parts)


def result_text(result: PhaseResult) -> str:
    """Return a finished phase on one line."""
    m = result.metrics
    seconds = (result.end_ns - result.start_ns) / NS_PER_S
    verdicts = " ".join(f"{v.tier} {v.verdict}" for v in result.verdicts)
    speed = f"P25 {number(m.output_speed_p25_tok_s)} tok/s, " if m else ""
    ttft = f"P95 TTFT {number(m.ttft_p95_s, 2, otherwise='∞')} s, " if m else ""
    text = f"{result.kind:7} {_agents(result.n_agents):>10}: {speed}{ttft}{verdicts} ({seconds:.1f} s)"
    for reason in result.invalid:
        text += f"\n  {reason.what.strip()}\n  → {reason.remedy}"
    return text


def write_summary(reporter: pytest.TerminalReporter, session: AgentPerfSession) -> None:
    """Write the summary section; with `-q` only the table and the paths."""
    if session.is_worker or not session.entries:
        return
    entries = merge_entries(session.entries)
    if reporter.verbosity >= 0:
        reporter.section("agentperf")
    for suite in dict.fromkeys(entry.suite["name"] for entry in entries):
        chosen = [entry for entry in entries if entry.suite["name"] == suite]
        first = chosen[0]
        reporter.write_line(
            f"{first.suite['title']} · edition {first.edition} · ruleset {first.ruleset.id}"
            f" · dataset {first.dataset.name} ({first.dataset.trajectories} trajectories)"
        )
        reporter.write_line(summary_table(chosen))
        if reporter.verbosity >= 0:
            for entry in chosen:
                for note in notes(entry):
                    reporter.write_line(note)
    for path in session.written:
        reporter.write_line(f"results: {path}")


def _agents(n: int) -> str:
    return f"{n} agent{'' if n == 1 else 's'}"
