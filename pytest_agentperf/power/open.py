"""From the `power:` block of a system file to a reader, and to the process that samples it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter

from pytest_agentperf.config.power import (
    AcceleratorPower,
    FacilityPower,
    NoPower,
    PluginPower,
    RatedPower,
    SimPower,
)
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.power.none import NoPowerSampler
from pytest_agentperf.power.process import ProcessSampler, ReaderSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentperf.core.ports import PowerSampler
    from pytest_agentperf.power.reader import PowerReader

_HERE = "pytest_agentperf.power"
_READERS = {
    "nvml": f"{_HERE}.nvml:NvmlReader",
    "amdsmi": f"{_HERE}.amdsmi:AmdsmiReader",
    "dcgm": f"{_HERE}.exporter:ExporterReader",
    "amd-exporter": f"{_HERE}.exporter:ExporterReader",
    "prometheus": f"{_HERE}.exporter:ExporterReader",
    "redfish": f"{_HERE}.redfish:RedfishReader",
    "file": f"{_HERE}.file:FileReader",
}
"""Each is made from its model. Imported where it is read, since vendors' packages are optional and heavy."""

PowerConfig = AcceleratorPower | FacilityPower
_CONFIG: TypeAdapter[PowerConfig] = TypeAdapter(PowerConfig)


def open_sampler(config: PowerConfig, *, accelerators: int, url: str | None = None) -> PowerSampler:
    """Return what samples a source, not yet opened; `url` is the server's, which a simulated one is read from."""
    if isinstance(config, NoPower):
        return NoPowerSampler()
    arguments = {"config": config.model_dump(mode="json"), "accelerators": accelerators, "url": url}
    spec = ReaderSpec(config.source, f"{_HERE}.open:make_reader", arguments)
    return ProcessSampler(spec, interval_s=config.interval_s)


def make_reader(config: Mapping[str, Any], accelerators: int, url: str | None) -> PowerReader:
    """Return the reader of a dumped model, in the sampler's process."""
    model = _CONFIG.validate_python(config)
    if isinstance(model, SimPower):
        if url is None:
            raise PowerError(
                "the simulated server runs only during a measurement, and its power is never a valid one",
                remedy="name the source of a real system in `power.source`",
            )
        return _called(f"{_HERE}.sim:SimReader", url)
    if isinstance(model, RatedPower):
        return _called(f"{_HERE}.rated:RatedReader", model, accelerators)
    if isinstance(model, PluginPower):
        return _plugin(model)
    return _called(_READERS[model.source], model)


def _plugin(model: PluginPower) -> PowerReader:
    try:
        return _called(model.reader, **model.options)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise PowerError(
            f"the reader {model.reader!r} cannot be made: {error}",
            where="power.reader",
            remedy="name it as `package.module:Class`, installed here, with `options` that it takes",
        ) from error


def _called(name: str, *arguments: Any, **options: Any) -> PowerReader:
    module, _, attribute = name.partition(":")
    return cast("PowerReader", getattr(import_module(module), attribute)(*arguments, **options))
