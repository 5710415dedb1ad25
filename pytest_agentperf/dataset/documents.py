"""The closed documents of the internal format: dataset, trajectory, and what a recording said besides."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from pytest_agentperf.core.trajectory import Recorded, ToolCall, Trajectory, Turn
from pytest_agentperf.dataset.reading import ChatMessage, Count, DurationMs, to_ms, to_ns

if TYPE_CHECKING:
    from collections.abc import Iterable

DATASET_SCHEMA = "agentperf-dataset/1"
TRAJECTORY_SCHEMA = "agentperf-trajectory/1"
RECORDED_SCHEMA = "agentperf-recorded/1"

Text = Annotated[str, StringConstraints(min_length=1)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DatasetMetadata(_Closed):
    """What the author of a dataset states about it.

    `tokenizer` names the tokenizer that counted `prompt_tokens` and `output_tokens`, None if the recording
    server or nobody did; `estimated` says that counts are only estimates, and how they were made: from
    bytes, or from the pieces of words, whose cost was calibrated with a tokenizer.
    """

    name: Text
    version: Text
    licence: Text
    provenance: Text
    tokenizer: Text | None = None
    estimated: Literal["utf8 bytes / 4", "calibrated bytes per token"] | None = None

    @model_validator(mode="after")
    def _counted_or_estimated(self) -> DatasetMetadata:
        if self.tokenizer is not None and self.estimated is not None:
            raise ValueError("'tokenizer' and 'estimated' exclude each other")
        return self


class PromptStatistics(_Closed):
    """Recorded prompt lengths, over the turns that have one."""

    min: Count
    mean: float
    max: Count


class DatasetStatistics(_Closed):
    """What `dataset.yaml` tells about the size of a dataset."""

    trajectories: Count
    turns: Count
    turns_per_trajectory_mean: float
    prompt_tokens: PromptStatistics | None
    output_tokens_median: float | None
    tool_delay_ms_median: float | None
    languages: dict[str, int]


class DatasetDocument(DatasetMetadata):
    """`dataset.yaml`."""

    schema_: Literal["agentperf-dataset/1"] = Field(alias="schema")
    statistics: DatasetStatistics
    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class ToolCallDocument(_Closed):
    """A tool call that followed a turn."""

    id: str | None
    name: str
    duration_ms: DurationMs | None


class TurnDocument(_Closed):
    """One request: half-open message ranges, the tool list's index, and what followed."""

    messages: list[Annotated[list[Count], Field(min_length=2, max_length=2)]]
    tools: Count | None
    tool_delay_ms: DurationMs
    prompt_tokens: Count | None
    output_tokens: Count | None
    tool_calls: list[ToolCallDocument]


class TrajectoryDocument(_Closed):
    """`trajectories/<id>.json.gz`, uncompressed."""

    schema_: Literal["agentperf-trajectory/1"] = Field(alias="schema")
    id: Text
    language: str | None
    model: str | None
    tool_sets: list[list[dict[str, Any]]]
    messages: list[ChatMessage]
    turns: list[TurnDocument]

    def trajectory(self) -> Trajectory:
        """Return the core type; raises ValueError if a turn points outside messages or tool sets."""
        return Trajectory(
            id=self.id,
            messages=tuple(self.messages),
            turns=tuple(_turn(turn) for turn in self.turns),
            tool_sets=tuple(tuple(tools) for tools in self.tool_sets),
            language=self.language,
            model=self.model,
        )


class RecordedDocument(_Closed):
    """`recorded/<id>.json.gz`, uncompressed; what is inside `head` and `turns` is the named format's matter."""

    schema_: Literal["agentperf-recorded/1"] = Field(alias="schema")
    format: Text
    head: dict[str, Any]
    turns: list[dict[str, Any]]

    def recorded(self) -> Recorded:
        """Return the core type."""
        return Recorded(self.format, self.head, tuple(self.turns))


def _turn(turn: TurnDocument) -> Turn:
    calls = (
        ToolCall(call.id, call.name, None if call.duration_ms is None else to_ns(call.duration_ms))
        for call in turn.tool_calls
    )
    return Turn(
        message_runs=tuple((start, stop) for start, stop in turn.messages),
        tool_delay_ns=to_ns(turn.tool_delay_ms),
        tools_index=turn.tools,
        prompt_tokens=turn.prompt_tokens,
        output_tokens=turn.output_tokens,
        tool_calls=tuple(calls),
    )


def encode_trajectory(trajectory: Trajectory) -> bytes:
    """Return the JSON document of a trajectory, one message, tool list and turn per line.

    ASCII only, so that even unpaired surrogates, which models do emit, survive. Raises ValueError or
    RecursionError for content that JSON cannot hold.
    """
    head = {
        "schema": TRAJECTORY_SCHEMA,
        "id": trajectory.id,
        "language": trajectory.language,
        "model": trajectory.model,
    }
    fields = [f"{_json(name)}:{_json(value)}" for name, value in head.items()]
    lists: dict[str, Iterable[Any]] = {
        "tool_sets": trajectory.tool_sets,
        "messages": trajectory.messages,
        "turns": [_turn_fields(turn) for turn in trajectory.turns],
    }
    for name, items in lists.items():
        lines = ",\n".join(_json(item) for item in items)
        fields.append(f"{_json(name)}:[\n{lines}\n]")
    return ("{" + ",\n".join(fields) + "}\n").encode("ascii")


def encode_recorded(recorded: Recorded) -> bytes:
    """Return the JSON document of what a recording said besides, one turn per line; raises as above."""
    turns = ",\n".join(_json(turn) for turn in recorded.turns)
    head = (
        f'{{"schema":{_json(RECORDED_SCHEMA)},"format":{_json(recorded.format)},"head":{_json(recorded.head)}'
    )
    return f'{head},\n"turns":[\n{turns}\n]}}\n'.encode("ascii")


def _turn_fields(turn: Turn) -> dict[str, Any]:
    return {
        "messages": turn.message_runs,
        "tools": turn.tools_index,
        "tool_delay_ms": to_ms(turn.tool_delay_ns),
        "prompt_tokens": turn.prompt_tokens,
        "output_tokens": turn.output_tokens,
        "tool_calls": [
            {
                "id": call.id,
                "name": call.name,
                "duration_ms": None if call.duration_ns is None else to_ms(call.duration_ns),
            }
            for call in turn.tool_calls
        ],
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


class StatisticsCollector:
    """Accumulates `DatasetStatistics` over trajectories that are not kept."""

    def __init__(self) -> None:
        self._trajectories = 0
        self._turns = 0
        self._prompt_tokens: list[int] = []
        self._output_tokens: list[int] = []
        self._tool_delays_ns: list[int] = []
        self._languages: Counter[str] = Counter()

    def add(self, trajectory: Trajectory) -> None:
        """Count one trajectory."""
        self._trajectories += 1
        self._turns += len(trajectory.turns)
        self._languages[trajectory.language or "unknown"] += 1
        for turn in trajectory.turns:
            self._tool_delays_ns.append(turn.tool_delay_ns)
            if turn.prompt_tokens is not None:
                self._prompt_tokens.append(turn.prompt_tokens)
            if turn.output_tokens is not None:
                self._output_tokens.append(turn.output_tokens)

    def statistics(self) -> DatasetStatistics:
        """Return the statistics so far."""
        prompts = self._prompt_tokens
        return DatasetStatistics(
            trajectories=self._trajectories,
            turns=self._turns,
            turns_per_trajectory_mean=round(self._turns / max(self._trajectories, 1), 3),
            prompt_tokens=PromptStatistics(
                min=min(prompts), mean=round(sum(prompts) / len(prompts), 1), max=max(prompts)
            )
            if prompts
            else None,
            output_tokens_median=float(statistics.median(self._output_tokens))
            if self._output_tokens
            else None,
            tool_delay_ms_median=round(statistics.median(self._tool_delays_ns) / 1_000_000, 6)
            if self._tool_delays_ns
            else None,
            languages=dict(sorted(self._languages.items())),
        )
