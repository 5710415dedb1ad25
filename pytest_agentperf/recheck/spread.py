"""How far percentiles can be off, resampled anew; and between which numbers of agents a capacity lies by that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_agentperf.recheck.findings import differs
from pytest_agentperf.recheck.numbers import speeds, ttfts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from pytest_agentperf.recheck.numbers import Records

LEVEL = 0.95
TRAJECTORIES_MIN = 10
_RESAMPLES = 1_000
_CHUNK = 50
# Of an end's share of resamples beyond it, 2.5 %: what two bootstraps of a thousand resamples differ by at random.
_BEYOND = (0.003, 0.065)


def confidence_problems(
    records: Records, phase: Mapping[str, Any], numbers: Mapping[str, Any] | None, rules: Mapping[str, Any]
) -> list[str]:
    """Return where a phase's confidence intervals are not those of its requests, but for the luck of resampling."""
    told = phase["confidence"]
    if numbers is None or not phase["verdicts"]:
        return [] if told is None else ["there is one, and nothing that was judged"]
    if told is None:
        return ["there is none, and its percentiles were judged"]
    counted = records.between("t_sent_ns", phase["window_open_ns"], phase["window_close_ns"])
    speed, has_speed = speeds(records)
    wrong = []
    for name, values, rows, percent in (
        ("ttft_p95_s", ttfts(records), counted, rules["ttft_percentile"]),
        ("output_speed_p25_tok_s", speed, counted & has_speed, rules["output_speed_percentile"]),
    ):
        wrong += [
            f"{name}: {text}" for text in _problems(told[name], *_clusters(records, values, rows), percent)
        ]
    return wrong


def _clusters(
    records: Records, values: NDArray[np.float64], rows: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Return values in order, to which trajectory each belongs, and how many trajectories there are."""
    keys: dict[tuple[int | None, int | None], int] = {}
    pairs = zip(records.exact["agent"], records.exact["ordinal"], strict=True)
    members = np.array(
        [keys.setdefault(pair, len(keys)) for pair, x in zip(pairs, rows, strict=True) if x], dtype=np.int64
    )
    order = np.argsort(values[rows], kind="stable")
    return values[rows][order], members[order], len(keys)


def _problems(
    told: Mapping[str, Any] | None,
    values: NDArray[np.float64],
    members: NDArray[np.int64],
    count: int,
    percent: float,
) -> list[str]:
    if told is None:
        return [] if count < TRAJECTORIES_MIN else [f"no interval, and there are {count} trajectories"]
    wrong = differs("its level", told["level"], LEVEL) + differs(
        "the number of trajectories", told["trajectories"], count
    )
    if count < TRAJECTORIES_MIN:
        return [*wrong, f"an interval of {count} trajectories: too few"]
    drawn = _resampled(values, members, count, percent / 100)
    for end, sign in (("low", 1), ("high", -1)):
        at = sign * (math.inf if told[end] is None else told[end])
        outside, reached = float(np.mean(sign * drawn < at)), float(np.mean(sign * drawn <= at))
        if outside > _BEYOND[1] or reached < _BEYOND[0]:
            wrong.append(f"its {end} end is {told[end]}, and {outside:.1%} of resamples lie beyond it")
    return wrong


def _resampled(
    values: NDArray[np.float64], members: NDArray[np.int64], count: int, share: float
) -> NDArray[np.float64]:
    """Return the percentile of each of many draws of as many trajectories, with replacement."""
    random = np.random.default_rng(20_260_612)
    # Every draw counts in a range of its own.
    first = np.arange(_CHUNK)[:, None] * count
    found = []
    for _ in range(_RESAMPLES // _CHUNK):
        drawn = random.integers(count, size=(_CHUNK, count))
        times = np.bincount((first + drawn).ravel(), minlength=_CHUNK * count).reshape(_CHUNK, count)
        upto = np.cumsum(times[:, members], axis=1, dtype=np.int64)
        found.append(values[(upto >= share * upto[:, -1:]).argmax(axis=1)])
    return np.concatenate(found)


def interval_problems(
    tier: Mapping[str, Any], phases: Iterable[Mapping[str, Any]], rules: Mapping[str, Any]
) -> list[str]:
    """Return where a capacity's interval is not what its probes give; a model's is only held against its answer."""
    told, error_rate = tier["interval"], rules.get("error_rate")
    if tier["agents"] is None or tier["gate"] is not None:
        return [] if told is None else ["one is given, and no search states a capacity"]
    if told is not None and told["method"] == "model":
        return [] if rules.get("search") == "model" else ["a model's is given, and the search had none"]
    name = tier["tier"]["name"]
    judged: dict[int, list[tuple[str, bool]]] = {}
    for phase in phases:
        for verdict in phase["verdicts"]:
            if verdict["tier"] == name and verdict["verdict"] in ("PASS", "FAIL"):
                sure = error_rate is not None or _sure(phase, verdict, tier["tier"])
                judged.setdefault(phase["n_agents"], []).append((verdict["verdict"], sure))
    passes = {n: all(one == ("PASS", True) for one in seen) for n, seen in judged.items()}
    fails = {n: all(one == ("FAIL", True) for one in seen) for n, seen in judged.items()}
    any_fail = [n for n, seen in judged.items() if any(verdict == "FAIL" for verdict, _ in seen)]
    any_pass = [n for n, seen in judged.items() if any(verdict == "PASS" for verdict, _ in seen)]
    low = max((n for n, x in passes.items() if x and n < min(any_fail, default=math.inf)), default=None)
    high = min((n for n, x in fails.items() if x and n > max(any_pass, default=0)), default=None)
    if tier["agents"] == 0:
        low = 0
    expected = (low, high)
    given = (None, None) if told is None else (told["low"], told["high"])
    wrong = differs("it", given, expected)
    if (None in expected) != (tier["interval_reason"] is not None):
        wrong.append("only what is open has a reason, and it must")
    if told is not None:
        wrong += differs("its level", told["level"], LEVEL if error_rate is None else 1 - error_rate)
    return wrong


def _sure(phase: Mapping[str, Any], verdict: Mapping[str, Any], target: Mapping[str, float]) -> bool:
    """Return whether a verdict stands wherever inside their intervals the percentiles lie."""
    if verdict["violated"] == ["survival"]:
        return True
    told = phase["confidence"] or {}
    speed, ttft = told.get("output_speed_p25_tok_s"), told.get("ttft_p95_s")
    wanted, limit = target["output_speed_p25_tok_s"], target["ttft_p95_s"]
    ends = {
        "slowest": speed["low"] if speed else -math.inf,
        "fastest": speed["high"] if speed else math.inf,
        "earliest": _infinite(ttft["low"]) if ttft else -math.inf,
        "latest": _infinite(ttft["high"]) if ttft else math.inf,
    }
    if verdict["verdict"] == "PASS":
        return bool(ends["slowest"] >= wanted and ends["latest"] <= limit)
    return bool(ends["fastest"] < wanted or ends["earliest"] > limit)


def _infinite(value: float | None) -> float:
    return math.inf if value is None else value
