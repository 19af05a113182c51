"""An AWS for tests: moto's server, which speaks S3, SQS and the rest over HTTP to any client."""

from __future__ import annotations

import logging
from collections import Counter
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

CREDENTIALS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
REGION = "eu-west-1"

logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line a request


class MotoServer:
    """Answers at `url` for as long as the block lasts.

    Its queues and buckets belong to this process, not to the server: name yours as no other test does. `stop` and
    `start` are an outage, after which what it held is there again.
    """

    def __init__(self) -> None:
        self._port = 0
        self._failures: dict[str, list[int]] = {}
        self.requests: Counter[str] = Counter()
        """How many requests of each kind there were."""
        self.start()
        host, self._port = self._server.get_host_and_port()
        self.url = f"http://{host}:{self._port}"

    def __enter__(self) -> MotoServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        """At the same address again."""
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()
        self._server.get_host_and_port()  # returns once it listens
        served = self._server._server
        assert served is not None
        served.app = self._failing(served.app)

    def fail_next(self, action: str, *statuses: int) -> None:
        """The next requests of this kind (`ReceiveMessage`) are answered with these statuses; 0 for as it should be."""
        self._failures[action] = list(statuses)

    def _failing(self, app: Any) -> Any:
        def answer(environ: dict[str, Any], start_response: Any) -> Any:
            action = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
            self.requests[action] += 1
            if (left := self._failures.get(action)) and (status := left.pop(0)):
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start_response(f"{status} So", [("Content-Type", "application/json"), ("Content-Length", "2")])
                return [b"{}"]
            return app(environ, start_response)

        return answer

    def client(self, service: str) -> Any:
        """A client of the tests' own: `sqs`, `s3` …"""
        config = Config(connect_timeout=10, read_timeout=60, retries={"max_attempts": 0})
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, config=config, **CREDENTIALS)

    @property
    def environ(self) -> dict[str, str]:
        """What leads a process' own AWS clients here."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": CREDENTIALS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": CREDENTIALS["aws_secret_access_key"],
            "AWS_EC2_METADATA_DISABLED": "true",
        }
