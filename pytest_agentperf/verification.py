"""Holds a phase's kept answers against the model's own tokenizer and chat template, when the phase is over."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_agentperf.core.errors import DatasetError
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
from pytest_agentperf.verify.recount import recount_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.core.kept import KeepRule, KeptAnswer
    from pytest_agentperf.core.phase import PhaseSpec
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.core.ruleset import Ruleset
    from pytest_agentperf.core.token_check import TokenVerification
    from pytest_agentperf.load.segments import Segments
    from pytest_agentperf.verify.counters import Counters

# Answers shorter than asked for by less than this share were not cut: some servers count the end token in.
_CUT_BELOW = 0.98


class TokenCheck:
    """The `AnswerCheck` of a deployment."""

    def __init__(self, segments: Segments, body_rules: BodyRules, rules: Ruleset, counters: Counters) -> None:
        self._segments = segments
        self._body_rules = body_rules
        self._rules = rules
        self._counters = counters
        self._counter = counters.answers
        self._prompts = counters.prompts

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
            "tokenizer": self._counters.tokenizer,
            "tokenizer_digest": self._counters.digest,
            "bound": rules.token_deviation_max,
            "truncated": truncated,
            "prompts_reason": self._counters.prompts_reason,
        }
        if self._counter is None:
            return verification(None, invalid=invalid, reason=self._counters.answers_reason, **known)
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


def _rows(columns: RequestColumns) -> dict[tuple[int, int, int], int]:
    """Return the rows of whole answers by what names them in a phase."""
    names = zip(*(columns[name].tolist() for name in ("agent", "ordinal", "turn")), strict=True)
    failed = columns.failed
    return {(a, o, t): row for row, (a, o, t) in enumerate(names) if not failed[row]}


def _key(one: KeptAnswer) -> tuple[int, int, int]:
    return one.agent, one.ordinal, one.turn


def _where(one: KeptAnswer) -> str:
    return f"agent {one.agent}, its trajectory {one.ordinal} ({one.trajectory}), turn {one.turn}"
