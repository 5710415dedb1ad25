"""Whether answers were as good under load: a tier's accuracy, and the phases in which questions were asked."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pytest_agentperf.recheck.chance import (
    below_p,
    paired_drop_problems,
    paired_p,
    reference_drop_problems,
)
from pytest_agentperf.recheck.findings import differs
from pytest_agentperf.recheck.numbers import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentperf.recheck.course import Course
    from pytest_agentperf.recheck.findings import Findings
    from pytest_agentperf.recheck.numbers import Records

Phase = dict[str, Any]
_MARKS = frozenset("10-")
_LOAD_SHARE = 4
"""Questions in flight are at most this part of the agents."""
_UNFINISHED = "accuracy_unfinished"
_CODES = frozenset({"load_worker_died", "server_crashed", _UNFINISHED})


def check_accuracy(tier: Mapping[str, Any], entry: Mapping[str, Any], found: Findings) -> None:
    """Make a tier's accuracy again from the marks of its questions, the rules, and the suite's reference."""
    where, told = tier["tier"]["name"], tier["accuracy"]
    rules, suite = entry["ruleset"], entry["suite"].get("accuracy")
    why, pair = _asked(tier, entry)
    if pair is None:
        wrong = differs("its status", told["status"], "not measured")
        wrong += [f"there is {name}, and {why}" for name in ("alone", "reference") if told[name] is not None]
        wrong += differs("its phase", told["phase"], None)
        if wrong:
            found.tell("accuracy", where, wrong, "")
        else:
            found.skip("accuracy", where, told["reason"] or why)
        return
    alone, loaded = (phase["accuracy"] for phase in pair)
    declared = suite["reference"]
    rate = rules["accuracy_alpha"] / (1 if declared is None else 2)
    power, asked = rules["accuracy_power"], len(loaded["marks"])
    pairs = list(zip(alone["marks"], loaded["marks"], strict=True))
    worse, better = (
        sum((a == "1", b == "1") == way for a, b in pairs) for way in ((True, False), (False, True))
    )
    score, p = loaded["marks"].count("1") / asked, paired_p(worse, better)
    expected = {
        "score": score,
        "against": alone["marks"].count("1") / asked,
        "p_value": p,
        "error_rate": rate,
        "output_tokens_drift": _drift(loaded, alone),
    }
    wrong = _compared("alone", told["alone"], expected)
    if not wrong:
        drop = told["alone"]["detectable_drop"]
        wrong += paired_drop_problems(drop, asked, min(worse, better), rate, power)
    dropped = p <= rate
    if declared is None:
        wrong += differs("its reference", told["reference"], None)
    else:
        p = below_p(loaded["marks"].count("1"), asked, declared["score"])
        expected |= {
            "against": declared["score"],
            "p_value": p,
            "output_tokens_drift": _drift(loaded, declared),
        }
        against = _compared("reference", told["reference"], expected)
        if not against:
            drop = told["reference"]["detectable_drop"]
            against = reference_drop_problems(drop, asked, declared["score"], rate, power)
        wrong += against
        dropped |= p <= rate
    wrong += differs("its status", told["status"], "dropped" if dropped else "verified")
    wrong += differs("its phase", told["phase"], pair[1]["phase"])
    if (told["reason"] is None) == dropped:
        wrong.append("only a drop has a reason, and it must")
    found.tell(
        "accuracy",
        where,
        wrong,
        f"{told['status']}: {loaded['marks'].count('1')} of {asked} right under load, "
        f"{alone['marks'].count('1')} alone; status, p-values, error rate and drops follow from these marks",
    )
    found.skip(
        "marks", where, "no answer is kept: which ones were right, and how long they were, is as stated"
    )
    if declared is not None:
        text = f"the suite's, taken as exact: {declared['score']:g} by {declared['source']!r}"
        found.skip("reference", where, text)


def _asked(tier: Mapping[str, Any], entry: Mapping[str, Any]) -> tuple[str, tuple[Phase, Phase] | None]:
    """Return the phases in which the questions were asked, alone and at the capacity, or why there are none."""
    name = tier["deployment"]
    n_agents = tier["agents"]
    if n_agents is None and tier["accuracy"]["status"] == "dropped":
        n_agents = _refused_at(tier, entry)
    if not n_agents:
        return "no capacity stands", None
    if entry["suite"].get("accuracy") is None:
        return "the suite names no questions", None
    if entry["system"]["deployments"][name].get("simulate") is not None:
        return "the system is simulated", None
    pair = []
    for beside in (0, n_agents):
        wanted = ("accuracy", name, beside)
        phases = (p for p in entry["phases"] if (p["kind"], p["deployment"], p["n_agents"]) == wanted)
        phase = next(phases, None)
        if phase is None or phase["accuracy"] is None:
            return f"no answers were marked beside {beside} agents", None
        pair.append(phase)
    one, other = (phase["accuracy"] for phase in pair)
    if (one["questions_digest"], len(one["marks"])) != (other["questions_digest"], len(other["marks"])):
        return "the questions have changed between the two times that they were asked", None
    return "", (pair[0], pair[1])


def _refused_at(tier: Mapping[str, Any], entry: Mapping[str, Any]) -> int | None:
    """Return the capacity that was not accepted: what the verdicts give, or where a model lay between them."""
    passed: int = tier["passed_max"]
    if entry["ruleset"].get("search") != "model" or tier.get("gate"):
        return passed
    number, failed = tier["accuracy"]["phase"], tier["failed_min"]
    phase = next((p for p in entry["phases"] if (p["phase"], p["kind"]) == (number, "accuracy")), None)
    if phase is None or phase["n_agents"] < passed or (failed is not None and phase["n_agents"] >= failed):
        return passed
    return int(phase["n_agents"])


def _compared(name: str, told: Mapping[str, Any] | None, expected: Mapping[str, Any]) -> list[str]:
    if told is None:
        return [f"{name} is missing, and there are marks to make it from"]
    return [
        text for field, value in expected.items() for text in differs(f"{name}.{field}", told[field], value)
    ]


def _drift(score: Mapping[str, Any], before: Mapping[str, Any]) -> float | None:
    now, then = score["output_tokens_mean"], before.get("output_tokens_mean")
    return now / then - 1 if now is not None and then else None


def check_asking(phase: Phase, entry: Mapping[str, Any], where: str, found: Findings) -> None:
    """Check an accuracy phase for what it says of itself: nothing of it is measured but the marks."""
    wrong = [f"it has {name}, and is never measured" for name in ("metrics", "verdicts") if phase[name]]
    if not phase["start_ns"] == phase["window_open_ns"] == phase["window_close_ns"] <= phase["end_ns"]:
        wrong.append("it has a window, and is never measured")
    codes = {reason["code"] for reason in phase["invalid"]}
    if bool(codes) == (phase["accuracy"] is not None):
        wrong.append("either it is INVALID, or its answers are marked")
    wrong += [f"{code} is no reason that it can have" for code in sorted(codes - _CODES)]
    wrong += differs("timed_out", phase["timed_out"], _UNFINISHED in codes)
    limit_s = entry["ruleset"]["accuracy_max_s"]
    if _UNFINISHED in codes and phase["end_ns"] - phase["start_ns"] < limit_s * NS_PER_S:
        wrong.append(f"it was given up for its time before its {limit_s:g} s were up")
    marked = "none are marked"
    if phase["accuracy"] is not None:
        wrong += _score_problems(phase["accuracy"], phase["n_agents"], entry["suite"].get("accuracy"))
        marked = f"{len(phase['accuracy']['marks'])} answers marked"
    found.tell("questions", where, wrong, marked)
    if codes:
        found.skip("stated reasons", where, f"{', '.join(sorted(codes))}: no record can show it")


def _score_problems(score: Mapping[str, Any], n_agents: int, suite: Mapping[str, Any] | None) -> list[str]:
    if suite is None:
        return ["the suite names no questions"]
    marks = score["marks"]
    wrong = differs(
        "concurrency", score["concurrency"], max(1, min(suite["concurrency"], n_agents // _LOAD_SHARE))
    )
    bundled, name = suite["questions"].startswith("bundled:"), suite["questions"].removeprefix("bundled:")
    # A publishable bundle has no paths.
    if "<path>" not in name:
        wrong += differs("the set's name", score["questions"], name if bundled else PurePath(name).stem)
    if not marks or set(marks) - _MARKS or len(marks) % suite["repeats"]:
        wrong.append("its marks are none of a whole set of questions")
    answered = len(marks) - marks.count("-")
    if score["cut"] > answered or (score["output_tokens_mean"] is not None and not answered):
        wrong.append(f"{score['cut']} answers were cut, or have tokens, of {answered} that came")
    return wrong


def check_load(phase: Phase, records: Records, course: Course, where: str, found: Findings) -> None:
    """Check that agents loaded the server while the questions were asked: of whom, what ended is recorded."""
    n_agents, failed = phase["n_agents"], int(records.failed.sum())
    if not n_agents:
        found.tell(
            "load",
            where,
            [f"{len(records)} requests of agents"] if len(records) else [],
            "no agent beside it",
        )
        return
    wrong = []
    # An agent without a record has a request under way, which is load.
    told = len(records) and len(course.agents) == n_agents
    if phase["accuracy"] is not None and told and failed == len(records):
        wrong.append(f"all {failed} requests of its agents failed: the questions were asked beside no load")
    late = sum((t or 0) > phase["end_ns"] for t in records.exact["t_end_ns"])
    wrong += [f"{late} requests ended after it did"] if late else []
    text = f"{len(records):,} requests of {len(course.agents)} of {n_agents} agents ended in it"
    found.tell(
        "load", where, wrong, text + (f", {failed / len(records):.1%} of them failed" if len(records) else "")
    )
