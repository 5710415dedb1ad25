"""Reads a YAML file into a pydantic model, and says for every error in which line it is."""

from __future__ import annotations

import difflib
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic_core import ErrorDetails

_Model = TypeVar("_Model", bound=BaseModel)
_SIZE_MAX_BYTES = 4 << 20
_ECHO_MAX_CHARS = 60
_STRING_TAG = "tag:yaml.org,2002:str"
_MERGE_TAG = "tag:yaml.org,2002:merge"


def load_model(path: Path, model: type[_Model], *, schema: str) -> _Model:
    """Read and validate `path`; raises ConfigError with `file:line`, what is wrong and what to do."""
    root = _compose(path)
    if not isinstance(root, yaml.MappingNode):
        where = f"{path}:1" if root is None else _place(path, root)
        raise ConfigError("not a YAML mapping", where=where, remedy=f"start the file with `schema: {schema}`")
    _check_nodes(path, root)
    data = _construct(path, root)
    found = data.pop("schema", None)
    if found != schema:
        raise ConfigError(
            f"schema is {found!r}" if found else "no `schema:` key",
            where=_place(path, _find(root, ("schema",)).node),
            remedy=f"write `schema: {schema}` if this is such a file",
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _config_error(path, root, model, error) from None


def _compose(path: Path) -> yaml.Node | None:
    try:
        if path.stat().st_size > _SIZE_MAX_BYTES:
            raise ConfigError("larger than 4 MiB", where=str(path), remedy="this is no configuration file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), remedy="check the path") from None
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8 text", where=str(path), remedy="save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", where=str(path), remedy="check path and permissions"
        ) from None
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(path, error) from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(
            f"not valid YAML: the character U+{error.character:04X} is not allowed",
            where=f"{path}:{text.count(chr(10), 0, error.position) + 1}",
            remedy="remove it",
        ) from None
    except RecursionError:
        raise _too_deep(path) from None


def _construct(path: Path, root: yaml.MappingNode) -> dict[str, Any]:
    try:
        data: dict[str, Any] = yaml.constructor.SafeConstructor().construct_document(root)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(path, error) from None
    except RecursionError:
        raise _too_deep(path) from None
    return data


def _syntax_error(path: Path, error: yaml.MarkedYAMLError) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    return ConfigError(
        f"not valid YAML: {', '.join(filter(None, (error.context, error.problem)))}",
        where=f"{path}:{mark.line + 1}" if mark else str(path),
        remedy="check indentation, quotes and colons around that line",
    )


def _too_deep(path: Path) -> ConfigError:
    return ConfigError("nested too deeply", where=str(path), remedy="this is no configuration file")


def _check_nodes(path: Path, root: yaml.Node) -> None:
    """Raise for what YAML allows and a configuration does not: odd or double keys, values that hold themselves."""
    constructor = yaml.constructor.SafeConstructor()
    done: set[int] = set()
    above: set[int] = set()

    def check(node: yaml.Node) -> None:
        if id(node) in above:
            raise ConfigError(
                "the value contains itself", where=_place(path, node), remedy="remove the alias inside it"
            )
        # An anchor's node is met once per alias: checking it again could take exponential time.
        if id(node) in done:
            return
        done.add(id(node))
        above.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _check_keys(path, node)
            for _, value in node.value:
                check(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                check(item)
        elif node.tag != _STRING_TAG:
            # Here, where the line is known: a date such as 2026-13-45 is a bare ValueError.
            try:
                constructor.construct_object(node)
            except (ValueError, yaml.YAMLError):
                raise ConfigError(
                    f"the value {_echo(node.value)} cannot be read",
                    where=_place(path, node),
                    remedy="put it in quotes if it is text",
                ) from None
        above.discard(id(node))

    check(root)


def _check_keys(path: Path, node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag not in (_STRING_TAG, _MERGE_TAG):
            shown = key.value if isinstance(key, yaml.ScalarNode) else "…"
            raise ConfigError(
                f"the key {shown} is not text",
                where=_place(path, key),
                remedy=f'put it in quotes: "{shown}":',
            )
        if key.value in seen and key.tag != _MERGE_TAG:
            raise ConfigError(
                f"the key {key.value!r} stands twice in one mapping",
                where=_place(path, key),
                remedy="remove one",
            )
        seen.add(key.value)


def _config_error(path: Path, root: yaml.Node, model: type[BaseModel], error: ValidationError) -> ConfigError:
    errors = error.errors()
    tagged = {id(e): e["loc"] for e in errors}
    for e in errors:
        e["loc"] = _without_tags(root, e["loc"])
    # A mistyped key is an unknown one and often a missing one too: the unknown one names the cause.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    places = {_shown(_find(root, e["loc"]), e) for e in errors}
    place = _find(root, first["loc"])
    loc = _shown(place, first)
    field = ".".join(map(str, loc)) or "the file"
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    what, remedy = _explain(field, loc, first, _fields_at(model, tagged[id(first)][:-1]))
    return ConfigError(what + more, where=_place(path, place.node), remedy=remedy)


def _without_tags(root: yaml.Node, loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return a location without the tags of discriminated unions: `power.nvml.devices` is `power.devices`."""
    kept: tuple[int | str, ...] = ()
    for part in loc[:-1]:
        node = _find(root, kept).value
        inside = node.value if isinstance(node, yaml.MappingNode) else []
        is_key = any(key.value == part for key, _ in inside)
        if is_key or not any(isinstance(v, yaml.ScalarNode) and v.value == part for _, v in inside):
            kept += (part,)
    return (*kept, *loc[-1:])


def _shown(place: _Place, error: ErrorDetails) -> tuple[int | str, ...]:
    """Return the part of an error's location that a reader finds in the file: no union's branches."""
    return error["loc"] if error["type"] == "missing" else place.loc


def _explain(
    field: str, loc: tuple[int | str, ...], error: ErrorDetails, known: list[str]
) -> tuple[str, str]:
    kind, given = error["type"], error["input"]
    name = str(loc[-1]) if loc else ""
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean `{close[0]}`?" if close else f"the keys here are: {', '.join(known)}"
        return f"unknown key `{field}`", advice
    if kind == "missing":
        return f"`{field}` is missing", f"add `{name}:`"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _explain_tag(field, error["ctx"])
    if given is None:
        return f"`{field}` is empty", "give it a value, or leave the key out if it is optional"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"`{field}` must be a mapping", "write `key: value` lines, indented below it"
    if kind in ("tuple_type", "list_type"):
        return f"`{field}` must be a list", "write it as `[a, b]`, or one `- …` line per item"
    if kind == "value_error":
        # Never with the value: it may be a secret that was put in the wrong place.
        return f"`{field}`: {error['msg'].removeprefix('Value error, ')}", "correct it there"
    shown = f" (it is {_echo(given)})" if isinstance(given, bool | int | float | str) else ""
    if kind == "string_type":
        return f"`{field}` must be text", f"put it in quotes{shown}"
    return f"`{field}`: {error['msg']}", f"correct the value{shown}"


def _explain_tag(field: str, context: dict[str, Any]) -> tuple[str, str]:
    """Say which of several forms a mapping must name."""
    key = context["discriminator"].strip("'")
    if "tag" not in context:
        return f"`{field}.{key}` is missing", f"add `{key}:`"
    known = [tag.strip("'") for tag in context["expected_tags"].split(", ")]
    close = difflib.get_close_matches(context["tag"], known, n=1)
    return (
        f"`{field}.{key}`: there is no {_echo(context['tag'])} here",
        f"did you mean `{close[0]}`?" if close else f"one of: {', '.join(known)}",
    )


def _echo(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _ECHO_MAX_CHARS else text[: _ECHO_MAX_CHARS - 1] + "…"


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the field names of the model that `loc` leads to, as far as annotations tell."""
    annotation: Any = model
    for part in loc:
        annotation = _member(annotation, part)
    return next((list(option.model_fields) for option in _options(annotation) if _is_model(option)), [])


def _member(annotation: Any, part: int | str) -> Any:
    for option in _options(annotation):
        if _is_model(option) and part in option.model_fields:
            return option.model_fields[part].annotation
        if get_origin(option) is dict:
            return get_args(option)[1]
        if get_origin(option) in (tuple, list):
            return get_args(option)[0]
        if _is_model(option) and any(part in get_args(f.annotation) for f in option.model_fields.values()):
            return option
    return None


def _options(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    yield from get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


class _Place(NamedTuple):
    """The deepest node on the way to a location, its value where it is a key, and how far that is."""

    node: yaml.Node
    value: yaml.Node
    loc: tuple[int | str, ...]


def _find(root: yaml.Node, loc: tuple[int | str, ...]) -> _Place:
    """Return where `loc` stands in the file; for a mapping's entry, its key."""
    value, found, depth = root, root, 0
    for part in loc:
        if isinstance(value, yaml.MappingNode):
            # Backwards: what `<<` merges in comes first, and own keys overrule it.
            entry = next(((k, v) for k, v in reversed(value.value) if k.value == part), None)
            if entry is None:
                break
            found, value = entry
        elif isinstance(value, yaml.SequenceNode) and isinstance(part, int) and part < len(value.value):
            found = value = value.value[part]
        else:
            break
        depth += 1
    return _Place(found, value, loc[:depth])


def _place(path: Path, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}"
