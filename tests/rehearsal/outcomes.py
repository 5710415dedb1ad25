"""`python outcomes.py`: prints where the engine's code is, and digests of all that came of several rehearsals."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / room) for room in ("", "core", "oracle")]

from virtual_system import SHAPES, Shape, Watch, settings_for

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.rehearsal import rehearsed_run
from pytest_agentperf.sim.engine import Engine, replica
from pytest_agentperf.sim.events import EngineRequest
from pytest_agentperf.software import BUILD, software_versions

BUSY = {"step_base_ms": 6, "step_per_sequence_ms": 0.3, "step_per_context_ktoken_ms": 0.01, "jitter_cv": 0.05}
POOL = {"accelerators_each": 1, "replicas": 3, "ranks": 2, "transfer_latency_ms": 1.7}
DRAFTS = {"draft_tokens": 3, "acceptance_rate": 0.7}
TIGHT = EngineConfig.model_validate({**BUSY, "kv_blocks": 400, "max_prefill_tokens_per_step": 512})
# Together every way through the engine.
ENGINES = [
    TIGHT,
    *(
        EngineConfig.model_validate({**BUSY, **engine})
        for engine in (
            {"prefill_pool": POOL, "speculation": DRAFTS},
            {
                "prefill_pool": {**POOL, "first_token": "decode"},
                "ranks": 3,
                "prefill_half_speed_context_tokens": 40_000,
            },
            {
                "replicas": 2,
                "ranks": 2,
                "max_batch": 3,
                "jitter_cv": 0,
                "step_overlap": True,
                "power_activity": {"weights": 0.5, "kv": 0.5, "decode": 0.5, "prefill": 0.5},
            },
        )
    ),
]
SPEED = SHAPES[0]


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def rehearsed() -> list[str]:
    found = []
    for each in (SPEED, *(Shape("", engine, SPEED.tier, 0) for engine in ENGINES)):
        watch = Watch()
        with rehearsed_run(settings_for(each, nonce="n"), watch) as run:
            result = run.measure("tier1") if each is SPEED else run.run_fixed("all", 12)
        columns = [(c.texts, {name: ints.tolist() for name, ints in c.ints.items()}) for c in watch.records]
        found.append(digest(result.model_dump_json(), columns))
    return found


def engine_alone() -> str:
    """Every chunk, and blocks that are known by their hashes."""
    draws, events = random.Random(1), []
    engine = Engine(TIGHT, prefixes="blocks")
    for number in range(400):
        hashes = tuple(range(first := draws.randrange(40), first + draws.randrange(1, 60)))
        prompt = 64 * len(hashes) + draws.randrange(1, 64)
        now_ns = number * 20_000_000
        engine.submit(
            EngineRequest(number, prompt, draws.randrange(1, 900), 800, block_hashes=hashes), now_ns
        )
        if number % 7 == 0:
            engine.cancel(number - 3, now_ns)
        events += engine.advance(now_ns)
    events += engine.advance(10**12)
    assert engine.stats(10**12).preemptions
    return digest([(e.time_ns, e.request_id, e.kind, e.amount) for e in events], engine.stats(10**12))


found = {
    "engine": replica.__file__,
    "build": software_versions().get(BUILD),
    "outcomes": [*rehearsed(), engine_alone()],
}
sys.stdout.write(json.dumps(found))
