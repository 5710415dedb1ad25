"""Which lines of a file are one conversation: by session, by sub-agent, and by the branch that was gone on with."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_agentperf.dataset.formats.base import Notes
    from pytest_agentperf.dataset.formats.claude_code.rows import Row


class Branch(NamedTuple):
    """The lines of one conversation, in order; `cut` if it begins after a line that the file does not have."""

    name: str
    rows: list[Row]
    cut: bool


def branches(rows: Iterable[Row], notes: Notes) -> list[Branch]:
    """Return the conversations of a file: each session's main one, then its side chains."""
    found: list[Branch] = []
    for session, own in _sessions(rows).items():
        chains = {f"{session}-agent-{agent}": chain for agent, chain in _side_chains(own).items()}
        for name, chain in {session: [row for row in own if row.side_chain is None], **chains}.items():
            if any(_says(row) for row in chain):
                found.append(_branch(name, chain, notes))
    return found


def _says(row: Row) -> bool:
    return row.kind in ("user", "assistant")


def _sessions(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Group lines by session; one that goes on after a line of another session belongs to that."""
    sessions: dict[str, list[Row]] = defaultdict(list)
    session_of: dict[str, str] = {}
    for row in rows:
        session = session_of.get(row.parent or "", row.session)
        if row.uuid is not None:
            session_of[row.uuid] = session
        sessions[session].append(row)
    return sessions


def _side_chains(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group side chain lines by their sub-agent, those that do not name it by the line that they go back to."""
    chains: dict[str, list[Row]] = defaultdict(list)
    began: dict[str, str] = {}
    for row in rows:
        if row.side_chain is None:
            continue
        if row.side_chain:
            chains[row.side_chain].append(row)
            continue
        chain = began.get(row.parent or "", str(len(chains) + 1))
        if row.uuid is not None:
            began[row.uuid] = chain
        chains[chain].append(row)
    return chains


def _branch(name: str, rows: list[Row], notes: Notes) -> Branch:
    by_uuid = {row.uuid: row for row in rows if row.uuid is not None}
    said = [row for row in rows if _says(row)]
    if not any(row.parent in by_uuid for row in rows):
        # Nothing links the lines: a stream, in which they follow one another.
        return Branch(name, [row for row in rows if row.kind != "other"], cut=said[0].parent is not None)
    chain, cut = _chain(rows, said[-1], by_uuid)
    kept = chain | _beside(rows, chain)
    if any(row.kind == "assistant" and row.number not in kept for row in said):
        notes.add("conversations with answers on branches that were left, without those", said[-1].where)
    return Branch(name, [row for row in rows if row.number in kept and row.kind != "other"], cut)


def _chain(rows: list[Row], last: Row, by_uuid: dict[str, Row]) -> tuple[set[int], bool]:
    """Return the numbers of the lines that led to `last`, and whether the first names one that is not there."""
    chain: set[int] = set()
    row: Row | None = last
    cut = False
    while row is not None and row.number not in chain:
        chain.add(row.number)
        before = by_uuid.get(row.parent) if row.parent is not None else None
        if before is None and row.kind == "boundary":
            before = next((one for one in reversed(rows) if one.number < row.number), None)
        cut = before is None and row.parent is not None
        row = before
    return chain, cut


def _beside(rows: list[Row], chain: set[int]) -> set[int]:
    """Return lines that belong to the chain though it does not lead through them.

    An answer with parallel calls is several lines, and each result hangs on its own call's line.
    """
    ids = {row.message_id for row in rows if row.number in chain and row.message_id is not None}
    answers = {row.number for row in rows if row.message_id in ids}
    calls = {call for row in rows if row.number in answers for call in row.calls}
    results = {row.number for row in rows if row.is_results_only and calls.issuperset(row.results)}
    return answers | results
