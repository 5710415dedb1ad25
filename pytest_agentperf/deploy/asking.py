"""Single requests outside any measurement: sent as a run would send them, read as a run would read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import httpx

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.redact import Masked, printable, redact
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.tls import ssl_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self

_TIMEOUT = httpx.Timeout(10.0, read=120.0)
_SECONDS_MAX = 180.0
_BODY_MAX = 8 * 1024 * 1024
_ERROR_CHARS = 300


class Content(Protocol):
    """What is asked of a decoded stream."""

    failure: str | None
    failure_detail: str | None
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    content_chunks: int
    finish_reason: str | None


class Asked(NamedTuple):
    """What one request got."""

    status: int | None
    """None where no response came."""
    problem: str | None
    """Why there is no answer: the refusal's text, or the transport's failure."""
    content: Content | None
    body: bytes
    cut: bool = False
    """Whether we left before its end."""

    @property
    def refused(self) -> bool:
        """Whether the server found fault with the request itself, in its status or in its stream."""
        if self.status == 200:
            return self.content is not None and self.content.failure == "error_in_stream"
        return (
            self.status is not None and 400 <= self.status < 500 and self.status not in (401, 403, 408, 429)
        )

    @property
    def why(self) -> str:
        """Say what was wrong."""
        if self.problem is not None:
            return self.problem if self.status is None else f"HTTP {self.status}: {self.problem}"
        assert self.content is not None
        detail = self.content.failure_detail
        return f"{self.content.failure}" + (f": {detail[:_ERROR_CHARS]}" if detail else "")


class Asker:
    """Sends chat completions to an endpoint, one after the other."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        decode: Callable[[Iterable[tuple[int, bytes]]], Content],
        *,
        patience_s: float | None = None,
        ca_file: str | None = None,
    ) -> None:
        """`decode` is the load workers' own decoder: what it cannot read, a run cannot either.

        `patience_s`: how long an answer may take, and be silent, where that is more than a check waits.
        """
        self._url = url.rstrip("/") + "/chat/completions"
        self._secret = Masked(headers)
        self._headers = Masked(
            # As the load workers: what a server packs could be any size unpacked, and would arrive otherwise.
            {**headers, "Content-Type": "application/json", "Accept-Encoding": "identity"}
        )
        self._decode = decode
        self._seconds_max = patience_s or _SECONDS_MAX
        timeout = _TIMEOUT if patience_s is None else httpx.Timeout(10.0, read=patience_s)
        # Proxies of the environment would stand between us and the server under test.
        self._client = httpx.Client(timeout=timeout, trust_env=False, verify=ssl_context(ca_file))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, body: Mapping[str, Any], *, reads: int | None = None) -> Asked:
        """Send one streaming request; with `reads` leave after so many reads of its answer."""
        got: list[tuple[int, bytes]] = []
        cut = False
        deadline_ns = monotonic_ns() + round(self._seconds_max * NS_PER_S)
        try:
            with self._client.stream(
                "POST", self._url, headers=self._headers, content=json.dumps(body)
            ) as response:
                size = 0
                for part in response.iter_raw():
                    got.append((monotonic_ns(), part))
                    size += len(part)
                    cut = (reads is not None and len(got) >= reads) or size > _BODY_MAX
                    if cut or monotonic_ns() > deadline_ns:
                        break
                status = response.status_code
        except httpx.HTTPError as error:
            return Asked(None, f"no answer: {self._clean(str(error) or type(error).__name__)}", None, b"")
        whole = b"".join(part for _, part in got)
        if status != 200:
            text = self._clean(whole.decode(errors="replace"))
            return Asked(status, text[:_ERROR_CHARS], None, whole)
        content = self._decode(got)
        # Cleaned before anything of it is cut short: half a key is one too.
        if content.failure_detail is not None:
            content.failure_detail = self._clean(content.failure_detail)
        return Asked(status, None, content, whole, cut)

    def _clean(self, text: str) -> str:
        """Return text on one line, without the key that some servers quote."""
        return printable(redact(text, self._secret.values()))
