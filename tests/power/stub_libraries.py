"""Builds the stub libraries for the versions of the packages that are installed."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

STUBS = Path(__file__).parent / "stubs"
_BUILT = tempfile.TemporaryDirectory(prefix="agentperf-stubs-")

_LAYOUT = """
import ctypes, sys
import amdsmi.amdsmi_wrapper as wrapper
for name in sys.argv[1:]:
    structure, _, member = name.partition("__")
    kind = getattr(wrapper, f"amdsmi_{structure}_t")
    if not member:
        print(f"#define SIZE_{name} {ctypes.sizeof(kind)}")
    elif (found := getattr(kind, member, None)) is None:
        print(f"#define AT_{name} 0, 0")
    else:
        text = isinstance(getattr(kind(), member), bytes)
        print(f"#define AT_{name} {found.offset}, {found.size if text else min(found.size, 8)}")
"""
"""Where the members of the package's structures are; of an array, at most the first eight bytes."""


PACKAGES = {"nvml": "pynvml", "old nvml": "pynvml", "amdsmi": "amdsmi"}


def missing(name: str) -> str | None:
    """Return why a package cannot be run against its stub here; None if it can."""
    if sys.platform != "linux":
        return "the stubs are built for Linux"
    if shutil.which("gcc") is None:
        return "gcc is not installed"
    package = PACKAGES[name]
    return None if importlib.util.find_spec(package) else f"{package} is not installed"


@cache
def library(name: str) -> Path:
    """Build a stub, once per process, and return the folder that makes the package find it."""
    if reason := missing(name):
        pytest.skip(reason)
    folder = Path(_BUILT.name, name)
    if name == "amdsmi":
        return build_amdsmi(folder)
    # A driver from before there were field values.
    flags = ["-DOLD_DRIVER"] if name == "old nvml" else []
    return _compile(STUBS / "nvml.c", folder / "libnvidia-ml.so.1", *flags).parent


def _compile(source: Path, library: Path, *flags: str) -> Path:
    library.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-shared", "-fPIC", "-O2", "-w", f"-Wl,-soname,{library.name}", *flags]
    subprocess.run([*command, "-o", str(library), str(source), "-lm"], check=True, timeout=120)
    return library


def build_amdsmi(folder: Path, *, leave_out: str | None = None) -> Path:
    """Return a folder for ROCM_PATH. The package wants each of some 180 functions; most only fail."""
    source = (STUBS / "amdsmi.c").read_text(encoding="utf-8")
    spec = importlib.util.find_spec("amdsmi")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    wrapper = Path(spec.submodule_search_locations[0], "amdsmi_wrapper.py").read_text(encoding="utf-8")
    wanted = set(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", wrapper)) - {leave_out}
    library = folder / "lib" / "libamd_smi.so"
    empty = folder / "empty.c"
    folder.mkdir(parents=True, exist_ok=True)
    empty.write_text(
        "".join(f"int {name}(void) {{ return 2; }}\n" for name in sorted(wanted)), encoding="utf-8"
    )
    _compile(empty, library)
    own = set(re.findall(r"^int (amdsmi_\w+)\(", source, re.MULTILINE))
    fill = "".join(f"int {name}(void) {{ return 2; }}\n" for name in sorted(wanted - own))
    (folder / "fill.h").write_text(fill, encoding="utf-8")
    if leave_out is None:
        members = sorted(set(re.findall(r"\b(?:AT|SIZE)_(\w+)\b", source)) - {"structure__member"})
        layout = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _LAYOUT, *members],
            env={
                "ROCM_PATH": str(folder),
                "PYTHONPATH": str(Path(spec.submodule_search_locations[0]).parent),
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        (folder / "layout.h").write_text(layout.stdout, encoding="utf-8")
        _compile(STUBS / "amdsmi.c", library, f"-I{folder}")
    return folder
