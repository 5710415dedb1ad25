"""mini-swe-agent trajectories (`.traj.json`, format versions 1 and 1.1, or a bare list of messages).

An answer's `timestamp` is the end of its model call, so that a result's timestamp less the one before it is how long
the command ran. Since 1.1 commands are calls of one `bash` tool, whose definition is not in the file; before, they are
code blocks and their results user messages.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.formats.chat import NO_ANSWER, NO_TOOLS, assistant, chat_message, usage_counts
from pytest_agentperf.dataset.formats.times import elapsed_ns, moment_ns
from pytest_agentperf.dataset.formats.values import MALFORMED, inner, mapping, text
from pytest_agentperf.dataset.histories import RecordedRequest
from pytest_agentperf.dataset.reading import brief, read_document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek

NAME = "mini-swe-agent"
TITLE = "mini-swe-agent trajectory (.traj.json)"

_SUFFIX = ".traj.json"
_BLOCK = re.compile(r"```(?:bash|mswea_bash_command)[ \t]*\n")


def recognises(peek: Peek) -> bool:
    """Say whether a document declares the format, or is named for it and holds messages."""
    document = peek.document
    if isinstance(document, dict):
        return str(document.get("trajectory_format")).startswith("mini-swe-agent") or (
            peek.path.name.endswith(_SUFFIX) and isinstance(document.get("messages"), list)
        )
    return peek.path.name.endswith(_SUFFIX) and isinstance(document, list)


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the run, unless the model never answered."""
    document = read_document(path)
    header = mapping(document)
    messages = header.get("messages") if header else document
    if not isinstance(messages, list):
        raise DatasetError(f"no list of messages: {brief(messages)}", where=str(path), remedy=MALFORMED)
    run = _Run(context)
    for i, message in enumerate(messages):
        run.add(message, f"{path}: messages[{i}]")
    if not run.requests:
        context.notes.add(NO_ANSWER, str(path))
        return
    if any(call.id is not None for request in run.requests for call in request.tool_calls):
        context.notes.add(NO_TOOLS, str(path))
    name = text(header.get("instance_id")) or path.name.removesuffix(_SUFFIX)
    model = text(inner(header, "info", "config", "model", "model_name")) or None
    yield context.trajectory(name, run.requests, model=model)


def _moment_ns(message: dict[str, Any]) -> int | None:
    stamp = inner(message, "extra", "timestamp")
    return moment_ns(message.get("timestamp") if stamp is None else stamp)


class _Run:
    """The history as it grows, and the requests that were answered."""

    def __init__(self, context: ImportContext) -> None:
        self.requests: list[RecordedRequest] = []
        self._context = context
        self._history: list[dict[str, Any]] = []
        self._latest_ns: int | None = None

    def add(self, value: Any, where: str) -> None:
        # What stands in an exit message was never sent.
        if isinstance(value, dict) and value.get("role") == "exit":
            return
        message = chat_message(value, where=where)
        if message["role"] == "assistant":
            self._answer(message, value, where)
        elif message["role"] == "user" and self._is_rejection(value):
            self._rejected(value, where)
        else:
            self._result(message, _moment_ns(value))
        self._history.append(message)
        self._latest_ns = _moment_ns(value)

    def _answer(self, message: dict[str, Any], value: dict[str, Any], where: str) -> None:
        if not self._history:
            raise DatasetError("a history that opens with an answer", where=where, remedy=MALFORMED)
        calls = tuple(
            ToolCall(call["id"], call["function"]["name"], None) for call in message.get("tool_calls", ())
        )
        if not calls and isinstance(content := message["content"], str) and len(_BLOCK.findall(content)) == 1:
            # Anything but one block is a format error, and nothing ran.
            calls = (ToolCall(None, "bash", None),)
        self._request(message, *usage_counts(inner(value, "extra", "response", "usage")), calls)

    def _is_rejection(self, value: dict[str, Any]) -> bool:
        interrupted = inner(value, "extra", "interrupt_type") == "FormatError"
        return interrupted and bool(self._history) and self._history[-1]["role"] != "assistant"

    def _rejected(self, value: dict[str, Any], where: str) -> None:
        """Take a format error whose answer is not in the history: the agent does not send it back."""
        refused = text(inner(value, "extra", "model_response"))
        if refused is not None:
            self._request(assistant(refused), None, None, ())
        else:
            self._context.notes.add("an answer refused for its format and not recorded, left out", where)

    def _request(
        self,
        answer: dict[str, Any],
        prompt_tokens: int | None,
        output_tokens: int | None,
        calls: tuple[ToolCall, ...],
    ) -> None:
        self.requests.append(
            RecordedRequest(
                messages=tuple(self._history),
                tools=None,
                prompt_tokens=prompt_tokens,
                output_tokens=output_tokens,
                tool_calls=calls,
                answer=answer,
            )
        )

    def _result(self, message: dict[str, Any], moment: int | None) -> None:
        duration = elapsed_ns(self._latest_ns, moment)
        if duration is None or not self.requests:
            return
        calls = list(self.requests[-1].tool_calls)
        for i, call in enumerate(calls):
            if call.duration_ns is None and call.id == message.get("tool_call_id"):
                calls[i] = replace(call, duration_ns=duration)
                self.requests[-1] = self.requests[-1]._replace(tool_calls=tuple(calls))
                return
