"""Origins of records, one kind a class: servers of others that hand out numbers, each flow its own."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, cast

import redis
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sqs.models import Message, sqs_backends
from websockets.sync.server import ServerConnection

from millrace.embedded import Embedded
from millrace.practice.stream import PracticeStream
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer
from tests.integration.socket_server import SocketServer, query_of
from tests.kafka_cluster import KafkaCluster
from tests.moto_server import CREDENTIALS, REGION, MotoServer

MOST = 5000
"""More numbers than any test takes of one flow."""


def text(number: int) -> bytes:
    return b'{"n": %d, "filler": "%064d"}' % (number, number)


class Origin:
    """Hands out numbers to flows by name. What it started ends with the block."""

    redelivers: ClassVar[bool] = False
    """Whether it may hand out a number again though it was published, so that it takes dedupe to have it once."""

    before, in_the_second, after = 500, 300, 20
    """How many numbers a flow is given."""

    def __init__(self, folder: Path, flows: Iterable[str]) -> None:
        self.folder = folder
        self.flows = list(flows)
        self.stack = ExitStack()
        self.fed = dict.fromkeys(self.flows, 0)

    def __enter__(self) -> Origin:
        with contextlib.ExitStack() as failing:
            failing.push(self.stack)
            self.begin()
            failing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def feed(self, count: int) -> None:
        """So many more numbers, for each flow. Returns when they are there to be had."""
        for flow in self.flows:
            self.add(flow, range(self.fed[flow], self.fed[flow] + count))
            self.fed[flow] += count

    def begin(self) -> None:
        """Starts what there is to start."""

    def options(self, flow: str) -> dict[str, Any]:
        """The flow's source."""
        raise NotImplementedError

    def add(self, flow: str, numbers: range) -> None:
        raise NotImplementedError


class Sse(Origin):
    def begin(self) -> None:
        lines = self.folder / "events.jsonl"
        lines.write_bytes(b"\n".join(map(text, range(MOST))) + b"\n")
        self.streams: dict[str, PracticeStream] = {}
        for flow in self.flows:
            stream = PracticeStream(replay=lines, total=0, keep_alive=0.05)
            self.streams[flow] = self.stack.enter_context(stream)

    def options(self, flow: str) -> dict[str, Any]:
        return {"type": "sse", "url": self.streams[flow].url, "key": "/n", "backoff_initial": 0.05}

    def add(self, flow: str, numbers: range) -> None:
        self.streams[flow].total = numbers.stop


class Rest(Origin):
    def begin(self) -> None:
        self.server = self.stack.enter_context(ApiServer(self.rows))

    def rows(self, asked: Asked) -> Answer:
        first = int(asked.query.get("since", 0))
        return json_answer([json.loads(text(number)) for number in range(first, self.fed[asked.path.strip("/")])])

    def options(self, flow: str) -> dict[str, Any]:
        incremental = {"field": "/n", "parameter": "since"}
        return {"type": "rest", "url": f"{self.server.url}/{flow}", "key": "/n", "every": "200ms"} | {
            "incremental": incremental
        }

    def add(self, flow: str, numbers: range) -> None:
        """It asks for what there is."""


class Files(Origin):
    def options(self, flow: str) -> dict[str, Any]:
        path = self.folder / f"{flow}.jsonl"
        path.touch()
        return {"type": "files", "path": str(path), "mode": "tail", "interval": "50ms", "key": "/n"}

    def add(self, flow: str, numbers: range) -> None:
        with (self.folder / f"{flow}.jsonl").open("ab") as file:
            file.writelines(text(number) + b"\n" for number in numbers)


class Kafka(Origin):
    config: ClassVar = {
        "session.timeout.ms": 2000,
        "heartbeat.interval.ms": 200,
        "topic.metadata.refresh.interval.ms": 500,
        "fetch.wait.max.ms": 20,
        "reconnect.backoff.ms": 10,
    }

    def begin(self) -> None:
        self.cluster = self.stack.enter_context(KafkaCluster())
        for flow in self.flows:
            self.cluster.create_topic(flow, 1)

    def options(self, flow: str) -> dict[str, Any]:
        return {"type": "kafka", "brokers": self.cluster.brokers, "topics": [flow], "config": self.config}

    def add(self, flow: str, numbers: range) -> None:
        self.cluster.send(flow, map(text, numbers))


class KafkaGroup(Kafka):
    redelivers = True

    def options(self, flow: str) -> dict[str, Any]:
        return super().options(flow) | {"group": f"readers of {flow}"}


class PatientMoto(MotoServer):
    """Answers who waits for messages after a pause: the library itself looks without one, and so leaves no time for
    anything else where many wait."""

    def _failing(self, app: Any) -> Any:
        app = super()._failing(app)

        def answer(environ: dict[str, Any], start_response: Any) -> Any:
            if not environ.get("HTTP_X_AMZ_TARGET", "").endswith("ReceiveMessage"):
                return app(environ, start_response)
            said = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            asked = json.dumps(json.loads(said) | {"WaitTimeSeconds": 0}).encode()
            environ |= {"wsgi.input": io.BytesIO(asked), "CONTENT_LENGTH": str(len(asked))}
            found = list(app(environ, start_response))
            if b"ReceiptHandle" not in b"".join(found):
                threading.Event().wait(0.2)
            return found

        return answer


class Sqs(Origin):
    redelivers = True
    before, in_the_second, after = 50, 30, 20  # a second of this server's is not longer

    def begin(self) -> None:
        server = self.stack.enter_context(PatientMoto())
        client = server.client("sqs")
        # The queues are this process', not the server's.
        names = {flow: f"{self.folder.name}-{flow}"[-80:] for flow in self.flows}
        self.urls = {flow: client.create_queue(QueueName=name)["QueueUrl"] for flow, name in names.items()}
        self.names = names

    def options(self, flow: str) -> dict[str, Any]:
        keys = {"region": REGION, "access_key": CREDENTIALS["aws_access_key_id"]}
        keys["secret_key"] = CREDENTIALS["aws_secret_access_key"]
        return {"type": "sqs", "url": self.urls[flow], "wait": 1, "visibility": 3, **keys}

    def add(self, flow: str, numbers: range) -> None:
        queue = sqs_backends[DEFAULT_ACCOUNT_ID][REGION].get_queue(self.names[flow])
        for number in numbers:
            # Not by the wire, nor by what counts the whole queue each time: either takes longer than the second.
            message = Message(f"{flow}-{number}", text(number).decode())
            message.mark_sent(0)
            queue.add_message(message)


class Theirs(Origin):
    """A Redis of others, which keeps its power."""

    def begin(self) -> None:
        self.server = self.stack.enter_context(Embedded())
        self.client = self.stack.enter_context(redis.Redis.from_url(self.server.url))

    def options(self, flow: str) -> dict[str, Any]:
        return {"type": "redis", "url": self.server.url, "key": flow}


class RedisList(Theirs):
    def add(self, flow: str, numbers: range) -> None:
        self.client.lpush(flow, *map(text, numbers))


class RedisStream(Theirs):
    def options(self, flow: str) -> dict[str, Any]:
        return super().options(flow) | {"kind": "stream", "field": "data"}

    def add(self, flow: str, numbers: range) -> None:
        with self.client.pipeline(transaction=False) as pipe:
            for number in numbers:
                pipe.xadd(flow, {"data": text(number)})
            pipe.execute()


class RedisStreamGroup(RedisStream):
    redelivers = True

    def options(self, flow: str) -> dict[str, Any]:
        return super().options(flow) | {"group": "readers", "idle": "1s"}


class WebSocket(Origin):
    def begin(self) -> None:
        self.server = self.stack.enter_context(SocketServer(self.talk))

    def talk(self, client: ServerConnection) -> None:
        assert client.request is not None
        flow = client.request.path.partition("?")[0].strip("/")
        number = int(cast("str", query_of(client).get("cursor", "-1"))) + 1
        while not self.server.closing.wait(0.02):
            while number < self.fed[flow]:
                client.send(text(number).decode())
                number += 1

    def options(self, flow: str) -> dict[str, Any]:
        resume = {"field": "/n", "parameter": "cursor"}
        return {"type": "websocket", "url": f"{self.server.url}/{flow}", "resume": resume}

    def add(self, flow: str, numbers: range) -> None:
        """It sends what there is."""


ORIGINS: dict[str, type[Origin]] = {
    "sse": Sse,
    "rest": Rest,
    "files": Files,
    "kafka": Kafka,
    "kafka group": KafkaGroup,
    "sqs": Sqs,
    "redis list": RedisList,
    "redis stream": RedisStream,
    "redis stream group": RedisStreamGroup,
    "websocket": WebSocket,
}
