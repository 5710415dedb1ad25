from __future__ import annotations

import itertools
import json
import statistics
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deepseek_prompt
import pytest

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.digest import dataset_digest, trajectory_digest
from pytest_agentperf.dataset.synth import profile_named, synthesize
from pytest_agentperf.dataset.synth.draw import ONE, Quantiles, Stream, even_fraction
from pytest_agentperf.dataset.synth.languages import SYNTAXES
from pytest_agentperf.dataset.synth.plan import TrajectoryPlan, plan_trajectories
from pytest_agentperf.dataset.synth.repository import Repository

if TYPE_CHECKING:
    from pytest_agentperf.core.trajectory import Trajectory

PROFILE = profile_named("aa-agentperf-2026-06")
TOKENIZER = (
    Path(__file__).parents[2].parent / "shared" / "data" / "tokenizers" / "deepseek-v4" / "tokenizer.json"
)
# One seed and number of trajectories, whose content every version of Python must make.
SMALL_SEED, SMALL_COUNT = 1, 10
SMALL_DIGEST = "6cfce1d5c45a0bdecb37915ddea01207aa101e341d22c33ead11fc652bdc83c8"


@pytest.fixture(scope="module")
def plans() -> list[TrajectoryPlan]:
    return list(plan_trajectories(PROFILE, trajectories=500, seed=1))


@pytest.fixture(scope="module")
def made() -> list[Trajectory]:
    return list(synthesize(PROFILE, trajectories=SMALL_COUNT, seed=SMALL_SEED, workers=1))


def test_plans_have_the_published_shape(plans: list[TrajectoryPlan]) -> None:
    turns = [turn for plan in plans for turn in plan.turns]
    prompts = sorted(turn.prompt_tokens for turn in turns)
    outputs = sorted(turn.output_tokens for turn in turns)
    delays_s = sorted(turn.tool_delay_ns / 1e9 for turn in turns if turn.calls)
    assert 37 <= len(turns) / len(plans) <= 39
    assert 170 <= max(len(plan.turns) for plan in plans) <= 200
    assert statistics.mean(prompts) == pytest.approx(27_000, rel=0.03)
    assert 4_500 <= prompts[0] <= 5_500
    assert 115_000 <= prompts[-1] <= 131_072
    assert 125 <= statistics.median(outputs) <= 165
    assert outputs[len(outputs) * 95 // 100] == pytest.approx(2_000, rel=0.1)
    assert outputs[-1] <= 16_384
    assert delays_s[0] < 0.1
    assert statistics.median(delays_s) == pytest.approx(1.0, rel=0.15)
    assert delays_s[-1] <= 5.0
    languages = Counter(plan.language for plan in plans)
    assert len(languages) >= 12
    assert [name for name, _ in languages.most_common(3)] == ["Python", "TypeScript", "Go"]


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_other_seeds_have_it_too(seed: int) -> None:
    turns = [t for plan in plan_trajectories(PROFILE, trajectories=500, seed=seed) for t in plan.turns]
    assert len(turns) / 500 == pytest.approx(38, rel=0.03)
    assert statistics.mean(turn.prompt_tokens for turn in turns) == pytest.approx(27_000, rel=0.06)


def test_a_shorter_dataset_is_the_start_of_a_longer_one(plans: list[TrajectoryPlan]) -> None:
    assert list(plan_trajectories(PROFILE, trajectories=7, seed=1)) == plans[:7]


def test_long_contexts(plans: list[TrajectoryPlan]) -> None:
    long = list(plan_trajectories(PROFILE, trajectories=500, seed=1, max_context_tokens=1_000_000))
    largest = max(turn.prompt_tokens for plan in long for turn in plan.turns)
    assert 500_000 <= largest <= 1_000_000
    assert [len(plan.turns) for plan in long] == [len(plan.turns) for plan in plans]
    short = list(plan_trajectories(PROFILE, trajectories=100, seed=1, max_context_tokens=32_768))
    assert max(turn.prompt_tokens for plan in short for turn in plan.turns) <= 32_768


def test_texts_keep_to_their_plans(made: list[Trajectory], plans: list[TrajectoryPlan]) -> None:
    wanted = [turn for plan in plans[:SMALL_COUNT] for turn in plan.turns]
    found = [turn for one in made for turn in one.turns]
    assert len(wanted) == len(found)
    assert sum(t.prompt_tokens or 0 for t in found) == pytest.approx(
        sum(t.prompt_tokens for t in wanted), rel=0.06
    )
    assert sum(t.output_tokens or 0 for t in found) == pytest.approx(
        sum(t.output_tokens for t in wanted), rel=0.06
    )
    assert [t.tool_delay_ns for t in found] == [t.tool_delay_ns for t in wanted]


def test_the_content_is_the_same_everywhere(made: list[Trajectory]) -> None:
    assert dataset_digest((one.id, trajectory_digest(one)) for one in made) == SMALL_DIGEST


def test_workers_change_nothing(made: list[Trajectory]) -> None:
    steps: list[tuple[int, int]] = []
    parallel = synthesize(
        PROFILE, trajectories=4, seed=SMALL_SEED, workers=2, progress=lambda *step: steps.append(step)
    )
    assert list(parallel) == made[:4]
    assert steps == [(k, 4) for k in range(1, 5)]


def test_another_seed_gives_other_text(made: list[Trajectory]) -> None:
    other = next(synthesize(PROFILE, trajectories=1, seed=2))
    assert other.messages != made[0].messages


def test_requests_are_well_formed_chats(made: list[Trajectory]) -> None:
    for one in made:
        names = {tool["function"]["name"] for tool in one.tool_sets[0]}
        for turn in one.turns:
            messages = one.request_messages(turn)
            assert [m["role"] for m in messages[:2]] == ["system", "user"]
            assert messages[-1]["role"] in ("user", "tool")
            assert {call.name for call in turn.tool_calls} <= names
            _check_chat(messages[2:])


def _check_chat(messages: list[Any]) -> None:
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
            continue
        assert not waiting
        if message["role"] == "assistant":
            assert message["reasoning_content"]
            for call in message.get("tool_calls", ()):
                assert isinstance(json.loads(call["function"]["arguments"]), dict)
                waiting.append(call["id"])
    assert not waiting


def test_recorded_calls_are_those_of_the_next_request(made: list[Trajectory]) -> None:
    for one in made:
        for turn, after in zip(one.turns, one.turns[1:], strict=False):
            answers = [m for m in one.request_messages(after) if m["role"] == "assistant"]
            # A compacted history starts anew.
            if answers:
                calls = [call["id"] for call in answers[-1].get("tool_calls", ())]
                assert calls == [call.id for call in turn.tool_calls]


def test_edits_fit_the_files_that_were_read(made: list[Trajectory]) -> None:
    edits = [
        json.loads(call["function"]["arguments"])
        for one in made
        for message in one.messages
        for call in message.get("tool_calls", ())
        if call["function"]["name"] == "edit"
    ]
    assert len(edits) > 20
    assert all(edit["oldString"] != edit["newString"] for edit in edits)


def test_histories_are_like_real_ones(made: list[Trajectory]) -> None:
    everything = [message for one in made for message in one.messages]
    assert any(len(turn.tool_calls) > 1 for one in made for turn in one.turns)
    assert any(message["content"].startswith("Error:") for message in everything)
    assert any(len(turn.message_runs) > 1 for one in made for turn in one.turns)
    assert any("Old tool result content cleared" in message["content"] for message in everything)
    assert any("replaced by this summary" in message["content"] for message in everything)


def test_agents_share_their_prompt_but_not_their_repository(made: list[Trajectory]) -> None:
    systems = [one.messages[0]["content"] for one in made]
    shared = min(_common_start(systems[0], other) for other in systems[1:])
    assert 5_000 < shared < min(map(len, systems)) - 500
    tools = [one.tool_sets[0] for one in made]
    core = min(tools, key=len)
    assert len({len(one) for one in tools}) == 2
    assert all(one[: len(core)] == core for one in tools)


def _common_start(one: str, other: str) -> int:
    return next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)


def test_no_gap_is_left_open(made: list[Trajectory]) -> None:
    for one in made:
        for message in one.messages[1:]:
            text = message["content"] + (message.get("reasoning_content") or "")
            assert not [
                gap for gap in ("{noun}", "{field}", "{sym}", "{quote}", "@x@", "@n@", "<|") if gap in text
            ]


@pytest.mark.parametrize("name", sorted(SYNTAXES))
def test_every_language_writes_its_files(name: str) -> None:
    repository = Repository(SYNTAXES[name], f"test/{name}")
    for path in (repository.sources[0], repository.tests[0], *repository.documents):
        lines = repository.lines(path)
        assert len(lines) >= 4
        assert not any("\n" in line for line in lines)
    assert repository.sources[0].endswith(f".{SYNTAXES[name].extension}")


def test_texts_compress_like_real_ones(made: list[Trajectory]) -> None:
    # Real recordings: 3.5 to 6 (docs/datasets.md); random words would have 2, a repeated sentence 50.
    for one in made:
        texts = [message["content"] + (message.get("reasoning_content") or "") for message in one.messages]
        data = "\n".join(texts).encode()
        if len(data) > 40_000:
            assert 2.9 <= len(data) / len(zlib.compress(data, 6)) <= 6.0


def test_counts_are_those_of_the_real_tokenizer(made: list[Trajectory]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    if not TOKENIZER.is_file():
        pytest.skip(f"no DeepSeek V4 tokenizer at {TOKENIZER}")
    tokenizer = tokenizers.Tokenizer.from_file(str(TOKENIZER))

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    errors = []
    some = made[::5]
    for one in some:
        for turn in (one.turns[0], one.turns[len(one.turns) // 2], one.turns[-1]):
            real = count(deepseek_prompt.prompt(one.request_messages(turn), one.tool_sets[0]))
            errors.append(((turn.prompt_tokens or 0) - real) / real)
        texts = [message["content"] for message in one.messages]
        assert 3.1 <= sum(len(t.encode()) for t in texts) / sum(map(count, texts)) <= 4.3
    assert max(map(abs, errors)) < 0.05
    assert abs(statistics.mean(errors)) < 0.02
    answers = list(_answers(some))
    real_answers = [count(deepseek_prompt.answer(message)) for _, message in answers]
    assert sum(tokens for tokens, _ in answers) == pytest.approx(sum(real_answers), rel=0.02)
    for (tokens, _), real in zip(answers, real_answers, strict=True):
        assert tokens == pytest.approx(real, rel=0.1, abs=4)


def _answers(made: list[Trajectory]) -> list[tuple[int, Any]]:
    pairs = []
    for one in made:
        for turn, after in zip(one.turns, one.turns[1:], strict=False):
            found = [m for m in one.request_messages(after) if m["role"] == "assistant"]
            if found:
                pairs.append((turn.output_tokens or 0, found[-1]))
    return pairs


def test_the_rendering_is_the_published_one() -> None:
    examples = TOKENIZER.parent
    if not (examples / "test_input_1.json").is_file():
        pytest.skip(f"no published examples at {examples}")
    example = json.loads((examples / "test_input_1.json").read_text(encoding="utf-8"))
    wanted = (examples / "test_output_1.txt").read_text(encoding="utf-8")
    messages = [{"content": "", **message} for message in example["messages"]]
    whole = deepseek_prompt.prompt(messages, example["tools"])
    assert whole.removesuffix("<｜Assistant｜><think>") == wanted.rstrip("\n")


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(DatasetError, match="aa-agentperf-2026-06"):
        next(synthesize("nothing", trajectories=1, seed=1))


def test_quantiles_and_sequences_are_integers() -> None:
    table = Quantiles(((0, 10), (500, 20), (1000, 100)))
    assert [table.at(ONE * k // 4) for k in range(4)] == [10, 12, 20, 40]
    assert table.at(ONE - 1) == 99
    fractions = sorted(even_fraction(1, 0, k) for k in range(100))
    gaps = [b - a for a, b in itertools.pairwise(fractions)]
    assert max(gaps) < ONE // 20
    stream = Stream("x", 1)
    assert all(0 <= stream.below(7) < 7 for _ in range(100))
