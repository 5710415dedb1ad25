"""Asks an endpoint, within seconds, for all that a run will ask of it: four or five short requests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.checks import Check, failed, ok, skipped, warning
from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.core.redact import printable, redact
from pytest_agentperf.deploy.asking import Asked, Asker
from pytest_agentperf.deploy.models import Models, list_models
from pytest_agentperf.deploy.preflight_prompt import TOOLS, conversation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pytest_agentperf.deploy.asking import Content

_TOKENS = 16
# A server may fail now and then, which is its service; but these questions need an answer.
_ATTEMPTS = 10
# Where nobody answers at all, each attempt may take its time.
_ATTEMPTS_UNANSWERED = 3
_PAUSE_S = 0.2
# Of the answer with the run's own max_tokens, so much is read; then the connection is closed.
_READS = 2
_REASONING = re.compile(rb'"reasoning(?:_content)?"\s*:\s*(?:"[^"]|\[)|<think>|<\|channel\|>')
_CACHE_REPORT = {
    "vllm": "start vLLM with --enable-prompt-tokens-details",
    "sglang": "start SGLang with --enable-cache-report",
}


class Wanted(NamedTuple):
    """What a run will ask of the endpoint."""

    url: str
    headers: Mapping[str, str]
    model: str
    framework: str | None
    fields: Mapping[str, Any]
    """What every request carries besides model, messages and lengths."""
    effort: tuple[str, ...]
    """Those of the fields that ask for reasoning."""
    max_tokens: int
    exact: bool
    """Whether answers must be as long as recorded."""
    isolation_max: int
    """Cached tokens that the ruleset allows on a first turn."""
    nonce: str
    ca_file: str | None = None


class EndpointChecks(NamedTuple):
    """What was found, and the context that the server declares."""

    checks: list[Check]
    context_tokens: int | None


_NAME_CHARS_MAX = 100
_LATER = (
    "streaming", "parameters", "usage", "output length", "max_tokens", "reasoning", "prefix cache", "isolation",
)  # fmt: skip


def check_endpoint(
    wanted: Wanted,
    decode: Callable[[Iterable[tuple[int, bytes]]], Content],
    pause: Callable[[float], None],
) -> EndpointChecks:
    """Make all checks of an endpoint; what cannot be looked at after a failure is skipped, not left out."""
    checks: list[Check] = []
    context = None
    try:
        models = list_models(wanted.url, wanted.headers, wanted.model, ca_file=wanted.ca_file)
    except EndpointError as error:
        checks.append(failed("endpoint", f"{wanted.url}: {error.what}", error.remedy))
        checks.append(skipped("model", "the endpoint must answer first"))
    else:
        checks += [ok("endpoint", f"{wanted.url} answers"), _model(models, wanted)]
        context = models.context_tokens
    if any(check.status == "failed" for check in checks):
        why = "the endpoint must answer, and have the model, first"
        return EndpointChecks([*checks, *(skipped(name, why) for name in _LATER)], context)
    with Asker(wanted.url, wanted.headers, decode, ca_file=wanted.ca_file) as asker:
        found = {check.name: check for check in _Questions(wanted, asker, pause).checks()}
    checks += [found.get(name) or skipped(name, "no answer to look at") for name in _LATER]
    return EndpointChecks(checks, context)


def _model(models: Models, wanted: Wanted) -> Check:
    model = wanted.model
    if not models.names:
        return ok("model", f"the server lists none; it will be asked for {model!r}")
    if model in models.names:
        return ok("model", f"{model!r} is served")
    shown = [printable(redact(name, wanted.headers.values()))[:_NAME_CHARS_MAX] for name in models.names[:8]]
    return failed(
        "model",
        f"the endpoint does not serve the model {model!r}",
        f"it serves {', '.join(shown)}: set endpoint.model in the system's file",
    )


class _Questions:
    """The requests, and what their answers say."""

    def __init__(self, wanted: Wanted, asker: Asker, pause: Callable[[float], None]) -> None:
        self._wanted = wanted
        self._asker = asker
        self._pause = pause
        self._stumbles = 0
        self._reduced = False
        self._fields = {**wanted.fields, "tools": TOOLS}

    def checks(self) -> Iterator[Check]:
        """Yield each check; those without an answer to look at are missing."""
        first = self._ask(self._body("a"))
        if first.refused:
            accepted = self._accepted_fields()
            yield self._parameters(accepted, first)
            if accepted is None:
                return
            self._fields, self._reduced = accepted, True
            first = self._ask(self._body("a"))
        content = first.content
        if content is None or first.refused:
            yield failed(
                "streaming",
                f"the first request got no answer: {first.why}",
                "see the server's log and options",
            )
            return
        if not self._reduced:
            yield ok("parameters", f"accepted: {', '.join((*self._wanted.fields, 'tools'))}")
        yield self._streaming(first, content)
        usage = self._usage(content)
        yield usage
        if usage.status != "failed":
            yield self._length(content)
        yield self._full_length()
        yield self._reasoning(first, content)
        if content.prompt_tokens is not None:
            yield from self._cache(content)

    def _body(self, conversation_: str, max_tokens: int = _TOKENS) -> dict[str, Any]:
        body = {
            "model": self._wanted.model,
            "messages": conversation(f"{self._wanted.nonce} {conversation_}"),
            **self._fields,
            "max_tokens": max_tokens,
        }
        if self._wanted.exact:
            body |= {"min_tokens": max_tokens, "ignore_eos": True}
        return body

    def _ask(self, body: Mapping[str, Any], *, reads: int | None = None) -> Asked:
        """Ask again where a server stumbled: a refusal stays one, a 503 or a cut connection may pass."""
        for attempt in range(1, _ATTEMPTS + 1):
            asked = self._asker.ask(body, reads=reads)
            fine = asked.content is not None and (
                asked.cut or asked.content.failure not in ("cut", "malformed")
            )
            if (
                fine
                or asked.refused
                or asked.status in (401, 403)
                or _whole_json(asked)
                or attempt == _ATTEMPTS
            ):
                break
            self._stumbles += 1
            self._pause(_PAUSE_S * attempt)
        return asked

    def _accepted_fields(self) -> dict[str, Any] | None:
        """Return the fields that the server takes one by one; None if it refuses the request without them, too."""
        wanted = self._fields
        self._fields = {name: wanted[name] for name in ("stream",)}
        if self._ask(self._body("p"), reads=_READS).refused:
            return None
        accepted = dict(self._fields)
        for name, value in wanted.items():
            self._fields = {"stream": True, name: value}
            if not self._ask(self._body("p"), reads=_READS).refused:
                accepted[name] = value
        return accepted

    def _parameters(self, accepted: Mapping[str, Any] | None, first: Asked) -> Check:
        if accepted is None:
            keys = " (and min_tokens, ignore_eos)" if self._wanted.exact else ""
            return failed(
                "parameters",
                f"even a request with nothing but model, messages and max_tokens{keys} is refused: {first.why}",
                "see the server's documentation; `--agentperf-output-length natural` sends no ignore_eos"
                if self._wanted.exact
                else "see the server's log and options",
            )
        refused = [name for name in (*self._wanted.fields, "tools") if name not in accepted]
        if not refused:
            return failed(
                "parameters", f"refused together, though not one by one: {first.why}", "see the server's log"
            )
        if refused == ["tools"]:
            # There are datasets without any.
            return warning(
                "parameters",
                f"requests with tools are refused ({first.why}), and so will be those of recordings that have some",
                "start the server with its tool-call parser (vLLM: --enable-auto-tool-choice --tool-call-parser …)",
            )
        return failed(
            "parameters",
            f"refused: {', '.join(refused)} ({first.why})",
            "correct `sampling` in the suite, or `serving.framework` of the deployment, whose max_effort is sent",
        )

    def _streaming(self, asked: Asked, content: Content) -> Check:
        name = "streaming"
        remedy = "see that /chat/completions streams server-sent events with finish_reason and usage"
        if _whole_json(asked):
            return failed(name, "the answer comes whole, as JSON, and not as a stream", remedy)
        # A server that hides the start of its reasoning shows nothing within so few tokens.
        silent = content.failure == "no_output" and content.finish_reason == "length"
        if content.failure not in (None, "no_usage") and not silent:
            return failed(name, f"the answer is unusable: {asked.why}", remedy)
        if content.content_chunks == 1 and (content.output_tokens or 0) > 2:
            return warning(
                name,
                f"{content.output_tokens} tokens came in one chunk: buffered answers count as sent at once",
                "let the server stream each token (and its proxy not buffer)",
            )
        again = f"; {self._stumbles} requests had to be repeated" if self._stumbles else ""
        return ok(name, f"{content.content_chunks} chunks of output{again}")

    def _usage(self, content: Content) -> Check:
        if content.output_tokens is None:
            return failed(
                "usage",
                "its stream has no usage, so output tokens cannot be counted",
                "make the server honour stream_options.include_usage",
            )
        return ok("usage", f"{content.prompt_tokens} prompt and {content.output_tokens} output tokens")

    def _length(self, content: Content) -> Check:
        name, tokens = "output length", content.output_tokens or 0
        if tokens > _TOKENS:
            return failed(
                name,
                f"max_tokens is not honoured: {_TOKENS} were asked for, {tokens} came",
                "see the server's options",
            )
        if not self._wanted.exact:
            return ok(name, "natural: answers end where the model ends them, and max_tokens is honoured")
        if tokens < _TOKENS:
            return failed(
                name,
                f"exact lengths were asked for (ignore_eos), but {tokens} of {_TOKENS} tokens came",
                "use a server that honours ignore_eos, or --agentperf-output-length natural",
            )
        return ok(name, "exact: ignore_eos and min_tokens are honoured")

    def _full_length(self) -> Check:
        name, wanted = "max_tokens", self._wanted.max_tokens
        asked = self._ask(self._body("l", wanted), reads=_READS)
        if asked.refused:
            return failed(
                name,
                f"max_tokens {wanted:,} is refused: {asked.why}",
                "let the server allow so long an answer (its context length), or change the suite's max_tokens",
            )
        if asked.status != 200:
            return failed(
                name,
                f"a request with max_tokens {wanted:,} got no answer: {asked.why}",
                "see the server's log",
            )
        return ok(name, f"{wanted:,} accepted")

    def _reasoning(self, asked: Asked, content: Content) -> Check:
        name, effort = "reasoning", ", ".join(self._wanted.effort)
        if not effort:
            return skipped(name, "the suite asks for none")
        if content.reasoning_tokens:
            return ok(
                name,
                f"{content.reasoning_tokens} of {content.output_tokens} tokens were reasoning ({effort})",
            )
        if _REASONING.search(asked.body):
            return ok(name, f"the answer begins with reasoning ({effort})")
        return warning(
            name,
            f"asked for by {effort}, but none can be seen: it may be off, or hidden by the server",
            "see that the server takes it in this place (serving.framework), and start it with its reasoning parser",
        )

    def _cache(self, first: Content) -> Iterator[Check]:
        """Repeat the first prompt, then send it under another prefix."""
        repeated = self._ask(self._body("a")).content
        other = self._ask(self._body("b")).content
        report = _CACHE_REPORT.get(
            self._wanted.framework or "", "make the server report usage.prompt_tokens_details.cached_tokens"
        )
        limit = self._wanted.isolation_max
        seen = repeated.cached_tokens if repeated is not None else None
        if seen is None:
            yield warning(
                "prefix cache",
                "no cached_tokens in the usage of a repeated prompt: hits cannot be seen",
                report,
            )
            yield warning(
                "isolation", "not to be verified without cached_tokens: results are marked so", report
            )
            return
        if seen:
            yield ok(
                "prefix cache", f"{seen} of {first.prompt_tokens} tokens of a repeated prompt were cached"
            )
        else:
            yield warning(
                "prefix cache",
                "a repeated prompt found nothing in the cache",
                "enable prefix caching, if production would have it",
            )
        found = (other.cached_tokens or 0) if other is not None else None
        if found is None:
            yield skipped("isolation", "no answer to look at")
        elif found > limit:
            yield warning(
                "isolation",
                f"{found} tokens were cached in spite of a new prefix (the ruleset allows {limit}): a deviation",
                "see that the chat template renders the first message before the tools",
            )
        else:
            yield ok("isolation", f"{found} tokens cached under a new prefix (the ruleset allows {limit})")


def _whole_json(asked: Asked) -> bool:
    """Return whether the answer is a whole completion instead of a stream."""
    return asked.status == 200 and asked.body.lstrip()[:1] == b"{"
