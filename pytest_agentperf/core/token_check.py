"""What a recount of sampled answers says about the server's token counts.

A text does not show every token: the end of the answer and what surrounds reasoning and tool calls. So a recount is a
range, [low, high], and a server is held to it. Where the range is wide, an untrue count could hide in it: the total is
taken over the answers with the narrowest ranges, as many as leave no more room together than the rule's own bound.
A count that is untrue by more than twice the bound is always outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.verdict import InvalidReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_agentperf.core.ruleset import Ruleset

MIN_TOKENS = 500
"""Fewer recounted tokens than these verify nothing: two of them more or less are no lie."""
FLOOR_TOKENS = 4
"""What a single answer may differ by, however short: a model's tokens need not be those that its text is cut into."""
MIN_OUTLIER_ANSWERS = 20
"""Of fewer answers a share says nothing."""
_COUNTS_REMEDY = (
    "see that the suite's tokenizer is the served model's, and that no proxy rewrites usage or answers"
)


class Recount(NamedTuple):
    """One answer, or prompt, counted twice: by the server, and by us as a range."""

    where: str
    claimed: int
    low: int
    high: int
    rendered: bool = False
    """Whether it was counted as the model's chat template renders it, instead of piece by piece."""

    @property
    def beyond(self) -> int:
        """Return how many tokens the claim lies above the range, negative below it."""
        return max(0, self.claimed - self.high) + min(0, self.claimed - self.low)


class TokenRecount(BaseModel):
    """Sampled answers, or prompts, recounted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampled: int
    counted: int
    """Of these the total below is made: the answers whose text tells the count closely enough."""
    claimed_tokens: int
    recounted_tokens: tuple[int, int]
    """From, to: what the text leaves open lies between."""
    deviation: float | None
    """How far the claim lies outside of that range, as a share of it; positive if the server counts too many."""
    outliers: float
    """The share of all sampled whose own count is off by more than the bound and more than a few tokens."""
    worst: float
    worst_where: str | None
    rendered: int
    """How many were counted as the chat template renders them; the others piece by piece."""


class TokenVerification(BaseModel):
    """Whether the server's token counts were held against the model's own tokenizer, and what came of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Literal["verified", "deviates", "not verified"] = "not verified"
    reason: str | None = "nothing was recounted"
    """What deviates, or why nothing was verified."""
    tokenizer: str | None = None
    tokenizer_digest: str | None = None
    """SHA-256 of the tokenizer's file."""
    bound: float | None = None
    answers: TokenRecount | None = None
    prompts: TokenRecount | None = None
    prompts_reason: str | None = None
    """Why no prompts were recounted."""
    first_chunk_deviation: float | None = None
    """Tokens that came with first chunks beyond those the server counted there, as a share of all output tokens."""
    truncated: int = 0
    """Answers that ended for their length, well below the length that was asked for."""
    too_large: int = 0
    """Sampled answers that were too large to be kept."""
    invalid: tuple[InvalidReason, ...] = ()

    def __str__(self) -> str:
        return self.status if self.reason is None else f"{self.status}: {self.reason}"


def recount_total(counts: Sequence[Recount], bound: float) -> TokenRecount:
    """Sum recounts up, over as many of them as leave no more room together than `bound`."""
    chosen: list[Recount] = []
    low = room = 0
    for one in sorted(counts, key=lambda one: ((one.high - one.low) / max(1, one.low), one.where)):
        if room + one.high - one.low > bound * (low + one.low):
            break
        chosen.append(one)
        low += one.low
        room += one.high - one.low
    claimed = sum(one.claimed for one in chosen)
    off = [one for one in counts if abs(one.beyond) > max(bound * max(one.low, 1), FLOOR_TOKENS)]
    worst = max(counts, key=lambda one: abs(one.beyond) / max(1, one.low), default=None)
    return TokenRecount(
        sampled=len(counts),
        counted=len(chosen),
        claimed_tokens=claimed,
        recounted_tokens=(low, low + room),
        deviation=_share(max(0, claimed - low - room) + min(0, claimed - low), low),
        outliers=len(off) / len(counts) if counts else 0.0,
        worst=worst.beyond / max(1, worst.low) if worst else 0.0,
        worst_where=worst.where if worst and worst.beyond else None,
        rendered=sum(one.rendered for one in counts),
    )


def judge_answers(total: TokenRecount, rules: Ruleset) -> Iterable[InvalidReason]:
    """Yield what the recount of answers says against the server."""
    bound = rules.token_deviation_max
    low, high = total.recounted_tokens
    enough = low >= MIN_TOKENS
    if enough and total.deviation is not None and abs(total.deviation) > bound:
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        yield InvalidReason(
            code="token_counts_off",
            what=f"token counts were off: the server counts {total.claimed_tokens:,} output tokens in "
            f"{total.counted} answers that have {span} ({total.deviation:+.1%}, limit {bound:.0%})",
            remedy=_COUNTS_REMEDY,
        )
    elif total.sampled >= MIN_OUTLIER_ANSWERS and total.outliers > rules.token_outliers_max:
        yield InvalidReason(
            code="token_counts_off",
            what=f"token counts were off: {total.outliers:.0%} of {total.sampled} answers by more than {bound:.0%} and "
            f"{FLOOR_TOKENS} tokens (limit {rules.token_outliers_max:.0%}); the worst by {total.worst:+.0%}, "
            f"{total.worst_where}",
            remedy=_COUNTS_REMEDY,
        )


def judge_prompts(total: TokenRecount, rules: Ruleset) -> Iterable[InvalidReason]:
    """Yield what the recount of prompts says: counts that are far off are those of other prompts than were sent."""
    bound = rules.token_deviation_max
    low, _ = total.recounted_tokens
    if low >= MIN_TOKENS and total.deviation is not None and abs(total.deviation) > bound:
        yield InvalidReason(
            code="prompt_counts_off",
            what=f"prompt token counts were off: the server counts {total.claimed_tokens:,} in {total.counted} prompts "
            f"that have {low:,} ({total.deviation:+.1%}, limit {bound:.0%})",
            remedy="see whether the server cuts long prompts or renders them with another chat template",
        )


def judge_first_chunks(deviation: float | None, rules: Ruleset) -> Iterable[InvalidReason]:
    """Yield first chunks that hold more tokens than the server's running usage says: that raises the output speed."""
    if deviation is not None and deviation > rules.token_deviation_max:
        yield InvalidReason(
            code="token_counts_off",
            what=f"token counts were off: first chunks held tokens that the usage with them leaves out, "
            f"{deviation:.1%} of all (limit {rules.token_deviation_max:.0%})",
            remedy="see that the server's running usage counts every token that was sent",
        )


def judge_truncation(truncated: int, answers: int, rules: Ruleset) -> Iterable[InvalidReason]:
    """Yield the truncation of more answers than the bound allows."""
    if truncated > rules.token_deviation_max * answers:
        yield InvalidReason(
            code="answers_truncated",
            what=f"{truncated} of {answers} answers were cut: they ended for their length (finish_reason "
            "`length`) well below the length that was asked for",
            remedy="make server and proxies honour max_tokens, and see that the context holds prompt and answer",
        )


def verification(
    answers: TokenRecount | None, *, invalid: Sequence[InvalidReason], reason: str | None, **known: object
) -> TokenVerification:
    """Return the verification that follows: deviates, verified, or not verified with the reason."""
    fields = {**known, "answers": answers, "invalid": tuple(invalid)}
    if invalid:
        return TokenVerification.model_validate(
            {**fields, "status": "deviates", "reason": "; ".join(one.what for one in invalid)}
        )
    if reason is None and (answers is None or answers.recounted_tokens[0] < MIN_TOKENS):
        found = 0 if answers is None else answers.recounted_tokens[0]
        sampled = 0 if answers is None else answers.sampled
        reason = (
            f"the texts of {sampled} sampled answers tell the count of {found} tokens closely enough, fewer than "
            f"the {MIN_TOKENS} that are needed"
        )
    status = "verified" if reason is None else "not verified"
    return TokenVerification.model_validate({**fields, "status": status, "reason": reason})


def combined(phases: Sequence[TokenVerification]) -> TokenVerification:
    """Return what phases say together: the first that deviates, else the first that is not verified, else the last.

    Totals are those of that phase: every phase has its own in the result.
    """
    for status in ("deviates", "not verified"):
        for one in phases:
            if one.status == status:
                return one
    return phases[-1] if phases else TokenVerification()


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
