"""Transforms: what a flow's functions make of the records of a batch, before the sink sees them.

A transform is a function of one record's data, as Python values of JSON. It returns the record, changed or as it was;
a list (or tuple, or generator) of records; or None, or an empty list, which leaves the record out ("filtered"). The
functions of a flow run in order, each on what the one before it returned. A transform should give the same result for
the same record, since a batch whose consumer died is transformed again.

A record that the whole chain leaves as it was keeps the very bytes that were published: a function that only filters
changes no number's spelling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
from pydantic import BaseModel, TypeAdapter

from consumer.evolving import as_it_is
from pipeline.envelope import Envelope, decode_json, encode_json, resolve
from pipeline.errors import EnvelopeError, RecordError
from pipeline.fitting import REASON_LIMIT, fitted, place_of

Transform: TypeAlias = Callable[[Any], Any]


def drop_canaries(record: Any) -> Any:
    """Leaves out the canary events that Wikimedia injects to watch its streams (`meta.domain` is "canary").

    https://wikitech.wikimedia.org/wiki/Data_Platform/Systems/Event_Platform/EventStreams_HTTP_Service#Canary_Events
    """
    return None if resolve("/meta/domain", record) == "canary" else record


@dataclass(slots=True)
class Outcome:
    """What became of the records of a batch. Each of them is in exactly one of `origin`, `filtered` and `rejected`."""

    envelopes: list[Envelope]
    """What goes to the sink. Of a record that became several: `<id>:0`, `<id>:1`, ... in order."""
    models: list[BaseModel] | None
    """Each of `envelopes` as the flow's model, where it has one."""
    origin: list[int]
    """For each of `envelopes` the index of the record it came from."""
    filtered: list[int]
    """Indices of the records that a transform left out."""
    rejected: dict[int, str]
    """Reasons by index of the records that a transform failed on, or that don't fit the model.

    Of a record that became several nothing goes to the sink when one of them is rejected.
    """


def apply(
    envelopes: Sequence[Envelope],
    transforms: Sequence[Transform] = (),
    model: type[BaseModel] | None = None,
    *,
    evolves: bool = False,
) -> Outcome:
    """Runs the transforms on each record, then fits what they returned to the model.

    Without either nothing is decoded. No record's failure raises: it is named in the outcome. Where the model
    `evolves`, an object that doesn't fit it is kept as it is.
    """
    if transforms:
        outcome = _transformed(envelopes, transforms)
    else:
        outcome = Outcome(list(envelopes), None, list(range(len(envelopes))), [], {})
    if model is not None:
        _fit(outcome, model, evolves)
    return outcome


def _transformed(envelopes: Sequence[Envelope], transforms: Sequence[Transform]) -> Outcome:
    outcome = Outcome([], None, [], [], {})
    for index, envelope in enumerate(envelopes):
        try:
            results = _results(envelope, transforms)
        except _Failed as failure:
            outcome.rejected[index] = str(failure)[:REASON_LIMIT]
            continue
        if not results:
            outcome.filtered.append(index)
        outcome.envelopes += results
        outcome.origin += [index] * len(results)
    return outcome


class _Failed(Exception):
    """A record that can't be decoded, transformed or encoded. The message is its reason."""


def _results(envelope: Envelope, transforms: Sequence[Transform]) -> list[Envelope]:
    try:
        original = decode_json(envelope.text)  # a copy of its own, so that a function may change what it is given
        before = encode_json(original)
    except (EnvelopeError, RecordError) as error:
        raise _Failed(str(error)) from error
    values = [original]
    try:
        for transform in transforms:
            values = [result for value in values for result in _several(transform(value))]
    except MemoryError:
        raise  # this machine's trouble, not the record's
    except Exception as error:
        raise _Failed(f"{type(error).__qualname__}: {error} ({place_of(error)})") from error
    try:
        texts = [encode_json(value) for value in values]
    except RecordError as error:
        raise _Failed(f"a transform returned what is no record: {error}") from error
    if texts == [before]:
        return [envelope]
    if len(texts) == 1:
        return [msgspec.structs.replace(envelope, data=msgspec.Raw(texts[0]))]
    return [
        msgspec.structs.replace(envelope, id=f"{envelope.id}:{number}", data=msgspec.Raw(text))
        for number, text in enumerate(texts)
    ]


def _several(result: Any) -> Iterable[Any]:
    if result is None:
        return ()
    if isinstance(result, list | tuple | Iterator):
        return (record for record in result if record is not None)
    return (result,)


def _fit(outcome: Outcome, model: type[BaseModel], evolves: bool) -> None:
    """Validates every envelope of the outcome; moves those that don't fit, and what came with them, to `rejected`."""
    texts = [envelope.text for envelope in outcome.envelopes]
    try:
        models = _adapter(model).validate_json(b"[" + b",".join(texts) + b"]")
        if len(models) == len(texts):
            outcome.models = models
            return
    except MemoryError:
        raise
    except Exception:  # noqa: S110 - ValidationError, or what a validator of the user's raised: named record by record
        pass
    results = [fitted(text, model) for text in texts]
    if evolves:
        results = [
            (as_it_is(text, model) or result) if isinstance(result, str) else result
            for text, result in zip(texts, results, strict=True)
        ]
    for index, result in zip(outcome.origin, results, strict=True):
        if isinstance(result, str):
            outcome.rejected.setdefault(index, result)
    kept = [
        (envelope, result, index)
        for envelope, result, index in zip(outcome.envelopes, results, outcome.origin, strict=True)
        if index not in outcome.rejected
    ]
    outcome.envelopes = [envelope for envelope, _, _ in kept]
    outcome.models = [result for _, result, _ in kept if not isinstance(result, str)]
    outcome.origin = [index for _, _, index in kept]
    outcome.rejected = dict(sorted(outcome.rejected.items()))


@lru_cache(maxsize=64)
def _adapter(model: type[BaseModel]) -> TypeAdapter[list[BaseModel]]:
    return TypeAdapter(list[model])  # type: ignore[valid-type]
