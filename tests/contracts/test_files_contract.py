"""The source contract, by the files source: on a disk, in each format, and in a bucket."""

from __future__ import annotations

import contextlib
import csv
import errno
import gzip
import io
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace.testing import FaultyOrigin, FaultySourceContract
from millrace_producer.sources.files import FilesSource
from millrace_producer.sources.reading.files import File, LocalFiles
from tests.faults.proxy import Proxy
from tests.moto_server import CREDENTIALS, REGION, MotoServer

LINES: list[Any] = [
    {"n": 0, "text": "plain"},
    {"n": 1, "text": "žluťoučký 水車 🦆"},
    {"n": 2, "text": "a\u2028b\u0085c"},
    {"n": 3, "big": 2**64 - 1},
    ["a list"],
    "a string",
    {"n": 6, "text": "x" * 200_000},
    {"n": 7},
    {"n": 90, "text": "cut in half \ud83d, the other \ude00", "\udc00": 1},
]

ROWS: list[Any] = [
    {"n": "0", "text": "plain"},
    {"n": "1", "text": "žluťoučký 水車 🦆"},
    {"n": "2", "text": 'in "quotes", with\r\na line end, and\nanother'},
    {"n": "3", "text": ""},
    {"n": "4", "text": "a\u2028b\u0085c"},
    {"n": "5", "text": "x" * 200_000},
    {"n": "6", "text": "=1+1"},
]

BAD_LINE = b'{"n": NaN, "\xff'


class FailingOnce(LocalFiles):
    """A disk that has trouble: reading fails after so many records, in all files together, and then never again."""

    def __init__(self, pattern: str, after: int) -> None:
        super().__init__(pattern)
        self.left: int | None = after

    def open(self, file: File) -> BinaryIO:
        return cast(BinaryIO, _Failing(super().open(file), self))


class _Failing(io.BufferedReader):
    def __init__(self, file: BinaryIO, disk: FailingOnce) -> None:
        super().__init__(file)  # type: ignore[arg-type]  # a BufferedReader of one
        self._disk = disk

    def readline(self, size: int | None = -1, /) -> bytes:
        if self._disk.left == 0:
            self._disk.left = None
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self._disk.left is not None:
            self._disk.left -= 1
        return super().readline(size)

    def read(self, size: int | None = -1, /) -> bytes:
        if self._disk.left == 0 and size != 1024:
            self._disk.left = None
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)


class LocalOrigin(FaultyOrigin):
    """Files `1`, `2` … in a folder, with some records each."""

    suffix = ".jsonl"

    def __init__(self, folder: Path, records: Sequence[Any] = LINES) -> None:
        self.folder = folder / "in"
        self.folder.mkdir()
        self.expected = list(records)
        self._written: list[bytes] = [self.encode(record) for record in records]
        self._path = f"{self.folder}/*{self.suffix}"
        self._break_off: int | None = None
        self._write()

    def encode(self, record: Any) -> bytes:
        return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"

    def file(self, lines: list[bytes]) -> bytes:
        """What a file holds that has these records."""
        return b"".join(lines)

    def source(self) -> FilesSource:
        source = FilesSource(path=self._path, settle=0)
        if self._break_off is not None:
            source._files = FailingOnce(self._path, self._break_off)
        return source

    def break_off(self, after: int) -> None:
        self._break_off = after

    def spoil(self, at: int) -> bytes | None:
        self._written.insert(at, BAD_LINE + b"\n")
        self._write()
        return BAD_LINE

    def refuse(self) -> None:
        folder = self.folder / f"folder{self.suffix}"
        folder.mkdir()
        self._path = str(folder)

    def fall_over(self) -> None:
        self.folder.rename(self.folder.with_name("away"))

    def recover(self) -> None:
        self.folder.with_name("away").rename(self.folder)

    def held(self) -> int:
        ours = {path.stat().st_ino for path in self.folder.iterdir()}
        held = 0
        for opened in Path("/dev/fd").iterdir():
            with contextlib.suppress(OSError):  # the one that lists them is gone by now
                held += os.fstat(int(opened.name)).st_ino in ours
        return held

    def _write(self) -> None:
        for number, start in enumerate(range(0, len(self._written), 3)):
            (self.folder / f"{number}{self.suffix}").write_bytes(self.file(self._written[start : start + 3]))


class CsvOrigin(LocalOrigin):
    suffix = ".csv"

    def encode(self, record: Any) -> bytes:
        text = io.StringIO()
        csv.writer(text).writerow(record.values())
        return text.getvalue().encode()

    def file(self, lines: list[bytes]) -> bytes:
        return b"n,text\r\n" + b"".join(lines)

    def spoil(self, at: int) -> bytes:
        self._written.insert(at, b"one field\r\n")
        self._write()
        return b"one field"


class GzipOrigin(LocalOrigin):
    suffix = ".jsonl.gz"

    def file(self, lines: list[bytes]) -> bytes:
        return gzip.compress(lines[0]) + gzip.compress(b"".join(lines[1:]))


class ZstdOrigin(LocalOrigin):
    suffix = ".jsonl.zst"

    def file(self, lines: list[bytes]) -> bytes:
        packed = pa.BufferOutputStream()
        with pa.CompressedOutputStream(packed, "zstd") as unpacked:
            unpacked.write(b"".join(lines))
        return cast(bytes, packed.getvalue().to_pybytes())


class JsonOrigin(LocalOrigin):
    suffix = ".geojson"

    def encode(self, record: Any) -> bytes:
        return super().encode(record).rstrip(b"\n")

    def file(self, lines: list[bytes]) -> bytes:
        return b'{"features": [' + b",\n ".join(lines) + b"]}"

    def spoil(self, at: int) -> bytes:
        self._written.insert(at, b'{"n": NaN}')
        self._write()
        return b'{"n": NaN}'


class XmlOrigin(LocalOrigin):
    suffix = ".xml"

    def source(self) -> FilesSource:
        source = FilesSource(path=self._path, records="row", settle=0)
        if self._break_off is not None:
            source._files = FailingOnce(self._path, self._break_off)
        return source

    def encode(self, record: Any) -> bytes:
        return f"<row><n>{record['n']}</n><text>{escape(record['text'])}</text></row>".encode()

    def file(self, lines: list[bytes]) -> bytes:
        return b"<rows>" + b"\n".join(lines) + b"</rows>"


class ParquetOrigin(LocalOrigin):
    suffix = ".parquet"

    def file(self, lines: list[bytes]) -> bytes:
        written = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([json.loads(line) for line in lines]), written, row_group_size=2)
        return written.getvalue()


class TestFilesOfLines(FaultySourceContract):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> LocalOrigin:
        return LocalOrigin(tmp_path)


class TestCsvFiles(FaultySourceContract):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> LocalOrigin:
        return CsvOrigin(tmp_path, ROWS)


class TestGzipFiles(FaultySourceContract):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> LocalOrigin:
        return GzipOrigin(tmp_path)


class TestZstdFiles(FaultySourceContract):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> LocalOrigin:
        return ZstdOrigin(tmp_path)


class TestJsonFiles(FaultySourceContract):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> LocalOrigin:
        return JsonOrigin(tmp_path)


class TestXmlFiles(FaultySourceContract):
    has_bad_input = False  # what is no XML is no record, and all behind it is none

    @pytest.fixture
    def origin(self, tmp_path: Path) -> LocalOrigin:
        rows = [{"n": str(n), "text": text} for n, text in enumerate(["a", "žluťoučký 水車 🦆", '<&>"', "x" * 9000])]
        return XmlOrigin(tmp_path, [*rows, *({"n": str(n), "text": "b"} for n in range(4, 8))])


class TestParquetFiles(FaultySourceContract):
    has_bad_input = False  # what stands in a Parquet file has its type; tests/unit say what of damaged ones

    @pytest.fixture
    def origin(self, tmp_path: Path) -> LocalOrigin:
        return ParquetOrigin(tmp_path, ROWS)


class BucketOrigin(FaultyOrigin):
    """Objects under a prefix, with two records each."""

    def __init__(self, server: MotoServer, proxy: Proxy) -> None:
        self.expected = list(LINES)
        self._server = server
        self._proxy = proxy
        self._bucket = f"files-{uuid.uuid4().hex}"
        self._client = server.client("s3")
        self._client.create_bucket(Bucket=self._bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        self._lines = [json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") for record in LINES]
        self._write()

    def source(self) -> FilesSource:
        store = {
            "endpoint": f"http://127.0.0.1:{self._proxy.port}",
            "allow_http": True,
            "region": REGION,
            "access_key_id": CREDENTIALS["aws_access_key_id"],
            "secret_access_key": CREDENTIALS["aws_secret_access_key"],
            "timeout": "10s",
        }
        return FilesSource.model_validate({"path": f"s3://{self._bucket}/in/**/*.jsonl", "store": store})

    def break_off(self, after: int) -> None:
        self._proxy.cut_after(700 * (after + 1))

    def spoil(self, at: int) -> bytes:
        self._lines.insert(at, BAD_LINE)
        self._write()
        return BAD_LINE

    def refuse(self) -> None:
        self._bucket = "there-is-none"

    def fall_over(self) -> None:
        self._proxy.refuse()

    def recover(self) -> None:
        self._proxy.refuse(False)

    def held(self) -> int:
        return 0  # each range of an object is a request of its own

    def _write(self) -> None:
        for number, start in enumerate(range(0, len(self._lines), 2)):
            body = b"".join(line + b"\n" for line in self._lines[start : start + 2])
            self._client.put_object(Bucket=self._bucket, Key=f"in/a/{number}.jsonl", Body=body)


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


class TestObjects(FaultySourceContract):
    @pytest.fixture
    def origin(self, server: MotoServer) -> Iterator[BucketOrigin]:
        parts = urlsplit(server.url)
        with Proxy(str(parts.hostname), int(parts.port or 0)) as proxy:
            yield BucketOrigin(server, proxy)
