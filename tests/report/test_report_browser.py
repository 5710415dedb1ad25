"""The report in a headless Chromium: a rehearsed leaderboard of four systems, and a run over real HTTP."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from plugin_support import Workplace, plain_environment, pytest_command, write_tiny_dataset
from report_support import data_of, joined, rehearse

from pytest_agentperf.cli import main
from pytest_agentperf.results.report import report_beside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chromium import Chromium, Page

SYSTEMS = ("gb300", "b300", "h200", "mi355x")
LENS = "document.querySelector('#lens-{}').click()"


@pytest.fixture(scope="module")
def four(browser: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of four rehearsed systems in one leaderboard; without a browser there is no need of it."""
    folder = tmp_path_factory.mktemp("four")
    # So few agents cost little time; where gb300 still passes, it is "at least".
    paths = rehearse(folder, *SYSTEMS, arguments=("--agentperf-start=8", "--agentperf-max-agents=64"))
    leaderboard = joined(paths, folder / "leaderboard-rehearsal.json")
    assert main(["report", str(leaderboard)]) == 0
    return report_beside(leaderboard)


@pytest.fixture(scope="module")
def page(browser: Chromium, four: Path) -> Page:
    opened = browser.open()
    opened.visit(four)
    return opened


@pytest.fixture(autouse=True)
def _nothing_goes_wrong_unseen(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "page" in request.fixturenames:
        page: Page = request.getfixturevalue("page")
        assert page.errors == []
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


def texts(page: Page, selector: str) -> list[str]:
    return page.each(selector, "one.textContent")


def seen(page: Page, selector: str) -> list[str]:
    """Return the texts of the elements that are not hidden."""
    return [text for text in page.each(selector, "one.offsetParent && one.textContent") if text]


def choose(page: Page, name: str, value: str) -> None:
    page.ask(
        f"(() => {{ const one = document.querySelector('[data-choice={name}]'); "
        f"one.value = {value!r}; one.dispatchEvent(new Event('change')); }})()"
    )


def count(page: Page, selector: str) -> int:
    return len(texts(page, selector))


def test_every_chart_is_drawn_with_axes(page: Page) -> None:
    # Three tiers' bars, the curves, three of the search, two distributions, five timelines.
    assert count(page, "figure .canvas svg") == 3 + 1 + 3 + 2 + 5
    axes = texts(page, "figure[data-chart=curves] svg .role-axis-title text")
    assert axes == ["P25 output speed (tok/s)", "agents per MW"]
    assert all(
        texts(page, f"figure[data-chart={name}] svg .role-axis-label text") for name in ("ttft", "time-power")
    )
    assert page.ask("document.title").startswith("SIMULATED: ")


def test_every_probe_is_a_point_and_what_was_too_late_a_triangle(page: Page, four: Path) -> None:
    (group,) = data_of(four.read_text(encoding="utf-8"))["groups"]
    probes: list[dict[str, Any]] = [
        probe
        for one in group["systems"]
        for probe in one["probes"]
        if probe["speed"] and probe["values"]["mw"]
    ]
    marks = "figure[data-chart=curves] svg .mark-symbol path[aria-label]"
    # What others published stands there too, as diamonds.
    published = [bar for bar in group["bars"] if bar["kind"] == "published" and bar["values"]["mw"]]
    assert len(probes) > 20
    assert len(published) == 4
    assert count(page, marks) == len(probes) + len(published)
    cornered = sum("A" not in path for path in page.each(marks, "one.getAttribute('d')"))
    late = sum(bool(probe["late"]) for probe in probes)
    assert late > 0
    assert cornered == late + len(published)


def test_bars_stand_by_tier_with_their_numbers(page: Page, four: Path) -> None:
    (group,) = data_of(four.read_text(encoding="utf-8"))["groups"]
    shown = texts(page, ".bars figure:first-child svg .mark-text.role-mark text")
    wanted = [bar for bar in group["bars"] if bar["tier"] == "tier1"]
    assert sum(bar["kind"] == "simulated" for bar in wanted) == len(SYSTEMS)
    assert sorted(text for text in shown if text) == sorted(bar["shown"]["mw"] for bar in wanted)
    fills = page.each(".bars svg .mark-rect.role-mark path", "one.getAttribute('fill')")
    # What a model says is hatched, what others published hollow.
    assert {fill.startswith("url(#hatch-") or fill == "var(--paper)" for fill in fills} == {True}
    hollow = [bar for bar in group["bars"] if bar["kind"] == "published" and bar["values"]["mw"]]
    assert len({bar["system"] for bar in wanted}) == len(wanted), "two bars in one place"
    assert fills.count("var(--paper)") == len(hollow)


def test_the_lens_changes_table_cards_and_charts(page: Page) -> None:
    before = texts(page, ".bars figure:first-child svg .mark-text.role-mark text")
    assert set(seen(page, ".lead .unit")) == {"agents per MW"}
    page.ask(LENS.format("accelerator"))
    page.settle()
    assert set(seen(page, ".lead .unit")) == {"agents per accelerator"}
    assert texts(page, ".bars figure:first-child svg .mark-text.role-mark text") != before
    assert "agents per accelerator" in texts(page, "figure[data-chart=curves] svg .role-axis-title text")
    assert page.ask("document.querySelector('#lens-usd').disabled")
    page.ask(LENS.format("mw"))
    page.settle()
    assert texts(page, ".bars figure:first-child svg .mark-text.role-mark text") == before


def test_a_search_is_replayed_step_by_step(page: Page) -> None:
    text = "document.querySelector('.step-text').textContent"
    step = "document.querySelector('[data-choice=step]')"
    page.ask(f"{step}.focus()")
    last = int(page.ask(f"{step}.max"))
    assert f"{last} of {last}" in page.ask(text)
    for _ in range(last - 1):
        page.press("ArrowLeft")
    assert "1 of" in page.ask(text)
    assert "ramp" in page.ask(text)
    assert "target ≥ 20" in page.ask(text)
    points = "[data-chart=search-agents] svg .mark-symbol path"
    assert page.each(points, "one.getAttribute('opacity')").count("0.18") == last - 1
    page.ask("document.querySelector('[data-step=\"1\"]').focus()")
    page.press(" ")
    assert "2 of" in page.ask(text)


def test_systems_tiers_and_probes_can_be_chosen(page: Page) -> None:
    choose(page, "system", "mi355x")
    choose(page, "tier", "tier2")
    page.settle()
    assert "target ≥ 60" in page.ask("document.querySelector('.step-text').textContent")
    captions = texts(page, "figure[data-chart=ttft] figcaption, figure[data-chart=time-power] figcaption")
    assert captions[0].startswith("mi355x, tier 2: time to first token")
    assert all("simulated" in caption for caption in captions)
    assert count(page, "figure[data-chart=ttft] svg .mark-line path") == 2


def test_charts_are_read_with_the_keyboard(page: Page) -> None:
    page.ask("document.querySelector('[data-chart=curves] .canvas').focus()")
    page.press("ArrowRight")
    first = page.ask("document.querySelector('[data-chart=curves] .reading').textContent")
    page.press("ArrowRight")
    second = page.ask("document.querySelector('[data-chart=curves] .reading').textContent")
    assert first.startswith("1 of ")
    assert "agents: P25" in first
    assert second.startswith("2 of ")
    # From the top, Tab reaches the controls in their order.
    page.ask("document.querySelector('.skip').focus()")
    reached = []
    for _ in range(3):
        page.press("Tab")
        reached.append(page.ask("document.activeElement.id || document.activeElement.classList[0]"))
    assert reached == ["lens-mw", "wide", "canvas"]


@pytest.mark.parametrize(
    "name", ["time-concurrency", "time-throughput", "time-power", "time-queue", "time-cache"]
)
def test_timelines_are_read_with_the_keyboard(page: Page, name: str) -> None:
    reading = f"document.querySelector('[data-chart={name}] .reading').textContent"
    marks = f"[data-chart={name}] svg path[aria-label]"
    page.ask(f"document.querySelector('[data-chart={name}] .canvas').focus()")
    assert page.ask("document.activeElement.classList[0]") == "canvas"
    labels = page.each(marks, "one.getAttribute('aria-label')")
    told = []
    for _ in labels:
        page.press("ArrowRight")
        told.append(page.ask(reading))
    # Twelve means of each series, in the order of time.
    assert 0 < len(labels) <= 24
    assert [text.partition(". ")[2] for text in told] == labels
    assert all(" s: " in text for text in labels)
    # What is reached is seen, and nothing else.
    seen_now = page.each(marks, "[one.classList.contains('reached'), getComputedStyle(one).opacity]")
    assert seen_now[-1] == [True, "1"]
    assert seen_now[0][0] is (len(labels) == 1)


def test_a_probe_over_time_stands_in_a_table(page: Page, four: Path) -> None:
    table = ".timeline-table table"
    page.ask("document.querySelector('.timeline-table').open = true")
    rows = page.each(f"{table} tbody tr", "[...one.cells].map((cell) => cell.textContent)")
    heads = texts(page, f"{table} thead th")
    assert heads[:4] == ["seconds", "agents active", "requests in flight", "output tok/s"]
    assert len(rows) == 12
    assert {len(row) for row in rows} == {len(heads)}
    labels = page.each("[data-chart=time-throughput] svg path[aria-label]", "one.getAttribute('aria-label')")
    shown = [f"output tokens per second, {row[0]} s: {row[3]} tok/s" for row in rows if row[3] != "–"]
    assert labels == shown
    # The same stands there without scripts, of the probes that decided.
    system, tier, phase = (
        page.ask(f"document.querySelector('[data-choice={name}]').value")
        for name in ("system", "tier", "phase")
    )
    found = data_of(four.read_text(encoding="utf-8"))["groups"][0]["systems"]
    search = next(s for one in found if one["label"] == system for s in one["searches"] if s["tier"] == tier)
    assert int(phase) in (search["passed"], search["failed"])
    folded = f"details.search[data-system={system}][data-tier={tier}] details tbody tr"
    still = page.each(folded, "[...one.cells].map((cell) => cell.textContent)")
    assert [row[0] for row in rows] in ([row[0] for row in still[:12]], [row[0] for row in still[12:]])
    assert rows in (still[:12], still[12:])


def test_hovering_shows_numbers(page: Page) -> None:
    at = page.ask(
        """(() => { const one = document.querySelector('[data-chart=curves] svg .mark-symbol path[aria-label]');
        one.scrollIntoView({block: 'center'}); const box = one.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2]; })()"""
    )
    page.point_at(at[0] - 200, at[1])
    page.point_at(*at)
    page.settle()
    shown = page.ask("document.querySelector('#vg-tooltip-element.visible')?.textContent ?? ''")
    assert "P95 TTFT" in shown


def test_settings_are_found(page: Page) -> None:
    page.ask(
        "(() => { const one = document.querySelector('#find-setting'); one.value = 'serving framework'; "
        "one.dispatchEvent(new Event('input')); })()"
    )
    rows = seen(page, "table.settings tbody tr")
    assert rows
    assert all("framework" in row for row in rows)


def test_it_fits_a_phone_and_prints_in_light(browser: Chromium, four: Path) -> None:
    phone = browser.open(width=390, height=844)
    phone.media(scheme="dark")
    phone.visit(four)
    assert phone.ask("document.documentElement.scrollWidth") <= 390
    assert seen(phone, ".printed") == []
    # Who leads at tier 2, and whether to trust it, without scrolling.
    assert max(phone.each(".answer:nth-child(2) .trust", "one.getBoundingClientRect().bottom")) < 844
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = phone.ask(paper)
    phone.media(scheme="dark", medium="print")
    assert phone.ask(paper) == "rgb(255, 255, 255)" != dark
    assert phone.ask("getComputedStyle(document.querySelector('.lenses')).display") == "none"
    # A4 without its margins.
    phone.size(688, 1000)
    assert phone.ask("document.documentElement.scrollWidth") <= 688
    # Paper has no switch, so that it names what is shown.
    assert seen(phone, ".printed .lens") == ["agents per MW"]
    phone.ask(LENS.format("accelerator"))
    assert seen(phone, ".printed .lens") == ["agents per accelerator"]
    assert phone.pdf().startswith(b"%PDF")
    assert phone.errors == []
    phone.close()


def test_a_run_over_http_leaves_a_report(browser: Chromium, tmp_path: Path) -> None:
    place = Workplace(tmp_path, write_tiny_dataset(tmp_path / "data"))
    place.system("box")
    done = subprocess.run(
        pytest_command("suites/tiny", "--system=box", "-p", "no:cacheprovider", "-k", "tier1",
                       "--agentperf-start=2", "--agentperf-max-agents=3"),
        cwd=tmp_path, env=plain_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    path = place.run_folder("box") / "report.html"
    assert f"report: {path}" in done.stdout, done.stdout
    page = browser.open()
    page.visit(path)
    assert page.errors == []
    # On a busy machine probes are not valid, and have no place in some charts; then these say so.
    assert count(page, "figure") == 1 + 1 + 3 + 2 + 5
    assert all(page.each("figure", "!!one.querySelector('.canvas svg, p')"))
    assert texts(page, "figure[data-chart=time-concurrency] svg .role-axis-title text")
    assert "SIMULATED" in page.ask("document.querySelector('header').textContent")
    assert "INCOMPLETE: box" in page.ask("document.querySelector('header').textContent")
    data = data_of(path.read_text(encoding="utf-8"))
    (system,) = data["groups"][0]["systems"]
    assert [probe["agents"] for probe in system["probes"]] == [2, 3, 2]
    # Each probe is a point, through each lens; the tables and cards go along.
    points = "figure[data-chart=curves] svg .mark-symbol path[aria-label]"
    assert {"mw", "kw", "accelerator", "system", "total"} == {lens["key"] for lens in data["lenses"]}
    for lens in data["lenses"]:
        page.ask(LENS.format(lens["key"]))
        page.settle()
        assert count(page, points) == 3
        assert set(seen(page, ".lead .unit")) == {lens["unit"]}
        assert texts(page, "figure[data-chart=curves] svg .role-axis-title text")[1] == lens["unit"]
    assert page.ask("document.querySelector('#lens-usd').disabled")
    # What the keyboard reaches is each of them, and then the first again.
    page.ask("document.querySelector('[data-chart=curves] .canvas').focus()")
    told = []
    for _ in range(4):
        page.press("ArrowRight")
        told.append(page.ask("document.querySelector('[data-chart=curves] .reading').textContent"))
    assert told[0] == told[3]
    assert [text.partition(". ")[2].partition(":")[0] for text in told[:3]] == [
        f"box, {n} agents" for n in (2, 3, 2)
    ]
    page.ask("document.querySelector('[data-chart=time-concurrency] .canvas').focus()")
    page.press("ArrowRight")
    first = page.ask("document.querySelector('[data-chart=time-concurrency] .reading').textContent")
    assert "agents active, 0 to " in first
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    page.close()
