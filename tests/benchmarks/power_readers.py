"""CPU that a reading costs per device, with stub libraries: what NVML or amdsmi cost themselves comes on top.

python tests/benchmarks/power_readers.py [devices]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS / "power"))
ROUNDS, READS = 7, 400


def measure(source: str) -> None:
    from run_reader import reader

    from pytest_agentperf.clock import RealClock

    power = reader({"source": source}, [], RealClock())
    devices = len(power.open().devices)
    costs_us = []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        for _ in range(READS):
            power.read()
        costs_us.append((time.process_time() - began_s) / READS / devices * 1e6)
    power.close()
    least = min(costs_us)
    share = least * 1e-6 * 10 * 72
    print(
        f"{source}: {devices} devices, {least:.1f} µs each; 72 devices at 10 Hz would take {share:.2%} of a core"
    )


def main() -> None:
    if len(sys.argv) > 2:
        measure(sys.argv[2])
        return
    from stub_libraries import library

    devices = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    for source, variable in (("nvml", "LD_LIBRARY_PATH"), ("amdsmi", "ROCM_PATH")):
        env = {
            **os.environ,
            variable: str(library(source)),
            "STUB_DEVICES": " ".join(["constant:300"] * devices),
            "STUB_T0_NS": str(time.monotonic_ns()),
        }
        subprocess.run([sys.executable, __file__, str(devices), source], env=env, check=True, timeout=300)


if __name__ == "__main__":
    main()
