"""Traces: a span of each publish and each delivery, for OpenTelemetry, whose libraries are imported where it is wanted.

What is published in a span bears the span's `traceparent` in each of its envelopes (CloudEvents' extension for
distributed tracing), and a delivery's span links to the spans of all that it delivers.
"""

from __future__ import annotations

import os

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.extras import need
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.flows.options import TracesOptions
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.process.span import NO_TRACES, Role, Traces


def traces_of(flow: Flow, role: Role) -> Traces:
    """Return the spans of a flow. Raises ConfigError as `check_traces` does."""
    options = _wanted(flow.traces)
    if options is None:
        return NO_TRACES
    check_traces(flow)
    return _made(flow.name, flow.queue.key, flow.max_attempts, role, options)


def traces_of_list(name: str, key: str) -> Traces:
    """Return the spans of who publishes on a list with no flow: as MILLRACE_TRACES says. Raises ConfigError."""
    options = _wanted(None)
    if options is None:
        return NO_TRACES
    _need_otel()
    return _made(name, key, 1, "producer", options)


def check_traces(flow: Flow) -> None:
    """Raise ConfigError where the flow is to be traced and what that takes is not installed."""
    if _wanted(flow.traces) is None:
        return
    try:
        _need_otel()
    except ConfigError as error:
        raise (flow.error(str(error), "traces") if flow.traces else error) from None


def _made(name: str, key: str, attempts: int, role: Role, options: TracesOptions) -> Traces:
    from millrace_pipeline.process.otel import FlowTraces

    return FlowTraces(name, key, attempts, role, options)


def _need_otel() -> None:
    for module in ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"):
        need(module, "otel", "tracing, as `traces` or MILLRACE_TRACES wants it,")


def _wanted(said: TracesOptions | None) -> TracesOptions | None:
    """Return how to trace what says this of it; None where it is not traced."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if said is None and (share := Settings.load().traces) is not None:
        said = TracesOptions(sample=share)
    return None if said is None or said.sample == 0 else said
