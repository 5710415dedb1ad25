"""What a load worker is composed of; a `load.place` starts it, here or on another host.

Without pydantic, which would take a third of its start: it is told plain values by a controller of the same version.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self

from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.load.address import unreachable
from pytest_agentperf.load.bodies import BodyBuilder, BodyRules
from pytest_agentperf.load.client import HttpClient, Target, Timeouts
from pytest_agentperf.load.host_lock import HostLock
from pytest_agentperf.load.joining import JoiningChannel, join
from pytest_agentperf.load.segments import Segments
from pytest_agentperf.load.worker import Channel, error_text, run_worker
from pytest_agentperf.sim.null import null_servers
from pytest_agentperf.verify.tokens import counter_kind, load_counter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_agentperf.core.ports import TokenCounter
    from pytest_agentperf.core.ruleset import Ruleset
    from pytest_agentperf.load.keeping import AnswerKeeper
    from pytest_agentperf.load.loop import Loop
    from pytest_agentperf.sim.null import Notes, NullServers


class RequestRules(NamedTuple):
    """What of a ruleset a request knows."""

    max_tokens: int
    output_length: Literal["natural", "exact"]
    connect_timeout_s: float
    first_token_timeout_s: float
    stall_timeout_s: float
    request_timeout_s: float

    @classmethod
    def of(cls, ruleset: Ruleset) -> RequestRules:
        """Return those of a ruleset."""
        return cls(**{name: getattr(ruleset, name) for name in cls._fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Everything a worker needs; sent over the channel as plain values (never on a command line: it has a key)."""

    url: str
    headers: dict[str, str] = field(repr=False)
    ca_file: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """To be kept out of what the server says, besides the values of the headers."""
    model: str
    parameters: dict[str, Any]
    segments: str
    """The folder of the encoded dataset (`encoding.EncodedDataset`)."""
    rules: RequestRules
    tokenizer: str | None
    """A folder there (`verify.tokens.local_folder`)."""

    @classmethod
    def for_null_servers(cls, segments: Path, ruleset: Ruleset) -> WorkerConfig:
        """Return what a worker needs that sends to null servers alone: of the rules only the time limits count."""
        return cls(
            url="http://127.0.0.1:9/v1",
            headers={},
            model="null",
            parameters={},
            segments=str(segments),
            rules=RequestRules.of(ruleset),
            tokenizer=None,
        )

    def to_wire(self) -> dict[str, Any]:
        """Return plain values."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return values | {"rules": self.rules._asdict()}

    @classmethod
    def from_wire(cls, values: Mapping[str, Any]) -> WorkerConfig:
        """Read what `to_wire` gave."""
        return cls(**{**values, "rules": RequestRules(**values["rules"])})


class HttpReplay:
    """Replays an encoded dataset against an HTTP endpoint."""

    def __init__(self, config: WorkerConfig) -> None:
        rules = config.rules
        self._segments = Segments(Path(config.segments))
        body_rules = BodyRules(config.model, config.parameters, rules.max_tokens, rules.output_length)
        self._bodies = BodyBuilder(self._segments, body_rules)
        self._target = Target(config.url, config.headers, config.ca_file, config.secrets)
        self._timeouts = Timeouts(
            connect_ns=round(rules.connect_timeout_s * NS_PER_S),
            first_token_ns=round(rules.first_token_timeout_s * NS_PER_S),
            stall_ns=round(rules.stall_timeout_s * NS_PER_S),
            request_ns=round(rules.request_timeout_s * NS_PER_S),
        )
        self._counter: TokenCounter | None = load_counter(config.tokenizer)
        self.counts_with = counter_kind(self._counter)

    def make_ready(self) -> None:
        """Have all bodies in memory: a page that must be read from disk would delay the reads behind it."""
        self._segments.touch()

    def client(
        self, loop: Loop, nonce: str, url: str | None, keeper: AnswerKeeper | None = None
    ) -> HttpClient:
        """Return a client whose prefixes are made from `nonce`; to another `url` it sends no headers of ours."""
        self._bodies.nonce = nonce
        target = self._target if url is None else Target(url)
        return HttpClient(
            loop,
            target,
            self._bodies.build,
            self._timeouts,
            counter=self._counter,
            keeper=keeper,
            prefix_head=self._bodies.prefix_head,
        )

    def tool_delays_ns(self, trajectory: str) -> Sequence[int]:
        """Return the delay after each turn."""
        return self._segments.tool_delays_ns(trajectory)


class ServedChannel(JoiningChannel, Channel, Protocol):
    """All that a worker needs of its line."""


class HostChores:
    """What a load host does between phases, when the controller asks one of its workers."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._lock = HostLock()
        self._null = contextlib.ExitStack()
        self._servers: NullServers | None = None
        self.by_name: Mapping[str, Callable[..., object]] = {
            "lock": self._lock.acquire,
            "unlock": self._lock.release,
            "start_null_servers": self._start_null_servers,
            "stop_null_servers": self._stop_null_servers,
            "reach": self._reach,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._null.close()
        self._lock.release()

    def _start_null_servers(self, count: int, tokens_per_s: float, answer_s: float) -> list[str]:
        """Return their URLs."""
        self._servers = self._null.enter_context(null_servers(count, tokens_per_s, answer_s))
        return self._servers.urls

    def _stop_null_servers(self) -> Notes:
        """End those that run, and return what they noted."""
        servers, self._servers = self._servers, None
        try:
            return servers.stop() if servers is not None else []
        finally:
            self._null.close()

    def _reach(self) -> str | None:
        """Return why the endpoint cannot be reached from here, None if it can."""
        return unreachable(self._config.url)


def serve(channel: ServedChannel) -> None:
    """Run a worker until the controller closes the channel."""
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C is the controller's to handle; it then closes the channel.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        values, watchdog = join(channel)
        config = WorkerConfig.from_wire(values)
        replay = HttpReplay(config)
    except EOFError:
        return
    except Exception as error:
        channel.send(("error", error_text(error)))
        return
    with HostChores(config) as chores:
        run_worker(
            channel, replay, heard=watchdog.heard, chores=chores.by_name, counts_with=replay.counts_with
        )
