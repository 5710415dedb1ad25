"""`agentperf dataset stats`: the numbers, the bars, and one page that needs nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from cli_dataset_support import METADATA, dataset, trajectory

from pytest_agentperf.cli import main
from pytest_agentperf.dataset import write_dataset

if TYPE_CHECKING:
    from pathlib import Path

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> int:
    return main(["dataset", "stats", *map(str, arguments)])


def page(tmp_path: Path, name: str = "set") -> str:
    assert run(name, "--html", "page.html") == 0
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def charts(html: str) -> list[ElementTree.Element]:
    return [
        ElementTree.fromstring(found.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
        for found in re.findall(r"<svg .*?</svg>", html, re.DOTALL)
    ]


def test_the_table_stands_beside_the_published_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset(tmp_path / "set", trajectory("a"), trajectory("b", prompts=(6_000,), language="Go"))
    assert run("set") == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[0]: " ".join(line.split()) for line in out.splitlines()}
    assert rows["input tokens per request, min / mean / max"].endswith(
        "100 / 1,650 / 6,000 ~5K / ~27K / ~131K"
    )
    assert rows["output tokens per request, median / P95"].endswith("15 / 54 ~150 / ~2K")
    assert rows["requests per trajectory, mean / max"].endswith("2.0 / 3 38 / up to 200")
    assert rows["tool delay, min / median / max"].endswith("100 ms / 150 ms / 300 ms <0.1 s / ~1 s / 5 s")
    assert "Python 1, Go 1" in rows["languages, by trajectories"]
    assert "2 trajectories, 4 requests; input counted for all, output for all" in out
    assert "█" in out


def test_what_was_not_recorded_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "set", trajectory(prompts=(None, None), outputs=(7, None), language=None))
    assert run("set") == 0
    out = capsys.readouterr().out
    assert "input counted for none, output for 1 of them" in out
    assert re.search(r"min / mean / max +not recorded", out)
    assert "Input per request" not in out
    assert run("set", "--json") == 0
    assert json.loads(capsys.readouterr().out)["prompt_tokens"] is None


def test_json_has_every_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = dataset(tmp_path / "set")
    assert run("set", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["digest"] == f"sha256:{store.digest}"
    assert found["prompt_tokens"] == {
        "count": 3,
        "min": 100,
        "mean": 200,
        "median": 200,
        "p95": 290,
        "max": 300,
    }
    assert found["tool_calls"] == {"bash": 3}
    assert found["models"] == {"m": 1}
    assert len(found["published"]) == 5
    for bars in found["histograms"].values():
        assert sum(bar["count"] for bar in bars) in (1, 3)


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    dataset(tmp_path / "set")
    html = page(tmp_path)
    assert not re.search(r"https?://|<script|<link|<img|<iframe|@import|url\(|\bsrc=", html)
    assert "prefers-color-scheme: dark" in html
    assert html.count("<h1>") == 1


def test_every_chart_can_be_read_without_being_seen(tmp_path: Path) -> None:
    dataset(tmp_path / "set")
    html = page(tmp_path)
    found = charts(html)
    assert len(found) == 4
    for chart in found:
        assert chart.get("role") == "img"
        title, description = chart.find(f"{SVG}title"), chart.find(f"{SVG}desc")
        assert title is not None
        assert description is not None
        assert (chart.get("aria-labelledby") or "").split() == [title.get("id"), description.get("id")]
        units = [text.text for text in chart.iter(f"{SVG}text") if text.get("class") == "unit"]
        assert len(units) == 2
    assert html.count("<details><summary>Table of values</summary>") == 4
    for id_ in re.findall(r'id="([^"]+)"', html):
        assert html.count(f'id="{id_}"') == 1


def test_bars_are_as_high_as_their_counts(tmp_path: Path) -> None:
    dataset(tmp_path / "set", trajectory(prompts=(10, 10, 10, 400), outputs=(1, 1, 1, 1)))
    chart = charts(page(tmp_path))[0]
    heights = [float(bar.get("height") or 0) for bar in chart.iter(f"{SVG}rect")]
    assert max(heights) == pytest.approx(3 * heights[-1], abs=0.2)
    assert sum(height > 0 for height in heights) == 2
    labels = [float(text.get("y") or 0) for text in chart.iter(f"{SVG}text")]
    assert all(0 < y <= 280 for y in labels)


def test_foreign_names_are_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    metadata = METADATA.model_copy(update={"name": hostile})
    write_dataset(tmp_path / "set", [trajectory(language=hostile)], metadata)
    html = page(tmp_path)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_page_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "set")
    assert run("set", "--html", "nowhere/page.html") == 2
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "page.html").mkdir()
    assert run("set", "--html", "page.html") == 2
    assert "cannot be written" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "set"]


# Writes into the title what is wrong with the page as it is laid out.
PROBE = """
<script>
addEventListener("load", () => {
  const wrong = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) wrong.push("the page scrolls sideways");
  for (const svg of document.querySelectorAll("svg")) {
    const name = svg.querySelector("title").textContent;
    const frame = svg.viewBox.baseVal;
    const boxes = [...svg.querySelectorAll("text")].map((text) => text.getBBox());
    boxes.forEach((box, i) => {
      if (box.x < 0 || box.y < 0 || box.x + box.width > frame.width || box.y + box.height > frame.height)
        wrong.push(`${name}: label ${i} is cut`);
      boxes.slice(0, i).forEach((other, j) => {
        if (box.x < other.x + other.width && other.x < box.x + box.width
            && box.y < other.y + other.height && other.y < box.y + box.height)
          wrong.push(`${name}: labels ${i} and ${j} overlap`);
      });
    });
  }
  document.title = "laid out: " + (wrong.join("; ") || "well");
});
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_lays_the_page_out(width: int, tmp_path: Path) -> None:
    # Long labels: prompts to 900K tokens.
    dataset(tmp_path / "set", trajectory(prompts=(1_000, 450_000, 894_371), outputs=(1, 700, 90_000)))
    (tmp_path / "probed.html").write_text(page(tmp_path) + PROBE, encoding="utf-8")
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1000",
         "--virtual-time-budget=2000", "--dump-dom", (tmp_path / "probed.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "<title>laid out: well</title>" in done.stdout, done.stdout[-2_000:] + done.stderr[-2_000:]
