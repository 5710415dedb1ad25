"""What every page needs that asks nobody for anything: its style, its libraries, and a policy that allows no more."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = files("pytest_agentperf") / "results" / "report"
_LIBRARIES = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")


def base_style() -> str:
    """Return the style sheet that all pages of this package share."""
    return asset("base.css")


def libraries() -> list[str]:
    """Return the scripts that draw charts."""
    # A browser's tools would ask for the map.
    return [re.sub(r"\n//# sourceMappingURL=.*", "", package_text("vendor", name)) for name in _LIBRARIES]


def content_policy(scripts: Sequence[str], style: str) -> str:
    """Allow exactly these scripts and this style sheet, and no connection to anywhere."""
    allowed = " ".join(map(_hash, scripts)) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def inert(value: dict[str, Any]) -> str:
    """Return JSON in which nothing can end the element that it stands in, whatever names say."""
    made = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return made.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def package_text(*names: str) -> str:
    """Return a file of the report's folder."""
    return _HERE.joinpath(*names).read_text("utf-8")


def asset(name: str) -> str:
    """Return a template, script or style sheet of our own."""
    return package_text("assets", name)


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
