"""Sinks in a bucket: what the contract of each sink doesn't say."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import obstore
import pytest
from obstore.store import MemoryStore
from pydantic import ValidationError
from typer.testing import CliRunner

from millrace.cli import verify
from millrace_consumer.runner import Consumer
from millrace_consumer.sinks.base import SinkUnavailable
from millrace_consumer.sinks.jsonl import JsonlSink
from millrace_consumer.sinks.places.bucket import Bucket
from millrace_consumer.sinks.places.store import Store
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.extras import need
from millrace_pipeline.flows.flow import load
from tests.contracts.object_store import ObjectStore
from tests.contracts.sink_records import batch_of, bulk
from tests.services import NOWHERE, Place

NO_ACCOUNT = '{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}'
SECRET = "wJalrXUtnFEMI-K7MDENG"


def test_a_store_that_knows_no_condition_is_asked_before(store: ObjectStore, tmp_path: Path) -> None:
    sink = JsonlSink.model_validate({"path": store.url(tmp_path), "store": store.options(conditional_put=False)})
    store.put(tmp_path, "b.jsonl", b"before")
    sink.write(batch_of("b", bulk(2)))
    assert store.objects(tmp_path) == {"b.jsonl": b"before"}
    sink.write(batch_of("c", bulk(2)))
    assert list(store.objects(tmp_path)) == ["b.jsonl", "c.jsonl"]


def test_ten_thousand_partitions_are_ten_thousand_objects_and_few_at_once() -> None:
    sink = JsonlSink.model_validate({"path": "s3://bucket/prefix", "partition": ["id"]})
    assert isinstance(sink.place, Bucket)
    sink.place.store = MemoryStore()
    threads = 0

    class Watched(type(sink.place)):  # type: ignore[misc]
        def _put(self, named: tuple[str, bytes]) -> None:
            nonlocal threads
            threads = max(threads, threading.active_count())
            super()._put(named)

    sink.place.__class__ = Watched
    before = threading.active_count()
    batch = batch_of("b", bulk(10_000, 10))
    sink.write(batch)
    names = [found["path"] for page in obstore.list(sink.place.store) for found in page]
    assert len(names) == 10_000
    assert threads <= before + 16
    assert batch.written == sum(len(line) + 1 for line in batch.lines)


def test_a_bucket_that_is_not_there_and_a_closed_door_are_told(store: ObjectStore) -> None:
    sink = JsonlSink.model_validate({"path": "s3://nobody-made-it/x", "store": store.options()})
    with pytest.raises(SinkUnavailable, match=r"s3://nobody-made-it/x/b\.jsonl: 404 Not Found, NoSuchBucket"):
        sink.write(batch_of("b", bulk(1)))


def test_plain_http_is_only_spoken_where_one_says_so(store: ObjectStore, tmp_path: Path) -> None:
    options = store.options()
    del options["allow_http"]
    with pytest.raises(ValidationError, match=r"add `allow_http: true`"):
        Store.model_validate(options)


def test_what_the_flow_does_not_say_comes_from_the_environment(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = store.options()
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint"])
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", options["region"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret_access_key"])
    JsonlSink.model_validate({"path": store.url(tmp_path)}).write(batch_of("b", bulk(2)))
    assert list(store.objects(tmp_path)) == ["b.jsonl"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "ftp://x/y"}, "begins with s3://"),
        ({"path": "s3://"}, "the name of a bucket"),
        ({"path": f"s3://key:{SECRET}@bucket/x"}, "credentials go into `store`"),
        ({"path": "s3://bucket/a/../b"}, "plain prefix"),
        ({"path": "here", "store": {"region": "x"}}, "for a path that begins with s3://"),
        ({"path": "gs://bucket", "store": {"region": "x"}}, "region is for s3://"),
        ({"path": "s3://b", "store": {"endpoint": f"https://u:{SECRET}@x"}}, "no user, password or query"),
        ({"path": "s3://b", "store": {"secret_access_key": SECRET}}, "belong together"),
        ({"path": "s3://b", "store": {"multipart_from": "1MiB"}}, "greater than or equal to 5242880"),
    ],
)
def test_what_does_not_go_together_is_refused_without_telling_a_secret(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as refused:
        JsonlSink.model_validate(options)
    assert SECRET not in "".join(error["msg"] for error in refused.value.errors())


def test_no_secret_is_shown(store: ObjectStore) -> None:
    options = store.options(secret_access_key=SECRET, session_token=SECRET)
    sink = JsonlSink.model_validate({"path": "s3://nobody-made-it/x", "store": options})
    with pytest.raises(SinkUnavailable) as error:
        sink.write(batch_of("b", bulk(1)))
    assert SECRET not in f"{sink!r} {sink} {error.value!r} {sink.place!r} {sink.model_dump()} {sink.model_dump_json()}"


def test_a_library_that_is_missing_is_named_with_what_brings_it() -> None:
    with pytest.raises(ConfigError, match=r"s3:// needs no_such_library: pip install 'millrace\[objects\]'"):
        need("no_such_library", "objects", "s3://")


def test_a_sink_on_disk_loads_no_client_of_object_stores(tmp_path: Path) -> None:
    program = (
        "import sys; from millrace_consumer.sinks import SINKS;"
        "from tests.contracts.sink_records import batch_of, sink_of;"
        f"sink_of(SINKS['jsonl'], {{'path': {str(tmp_path)!r}}}).write(batch_of('b', [{{'id': '1'}}]));"
        "sys.exit('obstore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False).returncode == 0


@pytest.mark.parametrize(
    ("scheme", "environ", "condition", "refusal"),
    [
        ("gs", {"GOOGLE_SERVICE_ACCOUNT_KEY": NO_ACCOUNT}, ("x-goog-if-generation-match", "0"), 412),
        (
            "az",
            {"AZURE_STORAGE_ACCOUNT_NAME": "account", "AZURE_SKIP_SIGNATURE": "true"},
            ("if-none-match", "*"),
            409,
        ),
    ],
)
def test_google_and_azure_are_asked_to_put_only_what_is_absent(
    scheme: str, environ: dict[str, str], condition: tuple[str, str], refusal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with recorded(condition, refusal) as (url, objects):
        options = {"endpoint": url, "allow_http": True}
        sink = JsonlSink.model_validate({"path": f"{scheme}://bucket/prefix", "store": options})
        for _ in range(2):
            sink.write(batch_of("b", [{"id": "1"}]))
    assert objects == {"/bucket/prefix/b.jsonl": b'{"id":"1"}\n'}


@contextmanager
def recorded(condition: tuple[str, str], refusal: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    """A server that takes what is put there on this condition, once, and refuses it the second time."""
    objects: dict[str, bytes] = {}

    class Recorder(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            name, value = condition
            path = unquote(self.path)
            status = 400 if self.headers[name] != value else refusal if path in objects else 201
            if status == 201:
                objects[path] = body
            self.send_response(status)
            self.send_header("ETag", '"1"')
            self.send_header("x-goog-generation", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", objects
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Delivered:
    """A flow whose 30 records are in a bucket."""

    def __init__(self, place: Place, store: ObjectStore, sink: dict[str, Any]) -> None:
        self.place, self.store = place, store
        path = {"path": store.url(place.folder), "store": store.options()}
        place.flow(source={**NOWHERE, "key": "/n"}, sink={**sink, **path})
        place.publish(range(30))
        never = threading.Event()
        flow = load(place.folder / "flows.yaml")["numbers"]
        Consumer(flow, place.redis_url, stopping=never, give_up=never, until_empty=True).run()

    @property
    def objects(self) -> dict[str, bytes]:
        return self.store.objects(self.place.folder)

    def verify(self, code: int) -> str:
        done = CliRunner().invoke(
            verify.app,
            ["--sink", "--flows", str(self.place.folder / "flows.yaml")],
            env={"REDIS_URL": self.place.redis_url, "COLUMNS": "200"},
        )
        assert done.exit_code == code, (done.output, done.exception)
        return done.output


SINKS: dict[str, dict[str, Any]] = {
    "jsonl": {"type": "jsonl"},
    "jsonl, gzip": {"type": "jsonl", "compression": "gzip"},
    "jsonl, zstd": {"type": "jsonl", "compression": "zstd", "partition": ["n"]},
    "csv": {"type": "csv", "columns": ["n"]},
    "parquet": {"type": "parquet", "partition": ["date"]},
}


@pytest.mark.parametrize("sink", SINKS.values(), ids=SINKS)
def test_verify_reads_objects_again(place: Place, store: ObjectStore, sink: dict[str, Any]) -> None:
    flow = Delivered(place, store, sink)
    assert "30 records of 30 delivered: each once" in flow.verify(0)
    name, body = next(iter(flow.objects.items()))
    count = 1 if "n" in sink.get("partition", ()) else 10
    copy = name.replace(name.rpartition("/")[2].split(".")[0], "20260101T000000Z-0123456789-000001")
    store.put(place.folder, copy, body)
    said = flow.verify(1)
    assert f"{count} twice" in said
    assert copy in said
    store.delete(place.folder, copy)
    store.delete(place.folder, name)
    assert f"{count} missing" in flow.verify(1)
    if sink["type"] != "csv":  # a csv that ends early is one with fewer records
        store.put(place.folder, name, body[:-3])
        assert f"damaged: {name}" in flow.verify(1)


def test_verify_says_that_a_bucket_cannot_be_read(place: Place, store: ObjectStore) -> None:
    flow = Delivered(place, store, SINKS["jsonl"])
    text = json.loads((place.folder / "flows.yaml").read_text())
    text["flows"]["numbers"]["sink"]["path"] = "s3://nobody-made-it"
    (place.folder / "flows.yaml").write_text(json.dumps(text))
    with pytest.raises(AssertionError, match="SinkUnavailable"):
        flow.verify(0)


def test_an_address_of_the_environment_that_is_plain_http_takes_a_word_too(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = store.options()
    monkeypatch.setenv("AWS_ENDPOINT_URL", options.pop("endpoint"))
    monkeypatch.delenv("AWS_ALLOW_HTTP", raising=False)
    del options["allow_http"]
    sink = JsonlSink.model_validate({"path": store.url(tmp_path), "store": options})
    with pytest.raises(SinkUnavailable, match="allow_http: true"):
        sink.write(batch_of("b", bulk(1)))
