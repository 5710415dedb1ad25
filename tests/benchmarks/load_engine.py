"""What the load engine costs and how much it distorts, held against limits: run it, read it.

    python tests/benchmarks/load_engine.py --loadbench FOLDER [--rows S2,S3] [--runs 3] [--json FILE]
        [--peers aiperf,locust,infperf --venvs FOLDER] [--quick]

Loadbench is a streaming server in C that logs when it sent what, a reference client in C, and `measure.py`, which
accounts for the CPU and memory of a client's whole process tree. The C client runs before and after each row: its
CPU is the unit ("x C") and its TTFT error the floor of what this machine can show. Needs `make`, a C compiler and,
for CPU and memory, a cpuacct cgroup (Linux, root). All rows take about 40 minutes on an idle machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import NormalDist, median
from typing import TYPE_CHECKING, Any

import pytest_agentperf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

CLIENT = Path(__file__).with_name("load_engine_client.py")
LOADBENCH = Path(__file__).parents[3] / "shared" / "tools" / "loadbench"
MIB = 1 << 20
DISTURBED_US = 3_000
"""The server itself was late by more than this at P99: something else had its core."""
FLOOR = ("ttft_err_p99_ms", "speed_err_p99_pct")
"""Figures whose least value is the harness's own, seen in the C client."""
LENGTHS_MEDIAN, LENGTHS_P95, LENGTHS_MAX = 150, 2_000, 16_384
PEER_FOLDERS = {"infperf": "infperf312"}
"""Of the peers whose environment is not called like themselves."""


@dataclass(frozen=True)
class Bar:
    """A limit on one figure of a row."""

    what: str
    figure: str
    limit: float
    stretch: float | None = None
    at_least: bool = False
    relative_to: str | None = None
    """The client whose median is the unit."""
    worst: bool = False
    """Whether the worst run decides, not the median."""


@dataclass(frozen=True)
class Row:
    """One load, what it is for, and the limits."""

    name: str
    what: str
    agents: int
    bars: tuple[Bar, ...]
    requests_each: int = 1
    ramp_s: float = 2.0
    tokens: int = 200
    itl_ms: float = 50.0
    ttft_ms: float = 50.0
    body: int = 0
    seconds: float | None = None
    lengths: tuple[int, ...] = ()
    c_requests_each: int | None = None
    c_tokens: int | None = None
    """Where the C client, which has neither lengths nor an end in time, is given another load."""
    compare: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further clients: options of ours."""

    @property
    def rate(self) -> float:
        """Return the events per second of all agents together."""
        return self.agents * 1e3 / self.itl_ms

    def quick(self) -> Row:
        """Return a fraction of the load, to see that everything runs."""
        return replace(
            self,
            agents=max(20, self.agents // 10),
            ramp_s=self.ramp_s / 5,
            tokens=max(20, self.tokens // 10),
            seconds=self.seconds and 8.0,
            c_tokens=self.c_tokens and 20,
            c_requests_each=self.c_requests_each and 1,
        )


@dataclass
class Run:
    """One run of one client."""

    client: str
    figures: dict[str, float]
    disturbed: bool
    error: str | None
    load: dict[str, Any]
    """What the load pool says of itself."""
    result: dict[str, Any]
    """What `measure.py` says."""


@dataclass
class Judged:
    """A bar with what was measured."""

    what: str
    values: list[float]
    value: float | None
    limit: float
    stretch: float | None
    at_least: bool
    verdict: str


def lognormal_lengths(n: int) -> tuple[int, ...]:
    """Return `n` quantiles of the answers' lengths, shuffled so that short ones do not follow on short ones."""
    sigma = math.log(LENGTHS_P95 / LENGTHS_MEDIAN) / NormalDist().inv_cdf(0.95)
    normal = NormalDist(math.log(LENGTHS_MEDIAN), sigma)
    quantiles = [min(LENGTHS_MAX, round(math.exp(normal.inv_cdf((i + 0.5) / n)))) for i in range(n)]
    random.Random(0).shuffle(quantiles)
    return tuple(quantiles)


def cpu_bar(limit: float, stretch: float, per: str = "event") -> Bar:
    return Bar(f"CPU per {per}, x C", f"us_per_{per}", limit, stretch, relative_to="c")


def ttft_bar(limit: float) -> Bar:
    return Bar("TTFT error P99, ms", "ttft_err_p99_ms", limit, 1.0)


LOST = Bar("requests or events lost", "lost", 0, worst=True)
SPEED = Bar("speed error P99, %", "speed_err_p99_pct", 1.0, 0.1)

ROWS = (
    Row(
        "S3",
        "4,000 agents x 20 tok/s",
        4_000,
        (cpu_bar(1.8, 1.3), ttft_bar(5), SPEED, LOST),
        tokens=100,
    ),
    Row(
        "S2",
        "1,000 agents x 20 tok/s",
        1_000,
        (cpu_bar(1.8, 1.3), ttft_bar(2), SPEED, LOST),
        requests_each=2,
        ramp_s=5,
    ),
    Row(
        "tier3",
        "300 agents x 180 tok/s",
        300,
        (ttft_bar(5), Bar("share of a core, %", "core_pct", 60, 40), SPEED, LOST),
        requests_each=2,
        tokens=900,
        itl_ms=1e3 / 180,
    ),
    Row(
        "S5",
        "200 agents, bodies of 100 KB",
        200,
        (cpu_bar(4, 2, "request"), LOST),
        requests_each=5,
        ramp_s=0.5,
        tokens=20,
        itl_ms=10,
        body=100_000,
    ),
    Row(
        "churn",
        "70,000 events/s for a minute, answers of a median of 150 tokens and a P95 of 2,000",
        3_510,  # some are always between two answers
        (
            Bar("events/s in the weakest second", "held_events_per_s", 70_000, at_least=True),
            ttft_bar(5),
            LOST,
        ),
        ramp_s=10,
        tokens=LENGTHS_MAX,
        seconds=75,
        lengths=lognormal_lengths(40),
        c_requests_each=2,
        c_tokens=500,
    ),
    Row(
        "memory",
        "4,000 agents, answers of 2,000 tokens all in flight",
        4_000,
        (Bar("peak RSS of all processes, MiB", "rss_mib", 400, 150), LOST),
        ramp_s=5,
        tokens=2_000,
        c_tokens=100,
    ),
    Row(
        "records",
        "S2, with and without the final decode and the record of each answer (ours always has both)",
        1_000,
        (
            Bar(
                "CPU per event, x without records",
                "us_per_event",
                1.2,
                relative_to="agentperf without records",
            ),
            LOST,
        ),
        requests_each=2,
        ramp_s=5,
        compare={"agentperf without records": ("--without-records",)},
    ),
    Row(
        "plain",
        "2,000 agents x 20 tok/s on one core without uvloop (the engine runs neither it nor asyncio)",
        2_000,
        (ttft_bar(5), LOST),
        requests_each=2,
        ramp_s=4,
    ),
)


class Bench:
    """A built copy of loadbench, and what was run in it."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder / "loadbench"
        shutil.copytree(source, self.folder, ignore=shutil.ignore_patterns("venvs", "out", "*.jsonl"))
        subprocess.run(["make", "-s", "-C", str(self.folder), "clean", "all"], check=True)
        self._keep = folder / "keep"
        self._results = folder / "results.jsonl"

    def c(self, row: Row) -> Run:
        """Run the reference client."""
        row = replace(
            row,
            tokens=row.c_tokens or row.tokens,
            requests_each=row.c_requests_each or row.requests_each,
            seconds=None,
        )
        return self._measure(
            "c", row, [str(self.folder / "clients" / "cclient"), "--port", "{port}"], pin=True
        )

    def ours(
        self, row: Row, name: str = "agentperf", options: Sequence[str] = (), *, pin: bool = True
    ) -> Run:
        """Run the load engine."""
        command = [sys.executable, str(CLIENT), "--url", "{url}", *options]
        if row.seconds is not None:
            command += ["--seconds", str(row.seconds)]
        if row.lengths:
            command += ["--lengths", *map(str, row.lengths)]
        return self._measure(name, row, command, pin=pin)

    def peer(self, row: Row, name: str, runs: int, venvs: Path, tokenizer: Path, *, quick: bool) -> list[Run]:
        """Run another load generator by loadbench's command line for it."""
        extra = f"--agents {row.agents} --requests {row.agents * row.requests_each} --ramp {row.ramp_s}"
        environment = {
            **os.environ,
            "VENVS": str(venvs.absolute()),
            "TOK": str(tokenizer),
            "JSON": str(self._results),
            "TO": "300",
            "EXTRA": f"{extra} --tokens {row.tokens}" if quick else "",
        }
        self._results.unlink(missing_ok=True)
        command = ["bash", "run_peers.sh", row.name, str(runs), name]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        if not self._results.exists():
            return [Run(name, {}, False, done.stderr[-400:], {}, {})]
        kept = self.folder / "out" / name
        return [_run(name, row, result, kept) for result in map(json.loads, self._lines())]

    def _measure(self, name: str, row: Row, command: list[str], *, pin: bool) -> Run:
        shutil.rmtree(self._keep, ignore_errors=True)
        self._results.unlink(missing_ok=True)
        options = {
            "--name": name.replace(" ", "-"),
            "--json": self._results,
            "--keep": self._keep,
            "--result": "{out}",
            "--timeout": 60 + 3 * _expected_s(row),
            "--agents": row.agents,
            "--requests": row.agents * row.requests_each,
            "--tokens": row.tokens,
            "--itl-ms": row.itl_ms,
            "--ttft-ms": row.ttft_ms,
            "--body": row.body,
            "--ramp": row.ramp_s,
        }
        measure = [sys.executable, "measure.py", *(["--pin"] if pin else [])]
        for option, value in options.items():
            measure += [option, str(value)]
        for name_ in ("agents", "requests", "ramp", "out"):
            command += [f"--{name_}", f"{{{name_}}}"]
        command += ["--max-tokens", "{tokens}", "--body-bytes", "{body}"]
        done = subprocess.run(
            [*measure, "--", *command],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if not self._results.exists():
            return Run(name, {}, False, done.stdout[-400:], {}, {})
        return _run(name, row, json.loads(self._lines()[-1]), self._keep)

    def _lines(self) -> list[str]:
        return self._results.read_text(encoding="utf-8").splitlines()


def _expected_s(row: Row) -> float:
    answer_s = (row.ttft_ms + row.tokens * row.itl_ms) / 1e3
    return row.seconds or row.ramp_s + row.requests_each * answer_s


def _run(client: str, row: Row, result: dict[str, Any], kept: Path) -> Run:
    log = kept / "client.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    load: dict[str, Any] = next(
        (json.loads(line.removeprefix("load ")) for line in lines if line.startswith("load {")), {}
    )
    error = None
    if result["rc"] != 0 or not result["server_ok"]:
        error = f"ended with {result['rc']}: " + " / ".join(lines[-3:])[-400:]
    figures = _figures(row, result, kept) if error is None else {}
    return Run(client, figures, result["server"]["late_us_p99"] > DISTURBED_US, error, load, result)


def _figures(row: Row, result: dict[str, Any], kept: Path) -> dict[str, float]:
    figures: dict[str, float] = {"late_us_p99": result["server"]["late_us_p99"]}
    if result["cgroup"]:
        figures["us_per_event"] = result["us_per_event"]
        figures["us_per_request"] = result["us_per_request"]
        # At the full rate: the share of the whole window has the ramp in it.
        figures["core_pct"] = result["us_per_event"] * row.rate / 1e4
        figures["rss_mib"] = result["peak_rss_mb"] * 1e6 / MIB
    if result.get("ttft_err_ms"):
        figures["ttft_err_p99_ms"] = result["ttft_err_ms"]["p99"]
    if result.get("speed_abs_err_pct"):
        figures["speed_err_p99_pct"] = result["speed_abs_err_pct"]["p99"]
    if result.get("match") == "id":
        asked = result["client_rows"] if row.seconds is not None else result["requests"]
        whole = result["client_rows"] - result["client_errors"] - result["token_count_mismatch"]
        figures["lost"] = max(0, asked - whole)
    if row.seconds is not None and (kept / "server.csv").exists():
        with (kept / "server.csv").open(newline="") as file:
            figures["held_events_per_s"] = _held_events_per_s(row, list(csv.DictReader(file)))
    return figures


def _held_events_per_s(row: Row, requests: Iterable[Mapping[str, str]]) -> float:
    """Return the events that the server sent in the weakest second of the minute after the ramp."""
    assert row.seconds is not None
    streams = [(int(r["t_recv"]), int(r["t_first"]), int(r["sent"])) for r in requests if int(r["sent"])]
    open_ns = min(t_recv for t_recv, _, _ in streams) + round((row.ramp_s + 1) * 1e9)
    seconds: Counter[int] = Counter()
    itl_ns = row.itl_ms * 1e6
    for _, t_first, sent in streams:
        seconds.update(int((t_first + k * itl_ns - open_ns) // 1e9) for k in range(sent))
    return min(seconds[second] for second in range(min(60, int(row.seconds - row.ramp_s - 2))))


def run_row(bench: Bench, row: Row, runs: int, again: int) -> dict[str, list[Run]]:
    """Run C, the others in turn, and C again; a disturbed run is repeated up to `again` times in the row."""
    done: dict[str, list[Run]] = {"c": [], **{name: [] for name in row.compare}, "agentperf": []}
    left = again

    def add(client: str, start: Callable[[], Run]) -> None:
        nonlocal left
        while True:
            run = start()
            done[client].append(run)
            print(f"  {_line(run)}", flush=True)
            if left == 0 or not run.disturbed:
                return
            left -= 1

    add("c", lambda: bench.c(row))
    for _ in range(runs):
        for name, options in row.compare.items():
            add(name, lambda name=name, options=options: bench.ours(row, name, options))  # type: ignore[misc]
        add("agentperf", lambda: bench.ours(row))
    add("c", lambda: bench.c(row))
    return done


def _line(run: Run) -> str:
    if run.error is not None:
        return f"{run.client}: FAILED, {run.error}"
    figures = ", ".join(f"{name} {_number(value)}" for name, value in run.figures.items())
    return f"{run.client}: {figures}{' - DISTURBED' if run.disturbed else ''}"


def judge(bar: Bar, done: Mapping[str, Sequence[Run]]) -> Judged:
    """Hold one figure against its limits: the median of the undisturbed runs, where there are any."""
    runs = done["agentperf"]
    values = _values(runs, bar.figure)
    if bar.relative_to is not None:
        units = _values(done[bar.relative_to], bar.figure)
        unit = median(units) if units else 0
        values = [value / unit for value in values] if unit else []
    if not values:
        return Judged(bar.what, [], None, bar.limit, bar.stretch, bar.at_least, "not measured")
    worst = min if bar.at_least else max
    value = worst(values) if bar.worst else median(values)
    of_c = _values(done["c"], bar.figure)
    # What the reference client misses too, this machine did not show at the time.
    verdict = "missed, by C too" if bar.figure in FLOOR and of_c and median(of_c) > bar.limit else "missed"
    for name, limit in (("stretch met", bar.stretch), ("met", bar.limit)):
        if limit is not None and (value >= limit if bar.at_least else value <= limit):
            verdict = name
            break
    if any(run.error for run in runs):
        verdict += ", but a run failed"
    if all(run.disturbed for run in runs):
        verdict += " (all runs disturbed)"
    return Judged(bar.what, values, value, bar.limit, bar.stretch, bar.at_least, verdict)


def _values(runs: Sequence[Run], figure: str) -> list[float]:
    found = [run for run in runs if figure in run.figures]
    return [run.figures[figure] for run in ([run for run in found if not run.disturbed] or found)]


def run_peers(
    bench: Bench, row: Row, peers: Sequence[str], venvs: Path | None, runs: int, *, quick: bool
) -> tuple[dict[str, list[Run]], list[str]]:
    """Run other load generators and ours side by side; returns the runs, and why some are missing."""
    notes = []
    tokenizer = bench.folder.parent / "tokenizer"
    here = []
    for peer in peers:
        folder = None if venvs is None else venvs / PEER_FOLDERS.get(peer, peer)
        if folder is None or not folder.is_dir():
            notes.append(f"{peer} was left out: no environment {PEER_FOLDERS.get(peer, peer)!r} in --venvs")
        elif peer != "locust" and not tokenizer.exists() and not _make_tokenizer(bench, folder, tokenizer):
            notes.append(f"{peer} was left out: its environment cannot make the tokenizer")
        else:
            here.append(peer)
    done = {"c": [bench.c(row)], "agentperf, unpinned": []}
    for _ in range(runs):
        done["agentperf, unpinned"].append(bench.ours(row, "agentperf", pin=False))
    for peer in here:
        assert venvs is not None
        done[peer] = bench.peer(row, peer, runs, venvs, tokenizer, quick=quick)
    done["c"].append(bench.c(row))
    for several in done.values():
        for run in several:
            print(f"  {_line(run)}", flush=True)
    return done, notes


def _make_tokenizer(bench: Bench, folder: Path, tokenizer: Path) -> bool:
    command = [str(folder / "bin" / "python"), "peers/make_tokenizer.py", str(tokenizer)]
    done = subprocess.run(command, cwd=bench.folder, capture_output=True)
    if done.returncode != 0:
        shutil.rmtree(tokenizer, ignore_errors=True)
    return done.returncode == 0


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    budget = "/".join(
        next(iter(_lines(f"/proc/sys/kernel/sched_rt_{name}_us")), "?") for name in ("runtime", "period")
    )
    return {
        "CPU": f"{os.cpu_count()} cores, {model}",
        "system": f"{platform.system()} {platform.release()}; real-time budget {budget} µs",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "pytest-agentperf": pytest_agentperf.__version__,
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:.3g}"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    middle = _number(median(values))
    return middle if len(values) == 1 else f"{middle} ({_number(min(values))}-{_number(max(values))})"


def bars_table(done: Mapping[str, tuple[Row, dict[str, list[Run]], list[Judged]]]) -> str:
    """Return one line per bar; with each row the harness's own health."""
    lines = [
        "| row | load | figure | median (min-max) | limit | stretch | verdict |"
        " C: µs/event | C: TTFT error P99, ms | server late P99, µs | runs (disturbed) |",
        "|" + "---|" * 11,
    ]
    for row, runs, judged in done.values():
        everyone = [run for several in runs.values() for run in several]
        health = (
            _spread(_values(runs["c"], "us_per_event")),
            _spread(_values(runs["c"], "ttft_err_p99_ms")),
            _number(max((run.figures.get("late_us_p99", 0) for run in everyone), default=0)),
            f"{len(runs['agentperf'])} ({sum(run.disturbed for run in runs['agentperf'])})",
        )
        for i, bar in enumerate(judged):
            sign = ">=" if bar.at_least else "<="
            cells = [
                *((row.name, row.what) if i == 0 else ("", "")),
                bar.what,
                _spread(bar.values),
                f"{sign} {_number(bar.limit)}",
                "" if bar.stretch is None else f"{sign} {_number(bar.stretch)}",
                bar.verdict,
                *(health if i == 0 else ("",) * len(health)),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def peers_table(done: Mapping[str, Sequence[Run]]) -> str:
    """Return one line per load generator, the cheapest first."""
    unit = median(_values(done["c"], "us_per_event") or [0])
    lines = [
        "| client | runs | CPU, µs/event | x C | CPU s before and after the load | peak RSS, MiB | processes |"
        " TTFT error P99, ms | speed error P99, % | answered | server late P99, µs |",
        "|" + "---|" * 11,
    ]
    for name, runs in sorted(
        done.items(), key=lambda item: median(_values(item[1], "us_per_event") or [1e9])
    ):
        results = [run.result for run in runs if run.error is None]
        if not results:
            lines.append(f"| {name} | failed: {runs[0].error if runs else ''} |" + " |" * 9)
            continue
        cost = _values(runs, "us_per_event")
        ttft = _spread(_values(runs, "ttft_err_p99_ms"))
        if ttft == "-":
            # No ids in its report: the distance between its P99 and the server's is all there is.
            ttft = _spread([r["ttft_dist_err_ms"]["p99"] for r in results if r.get("ttft_dist_err_ms")])
            ttft += " (P99 - P99)" if ttft != "-" else ""
        cells = [
            name,
            f"{len(runs)} ({sum(run.disturbed for run in runs)} disturbed)",
            _spread(cost),
            _number(median(cost) / unit) if cost and unit else "-",
            _spread([r["cpu_before_s"] + r["cpu_after_s"] for r in results]),
            _spread(_values(runs, "rss_mib")),
            str(max(r["max_procs"] for r in results)),
            ttft,
            _spread(_values(runs, "speed_err_p99_pct")),
            f"{min(r['client_rows'] - r['client_errors'] for r in results)}/{results[0]['requests']}",
            _number(max(r["server"]["late_us_p99"] for r in results)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ",".join(row.name for row in ROWS)
    parser.add_argument("--loadbench", type=Path, default=LOADBENCH, help="its folder; a copy is built")
    parser.add_argument("--rows", default=names, help="some of %(default)s; '' for none")
    parser.add_argument("--runs", type=int, default=3, help="of each row (%(default)s)")
    parser.add_argument(
        "--again", type=int, default=2, help="repeats for disturbed runs of a row (%(default)s)"
    )
    parser.add_argument(
        "--peers", default="", help="run these too, at S2: aiperf,locust,infperf,guidellm,genai"
    )
    parser.add_argument("--venvs", type=Path, help="folder of the peers' virtual environments")
    parser.add_argument("--json", type=Path, help="write every run and verdict here")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the load: shows that it runs, no more"
    )
    args = parser.parse_args()
    args.rows = [name for name in args.rows.split(",") if name]
    args.peers = [name for name in args.peers.split(",") if name]
    if unknown := set(args.rows) - {row.name for row in ROWS}:
        parser.error(f"unknown rows {', '.join(sorted(unknown))}: there are {names}")
    if not (args.loadbench / "measure.py").is_file():
        parser.error(f"no measure.py in {args.loadbench}: give --loadbench")
    if args.runs < 1:
        parser.error("--runs must be at least 1")
    return args


def main() -> int:
    args = arguments()
    rows = [row.quick() if args.quick else row for row in ROWS]
    facts = machine()
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()), flush=True)
    done: dict[str, tuple[Row, dict[str, list[Run]], list[Judged]]] = {}
    peers: dict[str, list[Run]] = {}
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="agentperf-loadbench-") as folder:
        bench = Bench(args.loadbench, Path(folder))
        for row in rows:
            if row.name in args.rows:
                print(f"{row.name}: {row.what}", flush=True)
                runs = run_row(bench, row, args.runs, args.again)
                done[row.name] = (row, runs, [judge(bar, runs) for bar in row.bars])
        if args.peers:
            row = next(row for row in rows if row.name == "S2")
            print(f"side by side: {row.what}", flush=True)
            peers, notes = run_peers(bench, row, args.peers, args.venvs, args.runs, quick=args.quick)
    print("\n" + "\n".join(f"- {name}: {fact}" for name, fact in facts.items()))
    if args.quick:
        print("- A tenth of the load: these figures are no results.")
    if done:
        print(f"\n{bars_table(done)}")
    if peers:
        print(f"\nSide by side, {row.what}; C pinned to one core, the others not:\n\n{peers_table(peers)}")
    for note in notes:
        print(f"\n{note}")
    if args.json is not None:
        report = {
            "machine": facts,
            "quick": args.quick,
            "rows": {
                name: {
                    "load": {name: value for name, value in asdict(row).items() if name != "bars"},
                    "runs": {client: [asdict(run) for run in several] for client, several in runs.items()},
                    "bars": [asdict(bar) for bar in judged],
                }
                for name, (row, runs, judged) in done.items()
            },
            "peers": {client: [asdict(run) for run in several] for client, several in peers.items()},
            "notes": notes,
        }
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    missed = any(not bar.verdict.endswith("met") for _, _, judged in done.values() for bar in judged)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
