"""What an agent does in one turn: tool calls with their arguments, and what comes back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.dataset.synth.outputs import Outputs, within

if TYPE_CHECKING:
    from pytest_agentperf.dataset.synth.draw import Stream
    from pytest_agentperf.dataset.synth.repository import Repository
    from pytest_agentperf.dataset.synth.thinking import Thinking


class Action(NamedTuple):
    """A tool call and its result."""

    tool: str
    arguments: dict[str, Any]
    result: str


class Actions:
    """Acts on a repository as one agent, and remembers what it has read, changed and broken."""

    def __init__(self, repository: Repository, thinking: Thinking, draw: Stream) -> None:
        self._repository = repository
        self._thinking = thinking
        self._draw = draw
        self.outputs = Outputs(repository, draw)
        self._read_to: dict[str, int] = {}
        self._changes: dict[str, list[tuple[int, list[str], list[str]]]] = {}
        cases = repository.test_names(repository.outline(thinking.focus))
        self._cases = draw.sample(cases, min(draw.between(1, 4), len(cases)))
        self._failing = len(self._cases)
        self._steps: list[str] = []
        self._done = 0

    def act(self, kind: str, tool: str, argument_tokens: int, result_tokens: int, *, fails: bool) -> Action:
        """Return one call of a kind, its arguments and its result of about the given sizes."""
        if tool == "read":
            return self._read(result_tokens, fails=fails)
        if tool == "edit":
            return self._edit(argument_tokens, result_tokens, fails=fails)
        if tool == "write":
            return self._write(argument_tokens)
        if tool == "todowrite":
            return self._plan_steps()
        if tool == "bash":
            return self._bash(kind, result_tokens, fails=fails)
        return self._look(tool, result_tokens, fails=fails)

    def changed_files(self) -> list[str]:
        """Return the files changed so far."""
        return list(self._changes)

    def _absolute(self, path: str) -> str:
        return f"{self._repository.root}/{path}"

    def _word(self) -> str:
        repository, draw = self._repository, self._draw
        outline = repository.outline(self._thinking.focus)
        function = repository.syntax.function_name(draw.pick(outline.functions))
        field = repository.syntax.variable_name(draw.pick(outline.fields)[0])
        return draw.pick(
            (function, field, draw.pick(repository.words), repository.syntax.type_name(outline.module))
        )

    def _look(self, tool: str, tokens: int, *, fails: bool) -> Action:
        repository, draw = self._repository, self._draw
        if tool == "grep":
            word = self._word()
            arguments = {"pattern": word if draw.chance(70) else f"{word}\\b", "path": repository.root}
            if draw.chance(50):
                arguments["include"] = f"*.{repository.syntax.extension}"
            return Action(tool, arguments, "No files found" if fails else self.outputs.grep(word, tokens))
        if tool == "glob":
            pattern = draw.pick(
                (f"**/*.{repository.syntax.extension}", f"**/*{draw.pick(repository.words)}*", "**/*")
            )
            return Action(
                tool, {"pattern": pattern}, "No files found" if fails else self.outputs.paths(tokens)
            )
        if tool == "list":
            return Action(tool, {"path": repository.root}, self.outputs.tree(tokens))
        url = f"https://docs.example.org/{draw.pick(repository.words)}/{draw.pick(repository.words)}"
        result = "Error: request failed with status 404" if fails else self.outputs.page(tokens)
        return Action(tool, {"url": url, "format": "markdown"}, result)

    def _next_file(self, tokens: int) -> str:
        """Choose what to read: the focus first, then its surroundings, mostly files large enough for the result."""
        repository, draw = self._repository, self._draw
        focus = self._thinking.focus
        near = [focus, repository.test_of(focus), *self.changed_files()]
        unread = [path for path in near if path not in self._read_to]
        if unread and (draw.chance(70) or tokens < 1_500):
            return unread[0]
        candidates = [
            draw.pick((*near, *repository.sources, *repository.sources, *repository.tests)) for _ in range(9)
        ]
        if draw.chance(8):
            candidates.append(draw.pick(repository.documents))
        left = [
            (repository.size_of(path) * (1 if path not in self._read_to else 2) // 2, path)
            for path in candidates
        ]
        fitting = [path for size, path in left if size * 2 >= tokens]
        return fitting[0] if fitting else max(left)[1]

    def _read(self, tokens: int, *, fails: bool) -> Action:
        path = self._next_file(tokens)
        if fails:
            missing = path.replace("/", "/_", 1) if self._draw.chance(50) else path + ".old"
            hint = f"\n\nDid you mean one of these?\n{self._absolute(path)}"
            text = f"Error: File not found: {self._absolute(missing)}{hint}"
            return Action("read", {"filePath": self._absolute(missing)}, text)
        total = len(self._repository.lines(path))
        offset = self._read_to.get(path, 0)
        if offset >= total - 4 or self._draw.chance(25):
            offset = self._draw.below(total * 2 // 3 + 1) if total > 60 and self._draw.chance(40) else 0
        if self._repository.size_of(path) * (total - offset) < tokens * total:
            offset = 0
        text, shown = self.outputs.read(path, offset, tokens)
        self._thinking.see(path, offset, self._repository.lines(path)[offset : offset + shown])
        self._read_to[path] = offset + shown
        arguments: dict[str, Any] = {"filePath": self._absolute(path)}
        if offset:
            arguments["offset"] = offset
        if offset + shown < total:
            arguments["limit"] = shown
        return Action("read", arguments, text)

    def _edit(self, argument_tokens: int, result_tokens: int, *, fails: bool) -> Action:
        repository, draw = self._repository, self._draw
        focus = self._thinking.focus
        code = [path for path in self._read_to if path in repository.sources or path in repository.tests]
        # Only what was read can be edited.
        path = focus if not code or (focus in code and draw.chance(55)) else draw.pick(code)
        lines = repository.lines(path)
        at, count = self._place(lines)
        old = lines[at : at + count]
        depth = (len(old[0]) - len(old[0].lstrip())) // len(repository.syntax.indent)
        wanted = max(argument_tokens - sum(map(len, old)) * 3 // 10, 12)
        added = within(repository.writer(path, draw).write_statements(wanted // 14 + 2, depth), wanted)
        new = [*old[: draw.below(count + 1)], *added]
        arguments = {
            "filePath": self._absolute(path),
            "oldString": "\n".join(old),
            "newString": "\n".join(new),
        }
        if fails:
            return Action(
                "edit", arguments, "Error: oldString not found in content. Read the file again and retry."
            )
        self._apply(path, at, old, new)
        result = "Edit applied successfully."
        if result_tokens > 60:
            found = self.outputs.build(True, result_tokens - 20)
            result += (
                f"\n\nLSP errors detected in this file, please fix:\n<diagnostics>\n{found}\n</diagnostics>"
            )
        return Action("edit", arguments, result)

    def _place(self, lines: list[str]) -> tuple[int, int]:
        """Choose lines to replace that occur only once, so that an exact edit finds them."""
        text = "\n".join(lines)
        for _ in range(40):
            at = self._draw.below(len(lines))
            count = min(self._draw.between(1, 5), len(lines) - at)
            if len(lines[at].strip()) > 8 and text.count("\n".join(lines[at : at + count])) == 1:
                return at, count
        return 0, len(lines)

    def _apply(self, path: str, at: int, old: list[str], new: list[str]) -> None:
        self._repository.lines(path)[at : at + len(old)] = new
        shift = len(new) - len(old)
        kept = [
            (start + shift if start > at else start, before, after)
            for start, before, after in self._changes.get(path, [])
            if start + len(after) <= at or start >= at + len(old)
        ]
        self._changes[path] = sorted([*kept, (at, old, new)])

    def _write(self, tokens: int) -> Action:
        repository, draw = self._repository, self._draw
        base = self._thinking.focus if draw.chance(50) else repository.test_of(self._thinking.focus)
        folder, _, name = base.rpartition("/")
        path = f"{folder}/{draw.pick(repository.words)}_{name}"
        outline = repository.outline(base)
        writer = repository.writer(base, draw)
        if base in repository.sources:
            lines = writer.write_file()
        else:
            lines = writer.write_tests(draw.sample(repository.test_names(outline), len(outline.functions)))
        while sum(map(len, lines)) * 3 < tokens * 10:
            lines = [
                *lines,
                "",
                *repository.writer(base, draw).write_function(draw.pick(outline.functions) + "_again"),
            ]
        lines = within(lines, tokens)
        repository.add_file(path, lines)
        self._changes.setdefault(path, [])
        self._read_to[path] = len(lines)
        content = "\n".join(lines) + "\n"
        return Action(
            "write", {"filePath": self._absolute(path), "content": content}, "Wrote file successfully."
        )

    def _plan_steps(self) -> Action:
        if not self._steps or self._done >= len(self._steps):
            self._steps = [self._thinking.remark().rstrip(".") for _ in range(self._draw.between(3, 6))]
            self._done = 0
        states = ["completed"] * self._done + ["in_progress"] + ["pending"] * len(self._steps)
        todos = [
            {"content": step, "status": state, "priority": "high" if i < 2 else "medium"}
            for i, (step, state) in enumerate(zip(self._steps, states, strict=False))
        ]
        self._done += 1
        text = json.dumps(todos, ensure_ascii=False, indent=2)
        return Action("todowrite", {"todos": json.dumps(todos, ensure_ascii=False)}, text)

    def _bash(self, kind: str, tokens: int, *, fails: bool) -> Action:
        command, description, output = self._command(kind, tokens)
        if fails:
            output = self._draw.pick((
                f"bash: line 1: {command.split()[0]}: command not found",
                "Command timed out after 120000 ms. Pass a longer timeout, or run a part of it.",
                f"fatal: not a valid object name: '{self._draw.hex(7)}'\n\nExit status: 128",
                "Permission denied\n\nExit status: 126",
            ))  # fmt: skip
        arguments: dict[str, Any] = {"command": command, "description": description}
        if kind == "test" and self._draw.chance(30):
            arguments["timeout"] = self._draw.between(1, 6) * 60_000
        return Action("bash", arguments, output)

    def _command(self, kind: str, tokens: int) -> tuple[str, str, str]:
        repository, draw, outputs = self._repository, self._draw, self.outputs
        path = self._thinking.focus
        if kind == "test":
            return self._tests(tokens)
        if kind == "build":
            problems = draw.chance(45) or tokens > 500
            if not problems:
                return (
                    repository.syntax.rows["build_cmd"],
                    "Build and check the project",
                    outputs.build(False, tokens),
                )
            return (
                repository.syntax.rows["build_cmd"],
                "Build and check the project",
                outputs.build(True, tokens),
            )
        if kind == "history":
            return self._history(path, tokens)
        if kind == "run":
            name = f"{draw.pick(repository.words)}-{draw.pick(repository.areas)}.log"
            command = (
                f"make {draw.pick(('run', 'demo', 'serve-once'))} 2>&1 | tail -n {draw.between(3, 20) * 10}"
            )
            return (
                draw.pick((command, f"tail -n 200 var/log/{name}")),
                "Look at the output",
                outputs.application_log(tokens),
            )
        if kind == "read":
            start = draw.below(max(len(repository.lines(path)) // 2, 1))
            shown = within(repository.lines(path)[start:], tokens)
            self._thinking.see(path, start, shown)
            return (
                f"sed -n '{start + 1},{start + len(shown)}p' {path}",
                "Show a part of the file",
                "\n".join(shown),
            )
        if kind == "search":
            word = self._word()
            return f"rg -n '{word}' | head -n 60", f"Search for {word}", outputs.grep(word, tokens)
        folder = draw.pick((path.rsplit("/", 1)[0], path.split("/")[0]))
        return f"ls -la {folder}", "List the directory", outputs.long_listing(folder, tokens)

    def _tests(self, tokens: int) -> tuple[str, str, str]:
        repository, draw = self._repository, self._draw
        test = repository.test_of(self._thinking.focus)
        names = repository.outline(test).gaps(repository.syntax) | {
            "f": test,
            "d": "/".join(test.split("/")[:-1]),
        }
        if self._changes and draw.chance(60):
            self._failing = max(self._failing - draw.between(1, 2), 0)
        elif not self._failing and draw.chance(20):
            self._failing = draw.between(1, len(self._cases))
        output = self.outputs.tests(test, self._cases[: self._failing], tokens)
        return repository.syntax.write("run_cmd", **names), "Run the tests", output

    def _history(self, path: str, tokens: int) -> tuple[str, str, str]:
        kind = self._draw.below(3)
        if kind == 0 and self._changes:
            parts = [
                self.outputs.diff(changed, changes, tokens)
                for changed, changes in self._changes.items()
                if changes
            ]
            if parts:
                return "git diff", "Show my changes", "\n".join(within("\n".join(parts).split("\n"), tokens))
        if kind == 1:
            return f"git blame {path}", "Show who changed the file", self.outputs.blame(path, tokens)
        count = max(tokens // 16, 3)
        return f"git log --oneline -n {count} -- {path}", "Show recent commits", self.outputs.log(tokens)
