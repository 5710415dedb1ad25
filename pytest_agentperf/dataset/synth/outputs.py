"""What tools print about a repository: each output is cut to about a number of tokens, as real tools cut theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.dataset.synth.documents import paragraph, repository_gaps
from pytest_agentperf.dataset.synth.phrases import COMMITS, ERRORS, LOGS, README
from pytest_agentperf.dataset.synth.prose import sentence
from pytest_agentperf.dataset.synth.vocabulary import LIBRARIES, PEOPLE, VERBS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_agentperf.dataset.synth.draw import Stream
    from pytest_agentperf.dataset.synth.repository import Repository

# Tools print about that many bytes per token; the story corrects what this misses.
_BYTES_PER_10_TOKENS = 33


def within(lines: Iterable[str], tokens: int) -> list[str]:
    """Return the first lines that make up about that many tokens; at least one."""
    taken: list[str] = []
    left_bytes = tokens * _BYTES_PER_10_TOKENS // 10
    for line in lines:
        taken.append(line)
        left_bytes -= len(line) + 1
        if left_bytes <= 0:
            break
    return taken


class Outputs:
    """Prints what the tools of one agent would print about its repository."""

    def __init__(self, repository: Repository, draw: Stream) -> None:
        self._repository = repository
        self._draw = draw
        self._gaps = repository_gaps(repository, draw)

    def read(self, path: str, offset: int, tokens: int) -> tuple[str, int]:
        """Return a numbered part of a file, and how many lines it has."""
        lines = self._repository.lines(path)
        # Numbers cost about two tokens per line.
        shown = within((f"{line:7}" for line in lines[offset:]), tokens * 9 // 10)
        numbered = [f"{offset + i + 1}: {line}" for i, line in enumerate(lines[offset : offset + len(shown)])]
        last = offset + len(shown)
        end = (
            f"(End of file - total {len(lines)} lines)"
            if last >= len(lines)
            else f"(File has more lines. Use 'offset' {last + 1} to read on; {len(lines)} in total)"
        )
        body = "\n".join(numbered)
        path = f"{self._repository.root}/{path}"
        return f"<path>{path}</path>\n<type>file</type>\n<content>\n{body}\n\n{end}\n</content>", len(shown)

    def tree(self, tokens: int) -> str:
        """Return an indented listing of directories and files."""
        lines: list[str] = []
        above: list[str] = []
        for path in self._repository.paths():
            *folders, name = path.split("/")
            for depth, folder in enumerate(folders):
                if folders[: depth + 1] != above[: depth + 1]:
                    lines.append("  " * (depth + 1) + folder + "/")
            lines.append("  " * (len(folders) + 1) + name)
            above = folders
        return "\n".join([f"{self._repository.root}/", *within(lines, tokens)])

    def paths(self, tokens: int) -> str:
        """Return absolute paths, one a line, as a file search prints them."""
        paths = self._repository.paths()
        start = self._draw.below(max(len(paths) // 2, 1))
        return "\n".join(within((f"{self._repository.root}/{path}" for path in paths[start:]), tokens))

    def long_listing(self, folder: str, tokens: int) -> str:
        """Return what `ls -la` prints for a directory."""
        draw = self._draw
        names = [path.rsplit("/", 1)[-1] for path in self._repository.paths() if path.startswith(folder)]
        lines = (
            f"-rw-r--r-- 1 dev dev {draw.between(120, 48000):6} {draw.pick(('Jan', 'Mar', 'May', 'Aug', 'Oct'))} "
            f"{draw.between(1, 28):2} {draw.below(24):02}:{draw.below(60):02} {name}"
            for name in names
        )
        return "\n".join([f"total {draw.between(40, 900)}", *within(lines, tokens * 3 // 4)])

    def grep(self, word: str, tokens: int) -> str:
        """Return the lines that hold a word, grouped by file."""
        blocks: list[str] = []
        found = 0
        for path in self._search_order():
            hits = [
                f"  Line {n}: {line}"
                for n, line in enumerate(self._repository.lines(path), 1)
                if word in line
            ]
            if hits:
                blocks += [f"{self._repository.root}/{path}:", *hits, ""]
                found += len(hits)
            if sum(map(len, blocks)) * 10 > tokens * _BYTES_PER_10_TOKENS:
                break
        if not blocks:
            return "No files found"
        return "\n".join([f"Found {found} matches", *within(blocks, tokens)])

    def _search_order(self) -> Iterator[str]:
        """Yield files somebody opened, then a few more: writing all files to search them would take long."""
        opened = self._repository.opened()
        more = self._draw.sample(self._repository.sources, min(8, len(self._repository.sources)))
        yield from dict.fromkeys((*opened, *more))

    def log(self, tokens: int) -> str:
        """Return a commit history, one line a commit."""
        draw = self._draw
        lines = (f"{draw.hex(8)} {sentence(draw.pick(COMMITS), draw, self._gaps)}" for _ in range(400))
        return "\n".join(within(lines, tokens * 4 // 5))

    def blame(self, path: str, tokens: int) -> str:
        """Return who last changed each line of a file."""
        draw = self._draw
        lines = self._repository.lines(path)
        start = draw.below(max(len(lines) * 2 // 3, 1))
        authors = [
            (draw.hex(8), draw.pick(PEOPLE), f"2024-{draw.between(1, 12):02}-{draw.between(1, 28):02}")
            for _ in range(7)
        ]

        def line(n: int) -> str:
            commit, author, day = draw.pick(authors)
            return f"{commit} ({author:6} {day} {n + 1:4}) {lines[n]}"

        return "\n".join(within((line(n) for n in range(start, len(lines))), tokens * 3 // 4))

    def tests(self, path: str, failed: Sequence[str], tokens: int) -> str:
        """Return what the test runner prints about a test file."""
        repository, draw, syntax = self._repository, self._draw, self._repository.syntax
        outline = repository.outline(path)
        names = outline.gaps(syntax) | {
            "root": repository.root,
            "f": path,
            "h": draw.hex(12),
            "d": "/".join(path.split("/")[:-1]),
        }
        cases = repository.test_names(outline)
        numbers: dict[str, str | int] = {
            "k": len(cases),
            "q": len(failed),
            "good": len(cases) - len(failed),
            "s": str(draw.between(0, 9)),
            "ms": f"{draw.between(11, 980):03}",
        }
        lines = syntax.write("run_head", **names, **numbers).split("\n")
        details: list[str] = []
        for case in failed:
            details += ["", *self._failure(case, names, numbers)]
        tail = ["", *syntax.write("run_sum", **(numbers | names)).split("\n")]
        if not failed:
            tail = [
                line.replace("FAILED", "ok").replace("FAIL", "ok").replace("[ERROR]", "[INFO]")
                for line in tail
            ]
        rest = tokens - sum(map(len, (*lines, *details, *tail))) * 10 // _BYTES_PER_10_TOKENS
        results = (self._result(case, case in failed, names) for case in cases)
        return "\n".join([*lines, *within(results, max(rest, 1)), *within(details, tokens), *tail])

    def _result(self, case: str, failed: bool, names: dict[str, str]) -> str:
        draw, syntax = self._draw, self._repository.syntax
        numbers = {
            "k": str(draw.between(1, 60)),
            "q": "1",
            "s": "0",
            "ms": f"{draw.between(1, 970):03}",
            "l": str(draw.between(20, 300)),
        }
        named = {
            "n": syntax.function_name(case),
            "n_type": syntax.type_name(case),
            "w": case.replace("_", " "),
        }
        values = {"want": str(draw.below(90)), "got": str(draw.below(90))}
        return syntax.write("run_bad" if failed else "run_ok", **(names | numbers | named | values))

    def _failure(self, case: str, names: dict[str, str], numbers: dict[str, str | int]) -> list[str]:
        draw, syntax, repository = self._draw, self._repository.syntax, self._repository
        noun, field = draw.pick(repository.words), draw.pick(repository.modules[0].fields)[0]
        actual = syntax.write("of", v=syntax.variable_name(noun), f=syntax.variable_name(field))
        got, want = draw.pick(
            ((draw.below(500), draw.below(500)), (draw.below(9), draw.below(9)), ("[]", draw.below(40)))
        )
        want = want + 1 if got == want else want
        named = {
            "n": syntax.function_name(case),
            "n_type": syntax.type_name(case),
            "w": case.replace("_", " "),
        }
        values = {
            "a": actual,
            "b": str(want),
            "got": str(got),
            "want": str(want),
            "l": str(draw.between(20, 300)),
            "x": noun,
        }
        block = syntax.write(
            "block",
            **(names | numbers | named | {k: v for k, v in values.items() if k != "a"} | {"a": actual}),
        )
        return [*block.split("\n"), *(self.trace(draw.between(2, 7)) if draw.chance(35) else [])]

    def trace(self, frames: int) -> list[str]:
        """Return the lines of a stack trace through the repository's files."""
        repository, draw, syntax = self._repository, self._draw, self._repository.syntax
        lines = ["", *syntax.write("trace_head", p=repository.project).split("\n")]
        opened = [path for path in repository.opened() if path in repository.sources]
        for number in range(frames):
            path = draw.pick(opened or repository.sources)
            outline = repository.outline(path)
            content = repository.lines(path)
            at = draw.below(len(content))
            gaps = outline.gaps(syntax) | {
                "root": repository.root,
                "f": path,
                "l": str(at + 1),
                "h": draw.hex(12),
            }
            name = syntax.function_name(draw.pick(outline.functions))
            lines += syntax.write("trace", n=name, k=number, x=content[at].strip() or "...", **gaps).split(
                "\n"
            )
        return [*lines, *syntax.write("trace_end", x=sentence(draw.pick(LOGS), draw, self._gaps)).split("\n")]

    def build(self, problems: bool, tokens: int) -> str:
        """Return what compiler and linter print."""
        return "\n".join(within(self._build_lines(problems), tokens * 9 // 10))

    def _build_lines(self, problems: bool) -> Iterator[str]:
        repository, draw, syntax = self._repository, self._draw, self._repository.syntax
        if not problems:
            for path in draw.sample(repository.sources, min(12, len(repository.sources))):
                yield f"{draw.pick(('checking', 'building', 'linking', 'cached'))} {path} ({draw.between(2, 900)} ms)"
            yield syntax.write("build_ok", k=draw.between(20, 400), p=repository.project)
            return
        for _ in range(120):
            path = draw.pick(repository.sources)
            lines = repository.lines(path) if path in repository.opened() else []
            at = draw.below(len(lines)) if lines else draw.between(3, 300)
            what = sentence(draw.pick(ERRORS), draw, self._gaps)
            yield syntax.write(
                "diagnostic", f=path, l=at + 1, k=draw.pick(("error", "error", "warning")), x=what,
                code=str(draw.between(1001, 9030)), root=repository.root,
            )  # fmt: skip
            if lines and draw.chance(60):
                yield f"  {at + 1:4} | {lines[at]}"
                yield "       | " + " " * (len(lines[at]) // 2) + "^" * draw.between(3, 12)

    def application_log(self, tokens: int) -> str:
        """Return log lines of the running program, with a stack trace now and then."""
        return "\n".join(within(self._log_lines(), tokens * 2 // 3))

    def _log_lines(self) -> Iterator[str]:
        draw = self._draw
        second = draw.below(70_000)
        while True:
            second += draw.below(40)
            stamp = f"2024-06-11 {second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02},{draw.below(1000):03}"
            level = draw.pick(("INFO", "INFO", "INFO", "DEBUG", "DEBUG", "WARNING", "ERROR"))
            area, word = draw.pick(self._repository.areas), draw.pick(self._repository.words)
            yield (
                f"{stamp} {level:7} [{area}.{word}] {sentence(draw.pick(LOGS), draw, self._gaps)} "
                f"id={draw.hex(8)} took={draw.between(1, 4000)}ms"
            )
            if level == "ERROR" and draw.chance(50):
                yield from self.trace(draw.between(2, 6))

    def page(self, tokens: int) -> str:
        """Return a library's documentation page as a browser tool gives it."""
        draw = self._draw
        lines = [f"# {draw.pick(LIBRARIES)} - {draw.pick(VERBS)} reference", ""]
        while sum(map(len, lines)) * 10 < tokens * 45:
            lines += [f"## {draw.pick(VERBS)}_{draw.pick(self._repository.words)}", ""]
            lines += [paragraph(README, draw.between(2, 6), draw, self._gaps), ""]
        return "\n".join(within(lines, tokens * 5 // 4))

    def diff(self, path: str, changes: list[tuple[int, list[str], list[str]]], tokens: int) -> str:
        """Return changes of a file, each (line, old, new), as a unified diff."""
        lines = self._repository.lines(path)
        shown = [f"diff --git a/{path} b/{path}", f"index {self._draw.hex(9)}..{self._draw.hex(9)} 100644"]
        shown += [f"--- a/{path}", f"+++ b/{path}"]
        for at, old, new in changes:
            before, after = lines[max(at - 3, 0) : at], lines[at + len(new) : at + len(new) + 3]
            size = len(before) + len(after)
            shown.append(f"@@ -{max(at - 2, 1)},{size + len(old)} +{max(at - 2, 1)},{size + len(new)} @@")
            shown += [*(f" {x}" for x in before), *(f"-{x}" for x in old), *(f"+{x}" for x in new)]
            shown += [f" {x}" for x in after]
        return "\n".join(within(shown, tokens))
