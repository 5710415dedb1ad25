"""Changes values in a YAML file's text, and leaves all else of it, comments included, as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

Place = tuple[str, ...]


def rewritten(text: str, values: Mapping[Place, float], *, where: str) -> str:
    """Return the text with numbers put at these places; a key that is not there is added to its mapping.

    Raises ConfigError where a place has no mapping, or shares one with another place by an alias.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    edits: list[tuple[int, int, str]] = []
    mappings = _mappings(root)
    for place, value in values.items():
        node = root
        for depth, key in enumerate(place[:-1]):
            found = _child(node, key)
            if not isinstance(found, yaml.MappingNode):
                raise ConfigError(
                    f"no mapping at {'.'.join(place[: depth + 1])}",
                    where=where,
                    remedy="write it out in full there",
                )
            node = found
        assert isinstance(node, yaml.MappingNode)
        if mappings[id(node)] > 1:
            raise ConfigError(
                f"{'.'.join(place[:-1])} is shared with another place by an alias (`*name`)",
                where=f"{where}:{node.start_mark.line + 1}",
                remedy="copy the mapping there, so that each place has its own",
            )
        number = f"{value:.6g}"
        old = _child(node, place[-1])
        if old is not None:
            edits.append((old.start_mark.index, old.end_mark.index, number))
        elif node.flow_style:
            edits.append((node.start_mark.index + 1, node.start_mark.index + 1, f"{place[-1]}: {number}, "))
        else:
            start = node.value[0][0].start_mark
            edits.append((start.index, start.index, f"{place[-1]}: {number}\n{' ' * start.column}"))
    for begin, end, number in sorted(edits, reverse=True):
        text = text[:begin] + number + text[end:]
    return text


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _mappings(root: yaml.Node | None) -> dict[int, int]:
    """Count from how many places each mapping is reached."""
    counts: dict[int, int] = {}
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, yaml.MappingNode):
            counts[id(node)] = counts.get(id(node), 0) + 1
            if counts[id(node)] <= 2:
                stack += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            stack += node.value
    return counts
