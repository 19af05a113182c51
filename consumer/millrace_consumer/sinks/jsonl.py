"""Records as JSON Lines."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import IO, Annotated, BinaryIO, Literal, cast

import msgspec
from pydantic import BaseModel, Field

from millrace_consumer.batch import Batch
from millrace_consumer.readback import ENVELOPE_ID, WHOLE, Readback, named
from millrace_consumer.sinks.filereadback import Damaged, FileReadback
from millrace_consumer.sinks.files import FileSink
from millrace_pipeline.errors import EnvelopeError, RecordError
from millrace_pipeline.jsontext import checked_text, decode_json
from millrace_pipeline.pointer import resolve, steps_of
from millrace_pipeline.surrogates import well_formed

SUFFIXES = {"none": ".jsonl", "gzip": ".jsonl.gz", "zstd": ".jsonl.zst"}


class JsonlSink(FileSink):
    """Exactly once: one file a batch, one line of JSON a record, as the very bytes that were published.

    Nothing is decoded unless a partition asks for a field of the record.
    """

    envelope: Annotated[
        bool,
        Field(description="Write the whole CloudEvents envelope, with id, source, type and time, not only its data."),
    ] = False
    compression: Annotated[
        Literal["none", "gzip", "zstd"], Field(description="Compress each file as a whole: `.jsonl.gz`, `.jsonl.zst`.")
    ] = "none"

    kind = "jsonl"

    @property
    def suffix(self) -> str:
        """The end of the files' names."""
        return SUFFIXES[self.compression]

    @property
    def prefetch(self) -> Sequence[str]:
        """See `Sink.prefetch`."""
        if self.partition:
            return ()
        return ("envelope_lines",) if self.envelope else ("text",)

    def encode(self, batch: Batch) -> Iterable[bytes]:
        """The lines, in order, each with a line break after it."""
        text = b"\n".join((*batch.envelope_lines, b"")) if self.envelope else batch.text
        if self.compression == "gzip":
            return _gzip(text)
        if self.compression == "zstd":
            return _zstd(text)
        return (text,)

    def read_back(self, *, model: type[BaseModel] | None = None, key: str | None = None) -> Readback:  # noqa: ARG002
        """See `Sink.read_back`: lines, by the envelope's id where they have it."""
        by = ENVELOPE_ID if self.envelope else key or WHOLE
        suffixes = tuple(sorted(SUFFIXES.values(), key=len, reverse=True))
        return FileReadback(self.place, suffixes, by, partial(_identities, by))


def _gzip(text: bytes) -> Iterator[bytes]:
    # Not the gzip module: it writes the time of day into the header, and the same batch must make the same bytes.
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    yield packer.compress(text)
    yield packer.flush()


def _zstd(text: bytes) -> Iterator[bytes]:
    import pyarrow  # only here: a consumer of plain JSON Lines never loads it

    yield pyarrow.Codec("zstd").compress(text, asbytes=True)


def _identities(by: str, name: str, file: BinaryIO) -> Iterator[bytes]:
    number = 0
    try:
        with _unpacked(name, file) as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    raise Damaged(f"line {number} has no end")
                yield _identity(by, line.rstrip())
    except (EnvelopeError, RecordError, OSError, EOFError, zlib.error, ValueError) as error:
        raise Damaged(f"at line {number}: {error}") from None


def _unpacked(name: str, file: BinaryIO) -> IO[bytes]:
    """The file as it was before it was compressed, if its name says that it was."""
    if name.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(file, "rb"))
    if name.endswith(".zst"):
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(file, compression="zstd"))
    return file


def _identity(by: str, line: bytes) -> bytes:
    if by == WHOLE:
        checked_text(line)
        return line
    pointer = "id" if by == ENVELOPE_ID else by
    try:
        return named(resolve(pointer, decode_json(line))) or line
    except EnvelopeError:
        checked_text(line)
        return _named_in(well_formed(line), pointer) or line  # a number beside it that Python can't hold is no damage


def _named_in(text: bytes, pointer: str) -> bytes | None:
    """Return what names a record, looked for without looking at any other value of it."""
    for step in steps_of(pointer):
        inner: msgspec.Raw | None = None
        if text.lstrip().startswith(b"{"):
            inner = msgspec.json.decode(text, type=dict[str, msgspec.Raw]).get(step)
        if inner is None:
            return None
        text = bytes(inner)
    try:
        return named(decode_json(text))
    except EnvelopeError:
        return text
