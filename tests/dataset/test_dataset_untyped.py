"""Single values of foreign recordings: what is taken, and what counts as unknown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import ToolCall
from pytest_agentperf.dataset.formats.base import ImportContext
from pytest_agentperf.dataset.formats.times import (
    Interval,
    covered_ns,
    duration_ns,
    elapsed_ns,
    interval,
    moment_ns,
    tools_delay_ns,
)
from pytest_agentperf.dataset.formats.values import (
    arguments_text,
    count,
    inner,
    json_text,
    number,
    parsed,
    token_count,
)
from pytest_agentperf.dataset.histories import RecordedRequest
from pytest_agentperf.dataset.importing import Recording, read_recordings, reader_named

if TYPE_CHECKING:
    from pathlib import Path

DAY_NS = 86_400 * 10**9


@pytest.mark.parametrize("value", [True, -1, 1.0, "1", None, 10**9 + 1, 10**400])
def test_what_counts_nothing(value: Any) -> None:
    assert count(value) is None
    assert token_count(value) is None


def test_zero_is_a_count_but_no_tokens() -> None:
    assert (count(0), token_count(0)) == (0, None)
    assert (count(10**9), token_count(7)) == (10**9, 7)


@pytest.mark.parametrize("value", [True, "1", math.nan, math.inf, -1e300, 10**400])
def test_what_is_no_number(value: Any) -> None:
    assert number(value) is None
    assert duration_ns(value) is None


def test_fields_of_fields() -> None:
    assert inner({"a": {"b": 1}}, "a", "b") == 1
    assert inner({"a": [1]}, "a", "b") is None


def test_arguments_stay_the_models_text_or_become_compact_json() -> None:
    assert arguments_text('{"a": 1') == '{"a": 1'
    assert arguments_text(None) == "{}"
    assert arguments_text({"a": ["é", 1]}) == '{"a":["é",1]}'


def test_what_json_cannot_hold_is_one_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (math.inf, deep):
        with pytest.raises(DatasetError, match="JSON cannot hold"):
            json_text(value)


def test_json_text_is_parsed_unless_it_is_broken() -> None:
    assert parsed('{"a": "\ud83d"}') == {"a": "\ud83d"}
    assert parsed("{") is None
    assert parsed([1]) == [1]


@pytest.mark.parametrize(
    ("value", "expected_ns"),
    [
        ("1970-01-01T00:00:01.000002Z", 1_000_002_000),
        ("1970-01-01T01:00:00.000001999+01:00", 1_000),
        ("1970-01-01T00:00:01", 10**9),
        (1.000002, 1_000_002_000),
        ("", None),
        ("soon", None),
        (1_700_000_000_000, None),
        (0, None),
        (None, None),
    ],
)
def test_moments(value: Any, expected_ns: int | None) -> None:
    assert moment_ns(value) == expected_ns


def test_a_tool_takes_no_less_than_nothing_and_no_more_than_a_day() -> None:
    assert (duration_ns(0.5), duration_ns(86_400)) == (500_000_000, DAY_NS)
    assert (duration_ns(-1), duration_ns(86_401)) == (None, None)
    assert (elapsed_ns(5, 5), elapsed_ns(5, 5 + DAY_NS)) == (0, DAY_NS)
    assert (elapsed_ns(5, 4), elapsed_ns(5, 6 + DAY_NS), elapsed_ns(None, 4)) == (None, None, None)
    assert interval(5, None) is None


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=6))
def test_the_union_is_what_any_tool_covers(pairs: list[tuple[int, int]]) -> None:
    intervals = [Interval(start, start + length) for start, length in pairs]
    assert covered_ns(intervals) == len({k for one in intervals for k in range(one.start_ns, one.end_ns)})


def test_one_unmeasured_tool_leaves_the_delay_open() -> None:
    assert tools_delay_ns([("bash", Interval(0, 5)), ("read", None)]) is None
    assert tools_delay_ns([("bash", Interval(0, 5)), ("task", None)]) == 5
    assert tools_delay_ns([]) == 0


def test_no_delay_is_longer_than_a_dataset_can_hold() -> None:
    call = ToolCall(None, "bash", DAY_NS)
    request = RecordedRequest(({"role": "user", "content": "Go."},), None, tool_calls=(call, call))
    assert ImportContext().trajectory("t", [request]).turns[0].tool_delay_ns == DAY_NS


def test_an_error_in_a_message_names_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    call = '{"type": "toolCall", "id": "c", "name": "bash", "arguments": {"n": 1e999}}'
    path.write_text(
        '{"type": "session", "id": "s", "cwd": "/"}\n'
        f'{{"type": "message", "message": {{"role": "assistant", "content": [{call}]}}}}\n',
        encoding="utf-8",
    )
    with pytest.raises(DatasetError, match=r"run\.jsonl: .*JSON cannot hold"):
        list(read_recordings([Recording(path, reader_named("pi"))], ImportContext()))
