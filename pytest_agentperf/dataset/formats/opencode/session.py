"""A session as OpenCode keeps it: messages, each with its parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pytest_agentperf.dataset.formats.values import mapping, number, objects, text


@dataclass(frozen=True, slots=True)
class SessionMessage:
    """One message: `info` and `parts` as recorded, those parts that are none left out."""

    info: dict[str, Any]
    parts: tuple[dict[str, Any], ...]

    @property
    def id(self) -> str:
        """Return its id."""
        return text(self.info.get("id")) or ""

    @property
    def role(self) -> str | None:
        """Return who wrote it."""
        return text(self.info.get("role"))

    @property
    def created_ms(self) -> float | None:
        """Return when it began; for an answer, when its request was made."""
        return number(mapping(self.info.get("time")).get("created"))

    @property
    def is_summary(self) -> bool:
        """Return whether it is the answer of a compaction; for a user message the field means something else."""
        return self.role == "assistant" and self.info.get("summary") is True

    def has(self, part_type: str) -> bool:
        """Return whether it has a part of that type."""
        return any(part.get("type") == part_type for part in self.parts)


@dataclass(frozen=True, slots=True)
class Session:
    """A session's messages in order; `asked` are the calls that waited for a human's permission."""

    id: str
    messages: tuple[SessionMessage, ...]
    asked: frozenset[str] = field(default_factory=frozenset)


class RecordedPart(NamedTuple):
    """A part under its id, before it is sorted into its message."""

    id: str
    part: dict[str, Any]


def session_message(info: Any, parts: Any) -> SessionMessage | None:
    """Return a message, None for what is none."""
    if not isinstance(info, dict) or info.get("role") not in ("user", "assistant"):
        return None
    return SessionMessage(info, tuple(objects(parts)))


def in_order(messages: list[SessionMessage]) -> tuple[SessionMessage, ...]:
    """Return messages in the order in which OpenCode reads them from its storage."""
    return tuple(sorted(messages, key=lambda message: (message.created_ms or 0, message.id)))


def parts_in_order(parts: list[RecordedPart]) -> list[dict[str, Any]]:
    """Return parts in the order of their ids, which ascend with time: OpenCode sends them so."""
    return [one.part for one in sorted(parts, key=lambda one: one.id)]
