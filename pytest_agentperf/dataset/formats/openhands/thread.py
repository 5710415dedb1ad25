"""A conversation told by events, which a condenser may forget and replace by a summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.formats.conversation import Conversation
from pytest_agentperf.dataset.formats.times import elapsed_ns
from pytest_agentperf.dataset.formats.values import text

if TYPE_CHECKING:
    from collections.abc import Collection

    from pytest_agentperf.core.trajectory import Message

_SUMMARY = "the latest summary"


class Thread(Conversation):
    """A Conversation that knows which events each message of its history came from, and when calls began."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[set[str]] = []
        self._called_ns: dict[str, int | None] = {}
        self._latest_result_ns: int | None = None

    def came_from(self, *event_ids: str) -> None:
        """Say which events the messages since the last call are made of."""
        self._events += [set(event_ids) for _ in range(len(self.history) - len(self._events))]

    def called(self, call_id: str, at_ns: int | None) -> None:
        """Note when a call was made."""
        self._called_ns[call_id] = at_ns

    def since_call_ns(self, call_id: str, at_ns: int | None) -> int | None:
        """Return how long a call took that ended now: calls of one answer run one after another."""
        start_ns = self._called_ns.pop(call_id, None)
        if start_ns is not None and self._latest_result_ns is not None:
            start_ns = max(start_ns, self._latest_result_ns)
        self._latest_result_ns = at_ns
        return elapsed_ns(start_ns, at_ns)

    def condense(self, forgotten: Collection[str], summary: str | None, offset: int | None) -> None:
        """Drop the messages of forgotten events; put a summary after `offset` of the events that stay."""
        # The newest summary replaces those before it.
        gone = {*forgotten, _SUMMARY} if summary is not None else set(forgotten)
        kept = [
            (message, events)
            for message, events in zip(self.history, self._events, strict=True)
            if not events <= gone
        ]
        if summary is not None:
            place = _place([len(events) for _, events in kept], offset or 0)
            message: Message = {"role": "user", "content": summary}
            kept.insert(place, (message, {_SUMMARY}))
        self.history = [message for message, _ in kept]
        self._events = [events for _, events in kept]


def _place(sizes: list[int], offset: int) -> int:
    place = seen = 0
    while place < len(sizes) and seen < offset:
        seen += sizes[place]
        place += 1
    return place


def command_output(output: str, metadata: Any) -> str:
    """Return a command's output as OpenHands shows it to the model, with what it knows of the shell."""
    if not isinstance(metadata, dict):
        return output
    lines = [f"{text(metadata.get('prefix')) or ''}{output}{text(metadata.get('suffix')) or ''}"]
    if directory := text(metadata.get("working_dir")):
        lines.append(f"[Current working directory: {directory}]")
    if interpreter := text(metadata.get("py_interpreter_path")):
        lines.append(f"[Python interpreter: {interpreter}]")
    exit_code = metadata.get("exit_code")
    if isinstance(exit_code, int) and exit_code != -1:
        lines.append(f"[Command finished with exit code {exit_code}]")
    return "\n".join(lines)
