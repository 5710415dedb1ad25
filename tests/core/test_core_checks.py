from __future__ import annotations

from pytest_agentperf.core.checks import failed, ok, preflight_error, warning
from pytest_agentperf.core.journal import DeploymentOpened
from pytest_agentperf.core.power import PowerSource
from pytest_agentperf.core.run_state import RunState


def test_all_failures_are_told_with_their_remedies() -> None:
    checks = [ok("a", "fine"), failed("b", "broken", "mend it"), warning("c", "so so"), failed("d", "gone")]
    text = str(preflight_error(checks, where="main"))
    assert text.startswith("main: 2 checks of 4 failed before the run")
    assert "✗ b: broken" in text
    assert "✗ d: gone" in text
    assert "→ b: mend it" in text
    assert "so so" not in text
    assert "--agentperf-force" in text


def opened(*checks: object) -> DeploymentOpened:
    source = PowerSource(source="file", scope="gpu", measured=True, update_period_s=None, devices=())
    return DeploymentOpened.model_validate(
        {
            "deployment": "main", "simulated": False, "request_parameters": {}, "power_source": source,
            "preflight": checks,
        }
    )  # fmt: skip


def test_what_a_run_was_once_forced_past_stays_known() -> None:
    def no_search(name: str) -> object:
        raise NotImplementedError(name)

    state = RunState(no_search)  # type: ignore[arg-type]
    state.apply(opened(failed("power", "no reading"), ok("usage", "fine")))
    state.apply(opened(ok("power", "readings"), ok("usage", "fine")))
    assert [(check.name, check.status) for check in state.checks["main"]] == [
        ("power", "ok"),
        ("usage", "ok"),
        ("power", "failed"),
    ]
    state.apply(opened(failed("power", "again")))
    assert [check.what for check in state.checks["main"]] == ["again"]
