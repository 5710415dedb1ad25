"""A server over real sockets that says what a script tells it, truthfully or not; its tokens are words."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

MODEL = "stub"


class Said(NamedTuple):
    """One answer: its text, and what the server claims of it."""

    content: str
    output_tokens: int
    prompt_tokens: int | None = None
    """None: as many as there are."""
    reasoning: str = ""
    call: tuple[str, str] | None = None
    finish_reason: str = "stop"
    delay_s: float = 0.0
    first_words: int = 1
    """Words in the first chunk; the others come one by one."""
    running_usage: bool = False
    """Whether every chunk has usage, which counts chunks and not what is in them."""


Script: TypeAlias = "Callable[[dict[str, Any], int], Said]"
"""From a request's body and the requests in flight, this one included, to the answer."""


class Stub:
    """Runs until the test ends; `script` may be changed at any time."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.status = 200
        """With another one it is a front without an engine: it lists its models, and refuses all else."""
        self.in_flight = 0
        self._held = 0
        self.bodies: list[dict[str, Any]] = []
        self.resets: list[int] = []
        """How many requests had come before each."""
        self._lock = threading.Lock()
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.stub = self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def answer(self, body: dict[str, Any], send: Callable[[bytes], object]) -> None:
        with self._lock:
            self.in_flight += 1
            said = limited(self.script(body, self.in_flight), body.get("max_tokens", 1_000_000))
            if said.prompt_tokens is None:
                said = said._replace(prompt_tokens=Words().count(rendered(body["messages"])))
        try:
            self._hold(said.delay_s)
            for event in events(said):
                send(event)
        finally:
            with self._lock:
                self.in_flight -= 1

    def held(self) -> int:
        """Return how many requests wait for an answer that was to be late."""
        return self._held

    def _hold(self, seconds: float) -> None:
        with self._lock:
            self._held += seconds > 0
        time.sleep(seconds)
        with self._lock:
            self._held -= seconds > 0


def limited(said: Said, max_tokens: int) -> Said:
    """Cut an answer at the length that was asked for, which no script lies about."""
    words = said.content.split(" ")
    if len(words) <= max_tokens:
        return said
    return said._replace(
        content=" ".join(words[:max_tokens]), output_tokens=max_tokens, finish_reason="length"
    )


def events(said: Said) -> Iterator[bytes]:
    def event(value: object) -> bytes:
        return b"data: " + json.dumps(value).encode() + b"\n\n"

    def delta(finish: str | None = None, *, usage: int | None = None, **fields: Any) -> bytes:
        more = {} if usage is None or not said.running_usage else {"usage": counts(usage)}
        choice = {"index": 0, "delta": fields, "finish_reason": finish}
        return event({"id": "r", "choices": [choice], **more})

    def counts(output_tokens: int) -> dict[str, int | None]:
        return {"prompt_tokens": said.prompt_tokens, "completion_tokens": output_tokens}

    yield delta(role="assistant", content="")
    for name, text in (("reasoning_content", said.reasoning), ("content", said.content)):
        words = text.split(" ") if text else []
        parts = [" ".join(words[: said.first_words]), *words[said.first_words :]] if words else []
        for number, part in enumerate(parts, 1):
            yield delta(usage=number, **{name: f"{part} "})
    if said.call is not None:
        name, arguments = said.call
        yield delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": name, "arguments": arguments}}])
    yield delta(said.finish_reason)
    yield event({"id": "r", "choices": [], "usage": counts(said.output_tokens)})
    yield b"data: [DONE]\n\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    stub: Stub

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up at the end of a phase is none."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        found = self.path == "/v1/models"
        body = json.dumps({"data": [{"id": MODEL}]} if found else {}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"null")
        if self.path == "/reset":
            self.server.stub.resets.append(len(self.server.stub.bodies))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.server.stub.bodies.append(body)
        if self.server.stub.status != 200:
            self.send_response(self.server.stub.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.server.stub.answer(body, lambda part: self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part)))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def running(script: Script) -> Iterator[Stub]:
    stub = Stub(script)
    thread = threading.Thread(target=stub.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        stub.server.shutdown()
        thread.join()
        stub.server.server_close()


class Words:
    """A `TokenCounter` for which every word is a token."""

    def count(self, text: str) -> int:
        return len(text.split())

    def count_many(self, texts: list[str]) -> list[int]:
        return [self.count(text) for text in texts]


def rendered(messages: Iterable[Mapping[str, Any]], tools: object = None) -> str:
    """A chat template: what was said, and a word where an answer ends."""
    texts = [str(message.get("content") or "") for message in messages]
    return " ".join(
        text + " <end>" * (message["role"] == "assistant")
        for text, message in zip(texts, messages, strict=True)
    )


TOKENIZERS = """
class Tokenizer:
    @classmethod
    def from_file(cls, path):
        return cls()

    def no_truncation(self): ...

    def no_padding(self): ...

    pre_tokenizer = normalizer = None

    def get_added_tokens_decoder(self):
        return {}

    def encode(self, text, add_special_tokens):
        return text.split()

    def encode_batch(self, texts, add_special_tokens):
        return [text.split() for text in texts]
"""
"""The module `tokenizers`, for load workers too: a word is a token."""
