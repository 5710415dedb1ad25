"""Composes a leaderboard entry from a run, and says whether it is complete, valid and comparable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.checks import failures
from pytest_agentperf.core.leaderboard import (
    Digests,
    Entry,
    Flag,
    PhaseResult,
    SearchRange,
    Seeds,
    TierResult,
    combined_verification,
)
from pytest_agentperf.core.ruleset import Deviation
from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.checks import Check
    from pytest_agentperf.core.journal import RunBegun
    from pytest_agentperf.core.power import PowerSource


def dataset_deviations(settings: RunSettings, *, name: str, official: bool) -> list[Deviation]:
    """Return the deviation of a dataset that is not the one the ruleset names."""
    if official:
        return []
    return [
        Deviation(
            rule="dataset",
            expected=settings.ruleset.dataset,
            actual=name,
            reason="another dataset was replayed",
        )
    ]


def isolation_notes(
    settings: RunSettings, phases: Sequence[PhaseResult]
) -> tuple[list[Deviation], list[str]]:
    """Return what the servers' `cached_tokens` of first turns say about cache isolation (METHODOLOGY §4.7)."""
    limit = settings.ruleset.isolation_cached_tokens_max
    deviations, unverified = [], []
    for name in dict.fromkeys(phase.deployment for phase in phases):
        measured = [p.metrics for p in phases if p.deployment == name and p.kind != "warmup" and p.metrics]
        seen = [
            m.first_turn_cached_tokens_max for m in measured if m.first_turn_cached_tokens_max is not None
        ]
        if measured and not seen:
            unverified.append(f"isolation not verified: the server of {name} does not report cached_tokens")
        elif seen and max(seen) > limit:
            deviations.append(
                Deviation(
                    rule="isolation_cached_tokens_max",
                    expected=f"at most {limit}",
                    actual=str(max(seen)),
                    reason=f"first turns on {name} found that many tokens in the cache, in spite of their prefix",
                )
            )
    return deviations, unverified


def build_entry(
    settings: RunSettings,
    *,
    begun: RunBegun,
    tiers: Sequence[TierResult],
    phases: Sequence[PhaseResult],
    request_parameters: Mapping[str, dict[str, Any]],
    power_sources: Mapping[str, PowerSource],
    simulated: bool,
    preflight: Mapping[str, Sequence[Check]] = {},
) -> Entry:
    """Return the entry of one suite on one system; `begun` says with what the run was begun."""
    dataset = begun.dataset
    isolation, isolation_unverified = isolation_notes(settings, phases)
    deviations = (
        *settings.deviations,
        *dataset_deviations(settings, name=dataset.name, official=dataset.official),
        *isolation,
    )
    token_verification = combined_verification(phases)
    incomparable = []
    if deviations:
        incomparable.append(f"deviations from the ruleset: {', '.join(d.rule for d in deviations)}")
    if simulated and settings.system.projection:
        incomparable.append(
            "a projection: no result of this system is published that its model could be fitted to"
        )
    if not settings.ruleset.official:
        incomparable.append(f"the ruleset {settings.ruleset.id} is not an official one")
    if settings.rehearsal:
        incomparable.append("a rehearsal in virtual time: a model answered, not the system")
    elif simulated:
        incomparable.append("simulated")
    incomparable += isolation_unverified
    incomparable += [
        f"power of {name} not measured: {source.source}"
        for name, source in power_sources.items()
        if not source.measured and not simulated
    ]
    if token_verification.status != "verified":
        incomparable.append(f"token counts {token_verification}")
    incomparable += [
        f"{t.tier.name}: accuracy {t.accuracy}"
        for t in tiers
        if t.agents and t.accuracy.status == "not measured" and not simulated
    ]
    if simulated:
        incomparable.append("accuracy not measured")
    unfinished = [f"{t.tier.name}: {t.reason}" for t in tiers if not t.complete]
    invalid = [f"{t.tier.name}: {t.reason}" for t in tiers if t.verdict is Verdict.INVALID]
    forced = [
        f"forced past the failed check {check.name!r} of {name}: {check.what}"
        for name, checks in preflight.items()
        for check in failures(checks)
    ]
    invalid += forced
    if forced:
        incomparable.append("forced past failed checks")
    return Entry(
        measured_utc=begun.created_utc,
        software=begun.software,
        digests=Digests.model_validate({"software": None, **begun.digests}),
        suite=settings.suite.model_dump(mode="json"),
        edition=settings.edition,
        system=settings.system.model_dump(mode="json"),
        submitter=settings.system.submitter.name,
        ruleset=settings.ruleset,
        deviations=deviations,
        dataset=dataset,
        seeds=Seeds(assignment_seed=settings.seed, nonce=settings.nonce),
        search=SearchRange(
            start=settings.start, max_agents=settings.max_agents, retry_invalid=settings.retry_invalid
        ),
        output_length=settings.ruleset.output_length,
        request_parameters=dict(request_parameters),
        power_source=dict(power_sources),
        preflight={name: tuple(checks) for name, checks in preflight.items()},
        token_verification=token_verification,
        simulated=simulated,
        rehearsal=settings.rehearsal,
        complete=_flag(unfinished),
        valid=_flag(invalid),
        comparable=_flag(incomparable),
        tiers=tuple(tiers),
        phases=tuple(phases),
    )


def _flag(reasons: Sequence[str]) -> Flag:
    return Flag(value=not reasons, reasons=tuple(reasons))
