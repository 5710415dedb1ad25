"""Takes out of a bundle what only concerns those who measured: hosts, users, paths, logs, and what servers wrote."""

from __future__ import annotations

import hashlib
import io
import json
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pytest_agentperf.results.command_hosts import host_of_url, hosts_of
from pytest_agentperf.results.document_words import document_words
from pytest_agentperf.results.journal import JOURNAL, chained

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_agentperf.core.leaderboard import Entry

_LEFT_OUT = {
    "logs/": "what servers wrote",
    "broken-off/": "requests that were never judged",
    "progress.log": "what was shown while the run went on",
}
_PUBLIC = frozenset({"source", "sources", "title", "notes", "submitter", "history_reasoning_source"})
"""Fields that were written to be published: addresses in them are those of sources."""
_TEXTS_OF_SERVERS = frozenset({"log_tail"})
_COLUMNS_OF_SERVERS = ("failure_detail", "response_id")
_HARMLESS = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1"})
_NO_HOSTS = frozenset({"this machine", "popen", "auto"})
_CHECK_OF_HOST = "load host "
_PLACE = re.compile(r"^\d+\*(?:ssh=|ray=)?")
_CREDENTIALS = re.compile(r"(https?://)[^\s/?#@'\"]*@")
_URL = re.compile(r"(https?://)(\[[^\]\s/?#'\"]+\]?|[^\s/:@?#'\"]+)")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])")
_AT = re.compile(r"[\w.+-]+@[\w.-]+")
# As texts name the place of a worker that has not told its host yet; what is here has a name of no host.
_WORKER_ON = re.compile(r"\bload worker \d+ on (?!this machine\b)([^\s,;]+)")
# Two parts or more: /v1 and /metrics are of an API.
_PATH = re.compile(
    r"(?:(?<![\w/.>])|(?<=://))(?:~|\.\.?)?/[\w.@+%~-]+(?:/[\w.@+%~-]*)+|(?<![\w/.:>])[A-Za-z]:\\[^\s'\"]+"
)


class Publishing:
    """One bundle's replacements: equal names become equal names, in every file."""

    def __init__(self, entry: Entry, names: Iterable[str] = ()) -> None:
        """`names`: further names of hosts and users, as those of the machine at hand."""
        self._names: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._words = document_words()
        for host in (*_hosts(entry), *names):
            self._host(host)

    def apply(self, contents: Mapping[str, bytes]) -> tuple[dict[str, bytes], list[str]]:
        """Return the files without these names, and what was left out, with the reason."""
        kept, left_out = {}, []
        for name, data in contents.items():
            why = next((why for start, why in _LEFT_OUT.items() if name.startswith(start)), None)
            if why is None:
                kept[name] = data
            else:
                left_out.append(f"{name}: {why}")
        found: dict[str, bytes] = {}
        # Digests of tables first, as documents name them.
        for name, data in kept.items():
            if name.endswith(".parquet"):
                found[name] = self._table(name, data)
                self._digests[hashlib.sha256(data).hexdigest()] = hashlib.sha256(found[name]).hexdigest()
        for name, data in kept.items():
            if name == JOURNAL:
                events = (json.loads(line)["event"] for line in data.split(b"\n")[:-1])
                found[name] = chained(_compact(self.value(event)) for event in events)
            elif name.endswith(".json"):
                found[name] = (
                    json.dumps(self.value(json.loads(data)), indent=2, ensure_ascii=False) + "\n"
                ).encode()
            elif name not in found:
                left_out.append(f"{name}: of a kind that may hold anything")
        return found, left_out

    def value(self, value: Any, key: str = "") -> Any:
        """Return plain values without these names, keys of mappings included."""
        if isinstance(value, str):
            # A host may be called as the framework that it serves by.
            if value in self._words.values.get(key, ()) or (key == "framework" and value in self._names):
                return value
            return self._digests.get(value) or self.text(value, public=key in _PUBLIC)
        if isinstance(value, dict):
            return {
                name if name in self._words.fields else self.text(name): self.value(
                    inner, key if key in _PUBLIC else name
                )
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [] if key in _TEXTS_OF_SERVERS else [self.value(inner, key) for inner in value]
        return value

    def text(self, text: str, *, public: bool = False) -> str:
        """Return a text without names of hosts and users, and without paths."""
        if not public:
            text = _CREDENTIALS.sub(r"\1", text)
            text = _URL.sub(lambda match: match[1] + self._host(match[2]), text)
            text = _AT.sub("somebody", text)
            text = _PATH.sub("<path>", text)
            text = _IPV4.sub(lambda match: self._host(match[0]), text)
        for name, other in self._names.items():
            if name in text:
                text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", other, text)
        return text

    def _host(self, name: str) -> str:
        if name in _HARMLESS or name in self._names.values() or not name:
            return name
        return self._names.setdefault(name, f"host-{len(self._names) + 1}")

    def _table(self, name: str, data: bytes) -> bytes:
        table = pq.read_table(io.BytesIO(data))
        for column in _COLUMNS_OF_SERVERS:
            if name.startswith("requests/") and column in table.column_names:
                place = table.column_names.index(column)
                nothing = pa.nulls(len(table), pa.string()).dictionary_encode()
                table = table.set_column(place, column, nothing)
        if "device" in table.column_names:
            place = table.column_names.index("device")
            devices = [self.text(device) for device in table["device"].to_pylist()]
            table = table.set_column(place, "device", pa.array(devices, pa.string()).dictionary_encode())
        out = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(None), out, compression="zstd")
        return out.getvalue()


def _hosts(entry: Entry) -> Iterator[str]:
    """Yield the names of hosts that the system's file, the power sources and the load workers tell."""
    for source in entry.power_source.values():
        for device in source.devices:
            if device.host:
                yield device.host
                yield device.id.rpartition("/")[0]
    for deployment in entry.system["deployments"].values():
        powers = (deployment["power"], *deployment["facility"])
        urls = [deployment["endpoint"]["url"], *deployment["metrics_urls"]]
        for url in (*urls, *(url for power in powers for url in power.get("urls", ()))):
            if url:
                yield host_of_url(url)
    yield from hosts_of(entry.system)
    yield from _load_hosts(entry)


def _load_hosts(entry: Entry) -> Iterator[str]:
    for check in (check for checks in entry.preflight.values() for check in checks):
        if check.name.startswith(_CHECK_OF_HOST):
            yield _host_of(check.name.removeprefix(_CHECK_OF_HOST))
        yield from _in_text(check.what)
    for phase in entry.phases:
        for host in phase.load.hosts:
            yield _host_of(host.name)
        for lost in phase.load.hosts_lost:
            # It is named as the line that placed it.
            yield _host_of(_PLACE.sub("", lost.name))
            yield from _in_text(lost.why)
        for text in (phase.load.failed, *(reason.what for reason in phase.invalid)):
            yield from _in_text(text or "")


def _in_text(text: str) -> Iterator[str]:
    for match in _WORKER_ON.finditer(text):
        yield _host_of(match[1])


def _host_of(place: str) -> str:
    """Return the host of `user@host`, `-p 2222 host`, `ray://host:10001` or `host:6379`; empty for none."""
    if place in _NO_HOSTS:
        return ""
    last = (place.split() or [""])[-1].rpartition("://")[2].rpartition("@")[2]
    return re.sub(r":\d*$", "", last)


def _compact(event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
