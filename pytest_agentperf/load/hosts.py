"""Which hosts carry the load of a run: they join, are found fit, and get the files that they need."""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentperf import __version__
from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.checks import Check, failed, warning
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.redact import Masked
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.load.crew import Host
from pytest_agentperf.load.gateway_place import GatewayPlace
from pytest_agentperf.load.host_facts import HostFacts, host_id
from pytest_agentperf.load.limits import agents_within
from pytest_agentperf.load.parcel import Parcel
from pytest_agentperf.software import software_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_agentperf.config.load_spec import LoadSpec
    from pytest_agentperf.core.ruleset import Ruleset
    from pytest_agentperf.load.crew import Crew, Worker
    from pytest_agentperf.load.place import Place

# A worker imports the package, and may load a tokenizer.
READY_TIMEOUT_S = 120.0
# Longer than the controller is ever busy with one thing, and shorter than anybody waits for a host to be free again.
ALONE_S = 60.0
_FAST_TOKENIZER = "tokenizer.json"
# What other tokenizers are made of, under names that every kind has of its own; of a model's folder never the weights.
_SLOW_TOKENIZER = frozenset({".json", ".txt", ".model", ".bpe", ".tiktoken", ".jinja"})
_INDEX_OF_WEIGHTS = ".index.json"


def open_place(spec: LoadSpec) -> Place:
    """Return the place that a line names; raises ConfigError, LoadError."""
    if spec.kind == "ray":
        from pytest_agentperf.load.ray_place import RayPlace

        return RayPlace(spec)
    return GatewayPlace(spec)


class LoadHosts:
    """The places of a run, over all its pools."""

    def __init__(
        self,
        specs: Sequence[LoadSpec] = (),
        *,
        fewer_allowed: bool = False,
        on_wait: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Without `specs`: this machine, with as many workers as are needed.

        `fewer_allowed`: once all have joined, a host that is lost later is done without. `on_wait(text)` is told what
        takes its time.
        """
        self.specs = tuple(specs)
        self.fewer_allowed = fewer_allowed
        self.on_wait = on_wait
        self.run = secrets.token_hex(16)
        """Names the run to the hosts, in all its pools."""
        self.complete = False
        """Whether all of them have joined once."""
        self.quiet_from_ns = 0
        """When workers that were given up have certainly ended, and with them their load."""

    def wait_for_quiet(self) -> None:
        """Wait until nobody else loads the server for this run: workers behind a cut network end when alone."""
        if (left_ns := self.quiet_from_ns - monotonic_ns()) > 0:
            self.on_wait(f"load hosts: {left_ns / NS_PER_S:.0f} s until workers that were lost have ended")
            threading.Event().wait(left_ns / NS_PER_S)


class Joining:
    """Brings the workers of places into a crew."""

    def __init__(self, crew: Crew, config: Mapping[str, Any]) -> None:
        """`config`: what `worker.serve` takes, with the paths of this machine."""
        self._crew = crew
        self._config = Masked(config)
        self._hosts: dict[str, Host] = {}
        self._counts_with: dict[Worker, str | None] = {}
        self._parcels: dict[str, tuple[Parcel, str | None]] | None = None

    @property
    def hosts(self) -> list[Host]:
        """Return the hosts whose workers have joined."""
        return list(self._hosts.values())

    def join(self, place: Place, count: int, *, folder: str = "", fewer: bool = False) -> int:
        """Start workers, make them ready, and return how many; raises LoadError, and then leaves none of them behind.

        `folder`: where the host keeps what it is sent, empty for its own cache; `fewer`: of a cluster, those that
        start will do.
        """
        workers = self._crew.open(place, count, fewer=fewer)
        try:
            for worker in workers:
                self._crew.send(worker, "hello", ALONE_S if place.remote else 0.0)
            for worker, (_, facts) in self._crew.gather(workers, "host", READY_TIMEOUT_S):
                self._admit(worker, HostFacts.from_wire(facts))
            configs = self._equip(workers, folder) if place.remote else {}
            for worker in workers:
                assert worker.host is not None
                self._crew.send(worker, "config", configs.get(worker.host.facts.id, self._config))
            for worker, (_, *told) in self._crew.gather(workers, "ready", READY_TIMEOUT_S):
                self._check_counter(worker, *told)
        except BaseException:
            self._crew.dismiss(workers)
            self._forget(workers)
            raise
        return len(workers)

    def _admit(self, worker: Worker, facts: HostFacts) -> None:
        """Check what a worker runs: other code could measure something else."""
        if (facts.version, facts.code) != (__version__, software_digest()):
            other = facts.version if facts.version != __version__ else f"an edited copy of {facts.version}"
            raise LoadError(
                f"it runs {other}, and this machine {__version__} ({software_digest()[:8]})",
                where=f"load host {facts.name}",
                remedy=f"install the same there: pip install pytest-agentperf=={__version__}",
            )
        # What is on this machine has its clock, however it was reached.
        remote = worker.place.remote and facts.id != host_id()
        host = self._hosts.setdefault(facts.id, Host(facts, remote))
        host.workers.append(worker)
        worker.host = host

    def _check_counter(self, worker: Worker, counts_with: str | None = None) -> None:
        """Refuse a worker that counts otherwise than the others: output speeds of one phase would be of two kinds."""
        for other, known in self._counts_with.items():
            if known != counts_with:
                lacking = other if known is None else worker
                assert lacking.host is not None
                raise LoadError(
                    f"{worker.label} counts {_counting(counts_with)}, {other.label} {_counting(known)}",
                    remedy=f"pip install 'pytest-agentperf[tokenizers]' on {lacking.host.name}, in the same version",
                )
        self._counts_with[worker] = counts_with

    def _equip(self, workers: Iterable[Worker], folder: str) -> dict[str, Masked[Any]]:
        """Return each host's configuration, once it has all files; one worker takes them for all of its host."""
        first: dict[str, Worker] = {}
        for worker in workers:
            assert worker.host is not None
            first.setdefault(worker.host.facts.id, worker)
        configs = {host: Masked(self._config) for host in first}
        for key, (parcel, file) in self._to_send().items():
            for host, path in self._send(parcel, first, folder).items():
                configs[host][key] = path if file is None else os.path.join(path, file)  # noqa: PTH118 - a path there
        return configs

    def _to_send(self) -> dict[str, tuple[Parcel, str | None]]:
        """Return what of the configuration names files of this machine: which, and the file meant if it is one."""
        if self._parcels is None:
            segments = Path(self._config["segments"])
            self._parcels = {"segments": (Parcel({path.name: path for path in segments.iterdir()}), None)}
            if (ca_file := self._config.get("ca_file")) is not None:
                self._parcels["ca_file"] = (Parcel({"authorities.pem": Path(ca_file)}), "authorities.pem")
            tokenizer = self._config.get("tokenizer")
            if tokenizer is not None and Path(tokenizer).is_dir():
                self._parcels["tokenizer"] = (Parcel(_tokenizer_files(Path(tokenizer))), None)
        return self._parcels

    def _send(self, parcel: Parcel, first: Mapping[str, Worker], folder: str) -> dict[str, str]:
        crew, takers = self._crew, list(first.values())
        found: dict[Worker, str | None] = {}
        # One after the other where they may share a folder, so that it is sent there once.
        for group in [[worker] for worker in takers] if folder else [takers]:
            for worker in group:
                crew.send(worker, "wanted", parcel.digest, folder)
            found |= {worker: path for worker, (_, path) in crew.gather(group, "kept", READY_TIMEOUT_S)}
            lacking = [worker for worker in group if found[worker] is None]
            for part in parcel.parts() if lacking else ():
                for worker in lacking:
                    crew.send(worker, *part)
                crew.gather(lacking, "got", READY_TIMEOUT_S)
            for worker in lacking:
                crew.send(worker, "whole")
            found |= {worker: path for worker, (_, path) in crew.gather(lacking, "kept", READY_TIMEOUT_S)}
        return {host: str(found[worker]) for host, worker in first.items()}

    def _forget(self, workers: Iterable[Worker]) -> None:
        gone = set(workers)
        self._counts_with = {worker: kind for worker, kind in self._counts_with.items() if worker not in gone}
        for id_, host in list(self._hosts.items()):
            host.workers = [worker for worker in host.workers if worker not in gone]
            if not host.workers:
                del self._hosts[id_]


def _tokenizer_files(folder: Path) -> dict[str, Path]:
    """Return what a host needs to count as this machine does."""
    if (fast := folder / _FAST_TOKENIZER).is_file():
        return {fast.name: fast}
    return {
        path.name: path
        for path in folder.iterdir()
        if path.suffix in _SLOW_TOKENIZER and not path.name.endswith(_INDEX_OF_WEIGHTS) and path.is_file()
    }


def _counting(kind: str | None) -> str:
    return "no tokens" if kind is None else f"tokens with {kind}"


def reach(host: Host) -> int:
    """Return how many agents a host's limits carry."""
    return agents_within(host.facts.descriptors, len(host.workers), host.facts.ports)


def weight(host: Host) -> float:
    """Return what one of a host's workers carries, against those of other hosts."""
    return host.facts.chunks_per_core_s * min(1.0, host.facts.cores / len(host.workers))


def host_text(host: Host) -> str:
    """Return a host in a line."""
    facts, clock = host.facts, host.clock
    return (
        f"{len(host.workers)} workers on {facts.cores} cores, Python {facts.python}, up to {reach(host):,} agents"
        + (
            f"; {clock.round_trip_ns / 1e6:.1f} ms away, its clock known to {clock.bound_ns / 1e6:.2f} ms"
            if host.remote
            else ""
        )
    )


def host_doubts(host: Host, rules: Ruleset) -> list[Check]:
    """Return what of a host stands in the way of a valid run, or may."""
    found, name = [], f"load host {host.name}"
    if len(host.workers) > host.facts.cores:
        found.append(
            warning(
                name,
                f"{len(host.workers)} workers on {host.facts.cores} cores",
                "name one worker a core at most, and leave the controller's host one",
            )
        )
    if host.clock.bound_ns > rules.clock_error_max_s * NS_PER_S:
        found.append(
            failed(
                name,
                f"its clock is known to {host.clock.bound_ns / 1e6:.0f} ms only (limit "
                f"{rules.clock_error_max_s * 1e3:.0f} ms)",
                "use hosts that are nearer, and let their clocks be disciplined (chrony, ntpd)",
            )
        )
    return found
