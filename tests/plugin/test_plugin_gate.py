"""`--agentperf-mode=gate`, rehearsed on the simulated system: what passes, fails, is not certain, or is refused."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import junitparser
import pytest
import yaml
from plugin_support import SWIFT, Workplace, plain_environment, properties_of, pytest_command

from pytest_agentperf.cli import main
from pytest_agentperf.config.bundled import SYSTEMS
from pytest_agentperf.core.leaderboard import Leaderboard

if TYPE_CHECKING:
    from pathlib import Path

GATE = ("suites/deepseek_v4_pro", "--agentperf-rehearse", "--agentperf-mode=gate", "-p", "no:cacheprovider")
TIER1 = (*GATE, "--system=sim", "--agentperf-tier=tier1")
# So short that nothing can be certain by then.
SHORT = "--agentperf-set=window_max_s=6"


class Passed(NamedTuple):
    """A gate that was passed, and the baseline that was accepted of it."""

    code: int
    output: str
    leaderboard: Path
    baseline: Path
    junit: Path


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Passed:
    folder = tmp_path_factory.mktemp("gate")
    done = subprocess.run(
        pytest_command(*TIER1, "--junitxml=junit.xml"),
        cwd=folder, env=plain_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    (leaderboard,) = folder.glob("agentperf-results/*/leaderboard-rehearsal.json")
    baseline = folder / "baseline.json"
    assert main(["baseline", "accept", str(leaderboard), "-o", str(baseline)]) == 0
    return Passed(done.returncode, done.stdout, leaderboard, baseline, folder / "junit.xml")


def read(path: Path) -> Leaderboard:
    return Leaderboard.model_validate_json(path.read_text(encoding="utf-8"))


def result_of(folder: Path) -> Any:
    (path,) = folder.glob("agentperf-results/*/leaderboard-rehearsal.json")
    (entry,) = read(path).entries
    return entry.tiers[0]


def changed(path: Path, source: Path, **fields: object) -> str:
    """Write a baseline of one tier with some fields changed."""
    baseline = json.loads(source.read_text(encoding="utf-8"))
    baseline["tiers"][0].update(fields)
    path.write_text(json.dumps(baseline), encoding="utf-8")
    return f"--agentperf-baseline={path}"


def test_expected_agents_are_a_baseline_that_passes(passed: Passed) -> None:
    assert passed.code == pytest.ExitCode.OK, passed.output
    (entry,) = read(passed.leaderboard).entries
    assert entry.ruleset.id == "demo-ci/1"
    gate = entry.tiers[0].gate
    assert gate is not None
    # 18 × 0.95 = 17.1, and agents are whole.
    assert (gate.threshold_agents, gate.verdict) == (18, "PASS")
    assert gate.target.source == "expected_agents of the system"
    assert {phase.kind for phase in entry.phases} == {"warmup", "gate"}
    (case,) = next(iter(junitparser.JUnitXml.fromfile(str(passed.junit))))
    found = properties_of(case)
    assert found["agentperf.verdict"] == "PASS"
    assert found["agentperf.gate_baseline_agents"] == found["agentperf.gate_threshold_agents"] == "18"
    assert float(found["agentperf.gate_tolerance"]) == 0.05


def test_an_improvement_is_offered_and_accepted(passed: Passed) -> None:
    # tier1 asks for 20 tokens/s; the simulated system carries 24 agents at that.
    assert "19 agents pass too: `agentperf baseline accept` makes them the baseline" in passed.output
    (tier,) = json.loads(passed.baseline.read_text(encoding="utf-8"))["tiers"]
    assert (tier["tier"], tier["agents"], tier["rehearsal"]) == ("tier1", 19, True)
    assert {bucket["by"] for bucket in tier["breakdown"]} == {"context", "turn", "cached"}


def test_a_loss_is_told_with_the_requests_that_lost_it(pytester: pytest.Pytester, passed: Passed) -> None:
    """A step takes longer per token of context: long contexts lose most, and the baseline's same buckets show it."""
    system = yaml.safe_load((SYSTEMS / "sim.yaml").read_text(encoding="utf-8"))
    system["deployments"]["v4-pro"]["simulate"]["step_per_context_ktoken_ms"] = 1.0
    path = pytester.path / "slower.yaml"
    path.write_text(yaml.safe_dump(system), encoding="utf-8")
    result = pytester.runpytest_inprocess(
        *GATE, f"--system={path}", "--agentperf-tier=tier1", f"--agentperf-baseline={passed.baseline}"
    )
    result.assert_outcomes(failed=1)
    tier = result_of(pytester.path)
    assert (tier.verdict, tier.gate.verdict, tier.binding_constraint) == ("FAIL", "FAIL", "output_speed_p25")
    assert tier.agents is None
    assert tier.gate.lost_where
    assert all("slow answers (decode): " in line and "(baseline: " in line for line in tier.gate.lost_where)
    shown = result.stdout.str()
    assert "gate FAIL: 19 agents, the baseline of 19" in shown
    assert "fewer than 19 agents, expected 19 or more" in shown
    # A gate that failed counted no agents: 0 would be a capacity.
    assert "<sim tier1: fewer than 19 agents>" in shown
    for line in tier.gate.lost_where:
        assert line in shown


@pytest.mark.parametrize(("option", "outcome"), [("fail", "errors"), ("skip", "skipped")])
def test_an_answer_that_nobody_has_is_a_failure_or_a_skip(
    pytester: pytest.Pytester, option: str, outcome: str
) -> None:
    result = pytester.runpytest_inprocess(
        *TIER1, SHORT, f"--agentperf-inconclusive={option}", "-rs", "--junitxml=junit.xml"
    )
    result.assert_outcomes(**{outcome: 1})
    assert (result.ret == pytest.ExitCode.OK) is (option == "skip")
    shown = result.stdout.str()
    assert "agentperf: INCONCLUSIVE: 18 agents neither pass nor fail with certainty, in 2 phases" in shown
    if option == "fail":
        assert shown.count("18 agents: speed P25 ") == 2
        assert "at 95%), " in shown
        assert "no certain answer at 18 agents" in shown
    tier = result_of(pytester.path)
    assert (tier.verdict, tier.agents) == ("INCONCLUSIVE", None)
    (case,) = next(iter(junitparser.JUnitXml.fromfile(str(pytester.path / "junit.xml"))))
    assert properties_of(case)["agentperf.verdict"] == "INCONCLUSIVE"


def test_what_is_certain_of_none_is_a_failure_by_default(pytester: pytest.Pytester) -> None:
    pytester.runpytest_inprocess(*TIER1, SHORT).assert_outcomes(errors=1)


def refused(pytester: pytest.Pytester, *arguments: str) -> str:
    result = pytester.runpytest_inprocess(*arguments, "--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    return result.stderr.str()


def test_tiers_without_a_baseline_are_refused(pytester: pytest.Pytester, passed: Passed) -> None:
    told = refused(pytester, *GATE, "--system=sim", f"--agentperf-baseline={passed.baseline}")
    assert "no baseline for deepseek_v4_pro (edition 2026-06) tier2 on sim" in told
    assert "agentperf baseline accept LEADERBOARD" in told
    # The system has some, which a baseline file replaces.
    assert "leave out --agentperf-baseline for the `expected_agents` of " in told
    told = refused(pytester, *GATE, "--system=h200")
    assert "no baseline for deepseek_v4_pro" in told
    assert "give `expected_agents` in " in told
    told = refused(pytester, *TIER1, "--agentperf-baseline=nowhere.json")
    assert "nowhere.json: the baseline cannot be read" in told
    (pytester.path / "other.json").write_text('{"schema": "agentperf-baseline/1", "tiers": [{}]}')
    assert "not a baseline: tiers.0.suite" in refused(pytester, *TIER1, "--agentperf-baseline=other.json")


def test_a_tolerance_below_the_noise_is_refused_with_the_one_to_use(
    pytester: pytest.Pytester, passed: Passed
) -> None:
    noise = {"n_agents": 19, "repeats": 5, "output_speed_p25": 0.01, "ttft_p95": 0.05, "tolerance_min": 0.08}
    noisy = changed(pytester.path / "noisy.json", passed.baseline, noise=noise)
    told = refused(pytester, *TIER1, noisy)
    assert "a tolerance of 5.0% is smaller than the noise measured on sim at tier1" in told
    assert "use at least 8.0%" in told
    # What was found may differ in the last digit from what is typed.
    for least, typed in ((0.08, "8%"), (0.091, "9.1%"), (0.07, "0.07"), (0.057, "5.7%")):
        noisy = changed(
            pytester.path / "noisy.json", passed.baseline, noise=noise | {"tolerance_min": least + 1e-16}
        )
        result = pytester.runpytest_inprocess(
            *TIER1, noisy, f"--agentperf-tolerance={typed}", "--collect-only"
        )
        assert result.ret == pytest.ExitCode.OK


def test_a_measurement_is_not_held_to_a_rehearsals_baseline(
    pytester: pytest.Pytester, passed: Passed
) -> None:
    measure = [argument for argument in TIER1 if argument != "--agentperf-rehearse"]
    told = refused(pytester, *measure, f"--agentperf-baseline={passed.baseline}")
    assert "was found in a rehearsal: it is a model's figure, not the system's" in told
    official = changed(
        pytester.path / "official.json", passed.baseline, ruleset="aa-agentperf/2026-06", rehearsal=False
    )
    told = refused(pytester, *measure, official)
    assert "found under aa-agentperf/2026-06, whose workload is not that of demo-ci/1" in told
    own = changed(pytester.path / "own.json", passed.baseline, rehearsal=False)
    assert pytester.runpytest_inprocess(*measure, own, "--collect-only").ret == pytest.ExitCode.OK


def test_agents_replay_what_those_of_the_baseline_did(pytester: pytest.Pytester, passed: Passed) -> None:
    (tier,) = json.loads(passed.baseline.read_text(encoding="utf-8"))["tiers"]
    workload = tier["workload"]
    assert (workload["assignment_seed"], workload["max_tokens"]) == (0, 64)
    seeded = changed(pytester.path / "seed.json", passed.baseline, workload=workload | {"assignment_seed": 7})
    told = refused(pytester, *TIER1, seeded, "--agentperf-seed=0")
    assert "the baseline of tier1 was found with the seed 7, and this gate would have 0" in told
    pytester.runpytest_inprocess(*TIER1, seeded).assert_outcomes(passed=1)
    (path,) = pytester.path.glob("agentperf-results/*/leaderboard-rehearsal.json")
    assert read(path).entries[0].seeds.assignment_seed == 7
    longer = changed(pytester.path / "longer.json", passed.baseline, workload=workload | {"max_tokens": 65})
    assert "was found with max_tokens 65, and this gate would have 64" in refused(pytester, *TIER1, longer)
    other = changed(
        pytester.path / "other.json", passed.baseline, workload=workload | {"dataset_digest": "0" * 64}
    )
    result = pytester.runpytest_inprocess(*TIER1, other)
    result.assert_outcomes(errors=1)
    assert "the baseline of tier1 was found with another dataset (digest 000000000000" in result.stdout.str()


def test_what_no_gate_can_answer_is_refused(pytester: pytest.Pytester) -> None:
    told = refused(pytester, *TIER1, "--agentperf-max-agents=17")
    assert "the gate of tier1 asks for 18 agents, and no more than 17 may be tried" in told
    for official in ("--agentperf-ruleset=demo/1", "--agentperf-set=error_rate=null"):
        told = refused(pytester, *TIER1, official)
        assert "states no error rate here, and a gate answers at one" in told
        assert "name one for gates: ci/1, nightly/1, demo-ci/1" in told


def test_a_gate_that_cannot_be_asked_does_not_pass(pytester: pytest.Pytester) -> None:
    """A search would be skipped, and so is a tier that the system does not serve."""
    system = yaml.safe_load((SYSTEMS / "sim.yaml").read_text(encoding="utf-8"))
    system["deployments"] = {"v4-pro": system["deployments"]["v4-pro"]}
    deployment = system["deployments"]["v4-pro"]
    deployment["endpoint"], deployment["power"] = {"url_env": "NO_SUCH_URL"}, {"source": "none"}
    del deployment["tiers"]["tier3"]
    path = pytester.path / "unset.yaml"
    path.write_text(yaml.safe_dump(system), encoding="utf-8")
    arguments = ("suites/deepseek_v4_pro", f"--system={path}", "-p", "no:cacheprovider")
    pytester.runpytest_inprocess(*arguments).assert_outcomes(skipped=3)
    result = pytester.runpytest_inprocess(*arguments, "--agentperf-mode=gate")
    result.assert_outcomes(errors=2, skipped=1)
    assert "agentperf: the gate was not asked: no endpoint configured: set NO_SUCH_URL" in result.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--agentperf-mode=gat",), "--agentperf-mode: 'gat' is not known"),
        (("--agentperf-mode=gate", "--agentperf-tolerance=five"), "'five' is no share below 1"),
        (("--agentperf-mode=gate", "--agentperf-tolerance=100%"), "'100%' is no share below 1"),
        (("--agentperf-mode=gate", "--agentperf-tolerance=5"), "'5' is no share below 1"),
        (("--agentperf-mode=gate", "--agentperf-tolerance=-1%"), "'-1%' is no share below 1"),
        (("--agentperf-mode=gate", "--agentperf-inconclusive=pass"), "--agentperf-inconclusive: 'pass'"),
        (("--agentperf-mode=gate", "--agentperf-retry-invalid=many"), "--agentperf-retry-invalid: 'many'"),
        (("--agentperf-tolerance=5%",), "--agentperf-tolerance: this is for gates"),
        (("--agentperf-baseline=baseline.json",), "add --agentperf-mode=gate"),
        (("--agentperf-inconclusive=skip",), "--agentperf-inconclusive: this is for gates"),
    ],
)
def test_wrong_values_are_named(pytester: pytest.Pytester, arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(pytester, "suites/deepseek_v4_pro", "--system=sim", *arguments)


def test_a_resumed_gate_keeps_what_each_tier_is_held_to(pytester: pytest.Pytester, place: Workplace) -> None:
    """Measured over HTTP, as rehearsals keep no journal; the first session asked for one tier only."""
    rules = {"min_window_s": 0.3, "window_max_s": 0.6, "answer_horizon_s": 0.1, "drain_max_s": 1.0}
    place.system("swift", engine=SWIFT, expected={"tier1": 4, "tier2": 2}, overrides=rules)
    gate = ("suites/tiny", "--system=swift", "--agentperf-mode=gate", "--agentperf-inconclusive=skip")
    pytester.runpytest_inprocess(*gate, "--agentperf-tier=tier1")
    folder = place.run_folder("swift")
    before = place.leaderboard("swift").entries[0]
    resume = f"--agentperf-resume={folder}"
    told = refused(pytester, *gate, resume, "--agentperf-tolerance=10%")
    assert "gate of tier1.tolerance was 0.05, is 0.1" in told
    told = refused(pytester, "suites/tiny", "--system=swift", resume)
    assert "mode was true, is false" in told
    told = refused(pytester, *gate, resume, "--agentperf-retry-invalid=3")
    assert "retry_invalid was 0, is 3" in told
    result = pytester.runpytest_inprocess(*gate, resume)
    assert sum(result.parseoutcomes().values()) == 2
    (entry,) = place.leaderboard("swift").entries
    assert entry.phases[: len(before.phases)] == before.phases
    thresholds = [tier.gate.threshold_agents for tier in entry.tiers if tier.gate is not None]
    assert thresholds == [4, 2]
    assert entry.tiers[0].gate == before.tiers[0].gate
