"""Which language an agent worked in, told from the files its tools touched."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentperf.core.trajectory import Trajectory

_EXTENSIONS = {
    "Python": "py pyi ipynb",
    "TypeScript": "ts tsx mts cts",
    "JavaScript": "js jsx mjs cjs",
    "Go": "go",
    "Rust": "rs",
    "Java": "java",
    "Kotlin": "kt kts",
    "C": "c h",
    "C++": "cc cpp cxx hpp hh hxx",
    "C#": "cs",
    "Ruby": "rb rake gemspec",
    "PHP": "php",
    "Swift": "swift",
    "Scala": "scala",
    "Elixir": "ex exs",
    "Dart": "dart",
    "Lua": "lua",
    "Shell": "sh bash zsh",
    "Haskell": "hs",
    "Zig": "zig",
}
_LANGUAGE_OF = {extension: name for name, text in _EXTENSIONS.items() for extension in text.split()}
_ENDINGS = "|".join(sorted(_LANGUAGE_OF, key=len, reverse=True))
_FILE = re.compile(rf"[\w./@-]*\w\.({_ENDINGS})\b")


def guess_language(trajectory: Trajectory) -> str | None:
    """Return the language of most files that the tool calls name, None if they name none."""
    files: set[str] = set()
    for message in trajectory.messages:
        for call in message.get("tool_calls") or ():
            arguments = (call.get("function") or {}).get("arguments")
            if isinstance(arguments, str):
                files.update(found[0] for found in _FILE.finditer(arguments[:20_000]))
    counts = Counter(_LANGUAGE_OF[name.rsplit(".", 1)[1]] for name in files)
    if not counts:
        return None
    # By name where two are equal, so that the answer does not depend on the order of a set.
    return min(counts, key=lambda name: (-counts[name], name))
