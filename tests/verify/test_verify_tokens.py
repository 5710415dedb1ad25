from __future__ import annotations

import hashlib
import re
import sys
import types
from pathlib import Path

import pytest

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.verify.tokens import (
    FastTokenCounter,
    LazyTokenCounter,
    counter_kind,
    load_counter,
    local_folder,
    open_counter,
    tokenizer_digest,
)

TOKENS = "pytest_agentperf.verify.tokens"
DEEPSEEK_V4 = Path(__file__).parents[3] / "shared" / "data" / "tokenizers" / "deepseek-v4"


class Words:
    """A tokenizer of words that takes no half of a surrogate pair, as the real ones."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[str]:
        assert not add_special_tokens
        text.encode()
        return text.split()

    def encode_batch(self, texts: list[str], *, add_special_tokens: bool) -> list[list[str]]:
        return [self.encode(text, add_special_tokens=add_special_tokens) for text in texts]


def test_no_tokenizer_named() -> None:
    assert load_counter(None) is None


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no tokenizer\.json in it") as caught:
        load_counter(str(tmp_path))
    assert caught.value.where == str(tmp_path)


def test_without_the_extra_there_is_no_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert load_counter(str(tmp_path)) is None
    with pytest.raises(ConfigError, match="not installed") as caught:
        open_counter(str(tmp_path))
    assert caught.value.remedy == "pip install 'pytest-agentperf[tokenizers]'"


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere", "a/b/c", "spa ce", ""])
def test_what_names_no_tokenizer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for load in (load_counter, open_counter):
        with pytest.raises(ConfigError, match=r"no such folder|neither a folder|no tokenizer"):
            load(name)


def test_counting() -> None:
    counter = FastTokenCounter(Words())
    assert counter.count("") == 0
    assert counter.count("one two") == 2
    assert counter.count("half \ud83d") == 2


def test_counting_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_agentperf.verify.tokens._BATCH_CHARACTERS", 5)
    counter = FastTokenCounter(Words())
    assert counter.count_many(["one two", "", "a", "b c", "half \ud83d", "d"]) == [2, 0, 1, 2, 2, 1]
    assert counter.count_many([]) == []


def test_a_lazy_counter_loads_when_it_must() -> None:
    counter = LazyTokenCounter("./nowhere")
    assert counter.count_many([]) == []
    with pytest.raises(ConfigError, match="no such folder"):
        counter.count("a")


def hub(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """Put a hub's client in place that fails in one way."""
    errors = types.ModuleType("huggingface_hub.errors")
    errors.EntryNotFoundError = type("EntryNotFoundError", (Exception,), {})  # type: ignore[attr-defined]
    errors.LocalEntryNotFoundError = type(  # type: ignore[attr-defined]
        "LocalEntryNotFoundError", (errors.EntryNotFoundError, FileNotFoundError), {}
    )
    errors.HfHubHTTPError = type("HfHubHTTPError", (OSError,), {})  # type: ignore[attr-defined]
    errors.HFValidationError = type("HFValidationError", (ValueError,), {})  # type: ignore[attr-defined]
    client = types.ModuleType("huggingface_hub")

    def hf_hub_download(name: str, file: str, *, local_files_only: bool) -> str:
        raise getattr(errors, fails)("401 Client Error.\nmore")

    client.hf_hub_download = hf_hub_download  # type: ignore[attr-defined]
    client.errors = errors  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    monkeypatch.setitem(sys.modules, "tokenizers", types.SimpleNamespace(Tokenizer=None))
    monkeypatch.setitem(sys.modules, "transformers", None)


@pytest.mark.parametrize(
    ("fails", "problem"),
    [
        ("LocalEntryNotFoundError", "not in the cache, and the hub cannot be reached"),
        ("EntryNotFoundError", r"has no tokenizer\.json, and transformers.* is not installed"),
        ("HfHubHTTPError", r"cannot be had from the hub: 401 Client Error\.$"),
    ],
)
def test_a_hub_that_fails(fails: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, fails)
    with pytest.raises(ConfigError) as caught:
        open_counter("org/model")
    assert re.search(problem, caught.value.what)
    assert caught.value.remedy
    assert load_counter("org/model") is None


def test_the_folder_that_load_workers_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_folder(None) is None
    (tmp_path / "tokenizer.model").touch()
    assert local_folder(str(tmp_path)) == str(tmp_path)
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "tokenizer.json").touch()
    hub(monkeypatch, "LocalEntryNotFoundError")
    assert local_folder("org/model") is None, "it is not in the cache"
    monkeypatch.setattr(f"{TOKENS}._hub_file", lambda name, *, download: snapshot / "tokenizer.json")
    monkeypatch.setattr(f"{TOKENS}._read", lambda tokenizer_class, file: None)
    assert local_folder("org/model") == str(snapshot)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert local_folder("org/model") is None, "nothing could count with it here"


def test_the_folder_of_another_kind_of_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, "EntryNotFoundError")
    asked: list[tuple[str, bool]] = []

    def snapshot_download(name: str, *, local_files_only: bool) -> str:
        asked.append((name, local_files_only))
        return str(tmp_path)

    monkeypatch.setattr(sys.modules["huggingface_hub"], "snapshot_download", snapshot_download, raising=False)
    assert local_folder("org/model") is None, "transformers cannot load it"
    transformers_with(monkeypatch, Letters())
    assert local_folder("org/model") is None, "it is not whole"
    (tmp_path / "vocab.json").touch()
    assert local_folder("org/model") == str(tmp_path)
    assert asked == [("org/model", True)] * 2
    assert counter_kind(load_counter("org/model")) == "transformers"
    assert counter_kind(None) is None


class Letters:
    """A tokenizer of transformers that has a token for every letter, and takes no half of a surrogate pair."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[str]:
        assert not add_special_tokens
        text.encode()
        return list(text)


def transformers_with(monkeypatch: pytest.MonkeyPatch, found: object) -> list[tuple[str, bool]]:
    """Put a transformers in place that loads `found`, or raises it; returns what it is asked for."""
    asked: list[tuple[str, bool]] = []

    class AutoTokenizer:
        @staticmethod
        def from_pretrained(name: str, *, trust_remote_code: bool, local_files_only: bool) -> object:
            assert not trust_remote_code
            asked.append((name, local_files_only))
            if isinstance(found, Exception):
                raise found
            return found

    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(AutoTokenizer=AutoTokenizer))
    return asked


def test_a_folder_with_another_kind_of_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokenizers", reason="the extra `tokenizers` is not installed")
    (tmp_path / "tokenizer.model").touch()
    asked = transformers_with(monkeypatch, Letters())
    for counter in (open_counter(str(tmp_path)), load_counter(str(tmp_path))):
        assert counter is not None
        assert counter.count_many(["abc", "", "half \ud83d"]) == [3, 0, 6]
    assert asked == [(str(tmp_path), True)] * 2
    assert tokenizer_digest(str(tmp_path)) is None


def test_a_hub_name_with_another_kind_of_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, "EntryNotFoundError")
    asked = transformers_with(monkeypatch, Letters())
    assert open_counter("org/model").count("ab") == 2
    assert asked == [("org/model", False)]
    transformers_with(monkeypatch, ValueError("needs code of its own\nmore"))
    with pytest.raises(ConfigError, match=r"cannot load it: needs code of its own\n"):
        open_counter("org/model")


def test_a_tokenizers_digest(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    assert tokenizer_digest(str(tmp_path)) == hashlib.sha256(b"{}").hexdigest()
    assert tokenizer_digest("./nowhere") is None


def test_a_real_tokenizer() -> None:
    pytest.importorskip("tokenizers", reason="the extra `tokenizers` is not installed")
    if not DEEPSEEK_V4.is_dir():
        pytest.skip(f"{DEEPSEEK_V4} is not there")
    counter = load_counter(str(DEEPSEEK_V4))
    assert counter is not None
    assert counter.count("") == 0
    assert counter.count("a") == 1
    text = "def naïve(漢字: str) -> None: ..."
    assert 5 < counter.count(text) < len(text.encode())
    assert counter.count(text + text) <= 2 * counter.count(text) + 1
    assert counter.count("\ud83d") > 0
    assert counter.count_many([text, "", "a"]) == [counter.count(text), 0, 1]


def test_a_tokenizer_that_cannot_be_read(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="the extra `tokenizers` is not installed")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read"):
        open_counter(str(tmp_path))


def test_a_hub_name_that_is_not_cached() -> None:
    pytest.importorskip("transformers", reason="the extra `tokenizers` is not installed")
    assert load_counter("agentperf-tests/no-such-model") is None
