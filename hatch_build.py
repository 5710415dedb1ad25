"""Compiles the modules in which a rehearsal spends its time, where HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 asks for it.

The same source runs interpreted and compiled, and computes the same: tests/rehearsal/test_compiled.py.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from setuptools import Extension

PACKAGE = "pytest_agentperf"
SHARED = f"{PACKAGE}.compiled"
"""The modules are one library, as calls within one cost least; mypyc adds `__mypyc` to its name."""
MODULES = (
    "core/agent.py",
    "load/driver.py",
    "sim/clock.py",
    "sim/transport.py",
    *(
        f"sim/engine/{name}.py"
        for name in (
            "block_cache",
            "chunk_plan",
            "core",
            "counters",
            "draws",
            "energy",
            "rank",
            "replica",
            "routing",
            "scheduling",
            "sequence",
            "session_cache",
            "speculation",
            "step_time",
            "stretch",
        )
    ),
)


class CompilingHook(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel, beside their source."""

    _folder: tempfile.TemporaryDirectory[str]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, before the wheel is put together."""
        if version == "editable":
            raise ValueError("an editable install is not compiled: edits would not reach what runs")
        self._folder = tempfile.TemporaryDirectory(prefix="agentperf-build-")
        libraries = _compile(Path(self.root), Path(self._folder.name))
        build_data["force_include"].update(libraries)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel now holds."""
        self._folder.cleanup()


def _compile(root: Path, folder: Path) -> dict[str, str]:
    """Return the path of every library, and its path in the wheel."""
    from setuptools import Distribution

    command = Distribution({"name": PACKAGE, "ext_modules": _extensions(root, folder)}).get_command_obj(
        "build_ext"
    )
    built = folder / "built"
    command.build_lib, command.build_temp = str(built), str(folder / "objects")
    command.ensure_finalized()
    command.run()
    return {str(path): path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}


def _extensions(root: Path, folder: Path) -> list[Extension]:
    from mypyc.build import mypycify

    extensions: list[Extension] = mypycify(
        [
            # Not the project's settings; and no types of other packages, so that what is installed changes nothing.
            "--config-file=",
            "--no-site-packages",
            "--ignore-missing-imports",
            "--follow-imports=silent",
            f"--cache-dir={folder / 'mypy'}",
            *(str(root / PACKAGE / module) for module in MODULES),
        ],
        group_name=SHARED,
        target_dir=str(folder / "c"),
        debug_level="0",
    )
    for extension in extensions:
        # Another compiler's warnings are no reason not to build; a product and a sum in one instruction, where the
        # processor has it, would round once where Python rounds twice.
        flags = [flag for flag in extension.extra_compile_args if flag != "-Werror"]
        extension.extra_compile_args = [*flags, "-ffp-contract=off"]
    return extensions
