"""Opens a bundle, changes what a forger would change, and writes it so that every digest fits again."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_agentperf.core.ruleset import RULESETS
from pytest_agentperf.recheck.archive import Bundle
from pytest_agentperf.recheck.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_agentperf.recheck.findings import Finding

LOCKED = {id_: ruleset.model_dump(mode="json") for id_, ruleset in RULESETS.items()}
GIB = 1 << 30


@cache
def _findings(path: Path, digest: str) -> tuple[Finding, ...]:
    with Bundle(path, bytes_max=GIB) as bundle:
        return tuple(verify(bundle, locked=LOCKED))


def findings(path: Path) -> tuple[Finding, ...]:
    """Verify a bundle; one that was looked at before is not computed again."""
    return _findings(path, hashlib.sha256(path.read_bytes()).hexdigest())


def failed(path: Path) -> dict[str, str]:
    """Return what does not hold: the text of each check."""
    return {one.check: str(one) for one in findings(path) if one.status == "fails"}


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


class Forgery:
    """A bundle's content, to be changed: leaderboard, journal and tables; `write` makes all digests fit."""

    def __init__(self, path: Path) -> None:
        self.files = unpacked(path)
        self.manifest = json.loads(self.files.pop("manifest.json"))
        self.name = "leaderboard.json" if "leaderboard.json" in self.files else "leaderboard-rehearsal.json"
        self.board = json.loads(self.files[self.name])
        self.events = [
            json.loads(line)["event"] for line in self.files.get("journal.jsonl", b"").split(b"\n")[:-1]
        ]
        self._before = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}

    @property
    def entry(self) -> dict[str, Any]:
        entry: dict[str, Any] = self.board["entries"][0]
        return entry

    @property
    def begun(self) -> dict[str, Any]:
        begun: dict[str, Any] = self.events[0]
        return begun

    def tier(self, name: str = "tier1") -> list[dict[str, Any]]:
        """Return the tier's result, wherever it stands."""
        told = [event["result"] for event in self.events if event["event"] == "tier_finished"]
        return [tier for tier in (*self.entry["tiers"], *told) if tier["tier"]["name"] == name]

    def phase(self, kind: str, n_agents: int) -> list[dict[str, Any]]:
        """Return a phase's result, wherever it stands."""
        told = [event["result"] for event in self.events if event["event"] == "phase_finished"]
        found = [p for p in (*self.entry["phases"], *told) if (p["kind"], p["n_agents"]) == (kind, n_agents)]
        assert found, f"no {kind} at {n_agents}"
        return found

    def configure(
        self, change: Callable[[dict[str, Any], dict[str, Any]], None], *, journal: bool = True
    ) -> None:
        """Change suite and system in the leaderboard, in the configurations, and in the journal too."""
        change(self.entry["suite"], self.entry["system"])
        if journal and self.events:
            change(self.begun["suite"], self.begun["system"])
        for name in ("suite", "system"):
            self.files[f"configuration/{name}.json"] = json.dumps(self.entry[name]).encode()

    def table(self, name: str) -> pd.DataFrame:
        return pq.read_table(io.BytesIO(self.files[name])).to_pandas(types_mapper=_nullable)

    def put(self, name: str, frame: pd.DataFrame) -> None:
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), out)
        self.files[name] = out.getvalue()

    def records(self, kind: str, n_agents: int) -> str:
        name: str = self.phase(kind, n_agents)[0]["records"]
        return name

    def change_records(
        self, kind: str, n_agents: int, change: Callable[[pd.DataFrame], pd.DataFrame]
    ) -> None:
        name = self.records(kind, n_agents)
        self.put(name, change(self.table(name)))

    def write(self, path: Path) -> Path:
        for phase in self._phases():
            for name in phase["digests"]:
                if name in self.files:
                    phase["digests"][name] = hashlib.sha256(self.files[name]).hexdigest()
        self.files[self.name] = json.dumps(self.board).encode()
        if self.events:
            digest, lines = "0" * 64, []
            for event in self.events:
                text = json.dumps(event, separators=(",", ":")).encode()
                digest = hashlib.sha256(digest.encode() + text).hexdigest()
                lines.append(b'{"sha256":"%b","event":%b}\n' % (digest.encode(), text))
            self.files["journal.jsonl"] = b"".join(lines)
        self.manifest["files"] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in self.files.items()
        }
        return packed(path, {"manifest.json": json.dumps(self.manifest).encode(), **self.files})

    def _phases(self) -> Iterator[dict[str, Any]]:
        yield from self.entry["phases"]
        yield from (event["result"] for event in self.events if event["event"] == "phase_finished")


def _nullable(type_: pa.DataType) -> Any:
    return pd.Int64Dtype() if type_ == pa.int64() else None
