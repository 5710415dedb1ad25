from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from pytest_agentperf.config.engine import (
    EngineConfig,
    PowerActivity,
    PrefillPool,
    Speculation,
    load_engine_config,
)
from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "changes",
    [
        {"step_base_ms": 0},
        {"kv_blocks": 0},
        {"reasoning_share": 1.1},
        {"unknown": 1},
        {"output_tokens_median": 200, "output_tokens_p95": 100},
        {"power_idle_w": 500, "power_peak_w": 400},
        {"step_overlap": True},  # with memory and arithmetic both at full power
        {"prefill_pool": {"replicas": 2}},
        {"speculation": {"draft_tokens": 3, "acceptance_rate": 1.1}},
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EngineConfig.model_validate(changes)


def test_every_parameter_is_described() -> None:
    for model in (EngineConfig, PrefillPool, Speculation, PowerActivity):
        assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize("text", ["step_base_ms: 7\n", json.dumps({"step_base_ms": 7})])
def test_yaml_and_json_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "engine"
    path.write_text(text)
    assert load_engine_config(path) == EngineConfig(step_base_ms=7)


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    path.touch()
    assert load_engine_config(path) == EngineConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [("max_batch: many", "max_batch"), ("a: [", "neither YAML nor JSON"), ("- 1", "the file")],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_engine_config(path)
    assert caught.value.where == str(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_engine_config(tmp_path / "none.yaml")
