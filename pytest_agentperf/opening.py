"""Opens the deployments of a real run: servers over HTTP, load workers in processes, power from its source."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from pytest_agentperf.calibration import calibrate
from pytest_agentperf.config.run import NotConfigured, RunSettings, resolve_endpoint
from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.core.records import RequestKey
from pytest_agentperf.core.redact import Masked, redact
from pytest_agentperf.deploy.metrics_page import MetricsReader, requests_in_flight
from pytest_agentperf.deploy.probe import ask_once, check_endpoint
from pytest_agentperf.deploy.server import AttachedServer
from pytest_agentperf.deploy.server_metrics import ScrapedMetrics
from pytest_agentperf.deployed import Deployed
from pytest_agentperf.load.bodies import BodyBuilder, BodyRules
from pytest_agentperf.load.pool import LocalPool
from pytest_agentperf.load.segments import Segments
from pytest_agentperf.power.metering import Metering
from pytest_agentperf.power.open import open_sampler
from pytest_agentperf.sim.process import SimServer
from pytest_agentperf.verification import TokenCheck
from pytest_agentperf.worker import WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_agentperf.config.engine import EngineConfig
    from pytest_agentperf.core.client_error import Calibration
    from pytest_agentperf.core.ports import BlockingClock, LoadPool, Server
    from pytest_agentperf.encoding import EncodedDataset

_PREFLIGHT_TOKENS = 16


class NotRunnable(Exception):
    """The system cannot be measured here; the text says which variable or key to set."""


class LaunchedSim:
    """The built-in simulated server as a `Server`, in a process of its own."""

    simulated = True

    def __init__(self, engine: EngineConfig, model: str) -> None:
        self._process = SimServer(engine, model=model)
        self._model = model

    @property
    def url(self) -> str:
        """Return the base URL of the running process."""
        return self._process.url

    def start(self) -> None:
        """Launch the process."""
        self._process.start()
        check_endpoint(self.url, {}, self._model)

    def ask_once(self, body: bytes) -> bytes:
        """Send one chat completion."""
        return ask_once(self.url, {}, body)

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

    def stop(self) -> None:
        """End the process."""
        self._process.stop()


def open_deployment(
    name: str, settings: RunSettings, encode: Callable[[], EncodedDataset], clock: BlockingClock
) -> Deployed:
    """Start or attach to a deployment's server and check it; raises NotRunnable and every AgentPerfError.

    `encode` returns the dataset, and is called once the deployment is known to be runnable here: it takes its time.
    """
    config = settings.system.deployments[name]
    endpoint = resolve_endpoint(config.endpoint, where=f"{settings.system_path} (deployments.{name})")
    if isinstance(endpoint, NotConfigured):
        raise NotRunnable(endpoint.reason)
    headers = endpoint.headers
    model = config.endpoint.model or settings.suite.model
    parameters = settings.suite.request_parameters(config.serving.framework)
    dataset = encode()
    first_body = _first_body(dataset, settings, model, parameters)
    server: LaunchedSim | AttachedServer
    if endpoint.url is None:
        assert config.simulate is not None
        engine = config.simulate.model_copy(update={"accelerators": config.allocated_accelerators})
        server = LaunchedSim(engine, model)
    else:
        server = AttachedServer(endpoint.url, headers, model, clock, config.metrics_urls)

    def open_pool() -> LoadPool:
        worker = WorkerConfig(
            url=server.url,
            headers=dict(headers),
            model=model,
            parameters=parameters,
            segments=str(dataset.folder),
            ruleset=settings.ruleset,
            tokenizer=None if server.simulated else settings.suite.tokenizer,
        )
        return LocalPool(
            Masked(worker.model_dump()),
            workers=settings.workers,
            # A server that is faster than its target has fewer agents than it could carry.
            chunks_per_agent_s=max(tier.output_speed_p25_tok_s for tier in settings.tiers.values()),
        )

    def open_metering() -> Metering:
        accelerators = config.allocated_accelerators
        first, *others = [
            open_sampler(source, accelerators=accelerators, url=server.url)
            for source in (config.power, *config.facility)
        ]
        return Metering(first, others, n_accelerators=accelerators)

    deployed = Deployed(
        name,
        settings,
        server=server,
        open_pool=open_pool,
        open_metering=open_metering,
        trajectories=dataset.prepared.ids,
        clock=clock,
        server_metrics=ScrapedMetrics(lambda: server.open_metrics()),
        calibrate=partial(_calibrate, dataset.prepared.ids, settings.ruleset.calibration_s),
        answer_check=TokenCheck(
            Segments(dataset.folder),
            BodyRules(model, parameters, settings.ruleset.max_tokens, settings.ruleset.output_length),
            settings.ruleset,
            tokenizer=settings.suite.tokenizer,
            unverifiable=_unverifiable(server, settings),
        ),
    )
    try:
        server.start()
        deployed.open_power()
        deployed.preflight(first_body)
        deployed.calibrate()
    except EndpointError as error:
        deployed.close()
        # There are servers that quote the key when they refuse a request.
        raise EndpointError(
            redact(error.what, headers.values()), where=error.where, remedy=error.remedy
        ) from None
    except BaseException:
        deployed.close()
        raise
    return deployed


def _unverifiable(server: Server, settings: RunSettings) -> str | None:
    """Return why no text tells how many tokens an answer has."""
    if server.simulated:
        return "simulated answers are of no model's tokens"
    if settings.ruleset.output_length == "exact":
        return "answers that are forced to a length go on behind their ends, where their text shows nothing"
    return None


def _calibrate(
    trajectories: Sequence[str], hold_s: float, pool: LocalPool, n_agents: int, chunks_per_s: float
) -> Calibration:
    return calibrate(pool, trajectories, n_agents=n_agents, chunks_per_s=chunks_per_s, hold_s=hold_s)


def max_prompt_tokens(settings: RunSettings) -> int:
    """Return where trajectories are cut: context − max_tokens − isolation prefix (at most a token a character)."""
    return settings.suite.max_context_tokens - settings.ruleset.max_tokens - 128


def _first_body(
    dataset: EncodedDataset, settings: RunSettings, model: str, parameters: Mapping[str, object]
) -> bytes:
    """Return a request like those to come, but short; raises DatasetError if the rules ask for what it has not."""
    max_tokens = min(_PREFLIGHT_TOKENS, settings.ruleset.max_tokens)
    rules = BodyRules(model, parameters, max_tokens, settings.ruleset.output_length)
    key = RequestKey(phase=-1, attempt=0, agent=0, ordinal=0, trajectory=dataset.prepared.ids[0], turn=0)
    return BodyBuilder(Segments(dataset.folder), rules, settings.nonce).build(key)
