"""Comparisons: a real change is found, two seeds are no change, and what does not compare is refused."""

from __future__ import annotations

import json
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
from compare_support import searched, written

from pytest_agentperf.cli import main
from pytest_agentperf.core.capacity_estimate import capacity_estimate, t_quantile
from pytest_agentperf.core.comparison import compare_tiers, weaknesses
from pytest_agentperf.core.leaderboard import Flag
from pytest_agentperf.results.compared import differences
from pytest_agentperf.results.compared_text import tier_cells
from pytest_agentperf.results.published import PUBLISHED_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from chromium import Chromium

    from pytest_agentperf.core.leaderboard import Entry


@pytest.fixture(scope="module")
def before() -> list[Entry]:
    return [searched(seed=seed, slower=1.0) for seed in range(3)]


@pytest.fixture(scope="module")
def after() -> list[Entry]:
    return [searched(seed=seed, slower=1.05) for seed in range(3, 5)]


def test_five_percent_slower_steps_are_found(before: list[Entry], after: list[Entry]) -> None:
    for old in before:
        for new in after:
            (tier,) = compare_tiers(old, new)
            assert tier.capacity is not None
            assert tier.capacity.change == "less"
            assert tier.capacity.low is not None
            # Steps are almost all per-sequence time, so that about a twentieth of the agents is lost.
            assert 0.92 < tier.capacity.low < tier.capacity.value < 0.98


def test_two_seeds_of_one_system_are_no_change(before: list[Entry], after: list[Entry]) -> None:
    for same in (before, after):
        for first, second in combinations(same, 2):
            (tier,) = compare_tiers(first, second)
            assert tier.capacity is not None
            assert tier.capacity.change == "no change shown"


def test_metrics_stand_beside_each_other_at_equal_load(before: list[Entry], after: list[Entry]) -> None:
    (tier,) = compare_tiers(before[0], after[0])
    probed = [{p.n_agents for p in entry.phases if p.verdicts} for entry in (before[0], after[0])]
    assert {load.n_agents for load in tier.equal_load} == probed[0] & probed[1]
    for load in tier.equal_load:
        assert load.output_speed_p25 is not None
        assert load.output_speed_p25.value < 1
    near = [load.output_speed_p25 for load in tier.equal_load if 11 < load.n_agents < 44]
    assert any(found is not None and found.change == "less" for found in near)


def changed(entry: Entry, **update: Any) -> Entry:
    return entry.model_copy(update=update)


def test_what_does_not_compare_is_refused(before: list[Entry]) -> None:
    entry = before[0]
    (tier,) = entry.tiers
    other_target = tier.model_copy(update={"tier": tier.tier.model_copy(update={"ttft_p95_s": 4.0})})
    for other, says in (
        (changed(entry, suite={**entry.suite, "name": "other"}), "suites differ"),
        (changed(entry, edition="2"), "editions differ"),
        (changed(entry, dataset=entry.dataset.model_copy(update={"digest": "f" * 64})), "datasets differ"),
        (
            changed(entry, ruleset=entry.ruleset.model_copy(update={"max_tokens": 32})),
            "max_tokens differ: 64 and 32",
        ),
        (changed(entry, output_length="natural"), "output lengths differ"),
        (changed(entry, tiers=(other_target,)), "targets differ"),
        (changed(entry, suite={**entry.suite, "max_context_tokens": 1}), "max_context_tokens differ"),
    ):
        (compared,) = compare_tiers(entry, other)
        assert any(text.startswith(says) for text in compared.refused), says
        assert compared.capacity is None
        assert compared.equal_load == ()


def test_what_compares_weakly_is_flagged(before: list[Entry]) -> None:
    entry = before[0]
    shared = ["neither is comparable: " + reason for reason in entry.comparable.reasons]
    assert weaknesses(entry, before[1]) == shared
    assert weaknesses(entry, before[1], common=False) == []
    assert any("a model answered" in text for text in shared)
    rules = entry.ruleset
    for other, says in (
        (changed(entry, ruleset=rules.model_copy(update={"id": "x/1"})), "rulesets differ"),
        (
            changed(entry, ruleset=rules.model_copy(update={"settle_s": 9.0})),
            "rules were changed: settle_s",
        ),
        (changed(entry, simulated=False), "one was measured, the other simulated"),
        (changed(entry, valid=Flag(value=False, reasons=("why",))), "the other is invalid: why"),
        (changed(entry, complete=Flag(value=False, reasons=("why",))), "the other is incomplete: why"),
        (
            changed(entry, comparable=Flag(value=False, reasons=("forced", *entry.comparable.reasons))),
            "the other is not comparable: forced",
        ),
        (changed(entry, comparable=Flag(value=True)), "the base is not comparable: "),
    ):
        assert any(text.startswith(says) for text in weaknesses(entry, other)), says


def test_accelerators_divide_what_they_carry(before: list[Entry]) -> None:
    """The same system on twice as many accelerators carries half as many agents on each."""
    entry = before[0]
    (tier,) = entry.tiers
    twice = changed(entry, tiers=(tier.model_copy(update={"accelerators": 2 * tier.accelerators}),))
    (found,) = compare_tiers(entry, twice)
    assert found.capacity is not None
    assert found.per_accelerator is not None
    assert found.capacity.value == 1
    assert found.per_accelerator.value == 0.5
    for whole, each in (
        (found.capacity.low, found.per_accelerator.low),
        (found.capacity.high, found.per_accelerator.high),
    ):
        assert whole is not None
        assert each == pytest.approx(whole / 2)
    (back,) = compare_tiers(twice, entry)
    assert back.per_accelerator is not None
    assert back.per_accelerator.value == 2
    # Power is that of all accelerators: twice as many of the same draw makes no difference there.
    assert found.per_mw is not None
    assert found.per_mw.value == 1
    assert tier_cells(found)[6].startswith("0.500 (")


def test_intervals_stand_beside_the_capacities(before: list[Entry], after: list[Entry]) -> None:
    (found,) = compare_tiers(before[0], after[0])
    mine, theirs = before[0].tiers[0].interval, after[0].tiers[0].interval
    assert (found.base_interval, found.other_interval) == (mine, theirs)
    assert mine is not None
    assert tier_cells(found)[1] == f"{before[0].tiers[0].agents} ({mine.low}–{mine.high})"


def test_a_capacity_without_enough_probes_has_no_interval(before: list[Entry]) -> None:
    entry = before[0]
    judged = [phase for phase in entry.phases if phase.verdicts]
    found, why = capacity_estimate(entry.tiers[0], judged[:3])
    assert found is None
    assert why is not None
    assert "too few probes" in why
    (tier,) = compare_tiers(entry, changed(entry, phases=tuple(judged[:3])))
    assert tier.capacity is None
    assert tier.published is not None
    assert (tier.published.low, tier.published.high) == (None, None)


def test_settings_that_differ_are_named_one_by_one(before: list[Entry], after: list[Entry]) -> None:
    found = {one.setting: (one.base, one.other) for one in differences(before[0], after[0])}
    assert found == {"system.deployments.all.simulate.step_per_sequence_ms": ("1.2", "1.26")}
    assert list(differences(before[0], before[1])) == []


@pytest.mark.parametrize(("n", "expected"), [(3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042)])
def test_quantiles_of_t(n: int, expected: float) -> None:
    assert t_quantile(0.975, n) == pytest.approx(expected, rel=0.01)


def test_the_command_prints_a_table_json_and_a_page(
    tmp_path: Path, before: list[Entry], after: list[Entry], capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [
        str(written(tmp_path / name / "leaderboard.json", entry))
        for name, entry in (("old", before[0]), ("new", after[0]))
    ]
    page = tmp_path / "page.html"
    assert main(["compare", *paths, "--html", str(page)]) == 0
    text = capsys.readouterr().out
    assert "new: sim (SIMULATED), against old: sim (SIMULATED)" in text
    assert " less " in text
    assert "step_per_sequence_ms" in text
    html = page.read_text(encoding="utf-8")
    assert "step_per_sequence_ms" in html
    assert "<script>" not in html
    assert "SIMULATED figures" in html
    assert main(["compare", *paths, "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert pair["tiers"][0]["capacity"]["high"] < 1


def test_the_page_is_read_in_a_browser_without_a_network(
    browser: Chromium, tmp_path: Path, before: list[Entry], after: list[Entry]
) -> None:
    paths = [
        str(written(tmp_path / name / "leaderboard.json", entry))
        for name, entry in (("old", before[0]), ("new", after[0]))
    ]
    page = tmp_path / "page.html"
    assert main(["compare", *paths, "--html", str(page)]) == 0
    opened = browser.open(width=390)
    opened.visit(page)
    assert opened.ask("document.documentElement.scrollWidth") <= 390
    (tables,) = opened.each("body", "one.querySelectorAll('table').length")
    assert tables == 3
    cells = opened.each("table:first-of-type tbody tr:first-child td", "one.textContent")
    assert cells[0] == "tier1"
    assert "less" in cells
    # In each table every row has as many cells as the head.
    widths = opened.each("tr", "one.cells.length === one.closest('table').tHead.rows[0].cells.length")
    assert all(widths)
    told = opened.each("li", "one.textContent")
    assert any(text.startswith("weak: neither is comparable: ") for text in told)
    assert opened.errors == []
    assert opened.requests == [page.resolve().as_uri()]
    opened.close()


def test_published_results_stand_beside_at_equal_targets_only(
    tmp_path: Path, before: list[Entry], capsys: pytest.CaptureFixture[str]
) -> None:
    entry = before[0]
    path = str(written(tmp_path / "leaderboard.json", entry))
    assert main(["compare", path, "published"]) == 2
    assert "nothing to compare" in capsys.readouterr().err
    first = json.loads(PUBLISHED_FILE.read_text(encoding="utf-8"))["published"][0]
    tier = entry.tiers[0]
    asked = tier.tier.model_copy(
        update={k: first["tier"][k] for k in ("name", "output_speed_p25_tok_s", "ttft_p95_s")}
    )
    assert tier.normalisation is not None
    per = tier.normalisation.agents.model_copy(update={"per_mw": 6135.4})
    like = tier.model_copy(
        update={"tier": asked, "normalisation": tier.normalisation.model_copy(update={"agents": per})}
    )
    suite = {**entry.suite, "name": first["suite"]}
    written(
        tmp_path / "leaderboard.json", changed(entry, suite=suite, edition=first["edition"], tiers=(like,))
    )
    assert main(["compare", path, "published"]) == 0
    text = capsys.readouterr().out
    assert "gb300 (published)" in text
    assert "10.000" in text
    assert "Artificial Analysis" in text
