"""One deployment of a run after the other is loaded by the same hosts: one that was lost stays lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from virtual_system import SHAPES, settings_for

from pytest_agentperf import opening as opening_module
from pytest_agentperf.clock import RealClock
from pytest_agentperf.opening import NotRunnable, opener

if TYPE_CHECKING:
    from pytest_agentperf.load.hosts import LoadHosts


def test_deployments_of_a_run_share_its_load_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[LoadHosts] = []

    def opening(*args: Any, hosts: LoadHosts, **options: Any) -> None:
        seen.append(hosts)
        raise NotRunnable("not here")

    monkeypatch.setattr(opening_module, "Opening", opening)
    settings = settings_for(SHAPES[0], nonce="n")
    one, other = opener(settings), opener(settings)
    for open_, name in ((one, "a"), (one, "b"), (other, "a")):
        with pytest.raises(NotRunnable):
            open_(name, settings, lambda: None, RealClock())
    assert seen[0] is seen[1]
    # The next run asks hosts anew.
    assert seen[2] is not seen[0]
