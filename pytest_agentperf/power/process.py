"""Samples a `PowerReader` in a process of its own, so that neither disturbs the other: reading and load."""

from __future__ import annotations

import json
from queue import Empty
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power import PowerProblem, PowerSource
from pytest_agentperf.core.power_series import PowerSeries, PowerSeriesBuilder
from pytest_agentperf.power.child import START, STOP
from pytest_agentperf.power.child_process import Collected, SamplerChild
from pytest_agentperf.power.frames import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIED_REMEDY = "the next phase starts it anew; see this machine's memory and the vendor's library"


class ReaderSpec(NamedTuple):
    """How the process makes its reader: `factory` is "package.module:callable", its arguments are JSON."""

    name: str
    factory: str
    arguments: Mapping[str, Any]


class ProcessSampler:
    """A `PowerSampler`. The process is started once, and again where it has died."""

    def __init__(
        self,
        spec: ReaderSpec,
        *,
        interval_s: float,
        open_timeout_s: float = 60.0,
        stop_timeout_s: float = 15.0,
    ) -> None:
        """`stop_timeout_s`: how long the last reading of a phase may take."""
        self._spec = spec
        self._interval_s = interval_s
        self._open_timeout_s = open_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._child: SamplerChild | None = None
        self._source: PowerSource | None = None
        self._failed: PowerProblem | None = None

    @property
    def pid(self) -> int | None:
        """The process, None while there is none."""
        return None if self._child is None else self._child.pid

    def open(self) -> PowerSource:
        """Start the process and open its source; raises PowerError."""
        if self._child is None or self._source is None:
            self._source = self._started()
        return self._source

    def start(self) -> None:
        """Begin sampling; what keeps a process from starting again is a problem of the phase."""
        self._failed = None
        if self._child is not None and not self._child.alive:
            self.close()
        try:
            self.open()
        except PowerError as error:
            text = f"the power sampler ({self._spec.name}) could not be started again: {error}"
            self._failed = PowerProblem("sampler_died", None, text)
            return
        assert self._child is not None
        self._child.collected = Collected(PowerSeriesBuilder())
        self._child.send(bytes((START,)))

    def stop(self) -> PowerSeries:
        """Let it read once more, and return all readings since `start`."""
        failed, self._failed = self._failed, None
        if failed is not None:
            return PowerSeries.empty(failed)
        child = self._child
        if child is None or child.collected is None:
            return PowerSeries.empty(PowerProblem("no_readings", None, "sampling was not started"))
        problem = self._stopped(child)
        collected, child.collected = child.collected, None
        if problem is not None:
            self.close()
            collected.problems.insert(0, problem)
        return collected.builder.build(
            problems=tuple(collected.problems), before=collected.before, after=collected.after
        )

    def close(self) -> None:
        """End the process, within a second."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _started(self) -> PowerSource:
        self.close()
        spec = self._spec
        child = SamplerChild(
            {
                "factory": spec.factory,
                "arguments": dict(spec.arguments),
                "interval_s": self._interval_s,
            }
        )
        try:
            source = self._opened(child)
        except BaseException:
            child.end(grace_s=0.1)
            raise
        self._child = child
        return source

    def _opened(self, child: SamplerChild) -> PowerSource:
        where = f"power source {self._spec.name}"
        try:
            reply = child.reply(self._open_timeout_s)
        except Empty:
            raise PowerError(
                f"it did not open within {self._open_timeout_s:g} s",
                where=where,
                remedy="see that its driver or host answers: try the vendor's own tool, or another power.source",
            ) from None
        if reply is None:
            raise PowerError(
                f"the sampler's process {child.last_words()}",
                where=where,
                remedy="see that the vendor's library works here: try its own tool, or another power.source",
            )
        kind, payload = reply
        if kind is Kind.REFUSED:
            what, place, remedy = json.loads(payload)
            raise PowerError(what, where=place or where, remedy=remedy)
        return PowerSource.model_validate_json(payload)

    def _stopped(self, child: SamplerChild) -> PowerProblem | None:
        child.send(bytes((STOP,)))
        try:
            reply = child.reply(self._stop_timeout_s)
        except Empty:
            how = f"did not answer for {self._stop_timeout_s:g} s, and was ended"
        else:
            if reply is not None:
                return None
            how = child.last_words()
        text = f"the power sampler ({self._spec.name}) {how}; {_DIED_REMEDY}"
        return PowerProblem("sampler_died", None, text)
