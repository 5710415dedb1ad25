"""Bundles: whole or not at all, the same bytes from the same run, and without names where they are to be published."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from plugin_support import Workplace, plain_environment, pytest_command

from pytest_agentperf.cli import main
from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.core.checks import ok
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.leaderboard import Leaderboard
from pytest_agentperf.core.load_report import LoadReport
from pytest_agentperf.core.verdict import InvalidReason
from pytest_agentperf.results.bundle import make_bundle
from pytest_agentperf.results.command_hosts import hosts_of
from pytest_agentperf.results.leaderboard_file import read_leaderboard
from pytest_agentperf.results.publishable import Publishing
from pytest_agentperf.sim.process import SimServer

if TYPE_CHECKING:
    from pathlib import Path

LOAD_HOST, LOST_HOST, CHECKED_HOST, RAY_HEAD = "apload1", "apload2", "apload3", "rayhead"
HOST, USER, SECRET_PLACE = "node17.lab.example", "mallory", "/srv/mallory/weights/v4"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """A run whose configuration names a host, a user and paths."""
    from plugin_support import ENGINE, MODEL

    place = Workplace(tmp_path_factory.mktemp("bundle"), tiny_dataset)
    with SimServer(EngineConfig.model_validate(ENGINE), model=MODEL) as server:
        place.system(
            "box", endpoint={"url": server.url}, expected={"tier1": 0}, overrides={"client_error_max": 0.9}
        )
        path = place.folder / "systems" / "box.yaml"
        text = path.read_text(encoding="utf-8").replace(
            "framework: sim",
            "framework: sim\n      workers:\n      - role: aggregated\n        count: 1\n"
            "        accelerators_each: 1\n"
            f"        command: serve --model {SECRET_PLACE} --host {HOST} --log {USER}@{HOST} "
            f"--copy {HOST}:{SECRET_PLACE} --bus ipc://{SECRET_PLACE}\n",
        )
        path.write_text(text, encoding="utf-8")
        done = subprocess.run(
            pytest_command("suites/tiny", "--system=box", "--agentperf-tier=tier1"),
            cwd=place.folder, env=plain_environment(), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout
    folder = place.run_folder("box")
    (folder / "logs").mkdir()
    (folder / "logs" / "main-0.log").write_text(f"prompt of {USER}", encoding="utf-8")
    return folder


@pytest.fixture
def folder(run_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(run_folder, tmp_path / "run")


def names(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return archive.getnames()


def test_everything_of_a_run_is_in_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(folder)]) == 0
    path = folder.with_name("run.agentperf.tar.gz")
    assert str(path) in capsys.readouterr().out
    found = names(path)
    assert found[0] == "manifest.json"
    inside = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    # No evidence: whoever has the bundle can make it.
    inside.remove("report.html")
    made = {
        "manifest.json",
        "environment.json",
        *(f"configuration/{n}.json" for n in ("suite", "system", "ruleset")),
    }
    assert set(found) == inside | made
    assert main(["verify", str(path)]) == 0
    said = capsys.readouterr().out
    assert "✓ phase 1 (ramp, 1 agents): metrics:" in said
    assert "run.agentperf.tar.gz holds, as far as it can be checked:" in said
    assert main(["verify", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["fails"], told["publishable"]) == (0, False)
    assert {one["status"] for one in told["findings"]} == {"holds", "not checkable"}


def test_equal_runs_give_equal_bytes(folder: Path, tmp_path: Path) -> None:
    make_bundle(folder, tmp_path / "one.tar.gz")
    shutil.copytree(folder, tmp_path / "copy")
    make_bundle(tmp_path / "copy", tmp_path / "other.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "other.tar.gz").read_bytes()


def test_no_file_is_overwritten(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.tar.gz"
    path.write_bytes(b"precious")
    with pytest.raises(ConfigError, match="it exists already"):
        make_bundle(folder, path)
    assert path.read_bytes() == b"precious"


def test_all_that_is_missing_or_damaged_is_named(folder: Path, tmp_path: Path) -> None:
    records = sorted((folder / "requests").iterdir())
    records[0].unlink()
    records[1].write_bytes(b"PAR1")
    (folder / "turns.parquet").write_bytes(b"PAR1")
    (folder / "logs" / "elsewhere.log").symlink_to("/etc/hostname")
    with pytest.raises(ConfigError) as caught:
        make_bundle(folder, tmp_path / "one.tar.gz")
    said = str(caught.value)
    assert f"requests/{records[0].name}: No such file" in said
    assert f"requests/{records[1].name}: it is not the file that was measured" in said
    assert "turns.parquet: " in said
    assert "logs/elsewhere.log: it is a link" in said
    assert not (tmp_path / "one.tar.gz").exists()


@pytest.mark.parametrize("name", ["journal.jsonl", "turns.parquet"])
def test_what_it_takes_to_check_a_run_must_be_there(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=f"{name}: No such file"):
        make_bundle(folder, tmp_path / "one.tar.gz")


def test_a_folder_without_a_leaderboard_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(tmp_path)]) == 2
    assert "it has no leaderboard" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "none")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def everything_in(path: Path) -> str:
    """Return all texts of a bundle, those in tables included."""
    texts = []
    with tarfile.open(path) as archive:
        for member in archive:
            data = archive.extractfile(member).read()  # type: ignore[union-attr]
            if member.name.endswith(".parquet"):
                texts.append(str(pq.read_table(io.BytesIO(data)).to_pydict()))
            else:
                texts.append(data.decode())
            texts.append(member.name)
    return "\n".join(texts)


def test_the_publishable_variant_names_no_host_user_or_path(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, path = tmp_path / "whole.tar.gz", tmp_path / "published.tar.gz"
    make_bundle(folder, whole)
    command = ["bundle", str(folder), "-o", str(path), "--publishable", "--hide", USER]
    assert main(command) == 0
    planted = (
        HOST,
        USER,
        SECRET_PLACE,
        "weights/v4",
        str(folder.parents[1]),
        "/suites/tiny",
        "/systems/box.yaml",
        "prompt of",
    )
    secret, published = everything_in(whole), everything_in(path)
    for text in (HOST, USER, SECRET_PLACE, "/suites/tiny", "/systems/box.yaml", "prompt of"):
        assert text in secret
    for text in planted:
        assert text not in published, text
    assert "left out: logs/main-0.log: what servers wrote" in capsys.readouterr().out
    # The disclosure stays.
    assert "serve --model <path> --host host-" in published
    assert "a test" in published
    assert main(["verify", str(path)]) == 0
    assert "✗" not in capsys.readouterr().out


def test_the_publishable_variant_names_no_load_host(folder: Path) -> None:
    (entry,) = read_leaderboard(folder / "leaderboard.json").entries
    one = entry.phases[0]
    lost = [
        {"name": f"2*ssh=-p 2222 me@{LOST_HOST}", "why": f"load worker 3 on {RAY_HEAD} is gone"},
        {"name": f"1*ray://{RAY_HEAD}:10001", "why": "no room"},
        {"name": "2*popen", "why": "load worker 1 on this machine is gone"},
    ]
    hosts = [
        {"name": name, "workers": 1, "agents": 1, "round_trip_s": 0.0, "clock_error_s": 0.0}
        for name in (LOAD_HOST, "this machine")
    ]
    load = LoadReport.model_validate({"hosts": hosts, "hosts_lost": lost, "failed": "on this machine"})
    reason = InvalidReason(
        code="late", what=f"load worker 1 on {LOAD_HOST} is gone; load worker 2 on other-host: why", remedy=""
    )
    phase = one.model_copy(update={"load": load, "invalid": (reason,)})
    preflight = {"main": (ok(f"load host {CHECKED_HOST}", "4 workers"),)}
    publishing = Publishing(entry.model_copy(update={"phases": (phase,), "preflight": preflight}))
    shown = str(publishing.value(phase.model_dump(mode="json")))
    shown += str(publishing.value(preflight["main"][0].model_dump()))
    for name in (LOAD_HOST, LOST_HOST, CHECKED_HOST, RAY_HEAD, "other-host"):
        assert name not in shown, name
    assert "load worker 1 on host-" in shown
    assert "on this machine" in shown
    assert "2*popen" in shown


@pytest.mark.parametrize(
    ("command", "hosts"),
    [
        ("ssh -tt node17 vllm serve m --port 8000", {"node17"}),
        ("/usr/bin/ssh -p 2222 -i key -o BatchMode=yes me@gpu.lab vllm serve", {"gpu.lab"}),
        ("ssh -vttp22 node17 hostname", {"node17"}),
        ("ssh -J bastion,jump2:22 -o ProxyJump=third node17", {"bastion", "jump2", "third", "node17"}),
        ("ssh -o 'ProxyCommand=ssh -W node17:22 bastion' node17 serve", {"bastion", "node17"}),
        ("ssh -L 8000:inner:8000 outer", {"inner", "outer"}),
        ("bash -c 'cd x && exec ssh -tt node17 serve'", {"node17"}),
        ("ssh ssh://me@node17:22 ssh node18 serve", {"node17", "node18"}),
        ("srun --nodes=2 --nodelist=h[01-04],login1 vllm serve", {"h[01-04]", "login1"}),
        ("srun -w h7 -N 1 vllm serve", {"h7"}),
        ("mpirun -H h1:8,h2:8 serve", {"h1", "h2"}),
        ("vllm serve m --host node17 --data-parallel-address head1 --port 8000", {"node17", "head1"}),
        ("torchrun --nnodes 2 --rdzv_endpoint=head1:29400 --master_addr head2 x.py", {"head1", "head2"}),
        ("env MASTER_ADDR=head1 VLLM_PORT=5 serve", {"head1"}),
        (
            "serve --host fd00::1 --dist-init-addr tcp://[fd00::2]:5000 --ray-address=[fd00::3]",
            {"fd00::1", "fd00::2", "fd00::3"},
        ),
        ("serve --host :: --master-addr [::1]:29500 --kv-ip 1:2:3", set()),
        ("docker run --network host -w /work image --served-model-name host", set()),
        ("vllm serve org/m --port 8000 --max-num-seqs 64", set()),
        ("ssh -l mallory -P tag node17 serve", {"mallory", "node17"}),
        (
            "ssh -lroot -o User=mallory -oHostKeyAlias=alias -o ProxyJump=me@jump:22 node17",
            {"mallory", "alias", "jump", "node17"},
        ),
        (
            "docker run --add-host db7:10.0.0.5 --add-host=db8=fd00::1 image",
            {"db7", "10.0.0.5", "db8", "fd00::1"},
        ),
        ("docker -H ssh://me@node17 run --add-host gate:host-gateway image", {"node17", "gate"}),
        ("docker run --env=MASTER_ADDR=head1 -v /a:/b -p 8000:8000 redis:7 x@sha256:ab12", {"head1"}),
        ("kubectl --context lab7 exec pod -- serve --node=h3 --peers a7,b7", {"lab7", "h3", "a7", "b7"}),
        ("srun -wh[01-04] --exclude=h8 --nodes 2-4 --gres=gpu:8 --time 1:00:00 serve", {"h[01-04]", "h8"}),
        ("pdsh -w h1,h2 -x h3 serve", {"h1", "h2", "h3"}),
        ("mpirun -host h1,h2:8 serve", {"h1", "h2"}),
        ("mpiexec -hosts=h1 serve", {"h1"}),
        ("ray start --address=head1:6379 --node-ip-address=h1", {"head1", "h1"}),
        ("rsync -a model node17:weights", {"node17"}),
        ("rsync -a model rsync://node17/weights", {"node17"}),
        ("fetch --from me@node17:/srv/weights", {"node17"}),
        ("router --prefill h1:8001 --decode=h2:{port:decode} --policy random:8", {"h1", "h2"}),
        ("serve --bus nats://n7 --store s3://bucket/model --model llama3:8b", {"n7"}),
        ("""serve --kv '{"kv_ip":"head7","kv_port":{port},"role":"both"}'""", {"head7"}),
        ("env NATS_SERVER=nats://n7:4222 no_proxy=h1,localhost serve", {"n7", "h1", "localhost"}),
        ("ssh -L *:8000:[fd00::1]:80 -R /tmp/s:inner:9 outer", {"fd00::1", "inner", "outer"}),
        ("docker run -v /a:/b vllm/vllm-openai:v0.11.0 --model org/m --kv-cache-dtype fp8_e5m2", set()),
        ("apptainer run docker://vllm/vllm-openai:v0.11.0 serve", set()),
        ("apptainer run docker://lab.example/vllm:1 docker://ubuntu:22.04", {"lab.example"}),
        ("enroot import docker://me@lab:5000#team/vllm:1", {"lab"}),
        ("vllm serve --served-model-name m:8192 --model=m:8192 --peers-at h1:8192", {"h1"}),
        ("serve --model nats://n7/weights uvx sglang@latest", {"n7"}),
        ("""serve --speculative-config '{"model": "a/b", "num_speculative_tokens": 3}'""", set()),
    ],
)
def test_hosts_are_found_in_commands(command: str, hosts: set[str]) -> None:
    for written in (command, shlex.split(command)):
        assert set(hosts_of({"launch": {"processes": {"a": {"command": written}}}})) == hosts


def test_hosts_are_found_in_environments_and_places_of_readiness() -> None:
    launch = {
        "command": ["serve"],
        "environment": {
            "MASTER_ADDR": "head1",
            "NCCL_DEBUG": "info",
            "ETCD_ENDPOINT": "http://etcd7:2379",
            "NCCL_COMM_ID": "h5:29500",
            "NO_PROXY": "h6,h7",
            "RATIO": "3:1",
        },
        "ready": "http://front9:8000/health",
    }
    assert set(hosts_of({"launch": launch})) == {"head1", "etcd7", "front9", "h5", "h6", "h7"}


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://[fd00:77::1", ("fd00:77::1", "77::1")),
        ("http://[fd00:77::1/health", ("fd00:77::1", "77::1")),
        ("http://[node17]:8000/v1", ("node17",)),
        ("http://node17:port", ("node17",)),
        ("http://node17:99999/health", ("node17",)),
        ("http://me:hunter2@[node17/v1", ("node17", "hunter2")),
    ],
)
def test_a_malformed_url_is_published_without_its_host(
    folder: Path, url: str, parts: tuple[str, ...]
) -> None:
    """No file may hold one now; those of other versions may."""
    written = json.loads((folder / "leaderboard.json").read_bytes())
    deployment = written["entries"][0]["system"]["deployments"]["main"]
    deployment["launch"] = {"command": ["serve", "--url", url, "--on", f"see {parts[0]}."], "ready": url}
    deployment["metrics_urls"] = [url]
    deployment["facility"] = [{"source": "redfish", "urls": [url], "scope": "wall"}]
    board = Leaderboard.model_validate(written)
    found, _ = Publishing(board.entries[0]).apply({"leaderboard.json": json.dumps(written).encode()})
    for part in parts:
        assert part not in found["leaderboard.json"].decode()


def test_a_host_called_like_a_field_changes_no_field(folder: Path) -> None:
    """A phase has a field `server`; `ramp` is a kind of phase, `sim` the framework."""

    written = json.loads((folder / "leaderboard.json").read_bytes())
    workers = written["entries"][0]["system"]["deployments"]["main"]["serving"]["workers"]
    workers[0]["command"] = "ssh -tt server ssh ramp serve --host sim"
    board = Leaderboard.model_validate(written)
    found, _ = Publishing(board.entries[0]).apply({"leaderboard.json": json.dumps(written).encode()})
    published = json.loads(found["leaderboard.json"])
    Leaderboard.model_validate(published)
    entry = published["entries"][0]
    command = entry["system"]["deployments"]["main"]["serving"]["workers"][0]["command"]
    assert re.fullmatch(r"ssh -tt host-\d+ ssh host-\d+ serve --host host-\d+", command)
    assert entry["system"]["deployments"]["main"]["serving"]["framework"] == "sim"
    assert {phase["kind"] for phase in entry["phases"]} >= {"warmup", "ramp"}
