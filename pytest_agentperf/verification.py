"""Holds a phase's kept answers against the model's own tokenizer and chat template, when the phase is over."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_agentperf.core.errors import ConfigError, DatasetError
from pytest_agentperf.core.kept import NOTHING_KEPT, keep_rule
from pytest_agentperf.core.records import NULL, RequestKey
from pytest_agentperf.core.token_check import (
    Recount,
    TokenRecount,
    judge_answers,
    judge_first_chunks,
    judge_prompts,
    judge_truncation,
    recount_total,
    verification,
)
from pytest_agentperf.load.bodies import BodyBuilder, BodyRules
from pytest_agentperf.load.spoken import spoken
from pytest_agentperf.verify.prompts import TEMPLATE, PromptCounter, renderers
from pytest_agentperf.verify.recount import recount_answer
from pytest_agentperf.verify.rendering import renderer_for
from pytest_agentperf.verify.tokens import load_counter, tokenizer_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.core.kept import KeepRule, KeptAnswer
    from pytest_agentperf.core.phase import PhaseSpec
    from pytest_agentperf.core.ports import TokenCounter
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.core.ruleset import Ruleset
    from pytest_agentperf.core.token_check import TokenVerification
    from pytest_agentperf.load.segments import Segments

# Answers shorter than asked for by less than this share were not cut: some servers count the end token in.
_CUT_BELOW = 0.98


class TokenCheck:
    """The `AnswerCheck` of a deployment."""

    def __init__(
        self,
        segments: Segments,
        body_rules: BodyRules,
        rules: Ruleset,
        *,
        tokenizer: str | None,
        unverifiable: str | None = None,
    ) -> None:
        """`unverifiable`: why this server's counts cannot be verified, whatever the tokenizer."""
        self._segments = segments
        self._body_rules = body_rules
        self._rules = rules
        self._tokenizer = tokenizer
        self._counter: TokenCounter | None = None
        self._prompts: PromptCounter | None = None
        self._prompts_reason: str | None = None
        self._digest: str | None = None
        self._reason = unverifiable or self._open(tokenizer)

    def _open(self, tokenizer: str | None) -> str | None:
        """Load what counts; returns why nothing does."""
        if tokenizer is None:
            return "the suite names no tokenizer"
        try:
            self._counter = load_counter(tokenizer)
        except ConfigError as error:
            return f"the tokenizer {tokenizer} {error.what}"
        if self._counter is None:
            return (
                f"the tokenizer {tokenizer} is not on this machine: install pytest-agentperf[tokenizers] and "
                f"`hf download {tokenizer}`, or name a folder"
            )
        self._digest = tokenizer_digest(tokenizer)
        try:
            name = renderer_for(tokenizer) or TEMPLATE
            variables = _template_variables(self._body_rules.parameters)
            found = renderers(tokenizer, name, variables, download=False)
            self._prompts = PromptCounter(self._counter, *found)
        except ConfigError as error:
            self._prompts_reason = error.what
        return None

    def keep_rule(self, n_agents: int) -> KeepRule:
        """Return the rule that keeps as many answers as the ruleset wants of a phase's least number of requests."""
        if self._counter is None:
            return NOTHING_KEPT
        rules = self._rules
        trajectories = max(rules.min_trajectories, n_agents * max(1, rules.min_trajectories_per_agent))
        return keep_rule(trajectories * self._segments.turns_mean, rules.token_sample)

    def check(
        self, spec: PhaseSpec, columns: RequestColumns, kept: Sequence[KeptAnswer]
    ) -> TokenVerification:
        """Recount the kept answers and some of their prompts."""
        rules = self._rules
        truncated, answered = self._truncated(columns)
        invalid = list(judge_truncation(truncated, answered, rules))
        known: dict[str, Any] = {
            "tokenizer": self._tokenizer,
            "tokenizer_digest": self._digest,
            "bound": rules.token_deviation_max,
            "truncated": truncated,
            "prompts_reason": self._prompts_reason,
        }
        if self._counter is None:
            return verification(None, invalid=invalid, reason=self._reason, **known)
        rows = _rows(columns)
        whole = [one for one in kept if one.whole and _key(one) in rows]
        known["too_large"] = sum(not one.whole for one in kept)
        answers = self._answers(whole)
        invalid += judge_answers(answers, rules)
        first = self._first_chunks(whole, rows, columns)
        known["first_chunk_deviation"] = first
        invalid += judge_first_chunks(first, rules)
        if self._prompts is not None:
            known["prompts"], known["prompts_reason"] = self._prompt_total(spec, whole, rows, columns)
            if known["prompts"] is not None:
                invalid += judge_prompts(known["prompts"], rules)
        return verification(answers, invalid=invalid, reason=None, **known)

    def _answers(self, kept: Sequence[KeptAnswer]) -> TokenRecount:
        assert self._counter is not None
        counts: list[Recount] = []
        for one in kept:
            try:
                said = spoken(one.body)
            except ValueError:
                continue  # decoded once without a failure, so it is ours: never the server's lie
            found = recount_answer(said, _where(one), counter=self._counter, prompts=self._prompts)
            if found is not None:
                counts.append(found)
        return recount_total(counts, self._rules.token_deviation_max)

    def _first_chunks(
        self, kept: Sequence[KeptAnswer], rows: Mapping[tuple[int, int, int], int], columns: RequestColumns
    ) -> float | None:
        """Return the tokens of first chunks that the server's running usage leaves out, as a share of all."""
        assert self._counter is not None
        hidden = total = 0
        for one in kept:
            row = rows[_key(one)]
            if columns.texts["first_chunk_source"][row] == "usage":
                hidden += max(
                    0, self._counter.count(one.first_text) - int(columns["first_chunk_tokens"][row])
                )
                total += int(columns["output_tokens"][row])
        return hidden / total if total else None

    def _prompt_total(
        self,
        spec: PhaseSpec,
        kept: Sequence[KeptAnswer],
        rows: Mapping[tuple[int, int, int], int],
        columns: RequestColumns,
    ) -> tuple[TokenRecount | None, str | None]:
        """Recount the prompts of the first of the kept answers, by agent: a prompt has a hundred times the tokens."""
        assert self._prompts is not None
        bodies = BodyBuilder(self._segments, self._body_rules, spec.nonce)
        counts = []
        for one in sorted(kept, key=_key)[:: max(1, len(kept) // max(1, self._rules.prompt_sample))]:
            claimed = int(columns["prompt_tokens"][rows[_key(one)]])
            if claimed == NULL:
                continue
            key = RequestKey(spec.phase, spec.attempt, one.agent, one.ordinal, one.trajectory, one.turn)
            body = json.loads(bodies.build(key))
            try:
                tokens = self._prompts.prompt_tokens(body["messages"], body.get("tools"))
            except DatasetError as error:
                return None, error.what
            # Where the template has no token that begins the text, a tokenizer may add one.
            counts.append(Recount(_where(one), claimed, tokens, tokens + 1, rendered=True))
        if not counts:
            return None, "the server reports no prompt tokens"
        return recount_total(counts, self._rules.token_deviation_max), None

    def _truncated(self, columns: RequestColumns) -> tuple[int, int]:
        """Return how many answers ended for their length below what was asked for, and how many there are."""
        answered = ~columns.failed & (columns["output_tokens"] != NULL)
        cut = 0
        for row in np.flatnonzero(answered):
            if columns.texts["finish_reason"][row] == "length":
                asked = self._asked(columns, int(row))
                cut += int(columns["output_tokens"][row]) < _CUT_BELOW * asked - 1
        return cut, int(answered.sum())

    def _asked(self, columns: RequestColumns, row: int) -> int:
        rules = self._body_rules
        if rules.output_length != "exact":
            return rules.max_tokens
        number = self._segments.number(str(columns.texts["trajectory"][row]), int(columns["turn"][row]))
        return max(1, min(self._segments.output_tokens(number), rules.max_tokens))


def _template_variables(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request's parameters set in the chat template."""
    found: dict[str, Any] = {}
    if "reasoning_effort" in parameters:
        found["reasoning_effort"] = parameters["reasoning_effort"]
    for name in ("chat_template_kwargs", "chat_template_args"):
        if isinstance(parameters.get(name), dict):
            found |= parameters[name]
    return found


def _rows(columns: RequestColumns) -> dict[tuple[int, int, int], int]:
    """Return the rows of whole answers by what names them in a phase."""
    names = zip(*(columns[name].tolist() for name in ("agent", "ordinal", "turn")), strict=True)
    failed = columns.failed
    return {(a, o, t): row for row, (a, o, t) in enumerate(names) if not failed[row]}


def _key(one: KeptAnswer) -> tuple[int, int, int]:
    return one.agent, one.ordinal, one.turn


def _where(one: KeptAnswer) -> str:
    return f"agent {one.agent}, its trajectory {one.ordinal} ({one.trajectory}), turn {one.turn}"
