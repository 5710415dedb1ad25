from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.deploy.server_log import LINE_BYTES, TAIL_LINES, ServerLog, quoted, shown_lines

if TYPE_CHECKING:
    from pathlib import Path


def test_every_byte_is_kept_and_the_last_lines_are_at_hand(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "log", ())
    for n in range(100):
        log.write(f"line {n}\nhal".encode())
        log.write(b"f ")
    assert log.tail()[-2:] == ["half line 99", "half"]
    assert len(log.tail()) == TAIL_LINES
    log.close()
    text = (tmp_path / "log").read_text()
    assert text.count("line") == 100
    assert text.endswith("half ")


@pytest.mark.parametrize("step", [1, 3, 1_000])
def test_no_secret_is_kept_however_it_is_cut(tmp_path: Path, step: int) -> None:
    """In one line without an end, where no line break says that it is complete."""
    log = ServerLog(tmp_path / "log", ("sk-planted-key", "planted"))
    output = b"." * 65_530 + b"sk-planted-key" + b"-" * 70_000 + b"sk-planted-key\nsk-planted-key"
    if step < 1_000:
        output = output[65_000:65_600] + b"\n" + output[-40:]
    for at in range(0, len(output), step):
        log.write(output[at : at + step])
        assert "planted" not in "".join(log.tail())
    log.close()
    assert b"planted" not in (tmp_path / "log").read_bytes()
    assert (tmp_path / "log").read_bytes().count(b"***") == 3


def test_a_line_without_end_takes_no_memory() -> None:
    log = ServerLog(None, ("sk-planted-key",))
    for _ in range(100):
        log.write(b"x" * LINE_BYTES)
        assert len(log._pending) <= 2 * LINE_BYTES + 20
    assert sum(map(len, log._tail)) <= TAIL_LINES * LINE_BYTES


def test_of_an_endless_log_the_beginning_and_the_end_are_kept(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "log", (), file_bytes=1_000)
    for n in range(1_000):
        log.write(b"%09d\n" % n)
    log.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["log", "log.10", "log.9"]
    assert (tmp_path / "log").read_text().startswith("000000000\n")
    rest = (tmp_path / "log.9").read_text() + (tmp_path / "log.10").read_text()
    assert rest.endswith("000000999\n")


def test_a_full_disk_ends_the_file_and_nothing_else(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "log", ())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        for n in range(10):
            log.write(f"line {n}\n".encode())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.problem is not None
    assert "incomplete" in log.problem
    assert log.tail()[-1] == "line 9"


def test_what_a_terminal_would_obey_is_shown_in_its_place() -> None:
    hostile = b"\x1b[2J\x1b[31mred\x1b[0m\x00\x07\x9b\xff \xe2\x80\xae\r\nnext\tcolumn\n\n    indented\n\n"
    assert shown_lines(hostile) == [r"\x1b[2Jred\x00\x07\x9b\xff \u202e", "next column", "    indented"]
    assert quoted(["a", "b", "c"], count=2) == "\n  | b\n  | c"
    assert quoted([]) == ""


def test_a_progress_bar_is_its_last_state() -> None:
    log = ServerLog(None, ())
    log.write(b"loading 1 %\rloading 50 %\rloading 100 %\r\nready\n")
    assert log.tail() == ["loading 100 %", "ready"]
