"""How xdist spreads the tests: a file stays in one worker, and few files that measure in real time run at once.

A measurement counts only if its load generator is in time, so tests that compute on all cores would make it INVALID.
While one worker computes, the others mostly wait, and no core is idle.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from xdist.scheduler import LoadScopeScheduling

# What takes longest first, so that nothing long is left for the end; the name of a folder stands for all its files.
REAL_TIME = (
    "plugin/test_plugin_endings.py",
    "plugin/test_plugin_launch.py",
    "plugin/test_plugin_resume.py",
    "plugin",
    "verification",
    "cli/test_cli_commands.py",
    "cli/test_cli_power.py",
    "load/test_load_pool.py",
    "oracle/test_http_agreement.py",
    "calibration",
    "deploy/test_deploy_launch.py",
    "power",
)


LONG = (
    "recheck",
    "oracle",
    "compare",
    "report/test_report_browser.py",
    "dataset/test_dataset_trace_files.py",
    "dataset/test_dataset_synthesis.py",
    "load/test_load_response.py",
    "twin",
    "faults",
)
"""What computes for long, though some of it has few tests; first, for the same reason."""

TOGETHER = ("tests/compare",)
"""Folders whose files look at the same searches: in one worker each is made once."""


def real_time_rank(scope: str) -> int | None:
    """Return a file's place in the list of those that measure in real time, None where it is not among them."""
    return _rank(scope, REAL_TIME)


def _rank(scope: str, names: tuple[str, ...]) -> int | None:
    path = PurePosixPath(scope)
    return next((rank for rank, name in enumerate(names) if path.is_relative_to(f"tests/{name}")), None)


class SpreadFiles(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each worker file by file; all workers but one measure first, and that one computes."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)

    def _assign_work_unit(self, node: Any) -> None:
        measures = {scope: rank for scope in self.workqueue if (rank := real_time_rank(scope)) is not None}
        computes = [scope for scope in self.workqueue if scope not in measures]
        last = self.nodes[-1] if len(self.nodes) > 1 else None
        if computes and (node is last or not measures):
            long = [scope for scope in computes if _rank(scope, LONG) is not None]
            chosen = max(long or computes, key=lambda scope: len(self.workqueue[scope]))
        else:
            chosen = min(measures, key=lambda scope: measures[scope])
        self.workqueue.move_to_end(chosen, last=False)
        super()._assign_work_unit(node)
