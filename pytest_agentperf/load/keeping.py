"""Keeps the bodies of a few answers, decided before they are sent, for a look at their text after the phase.

Requests outside the sample take the same way as if there were none. Those in it are decoded in full: a read is
stamped before that, as ever, so it costs CPU, but moves no time that is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.kept import KeptAnswer, is_kept
from pytest_agentperf.load.response import Response

if TYPE_CHECKING:
    from pytest_agentperf.core.kept import KeepRule
    from pytest_agentperf.core.records import RequestKey
    from pytest_agentperf.load.shape import Shapes

BODY_BYTES_MAX = 8 << 20
WORKER_BYTES_MAX = 64 << 20
"""All that one worker keeps in a phase."""


class KeptResponse(Response):
    """A response whose body is kept as it comes, up to a bound."""

    __slots__ = ("_room", "body", "overflowed")

    def __init__(self, memory: bytearray, view: memoryview, shapes: Shapes, room: int) -> None:
        super().__init__(memory, view, shapes)
        self.body = bytearray()
        self.overflowed = False
        self._room = room

    def _feed_parser(self, data: memoryview) -> None:
        super()._feed_parser(data)
        # What is recognised by its bytes is counted and gone: here every read must come through the parser.
        self.plain = self._match_chunk = None

    def on_body(self, body: bytes) -> None:
        """Keep it, and decode it like any other."""
        if len(self.body) + len(body) > self._room:
            self.overflowed = True
        if not self.overflowed:
            self.body += body
        super().on_body(body)


class AnswerKeeper:
    """What one worker keeps of one phase."""

    def __init__(self, nonce: str, rule: KeepRule) -> None:
        self._nonce = nonce
        self._rule = rule
        self._bytes = 0
        self._kept: list[KeptAnswer] = []

    def wants(self, key: RequestKey) -> bool:
        """Return whether the request is in the sample, and there is room for another answer."""
        rule = self._rule
        return is_kept(self._nonce, key, rule.share) and len(self._kept) < rule.answers_max

    def response(self, memory: bytearray, view: memoryview, shapes: Shapes) -> KeptResponse:
        """Return the response that keeps what it is fed."""
        return KeptResponse(memory, view, shapes, min(BODY_BYTES_MAX, WORKER_BYTES_MAX - self._bytes))

    def keep(self, key: RequestKey, response: KeptResponse, first_text: str) -> None:
        """Take a whole answer; of one that is too large only that it was."""
        whole = not response.overflowed and self._bytes + len(response.body) <= WORKER_BYTES_MAX
        body = bytes(response.body) if whole else b""
        self._bytes += len(body)
        self._kept.append(
            KeptAnswer(key.agent, key.ordinal, key.trajectory, key.turn, first_text, body, whole)
        )

    def take(self) -> list[KeptAnswer]:
        """Return what was kept."""
        kept, self._kept = self._kept, []
        return kept
