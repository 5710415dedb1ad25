"""All checks of one deployment before anything is spent on it, the cheapest first, all told together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.config.secrets import secrets_of, too_short
from pytest_agentperf.core.checks import Check, failed, failures, ok, skipped, warning
from pytest_agentperf.core.errors import AgentPerfError, ConfigError, DatasetError, EndpointError, LoadError
from pytest_agentperf.core.redact import SECRET_MIN_CHARS, redact
from pytest_agentperf.dataset.default import is_to_be_made
from pytest_agentperf.deploy.preflight import Wanted, check_endpoint
from pytest_agentperf.load.bodies import BodyBuilder, BodyRules, common_fields
from pytest_agentperf.load.host_checks import check_host
from pytest_agentperf.load.hosts import host_doubts, host_text
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.load.segments import Segments
from pytest_agentperf.load.sse import decode
from pytest_agentperf.power.preflight import check_metering

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.client_error import Calibration
    from pytest_agentperf.core.ports import BlockingClock, LoadPool, Server
    from pytest_agentperf.encoding import EncodedDataset
    from pytest_agentperf.power.metering import Metering
    from pytest_agentperf.verify.counters import Counters


class Preflight:
    """Checks a deployment step by step, and keeps what was found."""

    def __init__(
        self,
        settings: RunSettings,
        deployment: str,
        model: str,
        headers: Mapping[str, str],
        clock: BlockingClock,
    ) -> None:
        self.checks: list[Check] = []
        self.fatal: AgentPerfError | None = None
        """What leaves nothing to run, forced or not."""
        self._settings = settings
        self._name = deployment
        self._deployment = settings.system.deployments[deployment]
        self._model = model
        self._headers = headers
        self._clock = clock
        self._context_tokens: int | None = None

    @property
    def failed(self) -> bool:
        """Whether a run could not be valid."""
        return bool(failures(self.checks))

    def host(self) -> None:
        """Check this machine."""
        expected = [
            count
            for tier in self._settings.selected
            if (found := self._settings.deployment_for(tier)) and found[0] == self._name
            if (count := self._settings.expected_agents(tier)) is not None
        ]
        starts = (self._settings.start, self._deployment.search_start)
        agents = max([*expected, *(start for start in starts if start)], default=None)
        self._note(*check_host(workers=self._settings.workers, agents=agents))

    def secrets(self) -> None:
        """See that secrets can be told from words, so that they can be taken out of what is written."""
        if short := too_short(self._deployment):
            self._note(
                warning(
                    "secrets",
                    f"{', '.join(short)}: too short to be told from a word, and left in all that repeats it",
                    f"use one of {SECRET_MIN_CHARS} or more characters; "
                    "for a server that asks for none, remove api_key_env",
                )
            )

    def endpoint(self, server: Server) -> None:
        """Start the server, or see that it is there, and ask it for what a run will ask."""
        suite, rules = self._settings.suite, self._settings.ruleset
        try:
            server.start()
        except EndpointError as error:
            self.fatal = error
            self._note(failed("endpoint", _text(error), error.remedy))
            return
        framework = self._deployment.serving.framework
        parameters = suite.request_parameters(framework)
        wanted = Wanted(
            url=server.url,
            headers=self._headers,
            model=self._model,
            framework=framework,
            fields=common_fields(parameters),
            effort=tuple(name for name in parameters if name not in suite.sampling.parameters),
            max_tokens=rules.max_tokens,
            exact=rules.output_length == "exact",
            isolation_max=rules.isolation_cached_tokens_max,
            nonce=self._settings.nonce,
            ca_file=self._deployment.endpoint.ca_file,
        )
        found = check_endpoint(wanted, decode, self._clock.sleep)
        self._context_tokens = found.context_tokens
        self._note(*found.checks)

    def power(self, metering: Metering) -> bool:
        """Open the meters; returns whether they can be used."""
        found = check_metering(
            metering,
            accelerators=self._deployment.allocated_accelerators,
            interval_s=getattr(self._deployment.power, "interval_s", 0.0),
            clock=self._clock,
        )
        self._note(found)
        return found.status != "failed"

    def tokens(self, counters: Counters) -> None:
        """Tell what the server's token counts will be held against."""
        self._note(counters.check)

    def dataset(self, encode: Callable[[], EncodedDataset]) -> EncodedDataset | None:
        """Read and encode the dataset, which takes its time: not if there is no use in it yet."""
        slow = is_to_be_made(self._settings.dataset_path)
        if self.fatal is not None or (self.failed and slow and not self._settings.force):
            why = "what failed above comes first" + (
                ": the dataset must be made, which takes minutes" if slow else ""
            )
            self._note(*(skipped(name, why) for name in ("dataset", "context", "load generator")))
            return None
        try:
            dataset = encode()
            # Refuses a dataset without recorded lengths where answers are to be as long as recorded.
            rules = BodyRules(
                self._model, {}, self._settings.ruleset.max_tokens, self._settings.ruleset.output_length
            )
            BodyBuilder(Segments(dataset.folder), rules)
        except (DatasetError, LoadError, ConfigError) as error:
            self.fatal = error
            self._note(failed("dataset", _text(error), error.remedy))
            self._note(*(skipped(name, "there is no dataset") for name in ("context", "load generator")))
            return None
        prepared = dataset.prepared
        official = prepared.digest == self._settings.ruleset.dataset_digest
        what = f"{prepared.name}, {len(prepared.ids):,} trajectories"
        if official:
            self._note(ok("dataset", what))
        else:
            self._note(
                warning("dataset", f"{what}: not the one that {self._settings.ruleset.id} names, a deviation")
            )
        self._context(prepared.longest_prompt_tokens)
        return dataset

    def _context(self, longest: int) -> None:
        # The prefix is of 128 hex characters, at most a token each.
        needed = longest + 128 + self._settings.ruleset.max_tokens
        request = f"the longest request needs {needed:,} tokens with its answer"
        if self._context_tokens is None:
            found = warning(
                "context",
                f"the server does not declare its context; {request}",
                "see that its context length allows it: there are servers that die of a longer prompt",
            )
        elif self._context_tokens < needed:
            found = failed(
                "context",
                f"the server declares {self._context_tokens:,} tokens; {request}",
                "start the server with a longer context, or set the suite's max_context_tokens to the server's",
            )
        else:
            found = ok("context", f"the server declares {self._context_tokens:,} tokens; {request}")
        self._note(found)

    def load_hosts(self, join: Callable[[], LoadPool]) -> bool:
        """Let the load hosts that the run names join, and see whether each reaches the endpoint."""
        try:
            pool = join()
            assert isinstance(pool, WorkerPool)
            away = pool.unreachable()
        except LoadError as error:
            self._note(failed("load hosts", _text(error), error.remedy))
            return False
        for host in pool.hosts:
            name = f"load host {host.name}"
            if host.name in away:
                self._note(
                    failed(
                        name,
                        f"does not reach the endpoint: {away[host.name]}",
                        "give the endpoint an address that every load host reaches, and let its port through",
                    )
                )
            else:
                self._note(*(host_doubts(host, self._settings.ruleset) or [ok(name, host_text(host))]))
        return not away

    def load_generator(self, calibrate: Callable[[], Calibration | None]) -> None:
        """Calibrate at a small load."""
        try:
            made = calibrate()
        except LoadError as error:
            self._note(failed("load generator", _text(error), error.remedy))
            return
        if made is None:
            return
        said = (
            f"adds {made.ttft_error_p99_s * 1e3:.1f} ms to TTFT at P99, {made.speed_error_p99:.2%} to speed, "
            f"with {made.n_agents} agents"
        )
        self._note(
            ok("load generator", said)
            if made.reached
            else warning(
                "load generator",
                f"{said}, whom null servers sent {made.chunks_per_s_reached:,.0f} of {made.chunks_per_s:,.0f} chunks/s",
                "leave the load hosts a free core each: the client's share of a phase's times rests on its lag alone",
            )
        )

    def _note(self, *checks: Check) -> None:
        """Keep checks, without the secrets that servers and exporters quote when they refuse a request."""
        secrets = secrets_of(self._settings.system).values()
        for check in checks:
            remedy = None if check.remedy is None else redact(check.remedy, secrets)
            self.checks.append(
                check.model_copy(update={"what": redact(check.what, secrets), "remedy": remedy})
            )


def _text(error: AgentPerfError) -> str:
    return f"{error.where}: {error.what}" if error.where else error.what
