"""ATIF, the Agent Trajectory Interchange Format of Harbor, versions 1.x: one JSON document per run.

An agent's step is one request. Its tools' results stand inside the step and have no time: durations are unknown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats.chat import assistant, joined_text, usage_counts
from pytest_agentperf.dataset.formats.conversation import Conversation
from pytest_agentperf.dataset.formats.values import (
    arguments_text,
    count,
    json_text,
    mapping,
    objects,
    required_object,
    text,
)
from pytest_agentperf.dataset.reading import read_document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset.formats.base import ImportContext, Peek
    from pytest_agentperf.dataset.histories import RecordedRequest

NAME = "atif"
TITLE = "ATIF trajectory (JSON)"

_VERSION = re.compile(r"(ATIF-)?v?1\.[0-9]{1,3}")
_RESULT_STEP = re.compile(r"Tool result for (\S{1,200})")


def recognises(peek: Peek) -> bool:
    """Say whether a document declares a version of ATIF."""
    document = mapping(peek.document)
    return _is_version(document.get("schema_version")) and isinstance(document.get("steps"), list)


def _is_version(value: Any) -> bool:
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def read(path: Path, context: ImportContext) -> Iterator[Trajectory]:
    """Yield the document's trajectory, then those of sub-agents that it embeds."""
    waiting = [
        (required_object(read_document(path), str(path), what="part of an ATIF trajectory"), str(path))
    ]
    while waiting:
        document, where = waiting.pop(0)
        if not _is_version(document.get("schema_version")) or not isinstance(document.get("steps"), list):
            raise DatasetError(
                "not an ATIF 1.x trajectory: no 'schema_version' of it, or no 'steps'",
                where=where,
                remedy="name the right format by --format",
            )
        run = _Run(document, where, context)
        if run.conversation.turns:
            yield context.trajectory(run.id or path.stem, run.requests(), model=run.model)
        else:
            context.notes.add("sessions without an answered request", where)
        for i, inner in enumerate(objects(document.get("subagent_trajectories"))):
            waiting.append((inner, f"{where}: subagent_trajectories[{i}]"))


class _Run:
    def __init__(self, document: dict[str, Any], where: str, context: ImportContext) -> None:
        agent = mapping(document.get("agent"))
        tools = objects(agent.get("tool_definitions"))
        self.id = text(document.get("trajectory_id")) or text(document.get("session_id"))
        self.model = text(agent.get("model_name")) or text(agent.get("model"))
        self.conversation = Conversation(tools=tools or None)
        self._notes = context.notes
        self._where = where
        self._results: list[set[str]] = []
        if document.get("continued_trajectory_ref") is not None:
            self._note("runs that continue in another file")
        for i, step in enumerate(document["steps"]):
            self._where = f"{where}: steps[{i}]"
            self._step(required_object(step, self._where, what="part of an ATIF trajectory"))

    def _note(self, what: str) -> None:
        self._notes.add(what, self._where)

    def _step(self, step: dict[str, Any]) -> None:
        source = step.get("source")
        said = joined_text(step.get("message"), self._note)
        if source in ("user", "system"):
            if said and _RESULT_STEP.fullmatch(said) and "observation" in step:
                raise DatasetError(
                    "results of tool calls stand in steps of their own, before the step that names the calls",
                    where=self._where,
                    remedy="which request made which call is not recorded: write the results into the agent's "
                    "step, as ATIF has them",
                )
            if said:
                self.conversation.say({"role": source, "content": said})
            for result in objects(mapping(step.get("observation")).get("results")):
                self._result(result, ())
        elif source == "agent":
            self._answer(step, said)
        else:
            self._note("steps of an unknown source")

    def _answer(self, step: dict[str, Any], said: str) -> None:
        calls = [
            (
                text(call.get("tool_call_id")) or text(call.get("id")),
                text(call.get("function_name")) or text(call.get("name")) or "unknown",
                arguments_text(call.get("arguments")),
            )
            for call in objects(step.get("tool_calls"))
        ]
        message = assistant(said or None, reasoning=text(step.get("reasoning_content")), calls=calls)
        requests = count(step.get("llm_call_count"))
        prompt_tokens, output_tokens = usage_counts(step.get("metrics"))
        if requests is not None and requests > 1:
            self._note("steps of several requests, read as one whose tokens are unknown")
            prompt_tokens = output_tokens = None
        if not said and not calls:
            self._note("requests without an answer")
        elif step.get("is_copied_context") is True or requests == 0 or not self.conversation.history:
            self._note("answers that stand in the history alone")
            self.conversation.say(message)
        else:
            self.model = self.model or text(step.get("model_name"))
            self.conversation.answer(message, prompt_tokens=prompt_tokens, output_tokens=output_tokens)
            self._results.append(set())
        ids = tuple(id_ for id_, _, _ in calls if id_ is not None)
        for result in objects(mapping(step.get("observation")).get("results")):
            self._result(result, ids)

    def _result(self, result: dict[str, Any], call_ids: tuple[str, ...]) -> None:
        if result.get("subagent_trajectory_ref") is not None:
            self._note("results that refer to a sub-agent's own trajectory")
        content = result.get("content")
        shown = joined_text(content, self._note) if isinstance(content, str | list) else ""
        if content is not None and not isinstance(content, str | list):
            shown = json_text(content)
        call_id = text(result.get("source_call_id"))
        if call_id is not None and call_id in call_ids:
            self.conversation.tool_result(call_id, shown)
            if self._results:
                self._results[-1].add(call_id)
        elif shown:
            # An agent without tool calling is shown what its action gave as the next user message.
            self.conversation.say({"role": "user", "content": shown})

    def requests(self) -> Iterator[RecordedRequest]:
        """Yield the requests; a call without a result never ran."""
        for request, results in zip(self.conversation.requests(), self._results, strict=True):
            calls = tuple(call for call in request.tool_calls if call.id in results)
            yield request._replace(tool_calls=calls)
