"""A report of four systems and hundreds of probes stays below 5 MB, and says what it left out for that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from big_run import PROBES, SYSTEMS, big_board, big_details
from report_support import Outline, data_of

from pytest_agentperf.results import report
from pytest_agentperf.results.leaderboard_file import read_leaderboard
from pytest_agentperf.results.report import render_report
from pytest_agentperf.results.report.evidence import TIMELINES_MAX, Evidence

if TYPE_CHECKING:
    from chromium import Chromium

    from pytest_agentperf.core.leaderboard import Leaderboard

MB = 1_000_000
PATTERN = Path(__file__).parents[1] / "results" / "data" / "leaderboard-1.json"


@pytest.fixture
def big(monkeypatch: pytest.MonkeyPatch) -> Leaderboard:
    monkeypatch.setattr(
        Evidence, "_details", lambda self, phase, *, decisive: big_details(phase, decisive=decisive)
    )
    return big_board(read_leaderboard(PATTERN).entries[0])


def timelines(page: str) -> list[dict[str, object]]:
    return [one for system in data_of(page)["groups"][0]["systems"] for one in system["details"].values()]


def test_a_big_run_stays_below_5_mb_and_is_drawn(browser: Chromium, big: Leaderboard, tmp_path: Path) -> None:
    page = render_report(big, tmp_path)
    assert 3 * MB < len(page.encode()) < 5 * MB
    assert len(timelines(page)) == TIMELINES_MAX
    left_out = SYSTEMS * PROBES - TIMELINES_MAX
    assert f"timelines of {left_out} probes, to keep this file small" in Outline(page).text
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    opened = browser.open()
    opened.visit(path)
    assert len(opened.each("figure .canvas svg", "1")) > 10
    assert opened.errors == []
    opened.close()


def test_where_that_is_not_enough_timelines_go_but_not_those_that_decided(
    big: Leaderboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "BYTES_MAX", 3 * MB)
    page = render_report(big, tmp_path)
    assert 2.9 * MB < len(page.encode()) <= 3 * MB
    kept = timelines(page)
    assert 0 < len(kept) < TIMELINES_MAX
    assert (
        f"timelines of {SYSTEMS * PROBES - len(kept)} probes, to keep this file small" in Outline(page).text
    )
    for system in data_of(page)["groups"][0]["systems"]:
        for search in system["searches"]:
            deciding = [number for number in (search["passed"], search["failed"]) if number is not None]
            assert all("distributions" in system["details"][str(number)] for number in deciding)
