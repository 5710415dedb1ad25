"""What a running phase knows of its requests: those that have ended, and those still under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pytest_agentperf.core.latency import FloatArray, output_speed_tok_s, ttft_s
from pytest_agentperf.core.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_agentperf.core.records import RequestColumns

_TYPES = {
    "agent": "<i8",
    "ordinal": "<i8",
    "t_sent_ns": "<i8",
    "ttft_s": "<f8",
    "speed_tok_s": "<f8",
    "ended": "|b1",
}


class UnderWay(NamedTuple):
    """One request that has not ended."""

    agent: int
    ordinal: int
    t_sent_ns: int
    t_first_ns: int | None


class AnswersSoFar(NamedTuple):
    """One entry a request; all arrays are (n,)."""

    agent: npt.NDArray[np.int64]
    ordinal: npt.NDArray[np.int64]
    t_sent_ns: npt.NDArray[np.int64]
    ttft_s: FloatArray
    """∞ for failures; NaN while no token has come."""
    speed_tok_s: FloatArray
    """0 for failures; NaN for answers of one token, and while the answer is not over."""
    ended: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, ended: RequestColumns, under_way: Iterable[UnderWay]) -> AnswersSoFar:
        """Return what records and open requests say."""
        open_ = list(under_way)
        sent_ns = [request.t_sent_ns for request in open_]
        waited_s = [
            np.nan if request.t_first_ns is None else (request.t_first_ns - request.t_sent_ns) / NS_PER_S
            for request in open_
        ]
        return cls(
            np.concatenate([ended["agent"], np.array([r.agent for r in open_], dtype=np.int64)]),
            np.concatenate([ended["ordinal"], np.array([r.ordinal for r in open_], dtype=np.int64)]),
            np.concatenate([ended["t_sent_ns"], np.array(sent_ns, dtype=np.int64)]),
            np.concatenate([ttft_s(ended), np.array(waited_s, dtype=np.float64)]),
            np.concatenate([output_speed_tok_s(ended), np.full(len(open_), np.nan)]),
            np.concatenate([np.ones(len(ended), dtype=bool), np.zeros(len(open_), dtype=bool)]),
        )

    @classmethod
    def concatenate(cls, parts: Iterable[AnswersSoFar]) -> AnswersSoFar:
        """Join the answers of several workers or looks; at least one."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def only(self, rows: npt.NDArray[np.bool_]) -> AnswersSoFar:
        """Return some of them."""
        return AnswersSoFar(
            self.agent[rows],
            self.ordinal[rows],
            self.t_sent_ns[rows],
            self.ttft_s[rows],
            self.speed_tok_s[rows],
            self.ended[rows],
        )

    def to_wire(self) -> dict[str, bytes]:
        """Return plain bytes, for a frame between processes or hosts."""
        return {name: getattr(self, name).astype(type_).tobytes() for name, type_ in _TYPES.items()}

    @classmethod
    def from_wire(cls, frame: Mapping[str, Any]) -> AnswersSoFar:
        """Rebuild them from `to_wire`."""
        return cls(**{name: np.frombuffer(frame[name], dtype=type_) for name, type_ in _TYPES.items()})
