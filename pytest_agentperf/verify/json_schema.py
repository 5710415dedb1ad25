"""The part of JSON Schema that the arguments of tool calls need; what it does not know is refused, not ignored."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_KEYWORDS = {
    "type", "enum", "const", "properties", "required", "additionalProperties", "items", "minItems", "maxItems",
    "pattern", "minLength", "minimum", "maximum", "description",
}  # fmt: skip


def check_schema(schema: Any) -> None:
    """Raise ValueError for a schema with keywords or types that are not known here."""
    if not isinstance(schema, dict):
        raise ValueError(f"a schema that is no object: {schema!r}")
    if unknown := sorted(schema.keys() - _KEYWORDS):
        raise ValueError(
            f"unknown keyword {unknown[0]!r} in a schema: there are {', '.join(sorted(_KEYWORDS))}"
        )
    if "type" in schema and schema["type"] not in _TYPES:
        raise ValueError(f"unknown type {schema['type']!r} in a schema")
    if not isinstance(schema.get("additionalProperties", False), bool):
        raise ValueError("additionalProperties is true or false")
    if "pattern" in schema:
        try:
            re.compile(schema["pattern"])
        except re.error as error:
            raise ValueError(f"pattern {schema['pattern']!r}: {error}") from None
    for below in (*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else ())):
        check_schema(below)


def conforms(value: Any, schema: Mapping[str, Any]) -> bool:
    """Return whether a value is as a checked schema says."""
    if "type" in schema and not _is(value, schema["type"]):
        return False
    if "const" in schema and not _same(value, schema["const"]):
        return False
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        return False
    if isinstance(value, str):
        long_enough = len(value) >= schema.get("minLength", 0)
        return long_enough and ("pattern" not in schema or bool(re.search(schema["pattern"], value)))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    if isinstance(value, list):
        many_enough = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return many_enough and all(conforms(one, schema.get("items", {})) for one in value)
    return not isinstance(value, dict) or _object_conforms(value, schema)


def _object_conforms(value: dict[str, Any], schema: Mapping[str, Any]) -> bool:
    known = schema.get("properties", {})
    if any(name not in value for name in schema.get("required", ())):
        return False
    if schema.get("additionalProperties", True) is False and value.keys() - known.keys():
        return False
    return all(conforms(value[name], below) for name, below in known.items() if name in value)


def _is(value: Any, kind: str) -> bool:
    # To Python true is 1; to JSON it is not.
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)
