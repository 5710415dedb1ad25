"""How real engines are built or installed into a cache, and launched: nothing of them is measured here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING, Any, NamedTuple

import filelock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LLAMA_CPP = "llama-cpp-python==0.3.36"
DYNAMO = "ai-dynamo==1.4.2"
URL = "http://127.0.0.1:{port}/v1"
_CMAKE = (
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=ON", "-DLLAMA_OPENSSL=OFF",
    # Otherwise the build asks a model hub for the pages of a user interface.
    "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF",
)  # fmt: skip


class Engine(NamedTuple):
    """A real engine with a known number of slots, and the TTFT between that many agents and one more."""

    name: str
    slots: int
    ttft_p95_s: float
    model: str
    framework: str
    launch: dict[str, Any]
    prefix: tuple[str, ...] = ()
    """What the session that measures it runs in."""


def cached(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return a folder that was made completely, now or by an earlier run; others wait meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_suffix(".lock")):
        done = folder / "made"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.write_text("", encoding="utf-8")
    return folder


def run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run([*map(str, command)], cwd=cwd, check=True)


def _build_llama_cpp(folder: Path) -> None:
    run(
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-binary",
        "llama-cpp-python",
        "-d",
        folder,
        LLAMA_CPP,
    )
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (source,) = folder.glob("*/vendor/llama.cpp")
    run("cmake", "-S", source, "-B", folder / "build", *_CMAKE)
    jobs = os.environ.get("AGENTPERF_ENGINES_JOBS", str(os.cpu_count() or 1))
    run("nice", "-n", "19", "cmake", "--build", folder / "build", "--target", "llama-server", "-j", jobs)
    (folder / "build" / "bin" / "llama-server").rename(folder / "llama-server")
    shutil.rmtree(folder / "build")
    shutil.rmtree(source.parents[1])
    archive.unlink()


def llama_cpp(cache: Path, model: Path) -> Engine:
    """llama.cpp's server, built from the sources in the sdist of llama-cpp-python: about ten minutes of two cores."""
    folder = cached(cache / LLAMA_CPP, _build_llama_cpp)
    slots = 4
    command = [
        str(folder / "llama-server"), "-m", str(model / "model.gguf"), "--alias", "tiny",
        "--host", "127.0.0.1", "--port", "{port}", "--offline", "--parallel", str(slots),
        "--ctx-size", str(slots * 4_096), "--metrics", "--jinja", "--threads", "1",
    ]  # fmt: skip
    return Engine("llama.cpp", slots, 1.2, "tiny", "llama.cpp", {"command": command})


def _install_dynamo(folder: Path) -> None:
    run(sys.executable, "-m", "venv", folder / "venv")
    run(folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", DYNAMO)


def dynamo(cache: Path, model: Path) -> Engine:
    """NVIDIA Dynamo's frontend before its mocker, an engine that computes nothing but schedules for real: 650 MB.

    Some of its sockets are open to the network, so the whole session runs in a namespace that has none.
    """
    folder = cached(cache / DYNAMO, _install_dynamo)
    slots = 8
    python = str(folder / "venv" / "bin" / "python")
    common = ["--discovery-backend", "file", "--request-plane", "tcp", "--event-plane", "zmq"]
    mocker = [
        "--model-path", str(model), "--engine-type", "vllm", "--num-gpu-blocks-override", "16384",
        "--block-size", "16", "--max-num-seqs", str(slots), "--speedup-ratio", "1.0",
    ]  # fmt: skip
    launch = {
        "processes": {
            "frontend": {
                "command": [
                    python, "-m", "dynamo.frontend", *common, "--router-mode", "round-robin",
                    "--http-host", "127.0.0.1", "--http-port", "{port}",
                ]
            },
            "mocker": {"command": [python, "-m", "dynamo.mocker", *common, *mocker]},
        },
        "environment": {
            # Where the two find each other; the port tells sessions apart.
            "DYN_FILE_KV": "discovery-{port}",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "DYN_TCP_RPC_HOST": "127.0.0.1",
            "DYN_SYSTEM_HOST": "127.0.0.1",
            "DYN_SELF_HOST_METADATA": "0",
            "DYN_LOG": "warn",
        },
    }  # fmt: skip
    return Engine("dynamo", slots, 0.35, str(model), "dynamo", launch, network_of_its_own())


def network_of_its_own() -> tuple[str, ...]:
    """Return what runs a command in a network namespace with nothing but loopback; empty where that is not possible."""
    inside = 'ip link set lo up && ip addr add 192.0.2.9/32 dev lo && exec "$@"'
    options: Sequence[str] = ("-n",) if os.geteuid() == 0 else ("-r", "-n")
    prefix = ("unshare", *options, "sh", "-c", inside, "sh")
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return prefix
