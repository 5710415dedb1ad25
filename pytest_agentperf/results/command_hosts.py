"""Which hosts command lines and environments name: where ssh goes, what options call hosts, and what looks like one."""

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

_SSH = frozenset({"ssh", "autossh", "mosh", "sftp", "slogin"})
_SSH_VALUED = "BbcDEeFIiJLlmOoPpQRSWw"
"""Options of ssh that take a value."""
_FORWARDED = re.compile(r":(?![^\[]*\])")
_SSH_HOSTS = re.compile(r"(?:ProxyJump|HostName|HostKeyAlias|ProxyCommand)[= ]\s*(.+)", re.IGNORECASE)
_SSH_USER = re.compile(r"User[= ]\s*(\S+)", re.IGNORECASE)
_COPYING = frozenset({"scp", "rsync", "sshfs"})
_PLACING = frozenset({"srun", "sbatch", "salloc", "pdsh", "clush"})
"""Those to which `-w` names hosts and `-x` the hosts to spare, both also without a space."""
_NAMING = r"(?:hosts?|hostname|nodelist|nodes?|peers?|addrs?|address|addresses|master|endpoints?|ip)"
# Open MPI and MPICH have long options with one dash.
_OPTION = re.compile(rf"--?(?:[\w-]+[-_])?{_NAMING}(?:=(.*))?", re.IGNORECASE | re.DOTALL)
_CONTEXT = re.compile(r"--(?:kube-)?context(?:=(.*))?")
"""Of kubectl, helm and docker: what a cluster is called at home."""
_PLACED = re.compile(r"(?:-[wx]|--exclude=)(.+)|-[wx]|--exclude")
_VARIABLE = re.compile(rf"(?:\w+_)?{_NAMING}|no_proxy", re.IGNORECASE)
_ASSIGNED = re.compile(r"(?:--?[\w-]+=)?(\w+)=(.*)", re.DOTALL)
_SHORT = frozenset({"-H", "-w"})
"""Of mpirun, pdsh, srun."""
_IN_JSON = re.compile(r'"(\w+)"\s*:\s*"([^"]*)"')
# With the ranges of Slurm: node[01-04].
_REST = r"(?:[A-Za-z0-9_.-]|\[[\d,-]+\])*"
_NAME = re.compile(rf"[A-Za-z0-9]{_REST}")
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?/?|([0-9A-Fa-f.]*(?::[0-9A-Fa-f.]*){2,})")
_BETWEEN = re.compile(r",(?![^\[]*\])")
_NO_NAMES = frozenset(
    {"all", "any", "auto", "false", "host-gateway", "latest", "none", "null", "root", "true"}
)
_MODEL = re.compile(r"--(?:served[-_])?model(?:[-_]name)?(?:=.*)?", re.DOTALL)
"""Options whose value, unless it is a place, is a model's name: its tag may look like a port."""
# What tells a host by itself, whatever stands before it. A tag of an image has a port's place, but seldom four digits.
# Where no dot or colon makes it a registry, what an image's place begins with is an organisation.
_WITH_SCHEME = re.compile(
    r"(?!(?:az|file|gs|hf|inproc|ipc|library|s3|unix):|docker://(?![^/#\s]*[.:][^/#\s]*[/#]))"
    r"[a-z][a-z0-9+]*://([^/#\s]+)"
)
_WITH_PORT = re.compile(rf"(?:[\w.+-]+@)?({_NAME.pattern}):(?:\d{{4,5}}|\{{port(?::\w+)?\}})(?:/.*)?")
_WITH_USER = re.compile(rf"[\w.+-]+@((?!sha\d+:)[A-Za-z]{_REST})(?::.*)?")


def hosts_of(value: Any, key: str = "") -> Iterator[str]:
    """Yield what hosts plain values name in all the commands, environments and places of readiness in them."""
    if isinstance(value, dict) and key == "environment":
        for name, inner in value.items():
            yield from _of_assignment(name, str(inner))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from hosts_of(inner, name)
    elif key == "command" and value:
        yield from _in_words(_split(value) if isinstance(value, str) else [str(word) for word in value])
    elif key == "ready" and value:
        yield host_of_url(str(value))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from hosts_of(inner, key)


def host_of_url(url: str) -> str:
    """Return the host of a URL, empty for none; of a malformed one whatever stands in its place."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        found = re.match(r"[\w+.-]+://(?:[^/@]*@)?\[?([^\]/?#\s]*)", url)
        return found[1] if found else ""


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _in_words(words: Sequence[str]) -> Iterator[str]:
    programs = {PurePath(word).name for word in words}
    for place, word in enumerate(words):
        if PurePath(word).name in _SSH:
            yield from _destination(words[place + 1 :])
        elif any(char.isspace() for char in word):
            # A command inside a word, as behind `bash -c`.
            yield from _in_words(_split(word)) if word not in _split(word) else ()
        elif (assigned := _ASSIGNED.fullmatch(word)) is not None:
            yield from _of_assignment(assigned[1], assigned[2])
        elif "/" in word or not any(
            _MODEL.fullmatch(one) for one in (word, *words[max(0, place - 1) : place])
        ):
            yield from _told_by_shape(word.partition("=")[2] if word.startswith("-") else word)
        for name, value in _IN_JSON.findall(word):
            yield from _of_assignment(name, value)
        if programs & _COPYING and ":" in word and "://" not in word:
            yield from _named(word.partition(":")[0])
    for word, following in pairwise([*words, ""]):
        found = _OPTION.fullmatch(word) or _CONTEXT.fullmatch(word)
        if found is None and programs & _PLACING:
            found = _PLACED.fullmatch(word)
        if found is not None or word in _SHORT:
            value = following if found is None or found[1] is None else found[1]
            # Docker's NAME:ADDRESS and NAME=ADDRESS.
            yield from _named(re.sub("[:=]", ",", value, count=1) if word.startswith("--add-host") else value)


def _of_assignment(name: str, value: str) -> Iterator[str]:
    yield from _named(value) if _VARIABLE.fullmatch(name) else _told_by_shape(value)


def _told_by_shape(value: str) -> Iterator[str]:
    """Yield the hosts of `nats://a`, `a:8000/v1` and `user@a:path`, whatever option or variable they are of."""
    for part in _BETWEEN.split(value):
        for shape in (_WITH_SCHEME, _WITH_PORT, _WITH_USER):
            if (found := shape.match(part) if shape is _WITH_SCHEME else shape.fullmatch(part)) is not None:
                yield from _named(found[1])
                break


def _destination(words: Sequence[str]) -> Iterator[str]:
    """Yield the hosts of ssh's own words, and who logs in: its options, and the first word that is none."""
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
    if letter in "JWl":
        yield from _named(value)
    elif letter in "LR":
        for part in _FORWARDED.split(value):
            yield from _named(part)
    elif letter == "o" and (found := _SSH_HOSTS.match(value)):
        yield from _in_words(_split(found[1])) if " " in found[1] else _named(found[1])
    elif letter == "o" and (found := _SSH_USER.match(value)):
        yield from _named(found[1])


def _named(value: str) -> Iterator[str]:
    """Yield the hosts of `a,b`, `user@a:22`, `tcp://a:29500` and `[fd00::1]:8`, nothing of paths and other values."""
    for part in _BETWEEN.split(value):
        place = part.rpartition("://")[2].rpartition("@")[2]
        if (found := _IPV6.fullmatch(place)) is not None:
            yield from _addresses(found[1] or found[2])
            continue
        host = re.sub(r":(?:\d+|\{port(?::\w+)?\})/?$", "", place)
        if _NAME.fullmatch(host) and not re.fullmatch(r"[\d-]+", host) and host.lower() not in _NO_NAMES:
            yield host


def _addresses(text: str) -> Iterator[str]:
    with contextlib.suppress(ValueError):
        address = ip_address(text)
        if not (address.is_unspecified or address.is_loopback):
            yield text
