"""Sender: takes spans to a receiver of OTLP/HTTP, from a thread beside the work."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import DEFAULT_TIMEOUT, OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_EXPORTER_OTLP_TRACES_TIMEOUT
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.process.span import at_the_end
from millrace_pipeline.web import shown, status_text, why_no_answer
from millrace_pipeline.websession import WebSession


class Sender(SpanExporter):
    """Sends spans; says once, and then how often, that they could not be sent: traces hold nobody up."""

    def __init__(self, endpoint: str | None) -> None:
        told = (os.environ.get(name) for name in (OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT))
        seconds = float(next(filter(None, told), DEFAULT_TIMEOUT))
        self._session = _Session(seconds)
        self._exporter = OTLPSpanExporter(_signal(endpoint) if endpoint else None, session=self._session)
        self._endpoint = shown(self._exporter._endpoint)
        # It would say at each try what is said here once.
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(lambda _: False)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them, which may take as long as the receiver's time-out says."""
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS and self._session.trouble is None:
            return result
        repeats.warn(
            "spans_not_sent",
            kind=self._endpoint,
            endpoint=self._endpoint,
            spans=len(spans),
            reason=self._session.trouble or "they could not be encoded",
            mend="start a receiver of OTLP/HTTP, or say in OTEL_EXPORTER_OTLP_ENDPOINT where it is",
        )
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _Session(WebSession):
    """A session with no proxy, netrc or certificate that nobody named, which knows why its last request failed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(headers=seconds, answer=seconds)
        self._seconds = seconds
        self.trouble: str | None = None

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        try:
            answer = super().send(request, **options)
        except Exception as error:
            self.trouble = why_no_answer(error, connect_timeout=self._seconds, read_timeout=self._seconds)
            raise
        self.trouble = None if 200 <= answer.status_code < 300 else f"it answered {status_text(answer.status_code)}"
        return answer


def _signal(endpoint: str) -> str:
    return endpoint if endpoint.endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"


@lru_cache
def sender_to(endpoint: str | None) -> BatchSpanProcessor:
    """Return what sends to a receiver, from a thread of its own, until the process ends."""
    processor = BatchSpanProcessor(Sender(endpoint))
    at_the_end(processor.shutdown)
    return processor
