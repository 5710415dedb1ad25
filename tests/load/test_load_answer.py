from __future__ import annotations

import json

import pytest
from load_support import DONE, ROLE, SHARED, answering, connected, data, delta, fixed, key, raw_server

from pytest_agentperf.load.answer import status_failure

# What servers say to a request that does not fit into the context.
OVER = [
    (400, "This model's maximum context length is 4096 tokens. However, you requested 4231 tokens (4031 in the "
          "messages, 200 in the completion). Please reduce the length of the messages or completion."),
    (400, "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens."),
    (400, "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096 "
          "tokens and your request has 100 input tokens (5000 > 4096 - 100)."),
    (400, "You passed 5001 input tokens and requested 1024 output tokens. However, the model's context length is "
          "only 4096 tokens, resulting in a maximum input length of 3072 tokens."),
    (400, "The decoder prompt (length 8357) is longer than the maximum model length of 8192."),
    (400, "max_tokens=9000 cannot be greater than max_model_len=4096."),
    (400, "The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
    (400, "Requested token count exceeds the model's maximum context length of 4096 tokens."),
    (400, "Input length (5000 tokens) exceeds the maximum allowed length (4090 tokens)."),
    (400, "the request exceeds the available context size, try increasing it"),
    (400, '{"error":{"code":400,"message":"request (5000 tokens) exceeds","type":"exceed_context_size_error"}}'),
    (400, '{"error":{"message":"refused","type":"invalid_request_error","code":"context_length_exceeded"}}'),
    (400, "The sum of prompt length (72417.0), query length (0) should not exceed max_num_tokens (69632)"),
    (400, "The sum of prompt length (1072417.0) and query length (100) of this request should not exceed "
          "max_num_tokens (69632)"),
    (400, "The sum of prompt length (4000), query length (0) and max_tokens (2048) should not exceed max_seq_len "
          "(4096)"),
    (400, "`default_max_tokens` (-152) must be greater than 0, `default_max_tokens` (-152) = max_seq_len (8192) - "
          "`splited_prompt_len` (8000) - `query_token_len` (344)"),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4031 `inputs` tokens "
          "and 200 `max_new_tokens`"),
    (422, "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"),
    (400, "prompt is too long: 200005 tokens > 200000 maximum"),
    (413, "Input is too long for requested model."),
    (400, "Your input exceeds the context window of this model."),
    (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens"),
    (400, "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"),
    (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
    (400, "prompt token count of 200000 exceeds the limit of 128000"),
    (400, "Number of input tokens exceeds maximum length. Please update the input to try again."),
    (400, "Range of input length should be [1, 258048]"),
    (400, "Your request exceeded model token limit: 131072 (requested: 200000)"),
    (413, "Please reduce the length of the messages or completion."),
]  # fmt: skip

OTHER = [
    (400, "max_tokens must be at least 1, got 0."),
    (400, "temperature must be in [0, 2], got 5"),
    (400, "Unsupported parameter: 'max_tokens' is not supported with this model."),
    (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
    (400, "Invalid value: 'tool'. Expected the previous message to have tool_calls."),
    (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
    (413, "<html><head><title>413 Request Entity Too Large</title></head></html>"),
    (413, "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 10000"),
    (422, '{"detail":[{"type":"missing","loc":["body","model"],"msg":"Field required"}]}'),
    (404, "The model `m` does not exist."),
    (400, ""),
]


@pytest.mark.parametrize(("status", "text"), OVER)
def test_a_request_that_does_not_fit_into_the_context_is_told_from_others(status: int, text: str) -> None:
    assert status_failure(status, text) == "over_context"
    wrapped = json.dumps({"object": "error", "message": text, "type": "BadRequestError", "code": status})
    assert status_failure(status, wrapped) == "over_context"


@pytest.mark.parametrize(("status", "text"), OTHER)
def test_other_refusals_are_named_by_their_status(status: int, text: str) -> None:
    assert status_failure(status, text) == "http_4xx"


@pytest.mark.parametrize("status", [401, 404, 409, 429, 500, 503])
def test_what_is_no_refusal_of_the_request_says_nothing_of_the_context(status: int) -> None:
    expected = "rate_limited" if status == 429 else f"http_{status // 100}xx"
    assert status_failure(status, OVER[0][1]) == expected


@pytest.mark.parametrize("server", ["vllm", "sglang", "tgi"])
def test_what_servers_were_seen_to_answer(server: str) -> None:
    path = SHARED / "sse" / f"shaped-{server}-error.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    assert status_failure(422 if server == "tgi" else 400, path.read_text()) == "over_context"


def test_the_words_of_a_refusal_are_looked_through() -> None:
    response = fixed(json.dumps({"error": {"message": OVER[0][1]}}).encode(), "400 Bad Request")
    with raw_server(answering(response)) as server, connected(server.url) as client:
        answer = client.ask()
    assert (answer.failure, answer.status) == ("over_context", 400)
    assert "maximum context length" in (answer.failure_detail or "")


@pytest.mark.parametrize(
    ("message", "failure"), [(OVER[0][1], "over_context"), ("out of memory", "error_in_stream")]
)
def test_an_error_in_the_stream_too(message: str, failure: str) -> None:
    stream = ROLE + data({"error": {"message": message, "code": 400}}) + delta("stop") + DONE
    with raw_server(answering(fixed(stream))) as server, connected(server.url) as client:
        exchange = client.send(key())
        client.until(lambda: exchange.ended and bool(client.answers))
    assert (client.answers[0].failure, client.answers[0].status) == (failure, 200)
