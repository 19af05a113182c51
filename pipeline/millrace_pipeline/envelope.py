"""Record and envelope: what a source yields, and the JSON that stands for it on the list.

The envelope is CloudEvents 1.0 in JSON (https://github.com/cloudevents/spec, `json-format.md`), so that any tool that
knows CloudEvents can read the list, and a person can read it with `redis-cli LRANGE`:

    {"specversion":"1.0","id":"…","source":"quotes","type":"Quote","time":"2026-11-21T01:30:00.123456Z",
     "millrace":"DATA-PIPELINE-KEY","data":{…}}

`millrace` is our mark, an extension attribute: it names the list that the envelope was published on by us. What doesn't
bear the mark of the list that it stands on is foreign there, however much it looks like ours.

`data` stays the very bytes that were published until something asks for more, so a number such as 2^64 or
1.0000000000000000000001 comes out as it went in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from millrace_pipeline.cloudevent import from_base64, is_json
from millrace_pipeline.errors import EnvelopeError, RecordError
from millrace_pipeline.jsontext import checked_text, decode_json, encode_json, encoder, one_line, why_not
from millrace_pipeline.moment import in_utc, now, read_moment, timestamp
from millrace_pipeline.pythonvalues import sayable
from millrace_pipeline.surrogates import in_utf8, well_formed

Position: TypeAlias = Any
"""A place in one source: anything JSON can say (an event id, a cursor, {"file": …, "offset": …})."""

SPECVERSION: Literal["1.0"] = "1.0"


class Record(msgspec.Struct, gc=False):
    """One record, as a source yields it.

    `data` is anything JSON can say, a pydantic model, or `bytes` holding JSON text, which is passed on as it stands.
    `key` names the record in its source: it becomes the envelope's `id`, and what dedupe goes by. Without one the
    publish gives an id of its own. `position` is where to go on after this record. `time` is when it happened; without
    one, when it was published. `type` is the envelope's `type`. `checked` says that the `bytes` are known to be one
    JSON text in UTF-8, and needn't be looked at.
    """

    data: Any
    key: str | None = None
    position: Position | None = None
    type: str | None = None
    time: datetime | None = None
    checked: bool = False


class DeadLetter(msgspec.Struct):
    """Bytes that can't be delivered, exactly as they came, and why.

    A source yields one instead of a `Record` for input that is none; `position` moves on past it all the same.
    """

    original: bytes
    reason: str
    position: Position | None = None


class Envelope(msgspec.Struct, gc=False):
    """One record on the list. `data` is the JSON text (`msgspec.Raw`), or a Python value once a transform made one."""

    id: str
    source: str
    type: str
    time: str | None = None
    data: Any = None
    specversion: Literal["1.0"] | None = None
    """None where the list held a bare JSON object that somebody else pushed."""
    mark: str | None = msgspec.field(default=None, name="millrace")
    """The list that we published it on, as it says itself; None where it says nothing of that kind."""
    traceparent: str | None = None
    """The span that it was published in (CloudEvents' extension for distributed tracing), if that was sampled."""
    tracestate: str | None = None
    """What tracing systems have to say of that span."""

    @property
    def bare(self) -> bool:
        """True where the list held a bare JSON object, in no envelope."""
        return self.specversion is None

    @property
    def text(self) -> bytes:
        """`data` as one line of JSON: the bytes that were published, or the encoded result of a transform."""
        if isinstance(self.data, msgspec.Raw):
            return one_line(bytes(self.data))
        return encode_json(self.data)

    @property
    def line(self) -> bytes:
        """The whole envelope as one line of CloudEvents JSON. Raises RecordError as `encode_json` does."""
        mark = msgspec.UNSET if self.mark is None else self.mark
        text = msgspec.Raw(self.text)
        if self.traceparent is None:
            return encode_json(_Wire(SPECVERSION, self.id, self.source, self.type, self.time, mark, text))
        traced = self.traceparent, msgspec.UNSET if self.tracestate is None else self.tracestate
        return encode_json(_TracedWire(SPECVERSION, self.id, self.source, self.type, self.time, mark, *traced, text))

    @property
    def value(self) -> Any:
        """`data` as Python values.

        Raises EnvelopeError where it is JSON that Python can't hold: a number out of range, nested too deep.
        """
        if isinstance(self.data, msgspec.Raw):
            return decode_json(self.data)
        return self.data


class _Wire(msgspec.Struct, gc=False):
    """The envelope as it is encoded: attribute names and order of CloudEvents."""

    specversion: str
    id: str
    source: str
    type: str
    time: datetime | str | None
    millrace: str | msgspec.UnsetType
    data: Any


class _TracedWire(msgspec.Struct, gc=False):
    """The same of a record that was published in a span."""

    specversion: str
    id: str
    source: str
    type: str
    time: datetime | str | None
    millrace: str | msgspec.UnsetType
    traceparent: str
    tracestate: str | msgspec.UnsetType
    data: Any


_Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class _Published(Envelope, gc=False, kw_only=True):
    """An envelope as we publish it, and no other: what isn't one is looked at again as `_Seen`, to say what it is.

    The mark is for `_published_decoder` to add.
    """

    id: _Text
    source: _Text
    type: _Text
    data: msgspec.Raw
    specversion: Literal["1.0"]
    data_base64: msgspec.UnsetType = msgspec.UNSET


_Maybe: TypeAlias = msgspec.Raw | msgspec.UnsetType


class _Seen(msgspec.Struct):
    """Any object, as it is decoded: everything optional, so that a missing attribute can be named."""

    specversion: str | None = None
    id: str | None = None
    source: str | None = None
    type: str | None = None
    time: _Maybe = msgspec.UNSET
    data: _Maybe = msgspec.UNSET
    data_base64: _Maybe = msgspec.UNSET
    datacontenttype: _Maybe = msgspec.UNSET
    millrace: _Maybe = msgspec.UNSET
    traceparent: _Maybe = msgspec.UNSET
    tracestate: _Maybe = msgspec.UNSET


_seen_decoder = msgspec.json.Decoder(_Seen)


def encode(record: Record, *, id: str, source: str, time: str | None = None, mark: str | None = None) -> bytes:
    """The envelope of a record, as the bytes that go on the list.

    `id` and `time` (by default now) are used where the record has no `key` or `time` of its own. `mark` is the name of
    the list, for what is published on it: without it the envelope is foreign there. Raises RecordError where the
    record's data can't be said in JSON, its `bytes` are no JSON text, or its time is none in UTC.
    """
    data = record.data
    if isinstance(data, bytes):
        if not record.checked:
            checked_text(data)
        data = msgspec.Raw(data)
    else:
        data = sayable(data)
    try:
        when = (time or now()) if record.time is None else in_utc(record.time)
    except OverflowError as error:
        raise RecordError(str(error)) from None
    name, type = record.key or id, record.type or "record"
    try:
        return encoder.encode(_Wire(SPECVERSION, name, source, type, when, mark or msgspec.UNSET, data))
    except UnicodeEncodeError:
        data = msgspec.Raw(encode_json(data))
        name, type = in_utf8(name), in_utf8(type)
        return encoder.encode(_Wire(SPECVERSION, name, source, type, when, mark or msgspec.UNSET, data))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RecordError(f"not JSON: {error}") from error


@lru_cache(maxsize=64)
def _published_decoder(mark: str) -> msgspec.json.Decoder[Envelope]:
    """Decodes what bears this mark, and nothing else: the comparison is done in C."""
    fields = [("mark", Literal[mark], msgspec.field(name="millrace"))]
    marked = msgspec.defstruct("_Marked", fields, bases=(_Published,), gc=False, kw_only=True, module=__name__)
    return msgspec.json.Decoder(marked)


def decode_published(lines: Sequence[bytes], mark: str) -> list[Envelope] | None:
    """The envelopes of all lines, where each is one that we published on this list; None where some line is not.

    That is what nearly every batch holds, so this is done with no Python code a line; `decode` is for the others.
    """
    try:
        envelopes: list[Envelope] = list(map(_published_decoder(mark).decode, lines))
        deque(map(bytes.decode, lines), maxlen=0)  # msgspec doesn't look whether all that it skips is UTF-8
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return envelopes


def decode(line: bytes, *, foreign_id: Callable[[], str]) -> Envelope:
    """What stands on the list: an envelope, ours or any CloudEvent, or a bare JSON object that somebody pushed by hand.

    A bare object becomes an envelope whose id comes from `foreign_id`. Raises EnvelopeError, whose message is the dead
    letter's reason, for anything else: not UTF-8, not JSON, no object, an envelope of another version or without data.
    """
    try:
        line.decode()
        seen = _seen_decoder.decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        if (mended := well_formed(line)) is not line:
            return _with_surrogates(decode(mended, foreign_id=foreign_id), line, mended)
        # An object whose own "id" is a number is a fine record, though no envelope.
        if isinstance(error, msgspec.ValidationError) and _said_version(line) is None:
            return Envelope(foreign_id(), "foreign", "record", None, msgspec.Raw(line))
        raise EnvelopeError(why_not(error)) from error
    if seen.specversion is None:
        return Envelope(foreign_id(), "foreign", "record", None, msgspec.Raw(line))
    if seen.specversion != SPECVERSION:
        raise EnvelopeError(f"envelope of an unknown version: specversion {seen.specversion!r}, expected '1.0'")
    if not (seen.id and seen.source and seen.type):
        missing = [name for name in ("id", "source", "type") if not getattr(seen, name)]
        raise EnvelopeError(f"envelope without {', '.join(missing)}")
    said = [_text_of(raw) for raw in (seen.millrace, seen.traceparent, seen.tracestate)]
    return Envelope(seen.id, seen.source, seen.type, _time(seen.time), _data(seen), SPECVERSION, *said)


def _with_surrogates(found: Envelope, line: bytes, mended: bytes) -> Envelope:
    """An envelope that was read from a mended line, with its data as it stood in the line."""
    data = bytes(found.data)
    start = mended.find(data) if rb"\ufffd" in data else -1
    while start >= 0:
        end = start + len(data)
        # Nothing else of the same letters: the one that changes the data where it is another text.
        probe = mended[:start] + b'"' + b"x" * (len(data) - 2) + b'"' + mended[end:]
        if found.bare or _data_at(probe) != data:
            found.data = msgspec.Raw(line[start:end])
            return found
        start = mended.find(data, start + 1)
    return found


def _data_at(line: bytes) -> bytes | None:
    try:
        found = _seen_decoder.decode(line).data
    except msgspec.DecodeError:
        return None
    return None if isinstance(found, msgspec.UnsetType) else bytes(found)


def _data(seen: _Seen) -> msgspec.Raw:
    """The data of an envelope, whichever way it is said. Raises EnvelopeError where there is none, or two."""
    text = _string("data_base64", seen.data_base64)
    if not isinstance(seen.data, msgspec.UnsetType):
        if text is not None:
            raise EnvelopeError("envelope with both data and data_base64: CloudEvents allows one of them")
        return seen.data
    if text is None:
        raise EnvelopeError("envelope without data")
    content, kind = from_base64(text), _string("datacontenttype", seen.datacontenttype)
    if kind is not None and not is_json(kind):
        return msgspec.Raw(encode_json({"datacontenttype": kind, "data_base64": text}))
    try:
        checked_text(content)
    except RecordError as error:
        raise EnvelopeError(f"data_base64: {error}") from error
    return msgspec.Raw(content)


def _time(raw: _Maybe) -> str | None:
    """The time of an envelope: text as it stands there, a number since 1970 as CloudEvents has times.

    A number that is no time is its digits, for whoever asks for the time to say. Raises EnvelopeError for what isn't
    either.
    """
    try:
        value = None if isinstance(raw, msgspec.UnsetType) else decode_json(well_formed(bytes(raw)))
    except EnvelopeError as error:
        raise EnvelopeError(f"time: {error}") from error
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = type(value).__name__
        raise EnvelopeError(f"time is a {kind}: expected text as RFC 3339 has it, or a number since 1970")
    moment = read_moment(value)
    return str(value) if moment is None else timestamp(moment)


def _text_of(raw: _Maybe) -> str | None:
    """An extension attribute, where it is text; others may mean something else by its name."""
    value = None if isinstance(raw, msgspec.UnsetType) else decode_json(raw)
    return value if isinstance(value, str) else None


def _string(name: str, raw: _Maybe) -> str | None:
    """An attribute that is text; one that is null counts as not there, as CloudEvents has it."""
    if isinstance(raw, msgspec.UnsetType):
        return None
    try:
        return msgspec.json.decode(raw, type=str | None)
    except msgspec.ValidationError as error:
        raise EnvelopeError(f"{name} is no text: {error}") from error


class _OnlyVersion(msgspec.Struct):
    specversion: _Maybe = msgspec.UNSET


def is_envelope(line: bytes) -> bool:
    """True for a JSON object that says it is a CloudEvent, of whatever version, broken or not."""
    return bool(_said_version(line))


def _said_version(line: bytes) -> bytes | None:
    """What an object says its version is, as JSON; None where it says nothing, and empty for what is no object."""
    try:
        found = msgspec.json.decode(well_formed(line), type=_OnlyVersion).specversion
    except (msgspec.DecodeError, RecursionError):
        return b""
    return None if isinstance(found, msgspec.UnsetType) or bytes(found) == b"null" else bytes(found)
