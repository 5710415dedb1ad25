"""The leaderboard's schema: closed, published, versioned; older documents are read, newer ones refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from pytest_agentperf.cli import main
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.leaderboard import SCHEMA, VERSION
from pytest_agentperf.results.leaderboard_file import parse_leaderboard, read_leaderboard
from pytest_agentperf.results.schema import SCHEMA_FILE, leaderboard_schema, schema_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OLD = Path(__file__).parent / "data" / "leaderboard-1.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """A leaderboard of a rehearsal, as this version writes it; it was measured by version 1."""
    document: dict[str, Any] = json.loads(read_leaderboard(OLD).model_dump_json(by_alias=True))
    return document


def test_the_published_copy_is_what_the_models_say() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), (
        f"write it anew: agentperf schema > {SCHEMA_FILE.name}"
    )


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == schema_text()


def test_it_is_a_schema_of_the_draft_it_names_and_says_its_version() -> None:
    schema = leaderboard_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"].endswith(SCHEMA)
    assert f"agentperf-leaderboard/{VERSION}" == SCHEMA


def objects(schema: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield place, schema
        for name, inner in schema.items():
            yield from objects(inner, f"{place}/{name}")
    elif isinstance(schema, list):
        for number, inner in enumerate(schema):
            yield from objects(inner, f"{place}/{number}")


def test_every_object_is_closed_and_every_field_is_written() -> None:
    for place, schema in objects(leaderboard_schema()["$defs"]):
        assert schema.get("additionalProperties") is False, place
        assert set(schema.get("required", ())) == set(schema["properties"]), place


def test_what_is_written_conforms(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(leaderboard_schema()).validate(document)
    assert document["entries"][0]["phases"][0]["metrics"]["requests"] > 0


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield where the models' own objects are."""
    if isinstance(value, dict):
        # Free keys: a ruleset's overrides, server settings, and names that a suite or system chose.
        if path and path[-1] in FREE:
            return
        if not (len(path) > 1 and path[-1] in NAMED):
            yield path
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


FREE = {"overrides", "settings", "parameters", "software", "request_parameters", "failures", "digests", "late",
        "slow", "first_chunk_sources", "infinite", "truncation", "per_device_j", "missing", "environment"}  # fmt: skip
NAMED = {"editions", "tiers", "deployments", "power_source", "preflight", "max_effort"}


def at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def test_an_unknown_field_is_refused_wherever_it_stands(document: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(leaderboard_schema())
    tried = 0
    for path in places(document):
        changed = copy.deepcopy(document)
        at(changed, path)["unknown_field"] = 1
        assert not validator.is_valid(changed), path
        tried += 1
        if not {"suite", "system"} & set(path):  # plain values to those who only read results
            with pytest.raises(ConfigError, match="unknown_field"):
                parse_leaderboard(json.dumps(changed).encode(), where="x")
    assert tried > 30


def test_version_1_is_read_and_says_what_nobody_recorded(document: dict[str, Any]) -> None:
    old = json.loads(OLD.read_text(encoding="utf-8"))
    (entry,) = read_leaderboard(OLD).entries
    assert entry.software == old["software"]
    assert entry.tiers[0].agents == old["entries"][0]["tiers"][0]["agents"]
    assert (entry.measured_utc, entry.search, entry.digests.software) == (None, None, None)
    assert entry.digests.dataset == old["entries"][0]["dataset"]["digest"]
    assert len({entry.digests.suite, entry.digests.system, entry.digests.ruleset}) == 3
    again = parse_leaderboard(json.dumps(document).encode(), where="x")
    assert again == read_leaderboard(OLD)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d | {"schema": f"agentperf-leaderboard/{VERSION + 1}"}, f"of version {VERSION + 1}.*versions up to"),
        (lambda d: d | {"schema": "agentperf-leaderboard/0"}, "is not agentperf-leaderboard/NUMBER"),
        (lambda d: d | {"schema": 2}, "is not agentperf-leaderboard/NUMBER"),
        (lambda d: [d], "is not agentperf-leaderboard/NUMBER"),
        (lambda d: {k: v for k, v in d.items() if k != "entries"}, "entries: Field required"),
    ],
)  # fmt: skip
def test_other_documents_are_refused_with_the_reason(
    document: dict[str, Any], change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse_leaderboard(json.dumps(change(document)).encode(), where="some/leaderboard.json")
    assert caught.value.where == "some/leaderboard.json"
    assert caught.value.remedy


@pytest.mark.parametrize("damage", ["entries", "dataset"])
def test_a_broken_document_of_an_old_version_is_an_error_of_ours(damage: str, tmp_path: Path) -> None:
    old = json.loads(OLD.read_text(encoding="utf-8"))
    if damage == "entries":
        old["entries"] = [3]
    else:
        del old["entries"][0]["dataset"]
    with pytest.raises(ConfigError, match="version 1"):
        parse_leaderboard(json.dumps(old).encode(), where="x")
    for text in (b"{", b"\xff\xfe"):
        with pytest.raises(ConfigError, match="not JSON"):
            parse_leaderboard(text, where="x")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_leaderboard(tmp_path / "none.json")
