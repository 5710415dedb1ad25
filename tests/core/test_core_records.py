from __future__ import annotations

import numpy as np
import pytest
from core_support import answer, columns, failure, key, steady
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.records import (
    INT_COLUMNS,
    NULL,
    TEXT_COLUMNS,
    Answer,
    ColumnsBuilder,
    RequestColumns,
    RequestKey,
)

Pair = tuple[RequestKey, Answer]

counts = st.integers(0, 2**62)
texts = st.none() | st.text(max_size=5)
keys = st.builds(
    RequestKey, counts, counts, st.integers(0, 5), counts, st.text(max_size=5), st.integers(0, 200)
)
found_answers = st.builds(
    Answer,
    t_sent_ns=st.integers(0, 20),
    t_end_ns=counts,
    failure=texts,
    failure_detail=texts,
    status=st.none() | counts,
    connect_ns=st.none() | counts,
    reconnects=counts,
    t_first_ns=st.none() | counts,
    t_last_ns=st.none() | counts,
    prompt_tokens=st.none() | counts,
    cached_tokens=st.none() | counts,
    output_tokens=st.none() | counts,
    reasoning_tokens=st.none() | counts,
    first_chunk_tokens=st.none() | counts,
    first_chunk_source=texts,
    content_chunks=counts,
    finish_reason=texts,
    response_id=texts,
    body_bytes=st.none() | counts,
    prefix_head=st.none() | counts,
)
requests = st.lists(st.tuples(keys, found_answers), max_size=12)


def build(pairs: list[Pair]) -> RequestColumns:
    builder = ColumnsBuilder()
    for one_key, one_answer in pairs:
        builder.add(one_key, one_answer)
    return builder.finish()


def rows(found: RequestColumns) -> list[Pair]:
    """Read the columns back, row by row."""
    result = []
    for i in range(len(found)):
        values: dict[str, object] = {
            name: None if found[name][i] == NULL else int(found[name][i]) for name in INT_COLUMNS
        }
        values |= {name: found.texts[name][i] for name in TEXT_COLUMNS}
        result.append(
            (
                RequestKey(**{name: values[name] for name in RequestKey._fields}),  # type: ignore[arg-type]
                Answer(**{name: values[name] for name in Answer._fields}),  # type: ignore[arg-type]
            )
        )
    return result


def test_every_field_of_a_request_has_one_column() -> None:
    assert sorted([*INT_COLUMNS, *TEXT_COLUMNS]) == sorted({*RequestKey._fields, *Answer._fields})


@steady
@given(requests)
def test_what_was_added_is_what_is_there(pairs: list[Pair]) -> None:
    found = build(pairs)
    assert len(found) == len(pairs)
    assert rows(found) == pairs
    assert found.failed.tolist() == [one.failure is not None for _, one in pairs]


@steady
@given(requests)
def test_the_wire_changes_nothing(pairs: list[Pair]) -> None:
    frame = build(pairs).to_wire()
    values = [*frame["ints"].values(), *(part for parts in frame["texts"].values() for part in parts)]
    assert set(map(type, values)) == {bytes}
    assert rows(RequestColumns.from_wire(frame)) == pairs


def test_a_text_of_many_requests_arrives_as_one() -> None:
    found = RequestColumns.from_wire(columns(answer(), answer(), answer()).to_wire())
    assert len(set(map(id, found.texts["trajectory"]))) == 1


def test_the_wire_is_little_endian() -> None:
    frame = columns(answer(n=258)).to_wire()
    assert frame["ints"]["output_tokens"] == b"\x02\x01\0\0\0\0\0\0"


@steady
@given(st.lists(requests, max_size=4))
def test_parts_are_joined_by_agent_then_time(parts: list[list[Pair]]) -> None:
    found = rows(RequestColumns.concatenate(build(part) for part in parts))
    everything = [pair for part in parts for pair in part]
    assert found == sorted(everything, key=lambda pair: (pair[0].agent, pair[1].t_sent_ns))


def test_no_parts_are_no_requests() -> None:
    assert len(RequestColumns.concatenate([])) == 0
    assert len(RequestColumns.concatenate([columns(), columns()])) == 0


def test_a_later_add_does_not_change_what_was_finished() -> None:
    builder = ColumnsBuilder()
    builder.add(key(), answer())
    found = builder.finish()
    builder.add(key(), failure())
    assert len(found) == len(found.texts["failure"]) == 1
    assert len(builder.finish()) == 2


def test_absent_numbers_are_null() -> None:
    found = columns(failure())
    assert found["output_tokens"].tolist() == [NULL]
    assert found["connect_ns"].tolist() == [NULL]


def test_the_window_is_closed_on_the_left_only() -> None:
    found = columns(*(Answer(t_sent_ns=t, t_end_ns=99) for t in (9, 10, 19, 20)))
    assert found.sent_within(10, 20).tolist() == [False, True, True, False]
    assert not found.sent_within(10, 10).any()


def test_columns_of_different_lengths_are_refused() -> None:
    found = columns(answer())
    with pytest.raises(ValueError, match="different lengths"):
        RequestColumns({**found.ints, "turn": np.zeros(2, dtype=np.int64)}, found.texts)
    with pytest.raises(ValueError, match="different lengths"):
        RequestColumns(found.ints, {**found.texts, "failure": []})
