"""Secrets in what is stored and in what pytest shows, whoever says them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest
from pydantic import BaseModel

from pytest_agentperf.cli import main
from pytest_agentperf.core.verdict import InvalidReason, Verdict
from pytest_agentperf.plugin.redaction import redact_model

if TYPE_CHECKING:
    from plugin_support import Workplace

KEY = "sk-agentperf-planted-0123456789"
# Its words are the secrets here, as unlikely as that is.
WORD = "accuracy"


class _Said(NamedTuple):
    what: str
    times: int


class _Result(BaseModel):
    kind: Literal["accuracy", "confirm"]
    kinds: tuple[Literal["accuracy"], ...]
    verdict: Verdict
    reasons: tuple[InvalidReason, ...]
    load: dict[str, Any]
    said: list[_Said]


def test_words_that_a_field_is_limited_to_are_ours() -> None:
    reason = InvalidReason(code="unlike", what=f"it says {WORD} {KEY}", remedy="ask", log_tail=(WORD,))
    result = _Result(
        kind="accuracy",
        kinds=("accuracy",),
        verdict=Verdict.INVALID,
        reasons=(reason,),
        load={WORD: [{"failed": KEY}], "n": 3},
        said=[_Said(WORD, 2)],
    )
    redacted = redact_model(result, [WORD, KEY, "INVALID", "PASS"])
    assert redacted.model_dump() == result.model_dump() | {
        "reasons": ({**reason.model_dump(), "what": "it says *** ***", "log_tail": ("***",)},),
        "load": {"***": [{"failed": "***"}], "n": 3},
        "said": [("***", 2)],
    }
    assert redact_model(result, ["nobody said it"]) is result


BROKEN = """
import os

def pytest_collection_modifyitems(items):
    key = os.environ["AGENTPERF_TEST_KEY"]
    raise RuntimeError("cannot go on with " + key)
"""


@pytest.mark.parametrize("arguments", [["-l"], ["--full-trace", "-l"], ["-n1"]])
def test_an_error_inside_pytest_shows_no_secret(
    arguments: list[str], pytester: pytest.Pytester, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTPERF_TEST_KEY", KEY)
    place.system("keyed", endpoint={"url": "http://127.0.0.1:9/v1", "api_key_env": "AGENTPERF_TEST_KEY"})
    place.write("conftest.py", BROKEN)
    done = pytester.runpytest_inprocess("suites/tiny", "--system=keyed", "--junitxml=j.xml", *arguments)
    shown = done.stdout.str() + done.stderr.str()
    assert "INTERNALERROR> " in shown
    assert "cannot go on with ***" in shown
    assert KEY not in shown
    written = (place.folder / "j.xml").read_text(encoding="utf-8")
    assert "cannot go on with ***" in written
    assert KEY not in written


def test_a_secret_as_short_as_a_word_is_told_before_the_run(
    place: Workplace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("AGENTPERF_TEST_KEY", "PASS")
    place.system("keyed", endpoint={"url": "http://127.0.0.1:9/v1", "api_key_env": "AGENTPERF_TEST_KEY"})
    assert main(["doctor", "--system", "keyed", "--suite", "suites/tiny"]) == 1
    shown = capsys.readouterr().out
    assert "! secrets" in shown
    assert "AGENTPERF_TEST_KEY: too short to be told from a word" in shown
    assert "remove api_key_env" in shown
    assert "PASS" not in shown
