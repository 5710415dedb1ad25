"""From block hashes to messages, for any tree of requests: lengths, sharing, roles."""

from __future__ import annotations

from itertools import combinations, count, pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_support import prompt_tokens, shared_tokens

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset import counting
from pytest_agentperf.dataset.formats import hashed
from pytest_agentperf.dataset.formats.hashed import TEMPLATE_TOKENS, TracedRequest, TracePrompts, check_blocks

SIZE = 16
NEAR_AN_ANSWER = 16
"""A prompt that ends this near another conversation's answer, or inside it, ends in a user message all the same."""


class Step(NamedTuple):
    """How a request comes from an earlier one."""

    back: int
    drop: int
    new_tokens: int
    output_tokens: int
    follows: bool


steps = st.lists(
    st.builds(
        Step,
        back=st.integers(0, 4),
        drop=st.integers(0, 2),
        new_tokens=st.integers(1, 90),
        output_tokens=st.integers(1, 60),
        follows=st.booleans(),
    ),
    min_size=1,
    max_size=9,
)


def tree(steps: list[Step]) -> tuple[list[TracedRequest], list[tuple[int, int]]]:
    """Return requests whose keys identify all before them, and which follows which."""
    keys = count(1)
    requests: list[TracedRequest] = []
    follows = []
    followed = set()
    for step in steps:
        parent = len(requests) - 1 - step.back
        known: list[hashed.Key] = []
        if parent >= 0:
            earlier = requests[parent]
            full = earlier.input_tokens // SIZE
            known = earlier.keys[: max(0, full - step.drop)]
            if step.follows and parent not in followed:
                followed.add(parent)
                follows.append((parent, len(requests)))
        total = len(known) * SIZE + step.new_tokens
        n_keys = -(-total // SIZE)
        requests.append(
            TracedRequest(
                [*known, *(next(keys) for _ in range(n_keys - len(known)))], total, step.output_tokens
            )
        )
    return requests, follows


@given(steps)
def test_lengths_sharing_and_roles(steps: list[Step]) -> None:
    requests, follows = tree(steps)
    prompts = TracePrompts("test", SIZE)
    for earlier, later in follows:
        prompts.follow(requests[earlier], requests[later])
    messages = [prompts.messages(request) for request in requests]
    streams = [prompt_tokens(found) for found in messages]
    for request, found, stream in zip(requests, messages, streams, strict=True):
        assert len(stream) == max(request.input_tokens, TEMPLATE_TOKENS + 1)
        assert found[-1]["role"] == "user"
        assert all(pair != ("assistant", "assistant") for pair in pairwise(m["role"] for m in found))
    for one, other in combinations(range(len(requests)), 2):
        recorded = shared_tokens(requests[one].keys, requests[other].keys) * SIZE
        recorded = min(recorded, len(streams[one]), len(streams[other]))
        shared = shared_tokens(streams[one], streams[other])
        assert recorded - NEAR_AN_ANSWER < shared < recorded + SIZE


@given(steps, st.randoms(use_true_random=False))
def test_messages_do_not_depend_on_what_was_asked_before(steps: list[Step], random: object) -> None:
    requests, follows = tree(steps)

    def prompts() -> TracePrompts:
        made = TracePrompts("test", SIZE)
        for earlier, later in follows:
            made.follow(requests[earlier], requests[later])
        return made

    one = prompts()
    order = list(range(len(requests)))
    random.shuffle(order)  # type: ignore[attr-defined]
    found = {number: one.messages(requests[number]) for number in order}
    for number, request in enumerate(requests):
        assert prompts().messages(request) == found[number]


@given(st.lists(st.tuples(st.integers(8, 80), st.integers(8, 80)), min_size=2, max_size=8))
def test_a_growing_conversation_appends_whole_messages(turns: list[tuple[int, int]]) -> None:
    keys = list(range(10_000))
    total = 0
    requests = []
    for number, (new, output) in enumerate(turns):
        total += new
        full, rest = divmod(total, SIZE)
        tail: list[hashed.Key] = [f"end of {number}"] if rest else []
        requests.append(TracedRequest([*keys[:full], *tail], total, output))
        total += output
    prompts = TracePrompts("test", SIZE)
    for earlier, later in pairwise(requests):
        prompts.follow(earlier, later)
    histories = [prompts.messages(request) for request in requests]
    for (new, output), earlier_, later_ in zip(turns, histories, histories[1:], strict=False):
        assert later_[: len(earlier_)] == earlier_
        assert [message["role"] for message in later_[len(earlier_) :]] == ["assistant", "user"]
        assert len(prompt_tokens(later_[len(earlier_) : len(earlier_) + 1])) == output
        assert len(prompt_tokens(earlier_[-1:])) == new


def test_an_answer_without_room_is_shortened() -> None:
    prompts = TracePrompts("test", SIZE)
    one, two = TracedRequest([1, 2], 20, 500), TracedRequest([1, 3, 4], 48, 9)
    prompts.follow(one, two)
    spans = [(m["role"], len(prompt_tokens([m]))) for m in prompts.messages(two)]
    assert spans == [("user", 20), ("assistant", 20), ("user", 8)]


def test_the_system_prompt_is_a_message_of_its_own() -> None:
    prompts = TracePrompts("test", SIZE)
    found = prompts.messages(TracedRequest([1, 2], 30, 5, system_tokens=20))
    assert [(m["role"], len(prompt_tokens([m]))) for m in found] == [("system", 20), ("user", 10)]
    assert len(prompts.messages(TracedRequest([1], 10, 5, system_tokens=20))) == 1


def test_continuations_in_a_circle_end() -> None:
    prompts = TracePrompts("test", SIZE)
    one, two = TracedRequest(["a"], 5, 1), TracedRequest(["b"], 9, 1)
    prompts.follow(one, two)
    prompts.follow(TracedRequest(["b"], 5, 1), TracedRequest(["a"], 9, 1))
    assert len(prompt_tokens(prompts.messages(one))) == 5


def test_scopes_share_nothing() -> None:
    request = TracedRequest([1, 2], 32, 5)
    one, other = (prompt_tokens(TracePrompts(scope, SIZE).messages(request)) for scope in ("one", "other"))
    assert shared_tokens(one, other) < 8


def test_the_template_counts_as_the_importer_counts_it() -> None:
    assert TEMPLATE_TOKENS == counting._TOKENS_PER_MESSAGE


@pytest.mark.parametrize(("n_keys", "tokens"), [(2, 16), (0, 1), (2, 33), (2**24, 2**28)])
def test_blocks_that_do_not_fit_are_refused(n_keys: int, tokens: int) -> None:
    with pytest.raises(DatasetError, match="jsonl:3"):
        check_blocks(n_keys, tokens, SIZE, where="f.jsonl:3")


def test_a_conversation_of_endless_new_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashed, "_MAX_CONVERSATION_TOKENS", 100)
    turns = [TracedRequest([f"{turn}"], 16, 1) for turn in range(20)]
    with pytest.raises(DatasetError, match="one conversation"):
        list(TracePrompts("test", SIZE).requests(turns, where="x"))
