"""Reads a server's Prometheus pages, of all its engines together: bounded in size and time, and by known names only."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

import httpx

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.prometheus_text import NotPrometheusText, Sample, parse
from pytest_agentperf.core.redact import Masked
from pytest_agentperf.core.server_metrics import COUNTERS, ServerReading
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.deploy.metric_names import (
    ENGINES,
    KNOWN,
    PATHS,
    RANK_LABELS,
    SIM_MARK,
    TOTAL_BESIDE_PARTS,
)
from pytest_agentperf.tls import ssl_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self

_BODY_MAX = 8 * 1024 * 1024
_SECONDS_MAX = 2.0
# A page holds hundreds of histogram lines for each one that is wanted: the parser is for those.
_WANTED = re.compile(rf"^(?:{'|'.join(sorted(map(re.escape, KNOWN)))})[{{ \t][^\n]*", re.MULTILINE)
_MARKS = {
    engine: re.compile(rf"^(?:{'|'.join(map(re.escape, known.prefixes))})", re.MULTILINE)
    for engine, known in ENGINES.items()
}

Labels = tuple[tuple[str, str], ...]


class MetricsUnreadable(Exception):
    """The page could not be read this time; the text says why."""


class NoMetrics(MetricsUnreadable):
    """The server has no such page, or none with a name that is known."""


class _Series(NamedTuple):
    page: int
    name: str
    labels: Labels


class Page(NamedTuple):
    """What is wanted of a page, and whose it is."""

    samples: tuple[Sample, ...]
    engines: tuple[str, ...]


def read_page(text: str) -> Page:
    """Return what is wanted of a page's text; raises NoMetrics and MetricsUnreadable."""
    engines = [engine for engine, mark in _MARKS.items() if mark.search(text)]
    if not engines:
        raise NoMetrics("its page of metrics is no inference engine's that is known")
    try:
        samples = parse("\n".join(_WANTED.findall(text)).encode())
    except NotPrometheusText as error:
        raise MetricsUnreadable(str(error)) from None
    simulated = f"\n{SIM_MARK}{{" in text
    return Page(tuple(samples), tuple("sim" if simulated and e == "vllm" else e for e in engines))


class MetricsReader:
    """Reads the same pages again and again, and sees counters fall."""

    def __init__(
        self, url: str, headers: Mapping[str, str], pages: Sequence[str] = (), *, ca_file: str | None = None
    ) -> None:
        """`pages`: where the engines' metrics are; without them below the root of the API at `url`.

        The key goes to the API's own host only.
        """
        root = url.rstrip("/").removesuffix("/v1")
        # A page of each tuple: the first that answers with metrics is kept.
        self._pages: list[tuple[str, ...]] = [(page,) for page in pages]
        self._pages = self._pages or [tuple(root + path for path in PATHS)]
        self._headers = Masked(
            {
                "Accept": "text/plain;version=0.0.4",
                # What a server packs could be any size unpacked.
                "Accept-Encoding": "identity",
                **({} if pages else headers),
            }
        )
        self._client = httpx.Client(timeout=_SECONDS_MAX, trust_env=False, verify=ssl_context(ca_file))
        self._before: dict[_Series, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def read(self) -> ServerReading:
        """Read all pages once; raises MetricsUnreadable, as half of the engines are no reading."""
        sent_ns = monotonic_ns()
        pages = [self._page(number) for number in range(len(self._pages))]
        reading, self._before = reading_of((sent_ns + monotonic_ns()) // 2, pages, self._before)
        return reading

    def _page(self, number: int) -> Page:
        problem: NoMetrics | None = None
        for url in self._pages[number]:
            try:
                page = read_page(self._text(url))
            except NoMetrics as error:
                problem = problem or error
                continue
            self._pages[number] = (url,)
            return page
        raise problem or NoMetrics("no page of metrics is named")

    def _text(self, url: str) -> str:
        deadline_ns = monotonic_ns() + round(_SECONDS_MAX * NS_PER_S)
        body = bytearray()
        try:
            with self._client.stream("GET", url, headers=self._headers) as response:
                if response.status_code in (401, 403, 404, 405, 501):
                    raise NoMetrics(
                        f"it shows no metrics (HTTP {response.status_code} at {response.url.path})"
                    )
                if response.status_code != 200:
                    raise MetricsUnreadable(f"HTTP {response.status_code} at {response.url.path}")
                for part in response.iter_raw():
                    body += part
                    if len(body) > _BODY_MAX:
                        raise MetricsUnreadable(f"its page of metrics is larger than {_BODY_MAX >> 20} MiB")
                    if monotonic_ns() > deadline_ns:
                        raise MetricsUnreadable(f"its page of metrics took more than {_SECONDS_MAX:g} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise MetricsUnreadable(f"no answer: {type(error).__name__}") from None
        return body.decode("utf-8", "replace")


def requests_in_flight(reader: MetricsReader) -> float | None:
    """Read once; returns running and waiting requests, None if the server does not tell."""
    with reader:
        try:
            return reader.read().in_flight
        except MetricsUnreadable:
            return None


def reading_of(
    t_ns: int, pages: Sequence[Page], before: Mapping[_Series, float]
) -> tuple[ServerReading, dict[_Series, float]]:
    """Return our metrics out of all pages, and the series themselves; `before`: those of the reading before."""
    found = {
        _Series(number, sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for number, page in enumerate(pages)
        for sample in page.samples
        if math.isfinite(sample.value)
    }
    names = {series.name for series in found}
    values: dict[str, float] = {}
    resets: set[str] = set()
    cache_unit = None
    for known in ENGINES.values():
        for metric, alternatives in known.metrics.items():
            together = next((some for some in alternatives if names.issuperset(some)), None)
            counter = known.counted_by.get(metric)
            if metric in values or together is None or (counter and not _combined("", counter, found)):
                continue
            values[metric] = sum(_combined(metric, name, found) for name in together)
            if metric in COUNTERS and _fell(together, found, before):
                resets.add(metric)
            if metric == "cache_hits":
                cache_unit = known.cache_unit
    engines = tuple(dict.fromkeys(engine for page in pages for engine in page.engines))
    return ServerReading(t_ns, engines, values, frozenset(resets), cache_unit), found


def _combined(metric: str, name: str, found: Mapping[_Series, float]) -> float:
    """Return one value of a metric's series: added over engines, but not over the ranks of one."""
    by_engine: dict[tuple[int, Labels], float] = {}
    for series, value in _without_parts([pair for pair in found.items() if pair[0].name == name]):
        key = series.page, tuple(label for label in series.labels if label[0] not in RANK_LABELS)
        by_engine[key] = max(value, by_engine.get(key, value))
    values = list(by_engine.values()) or [0.0]
    if metric == "kv_usage":
        return max(values)
    return sum(values) / (len(values) if metric == "acceptance_rate" else 1)


def _without_parts(pairs: list[tuple[_Series, float]]) -> Iterable[tuple[_Series, float]]:
    totals = [pair for pair in pairs if (TOTAL_BESIDE_PARTS, "") in pair[0].labels]
    return totals or pairs


def _fell(names: Sequence[str], found: Mapping[_Series, float], before: Mapping[_Series, float]) -> bool:
    """Return whether a counter of an engine fell or is gone; a new one began at 0."""
    return any(found.get(series, -1.0) < value for series, value in before.items() if series.name in names)
