from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataset_support import message

from pytest_agentperf.dataset.formats.base import ImportContext
from pytest_agentperf.dataset.formats.chat import assistant
from pytest_agentperf.dataset.formats.conversation import Conversation

if TYPE_CHECKING:
    from collections.abc import Sequence


class Words:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def count(self, text: str) -> int:
        return len(text.split())

    def count_many(self, texts: Sequence[str]) -> list[int]:
        self.batches.append(list(texts))
        return [self.count(text) for text in texts]


class Prompts(Words):
    def prompt_tokens(self, messages: Sequence[Any], tools: Sequence[Any] | None = None) -> int:
        return 1000 * len(messages) + len(tools or ())


def conversation() -> Conversation:
    found = Conversation(tools=[{"name": "f"}])
    found.say(message("user", "one two three"))
    found.answer(assistant("yes sir"))
    found.say(message("user", "one two three"))
    found.answer(assistant("no"), prompt_tokens=77)
    found.say(message("user", "four"))
    found.answer(assistant("well"), output_tokens=9)
    return found


def test_each_message_is_counted_once_in_one_batch() -> None:
    words = Words()
    context = ImportContext(counter=words)
    found = context.trajectory("t", conversation().requests())
    # The tool list as JSON is 2 words; every message has 4 tokens around it.
    assert [turn.prompt_tokens for turn in found.turns] == [3 + 4 + 2, 77, 3 + 2 + 3 + 1 + 1 + 5 * 4 + 2]
    assert [turn.output_tokens for turn in found.turns] == [2, 1, 9]
    assert context.counted == 3
    assert [len(batch) for batch in words.batches] == [5, 2]


def test_prompts_are_exact_where_the_counter_renders_them() -> None:
    found = ImportContext(counter=Prompts()).trajectory("t", conversation().requests())
    assert [turn.prompt_tokens for turn in found.turns] == [1001, 77, 5001]
    assert [turn.output_tokens for turn in found.turns] == [2, 1, 9]


def test_without_a_counter_nothing_is_invented() -> None:
    found = ImportContext().trajectory("t", conversation().requests())
    assert [turn.prompt_tokens for turn in found.turns] == [None, 77, None]
    assert [turn.output_tokens for turn in found.turns] == [None, None, 9]
