"""What sampling costs: CPU of the sampler's process, and of the parent's thread, as a share of a core.

    python tests/benchmarks/power_sampler.py [--seconds 30]

Three sources: 72 synthetic devices at 10 Hz (the sampler alone), the NVML reader on the stub library of the tests, as
many, and 18 exporters of 4 devices each, once a second. CPU is what the kernel counted for the threads, in nanoseconds.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS / "power")]

from pytest_agentperf.config.power import ExporterPower, NvmlPower
from pytest_agentperf.power.open import open_sampler
from pytest_agentperf.power.process import ProcessSampler, ReaderSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

GOAL = 0.01
HOSTS, DEVICES_EACH = 18, 4


def cpu_ns(tasks: Iterator[Path]) -> int:
    """Return the CPU time of threads."""
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks)


def parent_thread() -> int:
    """Return the kernel's id of the thread that takes the readings."""
    (found,) = (t.native_id for t in threading.enumerate() if t.name == "power")
    assert found is not None
    return found


def measure(name: str, sampler: ProcessSampler, seconds: float) -> bool:
    try:
        source = sampler.open()
        sampler.start()
        # Not what starting costs: imports, connections, first calls.
        time.sleep(2.0)
        child, mine = Path(f"/proc/{sampler.pid}/task"), Path(f"/proc/self/task/{parent_thread()}")
        before, began = (cpu_ns(child.iterdir()), cpu_ns(iter((mine,)))), time.monotonic()
        time.sleep(seconds)
        after, took = (cpu_ns(child.iterdir()), cpu_ns(iter((mine,)))), time.monotonic() - began
        series = sampler.stop()
    finally:
        sampler.close()
    shares = [(a - b) / 1e9 / took for a, b in zip(after, before, strict=True)]
    readings = len(series.t_ns) / len(series.devices) / ((series.t_ns[-1] - series.t_ns[0]) / 1e9)
    good = sum(shares) < GOAL
    print(
        f"{name:<34} {len(source.devices):3} devices, {readings:4.1f} readings/s each: process {shares[0]:.3%}, "
        f"thread {shares[1]:.3%} of a core{'' if good else '  MORE THAN 1 %'}"
        + "".join(f"\n  {problem.text}" for problem in series.problems[:3]),
        flush=True,
    )
    return good


class Exporter(BaseHTTPRequestHandler):
    """A DCGM exporter whose values change every second."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        now = int(time.monotonic())
        labels = [
            f'gpu="{gpu}",UUID="GPU-{self.connection.getsockname()[1]}-{gpu}",device="nvidia{gpu}",'
            f'modelName="Stub",Hostname="node"'
            for gpu in range(DEVICES_EACH)
        ]
        lines = ["# TYPE DCGM_FI_DEV_POWER_USAGE gauge"]
        lines += [f"DCGM_FI_DEV_POWER_USAGE{{{of}}} {400 + now % 7}.5" for of in labels]
        lines += ["# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter"]
        lines += [f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{of}}} {now * 403_500}" for of in labels]
        # As long as the real one's answers are.
        lines += [f"DCGM_FI_DEV_OTHER_{n}{{{of}}} {n}" for n in range(20) for of in labels]
        body = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


def exporters(seconds: float) -> bool:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Exporter) for _ in range(HOSTS)]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    urls = tuple(f"http://127.0.0.1:{server.server_port}/metrics" for server in servers)
    try:
        config = ExporterPower(source="dcgm", urls=urls, update_period_s=1.0)
        sampler = open_sampler(config, accelerators=HOSTS * DEVICES_EACH)
        assert isinstance(sampler, ProcessSampler)
        return measure("18 exporters of 4 devices", sampler, seconds)
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def nvml(seconds: float) -> bool:
    if shutil.which("gcc") is None or importlib.util.find_spec("pynvml") is None:
        print("NVML: gcc or nvidia-ml-py is not installed, left out")
        return True
    import stub_libraries

    os.environ["LD_LIBRARY_PATH"] = str(stub_libraries.library("nvml"))
    os.environ["STUB_T0_NS"] = str(time.monotonic_ns())
    os.environ["STUB_DEVICES"] = " ".join(f"square:300,{400 + n},3" for n in range(72))
    sampler = open_sampler(NvmlPower(source="nvml"), accelerators=72)
    assert isinstance(sampler, ProcessSampler)
    return measure("NVML, stub library", sampler, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    spec = ReaderSpec("synthetic", "fake_readers:Steady", {"devices": 72})
    good = [
        measure("synthetic reader", ProcessSampler(spec, interval_s=0.1), seconds),
        nvml(seconds),
        exporters(seconds),
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    raise SystemExit(main())
