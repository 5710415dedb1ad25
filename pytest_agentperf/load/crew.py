"""The workers of a pool, wherever they are: frames to them, frames from them, and which of them are gone."""

from __future__ import annotations

import contextlib
import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_agentperf import __version__
from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.host_clock import HostClock
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_agentperf.load.host_facts import HostFacts
    from pytest_agentperf.load.place import Link, Place

_BEAT_S = 5.0
_MEMORY_REMEDY = "check its memory and CPU; use more workers"


@dataclass(slots=True, eq=False)
class Host:
    """One machine that carries load."""

    facts: HostFacts
    remote: bool
    workers: list[Worker] = field(default_factory=list)
    clock: HostClock = field(default_factory=HostClock)

    @property
    def name(self) -> str:
        """Return what users know it by."""
        return self.facts.name if self.remote else "this machine"


@dataclass(slots=True, eq=False)
class Worker:
    """One process that drives agents."""

    number: int
    place: Place
    link: Link
    host: Host | None = None
    """Known once it has joined."""
    agents: list[int] = field(default_factory=list)
    in_flight: int = 0
    drained: bool = False
    heard_ns: int = field(default_factory=monotonic_ns)

    @property
    def label(self) -> str:
        """Return its name for messages."""
        where = self.host.name if self.host is not None else self.place.name
        return f"load worker {self.number}" + (f" on {where}" if self.place.remote else "")


class Crew:
    """Workers, in the order of their numbers."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self._frames: queue.SimpleQueue[tuple[Worker, Sequence[Any]]] = queue.SimpleQueue()
        self._overtaken: list[tuple[Worker, Sequence[Any]]] = []
        """Frames that came while others were waited for."""
        self.went_silent = False
        """Whether a worker was given up that may still be at work, behind a cut network."""
        self._closed = threading.Event()
        self._beats: threading.Thread | None = None

    def open(self, place: Place, count: int, *, fewer: bool = False) -> list[Worker]:
        """Start workers in a place and listen to them, or to `fewer` if only these start; raises LoadError."""
        numbers = range(len(self.workers), len(self.workers) + count)
        opened = []
        for number, link in zip(numbers, place.open(numbers, fewer=fewer), strict=not fewer):
            worker = Worker(number, place, link)
            self.workers.append(worker)
            opened.append(worker)
            link.listen(self._taker(worker))
        if place.remote and self._beats is None:
            self._beats = threading.Thread(target=self._beat, daemon=True)
            self._beats.start()
        return opened

    def dismiss(self, workers: Iterable[Worker]) -> None:
        """Forget workers that did not join, and end them."""
        for worker in workers:
            worker.link.close()
            self.workers.remove(worker)

    def send(self, worker: Worker, *frame: Any) -> None:
        """Send a frame; raises LoadError if the worker is gone."""
        try:
            worker.link.send(frame)
        except OSError:
            raise self._lost(worker) from None

    def next(self, timeout_s: float) -> tuple[Worker, Sequence[Any]] | None:
        """Return the next frame, None if there is none in time; raises LoadError for what ended a worker."""
        if self._overtaken:
            return self._overtaken.pop(0)
        return self._fresh(timeout_s)

    def gather(
        self,
        workers: Iterable[Worker],
        kind: str,
        timeout_s: float,
        *,
        others: Callable[[Worker, Sequence[Any]], None] | None = None,
    ) -> list[tuple[Worker, Sequence[Any]]]:
        """Return one frame of a kind from each worker; `timeout_s` is how long those that are waited for may be silent.

        Other frames go to `others`, or wait until they are asked for. Raises LoadError naming who did not answer.
        """
        waiting = set(workers)
        found: list[tuple[Worker, Sequence[Any]]] = []
        deadline_ns = monotonic_ns() + round(timeout_s * NS_PER_S)
        while waiting:
            left_s = (deadline_ns - monotonic_ns()) / NS_PER_S
            if left_s <= 0 or (news := self._fresh(left_s)) is None:
                self.went_silent = True
                silent = ", ".join(
                    worker.label for worker in sorted(waiting, key=lambda worker: worker.number)
                )
                raise LoadError(f"{silent} did not answer within {timeout_s:g} s", remedy=_MEMORY_REMEDY)
            worker, frame = news
            if worker in waiting:
                # The news of others do not make up for its silence.
                deadline_ns = monotonic_ns() + round(timeout_s * NS_PER_S)
            if frame[0] == kind and worker in waiting:
                found.append(news)
                waiting.discard(worker)
            elif others is not None:
                others(worker, frame)
            else:
                self._overtaken.append(news)
        return sorted(found, key=lambda item: item[0].number)

    def forget_frames(self) -> None:
        """Drop what was kept of a phase that is over."""
        self._overtaken.clear()

    def check_silence(self, limit_s: float) -> None:
        """Raise LoadError for a worker that has said nothing for so long."""
        limit_ns = monotonic_ns() - round(limit_s * NS_PER_S)
        silent = next((worker for worker in self.workers if worker.heard_ns < limit_ns), None)
        if silent is not None:
            self.went_silent = True
            raise LoadError(
                f"{silent.label} has said nothing for {limit_s:g} s",
                remedy="see to that host and the network between",
            )

    def close(self) -> None:
        """End the workers; they close their connections when their lines close."""
        self._closed.set()
        for worker in self.workers:
            worker.link.close()

    def _fresh(self, timeout_s: float) -> tuple[Worker, Sequence[Any]] | None:
        try:
            worker, frame = (
                self._frames.get(timeout=timeout_s) if timeout_s > 0 else self._frames.get_nowait()
            )
        except queue.Empty:
            return None
        # Of workers that were dismissed nothing counts any more.
        if worker in self.workers:
            if frame[0] == "error":
                raise LoadError(
                    f"{worker.label} failed:\n{frame[1]}",
                    remedy="the last line names the cause; report it if unclear",
                )
            if frame[0] == "gone":
                raise self._lost(worker)
        return worker, frame

    def _taker(self, worker: Worker) -> Callable[[Sequence[Any]], None]:
        def take(frame: Sequence[Any]) -> None:
            worker.heard_ns = now_ns = monotonic_ns()
            # Stamped here: it may wait for long until somebody asks for it.
            self._frames.put((worker, (*frame, now_ns) if frame[0] == "clock" else frame))

        return take

    def _lost(self, worker: Worker) -> LoadError:
        # A line that broke here may not have broken there.
        self.went_silent |= worker.place.remote and worker.host is not None
        why = worker.link.why_gone().strip()
        if "No module named 'pytest_agentperf'" in why:
            remedy = f"pip install pytest-agentperf=={__version__} there, or name an interpreter that has it: //python="
        elif worker.place.remote:
            remedy = "see to that host, its memory and the network between"
        else:
            remedy = "check this machine's memory; look at its output above"
        return LoadError(f"{worker.label} is gone" + (f":\n{why}" if why else ""), remedy=remedy)

    def _beat(self) -> None:
        """Let workers on other hosts know that they are not alone."""
        while not self._closed.wait(_BEAT_S):
            for worker in list(self.workers):
                if worker.place.remote:
                    # Whoever waits for it will find out.
                    with contextlib.suppress(OSError):
                        worker.link.send(("beat",))
