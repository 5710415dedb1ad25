"""Readers of recording formats, one module each (`base.Reader`), chosen by content or by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pytest_agentperf.dataset.formats import (
    agentperf_replay,
    atif,
    azure,
    claude_code,
    codex,
    dynamo,
    known,
    kv_cache_tester,
    lmcache,
    messages_jsonl,
    mini_swe_agent,
    mlperf,
    mooncake,
    opencode,
    openhands,
    otel_genai,
    pi,
    swe_agent,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.dataset.formats.base import Reader

# The first that recognises a path reads it: closer descriptions stand before wider ones.
READERS = cast(
    "Sequence[Reader]",
    (
        agentperf_replay,
        *(opencode, claude_code, codex, pi, swe_agent, mini_swe_agent, openhands, mlperf, atif, otel_genai),
        *(kv_cache_tester, mooncake, dynamo, azure, lmcache),
        *(messages_jsonl, known),
    ),
)
