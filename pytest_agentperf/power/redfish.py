"""Chassis, power supplies and PDUs over Redfish: always beside the accelerators' power, never mixed into it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.power.http_hosts import credentials
from pytest_agentperf.power.http_reader import WATCH_S, HttpReader, Kind, NoRows
from pytest_agentperf.power.redfish_body import NotPower, parse

if TYPE_CHECKING:
    from pytest_agentperf.config.power import RedfishPower
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.power.rows import Row

_BODY_BYTES_MAX = 2**20
_PERIOD_UNSEEN_S = 60.0
_REQUEST_S = 10.0
"""Management controllers are slow."""
_UNVERIFIED = "power.verify_tls is off: whoever is on the way could send these values, and read the password"


class RedfishReader(HttpReader):
    """A `PowerReader` of one resource per URL. A device is called as its URL, without the scheme."""

    def __init__(
        self, config: RedfishPower, *, clock: BlockingClock | None = None, watch_s: float = WATCH_S
    ) -> None:
        if len(set(config.urls)) < len(config.urls):
            raise PowerError("a URL stands there twice", where="power.urls", remedy="name each resource once")
        notes = () if config.verify_tls else (_UNVERIFIED,)
        super().__init__(
            Kind(
                "redfish",
                config.scope,
                _rows,
                accept="application/json",
                body_bytes_max=_BODY_BYTES_MAX,
                request_s=_REQUEST_S,
                period_unseen_s=_PERIOD_UNSEEN_S,
                notes=notes,
            ),
            config.urls,
            interval_s=config.interval_s,
            update_period_s=config.update_period_s,
            authorization=lambda: credentials(config.urls, config.user_env, config.password_env),
            ca_file=config.ca_file,
            verify_tls=config.verify_tls,
            clock=clock,
            watch_s=watch_s,
        )


def _rows(url: str, body: bytes) -> list[Row]:
    try:
        row = parse(body)
    except NotPower as error:
        raise NoRows(f"{error} ({urlsplit(url).path})") from None
    row.id = urlsplit(url).path.strip("/")
    return [row]
