"""The source contract, by the SQS source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from millrace.testing import AcknowledgingSourceContract, FaultyOrigin
from millrace_producer.sources.sqs import SqsSource
from tests.contracts.named_records import NamedRecords
from tests.moto_server import CREDENTIALS, REGION, MotoServer

RECORDS: list[Any] = [
    {"n": 0, "text": "plain"},
    {"n": 1, "text": "žluťoučký 水車 🦆"},
    {"n": 2, "text": "a\u2028b\u0085c"},
    {"n": 3, "big": 2**64 - 1},
    ["a list"],
    "a string",
    None,
    {"n": 7, "text": "x" * 70_000},
    {"n": 90, "text": "cut in half \ud83d, the other \ude00", "\udc00": 1},
]


class QueueOrigin(FaultyOrigin):
    def __init__(self, server: MotoServer, name: str) -> None:
        self.server = server
        self.expected = list(RECORDS)
        self.timeout = 30.0
        self._client = server.client("sqs")
        self._name = name
        self.url = self._fill(name, [json.dumps(record) for record in RECORDS])

    def _fill(self, name: str, bodies: list[str]) -> str:
        url: str = self._client.create_queue(QueueName=name)["QueueUrl"]
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        assert not self._client.send_message_batch(QueueUrl=url, Entries=entries).get("Failed")
        return url

    def source(self) -> SqsSource:
        source = SqsSource(
            url=self.url,
            region=REGION,
            access_key=CREDENTIALS["aws_access_key_id"],
            secret_key=CREDENTIALS["aws_secret_access_key"],
            timeout=self.timeout,
            until_empty=True,
        )
        return source.model_copy(update={"wait": 0})  # this server knows at once that it has nothing

    def break_off(self, after: int) -> None:
        self.server.fail_next("ReceiveMessage", *[0] * after, 503, 503, 503, 503)

    def spoil(self, at: int) -> bytes:
        bodies = [json.dumps(record) for record in RECORDS]
        bodies.insert(at, '{"n": NaN, ')
        self.url = self._fill(f"{self._name}-spoilt", bodies)
        return b'{"n": NaN, '

    def refuse(self) -> None:
        self._client.delete_queue(QueueUrl=self.url)

    def fall_over(self) -> None:
        self.timeout = 2.0
        self.server.stop()

    def recover(self) -> None:
        self.timeout = 30.0
        self.server.start()

    def held(self) -> int:
        """Messages that are hidden from others."""
        hidden = "ApproximateNumberOfMessagesNotVisible"
        try:
            told = self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=[hidden])
        except self._client.exceptions.QueueDoesNotExist:
            return 0
        return int(told["Attributes"][hidden])


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


class TestSqsSource(NamedRecords, AcknowledgingSourceContract):
    in_order: ClassVar[bool] = False

    @pytest.fixture
    def origin(self, server: MotoServer, request: pytest.FixtureRequest) -> QueueOrigin:
        server.fail_next("ReceiveMessage")  # nothing that an earlier test asked for
        return QueueOrigin(server, f"contract-{abs(hash(request.node.name))}")
