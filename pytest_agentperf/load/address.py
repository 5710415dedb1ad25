"""Which addresses a host has, and which of them an agent connects to first."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_PATIENCE_S = 5.0


class Address(NamedTuple):
    """One way to reach a host, as `socket.connect` wants it."""

    family: int
    sockaddr: tuple[Any, ...]


class Addresses:
    """A host's addresses; agents spread over those of one family, as connections through a resolver would."""

    def __init__(self, host: str, port: int) -> None:
        """Resolve the host; raises OSError (blocks)."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self._all = list(dict.fromkeys(Address(item[0], item[4]) for item in found))
        self._family = self._all[0].family

    def for_agent(self, agent: int) -> list[Address]:
        """Return the addresses to try, in this order."""
        if len(self._all) == 1:
            return [*self._all]
        same = [address for address in self._all if address.family == self._family]
        start = agent % len(same)
        others = [address for address in self._all if address.family != self._family]
        return same[start:] + same[:start] + others

    def worked(self, address: Address) -> None:
        """Prefer this address's family from now on."""
        self._family = address.family


def unreachable(url: str) -> str | None:
    """Return why no connection to an endpoint can be made from this host, None if one can."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=_PATIENCE_S):
            return None
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
