"""NVIDIA accelerators of this host through NVML: their energy counters, and their power beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.clock import RealClock
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power import PowerSource
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.power.local_devices import PLAUSIBLE_W, Notes, host_name
from pytest_agentperf.power.nvml_devices import (
    Gpu,
    describe_gpu,
    find_gpus,
    gpu_state,
    load_nvml,
    said,
)
from pytest_agentperf.power.nvml_fields import ALL_ONES, ENERGY_CALL, NO_POWER, POWER_CALL, field_number
from pytest_agentperf.power.nvml_plan import plan_reads
from pytest_agentperf.power.problem_log import ProblemLog
from pytest_agentperf.power.reader import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.config.power import NvmlPower
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.core.power import DeviceState, PowerCode, PowerProblem

_M = 1e-3
_RETRY_S = 0.5


class NvmlReader:
    """A `PowerReader` on nvidia-ml-py. One call per device and reading where the driver allows."""

    def __init__(self, config: NvmlPower, clock: BlockingClock | None = None) -> None:
        self._config = config
        self._clock = clock or RealClock()
        self._host = host_name()
        self._problems = ProblemLog()
        self._gpus: list[Gpu] = []
        self._nvml: Any = None
        self._restart_ns = 0

    def open(self) -> PowerSource:
        """Find the GPUs, choose what to read of each, and watch how often it changes."""
        nvml = self._nvml = load_nvml(self._host)
        try:
            return self._opened()
        except nvml.NVMLError as error:
            self.close()
            raise PowerError(
                f"NVML fails: {error}", where=self._host, remedy="see that nvidia-smi works on this host"
            ) from error
        except BaseException:
            self.close()
            raise

    def _opened(self) -> PowerSource:
        nvml, unopened = self._nvml, Notes(0)
        gpus = find_gpus(nvml, self._config.devices, self._host, unopened)
        notes = Notes(len(gpus))
        period_s = plan_reads(nvml, gpus, self._clock, notes)
        self._gpus = [gpu for gpu in gpus if gpu.readable]
        silent = [gpu.id for gpu in gpus if not gpu.readable]
        if period_s is None or (silent and self._config.devices):
            raise PowerError(
                f"NVML tells no power of {', '.join(silent)}",
                where=self._host,
                remedy="a virtual GPU has none: measure on the host, or by another source (power.source)",
            )
        return PowerSource(
            source="nvml",
            scope="gpu+hbm",
            measured=True,
            update_period_s=period_s,
            devices=tuple(describe_gpu(nvml, gpu, self._host) for gpu in self._gpus),
            notes=(*notes.lines(), *unopened.lines()),
        )

    def read(self) -> list[Reading]:
        """Read every GPU once."""
        now, nvml = self._clock.now_ns, self._nvml
        readings: list[Reading] = []
        for gpu in self._gpus:
            before = now()
            if before < gpu.retry_ns:
                continue
            energy_mj = power_mw = None
            try:
                if gpu.reader is not None:
                    if code := gpu.reader.read(gpu.handle):
                        raise nvml.NVMLError(code)
                    for field, value in gpu.reader.items:
                        if code := value.nvmlReturn:
                            self._failed(gpu, nvml.NVMLError(code))
                        elif field is gpu.energy:
                            energy_mj = field_number(value)
                        else:
                            power_mw = field_number(value)
                if gpu.energy is ENERGY_CALL:
                    energy_mj = nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle)
                if gpu.power is POWER_CALL:
                    power_mw = nvml.nvmlDeviceGetPowerUsage(gpu.handle)
            except nvml.NVMLError as error:
                self._failed(gpu, error)
            t_ns = (before + now()) // 2
            power_w = None if power_mw is None else self._watts(gpu, power_mw)
            energy_j = None if energy_mj is None else self._joules(gpu, energy_mj)
            if power_w is not None or energy_j is not None:
                readings.append(Reading(t_ns, gpu.id, power_w, energy_j))
        return readings

    def _watts(self, gpu: Gpu, power_mw: float) -> float | None:
        if power_mw in NO_POWER:
            self._problem(
                "sentinel", gpu, f"reports {power_mw:.0f} mW, which stands for no value", "the driver"
            )
            return None
        power_w = power_mw * _M
        if PLAUSIBLE_W[0] <= power_w <= PLAUSIBLE_W[1]:
            return power_w
        self._problem("units", gpu, f"reports {power_w:,.3g} W, which no accelerator draws", "the driver")
        return None

    def _joules(self, gpu: Gpu, energy_mj: float) -> float | None:
        if energy_mj == ALL_ONES:
            self._problem("sentinel", gpu, "its energy counter reports all ones: no value", "the driver")
            return None
        if energy_mj < gpu.energy_mj:
            self._problem(
                "counter_backwards", gpu, "its energy counter went backwards", "for a reset of the GPU"
            )
        gpu.energy_mj = energy_mj
        return energy_mj * _M

    def _problem(self, code: PowerCode, gpu: Gpu, what: str, look: str) -> None:
        self._problems.add(code, gpu.id, f"GPU {gpu.id} {what}: check {look} on {self._host}")

    def _failed(self, gpu: Gpu, error: Any) -> None:
        nvml, code = self._nvml, error.value
        if code in (nvml.NVML_ERROR_UNINITIALIZED, nvml.NVML_ERROR_DRIVER_NOT_LOADED):
            self._problem("unreachable", gpu, f"cannot be read ({error})", "whether the driver was reloaded")
            self._restart()
        elif code == nvml.NVML_ERROR_NO_PERMISSION:
            self._problem("unreachable", gpu, f"may not be read any more ({error})", "access to /dev/nvidia*")
        elif code in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_TIMEOUT, nvml.NVML_ERROR_NO_DATA):
            self._problem("no_readings", gpu, f"gave no value ({error})", "nvidia-smi -q -d POWER")
        else:
            # A GPU that fell off the bus is lost, not found, in need of a reset, an invalid handle, or unknown.
            gpu.retry_ns = self._clock.now_ns() + int(_RETRY_S * NS_PER_S)
            self._problem(
                "device_lost", gpu, f"is lost ({error})", "dmesg for Xid errors, reset or replace it"
            )

    def _restart(self) -> None:
        """Initialise again, now and then, and fetch new handles."""
        nvml, now_ns = self._nvml, self._clock.now_ns()
        if now_ns < self._restart_ns:
            return
        self._restart_ns = now_ns + int(_RETRY_S * NS_PER_S)
        try:
            nvml.nvmlInit()
            for gpu in self._gpus:
                gpu.handle = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
        except nvml.NVMLError:
            return

    def states(self) -> Sequence[DeviceState]:
        """Return clocks, caps and what slowed each GPU down since the last call."""
        return tuple(gpu_state(self._nvml, gpu) for gpu in self._gpus)

    def take_problems(self) -> Sequence[PowerProblem]:
        """Return what went wrong since the last call."""
        return self._problems.take()

    def close(self) -> None:
        """Shut NVML down."""
        nvml, self._nvml, self._gpus = self._nvml, None, []
        if nvml is not None:
            said(nvml, nvml.nvmlShutdown)
