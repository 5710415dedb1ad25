from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_agentperf.load.shape import Shape, Shapes, is_plain
from pytest_agentperf.load.sse import StreamContent, StreamDecoder

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]


def event(delta: Mapping[str, Any] | None = None, *, choice: Json | None = None, **more: Any) -> Json:
    """Return an event as vLLM sends it."""
    return {
        "id": "chatcmpl-3c1a9f7e2b3d4e5f",
        "object": "chat.completion.chunk",
        "created": 1_750_000_000,
        "model": "m/1",
        "choices": [
            {"index": 0, "delta": delta or {"content": "a"}, "logprobs": None, "finish_reason": None}
            | (choice or {})
        ],
        **more,
    }


def wire(payload: Any, **changes: Any) -> bytes:
    style: dict[str, Any] = {"separators": (",", ":"), "ensure_ascii": False, **changes}
    return json.dumps(payload, **style).encode()


def learn(data: bytes) -> Shape | None:
    return Shapes().find(data, json.loads(data))


def learned(payload: Any, **style: Any) -> Shape:
    shape = learn(wire(payload, **style))
    assert shape is not None
    return shape


def decoded(data: bytes) -> StreamContent:
    decoder = StreamDecoder()
    decoder.feed(1, b"data: " + data + b"\n\n")
    return decoder.content


def brings_only_output(data: bytes) -> bool:
    """Return what the full decoder says of an event."""
    content = decoded(data)
    content.response_id = None
    return content == StreamContent(
        t_first_ns=1, t_last_ns=1, first_text=content.first_text, first_chunks=1, content_chunks=1
    )


TEXTS = [
    "b",
    " ",
    'say "hi"\n',
    "\\",
    "\\\\",
    "\u2028",
    "naïve 漢字 🚀",
    "\x7f",
    "{}[]:,",
    "\x00\x1f",
    "null",
    "1",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("field", ["content", "reasoning", "reasoning_content"])
def test_a_shape_fits_all_texts(field: str, ascii_only: bool, text: str) -> None:
    shape = learned(event({field: "a"}))
    assert shape.matches(wire(event({field: text}), ensure_ascii=ascii_only))
    # And it may be learned from any of them.
    assert learned(event({field: text}), ensure_ascii=ascii_only).matches(wire(event({field: "a"})))


@pytest.mark.parametrize(
    "other",
    [
        event({"content": "a"}) | {"id": "chatcmpl-0000000000000000", "created": 0},
        event({"content": "\ud83d"}),
        event(choice={"index": -7}),
    ],
)
def test_a_shape_fits_other_ids_and_numbers(other: Json) -> None:
    assert learned(event()).matches(wire(other, ensure_ascii=True))


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,", " :")])
def test_a_shape_has_its_servers_spaces(separators: tuple[str, str]) -> None:
    shape = learned(event(), separators=separators)
    assert shape.matches(wire(event({"content": "b"}), separators=separators))
    if separators != (",", ":"):
        assert not shape.matches(wire(event()))


def test_a_call_of_a_tool() -> None:
    def call(index: int, arguments: str) -> Json:
        return event({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})

    shape = learned(call(0, "{"))
    assert shape.matches(wire(call(3, '"path": "x"}')))
    assert not shape.matches(wire(call(0, "")))


NOT_PLAIN = {
    "finish": event(choice={"finish_reason": "stop"}),
    "usage": event(usage={"prompt_tokens": 1, "completion_tokens": 1}),
    "error": event(error={"message": "no"}),
    "error in words": event(error="no"),
    "error object": event() | {"object": "error"},
    "empty": event({"content": ""}),
    "null": event({"content": None}),
    "number": event({"content": 5}),
    "parts": event({"content": [{"type": "text", "text": "a"}]}),
    "role": event({"role": "assistant", "content": ""}),
    "no choice": event() | {"choices": []},
    "two choices": event() | {"choices": event()["choices"] * 2},
    "no delta": event(choice={"delta": None}),
    "message": event() | {"choices": [{"index": 0, "message": {"content": "a"}}]},
    "name of a tool": event({"tool_calls": [{"index": 0, "function": {"name": "bash", "arguments": ""}}]}),
    "tool without arguments": event({"tool_calls": [{"index": 0, "function": {"name": "bash"}}]}),
    "arguments that are no text": event({"tool_calls": [{"index": 0, "function": {"arguments": {"a": 1}}}]}),
    "one empty call": event(
        {"tool_calls": [{"function": {"arguments": "a"}}, {"function": {"arguments": ""}}]}
    ),
}

PLAIN = {
    "content": event(),
    "finish reason is empty": event(choice={"finish_reason": ""}),
    "usage is null": event(usage=None),
    "error is null": event(error=None),
    "with a role": event({"role": "assistant", "content": "a"}),
    "with both": event({"content": "a", "reasoning": "b"}),
    "with reasoning null": event({"content": "a", "reasoning": None}),
    "reasoning beside no content": event({"content": None, "reasoning": "a", "tool_calls": []}),
    "logprobs": event(choice={"logprobs": {"content": [{"token": "a", "logprob": -0.5, "bytes": [97]}]}}),
}


@pytest.mark.parametrize("payload", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_brings_more_than_output_or_none_is_never_learned(payload: Json) -> None:
    assert not is_plain(payload)
    assert learn(wire(payload)) is None


@pytest.mark.parametrize("plain", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("payload", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_brings_more_than_output_or_none_matches_no_shape(plain: Json, payload: Json) -> None:
    assert is_plain(plain)
    assert not learned(plain).matches(wire(payload))


@pytest.mark.parametrize("plain", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize(
    "other",
    [event(more=1), {**event(), "created": "now"}, event({"text": "a"})],
    ids=["added", "type", "key"],
)
def test_other_keys_or_types_match_no_shape(plain: Json, other: Json) -> None:
    assert not learned(plain).matches(wire(other))


@pytest.mark.parametrize(
    ("zero", "other"),
    [
        (event(usage=0), event(usage=5)),
        (event(error=0), event(error=500)),
        (event(choice={"finish_reason": 0}), event(choice={"finish_reason": 1})),
        (event({"content": 0, "reasoning": "a"}), event({"content": 1, "reasoning": "a"})),
        (event({"content": "a", "tool_calls": 0}), event({"content": "a", "tool_calls": 1})),
        (
            event({"tool_calls": [{"function": {"name": 0, "arguments": "a"}}]}),
            event({"tool_calls": [{"function": {"name": 1, "arguments": "a"}}]}),
        ),
    ],
)
def test_a_zero_in_place_of_nothing_is_no_free_number(zero: Json, other: Json) -> None:
    shape = learn(wire(zero))
    assert shape is None or not shape.matches(wire(other))
    assert not brings_only_output(wire(other)) or not is_plain(other)


WHOLE = wire(event({"content": "TEXT"}))


@pytest.mark.parametrize(
    "text",
    [
        b'"a',
        b"a",
        b'"a"b"',
        b'"\n"',
        b'"\x00"',
        b'"\x1f"',
        b'"\\"',
        b'"\\x"',
        b'"\\u12"',
        b'"\\u12G4"',
        b'"\xff"',
        b'"\xc3"',
        b'"\x80"',
        b'"\xc0\xaf"',
        b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"\xe2\x80"',
        b'""',
        b"null",
        b'["a"]',
        b'"a","more":"b"',
    ],
)
def test_what_is_no_json_text_matches_no_shape(text: bytes) -> None:
    data = WHOLE.replace(b'"TEXT"', text)
    assert not learned(event()).matches(data)
    if text not in (b'"\xed\xa0\x80"', b'"a","more":"b"'):
        assert not brings_only_output(data)


@pytest.mark.parametrize(
    "number", [b"01", b"-", b"--1", b"1-", b"+1", b"1.", b".5", b"1.5.5", b"1e", b"1e+", b"0x1"]
)
@pytest.mark.parametrize("plain", [7, -0.5, 1e30])
def test_what_is_no_json_number_matches_no_shape(plain: float, number: bytes) -> None:
    shape = learned(event(t=plain))
    data = wire(event(t="NUMBER"))
    assert not shape.matches(data.replace(b'"NUMBER"', number))
    for good in (b"0", b"-12") if isinstance(plain, int) else (b"0", b"-12", b"1.25", b"1e5", b"-1.5E-3"):
        assert shape.matches(data.replace(b'"NUMBER"', good))


def test_cut_or_followed_by_more_it_matches_no_shape() -> None:
    shape = learned(event())
    for cut in range(len(WHOLE)):
        assert not shape.matches(WHOLE[:cut])
    assert not shape.matches(WHOLE + b" ")
    assert not shape.matches(WHOLE + b"\n")


def test_an_id_of_another_length_is_another_shape() -> None:
    shape = learned(event())
    assert not shape.matches(wire(event() | {"id": "chatcmpl-1"}))
    assert not shape.matches(wire(event() | {"id": ""}))


def test_data_that_was_joined_from_several_lines_has_no_shape() -> None:
    assert learn(wire(event()).replace(b'"delta":', b'"delta":\n')) is None


def test_an_http_chunk_that_holds_exactly_one_event() -> None:
    shape = learned(event())
    for start in (b"data: ", b"data:"):
        for end in (b"\n\n", b"\r\n\r\n"):
            body = start + WHOLE + end
            memory = bytearray(b"xx%b\r\nyy" % body)
            assert shape.one_chunk(memory, 2, len(memory) - 2)
            assert not shape.one_chunk(memory, 2, len(memory) - 1)
            assert not shape.one_chunk(memory, 1, len(memory) - 2)
            whole = bytearray(b"%x\r\n%b\r\n" % (len(body), body))
            found = shape.chunk(whole, 0, len(whole))
            assert found is not None
            assert (found.end(), found[1]) == (len(whole), b"%x" % len(body))
            assert not shape.chunk(whole, 0, len(whole) - 1)
    for wrong in (
        b"data: %b\n\n\n\r\n",
        b"data: %b\n\r\n",
        b"data:  %b\n\n\r\n",
        b"data: %b\r\n\n\r\n",
        b"data: %b \n\n\r\n",
        b"event: x\ndata: %b\n\n\r\n",
        b": x\n\ndata: %b\n\n\r\n",
        b"data: %b\n\ndata: %b\n\n\r\n",
        b"data: %b\n\n",
    ):
        memory = bytearray(wrong.replace(b"%b", WHOLE))
        assert not shape.one_chunk(memory, 0, len(memory))


def test_all_streams_share_the_shapes_and_there_are_few_of_them() -> None:
    shapes = Shapes()
    kinds = [event(), event({"reasoning_content": "a"}), event({"role": "assistant", "content": "a"})]
    found = [shapes.find(wire(kind), kind) for kind in kinds]
    assert None not in found
    assert len(set(found)) == 3
    assert [shapes.find(wire(kind), kind) for kind in kinds] == found
    for number in range(10):
        kind = event() | {f"key{number}": 1}
        found.append(shapes.find(wire(kind), kind))
    assert sum(shape is not None for shape in found) == 6
    # What was learned goes on.
    assert shapes.find(wire(kinds[0]), kinds[0]) is found[0]


def test_events_of_which_no_two_are_alike_are_not_asked_for_forever() -> None:
    shapes = Shapes()
    kinds = [event() | {f"key{number}": 1} for number in range(200)]
    found = [shapes.find(wire(kind), kind) for kind in kinds]
    assert found[100:] == [None] * 100


# Any event that a shape was learned from, and any other

numbers = st.one_of(st.integers(-9, 10**9), st.floats(-1e9, 1e9, allow_nan=False), st.just(0), st.just(0.0))
words = st.one_of(st.text(max_size=6), st.sampled_from(["", "stop", "error", "a"]))
leaves = st.one_of(st.none(), st.booleans(), numbers, words, st.just([]), st.just({}))
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
calls = st.fixed_dictionaries(
    {}, optional={"index": leaves, "id": leaves, "function": st.fixed_dictionaries(
        {}, optional={"name": leaves, "arguments": leaves})}
)  # fmt: skip
deltas = st.fixed_dictionaries(
    {},
    optional={
        "role": leaves,
        "content": values,
        "reasoning": leaves,
        "reasoning_content": leaves,
        "tool_calls": st.one_of(leaves, st.lists(calls, max_size=2)),
        "more": values,
    },
)
choices = st.fixed_dictionaries(
    {"delta": deltas}, optional={"index": leaves, "finish_reason": leaves, "logprobs": values}
)
payloads = st.fixed_dictionaries(
    {"choices": st.lists(choices, min_size=1, max_size=2)},
    optional={
        "id": leaves,
        "object": st.one_of(leaves, st.just("chat.completion.chunk")),
        "created": leaves,
        "usage": values,
        "error": values,
        "more": values,
    },
)


def filled(payload: Json) -> Json:
    """Give an event some output."""
    payload["choices"] = payload["choices"][:1]
    payload["choices"][0]["delta"]["content"] = "a"
    return payload


def other_leaves(payload: Any, data: st.DataObject, share: int) -> Any:
    """Return the same structure with other values here and there."""
    if isinstance(payload, dict) and payload:
        return {name: other_leaves(value, data, share) for name, value in payload.items()}
    if isinstance(payload, list) and payload:
        return [other_leaves(value, data, share) for value in payload]
    return payload if data.draw(st.integers(0, 99)) >= share else data.draw(leaves)


@given(payloads.map(filled), st.data(), st.sampled_from([5, 30, 100]), st.booleans())
def test_an_event_with_the_same_keys_matches_only_if_it_is_plain(
    payload: Json, data: st.DataObject, share: int, ascii_only: bool
) -> None:
    shape = learn(wire(payload, ensure_ascii=ascii_only)) if brings_output(payload) else None
    assume(shape is not None)
    assert shape is not None
    other = wire(other_leaves(payload, data, share), ensure_ascii=ascii_only)
    if shape.matches(other):
        assert is_plain(json.loads(other))
        assert brings_only_output(other)


def brings_output(payload: Json) -> bool:
    content = decoded(wire(payload, ensure_ascii=True))
    return content.failure is None and bool(content.content_chunks)


# An id is skipped without a look at its bytes: only its length and its end are checked.
ALPHABET = [bytes([byte]) for byte in b'"\\{}[],:-+.eE0195 natrufslx\n\r\x00\x7f'] + [
    "é".encode(), "漢".encode(), "🚀".encode(), b"\xff", b"\xc3", b"\x80", b"\xed\xa0\x80",
    b"null", b"true", b'""', b'"finish_reason":"stop"', b'"usage":{"prompt_tokens":1}', b'"error":"x"', b"\\u0000",
]  # fmt: skip
edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 4), st.sampled_from([b"", *ALPHABET])), min_size=1, max_size=3
)


# Small, so that an edit often hits a value.
SMALL: list[Json] = [
    {"choices": [{"delta": {"content": "a"}, "index": 0}]},
    {"choices": [{"delta": {"content": None, "reasoning": "ab"}, "finish_reason": None}], "t": 0.5},
    {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{"}}]}}], "usage": None, "n": -12},
    {"choices": [{"delta": {"content": "é\n", "name": ""}}], "error": "", "e": 1e30},
]


@given(st.sampled_from(SMALL), edits)
def test_an_event_that_was_tampered_with_matches_only_if_it_is_plain(
    plain: Json, edits: list[tuple[float, int, bytes]]
) -> None:
    data = wire(plain)
    shape = learned(plain)
    for place, length, put in edits:
        start = round(place * len(data))
        data = data[:start] + put + data[start + length :]
    if shape.matches(data):
        assert is_plain(json.loads(data))
        assert brings_only_output(data)
