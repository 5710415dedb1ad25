"""Service levels: what an agent must get for the system to count as serving it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SloTier(BaseModel):
    """One service level: P25 output speed at least, P95 time to first token at most."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    output_speed_p25_tok_s: float = Field(gt=0)
    ttft_p95_s: float = Field(gt=0)

    def __str__(self) -> str:
        return f"≥ {self.output_speed_p25_tok_s:g} tok/s at P25, TTFT ≤ {self.ttft_p95_s:g} s at P95"
