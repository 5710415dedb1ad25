"""AMD accelerators of this host through amdsmi: their energy accumulators, and socket power beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.clock import RealClock
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power import PowerSource
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.power.amdsmi_devices import (
    ALL_ONES,
    AmdGpu,
    amd_state,
    describe_amd,
    error_text,
    find_sockets,
    load_amdsmi,
    number,
    said,
    scope_of,
)
from pytest_agentperf.power.local_devices import PLAUSIBLE_W, Notes, host_name
from pytest_agentperf.power.problem_log import ProblemLog
from pytest_agentperf.power.reader import Reading
from pytest_agentperf.power.update_rate import WATCH_S, counter_period_s, power_period_s, watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_agentperf.config.power import AmdsmiPower
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.core.power import DeviceState, PowerCode, PowerProblem, Scope
    from pytest_agentperf.power.update_rate import Watched

_UJ = 1e-6
_COUNTER = "energy accumulator"
_POWER_KEYS = ("current_socket_power", "average_socket_power", "socket_power")
"""In W. MI300 and newer know the current one, older devices an average; a device of neither gives "N/A"."""
_RETRY_S = 0.5

_NO_PERMISSION, _NOT_INITIALISED, _NO_DRIVER = 10, 32, 34
_NO_VALUE = (2, 8, 9, 11, 30, 40)
"""Not supported, timeout, retry, interrupted, busy, no data: numbers of amdsmi.h."""

Seen = dict[tuple[str, str], "Watched"]


class AmdsmiReader:
    """A `PowerReader` on amdsmi. Power is that of a socket: its first partition stands for all of them."""

    def __init__(self, config: AmdsmiPower, clock: BlockingClock | None = None) -> None:
        self._config = config
        self._clock = clock or RealClock()
        self._host = host_name()
        self._problems = ProblemLog()
        self._gpus: list[AmdGpu] = []
        self._smi: Any = None
        self._restart_ns = 0

    def open(self) -> PowerSource:
        """Find the sockets, choose what to read of each, and watch how often it changes."""
        self._smi = load_amdsmi(self._host)
        try:
            return self._opened()
        except BaseException:
            self.close()
            raise

    def _opened(self) -> PowerSource:
        unopened = Notes(0)
        gpus = find_sockets(self._smi, self._config.devices, self._host, unopened)
        notes = Notes(len(gpus))
        seen = watch(lambda: self._everything(gpus), self._clock)
        periods = [period_s for gpu in gpus if (period_s := self._plan(gpu, seen, notes)) is not None]
        self._gpus = [gpu for gpu in gpus if gpu.readable]
        silent = [gpu.id for gpu in gpus if not gpu.readable]
        if silent and (self._config.devices or not periods):
            raise PowerError(
                f"amdsmi tells no power of {', '.join(silent)}",
                where=self._host,
                remedy="a virtual machine's GPU has none, and of two dies on a board only the first one tells it: "
                "name others in power.devices, or measure by another source (power.source)",
            )
        devices = tuple(describe_amd(self._smi, gpu, self._host) for gpu in self._gpus)
        scopes: set[Scope] = {scope_of(device) for device in devices}
        if len(scopes) > 1:
            raise PowerError(
                f"the devices' power includes different things: {', '.join(sorted(scopes))}",
                where=self._host,
                remedy="name devices of one kind in power.devices",
            )
        return PowerSource(
            source="amdsmi",
            scope=scopes.pop(),
            measured=True,
            update_period_s=max(periods),
            devices=devices,
            notes=(*notes.lines(), *unopened.lines()),
        )

    def _everything(self, gpus: Sequence[AmdGpu]) -> Iterator[tuple[Any, int, float]]:
        smi, now = self._smi, self._clock.now_ns
        for gpu in gpus:
            before_ns, handle = now(), gpu.handle
            energy = said(smi, lambda: smi.amdsmi_get_energy_count(handle))  # noqa: B023
            power = said(smi, lambda: smi.amdsmi_get_power_info(handle)) or {}  # noqa: B023
            t_ns = (before_ns + now()) // 2
            if energy is not None and (raw := energy["energy_accumulator"]) != ALL_ONES:
                yield (gpu.id, _COUNTER), t_ns, raw
            for key in _POWER_KEYS:
                if power_w := number(power.get(key)):
                    yield (gpu.id, key), t_ns, power_w

    def _plan(self, gpu: AmdGpu, seen: Seen, notes: Notes) -> float | None:
        """Choose a device's counter and power; returns the update period of what its energy will rest on."""
        gpu.power_key = next((key for key in _POWER_KEYS if (gpu.id, key) in seen), None)
        counter = seen.get((gpu.id, _COUNTER))
        gpu.has_counter = counter is not None and counter.moved
        if counter is not None and gpu.has_counter:
            return counter_period_s(gpu.id, _COUNTER, counter, notes)
        if counter is not None:
            notes.add(gpu.id, f"{_COUNTER} stood still for {WATCH_S:g} s: not used")
        if gpu.power_key is None:
            notes.add(gpu.id, "tells no power, and is left out")
            return None
        name = gpu.power_key.replace("_", " ")
        notes.add(gpu.id, f"no usable {_COUNTER}: {name} is integrated")
        return power_period_s(gpu.id, name, seen[gpu.id, gpu.power_key], notes)

    def read(self) -> list[Reading]:
        """Read every socket once."""
        now, smi = self._clock.now_ns, self._smi
        readings: list[Reading] = []
        for gpu in self._gpus:
            before = now()
            if before < gpu.retry_ns:
                continue
            energy = power = None
            try:
                if gpu.has_counter:
                    energy = smi.amdsmi_get_energy_count(gpu.handle)
                if gpu.power_key is not None:
                    power = smi.amdsmi_get_power_info(gpu.handle)
            except smi.AmdSmiException as error:
                self._failed(gpu, error)
            t_ns = (before + now()) // 2
            power_w = None if power is None else self._watts(gpu, power.get(gpu.power_key))
            energy_j = None if energy is None else self._joules(gpu, energy)
            if power_w is not None or energy_j is not None:
                readings.append(Reading(t_ns, gpu.id, power_w, energy_j))
        return readings

    def _watts(self, gpu: AmdGpu, value: object) -> float | None:
        power_w = number(value)
        if not power_w:
            self._problem(
                "sentinel", gpu, f"reports {value!r} as its power: no value", "amd-smi metric --power"
            )
            return None
        if PLAUSIBLE_W[0] <= power_w <= PLAUSIBLE_W[1]:
            return power_w
        self._problem("units", gpu, f"reports {power_w:,.3g} W, which no accelerator draws", "the driver")
        return None

    def _joules(self, gpu: AmdGpu, energy: dict[str, Any]) -> float | None:
        raw, resolution_uj = energy["energy_accumulator"], energy["counter_resolution"]
        if raw == ALL_ONES or not resolution_uj > 0:
            self._problem(
                "sentinel",
                gpu,
                f"reports {raw} steps of {resolution_uj} µJ as its energy: no value",
                "amd-smi metric --energy",
            )
            return None
        if raw < gpu.counter:
            self._problem(
                "counter_backwards", gpu, f"its {_COUNTER} went backwards", "for a reset of the GPU"
            )
        gpu.counter = raw
        return float(raw * resolution_uj * _UJ)

    def _problem(self, code: PowerCode, gpu: AmdGpu, what: str, look: str) -> None:
        self._problems.add(code, gpu.id, f"GPU {gpu.id} {what}: check {look} on {self._host}")

    def _failed(self, gpu: AmdGpu, error: Any) -> None:
        code, text = getattr(error, "err_code", None), error_text(error)
        if code in (_NOT_INITIALISED, _NO_DRIVER):
            self._problem("unreachable", gpu, f"cannot be read ({text})", "whether the driver was reloaded")
            self._restart()
        elif code == _NO_PERMISSION:
            self._problem("unreachable", gpu, f"may not be read any more ({text})", "access to /dev/dri")
        elif code in _NO_VALUE:
            self._problem("no_readings", gpu, f"gave no value ({text})", "amd-smi metric --power --energy")
        else:
            # Not found, a file that is gone, an I/O error: a GPU that fell off the bus gives any of them.
            gpu.retry_ns = self._clock.now_ns() + int(_RETRY_S * NS_PER_S)
            self._problem(
                "device_lost", gpu, f"is lost ({text})", "dmesg for amdgpu errors, reset or replace it"
            )

    def _restart(self) -> None:
        """Initialise again, now and then, and fetch new handles."""
        smi, now_ns = self._smi, self._clock.now_ns()
        if now_ns < self._restart_ns:
            return
        self._restart_ns = now_ns + int(_RETRY_S * NS_PER_S)
        try:
            smi.amdsmi_init()
            handles = smi.amdsmi_get_processor_handles()
        except smi.AmdSmiException:
            return
        for gpu in self._gpus:
            if gpu.index < len(handles):
                gpu.handle = handles[gpu.index]

    def states(self) -> Sequence[DeviceState]:
        """Return clocks, caps and what slowed each device down since the last call."""
        return tuple(amd_state(self._smi, gpu) for gpu in self._gpus)

    def take_problems(self) -> Sequence[PowerProblem]:
        """Return what went wrong since the last call."""
        return self._problems.take()

    def close(self) -> None:
        """Shut amdsmi down."""
        smi, self._smi, self._gpus = self._smi, None, []
        if smi is not None:
            said(smi, smi.amdsmi_shut_down)
