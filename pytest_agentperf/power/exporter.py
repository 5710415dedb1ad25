"""Accelerators of other hosts, through exporters in Prometheus text format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.config.power import ExporterPower, PrometheusPower
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.prometheus_text import NotPrometheusText, parse
from pytest_agentperf.power.exporter_metrics import AMD, DCGM, Dialect, metric_rows
from pytest_agentperf.power.http_reader import WATCH_S, HttpReader, Kind, NoRows

if TYPE_CHECKING:
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.power.rows import Row

_BODY_BYTES_MAX = 8 * 2**20
REQUEST_S = 2.0
"""A reading that is older than this is of no use."""


class ExporterReader(HttpReader):
    """A `PowerReader` of one exporter per host. A device is called `host:port/gpu`."""

    def __init__(
        self,
        config: ExporterPower | PrometheusPower,
        *,
        clock: BlockingClock | None = None,
        watch_s: float = WATCH_S,
    ) -> None:
        super().__init__(
            _kind(_dialect(config)),
            config.urls,
            interval_s=config.interval_s,
            update_period_s=config.update_period_s,
            devices=config.devices,
            ca_file=config.ca_file,
            clock=clock,
            watch_s=watch_s,
        )


def _kind(dialect: Dialect) -> Kind:
    def rows(url: str, body: bytes) -> list[Row]:
        try:
            found = dialect.rows(parse(body, dialect.names))
            if not found:
                # What it is instead, for the message.
                parse(body)
        except UnicodeDecodeError:
            raise NoRows("sends no text") from None
        except NotPrometheusText as error:
            raise NoRows(f"sends no Prometheus text: {error}") from None
        if not found:
            raise NoRows(f"shows no {dialect.wanted}: does it collect them?")
        if not body.endswith(b"\n"):
            # The format's last line has an end; without one a value may lack digits.
            raise NoRows("sends a text that is cut off in its last line")
        return found

    return Kind(
        dialect.source,
        dialect.scope,
        rows,
        "text/plain;version=0.0.4",
        _BODY_BYTES_MAX,
        REQUEST_S,
        dialect.period_unseen_s,
    )


def _dialect(config: ExporterPower | PrometheusPower) -> Dialect:
    if isinstance(config, ExporterPower):
        return DCGM if config.source == "dcgm" else AMD
    metrics = [metric for metric in (config.power, config.energy) if metric is not None]
    wrong = (config.power and config.power.unit[-1] != "W") or (
        config.energy and config.energy.unit[-1] == "W"
    )
    if wrong or not metrics:
        raise PowerError(
            "power has a unit of energy, or energy one of power" if wrong else "no metric is named",
            where="power.source: prometheus",
            remedy="name power (W, mW, kW), energy (J, mJ, kJ, Wh, kWh) or both",
        )
    wanted = " or ".join(f"{metric.name} with labels {metric.labels}" for metric in metrics)
    names = tuple(metric.name for metric in metrics)
    return Dialect("prometheus", config.scope, metric_rows(config), names, wanted, config.update_period_s)
