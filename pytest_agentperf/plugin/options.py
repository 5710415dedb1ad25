"""Flags, environment variables and ini keys, from one table. Precedence: flag, environment, ini, YAML."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pytest

    from pytest_agentperf.config.run import GateOptions, RunOptions

RESULTS_DEFAULT = "agentperf-results"


class Option(NamedTuple):
    """One option: `--agentperf-NAME`, `AGENTPERF_NAME`, `agentperf_NAME`."""

    name: str
    help: str
    metavar: str
    many: bool = False
    flag_: str | None = None
    switch: bool = False
    """Takes no value as a flag; `1` or `0` elsewhere."""

    @property
    def flag(self) -> str:
        """Return the command-line flag."""
        return self.flag_ or f"--agentperf-{self.name.replace('_', '-')}"

    @property
    def ini(self) -> str:
        """Return the ini key."""
        return f"agentperf_{self.name}"


OPTIONS = (
    Option(
        "system",
        "system to measure: a name or the path of its YAML; repeatable",
        "NAME|PATH",
        True,
        "--system",
    ),
    Option("tier", "measure only this tier; repeatable", "TIER", True),
    Option("edition", "edition of the suite's SLO table", "EDITION"),
    Option("dataset", "replay this dataset instead of the suite's", "PATH|bundled:NAME"),
    Option("ruleset", "ruleset instead of the system's or the suite's", "ID"),
    Option(
        "mode", "search the capacity (default), or only gate: is the baseline still reached?", "search|gate"
    ),
    Option("baseline", "what a gate compares with (default: the system's expected_agents)", "FILE"),
    Option("tolerance", "the share of the baseline that a gate lets be lost (default 5%%)", "SHARE"),
    Option("inconclusive", "what a gate without a certain answer is: fail (default) or skip", "fail|skip"),
    Option("retry_invalid", "measure INVALID phases again so many times more than the ruleset does", "N"),
    Option("set", "change one rule (listed as a deviation); repeatable", "RULE=VALUE", True),
    Option("output_length", "how long answers are: as the model ends them, or as recorded", "natural|exact"),
    Option("start", "begin the ramp at this many agents", "N"),
    Option("max_agents", "never try more agents than this", "N"),
    Option("budget", "end the search after this (30m, 2h, 20Mtok) with what it knows", "BUDGET"),
    Option(
        "seed", "seed of the assignment of trajectories (default: that of a gate's baseline, else 0)", "N"
    ),
    Option("workers", "load worker processes (default: as many as the agents need)", "N"),
    Option(
        "load",
        "where load workers run, as pytest-xdist's --tx: 4*popen, 2*ssh=user@host, 8*ray://head:10001; repeatable",
        "SPEC",
        True,
    ),
    Option("resume", "go on with the interrupted run in this directory; repeatable", "RUN_DIR", True),
    Option("force", "run in spite of failed checks; the result is marked not valid", "", switch=True),
    Option(
        "rehearse",
        "run in virtual time on the systems' models: nothing is sent, every result is marked simulated",
        "",
        switch=True,
    ),
    Option(
        "grace",
        "after Ctrl-C, wait at most this long for requests in flight (default 10); Ctrl-C again stops now",
        "SECONDS",
    ),
    Option("results", f"folder for results (default {RESULTS_DEFAULT})", "DIR"),
)
_BY_NAME = {option.name: option for option in OPTIONS}


def add_options(parser: pytest.Parser) -> None:
    """Define every option as flag and ini key; all flags default to None."""
    group = parser.getgroup("agentperf", "capacity of inference systems in coding agents")
    for option in OPTIONS:
        how: dict[str, str] = {"action": "append" if option.many else "store", "metavar": option.metavar}
        if option.switch:
            how = {"action": "store_const", "const": "1"}
        group.addoption(option.flag, dest=option.ini, default=None, help=option.help, **how)
        if option.many:
            parser.addini(option.ini, option.help, type="linelist", default=None)
        else:
            parser.addini(option.ini, option.help, type="string", default=None)


def values(config: pytest.Config, name: str) -> list[str]:
    """Return an option's values from the first place that has any, empty if none has."""
    option = _BY_NAME[name]
    found = config.getoption(option.ini)
    if found is None:
        found = os.environ.get(option.ini.upper()) or config.getini(option.ini) or []
        if isinstance(found, str) and option.many:
            found = found.split()
    return list(found) if option.many else [found] if found else []


def wants_agentperf(config: pytest.Config) -> bool:
    """Return whether this session measures anything: whether a system, or a run to resume, is named."""
    return bool(values(config, "system") or values(config, "resume"))


def run_options(config: pytest.Config) -> RunOptions:
    """Return what the options say about a run; raises ConfigError."""
    from pytest_agentperf.config.run import Budget, RunOptions, parse_budget
    from pytest_agentperf.core.errors import ConfigError

    def one(name: str) -> str | None:
        return next(iter(values(config, name)), None)

    def integer(name: str, least: int) -> int | None:
        text = one(name)
        if text is None:
            return None
        if not text.isdecimal() or int(text) < least:
            raise ConfigError(
                f"{text!r} is no whole number from {least} on", where=_BY_NAME[name].flag, remedy="give one"
            )
        return int(text)

    def switch(name: str) -> bool:
        text, ini = one(name), _BY_NAME[name].ini
        if text not in (None, "0", "1"):
            raise ConfigError(f"{text!r} is neither 1 nor 0", where=f"{ini.upper()}, {ini}", remedy="write 1")
        return text == "1"

    length = one("output_length")
    if length not in (None, "natural", "exact"):
        raise ConfigError(
            f"{length!r} is no output length", where="--agentperf-output-length", remedy="natural or exact"
        )
    workers, load = integer("workers", 1), tuple(values(config, "load"))
    # They answer the same question: whichever is a flag wins over the other in the environment or the ini file.
    by_flag = {name for name in ("workers", "load") if config.getoption(_BY_NAME[name].ini) is not None}
    if by_flag == {"workers"}:
        load = ()
    elif by_flag == {"load"}:
        workers = None
    budget = one("budget")
    return RunOptions(
        ruleset=one("ruleset"),
        overrides=tuple(values(config, "set")),
        dataset=one("dataset"),
        edition=one("edition"),
        tiers=tuple(values(config, "tier")),
        output_length=length,  # type: ignore[arg-type]
        start=integer("start", 1),
        max_agents=integer("max_agents", 1),
        budget=parse_budget(budget) if budget else Budget(),
        seed=integer("seed", 0),
        workers=workers,
        load=load,
        force=switch("force"),
        rehearse=switch("rehearse"),
        gate=_gate(config),
        retry_invalid=integer("retry_invalid", 0) or 0,
    )


def _gate(config: pytest.Config) -> GateOptions | None:
    """Return what a gate is asked with, None for a search; raises ConfigError."""
    from pytest_agentperf.config.run import GateOptions
    from pytest_agentperf.core.errors import ConfigError

    mode = one_of(config, "mode", ("search", "gate"))
    named = {name: values(config, name) for name in ("baseline", "tolerance", "inconclusive")}
    if mode == "search":
        for name, given in named.items():
            if given and config.getoption(_BY_NAME[name].ini) is not None:
                raise ConfigError(
                    "this is for gates", where=_BY_NAME[name].flag, remedy="add --agentperf-mode=gate"
                )
        return None
    source = next(iter(named["baseline"]), None)
    baseline = None
    if source is not None:
        from pytest_agentperf.baselines import read_baseline

        baseline = read_baseline(config.invocation_params.dir / source)
    text = next(iter(named["tolerance"]), "5%")
    match = re.fullmatch(r"(\d{1,3}(?:\.\d*)?)(%?)", text)
    share = float(match[1]) / (100 if match[2] else 1) if match else 1.0
    if not share < 1:
        raise ConfigError(
            f"{text!r} is no share below 1",
            where=_BY_NAME["tolerance"].flag,
            remedy="give one, such as 5% or 0.05",
        )
    return GateOptions(share, baseline, source or "expected_agents of the system")


def one_of(config: pytest.Config, name: str, known: tuple[str, ...]) -> str:
    """Return an option's value, the first known one by default; raises ConfigError."""
    from pytest_agentperf.core.errors import ConfigError

    text = next(iter(values(config, name)), known[0])
    if text not in known:
        raise ConfigError(f"{text!r} is not known", where=_BY_NAME[name].flag, remedy=" or ".join(known))
    return text


def grace_s(config: pytest.Config) -> float:
    """Return how long requests in flight may take to end after Ctrl-C; raises ConfigError."""
    from pytest_agentperf.core.errors import ConfigError

    text = next(iter(values(config, "grace")), "10")
    if not re.fullmatch(r"\d{1,6}(\.\d*)?", text):
        raise ConfigError(
            f"{text!r} is no number of seconds from 0 on", where="--agentperf-grace", remedy="give one"
        )
    return float(text)


def results_folder(config: pytest.Config) -> Path:
    """Return the folder that run directories go to."""
    return config.invocation_params.dir / (next(iter(values(config, "results")), None) or RESULTS_DEFAULT)


def bundled_suite_arguments(args: list[str]) -> None:
    """Replace `suites/NAME[/test_capacity.py][::test]` by the bundled suite of that name where it does not exist.

    So the command line of the README works from any folder once the package is installed.
    """
    for i, argument in enumerate(args):
        path, colons, rest = argument.partition("::")
        parts = Path(path).parts
        if len(parts) < 2 or parts[0] != "suites" or Path(path).exists():
            continue
        from pytest_agentperf.config.bundled import SUITES

        bundled = SUITES.joinpath(*parts[1:])
        if bundled.exists():
            args[i] = f"{bundled}{colons}{rest}"
