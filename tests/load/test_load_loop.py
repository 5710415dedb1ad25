from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib.util
import os
import random
import select
import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from load_support import MS, WAIT_S, run_for, run_until

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.load import loop as loop_module
from pytest_agentperf.load.loop import READ, WRITE, Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def loop_without_epoll() -> type[Loop]:
    """Return the loop as it is where the system has no epoll."""
    assert loop_module.__file__ is not None
    spec = importlib.util.spec_from_file_location("loop_without_epoll", loop_module.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delattr(select, "epoll", raising=False)
        spec.loader.exec_module(module)
    found: type[Loop] = module.Loop
    return found


@pytest.fixture(params=[Loop, loop_without_epoll()], ids=["native", "poll"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def pairs() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """Make connected sockets, which are closed afterwards."""
    with ExitStack() as stack:

        def pair() -> tuple[socket.socket, socket.socket]:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            return stack.enter_context(ours), stack.enter_context(theirs)

        yield pair


Pairs = Any


def spin(duration_ns: int) -> None:
    end_ns = monotonic_ns() + duration_ns
    while monotonic_ns() < end_ns:
        pass


def run_all(loop: Loop) -> None:
    """Run what is at hand."""
    loop.call_soon(lambda: loop.call_soon(loop.stop))
    loop.run()


# Timers


def test_timers_run_in_the_order_of_their_times_and_never_early(loop: Loop) -> None:
    start_ns = loop.now_ns()
    whens = [start_ns + random.Random(5).randrange(30 * MS) for _ in range(200)]
    whens += whens[:50]
    ran: list[tuple[int, int]] = []
    early: list[int] = []

    def run(number: int) -> None:
        if monotonic_ns() < whens[number]:
            early.append(number)
        ran.append((whens[number], number))

    for number, when_ns in enumerate(whens):
        loop.call_at(when_ns, lambda number=number: run(number))  # type: ignore[misc]
    run_until(loop, lambda: len(ran) == len(whens))
    assert early == []
    # Those of the same time in the order in which they were made.
    assert ran == sorted(ran)


def test_a_timer_whose_time_has_passed_runs_at_once(loop: Loop) -> None:
    ran: list[int] = []
    loop.call_at(monotonic_ns() - NS_PER_S, lambda: ran.append(2))
    loop.call_at(0, lambda: ran.append(1))
    run_all(loop)
    assert ran == [1, 2]


def test_a_timer_may_make_timers(loop: Loop) -> None:
    ran: list[int] = []

    def tick() -> None:
        ran.append(1)
        if len(ran) < 5:
            loop.call_at(monotonic_ns() + MS, tick)

    loop.call_at(monotonic_ns(), tick)
    run_until(loop, lambda: len(ran) == 5)
    run_for(loop, 10 * MS)
    assert len(ran) == 5


def test_a_timer_that_was_called_off_does_not_run(loop: Loop) -> None:
    ran: list[str] = []
    when_ns = monotonic_ns() + 2 * MS

    def call_off_the_second() -> None:
        ran.append("first")
        second.cancel()

    first = loop.call_at(when_ns, call_off_the_second)
    # Both are due at once: the first still calls off the second.
    second = loop.call_at(when_ns, lambda: ran.append("second"))
    before = loop.call_at(when_ns, lambda: ran.append("before"))
    before.cancel()
    before.cancel()
    run_for(loop, 10 * MS)
    assert ran == ["first"]
    first.cancel()


# Order


@pytest.mark.parametrize("sockets", [3, 300], ids=["few", "more than one look tells of"])
def test_reads_come_before_other_work(sockets: int, loop: Loop, pairs: Pairs) -> None:
    order: list[str] = []
    loop.call_soon(lambda: order.append("soon"))
    loop.call_at(monotonic_ns(), lambda: order.append("timer"))
    for _ in range(sockets):
        ours, theirs = pairs()
        theirs.send(b"x")

        def read(ready: int, ours: socket.socket = ours) -> None:
            assert ready & READ
            ours.recv_into(loop.memory)
            order.append("read")

        loop.watch(ours.fileno(), READ, read)
    run_all(loop)
    assert order == ["read"] * sockets + ["soon", "timer"]


def test_what_is_called_soon_keeps_its_order(loop: Loop) -> None:
    order: list[int] = []

    def outer() -> None:
        order.append(1)
        loop.call_soon(lambda: order.append(3))

    loop.call_soon(outer)
    loop.call_soon(lambda: order.append(2))
    run_all(loop)
    assert order == [1, 2, 3]


def test_a_read_does_not_wait_for_a_queue_of_other_work(loop: Loop, pairs: Pairs) -> None:
    ours, theirs = pairs()
    read_after: list[int] = []
    worked = 0

    def read(ready: int) -> None:
        ours.recv_into(loop.memory)
        read_after.append(worked)

    def work() -> None:
        nonlocal worked
        if not worked:
            theirs.send(b"x")
        worked += 1
        spin(200_000)

    loop.watch(ours.fileno(), READ, read)
    for _ in range(1_000):
        loop.call_soon(work)
    run_until(loop, lambda: worked == 1_000)
    assert len(read_after) == 1
    assert 0 < read_after[0] < 500


def test_work_that_makes_more_work_lets_reads_through(loop: Loop, pairs: Pairs) -> None:
    ours, theirs = pairs()
    theirs.send(b"x")
    end_ns = monotonic_ns() + round(WAIT_S * NS_PER_S)
    read: list[int] = []

    def again() -> None:
        if not read and monotonic_ns() < end_ns:
            loop.call_soon(again)
        else:
            loop.stop()

    def start() -> None:
        # After the first look at the sockets.
        loop.watch(ours.fileno(), READ, read.append)
        again()

    loop.call_soon(start)
    loop.run()
    assert read


def test_sockets_that_are_always_ready_let_other_work_through(loop: Loop, pairs: Pairs) -> None:
    calls = 0

    def called(ready: int) -> None:
        nonlocal calls
        calls += 1

    for _ in range(20):
        ours, _ = pairs()
        loop.watch(ours.fileno(), WRITE, called)
    ran: list[int] = []
    loop.call_at(monotonic_ns() + MS, lambda: ran.append(1))
    run_until(loop, lambda: bool(ran))
    assert calls >= 20


# Sockets


def test_a_handler_is_told_of_what_it_watches_for(loop: Loop, pairs: Pairs) -> None:
    ours, theirs = pairs()
    seen: list[int] = []
    loop.watch(ours.fileno(), READ | WRITE, seen.append)
    run_all(loop)
    assert seen
    assert not any(ready & READ for ready in seen)
    seen.clear()
    loop.watch(ours.fileno(), READ, seen.append)
    run_all(loop)
    assert seen == []
    theirs.send(b"x")
    run_all(loop)
    assert seen
    assert not any(ready & WRITE for ready in seen)
    ours.recv(1)
    seen.clear()
    theirs.close()
    run_all(loop)
    # The end is something to read.
    assert any(ready & READ for ready in seen)


def test_a_socket_that_is_not_watched_any_more(loop: Loop, pairs: Pairs) -> None:
    ours, theirs = pairs()
    seen: list[int] = []
    loop.watch(ours.fileno(), READ, seen.append)
    theirs.send(b"x")
    loop.unwatch(ours.fileno())
    loop.unwatch(ours.fileno())
    run_all(loop)
    assert seen == []
    loop.watch(ours.fileno(), READ, seen.append)
    run_all(loop)
    assert seen


def test_a_handler_may_close_another_of_its_batch(loop: Loop, pairs: Pairs) -> None:
    both = [pairs(), pairs()]
    called: list[int] = []

    def handler(number: int) -> Callable[[int], None]:
        def handle(ready: int) -> None:
            called.append(number)
            both[number][0].recv_into(loop.memory)
            other = both[1 - number][0]
            if other.fileno() >= 0:
                loop.unwatch(other.fileno())
                other.close()

        return handle

    for number, (ours, theirs) in enumerate(both):
        theirs.send(b"x")
        loop.watch(ours.fileno(), READ, handler(number))
    run_all(loop)
    assert len(called) == 1


def test_a_descriptor_that_is_used_again_within_a_batch(loop: Loop, pairs: Pairs) -> None:
    both = [pairs(), pairs()]
    called: list[int] = []
    received: list[bytes] = []
    reused: list[tuple[socket.socket, socket.socket]] = []

    def handler(number: int) -> Callable[[int], None]:
        def handle(ready: int) -> None:
            called.append(number)
            both[number][0].recv_into(loop.memory)
            other = both[1 - number][0]
            descriptor = other.fileno()
            loop.unwatch(descriptor)
            other.close()
            reused.append(pairs())
            new = reused[0][0]
            assert descriptor in (new.fileno(), reused[0][1].fileno())
            loop.watch(new.fileno(), READ, read)

        return handle

    def read(ready: int) -> None:
        # The event may have been its predecessor's.
        with contextlib.suppress(BlockingIOError):
            received.append(reused[0][0].recv(10))

    for number, (ours, theirs) in enumerate(both):
        theirs.send(b"old")
        loop.watch(ours.fileno(), READ, handler(number))
    run_all(loop)
    assert len(called) == 1
    assert received == []
    reused[0][1].send(b"new")
    run_until(loop, lambda: bool(received))
    assert received == [b"new"]


@pytest.mark.parametrize("least", [64, 127, 128, 300])
def test_descriptors_of_any_number(least: int, loop: Loop, pairs: Pairs) -> None:
    ours, theirs = pairs()
    descriptor = fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, least)
    try:
        # It was never watched: a connection may fail before it is.
        loop.unwatch(descriptor)
        seen: list[int] = []
        loop.watch(descriptor, READ, seen.append)
        theirs.send(b"x")
        run_until(loop, lambda: bool(seen))
        loop.unwatch(descriptor)
    finally:
        os.close(descriptor)


def test_more_sockets_than_are_served_at_one_look(loop: Loop, pairs: Pairs) -> None:
    read = 0
    sockets = [pairs() for _ in range(300)]

    def handler(ours: socket.socket) -> Callable[[int], None]:
        def handle(ready: int) -> None:
            nonlocal read
            ours.recv_into(loop.memory)
            read += 1

        return handle

    for ours, theirs in sockets:
        theirs.send(b"x")
        loop.watch(ours.fileno(), READ, handler(ours))
    run_until(loop, lambda: read == 300)


# Threads


def test_a_call_from_another_thread_wakes_an_idle_loop(loop: Loop) -> None:
    in_thread: list[int] = []

    def called() -> None:
        in_thread.append(threading.get_ident())
        loop.stop()

    idle = threading.Timer(0.02, loop.call_soon_threadsafe, [called])
    last_resort = threading.Timer(WAIT_S, loop.call_soon_threadsafe, [loop.stop])
    idle.start()
    last_resort.start()
    began_ns = monotonic_ns()
    loop.run()
    last_resort.cancel()
    assert in_thread == [threading.get_ident()]
    assert monotonic_ns() - began_ns < WAIT_S * NS_PER_S


def test_calls_from_many_threads_all_come_in_each_threads_order(loop: Loop) -> None:
    found: list[tuple[int, int]] = []

    def call(thread: int) -> None:
        for number in range(2_000):
            loop.call_soon_threadsafe(lambda item=(thread, number): found.append(item))  # type: ignore[misc]

    threads = [threading.Thread(target=call, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    run_until(loop, lambda: len(found) == 8_000)
    for thread in threads:
        thread.join()
    assert sorted(found) == [(thread, number) for thread in range(4) for number in range(2_000)]
    for number in range(4):
        mine = [item for item in found if item[0] == number]
        assert mine == sorted(mine)


def test_more_calls_than_the_wake_up_line_holds(loop: Loop) -> None:
    ran = 0

    def count() -> None:
        nonlocal ran
        ran += 1

    for _ in range(50_000):
        loop.call_soon_threadsafe(count)
    run_until(loop, lambda: ran == 50_000)


def test_a_call_to_a_closed_loop_is_lost() -> None:
    loop = Loop()
    loop.close()
    loop.call_soon_threadsafe(lambda: None)


# The end


class Stop(Exception):
    pass


@pytest.mark.parametrize("where", ["soon", "timer", "read", "thread"])
def test_what_a_callback_raises_leaves_the_loop(where: str, loop: Loop, pairs: Pairs) -> None:
    ours, theirs = pairs()

    def fail(*_: int) -> None:
        raise Stop

    if where == "soon":
        loop.call_soon(fail)
    elif where == "timer":
        loop.call_at(monotonic_ns() + MS, fail)
    elif where == "read":
        theirs.send(b"x")
        loop.watch(ours.fileno(), READ, fail)
    else:
        loop.call_soon_threadsafe(fail)
    with pytest.raises(Stop):
        run_until(loop, lambda: False)
    loop.unwatch(ours.fileno())
    ran: list[int] = []
    loop.call_soon(lambda: ran.append(1))
    run_until(loop, lambda: bool(ran))


def test_a_loop_stops_at_once_and_may_go_on(loop: Loop) -> None:
    ran: list[int] = []
    loop.call_soon(lambda: ran.append(1))
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: ran.append(2))
    loop.run()
    assert ran == [1]
    run_all(loop)
    assert ran == [1, 2]


def test_a_closed_loop_leaves_no_descriptor_open() -> None:
    folder = Path("/dev/fd")
    if not folder.is_dir():
        pytest.skip("no /dev/fd here to count in")
    gc.collect()  # what other tests left open
    before = len(list(folder.iterdir()))
    loops = [Loop() for _ in range(10)]
    assert len(list(folder.iterdir())) > before
    for loop in loops:
        loop.close()
    assert len(list(folder.iterdir())) == before
