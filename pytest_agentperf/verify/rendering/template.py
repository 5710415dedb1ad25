"""Prompts by the chat template that a tokenizer's repository holds, through `transformers`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.core.trajectory import Message
    from pytest_agentperf.verify.rendering import Renderer


def load_template(tokenizer: str, *, download: bool = True) -> Any:
    """Return the tokenizer of a folder or hub name that has a chat template; raises ConfigError if there is none."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ConfigError(
            "transformers, which renders chat templates, is not installed",
            where=tokenizer,
            remedy="pip install 'pytest-agentperf[tokenizers]'",
        ) from error
    try:
        # Code from a tokenizer's repository is never run.
        loaded = AutoTokenizer.from_pretrained(
            tokenizer, trust_remote_code=False, local_files_only=not download
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"cannot be loaded: {first}", where=tokenizer, remedy="check the name or folder, and the network"
        ) from error
    if not loaded.chat_template:
        raise ConfigError(
            "has no chat template",
            where=tokenizer,
            remedy="name a model that has one, or its encoding: see docs/datasets.md",
        )

    return loaded


def template_renderer(
    loaded: Any, tokenizer: str, *, answered: bool = False, variables: Mapping[str, Any] | None = None
) -> Renderer:
    """Return a renderer by a loaded template; `answered`: of conversations that end with the model's answer."""

    def render(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        try:
            text = loaded.apply_chat_template(
                [_as_served(message) for message in messages],
                tools=list(tools) if tools else None,
                add_generation_prompt=not answered,
                tokenize=False,
                **(variables or {}),
            )
        # A template is a program of its author's: it raises what it likes, for roles in an order it dislikes.
        except Exception as error:
            raise DatasetError(f"the chat template refuses the messages: {error}", where=tokenizer) from error
        return str(text)

    return render


def _as_served(message: Message) -> dict[str, Any]:
    """Return a message as servers hand it to templates: arguments parsed, text where there is no content."""
    found = dict(message)
    if found.get("content") is None:
        found["content"] = ""
    calls = found.get("tool_calls")
    if isinstance(calls, list):
        found["tool_calls"] = [_call(call) for call in calls]
    return found


def _call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}}
