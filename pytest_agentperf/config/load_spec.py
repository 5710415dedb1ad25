"""Where load workers run, as a line: `4*popen`, `2*ssh=user@host//python=python3.11`, `8*ray://head:10001`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

WORKERS_MAX = 4_096
_KEYS = {
    "popen": {"python", "chdir", "nice"},
    "ssh": {"python", "chdir", "nice", "cache", "ssh_config"},
    "ray": {"cache", "resources", "labels"},
}
_REMEDY = "write e.g. 4*popen, 2*ssh=user@host//python=python3.11 or 8*ray://head:10001"


class LoadSpec(NamedTuple):
    """Some workers in one place."""

    text: str
    workers: int
    kind: Literal["popen", "ssh", "ray"]
    target: str
    """Of ssh its destination, and options before it; of Ray the address of its cluster; else empty."""
    keys: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()

    @property
    def short(self) -> str:
        """Return it without its options."""
        place = (
            self.kind
            if not self.target
            else self.target
            if "://" in self.target
            else f"{self.kind}={self.target}"
        )
        return f"{self.workers}*{place}"

    def get(self, key: str) -> str | None:
        """Return the value of a key, None if it is not named."""
        return dict(self.keys).get(key)

    def numbers(self, key: str) -> dict[str, float]:
        """Return a value of the form `name:1,other:0.5`."""
        pairs = (part.partition(":") for part in (self.get(key) or "").split(",") if part)
        return {name: float(value or 1) for name, _, value in pairs}

    def names(self, key: str) -> dict[str, str]:
        """Return a value of the form `name:value,other:value`."""
        pairs = (part.partition(":") for part in (self.get(key) or "").split(",") if part)
        return {name: value for name, _, value in pairs}


def parse_load_spec(text: str, *, where: str) -> LoadSpec:
    """Parse one line in the syntax of pytest-xdist's `--tx`; raises ConfigError."""

    def refuse(what: str, remedy: str = _REMEDY) -> NoReturn:
        raise ConfigError(f"{text!r}: {what}", where=where, remedy=remedy)

    match = re.fullmatch(r"(?:(\d{1,6})\*)?(.+)", text.strip())
    if match is None:
        refuse("names no place for load workers")
    workers, rest = int(match[1] or 1), match[2]
    if not 1 <= workers <= WORKERS_MAX:
        refuse(f"{workers} workers", f"give 1 to {WORKERS_MAX:,}")
    place, _, options = rest.removeprefix("ray://").partition("//")
    if rest.startswith("ray://"):
        kind, target = "ray", f"ray://{place}"
    else:
        kind, _, target = place.partition("=")
    if kind not in _KEYS:
        refuse(f"no kind of place is called {kind!r}")
    if kind == "ssh" and not target:
        refuse("names no host", "write ssh=user@host")
    if kind == "popen" and target:
        refuse("workers on this machine need no target", "write 4*popen")
    if kind == "ray" and target in ("", "ray://"):
        target = "auto"
    found: dict[str, str] = {}
    env: dict[str, str] = {}
    for option in filter(None, options.split("//")):
        key, equals, value = option.partition("=")
        if key.startswith("env:") and equals and kind != "ray":
            env[key[4:]] = value
        elif key not in _KEYS[kind] or not value:
            refuse(
                f"{option!r} is no option of {kind}",
                f"one of: {', '.join(sorted(_KEYS[kind]))}, each with =VALUE",
            )
        else:
            found[key] = value
    spec = LoadSpec(text.strip(), workers, kind, target, tuple(found.items()), tuple(env.items()))  # type: ignore[arg-type]
    try:
        spec.numbers("resources")
    except ValueError:
        refuse("resources are numbers", "write e.g. resources=load:1")
    return spec


def parse_load_specs(texts: Iterable[str], *, where: str) -> tuple[LoadSpec, ...]:
    """Parse all lines; raises ConfigError."""
    return tuple(parse_load_spec(text, where=where) for text in texts)
