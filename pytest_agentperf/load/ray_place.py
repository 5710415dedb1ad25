"""Workers as Ray actors: one core each, spread over a cluster, placed by resources and labels."""

from __future__ import annotations

import contextlib
import queue
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import ConfigError, LoadError
from pytest_agentperf.load.place import GONE, WORKER_MODULE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_agentperf.config.load_spec import LoadSpec

# So long the cluster has to find room for the actors.
_ROOM_S = 60.0
_EXTRA = "pip install 'pytest-agentperf[ray]' here and on the cluster, in the same versions"
_END = None
# A thread for each, so that none waits for another, and frames keep their order.
_GROUPS = {"run": 1, "put": 1, "take": 1}


class _Channel:
    """A worker's end of the line, in its actor: what execnet's channel is elsewhere."""

    def __init__(self) -> None:
        self.incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def send(self, item: object) -> None:
        self.outgoing.put(item)

    def receive(self, timeout: float | None = None) -> Any:
        try:
            item = self.incoming.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        if item is _END:
            raise EOFError
        return item

    def setcallback(self, callback: Callable[[Any], object], endmarker: object = None) -> None:
        def pump() -> None:
            while (item := self.incoming.get()) is not _END:
                callback(item)
            callback(endmarker)

        threading.Thread(target=pump, daemon=True).start()


class _Actor:
    """Runs one worker in a thread of its own; frames come and go by method calls."""

    def __init__(self) -> None:
        self._channel = _Channel()

    def run(self) -> None:
        """Work until the line is closed."""
        try:
            import_module(WORKER_MODULE).serve(self._channel)
        finally:
            self._channel.send(_END)

    def put(self, frame: Any) -> None:
        """Take a frame from the controller; None closes the line."""
        self._channel.incoming.put(frame)

    def take(self) -> list[Any]:
        """Wait for frames to the controller; None is the last."""
        frames = [self._channel.outgoing.get()]
        with contextlib.suppress(queue.Empty):
            while True:
                frames.append(self._channel.outgoing.get_nowait())
        return frames


def _actor_class(ray: Any) -> Any:
    """Return `_Actor` for Ray; of a class made here the marks travel, even through Ray's client."""

    class Grouped(_Actor):
        @ray.method(concurrency_group="run")  # type: ignore[untyped-decorator]
        def run(self) -> None:
            _Actor.run(self)

        @ray.method(concurrency_group="put")  # type: ignore[untyped-decorator]
        def put(self, frame: Any) -> None:
            _Actor.put(self, frame)

        @ray.method(concurrency_group="take")  # type: ignore[untyped-decorator]
        def take(self) -> list[Any]:
            return _Actor.take(self)

    return ray.remote(concurrency_groups=_GROUPS)(Grouped)


class RayLink:
    """The line to one actor."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self._actor = actor
        self._run = actor.run.remote()
        self._gone = False
        self._why = ""

    def send(self, frame: tuple[Any, ...]) -> None:
        """Send plain values."""
        if self._gone:
            raise OSError("the actor is gone")
        self._actor.put.remote(frame)

    def listen(self, take: Callable[[Sequence[Any]], None]) -> None:
        """Pass on what comes, in a thread of its own."""

        def pump() -> None:
            try:
                while True:
                    for frame in self._ray.get(self._actor.take.remote()):
                        if frame is _END:
                            self._ray.get(self._run)
                            return
                        take(frame)
            except Exception as error:
                self._why = str(error)
            finally:
                self._gone = True
                take(GONE)

        threading.Thread(target=pump, daemon=True).start()

    def why_gone(self) -> str:
        """Return what Ray said."""
        return self._why

    def close(self) -> None:
        """End the actor, and its process."""
        with contextlib.suppress(Exception):
            self._ray.kill(self._actor)


class _Connection:
    """This process's connection to a cluster: Ray has one in a process, which all places share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._address = ""
        self._places = 0

    def join(self, ray: Any, address: str) -> bool:
        """Return whether one more place is counted there, which then has to leave; raises ConfigError, LoadError."""
        with self._lock:
            if ray.is_initialized():
                if self._places:
                    self._check(address, self._address)
                else:
                    # Joined by others, who will leave it: the address tells nothing where it is Ray's client's.
                    self._check(address, "auto", str(ray.get_runtime_context().gcs_address))
                    return False
            else:
                try:
                    ray.init(address, log_to_driver=False, logging_level="ERROR", namespace="agentperf")
                except Exception as error:
                    raise LoadError(
                        f"the Ray cluster cannot be joined: {error}",
                        where=address,
                        remedy="see `ray status` there; Ray and Python must be the same versions on both sides",
                    ) from None
                self._address = address
            self._places += 1
            return True

    def leave(self, ray: Any) -> None:
        """Count one place less, and leave the cluster with the last."""
        with self._lock:
            self._places -= 1
            if not self._places:
                ray.shutdown()

    def _check(self, address: str, *known: str) -> None:
        if address not in known:
            raise ConfigError(
                f"this process is in another Ray cluster already: {known[-1]}",
                where=address,
                remedy=f"place all workers of a session in one cluster, and write its address as {known[0]!r}",
            )


_CONNECTION = _Connection()


class RayPlace:
    """A cluster."""

    remote = True

    def __init__(self, spec: LoadSpec) -> None:
        """Join the cluster; raises ConfigError without Ray or for a second cluster, LoadError if it is out of reach."""
        try:
            import ray
        except ImportError:
            raise ConfigError("Ray is not installed", where=spec.text, remedy=_EXTRA) from None
        except Exception as error:
            # Ray asks `amdsmi`, if that is installed, which fails without AMD's library.
            raise ConfigError(
                f"Ray cannot be imported: {error!r}",
                where=spec.text,
                remedy="if amdsmi is to blame, uninstall it here",
            ) from None
        self._ray = ray
        self._spec = spec
        self.name = spec.target
        self._links: list[RayLink] = []
        self._joined = _CONNECTION.join(ray, spec.target)

    def open(self, numbers: Sequence[int], *, fewer: bool = False) -> list[RayLink]:
        """Start an actor for each number; raises LoadError if the cluster has no room for them.

        `fewer`: those that start in time will do, if there are any.
        """
        ray, spec = self._ray, self._spec
        options: dict[str, Any] = {
            "num_cpus": 1,
            "max_restarts": 0,
            "resources": spec.numbers("resources"),
            "scheduling_strategy": "SPREAD",
        }
        if labels := spec.names("labels"):
            options["label_selector"] = labels
        actor = _actor_class(ray).options(**options)
        actors = [actor.remote() for _ in numbers]
        links = [RayLink(ray, handle) for handle in actors]
        begun = [handle.__ray_ready__.remote() for handle in actors]
        _, waiting = ray.wait(begun, num_returns=len(begun), timeout=_ROOM_S)
        here: list[RayLink] = []
        lacking: list[RayLink] = []
        for link, ready in zip(links, begun, strict=True):
            late = ready in waiting
            # One that has failed tells why when it is listened to; where fewer will do it is done without.
            (lacking if late or (fewer and not self._began(ready)) else here).append(link)
        if lacking and not (fewer and here):
            for link in links:
                link.close()
            raise LoadError(
                f"the cluster found no room for {len(lacking)} of {len(numbers)} load workers in {_ROOM_S:g} s",
                where=self.name,
                remedy="each needs a free core, and what `resources` and `labels` ask for: see `ray status`",
            )
        for link in lacking:
            link.close()
        self._links += here
        return here

    def close(self) -> None:
        """End the actors, and leave the cluster if no other place is in it."""
        for link in self._links:
            link.close()
        if self._joined:
            self._joined = False
            _CONNECTION.leave(self._ray)

    def _began(self, ready: Any) -> bool:
        try:
            self._ray.get(ready)
        except Exception:
            return False
        return True
