"""OpenTelemetry spans out of the JSON shapes that they are exported in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.formats.times import moment_ns
from pytest_agentperf.dataset.formats.values import mapping, objects, required_object, text
from pytest_agentperf.dataset.reading import parse_json, read_document, read_json_lines, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class GenAiSpan(NamedTuple):
    """One span, its attributes as plain values."""

    trace_id: str
    span_id: str | None
    parent_id: str | None
    name: str
    start_ns: int | None
    end_ns: int | None
    attributes: dict[str, Any]
    service: str
    where: str

    @property
    def operation(self) -> str:
        """Return what the span says it did; before the attribute came, its name said so."""
        return text(self.attributes.get("gen_ai.operation.name")) or self.name.split(" ")[0]

    def text(self, *names: str) -> str | None:
        """Return the first of these attributes that holds text."""
        return next((found for name in names if (found := text(self.attributes.get(name)))), None)


def read_spans(path: Path) -> Iterator[GenAiSpan]:
    """Yield the spans of a document, or of JSONL whose lines are spans or documents; raises DatasetError."""
    first = next(read_lines(path), None)
    if first is None:
        raise DatasetError("is empty", where=str(path), remedy="export the trace again")
    try:
        parse_json(first.data, where=str(path))
    except DatasetError:
        yield from _spans_of(read_document(path), str(path))
        return
    for where, value in read_json_lines(path):
        yield from _spans_of(value, where)


def _spans_of(value: Any, where: str) -> Iterator[GenAiSpan]:
    if isinstance(value, list):
        for span in value:
            yield _span(
                required_object(span, where, what="span or part of an OpenTelemetry trace"), {}, where
            )
        return
    document = required_object(value, where, what="span or part of an OpenTelemetry trace")
    if isinstance(document.get("resourceSpans"), list):
        for resource_spans in objects(document["resourceSpans"]):
            resource = _attributes(mapping(resource_spans.get("resource")).get("attributes"))
            scopes = resource_spans.get("scopeSpans") or resource_spans.get("instrumentationLibrarySpans")
            for scope in objects(scopes):
                for span in objects(scope.get("spans")):
                    yield _span(span, resource, where)
    elif isinstance(document.get("spans"), list):
        for span in objects(document["spans"]):
            yield _span(span, {}, where)
    else:
        yield _span(document, {}, where)


def _span(span: dict[str, Any], resource: dict[str, Any], where: str) -> GenAiSpan:
    context = mapping(span.get("context"))
    attributes = _attributes(span.get("attributes"))
    for event in objects(span.get("events")):
        # Where messages are recorded as an event of the span.
        for name, value in _attributes(event.get("attributes")).items():
            if name.startswith("gen_ai."):
                attributes.setdefault(name, value)
    resource = (
        resource
        or _attributes(span.get("resource_attributes"))
        or _attributes(mapping(span.get("resource")).get("attributes"))
    )
    span_id = text(span.get("span_id")) or text(span.get("spanId")) or text(context.get("span_id"))
    return GenAiSpan(
        trace_id=text(span.get("trace_id"))
        or text(span.get("traceId"))
        or text(context.get("trace_id"))
        or "trace",
        span_id=span_id,
        parent_id=text(span.get("parent_span_id"))
        or text(span.get("parentSpanId"))
        or text(span.get("parent_id")),
        name=text(span.get("name")) or "",
        start_ns=_time_ns(span, "startTimeUnixNano", "start_time"),
        end_ns=_time_ns(span, "endTimeUnixNano", "end_time"),
        attributes=attributes,
        service=text(resource.get("service.name")) or "",
        where=f"{where}: span {span_id}" if span_id else where,
    )


def _time_ns(span: dict[str, Any], unix_name: str, iso_name: str) -> int | None:
    unix = _integer(span.get(unix_name))
    return unix if unix is not None else moment_ns(span.get(iso_name))


def _integer(value: Any) -> int | None:
    """Return a 64-bit integer, which OTLP writes as text."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64 else None


def _attributes(value: Any) -> dict[str, Any]:
    """Return attributes as a mapping, be they one or OTLP's list of keys and typed values."""
    if isinstance(value, dict):
        return value
    return {
        key: _any_value(item.get("value"))
        for item in objects(value)
        if (key := text(item.get("key"))) is not None
    }


def _any_value(value: Any) -> Any:
    typed = mapping(value)
    if "intValue" in typed:
        return _integer(typed["intValue"])
    if "arrayValue" in typed:
        return [_any_value(item) for item in objects(mapping(typed["arrayValue"]).get("values"))]
    if "kvlistValue" in typed:
        return _attributes(mapping(typed["kvlistValue"]).get("values"))
    return next((typed[kind] for kind in ("stringValue", "doubleValue", "boolValue") if kind in typed), None)
