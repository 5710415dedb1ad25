"""Prompts as servers render them: by code for models whose repository has no chat template, else by the template.

A renderer is `render(messages, tools) -> str`; the text ends where the model's answer begins.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_agentperf.verify.rendering import deepseek_v4, deepseek_v32

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from pytest_agentperf.core.trajectory import Message

    Renderer = Callable[[Sequence[Message], Sequence[Mapping[str, Any]] | None], str]

RENDERERS: dict[str, Renderer] = {
    deepseek_v32.NAME: deepseek_v32.render,
    deepseek_v4.NAME: deepseek_v4.render,
}
# Not 4.1, 5, ...: a later model has an encoding of its own.
_NAMES = re.compile(r"deepseek[-_]?(v3\.2|v4)(?![.\d])", re.IGNORECASE)


def renderer_for(tokenizer: str) -> str | None:
    """Return the name in `RENDERERS` of the encoding of the model that a tokenizer's name or folder names."""
    found = _NAMES.search(tokenizer.rstrip("/").rsplit("/", 1)[-1])
    return None if found is None else f"deepseek-{found[1].lower()}"
