from __future__ import annotations

import pytest

from pytest_agentperf.core.redact import printable, redact, redact_all

KEY = "sk-agentperf-0123"


def test_the_key_goes_wherever_it_stands() -> None:
    plain = {"a": [f"x{KEY}y", 1, None, {KEY: (f"Bearer {KEY}",)}], "n": 0.5}
    assert redact_all(plain, [f"Bearer {KEY}"]) == {"a": ["x***y", 1, None, {"***": ["***"]}], "n": 0.5}
    assert redact(f"Bearer {KEY}", [f"Bearer {KEY}"]) == "***"


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
