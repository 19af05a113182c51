"""How each kind of file is read again, and what identifies a record in it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, ClassVar, cast

import msgspec
from pydantic import BaseModel

from millrace_consumer.sinks.csv import CsvSink
from millrace_consumer.sinks.files import FileSink
from millrace_consumer.sinks.jsonl import JsonlSink
from millrace_pipeline.envelope import decode_json, encode_json, resolve
from millrace_pipeline.errors import ConfigError, EnvelopeError

WHOLE = "whole record"
ENVELOPE_ID = "envelope id"


class Damaged(Exception):
    """A file that can't be read to its end. The message says why."""


class Rows(ABC):
    """The records in files of one kind. `by` is what identifies them."""

    suffixes: ClassVar[tuple[str, ...]]
    """The ends of the files' names, whatever the sink's options were when they were written; the longest first."""

    def __init__(self, by: str) -> None:
        self.by = by

    def suffix_of(self, name: str) -> str:
        """The end of a file's name if it is one of ours, else nothing."""
        return next((suffix for suffix in self.suffixes if name.endswith(suffix)), "")

    @abstractmethod
    def identities(self, file: IO[bytes]) -> Iterator[bytes]:
        """What identifies each record of a file, in order. Raises Damaged."""


class JsonlRows(Rows):
    suffixes = (".jsonl.gz", ".jsonl.zst", ".jsonl")

    def identities(self, file: IO[bytes]) -> Iterator[bytes]:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    raise Damaged(f"line {number} has no end")
                yield self._identity(line)
        except (EnvelopeError, msgspec.DecodeError, OSError, EOFError, zlib.error, ValueError) as error:
            raise Damaged(f"at line {number}: {error}") from None

    def _identity(self, line: bytes) -> bytes:
        text = line.rstrip()
        if self.by == WHOLE:
            msgspec.json.decode(text, type=msgspec.Raw)
            return text
        return named(resolve("id" if self.by == ENVELOPE_ID else self.by, decode_json(text))) or text


class CsvRows(Rows):
    suffixes = (".csv",)

    def __init__(self, by: str, sink: CsvSink, column: int | None) -> None:
        super().__init__(by)
        self._sink = sink
        self._column = column

    def identities(self, file: IO[bytes]) -> Iterator[bytes]:
        number = 0
        csv.field_size_limit(2**31 - 1)  # of the whole process: its default refuses cells above 128 kB
        try:
            with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
                for number, row in enumerate(csv.reader(text, delimiter=self._sink.delimiter, strict=True)):
                    if number or not self._sink.header:
                        cell = "" if self._column is None or len(row) <= self._column else row[self._column]
                        yield cell.encode() if cell else json.dumps(row).encode()
        except (csv.Error, UnicodeDecodeError) as error:
            raise Damaged(f"after record {number}: {error}") from None


class ParquetRows(Rows):
    suffixes = (".parquet",)

    def identities(self, file: IO[bytes]) -> Iterator[bytes]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(file) as parquet:
                pointer = "id" if self.by == ENVELOPE_ID else self.by
                column = pointer.lstrip("/").split("/")[0]
                columns = None if self.by == WHOLE or column not in parquet.schema_arrow.names else [column]
                for part in parquet.iter_batches(batch_size=4096, columns=columns):
                    for row in part.to_pylist():
                        name = None if columns is None else named(resolve(pointer, row))
                        yield name or repr(row).encode(errors="replace")
        except (pa.ArrowException, OSError) as error:
            raise Damaged(str(error)) from None


def rows_of(sink: FileSink, model: type[BaseModel] | None, key: str | None) -> Rows:
    """How to read this sink's files. Raises ConfigError for a file sink that is none of Millrace's own."""
    if isinstance(sink, JsonlSink):
        return JsonlRows(ENVELOPE_ID if sink.envelope else key or WHOLE)
    if _is_parquet(sink):
        return ParquetRows(ENVELOPE_ID if model is None else key or WHOLE)
    if isinstance(sink, CsvSink):
        pointers = [_pointer(pointer) for pointer in sink.pointers(model).values()]
        column = pointers.index(_pointer(key)) if key and _pointer(key) in pointers else None
        return CsvRows(WHOLE if key is None or column is None else key, sink, column)
    raise ConfigError(f"{type(sink).__name__} is not a kind of file that can be read again")


def _is_parquet(sink: FileSink) -> bool:
    if sink.kind != "parquet":
        return False  # pyarrow is loaded for nobody else: this module is on the way of every command
    from millrace_consumer.sinks.parquet import ParquetSink

    return isinstance(sink, ParquetSink)


def unpacked(name: str, file: BinaryIO) -> IO[bytes]:
    """The file as it was before it was compressed, if its name says that it was."""
    if name.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(file, "rb"))
    if name.endswith(".zst"):
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(file, compression="zstd"))
    return file


def named(value: Any) -> bytes | None:
    """A key as bytes: text as it is, anything else as JSON; None where there is none."""
    if value is None or value == "":
        return None
    return value.encode(errors="replace") if isinstance(value, str) else encode_json(value)


def _pointer(name: str) -> str:
    return name if name.startswith("/") else f"/{name}"
