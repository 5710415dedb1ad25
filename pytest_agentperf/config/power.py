"""Where a deployment's power is read: the `power:` block of a system file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pytest_agentperf.config.urls import url_problem


class _Model(BaseModel):
    # The library's message would show the value, which may be a password in the wrong place.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


def _is_url(url: str) -> str:
    # A message of our own: the library's would be followed by the value, which may hold a password.
    if problem := url_problem(url):
        raise ValueError(problem)
    return url


Url = Annotated[str, AfterValidator(_is_url)]


class _Source(_Model):
    interval_s: float = Field(default=0.1, ge=0.02, le=60)
    """How often to read; a source whose values change less often is read as often as they change."""


class NoPower(_Source):
    """No power: everything per MW stays empty, with that reason."""

    source: Literal["none"] = "none"


class SimPower(_Source):
    """The simulated server's own energy counters."""

    source: Literal["sim"]


class NvmlPower(_Source):
    """NVIDIA accelerators of this host."""

    source: Literal["nvml"]
    devices: tuple[str, ...] = ()
    """Indices, UUIDs or PCI bus ids; all of the host if empty."""


class AmdsmiPower(_Source):
    """AMD accelerators of this host."""

    source: Literal["amdsmi"]
    devices: tuple[str, ...] = ()
    """Indices, UUIDs or PCI bus ids; all of the host if empty."""


class ExporterPower(_Source):
    """The exporter that a vendor ships, on each host that has allocated accelerators."""

    source: Literal["dcgm", "amd-exporter"]
    urls: tuple[Url, ...] = Field(min_length=1)
    """One `/metrics` URL per host."""
    ca_file: str | None = Field(default=None, min_length=1)
    """Certificates (PEM) to trust beside the system's."""
    devices: tuple[str, ...] = ()
    """Which of them, as `host:port/gpu`; all if empty."""
    update_period_s: float | None = Field(default=None, gt=0)
    """How often the exporter collects (dcgm-exporter's `--collect-interval`); measured when opened if absent."""


class Metric(_Model):
    """One metric of a Prometheus text endpoint."""

    name: str
    labels: dict[str, str] = Field(default_factory=dict)
    """Those that a sample must have."""
    device_label: str | None = None
    """The label that tells devices apart; None: one device per URL."""
    unit: Literal["W", "mW", "kW", "J", "mJ", "kJ", "Wh", "kWh"]


class PrometheusPower(_Source):
    """Any endpoint in Prometheus text format, by metric name and labels."""

    source: Literal["prometheus"]
    urls: tuple[Url, ...] = Field(min_length=1)
    ca_file: str | None = Field(default=None, min_length=1)
    """Certificates (PEM) to trust beside the system's."""
    power: Metric | None = None
    energy: Metric | None = None
    scope: Literal["gpu", "gpu+hbm", "module", "board", "chassis", "rack", "wall"]
    update_period_s: float = Field(gt=0)
    """How often the exporter's own values change."""
    devices: tuple[str, ...] = ()


class RedfishPower(_Source):
    """Chassis, PSU or PDU power over Redfish: beside the accelerators' figure, never mixed into it."""

    source: Literal["redfish"]
    urls: tuple[Url, ...] = Field(min_length=1)
    """Of the resources themselves: `https://bmc/redfish/v1/Chassis/1/Power`, …"""
    scope: Literal["chassis", "rack", "wall"]
    user_env: str | None = None
    password_env: str | None = None
    ca_file: str | None = Field(default=None, min_length=1)
    """Certificates (PEM) to trust beside the system's."""
    verify_tls: bool = True
    """Off: any controller is believed, and the result says so."""
    update_period_s: float | None = Field(default=None, gt=0)
    """How often the controller's values change; measured when opened if absent."""
    interval_s: float = Field(default=1.0, ge=0.5, le=60)


class FilePower(_Source):
    """Readings written by another tool, CSV or JSONL: replays, and meters without an API."""

    source: Literal["file"]
    path: str
    scope: Literal["gpu", "gpu+hbm", "module", "board", "chassis", "rack", "wall"]
    time_column: str = "time"
    """Seconds since the epoch, or ISO 8601 with an offset."""
    device_column: str | None = "device"
    power_w_column: str | None = "power_w"
    energy_j_column: str | None = None
    update_period_s: float = Field(gt=0)


class RatedPower(_Source):
    """The configured wattage: not measured, never comparable."""

    source: Literal["rated"]
    watts_each: float = Field(gt=0)


class PluginPower(_Source):
    """A site's own meter, from the hook `pytest_agentperf_power_readers`."""

    source: Literal["plugin"]
    reader: str
    options: dict[str, Any] = Field(default_factory=dict)


AcceleratorPower = Annotated[
    NoPower
    | SimPower
    | NvmlPower
    | AmdsmiPower
    | ExporterPower
    | PrometheusPower
    | FilePower
    | RatedPower
    | PluginPower,
    Field(discriminator="source"),
]
FacilityPower = Annotated[
    RedfishPower | PrometheusPower | FilePower | PluginPower, Field(discriminator="source")
]
