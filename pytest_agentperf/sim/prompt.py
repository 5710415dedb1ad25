"""A chat request as prompt tokens and block hashes, without a tokenizer: a token is four UTF-8 bytes."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TOKEN_BYTES = 4


class Prompt(NamedTuple):
    """A rendered prompt: its length and one chained hash per full block."""

    tokens: int
    block_hashes: tuple[int, ...]


def render(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None) -> bytes:
    """Render as a chat template would: the first message, the tools, the rest, the opening of the answer.

    With the tools after the first message, a prefix at its start isolates everything that follows.
    """
    parts: list[str] = []
    _render_message(messages[0], parts)
    if tools:
        parts.append("<|tools|>")
        parts.append(_dump(tools))
    for message in messages[1:]:
        _render_message(message, parts)
    parts.append("<|assistant|>")
    # A lone surrogate, legal in JSON's escapes, must not fail a request.
    return "".join(parts).encode("utf-8", "surrogatepass")


def hash_prompt(text: bytes, block_tokens: int) -> Prompt:
    """Cut rendered text into blocks of `block_tokens` and chain their hashes."""
    size = block_tokens * TOKEN_BYTES
    hashes: list[int] = []
    parent = b""
    from_bytes = int.from_bytes
    for start in range(0, len(text) - size + 1, size):
        parent = blake2b(parent + text[start : start + size], digest_size=8).digest()
        hashes.append(from_bytes(parent, "little"))
    return Prompt(-(-len(text) // TOKEN_BYTES), tuple(hashes))


def content_text(content: object) -> str:
    """Return a message's content as text, whether a string or a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts: Iterable[Any] = content if isinstance(content, list) else (content,)
    return "".join(
        part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else _dump(part)
        for part in parts
    )


def _render_message(message: Mapping[str, Any], parts: list[str]) -> None:
    parts.append(f"<|{message['role']}|>")
    texts = ("reasoning_content", "reasoning", "content")
    parts.extend(content_text(message[name]) for name in texts if message.get(name))
    others = ("tool_calls", "tool_call_id", "name")
    parts.extend(_dump(message[name]) for name in others if message.get(name))


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
