"""Prepares a dataset for a model, as `encoding` does, but keeps only what its requests weigh: for rehearsals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.token_table import PREFIX_TOKENS, TokenTable, TurnTokens
from pytest_agentperf.dataset import open_dataset, prepare_dataset
from pytest_agentperf.dataset.default import make_available
from pytest_agentperf.dataset.estimate import BYTES_PER_TOKEN, prompt_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_agentperf.config.suite import HistoryReasoning
    from pytest_agentperf.core.trajectory import Trajectory
    from pytest_agentperf.dataset import PreparedDataset

_PROGRESS_EVERY = 50


class TabulatedDataset:
    """A dataset as numbers of tokens, in memory."""

    closed = False

    def __init__(
        self,
        path: Path,
        *,
        max_prompt_tokens: int,
        history_reasoning: HistoryReasoning,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Read everything, one trajectory at a time; `on_progress(done, total)` hears of every fiftieth.

        A default dataset that is not there yet is made first, which takes minutes, once. Raises DatasetError.
        """

        def tell(done: int, total: int) -> None:
            if done % _PROGRESS_EVERY == 0:
                on_progress(done, total)

        tabulating = _Tabulating()
        self.prepared: PreparedDataset = prepare_dataset(
            open_dataset(make_available(path, progress=on_progress)),
            tabulating.take,
            max_prompt_tokens=max_prompt_tokens,
            history_reasoning=history_reasoning,
            on_progress=tell,
        )
        self.table = TokenTable(tabulating.turns, tabulating.tool_delays_ns, estimated=tabulating.estimated)

    def close(self) -> None:
        """Nothing is held but memory: a run that goes on uses it again."""


class _Tabulating:
    def __init__(self) -> None:
        self.turns: dict[str, tuple[TurnTokens, ...]] = {}
        self.tool_delays_ns: dict[str, tuple[int, ...]] = {}
        self.estimated = 0

    def take(self, trajectory: Trajectory) -> None:
        prompts = [turn.prompt_tokens for turn in trajectory.turns]
        counted: list[int] = [tokens for tokens in prompts if tokens is not None]
        if len(counted) < len(prompts):
            self.estimated += len(prompts) - len(counted)
            sizes = prompt_bytes(trajectory)
            counted = [
                -(-size // BYTES_PER_TOKEN) if tokens is None else tokens
                for tokens, size in zip(prompts, sizes, strict=True)
            ]
        self.turns[trajectory.id] = tuple(
            TurnTokens(tokens + PREFIX_TOKENS, shared and shared + PREFIX_TOKENS, turn.output_tokens)
            for turn, tokens, shared in zip(
                trajectory.turns, counted, shared_tokens(trajectory, counted), strict=True
            )
        )
        self.tool_delays_ns[trajectory.id] = tuple(turn.tool_delay_ns for turn in trajectory.turns)


def shared_tokens(trajectory: Trajectory, prompt_tokens: Sequence[int]) -> list[int]:
    """Return how many leading tokens of each turn some earlier turn sent, too.

    Where a turn only goes on, those are all of the turn before. Where it leaves the history of all earlier ones, the
    common messages' share of its bytes is taken.
    """
    shared: list[int] = []
    # Every history so far as a tree of messages, from its list of tools on: (node, message) → node.
    tree: dict[tuple[int, int | None], int] = {}
    ends: dict[int, int] = {}
    sizes: list[int] | None = None
    for number, turn in enumerate(trajectory.turns):
        node, depth, known = -1, 0, True
        whole = last = 0
        edges = [turn.tools_index, *turn.message_indices()]
        for edge in edges:
            found = tree.get((node, edge)) if known else None
            if found is None:
                known = False
                found = tree[node, edge] = len(tree)
            else:
                depth += 1
                if found in ends:
                    whole, last = ends[found], depth
            node = found
        if depth > max(last, 1):
            if sizes is None:
                sizes = _message_bytes(trajectory)
            messages = edges[1:]
            part = sum(sizes[i] for i in messages[: depth - 1] if i is not None)
            total = sum(sizes[i] for i in messages if i is not None)
            whole = max(whole, prompt_tokens[number] * part // max(total, 1))
        ends[node] = prompt_tokens[number]
        shared.append(min(whole, prompt_tokens[number]))
    return shared


def _message_bytes(trajectory: Trajectory) -> list[int]:
    # Their Python form is about as long as their JSON; only shares of it are used.
    return [len(str(message)) for message in trajectory.messages]
