"""What an agent thinks and says: sentences about the code it has seen, up to a number of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.dataset.synth.documents import repository_gaps
from pytest_agentperf.dataset.synth.phrases import ANSWERS, FOLLOW_UPS, SAYS, TASKS, THOUGHTS
from pytest_agentperf.dataset.synth.prose import Deck, Gaps, sentence
from pytest_agentperf.dataset.synth.tokens import text_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.dataset.synth.draw import Stream
    from pytest_agentperf.dataset.synth.repository import Repository

_RECENT_LINES = 240


class Thinking:
    """The voice of one agent. It quotes what `see` showed it, and mostly speaks of the module in focus."""

    def __init__(self, repository: Repository, focus: str, draw: Stream) -> None:
        self.focus = focus
        self._repository = repository
        self._draw = draw
        self._seen: list[tuple[str, int, str]] = []
        self._gaps = repository_gaps(repository, draw)
        self._gaps = Gaps(
            self._gaps.makers
            | {
                "sym": self._symbol,
                "fn": self._symbol,
                "file": self._file,
                "quote": self._quote,
                "test": self._test,
            }
        )
        self._thoughts = Deck(THOUGHTS, draw)
        self._says = Deck(SAYS, draw)

    def see(self, path: str, offset: int, lines: Sequence[str]) -> None:
        """Remember lines that a tool showed."""
        shown = [
            (path, offset + i + 1, line.strip())
            for i, line in enumerate(lines)
            if 12 < len(line.strip()) < 90
        ]
        self._seen = (self._seen + shown)[-_RECENT_LINES:]

    def _symbol(self) -> str:
        path = self.focus if self._draw.chance(60) else self._draw.pick(self._repository.sources)
        return self._repository.syntax.function_name(
            self._draw.pick(self._repository.outline(path).functions)
        )

    def _file(self) -> str:
        return self._draw.pick(self._seen)[0] if self._seen and self._draw.chance(80) else self.focus

    def _quote(self) -> str:
        return self._draw.pick(self._seen)[2].replace("`", "'") if self._seen else self._symbol()

    def _test(self) -> str:
        names = self._repository.test_names(self._repository.outline(self.focus))
        return self._repository.syntax.function_name(self._draw.pick(names))

    def _sentence(self, template: str) -> str:
        return sentence(template, self._draw, self._gaps)

    def reasoning(self, tokens: int) -> str:
        """Return thoughts of about that many tokens: sentences, and in long ones also notes line by line and drafts."""
        paragraphs: list[str] = []
        left = tokens
        while left > 8:
            kind = self._draw.below(10) if left > 260 else 0
            if kind == 9 and self._seen:
                text = self._notes(min(left, self._draw.between(90, 420)))
            elif kind == 8:
                text = self._code_draft(min(left, self._draw.between(80, 500)))
            else:
                text = self._paragraph(min(left, self._draw.between(60, 240)) if tokens > 260 else left)
            paragraphs.append(text)
            left -= text_tokens(text) + 1
        return "\n\n".join(paragraphs) or self._sentence(self._says.deal())

    def _paragraph(self, tokens: int) -> str:
        sentences: list[str] = []
        left = tokens
        for _ in range(60):
            candidate = self._sentence(self._thoughts.deal() if left > 24 else self._says.deal())
            size = text_tokens(candidate)
            if size > left + 6 and sentences:
                # A shorter sentence may still fit.
                candidate = self._sentence(self._says.deal())
                size = text_tokens(candidate)
                if size > left + 6:
                    break
            sentences.append(candidate)
            left -= size
            if left <= 6:
                break
        return " ".join(sentences)

    def _notes(self, tokens: int) -> str:
        """Go through lines of a file one by one."""
        draw = self._draw
        start = draw.below(len(self._seen))
        path = self._seen[start][0]
        text = f"Let me trace through {path}:\n"
        left = tokens - text_tokens(text)
        for other, number, line in self._seen[start:]:
            if left < 20 or other != path:
                break
            note = self._sentence(draw.pick((
                "<sets|changes|needs> the {field}", "fine", "<here|so> the {noun} <is taken|ends|may be empty>",
                "{field} = {n}", "<same|not the same> {field} as in `{sym}`", "<this|it> <looks right|is the place|is late>",
            )))  # fmt: skip
            row = f"- line {number}: `{line}` → {note}\n"
            text += row
            left -= text_tokens(row)
        return text.rstrip("\n")

    def _code_draft(self, tokens: int) -> str:
        writer = self._repository.writer(self.focus, self._draw)
        count = max(tokens // 16, 2)
        body = "\n".join(writer.write_statements(count, 0)[: max(tokens // 11, 3)])
        opening = self._sentence(self._draw.pick((
            "Something like:", "A <first|rough> draft of `{sym}`:", "<So|Then> the new code <would be|is>:",
            "Let me write the {noun} part:",
        )))  # fmt: skip
        return f"{opening}\n```\n{body}\n```"

    def remark(self) -> str:
        """Return one sentence to the user."""
        return self._sentence(self._says.deal())

    def answer(self, tokens: int) -> str:
        """Return a final answer of about that many tokens."""
        parts: list[str] = []
        left = tokens
        while left > 12 or not parts:
            parts.append(self._sentence(ANSWERS[len(parts) % len(ANSWERS)]))
            left -= text_tokens(parts[-1])
        return " ".join(parts)

    def task(self, tokens: int, log: str) -> str:
        """Return what the user asks for, with a log where there is room for it."""
        text = self._sentence(self._draw.pick(TASKS))
        while text_tokens(text) < min(tokens, 160):
            text += " " + self._sentence(self._thoughts.deal())
        return f"{text}\n\nThis is what the log shows:\n\n```\n{log}\n```" if tokens > 200 else text

    def follow_up(self) -> str:
        """Return what the user asks for next."""
        return self._sentence(self._draw.pick(FOLLOW_UPS))
