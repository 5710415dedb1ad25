"""What tells which repository and task a trajectory worked on: its id, directories, remotes, and the task's text."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.dataset.counting import message_text
from pytest_agentperf.dataset.delays import is_tool_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_agentperf.core.trajectory import Message, Trajectory

_TEXT_MIN_CHARACTERS = 32
_LINE_MIN_CHARACTERS = 60
_LINES_MAX = 2_000
# SWE-bench (django__django-11422), SWE-smith (owner__repo.1fd52536...) and OpenHands (django__django__3.0).
_TASK_ID = re.compile(
    r"(?<![A-Za-z0-9-])([A-Za-z0-9][A-Za-z0-9-]{0,80})__([A-Za-z0-9][A-Za-z0-9_.-]{0,80}?)"
    r"(?:-\d{1,9}|\.[0-9a-f]{7,40}|__v?\d[\w.]{0,20})(?![A-Za-z0-9])"
)
_DIRECTORY = re.compile(
    r"(?:<cwd>|<uploaded_files>|(?:working directory|workspace path|workspace|cwd)\s{0,3}[:=]?)"
    r"\s{0,3}[`\"']{0,3}((?:/|[A-Za-z]:[\\/])[\w.@+\\/-]{1,300})",
    re.IGNORECASE,
)
_REMOTE = re.compile(r"\borigin[ \t]{1,8}(\S{1,300})[ \t]{1,3}\((?:fetch|push)\)")
_CLONE = re.compile(
    r"\bgit clone(?: -[\w=-]{1,30}(?: \d{1,6})?){0,6} [\"']?((?:https?://|git@|ssh://)[^\s\"'\\;|&]{1,300})"
)
_URL = re.compile(r"^(?:[a-z+]{2,8}://)?(?:[^@/]{1,100}@)?([\w.-]{1,100}?)(?::\d{1,5})?[:/](.{1,250})$")
_PLACE_NAMES = """
    app build code home mnt opt project projects repo repos repository root src testbed tmp user users usr var
    work workdir workspace workspaces
"""
_PLACES = frozenset(_PLACE_NAMES.split())
"""Folders whose names say nothing about the project in them."""


class Evidence(NamedTuple):
    """What one trajectory shows: repositories and directories in words, texts and lines as hashes.

    A repository is its name without its owner: forks have the same code.
    """

    repositories: frozenset[str]
    directories: frozenset[str]
    texts: frozenset[str]
    lines: frozenset[bytes]


def evidence_of(trajectory: Trajectory) -> Evidence:
    """Return what a trajectory shows; nothing of it is more than a sign."""
    repositories: set[str] = set()
    directories: set[str] = set()
    texts: set[str] = set()
    lines: set[bytes] = set()
    repositories.update(_in_task_ids(trajectory.id))
    for role, text in _opening(trajectory):
        for found in _DIRECTORY.finditer(text):
            path = found[1].replace("\\", "/").rstrip("/.").lower()
            repositories.update(_in_task_ids(path))
            if _says_something(path):
                directories.add(path)
        if role == "user":
            texts.update(_hashes([text]))
            lines.update(_lines(text))
    for message in trajectory.messages:
        # A sub-agent's task is what its parent handed over.
        texts.update(_hashes(_handed_over(message)))
        text = message_text(message)
        for pattern in (_REMOTE, _CLONE):
            repositories.update(filter(None, (_repository(found[1]) for found in pattern.finditer(text))))
    return Evidence(frozenset(repositories), frozenset(directories), frozenset(texts), frozenset(lines))


def _hashes(values: Iterable[str]) -> Iterator[str]:
    for value in values:
        words = " ".join(value.split())
        if len(words) >= _TEXT_MIN_CHARACTERS:
            yield hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _handed_over(message: Message) -> Iterator[str]:
    """Yield the texts that a message's calls give to other agents."""
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        if is_tool_time(str(function.get("name"))):
            continue
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            arguments = json.loads(function["arguments"])
            if isinstance(arguments, dict):
                yield from (value for value in arguments.values() if isinstance(value, str))


def _opening(trajectory: Trajectory) -> Iterator[tuple[str, str]]:
    """Yield role and text of what the first request says before any answer."""
    if not trajectory.turns:
        return
    for i in trajectory.turns[0].message_indices():
        message = trajectory.messages[i]
        if message["role"] in ("assistant", "tool"):
            return
        yield message["role"], message_text(message)


def _in_task_ids(text: str) -> Iterator[str]:
    for found in _TASK_ID.finditer(text):
        yield _name(found[1], found[2])


def _name(owner: str, repository: str) -> str:
    repository = repository.lower()
    return f"{owner.lower()}/{repository}" if repository in _PLACES else repository


def _says_something(path: str) -> bool:
    parts = [part for part in path.split("/") if part and not part.endswith(":")]
    if len(parts) > 1 and parts[0] in ("home", "users"):
        # The user's name is none of a project.
        parts = parts[2:]
    return any(part not in _PLACES for part in parts)


def _repository(url: str) -> str | None:
    found = _URL.match(url)
    if found is None:
        return None
    parts = found[2].strip("/").removesuffix(".git").lower().split("/")
    return _name(parts[-2], parts[-1]) if len(parts) >= 2 and all(parts[-2:]) else None


def _lines(text: str) -> Iterator[bytes]:
    for line in text.split("\n")[:_LINES_MAX]:
        words = " ".join(line.split())
        if len(words) >= _LINE_MIN_CHARACTERS:
            yield hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()[:12]
