"""The bytes of a chat completion: its SSE chunks in vLLM's shape, or one JSON object."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_agentperf.sim.http import chunk

if TYPE_CHECKING:
    from pytest_agentperf.sim.answer import Answer, Delta

DONE = chunk(b"data: [DONE]\n\n")
_NOT_LAST = '},"logprobs":null,"finish_reason":null}]'


class ChatStream:
    """Encodes one answer, chunk by chunk; keeps how many of its tokens are out."""

    __slots__ = (
        "_answer",
        "_created_s",
        "_delta_head",
        "_id",
        "_model",
        "_prompt_tokens",
        "_usage_head",
        "_usage_in_chunks",
        "cached_tokens",
        "sent",
    )

    def __init__(
        self,
        answer: Answer,
        *,
        completion_id: str,
        model: str,
        created_s: int,
        prompt_tokens: int,
        usage_in_chunks: bool = False,
    ) -> None:
        self._answer = answer
        self._id = completion_id
        self._model = model
        self._created_s = created_s
        self._prompt_tokens = prompt_tokens
        self._usage_in_chunks = usage_in_chunks
        head = (
            f'data: {{"id":{json.dumps(completion_id)},"object":"chat.completion.chunk",'
            f'"created":{created_s},"model":{json.dumps(model)},"choices":['
        )
        self._usage_head = head + "]"
        self._delta_head = head + '{"index":0,"delta":{'
        self.sent = 0
        self.cached_tokens = 0

    def role_chunk(self) -> bytes:
        """Return the chunk that opens the message."""
        return self._chunk('"role":"assistant","content":""', _NOT_LAST)

    def token_chunk(self, count: int) -> bytes:
        """Return the chunk of the next `count` tokens; the last one carries the finish reason."""
        answer = self._answer
        delta = self._encode(answer.delta(self.sent, count))
        self.sent += count
        if self.sent < answer.tokens:
            return self._chunk(delta, _NOT_LAST)
        return self._chunk(
            delta, f'}},"logprobs":null,"finish_reason":"{answer.finish_reason}","stop_reason":null}}]'
        )

    def usage_chunk(self) -> bytes:
        """Return the chunk that has no choices but the usage."""
        usage = json.dumps(self.usage(), separators=(",", ":"))
        return chunk(f'{self._usage_head},"usage":{usage}}}\n\n'.encode())

    def usage(self) -> dict[str, Any]:
        """Return the usage so far, which at the end is the answer's."""
        return {
            "prompt_tokens": self._prompt_tokens,
            "total_tokens": self._prompt_tokens + self.sent,
            "completion_tokens": self.sent,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": min(self._answer.reasoning_tokens, self.sent)},
        }

    def completion(self) -> dict[str, Any]:
        """Return the whole answer as one object."""
        answer = self._answer
        self.sent = answer.tokens
        delta = answer.delta(0, answer.tokens)
        calls = [self._call(delta)] if delta.tool_name else []
        message = {
            "role": "assistant",
            "content": delta.content or None,
            "reasoning_content": delta.reasoning or None,
            "tool_calls": calls,
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": answer.finish_reason,
            "stop_reason": None,
        }
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created_s,
            "model": self._model,
            "choices": [choice],
            "usage": self.usage(),
        }

    def _chunk(self, delta: str, tail: str) -> bytes:
        text = f"{self._delta_head}{delta}{tail}"
        if self._usage_in_chunks:
            prompt, sent = self._prompt_tokens, self.sent
            text += (
                f',"usage":{{"prompt_tokens":{prompt},"total_tokens":{prompt + sent},'
                f'"completion_tokens":{sent}}}'
            )
        return chunk(f"{text}}}\n\n".encode())

    def _encode(self, delta: Delta) -> str:
        # The texts are plain ASCII words; only a tool's name, which the client chose, needs an encoder.
        fields = []
        if delta.reasoning:
            fields.append(f'"reasoning_content":"{delta.reasoning}"')
        if delta.content:
            fields.append(f'"content":"{delta.content}"')
        if delta.tool_name:
            fields.append(f'"tool_calls":[{json.dumps({"index": 0, **self._call(delta)})}]')
        elif delta.arguments:
            escaped = delta.arguments.replace('"', '\\"')
            fields.append(f'"tool_calls":[{{"index":0,"function":{{"arguments":"{escaped}"}}}}]')
        return ",".join(fields)

    def _call(self, delta: Delta) -> dict[str, Any]:
        function = {"name": delta.tool_name, "arguments": delta.arguments}
        return {"id": self._answer.call_id, "type": "function", "function": function}
