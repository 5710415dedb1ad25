"""How long the answers of a rehearsal are: as recorded, with the spread of sampling, or as the simulated server's."""

from __future__ import annotations

import math
import random
from array import array
from statistics import NormalDist
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from pytest_agentperf.core.assignment import isolation_prefix
from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.sim.answer import AnswerModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.config.engine import EngineConfig
    from pytest_agentperf.core.records import RequestKey
    from pytest_agentperf.core.token_table import TokenTable

SAMPLING_CV = 0.2
"""How much an answer's length varies when the same request is sampled again; no source gives it, so it is assumed."""
_FACTORS = 4_096


class Lengths(Protocol):
    """Says how many tokens each answer would have if nothing cut it off."""

    exact: bool
    """Whether requests ask for just so many."""

    def of(self, key: RequestKey) -> Sequence[int]:
        """Return the lengths of all turns of the trajectory that `key` begins."""


class ExactLengths:
    """As recorded, to the token."""

    exact = True

    def __init__(self, table: TokenTable) -> None:
        """Raise DatasetError unless every length was recorded."""
        if turn := table.without_output():
            raise DatasetError(
                "no recorded output length",
                where=f"trajectory {turn[0]!r}, turn {turn[1]}",
                remedy="use the output length `natural`, or a dataset with recorded lengths",
            )
        self._lengths = {
            trajectory: [max(1, turn.output or 1) for turn in turns]
            for trajectory, turns in table.turns.items()
        }

    def of(self, key: RequestKey) -> Sequence[int]:
        """Return the recorded lengths."""
        return self._lengths[key.trajectory]


class DrawnLengths:
    """As the simulated server draws them: by the engine's distribution, the same for a turn in every phase."""

    exact = False

    def __init__(self, table: TokenTable, config: EngineConfig) -> None:
        self._table = table
        self._answers = AnswerModel(config)
        self._known: dict[str, list[int]] = {}

    def of(self, key: RequestKey) -> Sequence[int]:
        """Return the lengths, drawn when they are first asked for."""
        known = self._known.get(key.trajectory)
        if known is None:
            turns = range(len(self._table.turns[key.trajectory]))
            known = self._known[key.trajectory] = [
                self._answers.natural_length(f"{key.trajectory} {turn}".encode()) for turn in turns
            ]
        return known


class SampledLengths:
    """The recorded lengths times a lognormal factor of mean 1, seeded as the isolation prefix is.

    Where no length was recorded, it is drawn as the simulated server draws it.
    """

    exact = False

    def __init__(self, table: TokenTable, config: EngineConfig, *, nonce: str) -> None:
        self._table = table
        self._drawn = DrawnLengths(table, config)
        self._nonce = nonce
        sigma = math.sqrt(math.log1p(SAMPLING_CV**2))
        normal = NormalDist()
        factors = [
            math.exp(sigma * normal.inv_cdf((i + 0.5) / _FACTORS) - sigma**2 / 2) for i in range(_FACTORS)
        ]
        random.Random(nonce).shuffle(factors)
        # Again and again, so that every trajectory takes its factors as one slice.
        turns_max = max((len(turns) for turns in table.turns.values()), default=0)
        self._factors = np.resize(np.array(factors), _FACTORS + turns_max)
        # Output tokens, 0 where none were recorded, and which those are, None for none of them.
        self._recorded: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_] | None]] = {}

    def of(self, key: RequestKey) -> Sequence[int]:
        """Return the recorded lengths, varied."""
        found = self._recorded.get(key.trajectory)
        if found is None:
            found = self._recorded[key.trajectory] = self._of_table(key.trajectory)
        recorded, unknown = found
        prefix = isolation_prefix(self._nonce, key.phase, key.attempt, key.agent, key.ordinal)
        begin = int(prefix[:8], 16) % _FACTORS
        varied = np.maximum(1.0, np.rint(recorded * self._factors[begin : begin + len(recorded)]))
        if unknown is not None:
            varied[unknown] = np.array(self._drawn.of(key))[unknown]
        return array("q", varied.astype(np.int64).tobytes())

    def _of_table(self, trajectory: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_] | None]:
        outputs = [turn.output for turn in self._table.turns[trajectory]]
        unknown = np.array([output is None for output in outputs])
        recorded = np.array([output or 0 for output in outputs], dtype=np.float64)
        return recorded, unknown if unknown.any() else None
