"""A place whose workers answer what a test says: no processes, no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.load.host_facts import HostFacts
from pytest_agentperf.load.place import GONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Answer = Callable[[Any], Iterable[tuple[Any, ...]]]


class ScriptedLink:
    """One worker; joins by itself, and answers other frames as `answer` says."""

    def __init__(self, facts: HostFacts, answer: Answer, clock_ahead_ns: int) -> None:
        self.facts, self.answer = facts, answer
        self.sent: list[tuple[Any, ...]] = []
        self.clock_ahead_ns = clock_ahead_ns
        self.why = ""
        self.counts_with: str | None = None
        self.keeps_nothing = False
        self._take: Callable[[Sequence[Any]], None] = lambda frame: None

    def send(self, frame: tuple[Any, ...]) -> None:
        self.sent.append(frame)
        kind = frame[0]
        if kind == "hello":
            self.say("host", self.facts._asdict())
        elif kind == "wanted":
            self.say("kept", None if self.keeps_nothing else "/kept/there")
        elif kind == "file":
            self.say("got")
        elif kind == "whole":
            self.say("kept", "/kept/there")
        elif kind == "config":
            self.say("ready", self.counts_with)
        elif kind == "clock":
            self.say("clock", frame[1], monotonic_ns() + self.clock_ahead_ns)
        else:
            for answer in self.answer(frame):
                self.say(*answer)

    def say(self, *frame: Any) -> None:
        """Let the worker say something of its own accord."""
        self._take(frame)

    def die(self, why: str = "") -> None:
        self.why = why
        self._take(GONE)

    def listen(self, take: Callable[[Sequence[Any]], None]) -> None:
        self._take = take

    def why_gone(self) -> str:
        return self.why

    def close(self) -> None:
        self.sent.append(("closed",))


class ScriptedPlace:
    """Workers of one host; `answers` is what each of them says to a frame, in the order of their numbers."""

    def __init__(
        self,
        *answers: Answer,
        remote: bool = False,
        facts: HostFacts | None = None,
        clock_ahead_ns: int = 0,
    ) -> None:
        self.remote, self.name = remote, "scripted"
        self._facts = facts or HostFacts.here()
        self._answers = list(answers)
        self._clock_ahead_ns = clock_ahead_ns
        self.counts_with: str | None = None
        self.keeps_nothing = False
        self.room: int | None = None
        """How many start where fewer will do."""
        self.links: list[ScriptedLink] = []

    def open(self, numbers: Sequence[int], *, fewer: bool = False) -> list[ScriptedLink]:
        starting = numbers[: self.room] if fewer else numbers
        made = [ScriptedLink(self._facts, self._answers.pop(0), self._clock_ahead_ns) for _ in starting]
        for link in made:
            link.counts_with, link.keeps_nothing = self.counts_with, self.keeps_nothing
        self.links += made
        return made

    def close(self) -> None:
        """Nothing runs."""
