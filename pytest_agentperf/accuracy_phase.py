"""Asks questions with checkable answers, alone and while agents load the server; no time of it is ever measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.accuracy import UNANSWERED, AccuracyScore
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.leaderboard import PhaseResult
from pytest_agentperf.core.load_report import LoadReport
from pytest_agentperf.core.phase import Phase, Stage, StopRule
from pytest_agentperf.core.phase_status import status_of
from pytest_agentperf.core.records import RequestColumns
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.core.verdict import InvalidReason
from pytest_agentperf.deployed import BudgetSpent, Deployed, PhaseRun
from pytest_agentperf.questioning import questioner_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentperf.core.phase import PhaseStatus
    from pytest_agentperf.core.ports import BlockingClock, LoadPool
    from pytest_agentperf.questioning import Asking

_POLL_S = 0.1
_NEVER_NS = 1 << 62
_UNFINISHED = "accuracy_unfinished"


class AccuracyPhase:
    """One asking of all questions, beside `n_agents` agents or, with 0, alone."""

    def __init__(self, deployed: Deployed, clock: BlockingClock, n_agents: int) -> None:
        """Read the questions of the deployment's suite; raises ConfigError."""
        self._deployed = deployed
        self._questioner = questioner_for(deployed.settings, deployed)
        self._clock = clock
        self._n_agents = n_agents
        rules = deployed.settings.ruleset
        # Its window opens with the steady state, and closes when all is asked.
        self._rule = replace(
            StopRule.from_ruleset(rules),
            min_window_ns=_NEVER_NS,
            phase_max_ns=round(rules.accuracy_max_s * NS_PER_S),
        )

    def run(
        self,
        *,
        phase: int,
        on_status: Callable[[PhaseStatus], None],
        spent: Callable[[int], bool],
    ) -> PhaseRun:
        """Let the server drain, hold the load, ask, and mark; raises BudgetSpent."""
        deployed, n_agents = self._deployed, self._n_agents
        invalid: tuple[InvalidReason, ...] = ()
        columns, tokens = RequestColumns.concatenate([]), 0
        score: AccuracyScore | None = None
        load: dict[str, Any] = {}
        begun_ns = self._clock.now_ns()
        idle = "not verified"
        deployed.metering.start()
        try:
            pool: LoadPool | None = deployed.workers() if n_agents else None
            idle, _ = deployed.settle_server()
            if pool is not None:
                begun_ns = pool.start_phase(deployed.spec("accuracy", n_agents, phase, 0))
            score, tokens = self._ask(pool, begun_ns, on_status, spent)
            if pool is not None:
                columns, load = pool.stop_phase(), dict(pool.describe())
            if score is None:
                invalid = (_too_slow(deployed.settings.ruleset.accuracy_max_s),)
            elif UNANSWERED in score.marks and deployed.server.state() != "alive":
                # A server that is gone answers nothing: that says nothing of its answers.
                deployed.needs_revival = True
                score, invalid = None, (_SERVER_GONE,)
        except LoadError as error:
            deployed.drop_pool()
            # Whether there was any load beside the questions nobody can tell.
            score = None
            invalid = (
                InvalidReason(
                    code="load_worker_died",
                    what=error.what,
                    remedy=error.remedy or "see the message of the load worker",
                ),
            )
        except BaseException:
            deployed.drop_pool()
            raise
        finally:
            sampled = deployed.metering.stop()
        energy, power = deployed.metering.judge(
            sampled, window=(begun_ns, begun_ns), idle=None, rules=deployed.settings.ruleset
        )
        result = PhaseResult(
            phase=phase,
            attempt=0,
            kind="accuracy",
            deployment=deployed.name,
            n_agents=n_agents,
            start_ns=begun_ns,
            window_open_ns=begun_ns,
            window_close_ns=begun_ns,
            end_ns=self._clock.now_ns(),
            timed_out=any(reason.code == _UNFINISHED for reason in invalid),
            idle_before=idle,
            records=None,
            metrics=None,
            energy=energy,
            power=power,
            accuracy=score,
            load=LoadReport.model_validate(load),
            invalid=invalid,
            verdicts=(),
        )
        return PhaseRun(result, columns, tokens, sampled)

    def _ask(
        self,
        pool: LoadPool | None,
        begun_ns: int,
        on_status: Callable[[PhaseStatus], None],
        spent: Callable[[int], bool],
    ) -> tuple[AccuracyScore | None, int]:
        """Ask as soon as all agents are active and settled; None if the time did not suffice."""
        ask = self._deployed.ask
        assert ask is not None
        state = Phase(max(1, self._n_agents), self._rule, begun_ns)
        deadline_ns = begun_ns + self._rule.phase_max_ns
        asking: Asking | None = None
        tokens = failures = 0
        try:
            while asking is None or not asking.done:
                now_ns = self._clock.now_ns()
                if pool is None:
                    steady = True
                    self._clock.sleep(_POLL_S)
                else:
                    events = pool.poll(_POLL_S)
                    now_ns = self._clock.now_ns()
                    steady = state.update(events, now_ns) is Stage.WINDOW
                    tokens, failures = tokens + events.tokens, failures + events.failures
                    on_status(status_of(state, "accuracy", now_ns, events.in_flight, failures, (), (), None))
                if spent(tokens):
                    raise BudgetSpent
                if now_ns >= deadline_ns:
                    return None, tokens
                if steady and asking is None:
                    asking = self._questioner.begin(ask, self._n_agents)
            return self._questioner.score(asking, self._n_agents), tokens
        finally:
            if asking is not None:
                asking.stop()


_SERVER_GONE = InvalidReason(
    code="server_crashed",
    what="the server was gone when the questions were asked",
    remedy="see the server's log",
)


def _too_slow(limit_s: float) -> InvalidReason:
    return InvalidReason(
        code=_UNFINISHED,
        what=f"the questions were not all answered within {limit_s:g} s",
        remedy="ask fewer, or more at once (`accuracy:` in the suite)",
    )
