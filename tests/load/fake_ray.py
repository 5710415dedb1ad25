"""What of Ray is used, in this process: an actor has a thread for each of its concurrency groups."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class ActorDiedError(Exception):
    """The actor is dead."""


class FakeRay:
    """The module `ray`, of a cluster with so many free cores."""

    def __init__(self, cores: int = 100) -> None:
        self.cores = cores
        self.joined: list[str] = []
        self.left = 0
        self.actors: list[Actor] = []
        self.gcs_address = "10.0.0.1:6379"

    def init(self, address: str, **how: Any) -> None:
        assert not self.is_initialized()
        if "nowhere" in address:
            raise ConnectionError("no head there")
        self.joined.append(address)

    def shutdown(self) -> None:
        assert self.is_initialized()
        self.left += 1

    def is_initialized(self) -> bool:
        return len(self.joined) > self.left

    def get_runtime_context(self) -> FakeRay:
        return self

    def remote(self, *, concurrency_groups: Mapping[str, int]) -> Callable[[type], ActorClass]:
        return lambda cls: ActorClass(self, cls, concurrency_groups, {})

    def method(self, *, concurrency_group: str) -> Callable[[Any], Any]:
        def mark(function: Any) -> Any:
            function.group = concurrency_group
            return function

        return mark

    def wait(
        self, refs: Sequence[Future[Any]], *, num_returns: int, timeout: float
    ) -> tuple[list[Any], list[Any]]:
        done = [ref for ref in refs if ref.done()]
        return done, [ref for ref in refs if ref not in done]

    def get(self, ref: Future[Any]) -> Any:
        return ref.result()

    def kill(self, actor: Actor) -> None:
        actor.die("killed")


class ActorClass:
    def __init__(self, ray: FakeRay, cls: type, groups: Mapping[str, int], options: dict[str, Any]) -> None:
        self._ray, self._cls, self._groups, self._options = ray, cls, groups, options

    def options(self, **options: Any) -> ActorClass:
        return ActorClass(self._ray, self._cls, self._groups, options)

    def remote(self) -> Actor:
        actor = Actor(self._cls(), self._groups, self._options)
        self._ray.actors.append(actor)
        if self._ray.cores:
            self._ray.cores -= 1
            actor.start()
        return actor


class Actor:
    """One that waits for its core until it is started."""

    def __init__(self, served: Any, groups: Mapping[str, int], options: dict[str, Any]) -> None:
        self.options, self.dead = options, ""
        self._served, self._calls = served, {}
        for name, threads in groups.items():
            assert threads == 1
            self._calls[name] = queue.SimpleQueue[Any]()
        self._ready: Future[None] = Future()
        self._open: list[Future[Any]] = [self._ready]

    def start(self) -> None:
        self._ready.set_result(None)
        for calls in self._calls.values():
            threading.Thread(target=self._work, args=(calls,), daemon=True).start()

    def die(self, why: str) -> None:
        self.dead = self.dead or why
        for ref in self._open:
            if not ref.done():
                ref.set_exception(ActorDiedError(why))

    def call(self, group: str, method: str, *values: Any) -> Future[Any]:
        ref: Future[Any] = Future()
        if self.dead:
            ref.set_exception(ActorDiedError(self.dead))
        else:
            self._open.append(ref)
            self._calls[group].put((ref, method, values))
        return ref

    def __getattr__(self, name: str) -> Any:
        return Method(self, name, getattr(self._served, name).group)

    @property
    def __ray_ready__(self) -> Any:
        ready = self._ready

        class Ready:
            def remote(self) -> Future[None]:
                return ready

        return Ready()

    def _work(self, calls: queue.SimpleQueue[Any]) -> None:
        while not self.dead:
            ref, method, values = calls.get()
            try:
                result, error = getattr(self._served, method)(*values), None
            except Exception as raised:
                result, error = None, raised
            if ref.done():
                return
            if error is None:
                ref.set_result(result)
            else:
                ref.set_exception(error)


class Method:
    def __init__(self, actor: Actor, name: str, group: str) -> None:
        self._actor, self._name, self._group = actor, name, group

    def remote(self, *values: Any) -> Future[Any]:
        return self._actor.call(self._group, self._name, *values)
