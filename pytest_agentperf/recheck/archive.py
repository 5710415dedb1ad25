"""Opens a bundle: bounded, nothing unpacked under a name of its own, every byte held against the manifest."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

FORMAT = "agentperf-bundle/1"
MANIFEST = "manifest.json"
_FILES_MAX = 100_000
_MANIFEST_BYTES_MAX = 64 << 20
_BLOCK = 1 << 20
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@=~-]{0,199}")


class BundleError(Exception):
    """A file that is no bundle, or not one that may be opened."""


class Bundle:
    """An opened bundle: files by name, and what the manifest says of them."""

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        """Read the archive into a private folder; raises BundleError."""
        self.path = path
        self.problems: list[str] = []
        """Files that differ from the manifest, that it does not list, or that are missing."""
        self.manifest: dict[str, Any] = {}
        self._files: dict[str, Path] = {}
        self._digests: dict[str, str] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="agentperf-bundle-")
        try:
            self._read(bytes_max)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was unpacked."""
        self._folder.cleanup()

    @property
    def names(self) -> set[str]:
        """Return the names of all files but the manifest."""
        return set(self._files)

    def path_of(self, name: str) -> Path:
        """Return where a file lies; raises KeyError."""
        return self._files[name]

    def digest_of(self, name: str) -> str | None:
        """Return the SHA-256 (hex) of a file's bytes, None if there is none of that name."""
        return self._digests.get(name)

    def json(self, name: str) -> Any:
        """Read a JSON file; raises KeyError, ValueError."""
        return json.loads(self._files[name].read_bytes())

    def _read(self, bytes_max: int) -> None:
        left = bytes_max
        try:
            with gzip.open(self.path, "rb") as stream:
                for number in range(_FILES_MAX):
                    member = _next_member(stream)
                    if member is None:
                        break
                    if member.name in self._files or (member.name == MANIFEST and self.manifest):
                        raise BundleError(f"{member.name!r} is in it twice")
                    left -= member.size
                    if left < 0:
                        raise BundleError(
                            f"it unpacks to more than {bytes_max:,} bytes; --max-gib allows more, if you trust it"
                        )
                    if member.name == MANIFEST:
                        if member.size > _MANIFEST_BYTES_MAX:
                            raise BundleError(f"its {MANIFEST} is too large")
                        self._take_manifest(b"".join(_blocks(stream, member.size)))
                    else:
                        self._take(number, member, stream)
                else:
                    raise BundleError(f"more than {_FILES_MAX:,} files")
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise BundleError(f"it cannot be read as a tar.gz archive: {error}") from None
        if not self.manifest:
            raise BundleError(f"it has no {MANIFEST}")
        self._compare()

    def _take(self, number: int, member: tarfile.TarInfo, stream: gzip.GzipFile) -> None:
        # Under a number of ours, so that no name can lead anywhere.
        place = Path(self._folder.name) / f"{number}"
        total = hashlib.sha256()
        with place.open("wb") as file:
            for block in _blocks(stream, member.size):
                total.update(block)
                file.write(block)
        self._files[member.name], self._digests[member.name] = place, total.hexdigest()

    def _take_manifest(self, data: bytes) -> None:
        try:
            found = json.loads(data)
            files = found["files"]
            well_formed = isinstance(files, dict) and all(
                isinstance(one["sha256"], str) and isinstance(one["bytes"], int) for one in files.values()
            )
        except (ValueError, KeyError, TypeError):
            raise BundleError(f"its {MANIFEST} is damaged") from None
        if found.get("schema") != FORMAT:
            raise BundleError(f"its {MANIFEST} is not of {FORMAT}: {str(found.get('schema'))[:40]!r}")
        if not well_formed:
            raise BundleError(f"its {MANIFEST} is damaged")
        self.manifest = found

    def _compare(self) -> None:
        listed = self.manifest["files"]
        for name in sorted({*listed, *self._files}):
            if name not in self._files:
                self.problems.append(f"{name} is missing")
            elif name not in listed:
                self.problems.append(f"{name} is not listed")
            elif self._digests[name] != listed[name]["sha256"]:
                self.problems.append(f"{name} is not the file that was bundled")
            elif self._files[name].stat().st_size != listed[name]["bytes"]:
                self.problems.append(f"{name} has another size than listed")


def check_name(name: str) -> None:
    """Raise BundleError for a name that is no plain relative path."""
    parts = name.split("/")
    if len(name) > 500 or not all(_PART.fullmatch(part) and ".." not in part for part in parts):
        raise BundleError(f"{name[:80]!r} is no name that a bundle has")


def _next_member(stream: gzip.GzipFile) -> tarfile.TarInfo | None:
    """Read the header of the next plain file, None at the end; raises BundleError for anything else.

    Header by header, since extended ones may be as large as they say and would be read whole.
    """
    header = _exactly(stream, tarfile.BLOCKSIZE)
    if header.count(0) == len(header):
        return None
    member = tarfile.TarInfo.frombuf(header, "ascii", "surrogateescape")
    check_name(member.name)
    # Links, devices, folders and extended headers have no place in it.
    if member.type != tarfile.REGTYPE or member.size < 0:
        raise BundleError(f"{member.name!r} is no plain file")
    return member


def _blocks(stream: gzip.GzipFile, size: int) -> Iterator[bytes]:
    """Yield a file's bytes, and read what fills its last block."""
    left = size
    while left:
        block = _exactly(stream, min(left, _BLOCK))
        left -= len(block)
        yield block
    if rest := -size % tarfile.BLOCKSIZE:
        _exactly(stream, rest)


def _exactly(stream: gzip.GzipFile, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("it ends too early")
    return data
