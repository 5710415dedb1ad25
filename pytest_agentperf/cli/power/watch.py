"""`agentperf power watch`: live power of every device, with a bar each."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pytest_agentperf.cli.power.targets import targets
from pytest_agentperf.clock import RealClock, monotonic_ns
from pytest_agentperf.core.errors import PowerError
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.results.tables import number

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pytest_agentperf.cli.power.targets import Target
    from pytest_agentperf.core.ports import PowerSampler
    from pytest_agentperf.core.power import PowerSource
    from pytest_agentperf.core.power_series import PowerSeries

HELP = "show live power per device until Ctrl-C"
_REFRESH_S = 0.5
_BAR = 30


class Now(NamedTuple):
    """One device at the moment; None where it tells nothing."""

    device: str
    power_w: float | None
    cap_w: float | None
    slowed_by: tuple[str, ...]


class Watched:
    """One source: each refresh is a short phase of its sampler, of at least one update."""

    def __init__(self, target: Target, sampler: PowerSampler, source: PowerSource) -> None:
        self.title = target.title
        self.source = source
        self._sampler = sampler
        self._counters: dict[str, tuple[int, float]] = {}

    @property
    def refresh_s(self) -> float:
        """Never faster than the values change."""
        return max(_REFRESH_S, self.source.update_period_s or 0.0)

    def begin(self) -> None:
        """Begin to read."""
        self._sampler.start()

    def end(self) -> tuple[list[Now], Sequence[str]]:
        """Return every device's power since `begin`, and what went wrong."""
        series = self._sampler.stop()
        states = {state.device: state for state in series.after}
        found = []
        for device in self.source.devices:
            state = states.get(device.id)
            cap_w = state.power_cap_w if state and state.power_cap_w else device.power_cap_w
            power_w = self._power_w(device.id, series)
            found.append(Now(device.id, power_w, cap_w, state.throttle_reasons if state else ()))
        return found, [problem.text for problem in series.problems]

    def close(self) -> None:
        """End its process."""
        self._sampler.close()

    def _power_w(self, device: str, series: PowerSeries) -> float | None:
        """Return the last power that was read; of a device that only counts, its mean since the last refresh."""
        if device not in series.devices:
            return None
        rows = series.device == series.devices.index(device)
        power_w = series.power_w[rows]
        power_w = power_w[np.isfinite(power_w)]
        if power_w.size:
            return float(power_w[-1])
        counted = np.flatnonzero(np.isfinite(series.energy_j[rows]))
        if not counted.size:
            return None
        t_ns, energy_j = series.t_ns[rows][counted], series.energy_j[rows][counted]
        t0_ns, first_j = self._counters.get(device, (int(t_ns[0]), float(energy_j[0])))
        self._counters[device] = int(t_ns[-1]), float(energy_j[-1])
        seconds = (int(t_ns[-1]) - t0_ns) / NS_PER_S
        return None if seconds <= 0 or energy_j[-1] < first_j else float((energy_j[-1] - first_j) / seconds)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options of its own."""
    parser.add_argument("--once", action="store_true", help="show it once, and end")
    parser.add_argument("--json", action="store_true", help="print a line of JSON per refresh")


def run(args: argparse.Namespace) -> int:
    """Show power until Ctrl-C; 1 if no source can be read."""
    watched = _open(targets(args), any_=not args.system and not args.source)
    live = sys.stdout.isatty() and not args.once and not args.json
    try:
        while True:
            for source in watched:
                source.begin()
            RealClock().sleep(max(source.refresh_s for source in watched))
            found = [(source, *source.end()) for source in watched]
            if args.json:
                print(json.dumps([_json(*one) for one in found]), flush=True)
            else:
                lines = [line for one in found for line in _lines(*one, live=live)]
                _show(lines, live=live)
            if args.once:
                return 0 if all(now.power_w is not None for _, nows, _ in found for now in nows) else 1
    except KeyboardInterrupt:
        return 0
    finally:
        for source in watched:
            source.close()


def _open(wanted: Sequence[Target], *, any_: bool) -> list[Watched]:
    """Open the sources; with `any_`, those that are there."""
    watched: list[Watched] = []
    errors: list[PowerError] = []
    try:
        for target in wanted:
            sampler = target.sampler()
            try:
                source = sampler.open()
            except PowerError as error:
                errors.append(error)
                if not any_:
                    raise
                continue
            if source.devices:
                watched.append(Watched(target, sampler, source))
    except BaseException:
        for source_ in watched:
            source_.close()
        raise
    if not watched and errors:
        raise PowerError(
            "; ".join(f"{target.title}: {error.what}" for target, error in zip(wanted, errors, strict=False)),
            remedy="`agentperf power check` says what to do; name another --source or a --system",
        )
    if not watched:
        raise PowerError("no power source is configured", remedy="set `power.source` in the system's file")
    return watched


def _lines(source: Watched, nows: Sequence[Now], problems: Sequence[str], *, live: bool) -> list[str]:
    known = [now.power_w for now in nows if now.power_w is not None]
    total = number(sum(known)) if len(known) == len(nows) else f"{number(sum(known))} of {len(known)} devices"
    lines = [f"{source.title} ({source.source.scope}, every {source.refresh_s:g} s): {total} W"]
    width = max(len(now.device) for now in nows)
    full_w = max((w for now in nows for w in (now.cap_w, now.power_w) if w), default=1.0)
    for now in nows:
        power = f"{number(now.power_w):>8} W"
        cap = f" of {number(now.cap_w, 0)} W" if now.cap_w else ""
        slowed = f"  slowed by {', '.join(now.slowed_by)}" if now.slowed_by else ""
        bar = f"  {_bar(now.power_w or 0.0, now.cap_w or full_w)}" if live else ""
        lines.append(f"  {now.device:<{width}}{bar} {power}{cap}{slowed}")
    return lines + [f"  ✗ {problem}" for problem in problems]


def _bar(power_w: float, full_w: float) -> str:
    filled = min(_BAR, round(_BAR * power_w / full_w))
    return "█" * filled + "·" * (_BAR - filled)


def _json(source: Watched, nows: Sequence[Now], problems: Sequence[str]) -> dict[str, object]:
    return {
        "t_ns": monotonic_ns(),
        "source": source.source.source,
        "scope": source.source.scope,
        "devices": [now._asdict() for now in nows],
        "problems": list(problems),
    }


def _show(lines: list[str], *, live: bool) -> None:
    if not live:
        print("\n".join(lines), flush=True)
        return
    size = shutil.get_terminal_size()
    if len(lines) > size.lines - 1:
        hidden = len(lines) - (size.lines - 2)
        lines = [*lines[: size.lines - 2], f"  … {hidden} more lines: use a higher terminal, or --once"]
    text = "\n".join(line[: size.columns - 1] for line in lines)
    # From the top, each line cleared to its end, then what is below: no flicker.
    sys.stdout.write("\033[H" + text.replace("\n", "\033[K\n") + "\033[K\n\033[J")
    sys.stdout.flush()
