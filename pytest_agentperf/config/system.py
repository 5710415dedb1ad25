"""A system: what it is, who submits it, and per tier the deployment that serves it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.config.launch import Launch, port_names, with_any_port
from pytest_agentperf.config.loader import load_model
from pytest_agentperf.config.power import AcceleratorPower, FacilityPower, NoPower
from pytest_agentperf.config.urls import base_url_problem
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.price import Price

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA = "agentperf-system/1"


class _Model(BaseModel):
    # The library's message would show the value, which may be a key in the wrong place.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class Accelerator(_Model):
    """The accelerator and how many of them make a system and a rack."""

    name: str
    vendor: str
    memory_gb: float | None = Field(default=None, gt=0)
    rated_power_w: float | None = Field(default=None, gt=0)
    per_system: int | None = Field(default=None, gt=0)
    per_rack: int | None = Field(default=None, gt=0)
    source: str | None = None


class Submitter(_Model):
    """Who answers for the result."""

    name: str
    contact: str | None = None
    url: str | None = None


class Endpoint(_Model):
    """Where requests go. Exactly one of `url`, `url_env` and `builtin`; a key only by its variable's name."""

    url: str | None = None
    """The base of the OpenAI-compatible API, usually ending in /v1; with `launch:`, `{port}` is a free port."""
    url_env: str | None = None
    builtin: Literal["sim"] | None = None
    api_key_env: str | None = None
    ca_file: str | None = Field(default=None, min_length=1)
    """Certificates (PEM) to trust beside the system's, for `url` and `metrics_urls`; TLS is always verified."""
    model: str | None = None
    """The name the endpoint serves the model under; the suite's model if absent."""

    # Messages of our own: the library's would be followed by the value, which may be a key in the wrong place.
    @field_validator("url")
    @classmethod
    def _is_base_url(cls, url: str | None) -> str | None:
        if url is not None and (problem := base_url_problem(with_any_port(url))):
            raise ValueError(problem)
        return url

    @field_validator("url_env", "api_key_env")
    @classmethod
    def _is_variable_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            raise ValueError(
                "not the name of an environment variable, in capitals; its value stays out of this file"
            )
        return name

    @model_validator(mode="after")
    def _one_way_in(self) -> Endpoint:
        if (self.url is not None) + (self.url_env is not None) + (self.builtin is not None) != 1:
            raise ValueError("give exactly one of `url`, `url_env` and `builtin`")
        return self


class Parallelism(_Model):
    """How one worker spreads the model."""

    tensor: int = Field(default=1, gt=0)
    pipeline: int = Field(default=1, gt=0)
    data: int = Field(default=1, gt=0)
    expert: int = Field(default=1, gt=0)
    context: int = Field(default=1, gt=0)


class ServingWorker(_Model):
    """One kind of worker process of the deployment."""

    role: Literal["aggregated", "prefill", "decode", "router", "frontend"]
    count: int = Field(gt=0)
    accelerators_each: int = Field(ge=0)
    parallelism: Parallelism = Parallelism()
    max_batch: int | None = Field(default=None, gt=0)
    max_tokens_per_step: int | None = Field(default=None, gt=0)
    environment: dict[str, str] = Field(default_factory=dict)
    command: str | None = None


class Serving(_Model):
    """The full serving configuration, for disclosure."""

    framework: str
    version: str | None = None
    image: str | None = None
    precision: str | None = None
    speculative_decoding: str | None = None
    kv_cache: str | None = None
    router: str | None = None
    workers: tuple[ServingWorker, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)
    sources: tuple[str, ...] = ()
    notes: str | None = None


class TierUse(_Model):
    """What a deployment is expected to carry at one tier; the test asserts it."""

    expected_agents: int | None = Field(default=None, ge=0)
    source: str | None = None


class Deployment(_Model):
    """One configuration of the system: endpoint, allocated accelerators, power, disclosure."""

    suite: str | None = None
    """The suite it serves; any if absent."""
    edition: str | None = None
    """The edition of the SLO table its expectations are for; the suite's default if absent."""
    tiers: dict[str, TierUse] | None = None
    """The tiers it serves; all if absent."""
    endpoint: Endpoint
    launch: Launch | None = None
    """How to start the server; without it, the endpoint is there already."""
    reset: tuple[str, ...] = ()
    """Paths of the server that are POSTed to between phases, where the ruleset allows it."""
    allocated_accelerators: int = Field(gt=0)
    """All that the deployment holds: prefill, routers' and idle ones included."""
    search_start: int | None = Field(default=None, gt=0)
    """Where the ramp begins, if not at 1."""
    power: AcceleratorPower = NoPower()
    """Where the accelerators' power is read. `none` leaves everything per MW empty, with that reason."""
    facility: tuple[FacilityPower, ...] = ()
    """Meters of chassis, rack or wall, reported beside the accelerators' power."""
    metrics_urls: tuple[str, ...] = ()
    """Prometheus pages of all its engines, added up; the endpoint's own /metrics if none is named."""
    serving: Serving
    simulate: EngineConfig | None = None
    """A model of the deployment: what `builtin: sim` serves, and what a rehearsal runs in virtual time."""

    @field_validator("metrics_urls")
    @classmethod
    def _are_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for number, url in enumerate(urls):
            if problem := base_url_problem(with_any_port(url)):
                raise ValueError(f"number {number + 1}: {problem}")
        return urls

    @model_validator(mode="after")
    def _consistent(self) -> Deployment:
        if self.endpoint.builtin == "sim" and self.simulate is None:
            raise ValueError("`endpoint.builtin: sim` needs a `simulate:` block")
        if self.launch is not None and self.endpoint.url is None:
            raise ValueError(
                "`launch:` goes with `endpoint.url`, which says where the server will be, "
                "as http://127.0.0.1:{port}/v1"
            )
        if self.launch is None and port_names([self.endpoint.url or "", *self.metrics_urls]):
            raise ValueError("`{port}` in a URL goes with `launch:` only")
        if any(not re.fullmatch(r"/[!-~]*", path) for path in self.reset):
            raise ValueError("`reset` is a list of paths, as /reset_prefix_cache")
        if self.power.source == "sim" and self.endpoint.builtin != "sim":
            raise ValueError("`power.source: sim` reads the simulated server only")
        devices = getattr(self.power, "devices", ())
        # The power of some of them would be divided into the work of all.
        if devices and len(devices) != self.allocated_accelerators:
            raise ValueError(
                f"`power.devices` names {len(devices)} devices, but {self.allocated_accelerators} accelerators "
                "are allocated: name each of them once"
            )
        if len(set(devices)) != len(devices):
            raise ValueError("`power.devices` names a device twice: name each of them once")
        held = sum(worker.count * worker.accelerators_each for worker in self.serving.workers)
        if held > self.allocated_accelerators:
            raise ValueError(
                f"the workers hold {held} accelerators, more than the {self.allocated_accelerators} allocated"
            )
        return self


class System(_Model):
    """What is measured: hardware, submitter, deployments."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*$")
    title: str
    accelerator: Accelerator
    submitter: Submitter
    price: Price | None = None
    projection: bool = False
    """Whether the models of it rest on no published result; whatever is simulated with them says so."""
    ruleset: str | None = None
    """Overrules the suite's ruleset."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    load: tuple[str, ...] = Field(default=(), exclude=True)
    """Where load workers run, unless a flag says otherwise, as `2*ssh=user@host`; no part of what is measured."""
    deployments: dict[str, Deployment] = Field(min_length=1)

    def deployment_for(self, suite: str, tier: str) -> tuple[str, Deployment] | None:
        """Return the deployment that serves a tier of a suite: one made for the suite before one for any."""
        for wanted in (suite, None):
            for name, deployment in self.deployments.items():
                if deployment.suite == wanted and (deployment.tiers is None or tier in deployment.tiers):
                    return name, deployment
        return None

    def check_tiers(self, suite: str, tiers: Mapping[str, Any], *, where: str) -> None:
        """Raise ConfigError if a deployment for the suite names a tier that the suite does not have."""
        for name, deployment in self.deployments.items():
            if deployment.suite != suite:
                continue
            for tier in deployment.tiers or {}:
                if tier not in tiers:
                    raise ConfigError(
                        f"deployment {name!r} names the tier {tier!r}, which suite {suite} does not have",
                        where=where,
                        remedy=f"one of: {', '.join(tiers)}",
                    )


def load_system(path: Path) -> System:
    """Read a system's YAML file."""
    return load_model(path, System, schema=SCHEMA)
