from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from pytest_agentperf.core.slo import SloTier


def test_text() -> None:
    tier = SloTier(name="tier1", output_speed_p25_tok_s=2_000, ttft_p95_s=0.5)
    assert str(tier) == "≥ 2000 tok/s at P25, TTFT ≤ 0.5 s at P95"


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("name", ["output_speed_p25_tok_s", "ttft_p95_s"])
def test_targets_are_positive_and_finite(name: str, value: float) -> None:
    """An infinite one would become null in the leaderboard, which then could not be read back."""
    with pytest.raises(ValidationError, match=name):
        SloTier.model_validate({"name": "t", "output_speed_p25_tok_s": 1, "ttft_p95_s": 1, name: value})


def test_closed_and_frozen() -> None:
    tier = SloTier(name="t", output_speed_p25_tok_s=1, ttft_p95_s=1)
    with pytest.raises(ValidationError, match="frozen"):
        tier.ttft_p95_s = 2  # type: ignore[misc]
    with pytest.raises(ValidationError, match="ttft_p99_s"):
        SloTier.model_validate({**tier.model_dump(), "ttft_p99_s": 1})
