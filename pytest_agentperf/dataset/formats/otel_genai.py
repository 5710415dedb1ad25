"""OpenTelemetry traces with the `gen_ai` attributes: chat spans are requests, execute_tool spans time their calls.

One trajectory per conversation (or trace) and agent. Requests that overlap in time cannot follow one another, so
each further one begins or continues a trajectory beside.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.digest import content_key
from pytest_agentperf.dataset.formats.chat import assistant
from pytest_agentperf.dataset.formats.otel_messages import chat_messages, chat_tools, system_text
from pytest_agentperf.dataset.formats.otel_spans import GenAiSpan, read_spans
from pytest_agentperf.dataset.formats.times import Interval, interval, tools_delay_ns
from pytest_agentperf.dataset.formats.values import mapping, objects, text, token_count
from pytest_agentperf.dataset.histories import RecordedRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Message, Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Notes, Peek

NAME = "otel-genai"
TITLE = "OpenTelemetry trace with gen_ai attributes (JSON, JSONL, OTLP-JSON)"

_CHATS = frozenset(("chat", "generate_content"))
_INPUT = "gen_ai.input.messages"
_CONVERSATIONS = ("gen_ai.conversation.id", "session.id")


def recognises(peek: Peek) -> bool:
    """Say whether a file holds spans with `gen_ai` attributes."""
    document = peek.document
    values = document if isinstance(document, list) else [document, *peek.rows[:5]]
    return any(_looks_like(mapping(value)) for value in values[:20])


def _looks_like(value: dict[str, object]) -> bool:
    if isinstance(value.get("resourceSpans"), list):
        return True
    spans = objects(value.get("spans"))[:200] if isinstance(value.get("spans"), list) else [value]
    return any(
        name.startswith("gen_ai.") for span in spans for name in mapping(span.get("attributes")) if text(name)
    )


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the trajectories of the file's conversations."""
    spans = list(read_spans(path))
    chats = _chats(spans, context.notes, str(path))
    tools = [span for span in spans if span.operation == "execute_tool"]
    groups: dict[tuple[str, str], list[_Chat]] = {}
    for chat in chats:
        groups.setdefault((chat.conversation, chat.agent), []).append(chat)
    agents = Counter(conversation for conversation, _ in groups)
    for (conversation, agent), found in groups.items():
        timed = _Tools(tools, conversation)
        for lane in _lanes(found):
            requests = [
                chat.request(timed, after) for chat, after in zip(lane, [*lane[1:], None], strict=True)
            ]
            name = f"{conversation}-{agent}" if agent and agents[conversation] > 1 else conversation
            yield context.trajectory(name, requests, model=lane[0].model)


def _conversation(span: GenAiSpan) -> str:
    return span.text(*_CONVERSATIONS) or span.trace_id


class _Chat(NamedTuple):
    span: GenAiSpan
    messages: list[Message]
    answer: Message

    @property
    def conversation(self) -> str:
        return _conversation(self.span)

    @property
    def agent(self) -> str:
        return self.span.text("gen_ai.agent.id", "gen_ai.agent.name") or self.span.service

    @property
    def model(self) -> str | None:
        return self.span.text("gen_ai.response.model", "gen_ai.request.model")

    def request(self, tools: _Tools, after: _Chat | None) -> RecordedRequest:
        """Return the request; its calls ran before the request `after` it."""
        calls: list[ToolCall] = []
        times: list[tuple[str, Interval | None]] = []
        for call in self.answer.get("tool_calls") or ():
            name = call["function"]["name"]
            span = tools.take(call["id"], name, self.span.end_ns, after.span.start_ns if after else None)
            when = None if span is None else interval(span.start_ns, span.end_ns)
            calls.append(ToolCall(call["id"], name, None if when is None else when.duration_ns))
            times.append((name, when))
        prompt_tokens, output_tokens = _usage(self.span)
        return RecordedRequest(
            messages=self.messages,
            tools=chat_tools(self.span.attributes.get("gen_ai.tool.definitions")),
            tool_delay_ns=tools_delay_ns(times),
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            tool_calls=tuple(calls),
            answer=self.answer,
        )


def _usage(span: GenAiSpan) -> tuple[int | None, int | None]:
    def first(*names: str) -> int | None:
        found = (token_count(span.attributes.get(f"gen_ai.usage.{name}")) for name in names)
        return next((value for value in found if value is not None), None)

    prompt_tokens = first("input_tokens", "prompt_tokens")
    cached = (first("cache_read.input_tokens") or 0) + (first("cache_creation.input_tokens") or 0)
    if prompt_tokens is not None and cached > prompt_tokens:
        # The conventions count cached tokens in; who reports more of them than of all did not.
        prompt_tokens += cached
    return prompt_tokens, first("output_tokens", "completion_tokens")


def _chats(spans: Sequence[GenAiSpan], notes: Notes, where: str) -> list[_Chat]:
    """Return the answered requests in order of time, each once."""
    asked = [span for span in spans if span.operation in _CHATS]
    if not asked:
        raise DatasetError(
            "no span is a model request",
            where=where,
            remedy='export spans whose gen_ai.operation.name is "chat"',
        )
    if not any(_INPUT in span.attributes for span in asked):
        raise DatasetError(
            f"no message text: none of its {len(asked)} chat spans has {_INPUT}",
            where=where,
            remedy="record again with OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY "
            "(or true), in the gen_ai_latest_experimental conventions",
        )
    ids = {span.span_id for span in asked if span.span_id is not None and _INPUT in span.attributes}
    seen: set[str] = set()
    chats: list[_Chat] = []
    for span in sorted(asked, key=lambda span: span.start_ns or 0):
        key = span.text("gen_ai.response.id") or span.span_id
        if span.parent_id in ids:
            notes.add("requests recorded again by a span inside", span.where)
        elif key is not None and key in seen:
            notes.add("requests recorded twice", span.where)
        elif (chat := _chat(span, notes)) is not None:
            chats.append(chat)
            seen.update(() if key is None else (key,))
    return chats


def _chat(span: GenAiSpan, notes: Notes) -> _Chat | None:
    def note(what: str) -> None:
        notes.add(what, span.where)

    messages = chat_messages(span.attributes.get(_INPUT), note)
    if not messages:
        note("requests without message text, or with a text that is cut")
        return None
    if system := system_text(span.attributes.get("gen_ai.system_instructions"), note):
        messages.insert(0, {"role": "system", "content": system})
    answers = chat_messages(span.attributes.get("gen_ai.output.messages"), note)
    if not answers and (said := span.text("gen_ai.output.text")):
        answers = [assistant(said)]
    answer = next((m for m in answers if m.get("content") or m.get("tool_calls")), None)
    if answer is None:
        note("requests without an answer")
        return None
    return _Chat(span, messages, answer)


def _lanes(chats: Sequence[_Chat]) -> list[list[_Chat]]:
    """Return the requests as runs in which each begins after the one before ended."""
    lanes: list[list[_Chat]] = []
    for chat in chats:
        free = [lane for lane in lanes if _ended(lane[-1].span) <= (chat.span.start_ns or 0)]
        first = content_key(chat.messages[0])
        same = (lane for lane in free if content_key(lane[-1].messages[0]) == first)
        lane = next(same, free[0] if free else None)
        if lane is None:
            lanes.append([chat])
        else:
            lane.append(chat)
    return lanes


def _ended(span: GenAiSpan) -> int:
    return span.end_ns if span.end_ns is not None else span.start_ns or 0


class _Tools:
    """The tool spans of one conversation, each for one call."""

    def __init__(self, spans: Sequence[GenAiSpan], conversation: str) -> None:
        self._spans = [span for span in spans if _conversation(span) == conversation]

    def take(
        self, call_id: str | None, name: str, from_ns: int | None, until_ns: int | None
    ) -> GenAiSpan | None:
        """Return the span of a call: by its id, or else the first of that name in the time between two requests."""
        for i, span in enumerate(self._spans):
            its_id = span.text("gen_ai.tool.call.id")
            if its_id is not None:
                found = its_id == call_id
            else:
                found = span.text("gen_ai.tool.name") == name and _between(from_ns, span, until_ns)
            if found:
                return self._spans.pop(i)
        return None


def _between(from_ns: int | None, span: GenAiSpan, until_ns: int | None) -> bool:
    if from_ns is None or span.start_ns is None or span.end_ns is None:
        return False
    return from_ns <= span.start_ns and (until_ns is None or span.end_ns <= until_ns)
