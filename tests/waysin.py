"""Ways in: every source that makes records of bytes, given the same bytes by the real thing that it reads.

`WAYS` has them by name. What is asked of one is asked of all: a test runs its input through each.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import redis
from pydantic import BaseModel

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_producer.sources.base import Source
from millrace_producer.sources.files import FilesSource
from millrace_producer.sources.kafka import KafkaSource
from millrace_producer.sources.redis import RedisSource
from millrace_producer.sources.rest import RestSource
from millrace_producer.sources.sqs import SqsSource
from millrace_producer.sources.sse import SseSource
from millrace_producer.sources.stdin import StdinSource
from millrace_producer.sources.websocket import WebsocketSource
from tests.integration.api_server import Answer, ApiServer
from tests.integration.socket_server import SocketServer
from tests.integration.sse_server import OK, ScriptedServer
from tests.kafka_cluster import KafkaCluster
from tests.moto_server import CREDENTIALS, REGION, MotoServer

Came = list[Record | DeadLetter]

QUICK: dict[str, Any] = {"max_failures": 2, "backoff_initial": 0.01, "backoff_max": 0.05}


class Ways:
    """The servers that the sources read from, each started when it is first asked for; closed with the block."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._folder = folder
        self._redis_url = redis_url
        self._numbers = count()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Ways:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read(self, way: str, texts: Sequence[bytes], *, model: type[BaseModel] | None = None, **options: Any) -> Came:
        """Return what a source makes of these texts, each of them a line, a message, or an element of a page."""
        reading: Callable[..., Came] = getattr(self, f"_{way}")
        return reading(texts, model, **options)

    def _files(self, texts: Sequence[bytes], model: type[BaseModel] | None, **options: Any) -> Came:
        path = self._file(b"".join(text + b"\n" for text in texts))
        return _read(FilesSource(path=str(path), settle=0, **{"format": "jsonl", **options}), model)

    def _document(self, texts: Sequence[bytes], model: type[BaseModel] | None, **options: Any) -> Came:
        path = self._file(b"[" + b",\n".join(texts) + b"]")
        return _read(FilesSource(path=str(path), settle=0, **{"format": "json", **options}), model)

    def _stdin(self, texts: Sequence[bytes], model: type[BaseModel] | None, **options: Any) -> Came:
        with piped(b"".join(text + b"\n" for text in texts)):
            return _read(StdinSource(**options), model)

    def _rest(self, texts: Sequence[bytes], model: type[BaseModel] | None, **options: Any) -> Came:
        return self.body(b"[" + b",\n".join(texts) + b"]", model=model, **options)

    def _rest_lines(self, texts: Sequence[bytes], model: type[BaseModel] | None, **options: Any) -> Came:
        return self.body(b"".join(text + b"\n" for text in texts), model=model, format="jsonl", **options)

    def _sse(self, texts: Sequence[bytes], model: type[BaseModel] | None, **options: Any) -> Came:
        said = b"".join(b"data: " + text + b"\n\n" for text in texts)
        with ScriptedServer(OK + said) as server:
            return _read(SseSource(url=server.url, **QUICK, **options), model)

    def _websocket(self, texts: Sequence[bytes], model: type[BaseModel] | None, **options: Any) -> Came:
        def talk(client: Any) -> None:
            for text in texts:
                client.send(text)

        with SocketServer(talk) as server:
            return _read(WebsocketSource(url=server.url, end_at_close=True, **QUICK, **options), model)

    def _redis_list(self, texts: Sequence[bytes], model: type[BaseModel] | None, **options: Any) -> Came:
        with self._client() as client:
            key = self._name()
            client.lpush(key, *texts)
            source = RedisSource(url=self._redis_url, key=key, until_empty=True, **_by_record_key(options))  # type: ignore[arg-type]
            return _read(source, model)

    def _redis_stream(self, texts: Sequence[bytes], model: type[BaseModel] | None, **options: Any) -> Came:
        return self.entries([{"data": text} for text in texts], model=model, field="data", **options)

    def _kafka(self, texts: Sequence[bytes], model: type[BaseModel] | None, **options: Any) -> Came:
        topic = self._name()
        self._cluster.create_topic(topic, partitions=1)
        self._cluster.send(topic, texts, partition=0)
        source = KafkaSource(brokers=self._cluster.brokers, topics=[topic], until_empty=True, **options)
        return _read(source, model)

    def _sqs(self, texts: Sequence[bytes], model: type[BaseModel] | None, **options: Any) -> Came:
        client = self._aws.client("sqs")
        url = client.create_queue(QueueName=self._name())["QueueUrl"]
        for text in texts:
            client.send_message(QueueUrl=url, MessageBody=text.decode())
        keys = {"access_key": CREDENTIALS["aws_access_key_id"], "secret_key": CREDENTIALS["aws_secret_access_key"]}
        source = SqsSource(url=url, region=REGION, until_empty=True, **keys, **options)  # type: ignore[arg-type]
        return _read(source.model_copy(update={"wait": 0}), model)

    def body(
        self, body: bytes, content_type: str = "", *, model: type[BaseModel] | None = None, **options: Any
    ) -> Came:
        """Return what `rest` makes of one answer."""
        headers = {"Content-Type": content_type} if content_type else {}
        with ApiServer(lambda asked: Answer(200, body, headers)) as server:
            return _read(RestSource(url=server.url, **QUICK, **options), model)

    def entries(
        self, entries: Sequence[dict[str, bytes]], *, model: type[BaseModel] | None = None, **options: Any
    ) -> Came:
        """Return what `redis` makes of a stream of these entries."""
        with self._client() as client:
            key = self._name()
            for entry in entries:
                client.xadd(key, entry)  # type: ignore[arg-type]
            options = _by_record_key(options)
            source = RedisSource(url=self._redis_url, key=key, kind="stream", until_empty=True, **options)  # type: ignore[arg-type]
            return _read(source, model)

    def file(self, content: bytes, name: str = "", *, model: type[BaseModel] | None = None, **options: Any) -> Came:
        """Return what `files` makes of a file."""
        return _read(FilesSource(path=str(self._file(content, name)), settle=0, **options), model)

    def input(self, content: bytes, *, model: type[BaseModel] | None = None, **options: Any) -> Came:
        """Return what `stdin` makes of an input."""
        with piped(content):
            return _read(StdinSource(**options), model)

    def _file(self, content: bytes, name: str = "") -> Path:
        path = self._folder / f"{next(self._numbers)}{name}"
        path.write_bytes(content)
        return path

    def _name(self) -> str:
        return f"ways-{os.getpid()}-{self._folder.name}-{next(self._numbers)}"

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(self._redis_url)

    @cached_property
    def _cluster(self) -> KafkaCluster:
        return self._open.enter_context(KafkaCluster())

    @cached_property
    def _aws(self) -> MotoServer:
        return self._open.enter_context(MotoServer())


WAYS = (
    "files",
    "document",
    "stdin",
    "rest",
    "rest_lines",
    "sse",
    "websocket",
    "redis_list",
    "redis_stream",
    "kafka",
    "sqs",
)
"""Every way on which JSON comes."""


@contextlib.contextmanager
def piped(content: bytes) -> Iterator[None]:
    """The content as this process's standard input."""
    before = os.dup(0)
    reading, writing = os.pipe()
    os.dup2(reading, 0)
    os.close(reading)
    writer = threading.Thread(target=_write, args=(writing, content), daemon=True)
    writer.start()
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        writer.join(10)


def _write(writing: int, content: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as pipe:
        pipe.write(content)


def _read(source: Source, model: type[BaseModel] | None) -> Came:
    try:
        return list(source.for_model(model).read(None))
    finally:
        source.close()


def _by_record_key(options: dict[str, Any]) -> dict[str, Any]:
    """The options with the name that `redis` has for what names a record: its `key` is the list's."""
    return {("record_key" if name == "key" else name): value for name, value in options.items()}
