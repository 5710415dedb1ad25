"""A line to a host's sshd on which every byte is late: what `ProxyCommand` takes.

python slow_line.py HOST PORT DELAY_S
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def relay(read: Callable[[], bytes], write: Callable[[bytes], object], delay_s: float) -> threading.Thread:
    """Pass on what is read, so much later."""
    waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def deliver() -> None:
        while True:
            due_s, data = waiting.get()
            time.sleep(max(0.0, due_s - time.monotonic()))
            if not data:
                return
            write(data)

    def take() -> None:
        while data := read():
            waiting.put((time.monotonic() + delay_s, data))
        waiting.put((0.0, b""))

    threading.Thread(target=take, daemon=True).start()
    thread = threading.Thread(target=deliver, daemon=True)
    thread.start()
    return thread


def main(host: str, port: str, delay_s: str) -> None:
    """Relay until the host has said all."""
    with socket.create_connection((host, int(port))) as sock:
        relay(lambda: os.read(0, 65_536), sock.sendall, float(delay_s))
        relay(lambda: sock.recv(65_536), lambda data: os.write(1, data), float(delay_s)).join()


if __name__ == "__main__":
    main(*sys.argv[1:])
