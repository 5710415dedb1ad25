"""Whether the load generator's own error, as calibrations bound it, could have decided a phase."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.calibrations import Calibrations
from pytest_agentperf.core.client_error import ClientError, chunks_per_s
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.verdict import InvalidReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_agentperf.core.calibrations import Found
    from pytest_agentperf.core.client_error import Calibration
    from pytest_agentperf.core.metrics import PhaseMetrics
    from pytest_agentperf.core.ports import LoadPool
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.core.slo import SloTier


class ClientDoubts:
    """Keeps the calibrations of one deployment's load generator, each made when a phase first needs it."""

    def __init__(
        self,
        calibrate: Callable[[Any, int, float], Calibration] | None,
        *,
        share_max: float,
        drop_pool: Callable[[], None],
    ) -> None:
        """`calibrate(pool, n_agents, chunks_per_s)`: None where nothing can be doubted, as in virtual time.

        `share_max`: how near to a target the error may come, as the ruleset has it. `drop_pool()` ends workers
        whose calibration broke down.
        """
        self._calibrate = calibrate
        self._share_max = share_max
        self._drop_pool = drop_pool
        self._calibrations = Calibrations()

    def calibration(self, pool: LoadPool, n_agents: int, chunks_per_s: float) -> Found | None:
        """Return the calibration for such a load, made now if there is none; raises LoadError."""
        if self._calibrate is None:
            return None
        make = partial(self._calibrate, pool)
        try:
            return self._calibrations.find(pool.describe(), n_agents, chunks_per_s, make)
        except BaseException:
            # Its workers may be at work still, and hold their hosts.
            self._drop_pool()
            raise

    def about(
        self,
        pool: LoadPool,
        n_agents: int,
        columns: RequestColumns,
        metrics: PhaseMetrics,
        load: dict[str, Any],
        tiers: Sequence[SloTier],
    ) -> Iterator[InvalidReason]:
        """Yield where the load generator's own error could have decided; note it in `load`."""
        load["chunks_per_s"] = came_per_s = chunks_per_s(columns)
        try:
            found = self.calibration(pool, n_agents, came_per_s)
        except LoadError as error:
            remedy = error.remedy or "see the message of the load worker"
            yield InvalidReason(code="calibration_failed", what=error.what, remedy=remedy)
            return
        if found is None:
            return
        bounds = ClientError.of_phase(found.calibration, columns, lag_s=load["lag_p99_s"])
        load["calibration"], load["client_error"] = found.calibration.model_dump(), bounds.model_dump()
        load["calibration_covers"] = found.covers
        for tier in tiers:
            if doubt := bounds.could_change(tier, metrics, share_max=self._share_max):
                yield InvalidReason(
                    code="load_generator_saturated",
                    what=f"{tier.name}: {doubt}",
                    remedy="use more load workers (--agentperf-workers, --agentperf-load) or free the CPU there",
                )
