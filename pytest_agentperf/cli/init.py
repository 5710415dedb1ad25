"""`agentperf init`: a suite, its test and a system of one's own, ready to be edited."""

from __future__ import annotations

import json
import re
import shlex
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    import argparse

HELP = "write a suite, its test and a system of your own, ready to be edited"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*")


def scaffold(directory: Path, *, name: str, model: str) -> list[Path]:
    """Write suite, test and system below `directory`; raises ConfigError, with nothing written, if any exists."""
    if not _NAME.fullmatch(name) or name.endswith((".yaml", ".yml")):
        raise ConfigError(
            f"{name!r} cannot name a suite and a system",
            where="agentperf init",
            remedy="begin with a letter or digit; then letters, digits, `_` and `.`, as in qwen3.5_coder",
        )
    if not model.strip():
        raise ConfigError("no model", where="--model", remedy="give the name that requests carry")
    values = {
        "name": name,
        "title": name,
        # A JSON string is a YAML string, whatever the model is called.
        "model": json.dumps(model, ensure_ascii=False),
        "variable": "AGENTPERF_" + name.upper().replace(".", "_"),
    }
    suite = directory / "suites" / name
    templates = {
        suite / "suite.yaml": "suite.yaml.in",
        suite / "test_capacity.py": "test_capacity.py.in",
        directory / "systems" / f"{name}.yaml": "system.yaml.in",
    }
    if existing := [path for path in templates if path.exists()]:
        raise ConfigError(
            f"already there: {', '.join(map(str, existing))}",
            where="agentperf init",
            remedy="choose another name, or move these away; nothing was written",
        )
    folder = files("pytest_agentperf") / "cli" / "templates"
    for path, template in templates.items():
        text = Template((folder / template).read_text(encoding="utf-8")).substitute(values)
        _write_new(path, text)
    return list(templates)


def _write_new(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # "x": a file that appeared since the check is not overwritten either.
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror}", where=str(path), remedy="check --directory"
        ) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `agentperf init`."""
    parser.add_argument("name", metavar="NAME", help="name of the new suite and the new system")
    parser.add_argument(
        "--model", required=True, metavar="MODEL", help="the model that requests name, as org/model"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where suites/ and systems/ are, or will be (default: here)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the files, and print them and the next command; raises ConfigError."""
    directory: Path = args.directory
    for path in scaffold(directory, name=args.name, model=args.model):
        print(f"wrote {path}")
    command = f"pytest suites/{args.name} --system={args.name}"
    if directory.resolve() != Path.cwd():
        # Systems are looked up from where pytest starts.
        command = f"cd {shlex.quote(str(directory))} && {command}"
    print(f"\nEdit the lines marked EDIT, set the endpoint's variable, then:\n\n    {command}")
    return 0
