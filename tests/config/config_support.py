"""Small suites and systems as text, to be broken one line at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SUITE = """\
schema: agentperf-suite/1
name: tiny
title: Tiny
model: org/tiny
max_context_tokens: 32768
max_tokens: 1024
history_reasoning: none
edition: first
editions:
  first:
    source: a test
    tiers:
      tier1: {output_speed_p25_tok_s: 20, ttft_p95_s: 10}
sampling:
  parameters: {temperature: 1.0}
  source: a test
  max_effort:
    vllm: {parameters: {reasoning_effort: max}, source: a test}
dataset: bundled:demo-v1
ruleset: demo/1
"""

SYSTEM = """\
schema: agentperf-system/1
name: box
title: Box
accelerator:
  name: A1
  vendor: acme
submitter:
  name: somebody
deployments:
  main:
    suite: tiny
    tiers:
      tier1: {expected_agents: 4}
    endpoint:
      url: http://host:8000/v1
    allocated_accelerators: 8
    serving:
      framework: vllm
      workers:
        - role: aggregated
          count: 1
          accelerators_each: 8
"""

BAD_URLS = [
    ("http://host:hunter2/v1", "its host or port is malformed"),
    ("http://host:65536/v1", "its host or port is malformed"),
    ("http://host:0/v1", "its port is none"),
    ("http://host:/v1", "its port is none"),
    ("http://:8000/v1", "it names no host"),
    ("http:///v1", "it names no host"),
    ("http://[::1/v1", "its host or port is malformed"),
    ("http://hunter2..host/v1", "its host or port is malformed"),
    ("http://me:hunter2@host/v1", "without credentials and query"),
    ("http://host/v1?key=hunter2", "without credentials and query"),
    ("http://höst/v1", "not an http(s) base URL"),
    ("ftp://host/v1", "not an http(s) base URL"),
    ("somewhere:8000", "not an http(s) base URL"),
]


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} must stand exactly once"
    return text.replace(old, new)


def line_of(text: str, part: str) -> int:
    """Return the number of the only line with `part` in it."""
    (number,) = [i for i, line in enumerate(text.splitlines(), 1) if part in line]
    return number


def error_of(load: Callable[[Path], object], path: Path, text: str | bytes) -> ConfigError:
    """Return the error of loading `text`, whose place begins with the file's path."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.where is not None
    assert caught.value.where.startswith(str(path))
    return caught.value
