from __future__ import annotations

import pytest

from pytest_agentperf.core.redact import printable, redact, redact_all

KEY = "sk-agentperf-0123"


def test_the_key_goes_wherever_it_stands() -> None:
    plain = {"a": [f"x{KEY}y", 1, None, {KEY: (f"Bearer {KEY}",)}], "n": 0.5}
    assert redact_all(plain, [f"Bearer {KEY}"]) == {"a": ["x***y", 1, None, {"***": ["***"]}], "n": 0.5}
    assert redact(f"Bearer {KEY}", [f"Bearer {KEY}"]) == "***"


def test_what_is_as_short_as_a_word_stays() -> None:
    assert (
        redact("PASS, Bearer 1234567, 12345678", ["PASS", "1234567", "12345678"])
        == "PASS, Bearer 1234567, ***"
    )
    assert redact("tier1 PASS", ["Bearer PASS"]) == "tier1 PASS"


@pytest.mark.parametrize("secrets", [[KEY, f"{KEY}-2"], [f"{KEY}-2", KEY]])
def test_a_secret_inside_another_one(secrets: list[str]) -> None:
    assert redact(f"{KEY}-2 {KEY}", secrets) == "*** ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – é", "plain – é"),
        ("two\nlines\tand  gaps", "two lines and gaps"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\x00b\u202ec\u2028d", r"a\x00b\u202ec d"),
        ("<script>", "<script>"),
    ],
)
def test_what_others_wrote_steers_no_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
