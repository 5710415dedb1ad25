"""Where workers run: whatever can start one and pass plain values to and fro."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WORKER_MODULE = "pytest_agentperf.worker"
REMOTE = f"from {WORKER_MODULE} import serve; serve(channel)"
"""What a worker's end runs; the package has to be installed there."""
GONE = ("gone",)


class Link(Protocol):
    """The line to one worker."""

    def send(self, frame: tuple[Any, ...]) -> None:
        """Send plain values; raises OSError if the worker is gone. May be called from any thread."""

    def listen(self, take: Callable[[Sequence[Any]], None]) -> None:
        """Pass every frame to `take`, in another thread, and GONE once there will be none."""

    def why_gone(self) -> str:
        """Return what is known of the end of a worker that is gone, empty if nothing."""

    def close(self) -> None:
        """End the worker."""


class Place(Protocol):
    """This machine, a host, or a cluster."""

    remote: bool
    """Whether workers there may be on another host: with another clock, other files, and a network in between."""
    name: str

    def open(self, numbers: Sequence[int], *, fewer: bool = False) -> Sequence[Link]:
        """Start workers with these numbers; raises LoadError.

        `fewer`: of a place that is more than one host, those that start will do, if there are any.
        """

    def close(self) -> None:
        """End all workers."""
