"""What a demo project looks like in one programming language, and how its templates are filled.

Templates mark their gaps as `@name@`: no language used here writes an at sign on both sides of a word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_GAP = re.compile(r"@([A-Za-z_]+)@")

NOUNS = (
    "invoice", "shipment", "session", "lease", "ticket", "packet", "snapshot", "sensor", "route", "cursor",
    "voucher", "segment", "replica", "bucket", "channel", "booking", "sample", "policy", "refund", "worker",
)  # fmt: skip
VERBS = (
    "collect", "merge", "expire", "resolve", "rank", "split", "replay", "compact", "allocate", "settle",
    "refresh", "reserve", "trim", "prefer", "archive", "balance",
)  # fmt: skip
FIELDS = ("amount", "weight", "quota", "priority", "offset", "score", "budget", "depth", "age", "volume")
PROJECTS = (
    "harbor", "lantern", "quarry", "meadow", "tidepool", "foundry", "orchard", "beacon", "juniper", "granite",
    "plover", "sextant",
)  # fmt: skip


class Bug(NamedTuple):
    """A line as it is, as it should be, and what somebody notices."""

    wrong: str
    right: str
    symptom: str


class Language(NamedTuple):
    """The templates of one language; `buggy` has the gap `@bug@`, `failure` and `trace` know where it is."""

    name: str
    source_path: str
    test_path: str
    sibling_paths: tuple[str, ...]
    test_command: str
    header: str
    footer: str
    functions: tuple[str, ...]
    buggy: str
    bugs: tuple[Bug, ...]
    test_header: str
    test: str
    failure: str
    trace: str
    passed: str


def fill(template: str, values: Mapping[str, str]) -> str:
    """Fill a template's gaps; `@Name@` is the capitalised `@name@`."""

    def value(gap: re.Match[str]) -> str:
        name = gap[1]
        if name in values:
            return values[name]
        text = values[name[0].lower() + name[1:]]
        return text[:1].upper() + text[1:]

    return _GAP.sub(value, template)
