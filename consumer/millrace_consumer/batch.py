"""A batch, as a sink sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from millrace_consumer.given import given_fields, strangers
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import EnvelopeError, RecordError, RecordsRejected
from millrace_pipeline.fitting import fitted, in_unicode
from millrace_pipeline.jsontext import decode_json, one_line

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Buffer

F = TypeVar("F")
T = TypeVar("T")

_data = attrgetter("data")

_NO_SUCH_FORM = (EnvelopeError, RecordError, PydanticSerializationError)


class Batch:
    """Records under one id that never changes, however often they are delivered.

    The records are held as the bytes that Redis returned until something asks for more; each form is made once.
    Asking for a form raises RecordsRejected, naming the records that can't take it (a number that Python can't hold).

    `id` is safe as a file name. `envelopes` holds one envelope a record, in the order of publication. With a `model`,
    `rows` holds an object for each record that has the model's fields, validated: the model's own instance, or one of
    its fast model. `originals` holds each envelope as it stood on the list, or None where it was made or changed since.
    A sink that knows how many bytes it put out sets `written`.
    """

    def __init__(
        self,
        id: str,
        envelopes: list[Envelope],
        *,
        flow: str = "",
        model: type[BaseModel] | None = None,
        rows: list[Any] | None = None,
        originals: Sequence[bytes | None] = (),
    ) -> None:
        if rows is not None and len(rows) != len(envelopes):
            raise ValueError(f"{len(rows)} rows for {len(envelopes)} envelopes")
        self.id = id
        self.flow = flow
        self.envelopes = envelopes
        self.model = model
        self.rows = rows
        self.originals = originals or [None] * len(envelopes)
        self.written = 0
        """Bytes that the sink put out for the whole batch, as encoded and compressed; 0 where it can't tell."""

    def __len__(self) -> int:
        return len(self.envelopes)

    @cached_property
    def lines(self) -> list[bytes]:
        """Each record's data as one line of JSON, without the line break."""
        raws = self._raws
        return _each(lambda envelope: envelope.text, self.envelopes) if raws is None else _on_one_line(raws)

    @cached_property
    def unicode_lines(self) -> list[bytes]:
        """The `lines`, for what takes no half of a character: U+FFFD stands for each, and is counted."""
        return [in_unicode(line) for line in self.lines]

    @cached_property
    def text(self) -> bytes:
        """The `lines`, each with a line break behind it."""
        raws = self._raws
        # Joined as they are, the records needn't be copied into lines of their own first.
        lines = self.lines if raws is None or _have_breaks(raws) else raws
        return b"\n".join((*lines, b""))

    @cached_property
    def ids(self) -> list[str]:
        """Each record's id."""
        return [envelope.id for envelope in self.envelopes]

    @cached_property
    def envelope_lines(self) -> list[bytes]:
        """Each record's whole envelope as one line of CloudEvents JSON, without the line break.

        Unless something changed it, that is the one that stood on the list, with every attribute it had there.
        """
        kept = [original for original in self.originals if original is not None]
        if len(kept) == len(self.envelopes):
            return _on_one_line(kept)
        pairs = list(zip(self.originals, self.envelopes, strict=True))
        return _each(lambda pair: pair[1].line if pair[0] is None else one_line(pair[0]), pairs)

    @cached_property
    def models(self) -> list[BaseModel] | None:
        """Each record as the flow's model, validated; None where it has none."""
        model = self.model
        if model is None or self.rows is None:
            return None
        fits = [
            row if isinstance(row, BaseModel) else fitted(envelope.text, model)
            for row, envelope in zip(self.rows, self.envelopes, strict=True)
        ]
        if reasons := {index: fit for index, fit in enumerate(fits) if isinstance(fit, str)}:
            raise RecordsRejected(reasons)
        return [fit for fit in fits if not isinstance(fit, str)]

    @cached_property
    def given(self) -> list[Set[str]] | None:
        """For each record the fields of the flow's model that it has, the others are defaults; None without a model."""
        if self.model is None or self.rows is None:
            return None
        return given_fields(self.rows, self._texts, self.model)

    @property
    def strangers(self) -> dict[int, str]:
        """By index the reasons of records that have fields, and none that the flow's model knows."""
        if self.model is None or self.rows is None:
            return {}
        return strangers(self.rows, self._texts, self.model)

    @property
    def _texts(self) -> list[bytes | msgspec.Raw]:
        return [raw if type(raw := envelope.data) is msgspec.Raw else envelope.text for envelope in self.envelopes]

    @cached_property
    def records(self) -> list[Any]:
        """Each record's data as Python values: with a model its validated fields by name, else what the JSON says."""
        if self.models is not None:
            return _each(lambda model: model.model_dump(warnings=False), self.models)
        return _each(_value_in_unicode, self.envelopes)

    @cached_property
    def table(self) -> pa.Table:
        """The records as an Arrow table: typed columns with a model, else `id`, `time` and `data` as JSON text."""
        from millrace_consumer.arrow import table_of_envelopes, table_of_rows

        if self.model is None:
            return table_of_envelopes(self.envelopes, self.lines)
        return table_of_rows(self.rows or [], self.model)

    @property
    def _raws(self) -> list[msgspec.Raw] | None:
        """Each record's data as it was published; None where some record's is not that any more."""
        raws = list(map(_data, self.envelopes))
        return raws if set(map(type, raws)) <= {msgspec.Raw} else None

    def pick(self, indices: Sequence[int]) -> Batch:
        """Return a batch of some of the records, under the same id: those that belong into one file of several."""
        part = Batch(
            self.id,
            [self.envelopes[i] for i in indices],
            flow=self.flow,
            model=self.model,
            rows=None if self.rows is None else [self.rows[i] for i in indices],
            originals=[self.originals[i] for i in indices],
        )
        for form in ("lines", "envelope_lines", "models", "given", "records"):
            if self.__dict__.get(form) is not None:  # made once already, where cached_property keeps it
                part.__dict__[form] = [self.__dict__[form][i] for i in indices]
        return part


def _value_in_unicode(envelope: Envelope) -> Any:
    data = envelope.data
    return decode_json(in_unicode(bytes(data))) if isinstance(data, msgspec.Raw) else data


def _have_breaks(lines: Iterable[Buffer]) -> bool:
    text = b"".join(lines)
    return b"\n" in text or b"\r" in text


def _on_one_line(lines: Sequence[Buffer]) -> list[bytes]:
    texts = list(map(bytes, lines))
    return list(map(one_line, texts)) if _have_breaks(texts) else texts


def _each(form: Callable[[F], T], items: list[F]) -> list[T]:
    """The form of every item; the slow walk that names those without comes only after one failed."""
    try:
        return [form(item) for item in items]
    except _NO_SUCH_FORM:
        reasons = {}
        for index, item in enumerate(items):
            try:
                form(item)
            except _NO_SUCH_FORM as error:
                reasons[index] = str(error)
        raise RecordsRejected(reasons) from None
