"""Token counts for what a recording did not count, made with the model's tokenizer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.ports import PromptTokenCounter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.core.ports import TokenCounter
    from pytest_agentperf.core.trajectory import Message, Trajectory, Turn

_TOKENS_PER_MESSAGE = 4
"""What templates put around a message, about."""


def message_text(message: Message) -> str:
    """Return everything of a message that becomes tokens: reasoning, content, calls."""
    parts: list[str] = []
    for value in (message.get("reasoning_content"), message.get("content")):
        if isinstance(value, str):
            parts.append(value)
        elif isinstance(value, list):
            parts += [
                part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str)
            ]
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        parts += [str(function.get("name") or ""), str(function.get("arguments") or "")]
    return "\n".join(part for part in parts if part)


def fill_counts(
    trajectory: Trajectory, answers: Sequence[Message | None], counter: TokenCounter
) -> Trajectory:
    """Return the trajectory with the missing counts filled in; `answers` are those of its turns.

    Each distinct message is counted once, all in one batch. Prompts are exact where the counter renders them.
    """
    missing = [turn for turn in trajectory.turns if turn.prompt_tokens is None]
    prompts = (
        {turn: counter.prompt_tokens(*_request(trajectory, turn)) for turn in missing}
        if isinstance(counter, PromptTokenCounter)
        else _estimated_prompts(trajectory, missing, counter)
    )
    texts = {
        k: message_text(answer)
        for k, (turn, answer) in enumerate(zip(trajectory.turns, answers, strict=True))
        if turn.output_tokens is None and answer is not None
    }
    outputs = dict(zip(texts, counter.count_many(list(texts.values())), strict=True))
    turns = (
        replace(
            turn,
            prompt_tokens=prompts.get(turn, turn.prompt_tokens),
            output_tokens=outputs.get(k, turn.output_tokens),
        )
        for k, turn in enumerate(trajectory.turns)
    )
    return replace(trajectory, turns=tuple(turns))


def _request(trajectory: Trajectory, turn: Turn) -> tuple[list[Message], Sequence[Mapping[str, Any]] | None]:
    tools = None if turn.tools_index is None else trajectory.tool_sets[turn.tools_index]
    return trajectory.request_messages(turn), tools


def _estimated_prompts(
    trajectory: Trajectory, turns: Sequence[Turn], counter: TokenCounter
) -> dict[Turn, int]:
    used = sorted({i for turn in turns for i in turn.message_indices()})
    tool_sets = sorted({turn.tools_index for turn in turns if turn.tools_index is not None})
    texts = [message_text(trajectory.messages[i]) for i in used]
    texts += [json.dumps(trajectory.tool_sets[i], ensure_ascii=False) for i in tool_sets]
    counts = counter.count_many(texts)
    of_message = dict(zip(used, counts, strict=False))
    of_tools: dict[int | None, int] = dict(zip(tool_sets, counts[len(used) :], strict=True))
    return {
        turn: sum(of_message[i] + _TOKENS_PER_MESSAGE for i in turn.message_indices())
        + of_tools.get(turn.tools_index, 0)
        for turn in turns
    }
