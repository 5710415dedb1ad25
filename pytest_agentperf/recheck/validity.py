"""Whether a phase that is INVALID has to be, and one that is not may count: its reasons, held against its evidence.

Some reasons can be seen in the records. Others rest on what the run said of its server or of its own load generator;
they are listed as such, together with what the phase's figures would have said without them: nobody can hide a FAIL
behind a reason without its being seen that it is only a statement.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pytest_agentperf.recheck.findings import differs
from pytest_agentperf.recheck.judging import targets_of, verdict_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pytest_agentperf.recheck.findings import Findings
    from pytest_agentperf.recheck.numbers import Records

_CLOCK_ERROR_MAX_S = 0.5
"""Of rulesets that were recorded before they said it."""
_RECOUNTED = ("token_counts_off", "prompt_counts_off", "answers_truncated")
_GONE = ("server_crashed", "network_failed")


class _Ground(NamedTuple):
    """Whether a phase's figures give a reason, whether they must, and on whose word these figures rest."""

    given: bool
    must: bool
    word: str | None
    """None: it can be seen in the records."""


def check_validity(
    phase: Mapping[str, Any],
    records: Records,
    numbers: Mapping[str, Any] | None,
    entry: Mapping[str, Any],
    recounted: Collection[str],
    where: str,
    found: Findings,
    *,
    lateness_seen: bool,
) -> None:
    """Check a phase's reasons for being INVALID in both directions; `recounted`: those that its recounts give.

    `lateness_seen`: every request has a record, so that how late they were sent is in these.
    """
    codes = {reason["code"] for reason in phase["invalid"]}
    grounds = _grounds(phase, records, numbers, entry, recounted, lateness_seen=lateness_seen)
    wrong = [
        f"its own figures make it INVALID ({code}), and it does not say so"
        for code, ground in grounds.items()
        if ground.given and ground.must and code not in codes
    ]
    wrong += [
        f"it is said to be INVALID ({code}), and "
        + ("nothing in its figures gives that" if code in grounds else "no phase can be for that")
        for code in sorted(codes)
        if code not in grounds or not grounds[code].given
    ]
    wrong += _client_error_problems(phase, records)
    found.tell(
        "validity",
        where,
        wrong,
        f"INVALID: {', '.join(sorted(codes))}" if codes else "nothing in its figures speaks against it",
    )
    stated = {code: grounds[code].word for code in sorted(codes) if code in grounds and grounds[code].given}
    if stated and None not in stated.values():
        said = "; ".join(f"{code} rests on {word}" for code, word in stated.items())
        found.skip("stated reasons", where, f"{said}. {_otherwise(phase, numbers, entry)}")


def _grounds(
    phase: Mapping[str, Any],
    records: Records,
    numbers: Mapping[str, Any] | None,
    entry: Mapping[str, Any],
    recounted: Collection[str],
    *,
    lateness_seen: bool,
) -> dict[str, _Ground]:
    rules, load = entry["ruleset"], phase["load"]
    limit_s = rules["client_lag_p99_max_s"]
    late = (load["send_late_p99_s"] or 0.0) > limit_s
    saturated = late or (load["lag_p99_s"] or 0.0) > limit_s or _client_decides(phase, numbers, entry)
    clock_max_s = rules.get("clock_error_max_s", _CLOCK_ERROR_MAX_S)
    out_of = "client_resources" in records.text["failure"]
    broke_down = load["code"] if load["failed"] else None
    failed = int(records.failed.sum())
    of_server = f"what the run saw of the server ({failed} of {len(records)} requests failed)"
    texts = "recounts of answers whose texts are kept nowhere"
    grounds = {
        "load_generator_saturated": _Ground(
            saturated,
            True,
            None if late and lateness_seen else "the load generator's own lateness, lag and calibration",
        ),
        "load_clock_unsure": _Ground(
            (load["clock_error_s"] or 0.0) > clock_max_s, True, "clock exchanges with its hosts"
        ),
        "client_resources": _Ground(
            out_of or broke_down == "client_resources",
            True,
            None if out_of else "what the load generator said of its end",
        ),
        "load_worker_died": _Ground(
            broke_down == "load_worker_died", True, "what the load generator said of its end"
        ),
        "calibration_failed": _Ground(
            numbers is not None and load["calibration"] is None and load["chunks_per_s"] is not None,
            False,
            "a calibration of which nothing is kept",
        ),
        "server_not_idle": _Ground(
            phase["idle_before"] == "not reached", True, "what the server's metrics said before the phase"
        ),
        # A load generator that broke down after it left no request that could show it.
        **{code: _Ground(bool(failed or broke_down), False, of_server) for code in _GONE},
        **{code: _Ground(code in recounted, True, texts) for code in _RECOUNTED},
    }
    if rules["output_length"] == "natural":
        grounds["answers_truncated"] = grounds["answers_truncated"]._replace(word=None)
    return grounds


def _otherwise(phase: Mapping[str, Any], numbers: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> str:
    """Return what the figures would say, were there no reason against them."""
    if numbers is None:
        return "It has no figures that could say anything else"
    targets = targets_of(entry)
    plain = {**phase, "invalid": []}
    told = [
        f"{name} {verdict_of(plain, numbers, targets[name], False)[0]}"
        for name in (verdict["tier"] for verdict in phase["verdicts"])
        if name in targets
    ]
    return f"Without it the point estimates would say: {', '.join(told)}"


def _client_decides(
    phase: Mapping[str, Any], numbers: Mapping[str, Any] | None, entry: Mapping[str, Any]
) -> bool:
    """Return whether the load generator's own error could have changed a verdict."""
    error, share = phase["load"]["client_error"], entry["ruleset"]["client_error_max"]
    if not error or numbers is None:
        return False
    judged = {verdict["tier"] for verdict in phase["verdicts"]}
    return any(_bent(error, numbers, t, share) for name, t in targets_of(entry).items() if name in judged)


def _bent(
    error: Mapping[str, float], numbers: Mapping[str, Any], target: Mapping[str, float], share: float
) -> bool:
    ttft, limit = numbers["ttft_p95_s"], target["ttft_p95_s"]
    if error["ttft_s"] > share * limit and ttft is not None and ttft - error["ttft_s"] <= limit < ttft:
        return True
    speed, wanted = numbers["output_speed_p25_tok_s"], target["output_speed_p25_tok_s"]
    if speed is None or error["speed"] <= share:
        return False
    high = speed / (1 - error["speed"]) if error["speed"] < 1 else math.inf
    return bool(speed / (1 + error["speed"]) < wanted <= high)


def _client_error_problems(phase: Mapping[str, Any], records: Records) -> list[str]:
    """Hold the load generator's error against its calibration, and against its lag over the answers' time."""
    load = phase["load"]
    told, calibration = load["client_error"], load["calibration"]
    if told is None or calibration is None:
        return [] if told is None else ["there is a client_error, and no calibration"]
    lasted = records.seconds("t_last_ns", "t_first_ns")
    lasted = lasted[~records.failed & (lasted > 0)]
    lag_s = load["lag_p99_s"] or 0.0
    by_lag = lag_s / float(np.median(lasted)) if lasted.size else 0.0
    return differs(
        "client_error.ttft_s", told["ttft_s"], max(calibration["ttft_error_p99_s"], lag_s)
    ) + differs("client_error.speed", told["speed"], max(calibration["speed_error_p99"], by_lag))
