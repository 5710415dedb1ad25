from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from launch_support import launched, lives, script

import pytest_agentperf.deploy.readiness
from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.deploy.kept_process import KeptProcess

if TYPE_CHECKING:
    from collections.abc import Callable

PIDS = """
def tell(name): os.write(1, f"{name} {os.getpid()}\\n".encode())
def leave(name):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            tell(name)
            time.sleep(600)
        os._exit(0)
    os.wait()
"""


def pids(lines: tuple[str, ...]) -> dict[str, int]:
    return {name: int(pid) for name, pid in re.findall(r"(\w+) (\d+)", "\n".join(lines))}


def wait_until(condition: Callable[[], bool]) -> None:
    patience = threading.Event()
    for _ in range(600):
        if condition():
            return
        patience.wait(0.1)
    raise AssertionError("it did not happen within a minute")


def test_it_is_started_served_logged_and_ended(tmp_path: Path) -> None:
    server = launched(script(PIDS, "tell('server')", "serve()"), logs=tmp_path / "logs")
    server.start()
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:[23]\d{4}/v1", server.url)
        assert server.state() == "alive"
        assert server.log_tail()[-1] == "listening"
        pid = pids(server.log_tail())["server"]
        assert lives(pid)
    finally:
        server.stop()
    assert not lives(pid)
    assert server.state() == "dead"
    (log,) = (tmp_path / "logs").iterdir()
    assert log.name == "main-server-1.log"
    assert log.read_text().endswith("listening\n")
    assert log.stat().st_mode & 0o077 == 0
    assert server.log_tail()[-1] == "listening", "the last words stay"


def test_one_that_is_ready_late_is_waited_for_and_watched() -> None:
    said: list[str] = []
    slow = """
    asked = 0
    def answer(path):
        global asked
        if path == "/health":
            asked += 1
            return (200 if asked > 3 else 503), b""
        names = [{"id": "m"}] if asked > 5 else []
        return 200, json.dumps({"data": names}).encode()
    serve()
    """
    server = launched(script(textwrap.dedent(slow)), on_progress=said.append)
    server.start()
    server.stop()
    assert said[0].startswith("starting the server, 0 s: ")


@pytest.mark.parametrize(
    ("ready", "last"),
    [(None, "HTTP 503"), ("/ready", "/ready: HTTP 404"), ("http://127.0.0.1:1/x", "refused")],
)
def test_one_that_is_never_ready_is_an_error_with_its_last_words(ready: str | None, last: str) -> None:
    busy = script("answer = lambda path: (404 if path == '/ready' else 503, b'')", "serve()")
    server = launched(busy, ready=ready, ready_deadline_s=2.5)
    with pytest.raises(EndpointError, match=r"not ready within 2\.5 s") as caught:
        server.start()
    assert last in caught.value.what
    assert caught.value.what.endswith("  | listening")
    assert "ready_deadline_s" in (caught.value.remedy or "")
    assert server.state() == "dead"


def test_one_that_serves_another_model_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks before the run then name the models that there are."""
    monkeypatch.setattr(pytest_agentperf.deploy.readiness, "_OTHER_MODELS_MAX", 1)
    server = launched(script("""answer = lambda path: (200, b'{"data": [{"id": "other"}]}')""", "serve()"))
    server.start()
    server.stop()


def test_one_that_dies_says_its_last_words_but_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PLANTED", "sk-planted-1234")
    server = launched(
        script(
            r"print('\x1b[31mred\x1b[0m \x1b]0;title\x07 \u202eback')",
            "print('key', os.environ['KEY'], end=''); sys.stdout.flush()",
            "sys.exit(3)",
        ),
        environment={"KEY": "${PLANTED}"},
        logs=tmp_path,
    )
    with pytest.raises(EndpointError) as caught:
        server.start()
    text = str(caught.value)
    assert "the launched process 'server' is gone: it ended with code 3" in text
    assert r"  | red \x1b]0;title\x07 \u202eback" in text
    assert "  | key ***" in text
    assert "planted" not in text + repr(server.log_tail())
    (log,) = tmp_path.iterdir()
    assert b"planted" not in log.read_bytes()


@pytest.mark.parametrize(
    ("process", "named"),
    [
        ({"command": ("no-such-program-here",)}, "no-such-program-here"),
        ({"command": (sys.executable,), "directory": "nowhere"}, "nowhere"),
    ],
)
def test_one_that_cannot_be_started(process: dict[str, object], named: str) -> None:
    with pytest.raises(EndpointError, match="'one' could not be started: No such file") as caught:
        launched(processes={"one": process}).start()
    assert named in str(caught.value)


def test_a_port_that_is_taken_is_not_measured_in_its_place() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = launched(script("serve()"), url=f"http://127.0.0.1:{other.getsockname()[1]}/v1")
        with pytest.raises(EndpointError, match="something is there already") as caught:
            server.start()
    assert "{port}" in (caught.value.remedy or "")


def test_one_that_finds_its_port_taken_dies_with_its_reason() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        command = (*script("serve()")[:-1], str(other.getsockname()[1]))
        with pytest.raises(EndpointError, match="Address already in use"):
            launched(command).start()


def test_one_that_ignores_the_signal_is_killed_with_all_it_has_started() -> None:
    server = launched(
        script(
            PIDS,
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
            "tell('server')",
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])",
            "os.write(1, b'child %d\\n' % child.pid)",
            "leave('stray')",
            "serve()",
        ),
        stop_grace_s=0.2,
    )
    server.start()
    wait_until(lambda: len(pids(server.log_tail())) == 3)
    found = pids(server.log_tail())
    assert set(found) == {"server", "child", "stray"}
    assert all(map(lives, found.values()))
    server.stop()
    left = {name for name, pid in found.items() if lives(pid)}
    # Only Linux tells whose descendant it is once its parents are gone and it has a session of its own.
    assert not left or (sys.platform != "linux" and left == {"stray"})


def test_one_that_ends_well_is_given_its_time() -> None:
    server = launched(
        script(
            "def bye(*_): print('saving'); time.sleep(0.5); print('saved', flush=True); os._exit(0)",
            "signal.signal(signal.SIGINT, bye)",
            "serve()",
        ),
        stop_signal="SIGINT",
        stop_grace_s=30.0,
    )
    server.start()
    server.stop()
    assert server.log_tail()[-1] == "saved"


def test_an_endless_log_neither_blocks_nor_grows_without_bound(tmp_path: Path) -> None:
    server = launched(
        script(
            "import threading",
            "def chatter():\n    while True: os.write(1, b'x' * 4000 + b'\\n')",
            "threading.Thread(target=chatter, daemon=True).start()",
            "serve()",
        ),
        logs=tmp_path,
    )
    server.start()
    try:
        assert server.state() == "alive"
        assert all(len(line) <= 501 for line in server.log_tail())
    finally:
        server.stop()
    assert server.state() == "dead"


def test_one_that_dies_later_is_dead_and_comes_back_if_it_may(tmp_path: Path) -> None:
    server = launched(script(PIDS, "tell('server')", "serve()"), logs=tmp_path, restart=True)
    server.start()
    try:
        first = pids(server.log_tail())["server"]
        os.kill(first, signal.SIGSEGV)
        wait_until(lambda: server.state() == "dead")
        server.revive(1.0)
        assert server.state() == "alive"
        assert pids(server.log_tail())["server"] != first
    finally:
        server.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["main-server-1.log", "main-server-2.log"]


@pytest.mark.parametrize("log", ["engine/vllm.log", "{away}/vllm.log"])
def test_its_log_goes_where_it_is_wanted_and_overwrites_nothing(tmp_path: Path, log: str) -> None:
    logs, away = tmp_path / "logs", tmp_path / "away"
    server = launched(script("serve()"), logs=logs, restart=True, log=log.format(away=away))
    for _ in range(2):
        server.start()
        server.stop()
    folder = away if "away" in log else logs / "engine"
    assert sorted(path.name for path in folder.iterdir()) == ["vllm-2.log", "vllm.log"]
    assert all(path.read_text().endswith("listening\n") for path in folder.iterdir())
    assert (folder / "vllm.log").stat().st_mode & 0o077 == 0


def test_a_log_that_cannot_be_written_is_told_before_the_server_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = launched(script("serve()"), logs=tmp_path, log=str(tmp_path / "file" / "engine.log"))
    with pytest.raises(EndpointError, match=r"no log can be written there: (Not a directory|File exists)"):
        server.start()


def test_without_restart_a_crash_is_told_with_the_last_words() -> None:
    server = launched(script(PIDS, "tell('server')", "serve()"))
    server.start()
    os.kill(pids(server.log_tail())["server"], signal.SIGKILL)
    wait_until(lambda: server.state() == "dead")
    with pytest.raises(EndpointError, match="server: it was ended by SIGKILL") as caught:
        server.revive(1.0)
    assert "  | listening" in caught.value.what
    assert "launch.restart" in (caught.value.remedy or "")


def test_a_crash_is_told_though_its_keeper_says_so_only_after_the_server_fell_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = launched(script(PIDS, "tell('server')", "serve()"))
    server.start()
    os.kill(pids(server.log_tail())["server"], signal.SIGKILL)
    wait_until(lambda: server.state() == "dead")
    exited, asked = KeptProcess.exited, 0

    def late(process: KeptProcess) -> str | None:
        nonlocal asked
        asked += 1
        return None if asked <= 2 else exited(process)

    monkeypatch.setattr(KeptProcess, "exited", late)
    with pytest.raises(EndpointError, match="server: it was ended by SIGKILL"):
        server.revive(1.0)


def test_several_start_in_order_and_are_dead_as_soon_as_one_is(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    helper = script(
        PIDS,
        "tell('prefill')",
        "print(os.getcwd(), os.environ['SHARED'], os.environ['OWN'], flush=True)",
        "answer = lambda path: (200, b'')",
        "serve()",
    )
    router = script(
        # The one before is ready when this one starts.
        "import urllib.request",
        "urllib.request.urlopen('http://127.0.0.1:' + sys.argv[2])",
        "serve()",
    )
    server = launched(
        environment={"SHARED": "for all", "OWN": "overruled"},
        processes={
            "prefill": {
                "command": (*helper[:-1], "{port:prefill}"),
                "ready": "http://127.0.0.1:{port:prefill}/",
                "environment": {"OWN": "at {port:prefill}"},
                "directory": "work",
            },
            "router": {"command": (*router, "{port:prefill}")},
        },
        directory=tmp_path,
    )
    server.start()
    try:
        text = "\n".join(server.log_tail())
        assert re.search(rf"prefill: {tmp_path}/work for all at \d{{5}}", text)
        assert "router: listening" in text
        os.kill(pids(server.log_tail())["prefill"], signal.SIGKILL)
        wait_until(lambda: server.state() == "dead")
        assert all(line.startswith("prefill: ") for line in server.log_tail()), "of the one that has ended"
    finally:
        server.stop()


PARENT = """
import sys, time
sys.path.insert(0, {folder!r})
from launch_support import launched, script
server = launched(script({pids!r}, "tell('server')", "leave('stray')", "serve()"), stop_grace_s=0.5)
server.start()
while "stray" not in "".join(server.log_tail()): time.sleep(0.05)
print(*server.log_tail(), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_nothing_is_left_when_we_are_killed(number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(folder=str(Path(__file__).parent), pids=PIDS)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with parent:
        try:
            assert parent.stdout is not None
            found = pids((parent.stdout.readline(),))
        finally:
            os.killpg(parent.pid, number)
    assert set(found) == {"server", "stray"}
    wait_until(lambda: not lives(found["server"]))
    if sys.platform == "linux":
        wait_until(lambda: not lives(found["stray"]))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_killed_keeper_takes_the_server_with_it() -> None:
    server = launched(script(PIDS, "tell('server')", "serve()"))
    server.start()
    try:
        pid = pids(server.log_tail())["server"]
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        keeper = int(re.findall(r"PPid:\s+(\d+)", status)[0])
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: not lives(pid))
        assert server.state() == "dead"
        assert server.log_tail()[-1] == "listening", "as it was last told"
    finally:
        server.stop()
