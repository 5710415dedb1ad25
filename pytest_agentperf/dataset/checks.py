"""What would make a request of a dataset fail or mislead, found by reading it as an endpoint does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_agentperf.core.trajectory import Message, Trajectory, Turn

_ROLES = frozenset(("system", "developer", "user", "assistant", "tool"))


class Finding(NamedTuple):
    """Something wrong with one turn; what is no `error` can be measured on all the same."""

    trajectory: str
    turn: int | None
    what: str
    error: bool = True


def check_trajectory(trajectory: Trajectory) -> Iterator[Finding]:
    """Yield what is wrong with a trajectory; of each kind only the first turn that has it: later ones repeat it."""
    seen: set[str] = set()
    if not trajectory.turns:
        yield Finding(trajectory.id, None, "no turn")
    for number, turn in enumerate(trajectory.turns):
        for what, error in (*_of_messages(trajectory.request_messages(turn)), *_of_turn(turn)):
            if what not in seen:
                seen.add(what)
                yield Finding(trajectory.id, number, what, error)


def _of_turn(turn: Turn) -> Iterator[tuple[str, bool]]:
    if turn.prompt_tokens is None:
        yield "prompt tokens were not counted", False
    elif turn.prompt_tokens == 0:
        yield "prompt of 0 tokens", True
    if turn.output_tokens is None:
        yield "output tokens were not counted", False
    elif turn.output_tokens == 0:
        yield "answer of 0 tokens", True


def _of_messages(messages: Sequence[Message]) -> Iterator[tuple[str, bool]]:
    if not any(_has_content(message) for message in messages):
        yield "empty prompt", True
    if messages[-1].get("role") == "assistant":
        yield "the prompt ends with an answer", False
    # Calls of the latest answer that no result has answered yet.
    waiting: set[str] = set()
    for message in messages:
        role = message.get("role")
        if role not in _ROLES:
            yield f"role {str(role)[:40]!r}, which chat endpoints do not know", True
        if role == "tool":
            call_id = message.get("tool_call_id")
            if call_id not in waiting:
                yield f"tool result without its call: {str(call_id)[:80]!r}", True
            waiting.discard(str(call_id))
            continue
        yield from _unanswered(waiting)
        waiting = set()
        for call in _calls(message):
            yield from _of_call(call)
            waiting.add(str(call.get("id")))
    yield from _unanswered(waiting)


def _unanswered(waiting: set[str]) -> Iterator[tuple[str, bool]]:
    for call_id in sorted(waiting):
        yield f"tool call without a result: {call_id[:80]!r}", True


def _calls(message: Message) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _of_call(call: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        yield "tool call without a function's name", True
        return
    arguments = function.get("arguments")
    try:
        is_object = isinstance(json.loads(arguments), dict) if isinstance(arguments, str) else False
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        # Templates that print arguments as an object fail on them; models do write such.
        yield f"arguments of {function['name'][:40]!r} are no JSON object", False


def _has_content(message: Message) -> bool:
    return bool(message.get("content") or message.get("tool_calls") or message.get("reasoning_content"))
