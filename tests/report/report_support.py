"""Leaderboards to show: rehearsed and measured ones, made in seconds, and joined as if by hand."""

from __future__ import annotations

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugin_support import plain_environment, pytest_command

from pytest_agentperf.core.leaderboard import Entry, Leaderboard
from pytest_agentperf.results.leaderboard_file import read_leaderboard

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.core.leaderboard import PhaseResult

ROOT = Path(__file__).parents[2]
QUICK = {
    "min_window_s": 5, "settle_s": 1, "min_trajectories": 2, "min_trajectories_per_agent": 0, "resolution": 0.5,
    "stagger_max_s": 0.002, "confirm": "false",
}  # fmt: skip


def rehearse(folder: Path, *systems: str, arguments: Iterable[str] = ()) -> list[Path]:
    """Rehearse the bundled suite, seconds of virtual time a phase; returns the leaderboards."""
    done = subprocess.run(
        pytest_command(
            str(ROOT / "suites" / "deepseek_v4_pro"), "-q", "-p", "no:cacheprovider", "--agentperf-rehearse",
            *(f"--system={name}" for name in systems),
            f"--agentperf-dataset={ROOT / 'fixtures' / 'datasets' / 'demo-v1'}", f"--agentperf-results={folder}",
            *(f"--agentperf-set={rule}={value}" for rule, value in QUICK.items()), *arguments,
        ),
        cwd=folder, env=plain_environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    # Expectations may be missed: so short a rehearsal says nothing.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [next(folder.glob(f"deepseek_v4_pro-{name}-*/leaderboard-rehearsal.json")) for name in systems]


def joined(paths: Iterable[Path], out: Path, **changes: Any) -> Path:
    """Write one leaderboard of several, above their folders, so that it finds their records."""
    entries: list[Entry] = []
    for path in paths:
        (entry,) = read_leaderboard(path).entries
        phases = tuple(_below(phase, path.parent.name) for phase in entry.phases)
        entries.append(entry.model_copy(update={"phases": phases}))
    return written(
        Leaderboard(created_utc="2026-11-21T00:00:00+00:00", entries=tuple(entries), **changes), out
    )


def written(board: Leaderboard, out: Path) -> Path:
    out.write_text(board.model_dump_json(by_alias=True), encoding="utf-8")
    return out


def _below(phase: PhaseResult, folder: str) -> PhaseResult:
    text = phase.model_dump_json()
    for name in phase.digests:
        text = text.replace(json.dumps(name), json.dumps(f"{folder}/{name}"))
    return type(phase).model_validate_json(text)


def data_of(html: str) -> dict[str, Any]:
    """Return what the page's charts are drawn from."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


class Outline(HTMLParser):
    """A page as a browser's parser would take it apart: its elements, and its text without scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._silent = 0
        self.feed(html)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)
