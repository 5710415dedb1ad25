"""`python -m pytest_agentperf.sim`: the simulated server alone."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentperf.config.engine import EngineConfig, load_engine_config
from pytest_agentperf.core.errors import AgentPerfError, ConfigError
from pytest_agentperf.sim.faults import FaultRates
from pytest_agentperf.sim.server import DEFAULT_MODEL, ServerOptions, SimApp

if TYPE_CHECKING:
    from collections.abc import Callable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the server's options."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the engine's parameters, YAML or JSON")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name to serve (default: %(default)s)")
    parser.add_argument("--api-key-env", metavar="VAR", help="environment variable that holds the API key")
    parser.add_argument(
        "--fail-rate", type=_rate, metavar="SHARE", default=0.0, help="share of requests answered 503"
    )
    parser.add_argument(
        "--cut-rate", type=_rate, metavar="SHARE", default=0.0, help="share of answers cut off in the middle"
    )
    parser.add_argument("--fault-seed", type=int, default=0, help="seed of the faults")
    parser.add_argument("--exit-with-parent", action="store_true", help="exit when standard input ends")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    try:
        with asyncio.Runner() as runner:
            runner.run(_serve(args))
    except AgentPerfError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


async def _serve(args: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    # Ctrl-C reaches a whole process group: a child serves on while its parent lets requests end.
    loop.add_signal_handler(signal.SIGINT, (lambda: None) if args.exit_with_parent else stopped.set)
    config = EngineConfig() if args.config is None else load_engine_config(args.config)
    app = SimApp(
        config,
        ServerOptions(
            model=args.model,
            api_key=_api_key(args.api_key_env),
            faults=FaultRates(args.fail_rate, args.cut_rate, args.fault_seed),
        ),
    )
    try:
        try:
            port = await app.listen(args.host, args.port)
        except OSError as error:
            raise ConfigError(
                f"cannot listen: {error}",
                where=f"{args.host}:{args.port}",
                remedy="Choose another --port; 0 takes a free one.",
            ) from error
        if args.exit_with_parent:
            threading.Thread(
                target=_wait_for_eof, args=(lambda: loop.call_soon_threadsafe(stopped.set),), daemon=True
            ).start()
        host = f"[{args.host}]" if ":" in args.host else args.host
        ready = {"event": "ready", "url": f"http://{host}:{port}/v1", "pid": os.getpid()}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stopped.wait()
    finally:
        await app.close()


def _wait_for_eof(then: Callable[[], object]) -> None:
    # The bare descriptor: a thread inside sys.stdin's lock would abort the interpreter's exit.
    with contextlib.suppress(OSError):
        while os.read(0, 4_096):
            pass
    then()


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ConfigError(
            f"the environment variable {variable} is not set",
            where="--api-key-env",
            remedy="Export it, or leave the option out to accept any key.",
        )
    return key


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 65535")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_agentperf.sim", description="A simulated OpenAI-compatible inference server."
    )
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
