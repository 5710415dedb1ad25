"""Servers that lie about their tokens, over real sockets, through load workers, are caught."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from scripted_stub import TOKENIZERS, Said, Stub, rendered, running
from stub_settings import settings_for
from virtual_system import Watch

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentperf.core.leaderboard import PhaseResult

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


def prompts_of_half_the_length(body: dict[str, Any], in_flight: int) -> Said:
    """Reads less than it was sent, and says so; or reads it, and bills half."""
    tokens = len(rendered(body["messages"]).split())
    return honest(body, in_flight)._replace(prompt_tokens=tokens // 2)


def half_at_once(body: dict[str, Any], in_flight: int) -> Said:
    return honest(body, in_flight)._replace(first_words=WORDS // 2)


def half_at_once_counted_as_one(body: dict[str, Any], in_flight: int) -> Said:
    return half_at_once(body, in_flight)._replace(running_usage=True)


def half_as_the_whole(body: dict[str, Any], in_flight: int) -> Said:
    """Ends after half of what it had to say, as if that were all; its counts are true."""
    return Said(words(WORDS // 2), WORDS // 2 + 1)


class Measured:
    """One open deployment; each phase finds the stub with another script."""

    def __init__(self, stub: Stub, run: CapacityRun, watch: Watch, tokenizer: str) -> None:
        self.stub, self.run, self.watch, self.tokenizer = stub, run, watch, tokenizer

    def phase(self, script: Any) -> PhaseResult:
        self.stub.script = script
        return self.run.run_fixed("all", 2)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    modules, folder = tmp_path_factory.mktemp("modules"), tmp_path_factory.mktemp("tokenizer")
    (modules / "tokenizers.py").write_text(TOKENIZERS)
    (folder / "tokenizer.json").touch()
    tokenizer = str(folder)
    watch = Watch()
    with pytest.MonkeyPatch.context() as patch:
        # For load workers, and for this process.
        patch.setenv("PYTHONPATH", str(modules), prepend=":")
        patch.syspath_prepend(modules)
        patch.delitem(sys.modules, "tokenizers", raising=False)
        patch.setattr("pytest_agentperf.verify.counters.renderers", lambda *args, **_: (rendered, rendered))
        with (
            running(honest) as stub,
            CapacityRun(settings_for(stub.url, tokenizer=tokenizer), watch) as run,
        ):
            yield Measured(stub, run, watch, tokenizer)
    sys.modules.pop("tokenizers", None)


def codes(result: PhaseResult) -> list[str]:
    return [reason.code for reason in result.invalid]


def test_an_honest_server_is_verified(measured: Measured) -> None:
    result = measured.phase(honest)
    assert codes(result) == []
    assert result.tokens.status == "verified"
    assert result.tokens.answers is not None
    assert result.tokens.answers.deviation == 0
    assert result.tokens.answers.sampled >= 10
    assert result.tokens.answers.rendered == result.tokens.answers.sampled
    assert result.tokens.prompts is not None
    assert result.tokens.prompts.deviation == 0
    assert result.tokens.tokenizer == measured.tokenizer
    told = {check.name: check.what for check in measured.run.preflight["all"]}
    assert told["token counts"] == f"recounted by {measured.tokenizer}"
    assert [verdict.verdict for verdict in result.verdicts] == [Verdict.PASS]


@pytest.mark.parametrize("lie", [five_percent_more, five_percent_less, half_of_what_it_counts])
def test_counts_that_are_not_true_make_a_phase_invalid(measured: Measured, lie: Any) -> None:
    result = measured.phase(lie)
    assert codes(result) == ["token_counts_off"]
    assert result.tokens.status == "deviates"
    assert [verdict.verdict for verdict in result.verdicts] == [Verdict.INVALID]


def test_prompt_counts_that_are_not_true_make_a_phase_invalid(measured: Measured) -> None:
    result = measured.phase(prompts_of_half_the_length)
    assert codes(result) == ["prompt_counts_off"]
    (reason,) = result.invalid
    assert "(-50" in reason.what
    assert result.tokens.reason == reason.what
    assert [verdict.verdict for verdict in result.verdicts] == [Verdict.INVALID]


def test_the_tokens_of_a_first_chunk_are_counted(measured: Measured) -> None:
    result = measured.phase(half_at_once)
    assert codes(result) == []
    assert result.metrics is not None
    assert set(result.metrics.first_chunk_sources) == {"tokenizer"}
    # None of them counts for speed.
    assert measured.watch.records[-1]["first_chunk_tokens"].min() >= WORDS // 2


def test_first_chunks_with_more_than_the_usage_beside_them_make_a_phase_invalid(measured: Measured) -> None:
    result = measured.phase(half_at_once_counted_as_one)
    assert result.metrics is not None
    assert set(result.metrics.first_chunk_sources) == {"usage"}
    assert codes(result) == ["token_counts_off"]
    assert "first chunks held tokens that the usage with them leaves out" in result.invalid[0].what
    assert result.tokens.first_chunk_deviation is not None
    assert result.tokens.first_chunk_deviation > 0.3
    assert [verdict.verdict for verdict in result.verdicts] == [Verdict.INVALID]


def test_answers_that_end_early_and_say_they_are_whole_are_no_lie_about_counts(measured: Measured) -> None:
    # That they are shorter shows in the questions' answers: test_verification_accuracy.py.
    result = measured.phase(half_as_the_whole)
    assert codes(result) == []
    assert result.tokens.status == "verified"
    assert result.metrics is not None
    assert result.metrics.output_tokens_mean == WORDS // 2 + 1


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
    (told,) = (check for check in run.preflight["all"] if check.name == "token counts")
    assert (told.status, told.what) == (
        "warning",
        "the result will say `not verified`: the suite names no tokenizer",
    )
    assert result.tokens.answers is None
