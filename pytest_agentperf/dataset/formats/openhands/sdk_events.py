"""The events of an OpenHands SDK conversation, as the requests that the agent made of them.

An answer's calls are events of their own with one `llm_response_id`; usage stands in the base state under that id.
Tools are recorded by name and description, without parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.dataset.counting import message_text
from pytest_agentperf.dataset.formats.chat import (
    assistant,
    chat_content,
    chat_message,
    reasoning_text,
    usage_counts,
)
from pytest_agentperf.dataset.formats.openhands.thread import Thread, command_output
from pytest_agentperf.dataset.formats.times import moment_ns
from pytest_agentperf.dataset.formats.values import arguments_text, inner, mapping, objects, sequence, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.dataset.formats.base import ImportContext

_ERROR = "[An error occurred during execution.]"
_NO_PARAMETERS = "OpenHands records tools without their parameters"
_IMAGES = "images, left out"
_LATER_SYSTEM = "a later system prompt, taken to replace the first"
_CONFIRMED = "a human confirmed calls, so that their durations are no tool time"
_CONDENSER = "the condenser's own requests are not recorded"
_STRANGE_RESULT = "a tool result of unknown form, taken as empty"


class SdkRun:
    """One conversation as it happened."""

    def __init__(self, state: dict[str, Any], where: str, context: ImportContext) -> None:
        self.thread = Thread()
        self._context = context
        self._usage = _usage_by_response(state)
        self._siblings: dict[str, list[dict[str, Any]]] = {}
        self._told: set[str] = set()
        # Whoever asks a human waits for one.
        policy = inner(state, "confirmation_policy", "kind")
        self._timed = policy in (None, "NeverConfirm")
        if not self._timed:
            context.notes.add(_CONFIRMED, where)

    def gather(self, events: Iterable[dict[str, Any]]) -> None:
        """Find the calls that belong to one answer."""
        for event in events:
            response_id = text(event.get("llm_response_id")) or None
            if event.get("kind") == "ActionEvent" and response_id is not None:
                self._siblings.setdefault(response_id, []).append(event)

    def add(self, event: dict[str, Any], where: str) -> None:
        """Take the next event; kinds that the model never sees are passed over."""
        kind = event.get("kind")
        if kind in ("SystemPromptEvent", "SystemPromptUpdateEvent"):
            self._system(event, where)
        elif kind == "MessageEvent":
            self._message(event, where)
        elif kind == "ActionEvent":
            self._action(event, where)
        elif kind in ("ObservationEvent", "UserRejectObservation", "AgentErrorEvent"):
            self._result(event, where)
        elif kind == "Condensation":
            self._condensation(event, where)
        else:
            return
        self.thread.came_from(str(event.get("id")))

    def _system(self, event: dict[str, Any], where: str) -> None:
        parts = [event.get("system_prompt"), event.get("dynamic_context")]
        content = self._parts([part for part in parts if part is not None], where)
        message = {"role": "system", "content": content}
        if self.thread.history and self.thread.history[0]["role"] == "system":
            self._context.notes.add(_LATER_SYSTEM, where)
            self.thread.history[0] = message
        else:
            self.thread.say(message)
        tools = [self._tool(tool, where) for tool in objects(event.get("tools"))]
        self.thread.tools = tools or None

    def _tool(self, tool: dict[str, Any], where: str) -> dict[str, Any]:
        if isinstance(tool.get("function"), dict):
            return tool
        self._context.notes.add(_NO_PARAMETERS, where)
        name = tool.get("title") or inner(tool, "annotations", "title") or tool.get("kind")
        return {
            "type": "function",
            "function": {"name": str(name), "description": str(tool.get("description") or "")},
        }

    def _message(self, event: dict[str, Any], where: str) -> None:
        raw = event.get("llm_message")
        extended = event.get("extended_content")
        if isinstance(raw, dict):
            content = raw.get("content")
            if isinstance(content, list) and isinstance(extended, list):
                content = [*content, *extended]
            raw = {**raw, "content": self._parts(content, where)}
        message = chat_message(raw, where=where)
        if message["role"] == "assistant" and self.thread.history:
            self._answer(message, event.get("llm_response_id"))
        else:
            self.thread.say(message)

    def _action(self, event: dict[str, Any], where: str) -> None:
        response_id = text(event.get("llm_response_id")) or None
        if response_id in self._told or not self.thread.history:
            return
        siblings = [event]
        if response_id is not None:
            siblings = self._siblings[response_id]
            self._told.add(response_id)
        calls = []
        for sibling in siblings:
            id_, name, arguments = _call(sibling, where)
            calls.append((id_, name, arguments))
            self.thread.called(id_, moment_ns(sibling.get("timestamp")))
        content = self._parts(event.get("thought") or [], where)
        message = assistant(None, reasoning=reasoning_text(event), calls=calls)
        if message_text({"content": content}).strip():
            message["content"] = content
        self._answer(message, response_id)
        self.thread.came_from(*(str(sibling.get("id")) for sibling in siblings))

    def _answer(self, message: dict[str, Any], response_id: Any) -> None:
        usage = self._usage.get(response_id) if isinstance(response_id, str) else None
        prompt_tokens, output_tokens = usage_counts(usage)
        self.thread.answer(message, prompt_tokens=prompt_tokens, output_tokens=output_tokens)

    def _result(self, event: dict[str, Any], where: str) -> None:
        call_id = str(event.get("tool_call_id"))
        took_ns = self.thread.since_call_ns(call_id, moment_ns(event.get("timestamp")))
        self.thread.tool_result(
            call_id, self._output(event, where), duration_ns=took_ns if self._timed else None
        )

    def _output(self, event: dict[str, Any], where: str) -> Any:
        if isinstance(error := event.get("error"), str):
            return error
        if isinstance(reason := event.get("rejection_reason"), str):
            return f"Action rejected: {reason}"
        observation = mapping(event.get("observation"))
        content, metadata = observation.get("content"), observation.get("metadata")
        if not isinstance(content, list):
            shown = text(content if isinstance(content, str) else observation.get("output"))
            if shown is None:
                self._context.notes.add(_STRANGE_RESULT, where)
            return command_output(shown or "", metadata)
        parts = self._parts(content, where)
        if isinstance(metadata, dict):
            shown = "".join(part.get("text", "") for part in parts)
            parts = [{"type": "text", "text": command_output(shown, metadata)}]
        if observation.get("is_error") is True:
            parts.insert(0, {"type": "text", "text": _ERROR})
        return parts

    def _condensation(self, event: dict[str, Any], where: str) -> None:
        self._context.notes.add(_CONDENSER, where)
        offset = event.get("summary_offset")
        self.thread.condense(
            {str(id_) for id_ in sequence(event.get("forgotten_event_ids"))},
            text(event.get("summary")) or None,
            offset if isinstance(offset, int) else None,
        )

    def _parts(self, value: Any, where: str) -> Any:
        """Return content as it was sent: what the SDK notes in a part for itself is dropped."""
        if not isinstance(value, list):
            return chat_content(value, where=where)
        texts = [part for part in value if not (isinstance(part, dict) and part.get("type") == "image")]
        if len(texts) < len(value):
            self._context.notes.add(_IMAGES, where)
        return [
            {"type": "text", "text": part["text"]} if part["type"] == "text" else part
            for part in chat_content(texts, where=where)
        ]


def _usage_by_response(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for metric in mapping(inner(state, "stats", "usage_to_metrics")).values():
        for usage in objects(inner(metric, "token_usages")):
            if (response_id := text(usage.get("response_id"))) is not None:
                found[response_id] = usage
    return found


def _call(event: dict[str, Any], where: str) -> tuple[str, str, str]:
    call = mapping(event.get("tool_call"))
    function = mapping(call.get("function")) or call
    name = text(function.get("name")) or text(event.get("tool_name")) or "unknown"
    id_ = event.get("tool_call_id") or call.get("id")
    return str(id_), name, arguments_text(function.get("arguments"), where)
