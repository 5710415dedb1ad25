"""What is recorded of one finished exchange: its content, or the name of its failure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_agentperf.core.records import Answer
from pytest_agentperf.core.redact import printable
from pytest_agentperf.load.sse import StreamContent

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.core.ports import TokenCounter
    from pytest_agentperf.load.client import Exchange

_DETAIL_CHARS = 300
_LABEL_CHARS = 200
_REFUSALS = frozenset({400, 413, 422})
_OVER_CONTEXT = re.compile(
    r"context[ _-]?(length|size|window)|exceed_context|max_(model|seq)_len|model token limit"
    r"|maximum (input|prompt|sequence|model) length|range of input length|reduce the length of"
    r"|(prompt|input|sequence) (length|is) .{0,80}(too long|exceed|longer)"
    r"|(prompt|input) tokens? .{0,40}exceed|`inputs` (tokens \+|must have less)",
    re.IGNORECASE,
)


def answer_of(exchange: Exchange, counter: TokenCounter | None, scrub: Callable[[str], str]) -> Answer:
    """Return the record of a finished exchange; `counter` counts the first chunk where the server does not."""
    failure, detail = exchange.failure, exchange.failure_detail
    response = exchange.response
    status = response.status if response is not None else None
    content = StreamContent()
    if failure is None and response is not None:
        if status != 200:  # also where the refusal itself broke off
            # Cut short only after secrets were taken out: half a key is one too.
            text = response.error_text()
            failure, detail = status_failure(status or 0, text), f"HTTP {status}: {text}"
        else:
            content = response.content()
            failure, detail = content.failure, content.failure_detail
            if failure == "error_in_stream" and _OVER_CONTEXT.search(detail or ""):
                failure = "over_context"
    if detail is not None:
        detail = printable(scrub(detail))[:_DETAIL_CHARS]
    first_tokens, source = _first_chunk_tokens(content, counter)
    return Answer(
        t_sent_ns=exchange.t_sent_ns,
        t_end_ns=exchange.t_end_ns,
        failure=failure,
        failure_detail=detail,
        status=status,
        connect_ns=exchange.connect_ns,
        reconnects=exchange.reconnects,
        t_first_ns=content.t_first_ns,
        t_last_ns=content.t_last_ns,
        prompt_tokens=content.prompt_tokens,
        cached_tokens=content.cached_tokens,
        output_tokens=content.output_tokens,
        reasoning_tokens=content.reasoning_tokens,
        first_chunk_tokens=first_tokens,
        first_chunk_source=source,
        content_chunks=content.content_chunks,
        finish_reason=_label(content.finish_reason, scrub),
        response_id=_label(content.response_id, scrub),
        body_bytes=exchange.body_bytes,
        prefix_head=exchange.prefix_head,
    )


def _label(text: str | None, scrub: Callable[[str], str]) -> str | None:
    """Return a server's word for a text column: short, on one line, and without the key that it may echo."""
    return None if text is None else printable(scrub(text))[:_LABEL_CHARS]


def status_failure(status: int, text: str) -> str:
    """Return the name of a refusal."""
    if status == 429:
        return "rate_limited"
    if status in _REFUSALS and _OVER_CONTEXT.search(text):
        return "over_context"
    return f"http_{status // 100}xx"


def _first_chunk_tokens(
    content: StreamContent, counter: TokenCounter | None
) -> tuple[int | None, str | None]:
    """Return n₁ and where it comes from: running usage, else the tokenizer, else one token per chunk."""
    if content.t_first_ns is None:
        return None, None
    if content.first_tokens is not None:
        return content.first_tokens, "usage"
    if counter is not None:
        return max(1, counter.count(content.first_text)), "tokenizer"
    return content.first_chunks, "assumed"
