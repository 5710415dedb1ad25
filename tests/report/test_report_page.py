"""The report without a browser: what it says first, what it admits, and that nothing in its data becomes code."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from report_support import Outline, data_of, joined, rehearse, written

from pytest_agentperf.cli import main
from pytest_agentperf.core.leaderboard import Entry, Flag, Leaderboard
from pytest_agentperf.core.published import PublishedResult
from pytest_agentperf.core.verdict import InvalidReason
from pytest_agentperf.results.leaderboard_file import read_leaderboard
from pytest_agentperf.results.published import published_results
from pytest_agentperf.results.report import beside_published, render_report, report_beside
from pytest_agentperf.results.report.evidence import Evidence
from pytest_agentperf.results.report.lenses import LENSES, figure
from pytest_agentperf.results.report.rows import groups
from pytest_agentperf.results.report.trust import too_close, trust

if TYPE_CHECKING:
    from pathlib import Path

# SHA-256 of the files in the packages that npm has.
LIBRARY = {
    "vega.min.js": "8f6a3587cf8d4f42c7e08120e3eb05d067e746d554e39d2dcf52acc0bd5ba28f",
    "vega-lite.min.js": "35a9821df838825b05a6a73e9414b58747a1b18321583858ed903c66393a5c7e",
    "vega-embed.min.js": "b1455caba2fb1a72fb46025ba0ba1316e2dbc7f0dd40a3f6040172bf9c08ba91",
}
YES = Flag(value=True)
TIER = {"name": "tier2", "output_speed_p25_tok_s": 60, "ttft_p95_s": 5}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the leaderboard of a rehearsal of the simulated system, two of its tiers, with records beside it."""
    folder = tmp_path_factory.mktemp("small")
    options = ("--agentperf-tier=tier2", "--agentperf-tier=tier3", "--agentperf-set=min_window_s=2")
    return rehearse(folder, "sim", arguments=options)[0]


@pytest.fixture(scope="module")
def entry(small: Path) -> Entry:
    return read_leaderboard(small).entries[0]


@pytest.fixture(scope="module")
def html(small: Path) -> str:
    return report_beside(small).read_text(encoding="utf-8")


def board(*entries: Entry, **changes: Any) -> Leaderboard:
    return Leaderboard(created_utc="2026-11-21T00:00:00+00:00", entries=entries, **changes)


def changed_system(entry: Entry, **changes: Any) -> Entry:
    return entry.model_copy(update={"system": {**entry.system, **changes}})


def measured(entry: Entry) -> Entry:
    """Return the entry as hardware would have given it, with nothing to be said against it."""
    flags = {"complete": YES, "valid": YES, "comparable": YES}
    return entry.model_copy(update={"simulated": False, "rehearsal": False, **flags})


def answers(html: str) -> list[str]:
    """Return the cards at the top, through the first lens alone."""
    cards = re.findall(r'<li class="answer">(.*?)</li>', html, re.DOTALL)
    return [Outline(re.sub(r'<div class="lens lens-(?!mw").*?</div>', "", card)).text for card in cards]


def test_the_first_thing_said_is_who_leads_and_whether_to_trust_it(html: str, entry: Entry) -> None:
    tier2, tier3 = answers(html)
    value = entry.tiers[0].normalisation.agents.per_mw  # type: ignore[union-attr]
    assert value is not None
    assert tier2.startswith(
        f"tier 2 ≥ 60 tok/s at P25, TTFT ≤ 5 s at P95 sim {figure(value)} agents per MW Can I trust it? No: simulated"
    )
    assert tier3.startswith("tier 3")
    text = Outline(html).text
    assert text.index("SIMULATED. Every figure here is of a model") < text.index("tier 2")
    assert text.index("INCOMPLETE: sim") < text.index("tier 2")
    assert "<title>SIMULATED: " in html


def test_what_is_missing_stands_with_its_reason(html: str, entry: Entry) -> None:
    caveats = Outline(re.findall(r'<section class="caveats">.*?</section>', html, re.DOTALL)[0]).text
    for reason in (*entry.complete.reasons, *entry.comparable.reasons):
        assert reason in caveats


def test_a_whole_measurement_is_trusted(entry: Entry) -> None:
    page = render_report(board(measured(entry)), None)
    assert "Can I trust it? Yes: measured, valid, complete and comparable" in answers(page)[0]
    assert "SIMULATED" not in Outline(page).text
    assert 'class="tag"' not in page.partition("<body>")[2].partition("<script")[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"comparable": Flag(value=False, reasons=("a deviation",))}, "With care: measured and valid"),
        ({"valid": Flag(value=False, reasons=("tier2: counts were off",))}, "No: invalid"),
        ({"valid": Flag(value=False, reasons=("tier3: counts were off",))}, "Yes: measured"),
        ({"simulated": True}, "No: simulated"),
    ],
)  # fmt: skip
def test_trust_names_what_speaks_against_it(entry: Entry, change: dict[str, Any], said: str) -> None:
    (group,) = groups(board(measured(entry).model_copy(update=change)))
    row = next(row for row in group.rows if row.tier.name == "tier2")
    assert trust(row).text.startswith(said)


def test_no_model_leads_what_was_measured(entry: Entry) -> None:
    tier = entry.tiers[0]
    assert tier.normalisation is not None
    less = tier.normalisation.model_copy(
        update={"agents": tier.normalisation.agents.model_copy(update={"per_mw": 1.0})}
    )
    real = measured(changed_system(entry, name="real"))
    real = real.model_copy(
        update={"tiers": (tier.model_copy(update={"normalisation": less}), *entry.tiers[1:])}
    )
    page = render_report(board(entry, real), None)
    assert " real 1 agents per MW Can I trust it? Yes" in answers(page)[0]
    assert "beside it, simulated: sim" in answers(page)[0]
    assert "some systems were measured, others simulated" in page


def test_what_others_published_is_marked_and_never_leads(entry: Entry) -> None:
    result = PublishedResult.model_validate(
        {"system": "sim", "title": "Another", "suite": "deepseek_v4_pro", "edition": "2026-06", "tier": TIER,
         "agents": 10**6, "accelerators": 8, "agents_per_accelerator": 10.0**6 / 8, "agents_per_mw": 10.0**9,
         "published_by": "Somebody", "source": "a page of 2026"}
    )  # fmt: skip
    page = render_report(board(entry, published=(result,)), None)
    assert "beside it, published: sim 1,000,000,000" in answers(page)[0]
    assert "sim (published): published by Somebody, not measured here: a page of 2026" in Outline(page).text
    alone = answers(render_report(board(published=(result,)), None))[0]
    assert (
        "sim (published) 1,000,000,000 agents per MW Can I trust it? With care: published by others" in alone
    )


def test_systems_of_other_datasets_are_not_held_against_each_other(entry: Entry) -> None:
    other = entry.model_copy(update={"dataset": entry.dataset.model_copy(update={"digest": "0" * 64})})
    page = render_report(board(entry, changed_system(other, name="other")), None)
    assert "these systems do not compare with each other: datasets differ" in page
    assert "do not compare" not in render_report(board(entry, changed_system(entry, name="other")), None)


def test_a_lead_within_the_resolution_is_none(entry: Entry) -> None:
    (group,) = groups(board(entry, changed_system(entry, name="other")))
    first, second = (row for row in group.rows if row.tier.name == "tier2")
    assert first.agents is not None
    worth = first.values["mw"]
    assert worth is not None
    below = second._replace(below=first.agents + 2)
    assert too_close(first, below, LENSES[0])
    ahead = first._replace(values={**first.values, "mw": worth * (first.agents + 1.5) / first.agents})
    assert not too_close(ahead, below, LENSES[0])


def test_what_others_published_stands_beside_at_equal_targets_only(entry: Entry) -> None:
    (known,) = [one for one in published_results("deepseek_v4_pro", "2026-06") if one.system == "b300"]
    here = entry.model_copy(
        update={"tiers": (entry.tiers[0].model_copy(update={"tier": known.tier}), *entry.tiers[1:])}
    )
    found = beside_published(board(here)).published
    assert known in found
    assert {one.tier for one in found} <= {tier.tier for tier in here.tiers}
    assert beside_published(beside_published(board(here))).published == found
    other = here.tiers[0].model_copy(update={"tier": known.tier.model_copy(update={"ttft_p95_s": 11.0})})
    assert beside_published(board(here.model_copy(update={"tiers": (other,)}))).published == ()


def test_costs_stand_with_every_input_and_its_source(entry: Entry, html: str) -> None:
    assert "What it costs" not in html
    price = {
        "capital": {"usd_per_accelerator": 40_000, "amortisation_years": 4, "source": "an invoice"},
        "electricity": {"usd_per_kwh": 0.09, "source": "a contract"},
        "utilisation": {"share": 0.6, "source": "last <month>"},
    }
    text = Outline(render_report(board(changed_system(entry, price=price)), None)).text
    for said in (
        "What it costs",
        "40,000 $ per accelerator over 4 years (an invoice)",
        "0.09 $/kWh (a contract)",
    ):
        assert said in text
    assert "at capacity 60% of all hours (last <month>)" in text
    # Electricity is paid for what was measured: both powers are inputs too.
    tier = entry.tiers[0]
    phase = next(p for p in entry.phases if p.phase == tier.published_phase)
    assert phase.energy.mean_power_w is not None
    power = f"accelerators {phase.energy.mean_power_w:,.0f} W at capacity (measured in phase {phase.phase}: "
    assert f"sim, tier 2: {power}sim" in text
    assert " W idle" not in text
    idle = phase.model_copy(update={"power": phase.power.model_copy(update={"idle_power_w": 1234.0})})
    known = changed_system(entry, price=price).model_copy(
        update={"phases": tuple(idle if p is phase else p for p in entry.phases)}
    )
    text = Outline(render_report(board(known), None)).text
    assert f"accelerators 1,234 W idle (measured in the pause before phase {phase.phase}: sim" in text
    assert "PUE" not in text.partition("What it costs")[2].partition("Agents at each tier")[0]


def test_a_price_gives_a_lens_and_none_is_invented(entry: Entry, html: str) -> None:
    assert 'value="usd" disabled' in html
    assert "no price configured" in html
    assert "usd" not in {lens["key"] for lens in data_of(html)["lenses"]}
    tier = entry.tiers[0]
    assert tier.normalisation is not None
    agents = tier.normalisation.agents.model_copy(update={"per_usd_hour": 0.5})
    normalisation = tier.normalisation.model_copy(update={"agents": agents})
    priced = changed_system(entry, price={"usd_per_accelerator_hour": 2.0, "source": "a test"}).model_copy(
        update={"tiers": (tier.model_copy(update={"normalisation": normalisation}),)}
    )
    found = data_of(render_report(board(priced), None))
    assert "usd" in {lens["key"] for lens in found["lenses"]}
    for probe in found["groups"][0]["systems"][0]["probes"]:
        assert probe["values"]["usd"] == pytest.approx(probe["agents"] / (2.0 * 8), rel=1e-5)


def test_a_figure_that_one_system_lacks_says_why(entry: Entry) -> None:
    """The lens is there, as another system has a figure."""
    tier = entry.tiers[0]
    assert tier.normalisation is not None
    normalisation = tier.normalisation.model_copy(
        update={
            "agents": tier.normalisation.agents.model_copy(
                update={"per_mw": None, "per_kw": None, "per_rack": None}
            ),
            "notes": (
                "no valid power: device 3: readings cover 7 %",
                "no price configured",
                "accelerators per rack not configured",
            ),
        }
    )
    other = changed_system(entry, name="other").model_copy(
        update={"tiers": (tier.model_copy(update={"normalisation": normalisation}),)}
    )
    page = render_report(board(entry, other), None)
    (group,) = groups(board(entry, other))
    rows = {row.label: row for row in group.rows if row.tier.name == "tier2" and row.kind != "published"}
    assert rows["other"].absent["mw"].startswith("no valid power: device 3")
    assert rows["other"].absent["usd"] == "no price configured"
    assert rows["sim"].values["rack"] is not None
    assert rows["other"].absent["rack"] == "accelerators per rack not configured"
    text = re.findall(r"<tr><th scope=\"row\">.*?</tr>", page.partition('class="headline"')[2], re.DOTALL)
    cells = {row.label: next(line for line in text if f">{row.label}<" in line) for row in rows.values()}
    assert '<span class="lens lens-mw">–<span class="served">no valid power</span></span>' in cells["other"]
    assert '<span class="served">accelerators per rack not configured</span>' in cells["other"]
    assert 'class="lens lens-rack"><strong>' in cells["sim"]
    bars = {bar["system"]: bar for bar in data_of(page)["groups"][0]["bars"] if bar["tier"] == "tier2"}
    assert bars["other"]["shown"]["mw"] == "no valid power: device 3: readings cover 7 %"


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)> ${title} \"'&amp;<!--"


def test_nothing_in_names_becomes_code(entry: Entry, html: str) -> None:
    hostile = changed_system(
        entry.model_copy(
            update={
                "suite": {**entry.suite, "title": HOSTILE, "model": HOSTILE},
                "submitter": HOSTILE,
                "comparable": Flag(value=False, reasons=(HOSTILE,)),
                "dataset": entry.dataset.model_copy(update={"name": HOSTILE}),
            }
        ),
        name=HOSTILE,
        title=HOSTILE,
    )
    page = render_report(board(hostile), None)
    tags = [tag for tag, _ in Outline(page).tags]
    assert tags.count("script") == [tag for tag, _ in Outline(html).tags].count("script")
    assert "img" not in tags
    assert not [name for _, attributes in Outline(page).tags for name in attributes if name.startswith("on")]
    assert data_of(page)["groups"][0]["systems"][0]["label"] == HOSTILE
    assert HOSTILE in " ".join(Outline(page).words)


def test_the_policy_allows_these_scripts_alone_and_no_connection(html: str) -> None:
    policy = next(a["content"] for tag, a in Outline(html).tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    rules = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules
    assert "unsafe" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert rules["script-src"].split() == [f"'sha256-{one}'" for one in hashes]
    assert len(scripts) == 5


def test_a_leaderboard_alone_says_what_is_not_shown(small: Path, tmp_path: Path) -> None:
    alone = tmp_path / "mine.json"
    alone.write_bytes(small.read_bytes())
    assert main(["report", str(alone)]) == 0
    page = (tmp_path / "mine.html").read_text(encoding="utf-8")
    assert "sim: no distributions and timelines" in Outline(page).text
    assert data_of(page)["groups"][0]["systems"][0]["details"] == {}


def test_records_that_were_changed_are_not_shown(small: Path, tmp_path: Path) -> None:
    path = joined([small], tmp_path / "joined.json")
    folder = tmp_path / small.parent.name
    (entry,) = read_leaderboard(path).entries
    changed = next(phase for phase in entry.phases if phase.verdicts)
    for phase in entry.phases:
        for name in phase.digests:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((small.parent.parent / name).read_bytes())
    assert changed.records is not None
    with (tmp_path / changed.records).open("ab") as file:
        file.write(b"more")
    page = render_report(read_leaderboard(path), tmp_path)
    assert f"{changed.records}: it is not the file that was measured" in Outline(page).text
    details = data_of(page)["groups"][0]["systems"][0]["details"]
    assert "in_flight" not in details[str(changed.phase)]["timeline"]["series"]
    assert folder.is_dir()


def test_files_from_elsewhere_are_not_read(entry: Entry, tmp_path: Path) -> None:
    phases = tuple(
        p.model_copy(update={"records": "../../outside.parquet", "digests": {}}) for p in entry.phases
    )
    page = render_report(board(entry.model_copy(update={"phases": phases})), tmp_path)
    assert "../../outside.parquet: neither beside the leaderboard nor named with a digest" in page


def test_searches_are_told_step_by_step(html: str, entry: Entry) -> None:
    search = data_of(html)["groups"][0]["systems"][0]["searches"][0]
    last = search["steps"][-1]
    tier = entry.tiers[0]
    assert (last["low"], last["high"]) == (tier.passed_max, tier.failed_min)
    wide = [step["high"] - step["low"] for step in search["steps"] if step["high"] is not None]
    assert wide == sorted(wide, reverse=True)
    assert search["passed"] is not None
    assert search["failed"] is not None
    folded = re.findall(r'<details class="search".*?</details>', html, re.DOTALL)[0]
    assert folded.count("<tr>") >= len(search["steps"])


def test_the_configuration_shows_what_differs(entry: Entry) -> None:
    other = changed_system(entry, name="other", title="Another system")
    page = render_report(board(entry, other), None)
    differing = re.findall(r'<tr class="differs"><th scope="row">(.*?)</th>', page)
    assert differing == ["name", "title"]
    assert "deployments.v4-pro.serving.framework" in page
    # An edition that was not measured has other targets.
    assert "editions.pre-launch" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.json"], "cannot be read"),
        (["{small}", "-o", "{small}"], "it would replace the leaderboard"),
        (["{small}", "-o", "no/such/folder/x.html"], "cannot be written"),
    ],
)
def test_bad_input(
    arguments: list[str], message: str, small: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["report", *(text.format(small=small) for text in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_an_open_part_that_lacks_something_is_named(
    entry: Entry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = {name: value for name, value in entry.system.items() if name != "accelerator"}
    path = written(board(entry.model_copy(update={"system": system})), tmp_path / "leaderboard.json")
    assert main(["report", str(path)]) == 2
    assert "lacks what a report shows: 'accelerator'" in capsys.readouterr().err


def test_long_reasons_are_folded_and_whole(entry: Entry) -> None:
    reason = f"tier2: INVALID at N = 4: {'a load worker was late; ' * 40}<end>"
    page = render_report(
        board(entry.model_copy(update={"valid": Flag(value=False, reasons=(reason,))})), None
    )
    caveats = re.findall(r'<section class="caveats">.*?</section>', page, re.DOTALL)[0]
    assert "<details>" in caveats
    assert "".join(Outline(caveats).words).replace("…", "").count("a load worker was late; ") == 40
    assert "&lt;end&gt;" in caveats


def test_a_probe_that_does_not_count_is_not_drawn_as_one_that_does(entry: Entry) -> None:
    reason = InvalidReason(code="late", what="the client was late", remedy="use more workers")
    phases = tuple(phase.model_copy(update={"invalid": (reason,)}) for phase in entry.phases)
    found = data_of(render_report(board(entry.model_copy(update={"phases": phases})), None))
    probes = found["groups"][0]["systems"][0]["probes"]
    assert {text for probe in probes for text in probe["invalid"]} == {str(reason)}


def test_timelines_are_limited_and_the_deciding_probes_come_first(small: Path) -> None:
    (entry,) = read_leaderboard(small).entries
    deciding = {n for tier in entry.tiers for n in (tier.passed_max, tier.failed_min)}
    # Of two systems, too: the second one's decide, and the first one's others wait.
    evidence = Evidence(small.parent, timelines_max=len(deciding) + 1)
    both = evidence.of({"a": entry, "b": entry})
    assert all(any("distributions" in one for one in found.values()) for found in both.values())
    evidence = Evidence(small.parent, timelines_max=1)
    found = evidence.of({"sim": entry})["sim"]
    assert len(found) == 1
    assert evidence.skipped == len([phase for phase in entry.phases if phase.verdicts]) - 1
    (shown,) = (phase for phase in entry.phases if phase.phase in found)
    assert shown.n_agents in deciding
    # So that the 240 of a large report stay far below 5 MB.
    assert len(json.dumps(found[shown.phase]["timeline"])) < 12_000


def test_the_library_is_as_published() -> None:
    vendor = files("pytest_agentperf") / "results" / "report" / "vendor"
    licences = (vendor / "LICENSES.txt").read_text("utf-8")
    for name, digest in LIBRARY.items():
        data = (vendor / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest
        assert name in licences
        # It stands inside an element of the page.
        assert b"</script" not in data.lower()


def test_a_board_of_nothing_is_a_page(tmp_path: Path) -> None:
    path = written(board(), tmp_path / "leaderboard.json")
    assert main(["report", str(path), "-o", str(tmp_path / "r.html")]) == 0
    assert "no results" in (tmp_path / "r.html").read_text(encoding="utf-8")
