"""`agentperf dataset show` and `validate`: what a person reads, and what is found wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cli_dataset_support import call, dataset, history, trajectory

from pytest_agentperf.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> int:
    return main(["dataset", *map(str, arguments)])


def test_show_lists_trajectories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "set", trajectory("a"), trajectory("b", prompts=(5_000, None)))
    assert run("show", "set") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == [["a", "3", "100", "300", "Python", "m"], ["b", "2", "5,000", "–", "Python", "m"]]


def test_show_prints_what_each_turn_adds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "set")
    assert run("show", "set", "t1") == 0
    out = capsys.readouterr().out
    assert "turn 1: prompt 200 tokens, answer 20 tokens, then 200 ms (bash 200 ms)" in out
    for text in ("You fix bugs.", "Fix a.py.", "step 0 → bash {}", "result 1"):
        assert out.count(text) == 1
    # The last answer is in no request.
    assert "step 2" not in out


def test_show_prints_one_request_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "set")
    assert run("show", "set", "t1", "--turn", 1) == 0
    out = capsys.readouterr().out
    assert "tools: bash" in out
    assert (
        out.index("── system ──")
        < out.index("You fix bugs.")
        < out.index("[call] bash {}")
        < out.index("result 0")
    )
    assert "result 1" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("t2",), "no trajectory 't2'"),
        (("t1", "--turn", 3), "it has turns 0 to 2"),
        (("t1", "--turn", -1), "no turn -1"),
        (("--turn", 0), "a turn of no trajectory"),
    ],
)
def test_what_is_not_there(
    arguments: tuple[object, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset(tmp_path / "set")
    assert run("show", "set", *arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("t1",), ("t1", "--turn", 0)])
def test_recorded_escape_sequences_do_not_reach_the_terminal(
    arguments: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\u202eabc\x9b31m\r\ud800"
    sent: list[dict[str, Any]] = [
        {"role": "user", "content": hostile},
        {"role": hostile, "content": [{"text": hostile}]},
    ]
    dataset(tmp_path / "set", replace(trajectory(requests=[sent]), model=hostile, language=hostile))
    assert run("show", "set", *arguments) == 0
    out = capsys.readouterr().out
    assert "owned" in out
    assert not set(out) & set("\x1b\x07\u202e\x9b\r\ud800")


def test_a_valid_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "set")
    assert run("validate", "set") == 0
    assert capsys.readouterr().out == "valid: 1 trajectory, 3 turns, 0 errors, 0 warnings\n"


def messages(*added: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [[*history(1)[0], *added]]


ASKED = {"role": "assistant", "content": None, "tool_calls": [call("c1"), call("c2")]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "ok"}
SAID = {"role": "user", "content": "go on"}


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        (messages(RESULT), "error: t1, turn 0: tool result without its call: 'c1'"),
        (messages(ASKED, RESULT, SAID), "error: t1, turn 0: tool call without a result: 'c2'"),
        (messages(ASKED, RESULT), "error: t1, turn 0: tool call without a result: 'c2'"),
        (messages(ASKED, RESULT, RESULT, SAID), "error: t1, turn 0: tool result without its call: 'c1'"),
        ([[{"role": "user", "content": ""}]], "error: t1, turn 0: empty prompt"),
        (messages({"role": "robot", "content": "x"}), "error: t1, turn 0: role 'robot'"),
        (
            messages({"role": "assistant", "content": "", "tool_calls": [{"id": "c1"}]}),
            "error: t1, turn 0: tool call without a function's name",
        ),
    ],
)
def test_what_an_endpoint_would_refuse_is_an_error(
    requests: list[list[dict[str, Any]]], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset(tmp_path / "set", trajectory(requests=requests))
    assert run("validate", "set") == 1
    out = capsys.readouterr().out
    assert words in out
    assert "INVALID: 1 trajectory, 1 turn" in out


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (trajectory(prompts=(None, None, 3)), "prompt tokens were not counted"),
        (trajectory(outputs=(1, None, 3)), "warning: t1, turn 1: output tokens were not counted"),
        (
            trajectory(
                requests=messages(
                    {"role": "assistant", "content": "", "tool_calls": [call("c1", "{broken")]}, RESULT
                )
            ),
            "arguments of 'bash' are no JSON object",
        ),
        (
            trajectory(requests=messages({"role": "assistant", "content": "x"})),
            "the prompt ends with an answer",
        ),
    ],
)
def test_what_can_be_measured_on_is_a_warning(
    made: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset(tmp_path / "set", made)
    assert run("validate", "set") == 0
    out = capsys.readouterr().out
    assert words in out
    assert "0 errors, 1 warning\n" in out


def test_equal_findings_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "set", *(trajectory(name, prompts=(None,)) for name in ("a", "b", "c")))
    assert run("validate", "set") == 0
    out = capsys.readouterr().out
    assert out.count("not counted") == 1
    assert "warning: a, turn 0: prompt tokens were not counted (and 2 more trajectories)" in out


def test_changed_content_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "set")
    dataset(tmp_path / "other", trajectory(prompts=(100, 200, 301)))
    file = "trajectories/t1.json.gz"
    (tmp_path / "set" / file).write_bytes((tmp_path / "other" / file).read_bytes())
    assert run("validate", "set") == 1
    assert "not that of the declared digest" in capsys.readouterr().out


def test_a_damaged_trajectory_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset(tmp_path / "set", trajectory("a"), trajectory("b", prompts=(None,)))
    (tmp_path / "set/trajectories/a.json.gz").write_bytes(b"no gzip")
    assert run("validate", "set") == 1
    out = capsys.readouterr().out
    assert "error: a: " in out
    assert "warning: b, turn 0: prompt tokens were not counted" in out
