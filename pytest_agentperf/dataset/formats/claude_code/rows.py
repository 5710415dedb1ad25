"""The lines of a Claude Code session that matter: what was said, by whom, when, and after which line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.formats.times import moment_ns
from pytest_agentperf.dataset.formats.values import count, mapping, objects, text
from pytest_agentperf.dataset.reading import read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.dataset.formats.base import Notes

SYNTHETIC_MODEL = "<synthetic>"
"""The model of lines that Claude Code itself wrote in the model's place."""

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `kind` is user, assistant, boundary (a compaction) or other (it may still link two lines)."""

    number: int
    where: str
    kind: str
    session: str
    uuid: str | None
    parent: str | None
    side_chain: str | None
    """The sub-agent that the line belongs to; empty where the line does not name it."""
    time_ns: int | None
    blocks: tuple[Block, ...] = ()
    message_id: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    is_api_error: bool = False

    @property
    def calls(self) -> list[str]:
        """Return the ids of its tool calls."""
        return _ids(self.blocks, "tool_use", "id")

    @property
    def results(self) -> list[str]:
        """Return the ids of the calls it gives results of."""
        return _ids(self.blocks, "tool_result", "tool_use_id")

    @property
    def is_results_only(self) -> bool:
        """Return whether it says nothing but results."""
        return bool(self.results) and all(block.get("type") == "tool_result" for block in self.blocks)


def _ids(blocks: tuple[Block, ...], kind: str, key: str) -> list[str]:
    ids = (text(block.get(key)) for block in blocks if block.get("type") == kind)
    return [one for one in ids if one is not None]


def read_rows(path: Path, notes: Notes) -> Iterator[Row]:
    """Yield the lines that say or link something; raises DatasetError for lines that are no JSON."""
    # The stream names its session only where it begins.
    session = path.stem
    for number, (where, value) in enumerate(read_json_lines(path)):
        if not isinstance(value, dict):
            notes.add("lines that are no objects, left out", where)
            continue
        message = mapping(value.get("message"))
        named = _first_text(value, message, keys=("sessionId", "session_id"))
        if value.get("type") == "system" and named is not None:
            session = named
        yield _row(number, where, named or session, value, message, notes)


def _row(
    number: int, where: str, session: str, value: dict[str, Any], message: dict[str, Any], notes: Notes
) -> Row:
    kind = _kind(value, message)
    blocks: tuple[Block, ...] = ()
    if kind in ("user", "assistant"):
        found = _blocks(message.get("content"))
        if value.get("isVisibleInTranscriptOnly") is True:
            kind = "other"
        elif found is None:
            notes.add("lines whose message cannot be read, left out", where)
            kind = "other"
        else:
            blocks = tuple(found)
    parent = text(value.get("parentUuid"))
    if kind == "boundary" and parent is None:
        parent = text(value.get("logicalParentUuid"))
    return Row(
        number=number,
        where=where,
        kind=kind,
        session=session,
        uuid=text(value.get("uuid")),
        parent=parent,
        side_chain=_side_chain(value),
        time_ns=moment_ns(value.get("timestamp")),
        blocks=blocks,
        message_id=text(message.get("id")) if kind == "assistant" else None,
        model=text(message.get("model")),
        prompt_tokens=prompt_tokens(message.get("usage")),
        is_api_error=value.get("isApiErrorMessage") is True,
    )


def _kind(value: dict[str, Any], message: dict[str, Any]) -> str:
    kind = value.get("type")
    if kind in ("user", "assistant"):
        return str(kind)
    subtype = text(value.get("subtype")) or text(message.get("subtype"))
    return "boundary" if kind == "system" and subtype == "compact_boundary" else "other"


def _side_chain(value: dict[str, Any]) -> str | None:
    caller = text(value.get("parent_tool_use_id"))
    if value.get("isSidechain") is True:
        return text(value.get("agentId")) or caller or ""
    return caller or None


def _first_text(*values: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    found = (text(value.get(key)) for value in values for key in keys)
    return next((one for one in found if one), None)


def _blocks(content: Any) -> list[Block] | None:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return None
    return objects(content)


def prompt_tokens(usage: Any) -> int | None:
    """Return all prompt tokens: new ones, those written to the cache and those read from it."""
    counts = mapping(usage)
    new = count(counts.get("input_tokens"))
    if new is None:
        return None
    written = count(counts.get("cache_creation_input_tokens")) or 0
    read = count(counts.get("cache_read_input_tokens")) or 0
    return new + written + read or None
