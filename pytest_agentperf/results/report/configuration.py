"""Everything a result was measured with, flat and side by side: what differs between systems can be seen at once."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_agentperf.core.leaderboard import Entry

_FIRST = ("system", "deviations", "dataset", "power_source", "request_parameters", "ruleset", "suite")
"""What most readers ask for first."""
_LONG = 600
"""Characters of a value that are shown at once; a launch command can have thousands."""


def configuration_tables(entries: Sequence[tuple[str, Entry]]) -> str:
    """Return a folded table per part of the configuration: a row per setting, a column per system."""
    found = [_configuration(entry) for _, entry in entries]
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label, _ in entries)
    return "\n".join(_table(part, [whole[part] for whole in found], head) for part in found[0])


def flat_settings(entry: Entry, *, without: Sequence[str] = ()) -> dict[str, str]:
    """Return every setting of an entry by its path."""
    whole = _configuration(entry)
    return dict(_flat({name: value for name, value in whole.items() if name not in without}))


def _table(part: str, values: Sequence[Any], head: str) -> str:
    flat = [dict(_flat(value)) if isinstance(value, dict | list) else {"": str(value)} for value in values]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    if not names:
        return ""
    rows = "\n".join(_row(name or part, [settings.get(name) for settings in flat]) for name in names)
    differing = sum(len({settings.get(name) for settings in flat}) > 1 for name in names)
    count = f"{len(names)} settings" + (f", {differing} differ" if len(values) > 1 else "")
    return (
        f'<details class="settings"><summary>{escape(part.replace("_", " "))} '
        f'<span class="quiet">{count}</span></summary><div class="wide"><table class="settings">'
        f'<thead><tr><th scope="col">setting</th>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div></details>'
    )


def _row(name: str, values: Sequence[str | None]) -> str:
    if len(set(values)) > 1:
        cells = "".join(f"<td>{_cell(value)}</td>" for value in values)
        return f'<tr class="differs"><th scope="row">{escape(name)}</th>{cells}</tr>'
    # The same for everybody is said once.
    return f'<tr><th scope="row">{escape(name)}</th><td colspan="{len(values)}">{_cell(values[0])}</td></tr>'


def _cell(value: str | None) -> str:
    if value is None:
        return '<span class="quiet">–</span>'
    if len(value) > _LONG:
        return f"<details><summary>{escape(value[:80])}…</summary>{escape(value)}</details>"
    return escape(value)


def _configuration(entry: Entry) -> dict[str, Any]:
    whole = entry.model_dump(mode="json", exclude={"tiers", "phases", "complete", "valid", "comparable"})
    editions = whole["suite"]["editions"]
    # Only what was measured: the other editions' targets would be taken for this one's.
    whole["suite"] = {**whole["suite"], "editions": {entry.edition: editions[entry.edition]}}
    return {name: whole[name] for name in (*_FIRST, *(n for n in whole if n not in _FIRST))}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for number, inner in enumerate(value, 1):
            yield from _flat(inner, f"{path}.{_named(inner, number)}")
    elif value not in (None, {}, []):
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _named(inner: Any, number: int) -> str:
    """Name an item by what it says it is, so that the same stands beside the same."""
    mapping: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
    name = mapping.get("rule") or mapping.get("name") or mapping.get("role")
    return f"{number} ({name})" if isinstance(name, str) else str(number)
