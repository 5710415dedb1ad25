"""One request inside the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pytest_agentperf.sim.engine.rank import Rank

NEVER: Final = -1


class Sequence:
    """A request, where it is, and how far; at its end, how it went.

    Its arguments are the fields of an `EngineRequest`.
    """

    __slots__ = (
        "blocks",
        "cached_tokens",
        "cancelled",
        "computed",
        "emitted",
        "final_step",
        "first_growth",
        "first_ns",
        "first_tokens",
        "growth_phase",
        "hashes",
        "join_step",
        "left",
        "length",
        "moving",
        "order",
        "prompt",
        "rank",
        "rate",
        "reported",
        "request_id",
        "session",
        "shared_blocks",
        "shared_tokens",
        "steps",
        "target",
    )

    rank: Rank
    order: int  # of admission
    blocks: int  # held at admission
    # While it decodes: `left` tokens follow in `steps` steps after `join_step`, at `rate` tokens a step.
    join_step: int
    left: int
    steps: int
    rate: float
    first_growth: int  # the step that needs the first block more
    growth_phase: int
    cached_tokens: int | None
    """Prompt tokens found in the cache when it was first admitted, None before."""
    first_ns: int | None
    """When its first tokens came out, and how many at that moment."""
    first_tokens: int | None

    def __init__(
        self,
        request_id: int,
        prompt: int,
        output: int,
        most: int,
        session: int,
        shared_tokens: int,
        hashes: Items[int] = (),
    ) -> None:
        self.request_id = request_id
        self.session = session
        self.shared_tokens = shared_tokens
        self.hashes = hashes
        self.prompt = prompt
        self.length = output if output < most else most
        self.target = prompt  # tokens whose KV the prefill has to compute
        self.computed = 0
        self.shared_blocks = 0  # blocks that the cache knows under their hashes
        self.emitted = 0  # up to `join_step`
        self.reported = 0
        self.moving = False  # from prefill to decode
        self.cancelled = False  # on the way
        self.final_step = NEVER  # of decoding; NEVER while it does not decode
        self.cached_tokens = self.first_ns = self.first_tokens = None

    def emitted_at(self, step: int) -> int:
        """Return the tokens emitted by the end of `step`, while it decodes."""
        return self.emitted + self.left * (step - self.join_step) // self.steps
