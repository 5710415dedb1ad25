"""What every request of a dataset will be like, before any text exists: sizes, tools, delays and turning points."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.dataset.delays import draw_delay_ns
from pytest_agentperf.dataset.synth.draw import Stream, even_fraction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentperf.dataset.synth.profiles import Profile

_MESSAGE_OVERHEAD_TOKENS = 8


class CallPlan(NamedTuple):
    """One tool call: about how many tokens its result has, how long it takes, and whether it fails."""

    tool: str
    result_tokens: int
    delay_ns: int
    fails: bool


class TurnPlan(NamedTuple):
    """One request and its answer.

    `event` is what happened to the history just before the request: `prune` (old tool results cleared), `compact`
    (all replaced by a summary), `follow_up` (the user asks for more), or nothing. `cleared_results` counts, from the
    oldest, the results that a prune clears.
    """

    kind: str
    prompt_tokens: int
    output_tokens: int
    calls: tuple[CallPlan, ...]
    event: str | None = None
    cleared_results: int = 0

    @property
    def tool_delay_ns(self) -> int:
        """Return the delay after the answer; tools run one after another."""
        return sum(call.delay_ns for call in self.calls)


class TrajectoryPlan(NamedTuple):
    """One trajectory: everything but its words."""

    number: int
    id: str
    language: str
    many_tools: bool
    rules: int
    tree_tokens: int
    task_tokens: int
    limit_tokens: int
    turns: tuple[TurnPlan, ...]


def plan_trajectories(
    profile: Profile, *, trajectories: int, seed: int, max_context_tokens: int | None = None
) -> Iterator[TrajectoryPlan]:
    """Yield the plans in order of their ids; trajectory k is the same in datasets of any size."""
    context = max_context_tokens or profile.max_context_tokens
    width = max(4, len(str(trajectories)))
    for number in range(1, trajectories + 1):
        yield plan_trajectory(profile, number, seed=seed, context_tokens=context, width=width)


def plan_trajectory(
    profile: Profile, number: int, *, seed: int, context_tokens: int, width: int = 4
) -> TrajectoryPlan:
    """Return one trajectory's plan."""
    draw = Stream(profile.name, seed, "plan", number)
    turns = profile.turns.at(even_fraction(seed, 0, number))
    size = even_fraction(seed, 1, number)
    language = profile.language(even_fraction(seed, 2, number))
    trajectory_id = f"{profile.id_prefix}-{number:0{width}}"
    many_tools = draw.chance(profile.many_tools_percent)
    rules = draw.between(8, 36)
    tree = draw.between(80, 700)
    # Long runs read less per turn, or they would not fit any context.
    growth = profile.growth_permille.at(size) * profile.growth_at_turns(turns) // 1000
    limit = min(profile.limit_tokens.at(draw.fraction()), profile.max_context_tokens)
    stretch = _stretch(profile, context_tokens, size)
    limit = min(limit * stretch // 1000, context_tokens)
    task = draw.between(60, 700)
    base = profile.base_tokens(many_tools) + profile.opening_tokens(rules, tree, task)
    planner = _Planner(
        profile, draw, trajectory_id, seed, turns, growth * stretch // 1000, limit, base, stretch
    )
    return TrajectoryPlan(
        number, trajectory_id, language, many_tools, rules, tree, task, limit, tuple(planner.turns())
    )


def _stretch(profile: Profile, context_tokens: int, size: int) -> int:
    """Return, in permille, how much larger a trajectory is when contexts may be longer: only the large ones grow."""
    most = max(context_tokens * 1000 // profile.max_context_tokens, 1000)
    return 1000 + (most - 1000) * (size >> 32) ** 4 // (1 << 32) ** 4


class _Planner:
    """Walks through one trajectory."""

    def __init__(
        self,
        profile: Profile,
        draw: Stream,
        trajectory: str,
        seed: int,
        turns: int,
        growth: int,
        limit: int,
        base: int,
        stretch: int,
    ) -> None:
        self._profile = profile
        self._draw = draw
        self._trajectory = trajectory
        self._seed = seed
        self._count = turns
        self._growth = growth
        self._limit = limit
        self._base = base
        self._prompt = base
        self._results: list[int] = []
        self._cleared = 0
        follows = turns > 12 and draw.chance(profile.follow_up_percent)
        self._follow_up = draw.between(turns // 2, turns - 4) if follows else None
        self._protected = profile.protected_tokens.at(draw.fraction()) * stretch * stretch // 1_000_000
        self._most_parallel = min(4 * stretch // 1000, 12)
        self._prunes = draw.chance(profile.prune_percent)

    def turns(self) -> Iterator[TurnPlan]:
        """Yield the turns in order."""
        for k in range(self._count):
            event = self._event(k)
            output = self._profile.output_tokens.at(self._draw.fraction())
            answers = k == self._count - 1 or k + 1 == self._follow_up
            kind = "answer" if answers else self._kind(k, output)
            calls = () if answers else self._calls(kind, k)
            cleared = self._cleared if event == "prune" else 0
            yield TurnPlan(kind, self._prompt, output, calls, event, cleared)
            self._prompt += output + sum(call.result_tokens + _MESSAGE_OVERHEAD_TOKENS for call in calls)
            self._results += (call.result_tokens for call in calls)

    def _event(self, k: int) -> str | None:
        # A request must leave room for its answer.
        if self._prompt > self._limit - 1_000 and k > 2:
            self._prompt = self._base + self._profile.summary_tokens
            self._results = []
            return "compact"
        if k == self._follow_up:
            self._prompt += 60
            return "follow_up"
        old, freed = self._old_results()
        if self._prunes and freed > self._protected // 2:
            self._prompt -= freed
            short = self._profile.cleared_tokens
            self._results = [min(size, short) for size in self._results[:old]] + self._results[old:]
            self._cleared = old
            return "prune"
        return None

    def _old_results(self) -> tuple[int, int]:
        """Return how many of the oldest results lie before the protected ones, and what clearing them frees."""
        kept = 0
        for position in range(len(self._results) - 1, -1, -1):
            kept += self._results[position]
            if kept > self._protected:
                old = self._results[:position]
                return position, sum(max(size - self._profile.cleared_tokens, 0) for size in old)
        return 0, 0

    def _kind(self, k: int, output: int) -> str:
        profile = self._profile
        third = min(k * 3 // self._count, 2)
        kind = self._draw.weighted(profile.kinds[third])
        if output < 110 and kind in ("edit", "write"):
            return "read" if third == 0 else "test"
        if output > 700 and third and self._draw.chance(35):
            return "write" if output > 1_500 else "edit"
        return kind

    def _calls(self, kind: str, k: int) -> tuple[CallPlan, ...]:
        size = self._size(kind)
        tools = self._tools(kind, size)
        calls = []
        left_ns = self._profile.max_delay_ns
        for position, tool in enumerate(tools):
            fails = self._draw.chance(self._profile.failure_percent)
            delay = draw_delay_ns(tool, self._seed, self._trajectory, k, position, published=True)
            delay = min(delay, left_ns)
            left_ns -= delay
            result = (
                self._draw.between(25, 90)
                if fails
                else min(size // len(tools), self._profile.most_tokens[kind])
            )
            calls.append(CallPlan(tool, result, delay, fails))
        return tuple(calls)

    def _tools(self, kind: str, size: int) -> list[str]:
        """Return the tools to call; those of one answer do the same to different things, like reading three files."""
        tool = self._draw.weighted(self._profile.tools[kind])
        count = 1
        if kind in ("explore", "search", "read"):
            if self._draw.chance(self._profile.parallel_percent):
                count = self._draw.between(2, 3)
            # Large amounts do not come out of one file.
            count = max(count, min(-(-size // self._profile.most_tokens[kind]), self._most_parallel))
        return [tool] * count

    def _size(self, kind: str) -> int:
        drawn = self._profile.results[kind].at(self._draw.fraction())
        if kind in ("edit", "write", "todo"):
            return drawn
        # No single result may fill what is left of the context.
        return max(20, min(drawn * self._growth // 1000, self._limit // 3))
