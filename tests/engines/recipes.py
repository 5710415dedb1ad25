"""How real engines are built or installed into a cache, and launched: nothing of them is measured here."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
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
TRANSFORMERS = "transformers[serving]==5.17.0"
# The torch that it was tried with; and what is missing among the needs that it names.
TRANSFORMERS_NEEDS = ("torch==2.13.0", "requests")
STEP_MAX_S = 3_600.0
"""The longest step, a build, takes ten minutes of two cores."""
WAIT_MAX_S = 3 * STEP_MAX_S
URL = "http://127.0.0.1:{port}/v1"
_CMAKE = (
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=ON", "-DLLAMA_OPENSSL=OFF",
    # Otherwise the build asks a model hub for the pages of a user interface.
    "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF",
)  # fmt: skip


class Engine(NamedTuple):
    """A real engine with a known number of slots, and the TTFT between that many agents and one more.

    One without slots carries whoever comes: `slots` is then how many shall, and any TTFT will do.
    """

    name: str
    slots: int
    ttft_p95_s: float
    model: str
    framework: str
    launch: dict[str, Any]
    prefix: tuple[str, ...] = ()
    """What the session that measures it runs in."""
    output_length: str = "exact"


def cached(folder: Path, make: Callable[[Path], None], *, wait_max_s: float = WAIT_MAX_S) -> Path:
    """Return a folder that was made completely, now or by an earlier run; others wait meanwhile, but not for ever."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f"{folder.name}.lock")
    try:
        held = filelock.FileLock(lock, timeout=wait_max_s).acquire()
    except filelock.Timeout:
        raise RuntimeError(
            f"{lock}: after {wait_max_s / 60:g} minutes another run still holds it, which makes {folder.name}\n"
            f"→ see what it does ({folder / 'log'}) and end it, or name another folder by AGENTPERF_ENGINES_CACHE"
        ) from None
    with held:
        done = folder / "made"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.write_text("", encoding="utf-8")
    return folder


def run(*command: str | Path, log: Path, limit_s: float = STEP_MAX_S) -> None:
    """Run a step of an installation; what it says is in the log, and told if it fails or takes too long."""
    words = [*map(str, command)]
    # A session of its own: a build goes on where only its first process is ended.
    with (
        log.open("ab") as output,
        subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True) as process,
    ):
        try:
            problem = f"exit code {code}" if (code := process.wait(limit_s)) else None
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            problem = f"ended, as it took more than {limit_s / 60:g} minutes"
    if problem is not None:
        last = log.read_text(encoding="utf-8", errors="replace").split("\n")[-40:]
        remedy = f"→ correct what {log} says, or free the machine or its network, and run it again"
        raise RuntimeError("\n".join([f"{problem}: {' '.join(words)}", *last, remedy]))


def _build_llama_cpp(folder: Path) -> None:
    log = folder / "log"
    pip = (sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python")
    run(*pip, "-d", folder, LLAMA_CPP, log=log)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (source,) = folder.glob("*/vendor/llama.cpp")
    run("cmake", "-S", source, "-B", folder / "build", *_CMAKE, log=log)
    jobs = os.environ.get("AGENTPERF_ENGINES_JOBS", str(os.cpu_count() or 1))
    build = ("nice", "-n", "19", "cmake", "--build", folder / "build", "--target", "llama-server", "-j", jobs)
    run(*build, log=log)
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


def _install(folder: Path, *packages: str) -> None:
    log = folder / "log"
    run(sys.executable, "-m", "venv", folder / "venv", log=log)
    run(folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", *packages, log=log)


def dynamo(cache: Path, model: Path, slots: int = 8) -> Engine:
    """NVIDIA Dynamo's frontend before its mocker, an engine that computes nothing but schedules for real: 650 MB.

    Some of its sockets are open to the network, so the whole session runs in a namespace that has none.
    """
    folder = cached(cache / DYNAMO, lambda folder: _install(folder, DYNAMO))
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


def _install_transformers(folder: Path) -> None:
    _install(folder, TRANSFORMERS, *TRANSFORMERS_NEEDS)
    # Without a cache its list of models is an error.
    (folder / "home" / "hub").mkdir(parents=True)


def transformers_serve(cache: Path, model: Path) -> Engine:
    """`transformers serve` on the CPU: 1.2 GB where pip finds a torch for CPUs only, else several more.

    It batches whatever its pool of 4,096 tokens holds, knows no `ignore_eos`, and lists no model.
    """
    folder = cached(cache / "transformers-5.17.0", _install_transformers)
    command = [
        str(folder / "venv" / "bin" / "transformers"), "serve", str(model), "--host", "127.0.0.1", "--port", "{port}",
        "--continuous-batching", "--device", "cpu", "--dtype", "float32", "--attn-implementation", "sdpa",
        "--cb-block-size", "64", "--cb-num-blocks", "64", "--cb-max-batch-tokens", "512", "--no-cb-use-cuda-graph",
    ]  # fmt: skip
    environment = {
        "HF_HOME": str(folder / "home"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    launch = {"command": command, "environment": environment, "ready": "/health"}
    return Engine("transformers", 2, 60.0, str(model), "transformers", launch, output_length="natural")


def network_of_its_own() -> tuple[str, ...]:
    """Return what runs a command in a network namespace with nothing but loopback; empty where that is not possible."""
    inside = 'ip link set lo up && ip addr add 192.0.2.9/32 dev lo && exec "$@"'
    options: Sequence[str] = ("-n",) if os.geteuid() == 0 else ("-r", "-n")
    prefix = ("unshare", *options, "sh", "-c", inside, "sh")
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ()
    return prefix
