"""SWE-agent trajectories (`.traj`), whose steps say in three ways what was sent.

Since 1.1 a step has `query`, the exact request. In 1.0 it has `messages`, the history after the step, which is the
next step's request. Before, requests are rebuilt from `history`, which does not show what a history processor left
out. History processors shorten old observations, so that histories are not append-only. Tokens are not counted per
step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.formats.chat import NO_ANSWER, NO_TOOLS, assistant, chat_message
from pytest_agentperf.dataset.formats.times import duration_ns
from pytest_agentperf.dataset.formats.values import MALFORMED, inner, parsed, required_object, text
from pytest_agentperf.dataset.histories import RecordedRequest
from pytest_agentperf.dataset.reading import read_document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek

NAME = "swe-agent"
TITLE = "SWE-agent trajectory (.traj)"

_NO_MODELS = ("human", "human_thought", "replay", "instant_empty_submit")
_REBUILT = "requests rebuilt from the whole history; a history processor may have sent less"
_UNRECORDED = "a step without a request, left out"
_RETRY = "a retry's request, rebuilt without the complaint that it answered"
_OTHER_AGENT = "messages of another agent, left out"


def recognises(peek: Peek) -> bool:
    """Say whether a document has SWE-agent's steps, or is a .traj with a history."""
    document = peek.document
    if not isinstance(document, dict):
        return False
    steps = document.get("trajectory")
    if isinstance(steps, list) and steps and isinstance(steps[0], dict):
        return {"action", "observation", "thought"} <= steps[0].keys()
    return peek.path.suffix == ".traj" and isinstance(document.get("history"), list)


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the run, unless the model never answered."""
    where = str(path)
    document = required_object(read_document(path), where, what="SWE-agent trajectory")
    steps = _objects(document, "trajectory", where)
    history = _objects(document, "history", where)
    if any(_sent(step, "query") for step in steps):
        requests = _from_queries(steps, history, context, where)
    elif any(_sent(step, "messages") for step in steps):
        requests = _from_messages(steps, history, context, where)
    else:
        requests = _from_history(steps, history, context, where)
    if not requests:
        context.notes.add(NO_ANSWER, where)
        return
    if any(call.id is not None for request in requests for call in request.tool_calls):
        context.notes.add(NO_TOOLS, where)
    name = path.name.removesuffix(".traj")
    yield context.trajectory(name, requests, model=_model(document.get("replay_config")))


def _objects(document: dict[str, Any], field: str, where: str) -> list[dict[str, Any]]:
    value = document.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DatasetError(f"{field} is no list of objects", where=where, remedy=MALFORMED)
    return value


def _model(config: Any) -> str | None:
    name = text(inner(parsed(config), "agent", "model", "name"))
    return None if name in _NO_MODELS else name or None


def _sent(step: dict[str, Any], field: str) -> list[Any]:
    """Return the messages that a step recorded; `[{}]` stands for none."""
    value = step.get(field)
    return value if isinstance(value, list) and value and value[0] else []


def _is_answer(item: Any) -> bool:
    return isinstance(item, dict) and item.get("role") == "assistant" and not item.get("is_demo")


def _message(item: Any, where: str) -> dict[str, Any]:
    ids = item.get("tool_call_ids") if isinstance(item, dict) else None
    # SWE-agent itself sends the first of them.
    if isinstance(ids, list) and ids and item.get("role") == "tool":
        item = {**item, "tool_call_id": ids[0]}
    return chat_message(item, where=where)


def _messages(items: Sequence[Any], where: str) -> tuple[dict[str, Any], ...]:
    return tuple(_message(item, f"{where}[{i}]") for i, item in enumerate(items))


def _from_queries(
    steps: list[dict[str, Any]], history: list[dict[str, Any]], context: ImportContext, where: str
) -> list[RecordedRequest]:
    answers = _Answers(history, where)
    requests = []
    for k, step in enumerate(steps):
        here = f"{where}: trajectory[{k}]"
        if query := _sent(step, "query"):
            requests.append(_request(_messages(query, f"{here}.query"), answers.of(step), step))
        else:
            context.notes.add(_UNRECORDED, here)
    return requests


def _from_messages(
    steps: list[dict[str, Any]], history: list[dict[str, Any]], context: ImportContext, where: str
) -> list[RecordedRequest]:
    answers = _Answers(history, where)
    requests = []
    before: list[Any] = []
    retried = False
    for k, step in enumerate(steps):
        here = f"{where}: trajectory[{k}]"
        after = _sent(step, "messages")
        query = before or after[: next((i for i, item in enumerate(after) if _is_answer(item)), 0)]
        answer = answers.of(step)
        if query and (answers.found or text(step.get("response"))):
            if retried:
                context.notes.add(_RETRY, here)
            requests.append(_request(_messages(query, f"{here}.messages"), answer, step))
        else:
            context.notes.add(_UNRECORDED, here)
        # A refused answer stays out of the history; its retry is told so, in words that are not recorded.
        retried = not answers.found
        before = after
    return requests


def _from_history(
    steps: list[dict[str, Any]], history: list[dict[str, Any]], context: ImportContext, where: str
) -> list[RecordedRequest]:
    speakers = [item.get("agent") for item in history if _is_answer(item)]
    unused = list(reversed(steps))
    sent: list[dict[str, Any]] = []
    requests = []
    for i, item in enumerate(history):
        here = f"{where}: history[{i}]"
        if speakers and item.get("agent") != speakers[0]:
            context.notes.add(_OTHER_AGENT, here)
            continue
        message = _message(item, here)
        if _is_answer(item) and sent:
            # Without a step of its own, an answer still names its action.
            while unused and unused[-1].get("action") != item.get("action"):
                unused.pop()
            requests.append(_request(tuple(sent), message, unused.pop() if unused else item))
        sent.append(message)
    if requests:
        context.notes.add(_REBUILT, where)
    return requests


class _Answers:
    """The history's answers, in order: a step itself does not record its tool calls."""

    def __init__(self, history: list[dict[str, Any]], where: str) -> None:
        self._left = [(item, f"{where}: history[{i}]") for i, item in enumerate(history) if _is_answer(item)][
            ::-1
        ]
        self.found = False
        """Whether the latest step's answer stayed in the history."""

    def of(self, step: dict[str, Any]) -> dict[str, Any]:
        if self._left:
            item, where = self._left[-1]
            self.found = all(item.get(field) == step.get(field) for field in ("action", "thought"))
            if self.found:
                self._left.pop()
                return _message(item, where)
        self.found = False
        return assistant(text(step.get("response")) or None)


def _request(
    messages: tuple[dict[str, Any], ...], answer: dict[str, Any], step: dict[str, Any]
) -> RecordedRequest:
    took_ns = duration_ns(step.get("execution_time"))
    action = step.get("action")
    words = action.split(maxsplit=1) if isinstance(action, str) else []
    called = [(call["id"], call["function"]["name"]) for call in answer.get("tool_calls", ())]
    if not called and words:
        called = [(None, words[0][:100])]
    alone = len(called) == 1
    return RecordedRequest(
        messages=messages,
        tools=None,
        # The time is the step's, however many calls it ran.
        tool_delay_ns=took_ns if len(called) > 1 else None,
        tool_calls=tuple(ToolCall(id_, name, took_ns if alone else None) for id_, name in called),
        answer=answer,
    )
