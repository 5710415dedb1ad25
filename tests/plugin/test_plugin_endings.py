"""Sessions that end in another way: spent budgets, Ctrl-C, refusing endpoints, -x and --lf, several workers."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import junitparser
import pandas as pd
import pytest
from plugin_support import (
    ENGINE,
    MODEL,
    SWIFT,
    Workplace,
    group_lives,
    noted,
    plain_environment,
    properties_of,
    pytest_command,
    wait_for,
)

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.config.run import RunOptions, resolve
from pytest_agentperf.deploy.lock import SystemLock
from pytest_agentperf.sim.process import SimServer

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-agentperf-test-0123456789"


def test_a_budget_ends_the_search_with_what_it_knows(pytester: pytest.Pytester, place: Workplace) -> None:
    """One agent at least passes in time, a million are out of reach."""
    place.system("swift", engine=SWIFT, expected={"tier2": 1_000_000})
    result = pytester.runpytest_inprocess(
        "suites/tiny", "--system=swift", "--agentperf-budget=3s", "--junitxml=j.xml"
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*agentperf: INCONCLUSIVE: the budget of 3 s was spent, with 1000000 agents neither reached *"]
    )
    result.stdout.fnmatch_lines(
        ["swift: incomplete: tier1: the budget of 3 s was spent; tier2: the budget of 3 s *"]
    )
    (entry,) = place.leaderboard("swift").entries
    assert not entry.complete.value
    assert entry.valid.value
    for found in entry.tiers:
        assert (found.agents, found.verdict, found.failed_min, found.complete) == (None, None, None, False)
        assert found.passed_max >= 1
    # A phase that the budget broke off left nothing behind.
    assert len(list(place.run_folder("swift").glob("requests/*"))) == len(entry.phases)
    suite = next(iter(junitparser.JUnitXml.fromfile("j.xml")))
    verdicts = [properties_of(case) for case in suite]
    assert [found["agentperf.verdict"] for found in verdicts] == ["PASS", "INCONCLUSIVE"]
    assert {found["agentperf.complete"] for found in verdicts} == {"false"}


def test_a_budget_that_is_gone_at_once(pytester: pytest.Pytester, place: Workplace) -> None:
    result = pytester.runpytest_inprocess("suites/tiny", "--system=box", "--agentperf-budget=1tok", "-q")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        ["*INCONCLUSIVE: the budget of 1 tokens was spent, with 1 agent neither reached*"]
    )
    (entry,) = place.leaderboard("box").entries
    assert entry.phases == ()
    assert not entry.complete.value


def test_at_least_n(pytester: pytest.Pytester, place: Workplace) -> None:
    """Without xdist and cache, quietly: a table, the path and nothing else of ours."""
    arguments = ("suites/tiny", "--system=box", "--agentperf-max-agents=1", "--agentperf-tier=tier1")
    result = pytester.runpytest_inprocess(*arguments, "-q", "-p", "no:xdist", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    (entry,) = place.leaderboard("box").entries
    (tier,) = entry.tiers
    assert (tier.agents, tier.at_least, tier.failed_min, tier.verdict) == (1, True, None, "PASS")
    assert entry.complete.reasons == ("tier2: not run",)
    (row,) = [line.split() for line in result.outlines if line.startswith("  box")]
    assert row[6] == "≥1"
    assert f"results: {place.run_folder('box')}/leaderboard.json" in result.outlines
    assert not [line for line in result.outlines if line.startswith(("agentperf", "= agentperf", "box: "))]


def test_x_stops_and_lf_repeats_without_overwriting(pytester: pytest.Pytester, place: Workplace) -> None:
    place.system("slow", engine={"step_base_ms": 20})
    arguments = ("suites/tiny", "--system=slow", "--agentperf-rehearse", "-x")
    result = pytester.runpytest_inprocess(*arguments)
    result.assert_outcomes(failed=1)
    (entry,) = place.leaderboard("slow").entries
    assert [tier.tier.name for tier in entry.tiers] == ["tier1"]
    assert entry.complete.reasons == ("tier2: not run",)
    first = {path: path.read_bytes() for path in place.results.rglob("*") if path.is_file()}
    result = pytester.runpytest_inprocess(*arguments, "--lf", "--maxfail=1")
    result.assert_outcomes(failed=1)
    assert len(list(place.results.iterdir())) == 2
    assert first == {path: path.read_bytes() for path in first}


def test_a_folder_that_another_run_began_is_left_alone(
    pytester: pytest.Pytester, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs that began in the same second, or a replaced xdist worker: the second one is told to wait."""
    monkeypatch.setattr(
        "pytest_agentperf.plugin.session.new_stamp", lambda results, rehearsal: "20260612T000000Z"
    )
    theirs = place.write(
        "agentperf-results/tiny-box-20260612T000000Z/requests/000-warmup-1.parquet", "theirs"
    )
    result = pytester.runpytest_inprocess("suites/tiny", "--system=box")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        ["*tiny-box-20260612T000000Z: another run has written results there*", "*→ run again*"]
    )
    assert theirs.read_text(encoding="utf-8") == "theirs"
    assert len(list(theirs.parents[1].rglob("*"))) == 2


def test_records_that_cannot_be_written_are_an_error_with_a_remedy(
    pytester: pytest.Pytester, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pytest_agentperf.plugin.measuring.store_phase", full)
    result = pytester.runpytest_inprocess("suites/tiny", "--system=box", "-k", "tier1")
    result.assert_outcomes(errors=1, deselected=1)
    result.stdout.fnmatch_lines(["*the records cannot be written: No space left on device", "*→ make room*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_leaderboard_that_cannot_be_written_fails_the_session(
    pytester: pytest.Pytester, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pytest_agentperf.results.artifact.write_leaderboard", full)
    result = pytester.runpytest_inprocess(
        "suites/tiny", "--system=box", "--agentperf-max-agents=1", "-k", "tier1"
    )
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["agentperf: the leaderboard was not written: *No space left on device*"])


# Endpoints that refuse


class _Refusing(BaseHTTPRequestHandler):
    """`/KIND/v1/…`: each kind of endpoint fails in its own way."""

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        if kind == "locked":
            self._answer(401, {"error": {"message": f"bad key {self.headers['Authorization']}"}})
        elif self.path.endswith("/models"):
            names = ["org/large", "org/small"] if kind == "other" else [MODEL]
            self._answer(200, {"data": [{"id": name} for name in names]})
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind = self.path.split("/")[1]
        if kind == "fickle" and request["messages"][0]["content"].endswith("You write code."):
            self._answer(503, {})
            return
        if kind == "echo":
            self._answer(400, {"error": {"message": f"what is {self.headers['Authorization']}?"}})
            return
        chunk = {"choices": [{"index": 0, "delta": {"content": "word"}, "finish_reason": None}]}
        last: dict[str, object] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        if kind == "fickle":
            last["usage"] = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in (chunk, last)) + "data: [DONE]\n\n"
        self._answer(200, body.encode(), "text/event-stream")

    def _answer(self, status: int, content: object, kind: str = "application/json") -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_endpoints_that_refuse(
    pytester: pytest.Pytester, place: Workplace, refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTPERF_TEST_KEY", KEY)
    kinds = ("locked", "other", "unmetered", "echo")
    for kind in kinds:
        place.system(kind, endpoint={"url": f"{refusing}/{kind}/v1", "api_key_env": "AGENTPERF_TEST_KEY"})
    place.system("absent", endpoint={"url": "http://127.0.0.1:9/v1"})
    before = place.files()
    systems = [f"--system={kind}" for kind in (*kinds, "absent")]
    result = pytester.runpytest_inprocess(
        "suites/tiny", *systems, "--agentperf-tier=tier1", "-rE", "-l", "--junitxml=j.xml"
    )
    result.assert_outcomes(errors=5)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = result.stdout.str()
    assert "it refused our API key (HTTP 401)" in text
    assert f"the endpoint does not serve the model '{MODEL}'" in text
    assert "it serves org/large, org/small: set endpoint.model in the system's file" in text
    assert "its stream has no usage, so output tokens cannot be counted" in text
    assert "http://127.0.0.1:9/v1: no answer" in text
    assert "what is ***?" in text
    assert text.count("--agentperf-force") == 5
    assert "Traceback" not in text
    assert KEY not in text
    found = [properties_of(case) for case in next(iter(junitparser.JUnitXml.fromfile("j.xml")))]
    assert {case["agentperf.verdict"] for case in found} == {"INVALID"}
    reasons = {case["agentperf.system"]: case["agentperf.reason"] for case in found}
    assert "refused our API key" in reasons["locked"]
    assert "does not serve the model" in reasons["other"]
    assert "what is ***?" in reasons["echo"]
    assert not any("\n" in reason or "→" in reason for reason in reasons.values())
    assert KEY not in (place.folder / "j.xml").read_text(encoding="utf-8")
    (place.folder / "j.xml").unlink()
    assert place.files() == before


def test_a_server_that_fails_every_request_has_no_capacity_of_0(
    pytester: pytest.Pytester, place: Workplace, refusing: str
) -> None:
    """The checks pass, the warm-up does not; the second tier does not go on from there."""
    place.system("fickle", endpoint={"url": f"{refusing}/fickle/v1"})
    result = pytester.runpytest_inprocess("suites/tiny", "--system=fickle")
    result.assert_outcomes(errors=2)
    found = re.findall(
        r"^agentperf: .* requests of the warm-up failed; the first: \w+ \(HTTP 503", result.stdout.str(), re.M
    )
    assert len(found) == 2
    assert "During handling" not in result.stdout.str()
    assert not list(place.results.rglob("leaderboard.json"))


def test_a_missing_dataset(pytester: pytest.Pytester, place: Workplace) -> None:
    arguments = ("suites/tiny", "--system=box", "--agentperf-dataset=no/such")
    result = pytester.runpytest_inprocess(*arguments, "-k", "tier1", "--junitxml=j.xml")
    result.assert_outcomes(errors=1, deselected=1)
    result.stdout.fnmatch_lines([f"*agentperf: {place.folder}/no/such*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    (found,) = [properties_of(case) for case in next(iter(junitparser.JUnitXml.fromfile("j.xml")))]
    assert found["agentperf.verdict"] == "INVALID"
    assert f"{place.folder}/no/such" in found["agentperf.reason"]
    assert not place.results.exists()


def test_who_waits_for_the_dataset_sees_how_far_it_is(
    pytester: pytest.Pytester, place: Workplace, refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_agentperf.encoding._PROGRESS_EVERY_NS", 0)
    place.system("other", endpoint={"url": f"{refusing}/other/v1"})
    result = pytester.runpytest_inprocess("suites/tiny", "--system=other", "-k", "tier1")
    # A line a minute, where there is no terminal to rewrite one.
    lines = [line for line in result.stdout.lines if "preparing the dataset" in line]
    assert lines == ["agentperf other: preparing the dataset, 1 of 4 trajectories"]


def test_one_run_at_a_time_on_a_system(pytester: pytest.Pytester, place: Workplace, refusing: str) -> None:
    place.system("other", endpoint={"url": f"{refusing}/other/v1"})
    path = place.folder / "systems/other.yaml"
    settings = resolve(place.folder / "suites/tiny", path, RunOptions(), start=place.folder)
    with SystemLock(settings):
        result = pytester.runpytest_inprocess("suites/tiny", "--system=other", "-k", "tier1")
    result.assert_outcomes(errors=1, deselected=1)
    result.stdout.fnmatch_lines(["*another run is measuring the system other", "*→ wait for it to end*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    again = pytester.runpytest_inprocess("suites/tiny", "--system=other", "-k", "tier1")
    again.stdout.no_fnmatch_line("*another run is measuring*")


# Several processes


def test_each_system_stays_in_one_xdist_worker(place: Workplace) -> None:
    """Two systems at a time, one of them attached with an API key, which shows up nowhere."""
    place.test(
        """
        import os
        import pytest

        @pytest.mark.parametrize("n", [1, 2])
        def test_capacity(capacity_run, slo_tier, n, request):
            request.node.user_properties.append(("worker", os.environ["PYTEST_XDIST_WORKER"]))
            assert capacity_run.agents >= slo_tier.expected_agents, capacity_run.report()

        def test_system(system):
            pass
        """
    )
    place.write("systems/renamed.yaml", (place.folder / "systems/box.yaml").read_text(encoding="utf-8"))
    endpoint = {"url_env": "AGENTPERF_TEST_URL", "api_key_env": "AGENTPERF_TEST_KEY"}
    place.system("attached", endpoint=endpoint, expected={"tier2": 5})
    options = ("--system=systems/renamed.yaml", "--system=attached", "--agentperf-max-agents=1")
    command = pytest_command("suites", "-n2", *options, "--junitxml=j.xml", "-vv", "-l", "-rA")
    with SimServer(EngineConfig.model_validate(ENGINE), model=MODEL, api_key=KEY) as server:
        environment = plain_environment(AGENTPERF_TEST_KEY=KEY, AGENTPERF_TEST_URL=server.url)
        done = subprocess.run(
            command, cwd=place.folder, env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 1, done.stdout
    assert "8 passed, 2 failed" in done.stdout or "2 failed, 8 passed" in done.stdout
    workers: dict[str, set[str]] = {}
    for case in next(iter(junitparser.JUnitXml.fromfile(str(place.folder / "j.xml")))):
        if case.name.startswith("test_capacity"):
            found = properties_of(case)
            workers.setdefault(found["agentperf.system"], set()).add(found["worker"])
            assert found["agentperf.verdict"] == ("FAIL" if "attached-tier2" in case.name else "PASS")
    assert sorted(workers) == ["attached", "box"]
    assert [len(names) for names in workers.values()] == [1, 1]
    stamps = {path.name.rpartition("-")[2] for path in place.results.iterdir()}
    assert len(stamps) == 1
    assert len(list(place.results.rglob("leaderboard.json"))) == 2
    for name in ("box", "attached"):
        (entry,) = place.leaderboard(name).entries
        assert [tier.tier.name for tier in entry.tiers] == ["tier1", "tier2"]
        assert [phase.kind for phase in entry.phases] == ["warmup", "ramp", "confirm"]
        assert entry.complete.value
    assert not place.leaderboard("attached").entries[0].simulated
    # A key that shows up in one of these is a key in somebody's CI log.
    assert KEY not in done.stdout + done.stderr
    for path in place.folder.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    for path in place.results.rglob("*.parquet"):
        assert not pd.read_parquet(path).astype(str).apply(lambda c: c.str.contains(KEY)).any().any()


def test_ctrl_c_keeps_what_was_measured(place: Workplace) -> None:
    """On a terminal: the live line runs, Ctrl-C reaches the whole process group, nobody is left in it."""
    # Long enough for Ctrl-C to find the second phase in its window, on a busy machine too.
    place.system("swift", engine=SWIFT, overrides={"min_window_s": 2.0})
    controller, terminal = pty.openpty()
    command = pytest_command("suites/tiny", "--system=swift", "--junitxml=j.xml")
    process = subprocess.Popen(
        command, cwd=place.folder, env=plain_environment(TERM="xterm"), start_new_session=True,
        stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    shown = ""
    interrupted = False
    try:
        while select.select([controller], [], [], 60)[0]:
            try:
                received = os.read(controller, 65_536)
            except OSError:
                break
            shown += received.decode(errors="replace")
            # The second phase runs, and its window is open.
            if not interrupted and re.search(r"ramp 2 agents · window .*P25", shown):
                interrupted = True
                os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == pytest.ExitCode.INTERRUPTED
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finally:
        os.close(controller)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert interrupted
    assert "agentperf swift: warmup 1 agent" in shown
    assert re.search(
        r"ramp 1 agent · window \d\.\d/2 s · P25 [\d,.]+ tok/s · P95 \d\.\d\d s · \d+/1 traj", shown
    )
    assert re.search(r"agentperf swift: ramp +1 agent: .* tier1 PASS tier2 PASS", shown)
    assert re.search(r"ending: no new requests are sent, .* within 10 s; Ctrl-C again stops now", shown)
    assert "Interrupted: the run was asked to end" in shown
    (entry,) = place.leaderboard("swift").entries
    assert [phase.kind for phase in entry.phases] == ["warmup", "ramp"]
    (tier,) = entry.tiers
    assert (tier.passed_max, tier.agents, tier.complete) == (1, None, False)
    assert entry.complete.reasons == ("tier1: the search was broken off", "tier2: not run")
    assert f"results: {place.run_folder('swift')}/leaderboard.json" in shown.replace("\r\n", "")
    files = [path for path in place.run_folder("swift").rglob("*") if path.is_file()]
    # Power and the server have files of the same names, where there was time to read it.
    names = sorted(
        f"{path.parent.name}/{path.name}" for path in files if path.parent.name not in ("power", "server")
    )
    here = place.run_folder("swift").name
    assert names == [
        *(["broken-off/002-ramp-2.parquet"]),
        *(["requests/000-warmup-1.parquet", "requests/001-ramp-1.parquet"]),
        *(f"{here}/{name}" for name in ("journal.jsonl", "leaderboard.json", "report.html", "turns.parquet")),
    ]
    # Whoever was in flight came to an end, and nothing of it is in a window.
    kept = pd.read_parquet(place.run_folder("swift") / "broken-off/002-ramp-2.parquet")
    assert len(kept)
    assert kept["failure"].isna().all()
    assert not kept["in_window"].any()


def test_ctrl_c_under_xdist_keeps_what_was_measured(place: Workplace) -> None:
    """The worker writes, since its controller no longer listens; the controller shows it."""
    place.system("swift", engine=SWIFT)
    command = pytest_command("suites/tiny", "--system=swift", "-n2")
    with (place.folder / "shown").open("wb") as shown:
        process = subprocess.Popen(
            command,
            cwd=place.folder,
            env=plain_environment(),
            start_new_session=True,
            stdout=shown,
            stderr=shown,
        )
    try:
        wait_for(lambda: noted(place, "*-ramp-1.parquet") or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == pytest.ExitCode.INTERRUPTED
        wait_for(lambda: not group_lives(process.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    (entry,) = place.leaderboard("swift").entries
    (tier,) = entry.tiers
    assert tier.passed_max >= 1
    assert entry.complete.reasons == ("tier1: the search was broken off", "tier2: not run")
    text = (place.folder / "shown").read_text(encoding="utf-8")
    assert f"results: {place.run_folder('swift')}/leaderboard.json" in text
    assert "swift: incomplete: tier1: the search was broken off" in text
