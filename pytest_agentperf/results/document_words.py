"""The words that are of a run's documents themselves: names of fields, and the values that a field may have."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import TypeAdapter

from pytest_agentperf.core.journal import Event
from pytest_agentperf.results.schema import leaderboard_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Words(NamedTuple):
    """What no host's name replaces, be the host called `server`."""

    fields: frozenset[str]
    values: Mapping[str, frozenset[str]]
    """By field."""


@cache
def document_words() -> Words:
    """Return those of leaderboards and journals."""
    values: defaultdict[str, set[str]] = defaultdict(set)
    for schema in (leaderboard_schema(), TypeAdapter(Event).json_schema()):
        definitions = schema["$defs"]
        for model in (schema, *definitions.values()):
            for name, described in model.get("properties", {}).items():
                values[name] |= set(_fixed(described, definitions))
    fixed = {name: frozenset(found) for name, found in values.items()}
    return Words(frozenset(fixed), fixed)


def _fixed(described: Any, definitions: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts that a field is one of."""
    if "$ref" in described:
        target = definitions[described["$ref"].rpartition("/")[2]]
        if "enum" in target:
            yield from target["enum"]
    yield from (one for one in (*described.get("enum", ()), described.get("const")) if isinstance(one, str))
    for inner in (*described.get("anyOf", ()), *([described["items"]] if "items" in described else ())):
        yield from _fixed(inner, definitions)
