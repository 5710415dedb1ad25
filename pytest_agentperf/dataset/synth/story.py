"""Writing a planned trajectory out: what each request contains, word by word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.trajectory import ToolCall, Trajectory, Turn
from pytest_agentperf.dataset.histories import pool_histories
from pytest_agentperf.dataset.synth.actions import Action, Actions
from pytest_agentperf.dataset.synth.documents import agent_rules
from pytest_agentperf.dataset.synth.draw import Stream
from pytest_agentperf.dataset.synth.languages import SYNTAXES
from pytest_agentperf.dataset.synth.repository import Repository
from pytest_agentperf.dataset.synth.system_prompt import (
    CLEARED,
    ENVIRONMENT,
    RULES_HEADING,
    SUMMARY_REQUEST,
    SYSTEM_PROMPT,
)
from pytest_agentperf.dataset.synth.thinking import Thinking
from pytest_agentperf.dataset.synth.tokens import (
    MESSAGE_TOKENS,
    REQUEST_TOKENS,
    TURN_TOKENS,
    answer_tokens,
    call_tokens,
    text_tokens,
    tools_tokens,
)
from pytest_agentperf.dataset.synth.tools import CORE_TOOLS, SERVICE_TOOLS

if TYPE_CHECKING:
    from pytest_agentperf.dataset.synth.plan import CallPlan, TrajectoryPlan, TurnPlan

_LEAST_ARGUMENTS_TOKENS = 24


class _Written(NamedTuple):
    message: dict[str, Any]
    tokens: int


class _Recorded(NamedTuple):
    history: list[int]
    prompt_tokens: int
    output_tokens: int
    calls: tuple[ToolCall, ...]
    delay_ns: int


def write_trajectory(plan: TrajectoryPlan, *, profile: str, seed: int) -> Trajectory:
    """Return the trajectory of a plan; equal plans, profiles and seeds give equal text."""
    return _Story(plan, f"{profile}/{seed}/{plan.number}").written()


class _Story:
    def __init__(self, plan: TrajectoryPlan, key: str) -> None:
        self._plan = plan
        self._draw = Stream(key, "story")
        self._repository = Repository(SYNTAXES[plan.language], key)
        focus = self._draw.pick(self._repository.sources)
        self._thinking = Thinking(self._repository, focus, self._draw)
        self._actions = Actions(self._repository, self._thinking, self._draw)
        self._tools = (*CORE_TOOLS, *SERVICE_TOOLS) if plan.many_tools else CORE_TOOLS
        self._messages: list[_Written] = []
        self._task = ""
        self._history: list[int] = []
        self._fixed_tokens = REQUEST_TOKENS + tools_tokens(self._tools)

    def written(self) -> Trajectory:
        """Write all turns."""
        self._open()
        recorded = [self._turn(turn, self._next_prompt(k)) for k, turn in enumerate(self._plan.turns)]
        pool = pool_histories([turn.history for turn in recorded])
        turns = tuple(
            Turn(
                message_runs=runs,
                tool_delay_ns=turn.delay_ns,
                tools_index=0,
                prompt_tokens=turn.prompt_tokens,
                output_tokens=turn.output_tokens,
                tool_calls=turn.calls,
            )
            for runs, turn in zip(pool.runs, recorded, strict=True)
        )
        messages = tuple(self._messages[index].message for index in pool.order)
        return Trajectory(self._plan.id, messages, turns, (tuple(self._tools),), language=self._plan.language)

    def _next_prompt(self, k: int) -> int | None:
        """Return how long the next prompt should be, None where the history changes before it."""
        after = self._plan.turns[k + 1 : k + 2]
        return after[0].prompt_tokens if after and after[0].event is None else None

    def _add(self, message: dict[str, Any], tokens: int) -> None:
        self._history.append(len(self._messages))
        self._messages.append(_Written(message, tokens))

    def _open(self) -> None:
        repository, draw, plan = self._repository, self._draw, self._plan
        date = f"2026-{draw.between(1, 6):02}-{draw.between(1, 28):02}"
        parts = [SYSTEM_PROMPT, ENVIRONMENT.format(root=repository.root, date=date)]
        parts.append("\n" + self._actions.outputs.tree(plan.tree_tokens) + "\n")
        parts += [
            RULES_HEADING.format(root=repository.root),
            "\n".join(agent_rules(repository, draw, plan.rules)),
            "\n",
        ]
        system = "".join(parts)
        self._add({"role": "system", "content": system}, text_tokens(system))
        log = "\n".join(self._actions.outputs.application_log(max(plan.task_tokens - 160, 20)).split("\n"))
        self._task = self._thinking.task(plan.task_tokens, log)
        self._add_user(self._task)

    def _add_user(self, text: str) -> None:
        self._add({"role": "user", "content": text}, text_tokens(text) + MESSAGE_TOKENS)

    def _prompt_tokens(self) -> int:
        return self._fixed_tokens + sum(self._messages[index].tokens for index in self._history)

    def _turn(self, turn: TurnPlan, next_prompt: int | None) -> _Recorded:
        self._happen(turn)
        history = list(self._history)
        prompt_tokens = self._prompt_tokens()
        if turn.kind == "answer":
            output_tokens = self._answer(turn)
            return _Recorded(history, prompt_tokens, output_tokens, (), 0)
        wanted = None if next_prompt is None else next_prompt - prompt_tokens - turn.output_tokens
        actions = self._act(turn, wanted)
        calls = [(f"call_{self._draw.hex(24)}", action) for action in actions]
        output_tokens = self._say(turn, calls)
        for call_id, action in calls:
            message = {"role": "tool", "tool_call_id": call_id, "content": action.result}
            self._add(message, text_tokens(action.result) + MESSAGE_TOKENS)
        ids = [call_id for call_id, _ in calls]
        tool_calls = tuple(
            ToolCall(call_id, call.tool, call.delay_ns) for call_id, call in zip(ids, turn.calls, strict=True)
        )
        return _Recorded(history, prompt_tokens, output_tokens, tool_calls, turn.tool_delay_ns)

    def _happen(self, turn: TurnPlan) -> None:
        if turn.event == "compact":
            self._compact()
        elif turn.event == "prune":
            self._clear(turn.cleared_results)
        elif turn.event == "follow_up":
            self._add_user(self._thinking.follow_up())

    def _compact(self) -> None:
        self._history = self._history[:1]
        changed = "\n".join(f"- {path}" for path in self._actions.changed_files()) or "- nothing yet"
        findings = self._thinking.reasoning(700)
        self._add_user(
            f"{SUMMARY_REQUEST}## Task\n{self._task}\n\n## Changed files\n{changed}\n\n## Findings\n{findings}\n\n"
            f"## Next steps\n{self._thinking.reasoning(120)}"
        )

    def _clear(self, count: int) -> None:
        """Replace the oldest results; the requests sent so far keep theirs."""
        for place, index in enumerate(self._history):
            message = self._messages[index].message
            if message["role"] != "tool":
                continue
            if count == 0:
                return
            count -= 1
            if message["content"] != CLEARED:
                self._history[place] = len(self._messages)
                tokens = text_tokens(CLEARED) + MESSAGE_TOKENS
                self._messages.append(_Written({**message, "content": CLEARED}, tokens))

    def _act(self, turn: TurnPlan, wanted: int | None) -> list[Action]:
        """Make the turn's calls; sizes of results make good for what earlier texts missed of the plan."""
        planned = sum(call.result_tokens for call in turn.calls)
        elastic = turn.kind not in ("edit", "write", "todo") and planned > 100
        share = _share(turn.output_tokens, turn.kind) // len(turn.calls)
        actions = []
        for call in turn.calls:
            size = call.result_tokens
            if wanted is not None and elastic and not call.fails:
                size = min(max(size * max(wanted, 1) // max(planned, 1), size // 3), size * 2 + 200)
            actions.append(self._one(turn.kind, call, share, size))
        return actions

    def _one(self, kind: str, call: CallPlan, argument_tokens: int, result_tokens: int) -> Action:
        return self._actions.act(kind, call.tool, argument_tokens, result_tokens, fails=call.fails)

    def _say(self, turn: TurnPlan, calls: list[tuple[str, Action]]) -> int:
        """Add the assistant's message around its calls; return the answer's tokens."""
        cost = sum(call_tokens(action.tool, action.arguments) for _, action in calls)
        left = turn.output_tokens - answer_tokens("", "", cost)
        content = self._thinking.remark() if left > 60 and self._draw.chance(45) else ""
        reasoning = self._thinking.reasoning(max(left - text_tokens(content), 8))
        tool_calls = [
            {
                "id": call_id,
                "type": "function",
                "function": {
                    "name": action.tool,
                    "arguments": json.dumps(action.arguments, ensure_ascii=False),
                },
            }
            for call_id, action in calls
        ]
        tokens = answer_tokens(reasoning, content, cost)
        message = {
            "role": "assistant",
            "reasoning_content": reasoning,
            "content": content,
            "tool_calls": tool_calls,
        }
        self._add(message, tokens + TURN_TOKENS)
        return tokens

    def _answer(self, turn: TurnPlan) -> int:
        spoken = self._thinking.answer(min(turn.output_tokens * 2 // 3, 220))
        reasoning = self._thinking.reasoning(max(turn.output_tokens - text_tokens(spoken), 8))
        tokens = answer_tokens(reasoning, spoken, 0)
        message = {"role": "assistant", "reasoning_content": reasoning, "content": spoken}
        self._add(message, tokens + TURN_TOKENS)
        return tokens


def _share(output_tokens: int, kind: str) -> int:
    """Return how much of an answer its calls' arguments take: the rest is reasoning."""
    if kind == "write":
        return max(output_tokens * 3 // 4, _LEAST_ARGUMENTS_TOKENS)
    return max(output_tokens // 2 - 30, _LEAST_ARGUMENTS_TOKENS)
