"""OpenCode sessions: what later requests are sent, in every form that OpenCode keeps or shows a session."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hostile_support import JUNK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats import opencode
from pytest_agentperf.dataset.formats.base import ImportContext, Peek

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.trajectory import Trajectory

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "trajectories" / "opencode"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the recordings are not at {DATA}")

START = {"type": "step-start"}
MS = 1_000_000


def user(number: int, *parts: dict[str, Any], **info: Any) -> dict[str, Any]:
    return _message(number, "user", parts, info)


def answer(number: int, *parts: dict[str, Any], **info: Any) -> dict[str, Any]:
    return _message(number, "assistant", parts, {"parentID": "msg_0", "modelID": "m", **info})


def _message(number: int, role: str, parts: Sequence[dict[str, Any]], info: dict[str, Any]) -> dict[str, Any]:
    key = f"msg_{number}"
    return {
        "info": {"id": key, "sessionID": "ses_1", "role": role, "time": {"created": number * 1_000}, **info},
        "parts": [
            {"id": f"prt_{number}_{i}", "messageID": key, "sessionID": "ses_1", **part}
            for i, part in enumerate(parts)
        ],
    }


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


def thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "text": text, "time": {"start": 1}}


def finish(**tokens: Any) -> dict[str, Any]:
    counts = {"input": 10, "output": 5, "reasoning": 2, "cache": {"read": 0, "write": 3}, **tokens}
    return {"type": "step-finish", "reason": "stop", "cost": 0, "tokens": counts}


def call(name: str, number: int = 1, *, at: tuple[Any, Any] = (1_000, 1_250), **state: Any) -> dict[str, Any]:
    whole = {
        "status": "completed",
        "input": {"path": "a b.py"},
        "output": f"out {number}",
        "time": {"start": at[0], "end": at[1]},
        **state,
    }
    return {"type": "tool", "tool": name, "callID": f"call_{number}", "state": whole}


def tool_message(number: int, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": content}


def export(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"info": {"id": "ses_1", "version": "1.17.9"}, "messages": messages, "todos": []}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def read(path: Path, context: ImportContext | None = None) -> list[Trajectory]:
    assert opencode.recognises(Peek(path))
    return list(opencode.read(path, context or ImportContext()))


def read_one(tmp_path: Path, *messages: dict[str, Any], context: ImportContext | None = None) -> Trajectory:
    (found,) = read(write(tmp_path / "s.json", export(list(messages))), context)
    return found


def sent(found: Trajectory, turn: int) -> list[dict[str, Any]]:
    return [dict(message) for message in found.request_messages(found.turns[turn])]


HELLO = user(0, said("hello"))


def test_a_request_is_what_came_before_its_answer(tmp_path: Path) -> None:
    found = read_one(
        tmp_path,
        HELLO,
        answer(1, START, thought("hm"), said("look"), call("read"), finish()),
        answer(2, START, said("done"), finish(input=20)),
    )
    assert (found.id, found.model, len(found.turns)) == ("ses_1", "m", 2)
    assert sent(found, 0) == [{"role": "user", "content": "hello"}]
    assert sent(found, 1) == [
        {"role": "user", "content": "hello"},
        {
            "role": "assistant",
            "content": "look",
            "reasoning_content": "hm",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "read", "arguments": '{"path":"a b.py"}'},
                }
            ],
        },
        tool_message(1, "out 1"),
    ]
    first = found.turns[0]
    assert (first.prompt_tokens, first.output_tokens, first.tool_delay_ns) == (13, 7, 250 * MS)
    assert [(one.id, one.name, one.duration_ns) for one in first.tool_calls] == [("call_1", "read", 250 * MS)]
    assert (found.turns[1].prompt_tokens, found.turns[1].tool_delay_ns) == (23, 0)


def test_a_call_without_text_has_null_content(tmp_path: Path) -> None:
    found = read_one(
        tmp_path, HELLO, answer(1, START, call("read"), finish()), answer(2, START, said("x"), finish())
    )
    assert sent(found, 1)[1]["content"] is None


def test_what_a_user_message_sends(tmp_path: Path) -> None:
    context = ImportContext()
    found = read_one(
        tmp_path,
        user(
            0,
            said("look at @a.py and this"),
            said("never sent", ignored=True),
            said(""),
            said("Called the Read tool: x = 1", synthetic=True),
            {"type": "file", "mime": "text/plain", "filename": "a.py", "url": "file:///a.py"},
            {"type": "file", "mime": "image/png", "filename": "a.png", "url": "data:image/png;base64,AA=="},
            {"type": "agent", "name": "explore"},
        ),
        answer(1, START, said("ok"), finish()),
        context=context,
    )
    content = sent(found, 0)[0]["content"]
    assert [part["text"] for part in content] == [
        "look at @a.py and this",
        "Called the Read tool: x = 1",
        "[Attached image/png: a.png]",
    ]
    assert {part["type"] for part in content} == {"text"}
    assert "images and documents, sent as a line of text that names them" in context.notes.counts


def test_results_of_calls_that_failed_or_never_ended(tmp_path: Path) -> None:
    found = read_one(
        tmp_path,
        HELLO,
        answer(
            1,
            START,
            call("read", 1, status="error", error="no such file"),
            call("bash", 2, status="error", error="x", metadata={"interrupted": True, "output": "half"}),
            call("bash", 3, status="running", time={"start": 1}),
            call("bash", 4, status="pending", raw='{"pa', input={}, time={}),
            finish(),
        ),
        answer(2, START, said("done"), finish()),
    )
    assert sent(found, 1)[2:] == [
        tool_message(1, "no such file"),
        tool_message(2, "half"),
        tool_message(3, "[Tool execution was interrupted]"),
        tool_message(4, "[Tool execution was interrupted]"),
    ]
    assert [one.duration_ns for one in found.turns[0].tool_calls] == [250 * MS, 250 * MS, None, None]


def test_a_pruned_result_is_cleared_only_after_it_was_pruned(tmp_path: Path) -> None:
    pruned = call("read", time={"start": 1_000, "end": 1_001, "compacted": 2_500})
    found = read_one(
        tmp_path,
        HELLO,
        answer(1, START, pruned, finish()),
        answer(2, START, said("a"), finish()),
        answer(3, START, said("b"), finish()),
    )
    assert sent(found, 1)[2] == tool_message(1, "out 1")
    assert sent(found, 2)[2] == tool_message(1, "[Old tool result content cleared]")


@pytest.mark.parametrize(
    ("error", "parts", "again"),
    [
        ({"name": "MessageAbortedError"}, (START, said("half")), True),
        ({"name": "MessageAbortedError"}, (START, thought("half")), False),
        ({"name": "APIError", "data": {"message": "credit"}}, (START, said("half")), False),
        ("a string", (START, said("half")), False),
    ],
)
def test_an_answer_that_ended_in_an_error(
    tmp_path: Path, error: Any, parts: tuple[dict[str, Any], ...], again: bool
) -> None:
    context = ImportContext()
    found = read_one(
        tmp_path,
        HELLO,
        answer(1, *parts, error=error),
        user(2, said("go on")),
        answer(3, START, said("done"), finish()),
        context=context,
    )
    assert len(found.turns) == 1
    assert [message["content"] for message in sent(found, 0)] == (
        ["hello", "half", "go on"] if again else ["hello", "go on"]
    )
    assert context.notes.counts["requests without a whole answer, no turns"] == 1


def test_a_retried_step_sends_what_the_first_try_did(tmp_path: Path) -> None:
    retry = {"type": "retry", "attempt": 1, "error": {"name": "APIError"}, "time": {"created": 1}}
    found = read_one(
        tmp_path,
        HELLO,
        answer(1, START, said("hal"), retry, START, said("whole"), finish()),
        answer(2, START, said("done"), finish()),
    )
    assert len(found.turns) == 2
    assert [message["content"] for message in sent(found, 0)] == ["hello"]
    # OpenCode keeps the broken try's text, and sends it.
    assert [message["content"] for message in sent(found, 1)] == ["hello", "hal", "whole"]


def test_several_steps_in_one_message(tmp_path: Path) -> None:
    found = read_one(
        tmp_path, HELLO, answer(1, START, call("read"), finish(), START, said("done"), finish(input=30))
    )
    assert [len(sent(found, k)) for k in range(2)] == [1, 3]
    assert [turn.prompt_tokens for turn in found.turns] == [13, 33]


def test_a_tool_that_the_user_ran_is_no_request(tmp_path: Path) -> None:
    context = ImportContext()
    found = read_one(
        tmp_path,
        user(0, {"type": "subtask", "prompt": "p", "description": "d", "agent": "explore"}),
        answer(1, call("task")),
        answer(2, START, said("done"), finish()),
        context=context,
    )
    assert len(found.turns) == 1
    assert sent(found, 0)[0]["content"] == "The following tool was executed by the user"
    assert [message["role"] for message in sent(found, 0)] == ["user", "assistant", "tool"]
    assert "requests without a whole answer, no turns" not in context.notes.counts


COMPACTION = {"type": "compaction", "auto": True}


def test_after_a_compaction_only_its_summary_is_sent(tmp_path: Path) -> None:
    found = read_one(
        tmp_path,
        HELLO,
        answer(1, START, said("old"), finish()),
        user(2, COMPACTION),
        answer(3, START, said("summary"), finish(), summary=True, finish="stop", parentID="msg_2"),
        user(4, said("go on", synthetic=True)),
        answer(5, START, said("new"), finish()),
    )
    contents = [[message["content"] for message in sent(found, k)] for k in range(3)]
    assert contents == [
        ["hello"],
        ["hello", "old", "What did we do so far?"],
        ["What did we do so far?", "summary", "go on"],
    ]


def test_a_compaction_may_keep_the_last_messages(tmp_path: Path) -> None:
    found = read_one(
        tmp_path,
        HELLO,
        answer(1, START, said("old"), finish()),
        user(2, said("kept")),
        user(3, {**COMPACTION, "tail_start_id": "msg_2"}),
        answer(4, START, said("summary"), finish(), summary=True, parentID="msg_3"),
        answer(5, START, said("new"), finish()),
    )
    assert [message["content"] for message in sent(found, 2)] == [
        "What did we do so far?",
        "summary",
        "kept",
    ]


def test_a_failed_compaction_changes_nothing(tmp_path: Path) -> None:
    found = read_one(
        tmp_path,
        HELLO,
        user(2, COMPACTION),
        answer(3, START, said("half"), summary=True, parentID="msg_2", error={"name": "APIError"}),
        answer(5, START, said("new"), finish()),
    )
    assert [message["content"] for message in sent(found, 0)] == ["hello", "What did we do so far?"]


def test_an_old_summary_begins_the_history_itself(tmp_path: Path) -> None:
    found = read_one(
        tmp_path,
        HELLO,
        answer(1, START, said("summary"), finish(), summary=True),
        user(2, said("go on")),
        answer(3, START, said("new"), finish()),
    )
    assert [message["content"] for message in sent(found, 1)] == ["summary", "go on"]


def test_what_is_stored_of_the_system_prompt_is_sent(tmp_path: Path) -> None:
    found = read_one(
        tmp_path,
        user(0, said("hello"), system="added by a client"),
        answer(1, START, said("a"), finish()),
        answer(2, START, said("b"), finish(), system=["whole prompt", "environment", 7]),
    )
    assert sent(found, 0)[0] == {"role": "system", "content": "added by a client"}
    assert [one["content"] for one in sent(found, 1)[:3]] == ["whole prompt", "environment", "hello"]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ({}, (13, 7)),
        # The total tells that the output includes the reasoning.
        ({"total": 18}, (13, 5)),
        ({"total": 20}, (13, 7)),
        ({"total": 999}, (13, 7)),
        # The provider told nothing.
        ({"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}}, (None, None)),
        # Versions before the total may have counted the cached tokens as input too.
        ({"input": 100, "cache": {"read": 90, "write": 0}}, (None, 7)),
        ({"input": 100, "cache": {"read": 90, "write": 0}, "total": 197}, (190, 7)),
        ({"input": 5, "cache": {"read": 90, "write": 0}}, (95, 7)),
        ({"input": "10"}, (None, None)),
        ({"cache": None, "reasoning": -3}, (10, 5)),
        ({"output": True}, (None, None)),
    ],
)
def test_token_counts(
    tmp_path: Path, tokens: dict[str, Any], expected: tuple[int | None, int | None]
) -> None:
    (turn,) = read_one(tmp_path, HELLO, answer(1, START, said("a"), finish(**tokens))).turns
    assert (turn.prompt_tokens, turn.output_tokens) == expected


def test_tools_that_ran_at_once_count_once(tmp_path: Path) -> None:
    (turn,) = read_one(
        tmp_path,
        HELLO,
        answer(
            1,
            START,
            call("read", 1, at=(1_000, 1_300)),
            call("grep", 2, at=(1_200, 1_400)),
            call("read", 3, at=(1_250, 1_260)),
            call("bash", 4, at=(2_000, 2_100)),
            call("task", 5, at=(1_000, 400_000)),
            call("question", 6, at=(1_000, 90_000)),
            finish(),
        ),
    ).turns
    assert turn.tool_delay_ns == 500 * MS
    assert [one.duration_ns for one in turn.tool_calls] == [
        value * MS for value in (300, 200, 10, 100, 399_000, 89_000)
    ]


@pytest.mark.parametrize(
    "at", [(1_000, None), ("1", 2), (2_000, 1_000), (0, 10**9), (0, 10**40), (1e308, 1), (True, 2)]
)
def test_a_duration_that_makes_no_sense_is_unknown(tmp_path: Path, at: tuple[Any, Any]) -> None:
    (turn,) = read_one(tmp_path, HELLO, answer(1, START, call("bash", at=at), finish())).turns
    assert turn.tool_calls[0].duration_ns is None
    assert turn.tool_delay_ns > 0


@pytest.mark.parametrize(
    "error", ["Tool execution aborted", "The user rejected permission to use this specific tool call."]
)
def test_a_call_that_a_human_ended_has_no_duration(tmp_path: Path, error: str) -> None:
    part = call("bash", status="error", error=error)
    (turn,) = read_one(tmp_path, HELLO, answer(1, START, part, finish())).turns
    assert turn.tool_calls[0].duration_ns is None


def test_without_its_beginning_a_session_is_left_out(tmp_path: Path) -> None:
    context = ImportContext()
    path = write(tmp_path / "s.json", [answer(1, START, said("a"), finish())])
    assert read(path, context) == []
    assert list(context.notes.counts) == ["sessions whose beginning is not recorded, left out"]


def test_a_session_without_an_answer_is_left_out(tmp_path: Path) -> None:
    context = ImportContext()
    assert read(write(tmp_path / "s.json", export([HELLO])), context) == []
    assert read(write(tmp_path / "t.json", export([HELLO, answer(1, START)])), context) == []
    assert context.notes.counts["sessions without an answer, left out"] == 2


def test_a_step_without_content_is_a_turn_only_if_tokens_were_counted(tmp_path: Path) -> None:
    found = read_one(
        tmp_path,
        HELLO,
        answer(1, START, finish()),
        answer(2, START, finish(output=0, reasoning=0)),
    )
    assert [turn.output_tokens for turn in found.turns] == [7]


# The same session in every form.

SESSION = [
    HELLO,
    answer(1, START, said("look"), call("read"), call("grep", 2, at=(1_100, 1_400)), finish()),
    answer(2, START, said("done"), finish()),
]


def events(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"type": "server.connected", "properties": {}}]
    for message in messages:
        found.append({"type": "message.updated", "properties": {"info": message["info"]}})
        for part in message["parts"]:
            if part["type"] == "text":
                unfinished = {**part, "text": part["text"][:2]}
                found.append(
                    {"type": "message.part.updated", "properties": {"part": unfinished, "delta": "x"}}
                )
            found.append({"type": "message.part.updated", "properties": {"part": part}})
    return found


def rows(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the tables, in the wrong order, ids in columns only."""
    found: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for message in messages:
        info = {key: value for key, value in message["info"].items() if key not in ("id", "sessionID")}
        key = message["info"]["id"]
        found.insert(0, {"id": key, "session_id": "ses_1", "time_created": 1, "data": json.dumps(info)})
        for part in message["parts"]:
            data = {
                name: value for name, value in part.items() if name not in ("id", "messageID", "sessionID")
            }
            row = {"id": part["id"], "message_id": key, "session_id": "ses_1", "data": json.dumps(data)}
            parts.insert(0, row)
    return found, parts


def as_export(folder: Path) -> Path:
    return write(folder / "s.json", export(SESSION))


def as_list(folder: Path) -> Path:
    return write(folder / "s.json", SESSION)


def as_events(folder: Path) -> Path:
    return write(folder / "s.json", events(SESSION))


def as_dump(folder: Path) -> Path:
    messages, parts = rows(SESSION)
    write(folder / "sessions.json", [{"id": "ses_1"}])
    write(folder / "messages.json", messages)
    write(folder / "parts.json", parts)
    return folder


def as_folder(folder: Path) -> Path:
    write(folder / "session" / "project" / "ses_1.json", {"id": "ses_1"})
    for message in SESSION:
        key = message["info"]["id"]
        write(folder / "message" / "ses_1" / f"{key}.json", message["info"])
        for part in message["parts"]:
            write(folder / "part" / key / f"{part['id']}.json", part)
    return folder


def as_database(folder: Path) -> Path:
    messages, parts = rows(SESSION)
    path = folder / "with space?.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE session (id TEXT, parent_id TEXT, time_created INTEGER)")
        database.execute("CREATE TABLE message (id TEXT, session_id TEXT, time_created INTEGER, data TEXT)")
        database.execute("CREATE TABLE part (id TEXT, message_id TEXT, session_id TEXT, data TEXT)")
        database.execute("INSERT INTO session VALUES ('ses_1', NULL, 1)")
        database.executemany("INSERT INTO message VALUES (:id, :session_id, :time_created, :data)", messages)
        database.executemany("INSERT INTO part VALUES (:id, :message_id, :session_id, :data)", parts)
    return path


@pytest.mark.parametrize("form", [as_list, as_events, as_dump, as_folder, as_database])
def test_every_form_gives_the_same_trajectory(tmp_path: Path, form: Any) -> None:
    for name in ("export", "form"):
        (tmp_path / name).mkdir()
    assert read(form(tmp_path / "form")) == read(as_export(tmp_path / "export"))


def test_a_capture_forgets_what_was_removed(tmp_path: Path) -> None:
    capture = [
        *events([*SESSION, user(3, said("undone")), answer(4, START, said("undone too"), finish())]),
        {"type": "message.removed", "properties": {"sessionID": "ses_1", "messageID": "msg_3"}},
        {"type": "message.removed", "properties": {"sessionID": "ses_1", "messageID": "msg_4"}},
        {
            "type": "message.part.removed",
            "properties": {"messageID": "msg_1", "partID": "prt_1_3", "sessionID": "ses_1"},
        },
        {"type": "message.removed", "properties": {"messageID": "never heard of"}},
        *events([user(5, said("again")), answer(6, START, said("yes"), finish())]),
    ]
    (found,) = read(write(tmp_path / "s.json", capture))
    assert len(found.turns) == 3
    assert [message["role"] for message in sent(found, 2)] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert sent(found, 2)[-1]["content"] == "again"


@pytest.mark.parametrize(
    "asked",
    [
        {"type": "permission.updated", "properties": {"callID": "call_1"}},
        {"type": "permission.asked", "properties": {"tool": {"messageID": "msg_1", "callID": "call_1"}}},
    ],
)
def test_a_call_that_waited_for_permission_has_no_duration(tmp_path: Path, asked: dict[str, Any]) -> None:
    (found,) = read(write(tmp_path / "s.json", [*events(SESSION), asked]))
    assert [one.duration_ns for one in found.turns[0].tool_calls] == [None, 300 * MS]


def test_sub_agents_are_trajectories_of_their_own(tmp_path: Path) -> None:
    child = json.loads(json.dumps(events(SESSION)).replace("ses_1", "ses_2").replace("msg_", "msg_c"))
    found = read(write(tmp_path / "s.json", events(SESSION) + child))
    assert [(one.id, len(one.turns)) for one in found] == [("ses_1", 2), ("ses_2", 2)]


def test_a_view_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE session (id TEXT, time_created INTEGER)")
        database.execute("CREATE TABLE part (id TEXT)")
        database.execute(
            "CREATE VIEW message AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n"
        )
    assert not opencode.recognises(Peek(path))
    with pytest.raises(DatasetError, match="not OpenCode's database"):
        list(opencode.read(path, ImportContext()))


def test_a_database_is_not_written(tmp_path: Path) -> None:
    path = as_database(tmp_path)
    before = path.read_bytes()
    read(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"[1, 2]",
        b'{"info": 1, "messages": 2}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'[{"info": {"id": NaN}, "parts": []}]',
        b"SQLite format 3\0 and no more",
        b"SQLite format 3\0" + b"\1" * 5_000,
    ],
)
def test_what_is_no_session_is_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(content)
    assert not opencode.recognises(Peek(path))
    with pytest.raises(DatasetError, match=r"s\.json"):
        list(opencode.read(path, ImportContext()))


def test_broken_rows_are_one_error(tmp_path: Path) -> None:
    for name in ("messages", "sessions"):
        write(tmp_path / f"{name}.json", [{"id": "x", "session_id": "x", "data": "{"}])
    write(tmp_path / "parts.json", [])
    with pytest.raises(DatasetError, match="data of x"):
        read(tmp_path)
    write(tmp_path / "messages.json", {"a": 1})
    with pytest.raises(DatasetError, match="not a list of rows"):
        read(tmp_path)


def test_other_json_is_not_recognised(tmp_path: Path) -> None:
    others: list[Any] = [
        {"messages": [{"role": "user", "content": "x"}]},
        {"info": {"model": "x"}, "messages": [{"role": "user"}]},
        [{"role": "user", "content": "x"}],
        [{"type": "message", "properties": 1}],
        {"tasks": []},
        7,
    ]
    for document in others:
        assert not opencode.recognises(Peek(write(tmp_path / "s.json", document)))
    assert not opencode.recognises(Peek(tmp_path))


anything = st.sampled_from(JUNK)
_KEYS = "id type text tool callID state status input output error time start end tokens cache mime url info parts role"
known_keys = st.dictionaries(st.sampled_from([*_KEYS.split(), "summary", "parentID", "system"]), anything)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_no_value_is_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    messages = json.loads(json.dumps(SESSION))
    message = data.draw(st.sampled_from(messages))
    place = data.draw(st.sampled_from([message, message["info"], *message["parts"]]))
    place.update(data.draw(known_keys))
    for document in (export(messages), messages, events_of(messages)):
        path = write(tmp_path / "s.json", document)
        with contextlib.suppress(DatasetError):
            list(opencode.read(path, ImportContext()))


def events_of(messages: list[Any]) -> list[Any]:
    found: list[Any] = []
    for message in messages:
        found.append({"type": "message.updated", "properties": {"info": message.get("info")}})
        parts = message.get("parts")
        found += [
            {"type": "message.part.updated", "properties": {"part": part}}
            for part in (parts if isinstance(parts, list) else [parts])
        ]
    return found


# Real sessions. What is expected was counted by one-off scripts that share nothing with the reader.

DUMPED: dict[str, tuple[int, int, int, list[int]]] = {
    # messages of the last request, calls, milliseconds of all tools but sub-agents, delays in milliseconds
    "ses_10326a63effemvIlvgP8BA27Pd": (
        44,
        32,
        3_145,
        [684, 483, 534, 183, 0, 561, 78, 194, 130, 85, 20, 0],
    ),
    "ses_10326a5c6ffex5saSMPIVvAjIP": (16, 11, 938, [92, 229, 152, 323, 0]),
}


def check_dumped(found: Trajectory) -> None:
    messages, calls, tool_ms, delays_ms = DUMPED[found.id]
    assert len(sent(found, -1)) == messages
    assert [turn.tool_delay_ns for turn in found.turns] == [value * MS for value in delays_ms]
    every = [one for turn in found.turns for one in turn.tool_calls]
    assert len(every) == calls
    assert sum(one.duration_ns or 0 for one in every if one.name != "task") == tool_ms * MS
    # The provider told no counts.
    assert {(turn.prompt_tokens, turn.output_tokens) for turn in found.turns} == {(None, None)}
    assert (found.model, found.language) == ("openagents/khala", "TypeScript")


@needs_data
def test_the_real_dump() -> None:
    found = read(DATA / "db_dump")
    assert [one.id for one in found] == list(DUMPED)
    for one in found:
        check_dumped(one)


@needs_data
@pytest.mark.parametrize("name", DUMPED)
def test_the_real_exports(name: str) -> None:
    (found,) = read(DATA / "export_derived" / f"{name}.json")
    check_dumped(found)
    assert found in read(DATA / "db_dump")


Counts = list[tuple[int | None, int]]
CAPTURED: dict[str, dict[str, tuple[Counts, int, int]]] = {
    # prompt and output tokens of each request; calls; milliseconds of all delays
    "api-abort": {},
    "api-error": {},
    "explore": {
        "ses_341f480cfffekQwFX2LabeJFAU": ([(11_726, 176), (12_722, 274)], 1, 0),
        "ses_341f3e676ffez6WUF6zpok7dUZ": (
            [
                *((5_948, 166), (9_008, 162), (11_548, 281), (16_422, 247), (17_968, 192)),
                *((18_424, 209), (19_382, 197), (20_361, 180), (23_241, 86), (28_191, 764)),
            ],
            18,
            279,
        ),
    },
    "planning": {
        "ses_62ba308b7ffeD9ULwPcdmD3Mgb": ([(None, 254), (None, 115), (None, 172), (None, 95)], 3, 8)
    },
    "question-multiple-choices-answered": {
        "ses_0a33cbcaaffeVZsUHHWte5Q3j4": ([(10_203, 168), (10_401, 68)], 1, 0)
    },
    # Begins in the middle of a session.
    "todowrite-malformed-session": {},
}


@needs_data
@pytest.mark.parametrize("name", CAPTURED)
def test_the_real_captures(name: str) -> None:
    found = {one.id: one for one in read(DATA / "events" / f"{name}.json")}
    assert set(found) == set(CAPTURED[name])
    for key, (counts, calls, delays_ms) in CAPTURED[name].items():
        turns = found[key].turns
        assert [(turn.prompt_tokens, turn.output_tokens) for turn in turns] == counts
        assert sum(len(turn.tool_calls) for turn in turns) == calls
        assert sum(turn.tool_delay_ns for turn in turns) == delays_ms * MS


@needs_data
def test_the_real_capture_with_permissions() -> None:
    context = ImportContext()
    (found,) = read(DATA / "events" / "permission_error.json", context)
    assert [(turn.prompt_tokens, turn.output_tokens) for turn in found.turns] == [
        (24_675, 235),
        (27_391, 136),
    ]
    assert [[one.duration_ns for one in turn.tool_calls] for turn in found.turns] == [
        [24 * MS, 5 * MS, 14 * MS],
        [None],
    ]
    assert context.notes.counts["requests without a whole answer, no turns"] == 2


@needs_data
def test_the_real_reasoning_is_kept() -> None:
    (found,) = read(DATA / "events" / "question-multiple-choices-answered.json")
    (first,) = [message for message in sent(found, 1) if message["role"] == "assistant"]
    assert first["reasoning_content"].startswith("The user wants me to use the question tool")


@needs_data
def test_the_real_folders_are_found() -> None:
    paths = [DATA / "db_dump", *(DATA / "events").iterdir(), *(DATA / "export_derived").iterdir()]
    assert len(paths) == 10
    assert all(opencode.recognises(Peek(path)) for path in paths)
