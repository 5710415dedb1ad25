"""What this machine must have to carry the load: descriptors, ports, cores, a clock that is fine enough."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.clock import monotonic_resolution_ns, monotonic_step_ns
from pytest_agentperf.core.checks import Check, ok, warning
from pytest_agentperf.load.limits import agents_within, cores, local_ports, raise_descriptor_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_RESOLUTION_MAX_NS = 1_000
_STEP_MAX_NS = 20_000
# One to steer, read power and metrics; one for a load worker.
_CORES_MIN = 2


def check_host(*, workers: int | None, agents: int | None) -> Iterator[Check]:
    """Yield the checks; `agents`: how many are expected or started with, if anybody said."""
    yield _limits(workers or max(1, cores() - 1), agents)
    if (there := cores()) < _CORES_MIN:
        yield warning("cores", f"{there} core for all", f"use a machine with {_CORES_MIN} or more")
    else:
        yield ok("cores", f"{there} usable")
    yield _clock()


def _limits(workers: int, agents: int | None) -> Check:
    descriptors, ports = raise_descriptor_limit(), local_ports()
    carried = agents_within(descriptors, workers, ports)
    what = f"{descriptors:,} open files per process, {ports:,} local ports: up to {carried:,} agents"
    if agents is not None and carried < agents:
        return warning(
            "descriptors and ports",
            f"{what}, and {agents:,} are expected: the answer can only be a lower bound",
            "raise `ulimit -n` and net.ipv4.ip_local_port_range",
        )
    return ok("descriptors and ports", what)


def _clock() -> Check:
    resolution_ns, step_ns = monotonic_resolution_ns(), monotonic_step_ns()
    try:
        source = _CLOCK_SOURCE.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        source = "its source is not told"
    what = f"monotonic, {source}, resolution {resolution_ns:,} ns, {step_ns:,} ns a reading"
    if resolution_ns > _RESOLUTION_MAX_NS or step_ns > _STEP_MAX_NS:
        return warning(
            "clock",
            f"{what}: coarse for times of tokens",
            "use a host whose clock source is tsc or kvm-clock",
        )
    return ok("clock", what)
