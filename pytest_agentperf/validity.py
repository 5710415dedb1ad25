"""Whether a phase measured the server, or its own load generator, a broken network, a server that was gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.confidence import PhaseConfidence, log_error
from pytest_agentperf.core.verdict import InvalidReason, TierVerdict, Verdict, certain, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_agentperf.core.metrics import PhaseMetrics
    from pytest_agentperf.core.phase import Absence
    from pytest_agentperf.core.ports import Server
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.core.ruleset import Ruleset
    from pytest_agentperf.core.slo import SloTier
    from pytest_agentperf.core.verdict import Decision

SERVER_GONE_CODES = frozenset({"server_crashed", "network_failed"})
"""Reasons after which the server has to be brought back, or waited for."""
_CONNECTION_FAILURES = frozenset({"connect", "timeout_connect", "closed_before_response", "cut"})
# So many failures at a phase's end, and nothing else, are a reason to ask whether the server still works.
_LAST_ANSWERS = 8


def invalid_reasons(
    columns: RequestColumns,
    load: Mapping[str, Any],
    idle: str,
    rules: Ruleset,
    server: Server,
    still_works: Callable[[], bool] | None,
) -> Iterator[InvalidReason]:
    """Yield why a phase is no measurement of the server, as far as its records and the server tell.

    `still_works()` asks the server for a short answer, alone; None where it cannot be asked.
    """
    if "failed" in load:
        yield InvalidReason(code=load["code"], what=load["failed"], remedy=load["remedy"])
    limit_s = rules.client_lag_p99_max_s
    for name, what in (("lag_p99_s", "read late by"), ("send_late_p99_s", "sent late by")):
        if load.get(name, 0.0) > limit_s:
            yield InvalidReason(
                code="load_generator_saturated",
                what=f"a load worker{_on_host(load, name)} {what} {load[name] * 1e3:.0f} ms at P99 "
                f"(limit {limit_s * 1e3:.0f} ms)",
                remedy="use more load workers (--agentperf-workers, --agentperf-load) or free the CPU there",
            )
    if (off_s := load.get("clock_error_s", 0.0)) > rules.clock_error_max_s:
        worst = max(load["hosts"], key=lambda host: host["clock_error_s"])
        yield InvalidReason(
            code="load_clock_unsure",
            what=f"the clock of load host {worst['name']} may be off by {off_s * 1e3:.0f} ms (limit "
            f"{rules.clock_error_max_s * 1e3:.0f} ms)",
            remedy="use hosts that are nearer, and let their clocks be disciplined (chrony, ntpd)",
        )
    if ours := columns.texts["failure"].count("client_resources"):
        yield InvalidReason(
            code="client_resources",
            what=f"the load generator had no descriptor, port or memory left for {ours} connections",
            remedy="raise `ulimit -n` and net.ipv4.ip_local_port_range, or use fewer agents per host",
        )
    if idle == "not reached":
        yield InvalidReason(
            code="server_not_idle",
            what=f"the server still had requests {rules.idle_max_s:g} s after the phase before",
            remedy="see that nobody else uses it, and that it ends requests whose client is gone",
        )
    if columns.failed.any() and (state := _server_state(server, columns, still_works)) != "alive":
        broken = sum(failure in _CONNECTION_FAILURES for failure in columns.texts["failure"])
        dead = state == "dead"
        tail = server.log_tail() if dead else ()
        yield InvalidReason(
            code="server_crashed" if dead else "network_failed",
            what=f"the server was {'gone' if dead else 'out of reach'} at the end: {columns.failed.sum()} requests "
            f"failed, {broken} of them lost the connection"
            + (f"; the last it said: {tail[-1]}" if tail else ""),
            remedy="see the server's log; a second crash at the same number of agents is FAIL"
            if dead
            else "see to the network between this machine and the server",
            log_tail=tail,
        )


def _on_host(load: Mapping[str, Any], name: str) -> str:
    """Return which of several load hosts was the worst."""
    hosts = [host for host in load.get("hosts", ()) if host[name] is not None]
    return f" on {max(hosts, key=lambda host: host[name])['name']}" if hosts else ""


def with_absence(found: tuple[InvalidReason, ...], absence: Absence) -> tuple[InvalidReason, ...]:
    """Return the reasons of a phase that was broken off as its server was gone, also where that is back by now."""
    if any(reason.code in SERVER_GONE_CODES for reason in found):
        return found
    if absence == "refusing":
        reason = InvalidReason(
            code="server_crashed",
            what="the phase was broken off: for half a minute the server refused every request, one beside the load "
            "included, and had none under way; left alone, it works again",
            remedy="see the logs of the engine behind its front; if it happens again at the same number of agents, "
            "that is FAIL",
        )
    else:
        reason = InvalidReason(
            code="network_failed",
            what="the phase was broken off: the server was gone for a while, and is back",
            remedy="see the server's log, and to the network between this machine and it",
        )
    return (*found, reason)


def _server_state(server: Server, columns: RequestColumns, still_works: Callable[[], bool] | None) -> str:
    """Say how the server is at a phase's end; dead, too, if its front lives and the engine behind it does not."""
    state = server.state()
    last = columns["t_end_ns"].argsort()[-_LAST_ANSWERS:]
    if state == "alive" and still_works is not None and columns.failed[last].all() and not still_works():
        return "dead"
    return state


def verdict_of(
    tier: SloTier,
    metrics: PhaseMetrics | None,
    invalid: tuple[InvalidReason, ...],
    *,
    timed_out: bool,
    crashed_at: int | None,
    decision: Decision | None,
    confidence: PhaseConfidence | None = None,
) -> TierVerdict:
    """Return what a phase says of a tier.

    `crashed_at`: the server crashed at that number of agents in an earlier attempt; `decision`: what is certain, where
    a ruleset states an error rate.
    """
    if crashed_at is not None and any(reason.code == "server_crashed" for reason in invalid):
        return TierVerdict(
            tier=tier.name,
            verdict=Verdict.FAIL,
            violated=("survival",),
            reason=f"the server crashed again at {crashed_at} agents",
        )
    known = decision is not None and decision.verdict is not Verdict.INCONCLUSIVE
    if decision is not None and known and metrics is None and not invalid:
        # There was no window to measure in.
        return TierVerdict(
            tier=tier.name, verdict=decision.verdict, violated=decision.violated, reason=decision.reason
        )
    judged = judge(tier, metrics, invalid=invalid, timed_out=timed_out and not known)
    judged = with_errors(judged, confidence)
    return judged if decision is None else certain(judged, decision)


def with_errors(judged: TierVerdict, confidence: PhaseConfidence | None) -> TierVerdict:
    """Return a verdict with the standard errors that the percentiles' intervals say."""
    if confidence is None:
        return judged
    return judged.model_copy(
        update={
            "speed_log_error": log_error(confidence.output_speed_p25_tok_s),
            "ttft_log_error": log_error(confidence.ttft_p95_s),
        }
    )
