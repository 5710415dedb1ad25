from __future__ import annotations

import gc
import os
import resource
import socket
from pathlib import Path
from typing import Any

import pytest

from pytest_agentperf.load import limits
from pytest_agentperf.load.address import Address, Addresses
from pytest_agentperf.load.limits import (
    agents_within,
    cores,
    local_ports,
    raise_descriptor_limit,
    widen_descriptor_table,
)


@pytest.mark.parametrize(
    ("descriptors", "workers", "ports", "agents"),
    [
        (1_064, 1, 28_000, 1_000),
        (1_064, 4, 28_000, 4_000),
        (1 << 20, 1, 28_232, 28_232),
        (20_064, 2, 28_232, 28_232),
        (64, 8, 28_232, 0),
        (10, 8, 28_232, 0),
        (65, 3, 28_232, 3),
        (1_024, 1, 0, 0),
    ],
)
def test_the_agents_that_fit_into_the_limits(descriptors: int, workers: int, ports: int, agents: int) -> None:
    assert agents_within(descriptors, workers, ports) == agents


def test_the_limit_of_open_files_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        raised = raise_descriptor_limit()
        assert raised >= before[0]
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == raised
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (256, 4_096, 4_096),
        (1_024, resource.RLIM_INFINITY, 1 << 20),
        (4_096, 4_096, 4_096),
    ],
)
def test_how_far_the_limit_of_open_files_is_raised(
    soft: int, hard: int, raised: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[Any] = []

    def set_limit(_: int, found: tuple[int, int]) -> None:
        wanted.append(found)
        if refused:
            raise ValueError("not so many")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    assert raise_descriptor_limit() == (soft if refused else raised)
    assert wanted == ([] if soft == hard else [(raised, hard)])


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("32768\t60999\n", 28_232),
        ("1024 65535", 64_512),
        ("5000 4000", 0),
        ("none", 16_384),
        ("1 2 3", 16_384),
    ],
)
def test_the_ports_of_this_machine(
    text: str, ports: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "range"
    path.write_text(text)
    monkeypatch.setattr(limits, "_PORT_RANGE", path)
    assert local_ports() == ports


def test_the_ports_of_a_system_that_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_PORT_RANGE", tmp_path / "nothing")
    assert local_ports() == 16_384


def test_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


def test_widening_the_table_leaves_nothing_open() -> None:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("no /proc here to count open files in")
    gc.collect()  # what other tests left open
    before = len(list(folder.iterdir()))
    widen_descriptor_table(1_024)
    widen_descriptor_table(1 << 30)  # more than the limit allows: no error either
    assert len(list(folder.iterdir())) == before
    table = Path("/proc/self/status").read_text().partition("FDSize:")[2].split()[0]
    assert int(table) >= min(1_024, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


# Addresses


def resolved(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> Addresses:
    def found(host: str, port: int, **_: Any) -> list[Any]:
        return [
            (socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host in hosts
        ]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    return Addresses("example", 80)


def order(addresses: Addresses, agent: int) -> list[str]:
    return [address.sockaddr[0] for address in addresses.for_agent(agent)]


def test_agents_spread_over_the_addresses_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = resolved(monkeypatch, "10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3")
    assert order(addresses, 0) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert order(addresses, 1) == ["10.0.0.2", "10.0.0.3", "10.0.0.1"]
    assert order(addresses, 5) == ["10.0.0.3", "10.0.0.1", "10.0.0.2"]


def test_one_family_comes_first_until_the_other_has_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = resolved(monkeypatch, "fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2")
    assert order(addresses, 0) == ["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"]
    assert order(addresses, 1) == ["fd00::2", "fd00::1", "10.0.0.1", "10.0.0.2"]
    addresses.worked(Address(socket.AF_INET, ("10.0.0.2", 80)))
    assert order(addresses, 0) == ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]
    assert order(addresses, 1) == ["10.0.0.2", "10.0.0.1", "fd00::1", "fd00::2"]
