"""The demo set as the simulated server counts and answers it: what it takes to rehearse just what it would serve.

A rehearsal has no text: prompts are as long as recorded, and answers drawn anew. Here both are those of the server's
own code, so that the same phase over HTTP and in virtual time differs by nothing but real time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

from virtual_system import Watch, open_virtual

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.core.records import RequestKey
from pytest_agentperf.core.token_table import TokenTable, TurnTokens
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.load.bodies import BodyBuilder, BodyRules
from pytest_agentperf.load.segments import Segments
from pytest_agentperf.opening import max_prompt_tokens
from pytest_agentperf.sim.answer import AnswerModel
from pytest_agentperf.sim.api import parse_chat
from pytest_agentperf.sim.clock import VirtualClock
from pytest_agentperf.sim.prompt import hash_prompt, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.dataset import PreparedDataset


class ServedDataset:
    """What a rehearsal replays, with the server's own numbers of tokens."""

    closed = False

    def __init__(self, settings: RunSettings) -> None:
        (deployment,) = settings.system.deployments.values()
        engine, rules = deployment.simulate, settings.ruleset
        assert engine is not None
        answers = AnswerModel(engine)
        turns: dict[str, list[TurnTokens]] = {}
        delays: dict[str, Sequence[int]] = {}
        with EncodedDataset(
            settings.dataset_path,
            max_prompt_tokens=max_prompt_tokens(settings),
            history_reasoning=settings.suite.history_reasoning,
        ) as encoded:
            self.prepared: PreparedDataset = encoded.prepared
            segments = Segments(encoded.folder)
            bodies = BodyBuilder(segments, BodyRules("sim", {}, rules.max_tokens, rules.output_length))
            for trajectory in encoded.prepared.ids:
                delays[trajectory] = segments.tool_delays_ns(trajectory)
                known: set[int] = set()
                turns[trajectory] = []
                for turn in range(len(delays[trajectory])):
                    request = parse_chat(bodies.build(RequestKey(0, 0, 0, 0, trajectory, turn)))
                    prompt = hash_prompt(render(request.messages, request.tools), engine.kv_block_tokens)
                    shared = next(
                        (i for i, block in enumerate(prompt.block_hashes) if block not in known),
                        len(prompt.block_hashes),
                    )
                    known.update(prompt.block_hashes)
                    limits = request.limits(prompt.tokens, engine.context_tokens)
                    tools = request.tools if request.call_tools else ()
                    answer = answers.plan(request.messages, tools, limits)
                    turns[trajectory].append(
                        TurnTokens(prompt.tokens, shared * engine.kv_block_tokens, answer.tokens)
                    )
        self.table = TokenTable(turns, delays, estimated=0)

    def close(self) -> None: ...


class ServedLengths:
    """Answers as the server gives them."""

    exact = False

    def __init__(self, table: TokenTable) -> None:
        self._table = table

    def of(self, key: RequestKey) -> list[int]:
        return [turn.output or 1 for turn in self._table.turns[key.trajectory]]


def run_as_served(
    settings: RunSettings, n_agents: int, *, dataset: ServedDataset | None = None
) -> RequestColumns:
    """Return the records of a phase in virtual time, with the prompts and answers of the simulated server."""
    found = dataset or ServedDataset(settings)
    watch = Watch()
    with (
        patch("pytest_agentperf.rehearsal.lengths_of", lambda *_: ServedLengths(found.table)),
        CapacityRun(
            settings, watch, clock=VirtualClock(), open_=open_virtual, encode=lambda *_: found
        ) as run,
    ):
        run.run_fixed(next(iter(settings.system.deployments)), n_agents)
    return watch.records[-1]


def run_over_http(settings: RunSettings, n_agents: int) -> tuple[RequestColumns, PhaseResult]:
    """Return the records of the same phase by the product's workers, against its simulated server, and its result."""
    watch = Watch()
    with CapacityRun(settings, watch) as run:
        result = run.run_fixed(next(iter(settings.system.deployments)), n_agents)
    return watch.records[-1], result
