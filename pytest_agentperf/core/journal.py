"""What happens to a run, as events: whoever has them all in order knows all there is to know of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pytest_agentperf.core.checks import Check
from pytest_agentperf.core.gate import GateTarget
from pytest_agentperf.core.leaderboard import DatasetInfo, PhaseResult, TierResult
from pytest_agentperf.core.phase import PhaseKind
from pytest_agentperf.core.power import PowerSource
from pytest_agentperf.core.ruleset import Deviation, Ruleset

SCHEMA: Literal["agentperf-journal/1"] = "agentperf-journal/1"


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunBegun(_Event):
    """The first event: what is measured, by which rules, with which software and seeds. It never changes."""

    event: Literal["run_begun"] = "run_begun"
    schema_: Literal["agentperf-journal/1"] = Field(default=SCHEMA, alias="schema")
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    created_utc: str
    software: dict[str, str]
    suite: dict[str, Any]
    suite_path: str
    edition: str
    system: dict[str, Any]
    """Both files as they were used; never a secret."""
    system_path: str
    ruleset: Ruleset
    deviations: tuple[Deviation, ...]
    dataset: DatasetInfo
    dataset_path: str
    digests: dict[str, str]
    """SHA-256 (hex) of suite, system and ruleset as canonical JSON, of this package, and the dataset's own digest."""
    seed: int
    nonce: str
    start: int | None
    max_agents: int
    gate: dict[str, GateTarget] = {}
    """Per tier what a gate holds it to; empty for a search."""
    retry_invalid: int = 0


class RunResumed(_Event):
    """The run goes on in another process."""

    event: Literal["run_resumed"] = "run_resumed"
    created_utc: str


class DeploymentOpened(_Event):
    """A deployment is there, checked, and ready for its warm-up."""

    event: Literal["deployment_opened"] = "deployment_opened"
    deployment: str
    simulated: bool
    request_parameters: dict[str, Any]
    power_source: PowerSource
    preflight: tuple[Check, ...] = ()


class PhaseStarted(_Event):
    """A phase begins; its number (with its attempt, of a warm-up) is spent, whatever becomes of it."""

    event: Literal["phase_started"] = "phase_started"
    phase: int
    attempt: int
    kind: PhaseKind
    deployment: str
    n_agents: int
    tier: str | None
    """Whose search wants it."""
    elapsed_s: float
    """How long the run has lasted, all its processes together."""


class PhaseFinished(_Event):
    """A phase has ended, and its files are on disk."""

    event: Literal["phase_finished"] = "phase_finished"
    tier: str | None
    tokens: int
    elapsed_s: float
    result: PhaseResult


class PhaseBrokenOff(_Event):
    """A phase ended before its end, and nothing of it counts but what it spent."""

    event: Literal["phase_broken_off"] = "phase_broken_off"
    phase: int
    attempt: int
    reason: str
    tokens: int
    elapsed_s: float
    digests: dict[str, str] = Field(default_factory=dict)
    """SHA-256 (hex) of the files that hold what was recorded of it, if it was asked to end; never judged."""


class ServerRevived(_Event):
    """A server that was gone is back."""

    event: Literal["server_revived"] = "server_revived"
    deployment: str
    elapsed_s: float


class TierFinished(_Event):
    """A tier's search has ended with this result; what later probes say against it is added to it only."""

    event: Literal["tier_finished"] = "tier_finished"
    result: TierResult


class RunEnded(_Event):
    """The process that measured has let go of the run, in order."""

    event: Literal["run_ended"] = "run_ended"
    elapsed_s: float


Event = (
    RunBegun
    | RunResumed
    | DeploymentOpened
    | PhaseStarted
    | PhaseFinished
    | PhaseBrokenOff
    | ServerRevived
    | TierFinished
    | RunEnded
)
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(text: bytes) -> Event:
    """Read an event from JSON; raises ValueError."""
    return _EVENT.validate_json(text)


class NoJournal:
    """A `Journal` for runs of which nothing is kept."""

    def append(self, event: Event) -> None:
        """Forget it."""
