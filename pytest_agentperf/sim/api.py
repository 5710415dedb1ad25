"""The chat completions request: what is accepted, and the errors for what is not."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pytest_agentperf.sim.answer import Limits

_STRICT = ConfigDict(strict=True, extra="ignore")


class ApiError(Exception):
    """An answer other than 200, in the form of OpenAI's errors."""

    def __init__(self, status: int, message: str, *, kind: str, param: str | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        return {
            "error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}
        }


def bad_request(message: str, param: str | None = None) -> ApiError:
    """Return a 400 about one parameter."""
    return ApiError(400, message, kind="BadRequestError", param=param)


class _Message(BaseModel):
    model_config = _STRICT

    role: str
    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class _Function(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    name: str = Field(min_length=1)


class _Tool(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    type: Literal["function"]
    function: _Function


class _StreamOptions(BaseModel):
    model_config = _STRICT

    include_usage: bool = False
    continuous_usage_stats: bool = False


class _Body(BaseModel):
    model_config = _STRICT

    model: str
    messages: list[_Message] = Field(min_length=1)
    tools: list[_Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    min_tokens: int | None = Field(None, ge=0)
    ignore_eos: bool | None = None
    n: int | None = Field(None, ge=1, le=1)
    temperature: float | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)


class ChatRequest(NamedTuple):
    """A valid request, reduced to what is used; without `max_tokens` the rest of the context is allowed."""

    model: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    call_tools: bool
    stream: bool
    include_usage: bool
    usage_in_chunks: bool
    max_tokens: int | None
    min_tokens: int
    ignore_eos: bool

    def limits(self, prompt_tokens: int, context_tokens: int) -> Limits:
        """Return the answer's limits; raises ApiError when prompt and answer exceed the context."""
        room = context_tokens - prompt_tokens
        max_tokens = room if self.max_tokens is None else self.max_tokens
        if room < 1 or max_tokens > room:
            asked = max(max_tokens, 0)
            raise bad_request(
                f"This model's maximum context length is {context_tokens} tokens. However, you requested "
                f"{prompt_tokens + asked} tokens ({prompt_tokens} in the messages, {asked} in the "
                "completion). Please reduce the length of the messages or completion.",
                "messages",
            )
        if self.min_tokens > max_tokens:
            raise bad_request(
                f"min_tokens must be at most max_tokens={max_tokens}, got {self.min_tokens}", "min_tokens"
            )
        return Limits(max_tokens, self.min_tokens, self.ignore_eos and self.max_tokens is not None)


def parse_chat(body: bytes) -> ChatRequest:
    """Validate a body; raises ApiError naming the first parameter that is wrong."""
    try:
        parsed = _Body.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or None
        raise bad_request(f"{place or 'body'}: {first['msg']}", place) from None
    options = parsed.stream_options
    if options is not None and not parsed.stream:
        raise bad_request("Stream options can only be defined when `stream=True`.", "stream_options")
    tools = [tool.model_dump() for tool in parsed.tools or ()]
    max_tokens = parsed.max_completion_tokens if parsed.max_tokens is None else parsed.max_tokens
    return ChatRequest(
        model=parsed.model,
        messages=[vars(message) for message in parsed.messages],
        tools=tools,
        call_tools=bool(tools) and parsed.tool_choice != "none",
        stream=bool(parsed.stream),
        include_usage=options is not None and options.include_usage,
        usage_in_chunks=options is not None and options.continuous_usage_stats,
        max_tokens=max_tokens,
        min_tokens=parsed.min_tokens or 0,
        ignore_eos=bool(parsed.ignore_eos),
    )
