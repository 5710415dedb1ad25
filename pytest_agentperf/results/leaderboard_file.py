"""Reading a leaderboard, whichever version of the schema it was written in."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pytest_agentperf.config.recorded import canonical_digest
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.leaderboard import VERSION, Leaderboard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SHOWN_MAX = 5


def read_leaderboard(path: Path) -> Leaderboard:
    """Read a leaderboard of this version or an older one; raises ConfigError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror or error}", where=str(path), remedy="check the path"
        ) from None
    return parse_leaderboard(data, where=str(path))


def parse_leaderboard(data: bytes, *, where: str) -> Leaderboard:
    """Return the leaderboard that a JSON text holds, migrated to this version; raises ConfigError."""
    try:
        found = json.loads(data)
    except ValueError as error:
        raise _refused(f"not JSON: {error}", where) from None
    version = _version(found, where)
    try:
        for older in range(version, VERSION):
            found = _MIGRATIONS[older](found)
    except (KeyError, TypeError, AttributeError):
        raise _refused(f"it says that it is of version {version}, and has not its fields", where) from None
    try:
        # As JSON, since strictness differs for Python objects.
        return Leaderboard.model_validate_json(json.dumps(found))
    except ValidationError as error:
        told = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        more = f"; and {len(told) - _SHOWN_MAX} more" if len(told) > _SHOWN_MAX else ""
        named = f"not a leaderboard of version {version}: " if version < VERSION else ""
        raise _refused(f"{named}{'; '.join(told[:_SHOWN_MAX])}{more}", where) from None


def _version(found: Any, where: str) -> int:
    """Return the version that a document says it has; raises ConfigError for none, and for one of the future."""
    schema = found.get("schema") if isinstance(found, dict) else None
    match = (
        re.fullmatch(r"agentperf-leaderboard/([1-9][0-9]{0,5})", schema) if isinstance(schema, str) else None
    )
    if match is None:
        raise _refused("its `schema` is not agentperf-leaderboard/NUMBER", where)
    version = int(match[1])
    if version > VERSION:
        raise ConfigError(
            f"it is of version {version} of the schema, and this release knows versions up to {VERSION}",
            where=where,
            remedy="update pytest-agentperf",
        )
    return version


def _refused(what: str, where: str) -> ConfigError:
    return ConfigError(what, where=where, remedy="give the leaderboard.json of a run")


def _from_1(old: dict[str, Any]) -> dict[str, Any]:
    """Move the software into entries, which may come from several runs; compute digests; say what nobody recorded."""
    software = old.pop("software", {})
    for entry in old.get("entries", []):
        entry["software"] = software
        entry["measured_utc"] = None
        entry["digests"] = {
            "dataset": entry["dataset"]["digest"],
            "suite": canonical_digest(entry["suite"]),
            "system": canonical_digest(entry["system"]),
            "ruleset": canonical_digest(entry["ruleset"]),
            "software": None,
        }
        # Version 1 did not say where a search could go.
        entry["search"] = None
    return {**old, "schema": "agentperf-leaderboard/2"}


_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
