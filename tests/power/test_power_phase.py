"""Eighteen exporter hosts of four devices each in a real run: real server, load workers, sampler, clock and sockets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from http_support import FakeHost, hosts
from plugin_support import SWIFT, suite_yaml, system_yaml

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.config.run import RunOptions, resolve
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.results.entry import build_entry
from pytest_agentperf.results.tables import notes, summary_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import Entry, PhaseResult, TierResult
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.deployed import PhaseRun

HOSTS, EACH, WATTS = 18, 4, 500.0
OVERRIDES: dict[str, object] = {
    "min_window_s": 1.5,
    # Nor is it a busy machine's load generator that is tested.
    "client_error_max": 0.99,
    "invalid_retries": 5,
    # Updates of 50 ms over two seconds; and a busy machine may be late.
    "power_uncertainty_max": 0.3,
    "power_cross_check_max": 0.3,
    # It may also leave gaps; what is missing at the end of the window is missing all the same.
    "power_gap_max_s": 5.0,
}


def exporter(host: int) -> Callable[[], str]:
    """Four GPUs of 500 W, collected every 50 ms."""

    def body() -> str:
        tick = time.monotonic_ns() // 50_000_000
        lines = []
        for gpu in range(EACH):
            labels = f'{{gpu="{gpu}",UUID="GPU-{host}-{gpu}",Hostname="node{host}"}}'
            lines.append(f"DCGM_FI_DEV_POWER_USAGE{labels} {WATTS + tick % 2}")
            lines.append(f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{labels} {round(tick * 0.05 * WATTS * 1e3)}")
        return "\n".join(lines) + "\n"

    return body


class KillsInWindow:
    """An observer that ends one host in the window of the phase it is told to."""

    def __init__(self, host: FakeHost, kinds: set[str]) -> None:
        self.host = host
        self.kinds = kinds
        self.killed_in: str | None = None

    def dataset_progress(self, done: int, total: int) -> None: ...

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None: ...

    def phase_status(self, status: PhaseStatus) -> None:
        if self.killed_in is None and status.kind in self.kinds and status.window_s > 0.4:
            self.killed_in = status.kind
            self.host.die()

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        return run.result


def measured(folder: Path, dataset: Path, kinds: set[str]) -> tuple[TierResult, Entry, KillsInWindow]:
    """Confirm that one agent meets the second tier; return that as the run would publish it."""
    with hosts(*(exporter(number) for number in range(HOSTS))) as found:
        system: dict[str, Any] = yaml.safe_load(system_yaml("rack", engine={**SWIFT}, overrides=OVERRIDES))
        system["accelerator"] |= {"per_rack": HOSTS * EACH}
        system["deployments"]["main"] |= {
            "allocated_accelerators": HOSTS * EACH,
            "power": {
                "source": "dcgm",
                "urls": [host.url for host in found],
                "update_period_s": 0.05,
            },
        }
        (folder / "suite.yaml").write_text(suite_yaml(dataset), encoding="utf-8")
        (folder / "rack.yaml").write_text(yaml.safe_dump(system), encoding="utf-8")
        settings = resolve(
            folder / "suite.yaml", folder / "rack.yaml", RunOptions(start=1, max_agents=1), start=folder
        )
        watch = KillsInWindow(found[7], kinds)
        with CapacityRun(settings, watch) as run:
            result = run.measure("tier2")
            assert run.state.begun is not None
            entry = build_entry(
                settings,
                begun=run.state.begun,
                tiers=[result],
                phases=run.phases,
                request_parameters={},
                power_sources=run.power_sources,
                simulated=run.simulated,
            )
    return result, entry, watch


def test_a_host_that_dies_in_the_published_phase(tmp_path: Path, tiny_dataset: Path) -> None:
    result, entry, watch = measured(tmp_path, tiny_dataset, {"confirm"})
    dead = watch.host.name
    why = [(p.kind, p.n_agents, [str(v) for v in p.verdicts], p.invalid) for p in entry.phases]
    assert watch.killed_in == "confirm", (result.reason, why)
    # The capacity stands.
    assert (result.verdict, result.agents, result.confirmed) == (Verdict.PASS, 1, True)
    assert entry.valid.value
    # Power is INVALID and names the host; the energy is null, with the reason.
    energy = result.energy
    assert energy is not None
    assert (energy.energy_j, energy.mean_power_w) == (None, None)
    # The latter if a busy machine had read nothing of it yet.
    assert energy.invalid_code in ("unreachable", "too_few_devices")
    assert f"host {dead} " in (energy.invalid_reason or "")
    assert energy.per_device_j == {}
    # Nothing per watt is published, and nothing of it is 0.
    found = result.normalisation
    assert found is not None
    for figures in (found.agents, found.throughput_tok_s):
        assert (figures.per_kw, figures.per_mw) == (None, None)
        assert figures.per_accelerator > 0
        assert figures.per_rack == pytest.approx(figures.per_accelerator * HOSTS * EACH)
    assert (
        found.power_per_accelerator_w,
        found.energy_per_output_token_j,
        found.energy_per_request_j,
        found.energy_per_trajectory_j,
    ) == (None, None, None, None)
    assert any("no valid power" in note and dead in note for note in found.notes)
    assert any(dead in note for note in notes(entry))
    assert summary_table([entry]).splitlines()[-1].split()[-2:] == ["–", "–"]
    # The phase before had all hosts: its power is valid, so that it is the dead one that made the difference.
    earlier = next(p for p in entry.phases if p.kind == "ramp" and p.n_agents == 1)
    assert earlier.energy.invalid_reason is None
    assert earlier.energy.devices == HOSTS * EACH
    assert earlier.energy.mean_power_w == pytest.approx(HOSTS * EACH * WATTS, rel=0.1)
