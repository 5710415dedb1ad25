"""The engine model beside a scheduler of another make, the mocker of NVIDIA's Dynamo: run it, read it.

    python -m venv /tmp/dynamo && /tmp/dynamo/bin/pip install ai-dynamo==1.4.2
    python tests/benchmarks/dynamo_mocker.py /tmp/dynamo/bin/python [--seeds 8] [--own-timing]

The same sessions (agents that wait for an answer, then for a tool) are replayed by both in virtual time. The mocker
takes its step times from a table that holds our formula, so that what differs is scheduling; with `--own-timing` it
keeps the polynomials that it is delivered with, and our parameters are their straight lines. Takes a minute. Offline
replay opens no connection; `unshare -n` before the command makes sure of it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import tempfile
from heapq import heappop, heappush
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.sim.engine import Engine
from pytest_agentperf.sim.events import EngineRequest, EventKind

BLOCK = 64
FORMATS = (",.0f", ",.0f", ",.0f", ".2f", ".2f", ".2f", ".1%")
TRAJECTORIES, TURNS = 3, 8
CHILD = """
import json, sys
from dynamo.mocker import MockEngineArgs
from dynamo.replay import run_trace_replay
for job in json.load(open(sys.argv[1])):
    engine = MockEngineArgs.from_json(json.dumps(job["engine"]))
    run_trace_replay(
        job["trace"], extra_engine_args=engine, trace_format="mooncake", trace_block_size=job["engine"]["block_size"],
        report_jsonl_path=job["report"],
    )
"""


class Turn(NamedTuple):
    """One request of a session: its whole prompt, what of it the session has sent before, and the tool's time."""

    prompt_tokens: int
    shared_tokens: int
    output_tokens: int
    delay_ms: int
    conversation: int


class Case(NamedTuple):
    """A load on an engine."""

    agents: int
    reuse: bool
    engine: EngineConfig


class Measured(NamedTuple):
    """What the requests of one replay saw."""

    ttft_ms: list[float]
    itl_ms: list[float]
    cached_tokens: int
    prompt_tokens: int


def sessions(case: Case, seed: int) -> list[list[Turn]]:
    """Draw the agents' turns; prompts are whole blocks, so that both find the same part of them."""
    draw = random.Random(seed * 1_000 + case.agents)
    sigma = math.log(500 / 100) / 1.645
    found = []
    for agent in range(case.agents):
        turns = []
        for trajectory in range(TRAJECTORIES):
            prompt, shared = draw.randint(2_000, 6_000) // BLOCK * BLOCK, 0
            for turn in range(TURNS):
                output = min(2_000, max(2, round(100 * math.exp(sigma * draw.gauss()))))
                conversation = (agent * TRAJECTORIES + trajectory) * (1 if case.reuse else TURNS)
                conversation += 0 if case.reuse else turn
                delay_ms = min(10_000, round(draw.expovariate(1 / 2_000)))
                turns.append(Turn(prompt, shared if case.reuse else 0, output, delay_ms, conversation))
                shared = prompt
                prompt += (output + draw.randint(100, 1_500)) // BLOCK * BLOCK + BLOCK
        found.append(turns)
    return found


def starts_ms(case: Case) -> list[int]:
    return [round(agent * 5_000 / case.agents) for agent in range(case.agents)]


def replay_ours(case: Case, seed: int) -> Measured:
    plan = sessions(case, seed)
    due = [(start * 1_000_000, agent) for agent, start in enumerate(starts_ms(case))]
    position = [0] * case.agents
    sent_ns, first_ns = [0] * case.agents, [0] * case.agents
    engine = Engine(case.engine)
    measured = Measured([], [], 0, 0)
    left = sum(map(len, plan))
    now_ns = 0
    while left:
        when_ns = engine.next_event_ns()
        if due and (when_ns is None or due[0][0] <= when_ns):
            now_ns, agent = heappop(due)
            turn = plan[agent][position[agent]]
            sent_ns[agent], first_ns[agent] = now_ns, 0
            request = EngineRequest(
                agent, turn.prompt_tokens, turn.output_tokens, turn.output_tokens, turn.conversation,
                turn.shared_tokens,
            )  # fmt: skip
            engine.submit(request, now_ns)
            continue
        assert when_ns is not None
        for time_ns, sequence, kind, amount in engine.advance(when_ns):
            agent = sequence.request_id
            if kind is EventKind.TOKENS and not first_ns[agent]:
                first_ns[agent] = time_ns
                measured.ttft_ms.append((time_ns - sent_ns[agent]) / 1e6)
            elif kind is EventKind.FINISHED:
                left -= 1
                measured.itl_ms.append((time_ns - first_ns[agent]) / 1e6 / (amount - 1))
                position[agent] += 1
                if position[agent] < len(plan[agent]):
                    delay_ms = plan[agent][position[agent]].delay_ms
                    heappush(due, (time_ns + delay_ms * 1_000_000, agent))
        now_ns = when_ns
    stats = engine.stats(now_ns)
    return measured._replace(cached_tokens=stats.prefix_hit_tokens, prompt_tokens=stats.prefix_query_tokens)


def write_trace(path: Path, case: Case, seed: int) -> None:
    """Write the sessions as a Mooncake trace: prompts are lists of the identities of their blocks."""
    lines = []
    for agent, (start, turns) in enumerate(zip(starts_ms(case), sessions(case, seed), strict=True)):
        for position, turn in enumerate(turns):
            first = turn.conversation * 1_000
            line = {
                "session_id": f"agent-{agent}",
                "input_length": turn.prompt_tokens,
                "output_length": turn.output_tokens,
                "hash_ids": list(range(first, first + turn.prompt_tokens // BLOCK)),
                **({"delay": turn.delay_ms} if position else {"timestamp": start}),
            }
            lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")


def write_timing(path: Path, engine: EngineConfig) -> None:
    """Write our step time as the mocker's table: it interpolates and extrapolates straight lines."""
    tokens, kv_tokens = np.array([1.0, 1e6]), np.array([1.0, 1e7])
    decode_ms = engine.step_base_ms + engine.step_per_context_ktoken_ms * kv_tokens / 1_000
    np.savez(
        path,
        prefill_isl=tokens,
        prefill_ttft_ms=tokens * 1_000 / engine.prefill_tokens_per_s,
        decode_active_kv_tokens=kv_tokens,
        decode_context_length=tokens,
        decode_itl=np.stack([decode_ms, decode_ms], axis=1),
    )


def replay_mocker(python: str, cases: list[Case], seeds: int, *, own_timing: bool) -> list[list[Measured]]:
    with tempfile.TemporaryDirectory() as folder:
        jobs: list[dict[str, object]] = []
        reports: list[Path] = []
        for i, case in enumerate(cases):
            engine: dict[str, str | int] = {
                "block_size": BLOCK,
                "num_gpu_blocks": case.engine.kv_blocks,
                "max_num_seqs": case.engine.max_batch,
                "max_num_batched_tokens": case.engine.max_prefill_tokens_per_step,
            }
            if not own_timing:
                timing = Path(folder, f"timing-{i}.npz")
                write_timing(timing, case.engine)
                engine["planner_profile_data"] = str(timing)
            for seed in range(seeds):
                trace = Path(folder, f"trace-{i}-{seed}.jsonl")
                write_trace(trace, case, seed)
                reports.append(trace.with_suffix(".report"))
                jobs.append({"trace": str(trace), "engine": engine, "report": str(reports[-1])})
        Path(folder, "jobs.json").write_text(json.dumps(jobs))
        subprocess.run(
            [python, "-c", CHILD, str(Path(folder, "jobs.json"))],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        measured = [read_report(report) for report in reports]
    return [measured[i * seeds : (i + 1) * seeds] for i in range(len(cases))]


def read_report(path: Path) -> Measured:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    wrong = [line for line in lines if line["terminal_status"] != "completed"]
    if wrong:
        raise RuntimeError(f"the mocker did not complete {len(wrong)} requests, such as {wrong[0]}")
    return Measured(
        [line["ttft_ms"] for line in lines],
        [line["itl_ms"] for line in lines],
        sum(line["reused_input_tokens"] for line in lines),
        sum(line["input_length"] for line in lines),
    )


def figures(runs: list[Measured]) -> list[float]:
    """Return mean, P50 and P95 of TTFT and of the time between tokens, and the cached share."""
    ttft = np.concatenate([run.ttft_ms for run in runs])
    itl = np.concatenate([run.itl_ms for run in runs])
    cached = sum(run.cached_tokens for run in runs) / sum(run.prompt_tokens for run in runs)
    found = [f for x in (ttft, itl) for f in (x.mean(), np.percentile(x, 50), np.percentile(x, 95))]
    return [*map(float, found), cached]


def cases_for(agents: list[int], *, own_timing: bool) -> list[tuple[str, Case]]:
    if own_timing:
        # The mocker's decode time is −25.74 u² + 54.01 u + 5.74 ms at a share u of its cache in use, its prefill time
        # 4.2e-7 t² + 0.01518 t + 16.5 ms for t tokens, if there are any.
        blocks = 16_384
        engine = EngineConfig(
            step_base_ms=5.74, step_per_sequence_ms=0, step_per_context_ktoken_ms=54.01e3 / (blocks * BLOCK),
            prefill_tokens_per_s=1_000 / 0.01518, max_prefill_tokens_per_step=8_192, kv_blocks=blocks,
            kv_block_tokens=BLOCK, max_batch=32,
        )  # fmt: skip
    else:
        engine = EngineConfig(
            step_base_ms=5, step_per_sequence_ms=0, step_per_context_ktoken_ms=0.02,
            prefill_tokens_per_s=50_000, max_prefill_tokens_per_step=2_048, kv_blocks=16_384,
            kv_block_tokens=BLOCK, max_batch=32,
        )  # fmt: skip
    small = engine.model_copy(update={"kv_blocks": 3_000})
    cases = [("prefixes reused", Case(n, True, engine)) for n in agents]
    cases += [("none reused", Case(n, False, engine)) for n in agents]
    if not own_timing:
        cases += [("small cache", Case(n, True, small)) for n in agents]
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", help="an interpreter that has ai-dynamo")
    parser.add_argument("--agents", type=int, nargs="+", default=[1, 8, 16, 32, 48, 64])
    parser.add_argument("--seeds", type=int, default=8, help="sets of sessions per row (%(default)s)")
    parser.add_argument(
        "--own-timing", action="store_true", help="leave the mocker its own step times, and approach them"
    )
    options = parser.parse_args()
    cases = cases_for(options.agents, own_timing=options.own_timing)
    theirs = replay_mocker(
        options.python, [case for _, case in cases], options.seeds, own_timing=options.own_timing
    )
    print(
        "mocker → ours; TTFT and time between tokens (a request's mean) in ms, ratios of means ± standard error\n"
    )
    print(
        "| prompts | agents | TTFT mean | ratio | P50 | P95 | between tokens mean | ratio | P50 | P95 | cached |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for (name, case), runs in zip(cases, theirs, strict=True):
        mine = [replay_ours(case, seed) for seed in range(options.seeds)]
        cells = [
            f"{other:{form}} → {own:{form}}"
            for other, own, form in zip(figures(runs), figures(mine), FORMATS, strict=True)
        ]
        by_seed = [(figures([other]), figures([own])) for other, own in zip(runs, mine, strict=True)]
        for at in (3, 0):
            ratios = np.array([own[at] / other[at] for other, own in by_seed])
            error = ratios.std(ddof=1) / math.sqrt(options.seeds)
            cells.insert(at + 1, f"{ratios.mean():.3f} ± {error:.3f}")
        print(f"| {name} | {case.agents} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
