"""Token counts by the model's own tokenizer, where it is at hand."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.verify.slow_tokens import SlowTokenCounter, open_slow_counter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_agentperf.core.ports import TokenCounter

TOKENIZER_FILE = "tokenizer.json"
_OTHER_FILES = ("tokenizer_config.json", "tokenizer.model", "vocab.json", "tiktoken.model")
"""What only transformers reads."""
_BATCH_CHARACTERS = 2**21
"""A batch's encodings are held at once, about 50 bytes a character."""
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_EXTRA = "pip install 'pytest-agentperf[tokenizers]'"


class FastTokenCounter:
    """Counts with a `tokenizers` tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def count(self, text: str) -> int:
        """Return the number of tokens, special tokens not added."""
        return len(self.tokenizer.encode(_plain(text), add_special_tokens=False))

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """Return `count` of each text; `tokenizers` counts a batch on all cores."""
        # Without the places of tokens in the text, which nobody asks for here.
        encode = getattr(self.tokenizer, "encode_batch_fast", None) or self.tokenizer.encode_batch
        counts: list[int] = []
        for batch in _batches(texts):
            counts += [len(found) for found in encode(batch, add_special_tokens=False)]
        return counts


class LazyTokenCounter:
    """Loads the tokenizer when something is to be counted: most recordings count for themselves."""

    def __init__(self, tokenizer: str) -> None:
        self._name = tokenizer
        self._counter: TokenCounter | None = None

    def count(self, text: str) -> int:
        """Return the number of tokens; raises ConfigError if the tokenizer cannot be had."""
        return self._loaded().count(text)

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """Return `count` of each text; raises ConfigError if there are texts and no tokenizer."""
        return self._loaded().count_many(texts) if texts else []

    def _loaded(self) -> TokenCounter:
        if self._counter is None:
            self._counter = open_counter(self._name)
        return self._counter


def open_counter(tokenizer: str) -> FastTokenCounter | SlowTokenCounter:
    """Load a tokenizer from a folder, or from the hub, downloading it; raises ConfigError saying what is missing."""
    return _open(tokenizer, download=True)


def _open(tokenizer: str, *, download: bool) -> FastTokenCounter | SlowTokenCounter:
    path = _folder(tokenizer)
    if path is not None and not (path / TOKENIZER_FILE).is_file():
        return open_slow_counter(str(path), download=False)
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ConfigError("tokenizers are not installed", where=tokenizer, remedy=_EXTRA) from error
    try:
        file = path / TOKENIZER_FILE if path is not None else _hub_file(tokenizer, download=download)
    except _NoSuchFile:
        return open_slow_counter(tokenizer, download=download)
    return FastTokenCounter(_read(Tokenizer, file))


def tokenizer_digest(tokenizer: str) -> str | None:
    """Return the SHA-256 of a tokenizer's file, None if it has no `tokenizer.json` or is not here."""
    try:
        path = _folder(tokenizer)
        file = path / TOKENIZER_FILE if path is not None else _hub_file(tokenizer, download=False)
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except (ConfigError, OSError):
        return None


def counter_kind(counter: TokenCounter | None) -> str | None:
    """Return what counts, None if nothing does."""
    if counter is None:
        return None
    return "transformers" if isinstance(counter, SlowTokenCounter) else "tokenizers"


def local_folder(tokenizer: str | None) -> str | None:
    """Return the folder of this machine that a tokenizer is in; None if there is none, or it cannot be loaded here.

    Load workers count with what is in it, wherever they run: a name may mean another revision on every host. Raises
    ConfigError for a folder that holds none or does not exist.
    """
    if tokenizer is None:
        return None
    if (path := _folder(tokenizer)) is not None:
        return str(path.absolute())
    if load_counter(tokenizer) is None:
        return None
    try:
        return str(_hub_file(tokenizer, download=False).parent)
    except _NoSuchFile:
        return _hub_snapshot(tokenizer)
    except ConfigError:
        return None


def load_counter(tokenizer: str | None) -> TokenCounter | None:
    """Return a counter for a folder with `tokenizer.json` or a hub name that is already in the local cache.

    None if no tokenizer is named, the extra `tokenizers` is not installed or the hub name is not cached: nothing
    is downloaded here. Raises ConfigError for a folder that holds none or does not exist.
    """
    if tokenizer is None:
        return None
    path = _folder(tokenizer)
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        return None
    try:
        return _open(tokenizer, download=False)
    except ConfigError:
        if path is not None:
            raise
        return None


def _folder(tokenizer: str) -> Path | None:
    """Return the folder that is named, None for a hub name; raises ConfigError for a folder without a tokenizer."""
    path = Path(tokenizer).expanduser()
    if path.is_dir():
        if not any((path / name).is_file() for name in (TOKENIZER_FILE, *_OTHER_FILES)):
            raise ConfigError(
                f"no {TOKENIZER_FILE} in it", where=str(path), remedy="name a tokenizer's folder"
            )
        return path
    if tokenizer.startswith((".", "/", "~")):
        raise ConfigError("no such folder", where=str(path), remedy="correct `tokenizer`")
    if not _HUB_NAME.fullmatch(tokenizer):
        raise ConfigError(
            "neither a folder nor a name on the hub",
            where=tokenizer,
            remedy="name a folder that exists, or org/model",
        )
    return None


def _hub_file(name: str, *, download: bool) -> Path:
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise ConfigError("the hub's client is not installed", where=name, remedy=_EXTRA) from error
    try:
        return Path(hf_hub_download(name, TOKENIZER_FILE, local_files_only=not download))
    except errors.LocalEntryNotFoundError as error:
        what = "not in the cache, and the hub cannot be reached" if download else "not in the cache"
        remedy = f"download its {TOKENIZER_FILE} elsewhere and name the folder"
        raise ConfigError(what, where=name, remedy=remedy) from error
    except errors.EntryNotFoundError as error:
        raise _NoSuchFile(
            f"has no {TOKENIZER_FILE} on the hub",
            where=name,
            remedy="name a model with the same tokenizer that has one; a tokenizer's code is never run",
        ) from error
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"cannot be had from the hub: {first}",
            where=name,
            remedy="check the name, the network and, for a gated model, HF_TOKEN",
        ) from error


def _hub_snapshot(name: str) -> str | None:
    """Return the folder that the cache has of a name, None if it has none."""
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError, OSError, ValueError):
        return None
    return str(folder) if any((folder / file).is_file() for file in _OTHER_FILES) else None


class _NoSuchFile(ConfigError):
    """The hub has the name, but no `tokenizer.json` for it."""


def _read(tokenizer_class: Any, file: Path) -> Any:
    try:
        tokenizer = tokenizer_class.from_file(str(file))
    # The binding raises plain Exception for a file it cannot read.
    except Exception as error:
        raise ConfigError(
            f"cannot be read: {error}", where=str(file), remedy="fetch the tokenizer again"
        ) from error
    # Some files carry the limits of a model's training, which would cap every count.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _plain(text: str) -> str:
    # Half a surrogate pair, which JSON can carry, is no text to a tokenizer.
    return text.encode("utf-8", "replace").decode()


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        if batch and characters + len(text) > _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
        batch.append(_plain(text))
        characters += len(text)
    if batch:
        yield batch
