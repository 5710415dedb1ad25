"""How messages become JSON, and where the isolation prefix goes in the one that opens a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError

if TYPE_CHECKING:
    from pytest_agentperf.core.trajectory import Message

# Where the isolation prefix goes while a message is encoded: no recorded text holds it by accident, and its
# control characters are escaped alike with and without `ensure_ascii`.
_MARK = "\0agentperf-isolation-prefix\0"


def json_bytes(value: Any) -> bytes:
    """Return compact JSON, keys in recorded order."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # A lone surrogate in a recording: as an escape it is valid JSON, as UTF-8 it is not.
        return json.dumps(value, separators=(",", ":")).encode()


def cut_for_prefix(message: Message) -> tuple[bytes, bytes]:
    """Return an encoded message in two: what comes before the isolation prefix, and after it.

    Raises DatasetError where the content is nothing that a text could be put in front of.
    """
    before, _, after = json_bytes(_with_mark(message)).partition(json_bytes(_MARK)[1:-1])
    return before, after


def _with_mark(message: Message) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, Mapping) and isinstance(first.get("text"), str):
            marked: Any = [{**first, "text": _MARK + first["text"]}, *content[1:]]
        else:
            marked = [{"type": "text", "text": _MARK}, *content]
    elif isinstance(content, str) or not content:
        marked = _MARK + (content or "")
    else:
        raise DatasetError(
            f"a request opens with a message whose content is a {type(content).__name__}",
            remedy="a message's content is text or a list of parts",
        )
    return {**message, "content": marked}
