"""What `nvidia-smi -q -x` and `rocm-smi --json` print: rows, one per accelerator."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any, NamedTuple
from xml.etree import ElementTree

from pytest_agentperf.power.rows import Refusal, Row

_WATTS = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:W)?\s*")
_BRACKETS = ("gpu_power_readings", "power_readings")
"""By schema: v12 and later, and before."""
_DRAWS = ("instant_power_draw", "power_draw", "average_power_draw")
_CAPS = ("current_power_limit", "enforced_power_limit", "power_limit")
_ROCM_POWER = (
    "Current Socket Graphics Package Power (W)",
    "Average Graphics Package Power (W)",
)
_CARD = re.compile(r"card[0-9]{1,4}")


class NotSmi(ValueError):
    """Why a text is no snapshot."""


class Snapshot(NamedTuple):
    """All accelerators of a host at one moment; `time` is local, and has no zone."""

    time: datetime | None
    rows: list[Row]
    declared: int
    """How many accelerators the host says it has."""


def parse_nvidia_xml(text: str) -> Snapshot:
    """Read one document; raises NotSmi."""
    # Entities could unpack to any size; no snapshot has any.
    if "<!ENTITY" in text:
        raise NotSmi("declares XML entities")
    try:
        log = ElementTree.fromstring(text.strip())
    except (ElementTree.ParseError, ValueError) as error:
        raise NotSmi(f"is no XML: {error}") from None
    if log.tag != "nvidia_smi_log":
        raise NotSmi(f"is XML of another kind: <{log.tag[:40]}>")
    rows = [_nvidia_row(gpu, log) for gpu in log.findall("gpu")]
    attached = (log.findtext("attached_gpus") or "").strip()
    declared = int(attached) if attached.isdecimal() and len(attached) < 6 else len(rows)
    return Snapshot(_nvidia_time(log.findtext("timestamp")), rows, declared)


def _nvidia_row(gpu: ElementTree.Element, log: ElementTree.Element) -> Row:
    row = Row(
        gpu.findtext("uuid") or gpu.get("id") or "",
        name=gpu.findtext("product_name"),
        uuid=gpu.findtext("uuid"),
        driver=log.findtext("driver_version"),
        firmware=gpu.findtext("vbios_version"),
    )
    readings = next((found for name in _BRACKETS if (found := gpu.find(name)) is not None), None)
    if readings is None:
        row.refused.append(Refusal("sentinel", "nvidia-smi shows no power readings"))
        return row
    shown = [(name, readings.findtext(name)) for name in _DRAWS]
    row.power_w = next((watts for _, said in shown if (watts := _watts(said)) is not None), None)
    row.power_cap_w = next(
        (cap for name in _CAPS if (cap := _watts(readings.findtext(name))) is not None), None
    )
    if row.power_w is None:
        said = ", ".join(f"{name} {said!r}" for name, said in shown if said is not None)
        row.refused.append(Refusal("sentinel", f"nvidia-smi shows {said or 'no power_draw'}"))
    return row


def _nvidia_time(text: str | None) -> datetime | None:
    try:
        return datetime.strptime((text or "").strip(), "%a %b %d %H:%M:%S %Y")
    except ValueError:
        return None


def is_rocm(record: dict[str, Any]) -> bool:
    """Return whether this is what `rocm-smi --json` prints, whatever was added."""
    return any(_CARD.fullmatch(key) and isinstance(part, dict) for key, part in record.items())


def parse_rocm(record: dict[str, Any]) -> Snapshot:
    """Read one object; raises NotSmi."""
    cards = {key: part for key, part in record.items() if _CARD.fullmatch(key) and isinstance(part, dict)}
    if not cards:
        raise NotSmi("names no card")
    system = record.get("system")
    driver = system.get("Driver version") if isinstance(system, dict) else None
    rows = [_rocm_row(key, card, driver) for key, card in cards.items()]
    return Snapshot(None, rows, len(rows))


def _rocm_row(card: str, shown: dict[str, Any], driver: object) -> Row:
    row = Row(
        card.removeprefix("card"),
        name=_text(shown.get("Card series")) or _text(shown.get("Card Series")),
        uuid=_text(shown.get("Unique ID")),
        driver=_text(driver),
        firmware=_text(shown.get("VBIOS version")),
        power_cap_w=_watts(shown.get("Max Graphics Package Power (W)")),
    )
    found = [name for name in _ROCM_POWER if name in shown]
    row.power_w = next((watts for name in found if (watts := _watts(shown[name])) is not None), None)
    if row.power_w is None:
        said = ", ".join(f"{name} {str(shown[name])[:20]!r}" for name in found)
        row.refused.append(Refusal("sentinel", f"rocm-smi shows {said or 'no package power'}"))
    return row


def _watts(said: object) -> float | None:
    found = _WATTS.fullmatch(said) if isinstance(said, str) else None
    watts = float(found[1]) if found else None
    return watts if watts is not None and math.isfinite(watts) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value != "N/A" else None
