"""How many connections this machine can hold: descriptors and ports, checked before they run out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import socket
from pathlib import Path

# A process also holds its pipes, libraries and logs.
_OTHER_DESCRIPTORS = 64
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# More connections than one worker carries; a table of half a megabyte.
_TABLE_MAX = 1 << 16
# The range that IANA sets aside, and most systems use.
_USUAL_PORTS = 65_535 - 49_152 + 1


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files to what the system allows, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard or hard == resource.RLIM_INFINITY:
        wanted = 1 << 20 if hard == resource.RLIM_INFINITY else hard
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return soft
        return wanted
    return soft


def widen_descriptor_table(descriptors: int) -> None:
    """Let the kernel make room for so many open files now.

    In a process with threads Linux stalls the one that opens the 65th, 129th, 257th … file by 10 ms each time
    (`expand_fdtable` waits for all processors): measured, that was the P99 of TTFT while agents start.
    """
    with socket.socket() as any_file, contextlib.suppress(OSError):
        os.close(fcntl.fcntl(any_file, fcntl.F_DUPFD, min(descriptors, _TABLE_MAX) - 1))


def local_ports() -> int:
    """Return how many connections to one address and port this machine can have open."""
    try:
        low, high = map(int, _PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        return _USUAL_PORTS
    return max(0, high - low + 1)


def agents_within(descriptors: int, workers: int, ports: int) -> int:
    """Return how many agents, one connection each, fit into the limits of `workers` processes of one machine."""
    return min(max(0, descriptors - _OTHER_DESCRIPTORS) * workers, ports)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
