from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_support import SHARED, key, segments
from plain_bodies import PlainBodies

from pytest_agentperf.core.assignment import PREFIX_HEX_CHARS, isolation_prefix
from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.core.trajectory import Trajectory, Turn
from pytest_agentperf.dataset import ReplayDataset
from pytest_agentperf.load import segment_writer
from pytest_agentperf.load.bodies import BodyBuilder, BodyRules

if TYPE_CHECKING:
    from pytest_agentperf.core.records import RequestKey

BASH = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Grüße, 世界 🚀 \u2028 \x00"}
TOOL = {"role": "tool", "tool_call_id": "c1", "content": ""}
RECORDINGS = [SHARED / "trajectories" / name for name in ("agentperf_replay", "agentperf_replay_mini")]


def turn(
    *runs: tuple[int, int], tools: int | None = None, output: int | None = None, delay_ns: int = 5
) -> Turn:
    return Turn(runs, delay_ns, tools_index=tools, output_tokens=output)


def trajectory(*messages: dict[str, Any], turns: tuple[Turn, ...] = ()) -> Trajectory:
    turns = turns or (turn((0, len(messages))),)
    return Trajectory("t1", messages, turns, tool_sets=((BASH,), ()))


def rules(**changes: Any) -> BodyRules:
    fields: dict[str, Any] = {"model": "m", "parameters": {}, "max_tokens": 100, "output_length": "natural"}
    return BodyRules(**(fields | changes))


def built(*messages: dict[str, Any], request: RequestKey | None = None, **changes: Any) -> dict[str, Any]:
    builder = BodyBuilder(segments(trajectory(*messages)), rules(**changes), nonce="n")
    body: dict[str, Any] = json.loads(builder.build(request or key()))
    return body


def prefix(request: RequestKey, nonce: str = "n") -> str:
    return isolation_prefix(nonce, request.phase, request.attempt, request.agent, request.ordinal)


def test_the_whole_body() -> None:
    parameters = {"temperature": 1.0, "chat_template_kwargs": {"thinking": True}, "stop": ["é"]}
    turns = (turn((0, 1), (2, 3), tools=0, output=7),)
    encoded = segments(trajectory(SYSTEM, USER, TOOL, turns=turns))
    body = BodyBuilder(encoded, rules(parameters=parameters, model="ä/m"), nonce="n").build(key())
    expected = {
        "model": "ä/m",
        "messages": [{"role": "system", "content": prefix(key()) + "Be brief."}, TOOL],
        "tools": [BASH],
        "temperature": 1.0,
        "chat_template_kwargs": {"thinking": True},
        "stop": ["é"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 100,
    }
    # As text: the order of keys counts too, since chat templates print it.
    assert body == json.dumps(expected, ensure_ascii=False, separators=(",", ":")).encode()


def test_without_tools_there_is_no_such_key_and_an_empty_list_stays_one() -> None:
    assert "tools" not in built(SYSTEM)
    encoded = segments(trajectory(SYSTEM, turns=(turn((0, 1), tools=1),)))
    assert json.loads(BodyBuilder(encoded, rules()).build(key()))["tools"] == []


TEXT_PART = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:,"}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Be brief.", "<prefix>Be brief."),
        ("", "<prefix>"),
        (None, "<prefix>"),
        ('"quoted" \\ \n', '<prefix>"quoted" \\ \n'),
        ([TEXT_PART, IMAGE_PART], [{**TEXT_PART, "text": "<prefix>Be brief."}, IMAGE_PART]),
        ([IMAGE_PART, TEXT_PART], [{"type": "text", "text": "<prefix>"}, IMAGE_PART, TEXT_PART]),
        ([], [{"type": "text", "text": "<prefix>"}]),
        (
            [{"type": "text", "text": None}],
            [{"type": "text", "text": "<prefix>"}, {"type": "text", "text": None}],
        ),
    ],
)
def test_the_prefix_opens_the_first_message(content: Any, expected: Any) -> None:
    message = {"role": "system", "name": "x", "content": content, "extra": ["y"]}
    found = built(message, USER)["messages"]
    plain = json.loads(json.dumps(expected).replace("<prefix>", prefix(key())))
    assert found == [{**message, "content": plain}, USER]
    assert list(found[0]) == list(message)


def test_a_first_message_without_content_gets_one() -> None:
    assert built({"role": "system"})["messages"] == [{"role": "system", "content": prefix(key())}]


def test_the_prefix_is_the_first_128_characters_of_the_trajectory_alone() -> None:
    def opening(request: RequestKey, nonce: str = "n") -> str:
        builder = BodyBuilder(segments(trajectory(SYSTEM, turns=(turn((0, 1)),) * 3)), rules(), nonce=nonce)
        content: str = json.loads(builder.build(request))["messages"][0]["content"]
        assert content.endswith("Be brief.")
        return content.removesuffix("Be brief.")

    assert BodyBuilder(segments(trajectory(SYSTEM)), rules(), nonce="n").prefix_head(key()) == int(
        opening(key())[:15], 16
    )
    first = opening(key())
    assert len(first) == PREFIX_HEX_CHARS == 128
    assert set(first) <= set("0123456789abcdef")
    assert opening(key(turn=2)) == first
    request = key()
    others = [request._replace(phase=9), request._replace(attempt=9), key(agent=9), key(ordinal=9)]
    assert len({first, opening(key(), "other"), *map(opening, others)}) == 6


def test_a_new_nonce_takes_effect_at_once() -> None:
    builder = BodyBuilder(segments(trajectory(SYSTEM)), rules(), nonce="n")
    builder.build(key())
    builder.nonce = "new"
    assert json.loads(builder.build(key()))["messages"][0]["content"].startswith(prefix(key(), "new"))


def test_the_mark_in_a_recording_takes_no_prefix_away() -> None:
    other = {"role": "user", "content": "\0agentperf-isolation-prefix\0"}
    assert built(SYSTEM, other)["messages"][1] == other


@pytest.mark.parametrize("length", ["natural", "exact"])
@pytest.mark.parametrize(("recorded", "sent"), [(7, 7), (100, 100), (101, 100), (0, 1)])
def test_the_length_of_the_answer(length: str, recorded: int, sent: int) -> None:
    encoded = segments(trajectory(SYSTEM, turns=(turn((0, 1), output=recorded),)))
    body = json.loads(BodyBuilder(encoded, rules(output_length=length)).build(key()))
    found = {name: body.get(name) for name in ("max_tokens", "min_tokens", "ignore_eos")}
    if length == "natural":
        assert found == {"max_tokens": 100, "min_tokens": None, "ignore_eos": None}
    else:
        assert found == {"max_tokens": sent, "min_tokens": sent, "ignore_eos": True}


def test_exact_lengths_need_recorded_ones_before_anything_is_sent() -> None:
    known = replace(trajectory(SYSTEM, turns=(turn((0, 1), output=3),)), id="t0")
    one_unknown = segments(known, trajectory(SYSTEM, turns=(turn((0, 1), output=3), turn((0, 1)))))
    with pytest.raises(DatasetError, match="trajectory 't1', turn 1: no recorded output length"):
        BodyBuilder(one_unknown, rules(output_length="exact"))
    BodyBuilder(one_unknown, rules(output_length="natural"))
    BodyBuilder(segments(known), rules(output_length="exact"))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, {"include_usage": True}),
        (
            {"stream_options": {"continuous_usage_stats": True}},
            {"continuous_usage_stats": True, "include_usage": True},
        ),
        ({"stream_options": {"include_usage": False}}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        ({"stream": False}, {"include_usage": True}),
    ],
)
def test_usage_is_always_asked_for(parameters: dict[str, Any], expected: dict[str, Any]) -> None:
    body = built(SYSTEM, parameters=parameters)
    assert (body["stream"], body["stream_options"]) == (True, expected)


def test_half_a_surrogate_pair_stays_what_it_was() -> None:
    broken = {"role": "user", "content": "half \ud83d and 世界"}
    assert built(SYSTEM, broken)["messages"][1] == broken
    found = built(broken, USER)["messages"]
    assert found == [{"role": "user", "content": prefix(key()) + "half \ud83d and 世界"}, USER]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=[]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
recorded_messages = st.builds(
    lambda content, extra: {"role": "user", "content": content, "extra": extra},
    st.none() | st.text(st.characters(exclude_categories=[]), max_size=20),
    json_values,
)


@given(st.lists(recorded_messages, min_size=1, max_size=4))
def test_any_messages_arrive_as_recorded(messages: list[dict[str, Any]]) -> None:
    found = built(*messages)["messages"]
    first = messages[0]
    assert found == [{**first, "content": prefix(key()) + (first["content"] or "")}, *messages[1:]]


any_text = st.text(st.characters(exclude_categories=[]), max_size=8) | st.just(
    "\0agentperf-isolation-prefix\0"
)
parts = st.builds(lambda text: {"type": "text", "text": text}, any_text | st.none()) | st.just(IMAGE_PART)
any_messages = st.builds(
    lambda before, content, after: {**before, **content, **after},
    st.dictionaries(st.sampled_from(["role", "name"]), any_text, max_size=2),
    st.just({})
    | st.builds(lambda content: {"content": content}, st.none() | any_text | st.lists(parts, max_size=2)),
    st.dictionaries(st.sampled_from(["tool_calls", "reasoning_content"]), json_values, max_size=2),
)


@st.composite
def any_trajectories(draw: st.DrawFn) -> Trajectory:
    """Return a run whose histories grow, shrink, skip, repeat and change their order."""
    messages = tuple(draw(st.lists(any_messages, min_size=1, max_size=5)))
    tools = tuple(
        draw(st.lists(st.just((BASH,)) | st.just(()) | st.just(({"name": "é\ud800"},)), max_size=2))
    )
    end = len(messages)
    runs = st.integers(0, end - 1).flatmap(
        lambda start: st.tuples(st.just(start), st.integers(start + 1, end))
    )
    turns: list[Turn] = []
    for _ in range(draw(st.integers(1, 5))):
        # Mostly the last history, as far as it goes, and more.
        last = turns[-1].message_runs if turns else ()
        kept = last[: draw(st.sampled_from([len(last), len(last) - 1, 0]))]
        turns.append(
            Turn(
                (*kept, *draw(st.lists(runs, min_size=not kept, max_size=4))),
                draw(st.integers(0, 1 << 62)),
                tools_index=draw(st.none() | st.integers(0, len(tools) - 1)) if tools else None,
                output_tokens=draw(st.integers(0, 1 << 70)),
            )
        )
    return Trajectory("t1", messages, tuple(turns), tool_sets=tools)


@given(any_trajectories(), st.sampled_from(["natural", "exact"]), st.integers(1, 4))
def test_joined_bodies_are_those_made_message_by_message(
    run: Trajectory, length: str, scattered_runs: int
) -> None:
    with patch.object(segment_writer, "_SCATTERED_RUNS", scattered_runs):
        encoded = segments(replace(run, id="t0"), run)
    builder = BodyBuilder(encoded, rules(output_length=length, parameters={"a": "ü"}), "n")
    plain = PlainBodies(run, rules(output_length=length, parameters={"a": "ü"}), "n")
    for number in range(len(run.turns)):
        request = key(3, number, ordinal=7)
        assert builder.build(request) == plain.build(request)
        assert builder.build(request._replace(trajectory="t0")) == plain.build(request)
    assert list(encoded.tool_delays_ns("t1")) == [turn.tool_delay_ns for turn in run.turns]


@pytest.mark.parametrize("folder", RECORDINGS, ids=lambda folder: folder.name)
def test_recordings_are_sent_as_recorded(folder: Any) -> None:
    if not folder.is_dir():
        pytest.skip(f"the recordings are not at {folder}")
    source = ReplayDataset(folder)
    encoded = segments(*map(source.load, source.ids()))
    builder = BodyBuilder(encoded, rules(output_length="exact", max_tokens=16_384), nonce="n")
    for trajectory_id in source.ids():
        plain = PlainBodies(source.load(trajectory_id), rules(output_length="exact", max_tokens=16_384), "n")
        lines = (folder / "traces" / f"{trajectory_id}.jsonl").read_bytes().splitlines()
        for k, line in enumerate(lines):
            row = json.loads(line)
            request = key(3, k, ordinal=2, trajectory=trajectory_id)
            body = json.loads(builder.build(request))
            opening = body["messages"][0]["content"]
            assert opening[:128] == prefix(request)
            body["messages"][0]["content"] = opening[128:]
            # As text, so that the order of keys counts too.
            assert json.dumps(body["messages"]) == json.dumps(row["messages"])
            assert json.dumps(body.get("tools", [])) == json.dumps(row["tools"])
            assert body["max_tokens"] == body["min_tokens"] == max(1, row["target_output_tokens"])
            assert builder.build(request) == plain.build(request)
