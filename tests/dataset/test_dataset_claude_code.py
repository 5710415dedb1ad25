"""Claude Code sessions: which lines make one conversation, and what its requests send."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hostile_support import JUNK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats import claude_code
from pytest_agentperf.dataset.formats.base import ImportContext, Peek
from pytest_agentperf.dataset.formats.claude_code.conversation import NO_PROMPT

if TYPE_CHECKING:
    from pytest_agentperf.core.trajectory import Trajectory

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "trajectories" / "claude_code"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the recordings are not at {DATA}")

MS = 1_000_000
Row = dict[str, Any]


def line(key: str, parent: str | None, kind: str, content: Any, at_ms: int = 0, **more: Any) -> Row:
    message = {"role": kind, "content": content, **more.pop("message", {})}
    return {
        "type": kind,
        "uuid": key,
        "parentUuid": parent,
        "sessionId": "s1",
        "isSidechain": False,
        "timestamp": f"2026-01-01T00:{at_ms // 60_000:02}:{at_ms % 60_000 / 1000:06.3f}Z",
        "message": message,
        **more,
    }


def user(key: str, parent: str | None, content: Any, at_ms: int = 0, **more: Any) -> Row:
    return line(key, parent, "user", content, at_ms, **more)


def answer(
    key: str, parent: str | None, id_: str, *blocks: Row, at_ms: int = 0, tokens: Any = 100, **more: Any
) -> Row:
    usage = {"input_tokens": tokens, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 3}
    message = {"id": id_, "model": "claude-x", "usage": {**usage, "output_tokens": 1}}
    return line(key, parent, "assistant", list(blocks), at_ms, message=message, **more)


def said(text: str) -> Row:
    return {"type": "text", "text": text}


def thought(text: str) -> Row:
    return {"type": "thinking", "thinking": text, "signature": "x"}


def use(number: int, name: str = "Bash") -> Row:
    return {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {"command": "ls"}}


def result(number: int, content: Any = None, **more: Any) -> Row:
    content = f"out {number}" if content is None else content
    return {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": content, **more}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, context: ImportContext | None = None) -> list[Trajectory]:
    assert claude_code.recognises(Peek(path))
    return list(claude_code.read(path, context or ImportContext()))


def read_rows(tmp_path: Path, *rows: Any, context: ImportContext | None = None) -> list[Trajectory]:
    return read(write(tmp_path / "file.jsonl", list(rows)), context)


def read_one(tmp_path: Path, *rows: Any, context: ImportContext | None = None) -> Trajectory:
    (found,) = read_rows(tmp_path, *rows, context=context)
    return found


def sent(found: Trajectory, turn: int) -> list[dict[str, Any]]:
    return [dict(message) for message in found.request_messages(found.turns[turn])]


def contents(found: Trajectory, turn: int) -> list[Any]:
    return [message["content"] for message in sent(found, turn)]


ONE = [
    user("u1", None, "hello"),
    answer("a1", "u1", "msg_1", thought("hm"), at_ms=1_000),
    answer("a2", "a1", "msg_1", said("look"), at_ms=1_100),
    answer("a3", "a2", "msg_1", use(1), at_ms=1_200),
    user("u2", "a3", [result(1)], 3_450),
    answer("a4", "u2", "msg_2", said("done"), at_ms=5_000, tokens=200),
]


def test_lines_of_one_message_are_one_answer(tmp_path: Path) -> None:
    found = read_one(tmp_path, *ONE)
    assert (found.id, found.model, len(found.turns)) == ("s1", "claude-x", 2)
    assert sent(found, 0) == [{"role": "user", "content": "hello"}]
    assert sent(found, 1) == [
        {"role": "user", "content": "hello"},
        {
            "role": "assistant",
            "content": "look",
            "reasoning_content": "hm",
            "tool_calls": [
                {
                    "id": "toolu_1",
                    "type": "function",
                    "function": {"name": "Bash", "arguments": '{"command":"ls"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "out 1"},
    ]
    first, last = found.turns
    # What the cache gave and took counts as prompt; output counts are those at the start of the answer.
    assert (first.prompt_tokens, first.output_tokens, first.tool_delay_ns) == (123, None, 2_250 * MS)
    assert [(one.id, one.name, one.duration_ns) for one in first.tool_calls] == [
        ("toolu_1", "Bash", 2_250 * MS)
    ]
    assert (last.prompt_tokens, last.tool_delay_ns) == (223, 0)


def test_results_of_parallel_calls_hang_on_their_own_call(tmp_path: Path) -> None:
    context = ImportContext()
    found = read_one(
        tmp_path,
        user("u1", None, "hello"),
        answer("a1", "u1", "msg_1", use(1), at_ms=1_000),
        answer("a2", "a1", "msg_1", use(2), at_ms=1_500),
        user("r1", "a1", [result(1)], 3_000),
        user("r2", "a2", [result(2)], 4_000),
        answer("a3", "r2", "msg_2", said("done"), at_ms=5_000),
        context=context,
    )
    assert contents(found, 1) == ["hello", None, "out 1", "out 2"]
    assert [one.duration_ns for one in found.turns[0].tool_calls] == [2_000 * MS, 2_500 * MS]
    assert found.turns[0].tool_delay_ns == 3_000 * MS
    assert len(context.notes.counts) == 1


def test_a_result_between_the_lines_of_an_answer_follows_it(tmp_path: Path) -> None:
    found = read_one(
        tmp_path,
        user("u1", None, "hello"),
        answer("a1", "u1", "msg_1", use(1)),
        user("r1", "a1", [result(1)]),
        answer("a2", "r1", "msg_1", use(2)),
        user("r2", "a2", [result(2)]),
        answer("a3", "r2", "msg_2", said("done")),
    )
    assert len(found.turns) == 2
    assert [message["role"] for message in sent(found, 1)] == ["user", "assistant", "tool", "tool"]
    assert len(sent(found, 1)[1]["tool_calls"]) == 2


def test_the_last_result_of_parallel_calls_may_be_the_last_line(tmp_path: Path) -> None:
    found = read_one(
        tmp_path,
        user("u1", None, "hello"),
        answer("a1", "u1", "msg_1", use(1)),
        answer("a2", "a1", "msg_1", use(2)),
        user("r2", "a2", [result(2)], 2_000),
        user("r1", "a1", [result(1)], 3_000),
    )
    assert [one.duration_ns for one in found.turns[0].tool_calls] == [3_000 * MS, 2_000 * MS]


def test_the_branch_of_the_last_line_is_the_conversation(tmp_path: Path) -> None:
    context = ImportContext()
    found = read_one(
        tmp_path,
        *ONE,
        user("u3", "a4", "wrong turn"),
        answer("a5", "u3", "msg_3", said("left")),
        # Other kinds of lines link those that matter.
        {"type": "progress", "uuid": "p1", "parentUuid": "a4", "sessionId": "s1", "isSidechain": False},
        {"type": "system", "subtype": "hook", "uuid": "p2", "parentUuid": "p1", "sessionId": "s1"},
        user("u4", "p2", "right turn"),
        answer("a6", "u4", "msg_4", said("end")),
        {"type": "summary", "summary": "Title", "leafUuid": "a5"},
        context=context,
    )
    assert len(found.turns) == 3
    assert contents(found, 2) == ["hello", "look", "out 1", "done", "right turn"]
    assert context.notes.counts["conversations with answers on branches that were left, without those"] == 1


@pytest.mark.parametrize("links", [{"logicalParentUuid": "a4"}, {"logicalParentUuid": "lost"}, {}])
def test_a_compaction_empties_the_history(tmp_path: Path, links: Row) -> None:
    boundary = {"type": "system", "subtype": "compact_boundary", "uuid": "b", "parentUuid": None, **links}
    found = read_one(
        tmp_path,
        *ONE,
        {**boundary, "sessionId": "s1", "isSidechain": False},
        user("u3", "b", "This session is being continued: summary", isCompactSummary=True),
        answer("a5", "u3", "msg_3", said("end")),
    )
    assert len(found.turns) == 3
    assert contents(found, 1) == ["hello", "look", "out 1"]
    assert contents(found, 2) == ["This session is being continued: summary"]


def test_sessions_of_one_file_are_trajectories_of_their_own(tmp_path: Path) -> None:
    other = [
        {
            **row,
            "sessionId": "s2",
            "uuid": f"x{row['uuid']}",
            "parentUuid": row["parentUuid"] and f"x{row['parentUuid']}",
        }
        for row in ONE
    ]
    mixed = [row for pair in zip(ONE, other, strict=True) for row in pair]
    assert [(one.id, len(one.turns)) for one in read_rows(tmp_path, *mixed)] == [("s1", 2), ("s2", 2)]


def test_a_session_that_goes_on_with_another_is_one_with_it(tmp_path: Path) -> None:
    more = user("u3", "a4", "more")
    last = answer("a5", "u3", "msg_3", said("end"))
    found = read_one(tmp_path, *ONE, {**more, "sessionId": "s2"}, {**last, "sessionId": "s2"})
    assert (found.id, len(found.turns), len(sent(found, 2))) == ("s1", 3, 5)


def side(rows: list[Row], prefix: str, **more: Any) -> list[Row]:
    return [
        {
            **row,
            "isSidechain": True,
            "uuid": prefix + row["uuid"],
            "parentUuid": row["parentUuid"] and prefix + row["parentUuid"],
            **more,
        }
        for row in rows
    ]


def test_side_chains_are_trajectories_of_their_own(tmp_path: Path) -> None:
    first, second = side(ONE, "x"), side(ONE[:2], "y")
    found = read_rows(tmp_path, ONE[0], ONE[1], *first[:3], second[0], *first[3:], second[1], *ONE[2:])
    assert [(one.id, len(one.turns)) for one in found] == [("s1", 2), ("s1-agent-1", 2), ("s1-agent-2", 1)]


def test_a_file_of_a_sub_agent_is_one_trajectory(tmp_path: Path) -> None:
    (found,) = read_rows(tmp_path, *side(ONE, "x", agentId="a1df"))
    assert (found.id, len(found.turns)) == ("s1-agent-a1df", 2)


def test_a_conversation_that_begins_in_the_middle_is_left_out(tmp_path: Path) -> None:
    context = ImportContext()
    assert read_rows(tmp_path, *ONE[2:], context=context) == []
    assert list(context.notes.counts) == ["conversations whose beginning is not recorded, left out"]


def test_lines_that_nothing_links_follow_one_another(tmp_path: Path) -> None:
    found = read_one(tmp_path, *({**row, "parentUuid": None} for row in ONE))
    assert [len(sent(found, k)) for k in range(2)] == [1, 3]


def stream(*rows: Row, wrapped: bool = False, session: str = "s9") -> list[Row]:
    init = {"subtype": "init", "session_id": session, "tools": ["Bash"], "model": "claude-x"}
    first = {"type": "system", "message": init} if wrapped else {"type": "system", **init}
    kept = ("type", "message", "timestamp", "parent_tool_use_id")
    return [first, *({key: row[key] for key in kept if key in row} for row in rows)]


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_stream_without_its_prompt(tmp_path: Path, wrapped: bool) -> None:
    context = ImportContext()
    rows = [*stream(*ONE[1:], wrapped=wrapped), {"type": "result", "subtype": "success", "num_turns": 2}]
    found = read_one(tmp_path, *rows, context=context)
    assert (found.id, len(found.turns)) == ("s9", 2)
    assert contents(found, 0) == [NO_PROMPT]
    assert contents(found, 1) == [NO_PROMPT, "look", "out 1"]
    assert found.turns[0].tool_delay_ns == 2_250 * MS
    assert "prompts not recorded, for which a line stands in" in context.notes.counts


def test_a_stream_with_its_prompt_sub_agents_and_a_compaction(tmp_path: Path) -> None:
    agent = [{**row, "parent_tool_use_id": "toolu_7"} for row in ONE]
    boundary = {"type": "system", "subtype": "compact_boundary", "session_id": "s9"}
    found = read_rows(
        tmp_path,
        *stream(*ONE[:3], *agent, *ONE[3:]),
        boundary,
        *stream(user("", None, "summary"), answer("", None, "msg_3", said("end"))),
        *stream(*ONE, session="s10"),
    )
    assert [(one.id, len(one.turns)) for one in found] == [("s9", 3), ("s9-agent-toolu_7", 2), ("s10", 2)]
    assert contents(found[0], 2) == ["summary"]
    assert contents(found[1], 0) == ["hello"]


def test_what_a_user_line_sends(tmp_path: Path) -> None:
    context = ImportContext()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    found = read_one(
        tmp_path,
        user("u1", None, [said("look"), image, said("")]),
        user("u2", "u1", "<local-command-stdout>x</local-command-stdout>", isMeta=True),
        user("u3", "u2", "for people only", isVisibleInTranscriptOnly=True),
        answer("a1", "u3", "msg_1", use(1), use(2), use(3)),
        user(
            "u4",
            "a1",
            [
                result(1, [said("one"), image, said("two")], is_error=True),
                result(2, []),
                result(3, {"no": "text"}),
                said("and go on"),
            ],
        ),
        user("u5", "u4", [result(1, "again"), result(9)]),
        answer("a2", "u5", "msg_2", said("done")),
        context=context,
    )
    assert contents(found, 1) == [
        [said("look"), said("[Attached image/png: file]")],
        "<local-command-stdout>x</local-command-stdout>",
        None,
        "one\n[Attached image/png: file]\ntwo",
        "",
        "",
        "and go on",
    ]
    assert context.notes.counts["tool results without their call, left out"] == 2


def test_lines_that_no_model_wrote_are_no_turns(tmp_path: Path) -> None:
    synthetic = {"model": "<synthetic>", "id": "x"}
    found = read_one(
        tmp_path,
        user("u1", None, "hello"),
        line("e1", "u1", "assistant", [said("API Error: 500")], message=synthetic, isApiErrorMessage=True),
        user("u2", "e1", "again"),
        line("e2", "u2", "assistant", [said("No response requested.")], message={**synthetic, "id": "y"}),
        user("u3", "e2", "and again"),
        answer("a1", "u3", "msg_1", said("done")),
    )
    assert contents(found, 0) == ["hello", "again", "No response requested.", "and again"]
    assert (found.model, len(found.turns)) == ("claude-x", 1)


def test_blocks_that_cannot_be_sent_are_noted(tmp_path: Path) -> None:
    context = ImportContext()
    found = read_one(
        tmp_path,
        user("u1", None, "hello"),
        answer(
            "a1",
            "u1",
            "msg_1",
            {"type": "redacted_thinking", "data": "x"},
            said("a"),
            {"type": ["odd"]},
            use(1),
        ),
        answer("a2", "a1", "msg_1", said("b"), use(1)),
        answer("a3", "a2", "msg_2"),
        answer("a4", "a3", "msg_3", said("done")),
        context=context,
    )
    assert len(found.turns) == 2
    assert sent(found, 1)[1]["content"] == "a\nb"
    assert len(found.turns[0].tool_calls) == 1
    assert context.notes.counts["redacted_thinking blocks of answers, left out"] == 1
    assert context.notes.counts["unnamed blocks of answers, left out"] == 1


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 5}, 5),
        ({"input_tokens": 0, "cache_read_input_tokens": 9, "cache_creation_input_tokens": None}, 9),
        ({"input_tokens": 0}, None),
        ({"input_tokens": "5"}, None),
        ({"input_tokens": -5}, None),
        ({"input_tokens": True}, None),
        ({"cache_read_input_tokens": 9}, None),
        ([], None),
        (None, None),
    ],
)
def test_prompt_tokens(tmp_path: Path, usage: Any, expected: int | None) -> None:
    last = line("a1", "u1", "assistant", "x", message={"id": "m", "usage": usage})
    assert read_one(tmp_path, ONE[0], last).turns[0].prompt_tokens == expected


@pytest.mark.parametrize(
    ("began", "ended"),
    [
        ("2026-01-01T00:00:02Z", "2026-01-01T00:00:01Z"),
        ("2026-01-01T00:00:02Z", "2026-01-03T00:00:01Z"),
        ("2026-01-01T00:00:02Z", None),
        ("2026-01-01T00:00:02Z", "soon"),
        ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"),
    ],
)
def test_a_duration_that_makes_no_sense_is_unknown(tmp_path: Path, began: str, ended: Any) -> None:
    found = read_one(
        tmp_path,
        ONE[0],
        {**answer("a1", "u1", "msg_1", use(1)), "timestamp": began},
        {**user("r1", "a1", [result(1)]), "timestamp": ended},
    )
    assert found.turns[0].tool_calls[0].duration_ns is None
    assert found.turns[0].tool_delay_ns > 0


def test_a_call_that_a_human_refused_has_no_duration(tmp_path: Path) -> None:
    refusal = "The user doesn't want to proceed with this tool use. The tool use was rejected."
    found = read_one(tmp_path, *ONE[:4], user("u2", "a3", [result(1, refusal, is_error=True)], 90_000))
    assert found.turns[0].tool_calls[0].duration_ns is None


def test_humans_and_sub_agents_are_no_tool_time(tmp_path: Path) -> None:
    found = read_one(
        tmp_path,
        ONE[0],
        answer("a1", "u1", "msg_1", use(1, "Task"), use(2, "AskUserQuestion"), use(3)),
        user("r1", "a1", [result(1), result(2)], 59_000),
        user("r2", "r1", [result(3)], 1_000),
    )
    assert found.turns[0].tool_delay_ns == 1_000 * MS
    assert [one.duration_ns for one in found.turns[0].tool_calls] == [59_000 * MS, 59_000 * MS, 1_000 * MS]


def test_lines_that_say_nothing_are_noted(tmp_path: Path) -> None:
    context = ImportContext()
    odd: list[Any] = [
        "massive error",
        [1],
        7,
        None,
        {"type": ["user"], "message": 1},
        {"type": "user", "message": "error", "sessionId": "s1"},
        {"type": "user", "message": {"role": "user", "contenst": []}, "sessionId": "s1"},
        {"type": "assistant", "message": {"content": {"a": 1}}, "uuid": 5, "parentUuid": {}, "sessionId": 3},
    ]
    found = read_one(tmp_path, *ONE, *odd, context=context)
    assert len(found.turns) == 2
    assert context.notes.counts["lines that are no objects, left out"] == 4
    assert context.notes.counts["lines whose message cannot be read, left out"] == 3


def test_links_that_run_in_a_circle_end(tmp_path: Path) -> None:
    found = read_one(
        tmp_path,
        {**ONE[0], "parentUuid": "a1"},
        answer("a1", "u1", "msg_1", said("x")),
        {"uuid": "z", "parentUuid": "z"},
    )
    assert len(found.turns) == 1


@pytest.mark.parametrize(
    "content", [b"{", b'{"type": "user"\n{}\n', b"\xff\xfe\n", b"[" * 100_000 + b"\n", b'{"a": NaN}\n']
)
def test_lines_that_are_no_json_are_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(json.dumps(ONE[0]).encode() + b"\n" + content + b"{}\n")
    with pytest.raises(DatasetError, match=r"file\.jsonl:2"):
        list(claude_code.read(path, ImportContext()))


def test_a_last_line_cut_off_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "file.jsonl", ONE)
    path.write_bytes(path.read_bytes() + b'{"type": "assis')
    assert len(read(path)[0].turns) == 2


def test_nothing_to_replay_is_no_trajectory(tmp_path: Path) -> None:
    context = ImportContext()
    assert read_rows(tmp_path, ONE[0], context=context) == []
    assert context.notes.counts["conversations without an answer, left out"] == 1
    assert read_rows(tmp_path, {"type": "summary", "summary": "Title", "leafUuid": "x"}) == []
    assert read_rows(tmp_path, *stream()) == []
    assert read_rows(tmp_path, {**side(ONE, "x")[0], "type": "progress"}) == []


def test_other_files_are_not_recognised(tmp_path: Path) -> None:
    for row in (
        {"type": "message", "message": {"role": "user", "content": "x"}},
        {"type": "user", "message": {"role": "assistant", "content": "x"}},
        {"role": "user", "content": "x"},
        {"type": "system", "subtype": "init"},
        {"type": "summary"},
        7,
    ):
        assert not claude_code.recognises(Peek(write(tmp_path / "x.jsonl", [row])))
    assert not claude_code.recognises(Peek(tmp_path))


anything = st.sampled_from(JUNK)
_KEYS = "type uuid parentUuid sessionId isSidechain agentId timestamp message id content usage model text name input"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_no_value_is_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    rows = json.loads(json.dumps(ONE))
    row = data.draw(st.sampled_from(rows))
    blocks = row["message"]["content"] if isinstance(row["message"]["content"], list) else []
    place = data.draw(st.sampled_from([row, row["message"], *blocks]))
    place.update(data.draw(st.dictionaries(st.sampled_from(_KEYS.split()), anything)))
    with contextlib.suppress(DatasetError):
        list(claude_code.read(write(tmp_path / "file.jsonl", rows), ImportContext()))


@given(
    parents=st.lists(st.integers(-1, 8), min_size=2, max_size=8), kinds=st.lists(st.booleans(), min_size=8)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_tree_is_read_once(tmp_path: Path, parents: list[int], kinds: list[bool]) -> None:
    rows = [
        user(str(i), None if parent < 0 else str(parent), f"u{i}")
        if kinds[i]
        else answer(str(i), None if parent < 0 else str(parent), f"msg_{i}", said(f"a{i}"))
        for i, parent in enumerate(parents)
    ]
    for found in read_rows(tmp_path, *rows):
        for k in range(len(found.turns)):
            texts = contents(found, k)
            assert len(set(texts)) == len(texts)


# Real sessions. What is expected was counted by a one-off script that shares nothing with the reader.

# requests, sum of their prompt tokens, first and last of them; calls, those with a result; microseconds of these
REAL: dict[str, tuple[str, tuple[int, int, int, int], tuple[int, int, int]]] = {
    "fixture-todowrite_examples": ("todowrite_session", (6, 883, 20, 270), (3, 3, 3_000_000)),
    "native-haiku-testgen-v2": (
        "05623f5b-2fbe-4009-bc53-c99bf9fff8d1",
        (32, 2_188_960, 18_624, 90_832),
        (31, 31, 87_536_000),
    ),
    "native-sonnet-raw": (
        "ccf3efc2-01d4-4e6f-9916-51ceb02e96b7",
        (2, 44_861, 18_832, 26_029),
        (1, 1, 38_000),
    ),
    "native-subagent-a1df203": (
        "90b4f0e9-c3f6-4599-aed9-f6cf43ecc756-agent-a1df203",
        (4, 77_978, 13_232, 25_969),
        (3, 3, 212_000),
    ),
    "stream-125618-tiny": (
        "7c53e11e-0f43-4e4b-a139-a5d4d74d7f13",
        (2, 55_691, 27_154, 28_537),
        (2, 1, 26_587_655),
    ),
    "stream-131828": (
        "74cabb43-86fa-443a-abe1-c3b17bbe3351",
        (23, 770_396, 26_944, 38_484),
        (22, 22, 53_762_381),
    ),
    "stream-143545": (
        "b17cc327-0876-41f5-bcc2-f562eccbf6ce",
        (62, 4_225_184, 24_209, 96_173),
        (62, 61, 239_275_842),
    ),
    "stream-231748": (
        "1313b081-9f6d-474d-9f6a-99563525378e",
        (52, 2_636_731, 26_292, 75_586),
        (52, 51, 44_561_427),
    ),
}


@needs_data
@pytest.mark.parametrize("name", REAL)
def test_the_real_sessions(name: str) -> None:
    session, (requests, prompt_tokens, first, last), (calls, measured, took_us) = REAL[name]
    (found,) = read(DATA / f"{name}.jsonl")
    assert found.id == session
    prompts = [turn.prompt_tokens or 0 for turn in found.turns]
    assert (len(prompts), sum(prompts), prompts[0], prompts[-1]) == (requests, prompt_tokens, first, last)
    assert {turn.output_tokens for turn in found.turns} == {None}
    every = [one for turn in found.turns for one in turn.tool_calls]
    durations_ns = [one.duration_ns for one in every if one.duration_ns is not None]
    assert (len(every), len(durations_ns), sum(durations_ns)) == (calls, measured, took_us * 1_000)
    # One call after another, so the delays are the durations, the one sub-agent's left out.
    for turn in found.turns:
        if turn.tool_calls and turn.tool_calls[0].duration_ns is not None:
            (one,) = turn.tool_calls
            assert turn.tool_delay_ns == (0 if one.name == "Task" else one.duration_ns)


@needs_data
def test_the_real_history_of_the_last_request() -> None:
    (found,) = read(DATA / "native-haiku-testgen-v2.jsonl")
    last = sent(found, -1)
    # 1 prompt, then 31 answers, each with one call and its result.
    assert [message["role"] for message in last] == ["user", *["assistant", "tool"] * 31]
    assert all(message["reasoning_content"] for message in last if message["role"] == "assistant")
    assert last[0]["content"] == "$(cat /tmp/testgen_instruction.txt)"
    assert found.language == "Python"


@needs_data
def test_the_real_fixture_of_damaged_lines() -> None:
    context = ImportContext()
    (found,) = read(DATA / "fixture-edge_cases.jsonl", context)
    assert [turn.prompt_tokens for turn in found.turns] == [35, 200, 85]
    # The second call's result has its blocks under a misspelt key.
    assert [[one.duration_ns for one in turn.tool_calls] for turn in found.turns] == [
        [],
        [1_000 * MS],
        [None],
    ]
    assert context.notes.counts["lines that are no objects, left out"] == 3
    assert context.notes.counts["lines whose message cannot be read, left out"] == 2
    # The last line goes on after one of another session, which is not in the file.
    assert context.notes.counts["conversations whose beginning is not recorded, left out"] == 1
