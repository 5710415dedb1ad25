"""Published results: as published, with their sources, and never to be taken for measurements of this tool."""

from __future__ import annotations

import json

import jsonschema
import pytest

from pytest_agentperf.config.bundled import bundled_suites, find_system_file
from pytest_agentperf.config.suite import FILE_NAME, load_suite
from pytest_agentperf.config.system import load_system
from pytest_agentperf.results.leaderboard_file import read_leaderboard
from pytest_agentperf.results.published import PUBLISHED_FILE, published_results
from pytest_agentperf.results.schema import leaderboard_schema

FOUND = published_results("deepseek_v4_pro", "2026-06")


def test_the_file_is_a_leaderboard_without_measurements() -> None:
    document = json.loads(PUBLISHED_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(leaderboard_schema()).validate(document)
    board = read_leaderboard(PUBLISHED_FILE)
    assert board.entries == ()
    assert board.published == FOUND
    assert {one["measured_by_this_tool"] for one in document["published"]} == {False}
    assert published_results("deepseek_v4_pro", "pre-launch") == ()


def test_scores_are_those_that_were_published() -> None:
    per_mw = {one.system: one.agents_per_mw for one in FOUND if one.agents_per_mw is not None}
    assert per_mw == {"gb300": 61_354, "b300": 21_053, "mi355x": 3_551, "h200": 2_594}
    counted = [(o.system, o.tier.name, o.agents, o.accelerators) for o in FOUND if o.agents is not None]
    assert counted == [("gb300", "tier1", 1840, 32), ("gb300", "tier2", 768, 40)]
    for one in FOUND:
        if one.agents is not None and one.accelerators is not None:
            assert one.agents_per_accelerator == pytest.approx(one.agents / one.accelerators)


def test_each_says_who_published_it_where_and_for_which_target() -> None:
    folder = next(path for path in bundled_suites() if path.name == "deepseek_v4_pro")
    suite = load_suite(folder / FILE_NAME)
    for one in FOUND:
        assert one.published_by
        assert "2026" in one.source or "@" in one.source
        assert suite.tiers(one.edition)[one.tier.name] == one.tier
        assert load_system(find_system_file(one.system, start=folder)).name == one.system
