"""A history marks what is certainly less than before, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from compare_support import searched, written

from pytest_agentperf.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from chromium import Chromium

    from pytest_agentperf.core.leaderboard import Entry


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, the last on a slower version."""
    folder = tmp_path_factory.mktemp("runs")
    for day, (seed, slower) in enumerate(((0, 1.0), (1, 1.0), (3, 1.05)), 1):
        entry = dated(searched(seed=seed, slower=slower), day)
        written(folder / f"run{day}" / "leaderboard.json", entry)
    return folder


def dated(entry: Entry, day: int) -> Entry:
    system = json.loads(json.dumps(entry.system))
    system["deployments"]["all"]["serving"]["version"] = f"1.{day}"
    return entry.model_copy(update={"measured_utc": f"2026-11-0{day}T00:00:00+00:00", "system": system})


def test_the_regression_is_marked_and_the_seed_is_not(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", str(runs), "--json"]) == 0
    (series,) = json.loads(capsys.readouterr().out)["series"]
    assert [m["change"] for m in series["moments"]] == ["first", "no change shown", "REGRESSION"]
    assert [m["version"] for m in series["moments"]] == ["sim 1.1", "sim 1.2", "sim 1.3"]
    assert series["moments"][2]["against"] == "2026-11-02T00:00:00+00:00"


def test_the_page_and_the_table_say_the_same(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "history.html"
    assert main(["history", str(runs), "--html", str(page)]) == 0
    text = capsys.readouterr().out
    html = page.read_text(encoding="utf-8")
    for said in ("sim 1.3", "REGRESSION", "2026-11-02"):
        assert said in text
        assert said in html


def test_the_chart_marks_the_regression_alone_without_a_network(
    browser: Chromium, runs: Path, tmp_path: Path
) -> None:
    page = tmp_path / "history.html"
    assert main(["history", str(runs), "--html", str(page)]) == 0
    opened = browser.open()
    opened.visit(page)
    opened.wait_for("figure svg .mark-symbol path")
    assert opened.ask("document.querySelector('figure svg').textContent").count("sim 1.") == 3
    points = opened.each(
        "figure svg .mark-symbol.role-mark path",
        "[one.getAttribute('aria-label'), one.getAttribute('fill'), one.getAttribute('d').includes('A')]",
    )
    # The first two are round, the regression is a triangle in the colour of what is bad, and says so.
    assert [(fill, round_) for _, fill, round_ in points] == [
        ("var(--s0)", True),
        ("var(--s0)", True),
        ("var(--bad)", False),
    ]
    assert [label.endswith("REGRESSION") for label, *_ in points] == [False, False, True]
    rows = opened.each("tbody tr", "[one.className, one.lastElementChild.textContent]")
    assert rows == [["", "first"], ["", "no change shown"], ["regression", "REGRESSION"]]
    assert opened.errors == []
    assert opened.requests == [page.resolve().as_uri()]
    opened.close()


def test_what_does_not_compare_is_passed_over(
    tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pytest_agentperf.results.leaderboard_file import read_leaderboard

    first, second, third = (
        read_leaderboard(runs / f"run{day}" / "leaderboard.json").entries[0] for day in (1, 2, 3)
    )
    other = second.model_copy(update={"dataset": second.dataset.model_copy(update={"digest": "f" * 64})})
    for name, entry in (("a", first), ("b", other), ("c", third)):
        written(tmp_path / name / "leaderboard.json", entry)
    (tmp_path / "leaderboard-broken.json").write_text("{", encoding="utf-8")
    assert main(["history", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    moments = found["series"][0]["moments"]
    assert moments[1]["change"] == "not comparable with the one before"
    assert moments[2]["against"] == first.measured_utc
    assert "not JSON" in found["problems"][0]


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", str(tmp_path)]) == 2
    assert main(["history", str(tmp_path / "none")]) == 2
    assert "no folder" in capsys.readouterr().err
