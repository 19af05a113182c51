"""Chain: a flow's transforms in order, and then its model, over the records of a batch."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, TypeAlias

import msgspec
from pydantic import BaseModel

from millrace_consumer.evolving import coerce_partially
from millrace_consumer.fastmodel import fast_model_of
from millrace_consumer.given import strangers
from millrace_consumer.looking import say_names_twice
from millrace_consumer.transforms.concurrent import Concurrent, at_once
from millrace_consumer.transforms.each import Each
from millrace_consumer.transforms.enveloped import Enveloped, EnvelopeFields
from millrace_consumer.transforms.frames import FRAMES, LISTS, Frame
from millrace_consumer.transforms.stage import Failed, Row, Stage
from millrace_consumer.transforms.whole import Whole
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import RetryLater
from millrace_pipeline.extras import need
from millrace_pipeline.fitting import all_fitted, fitted, in_unicode
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.modelreader import reader_of

Function: TypeAlias = Callable[[Any], Any]


@dataclass(slots=True)
class Outcome:
    """What became of the records of a batch: each is in exactly one of `origin`, `filtered`, `rejected` and `later`."""

    envelopes: list[Envelope]
    """What goes to the sink. Of a record that became several: `<id>:0`, `<id>:1`, ... in order."""
    rows: list[Any] | None
    """Where the flow has a model, for each of `envelopes` an object with its fields: the model's own, or its fast's."""
    origin: Sequence[int]
    """For each of `envelopes` the index of the record it came from."""
    filtered: list[int]
    """Indices of the records that a transform left out."""
    rejected: dict[int, str]
    """Reasons by index of the records that a transform failed on, or that don't fit the model.

    Of a record that became several nothing goes to the sink when one of them is rejected, or to be tried later.
    """
    later: dict[int, RetryLater] = field(default_factory=dict)
    """By index the records that a transform wants to be given again."""


def apply(
    envelopes: list[Envelope],
    transforms: Sequence[Function] = (),
    model: type[BaseModel] | None = None,
    *,
    evolves: bool = False,
) -> Outcome:
    """Runs the transforms on the records, then fits what they returned to the model.

    Without either nothing is decoded. No record's failure raises: it is named in the outcome. Where the model
    `evolves`, an object that doesn't fit it is kept as it is.
    """
    if transforms or model is not None:
        say_names_twice(envelopes)
    if transforms:
        outcome = _transformed(envelopes, stages(tuple(transforms)))
    else:
        outcome = Outcome(envelopes, None, range(len(envelopes)), [], {})
    if model is not None:
        _fit(outcome, model, evolves)
    return outcome


@lru_cache(maxsize=64)
def stages(transforms: tuple[Function, ...]) -> list[Stage]:
    """The transforms as they are called. Those of one record that stand together are one stage.

    Raises ConfigError where one wants a table of a library that is not installed.
    """
    found: list[Stage] = []
    each: list[Function] = []
    for transform in transforms:
        if isinstance(transform, EnvelopeFields):
            each = []
            found.append(Enveloped(transform))
            continue
        frame = frame_of(transform)
        if frame is None and not at_once(transform):
            if not each:
                found.append(Each(each))
            each.append(_of_model(transform) or transform)
        else:
            each = []
            if frame is not None and frame.library:
                need(frame.library, frame.library, f"a transform of {frame.kind}")
            found.append(Concurrent(transform) if frame is None else Whole(transform, frame))
    return found


def frame_of(transform: Function) -> Frame | None:
    """The table that a function wants all records as; None for a function of one record."""
    hint = _hint(transform)
    if isinstance(hint, str):  # imported for the type checker alone, so only its name is known
        names = {f"{module}.{name}": frame for (module, name), frame in FRAMES.items()}
        names |= {f"{alias}.{name}": names[f"{module}.{name}"] for alias, module, name in _ALIASES}
        return LISTS if hint.startswith(("list[", "List[")) else names.get(hint)
    if hint is list or typing.get_origin(hint) is list:
        return LISTS
    module = getattr(hint, "__module__", None) or ""
    return FRAMES.get((module.partition(".")[0], getattr(hint, "__name__", "")))


_ALIASES = (("pd", "pandas", "DataFrame"), ("pl", "polars", "DataFrame"), ("pa", "pyarrow", "Table"))


def _hint(transform: Function) -> Any:
    """The type hint of the first parameter, as an object or, where that can't be had, as it is written."""
    function = inspect.unwrap(transform)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return None  # something built in
    first = next(iter(parameters), None)
    if not (inspect.isroutine(function) or isinstance(function, type)):
        function = type(function).__call__  # an object that can be called
    if first is None or first.annotation is first.empty:
        return None
    try:
        return typing.get_type_hints(function).get(first.name)
    except Exception:  # a name that is not there at run time
        return first.annotation


def _of_model(transform: Function) -> Function | None:
    """The function with its record validated first, where its hint is a pydantic model."""
    hint = _hint(transform)
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return partial(_validated, transform, hint)
    return None


def _validated(transform: Function, model: type[BaseModel], record: Any) -> Any:
    validated = reader_of(model).read_value(record)
    if isinstance(record, dict) and (reason := strangers([validated], [encode_json(record)], model)):
        raise ValueError(reason[0])
    return transform(validated)


def _transformed(envelopes: Sequence[Envelope], through: Sequence[Stage]) -> Outcome:
    failed: dict[int, Failed] = {}
    given = [Row(index, envelope.text) for index, envelope in enumerate(envelopes)]
    rows = given
    for stage in through:
        stage = stage.of(envelopes) if isinstance(stage, Enveloped) else stage
        rows = [row for row in stage.run(rows, failed) if row.origin not in failed]
    rows = [row for row in rows if row.origin not in failed]
    made: dict[int, list[Row]] = {}
    for row in rows:
        made.setdefault(row.origin, []).append(row)
    names = {origin: _names(envelopes[origin].id, len(of)) for origin, of in made.items()}
    came: list[Envelope] = []
    for row in rows:
        envelope, name = envelopes[row.origin], next(names[row.origin])
        if row is not given[row.origin] or name != envelope.id:
            envelope = msgspec.structs.replace(envelope, id=name, data=msgspec.Raw(row.text))
        came.append(envelope)
    filtered = [index for index in range(len(envelopes)) if index not in made and index not in failed]
    rejected = {index: str(failure) for index, failure in sorted(failed.items()) if not failure.later}
    later = {index: failure.later for index, failure in sorted(failed.items()) if failure.later}
    return Outcome(came, None, [row.origin for row in rows], filtered, rejected, later)


def _names(id: str, count: int) -> typing.Iterator[str]:
    return iter([id] if count == 1 else [f"{id}:{number}" for number in range(count)])


def _fit(outcome: Outcome, model: type[BaseModel], evolves: bool) -> None:
    """Fits every envelope of the outcome; moves those that don't fit, and what came with them, to `rejected`.

    One that has fields, and none that the model knows, doesn't fit: of it nothing would be left. Where the model takes
    any field or evolves, that is for the sink to say, which may write the record's own bytes.
    """
    texts = [raw if type(raw := envelope.data) is msgspec.Raw else envelope.text for envelope in outcome.envelopes]
    fast = fast_model_of(model)
    keeps = evolves or model.model_config.get("extra") == "allow"
    outcome.rows = all_fitted(texts, model) if fast is None else fast.decode_all(texts)
    if outcome.rows is not None and (keeps or not strangers(outcome.rows, texts, model)):
        return
    rows: list[Any] = [(fast and fast.decode(text)) or fitted(bytes(text), model) for text in texts]
    if not keeps:
        fits = [index for index, row in enumerate(rows) if not isinstance(row, str)]
        unknown = strangers([rows[index] for index in fits], [texts[index] for index in fits], model)
        for place, reason in unknown.items():
            rows[fits[place]] = reason
    if evolves:
        rows = [
            (coerce_partially(in_unicode(bytes(text)), model) or row) if isinstance(row, str) else row
            for text, row in zip(texts, rows, strict=True)
        ]
    for index, row in zip(outcome.origin, rows, strict=True):
        if isinstance(row, str):
            outcome.rejected.setdefault(index, row)
    kept = [place for place, index in enumerate(outcome.origin) if index not in outcome.rejected]
    outcome.envelopes = [outcome.envelopes[place] for place in kept]
    outcome.rows = [rows[place] for place in kept]
    outcome.origin = [outcome.origin[place] for place in kept]
    outcome.rejected = dict(sorted(outcome.rejected.items()))
