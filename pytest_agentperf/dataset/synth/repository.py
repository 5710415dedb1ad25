"""A made-up repository: its modules and files, which exist as soon as somebody looks, and change when edited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.dataset.synth.code import CodeWriter, Outline, Symbol
from pytest_agentperf.dataset.synth.documents import document_lines
from pytest_agentperf.dataset.synth.draw import Stream
from pytest_agentperf.dataset.synth.vocabulary import (
    ADJECTIVES,
    AREAS,
    DOMAINS,
    FIELDS,
    GENERIC_NOUNS,
    PROJECTS,
    VERBS,
)

if TYPE_CHECKING:
    from pytest_agentperf.dataset.synth.syntax import Syntax

_KINDS = ("int", "int", "int", "text", "bool", "items", "map")


class Repository:
    """All paths start at `root`; a file's text depends on the key and its path only, until it is edited."""

    def __init__(self, syntax: Syntax, key: str) -> None:
        self.syntax = syntax
        self._key = key
        draw = Stream(key, "repository")
        self.project = draw.pick(PROJECTS)
        self.root = f"/workspace/{self.project}"
        domains = draw.sample(sorted(DOMAINS), 2)
        own = (*DOMAINS[domains[0]], *draw.sample(DOMAINS[domains[1]], 8))
        self.words: tuple[str, ...] = tuple(dict.fromkeys((*own, *draw.sample(GENERIC_NOUNS, 22))))
        self.areas = draw.sample(AREAS, draw.between(5, 9))
        self.modules = self._outlines(draw)
        self._files: dict[str, list[str]] = {}
        self.sources = [self._path("path", module) for module in self.modules]
        self.tests = [self._path("test_path", module) for module in self.modules]
        manifest = syntax.rows["manifest"]
        self.documents = ["README.md", "AGENTS.md", "CHANGELOG.md", manifest, ".github/workflows/ci.yml"]
        self.documents += [f"docs/{area}.md" for area in self.areas[:4]]
        self._outline_of = dict(zip(self.sources, self.modules, strict=True))
        self._tested = dict(zip(self.tests, self.modules, strict=True))

    def _outlines(self, draw: Stream) -> list[Outline]:
        names = list(dict.fromkeys(self._module_name(draw) for _ in range(draw.between(24, 60))))
        functions = [self._function_names(draw) for _ in names]
        areas = [draw.pick(self.areas) for _ in names]
        outlines = []
        for i, name in enumerate(names):
            others = [draw.below(len(names)) for _ in range(draw.between(1, 5))]
            imports = tuple(
                Symbol(draw.pick(functions[j]), areas[j], names[j]) for j in dict.fromkeys(others) if j != i
            )
            fields = ["state", *draw.sample(FIELDS, draw.between(4, 8))]
            kinds = ["int", "items", "map", *(draw.pick(_KINDS) for _ in fields)]
            typed = tuple(zip(fields, kinds, strict=False))
            outlines.append(Outline(self.project, areas[i], name, typed, functions[i], imports))
        return outlines

    def _module_name(self, draw: Stream) -> str:
        first, second = draw.pick(self.words), draw.pick(GENERIC_NOUNS)
        return draw.pick(
            (f"{first}_{second}", f"{first}_{second}", first, f"{draw.pick(ADJECTIVES)}_{first}")
        )

    def _function_names(self, draw: Stream) -> tuple[str, ...]:
        count = 4 + draw.below(10) * draw.below(6)
        names = (
            f"{draw.pick(VERBS)}_{draw.pick((draw.pick(self.words), draw.pick(ADJECTIVES) + '_' + draw.pick(self.words)))}"
            for _ in range(count)
        )
        return tuple(dict.fromkeys(names))

    def _path(self, construct: str, module: Outline) -> str:
        return self.syntax.write(construct, **module.gaps(self.syntax))

    def outline(self, path: str) -> Outline:
        """Return the module that a source or test file is about; any module for other files."""
        return self._outline_of.get(path) or self._tested.get(path) or self.modules[0]

    def test_of(self, path: str) -> str:
        """Return the test file of a source file."""
        return self._path("test_path", self.outline(path))

    def test_names(self, module: Outline) -> list[str]:
        """Return the names of a module's tests."""
        draw = Stream(self._key, "tests", module.module)
        return [
            f"{function}_{draw.pick(('keeps', 'rejects', 'handles', 'skips', 'returns', 'updates'))}_"
            f"{draw.pick(ADJECTIVES)}_{draw.pick(self.words)}"
            for function in module.functions
        ]

    def lines(self, path: str) -> list[str]:
        """Return the file's lines; the list changes with edits."""
        if path not in self._files:
            self._files[path] = self._written(path)
        return self._files[path]

    def _written(self, path: str) -> list[str]:
        draw = Stream(self._key, "file", path)
        if path in self._outline_of:
            return CodeWriter(self.syntax, self._outline_of[path], self.words, draw).write_file()
        if path in self._tested:
            module = self._tested[path]
            return CodeWriter(self.syntax, module, self.words, draw).write_tests(self.test_names(module))
        return document_lines(path, self, draw)

    def opened(self) -> list[str]:
        """Return the files somebody has looked at, in that order."""
        return list(self._files)

    def writer(self, path: str, draw: Stream) -> CodeWriter:
        """Return a writer of code that fits into a file."""
        return CodeWriter(self.syntax, self.outline(path), self.words, draw)

    def add_file(self, path: str, lines: list[str]) -> None:
        """Write a file as a whole."""
        self._files[path] = list(lines)

    def paths(self) -> list[str]:
        """Return all files, sorted."""
        return sorted({*self.sources, *self.tests, *self.documents, *self._files})

    def size_of(self, path: str) -> int:
        """Return about how many tokens reading a file takes, without writing it."""
        if path in self._files:
            return sum(map(len, self._files[path])) * 2 // 7
        per_function = 120 if path in self._outline_of else 95
        return 150 + per_function * len(self.outline(path).functions)
