"""An object store for the contracts: moto's S3 behind a proxy that misbehaves, at an address that can also be full."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3

from tests.faults.proxy import Proxy
from tests.moto_server import CREDENTIALS, REGION

ROOT = Path(__file__).resolve().parents[2]


class ObjectStore:
    """A bucket. What a test writes there it does below a prefix that stands for its own directory."""

    def __init__(self, url: str) -> None:
        self.direct = url
        self._client = boto3.client("s3", endpoint_url=url, region_name=REGION, **CREDENTIALS)
        self.bucket = f"contracts-{secrets.token_hex(4)}"  # moto's buckets outlive its server
        self._client.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.proxy = Proxy(parts.hostname, parts.port)

    def close(self) -> None:
        self.proxy.close()

    def url(self, destination: Path) -> str:
        return f"s3://{self.bucket}/{prefix(destination)}"

    def options(self, **more: Any) -> dict[str, Any]:
        """`store` of a sink, as JSON."""
        return {
            "endpoint": f"http://127.0.0.1:{self.proxy.port}",
            "allow_http": True,
            "region": REGION,
            "access_key_id": CREDENTIALS["aws_access_key_id"],
            "secret_access_key": CREDENTIALS["aws_secret_access_key"],
            **more,
        }

    def objects(self, destination: Path) -> dict[str, bytes]:
        """What is there, by name, in order; read by another library than the sink's."""
        root = prefix(destination) + "/"
        found = {}
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=root):
            for entry in page.get("Contents", ()):
                body = self._client.get_object(Bucket=self.bucket, Key=entry["Key"])["Body"].read()
                found[entry["Key"].removeprefix(root)] = body
        return found

    def put(self, destination: Path, name: str, body: bytes) -> None:
        self._client.put_object(Bucket=self.bucket, Key=f"{prefix(destination)}/{name}", Body=body)

    def delete(self, destination: Path, name: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=f"{prefix(destination)}/{name}")

    @contextmanager
    def full(self) -> Iterator[Callable[[], None]]:
        """Within it every write is refused for want of room, until what it yields is called."""
        with no_room() as port:
            moto = self.proxy.lead_to("127.0.0.1", port)

            def free() -> None:
                self.proxy.lead_to(*moto)

            try:
                yield free
            finally:
                free()


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """With moto in a process of its own: some clients keep all threads of theirs waiting while they wait."""
    program = (
        "import sys; from tests.moto_server import MotoServer\n"
        "with MotoServer() as server: print(server.url, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        store = ObjectStore(process.stdout.readline().strip())
        try:
            yield store
        finally:
            store.close()
            process.kill()


def prefix(destination: Path) -> str:
    return str(destination).strip("/")


@contextmanager
def no_room() -> Iterator[int]:
    """The port of a store whose disks are full, as MinIO says it."""

    class Refusal(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b"<Error><Code>XMinioStorageFull</Code><Message>no room</Message></Error>"
            self.send_response(507)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
