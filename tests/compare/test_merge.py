"""Merged leaderboards: nothing is lost or said twice, and the report of one finds every run's records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from compare_support import searched, written

from pytest_agentperf.cli import main
from pytest_agentperf.core.leaderboard import Flag
from pytest_agentperf.results.artifact import digest
from pytest_agentperf.results.leaderboard_file import read_leaderboard

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import Entry


@pytest.fixture(scope="module")
def entry() -> Entry:
    return searched(seed=0, min_trajectories=4)


def named(entry: Entry, name: str, **update: object) -> Entry:
    return entry.model_copy(update={"system": {**entry.system, "name": name}, **update})


def at_tier(entry: Entry, name: str) -> Entry:
    (tier,) = entry.tiers
    moved = tier.model_copy(update={"tier": tier.tier.model_copy(update={"name": name})})
    others = {"tier1", "tier2"} - {name}
    flag = Flag(value=False, reasons=tuple(f"{other}: not run" for other in others))
    return entry.model_copy(update={"tiers": (moved,), "complete": flag})


def test_systems_and_tiers_of_several_runs_stand_in_one_file(tmp_path: Path, entry: Entry) -> None:
    a = written(tmp_path / "a" / "leaderboard.json", at_tier(entry, "tier1"))
    b = written(tmp_path / "b" / "leaderboard.json", at_tier(entry, "tier2"))
    c = written(tmp_path / "c" / "leaderboard.json", at_tier(named(entry, "other"), "tier1"))
    out = tmp_path / "all.json"
    assert main(["merge", str(a), str(b), str(c), "-o", str(out)]) == 0
    board = read_leaderboard(out)
    assert [(e.system["name"], t.tier.name) for e in board.entries for t in e.tiers] == [
        ("sim", "tier1"),
        ("sim", "tier2"),
        ("other", "tier1"),
    ]
    # The other run has the tier; nobody has the other system's.
    assert [e.complete.reasons for e in board.entries] == [(), (), ("tier2: not run",)]
    assert [e.complete.value for e in board.entries] == [True, True, False]


def test_of_a_tier_that_comes_twice_the_later_run_stays(
    tmp_path: Path, entry: Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    later = entry.model_copy(update={"measured_utc": "2026-11-02T00:00:00+00:00"})
    new = written(tmp_path / "new" / "leaderboard.json", later)
    old = written(tmp_path / "old" / "leaderboard.json", entry)
    out = tmp_path / "all.json"
    for order in ((new, old), (old, new)):
        assert main(["merge", *map(str, order), "-o", str(out)]) == 0
        (kept,) = read_leaderboard(out).entries
        assert kept.measured_utc == later.measured_utc
        assert str(old) in capsys.readouterr().err
    assert main(["merge", str(old), str(new), "-o", str(out), "--keep", "single"]) == 2
    assert "leave one of them out" in capsys.readouterr().err
    undated = written(tmp_path / "undated.json", entry.model_copy(update={"measured_utc": None}))
    assert main(["merge", str(old), str(undated), "-o", str(out)]) == 2
    assert "which is the later one" in capsys.readouterr().err


def test_the_same_file_twice_is_one_result(tmp_path: Path, entry: Entry) -> None:
    path = str(written(tmp_path / "leaderboard.json", entry))
    out = tmp_path / "all.json"
    assert main(["merge", path, path, "-o", str(out), "--keep", "single"]) == 0
    assert len(read_leaderboard(out).entries) == 1


def test_files_are_named_from_the_output_and_keep_their_digests(tmp_path: Path, entry: Entry) -> None:
    phases = []
    for phase in entry.phases:
        name = f"requests/{phase.phase}.parquet"
        file = tmp_path / "runs" / "a" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
        phases.append(phase.model_copy(update={"records": name, "digests": {name: digest(file)}}))
    run = written(
        tmp_path / "runs" / "a" / "leaderboard.json", entry.model_copy(update={"phases": tuple(phases)})
    )
    first, second = tmp_path / "one" / "all.json", tmp_path / "runs" / "again.json"
    first.parent.mkdir()
    assert main(["merge", str(run), "-o", str(first)]) == 0
    assert main(["merge", str(first), "-o", str(second)]) == 0
    for out, start in ((first, "../runs/a/requests/"), (second, "a/requests/")):
        (found,) = read_leaderboard(out).entries
        for phase in found.phases:
            assert phase.records is not None
            assert digest(out.parent / phase.records) == phase.digests[phase.records]
        assert str(found.phases[0].records).startswith(start)


def test_published_results_come_along_once(tmp_path: Path, entry: Entry) -> None:
    path = str(written(tmp_path / "leaderboard.json", entry))
    out = tmp_path / "all.json"
    assert main(["merge", path, "published", "published", "-o", str(out)]) == 0
    published = json.loads(out.read_text(encoding="utf-8"))["published"]
    assert len(published) == len({json.dumps(one) for one in published}) > 3
