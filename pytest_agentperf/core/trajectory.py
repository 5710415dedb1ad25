"""One recorded coding-agent run: messages stored once, turns that refer to sequences of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Message = Mapping[str, Any]
"""A chat message in OpenAI form, exactly as recorded (`reasoning_content` where the recording has it)."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call that followed a turn: its name and its measured duration, None where unknown."""

    id: str | None
    name: str
    duration_ns: int | None


@dataclass(frozen=True, slots=True)
class Turn:
    """One model request of the recording.

    `message_runs` are half-open ranges into the trajectory's messages; their concatenation is the request's
    history. Histories are not always append-only, so a turn may skip messages that an earlier one sent.
    """

    message_runs: tuple[tuple[int, int], ...]
    tool_delay_ns: int
    tools_index: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    def message_indices(self) -> Iterator[int]:
        """Yield the indices of the request's messages, in order."""
        for start, stop in self.message_runs:
            yield from range(start, stop)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a recording said besides what is replayed, in its own format's words: only an export to it reads this.

    `turns` belong to the trajectory's turns by position; it may go on where those were cut.
    """

    format: str
    head: Mapping[str, Any]
    turns: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A recorded run: its messages, its distinct tool lists, and its turns in order.

    `recorded` is no part of what a trajectory is: digests and comparisons leave it out.
    """

    id: str
    messages: tuple[Message, ...]
    turns: tuple[Turn, ...]
    tool_sets: tuple[tuple[Mapping[str, Any], ...], ...] = ()
    language: str | None = None
    model: str | None = None
    recorded: Recorded | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Refuse a trajectory whose turns do not fit its messages: such a replay would lie."""
        if not self.id:
            raise ValueError("a trajectory needs an id")
        for k, turn in enumerate(self.turns):
            where = f"trajectory {self.id!r}, turn {k}"
            if not turn.message_runs:
                raise ValueError(f"{where}: no messages")
            for start, stop in turn.message_runs:
                if not 0 <= start < stop <= len(self.messages):
                    raise ValueError(f"{where}: message run {start}..{stop} outside 0..{len(self.messages)}")
            if turn.tools_index is not None and not 0 <= turn.tools_index < len(self.tool_sets):
                raise ValueError(f"{where}: tools_index {turn.tools_index} outside 0..{len(self.tool_sets)}")
            if turn.tool_delay_ns < 0:
                raise ValueError(f"{where}: negative tool delay")

    def request_messages(self, turn: Turn) -> list[Message]:
        """Return the messages of one request, as the server must see them."""
        return [self.messages[i] for i in turn.message_indices()]
