"""The table of `agentperf doctor --load`: each place of load workers by itself, then all of them under load."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.calibration import calibrate
from pytest_agentperf.config.bundled import find_dataset
from pytest_agentperf.config.load_spec import LoadSpec, parse_load_specs
from pytest_agentperf.core.checks import Check, failed, ok, warning
from pytest_agentperf.core.errors import AgentPerfError, LoadError
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.load.hosts import LoadHosts, host_doubts, reach, weight
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.worker import WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_agentperf.core.ruleset import Ruleset
    from pytest_agentperf.load.crew import Host

_COLUMNS = (
    "place",
    "host",
    "workers",
    "cores",
    "Python",
    "open files",
    "ports",
    "agents",
    "share",
    "away",
    "clock",
)
_CHUNKS_PER_AGENT_S = 20.0
_AGENTS_PER_WORKER = 64
_HOLD_S = 2.0


class LoadRow(NamedTuple):
    """One host of a place; of a place that did not join nothing but its name is known."""

    place: str
    host: str | None = None
    remote: bool | None = None
    workers: int | None = None
    cores: int | None = None
    python: str | None = None
    open_files: int | None = None
    local_ports: int | None = None
    agents_max: int | None = None
    share_chunks_per_s: float | None = None
    round_trip_s: float | None = None
    clock_error_s: float | None = None

    @classmethod
    def of(cls, place: str, host: Host) -> LoadRow:
        """Return what a host said of itself."""
        facts, clock = host.facts, host.clock
        return cls(
            place=place,
            host=host.name,
            remote=host.remote,
            workers=len(host.workers),
            cores=facts.cores,
            python=facts.python,
            open_files=facts.descriptors,
            local_ports=facts.ports,
            agents_max=reach(host),
            share_chunks_per_s=len(host.workers) * weight(host),
            round_trip_s=clock.round_trip_ns / NS_PER_S,
            clock_error_s=clock.bound_ns / NS_PER_S,
        )

    def cells(self) -> tuple[str, ...]:
        """Return it as text, by column."""
        if self.host is None:
            return (self.place, "–", *[""] * (len(_COLUMNS) - 2))
        assert self.share_chunks_per_s is not None
        assert self.round_trip_s is not None
        assert self.clock_error_s is not None
        return (
            self.place,
            self.host,
            str(self.workers),
            str(self.cores),
            str(self.python),
            f"{self.open_files:,}",
            f"{self.local_ports:,}",
            f"{self.agents_max:,}",
            f"{self.share_chunks_per_s / 1e3:,.0f}k",
            f"{self.round_trip_s * 1e3:.2f} ms" if self.remote else "–",
            f"± {self.clock_error_s * 1e3:.2f} ms" if self.remote else "ours",
        )


class LoadTable(NamedTuple):
    """What was found."""

    rows: list[LoadRow]
    checks: list[Check]

    def lines(self) -> list[str]:
        """Return the table, its columns aligned."""
        table = [_COLUMNS, *(row.cells() for row in self.rows)]
        widths = [max(len(row[i]) for row in table) for i in range(len(_COLUMNS))]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]


def load_table(lines: Sequence[str], *, start: Path, rules: Ruleset) -> LoadTable:
    """Let every place join, alone, and those that can together carry a load; raises ConfigError for a bad line."""
    specs = parse_load_specs(lines, where="--load")
    table = LoadTable([], [])
    path = find_dataset("bundled:demo-v1", relative_to=start)
    with EncodedDataset(path, max_prompt_tokens=sys.maxsize, history_reasoning="all") as dataset:
        config = WorkerConfig.for_null_servers(dataset.folder, DEMO_1).to_wire()
        fit = [spec for spec in specs if _joins(spec, config, table, rules)]
        if fit:
            _calibrate(fit, config, dataset, table)
    return table


def _joins(spec: LoadSpec, config: dict[str, object], table: LoadTable, rules: Ruleset) -> bool:
    try:
        pool = WorkerPool(config, hosts=LoadHosts([spec], on_wait=_say))
    except AgentPerfError as error:
        table.rows.append(LoadRow(spec.short))
        what = error.what if error.where is None else f"{error.where}: {error.what}"
        first, _, last = (line.strip() for line in what.strip().partition("\n"))
        # Of a traceback the last line tells.
        what = f"{first} {last.splitlines()[-1]}" if last else first
        table.checks.append(failed(spec.short, what, error.remedy or "see the message"))
        return False
    try:
        for host in pool.hosts:
            table.rows.append(LoadRow.of(spec.short, host))
            table.checks.extend(host_doubts(host, rules))
    finally:
        pool.close()
    return True


def _calibrate(
    specs: Sequence[LoadSpec], config: dict[str, object], dataset: EncodedDataset, table: LoadTable
) -> None:
    agents = _AGENTS_PER_WORKER * sum(spec.workers for spec in specs)
    try:
        pool = WorkerPool(config, hosts=LoadHosts(specs, on_wait=_say))
        try:
            found = calibrate(
                pool,
                dataset.prepared.ids,
                n_agents=agents,
                chunks_per_s=agents * _CHUNKS_PER_AGENT_S,
                hold_s=_HOLD_S,
                on_progress=_say,
            )
        finally:
            pool.close()
    except LoadError as error:
        table.checks.append(failed("all together", str(error.what), error.remedy or "see the message"))
        return
    said = (
        f"{found.n_agents:,} agents at {found.chunks_per_s_reached:,.0f} chunks/s add "
        f"{found.ttft_error_p99_s * 1e3:.1f} ms to TTFT at P99 and {found.speed_error_p99:.2%} to speed; the busiest "
        f"worker takes {found.cpu_share_max:.0%} of a core"
    )
    table.checks.append(
        ok("all together", said)
        if found.reached
        else warning(
            "all together", f"{said}: less than asked for", "free these hosts' CPU, or use more of them"
        )
    )


def _say(text: str) -> None:
    print(f"{text} …", file=sys.stderr, flush=True)
