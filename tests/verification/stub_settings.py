"""A suite and a system whose endpoint is a scripted stub, under a short ruleset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripted_stub import MODEL
from virtual_system import DEMO_SET

from pytest_agentperf.config.run import RunOptions, RunSettings, settle
from pytest_agentperf.config.suite import Suite
from pytest_agentperf.config.system import System

OVERRIDES: dict[str, Any] = {
    "min_window_s": 0.3,
    "settle_s": 0.02,
    "stagger_max_s": 0.005,
    "warmup_agents": 0,
    "min_trajectories": 3,
    "min_trajectories_per_agent": 0,
    "idle_pause_s": 0.0,
    "calibration_s": 0.2,
    "idle_max_s": 1.0,
    "tool_delay_max_s": 0.01,
    "max_tokens": 1_000,
    "client_lag_p99_max_s": 30.0,
    "client_error_max": 0.99,
    # A busy machine is asked again, and not taken for a bad server.
    "invalid_retries": 5,
}


def settings_for(
    url: str, *, tokenizer: str | None = None, reset: tuple[str, ...] = (), **suite_keys: Any
) -> RunSettings:
    suite = {
        "name": "stubbed",
        "title": "stubbed",
        "model": MODEL,
        "tokenizer": tokenizer,
        "max_context_tokens": 131_072,
        "max_tokens": 16_384,
        "history_reasoning": "all",
        "edition": "1",
        "editions": {
            "1": {"source": "tests", "tiers": {"tier1": {"output_speed_p25_tok_s": 1, "ttft_p95_s": 30}}}
        },
        "sampling": {
            "parameters": {},
            "source": "tests",
            "max_effort": {"default": {"parameters": {}, "source": "tests"}},
        },
        "ruleset": "demo/1",
    }
    system = {
        "name": "stub",
        "title": "stub",
        "accelerator": {"name": "none", "vendor": "none"},
        "submitter": {"name": "tests"},
        "overrides": OVERRIDES | ({"reset_allowed": True} if reset else {}),
        "deployments": {
            "all": {
                "endpoint": {"url": url},
                "allocated_accelerators": 1,
                "serving": {"framework": "stub"},
                "reset": reset,
            }
        },
    }
    options = RunOptions(dataset=str(DEMO_SET), nonce="n", max_agents=2, workers=1)
    return settle(
        Suite.model_validate(suite | suite_keys),
        Path("suite.yaml"),
        System.model_validate(system),
        Path("stub.yaml"),
        options,
        start=Path.cwd(),
    )
