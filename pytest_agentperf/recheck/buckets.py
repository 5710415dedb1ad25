"""Where answers were late or slow, counted again: by context length, turn and share of the prompt that was cached."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_agentperf.recheck.findings import differs
from pytest_agentperf.recheck.numbers import percentile, speeds, ttfts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.recheck.numbers import Records

# From (included) and to (excluded), by the labels that results carry.
_KINDS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "context": {
        "less than 8K tokens": (-math.inf, 8e3),
        "8K to 16K tokens": (8e3, 16e3),
        "16K to 32K tokens": (16e3, 32e3),
        "32K to 64K tokens": (32e3, 64e3),
        "64K tokens and more": (64e3, math.inf),
    },
    "turn": {
        "turn 1": (0, 1),
        "turns 2 to 10": (1, 10),
        "turns 11 to 40": (10, 40),
        "turn 41 and later": (40, math.inf),
    },
    "cached": {
        "less than half of the prompt cached": (-math.inf, 0.5),
        "50 to 90 % of it cached": (0.5, 0.9),
        "90 % of it cached and more": (0.9, math.inf),
    },
}


def breakdown_problems(
    records: Records,
    open_ns: int,
    close_ns: int,
    told: Sequence[Mapping[str, Any]],
    targets: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """Return what is wrong with a published breakdown."""
    counted = records.between("t_sent_ns", open_ns, close_ns)
    ttft, (speed, has_speed) = ttfts(records), speeds(records)
    with np.errstate(all="ignore"):
        prompt = np.where(records.number["prompt_tokens"] > 0, records.number["prompt_tokens"], math.nan)
        values = {
            "context": prompt,
            "turn": records.number["turn"],
            "cached": records.number["cached_tokens"] / prompt,
        }
    wrong, seen = [], set()
    for bucket in told:
        name = f"{bucket['by']}: {bucket['label']}"
        low, high = _KINDS[bucket["by"]][bucket["label"]]
        inside = counted & (values[bucket["by"]] >= low) & (values[bucket["by"]] < high)
        seen.add((bucket["by"], bucket["label"]))
        wrong += differs(f"requests ({name})", bucket["requests"], int(inside.sum()))
        if not inside.any():
            continue
        streamed = speed[inside & has_speed]
        expected = {
            "failures": int((inside & records.failed).sum()),
            "ttft_p50_s": _finite(percentile(ttft[inside], 50)),
            "ttft_p95_s": _finite(percentile(ttft[inside], 95)),
            "output_speed_p25_tok_s": percentile(streamed, 25) if streamed.size else None,
            "late": {
                tier: int((ttft[inside] > targets[tier]["ttft_p95_s"]).sum()) for tier in bucket["late"]
            },
            "slow": {
                tier: int((streamed < targets[tier]["output_speed_p25_tok_s"]).sum())
                for tier in bucket["slow"]
            },
        }
        wrong += [
            text for key, value in expected.items() for text in differs(f"{key} ({name})", bucket[key], value)
        ]
    for by, kinds in _KINDS.items():
        for label, (low, high) in kinds.items():
            if (by, label) not in seen and (counted & (values[by] >= low) & (values[by] < high)).any():
                wrong.append(f"{by}: {label} is missing")
    return wrong


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
