"""Records as JSON Lines."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.files import FileSink


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
        return {"none": ".jsonl", "gzip": ".jsonl.gz", "zstd": ".jsonl.zst"}[self.compression]

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


def _gzip(text: bytes) -> Iterator[bytes]:
    # Not the gzip module: it writes the time of day into the header, and the same batch must make the same bytes.
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    yield packer.compress(text)
    yield packer.flush()


def _zstd(text: bytes) -> Iterator[bytes]:
    import pyarrow  # only here: a consumer of plain JSON Lines never loads it

    yield pyarrow.Codec("zstd").compress(text, asbytes=True)
