"""From block hashes to chat messages: what the readers of traces without text share.

A request of such a trace is a sequence of block keys and two lengths. Its prompt is a stream of tokens, and a block's
tokens are decided by its key (`dataset.blocks`). So requests that begin with the same blocks begin with the same
messages and the same text, in whatever conversation they are; at the first other key the texts part.

- **Messages.** Where a conversation's next request goes on from `input_tokens` of the one before, the answer stood:
  an assistant message of `output_tokens` there, then a user message up to the end. An answer that the next prompt has
  no room for (reasoning that was dropped) is shortened to leave the user message eight tokens; without room for
  both there is none. This position belongs to the block it lies in. Tool results are user messages as well, since no
  calls were recorded that they could answer.
- **Replaced histories.** A changed block inside needs no rule: it is another key, hence other text from there on.
- **Partial blocks.** The end of a prompt is the beginning of the block that a continuing request has there. Thus
  histories grow by whole messages, and requests share what they really shared, less than a block more than recorded.
- **Forks.** A prompt that ends inside another conversation's answer, or close to its start, ends in a user message all
  the same; up to 16 of its last tokens are then not shared.
- **Lengths.** Recorded lengths include what the chat template adds. `TEMPLATE_TOKENS` of each message stand for that,
  so the messages' texts have `input_tokens` less that many each. Prompts too short for it have one word.

It keeps a few hundred bytes for each request that another continues, and the text of two requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.blocks import block_text, block_tokens
from pytest_agentperf.dataset.histories import RecordedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_agentperf.core.trajectory import Message, ToolCall

Key = int | str

TEMPLATE_TOKENS = 4
"""What templates put around a message, about: as the importer counts messages."""
MAX_PROMPT_TOKENS = 2**23
MIN_BLOCK_TOKENS, MAX_BLOCK_TOKENS = 8, 2**16
_MAX_CONVERSATION_TOKENS = 2**26
_SHORTEST_MESSAGE = 2 * TEMPLATE_TOKENS


class TracedRequest(NamedTuple):
    """A request without text; `keys` cover `input_tokens`, the last block maybe in part."""

    keys: list[Key]
    input_tokens: int
    output_tokens: int
    system_tokens: int = 0
    """How long the system prompt with its tools is, 0 where that is not recorded."""
    tool_delay_ns: int | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class _Span(NamedTuple):
    start: int
    stop: int
    role: str


class _Answer(NamedTuple):
    offset: int
    tokens: int
    """0: only a user message begins here."""


class TracePrompts:
    """The prompts of all requests whose keys mean the same blocks; `scope` names these.

    `follow` every pair of successive requests first, then ask for `requests`: positions of messages must not depend
    on which conversation is asked for first.
    """

    def __init__(self, scope: str, block_size: int) -> None:
        self._scope = scope
        self._size = block_size
        self._answers: dict[Key, tuple[_Answer, ...]] = {}
        self._continued: dict[Key, Key] = {}
        """Of a prompt's partial last block, the block that begins with it."""
        self._last_keys: list[Key] = []
        self._last: list[tuple[_Span, Message]] = []
        self._made_tokens = 0

    def follow(self, earlier: TracedRequest, later: TracedRequest) -> None:
        """Note that a conversation went from one request to the next."""
        room = later.input_tokens - earlier.input_tokens
        if room <= 0:
            return
        index, offset = divmod(earlier.input_tokens, self._size)
        key = later.keys[index]
        if offset and earlier.keys[:index] == later.keys[:index]:
            self._continue(earlier.keys[index], key)
        if room >= _SHORTEST_MESSAGE:
            tokens = min(earlier.output_tokens, room - _SHORTEST_MESSAGE)
            self._note(self._text_key(key), _Answer(offset, tokens if tokens >= _SHORTEST_MESSAGE else 0))

    def requests(self, turns: Iterable[TracedRequest], *, where: str) -> Iterator[RecordedRequest]:
        """Yield a conversation's requests with their messages."""
        self._made_tokens = 0
        for turn in turns:
            yield RecordedRequest(
                messages=self.messages(turn),
                tools=None,
                tool_delay_ns=turn.tool_delay_ns,
                prompt_tokens=turn.input_tokens,
                output_tokens=turn.output_tokens,
                tool_calls=turn.tool_calls,
            )
            if self._made_tokens > _MAX_CONVERSATION_TOKENS:
                raise DatasetError(
                    f"one conversation has more than {_MAX_CONVERSATION_TOKENS:,} tokens of different text",
                    where=where,
                    remedy="no agent's run is that long: check the recording",
                )

    def messages(self, request: TracedRequest) -> list[Message]:
        """Return a request's messages; those of the request before are the same objects where they are equal."""
        keys = [self._text_key(key) for key in request.keys]
        shared_tokens = self._shared_tokens(keys)
        known = {span: message for span, message in self._last if span.stop <= shared_tokens}
        found = []
        for span in self._spans(keys, request):
            message = known.get(span)
            found.append((span, message or {"role": span.role, "content": self._text(keys, span)}))
        self._last_keys, self._last = keys, found
        return [message for _, message in found]

    def _text_key(self, key: Key) -> Key:
        while key in self._continued:
            key = self._continued[key]
        return key

    def _continue(self, part: Key, whole: Key) -> None:
        # First come; and never in a circle, whatever a file says.
        if part in self._continued or self._text_key(whole) == part:
            return
        self._continued[part] = whole
        for answer in self._answers.pop(part, ()):
            self._note(self._text_key(whole), answer)

    def _note(self, key: Key, answer: _Answer) -> None:
        answers = self._answers.get(key, ())
        if all(answer.offset != other.offset for other in answers):
            self._answers[key] = tuple(sorted((*answers, answer)))

    def _shared_tokens(self, keys: Sequence[Key]) -> int:
        shared = 0
        for one, other in zip(keys, self._last_keys, strict=False):
            if one != other:
                break
            shared += self._size
        return shared

    def _spans(self, keys: Sequence[Key], request: TracedRequest) -> list[_Span]:
        total = request.input_tokens
        cuts = [(0, "user")]
        if _SHORTEST_MESSAGE <= request.system_tokens <= total - _SHORTEST_MESSAGE:
            cuts = [(0, "system"), (request.system_tokens, "user")]
        for index, key in enumerate(keys):
            for answer in self._answers.get(key, ()):
                start = index * self._size + answer.offset
                # The prompt must end in a user message, also where another conversation's went on.
                stop = min(start + answer.tokens, total - _SHORTEST_MESSAGE)
                if start < cuts[-1][0] + _SHORTEST_MESSAGE or stop < start:
                    continue
                if not answer.tokens:
                    cuts.append((start, "user"))
                elif stop >= start + _SHORTEST_MESSAGE:
                    cuts += [(start, "assistant"), (stop, "user")]
        stops = [start for start, _ in cuts[1:]] + [total]
        return [_Span(start, stop, role) for (start, role), stop in zip(cuts, stops, strict=True)]

    def _text(self, keys: Sequence[Key], span: _Span) -> str:
        """Return a message's text: a sentence begins where it begins, and at each block."""
        length = max(1, span.stop - span.start - TEMPLATE_TOKENS)
        self._made_tokens += length
        index, offset = divmod(span.start, self._size)
        in_first = self._size - offset - TEMPLATE_TOKENS
        tokens = self._tokens(keys[index], in_first, f"\0{offset}") if in_first > 0 else []
        # Where the template's tokens reach into the next block.
        skipped = max(0, -in_first)
        while len(tokens) < length:
            index += 1
            tokens += self._tokens(keys[index], self._size)[skipped:]
            skipped = 0
        return "".join(tokens[:length])

    def _tokens(self, key: Key, n_tokens: int, part: str = "") -> list[str]:
        return block_tokens(f"{self._scope}\0{key}{part}", n_tokens)


def lone_prompt(key: str, input_tokens: int) -> list[Message]:
    """Return the messages of a request that shares nothing with any other."""
    return [{"role": "user", "content": block_text(key, max(1, input_tokens - TEMPLATE_TOKENS))}]


def check_blocks(n_keys: int, input_tokens: int, block_size: int, *, where: str) -> None:
    """Refuse a request whose blocks do not cover its length, the last one maybe in part."""
    if input_tokens > MAX_PROMPT_TOKENS:
        raise DatasetError(
            f"a prompt of {input_tokens:,} tokens",
            where=where,
            remedy="no model takes that: check the recording",
        )
    if n_keys != -(-input_tokens // block_size):
        raise DatasetError(
            f"{n_keys} blocks of {block_size} tokens do not make {input_tokens} tokens",
            where=where,
            remedy="the trace is damaged, or has another block size than its format says",
        )
