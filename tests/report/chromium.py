"""Drives a headless Chromium through its own pipe: no network, no further package. One process, many pages."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE_S = 60
_KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "Tab": 9, " ": 32}


class Chromium:
    """A browser; `open` gives a page."""

    def __init__(self, profile: Path) -> None:
        assert BROWSER is not None
        # Chromium reads commands from 3 and writes to 4, so both ends lie above until they are put there.
        theirs_in, ours_out = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in os.pipe())
        ours_in, theirs_out = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in os.pipe())

        def place() -> None:
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        self._process = subprocess.Popen(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-extensions",
                "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank",
            ],
            pass_fds=(3, 4), preexec_fn=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = ours_in, ours_out
        self._buffer = b""
        self._last = 0
        self._listeners: dict[str, Callable[[dict[str, Any]], None]] = {}

    def open(self, *, width: int = 1280, height: int = 900) -> Page:
        """Return a new, empty page."""
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = Page(self, target, session)
        self._listeners[session] = page.hear
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.send(f"{domain}.enable")
        page.size(width, height)
        return page

    def send(
        self, method: str, parameters: dict[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """Send a command and return its result."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters or {}}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            heard = self._read()
            if heard.get("id") == message["id"]:
                assert "error" not in heard, f"{method}: {heard['error']}"
                result: dict[str, Any] = heard["result"]
                return result

    def forget(self, session: str) -> None:
        """Listen no longer to a page that is closed."""
        self._listeners.pop(session, None)

    def wait(self) -> None:
        """Take one message."""
        self._read()

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], PATIENCE_S)
            assert ready, "Chromium says nothing"
            read = os.read(self._in, 1 << 20)
            assert read, "Chromium has ended"
            self._buffer += read
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        listener = self._listeners.get(message.get("sessionId", ""))
        if "method" in message and listener is not None:
            listener(message)
        return message

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        os.close(self._in)
        os.close(self._out)


class Page:
    """One page: what it logged, what it asked the network for, and what can be done to it."""

    def __init__(self, browser: Chromium, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._loaded = False

    def send(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a command about this page."""
        return self._browser.send(method, parameters, self._session)

    def hear(self, message: dict[str, Any]) -> None:
        """Take an event."""
        told = message["params"]
        match message["method"]:
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                details = told["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                self.errors.append(" ".join(str(value.get("value")) for value in told["args"]))
            case "Log.entryAdded":
                self.errors.append(f"{told['entry']['source']}: {told['entry']['text']}")

    def visit(self, path: Path) -> None:
        """Open a file and wait until its charts are drawn."""
        self._loaded = False
        self.send("Page.navigate", {"url": path.resolve().as_uri()})
        while not self._loaded:
            self._browser.wait()
        self.settle()

    def settle(self) -> None:
        """Wait until every chart that was begun is drawn."""
        self.ask(
            """new Promise((done) => { let still = 0; let before = ''; (function look() {
              const now = document.querySelectorAll('figure svg path').length;
              const drawn = [...document.querySelectorAll('.canvas')].every((c) => c.querySelector('svg'));
              still = drawn && now === before ? still + 1 : 0; before = now;
              still > 2 ? done(true) : requestAnimationFrame(look); })(); })"""
        )

    def ask(self, expression: str) -> Any:
        """Return what a JavaScript expression gives, promises awaited."""
        found = self.send(
            "Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True}
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def each(self, selector: str, what: str) -> list[Any]:
        """Return an expression of every element that is there: `one`, if the selector finds it."""
        found: list[Any] = self.ask(f"[...document.querySelectorAll({selector!r})].map((one) => {what})")
        return found

    def wait_for(self, selector: str) -> None:
        """Wait until an element is there."""
        self.ask(
            f"""new Promise((done) => {{ (function look() {{
              document.querySelector({selector!r}) ? done(1) : setTimeout(look, 50); }})(); }})"""
        )

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        code = {"key": key, "windowsVirtualKeyCode": _KEYS[key], "code": "Space" if key == " " else key}
        self.send(
            "Input.dispatchKeyEvent", {"type": "keyDown", **code, **({"text": key} if key == " " else {})}
        )
        self.send("Input.dispatchKeyEvent", {"type": "keyUp", **code})

    def point_at(self, x: float, y: float) -> None:
        """Move the mouse."""
        self.send("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})

    def size(self, width: int, height: int) -> None:
        """Make the window so large."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    def media(self, *, scheme: str = "light", medium: str = "") -> None:
        """Show it in light or dark, or as printed."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", {"media": medium, "features": features})

    def picture(self) -> bytes:
        """Return a PNG of the window."""
        return base64.b64decode(self.send("Page.captureScreenshot", {"format": "png"})["data"])

    def pdf(self) -> bytes:
        """Return the page as it prints on A4."""
        found = self.send(
            "Page.printToPDF", {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.7}
        )
        return base64.b64decode(found["data"])

    def close(self) -> None:
        """Close the page."""
        self._browser.forget(self._session)
        self._browser.send("Target.closeTarget", {"targetId": self._target})
