"""Logs that hold no requests are recognised and refused with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from dataset_reader_support import DATA, NO_DATA, chosen, imported

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats import known
from pytest_agentperf.dataset.formats.base import Peek

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = {
    "aider": (b"\n# aider chat started at 2024-05-01 10:00:00\n\n#### hello\n", "aider chat history"),
    "tui": (b'{"ts":"2025-08-10T03:12:26.500Z","dir":"meta","kind":"session_start"}\n', "Codex TUI log"),
    "exec": (b'{"type":"thread.started","thread_id":"t"}\n{"type":"turn.started"}\n', "codex exec --json"),
    "codex prompts": (b'{"session_id":"s","ts":1,"text":"hi"}\n', "history of prompts"),
    "claude prompts": (
        b'{"display":"hi","pastedContents":{},"timestamp":1,"project":"/w"}\n',
        "history of prompts",
    ),
    "database": (b"SQLite format 3\0" + b"\0\1" * 50, "SQLite database"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_refused_with_the_reason_and_a_remedy(name: str, tmp_path: Path) -> None:
    data, reason = KNOWN[name]
    path = tmp_path / "log"
    path.write_bytes(data)
    assert chosen(path) == "refused"
    with pytest.raises(DatasetError, match=reason) as refused:
        imported(known, path)
    assert refused.value.remedy


@pytest.mark.parametrize("data", [b"", b"[]", b"# aider is nice\n", b'{"ts":1}\n', b"\xff\xfe"])
def test_other_files_are_not_recognised(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(data)
    assert chosen(path) is None
    with pytest.raises(DatasetError, match="none of the formats"):
        imported(known, path)


def test_folders_are_not_recognised(tmp_path: Path) -> None:
    assert not known.recognises(Peek(tmp_path))


@pytest.mark.skipif(not DATA.is_dir(), reason=NO_DATA)
@pytest.mark.parametrize(
    ("name", "reason"),
    [("aider/chat-history-head.md", "aider"), ("codex/tui-log-oss-story-first400.jsonl", "TUI log")],
)
def test_real_logs(name: str, reason: str) -> None:
    path = DATA / "trajectories" / name
    assert chosen(path) == "refused"
    with pytest.raises(DatasetError, match=reason):
        imported(known, path)
