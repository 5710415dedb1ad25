"""Questions with checkable answers, one JSON object a line: our own form, and the shapes of common evaluation sets.

    {"id": …, "kind": "exact", "prompt": …, "answer": "B", "accept": ["b)"]}
    {"id": …, "kind": "numeric", "prompt": …, "answer": 42, "tolerance": 0.01}
    {"id": …, "kind": "regex", "prompt": …, "pattern": "…"}
    {"id": …, "kind": "tool", "prompt": …, "tools": […], "call": {"name": …, "arguments": {a JSON schema}}}

Read as they are, too: `question` with an `answer` that ends in `#### 42` (GSM8K) or is the answer itself, and
`question` with `choices` or `options` (MMLU, MMLU-Pro, ARC).
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.verify.json_schema import check_schema

if TYPE_CHECKING:
    from pathlib import Path

_FILE_BYTES_MAX = 64 << 20
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LAST_LINE = "\n\nEnd your reply with a line that says `Answer:` and then {what} alone."
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


class WantedCall(BaseModel):
    """The one call that is right."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arguments: dict[str, Any]
    """A JSON schema that they conform to."""


class Question(BaseModel):
    """One question, and what its answer is checked by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: Literal["exact", "numeric", "regex", "tool"]
    prompt: str = Field(min_length=1)
    answer: str | float | None = None
    accept: tuple[str, ...] = ()
    """Other ways to write an exact answer."""
    tolerance: float = Field(default=1e-6, ge=0)
    pattern: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    call: WantedCall | None = None

    @model_validator(mode="after")
    def _checkable(self) -> Question:
        match self.kind:
            case "exact" if not isinstance(self.answer, str) or not self.answer.strip():
                raise ValueError("an exact answer is a text: give `answer`")
            case "numeric" if not isinstance(self.answer, float):
                raise ValueError("a numeric answer is a number: give `answer`")
            case "regex":
                try:
                    re.compile(self.pattern or "")
                except re.error as error:
                    raise ValueError(f"`pattern`: {error}") from None
                if not self.pattern:
                    raise ValueError("give `pattern`")
            case "tool":
                if not self.tools or self.call is None:
                    raise ValueError("give `tools` and `call`")
                check_schema(self.call.arguments)
        return self


class QuestionSet(NamedTuple):
    """A file of questions."""

    name: str
    digest: str
    """SHA-256 of the file."""
    questions: tuple[Question, ...]


def load_questions(path: Path) -> QuestionSet:
    """Read a file of questions; raises ConfigError naming the line."""
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            f"the questions cannot be read: {error.strerror or error}",
            where=str(path),
            remedy="correct `accuracy.questions` in the suite",
        ) from None
    if len(data) > _FILE_BYTES_MAX:
        raise ConfigError("more than 64 MiB of questions", where=str(path), remedy="name a smaller set")
    found: dict[str, Question] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        question = _question(line, number, where)
        if question.id in found:
            raise ConfigError(f"the id {question.id!r} stands twice", where=where, remedy="give each its own")
        found[question.id] = question
    if not found:
        raise ConfigError("no question in it", where=str(path), remedy="write one JSON object a line")
    return QuestionSet(path.stem, hashlib.sha256(data).hexdigest(), tuple(found.values()))


def _question(line: bytes, number: int, where: str) -> Question:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("no JSON object")
        return Question.model_validate(row if "kind" in row else _imported(row, number))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        what = f"{place}: {first['msg']}" if place else first["msg"].removeprefix("Value error, ")
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        what = f"not a question: {error}"
    raise ConfigError(what, where=where, remedy="see docs/verification.md for the forms that are read")


def _imported(row: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a row of a common evaluation set in our form."""
    id_ = str(row.get("id") or row.get("question_id") or row.get("task_id") or f"line-{number}")
    question = row.get("question") or row.get("problem") or row.get("prompt")
    if not isinstance(question, str):
        raise ValueError("it has neither `kind` nor `question`")
    choices = row.get("choices") or row.get("options")
    if choices:
        labels, texts = _choices(choices)
        wanted = row.get("answerKey", row.get("answer", row.get("answer_index")))
        label = labels[wanted] if isinstance(wanted, int) else str(wanted).strip()
        if label not in labels:
            raise ValueError(f"the answer {wanted!r} is none of the choices {', '.join(labels)}")
        listed = "\n".join(f"{name}. {text}" for name, text in zip(labels, texts, strict=True))
        prompt = f"{question}\n\n{listed}" + _LAST_LINE.format(what="the letter of the right choice")
        return {"id": id_, "kind": "exact", "prompt": prompt, "answer": label}
    answer = row["answer"]
    # GSM8K writes how it is worked out before it.
    text = str(answer).rpartition("####")[2].strip()
    if _NUMBER.fullmatch(text.removeprefix("$")):
        value = float(text.removeprefix("$").replace(",", ""))
        prompt = question + _LAST_LINE.format(what="the number")
        return {"id": id_, "kind": "numeric", "prompt": prompt, "answer": value}
    prompt = question + _LAST_LINE.format(what="the answer")
    return {"id": id_, "kind": "exact", "prompt": prompt, "answer": text}


def _choices(choices: Any) -> tuple[list[str], list[str]]:
    if isinstance(choices, dict):
        return [str(label) for label in choices["label"]], [str(text) for text in choices["text"]]
    return list(_LETTERS[: len(choices)]), [str(text) for text in choices]
