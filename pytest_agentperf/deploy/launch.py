"""A server that we start, watch and end."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pytest_agentperf.config.launch import port_names, with_ports
from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.core.redact import SECRET_MIN_CHARS, redact, redactable
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.deploy.kept_process import KeptProcess, Start, death
from pytest_agentperf.deploy.readiness import Readiness
from pytest_agentperf.deploy.server import AttachedServer
from pytest_agentperf.deploy.server_log import new_file, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_agentperf.config.launch import Launch, LaunchEnvironment
    from pytest_agentperf.core.ports import BlockingClock

_POLL_S = 0.25
# On a busy machine a server that was killed is silent for so long before its keeper says how it ended.
_END_KNOWN_S = 2.0
_PROGRESS_EVERY_NS = 10 * NS_PER_S
# Below those that the kernel gives to outgoing connections: none of them can take a port between the search for a
# free one and the server's start.
_PORTS = range(20_000, 32_000)


class LaunchedServer(AttachedServer):
    """The `Server` of a deployment with `launch:`."""

    def __init__(
        self,
        name: str,
        launch: Launch,
        environment: LaunchEnvironment,
        url: str,
        headers: Mapping[str, str],
        model: str,
        clock: BlockingClock,
        *,
        directory: Path,
        logs: Callable[[], Path] | None = None,
        metrics_urls: Sequence[str] = (),
        ca_file: str | None = None,
        on_progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`directory`: what relative ones are relative to; `logs()` returns a folder for logs, once one is needed."""
        super().__init__(url, headers, clock, metrics_urls, ca_file=ca_file)
        self._model = model
        self._name = name
        self._launch = launch
        self._environment = environment
        self._template = url
        self._metrics_templates = tuple(metrics_urls)
        self._directory = directory
        self._logs = logs
        self._on_progress = on_progress
        filled = {value for value in environment.values.values() if len(value) >= SECRET_MIN_CHARS}
        self._secrets = tuple({*filled, *redactable(headers.values())})
        self._running: list[KeptProcess] = []
        self._last_tail: list[str] = []

    def start(self) -> None:
        """Launch its processes in order and wait until it serves the model; raises EndpointError."""
        deadline_ns = self._clock.now_ns() + round(self._launch.ready_deadline_s * NS_PER_S)
        ports = self._choose_ports()
        self._url = with_ports(self._template, ports)
        self._metrics_urls = tuple(with_ports(page, ports) for page in self._metrics_templates)
        _see_that_nobody_is_there(self._url)
        try:
            for name, process in self._launch.all_processes().items():
                command = tuple(with_ports(word, ports) for word in process.command)
                self._running.append(
                    KeptProcess(
                        Start(
                            name=name,
                            command=command,
                            environment={
                                **os.environ,
                                **{
                                    key: self._environment.fill(with_ports(value, ports))
                                    for key, value in process.environment.items()
                                },
                            },
                            directory=str(self._directory / (process.directory or "")),
                            log=self._new_log(name, process.log),
                            secrets=self._secrets,
                            stop_signal=self._launch.stop_signal,
                            stop_grace_s=self._launch.stop_grace_s,
                        )
                    )
                )
                if process.ready is not None:
                    self._wait(
                        Readiness.at(self._url, with_ports(process.ready, ports), ca_file=self._ca_file),
                        deadline_ns,
                    )
            if self._launch.ready is None:
                self._wait(
                    Readiness.of_model(self._url, self._headers, self._model, ca_file=self._ca_file),
                    deadline_ns,
                )
            else:
                self._wait(
                    Readiness.at(self._url, with_ports(self._launch.ready, ports), ca_file=self._ca_file),
                    deadline_ns,
                )
        except EndpointError as error:
            self.stop()
            raise EndpointError(
                redact(error.what, self._secrets), where=error.where or self._url, remedy=error.remedy
            ) from None
        except BaseException:
            self.stop()
            raise

    def state(self) -> Literal["alive", "dead", "unreachable"]:
        """Say how it is: dead if one of its processes has ended, whatever the others answer."""
        if not self._running or any(process.exited() for process in self._running):
            return "dead"
        return super().state()

    def revive(self, patience_s: float) -> None:
        """End what is left and start anew; raises EndpointError if that fails or `restart` is not wanted."""
        gone = self._ends()
        tail = self.log_tail()
        self.stop()
        if not self._launch.restart:
            raise EndpointError(
                f"the launched server crashed ({'; '.join(gone) or 'it does not answer'}){quoted(tail)}",
                where=self._url,
                remedy="see its log; `launch.restart: true` starts it anew and repeats the probe",
            )
        self._on_progress("starting the server again")
        self.start()

    def _ends(self) -> list[str]:
        """Return how its processes ended: it stops answering a moment before that is known."""
        deadline_ns = self._clock.now_ns() + round(_END_KNOWN_S * NS_PER_S)
        while self._running and self._clock.now_ns() < deadline_ns:
            if any(process.exited() for process in self._running):
                break
            self._clock.sleep(_POLL_S)
        return [f"{process.name}: {how}" for process in self._running if (how := process.exited())]

    def log_tail(self) -> tuple[str, ...]:
        """Return the last lines of its log: of those processes that have ended, or of all."""
        ended = [process for process in self._running if process.exited()]
        found = [line for process in ended or self._running for line in self._told(process, process.tail())]
        return tuple(found) or tuple(self._last_tail)

    def _told(self, process: KeptProcess, tail: Iterable[str]) -> list[str]:
        prefix = f"{process.name}: " if len(self._launch.all_processes()) > 1 else ""
        return [prefix + line for line in tail]

    def stop(self) -> None:
        """End its processes, the last one started first."""
        if not self._running:
            return
        crashed = any(process.exited() for process in self._running)
        self._last_tail = list(self.log_tail()) if crashed else []
        while self._running:
            process = self._running.pop()
            report = process.stop()
            if report is None:
                continue
            if not crashed:
                self._last_tail += self._told(process, report["tail"])
            if report["log_problem"]:
                self._on_progress(report["log_problem"])
            if report["left"]:
                self._on_progress(f"{report['left']} processes of {process.name!r} could not be ended")

    def _choose_ports(self) -> dict[str, int]:
        """Return a free port for every name that is asked for."""
        texts = [self._template, *self._metrics_templates, self._launch.ready or ""]
        for process in self._launch.all_processes().values():
            texts += [*process.command, *process.environment.values(), process.ready or ""]
        names = sorted(port_names(texts))
        return dict(zip(names, _free_ports(len(names)), strict=True))

    def _new_log(self, process: str, wanted: str | None) -> Path | None:
        if self._logs is None:
            return None
        if wanted is not None:
            return new_file(self._logs() / Path(wanted).expanduser())
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{self._name}-{process}")
        return new_file(self._logs() / f"{name}.log", numbered=True)

    def _wait(self, ready: Readiness, deadline_ns: int) -> None:
        """Wait until it is ready; raises EndpointError when a process ends or the time is up."""
        begun_ns = shown_ns = self._clock.now_ns()
        while not ready.now():
            for process in self._running:
                if how := process.exited():
                    raise death(process, how, remedy="see its last lines above, and its log")
            now_ns = self._clock.now_ns()
            if now_ns >= deadline_ns:
                tail = self._running[-1].tail()
                raise EndpointError(
                    f"the launched server was not ready within {self._launch.ready_deadline_s:g} s: "
                    f"{ready.last}{quoted(tail)}",
                    remedy="raise `launch.ready_deadline_s`, or correct `launch.ready` or the command",
                )
            if now_ns - shown_ns >= _PROGRESS_EVERY_NS or shown_ns == begun_ns:
                shown_ns = now_ns
                last = (self._running[-1].tail() or ["it says nothing yet"])[-1]
                self._on_progress(f"starting the server, {(now_ns - begun_ns) // NS_PER_S} s: {last}")
            self._clock.sleep(_POLL_S)


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            if len(found) == count:
                break
            listener = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                # On every address, as servers bind them.
                listener.bind(("", port))
                found.append(port)
    if len(found) < count:
        raise EndpointError("this machine has no free port", remedy="write a number into `endpoint.url`")
    return found


def _see_that_nobody_is_there(url: str) -> None:
    """Raise if something answers where the server is to be: it would be measured in its place."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5.0).close()
    except OSError:
        return
    raise EndpointError(
        "something is there already, before the server is launched",
        where=url,
        remedy="end it, choose another port (`{port}` finds a free one), or remove `launch:` to measure it",
    )
