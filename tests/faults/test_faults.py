"""The fault table, docs/faults.md: every row is what a run did. WRITE_FAULTS=1 writes the page anew."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from fault_bench import AGENTS, Fault, finished, keep_first, run, undisturbed
from fault_list import FAULTS
from fault_wire import WIRES, death_of_an_engine, failure_of

from pytest_agentperf.results.journal import JOURNAL

if TYPE_CHECKING:
    from pytest_agentperf.core.verdict import Verdict

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
HEAD = f"""# What a run does when something breaks

Each row is a fault that `tests/faults` injects into a run whose probe at {AGENTS} agents meets it, and what came of it.
Faults of requests are bytes on a real socket first; what the client recorded then happens to half the requests of the
probe, each time. Then the run is taken up again from what was on disk, without the fault. The tests compare this page
with what they find.

- A request that fails counts, as infinite TTFT and zero speed: that is the server's service, and the probe FAILs.
- A server that turns requests away while it serves others lives: FAIL. One that serves nobody for half a minute, has
  nothing under way, and refuses one more short request beside the load (with 5xx, not 429) has no load to shed. Its
  phase ends then, and it has crashed, even if it works again once it is left alone; the second time at the same number
  of agents that is FAIL. A front that keeps requests waiting, instead of refusing them, is found out at its end.
- A crash, a lost network or a broken load generator makes the probe INVALID, which moves no bound; it is repeated once.
- What was measured before the fault is on disk, whole, and is not measured again.

SIGKILL and power loss are journals here that end as they would then. Processes that are killed, and servers that are
launched: `test_plugin_resume.py` and `test_plugin_launch.py` in `tests/plugin`. Real processes, by `tox -e engines`:

- `transformers serve` dies of a prompt that its pool of tokens cannot hold: an error inside a stream of status 200, and
  from then on 503 for all but its list of models (below: a prompt that kills the engine). Asked once more alone, it
  fails: INVALID (server_crashed), with its traceback in the result. With `restart: true` it is started anew; its next
  death at the same number of agents is FAIL, and the capacity is what passed before.
- llama.cpp's server promises to keep connections and closes each behind its stream: no request is lost.

| where | fault | recorded as | probe at {AGENTS} agents | the run | phases on disk | resumed |
|---|---|---|---|---|---|---|
"""


class Row(NamedTuple):
    where: str
    fault: str
    recorded: str
    probe: str
    result: str
    on_disk: str
    resumed: str


@cache
def row(name: str) -> Row:
    where, make = FAULTS[name]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        fault = make()
        outcome = run(folder, fault)
        fault.killed(folder / JOURNAL)
        stored = [phase for phase in finished(folder) if phase.kind != "warmup"]
        assert stored == list(outcome.phases)[: len(stored)], (
            "nothing on disk is other than what was reported"
        )
        for phase in stored:
            assert phase.records is not None
            assert (folder / phase.records).stat().st_size
        whole = len(stored)
        if outcome.error is None:
            # A run that came to its end is cut down to the phase with the fault, as if it had been killed then.
            first = next(n for n, phase in enumerate(finished(folder), 1) if phase.n_agents == AGENTS)
            keep_first(folder, first)
            stored = [phase for phase in finished(folder) if phase.kind != "warmup"]
        after = run(folder, Fault())
        assert after.error is None
        assert list(after.phases[: len(stored)]) == stored, "what was measured is not measured again"
    struck = outcome.struck()
    recorded = Counter(kind for phase in struck[:1] if phase.metrics for kind in phase.metrics.failures)
    said = " → ".join(
        _said(phase.verdicts[0].verdict, [r.code for r in phase.invalid]) for phase in struck[:2]
    )
    agents = "no answer" if after.agents is None else f"{after.agents} agents"
    return Row(
        where,
        name,
        ", ".join(sorted(recorded)) or "–",
        said or "not finished",
        outcome.error.partition("\n")[0] if outcome.error else _agents(outcome.agents),
        f"{whole}",
        f"after {len(stored)}: {agents}",
    )


def _said(verdict: Verdict, codes: list[str]) -> str:
    return f"{verdict} ({', '.join(codes)})" if codes else str(verdict)


def _agents(agents: int | None) -> str:
    return "INVALID" if agents is None else f"{agents} agents"


def line(name: str) -> str:
    return "| " + " | ".join(row(name)) + " |"


def assert_on_the_page(name: str) -> None:
    lines = PAGE.read_text(encoding="utf-8").split("\n")
    assert line(name) in lines


def test_there_are_faults_of_every_kind() -> None:
    assert len(FAULTS) >= 20
    assert {where for where, _ in FAULTS.values()} == {"server", "network", "worker", "disk", "signal"}


def test_undisturbed_the_probe_passes() -> None:
    assert undisturbed() == 6


@pytest.mark.parametrize("name", WIRES)
def test_requests_that_fail_are_the_servers_service(name: str) -> None:
    found = row(name)
    assert_on_the_page(name)
    if failure_of(name) is None:
        assert found.result == "6 agents", "no request was lost to it"
    else:
        assert found.recorded == failure_of(name)
        assert found.probe.startswith("FAIL")
        assert found.result == "3 agents"


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in WIRES])
def test_all_else_loses_nothing_and_moves_no_bound(name: str) -> None:
    found = row(name)
    assert_on_the_page(name)
    assert found.resumed.endswith("6 agents") or "crash, and another" in name
    assert not found.probe.startswith("FAIL")
    if name == "a crash, and another one at the same number of agents":
        assert found.probe.endswith("FAIL (server_crashed)")
        assert found.result == "3 agents"
    elif found.where in ("disk", "signal"):
        assert found.on_disk == "2", "those with one and two agents"
    else:
        assert found.probe.startswith("INVALID (")
    if name == "a prompt that kills the engine behind a living front":
        assert death_of_an_engine() == ("error_in_stream", "http_5xx", "http_5xx")


def test_the_page_has_a_line_for_every_fault() -> None:
    if os.environ.get("WRITE_FAULTS"):
        PAGE.write_text(HEAD + "\n".join(map(line, FAULTS)) + "\n", encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(HEAD)
    named = [line.split(" | ")[1] for line in text.removeprefix(HEAD).split("\n") if line]
    # What else these lines say is checked where the faults are injected.
    assert named == list(FAULTS)
