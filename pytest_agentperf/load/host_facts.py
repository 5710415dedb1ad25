"""What a load host says of itself when a worker joins: who it is, what it has, how fast it reads streams."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf import __version__
from pytest_agentperf.clock import process_cpu_s
from pytest_agentperf.load.limits import cores, local_ports, raise_descriptor_limit
from pytest_agentperf.load.shape import Shapes
from pytest_agentperf.load.sse import StreamDecoder
from pytest_agentperf.software import software_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NETWORK = Path("/proc/self/ns/net")
_TRIAL_EVENTS = 2_000


class HostFacts(NamedTuple):
    """Plain values, for a frame."""

    id: str
    """The same for all workers of a host."""
    name: str
    version: str
    code: str
    """The digest of this package's source there."""
    python: str
    cores: int
    descriptors: int
    ports: int
    chunks_per_core_s: float
    """Events of a stream decoded per second of CPU: how hosts compare, not what one can carry."""

    @classmethod
    def here(cls) -> HostFacts:
        """Look around."""
        return cls(
            id=host_id(),
            name=socket.gethostname(),
            version=__version__,
            code=software_digest(),
            python=platform.python_version(),
            cores=cores(),
            descriptors=raise_descriptor_limit(),
            ports=local_ports(),
            chunks_per_core_s=_chunks_per_core_s(),
        )

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> HostFacts:
        """Rebuild them; what another version says besides is left out, and what it does not say is empty."""
        unknown = {"cores": 0, "descriptors": 0, "ports": 0, "chunks_per_core_s": 0.0}
        return cls(**{name: fields.get(name, unknown.get(name, "")) for name in cls._fields})


def host_id() -> str:
    """Return what is the same for all processes that share this machine and its network."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii")
    except OSError:
        boot = ""
    try:
        network = _NETWORK.stat().st_ino
    except OSError:
        network = 0
    return hashlib.sha256(f"{boot} {socket.gethostname()} {network} {os.getuid()}".encode()).hexdigest()[:16]


def _chunks_per_core_s() -> float:
    event = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
    decoder = StreamDecoder(Shapes())
    begun_s = process_cpu_s()
    for number in range(_TRIAL_EVENTS):
        decoder.feed(number, event)
    return _TRIAL_EVENTS / max(1e-6, process_cpu_s() - begun_s)
