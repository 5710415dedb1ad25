"""What stands where a private value stood: the same for the same value, about as long, and plainly made up."""

from __future__ import annotations

import hashlib
import hmac
import re

MARK = "REDACTED"
"""In every placeholder of a secret; what has it is never replaced again."""
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_DISTINCT_CHARACTERS = 6
_WHOSE = re.compile(
    r"github_pat_|AIza|AKIA|ASIA|(?:[a-z]{2,5}|xox[a-z])[-_](?:(?:ant|or|proj|svcacct|admin|live|test)[-_])?"
    r"(?:(?:api|v)\d{1,2}-)?"
)
_MADE_UP = re.compile(r"(?:user|host)\d{5}")


class Placeholders:
    """Makes placeholders under a key: without it, nobody can try out which password gives which placeholder."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def secret(self, value: str) -> str:
        """Return a placeholder of a secret's length, 14 characters at least."""
        return MARK + self._letters(value, max(len(value) - len(MARK), _DISTINCT_CHARACTERS))

    def provider_key(self, value: str) -> str:
        """Return a placeholder that begins as the key does, with what says whose it is (`sk-ant-`)."""
        found = _WHOSE.match(value)
        prefix = "" if found is None else found[0]
        return prefix + self.secret(value[len(prefix) :])

    def block(self, value: str) -> str:
        """Return a placeholder for the lines of a private key; line ends stay, escaped ones too."""
        letters = iter(MARK + self._letters(value, len(value)))
        return re.sub(r"\\[nr]|\s|[^\s\\]", lambda found: _kept_end(found[0]) or next(letters), value)

    def dotted(self, value: str) -> str:
        """Return a placeholder for the parts of a JSON web token."""
        return ".".join(
            MARK + self._letters(part, max(len(part) - len(MARK), _DISTINCT_CHARACTERS))
            for part in value.split(".")
        )

    def email(self, value: str) -> str:
        """Return an address at example.com."""
        return f"{self._letters(value.lower(), _DISTINCT_CHARACTERS)}@example.com"

    def user(self, value: str) -> str:
        """Return a user's name."""
        return f"user{self._number(value, 100_000):05}"

    def host(self, value: str) -> str:
        """Return a host's name, without a domain."""
        return f"host{self._number(value.lower(), 100_000):05}"

    def address(self, value: str) -> str:
        """Return an address of a network that is for tests alone: 198.18.0.0/15, or 2001:db8::/32."""
        number = self._number(value.lower(), 2**17)
        if ":" in value:
            return f"2001:db8::{number >> 16:x}:{number & 0xFFFF:x}"
        return f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"

    def _letters(self, value: str, count: int) -> str:
        found = ""
        block = 0
        while len(found) < count:
            found += "".join(_ALPHABET[byte % 32] for byte in self._digest(value, block))
            block += 1
        return found[:count]

    def _number(self, value: str, below: int) -> int:
        return int.from_bytes(self._digest(value, 0)[:8], "big") % below

    def _digest(self, value: str, block: int) -> bytes:
        return hmac.digest(
            self._key, b"%d\0" % block + value.encode("utf-8", "surrogatepass"), hashlib.sha256
        )


def is_made_up(value: str) -> bool:
    """Say whether a value is a placeholder already."""
    return MARK in value or _MADE_UP.fullmatch(value) is not None


def _kept_end(text: str) -> str:
    return text if text.isspace() or text[0] == "\\" else ""
