"""Completion logs of OpenHands (`log_completions`): one JSON file per request, the most exact source there is.

The files of a folder that continue one another are one trajectory: a request belongs to the conversation whose latest
request's messages open its own, and of several such to the one whose answer comes next. What a condenser rewrote
starts a trajectory of its own, and requests without a log are no turns. Where a model without tool calls is served,
tools stand in the prompt (`raw_messages` is there), and the request has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.counting import message_text
from pytest_agentperf.dataset.digest import content_key
from pytest_agentperf.dataset.formats.base import Peek
from pytest_agentperf.dataset.formats.chat import chat_message, chat_tools, usage_counts
from pytest_agentperf.dataset.formats.times import duration_ns, elapsed_ns, moment_ns
from pytest_agentperf.dataset.formats.values import MALFORMED, inner, text
from pytest_agentperf.dataset.histories import RecordedRequest
from pytest_agentperf.dataset.reading import read_document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Message, Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext

_LOOKED_AT = 3
_NOT_A_LOG = "a file among completion logs that is none, or has no answer, left out"
_LOST_CALLS = "tool calls that the log lost"


class _Log(NamedTuple):
    """A logged request; where its calls were written as `{}`, only the next request has them."""

    path: Path
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    answer: dict[str, Any]
    lost_calls: bool
    usage: Any
    model: str | None
    ended_ns: int | None
    latency_ns: int | None


def recognises(peek: Peek) -> bool:
    """Say whether a file is a log, or a folder has only JSON files and the first ones are logs."""
    if not peek.is_dir:
        return _is_log(peek.document)
    names = sorted(name for name in peek.names if not name.startswith("."))
    return (
        bool(names)
        and all(name.endswith(".json") for name in names)
        and all(_is_log(Peek(peek.path / name).document) for name in names[:_LOOKED_AT])
    )


def _is_log(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and isinstance(document.get("messages"), list)
        and isinstance(inner(document, "response", "choices"), list)
    )


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield one trajectory per conversation; a folder is read twice, so that one request is held at a time."""
    conversations = _conversations(path, context) if path.is_dir() else [_Conversation(_read(path))]
    for conversation in conversations:
        files = conversation.files
        yield context.trajectory(files[0].stem, _requests(files, context), model=conversation.model)


class _Conversation:
    """The files of one conversation, and what its next request must open with."""

    def __init__(self, log: _Log) -> None:
        self.files: list[Path] = []
        self.model = log.model
        self._keys: list[bytes] = []
        self._answer = ""
        self.add(log)

    def add(self, log: _Log) -> None:
        self.files.append(log.path)
        self._keys = [content_key(message) for message in log.messages]
        self._answer = _said(log.answer)

    def fit(self, keys: list[bytes], messages: Sequence[Message]) -> tuple[int, bool] | None:
        """Return how well a request continues this conversation, None if it does not."""
        length = len(self._keys)
        if length >= len(keys) or keys[:length] != self._keys:
            return None
        return length, _said(messages[length]) == self._answer


def _said(message: Message) -> str:
    return message_text({"content": message.get("content")})


def _conversations(folder: Path, context: ImportContext) -> list[_Conversation]:
    entries = []
    for path in sorted(folder.iterdir()):
        try:
            log = _read(path)
        except DatasetError as error:
            context.notes.add(_NOT_A_LOG, error.where or str(path))
            continue
        entries.append((log.ended_ns or 0, path))
    if not entries:
        raise DatasetError("no completion log can be read", where=str(folder), remedy=MALFORMED)
    found: list[_Conversation] = []
    for _, path in sorted(entries):
        log = _read(path)
        keys = [content_key(message) for message in log.messages]
        # Later conversations win a draw: agents rarely go back to an earlier one.
        fits = [(fit, i) for i, one in enumerate(found) if (fit := one.fit(keys, log.messages)) is not None]
        if fits:
            found[max(fits)[1]].add(log)
        else:
            found.append(_Conversation(log))
    return found


def _requests(files: Sequence[Path], context: ImportContext) -> Iterator[RecordedRequest]:
    log = _read(files[0])
    for path in files[1:]:
        following = _read(path)
        yield _request(log, following, context)
        log = following
    yield _request(log, None, context)


def _request(log: _Log, following: _Log | None, context: ImportContext) -> RecordedRequest:
    after = following.messages[len(log.messages) :] if following is not None else []
    calls = log.answer.get("tool_calls") or []
    if log.lost_calls:
        calls = after[0].get("tool_calls") or [] if after else []
        if not calls:
            context.notes.add(_LOST_CALLS, str(log.path))
    took_ns = _between_ns(log, following) if _only_tools(after) else None
    alone = len(calls) == 1
    prompt_tokens, output_tokens = usage_counts(log.usage)
    return RecordedRequest(
        messages=log.messages,
        tools=log.tools,
        tool_delay_ns=None if alone else took_ns,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        tool_calls=tuple(
            ToolCall(call["id"], call["function"]["name"], took_ns if alone else None) for call in calls
        ),
        answer=log.answer,
    )


def _only_tools(after: Sequence[Message]) -> bool:
    """Tell whether nothing but tools ran between two requests: no human, and no request without a log."""
    return len(after) > 1 and after[0]["role"] == "assistant" and {m["role"] for m in after[1:]} == {"tool"}


def _between_ns(log: _Log, following: _Log | None) -> int | None:
    if following is None or following.ended_ns is None or following.latency_ns is None:
        return None
    return elapsed_ns(log.ended_ns, following.ended_ns - following.latency_ns)


def _read(path: Path) -> _Log:
    where = str(path)
    value = read_document(path)
    if not _is_log(value):
        raise DatasetError("no completion log", where=where, remedy=MALFORMED)
    messages = [
        chat_message(message, where=f"{where}: messages[{i}]") for i, message in enumerate(value["messages"])
    ]
    if not messages:
        raise DatasetError("a request without messages", where=where, remedy=MALFORMED)
    answer = _answer(value["response"]["choices"])
    if answer is None:
        raise DatasetError("a request without an answer", where=where, remedy=MALFORMED)
    calls = answer.get("tool_calls")
    kept = [call for call in calls if call] if isinstance(calls, list) else calls
    simulated = value.get("raw_messages") is not None
    tools = value.get("tools") or inner(value, "kwargs", "tools")
    return _Log(
        path=path,
        messages=messages,
        tools=None if simulated else chat_tools(tools, where=where),
        answer=chat_message({**answer, "role": "assistant", "tool_calls": kept}, where=where),
        lost_calls=kept != calls,
        usage=inner(value, "response", "usage"),
        model=text(inner(value, "response", "model")) or None,
        ended_ns=moment_ns(value.get("timestamp")),
        latency_ns=duration_ns(value.get("latency_sec")),
    )


def _answer(choices: list[Any]) -> dict[str, Any] | None:
    message = next((inner(choice, "message") for choice in choices), None)
    return message if isinstance(message, dict) else None
