"""OpenTelemetry: how the spans of a flow are made and sampled.

Publishes are sampled when they begin, by the share of their trace ids. A delivery is sampled if anything in it was
published in a sampled span, else by its own trace id. That id is made of the batch's, and the span's of the attempt:
whoever takes a batch over is in the trace of who was killed with it, and can link to its span, without a word from it.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from hashlib import blake2b
from importlib.metadata import version
from operator import attrgetter
from types import TracebackType
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from millrace_pipeline.envelope import Envelope
from millrace_pipeline.flows.options import TracesOptions
from millrace_pipeline.mark import traced
from millrace_pipeline.process import logs
from millrace_pipeline.process.sender import sender_to
from millrace_pipeline.process.span import Outcome, Role
from millrace_pipeline.queue.claim import Claim, is_delayed

MOST_LINKS = 128
"""What a span may have of links; backends leave out more."""

STAMP = "millrace"
"""Our key in `tracestate`: when the records were published, in microseconds since 1970."""

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_HALVES = re.compile(r"[ab]+$")


class FlowTraces:
    """The spans of a flow, made by one role of its services and sent to one receiver."""

    def __init__(self, flow: str, key: str, attempts: int, role: Role, options: TracesOptions) -> None:
        """`attempts` is how many a batch has before it is split."""
        self._of = role, options.endpoint, options.sample
        self._attempts = attempts
        self._name = flow
        self._about = {
            "messaging.system": "redis",
            "messaging.destination.name": key,
            "millrace.flow": flow,
        }

    @cached_property
    def _made_by(self) -> tuple[_Ids, trace.Tracer]:
        ids, provider = _provider(*self._of)
        return ids, provider.get_tracer("millrace", version("millrace"))

    def publish(self, records: int) -> OtelSpan:
        """Begin the span of a publish of so many records."""
        about = self._attributes("send", "publish", records)
        _, tracer = self._made_by
        return OtelSpan(tracer.start_span(f"publish {self._name}", kind=SpanKind.PRODUCER, attributes=about))

    def deliver(self, claim: Claim, envelopes: Sequence[Envelope], began: int) -> OtelSpan:
        """Begin the span of a delivery that began then, in nanoseconds since 1970."""
        published = _published(envelopes)
        links = list(_links(published, began))
        about = self._attributes("process", "deliver", len(claim.lines))
        about |= {"millrace.batch": claim.id, "millrace.attempt": claim.attempts}
        if links:
            about["millrace.publishes"] = len(published)
        if waited := [link.attributes["millrace.list_seconds"] for link in links if link.attributes]:
            about["millrace.list_seconds"] = max(waited)  # type: ignore[type-var]
        before = _before(claim, self._attempts)
        ids, tracer = self._made_by
        with ids.given(_trace_id(claim.id), _span_id(claim.id, claim.attempts)):
            span = tracer.start_span(
                f"deliver {self._name}",
                kind=SpanKind.CONSUMER,
                attributes=about,
                links=links[: MOST_LINKS - 1],
                start_time=began,
            )
        if before is not None and span.is_recording():
            span.add_link(before, {"millrace.attempt": min(claim.attempts - 1, self._attempts)})
        return OtelSpan(span)

    def _attributes(self, kind: str, operation: str, records: int) -> dict[str, Any]:
        return self._about | {
            "messaging.operation.type": kind,
            "messaging.operation.name": operation,
            "messaging.batch.message_count": records,
        }


class OtelSpan:
    """One publish, or one try at a delivery, as a span of OpenTelemetry."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._entered: contextlib.AbstractContextManager[Any] | None = None

    def mark(self, lines: list[bytes], name: str) -> list[bytes]:
        """Return envelopes of the list of that name with this span in them, where it is sampled."""
        context = self._span.get_span_context()
        if not context.trace_flags.sampled:
            return lines
        parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        state = context.trace_state.add(STAMP, str(time.time_ns() // 1000)).to_header()
        return [traced(line, name, parent, state) for line in lines]

    def current(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which what is logged bears the span's ids."""
        return trace.use_span(self._span, record_exception=False, set_status_on_exception=False)

    def note(self, event: str, **attributes: str) -> None:
        """Take note of what happened meanwhile."""
        self._span.add_event(event, attributes)

    def end(self, outcome: Outcome, *, error: str | None = None, **numbers: float) -> None:
        """End the span, to be sent. One that is never ended is not sent."""
        self._span.set_attributes({f"millrace.{name}": number for name, number in numbers.items()})
        self._span.set_attribute("millrace.outcome", outcome)
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()

    def __enter__(self) -> OtelSpan:
        self._entered = self.current()
        self._entered.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered is not None:
            self._entered.__exit__(None, None, None)
        if error is not None:
            self.end("abandoned", error=f"{type(error).__name__}: {error}")


def _published(envelopes: Sequence[Envelope]) -> dict[str, str | None]:
    """Return what the envelopes say of the spans that they were published in: `traceparent` and `tracestate`."""
    if set(map(attrgetter("traceparent"), envelopes)) <= {None}:
        return {}
    return {opened.traceparent: opened.tracestate for opened in envelopes if opened.traceparent is not None}


def _links(published: Mapping[str, str | None], now: int) -> Iterator[Link]:
    """Yield links to the spans that records were published in, each with how long they were on the list."""
    for parent, state in published.items():
        found = _TRACEPARENT.fullmatch(parent)
        if not found:
            continue  # as the standard has it for one that nobody understands
        states = TraceState.from_header([state]) if state else TraceState()
        flags = TraceFlags(int(found[3], 16))
        context = SpanContext(
            int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=flags, trace_state=states
        )
        if not context.is_valid:
            continue
        stamp = states.get(STAMP) or ""
        waited = max(0.0, now / 1e9 - int(stamp) / 1e6) if stamp.isascii() and stamp.isdigit() else None
        yield Link(context, None if waited is None else {"millrace.list_seconds": waited})


def _trace_id(batch: str) -> int:
    """Return the trace of a batch, and of the halves that it is split in."""
    return int.from_bytes(blake2b(_HALVES.sub("", batch).encode(), digest_size=16).digest()) or 1


def _span_id(batch: str, attempt: int) -> int:
    return int.from_bytes(blake2b(f"{batch} {attempt}".encode(), digest_size=8).digest()) or 1


def _before(claim: Claim, most: int) -> SpanContext | None:
    """Return the span of the attempt before this one, whoever made it; None for the first."""
    batch, attempt = claim.id, claim.attempts - 1
    if attempt < 1 and not _HALVES.search(batch):
        return None
    if claim.unseen and is_delayed(batch):
        return None  # its records were in another batch then
    if half := _HALVES.search(batch):
        batch, attempt = batch[: half.end() - 1], most
    return SpanContext(_trace_id(batch), _span_id(batch, attempt), is_remote=True, trace_flags=TraceFlags(1))


class _Ids(RandomIdGenerator):
    """Random ids, but where they are given."""

    def __init__(self) -> None:
        self._given = threading.local()

    @contextlib.contextmanager
    def given(self, trace_id: int, span_id: int) -> Iterator[None]:
        """Within the block a span of this thread gets these ids."""
        self._given.ids = trace_id, span_id
        try:
            yield
        finally:
            self._given.ids = None

    def generate_trace_id(self) -> int:
        ids = getattr(self._given, "ids", None)
        return ids[0] if ids else super().generate_trace_id()

    def generate_span_id(self) -> int:
        ids = getattr(self._given, "ids", None)
        return ids[1] if ids else super().generate_span_id()


class _AsPublished(Sampler):
    """Samples what links to something that was sampled, as a parent's child would be; else goes by another sampler."""

    def __init__(self, otherwise: Sampler) -> None:
        self._otherwise = otherwise

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if any(link.context.trace_flags.sampled for link in links or ()):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, trace_state)
        return self._otherwise.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"AsPublished{{{self._otherwise.get_description()}}}"


@lru_cache
def _provider(role: Role, endpoint: str | None, sample: float | None) -> tuple[_Ids, TracerProvider]:
    ids = _Ids()
    named = OTELResourceDetector().detect().attributes
    resource = Resource.create({} if SERVICE_NAME in named else {SERVICE_NAME: f"millrace-{role}"})
    sampler = None if sample is None else ParentBased(TraceIdRatioBased(sample))
    provider = TracerProvider(sampler, resource, shutdown_on_exit=False, id_generator=ids)
    if isinstance(provider.sampler, ParentBased):
        provider.sampler = _AsPublished(provider.sampler)
    logs.tag_with(_tags)
    provider.add_span_processor(sender_to(endpoint))
    return ids, provider


def _tags() -> dict[str, str]:
    """Return what a line of the log says of the span that it belongs to."""
    span = trace.get_current_span()
    if span is INVALID_SPAN or not (context := span.get_span_context()).trace_flags.sampled:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
