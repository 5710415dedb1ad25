"""How often values change, told from watching them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.power.local_devices import Notes, pci_address
from pytest_agentperf.power.update_rate import WATCH_S, Watched, counter_period_s, power_period_s, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Clock:
    def __init__(self) -> None:
        self.t_ns = 0

    def now_ns(self) -> int:
        return self.t_ns

    def sleep(self, seconds: float) -> None:
        self.t_ns += round(seconds * 1e9)


def watched(value: Callable[[float], float]) -> Watched:
    clock = Clock()

    def read() -> Iterator[tuple[str, int, float]]:
        yield "it", clock.t_ns, value(clock.t_ns / 1e9)

    seen = watch(read, clock)
    assert WATCH_S <= clock.t_ns / 1e9 < WATCH_S + 0.01
    return seen["it"]


@pytest.mark.parametrize("period_s", [0.01, 0.02, 0.1, 0.5])
def test_a_counters_period_and_rise_are_seen(period_s: float) -> None:
    counter = watched(lambda t: 300 * period_s * (t // period_s))
    assert counter.moved
    assert counter.period_s(counter=True) == pytest.approx(period_s, abs=0.004)
    assert counter.per_s == pytest.approx(300, rel=0.05)


def test_power_that_stays_the_same_over_some_updates_is_not_taken_for_slow() -> None:
    # Every tenth of a second, but every third value is the same as the one before.
    power = watched(lambda t: 100 + (0, 1, 1)[int(t * 10) % 3])
    assert power.period_s(counter=False) == pytest.approx(0.1, abs=0.01)
    assert 100 < power.mean < 101


def test_what_did_not_change_has_no_period() -> None:
    still = watched(lambda _: 100.0)
    assert not still.moved
    assert still.period_s(counter=True) is None
    assert still.period_s(counter=False) is None
    assert still.per_s is None
    notes = Notes(1)
    assert power_period_s("0", "power", still, notes) == 0.1
    assert notes.lines() == (
        "power changed too seldom while it was watched for 1.2 s: an update period of 0.1 s is assumed",
    )


def test_a_counter_that_changed_once_is_as_slow_as_it_was_watched_for() -> None:
    notes = Notes(2)
    assert counter_period_s("0", "counter", watched(lambda t: t // 1), notes) == WATCH_S
    assert notes.lines() == ("0: counter changed once in 1.2 s, which is taken as its update period",)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:3B:00.0", (0, 0x3B, 0, 0)),
        ("0000:3b:00.0", (0, 0x3B, 0, 0)),
        ("3b:00.1", (0, 0x3B, 0, 1)),
        ("0002:3b:00", (2, 0x3B, 0, 0)),
        ("GPU-0000", None),
        ("3", None),
        ("", None),
    ],
)
def test_bus_ids_are_read_in_all_spellings(text: str, address: tuple[int, int, int, int] | None) -> None:
    assert pci_address(text) == address
