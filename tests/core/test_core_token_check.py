from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.core.token_check import (
    MIN_TOKENS,
    Recount,
    TokenRecount,
    TokenVerification,
    combined,
    judge_answers,
    judge_first_chunks,
    judge_prompts,
    judge_truncation,
    recount_total,
    verification,
)

BOUND = DEMO_1.token_deviation_max


def total_of(*counts: Recount) -> TokenRecount:
    return recount_total(counts, BOUND)


def codes(total: TokenRecount) -> list[str]:
    return [reason.code for reason in judge_answers(total, DEMO_1)]


def exact(tokens: int, claimed: int, where: str = "a") -> Recount:
    return Recount(where, claimed, tokens, tokens)


texts = st.tuples(st.integers(1, 2_000), st.integers(0, 40))


@given(st.lists(texts, min_size=1, max_size=60), st.data())
def test_an_honest_server_is_never_accused(ranges: list[tuple[int, int]], data: st.DataObject) -> None:
    counts = [
        Recount(str(i), low + data.draw(st.integers(0, room)), low, low + room)
        for i, (low, room) in enumerate(ranges)
    ]
    total = recount_total(counts, BOUND)
    assert total.outliers == total.worst == 0
    assert total.deviation in (None, 0.0)
    assert list(judge_answers(total, DEMO_1)) == []


@given(st.lists(texts, min_size=1, max_size=60), st.sampled_from([1.05, 0.95]))
def test_a_lie_of_five_percent_is_caught_or_nothing_is_verified(
    ranges: list[tuple[int, int]], lie: float
) -> None:
    """Wherever the true count lies in its range: a lie can hide in what texts leave open only unverified."""
    for true in ("low", "high"):
        counts = [
            Recount(str(i), round(lie * (low if true == "low" else low + room)), low, low + room)
            for i, (low, room) in enumerate(ranges)
        ]
        total = recount_total(counts, BOUND)
        found = verification(total, invalid=list(judge_answers(total, DEMO_1)), reason=None)
        # Rounding takes up to half a token of every answer.
        if total.recounted_tokens[0] > 100 * total.counted:
            assert found.status != "verified"


@given(st.lists(texts, max_size=60))
def test_what_the_counted_texts_leave_open_stays_within_the_bound(ranges: list[tuple[int, int]]) -> None:
    total = recount_total(
        [Recount(str(i), low, low, low + room) for i, (low, room) in enumerate(ranges)], BOUND
    )
    low, high = total.recounted_tokens
    assert high - low <= BOUND * low
    assert total.counted <= total.sampled == len(ranges)


def test_the_bound_is_the_rulesets() -> None:
    assert codes(total_of(exact(10_000, 10_200))) == []
    assert codes(total_of(exact(10_000, 10_201))) == ["token_counts_off"]
    assert codes(total_of(exact(10_000, 9_800))) == []
    assert codes(total_of(exact(10_000, 9_799))) == ["token_counts_off"]
    looser = DEMO_1.model_copy(update={"token_deviation_max": 0.1})
    assert list(judge_answers(recount_total([exact(10_000, 10_900)], 0.1), looser)) == []


def test_too_few_tokens_accuse_nobody_and_verify_nothing() -> None:
    total = total_of(exact(MIN_TOKENS - 1, 2 * MIN_TOKENS))
    assert codes(total) == []
    found = verification(total, invalid=(), reason=None)
    assert found.status == "not verified"
    assert "fewer than the 500" in str(found)
    assert verification(total_of(exact(MIN_TOKENS, MIN_TOKENS)), invalid=(), reason=None).status == "verified"


def test_answers_that_are_off_one_by_one_while_the_total_is_right() -> None:
    def answers(off: int) -> list[Recount]:
        wrong = [exact(100, 150 if i % 2 else 50, str(i)) for i in range(off)]
        return [*wrong, *(exact(100, 100, str(i)) for i in range(off, 40))]

    assert codes(total_of(*answers(4))) == []
    (reason,) = judge_answers(total_of(*answers(6)), DEMO_1)
    assert reason.code == "token_counts_off"
    assert "15% of 40 answers" in reason.what
    assert "the worst by" in reason.what
    strict = DEMO_1.model_copy(update={"token_outliers_max": 0.05})
    assert list(judge_answers(total_of(*answers(4)), strict))


def test_a_few_tokens_make_no_outlier() -> None:
    assert total_of(*(exact(10, 14, str(i)) for i in range(30))).outliers == 0
    assert total_of(*(exact(10, 15, str(i)) for i in range(30))).outliers == 1


def test_wide_ranges_are_left_out_of_the_total() -> None:
    total = total_of(Recount("calls", 130, 100, 140), exact(1_000, 1_000, "text"))
    assert (total.sampled, total.counted, total.claimed_tokens) == (2, 1, 1_000)
    assert total.recounted_tokens == (1_000, 1_000)


def test_the_worst_is_named() -> None:
    total = total_of(exact(100, 150, "fine words"), exact(100, 100), Recount("short", 40, 100, 102))
    assert (total.worst, total.worst_where) == (-0.6, "short")
    assert total_of(exact(100, 100)).worst_where is None


@pytest.mark.parametrize(
    ("claimed", "off"), [(1_000, []), (500, ["prompt_counts_off"]), (1_030, ["prompt_counts_off"])]
)
def test_prompts(claimed: int, off: list[str]) -> None:
    assert [reason.code for reason in judge_prompts(total_of(exact(1_000, claimed)), DEMO_1)] == off


def test_first_chunks() -> None:
    assert list(judge_first_chunks(None, DEMO_1)) == []
    assert list(judge_first_chunks(0.02, DEMO_1)) == []
    assert [reason.code for reason in judge_first_chunks(0.03, DEMO_1)] == ["token_counts_off"]


def test_truncation() -> None:
    assert list(judge_truncation(0, 0, DEMO_1)) == []
    assert list(judge_truncation(2, 100, DEMO_1)) == []
    assert [reason.code for reason in judge_truncation(3, 100, DEMO_1)] == ["answers_truncated"]


def test_phases_together_are_as_good_as_the_worst() -> None:
    good = TokenVerification(status="verified", reason=None)
    unknown = TokenVerification(reason="no tokenizer")
    bad = TokenVerification(status="deviates", reason="5 %")
    assert combined([]).status == "not verified"
    assert combined([good, good]) is good
    assert combined([good, unknown]) is unknown
    assert combined([unknown, bad, good]) is bad
    assert (str(good), str(unknown)) == ("verified", "not verified: no tokenizer")
