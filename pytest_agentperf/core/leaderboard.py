"""The result document: a closed, versioned schema. Whoever reads a number finds here what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from pytest_agentperf.core.accuracy import AccuracyResult, AccuracyScore, not_measured
from pytest_agentperf.core.breakdown import Bucket
from pytest_agentperf.core.checks import Check
from pytest_agentperf.core.confidence import PhaseConfidence
from pytest_agentperf.core.economics import Normalisation
from pytest_agentperf.core.energy import WindowEnergy
from pytest_agentperf.core.gate import GateResult
from pytest_agentperf.core.load_report import LoadReport
from pytest_agentperf.core.metrics import PhaseMetrics
from pytest_agentperf.core.phase_power import PhasePower
from pytest_agentperf.core.power import PowerSource
from pytest_agentperf.core.published import PublishedResult
from pytest_agentperf.core.ruleset import Deviation, Ruleset
from pytest_agentperf.core.search import CapacityInterval
from pytest_agentperf.core.server_metrics import ServerSummary
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.core.token_check import TokenVerification, combined
from pytest_agentperf.core.verdict import InvalidReason, TierVerdict, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

_Item = TypeVar("_Item")

VERSION = 2
SCHEMA: Literal["agentperf-leaderboard/2"] = "agentperf-leaderboard/2"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PhaseResult(_Model):
    """One phase: where its window lay, what was measured and what it says about each tier."""

    phase: int
    attempt: int
    kind: Literal["warmup", "ramp", "bisect", "confirm", "gate", "model", "fixed", "accuracy"]
    deployment: str
    n_agents: int
    start_ns: int
    window_open_ns: int
    window_close_ns: int
    """Monotonic nanoseconds of the machine that ran the phase, as in the records."""
    end_ns: int
    timed_out: bool
    idle_before: Literal["verified", "not verified", "not reached"]
    """Whether the server had drained when the phase began, as far as its metrics tell."""
    records: str | None
    """The records file, relative to the run directory."""
    digests: dict[str, str] = Field(default_factory=dict)
    """SHA-256 (hex) of every file of this phase, by its name relative to the run directory."""
    metrics: PhaseMetrics | None
    confidence: PhaseConfidence | None = None
    """How far the judged percentiles can be off; None where nothing was judged."""
    breakdown: tuple[Bucket, ...] = ()
    """The same requests by context length, turn and cache hit: where answers were late or slow."""
    energy: WindowEnergy
    power: PhasePower = PhasePower()
    server: ServerSummary | None = None
    """What the server says of itself over the window; None where nobody asked it."""
    tokens: TokenVerification = TokenVerification()
    accuracy: AccuracyScore | None = None
    """Of an accuracy phase: the questions' marks. Its times are never measured."""
    load: LoadReport
    invalid: tuple[InvalidReason, ...]
    verdicts: tuple[TierVerdict, ...]


class TierResult(_Model):
    """The capacity of one system at one tier, and how it was found."""

    tier: SloTier
    deployment: str
    verdict: Verdict | None
    """Of the search: PASS if a capacity stands (0 included), INVALID if none can be stated, None if incomplete.

    Of a gate: its answer.
    """
    agents: int | None
    interval: CapacityInterval | None = None
    """Between which numbers the capacity lies, and how that is known."""
    interval_reason: str | None = None
    """Why there is no interval, or none on one side."""
    at_least: bool
    complete: bool
    confirmed: bool
    passed_max: int
    failed_min: int | None
    contradictions: tuple[str, ...]
    reason: str | None
    expected_agents: int | None
    binding_constraint: str | None
    published_phase: int | None
    """The phase whose metrics, power and normalisation these are: the confirming one."""
    accelerators: int
    metrics: PhaseMetrics | None
    energy: WindowEnergy | None
    normalisation: Normalisation | None
    gate: GateResult | None = None
    """The answer where only a threshold was asked for; None of a search."""
    accuracy: AccuracyResult = not_measured("no questions were asked")
    """Whether answers are as good at this capacity as at one agent; the capacity is not accepted if they are not."""


class Flag(_Model):
    """A statement about the whole entry, with the reasons where it does not hold."""

    value: bool
    reasons: tuple[str, ...] = ()


class DatasetInfo(_Model):
    """Which trajectories were replayed."""

    name: str
    digest: str
    trajectories: int
    official: bool
    truncation: dict[str, int]


class Seeds(_Model):
    """Everything random in the run."""

    assignment_seed: int
    nonce: str


class Digests(_Model):
    """SHA-256 (hex) of what a result rests on; suite, system and ruleset as canonical JSON."""

    dataset: str
    suite: str
    system: str
    ruleset: str
    software: str | None
    """Of this package's source files; None where it was not recorded."""


class SearchRange(_Model):
    """Where the search could go."""

    start: int | None
    """Where the ramp was told to begin; None: where the deployment says, else at 1."""
    max_agents: int
    retry_invalid: int = 0
    """How often more than the ruleset says INVALID phases were to be measured again."""


class Entry(_Model):
    """One suite on one system."""

    measured_utc: str | None
    """When the run began: a label. None where it was not recorded."""
    software: dict[str, str]
    """Versions with which it was measured."""
    digests: Digests
    suite: dict[str, Any]
    edition: str
    system: dict[str, Any]
    """The system's file as it was used, serving configuration included; never a secret."""
    submitter: str
    ruleset: Ruleset
    deviations: tuple[Deviation, ...]
    dataset: DatasetInfo
    seeds: Seeds
    search: SearchRange | None
    """None where it was not recorded."""
    output_length: Literal["natural", "exact"]
    request_parameters: dict[str, dict[str, Any]]
    """Per deployment: what every request carried besides its messages."""
    power_source: dict[str, PowerSource]
    """Per deployment: where power was read, in which scope, of which devices."""
    preflight: dict[str, tuple[Check, ...]] = {}
    """Per deployment: what was looked at before the first phase, and what was found."""
    token_verification: TokenVerification
    """Of the measured phases together: the first that deviates or is not verified speaks for all."""
    simulated: bool
    rehearsal: bool = False
    """Whether no request was sent at all: the system's model ran in virtual time."""
    complete: Flag
    valid: Flag
    comparable: Flag
    tiers: tuple[TierResult, ...]
    phases: tuple[PhaseResult, ...]


class Leaderboard(_Model):
    """One run: an entry per suite and system."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    schema_: Literal["agentperf-leaderboard/2"] = Field(default=SCHEMA, alias="schema")
    created_utc: str
    """A label; all durations come from monotonic clocks."""
    entries: tuple[Entry, ...]
    published: tuple[PublishedResult, ...] = ()
    """What others measured and published, to stand beside; never an entry."""


def merge_entries(entries: list[Entry]) -> list[Entry]:
    """Join entries of the same suite and system that carry different tiers, as pytest's tests deliver them.

    A tier of the edition that no entry carries makes the joined entry incomplete.
    """
    merged: dict[tuple[str, str, str], Entry] = {}
    for entry in entries:
        key = (entry.suite["name"], entry.edition, entry.system["name"])
        known = merged.get(key)
        merged[key] = entry if known is None else _join(known, entry)
    return [_with_absent_tiers(entry) for entry in merged.values()]


def _join(old: Entry, new: Entry) -> Entry:
    tiers = {t.tier.name: t for t in (*old.tiers, *new.tiers)}
    phases = {(p.phase, p.attempt): p for p in (*old.phases, *new.phases)}
    return new.model_copy(
        update={
            "tiers": tuple(tiers[name] for name in sorted(tiers)),
            "phases": tuple(phases.values()),
            "deviations": _union(old.deviations, new.deviations),
            "request_parameters": {**old.request_parameters, **new.request_parameters},
            "preflight": {**old.preflight, **new.preflight},
            "power_source": {**old.power_source, **new.power_source},
            "simulated": old.simulated or new.simulated,
            "token_verification": combined_verification([phases[number] for number in sorted(phases)]),
            **{
                name: _flag(_union(getattr(old, name).reasons, getattr(new, name).reasons))
                for name in ("complete", "valid", "comparable")
            },
        }
    )


def combined_verification(phases: Sequence[PhaseResult]) -> TokenVerification:
    """Return what the token counts of all measured phases say together."""
    return combined([phase.tokens for phase in phases if phase.verdicts and phase.metrics is not None])


def _with_absent_tiers(entry: Entry) -> Entry:
    present = {tier.tier.name for tier in entry.tiers}
    absent = [
        f"{name}: not run" for name in entry.suite["editions"][entry.edition]["tiers"] if name not in present
    ]
    return entry.model_copy(update={"complete": _flag(_union(entry.complete.reasons, tuple(absent)))})


def _union(old: tuple[_Item, ...], new: tuple[_Item, ...]) -> tuple[_Item, ...]:
    return tuple(dict.fromkeys((*old, *new)))


def _flag(reasons: tuple[str, ...]) -> Flag:
    return Flag(value=not reasons, reasons=reasons)
