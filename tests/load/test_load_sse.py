from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_support import DONE, ROLE, STREAM, data, delta, usage

from pytest_agentperf.load.events import Event, EventSplitter
from pytest_agentperf.load.sse import StreamContent, decode

if TYPE_CHECKING:
    from collections.abc import Iterable


def events(reads: Iterable[tuple[int, bytes]]) -> list[Event]:
    splitter = EventSplitter()
    found = [event for t_ns, read in reads for event in splitter.feed(t_ns, read)]
    return found + splitter.finish()


FINISH = delta("stop") + usage() + DONE
COUNTED = {"prompt_tokens": 10, "completion_tokens": 3}


def whole(stream: bytes) -> StreamContent:
    return decode([(7, stream)])


def ok(stream: bytes) -> StreamContent:
    content = whole(stream)
    assert (content.failure, content.failure_detail) == (None, None)
    return content


def chunk(finish: str | None = None, *, usage: Any = None, **fields: Any) -> bytes:
    return data({"choices": [{"delta": fields, "finish_reason": finish}], "usage": usage})


def test_a_plain_stream() -> None:
    reads = [(t, event) for t, event in enumerate(STREAM.split(b"\n\n"), start=1)]
    content = decode([(t, read + b"\n\n") for t, read in reads if read])
    assert content == StreamContent(
        t_first_ns=2,
        t_last_ns=3,
        first_text="a",
        first_chunks=1,
        content_chunks=2,
        prompt_tokens=10,
        output_tokens=3,
        finish_reason="stop",
        response_id="r1",
    )


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_line_ends(end: bytes) -> None:
    several_lines = b'data: {"choices": [{"delta":\ndata: {"content": "x"}}]}\n\n' + STREAM
    stream = several_lines.replace(b"\n", end)
    expected = ok(several_lines)
    assert ok(stream) == expected
    for cut in range(len(stream) + 1):
        assert decode([(7, stream[:cut]), (7, stream[cut:])]) == expected
    assert decode([(7, bytes([byte])) for byte in stream]) == expected


def test_mixed_line_ends_and_a_crlf_cut_in_two() -> None:
    reads = [(1, b"data: 1\r"), (2, b"\n"), (3, b"\r"), (4, b"\ndata: 2\r"), (5, b"\r"), (6, b"data: 3\n\n")]
    assert [(event.t_ns, event.data) for event in events(reads)] == [(1, b"1"), (4, b"2"), (6, b"3")]


def test_comments_other_fields_and_empty_events_are_none() -> None:
    noise = b": keep-alive\n\n:\n\nevent: ping\nid: 4\nretry: 10\n\n\n\ndatabase: x\n\nDATA: x\n\n"
    assert events([(1, noise)]) == []
    assert ok(noise + STREAM.replace(b"\n\n", b"\n: within\n\n" + noise)) == ok(STREAM)


def test_only_one_space_after_the_colon_is_no_data() -> None:
    assert [event.data for event in events([(1, b"data:x\n\ndata:  y\n\ndata\n\n")])] == [b"x", b" y", b""]


def test_data_over_several_lines_is_joined() -> None:
    stream = b'data: {"choices": [{"delta":\ndata: {"content": "x"},\ndata:"finish_reason": "stop"}]}\n\n'
    content = ok(stream + usage() + DONE)
    assert (content.first_text, content.finish_reason) == ("x", "stop")


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_without_an_end_is_no_stream(end: bytes) -> None:
    piece = b"x" * (1 << 20)
    reads = [(1, b"data: "), *((2, piece) for _ in range(17)), (3, end + b"\n" + STREAM)]
    content = decode(reads)
    assert content.failure == "malformed"
    assert "a line of more than 16 MiB" in (content.failure_detail or "")
    assert content.t_first_ns is None
    with pytest.raises(ValueError, match="16 MiB"):
        events(reads)


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (b"", True),
        (ROLE, True),
        (ROLE + DONE, True),
        (b": ping\n\n", True),
        (b": ping\n", True),
        (ROLE.replace(b"\n", b"\r\n"), True),
        (ROLE[:-1], False),
        (ROLE + b"d", False),
        (b"data: x\n", False),
        (b"data\n", False),
        (ROLE.replace(b"\n", b"\r"), False),
        (ROLE.replace(b"\n", b"\r\n")[:-1], False),
        (b": pi", False),
    ],
)
def test_where_one_event_ends_and_the_next_may_begin(read: bytes, expected: bool) -> None:
    splitter = EventSplitter()
    splitter.feed(1, read)
    assert splitter.at_boundary == expected


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 10])
def test_a_byte_order_mark_is_no_part_of_the_first_line(cut: int) -> None:
    stream = b"\xef\xbb\xbf" + STREAM.removeprefix(ROLE)
    assert decode([(7, stream[:cut]), (7, stream[cut:])]) == ok(STREAM)


def test_a_byte_order_mark_before_an_only_and_unfinished_line() -> None:
    assert [event.data for event in events([(1, b"\xef\xbb\xbfdata: x")])] == [b"x"]


@pytest.mark.parametrize("cut", [len(DONE), len(DONE) - 1, 2, 1])
def test_an_end_without_done_or_its_empty_line_is_an_end(cut: int) -> None:
    assert ok(STREAM[:-cut]) == ok(STREAM)


@pytest.mark.parametrize(
    "stream",
    [
        chunk(content="a", usage=COUNTED) + chunk("stop") + DONE,
        chunk(content="a") + chunk("stop", usage=COUNTED) + DONE,
        chunk(content="a", usage=None) + chunk("stop", usage=None) + usage() + DONE,
        chunk(content="a") + chunk("stop") + data({"usage": COUNTED}) + DONE,
        chunk(content="a") + chunk("stop") + data({"choices": None, "usage": COUNTED}) + DONE,
        usage(1, 1) + chunk(content="a", usage={}) + chunk("stop") + usage() + DONE,
    ],
)
def test_usage_may_come_with_any_chunk_and_the_last_counts(stream: bytes) -> None:
    content = ok(stream)
    assert (content.prompt_tokens, content.output_tokens) == (10, 3)


def test_usage_in_every_chunk_tells_the_tokens_of_the_first() -> None:
    def count(n: int) -> dict[str, int]:
        return {"prompt_tokens": 9, "completion_tokens": n}

    parts = [chunk(role="assistant", usage=count(0)), chunk(content="abc", usage=count(4))]
    parts += [chunk(content="d", usage=count(5)), chunk("stop", usage=count(5)), DONE]
    content = decode(enumerate(parts))
    assert (content.first_tokens, content.output_tokens, content.content_chunks) == (4, 5, 2)
    # A count made before the chunk is no count of it.
    parts[1] = chunk(content="abc", usage=count(0))
    assert decode(enumerate(parts)).first_tokens is None
    # Usage that comes later says nothing of the first chunk.
    parts[1] = chunk(content="abc")
    assert decode(enumerate(parts)).first_tokens is None


def test_what_one_read_brings_with_the_first_token_came_with_it() -> None:
    def count(n: int) -> dict[str, int]:
        return {"prompt_tokens": 9, "completion_tokens": n}

    # A proxy that flushes three events at once: they are n₁ together, or its buffer would look like speed.
    flushed = (
        chunk(content="a", usage=count(1))
        + chunk(content="b", usage=count(2))
        + chunk(content="c", usage=count(3))
    )
    content = decode([(1, ROLE), (2, flushed), (3, chunk(content="d", usage=count(4)) + FINISH)])
    assert (content.first_text, content.first_chunks, content.first_tokens) == ("abc", 3, 3)
    assert (content.t_first_ns, content.t_last_ns, content.content_chunks) == (2, 3, 4)


def test_the_details_of_usage() -> None:
    details: dict[str, Any] = {
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    content = ok(chunk("stop", content="a") + usage(**details))
    assert (content.cached_tokens, content.reasoning_tokens) == (8, 2)
    content = ok(chunk("stop", content="a") + usage(prompt_cache_hit_tokens=6))
    assert (content.cached_tokens, content.reasoning_tokens) == (6, None)
    null: dict[str, Any] = {"prompt_tokens_details": None, "completion_tokens_details": None}
    content = ok(chunk("stop", content="a") + usage(**null))
    assert (content.cached_tokens, content.reasoning_tokens) == (None, None)


def test_no_usage_is_a_failure_and_what_came_is_kept() -> None:
    content = whole(chunk(content="a") + chunk("stop") + DONE)
    assert (content.failure, content.t_first_ns, content.finish_reason) == ("no_usage", 7, "stop")


@pytest.mark.parametrize(
    "count",
    [
        {"completion_tokens": -1},
        {"completion_tokens": "3"},
        {"completion_tokens": True},
        {"prompt_tokens": 1.5},
    ],
)
def test_counts_that_are_none_are_malformed(count: dict[str, Any]) -> None:
    assert (
        whole(delta(content="a") + data({"choices": [], "usage": {**COUNTED, **count}})).failure
        == "malformed"
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"content": "x"}, "x"),
        ({"reasoning": "x"}, "x"),
        ({"reasoning_content": "x"}, "x"),
        ({"content": None, "reasoning_content": "x"}, "x"),
        ({"content": "", "reasoning": "x"}, "x"),
        ({"content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]}, "xy"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "x"}]}]}, "x"),
        ({"tool_calls": [{"index": 0, "function": {"name": "bash", "arguments": ""}}]}, "bash"),
        ({"tool_calls": [{"index": 1, "function": {"arguments": '{"a"'}}]}, '{"a"'),
        ({"tool_calls": [{"index": 0, "function": {"name": None, "arguments": {"a": 1}}}]}, '{"a": 1}'),
    ],
)
def test_what_counts_as_the_first_token(fields: dict[str, Any], text: str) -> None:
    empty = (
        ROLE
        + delta()
        + delta(content=None)
        + delta(reasoning="")
        + delta(content=[])
        + delta(tool_calls=[])
        + delta(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "", "arguments": ""}}])
        + delta(tool_calls=[{"index": 0, "function": None}])
        + data({"choices": [{"index": 0, "delta": None}]})
        + b": keep-alive\n\n"
    )
    content = decode([(1, empty), (2, delta(**fields)), (3, delta(content="end")), (4, FINISH)])
    assert (content.failure, content.t_first_ns, content.t_last_ns) == (None, 2, 3)
    assert (content.first_text, content.content_chunks) == (text, 2)


def test_repeated_finish_chunks_and_a_finish_with_content() -> None:
    content = ok(delta(content="a") + delta("tool_calls", content="b") + delta("tool_calls") + usage() + DONE)
    assert (content.finish_reason, content.content_chunks) == ("tool_calls", 2)


def test_several_tokens_in_one_read_share_its_time() -> None:
    content = decode([(5, delta(content="a") + delta(content="b") + delta(content="c")), (6, FINISH)])
    assert (content.t_first_ns, content.t_last_ns, content.content_chunks) == (5, 5, 3)


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "out of memory", "code": 500}},
        {"error": "out of memory"},
        {"object": "error", "message": "out of memory", "type": "InternalServerError", "code": 500},
        {"id": "r1", "choices": [], "error": {"message": "out of memory"}, "usage": COUNTED},
    ],
)
def test_an_error_inside_the_stream_is_a_failure(error: dict[str, Any]) -> None:
    content = whole(ROLE + delta(content="a") + data(error) + FINISH)
    assert content.failure == "error_in_stream"
    assert "out of memory" in (content.failure_detail or "")
    assert ok(delta(content="a", error=None) + FINISH).failure is None


@pytest.mark.parametrize("reason", ["abort", "error", "cancelled"])
def test_an_answer_that_the_server_gave_up_is_a_failure(reason: str) -> None:
    content = whole(delta(content="a") + delta(reason) + usage() + DONE)
    assert (content.failure, content.failure_detail) == ("error_in_stream", f"finish_reason {reason!r}")


def test_line_separators_inside_strings_are_text() -> None:
    text = "one\u2028two\u2029three\x85four\x0bfive\x0c"
    raw = json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False).encode()
    content = ok(b"data: " + raw + b"\n\n" + FINISH)
    assert content.first_text == text


def test_characters_split_across_reads() -> None:
    text = "naïve 漢字 🚀"
    stream = b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False).encode()
    stream += b"\n\n" + FINISH
    for size in (1, 2, 3):
        reads = [(t, stream[t : t + size]) for t in range(0, len(stream), size)]
        assert decode(reads).first_text == text


def test_half_a_surrogate_pair_goes_into_no_text_column() -> None:
    content = ok(
        data({"id": "\ud83d", "choices": [{"delta": {"content": "\ud83d"}, "finish_reason": "\ude00"}]})
        + usage()
    )
    assert (content.response_id, content.finish_reason) == ("?", "?")


def test_labels_that_are_no_text_become_text() -> None:
    content = ok(
        data({"id": 7, "choices": [{"delta": {"content": "a"}, "finish_reason": {"type": "stop"}}]}) + usage()
    )
    assert (content.response_id, content.finish_reason) == ("7", '{"type": "stop"}')


def test_every_cut_before_the_finish_is_a_failure() -> None:
    upto = len(STREAM) - len(DONE) - len(usage())
    for cut in range(upto - 2):
        content = whole(STREAM[:cut])
        assert content.failure in ("cut", "no_usage"), (cut, content)
        assert content.failure_detail
    assert whole(b"").failure == "cut"
    assert whole(STREAM[: len(ROLE) + 20]).failure_detail == "the stream ended inside an event"


@pytest.mark.parametrize(
    "event",
    [
        b"data: {broken}\n\n",
        b"data: \n\n",
        b"data: <html>\n\n",
        b"data: [1]\n\n",
        b"data: 5\n\n",
        b"data: " + b"[" * 200_000 + b"\n\n",
        b"data: \xff\xfe\n\n",
        data({"choices": 5}),
        data({"choices": [5]}),
        data({"choices": [{"delta": "text"}]}),
        data({"choices": [{"delta": {"content": [5]}}]}),
        data({"choices": [{"delta": {"tool_calls": [{"function": {"name": ["x"]}}]}}]}),
        data({"choices": [], "usage": [1]}),
    ],
)
def test_events_of_another_shape_are_malformed_not_errors_of_ours(event: bytes) -> None:
    content = whole(ROLE + delta(content="a") + event + FINISH)
    assert content.failure == "malformed"
    assert content.failure_detail
    assert content.t_first_ns == 7


def test_a_finished_stream_without_output_is_a_failure() -> None:
    assert whole(ROLE + FINISH).failure == "no_output"


pieces = st.sampled_from(
    [
        ROLE,
        delta(content="é"),
        delta(reasoning="漢"),
        delta(content="b"),
        b": ping\r\n\r\n",
        b"data: {\ndata: }\n\n",
        data({"choices": [{"delta": {"content": "\u2028"}}]}).replace(b"\n", b"\r\n"),
        delta(tool_calls=[{"function": {"name": "f", "arguments": "{}"}}]).replace(b"\n", b"\r"),
        data({"choices": [{"delta": {"content": "🚀"}}], "usage": COUNTED}),
    ]
)


@given(
    st.lists(pieces, max_size=8), st.lists(st.integers(0, 2_000), max_size=12), st.sampled_from([FINISH, b""])
)
def test_any_split_into_reads_gives_the_same(parts: list[bytes], cuts: list[int], end: bytes) -> None:
    stream = b"".join(parts) + end
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    reads = [(b, stream[a:b]) for a, b in pairwise(places)]
    split, joined = decode(reads), decode([(0, stream)])
    # A read's time here is the number of bytes up to its end; the first token's is that of the read in which
    # its last line ended.
    done = 0
    expected = None
    for part in parts:
        if expected is None and decode([(0, part)]).t_first_ns is not None:
            line_end = done + len(part.rstrip(b"\r\n")) + 1
            expected = next(place for place in places if place >= line_end)
        done += len(part)
    assert split.t_first_ns == expected
    for content in (split, joined):
        content.t_first_ns = content.t_last_ns = None
        # What arrived with the first token does depend on the reads.
        content.first_text, content.first_chunks, content.first_tokens = "", 0, None
    assert split == joined
