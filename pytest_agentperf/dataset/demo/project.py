"""One made-up repository with one bug: its files, and what the tools print about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.dataset.demo.languages import FIELDS, NOUNS, PROJECTS, VERBS, Bug, Language, fill

if TYPE_CHECKING:
    from pytest_agentperf.dataset.demo.draw import Draw


class Project:
    """A repository drawn from a language's templates; all paths start at /workspace."""

    def __init__(self, language: Language, draw: Draw) -> None:
        self.language = language
        self._draw = draw
        self._verbs = draw.sample(VERBS, 8)
        self.values = {
            "project": draw.pick(PROJECTS),
            "noun": draw.pick(NOUNS),
            "field": draw.pick(FIELDS),
            "verb": self._verbs.pop(),
            "number": str(draw.between(20, 90)),
            "small": str(draw.between(3, 9)),
            "date": f"2024-{draw.between(1, 12):02}-{draw.between(1, 28):02}",
        }
        self.root = f"/workspace/{self.values['project']}"
        self.source_path = self.text(language.source_path)
        self.test_path = self.text(language.test_path)
        template: Bug = draw.pick(language.bugs)
        self.bug = Bug(*(self.text(part) for part in template))
        self.source = self._source()
        self.tests = self._tests()
        self.bug_line = self.source.split("\n").index(self.bug.wrong) + 1
        self.values |= {
            "test_path": self.test_path,
            "source_path": self.source_path,
            "bug_line": str(self.bug_line),
            "test_line": str(self.tests.count("\n") - draw.between(2, 8)),
            "wrong_count": "1" if ">=" in self.bug.wrong else "3",
        }

    def text(self, template: str) -> str:
        """Fill a template with this project's words."""
        return fill(template, self.values)

    def _source(self) -> str:
        parts = [self.text(self.language.header)]
        count = self._draw.between(2, len(self.language.functions))
        for template in self._draw.sample(self.language.functions, count):
            words = {
                "verb": self._verbs.pop(),
                "number": str(self._draw.between(10, 500)),
                "small": str(self._draw.between(2, 48)),
            }
            parts.append(fill(template, self.values | words))
        buggy = fill(self.language.buggy, self.values | {"bug": self.bug.wrong})
        parts.insert(self._draw.between(1, len(parts)), buggy)
        return "".join(parts) + self.text(self.language.footer)

    def _tests(self) -> str:
        closing = "}\n" if self.language.name == "Java" else ""
        return self.text(self.language.test_header) + self.text(self.language.test) + closing

    def read(self, path: str) -> str:
        """Return what the read tool prints for the source or the test file."""
        lines = (self.source if path == self.source_path else self.tests).rstrip("\n").split("\n")
        numbered = "\n".join(f"{n:05}| {line}" for n, line in enumerate(lines, 1))
        return f"<file>\n{numbered}\n\n(End of file - total {len(lines)} lines)\n</file>"

    def grep(self, word: str) -> str:
        """Return what the grep tool prints for a word."""
        blocks: list[str] = []
        matches = 0
        for path, content in ((self.source_path, self.source), (self.test_path, self.tests)):
            hits = [(n, line) for n, line in enumerate(content.split("\n"), 1) if word in line]
            matches += len(hits)
            if hits:
                blocks.append(
                    "\n".join([f"{self.root}/{path}:", *(f"  Line {n}: {line}" for n, line in hits)])
                )
        return "\n\n".join([f"Found {matches} matches", *blocks]) if blocks else "No files found"

    def paths(self) -> list[str]:
        """Return the repository's files, sorted."""
        return sorted([*map(self.text, self.language.sibling_paths), self.source_path, self.test_path])

    def glob(self) -> str:
        """Return what the glob tool prints for all files."""
        return "\n".join(f"{self.root}/{path}" for path in self.paths())

    def tree(self) -> str:
        """Return what the list tool prints for the repository."""
        lines = [f"{self.root}/"]
        above: list[str] = []
        for path in self.paths():
            *folders, name = path.split("/")
            for depth, folder in enumerate(folders):
                if folders[: depth + 1] != above[: depth + 1]:
                    lines.append("  " * (depth + 1) + folder + "/")
            lines.append("  " * (len(folders) + 1) + name)
            above = folders
        return "\n".join(lines)

    def log(self) -> str:
        """Return what `git log --oneline` prints."""
        subjects = [
            "@verb@ @noun@s in the nightly job",
            "rename @noun@ labels",
            "raise the default limit to @number@",
            "ci: cache dependencies",
            "read @field@ from the settings",
            "fix typo in README",
            "add a test for empty @noun@s",
        ]
        chosen = self._draw.sample(subjects, self._draw.between(3, 6))
        return "\n".join(f"{self._draw.hex(7)} {self.text(subject)}" for subject in chosen)

    def diff(self) -> str:
        """Return what `git diff` prints once the bug is fixed."""
        lines = self.source.split("\n")
        at = self.bug_line - 1
        before, after = lines[at - 3 : at], lines[at + 1 : at + 4]
        start = self.bug_line - 3
        return "\n".join(
            [
                f"diff --git a/{self.source_path} b/{self.source_path}",
                f"index {self._draw.hex(7)}..{self._draw.hex(7)} 100644",
                f"--- a/{self.source_path}",
                f"+++ b/{self.source_path}",
                f"@@ -{start},7 +{start},7 @@",
                *(f" {line}" for line in before),
                f"-{self.bug.wrong}",
                f"+{self.bug.right}",
                *(f" {line}" for line in after),
            ]
        )
