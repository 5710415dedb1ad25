"""An open deployment: its server (launched or attached), its load workers, its power source; and phases on it."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pytest_agentperf.clock import NS_PER_S, RealClock
from pytest_agentperf.core.energy import integrate
from pytest_agentperf.core.errors import EndpointError, LoadError
from pytest_agentperf.core.leaderboard import PhaseResult
from pytest_agentperf.core.metrics import measure, percentile
from pytest_agentperf.core.phase import (
    Phase,
    PhaseKind,
    PhaseSpec,
    PhaseStatus,
    Stage,
    StopRule,
    stagger_ns,
)
from pytest_agentperf.core.records import RequestColumns, RequestKey
from pytest_agentperf.core.verdict import InvalidReason, TierVerdict, Verdict, judge
from pytest_agentperf.deploy.probe import ask_once, check_endpoint, is_alive, requests_in_server
from pytest_agentperf.load.bodies import BodyBuilder, BodyRules
from pytest_agentperf.load.pool import LocalPool
from pytest_agentperf.load.sse import decode
from pytest_agentperf.power.sim import NoPowerSampler, SimPowerSampler
from pytest_agentperf.sim.process import SimServer
from pytest_agentperf.worker import WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from pytest_agentperf.config.run import ResolvedEndpoint, RunSettings
    from pytest_agentperf.config.system import Deployment
    from pytest_agentperf.core.ports import BlockingClock, PowerSampler
    from pytest_agentperf.core.slo import SloTier
    from pytest_agentperf.dataset import PreparedSource

_POLL_S = 0.1
# The live percentiles are those of the last answers: all of them would cost more than they tell.
_SHOWN_ANSWERS = 2_000
_CONNECTION_FAILURES = frozenset({"connect", "timeout_connect", "closed_before_response", "cut"})


class PhaseRun(NamedTuple):
    """A finished phase: what is published of it, its records, and the tokens it took."""

    result: PhaseResult
    columns: RequestColumns
    tokens: int


class BudgetSpent(Exception):
    """The budget ran out inside a phase; the phase is discarded."""


class OpenDeployment:
    """One deployment, ready to run phases; use as a context manager."""

    def __init__(
        self,
        name: str,
        deployment: Deployment,
        settings: RunSettings,
        endpoint: ResolvedEndpoint,
        source: PreparedSource,
        clock: BlockingClock | None = None,
    ) -> None:
        self._clock = clock or RealClock()
        self.name = name
        self.deployment = deployment
        self.settings = settings
        self._endpoint = endpoint
        self._source = source
        self._sim: SimServer | None = None
        self._pool: LocalPool | None = None
        self._sampler: PowerSampler = NoPowerSampler()
        self._crashes: Counter[int] = Counter()
        self.model = deployment.endpoint.model or settings.suite.model
        self.parameters = settings.suite.request_parameters(deployment.serving.framework)

    @property
    def simulated(self) -> bool:
        """Return whether the server is the built-in simulation."""
        return self.deployment.endpoint.builtin is not None

    @property
    def url(self) -> str:
        """Return the endpoint's base URL."""
        return self._sim.url if self._sim is not None else self._endpoint.url or ""

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _open(self) -> None:
        if self.simulated:
            engine = self.deployment.simulate
            assert engine is not None
            sized = engine.model_copy(update={"accelerators": self.deployment.allocated_accelerators})
            self._sim = SimServer(sized, model=self.model)
            self._sim.start()
        self._preflight()
        if self.deployment.power.source == "sim":
            self._sampler = SimPowerSampler(self.url, interval_s=self.deployment.power.interval_s)

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._sim is not None:
            self._sim.stop()
            self._sim = None

    def _preflight(self) -> None:
        """Ask once for what every request will ask: seconds now, or hours lost later."""
        check_endpoint(self.url, self._endpoint.headers, self.model)
        rules = self.settings.ruleset
        body_rules = BodyRules(self.model, self.parameters, min(16, rules.max_tokens), "natural")
        trajectory = self._source.ids()[0]
        body = BodyBuilder(self._source, body_rules, self.settings.nonce).build(
            RequestKey(phase=-1, attempt=0, agent=0, ordinal=0, trajectory=trajectory, turn=0)
        )
        answer = decode([(0, ask_once(self.url, self._endpoint.headers, body))])
        if answer.failure == "no_usage":
            raise EndpointError(
                "its stream has no usage, so output tokens cannot be counted",
                where=self.url,
                remedy="make the server honour stream_options.include_usage",
            )
        if answer.failure is not None:
            raise EndpointError(
                f"its first answer is unusable ({answer.failure}): {answer.failure_detail}",
                where=self.url,
                remedy="see that /chat/completions streams server-sent events with finish_reason and usage",
            )

    def _workers(self) -> LocalPool:
        if self._pool is None:
            settings = self.settings
            config = WorkerConfig(
                url=self.url,
                headers=self._endpoint.headers,
                model=self.model,
                parameters=self.parameters,
                dataset=str(settings.dataset_path),
                max_prompt_tokens=max_prompt_tokens(settings),
                history_reasoning=settings.suite.history_reasoning,
                ruleset=settings.ruleset,
                tokenizer=settings.suite.tokenizer if not self.simulated else None,
            )
            self._pool = LocalPool(settings.workers or 1, config.model_dump())
        return self._pool

    def run_phase(
        self,
        kind: PhaseKind,
        n_agents: int,
        *,
        phase: int,
        attempt: int,
        tiers: Sequence[SloTier],
        on_status: Callable[[PhaseStatus], None],
        spent: Callable[[int], bool] = lambda _: False,
    ) -> PhaseRun:
        """Run one phase to its drained end and judge it.

        `spent(tokens)` is asked throughout; once True the phase is broken off with BudgetSpent.
        """
        settings, rules = self.settings, self.settings.ruleset
        rule = StopRule.for_warmup(rules) if kind == "warmup" else StopRule.from_ruleset(rules)
        spec = PhaseSpec(
            phase=phase,
            attempt=attempt,
            kind=kind,
            n_agents=n_agents,
            stagger_ns=stagger_ns(n_agents, rules),
            seed=settings.seed,
            nonce=settings.nonce,
            trajectories=tuple(self._source.ids()),
            failure_wait_ns=round(rules.failure_wait_s * NS_PER_S),
        )
        pool = self._workers()
        self._sampler.start()
        try:
            state = Phase(n_agents, rule, pool.start_phase(spec))
            tokens = self._follow(pool, state, kind, on_status, spent)
            columns = pool.stop_phase()
            load = pool.describe()
        except LoadError as error:
            # The workers are in an unknown state: the next phase gets new ones.
            pool.close()
            self._pool = None
            now_ns = self._clock.now_ns()
            state = Phase(n_agents, rule, now_ns)
            state.open_ns = state.close_ns = state.end_ns = now_ns
            columns, tokens, load = RequestColumns.concatenate([]), 0, {"error": str(error)}
        except BaseException:
            pool.close()
            self._pool = None
            raise
        finally:
            readings = self._sampler.stop()
        open_ns, close_ns = state.open_ns or state.start_ns, state.close_ns or state.start_ns
        invalid = self._invalid_reasons(columns, n_agents, load)
        inside = columns.sent_within(open_ns, close_ns).any()
        metrics = (
            measure(
                columns,
                open_ns=open_ns,
                close_ns=close_ns,
                trajectories_completed=state.completions,
                ttft_percent=rules.ttft_percentile,
                speed_percent=rules.output_speed_percentile,
            )
            if inside
            else None
        )
        result = PhaseResult(
            phase=phase,
            attempt=attempt,
            kind=kind,
            deployment=self.name,
            n_agents=n_agents,
            start_ns=state.start_ns,
            window_open_ns=open_ns,
            window_close_ns=close_ns,
            end_ns=state.end_ns or close_ns,
            timed_out=state.timed_out,
            records=None,
            metrics=metrics,
            energy=integrate(
                readings,
                open_ns=open_ns,
                close_ns=close_ns,
                devices_expected=self.deployment.allocated_accelerators,
                coverage_min=rules.power_coverage_min,
                gap_max_s=rules.power_gap_max_s,
            ),
            load=load,
            invalid=invalid,
            verdicts=tuple(
                self._judge(tier, metrics, invalid, state.timed_out, n_agents)
                for tier in (tiers if kind != "warmup" else ())
            ),
        )
        return PhaseRun(result, columns, tokens)

    def _follow(
        self,
        pool: LocalPool,
        state: Phase,
        kind: PhaseKind,
        on_status: Callable[[PhaseStatus], None],
        spent: Callable[[int], bool],
    ) -> int:
        tokens = failures = 0
        ttft_s: deque[float] = deque(maxlen=_SHOWN_ANSWERS)
        speed_tok_s: deque[float] = deque(maxlen=_SHOWN_ANSWERS)
        while state.stage is not Stage.DONE:
            before = state.stage
            events = pool.poll(_POLL_S)
            now_ns = self._clock.now_ns()
            stage = state.update(events, now_ns)
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
            if spent(tokens):
                raise BudgetSpent
            on_status(_status(state, kind, now_ns, events.in_flight, failures, ttft_s, speed_tok_s))
        return tokens

    def _judge(
        self,
        tier: SloTier,
        metrics: Any,
        invalid: tuple[InvalidReason, ...],
        timed_out: bool,
        n_agents: int,
    ) -> TierVerdict:
        if self._crashes[n_agents] > 1 and any(reason.code == "server_crashed" for reason in invalid):
            return TierVerdict(
                tier=tier.name,
                verdict=Verdict.FAIL,
                violated=("survival",),
                reason=f"the server crashed again at {n_agents} agents",
            )
        return judge(tier, metrics, invalid=invalid, timed_out=timed_out)

    def _invalid_reasons(
        self, columns: RequestColumns, n_agents: int, load: dict[str, Any]
    ) -> tuple[InvalidReason, ...]:
        reasons = []
        if "error" in load:
            reasons.append(
                InvalidReason(
                    code="load_worker_died", what=load["error"], remedy="see the message of the load worker"
                )
            )
        lag_s, limit_s = load.get("lag_p99_s", 0.0), self.settings.ruleset.client_lag_p99_max_s
        if lag_s > limit_s:
            reasons.append(
                InvalidReason(
                    code="load_generator_saturated",
                    what=f"a load worker ran {lag_s * 1e3:.0f} ms late at P99 (limit {limit_s * 1e3:.0f} ms)",
                    remedy="use more load workers (--agentperf-workers) or free this machine's CPU",
                )
            )
        broken = [failure for failure in columns.texts["failure"] if failure in _CONNECTION_FAILURES]
        if broken and not self._recovers():
            self._crashes[n_agents] += 1
            reasons.append(
                InvalidReason(
                    code="server_crashed",
                    what=f"the server was gone after the phase ({len(broken)} requests lost their connection)",
                    remedy="see the server's log; a second crash at the same number of agents is FAIL",
                )
            )
            self._revive()
        return tuple(reasons)

    def _recovers(self) -> bool:
        if self._sim is not None:
            return self._sim.alive()
        return is_alive(self.url, self._endpoint.headers)

    def _revive(self) -> None:
        """Restart the server we launched, or wait for the one we attached to."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._sim is not None:
            self._sim.stop()
            self._sim.start()
            if isinstance(self._sampler, SimPowerSampler):
                self._sampler = SimPowerSampler(self.url, interval_s=self.deployment.power.interval_s)
            return
        deadline_ns = self._clock.now_ns() + round(self.settings.ruleset.idle_max_s * NS_PER_S)
        while self._clock.now_ns() < deadline_ns:
            if is_alive(self.url, self._endpoint.headers):
                return
            self._clock.sleep(1.0)
        raise EndpointError(
            "the server is gone and did not come back",
            where=self.url,
            remedy="restart it and run again; everything measured so far is kept",
        )

    def wait_idle(self) -> None:
        """Let the server drain between phases: until its metrics say idle, or for the ruleset's pause."""
        rules = self.settings.ruleset
        self._clock.sleep(rules.idle_pause_s)
        deadline_ns = self._clock.now_ns() + round(rules.idle_max_s * NS_PER_S)
        while (left := requests_in_server(self.url)) and self._clock.now_ns() < deadline_ns:
            self._clock.sleep(0.1 if left < 100 else 0.5)

    def power_source(self) -> str:
        """Return where power is read."""
        return self._sampler.source


def max_prompt_tokens(settings: RunSettings) -> int:
    """Return where trajectories are cut: context − max_tokens − isolation prefix (at most a token a character)."""
    return settings.suite.max_context_tokens - settings.ruleset.max_tokens - 128


def _status(
    state: Phase,
    kind: PhaseKind,
    now_ns: int,
    in_flight: int,
    failures: int,
    ttft_s: Iterable[float],
    speed_tok_s: Iterable[float],
) -> PhaseStatus:
    opened = state.open_ns is not None and now_ns > state.open_ns
    return PhaseStatus(
        kind=kind,
        n_agents=state.n_agents,
        stage=state.stage,
        elapsed_s=max(0, now_ns - state.start_ns) / NS_PER_S,
        window_s=((state.close_ns or now_ns) - (state.open_ns or now_ns)) / NS_PER_S if opened else 0.0,
        window_min_s=state.rule.min_window_ns / NS_PER_S,
        trajectories=state.completions,
        trajectories_min=state.rule.min_trajectories,
        agents_short=state.agents_short_of_quota,
        in_flight=in_flight,
        failures=failures,
        ttft_p95_s=percentile(list(ttft_s), 95) if ttft_s else None,
        output_speed_p25_tok_s=percentile(list(speed_tok_s), 25) if speed_tok_s else None,
    )
