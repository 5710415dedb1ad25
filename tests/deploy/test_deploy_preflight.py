"""A scripted endpoint, one fault at a time: each is found, told with its remedy, and hides no other."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from deploy_support import answering

from pytest_agentperf.deploy.preflight import Wanted, check_endpoint
from pytest_agentperf.load.bodies import common_fields
from pytest_agentperf.load.sse import decode
from pytest_agentperf.sim.faults import FaultRates
from pytest_agentperf.sim.process import SimServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentperf.core.checks import Check

EFFORT = {"chat_template_kwargs": {"thinking": True}}
SAMPLING = {"temperature": 1.0, "top_p": 0.95}


@dataclass
class Script:
    """An endpoint that does all right, but for what a test changes."""

    models: str = '{"data": [{"id": "m", "max_model_len": 4096}]}'
    refuses: tuple[str, ...] = ()
    limit: int = 1_000_000
    stream: bool = True
    usage: bool = True
    one_chunk: bool = False
    tokens: int | None = None
    thinks: str | None = "reasoning_content"
    cached: str = "prefix"
    fails_first: int = 0
    status: int = 500
    asked: list[dict[str, Any]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def __call__(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        if path == "/v1/models":
            return 200, self.models.encode()
        if path != "/v1/chat/completions":
            return 404, b""
        asked = json.loads(body)
        self.asked.append(asked)
        if self.fails_first > 0:
            self.fails_first -= 1
            return self.status, b"overloaded, Bearer sesame"
        if bad := [name for name in self.refuses if name in asked]:
            return 400, json.dumps({"error": {"message": f"unknown parameter {bad[0]}"}}).encode()
        if asked["max_tokens"] > self.limit:
            return 400, b'{"error": {"message": "max_tokens is too large"}}'
        return 200, self.answer(asked)

    def answer(self, asked: dict[str, Any]) -> bytes:
        tokens = self.tokens if self.tokens is not None else min(asked["max_tokens"], 16)
        prompt = asked["messages"][0]["content"]
        usage = {"prompt_tokens": 1000, "completion_tokens": tokens}
        hit = {"prefix": prompt in self.seen, "always": bool(self.seen), "never": False}.get(self.cached)
        self.seen.add(prompt)
        if hit is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": 960 if hit else 0}
        if not self.stream:
            message = {"role": "assistant", "content": "word " * tokens}
            return json.dumps({"choices": [{"message": message}], "usage": usage}).encode()
        texts = [{"content": "word " * tokens}] if self.one_chunk else [{"content": "word "}] * tokens
        if self.thinks and not self.one_chunk:
            texts[0] = {self.thinks: "Hm"}
        events: list[dict[str, Any]] = [{"choices": [{"delta": delta}]} for delta in texts]
        events.append({"choices": [{"delta": {}, "finish_reason": "length"}]})
        if self.usage:
            events.append({"choices": [], "usage": usage})
        return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + b"data: [DONE]\n\n"


def wanted(url: str, **changes: Any) -> Wanted:
    values: dict[str, Any] = {
        "url": url,
        "headers": {"Authorization": "Bearer sesame"},
        "model": "m",
        "framework": "vllm",
        "fields": common_fields({**SAMPLING, **EFFORT}),
        "effort": tuple(EFFORT),
        "max_tokens": 16_384,
        "exact": False,
        "isolation_max": 256,
        "nonce": "n",
    }
    return Wanted(**values | changes)


def check(script: Script, **changes: Any) -> dict[str, Check]:
    pauses: list[float] = []
    with answering(script) as url:
        found = check_endpoint(wanted(url, **changes), decode, pauses.append)
    assert len(pauses) < 20
    names = [check.name for check in found.checks]
    assert len(names) == len(set(names))
    return {check.name: check for check in found.checks}


def statuses(checks: Mapping[str, Check], *but: str) -> dict[str, str]:
    return {name: check.status for name, check in checks.items() if name not in but and check.status != "ok"}


def test_an_endpoint_that_does_all_right() -> None:
    script = Script()
    found = check(script)
    assert statuses(found) == {}
    assert list(found) == [
        "endpoint", "model", "streaming", "parameters", "usage", "output length", "max_tokens", "reasoning",
        "prefix cache", "isolation",
    ]  # fmt: skip
    # First, with the run's own max_tokens, repeated, under another prefix: and no more.
    assert [body["max_tokens"] for body in script.asked] == [16, 16_384, 16, 16]
    assert all(
        body["temperature"] == 1.0 and body["stream"] is True and body["tools"] for body in script.asked
    )
    assert found["max_tokens"].what == "16,384 accepted"
    assert found["prefix cache"].what.startswith("960 of 1000 tokens")
    prompts = [body["messages"][0]["content"] for body in script.asked]
    assert prompts[0] == prompts[2] != prompts[3]
    assert prompts[0][128:] == prompts[3][128:]


def test_the_simulated_server_passes() -> None:
    with SimServer(model="m") as server:
        found = check_endpoint(wanted(server.url, headers={}), decode, lambda seconds: None)
    assert statuses({check.name: check for check in found.checks}) == {}
    assert found.context_tokens is not None


def test_nobody_answers() -> None:
    found = check_endpoint(wanted("http://127.0.0.1:9/v1"), decode, lambda seconds: None)
    first, *others = found.checks
    assert (first.name, first.status) == ("endpoint", "failed")
    assert "no answer" in first.what
    assert "start the server" in (first.remedy or "")
    # Nothing is left out of the list.
    assert len(others) == 9
    assert {check.status for check in others} == {"skipped"}


def test_another_model() -> None:
    script = Script(models='{"data": [{"id": "a"}, {"id": "b"}]}')
    found = check(script)
    assert found["model"].status == "failed"
    assert "does not serve the model 'm'" in found["model"].what
    assert "a, b" in (found["model"].remedy or "")
    assert script.asked == []
    assert check(Script(models='{"data": []}'))["model"].status == "ok"


def test_refused_parameters_are_named_one_by_one_and_hide_nothing_else() -> None:
    script = Script(refuses=("top_p", "chat_template_kwargs"), usage=False)
    found = check(script)
    assert found["parameters"].status == "failed"
    assert "refused: top_p, chat_template_kwargs (HTTP 400:" in found["parameters"].what
    assert "serving.framework" in (found["parameters"].remedy or "")
    assert found["usage"].status == "failed"
    assert found["streaming"].status == "ok"
    assert found["max_tokens"].status == "ok"


def test_a_refusal_of_everything() -> None:
    found = check(Script(refuses=("messages",)))
    assert found["parameters"].status == "failed"
    assert "even a request with nothing but" in found["parameters"].what
    assert found["usage"].status == "skipped"


def test_tools_are_not_in_every_dataset() -> None:
    found = check(Script(refuses=("tools",)))
    assert statuses(found) == {"parameters": "warning"}
    assert "tool-call parser" in (found["parameters"].remedy or "")


def test_no_stream() -> None:
    found = check(Script(stream=False))
    assert found["streaming"].status == "failed"
    assert "not as a stream" in found["streaming"].what


def test_a_buffered_stream() -> None:
    found = check(Script(one_chunk=True))
    assert found["streaming"].status == "warning"
    assert "16 tokens came in one chunk" in found["streaming"].what


def test_no_usage() -> None:
    found = check(Script(usage=False))
    assert statuses(found, "output length", "prefix cache", "isolation") == {"usage": "failed"}
    assert "include_usage" in (found["usage"].remedy or "")


def test_max_tokens_is_too_large_for_the_server() -> None:
    found = check(Script(limit=8192))
    assert statuses(found) == {"max_tokens": "failed"}
    assert "16,384 is refused: HTTP 400" in found["max_tokens"].what


def test_max_tokens_is_ignored() -> None:
    found = check(Script(tokens=40))
    assert statuses(found) == {"output length": "failed"}
    assert "16 were asked for, 40 came" in found["output length"].what


def test_exact_lengths() -> None:
    script = Script()
    assert statuses(check(script, exact=True)) == {}
    assert all(body["ignore_eos"] and body["min_tokens"] == body["max_tokens"] for body in script.asked)
    short = check(Script(tokens=5), exact=True)
    assert statuses(short) == {"output length": "failed"}
    assert "5 of 16 tokens came" in short["output length"].what
    refused = check(Script(refuses=("ignore_eos",)), exact=True)
    assert refused["parameters"].status == "failed"
    assert "--agentperf-output-length natural" in (refused["parameters"].remedy or "")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_seen_under_both_names(name: str) -> None:
    assert check(Script(thinks=name))["reasoning"].status == "ok"


def test_reasoning_that_cannot_be_seen() -> None:
    found = check(Script(thinks=None))
    assert statuses(found) == {"reasoning": "warning"}
    assert "chat_template_kwargs" in found["reasoning"].what
    assert check(Script(thinks=None), effort=())["reasoning"].status == "skipped"


def test_a_cache_that_is_not_reported() -> None:
    found = check(Script(cached="hidden"))
    assert statuses(found) == {"prefix cache": "warning", "isolation": "warning"}
    assert "--enable-prompt-tokens-details" in (found["prefix cache"].remedy or "")
    assert "--enable-cache-report" in (
        check(Script(cached="hidden"), framework="sglang")["isolation"].remedy or ""
    )


def test_a_cache_that_is_off() -> None:
    found = check(Script(cached="never"))
    assert statuses(found) == {"prefix cache": "warning"}
    assert "found nothing" in found["prefix cache"].what


def test_a_prefix_that_does_not_isolate() -> None:
    found = check(Script(cached="always"))
    assert statuses(found) == {"isolation": "warning"}
    assert "960 tokens were cached in spite of a new prefix" in found["isolation"].what


def test_a_stumble_passes_and_a_fall_does_not() -> None:
    found = check(Script(fails_first=2))
    assert statuses(found) == {}
    assert "2 requests had to be repeated" in found["streaming"].what
    dead = check(Script(fails_first=1_000, status=503))
    assert dead["streaming"].status == "failed"
    assert "HTTP 503: overloaded, ***" in dead["streaming"].what
    assert dead["usage"].status == "skipped"


def test_answers_that_are_cut_now_and_then() -> None:
    with SimServer(model="m", faults=FaultRates(fail=0.3, cut=0.3)) as server:
        found = check_endpoint(wanted(server.url, headers={}), decode, lambda seconds: None)
    assert [check.name for check in found.checks if check.status == "failed"] == []
