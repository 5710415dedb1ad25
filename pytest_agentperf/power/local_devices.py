"""Accelerators of this host: their names in results, and which of them a system file means."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Protocol, TypeVar

from pytest_agentperf.core.errors import PowerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PCI = re.compile(r"^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})(?:\.([0-7]))?$", re.IGNORECASE)
PLAUSIBLE_W = (0.5, 20_000.0)
"""What one accelerator can draw, off or at its peak; beyond it the unit is wrong."""

Pci = tuple[int, int, int, int]


def host_name() -> str:
    """Return what distinguishes this machine in a deployment."""
    return socket.gethostname() or "localhost"


def pci_address(text: str) -> Pci | None:
    """Read `0000:3b:00.0` in any of its usual spellings; None if it is none."""
    found = _PCI.match(text.strip())
    if found is None:
        return None
    domain, bus, device, function = found.groups()
    return int(domain or "0", 16), int(bus, 16), int(device, 16), int(function or "0")


class LocalDevice(Protocol):
    """What a device can be chosen by."""

    @property
    def index(self) -> int:
        """The number that the vendor's tool shows."""

    @property
    def uuid(self) -> str | None:
        """The UUID."""

    @property
    def pci(self) -> Pci | None:
        """Where it is plugged in."""


D = TypeVar("D", bound=LocalDevice)


def choose(selectors: Iterable[str], found: Sequence[D], host: str) -> list[D]:
    """Return the devices that are meant by index, UUID or PCI bus id; all if none is named."""
    chosen: list[D] = []
    for selector in selectors:
        device = next((device for device in found if _is_meant(selector.strip(), device)), None)
        if device is None:
            there = ", ".join(f"{d.index} ({d.uuid or 'no UUID'})" for d in found) or "none"
            raise PowerError(
                f"there is no device {selector!r}; there are {there}",
                where=host,
                remedy="name devices by index, UUID or PCI bus id in power.devices",
            )
        if device in chosen:
            raise PowerError(
                f"device {device.index} is named twice, the second time as {selector!r}",
                where=host,
                remedy="name each device once in power.devices, or none to read all of the host",
            )
        chosen.append(device)
    return chosen or list(found)


def _is_meant(selector: str, device: LocalDevice) -> bool:
    if selector.isdecimal():
        return int(selector) == device.index
    if device.uuid is not None and selector.lower() == device.uuid.lower():
        return True
    address = pci_address(selector)
    return address is not None and address == device.pci


class Notes:
    """Remarks on devices: one line for all that share it."""

    def __init__(self, devices: int) -> None:
        self._devices = devices
        self._of: dict[str, list[str]] = {}

    def add(self, device: str, text: str) -> None:
        """Keep a remark on one device."""
        self._of.setdefault(text, []).append(device)

    def lines(self) -> tuple[str, ...]:
        """Return the remarks; those that hold for all devices do not name them."""
        return tuple(
            text if len(devices) == self._devices else f"{', '.join(devices)}: {text}"
            for text, devices in self._of.items()
        )
