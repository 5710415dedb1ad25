"""Text of an exact number of tokens for a key, for recordings that hold token counts and block hashes alone.

Equal keys give equal text, other keys other text from the first words on: a prefix cache sees the sharing that was
recorded. Every word, comma and full stop is one token in every common BPE vocabulary, wherever the text is cut, so
counts add up. SHA-256 and integers only: the same on every Python version and machine.
"""

from __future__ import annotations

import hashlib
from functools import cache

from pytest_agentperf.dataset.block_words import ADJECTIVES, MODALS, NAMES, NOUNS, PARTICIPLES, VERBS

Phrase = tuple[str, ...]

_LISTS = {
    "name": NAMES,
    "noun": NOUNS,
    "verb": VERBS,
    "done": PARTICIPLES,
    "adj": ADJECTIVES,
    "can": MODALS,
}
_SUBJECTS = (
    "The {adj} {noun}",
    "Each {noun} in the {noun}",
    "If the {noun} is {adj}, it",
    "When the {noun} has no {noun}, the {noun}",
    "After that, the {adj} {noun}",
    "Any {adj} {noun}",
    "Every {noun} and its {noun}",
    "Once the {noun} is {done}, one {noun}",
)
_PREDICATES = (
    "{can} {verb} the {adj} {noun}",
    "{can} {verb} one {noun} and {verb} the {noun}",
    "{can} {verb} the {noun} of each {noun}",
    "{can} not {verb} the {noun}",
    "{can} {verb} its {adj} {noun} once",
    "{can} {verb} the {noun} with the {adj} {noun}",
)
_ENDINGS = (
    ".",
    " before the {noun} is {done}.",
    " so the {noun} may {verb} again.",
    " because no {noun} is {adj}.",
    ", and the {noun} will {verb} it.",
    " until the {adj} {noun} has been {done}.",
    " without any {adj} {noun}.",
    " when the {noun} and the {noun} are {adj}.",
)
_PHRASES = 256
"""Of each kind: a byte of the digest chooses one."""
_MARKS = frozenset((".", ","))


def block_tokens(key: str, n_tokens: int) -> list[str]:
    """Return the text of a block as its tokens; joined, they are the text.

    It ends in a full stop where it can, so that blocks that follow one another read as sentences.
    """
    subjects, predicates, endings = _phrases()
    seed = hashlib.sha256(f"agentperf block\0{key}".encode("utf-8", "surrogatepass")).digest()
    # The opening tells the key: no sentence starts with two nouns but a block's first.
    tokens = [" " + NAMES[seed[0]], " " + NOUNS[seed[1]], *predicates[seed[2]], *endings[seed[3]]]
    round_ = 0
    while len(tokens) < n_tokens:
        digest = hashlib.sha256(seed + round_.to_bytes(4, "big")).digest()
        for subject, predicate, ending in zip(digest[0:10], digest[10:20], digest[20:30], strict=True):
            tokens += subjects[subject]
            tokens += predicates[predicate]
            tokens += endings[ending]
        round_ += 1
    del tokens[n_tokens:]
    # Two marks side by side would be one token.
    if n_tokens > 1 and tokens[-2] not in _MARKS:
        tokens[-1] = "."
    return tokens


def block_text(key: str, n_tokens: int) -> str:
    """Return a text of exactly `n_tokens` tokens."""
    return "".join(block_tokens(key, n_tokens))


@cache
def _phrases() -> tuple[tuple[Phrase, ...], tuple[Phrase, ...], tuple[Phrase, ...]]:
    subjects, predicates, endings = (
        tuple(_phrase(patterns[i % len(patterns)], f"{kind} {i}") for i in range(_PHRASES))
        for kind, patterns in (("subject", _SUBJECTS), ("predicate", _PREDICATES), ("ending", _ENDINGS))
    )
    return subjects, predicates, endings


def _phrase(pattern: str, label: str) -> Phrase:
    """Fill a pattern's places; equal labels give equal words."""
    digest = hashlib.sha256(f"agentperf phrase\0{label}".encode()).digest()
    words: list[str] = []
    for place, part in enumerate(pattern.replace(",", " ,").replace(".", " .").split()):
        if part in _MARKS:
            words.append(part)
            continue
        options = _LISTS[part[1:-1]] if part.startswith("{") else [part]
        words.append(" " + options[int.from_bytes(digest[2 * place : 2 * place + 2], "big") % len(options)])
    return tuple(words)
