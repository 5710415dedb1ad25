"""The files of an encoded dataset: what is in them, and when they are not to be opened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from load_support import segments

from pytest_agentperf.core.errors import DatasetError, LoadError
from pytest_agentperf.core.trajectory import Trajectory, Turn
from pytest_agentperf.load.segment_writer import SegmentWriter
from pytest_agentperf.load.segments import INDEX_FILE, SEGMENTS_FILE, Segments

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = "abcdefghijklmnopqrstuvwxyz"
MESSAGES = tuple({"role": "user", "content": name} for name in NAMES)


def trajectory(*histories: tuple[tuple[int, int], ...], id_: str = "t1", **turn: Any) -> Trajectory:
    return Trajectory(id_, MESSAGES, tuple(Turn(runs, 5, **turn) for runs in histories))


def sent(found: Segments, number: int) -> list[str]:
    """Return the contents of a request's messages."""
    body = b'{"messages":[' + b"".join(found.slices(number)) + b"}"
    return [message["content"] for message in json.loads(body)["messages"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with SegmentWriter(tmp_path) as writer:
        writer.add(trajectory(((0, 3),), ((0, 3), (5, 7))))
        writer.finish()
    return tmp_path


def test_a_request_that_grew_by_appending_is_its_opening_the_rest_and_the_end() -> None:
    found = segments(trajectory(((0, 3),), ((0, 26),)))
    assert sent(found, 1) == list(NAMES)
    assert [len(found.slices(number)) for number in (0, 1)] == [3, 3]


def test_every_message_is_written_once(folder: Path) -> None:
    written = (folder / SEGMENTS_FILE).read_bytes()
    for name in NAMES:
        assert (
            written.count(json.dumps({"role": "user", "content": name}, separators=(",", ":")).encode()) == 1
        )


def test_a_scattered_history_is_gathered_once_for_all_requests_that_begin_with_it() -> None:
    odd = tuple((i, i + 1) for i in range(0, 20, 2))
    found = segments(trajectory(*((*odd, (21, end)) for end in range(22, 27))))
    for number in range(5):
        assert sent(found, number) == [*NAMES[0:20:2], *NAMES[21 : 22 + number]]
        assert len(found.slices(number)) == 5


def test_gathering_at_most_doubles_what_is_written(tmp_path: Path) -> None:
    orders = [tuple((i, i + 1) for i in range(start, 26, 2)) for start in (0, 1)] * 50
    sizes = []
    for name, turns in (("once", orders[:1]), ("often", orders)):
        (tmp_path / name).mkdir()
        with SegmentWriter(tmp_path / name) as writer:
            writer.add(trajectory(*turns))
            writer.finish()
            sizes.append(writer.size_bytes)
    assert sizes[1] < 2 * sizes[0]
    found = Segments(tmp_path / "often")
    assert [sent(found, number) for number in (98, 99)] == [list(NAMES[0::2]), list(NAMES[1::2])]


def test_turns_are_those_of_their_trajectory() -> None:
    found = segments(trajectory(((0, 1),), ((0, 2),)), trajectory(((3, 4),), id_="\ud800"))
    assert [sent(found, found.number(*turn)) for turn in (("t1", 0), ("t1", 1), ("\ud800", 0))] == [
        ["a"],
        ["a", "b"],
        ["d"],
    ]
    assert (found.tool_delays_ns("t1"), found.tool_delays_ns("\ud800")) == ([5, 5], [5])
    with pytest.raises(IndexError):
        found.number("t1", 2)
    with pytest.raises(KeyError):
        found.number("t2", 0)


def test_touching_changes_nothing(folder: Path) -> None:
    found = Segments(folder)
    found.touch()
    assert sent(found, 1) == ["a", "b", "c", "f", "g"]


def test_numbers_beyond_64_bits_are_cut() -> None:
    found = segments(trajectory(((0, 1),), output_tokens=10**30))
    assert found.output_tokens(0) == 2**63 - 1
    assert found.without_output_tokens() is None


@pytest.mark.parametrize("content", [5, {"text": "x"}, True])
def test_a_content_that_no_prefix_can_precede_is_an_error_of_the_dataset(content: Any) -> None:
    odd = {"role": "user", "content": content}
    with pytest.raises(
        DatasetError, match="trajectory 't1', turn 1: a request opens with a message whose content"
    ):
        segments(Trajectory("t1", (MESSAGES[0], odd), (Turn(((0, 2),), 0), Turn(((1, 2),), 0))))
    # Where it opens none it is sent as it is.
    assert sent(segments(Trajectory("t1", (MESSAGES[0], odd), (Turn(((0, 2),), 0),))), 0) == ["a", content]


def damages() -> Iterator[Any]:
    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-1])

    for name in (SEGMENTS_FILE, "bounds.npy", "turns.npy", INDEX_FILE):
        yield pytest.param(lambda folder, name=name: (folder / name).unlink(), id=f"no {name}")
        yield pytest.param(lambda folder, name=name: cut(folder / name), id=f"{name} cut")
        yield pytest.param(lambda folder, name=name: (folder / name).write_bytes(b""), id=f"{name} empty")
    yield pytest.param(
        lambda folder: (folder / INDEX_FILE).write_text('{"format": "other"}'), id="another format"
    )
    yield pytest.param(lambda folder: (folder / INDEX_FILE).write_text("[]"), id="another document")


@pytest.mark.parametrize("damage", list(damages()))
def test_what_is_not_complete_is_not_opened(folder: Path, damage: Any) -> None:
    Segments(folder)
    damage(folder)
    with pytest.raises(LoadError, match="the encoded dataset cannot be opened") as caught:
        Segments(folder)
    assert (caught.value.where, bool(caught.value.remedy)) == (str(folder), True)


def test_what_was_not_finished_is_not_opened(tmp_path: Path) -> None:
    with SegmentWriter(tmp_path) as writer:
        writer.add(trajectory(((0, 1),)))
    with pytest.raises(LoadError, match=INDEX_FILE):
        Segments(tmp_path)
