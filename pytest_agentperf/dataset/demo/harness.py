"""The part of a demo request that every agent shares: the system prompt and the tools."""

from __future__ import annotations

from typing import Any

SYSTEM_PROMPT = """You are a coding agent that works in a terminal, inside the user's repository. You \
finish the task \
you are given with the tools below, and you stop when it is done.

# How to work
- Look before you change anything: find the code that the task is about, read it, and read its tests. \
Never guess \
what a file contains.
- Make the smallest change that solves the task. Keep the style, the names and the libraries that the \
project already \
uses. Do not add a dependency without being asked to.
- Do not touch code that has nothing to do with the task, even if you would have written it differently. \
Mention it \
in your answer instead.
- After a change, run the tests that cover it. If the project has a linter or a type checker, run it as \
well. If you \
cannot find out how, say so.
- Never commit, push, or rewrite history unless the user asks for it. Never print or store secrets.
- Comments explain why something is done, where that is not obvious. Do not write comments that repeat \
the code.

# How to use the tools
- Call several tools at once when their results do not depend on each other, for example when you read \
two files.
- Prefer `read`, `grep` and `glob` to shell commands that do the same. Use `bash` for tests, builds and git.
- `edit` needs the exact text of the file, without the line numbers that `read` prints. If the text \
occurs more than \
once, give more lines around it.
- Quote paths that contain spaces. Use absolute paths. Do not change directory unless you have to.
- A tool may fail. Read its message, find the cause, and try another way; do not repeat the same call \
unchanged.

# How to answer
- Be short. One to three sentences are enough unless the user asks for more. No preamble and no summary \
of what you \
are about to do.
- Refer to code as `path:line`, so that the user can open it.
- When you run a command that changes something outside the repository, explain what it does and why first.

# Environment
Working directory: /workspace/@project@
Is a git repository: yes
Platform: linux
Today's date: @date@
"""


def _tool(name: str, about: str, required: int, /, **parameters: tuple[str, str]) -> dict[str, Any]:
    """Describe a tool; the first `required` parameters are mandatory, each is (type, description)."""
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": about,
            "parameters": {
                "type": "object",
                "properties": {
                    key: {"type": kind, "description": text} for key, (kind, text) in parameters.items()
                },
                "required": list(parameters)[:required],
                "additionalProperties": False,
            },
        },
    }


TOOLS: tuple[dict[str, Any], ...] = (
    _tool(
        "bash",
        "Runs a command in a shell and returns what it printed. The shell keeps no state between "
        "calls. Output above "
        "30000 characters is cut. Use it for tests, builds and git, not for reading or searching files.",
        2,
        command=("string", "The command to run"),
        description=("string", "What the command does, in five to ten words"),
        timeout=("number", "Time limit in milliseconds; 120000 if not given"),
    ),
    _tool(
        "read",
        "Reads a text file and returns its lines with their numbers. Reads up to 2000 lines from the "
        "start unless an "
        "offset and a limit are given.",
        1,
        filePath=("string", "The absolute path of the file"),
        offset=("number", "The line to start from, counted from 0"),
        limit=("number", "How many lines to read"),
    ),
    _tool(
        "edit",
        "Replaces text in a file. The old text must occur exactly once, unless replaceAll is set. "
        "The file must have "
        "been read before in this conversation.",
        3,
        filePath=("string", "The absolute path of the file"),
        oldString=("string", "The text to replace, with its exact indentation"),
        newString=("string", "The text to put in its place"),
        replaceAll=("boolean", "Replace every occurrence"),
    ),
    _tool(
        "write",
        "Writes a file, replacing it if it exists. Prefer edit for files that exist.",
        2,
        filePath=("string", "The absolute path of the file"),
        content=("string", "The whole new content"),
    ),
    _tool(
        "grep",
        "Searches file contents with a regular expression and returns the matching lines, grouped by "
        "file. At most "
        "100 matches are returned.",
        1,
        pattern=("string", "The regular expression"),
        path=("string", "The directory to search; the working directory if not given"),
        include=("string", "A pattern of file names to search, for example *.{ts,tsx}"),
    ),
    _tool(
        "glob",
        "Finds files by name and returns their paths, the last changed first.",
        1,
        pattern=("string", "The pattern, for example src/**/*.py"),
        path=("string", "The directory to search; the working directory if not given"),
    ),
    _tool(
        "list",
        "Lists a directory as a tree. Ignored files are left out.",
        0,
        path=("string", "The absolute path of the directory"),
    ),
    _tool(
        "todowrite",
        "Replaces the list of steps of the current task. Use it for tasks of three or more steps, "
        "and keep exactly "
        "one step in progress.",
        1,
        todos=("string", "The steps as a JSON list of objects with content, status and priority"),
    ),
)
