from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentperf.config.bundled import QUESTIONS, find_questions
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.kept import Spoken, ToolCall
from pytest_agentperf.verify.json_schema import check_schema, conforms
from pytest_agentperf.verify.questions import Question, load_questions
from pytest_agentperf.verify.scoring import final_answer, is_right

if TYPE_CHECKING:
    from collections.abc import Mapping


def read(tmp_path: Path, *rows: Mapping[str, Any]) -> tuple[Question, ...]:
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return load_questions(path).questions


def right(question: Question, content: str) -> bool:
    return is_right(question, Spoken(content=content))


def test_the_bundled_set() -> None:
    found = load_questions(find_questions("bundled:core-v1", relative_to=Path()))
    assert found.name == "core-v1"
    assert len(found.questions) == 80
    kinds = [question.kind for question in found.questions]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == dict.fromkeys(
        ("exact", "numeric", "regex", "tool"), 20
    )
    assert len({question.prompt for question in found.questions}) == 80


def test_the_bundled_set_is_what_its_generator_writes() -> None:
    made = subprocess.run(
        [sys.executable, str(QUESTIONS / "generate_core.py")], capture_output=True, check=True
    )
    assert made.stdout == (QUESTIONS / "core-v1.jsonl").read_bytes()


def by_id(id_: str) -> Question:
    questions = load_questions(QUESTIONS / "core-v1.jsonl").questions
    return next(question for question in questions if question.id == id_)


@pytest.mark.parametrize(
    ("id_", "said", "wrong"),
    [
        ("regex-01", "git switch -c fix/{0}-{1}", "git branch fix/{0}-{1}"),
        ("regex-02", "{0}s = [x**2 for x in range(1, {1}, 2)]", "{0}s = [x**2 for x in range({1})]"),
        ("regex-03", "find {0} -type f -name '*.{1}'", "find {0} -name '*.{1}'"),
        ("regex-04", "def {0}_{1}(path: str, limit: int = 10) -> bool:", "def {0}_{1}(path, limit=10):"),
    ],
)
def test_patterns_of_the_bundled_set_take_what_is_right(id_: str, said: str, wrong: str) -> None:
    question = by_id(id_)
    asked = {
        "regex-01": r"fix/(\w+)-(\d+)",
        "regex-02": r"`(\w+)s`.* below (\d+)",
        "regex-03": r"under (\w+) .*in \.(\w+)",
        "regex-04": r"`(\w+)_(\d+)`",
    }[id_]
    found = re.search(asked, question.prompt)
    assert found is not None
    assert right(question, said.format(*found.groups()) + "\n")
    assert not right(question, wrong.format(*found.groups()))


def test_every_tool_question_takes_the_call_it_wants_and_no_other() -> None:
    for question in load_questions(QUESTIONS / "core-v1.jsonl").questions:
        if question.call is None or question.call.name == "search":
            continue
        wanted = {name: rule["const"] for name, rule in question.call.arguments["properties"].items()}
        call = ToolCall(question.call.name, json.dumps(wanted))
        assert is_right(question, Spoken(calls=(call,)))
        assert not is_right(question, Spoken(calls=(call, call)))
        assert not is_right(question, Spoken(calls=(call._replace(name="other"),)))
        assert not is_right(question, Spoken(calls=(call._replace(arguments="{"),)))
        assert not is_right(question, Spoken(content=json.dumps(wanted)))
        extra = json.dumps({**wanted, "more": 1})
        assert not is_right(question, Spoken(calls=(call._replace(arguments=extra),)))
    search = by_id("tool-04")
    name = re.search(r"the function (\w+):", search.prompt)
    folder = re.search(r"under (\S+) calls", search.prompt)
    assert name is not None
    assert folder is not None
    for pattern in (rf"{name[1]}\(", rf"\b{name[1]}\s*\(", rf"{name[1]}[(]"):
        arguments = json.dumps({"pattern": pattern, "folder": folder[1]})
        assert is_right(search, Spoken(calls=(ToolCall("search", arguments),)))


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("So it is.\nAnswer: 42", "42"),
        ("**Answer:** 42", "42"),
        ("Answer: 1\nNo.\nThe final answer is: 42", "42"),
        ("It is \\boxed{42}.", "42"),
        ("first\n\n42\n", "42"),
        ("", ""),
    ],
)
def test_the_final_answer(content: str, answer: str) -> None:
    assert final_answer(content).strip("* ") == answer


def test_numbers(tmp_path: Path) -> None:
    (exact, near) = read(
        tmp_path,
        {"id": "a", "kind": "numeric", "prompt": "?", "answer": 1234},
        {"id": "b", "kind": "numeric", "prompt": "?", "answer": 0.5, "tolerance": 0.01},
    )
    for content in ("Answer: 1,234", "Answer: **1234**.", "x = 1234.0", "Answer: 1000 + 234 = 1234"):
        assert right(exact, content), content
    for content in ("Answer: 1235", "Answer: -1234", "none", "1234\nAnswer: 7"):
        assert not right(exact, content), content
    assert right(near, "0.509")
    assert not right(near, "0.52")


def test_texts_and_letters(tmp_path: Path) -> None:
    (text, letter) = read(
        tmp_path,
        {"id": "a", "kind": "exact", "prompt": "?", "answer": "New York", "accept": ["NYC"]},
        {"id": "b", "kind": "exact", "prompt": "?", "answer": "B"},
    )
    for content in ("Answer: new  york.", "`NYC`"):
        assert right(text, content), content
    assert not right(text, "Answer: York")
    for content in ("Answer: B", "(b)", "Answer: B. Paris", "**B**"):
        assert right(letter, content), content
    for content in ("Answer: A", "Answer: Because B", "Answer: Berlin"):
        assert not right(letter, content), content


def test_reasoning_is_no_answer(tmp_path: Path) -> None:
    (question,) = read(tmp_path, {"id": "a", "kind": "numeric", "prompt": "?", "answer": 4})
    assert not is_right(question, Spoken(reasoning="Answer: 4"))


def test_common_shapes(tmp_path: Path) -> None:
    grade_school, choice, options, keyed, plain = read(
        tmp_path,
        {"question": "How many?", "answer": "2 + 2 = <<2+2=4>>4\n#### 1,004"},
        {"question": "Which?", "choices": ["x", "y", "z"], "answer": 1},
        {"question_id": 7, "question": "Which?", "options": ["x", "y"], "answer": "B", "answer_index": 1},
        {
            "id": "arc",
            "question": "?",
            "choices": {"text": ["x", "y"], "label": ["1", "2"]},
            "answerKey": "2",
        },
        {"question": "Who?", "answer": "Ada Lovelace"},
    )
    assert (grade_school.kind, grade_school.answer) == ("numeric", 1004.0)
    assert (choice.kind, choice.answer) == ("exact", "B")
    assert "B. y" in choice.prompt
    assert choice.prompt.endswith("the letter of the right choice alone.")
    assert (options.id, options.answer) == ("7", "B")
    assert (keyed.id, keyed.answer) == ("arc", "2")
    assert (plain.id, plain.kind, plain.answer) == ("line-5", "exact", "Ada Lovelace")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"id": "a", "kind": "exact", "prompt": "?"}, "an exact answer is a text"),
        ({"id": "a", "kind": "numeric", "prompt": "?", "answer": "4"}, "a numeric answer is a number"),
        ({"id": "a", "kind": "regex", "prompt": "?", "pattern": "("}, "pattern"),
        ({"id": "a", "kind": "regex", "prompt": "?"}, "give `pattern`"),
        ({"id": "a", "kind": "tool", "prompt": "?"}, "give `tools` and `call`"),
        ({"id": "a", "kind": "essay", "prompt": "?"}, "kind: Input should be"),
        ({"id": "a", "kind": "exact", "prompt": "?", "answer": "x", "more": 1}, "more: Extra inputs"),
        ({"question": "?", "choices": ["x"], "answer": 3}, "not a question"),
        ({"text": "?"}, "neither `kind` nor `question`"),
    ],
)
def test_what_is_no_question_is_named_with_its_line(
    row: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    good = {"id": "good", "kind": "exact", "prompt": "?", "answer": "x"}
    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        read(tmp_path, good, row)
    assert caught.value.where == f"{tmp_path / 'set.jsonl'}:2"


def test_files_that_are_no_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_questions(tmp_path / "absent.jsonl")
    with pytest.raises(ConfigError, match="no question in it"):
        read(tmp_path)
    row = {"id": "a", "kind": "exact", "prompt": "?", "answer": "x"}
    with pytest.raises(ConfigError, match="stands twice"):
        read(tmp_path, row, row)
    with pytest.raises(ConfigError, match="unknown questions"):
        find_questions("bundled:../x", relative_to=tmp_path)
    assert find_questions("own.jsonl", relative_to=tmp_path) == tmp_path / "own.jsonl"


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, [1, 2.0], [True, 1.5, "1", None]),
        ({"type": "number", "minimum": 1, "maximum": 2}, [1, 1.5], [0, 3, "1"]),
        ({"type": "boolean"}, [True], [1, 0]),
        ({"const": 1}, [1], [True, 2]),
        ({"enum": ["a", 1]}, ["a", 1], ["b", True]),
        ({"type": "string", "pattern": "^a", "minLength": 2}, ["ab"], ["a", "ba", 1]),
        (
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
            [["a"]],
            [[], [1], ["a"] * 3],
        ),
        ({"type": "object", "required": ["a"]}, [{"a": 1, "b": 2}], [{}, []]),
        (
            {"properties": {"a": {"const": 1}}, "additionalProperties": False},
            [{}, {"a": 1}],
            [{"a": 2}, {"b": 1}],
        ),
        ({"type": "null"}, [None], [0]),
    ],
)
def test_schemas(schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    check_schema(schema)
    assert all(conforms(value, schema) for value in good)
    assert not any(conforms(value, schema) for value in bad)


@pytest.mark.parametrize(
    "schema",
    [{"oneOf": []}, {"type": "date"}, {"properties": {"a": {"if": {}}}}, {"items": []}, {"pattern": "("}, "x",
     {"additionalProperties": {}}],
)  # fmt: skip
def test_schemas_that_are_not_understood_are_refused(schema: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_schema(schema)
