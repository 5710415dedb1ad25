"""What the installed plugin adds to a bare pytest start: run it, read it. The bar is 30 ms.

    python tests/benchmarks/import_time.py [--runs 40]

Starts `pytest --version` with and without the plugin in turn and compares medians of the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


def start_s(*arguments: str, folder: str) -> float:
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "--version", "--version", "-p", "no:cacheprovider", *arguments]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=40)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        for arguments in ((), ("-p", "pytest_agentperf.plugin")):
            start_s(*arguments, folder=folder)
        bare, loaded = [], []
        for _ in range(runs):
            bare.append(start_s(folder=folder))
            loaded.append(start_s("-p", "pytest_agentperf.plugin", folder=folder))
    added_ms = (statistics.median(loaded) - statistics.median(bare)) * 1e3
    print(f"bare pytest      {statistics.median(bare) * 1e3:7.1f} ms (median of {runs})")
    print(f"with the plugin  {statistics.median(loaded) * 1e3:7.1f} ms")
    ratio = statistics.median(loaded) / statistics.median(bare)
    print(f"added            {added_ms:7.1f} ms (bar: 30 ms), ratio {ratio:.3f}")
    return 0 if added_ms <= 30 else 1


if __name__ == "__main__":
    sys.exit(main())
