"""Files that are no code: documentation, manifests, CI settings, and the rules that a project gives its agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.dataset.synth.phrases import COMMITS, README
from pytest_agentperf.dataset.synth.prose import Gaps, capitalised, sentence
from pytest_agentperf.dataset.synth.vocabulary import FIELDS, LIBRARIES, VERBS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.dataset.synth.draw import Stream
    from pytest_agentperf.dataset.synth.repository import Repository

_RULES = (
    "<Run|Use> `{command}` before you <finish|hand in a change>; it takes about {n} seconds.",
    "<Never|Do not> <edit|format> files under `{area}/` by hand: <they are generated|the owners review them>.",
    "<Name|Call> functions by a verb and a noun, like `{sym}`; <no abbreviations|no prefixes>.",
    "<Prefer|Use> `{lib}` <for|when handling> {noun}s; <do not add another library|older code uses {lib}>.",
    "<Every|Each> change of {field} <needs|must have> a test <next to|like> `{test}`.",
    "<Errors|Failures> of a {noun} are <raised|returned|logged once>, <never|not> <hidden|retried> <in|by> {area}.",
    "<Keep|Leave> `{sym}` <fast|pure|small>: it runs for <each|every> {noun}.",
    "<A|Each> {noun} is <owned|created|closed> by exactly one {noun}.",
)


def repository_gaps(repository: Repository, draw: Stream) -> Gaps:
    """Return what any sentence about a repository may ask for."""
    syntax = repository.syntax
    return Gaps(
        {
            "noun": lambda: draw.pick(repository.words),
            "field": lambda: draw.pick(FIELDS),
            "verb": lambda: draw.pick(VERBS),
            "area": lambda: draw.pick(repository.areas),
            "lib": lambda: draw.pick(LIBRARIES),
            "n": lambda: str(draw.between(2, 99)),
            "line": lambda: str(draw.between(12, 400)),
            "file": lambda: draw.pick(repository.sources),
            "fn": lambda: syntax.function_name(draw.pick(draw.pick(repository.modules).functions)),
            "sym": lambda: syntax.function_name(draw.pick(draw.pick(repository.modules).functions)),
            "test": lambda: draw.pick(repository.test_names(draw.pick(repository.modules[:6]))),
            "command": lambda: syntax.rows["build_cmd"],
        }
    )


def paragraph(templates: Sequence[str], count: int, draw: Stream, gaps: Gaps) -> str:
    """Return some sentences in a row."""
    return " ".join(capitalised(sentence(draw.pick(templates), draw, gaps)) for _ in range(count))


def document_lines(path: str, repository: Repository, draw: Stream) -> list[str]:
    """Return the lines of a file that is no code."""
    gaps = repository_gaps(repository, draw)
    if path == "AGENTS.md":
        return agent_rules(repository, draw, draw.between(8, 30))
    if path.endswith(".md"):
        return _markdown(path, repository, draw, gaps)
    if path.endswith(".yml"):
        return _ci(repository, draw)
    return _manifest(path, repository, draw)


def agent_rules(repository: Repository, draw: Stream, count: int) -> list[str]:
    """Return the rules that a repository gives to coding agents, as Markdown lines."""
    gaps = repository_gaps(repository, draw)
    lines = [f"# {repository.project.capitalize()}", "", paragraph(README, 2, draw, gaps), ""]
    for number in range(count):
        if number % 6 == 0:
            lines += ["", f"## {draw.pick(repository.areas).capitalize()}", ""]
        lines.append(f"- {paragraph(_RULES, 1, draw, gaps)}")
    return lines


def _markdown(path: str, repository: Repository, draw: Stream, gaps: Gaps) -> list[str]:
    lines = [f"# {path.removesuffix('.md').split('/')[-1].capitalize()}", ""]
    if path == "CHANGELOG.md":
        for minor in range(draw.between(6, 18), 0, -1):
            lines += [
                f"## 0.{minor}.{draw.below(4)} - 2024-{draw.between(1, 12):02}-{draw.between(1, 28):02}",
                "",
            ]
            lines += [f"- {sentence(draw.pick(COMMITS), draw, gaps)}" for _ in range(draw.between(2, 8))] + [
                ""
            ]
        return lines
    for _ in range(draw.between(4, 12)):
        lines += [f"## {draw.pick(VERBS).capitalize()} {draw.pick(repository.words)}s", ""]
        lines += [paragraph(README, draw.between(2, 5), draw, gaps), ""]
        if draw.chance(40):
            lines += ["```", repository.syntax.rows["build_cmd"], "```", ""]
    return lines


def _ci(repository: Repository, draw: Stream) -> list[str]:
    lines = ["name: ci", "on:", "  push:", "    branches: [main]", "  pull_request:", "jobs:"]
    for area in repository.areas[: draw.between(2, 4)]:
        lines += [
            f"  {area}:",
            "    runs-on: ubuntu-24.04",
            f"    timeout-minutes: {draw.between(5, 40)}",
            "    steps:",
        ]
        lines += ["      - uses: actions/checkout@v4", f"      - run: {repository.syntax.rows['build_cmd']}"]
        lines += [
            f"      - run: make {draw.pick(VERBS)}-{draw.pick(repository.words)}"
            for _ in range(draw.between(1, 3))
        ]
    return lines


def _manifest(path: str, repository: Repository, draw: Stream) -> list[str]:
    libraries = draw.sample(LIBRARIES, draw.between(6, 14))
    versions = [f"{draw.below(9)}.{draw.below(30)}.{draw.below(12)}" for _ in libraries]
    pairs = list(zip(libraries, versions, strict=True))
    if path.endswith(".json"):
        body = [f'    "{name}": "^{version}",' for name, version in pairs]
        return [
            "{",
            f'  "name": "{repository.project}",',
            '  "private": true,',
            '  "dependencies": {',
            *body,
            "  }",
            "}",
        ]
    if path.endswith(".toml"):
        body = [f'{name} = "{version}"' for name, version in pairs]
        return [
            "[project]",
            f'name = "{repository.project}"',
            'version = "0.4.2"',
            "",
            "[dependencies]",
            *body,
        ]
    return [f"# {repository.project}", *(f"{name} {version}" for name, version in pairs)]
