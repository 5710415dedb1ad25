"""Whether an engine lives behind its front, asked over a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from scripted_stub import Said, running
from stub_settings import settings_for

from pytest_agentperf.clock import RealClock
from pytest_agentperf.load.hosts import LoadHosts
from pytest_agentperf.opening import Opening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripted_stub import Stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    def hello(body: dict[str, Any], in_flight: int) -> Said:
        return Said("hello", 2)

    with running(hello) as found:
        yield found


@pytest.mark.parametrize(
    ("status", "works", "refuses"),
    [
        (200, True, False),
        # Its quota is spent: that is an answer, and says nothing of the engine.
        (429, True, False),
        (503, False, True),
    ],
)
def test_a_front_is_asked_for_a_short_answer(stub: Stub, status: int, works: bool, refuses: bool) -> None:
    stub.status = status
    opening = Opening("all", settings_for(stub.url), RealClock(), hosts=LoadHosts())
    assert (opening._still_works(), opening._refuses()) == (works, refuses)
    assert {body["max_tokens"] for body in stub.bodies} == {16}


def test_who_gives_no_answer_at_all_has_not_refused() -> None:
    # Beside the load, an answer may take its time; alone, none is a failure.
    opening = Opening("all", settings_for("http://127.0.0.1:9/v1"), RealClock(), hosts=LoadHosts())
    assert (opening._still_works(), opening._refuses()) == (False, False)
