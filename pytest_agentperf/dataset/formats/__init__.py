"""Readers of recording formats, one module each (`base.Reader`), chosen by content or by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pytest_agentperf.dataset.formats import agentperf_replay, atif, codex, known, otel_genai, pi

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.dataset.formats.base import Reader

# The first that recognises a path reads it: closer descriptions stand before wider ones.
READERS = cast("Sequence[Reader]", (agentperf_replay, codex, pi, atif, otel_genai, known))
