"""What the load generator says of itself in one phase: the evidence that it did not bend what it measured."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.client_error import Calibration, ClientError


class LoadHostReport(BaseModel):
    """What one load host did in a phase."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    workers: int
    agents: int
    round_trip_s: float
    """Of the quickest exchange with it; 0 for this machine."""
    clock_error_s: float
    """A bound on how far its times are off after conversion; 0 for this machine."""
    lag_p99_s: float | None = None
    send_late_p99_s: float | None = None
    cpu_share_max: float | None = None


class LostLoadHost(BaseModel):
    """A load host that the run went on without."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    why: str


class LoadReport(BaseModel):
    """One phase's load generator; None where it did not tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int | None = None
    """Processes that sent requests; 0 in virtual time."""
    virtual_time: bool = False
    lag_p99_s: float | None = None
    """How late a worker's loop ran, of the worst worker."""
    lag_max_s: float | None = None
    send_late_p99_s: float | None = None
    """How much later than an agent wanted its requests went out."""
    cpu_share_max: float | None = None
    """Share of a core that the busiest worker used."""
    clock_error_s: float | None = None
    """Of the worst load host; None where none was named."""
    hosts: tuple[LoadHostReport, ...] = ()
    """The load hosts that the run named; empty for workers of this machine alone."""
    hosts_lost: tuple[LostLoadHost, ...] = ()
    chunks_per_s: float | None = None
    """What its answers brought."""
    calibration: Calibration | None = None
    calibration_covers: bool | None = None
    """Whether null servers reached this phase's load; else `client_error` rests on the lag seen in the phase."""
    client_error: ClientError | None = None
    """Bounds on the load generator's own share of this phase's times."""
    failed: str | None = None
    """Why the load generator broke down, if it did, with what to do and the code of the reason."""
    remedy: str | None = None
    code: str | None = None
