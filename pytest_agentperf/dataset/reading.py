"""Reading files we did not write: bounded, decoded, parsed and validated, or one DatasetError."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NamedTuple, NoReturn, TypeVar, cast

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from pytest_agentperf.core.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_JSON_BYTES = 64 * 2**20
"""No sane request or trajectory is larger: 131K tokens are well under 1 MiB of text."""
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_RATIO_MAX = 300
"""Text of agents packs to a tenth at most, repeated histories to a hundredth."""
MAX_DURATION_MS = 86_400_000.0
"""A day; it also keeps milliseconds exact when they become integer nanoseconds and back."""
MAX_DURATION_NS = 86_400_000_000_000

Model = TypeVar("Model", bound=BaseModel)


class Line(NamedTuple):
    """One line of a file and its number, counted from 1; `ended` by a line end."""

    number: int
    data: bytes
    ended: bool = True


def _chat_message(message: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(message.get("role"), str):
        raise ValueError("a message needs a 'role' that is a string")
    return message


ChatMessage = Annotated[dict[str, Any], AfterValidator(_chat_message)]
DurationMs = Annotated[float, Field(ge=0, le=MAX_DURATION_MS, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


def to_ns(duration_ms: float) -> int:
    """Convert milliseconds to whole nanoseconds, to the nearest."""
    return round(duration_ms * 1_000_000)


def to_ms(duration_ns: int) -> int | float:
    """Convert nanoseconds to milliseconds so that `to_ns` gives them back exactly."""
    whole_ms, rest_ns = divmod(duration_ns, 1_000_000)
    return whole_ms if rest_ns == 0 else duration_ns / 1_000_000


def is_file(path: Path) -> bool:
    """Tell whether a file is there and may be looked at."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def brief(value: Any) -> str:
    """Show a value in a message, unless it is a structure: those can be arbitrarily large."""
    return repr(value)[:80] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def is_gzip(file: BinaryIO) -> bool:
    """Tell whether a file that is about to be read is gzipped."""
    magic = file.read(len(_GZIP_MAGIC))
    file.seek(0)
    return magic == _GZIP_MAGIC


def _open_file(path: Path) -> BinaryIO:
    # Opening a FIFO or a directory would block or raise something less helpful.
    try:
        if not path.is_file():
            raise DatasetError(
                "no such file", where=str(path), remedy="check the dataset's path, or fetch it again"
            )
        return path.open("rb")
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"cannot be read: {error}", where=str(path), remedy="check path and permissions"
        ) from error


def _too_large(path: Path, max_bytes: int) -> NoReturn:
    raise DatasetError(
        f"larger than {max_bytes} bytes",
        where=str(path),
        remedy="this is no trajectory an agent could have produced: check where the file comes from",
    )


def read_bytes(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Return a file's bytes, refusing more than `max_bytes`."""
    with _open_file(path) as file:
        try:
            data = file.read(max_bytes + 1)
        except OSError as error:
            raise DatasetError(f"cannot be read: {error}", where=str(path)) from error
    if len(data) > max_bytes:
        _too_large(path, max_bytes)
    return data


def read_gzip(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Return a gzip file's content, stopping at `max_bytes` however small the file is."""
    with _open_file(path) as file:
        try:
            with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                data = unpacked.read(max_bytes + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetError(
                f"not a complete gzip file: {error}",
                where=str(path),
                remedy="fetch or write the dataset again",
            ) from error
    if len(data) > max_bytes:
        _too_large(path, max_bytes)
    return data


def read_document(path: Path) -> Any:
    """Return the one JSON value of a file, which may be gzipped; raises DatasetError."""
    data = read_bytes(path)
    if data.startswith(_GZIP_MAGIC):
        data = read_gzip(path)
    return parse_json(data, where=str(path), first_line=1)


def read_lines(path: Path, *, max_line_bytes: int = MAX_JSON_BYTES) -> Iterator[Line]:
    r"""Yield the non-blank lines, split on "\n" only: U+2028 and U+0085 occur inside JSON strings.

    A gzipped file is unpacked as it is read, up to a size that no honest one exceeds.
    """
    with _open_file(path) as file:
        packed = is_gzip(file)
        source: BinaryIO = cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb")) if packed else file
        most_bytes = path.stat().st_size * _GZIP_RATIO_MAX + max_line_bytes
        number = total_bytes = 0
        while True:
            try:
                data = source.readline(max_line_bytes + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise DatasetError(f"cannot be read: {error}", where=str(path)) from error
            if not data:
                return
            number += 1
            total_bytes += len(data)
            if packed and total_bytes > most_bytes:
                _too_large(path, most_bytes)
            if len(data) > max_line_bytes:
                raise DatasetError(f"line longer than {max_line_bytes} bytes", where=f"{path}:{number}")
            # Without its end, so that a JSON error at the end names this line and not the next.
            ended = data.endswith(b"\n")
            data = data.rstrip(b"\r\n")
            if data.strip():
                yield Line(number, data, ended)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def parse_json(data: bytes | str, *, where: str, first_line: int | None = None) -> Any:
    """Parse JSON, text or UTF-8; `first_line` numbers the data's first line, None if the place is no text file."""
    remedy = "the file is damaged or not in this format: write or fetch it again"
    # An explicit decode: given bytes, json.loads would also guess UTF-16 and UTF-32.
    try:
        return json.loads(
            data if isinstance(data, str) else data.decode("utf-8"), parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        line = _place(where, first_line, error.object.count(b"\n", 0, error.start))
        raise DatasetError(
            f"not UTF-8 (byte {error.start}: {error.reason})", where=line, remedy=remedy
        ) from error
    except json.JSONDecodeError as error:
        line = _place(where, first_line, error.lineno - 1)
        raise DatasetError(
            f"not JSON: {error.msg} (column {error.colno})", where=line, remedy=remedy
        ) from error
    except ValueError as error:
        raise DatasetError(f"not JSON: {error}", where=_place(where, first_line, 0), remedy=remedy) from error
    except RecursionError as error:
        raise DatasetError(
            "nested too deeply",
            where=_place(where, first_line, 0),
            remedy="no recording nests this deeply: check it",
        ) from error


def _place(where: str, first_line: int | None, lines_down: int) -> str:
    return where if first_line is None else f"{where}:{first_line + lines_down}"


def read_json_lines(path: Path, *, max_line_bytes: int = MAX_JSON_BYTES) -> Iterator[tuple[str, Any]]:
    """Yield (place, value) for every JSON value of a JSONL file, `#` lines left out.

    A line may hold several values. A last line that has no end and is no JSON is what a killed agent leaves: left out.
    """
    held: Line | None = None
    for line in read_lines(path, max_line_bytes=max_line_bytes):
        if held is not None:
            yield from _values(path, held)
        held = None if line.data.lstrip().startswith(b"#") else line
    if held is not None:
        try:
            values = list(_values(path, held))
        except DatasetError:
            if held.ended:
                raise
            return
        yield from values


def _values(path: Path, line: Line) -> Iterator[tuple[str, Any]]:
    where = f"{path}:{line.number}"
    try:
        yield where, parse_json(line.data, where=str(path), first_line=line.number)
    except DatasetError as error:
        try:
            text = line.data.decode("utf-8").strip()
            decoder = json.JSONDecoder(parse_constant=_refuse_constant)
            values = []
            place = 0
            while place < len(text):
                value, place = decoder.raw_decode(text, place)
                values.append((where, value))
                place += len(text) - place - len(text[place:].lstrip())
        except (ValueError, RecursionError):
            raise error from None
        yield from values


def validate(model: type[Model], value: Any, *, where: str, remedy: str) -> Model:
    """Check a parsed document against its model; the first problem is named with its path."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in cast("tuple[object, ...]", first["loc"])) or "the document"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise DatasetError(f"{field}: {first['msg']}{more}", where=where, remedy=remedy) from error
    except RecursionError as error:
        raise DatasetError("nested too deeply", where=where, remedy=remedy) from error
