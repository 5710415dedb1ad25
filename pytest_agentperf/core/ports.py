"""Where the rooms meet: small Protocols, each with at least two real implementations.

All times are integer nanoseconds on one monotonic clock; durations are taken on one machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_agentperf.core.answers_so_far import AnswersSoFar
    from pytest_agentperf.core.journal import Event
    from pytest_agentperf.core.kept import KeepRule, KeptAnswer
    from pytest_agentperf.core.phase import PhaseEvents, PhaseSpec
    from pytest_agentperf.core.power import PowerSource
    from pytest_agentperf.core.power_series import PowerSeries
    from pytest_agentperf.core.records import Answer, RequestColumns, RequestKey
    from pytest_agentperf.core.server_metrics import ServerReading, ServerSeries
    from pytest_agentperf.core.token_check import TokenVerification
    from pytest_agentperf.core.trajectory import Message, Trajectory


class Cancellable(Protocol):
    """A timer or a request that can be called off."""

    def cancel(self) -> None:
        """Call it off; afterwards its callback does not run."""


class InFlight(Cancellable, Protocol):
    """A request under way."""

    @property
    def t_first_ns(self) -> int | None:
        """Return when its first token came, None as long as none has."""


class Clock(Protocol):
    """The only way to ask the time or to wait."""

    def now_ns(self) -> int:
        """Return the monotonic time."""

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Cancellable:
        """Run `callback` at `when_ns`, or as soon as possible if that has passed."""


class BlockingClock(Protocol):
    """The time for code that steers and may block."""

    def now_ns(self) -> int:
        """Return the monotonic time."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class InferenceClient(Protocol):
    """Sends one chat completion at a time per agent and tells how it went."""

    def send(self, key: RequestKey, on_answer: Callable[[Answer], None]) -> InFlight:
        """Send the request; `on_answer` runs once, after its last byte or its failure."""

    def close(self) -> None:
        """Close every connection at once."""


class Server(Protocol):
    """The server under test: launched by us, or attached to."""

    simulated: bool

    @property
    def url(self) -> str:
        """Return the endpoint's base URL; a restart may change it."""

    def start(self) -> None:
        """Launch it, if it is ours to launch; raises EndpointError."""

    def state(self) -> Literal["alive", "dead", "unreachable"]:
        """Say how the server is: `dead` only if it is certainly the server that is gone, not the network."""

    def revive(self, patience_s: float) -> None:
        """Restart it, or wait for its return; raises EndpointError if it stays away."""

    def requests_in_flight(self) -> float | None:
        """Return how many requests run or wait in it, None if it does not tell."""

    def reset(self, paths: Sequence[str]) -> None:
        """POST to paths of the server, between phases; raises EndpointError unless each answers 2xx."""

    def log_tail(self) -> tuple[str, ...]:
        """Return the last lines that it wrote, safe to be shown; none if it is not ours."""

    def stop(self) -> None:
        """End what we launched."""


class TrajectorySource(Protocol):
    """A dataset, loaded one trajectory at a time."""

    @property
    def name(self) -> str:
        """Return the dataset's name."""

    @property
    def digest(self) -> str:
        """Return the SHA-256 (hex) of the content, independent of file layout and compression."""

    def ids(self) -> Sequence[str]:
        """Return the ids of all trajectories, sorted."""

    def load(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory; raises DatasetError naming file and line if it is broken."""


@runtime_checkable
class RecordedSource(Protocol):
    """A dataset that also keeps what its recordings said besides, for exports."""

    def load_recorded(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory, its `recorded` filled in where it was kept."""


class TokenCounter(Protocol):
    """Counts tokens with a model's own tokenizer."""

    def count(self, text: str) -> int:
        """Return the number of tokens of `text`, special tokens not added."""

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """Return `count` of each text; the tokenizer may count them in parallel."""


@runtime_checkable
class PromptTokenCounter(TokenCounter, Protocol):
    """Counts whole prompts too, rendered as the model's server renders them."""

    def prompt_tokens(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> int:
        """Return the exact number of tokens of a chat request's prompt."""


class AnswerCheck(Protocol):
    """Holds what the server says of its answers against their text, after a phase."""

    def keep_rule(self, n_agents: int) -> KeepRule:
        """Return which answers of a phase at `n_agents` it wants to see."""

    def check(
        self, spec: PhaseSpec, columns: RequestColumns, kept: Sequence[KeptAnswer]
    ) -> TokenVerification:
        """Return what the phase's records and kept answers show."""


class PowerSampler(Protocol):
    """Reads the power of a deployment's accelerators while a phase runs."""

    def open(self) -> PowerSource:
        """Find the devices, once; raises PowerError with its remedy."""

    def start(self) -> None:
        """Begin sampling."""

    def stop(self) -> PowerSeries:
        """End sampling and return all readings since `start`, oldest first, and what went wrong."""

    def close(self) -> None:
        """Give back what is held."""


class ServerMetrics(Protocol):
    """Follows what the server says of itself while a phase runs; never in the way of the load."""

    def start(self) -> None:
        """Begin to read."""

    def latest(self) -> ServerReading | None:
        """Return the last reading since `start`, None if there is none."""

    def stop(self) -> ServerSeries:
        """End, and return all readings since `start`; what could not be read is a gap in them."""


class Journal(Protocol):
    """Keeps the events of a run, in order."""

    def append(self, event: Event) -> None:
        """Keep an event for good before anything else happens; raises OSError where that fails."""


class LoadPool(Protocol):
    """The workers that carry the agents of one phase."""

    def start_phase(self, spec: PhaseSpec) -> int:
        """Let every worker start its shard of agents; returns the start of the phase (monotonic ns)."""

    def poll(self, timeout_s: float) -> PhaseEvents:
        """Wait at most `timeout_s` and return what has happened since the last call."""

    def look(self) -> AnswersSoFar:
        """Return the requests that have ended since the last look of this phase, and those under way."""

    def close_window(self, close_ns: int) -> None:
        """Tell the workers when the window closed; they report when all its requests have ended."""

    def drain(self) -> None:
        """Send nothing more; the workers report `drained` when all requests in flight have ended."""

    def stop_phase(self) -> RequestColumns:
        """Stop all agents, close their connections and return the phase's records."""

    def kept_answers(self) -> Sequence[KeptAnswer]:
        """Return the answers that were kept in the phase that was stopped last, as its `keep` asked."""

    def describe(self) -> Mapping[str, Any]:
        """Return what the result discloses about the load generator."""

    def close(self) -> None:
        """End the workers."""
