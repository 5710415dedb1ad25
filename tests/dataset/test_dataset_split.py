from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from dataset_support import message, trajectory
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.digest import source_digest
from pytest_agentperf.dataset.evidence import evidence_of
from pytest_agentperf.dataset.grouping import Group, group_trajectories
from pytest_agentperf.dataset.histories import RecordedRequest, TrajectoryBuilder
from pytest_agentperf.dataset.split import PartSource, split_dataset, split_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.trajectory import Trajectory

LONG = "Please fix the parser so that it reads files with more than one header line"


class Held:
    name = "held"
    digest = "0" * 64

    def __init__(self, *held: Trajectory) -> None:
        self._held = {one.id: one for one in held}

    def ids(self) -> list[str]:
        return sorted(self._held)

    def load(self, trajectory_id: str) -> Trajectory:
        return self._held[trajectory_id]


def asked(
    trajectory_id: str, text: str = "hi", *, language: str | None = None, later: Sequence[Any] = ()
) -> Trajectory:
    builder = TrajectoryBuilder(trajectory_id, language=language)
    history = [message("system", "s"), message("user", text), *later]
    builder.add(RecordedRequest(history, None, tool_delay_ns=0))
    return builder.build()


@pytest.mark.parametrize(
    ("trajectory_id", "repository"),
    [
        ("django__django-11422", "django"),
        ("reasoner.pvlib__pvlib-python-1154.traj", "pvlib-python"),
        ("oauthlib__oauthlib.1fd52536.combine_file__09vlzwgc", "oauthlib"),
        ("run3-scikit-learn__Scikit-Learn-10297+2", "scikit-learn"),
        ("jo__app-7", "jo/app"),
        ("__init__-3", None),
        ("session_42", None),
    ],
)
def test_repositories_in_ids(trajectory_id: str, repository: str | None) -> None:
    assert evidence_of(asked(trajectory_id)).repositories == ({repository} if repository else set())


@pytest.mark.parametrize(
    ("text", "directory"),
    [
        ("<env>\nWorking directory: /home/jo/dev/Parser\n</env>", "/home/jo/dev/parser"),
        ("<cwd>/Users/jo/thing</cwd>", "/users/jo/thing"),
        (r"Current working directory: C:\Users\jo\thing", "c:/users/jo/thing"),
        ("cwd: /testbed", None),
        ("Working directory: /home/jo", None),
        ("<uploaded_files>\n/workspace\n</uploaded_files>", None),
    ],
)
def test_directories(text: str, directory: str | None) -> None:
    assert evidence_of(asked("a", text)).directories == ({directory} if directory else set())


@pytest.mark.parametrize(
    "text",
    [
        "origin\tgit@github.com:Pallets/flask.git (fetch)\norigin\tgit@github.com:Pallets/flask.git (push)",
        "git clone --depth 1 https://user:pw@github.com/pallets/flask.git && cd flask",
        "<uploaded_files>\n/workspace/pallets__flask__2.0\n</uploaded_files>",
    ],
)
def test_repositories_in_texts(text: str) -> None:
    assert evidence_of(asked("a", text)).repositories == {"flask"}
    later = [message("assistant", "x"), message("tool", text)]
    if "uploaded" not in text:
        assert evidence_of(asked("a", later=later)).repositories == {"flask"}


def test_groups_are_connected_over_any_evidence() -> None:
    source = Held(
        asked("a__b-1"),
        asked("a__b-2", LONG),
        asked("x", LONG),
        asked("y", f"You are helpful.\n{LONG}\nGood luck."),
        asked("z", "hi"),
        asked("zz", "hi"),
    )
    groups = group_trajectories(source)
    assert [group.ids for group in groups] == [("a__b-1", "a__b-2", "x", "y"), ("z",), ("zz",)]
    assert [reason.split()[0] for reason in groups[0].joined_by] == ["equal", "repository", "shared"]
    assert [group.known for group in groups] == [True, False, False]
    assert LONG not in " ".join(groups[0].joined_by)


@pytest.mark.parametrize(("tool", "joined"), [("task", True), ("Task", True), ("bash", False)])
def test_a_sub_agent_stays_with_its_parent(tool: str, joined: bool) -> None:
    arguments = json.dumps({"description": "look", "prompt": LONG})
    call = {"id": "c1", "type": "function", "function": {"name": tool, "arguments": arguments}}
    hands_over = message("assistant", "", tool_calls=[call])
    groups = group_trajectories(Held(asked("parent", "build it", later=[hands_over]), asked("child", LONG)))
    assert (len(groups) == 1) is joined


def test_a_harness_text_joins_nothing() -> None:
    same = [asked(f"o{i}__r{i}-1", LONG) for i in range(4)]
    assert len(group_trajectories(Held(*same))) == 4
    # Without known repositories, lines that many share are a harness's too, while equal first messages are not.
    lines = [asked(f"t{i:02}", f"{LONG}\nTask number {i} of this long list of things") for i in range(40)]
    assert len(group_trajectories(Held(*lines))) == 40


def group(*ids: str, language: str | None = "Go") -> Group:
    return Group(ids, (), True, language)


def test_the_seed_decides() -> None:
    groups = [group(f"t{i}") for i in range(30)]
    splits = [split_groups(groups, held_out_share=0.3, seed=seed) for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]
    assert [len(split.held_out_ids()) for split in splits] == [9, 9, 9]


def test_languages_are_split_alike() -> None:
    groups = [group(f"g{i}") for i in range(20)] + [group(f"r{i}", language="Rust") for i in range(10)]
    split = split_groups(groups, held_out_share=0.2, seed=5)
    assert sorted(one[0] for one in split.held_out_ids()) == ["g"] * 4 + ["r"] * 2


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["Go", "C", None])), min_size=2, max_size=25),
    share=st.floats(0.01, 0.99),
    seed=st.integers(),
)
def test_a_split_divides_groups_and_keeps_them_whole(
    sizes: list[tuple[int, str | None]], share: float, seed: int
) -> None:
    groups = [
        group(*(f"{i}-{k}" for k in range(size)), language=language)
        for i, (size, language) in enumerate(sizes)
    ]
    split = split_groups(groups, held_out_share=share, seed=seed)
    assert split.tuning
    assert split.held_out
    assert sorted(split.tuning + split.held_out) == sorted(groups)
    total = sum(size for size, _ in sizes)
    assert abs(len(split.held_out_ids()) - share * total) <= max(size for size, _ in sizes)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(DatasetError, match="share"):
        split_groups([group("a"), group("b")], held_out_share=share, seed=1)


def test_what_cannot_be_split() -> None:
    with pytest.raises(DatasetError, match=r"all trajectories belong together \(repository b\)"):
        split_dataset(Held(asked("a__b-1"), asked("a__b-2")), held_out_share=0.5, seed=1)
    with pytest.raises(DatasetError, match="it is empty"):
        split_dataset(Held(), held_out_share=0.5, seed=1)


def test_the_report_says_what_joined() -> None:
    split = split_dataset(Held(asked("a__b-1"), asked("a__b-2"), asked("c")), held_out_share=0.3, seed=1)
    text = "\n".join(split.lines())
    assert "a__b-1 (+1, unknown): repository b" in text
    assert "c (+0, unknown): alone; nothing names its repository" in text


def test_a_part_is_a_dataset() -> None:
    source = Held(trajectory("a"), trajectory("b"), trajectory("c"))
    part = PartSource(source, ["c", "a"], name="part")
    assert (part.name, list(part.ids())) == ("part", ["a", "c"])
    assert part.digest == source_digest(Held(trajectory("a"), trajectory("c")))
    assert part.load("a") == part.load_recorded("a") == trajectory("a")
    with pytest.raises(DatasetError, match="no trajectory 'b'"):
        part.load("b")
    with pytest.raises(DatasetError, match="no trajectory 'd'"):
        PartSource(source, ["d"], name="part")


def test_evidence_in_hostile_text_takes_linear_time() -> None:
    for unit in ("git clone -a ", "origin x ", "cwd: /a", "a__b-", "cwd `", "<cwd>", "git clone https://a"):
        evidence_of(asked("t", unit * 20_000))
        evidence_of(asked("t", later=[message("assistant", unit * 20_000)]))
