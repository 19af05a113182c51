"""Every sink that takes records whole, each once: how a place for it is made, and what others find there."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from millrace_consumer.sinks.base import Sink
from tests.contracts import (
    test_http_contract,
    test_kafka_sink_contract,
    test_python_contract,
    test_redis_contract,
    test_sqs_sink_contract,
    test_stdout_contract,
)
from tests.contracts.file_sink_contract import files_in
from tests.contracts.object_store import ObjectStore
from tests.contracts.sink_contract import SinkContract
from tests.contracts.sink_records import sink_of
from tests.contracts.typed_places import SqlPlace, place_for

FILES = "millrace_consumer.sinks"


class Outlet(NamedTuple):
    """A sink that takes records whole, and the JSON texts that somebody else finds in a destination of it."""

    options: Callable[[Path], dict[str, Any]]
    texts: Callable[[Path], list[str]]
    sink: str
    in_unicode: bool = False
    """Whether it takes no half of a character."""
    contract: SinkContract | None = None

    def make(self, destination: Path) -> Sink:
        return sink_of(self.sink, self.options(destination))


def lines(*bodies: bytes) -> list[str]:
    return [line for body in bodies for line in body.decode().split("\n")[:-1]]


def of_contract(contract: SinkContract, texts: Callable[[Path], list[str]]) -> Outlet:
    return Outlet(contract.options, texts, contract.sink, contract=contract)


def in_file(path: Path) -> dict[str, Any]:
    return {"path": str(path / "out")}


def in_bucket(store: ObjectStore) -> Callable[[Path], dict[str, Any]]:
    return lambda path: {"path": store.url(path), "store": store.options()}


def of_table(request: pytest.FixtureRequest, kind: str) -> Outlet:
    def place(path: Path) -> SqlPlace:
        found = place_for(request, kind, path)
        assert isinstance(found, SqlPlace)
        return found

    def texts(path: Path) -> list[str]:
        table = place(path)
        _, rows = table.run(f"SELECT CAST(data AS text) FROM {table.table_name}")
        return [text for (text,) in rows]

    sink = place(Path(request.getfixturevalue("tmp_path"))).sink()
    dotted = f"{type(sink).__module__}:{type(sink).__name__}"
    secret = {"dsn": place(Path()).server().dsn} if kind == "postgres" else {}
    fields = ("path", "table") if kind != "postgres" else ("table",)
    return Outlet(
        lambda path: {name: getattr(place(path).sink(), name) for name in fields} | secret,
        texts,
        dotted,
        in_unicode=True,
    )


def parquet_texts(*bodies: Any) -> list[str]:
    return [text for body in bodies for text in pq.ParquetFile(body).read()["data"].to_pylist()]


def delta_texts(table: DeltaTable) -> list[str]:
    found: list[str] = pa.table(table.scan().read_all())["data"].to_pylist()
    return found


def line_data(line: str) -> str:
    """The data of an envelope, as it is written there."""
    return line.partition('"data":')[2][:-1]


OUTLETS: dict[str, Callable[[pytest.FixtureRequest], Outlet]] = {
    "jsonl": lambda _: Outlet(
        in_file, lambda path: lines(*(file.read_bytes() for file in files_in(path))), f"{FILES}.jsonl:JsonlSink"
    ),
    "jsonl.gz": lambda _: Outlet(
        lambda path: in_file(path) | {"compression": "gzip"},
        lambda path: lines(*(gzip.decompress(file.read_bytes()) for file in files_in(path))),
        f"{FILES}.jsonl:JsonlSink",
    ),
    "envelopes": lambda _: Outlet(
        lambda path: in_file(path) | {"envelope": True},
        lambda path: [line_data(line) for line in lines(*(file.read_bytes() for file in files_in(path)))],
        f"{FILES}.jsonl:JsonlSink",
    ),
    "bucket": lambda request: Outlet(
        in_bucket(request.getfixturevalue("store")),
        lambda path: lines(*request.getfixturevalue("store").objects(path).values()),
        f"{FILES}.jsonl:JsonlSink",
    ),
    "parquet": lambda _: Outlet(in_file, lambda path: parquet_texts(*files_in(path)), f"{FILES}.parquet:ParquetSink"),
    "parquet in a bucket": lambda request: Outlet(
        in_bucket(request.getfixturevalue("store")),
        lambda path: parquet_texts(*map(io.BytesIO, request.getfixturevalue("store").objects(path).values())),
        f"{FILES}.parquet:ParquetSink",
    ),
    "delta": lambda _: Outlet(in_file, lambda path: delta_texts(DeltaTable(path / "out")), f"{FILES}.delta:DeltaSink"),
    "sqlite": lambda request: of_table(request, "sqlite"),
    "duckdb": lambda request: of_table(request, "duckdb"),
    "postgres": lambda request: of_table(request, "postgres"),
    "kafka": lambda _: of_contract(
        test_kafka_sink_contract.TestKafkaSink(),
        lambda path: [
            (message.value() or b"").decode()
            for message in test_kafka_sink_contract.messages(test_kafka_sink_contract.topic_of(path))
        ],
    ),
    "sqs": lambda _: of_contract(
        test_sqs_sink_contract.TestSqsSink(),
        lambda path: [
            message.body for message in test_sqs_sink_contract.messages(test_sqs_sink_contract.queue_of(path))
        ],
    ),
    "http": lambda _: of_contract(
        test_http_contract.TestHttpSinkWithLines(),
        lambda path: lines(
            *(
                asked.body
                for asked in test_http_contract.shared().asked
                if asked.path == str(path) and asked.status < 300
            )
        ),
    ),
    "redis": lambda _: of_contract(
        test_redis_contract.TestRedisSink(),
        lambda path: [line.decode() for line in test_redis_contract.server()[1].lrange(f"out:{path}", 0, -1)][::-1],
    ),
    "stdout": lambda _: of_contract(
        test_stdout_contract.TestStdoutSink(), lambda path: lines((path / "printed").read_bytes())
    ),
    "python": lambda _: of_contract(
        test_python_contract.TestPythonSink(), lambda path: lines((path / "lines").read_bytes())
    ),
}
