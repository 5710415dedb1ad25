"""The error tree.

AgentPerfError            what is wrong, where, what to do
├── ConfigError           a YAML file, a flag or an ini key
├── DatasetError          a dataset that is missing, broken or unsuitable
├── EndpointError         an endpoint that is unreachable, refuses us or serves another model
├── PreflightError        checks before the run that failed, all together
└── LoadError             the load generator itself
    └── LoadLimitError    this machine's open files or ports do not carry so many agents
"""

from __future__ import annotations


class AgentPerfError(Exception):
    """Base of all errors meant for the user: `what` is wrong, `where`, and the `remedy`."""

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  → {self.remedy}" if self.remedy else ""
        return f"{place}{self.what}{advice}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.remedy))


class ConfigError(AgentPerfError):
    """A YAML file, a flag or an ini key that cannot be used."""


class DatasetError(AgentPerfError):
    """A dataset that is missing, broken or unsuitable."""


class EndpointError(AgentPerfError):
    """An endpoint that is unreachable, refuses us or serves another model."""


class PowerError(AgentPerfError):
    """A power source that cannot be read."""


class PreflightError(AgentPerfError):
    """Checks before the run failed, so that it could not have been valid."""


class LoadError(AgentPerfError):
    """The load generator itself, a worker that died for instance."""


class LoadLimitError(LoadError):
    """This machine's open files or ports do not carry so many agents."""


def _rebuild(kind: type[AgentPerfError], what: str, where: str | None, remedy: str | None) -> AgentPerfError:
    return kind(what, where=where, remedy=remedy)
