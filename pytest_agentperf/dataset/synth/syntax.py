"""How one programming language writes the constructs that synthetic code is made of.

A language is a table of templates with gaps like `@name@`. Code is built once, from constructs; the table says how it
looks. It reads like the language; it is not promised to compile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_GAP = re.compile(r"@([a-z_]+)@")
_WORD = re.compile(r"[a-z0-9]+")


def _to_format(template: str) -> str:
    escaped = template.replace("{", "{{").replace("}", "}}")
    return _GAP.sub(r"{\1}", escaped)


def table(text: str) -> dict[str, str]:
    r"""Parse lines `key: template`; `\n` in a template is a line end and `\t` an indentation."""
    rows: dict[str, str] = {}
    for line in text.strip("\n").split("\n"):
        key, _, template = line.partition(": ")
        rows[key] = template.replace("\\n", "\n").replace("\\t", "\t")
    return rows


@dataclass(frozen=True)
class Syntax:
    """One language: its name, its file ending, how it writes names, and its templates."""

    name: str
    extension: str
    naming: str
    indent: str
    rows: dict[str, str]

    @cached_property
    def _formats(self) -> dict[str, str]:
        return {key: _to_format(template) for key, template in self.rows.items()}

    def write(self, construct: str, **gaps: str | int) -> str:
        """Return a construct with its gaps filled."""
        return self._formats[construct].format(**gaps).replace("\t", self.indent)

    def function_name(self, name: str) -> str:
        """Write a snake_case name as this language names functions and variables."""
        if self.naming == "snake":
            return name
        camel = self.type_name(name)
        return camel if self.naming == "pascal" else camel[:1].lower() + camel[1:]

    def variable_name(self, name: str) -> str:
        """Write a snake_case name as this language names variables."""
        if self.naming == "snake":
            return name
        camel = self.type_name(name)
        return camel[:1].lower() + camel[1:]

    @staticmethod
    def type_name(name: str) -> str:
        """Write a snake_case name in capitalised words."""
        return "".join(word[:1].upper() + word[1:] for word in _WORD.findall(name))
