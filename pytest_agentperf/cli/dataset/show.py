"""`agentperf dataset show`: a dataset's trajectories, one trajectory's turns, or one request in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.cli.dataset.common import add_dataset, open_named
from pytest_agentperf.cli.dataset.printable import printable, printable_block
from pytest_agentperf.cli.dataset.stats_text import seconds
from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.results.tables import number, render

if TYPE_CHECKING:
    import argparse

    from pytest_agentperf.core.ports import TrajectorySource
    from pytest_agentperf.core.trajectory import Message, Trajectory, Turn

HELP = "print a dataset's trajectories, one's turns, or one request in full"

_EXCERPT_CHARS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    add_dataset(parser)
    parser.add_argument("id", nargs="?", metavar="ID", help="a trajectory (default: list all)")
    parser.add_argument(
        "--turn", type=int, metavar="N", help="the request of this turn, counted from 0, in full"
    )


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    source = open_named(args.dataset)
    if args.id is None:
        if args.turn is not None:
            raise DatasetError(
                "a turn of no trajectory", where="--turn", remedy="name the trajectory: DATASET ID"
            )
        _print_list(source)
        return 0
    if args.id not in source.ids():
        raise DatasetError(
            f"no trajectory {args.id!r}",
            where=f"dataset {args.dataset}",
            remedy=f"`agentperf dataset show {args.dataset}` lists them",
        )
    trajectory = source.load(args.id)
    if args.turn is None:
        _print_trajectory(trajectory)
        return 0
    if not 0 <= args.turn < len(trajectory.turns):
        raise DatasetError(
            f"no turn {args.turn}",
            where=f"trajectory {args.id!r}",
            remedy=f"it has turns 0 to {len(trajectory.turns) - 1}",
        )
    _print_turn(trajectory, trajectory.turns[args.turn])
    return 0


def _print_list(source: TrajectorySource) -> None:
    rows = [["trajectory", "turns", "first prompt", "last prompt", "language", "model"]]
    for trajectory_id in source.ids():
        trajectory = source.load(trajectory_id)
        prompts = [turn.prompt_tokens for turn in trajectory.turns] or [None]
        rows.append(
            [
                printable(trajectory_id),
                str(len(trajectory.turns)),
                number(prompts[0], 0),
                number(prompts[-1], 0),
                printable(trajectory.language or "–"),
                printable(trajectory.model or "–"),
            ]
        )
    print(render(rows, indent=""))


def _print_trajectory(trajectory: Trajectory) -> None:
    print(
        f"{printable(trajectory.id)}: {len(trajectory.turns)} turns, {len(trajectory.messages)} messages,"
        f" language {printable(trajectory.language or 'unknown')}, model {printable(trajectory.model or 'unknown')}"
    )
    known: set[int] = set()
    for k, turn in enumerate(trajectory.turns):
        print(f"\nturn {k}: {_facts(turn)}")
        indices = list(turn.message_indices())
        if gone := len(known.difference(indices)):
            print(f"  ({gone} messages of the turn before are left out)")
        for i in indices:
            if i not in known:
                print(f"  {_line(trajectory.messages[i])}")
        known = set(indices)


def _print_turn(trajectory: Trajectory, turn: Turn) -> None:
    print(f"{printable(trajectory.id)}: {_facts(turn)}")
    if turn.tools_index is not None:
        tools = trajectory.tool_sets[turn.tools_index]
        print(f"tools: {', '.join(printable(_tool_name(tool)) for tool in tools)}")
    for message in trajectory.request_messages(turn):
        print(f"\n── {printable(_role(message))} ──")
        if reasoning := message.get("reasoning_content"):
            print(f"[reasoning] {printable_block(_text(reasoning))}")
        if content := _text(message.get("content")):
            print(printable_block(content))
        for name, arguments in _calls(message):
            print(f"[call] {printable(name)} {printable_block(arguments)}")


def _facts(turn: Turn) -> str:
    calls = ", ".join(
        printable(call.name) + ("" if call.duration_ns is None else f" {seconds(call.duration_ns / 1e6)}")
        for call in turn.tool_calls
    )
    return (
        f"prompt {number(turn.prompt_tokens, 0)} tokens, answer {number(turn.output_tokens, 0)} tokens,"
        f" then {seconds(turn.tool_delay_ns / 1e6)}" + (f" ({calls})" if calls else "")
    )


def _line(message: Message) -> str:
    parts = [_text(message.get("reasoning_content")), _text(message.get("content"))]
    parts += [f"→ {name} {arguments}" for name, arguments in _calls(message)]
    text = printable(" ".join(part for part in parts if part))
    more = f" … ({len(text):,} characters)" if len(text) > _EXCERPT_CHARS else ""
    return f"{printable(_role(message)):<9} {text[:_EXCERPT_CHARS]}{more}"


def _role(message: Message) -> str:
    name = message.get("tool_call_id")
    return f"{message.get('role')} {name}" if isinstance(name, str) else str(message.get("role"))


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _calls(message: Message) -> list[tuple[str, str]]:
    calls = message.get("tool_calls")
    found = []
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            found.append((str(function.get("name")), str(function.get("arguments"))))
    return found


def _tool_name(tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    return str(function.get("name")) if isinstance(function, dict) else "unnamed"
