"""What the load generator says of itself in one phase: the evidence that it did not bend what it measured."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.client_error import Calibration, ClientError


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
    calibration: Calibration | None = None
    client_error: ClientError | None = None
    """Bounds on the load generator's own share of this phase's times."""
    failed: str | None = None
    """Why the load generator broke down, if it did, with what to do and the code of the reason."""
    remedy: str | None = None
    code: str | None = None
