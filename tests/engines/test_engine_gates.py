"""A gate on a real engine: it passes at unchanged slots, and fails once a fifth of them is gone.

Each case is one session. `AGENTPERF_GATE_REPEATS=10` repeats both ten times: then nine of ten have to be answered
rightly, and none wrongly.
"""

from __future__ import annotations

import collections
import json
import os
from pathlib import Path
from typing import Any

import pytest
import recipes
import tiny_model
from test_engines import cache_folder, hash_of
from workplace import entry_of, left_running, measure, write_workplace

from pytest_agentperf.core.baseline import Baseline, TierBaseline

SLOTS, CUT = 10, 8
REPEATS = int(os.environ.get("AGENTPERF_GATE_REPEATS", "1"))
RULES: dict[str, Any] = {
    "min_window_s": 12.0,
    "window_max_s": 60.0,
    "correlation_s": 1.0,
    "look_factor": 1.25,
}


@pytest.mark.parametrize(("slots", "right", "wrong"), [(SLOTS, "PASS", "FAIL"), (CUT, "FAIL", "PASS")])
def test_a_gate_knows_ten_slots_from_eight(slots: int, right: str, wrong: str, tmp_path: Path) -> None:
    folder = cache_folder() / f"model-{hash_of(Path(tiny_model.__file__))}"
    model = recipes.cached(folder, lambda folder: (tiny_model.make(folder), None)[1])
    engine = recipes.dynamo(cache_folder(), model, slots)
    if not engine.prefix:
        pytest.skip("no network namespace can be made here, and it opens sockets to the network")
    found: collections.Counter[str] = collections.Counter()
    for repeat in range(REPEATS):
        place = tmp_path / str(repeat)
        write_workplace(place, engine, **RULES)
        accepted = TierBaseline(suite="slots", edition="1", system="engine", tier="tier1", agents=SLOTS)
        baseline = Baseline(tiers=(accepted,)).model_dump(mode="json", by_alias=True)
        (place / "baseline.json").write_text(json.dumps(baseline), encoding="utf-8")
        session = measure(
            place,
            engine,
            "--agentperf-mode=gate",
            "--agentperf-baseline=baseline.json",
            "--agentperf-tolerance=5%",
            f"--agentperf-seed={repeat}",
        )
        entry = entry_of(place)
        (tier,) = entry.tiers
        found[str(tier.verdict)] += 1
        phases = [
            (
                phase.n_agents,
                round((phase.end_ns - phase.start_ns) / 1e9),
                phase.metrics and phase.metrics.ttft_p95_s,
            )
            for phase in entry.phases
        ]
        text = f"{slots} slots, time {repeat}: {tier.verdict}, phases (agents, s, TTFT P95) {phases}"
        print(text, flush=True)  # noqa: T201 - the figures, for whoever asks for them with -rP
        assert (session.returncode == 0) == (str(tier.verdict) == "PASS"), session.stdout + session.stderr
        assert not left_running(place)
    assert found[wrong] == 0, found
    assert found[right] >= REPEATS - REPEATS // 10, found
