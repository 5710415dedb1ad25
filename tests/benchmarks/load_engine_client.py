"""The load engine as a stand-alone client for loadbench's `measure.py`: one phase, records and all.

    python load_engine_client.py --url http://127.0.0.1:8000 --agents 1000 --requests 2000 \\
        --max-tokens 200 --out out.csv

Everything is the product's own: pool, worker process, driver, bodies, client, decoder, columns.
`load_engine.py` runs it in many ways.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.phase import PhaseSpec
from pytest_agentperf.core.records import Answer, ColumnsBuilder
from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06
from pytest_agentperf.core.trajectory import Trajectory, Turn
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.dataset import DatasetMetadata, write_dataset
from pytest_agentperf.encoding import EncodedDataset
from pytest_agentperf.load import client as client_module
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.worker import RequestRules, ServedChannel, WorkerConfig, serve

if TYPE_CHECKING:
    from pytest_agentperf.core.records import RequestColumns, RequestKey
    from pytest_agentperf.load.client import Exchange

HOUR_NS = 3600 * NS_PER_S
_REMOTE_WITHOUT_RECORDS = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
    "from load_engine_client import serve_without_records; serve_without_records(channel)"
)


def main() -> None:
    args = _arguments()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="agentperf-load-engine-"))
        dataset = Path(folder, "dataset")
        write_dataset(
            dataset,
            _trajectories(args),
            DatasetMetadata(name="x", version="1", licence="none", provenance="made"),
        )
        encoded = stack.enter_context(
            EncodedDataset(dataset, max_prompt_tokens=1 << 30, history_reasoning="all")
        )
        config = WorkerConfig(
            url=args.url.rstrip("/") + "/v1",
            headers={},
            model="bench-model",
            parameters={},
            segments=str(encoded.folder),
            rules=RequestRules.of(AA_AGENTPERF_2026_06)._replace(
                max_tokens=args.max_tokens, output_length="exact" if args.lengths else "natural"
            ),
            tokenizer=None,
        )
        if args.without_records:
            stack.enter_context(patch("pytest_agentperf.load.gateway_place.REMOTE", _REMOTE_WITHOUT_RECORDS))
        pool = WorkerPool(config.to_wire(), workers=args.workers)
        try:
            columns = _run(pool, args)
            load = pool.describe()
        finally:
            pool.close()
    print("load", json.dumps(load))
    _write(args.out, columns)


def serve_without_records(channel: ServedChannel) -> None:
    """Run a worker that only reads: no final decode of an answer, no record of it."""

    def unread(exchange: Exchange, *_: object) -> Answer:
        return Answer(t_sent_ns=exchange.t_sent_ns, t_end_ns=exchange.t_end_ns, failure=exchange.failure)

    def unkept(builder: ColumnsBuilder, key: RequestKey, answer: Answer) -> None:
        """Nothing."""

    with patch.object(client_module, "answer_of", unread), patch.object(ColumnsBuilder, "add", unkept):
        serve(channel)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--agents", type=int, required=True)
    parser.add_argument(
        "--requests", type=int, required=True, help="in total; with --seconds as many as there come"
    )
    parser.add_argument("--max-tokens", type=int, required=True)
    parser.add_argument("--body-bytes", type=int, default=0)
    parser.add_argument("--ramp", type=float, default=0.0, help="seconds in which the agents begin")
    parser.add_argument("--seconds", type=float, help="go on for so long, request after request")
    parser.add_argument("--lengths", type=int, nargs="+", help="output tokens of the turns, in turn")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--without-records", action="store_true", help="leave out decoding and keeping them")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def _trajectories(args: argparse.Namespace) -> list[Trajectory]:
    """Return runs without tool delays; where requests are counted, the last is followed by an hour of rest."""
    words = 'the def return import self value path/to/file.py "quoted" \n    error '
    text = (words * (args.body_bytes // len(words) + 1))[: args.body_bytes] or "x"
    messages = ({"role": "user", "content": text},)
    if args.seconds is not None:
        lengths = args.lengths or [args.max_tokens]
        # Each run begins elsewhere in the lengths, so that the agents do not move in step.
        return [
            Trajectory(
                f"t{k:02}",
                messages,
                tuple(Turn(((0, 1),), 0, output_tokens=n) for n in lengths[k:] + lengths[:k]),
            )
            for k in range(len(lengths))
        ]
    each = args.requests // args.agents
    delays = [0] * (each - 1) + [HOUR_NS, 0]
    return [Trajectory("t", messages, tuple(Turn(((0, 1),), delay_ns) for delay_ns in delays))]


def _run(pool: WorkerPool, args: argparse.Namespace) -> RequestColumns:
    spec = PhaseSpec(
        phase=1,
        attempt=0,
        kind="fixed",
        n_agents=args.agents,
        stagger_ns=round(args.ramp * NS_PER_S / args.agents),
        seed=0,
        nonce="bench",
        trajectories=tuple(f"t{k:02}" for k in range(len(args.lengths or [0]))) if args.seconds else ("t",),
        failure_wait_ns=NS_PER_S,
    )
    # The harness runs us with real-time priority, of which the kernel grants 95 % of each second; starting took
    # its share.
    time.sleep(1.2)
    start_ns = pool.start_phase(spec)
    answered = 0
    while True:
        events = pool.poll(0.1)
        answered += len(events.ttft_s)
        if args.seconds is not None:
            if monotonic_ns() > start_ns + args.seconds * NS_PER_S:
                break
        elif answered >= args.requests:
            break
    return pool.stop_phase()


def _write(out: Path, columns: RequestColumns) -> None:
    with out.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "t_start", "t_sent", "t_first", "t_last", "events", "status"])
        numbers = ("t_sent_ns", "t_sent_ns", "t_first_ns", "t_last_ns", "content_chunks")
        for i in range(len(columns)):
            failure = columns.texts["failure"][i]
            if failure:
                print(failure, columns.texts["failure_detail"][i])
            rows.writerow(
                [
                    columns.texts["response_id"][i],
                    *(int(columns[name][i]) for name in numbers),
                    0 if failure else 200,
                ]
            )


if __name__ == "__main__":
    main()
