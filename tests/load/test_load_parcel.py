from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.load import parcel as parcel_module
from pytest_agentperf.load.parcel import Parcel, Shelf


def files_in(folder: Path) -> dict[str, Path]:
    (folder / "a").write_bytes(b"x" * 10)
    (folder / "empty").touch()
    return {"a": folder / "a", "empty": folder / "empty"}


def delivered(parcel: Parcel, shelf: Shelf) -> str:
    delivery = shelf.begin(parcel.digest)
    for kind, name, data in parcel.parts():
        assert kind == "file"
        delivery.take(name, data)
    return delivery.finish()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_what_was_sent_is_there_and_is_found_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcel_module, "PART_BYTES", 4)
    parcel, shelf = Parcel(files_in(source)), Shelf(str(tmp_path / "shelf"))
    assert [len(data) for _, _, data in parcel.parts()] == [4, 4, 2, 0]
    assert shelf.find(parcel.digest) is None
    place = delivered(parcel, shelf)
    assert (Path(place, "a").read_bytes(), Path(place, "empty").read_bytes()) == (b"x" * 10, b"")
    assert shelf.find(parcel.digest) == place
    assert oct(Path(place).stat().st_mode & 0o777) == "0o700"


def test_what_changed_on_the_shelf_is_not_taken(source: Path, tmp_path: Path) -> None:
    parcel, shelf = Parcel(files_in(source)), Shelf(str(tmp_path / "shelf"))
    place = delivered(parcel, shelf)
    Path(place, "a").write_bytes(b"y" * 10)
    assert shelf.find(parcel.digest) is None
    assert shelf.find(parcel.digest) is None
    assert delivered(parcel, shelf) == place
    assert shelf.find(parcel.digest) == place


def test_another_name_or_content_is_another_parcel(source: Path) -> None:
    files = files_in(source)
    assert Parcel(files).digest != Parcel({"b": files["a"], "empty": files["empty"]}).digest
    before = Parcel(files).digest
    files["a"].write_bytes(b"x" * 11)
    assert Parcel(files).digest != before


def test_what_arrives_changed_is_refused_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    parcel, shelf = Parcel(files_in(source)), Shelf(str(tmp_path / "shelf"))
    delivery = shelf.begin(parcel.digest)
    delivery.take("a", b"something else")
    with pytest.raises(LoadError, match="arrived changed"):
        delivery.finish()
    assert list((tmp_path / "shelf").iterdir()) == []


def test_a_name_that_leads_elsewhere_is_refused(source: Path, tmp_path: Path) -> None:
    delivery = Shelf(str(tmp_path / "shelf")).begin("0" * 64)
    with pytest.raises(LoadError, match="is no file's name"):
        delivery.take("../x", b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_full_disk_is_told_with_the_place(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = Shelf(str(tmp_path / "shelf")).begin("0" * 64)
    (delivery._part / "a").symlink_to("/dev/full")
    with pytest.raises(LoadError, match="No space left") as caught:
        delivery.take("a", b"x")
    assert "cache=" in (caught.value.remedy or "")
    assert list((tmp_path / "shelf").iterdir()) == []


def test_what_another_host_of_the_folder_brought_first_is_kept(source: Path, tmp_path: Path) -> None:
    parcel, shelf = Parcel(files_in(source)), Shelf(str(tmp_path / "shelf"))
    late = shelf.begin(parcel.digest)
    for _, name, data in parcel.parts():
        late.take(name, data)
    place = delivered(parcel, shelf)
    before = Path(place, "a").stat().st_ino
    assert late.finish() == place
    assert Path(place, "a").stat().st_ino == before
    assert [path.name for path in (tmp_path / "shelf").iterdir()] == [parcel.digest]


def test_a_folder_that_cannot_be_replaced_is_never_taken_for_what_was_sent(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parcel, shelf = Parcel(files_in(source)), Shelf(str(tmp_path / "shelf"))
    delivery = shelf.begin(parcel.digest)
    for _, name, data in parcel.parts():
        delivery.take(name, data)
    foreign = tmp_path / "shelf" / parcel.digest
    foreign.mkdir()
    (foreign / "a").write_bytes(b"somebody else's")
    # Another user's: it stays.
    monkeypatch.setattr("shutil.rmtree", lambda path, ignore_errors: None)
    with pytest.raises(LoadError, match="cannot be kept"):
        delivery.finish()


def test_what_will_not_be_whole_can_be_dropped(source: Path, tmp_path: Path) -> None:
    delivery = Shelf(str(tmp_path / "shelf")).begin("0" * 64)
    delivery.take("a", b"x")
    delivery.drop()
    assert list((tmp_path / "shelf").iterdir()) == []
