"""Says whether an answer is right: by what the model said last, or by the call that it made."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

from pytest_agentperf.verify.json_schema import conforms

if TYPE_CHECKING:
    from pytest_agentperf.core.kept import Spoken
    from pytest_agentperf.verify.questions import Question

_ANSWER = re.compile(
    r"^\W*(?:the |my )?(?:final )?answer(?: is)?\W*?:\W*?(\S.*)$", re.IGNORECASE | re.MULTILINE
)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_LETTER = re.compile(r"\(?([A-Za-z])\)?(?![A-Za-z0-9])")
_CHARS_MAX = 200_000


def is_right(question: Question, spoken: Spoken) -> bool:
    """Return whether an answer is right; reasoning is none."""
    content = spoken.content[-_CHARS_MAX:]
    match question.kind:
        case "exact":
            return _exact(question, final_answer(content))
        case "numeric":
            return _numeric(question, final_answer(content))
        case "regex":
            assert question.pattern is not None
            return re.search(question.pattern, content.strip()) is not None
        case "tool":
            return _called(question, spoken)


def final_answer(content: str) -> str:
    """Return what follows the last `Answer:`, else the last line that says something."""
    boxed = _BOXED.findall(content)
    if boxed:
        return str(boxed[-1]).strip()
    marked = _ANSWER.findall(content)
    if marked:
        return str(marked[-1]).strip()
    lines = [line.strip() for line in content.split("\n") if line.strip()]
    return lines[-1] if lines else ""


def _exact(question: Question, said: str) -> bool:
    wanted = str(question.answer)
    if re.fullmatch("[A-Z]", wanted):
        letter = _LETTER.match(said.strip(" *`_"))
        return letter is not None and letter[1].upper() == wanted
    return _plain(said) in {_plain(text) for text in (wanted, *question.accept)}


def _plain(text: str) -> str:
    return " ".join(text.strip(" \t*`_\"'.").casefold().split())


def _numeric(question: Question, said: str) -> bool:
    assert isinstance(question.answer, float)
    numbers = _NUMBER.findall(said)
    if not numbers:
        return False
    return math.isclose(
        float(numbers[-1].replace(",", "")), question.answer, rel_tol=1e-9, abs_tol=question.tolerance
    )


def _called(question: Question, spoken: Spoken) -> bool:
    wanted = question.call
    if wanted is None or len(spoken.calls) != 1 or spoken.calls[0].name != wanted.name:
        return False
    try:
        arguments = json.loads(spoken.calls[0].arguments)
    except (ValueError, RecursionError):
        return False
    return conforms(arguments, wanted.arguments)
