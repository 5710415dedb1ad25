"""What recounts a server's tokens on this machine, or why nothing does; known before anything is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.checks import Check, failed, ok, skipped, warning
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.verify.prompts import TEMPLATE, PromptCounter, renderers
from pytest_agentperf.verify.rendering import renderer_for
from pytest_agentperf.verify.tokens import load_counter, tokenizer_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentperf.core.ports import TokenCounter

NAME = "token counts"


class Counters(NamedTuple):
    """Counters of answers and of prompts, and the check that tells what is missing."""

    check: Check
    tokenizer: str | None = None
    digest: str | None = None
    answers: TokenCounter | None = None
    answers_reason: str | None = None
    """Why there is none; then there is none of prompts either."""
    prompts: PromptCounter | None = None
    prompts_reason: str | None = None


def simulated_counters(tokenizer: str | None) -> Counters:
    """Return none, as no text of a simulated server is of the model's tokens."""
    reason = "simulated answers are of no model's tokens"
    return Counters(skipped(NAME, f"not verified: {reason}"), tokenizer, answers_reason=reason)


def open_counters(tokenizer: str | None, parameters: Mapping[str, Any], *, exact: bool = False) -> Counters:
    """Load what is on this machine; nothing is downloaded.

    `parameters` are those of the requests, as some of them change how a prompt is rendered; `exact`: answers are forced
    to a length.
    """
    if exact:
        return _without(
            "answers that are forced to a length go on behind their ends, where their text shows nothing",
            "let answers be of natural length to have their counts verified",
            tokenizer,
        )
    if tokenizer is None:
        return _without("the suite names no tokenizer", "name the model's in the suite: `tokenizer:`", None)
    try:
        counter = load_counter(tokenizer)
    except ConfigError as error:
        # A folder that cannot be used: load workers would not start with it either.
        reason = f"the tokenizer {tokenizer} {error.what}"
        return Counters(failed(NAME, reason, error.remedy), tokenizer, answers_reason=reason)
    if counter is None:
        return _without(
            f"the tokenizer {tokenizer} is not on this machine",
            f"install pytest-agentperf[tokenizers] and `hf download {tokenizer}`, or name a folder",
            tokenizer,
        )
    known = Counters(ok(NAME, f"recounted by {tokenizer}"), tokenizer, tokenizer_digest(tokenizer), counter)
    try:
        name = renderer_for(tokenizer) or TEMPLATE
        found = renderers(tokenizer, name, _template_variables(parameters), download=False)
    except ConfigError as error:
        check = warning(
            NAME, f"recounted by {tokenizer}; those of prompts are not verified: {error.what}", error.remedy
        )
        return known._replace(check=check, prompts_reason=error.what)
    return known._replace(prompts=PromptCounter(counter, *found))


def _without(reason: str, remedy: str, tokenizer: str | None) -> Counters:
    check = warning(NAME, f"the result will say `not verified`: {reason}", remedy)
    return Counters(check, tokenizer, answers_reason=reason)


def _template_variables(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request's parameters set in the chat template."""
    found: dict[str, Any] = {}
    if "reasoning_effort" in parameters:
        found["reasoning_effort"] = parameters["reasoning_effort"]
    for name in ("chat_template_kwargs", "chat_template_args"):
        if isinstance(parameters.get(name), dict):
            found |= parameters[name]
    return found
