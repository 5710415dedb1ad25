"""NVIDIA devices of this host: loading NVML, finding the devices that are meant, what they say of themselves."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power import DeviceState, PowerDevice
from pytest_agentperf.power.local_devices import Pci, choose, pci_address
from pytest_agentperf.power.nvml_fields import Field, FieldReader, slowed_for, slows_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_agentperf.power.local_devices import Notes

_CLOCK_SM, _CLOCK_MEMORY, _TEMPERATURE_GPU = 1, 2, 0
_MW = 1e-3
_GA100 = (8, 0)
_GSP_VERSION_BYTES = 64


@dataclass(eq=False)
class Gpu:
    """One GPU and how it is read."""

    index: int
    handle: Any
    uuid: str
    pci: Pci | None
    id: str
    power: Field | None = None
    energy: Field | None = None
    reader: FieldReader | None = None
    """Of those of them that are fields."""
    energy_mj: float = -1.0
    """The counter's last value."""
    retry_ns: int = 0
    slowed_for: dict[str, float] = field(default_factory=dict)

    @property
    def readable(self) -> bool:
        """Whether it tells anything of its power."""
        return self.power is not None or self.energy is not None


def load_nvml(host: str) -> Any:
    """Import the bindings and initialise NVML."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError as error:
        raise PowerError(
            "the package nvidia-ml-py is not installed",
            where=host,
            remedy="pip install 'pytest-agentperf[nvml]'",
        ) from error
    if not hasattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons"):
        raise PowerError(
            f"{getattr(nvml, '__file__', 'pynvml')} is not nvidia-ml-py 12.535 or newer",
            where=host,
            remedy="pip uninstall pynvml && pip install --upgrade --force-reinstall nvidia-ml-py",
        )
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise PowerError(
            f"NVML does not start: {error}", where=host, remedy=_start_remedy(nvml, error)
        ) from error
    return nvml


def _start_remedy(nvml: Any, error: Any) -> str:
    remedies = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "install the NVIDIA driver; in a container, run it with the NVIDIA "
        "container toolkit and the driver capability 'utility', so that libnvidia-ml.so.1 is there",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: "load the driver (modprobe nvidia) and see that nvidia-smi works",
        nvml.NVML_ERROR_NO_PERMISSION: "give this user access to /dev/nvidiactl and /dev/nvidia*",
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "library and kernel module are of different driver versions: "
        "reboot, or reload the module",
    }
    return remedies.get(error.value, "see that nvidia-smi works on this host, as this user")


def find_gpus(nvml: Any, selectors: Sequence[str], host: str, notes: Notes) -> list[Gpu]:
    """Return the GPUs that are meant; a slice of a shared GPU has no power of its own."""
    found: list[Gpu] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            found.append(_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index), index, host))
        except nvml.NVMLError as error:
            notes.add(f"{host}/{index}", f"cannot be opened: {error}")
    named = [_parent_of_slice(nvml, selector, host) for selector in selectors]
    gpus = choose(named, found, host)
    if not gpus:
        raise PowerError(
            f"NVML finds no GPU that can be opened: {'; '.join(notes.lines()) or 'there is none'}",
            where=host,
            remedy="see that nvidia-smi lists the GPUs on this host, as this user",
        )
    for gpu in gpus:
        if (slices := len(_slices(nvml, gpu.handle))) > 1:
            notes.add(gpu.id, f"is split into {slices} MIG devices; its power is that of all together")
    return gpus


def _gpu(nvml: Any, handle: Any, index: int, host: str) -> Gpu:
    bus_id = said(nvml, lambda: nvml.nvmlDeviceGetPciInfo(handle).busId)
    text = bus_id.decode("ascii", "replace") if isinstance(bus_id, bytes) else bus_id
    return Gpu(
        index=index,
        handle=handle,
        uuid=nvml.nvmlDeviceGetUUID(handle),
        pci=None if text is None else pci_address(text),
        id=f"{host}/{index}",
    )


def _parent_of_slice(nvml: Any, selector: str, host: str) -> str:
    if not selector.startswith("MIG-"):
        return selector
    try:
        parent = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml.nvmlDeviceGetHandleByUUID(selector))
        slices = len(_slices(nvml, parent))
        uuid: str = nvml.nvmlDeviceGetUUID(parent)
    except nvml.NVMLError as error:
        raise PowerError(
            f"MIG device {selector!r}: {error}", where=host, remedy="nvidia-smi -L lists the MIG devices"
        ) from error
    if slices > 1:
        raise PowerError(
            f"{selector} is one of {slices} MIG devices of {uuid}: power is measured per GPU, not per slice",
            where=host,
            remedy="measure the whole GPU (name its index or UUID) with all of its slices allocated, "
            "or turn MIG off (nvidia-smi -mig 0)",
        )
    return uuid


def _slices(nvml: Any, handle: Any) -> list[Any]:
    found = []
    for number in range(said(nvml, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0):
        with contextlib.suppress(nvml.NVMLError):
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number))
    return found


def said(nvml: Any, ask: Any) -> Any:
    """Return what NVML answers, None where the device or the driver does not tell."""
    try:
        return ask()
    except (nvml.NVMLError, UnicodeDecodeError):
        return None


def power_is_averaged(nvml: Any, gpu: Gpu) -> bool:
    """Whether `nvmlDeviceGetPowerUsage` is a mean over one second, as NVIDIA documents it by architecture."""
    capability = said(nvml, lambda: tuple(nvml.nvmlDeviceGetCudaComputeCapability(gpu.handle)))
    return capability is None or (capability >= _GA100 and capability != _GA100)


def describe_gpu(nvml: Any, gpu: Gpu, host: str) -> PowerDevice:
    """Return what identifies the device in a result."""
    vbios = said(nvml, lambda: nvml.nvmlDeviceGetVbiosVersion(gpu.handle))
    gsp = ctypes.create_string_buffer(_GSP_VERSION_BYTES)
    said(nvml, lambda: nvml.nvmlDeviceGetGspFirmwareVersion(gpu.handle, gsp))
    versions = (("VBIOS", vbios), ("GSP", gsp.value.decode("ascii", "replace")))
    firmware = ", ".join(f"{part} {version}" for part, version in versions if version)
    return PowerDevice(
        id=gpu.id,
        host=host,
        name=said(nvml, lambda: nvml.nvmlDeviceGetName(gpu.handle)),
        uuid=gpu.uuid,
        driver=said(nvml, nvml.nvmlSystemGetDriverVersion),
        firmware=firmware or None,
        power_cap_w=_watts(said(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu.handle))),
        rated_power_w=_watts(said(nvml, lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(gpu.handle))),
    )


def gpu_state(nvml: Any, gpu: Gpu) -> DeviceState:
    """Return what bounds the GPU's speed now, and what slowed it down since the last call."""
    handle = gpu.handle
    bits = said(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    if bits is None:
        # The name before driver 535.
        bits = said(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    slowed, before = slowed_for(nvml, handle), gpu.slowed_for
    gpu.slowed_for = slowed
    grown = (reason for reason, ns in slowed.items() if reason in before and ns > before[reason])
    return DeviceState(
        device=gpu.id,
        power_cap_w=_watts(said(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))),
        clock_mhz=said(nvml, lambda: nvml.nvmlDeviceGetClockInfo(handle, _CLOCK_SM)),
        memory_clock_mhz=said(nvml, lambda: nvml.nvmlDeviceGetClockInfo(handle, _CLOCK_MEMORY)),
        temperature_c=said(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, _TEMPERATURE_GPU)),
        throttle_reasons=_once((*slows_now(bits or 0), *grown)),
    )


def _once(reasons: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reasons))


def _watts(milliwatts: int | None) -> float | None:
    return None if not milliwatts or milliwatts >= 0xFFFF_FFFF else milliwatts * _MW
