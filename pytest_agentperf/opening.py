"""Opens the deployments of a real run: servers over HTTP, load workers in processes, power from its source."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pytest_agentperf.calibration import calibrate
from pytest_agentperf.config.launch import LaunchEnvironment
from pytest_agentperf.config.run import NotConfigured, RunSettings, resolve_endpoint
from pytest_agentperf.config.secrets import secrets_of
from pytest_agentperf.core.checks import failures, preflight_error
from pytest_agentperf.core.redact import Masked
from pytest_agentperf.deploy.asking import Asker
from pytest_agentperf.deploy.launch import LaunchedServer
from pytest_agentperf.deploy.metrics_page import MetricsReader, requests_in_flight
from pytest_agentperf.deploy.probe import post
from pytest_agentperf.deploy.server import AttachedServer
from pytest_agentperf.deploy.server_log import shown_lines
from pytest_agentperf.deploy.server_metrics import ScrapedMetrics
from pytest_agentperf.deployed import Deployed
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.load.bodies import BodyRules, common_fields
from pytest_agentperf.load.hosts import LoadHosts
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.load.segments import Segments
from pytest_agentperf.load.sse import decode
from pytest_agentperf.power.metering import Metering
from pytest_agentperf.power.none import NoPowerSampler
from pytest_agentperf.power.open import open_sampler
from pytest_agentperf.preflight import Preflight
from pytest_agentperf.sim.process import SimServer
from pytest_agentperf.tls import ssl_context
from pytest_agentperf.verification import TokenCheck
from pytest_agentperf.verify.counters import open_counters, simulated_counters
from pytest_agentperf.verify.tokens import local_folder
from pytest_agentperf.worker import RequestRules, WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_agentperf.config.engine import EngineConfig
    from pytest_agentperf.core.checks import Check
    from pytest_agentperf.core.client_error import Calibration
    from pytest_agentperf.core.errors import AgentPerfError
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.verify.counters import Counters

# So long the phase is not looked after, as its own process waits for the answer.
_BESIDE_THE_LOAD_S = 5.0


class NotRunnable(Exception):
    """The system cannot be measured here; the text says which variable or key to set."""


class LaunchedSim:
    """The built-in simulated server as a `Server`, in a process of its own."""

    simulated = True

    def __init__(self, engine: EngineConfig, model: str) -> None:
        self._process = SimServer(engine, model=model)

    @property
    def url(self) -> str:
        """Return the base URL of the running process."""
        return self._process.url

    def start(self) -> None:
        """Launch the process."""
        self._process.start()

    def state(self) -> Literal["alive", "dead", "unreachable"]:
        """Say whether the process runs."""
        return "alive" if self._process.alive() else "dead"

    def revive(self, patience_s: float) -> None:
        """Launch it anew."""
        self._process.stop()
        self._process.start()

    def requests_in_flight(self) -> float | None:
        """Return running and waiting requests."""
        return requests_in_flight(self.open_metrics())

    def open_metrics(self) -> MetricsReader:
        """Return a reader of its metrics."""
        return MetricsReader(self.url, {})

    def reset(self, paths: Sequence[str]) -> None:
        """POST to paths of the server."""
        for path in paths:
            post(self.url, path, {})

    def log_tail(self) -> tuple[str, ...]:
        """Return the last lines of its stderr."""
        return tuple(shown_lines(self._process.stderr()))

    def stop(self) -> None:
        """End the process."""
        self._process.stop()


def open_deployment(
    name: str,
    settings: RunSettings,
    encode: Callable[[], EncodedDataset],
    clock: BlockingClock,
    *,
    hosts: LoadHosts,
    logs: Callable[[], Path] | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Deployed:
    """Start or attach to a deployment's server and check it; raises NotRunnable and every AgentPerfError.

    `encode` returns the dataset, and is called once the deployment is known to be runnable here: it takes its time.
    `hosts` generate the load. `logs()` returns the folder for the logs of a server that is launched; `on_progress` is
    told how its start goes.
    """
    opening = Opening(name, settings, clock, hosts=hosts, logs=logs, on_progress=on_progress)
    try:
        deployed = opening.check(encode)
        checks = opening.checks
        if deployed is None or (failures(checks) and not settings.force):
            if opening.fatal is not None and len(failures(checks)) == 1:
                raise opening.fatal
            raise preflight_error(checks, where=name)
    except BaseException:
        opening.close()
        raise
    return deployed


def opener(
    settings: RunSettings,
    *,
    logs: Callable[[], Path] | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Callable[[str, RunSettings, Callable[[], Any], Any], Deployed]:
    """Return how a run opens its deployments: they have the same load hosts, and know which of them were lost."""
    hosts = load_hosts_of(settings, on_progress)
    return partial(open_deployment, hosts=hosts, logs=logs, on_progress=on_progress)


def load_hosts_of(settings: RunSettings, on_wait: Callable[[str], None] = lambda text: None) -> LoadHosts:
    """Return the load hosts that a run names, this machine if none."""
    return LoadHosts(settings.load, fewer_allowed=settings.ruleset.fewer_load_hosts, on_wait=on_wait)


class Opening:
    """A deployment between its YAML and its first phase."""

    def __init__(
        self,
        name: str,
        settings: RunSettings,
        clock: BlockingClock,
        *,
        hosts: LoadHosts,
        logs: Callable[[], Path] | None = None,
        on_progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Look up its endpoint; raises NotRunnable, ConfigError."""
        self.name = name
        self._settings = settings
        self._config = settings.system.deployments[name]
        self._clock = clock
        endpoint = resolve_endpoint(
            self._config.endpoint, where=f"{settings.system_path} (deployments.{name})"
        )
        if isinstance(endpoint, NotConfigured):
            raise NotRunnable(endpoint.reason)
        # A file that cannot be read is told now, and not as a server's failure.
        ssl_context(self._config.endpoint.ca_file)
        self._headers = endpoint.headers
        self._model = self._config.endpoint.model or settings.suite.model
        self._parameters = settings.suite.request_parameters(self._config.serving.framework)
        self._server = self._make_server(endpoint.url, logs, on_progress)
        self._preflight = Preflight(settings, name, self._model, self._headers, clock)
        self._hosts = hosts
        self._metering: Metering | None = None
        self._deployed: Deployed | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        """Return what was found so far."""
        return tuple(self._preflight.checks)

    @property
    def fatal(self) -> AgentPerfError | None:
        """Return the error that leaves nothing to run."""
        return self._preflight.fatal

    def check(self, encode: Callable[[], EncodedDataset]) -> Deployed | None:
        """Make all checks, the cheapest first; returns the deployment, None if there is nothing to run."""
        preflight = self._preflight
        preflight.host()
        preflight.secrets()
        preflight.endpoint(self._server)
        if preflight.fatal is None:
            self._metering = self._open_metering()
            if not preflight.power(self._metering):
                # Forced, the run goes on without: better no watts than wrong ones.
                self._metering = self._no_metering()
                self._metering.open()
        counters = self._counters()
        preflight.tokens(counters)
        dataset = preflight.dataset(encode)
        if dataset is None or preflight.fatal is not None:
            return None
        self._deployed = self._compose(dataset, counters)
        if not self._settings.load or preflight.load_hosts(self._deployed.workers):
            preflight.load_generator(self._deployed.calibrate)
        self._deployed.checks = self.checks
        return self._deployed

    def close(self) -> None:
        """End what was begun."""
        if self._deployed is not None:
            self._deployed.close()
            return
        if self._metering is not None:
            self._metering.close()
        self._server.stop()

    def _make_server(
        self, url: str | None, logs: Callable[[], Path] | None, on_progress: Callable[[str], None]
    ) -> LaunchedSim | AttachedServer:
        config = self._config
        if config.launch is not None:
            assert url is not None
            place = self._settings.system_path
            environment = LaunchEnvironment.read(config.launch)
            if environment.missing:
                raise NotRunnable(f"`launch:` of {place} needs {', '.join(environment.missing)} to be set")
            return LaunchedServer(
                self.name,
                config.launch,
                environment,
                url,
                self._headers,
                self._model,
                self._clock,
                directory=place.absolute().parent,
                logs=logs,
                metrics_urls=config.metrics_urls,
                ca_file=config.endpoint.ca_file,
                on_progress=on_progress,
            )
        if url is not None:
            return AttachedServer(
                url, self._headers, self._clock, config.metrics_urls, ca_file=config.endpoint.ca_file
            )
        assert config.simulate is not None
        engine = config.simulate.model_copy(update={"accelerators": config.allocated_accelerators})
        return LaunchedSim(engine, self._model)

    def _counters(self) -> Counters:
        suite = self._settings.suite
        if self._server.simulated:
            return simulated_counters(suite.tokenizer)
        exact = self._settings.ruleset.output_length == "exact"
        return open_counters(suite.tokenizer, self._parameters, exact=exact)

    def _compose(self, dataset: EncodedDataset, counters: Counters) -> Deployed:
        settings, server = self._settings, self._server
        return Deployed(
            self.name,
            settings,
            server=server,
            open_pool=partial(self._open_pool, dataset),
            open_metering=self._open_metering,
            metering=self._metering,
            trajectories=dataset.prepared.ids,
            turn_loads=lambda: dataset.turn_loads,
            clock=self._clock,
            server_metrics=ScrapedMetrics(server.open_metrics),
            calibrate=partial(_calibrate, dataset.prepared.ids, settings.ruleset.calibration_s),
            answer_check=TokenCheck(
                Segments(dataset.folder),
                BodyRules(
                    self._model, self._parameters, settings.ruleset.max_tokens, settings.ruleset.output_length
                ),
                settings.ruleset,
                counters,
            ),
            ask=self._ask,
            still_works=self._still_works,
            refuses=self._refuses,
        )

    def _ask(self, body: Mapping[str, Any]) -> bytes | None:
        patience_s = self._settings.ruleset.request_timeout_s
        with Asker(
            self._server.url,
            self._headers,
            decode,
            ca_file=self._config.endpoint.ca_file,
            patience_s=patience_s,
        ) as asker:
            found = asker.ask(body)
        return found.body if found.status == 200 and not found.cut else None

    def _still_works(self) -> bool:
        """Ask for a short answer; a refusal, of a spent quota for instance, is one."""
        status = self._status_of_an_answer()
        return status is not None and status < 500

    def _refuses(self) -> bool:
        status = self._status_of_an_answer(_BESIDE_THE_LOAD_S)
        return status is not None and status >= 500

    def _status_of_an_answer(self, patience_s: float | None = None) -> int | None:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": "Say hello."}],
            **common_fields(self._parameters),
            "max_tokens": 16,
        }
        with Asker(
            self._server.url,
            self._headers,
            decode,
            ca_file=self._config.endpoint.ca_file,
            patience_s=patience_s,
        ) as asker:
            return asker.ask(body).status

    def _open_pool(self, dataset: EncodedDataset) -> WorkerPool:
        worker = WorkerConfig(
            url=self._server.url,
            headers=dict(self._headers),
            ca_file=self._config.endpoint.ca_file,
            secrets=tuple(secrets_of(self._settings.system).values()),
            model=self._model,
            parameters=self._parameters,
            segments=str(dataset.folder),
            rules=RequestRules.of(self._settings.ruleset),
            tokenizer=None if self._server.simulated else local_folder(self._settings.suite.tokenizer),
        )
        return WorkerPool(
            Masked(worker.to_wire()),
            workers=self._settings.workers,
            # A server that is faster than its target has fewer agents than it could carry.
            chunks_per_agent_s=max(tier.output_speed_p25_tok_s for tier in self._settings.tiers.values()),
            hosts=self._hosts,
        )

    def _open_metering(self) -> Metering:
        accelerators = self._config.allocated_accelerators
        first, *others = [
            open_sampler(source, accelerators=accelerators, url=self._server.url)
            for source in (self._config.power, *self._config.facility)
        ]
        return Metering(first, others, n_accelerators=accelerators)

    def _no_metering(self) -> Metering:
        return Metering(NoPowerSampler(), n_accelerators=self._config.allocated_accelerators)


def _calibrate(
    trajectories: Sequence[str], hold_s: float, pool: WorkerPool, n_agents: int, chunks_per_s: float
) -> Calibration:
    return calibrate(pool, trajectories, n_agents=n_agents, chunks_per_s=chunks_per_s, hold_s=hold_s)


def encoded_dataset(settings: RunSettings, on_progress: Callable[[int, int], None]) -> EncodedDataset:
    """Encode the run's dataset; raises DatasetError and LoadError."""
    return EncodedDataset(
        settings.dataset_path,
        max_prompt_tokens=max_prompt_tokens(settings),
        history_reasoning=settings.suite.history_reasoning,
        on_progress=on_progress,
    )


def max_prompt_tokens(settings: RunSettings) -> int:
    """Return where trajectories are cut: context − max_tokens − isolation prefix (at most a token a character)."""
    return settings.suite.max_context_tokens - settings.ruleset.max_tokens - 128
