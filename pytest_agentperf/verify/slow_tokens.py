"""Token counts by `transformers`, for tokenizers that have no `tokenizer.json`; slower by far, and as exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


class SlowTokenCounter:
    """Counts with a tokenizer of `transformers`."""

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded

    def count(self, text: str) -> int:
        """Return the number of tokens, special tokens not added."""
        # Half a surrogate pair, which JSON can carry, is no text to a tokenizer.
        plain = text.encode("utf-8", "replace").decode()
        return len(self._loaded.encode(plain, add_special_tokens=False))

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """Return `count` of each text."""
        return [self.count(text) for text in texts]


def open_slow_counter(tokenizer: str, *, download: bool) -> SlowTokenCounter:
    """Load a folder's or hub name's tokenizer, never running code of its; raises ConfigError."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ConfigError(
            "has no tokenizer.json, and transformers, which reads other kinds, is not installed",
            where=tokenizer,
            remedy="pip install 'pytest-agentperf[tokenizers]'",
        ) from error
    try:
        loaded = AutoTokenizer.from_pretrained(
            tokenizer, trust_remote_code=False, local_files_only=not download
        )
    # What it raises depends on the kind of tokenizer and on what its repository lacks.
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"has no tokenizer.json, and transformers cannot load it: {first}",
            where=tokenizer,
            remedy="name a model with the same tokenizer that has one; a tokenizer's code is never run",
        ) from error
    return SlowTokenCounter(loaded)
