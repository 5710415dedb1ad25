"""Which power sources `agentperf power` is asked about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import TypeAdapter, ValidationError

from pytest_agentperf.config.bundled import find_system_file
from pytest_agentperf.config.power import AcceleratorPower, AmdsmiPower, NvmlPower
from pytest_agentperf.config.system import load_system
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06, RULESETS, Ruleset
from pytest_agentperf.power.open import open_sampler

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pytest_agentperf.core.ports import PowerSampler
    from pytest_agentperf.power.open import PowerConfig

_CONFIG: TypeAdapter[AcceleratorPower] = TypeAdapter(AcceleratorPower)


class Target(NamedTuple):
    """A source, and what is expected of it."""

    title: str
    config: PowerConfig
    accelerators: int | None
    """How many the deployment has; None where nobody said, or for meters of the surroundings."""
    facility: bool
    ruleset: Ruleset

    def sampler(self) -> PowerSampler:
        """Return its sampler, not opened."""
        return open_sampler(self.config, accelerators=self.accelerators or 1)


def targets(args: argparse.Namespace) -> list[Target]:
    """Return what is asked for; without any wish both vendors' libraries, of which one host has one."""
    ruleset = RULESETS[args.ruleset] if args.ruleset else AA_AGENTPERF_2026_06
    if args.system:
        return list(_of_system(args))
    if args.source:
        given = {"source": args.source, "devices": args.device, **({"urls": args.url} if args.url else {})}
        return [Target(args.source, _config(given), None, False, ruleset)]
    for option, value in (("--url", args.url), ("--device", args.device), ("--deployment", args.deployment)):
        if value:
            raise ConfigError("it goes with --source or --system", where=option, remedy="give one of them")
    return [
        Target("nvml", NvmlPower(source="nvml"), None, False, ruleset),
        Target("amdsmi", AmdsmiPower(source="amdsmi"), None, False, ruleset),
    ]


def _config(given: dict[str, object]) -> PowerConfig:
    try:
        return _CONFIG.validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = first["loc"][1] if len(first["loc"]) > 1 else "source"
        option = {"urls": "--url", "devices": "--device"}.get(str(name), f"--{name}")
        remedy = "as http://host:9400/metrics, once per host" if name == "urls" else "correct it"
        raise ConfigError(first["msg"].removeprefix("Value error, "), where=option, remedy=remedy) from None


def _of_system(args: argparse.Namespace) -> Iterator[Target]:
    path = find_system_file(args.system, start=Path.cwd())
    system = load_system(path)
    if args.deployment is not None and args.deployment not in system.deployments:
        raise ConfigError(
            f"no deployment {args.deployment!r}",
            where=str(path),
            remedy=f"one of: {', '.join(system.deployments)}",
        )
    wanted = args.ruleset or system.ruleset
    ruleset = RULESETS.get(wanted or "", AA_AGENTPERF_2026_06)
    for name, deployment in system.deployments.items():
        if args.deployment not in (None, name):
            continue
        title = f"{system.name}, {name}: {deployment.power.source}"
        yield Target(title, deployment.power, deployment.allocated_accelerators, False, ruleset)
        for number, meter in enumerate(deployment.facility):
            yield Target(
                f"{system.name}, {name}: facility {number}, {meter.source}", meter, None, True, ruleset
            )
