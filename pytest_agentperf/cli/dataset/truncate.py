"""`agentperf dataset truncate`: cuts trajectories to a model's context, at turn boundaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.cli.dataset.common import (
    add_dataset,
    add_out,
    derived,
    load_all,
    open_named,
    require_new,
    trajectories_text,
    write_and_report,
)
from pytest_agentperf.cli.dataset.printable import counted
from pytest_agentperf.core.errors import ConfigError, DatasetError
from pytest_agentperf.dataset.truncate import Fitting

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from pytest_agentperf.core.trajectory import Trajectory

HELP = "write a dataset of the turns that fit a model's context; nothing is cut inside a turn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options."""
    add_dataset(parser)
    parser.add_argument(
        "--max-context", type=int, required=True, metavar="N", help="the model's context in tokens"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=16_384, metavar="N", help="room kept for the answer (%(default)s)"
    )
    add_out(parser)


def run(args: argparse.Namespace) -> int:
    """Cut, write and say what went."""
    prompt_tokens = args.max_context - args.max_tokens
    if args.max_tokens < 1 or prompt_tokens < 1:
        raise ConfigError(
            f"a context of {args.max_context:,} tokens with {args.max_tokens:,} for the answer leaves no prompt",
            where="--max-context, --max-tokens",
            remedy="give a longer context or a shorter answer",
        )
    require_new(args.out)
    source = open_named(args.dataset)
    fitting = Fitting(prompt_tokens)
    how = f"Cut to prompts of at most {prompt_tokens:,} tokens"
    cut = _with_turns(load_all(source, "writing"), fitting, prompt_tokens, where=f"dataset {source.name}")
    write_and_report(args.out, cut, derived(source, how))
    report = fitting.report()
    print(
        f"prompts of at most {prompt_tokens:,} tokens: {trajectories_text(report.trajectories_kept)} whole,"
        f" {report.trajectories_cut:,} cut, {report.trajectories_dropped:,} dropped;"
        f" {counted(report.turns_dropped, 'turn')} went"
    )
    if report.estimated_counts:
        print(
            f"not recorded: {counted(report.estimated_counts, 'prompt length')}; 2.5 bytes per token assumed"
        )
    return 0


def _with_turns(
    whole: Iterable[Trajectory], fitting: Fitting, prompt_tokens: int, *, where: str
) -> Iterator[Trajectory]:
    """Yield what remains of each trajectory, without those of which nothing does; raises DatasetError if none does."""
    some = False
    for trajectory in whole:
        if (fitted := fitting.fit(trajectory)).turns:
            some = True
            yield fitted
    if not some:
        raise DatasetError(
            f"no trajectory has a turn within {prompt_tokens} prompt tokens",
            where=where,
            remedy="use a longer context, a smaller --max-tokens, or a dataset with shorter prompts",
        )
