"""The simulated server over HTTP against a rehearsal of the same phase, one agent alone.

Nothing here depends on how busy the machine is, short of a stand-still: no request may be faster than the model, as
nothing over HTTP happens before the engine lets it; and of many requests the least disturbed one is about as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from as_served import ServedDataset, run_as_served, run_over_http
from virtual_system import settings_for, shape

from pytest_agentperf.core.token_table import TokenTable

if TYPE_CHECKING:
    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.records import RequestColumns

ENGINE = {
    "step_base_ms": 8.0,
    "step_per_sequence_ms": 0.5,
    "prefill_tokens_per_s": 10_000.0,
    "kv_blocks": 2_000,
    "jitter_cv": 0.0,
    "output_tokens_median": 60.0,
    "output_tokens_p95": 64.0,
}
SLOWER_MAX = 0.12
"""By how much the least disturbed request may be slower than the model: a model that is off by more than this shows."""


def settings(**changes: float) -> RunSettings:
    alone = shape("alone", 1, 100, 1, **{**ENGINE, **changes})
    return settings_for(
        alone,
        nonce="alone",
        warmup_agents=0,
        stagger_total_s=0.0,
        tool_delay_max_s=0.05,
        min_window_s=1.0,
        min_trajectories=2,
    )


@pytest.fixture(scope="module")
def over_http() -> RequestColumns:
    columns, _ = run_over_http(settings(), 1)
    assert len(columns) >= 6
    assert not columns.failed.any()
    return columns


def disagreements(http: RequestColumns, virtual: RequestColumns) -> set[str]:
    """Return what differs, over the requests that both have sent."""
    n = min(len(http), len(virtual))
    found = {
        name
        for name in ("ordinal", "turn", "prompt_tokens", "output_tokens", "cached_tokens")
        if (http[name][:n] != virtual[name][:n]).any()
    }
    for end in ("t_first_ns", "t_last_ns"):
        ratios = (http[end] - http["t_sent_ns"])[:n] / (virtual[end] - virtual["t_sent_ns"])[:n]
        if ratios.min() < 1:
            found.add(f"{end}: faster")
        if ratios.min() > 1 + SLOWER_MAX:
            found.add(f"{end}: slower")
    return found


def test_a_lone_agent_sees_over_http_what_it_sees_in_virtual_time(over_http: RequestColumns) -> None:
    virtual = run_as_served(settings(), 1)
    assert len(virtual) >= 6
    assert np.unique(virtual["turn"]).size > 2
    assert virtual["cached_tokens"].sum() > 0
    assert not disagreements(over_http, virtual)


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"step_base_ms": ENGINE["step_base_ms"] * 1.2}, "t_last_ns: faster"),
        ({"step_base_ms": ENGINE["step_base_ms"] / 1.2}, "t_last_ns: slower"),
        ({"prefill_tokens_per_s": ENGINE["prefill_tokens_per_s"] / 1.2}, "t_first_ns: faster"),
        ({"prefill_tokens_per_s": ENGINE["prefill_tokens_per_s"] * 1.4}, "t_first_ns: slower"),
    ],
)
def test_another_model_would_be_told_apart(
    over_http: RequestColumns, changes: dict[str, float], differs: str
) -> None:
    assert differs in disagreements(over_http, run_as_served(settings(**changes), 1))


def test_missing_cache_hits_would_be_told_apart(over_http: RequestColumns) -> None:
    dataset = ServedDataset(settings())
    turns = {id_: [turn._replace(shared=0) for turn in turns] for id_, turns in dataset.table.turns.items()}
    dataset.table = TokenTable(turns, {id_: dataset.table.tool_delays_ns(id_) for id_ in turns}, estimated=0)
    found = disagreements(over_http, run_as_served(settings(), 1, dataset=dataset))
    assert {"cached_tokens", "t_first_ns: faster"} <= found
