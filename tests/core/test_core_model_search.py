"""The search for CI: few probes, an answer at the model's crossing, and an interval."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentperf.core.model_search import _UNKNOWN_ERROR, ModelSearch, Point, _point, crossing
from pytest_agentperf.core.search import Probe, SearchRules, Status
from pytest_agentperf.core.verdict import TierVerdict, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

PASS, FAIL, INVALID, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INVALID, Verdict.INCONCLUSIVE


def search(start: int = 1, max_agents: int = 10_000, **changes: Any) -> ModelSearch:
    rules: dict[str, Any] = {
        "ramp_factor": 2,
        "resolution": 0.02,
        "confirm": True,
        "confirm_descents_max": 2,
        "invalid_retries": 1,
    }
    return ModelSearch(["t"], SearchRules(start=start, max_agents=max_agents, **(rules | changes)))


def system(capacity: float, *, power: float = 0.9, doubt: float = 0.0, error: float = 0.004) -> Any:
    """Return a system whose speed margin falls as a power of agents, with a band in which nothing is certain."""
    generator = random.Random(3)

    def answer(n_agents: int) -> TierVerdict:
        log = power * math.log(capacity / n_agents) + generator.gauss(0, error)
        margin = math.expm1(log)
        verdict = INCONCLUSIVE if abs(log) < doubt else PASS if log >= 0 else FAIL
        return TierVerdict(
            tier="t",
            verdict=verdict,
            violated=() if log >= 0 else ("output_speed_p25",),
            speed_margin=margin,
            ttft_margin=0.9,
            speed_log_error=error,
            ttft_log_error=0.05,
        )

    return answer


def run(state: ModelSearch, answer: Callable[[int], TierVerdict]) -> list[int]:
    probed: list[int] = []
    while (probe := state.next_probe("t")) is not None:
        assert len(probed) < 40
        probed.append(probe.n_agents)
        state.record(probe, {"t": answer(probe.n_agents)}, reason="x")
    return probed


@pytest.mark.parametrize("capacity", [3.5, 17.5, 166.5, 1_840.5, 9_000.5])
@pytest.mark.parametrize("start", [1, 64])
def test_a_clear_system_is_found_with_few_probes(capacity: float, start: int) -> None:
    state = search(start)
    probed = run(state, system(capacity))
    outcome = state.outcome("t")
    assert outcome.status is Status.DONE
    assert outcome.agents is not None
    assert abs(outcome.agents - capacity) <= max(1.0, 0.02 * capacity)
    assert len(probed) <= 12
    assert outcome.passed_max <= outcome.agents < (outcome.failed_min or math.inf)


def test_it_begins_at_the_last_known_capacity() -> None:
    assert run(search(160), system(166.5))[0] == 160
    assert len(run(search(160), system(166.5))) <= 5


def cliff(capacity: float, *, slope: float = 0.0) -> Any:
    """Return a system whose margins tell nothing of the limit until it is passed, and little beyond."""

    def answer(n_agents: int) -> TierVerdict:
        verdict = PASS if n_agents <= capacity else FAIL
        beyond = -12.0 - slope * math.log(n_agents / capacity)
        return margins(2.4, 0.97 if verdict is PASS else beyond, verdict=verdict)

    return answer


@pytest.mark.parametrize("start", [190, 205, 220, 250])
def test_a_cliff_is_looked_for_near_the_last_known_capacity(start: int) -> None:
    state = search(start)
    probed = run(state, cliff(210.5))
    assert all(210 / 1.6 < n_agents < 210 * 1.6 for n_agents in probed)
    assert len(probed) <= 7
    assert state.outcome("t").agents == pytest.approx(210, rel=0.02)


@pytest.mark.parametrize("slope", [0.0, 2.0, 10.0, 30.0])
@pytest.mark.parametrize("start", [300, 400, 800])
def test_a_capacity_that_has_fallen_is_found_in_growing_steps(start: int, slope: float) -> None:
    """Two failures beyond a cliff differ by so little that a line through them would lead to a handful of agents."""
    state = search(start)
    probed = run(state, cliff(210.5, slope=slope))
    assert probed[1] == round(start / 1.25)
    assert min(probed) > 100
    assert len(probed) <= 10
    assert state.outcome("t").agents == pytest.approx(210, rel=0.02)


def test_a_capacity_that_has_risen_is_found_in_growing_steps() -> None:
    assert run(search(64), cliff(1_000.5))[:4] == [64, 80, 125, 306]


def test_where_no_capacity_is_known_it_goes_on_in_large_steps() -> None:
    assert run(search(1), cliff(1_000.5))[:5] == [1, 4, 14, 49, 170]


def test_a_start_that_fails_narrowly_is_left_by_as_little() -> None:
    first, second, *_ = run(search(170), system(160.5))
    assert first == 170
    assert second == pytest.approx(160, abs=2)


def test_too_near_for_a_verdict_ends_the_search_with_the_models_answer() -> None:
    state = search(100)
    run(state, system(166.5, doubt=0.03))
    outcome = state.outcome("t")
    assert outcome.agents is not None
    assert abs(outcome.agents - 166.5) <= 5
    assert outcome.interval is not None
    assert outcome.interval.method == "model"
    low, high = outcome.interval.low, outcome.interval.high
    assert low is not None
    assert high is not None
    assert low <= 166.5 <= high


def test_no_limit_up_to_the_largest_number_is_at_least() -> None:
    state = search(8, max_agents=100)
    run(state, system(1e6))
    outcome = state.outcome("t")
    assert (outcome.agents, outcome.at_least, outcome.interval) == (100, True, None)


def test_capacity_zero_is_a_single_agent_that_fails() -> None:
    state = search(4)
    run(state, system(0.5))
    assert state.outcome("t").agents == 0


def test_invalid_again_and_again_ends_it_and_says_why() -> None:
    state = search(8)
    for attempt in (0, 1):
        state.record(Probe(8, "model", attempt), {"t": TierVerdict(tier="t", verdict=INVALID)}, reason="late")
    outcome = state.outcome("t")
    assert outcome.status is Status.INVALID
    assert "late" in str(outcome.reason)
    assert state.next_probe("t") is None


def test_a_load_generator_at_its_end_bounds_the_answer() -> None:
    state = search(8)
    state.record(Probe(8, "model", 0), {"t": system(100)(8)})
    wanted = state.next_probe("t")
    assert wanted is not None
    for attempt in (0, 1):
        probe = Probe(wanted.n_agents, "model", attempt)
        state.record(probe, {"t": TierVerdict(tier="t", verdict=INVALID)}, reason="late", load_generator=True)
    outcome = state.outcome("t")
    assert (outcome.status, outcome.agents, outcome.at_least) == (Status.DONE, 8, True)


def test_what_contradicts_a_monotone_system_is_told() -> None:
    state = search(8)
    good, bad = system(100)(8), system(4)(8)
    state.record(Probe(8, "model", 0), {"t": bad})
    state.record(Probe(16, "model", 0), {"t": good})
    assert state.outcome("t").contradictions == ("8 agents failed, 16 passed",)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = trials = 0
    for seed in range(80):
        generator = random.Random(seed)

        def answer(n_agents: int, generator: random.Random = generator) -> TierVerdict:
            log = 0.9 * math.log(200.5 / n_agents) + generator.gauss(0, 0.01)
            verdict = INCONCLUSIVE if abs(log) < 0.03 else PASS if log > 0 else FAIL
            return TierVerdict(
                tier="t", verdict=verdict, speed_margin=math.expm1(log), ttft_margin=0.9,
                speed_log_error=0.01, ttft_log_error=0.05,
            )  # fmt: skip

        state = search(100)
        run(state, answer)
        interval = state.outcome("t").interval
        if interval is not None:
            assert interval.low is not None
            assert interval.high is not None
            trials += 1
            covered += interval.low <= 200.5 <= interval.high + 1
    assert trials > 60
    # 95 % of 80, less three standard deviations.
    assert covered / trials > 0.87


def test_the_crossing_is_that_of_the_first_metric_to_give_out() -> None:
    points = [
        Point(100, (0.2, 1.0), (0.01, 0.1)),
        Point(200, (-0.2, 0.5), (0.01, 0.1)),
    ]
    assert crossing(points, floor=1) == pytest.approx(math.sqrt(100 * 200), rel=1e-6)
    assert crossing(points[:1], floor=1) is None


def test_noise_that_rises_is_pooled() -> None:
    points = [
        Point(n, (y, 1.0), (0.01, 0.1)) for n, y in ((100, 0.1), (110, 0.12), (120, -0.01), (130, -0.2))
    ]
    found = crossing(points, floor=1)
    assert found is not None
    assert 110 <= found <= 120


def margins(speed: float | None, ttft: float | None, **changes: Any) -> TierVerdict:
    errors = {"speed_log_error": 0.01, "ttft_log_error": 0.1}
    values = {"tier": "t", "verdict": PASS, "speed_margin": speed, "ttft_margin": ttft} | errors | changes
    return TierVerdict(**values)


def test_a_probe_is_a_point_of_logarithms_with_their_errors() -> None:
    point = _point(8, margins(0.5, 0.75))
    assert point is not None
    assert point.n_agents == 8
    assert point.logs == pytest.approx((math.log(1.5), math.log(4)))
    assert point.errors == (0.01, 0.1)


@pytest.mark.parametrize(
    ("speed", "ttft"), [(None, 0.5), (0.5, None), (-1.0, 0.5), (0.5, 1.0)], ids=["-s", "-t", "s0", "t0"]
)
def test_a_margin_without_a_logarithm_makes_no_point(speed: float | None, ttft: float | None) -> None:
    assert _point(8, margins(speed, ttft)) is None


def test_an_unknown_error_is_not_none_at_all() -> None:
    """Or the one point of which nothing is known would weigh more than all others."""
    point = _point(8, margins(0.5, 0.75, speed_log_error=None, ttft_log_error=None))
    assert point is not None
    assert point.errors == (_UNKNOWN_ERROR, _UNKNOWN_ERROR) == (0.1, 0.1)
    exact = _point(8, margins(0.5, 0.75, speed_log_error=0.0))
    assert exact is not None
    assert exact.errors == (0.0, 0.1)


@pytest.mark.parametrize(
    ("violated", "logs"),
    [
        (("output_speed_p25",), (0.0, math.log(4))),
        (("ttft_p95",), (math.log(1.5), 0.0)),
        (("output_speed_p25", "ttft_p95"), (0.0, 0.0)),
    ],
)
def test_what_certainly_violates_its_target_is_on_the_bad_side(
    violated: tuple[str, ...], logs: tuple[float, float]
) -> None:
    """Also where the answers that have ended say otherwise, as those still waiting are not among them."""
    point = _point(8, margins(0.5, 0.75, verdict=FAIL, violated=violated))
    assert point is not None
    assert point.logs == pytest.approx(logs)
    worse = _point(8, margins(-0.5, -3.0, verdict=FAIL, violated=violated))
    assert worse is not None
    assert worse.logs == pytest.approx((-math.log(2), -math.log(4)))
