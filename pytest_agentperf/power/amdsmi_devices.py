"""AMD devices of this host: loading amdsmi, which socket a partition belongs to, what devices say of themselves."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.power import DeviceState, PowerDevice
from pytest_agentperf.power.local_devices import Pci, choose, pci_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from pytest_agentperf.core.power import Scope
    from pytest_agentperf.power.local_devices import Notes

PACKAGE = "amdsmi"
ALL_ONES = 0xFFFF_FFFF_FFFF_FFFF
_NO_NUMBER = frozenset({0xFFFF, 0xFFFF_FFFF, ALL_ONES})
"""Unsigned integers of all ones: the driver has no value; the package makes "N/A" of some of them."""
_MICROWATTS_FROM = 20_000
"""A power cap above it is in µW (all Linux drivers), one below it in W (some hypervisors)."""
_INSTINCT = re.compile(r"instinct|\bmi\d{3}", re.IGNORECASE)
_APU = re.compile(r"mi\d{3}a\b", re.IGNORECASE)

_RESIDENCIES = {
    "prochot_residency_acc": "prochot",
    "ppt_residency_acc": "power_cap",
    "socket_thm_residency_acc": "socket_thermal",
    "vr_thm_residency_acc": "vr_thermal",
    "hbm_thm_residency_acc": "hbm_thermal",
}
"""How long each limit was the one that held the clocks down, since the driver was loaded; MI300 and newer."""


@dataclass(eq=False)
class AmdGpu:
    """One processor: a GPU, or one partition of a socket."""

    index: int
    handle: Any
    uuid: str | None
    pci: Pci | None
    partition: int
    id: str
    power_key: str | None = None
    has_counter: bool = False
    counter: int = -1
    """The counter's last value."""
    retry_ns: int = 0
    slowed_for: dict[str, float] = field(default_factory=dict)

    @property
    def readable(self) -> bool:
        """Whether it tells anything of its power."""
        return self.power_key is not None or self.has_counter

    @property
    def socket(self) -> object:
        """The same for all partitions of a socket: they differ in the PCI function alone."""
        return self.index if self.pci is None else self.pci[:3]


def load_amdsmi(host: str) -> ModuleType:
    """Import the package, and initialise it.

    Without ROCm the import prints, and ends in a KeyError, OSError or AttributeError. What it got done is undone, so
    that a later import fails in the same way, rather than in another one.
    """
    before, printed = set(sys.modules), io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            smi = importlib.import_module(PACKAGE)
    except (Exception, SystemExit) as error:
        for name in set(sys.modules) - before:
            if name.split(".")[0] == PACKAGE:
                del sys.modules[name]
        raise _import_error(error, printed.getvalue(), host) from error
    if not hasattr(smi, "amdsmi_get_gpu_kfd_info"):
        raise PowerError(
            f"{smi.__file__} is older than ROCm 6.3", where=host, remedy="pip install --upgrade 'amdsmi>=6.3'"
        )
    try:
        smi.amdsmi_init()
    except smi.AmdSmiException as error:
        raise PowerError(
            f"amdsmi does not start: {error_text(error)}",
            where=host,
            remedy="load the amdgpu driver, give this user access to /dev/kfd and /dev/dri (groups render and video), "
            "and see that amd-smi works on this host",
        ) from error
    return smi


def _import_error(error: BaseException, printed: str, host: str) -> PowerError:
    if isinstance(error, ModuleNotFoundError) and error.name == PACKAGE:
        return PowerError(
            "the package amdsmi is not installed", where=host, remedy="pip install 'pytest-agentperf[amdsmi]'"
        )
    said = printed.strip().splitlines()
    if isinstance(error, AttributeError):
        return PowerError(
            f"the package amdsmi does not fit the ROCm of this host ({error})",
            where=host,
            remedy="install the version of ROCm: pip install amdsmi==<version in /opt/rocm/.info/version>",
        )
    return PowerError(
        f"amdsmi cannot be imported: {said[0] if said else f'{type(error).__name__}: {error}'}",
        where=host,
        remedy="install ROCm's amd-smi-lib, or set ROCM_PATH to where lib/libamd_smi.so is",
    )


def error_text(error: BaseException) -> str:
    """Return what an error of the package says, on one line."""
    return " ".join(str(getattr(error, "err_info", None) or error).split())


def find_sockets(smi: Any, selectors: Sequence[str], host: str, notes: Notes) -> list[AmdGpu]:
    """Return the first partition of each socket that is meant: power is that of the socket."""
    try:
        handles = smi.amdsmi_get_processor_handles()
    except smi.AmdSmiException as error:
        raise PowerError(
            f"amdsmi lists no devices: {error_text(error)}", where=host, remedy="see that amd-smi list works"
        ) from error
    found = [_gpu(smi, handle, index, host) for index, handle in enumerate(handles)]
    if not found:
        raise PowerError("amdsmi finds no GPU", where=host, remedy="see that amd-smi list works on this host")
    parts: dict[object, list[AmdGpu]] = {}
    for gpu in found:
        parts.setdefault(gpu.socket, []).append(gpu)
    sockets = []
    for gpu in choose(selectors, found, host):
        first, count = min(parts[gpu.socket], key=lambda part: part.partition), len(parts[gpu.socket])
        if gpu is first:
            sockets.append(gpu)
            if count > 1:
                notes.add(gpu.id, f"is split into {count} partitions; its power is that of the whole socket")
        elif selectors:
            raise PowerError(
                f"GPU {gpu.index} is one of {count} partitions of a socket: power is measured per socket",
                where=host,
                remedy=f"name the socket's first partition, {first.index}, with all of them allocated, "
                "or set SPX (amd-smi set --compute-partition SPX)",
            )
    return sockets


def _gpu(smi: Any, handle: Any, index: int, host: str) -> AmdGpu:
    address = said(smi, lambda: smi.amdsmi_get_gpu_device_bdf(handle))
    pci = None if address is None else pci_address(address)
    partition = number(
        (said(smi, lambda: smi.amdsmi_get_gpu_kfd_info(handle)) or {}).get("current_partition_id")
    )
    if partition is None:
        partition = 0 if pci is None else pci[3]
    uuid = said(smi, lambda: smi.amdsmi_get_gpu_device_uuid(handle))
    return AmdGpu(index, handle, uuid or None, pci, int(partition), f"{host}/{index}")


def said(smi: Any, ask: Callable[[], Any]) -> Any:
    """Return what amdsmi answers, None where the device, the driver or the package's version does not tell."""
    try:
        return ask()
    except (smi.AmdSmiException, AttributeError, UnicodeDecodeError, KeyError):
        return None


def number(value: object) -> float | None:
    """Return a number, None for "N/A" and for all ones."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value in _NO_NUMBER:
        return None
    return value


def _watts(value: object) -> float | None:
    cap = number(value)
    return None if not cap else cap * 1e-6 if cap > _MICROWATTS_FROM else cap


def describe_amd(smi: Any, gpu: AmdGpu, host: str) -> PowerDevice:
    """Return what identifies the device in a result."""
    handle = gpu.handle
    cap = said(smi, lambda: smi.amdsmi_get_power_cap_info(handle)) or {}
    vbios = said(smi, lambda: smi.amdsmi_get_gpu_vbios_info(handle)) or {}
    driver = said(smi, lambda: smi.amdsmi_get_gpu_driver_info(handle)) or {}
    return PowerDevice(
        id=gpu.id,
        host=host,
        name=_text((said(smi, lambda: smi.amdsmi_get_gpu_asic_info(handle)) or {}).get("market_name")),
        uuid=gpu.uuid,
        driver=_text(driver.get("driver_version")),
        firmware=None if (version := _text(vbios.get("version"))) is None else f"VBIOS {version}",
        power_cap_w=_watts(cap.get("power_cap")),
        rated_power_w=_watts(cap.get("default_power_cap")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value not in ("", "N/A") else None


def scope_of(device: PowerDevice) -> Scope:
    """Return what socket power includes: on Instinct accelerators the HBM, on APUs the CPU too."""
    name = device.name or ""
    if _APU.search(name):
        return "module"
    return "gpu+hbm" if _INSTINCT.search(name) else "gpu"


def amd_state(smi: Any, gpu: AmdGpu) -> DeviceState:
    """Return what bounds the device's speed now, and what slowed it down since the last call."""
    metrics = said(smi, lambda: smi.amdsmi_get_gpu_metrics_info(gpu.handle)) or {}
    cap = said(smi, lambda: smi.amdsmi_get_power_cap_info(gpu.handle)) or {}
    slowed, before = {}, gpu.slowed_for
    for key, reason in _RESIDENCIES.items():
        if (ticks := number(metrics.get(key))) is not None:
            slowed[reason] = ticks
    gpu.slowed_for = slowed
    reasons = [reason for reason, ticks in slowed.items() if reason in before and ticks > before[reason]]
    if not slowed and metrics.get("throttle_status") is True:
        reasons.append("throttled")
    clocks = [clock for each in metrics.get("current_gfxclks") or () if (clock := number(each))]
    return DeviceState(
        device=gpu.id,
        power_cap_w=_watts(cap.get("power_cap")),
        clock_mhz=max(clocks, default=None) or _first(metrics, "current_gfxclk", "average_gfxclk_frequency"),
        memory_clock_mhz=_first(metrics, "current_uclk", "average_uclk_frequency"),
        temperature_c=_first(metrics, "temperature_hotspot", "temperature_edge"),
        throttle_reasons=tuple(reasons),
    )


def _first(metrics: dict[str, Any], *keys: str) -> float | None:
    return next((found for key in keys if (found := number(metrics.get(key))) is not None), None)
