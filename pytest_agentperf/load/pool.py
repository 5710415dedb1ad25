"""The load pool: workers on this machine or on other hosts, and the agents of one phase spread over them."""

from __future__ import annotations

import contextlib
import gc
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.answers_so_far import AnswersSoFar
from pytest_agentperf.core.errors import LoadError, LoadLimitError
from pytest_agentperf.core.kept import KeptAnswer
from pytest_agentperf.core.load_report import LostLoadHost
from pytest_agentperf.core.phase import PhaseEvents
from pytest_agentperf.core.records import RequestColumns
from pytest_agentperf.core.sharding import shards
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.load.chores import Chores
from pytest_agentperf.load.clocks import Clocks
from pytest_agentperf.load.crew import Crew
from pytest_agentperf.load.gateway_place import GatewayPlace
from pytest_agentperf.load.hosts import ALONE_S, Joining, LoadHosts, open_place, reach, weight
from pytest_agentperf.load.limits import cores
from pytest_agentperf.load.phase_frame import shard_to_wire, spec_to_wire
from pytest_agentperf.load.worker import events_from_wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_agentperf.core.phase import PhaseSpec
    from pytest_agentperf.load.chores import NullServersOfHosts
    from pytest_agentperf.load.crew import Host, Worker
    from pytest_agentperf.load.place import Place

_RECORDS_TIMEOUT_S = 120.0
_LOOK_TIMEOUT_S = 30.0
# A worker that says nothing for so long in a phase is gone, or behind a network that is.
_SILENT_S = 15.0
# What a worker is planned to carry: under half of what a core of 2.5 GHz was measured to hold (docs/load-engine.md).
_CHUNKS_PER_WORKER_S = 30_000
# Time for the frames to reach every worker before the first agent starts.
_LEAD_NS = NS_PER_S // 20
# To send them one after the other: more than twice what was measured for a thousand (docs/hosts.md).
_LEAD_PER_WORKER_NS = 500_000
# And for a worker to make its agents, each with its order of the trajectories.
_LEAD_PER_AGENT_NS = 50_000
_LEAD_PER_CHOICE_NS = 4_000
_EVENTS_INTERVAL_NS = NS_PER_S // 10
# Reports of all workers together: more of them would take a core of this machine.
_REPORTS_PER_S = 400


class HostShare(NamedTuple):
    """What one host did in a phase."""

    host: Host
    agents: list[int]


class WorkerPool:
    """A `LoadPool`."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        workers: int | None = None,
        chunks_per_agent_s: float = 0.0,
        hosts: LoadHosts | None = None,
    ) -> None:
        """Start the first workers, and give each the `config` that `worker.serve` takes.

        `workers`: exactly so many on this machine; None: as many as the agents of a phase need at `chunks_per_agent_s`
        each, and as the machine's cores leave beside one for everything else. With `hosts` that name places there are
        the workers that they name. A pool may grow, but never shrinks.
        """
        self._workers_wanted = workers
        self._chunks_per_agent_s = chunks_per_agent_s
        self._load_hosts = hosts or LoadHosts()
        self._crew = Crew()
        self._joining = Joining(self._crew, config)
        self._clocks = Clocks(self._crew)
        self._chores = Chores(self._crew, self._load_hosts.run)
        self._places: list[Place] = []
        self._lost: list[LostLoadHost] = []
        self._interval_ns = _EVENTS_INTERVAL_NS
        self._running = False
        self._health: dict[Worker, Mapping[str, float]] = {}
        self._kept: list[KeptAnswer] = []
        try:
            if self._load_hosts.specs:
                self._join_all()
            else:
                self._places = [GatewayPlace()]
                # What is wrong with the installation is wrong in every worker: see it now.
                self._joining.join(self._places[0], workers or 1)
        except BaseException:
            self.close()
            raise

    @property
    def hosts(self) -> list[Host]:
        """Return the hosts that carry load."""
        return self._joining.hosts

    def workers_for(self, n_agents: int) -> int:
        """Return how many processes carry so many agents."""
        if self._load_hosts.specs:
            return len(self._crew.workers)
        if self._workers_wanted is not None:
            return self._workers_wanted
        needed = math.ceil(n_agents * self._chunks_per_agent_s / _CHUNKS_PER_WORKER_S)
        return max(1, min(needed, cores() - 1), len(self._crew.workers))

    def start_phase(self, spec: PhaseSpec, *, urls: Mapping[str, Sequence[str]] | None = None) -> int:
        """Let every worker start its agents; returns the start of the phase (monotonic ns).

        `urls`: endpoints to use in this phase instead of the configured one, by id of the host, spread over its
        workers. Raises LoadError if a worker does not start, LoadLimitError if the limits of all hosts together do not
        carry so many agents.
        """
        crew = self._crew
        self._health, self._kept = {}, []
        crew.forget_frames()
        # A full collection takes tens of milliseconds, perhaps on a worker's core.
        gc.collect()
        gc.freeze()
        self._grow(spec.n_agents)
        self._share_out(spec.n_agents)
        if self._load_hosts.specs:
            self._chores.lock(self.hosts, self._load_hosts.on_wait)
        self._clocks.begin(self.hosts)
        self._interval_ns = max(_EVENTS_INTERVAL_NS, len(crew.workers) * NS_PER_S // _REPORTS_PER_S)
        wire = spec_to_wire(spec)
        own = {worker: shard_to_wire(spec, worker.agents) for worker in crew.workers}
        lead_per_agent_ns = _LEAD_PER_AGENT_NS + len(spec.trajectories) * _LEAD_PER_CHOICE_NS
        most = max(len(worker.agents) for worker in crew.workers)
        lead_ns = _LEAD_NS + len(crew.workers) * _LEAD_PER_WORKER_NS + most * lead_per_agent_ns
        start_ns = monotonic_ns() + lead_ns + self._clocks.lead_ns
        for host in self.hosts:
            for i, worker in enumerate(host.workers):
                worker.drained, worker.in_flight, worker.heard_ns = False, 0, monotonic_ns()
                url = None if urls is None else urls[host.facts.id][i % len(urls[host.facts.id])]
                host_start_ns = host.clock.to_host(start_ns)
                crew.send(worker, "phase", wire, own[worker], host_start_ns, url, self._interval_ns)
        self._running = True
        return start_ns

    def poll(self, timeout_s: float) -> PhaseEvents:
        """Wait at most `timeout_s` for news and return all there is; raises LoadError if a worker is lost."""
        parts: list[PhaseEvents] = []
        deadline_ns = monotonic_ns() + round(timeout_s * NS_PER_S)
        while (news := self._crew.next((deadline_ns - monotonic_ns()) / NS_PER_S)) is not None:
            worker, frame = news
            if frame[0] == "clock":
                self._clocks.take(worker, frame)
            elif frame[0] == "events":
                assert worker.host is not None
                events = events_from_wire(frame[1], offset_ns=worker.host.clock.offset_ns)
                parts.append(events)
                worker.in_flight, worker.drained = events.in_flight, events.drained
        workers = self._crew.workers
        if self._running:
            limit_s = max(_SILENT_S, 5 * self._interval_ns / NS_PER_S)
            self._crew.check_silence(limit_s)
            self._clocks.tick()
        return PhaseEvents(
            activations=[item for part in parts for item in part.activations],
            completions=[item for part in parts for item in part.completions],
            ttft_s=[value for part in parts for value in part.ttft_s],
            speed_tok_s=[value for part in parts for value in part.speed_tok_s],
            failures=sum(part.failures for part in parts),
            tokens=sum(part.tokens for part in parts),
            in_flight=sum(worker.in_flight for worker in workers),
            drained=all(worker.drained for worker in workers),
        )

    def look(self) -> AnswersSoFar:
        """Ask every worker for the requests that have ended since the last look, and those under way."""
        workers = self._crew.workers
        for worker in workers:
            self._crew.send(worker, "look")
        parts = []
        for worker, (_, answers) in self._crew.gather(workers, "look", _LOOK_TIMEOUT_S):
            assert worker.host is not None
            found = AnswersSoFar.from_wire(answers)
            parts.append(found._replace(t_sent_ns=worker.host.clock.to_ours(found.t_sent_ns)))
        return AnswersSoFar.concatenate(parts)

    def close_window(self, close_ns: int) -> None:
        """Tell every worker where the window closed."""
        for worker in self._crew.workers:
            assert worker.host is not None
            worker.drained = False
            self._crew.send(worker, "close", worker.host.clock.to_host(close_ns))

    def drain(self) -> None:
        """Tell every worker to send nothing more."""
        for worker in self._crew.workers:
            worker.drained = False
            self._crew.send(worker, "drain")

    def stop_phase(self) -> RequestColumns:
        """Stop the agents and gather the records of all workers, in this machine's time."""
        self._running = False
        workers = self._crew.workers
        self._clocks.end()
        for worker in workers:
            self._crew.send(worker, "stop")
        parts = []
        gathered = self._crew.gather(workers, "records", _RECORDS_TIMEOUT_S, others=self._keep)
        for worker, (_, columns, health) in gathered:
            assert worker.host is not None
            parts.append(RequestColumns.from_wire(columns).earlier(worker.host.clock.offset_ns))
            self._health[worker] = health
        if self._load_hosts.specs:
            self._chores.unlock(self.hosts)
        return RequestColumns.concatenate(parts)

    def kept_answers(self) -> list[KeptAnswer]:
        """Return the answers that the workers kept in the phase that was stopped last."""
        kept, self._kept = self._kept, []
        return kept

    @contextlib.contextmanager
    def null_servers(
        self, n_agents: int, chunks_per_s: float, *, per_server: float, **how: float
    ) -> Iterator[NullServersOfHosts]:
        """Run null servers on every host, for its share of a load of `chunks_per_s`: `per_server` each at most."""
        self._grow(n_agents)
        with contextlib.ExitStack() as stack:
            if self._load_hosts.specs:
                # They are load for the host already, and would disturb another run's probe.
                stack.enter_context(self._chores.held(self.hosts, self._load_hosts.on_wait))
            yield stack.enter_context(
                self._chores.null_servers(self.hosts, chunks_per_s, per_server=per_server, **how)
            )

    def shares(self) -> list[HostShare]:
        """Return which agents each host drives."""
        return [
            HostShare(host, [agent for worker in host.workers for agent in worker.agents])
            for host in self.hosts
        ]

    def unreachable(self) -> dict[str, str]:
        """Return the hosts that do not reach the endpoint, and why."""
        return self._chores.unreachable(self.hosts)

    def describe(self) -> dict[str, Any]:
        """Return the workers, and after a phase what each host did, and their worst."""
        description: dict[str, Any] = {"workers": len(self._crew.workers)}
        if self._health:
            for name, worst in (
                ("lag_p99_s", "lag_p99_s"),
                ("send_late_p99_s", "send_late_p99_s"),
                ("lag_max_s", "lag_max_s"),
                ("cpu_share_max", "cpu_share"),
            ):
                description[name] = max(health[worst] for health in self._health.values())
        if self._load_hosts.specs:
            description["clock_error_s"] = max(host.clock.bound_ns for host in self.hosts) / NS_PER_S
            description["hosts"] = [self._describe_host(host) for host in self.hosts]
            description["hosts_lost"] = [lost.model_dump() for lost in self._lost]
        return description

    def close(self) -> None:
        """End the workers."""
        self._crew.close()
        if self._crew.went_silent:
            self._load_hosts.quiet_from_ns = monotonic_ns() + round(ALONE_S * NS_PER_S)
        for place in self._places:
            place.close()

    def _describe_host(self, host: Host) -> dict[str, Any]:
        health = [self._health[worker] for worker in host.workers if worker in self._health]
        return {
            "name": host.name,
            "workers": len(host.workers),
            "agents": sum(len(worker.agents) for worker in host.workers),
            "round_trip_s": host.clock.round_trip_ns / NS_PER_S,
            "clock_error_s": host.clock.bound_ns / NS_PER_S,
            "lag_p99_s": max((item["lag_p99_s"] for item in health), default=None),
            "send_late_p99_s": max((item["send_late_p99_s"] for item in health), default=None),
            "cpu_share_max": max((item["cpu_share"] for item in health), default=None),
        }

    def _join_all(self) -> None:
        """Bring in the places that the run names; after the first time, those that are still there."""
        hosts = self._load_hosts
        hosts.wait_for_quiet()
        fewer = hosts.complete and hosts.fewer_allowed
        for spec in hosts.specs:
            hosts.on_wait(f"load workers: {spec.short}")
            try:
                place = open_place(spec)
                self._places.append(place)
                count = self._joining.join(place, spec.workers, folder=spec.get("cache") or "", fewer=fewer)
                if count < spec.workers:
                    why = f"only {count} of {spec.workers} load workers started"
                    self._lost.append(LostLoadHost(name=spec.short, why=why))
            except LoadError as error:
                if not fewer:
                    raise
                self._lost.append(LostLoadHost(name=spec.short, why=error.what))
        if not self._crew.workers:
            raise LoadError("no load host is left", remedy="; ".join(lost.why for lost in self._lost))
        hosts.complete = True
        self._clocks.begin(self.hosts)

    def _share_out(self, n_agents: int) -> None:
        hosts = self.hosts
        limits = [reach(host) // len(host.workers) for host in hosts for _ in host.workers]
        if n_agents > sum(limits):
            raise LoadLimitError(
                f"the limits of {'; '.join(map(_limits, hosts))} carry {sum(limits)} agents, not {n_agents}",
                remedy="raise the hard limit of open files (ulimit -Hn) and net.ipv4.ip_local_port_range",
            )
        weights = [weight(host) if len(hosts) > 1 else 1.0 for host in hosts for _ in host.workers]
        workers = [worker for host in hosts for worker in host.workers]
        for worker, agents in zip(workers, shards(n_agents, weights, limits), strict=True):
            worker.agents = agents

    def _grow(self, n_agents: int) -> None:
        if (missing := self.workers_for(n_agents) - len(self._crew.workers)) > 0:
            self._joining.join(self._places[0], missing)

    def _keep(self, worker: Worker, frame: Sequence[Any]) -> None:
        if frame[0] == "answers":
            self._kept += [KeptAnswer(*answer) for answer in frame[1]]


def _limits(host: Host) -> str:
    facts = host.facts
    return (
        f"{host.name} ({facts.descriptors} open files in each of {len(host.workers)} load workers, {facts.ports} "
        "local ports)"
    )
