"""A run's settings as its journal keeps them: written, read back, and compared with those of today."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pytest_agentperf.config.run import Budget, RunSettings
from pytest_agentperf.config.suite import Suite
from pytest_agentperf.config.system import System
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.journal import RunBegun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_agentperf.core.leaderboard import DatasetInfo

_SHOWN_MAX = 8
_VALUE_CHARS_MAX = 80


def record_settings(
    settings: RunSettings,
    dataset: DatasetInfo,
    *,
    software: Mapping[str, str],
    software_digest: str,
    created_utc: str,
) -> RunBegun:
    """Return the first event of a run's journal."""
    suite, system = settings.suite.model_dump(mode="json"), settings.system.model_dump(mode="json")
    return RunBegun(
        created_utc=created_utc,
        software=dict(software),
        suite=suite,
        suite_path=str(settings.suite_path),
        edition=settings.edition,
        system=system,
        system_path=str(settings.system_path),
        ruleset=settings.ruleset,
        deviations=settings.deviations,
        dataset=dataset,
        dataset_path=str(settings.dataset_path),
        digests={
            "suite": canonical_digest(suite),
            "system": canonical_digest(system),
            "ruleset": canonical_digest(settings.ruleset.model_dump(mode="json")),
            "dataset": dataset.digest,
            "software": software_digest,
        },
        seed=settings.seed,
        nonce=settings.nonce,
        start=settings.start,
        max_agents=settings.max_agents,
        gate=dict(settings.gate),
        retry_invalid=settings.retry_invalid,
    )


def recorded_settings(begun: RunBegun, *, where: str) -> RunSettings:
    """Return the settings a run had; its budget is not among them. Raises ConfigError."""
    try:
        suite, system = Suite.model_validate(begun.suite), System.model_validate(begun.system)
    except ValidationError:
        raise ConfigError(
            "this version cannot read the suite or the system of the run",
            where=where,
            remedy=f"use version {begun.software.get('pytest-agentperf', 'unknown')}, which began it",
        ) from None
    tiers = suite.tiers(begun.edition)
    return RunSettings(
        suite=suite,
        suite_path=Path(begun.suite_path),
        system=system,
        system_path=Path(begun.system_path),
        edition=begun.edition,
        tiers=tiers,
        selected=tuple(tiers),
        ruleset=begun.ruleset,
        deviations=begun.deviations,
        dataset_path=Path(begun.dataset_path),
        start=begun.start,
        max_agents=begun.max_agents,
        budget=Budget(),
        seed=begun.seed,
        nonce=begun.nonce,
        workers=None,
        gate=begun.gate,
        retry_invalid=begun.retry_invalid,
    )


def check_unchanged(
    begun: RunBegun,
    settings: RunSettings,
    *,
    software: Mapping[str, str],
    dataset_digest: str | None = None,
    readers: bool = True,
    where: str,
) -> None:
    """Raise ConfigError naming what differs between a run and the settings that are to continue it.

    Budget, load workers and the choice of tiers may differ: they change no answer. `dataset_digest`: None if it is
    not known yet. `readers`: False while a site's power readers have names only.
    """
    old: dict[str, Any] = {"software": begun.software, "suite": begun.suite, "system": begun.system}
    new: dict[str, Any] = {
        "software": dict(software),
        "suite": settings.suite.model_dump(mode="json"),
        "system": settings.system.model_dump(mode="json"),
    }
    for name in ("edition", "seed", "start", "max_agents", "retry_invalid"):
        old[name], new[name] = getattr(begun, name), getattr(settings, name)
    # Which tiers are asked for may differ, but not what each of them is held to.
    for tier in sorted(begun.gate.keys() | settings.gate.keys()) if begun.gate and settings.gate else ():
        for found_in, gate in ((old, begun.gate), (new, settings.gate)):
            found_in[f"gate of {tier}"] = gate[tier].model_dump(mode="json") if tier in gate else None
    old["mode"], new["mode"] = bool(begun.gate), bool(settings.gate)
    old["ruleset"] = begun.ruleset.model_dump(mode="json")
    new["ruleset"] = settings.ruleset.model_dump(mode="json")
    if dataset_digest is not None:
        old["dataset digest"], new["dataset digest"] = begun.dataset.digest, dataset_digest
    # Through JSON, which knows no tuples.
    found = [
        text
        for text in _differences("", json.loads(json.dumps(old)), json.loads(json.dumps(new)))
        if readers or ".reader was " not in text
    ]
    if found:
        more = f"; and {len(found) - _SHOWN_MAX} more" if len(found) > _SHOWN_MAX else ""
        raise ConfigError(
            f"the run cannot be resumed, since it would go on as another one: {'; '.join(found[:_SHOWN_MAX])}{more}",
            where=where,
            remedy="undo that, or measure anew without --agentperf-resume",
        )


def _differences(name: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(inner, old.get(key), new.get(key))
    elif old != new:
        yield f"{name} was {_shown(old)}, is {_shown(new)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= _VALUE_CHARS_MAX else text[: _VALUE_CHARS_MAX - 1] + "…"


def canonical_digest(value: Any) -> str:
    """Return the SHA-256 (hex) of plain values as canonical JSON: sorted keys, ASCII."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
