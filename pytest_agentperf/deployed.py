"""One deployment, ready for phases: composed of a server, a load pool and a power sampler, whatever they are."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from pytest_agentperf.client_doubts import ClientDoubts
from pytest_agentperf.core.early_stop import EarlyStop
from pytest_agentperf.core.errors import LoadError, LoadLimitError
from pytest_agentperf.core.kept import NOTHING_KEPT
from pytest_agentperf.core.leaderboard import PhaseResult
from pytest_agentperf.core.load_report import LoadReport
from pytest_agentperf.core.phase import Phase, PhaseKind, PhaseSpec, PhaseStatus, Stage, StopRule, stagger_ns
from pytest_agentperf.core.phase_numbers import phase_numbers
from pytest_agentperf.core.phase_status import status_of
from pytest_agentperf.core.records import RequestColumns
from pytest_agentperf.core.server_metrics import summarise
from pytest_agentperf.core.steady_start import steady_starts
from pytest_agentperf.core.token_check import TokenVerification
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.interruption import Interrupted, StopRequest, let_end
from pytest_agentperf.liveness import Liveness, Looks
from pytest_agentperf.validity import SERVER_GONE_CODES, invalid_reasons, verdict_of, with_absence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.checks import Check
    from pytest_agentperf.core.client_error import Calibration
    from pytest_agentperf.core.ports import AnswerCheck, BlockingClock, LoadPool, Server, ServerMetrics
    from pytest_agentperf.core.server_metrics import ServerSeries
    from pytest_agentperf.core.slo import SloTier
    from pytest_agentperf.core.steady_start import TurnLoad
    from pytest_agentperf.power.metering import Metering, Sampled

_POLL_S = 0.1
# The live percentiles are those of the last answers: all of them would cost more than they tell.
_SHOWN_ANSWERS = 2_000


class PhaseRun(NamedTuple):
    """A finished phase: what is published of it, its records, the tokens it took, and its power readings."""

    result: PhaseResult
    columns: RequestColumns
    tokens: int
    sampled: Sampled
    server: ServerSeries | None = None


Ask: TypeAlias = "Callable[[Mapping[str, Any]], bytes | None]"
"""Sends one streaming chat completion, outside of any measurement; the body of its answer, None for none."""


class BudgetSpent(Exception):
    """The budget ran out inside a phase; the phase is discarded."""


class Deployed:
    """Runs phases on one deployment and judges them."""

    def __init__(
        self,
        name: str,
        settings: RunSettings,
        *,
        server: Server,
        open_pool: Callable[[], LoadPool],
        open_metering: Callable[[], Metering],
        clock: BlockingClock,
        trajectories: Sequence[str] = (),
        turn_loads: Callable[[], Mapping[str, Sequence[TurnLoad]]] = dict,
        metering: Metering | None = None,
        server_metrics: ServerMetrics | None = None,
        calibrate: Callable[[Any, int, float], Calibration] | None = None,
        answer_check: AnswerCheck | None = None,
        ask: Ask | None = None,
        still_works: Callable[[], bool] | None = None,
        refuses: Callable[[], bool] | None = None,
        poll_s: float = _POLL_S,
    ) -> None:
        """`metering`: one that is open already, to begin with; `open_metering` makes those that follow it.

        `calibrate(pool, n_agents, chunks_per_s)` measures the load generator itself; None where there is none.
        `turn_loads()` weighs every turn of the trajectories, for agents that begin in their midst.
        `still_works()` asks the server for a short answer, without any load; False if it fails at that, too.
        `refuses()` does so beside the load, and soon; True only if the server says that it fails.
        """
        self.name = name
        self.settings = settings
        self.deployment = settings.system.deployments[name]
        self.server = server
        self.parameters = settings.suite.request_parameters(self.deployment.serving.framework)
        self.checks: tuple[Check, ...] = ()
        """What was found before the first phase."""
        self.needs_revival = False
        self.ask = ask
        self._open_pool = open_pool
        self._open_metering = open_metering
        self._trajectories = tuple(trajectories)
        self._turn_loads = turn_loads
        self._clock = clock
        self._server_metrics = server_metrics
        self._answer_check = answer_check
        self._still_works = still_works
        self._refuses = refuses
        self._poll_s = poll_s
        self._client_doubts = ClientDoubts(
            calibrate, share_max=settings.ruleset.client_error_max, drop_pool=self.drop_pool
        )
        self._pool: LoadPool | None = None
        self._metering = metering

    @property
    def metering(self) -> Metering:
        """Return the power samplers, opened; raises PowerError."""
        if self._metering is None:
            self.open_power()
        assert self._metering is not None
        return self._metering

    def open_power(self) -> None:
        """Find the meters: seconds now, or hours lost later; raises PowerError."""
        metering = self._open_metering()
        metering.open()
        self._metering = metering

    def close(self) -> None:
        """End the workers, the samplers and what was launched."""
        self.drop_pool()
        self._drop_metering()
        self.server.stop()

    def calibrate(self) -> Calibration | None:
        """Calibrate at a small load: a machine that cannot measure is told so in seconds; raises LoadError."""
        # Any load: none is calibrated that is smaller than what tells that.
        found = self._client_doubts.calibration(self.workers(), 1, 1.0)
        return None if found is None else found.calibration

    def revive(self) -> None:
        """Bring back a server that died in the last phase; raises EndpointError if it stays away."""
        self.drop_pool()
        if self._metering is not None and self._metering.source.scope == "simulated":
            # Its counters went with the server, and come back at another URL.
            self._drop_metering()
        self.server.revive(self.settings.ruleset.restart_max_s)
        self.needs_revival = False

    def run_phase(
        self,
        kind: PhaseKind,
        n_agents: int,
        *,
        phase: int,
        attempt: int,
        tiers: Sequence[SloTier],
        crashed_before: bool,
        on_status: Callable[[PhaseStatus], None],
        spent: Callable[[int], bool],
        stop: StopRequest | None = None,
        wanted: str | None = None,
    ) -> PhaseRun:
        """Let the server drain, run one phase to its own drained end, and judge it.

        `wanted`: the tier that it is run for; with an error rate it ends once that one's verdict is certain.
        `crashed_before`: the server crashed at this N in an earlier attempt. `spent(tokens)` is asked throughout;
        once True the phase is broken off with BudgetSpent; at the request of `stop`, with Interrupted.
        """
        _settings, rules = self.settings, self.settings.ruleset
        warmup = kind == "warmup"
        metering = self.metering
        stop = stop or StopRequest()
        state: Phase | None = None
        # Unless the workers cannot be had before the server is waited for.
        idle, idle_span = "not verified", None
        judged = () if warmup else tiers
        early = None
        if judged and rules.error_rate is not None:
            early = EarlyStop(judged, rules, wanted=wanted)
        metering.start()
        try:
            if self._server_metrics is not None:
                self._server_metrics.start()
            # Workers may have to wait until others that were lost have ended, which would load the server.
            pool = self.workers()
            idle, idle_span = self.settle_server()
            spec = self.spec(kind, n_agents, phase, attempt)
            start_ns = pool.start_phase(spec)
            state = Phase(
                n_agents, StopRule.for_warmup(rules) if warmup else StopRule.from_ruleset(rules), start_ns
            )
            # From here on there is something to lose, until it is in the journal.
            stop.heed()
            tokens = self._follow(pool, state, kind, on_status, spent, stop, early)
            columns = pool.stop_phase()
            load = dict(pool.describe())
        except LoadError as error:
            # The workers are in an unknown state: the next phase gets new ones.
            self.drop_pool()
            columns, tokens = RequestColumns.concatenate([]), 0
            load = {
                "failed": error.what,
                "remedy": error.remedy or "see the message of the load worker",
                "code": "client_resources" if isinstance(error, LoadLimitError) else "load_worker_died",
            }
        except Interrupted as interrupted:
            try:
                stop.tell(interrupted)
                let_end(pool, interrupted, self._clock)
            finally:
                self.drop_pool()
            raise
        except BaseException:
            self.drop_pool()
            raise
        finally:
            try:
                server = None if self._server_metrics is None else self._server_metrics.stop()
            finally:
                sampled = metering.stop()
        now_ns = self._clock.now_ns()
        numbers = phase_numbers(columns, state, rules, judged, now_ns=now_ns)
        open_ns, close_ns, metrics = numbers.open_ns, numbers.close_ns, numbers.metrics
        invalid = tuple(invalid_reasons(columns, load, idle, rules, self.server, self._still_works))
        self.needs_revival |= any(reason.code in SERVER_GONE_CODES for reason in invalid)
        if state is not None and state.broken_off is not None:
            invalid = with_absence(invalid, state.broken_off)
            self.needs_revival |= state.broken_off == "gone"
        recounted = TokenVerification()
        if metrics is not None and not warmup:
            if self._answer_check is not None:
                recounted = self._answer_check.check(spec, columns, pool.kept_answers())
                invalid += recounted.invalid
            invalid += tuple(self._client_doubts.about(pool, n_agents, columns, metrics, load, tiers))
        timed_out = state is not None and state.timed_out
        energy, power = metering.judge(sampled, window=(open_ns, close_ns), idle=idle_span, rules=rules)
        result = PhaseResult(
            phase=phase,
            attempt=attempt,
            kind=kind,
            deployment=self.name,
            n_agents=n_agents,
            start_ns=state.start_ns if state else now_ns,
            window_open_ns=open_ns,
            window_close_ns=close_ns,
            end_ns=(state.end_ns if state else None) or now_ns,
            timed_out=timed_out,
            idle_before=idle,
            records=None,
            metrics=metrics,
            confidence=numbers.confidence,
            breakdown=numbers.breakdown,
            energy=energy,
            power=power,
            server=None if server is None else summarise(server, open_ns=open_ns, close_ns=close_ns),
            tokens=recounted,
            load=LoadReport.model_validate(load),
            invalid=invalid,
            verdicts=tuple(
                verdict_of(
                    tier,
                    metrics,
                    invalid,
                    timed_out=timed_out,
                    crashed_at=n_agents if crashed_before else None,
                    decision=None if early is None else early.decision(tier.name),
                    confidence=numbers.confidence,
                )
                for tier in judged
            ),
        )
        return PhaseRun(result, columns, tokens, sampled, server)

    def spec(self, kind: PhaseKind, n_agents: int, phase: int, attempt: int) -> PhaseSpec:
        """Return what the workers need to know of a phase."""
        return PhaseSpec(
            phase=phase,
            attempt=attempt,
            kind=kind,
            n_agents=n_agents,
            stagger_ns=stagger_ns(n_agents, self.settings.ruleset),
            seed=self.settings.seed,
            nonce=self.settings.nonce,
            trajectories=self._trajectories,
            failure_wait_ns=round(self.settings.ruleset.failure_wait_s * NS_PER_S),
            tool_delay_cap_ns=round(self.settings.ruleset.tool_delay_max_s * NS_PER_S),
            begin_at=self._begin_at(kind, n_agents, attempt),
            keep=NOTHING_KEPT
            if self._answer_check is None or kind in ("warmup", "accuracy")
            else self._answer_check.keep_rule(n_agents),
        )

    def _begin_at(self, kind: PhaseKind, n_agents: int, attempt: int) -> dict[int, tuple[str, int]]:
        if self.settings.ruleset.agents_begin == "first_turn" or kind == "warmup":
            return {}
        speeds = [tier.output_speed_p25_tok_s for tier in self.settings.tiers.values()]
        starts = steady_starts(
            self.settings.seed,
            n_agents,
            self._turn_loads(),
            output_speed_tok_s=min(speeds),
            tool_delay_max_s=self.settings.ruleset.tool_delay_max_s,
            attempt=attempt,
        )
        return dict(enumerate(starts))

    def _follow(
        self,
        pool: LoadPool,
        state: Phase,
        kind: PhaseKind,
        on_status: Callable[[PhaseStatus], None],
        spent: Callable[[int], bool],
        stop: StopRequest,
        early: EarlyStop | None = None,
    ) -> int:
        tokens = failures = 0
        ttft_s: deque[float] = deque(maxlen=_SHOWN_ANSWERS)
        speed_tok_s: deque[float] = deque(maxlen=_SHOWN_ANSWERS)
        looks = Looks(pool.look)
        liveness = Liveness(self.server, looks.under_way, self._refuses)
        while state.stage is not Stage.DONE:
            before = state.stage
            events = pool.poll(self._poll_s)
            now_ns = self._clock.now_ns()
            stage = state.update(events, now_ns)
            if early is not None and stage is not Stage.DRAIN:
                early.watch(state, looks.fresh, now_ns)
                stage = state.stage
            if stage is Stage.WINDOW and before is not Stage.WINDOW:
                # Only answers from the steady state are shown, as only they can decide.
                ttft_s.clear()
                speed_tok_s.clear()
            ttft_s += events.ttft_s
            speed_tok_s += events.speed_tok_s
            failures += events.failures
            tokens += events.tokens
            if stage is Stage.DRAIN and before is not Stage.DRAIN:
                assert state.close_ns is not None
                pool.close_window(state.close_ns)
            if absence := liveness.gone(events, now_ns):
                state.break_off(now_ns, absence)
                break
            if spent(tokens):
                raise BudgetSpent
            stop.check()
            reading = None if self._server_metrics is None else self._server_metrics.latest()
            on_status(
                status_of(state, kind, now_ns, events.in_flight, failures, ttft_s, speed_tok_s, reading)
            )
        return tokens

    def settle_server(self) -> tuple[Any, tuple[int, int] | None]:
        """Let the server drain before a phase of any kind, then reset what the deployment says.

        Returns how that went, and from when to when the server did nothing: None if it had requests then.
        """
        found = self._wait_idle()
        self.server.reset(self.deployment.reset)
        return found

    def _wait_idle(self) -> tuple[Any, tuple[int, int] | None]:
        """Wait as far as its metrics tell; else pause as the ruleset says."""
        rules = self.settings.ruleset
        busy = bool(self.server.requests_in_flight())
        begun_ns = self._clock.now_ns()
        self._clock.sleep(rules.idle_pause_s)
        ended_ns = self._clock.now_ns()
        deadline_ns = ended_ns + round(rules.idle_max_s * NS_PER_S)
        while left := self.server.requests_in_flight():
            busy = True
            if self._clock.now_ns() >= deadline_ns:
                return "not reached", None
            self._clock.sleep(0.1 if left < 100 else 0.5)
        return "not verified" if left is None else "verified", None if busy else (begun_ns, ended_ns)

    def _drop_metering(self) -> None:
        metering, self._metering = self._metering, None
        if metering is not None:
            metering.close()

    def workers(self) -> LoadPool:
        """Return the load workers, started."""
        if self._pool is None:
            self._pool = self._open_pool()
        return self._pool

    def drop_pool(self) -> None:
        """End the load workers: the next phase gets new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
