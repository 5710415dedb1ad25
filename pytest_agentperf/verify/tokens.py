"""Token counts by the model's own tokenizer, where it is at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from pytest_agentperf.core.ports import TokenCounter


class FastTokenCounter:
    """Counts with a `tokenizers` tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def count(self, text: str) -> int:
        """Return the number of tokens, special tokens not added."""
        # Half a surrogate pair, which JSON can carry, is no text to a tokenizer.
        text = text.encode("utf-8", "replace").decode()
        return len(self._tokenizer.encode(text, add_special_tokens=False))


def load_counter(tokenizer: str | None) -> TokenCounter | None:
    """Return a counter for a folder with `tokenizer.json` or a hub name that is already in the local cache.

    None if no tokenizer is named, the extra `tokenizers` is not installed or the hub name is not cached: nothing
    is downloaded here. Raises ConfigError for a folder that holds none or does not exist.
    """
    if tokenizer is None:
        return None
    path = Path(tokenizer).expanduser()
    is_folder = path.is_dir()
    if not is_folder and tokenizer.startswith((".", "/", "~")):
        raise ConfigError("no such folder", where=str(path), remedy="correct `tokenizer` in the suite's file")
    if is_folder and not (path / "tokenizer.json").is_file():
        raise ConfigError("no tokenizer.json in it", where=str(path), remedy="name a tokenizer's folder")
    try:
        from transformers import AutoTokenizer
    except ImportError:
        return None
    try:
        return FastTokenCounter(
            AutoTokenizer.from_pretrained(str(path) if is_folder else tokenizer, local_files_only=True)
        )
    except (OSError, ValueError):
        return None
