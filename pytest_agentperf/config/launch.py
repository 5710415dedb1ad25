"""How a deployment's server is started: command lines, in order, and when they count as ready."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pytest_agentperf.config.urls import url_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PORT = re.compile(r"\{port(?::([A-Za-z0-9_]+))?\}")
_SECRET_NAME = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)
_SECRET_OPTION = re.compile(r"--(?:[a-z-]+-)?(?:api[-_]?key|token|password|secret)(?:=|$)", re.IGNORECASE)


class _Model(BaseModel):
    # The library's message would show the value, which may be a key in the wrong place.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


def _split(command: object) -> object:
    if not isinstance(command, str):
        return command
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ValueError(f"the quotes do not match ({error}); a list needs none") from None


def _is_command(command: tuple[str, ...]) -> tuple[str, ...]:
    if not command or not command[0]:
        raise ValueError("it is empty")
    if any("\0" in word for word in command):
        raise ValueError("it holds a NUL character, which no command line can")
    if any(_SECRET_OPTION.match(word) for word in command):
        raise ValueError(
            "a key on a command line is published with the result and shown to everybody on the host; "
            "give it by `environment`, as VLLM_API_KEY: ${VLLM_API_KEY}"
        )
    return command


def _keeps_secrets_out(environment: dict[str, str]) -> dict[str, str]:
    for name, value in environment.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{name!r} is no name of a variable")
        if "\0" in value:
            raise ValueError(f"{name} holds a NUL character, which no variable can")
        if value and _SECRET_NAME.search(name) and not _VARIABLE.search(value):
            raise ValueError(
                f"{name} looks like a secret, and this file is published with the result: "
                f"write ${{{name}}} and set the variable here"
            )
    return environment


def _is_place(ready: str) -> str:
    # Two slashes would lead to another host.
    if ready.startswith("/") and not ready.startswith("//"):
        return ready
    if not re.match("https?://", ready):
        raise ValueError("give a path of the endpoint, as /health, or an http(s) URL")
    if problem := url_problem(with_any_port(ready)):
        raise ValueError(problem)
    return ready


def _is_file(log: str) -> str:
    if "\0" in log or not PurePath(log).name or log.endswith("/"):
        raise ValueError("give the name of a file")
    if ".." in PurePath(log).parts:
        raise ValueError("it leads out of the run's folder for logs; give an absolute path instead")
    return log


Command = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_is_command)]
"""A list, or a string that is split as a shell would split it, and no more: no shell ever sees it."""
Environment = Annotated[dict[str, str], AfterValidator(_keeps_secrets_out)]
"""Added to this process's; `${NAME}` stands for the value of a variable here, which no file then holds."""
Ready = Annotated[str, AfterValidator(_is_place)]
Log = Annotated[str, AfterValidator(_is_file)]
"""A file for what a process writes, in the run's folder for logs unless absolute; never one that is there already."""


class LaunchedProcess(_Model):
    """One command line."""

    command: Command
    environment: Environment = Field(default_factory=dict)
    directory: str | None = None
    """Where it runs; relative to the system's file."""
    ready: Ready | None = None
    """What answers 200 once the next process may be started; at once if absent."""
    log: Log | None = None
    """Without it the file has the names of deployment and process."""


class Launch(_Model):
    """The processes of a deployment: one `command`, or several `processes` in the order of their start."""

    command: Command | None = None
    processes: dict[str, LaunchedProcess] = Field(default_factory=dict)
    environment: Environment = Field(default_factory=dict)
    """For every process; its own goes before."""
    directory: str | None = None
    log: Log | None = None
    """Of the one `command`; several processes have their own."""
    ready: Ready | None = None
    """A path of the endpoint (as /health) or a URL; without it: the endpoint lists the model."""
    ready_deadline_s: float = Field(default=1800.0, gt=0)
    """How long all processes together may take."""
    stop_signal: Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP"] = "SIGTERM"
    stop_grace_s: float = Field(default=30.0, ge=0)
    """After it, what is left is killed."""
    restart: bool = False
    """Whether a server that crashed is started anew, and the probe repeated."""

    @model_validator(mode="after")
    def _one_or_several(self) -> Launch:
        if (self.command is None) == (not self.processes):
            raise ValueError("give either `command` or `processes`")
        for name in self.processes:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
                raise ValueError(f"{name!r} is no name for a process: letters, digits, `_`, `.` and `-`")
        if self.log is not None and self.processes:
            raise ValueError("`log` is that of one command: give each of the `processes` its own")
        logs = [process.log for process in self.processes.values() if process.log is not None]
        if twice := sorted({log for log in logs if logs.count(log) > 1}):
            raise ValueError(f"{twice[0]!r} is the log of several processes: give each its own")
        return self

    def all_processes(self) -> dict[str, LaunchedProcess]:
        """Return every process by name, with what holds for all of them."""
        given = self.processes
        if self.command is not None:
            given = {"server": LaunchedProcess(command=self.command, log=self.log)}
        return {
            name: process.model_copy(
                update={
                    "environment": {**self.environment, **process.environment},
                    "directory": process.directory or self.directory,
                }
            )
            for name, process in given.items()
        }


def secret_variables(launch: Launch) -> set[str]:
    """Return the variables here whose values a launched process gets as a secret, by either name."""
    return {
        variable
        for process in launch.all_processes().values()
        for name, value in process.environment.items()
        for variable in _VARIABLE.findall(value)
        if _SECRET_NAME.search(name) or _SECRET_NAME.search(variable)
    }


def port_names(texts: Iterable[str]) -> set[str]:
    """Return which free ports are asked for: "" for `{port}`, NAME for `{port:NAME}`."""
    return {match[1] or "" for text in texts for match in _PORT.finditer(text)}


def with_ports(text: str, ports: Mapping[str, int]) -> str:
    """Return the text with each `{port}` and `{port:NAME}` as its number; other braces stay, as those of JSON."""
    return _PORT.sub(lambda match: str(ports[match[1] or ""]), text)


def with_any_port(text: str) -> str:
    """Return the text with a number for each port that is still to be found."""
    return _PORT.sub("1", text)


class LaunchEnvironment(NamedTuple):
    """What `${NAME}` stands for, and which variables were not set."""

    values: dict[str, str]
    missing: tuple[str, ...]

    @classmethod
    def read(cls, launch: Launch | None) -> LaunchEnvironment:
        """Look up every variable that the launch refers to; None refers to none."""
        if launch is None:
            return cls({}, ())
        names = sorted(
            {
                name
                for process in launch.all_processes().values()
                for value in process.environment.values()
                for name in _VARIABLE.findall(value)
            }
        )
        found = {name: os.environ[name] for name in names if os.environ.get(name)}
        return cls(found, tuple(name for name in names if name not in found))

    def __repr__(self) -> str:
        # The values may be keys.
        return f"<{', '.join(self.values) or 'nothing'}: not shown>"

    def fill(self, text: str) -> str:
        """Return the text with every `${NAME}` as its value."""
        return _VARIABLE.sub(lambda match: self.values[match[1]], text)
