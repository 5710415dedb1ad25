"""Storing a run's overlapping histories once, exactly: full requests in, message pool and runs out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from pytest_agentperf.core.trajectory import Message, ToolCall, Trajectory, Turn
from pytest_agentperf.dataset.digest import content_key

Key = TypeVar("Key", bound=Hashable)
Runs = tuple[tuple[int, int], ...]


class RecordedRequest(NamedTuple):
    """One model request as recorded in full, and what followed it.

    `tool_delay_ns` None: its calls' durations decide. `answer` serves to count what the recording did not.
    """

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]] | None
    tool_delay_ns: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    answer: Message | None = None


class Pool(NamedTuple, Generic[Key]):
    """The order in which distinct messages are stored, and each history as runs of that order."""

    order: tuple[Key, ...]
    runs: tuple[Runs, ...]


def pool_histories(histories: Sequence[Sequence[Key]]) -> Pool[Key]:
    """Pool message keys so that each is stored once and every history is reproduced exactly.

    Keys that only one history uses go last. A status line which each request replaces would otherwise cut all
    later histories into one run per turn.
    """
    first: dict[Key, int] = {}
    last: dict[Key, int] = {}
    for turn, history in enumerate(histories):
        for key in history:
            first.setdefault(key, turn)
            last[key] = turn
    order = tuple(sorted(first, key=lambda key: first[key] == last[key]))
    index = {key: i for i, key in enumerate(order)}
    return Pool(order, tuple(_runs([index[key] for key in history]) for history in histories))


def _runs(indices: Sequence[int]) -> Runs:
    runs: list[tuple[int, int]] = []
    for i in indices:
        if runs and runs[-1][1] == i:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return tuple(runs)


class TrajectoryBuilder:
    """Collects the full requests of one run, keeping each distinct message and tool list once."""

    def __init__(self, trajectory_id: str, *, language: str | None = None, model: str | None = None) -> None:
        self._id = trajectory_id
        self._language = language
        self._model = model
        self._messages: dict[bytes, Message] = {}
        self._keys: dict[int, tuple[Message, bytes]] = {}
        """Of the last history, by identity: many readers hand over the same messages again and again."""
        self._tool_sets: dict[bytes, tuple[dict[str, Any], ...]] = {}
        self._tools_index: dict[bytes, int] = {}
        self._histories: list[list[bytes]] = []
        self._turns: list[tuple[int | None, RecordedRequest]] = []

    def add(self, request: RecordedRequest) -> None:
        """Append the next request, its delay known; raises DatasetError for messages that JSON cannot hold."""
        if request.tool_delay_ns is None:
            raise ValueError("a request without a delay: ImportContext.trajectory fills it in")
        keys = [(message, self._key(message)) for message in request.messages]
        self._keys = {id(message): (message, key) for message, key in keys}
        history = [key for _, key in keys]
        for key, message in zip(history, request.messages, strict=True):
            self._messages.setdefault(key, message)
        tools_index = None
        if request.tools is not None:
            key = content_key(request.tools)
            self._tool_sets.setdefault(key, tuple(request.tools))
            tools_index = self._tools_index.setdefault(key, len(self._tools_index))
        self._histories.append(history)
        self._turns.append((tools_index, request._replace(messages=(), tools=None)))

    def _key(self, message: Message) -> bytes:
        known = self._keys.get(id(message))
        # The identity of a message that is gone may be another's by now: `_keys` holds the messages, too.
        return content_key(message) if known is None else known[1]

    def build(self) -> Trajectory:
        """Return the trajectory of all requests added; raises ValueError where a request has no messages."""
        pool = pool_histories(self._histories)
        turns = tuple(
            Turn(
                message_runs=runs,
                tool_delay_ns=request.tool_delay_ns or 0,
                tools_index=tools_index,
                prompt_tokens=request.prompt_tokens,
                output_tokens=request.output_tokens,
                tool_calls=request.tool_calls,
            )
            for runs, (tools_index, request) in zip(pool.runs, self._turns, strict=True)
        )
        return Trajectory(
            id=self._id,
            messages=tuple(self._messages[key] for key in pool.order),
            turns=turns,
            tool_sets=tuple(self._tool_sets.values()),
            language=self._language,
            model=self._model,
        )
