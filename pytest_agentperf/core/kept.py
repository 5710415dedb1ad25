"""Which answers of a phase are kept for a later look at their text, and what a model said in one.

The sample is decided before a request is sent, from a hash that the server cannot know: nothing of the answer, its
length included, has a say in it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytest_agentperf.core.records import RequestKey


class KeepRule(NamedTuple):
    """How many answers of a phase are kept: a share of all, and at most so many by each worker."""

    share: float
    answers_max: int


NOTHING_KEPT = KeepRule(0.0, 0)


class KeptAnswer(NamedTuple):
    """One answer as it came: the body of its stream, and the text that arrived with the first token."""

    agent: int
    ordinal: int
    trajectory: str
    turn: int
    first_text: str
    body: bytes
    whole: bool = True
    """False where the body was too large to be kept."""


class ToolCall(NamedTuple):
    """A call that a model made."""

    name: str
    arguments: str


class Spoken(NamedTuple):
    """What a model said in one answer, and what its server says of it."""

    reasoning: str = ""
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None


def keep_rule(requests_expected: float, answers_wanted: int) -> KeepRule:
    """Return the rule that keeps about `answers_wanted` of the requests that are expected, and never many more."""
    if answers_wanted <= 0:
        return NOTHING_KEPT
    return KeepRule(min(1.0, answers_wanted / max(1.0, requests_expected)), 2 * answers_wanted)


def is_kept(nonce: str, key: RequestKey, share: float) -> bool:
    """Return whether a request is in the sample; the nonce never leaves this side."""
    text = f"{nonce} {key.phase} {key.attempt} {key.agent} {key.ordinal} {key.turn}"
    drawn = hashlib.blake2b(text.encode(), digest_size=8, person=b"kept").digest()
    return int.from_bytes(drawn, "little") < share * 2**64
