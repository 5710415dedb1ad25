"""What software measures: this package's own source, and the versions of what could change a number."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata, util
from pathlib import Path

from pytest_agentperf import __version__

_PACKAGE = Path(__file__).parent
BUILD = "pytest-agentperf-build"
"""Stands among the versions where this package is compiled."""
_PACKAGES = ("httptools", "httpx", "numpy", "orjson", "pyarrow", "pydantic", "pytest", "pytest-xdist")


@cache
def software_digest() -> str:
    """Return the SHA-256 (hex) over this package's own source files: a version can be edited."""
    total = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        name = path.relative_to(_PACKAGE).as_posix()
        # Suites lie there in a wheel only, and have a digest of their own.
        if not name.startswith("bundled/"):
            total.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def compiled() -> bool:
    """Return whether modules of this package are compiled: it was built with HATCH_BUILD_HOOK_ENABLE_CUSTOM=1."""
    return util.find_spec("pytest_agentperf.compiled__mypyc") is not None


def software_versions() -> dict[str, str]:
    """Return the versions of what could change a number, and whether this package is compiled if it is."""
    versions = {"pytest-agentperf": __version__, "python": platform.python_version()}
    if compiled():
        versions[BUILD] = "compiled"
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {**versions, "platform": platform.platform(terse=True)}
