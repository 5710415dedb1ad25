"""Whether a phase's token counts deserve the status that it gives them: its recounts, held against the rules.

No text of an answer is kept, so the recounted numbers themselves are as stated; what follows from them is not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_agentperf.recheck.findings import differs, same

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_agentperf.recheck.numbers import Records

_MIN_TOKENS = 500
_MIN_OUTLIER_ANSWERS = 20
_CUT_BELOW = 0.98


def recount_codes(tokens: Mapping[str, Any], answered: int, rules: Mapping[str, Any]) -> set[str]:
    """Return why a phase is INVALID by the figures of its recounts; `answered`: how many answers there were."""
    bound, codes = rules["token_deviation_max"], set()
    answers, prompts = tokens["answers"], tokens["prompts"]
    if answers is not None:
        of_many = answers["sampled"] >= _MIN_OUTLIER_ANSWERS
        if _beyond(answers, bound) or (of_many and answers["outliers"] > rules["token_outliers_max"]):
            codes.add("token_counts_off")
    if (tokens["first_chunk_deviation"] or 0.0) > bound:
        codes.add("token_counts_off")
    if prompts is not None and _beyond(prompts, bound):
        codes.add("prompt_counts_off")
    if tokens["truncated"] > bound * answered:
        codes.add("answers_truncated")
    return codes


def recount_problems(
    tokens: Mapping[str, Any], records: Records, rules: Mapping[str, Any], *, measured: bool
) -> tuple[set[str], list[str]]:
    """Return the codes that a phase's recounts give, and where what they say does not follow from them.

    `measured`: whether the phase has metrics; of others nothing is recounted.
    """
    counts = records.number["output_tokens"]
    there = ~records.failed & ~np.isnan(counts)
    codes = recount_codes(tokens, int(there.sum()), rules)
    answers, prompts = tokens["answers"], tokens["prompts"]
    wrong = [
        f"{code} is among its reasons, and its figures do not give it"
        for code in sorted(_told(tokens) - codes)
    ]
    wrong += [f"its figures give {code}, and it does not say so" for code in sorted(codes - _told(tokens))]
    if tokens["bound"] is None:
        given = [
            name for name in ("answers", "prompts", "first_chunk_deviation", "truncated") if tokens[name]
        ]
        wrong += [f"there is {name}, held against no bound" for name in given]
    else:
        wrong += differs("the bound", tokens["bound"], rules["token_deviation_max"])
        wrong += _truncation_problems(tokens["truncated"], records, there, rules)
    if tokens["bound"] is not None and not measured:
        wrong.append("something was recounted, and nothing was measured")
    for name, total, most in (
        ("answers", answers, float(counts[there].sum())),
        ("prompts", prompts, float(np.nansum(records.number["prompt_tokens"]))),
    ):
        if total is not None:
            wrong += [f"{name}: {text}" for text in _total_problems(total, rules["token_deviation_max"])]
            if total["claimed_tokens"] > most:
                wrong.append(
                    f"{name}: {total['claimed_tokens']:,} tokens are claimed, the records have {most:,.0f}"
                )
            if total["sampled"] > len(records):
                wrong.append(f"{name}: {total['sampled']} were sampled of {len(records)}")
    enough = answers is not None and answers["recounted_tokens"][0] >= _MIN_TOKENS
    status = "deviates" if codes else "verified" if enough else "not verified"
    wrong += differs("its status", tokens["status"], status)
    if (tokens["status"] == "verified") != (tokens["reason"] is None):
        wrong.append("only what is verified has no reason")
    return codes, wrong


def run_problems(entry: Mapping[str, Any]) -> list[str]:
    """Return where the run's token verification is not what its measured phases say together."""
    told = entry["token_verification"]
    measured: Sequence[Any] = [p["tokens"] for p in entry["phases"] if p["verdicts"] and p["metrics"]]
    statuses = {tokens["status"] for tokens in measured}
    order = ("deviates", "not verified", "verified")
    worst = next((status for status in order if status in statuses), "not verified")
    wrong = differs("token_verification", told["status"], worst)
    if not wrong and measured and not any(same(told, tokens) for tokens in measured):
        wrong.append("token_verification is that of none of its phases")
    return wrong


def _told(tokens: Mapping[str, Any]) -> set[str]:
    return {reason["code"] for reason in tokens["invalid"]}


def _beyond(total: Mapping[str, Any], bound: float) -> bool:
    off = _deviation(total)
    return total["recounted_tokens"][0] >= _MIN_TOKENS and off is not None and abs(off) > bound


def _deviation(total: Mapping[str, Any]) -> float | None:
    """Return how far the claim lies outside of the recounted range, as a share of it."""
    low, high = total["recounted_tokens"]
    claimed = total["claimed_tokens"]
    outside = claimed - high if claimed > high else claimed - low if claimed < low else 0
    return outside / low if low else None


def _total_problems(total: Mapping[str, Any], bound: float) -> Iterator[str]:
    low, high = total["recounted_tokens"]
    yield from differs("deviation", total["deviation"], _deviation(total))
    if not low <= high <= low * (1 + bound) + 1e-6:
        yield f"it leaves {low:,} to {high:,} tokens open: more than the bound"
    if not 0 <= total["counted"] <= total["sampled"]:
        yield f"{total['counted']} were counted of {total['sampled']} sampled"
    off = total["outliers"] * total["sampled"]
    if not 0 <= off <= total["sampled"] or not math.isclose(off, round(off), abs_tol=1e-6):
        yield f"outliers of {total['outliers']:.3%} are no share of {total['sampled']}"


def _truncation_problems(
    told: int, records: Records, there: np.ndarray[Any, Any], rules: Mapping[str, Any]
) -> list[str]:
    """Hold the number of cut answers against those that ended for their length below what was asked for."""
    ended = np.array([reason == "length" for reason in records.text["finish_reason"]], dtype=bool) & there
    if rules["output_length"] != "natural":
        # What was asked for is each turn's own length, which is not kept.
        most = int(ended.sum())
        return [f"{told} answers are said to be cut, {most} ended for their length"] if told > most else []
    short = records.number["output_tokens"] < _CUT_BELOW * rules["max_tokens"] - 1
    return differs("truncated", told, int((ended & short).sum()))
