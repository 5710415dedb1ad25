"""A history that grows, as recordings tell it that log only what is new."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.histories import RecordedRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.trajectory import Message


class Conversation:
    """A history that grows: for recordings that log only what is new. Its turns are the answers it was told.

    `say` what goes into the history, `answer` when the model answered all of it, `tool_result` what its calls gave.
    """

    def __init__(self, *, tools: Sequence[dict[str, Any]] | None = None) -> None:
        self.history: list[Message] = []
        """What the next request sends; may be replaced, where the agent did so."""
        self.tools = tools
        self._requests: list[RecordedRequest] = []
        self._durations_ns: list[dict[str, int]] = []

    def say(self, message: Message) -> None:
        """Append a message that is no answer of the model."""
        self.history.append(message)

    def answer(
        self,
        message: Message,
        *,
        prompt_tokens: int | None = None,
        output_tokens: int | None = None,
        tool_delay_ns: int | None = None,
    ) -> None:
        """Take the model's answer to the history so far, and append it.

        `tool_delay_ns` only where the time between this answer's end and the next request was tools at work, measured.
        """
        calls = tuple(
            ToolCall(call.get("id"), call["function"]["name"], None)
            for call in message.get("tool_calls") or ()
        )
        self._requests.append(
            RecordedRequest(
                messages=tuple(self.history),
                tools=self.tools,
                tool_delay_ns=tool_delay_ns,
                prompt_tokens=prompt_tokens,
                output_tokens=output_tokens,
                tool_calls=calls,
                answer=message,
            )
        )
        self._durations_ns.append({})
        self.history.append(message)

    def tool_result(self, call_id: str, content: Any, *, duration_ns: int | None = None) -> None:
        """Append a tool's result and note how long it took."""
        self.history.append({"role": "tool", "tool_call_id": call_id, "content": content})
        self.took(call_id, duration_ns)

    def took(self, call_id: str, duration_ns: int | None) -> None:
        """Note how long the latest call of that id took."""
        if duration_ns is None or duration_ns < 0:
            return
        for request, durations_ns in zip(reversed(self._requests), reversed(self._durations_ns), strict=True):
            if any(call.id == call_id for call in request.tool_calls):
                durations_ns[call_id] = duration_ns
                return

    @property
    def turns(self) -> int:
        """Return how many answers there were."""
        return len(self._requests)

    def requests(self) -> list[RecordedRequest]:
        """Return the requests, each with its calls' durations."""
        return [
            request._replace(
                tool_calls=tuple(
                    replace(call, duration_ns=durations_ns[call.id]) if call.id in durations_ns else call
                    for call in request.tool_calls
                )
            )
            for request, durations_ns in zip(self._requests, self._durations_ns, strict=True)
        ]
