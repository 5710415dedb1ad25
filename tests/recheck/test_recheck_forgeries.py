"""Honest bundles hold; forged ones, with every digest made to fit, are caught by the check that is named here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from forging import Forgery, failed, findings, packed, unpacked
from plugin_support import Workplace, plain_environment, pytest_command

import pytest_agentperf
from pytest_agentperf.core.verdict import LOAD_GENERATOR_CODES
from pytest_agentperf.recheck.path import LOAD_GENERATOR
from pytest_agentperf.results.bundle import make_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

CAPACITY = 2
S = 1_000_000_000


class Bundles(NamedTuple):
    measured: Path
    rehearsed: Path
    publishable: Path


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Bundles:
    """One small system, measured over HTTP and rehearsed: two agents pass at tier 1, one at tier 2."""
    place = Workplace(tmp_path_factory.mktemp("evidence"), tiny_dataset)
    # What else a busy machine does to the load generator's calibration is not the question here.
    place.system("box", overrides={"min_window_s": 1.0, "client_error_max": 0.9})
    for options in ((), ("--agentperf-rehearse",)):
        done = subprocess.run(
            pytest_command("suites/tiny", "--system=box", *options),
            cwd=place.folder, env=plain_environment(), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
    folders = sorted(place.results.glob("tiny-box-*"), key=lambda folder: folder.name.endswith("-rehearsal"))
    paths = [place.folder / f"{name}.tar.gz" for name in ("measured", "rehearsed", "publishable")]
    make_bundle(folders[0], paths[0])
    make_bundle(folders[1], paths[1])
    make_bundle(folders[0], paths[2], publishable=True)
    return Bundles(*paths)


@pytest.mark.parametrize("which", Bundles._fields)
def test_honest_bundles_hold(bundles: Bundles, which: str) -> None:
    path = getattr(bundles, which)
    assert failed(path) == {}
    held = {one.check for one in findings(path) if one.status == "holds"}
    assert {
        "manifest",
        "assignment",
        "pace",
        "window",
        "metrics",
        "energy",
        "verdicts",
        "search",
        "capacity",
    } <= held
    assert {"target", "published phase", "normalisation", "ruleset", "files", "flags", "isolation"} <= held
    assert ("prefixes" in held) == (which != "rehearsed")


def test_every_edited_byte_is_named(bundles: Bundles, tmp_path: Path) -> None:
    files = unpacked(bundles.measured)
    for number, name in enumerate(name for name in files if name != "manifest.json"):
        data = bytearray(files[name])
        data[len(data) // 2] ^= 1
        path = packed(tmp_path / f"{number}.tar.gz", {**files, name: bytes(data)})
        assert f"{name} is not the file that was bundled" in failed(path)["manifest"]
    path = packed(
        tmp_path / "less.tar.gz", {name: data for name, data in files.items() if name != "turns.parquet"}
    )
    assert "turns.parquet is missing" in failed(path)["manifest"]
    path = packed(tmp_path / "more.tar.gz", {**files, "notes.txt": b"x"})
    assert "notes.txt is not listed" in failed(path)["manifest"]


# Forgeries of what is published


def raised_score(f: Forgery) -> None:
    for tier in f.tier():
        tier["agents"] = tier["passed_max"] = 3


def unconfirmed_as_confirmed(f: Forgery) -> None:
    """The confirming phase of tier 1 never was: it and what came later are gone from everywhere."""
    cut = min(p["phase"] for p in f.phase("confirm", CAPACITY))
    f.entry["phases"] = [p for p in f.entry["phases"] if p["phase"] < cut]
    f.events = [
        e for e in f.events if e["event"] != "tier_finished" and e.get("result", e).get("phase", -1) < cut
    ]
    f.entry["tiers"] = [t for t in f.entry["tiers"] if t["tier"]["name"] == "tier1"]
    for name in [n for n in f.files if n.split("/")[-1][:3].isdigit() and int(n.split("/")[-1][:3]) >= cut]:
        del f.files[name]


def failing_probe_removed(f: Forgery) -> None:
    number = f.phase("bisect", 3)[0]["phase"]
    f.entry["phases"] = [p for p in f.entry["phases"] if p["phase"] != number]
    f.events = [e for e in f.events if e.get("result", e).get("phase") != number]
    for name in [n for n in f.files if n.split("/")[-1].startswith(f"{number:03d}-")]:
        del f.files[name]


def failure_called_a_pass(f: Forgery) -> None:
    for phase in f.phase("bisect", 3):
        phase["verdicts"][0] |= {"verdict": "PASS", "violated": []}


def better_percentile(f: Forgery) -> None:
    for phase in f.phase("bisect", 3):
        phase["metrics"]["output_speed_p25_tok_s"] *= 1.5


def fewer_late_answers(f: Forgery) -> None:
    for phase in f.phase("bisect", 3):
        phase["breakdown"][0]["slow"]["tier1"] = 0


def easier_target(f: Forgery) -> None:
    for tier in f.tier():
        tier["tier"]["output_speed_p25_tok_s"] = 40


def easier_target_everywhere(f: Forgery) -> None:
    def change(suite: dict, system: dict) -> None:  # type: ignore[type-arg]
        suite["editions"]["first"]["tiers"]["tier1"]["output_speed_p25_tok_s"] = 60

    f.configure(change)
    for tier in f.tier():
        tier["tier"]["output_speed_p25_tok_s"] = 60


def fewer_accelerators(f: Forgery) -> None:
    for tier in f.tier():
        tier["accelerators"] = 1


def fewer_accelerators_everywhere(f: Forgery) -> None:
    def change(suite: dict, system: dict) -> None:  # type: ignore[type-arg]
        system["deployments"]["main"]["allocated_accelerators"] = 1

    f.configure(change)
    fewer_accelerators(f)


def more_per_megawatt(f: Forgery) -> None:
    for tier in f.tier():
        tier["normalisation"]["agents"]["per_mw"] *= 2


def metrics_of_another_phase(f: Forgery) -> None:
    other = f.phase("ramp", CAPACITY)[0]
    for tier in f.tier():
        tier |= {"metrics": other["metrics"], "energy": other["energy"]}


def another_configuration(f: Forgery) -> None:
    def change(suite: dict, system: dict) -> None:  # type: ignore[type-arg]
        system["deployments"]["main"]["serving"]["version"] = "2.0"

    f.configure(change, journal=False)


def another_configuration_everywhere(f: Forgery) -> None:
    def change(suite: dict, system: dict) -> None:  # type: ignore[type-arg]
        system["deployments"]["main"]["serving"]["version"] = "2.0"

    f.configure(change)


def hidden_deviation(f: Forgery) -> None:
    for place in (f.entry, f.begun):
        place["deviations"] = [one for one in place["deviations"] if one["rule"] != "min_window_s"]


def called_comparable(f: Forgery) -> None:
    f.entry["comparable"] = {"value": True, "reasons": []}


def other_request_parameters(f: Forgery) -> None:
    f.entry["request_parameters"]["main"]["temperature"] = 0.0


def not_simulated(f: Forgery) -> None:
    f.entry["simulated"] = False


def token_counts_called_verified(f: Forgery) -> None:
    f.entry["token_verification"] |= {"status": "verified", "reason": None}


def more_readings_of_the_server(f: Forgery) -> None:
    for phase in f.phase("bisect", 3):
        phase["server"]["readings"] += 5


def another_nonce(f: Forgery) -> None:
    f.entry["seeds"]["nonce"] = f.begun["nonce"] = "0" * 32


# Forgeries that hide a FAIL: a phase is said to be INVALID


def _called_invalid(f: Forgery, code: str, load: dict[str, Any]) -> None:
    for phase in f.phase("bisect", 3):
        phase["invalid"] = [{"code": code, "what": "so it is", "remedy": "", "log_tail": []}]
        phase["load"] |= load
        for verdict in phase["verdicts"]:
            verdict |= {
                "verdict": "INVALID", "violated": [], "speed_margin": None, "ttft_margin": None,
                "speed_log_error": None, "ttft_log_error": None,
            }  # fmt: skip


def for_a_reason_of_its_own(f: Forgery) -> None:
    _called_invalid(f, "bad_weather", {})


def for_lateness_of_which_there_was_none(f: Forgery) -> None:
    _called_invalid(f, "load_generator_saturated", {"send_late_p99_s": 40.0})


def for_an_error_of_the_load_generator_without_its_calibration(f: Forgery) -> None:
    _called_invalid(f, "load_generator_saturated", {"client_error": {"ttft_s": 0.0, "speed": 0.97}})


def for_a_load_generator_that_broke_down(f: Forgery) -> None:
    load = {"failed": "gone", "code": "load_worker_died", "remedy": "look"}
    _called_invalid(f, "load_worker_died", load)


def unsure_clock_unsaid(f: Forgery) -> None:
    for phase in f.phase("bisect", 3):
        phase["load"]["clock_error_s"] = 9.0


# Forgeries of records


def dropped_slow_requests(f: Forgery) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        # Its last requests are missed in another way.
        inside = frame[frame.in_window & frame.duplicated("agent", keep="last")]
        slowest = (inside.t_first_ns - inside.t_sent_ns).astype("int64").nlargest(1).index
        return frame.drop(slowest)

    f.change_records("bisect", 3, change)


def dropped_last_requests(f: Forgery) -> None:
    """From its second one in the window on, an agent's requests are gone: none is missing between two others."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        second = frame[frame.in_window & (frame.agent == 0)].t_sent_ns.iloc[1]
        return frame[(frame.agent != 0) | (frame.t_sent_ns < second)]

    f.change_records("bisect", 3, change)


def dropped_agent(f: Forgery) -> None:
    f.change_records("bisect", 3, lambda frame: frame[frame.agent != 2])


def shorter_window(f: Forgery) -> None:
    for phase in f.phase("bisect", 3):
        phase["window_close_ns"] -= 100_000_000
    _mark_again(f)


def later_window(f: Forgery) -> None:
    for phase in f.phase("bisect", 3):
        phase["window_open_ns"] += 100_000_000
    _mark_again(f)


def _mark_again(f: Forgery) -> None:
    phase = f.phase("bisect", 3)[0]

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame["in_window"] = frame.t_sent_ns.between(phase["window_open_ns"], phase["window_close_ns"] - 1)
        return frame

    f.change_records("bisect", 3, change)


def marked_out_of_window(f: Forgery) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[frame[frame.in_window].index[0], "in_window"] = False
        return frame

    f.change_records("bisect", 3, change)


def reused_prefix(f: Forgery) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[frame.ordinal == 1, "prefix_head"] = frame[frame.ordinal == 0].prefix_head.iloc[0]
        return frame

    f.change_records("ramp", CAPACITY, change)


def prefixes_of_another_phase(f: Forgery) -> None:
    other = f.table(f.records("ramp", 1))

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame["prefix_head"] = other.prefix_head.iloc[0]
        return frame

    f.change_records("ramp", CAPACITY, change)


def easier_trajectories(f: Forgery) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame["trajectory"] = frame.trajectory.iloc[0]
        return frame

    f.change_records("bisect", 3, change)


def earlier_tokens(f: Forgery) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame["t_first_ns"] = frame.t_sent_ns + 1_000
        return frame

    f.change_records("bisect", 3, change)


def more_tokens(f: Forgery) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame["output_tokens"] *= 2
        return frame

    f.change_records("bisect", 3, change)


def shifted_records(f: Forgery) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        for name in ("t_sent_ns", "t_first_ns", "t_last_ns", "t_end_ns"):
            frame[name] -= 200_000_000
        return frame

    f.change_records("bisect", 3, change)
    _mark_again(f)


def records_of_another_phase(f: Forgery) -> None:
    f.put(f.records("bisect", 3), f.table(f.records("ramp", CAPACITY)))


def swapped_power(f: Forgery) -> None:
    one, other = (f.phase(*which)[0]["power"]["samples"] for which in (("confirm", CAPACITY), ("bisect", 3)))
    f.files[one], f.files[other] = f.files[other], f.files[one]


def lower_power(f: Forgery) -> None:
    name = f.phase("confirm", CAPACITY)[0]["power"]["samples"]
    frame = f.table(name)
    frame["energy_j"] *= 0.5
    f.put(name, frame)


def missing_power(f: Forgery) -> None:
    name = f.phase("confirm", CAPACITY)[0]["power"]["samples"]
    frame = f.table(name)
    f.put(name, frame[frame.device != frame.device.iloc[0]])


def fewer_turns(f: Forgery) -> None:
    frame = f.table("turns.parquet")
    f.put("turns.parquet", frame[frame.turn == 0])


FORGERIES: dict[Callable[[Forgery], None], str] = {
    raised_score: "capacity",
    unconfirmed_as_confirmed: "capacity",
    failing_probe_removed: "search",
    failure_called_a_pass: "verdicts",
    better_percentile: "metrics",
    fewer_late_answers: "breakdown",
    easier_target: "target",
    easier_target_everywhere: "digests",
    fewer_accelerators: "target",
    fewer_accelerators_everywhere: "digests",
    more_per_megawatt: "normalisation",
    metrics_of_another_phase: "published phase",
    another_configuration: "configuration",
    another_configuration_everywhere: "digests",
    hidden_deviation: "ruleset",
    called_comparable: "flags",
    other_request_parameters: "configuration",
    not_simulated: "configuration",
    token_counts_called_verified: "flags",
    more_readings_of_the_server: "server metrics",
    another_nonce: "prefixes",
    for_a_reason_of_its_own: "validity",
    for_lateness_of_which_there_was_none: "lateness",
    for_an_error_of_the_load_generator_without_its_calibration: "validity",
    for_a_load_generator_that_broke_down: "records",
    unsure_clock_unsaid: "validity",
    dropped_slow_requests: "assignment",
    dropped_last_requests: "load until the end",
    dropped_agent: "assignment",
    shorter_window: "window",
    later_window: "window",
    marked_out_of_window: "records",
    reused_prefix: "prefixes",
    prefixes_of_another_phase: "prefixes",
    easier_trajectories: "assignment",
    earlier_tokens: "metrics",
    more_tokens: "tokens",
    shifted_records: "pace",
    records_of_another_phase: "records",
    swapped_power: "energy",
    lower_power: "energy",
    missing_power: "energy",
    fewer_turns: "assignment",
}


@pytest.mark.parametrize(
    ("forge", "check"), FORGERIES.items(), ids=lambda value: getattr(value, "__name__", value)
)
def test_a_forgery_is_caught_by_name(
    bundles: Bundles, tmp_path: Path, forge: Callable[[Forgery], None], check: str
) -> None:
    forgery = Forgery(bundles.measured)
    forge(forgery)
    found = failed(forgery.write(tmp_path / "forged.tar.gz"))
    assert "manifest" not in found
    assert "files" not in found
    assert "journal" not in found
    assert check in found, found


CODES = (
    "load_generator_saturated", "client_resources", "load_worker_died", "load_clock_unsure", "calibration_failed",
    "server_not_idle", "server_crashed", "network_failed", "token_counts_off", "prompt_counts_off", "answers_truncated",
)  # fmt: skip
UNCALIBRATED = {"calibration": None, "client_error": None}


@pytest.mark.parametrize("code", CODES)
def test_no_reason_without_its_figures_hides_a_fail(bundles: Bundles, tmp_path: Path, code: str) -> None:
    forgery = Forgery(bundles.measured)
    _called_invalid(forgery, code, {})
    found = failed(forgery.write(tmp_path / "forged.tar.gz"))
    assert f"it is said to be INVALID ({code}), and nothing in its figures gives that" in found["validity"]


@pytest.mark.parametrize(
    ("code", "load", "phase", "word"),
    [
        ("load_generator_saturated", {"lag_p99_s": 40.0, **UNCALIBRATED}, {}, "lateness, lag"),
        ("load_clock_unsure", {"clock_error_s": 40.0}, {}, "clock exchanges"),
        ("calibration_failed", UNCALIBRATED, {}, "a calibration"),
        ("server_not_idle", {}, {"idle_before": "not reached"}, "the server's metrics"),
    ],
)
def test_a_reason_that_nothing_can_prove_is_listed_with_what_it_may_hide(
    bundles: Bundles, tmp_path: Path, code: str, load: dict[str, Any], phase: dict[str, Any], word: str
) -> None:
    forgery = Forgery(bundles.measured)
    _called_invalid(forgery, code, load)
    for told in forgery.phase("bisect", 3):
        told |= phase
    found = findings(forgery.write(tmp_path / "forged.tar.gz"))
    (said,) = [one for one in found if one.check == "stated reasons"]
    assert said.status == "not checkable"
    assert said.where.endswith("(bisect, 3 agents)")
    assert word in said.text
    assert "would say: tier1 FAIL, tier2 FAIL" in said.text
    assert not [one for one in found if one.check == "validity" and one.status == "fails"]


@pytest.mark.parametrize("crashed", [True, False])
def test_a_phase_that_was_broken_off_ends_with_a_failure(
    bundles: Bundles, tmp_path: Path, crashed: bool
) -> None:
    """What was under way when the server died has no record: agents seem to stop before the window closed."""
    forgery = Forgery(bundles.measured)
    _called_invalid(forgery, "server_crashed", UNCALIBRATED)
    middle_ns = forgery.phase("bisect", 3)[0]["window_open_ns"] + S // 2
    for phase in forgery.phase("bisect", 3):
        phase["window_close_ns"] = phase["end_ns"] = middle_ns

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        ended = frame[frame.t_end_ns <= middle_ns].astype({"failure": object})
        if crashed:
            ended.loc[ended.t_end_ns.astype("int64").idxmax(), "failure"] = "connect"
        return ended

    forgery.change_records("bisect", 3, change)
    _mark_again(forgery)
    found = failed(forgery.write(tmp_path / "forged.tar.gz")).keys()
    assert not {"load until the end", "assignment", "lateness", "pace"} & found
    assert {"window", "validity"} & found == (set() if crashed else {"window", "validity"})


def test_agents_that_began_late_are_no_contradiction(bundles: Bundles, tmp_path: Path) -> None:
    """A busy machine starts them a while after the phase: that is not lateness, which is told of later requests."""
    forgery = Forgery(bundles.measured)
    for phase in forgery.phase("bisect", 3):
        phase["start_ns"] -= S // 10
    assert "lateness" not in failed(forgery.write(tmp_path / "late.tar.gz"))


def test_both_sides_know_the_same_reasons() -> None:
    """A reason that the verifier takes for none of the load generator's leads its search astray."""
    assert LOAD_GENERATOR == LOAD_GENERATOR_CODES
    package = Path(pytest_agentperf.__file__).parent
    made = ("validity.py", "deployed.py", "core/token_check.py")
    texts = "".join((package / name).read_text(encoding="utf-8") for name in made)
    assert set(re.findall(r'code=\(?"([a-z_]+)"', texts)) <= set(CODES)


def test_the_forger_alone_changes_nothing(bundles: Bundles, tmp_path: Path) -> None:
    for path in bundles:
        assert failed(Forgery(path).write(tmp_path / path.name)) == {}
