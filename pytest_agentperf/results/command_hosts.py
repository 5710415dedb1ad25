"""Which hosts command lines and environments name: destinations of ssh, and what options and variables call a host."""

from __future__ import annotations

import contextlib
import re
import shlex
from ipaddress import ip_address
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SSH = frozenset({"ssh", "autossh", "mosh"})
_SSH_VALUED = "BbcDEeFIiJLlmOopQRSWw"
"""Options of ssh that take a value."""
_SSH_HOSTS = re.compile(r"(?:ProxyJump|HostName|ProxyCommand)[= ]\s*(.+)", re.IGNORECASE)
_NAMING = r"(?:hosts?|hostname|nodelist|addr|address|master|endpoint|ip)"
_OPTION = re.compile(rf"--(?:[\w-]+[-_])?{_NAMING}(?:=(.*))?", re.IGNORECASE | re.DOTALL)
_VARIABLE = re.compile(rf"(?:\w+_)?{_NAMING}", re.IGNORECASE)
_SHORT = frozenset({"-H", "-w"})
"""Of mpirun, pdsh, srun."""
# With the ranges of Slurm: node[01-04].
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]|\[[\d,-]+\])*")
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?/?|([0-9A-Fa-f.]*(?::[0-9A-Fa-f.]*){2,})")
_BETWEEN = re.compile(r",(?![^\[]*\])")
_NO_NAMES = frozenset({"all", "any", "auto", "false", "none", "null", "true"})


def hosts_of(value: Any, key: str = "") -> Iterator[str]:
    """Yield what hosts plain values name in all the commands, environments and places of readiness in them."""
    if isinstance(value, dict) and key == "environment":
        for name, inner in value.items():
            if _VARIABLE.fullmatch(name):
                yield from _named(str(inner))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from hosts_of(inner, name)
    elif key == "command" and value:
        yield from _in_words(_split(value) if isinstance(value, str) else [str(word) for word in value])
    elif key == "ready" and value:
        yield urlsplit(str(value)).hostname or ""
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from hosts_of(inner, key)


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _in_words(words: Sequence[str]) -> Iterator[str]:
    for place, word in enumerate(words):
        if PurePath(word).name in _SSH:
            yield from _destination(words[place + 1 :])
        elif any(char.isspace() for char in word):
            # A command inside a word, as behind `bash -c`.
            yield from _in_words(_split(word)) if word not in _split(word) else ()
        else:
            name, _, assigned = word.partition("=")
            if assigned and _VARIABLE.fullmatch(name):
                yield from _named(assigned)
    for word, following in pairwise([*words, ""]):
        found = _OPTION.fullmatch(word)
        if found is not None or word in _SHORT:
            yield from _named(following if found is None or found[1] is None else found[1])


def _destination(words: Sequence[str]) -> Iterator[str]:
    """Yield the hosts of ssh's own words: its options, and the first word that is none."""
    left = iter(words)
    for word in left:
        if not word.startswith("-") or word == "-":
            yield from _named(word)
            return
        for place, letter in enumerate(word[1:], 2):
            if letter in _SSH_VALUED:
                value = word[place:] or next(left, "")
                yield from _of_option(letter, value)
                break


def _of_option(letter: str, value: str) -> Iterator[str]:
    if letter in "JW":
        yield from _named(value)
    elif letter in "LR":
        yield from (part for part in value.split(":") if not part.isdigit())
    elif letter == "o" and (found := _SSH_HOSTS.match(value)):
        yield from _in_words(_split(found[1])) if " " in found[1] else _named(found[1])


def _named(value: str) -> Iterator[str]:
    """Yield the hosts of `a,b`, `user@a:22`, `tcp://a:29500` and `[fd00::1]:8`, nothing of paths and other values."""
    for part in _BETWEEN.split(value):
        place = part.rpartition("://")[2].rpartition("@")[2]
        if (found := _IPV6.fullmatch(place)) is not None:
            yield from _addresses(found[1] or found[2])
            continue
        host = re.sub(r":\d+/?$", "", place)
        if _NAME.fullmatch(host) and not host.isdigit() and host.lower() not in _NO_NAMES:
            yield host


def _addresses(text: str) -> Iterator[str]:
    with contextlib.suppress(ValueError):
        address = ip_address(text)
        if not (address.is_unspecified or address.is_loopback):
            yield text
