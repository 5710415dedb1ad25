"""Sentences from templates: `<a|b>` picks one, `{name}` asks the writer's context for a word."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_agentperf.dataset.synth.draw import Stream

_CHOICE = re.compile(r"<([^<>]*)>")
Part = str | tuple[str, ...]


@lru_cache(maxsize=4096)
def _parts(template: str) -> tuple[Part, ...]:
    pieces = _CHOICE.split(template)
    return tuple(tuple(text.split("|")) if i % 2 else text for i, text in enumerate(pieces))


class Gaps(dict[str, str]):
    """Fills a sentence's gaps: each `{name}` asks its maker anew, so that two gaps differ."""

    def __init__(self, makers: Mapping[str, Callable[[], str]]) -> None:
        super().__init__()
        self.makers = dict(makers)

    def __missing__(self, name: str) -> str:
        return self.makers[name]()


def sentence(template: str, draw: Stream, gaps: Gaps) -> str:
    """Return the template with its choices drawn and its gaps filled."""
    chosen = "".join(part if isinstance(part, str) else draw.pick(part) for part in _parts(template))
    return chosen.format_map(gaps)


def capitalised(text: str) -> str:
    """Return the text with a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]


class Deck:
    """Deals templates so that none returns before most others were dealt, as a writer avoids repetition."""

    def __init__(self, templates: Sequence[str], draw: Stream) -> None:
        self._waiting = list(templates)
        self._draw = draw
        self._dealt: list[str] = []

    def deal(self) -> str:
        """Return the next template."""
        if len(self._dealt) * 2 > len(self._waiting):
            self._waiting.append(self._dealt.pop(0))
        chosen = self._waiting.pop(self._draw.below(len(self._waiting)))
        self._dealt.append(chosen)
        return chosen
