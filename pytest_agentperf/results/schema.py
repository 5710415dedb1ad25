"""The leaderboard's JSON Schema (Draft 2020-12), generated from the models; a copy of it lies beside this file."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from pytest_agentperf.config.suite import Suite
from pytest_agentperf.config.system import System
from pytest_agentperf.core.leaderboard import SCHEMA, Leaderboard

if TYPE_CHECKING:
    from pydantic_core import core_schema

SCHEMA_FILE = Path(__file__).with_name("leaderboard.schema.json")


def schema_text() -> str:
    """Return the schema as the file holds it."""
    return json.dumps(leaderboard_schema(), indent=2, ensure_ascii=False) + "\n"


def leaderboard_schema() -> dict[str, Any]:
    """Return the schema of what is written: every key is there, and no other."""
    references, found = models_json_schema(
        [(model, "serialization") for model in (Leaderboard, Suite, System)],
        by_alias=True,
        schema_generator=_Described,
    )
    definitions = found["$defs"]
    # `core` knows no settings, so its models hold both files as plain values.
    entry = definitions["Entry"]["properties"]
    for name, model in (("suite", Suite), ("system", System)):
        described = entry[name].get("description")
        entry[name] = dict(references[model, "serialization"])
        if described:
            entry[name]["description"] = described
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": f"urn:pytest-agentperf:{SCHEMA}",
        "title": "pytest-agentperf leaderboard",
        **references[Leaderboard, "serialization"],
        "$defs": definitions,
    }


class _Described(GenerateJsonSchema):
    """Takes the descriptions of fields from the texts below them in the source; what is written has every field."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Say that it is, whether or not it has a default."""
        return True

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        """Return a model's schema, its fields described."""
        made = super().model_schema(schema)
        for field, text in _field_texts(schema["cls"]).items():
            for name in (field, field.rstrip("_")):
                if name in made.get("properties", {}):
                    made["properties"][name].setdefault("description", text)
        return made


def _field_texts(model: type) -> dict[str, str]:
    """Return what stands below each field of a class, and of those that it inherits from in this package."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not cls.__module__.startswith("pytest_agentperf."):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    found[name] = " ".join(said.split())
    return found
