"""The power of one deployment: its accelerators', and beside it that of the meters of its surroundings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.energy import WindowEnergy, integrate
from pytest_agentperf.core.phase_power import FacilityEnergy, PhasePower, throttled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.ports import PowerSampler
    from pytest_agentperf.core.power import PowerSource
    from pytest_agentperf.core.power_series import PowerSeries
    from pytest_agentperf.core.ruleset import Ruleset

# An idle baseline is over a few seconds, and decides nothing.
_IDLE_UNCERTAINTY_MAX = 0.1
# Of a source that does not say how often its values change.
_UNKNOWN_PERIOD_S = 1.0


class Sampled(NamedTuple):
    """The readings of a phase: the accelerators', and those of each meter beside them."""

    accelerators: PowerSeries
    facility: tuple[PowerSeries, ...] = ()


class Metering:
    """Opens, starts and stops all samplers of a deployment together."""

    def __init__(
        self, accelerators: PowerSampler, facility: Sequence[PowerSampler] = (), *, n_accelerators: int
    ) -> None:
        self._samplers = (accelerators, *facility)
        self._n_accelerators = n_accelerators
        self._sources: tuple[PowerSource, ...] = ()

    @property
    def source(self) -> PowerSource:
        """Say what the accelerators' readings mean."""
        return self._sources[0]

    @property
    def facility(self) -> tuple[PowerSource, ...]:
        """Say what the other meters' readings mean."""
        return self._sources[1:]

    def open(self) -> None:
        """Find all devices: seconds now, or hours lost later; raises PowerError."""
        try:
            self._sources = tuple(sampler.open() for sampler in self._samplers)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Begin sampling."""
        for sampler in self._samplers:
            sampler.start()

    def stop(self) -> Sampled:
        """End sampling and return all readings since `start`."""
        first, *others = [sampler.stop() for sampler in self._samplers]
        return Sampled(first, tuple(others))

    def close(self) -> None:
        """Give back what is held."""
        for sampler in self._samplers:
            sampler.close()

    def judge(
        self,
        sampled: Sampled,
        *,
        window: tuple[int, int],
        idle: tuple[int, int] | None,
        rules: Ruleset,
    ) -> tuple[WindowEnergy, PhasePower]:
        """Integrate over the window (open, close), and over the idle time before the phase."""
        series = sampled.accelerators
        idle_energy = None
        if idle is not None and self.source.measured:
            lenient = rules.model_copy(update={"power_uncertainty_max": _IDLE_UNCERTAINTY_MAX})
            idle_energy = self._integrate(series, self.source, self._n_accelerators, idle, lenient)
        energy = self._integrate(series, self.source, self._n_accelerators, window, rules)
        idle_power_w = None if idle_energy is None else idle_energy.mean_power_w
        return energy, PhasePower(
            idle_power_w=idle_power_w,
            idle_span_ns=None if idle_power_w is None else idle,
            facility=tuple(
                FacilityEnergy(
                    source=source.source,
                    scope=source.scope,
                    devices=tuple(device.id for device in source.devices),
                    energy=self._integrate(of_meter, source, len(source.devices), window, rules),
                )
                for source, of_meter in zip(self.facility, sampled.facility, strict=True)
            ),
            before=series.before,
            after=series.after,
            throttled=throttled(series.before, series.after),
        )

    @staticmethod
    def _integrate(
        series: PowerSeries, source: PowerSource, devices: int, span: tuple[int, int], rules: Ruleset
    ) -> WindowEnergy:
        period_s = source.update_period_s
        if period_s is None:
            period_s = _UNKNOWN_PERIOD_S if source.measured else 0.0
        return integrate(
            series,
            open_ns=span[0],
            close_ns=span[1],
            devices_expected=devices,
            update_period_s=period_s,
            rules=rules,
            scope=source.scope,
        )
