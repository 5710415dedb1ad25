"""One measured session, looked at from all sides: three systems, each with another outcome."""

from __future__ import annotations

import math
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import junit2htmlreport.parser
import junitparser
import pandas as pd
import pytest
import xmlschema
from junit_schema import JUNIT_XSD
from plugin_support import (
    ENGINE,
    MODEL,
    OVERRIDES,
    Workplace,
    load_json,
    plain_environment,
    properties_of,
    pytest_command,
)
from pydantic import ValidationError

from pytest_agentperf import __version__
from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.core.leaderboard import Leaderboard, PhaseResult, TierResult
from pytest_agentperf.core.ruleset import RULESETS
from pytest_agentperf.recheck.archive import Bundle
from pytest_agentperf.recheck.verify import verify
from pytest_agentperf.recovery import recover
from pytest_agentperf.results.bundle import make_bundle
from pytest_agentperf.results.journal import JOURNAL, read_journal
from pytest_agentperf.results.schema import leaderboard_schema
from pytest_agentperf.sim.faults import FaultRates
from pytest_agentperf.sim.process import SimServer

SYSTEMS = ("box", "slow", "late", "flaky")
TESTS = """
import pytest

def test_capacity(capacity_run, slo_tier):
    assert capacity_run.agents >= slo_tier.expected_agents, capacity_run.report()

def test_again(capacity_run):
    "The tier is measured already, and other systems were measured since."

@pytest.fixture
def doubled(capacity_run):
    return 2 * capacity_run.agents

def test_own_fixture(doubled, slo_tier, system):
    assert doubled % 2 == 0 and slo_tier.name.startswith("tier") and system.deployments

def test_late(request, slo_tier):
    assert request.getfixturevalue("capacity_run").result.tier == slo_tier.tier

def test_system_alone(system):
    assert system.title
"""


class Measured(NamedTuple):
    place: Workplace
    code: int
    output: str
    junit: Path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Measured:
    """Measure `box` (tier 1 met, tier 2 missed), `slow` (capacity 0), `late` (every phase INVALID) and `flaky`.

    `flaky` refuses or cuts off half of its answers, so that its capacity is 0 too.
    """
    place = Workplace(tmp_path_factory.mktemp("measured"), tiny_dataset, calibrates=True)
    place.test(TESTS)
    place.system("box", expected={"tier1": 2, "tier2": 3})
    place.system("slow", engine={"step_base_ms": 20})
    place.system("late", overrides={"client_lag_p99_max_s": 1e-9, "invalid_retries": 0})
    place.system("flaky", endpoint={"url_env": "AGENTPERF_FLAKY"}, overrides={"min_window_s": 1.0})
    junit = place.folder / "junit.xml"
    systems = [f"--system={name}" for name in SYSTEMS]
    # -W error: the plugin leaves no socket, pipe or file open.
    command = pytest_command("suites/tiny", *systems, f"--junitxml={junit}", "-ra", "-W", "error")
    engine, faults = EngineConfig.model_validate(ENGINE), FaultRates(fail=0.3, cut=0.3)
    with SimServer(engine, model=MODEL, faults=faults) as flaky:
        environment = plain_environment(AGENTPERF_FLAKY=flaky.url)
        done = subprocess.run(
            command, cwd=place.folder, env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.stderr == ""
    return Measured(place, done.returncode, done.stdout, junit)


def tier(measured: Measured, system: str, name: str) -> TierResult:
    (entry,) = measured.place.leaderboard(system).entries
    return next(t for t in entry.tiers if t.tier.name == name)


def junit_cases(measured: Measured, function: str) -> dict[str, junitparser.TestCase]:
    suite = next(iter(junitparser.JUnitXml.fromfile(str(measured.junit))))
    return {case.name: case for case in suite if case.name.startswith(f"{function}[")}


def properties(case: junitparser.TestCase) -> dict[str, str]:
    found = properties_of(case)
    return {
        name.removeprefix("agentperf."): value
        for name, value in found.items()
        if name.startswith("agentperf.")
    }


def test_outcomes(measured: Measured) -> None:
    assert measured.code == 1
    lines = measured.output.splitlines()
    outcomes = {
        word: sorted(
            line.split("::")[1].split(" ")[0]
            for line in lines
            if line.startswith(word + " ") and "::" in line
        )
        for word in ("FAILED", "ERROR")
    }
    assert outcomes["FAILED"] == [
        "test_capacity[box-tier2]",
        "test_capacity[flaky-tier1]",
        "test_capacity[flaky-tier2]",
        "test_capacity[slow-tier1]",
        "test_capacity[slow-tier2]",
        # Asked for inside the test, an INVALID tier can only fail it.
        "test_late[late-tier1]",
        "test_late[late-tier2]",
    ]
    assert outcomes["ERROR"] == [
        f"test_{name}[late-tier{n}]" for name in ("again", "capacity", "own_fixture") for n in (1, 2)
    ]


def test_header(measured: Measured) -> None:
    (line,) = [
        line for line in measured.output.splitlines() if line.startswith(f"agentperf: {__version__}, ")
    ]
    assert "systems: box (demo/1; power: sim), slow (demo/1; power: sim), late (" in line
    assert str(measured.place.results) in line


def test_each_phase_has_a_line(measured: Measured) -> None:
    lines = [line for line in measured.output.splitlines() if line.startswith("agentperf box: ")]
    (entry,) = measured.place.leaderboard("box").entries
    assert len(lines) == len([p for p in entry.phases if p.kind != "warmup"])
    assert lines[0].startswith("agentperf box: ramp ")
    assert "1 agent:" in lines[0]
    assert "tier1 PASS tier2 PASS" in lines[0]


def test_a_missed_expectation_shows_the_table_and_the_constraint(measured: Measured) -> None:
    expected = tier(measured, "box", "tier2").tier
    assert f"tier2 ({expected}): 1 agent, expected 3 or more" in measured.output
    assert "binding constraint: output speed (P25), violated at 2 agents" in measured.output
    table = measured.output.partition("AssertionError: tier2 (")[2].partition("assert 1 >= 3")[0]
    rows = [line.split() for line in table.splitlines()]
    heading = [
        "agents",
        "phase",
        "verdict",
        "speed",
        "P25",
        "TTFT",
        "P95",
        "tok/s",
        "cached",
        "waiting",
        "requests",
        "failed",
    ]
    assert heading in [row[row.index("agents") :] for row in rows if "phase" in row]
    assert any(row[-10:-7] == ["1", "confirm", "PASS"] for row in rows)
    assert any(row[-10:-7] == ["2", "ramp", "FAIL"] for row in rows)


def test_an_invalid_run_says_why_and_what_to_do(measured: Measured) -> None:
    assert "agentperf: INVALID: INVALID at N = 1 in 1 attempts: a load worker " in measured.output
    assert (
        "use more load workers (--agentperf-workers, --agentperf-load) or free the CPU there"
        in measured.output
    )
    # A traceback of ours would bury the message.
    assert "measuring.py" not in measured.output


def test_summary_table(measured: Measured) -> None:
    summary = measured.output.partition("= agentperf =")[2]
    assert "Tiny · edition first · ruleset demo/1 · dataset four (4 trajectories)" in summary
    rows = [line.split() for line in summary.splitlines() if line.startswith("  ")]
    assert rows[0][:4] == ["system", "tier", "SLO", "agents"]
    found = {(row[0], row[1]): (row[6], row[7]) for row in rows[1:]}
    assert found == {
        ("box", "tier1"): ("2", "2"),
        ("box", "tier2"): ("1", "3"),
        ("slow", "tier1"): ("0", "–"),
        ("slow", "tier2"): ("0", "–"),
        ("late", "tier1"): ("–", "–"),
        ("late", "tier2"): ("–", "–"),
        ("flaky", "tier1"): ("0", "–"),
        ("flaky", "tier2"): ("0", "–"),
    }
    for name in SYSTEMS:
        assert f"results: {measured.place.run_folder(name) / 'leaderboard.json'}" in summary
        assert (f"{name}: simulated:" in summary) == (name != "flaky")
    assert "late: invalid: tier1:" in summary


def test_junit_properties_of_each_outcome(measured: Measured) -> None:
    cases = junit_cases(measured, "test_capacity")
    assert list(cases) == [f"test_capacity[{system}-tier{n}]" for system in SYSTEMS for n in (1, 2)]
    verdicts = {name: properties(case)["verdict"] for name, case in cases.items()}
    assert list(verdicts.values()) == ["PASS", *["FAIL"] * 3, *["INVALID"] * 2, *["FAIL"] * 2]
    results = [type(case.result[0]) if case.result else None for case in cases.values()]
    assert results == [None, *[junitparser.Failure] * 3, *[junitparser.Error] * 2, *[junitparser.Failure] * 2]

    good = properties(cases["test_capacity[box-tier1]"])
    result = tier(measured, "box", "tier1")
    assert result.metrics is not None
    assert result.normalisation is not None
    assert good["suite"] == "tiny"
    assert good["edition"] == "first"
    assert good["system"] == "box"
    assert good["tier"] == "tier1"
    assert good["ruleset"] == "demo/1"
    assert good["agents"] == "2"
    assert good["expected_agents"] == "2"
    assert good["at_least"] == "false"
    assert good["complete"] == good["confirmed"] == good["simulated"] == "true"
    assert good["comparable"] == "false"
    assert good["binding_constraint"] == "output_speed_p25"
    assert float(good["output_speed_p25_tok_s"]) == result.metrics.output_speed_p25_tok_s
    assert float(good["ttft_p95_s"]) == result.metrics.ttft_p95_s
    assert float(good["throughput_tok_s"]) == result.metrics.throughput_tok_s
    assert float(good["agents_per_accelerator"]) == 1.0
    assert float(good["agents_per_system"]) == 8.0
    assert float(good["agents_per_mw"]) == result.normalisation.agents.per_mw
    assert float(good["throughput_tok_s_per_kw"]) == result.normalisation.throughput_tok_s.per_kw
    assert result.energy is not None
    assert float(good["power_w"]) == result.energy.mean_power_w
    assert not [name for name in good if name.endswith(("per_rack", "per_usd_hour", "_usd"))], "unknown"

    invalid = properties(cases["test_capacity[late-tier1]"])
    assert invalid["reason"].startswith("INVALID at N = 1 in 1 attempts")
    assert "agents" not in invalid, "what is unknown is left out"
    assert properties(cases["test_capacity[slow-tier1]"])["agents"] == "0"


@pytest.mark.parametrize("function", ["test_again", "test_own_fixture", "test_late"])
def test_junit_properties_of_tests_of_ones_own(measured: Measured, function: str) -> None:
    for name, case in junit_cases(measured, function).items():
        twin = junit_cases(measured, "test_capacity")[name.replace(function, "test_capacity")]
        assert properties(case) == properties(twin)


def whole(suite: Any) -> list[tuple[str, str]]:
    """Return the properties of a whole file."""
    return [(found.name, found.value) for found in suite.child(junitparser.Properties)]


def test_junit_conforms_to_its_schema(measured: Measured) -> None:
    schema = xmlschema.XMLSchema(JUNIT_XSD)
    schema.validate(str(measured.junit))
    text = measured.junit.read_text(encoding="utf-8")
    assert not schema.is_valid(text.replace("<testcase ", "<testcase unknown='' ", 1))


def test_junit_says_once_what_holds_for_the_whole_file(measured: Measured) -> None:
    suite = next(iter(junitparser.JUnitXml.fromfile(str(measured.junit))))
    told = whole(suite)
    assert len(told) == len(set(told))
    found = dict(told)
    assert found["agentperf.version"] == __version__
    assert found["agentperf.suite"] == "tiny first"
    assert found["agentperf.ruleset"] == "demo/1"
    entry = measured.place.leaderboard("box").entries[0]
    assert found["agentperf.box.digest"] == f"sha256:{entry.digests.system}"
    assert {value for name, value in told if name == "agentperf.system"} == set(SYSTEMS)


def test_another_reader_of_junit_sees_the_same(measured: Measured) -> None:
    report = junit2htmlreport.parser.Junit(filename=str(measured.junit))
    (suite,) = report.suites
    theirs = {case.name: case for case in suite.all()}
    for name, case in junit_cases(measured, "test_capacity").items():
        assert {p.name.removeprefix("agentperf."): p.value for p in theirs[name].properties} == properties(
            case
        )
        assert theirs[name].outcome() == ("failed" if case.result else "passed")
        assert float(theirs[name].duration) == case.time
    failed = theirs["test_capacity[box-tier2]"]
    assert "binding constraint: output speed (P25)" in failed.failure_msg + failed.failure


def test_junit_files_of_shards_are_merged_by_junitparser(measured: Measured, tmp_path: Path) -> None:
    out = tmp_path / "all.xml"
    again = tmp_path / "again.xml"
    again.write_bytes(measured.junit.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "junitparser", "merge", str(measured.junit), str(again), str(out)], check=True
    )
    (suite,) = junitparser.JUnitXml.fromfile(str(out))
    (one,) = junitparser.JUnitXml.fromfile(str(measured.junit))
    assert sorted(case.name for case in suite) == sorted(case.name for case in one for _ in range(2))
    assert ("agentperf.ruleset", "demo/1") in whole(suite)
    for case in suite:
        if case.name == "test_capacity[box-tier1]":
            assert properties(case)["agents"] == "2"


def test_a_test_of_the_system_alone_has_one_case_each(measured: Measured) -> None:
    assert list(junit_cases(measured, "test_system_alone")) == [
        f"test_system_alone[{system}]" for system in SYSTEMS
    ]


def test_one_folder_and_one_leaderboard_per_system(measured: Measured) -> None:
    folders = sorted(path.name for path in measured.place.results.iterdir())
    assert [name.rpartition("-")[0] for name in folders] == [
        "tiny-box",
        "tiny-flaky",
        "tiny-late",
        "tiny-slow",
    ]
    assert len({name.rpartition("-")[2] for name in folders}) == 1
    for folder in measured.place.results.iterdir():
        # Power and the server's metrics, too, where they could be read.
        assert {path.name for path in folder.iterdir()} - {"power", "server"} == {
            "journal.jsonl",
            "leaderboard.json",
            "report.html",
            "requests",
            "turns.parquet",
        }


def test_each_tier_is_measured_once(measured: Measured) -> None:
    """Four functions ask for every tier, and pytest comes back to `box` after `late`."""
    (entry,) = measured.place.leaderboard("box").entries
    assert [phase.phase for phase in entry.phases] == list(range(len(entry.phases)))
    assert [phase.kind for phase in entry.phases].count("warmup") == 1
    assert len({(p.n_agents, p.attempt) for p in entry.phases if p.kind != "warmup"}) == len(entry.phases) - 1
    (slow,) = measured.place.leaderboard("slow").entries
    assert [(p.kind, p.n_agents) for p in slow.phases] == [("warmup", 1), ("ramp", 1)]


def test_capacities(measured: Measured) -> None:
    one, two = tier(measured, "box", "tier1"), tier(measured, "box", "tier2")
    assert (one.agents, one.failed_min, one.confirmed, one.verdict) == (2, 3, True, "PASS")
    assert (two.agents, two.failed_min, two.confirmed, two.verdict) == (1, 2, True, "PASS")
    zero = tier(measured, "slow", "tier1")
    assert (zero.agents, zero.failed_min, zero.complete) == (0, 1, True)
    assert (zero.metrics, zero.normalisation, zero.published_phase) == (None, None, None)
    assert zero.binding_constraint == "output_speed_p25"
    invalid = tier(measured, "late", "tier2")
    assert (invalid.agents, invalid.verdict) == (None, "INVALID")


def test_leaderboard_is_a_closed_schema(measured: Measured) -> None:
    path = measured.place.run_folder("box") / "leaderboard.json"
    content = load_json(path)
    assert content["schema"] == "agentperf-leaderboard/2"
    board = Leaderboard.model_validate(content)
    for system in SYSTEMS:
        jsonschema.Draft202012Validator(leaderboard_schema()).validate(
            load_json(measured.place.run_folder(system) / "leaderboard.json")
        )
    assert board.model_dump_json(by_alias=True, indent=2) + "\n" == path.read_text(encoding="utf-8")
    for changed in (content | {"more": 1}, content | {"schema": "agentperf-leaderboard/3"}):
        with pytest.raises(ValidationError):
            Leaderboard.model_validate(changed)
    changed = load_json(path)
    changed["entries"][0]["tiers"][0]["score"] = 1
    with pytest.raises(ValidationError):
        Leaderboard.model_validate(changed)


def test_entry_says_what_a_reader_must_know(measured: Measured) -> None:
    board = measured.place.leaderboard("box")
    assert {"pytest-agentperf", "python", "numpy", "pytest"} <= set(board.entries[0].software)
    (entry,) = board.entries
    assert entry.simulated
    assert entry.complete.value
    assert entry.valid.value
    assert not entry.comparable.value
    assert entry.seeds.assignment_seed == 0
    assert len(entry.seeds.nonce) >= 32
    assert not entry.dataset.official
    listed = {d.rule for d in entry.deviations}
    assert listed == {*OVERRIDES, "dataset"}
    reason = next(
        text for text in entry.comparable.reasons if text.startswith("deviations from the ruleset: ")
    )
    assert set(reason.partition(": ")[2].split(", ")) == listed
    (late,) = measured.place.leaderboard("late").entries
    assert not late.valid.value


def records_of(folder: Path, phase: PhaseResult) -> pd.DataFrame:
    assert phase.records is not None
    return pd.read_parquet(folder / phase.records)


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    k, weight = divmod((len(ordered) - 1) * percent, 100)
    low, high = ordered[int(k)], ordered[min(int(k) + 1, len(ordered) - 1)]
    if weight == 0:
        return low
    return math.inf if math.isinf(high) else low + weight / 100 * (high - low)


def recomputed(frame: pd.DataFrame, phase: PhaseResult) -> dict[str, Any]:
    """METHODOLOGY §4.1 to 4.4, 4.11 and 4.13, request by request."""
    opened, closed = phase.window_open_ns, phase.window_close_ns
    ttft, speed, tokens = [], [], 0.0
    for r in frame.itertuples():
        failed = isinstance(r.failure, str)
        if opened <= r.t_sent_ns < closed:
            ttft.append(math.inf if failed else (r.t_first_ns - r.t_sent_ns) / 1e9)
            if failed:
                speed.append(0.0)
            elif r.output_tokens > 1:
                streamed = r.t_last_ns > r.t_first_ns and r.output_tokens > r.first_chunk_tokens
                count = r.output_tokens - r.first_chunk_tokens if streamed else r.output_tokens
                speed.append(count / ((r.t_last_ns - (r.t_first_ns if streamed else r.t_sent_ns)) / 1e9))
        if not failed:
            first_in = opened <= r.t_first_ns < closed
            rest, duration = r.output_tokens - r.first_chunk_tokens, r.t_last_ns - r.t_first_ns
            inside = max(0, min(r.t_last_ns, closed) - max(r.t_first_ns, opened))
            tokens += r.first_chunk_tokens * first_in
            tokens += rest * (inside / duration if duration else first_in)
    return {
        "requests": len(ttft),
        "ttft_p95_s": percentile(ttft, 95),
        "output_speed_p25_tok_s": percentile(speed, 25),
        "throughput_tok_s": tokens / ((closed - opened) / 1e9),
    }


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_numbers_follow_from_the_records(measured: Measured, system: str) -> None:
    folder = measured.place.run_folder(system)
    (entry,) = measured.place.leaderboard(system).entries
    checked = 0
    for phase in entry.phases:
        frame = records_of(folder, phase)
        assert set(frame["phase"]) == {phase.phase}
        if phase.kind == "warmup":
            continue
        assert phase.metrics is not None
        wanted = recomputed(frame, phase)
        found = {name: getattr(phase.metrics, name) for name in wanted}
        assert (found["ttft_p95_s"] is None) == math.isinf(wanted["ttft_p95_s"]) == (system == "flaky")
        found["ttft_p95_s"] = math.inf if found["ttft_p95_s"] is None else found["ttft_p95_s"]
        assert found == pytest.approx(wanted, rel=1e-12)
        assert int(frame["in_window"].sum()) == phase.metrics.requests
        assert set(frame["agent"]) == set(range(phase.n_agents))
        checked += 1
    assert checked == len(entry.phases) - 1
    assert {path.name for path in (folder / "requests").iterdir()} == {
        str(phase.records).removeprefix("requests/") for phase in entry.phases
    }


def test_failures_are_infinite_and_never_dropped(measured: Measured) -> None:
    (entry,) = measured.place.leaderboard("flaky").entries
    (phase,) = [phase for phase in entry.phases if phase.kind != "warmup"]
    assert phase.metrics is not None
    assert phase.metrics.ttft_p95_s is None
    assert "requests failed" in phase.metrics.infinite["ttft_p95_s"]
    frame = records_of(measured.place.run_folder("flaky"), phase)
    failures = frame[frame["in_window"]]["failure"].value_counts().to_dict()
    assert failures == phase.metrics.failures
    assert "cut" in failures
    assert re.search(r"1 +ramp +FAIL +[\d.]+ +∞ ", measured.output)
    assert not entry.simulated


def test_records_are_integers_with_real_nulls(measured: Measured) -> None:
    (entry,) = measured.place.leaderboard("box").entries
    frame = records_of(measured.place.run_folder("box"), entry.phases[-1])
    assert frame["failure"].isna().all()
    assert frame["t_sent_ns"].dtype == "int64"
    assert (frame["output_tokens"] == 16).all()
    # A time where a connection was opened, nothing where one was reused.
    assert (frame["connect_ns"].dropna() > 0).all()
    assert not (frame.select_dtypes("number") < 0).any().any()
    assert frame["response_id"].is_unique
    (entry,) = measured.place.leaderboard("flaky").entries
    frame = records_of(measured.place.run_folder("flaky"), entry.phases[-1])
    lost = frame["failure"].notna()
    assert lost.any()
    assert frame["output_tokens"][lost].isna().all()
    assert frame["output_tokens"][~lost].eq(16).all()


def test_published_metrics_are_those_of_the_confirming_phase(measured: Measured) -> None:
    (entry,) = measured.place.leaderboard("box").entries
    for result in entry.tiers:
        phase = next(p for p in entry.phases if p.phase == result.published_phase)
        assert result.agents is not None
        assert (phase.kind, phase.n_agents) == ("confirm", result.agents)
        assert result.metrics == phase.metrics
        assert result.energy == phase.energy
        assert result.normalisation is not None
        assert result.normalisation.agents.per_accelerator == result.agents / result.accelerators


def test_nothing_else_was_written(measured: Measured) -> None:
    inputs = ("pytest.ini", "suites/", "systems/", "junit.xml")
    outputs = [name for name in measured.place.files() if not name.startswith(inputs)]
    assert all(name.startswith("agentperf-results/tiny-") for name in outputs)
    kinds = (
        "leaderboard.json",
        r"report\.html",
        r"turns\.parquet",
        r"(requests|power|server)/\d{3}-[a-z]+-\d+\.parquet",
        r"journal\.jsonl",
    )
    assert all(re.fullmatch(f"agentperf-results/[^/]+/({'|'.join(kinds)})", name) for name in outputs)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_journal_alone_tells_the_same(measured: Measured, system: str) -> None:
    folder = measured.place.run_folder(system)
    (entry,) = measured.place.leaderboard(system).entries
    found = recover(folder, read_journal(folder / JOURNAL))
    assert found is not None
    assert found.problems == ()
    assert found.entry.model_dump(mode="json") == entry.model_dump(mode="json")


def test_results_are_this_users_alone(measured: Measured) -> None:
    results = measured.place.results
    for path in (results, *results.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_documented_script_recomputes_the_score(measured: Measured) -> None:
    document = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    script = document.partition("<!-- recompute -->\n```python\n")[2].partition("\n```\n")[0]
    command = [sys.executable, "-c", script, str(measured.place.run_folder("box"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [(line[0], line[2:]) for line in lines] == [
        (name, ["equal"]) for name in ("ttft_p95_s", "output_speed_p25_tok_s", "throughput_tok_s")
    ]


def test_the_servers_own_metrics_are_kept_and_shown(measured: Measured) -> None:
    entry = measured.place.leaderboard("box").entries[0]
    folder = measured.place.run_folder("box")
    for phase in entry.phases:
        assert phase.server is not None
        assert phase.server.engines == ("sim",)
        assert phase.server.preemptions == 0
        assert phase.server.cache_hit_share is not None
        assert phase.server.samples is not None
        frame = pd.read_parquet(folder / phase.server.samples)
        # At the start, at the end, and perhaps between.
        assert len(frame) >= 2
        assert frame["t_ns"].is_monotonic_increasing
        assert frame["t_ns"].iloc[-1] >= phase.window_close_ns
        assert frame["acceptance_rate"].isna().all()
    assert re.search(r"agents +phase .* cached +waiting ", measured.output)
    assert re.search(r"ramp +1 agent: .* from cache.* tier1 ", measured.output)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_outcome_can_be_verified_from_its_bundle(
    measured: Measured, tmp_path: Path, system: str
) -> None:
    path = tmp_path / "run.tar.gz"
    make_bundle(measured.place.run_folder(system), path)
    locked = {id_: ruleset.model_dump(mode="json") for id_, ruleset in RULESETS.items()}
    with Bundle(path, bytes_max=1 << 30) as bundle:
        findings = verify(bundle, locked=locked)
    assert [str(one) for one in findings if one.status == "fails"] == []
    assert sum(one.check == "verdicts" for one in findings) >= 1
