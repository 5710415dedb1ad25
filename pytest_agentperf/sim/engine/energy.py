"""Power from utilisation, integrated in closed form over the engine's time.

A replica draws its idle power and, for the time it reads weights, reads KV, computes answers or computes prompts, a
share of the dynamic power on top; times of work are means over its ranks, which wait for the slowest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentperf.sim.engine.parameters import PoolParameters
    from pytest_agentperf.sim.engine.stretch import Stretch


class EnergyMeter:
    """The energy of one replica; jitter prolongs a step at its power."""

    __slots__ = ("_active_growth_ns", "_active_ns", "_energy_nj", "_p", "_since_ns", "_weights_ns")

    def __init__(self, parameters: PoolParameters, start_ns: int) -> None:
        self._p = parameters
        self._weights_ns = parameters.weights_activity * parameters.base_ns
        self._energy_nj = 0.0
        self._since_ns = start_ns
        # Nanoseconds of full activity in the first step of the stretch, and by how much they grow.
        self._active_ns = 0.0
        self._active_growth_ns = 0.0

    def begin(
        self, sequences: int, context: float, rate: float, chunk_ns: float, chunk_growth_ns: float
    ) -> None:
        """Take what all ranks together do in the first step of a stretch, and how it grows."""
        p = self._p
        kv_ns = p.kv_activity * p.per_context_token_ns
        self._active_ns = (
            self._weights_ns
            + (
                kv_ns * context
                + p.decode_activity * p.per_sequence_ns * sequences
                + p.prefill_activity * chunk_ns
            )
            / p.ranks
        )
        self._active_growth_ns = (kv_ns * rate + p.prefill_activity * chunk_growth_ns) / p.ranks

    def end(self, stretch: Stretch, steps: int, now_ns: int) -> None:
        """Account for the time since the last call, which ends with the stretch after `steps` steps."""
        idle_ns = stretch.start_ns - self._since_ns
        self._energy_nj += self._p.idle_w * idle_ns + self._steps_nj(stretch, steps, now_ns)
        self._since_ns = now_ns

    def idle(self) -> None:
        """Do nothing from here on."""
        self._active_ns = self._active_growth_ns = 0.0

    def power_w(self, stretch: Stretch, now_ns: int) -> float:
        """Return the power of the step in flight at `now_ns`."""
        if not stretch.steps:
            return self._p.idle_w
        step = min(stretch.steps_by(now_ns), stretch.steps - 1)
        activity = (self._active_ns + self._active_growth_ns * step) / (
            stretch.first_ns + stretch.growth_ns * step
        )
        return self._p.idle_w + self._p.dynamic_w * activity

    def energy_j(self, stretch: Stretch, now_ns: int) -> float:
        """Return the energy from the start to `now_ns`."""
        if not stretch.steps:
            return (self._energy_nj + self._p.idle_w * (now_ns - self._since_ns)) / 1e9
        steps = stretch.steps_by(now_ns)
        end_ns = stretch.end_of(steps)
        energy_nj = (
            self._energy_nj
            + self._p.idle_w * (stretch.start_ns - self._since_ns)
            + self._steps_nj(stretch, steps, end_ns)
            + self.power_w(stretch, now_ns) * (now_ns - end_ns)
        )
        return energy_nj / 1e9

    def _steps_nj(self, stretch: Stretch, steps: int, end_ns: int) -> float:
        if not steps:
            return 0.0
        active_ns = steps * (self._active_ns + self._active_growth_ns * (steps - 1) / 2)
        activity = active_ns / stretch.exact_ns(steps)
        return (self._p.idle_w + self._p.dynamic_w * activity) * (end_ns - stretch.start_ns)
