"""`agentperf dataset truncate`, `export` and `split`: new datasets and files from a dataset."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest
from cli_dataset_support import dataset, replay, trajectory

from pytest_agentperf.cli import main
from pytest_agentperf.cli.dataset import synthesize
from pytest_agentperf.cli.dataset.synthesize import token_count
from pytest_agentperf.cli.progress import Progress
from pytest_agentperf.dataset import DatasetStore, ReplayDataset, open_dataset
from pytest_agentperf.dataset.commitment import decode_commitment, decode_opening, verify_commitment
from pytest_agentperf.dataset.default import DEFAULT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> int:
    return main(["dataset", *map(str, arguments)])


def test_truncate_cuts_at_the_turn_that_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = dataset(
        tmp_path / "set",
        trajectory("a"),
        trajectory("b", prompts=(100, 999, 100)),
        trajectory("c", prompts=(999,)),
    )
    assert run("truncate", "set", "--max-context", 1_200, "--max-tokens", 1_000, "--out", "cut") == 0
    cut = DatasetStore(tmp_path / "cut")
    cut.verify()
    # The turn that fits again after one that does not is gone too: its agent never came so far.
    assert {one: len(cut.load(one).turns) for one in cut.ids()} == {"a": 2, "b": 1}
    for one in cut.ids():
        whole, part = source.load(one), cut.load(one)
        for turn, before in zip(part.turns, whole.turns, strict=False):
            assert part.request_messages(turn) == whole.request_messages(before)
    out = capsys.readouterr().out
    assert "prompts of at most 200 tokens: 0 trajectories whole, 2 cut, 1 dropped; 4 turns went" in out
    assert "Made by a test. Cut to prompts of at most 200 tokens (from sha256:" in cut.metadata.provenance


def test_truncate_says_what_it_had_to_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "set", trajectory(prompts=(None, None)))
    assert run("truncate", "set", "--max-context", 50_000, "--out", "cut") == 0
    assert "not recorded: 2 prompt lengths; 2.5 bytes per token assumed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (("--max-context", 100, "--max-tokens", 100), "leaves no prompt"),
        (("--max-context", 100, "--max-tokens", 0), "leaves no prompt"),
        (("--max-context", 50, "--max-tokens", 1), "no trajectory has a turn within 49 prompt tokens"),
    ],
)
def test_truncate_refuses_what_leaves_nothing(
    limits: tuple[object, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset(tmp_path / "set")
    assert run("truncate", "set", *limits, "--out", "cut") == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_export_as_a_replay_gives_the_recording_back(tmp_path: Path) -> None:
    replay(tmp_path / "recorded", "a", "b")
    assert run("import", "recorded", "--out", "set") == 0
    assert run("export", "set", "--to", "agentperf-replay", "--out", "again") == 0
    assert ReplayDataset(tmp_path / "again").digest == ReplayDataset(tmp_path / "recorded").digest


@pytest.mark.parametrize(("to", "rows"), [("aiperf-mooncake", 3), ("aiperf-multi-turn", 1)])
def test_export_for_aiperf(to: str, rows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "set")
    assert run("export", "set", "--to", to, "--out", "rows.jsonl") == 0
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert len([json.loads(line) for line in lines]) == rows
    assert f"wrote rows.jsonl: 1 session, 3 turns as {to}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [("truncate", "--max-context", "50000"), ("export", "--to", "aiperf-mooncake"), ("scrub",), ("split",)],
)
def test_nothing_is_overwritten(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset(tmp_path / "set")
    (tmp_path / "there").write_text("precious", encoding="utf-8")
    name, *options = command
    assert run(name, "set", *options, "--out", "there") == 2
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "there").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize(
    "command",
    [
        ("truncate", "--max-context", "50000"),
        ("export", "--to", "agentperf-replay"),
        ("export", "--to", "aiperf-mooncake"),
        ("scrub",),
        ("split",),
    ],
)
def test_an_interrupt_leaves_nothing(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset(tmp_path / "set", trajectory("a"), trajectory("b"))
    real = DatasetStore.load
    loaded: list[str] = []

    def interrupted(store: DatasetStore, trajectory_id: str) -> Any:
        loaded.append(trajectory_id)
        if loaded.count("b") > (2 if command[0] == "split" else 0) or len(loaded) > 20:
            raise KeyboardInterrupt
        return real(store, trajectory_id)

    monkeypatch.setattr(DatasetStore, "load", interrupted)
    name, *options = command
    assert run(name, "set", *options, "--out", "new") == 130
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_split_gives_two_parts_and_a_commitment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("split", "bundled:demo-v1", "--held-out", 0.25, "--seed", 7, "--out", "parts") == 0
    parts = tmp_path / "parts"
    tuning, held_out = DatasetStore(parts / "tuning"), DatasetStore(parts / "held-out")
    for part in (tuning, held_out):
        part.verify()
    assert not set(tuning.ids()) & set(held_out.ids())
    assert len(tuning.ids()) + len(held_out.ids()) == 24
    assert (tuning.name, held_out.name) == ("demo-tuning", "demo-held-out")
    opening = parts / "held-out-opening.json"
    assert stat.S_IMODE(opening.stat().st_mode) == 0o600
    verify_commitment(
        decode_commitment((parts / "commitment.json").read_bytes(), where="commitment"),
        decode_opening(opening.read_bytes(), where="opening"),
        held_out.digest,
    )
    out = capsys.readouterr().out
    assert "publish tuning/ and commitment.json" in out


@pytest.mark.parametrize("share", ["0", "1", "-1", "nan"])
def test_split_refuses_shares_that_are_none(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("split", "bundled:demo-v1", "--held-out", share, "--out", "parts") == 2
    assert "between 0 and 1" in capsys.readouterr().err


def test_scrub_replaces_what_is_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "ghp_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5"
    made = trajectory("a", requests=[[{"role": "user", "content": f"token {secret}, again {secret}"}]])
    dataset(tmp_path / "set", made)
    (tmp_path / "key").write_bytes(b"k" * 32)
    for out in ("one", "two"):
        assert run("scrub", "set", "--key-file", "key", "--out", out) == 0
        DatasetStore(tmp_path / out).verify()
    printed = capsys.readouterr().out
    assert secret not in printed
    assert "a: " in printed
    text = DatasetStore(tmp_path / "one").load("a").messages[0]["content"]
    assert secret not in text
    assert text.split()[1].rstrip(",") == text.split()[3]
    assert DatasetStore(tmp_path / "one").digest == DatasetStore(tmp_path / "two").digest
    assert run("scrub", "set", "--out", "three") == 0
    assert DatasetStore(tmp_path / "three").digest != DatasetStore(tmp_path / "one").digest
    # The digest of what it was would let a guess be checked.
    assert DatasetStore(tmp_path / "one").metadata.provenance == "Made by a test. Scrubbed."


def test_scrub_refuses_a_key_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "set")
    (tmp_path / "short").write_bytes(b"k")
    assert run("scrub", "set", "--key-file", "short", "--out", "new") == 2
    assert run("scrub", "set", "--key-file", "nowhere", "--out", "new") == 2
    err = capsys.readouterr().err
    assert "shorter than 16 bytes" in err
    assert "nowhere: cannot be read" in err
    assert not (tmp_path / "new").exists()


def test_synthesize_gives_the_same_for_the_same_seed(tmp_path: Path) -> None:
    digests = []
    for out, seed in (("one", 3), ("two", 3), ("three", 4)):
        assert run("synthesize", "--trajectories", 1, "--seed", seed, "--workers", 1, "--out", out) == 0
        store = DatasetStore(tmp_path / out)
        store.verify()
        digests.append(store.digest)
    assert digests[0] == digests[1] != digests[2]
    assert run("validate", "one") == 0


@pytest.mark.parametrize("option", ["--trajectories", "--max-context", "--workers"])
def test_synthesize_refuses_numbers_that_are_none(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("synthesize", option, 0, "--out", "new") == 2
    assert f"{option}: 0" in capsys.readouterr().err


def test_synthesize_makes_the_default_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(**options: Any) -> Path:
        options["progress"](1, 500)
        return tmp_path / "cache"

    monkeypatch.setattr(synthesize, "default_dataset", made)
    assert run("synthesize", "--default") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cache'}\ndigest sha256:{DEFAULT.digest}\n"
    assert run("synthesize", "--default", "--seed", 1) == 2
    assert "--seed: the default dataset is what it is" in capsys.readouterr().err


def test_bundled_datasets_have_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate", "bundled:demo-v1") == 0
    assert run("validate", "bundled:nonsense") == 2
    assert "unknown dataset 'bundled:nonsense'" in capsys.readouterr().err


def test_a_replay_can_be_cut_without_being_converted_first(tmp_path: Path) -> None:
    replay(tmp_path / "recorded", "a")
    assert run("truncate", "recorded", "--max-context", 150, "--max-tokens", 1, "--out", "cut") == 0
    assert len(open_dataset(tmp_path / "cut").load("a").turns) == 1


class Stream:
    def __init__(self, *, terminal: bool) -> None:
        self.text = ""
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def progressed(*, terminal: bool) -> str:
    stream: Any = Stream(terminal=terminal)
    with Progress("reading", 4, stream=stream) as progress:
        assert list(progress.track("abcd")) == list("abcd")
    text: str = stream.text
    return text


def test_a_terminal_gets_a_bar_that_is_wiped() -> None:
    text = progressed(terminal=True)
    assert "reading █" in text
    assert "1/4" in text
    assert text.endswith("\r\x1b[K")


def test_a_log_is_not_disturbed_by_short_work() -> None:
    assert progressed(terminal=False) == ""


@pytest.mark.parametrize(("text", "tokens"), [("400000", 400_000), ("400k", 400_000), ("1M", 1_000_000)])
def test_a_context_in_short(text: str, tokens: int) -> None:
    assert token_count(text) == tokens


@pytest.mark.parametrize("text", ["", "M", "1X", "1.5M"])
def test_a_context_that_is_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["dataset", "synthesize", "--max-context", text, "--out", "x"])
    assert "--max-context" in capsys.readouterr().err
