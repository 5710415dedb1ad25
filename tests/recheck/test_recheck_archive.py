"""Opening an archive: bounded, and nothing of it decides where anything is written."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest
from forging import packed

from pytest_agentperf.recheck.archive import FORMAT, Bundle, BundleError, check_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GIB = 1 << 30


def manifest(**files: bytes) -> bytes:
    listed = {n: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for n, d in files.items()}
    return json.dumps({"schema": FORMAT, "files": listed}).encode()


def test_a_bundle_opens(tmp_path: Path) -> None:
    path = packed(tmp_path / "b.tar.gz", {"manifest.json": manifest(a=b"x", b=b""), "a": b"x", "b": b""})
    with Bundle(path, bytes_max=GIB) as bundle:
        assert bundle.problems == []
        assert bundle.names == {"a", "b"}
        place = bundle.path_of("a")
        assert place.read_bytes() == b"x"
        assert bundle.digest_of("none") is None
    assert not place.exists()


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "a/../x", "a//x", "./x", "", ".", "..", ".hidden", "a/.b", "a\\b", "a\nb", "a\x00b", "-rf",
     "C:/x", "ä", "a/" + 201 * "b", "a" * 600, "a..b"],
)  # fmt: skip
def test_names_that_could_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(BundleError, match="no name that a bundle has"):
        check_name(name)


@pytest.mark.parametrize(
    "name", ["leaderboard.json", "requests/001-ramp-2.parquet", "logs/main-0.log", "a_b/c+d@e=f~g"]
)
def test_names_of_runs_are_taken(name: str) -> None:
    check_name(name)


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], format_: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=format_) as out:
        for member, data in members:
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    return path


def member(name: str, type_: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, link
    return info


@pytest.mark.parametrize(
    "type_",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        b"K",
    ],
)
def test_what_is_no_plain_file_is_refused(tmp_path: Path, type_: bytes) -> None:
    path = archive(tmp_path / "b.tar.gz", (member("a", type_, "/etc/passwd"), b""))
    with pytest.raises(BundleError, match="is no plain file"), Bundle(path, bytes_max=GIB):
        pass


def test_extended_headers_are_refused_unread(tmp_path: Path) -> None:
    """One may claim gigabytes, which a tar reader takes into memory."""
    path = archive(tmp_path / "b.tar.gz", (member("a" * 150), b""), format_=tarfile.GNU_FORMAT)
    with pytest.raises(BundleError), Bundle(path, bytes_max=GIB):
        pass


def bomb(path: Path) -> Path:
    return archive(path, (member("zeros"), bytes(5_000_000)), (member("manifest.json"), manifest()))


def twice(path: Path) -> Path:
    return archive(path, (member("a"), b"1"), (member("a"), b"2"))


def cut(path: Path) -> Path:
    data = packed(path, {"a": b"x" * 100_000, "manifest.json": manifest()}).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def plain(path: Path) -> Path:
    path.write_bytes(b"hello")
    return path


def no_tar(path: Path) -> Path:
    path.write_bytes(gzip.compress(b"x" * 2_000))
    return path


def without(path: Path) -> Path:
    return packed(path, {"a": b"x"})


def other(path: Path) -> Path:
    return packed(path, {"manifest.json": json.dumps({"schema": "agentperf-bundle/9", "files": {}}).encode()})


def damaged(path: Path) -> Path:
    return packed(path, {"manifest.json": json.dumps({"schema": FORMAT, "files": {"a": 1}}).encode()})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (bomb, "unpacks to more than 1,000,000 bytes"),
        (twice, "'a' is in it twice"),
        (cut, "cannot be read as a tar.gz archive"),
        (plain, "cannot be read as a tar.gz archive"),
        (no_tar, "cannot be read as a tar.gz archive"),
        (without, "it has no manifest.json"),
        (other, "its manifest.json is not of agentperf-bundle/1"),
        (damaged, "its manifest.json is damaged"),
        (lambda path: path, "cannot be read"),
    ],
)
def test_what_is_wrong_with_an_archive_is_said(
    tmp_path: Path, make: Callable[[Path], Path], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleError, match=says), Bundle(make(tmp_path / "b.tar.gz"), bytes_max=1_000_000):
        pass
