"""Looking into values of foreign recordings, which may be of any type: what is not of the expected one is absent."""

from __future__ import annotations

import json
from typing import Any

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.reading import brief, parse_json

MALFORMED = "the recording is damaged or not in this format: check it, or name its format by --format"

_COUNT_MAX = 10**9
_NUMBER_MAX = 10**15
"""Larger than any time in milliseconds that a recording can mean."""


def text(value: Any) -> str | None:
    """Return the value if it is text."""
    return value if isinstance(value, str) else None


def mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list, none for anything else."""
    return [item for item in sequence(value) if isinstance(item, dict)]


def inner(value: Any, *names: str) -> Any:
    """Return a field of a field, None where there is none."""
    for name in names:
        value = mapping(value).get(name)
    return value


def required_object(value: Any, where: str, *, what: str) -> dict[str, Any]:
    """Return the value if it is an object; raises DatasetError saying that it is no `what`."""
    if not isinstance(value, dict):
        raise DatasetError(f"no {what}: {brief(value)}", where=where, remedy=MALFORMED)
    return value


def number(value: Any) -> float | None:
    """Return the value if it is a number that can mean something; `true` is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if -_NUMBER_MAX < value < _NUMBER_MAX else None


def count(value: Any) -> int | None:
    """Return the value if it counts something, zero included."""
    return (
        value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _COUNT_MAX else None
    )


def token_count(value: Any) -> int | None:
    """Return the tokens of a prompt or an answer: neither can have none, so recorders' 0 means unknown."""
    return count(value) or None


def parsed(value: Any) -> Any:
    """Return a structure that may be recorded as JSON text; None where that is broken."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value, where="")
    except DatasetError:
        return None


def json_text(value: Any, where: str | None = None) -> str:
    """Return a value as the compact JSON text that agents send; raises DatasetError for what JSON cannot hold."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"a value that JSON cannot hold: {error}", where=where, remedy="check the recording"
        ) from error


def arguments_text(value: Any, where: str | None = None) -> str:
    """Return a call's arguments as JSON text: what the model wrote stays as it is, what an agent parsed is written."""
    if isinstance(value, str):
        return value
    return "{}" if value is None else json_text(value, where)
