"""How much of a TTFT or an output speed the load generator itself may have made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.latency import percentile
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.metrics import PhaseMetrics
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.core.slo import SloTier


class Calibration(BaseModel):
    """What the load generator added to the truth of a server that did nothing but stream."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_agents: int
    chunks_per_s: float
    """The load it was asked for."""
    chunks_per_s_reached: float
    requests: int
    """Answers that were compared."""
    ttft_error_p50_s: float
    ttft_error_p99_s: float
    """Client's TTFT minus the server's own."""
    speed_error_p99: float
    """|client's output speed ÷ the server's own − 1|."""
    cpu_share_max: float
    """Share of a core that the busiest worker used."""
    workers: int

    @classmethod
    def of_hosts(cls, parts: Sequence[Calibration]) -> Calibration:
        """Return what several load hosts together add: their loads summed, their errors those of the worst."""
        return cls(
            n_agents=sum(part.n_agents for part in parts),
            chunks_per_s=sum(part.chunks_per_s for part in parts),
            # A host that falls short of its share is not made good by one that does not.
            chunks_per_s_reached=sum(part.chunks_per_s for part in parts)
            * min(part.chunks_per_s_reached / part.chunks_per_s for part in parts),
            requests=sum(part.requests for part in parts),
            ttft_error_p50_s=max(part.ttft_error_p50_s for part in parts),
            ttft_error_p99_s=max(part.ttft_error_p99_s for part in parts),
            speed_error_p99=max(part.speed_error_p99 for part in parts),
            cpu_share_max=max(part.cpu_share_max for part in parts),
            workers=parts[0].workers,
        )

    @property
    def reached(self) -> bool:
        """Return whether the load was really there; a null server on a busy machine may fall short of it."""
        return self.chunks_per_s_reached >= 0.8 * self.chunks_per_s

    def covers(self, n_agents: int, chunks_per_s: float, *, workers: int) -> bool:
        """Return whether that load, on so many workers, was calibrated by this: what was not reached was not."""
        shown = self.chunks_per_s if self.reached else self.chunks_per_s_reached
        return self.asked_for(n_agents, chunks_per_s, workers=workers) and shown >= chunks_per_s

    def asked_for(self, n_agents: int, chunks_per_s: float, *, workers: int) -> bool:
        """Return whether it was meant to cover that load: another of its kind would reach no more."""
        return self.n_agents >= n_agents and self.chunks_per_s >= chunks_per_s and workers >= self.workers


class ClientError(BaseModel):
    """Bounds on the client's share in one phase: calibrated beforehand, or seen in the phase, whichever is larger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttft_s: float
    speed: float
    """Relative, of the time over which the tokens came."""

    @classmethod
    def of_phase(cls, calibration: Calibration, columns: RequestColumns, *, lag_s: float) -> ClientError:
        """Return the bounds for a phase's records; `lag_s`: the P99 of how late a worker's loop ran in it."""
        ok = ~columns.failed & (columns["t_last_ns"] > columns["t_first_ns"])
        lasted_s = (columns["t_last_ns"][ok] - columns["t_first_ns"][ok]) / NS_PER_S
        return cls(
            ttft_s=max(calibration.ttft_error_p99_s, lag_s),
            speed=max(
                calibration.speed_error_p99, lag_s / percentile(lasted_s, 50) if len(lasted_s) else 0.0
            ),
        )

    def could_change(self, tier: SloTier, metrics: PhaseMetrics, *, share_max: float) -> str | None:
        """Return how it could have changed the verdict, None if it could not.

        Errors up to `share_max` of a target are within the ruleset's budget. The client can only add to a TTFT; an
        output speed it may bend both ways.
        """
        ttft, target = metrics.ttft_p95_s, tier.ttft_p95_s
        if self.ttft_s > share_max * target and ttft is not None and ttft - self.ttft_s <= target < ttft:
            return (
                f"up to {self.ttft_s * 1e3:.0f} ms of the TTFT of {ttft:.3g} s are the load generator's own"
            )
        speed, wanted = metrics.output_speed_p25_tok_s, tier.output_speed_p25_tok_s
        if self.speed > share_max and speed is not None:
            # What is uncertain is the time that the answer took.
            low = speed / (1 + self.speed)
            high = speed / (1 - self.speed) if self.speed < 1 else math.inf
            if low < wanted <= high:
                return f"the output speed of {speed:.4g} tok/s is uncertain by {self.speed:.1%}, by the load generator"
        return None


def chunks_per_s(columns: RequestColumns) -> float:
    """Return at which rate a phase's answers came: what the load generator had to read."""
    seconds = (columns["t_end_ns"].max() - columns["t_sent_ns"].min()) / NS_PER_S
    return float(columns["content_chunks"].sum() / max(seconds, 1 / NS_PER_S))
