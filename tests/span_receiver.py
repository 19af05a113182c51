"""A receiver of spans: a real OTLP/HTTP server on loopback that decodes what it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.http_receiver import Answer, Receiver


@dataclass(frozen=True)
class SentLink:
    trace_id: str
    span_id: str
    attributes: Mapping[str, Any]

    @property
    def ids(self) -> tuple[str, str]:
        return self.trace_id, self.span_id


@dataclass(frozen=True)
class SentSpan:
    """A span as it arrived."""

    name: str
    service: str
    trace_id: str
    span_id: str
    attributes: Mapping[str, Any]
    links: tuple[SentLink, ...]
    events: tuple[str, ...]
    failed: bool
    began: int
    """In nanoseconds since 1970."""
    nanoseconds: int

    @property
    def ids(self) -> tuple[str, str]:
        return self.trace_id, self.span_id


class SpanReceiver:
    """Takes spans. `url` is what OTEL_EXPORTER_OTLP_ENDPOINT is to say."""

    def __init__(self) -> None:
        self._receiver = Receiver()
        self._receiver.always = Answer(200)
        self.url = self._receiver.url

    def __enter__(self) -> SpanReceiver:
        self._receiver.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._receiver.__exit__(kind, error, trace)

    def answer(self, status: int) -> None:
        """Answer with this status from now on."""
        self._receiver.always = Answer(status)

    def spans(self, name: str = "") -> list[SentSpan]:
        """All that came so far, or those of this name."""
        found = []
        for asked in list(self._receiver.asked):
            assert asked.path == "/v1/traces"
            for group in ExportTraceServiceRequest.FromString(asked.body).resource_spans:
                service = _values(group.resource.attributes)["service.name"]
                found += [_span(span, service) for scope in group.scope_spans for span in scope.spans]
        return [span for span in found if not name or span.name == name]


def _span(span: Any, service: str) -> SentSpan:
    links = (SentLink(link.trace_id.hex(), link.span_id.hex(), _values(link.attributes)) for link in span.links)
    return SentSpan(
        span.name,
        service,
        span.trace_id.hex(),
        span.span_id.hex(),
        _values(span.attributes),
        tuple(links),
        tuple(event.name for event in span.events),
        span.status.code == Status.STATUS_CODE_ERROR,
        span.start_time_unix_nano,
        span.end_time_unix_nano - span.start_time_unix_nano,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {pair.key: _value(pair) for pair in attributes}


def _value(pair: KeyValue) -> Any:
    return getattr(pair.value, pair.value.WhichOneof("value"))
