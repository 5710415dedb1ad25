from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.prometheus_text import NotPrometheusText, Sample, parse


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("up 1", Sample("up", {}, 1.0, None)),
        ("up\t1 1712000000123", Sample("up", {}, 1.0, 1712000000123)),
        ("up{} -1.5e3 -7", Sample("up", {}, -1500.0, -7)),
        ('up{a="b"}1', Sample("up", {"a": "b"}, 1.0, None)),
        ('up { a = "b" , c="d", } .5', Sample("up", {"a": "b", "c": "d"}, 0.5, None)),
        (r'up{a="q\"b\\n\nend}{,="} 0x'.replace("0x", "0"), Sample("up", {"a": 'q"b\\n\nend}{,='}, 0, None)),
        ("up +Inf", Sample("up", {}, math.inf, None)),
        ("up -Inf", Sample("up", {}, -math.inf, None)),
        ("a:b_c 9223372036854775794", Sample("a:b_c", {}, 9223372036854775794.0, None)),
        ('up{a="ü\u2028"} 1\r', Sample("up", {"a": "ü\u2028"}, 1.0, None)),
    ],
)
def test_samples(line: str, expected: Sample) -> None:
    assert parse(f"# HELP up help\n\n  # TYPE up gauge\n{line}\n# EOF".encode()) == [expected]


def test_nan_is_a_value() -> None:
    assert math.isnan(parse(b"up NaN\n")[0].value)


@pytest.mark.parametrize(
    "line",
    [
        "...",
        "<html>",
        "up",
        "up one",
        "up 1_000",
        "up 0x10",
        "up 1 2.5",
        "up 1 2 3",
        "up 1 " + "9" * 30,
        "9up 1",
        'up{a="b} 1',
        "up{a=b} 1",
        'up{a="b" c="d"} 1',
        'up{a="b",,} 1',
        'up{,a="b"} 1',
        'up{a="\\x"} 1',
        'up{a="b",a="c"} 1',
        '{"up"} 1',
        "up{} 1 # {} 0.67",
        "up" + " " * 70_000 + "1",
    ],
)
def test_what_is_no_sample_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(NotPrometheusText, match="line 2 "):
        parse(b"ok 1\n" + line.encode())


@given(st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    with suppress(NotPrometheusText, UnicodeDecodeError):
        assert all(isinstance(sample.value, float) for sample in parse(text.encode(errors="surrogatepass")))


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), st.text()), st.floats(allow_nan=False))
def test_what_is_written_comes_back(labels: dict[str, str], value: float) -> None:
    escaped = {k: v.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for k, v in labels.items()}
    inside = ",".join(f'{k}="{v}"' for k, v in escaped.items())
    shown = repr(value).replace("inf", "Inf")
    assert parse(f"m{{{inside}}} {shown}\n".encode()) == [Sample("m", labels, value, None)]


def test_of_other_metrics_nothing_is_read_and_of_wanted_ones_all() -> None:
    body = b"""# TYPE power gauge
other{a="\xff} broken
power{gpu="0"} 1
  power_instant{gpu="0"} 2
\tother 3
powe 4
"""
    assert parse(body, ("power", "energy")) == [
        Sample("power", {"gpu": "0"}, 1, None),
        Sample("power_instant", {"gpu": "0"}, 2, None),
    ]
    for broken in (b"power", b"power{gpu=0} 1", b"power one", b'power\x00{gpu="0"} 1', b"  energy 1 2 3"):
        with pytest.raises(NotPrometheusText, match="line 7 "):
            parse(body + broken + b"\n", ("power", "energy"))


def test_a_wanted_line_is_as_strict_the_second_time() -> None:
    for _ in range(2):
        assert parse(b'up{a="b"} 1\nup{a="b"} 2\n')[1].value == 2
        for broken in (b'up{a="b"} x\n', b'up{a="b"}\n', b'up{a="b"} 1 2 3\n', b'up{a="b",a="c"} 1\n'):
            with pytest.raises(NotPrometheusText):
                parse(broken)
