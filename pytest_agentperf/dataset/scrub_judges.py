"""Whether what looks private is: every judge sees one match, whose group `x` is the value."""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter

from pytest_agentperf.dataset.scrub_placeholders import is_made_up

_ENTROPY_MIN_BITS = 3.0
_SECRET_MIN_CHARACTERS = 8
_NOBODIES = """
    user username users root admin runner ubuntu debian vscode node app shared public default guest linuxbrew jovyan
    circleci travis git ec2-user vagrant codespace sandbox agent openhands worker dev name you me
"""
_NOBODY = frozenset(_NOBODIES.split())
_VERSION_BEFORE = re.compile(
    r"(?:[=<>~!]=|[\^~_]|[A-Za-z]-|\bv|version\W{0,3}|release\W{0,3})\s?$", re.IGNORECASE
)


def is_random(value: str) -> bool:
    """Say whether a value looks made by chance: letters and digits, and few of them alike."""
    if len(value) < _SECRET_MIN_CHARACTERS or is_made_up(value) or _EXAMPLE.search(value):
        return False
    if not any(c.isdigit() for c in value) or not any(c.isalpha() for c in value):
        return False
    counts = Counter(value)
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())
    return bits >= min(_ENTROPY_MIN_BITS, math.log2(len(value)) - 0.5)


_EXAMPLE = re.compile(r"example|placeholder|changeme|your[-_]|x{4}|\*{3}|1234567|0000000", re.IGNORECASE)


def is_new(found: re.Match[str]) -> bool:
    """Say whether a value is no placeholder yet."""
    return not is_made_up(found["x"])


def is_secret(found: re.Match[str]) -> bool:
    """Say whether a value with a secret's form is random enough to be one."""
    return is_random(found["x"])


def is_assigned_secret(found: re.Match[str]) -> bool:
    """Say whether what a secret's name is given is a value, and not code that computes one."""
    # A name in code has no digits and signs as chance puts them; a quoted value may be any.
    value = found["x"]
    return is_random(value) and (found["quote"] is not None or not _CODE.fullmatch(value))


_CODE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|[A-Z_][A-Z0-9_]*|\$.*|.*\$\{.*")


def is_password(found: re.Match[str]) -> bool:
    """Say whether a URL's password is one, and not a variable or a stand-in."""
    value = found["x"]
    return not (
        is_made_up(value) or value[0] in "${<*%" or value.lower() in ("password", "pass", "pw", "token")
    )


def is_personal_address(found: re.Match[str]) -> bool:
    """Say whether an e-mail address is a person's or a firm's."""
    domain = found["domain"].lower()
    own = domain.startswith("example.") or ".example." in domain or domain.endswith((".example", ".test"))
    return not own and found["local"].lower() not in ("git", "noreply", "no-reply", "hg", "svn")


def is_person(found: re.Match[str]) -> bool:
    """Say whether a user's name is one, and not an image's or a service's."""
    return found["x"].lower() not in _NOBODY and not is_made_up(found["x"])


def is_machine(found: re.Match[str]) -> bool:
    """Say whether a host's name tells one machine from others."""
    name = found["x"].lower()
    return name not in ("localhost", "github") and not is_made_up(name)


def is_internal_host(found: re.Match[str]) -> bool:
    """Say whether a name that ends like a local domain is a host's."""
    # `threading.local` is code; a host has a number, a dash, or a domain.
    labels = found["x"].split(".")[:-1]
    known = found["x"].lower() in ("metadata.google.internal", "host.docker.internal")
    return not known and (len(labels) > 1 or any(c.isdigit() or c == "-" for c in labels[0]))


def is_address(found: re.Match[str]) -> bool:
    """Say whether numbers are an address that tells something, and not a version."""
    text = found["x"]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        groups = [group for group in text.split(":") if group]
        return len(groups) >= 4 and not text.lower().startswith("2001:db8:")
    parts = address.packed
    if parts[0] == 0 or parts[0] >= 240 or parts[:2] in (b"\xc6\x12", b"\xc6\x13"):
        return False
    if parts[:3] in (b"\xc0\x00\x02", b"\xc6\x33\x64", b"\xcb\x00\x71") or (
        max(parts) < 20 and parts[0] != 10
    ):
        return False
    return not _VERSION_BEFORE.search(found.string[max(0, found.start() - 12) : found.start()])
