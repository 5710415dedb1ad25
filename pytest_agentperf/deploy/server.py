"""A server that somebody else runs: we attach to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.deploy.metrics_page import MetricsReader, requests_in_flight
from pytest_agentperf.deploy.probe import endpoint_state, post

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.core.ports import BlockingClock


class AttachedServer:
    """The `Server` at a URL."""

    simulated = False

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        clock: BlockingClock,
        metrics_urls: Sequence[str] = (),
        *,
        ca_file: str | None = None,
    ) -> None:
        self._ca_file = ca_file
        self._url = url
        self._metrics_urls = metrics_urls
        self._headers = headers
        self._clock = clock

    @property
    def url(self) -> str:
        """Return the base URL."""
        return self._url

    def start(self) -> None:
        """Do nothing: somebody else runs it, and the checks before a run tell whether it is there."""

    def state(self) -> Literal["alive", "dead", "unreachable"]:
        """Say how it is: dead only if its host refuses the connection."""
        return endpoint_state(self._url, self._headers, ca_file=self._ca_file)

    def revive(self, patience_s: float) -> None:
        """Wait for its return; raises EndpointError if it stays away."""
        deadline_ns = self._clock.now_ns() + round(patience_s * NS_PER_S)
        while self.state() != "alive":
            if self._clock.now_ns() > deadline_ns:
                raise EndpointError(
                    f"the server is gone and did not come back within {patience_s:g} s",
                    where=self._url,
                    remedy="restart it and run again; everything measured so far is kept",
                )
            self._clock.sleep(1.0)

    def requests_in_flight(self) -> float | None:
        """Return running and waiting requests from its metrics."""
        return requests_in_flight(self.open_metrics())

    def open_metrics(self) -> MetricsReader:
        """Return a reader of its metrics."""
        return MetricsReader(self._url, self._headers, self._metrics_urls, ca_file=self._ca_file)

    def reset(self, paths: Sequence[str]) -> None:
        """POST to paths of the server."""
        for path in paths:
            post(self._url, path, self._headers, ca_file=self._ca_file)

    def log_tail(self) -> tuple[str, ...]:
        """Return nothing: its log is somebody else's."""
        return ()

    def stop(self) -> None:
        """Leave it running: it is not ours."""
