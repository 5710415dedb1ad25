"""Devices of other hosts, read over HTTP: who they are, how often they change, what is new, what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.clock import RealClock
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power import PowerSource, Scope
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.power.freshness import Changes, Freshness
from pytest_agentperf.power.http_hosts import Fetched, HttpHosts, host_of, wait_s
from pytest_agentperf.power.problem_log import ProblemLog
from pytest_agentperf.power.reader import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.core.power import DeviceState, PowerProblem
    from pytest_agentperf.power.rows import Row

WATCH_S = 10.0
_WATCH_STEP_MAX_S = 1.0
_STUCK_PERIODS = 2.5


class Kind(NamedTuple):
    """What is read over HTTP, and how an answer is understood."""

    source: str
    scope: Scope
    rows: Callable[[str, bytes], list[Row]]
    """The rows in an answer of a URL; raises NoRows."""
    accept: str
    body_bytes_max: int
    request_s: float
    """How long one request may take."""
    period_unseen_s: float
    """The update period where none can be seen."""
    notes: tuple[str, ...] = ()


class NoRows(ValueError):
    """Why an answer says nothing about power; reads on from `host:port `."""


class HttpReader:
    """A `PowerReader` of several URLs. A device is called `host:port/row`."""

    def __init__(
        self,
        kind: Kind,
        urls: Sequence[str],
        *,
        interval_s: float,
        update_period_s: float | None,
        devices: Sequence[str] = (),
        authorization: Callable[[], str | None] = lambda: None,
        ca_file: str | None = None,
        verify_tls: bool = True,
        clock: BlockingClock | None = None,
        watch_s: float = WATCH_S,
    ) -> None:
        self._kind = kind
        self._urls = urls
        self._interval_s = interval_s
        self._wanted = devices
        self._authorization = authorization
        self._ca_file = ca_file
        self._verify_tls = verify_tls
        self._clock = clock or RealClock()
        self._watch_s = watch_s
        self._given_period_s = update_period_s
        self._period_s = 0.0
        self._hosts: HttpHosts | None = None
        self._problems = ProblemLog()
        self._devices: dict[str, dict[str, str]] = {}
        """Per URL: the name of each device that is read, by its row's."""
        self._fresh: dict[str, Freshness] = {}
        self._latest: dict[str, Row] = {}

    def open(self) -> PowerSource:
        """Ask all hosts, and watch how often their values change."""
        try:
            return self._open()
        except PowerError:
            self.close()
            raise

    def _open(self) -> PowerSource:
        self._hosts = HttpHosts(
            self._urls,
            body_bytes_max=self._kind.body_bytes_max,
            request_s=self._kind.request_s,
            accept=self._kind.accept,
            authorization=self._authorization(),
            ca_file=self._ca_file,
            verify_tls=self._verify_tls,
        )
        first = self._first()
        self._name_devices(first)
        notes = self._measure_period()
        self._fresh = {
            device: Freshness(self._period_s) for names in self._devices.values() for device in names.values()
        }
        return PowerSource(
            source=f"{self._kind.source} ({', '.join(map(host_of, self._devices))})",
            scope=self._kind.scope,
            measured=True,
            update_period_s=self._period_s,
            devices=tuple(
                first[url][row].device(device, host_of(url))
                for url, names in self._devices.items()
                for row, device in names.items()
            ),
            notes=(*self._kind.notes, *notes),
        )

    def read(self) -> Iterator[Reading]:
        """Ask every host at once; what it repeats is no reading."""
        if self._hosts is None:
            return
        for fetched in self._hosts.fetch(wait_s(max(self._interval_s, self._period_s))):
            yield from self._readings(fetched)

    def states(self) -> Sequence[DeviceState]:
        """Return what is said of clocks, caps and throttling now, of the hosts that answer."""
        states = []
        for fetched in self._hosts.fetch(self._kind.request_s) if self._hosts is not None else ():
            rows = self._rows(fetched)
            if not isinstance(rows, str):
                names = self._devices.get(fetched.url, {})
                states += [row.state(names[name]) for name, row in rows.items() if name in names]
        return states

    def take_problems(self) -> Sequence[PowerProblem]:
        """Return what went wrong since the last call."""
        return self._problems.take()

    def close(self) -> None:
        """Close all connections."""
        if self._hosts is not None:
            self._hosts.close()
            self._hosts = None

    def _first(self) -> dict[str, dict[str, Row]]:
        rows: dict[str, dict[str, Row]] = {}
        refused: dict[str, str] = {}
        assert self._hosts is not None
        # A first request opens a connection, and a host may be in the middle of its own collecting.
        for _ in range(2):
            for fetched in self._hosts.fetch(2 * self._kind.request_s):
                found = self._rows(fetched)
                if isinstance(found, str):
                    refused[fetched.url] = found
                else:
                    rows.setdefault(fetched.url, found)
            if rows.keys() >= set(self._urls):
                break
        missing = [url for url in self._urls if url not in rows]
        if missing:
            told = "; ".join(f"{host_of(url)} {refused.get(url, 'did not answer')}" for url in missing)
            raise PowerError(
                f"{len(missing)} of {len(self._urls)} hosts cannot be read: {told}",
                where=f"power: {self._kind.source}",
                remedy=f"see `curl {missing[0]}`; every URL in power.urls must answer",
            )
        return {url: rows[url] for url in self._urls}

    def _rows(self, fetched: Fetched) -> dict[str, Row] | str:
        """Return the rows of an answer by name, or why there are none."""
        if fetched.body is None:
            return fetched.refused or "did not answer"
        try:
            rows = self._kind.rows(fetched.url, fetched.body)
        except NoRows as error:
            return str(error)
        return {row.id: row for row in rows}

    def _name_devices(self, first: Mapping[str, Mapping[str, Row]]) -> None:
        wanted = set(self._wanted)
        seen: dict[str, str] = {}
        there = []
        for url, rows in first.items():
            for row in rows.values():
                device = f"{host_of(url)}/{row.id}" if row.id else host_of(url)
                there.append(device)
                # Two URLs of one exporter would count its accelerators twice.
                if row.uuid is not None and (other := seen.setdefault(row.uuid, device)) != device:
                    raise PowerError(
                        f"{device} and {other} are the same accelerator ({row.uuid})",
                        where="power.urls",
                        remedy="name each host once",
                    )
                if not wanted or device in wanted:
                    self._devices.setdefault(url, {})[row.id] = device
        unknown = sorted(wanted - set(there))
        if unknown:
            raise PowerError(
                f"there is no device {unknown[0]!r}; there are {', '.join(there[:72])}",
                where="power.devices",
                remedy="name devices as host:port/gpu",
            )

    def _measure_period(self) -> tuple[str, ...]:
        if self._given_period_s is not None:
            self._period_s = self._given_period_s
            return ()
        assert self._hosts is not None
        changes = {url: Changes() for url in self._devices}
        step_s = min(self._interval_s, _WATCH_STEP_MAX_S)
        end_ns = self._clock.now_ns() + self._watch_s * NS_PER_S
        while not all(seen.enough for seen in changes.values()) and self._clock.now_ns() < end_ns:
            for fetched in self._hosts.fetch(step_s):
                rows = self._rows(fetched)
                if not isinstance(rows, str) and fetched.url in changes:
                    changes[fetched.url].see(fetched.t_ns, {name: row.values for name, row in rows.items()})
            self._clock.sleep(step_s)
        periods = [seen.period_s for seen in changes.values()]
        known = [period for period in periods if period is not None]
        if len(known) == len(periods):
            self._period_s = max(known)
            return (f"values change every {self._period_s:.2g} s, as watched at the start",)
        self._period_s = max(self._kind.period_unseen_s, *known, 0.0)
        slow = host_of(next(url for url, seen in changes.items() if not seen.enough))
        return (
            f"{slow} changed its values too rarely within {self._watch_s:g} s to tell how often: taken as every "
            f"{self._period_s:g} s, which is what it is shipped with; set power.update_period_s to what it is run with",
        )

    def _readings(self, fetched: Fetched) -> Iterator[Reading]:
        names = self._devices.get(fetched.url)
        if names is None:
            return
        host = host_of(fetched.url)
        rows = self._rows(fetched)
        if isinstance(rows, str):
            self._problems.add("unreachable", host, f"host {host} {rows}")
            return
        read = {device: rows.get(row) for row, device in names.items()}
        moved = any(row is not None and self._moved(device, row) for device, row in read.items())
        for device, row in read.items():
            if row is None:
                text = f"device {device} is no longer in the answer: does {host} still have it?"
                self._problems.add("device_lost", device, text)
                continue
            for code, text in row.refused:
                self._problems.add(code, device, f"device {device}: {text}")
            self._latest[device] = row
            fresh = self._fresh[device]
            new = fresh.new(fetched.t_ns, row.values, others_moved=moved)
            if new is not None:
                yield Reading(fetched.t_ns, device, power_w=new.power_w, energy_j=new.energy_j)
            elif row.values.is_any and fresh.still_s(fetched.t_ns) > max(
                _STUCK_PERIODS * self._period_s, 1.0
            ):
                text = f"device {device}: host {host} repeats the same values: is it still measuring?"
                self._problems.add("stuck", device, text)

    def _moved(self, device: str, row: Row) -> bool:
        before = self._latest.get(device)
        return before is not None and before.values != row.values
