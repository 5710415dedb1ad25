"""How what is drawn by hashes is written before it is hashed."""

from __future__ import annotations


def fields(*values: object) -> bytes:
    """Return fields as they are hashed: each with its length before it."""
    return b"".join(f"{len(str(value))}:{value}".encode() for value in values)
