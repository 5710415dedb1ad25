from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.config.bundled import cache_directory, find_dataset
from pytest_agentperf.core.errors import ConfigError, DatasetError
from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06
from pytest_agentperf.dataset import DatasetStore, default, write_dataset
from pytest_agentperf.dataset.default import DEFAULT, Synthesis, cached_synthesis, make_available
from pytest_agentperf.dataset.synth import profile_named, synthesis_metadata, synthesize

if TYPE_CHECKING:
    from pathlib import Path

PROFILE = profile_named("aa-agentperf-2026-06")
FEW = 2


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    directory = tmp_path_factory.mktemp("few") / "dataset"
    made = synthesize(PROFILE, trajectories=FEW, seed=4)
    store = write_dataset(directory, made, synthesis_metadata(PROFILE, trajectories=FEW, seed=4))
    return Synthesis(PROFILE.name, FEW, 4, store.digest)


def test_first_use_makes_it_and_later_ones_find_it(few: Synthesis, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    first = cached_synthesis(few, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, FEW), (2, FEW)]
    assert DatasetStore(first).digest == few.digest
    assert cached_synthesis(few, tmp_path, progress=lambda done, total: seen.append((0, 0))) == first
    assert len(seen) == FEW
    assert {path.name for path in first.parent.iterdir()} <= {first.name, f".{first.name}.lock"}


def test_a_wrong_digest_names_both_and_leaves_nothing(few: Synthesis, tmp_path: Path) -> None:
    wrong = few._replace(digest="0" * 64)
    with pytest.raises(DatasetError) as caught:
        cached_synthesis(wrong, tmp_path)
    assert few.digest in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert not (tmp_path / "datasets" / wrong.directory_name).exists()


def test_a_cached_dataset_that_is_another_is_refused(few: Synthesis, tmp_path: Path) -> None:
    directory = cached_synthesis(few, tmp_path)
    document = directory / "dataset.yaml"
    document.write_text(document.read_text(encoding="utf-8").replace(few.digest, "1" * 64), encoding="utf-8")
    with pytest.raises(DatasetError, match="1" * 64):
        cached_synthesis(few, tmp_path)


def test_two_at_once_make_it_once(few: Synthesis, tmp_path: Path) -> None:
    made: list[int] = []
    found: list[Path] = []

    def use() -> None:
        found.append(cached_synthesis(few, tmp_path, progress=lambda done, total: made.append(done)))

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 3
    assert made == [1, 2]


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENTPERF_CACHE", str(tmp_path / "here"))
    assert cache_directory() == tmp_path / "here"
    monkeypatch.delenv("AGENTPERF_CACHE")
    assert cache_directory().name == "pytest-agentperf"


def test_the_published_digest_is_one() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", DEFAULT.digest)


def test_the_rulesets_dataset_is_made_where_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTPERF_CACHE", str(tmp_path))
    asked: list[Synthesis] = []

    def made(synthesis: Synthesis, *args: object, **kwargs: object) -> Path:
        asked.append(synthesis)
        return tmp_path

    monkeypatch.setattr(default, "cached_synthesis", made)
    path = find_dataset(AA_AGENTPERF_2026_06.dataset, relative_to=tmp_path / "suite")
    assert make_available(path) == tmp_path
    assert asked == [DEFAULT]
    assert DEFAULT.digest == AA_AGENTPERF_2026_06.dataset_digest
    # Any other place is the user's.
    assert make_available(tmp_path / "mine") == tmp_path / "mine"
    assert len(asked) == 1
    with pytest.raises(ConfigError, match="aa-agentperf-2026-06"):
        find_dataset("synthetic:other", relative_to=tmp_path)
