"""Counts the tokens of an answer anew, from its text: a range, as a text does not show every token.

As rendered: the chat template puts an answer together as the model wrote it, special tokens and tool-call syntax
included; what stays open is whether the server counts the token that ends it. Piece by piece, where no template shows
that: the text counts for itself, and what surrounds it may add a little.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.token_check import Recount

if TYPE_CHECKING:
    from pytest_agentperf.core.kept import Spoken, ToolCall
    from pytest_agentperf.core.ports import TokenCounter
    from pytest_agentperf.verify.prompts import PromptCounter

# What servers count besides the text, at most: the token that ends an answer; tags and line breaks around reasoning;
# the syntax of a call (14 in Hermes' and 12 in Harmony's format) and of each argument (14 in DeepSeek's).
END_TOKENS = 1
REASONING_TOKENS = 4
CALL_TOKENS = 20
ARGUMENT_TOKENS = 16


def recount_answer(
    spoken: Spoken, where: str, *, counter: TokenCounter, prompts: PromptCounter | None
) -> Recount | None:
    """Return an answer's claim and recount; None if the server claims nothing."""
    if not isinstance(spoken.output_tokens, int):
        return None
    # One that was cut has no end, and perhaps half a call, which no template renders.
    if prompts is not None and spoken.finish_reason != "length":
        try:
            tokens = prompts.answer_tokens(_message(spoken), must_hold=_visible(spoken))
        except DatasetError:
            tokens = None
        if tokens is not None:
            return Recount(where, spoken.output_tokens, tokens - END_TOKENS, tokens, rendered=True)
    low, high = _by_pieces(spoken, counter)
    return Recount(where, spoken.output_tokens, low, high)


def _by_pieces(spoken: Spoken, counter: TokenCounter) -> tuple[int, int]:
    text = counter.count(spoken.reasoning) + counter.count(spoken.content)
    low, high = text, text + END_TOKENS
    if spoken.reasoning:
        high += REASONING_TOKENS
    for call in spoken.calls:
        values = _argument_values(call)
        # As JSON, or as plain text between tags: a file's content has fewer tokens without escapes.
        written = counter.count(call.arguments)
        plain = sum(counter.count(value) for value in values)
        name = counter.count(call.name)
        low += name + min(written, plain)
        high += name + max(written, plain) + CALL_TOKENS + ARGUMENT_TOKENS * len(values)
    return low, high


def _argument_values(call: ToolCall) -> list[str]:
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return [call.arguments]
    if not isinstance(arguments, dict):
        return [call.arguments]
    return [value if isinstance(value, str) else json.dumps(value) for value in arguments.values()]


def _message(spoken: Spoken) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": spoken.content}
    if spoken.reasoning:
        message["reasoning_content"] = message["reasoning"] = spoken.reasoning
    if spoken.calls:
        message["tool_calls"] = [
            {"id": f"call_{i}", "type": "function", "function": call._asdict()}
            for i, call in enumerate(spoken.calls)
        ]
    return message


def _visible(spoken: Spoken) -> list[str]:
    """Return what a rendering of the answer must hold, or it left something out."""
    names = [call.name for call in spoken.calls]
    return [text.strip() for text in (spoken.reasoning, spoken.content, *names) if text.strip()]
