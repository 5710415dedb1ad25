"""Verdicts, capacities and normalisations, made again: METHODOLOGY.md §4.14 to 4.18."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.recheck.findings import differs
from pytest_agentperf.recheck.gate import Gate
from pytest_agentperf.recheck.modelled import model_problems
from pytest_agentperf.recheck.path import LOAD_GENERATOR, Path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.recheck.findings import Findings

Phase = dict[str, Any]
PROBES = ("ramp", "bisect", "confirm", "gate", "model")


def targets_of(entry: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the targets of the edition, by tier."""
    tiers: dict[str, dict[str, float]] = entry["suite"]["editions"][entry["edition"]]["tiers"]
    return tiers


def check_verdicts(
    phase: Phase,
    numbers: Mapping[str, Any] | None,
    entry: Mapping[str, Any],
    crashed_before: bool,
    where: str,
    found: Findings,
) -> None:
    """Check each tier's verdict on a phase."""
    targets, wrong, seen = targets_of(entry), [], []
    for told in phase["verdicts"]:
        target = targets.get(told["tier"])
        if target is None:
            wrong.append(f"{told['tier']} is no tier of the edition")
            continue
        certain = entry["ruleset"].get("error_rate") is not None
        # What was certain before the time was up stays so.
        timed_out = phase["timed_out"] and not (certain and told["verdict"] in ("PASS", "FAIL"))
        judged = {**phase, "timed_out": timed_out}
        verdict, violated, margins = verdict_of(judged, numbers, target, crashed_before)
        if certain and numbers is None and not phase["invalid"] and told["verdict"] == "FAIL":
            # First answers that took so long that no steady state came: there is no window then.
            verdict, violated, margins = "FAIL", ["ttft_p95"], {}
        if certain and "INVALID" not in (verdict, told["verdict"]):
            # A verdict at an error rate comes before all answers have: FAIL may rest on those that never did.
            if told["verdict"] == "PASS" and verdict == "FAIL":
                wrong.append(f"{told['tier']} is PASS, and its point estimates violate {', '.join(violated)}")
            verdict, violated = told["verdict"], told["violated"]
        seen.append(f"{told['tier']} {verdict}")
        wrong += differs(f"the verdict for {told['tier']}", told["verdict"], verdict)
        wrong += differs(f"what is violated of {told['tier']}", told["violated"], violated)
        for name, margin in margins.items():
            wrong += differs(f"{name} of {told['tier']}", told[name], margin)
    found.tell("verdicts", where, wrong, ", ".join(seen))
    if entry["ruleset"].get("error_rate") is not None and phase["verdicts"]:
        found.skip("certainty", where, "verdicts at an error rate are held against the point estimates only")


def verdict_of(
    phase: Phase, numbers: Mapping[str, Any] | None, target: Mapping[str, float], crashed_before: bool
) -> tuple[str, list[str], dict[str, float | None]]:
    """Return the verdict, the violated targets, and what is left of each target as a share."""
    codes = {reason["code"] for reason in phase["invalid"]}
    if "server_crashed" in codes and crashed_before:
        return "FAIL", ["survival"], {}
    if numbers is None or codes:
        return "INVALID", [], {}
    speed, ttft = numbers["output_speed_p25_tok_s"], numbers["ttft_p95_s"]
    wanted, limit = target["output_speed_p25_tok_s"], target["ttft_p95_s"]
    violated = []
    if speed is not None and speed < wanted:
        violated.append("output_speed_p25")
    if ttft is None or ttft > limit:
        violated.append("ttft_p95")
    margins = {
        "speed_margin": None if speed is None else speed / wanted - 1,
        "ttft_margin": None if ttft is None else 1 - ttft / limit,
    }
    if violated:
        return "FAIL", violated, margins
    return ("INVALID" if phase["timed_out"] or speed is None else "PASS"), [], margins


def check_search(
    entry: Mapping[str, Any],
    wanted_by: Mapping[tuple[int, int], str],
    gates: Mapping[str, Mapping[str, Any]],
    found: Findings,
) -> None:
    """Check that every probe is the one that was asked for, and every answer what its verdicts give.

    `wanted_by`: the tier for whose sake a phase was run, by its number and attempt, as far as a journal tells;
    `gates`: what each tier was held to, none for a search.
    """
    range_ = entry["search"]
    if range_ is None:
        found.skip("search", "run", "the leaderboard does not say where the search could go")
        return
    rules = dict(entry["ruleset"])
    rules["invalid_retries"] += range_.get("retry_invalid", 0)
    for name, deployment in entry["system"]["deployments"].items():
        phases = [p for p in entry["phases"] if p["deployment"] == name and p["kind"] in PROBES]
        if not phases:
            continue
        tiers = sorted({verdict["tier"] for phase in phases for verdict in phase["verdicts"]})
        if not gates and rules.get("search") == "model":
            found.skip(
                "search", f"deployment {name}", "a model chose its probes; its answer's bounds are checked"
            )
            for tier in entry["tiers"]:
                if tier["deployment"] == name and tier["complete"]:
                    heard = [_heard(p, wanted_by.get((p["phase"], p["attempt"]))) for p in phases]
                    text = f"{tier['agents']} agents lie between what passed and what failed"
                    found.tell("capacity", tier["tier"]["name"], model_problems(tier, heard), text)
            continue
        paths: dict[str, Path | Gate]
        if gates:
            retries = rules["invalid_retries"]
            paths = {
                tier: Gate(gates[tier], range_["max_agents"], retries) for tier in tiers if tier in gates
            }
        else:
            start = range_["start"] or deployment["search_start"] or 1
            paths = {tier: Path(start, range_["max_agents"], rules) for tier in tiers}
        wrong = _follow(phases, paths, wanted_by)
        found.tell("search", f"deployment {name}", wrong, " → ".join(str(p["n_agents"]) for p in phases))
        for tier in entry["tiers"]:
            path = paths.get(tier["tier"]["name"]) if tier["deployment"] == name else None
            if isinstance(path, Gate):
                text = f"{path.verdict} at {path.threshold} agents follows from the verdicts"
                found.tell("gate", tier["tier"]["name"], path.problems(tier), text)
            elif path is not None:
                _check_outcome(tier, path, found)


def _heard(phase: Phase, asking: str | None) -> Phase:
    """Return a phase with the verdicts that count: it ended as soon as it was certain for the tier that asked."""
    heard = [v for v in phase["verdicts"] if v["verdict"] != "INCONCLUSIVE" or asking in (None, v["tier"])]
    return {**phase, "verdicts": heard}


def _follow(
    phases: Sequence[Phase], paths: Mapping[str, Path | Gate], wanted_by: Mapping[tuple[int, int], str]
) -> list[str]:
    """Tell all verdicts in order; returns where a phase is not the one that was asked for."""
    wrong: list[str] = []
    tried = dict.fromkeys({p["n_agents"] for p in phases}, 0)
    for phase in phases:
        n, kind = phase["n_agents"], phase["kind"]
        asking = wanted_by.get((phase["phase"], phase["attempt"]))
        wants = {tier: path.wanted() for tier, path in paths.items() if asking in (None, tier)}
        if (n, kind) not in wants.values():
            return [
                *wrong,
                f"phase {phase['phase']} is a {kind} at {n} agents, and what is wanted is {wants}",
            ]
        if phase["attempt"] != tried[n]:
            wrong.append(
                f"phase {phase['phase']} is attempt {phase['attempt']} at {n} agents, {tried[n]} came before"
            )
        tried[n] += 1
        codes = {reason["code"] for reason in phase["invalid"]}
        for verdict in phase["verdicts"]:
            path = paths.get(verdict["tier"])
            if verdict["verdict"] == "INCONCLUSIVE" and wants.get(verdict["tier"]) != (n, kind):
                continue  # it ended before it was certain for this tier too
            if isinstance(path, Gate):
                path.take(n, verdict)
            elif path is not None:
                path.take(n, verdict["verdict"], load_generator=bool(codes) and codes <= LOAD_GENERATOR)
    return wrong


def _check_outcome(tier: Mapping[str, Any], path: Path, found: Findings) -> None:
    outcome, where = path.outcome(), tier["tier"]["name"]
    refused = tier["accuracy"]["status"] == "dropped"
    wrong = differs("agents", tier["agents"], None if refused else outcome.agents)
    for name in ("at_least", "confirmed", "passed_max", "failed_min"):
        wrong += differs(name, tier[name], getattr(outcome, name))
    wrong += differs("complete", tier["complete"], outcome.ended)
    verdict = None if not outcome.ended else "INVALID" if refused or outcome.unstable else "PASS"
    wrong += differs("the verdict", tier["verdict"], verdict)
    sign = "at least " if outcome.at_least else ""
    found.tell("capacity", where, wrong, f"{sign}{outcome.agents} agents follow from the verdicts")


def check_tier(
    tier: Mapping[str, Any], entry: Mapping[str, Any], numbers: Mapping[tuple[int, int], Any], found: Findings
) -> None:
    """Check a tier's target, its accelerators, the phase it publishes, and all that is divided by something."""
    where, deployment = tier["tier"]["name"], entry["system"]["deployments"].get(tier["deployment"])
    target = targets_of(entry).get(where, {})
    wrong = [
        text
        for name in ("output_speed_p25_tok_s", "ttft_p95_s")
        for text in differs(f"the target's {name}", tier["tier"][name], target.get(name))
    ]
    if deployment is None:
        wrong.append(f"its deployment {tier['deployment']!r} is none of the system")
    else:
        wrong += differs("accelerators", tier["accelerators"], deployment["allocated_accelerators"])
    found.tell("target", where, wrong, "that of the suite's edition, on the system's accelerators")
    passes = [
        phase for phase in entry["phases"]
        if phase["deployment"] == tier["deployment"] and phase["kind"] in PROBES and _said(phase, where) == "PASS"
    ]  # fmt: skip
    decided = tier["agents"] or (tier["passed_max"] if tier["accuracy"]["status"] == "dropped" else None)
    at_capacity = [phase for phase in passes if decided and phase["n_agents"] == decided]
    published = at_capacity[-1] if at_capacity else None
    wrong = differs("the published phase", tier["published_phase"], published and published["phase"])
    wrong += differs("metrics", tier["metrics"], published and published["metrics"])
    wrong += differs("energy", tier["energy"], published and published["energy"])
    wrong += differs("the binding constraint", tier["binding_constraint"], _binding(tier, entry, published))
    found.tell(
        "published phase",
        where,
        wrong,
        f"phase {published['phase']}" if published else "none: no capacity above 0 stands",
    )
    if tier["normalisation"] is None:
        wrong = ["a capacity has no normalisation"] if published and tier["agents"] else []
        found.tell("normalisation", where, wrong, "none: no capacity above 0 stands")
        return
    computed = None if published is None else numbers.get((published["phase"], published["attempt"]))
    if published is None or computed is None or deployment is None:
        found.tell("normalisation", where, ["it is given, and there is nothing that could be divided"], "")
        return
    expected = normalised(
        tier["agents"],
        computed,
        published["energy"]["mean_power_w"],
        published["power"]["idle_power_w"],
        tier,
        entry["system"],
    )
    wrong = [
        text for name, value in expected.items() for text in differs(name, tier["normalisation"][name], value)
    ]
    found.tell(
        "normalisation",
        where,
        wrong,
        "per accelerator, system, rack, kW, MW and $/h; energy and cost per unit of work",
    )


def _paid(
    price: Mapping[str, Any] | None, count: int, power_w: float | None, idle_w: float | None
) -> dict[str, float | None]:
    """Return the dollars of an hour: with load, for electricity alone, and over the year."""
    unknown: dict[str, float | None] = {"usd_per_hour": None, "electricity_usd_per_hour": None, "mean": None}
    if not price:
        return unknown
    if price["usd_per_accelerator_hour"]:
        rent = price["usd_per_accelerator_hour"] * count
        return {**unknown, "usd_per_hour": rent, "mean": rent}
    capital, power, pue = price["capital"], price["electricity"], price["pue"]
    if not (power and pue and power_w):
        return unknown
    fixed = capital["usd_per_accelerator"] * count / capital["amortisation_years"] / (24 * 365)
    loaded, idle = (
        watts and watts / 1000 * pue["ratio"] * power["usd_per_kwh"] for watts in (power_w, idle_w or 0.0)
    )
    share = price["utilisation"] and price["utilisation"]["share"]
    mean = None
    if share == 1 or (share and idle_w is not None):
        mean = fixed + share * loaded + (1 - share) * idle
    return {"usd_per_hour": fixed + loaded, "electricity_usd_per_hour": loaded, "mean": mean}


def normalised(
    agents: int,
    numbers: Mapping[str, Any],
    power_w: float | None,
    idle_w: float | None,
    tier: Mapping[str, Any],
    system: Mapping[str, Any],
) -> dict[str, Any]:
    """Return agents and throughput by what they took (§4.18); nothing unknown becomes 0."""
    count, sizes = system["deployments"][tier["deployment"]]["allocated_accelerators"], system["accelerator"]
    power_w = power_w or None
    paid = _paid(system.get("price"), count, power_w, idle_w)
    price, mean = paid["usd_per_hour"], paid.pop("mean")
    share = ((system.get("price") or {}).get("utilisation") or {}).get("share")
    per_s = {
        name: numbers[name] / numbers["window_s"] or None for name in ("requests", "trajectories_in_window")
    }
    throughput = numbers["throughput_tok_s"]

    def by(value: float) -> dict[str, float | None]:
        return {
            "per_accelerator": value / count,
            "per_system": sizes["per_system"] and value / count * sizes["per_system"],
            "per_rack": sizes["per_rack"] and value / count * sizes["per_rack"],
            "per_kw": power_w and value / (power_w / 1e3),
            "per_mw": power_w and value / (power_w / 1e6),
            "per_usd_hour": price and value / price,
        }

    trajectories = per_s["trajectories_in_window"]
    return {
        "agents": by(agents),
        "throughput_tok_s": by(throughput),
        "power_per_accelerator_w": power_w and power_w / count,
        "energy_per_output_token_j": power_w and (power_w / throughput if throughput else None),
        "energy_per_request_j": power_w and per_s["requests"] and power_w / per_s["requests"],
        "energy_per_trajectory_j": power_w and trajectories and power_w / trajectories,
        **paid,
        "cost_per_agent_hour_usd": mean and share and mean / (agents * share),
        "tco_per_agent_year_usd": mean and mean * 24 * 365 / agents,
        "cost_per_trajectory_usd": price and trajectories and price / 3600 / trajectories,
        "extrapolated": [
            f"per_{one}" for one in ("system", "rack") if sizes[f"per_{one}"] and count % sizes[f"per_{one}"]
        ],
    }


def _said(phase: Mapping[str, Any], tier: str) -> str | None:
    return next((verdict["verdict"] for verdict in phase["verdicts"] if verdict["tier"] == tier), None)


def _binding(tier: Mapping[str, Any], entry: Mapping[str, Any], published: Phase | None) -> str | None:
    """Return what decides: the violated target at the smallest number that fails, or the tighter one."""
    name = tier["tier"]["name"]
    failing = [
        p
        for p in entry["phases"]
        if p["deployment"] == tier["deployment"]
        and p["kind"] in PROBES
        and p["n_agents"] == tier["failed_min"]
        and _said(p, name) == "FAIL"
    ]
    phase = failing[-1] if failing else published
    if phase is None:
        return None
    verdict = next(one for one in phase["verdicts"] if one["tier"] == name)
    speed, ttft, violated = verdict["speed_margin"], verdict["ttft_margin"], verdict["violated"]
    if len(violated) == 1:
        return str(violated[0])
    if ttft is None:
        return str(violated[-1]) if violated else None
    return "ttft_p95" if speed is None or ttft < speed else "output_speed_p25"
