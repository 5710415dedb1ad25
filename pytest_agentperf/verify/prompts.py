"""Exact prompt lengths: the request rendered as the model's server renders it, then tokenised."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.verify.rendering import RENDERERS, renderer_for
from pytest_agentperf.verify.rendering.template import load_template, template_renderer
from pytest_agentperf.verify.tokens import open_counter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.core.ports import TokenCounter
    from pytest_agentperf.core.trajectory import Message
    from pytest_agentperf.verify.rendering import Renderer

TEMPLATE = "template"
_KNOWN_MAX = 500_000


class PromptCounter:
    """A `PromptTokenCounter`; text between special tokens is tokenised once where that gives the same count."""

    def __init__(
        self, counter: TokenCounter, render: Renderer, render_answered: Renderer | None = None
    ) -> None:
        """`render_answered` renders a conversation that ends with an answer; by default `render` does."""
        self._counter = counter
        self._render = render
        self._render_answered = render_answered or render
        tokenizer = getattr(counter, "tokenizer", None)
        self._splits = [] if tokenizer is None else _added_tokens(tokenizer)
        self._known: dict[bytes, int] = {}

    def count(self, text: str) -> int:
        """Return the number of tokens of `text`, special tokens not added."""
        return self._counter.count(text)

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """Return `count` of each text."""
        return self._counter.count_many(texts)

    def prompt_tokens(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> int:
        """Return the number of tokens of a chat request's prompt; raises DatasetError if it cannot be rendered."""
        return self._tokens(self._render(messages, tools))

    def answer_tokens(self, message: Message, *, must_hold: Sequence[str] = ()) -> int | None:
        """Return the tokens of an answer, from where the model began to write to the token that ends it.

        None where the rendering does not go on where the prompt ended, or lacks one of the texts it must hold.
        """
        question: list[Message] = [{"role": "user", "content": "?"}]
        prompt, whole = self._render(question, None), self._render_answered([*question, message], None)
        answer = whole[len(prompt) :].rstrip()
        if not whole.startswith(prompt) or not all(text in answer for text in must_hold):
            return None
        return self._tokens(answer)

    def _tokens(self, text: str) -> int:
        if not self._splits:
            return self._counter.count(text)
        pieces = [text.encode("utf-8", "replace").decode()]
        tokens = 0
        for split in self._splits:
            # Odd places hold the added tokens, each one token.
            parts = [split.split(piece) for piece in pieces]
            tokens += sum(len(part) // 2 for part in parts)
            pieces = [piece for part in parts for piece in part[::2] if piece]
        return tokens + self._of(pieces)

    def _of(self, pieces: list[str]) -> int:
        if len(self._known) > _KNOWN_MAX:
            self._known.clear()
        keys = [hashlib.sha256(piece.encode()).digest() for piece in pieces]
        new = {key: piece for key, piece in zip(keys, pieces, strict=True) if key not in self._known}
        self._known.update(zip(new, self._counter.count_many(list(new.values())), strict=True))
        return sum(self._known[key] for key in keys)


def open_prompt_counter(tokenizer: str, *, rendering: str | None = None) -> PromptCounter:
    """Return a counter of whole prompts for a folder or hub name; raises ConfigError saying what is missing.

    `rendering` is "template" or a name in `RENDERERS`; by default the tokenizer's name decides.
    """
    name = rendering or renderer_for(tokenizer) or TEMPLATE
    if name != TEMPLATE and name not in RENDERERS:
        raise ConfigError(
            f"no prompt rendering named {name!r}", remedy="use one of " + ", ".join((TEMPLATE, *RENDERERS))
        )
    counter = open_counter(tokenizer)
    return PromptCounter(counter, *renderers(tokenizer, name))


def renderers(
    tokenizer: str, name: str, variables: Mapping[str, Any] | None = None, *, download: bool = True
) -> tuple[Renderer, Renderer]:
    """Return the renderers of prompts and of answered conversations; `variables` are the chat template's."""
    if name != TEMPLATE:
        return RENDERERS[name], RENDERERS[name]
    template = load_template(tokenizer, download=download)
    return (
        template_renderer(template, tokenizer, variables=variables),
        template_renderer(template, tokenizer, answered=True, variables=variables),
    )


def _added_tokens(tokenizer: Any) -> list[re.Pattern[str]]:
    """Return patterns that cut a text as the tokenizer itself does first, none where that may depend on more.

    Tokenizers take the added tokens out, those that are not normalised before the others, and then treat every
    piece between them alone.
    """
    added = list(tokenizer.get_added_tokens_decoder().values())
    if not added or any(token.lstrip or token.rstrip or token.single_word for token in added):
        return []
    if "Metaspace" in repr(tokenizer.pre_tokenizer) or repr(tokenizer.normalizer) not in _NO_NORMALIZER:
        return []
    patterns = []
    for normalized in (False, True):
        names = [token.content for token in added if token.normalized is normalized]
        if names:
            # The longest of several that begin at the same place.
            names.sort(key=len, reverse=True)
            patterns.append(re.compile(f"({'|'.join(map(re.escape, names))})"))
    return patterns


_NO_NORMALIZER = ("None", "Sequence(normalizers=[])")
