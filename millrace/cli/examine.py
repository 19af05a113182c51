"""Examine: make every part of a flow once, to see that it can be, before anything runs. No network, nothing written."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from millrace.cli.places import shared_places
from millrace.produced import is_produced
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.component import Component
from millrace_pipeline.flows.flow import Flow, Flows, load
from millrace_pipeline.flows.problem import all_of
from millrace_pipeline.flows.reference import Reference, load_model, load_transform
from millrace_pipeline.flows.validation import told
from millrace_pipeline.process.traces import check_traces

if TYPE_CHECKING:
    from millrace_consumer.sinks.base import Sink
    from millrace_producer.sources.base import Source

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_POINTER_OPTION = re.compile(r"\bJSON pointers?\b")


def load_all(path: Path, names: Collection[str] = ()) -> Flows:
    """The flows of a file, every source, sink, transform and model of these, or of all, made once and checked.

    Raises ConfigError with all that is wrong in the file.
    """
    return load(path, examine=lambda part: _make(part) if not names or _flow_of(part) in names else None)


def build_all(flows: Iterable[Flow]) -> None:
    """Make and check all parts of these flows. Raises ConfigError with all that is wrong."""
    _each(flows, _make_source, _make_sink, _make_transforms, check_traces)


def build_to_produce(flow: Flow) -> None:
    """Make and check what a producer of this flow runs. Raises ConfigError with all that is wrong."""
    _each([flow], _make_source, check_traces)


def build_to_consume(flows: Iterable[Flow]) -> None:
    """Make and check what a consumer of these flows runs. Raises ConfigError with all that is wrong."""
    _each(flows, _make_sink, _make_transforms, check_traces)


def doubts(flows: Iterable[Flow]) -> Iterator[str]:
    """Yield what is likely to be a mistake in flows that can be run all the same, each with its place in the file."""
    flows = list(flows)
    for flow in flows:
        for part, built in _built(flow):
            for steps, value in dotted_names(built):
                yield str(part.error(_no_pointer(value), *steps))
        for steps, value in dotted_names(flow.dedupe, ("dedupe",)) if flow.dedupe else ():
            yield str(flow.error(_no_pointer(value), *steps))
        yield from _without_effect(flow)
        yield from _doubts_of_sinks(flow)
    yield from shared_places(flows)


def dotted_names(model: BaseModel, steps: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the options that take a field or a JSON pointer and are `meta.id`, where `/meta/id` was likely meant."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name, None)
        if isinstance(value, BaseModel):
            yield from dotted_names(value, (*steps, name))
        elif _POINTER_OPTION.search(field.description or ""):
            for text in _texts(value):
                if _DOTTED.fullmatch(text):
                    yield (*steps, name), text


def _without_effect(flow: Flow) -> Iterator[str]:
    """Yield what is done while records are published, in a flow that others publish to."""
    try:
        if is_produced(flow):
            return
    except ConfigError:  # said elsewhere
        return
    for option in ("dedupe", "contract", "publish"):
        if option in flow.model_fields_set and getattr(flow, option) is not None:
            message = "holds for what `millrace.writer` publishes: what others push by themselves isn't looked at"
            yield str(flow.error(message, option))


def _doubts_of_sinks(flow: Flow) -> Iterator[str]:
    """Yield what each sink says of itself and of the flow's model."""
    from millrace_consumer.sinks.base import Sink

    try:
        model = flow.load_model()
    except ConfigError:  # said elsewhere
        return
    for part, built in _built(flow):
        if isinstance(built, Sink) and (doubt := built.doubt(model)):
            yield str(part.error(doubt))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (inner for inner in value.values() if isinstance(inner, str))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from (inner for inner in value if isinstance(inner, str))


def _no_pointer(value: str) -> str:
    inside = "/" + value.replace(".", "/")
    return f"{value!r} is a field of that very name, dot and all; a field inside another is a JSON pointer: {inside}"


def _built(flow: Flow) -> Iterator[tuple[Component, BaseModel]]:
    """Yield what the flow is made of, but for what can't be made here, which is said elsewhere."""
    parts = (flow.source, *flow.sink.each, *(one for one in flow.transforms if isinstance(one, Component)))
    for part in parts:
        try:
            built = _make(part)
        except ConfigError:
            continue
        if isinstance(built, BaseModel):
            yield part, built


def _each(flows: Iterable[Flow], *makers: Callable[[Flow], object]) -> None:
    errors: list[ConfigError] = []
    for flow in flows:
        for make in makers:
            try:
                make(flow)
            except ConfigError as error:
                errors.append(error)
    if errors:
        raise all_of(errors)


def _flow_of(part: Component | Reference | Flow) -> str:
    return part.name if isinstance(part, Flow) else part.flow


def _make(part: Component | Reference | Flow) -> object:
    """Make one part of a flow by itself, or check what fits together only in the whole of it: the sink and the model.

    The tables are imported here, as only a command knows both services.
    """
    if isinstance(part, Flow):
        _each([part], _make_source, _make_sink, _make_transforms, check_traces)
        return part
    if isinstance(part, Reference):
        return load_model(part) if part.steps[-1] == "model" else load_transform(part)
    if part.part == "source":
        from millrace_producer.sources import SOURCES
        from millrace_producer.sources.base import Source

        return part.build(SOURCES, Source)
    if part.part == "transforms":
        from millrace_consumer.transforms import TRANSFORMS
        from millrace_consumer.transforms.base import Transform

        return part.build(TRANSFORMS, Transform)
    from millrace_consumer.sinks import SINKS
    from millrace_consumer.sinks.base import Sink

    return part.build(SINKS, Sink)


def _make_source(flow: Flow) -> None:
    from millrace_producer.sources import SOURCES
    from millrace_producer.sources.base import Source

    source = flow.source.build(SOURCES, Source)
    _checked(flow.source, source.check)
    if flow.producers > 1 and not source.read_together:
        raise flow.error(
            f"{flow.producers} producers would each read all of a {flow.source.type} source: expected 1, or a source "
            "that several read together, such as {type: scrapy, crawl: shared}",
            "producers",
        )
    if flow.queue.partitions > 1:
        _check_partitions(flow, source)
    for option in ("dedupe", "contract") if source.read_together else ():
        if option in flow.model_fields_set and getattr(flow, option) is not None:
            message = "isn't looked at by a crawl that spiders share: leave it out, or crawl: own"
            raise flow.error(message, option)


def _check_partitions(flow: Flow, source: Source) -> None:
    """Raise ConfigError for what a flow with partitions can't have."""
    if not source.ordered:
        raise flow.error(
            "partitions need a source that gives each record a position, and positions that have an order: files by "
            "name (not followed), a Redis stream without a group, or a python source with counted: true. This one "
            "doesn't: leave `partitions` out",
            *("queue", "partitions"),
        )
    if flow.alerts:
        raise flow.error("alerts look at one list, and this flow has partitions: leave them out", "alerts")
    if flow.traces:
        raise flow.error("traces follow one list, and this flow has partitions: leave them out", "traces")


def _make_transforms(flow: Flow) -> None:
    from millrace_consumer.transforms import TRANSFORMS
    from millrace_consumer.transforms.base import Transform

    names: frozenset[str] = frozenset()
    for given, transform in zip(flow.transforms, flow.load_transforms(TRANSFORMS, Transform), strict=True):
        try:
            names = transform.names_after(names) if isinstance(transform, Transform) else frozenset()
        except ValueError as error:
            assert isinstance(given, Component)
            raise given.error(f"no record passes: {error}") from error


def _make_sink(flow: Flow) -> None:
    from millrace_consumer.sinks import SINKS
    from millrace_consumer.sinks.base import Sink

    model = flow.load_model()
    for part in flow.sink.each:
        _check_sink(part, part.build(SINKS, Sink), model)
    if len(flow.sink.each) > 1:
        from millrace_consumer.fanout import sink_of

        _check_sink(flow.sink, sink_of(flow), model)


def _check_sink(part: Component, sink: Sink, model: type[BaseModel] | None) -> None:
    _checked(part, lambda: sink.check(model))


def _checked(part: Component, check: Callable[[], None]) -> None:
    try:
        check()
    except ConfigError as error:
        message = str(error)
    except Exception as error:  # of a part of the user's own, or of the file system
        message = f"can't be used: {told(error)}"
    else:
        return
    raise part.error(message)
