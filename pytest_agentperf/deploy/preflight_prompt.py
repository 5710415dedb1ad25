"""The conversation that the checks before a run send: a thousand tokens or so, with tools, like an agent's first turn.

Long enough that a template which renders the tools before the isolation prefix shows itself.
"""

from __future__ import annotations

import hashlib
from typing import Any

_SUBJECTS = (
    "reads a file and returns its lines with their numbers",
    "writes a file, and creates the folders that lead to it",
    "replaces one piece of text in a file by another, which must occur exactly once",
    "runs a command in a shell and returns what it printed and its exit status",
    "lists the files of a folder, those that version control ignores left out",
    "searches the files of a project for a regular expression and shows the lines around each hit",
    "runs the tests of a project, all or those that match a pattern",
    "fetches a page of documentation and returns its text without markup",
)
_NAMES = ("read", "write", "edit", "shell", "list", "search", "test", "fetch")


def _tool(name: str, purpose: str) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": f"This tool {purpose}. Give paths relative to the project's root.",
            "parameters": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "The file or folder to work on."},
                    "argument": {
                        "type": "string",
                        "description": f"What the tool {name} needs besides a path.",
                    },
                },
                "required": ["path"],
            },
        },
    }


TOOLS = [_tool(name, purpose) for name, purpose in zip(_NAMES, _SUBJECTS, strict=True)]
_TASK = " ".join(f"Decide whether the tool that {purpose} would help." for purpose in _SUBJECTS)


def conversation(nonce: str) -> list[dict[str, str]]:
    """Return the messages; the first opens with a prefix of the run's kind, made from `nonce`."""
    prefix = hashlib.sha512(f"preflight {nonce}".encode()).hexdigest()
    return [
        {"role": "system", "content": f"{prefix}\nYou are a coding agent. {_TASK}"},
        {
            "role": "user",
            "content": "Which of your tools would you use first to find a failing test, and why?",
        },
    ]
