"""Servers that lie about their tokens, over real sockets, through load workers, are caught."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from scripted_stub import Said, Stub, Words, running
from stub_settings import settings_for
from virtual_system import Watch

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentperf.core.leaderboard import PhaseResult

TOKENIZER = "agentperf-tests/words"
WORDS = 120


def words(n: int) -> str:
    return " ".join(f"w{i}" for i in range(n))


def honest(body: dict[str, Any], in_flight: int) -> Said:
    """The words, and the token that ends them."""
    return Said(words(WORDS), WORDS + 1)


def five_percent_more(body: dict[str, Any], in_flight: int) -> Said:
    return Said(words(WORDS), round(1.05 * (WORDS + 1)))


def five_percent_less(body: dict[str, Any], in_flight: int) -> Said:
    return Said(words(WORDS), round(0.95 * WORDS))


def half_of_what_it_counts(body: dict[str, Any], in_flight: int) -> Said:
    return Said(words(WORDS // 2), WORDS + 1)


def cut_early(body: dict[str, Any], in_flight: int) -> Said:
    """Asked for up to 1,000 tokens it stops at 120, and says that it was the length."""
    return Said(words(WORDS), WORDS, finish_reason="length")


class Measured:
    """One open deployment; each phase finds the stub with another script."""

    def __init__(self, stub: Stub, run: CapacityRun) -> None:
        self.stub, self.run = stub, run

    def phase(self, script: Any) -> PhaseResult:
        self.stub.script = script
        return self.run.run_fixed("all", 2)


@pytest.fixture(scope="module")
def measured() -> Iterator[Measured]:
    patch = pytest.MonkeyPatch()
    patch.setattr("pytest_agentperf.verification.load_counter", lambda name: Words())
    try:
        with (
            running(honest) as stub,
            CapacityRun(settings_for(stub.url, tokenizer=TOKENIZER), Watch()) as run,
        ):
            yield Measured(stub, run)
    finally:
        patch.undo()


def codes(result: PhaseResult) -> list[str]:
    return [reason.code for reason in result.invalid]


def test_an_honest_server_is_verified(measured: Measured) -> None:
    result = measured.phase(honest)
    assert codes(result) == []
    assert result.tokens.status == "verified"
    assert result.tokens.answers is not None
    assert result.tokens.answers.deviation == 0
    assert result.tokens.answers.sampled >= 10
    assert result.tokens.prompts_reason is not None
    assert result.tokens.tokenizer == TOKENIZER
    assert [verdict.verdict for verdict in result.verdicts] == [Verdict.PASS]


@pytest.mark.parametrize("lie", [five_percent_more, five_percent_less, half_of_what_it_counts])
def test_counts_that_are_not_true_make_a_phase_invalid(measured: Measured, lie: Any) -> None:
    result = measured.phase(lie)
    assert codes(result) == ["token_counts_off"]
    assert result.tokens.status == "deviates"
    assert [verdict.verdict for verdict in result.verdicts] == [Verdict.INVALID]


def test_answers_that_are_cut_short_make_a_phase_invalid(measured: Measured) -> None:
    result = measured.phase(cut_early)
    assert codes(result) == ["answers_truncated"]
    assert [verdict.verdict for verdict in result.verdicts] == [Verdict.INVALID]


def test_without_a_tokenizer_nothing_is_verified() -> None:
    with (
        running(five_percent_more) as stub,
        CapacityRun(settings_for(stub.url, tokenizer=None), Watch()) as run,
    ):
        result = run.run_fixed("all", 2)
    assert codes(result) == []
    assert str(result.tokens) == "not verified: the suite names no tokenizer"
    assert result.tokens.answers is None
