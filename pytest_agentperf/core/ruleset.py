"""The locked rulesets: every number that decides a verdict, and the list of what a run changed.

A ruleset is never edited: a changed rule is a new ruleset. `aa-agentperf/2026-06` holds the published rules
(METHODOLOGY §3) and our answers where they are silent (§4); `demo/1` is short enough for the simulated system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Ruleset(BaseModel):
    """All rules of one measurement; seconds, tokens and fractions as the names say."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: str
    official: bool
    """Whether results under it are comparable with published scores."""
    gate_ruleset: str | None = None
    """Under which a gate asks, where none is named: the same workload at a stated error rate."""

    # The workload
    max_tokens: int = Field(gt=0)
    output_length: Literal["natural", "exact"]
    dataset: str
    """What is replayed unless suite or user name another: `bundled:NAME` or `synthetic:NAME`."""
    dataset_digest: str
    """SHA-256 of its content: another dataset, wherever it is named, is a deviation."""
    tool_delay_max_s: float = Field(gt=0)
    """Longer tool delays of the dataset are cut to this."""
    failure_wait_s: float = Field(ge=0)
    isolation_cached_tokens_max: int = Field(ge=0)

    # The phase
    agents_begin: Literal["first_turn", "steady_state"] = "first_turn"
    """Where agents' first trajectories begin: at their first turns, or where the steady state would find them."""
    stagger_max_s: float = Field(ge=0)
    stagger_total_s: float = Field(ge=0)
    settle_s: float = Field(ge=0)
    min_window_s: float = Field(gt=0)
    min_trajectories: int = Field(ge=1)
    min_trajectories_per_agent: int = Field(ge=0)
    phase_max_s: float = Field(gt=0)
    warmup_agents: int = Field(ge=0)
    warmup_max_s: float = Field(ge=0)
    idle_max_s: float = Field(gt=0)
    restart_max_s: float = Field(gt=0)
    """How long a server that has died may take to come back."""
    idle_pause_s: float = Field(ge=0)
    reset_allowed: bool
    """Whether a server's caches may be emptied between phases, which production never does."""

    # The verdict
    ttft_percentile: float = Field(gt=0, lt=100)
    output_speed_percentile: float = Field(gt=0, lt=100)
    error_rate: float | None = Field(default=None, gt=0, lt=1)
    """α of verdicts with confidence, which end a phase as soon as they are certain; None: point estimates."""
    pass_window_min_s: float = Field(default=0, ge=0)
    """What goes wrong seldom has to have had its time before PASS is certain."""
    window_max_s: float | None = Field(default=None, gt=0)
    """With confidence: what is not certain by then is INCONCLUSIVE. `min_window_s` is then the first look."""
    look_factor: float | None = Field(default=None, gt=1)
    """By how much the window has grown from one look to the next."""
    correlation_s: float | None = Field(default=None, gt=0)
    """Requests sent within such a time share the state of the server."""
    answer_horizon_s: float | None = Field(default=None, gt=0)
    """Most answers have ended so long after they were sent: younger requests do not speak of speed yet."""
    settle_max_s: float | None = Field(default=None, gt=0)
    """If the steady state does not stand so long after the last agent's start, the queue is judged as it is."""
    drain_max_s: float | None = Field(default=None, ge=0)
    """How long answers of a closed window are waited for; None: until all have ended."""
    token_deviation_max: float = Field(ge=0)
    token_outliers_max: float = Field(ge=0, le=1)
    """The share of sampled answers whose own token count may be off by more than `token_deviation_max`."""
    token_sample: int = Field(ge=0)
    """About how many answers of a phase are kept and recounted."""
    prompt_sample: int = Field(ge=0)
    """About how many prompts."""
    client_lag_p99_max_s: float = Field(gt=0)
    clock_error_max_s: float = Field(default=0.5, gt=0)
    """How far the clock of a load host may be off, as exchanges with it bound that."""
    fewer_load_hosts: bool = True
    """Whether a run goes on with the others once a load host is lost; the phase that lost it is INVALID anyhow."""
    calibration_s: float = Field(gt=0)
    """How long each calibration of the load generator holds its load."""
    client_error_max: float = Field(ge=0, lt=1)
    """The share of a target up to which the load generator's own error is let pass without a further look."""

    # Accuracy under load
    accuracy_alpha: float = Field(gt=0, lt=1)
    """How often a capacity is refused although answers are as good under load as alone."""
    accuracy_power: float = Field(gt=0, lt=1)
    """How surely the smallest drop that is stated as detectable is found."""
    accuracy_max_s: float = Field(gt=0)

    # The search
    search: Literal["ramp-bisect", "model"] = "ramp-bisect"
    """Whether every number that decides is measured and confirmed, or a model of the margins says where it lies."""
    ramp_factor: int = Field(ge=2)
    resolution: float = Field(ge=0, lt=1)
    confirm: bool
    confirm_descents_max: int = Field(ge=0)
    invalid_retries: int = Field(ge=0)

    # Time limits of one request
    connect_timeout_s: float = Field(gt=0)
    first_token_timeout_s: float = Field(gt=0)
    stall_timeout_s: float = Field(gt=0)
    request_timeout_s: float = Field(gt=0)

    # Power
    power_coverage_min: float = Field(gt=0, le=1)
    power_gap_max_s: float = Field(gt=0)
    power_uncertainty_max: float = Field(gt=0, lt=1)
    """The share of the energy that the source's update rate may leave in doubt."""
    power_cross_check_max: float = Field(gt=0, lt=1)
    """The share by which sampled power may differ from the energy counter."""

    @model_validator(mode="after")
    def _rules_fit_together(self) -> Self:
        needed = ("window_max_s", "look_factor", "correlation_s", "answer_horizon_s")
        missing = [name for name in needed if self.error_rate is not None and getattr(self, name) is None]
        if missing:
            raise ValueError(f"with an error rate there must be {', '.join(missing)} too")
        if self.error_rate is not None and self.search != "model":
            # It bisects towards the limit, where nothing is certain, and has no use for INCONCLUSIVE.
            raise ValueError("with an error rate, search must be model")
        if self.error_rate is not None and self.phase_max_s < (longest_s := self._longest_s()):
            raise ValueError(
                f"with an error rate, phase_max_s must be {longest_s:g} or more: the start, "
                "first_token_timeout_s, settle_s and window_max_s together"
            )
        # A request that is given up ends the wait for its agent's first token, so that the window would open.
        if self.settle_max_s is not None and self.settle_max_s >= self.first_token_timeout_s:
            raise ValueError(
                "settle_max_s must be shorter than first_token_timeout_s, or no queue is ever hopeless"
            )
        return self

    def _longest_s(self) -> float:
        """Return how long a phase can take to the end of its longest window."""
        before_s = self.stagger_total_s + self.first_token_timeout_s + self.settle_s
        return before_s + (self.window_max_s or 0.0)


AA_AGENTPERF_2026_06 = Ruleset(
    id="aa-agentperf/2026-06",
    official=True,
    gate_ruleset="ci/1",
    max_tokens=16_384,
    output_length="natural",
    dataset="synthetic:aa-agentperf-2026-06",
    dataset_digest="a1db78872101472c0dedc340736a73b31b68a0e1f6c4f574d380f405ccf59a1f",
    tool_delay_max_s=5.0,
    failure_wait_s=1.0,
    isolation_cached_tokens_max=256,
    stagger_max_s=0.1,
    stagger_total_s=60.0,
    settle_s=30.0,
    min_window_s=600.0,
    min_trajectories=30,
    min_trajectories_per_agent=3,
    phase_max_s=6 * 3600.0,
    warmup_agents=4,
    warmup_max_s=600.0,
    idle_max_s=120.0,
    restart_max_s=1800.0,
    idle_pause_s=5.0,
    reset_allowed=False,
    ttft_percentile=95.0,
    output_speed_percentile=25.0,
    token_deviation_max=0.02,
    token_outliers_max=0.1,
    token_sample=200,
    prompt_sample=32,
    client_lag_p99_max_s=0.05,
    calibration_s=5.0,
    client_error_max=0.005,
    accuracy_alpha=0.05,
    accuracy_power=0.8,
    accuracy_max_s=7200.0,
    ramp_factor=2,
    resolution=0.01,
    confirm=True,
    confirm_descents_max=2,
    invalid_retries=1,
    connect_timeout_s=30.0,
    first_token_timeout_s=600.0,
    stall_timeout_s=120.0,
    request_timeout_s=3600.0,
    power_coverage_min=0.99,
    power_gap_max_s=1.0,
    power_uncertainty_max=0.01,
    power_cross_check_max=0.05,
)

DEMO_1 = Ruleset(
    id="demo/1",
    official=False,
    gate_ruleset="demo-ci/1",
    # At 20 tok/s a 16,384-token answer drains for 14 minutes: short windows need short answers.
    max_tokens=64,
    output_length="natural",
    dataset="bundled:demo-v1",
    dataset_digest="7ef07d58616041858272b725a65ef1e926599154369c8ac7a5166c2dd7cc98cb",
    tool_delay_max_s=5.0,
    failure_wait_s=1.0,
    isolation_cached_tokens_max=256,
    stagger_max_s=0.02,
    stagger_total_s=0.5,
    settle_s=0.3,
    min_window_s=2.0,
    min_trajectories=4,
    min_trajectories_per_agent=1,
    phase_max_s=180.0,
    warmup_agents=2,
    warmup_max_s=10.0,
    idle_max_s=5.0,
    restart_max_s=30.0,
    idle_pause_s=0.1,
    reset_allowed=False,
    ttft_percentile=95.0,
    output_speed_percentile=25.0,
    token_deviation_max=0.02,
    token_outliers_max=0.1,
    token_sample=200,
    prompt_sample=32,
    clock_error_max_s=0.02,
    client_lag_p99_max_s=0.05,
    calibration_s=1.0,
    client_error_max=0.005,
    accuracy_alpha=0.05,
    accuracy_power=0.8,
    accuracy_max_s=180.0,
    ramp_factor=2,
    resolution=0.1,
    confirm=True,
    confirm_descents_max=2,
    invalid_retries=1,
    connect_timeout_s=5.0,
    first_token_timeout_s=60.0,
    stall_timeout_s=20.0,
    request_timeout_s=120.0,
    power_coverage_min=0.99,
    power_gap_max_s=1.0,
    power_uncertainty_max=0.05,
    power_cross_check_max=0.05,
)


def _changed(ruleset: Ruleset, update: dict[str, Any]) -> Ruleset:
    return Ruleset.model_validate({**ruleset.model_dump(), **update})


# The same workload, and verdicts at an error rate instead of three trajectories per agent: minutes instead of hours.
CI_1 = _changed(
    AA_AGENTPERF_2026_06,
    {
        "id": "ci/1",
        "official": False,
        "gate_ruleset": None,
        "agents_begin": "steady_state",
        "stagger_max_s": 2.0,
        "stagger_total_s": 180.0,
        "settle_s": 180.0,
        "settle_max_s": 400.0,
        "min_window_s": 300.0,
        "pass_window_min_s": 300.0,
        "look_factor": 1.25,
        "window_max_s": 2_400.0,
        "correlation_s": 30.0,
        "answer_horizon_s": 60.0,
        "drain_max_s": 60.0,
        "min_trajectories": 1,
        "min_trajectories_per_agent": 0,
        "error_rate": 0.004,
        "search": "model",
        "resolution": 0.02,
    },
)

# What comes about seldom, as a cache that begins to thrash, is waited for.
NIGHTLY_1 = _changed(
    CI_1,
    {
        "id": "nightly/1",
        "min_window_s": 3_000.0,
        "pass_window_min_s": 3_600.0,
        "window_max_s": 10_800.0,
        # It lasts for minutes, and a few times in hours are little to go by: taken for less, luck passes for certainty.
        "correlation_s": 90.0,
    },
)

# A gate on the simulated system, in seconds.
DEMO_CI_1 = _changed(
    DEMO_1,
    {
        "id": "demo-ci/1",
        "gate_ruleset": None,
        "agents_begin": "steady_state",
        "min_window_s": 5.0,
        "window_max_s": 60.0,
        "look_factor": 1.25,
        "correlation_s": 0.25,
        # At 20 tok/s the longest answer of 64 tokens takes 3.2 s.
        "answer_horizon_s": 3.2,
        "settle_max_s": 20.0,
        "drain_max_s": 1.0,
        "min_trajectories": 1,
        "min_trajectories_per_agent": 0,
        "error_rate": 0.01,
        "search": "model",
    },
)

RULESETS: Mapping[str, Ruleset] = {
    ruleset.id: ruleset for ruleset in (AA_AGENTPERF_2026_06, CI_1, NIGHTLY_1, DEMO_1, DEMO_CI_1)
}

# Not to be overridden: what names the ruleset or its dataset, and the percentiles that stand in the metrics' names.
_LOCKED = frozenset(
    {
        "id",
        "official",
        "gate_ruleset",
        "dataset",
        "dataset_digest",
        "ttft_percentile",
        "output_speed_percentile",
    }
)


class Deviation(BaseModel):
    """One way in which a run departed from its ruleset, and so is not comparable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    expected: str
    actual: str
    reason: str


def find_ruleset(id_: str, *, where: str | None = None) -> Ruleset:
    """Return the locked ruleset of that id; raises ConfigError listing those there are."""
    try:
        return RULESETS[id_]
    except KeyError:
        raise ConfigError(
            f"unknown ruleset {id_!r}", where=where, remedy=f"one of: {', '.join(RULESETS)}"
        ) from None


def apply_overrides(
    ruleset: Ruleset, overrides: Mapping[str, Any], *, reason: str, where: str | None = None
) -> tuple[Ruleset, list[Deviation]]:
    """Return the ruleset with some rules changed, and each change as a deviation.

    A value equal to the ruleset's own is no deviation. Raises ConfigError for unknown rules and bad values.
    """
    for name in overrides:
        if name not in Ruleset.model_fields or name in _LOCKED:
            known = ", ".join(field for field in Ruleset.model_fields if field not in _LOCKED)
            raise ConfigError(f"unknown rule {name!r}", where=where, remedy=f"one of: {known}")
    try:
        changed = Ruleset.model_validate({**ruleset.model_dump(), **overrides})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"rule {'.'.join(map(str, first['loc']))}: {first['msg']} (got {first['input']!r})",
            where=where,
            remedy="correct the value or leave the rule out",
        ) from None
    deviations = [
        Deviation(
            rule=name,
            expected=str(getattr(ruleset, name)),
            actual=str(getattr(changed, name)),
            reason=reason,
        )
        for name in overrides
        if getattr(changed, name) != getattr(ruleset, name)
    ]
    return changed, deviations
