"""Datasets for AIPerf: `mooncake_trace` rows with full messages, and `multi_turn` sessions of texts alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.counting import message_text
from pytest_agentperf.dataset.digest import canonical_json
from pytest_agentperf.dataset.publish import written_whole
from pytest_agentperf.dataset.reading import to_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.trajectory import Trajectory, Turn


class AiperfExport(NamedTuple):
    """What was written; `turns_left_out` had nothing to say that the turn before had not."""

    sessions: int
    turns: int
    turns_left_out: int


def write_aiperf_mooncake(source: TrajectorySource, path: Path) -> AiperfExport:
    """Write a JSONL file for `--custom-dataset-type mooncake_trace`: every request with its recorded history.

    AIPerf sends the rows of a session one after another, each `delay` milliseconds after the answer before it.
    """
    return _write(source, path, _mooncake_rows, lambda row: 1)


def write_aiperf_multi_turn(source: TrajectorySource, path: Path) -> AiperfExport:
    """Write a JSONL file for `--custom-dataset-type multi_turn`: a session per trajectory, new texts per turn.

    The history then is what the server answered: recorded answers, tools and tool calls are not in it.
    """
    return _write(
        source,
        path,
        lambda trajectory: iter((_session(trajectory),)),
        lambda row: sum(turn.get("role") != "system" for turn in row["turns"]),
    )


def _write(
    source: TrajectorySource,
    path: Path,
    rows_of: Callable[[Trajectory], Iterator[dict[str, Any]]],
    turns_in: Callable[[dict[str, Any]], int],
) -> AiperfExport:
    sessions = written = recorded = 0
    with written_whole(path) as built, built.open("xb") as file:
        for trajectory_id in source.ids():
            trajectory = source.load(trajectory_id)
            sessions += 1
            recorded += len(trajectory.turns)
            for row in rows_of(trajectory):
                if turns := turns_in(row):
                    written += turns
                    file.write(canonical_json(row) + b"\n")
        if not written:
            raise DatasetError(
                "there is no turn to write", where=str(path), remedy="export a dataset that has some"
            )
    return AiperfExport(sessions, written, recorded - written)


def _mooncake_rows(trajectory: Trajectory) -> Iterator[dict[str, Any]]:
    before: Turn | None = None
    for turn in trajectory.turns:
        row: dict[str, Any] = {
            "session_id": trajectory.id,
            "messages": trajectory.request_messages(turn),
        }
        tools = () if turn.tools_index is None else trajectory.tool_sets[turn.tools_index]
        if tools:
            row["tools"] = list(tools)
        row.update(_pace(turn, None if before is None else before.tool_delay_ns))
        before = turn
        yield row


def _session(trajectory: Trajectory) -> dict[str, Any]:
    turns: list[dict[str, Any]] = []
    sent: Counter[int] = Counter()
    delay_ns: int | None = None
    for turn in trajectory.turns:
        known = Counter(sent)
        sent = Counter(turn.message_indices())
        texts: list[str] = []
        for i in turn.message_indices():
            message = trajectory.messages[i]
            if known[i] > 0:
                known[i] -= 1
            elif not turns and not texts and message["role"] == "system":
                turns.append({"role": "system", "text": message_text(message)})
            elif message["role"] != "assistant":
                texts.append(message_text(message))
        text = "\n\n".join(filter(None, texts))
        if text:
            turns.append({"text": text, **_pace(turn, delay_ns)})
            delay_ns = turn.tool_delay_ns
        elif delay_ns is not None:
            delay_ns += turn.tool_delay_ns
    return {"session_id": trajectory.id, "turns": [turn for turn in turns if turn["text"]]}


def _pace(turn: Turn, delay_ns: int | None) -> dict[str, Any]:
    pace: dict[str, Any] = {}
    # A length of 0 is no length to ask for, and AIPerf refuses it.
    if turn.output_tokens:
        pace["output_length"] = turn.output_tokens
    if delay_ns is not None:
        pace["delay"] = to_ms(delay_ns)
    return pace
