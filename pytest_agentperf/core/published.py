"""Results that others measured and published, to stand beside one's own."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.slo import SloTier


class PublishedResult(BaseModel):
    """One system at one tier, as somebody else published it; None where they did not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measured_by_this_tool: Literal[False] = False
    system: str
    """The name of the system's file, where there is one."""
    title: str
    suite: str
    edition: str
    tier: SloTier
    agents: int | None
    accelerators: int | None
    agents_per_accelerator: float | None
    agents_per_mw: float | None
    published_by: str
    source: str
    """Where it stands, with its date."""
