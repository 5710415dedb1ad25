"""The rows of a replay: the trajectory decides every value it has, the recording adds what it does not have."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.formats.agentperf_rows import ELSEWHERE, VERSION
from pytest_agentperf.dataset.reading import MAX_DURATION_MS, to_ms, to_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_agentperf.core.trajectory import Message, ToolCall, Trajectory, Turn

_COUNTS = ("recorded_prompt_tokens", "recorded_completion_tokens", "target_output_tokens")
_TOTAL = "recorded_total_tokens"


def replay_rows(trajectory: Trajectory, besides: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield one row per turn, in the recorded order of fields; plain rows where `besides` is empty."""
    for k, turn in enumerate(trajectory.turns):
        row = dict(besides[k]) if besides else _plain_row(trajectory, k)
        _identify(row, trajectory.id, k)
        tools = None if turn.tools_index is None else list(trajectory.tool_sets[turn.tools_index])
        if tools is not None:
            row["tools"] = tools
        elif row.get("tools") == ELSEWHERE:
            row["tools"] = []
        row["messages"] = trajectory.request_messages(turn)
        _set_delay(row, turn)
        _set_counts(row, turn)
        if turn.tool_calls or "recorded_tool_calls_after" in row:
            row["recorded_tool_calls_after"] = _calls(row.get("recorded_tool_calls_after"), trajectory, k)
        yield row


def _plain_row(trajectory: Trajectory, k: int) -> dict[str, Any]:
    return {
        "version": VERSION,
        "turn_id": f"{trajectory.id}:{k:04}",
        "task_id": trajectory.id,
        "conversation_id": trajectory.id,
        "conversation_idx": k,
        "messages": ELSEWHERE,
        "tools": ELSEWHERE,
        "simulated_tool_delay_ms_after": None,
        "recorded_tool_calls_after": None,
    }


def _identify(row: dict[str, Any], trajectory_id: str, k: int) -> None:
    # A trajectory that was renamed on import would else share its turn ids with the one whose name it had.
    if row.get("task_id") != trajectory_id:
        row.update(
            task_id=trajectory_id,
            turn_id=f"{trajectory_id}:{k:04}",
            conversation_id=trajectory_id,
            conversation_idx=k,
        )


def _same_ms(value: Any, duration_ns: int | None) -> bool:
    if duration_ns is None or isinstance(value, bool) or not isinstance(value, int | float):
        return value is duration_ns
    return 0 <= value <= MAX_DURATION_MS and to_ns(value) == duration_ns


def _set_delay(row: dict[str, Any], turn: Turn) -> None:
    if not _same_ms(row.get("simulated_tool_delay_ms_after"), turn.tool_delay_ns):
        row["simulated_tool_delay_ms_after"] = to_ms(turn.tool_delay_ns)


def _set_counts(row: dict[str, Any], turn: Turn) -> None:
    before = [row.get(name) for name in _COUNTS]
    _set_count(row, "recorded_prompt_tokens", turn.prompt_tokens)
    output = row.get("recorded_completion_tokens")
    if (row.get("target_output_tokens") if output is None else output) != turn.output_tokens:
        _set_count(row, "recorded_completion_tokens", turn.output_tokens)
        _set_count(row, "target_output_tokens", turn.output_tokens)
    if before != [row.get(name) for name in _COUNTS]:
        # The sum of counts that are no longer these.
        row.pop(_TOTAL, None)


def _set_count(row: dict[str, Any], name: str, value: int | None) -> None:
    if row.get(name) == value:
        return
    if value is None:
        row.pop(name, None)
    else:
        row[name] = value


def _calls(recorded: Any, trajectory: Trajectory, k: int) -> list[dict[str, Any]]:
    turn = trajectory.turns[k]
    if isinstance(recorded, list) and len(recorded) == len(turn.tool_calls):
        pairs = zip(recorded, turn.tool_calls, strict=True)
        if all(isinstance(one, dict) and _same_call(one, call) for one, call in pairs):
            return recorded
    actions = _actions(trajectory, k) if turn.tool_calls else {}
    return [
        {
            "duration_ms": None if call.duration_ns is None else to_ms(call.duration_ns),
            "action_index": i,
            "step": k + 1,
            "tool_call_id": call.id,
            "tool_name": call.name,
            "action": actions.get(call.id, {}),
        }
        for i, call in enumerate(turn.tool_calls)
    ]


def _same_call(recorded: dict[str, Any], call: ToolCall) -> bool:
    return (
        recorded.get("tool_call_id") == call.id
        and (recorded.get("tool_name") or "unknown") == call.name
        and _same_ms(recorded.get("duration_ms"), call.duration_ns)
    )


def _actions(trajectory: Trajectory, k: int) -> dict[str | None, dict[str, Any]]:
    """Return the arguments of the calls that turn k's answer made, as the next request repeats them."""
    if k + 1 == len(trajectory.turns):
        return {}
    actions: dict[str | None, dict[str, Any]] = {}
    for i in trajectory.turns[k + 1].message_indices():
        actions.update(_arguments(trajectory.messages[i]))
    return actions


def _arguments(message: Message) -> Iterator[tuple[str | None, dict[str, Any]]]:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        arguments = function.get("arguments") if isinstance(function, dict) else None
        call_id = call.get("id") if isinstance(call, dict) else None
        if not isinstance(arguments, str) or not isinstance(call_id, str | None):
            continue
        try:
            value = json.loads(arguments)
        except (ValueError, RecursionError):
            value = None
        yield call_id, value if isinstance(value, dict) else {"arguments": arguments}
