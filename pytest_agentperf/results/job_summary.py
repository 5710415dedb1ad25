"""What a CI job shows of leaderboards: a Markdown summary, and GitHub's annotations of what needs somebody's eyes.

Reasons quote servers, and names are anybody's: no text of theirs is markup, a link, a mention or a workflow command.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import quote

from pytest_agentperf.core.counts import agents_count
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.results.decision import decision_lines
from pytest_agentperf.results.tables import gate_text, nature, number, objections
from pytest_agentperf.results.tier_result import asserted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentperf.core.baseline import Baseline
    from pytest_agentperf.core.leaderboard import Entry, TierResult

_HEAD = ("system", "tier", "verdict", "agents", "baseline", "against it", "speed P25", "TTFT P95")
_TEXT_MAX_CHARS = 1_000


class Annotation(NamedTuple):
    """One line that GitHub shows on the workflow's page."""

    level: Literal["error", "warning", "notice"]
    title: str
    message: str

    def command(self) -> str:
        """Return it as a workflow command."""
        title = _escaped_data(self.title).replace(":", "%3A").replace(",", "%2C")
        return f"::{self.level} title={title}::{_escaped_data(self.message)}"


def summary_markdown(entry: Entry, *, baseline: Baseline | None, report: str | None) -> str:
    """Return one entry as Markdown; `report`: the address or path that its report is found at."""
    title = f"{entry.suite.get('title') or entry.suite['name']} on {entry.system['name']}"
    lines = [
        f"### {plain(title)}{' (SIMULATED)' if entry.simulated else ''}",
        "",
        f"edition {plain(entry.edition)}, ruleset {plain(entry.ruleset.id)}, dataset {plain(entry.dataset.name)}",
        "",
        f"| {' | '.join(_HEAD)} |",
        f"|{'---|' * len(_HEAD)}",
        *(_row(entry, tier, baseline) for tier in entry.tiers),
        "",
        *(f"- {plain(text)}" for text in _remarks(entry)),
    ]
    if report is not None:
        lines += ["", f"[Report]({quote(report, safe=_LINK_SAFE)})"]
    return "\n".join(lines).rstrip() + "\n"


def tier_annotations(entry: Entry, *, baseline: Baseline | None) -> Iterator[Annotation]:
    """Yield what somebody should look at: tiers that failed, have no answer, or got better; each reason once."""
    told_with_tier = set()
    for tier in entry.tiers:
        verdict, reason = asserted(tier)
        title = f"{entry.system['name']} {tier.tier.name}: {verdict}"
        told = "\n".join([reason or _answer(tier), *_where(entry, tier)])
        improved = _improved(entry, tier, baseline)
        if verdict != Verdict.PASS.value:
            yield Annotation("error" if verdict == Verdict.FAIL.value else "warning", title, told)
            if reason is not None:
                # As the entry says what keeps it from being valid or complete.
                told_with_tier.add(f"{tier.tier.name}: {tier.reason}")
        elif improved is not None:
            yield Annotation(
                "notice",
                f"{entry.system['name']} {tier.tier.name}: {agents_count(improved)}",
                "more than the baseline: `agentperf baseline accept` makes them the new one",
            )
    for word, flag in (("not valid", entry.valid), ("incomplete", entry.complete)):
        if left := [text for text in flag.reasons if text not in told_with_tier]:
            yield Annotation("warning", f"{entry.system['name']}: {word}", "; ".join(left))


_LINK_SAFE = "/:?=&%#~+,;@!-._"
# Whatever begins markup, a link, a mention or a workflow command of either kind.
_MARKUP = re.compile(r"[\\`*_\[\]#|~$]")


def plain(text: str) -> str:
    """Return text as Markdown that shows it and does nothing else, on one line, wherever that begins."""
    # What begins a line may make it a list.
    return re.sub(
        r"^([-=+]|\d+[.)](?=\s|$))", lambda found: f"&#{ord(found[0][0])};{found[0][1:]}", _inline(text)
    )


def _inline(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(line) > _TEXT_MAX_CHARS:
        line = line[: _TEXT_MAX_CHARS - 1] + "…"
    escaped = _MARKUP.sub(r"\\\g<0>", html.escape(line, quote=False))
    # As entities: neither addresses nor names of people become links.
    escaped = re.sub(r":(?=[/:])|(?<=mailto):|(?<=xmpp):", "&#58;", escaped)
    return re.sub(r"(?i)(www)\.", r"\1&#46;", escaped.replace("@", "&#64;"))


def _escaped_data(text: str) -> str:
    shown = text if len(text) <= _TEXT_MAX_CHARS else text[: _TEXT_MAX_CHARS - 1] + "…"
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _row(entry: Entry, tier: TierResult, baseline: Baseline | None) -> str:
    verdict, _ = asserted(tier)
    metrics = tier.metrics
    agents = "–" if tier.agents is None else f"{'≥ ' if tier.at_least or tier.gate else ''}{tier.agents:,}"
    known = _baseline_agents(entry, tier, baseline)
    cells = [
        entry.system["name"],
        f"{tier.tier.name} ({tier.tier})",
        verdict if entry.valid.value else f"{verdict}, not valid",
        agents,
        "–" if known is None else f"{known:,}",
        _against(tier, known),
        f"{number(metrics.output_speed_p25_tok_s)} tok/s" if metrics else "–",
        f"{number(metrics.ttft_p95_s, 2, otherwise='∞')} s" if metrics else "–",
    ]
    return f"| {' | '.join(_inline(cell) for cell in cells)} |"


def _baseline_agents(entry: Entry, tier: TierResult, baseline: Baseline | None) -> int | None:
    """Return what a gate was held to, else what the file says."""
    if tier.gate is not None:
        return tier.gate.target.baseline_agents
    if baseline is None:
        return None
    found = baseline.find(entry.suite["name"], entry.edition, entry.system["name"], tier.tier.name)
    return None if found is None else found.agents


def _against(tier: TierResult, baseline: int | None) -> str:
    if baseline is None:
        return "–"
    if tier.gate is None:
        return "–" if tier.agents is None else f"{tier.agents / baseline - 1:+.1%}"
    if tier.gate.verdict is Verdict.FAIL:
        return f"< {tier.gate.threshold_agents / baseline - 1:+.1%}"
    if tier.agents is None:
        return "?"
    return f"≥ {tier.agents / baseline - 1:+.1%}"


def _improved(entry: Entry, tier: TierResult, baseline: Baseline | None) -> int | None:
    if tier.gate is not None:
        return tier.gate.improved_agents
    known = _baseline_agents(entry, tier, baseline)
    return tier.agents if known is not None and tier.agents is not None and tier.agents > known else None


def _answer(tier: TierResult) -> str:
    if tier.gate is not None:
        return gate_text(tier.gate)
    expected = "" if tier.expected_agents is None else f", {tier.expected_agents} expected"
    return f"{'no capacity' if tier.agents is None else agents_count(tier.agents)}{expected}"


def _where(entry: Entry, tier: TierResult) -> list[str]:
    phases = [phase for phase in entry.phases if phase.deployment == tier.deployment]
    return [line.strip() for line in decision_lines(tier, phases)]


def _remarks(entry: Entry) -> Iterator[str]:
    yield from nature(entry)
    for tier in entry.tiers:
        verdict, reason = asserted(tier)
        if verdict != Verdict.PASS.value:
            yield from (
                f"{tier.tier.name}: {text}" for text in (reason or _answer(tier), *_where(entry, tier))
            )
        elif tier.gate is not None:
            yield f"{tier.tier.name}: {gate_text(tier.gate)}"
        yield from (f"{tier.tier.name}: contradiction: {text}" for text in tier.contradictions)
    for word, reasons in objections(entry):
        yield f"{word}: {'; '.join(reasons)}"
