"""`agentperf summary`: what a CI job shows, and that no text of others acts in it."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import pytest
from gated_leaderboard import STORED, gated, stored, written

from pytest_agentperf.cli import main
from pytest_agentperf.core.leaderboard import Flag
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.results.job_summary import Annotation, plain

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentperf.core.leaderboard import Leaderboard

COMMAND = re.compile(r"::(error|warning|notice) title=([^:,\n]*)::(.*)")
HOSTILE = "a|b <img src=x> [link](https://evil.example) @everyone `code`\n::error::owned ##[error]owned 100%"


def row(markdown: str, tier: str = "tier1") -> list[str]:
    (found,) = (line for line in markdown.splitlines() if line.startswith("| sim |") and f" {tier} " in line)
    return [html.unescape(cell).strip() for cell in re.split(r"(?<!\\)\|", found)[1:-1]]


@pytest.fixture
def summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def summarise(board: Leaderboard, *arguments: str) -> str:
        path = written(tmp_path / "leaderboard.json", board)
        capsys.readouterr()
        assert main(["summary", path, *arguments]) == 0
        return capsys.readouterr().out

    return summarise


def test_a_search_stands_against_a_baseline(summary: Any, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    assert main(["baseline", "accept", str(STORED), "-o", str(baseline)]) == 0
    board = stored(tier={"agents": 12, "expected_agents": 11})
    shown = summary(board, "--baseline", str(baseline))
    assert shown.startswith("## Capacity in coding agents\n")
    assert row(shown)[2:6] == ["PASS", "12", "10", "+20.0%"]
    assert row(summary(board))[4:6] == ["–", "–"]
    below = stored(tier={"agents": 9, "expected_agents": 11})
    assert row(summary(below, "--baseline", str(baseline)))[2:6] == ["FAIL", "9", "10", "-10.0%"]


@pytest.mark.parametrize(
    ("board", "cells", "level"),
    [
        (gated(Verdict.PASS), ["PASS", "≥ 9", "10", "≥ -10.0%"], None),
        (gated(Verdict.PASS, improved=11), ["PASS", "≥ 11", "10", "≥ +10.0%"], "notice"),
        (
            gated(Verdict.FAIL, failed_min=9, passed_max=0, expected_agents=9, lost_where=("slow: turn 1",)),
            ["FAIL", "–", "10", "< -10.0%"],
            "error",
        ),
        (
            gated(Verdict.INCONCLUSIVE, failed_min=None, passed_max=0, expected_agents=9, reason="too near"),
            ["INCONCLUSIVE", "–", "10", "?"],
            "warning",
        ),
        (
            gated(Verdict.INVALID, failed_min=None, passed_max=0, expected_agents=9, reason="client late"),
            ["INVALID", "–", "10", "?"],
            "warning",
        ),
    ],
)
def test_gates_say_what_they_answered(
    summary: Any, board: Leaderboard, cells: list[str], level: str | None
) -> None:
    shown = summary(board, "--github")
    assert row(shown)[2:6] == cells
    commands = [found for line in shown.splitlines() if (found := COMMAND.fullmatch(line))]
    assert [found[1] for found in commands] == ([level] if level else [])
    if level == "error":
        assert "slow: turn 1" in shown.split("::error")[0]
        assert commands[0][3].endswith("%0Aslow: turn 1")
        assert commands[0][2] == "sim tier1%3A FAIL"
    reason = board.entries[0].tiers[0].reason
    if level == "warning":
        assert str(reason) in commands[0][3]
        assert f"- tier1: {reason}" in shown


def test_what_does_not_count_is_marked(summary: Any) -> None:
    board = stored(valid=Flag(value=False, reasons=("checks failed",)))
    shown = summary(board, "--github")
    assert row(shown)[2] == "PASS, not valid"
    assert "- invalid: checks failed" in shown
    assert "::warning title=sim%3A not valid::checks failed" in shown


@pytest.mark.parametrize(
    ("flag", "tier"),
    [("valid", {"verdict": Verdict.INVALID}), ("complete", {"verdict": None, "complete": False})],
)
def test_what_is_said_of_a_tier_is_annotated_once(summary: Any, flag: str, tier: dict[str, Any]) -> None:
    tier |= {"agents": None, "passed_max": 0, "failed_min": None, "reason": "client late"}
    of_tier = Flag(value=False, reasons=("tier1: client late",))
    shown = [
        line
        for line in summary(stored(tier=tier, **{flag: of_tier}), "--github").splitlines()
        if "::" in line
    ]
    assert [line.count("client late") for line in shown] == [1]
    assert shown[0].startswith("::warning title=sim tier1%3A IN")
    # What is not of that tier stays.
    also = Flag(value=False, reasons=(*of_tier.reasons, "tier2: client late", "checks failed"))
    *_, last = summary(stored(tier=tier, **{flag: also}), "--github").splitlines()
    word = "not valid" if flag == "valid" else "incomplete"
    assert last == f"::warning title=sim%3A {word}::tier2: client late; checks failed"


def test_text_of_others_never_acts(summary: Any) -> None:
    board = gated(Verdict.INVALID, reason=HOSTILE, passed_max=0, failed_min=None)
    suite = board.entries[0].suite | {"title": HOSTILE}
    board = board.model_copy(update={"entries": (board.entries[0].model_copy(update={"suite": suite}),)})
    shown = summary(board, "--github")
    lines = shown.splitlines()
    assert sum(line.startswith("::") for line in lines) == 1
    for line in lines:
        if line.startswith("::"):
            assert "%0A::error::owned ##[error]owned 100%25" in line
            continue
        assert "::" not in line
        assert "##[" not in line
        assert "<img" not in line
        assert "://" not in line
        assert "@" not in line
        assert not re.search(r"(?<!\\)[\[`](?!Report\])", line)


def test_escapes_follow_githubs_rules() -> None:
    one = Annotation("error", "a:b,c%d", "x%y\r\nz: w, v")
    assert one.command() == "::error title=a%3Ab%2Cc%25d::x%25y%0D%0Az: w, v"
    assert plain("- x") == "&#45; x"
    assert plain("1. x") == "&#49;. x"
    assert plain("1.5 x\x1b[0m\n\ty") == "1.5 x \\[0m y"
    assert plain("see www.example.com, mailto:me") == "see www&#46;example.com, mailto&#58;me"
    assert len(plain("x" * 5_000)) == 1_000


def test_github_reads_the_summary_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    path = written(
        tmp_path / "leaderboard.json", gated(Verdict.FAIL, failed_min=9, passed_max=0, expected_agents=9)
    )
    assert main(["summary", path, "--github"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("::error title=")
    assert "|" not in out.splitlines()[0].split("::")[1]
    text = file.read_text(encoding="utf-8")
    assert text.startswith("before\n## Capacity in coding agents\n")
    # Without --github nothing is written there.
    assert main(["summary", path]) == 0
    assert file.read_text(encoding="utf-8") == text
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no folder" / "summary.md"))
    assert main(["summary", path, "--github"]) == 2
    assert "GITHUB_STEP_SUMMARY: cannot be written" in capsys.readouterr().err


def test_the_report_is_linked(summary: Any, tmp_path: Path) -> None:
    assert "[Report]" not in summary(stored())
    assert "[Report](https://ci.example/a?b=1)" in summary(
        stored(), "--report-url", "https://ci.example/a?b=1"
    )
    (tmp_path / "report.html").write_text("", encoding="utf-8")
    assert f"[Report]({tmp_path}/report.html)" in summary(stored())


def test_several_leaderboards_are_one_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [written(tmp_path / f"{k}.json", stored()) for k in range(2)]
    assert main(["summary", *paths]) == 0
    assert capsys.readouterr().out.count("### ") == 2


def test_a_job_that_measured_nothing_says_so_on_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a server that did not start: the shell's pattern finds nothing and stays as it is."""
    file = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    pattern = str(tmp_path / "*" / "leaderboard.json")
    assert main(["summary", written(tmp_path / "one.json", stored()), pattern, "--github"]) == 2
    out, err = capsys.readouterr()
    assert f"::error title=no leaderboard::Nothing was measured: there is no {pattern}" in out
    assert "there is no such leaderboard" in err
    text = file.read_text(encoding="utf-8")
    assert "Nothing was measured: there is no " in text
    # What others measured is shown all the same.
    assert row(text)[2] == "PASS"
