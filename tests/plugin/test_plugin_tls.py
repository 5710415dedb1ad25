"""A whole run over https, with an authority of the site's own; one that nobody named ends it before it begins."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pandas as pd
import pytest
from load_support import background_loop
from plugin_support import ENGINE, MODEL, Workplace

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.sim.process import SimServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPENSSL_CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = agentperf
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Proxy:
    """Ends TLS before a server, connection by connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self.connections = 0
        self.handlers: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.handlers.add(task)
        task.add_done_callback(self.handlers.discard)
        there = await asyncio.open_connection(self._host, self._port)
        with contextlib.suppress(OSError):
            await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))
        for side in (writer, there[1]):
            side.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


class Https(NamedTuple):
    url: str
    ca_file: Path
    other_ca_file: Path
    proxy: Proxy


@pytest.fixture
def https(tmp_path: Path) -> Iterator[Https]:
    """The simulated server behind TLS."""
    certificates = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    with (
        SimServer(EngineConfig.model_validate(ENGINE), model=MODEL) as sim,
        background_loop() as loop,
    ):
        proxy = Proxy(sim.url)

        async def start() -> asyncio.Server:
            return await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=context)

        async def stop(server: asyncio.Server) -> None:
            server.close()
            for task in list(proxy.handlers):
                task.cancel()
            await asyncio.gather(*proxy.handlers, return_exceptions=True)

        server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        try:
            port = server.sockets[0].getsockname()[1]
            yield Https(
                f"https://127.0.0.1:{port}/v1", certificates / "ca.pem", certificates / "other.pem", proxy
            )
        finally:
            asyncio.run_coroutine_threadsafe(stop(server), loop).result(10)


def make_certificates(folder: Path) -> Path:
    """Make an authority, a certificate that it signed, and another authority."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    folder = folder / "certificates"
    folder.mkdir()
    (folder / "openssl.cnf").write_text(OPENSSL_CONFIG, encoding="utf-8")

    def make(name: str, kind: str, *options: str) -> None:
        command = [
            openssl,
            "req",
            "-x509",
            "-config",
            "openssl.cnf",
            "-extensions",
            kind,
            "-days",
            "2",
            "-nodes",
        ]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-keyout", f"{name}.key", "-out", f"{name}.pem", *options]
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr

    make("ca", "authority")
    make("other", "authority")
    make("server", "server", "-subj", "/CN=server", "-CA", "ca.pem", "-CAkey", "ca.key")
    return folder


def test_a_run_over_https(pytester: pytest.Pytester, place: Workplace, https: Https) -> None:
    place.system(
        "secure",
        endpoint={"url": https.url, "ca_file": str(https.ca_file)},
        # The proxy shares this machine's cores; what they have to do is not the question here.
        overrides={"client_error_max": 0.99, "invalid_retries": 5},
    )
    # One agent gets more than twice the speed that the tier asks for: enough on a busy machine.
    result = pytester.runpytest_inprocess(
        "suites/tiny", "--system=secure", "--agentperf-tier=tier1", "--agentperf-max-agents=1"
    )
    result.assert_outcomes(passed=1)
    (entry,) = place.leaderboard("secure").entries
    (tier,) = entry.tiers
    assert (tier.agents, tier.confirmed) == (1, True)
    assert entry.system["deployments"]["main"]["endpoint"]["url"] == https.url
    checks = {check.name: check.status for check in entry.preflight["main"]}
    assert {checks[name] for name in ("endpoint", "model", "streaming", "usage", "load generator")} == {"ok"}
    confirming = next(phase for phase in entry.phases if phase.kind == "confirm" and not phase.invalid)
    assert confirming.load.calibration is not None
    assert confirming.server is not None, "its metrics are read over TLS, too"
    records = pd.read_parquet(place.run_folder("secure") / str(confirming.records))
    assert len(records) > 0
    assert records["failure"].isna().all()
    # Handshakes are a part of connecting.
    assert (records["connect_ns"].dropna() > 0).any()
    assert https.proxy.connections > 0


def test_an_authority_that_nobody_named_is_refused_before_anything_is_spent(
    pytester: pytest.Pytester, place: Workplace, https: Https
) -> None:
    place.system("other", endpoint={"url": https.url, "ca_file": str(https.other_ca_file)})
    place.system("none", endpoint={"url": https.url})
    before = place.files()
    systems = ["--system=other", "--system=none"]
    result = pytester.runpytest_inprocess("suites/tiny", *systems, "--agentperf-tier=tier1")
    result.assert_outcomes(errors=2)
    shown = result.stdout.str()
    assert shown.count("certificate verify failed") == 2
    assert shown.count("name the certificate of the authority that signed the server's") == 2
    assert "Traceback" not in shown
    assert https.proxy.connections == 0, "no request got behind TLS"
    assert place.files() == before
